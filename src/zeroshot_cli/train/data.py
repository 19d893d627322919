"""From pairs to batches of pixels and captions, in an order that (seed, epoch) fixes."""

import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset, Sampler

from zeroshot_cli.errors import DataError, UnreadableImage, UsageError
from zeroshot_cli.images.augment import Augment
from zeroshot_cli.images.decode import read_image, to_rgb
from zeroshot_cli.images.preprocess import Preprocess, resize
from zeroshot_cli.pairs.read import Pairs, Source
from zeroshot_cli.records import SkippedImage

MAX_BAD_IN_A_ROW = 100

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """b pictures (b, h, w, 3) uint8 with their b captions and paths, and what was skipped to get them."""

    pixels: Pixels
    captions: tuple[str, ...]
    images: tuple[str, ...]
    skipped: tuple[SkippedImage, ...] = ()


def open_image(pairs: Pairs, row: int, size: tuple[int, int] | None) -> Image.Image:
    """Decode the picture of a row upright, as RGBA where it has transparency, else as RGB.

    With `size` (height, width) a JPEG is decoded at the smallest scale that is at least twice as large, which is much
    faster. Raises UnreadableImage with the reason.
    """
    with pairs.open(row) as file:
        try:
            with warnings.catch_warnings(action="ignore"):
                return _decode(Image.open(file), size)
        except Exception:  # damaged files make Pillow's plugins raise nearly anything; read_image has the words for it
            return read_image(file)


def _decode(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    if image.format == "EPS":
        raise ValueError("Pillow would start Ghostscript on it")
    if size is not None:
        image.draft(None, (2 * size[1], 2 * size[0]))
    upright = ImageOps.exif_transpose(image)
    return upright.convert("RGBA") if upright.has_transparency_data else to_rgb(upright)


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of one batch, decided before anything is read.

    `passes` says of each row how often the epoch has drawn it before; where that is never it is left out.
    """

    epoch: int
    rows: tuple[int, ...]
    passes: tuple[int, ...] = ()


def epoch_order(sources: Sequence[Source], *, seed: int, epoch: int) -> Rows:
    """The rows of an epoch in their order: as many as there are, of which a source has its share of rows x weight.

    A source that gets more draws than it has rows is gone through several times, one that gets fewer is sampled
    without repetition. With equal weights that is every row once.
    """
    rng = np.random.default_rng([seed, epoch])
    if not are_weighted(sources):
        return rng.permutation(sum(source.rows for source in sources))
    first, drawn = 0, []
    for source, draws in zip(sources, draws_of_sources(sources), strict=True):
        whole, rest = divmod(draws, source.rows)
        drawn += [np.tile(np.arange(source.rows), whole) + first, rng.permutation(source.rows)[:rest] + first]
        first += source.rows
    return rng.permutation(np.concatenate(drawn))


def are_weighted(sources: Sequence[Source]) -> bool:
    """Whether rows of some source are drawn more often than those of another."""
    return len({source.weight for source in sources}) > 1


def draws_of_sources(sources: Sequence[Source]) -> list[int]:
    """How many draws of an epoch each source gets; together as many as there are rows, the largest rests rounded up."""
    rows = sum(source.rows for source in sources)
    shares = np.array([source.rows * source.weight for source in sources])
    exact = rows * (shares / shares.sum())
    draws = np.floor(exact).astype(np.int64)
    draws[np.argsort(draws - exact, kind="stable")[: rows - draws.sum()]] += 1
    return list(map(int, draws))


def earlier_draws(order: Rows) -> Rows:
    """For each place of an order, how often its row stands at an earlier one."""
    by_row = np.argsort(order, kind="stable")
    is_first = np.diff(order[by_row], prepend=-1) > 0
    places = np.arange(len(order))
    earlier = np.empty_like(order)
    earlier[by_row] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return earlier


class TrainPlans(Sampler[Plan]):
    """The batches of a whole run from `first_step` on; each epoch is shuffled and drops its last, partial batch.

    `batch_size` is that of all `world` processes together; that of `rank` gets its share of each batch, which lies
    together, so that all of them see what a single one would.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        batch_size: int,
        epochs: int,
        seed: int,
        first_step: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.sources, self.batch_size, self.epochs, self.seed = tuple(sources), batch_size, epochs, seed
        self.first_step = first_step
        self.steps_per_epoch = sum(source.rows for source in sources) // batch_size
        share = batch_size // world
        self._share = slice(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[Plan]:
        first_epoch, first_batch = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            order = epoch_order(self.sources, seed=self.seed, epoch=epoch)
            earlier = earlier_draws(order) if are_weighted(self.sources) else order[:0]
            for batch in range(first_batch, self.steps_per_epoch):
                rows = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
                yield Plan(
                    epoch,
                    tuple(order[rows][self._share].tolist()),
                    tuple(earlier[rows][self._share].tolist()),
                )
            first_batch = 0


def shuffled(n: int, batch_size: int) -> list[Plan]:
    """All rows once, always in the same order, which is not the file's; the last batch may be smaller.

    Files are often sorted, and a batch of one caption would have no negatives.
    """
    order = np.random.default_rng(0).permutation(n).tolist()
    return [Plan(0, tuple(order[i : i + batch_size])) for i in range(0, n, batch_size)]


class TrainBatches(Dataset[Batch | DataError]):
    """Plan → Batch with random views; a row's depends on (seed, epoch, row, pass) only, never on worker or neighbours.

    An error is returned and not raised, for a DataLoader's worker would bury it in a traceback.
    """

    def __init__(self, pairs: Pairs, augment: Augment, *, seed: int) -> None:
        self.pairs, self.augment, self.seed = pairs, augment, seed

    def __getitem__(self, plan: Plan) -> Batch | DataError:
        skipped: list[SkippedImage] = []
        try:
            passes = plan.passes or (0,) * len(plan.rows)
            views = [
                self._view(row, plan.epoch, earlier, skipped) for row, earlier in zip(plan.rows, passes, strict=True)
            ]
        except DataError as error:
            return error
        return _batch(self.pairs, views, skipped)

    def _view(self, row: int, epoch: int, earlier: int, skipped: list[SkippedImage]) -> tuple[Pixels, int]:
        """One random view of a row; a row that cannot be read is noted and another one drawn in its place."""
        rng = Random(f"{self.seed} {epoch} {row}" + (f" {earlier}" if earlier else ""))
        for _ in range(MAX_BAD_IN_A_ROW):
            try:
                return np.asarray(self.augment(open_image(self.pairs, row, self.augment.size), rng)), row
            except UnreadableImage as error:
                skipped.append(SkippedImage(self.pairs.images[row], str(error)))
                row = rng.randrange(len(self.pairs))
        reason = f"{skipped[-1].path}: {skipped[-1].reason}"
        raise DataError(f"{MAX_BAD_IN_A_ROW} images one after the other cannot be read ({reason}); remove bad ones")


class EvalBatches(Dataset[Batch | DataError]):
    """Plan → Batch with the model's own preprocessing; unreadable images are left out."""

    def __init__(self, pairs: Pairs, preprocess: Preprocess) -> None:
        self.pairs, self.preprocess = pairs, preprocess

    def __getitem__(self, plan: Plan) -> Batch | DataError:
        views: list[tuple[Pixels, int]] = []
        skipped: list[SkippedImage] = []
        for row in plan.rows:
            try:
                views.append((np.asarray(resize(open_image(self.pairs, row, None), self.preprocess.config)), row))
            except UnreadableImage as error:
                skipped.append(SkippedImage(self.pairs.images[row], str(error)))
        return _batch(self.pairs, views, skipped)


def _batch(pairs: Pairs, views: list[tuple[Pixels, int]], skipped: list[SkippedImage]) -> Batch:
    return Batch(
        pixels=np.stack([pixels for pixels, _ in views]) if views else np.empty((0, 1, 1, 3), np.uint8),
        captions=tuple(pairs.captions[row] for _, row in views),
        images=tuple(pairs.images[row] for _, row in views),
        skipped=tuple(skipped),
    )


def batches_of(
    dataset: Dataset[Batch | DataError], plans: Sampler[Plan] | Sequence[Plan], *, workers: int
) -> Iterator[Batch]:
    """Batches in the order of their plans, made ahead by `workers` processes; 0 makes them in this one.

    Batches stay numpy arrays on their way: tensors would go through /dev/shm, which is 64 MB in a container.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=plans,
        num_workers=workers,
        collate_fn=_as_it_is,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_interrupts_to_the_parent,
    )
    for batch in _read_by(loader):
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _read_by(loader: Iterable[Batch | DataError]) -> Iterator[Batch | DataError]:
    """Say in one sentence that a process is gone."""
    batches = iter(loader)
    while True:
        try:
            batch = next(batches, None)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UsageError(
                "a process that reads images was killed, perhaps for want of memory; use fewer --workers, and go on "
                "with --resume"
            ) from error
        if batch is None:
            return
        yield batch


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_interrupts_to_the_parent(_worker: int) -> None:
    """Both reach every process of a group; the batches must go on until the parent has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

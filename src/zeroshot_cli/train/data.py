"""From pairs to batches of pixels and captions, in an order that (seed, epoch) fixes."""

import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset, Sampler

from zeroshot_cli.decode import decode, open_regular
from zeroshot_cli.errors import DataError, UnreadableImage
from zeroshot_cli.preprocess import Preprocess
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.rgb import to_rgb
from zeroshot_cli.train.augment import Augment
from zeroshot_cli.train.pairs import Pairs

MAX_BAD_IN_A_ROW = 100

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Batch:
    """b pictures (b, h, w, 3) uint8 with their b captions and paths, and what was skipped to get them."""

    pixels: Pixels
    captions: tuple[str, ...]
    images: tuple[str, ...]
    skipped: tuple[SkippedImage, ...] = ()


def open_image(path: str, size: tuple[int, int] | None) -> Image.Image:
    """Decode a picture upright, as RGBA where it has transparency, else as RGB.

    With `size` (height, width) a JPEG is decoded at the smallest scale that is at least twice as large, which is much
    faster. Raises UnreadableImage with the reason.
    """
    try:
        with warnings.catch_warnings(action="ignore"), open_regular(path) as file:
            return _decode(Image.open(file), size)
    except Exception:  # damaged files make Pillow's plugins raise nearly anything; decode() has the words for it
        return decode(path)


def _decode(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    if image.format == "EPS":
        raise ValueError("Pillow would start Ghostscript on it")
    if size is not None:
        image.draft(None, (2 * size[1], 2 * size[0]))
    upright = ImageOps.exif_transpose(image)
    return upright.convert("RGBA") if upright.has_transparency_data else to_rgb(upright)


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of one batch, decided before anything is read."""

    epoch: int
    rows: tuple[int, ...]


def epoch_order(n: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of n rows in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(n)


class TrainPlans(Sampler[Plan]):
    """The batches of a whole run from `first_step` on; each epoch is shuffled and drops its last, partial batch."""

    def __init__(self, n: int, *, batch_size: int, epochs: int, seed: int, first_step: int = 0) -> None:
        self.n, self.batch_size, self.epochs, self.seed = n, batch_size, epochs, seed
        self.first_step = first_step
        self.steps_per_epoch = n // batch_size

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[Plan]:
        first_epoch, first_batch = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            order = epoch_order(self.n, seed=self.seed, epoch=epoch)
            for batch in range(first_batch, self.steps_per_epoch):
                rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
                yield Plan(epoch, tuple(rows.tolist()))
            first_batch = 0


def in_order(n: int, batch_size: int) -> list[Plan]:
    """All rows once, in the order of the file; the last batch may be smaller."""
    return [Plan(0, tuple(range(i, min(i + batch_size, n)))) for i in range(0, n, batch_size)]


class TrainBatches(Dataset[Batch | DataError]):
    """Plan → Batch with random views; the draws of a row depend on (seed, epoch, row) only, never on the worker.

    An error is returned and not raised, for a DataLoader's worker would bury it in a traceback.
    """

    def __init__(self, pairs: Pairs, augment: Augment, *, seed: int) -> None:
        self.pairs, self.augment, self.seed = pairs, augment, seed

    def __getitem__(self, plan: Plan) -> Batch | DataError:
        skipped: list[SkippedImage] = []
        try:
            views = [self._view(row, plan.epoch, skipped) for row in plan.rows]
        except DataError as error:
            return error
        return _batch(self.pairs, views, skipped)

    def _view(self, row: int, epoch: int, skipped: list[SkippedImage]) -> tuple[Pixels, int]:
        """One random view of a row; a row that cannot be read is noted and another one drawn in its place."""
        rng = Random(f"{self.seed} {epoch} {row}")
        for _ in range(MAX_BAD_IN_A_ROW):
            path = self.pairs.images[row]
            try:
                return np.asarray(self.augment(open_image(path, self.augment.size), rng)), row
            except UnreadableImage as error:
                skipped.append(SkippedImage(path, str(error)))
                row = rng.randrange(len(self.pairs))
        reason = f"{skipped[-1].path}: {skipped[-1].reason}"
        raise DataError(f"{MAX_BAD_IN_A_ROW} images one after the other cannot be read ({reason}); check --data")


class EvalBatches(Dataset[Batch | DataError]):
    """Plan → Batch with the model's own preprocessing; unreadable images are left out."""

    def __init__(self, pairs: Pairs, preprocess: Preprocess) -> None:
        self.pairs, self.preprocess = pairs, preprocess

    def __getitem__(self, plan: Plan) -> Batch | DataError:
        views: list[tuple[Pixels, int]] = []
        skipped: list[SkippedImage] = []
        for row in plan.rows:
            path = self.pairs.images[row]
            try:
                views.append((np.asarray(self.preprocess.resized(open_image(path, None))), row))
            except UnreadableImage as error:
                skipped.append(SkippedImage(path, str(error)))
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
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_interrupts_to_the_parent(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the batches must go on until the parent has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

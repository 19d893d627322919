"""From pairs to batches of pixels and captions, in an order that (seed, epoch) fixes."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.util import Finalize
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from zeroshot_cli.errors import DataError, UnreadableImage, UsageError, ZeroshotError
from zeroshot_cli.images.arrived import AHEAD
from zeroshot_cli.images.augment import Augment
from zeroshot_cli.images.decode import EXACTLY, Decoding
from zeroshot_cli.images.decoder_pool import Decoded, Decoders
from zeroshot_cli.images.decoder_process import Job, unpack
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.pairs.read import Pairs, Source
from zeroshot_cli.processes import end_with_parent
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.remote.address import is_address
from zeroshot_cli.train.config import TrainConfig

MAX_BAD_IN_A_ROW = 100

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.floating]
Rows = npt.NDArray[np.int64]


def decoding_of(config: TrainConfig) -> Decoding:
    """Return how a run reads images, and within which limits."""
    given = {"max_pixels": config.max_pixels, "timeout": config.decode_timeout}
    limits: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Decoding(truncated=config.truncated, allow_private=config.allow_private, **limits)


@dataclass(frozen=True, slots=True)
class Batch:
    """Images (batch, height, width, 3), uint8, with their captions and paths, and what was skipped to get them.

    `meanings` are given where captions are drawn: rows with the same one are duplicates, whatever their captions.
    `pixels` may be features (batch, …), floating, that were made of images.
    """

    pixels: Pixels | Features
    captions: tuple[str, ...]
    images: tuple[str, ...]
    skipped: tuple[SkippedImage, ...] = ()
    meanings: tuple[str, ...] = ()


class ImageReader:
    """Read the images of pairs as classify does: in a decoding process, so that a bad file costs one image."""

    def __init__(self, pairs: Pairs, job: Job) -> None:
        self.pairs, self.job = pairs, job
        self._decoders: Decoders | None = None  # each process has its own, made when it reads its first image
        self._process = 0
        self._ahead: dict[int, Future[Decoded]] = {}
        self._coming: dict[int, Future[bytes]] = {}

    def ask(self, rows: Sequence[int]) -> None:
        """Ask for the images of rows that are at addresses, many at once."""
        for row in rows[: AHEAD - len(self._coming)]:
            image = self.pairs.images[row]
            known = image in self.pairs.members or row in self._coming or row in self._ahead
            if is_address(image) and not known:
                from zeroshot_cli.remote.rows import begin  # it imports asyncio

                self._coming[row] = begin(image, allow_private=self.job.decoding.allow_private)

    def prefetch(self, row: int) -> None:
        """Let the decoding process of a DataLoader's worker begin with a row that is read next."""
        if get_worker_info() is not None and row not in self._ahead:
            self._ahead[row] = self._submit(row)

    def read(self, row: int) -> bytes:
        """Return what the job makes of a row's image. Raises UnreadableImage."""
        pixels = (self._ahead.pop(row, None) or self._submit(row)).result().pixels
        assert pixels is not None  # nothing is known already
        return pixels

    def _submit(self, row: int) -> Future[Decoded]:
        if self._decoders is None or self._process != os.getpid():  # a fork must not talk to its parent's decoder
            worker = get_worker_info()
            self._decoders, self._process = (
                Decoders(self.job, workers=1, beside=worker.num_workers if worker else 0),
                os.getpid(),
            )
            Finalize(self, self._decoders.close, exitpriority=10)
        if (coming := self._coming.pop(row, None)) is not None:
            return self._decoders.submit(coming)
        return decoded(self._decoders, self.pairs, row)


def decoded(decoders: Decoders, pairs: Pairs, row: int) -> Future[Decoded]:
    """Have a row's image decoded, given as its path or as the bytes of a tar's member."""
    image = pairs.images[row]
    if image not in pairs.members:
        return decoders.submit(image)
    try:
        with pairs.open(row) as member:
            return decoders.submit(member.read())
    except UnreadableImage as error:  # the tar is gone
        unread: Future[Decoded] = Future()
        unread.set_exception(error)
        return unread


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of one batch, decided before anything is read.

    `passes` says of each row how often the epoch has drawn it before; it is empty where that is never.
    """

    epoch: int
    rows: tuple[int, ...]
    passes: tuple[int, ...] = ()


def epoch_order(sources: Sequence[Source], *, seed: int, epoch: int) -> Rows:
    """Return the rows of an epoch in order: as many as there are, of which a source gets its share of rows x weight.

    A source that gets more draws than it has rows repeats them all as often as they fit; what is left is sampled
    without repetition. With equal weights every row is drawn once.
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
    """Return whether rows of some source are drawn more often than those of another."""
    return len({source.weight for source in sources}) > 1


def draws_of_sources(sources: Sequence[Source]) -> list[int]:
    """Return each source's draws of an epoch; they add up to the rows, the largest remainders rounded up."""
    rows = sum(source.rows for source in sources)
    shares = np.array([source.rows * source.weight for source in sources])
    exact = rows * (shares / shares.sum())
    draws = np.floor(exact).astype(np.int64)
    draws[np.argsort(draws - exact, kind="stable")[: rows - draws.sum()]] += 1
    return list(map(int, draws))


def earlier_draws(order: Rows) -> Rows:
    """Return for each place of an order how often its row stands at an earlier one."""
    by_row = np.argsort(order, kind="stable")
    is_first = np.diff(order[by_row], prepend=-1) > 0
    places = np.arange(len(order))
    earlier = np.empty_like(order)
    earlier[by_row] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return earlier


class TrainPlans(Sampler[Plan]):
    """The batches of a run from `first_step` on; each epoch is shuffled and drops its last, partial batch.

    `batch_size` is that of all `world` processes together; process `rank` gets a contiguous share of each batch, so
    that all of them see what a single one would.
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
    """Return plans of all rows once, shuffled always in the same way; the last batch may be smaller.

    Files are often sorted, and a batch of one caption would have no negatives.
    """
    order = np.random.default_rng(0).permutation(n).tolist()
    return [Plan(0, tuple(order[i : i + batch_size])) for i in range(0, n, batch_size)]


class TrainBatches(Dataset[Batch | ZeroshotError]):
    """Plan → Batch with random views; a view depends on (seed, epoch, row, pass) only, not on worker or neighbours.

    An error is returned and not raised, for a DataLoader's worker would bury it in a traceback. `find` returns the
    features of a row's image in a view, in place of pixels, and None where there are none.
    """

    find: Callable[[int, int], Features | None] | None = None

    def __init__(self, pairs: Pairs, augment: Augment, *, seed: int, decoding: Decoding = EXACTLY) -> None:
        self.pairs, self.augment, self.seed = pairs, augment, seed
        self._reader = ImageReader(pairs, Job(at_least=augment.size, decoding=decoding))

    def __getitem__(self, plan: Plan) -> Batch | ZeroshotError:
        skipped: list[SkippedImage] = []
        try:
            passes = plan.passes or (0,) * len(plan.rows)
            views = []
            for place, row in enumerate(plan.rows):
                self._reader.ask(plan.rows[place : place + AHEAD])
                self.prefetch(plan.rows[place : place + 2])  # the next image is decoded while this one is augmented
                views.append(self._view(row, plan.epoch, passes[place], skipped))
        except ZeroshotError as error:
            return error
        return batch_of(self.pairs, views, skipped, draw=f"{self.seed} {plan.epoch}")

    def prefetch(self, rows: Sequence[int]) -> None:
        """Let the decoding process of a DataLoader's worker begin with rows that are read next."""
        for row in rows:
            self._reader.prefetch(row)

    def rng(self, row: int, epoch: int, earlier: int = 0) -> Random:
        """Return what draws the view of a row."""
        return Random(f"{self.seed} {epoch} {row}" + (f" {earlier}" if earlier else ""))

    def drawn(self, row: int, rng: Random) -> Pixels:
        """Return a random view of a row. Raises UnreadableImage."""
        return np.asarray(self.augment(unpack(self._reader.read(row)), rng))

    def _view(self, row: int, epoch: int, earlier: int, skipped: list[SkippedImage]) -> tuple[Pixels | Features, int]:
        """Return a random view of a row; for one that cannot be read, note it and draw another row."""
        rng = self.rng(row, epoch, earlier)
        for _ in range(MAX_BAD_IN_A_ROW):
            try:
                if self.find is None:
                    return self.drawn(row, rng), row
                if (found := self.find(row, epoch + earlier)) is not None:
                    return found, row
                raise UnreadableImage("cannot be read")
            except UnreadableImage as error:
                skipped.append(SkippedImage(self.pairs.shown(row), str(error)))
                row = rng.randrange(len(self.pairs))
        reason = f"{skipped[-1].path}: {skipped[-1].reason}"
        raise DataError(f"{MAX_BAD_IN_A_ROW} images in a row cannot be read ({reason}); remove the bad ones")


class EvalBatches(Dataset[Batch | ZeroshotError]):
    """Plan → Batch with the model's own preprocessing, without the images that cannot be read."""

    def __init__(self, pairs: Pairs, preprocess: PreprocessConfig, *, decoding: Decoding = EXACTLY) -> None:
        self.pairs = pairs
        self._shape = (*preprocess.height_width, 3)
        self._reader = ImageReader(pairs, Job(preprocess, decoding=decoding))

    def __getitem__(self, plan: Plan) -> Batch | ZeroshotError:
        views: list[tuple[Pixels, int]] = []
        skipped: list[SkippedImage] = []
        for place, row in enumerate(plan.rows):
            self._reader.ask(plan.rows[place : place + AHEAD])
            try:
                views.append((np.frombuffer(self._reader.read(row), np.uint8).reshape(self._shape), row))
            except UnreadableImage as error:
                skipped.append(SkippedImage(self.pairs.shown(row), str(error)))
            except ZeroshotError as error:
                return error
        return batch_of(self.pairs, views, skipped)


def batch_of(
    pairs: Pairs, views: Sequence[tuple[Pixels | Features, int]], skipped: list[SkippedImage], draw: str | None = None
) -> Batch:
    """Return a batch of views of rows; `draw` seeds the choice among a class's texts, which are else the first."""
    texts = [pairs.text(row, None if draw is None else Random(f"{draw} {row} text")) for _, row in views]
    stacked: Any = np.stack([pixels for pixels, _ in views]) if views else np.empty((0, 1, 1, 3), np.uint8)
    return Batch(
        pixels=stacked,
        captions=tuple(texts),
        images=tuple(pairs.images[row] for _, row in views),
        skipped=tuple(skipped),
        meanings=tuple(pairs.captions[row] for _, row in views),
    )


def batches_of(
    dataset: Dataset[Batch | ZeroshotError], plans: Sampler[Plan] | Sequence[Plan], *, workers: int
) -> Iterator[Batch]:
    """Yield batches in the order of their plans, made ahead by `workers` processes; 0 makes them in this one.

    Batches stay numpy arrays on their way: tensors would go through /dev/shm, which is 64 MB in a container.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=plans,
        num_workers=workers,
        collate_fn=_unchanged,
        prefetch_factor=4 if workers else None,
        worker_init_fn=partial(_stay_with_the_parent, parent=os.getpid()),
    )
    with readers_named():
        for batch in loader:
            if isinstance(batch, ZeroshotError):
                raise batch
            yield batch


@contextmanager
def readers_named() -> Iterator[None]:
    """Raise UsageError where a reading process is gone; torch raises in the main thread, whatever that is at."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):  # and not what a worker has raised
            raise
        raise UsageError(
            "a process that reads images was killed, perhaps for lack of memory; use fewer --workers, and add --resume"
        ) from error


def _unchanged(batch: Any) -> Any:
    return batch


def _stay_with_the_parent(_worker: int, *, parent: int) -> None:
    """End with the parent, and leave interrupts to it.

    They reach every process of a group, so this one leaves it: batches must come until the parent has saved.
    """
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)

"""A look at the pairs before the first step: what is wrong with them, what a batch will hold, how long the run is."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from itertools import islice
from random import Random
from statistics import median_low
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeroshot_cli.errors import DataError, UnreadableImage, UsageError
from zeroshot_cli.images.decoder_pool import Decoded, Decoders
from zeroshot_cli.images.decoder_process import Job
from zeroshot_cli.pairs.read import Pairs, Source
from zeroshot_cli.records import SkippedImage

if TYPE_CHECKING:  # brings torch
    from zeroshot_cli.clip.tokenizer import Tokenizer

SAMPLED_IMAGES = 256
SAMPLED_CAPTIONS = 100_000  # whose tokens are counted
MANY_ALIKE = 0.5  # share of rows with one caption that is worth a warning
MANY_UNREADABLE = 0.1  # share of the images that were looked at
_AHEAD = 8  # images in work for each process
_SHOWN = 80  # characters of a caption in a message
_SEED = 0

Numbers = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


class PreflightWarning(UserWarning):
    """The pairs can be trained on, but much of them is of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What the pairs of a run are like, and how many steps it makes of them.

    Captions that differ in case only are the same, as they are to the model. `pairs` are the rows that are left after
    `empty_captions` and `missing_files`, `images` and `captions` the different ones among them, `repeated_pairs` the
    rows whose image and caption an earlier row has. `checked` images were decoded, of which `unreadable` could not be.
    Tokens count with those for start and end; `long_captions` rows have more than the `context_length` that the model
    reads. `shared` is how many rows of a batch have the caption of another of its rows, on average: they are no
    negatives of each other.
    """

    pairs: int
    sources: tuple[Source, ...]
    images: int
    captions: int
    empty_captions: int
    missing_files: int
    first_missing: str | None
    checked: int
    unreadable: tuple[SkippedImage, ...]
    context_length: int
    median_tokens: int
    longest_tokens: int
    long_captions: int
    first_long: str | None
    repeated_pairs: int
    largest_caption: str
    largest_count: int
    shared: float
    batch_size: int
    image_size: tuple[int, int]
    epochs: int
    steps_per_epoch: int
    steps: int


def preflight(
    pairs: Pairs,
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    epochs: int,
    image_size: tuple[int, int],
    verify: bool,
    workers: int,
    option: str = "--data",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Preflight:
    """Look at pairs that are to be trained on; `verify` decodes every image, else a sample of them is decoded.

    `image_size` is the model's (height, width), `workers` the processes that decode, `option` what named the pairs;
    `on_progress` hears how many images are done of how many. Raises DataError for pairs that nothing can be learned
    from, and warns with PreflightWarning of those that little can be learned from.
    """
    _check_size(pairs, batch_size, option)
    alike = _Alike.of(pairs)
    _check_variety(pairs, alike, option)
    tokens = _Tokens.of(pairs.captions, tokenizer)
    rows = list(alike.image_rows) if verify else [alike.image_rows[i] for i in spread(alike.images, SAMPLED_IMAGES)]
    unreadable = tuple(find_unreadable(pairs, rows, workers=workers, on_progress=on_progress))
    _check_readable(unreadable, len(rows), option, sampled=len(rows) < alike.images)
    return Preflight(
        pairs=len(pairs),
        sources=pairs.sources,
        images=alike.images,
        captions=alike.captions,
        empty_captions=pairs.empty_captions,
        missing_files=pairs.missing_files,
        first_missing=pairs.first_missing,
        checked=len(rows),
        unreadable=unreadable,
        context_length=tokenizer.context_length,
        median_tokens=tokens.median,
        longest_tokens=tokens.longest,
        long_captions=tokens.too_long,
        first_long=tokens.first_long,
        repeated_pairs=alike.repeated_pairs,
        largest_caption=alike.largest_caption,
        largest_count=alike.largest_count,
        shared=shared_captions(alike.caption_of, draws_of_rows(pairs.sources), batch_size=batch_size),
        batch_size=batch_size,
        image_size=image_size,
        epochs=epochs,
        steps_per_epoch=len(pairs) // batch_size,
        steps=epochs * (len(pairs) // batch_size),
    )


def spread(n: int, most: int) -> list[int]:
    """At most so many of n indices, ascending: one drawn from each of `most` equal parts, the same at every call."""
    if n <= most:
        return list(range(n))
    rng = Random(_SEED)
    return [rng.randrange(i * n // most, (i + 1) * n // most) for i in range(most)]


# what makes training meaningless


def _check_size(pairs: Pairs, batch_size: int, option: str) -> None:
    n = len(pairs)
    if n >= batch_size:
        return
    left_out = ((pairs.empty_captions, "for an empty caption"), (pairs.missing_files, "for a missing image"))
    lost = ", ".join(f"{count:,} {why}" for count, why in left_out if count)
    has = f"{option} has {n:,} usable pair{'s' * (n != 1)}" + (f" (left out: {lost})" if lost else "")
    if n < 2:
        raise DataError(f"{has}; there must be two at least, to tell one from the other")
    raise DataError(f"{has}, which do not fill one batch of {batch_size:,}; give --batch-size {n} or less")


def _check_variety(pairs: Pairs, alike: _Alike, option: str) -> None:
    n, caption = len(pairs), _short(alike.largest_caption)
    if alike.captions == 1:
        raise DataError(
            f"all {n:,} captions of {option} are {caption!r}, which tells no image from another; "
            "name another column with --caption-column"
        )
    if alike.images == 1:
        raise DataError(
            f"all {n:,} pairs of {option} have the same image, {pairs.images[0]}; "
            "name another column with --image-column"
        )
    if alike.largest_count > MANY_ALIKE * n:
        _warn(f"{alike.largest_count:,} of the {n:,} captions of {option} are {caption!r}, of which little is learned")


def _check_readable(unreadable: Sequence[SkippedImage], checked: int, option: str, *, sampled: bool) -> None:
    if not unreadable:
        return
    first = f"{unreadable[0].path}: {unreadable[0].reason}"
    looked_at = f"the {checked:,} images of {option}" + (" that were looked at" if sampled else "")
    if len(unreadable) == checked:
        raise DataError(f"none of {looked_at} can be read; the first is {first}")
    if len(unreadable) > MANY_UNREADABLE * checked:
        finds_all = "; --verify finds all" if sampled else ""
        _warn(f"{len(unreadable):,} of {looked_at} cannot be read, first {first}{finds_all}")


def _warn(text: str) -> None:
    warnings.warn(text, PreflightWarning, stacklevel=4)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


# rows that are alike


@dataclass(frozen=True, slots=True)
class _Alike:
    """Which rows have the same caption or image: `image_rows` is the first row of each image."""

    caption_of: Numbers
    image_rows: list[int]
    captions: int
    repeated_pairs: int
    largest_caption: str
    largest_count: int

    @property
    def images(self) -> int:
        return len(self.image_rows)

    @classmethod
    def of(cls, pairs: Pairs) -> _Alike:
        image_of = _numbered(pairs.images)
        caption_of = _numbered(map(str.casefold, pairs.captions))
        counts = np.bincount(caption_of)
        largest = int(counts.argmax())
        return cls(
            caption_of=caption_of,
            image_rows=np.unique(image_of, return_index=True)[1].tolist(),
            captions=len(counts),
            repeated_pairs=len(image_of) - len(np.unique(image_of * len(counts) + caption_of)),
            largest_caption=pairs.captions[int((caption_of == largest).argmax())],
            largest_count=int(counts[largest]),
        )


def _numbered(texts: Iterable[str]) -> Numbers:
    """For each text its number, in the order in which the different ones come."""
    numbers: dict[str, int] = {}
    return np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64)


def draws_of_rows(sources: Sequence[Source]) -> Shares:
    """How often each row is drawn in an epoch, on average: n, with a sum of n."""
    rows = np.array([source.rows for source in sources])
    weights = np.array([source.weight for source in sources])
    return np.repeat(weights * (rows.sum() / (weights * rows).sum()), rows)


def shared_captions(caption_of: Numbers, draws: Shares, *, batch_size: int) -> float:
    """How many rows of a batch have the caption of another of its rows, on average.

    `caption_of` numbers the n rows' captions, `draws` says how often each is drawn in an epoch of n draws. Where g - 1
    other draws have a row's caption, the others of its batch, batch_size - 1 of n - 1, hold none of them with the
    hypergeometric probability C(n - g, batch_size - 1) / C(n - 1, batch_size - 1). That is exact where every row is
    drawn once; with weights g is a mean, between whole numbers the logarithm is interpolated, and 3 % may be wrong.
    """
    n = len(caption_of)
    others = np.bincount(caption_of, weights=draws)[caption_of] - draws + _again(draws)
    count = np.arange(int(others.max()) + 1)
    with np.errstate(divide="ignore"):  # of a batch of all rows: log 0
        factors = np.log1p(-np.minimum(1, (batch_size - 1) / np.maximum(1, n - 1 - count)))
    log_none = np.interp(others, np.append(0, count + 1), np.append(0, np.cumsum(factors)))
    return float(batch_size * np.average(-np.expm1(log_none), weights=draws))


def _again(draws: Shares) -> Shares:
    """How many other draws of the same row a draw meets in its epoch; 2.5 draws of a row are 2 of it, or 3."""
    whole = np.floor(draws)
    again: Shares = whole * (2 * draws - whole - 1) / np.maximum(draws, 1)  # E[M (M - 1)] / E[M] of M draws
    return again


# captions


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Tokens of captions with those for start and end; median and longest are of a sample where there are many."""

    median: int
    longest: int
    too_long: int
    first_long: str | None

    @classmethod
    def of(cls, captions: Sequence[str], tokenizer: Tokenizer) -> _Tokens:
        @cache
        def count(caption: str) -> int:
            return len(tokenizer.encode(caption)) + 2

        limit = tokenizer.context_length
        sampled = [captions[row] for row in spread(len(captions), SAMPLED_CAPTIONS)]
        too_long = [caption for caption in captions if _most_tokens(caption) > limit and count(caption) > limit]
        return cls(
            median=median_low(map(count, sampled)),
            longest=max(map(count, [*sampled, *too_long])),
            too_long=len(too_long),
            first_long=too_long[0] if too_long else None,
        )


def _most_tokens(caption: str) -> int:
    """No caption has more tokens than this: each has a byte at least, and normalising makes at most three of a byte."""
    if caption.isascii() and "&" not in caption:
        return len(caption) + 2
    return 3 * len(caption.encode("utf-8", "surrogatepass")) + 2  # Unicode Standard Annex #15, table of expansions


# images


def find_unreadable(
    pairs: Pairs, rows: Sequence[int], *, workers: int, on_progress: Callable[[int, int], None]
) -> Iterator[SkippedImage]:
    """Decode the images of rows in processes, which damaged files may crash or hang; yield those without a picture."""
    with Decoders(Job(thumbnail=1), workers=workers) as decoders:
        to_come = (_decoded(decoders, pairs, row) for row in rows)
        waiting = deque(islice(to_come, _AHEAD * workers))
        for done, row in enumerate(rows, start=1):
            try:
                waiting.popleft().result()
            except UnreadableImage as error:
                yield SkippedImage(pairs.images[row], str(error))
            waiting.extend(islice(to_come, 1))
            on_progress(done, len(rows))


def _decoded(decoders: Decoders, pairs: Pairs, row: int) -> Future[Decoded]:
    if pairs.images[row] not in pairs.members:
        return decoders.submit(pairs.images[row])
    try:
        with pairs.open(row) as member:
            return _decoded_from_copy(decoders, member.read())
    except UnreadableImage as error:
        unread: Future[Decoded] = Future()
        unread.set_exception(error)
        return unread


def _decoded_from_copy(decoders: Decoders, content: bytes) -> Future[Decoded]:
    """Have a member of a tar decoded: the processes open paths, so it becomes a file until they have done so."""
    try:
        copy = NamedTemporaryFile(prefix="zeroshot-")  # noqa: SIM115, closed and gone when it is decoded
        copy.write(content)
        copy.flush()
    except OSError as error:
        raise UsageError(f"cannot copy an image out of its tar ({error.strerror or error}); set TMPDIR") from error
    future = decoders.submit(copy.name)
    future.add_done_callback(lambda _: copy.close())
    return future

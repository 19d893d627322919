"""Examine the pairs before the first step: what is wrong with them, what a batch holds, how long the run is."""

# ruff: noqa: PTH100

from __future__ import annotations

import io
import os
import re
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from random import Random
from statistics import median_low
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageStat

from zeroshot_cli.errors import DataError, UnreadableImage
from zeroshot_cli.images.decode import Decoding
from zeroshot_cli.images.decoder_pool import Decoders
from zeroshot_cli.images.decoder_process import Job
from zeroshot_cli.pairs.read import Pairs, Source
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.data import decoded, decoding_of

if TYPE_CHECKING:
    from zeroshot_cli.clip.tokenizer import Tokenizer
    from zeroshot_cli.train.schedule import Settled

SAMPLED_IMAGES = 256
SAMPLED_CAPTIONS = 100_000  # whose tokens are counted
MANY_ALIKE = 0.5  # share of rows with one caption that is worth a warning
MANY_UNREADABLE = 0.1  # share of the images that were checked
_AHEAD = 8  # images in work for each process
_SHOWN = 80  # characters of a caption in a message
_EDGE = 16  # pixels of an image that is looked at
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>")
_SEED = 0

Numbers = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


class PreflightWarning(UserWarning):
    """The pairs can be trained on, but many of them are useless."""


@dataclass(frozen=True, slots=True)
class Checked:
    """So many images of so many were decoded, before the first step."""

    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What the pairs of a run are like, and how many steps they make.

    Captions that differ in case only are the same, as they are to the model. `pairs` are the rows without those of
    `empty_captions` and `missing_files`, `images` and `captions` the different ones among them, `repeated_pairs` the
    rows whose image and caption an earlier row has. `checked` images were decoded, all but the `unreadable`. Tokens
    include those for start and end; `long_captions` rows have more than the `context_length` that the model reads.
    `shared` rows of a batch have, on average, the caption of another of its rows: they are not negatives of each other.
    `several` images have more than one caption, `markup` rows hold HTML, `plain` of the checked images have one colour.
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
    several: int = 0
    markup: int = 0
    first_markup: str | None = None
    plain: int = 0


def preflight(
    config: Settled,
    pairs: Pairs,
    tokenizer: Tokenizer,
    *,
    image_size: tuple[int, int],
    workers: int,
    val: Pairs | None = None,
) -> Generator[Checked, None, Preflight]:
    """Examine pairs before they are trained on, yield the progress, and return what was found.

    With `verify` every image is decoded, else a sample. `image_size` is the model's (height, width), `workers` the
    processes that decode, `val` the pairs that should be others.
    Raises DataError for pairs from which nothing can be learned, and warns with PreflightWarning
    of those from which little can.
    """
    _check_size(pairs, config.batch_size)
    alike = _Alike.of(pairs)
    _check_variety(pairs, alike)
    if val is not None:
        _check_others(pairs, val)
    tokens = _Tokens.of([pairs.text(row) for row in range(len(pairs))], tokenizer)
    markup = [caption for caption in pairs.captions if "<" in caption and _MARKUP.search(caption)]
    rows = alike.image_rows
    if not config.verify:
        rows = [rows[i] for i in spread(alike.images, SAMPLED_IMAGES)]
    bad, plain = [], 0
    for done, found in enumerate(look_at(pairs, rows, workers=workers, decoding=decoding_of(config)), start=1):
        if isinstance(found, SkippedImage):
            bad.append(found)
        else:
            plain += found
        yield Checked(done, len(rows))
    unreadable = tuple(bad)
    _check_readable(unreadable, len(rows), sampled=len(rows) < alike.images)
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
        shared=shared_captions(alike.caption_of, draws_of_rows(pairs.sources), batch_size=config.batch_size),
        batch_size=config.batch_size,
        image_size=image_size,
        epochs=config.epochs,
        steps_per_epoch=len(pairs) // config.batch_size,
        steps=config.epochs * (len(pairs) // config.batch_size),
        several=alike.several,
        markup=len(markup),
        first_markup=markup[0] if markup else None,
        plain=plain,
    )


def spread(n: int, most: int) -> list[int]:
    """Return at most so many of n indices, ascending: one drawn from each of `most` equal parts, always the same."""
    if n <= most:
        return list(range(n))
    rng = Random(_SEED)
    return [rng.randrange(i * n // most, (i + 1) * n // most) for i in range(most)]


# what makes training meaningless


def _check_size(pairs: Pairs, batch_size: int) -> None:
    n = len(pairs)
    if n >= batch_size:
        return
    left_out = ((pairs.empty_captions, "with an empty caption"), (pairs.missing_files, "without an image"))
    lost = ", ".join(f"{count:,} {why}" for count, why in left_out if count)
    has = f"--data has {n:,} usable pair{'s' * (n != 1)}" + (f" (omitted: {lost})" if lost else "")
    if n < 2:
        raise DataError(f"{has}; at least two are needed, to contrast one with the other")
    raise DataError(f"{has}, fewer than a batch of {batch_size:,}; use --batch-size {n} or less")


def _check_variety(pairs: Pairs, alike: _Alike) -> None:
    n, caption = len(pairs), _short(alike.largest_caption)
    if alike.captions == 1 and any(source.texts for source in pairs.sources):
        raise DataError(
            f"all {n:,} images of --data are of one class, {caption!r}, so no image differs from another; add images "
            "of another class"
        )
    if alike.captions == 1:
        raise DataError(
            f"all {n:,} captions of --data are {caption!r}, so no image differs from another; "
            "name another column with --caption-column"
        )
    if alike.images == 1:
        raise DataError(
            f"all {n:,} pairs of --data have the same image, {pairs.shown(0)}; name another column with --image-column"
        )
    if alike.largest_count > MANY_ALIKE * n:
        _warn(f"{alike.largest_count:,} of the {n:,} captions of --data are {caption!r}, from which little is learned")


def _check_others(pairs: Pairs, val: Pairs) -> None:
    """Warn where images to validate on are trained on too, or all have one caption."""
    if len(val) > 1 and len({caption.casefold() for caption in val.captions}) == 1:
        _warn(
            f"all {len(val):,} pairs of --val have one caption, {_short(val.captions[0])!r}, so every answer is right; "
            "validate on pairs with different captions"
        )
    seen = {os.path.abspath(image) for image in pairs.images}
    same = len(val) if val.fingerprint() == pairs.fingerprint() else sum(os.path.abspath(i) in seen for i in val.images)
    if same:
        _warn(
            f"{same:,} of the {len(val):,} pairs of --val have an image that --data has too, so validation says little "
            "of other images; keep them apart"
        )


def _check_readable(unreadable: Sequence[SkippedImage], checked: int, *, sampled: bool) -> None:
    if not unreadable:
        return
    first = f"{unreadable[0].path}: {unreadable[0].reason}"
    checked_ones = f"the {checked:,} images of --data" + (" that were checked" if sampled else "")
    if len(unreadable) == checked:
        raise DataError(f"none of {checked_ones} can be read; the first is {first}")
    if len(unreadable) > MANY_UNREADABLE * checked:
        finds_all = "; --verify finds all" if sampled else ""
        _warn(f"{len(unreadable):,} of {checked_ones} cannot be read, first {first}{finds_all}")


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
    several: int
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
        different = np.unique(image_of * len(counts) + caption_of)
        return cls(
            caption_of=caption_of,
            image_rows=np.unique(image_of, return_index=True)[1].tolist(),
            captions=len(counts),
            repeated_pairs=len(image_of) - len(different),
            several=int((np.bincount(different // len(counts)) > 1).sum()),
            largest_caption=pairs.captions[int((caption_of == largest).argmax())],
            largest_count=int(counts[largest]),
        )


def _numbered(texts: Iterable[str]) -> Numbers:
    """Return a number for each text; equal texts have equal numbers, in order of first appearance."""
    numbers: dict[str, int] = {}
    return np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64)


def draws_of_rows(sources: Sequence[Source]) -> Shares:
    """Return the average draws of each row in an epoch: n numbers that add up to n."""
    rows = np.array([source.rows for source in sources])
    weights = np.array([source.weight for source in sources])
    return np.repeat(weights * (rows.sum() / (weights * rows).sum()), rows)


def shared_captions(caption_of: Numbers, draws: Shares, *, batch_size: int) -> float:
    """Return how many rows of a batch have, on average, the caption of another of its rows.

    `caption_of` numbers the n rows' captions, `draws` says how often each is drawn in an epoch of n draws. If g - 1
    other draws have a row's caption, the rest of its batch, batch_size - 1 of n - 1, holds none of them with the
    hypergeometric probability C(n - g, batch_size - 1) / C(n - 1, batch_size - 1). That is exact if every row is drawn
    once; with weights g is a mean, the logarithm is interpolated between whole numbers, and the error is up to 3 %.
    """
    n = len(caption_of)
    others = np.bincount(caption_of, weights=draws)[caption_of] - draws + _again(draws)
    count = np.arange(int(others.max()) + 1)
    with np.errstate(divide="ignore"):  # of a batch of all rows: log 0
        factors = np.log1p(-np.minimum(1, (batch_size - 1) / np.maximum(1, n - 1 - count)))
    log_none = np.interp(others, np.append(0, count + 1), np.append(0, np.cumsum(factors)))
    return float(batch_size * np.average(-np.expm1(log_none), weights=draws))


def _again(draws: Shares) -> Shares:
    """Return how many other draws of its row an epoch has for a draw, on average; 2.5 draws are 2 or 3."""
    whole = np.floor(draws)
    again: Shares = whole * (2 * draws - whole - 1) / np.maximum(draws, 1)  # E[M (M - 1)] / E[M] of M draws
    return again


# captions


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Token counts of captions, start and end included; of many captions, median and longest are of a sample."""

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
    """Return an upper bound of a caption's tokens: each has at least a byte, and normalising at most triples bytes."""
    if caption.isascii() and "&" not in caption:
        return len(caption) + 2
    return 3 * len(caption.encode("utf-8", "surrogatepass")) + 2  # Unicode Standard Annex #15, table of expansions


# images


def find_unreadable(
    pairs: Pairs, rows: Sequence[int], *, workers: int, decoding: Decoding
) -> Iterator[SkippedImage | None]:
    """Decode the images of rows in processes of their own; yield for each None, or why it cannot be read."""
    for found in look_at(pairs, rows, workers=workers, decoding=decoding):
        yield found if isinstance(found, SkippedImage) else None


def look_at(pairs: Pairs, rows: Sequence[int], *, workers: int, decoding: Decoding) -> Iterator[SkippedImage | bool]:
    """Decode the images of rows as `find_unreadable` does; yield for each whether it has one colour, or the reason."""
    with Decoders(Job(thumbnail=_EDGE, decoding=decoding), workers=workers) as decoders:
        to_come = (decoded(decoders, pairs, row) for row in rows)
        waiting = deque(islice(to_come, _AHEAD * workers))
        for row in rows:
            try:
                thumbnail = waiting.popleft().result().pixels
            except UnreadableImage as error:
                yield SkippedImage(pairs.shown(row), str(error))
            else:
                yield thumbnail is not None and _is_plain(thumbnail)
            waiting.extend(islice(to_come, 1))


def _is_plain(thumbnail: bytes) -> bool:
    """Return whether an image, seen small, has one colour; a JPEG's may differ a little."""
    with Image.open(io.BytesIO(thumbnail)) as image:
        return all(highest - lowest <= 2 for lowest, highest in ImageStat.Stat(image.convert("RGB")).extrema)

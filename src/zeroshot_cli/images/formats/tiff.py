"""TIFF files whose samples Pillow misreads or does not know: more than eight bits, signed, floating point, in planes.

The numbers are those of TIFF 6.0 (1992) and of Adobe's technical notes. A strip or tile is decompressed by Pillow's
libtiff, as a file of its own; the samples are read here, one strip at a time, so that memory stays near the result's.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image, TiffImagePlugin

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.formats import extras
from zeroshot_cli.images.modes import brightest_of, divided, to_bytes, white_of

if TYPE_CHECKING:
    import numpy as np

_MAX_PAGES = 100_000
_CONVERT = "convert it to a PNG, or to a TIFF of 8 bits, first"

_BIG = (b"+\0", b"\0+")  # BigTIFF's 43
_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _ROWS, _STRIP_COUNTS, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_MAKE, _ORIENTATION, _FILL_ORDER, _SUBFILES, _EXTRA, _FORMAT, _DNG = 271, 274, 266, 330, 338, 339, 50706

_WHITE_IS_ZERO, _GRAY, _RGB, _CMYK = 0, 1, 2, 5
_CHANNELS = {_WHITE_IS_ZERO: 1, _GRAY: 1, _RGB: 3, _CMYK: 4}
_PHOTOMETRICS = {3: "palette", 4: "mask", 6: "YCbCr", 8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab", 32844: "LogL"}
_PHOTOMETRICS |= {32845: "LogLuv"}
_RAW_PHOTOMETRICS = (32803, 34892)  # a colour filter's mosaic; DNG's linear raw
_NONE = 1
_PLAIN_COMPRESSIONS = {_NONE, 5, 8, 32773, 32946, 34925, 50000}  # of bytes, whatever they mean: LZW, Deflate, ...
_COMPRESSIONS = {34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}
_COMPRESSIONS |= {33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34892: "lossy JPEG", 22610: "JPEG XR"}
_COMPRESSIONS |= {2: "fax", 3: "fax", 4: "fax", 6: "JPEG", 7: "JPEG", 34676: "SGILog", 34677: "SGILog"}
_BY_EVERY_LIBTIFF = (2, 3, 4, 6, 7)
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_FORMATS = {_UNSIGNED: "unsigned", _SIGNED: "signed", _FLOAT: "floating point", 5: "complex", 6: "complex"}
_HORIZONTAL, _FLOATING = 2, 3  # predictors
_ASSOCIATED, _UNASSOCIATED = 1, 2  # extra samples: alpha that the colours are multiplied with, and alpha beside them


@dataclass(frozen=True, slots=True)
class Layout:
    """How one page of a TIFF holds its samples."""

    width: int
    height: int
    photometric: int
    bits: tuple[int, ...]
    form: int
    extra: tuple[int, ...]
    planar: bool
    compression: int
    predictor: int
    fill_order: int
    block: tuple[int, int]  # (height, width) of a strip or tile
    tiled: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    big_endian: bool
    big: bool

    def for_pillow(self) -> bool:
        """Return whether Pillow reads this right: unsigned samples of at most eight bits, as most files have."""
        deep = not set(self.bits) <= {1, 2, 4, 8} or self.form != _UNSIGNED
        odd = len(self.extra) > 1 or (self.extra and (self.planar or self.photometric == _CMYK))
        return not (deep or odd or (self.big and self.big_endian))

    def kind(self) -> str:
        """Return what the page is, in words."""
        colours = {_WHITE_IS_ZERO: "gray", _GRAY: "gray", _RGB: "RGB", _CMYK: "CMYK"}
        colour = colours.get(self.photometric) or _PHOTOMETRICS.get(self.photometric, f"kind {self.photometric}")
        mixed = "+".join(map(str, self.bits)) if len(self.bits) <= 4 else "mixed"
        bits = str(self.bits[0]) if len(set(self.bits)) == 1 else mixed
        form = "" if self.form == _UNSIGNED else f" {_FORMATS.get(self.form, 'untyped')}"
        coded = _COMPRESSIONS.get(self.compression)
        if coded is None and self.compression not in _PLAIN_COMPRESSIONS:
            coded = f"compression {self.compression}"
        usual = {6: 3, 8: 3, 9: 3, 10: 3, **_CHANNELS}.get(self.photometric, 1)
        samples = "" if len(self.bits) == usual else f" of {len(self.bits)} channels"
        return f"{colour} TIFF{samples} with {bits}-bit{form} samples" + (f" in {coded}" if coded else "")


def unreadable(layout: Layout) -> str:
    """Return the reason for a page that nobody here reads."""
    kind = layout.kind()
    return f"{'an' if kind[0] in 'RI' else 'a'} {kind}, which cannot be read; {_CONVERT}"


def why_unreadable(file: BinaryIO) -> str | None:
    """Return what a TIFF is that Pillow failed on, if its kind may be the reason; None if the file may be bad."""
    try:
        layout = layout_of(_first(file)[1])
    except Exception:  # a damaged header
        return None
    usual = layout.photometric in _CHANNELS or layout.photometric in (3, 6, 8)
    known = layout.compression in _PLAIN_COMPRESSIONS or layout.compression in _BY_EVERY_LIBTIFF
    if readable(layout) or (layout.for_pillow() and usual and known):
        return None
    return unreadable(layout)


def read(
    file: BinaryIO, index: Callable[[int], int] | None, check_size: Callable[[tuple[int, int]], None]
) -> Image.Image | None:
    """Return a page that Pillow would not read right, as `samples` does; None for all others.

    `index` gets the number of images and returns the one to read, None means the first; `check_size` raises where it is
    too large. Raises UnreadableImage, and nearly anything for a damaged file.
    """
    try:
        kind = raw_photograph(next(pages(file)))
        found = [_first(file)] if index is None else images(file)
        layout_of(found[0][1])
    except Exception:  # let Pillow say what is wrong
        return None
    if kind:
        return extras.preview(file, kind)
    place = 0 if index is None else index(len(found))
    number, tags = found[place]
    layout = layout_of(tags)
    if layout.for_pillow() and number == place:
        return None
    check_size((layout.width, layout.height))
    if layout.for_pillow() and not readable(layout):
        file.seek(0)
        page = Image.open(file, formats=("TIFF",))
        page.seek(number)
        page.load()
        return page
    image = samples(file, layout)
    image.getexif()[_ORIENTATION] = tags.get(_ORIENTATION, 1)
    return image


def images(file: BinaryIO) -> list[tuple[int, Any]]:
    """Return the numbers and tags of the pages; reduced copies and masks count only if there is nothing else.

    Raises as `pages` does.
    """
    every = list(enumerate(pages(file)))
    return [(number, tags) for number, tags in every if not _is_beside(tags)] or every


def _first(file: BinaryIO) -> tuple[int, Any]:
    """Return the first of `images`, without a look at the pages behind it."""
    found = ((number, tags) for number, tags in enumerate(pages(file)) if not _is_beside(tags))
    return next(found, None) or (0, next(pages(file)))


def _is_beside(tags: Any) -> bool:
    """Return whether a page is a reduced copy of another, or its mask."""
    kind = tags.get(_SUBFILE, 0)
    return bool(isinstance(kind, int) and kind & 5) or tags.get(_OLD_SUBFILE) == 2


def pages(file: BinaryIO) -> Iterator[Any]:
    """Yield the tags of every page. Raises nearly anything for a damaged file, as Pillow's plugin does."""
    file.seek(0)
    head = file.read(16)
    big = head[2:4] in _BIG
    order = ">" if head.startswith(b"MM") else "<"
    (offset,) = struct.unpack_from(order + ("Q" if big else "L"), head, 8 if big else 4)
    seen = set[int]()
    while offset and offset not in seen and len(seen) < _MAX_PAGES:
        seen.add(offset)
        tags: Any = TiffImagePlugin.ImageFileDirectory_v2(head if head[2] == 43 else head[:8])
        tags._bigtiff = big  # Pillow takes big-endian ones for others
        file.seek(offset)
        tags.load(file)
        yield tags
        offset = tags.next


def raw_photograph(tags: Any) -> str | None:
    """Return what kind of a camera's raw file begins with a page like this; None for an image."""
    makes_thumbnail = tags.get(_SUBFILE, 0) & 1 and _SUBFILES in tags
    mosaic = tags.get(_PHOTOMETRIC) in _RAW_PHOTOMETRICS
    if not (mosaic or (makes_thumbnail and (_DNG in tags or _MAKE in tags))):
        return None
    return "DNG" if _DNG in tags else str(tags.get(_MAKE, "")).strip("\0 ").split(" ")[0].capitalize() or "TIFF"


def layout_of(tags: Any) -> Layout:
    """Return how a page holds its samples; raises UnreadableImage where it does not say so."""
    width, height = tags.get(_WIDTH), tags.get(_HEIGHT)
    tiled = _TILE_OFFSETS in tags
    offsets = tags.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, ())
    bits = _tuple(tags.get(_BITS, 1))
    samples = tags.get(_SAMPLES, len(bits))
    rows = min(tags.get(_ROWS, height) or height, height)
    block = (tags.get(_TILE_HEIGHT), tags.get(_TILE_WIDTH)) if tiled else (rows, width)
    sizes = (width, height, samples, *block)
    if not all(isinstance(size, int) and size > 0 for size in sizes) or samples > 65535 or not bits or not offsets:
        raise UnreadableImage("a TIFF file whose header is damaged or cut off")
    formats = _tuple(tags.get(_FORMAT, _UNSIGNED))
    return Layout(
        width=width,
        height=height,
        photometric=tags.get(_PHOTOMETRIC, 0),
        bits=bits * samples if len(bits) == 1 else bits[:samples],
        form=formats[0] if len(set(formats)) == 1 and formats[0] != 4 else _UNSIGNED if set(formats) == {4} else 0,
        extra=_tuple(tags.get(_EXTRA, ())),
        planar=tags.get(_PLANAR, 1) == 2 and samples > 1,
        compression=tags.get(_COMPRESSION, _NONE),
        predictor=tags.get(_PREDICTOR, 1),
        fill_order=tags.get(_FILL_ORDER, 1),
        block=block,
        tiled=tiled,
        offsets=_tuple(offsets),
        counts=_tuple(tags.get(_TILE_COUNTS if tiled else _STRIP_COUNTS, ())),
        big_endian=tags.prefix == b"MM",
        big=tags._bigtiff,
    )


def samples(file: BinaryIO, layout: Layout) -> Image.Image:
    """Return a page as RGB or, where it has alpha, as RGBA: white is the highest level that an integer can have.

    Of 16 bits it is the least of 255, 4095 and 65535 that no pixel exceeds, for cameras have fewer bits than files.
    Signed samples below zero are black. Nothing says what white is in samples of 32 bits and in floating point: it is
    the least of 1 (floating point only), 255 and 65535 that no pixel exceeds, else the brightest that is finite.
    Raises UnreadableImage.
    """
    return _Reader(file, layout).image()


def _tuple(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def readable(layout: Layout) -> bool:
    """Return whether `samples` can read such a page."""
    count, channels, bits = len(layout.bits), _CHANNELS.get(layout.photometric, 0), layout.bits[0]
    sizes = {_UNSIGNED: (*range(1, 17), 32, 64), _SIGNED: (8, 16, 32, 64), _FLOAT: (16, 32, 64)}
    unnamed = count - channels - len(layout.extra)
    return (
        channels > 0
        and len(set(layout.bits)) == 1
        and bits in sizes.get(layout.form, ())
        and layout.compression in _PLAIN_COMPRESSIONS
        and layout.fill_order == 1
        and (layout.predictor == 1 or (layout.compression != _NONE and bits in (8, 16, 32, 64)))
        and (layout.predictor in (1, _HORIZONTAL) or (layout.predictor == _FLOATING and layout.form == _FLOAT))
        # gray with more than one other channel is several pictures in one, and none is the right one
        and not (channels == 1 and count > 2)
        and (unnamed == 0 or (unnamed > 0 and channels == 3))
    )


class _Reader:
    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        self.file, self.layout = file, layout
        self.bits = layout.bits[0]
        self.channels = _CHANNELS.get(layout.photometric, 0)
        alphas = [i for i, kind in enumerate(layout.extra) if kind in (_ASSOCIATED, _UNASSOCIATED)]
        self.alpha = self.channels + alphas[0] if alphas else None
        self.used = (*range(self.channels), *(() if self.alpha is None else (self.alpha,)))
        if not readable(layout):
            raise UnreadableImage(unreadable(layout))

    def image(self) -> Image.Image:
        layout = self.layout
        white = self._white()
        result = Image.new("RGB" if self.alpha is None else "RGBA", (layout.width, layout.height))
        for (left, top), samples in self._blocks():
            result.paste(self._coloured(to_bytes(samples, white)), (left, top))
        return result

    def _white(self) -> float:
        layout = self.layout
        unsigned = layout.form == _UNSIGNED and self.bits <= 16
        if unsigned and (self.bits < 16 or layout.photometric == _CMYK):
            return float(2**self.bits - 1)
        usual: tuple[float, ...] = (255, 65535)
        if unsigned:
            usual = (255, 4095, 65535)
        elif layout.form == _FLOAT:
            usual = (1, *usual)
        elif layout.form == _SIGNED and self.bits <= 16:
            usual = (2 ** (self.bits - 1) - 1,) if self.bits == 8 else (255, 32767)
        brightest = max((brightest_of(samples[..., : self.channels]) for _, samples in self._blocks()), default=0.0)
        return white_of(brightest, usual)

    def _coloured(self, levels: np.ndarray) -> Image.Image:
        """Return levels (height, width, channels used), uint8, in the colours that they stand for."""
        import numpy as np

        colours = levels[..., : self.channels]
        if self.layout.photometric == _WHITE_IS_ZERO:
            colours = 255 - colours
        if self.channels == 4:
            image = Image.fromarray(np.ascontiguousarray(colours), "CMYK").convert("RGB")
        elif self.channels == 3:
            image = Image.fromarray(np.ascontiguousarray(colours))
        else:
            image = Image.fromarray(np.ascontiguousarray(colours[..., 0])).convert("RGB")
        if self.alpha is not None:
            alpha = levels[..., -1]
            if self.layout.extra[self.alpha - self.channels] == _ASSOCIATED:
                image = divided(image, alpha)
            image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
        return image

    def _blocks(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Yield (left, top) and the samples (height, width, samples used) of every strip or tile."""
        import numpy as np

        layout = self.layout
        height, width = layout.block
        places = [(x, y) for y in range(0, layout.height, height) for x in range(0, layout.width, width)]
        planes = len(layout.bits) if layout.planar else 1
        if len(layout.offsets) < len(places) * planes:
            raise UnreadableImage("a TIFF file whose header is damaged or cut off")
        for number, (x, y) in enumerate(places):
            rows = height if layout.tiled else min(height, layout.height - y)
            if layout.planar:
                parts = [self._samples(number + plane * len(places), rows, 1) for plane in self.used]
                samples = np.concatenate(parts, axis=-1)
            else:
                samples = self._samples(number, rows, len(layout.bits))[..., self.used]
            yield (x, y), samples[: layout.height - y, : layout.width - x]

    def _samples(self, number: int, rows: int, samples: int) -> np.ndarray:
        """Return one strip or tile (rows, width, samples) in the machine's byte order."""
        import numpy as np

        layout, width = self.layout, self.layout.block[1]
        row_bytes = -(-width * samples * self.bits // 8)
        data = self._bytes(number, rows, row_bytes)
        if self.bits not in (8, 16, 32, 64):
            return _unpacked(data.reshape(rows, row_bytes), self.bits, width * samples).reshape(rows, width, samples)
        size = self.bits // 8
        letter = {_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}[layout.form]
        if layout.predictor == _FLOATING:
            return _floats(data.reshape(rows, row_bytes), samples, size).reshape(rows, width, samples)
        order = ">" if layout.big_endian else "<"
        if layout.predictor == _HORIZONTAL:
            unsigned = data.view(f"{order}u{size}").reshape(rows, width, samples).astype(f"u{size}")
            return np.cumsum(unsigned, axis=1, dtype=unsigned.dtype).view(f"{letter}{size}")
        return data.view(f"{order}{letter}{size}").reshape(rows, width, samples).astype(f"{letter}{size}")

    def _bytes(self, number: int, rows: int, row_bytes: int) -> np.ndarray:
        """Return a strip or tile, decompressed; raises OSError where it is too short."""
        import numpy as np

        layout, wanted = self.layout, rows * row_bytes
        self.file.seek(layout.offsets[number])
        if layout.compression == _NONE:
            content = self.file.read(wanted)
        else:
            given = layout.counts[number] if number < len(layout.counts) else -1
            packed = self.file.read(given)
            if len(packed) < given:
                raise OSError("truncated TIFF")
            content = _decompressed(packed, layout.compression, rows, row_bytes)
        if len(content) < wanted:
            raise OSError("truncated TIFF")
        return np.frombuffer(content, dtype=np.uint8, count=wanted)


def _decompressed(content: bytes, compression: int, rows: int, row_bytes: int) -> bytes:
    """Return what a strip holds, read as gray of eight bits from a TIFF that has this strip alone."""
    numbers = {_WIDTH: row_bytes, _HEIGHT: rows, _BITS: 8, _COMPRESSION: compression, _PHOTOMETRIC: _GRAY}
    tags = {**numbers, _STRIP_OFFSETS: 8, _SAMPLES: 1, _ROWS: rows, _STRIP_COUNTS: len(content)}
    padded = content + bytes(len(content) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    whole = struct.pack("<2sHI", b"II", 42, 8 + len(padded)) + padded + directory
    with Image.open(io.BytesIO(whole), formats=("TIFF",)) as image:
        return image.tobytes()


def _unpacked(rows: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Return `count` numbers of `bits` bits from each row, most significant bit first."""
    import numpy as np

    result = np.zeros((len(rows), count), np.uint16)
    for number, row in enumerate(rows):  # a row at a time: bits as bytes take eight times the memory
        each = np.unpackbits(row, count=count * bits).reshape(count, bits)
        result[number] = each @ (1 << np.arange(bits - 1, -1, -1, dtype=np.uint16))
    return result


def _floats(rows: np.ndarray, samples: int, size: int) -> np.ndarray:
    """Undo predictor 3 (Adobe Photoshop TIFF Technical Note 3): differences of bytes, the highest bytes first."""
    import numpy as np

    count, width = len(rows), rows.shape[1]
    levels = np.cumsum(rows.reshape(count, width // samples, samples), axis=1, dtype=np.uint8)
    planes = levels.reshape(count, size, width // size)
    return np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{size}")[..., 0].astype(f"f{size}")

"""One hundred images of four bands, in a grid of formats, modes and codecs, and the colours that they show."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (32, 16)  # width, height
Colour = tuple[int, int, int]
Bands = tuple[Colour, Colour, Colour, Colour]  # from left to right, in equal parts

_RED, _LIME, _BLUE, _GRAY, _WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (255, 255, 255)
_COLOURS: Bands = (_RED, _LIME, _BLUE, _GRAY)
_GRAYS: Bands = ((0, 0, 0), (85, 85, 85), (170, 170, 170), _WHITE)
_BLACK_AND_WHITE: Bands = ((0, 0, 0), _WHITE, (0, 0, 0), _WHITE)
# Alpha 255, 0, 51 and 255: the second is all paper, the third a fifth of blue on it.
_ON_PAPER: Bands = (_RED, _WHITE, (204, 204, 255), _GRAY)
_GRAYS_ON_PAPER: Bands = ((0, 0, 0), _WHITE, (238, 238, 238), _WHITE)  # 170 / 5 + 255 · 4 / 5 = 238
# CIE L* of 128 / 2.55 and 200 / 2.55: Y = ((L* + 16) / 116)³ = 0.1859 and 0.5394, in sRGB 119 and 194
_LAB_GRAYS: Bands = ((0, 0, 0), (119, 119, 119), (194, 194, 194), _WHITE)
_ALPHAS = (255, 0, 51, 255)


def make_good_files(folder: Path) -> dict[str, tuple[Bands, int]]:
    """Draw the hundred images into a folder: path → its bands, and by how much a codec may miss them."""
    folder.mkdir(parents=True, exist_ok=True)
    expected = {}
    for maker in (_plain, _tiffs, _lossy, _turned, _by_hand):
        for name, content, bands, tolerance in maker():
            path = folder / f"{len(expected):02}-{name}"
            path.write_bytes(content)
            expected[str(path)] = (bands, tolerance)
    assert len(expected) == 100, len(expected)
    return expected


def _banded(mode: str, levels: list[object]) -> Image.Image:
    image = Image.new(mode, SIZE)
    for i, level in enumerate(levels):
        image.paste(level, (8 * i, 0, 8 * (i + 1), 16))
    return image


def _palette() -> Image.Image:
    image = _banded("P", [0, 1, 2, 3])
    image.putpalette([level for colour in _COLOURS for level in colour])
    return image


def _deep(levels: list[float], kind: str) -> Image.Image:
    return Image.fromarray(np.repeat(np.array([levels], dtype=kind), 8, axis=1).repeat(16, axis=0))


def _images() -> dict[str, tuple[Image.Image, Bands]]:
    """Mode → an image in it and what it shows."""
    gray_levels = [gray for gray, _, _ in _GRAYS]
    return {
        "RGB": (_banded("RGB", list(_COLOURS)), _COLOURS),
        "RGBA": (_banded("RGBA", [(*c, a) for c, a in zip(_COLOURS, _ALPHAS, strict=True)]), _ON_PAPER),
        "L": (_banded("L", gray_levels), _GRAYS),
        "LA": (_banded("LA", list(zip(gray_levels, _ALPHAS, strict=True))), _GRAYS_ON_PAPER),
        "1": (_banded("1", [0, 1, 0, 1]), _BLACK_AND_WHITE),
        "P": (_palette(), _COLOURS),
        "CMYK": (_banded("CMYK", [(0, 255, 255, 0), (255, 0, 255, 0), (255, 255, 0, 0), (0, 0, 0, 127)]), _COLOURS),
        # JFIF 1.02, page 3: the luma and chroma of pure red, green and blue
        "YCbCr": (_banded("YCbCr", [(76, 85, 255), (150, 44, 21), (29, 255, 107), (128, 128, 128)]), _COLOURS),
        "LAB": (_banded("LAB", [(0, 128, 128), (128, 128, 128), (200, 128, 128), (255, 128, 128)]), _LAB_GRAYS),
        "I;16": (_deep([257 * gray for gray in gray_levels], "uint16"), _GRAYS),
        "I": (_deep([257 * gray for gray in gray_levels], "int32"), _GRAYS),
        "F": (_deep([gray / 255 for gray in gray_levels], "float32"), _GRAYS),
    }


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _frames(image: Image.Image) -> dict[str, object]:
    """Options for a second and a third frame or page, which are to be passed over."""
    return {"save_all": True, "append_images": [Image.new("RGB", SIZE, colour) for colour in ("yellow", "black")]}


File = tuple[str, bytes, Bands, int]

_PLAIN = {
    ("PNG", "png"): ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    ("GIF", "gif"): ("1", "L", "P", "RGB"),
    ("BMP", "bmp"): ("1", "L", "P", "RGB"),
    ("DIB", "dib"): ("RGB", "L"),
    ("PPM", "ppm"): ("RGB",),
    ("PPM", "pgm"): ("L", "I;16"),
    ("PPM", "pbm"): ("1",),
    ("TGA", "tga"): ("L", "LA", "P", "RGB", "RGBA"),
    ("JPEG2000", "jp2"): ("L", "LA", "RGB", "RGBA", "I;16"),
    ("ICO", "ico"): ("RGB", "RGBA"),
    ("DDS", "dds"): ("RGB", "RGBA", "L"),
    ("PCX", "pcx"): ("L", "RGB"),
    ("SGI", "sgi"): ("L", "RGB"),
}


def _plain() -> Iterator[File]:
    """What a format holds without loss."""
    images = _images()
    for (kind, suffix), modes in _PLAIN.items():
        for mode in modes:
            image, bands = images[mode]
            options = {"sizes": [SIZE]} if kind == "ICO" else {}
            yield f"{mode.replace(';', '')}.{suffix}", _saved(image, kind, **options), bands, 1
    rgb, colours = images["RGB"]
    rgba, on_paper = images["RGBA"]
    palette, _ = images["P"]
    gray, grays = images["L"]
    deep, _ = images["I;16"]
    yield "rle.tga", _saved(rgb, "TGA", compression="tga_rle"), colours, 1
    yield "one-colour.gif", _saved(palette, "GIF", transparency=1), (_RED, _WHITE, _BLUE, _GRAY), 0
    yield "one-colour.png", _saved(palette, "PNG", transparency=1), (_RED, _WHITE, _BLUE, _GRAY), 0
    yield "alphas.png", _saved(palette, "PNG", transparency=bytes(_ALPHAS)), on_paper, 1
    yield "one-gray.png", _saved(gray, "PNG", transparency=85), (grays[0], _WHITE, *grays[2:]), 0
    yield "one-deep-gray.png", _saved(deep, "PNG", transparency=85 * 257), (grays[0], _WHITE, *grays[2:]), 0
    yield "one-rgb.png", _saved(rgb, "PNG", transparency=_LIME), (_RED, _WHITE, _BLUE, _GRAY), 0
    yield "bitmap.ico", _saved(rgba, "ICO", sizes=[SIZE], bitmap_format="bmp"), on_paper, 1
    for kind in ("GIF", "PNG", "TIFF"):
        yield f"frames.{kind.lower()}", _saved(rgb, kind, **_frames(rgb)), colours, 0
    yield "lossless.webp", _saved(rgb, "WEBP", lossless=True), colours, 0
    yield "lossless-alpha.webp", _saved(rgba, "WEBP", lossless=True, exact=True), on_paper, 1
    yield "frames.webp", _saved(rgb, "WEBP", lossless=True, **_frames(rgb)), colours, 0


def _tiffs() -> Iterator[File]:
    images = _images()
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB"):
        image, bands = images[mode]
        yield f"{mode.replace(';', '')}.tif", _saved(image, "TIFF"), bands, 1
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma"):
        yield f"{compression}.tiff", _saved(images["RGB"][0], "TIFF", compression=compression), _COLOURS, 0
    for mode in ("L", "RGBA", "I;16", "F"):
        image, bands = images[mode]
        yield f"{mode.replace(';', '')}-lzw.tiff", _saved(image, "TIFF", compression="tiff_lzw"), bands, 1
    yield "fax.tiff", _saved(images["1"][0], "TIFF", compression="group4"), _BLACK_AND_WHITE, 0
    yield "jpeg.tiff", _saved(images["RGB"][0], "TIFF", compression="jpeg", quality=100), _COLOURS, 6


def _lossy() -> Iterator[File]:
    images = _images()
    for mode in ("RGB", "L", "CMYK", "YCbCr"):
        image, bands = images[mode]
        yield f"{mode}.jpg", _saved(image, "JPEG", quality=100, subsampling=0), bands, 4
    rgb, rgba = images["RGB"][0], images["RGBA"][0]
    yield "progressive.jpg", _saved(rgb, "JPEG", quality=98, progressive=True, subsampling=0), _COLOURS, 6
    yield "quarter-chroma.jpeg", _saved(rgb, "JPEG", quality=98, subsampling=2), _COLOURS, 6
    yield "frames.mpo", _saved(rgb, "MPO", quality=98, subsampling=0, **_frames(rgb)), _COLOURS, 6
    yield "lossy.webp", _saved(rgb, "WEBP", quality=95), _COLOURS, 8
    yield "RGB.avif", _saved(rgb, "AVIF", quality=95, subsampling="4:4:4"), _COLOURS, 8
    yield "RGBA.avif", _saved(rgba, "AVIF", quality=95, subsampling="4:4:4"), _ON_PAPER, 8
    yield "frames.avif", _saved(rgb, "AVIF", quality=95, subsampling="4:4:4", **_frames(rgb)), _COLOURS, 8


def _turned() -> Iterator[File]:
    """Stored upside down or on its side, with the Exif orientation that says so."""
    image, options = _images()["RGB"][0], {"quality": 98, "subsampling": 0}
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    for orientation, turn in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = image.transpose(turn)
        yield f"turned-{orientation}.jpg", _saved(stored, "JPEG", exif=exif, **options), _COLOURS, 6
        if orientation != 8:
            yield f"turned-{orientation}.png", _saved(stored, "PNG", exif=exif), _COLOURS, 0
            yield f"turned-{orientation}.webp", _saved(stored, "WEBP", exif=exif, lossless=True), _COLOURS, 0
            yield f"turned-{orientation}.tif", _saved(stored, "TIFF", exif=exif), _COLOURS, 0
            avif = _saved(stored, "AVIF", exif=exif, quality=95, subsampling="4:4:4")
            yield f"turned-{orientation}.avif", avif, _COLOURS, 8


def _by_hand() -> Iterator[File]:
    """What Pillow reads and does not write, byte by byte."""
    # A tiled TIFF: two tiles of 16 × 16 gray pixels after a directory of ten tags.
    tiles = [bytes(([level] * 8 + [level + 85] * 8) * 16) for level in (0, 170)]
    tags = {256: 32, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: 16, 323: 16}
    start = 8 + 2 + 12 * (len(tags) + 2) + 4 + 16
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    entries += struct.pack("<HHIIHHII", 324, 4, 2, start - 16, 325, 4, 2, start - 8)
    offsets = struct.pack("<IIII", start, start + 256, 256, 256)
    yield "tiled.tif", b"II*\0\x08\0\0\0\x0a\0" + entries + bytes(4) + offsets + b"".join(tiles), _GRAYS, 0
    # Big-endian 16 bits in a PNG of three channels; the low bytes are noise that must not show.
    words = b"".join(bytes([level, 77]) for colour in _COLOURS for _ in range(8) for level in colour)
    yield "deep-rgb.png", _deep_png(words), _COLOURS, 0


def _deep_png(row: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *SIZE, 16, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + row) * SIZE[1])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")

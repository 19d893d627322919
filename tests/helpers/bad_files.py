"""One hundred files with image extensions but no readable image: cut off, damaged, huge, not an image, no file."""

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

from PIL import Image

TRUNCATED = "the file is truncated"
HEADER = "whose header is damaged or cut off"
DAMAGED = "the image data is damaged ("
TOO_MANY = "pixels, more than the limit of 178,956,970 (--max-pixels)"

File = tuple[str | bytes, bytes, str]  # name, content, what the reason says


def make_bad_files(folder: Path) -> dict[str, str]:
    """Make the hundred files in a folder; their paths (strange bytes as surrogates) → a part of the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    reasons = dict(_special_files(folder))
    for maker in (_cut_off, _png, _jpeg, _gif_webp_avif, _tiff, _other_formats, _something_else, _strange_names):
        for name, content, reason in maker():
            path = os.path.join(folder, os.fsdecode(name))  # noqa: PTH118 (the names stay as they are)
            assert path not in reasons, path
            Path(path).write_bytes(content)
            reasons[path] = reason
    assert len(reasons) == 100, len(reasons)
    return reasons


def _special_files(folder: Path) -> Iterator[tuple[str, str]]:
    """What is not a regular file with content: path, reason."""
    os.mkfifo(folder / "fifo.jpg")
    os.mknod(folder / "socket.png", stat.S_IFSOCK | 0o600)
    (folder / "empty.gif").touch()
    links = {
        "device.jpg": "/dev/null",
        "dangling.webp": "nowhere.webp",
        "self.jpg": "self.jpg",
        "loop-a.tif": "loop-b.tif",
        "loop-b.tif": "loop-a.tif",
        "to-loop.jpg": "loop-a.tif",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    reasons = {
        "fifo.jpg": "a pipe, not a file",
        "socket.png": "a socket, not a file",
        "device.jpg": "a device, not a file",
        "empty.gif": "the file is empty",
        "dangling.webp": "a dangling link",
    }
    for name in ("empty.gif", "fifo.jpg", "socket.png", *links):
        yield str(folder / name), reasons.get(name, "a link that leads back to itself")


# cut off


def _noise(width: int = 40, height: int = 30) -> Image.Image:
    return Image.frombytes("RGB", (width, height), Random(width).randbytes(width * height * 3))


def _saved(kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    _noise().save(stream, kind, **options)
    return stream.getvalue()


def _cut_off() -> Iterator[File]:
    whole = {
        "baseline.jpg": (_saved("JPEG"), (0.02, 0.5, 0.95)),
        "progressive.jpeg": (_saved("JPEG", progressive=True), (0.5,)),
        "a.png": (_saved("PNG"), (0.02, 0.5, 0.95)),
        "interlaced.gif": (_saved("GIF", interlace=1), (0.4, 0.95)),
        "lossy.webp": (_saved("WEBP"), (0.02, 0.5, 0.99)),
        "lossless.webp": (_saved("WEBP", lossless=True), (0.5,)),
        "a.avif": (_saved("AVIF"), (0.03, 0.5, 0.95)),
        "raw.tif": (_saved("TIFF"), (0.95,)),
        "a.bmp": (_saved("BMP"), (0.02, 0.95)),
        "a.jp2": (_saved("JPEG2000"), (0.5, 0.95)),
        "a.ppm": (_saved("PPM"), (0.5,)),
        "rle.tga": (_saved("TGA", compression="tga_rle"), (0.5,)),
        "a.ico": (_saved("ICO", sizes=[(30, 30)]), (0.7,)),
        "dds.png": (_saved("DDS"), (0.5,)),
    }
    for name, (data, parts) in whole.items():
        for part in parts:
            yield f"cut-{int(100 * part)}-{name}", data[: int(len(data) * part)], TRUNCATED
    yield "cut-in-header.gif", _saved("GIF")[:20], "a GIF file " + HEADER
    yield "cut-at-the-directory.tiff", _saved("TIFF", compression="tiff_lzw")[:-200], "a TIFF file " + HEADER
    yield "cut-after-four-bytes.jpg", _saved("JPEG")[:4], "too short for an image (4 bytes)"


# damaged


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_of(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")


def _ihdr(width: int, height: int) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def _png() -> Iterator[File]:
    rows = zlib.compress(bytes(4 * (1 + 4 * 3)))
    idat = _chunk(b"IDAT", rows)
    bomb = zlib.compress(bytes(5_000_000), 9)  # 5 MB in 5 KB
    header = "a PNG file " + HEADER
    yield "wrong-crc.png", _png_of(_ihdr(4, 4)[:-1] + b"\xff", idat), header
    yield "zero-width.png", _png_of(_ihdr(0, 4), idat), header
    yield "no-data.png", _png_of(_ihdr(4, 4)), DAMAGED
    yield "not-zlib.png", _png_of(_ihdr(4, 4), _chunk(b"IDAT", b"garbage!" * 9)), DAMAGED
    yield "broken-zlib.png", _png_of(_ihdr(4, 4), _chunk(b"IDAT", rows[:4] + b"\xff" * 40)), DAMAGED
    yield "bomb.png", _png_of(_ihdr(60_000, 60_000), idat), "3,600,000,000 " + TOO_MANY
    yield "text-bomb.png", _png_of(_ihdr(4, 4), _chunk(b"zTXt", b"Comment\0\0" + bomb), idat), DAMAGED
    yield "sent-as-text.png", _saved("PNG").replace(b"\r\n", b"\n"), "an image damaged by a copy as text"


def _without_segment(data: bytes, marker: int) -> bytes:
    """A JPEG without its segments of one marker."""
    out, at = data[:2], 2
    while data[at + 1] != 0xDA:  # the scan, and all that follows
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        out += b"" if data[at + 1] == marker else data[at:end]
        at = end
    return out + data[at:]


def _with_frame(data: bytes, at: int, values: bytes) -> bytes:
    """A JPEG with other bytes in its frame header: precision at 4, height 5, width 7, components 9."""
    at += data.index(b"\xff\xc0")
    return data[:at] + values + data[at + len(values) :]


def _jpeg() -> Iterator[File]:
    data = _saved("JPEG")
    tables = data.index(b"\xff\xc4")
    lost_scan = data[: data.index(b"\xff\xda")] + b"\xff\xd9"
    yield "no-scan.jpg", lost_scan, DAMAGED
    yield "broken-huffman.jpg", data[: tables + 5] + b"\xff" * 16 + data[tables + 21 :], DAMAGED
    yield "no-quantization.jpg", _without_segment(data, 0xDB), DAMAGED
    yield "zero-size.jpg", _with_frame(data, 5, b"\0\0\0\0"), "a JPEG file " + HEADER
    yield "bomb.jpg", _with_frame(data, 5, b"\xff\xdc\xff\xdc"), "4,290,250,000 " + TOO_MANY
    yield "sent-as-utf-8.jpg", data.decode(errors="replace").encode(), "an image damaged by a copy as text"


def _gif_webp_avif() -> Iterator[File]:
    gif, webp, avif = _saved("GIF"), _saved("WEBP"), _saved("AVIF")
    canvas = b"VP8X" + struct.pack("<II", 10, 0) + b"\xff\xff\xff\xff\xff\0"
    yield "bomb.gif", gif[:6] + b"\xff\xff\xff\xff" + gif[10:], "4,294,836,225 " + TOO_MANY
    yield "no-frame.gif", b"GIF89a\4\0\4\0\0\0\0;", "a GIF file " + HEADER
    yield "broken-codes.gif", b"GIF89a\4\0\4\0\x80\0\0" + bytes(6) + b",\0\0\0\0\4\0\4\0\0\x14\1\0\0;", DAMAGED
    yield "bomb.webp", b"RIFF" + struct.pack("<I", 22) + b"WEBP" + canvas, TOO_MANY
    yield "garbage.webp", webp[:20] + b"\xff" * (len(webp) - 20), DAMAGED
    media = avif.index(b"mdat") + 4
    yield "garbage.avif", avif[:media] + b"\xff" * (len(avif) - media), DAMAGED
    yield "only-a-brand.avif", avif[: int.from_bytes(avif[:4])], "an AVIF file, damaged"
    yield "only-a-brand.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"


def _tiff_of(at: int = 8, **tags: int) -> bytes:
    """A TIFF of one directory (at byte 8, and so said to be at `at`); tags as t256=width."""
    tags = {"t256": 4, "t257": 4, "t258": 8, "t259": 1, "t262": 1, "t273": 8, "t278": 4, "t279": 16} | tags
    entries = b"".join(struct.pack("<HHII", int(tag[1:]), 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", at, len(tags)) + entries + struct.pack("<I", 8)  # the next is itself: a loop


def _tiff() -> Iterator[File]:
    yield "bomb.tif", _tiff_of(t256=60_000, t257=60_000), "3,600,000,000 " + TOO_MANY
    yield "directory-past-the-end.tif", _tiff_of(at=9_999), "a TIFF file " + HEADER
    yield "data-past-the-end.tif", _tiff_of(t273=9_999), TRUNCATED
    yield "unknown-compression.tif", _tiff_of(t259=999), "compression 999, which cannot be read"
    jpeg = _saved("TIFF", compression="jpeg")
    scan = jpeg.index(b"\xff\xd8")
    yield "jpeg-inside.tif", jpeg[:scan] + b"\xff\xd8\xff" * 20 + jpeg[scan + 60 :], DAMAGED
    lzw = _saved("TIFF", compression="tiff_lzw")
    yield "broken-lzw.tif", lzw[:8] + b"\xff" * 900 + lzw[908:], DAMAGED


def _bmp_of(width: int, height: int, depth: int = 24, compression: int = 0) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def _other_formats() -> Iterator[File]:
    inside = _png_of(_ihdr(50_000, 50_000), _chunk(b"IDAT", zlib.compress(bytes(9))))
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inside), 22) + inside
    mac = b"icns" + struct.pack(">I4sI", 16 + len(inside), b"ic07", 8 + len(inside)) + inside
    yield "bomb.bmp", _bmp_of(20_000, 20_000), "400,000,000 " + TOO_MANY
    yield "three-bits.bmp", _bmp_of(4, 4, depth=3), "a kind of file that cannot be read (Unsupported BMP pixel depth"
    yield "bomb.ppm", b"P6 60000 60000 255\n" + bytes(99), "3,600,000,000 " + TOO_MANY
    yield "words.ppm", b"P6 wide high 255\n" + bytes(99), DAMAGED
    yield "bomb.tga", struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 65535, 65535, 24, 0) + bytes(99), TOO_MANY
    yield "bomb-inside.ico", icon, "2,500,000,000 " + TOO_MANY
    yield "bomb-inside-icns.png", mac, "2,500,000,000 " + TOO_MANY
    psd = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 60_000, 60_000, 8, 3) + bytes(14)
    yield "bomb-photoshop.png", psd, "3,600,000,000 " + TOO_MANY
    codestream = b"\xff\x4f\xff\x51" + struct.pack(">HHIIIIIIII", 47, 0, 60_000, 60_000, 0, 0, 9, 9, 0, 0)
    yield "bomb.j2k", codestream + b"\0\3" + b"\7\1\1" * 3, "3,600,000,000 " + TOO_MANY


# something else


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.jpg", "no image")
    return stream.getvalue()


def _something_else() -> Iterator[File]:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    yield "lfs.jpg", pointer, "a Git LFS pointer, not the image itself"
    yield "page.jpg", b"\n<!DOCTYPE html>\n<html><body>404 Not Found</body></html>", "a web page (HTML), not an image"
    yield (
        "drawing.png",
        b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "an SVG drawing",
    )
    yield "document.jpg", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "a PDF, not an image"
    yield "archive.jpg", _zip(), "a ZIP archive, not an image"
    yield "postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n", "PostScript"
    yield (
        "metafile.bmp",
        b"\xd7\xcd\xc6\x9a" + bytes(6) + b"\1\0\1\0\x48\0" + bytes(6) + b"\1\0\x09\0" + bytes(22),
        "meta",
    )
    yield "video.jpg", b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41\0\0\0\x08free", "a video (MP4), not an image"
    yield "phone.heic", b"\0\0\0\x14ftypqt  \0\0\0\0qt  \0\0\0\x08wide", "a video (QuickTime), not an image"
    yield "answer.jpg", b'{"error": "not found"}', "JSON, not an image"
    yield "base64.jpg", b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJ", "an image in base64"
    yield "._side.jpg", b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(40), "a side file of macOS"
    yield "zeros.jpg", bytes(3000), "nothing but zero bytes"
    yield "random.png", Random(4).randbytes(999), "not an image that Pillow can read"


def _strange_names() -> Iterator[File]:
    """Names that break a careless reader or writer, each with a text of its own."""
    names: list[str | bytes] = [
        "with two  spaces.jpg",
        "new\nline.jpg",
        b"latin-1 caf\xe9 \xff.png",
        "-rf.jpg",
        "\"double\" and 'single'.png",
        "comma, tab\t and ; semicolon.jpg",
        "<img src=x onerror=alert(1)>.png",
        "=1+1.jpg",
        "[x]*?.jpg",
        "%s {0} $HOME `id`.jpg",
        "\x1b[31mred.webp",
        "\U0001f600 e\u0301.gif",
    ]
    for number, name in enumerate(names):
        yield name, f"these are words, {number} of them, and no image\n".encode(), "text, not an image"

import io
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from good_files import make_good_files
from PIL import Image, features

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.decode import (
    MAX_PIXELS,
    Decoding,
    _pillows_check,
    decode,
    open_regular,
    read_image,
    single_threaded,
)
from zeroshot_cli.images.find import find_images
from zeroshot_cli.images.selection import Selection


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(width: int = 40, height: int = 30, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def reason_for(content: bytes, **options: int) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_image(io.BytesIO(content), Decoding(**options))
    return str(caught.value)


# the hundreds


def test_a_hundred_bad_files_give_a_hundred_reasons(
    tmp_path: Path, bad_files: Callable[[Path], dict[str, str]], capfd: pytest.CaptureFixture[str]
) -> None:
    """Each quickly and always the same, without a word on stderr, from C libraries neither."""
    expected = bad_files(tmp_path / "bad")
    assert len(expected) == 100
    assert find_images([str(tmp_path / "bad")], selection=Selection(all_files=True)).items == tuple(sorted(expected))
    reasons = {}
    for path in expected:
        start = time.monotonic()
        with pytest.raises(UnreadableImage) as caught:
            decode(path)
        assert time.monotonic() - start < 2, path
        reasons[path] = str(caught.value)
    for path, part in expected.items():
        assert part in reasons[path], path
        assert part, path
        assert len(reasons[path]) < 160, path
        assert reasons[path].isprintable(), path
        assert "0x" not in reasons[path], path  # an object's address would differ from run to run
    assert capfd.readouterr() == ("", "")


def test_a_hundred_good_files_show_the_colours_drawn(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    expected = make_good_files(tmp_path / "good")
    assert len(expected) == 100
    assert find_images([str(tmp_path / "good")]).items == tuple(sorted(expected))
    for path, (bands, tolerance) in expected.items():
        image = decode(path)
        assert (image.mode, image.size) == ("RGB", (32, 16)), path
        middles = np.asarray(image).astype(int)[2:-2:3, 3::8]
        assert np.abs(middles - np.array(bands)).max() <= tolerance, path
    assert capfd.readouterr() == ("", "")


# not a regular file


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)  # relative: a socket's path must be short


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.touch(), "the file is empty"),
        (lambda path: path.mkdir(), "a folder, not a file"),
        (lambda path: path.symlink_to("/"), "a folder, not a file"),
        (lambda path: os.mkfifo(path), "a pipe, not a file"),
        (make_socket, "a socket, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "a device, not a file"),
        (lambda path: path.symlink_to("nowhere"), "a dangling link"),
        (lambda path: path.symlink_to(path.name), "a link that leads back to itself"),
        (lambda path: None, "no such file"),
    ],
    ids=["empty", "folder", "to-folder", "fifo", "socket", "device", "dangling", "loop", "missing"],
)
def test_what_is_no_file_has_a_plain_reason(folder: Path, make: Callable[[Path], None], reason: str) -> None:
    make(folder / "a.jpg")
    for opener in (decode, open_regular):
        with pytest.raises(UnreadableImage) as caught:
            opener("a.jpg")
        assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nul\0.jpg", "no such file"),
        ("\ud800.jpg", "no such file"),  # no bytes have this name
        ("", "no such file"),
        ("a" * 999, "the path is too long"),
        ("a.txt/b.jpg", "no such file"),
    ],
)
def test_paths_that_cannot_be(folder: Path, path: str, reason: str) -> None:
    Path("a.txt").touch()
    with pytest.raises(UnreadableImage) as caught:
        decode(path)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("make", "reason"),
    [(lambda path: os.mkfifo(path), "a pipe, not a file"), (make_socket, "a socket or a device, not a file")],
)
def test_what_takes_a_files_place_meanwhile_does_not_block(
    folder: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], reason: str
) -> None:
    """As if the pipe had come between the look at the file and its opening."""
    make(folder / "a.jpg")
    Path("real.jpg").write_text("an image, once")
    real = os.stat("real.jpg")  # noqa: PTH116 (os.stat is what is replaced)
    monkeypatch.setattr(os, "stat", lambda path: real)
    blocked = threading.Timer(2, os._exit, [99])  # nothing else would end a blocked open()
    blocked.start()
    try:
        with pytest.raises(UnreadableImage) as caught:
            open_regular("a.jpg")
    finally:
        blocked.cancel()
    assert str(caught.value) == reason


def test_refusing_leaves_no_file_open(tmp_path: Path, bad_files: Callable[[Path], dict[str, str]]) -> None:
    paths = bad_files(tmp_path / "bad")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in paths:
        with pytest.raises(UnreadableImage):
            decode(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_open_file_is_read_from_its_start_and_stays_open(folder: Path) -> None:
    Image.fromarray(noise()).save("a.tif", compression="tiff_lzw")  # libtiff moves the position behind our back
    with open_regular("a.tif") as file:
        whole = file.read()
        np.testing.assert_array_equal(np.asarray(read_image(file)), noise())
        file.seek(0)
        assert file.read() == whole == Path("a.tif").read_bytes()
    with pytest.raises(UnreadableImage, match=r"^the file is empty$"):
        read_image(io.BytesIO())


# what a file is instead


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html><head>", "a web page (HTML), not an image"),
        (b"\xef\xbb\xbf \n<!-- hello -->\n<HTML lang=en>", "a web page (HTML), not an image"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x">\n<html>', "a web page (HTML), not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg">', "an SVG drawing; convert it to PNG first"),
        (b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "x"><svg>', "an SVG drawing; convert it to PNG first"),
        (b"<!DOCTYPE html><body><svg width=9>", "a web page (HTML), not an image"),
        (
            b"G" + b"o" * 187 + b"G" + b"o" * 187 + b"Gle",
            "a video (MPEG), not an image",
        ),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "XML, not an image"),
        (b'[{"a": 1}, 2, 3]', "JSON, not an image"),
        (b"[section]\nkey = value\n", "text, not an image"),
        (b"GIFs are fun to watch", "text, not an image"),
        ("Grüße, это текст".encode(), "text, not an image"),
        (b"\0\0\0\x1cftypM4A \0\0\0\0M4A mp42", "sound (MP4), not an image"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "a RAW photograph (Canon CR3) without a preview"),
        (
            b"RIFF\x24\0\0\0AVI LIST" + bytes(28),
            "a video (AVI), not an image",
        ),
        (
            b"\0\0\x01\xba" + bytes(40),
            "a video (MPEG), not an image",
        ),
        (
            b"\0\0\x01\xb3\x16\x00\xf0\x15" + bytes(40),
            "a video (MPEG), not an image",
        ),
        (b"ID3\x03\0\0\0\0\0\0" + bytes(90), "sound (MP3), not an image"),
        (b"FUJIFILMCCD-RAW 0201FF", "a RAW photograph (Fujifilm) without a preview"),
        (b"8BPS\0\x02" + bytes(40), "a large Photoshop file (PSB); convert it to PNG first"),
        (b"data:image/png;base64,iVBORw0KGgo", "an image in base64; decode it first"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(90), "an Office document or a thumbnail database, not an image"),
        (b"II\xbc\x01" + bytes(40), "a JPEG XR image; convert it to PNG first"),
        (b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + bytes(12), "a PAM image; convert it to PNG first"),
        (b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\2\0\0\0\2\0\x10\0\3", "a Photoshop file of 16 or 32 bits; convert"),
        (b"\x7fELF\x02\x01\x01" + bytes(90), "a program, not an image"),
        (bytes(257) + b"ustar\0" + bytes(249), "a tar archive, not an image"),
        (b"\x89PNG\n\x1a\n\0\0\0\x0dIHDR", "an image damaged by a copy as text"),
        (b"\xff", "too short for an image (1 byte)"),
        (bytes(40), "nothing but zero bytes"),
        (b"\x01\x02\x03\xfe" * 9, "not an image that Pillow can read"),
    ],
)
def test_a_file_that_is_something_else_is_named(content: bytes, reason: str) -> None:
    found = reason_for(content)
    assert found.startswith(reason)
    assert found.endswith("; make images of it first (ffmpeg -i VIDEO %04d.png)") == ("video" in reason)
    assert found.count("ffmpeg") <= 1


def test_a_file_of_endless_small_boxes_is_given_up_soon() -> None:
    start = time.monotonic()
    boxes = b"\0\0\0\x08free" * 300_000
    assert reason_for(b"\0\0\0\x10ftypavif\0\0\0\0" + boxes).startswith("an AVIF file, damaged")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("part", [b"<!---->", b"<!--", b"<?xml", b"<!DOCTYPE svg>", b"[", b"G", b" ", b"\0"])
def test_no_text_makes_the_search_for_a_name_slow(part: bytes) -> None:
    start = time.monotonic()
    for content in (part * 500, b"<!-- -->" + part * 500, b"<?xml ?>" + part * 500):
        assert reason_for(content)
    assert time.monotonic() - start < 1


def test_details_are_one_short_printable_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ValueError("bad\n\x1b[31mtoken " + "x" * 500)

    monkeypatch.setattr(Image, "open", fail)
    assert reason_for(b"P6 1 1 255 abc") == f"the image data is damaged (bad ?[31mtoken {'x' * 85})"


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (MemoryError(), "too large for the memory of this machine"),
        (OSError(5, "Input/output error"), "input/output error"),
        (RecursionError(), "the image data is damaged (RecursionError)"),
    ],
)
def test_other_failures(monkeypatch: pytest.MonkeyPatch, problem: BaseException, reason: str) -> None:
    def fail(*arguments: object) -> None:
        raise problem

    monkeypatch.setattr(Image, "open", fail)
    assert reason_for(b"P6 1 1 255 abc") == reason


# too many pixels


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def test_the_limit_is_pillows_own() -> None:
    assert 2 * (Image.MAX_IMAGE_PIXELS or 0) == MAX_PIXELS == 178_956_970
    reason = "1,000,000,000 pixels, more than the limit of 178,956,970 (--max-pixels)"
    assert reason_for(png_header(50_000, 20_000)) == reason


def test_an_image_of_just_as_many_pixels_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.fromarray(noise(40, 30)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own setting neither refuses nor warns
    assert read_image(io.BytesIO(content), Decoding(max_pixels=1200)).size == (40, 30)
    reason = "1,200 pixels, more than the limit of 1,199 (--max-pixels)"
    assert reason_for(content, max_pixels=1199) == reason
    assert reason_for(saved(Image.fromarray(noise(40, 30)), "JPEG"), max_pixels=1199) == reason


def test_a_limit_above_pillows_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    content = saved(Image.new("1", (50, 50)), "TIFF", compression="group4")
    assert read_image(io.BytesIO(content), Decoding(max_pixels=2500)).size == (50, 50)
    with pytest.raises(Image.DecompressionBombError), Image.open(io.BytesIO(content)):
        pass  # for everyone else it holds as before


def test_pillow_still_asks_the_private_function_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit depends on Image._decompression_bomb_check; this fails with a Pillow that has it no more."""
    assert _pillows_check.__module__ == "PIL.Image"
    with pytest.raises(Image.DecompressionBombError):
        _pillows_check((50_000, 20_000))
    asked = []
    monkeypatch.setattr(Image, "_decompression_bomb_check", lambda size, **options: asked.append(size))
    Image.open(io.BytesIO(png_header(50_000, 20_000))).close()
    assert asked == [(50_000, 20_000)]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "ICO", "GIF", "WEBP", "AVIF", "MPO", "TIFF", "ICNS"])
def test_the_limit_holds_in_every_format_and_inside_containers(kind: str) -> None:
    """An image of 4096 pixels; the headers of some containers do not say so, or say it late."""
    image = Image.fromarray(noise(64, 64))
    png = saved(image, "PNG")
    contents = {
        "ICO": struct.pack("<HHHBBBBHHII", 0, 1, 1, 8, 8, 0, 0, 1, 32, len(png), 22) + png,
        "GIF": saved(image, "GIF").replace(b"a\x40\0\x40\0", b"a\x08\0\x08\0", 1),  # a screen smaller than its frame
        "ICNS": b"icns" + struct.pack(">I4sI", 16 + len(png), b"icp4", 8 + len(png)) + png,
    }
    content = contents.get(kind) or saved(image, kind)
    assert reason_for(content, max_pixels=4095) == "4,096 pixels, more than the limit of 4,095 (--max-pixels)"


def test_every_thread_has_a_limit_of_its_own() -> None:
    contents = [saved(Image.new("RGB", (side, side)), "PNG") for side in range(10, 60)]

    def read(content: bytes, limit: int) -> str:
        try:
            return str(read_image(io.BytesIO(content), Decoding(max_pixels=limit)).width ** 2)
        except UnreadableImage as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(read, contents * 4, [500, 1000, 2000, 3600] * 50))
    for i, answer in enumerate(answers):
        pixels, limit = (10 + i % 50) ** 2, [500, 1000, 2000, 3600][i % 4]
        refusal = f"{pixels:,} pixels, more than the limit of {limit:,} (--max-pixels)"
        assert answer == (str(pixels) if pixels <= limit else refusal)


# silence


def test_warnings_and_logs_of_pillow_stay_away(capfd: pytest.CaptureFixture[str]) -> None:
    bytes_of_exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\0\0\0\xff\xff\xff\x7f"
    content = saved(Image.fromarray(noise()), "JPEG", exif=bytes_of_exif)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_image(io.BytesIO(content)).size == (40, 30)
        Image.Exif().load(bytes_of_exif)
    assert caught == []
    logging.getLogger("PIL.TiffImagePlugin").error("would go to stderr where logging is not set up")
    assert capfd.readouterr().err == ""


def test_decoding_in_threads_keeps_warnings_quiet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.fromarray(noise(40, 30)).save("large.png")
    with ThreadPoolExecutor(4) as pool:
        assert {image.size for image in pool.map(decode, ["large.png"] * 40)} == {(40, 30)}


def test_a_decoding_process_starts_without_heavy_imports() -> None:
    heavy = ["numpy", "torch", "ctypes", "subprocess", "PIL.ImageCms", "pillow_heif"]
    code = f"import sys, zeroshot_cli.images.decode; print([name for name in {heavy} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_a_process_of_many_decodes_avif_with_one_thread() -> None:
    code = "from zeroshot_cli.images.decode import single_threaded as s; s(); from PIL import AvifImagePlugin as a; "
    code += "print(a._get_default_max_threads())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "1"


def test_an_old_pillow_without_avif_has_no_threads_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("PIL.AvifImagePlugin", raising=False)
    monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
    single_threaded()


# upright


UPRIGHT_SIDES = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left"}
UPRIGHT_SIDES |= {5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom"}


def stored_for(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Exif 2.3, 4.6.4: which side of the image row 0 and column 0 of the file are."""
    rows, columns = UPRIGHT_SIDES[orientation].split()
    stored = upright if rows in ("top", "bottom") else upright.transpose(1, 0, 2)
    if "bottom" in (rows, columns):
        stored = stored[::-1] if rows == "bottom" else stored[:, ::-1]
    if "right" in (rows, columns):
        stored = stored[:, ::-1] if columns == "right" else stored[::-1]
    return np.ascontiguousarray(stored)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


OPTIONS = {
    "a.jpg": {"quality": 100, "subsampling": 0},
    "a.webp": {"lossless": True},
    "a.avif": {"quality": 100, "subsampling": "4:4:4"},
    "a.heic": {"quality": -1, "chroma": 444},
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.avif", "a.heic"])
def test_exif_rotation(folder: Path, orientation: int, name: str) -> None:
    import pillow_heif

    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # white in the top left corner of what people are to see
    image = Image.fromarray(stored_for(upright, orientation))
    if name == "a.heic":  # it keeps the turn in its own box beside the Exif; once is enough
        pillow_heif.from_pillow(image).save(name, exif=oriented(orientation).tobytes(), **OPTIONS[name])
    else:
        image.save(name, exif=oriented(orientation), **OPTIONS.get(name, {}))
    np.testing.assert_allclose(np.asarray(decode(name)).astype(int), upright, atol=3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_changes_nothing(folder: Path, orientation: int) -> None:
    Image.fromarray(noise()).save("a.png", exif=oriented(orientation))
    np.testing.assert_array_equal(np.asarray(decode("a.png")), noise())


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage that is no header",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\0\0\0\xff\xff\xff\x7f",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0",
    ],
)
@pytest.mark.parametrize("reduce_to", [None, lambda height, width: (5, 5)])
def test_corrupt_exif_does_not_lose_the_image(exif: bytes, reduce_to: Callable[[int, int], tuple[int, int]]) -> None:
    content = saved(Image.fromarray(noise()), "JPEG", exif=exif)
    assert read_image(io.BytesIO(content), reduce_to=reduce_to).size == ((20, 15) if reduce_to else (40, 30))


# JPEG at a smaller scale


def photograph(width: int, height: int) -> Image.Image:
    """Waves of several lengths, as a lens gives them: without detail of single pixels."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = [np.sin(20 * x + 9 * y), np.cos(31 * x * y), np.sin(45 * (x - y) ** 2)]
    return Image.fromarray(np.stack([127 + 90 * wave for wave in waves], axis=-1).astype(np.uint8))


def to_224(height: int, width: int) -> tuple[int, int]:
    """The shortest edge to 224, as CLIP's preprocessing."""
    ratio = 224 / min(height, width)
    return round(height * ratio), round(width * ratio)


def test_a_jpeg_is_decoded_exactly_unless_told(folder: Path) -> None:
    Image.fromarray(noise(1600, 1200)).save("a.jpg")
    with Image.open("a.jpg") as expected:
        np.testing.assert_array_equal(np.asarray(decode("a.jpg")), np.asarray(expected))


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((448, 600), (448, 600)),
        ((895, 895), (895, 895)),  # a half would be 447.5: less than twice 224
        ((896, 1200), (448, 600)),
        ((1203, 901), (602, 451)),  # a half, rounded up as libjpeg does
        ((1791, 1791), (896, 896)),
        ((1793, 2400), (449, 600)),
        ((3585, 4000), (449, 500)),
        ((9000, 3584), (1125, 448)),
        ((10, 3000), (10, 3000)),
    ],
)
def test_the_smallest_scale_of_at_least_twice_the_size(size: tuple[int, int], decoded: tuple[int, int]) -> None:
    content = saved(Image.new("RGB", size), "JPEG")
    assert read_image(io.BytesIO(content), reduce_to=to_224).size == decoded


@pytest.mark.parametrize(("orientation", "decoded"), [(1, (1000, 250)), (3, (1000, 250)), (6, (250, 1000))])
def test_the_size_meant_is_that_of_the_upright_image(orientation: int, decoded: tuple[int, int]) -> None:
    """Wide and low, whichever way it is stored; squashed to 100 × 400 a quarter is enough, else a half would do."""
    upright = np.zeros((1000, 4000, 3), np.uint8) if orientation != 6 else np.zeros((4000, 1000, 3), np.uint8)
    content = saved(Image.fromarray(stored_for(upright, orientation)), "JPEG", exif=oriented(orientation))
    seen = []

    def reduce_to(height: int, width: int) -> tuple[int, int]:
        seen.append((height, width))
        return (100, 400) if width > height else (400, 100)

    assert read_image(io.BytesIO(content), reduce_to=reduce_to).size == decoded
    assert seen == [upright.shape[:2]]


@pytest.mark.parametrize("orientation", [1, 8])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_a_smaller_scale_looks_the_same(kind: str, mode: str, orientation: int) -> None:
    image = photograph(2000, 1500).convert(mode)
    options = {"save_all": True, "append_images": [image.resize((99, 99))]} if kind == "MPO" else {}
    content = saved(image, kind, exif=oriented(orientation), **options)
    exact = read_image(io.BytesIO(content))
    small = read_image(io.BytesIO(content), reduce_to=to_224)
    assert small.size == ((1000, 750) if orientation == 1 else (750, 1000))  # a quarter would be 375 < 448
    height, width = to_224(exact.height, exact.width)
    both = [np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)) for image in (exact, small)]
    assert np.abs(both[0].astype(int) - both[1]).mean() < 0.5


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_other_formats_are_always_decoded_at_full_scale(kind: str) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    content = saved(Image.new("RGB", (1000, 1000)), kind)
    assert read_image(io.BytesIO(content), reduce_to=to_224).size == (1000, 1000)


@pytest.mark.parametrize("wanted", [(0, 0), (1, 1), (10**6, 10**6)])
def test_sizes_that_ask_for_nothing_or_too_much(wanted: tuple[int, int]) -> None:
    content = saved(Image.new("RGB", (64, 64)), "JPEG")
    small = read_image(io.BytesIO(content), reduce_to=lambda height, width: wanted)
    assert small.size == ((64, 64) if wanted[0] > 64 else (8, 8))


# HEIC


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_heic(folder: Path) -> None:
    """In a process of its own: nothing else there has told Pillow about the format."""
    import pillow_heif

    for name, mode, colour in (("a.heic", "RGB", (200, 40, 90)), ("a.hif", "RGBA", (0, 0, 0, 0)), ("b.heif", "L", 60)):
        image = Image.new(mode, (64, 48), colour)
        pillow_heif.from_pillow(image).save(name, format="HEIF", quality=-1, chroma=444)
    code = "import sys; from zeroshot_cli.images.decode import decode\n"
    code += "for name in sys.argv[1:]: image = decode(name); print(image.size, image.getpixel((30, 20)))"
    command = [sys.executable, "-W", "error", "-c", code, "a.heic", "a.hif", "b.heif"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for line, colour in zip(lines, [(200, 40, 90), (255, 255, 255), (60, 60, 60)], strict=True):
        size, pixel = line[:8], [int(level) for level in line[9:].strip("()").split(",")]
        assert size == "(64, 48)"
        np.testing.assert_allclose(pixel, colour, atol=2)


def test_heic_is_read_as_long_as_it_is_whole(folder: Path) -> None:
    import pillow_heif

    pillow_heif.from_pillow(Image.fromarray(noise(200, 100))).save("a.heic")
    content = Path("a.heic").read_bytes()
    assert reason_for(content[:-500]) == "the file is truncated"
    assert reason_for(content, max_pixels=19_999) == "20,000 pixels, more than the limit of 19,999 (--max-pixels)"
    assert reason_for(HEIC).startswith("a HEIC file, damaged")


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1", b"hevc"])
def test_heic_without_its_package(monkeypatch: pytest.MonkeyPatch, brand: bytes) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    content = HEIC.replace(b"heic", brand, 1)
    assert reason_for(content) == "HEIC needs an extra package: pip install 'zeroshot-cli[heic]'"


def test_avif_of_the_shared_brand_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    content = saved(Image.new("RGB", (16, 16), "red"), "AVIF").replace(b"ftypavif", b"ftypmif1")
    assert b"avif" in content[16:32]
    assert read_image(io.BytesIO(content)).size == (16, 16)


def test_a_pillow_without_a_format_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.new("RGB", (16, 16)), "AVIF")
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF")
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind not in ("AVIF", "HEIF")])
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    assert reason_for(content) == "AVIF needs another Pillow: pip install --upgrade --force-reinstall pillow"


def test_this_pillow_has_what_the_tests_are_about() -> None:
    assert all(features.check(name) for name in ("avif", "webp", "jpg_2000", "libtiff"))


# as data sets are read by others


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_as_stored_exif_turns_nothing(folder: Path, orientation: int) -> None:
    stored = photograph(40, 30)
    stored.save("x.jpg", exif=oriented(orientation))
    with open_regular("x.jpg") as file:
        image = read_image(file, Decoding(as_stored=True))
    assert np.array_equal(image, Image.open("x.jpg").convert("RGB"))
    assert image.size == (40, 30)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "I;16", "CMYK"])
def test_as_stored_rgb_is_what_pillow_makes_of_it(folder: Path, mode: str) -> None:
    image = Image.fromarray(noise(channels=4), "RGBA") if mode in ("RGBA", "LA") else photograph(40, 30)
    name = "x.tif" if mode == "CMYK" else "x.png"
    image.convert("L" if mode == "I;16" else mode).convert(mode).save(name)
    with open_regular(name) as file:
        assert np.array_equal(read_image(file, Decoding(as_stored=True)), Image.open(name).convert("RGB"))

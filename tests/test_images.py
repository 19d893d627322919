import io
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroshot_cli.errors import DataError, UnreadableImage
from zeroshot_cli.images import IMAGE_SUFFIXES, decode, find_images, to_rgb
from zeroshot_cli.records import SkippedImage

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that any user of the machine can walk into, which pytest's own is not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def not_root() -> Iterator[None]:
    """Give up root's right to read everything for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


# finding


def test_folders_are_recursive_sorted_by_path_and_count_other_files(folder: Path) -> None:
    touch("p/b.jpg", "p/a/z.PNG", "p/a/notes.txt", "p/c.webp", "p/B.jpeg", "p/.DS_Store", "p/none/readme.md", "p/jpg")
    found = find_images(["p"])
    assert found.items == ("p/B.jpeg", "p/a/z.PNG", "p/b.jpg", "p/c.webp")
    assert found.ignored == 4


def test_order_is_that_of_the_inputs_and_paths_stay_as_given(folder: Path) -> None:
    touch("p/b.jpg", "p/a.jpg", "z.jpg", "label")
    found = find_images(["z.jpg", "./p/", "label", str(folder / "p" / ".." / "z.jpg")])
    assert found.items == ("z.jpg", "./p/a.jpg", "./p/b.jpg", "label", f"{folder}/p/../z.jpg")


def test_an_input_named_twice_is_one_row(folder: Path) -> None:
    touch("p/a.jpg", "p/b.jpg")
    found = find_images(["p/b.jpg", "./p/b.jpg", "p", str(folder / "p"), "p//a.jpg", "no.jpg", "./no.jpg", "p/*.jpg"])
    assert found.items == ("p/b.jpg", "p/a.jpg", SkippedImage("no.jpg", "no such file"))


def test_missing_inputs_are_rows(folder: Path) -> None:
    touch("a.jpg")
    inputs = ["no.jpg", "a.jpg/b.jpg", "", "nul\0.jpg", "no/*.jpg", "a.jpg"]
    assert find_images(inputs).items == (
        *(SkippedImage(name, "no such file") for name in inputs[:4]),
        SkippedImage("no/*.jpg", "no file matches this pattern"),
        "a.jpg",
    )


def test_globs(folder: Path) -> None:
    touch("p/b.jpg", "p/a.jpg", "p/c.txt", "p/q/d.jpg", "p/q/r/e.jpg", "p/[x].jpg", "x.jpg", "p/x.jpg")
    assert find_images(["p/?.*"]).items == ("p/a.jpg", "p/b.jpg", "p/c.txt", "p/x.jpg")
    assert find_images(["p/[x].jpg"]).items == ("p/[x].jpg",)  # a file of that very name comes first
    assert find_images(["p/[ab].jpg", "p/q*"]).items == ("p/a.jpg", "p/b.jpg", "p/q/d.jpg", "p/q/r/e.jpg")
    assert find_images(["p/**/[de].jpg"]).items == ("p/q/d.jpg", "p/q/r/e.jpg")
    assert find_images(["**/x.jpg"]).items == ("p/x.jpg", "x.jpg")
    assert find_images([f"{folder}/**/r/**/e.jpg"]).items == (f"{folder}/p/q/r/e.jpg",)
    everything = {"p/[x].jpg", "p/a.jpg", "p/b.jpg", "p/q/d.jpg", "p/q/r/e.jpg", "p/x.jpg"}
    assert set(find_images(["p/**"]).items) == everything


def test_stdin(folder: Path) -> None:
    touch("a b.jpg", "p/c.jpg", "[x].jpg", "new\nline.jpg", "return\r")
    stream = io.BytesIO(b"a b.jpg\r\n\np\nno.jpg\n[x].jpg\n*.jpg\nreturn\r")
    missing = [SkippedImage(name, "no such file") for name in ("no.jpg", "*.jpg")]
    expected = ("first.jpg", "a b.jpg", "p/c.jpg", missing[0], "[x].jpg", missing[1], "return\r")
    touch("first.jpg")
    assert find_images(["first.jpg", "-"], stdin=stream).items == expected
    stream = io.BytesIO(b"new\nline.jpg\0a b.jpg\0")
    assert find_images(["-"], stdin=stream, null_separated=True).items == ("new\nline.jpg", "a b.jpg")


def test_names_of_any_bytes(folder: Path) -> None:
    name = b"caf\xe9 \xff\n.jpg"
    Image.new("RGB", (2, 3), "red").save(folder / "a.png")
    (folder / "a.png").rename(os.fsdecode(bytes(folder) + b"/" + name))
    (path,) = find_images(["."]).items
    assert isinstance(path, str)
    assert os.fsencode(path) == b"./" + name
    assert decode(path).size == (2, 3)
    assert find_images(["-"], stdin=io.BytesIO(name + b"\0"), null_separated=True).items == (os.fsdecode(name),)


def test_loops_of_links_end_and_pictures_go_by_their_own_path(folder: Path) -> None:
    touch("p/z/a.jpg", "out/b.jpg")
    Path("p/a-link").symlink_to("z")
    Path("p/z/up").symlink_to("../../p")
    Path("p/z/self").symlink_to("self")
    Path("p/z/self.jpg").symlink_to("self.jpg")
    Path("p/out1").symlink_to("../out")
    Path("p/out2").symlink_to("../out")
    assert find_images(["p"]).items == ("p/out1/b.jpg", "p/z/a.jpg", "p/z/self", "p/z/self.jpg")
    assert find_images(["p/**/*.jpg"]).items == ("p/out1/b.jpg", "p/z/a.jpg", "p/z/self.jpg")
    with pytest.raises(UnreadableImage, match=r"^a link that leads back to itself$"):
        decode("p/z/self.jpg")


def test_a_dangling_link_in_a_folder_is_a_row(folder: Path) -> None:
    touch("p/a.jpg")
    for name in ("p/b.jpg", "p/folder", "p/notes.txt"):
        Path(name).symlink_to("nowhere")
    found = find_images(["p", "p/b.jpg"])
    assert found.items == ("p/a.jpg", "p/b.jpg", "p/folder")
    assert found.ignored == 1
    for name in found.items[1:]:
        with pytest.raises(UnreadableImage, match=r"^a dangling link$"):
            decode(str(name))


def test_folders_and_files_without_rights(public_folder: Path) -> None:
    root = public_folder
    for name in ("a.png", "locked/b.png", "sub/shut/c.png", "d.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(root / name)
    (root / "through").symlink_to("locked/b.png")
    locked = [root / "a.png", root / "locked", root / "sub" / "shut"]
    for path in locked:
        path.chmod(0)
    try:
        with not_root():
            found = find_images([str(root), str(root / "locked" / "b.png")])
            for path in (root / "a.png", root / "locked" / "b.png", root / "through"):
                with pytest.raises(UnreadableImage, match=r"^permission denied$"):
                    decode(str(path))
            assert decode(str(root / "d.png")).size == (2, 2)
    finally:
        for path in locked:
            path.chmod(stat.S_IRWXU)
    assert found.items == (
        f"{root}/a.png",
        f"{root}/d.png",
        SkippedImage(f"{root}/locked", "permission denied"),
        SkippedImage(f"{root}/sub/shut", "permission denied"),
        f"{root}/through",
        f"{root}/locked/b.png",
    )


@pytest.mark.parametrize("inputs", [[], ["p"], ["-"], ["p", "q"]])
def test_no_image_at_all_is_an_error(folder: Path, inputs: list[str]) -> None:
    touch("p/a.txt", "q/b.md")
    with pytest.raises(DataError, match=r"no image found in .*; give image files, or a folder"):
        find_images(inputs, stdin=io.BytesIO(b"\n"))


def test_suffixes_are_lower_case_with_dot() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tiff", ".heic"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


# decoding


def noise(width: int = 40, height: int = 30, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def cut(path: Path, part: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.tif", "a.bmp"])
def test_truncated_files(folder: Path, name: str, part: float) -> None:
    Image.fromarray(noise(200, 150)).save(name)
    cut(Path(name), part)
    with pytest.raises(UnreadableImage, match=r"^the file is truncated$"):
        decode(name)


def make_empty(path: Path) -> None:
    path.touch()


def make_text(path: Path) -> None:
    path.write_text("not a picture, only some words\n" * 9)


def make_postscript(path: Path) -> None:
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)  # relative: a socket's path must be short


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_empty, "the file is empty"),
        (make_text, "not an image that Pillow can read"),
        (make_postscript, "PostScript, not an image"),
        (lambda path: path.mkdir(), "a folder, not a file"),
        (lambda path: os.mkfifo(path), "a pipe, not a file"),
        (make_socket, "a socket, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "a device, not a file"),
        (lambda path: path.symlink_to("nowhere"), "a dangling link"),
        (lambda path: None, "no such file"),
    ],
    ids=["empty", "text", "postscript", "folder", "fifo", "socket", "device", "dangling", "missing"],
)
def test_what_is_no_picture_has_a_plain_reason(folder: Path, make: Callable[[Path], None], reason: str) -> None:
    make(folder / "a.jpg")
    with pytest.raises(UnreadableImage) as caught:
        decode("a.jpg")
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("path", "reason"),
    [("nul\0.jpg", "no such file"), ("a" * 999, "the path is too long"), ("a.txt/b.jpg", "no such file")],
)
def test_paths_that_cannot_be(folder: Path, path: str, reason: str) -> None:
    touch("a.txt")
    with pytest.raises(UnreadableImage) as caught:
        decode(path)
    assert str(caught.value) == reason


def test_damaged_data_has_a_reason_of_one_line(folder: Path) -> None:
    Image.fromarray(noise()).save("a.png")
    data = bytearray(Path("a.png").read_bytes())
    start = data.index(b"IDAT") + 40
    data[start : start + 60] = bytes(60)
    Path("a.png").write_bytes(data)
    with pytest.raises(UnreadableImage, match=r"^the (image data is damaged \(.*\)|file is truncated)$"):
        decode("a.png")


def bmp_header(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def test_far_too_many_pixels(folder: Path) -> None:
    Path("bomb.bmp").write_bytes(bmp_header(20_000, 20_000))
    with pytest.raises(UnreadableImage, match=r"^more than 178,956,970 pixels$"):
        decode("bomb.bmp")


def test_a_large_picture_below_the_limit_is_read_without_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns from here and refuses from twice as many
    Image.fromarray(noise(40, 30)).save("large.png")
    assert decode("large.png").size == (40, 30)
    Image.fromarray(noise(50, 50)).save("larger.png")
    with pytest.raises(UnreadableImage, match=r"^more than 2,000 pixels$"):
        decode("larger.png")


def test_decoding_in_threads_keeps_warnings_quiet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.fromarray(noise(40, 30)).save("large.png")
    with ThreadPoolExecutor(4) as pool:
        assert {image.size for image in pool.map(decode, ["large.png"] * 40)} == {(40, 30)}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_exif_rotation(folder: Path, orientation: int, name: str) -> None:
    """Exif 2.3, 4.6.4: which side of the picture row 0 and column 0 of the file are."""
    sides = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left"}
    sides |= {5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom"}
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # white in the top left corner of what people are to see
    rows, columns = sides[orientation].split()
    stored = upright if rows in ("top", "bottom") else upright.transpose(1, 0, 2)
    if "bottom" in (rows, columns):
        stored = stored[::-1] if rows == "bottom" else stored[:, ::-1]
    if "right" in (rows, columns):
        stored = stored[:, ::-1] if columns == "right" else stored[::-1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if name == "a.jpg" else {"lossless": True} if name == "a.webp" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(name, exif=exif, **options)
    np.testing.assert_allclose(np.asarray(decode(name)).astype(int), upright, atol=2)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_changes_nothing(folder: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise()).save("a.png", exif=exif)
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
def test_corrupt_exif_does_not_lose_the_picture(folder: Path, exif: bytes) -> None:
    stream = io.BytesIO()
    Image.fromarray(noise()).save(stream, "JPEG", exif=exif)
    Path("a.jpg").write_bytes(stream.getvalue())
    assert decode("a.jpg").size == (40, 30)


def test_a_jpeg_is_decoded_exactly(folder: Path) -> None:
    Image.fromarray(noise(400, 300)).save("a.jpg")
    with Image.open("a.jpg") as expected:
        np.testing.assert_array_equal(np.asarray(decode("a.jpg")), np.asarray(expected))


def test_the_first_frame_counts(folder: Path) -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.png", "a.webp", "a.tif"):
        frames[0].save(name, save_all=True, append_images=frames[1:])
        image = decode(name)
        assert (image.mode, image.size) == ("RGB", (5, 4))
        assert max(abs(a - b) for a, b in zip(image.getpixel((2, 2)), (255, 0, 0), strict=True)) <= 3


# modes


def palette(transparency: int | bytes | None) -> Image.Image:
    """Red, green and blue side by side."""
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def through_png(image: Image.Image, **options: object) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return Image.open(stream)


def pixels(image: Image.Image) -> list[tuple[int, ...]]:
    assert image.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGB", (1, 1), RED), [RED]),
        (Image.new("RGBA", (1, 1), (0, 0, 0, 0)), [WHITE]),
        (Image.new("RGBA", (1, 1), (0, 0, 0, 51)), [(204, 204, 204)]),  # a fifth of black on white
        (Image.new("RGBA", (1, 1), (255, 0, 0, 255)), [RED]),
        (Image.new("RGBa", (1, 1), (51, 0, 0, 51)), [(255, 204, 204)]),  # premultiplied red
        (Image.new("LA", (1, 1), (0, 51)), [(204, 204, 204)]),
        (Image.new("La", (1, 1), (0, 51)), [(204, 204, 204)]),
        (Image.new("PA", (1, 1)), [WHITE]),
        (Image.new("L", (1, 1), 7), [(7, 7, 7)]),
        (Image.new("1", (1, 1), 1), [WHITE]),
        (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), [RED]),
        (Image.new("HSV", (1, 1), (0, 255, 255)), [RED]),
        (Image.new("YCbCr", (1, 1), (255, 128, 128)), [WHITE]),
        (palette(None), [RED, GREEN, BLUE]),
        (palette(1), [RED, WHITE, BLUE]),
        (palette(b"\0\xff\xcc"), [WHITE, GREEN, (51, 51, 255)]),
        (through_png(palette(None), transparency=b"\0\xff\xcc"), [WHITE, GREEN, (51, 51, 255)]),
        (through_png(Image.new("RGB", (1, 1), RED), transparency=RED), [WHITE]),
        (through_png(Image.new("L", (1, 1), 9), transparency=9), [WHITE]),
        (through_png(Image.new("1", (1, 1), 0), transparency=0), [WHITE]),
        (through_png(Image.new("1", (1, 1), 0)), [BLACK]),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_mode_becomes_rgb_on_white(image: Image.Image, expected: list[tuple[int, ...]]) -> None:
    assert pixels(to_rgb(image)) == expected


def gray(values: list[float], kind: str) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=kind))


@pytest.mark.parametrize(
    ("image", "levels"),
    [
        (gray([0, 128, 257, 32768, 65535], "uint16"), [0, 0, 1, 128, 255]),  # 128 / 257 is just under a half
        (through_png(gray([0, 257 * 200, 65535], "uint16")), [0, 200, 255]),
        (gray([0, 100, 255], "int32"), [0, 100, 255]),
        (gray([-5, 257 * 200, 65535], "int32"), [0, 200, 255]),
        (gray([0, 100_000, 200_000], "int32"), [0, 128, 255]),
        (gray([0, 0.2, 1], "float32"), [0, 51, 255]),
        (gray([0, 51.2, 255], "float32"), [0, 51, 255]),
        (gray([0, float("nan"), 257 * 200], "float32"), [0, 0, 200]),
        (gray([0, 0], "float32"), [0, 0]),
    ],
)
def test_gray_of_more_than_eight_bits_is_scaled(image: Image.Image, levels: list[int]) -> None:
    assert pixels(to_rgb(image)) == [(level,) * 3 for level in levels]


def test_big_endian_sixteen_bits(folder: Path) -> None:
    data = struct.pack(">3H", 0, 257 * 200, 65535)
    assert pixels(to_rgb(Image.frombytes("I;16B", (3, 1), data))) == [(0,) * 3, (200,) * 3, (255,) * 3]

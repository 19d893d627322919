"""JPEG of every process that imagecodecs writes, and JPEG that ends too early."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.decode import Decoding, read_image
from zeroshot_cli.images.rescue import NOTE, TRUNCATED
from zeroshot_cli.records import Truncated

LENIENT = Decoding(truncated=Truncated.READ)


def waves(width: int = 200, height: int = 150) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    layers = [np.sin(20 * x + 9 * y), np.cos(31 * x * y), np.sin(45 * (x - y) ** 2)]
    return np.stack([127 + 90 * layer for layer in layers], axis=-1).astype(np.uint8)


def saved(kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(waves()).save(stream, kind, **options)
    return stream.getvalue()


def read(content: bytes, how: Decoding = LENIENT, **options: object) -> Image.Image:
    return read_image(io.BytesIO(content), how, **options)


def refused(content: bytes, how: Decoding = Decoding()) -> str:  # noqa: B008
    with pytest.raises(UnreadableImage) as caught:
        read_image(io.BytesIO(content), how)
    return str(caught.value)


DEEP = waves().astype(np.uint16) * 16
KINDS = [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 0}, {"quality": 100}]


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("cut", [1, 2])
def test_without_its_last_two_bytes_every_pixel_is_there(options: dict[str, object], cut: int) -> None:
    content = saved(**options)
    for reduce_to in (None, lambda height, width: (20, 25)):
        whole, left = (read(part, Decoding(), reduce_to=reduce_to) for part in (content, content[:-cut]))
        np.testing.assert_array_equal(np.asarray(left), np.asarray(whole))
        assert NOTE not in left.info


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("cut", [12, 60, 1000])
def test_without_more_it_is_truncated_or_read_with_a_note(options: dict[str, object], cut: int) -> None:
    content = saved(**options)
    assert refused(content[:-cut]) == "the file is truncated"
    image = read(content[:-cut])
    assert image.info[NOTE] == TRUNCATED
    np.testing.assert_array_equal(
        np.asarray(image)[:32], np.asarray(read(content))[:32]
    ) if "progressive" not in options else None


def test_a_progressive_jpeg_without_its_last_scan_is_truncated() -> None:
    """Each scan before it is whole, so no bits of it are wanting."""
    content = saved(progressive=True)
    last = content.rindex(b"\xff\xda")
    assert refused(content[:last]) == "the file is truncated"
    assert read(content[:last]).info[NOTE] == TRUNCATED


def test_with_nothing_but_a_header_there_is_no_image() -> None:
    content = saved()
    scan = content.index(b"\xff\xda")
    start = scan + 2 + struct.unpack(">H", content[scan + 2 : scan + 4])[0]
    assert refused(content[:start], LENIENT) == "the file is truncated"


@pytest.mark.parametrize(
    ("kind", "options", "read_as_well"),
    [("PNG", {}, True), ("GIF", {}, True), ("BMP", {}, True), ("WEBP", {}, False)],
)
def test_other_formats_that_are_cut_off(kind: str, options: dict[str, object], read_as_well: bool) -> None:
    content = saved(kind, **options)
    cut = content[: len(content) * 2 // 3]
    assert refused(cut) == "the file is truncated"
    if not read_as_well:
        assert refused(cut, LENIENT) == "the file is truncated"
        return
    image = read(cut)
    assert image.info[NOTE] == TRUNCATED
    rows = slice(-40, None) if kind == "BMP" else slice(40)  # BMP begins with the lowest
    np.testing.assert_array_equal(np.asarray(image)[rows], np.asarray(read(content))[rows])


@pytest.mark.parametrize("options", [{"optimize": True}, {"compress_level": 0}])
def test_a_png_without_its_end_has_every_pixel(options: dict[str, object]) -> None:
    content = saved("PNG", **options)
    np.testing.assert_array_equal(np.asarray(read(content[:-12], Decoding())), waves())


def test_lossless_jpeg_is_read_whole_at_a_smaller_scale() -> None:
    content = imagecodecs.jpeg8_encode(waves(), lossless=True)
    small = read(content, Decoding(), reduce_to=lambda height, width: (20, 25))
    np.testing.assert_array_equal(np.asarray(small), waves())


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (imagecodecs.jpeg8_encode(DEEP, bitspersample=12), "a 12-bit JPEG"),
        (imagecodecs.jpeg8_encode(DEEP, bitspersample=12, lossless=True), "a lossless 12-bit JPEG"),
        (imagecodecs.jpegls_encode(waves()), "a JPEG-LS"),
        (imagecodecs.jpegls_encode(waves()[..., 0]), "a JPEG-LS"),
        (imagecodecs.ljpeg_encode(waves()[..., 0].astype(np.uint16) * 200, bitspersample=16), "a lossless 16-bit JPEG"),
    ],
)
def test_a_kind_that_cannot_be_read_is_named(content: bytes, kind: str) -> None:
    for how in (Decoding(), LENIENT):
        assert refused(content, how) == f"{kind}, which cannot be read; convert it to PNG first"


@pytest.mark.parametrize("options", [{}, {"reversible": True}, {"level": 80}, {"codecformat": "j2k"}])
def test_jpeg_2000(options: dict[str, object]) -> None:
    content = imagecodecs.jpeg2k_encode(waves(), **options)
    expected = imagecodecs.jpeg2k_decode(content)
    assert np.abs(np.asarray(read(content, Decoding())).astype(int) - expected).max() <= 1


def test_jpeg_2000_of_sixteen_bits() -> None:
    deep = waves()[..., 0].astype(np.uint16) * 257
    shown = np.asarray(read(imagecodecs.jpeg2k_encode(deep, reversible=True), Decoding()))
    assert np.abs(shown[..., 0].astype(int) - waves()[..., 0]).max() <= 1


@pytest.mark.parametrize("transform", [0, 2])
def test_adobe_cmyk_is_inverted_once(transform: int) -> None:
    """Photoshop stores CMYK and YCCK inverted, with a marker; red is cyan 0, magenta and yellow full, black 0."""
    stream = io.BytesIO()
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(stream, "JPEG", quality=100, subsampling=0)
    content = stream.getvalue()
    if transform == 2:
        content = imagecodecs.jpeg8_encode(
            np.full((32, 32, 4), (255, 0, 0, 255), np.uint8), colorspace="CMYK", outcolorspace="YCCK", level=100
        )
    assert b"Adobe" in content
    assert np.abs(np.asarray(read(content, Decoding())).astype(int) - (255, 0, 0)).max() <= 3

"""RAW previews and JPEG XL: with the package, and the way out without it."""

import io
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.decode import read_image

COLOUR = (200, 40, 90)


def raw_photograph(make: str = "Nikon", *, dng: bool = True) -> bytes:
    """A mosaic of the sensor, with a small preview before it as cameras write."""
    preview = np.asarray(Image.new("RGB", (128, 96), COLOUR).convert("YCbCr"))
    sensor = np.random.default_rng(0).integers(0, 4000, (192, 256), dtype=np.uint16)
    tags = [(271, "s", 0, make, True), (272, "s", 0, "Z 1", True)]
    if dng:
        tags += [(50706, "B", 4, (1, 4, 0, 0), True), (50708, "s", 0, f"{make} Z 1", True)]
    colours = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, (0, 1, 1, 2), True)]
    matrix = [(50721, "2i", 9, sum(((10000 * (i % 4 == 0), 10000) for i in range(9)), ()), True)]
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        options = {"compression": "jpeg", "compressionargs": {"level": 95}, "subsampling": (1, 1), "subifds": 1}
        file.write(
            preview,
            photometric="ycbcr",
            subfiletype=1,
            extratags=tags + matrix,
            **options,
        )
        file.write(sensor, photometric="cfa", subfiletype=0, extratags=colours)
    return stream.getvalue()


def refused(content: bytes) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_image(io.BytesIO(content))
    return str(caught.value)


def test_the_preview_of_a_raw_photograph() -> None:
    image = read_image(io.BytesIO(raw_photograph()))
    assert image.size == (128, 96)
    assert np.abs(np.asarray(image).astype(int) - COLOUR).max() < 6


def test_a_raw_photograph_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    way = "convert it to JPEG, or to read its preview: pip install 'zeroshot-cli[raw]'"
    assert refused(raw_photograph()) == f"a RAW photograph (DNG); {way}"
    assert refused(raw_photograph(dng=False)) == f"a RAW photograph (Nikon); {way}"
    for head, kind in ((b"FUJIFILMCCD-RAW 0201", "Fujifilm"), (b"II*\0\x10\0\0\0CR\2\0", "Canon CR2")):
        assert refused(head + bytes(99)) == f"a RAW photograph ({kind}); {way}"


def test_jpeg_xl() -> None:
    x, y = np.meshgrid(np.arange(64, dtype=np.uint8), np.arange(48, dtype=np.uint8))
    pixels = np.stack([x, y, x + y], axis=-1)
    for options in ({}, {"usecontainer": True}):
        content = imagecodecs.jpegxl_encode(pixels, lossless=True, **options)
        np.testing.assert_array_equal(np.asarray(read_image(io.BytesIO(content))), pixels)


def test_jpeg_xl_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    content = imagecodecs.jpegxl_encode(np.zeros((8, 8, 3), np.uint8))
    assert refused(content) == "JPEG XL needs an extra package: pip install 'zeroshot-cli[jxl]'"


def test_a_dicom_image_says_what_to_do() -> None:
    assert refused(bytes(128) + b"DICM" + bytes(200)) == "a DICOM image; convert it to PNG first"


def test_layers_of_photoshop_are_read_as_their_composite() -> None:
    head = b"8BPS\0\1" + bytes(6) + b"\0\3" + (4).to_bytes(4) + (4).to_bytes(4) + b"\0\x08\0\3" + bytes(12)
    content = head + b"\0\0" + b"".join(bytes([level]) * 16 for level in COLOUR)
    assert read_image(io.BytesIO(content)).getpixel((1, 1)) == COLOUR
    assert isinstance(Image.open(io.BytesIO(content)), Image.Image)


@pytest.mark.slow
def test_an_avif_of_the_shared_brand_after_a_heic(tmp_path: Path) -> None:
    """pillow-heif takes the brand for its own, and cannot read AVIF; here it is loaded before Pillow's AVIF is."""
    make = (
        "import sys, pillow_heif; from PIL import Image; pillow_heif.register_heif_opener(); "
        "image = Image.new('RGB', (16, 16), 'red'); image.save(sys.argv[1], 'HEIF'); image.save(sys.argv[2], 'AVIF')"
    )
    paths = [str(tmp_path / "a.heic"), str(tmp_path / "b.avif")]
    subprocess.run([sys.executable, "-c", make, *paths], check=True)
    avif = Path(paths[1])
    avif.write_bytes(avif.read_bytes().replace(b"ftypavif", b"ftypmif1"))
    read = "import sys; from zeroshot_cli.images.decode import decode; print(*(decode(p).size for p in sys.argv[1:]))"
    found = subprocess.run([sys.executable, "-c", read, *paths], capture_output=True, text=True, check=True)
    assert found.stdout == "(16, 16) (16, 16)\n"

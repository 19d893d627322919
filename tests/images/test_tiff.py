"""TIFF files of every kind that tifffile writes: its pixels, scaled by hand, or a refusal by name."""

import io
from itertools import product

import numpy as np
import pytest
import tifffile
from PIL import Image

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.decode import Decoding, count_frames, read_image

HEIGHT, WIDTH = 40, 50
X, Y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
GRAY = (X + Y**2) / 2
RGB = np.stack([GRAY, GRAY[::-1], GRAY[:, ::-1]], axis=-1)


def written(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.ascontiguousarray(pixels), **options)
    return stream.getvalue()


def read(content: bytes, **options: object) -> np.ndarray:
    return np.asarray(read_image(io.BytesIO(content), Decoding(**options))).astype(int)


def refused(content: bytes) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_image(io.BytesIO(content))
    return str(caught.value)


def levels(shares: np.ndarray, kind: str) -> np.ndarray:
    """Shares of white, 0 to 1, as samples of a type."""
    dtype = np.dtype(kind)
    white = 1.0 if dtype.kind == "f" else float(min(np.iinfo(dtype).max, 2**53))
    return (shares * white).round(0 if dtype.kind != "f" else 9).astype(dtype)


def assert_shows(content: bytes, shares: np.ndarray, tolerance: int = 1) -> None:
    expected = np.rint(255 * shares)
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=-1)
    assert np.abs(read(content) - expected).max() <= tolerance


KINDS = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "f2", "f4", "f8")
COLOUR_KINDS = ("u1", "u2", "u4", "i2", "f2", "f4", "f8")
GRAYS = list(product(KINDS, "<>", (None, "deflate", "lzw"), (False, True)))


@pytest.mark.parametrize(("kind", "order", "compression", "big"), GRAYS)
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_gray_of_every_sample_type(kind: str, order: str, compression: str, big: bool, white_is_zero: bool) -> None:
    content = written(
        levels(1 - GRAY if white_is_zero else GRAY, kind).astype(order + kind),
        photometric="miniswhite" if white_is_zero else "minisblack",
        byteorder=order,
        compression=compression,
        bigtiff=big,
    )
    assert_shows(content, GRAY, tolerance=2 if kind == "i1" else 1)


RGBS = list(product(COLOUR_KINDS, "<>", ("contig", "separate"), (None, "deflate"), (None, (16, 32))))


@pytest.mark.parametrize(("kind", "order", "planes", "compression", "tile"), RGBS)
def test_rgb_in_pixels_and_in_planes(kind: str, order: str, planes: str, compression: str, tile: object) -> None:
    samples = levels(RGB, kind).astype(order + kind)
    content = written(
        np.moveaxis(samples, -1, 0) if planes == "separate" else samples,
        photometric="rgb",
        planarconfig=planes,
        byteorder=order,
        compression=compression,
        tile=tile,
    )
    assert_shows(content, RGB)


@pytest.mark.parametrize(("kind", "order"), list(product(COLOUR_KINDS, "<>")))
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("compression", ["deflate", "lzw", "zstd"])
def test_predictors(kind: str, order: str, planes: str, compression: str) -> None:
    samples = levels(RGB, kind).astype(order + kind)
    samples = np.moveaxis(samples, -1, 0) if planes == "separate" else samples
    options = {"photometric": "rgb", "planarconfig": planes, "byteorder": order, "compression": compression}
    assert_shows(written(samples, predictor=True, rowsperstrip=7, **options), RGB)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 10, 12, 14])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_gray_of_few_and_of_odd_bits(bits: int, white_is_zero: bool) -> None:
    white = 2**bits - 1
    steps = np.rint(GRAY * white).astype(np.uint8 if bits <= 8 else np.uint16)
    stored = white - steps if white_is_zero else steps
    content = written(
        stored.astype(bool) if bits == 1 else stored,
        photometric="miniswhite" if white_is_zero else "minisblack",
        bitspersample=bits,
    )
    assert np.array_equal(tifffile.imread(io.BytesIO(content)), stored)
    assert_shows(content, steps / white)


TWELVE_BITS = np.rint(GRAY * 4095).astype(np.uint16)
MAP = np.zeros((3, 65536), "u2")
EXTRAS = [("unspecified",), ("unassalpha",), ("unspecified",) * 2, ("unassalpha", "unspecified"), ("unspecified",) * 5]


@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("extra", EXTRAS, ids=len)
def test_channels_beyond_rgb(kind: str, planes: str, extra: tuple[str, ...]) -> None:
    """Alpha of 40 % shows paper through; a channel that does not say what it is shows nothing."""
    more = np.full((HEIGHT, WIDTH, len(extra)), 0.4)
    samples = levels(np.concatenate([RGB, more], axis=-1), kind)
    content = written(
        np.moveaxis(samples, -1, 0) if planes == "separate" else samples,
        photometric="rgb",
        planarconfig=planes,
        extrasamples=extra,
    )
    assert_shows(content, RGB * 0.4 + 0.6 if extra[0] == "unassalpha" else RGB)


def test_colours_multiplied_with_alpha() -> None:
    samples = levels(np.concatenate([RGB * 0.4, np.full((HEIGHT, WIDTH, 1), 0.4)], axis=-1), "u2")
    content = written(samples, photometric="rgb", planarconfig="contig", extrasamples=("assocalpha",))
    assert np.abs(read(content) - np.rint(255 * (RGB * 0.4 + 0.6))).max() <= 2


@pytest.mark.parametrize(("kind", "order", "planes"), list(product(("u1", "u2"), "<>", ("contig", "separate"))))
def test_cmyk(kind: str, order: str, planes: str) -> None:
    samples = levels(np.concatenate([1 - RGB, np.zeros((HEIGHT, WIDTH, 1))], axis=-1), kind).astype(order + kind)
    content = written(
        np.moveaxis(samples, -1, 0) if planes == "separate" else samples,
        photometric="separated",
        planarconfig=planes,
        byteorder=order,
    )
    assert_shows(content, RGB)


def test_floats_beyond_one_have_the_white_of_their_numbers() -> None:
    content = written((GRAY * 4000).astype(np.float32), photometric="minisblack")
    assert np.abs(read(content)[..., 0] - GRAY * 4000 / 65535 * 255).max() <= 1
    holes = (GRAY * 255).astype(np.float64)
    holes[3, 4], holes[5, 6] = np.nan, np.inf
    shown = read(written(holes, photometric="minisblack"))[..., 0]
    assert (shown[3, 4], shown[5, 6], shown[-1, -1]) == (0, 255, 255)


def test_a_tiff_turned_by_exif_is_upright() -> None:
    content = written(levels(RGB, "u2")[::-1, ::-1], photometric="rgb", extratags=[(274, "H", 1, 3, True)])
    assert_shows(content, RGB)


@pytest.mark.parametrize(
    ("pixels", "options", "kind"),
    [
        (
            levels(GRAY, "u2"),
            {"photometric": "palette", "colormap": np.zeros((3, 65536), "u2")},
            "palette TIFF with 16",
        ),
        (levels(RGB, "u2"), {"photometric": "cielab"}, "CIE Lab TIFF with 16-bit samples"),
        (levels(GRAY, "f8").astype("c16"), {"photometric": "minisblack"}, "gray TIFF with 128-bit complex samples"),
        (np.zeros((5, 40, 50), "u2"), {"photometric": "minisblack", "planarconfig": "separate"}, "of 5 channels"),
        (levels(GRAY, "u2"), {"compression": "jpegxl"}, "gray TIFF with 16-bit samples in JPEG XL"),
        (levels(GRAY, "u1"), {"compression": "jpegxl"}, "gray TIFF with 8-bit samples in JPEG XL"),
        (
            levels(RGB, "u1"),
            {"compression": "jpeg2000", "photometric": "rgb"},
            "RGB TIFF with 8-bit samples in JPEG 2000",
        ),
        (levels(RGB, "u1"), {"compression": "webp", "photometric": "rgb"}, "RGB TIFF with 8-bit samples in WebP"),
        (levels(RGB, "u1"), {"photometric": "icclab"}, "an ICC Lab TIFF with 8-bit samples"),
        (levels(GRAY, "f4"), {"compression": "lerc"}, "32-bit floating point samples in LERC"),
        (
            TWELVE_BITS,
            {"compression": "jpeg", "bitspersample": 12, "compressionargs": {"bitspersample": 12}},
            "12-bit samples",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_kind_that_cannot_be_read_is_named(pixels: np.ndarray, options: dict[str, object], kind: str) -> None:
    reason = refused(written(pixels, **options))
    assert kind in reason
    assert reason.endswith("which cannot be read; convert it to a PNG, or to a TIFF of 8 bits, first")
    assert "damaged" not in reason


def test_pages() -> None:
    """The first is black; which page is read is an option."""
    stack = np.stack([np.zeros((8, 8), "u2"), *(np.full((8, 8), 65535 * part // 4, "u2") for part in (1, 2, 3, 4))])
    content = written(stack, photometric="minisblack", metadata=None)
    shown = {frames: read(content, frames=frames)[0, 0, 0] for frames in ("first", "middle", "1", "4")}
    assert shown == {"first": 0, "middle": 127, "1": 64, "4": 255}
    with pytest.raises(UnreadableImage, match=r"^no frame 5: it has 5, counted from 0 \(--frames\)$"):
        read(content, frames="5")


def test_a_deep_tiff_of_too_many_pixels_is_refused_before_it_is_read() -> None:
    content = written(np.zeros((40, 50), np.float64), photometric="minisblack")
    with pytest.raises(UnreadableImage, match="2,000 pixels, more than the limit of 1,999"):
        read(content, max_pixels=1999)


def test_a_deep_tiff_that_is_cut_off_is_truncated() -> None:
    for compression in (None, "deflate"):
        content = written(np.random.default_rng(0).random((40, 50)), photometric="minisblack", compression=compression)
        cut = bytearray(content)
        end = tifffile.TiffFile(io.BytesIO(content)).pages[0].dataoffsets[0]
        assert refused(bytes(cut[: end + 500])) in (
            "the file is truncated",
            "a TIFF file whose header is damaged or cut off",
        )


def test_as_stored_pillow_reads_it() -> None:
    content = written(levels(GRAY, "u2"), photometric="minisblack")
    expected = Image.open(io.BytesIO(content)).convert("RGB")
    np.testing.assert_array_equal(read(content, as_stored=True), np.asarray(expected))


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (10, 4095), (12, 4095), (14, 65535)])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
def test_a_microscope_with_fewer_bits_than_its_file(bits: int, white: int, photometric: str) -> None:
    shares = np.stack([GRAY] * 3, axis=-1) if photometric == "rgb" else GRAY
    stored = np.rint(shares / shares.max() * (2**bits - 1)).astype("u2")
    content = written(stored, photometric=photometric)
    shown = stored / white
    assert_shows(content, 1 - shown if photometric == "miniswhite" else shown)


def test_a_dark_gray_png_of_16_bits_stays_dark() -> None:
    """PNG says that white is 65535, and what 0.1.0 has cached of such images must still be right."""
    stored, stream = np.rint(GRAY / GRAY.max() * 4095).astype("u2"), io.BytesIO()
    Image.fromarray(stored).save(stream, "PNG")
    assert_shows(stream.getvalue(), stored / 65535)


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_a_tiff_whose_first_pages_are_a_thumbnail_and_a_mask(kind: str) -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        file.write(levels(RGB[::4, ::4], kind), photometric="rgb", subfiletype=1)
        file.write(GRAY > 0.5, photometric="minisblack", subfiletype=4)
        file.write(levels(RGB, kind), photometric="rgb")
        file.write(levels(RGB[::2, ::2], kind), photometric="rgb", subfiletype=1)
        file.write(levels(1 - RGB, kind), photometric="rgb")
    assert_shows(stream.getvalue(), RGB)
    assert count_frames(stream) == 2
    for frames in ("1", "middle"):
        assert np.abs(read(stream.getvalue(), frames=frames) - 255 * (1 - RGB)).max() <= 1
    with pytest.raises(UnreadableImage, match="no frame 2: it has 2"):
        read(stream.getvalue(), frames="2")

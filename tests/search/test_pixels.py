"""How alike pixels are: numpy's own correlation, and photographs that are resized, recompressed and cropped."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroshot_cli.search.pixels import COARSELY_ALIKE, coarse, crops_of, likeness

PHOTOS = sorted((Path(__file__).parents[2] / "examples" / "images").glob("*.jpg"))[:12]
THRESHOLD = 0.96


def encoded(image: Image.Image, quality: int = 95) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def crops(*images: Image.Image, quality: int = 95) -> np.ndarray:
    return np.stack([crops_of(encoded(image, quality)) for image in images])


def photo(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def test_likeness_is_numpys_correlation_of_the_colours() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, size=(2, 1, 24, 24, 3), dtype=np.uint8)
    both = [np.repeat(each, 3, axis=0)[None] for each in (a, b)]  # all margins alike, so any alignment is the same
    expected = np.corrcoef(a.ravel(), b.ravel())[0, 1]
    assert likeness(*both)[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_copies_of_photographs_are_alike(path: Path) -> None:
    image = photo(path)
    w, h = image.size
    original = crops(image)
    margin = (round(w * 0.05), round(h * 0.05), round(w * 0.95), round(h * 0.95))
    for copy in (
        crops(image.resize((w // 2, h // 2))),
        crops(image.resize((2 * w, 2 * h))),
        crops(image, quality=60),
        crops(image.crop(margin)),
    ):
        assert likeness(original, copy)[0] >= THRESHOLD
        assert likeness(copy, original)[0] == likeness(original, copy)[0]
        assert coarse(original)[0] @ coarse(copy)[0] >= COARSELY_ALIKE


def test_different_photographs_are_not() -> None:
    all_of_them = crops(*map(photo, PHOTOS))
    for place in range(1, len(PHOTOS)):
        assert likeness(all_of_them[place:], all_of_them[:-place]).max() < 0.9


def test_another_colour_is_another_image() -> None:
    image = photo(PHOTOS[0])
    red, green, blue = image.split()
    assert likeness(crops(image), crops(Image.merge("RGB", (blue, green, red))))[0] < THRESHOLD


def test_turned_and_mirrored_are_other_images() -> None:
    image = photo(PHOTOS[0])
    assert likeness(crops(image), crops(image.transpose(Image.Transpose.ROTATE_180)))[0] < THRESHOLD


def test_a_flat_image_and_one_that_cannot_be_read_are_like_nothing() -> None:
    flat = crops(Image.new("RGB", (50, 40), "gray"))
    assert likeness(flat, flat)[0] == 0
    assert likeness(crops_of(None)[None], crops_of(None)[None])[0] == 0


def test_a_tiny_image_has_colours_too() -> None:
    one = crops(Image.new("RGB", (1, 1), "red"))
    assert one.shape == (1, 3, 24, 24, 3)

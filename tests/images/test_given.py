"""Images in memory: the pixels of their files, names by place, and errors that say what to give instead."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from good_files import make_good_files
from PIL import Image

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.decode import EXACTLY, Decoding, decode, read_given
from zeroshot_cli.images.given import GivenImage, named_images
from zeroshot_cli.records import SkippedImage


@pytest.mark.parametrize("how", [EXACTLY, Decoding(as_stored=True)], ids=["upright", "as stored"])
def test_a_pillow_image_has_the_pixels_of_its_file(tmp_path: Path, how: Decoding) -> None:
    import pillow_heif
    import pillow_jxl  # noqa: F401  (it registers itself)

    pillow_heif.register_heif_opener()
    for path in make_good_files(tmp_path):
        with Image.open(path) as image:
            given = read_given(image, how)
        np.testing.assert_array_equal(np.asarray(given), np.asarray(decode(path, how)), err_msg=path)


def test_a_pillow_image_is_taken_at_its_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "two.gif") as image:
        image.seek(1)
        assert read_given(image).getpixel((0, 0)) == (0, 255, 0)


def test_a_pillow_image_is_not_changed() -> None:
    image = Image.new("LA", (3, 2), (10, 0))
    image.getexif()[0x0112] = 6
    assert read_given(image).size == (2, 3)
    assert (image.mode, image.size, image.getexif()[0x0112]) == ("LA", (3, 2), 6)


def truncated(path: Path) -> Image.Image:
    Image.effect_noise((99, 99), 50).save(path, "JPEG")
    return Image.open(io.BytesIO(path.read_bytes()[:-900]))


def closed(path: Path) -> Image.Image:
    Image.new("RGB", (3, 3)).save(path, "PNG")
    with Image.open(path) as image:
        return image


@pytest.mark.parametrize(
    ("make", "how", "reason"),
    [
        (truncated, EXACTLY, "damaged (image file is truncated"),
        (closed, EXACTLY, "damaged ("),
        (lambda path: Image.new("L", (5, 3)), Decoding(max_pixels=14), "15 pixels, more than the limit of 14"),
    ],
)
def test_a_pillow_image_that_cannot_be_read_has_a_reason(tmp_path: Path, make: Any, how: Decoding, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=re.escape(reason)):
        read_given(make(tmp_path / "a"), how)


def test_images_without_a_path_are_named_by_their_place() -> None:
    skipped = SkippedImage("gone.jpg", "no such file")
    images = [Path("a/b.jpg"), "c.jpg", b"bytes", Image.new("L", (1, 1)), np.zeros((2, 2), np.uint8), skipped]
    named = list(named_images(images))
    assert named[:2] == ["a/b.jpg", "c.jpg"]
    assert [item.path for item in named[2:5] if isinstance(item, GivenImage)] == ["<image 2>", "<image 3>", "<image 4>"]
    assert named[5] is skipped
    (of_cat,) = named_images([b""], of="cat")
    assert isinstance(of_cat, GivenImage)
    assert of_cat.path == "<image 0 of cat>"


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 3)])
def test_an_array_keeps_its_pixels_whatever_its_memory(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape) * 2, dtype=np.uint8).reshape(shape[0] * 2, *shape[1:])[::-2]  # not contiguous
    (item,) = named_images([array])
    expected = array.copy()
    array[:] = 0
    assert isinstance(item, GivenImage)
    np.testing.assert_array_equal(np.asarray(item.content), expected)


def test_an_array_of_images_is_several() -> None:
    named = list(named_images(np.zeros((4, 5, 6, 3), np.uint8)))
    assert [item.content.size for item in named if isinstance(item, GivenImage)] == [(6, 5)] * 4  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 2, 3)), "<image 1> is an array of float64, (2, 2, 3); give levels from 0 to 255: (image * 255)"),
        (
            np.zeros((2, 2), np.uint16),
            "<image 1> is an array of uint16, (2, 2); give levels from 0 to 255 as uint8, or",
        ),
        (np.zeros((2, 2), bool), "<image 1> is an array of bool, (2, 2); give levels"),
        (
            np.zeros((3, 5, 7), np.uint8),
            "uint8, (3, 5, 7); the last axis is red, green and blue: image.transpose(1, 2, 0)",
        ),
        (np.zeros((5, 7, 2), np.uint8), "uint8, (5, 7, 2); the last axis is red, green and blue"),
        (np.zeros((5, 7, 4), np.uint8), "give image[..., :3], or with its transparency PIL.Image.fromarray(image)"),
        (np.zeros((5, 7, 1), np.uint8), "give image[..., 0]"),
        (np.zeros((1, 5, 7, 3), np.uint8), "an array is one image, (height, width, 3) or (height, width)"),
        (np.zeros((0, 7, 3), np.uint8), "uint8, (0, 7, 3); an array is one image"),
        (np.uint8(3), "<image 1> is an uint8; an image is a path"),
        (None, "<image 1> is a NoneType; an image is a path, the bytes of a file, a Pillow image, or an array"),
        (float("nan"), "<image 1> is a float; an image is a path"),
        (io.BytesIO(b"x"), "<image 1> is a BytesIO; an image is a path"),
        (bytearray(b"x"), "<image 1> is a bytearray; an image is a path, the bytes"),
        (["a.jpg"], "<image 1> is a list; an image is a path"),
    ],
)
def test_what_is_no_image_is_refused_with_what_to_give(image: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        list(named_images(["a.jpg", image]))


@pytest.mark.parametrize(
    ("image", "what"),
    [
        ("a.jpg", "'a.jpg'"),
        (Path("a.jpg"), "'a.jpg'"),
        (b"x", "a bytes"),
        (Image.new("L", (1, 1)), "an Image"),
        (np.zeros((2, 2, 3), np.uint8), "an array of uint8, (2, 2, 3)"),
        (np.zeros((2, 2, 4), np.uint8), "an array of uint8, (2, 2, 4)"),
        (np.zeros((2, 2), np.uint8), "an array of uint8, (2, 2)"),
    ],
)
def test_one_image_in_place_of_several_is_refused_at_once(image: Any, what: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"images are a list, and {what} is one image; put it into brackets")):
        named_images(image)

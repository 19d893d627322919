"""Random views: what they must keep, and what torchvision would have done."""

from random import Random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision.transforms import RandomResizedCrop  # type: ignore[import-untyped]

from zeroshot_cli.images.augment import (
    MIN_CONTRAST,
    Augment,
    contrasting_colour,
    flip,
    lay_on_background,
    luminance,
    mean_colour,
    outline,
    place,
    random_crop_box,
    rotate,
    trimmed,
)
from zeroshot_cli.records import Augmentation


def icon(colour: tuple[int, int, int], size: int = 24) -> Image.Image:
    """A square of one colour in the middle of a transparent image."""
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((size // 4, size // 4, size * 3 // 4, size * 3 // 4), fill=(*colour, 255))
    return image


@pytest.mark.parametrize("size", [(1000, 10), (10, 1000), (300, 7)])
def test_a_box_that_never_fits_is_torchvisions(size: tuple[int, int]) -> None:
    top, left, height, width = RandomResizedCrop.get_params(
        torch.zeros(3, size[1], size[0]), scale=[0.9, 1.0], ratio=[3 / 4, 4 / 3]
    )
    assert random_crop_box(size, Random(0), min_scale=0.9) == (left, top, left + width, top + height)


def test_boxes_have_the_area_and_the_ratio_that_were_asked_for() -> None:
    rng = Random(1)
    boxes = np.array([random_crop_box((400, 400), rng, min_scale=0.3) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    share, ratio = width * height / 160_000, width / height
    assert boxes.min() >= 0
    assert boxes.max() <= 400
    assert 0.29 < share.min() < 0.32
    assert share.max() <= 1
    assert 0.74 < ratio.min() < 0.77
    assert 1.30 < ratio.max() < 1.35
    assert abs(np.log(ratio).mean()) < 0.02  # as often wide as tall


def test_boxes_spread_as_torchvisions() -> None:
    rng = Random(2)
    torch.manual_seed(2)
    image = torch.zeros(3, 90, 120)
    params = [RandomResizedCrop.get_params(image, scale=[0.5, 1.0], ratio=[3 / 4, 4 / 3]) for _ in range(4000)]
    theirs = np.array([(left, top, left + width, top + height) for top, left, height, width in params])
    ours = np.array([random_crop_box((120, 90), rng, min_scale=0.5) for _ in range(4000)])
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=1.5)
    np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), atol=1.0)


def test_transparency_ends_on_white_by_default() -> None:
    view = Augment((24, 24), min_scale=1.0)(icon((200, 0, 0)), Random(0))
    assert view.mode == "RGB"
    assert view.getpixel((0, 0)) == (255, 255, 255)
    assert view.getpixel((12, 12)) == (200, 0, 0)


def test_the_same_draws_give_the_same_view() -> None:
    augment = Augment((16, 16), min_scale=0.5, kinds=frozenset(Augmentation))
    views = [np.asarray(augment(icon((9, 9, 9)), Random(seed))) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(views[0], views[1])
    assert (views[0] != views[2]).any()


@pytest.mark.parametrize("kind", list(Augmentation))
def test_every_kind_keeps_the_size(kind: Augmentation) -> None:
    augment = Augment((12, 20), kinds=frozenset({kind}))
    views = [augment(icon((30, 60, 200)), Random(seed)) for seed in range(20)]
    assert {(view.size, view.mode) for view in views} == {((20, 12), "RGB")}
    assert len({view.tobytes() for view in views}) > 1


def test_margins_are_cut_to_what_can_be_seen() -> None:
    drawn = icon((255, 0, 0), size=24)
    drawn.putpixel((0, 0), (0, 0, 0, 10))  # the end of a shadow
    assert trimmed(drawn).size == (13, 13)
    assert trimmed(drawn).getpixel((0, 0)) == (255, 0, 0, 255)


def test_an_image_without_margins_or_without_anything_stays_whole() -> None:
    full, empty = Image.new("RGBA", (7, 5), (1, 2, 3, 255)), Image.new("RGBA", (7, 5), (1, 2, 3, 0))
    assert trimmed(full).tobytes() == full.tobytes()
    assert trimmed(empty).size == (7, 5)


def test_an_image_is_placed_whole_anywhere_on_a_square() -> None:
    drawn = Image.new("RGBA", (30, 15), (0, 0, 255, 255))
    rng = Random(0)
    placed = [place(drawn, rng) for _ in range(300)]
    assert all(image.width == image.height for image in placed)
    assert all(np.count_nonzero(np.asarray(image)[..., 3]) == 30 * 15 for image in placed)
    shares = [30 / image.width for image in placed]
    assert min(shares) < 0.65
    assert max(shares) > 0.95
    assert 0.6 - 0.02 <= min(shares) <= max(shares) <= 1
    corners = {image.getchannel("A").getbbox()[:2] for image in placed}  # type: ignore[index]
    assert len(corners) > 50


def test_half_of_the_images_get_a_dark_line_around_and_within() -> None:
    drawn = icon((255, 255, 0), size=60)
    ImageDraw.Draw(drawn).rectangle((15, 15, 30, 45), fill=(0, 0, 255, 255))  # two areas that meet at x = 30
    drawings = [outline(drawn, Random(seed)) for seed in range(200)]
    lined = [np.asarray(image) for image in drawings if image.tobytes() != drawn.tobytes()]
    assert 70 < len(lined) < 130
    for pixels in lined:
        assert pixels[30, 14, :3].max() <= 60  # just outside, where nothing was
        assert pixels[30, 14, 3] == 255
        assert pixels[30, 28:33, :3].max(axis=1).min() <= 60  # where the areas meet
        assert tuple(pixels[30, 40]) == (255, 255, 0, 255)
        assert pixels[0, 0, 3] == 0


def test_a_line_around_nothing_is_nothing() -> None:
    empty = Image.new("RGBA", (20, 10))
    assert all(not outline(empty, Random(seed)).getchannel("A").getbbox() for seed in range(20))


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (220, 30, 30), (250, 240, 60)])
def test_a_background_never_hides_the_image(colour: tuple[int, int, int]) -> None:
    rng = Random(5)
    for _ in range(300):
        laid = lay_on_background(icon(colour), rng)
        corners = np.asarray(laid)[[0, 0, 23, 23], [0, 23, 0, 23]].tolist()
        assert laid.getpixel((12, 12)) == colour
        assert all(
            abs(luminance(corner) - luminance(colour)) >= MIN_CONTRAST - 4 for corner in corners
        )  # the mean is rounded


def test_most_backgrounds_of_a_black_icon_are_light_and_some_are_white() -> None:
    rng = Random(6)
    drawn = [contrasting_colour((0, 0, 0), rng) for _ in range(1000)]
    assert sum(luminance(colour) > 127 for colour in drawn) > 850
    assert 150 < drawn.count((255, 255, 255)) < 350


def test_mean_colour_weighs_by_opacity() -> None:
    image = Image.new("RGBA", (2, 2), (0, 255, 0, 0))  # green, but invisible
    image.putpixel((0, 0), (200, 0, 0, 255))
    image.putpixel((1, 1), (0, 0, 100, 255))
    assert mean_colour(image) == pytest.approx((100, 0, 50), abs=4)  # Pillow rounds at a quarter of the opacity


def test_mean_colour_of_nothing_is_black() -> None:
    assert mean_colour(Image.new("RGBA", (3, 3), (255, 255, 255, 0))) == (0, 0, 0)


def test_a_turn_fills_in_the_colour_of_the_corners() -> None:
    image = Image.new("RGB", (40, 40), (10, 200, 30))
    assert rotate(image, Random(0)).getcolors() == [(1600, (10, 200, 30))]


def test_half_of_the_images_are_mirrored() -> None:
    image = Image.new("RGB", (2, 1), "white")
    image.putpixel((0, 0), (0, 0, 0))
    rng = Random(0)
    mirrored = sum(flip(image, rng).getpixel((1, 0)) == (0, 0, 0) for _ in range(1000))
    assert 440 < mirrored < 560

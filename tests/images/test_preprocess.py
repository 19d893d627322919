"""Preprocessing against open_clip's own transform, on image files that the tests make."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zeroshot_cli.errors import CheckpointError
from zeroshot_cli.images.decode import decode
from zeroshot_cli.images.preprocess import (
    OPENAI_MEAN,
    OPENAI_STD,
    Interpolation,
    Preprocess,
    PreprocessConfig,
    ResizeMode,
    resize,
)

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
SIZES = [(500, 375), (375, 500), (333, 224), (225, 224), (224, 224), (97, 61), (13, 57), (1, 40), (801, 227)]


def drawn(width: int, height: int, mode: str) -> Image.Image:
    """A gradient with noise, so that both smooth and sharp parts are resampled."""
    across, down = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 55, height))
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    gradient = across + down if mode == "L" else np.stack([across + down, 255 - across, down * 4], axis=-1)
    noise = np.random.default_rng(width * height).integers(-60, 60, shape)
    return Image.fromarray((gradient + noise).clip(0, 255).astype(np.uint8))


def theirs(config: PreprocessConfig) -> Any:
    from open_clip.transform import image_transform

    return image_transform(
        config.size,
        is_train=False,
        mean=config.mean,
        std=config.std,
        interpolation=config.interpolation.value,
        resize_mode=config.resize_mode.value,
        fill_color=config.fill_color,
    )


def assert_equal_to_open_clip(path: Path, config: PreprocessConfig) -> None:
    ours = Preprocess(config)(decode(str(path)))
    with Image.open(path) as image:
        expected = theirs(config)(image)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous()
    assert ours.shape == (3, *config.height_width)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for width, height in SIZES:
        for mode in ("RGB", "L"):
            for suffix in ("jpg", "png"):
                paths.append(folder / f"{width}x{height}-{mode}.{suffix}")
                drawn(width, height, mode).save(paths[-1])
    return paths


@pytest.mark.parametrize("interpolation", list(Interpolation))
@pytest.mark.parametrize("resize_mode", list(ResizeMode))
@pytest.mark.parametrize(("size", "numbers"), [(224, {}), (65, HALVES), ((48, 80), IMAGENET), ((81, 48), {})])
def test_equal_to_open_clip(
    images: list[Path], size: Any, numbers: Any, resize_mode: ResizeMode, interpolation: Interpolation
) -> None:
    config = PreprocessConfig(size, interpolation=interpolation, resize_mode=resize_mode, fill_color=114, **numbers)
    too_thin = resize_mode is ResizeMode.LONGEST and size != 224  # open_clip rounds 1 pixel of 40 down to none
    for path in images:
        if not (too_thin and path.name.startswith("1x40")):
            assert_equal_to_open_clip(path, config)


@pytest.mark.parametrize("extra", range(8))
def test_odd_and_even_crops_round_as_open_clip(tmp_path: Path, extra: int) -> None:
    """Margins of a half pixel go to even: 0.5 to 0, 1.5 to 2, so one remainder alone would not show a fault."""
    for name, (width, height) in {"wide": (32 + extra, 32), "tall": (32, 32 + extra)}.items():
        drawn(width, height, "RGB").save(tmp_path / f"{name}.png")
        assert_equal_to_open_clip(tmp_path / f"{name}.png", PreprocessConfig(32))


@pytest.mark.parametrize("size", range(33, 41))
@pytest.mark.parametrize("shape", [(40, 21), (21, 40), (7, 40), (39, 38)])
def test_odd_and_even_padding_rounds_as_open_clip(tmp_path: Path, size: int, shape: tuple[int, int]) -> None:
    drawn(*shape, "RGB").save(tmp_path / "a.png")
    assert_equal_to_open_clip(tmp_path / "a.png", PreprocessConfig(size, resize_mode=ResizeMode.LONGEST, fill_color=7))


def test_normalised_by_hand() -> None:
    image = Image.new("RGB", (4, 4), (0, 51, 255))  # 0, 0.2 and 1
    pixels = Preprocess(PreprocessConfig(2, mean=(0.5, 0.1, 0.25), std=(0.5, 0.2, 0.5)))(image)
    assert pixels.shape == (3, 2, 2)
    for channel, value in enumerate((-1.0, 0.5, 1.5)):
        torch.testing.assert_close(pixels[channel], torch.full((2, 2), value), rtol=0, atol=1e-6)


def test_the_border_has_the_fill_colour_and_longest_keeps_the_whole_image() -> None:
    config = PreprocessConfig(5, resize_mode=ResizeMode.LONGEST, fill_color=9)
    resized = np.asarray(resize(Image.new("RGB", (10, 4), "white"), config))
    assert resized[:, :, 0].tolist() == [[9] * 5, [255] * 5, [255] * 5, [9] * 5, [9] * 5]  # 2 rows of 5, from row 1


def test_a_very_long_image_takes_little_memory_and_keeps_its_middle() -> None:
    """Resized whole, this one would be 16 × 3.2 million pixels; its middle third is red."""
    colours = np.repeat(np.array([[0, 255, 0], [255, 0, 0], [0, 0, 255]], np.uint8), 66_667, axis=0)[None]
    resized = np.asarray(resize(Image.fromarray(colours), PreprocessConfig(16)))
    assert (resized == [255, 0, 0]).all()


@pytest.mark.parametrize("shape", [(3, 600), (600, 3)])
@pytest.mark.parametrize("size", [16, (12, 20)])
def test_a_long_image_is_cut_where_open_clip_cuts(shape: tuple[int, int], size: Any) -> None:
    """To a level of 255, for an image whose bicubic overshoot is not clipped between Pillow's two passes."""
    image = drawn(*shape, "RGB").point(lambda level: 100 + level // 5)
    config = PreprocessConfig(size, **HALVES)
    torch.testing.assert_close(Preprocess(config)(image), theirs(config)(image), rtol=0, atol=1.01 * 2 / 255)


def test_a_thread_of_an_image_keeps_one_pixel() -> None:
    config = PreprocessConfig(8, resize_mode=ResizeMode.LONGEST)
    resized = np.asarray(resize(Image.new("RGB", (1, 300), "white"), config))
    assert (resized == 255).all(axis=(0, 2)).sum() == 1


def test_configuration_there_and_back() -> None:
    config = PreprocessConfig(
        (224, 280), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), Interpolation.BILINEAR, ResizeMode.SQUASH, 3
    )
    values = json.loads(json.dumps(config.to_dict()))
    assert values == {
        "size": [224, 280],
        "mode": "RGB",
        "mean": [0.1, 0.2, 0.3],
        "std": [1.0, 2.0, 3.0],
        "interpolation": "bilinear",
        "resize_mode": "squash",
        "fill_color": 3,
    }
    assert PreprocessConfig.from_dict(values) == config
    assert PreprocessConfig.from_dict({}) == PreprocessConfig()


def test_defaults_and_spelling_are_open_clips() -> None:
    from dataclasses import asdict

    from open_clip.transform import PreprocessCfg

    assert PreprocessConfig.from_dict(asdict(PreprocessCfg())) == PreprocessConfig(224, OPENAI_MEAN, OPENAI_STD)
    assert set(PreprocessConfig().to_dict()) == set(asdict(PreprocessCfg()))
    odd = PreprocessConfig.from_dict({"size": [64], "mean": 0.5, "std": None, "interpolation": "random", "crop_pct": 1})
    assert odd == PreprocessConfig(64, mean=(0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": 0}, "size is 0; it must be a positive"),
        ({"size": [3, 224, 224]}, "size is"),
        ({"size": True}, "size is True"),
        ({"size": "224"}, "size is '224'"),
        ({"mode": "L"}, "mode is 'L'"),
        ({"mean": [0.5]}, "mean is"),
        ({"mean": [0.5, float("nan"), 0.5]}, "mean is"),
        ({"std": [0.5, 0, 0.5]}, "std is .* three positive numbers"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest'; it must be one of bicubic, bilinear"),
        ({"resize_mode": "crop"}, "resize_mode is 'crop'; it must be one of shortest, longest, squash"),
        ({"fill_color": 256}, "fill_color is 256"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        PreprocessConfig.from_dict(values)


def test_a_transparent_image_is_put_on_white_first() -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (3, 3), (0, 0, 0, 0)).save(stream, "PNG")
    pixels = Preprocess(PreprocessConfig(2, **HALVES))(Image.open(stream))
    assert (pixels == 1).all()


# reduced first, unless exact


@pytest.mark.parametrize("mode", list(ResizeMode))
@pytest.mark.parametrize("factor", [2, 3])
def test_a_large_image_is_reduced_to_means_of_blocks(factor: int, mode: ResizeMode) -> None:
    config = PreprocessConfig(size=16, resize_mode=mode)
    small = drawn(40, 40, "RGB")  # two and a half times the size
    blocks = np.asarray(small, dtype=np.int16).repeat(factor, axis=0).repeat(factor, axis=1)
    blocks[::factor, ::factor] += 1  # a mean of four or nine rounds it away
    large = Image.fromarray(blocks.clip(0, 255).astype(np.uint8))
    expected = resize(small, config)
    assert resize(large, config, exact=False) == expected
    assert resize(large, config) != expected


@pytest.mark.parametrize("size", [(40, 40), (63, 63), (16, 16), (7, 500)])
def test_what_is_under_four_times_the_size_is_not_reduced(size: tuple[int, int]) -> None:
    config = PreprocessConfig(size=16)
    image = drawn(*size, "RGB")
    assert resize(image, config, exact=False) == resize(image, config)


def test_reduced_first_it_looks_the_same() -> None:
    config = PreprocessConfig(size=32)
    image = drawn(401, 333, "RGB")
    exact, reduced = (np.asarray(resize(image, config, exact=exact), dtype=int) for exact in (True, False))
    assert 0 < np.abs(exact - reduced).mean() < 1

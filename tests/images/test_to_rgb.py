import io
import struct

import numpy as np
import pytest
from PIL import Image

from zeroshot_cli.images.modes import to_rgb


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
        (gray([0, float("inf"), 100, 200], "float32"), [0, 255, 100, 200]),
        (gray([float("-inf"), 0.2, float("inf")], "float32"), [0, 51, 255]),
        (gray([float("nan"), float("inf")], "float32"), [0, 255]),
        (gray([0, 0], "float32"), [0, 0]),
        (through_png(gray([0, 257 * 200, 65535], "uint16"), transparency=0), [255, 200, 255]),
    ],
)
def test_gray_of_more_than_eight_bits_is_scaled(image: Image.Image, levels: list[int]) -> None:
    assert pixels(to_rgb(image)) == [(level,) * 3 for level in levels]


def test_big_endian_sixteen_bits() -> None:
    data = struct.pack(">3H", 0, 257 * 200, 65535)
    assert pixels(to_rgb(Image.frombytes("I;16B", (3, 1), data))) == [(0,) * 3, (200,) * 3, (255,) * 3]

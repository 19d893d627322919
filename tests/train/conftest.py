"""Pairs that are drawn on the spot, and models so small that a step takes milliseconds."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "gray")

VIT = """\
embed_dim: 32
vision_cfg: {image_size: 16, patch_size: 8, width: 32, layers: 1, head_width: 16}
text_cfg: {width: 32, heads: 2, layers: 1, context_length: 12, vocab_size: 600}
"""
RESNET = """\
embed_dim: 32
vision_cfg: {image_size: 32, layers: [1, 1, 1, 1], width: 8, head_width: 32}
text_cfg: {encoder: cbow, width: 32, context_length: 12, vocab_size: 600}
"""


@pytest.fixture
def model_yaml(tmp_path: Path) -> Callable[[str], str]:
    """`model_yaml("vit")` or `model_yaml("resnet")` is the path of a model's configuration."""

    def write(kind: str) -> str:
        path = tmp_path / f"{kind}.yaml"
        path.write_text({"vit": VIT, "resnet": RESNET}[kind])
        return str(path)

    return write


@pytest.fixture
def draw_pairs(tmp_path: Path) -> Callable[..., Path]:
    """`draw_pairs(n)` writes n pictures, each of two colours, and the CSV that names them."""

    def draw(n: int, name: str = "pairs.csv", columns: tuple[str, str] = ("image", "caption")) -> Path:
        (tmp_path / "pictures").mkdir(exist_ok=True)
        rows = []
        for i in range(n):
            outer, inner = COLOURS[i % 8], COLOURS[(i // 8 + i + 1) % 8]
            image = Image.new("RGB", (20, 20), outer)
            ImageDraw.Draw(image).rectangle((5, 5, 14, 14), fill=inner)
            image.save(tmp_path / "pictures" / f"{i}.png")
            rows.append((f"pictures/{i}.png", f"{inner} on {outer}"))
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])
        return path

    return draw

"""The example images are what examples/draw.py draws, and their names are the answers."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from zeroshot_cli.images.decode import decode
from zeroshot_cli.words.labels import read_labels

EXAMPLES = Path(__file__).parents[1] / "examples"
IMAGES = sorted((EXAMPLES / "images").iterdir())


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw", EXAMPLES / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_file_names_and_labels_agree() -> None:
    names = [image.stem.replace("_", " ") for image in IMAGES]
    assert sorted(read_labels(EXAMPLES / "labels.txt").names) == sorted(names)
    assert len(names) >= 24


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_images_are_small_and_read(image: Path) -> None:
    assert image.stat().st_size < 15_000
    assert decode(str(image)).size == (256, 256)


@pytest.mark.parametrize("name", ["red_heart", "umbrella"])  # a PNG and a JPEG
def test_the_script_draws_the_images(draw: ModuleType, name: str) -> None:
    drawn = draw.drawing(getattr(draw, name))
    on_white = Image.new("RGB", drawn.size, "white")
    on_white.paste(drawn, mask=drawn.getchannel("A"))
    stored = decode(str(next(EXAMPLES.glob(f"images/{name}.*"))))
    difference = np.abs(np.asarray(on_white, dtype=float) - np.asarray(stored, dtype=float))
    assert difference.mean() < 2  # of 255: what a palette or JPEG loses

"""Images for clusters: readable and broken ones, among them names that are not UTF-8."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

LABELS = ("red", "green", "blue square")


@pytest.fixture
def draw_photos() -> Callable[[Path, int], list[str]]:
    """`draw_photos(folder, n)` makes n files, of which every tenth is no image, and returns their paths in order."""

    def draw(folder: Path, number: int) -> list[str]:
        folder.mkdir(parents=True, exist_ok=True)
        dice = random.Random(7)
        names = []
        for each in range(number):
            path = folder / os.fsdecode(b"%04d-\xff.png" % each if each % 7 == 0 else b"%04d.png" % each)
            image = Image.effect_noise((40, 30), dice.randrange(1, 90)).convert("RGB")
            image.paste(tuple(dice.randrange(256) for _ in range(3)), (0, 0, dice.randrange(8, 40), 20))
            image.save(path)
            if each % 10 == 9:
                path.write_bytes(path.read_bytes()[: dice.randrange(60)])
            names.append(str(path))
        return names

    return draw

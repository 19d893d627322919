"""How far plain pixels get: the nearest neighbour on 24×24 pixels, from other artists' images of the same concepts.

    python recipes/tiny/pixel_baseline.py --train drawings/train.csv --test runs/tiny-data/test-objects.csv

A model that learned nothing but looks would do as well as this. Pictures are trimmed to what is drawn, without which
each artist's margins would decide, and lie on a white square; nearest by Euclidean distance; the images of one
concept count by their nearest.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

from zeroshot_cli.images.augment import trimmed

SIDE = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    options = parser.parse_args()

    test = _read(options.test)
    concepts = sorted({row["label"] for row in test})
    index = {concept: number for number, concept in enumerate(concepts)}
    known = [row for row in _read(options.train) if row["caption"] in index]
    targets = np.array([index[row["label"]] for row in test])
    classes = np.array([index[row["caption"]] for row in known])

    distance = _distances(_pixels(options.test, test), _pixels(options.train, known))
    nearest = np.full((len(test), len(concepts)), np.inf, dtype=np.float32)
    for column, concept in enumerate(classes):
        np.minimum(nearest[:, concept], distance[:, column], out=nearest[:, concept])
    order = np.argsort(nearest, axis=1, kind="stable")
    for k in (1, 5):
        hits = (order[:, :k] == targets[:, None]).any(axis=1).mean()
        print(f"top-{k}: {hits:.4f} of {len(test)} images, {len(concepts)} concepts, {len(known)} known images")


def _pixels(file: Path, rows: list[dict[str, str]]) -> np.ndarray:
    return np.stack([_small(file.parent / row["image"]) for row in rows])


def _small(path: Path) -> np.ndarray:
    """An image trimmed, in the middle of a white square of 24×24 pixels: its numbers in [0, 1]."""
    with Image.open(path) as image:
        drawn = trimmed(image.convert("RGBA"))
    side = max(drawn.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2), mask=drawn.getchannel("A"))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32).ravel() / 255


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)[None]


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()

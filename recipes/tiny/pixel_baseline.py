"""How far plain pixels get: the nearest neighbour on 24×24 pixels, from other artists' pictures of the same concepts.

    python recipes/tiny/pixel_baseline.py --train drawings/train.csv --test drawings/openmoji.csv

A model that learned nothing but looks would do as well as this. Pictures lie on white; nearest by Euclidean distance;
the pictures of one concept count by their nearest.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

from zeroshot_cli.images import decode

SIDE = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    options = parser.parse_args()

    test = _read(options.test)
    concepts = sorted({row["caption"] for row in test})
    known = [row for row in _read(options.train) if row["caption"] in set(concepts)]
    index = {concept: number for number, concept in enumerate(concepts)}
    targets = np.array([index[row["caption"]] for row in test])
    classes = np.array([index[row["caption"]] for row in known])

    distance = _distances(_pixels(options.test, test), _pixels(options.train, known))
    nearest = np.full((len(test), len(concepts)), np.inf, dtype=np.float32)
    for column, concept in enumerate(classes):
        np.minimum(nearest[:, concept], distance[:, column], out=nearest[:, concept])
    order = np.argsort(nearest, axis=1, kind="stable")
    for k in (1, 5):
        hits = (order[:, :k] == targets[:, None]).any(axis=1).mean()
        print(f"top-{k}: {hits:.4f} of {len(test)} pictures, {len(concepts)} concepts, {len(known)} known pictures")


def _pixels(file: Path, rows: list[dict[str, str]]) -> np.ndarray:
    pictures = (decode(str(file.parent / row["image"])) for row in rows)
    small = (picture.resize((SIDE, SIDE), Image.Resampling.BOX) for picture in pictures)
    return np.stack([np.asarray(picture, dtype=np.float32).ravel() / 255 for picture in small])


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)[None]


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()

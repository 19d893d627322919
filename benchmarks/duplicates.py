"""Measure `zeroshot duplicates` on photographs with made copies: what a threshold finds, and how much of that is right.

Copies are made of some of the photographs: at half the size, at JPEG quality 60, and without 5 % at each side. Recall
is the share of copies that are found as a pair with their original, precision the share of right pairs among all pairs
of photographs and copies. Two photographs of one thing, taken one after the other, count as wrong; those with one label
are counted apart. For comparison, the first rows have embeddings alone.

    python benchmarks/duplicates.py [--data DIR] [--model small] [--copied 1000]

DIR holds train.csv, with columns image and label.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from zeroshot_cli import ImageCache, LoadedModel, load
from zeroshot_cli.embed.batches import auto_batch_size
from zeroshot_cli.embed.matrices import embedded_images
from zeroshot_cli.images.decode import Decoding
from zeroshot_cli.images.decoder_pool import auto_workers, thumbnails
from zeroshot_cli.search.copies import NEAR
from zeroshot_cli.search.listing import THRESHOLD
from zeroshot_cli.search.pairs import near_pairs
from zeroshot_cli.search.pixels import COARSELY_ALIKE, coarse, crops_of, likeness

COSINES = (0.80, 0.90, 0.95, 0.98)
THRESHOLDS = (0.90, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98)
BLOCK = 4096
Draw = Callable[[Image.Image, Path], None]


def half(image: Image.Image, path: Path) -> None:
    image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS).save(path, quality=85)


def recompressed(image: Image.Image, path: Path) -> None:
    image.save(path, quality=60)


def cropped(image: Image.Image, path: Path) -> None:
    w, h = image.size
    image.crop((round(w * 0.05), round(h * 0.05), round(w * 0.95), round(h * 0.95))).save(path, quality=90)


KINDS: dict[str, Draw] = {"half the size": half, "quality 60": recompressed, "cropped": cropped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/photos-train"))
    parser.add_argument("--model", default="small")
    parser.add_argument("--copied", type=int, default=1000)
    options = parser.parse_args()
    with (options.data / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = [(str(options.data / row["image"]), row["label"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    model = load(options.model)
    with tempfile.TemporaryDirectory(prefix="zeroshot-duplicates-") as folder:
        copies = make_copies([path for path, _ in rows[: options.copied]], Path(folder))
        paths = [path for path, _ in rows] + [path for copied in copies.values() for path in copied]
        x = embeddings(model, paths)
        workers, how = auto_workers(model.device.type), Decoding(exact=False)
        crops = np.stack([crops_of(each) for each in thumbnails(paths, workers=workers, decoding=how)])
    owners = np.concatenate([np.arange(len(rows)), np.tile(np.arange(options.copied), len(KINDS))])
    labels = np.unique([label for _, label in rows], return_inverse=True)[1][owners]
    kinds = np.repeat([-1, *range(len(KINDS))], [len(rows), *[options.copied] * len(KINDS)])
    print(f"{len(rows):,} photographs and {len(KINDS) * options.copied:,} copies of {options.copied:,} of them\n")
    near = np.concatenate(list(near_pairs(x, min(COSINES))))
    print(f"| at least | {' | '.join(KINDS)} | precision | wrong pairs with one label | with two |")
    print("|---|" + "---:|" * (len(KINDS) + 3))
    report("cosine", COSINES, near, products(x, near), (owners, labels, kinds))
    rough = np.concatenate(list(near_pairs(coarse(crops), COARSELY_ALIKE)))
    rough = rough[products(x, rough) >= NEAR]
    alike = np.concatenate([likeness(crops[part[:, 0]], crops[part[:, 1]]) for part in in_parts(rough)])
    report(f"cosine {NEAR}, pixels", THRESHOLDS, rough, alike, (owners, labels, kinds))


def report(
    title: str,
    thresholds: Sequence[float],
    pairs: np.ndarray,
    scores: np.ndarray,
    known: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    owners, labels, kinds = known
    first, second = pairs.T
    right = owners[first] == owners[second]
    one_label = labels[first] == labels[second]
    for threshold in thresholds:
        found = scores >= np.float32(threshold)
        of_originals = found & right & (kinds[first] == -1)
        shares = [np.sum(of_originals & (kinds[second] == kind)) / np.sum(kinds == kind) for kind in range(len(KINDS))]
        wrong = found & ~right
        bold = "**" * (thresholds is THRESHOLDS and threshold == THRESHOLD)
        name = f"{bold}{title} {threshold:.2f}{bold}"
        cells = [name, *(f"{share:.1%}" for share in shares), f"{right[found].mean():.1%}"]
        print(f"| {' | '.join(cells)} | {np.sum(wrong & one_label):,} | {np.sum(wrong & ~one_label):,} |", flush=True)


def products(x: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return np.concatenate([np.einsum("ij,ij->i", x[part[:, 0]], x[part[:, 1]]) for part in in_parts(pairs)])


def in_parts(pairs: np.ndarray) -> Iterator[np.ndarray]:
    yield from (pairs[start : start + BLOCK] for start in range(0, len(pairs), BLOCK))


def make_copies(paths: Sequence[str], folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            rgb = image.convert("RGB")
        for kind, draw in KINDS.items():
            target = folder / f"{number:05d}-{kind.split()[0]}.jpg"
            draw(rgb, target)
            found[kind].append(str(target))
    return found


def embeddings(model: LoadedModel, paths: Sequence[str]) -> np.ndarray:
    """Embed images as the command does."""
    x = np.zeros((len(paths), model.embed_dim), dtype=np.float32)
    blocks = embedded_images(
        model,
        paths,
        batch_size=auto_batch_size(len(paths), model),
        workers=auto_workers(model.device.type),
        cache=ImageCache(),
        decoding=Decoding(exact=False),
    )
    for block in blocks:
        if block.skipped:
            sys.exit(f"cannot read {block.skipped[0][1].path}")
        x[block.places] = block.embeddings
    return x


if __name__ == "__main__":
    main()

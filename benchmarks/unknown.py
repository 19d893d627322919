"""How well each way to reject images tells those of no label from those of a label; prints a table in Markdown.

    python benchmarks/unknown.py --set grocery=photos/grocery --set clothing=photos/clothing \\
        --set OpenMoji=drawings/openmoji.csv --others photos/misc --others photos/captioned

Each set is a folder of class folders, or a CSV with columns `image` and `label` or `caption`; its labels are the words
to choose from, and all other images are of none of them. The last row of a set has only every second label, and the
images of the others are to be rejected. AUROC is 100 if every image of a label has a higher score than every other
image, and 50 by chance; FPR@95 is the share of other images that pass when 95 % of those of a label do.

--min-score is the highest cosine; MCM the highest softmax of the cosines at temperature 1 (Ming et al., NeurIPS 2022,
arXiv 2211.13445); --background auto the share that `classify` compares with a half, the last columns its answer.
"""

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from zeroshot_cli import Classifier, Labels, LoadedModel, load
from zeroshot_cli.classify.rejection import KNOWN_FROM
from zeroshot_cli.classify.scoring import cosines, softmax
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.embed.images import EmbeddedImage, encode_images
from zeroshot_cli.embed.texts import TextCache

METHODS = ("`--min-score`", "MCM", "`--background auto`")
EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp"}
Images = list[tuple[Path, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", required=True, metavar="NAME=FOLDER|CSV", help="repeatable")
    parser.add_argument("--others", action="append", type=Path, default=[], metavar="FOLDER", help="repeatable")
    parser.add_argument("--model", action="append", metavar="NAME", help="repeatable; default: tiny and small")
    parser.add_argument("--prompts", default="imagenet-7")
    options = parser.parse_args()

    sets = {name: read(Path(path)) for name, _, path in (given.partition("=") for given in options.set)}
    others = [(path, "") for folder in options.others for path in images_of(folder)]
    columns = ["model", "labels of", "images", "others", *(f"{name} AUROC / FPR@95" for name in METHODS)]
    columns += ["of the images, kept", "of the others, unknown"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name in options.model or ("tiny", "small"):
        model = load(name, precision="fp32")
        embedded = {key: embed(model, images) for key, images in {**sets, "": others}.items()}
        for row in rows(model, sets, embedded, options.prompts):
            print(f"| {name} | {' | '.join(row)} |", flush=True)


def rows(
    model: LoadedModel, sets: dict[str, Images], embedded: dict[str, np.ndarray], prompts: str
) -> Iterator[list[str]]:
    for name, images in sets.items():
        labels = sorted({label for _, label in images})
        rest = np.concatenate([rows for other, rows in embedded.items() if other != name and len(rows)])
        yield [name, *measured(model, labels, prompts, embedded[name], rest)]
        half = set(labels[::2])
        ours = np.array([label in half for _, label in images])
        yield [
            f"{name}, every second",
            *measured(model, labels[::2], prompts, embedded[name][ours], embedded[name][~ours]),
        ]


def measured(
    model: LoadedModel, labels: Sequence[str], prompts: str, images: np.ndarray, others: np.ndarray
) -> list[str]:
    """The figures of a row: of images ne of the labels, and others me of none."""
    classifier = Classifier(model, Labels.of(labels), prompts, cache=TextCache())
    classifier.set_background("auto", cache=TextCache())
    assert classifier.negatives is not None
    both = np.concatenate([images, others])
    scores = cosines(both, classifier.embeddings)
    share = classifier.negatives.share(both)
    known = np.arange(len(both)) < len(images)
    ways = (scores.max(axis=1), softmax(scores.astype(np.float64)).max(axis=1), share)
    figures = [f"{100 * roc_auc_score(known, score):.1f} / {100 * fpr_at_95(known, score):.1f}" for score in ways]
    kept = share >= KNOWN_FROM
    counts = [str(len(images)), str(len(others))]
    return [*counts, *figures, f"{kept[known].mean():.0%}", f"{1 - kept[~known].mean():.0%}"]


def fpr_at_95(known: np.ndarray, score: np.ndarray) -> float:
    """The share of others that pass the highest threshold that at least 95 % of the known images pass."""
    others, images, _ = roc_curve(known, score, drop_intermediate=False)
    return float(others[np.argmax(images >= 0.95)])


def embed(model: LoadedModel, images: Images) -> np.ndarray:
    paths = [str(path) for path, _ in images]
    found: list[np.ndarray] = []
    for block in encode_images(model, paths, batch_size=32, workers=1, cache=ImageCache()):
        for path in block:
            assert isinstance(path, EmbeddedImage), path
            found.append(path.embedding)
    return np.stack(found) if found else np.empty((0, model.embed_dim), np.float32)


def read(path: Path) -> Images:
    if path.is_dir():
        return [(image, image.parent.name.replace("_", " ")) for image in images_of(path)]
    with path.open(newline="", encoding="utf-8") as file:
        return [(path.parent / row["image"], row.get("label") or row["caption"]) for row in csv.DictReader(file)]


def images_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)


if __name__ == "__main__":
    main()

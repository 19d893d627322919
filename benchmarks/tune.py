"""Measure tuning: accuracy by examples a class, calibration, precision, classes without examples, and time.

Classes and images, none of which are downloaded (`--data` has a folder or link for each):

- clothing and grocery: tuned on `photos-train/train.csv` (columns image, label, source), tested on the class folders
  `photos/clothing` and `photos/grocery`. The two sets name some classes differently. Groceries are tested by kind, so
  the examples' class is the folder of the kind in the image's path, not the brand in the label.
- drawings: tuned on `drawings/train.csv` (columns image, caption), the drawings of other artists whose caption is that
  of a test image; tested on `test-objects.csv` (columns image, label), the OpenMoji objects, as recipes/tiny/prepare.py
  writes it. Classes are the concepts that other artists drew eight times or more; with 16 examples, all that there are.

No draw is tuned on test images. The fixed settings of one example a class are from the pool: the least penalty with
which no draw lost a point there. Three earlier ones had been dropped after `tiny` lost over a point on the drawings
here, so that figure is not blind. The bundled models were trained with the images that examples are drawn from, so
their zero-shot accuracy on held-out examples flatters them, and cross-validation finds less to gain than there is.

Images held out are the test images, and as many more of the pool as there are examples, where it has so many. Each cell
is the mean of five draws of examples, ± half of its 95 % interval (Student's t); zero-shot is one figure.
"Vision only" is Gaussian discriminant analysis with the paper's shrinkage and no text. Embeddings are computed once a
model and kept in the user's cache.

    python benchmarks/tune.py [--data DIR] [--models tiny small] [--sets clothing grocery drawings] [--draws 5]
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from zeroshot_cli import Classifier, ImageCache, LoadedModel, load
from zeroshot_cli.classify.scoring import softmax
from zeroshot_cli.embed.batches import auto_batch_size
from zeroshot_cli.embed.images import EmbeddedImage, encode_images
from zeroshot_cli.evaluation.metrics import expected_calibration_error, wilson
from zeroshot_cli.images.decoder_pool import auto_workers
from zeroshot_cli.records import TuneMethod
from zeroshot_cli.tuning.core import calibrate, tune
from zeroshot_cli.tuning.gda import gaussians, paper_shrinkage
from zeroshot_cli.tuning.results import Tuned, TuneSettings

EXAMPLES = (1, 2, 4, 8, 16)  # of each class
PRECISION = 0.95
SETS = ("clothing", "grocery", "drawings")
DRAWN = 8  # times, by other artists
CLOTHES = {"t shirt": "t-shirt", "longsleeve": "long_sleeve_top"}  # the same garments in the two sets
KINDS = {"brown_cap_mushroom": "mushroom"}  # the only mushroom of the set
Rows = list[tuple[Path, str]]


@dataclass(frozen=True)
class Task:
    """Embeddings and classes of the pool that examples are drawn from, and of the test images; texts and scale."""

    name: str
    pool: np.ndarray
    pool_targets: np.ndarray
    test: np.ndarray
    targets: np.ndarray
    texts: np.ndarray
    scale: float

    def draw(self, examples: int, seed: int, classes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the pool to tune on, and those of the rest."""
        rng = np.random.default_rng(seed)
        chosen = [
            rng.permutation(np.flatnonzero(self.pool_targets == index))[:examples]
            for index in (range(len(self.texts)) if classes is None else classes)
        ]
        rows = np.concatenate(chosen)
        return rows, np.setdiff1d(np.arange(len(self.pool)), rows)

    def tuned(self, rows: np.ndarray, settings: TuneSettings) -> Tuned:
        return tune(self.pool[rows], self.pool_targets[rows], self.texts, self.scale, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", nargs="+", default=["tiny", "small"])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"there is no folder {options.data}; give --data DIR, with what --help lists")
    print("Time to tune 1,600 embeddings of 512 numbers, 100 classes, once libraries are loaded: ", end="")
    elapsed, worked = seconds()
    print(f"**{elapsed:.2f} s**, {worked:.2f} s of processor time, medians of five.")
    for name in options.models:
        model = load(name)
        tasks = [embed(model, each, *images_of(each, options.data)) for each in options.sets]
        print(f"\n### {name}\n\nTop-1 accuracy in per cent, by the number of examples a class:\n")
        show(accuracies(tasks, options.draws))
        print(f"\nCalibration and `--target-precision {PRECISION}` with 16 examples a class, on images held out:\n")
        show(calibrations(tasks, options.draws))
        print(
            "\nHalf of the classes with 16 examples, the others with none; accuracy on held-out images of each half:\n"
        )
        show(unseen(tasks, options.draws))


def show(lines: Iterator[str]) -> None:
    for line in lines:
        print(line, flush=True)


# what is measured


def accuracies(tasks: list[Task], draws: int) -> Iterator[str]:
    yield "| set | classes, test images | | " + " | ".join(str(k) for k in (0, *EXAMPLES)) + " |"
    yield "|---|---|---|" + "---:|" * (1 + len(EXAMPLES))
    worst = dict.fromkeys(("zero-shot", "vision only"), float("inf"))
    gains = {}
    for task in tasks:
        zero_shot = 100 * accuracy(task.test @ task.texts.T, task.targets)
        rows: dict[str, list[str]] = {"tuned": [], "vision only": []}
        methods = []
        for k in EXAMPLES:
            ours, theirs = [], []
            for seed in range(draws):
                chosen, _ = task.draw(k, seed)
                found = task.tuned(chosen, TuneSettings(seed=seed))
                methods.append(found.chosen.method)
                ours.append(100 * accuracy(scores(found, task.test), task.targets))
                theirs.append(100 * vision_only(task, chosen))
            rows["tuned"].append(cell(ours))
            rows["vision only"].append(cell(theirs))
            worst["zero-shot"] = min(worst["zero-shot"], statistics.mean(ours) - zero_shot)
            differences = [a - b for a, b in zip(ours, theirs, strict=True)]
            worst["vision only"] = min(worst["vision only"], statistics.mean(differences) + half_width(differences))
            gains[task.name] = statistics.mean(ours) - zero_shot
        about = f"{len(task.texts)}, {len(task.targets)}"
        for name, cells in rows.items():
            first = f"{zero_shot:.1f}" if name == "tuned" else ""
            yield f"| {task.name} | {about} | {name} | {first} | " + " | ".join(cells) + " |"
        share = methods.count(TuneMethod.LOGISTIC) / len(methods)
        yield f"| | | logistic regression was picked in {share:.0%} | | " + " | ".join("" for _ in EXAMPLES) + " |"
    gained = ", ".join(f"{name} {gain:+.1f}" for name, gain in gains.items())
    yield f"\nGain over zero-shot with {EXAMPLES[-1]} examples, in points: {gained}. The lowest difference of tuned to"
    yield f"zero-shot is {worst['zero-shot']:+.1f}; the lowest upper end of the interval of tuned minus vision only is"
    yield f"{worst['vision only']:+.1f}."


def calibrations(tasks: list[Task], draws: int) -> Iterator[str]:
    yield "| set | images | error zero-shot | calibrated | tuned | answered | right of these (95 % interval) |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for task in tasks:
        figures: dict[str, list[tuple[float, float, float, int, int, int]]] = {"test": [], "more of the pool": []}
        for seed in range(draws):
            chosen, _ = task.draw(16, seed)
            rest = np.setdiff1d(task.draw(32, seed)[0], chosen)  # of the same mix of classes
            settings = TuneSettings(seed=seed, target_precision=PRECISION)
            found = task.tuned(chosen, settings)
            plain = calibrate(task.pool[chosen], task.pool_targets[chosen], task.texts, task.scale, settings)
            for name, x, y in (
                ("test", task.test, task.targets),
                ("more of the pool", task.pool[rest], task.pool_targets[rest]),
            ):
                if not len(y):
                    continue
                cosines = x @ task.texts.T
                sure = softmax(scores(found, x).astype(np.float64) / found.temperature)
                given = sure.argmax(axis=1)
                assert found.thresholds is not None
                kept = sure.max(axis=1) >= found.thresholds[given]
                errors = (
                    calibration_error(task.scale * cosines, y),
                    calibration_error(cosines / plain.temperature, y),
                    calibration_error(scores(found, x) / found.temperature, y),
                )
                figures[name].append((*errors, len(y), int(kept.sum()), int((given == y)[kept].sum())))
        for name, each in figures.items():
            if not each:
                continue
            before, calibrated, after = (statistics.mean(row[place] for row in each) for place in range(3))
            n, kept_all, right = (sum(row[place] for row in each) for place in (3, 4, 5))
            yield (
                f"| {task.name} | {name} | {before:.3f} | {calibrated:.3f} | {after:.3f} | {kept_all / n:.0%} | "
                + (precision_cell(right, kept_all, draws) if kept_all else "none answered")
                + " |"
            )


def precision_cell(right: int, kept: int, draws: int) -> str:
    """The precision over all draws; its interval is that of one draw's images, since draws share them."""
    low, high = wilson(round(right / draws), max(1, round(kept / draws)))
    return f"{right / kept:.1%} ({low:.1%} to {high:.1%})"


def unseen(tasks: list[Task], draws: int) -> Iterator[str]:
    yield "| set | with examples: zero-shot | tuned | without: zero-shot | tuned |"
    yield "|---|---:|---:|---:|---:|"
    for task in tasks:
        columns: list[list[float]] = [[], [], [], []]
        for seed in range(draws):
            some = np.random.default_rng(seed).permutation(len(task.texts))[: len(task.texts) // 2]
            chosen, rest = task.draw(16, seed, some)
            found = task.tuned(chosen, TuneSettings(seed=seed))
            with_examples = np.isin(task.pool_targets[rest], some)
            for place, rows in enumerate((rest[with_examples], rest[~with_examples])):
                if len(rows):
                    y = task.pool_targets[rows]
                    columns[2 * place].append(100 * accuracy(task.pool[rows] @ task.texts.T, y))
                    columns[2 * place + 1].append(100 * accuracy(scores(found, task.pool[rows]), y))
        yield f"| {task.name} | " + " | ".join(cell(column) if column else "" for column in columns) + " |"


def seconds() -> tuple[float, float]:
    rng = np.random.default_rng(0)
    centres, targets = rng.normal(size=(100, 512)), np.repeat(np.arange(100), 16)
    images, texts = (
        (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        for x in (centres[targets] + 5 * rng.normal(size=(1600, 512)), centres + 3 * rng.normal(size=(100, 512)))
    )
    times = []
    for _ in range(6):
        start = time.perf_counter(), time.process_time()
        tune(images, targets, texts, 100.0, TuneSettings(target_precision=PRECISION))
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    elapsed, worked = zip(*times[1:], strict=True)  # the first loads scipy
    return statistics.median(elapsed), statistics.median(worked)


# numbers


def scores(found: Tuned, embeddings: np.ndarray) -> np.ndarray:
    return embeddings @ found.weights.T + found.bias


def accuracy(given: np.ndarray, targets: np.ndarray) -> float:
    return float((given.argmax(axis=1) == targets).mean())


def vision_only(task: Task, rows: np.ndarray) -> float:
    x = task.pool[rows].astype(np.float64)
    found = gaussians(x, task.pool_targets[rows])
    weights, biases = found.discriminants(paper_shrinkage(*x.shape))
    best = found.classes[(task.test @ weights.T + biases).argmax(axis=1)]
    return float((best == task.targets).mean())


def calibration_error(logits: np.ndarray, targets: np.ndarray) -> float:
    sure = softmax(logits.astype(np.float64))
    return expected_calibration_error(sure.max(axis=1), sure.argmax(axis=1) == targets)


def cell(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {half_width(values):.1f}"


def half_width(values: list[float]) -> float:
    if len(values) < 2:
        return 0.0
    return float(stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5)


# data


def images_of(name: str, data: Path) -> tuple[Rows, Rows]:
    """The images that examples are drawn from, and the test images, with their classes."""
    if name == "drawings":
        objects = [(path, row["label"]) for path, row in rows_of(data / "test-objects.csv")]
        drawings = [(path, row["caption"]) for path, row in rows_of(data / "drawings" / "train.csv")]
        times = Counter(concept for _, concept in drawings)
        often = {concept for _, concept in objects if times[concept] >= DRAWN}
        return tuple([pair for pair in pairs if pair[1] in often] for pairs in (drawings, objects))
    photographs = [(path, row) for path, row in rows_of(data / "photos-train" / "train.csv") if row["source"] == name]
    if name == "clothing":
        pool = [(path, CLOTHES.get(row["label"], row["label"])) for path, row in photographs]
    else:
        pool = [(path, kind_of(row["image"])) for path, row in photographs]
    return pool, [(file, file.parent.name) for file in sorted((data / "photos" / name).glob("*/*")) if file.is_file()]


def kind_of(image: str) -> str:
    """The kind of a grocery, from a path as train/grocery/Fruit/Apple/Royal-Gala/Royal-Gala_001.jpg."""
    kind = image.split("/")[3].lower().replace("-", "_")
    return KINDS.get(kind, kind)


def rows_of(table: Path) -> list[tuple[Path, dict[str, str]]]:
    with table.open(newline="", encoding="utf-8") as file:
        return [(table.parent / row["image"], row) for row in csv.DictReader(file)]


def embed(model: LoadedModel, name: str, pool: Rows, test: Rows) -> Task:
    classes = sorted({label for _, label in test})
    if strangers := {label for _, label in pool} - set(classes):
        sys.exit(f"{name}: the examples have classes that the test images lack: {', '.join(sorted(strangers))}")
    texts = Classifier(model, [label.replace("_", " ") for label in classes]).embeddings.numpy()
    (x, y), (test_x, test_y) = (embeddings(model, rows, classes) for rows in (pool, test))
    print(f"{model.name}, {name}: {len(y)} and {len(test_y)} images", file=sys.stderr)
    return Task(name, x, y, test_x, test_y, texts, model.logit_scale)


def embeddings(model: LoadedModel, rows: Rows, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    blocks = encode_images(
        model,
        [str(path) for path, _ in rows],
        batch_size=auto_batch_size(len(rows), model),
        workers=auto_workers(model.device.type),
        cache=ImageCache(),
    )
    found = [item for block in blocks for item in block]
    unread = [item.path for item in found if not isinstance(item, EmbeddedImage)]
    if unread:
        sys.exit(f"cannot read {unread[0]}")
    x = np.stack([item.embedding for item in found if isinstance(item, EmbeddedImage)])
    return x, np.array([classes.index(label) for _, label in rows])


if __name__ == "__main__":
    main()

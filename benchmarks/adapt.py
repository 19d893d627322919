"""Measure what `classify --adapt` takes and what it gains.

Time and memory are those of made-up embeddings, each in a process of its own. Accuracy needs labelled images, in the
folders of TABLES below --data; what is not there is left out. Of each set, batches of 64 and 500 images are drawn in
which all classes may be present, 2 to 10 of them, or 1 to 4, as in the paper (arXiv 2501.03729), beside the whole set.
The labels to choose from are always all of them. A figure is the mean over batches; the 95 % interval of the gain is
Student's t.

    python benchmarks/adapt.py [--only time|memory|accuracy] [--data DIR] [--model tiny --model small]
"""

import argparse
import csv
import multiprocessing
import re
import time
import warnings
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from zeroshot_cli.classify.adapt import FEWEST, Candidates, Settings, adapt
from zeroshot_cli.classify.scoring import softmax

EMBEDDING = 512
LIMITS = {(10_000, 100): 15, (10_000, 1000): 30}  # seconds
TABLES = {  # the table below --data, and the folder of those of its images that count
    "clothing, training": ("photos-train/train.csv", "clothing"),
    "grocery, training": ("photos-train/train.csv", "grocery"),
    "clothing, test": ("photos/labels.csv", "clothing"),
    "grocery, test": ("photos/labels.csv", "grocery"),
    "OpenMoji": ("drawings/openmoji.csv", "openmoji"),
}
PAPER = Settings(anchor=1, temper=50, shared=False)
ANY = 10**6
SCENARIOS = {  # images of a batch, the fewest and the most classes in it, batches
    "all images, all classes": (None, ANY, ANY, 1),
    "500 images, all classes": (500, ANY, ANY, 5),
    "500 images, 2 to 10 classes": (500, 2, 10, 10),
    "64 images, all classes": (64, ANY, ANY, 20),
    "64 images, 2 to 10 classes": (64, 2, 10, 20),
    "64 images, 1 to 4 classes": (64, 1, 4, 20),
}


def main() -> None:
    options = _options()
    if options.only in (None, "time"):
        for (images, labels), limit in LIMITS.items():
            seconds, processor = _measure(images, labels)[:2]
            what = f"{images:,} images × {labels:,} labels"
            print(f"time: {what} in {seconds:.1f} s (at most {limit}), {processor:.1f} s of one core", flush=True)
    if options.only in (None, "memory"):
        seconds, processor, before, after = _measure(100_000, 1000)
        print(
            f"memory: 100,000 images × 1,000 labels take {after:.0f} MiB at the peak, {before:.0f} MiB before it begins"
        )
        print(f"  in {seconds:.0f} s, {processor:.0f} s of one core", flush=True)
    tables = {name: (options.data / path, folder) for name, (path, folder) in TABLES.items()}
    there = {name: table for name, table in tables.items() if table[0].is_file()}
    if options.only in (None, "accuracy") and there:
        warnings.simplefilter("ignore")
        print("| model | images | batches | zero-shot | `--adapt` | gain | the paper's settings |")
        print("|---|---|---|---|---|---|---|")
        for model in options.model or ("tiny", "small"):
            for name, (path, folder) in there.items():
                _measure_accuracy(model, name, _read(path, folder))


def _measure(images: int, labels: int) -> list[float]:
    """Return the seconds, those of processors, and the MiB before and at the peak, of a process of its own."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_made_up, args=(images, labels, results))
    process.start()
    process.join()
    return [results.get() for _ in range(4)]


def _made_up(n: int, c: int, results: SimpleQueue[float]) -> None:
    random = np.random.default_rng(0)
    texts = _unit(random.standard_normal((c, EMBEDDING), dtype=np.float32))
    centres = texts + 0.06 * random.standard_normal((c, EMBEDDING), dtype=np.float32)
    images = np.empty((n, EMBEDDING), dtype=np.float32)
    for first in range(0, n, 1000):
        noise = 0.1 * random.standard_normal((len(images[first : first + 1000]), EMBEDDING), dtype=np.float32)
        images[first : first + 1000] = _unit(centres[random.integers(0, c, len(noise))] + noise)
    before = _candidates(images, texts, 30)
    held = _peak()
    start, used = time.perf_counter(), time.process_time()
    adapt(images, texts, before)
    for value in (time.perf_counter() - start, time.process_time() - used, held, _peak()):
        results.put(value)


def _candidates(images: Any, texts: Any, scale: float) -> Candidates:
    return Candidates.joined(
        Candidates.of(softmax(scale * (images[start : start + 512].astype(float) @ texts.T.astype(float))))
        for start in range(0, len(images), 512)
    )


def _measure_accuracy(name: str, source: str, rows: dict[str, str]) -> None:
    from zeroshot_cli.classify.classifier import Classifier, embeddings_of
    from zeroshot_cli.embed.image_cache import ImageCache
    from zeroshot_cli.embed.images import EmbeddedImage, encode_images
    from zeroshot_cli.models.load import load

    model = load(name)
    labels = sorted(set(rows.values()))
    texts = Classifier(model, labels, "photo" if len(labels) < 1000 else "plain").embeddings.numpy()
    blocks = encode_images(model, list(rows), batch_size=32, workers=2, cache=ImageCache())
    encoded = [item for block in blocks for item in block if isinstance(item, EmbeddedImage)]
    images = embeddings_of(model, encoded)
    truth = np.array([labels.index(rows[item.path]) for item in encoded])
    _compare(f"| {name} | {source}: {len(images)}, {len(labels)} labels |", images, texts, truth, model.logit_scale)


def _compare(row: str, images: Any, texts: Any, truth: Any, scale: float) -> None:
    """Print a row of the table for each way to draw batches."""
    for scenario, (size, least, most, number) in SCENARIOS.items():
        if (size or 0) > len(images) / 2 or most * len(images) / len(texts) < 2 * FEWEST:  # batches would be handfuls
            continue
        results = []
        for batch in _batches(truth, size, (least, most), number):
            before = _candidates(images[batch], texts, scale)
            tried = (before, adapt(images[batch], texts, before), adapt(images[batch], texts, before, None, PAPER))
            results.append([(_answers(each) == truth[batch]).mean() for each in tried])
        alone, adapted, paper = 100 * np.mean(results, axis=0)
        gains = 100 * (np.array(results)[:, 1] - np.array(results)[:, 0])
        figures = f"{alone:.1f} % | {adapted:.1f} % | {_interval(gains)} | {paper - alone:+.1f} |"
        print(f"{row} {scenario} | {figures}", flush=True)


def _batches(truth: Any, size: int | None, classes: tuple[int, int], number: int) -> Iterator[Any]:
    random = np.random.default_rng(0)
    present = np.unique(truth)
    while number:
        some = min(int(random.integers(classes[0], classes[1] + 1)), len(present))
        found = np.flatnonzero(np.isin(truth, random.choice(present, some, replace=False)))
        if size is not None and len(found) > size:
            found = random.choice(found, size, replace=False)
        if len(found) >= FEWEST:
            number -= 1
            yield found


def _answers(candidates: Candidates) -> Any:
    return candidates.classes[np.arange(len(candidates.classes)), candidates.probabilities.argmax(axis=1)]


def _interval(gains: Any) -> str:
    if len(gains) == 1:
        return f"{gains[0]:+.1f}"
    half = stats.sem(gains) * stats.t.ppf(0.975, len(gains) - 1)
    return f"**{gains.mean():+.1f}** ({gains.mean() - half:+.1f} to {gains.mean() + half:+.1f})"


def _read(table: Path, folder: str) -> dict[str, str]:
    """Return the labels of a table's images in a folder, by path."""
    with table.open(encoding="utf-8", newline="") as file:
        named = [
            (row.get("image") or row["path"], row.get("label") or row.get("caption")) for row in csv.DictReader(file)
        ]
    return {str(table.parent / image): name for image, name in named if name and folder in Path(image).parts}


def _unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _peak() -> float:
    """MiB of memory at the peak; not getrusage, where a child starts with the peak of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("time", "memory", "accuracy"))
    parser.add_argument("--data", type=Path, default=Path(), help="the folder of photos/, photos-train/ and drawings/")
    parser.add_argument("--model", action="append")
    return parser.parse_args()


if __name__ == "__main__":
    main()

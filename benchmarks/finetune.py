"""Fine-tune bundled models on few labelled images with the defaults of `zeroshot train`: top-1 before and after.

Examples are drawn, with a seed, from a CSV with the columns image, label and source; 300 others of the same source are
kept back to measure on. `tiny` has learned from most of these photographs, kept-back ones among them: its figures
before are too high there, and its gains too low. --unseen has class folders, clothing/ and grocery/, that no bundled
model has seen. The drawings are by an artist that none has seen. Nothing is downloaded: the data are those of recipes/.

    python benchmarks/finetune.py [--photos FILE] [--drawings FILE] [--unseen DIR] [--pairs 100 --pairs 500]
    python benchmarks/finetune.py --pairs 500 --start tiny --start "tiny --lora 2" --start "small --lock-trunk"
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.datasets.labelled import LabelledImages, read_dataset
from zeroshot_cli.evaluation.classification import Pipeline, answer
from zeroshot_cli.evaluation.metrics import top_k_accuracy
from zeroshot_cli.models.load import load
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.files.folder import Started
from zeroshot_cli.train.loop import train
from zeroshot_cli.words.prompts import choose_prompts

KEPT_BACK = 300

Row = tuple[str, str]  # path of an image, label


def rows_of(table: Path, source: str, label: str) -> list[Row]:
    """Return the rows of a source, with absolute paths."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == source]
    return [(str((table.parent / row["image"]).resolve()), row[label]) for row in rows]


def write(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label"), *rows])
    return path


def top1(model: str, dataset: LabelledImages) -> float:
    loaded = load(model, device="cpu")
    classifier = Classifier(loaded, dataset.labels, choose_prompts(None, (), None))
    return top_k_accuracy(answer(loaded, dataset, classifier, Pipeline(workers=1)).ranks, 1)


def measured(name: str, pool: list[Row], pairs: int, start: str, unseen: Path | None) -> str:
    """Return a row of the table."""
    model, *more = start.split(" --")
    options = (each.split() for each in more)
    settings = {name.replace("-", "_"): int(value[0]) if value else True for name, *value in options}
    with tempfile.TemporaryDirectory() as folder:
        sets = [read_dataset(write(Path(folder) / "kept.csv", pool[:KEPT_BACK]))]
        if unseen is not None and (unseen / name).is_dir():
            sets.append(read_dataset(unseen / name))
        before = [top1(model, each) for each in sets]
        examples = write(Path(folder) / "examples.csv", pool[KEPT_BACK : KEPT_BACK + pairs])
        began, chosen = time.monotonic(), ""
        for event in train(TrainConfig(data=(str(examples),), model=model, **settings), Path(folder) / "run"):
            if isinstance(event, Started):
                chosen = ", ".join(f"{value:g}" for value in event.chosen.values())
        seconds = time.monotonic() - began
        after = [top1(f"{folder}/run", each) for each in sets]
    figures = [f"{was:.1%} → {now:.1%}" for was, now in zip(before, after, strict=True)]
    count = min(pairs, len(pool) - KEPT_BACK)
    return f"| {name} | {count:,} | {start} | {figures[0]} | {''.join(figures[1:]) or '–'} | {chosen} | {seconds:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=Path("photos/train.csv"))
    parser.add_argument("--drawings", type=Path, default=Path("runs/drawings/openmoji.csv"))
    parser.add_argument("--unseen", type=Path, help="class folders in clothing/ and grocery/")
    parser.add_argument("--pairs", type=int, action="append", help="default: 100, 500 and 1,000")
    parser.add_argument("--start", action="append", help="a model, and options of train; default: tiny")
    parser.add_argument("--set", action="append", dest="sets", help="default: clothing, grocery and drawings")
    parser.add_argument("--seed", type=int, default=0, help="of the examples that are drawn")
    options = parser.parse_args()
    for table in (options.photos, options.drawings):
        if not table.is_file():
            sys.exit(f"{table}: no such file; recipes/tiny/README.md says where it comes from")
    warnings.simplefilter("ignore")
    print("| set | examples | start | kept back | unseen | epochs, batch, learning rate, mixture | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name in options.sets or ("clothing", "grocery", "drawings"):
        table, source, label = options.photos, name, "label"
        if name == "drawings":
            table, source, label = options.drawings, "openmoji", "caption"
        pool = rows_of(table, source, label)
        random.Random(options.seed).shuffle(pool)
        for pairs in options.pairs or (100, 500, 1000):
            for start in options.start or ("tiny",):
                print(measured(name, pool, pairs, start, options.unseen), flush=True)


if __name__ == "__main__":
    main()

"""Measure the button of `zeroshot review`: from a click to the new answers of 10,000 images, embeddings cached.

Embeddings are made up, 100 classes around random centres, put into a cache of the script's own under `tiny`, whose
texts the labels are. 300 images have been decided on, 3 a class. Timed are the start of the page (results, model, all
embeddings, five labels an image) and training (cross-validation, the classifier file, all answers), the fastest and the
median of five.

    python benchmarks/review.py [--images 10000] [--classes 100] [--decided 300] [--rounds 5]
"""

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from zeroshot_cli import ImageCache, load
from zeroshot_cli.embed.image_cache import FileState, NewImage
from zeroshot_cli.records import LabelScore, Prediction
from zeroshot_cli.results.formats import Format, row_writer
from zeroshot_cli.results.run_record import RunRecord, write_record
from zeroshot_cli.review.answers import decoding_of, scorer_of
from zeroshot_cli.review.corrections import Corrections
from zeroshot_cli.review.run import read_run
from zeroshot_cli.review.session import Review
from zeroshot_cli.words.labels import Labels
from zeroshot_cli.words.prompts import read_prompts

BATCH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 10_000), ("classes", 100), ("decided", 300), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZEROSHOT_CACHE_DIR"] = str(Path(folder, "cache"))
        results, truth = made_up(Path(folder), given.images, given.classes)
        starts, trainings, cores, changed = [], [], [], 0
        for _ in range(given.rounds):
            began = time.perf_counter()
            run = read_run(results)
            scorer, why_not = scorer_of(run)
            assert scorer is not None, why_not
            assert scorer.known.all()
            log = Corrections(Path(folder, "corrections.csv"))
            review = Review(run, log, scorer)
            starts.append(time.perf_counter() - began)
            if not log.decided:
                for number in range(given.decided):
                    review.decide([number], "label", truth[number])
            began, busy = time.perf_counter(), time.process_time()
            review.train()
            while (state := review.training())["state"] == "running":
                time.sleep(0.002)
            trainings.append(time.perf_counter() - began)
            cores.append(time.process_time() - busy)
            assert state["state"] == "done", state
            changed = len(state["changed"])
            log.close()
    what = f"{given.images:,} images, {given.classes} classes, {given.decided} decided"
    print(f"start of the page, {what}: {min(starts):.2f} s, median {statistics.median(starts):.2f} s")
    print(
        f"training and all answers, {what}: {min(trainings):.2f} s, median {statistics.median(trainings):.2f} s, "
        f"{statistics.median(cores):.2f} s of processor time"
    )
    print(f"{changed:,} answers changed")


def made_up(folder: Path, images: int, classes: int) -> tuple[Path, list[str]]:
    """Write results of a run and its record, and put an embedding for each image into the cache; return the labels."""
    rng, model = np.random.default_rng(0), load("tiny", device="cpu", precision="fp32")
    names = [f"thing {number}" for number in range(classes)]
    centres = rng.standard_normal((classes, model.embed_dim))
    belongs = rng.integers(classes, size=images)
    embeddings = centres[belongs] + rng.standard_normal((images, model.embed_dim))
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    (folder / "photos").mkdir()
    paths = [str(folder / "photos" / f"{number}.jpg") for number in range(images)]
    for path in paths:
        Path(path).write_text(path)
    time.sleep(2.1)  # a file that is just written is not known by its time
    answers = [Prediction(path, (LabelScore(names[0], 0.1, 0.02),)) for path in paths]
    results = folder / "results.csv"
    with results.open("wb") as file:
        row_writer(file.write, Format.CSV).write(answers)
    prompts = read_prompts("plain")
    texts = [[*each] for each in prompts.fill(Labels.of(names))]
    settings = {
        "model": "tiny",
        "labels": names,
        "prompts": "plain",
        "device": "cpu",
        "precision": "fp32",
        "weights": model.fingerprint,
        "texts of the labels": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
    }
    write_record(folder / "results.csv.run.json", RunRecord(settings=settings, resolved={"batch_size": BATCH}))
    decoding = decoding_of(read_run(results))
    cache = ImageCache().for_run(model, decoding=decoding.mode, batch_size=BATCH)
    new = (
        NewImage(FileState.of(path), hashlib.sha256(path.encode()).digest(), row)
        for path, row in zip(paths, embeddings, strict=True)
    )
    cache.put(new)
    return results, [names[number] for number in belongs]


if __name__ == "__main__":
    main()

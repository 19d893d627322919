"""Parts that the processes of a cluster write are those of one process, byte for byte."""

import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from workers import AT, question

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.cli import engine_options
from zeroshot_cli.cli.engine_options import OnRay
from zeroshot_cli.cluster.worker import Worker
from zeroshot_cli.embed.parts import EmbeddingParts
from zeroshot_cli.errors import UsageError
from zeroshot_cli.images.decode import EXACTLY
from zeroshot_cli.models.load import load
from zeroshot_cli.records import Counts, SkippedImage
from zeroshot_cli.results.shards.manifest import Manifest
from zeroshot_cli.results.shards.parts import Chosen, ResultParts, part_name, read_part

LABELS = ("--label", "red", "--label", "green")
MODEL = ("--model", "tiny", "--precision", "fp32", "--device", "cpu", "--batch-size", "8", "--ignore-errors")
COMMANDS = {"classify": ("classify", "photos", *LABELS), "embed": ("embed", "photos")}


def zeroshot(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "zeroshot_cli", *arguments, *(MODEL if arguments[0] in COMMANDS else ())],
        cwd=folder,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.decode()


def parts_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part*")}


@pytest.mark.parametrize("kind", ["results", "embeddings"])
def test_a_worker_writes_the_part_of_its_task(kind: str, draw_photos: Callable[..., list[str]], tmp_path: Path) -> None:
    paths = draw_photos(tmp_path / "photos", 25)
    model = load("tiny", device="cpu", precision="fp32")
    parts: Any = EmbeddingParts(tmp_path, model.embed_dim, {"model": "tiny"})
    asked: dict[str, Any] = {}
    if kind == "results":
        parts = ResultParts(tmp_path, ())
        asked = {"classifier": Classifier(model, ("red", "green")).without_model()}
    worker = Worker(AT)
    manifest = Manifest.of([paths], tmp_path)
    try:
        worker.begin(pickle.loads(pickle.dumps(question(model, parts=parts, **asked))))
        for images in (range(10, 20), range(20, 25)):
            task = list(Chosen(manifest, [images]).numbered())
            written = []
            for _ in range(2):  # a task of an actor that died after its work is done again
                answers = worker(task)
                assert answers == [(number, None, "") for number in images]
                written.append((tmp_path / part_name(images)).read_bytes())
            assert written[0] == written[1]
            broken = sum(number % 10 == 9 for number in images)
            expected = Counts(classified=len(images) - broken, unreadable=broken)
            assert read_part(tmp_path / part_name(images), paths[images.start : images.stop]) == expected
            assert read_part(tmp_path / part_name(images), paths[: len(images)]) is None
    finally:
        worker.close()
        manifest.close()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_actors_of_ray_write_the_parts_of_one_process(
    command: str, draw_photos: Callable[..., list[str]], tmp_path: Path
) -> None:
    draw_photos(tmp_path / "photos", 60)
    run = (*COMMANDS[command], "--task-images", "16")
    zeroshot(tmp_path, *run, "-o", "local/")
    zeroshot(tmp_path, *run, "-o", "ray/", "--engine", "ray", "--actors", "2")
    assert len(parts_in(tmp_path / "local")) == 4
    assert parts_in(tmp_path / "ray") == parts_in(tmp_path / "local")
    for name in (part_name(range(16, 32)), part_name(range(48, 60))):
        (tmp_path / "ray" / name).unlink()
    said = zeroshot(tmp_path, *run, "-o", "ray/", "--engine", "ray", "--resume")
    assert "kept 32 images of ray; 2 parts still to do" in said
    assert parts_in(tmp_path / "ray") == parts_in(tmp_path / "local")
    form = "csv" if command == "classify" else "npz"
    zeroshot(tmp_path, "merge", "ray", "-o", f"merged.{form}")
    zeroshot(tmp_path, *COMMANDS[command], "-o", f"one.{form}")
    assert (tmp_path / f"merged.{form}").read_bytes() == (tmp_path / f"one.{form}").read_bytes()


def test_a_part_that_a_network_disk_shows_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, asked = ResultParts(tmp_path, ()), [(0, "a.png"), (1, "b.png")]
    results = [SkippedImage(path, "no such file") for _, path in asked]
    options: Any = SimpleNamespace(workers="1", decoding=lambda: EXACTLY, cache=False)
    engine: Any = SimpleNamespace(run=lambda question, items: iter([(asked, [])]))
    nothing: Any = None
    cluster, model = OnRay(options, engine, 1, nothing), SimpleNamespace(fingerprint="f" * 64)
    filled: Any = partial(cluster.filled, parts, model, [path for _, path in asked], 4)
    monkeypatch.setattr(time, "sleep", lambda seconds: parts(range(2), results))
    assert list(filled()) == [Counts(unreadable=2)]
    (tmp_path / part_name(range(2))).unlink()
    monkeypatch.setattr(engine_options, "_DELAY", -1)
    with pytest.raises(UsageError, match=r"was written by an actor, and this machine does not see it; name a folder"):
        list(filled())

"""What a process of a cluster answers, without any engine: the same as one process, whatever the tasks."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workers import AT, question

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.classify.rejection import Rules
from zeroshot_cli.cluster.worker import (
    Item,
    Machine,
    ModelAt,
    Question,
    Worker,
    folder_seen,
    outcomes_of,
    results_of,
    versions_here,
)
from zeroshot_cli.embed.images import EmbeddedImage, encode_images
from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.images.given import GivenImage
from zeroshot_cli.models.load import load
from zeroshot_cli.records import SkippedImage

LABELS = ("red", "green", "blue square")


@pytest.fixture(scope="module")
def model() -> Any:
    return load("tiny", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def classifier(model: Any) -> Classifier:
    return Classifier(model, LABELS)


def tasks(images: list[Any], size: int) -> list[list[Item]]:
    numbered = list(enumerate(images))
    return [numbered[start : start + size] for start in range(0, len(images), size)]


def answers(asked: Question, images: list[Any], size: int) -> list[Any]:
    """The answers to tasks of a size, each pickled there and back."""
    worker = Worker(pickle.loads(pickle.dumps(AT)))
    try:
        worker.begin(pickle.loads(pickle.dumps(asked)))
        done = [worker(pickle.loads(pickle.dumps(task))) for task in tasks(images, size)]
    finally:
        worker.close()
    found = [answer for task in pickle.loads(pickle.dumps(done)) for answer in task]
    assert [number for number, *_ in found] == list(range(len(images)))
    return found


@pytest.mark.parametrize("size", [3, 100])
@pytest.mark.parametrize(
    "how", [{}, {"top_k": 2, "shown": 3}, {"rules": Rules(multi_label=True)}, {"rules": Rules(min_probability=0.4)}]
)
def test_labels_are_those_of_one_process(
    classifier: Classifier, draw_photos: Callable[..., list[str]], tmp_path: Path, size: int, how: dict[str, Any]
) -> None:
    paths = draw_photos(tmp_path / "photos", 25)
    images = [*paths, SkippedImage("gone.jpg", "no such file"), str(tmp_path / "not there.jpg")]
    rules = how.get("rules", Rules())
    expected = list(classifier.predict(images, batch_size=4, workers=1, rules=rules, top_k=how.get("top_k")))
    classifier.background = classifier.background_of(rules)
    asked = question(classifier.model, classifier=classifier.without_model(), **how)
    classifier.background = None
    found = results_of(answers(asked, images, size))
    others = [() if isinstance(each, SkippedImage) else each.others for each in found]
    assert [each if isinstance(each, SkippedImage) else replace(each, others=()) for each in found] == expected
    assert {len(each) for each in others} <= {0, 1}
    assert sum(isinstance(each, SkippedImage) for each in found) == 4


def test_embeddings_are_those_of_one_process(model: Any, draw_photos: Callable[..., list[str]], tmp_path: Path) -> None:
    images = draw_photos(tmp_path / "photos", 25)
    expected = [item for block in encode_images(model, images, batch_size=4, workers=1) for item in block]
    found = list(outcomes_of(answers(question(model), images, 6), images))
    for one, other in zip(found, expected, strict=True):
        if isinstance(one, EmbeddedImage):
            assert isinstance(other, EmbeddedImage)
            assert (one.path, one.note) == (other.path, other.note)
            assert np.array_equal(one.embedding, other.embedding)
        else:
            assert one == other


def test_paths_are_as_given_wherever_the_process_is(
    classifier: Classifier, draw_photos: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Path(draw_photos(tmp_path / "photos", 4)[0]).read_bytes()
    images = ["photos/0001.png", "./photos/0002.png", "nowhere/x.png", GivenImage("s3://bucket/x.png", content)]
    monkeypatch.chdir(tmp_path / "photos")
    classifier.corrected = {str(tmp_path / "photos" / "0002.png"): "blue square"}
    asked = question(classifier.model, classifier=classifier.without_model(), folder=str(tmp_path))
    classifier.corrected = {}
    first, second, third, fourth = results_of(answers(asked, images, 2))
    assert [each.path for each in (first, second, third, fourth)] == [*images[:3], "s3://bucket/x.png"]
    assert second.label == "blue square"
    assert third == SkippedImage("nowhere/x.png", "no such file")


def test_a_model_with_other_weights_is_refused(model: Any) -> None:
    with pytest.raises(CheckpointError, match=r"^node \S+ has other weights under the name tiny than this machine"):
        Worker(AT).begin(question(model, fingerprint="f" * 64))


def test_a_node_without_the_images_is_named_before_any_work(model: Any, tmp_path: Path) -> None:
    there = tmp_path / "photos"
    there.mkdir()
    items = ["s3://bucket/x.png", SkippedImage("gone/x.png", "no such file"), "nowhere/x.png", "photos/x.png"]
    assert folder_seen(str(tmp_path), items) == str(there)
    assert folder_seen(str(tmp_path), items[:3]) is None  # each is a row
    worker = Worker(AT)
    worker.begin(question(model, seen=str(there)))
    worker.close()
    there.rmdir()
    with pytest.raises(UsageError, match=rf"^node \S+ has no folder {there}, from which images are read; put it where"):
        Worker(AT).begin(question(model, seen=str(there)))


def test_a_model_that_a_node_lacks_is_named_with_what_to_do(tmp_path: Path) -> None:
    name = str(tmp_path / "model")
    with pytest.raises(UsageError, match=r"^node \S+ cannot load the model: .*; put it where every node sees it"):
        Worker(replace(AT, name=name))


def test_files_of_models_are_named_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.pt").touch()
    Path("tiny").mkdir()  # a known name goes before a folder
    assert ModelAt.absolute("my.pt", None) == (str(tmp_path / "my.pt"), None)
    assert ModelAt.absolute("ViT-B-32", "my.pt") == ("ViT-B-32", str(tmp_path / "my.pt"))
    assert ModelAt.absolute("ViT-B-32", "openai") == ("ViT-B-32", "openai")


def test_a_node_says_what_it_computes_with() -> None:
    here = Machine.here("cpu", "fp32")
    assert (here.device, here.precision) == ("cpu", "fp32")
    here.check_versions()
    with pytest.raises(UsageError, match=r"^node \S+: --precision fp16 needs a GPU"):
        Machine.here("cpu", "fp16")


@pytest.mark.parametrize("name", ["zeroshot-cli", "torch", "Python", "pillow"])
def test_other_versions_are_refused(name: str) -> None:
    other = replace(Machine.here("cpu", "fp32"), node="far", versions={**versions_here("fp32", "cpu"), name: "0.0.1"})
    with pytest.raises(UsageError, match=rf"^node far has {name} 0\.0\.1, and this machine \d"):
        other.check_versions()

"""Words far from the labels, against a plain transcription of NegLabel (arXiv 2403.20078) and calculations by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroshot_cli import Classifier, Label, Labels, Rules
from zeroshot_cli.classify import negatives
from zeroshot_cli.classify.negatives import common_nouns, farthest, known_share, mine, naming_none
from zeroshot_cli.errors import LabelsError, UsageError


def normalised(rows: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(rows, 16))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("words", "group"), [(60, 20), (67, 20), (15, 20), (20, 20)])
def test_the_share_is_the_papers_grouped_score(words: int, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equation 6 with the grouping of its section 3.2: the average over groups of the softmax's sum over labels."""
    monkeypatch.setattr(negatives, "GROUP", group)
    images, labels, negative = normalised(5, 1), normalised(7, 2), normalised(words, 3)
    groups = max(1, words // group)
    size = words // groups
    expected = []
    for h in images.astype(np.float64):
        scores = []
        for g in range(groups):
            ours = sum(np.exp((h @ label) / 0.01) for label in labels)
            others = sum(np.exp((h @ negative[i * groups + g]) / 0.01) for i in range(size))
            scores.append(ours / (ours + others))
        expected.append(sum(scores) / groups)
    share = known_share(images @ labels.T, images @ negative.T)
    assert share == pytest.approx(expected, rel=1e-3, abs=1e-9)  # cosines are of float32, times a hundred


def test_an_image_as_near_to_its_label_as_to_the_nearest_word_has_half() -> None:
    share = known_share(np.float32([[0.3, -0.2]]), np.float32([[0.3, -0.3, -0.5]]))
    assert share == pytest.approx([0.5])


def test_words_are_chosen_as_by_a_plain_transcription(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equation 4 with percentile 0: the distance of a word is the smallest of its negative cosines, all by numpy."""
    monkeypatch.setattr(negatives, "GROUP", 10)
    labels, words = normalised(4, 4), normalised(90, 5)
    distances = [np.percentile([-float(word @ label) for label in labels], 0) for word in words]
    expected = sorted(range(90), key=lambda index: -distances[index])[:40]  # half are 45, whole groups 40
    assert farthest(words @ labels.T).tolist() == expected


@pytest.mark.parametrize(("words", "taken"), [(1, 1), (3, 1), (19, 9), (20, 10), (39, 10), (40, 20)])
def test_half_of_the_words_in_whole_groups(words: int, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negatives, "GROUP", 10)
    assert len(farthest(np.zeros((words, 2), np.float32))) == taken


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("dog", ["Dog", "dogs", "bird dog", "bird-dog"]),
        ("dogs", ["dog", "bird dogs"]),
        ("golden retriever", ["retriever", "retrievers", "golden retriever"]),
        ("berries", ["berry", "berries"]),
        ("box", ["boxes", "ballot box"]),
        ("bus", ["bus", "buses", "school bus"]),
        ("auto", ["auto", "autos"]),
    ],
)
def test_words_that_name_a_label_are_left_out(label: str, words: list[str]) -> None:
    assert naming_none(Labels.of([label]), ["horse", *words, "dogma"]) == [0, len(words) + 1]


def test_so_are_words_that_name_a_synonym() -> None:
    assert naming_none(Labels((Label("couch", synonyms=("sofa",)),)), ["sofas", "sofa bed", "couch"]) == [1]


def test_the_common_nouns_are_plain_words() -> None:
    nouns = common_nouns().names
    assert 4000 < len(nouns) == len(set(nouns))
    assert {"dog", "chair", "strawberry", "deck chair"} <= set(nouns)
    assert not any(noun.startswith("#") or noun != noun.lower() for noun in nouns)


@pytest.fixture
def angles_as_nouns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Common nouns for the angle model: every third degree."""
    monkeypatch.setattr(negatives, "common_nouns", lambda: Labels.of(map(str, range(0, 360, 3))))


@pytest.mark.usefixtures("angles_as_nouns")
def test_an_image_that_a_far_word_fits_better_is_unknown(
    angle_model: Any, draw_angle: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    """Labels at 0 and 60 degrees: half of the 118 words that are none are those around 210, from 123 to 297."""
    classifier = Classifier(angle_model, ["0", "60"], "plain")
    classifier.set_background("auto")
    assert classifier.negatives is not None
    cosines, sines = classifier.negatives.words.numpy().T
    assert sorted(np.degrees(np.arctan2(sines, cosines)).round() % 360) == list(range(123, 300, 3))
    # 85 is 25 degrees from a label and 38 from a word, 95 is 35 and 28
    images = [str(draw_angle(tmp_path / f"{angle}.png", angle)) for angle in (10, 85, 95, 200)]
    assert [item.label for item in classifier.predict(images, workers=1)] == ["0", "60", "unknown", "unknown"]


def test_nothing_is_left_of_words_that_are_all_labels(angle_model: Any) -> None:
    with pytest.raises(LabelsError, match=r"each of the 2 nouns names a label; give --background FILE"):
        mine(angle_model, Labels.of(["0", "60"]), Labels.of(["0", "60"]))


@pytest.mark.usefixtures("angles_as_nouns")
def test_a_background_replaces_the_other(angle_model: Any) -> None:
    classifier = Classifier(angle_model, ["0", "60"], "plain")
    classifier.set_background("auto")
    with pytest.raises(
        UsageError, match=r"^--background auto cannot be used with --multi-label, .*; give --background"
    ):
        classifier.check(Rules(multi_label=True))
    classifier.set_background(["180"])
    classifier.check(Rules(multi_label=True))
    assert classifier.negatives is None
    classifier.set_background("auto")
    assert classifier.background is None
    with pytest.raises(LabelsError, match=r"'unknown' is reserved"):
        Rules().check(["unknown"], background=True, mined=True)


def test_nouns_that_name_a_group_are_left_out() -> None:
    labels = Labels.of_user({"bird": ["owl"], "vehicle": ["car"]})
    assert naming_none(labels, ["birds", "owl", "stone", "vehicle"]) == [2]

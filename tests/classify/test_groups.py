"""Answers by group: sums that were calculated by hand, the fallback to a group, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest

from zeroshot_cli.classify.groups import answers_by_name, check_level, levels_of
from zeroshot_cli.classify.rejection import Rules, corrected, judge
from zeroshot_cli.classify.scoring import Scored
from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import Prediction
from zeroshot_cli.words.labels import Labels

# Out of order, so that the labels of a group do not stand together
LABELS = Labels.of_user({"animal": {"bird": ["sparrow", "finch"], "mammal": ["cat"]}, "vehicle": ["car"]})
LABELS = Labels(tuple(LABELS.items[index] for index in (0, 2, 3, 1)))  # sparrow, cat, car, finch
LEVELS = levels_of(LABELS)


def scored(*rows: tuple[float, float, float, float], **others: Any) -> Scored:
    """Scores whose softmax at temperature 1 is the given probabilities: their logs, brought between -1 and 1."""
    probabilities = np.array(rows, dtype=np.float64)
    return Scored(np.log(probabilities).astype(np.float32) / 10, probabilities, **others)


def judged(found: Scored, *, top_k: int | None = 1, shown: int = 0, **rules: Any) -> list[Prediction]:
    paths = [str(row) for row in range(len(found.scores))]
    return judge(paths, found, LEVELS, Rules(**rules), top_k=top_k, shown=shown)


def told(item: Prediction) -> list[tuple[str, str, float, float]]:
    return [(each.label, each.path_of_group, round(each.probability, 12), each.score) for each in item.predictions]


def log(probability: float) -> Any:
    return pytest.approx(math.log(probability) / 10, abs=1e-7)


def test_the_levels_of_labels_end_with_the_labels_themselves() -> None:
    assert [(level.names, level.groups) for level in LEVELS] == [
        (("animal", "vehicle"), (("animal",), ("vehicle",))),
        (("bird", "mammal", "car"), (("animal", "bird"), ("animal", "mammal"), ("vehicle",))),
        (
            ("sparrow", "cat", "car", "finch"),
            (("animal", "bird"), ("animal", "mammal"), ("vehicle",), ("animal", "bird")),
        ),
    ]


def test_a_label_has_its_own_probability_and_the_path_of_its_group() -> None:
    (found,) = judged(scored((0.2, 0.4, 0.3, 0.1)), top_k=2)
    assert told(found) == [("cat", "animal/mammal", 0.4, log(0.4)), ("car", "vehicle", 0.3, log(0.3))]
    assert found.group == ("animal", "mammal")


def test_a_level_sums_probabilities_and_takes_the_score_of_the_best_label() -> None:
    """Birds .25 + .10, mammals .30, the car .35: at level 1 animals have .65, and no single label would say so."""
    found = scored((0.25, 0.3, 0.35, 0.1))
    assert [each.label for each in judged(found)] == ["car"]
    (first,) = judged(found, level=1, top_k=5)
    assert told(first) == [("animal", "animal", 0.65, log(0.3)), ("vehicle", "vehicle", 0.35, log(0.35))]
    assert first.margin == pytest.approx((math.log(0.3) - math.log(0.35)) / 10, abs=1e-6)
    (second,) = judged(found, level=2, top_k=5)
    assert told(second) == [
        ("bird", "animal/bird", 0.35, log(0.25)),
        ("car", "vehicle", 0.35, log(0.35)),
        ("mammal", "animal/mammal", 0.3, log(0.3)),
    ]
    assert judged(found, level=3, top_k=5) == judged(found, level=9, top_k=5) == judged(found, top_k=5)


def test_sums_are_in_float64() -> None:
    """A hundred thousand labels of 1e-5: in float32 their sum would be off by 1e-3, and here by no more than 1e-10."""
    labels = Labels.of_user({"a": [f"a{number}" for number in range(99_999)], "b": ["x"]})
    level = levels_of(labels)[0]
    sums = level.summed(np.full((1, 100_000), 1e-5))
    assert sums[0] == pytest.approx([0.99999, 0.00001], abs=1e-10)
    assert level.summed(np.full((1, 100_000), 1.1e-5))[0, 0] == 1.0  # rounding never passes 1


@pytest.mark.parametrize(
    ("probabilities", "least", "answer"),
    [
        ((0.6, 0.1, 0.1, 0.2), 0.6, ("sparrow", "animal/bird", 0.6)),
        ((0.5, 0.1, 0.1, 0.3), 0.6, ("bird", "animal/bird", 0.8)),
        ((0.3, 0.35, 0.1, 0.25), 0.6, ("animal", "animal", 0.9)),
        ((0.3, 0.4, 0.05, 0.25), 0.5, ("bird", "animal/bird", 0.55)),  # not the best label's group
        ((0.2, 0.15, 0.5, 0.15), 0.6, ("unknown", "", 0.5)),
        ((0.1, 0.1, 0.7, 0.1), 0.6, ("car", "vehicle", 0.7)),
    ],
)
def test_the_deepest_group_that_is_sure_enough_answers(
    probabilities: tuple[float, float, float, float], least: float, answer: tuple[str, str, float]
) -> None:
    (found,) = judged(scored(probabilities), min_probability=least)
    assert (found.label, "/".join(found.group), pytest.approx(found.probability)) == answer
    assert len(found.predictions) == 1


def test_further_ranks_after_a_group_are_the_labels_that_were_too_unsure() -> None:
    (found,) = judged(scored((0.5, 0.1, 0.1, 0.3)), min_probability=0.6, top_k=3, shown=4)
    assert told(found) == [
        ("bird", "animal/bird", 0.8, log(0.5)),
        ("sparrow", "animal/bird", 0.5, log(0.5)),
        ("finch", "animal/bird", 0.3, log(0.3)),
    ]
    assert [each.label for each in found.others] == ["cat"]
    (found,) = judged(scored((0.5, 0.1, 0.1, 0.3)), min_probability=0.6, shown=3)
    assert [each.label for each in (*found.predictions, *found.others)] == ["bird", "sparrow", "finch"]


def test_a_level_falls_back_to_the_levels_above_it() -> None:
    rows = scored((0.3, 0.35, 0.1, 0.25), (0.5, 0.1, 0.1, 0.3), (0.2, 0.15, 0.5, 0.15))
    found = judged(rows, level=2, min_probability=0.6)
    assert [(each.label, each.rejected) for each in found] == [("animal", False), ("bird", False), ("unknown", True)]
    assert found[2].nearest == "car"


def test_a_margin_is_the_lead_over_the_best_label_outside_the_group() -> None:
    """Sparrow and finch are close together, and both far from the cat: some bird."""
    (found,) = judged(scored((0.45, 0.1, 0.05, 0.4)), min_margin=0.1)
    lead = (math.log(0.45) - math.log(0.1)) / 10
    assert (found.label, found.margin) == ("bird", pytest.approx(lead, abs=1e-6))


def test_a_group_does_not_help_where_the_cosine_or_the_background_rejects() -> None:
    rows = scored((0.45, 0.1, 0.05, 0.4), background=np.array([0.5], dtype=np.float32))
    assert judged(rows)[0].rejected
    assert judged(scored((0.45, 0.1, 0.05, 0.4)), min_score=0.5)[0].rejected


def test_a_group_of_all_labels_never_answers_as_its_probability_is_always_1() -> None:
    labels = Labels.of_user({"life": {"bird": ["owl", "finch"], "mammal": ["cat"]}})
    rows = Scored(np.array([[0.3, 0.2, 0.3]], np.float32), np.array([[0.35, 0.2, 0.45]]))
    (found,) = judge(["a"], rows, levels_of(labels), Rules(min_probability=0.6), top_k=1)
    assert found.label == "unknown"


def test_thresholds_of_labels_say_nothing_of_their_groups() -> None:
    rows = scored((0.5, 0.1, 0.1, 0.3), least=np.array([0.9, 0.9, 0.9, 0.9]))
    assert judged(rows)[0].label == "unknown"
    assert judged(rows, min_probability=0.6)[0].label == "bird"


def test_labels_judged_one_by_one_keep_their_paths() -> None:
    rows = Scored(np.array([[0.3, 0.2, 0.1, 0.25]], np.float32), np.array([[0.9, 0.2, 0.1, 0.8]]))
    (found,) = judged(rows, multi_label=True, top_k=None)
    assert [(each.label, each.path_of_group) for each in found.predictions] == [
        ("sparrow", "animal/bird"),
        ("finch", "animal/bird"),
    ]


def test_labels_without_groups_have_one_level() -> None:
    (level,) = levels_of(Labels.of(["cat", "dog"]))
    assert (level.names, level.groups) == (("cat", "dog"), ((), ()))
    rows = scored((0.1, 0.2, 0.3, 0.4))
    assert level.scored(rows) is rows


@pytest.mark.parametrize(
    ("level", "rules", "words"),
    [
        (0, {}, "--level counts from 1, the topmost groups, not 0"),
        (1, {"multi_label": True}, "omit one of them"),
        (1, {"label_thresholds": True}, "thresholds were found for labels; give --min-probability X"),
    ],
)
def test_a_level_that_makes_no_sense_is_refused(level: int, rules: dict[str, bool], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_level(level, LEVELS, **{"multi_label": False, "label_thresholds": False} | rules)


def test_a_level_needs_groups_and_may_be_deeper_than_they_are() -> None:
    check_level(9, LEVELS, multi_label=False, label_thresholds=True)  # those are the labels themselves
    with pytest.raises(UsageError, match="these labels have none; nest them in a"):
        check_level(1, levels_of(Labels.of(["cat", "dog"])), multi_label=False, label_thresholds=False)


def test_what_a_person_said_is_answered_at_the_level_or_above() -> None:
    def answers(number: int | None) -> dict[str, str]:
        found = answers_by_name(LABELS, LEVELS, number)
        return {name: "/".join([*level.groups[index], level.names[index]]) for name, (level, index) in found.items()}

    sparrow, bird, animal, car = "animal/bird/sparrow", "animal/bird/bird", "animal/animal", "vehicle/car"
    names = ("sparrow", "bird", "animal", "car")
    for number, own in ((None, (sparrow, bird, animal, car)), (2, (bird, bird, animal, car)), (1, (animal,) * 3)):
        found = answers(number)
        assert tuple(found[name] for name in names)[: len(own)] == own
    assert answers(1)["car"] == answers(1)["vehicle"] == "vehicle/vehicle"
    rows = scored((0.25, 0.3, 0.35, 0.1))
    level, index = answers_by_name(LABELS, LEVELS, None)["animal"]
    (found,) = judged(rows, top_k=2)
    said = corrected(found, index, level.scored(rows), 0, level)
    assert told(said) == [("animal", "animal", 0.65, log(0.3)), ("car", "vehicle", 0.35, log(0.35))]


def test_an_image_that_a_person_labelled_has_the_answer_of_its_level() -> None:
    rows = scored((0.25, 0.3, 0.35, 0.1))
    (found,) = judged(rows, level=2)
    level = LEVELS[1]
    (sparrow,) = level.places[[0]]
    right = corrected(found, int(sparrow), level.scored(rows), 0, level)
    assert told(right) == [("bird", "animal/bird", 0.35, log(0.25))]
    assert corrected(found, None, level.scored(rows), 0, level).group == ()

"""Top-1 at each level of groups, by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroshot_cli.classify.classifier import Classifier, load_classifier
from zeroshot_cli.classify.groups import levels_above, levels_of
from zeroshot_cli.console.evaluation import title_of
from zeroshot_cli.datasets.labelled import read_labelled_folder
from zeroshot_cli.evaluation.answers import Answers, graded
from zeroshot_cli.evaluation.evaluate import evaluate
from zeroshot_cli.evaluation.metrics import figures
from zeroshot_cli.words.labels import Labels
from zeroshot_cli.words.prompts import Prompts

BARE = Prompts(name="bare", description="", source="", templates=("{}",))
LABELS = Labels.of_user({"animal": {"bird": ["sparrow", "finch"], "mammal": ["cat"]}, "vehicle": ["car"]})


def test_each_level_counts_its_own_groups() -> None:
    """Probabilities of sparrow, finch, cat, car; the second is wrong as a label only, the third up to level 2."""
    rows = [
        ([0.6, 0.2, 0.1, 0.1], 0),  # sparrow: all right
        ([0.5, 0.3, 0.1, 0.1], 1),  # finch: a bird, but not this
        ([0.3, 0.2, 0.4, 0.1], 2),  # cat: the label is right, though birds have .5 at level 2 and animals .9
        ([0.1, 0.1, 0.3, 0.5], 2),  # cat: animals and the car have .5 each, and animals come first
        ([0.2, 0.15, 0.25, 0.4], 3),  # car: the best label, yet animals have .6 at level 1
    ]
    probabilities = np.array([row for row, _ in rows])
    targets = np.array([target for _, target in rows])
    levels = levels_above(levels_of(LABELS))
    part = graded((np.log(probabilities) / 10).astype(np.float32), np.log(probabilities), targets, [*levels.values()])
    items = [f"{number}.png" for number in range(5)]
    found = figures(Answers.of(LABELS.names, items, targets, [part], [*levels]))
    assert found.metrics["top1"] == 3 / 5
    assert found.metrics["top1_level1"] == 4 / 5
    assert found.metrics["top1_level2"] == 3 / 5
    assert found.intervals["top1_level2"] == found.intervals["top1"]  # Wilson's of 3 in 5
    assert title_of("top1_level2") == "top-1 at level 2"


def test_evaluate_scores_the_levels_of_a_mapping_and_of_a_classifier_file(
    angle_model: Any, angle_folder: Path, tmp_path: Path
) -> None:
    """By hand: of six images only the one at 0 degrees, which is in folder 180, is nearer to the other group."""
    groups = {"near": ["0", "60", "300"], "far": ["120", "180", "240"]}
    result = evaluate(angle_model, read_labelled_folder(angle_folder, Labels.of_user(groups)), BARE)
    plain = evaluate(angle_model, read_labelled_folder(angle_folder), BARE)
    assert result.metrics["top1_level1"] == pytest.approx(5 / 6)
    assert result.metrics["top1"] == plain.metrics["top1"] == pytest.approx(2 / 6)
    assert "top1_level1" not in plain.metrics
    assert [*result.metrics][:3] == ["top1", "top1_level1", "top5"]
    Classifier(angle_model, groups, BARE).save(tmp_path / "a.classifier")
    again = evaluate(load_classifier(tmp_path / "a.classifier", angle_model), str(angle_folder))
    assert again.metrics == result.metrics


def test_a_level_of_one_group_has_no_figure(angle_model: Any, angle_folder: Path) -> None:
    groups = {"all": {"near": ["0", "60", "300"], "far": ["120", "180", "240"]}}
    result = evaluate(angle_model, str(angle_folder), BARE, labels=groups)
    assert [name for name in result.metrics if name.startswith("top1")] == ["top1", "top1_level2"]

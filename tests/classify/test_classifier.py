"""Scores, probabilities and order, with a model whose answers are known by hand: cosines of angles."""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from zeroshot_cli.classify import classifier as classify
from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.classify.rejection import Rules
from zeroshot_cli.classify.scoring import best, softmax
from zeroshot_cli.embed.images import EmbeddedImage, encode_images
from zeroshot_cli.errors import CheckpointError, LabelsError, PromptsError, UsageError
from zeroshot_cli.records import LabelScore, Prediction, SkippedImage
from zeroshot_cli.words.labels import Label, Labels
from zeroshot_cli.words.prompts import Prompts

PLAIN = Prompts(name="plain", description="", source="", templates=("{}",))
TWO = Prompts(name="two", description="", source="", templates=("{}", "-{}"))  # an angle and its opposite: mean 0


def toy_model(logit_scale: float = 10.0, logit_bias: float | None = None) -> Any:
    """A text is an angle in degrees, embeddings are [cos, sin]; a blank text is 70."""
    return SimpleNamespace(
        name="toy",
        precision="fp32",
        device=torch.device("cpu"),
        model=None,
        logit_scale=logit_scale,
        logit_bias=logit_bias,
        encode_texts=lambda texts: unit([70.0 if text in classify.BLANK else float(text) for text in texts]),
    )


def unit(degrees: list[float]) -> torch.Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1).float()


@pytest.fixture(autouse=True)
def _images_are_angles(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image is the angle that is its path."""

    def encode(model: Any, items: Any, *, batch_size: int, **others: Any) -> Iterator[list[Any]]:
        items = list(items)
        for start in range(0, len(items), batch_size):
            block = items[start : start + batch_size]
            yield [
                item if isinstance(item, SkippedImage) else EmbeddedImage(item, unit([float(item)]).numpy()[0])
                for item in block
            ]

    monkeypatch.setattr(classify, "encode_images", encode)


def cosine(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def test_scores_are_cosines_and_probabilities_their_softmax_at_the_models_temperature() -> None:
    (found,) = Classifier(toy_model(), ["0", "60", "180"], PLAIN).predict(["20"], top_k=3)
    cosines = [cosine(20), cosine(40), cosine(160)]
    weights = [math.exp(10 * value) for value in cosines]
    assert [best.label for best in found.predictions] == ["0", "60", "180"]
    assert [best.score for best in found.predictions] == pytest.approx(cosines, abs=1e-6)
    expected = [weight / sum(weights) for weight in weights]
    assert [best.probability for best in found.predictions] == pytest.approx(expected, abs=1e-6)
    assert found.margin == pytest.approx(cosine(20) - cosine(40), abs=1e-6)
    assert (found.label, found.score, found.probability) == (
        "0",
        found.predictions[0].score,
        found.predictions[0].probability,
    )


def test_probabilities_are_over_all_labels_whatever_is_kept() -> None:
    labels = [str(angle) for angle in range(0, 180, 10)]
    classifier = Classifier(toy_model(), labels, PLAIN)
    (one,) = classifier.predict(["35"])
    (every,) = classifier.predict(["35"], top_k=len(labels))
    assert one.predictions == every.predictions[:1]
    assert sum(best.probability for best in every.predictions) == pytest.approx(1, abs=1e-9)
    assert one.margin == every.margin


def test_more_than_all_labels_are_all_labels() -> None:
    (found,) = Classifier(toy_model(), ["0", "90"], PLAIN).predict(["1"], top_k=5)
    assert [best.label for best in found.predictions] == ["0", "90"]


def test_one_label_is_certain_and_has_no_margin() -> None:
    (found,) = Classifier(toy_model(), ["90"], PLAIN).predict(["90"])
    assert found.predictions == (LabelScore("90", pytest.approx(1.0, abs=1e-6), 1.0),)
    assert found.margin is None


def test_ties_go_to_the_label_that_comes_first() -> None:
    # The same angle written three ways: equal cosines, so the order is that of the labels.
    (found,) = Classifier(toy_model(), ["9", "40.0", "40", "40.00"], PLAIN).predict(["40"], top_k=3)
    assert [best.label for best in found.predictions] == ["40.0", "40", "40.00"]
    assert found.margin == 0


def test_a_class_is_the_mean_of_its_prompts() -> None:
    # 60 and -60 degrees have the mean direction 0; 120 and -120 the direction 180.
    (found,) = Classifier(toy_model(), ["120", "60"], TWO).predict(["0"], top_k=2)
    assert [(best.label, round(best.score, 5)) for best in found.predictions] == [("60", 1.0), ("120", -1.0)]


def test_synonyms_count_as_prompts_and_the_first_name_is_reported() -> None:
    labels = Labels((Label("30", synonyms=("90",)), Label("200")))
    (found,) = Classifier(toy_model(), labels, PLAIN).predict(["60"])
    assert (found.label, round(found.score, 5)) == ("30", 1.0)


def test_every_input_is_one_result_in_its_place() -> None:
    skipped = SkippedImage("broken.jpg", "truncated")
    inputs = ["10", skipped, "170", skipped]
    results = list(Classifier(toy_model(), ["0", "180"], PLAIN).predict(inputs, batch_size=1))
    assert [item.path for item in results] == ["10", "broken.jpg", "170", "broken.jpg"]
    assert [getattr(item, "label", None) for item in results] == ["0", None, "180", None]


def test_neighbours_and_batch_size_change_nothing() -> None:
    classifier = Classifier(toy_model(), [str(angle) for angle in range(0, 180, 7)], PLAIN)
    paths = [str(angle) for angle in range(0, 90, 3)]
    one_by_one = [next(iter(classifier.predict([path], top_k=3, batch_size=8))) for path in paths]
    assert list(classifier.predict(paths, top_k=3, batch_size=8)) == one_by_one


def test_scores_that_are_no_numbers_are_refused_by_name() -> None:
    model = toy_model()
    classifier = Classifier(model, ["0", "90"], PLAIN)
    with pytest.raises(CheckpointError, match=r"toy.*nan.*--precision"):
        list(classifier.predict(["nan"]))


def test_a_label_twice_is_refused() -> None:
    with pytest.raises(LabelsError, match="cat"):
        Classifier(toy_model(), ["cat", "dog", "cat"], PLAIN)


def test_a_template_set_is_found_by_name() -> None:
    assert Classifier(toy_model(), ["0"], "plain").prompts.templates == ("{}",)


@pytest.mark.parametrize("given", ["{}0", ["{}0", "-{}"], ("{label}",)])
def test_templates_are_prompts_as_they_are(given: Any) -> None:
    templates = (given,) if isinstance(given, str) else tuple(given)
    assert Classifier(toy_model(), ["9"], given).prompts.templates == templates


def test_a_template_file_may_be_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("{}0\n-{}\n", encoding="utf-8")
    assert Classifier(toy_model(), ["9"], tmp_path / "a.txt").prompts.templates == ("{}0", "-{}")


@pytest.mark.parametrize("given", [[], [""], ["a photo"], "a {thing} of {}"])
def test_templates_without_a_place_are_refused(given: Any) -> None:
    with pytest.raises(PromptsError, match="template"):
        Classifier(toy_model(), ["9"], given)


def test_top_k_under_one_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="top_k"):
        Classifier(toy_model(), ["0"], PLAIN).predict([], top_k=0)


@pytest.mark.parametrize("name", ["batch_size", "workers"])
def test_none_of_what_works_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "encode_images", encode_images)
    with pytest.raises(ValueError, match="batch_size and workers are at least 1, not "):
        next(Classifier(toy_model(), ["0"], PLAIN).predict(["1"], **{name: 0}))


def test_softmax_of_large_logits() -> None:
    # exp(1000) overflows; the ratios e and 1 / e do not.
    expected = [math.e / (math.e + 1), 1 / (math.e + 1)]
    assert softmax(np.array([[1001.0, 1000.0]]))[0].tolist() == pytest.approx(expected, abs=1e-12)


def test_one_path_in_place_of_a_list_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"a\.jpg"):
        Classifier(toy_model(), ["0"], PLAIN).predict("a.jpg")


# rejection


def labels_of(*angles: float, rules: Rules, top_k: int | None = None, background: list[str] | None = None) -> Any:
    classifier = Classifier(toy_model(), ["0", "60", "180"], PLAIN)
    if background:
        classifier.set_background(background)
    results = list(classifier.predict([str(angle) for angle in angles], rules=rules, top_k=top_k))
    assert all(isinstance(item, Prediction) for item in results)
    return results


def test_an_image_under_the_lowest_cosine_is_unknown_and_keeps_the_nearest() -> None:
    near, far = labels_of(10, 29, rules=Rules(min_score=0.9))
    assert (near.label, near.rejected) == ("0", False)
    assert (far.label, far.nearest, far.rejected) == ("unknown", "0", True)
    assert far.score == pytest.approx(cosine(29), abs=1e-6)


def test_a_cosine_at_the_limit_is_enough() -> None:
    assert labels_of(0, rules=Rules(min_score=1.0))[0].label == "0"


def test_an_image_under_the_lowest_probability_is_unknown() -> None:
    # By hand: between 0 and 60 both have nearly a half.
    assert [item.label for item in labels_of(0, 30, rules=Rules(min_probability=0.6))] == ["0", "unknown"]


def test_an_image_under_the_smallest_lead_is_unknown() -> None:
    wide, narrow = labels_of(5, 28, rules=Rules(min_margin=0.1))
    assert (wide.label, narrow.label) == ("0", "unknown")
    assert narrow.margin == pytest.approx(cosine(28) - cosine(32), abs=1e-6)


def test_a_background_label_that_is_nearer_rejects_and_takes_no_share_of_the_probability() -> None:
    plain = labels_of(20, 80, rules=Rules())
    own, other = labels_of(20, 80, rules=Rules(), background=["90", "270"])
    assert (own.label, other.label, other.nearest) == ("0", "unknown", "60")
    assert [own.probability, other.probability] == [item.probability for item in plain]


def test_a_rejected_image_keeps_as_many_labels_as_asked_for() -> None:
    (far,) = labels_of(29, rules=Rules(min_score=0.99), top_k=2)
    assert [one.label for one in far.predictions] == ["0", "60"]
    assert far.rejected


def test_labels_behind_its_own_are_the_others() -> None:
    classifier = Classifier(toy_model(), ["0", "60", "180"], PLAIN)
    ((found,),) = classifier.predict_blocks(["20"], shown=3)
    assert ([one.label for one in found.predictions], [one.label for one in found.others]) == (["0"], ["60", "180"])


# every label on its own


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_without_a_bias_labels_are_measured_against_blank_prompts() -> None:
    classifier = Classifier(toy_model(), ["0", "60", "180"], PLAIN)
    (found,) = classifier.predict(["30"], rules=Rules(multi_label=True))
    assert [one.label for one in found.predictions] == ["0", "60"]
    expected = sigmoid(10 * (cosine(30) - cosine(40)))  # blank is 70 degrees
    assert [one.probability for one in found.predictions] == pytest.approx([expected, expected], abs=1e-6)
    assert (found.rejected, found.margin) == (False, pytest.approx(0, abs=1e-6))


def test_a_background_takes_the_place_of_blank_prompts() -> None:
    classifier = Classifier(toy_model(), ["0", "60", "180"], PLAIN)
    classifier.set_background(["90", "50"])
    (found,) = classifier.predict(["30"], rules=Rules(multi_label=True))
    assert found.rejected  # 50 is nearer than all labels
    assert found.probability == pytest.approx(sigmoid(10 * (cosine(30) - cosine(20))), abs=1e-6)


def test_with_a_bias_the_models_own_sigmoid_counts() -> None:
    classifier = Classifier(toy_model(logit_bias=-8.0), ["0", "60", "180"], PLAIN)
    (found,) = classifier.predict(["20"], rules=Rules(multi_label=True))
    assert [one.label for one in found.predictions] == ["0"]
    assert found.probability == pytest.approx(sigmoid(10 * cosine(20) - 8), abs=1e-6)


def test_the_lowest_probability_decides_how_many_labels_an_image_has() -> None:
    classifier = Classifier(toy_model(logit_bias=-8.0), ["0", "60", "180"], PLAIN)
    for least, kept in ((1e-9, ["0", "60", "180"]), (0.1, ["0", "60"]), (0.5, ["0"])):
        (found,) = classifier.predict(["20"], rules=Rules(multi_label=True, min_probability=least))
        assert [one.label for one in found.predictions] == kept
    (found,) = classifier.predict(["20"], rules=Rules(multi_label=True, min_probability=1e-9), top_k=2)
    assert [one.label for one in found.predictions] == ["0", "60"]


def test_an_image_without_any_label_is_unknown() -> None:
    classifier = Classifier(toy_model(logit_bias=-11.0), ["0", "60", "180"], PLAIN)
    (found,) = classifier.predict(["20"], rules=Rules(multi_label=True))
    assert (found.label, found.nearest, len(found.predictions)) == ("unknown", "0", 1)


@pytest.mark.parametrize("labels", [["0"], ["0", "60"]])
def test_rules_that_have_no_meaning_are_refused(labels: list[str]) -> None:
    rules = Rules(min_margin=0.1, multi_label=len(labels) > 1)
    with pytest.raises(UsageError, match="--min-margin"):
        Classifier(toy_model(), labels, PLAIN).predict(["0"], rules=rules)


@pytest.mark.parametrize("name", ["min_score", "min_probability", "min_margin"])
@pytest.mark.parametrize("value", [95, -1.01, math.nan])
def test_numbers_that_no_image_reaches_or_all_do_are_refused(name: str, value: float) -> None:
    with pytest.raises(
        UsageError, match=rf"{name} {value} is not a (cosine|probability); give a number from (-1|0) to"
    ):
        Rules(**{name: value})


def test_a_label_called_unknown_and_rejection_exclude_each_other() -> None:
    model = toy_model()
    model.encode_texts = lambda texts: unit([5.0 for _ in texts])
    classifier = Classifier(model, ["unknown", "0"], PLAIN)
    assert next(classifier.predict(["0"])).label == "unknown"
    with pytest.raises(LabelsError, match="'unknown'"):
        classifier.predict(["0"], rules=Rules(min_score=0.1))


def test_a_background_label_is_no_label_too() -> None:
    with pytest.raises(LabelsError, match="'60'"):
        Classifier(toy_model(), ["0", "60"], PLAIN).set_background(["60", "70"])


def test_the_best_are_those_of_a_stable_sort() -> None:
    scores = np.round(np.random.default_rng(0).random((50, 40)), 1).astype(np.float32)
    expected = np.argsort(-scores, axis=1, kind="stable")
    for k in (1, 2, 7, 8, 9, 39, 40):
        assert (best(scores, k) == expected[:, :k]).all()


def test_a_probability_under_a_half_keeps_labels_that_blank_prompts_are_nearer_than() -> None:
    classifier = Classifier(toy_model(), ["0", "60", "180"], PLAIN)
    for least, kept in ((0.5, ["60"]), (0.2, ["60", "0"]), (1e-9, ["60", "0", "180"])):  # blank is 70 degrees
        (found,) = classifier.predict(["36"], rules=Rules(multi_label=True, min_probability=least))
        assert [one.label for one in found.predictions] == kept


def test_what_only_adapting_and_tuning_need_is_not_loaded() -> None:
    code = "import sys, zeroshot_cli.classify.classifier; print({'scipy', 'sklearn', 'pandas'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"

"""Scores, probabilities and order, with a model whose answers are known by hand: cosines of angles."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from zeroshot_cli.classify import Classifier, softmax
from zeroshot_cli.encode import images as pipeline
from zeroshot_cli.errors import CheckpointError, LabelsError
from zeroshot_cli.labels import Label, Labels
from zeroshot_cli.prompts import Prompts
from zeroshot_cli.records import LabelScore, SkippedImage

PLAIN = Prompts(name="plain", description="", source="", templates=("{}",))
TWO = Prompts(name="two", description="", source="", templates=("{}", "-{}"))  # an angle and its opposite: mean 0


def toy_model(logit_scale: float = 10.0) -> SimpleNamespace:
    """A text is an angle in degrees; an image is the angle in its path; embeddings are [cos, sin]."""

    def encode_texts(texts: list[str]) -> torch.Tensor:
        return unit([float(text) for text in texts])

    def unit(degrees: list[float]) -> torch.Tensor:
        angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
        return torch.stack([angles.cos(), angles.sin()], dim=1).float()

    return SimpleNamespace(
        name="toy",
        precision="fp32",
        logit_scale=logit_scale,
        preprocess=lambda image: torch.full((3, 1, 1), float(image.info["angle"])),
        encode_images=lambda batch: unit(batch[:, 0, 0, 0].tolist()),
        encode_texts=encode_texts,
    )


@pytest.fixture(autouse=True)
def _images_are_angles(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(path: str) -> Image.Image:
        image = Image.new("RGB", (1, 1))
        image.info["angle"] = path
        return image

    monkeypatch.setattr(pipeline, "decode", decode)


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


def test_top_k_under_one_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="top_k"):
        Classifier(toy_model(), ["0"], PLAIN).predict([], top_k=0)


def test_softmax_of_large_logits() -> None:
    # exp(1000) overflows; the ratios e and 1 / e do not.
    expected = [math.e / (math.e + 1), 1 / (math.e + 1)]
    assert softmax(np.array([1001.0, 1000.0])).tolist() == pytest.approx(expected, abs=1e-12)


def test_one_path_in_place_of_a_list_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"a\.jpg"):
        Classifier(toy_model(), ["0"], PLAIN).predict("a.jpg")

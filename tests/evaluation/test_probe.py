import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from zeroshot_cli.clip.config import CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.datasets.labelled import LabelledImages
from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluation.classification import Pipeline
from zeroshot_cli.evaluation.probe import ProbeWarning, _answers, _best_c, _Features, fit_probe, frozen_features
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.models.loaded import LoadedModel, make_ready
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.words.labels import Labels

VIT = CLIPConfig(
    embed_dim=8,
    vision=VisionTransformerConfig(image_size=16, patch_size=8, width=32, layers=1, head_width=16),
    text=TextTransformerConfig(width=32, heads=2, layers=1),
)


@pytest.fixture
def angles(tmp_path: Path, draw_angle: Callable[[Path, int], Path]) -> Callable[..., LabelledImages]:
    """`angles(("low", 10), ("high", 200))`: images of so many degrees, labelled low, middle or high."""

    def make(*rows: tuple[str, int], name: str = "set") -> LabelledImages:
        labels = Labels.of(["low", "middle", "high"])
        items = tuple(str(draw_angle(tmp_path / name / f"{degrees}.png", degrees)) for _, degrees in rows)
        return LabelledImages(name, items, tuple(labels.names.index(label) for label, _ in rows), labels)

    return make


LOW = [("low", degrees) for degrees in (0, 5, 10, 15, 20, 25)]
HIGH = [("high", degrees) for degrees in (160, 170, 180, 190, 200, 210)]
MIDDLE = [("middle", degrees) for degrees in (80, 85, 90, 95, 100, 105)]


def test_what_can_be_told_apart_is_learned(angle_model: Any, angles: Callable[..., LabelledImages]) -> None:
    train, test = angles(*LOW, *MIDDLE, *HIGH), angles(("low", 12), ("high", 185), ("middle", 92), name="test")
    answers = fit_probe(train, test, angle_model)
    assert answers.ranks.tolist() == [0, 0, 0]
    assert answers.best[:, 0].tolist() == [0, 2, 1]
    assert answers.labels == ("low", "middle", "high")
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1)
    assert answers.confidences == pytest.approx(np.exp(answers.log_likelihoods))


def test_its_answers_are_scikit_learns(angle_model: Any, angles: Callable[..., LabelledImages]) -> None:
    train, test = angles(*LOW, *MIDDLE, *HIGH), angles(("low", 45), ("high", 140), ("middle", 30), name="test")
    answers = fit_probe(train, test, angle_model, seed=3)

    def features(rows: LabelledImages) -> np.ndarray:
        degrees = np.deg2rad([int(Path(item).stem) for item in rows.items if isinstance(item, str)])
        return np.stack([np.cos(degrees), np.sin(degrees)], axis=1)

    learned = _Features([], features(train).astype(np.float32), np.array(train.targets))
    theirs = LogisticRegression(C=_best_c(learned, 3), max_iter=1000).fit(features(train), train.targets)
    expected = theirs.predict_log_proba(features(test))[np.arange(3), np.array(test.targets)]
    np.testing.assert_allclose(answers.log_likelihoods, expected, rtol=1e-3, atol=1e-4)
    assert answers.best[:, 0].tolist() == theirs.predict(features(test)).tolist()


def test_two_classes_of_three_leave_the_third_impossible(
    angle_model: Any, angles: Callable[..., LabelledImages]
) -> None:
    answers = fit_probe(angles(*LOW, *HIGH), angles(("low", 12), ("high", 185), name="test"), angle_model)
    assert answers.best.tolist() == [[0, 2, 1], [2, 0, 1]]
    assert answers.probabilities[:, 2].tolist() == [0, 0]
    assert np.isfinite(answers.scores).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_what_is_next_to_impossible_has_a_finite_logarithm(classes: int) -> None:
    """Logits of (0, 3000) and (3000, 0, 0) by hand, whose lower probability is under every float64."""
    probe = LogisticRegression().fit(np.eye(classes), np.arange(classes))
    probe.coef_ = np.array([[0.0, 3000.0]]) if classes == 2 else 3000.0 * np.eye(3)
    probe.intercept_ = np.zeros(len(probe.coef_))
    scores, logs = _answers(probe, np.eye(classes, dtype=np.float32)[[-1]], np.arange(classes), classes)
    assert logs.tolist() == [[-3000.0] * (classes - 1) + [0.0]]
    assert scores.tolist() == [[-3000.0, 3000.0] if classes == 2 else [0.0, 0.0, 3000.0]]


def test_images_that_cannot_be_read_take_no_part(
    angle_model: Any, angles: Callable[..., LabelledImages], tmp_path: Path
) -> None:
    sound = fit_probe(angles(*LOW, *HIGH), angles(("low", 12), ("high", 185), name="test"), angle_model)
    train, test = angles(*LOW, *HIGH, ("middle", 90)), angles(("middle", 90), ("low", 12), ("high", 185), name="test")
    Path(str(train.items[-1])).write_bytes(b"")
    Path(str(test.items[0])).write_bytes(b"")
    answers = fit_probe(train, test, angle_model)
    assert [image.path for image in answers.skipped] == [test.items[0]]
    assert answers.item_targets.tolist() == [1, 0, 2]
    np.testing.assert_array_equal(answers.log_likelihoods, sound.log_likelihoods)


def test_classes_with_one_image_are_learned_all_the_same(
    angle_model: Any, angles: Callable[..., LabelledImages]
) -> None:
    train = angles(("low", 10), ("middle", 90), ("high", 180))
    answers = fit_probe(train, angles(("middle", 95), name="test"), angle_model)
    assert answers.ranks.tolist() == [0]


def test_training_images_pass_first(angle_model: Any, angles: Callable[..., LabelledImages]) -> None:
    seen: list[str] = []

    def track(outcomes: Any) -> Any:
        for outcome in outcomes:
            seen.append(outcome.path)
            yield outcome

    train, test = angles(*LOW, *HIGH), angles(("low", 12), name="test")
    fit_probe(train, test, angle_model, Pipeline(track=track))
    assert tuple(seen) == (*train.items, *test.items)


def test_what_cannot_be_learned_is_said(angle_model: Any, angles: Callable[..., LabelledImages]) -> None:
    test = angles(("low", 12), ("middle", 90), name="test")
    with pytest.raises(DataError, match="set: 'low' is the only class to learn"):
        fit_probe(angles(*LOW), test, angle_model)
    with pytest.raises(DataError, match="set: has no image of 'middle', which test has"):
        fit_probe(angles(*LOW, *HIGH), test, angle_model)
    lost = LabelledImages("lost", (SkippedImage("x.png", "the file is empty"),), (0,), test.labels)
    with pytest.raises(DataError, match="lost: none of its 1 images can be read"):
        fit_probe(lost, test, angle_model)
    with pytest.raises(DataError, match="lost: none of its 1 images can be read"):
        fit_probe(angles(*LOW, *HIGH), lost, angle_model)


def test_training_that_is_cut_short_is_said(
    angle_model: Any, angles: Callable[..., LabelledImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroshot_cli.evaluation.probe.ITERATIONS", 1)
    with pytest.warns(ProbeWarning, match="did not converge in 1 iterations"):
        fit_probe(angles(*LOW, *HIGH), angles(("low", 12), name="test"), angle_model)


def test_the_search_ends_where_a_full_grid_is_best() -> None:
    """Against every eighth of a decade: what the search finds is as good, on features whose noise has a best C."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 300)
    values = (np.eye(3)[targets] + rng.normal(scale=1.2, size=(300, 3))).astype(np.float32)
    values = np.concatenate([values, rng.normal(size=(300, 40)).astype(np.float32)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = _best_c(_Features([], values, targets), 0)
    assert 1e-6 <= found <= 1e6
    assert round(8 * np.log10(found)) == pytest.approx(8 * np.log10(found))


def test_images_of_the_test_that_were_learned_are_said(angle_model: Any, angles: Callable[..., LabelledImages]) -> None:
    train = angles(*LOW, *HIGH)
    with pytest.warns(ProbeWarning, match="2 of the 2 images of set are also training images of the probe"):
        fit_probe(train, angles(LOW[0], HIGH[0]), angle_model)


def vit() -> LoadedModel:
    torch.manual_seed(0)
    return make_ready(
        name="vit",
        pretrained=None,
        model=CLIP(VIT),
        config=VIT,
        preprocess=PreprocessConfig(size=16),
        tokenizer=lambda texts: torch.zeros(len(texts), 77, dtype=torch.long),
        device=torch.device("cpu"),
        precision="fp32",
    )


def test_features_of_a_vit_are_those_before_the_projection() -> None:
    model = vit()
    frozen = frozen_features(model)
    pixels = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)
    seen: list[torch.Tensor] = []
    hook = model.model.visual.ln_post.register_forward_hook(lambda module, inputs, output: seen.append(output))
    embedded = model.encode_pixels(pixels)
    hook.remove()
    expected = torch.nn.functional.normalize(seen[0], dim=-1)
    torch.testing.assert_close(frozen.encode_pixels(pixels), expected)
    assert frozen.embed_dim == 32
    assert frozen.fingerprint != model.fingerprint
    torch.testing.assert_close(model.encode_pixels(pixels), embedded)  # the model itself is as it was
    assert model.embed_dim == embedded.shape[1] == 8


def test_other_models_keep_their_embeddings(angle_model: Any) -> None:
    assert frozen_features(angle_model) is angle_model

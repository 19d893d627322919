"""Recall@k against numpy and by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from zeroshot_cli.evaluation import retrieval as room
from zeroshot_cli.evaluation.retrieval import RECALL_AT, Retrieval, retrieval


def angles(*degrees: float) -> Tensor:
    """Unit vectors in a plane; rounded, so that equal distances tie exactly."""
    radians = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([radians.cos(), radians.sin()], dim=1).round(decimals=6).float()


def reference(images: Tensor, texts: Tensor, pairs: Sequence[tuple[int, int]], k: int) -> tuple[float, float]:
    """The definition, over the whole table: true positives among the k best of a stable sort, over positives, > 0."""
    scores = (images.double().numpy() @ texts.double().numpy().T).astype(np.float32)
    belongs = np.zeros(scores.shape, dtype=bool)
    belongs[tuple(np.array(pairs).T)] = True

    def recall(table: npt.NDArray[Any], right: npt.NDArray[Any]) -> float:
        best = np.argsort(-table, axis=1, kind="stable")[:, :k]
        true_positives = np.take_along_axis(right, best, axis=1).sum(axis=1)
        positives = right.sum(axis=1)
        asked = positives > 0
        return float((true_positives[asked] / positives[asked] > 0).mean())

    return recall(scores, belongs), recall(scores.T, belongs.T)


def made(images: int, texts: int, *, kinds: int, seed: int) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """Embeddings of few different kinds, so that many tie, with answers drawn at random."""
    rng = np.random.default_rng(seed)
    different = rng.normal(size=(kinds, 8))
    different /= np.linalg.norm(different, axis=1, keepdims=True)
    rows = torch.tensor(different, dtype=torch.float32)
    own = [(i, int(rng.integers(texts))) for i in range(images)] + [
        (int(rng.integers(images)), t) for t in range(texts)
    ]
    return rows[rng.integers(kinds, size=images)], rows[rng.integers(kinds, size=texts)], own


@pytest.mark.parametrize("kinds", [2, 5, 1000])
@pytest.mark.parametrize(("images", "texts"), [(1, 1), (1, 7), (12, 3), (40, 31), (23, 64)])
def test_it_is_what_the_definition_says(images: int, texts: int, kinds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_ROWS", 7)
    monkeypatch.setattr(room, "_COLUMNS", 5)
    monkeypatch.setattr(room, "_PAIRS", 3)
    image_features, text_features, pairs = made(images, texts, kinds=kinds, seed=images * texts)
    result = retrieval(image_features, text_features, pairs)
    for k in RECALL_AT:
        found = result.image_to_text[k], result.text_to_image[k]
        assert found == pytest.approx(reference(image_features, text_features, pairs, k), abs=1e-12)
    assert (result.images, result.texts) == (images, texts)


def test_the_size_of_the_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(2, 300, 64, generator=rng), dim=-1)
    pairs = [(i, i) for i in range(300)]
    whole = retrieval(features[0], features[0] + 3 * features[1], pairs, at=range(1, 20))
    assert 0.0 < whole.image_to_text[1] < whole.image_to_text[19]
    for rows, columns in ((1, 300), (300, 1), (64, 128)):
        monkeypatch.setattr(room, "_ROWS", rows)
        monkeypatch.setattr(room, "_COLUMNS", columns)
        assert retrieval(features[0], features[0] + 3 * features[1], pairs, at=range(1, 20)) == whole


def test_by_hand() -> None:
    """Image 0 at 0° has the texts at 50° and 90°, image 1 at 100° the one at 20°, image 2 at 180° the one at 170°.

    From 0° the texts come in the order 20 50 90 170: the second is right. From 100°: 90 50 170 20, the fourth. From
    180°: 170 first. From 50° the images come in the order 0 100 180: first. From 90°: 100 0 180: second. From 20°:
    0 100 180: second. From 170°: 180 first.
    """
    images, texts = angles(0, 100, 180), angles(50, 90, 20, 170)
    result = retrieval(images, texts, [(0, 0), (0, 1), (1, 2), (2, 3)], at=(1, 2, 3, 4))
    assert result == Retrieval(
        image_to_text={1: 1 / 3, 2: 2 / 3, 3: 2 / 3, 4: 1.0},
        text_to_image={1: 0.5, 2: 1.0, 3: 1.0, 4: 1.0},
        images=3,
        texts=4,
    )


def test_several_images_of_one_text() -> None:
    """Both images of the text are right answers to it, and the nearer one counts."""
    result = retrieval(angles(0, 40, 90), angles(50), [(0, 0), (1, 0)], at=(1, 2))
    assert (result.image_to_text, result.text_to_image) == ({1: 1.0, 2: 1.0}, {1: 1.0, 2: 1.0})
    other = retrieval(angles(0, 90, 40), angles(50), [(0, 0), (1, 0)], at=(1, 2))
    assert other.text_to_image == {1: 0.0, 2: 1.0}


def test_own_answers_are_not_in_each_others_way() -> None:
    texts = angles(1, 2, 3, 4, 5, 6)
    result = retrieval(angles(0), texts, [(0, t) for t in range(1, 6)], at=(1, 2))
    assert result.image_to_text == {1: 0.0, 2: 1.0}


def test_equal_cosines_go_to_the_lower_index() -> None:
    both_ways = angles(-30, 30)
    for own, right in ((0, 1.0), (1, 0.0)):
        assert retrieval(angles(0), both_ways, [(0, own)], at=(1,)).image_to_text[1] == right
        assert retrieval(both_ways, angles(0), [(own, 0)], at=(1,)).text_to_image[1] == right


def test_a_model_that_embeds_all_alike_finds_the_first_only() -> None:
    alike = angles(17).expand(50, 2)
    result = retrieval(alike, alike, [(i, i) for i in range(50)])
    assert result.image_to_text == result.text_to_image == {1: 1 / 50, 5: 5 / 50, 10: 10 / 50}


def test_the_same_pair_twice_counts_once() -> None:
    images, texts = angles(0, 90), angles(80, 100)
    once = retrieval(images, texts, [(0, 0), (1, 1)], at=(1,))
    assert retrieval(images, texts, [(0, 0), (1, 1), (1, 1), (1, 1)], at=(1,)) == once
    assert once.image_to_text == {1: 0.5}  # the second image is as near to the first text as to its own


def test_what_has_no_answer_is_not_asked_and_in_the_way() -> None:
    """The text at 0° belongs to nothing: the image at 10° finds it before its own, and nobody asks for its image."""
    result = retrieval(angles(10, 200), angles(0, 40), [(0, 1)], at=(1, 2))
    assert result == Retrieval({1: 0.0, 2: 1.0}, {1: 1.0, 2: 1.0}, images=2, texts=2)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_is_nowhere_near(bad: float) -> None:
    images, texts = angles(0, 90), angles(0, 90)
    images[0] = bad
    result = retrieval(images, texts, [(0, 0), (1, 1)], at=(1, 10))
    assert result.image_to_text == {1: 0.5, 10: 0.5}
    assert result.text_to_image[10] == 0.5


def test_ranks_beyond_all_candidates_are_found() -> None:
    result = retrieval(angles(0, 90), angles(90, 0), [(0, 0), (1, 1)])
    assert result.image_to_text == result.text_to_image == {1: 0.0, 5: 1.0, 10: 1.0}


@pytest.mark.parametrize(
    ("pairs", "at", "message"),
    [
        ([], (1,), "no image and text belong together"),
        ([(0, 3)], (1,), "under 2 for images and under 3 for texts"),
        ([(2, 0)], (1,), "under 2 for images"),
        ([(-1, 0)], (1,), "under 2 for images"),
        ([(0, 0)], (5, 0), "k must be 1 or more, not 0"),
    ],
)
def test_what_makes_no_sense_is_refused(pairs: list[tuple[int, int]], at: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval(angles(0, 90), angles(0, 45, 90), pairs, at=at)


def test_embeddings_with_a_gradient_may_come() -> None:
    images = angles(0, 90).requires_grad_()
    assert retrieval(images, angles(0, 90), [(0, 0), (1, 1)], at=(1,)).image_to_text == {1: 1.0}

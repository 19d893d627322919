"""StatA against a plain transcription and a toy problem with a known answer. n images, c classes, e embedding."""

from typing import Any

import numpy as np
import pytest

from zeroshot_cli.classify.adapt import Candidates, Settings, adapt, check_adapting
from zeroshot_cli.classify.rejection import Rules
from zeroshot_cli.classify.scoring import softmax
from zeroshot_cli.errors import UsageError

PAPER = Settings(anchor=1, temper=50, shared=False)


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def written_out(images: Any, texts: Any, prior: Any, settings: Settings) -> Any:
    """Return what StatA's formulas give, arrays (n, c, e) and all: arXiv 2501.03729, with its code's constants."""
    n, c = prior.shape
    affinity = np.zeros((n, n))
    for i in range(n):
        cosines = images[i] @ images.T
        cosines[i] = -np.inf
        for j in np.argsort(-cosines)[:3]:
            affinity[i, j] = cosines[j]
    z, means = prior.copy(), texts.copy()
    differences = images[:, None] - texts[None]
    shared = (z[:, :, None] * differences**2).sum(axis=(0, 1)) / n
    variances = np.array([shared] * c)
    for iteration in range(11):
        log_likelihood = -0.5 * ((images[:, None] - means[None]) ** 2 / variances[None]).sum(axis=2)
        for _ in range(5):
            votes = (affinity.T @ z + affinity @ z) / 6
            weights = prior * np.exp(log_likelihood / settings.temper + votes)
            z = weights / weights.sum(axis=1, keepdims=True)
        if iteration == 10:
            return z
        won = np.bincount(z.argmax(axis=1), minlength=c)
        beta = (won / (settings.anchor + won))[:, None]
        own = z.T @ images / z.sum(axis=0)[:, None]
        means = unit(beta * unit(own) + (1 - beta) * texts)
        spread = (z[:, :, None] * (images[:, None] - means[None]) ** 2).sum(axis=0) / z.sum(axis=0)[:, None]
        variances = beta * spread + (1 - beta) * (shared + (texts - means) ** 2)
        if settings.shared:
            variances = np.array([(z.sum(axis=0)[:, None] * variances).sum(axis=0) / n] * c)
    raise AssertionError


def clusters(n: int, c: int, e: int, seed: int, *, present: int | None = None) -> tuple[Any, Any, Any, Any]:
    """Return images, texts, the true classes, and probabilities without adaptation."""
    random = np.random.default_rng(seed)
    texts = unit(random.standard_normal((c, e)))
    centres = unit(texts + 0.8 / np.sqrt(e) * random.standard_normal((c, e)) + 0.05)  # 0.05: the gap between modalities
    truth = random.integers(0, present or c, n)
    images = unit(centres[truth] + 0.6 / np.sqrt(e) * random.standard_normal((n, e)))
    images, texts = images.astype(np.float32), texts.astype(np.float32)
    return images, texts, truth, softmax(10 * images.astype(float) @ texts.astype(float).T)


@pytest.mark.parametrize("settings", [PAPER, Settings()])
def test_500_random_embeddings_get_what_the_formulas_written_out_give(settings: Settings) -> None:
    images, texts, _, prior = clusters(500, 12, 16, seed=0)
    found = adapt(images, texts, Candidates.of(prior), settings=settings)
    expected = written_out(images.astype(float), texts.astype(float), prior, settings)
    assert found.dense(slice(None), 12) == pytest.approx(expected, abs=1e-5)
    assert found.changed() == np.count_nonzero(expected.argmax(axis=1) != prior.argmax(axis=1)) > 0


def test_a_cluster_on_the_border_goes_to_its_own_class() -> None:
    """Two tight groups of images lie at 30 and 55 degrees; the texts at 0 and 90, so that 45 is the border.

    Alone, each image goes to its nearer text, some of the second group to the wrong one; together all are right.
    """
    spread = np.linspace(-14, 14, 41)
    degrees = np.deg2rad(np.concatenate([25 + spread / 2, 57 + spread]))
    images = np.stack([np.cos(degrees), np.sin(degrees)], axis=1).astype(np.float32)
    texts = np.eye(2, dtype=np.float32)
    truth = np.repeat([0, 1], 41)
    prior = softmax(2 * images.astype(float) @ texts)
    found = adapt(images, texts, Candidates.of(prior), settings=Settings(anchor=1, temper=1)).dense(slice(None), 2)
    assert np.count_nonzero(prior.argmax(axis=1) != truth) == 3
    assert found.argmax(axis=1).tolist() == truth.tolist()


def test_few_of_the_classes_present_are_a_gain() -> None:
    images, texts, truth, prior = clusters(300, 40, 32, seed=1, present=4)
    found = adapt(images, texts, Candidates.of(prior)).dense(slice(None), 40)
    right, right_before = ((each.argmax(axis=1) == truth).mean() for each in (found, prior))
    assert 0.5 < right_before < right


def test_few_candidates_give_nearly_what_all_give() -> None:
    images, texts, _, prior = clusters(400, 60, 32, seed=2)
    whole = adapt(images, texts, Candidates.of(prior, 60)).dense(slice(None), 60)
    part = adapt(images, texts, Candidates.of(prior)).dense(slice(None), 60)
    assert (whole.argmax(axis=1) == part.argmax(axis=1)).mean() > 0.99


def test_blocks_and_the_order_of_images_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts, _, prior = clusters(300, 12, 16, seed=3)
    whole = adapt(images, texts, Candidates.of(prior)).dense(slice(None), 12)
    again = adapt(images, texts, Candidates.of(prior)).dense(slice(None), 12)
    assert whole.tobytes() == again.tobytes()
    monkeypatch.setattr("zeroshot_cli.classify.adapt._BLOCK", 64)
    blocks = adapt(images, texts, Candidates.joined(Candidates.of(part) for part in np.split(prior, 3)))
    assert blocks.dense(slice(None), 12) == pytest.approx(whole, abs=1e-9)
    order = np.random.default_rng(0).permutation(300)
    shuffled = adapt(images[order], texts, Candidates.of(prior[order])).dense(slice(None), 12)
    assert shuffled == pytest.approx(whole[order], abs=1e-6)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_fewer_images_than_neighbours_are_no_error(n: int) -> None:
    images, texts, _, prior = clusters(n, 4, 8, seed=4)
    found = adapt(images, texts, Candidates.of(prior))
    assert found.probabilities.shape == (n, 4)
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(n))


def test_equal_images_and_certain_answers_stay_finite() -> None:
    images = np.tile(np.eye(1, 8, dtype=np.float32), (20, 1))
    texts = np.eye(3, 8, dtype=np.float32)
    found = adapt(images, texts, Candidates.of(softmax(1e4 * images.astype(float) @ texts.T)))
    assert found.classes[:, 0].tolist() == [0] * 20
    assert found.probabilities[:, 0] == pytest.approx(np.ones(20))
    assert found.changed() == 0


def test_progress_counts_every_pass() -> None:
    images, texts, _, prior = clusters(50, 4, 8, seed=5)
    told: list[tuple[int, int]] = []
    adapt(images, texts, Candidates.of(prior), lambda *numbers: told.append(numbers))
    assert told == [(50 * number, 600) for number in range(1, 13)]


@pytest.mark.parametrize(
    ("labels", "options", "says"),
    [
        (["cat"], {}, "there is only one"),
        (["cat", "dog"], {"rules": Rules(multi_label=True)}, "--multi-label judges each alone"),
        (["cat", "dog"], {"images": 15}, "at least 16, and this run has 15 images"),
    ],
)
def test_what_makes_no_sense_is_refused(labels: list[str], options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_adapting(labels, **{"rules": Rules(), **options})
    check_adapting(["cat", "dog"], Rules(), images=16)

"""Retrieval with a model whose answers are known by hand: images and texts are angles, and the nearest angle wins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from zeroshot_cli.datasets.captioned import CaptionedImages, captioned
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.embed.texts import TextCache
from zeroshot_cli.errors import CheckpointError, DataError
from zeroshot_cli.evaluation.classification import Pipeline
from zeroshot_cli.evaluation.retrieval import RetrievalFigures, evaluate_retrieval
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.words.prompts import Prompts

Draw = Callable[[Path, int], Path]


@pytest.fixture
def made(tmp_path: Path, draw_angle: Draw) -> Callable[[dict[int, tuple[str, ...]]], CaptionedImages]:
    """Images of angles, with their captions."""

    def make(captions: dict[int, tuple[str, ...]]) -> CaptionedImages:
        rows = ((str(draw_angle(tmp_path / f"{angle:03}.png", angle)), texts) for angle, texts in captions.items())
        return captioned("angles", rows)

    return make


def test_by_hand(angle_model: Any, made: Any) -> None:
    """From 0° the texts come in the order 20 50 90 170: the second is right. From 100°: 90 50 170 20, the fourth. From
    180°: 170 first. From 50° the images come in the order 0 100 180: first (100 ties, and comes later). From 90°:
    100 0 180: second. From 20°: 0 100 180: second. From 170°: 180 first.
    """
    found = evaluate_retrieval(angle_model, made({0: ("50", "90"), 100: ("20",), 180: ("170",)}), Pipeline(workers=1))
    assert found == RetrievalFigures(
        metrics={
            "image_to_text_recall@1": 1 / 3,
            "image_to_text_recall@5": 1.0,
            "image_to_text_recall@10": 1.0,
            "text_to_image_recall@1": 0.5,
            "text_to_image_recall@5": 1.0,
            "text_to_image_recall@10": 1.0,
        },
        intervals=found.intervals,
        images=3,
        texts=4,
    )
    third = binomtest(1, 3).proportion_ci(method="wilson")
    assert found.intervals["image_to_text_recall@1"] == (third.low, third.high)
    z, n = 1.959963984540054, 4  # Wilson's formula for 2 of 4
    half = z / (1 + z * z / n) * np.sqrt(0.25 / n + z * z / (4 * n * n))
    assert found.intervals["text_to_image_recall@1"] == pytest.approx((0.5 - half, 0.5 + half), abs=1e-12)


def reference(images: Any, texts: Any, belongs: Any, k: int) -> float:
    """CLIP_benchmark's: the true positives among a query's k best over its positives, and how often that is over 0."""
    best = np.argsort(-(images @ texts.T), axis=1, kind="stable")[:, :k]
    recall = np.take_along_axis(belongs, best, axis=1).sum(axis=1) / belongs.sum(axis=1)
    return float((recall > 0).mean())


@pytest.mark.parametrize("seed", range(3))
def test_several_captions_as_clip_benchmark_counts_them(angle_model: Any, made: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = rng.choice(256, size=30, replace=False)
    captions = rng.choice(3600, size=(30, 3), replace=False) / 10
    data = made({int(angle): tuple(map(str, row)) for angle, row in zip(angles, captions, strict=True)})
    found = evaluate_retrieval(angle_model, data, Pipeline(workers=1, batch_size=7))

    def embedded(degrees: Any) -> Any:
        table = np.stack([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], axis=1)
        return table.round(6).astype(np.float32).astype(np.float64)

    images, texts = embedded(angles), embedded(captions.ravel())
    belongs = np.repeat(np.eye(30, dtype=int), 3, axis=1)
    for k in (1, 5, 10):
        assert found.metrics[f"image_to_text_recall@{k}"] == pytest.approx(reference(images, texts, belongs, k))
        assert found.metrics[f"text_to_image_recall@{k}"] == pytest.approx(reference(texts, images, belongs.T, k))


def test_ties_go_to_the_lower_index(angle_model: Any, made: Any) -> None:
    """60 and 120 are equally far from 90."""
    found = evaluate_retrieval(angle_model, made({90: ("60",), 120: ("120",)}), Pipeline(workers=1))
    assert found.metrics["image_to_text_recall@1"] == 1.0
    other = evaluate_retrieval(angle_model, made({120: ("120",), 90: ("60",)}), Pipeline(workers=1))
    assert other.metrics["image_to_text_recall@1"] == 0.5


def test_a_text_of_two_images_is_one_text(angle_model: Any, made: Any) -> None:
    found = evaluate_retrieval(angle_model, made({0: ("10",), 90: ("10", "95")}), Pipeline(workers=1))
    assert (found.images, found.texts) == (2, 2)
    assert found.metrics["image_to_text_recall@1"] == found.metrics["text_to_image_recall@1"] == 1.0


def test_texts_that_are_there_twice_as_others_have_them(angle_model: Any, made: Any) -> None:
    """A data set may keep a text for each image: then only one's own image is right."""
    data = made({0: ("0",), 90: ("90",)})
    twice = CaptionedImages("twice", data.items, ("0", "0"), ((0, 0), (1, 1)))
    found = evaluate_retrieval(angle_model, twice, Pipeline(workers=1))
    assert (found.texts, found.metrics["text_to_image_recall@1"]) == (2, 0.5)


def test_images_that_cannot_be_read_take_no_part_nor_do_their_texts(
    angle_model: Any, made: Any, tmp_path: Path
) -> None:
    """The text 1 is nearest to the image of 0, and would be in its way; 170 has an image that can be read, too."""
    (tmp_path / "bad.png").write_bytes(b"")
    good = made({0: ("20",), 180: ("170",)})
    rows = [(good.items[0], ["20"]), (str(tmp_path / "bad.png"), ["1", "170"]), (good.items[1], ["170"])]
    rows.append((SkippedImage("gone.png", "no such file"), ["2"]))
    found = evaluate_retrieval(angle_model, captioned("bad", rows), Pipeline(workers=1))
    assert (found.images, found.texts) == (2, 2)
    assert found.metrics["image_to_text_recall@1"] == 1.0
    assert [item.path for item in found.skipped] == [str(tmp_path / "bad.png"), "gone.png"]


def test_no_image_that_can_be_read(angle_model: Any) -> None:
    data = captioned("bad", [(SkippedImage("x.png", "the file is empty"), ["1"])])
    with pytest.raises(DataError, match=r"bad: none of its 1 images with a caption can be read; the first, x.png: the"):
        evaluate_retrieval(angle_model, data, Pipeline(workers=1))


def test_templates_are_averaged(angle_model: Any, made: Any) -> None:
    """With 1{} and 2{} the caption 50 is 150° and 250°, so 200°; 00 is 100° and 200°, so 150°. All is near to 180°."""
    template = Prompts("hundreds", "", "", ("1{}", "2{}"))
    found = evaluate_retrieval(angle_model, made({0: ("00",), 180: ("50",)}), Pipeline(workers=1), template=template)
    assert found.metrics["image_to_text_recall@1"] == 1.0
    assert found.metrics["text_to_image_recall@1"] == 0.5


def test_caches_spare_the_model(angle_model: Any, made: Any) -> None:
    data = made({0: ("20",), 180: ("170",)})
    first = evaluate_retrieval(angle_model, data, Pipeline(workers=1, cache=ImageCache()), text_cache=TextCache())
    angle_model.batches.clear()
    angle_model.encode_texts = None
    again = evaluate_retrieval(angle_model, data, Pipeline(workers=1, cache=ImageCache()), text_cache=TextCache())
    assert (again, angle_model.batches) == (first, [])


def test_texts_that_are_no_numbers(angle_model: Any, made: Any) -> None:
    angle_model.encode_texts = lambda texts: torch.full((len(texts), 2), torch.nan)
    with pytest.raises(CheckpointError, match="its text embeddings are not finite numbers; try --precision"):
        evaluate_retrieval(angle_model, made({0: ("20",)}), Pipeline(workers=1))


def test_progress_is_told(angle_model: Any, made: Any) -> None:
    seen: list[object] = []
    told: list[tuple[int, int]] = []
    evaluate_retrieval(
        angle_model,
        made({0: ("20", "30"), 180: ("170",)}),
        Pipeline(workers=1, track=lambda outcomes: (seen.append(item) or item for item in outcomes)),
        on_progress=lambda done, of: told.append((done, of)),
    )
    assert (len(seen), told[-1]) == (2, (3, 3))

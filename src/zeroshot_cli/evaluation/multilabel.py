"""Images with several labels: every label judged on its own, and the metrics of that.

n images, c labels, r resamples
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroshot_cli.classify.classifier import BLANK, Classifier
from zeroshot_cli.classify.scoring import score
from zeroshot_cli.datasets.multilabel import MultiLabelImages
from zeroshot_cli.embed.prompt_ensemble import class_embeddings
from zeroshot_cli.errors import DataError
from zeroshot_cli.evaluation.answers import Doubles
from zeroshot_cli.evaluation.classification import Item, Pipeline
from zeroshot_cli.evaluation.metrics import LEVEL, RESAMPLES, Interval, wilson
from zeroshot_cli.records import EvalResult, SkippedImage

Bools = npt.NDArray[np.bool_]

MAIN_METRIC = "map"
THRESHOLD = 0.5
_AT_ONCE = 4_000_000  # numbers of resamples in memory at once
_MOST_FOR_MAP = 500_000  # images × labels whose average precision is resampled


@dataclass(frozen=True, slots=True)
class Judged:
    """What a model answers: all items in order, and the truth and probabilities nc of those that were read."""

    items: tuple[Item, ...]
    truth: Bools
    probabilities: Doubles


def judge_labels(model: Any, images: MultiLabelImages, classifier: Classifier, pipeline: Pipeline) -> Judged:
    """Return the independent probability of every label of every image, as `classify --multi-label` computes it.

    Raises DataError where no image can be read.
    """
    background = None if model.logit_bias is not None else class_embeddings(model, [BLANK])
    items: list[Item] = []
    parts: list[Doubles] = []
    for part, embeddings in pipeline.embed(model, images.items):
        items += part
        if embeddings is not None:
            scored = score(
                embeddings,
                classifier.embeddings,
                background,
                scale=model.logit_scale,
                bias=model.logit_bias,
                multi_label=True,
            )
            parts.append(scored.probabilities)
    if not parts:
        first = next(item for item in items if isinstance(item, SkippedImage))
        raise DataError(f"{images.name}: none of its images can be read; the first, {first.path}: {first.reason}")
    truth = np.zeros((len(items), len(images.labels)), dtype=bool)
    for row, targets in enumerate(images.targets):
        truth[row, list(targets)] = True
    return Judged(tuple(items), truth[[isinstance(item, str) for item in items]], np.concatenate(parts))


def result_of_labels(judged: Judged, images: MultiLabelImages, threshold: float, blank: EvalResult) -> EvalResult:
    """Return a blank result with the metrics of labels judged on their own; `threshold` is the least probability."""
    truth, chosen = judged.truth, judged.probabilities >= threshold
    ones = np.ones((1, len(truth)))
    precisions = np.array(
        [average_precision(*each, ones)[0] for each in zip(truth.T, judged.probabilities.T, strict=True)]
    )
    has_images = truth.any(axis=0)
    metrics = {MAIN_METRIC: float(precisions[has_images].mean())}
    metrics |= {name: float(values[0]) for name, values in threshold_metrics(truth, chosen, ones).items()}
    return replace(
        blank,
        dataset=images.name,
        n=len(truth),
        task="multi-label",
        main_metric=MAIN_METRIC,
        metrics=metrics,
        intervals=_intervals(judged, chosen, blank.seed),
        per_class=tuple(_per_label(images.labels.names, truth, chosen, precisions)),
        skipped=tuple(item for item in judged.items if isinstance(item, SkippedImage)),
        threshold=threshold,
    )


def average_precision(truth: Bools, scores: Doubles, weights: Doubles) -> Doubles:
    """Return the average precision of one label, (r,): precision averaged over steps of recall, not interpolated.

    `truth` and `scores` are (n,), `weights` (r, n) say how often each image counts. Equal scores are one step. 0 where
    no image has the label.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.inf))  # the last of equal scores
    drawn = weights[:, order]
    right = np.cumsum(drawn * truth[order], axis=1)[:, ends]
    taken = np.cumsum(drawn, axis=1)[:, ends]
    precision = _share(right, taken)
    steps = np.diff(right, axis=1, prepend=0)
    found: Doubles = _share((precision * steps).sum(axis=1), right[:, -1])
    return found


def threshold_metrics(truth: Bools, chosen: Bools, weights: Doubles) -> dict[str, Doubles]:
    """Return precision, recall and F1, each (r,): `micro` counts all answers alike, `macro` is the mean over labels.

    A label that is never chosen has precision 0, one that no image has recall 0; both are in the means.
    """
    right, taken, there = (weights @ each.astype(np.float64) for each in (truth & chosen, chosen, truth))  # rc
    found: dict[str, Doubles] = {}
    for name, counts in (
        ("micro", [each.sum(axis=1) for each in (right, taken, there)]),
        ("macro", [right, taken, there]),
    ):
        hits, all_chosen, all_true = counts
        values = {
            "precision": _share(hits, all_chosen),
            "recall": _share(hits, all_true),
            "f1": _share(2 * hits, all_chosen + all_true),
        }
        for metric, value in values.items():
            found[f"{metric}_{name}"] = value if value.ndim == 1 else value.mean(axis=1)
    return found


def _share(part: Doubles, whole: Doubles) -> Doubles:
    shares: Doubles = np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0)
    return shares


def _per_label(names: tuple[str, ...], truth: Bools, chosen: Bools, precisions: Doubles) -> Iterator[dict[str, Any]]:
    """Yield the figures of every label; None for what needs an image that has it."""
    right, taken, there = ((truth & chosen).sum(axis=0), chosen.sum(axis=0), truth.sum(axis=0))
    for place, name in enumerate(names):
        hits, answers, n = int(right[place]), int(taken[place]), int(there[place])
        yield {
            "label": name,
            "n": n,
            "recall": hits / n if n else None,
            "interval": wilson(hits, n) if n else None,
            "precision": hits / answers if answers else None,
            "f1": 2 * hits / (answers + n) if answers + n else None,
            "average_precision": float(precisions[place]) if n else None,
        }


def _intervals(judged: Judged, chosen: Bools, seed: int) -> dict[str, Interval]:
    """Return percentiles of a seeded bootstrap of the images; mAP has none where it would take too long."""
    truth = judged.truth
    n = len(truth)
    rng = np.random.default_rng(seed)
    found: dict[str, list[Doubles]] = {}
    left = RESAMPLES
    while left:
        rows = min(left, max(1, _AT_ONCE // n))
        weights = rng.multinomial(n, np.full(n, 1 / n), size=rows).astype(np.float64)
        values = threshold_metrics(truth, chosen, weights)
        if truth.size <= _MOST_FOR_MAP:
            values[MAIN_METRIC] = _mean_average_precision(judged, weights)
        for name, value in values.items():
            found.setdefault(name, []).append(value)
        left -= rows
    tail = 50 * (1 - LEVEL)
    bounds = {name: np.nanpercentile(np.concatenate(parts), (tail, 100 - tail)) for name, parts in found.items()}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def _mean_average_precision(judged: Judged, weights: Doubles) -> Doubles:
    """Return the mean over the labels that images of a resample have, (r,)."""
    there = weights @ judged.truth.astype(np.float64) > 0
    each = np.stack(
        [average_precision(*one, weights) for one in zip(judged.truth.T, judged.probabilities.T, strict=True)], axis=1
    )
    means: Doubles = (each * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return means

"""A classifier from the corrections, while one waits: examples and answers come from embeddings that are there."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.classify.classifier_file import read_classifier
from zeroshot_cli.classify.tuning import key_of
from zeroshot_cli.datasets.examples import ExampleImages
from zeroshot_cli.display import counted
from zeroshot_cli.embed.image_cache import contents_of
from zeroshot_cli.errors import DataError, UsageError, ZeroshotError
from zeroshot_cli.review.answers import Scorer
from zeroshot_cli.review.run import Answered
from zeroshot_cli.tuning.learn import EmbeddedExamples, tune_classifier
from zeroshot_cli.tuning.results import Tuned

_LEAST = 2  # labels with an example
_MARK = "corrections"  # in the figures of a classifier file that was made here
_log = logging.getLogger(__name__)

OnDone = Callable[[list[Answered]], None]


class Trainer:
    """Trains in a thread of its own, one classifier at a time; `state` says how far it is."""

    def __init__(self, scorer: Scorer, images: Sequence[Answered], log: Path) -> None:
        self._scorer = scorer
        self._images = images
        self._corrections = log
        self._busy = threading.Lock()
        self._state: dict[str, Any] = {"state": "idle", "message": ""}
        threading.Thread(target=_warm_up, name="warm up", daemon=True).start()

    def state(self) -> dict[str, Any]:
        """Return how far it is, or what came of it."""
        return self._state

    def earlier(self, since: float) -> Classifier | None:
        """Return the classifier of an earlier training, unless results are newer than it (`since`) or do not fit."""
        path, model = self._path(), self._scorer.model
        try:
            if path.stat().st_mtime < since:
                return None
            classifier = Classifier.of(read_classifier(path), model)
        except (OSError, ZeroshotError):
            return None
        return classifier if {*classifier.names} >= {*self._scorer.classifier.names} else None

    def start(self, labels: Mapping[int, str], answers: Sequence[Answered], on_done: OnDone) -> None:
        """Learn the `labels` of images, by number; `on_done` gets the new answers. UsageError while it learns."""
        if not self._busy.acquire(blocking=False):
            raise UsageError("a classifier is being trained; wait until it is done")
        self._state = {"state": "running", "message": "starting"}
        threading.Thread(target=self._run, args=(labels, answers, on_done), name="train", daemon=True).start()

    def _run(self, labels: Mapping[int, str], answers: Sequence[Answered], on_done: OnDone) -> None:
        try:
            self._state = self._train(labels, answers, on_done)
        except ZeroshotError as error:
            self._state = {"state": "failed", "message": str(error)}
        except Exception as error:  # the page must not wait for ever
            _log.exception("training failed")
            self._state = {"state": "failed", "message": f"a bug in zeroshot: {type(error).__name__}: {error}"}
        finally:
            self._busy.release()

    def _train(self, labels: Mapping[int, str], answers: Sequence[Answered], on_done: OnDone) -> dict[str, Any]:
        if len(set(labels.values())) < _LEAST:
            raise DataError("there is too little to learn from; decide on images of two labels at least")
        self._scorer.encode(self._images, self._say_encoded)
        self._say(f"learning from {counted(len(labels), 'image')}")
        classifier = self._scorer.with_labels(sorted(set(labels.values())))
        examples = self._examples(labels, classifier)
        tuned = tune_classifier(classifier, examples)
        figures = _figures(tuned)
        if tuned.better is False:
            raise DataError(
                f"{counted(len(examples.keys), 'example')} make no better classifier ({figures['tuned']:.1%} right "
                f"against {figures['zero_shot']:.1%}, cross-validated), so nothing has changed; decide on more images"
            )
        path = self._write(classifier)
        self._say("scoring all images")
        new = self.answers(classifier, answers)
        on_done(new)
        changed = [
            {"n": number, "was": before.label, "now": now.label, "probability": now.probability}
            for number, (before, now) in enumerate(zip(answers, new, strict=True))
            if before.label != now.label
        ]
        message = f"{counted(len(changed), 'answer')} of {len(new)} changed"
        return {"state": "done", "message": message, **figures, "changed": changed, "classifier": str(path)}

    def _examples(self, labels: Mapping[int, str], classifier: Classifier) -> EmbeddedExamples:
        """Return the examples whose embeddings are known, each content once."""
        index = {name: number for number, name in enumerate(classifier.names)}
        rows = [number for number in labels if self._scorer.known[number]]
        if not rows:
            raise DataError("none of the images that were decided can be read")
        files = [self._images[row].file for row in rows]
        keys = [None if each is None else key_of(each) for each in contents_of(files, self._scorer.cache)]
        images = ExampleImages(
            tuple(self._images[row].path for row in rows),
            tuple(index[labels[row]] for row in rows),
            (self._corrections.name,) * len(rows),
            classifier.labels,
        )
        kept = images.unique(keys)
        embeddings = self._scorer.embeddings[np.array(rows)]
        return EmbeddedExamples(images, embeddings, tuple(keys)).at(kept)

    def answers(self, classifier: Classifier, before: Sequence[Answered]) -> list[Answered]:
        """Return the answers of a classifier; those of images that cannot be read stay as they are."""
        scores = self._scorer.answers(classifier)
        return [
            replace(image, label=top[0][0], probability=top[0][1], top=top) if top else image
            for image, top in zip(before, scores, strict=True)
        ]

    def _write(self, classifier: Classifier) -> Path:
        """Write the classifier beside the corrections, over none but an earlier one of theirs."""
        tuning = classifier.tuning
        assert tuning is not None
        classifier.tuning = replace(tuning, figures={**tuning.figures, _MARK: self._corrections.name})
        path = self._path()
        classifier.save(path)
        return path

    def _path(self) -> Path:
        """Return the name of the classifier file: the first that nobody else has taken."""
        number, path = 1, self._corrections.with_suffix(".classifier")
        while path.exists() and not _is_ours(path, self._corrections.name):
            number += 1
            path = self._corrections.with_name(f"{self._corrections.stem}-{number}.classifier")
        return path

    def _say(self, message: str) -> None:
        self._state = {"state": "running", "message": message}

    def _say_encoded(self, done: int, total: int) -> None:
        self._say(f"encoding images that are not in the cache: {done} of {total}")


def _warm_up() -> None:
    """Import what training needs, which takes a second or two, while people look at the first images."""
    for name in ("scipy.linalg", "scipy.optimize", "scipy.stats", "threadpoolctl"):
        import_module(name)


def _is_ours(path: Path, log: str) -> bool:
    try:
        tuning = read_classifier(path).tuning
    except ZeroshotError:
        return False
    return tuning is not None and tuning.figures.get(_MARK) == log


def _figures(tuned: Tuned) -> dict[str, Any]:
    """Return the accuracies before and after; None where cross-validation was not possible."""
    validated = tuned.cross_validation
    return {
        "zero_shot": None if validated is None else validated.zero_shot.value,
        "tuned": None if validated is None else validated.tuned.value,
        "examples": int(tuned.counts.sum()),
    }

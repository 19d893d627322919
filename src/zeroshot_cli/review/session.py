"""What a page can do with a run: look at its images, decide, undo, and train from what was decided."""

import threading
from collections.abc import Sequence
from typing import Any
from unicodedata import category

from zeroshot_cli.classify.negatives import AUTO
from zeroshot_cli.errors import LabelsError, UsageError
from zeroshot_cli.records import UNKNOWN
from zeroshot_cli.review.answers import Scorer, completed
from zeroshot_cli.review.corrections import Choice, Corrections, Decision, Kind
from zeroshot_cli.review.run import Answered, Run
from zeroshot_cli.review.training import Trainer
from zeroshot_cli.words.labels import Labels

Json = dict[str, Any]


class Review:
    """A run, its log of corrections, and the classifier that can learn from them; safe to call from any thread."""

    def __init__(self, run: Run, log: Corrections, scorer: Scorer | None, why_not: str = "") -> None:
        self.run = run
        self._log = log
        self._scorer = scorer
        self._why_not = why_not
        self._lock = threading.Lock()
        images = run.images
        if scorer is not None:
            scores = scorer.answers(scorer.classifier)
            images = tuple(completed(image, each) for image, each in zip(images, scores, strict=True))
        self._answers = list(images)
        self._number = {image.path: number for number, image in enumerate(images)}
        self._trainer = None if scorer is None else Trainer(scorer, images, log.path)
        if self._trainer is not None and (earlier := self._trainer.earlier(run.source.stat().st_mtime)):
            self._answers = self._trainer.answers(earlier, images)

    def about(self) -> Json:
        """Return what the page says of the run."""
        settings = self.run.settings
        name = ":".join(str(settings[each]) for each in ("model", "pretrained") if settings.get(each))
        with self._lock:
            labels = self._labels()
        return {
            "name": str(self.run.source.parent if self.run.source.name == "manifest.csv" else self.run.source),
            "labels": labels,
            "model": name,
            "images": len(self._answers),
            "unreadable": self.run.unreadable,
            "missing": self.run.missing,
            "can_train": self._trainer is not None,
            "why_not": self._why_not,
            "background": _background(settings.get("background")),
        }

    def images(self) -> Json:
        """Return all images with their answers and decisions."""
        with self._lock:
            return {"images": [self._image(number) for number in range(len(self._answers))]}

    def decide(self, numbers: Sequence[int], kind: str, label: str | None, seen: Sequence[str] | None = None) -> Json:
        """Decide the same of several images; UsageError or LabelsError for what makes no sense.

        What is right is the label that was `seen` on each, which training may have changed since.
        """
        with self._lock:
            known = Kind(kind) if kind in list(Kind) else None
            if known is None:
                raise UsageError(f"{kind!r} is no decision; give one of {', '.join(Kind)}")
            if known is Kind.LABEL:
                label = self._checked(label)
            choices = []
            for number, right in self._seen(numbers, seen).items():
                image = self._answers[number]
                before = self._log.of(image.path)
                was = image.label if before is None else before.label
                name = label or "" if known is Kind.LABEL else right if known is Kind.RIGHT else UNKNOWN
                choices.append(Choice(image.path, was, Decision(known, name)))
            self._log.decide(choices)
            return self._decisions([self._number[each.path] for each in choices])

    def undo(self) -> Json:
        """Take back the last decision on images of this run, of however many; the log may have others, too."""
        with self._lock:
            return self._decisions([self._number[path] for path in self._log.undo(self._number)])

    def train(self) -> None:
        """Begin to train; UsageError where that is not possible, or is being done."""
        if self._trainer is None:
            raise UsageError(f"no classifier can be trained here: {self._why_not}")
        with self._lock:
            decided, known = self._log.decided, set(self._labels())
        labels = {
            self._number[path]: each.label
            for path, each in decided.items()
            if path in self._number and each.kind in (Kind.RIGHT, Kind.LABEL) and each.label in known
        }
        self._trainer.start(labels, list(self._answers), self._replace)

    def training(self) -> Json:
        """Return how training is getting on, or what it has brought."""
        return {"state": "idle", "message": ""} if self._trainer is None else self._trainer.state()

    def image(self, number: int) -> Answered:
        """Return an image; UsageError for a number that is none."""
        return self._answers[self._checked_number(number)]

    def _replace(self, answers: list[Answered]) -> None:
        with self._lock:
            self._answers = answers

    def _labels(self) -> list[str]:
        """Return the labels of the run, and those that people have added."""
        added = (each.label for each in self._log.decided.values() if each.kind is Kind.LABEL)
        return [*dict.fromkeys((*self.run.labels, *added))]

    def _image(self, number: int) -> Json:
        image = self._answers[number]
        folder, slash, _ = image.path.replace("\\", "/").rpartition("/")
        return {
            "n": number,
            "path": image.path,
            "folder": folder or slash,
            "label": image.label,
            "probability": image.probability,
            "top": image.top,
            "missing": image.missing,
            "decision": self._decision(image.path),
        }

    def _decision(self, path: str) -> Json | None:
        found = self._log.of(path)
        return None if found is None else {"kind": found.kind.value, "label": found.label}

    def _decisions(self, numbers: Sequence[int]) -> Json:
        return {"images": [{"n": n, "decision": self._decision(self._answers[n].path)} for n in numbers]}

    def _checked_number(self, number: int) -> int:
        if not 0 <= number < len(self._answers):
            raise UsageError(f"there is no image {number}; they are numbered from 0 to {len(self._answers) - 1}")
        return number

    def _seen(self, numbers: Sequence[int], seen: Sequence[str] | None) -> dict[int, str]:
        """Return the label that was seen on each image, by default its label now."""
        now = {number: self.image(number).label for number in numbers}
        if seen is None:
            return now
        labels = {*self._labels()}
        if len(seen) != len(numbers) or any(
            label not in labels and label not in (now[number], self.run.images[number].label)
            for number, label in zip(numbers, seen, strict=True)
        ):
            raise UsageError("seen are the labels that the images had on the page, one for each")
        return dict(zip(numbers, seen, strict=True))

    def _checked(self, label: str | None) -> str:
        """Return a label as it is kept: one of the run's, or a new one."""
        labels = self._labels()
        if label in labels:
            return str(label)
        if label is None:
            raise LabelsError("the decision lacks a label; give one")
        (name,) = Labels.of_user([label]).names
        if any(category(character) == "Cc" for character in name):
            raise LabelsError(f"{name!r} has a control character; leave it out")
        if name.casefold() in (UNKNOWN, "nan", "<na>", "#n/a"):
            raise LabelsError(f"{name!r} is reserved for images without a label; use another word")
        Labels.of_user([*labels, name])
        return name


def _background(words: Any) -> str:
    """Return the value of --background that a record's background came of; empty without one."""
    return "" if not words else AUTO if words in (AUTO, [AUTO]) else "FILE"

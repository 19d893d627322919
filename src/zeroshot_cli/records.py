"""Frozen records that several rooms share. Nothing here imports torch."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from typing import Any

from zeroshot_cli.display import counted
from zeroshot_cli.errors import UnreadableImage

UNKNOWN = "unknown"  # the label of an image that matches none of the labels
SEPARATOR = "/"  # between the groups of a path


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label of one image: the cosine as `score`, and the `probability` among the labels.

    `group` is the path of the label's groups, topmost first. An answer that is a group itself ends its own path; its
    score is that of its best label, its probability the sum of its labels.
    """

    label: str
    score: float
    probability: float
    group: tuple[str, ...] = ()

    @property
    def path_of_group(self) -> str:
        """The path of groups as text, such as "animal/bird"."""
        return SEPARATOR.join(self.group)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The labels of one image, best first.

    `margin` is the lead in cosine of the first label over the second, None if there is only one label. A `rejected`
    image matches none of the labels: its `label` is "unknown", and `predictions` are the nearest ones. `others` are the
    next labels, for reports that show them. `note` says what of the image could not be read, mostly nothing.
    """

    path: str
    predictions: tuple[LabelScore, ...]
    margin: float | None = None
    rejected: bool = False
    others: tuple[LabelScore, ...] = ()
    note: str = ""

    @property
    def label(self) -> str:
        """The best label, or "unknown"."""
        return UNKNOWN if self.rejected else self.nearest

    @property
    def nearest(self) -> str:
        """The best label, even of a rejected image."""
        return self.predictions[0].label

    @property
    def group(self) -> tuple[str, ...]:
        """The path of groups of the best label, which may be a group itself; none of a rejected image."""
        return () if self.rejected else self.predictions[0].group

    @property
    def score(self) -> float:
        """The cosine of the best label."""
        return self.predictions[0].score

    @property
    def probability(self) -> float:
        """The probability of the best label."""
        return self.predictions[0].probability


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """An image that could not be read, and why."""

    path: str
    reason: str


Result = Prediction | SkippedImage


@dataclass(frozen=True, slots=True)
class Counts:
    """How many images a run classified and could not read; `classified` includes the `unknown`."""

    classified: int = 0
    unreadable: int = 0
    unknown: int = 0
    truncated: int = 0

    @property
    def images(self) -> int:
        """The number of images."""
        return self.classified + self.unreadable

    def plus(self, items: Iterable[Result]) -> "Counts":
        """Return the counts with more results added."""
        classified, unreadable, unknown = self.classified, self.unreadable, self.unknown
        truncated = self.truncated
        for item in items:
            if isinstance(item, SkippedImage):
                unreadable += 1
            else:
                classified += 1
                unknown += item.rejected
                truncated += bool(item.note)
        return replace(self, classified=classified, unreadable=unreadable, unknown=unknown, truncated=truncated)

    def with_counts(self, other: "Counts") -> "Counts":
        """Return the sum."""
        return Counts(
            classified=self.classified + other.classified,
            unreadable=self.unreadable + other.unreadable,
            unknown=self.unknown + other.unknown,
            truncated=self.truncated + other.truncated,
        )

    def sentence(self) -> str:
        """Return the counts as a sentence."""
        parts = [f"{counted(self.classified, 'image')} classified"]
        if self.unknown:
            parts.append(f"{self.unknown} of them unknown")
        if self.truncated:
            parts.append(f"{self.truncated} of them truncated")
        parts.append(f"{self.unreadable} could not be read")
        return ", ".join(parts) + "."

    def exit_code(self, *, ignore_errors: bool) -> int:
        """Return 4 if images could not be read and that matters, else 0."""
        return UnreadableImage.exit_code if self.unreadable and not ignore_errors else 0


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """A figure that others measured with the same model, prompts and data set, as a fraction.

    `difference` is ours minus theirs; `inside` says that theirs is in our 95 % interval, so the difference may be due
    to chance.
    """

    metric: str
    value: float
    source: str
    difference: float
    inside: bool


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """What was answered for one image of a data set, as a row of `zeroshot eval --predictions`.

    `label` is the true one, `predicted` the best of the model, and `rank` the place of the true one from 1. `score` and
    `probability` are those of the best label, `true_score` and `true_probability` of the true one. Of an image that
    could not be read there is only `path`, `label` and the reason as `error`.
    """

    path: str
    label: str
    predicted: str | None = None
    correct: bool | None = None
    rank: int | None = None
    score: float | None = None
    probability: float | None = None
    true_score: float | None = None
    true_probability: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class EvalResult:
    """The figures of one evaluation, as `zeroshot eval --output` writes them.

    `n` is the number of images, `texts` that of captions. `metrics` by name are fractions, except the log loss (nats);
    `intervals` are their 95 % intervals. `per_class` has a mapping for each class (label, n, recall, interval),
    `confused` one for each pair of classes (label, taken_for, n). `fingerprint` is that of the weights; with device,
    precision, batch size, decoding, seed and versions it names everything that the figures depend on. `assumed` is what
    was assumed when the data set and the labels were read, and warnings why the figures may mean nothing; `threshold`
    the least probability of a label where images have several, `tuned` the method by which examples taught the
    classifier. The `answers` are those of every image, in the order of the data set, where a program asks; the JSON
    does not have them.
    """

    dataset: str
    n: int
    model: str
    pretrained: str | None
    prompts: str | None
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    main_metric: str = "top1"
    published: PublishedFigure | None = None
    per_class: tuple[dict[str, Any], ...] = ()
    confused: tuple[dict[str, Any], ...] = ()
    skipped: tuple[SkippedImage, ...] = ()
    task: str = "classification"
    texts: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    device: str = ""
    precision: str = ""
    batch_size: int = 0
    decoding: str = ""
    seed: int = 0
    command: str = ""
    assumed: tuple[str, ...] = ()
    threshold: float | None = None
    tuned: str | None = None
    answers: tuple[ImageAnswer, ...] = field(default=(), repr=False)


def assumed_of(*readers: Iterable[str]) -> tuple[str, ...]:
    """Return what several readers took for granted, each note once."""
    return tuple(dict.fromkeys(chain.from_iterable(readers)))


class Loss(StrEnum):
    """The loss that a batch is scored with."""

    CLIP = "clip"
    SIGMOID = "sigmoid"


class TextEncoder(StrEnum):
    """The text tower of a new model."""

    TRANSFORMER = "transformer"
    CBOW = "cbow"


class Augmentation(StrEnum):
    """A change that `--augment` adds to the random crop of a training image."""

    PLACE = "place"
    OUTLINE = "outline"
    BACKGROUND = "background"
    FLIP = "flip"
    ROTATE = "rotate"
    COLOUR = "colour"
    BLUR = "blur"
    SMALL = "small"


class TuneMethod(StrEnum):
    """How examples change a classifier's weights; cross-validation picks with `AUTO`."""

    AUTO = "auto"
    GDA = "gda"
    LOGISTIC = "logistic"


class Truncated(StrEnum):
    """What becomes of an image that lacks some of its pixels."""

    READ = "read"
    SKIP = "skip"


class Fit(StrEnum):
    """How an image is brought to the model's shape: its centre, all of it with borders, or all of it distorted."""

    CROP = "crop"
    PAD = "pad"
    SQUASH = "squash"


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of this package, torch and the packages named, which results may depend on."""
    from importlib.metadata import version  # slow to import

    return {name: version(name) for name in ("zeroshot-cli", "torch", *packages)}

"""What tuning and calibration are told, and what they return: arrays, and the figures of a report.

n examples, c classes, e embedding
"""

from dataclasses import dataclass

from zeroshot_cli.evaluation.answers import Doubles, Floats, Ints
from zeroshot_cli.evaluation.compare import Comparison
from zeroshot_cli.evaluation.metrics import Interval, Reliability, wilson
from zeroshot_cli.records import TuneMethod


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """How to tune: `target_precision` asks for thresholds at which answers are right that often, between 0 and 1."""

    method: TuneMethod = TuneMethod.AUTO
    seed: int = 0
    target_precision: float | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `n`."""

    hits: int
    n: int

    @property
    def value(self) -> float:
        """The fraction; 0 of nothing is 0."""
        return self.hits / self.n if self.n else 0.0

    @property
    def interval(self) -> Interval:
        """Its 95 % interval, Wilson's; from 0 to 1 where there is nothing."""
        return wilson(self.hits, self.n) if self.n else (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class ClassChange:
    """How many of a class's `n` cross-validated examples were right zero-shot, and how many tuned."""

    index: int
    n: int
    zero_shot: int
    tuned: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A method with its best settings, and how it did in cross-validation: what the choice was made from.

    `strength` is GDA's shrinkage of the covariance, or the penalty of the logistic regression. `accuracy` and
    `log_loss` are None where cross-validation was not possible.
    """

    method: TuneMethod
    alpha: float
    strength: float
    accuracy: Share | None
    log_loss: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A temperature of logits, thresholds, and how reliable answers are, judged on examples that had no part in them.

    `thresholds` (c,) are the probabilities below which an answer of a class is unknown, or None without a target.
    `before` has the model's own temperature and the zero-shot weights. `answered` is the share of examples that stay
    answered, and `precision` of these the share that is right.
    """

    temperature: float
    before: Reliability
    after: Reliability
    ece_before: float
    ece_after: float
    thresholds: Doubles | None = None
    target_precision: float | None = None
    answered: Share | None = None
    precision: Share | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """What `folds` folds of the examples say of zero-shot and tuned classifiers; `comparison.difference` is the gain.

    Held out, once each, were the examples of classes with at least two.
    """

    folds: int
    zero_shot: Share
    tuned: Share
    comparison: Comparison
    per_class: tuple[ClassChange, ...]

    @property
    def gained(self) -> tuple[ClassChange, ...]:
        """The classes with more right answers than before, the largest gain first."""
        return tuple(sorted((each for each in self.per_class if each.tuned > each.zero_shot), key=_loss))

    @property
    def lost(self) -> tuple[ClassChange, ...]:
        """The classes with fewer right answers than before, the largest loss first."""
        return tuple(sorted((each for each in self.per_class if each.tuned < each.zero_shot), key=_gain))


def _gain(change: ClassChange) -> float:
    return (change.tuned - change.zero_shot) / change.n


def _loss(change: ClassChange) -> float:
    return -_gain(change)


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """A tuned classifier: the score of an image is x @ `weights`.T + `bias`, on the scale of cosines.

    weights (c, e) and bias (c,) are float32. `chosen` is one of `candidates`. `cross_validation` is None where fewer
    than two classes have two examples, and so is `calibration`. Probabilities are softmax(score / `temperature`).
    `counts` (c,) are the examples of each class; a class without any stays zero-shot.
    """

    weights: Floats
    bias: Floats
    temperature: float
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    counts: Ints
    cross_validation: CrossValidation | None
    calibration: Calibration | None

    @property
    def better(self) -> bool | None:
        """Whether cross-validation had more right answers than zero-shot; None where there was none."""
        return None if self.cross_validation is None else self.cross_validation.comparison.difference > 0

    @property
    def thresholds(self) -> Doubles | None:
        """The probabilities below which an answer of a class is unknown, (c,); None without a target."""
        return None if self.calibration is None else self.calibration.thresholds


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """A calibrated zero-shot classifier: probabilities are softmax(cosine / `temperature`).

    `accuracy` is that of the examples, which calibration does not change; `counts` (c,) are the examples of each class.
    """

    temperature: float
    accuracy: Share
    counts: Ints
    calibration: Calibration

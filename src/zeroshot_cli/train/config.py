"""What a training run is told: small, frozen, free of torch."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import Augmentation

SCRATCH_LR = 5e-4
FINE_TUNING_LR = 1e-5


class Loss(StrEnum):
    """The loss that a batch is scored with."""

    CLIP = "clip"
    SIGMOID = "sigmoid"


class TextEncoder(StrEnum):
    """The text tower of a new model."""

    TRANSFORMER = "transformer"
    CBOW = "cbow"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The settings of a run; a continued run must have the same ones, but for the MAY_CHANGE.

    `batch_size` is that of all processes together, `chunk_size` how many pairs of it a process has in memory at once.
    `warmup` is a share of all steps, `min_scale` the smallest share of a picture's area that a crop keeps. `lr` None
    is 5e-4 for a new model and 1e-5 with weights. `save_every` counts steps; 0 saves at the end of epochs,
    short ones together; `keep` newest checkpoints stay, and the best. `max_pixels` and `decode_timeout` (seconds) bound
    what is decoded of one image; None is as in classify.
    """

    data: tuple[str, ...]
    model: str
    data_weights: tuple[float, ...] = ()
    verify: bool = False
    val: str | None = None
    pretrained: str | None = None
    epochs: int = 32
    batch_size: int = 256
    chunk_size: int | None = None
    lr: float | None = None
    warmup: float = 0.05
    weight_decay: float = 0.2
    max_norm: float = 1.0
    loss: Loss = Loss.CLIP
    text_encoder: TextEncoder | None = None
    min_scale: float = 0.9
    augment: tuple[Augmentation, ...] = ()
    lock_image: bool = False
    lock_text: bool = False
    layer_decay: float | None = None
    grad_checkpointing: bool = False
    ema: float | None = None
    wise_ft: float | None = None
    seed: int = 0
    offline: bool = False
    max_pixels: int | None = None
    decode_timeout: float | None = None
    image_column: str | None = None
    caption_column: str | None = None
    precision: str = "auto"
    device: str = "auto"
    workers: int = 0
    log_every: int = 10
    save_every: int = 0
    keep: int = 2
    zero_shot: str | None = None
    labels: str | None = None
    prompts: str | None = None
    report_to: tuple[str, ...] = ()
    fsdp: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for a value that makes no sense, with its option and the values that do."""
        for name, lowest in _LOWEST.items():
            value = getattr(self, name)
            _check(value is None or value >= lowest, name, value, f"at least {lowest}")
        _check(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and under 2^63")
        for name in ("warmup", "weight_decay"):
            _check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "between 0 and 1")
        _check(0 < self.min_scale <= 1, "min_scale", self.min_scale, "over 0 and at most 1")
        _check(self.ema is None or 0 < self.ema < 1, "ema", self.ema, "between 0 and 1, such as 0.999")
        _check(self.wise_ft is None or 0 <= self.wise_ft <= 1, "wise_ft", self.wise_ft, "between 0 and 1, such as 0.5")
        decay = self.layer_decay
        _check(decay is None or 0 < decay <= 1, "layer_decay", decay, "over 0 and at most 1, such as 0.75")
        _check(self.lr is None or 0 < self.lr < float("inf"), "lr", self.lr, "over 0, and a finite number")
        timeout = self.decode_timeout
        _check(timeout is None or timeout >= 0.1, "decode_timeout", timeout, "at least 0.1 seconds")
        precisions = ("auto", "fp32", "bf16")
        _check(self.precision in precisions, "precision", self.precision, "auto, fp32 or bf16 in training")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as config.yaml has them."""
        values = asdict(self)
        values["augment"] = [str(kind) for kind in self.augment]
        for name in ("data", "data_weights", "report_to"):
            values[name] = list(values[name])
        for name in ("loss", "text_encoder"):
            values[name] = None if values[name] is None else str(values[name])
        return values

    def identity(self) -> dict[str, Any]:
        """The settings that a continued run must share with its beginning."""
        return {name: value for name, value in self.to_dict().items() if name not in MAY_CHANGE}


# The rows themselves are compared, wherever their files lie; the others do not touch the weights.
MAY_CHANGE = frozenset(
    {"data", "data_weights", "val", "offline", "device", "workers", "log_every", "save_every", "verify", "keep"}
    | {"zero_shot", "labels", "prompts", "report_to", "fsdp", "decode_timeout"}
)

_LOWEST = {"epochs": 1, "batch_size": 2, "chunk_size": 1, "workers": 0, "log_every": 1, "save_every": 0, "keep": 1}
_LOWEST |= {"max_pixels": 1}


def _check(good: bool, name: str, value: object, range_: str) -> None:
    if not good:
        raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be {range_}")

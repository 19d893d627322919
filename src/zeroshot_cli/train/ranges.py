"""Which values the settings of a run may have."""

from typing import TYPE_CHECKING

from zeroshot_cli.errors import UsageError

if TYPE_CHECKING:
    from zeroshot_cli.train.config import TrainConfig

_LOWEST = {"epochs": 1, "batch_size": 2, "chunk_size": 1, "workers": 0, "log_every": 1, "save_every": 0, "keep": 1}
_LOWEST |= {"views": 1, "max_pixels": 1, "patience": 1, "lora": 1}


def check_ranges(config: "TrainConfig") -> None:
    """Raise UsageError for a value out of range, with its option and the range."""
    for name, lowest in _LOWEST.items():
        value = getattr(config, name)
        _check(value is None or value >= lowest, name, value, f"at least {lowest}")
    _check(0 <= config.seed < 2**63, "seed", config.seed, "at least 0 and under 2^63")
    for name in ("warmup", "weight_decay"):
        _check(0 <= getattr(config, name) <= 1, name, getattr(config, name), "between 0 and 1")
    share = config.rehearse_share
    _check(0 < share < 1, "rehearse_share", share, "between 0 and 1, such as 0.3")
    _check(0 < config.min_scale <= 1, "min_scale", config.min_scale, "over 0 and at most 1")
    _check(config.ema is None or 0 < config.ema < 1, "ema", config.ema, "between 0 and 1, such as 0.999")
    _check(
        config.wise_ft is None or 0 <= config.wise_ft <= 1, "wise_ft", config.wise_ft, "between 0 and 1, such as 0.5"
    )
    decay = config.layer_decay
    _check(decay is None or 0 < decay <= 1, "layer_decay", decay, "over 0 and at most 1, such as 0.75")
    _check(config.lr is None or 0 < config.lr < float("inf"), "lr", config.lr, "finite and over 0")
    _check(0 < config.distil_weight < float("inf"), "distil_weight", config.distil_weight, "finite and over 0")
    similar = config.mask_similar
    _check(similar is None or 0 < similar <= 1, "mask_similar", similar, "over 0 and at most 1, such as 0.9")
    timeout = config.decode_timeout
    _check(config.truncated in ("read", "skip"), "truncated", config.truncated, "read or skip")
    _check(timeout is None or timeout >= 0.1, "decode_timeout", timeout, "at least 0.1 seconds")
    precisions = ("auto", "fp32", "bf16")
    _check(config.precision in precisions, "precision", config.precision, "auto, fp32 or bf16 in training")


def _check(good: bool, name: str, value: object, range_: str) -> None:
    if not good:
        raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be {range_}")

"""Values of options and variables that are refused, each in a sentence, before anything is loaded."""

import math
import os
import re

import typer

from zeroshot_cli.errors import UsageError

AUTO = "auto"
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_THREADS = re.compile(r"\s*0*[1-9]\d{0,8}\s*(,\s*0*[1-9]\d{0,8}\s*)*")
_MOST = 2**63  # what 64 bits hold


def check_batch_size(value: str) -> str:
    """Raise BadParameter unless the value is `auto`, or a number of images of at least 1."""
    return _checked_count(value, most=1_000_000)


def check_workers(value: str) -> str:
    """Raise BadParameter unless the value is `auto`, or a number of processes of at least 1."""
    return _checked_count(value, most=1024)


def _checked_count(value: str, *, most: int) -> str:
    is_number = value.isascii() and value.isdigit() and value.strip("0") != ""
    if value != AUTO and not is_number:
        raise typer.BadParameter(f"{value!r} is neither a whole number of at least 1 nor 'auto'")
    if is_number and (len(value.lstrip("0")) > len(str(most)) or int(value) > most):
        raise typer.BadParameter(f"{value!r} is too many; give at most {most}, or 'auto'")
    return value


def check_device(value: str) -> str:
    """Raise BadParameter if the value cannot be a device."""
    if not _DEVICE.fullmatch(value):
        raise typer.BadParameter(f"{value!r} is not a device; use auto, cpu, cuda, cuda:N or mps")
    return value


def check_frames(value: str) -> str:
    """Raise BadParameter if the value names no frame; return numbers without leading zeros."""
    if value not in ("first", "middle", "each") and not (value.isascii() and value.isdigit() and len(value) < 10):
        raise typer.BadParameter(f"{value!r} is not a frame; use first, middle, each, or a number from 0")
    return value if not value.isdigit() else str(int(value))


def check_cosine(value: float | None) -> float | None:
    """Raise BadParameter unless the value is from -1 to 1, which NaN is not."""
    if value is not None and not -1 <= value <= 1:
        raise typer.BadParameter(f"{value} is not a cosine; give a number from -1 to 1")
    return value


def check_probability(value: float | None) -> float | None:
    """Raise BadParameter unless the value is from 0 to 1, which NaN is not."""
    if value is not None and not 0 <= value <= 1:
        raise typer.BadParameter(f"{value} is not a probability; give a number from 0 to 1")
    return value


def check_number(option: str, value: object) -> None:
    """Raise UsageError for a number that nothing can be computed with: NaN, infinite, or of more than 64 bits."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{option} is {value}; give a finite number")
    if isinstance(value, int) and not -_MOST <= value < _MOST:
        raise UsageError(f"{option} is a number of {value.bit_length()} bits; give one under 2^63")


def check_threads() -> None:
    """Raise UsageError if OMP_NUM_THREADS is no number of threads: libgomp would take all cores, and grumble."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    if value and not _THREADS.fullmatch(value):
        raise UsageError(f"OMP_NUM_THREADS={value} is not a number of threads; give one of at least 1, or unset it")

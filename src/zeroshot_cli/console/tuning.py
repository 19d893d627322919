"""What tuning and calibration found, as tables on a terminal and as JSON."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zeroshot_cli.display import shown
from zeroshot_cli.evaluation.metrics import Reliability
from zeroshot_cli.tuning.learn import calibration_figures, figures_of, share_figures
from zeroshot_cli.tuning.results import Calibrated, Calibration, Candidate, ClassChange, Tuned

CHANGES = 5  # classes that gained, and that lost; the JSON has them all
_RANGES = 5  # of probability, in the table of reliability
_NAMES = {"gda": "Gaussian discriminant analysis (gda)", "logistic": "logistic regression (logistic)"}


def print_tuned(tuned: Tuned, labels: Sequence[str], asked: str, console: Console) -> None:
    """Print what tuning gained, by which method and why, the classes that changed, and how reliable answers are."""
    table = _rows()
    table.add_row("examples", _examples(tuned.counts), "")
    if (validated := tuned.cross_validation) is not None:
        gain = validated.comparison
        table.add_row(
            "zero-shot accuracy", _percent(validated.zero_shot.value), _interval(validated.zero_shot.interval)
        )
        style = "green" if gain.difference > 0 else "yellow"
        value = Text(_percent(validated.tuned.value), style=style)
        table.add_row("tuned accuracy", value, _interval(validated.tuned.interval))
        low, high = (100 * each for each in gain.interval)
        table.add_row("gain", f"{100 * gain.difference:+.1f} points", f"{low:+.1f} to {high:+.1f}")
    console.print(table)
    console.print(f"by {_NAMES[tuned.chosen.method.value]}: {_why(tuned, asked)}", soft_wrap=True)
    if validated is not None:
        _print_changes("gained most", validated.gained, labels, console)
        _print_changes("lost most", validated.lost, labels, console)
    if tuned.calibration is not None:
        _print_calibration(tuned.calibration, console)


def print_calibrated(found: Calibrated, console: Console) -> None:
    """Print on what a classifier was calibrated, and how reliable its answers are before and after."""
    table = _rows()
    table.add_row("examples", _examples(found.counts), "")
    table.add_row("accuracy", _percent(found.accuracy.value), f"{_interval(found.accuracy.interval)}, as before")
    console.print(table)
    _print_calibration(found.calibration, console)


def tuned_json(tuned: Tuned, labels: Sequence[str], about: dict[str, Any]) -> str:
    """Return all figures of tuning as JSON, after those in `about`."""
    changes = () if tuned.cross_validation is None else tuned.cross_validation.per_class
    found = {
        **about,
        "method": tuned.chosen.method.value,
        "temperature": tuned.temperature,
        **figures_of(tuned),
        "candidates": [_candidate(each) for each in tuned.candidates],
        "per_class": [
            {"label": labels[each.index], "n": each.n, "zero_shot": each.zero_shot, "tuned": each.tuned}
            for each in changes
        ],
        **_reliabilities(tuned.calibration),
    }
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)


def calibrated_json(found: Calibrated, about: dict[str, Any]) -> str:
    """Return all figures of a calibration as JSON, after those in `about`."""
    figures = {
        **about,
        "examples": int(found.counts.sum()),
        "temperature": found.temperature,
        "accuracy": share_figures(found.accuracy),
        **calibration_figures(found.calibration),
        **_reliabilities(found.calibration),
    }
    return json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False)


def _candidate(each: Candidate) -> dict[str, Any]:
    accuracy = None if each.accuracy is None else share_figures(each.accuracy)
    settings = {"method": each.method.value, "alpha": each.alpha, "strength": each.strength}
    return {**settings, "accuracy": accuracy, "log_loss": each.log_loss}


def _reliabilities(calibration: Calibration | None) -> dict[str, Any]:
    """Return the bins with answers, before and after."""
    if calibration is None:
        return {}
    return {
        f"reliability_{when}": [
            {"from": low, "to": high, "n": n, "confidence": confidence, "accuracy": accuracy}
            for low, high, n, confidence, accuracy in zip(
                found.edges[:-1].tolist(),
                found.edges[1:].tolist(),
                found.counts.tolist(),
                found.confidence.tolist(),
                found.accuracy.tolist(),
                strict=True,
            )
            if n
        ]
        for when, found in (("before", calibration.before), ("after", calibration.after))
    }


def _examples(counts: "np.ndarray[Any, Any]") -> str:
    some = int((counts > 0).sum())
    which = f"all {some}" if some == len(counts) else f"{some} of {len(counts)}"
    return f"{int(counts.sum()):,} for {which} labels"


def _why(tuned: Tuned, asked: str) -> str:
    """Return why this method was taken, and how it was judged."""
    others = [each for each in tuned.candidates if each is not tuned.chosen and each.log_loss is not None]
    if tuned.cross_validation is None or tuned.chosen.log_loss is None:
        return "fewer than two labels have two examples, so nothing was cross-validated and the settings are fixed ones"
    folds = f"in cross-validation with {tuned.cross_validation.folds} folds"
    if not others:
        return f"--method {asked}; judged {folds}"
    losses = ", ".join(f"{each.log_loss:.3f} of {each.method.value}" for each in others)
    return f"its log loss is {tuned.chosen.log_loss:.3f} {folds}, against {losses}"


def _print_changes(title: str, changes: Sequence[ClassChange], labels: Sequence[str], console: Console) -> None:
    if not changes:
        return
    table = _table(f"{title} ({len(changes)})", "examples", "zero-shot", "tuned")
    for each in changes[:CHANGES]:
        shares = (_percent(hits / each.n, 0) for hits in (each.zero_shot, each.tuned))
        table.add_row(Text(shown(labels[each.index])), str(each.n), *shares)
    console.print()
    console.print(table)


def _print_calibration(calibration: Calibration, console: Console) -> None:
    table = _table("probability", "answers before", "right", "answers after", "right")
    before, after = (_ranges(each) for each in (calibration.before, calibration.after))
    for place, (was, now) in enumerate(zip(before, after, strict=True)):
        low, high = place / _RANGES, (place + 1) / _RANGES
        table.add_row(f"{low:.0%} to {high:.0%}", *was, *now)
    table.add_section()
    table.add_row("calibration error", "", _percent(calibration.ece_before), "", _percent(calibration.ece_after))
    console.print()
    console.print(table)
    answered, precision, thresholds = calibration.answered, calibration.precision, calibration.thresholds
    if answered is None or precision is None or thresholds is None:
        return
    rows = _rows()
    rows.add_row("answered, not unknown", _percent(answered.value), _interval(answered.interval))
    aim = f"{_interval(precision.interval)}, asked for: {calibration.target_precision:.0%}"
    rows.add_row("right of these", _percent(precision.value), aim)
    if never := int(np.isinf(thresholds).sum()):
        rows.add_row("labels never answered", str(never), "too few of their answers are right")
    console.print()
    console.print(rows)


def _ranges(reliability: Reliability) -> list[tuple[str, str]]:
    """Return answers and the share that is right, in a few ranges of probability."""
    bins = len(reliability.counts) // _RANGES
    hits = np.nan_to_num(reliability.accuracy) * reliability.counts
    found = []
    for start in range(0, bins * _RANGES, bins):
        n = int(reliability.counts[start : start + bins].sum())
        found.append((str(n), _percent(float(hits[start : start + bins].sum()) / n) if n else ""))
    return found


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _interval(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def _rows() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(style="dim")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=place > 0)
    return table

"""The learning rate as a pure function of the step."""

import math


def learning_rate(step: int, *, total: int, warmup: int, peak: float) -> float:
    """Learning rate of a step (counted from 0) of `total`: linear up to `peak` in `warmup` steps, then cosine to 0.

    1. warm-up: the first step has peak / warmup, step warmup - 1 has the peak (never 0: no step is wasted);
    2. cosine: half a period over the steps that are left, SGDR (arXiv 1608.03983) without restarts;
    3. from `total` on: 0.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if step >= total:
        return 0.0
    progress = (step - warmup) / (total - warmup)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def warmup_steps(total: int, fraction: float) -> int:
    """Steps of warm-up for a share of all steps; at least one where the share is not 0."""
    return min(total, math.ceil(total * fraction))

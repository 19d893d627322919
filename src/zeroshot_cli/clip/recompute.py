"""Memory for time in training: parts of a tower that keep their input only, and are computed again for the gradient."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(part: Callable[[Tensor], Tensor], x: Tensor, *modules: nn.Module) -> Tensor:
    """Part(x), of whose making nothing is kept while gradients are wanted (arXiv 1604.06174).

    `part` calls `modules`, draws no random numbers, and gives the same gradient to the bit.
    """
    if not torch.is_grad_enabled():
        return part(x)
    out: Tensor = checkpoint(
        part,
        x,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), uncounted(*modules)),
    )
    return out


@contextmanager
def uncounted(*modules: nn.Module) -> Iterator[None]:
    """Let batch norm see a batch without moving its running averages, which have seen it already, or will later."""
    norms = [norm for module in modules for norm in module.modules() if isinstance(norm, _BatchNorm)]
    statistics = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in statistics:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in statistics:
            setattr(norm, name, buffer)

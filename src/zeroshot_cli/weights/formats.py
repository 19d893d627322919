"""Foreign layouts of weights and configurations ⇄ ours.

On disk a model keeps CLIP's own names, with the text tower at the top level; in memory that tower is `text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zeroshot_cli.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

_TEXT = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
_NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask"}


def from_disk(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of OpenAI or open_clip under our names; `module.` of DistributedDataParallel is dropped."""
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return {
        "text." + key if key.startswith(_TEXT) else key: tensor
        for key, tensor in state.items()
        if key not in _NOT_WEIGHTS
    }


def to_disk(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under CLIP's own names."""
    return {key.removeprefix("text."): tensor for key, tensor in state.items()}


def load_into(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy `state`, under our names, into `model`.

    Raises CheckpointError with up to five names where tensors are missing, left over or of another shape.
    """
    expected = model.state_dict()
    wrong = [
        f"{key} is {list(state[key].shape)} and not {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    problems = (
        ("lacks", [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]),
        ("has unknown tensors", [key for key in state if key not in expected]),
        ("has tensors of the wrong shape", wrong),
    )
    for problem, names in problems:
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise CheckpointError(
                f"{source} does not fit its model configuration: it {problem}: {', '.join(names[:5])}{more}"
            )
    model.load_state_dict(state, strict=False)

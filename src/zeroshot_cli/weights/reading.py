"""Files of weights → tensors; nothing is unpickled but tensors."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zeroshot_cli.errors import CheckpointError


def read_tensors(path: Path) -> Mapping[str, Tensor]:
    """The state dict in a safetensors file or in a pickle that holds nothing but tensors.

    Raises CheckpointError where the file is anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint that can be read: {error}") from error
    except Exception as error:  # torch.load raises pickle.UnpicklingError with advice that would be dangerous
        raise CheckpointError(f"{path} is refused: it is not a file of tensors alone") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is not a checkpoint: it holds no state dict of tensors")
    return state

"""Where the weights are among all that a trainer saves: under which key, and behind which prefixes.

Trainers nest the weights (`state_dict`, `model`), and each wrapper around a module puts a word before every name
(`module.`, `_orig_mod.`, `model.`). Averaged copies and teachers lie beside the model itself, which is the one read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zeroshot_cli.errors import CheckpointError
from zeroshot_cli.models.formats.pickles import StandIn, tensors_of_module

# Where trainers put the weights beside everything else, the usual first.
_STATES = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
    "clip",
    "student",
    "weights",
    "params",
)
_DEEPEST = 5  # levels of nesting that are looked at
_MACHINERY = re.compile(
    r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
# The image tower of a CLIP in every layout; what stands before it is a prefix.
_TOWER = re.compile(r"((?:[^.]+\.)*?)(?:visual|vision_model|image_encoder)\.")
_AVERAGED = re.compile(r"(^|[._])(ema|swa|shadow|avg|averaged?|teacher|momentum|target|frozen|old|initial)(?=[._\d]|$)")
_COUNTS = {"n_averaged", "initted", "step", "num_updates", "decay"}  # of averaging, beside the weights
_SCALARS = ("logit_scale", "logit_bias")

_ADAPTERS = re.compile(
    r"(^|[._])(lora_\w+|lora|hada_w1_a|hada_w1|lokr_w1|ia3_l|vera_lambda_\w+|base_layer|modules_to_save|adapter\w*"
    r"|prompt_encoder|prompt_learner|prompt_embeddings)([._]|$)"
)
_QUANTISED = re.compile(
    r"(\.(qweight|qzeros|g_idx|SCB|absmax|quant_map|quant_state\..*|weight_packed|weight_scale|weight_scale_inv"
    r"|weight_zero_point|_packed_params.*|_data|scales|zero_point))$"
)
_FLAT = re.compile(r"(^|\.)_?flat_param(_\d+)?$")


def state_of(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the state dict in what torch.load gave, and sentences about what was chosen and what was left out.

    Raises CheckpointError where it holds none, or several between which only the user can choose.
    """
    if isinstance(content, StandIn) and (whole := dict(tensors_of_module(content))):
        return whole, (f"{path} is a whole model, of which the tensors are read",)
    if not isinstance(content, dict) or not content:
        what = f": it is an object of {type(content).__name__}" if isinstance(content, StandIn) else ""
        raise CheckpointError(f"{path} is not a checkpoint: it holds no state dict of tensors{what}")
    found = dict(_states(content))
    if not found:
        inner = next((content[key] for key in _STATES if isinstance(content.get(key), dict)), content)
        return _tensors_only(inner, path), ()
    key = _chosen(list(found), path)
    notes = [f"the weights of {path} are those under {key!r}"] if key else []
    if others := [other for other in found if other != key]:
        notes.append(f"{path} also holds weights under {', '.join(map(repr, others))}, which are left out")
    return _tensors_only(found[key], path), tuple(notes)


def unwrapped(state: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of the model without what wrappers put before their names, and sentences as `state_of`."""
    plain = {_MACHINERY.sub("", name): tensor for name, tensor in state.items()}
    if len(plain) < len(state):
        plain = dict(state)  # two wrappers around the same names: refused by name later
    prefixes = dict.fromkeys(match[1] for name in plain if (match := _TOWER.match(name)))
    if not prefixes:
        return plain, ()
    prefix = _chosen(list(prefixes), path)
    others = [name for name in plain if not name.startswith(prefix)]
    if not prefix:  # what is left over is then refused by name, but for copies of the model itself
        copies = tuple(other for other in prefixes if other)
        others = [name for name in plain if name in _COUNTS or (copies and name.startswith(copies))]
    mine = {name.removeprefix(prefix): tensor for name, tensor in plain.items() if name not in set(others)}
    notes = [f"names in {path} are read without {prefix!r}"] if prefix else []
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        notes.append(f"tensors of {path} beside the model are left out: {', '.join(others[:3])}{more}")
    return mine, tuple(notes)


def refuse_parts(names: Iterable[str], path: Path) -> None:
    """Raise CheckpointError for tensors that belong to no whole model: adapters, and weights of another storage."""
    for name in names:
        if match := _ADAPTERS.search(name):
            raise CheckpointError(
                f"{path} is an adapter or holds one ({match[2]} in {name}), not a whole model: merge it into its base "
                "first, with PEFT by merge_and_unload(), and save that model's state_dict()"
            )
        if _QUANTISED.search(name):
            raise _quantised(name, path)
        if _FLAT.search(name):
            raise CheckpointError(
                f"{path} holds FSDP's flattened parameters ({name}): save it with StateDictType.FULL_STATE_DICT"
            )


def refuse_storage(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError for weights that are whole numbers, or that are elsewhere."""
    for name, tensor in state.items():
        if tensor.ndim > 1 and tensor.dtype in (torch.int8, torch.uint8, torch.int32):
            raise _quantised(f"{name}, {str(tensor.dtype).removeprefix('torch.')}", path)
        if tensor.numel() == 0:
            raise CheckpointError(
                f"{path} is only a part of a model: its tensor {name} is empty, as DeepSpeed ZeRO-3 leaves it; "
                "run zero_to_fp32.py in its folder and give the file that it writes"
            )


def _quantised(what: str, path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is quantised ({what}): take the weights in float32, float16 or bfloat16; --precision int8 quantises "
        "them here"
    )


def _states(content: dict[Any, Any], key: str = "", depth: int = 0) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Yield the mappings of tensors, nested in one another, that have the image tower of a CLIP, by their keys."""
    if any(
        isinstance(name, str) and isinstance(value, Tensor) and _TOWER.match(name) for name, value in content.items()
    ):
        yield key, content
        return
    for name, value in content.items() if depth < _DEEPEST else ():
        inner = f"{key}.{name}" if key else str(name)
        if isinstance(value, StandIn) and (whole := dict(tensors_of_module(value))):
            yield from _states(whole, inner, depth + 1)
        elif isinstance(value, dict):
            yield from _states(value, inner, depth + 1)


def _chosen(keys: list[str], path: Path) -> str:
    """Return the key or prefix of the model itself: no averaged copy and no teacher, where there is anything else."""
    if "" in keys:
        return ""
    rest = [key for key in keys if not _AVERAGED.search(key)] or keys
    if len(rest) == 1:
        return rest[0]
    known = [key for key in rest if key.rstrip(".").rpartition(".")[2] in _STATES]
    if known:
        return min(known, key=lambda key: _STATES.index(key.rstrip(".").rpartition(".")[2]))
    names = ", ".join(map(repr, rest))
    raise CheckpointError(
        f"{path} holds several models, under {names}: save the one that you want in a file of its own"
    )


def _tensors_only(content: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict; settings and counters beside them are passed over."""
    state: dict[str, Tensor] = {}
    is_model = any(isinstance(name, str) and _TOWER.match(name) for name in content)
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            state[name] = value
        elif isinstance(value, float | int) and isinstance(name, str) and name.rpartition(".")[2] in _SCALARS:
            state[name] = torch.tensor(float(value))
        elif not is_model or (isinstance(name, str) and "." in name):
            what = f", but of {type(value).__name__}" if isinstance(value, StandIn) else ""
            raise CheckpointError(f"{path} is not a checkpoint: its entry {name!r} is not a tensor{what}")
    return state

"""Files of weights → tensors. The content tells the kind of a file; nothing is unpickled but tensors."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from zeroshot_cli.disk import similar_path
from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import CheckpointError, UsageError, is_out_of_memory
from zeroshot_cli.models.formats.other_files import HEAD, is_text, what_archive, what_else
from zeroshot_cli.models.formats.packed import unpacked
from zeroshot_cli.models.formats.pickles import CUT_SHORT, check_growth, read_archive, read_old, read_torchscript
from zeroshot_cli.models.formats.wrapped import refuse_parts, refuse_storage, state_of, unwrapped

INDEX_SUFFIX = ".index.json"


@dataclass(frozen=True)
class Weights:
    """The tensors of a file under the file's own names, less what wrappers of a module prefix.

    `quick_gelu` is the activation where the file itself tells it, as the program text of a TorchScript archive does.
    `notes` say what was chosen among several, and what was left out.
    """

    tensors: dict[str, Tensor]
    torchscript: bool = False
    quick_gelu: bool | None = None
    notes: tuple[str, ...] = ()


def read_tensors(path: Path) -> Mapping[str, Tensor]:
    """Return the state dict in a file of any kind that `read_weights` takes."""
    return read_weights(path).tensors


def read_weights(path: Path) -> Weights:
    """Read weights from safetensors, shards by their index, a pickle of tensors or a TorchScript archive.

    What `save_model` wrote as 8-bit integers with scales comes back in float32.

    Tensors are mapped into memory where the file allows it, so that weights nobody asks for are not read. Raises
    UsageError for a path that is not there, and CheckpointError where the content is anything else.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist: {similar_path(str(path)) or 'name a checkpoint or a model folder'}")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, not a file of weights")
    if not path.is_file():
        raise CheckpointError(f"{path} is a pipe or a device, not a file of weights: save it to a file first")
    try:
        weights = _read(path)
    except (*CUT_SHORT, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if is_out_of_memory(error):
            raise MemoryError(_line(error)) from error
        raise CheckpointError(f"{path} is cut short or damaged, download it again: {_line(error)}") from error
    for name, tensor in weights.tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or _is_inflated(tensor):
            raise CheckpointError(f"{path} is refused: its tensor {name} is not stored in full")
        if tensor.is_quantized or tensor.is_complex():
            raise CheckpointError(f"{path} is refused: its tensor {name} is of {tensor.dtype}, not of plain numbers")
    refuse_parts(weights.tensors, path)
    tensors, notes = unwrapped(weights.tensors, path)
    tensors = unpacked(tensors, path)
    refuse_storage(tensors, path)
    return replace(weights, tensors=tensors, notes=weights.notes + notes)


def _read(path: Path) -> Weights:
    if path.name.endswith(INDEX_SUFFIX):
        return Weights(_shards(path))
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PK\x03\x04"):
        return _archive(path, size)
    if head[8:9] == b"{" and not is_text(head[:8]):
        return Weights(_safetensors(path, header=int.from_bytes(head[:8], "little"), size=size))
    if head[:1] == b"\x80":  # what torch.save wrote before it wrote archives
        return _weights(read_old(path), path)
    raise CheckpointError(f"{path} {what_else(head)}")


def _weights(content: Any, path: Path) -> Weights:
    tensors, notes = state_of(content, path)
    return Weights(tensors, notes=notes)


def _safetensors(path: Path, *, header: int, size: int) -> dict[str, Tensor]:
    if header + 8 > size:
        raise CheckpointError(f"{path} is cut short, download it again: it has {size} bytes and a header of {header}")
    try:
        return load_file(path)
    except SafetensorError as error:
        if "llocate memory" in str(error):
            raise MemoryError(_line(error)) from error
        raise CheckpointError(f"{path} is cut short or damaged, download it again: {_line(error)}") from error


def _shards(index: Path) -> dict[str, Tensor]:
    """Return the tensors of all files that an index names; they lie beside it."""
    try:
        files: dict[str, str] = load_json(index.read_bytes())["weight_map"]
        names = sorted(set(files.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not an index of shards: it has no mapping 'weight_map'") from error
    tensors: dict[str, Tensor] = {}
    for name in names:
        if not isinstance(name, str):
            raise CheckpointError(f"{index} names {name!r} as a file: download it again")
        shard = index.parent / name
        if shard.name != name or not shard.is_file() or name.endswith(INDEX_SUFFIX):
            raise CheckpointError(f"{index} names {name}, which is not beside it: download that file too")
        tensors |= read_tensors(shard)
    missing = [key for key in files if key not in tensors]
    if missing:
        raise CheckpointError(f"{index} names tensors that its files lack: {', '.join(missing[:5])}")
    return tensors


def _archive(path: Path, size: int) -> Weights:
    """Return the weights in an archive of torch.save or torch.jit.save."""
    with zipfile.ZipFile(path) as archive:
        check_growth(archive, path, size)
        names = archive.namelist()
        if not any(name.endswith("/data.pkl") for name in names):
            raise CheckpointError(f"{path} {what_archive(names)}")
        if any(name.endswith("/constants.pkl") for name in names):
            tensors, quick_gelu = read_torchscript(archive, path)
            return Weights(tensors, torchscript=True, quick_gelu=quick_gelu)
    return _weights(read_archive(path, size), path)


def _is_inflated(tensor: Tensor) -> bool:
    """Return whether the tensor shows more numbers than are stored, as an expanded one does."""
    if tensor.layout != torch.strided:
        return False
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


# Whether they fit a model


def check_fits(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Compare `state`, under the model's names, with the tensors of `model`, which may be on the meta device.

    Raises CheckpointError with up to five names where tensors are missing, left over or of another shape.
    """
    expected = model.state_dict()
    wrong = [
        f"{key} is {list(state[key].shape)} and not {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    quantised = [
        f"{key} is of {str(state[key].dtype).removeprefix('torch.')}"
        for key, tensor in expected.items()
        if key in state and tensor.is_floating_point() and not state[key].is_floating_point()
    ]
    problems = {
        "lacks": [key for key in expected if key not in state and not key.endswith("num_batches_tracked")],
        "has unknown tensors": [key for key in state if key not in expected],
        "has tensors of the wrong shape": wrong,
        "has whole numbers as weights": quantised,
    }
    found = [f"it {problem}: {listed(names)}" for problem, names in problems.items() if names]
    if found:
        raise CheckpointError(f"{source} does not fit its model configuration: {'; '.join(found)}")


def load_into(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy `state`, under the model's names, into `model`; raises what `check_fits` raises."""
    check_fits(model, state, source=source)
    model.load_state_dict(state, strict=False)


def listed(names: list[str]) -> str:
    """Return up to five names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more

"""Files of weights → tensors. The content tells the kind of a file; nothing is unpickled but tensors."""

from __future__ import annotations

import json
import pickletools
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from zeroshot_cli.errors import CheckpointError, UsageError

INDEX_SUFFIX = ".index.json"

_STATES = ("state_dict", "model_state_dict", "model")  # where trainers put the weights beside everything else
_WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile
_CUT_SHORT = (OSError, RuntimeError, EOFError, IndexError, struct.error)  # what torch raises at an early end
_MAX_GROWTH = 20  # weights hardly compress: an archive that promises more than this is a bomb
_SMALL = 1 << 20  # bytes to which an archive may grow in any case


@dataclass(frozen=True)
class Weights:
    """The tensors of a file under the file's own names, less what data-parallel and compiled modules prefix.

    `quick_gelu` is the activation where the file itself tells it, as the program text of a TorchScript archive does.
    """

    tensors: dict[str, Tensor]
    torchscript: bool = False
    quick_gelu: bool | None = None


def read_tensors(path: Path) -> Mapping[str, Tensor]:
    """Return the state dict in a file of any kind that `read_weights` takes."""
    return read_weights(path).tensors


def read_weights(path: Path) -> Weights:
    """Read weights from safetensors, shards by their index, a pickle of tensors or a TorchScript archive.

    Tensors are mapped into memory where the file allows it, so that weights nobody asks for are not read. Raises
    UsageError for a path that is not there, and CheckpointError where the content is anything else.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist: name a checkpoint or a model folder")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, not a file of weights")
    try:
        weights = _read(path)
    except (*_CUT_SHORT, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path} is cut short or damaged, download it again: {_line(error)}") from error
    for name, tensor in weights.tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or _is_inflated(tensor):
            raise CheckpointError(f"{path} is refused: its tensor {name} is not stored in full")
        if tensor.is_quantized or tensor.is_complex():
            raise CheckpointError(f"{path} is refused: its tensor {name} is of {tensor.dtype}, not of plain numbers")
    return replace(weights, tensors=_unwrapped(weights.tensors))


def _read(path: Path) -> Weights:
    if path.name.endswith(INDEX_SUFFIX):
        return Weights(_shards(path))
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK\x03\x04"):
        return _archive(path, size)
    if head[8:9] == b"{":
        return Weights(_safetensors(path, header=int.from_bytes(head[:8], "little"), size=size))
    if head[:1] == b"\x80":  # what torch.save wrote before it wrote archives
        return Weights(_state(_torch_load(path), path))
    raise CheckpointError(f"{path} {_what_else(head)}")


def _what_else(head: bytes) -> str:
    """Return what a file without tensors is, and what to do: the end of a sentence."""
    start = head.lstrip().lower()
    if not head:
        return "is empty: download it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the weights: run `git lfs pull` in its folder, or download the file itself"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not a checkpoint: its address asked for a login or was wrong; download it again"
    line = head[:40].decode("ascii", errors="replace").splitlines()[0]
    what = f"text that begins {line!r}" if line.isascii() and line.isprintable() else "of no known format"
    return f"is {what}; expected safetensors or a torch.save file"


def _safetensors(path: Path, *, header: int, size: int) -> dict[str, Tensor]:
    if header + 8 > size:
        raise CheckpointError(f"{path} is cut short, download it again: it has {size} bytes and a header of {header}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is cut short or damaged, download it again: {_line(error)}") from error


def _shards(index: Path) -> dict[str, Tensor]:
    """Return the tensors of all files that an index names; they lie beside it."""
    try:
        files: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
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
        entries = archive.infolist()
        grown = sum(entry.file_size for entry in entries)
        if grown > max(_MAX_GROWTH * size, _SMALL):
            raise CheckpointError(f"{path} is refused: its {size} bytes claim to unpack to {grown}")
        if not any(entry.filename.endswith("/data.pkl") for entry in entries):
            raise CheckpointError(f"{path} is an archive without weights: unpack it and give the checkpoint inside")
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            return _torchscript(archive, path)
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    return Weights(_state(_torch_load(path, mmap=stored), path))


# What TorchScript wraps lists and dictionaries in, to keep the types of their items.
_JIT_LISTS = ("build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag")


def _first(value: object, *_: object) -> object:
    return value


class _Module:
    """Stands for every class of a TorchScript archive: it has attributes and no behaviour."""


def _torchscript(archive: zipfile.ZipFile, path: Path) -> Weights:
    """Return the tensors of a TorchScript archive, by way of a copy that has neither its code nor its constants."""
    with tempfile.TemporaryFile() as file:
        classes: set[str] = set()
        with zipfile.ZipFile(file, "w") as copy:
            for entry in archive.infolist():
                folder, _, name = entry.filename.partition("/")
                if name.startswith(("code/", "constants", "extra/")):
                    continue
                with archive.open(entry) as source, copy.open(f"{folder}/{name}", "w", force_zip64=True) as target:
                    _copy(source, target)
                if name == "data.pkl":
                    classes = _classes(archive.read(entry))
        file.seek(0)
        stand_ins: list[Any] = [(_Module, name) for name in sorted(classes)]
        stand_ins += [(_first, f"torch.jit._pickle.{name}") for name in _JIT_LISTS]
        with torch.serialization.safe_globals(stand_ins):
            root = _torch_load(path, file=file)
    if not isinstance(root, _Module):
        raise CheckpointError(f"{path} is a TorchScript archive, but not of a model")
    return Weights(dict(_attributes(root)), torchscript=True, quick_gelu=_activation(archive))


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while block := source.read(1 << 22):
        target.write(block)


def _classes(data: bytes) -> set[str]:
    """Return the full names of the archive's own classes; the opcodes are listed, not run."""
    globals_ = (str(argument) for opcode, argument, _ in pickletools.genops(data) if opcode.name == "GLOBAL")
    return {name.replace(" ", ".") for name in globals_ if name.startswith("__torch__.")}


def _attributes(module: _Module, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value.detach()
        elif isinstance(value, _Module):
            yield from _attributes(value, f"{prefix}{name}.")


def _activation(archive: zipfile.ZipFile) -> bool | None:
    """Return whether the program text computes QuickGELU, GELU, or neither; it is read, never run."""
    names = [name for name in archive.namelist() if "/code/" in name and name.endswith(".py")]
    text = b"\n".join(archive.read(name) for name in names)
    if b"torch.gelu(" in text:
        return False
    return True if b"torch.sigmoid(" in text else None


def _torch_load(path: Path, *, file: IO[bytes] | None = None, mmap: bool = False) -> Any:
    """Load `file`, by default the file at `path`. Raise CheckpointError where it holds more than tensors."""
    if file is None and path.suffix == ".safetensors":  # torch would believe the suffix, and it is wrong here
        with path.open("rb") as opened:
            return _torch_load(path, file=opened)
    try:
        with _settings_of_a_run():
            return torch.load(file or path, map_location="cpu", weights_only=True, mmap=mmap)
    except _CUT_SHORT:
        raise
    except Exception as error:  # pickle.UnpicklingError with advice that would be dangerous
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"besides tensors it holds {found[1]}" if found else "it is not a file of tensors alone"
        raise CheckpointError(f"{path} is refused: {what}, which might run code") from error


class _Settings:
    """Stands for argparse.Namespace, which trainers save beside their weights."""


@contextmanager
def _settings_of_a_run() -> Iterator[None]:
    allowed: list[Any] = [(_Settings, "argparse.Namespace")]
    with torch.serialization.safe_globals(allowed):
        yield


def _state(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict in what torch.load gave."""
    if isinstance(content, dict):
        content = next((content[key] for key in _STATES if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} is not a checkpoint: it holds no state dict of tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path} is not a checkpoint: its entry {name!r} is not a tensor")
    return dict(content)


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without the prefixes that data-parallel and compiled modules put before every name."""
    while prefix := next((p for p in _WRAPPERS if state and all(key.startswith(p) for key in state)), ""):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


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
    problems = (
        ("lacks", [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]),
        ("has unknown tensors", [key for key in state if key not in expected]),
        ("has tensors of the wrong shape", wrong),
    )
    for problem, names in problems:
        if names:
            raise CheckpointError(f"{source} does not fit its model configuration: it {problem}: {listed(names)}")


def load_into(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy `state`, under the model's names, into `model`; raises what `check_fits` raises."""
    check_fits(model, state, source=source)
    model.load_state_dict(state, strict=False)


def listed(names: list[str]) -> str:
    """Return up to five names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more

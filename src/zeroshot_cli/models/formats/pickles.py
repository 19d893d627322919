"""Files of torch.save and of TorchScript → what they hold. Tensors are read, and nothing of a file runs.

A trainer saves far more than weights: counters of numpy, settings, the state of its optimizer. Every class and function
that such a file names is replaced by a stand-in without behaviour, so that the tensors beside it can be read.
"""

from __future__ import annotations

import pickletools
import re
import struct
import sys
import tempfile
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # Python 2's names, which torch.save still writes
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from zeroshot_cli.errors import CheckpointError

CUT_SHORT = (OSError, RuntimeError, EOFError, IndexError, struct.error)  # what torch raises at an early end
_MAX_GROWTH = 20  # weights hardly compress: an archive that promises more than this is a bomb
_SMALL = 1 << 20  # bytes to which an archive may grow in any case
_PICKLES = 5  # of which an old file consists: a number, a version, the machine, the content, the names of its storages

# Of the standard library, torch and numpy only what holds data has a stand-in; the rest is what an attack would name.
_DATA = re.compile(
    r"(argparse|collections|copyreg|datetime|decimal|enum|fractions|pathlib|types|uuid)\..+"
    r"|builtins\.(bool|bytes|dict|float|frozenset|int|list|object|range|slice|str|tuple)"
    r"|numpy\.(_core|core|dtype|dtypes|ndarray|random)(\..+)?|numpy\.(bool|float|int|uint)\w*"
    r"|torch\.(amp|cuda\.amp|distributed|nn|optim|utils\.data|torch_version)\..+"
)
_MAPPING = re.compile(r"([Dd]ict|\.Box|\.Munch|\.CfgNode)$")  # classes whose objects have items
_GUARDED = sys.stdlib_module_names | {"torch", "numpy"}

# What TorchScript wraps lists and dictionaries in, to keep the types of their items.
_JIT_LISTS = ("build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag")


class StandIn:
    """Takes the place of an object of a class that a file names: it keeps what it is given, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Return an empty object, whatever it would have been made from."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            vars(self).update({str(key): value for key, value in state.items()})


class _Mapping(StandIn):
    """Takes the place of a mapping, whose items torch puts into its own kinds only."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict[Any, Any]()


class _Items(list[Any]):
    """Takes the place of a deque, which is made from an empty list and a length."""

    def __init__(self, *_: Any) -> None:
        super().__init__()


def read_archive(path: Path, size: int) -> Any:
    """Return what an archive of torch.save holds. Raises CheckpointError for a bomb, and for what might run code."""
    with zipfile.ZipFile(path) as archive:
        check_growth(archive, path, size)
        names = {name for entry in _pickles(archive) for name in _globals(archive.read(entry))}
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
    return _torch_load(path, stand_ins(names, path), mmap=stored)


def read_old(path: Path) -> Any:
    """Return what a file holds that torch.save wrote before it wrote archives; errors as `read_archive`."""
    names: set[str] = set()
    with path.open("rb") as file:
        for _ in range(_PICKLES):
            names |= _globals(file)
    return _torch_load(path, stand_ins(names, path))


def check_growth(archive: zipfile.ZipFile, path: Path, size: int) -> None:
    """Raise CheckpointError where an archive claims to unpack to far more than its size."""
    grown = sum(entry.file_size for entry in archive.infolist())
    if grown > max(_MAX_GROWTH * size, _SMALL):
        raise CheckpointError(f"{path} is refused: its {size} bytes claim to unpack to {grown}")


def stand_ins(names: set[str], path: Path) -> list[tuple[Any, str]]:
    """Return a stand-in for every class and function that is named. Raises CheckpointError for one that might run code.

    torch takes its own classes of tensors before it takes a stand-in.
    """
    found: list[tuple[Any, str]] = []
    for name in sorted(names):
        if name.partition(".")[0] not in _GUARDED or _DATA.fullmatch(name):
            kind = _Mapping if _MAPPING.search(name) else StandIn
            found.append((_Items if name == "collections.deque" else type(name, (kind,), {}), name))
        elif not _is_of_torch(name):
            raise _refusal(path, name)
    return found


def _is_of_torch(name: str) -> bool:
    from torch._weights_only_unpickler import _get_allowed_globals  # its list of what rebuilds tensors

    return name in _get_allowed_globals()


def _globals(data: bytes | IO[bytes]) -> set[str]:
    """Return the full names of the classes and functions in one pickle; its opcodes are listed, not run."""
    found = set()
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            found.add(f"{module}.{name}")
    return found


def _pickles(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]


def _torch_load(
    path: Path, allowed: list[tuple[Any, str]], *, file: IO[bytes] | None = None, mmap: bool = False
) -> Any:
    """Load `file`, by default the file at `path`. Raise CheckpointError where it holds more than tensors and data."""
    if file is None and path.suffix == ".safetensors":  # torch would believe the suffix, and it is wrong here
        with path.open("rb") as opened:
            return _torch_load(path, allowed, file=opened)
    try:
        with torch.serialization.safe_globals(allowed):  # type: ignore[arg-type]
            return torch.load(file or path, map_location="cpu", weights_only=True, mmap=mmap)
    except CUT_SHORT:
        raise
    except Exception as error:  # pickle.UnpicklingError with advice that would be dangerous
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise _refusal(path, found[1] if found else None) from error


def _refusal(path: Path, name: str | None) -> CheckpointError:
    what = f"besides tensors it holds {name}" if name else "it is not a file of tensors alone"
    return CheckpointError(
        f"{path} is refused: {what}, which might run code; if you made it, save its state_dict() alone as safetensors"
    )


# Whole models


def tensors_of_module(module: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of a stand-in for a module that was saved whole, by name."""
    parts = vars(module) if isinstance(module, StandIn) else {}
    temporary = parts.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _items(parts.get(kind)):
            if isinstance(tensor, Tensor) and name not in temporary:
                yield prefix + name, tensor.detach()
    for name, child in _items(parts.get("_modules")):
        yield from tensors_of_module(child, f"{prefix}{name}.")


def _items(mapping: Any) -> list[tuple[str, Any]]:
    return [(str(key), value) for key, value in mapping.items()] if isinstance(mapping, dict) else []


# TorchScript


def _first(value: object, *_: object) -> object:
    return value


class _Module:
    """Stands for every class of a TorchScript archive: it has attributes and no behaviour."""


def read_torchscript(archive: zipfile.ZipFile, path: Path) -> tuple[dict[str, Tensor], bool | None]:
    """Return the tensors of a TorchScript archive, and whether its program text computes QuickGELU; None for neither.

    It is read by way of a copy that has neither its code nor its constants.
    """
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
                    classes = {name for name in _globals(archive.read(entry)) if name.startswith("__torch__.")}
        file.seek(0)
        allowed: list[tuple[Any, str]] = [(_Module, name) for name in sorted(classes)]
        allowed += [(_first, f"torch.jit._pickle.{name}") for name in _JIT_LISTS]
        root = _torch_load(path, allowed, file=file)
    if not isinstance(root, _Module):
        raise CheckpointError(f"{path} is a TorchScript archive, but not of a model")
    return dict(_attributes(root)), _activation(archive)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while block := source.read(1 << 22):
        target.write(block)


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

"""Read the embeddings of texts or images from a file as `embeddings_file.py` describes it, whoever wrote it."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from zeroshot_cli.disk import open_plain
from zeroshot_cli.display import shown
from zeroshot_cli.documents import load_json
from zeroshot_cli.embed.embeddings_file import EmbeddingsFormat, Subject
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.results.run_record import RunRecord
from zeroshot_cli.results.shards.parts import earlier_record, has_readable, is_part_folder, whole_parts

_BROKEN = (ValueError, KeyError, TypeError, NotImplementedError, EOFError, RuntimeError, AttributeError)
_SHOWN = 60  # characters of a text in a message
_WRITE = {Subject.TEXT: "zeroshot embed --texts", Subject.PATH: "zeroshot embed"}


@dataclass(frozen=True, slots=True)
class EmbeddingsRead:
    """The texts or paths of a file, their embeddings (names, embedding), float32, and what they came from, if known.

    The embeddings have the lengths that they have in the file.
    """

    names: list[str]
    embeddings: Tensor
    about: dict[str, str] = field(default_factory=dict)


def is_embeddings_file(path: str) -> bool:
    """Return whether a name has the extension of a file of embeddings, or is a folder of parts of them."""
    if path.lower().endswith(tuple(f".{form}" for form in EmbeddingsFormat)):
        return True
    return is_part_folder(Path(path)) and "format" in _record_of(Path(path)).settings


def read_text_embeddings(path: Path) -> tuple[list[str], Tensor]:
    """Return the texts of a file and their embeddings; raises as `read_embeddings_file`."""
    found = read_embeddings_file(path, Subject.TEXT)
    return found.names, found.embeddings


def read_embeddings_file(path: Path, subject: Subject) -> EmbeddingsRead:
    """Return the texts, or the paths of images, of a file with their embeddings; those without one are left out.

    Raises UsageError for a file that cannot be opened or is of another kind, DataError for one without texts or paths,
    or with an embedding that has no direction: zero, infinite or NaN.
    """
    if is_part_folder(path):
        return _of_parts(path)
    read = {".npz": _npz, ".parquet": _parquet, ".safetensors": _safetensors}.get(path.suffix.lower())
    if read is None:
        raise UsageError(f"{path} is not a .npz, .parquet or .safetensors file, as {_WRITE[subject]} writes them")
    try:
        with open_plain(path) as file:
            names, embeddings, about = read(path, file, subject)
        names = _checked(names, embeddings, subject)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; check the path") from None
    except (*_BROKEN, zipfile.BadZipFile, zlib.error, SafetensorError) as error:
        reason = shown(f"no {error}" if isinstance(error, KeyError) else str(error))[:200]
        what = "texts" if subject is Subject.TEXT else "images"
        raise DataError(f"{path} holds no embeddings of {what}: {reason}; write it with {_WRITE[subject]}") from None
    embeddings = embeddings.float()
    norms = embeddings.norm(dim=1)
    bad = (~(norms.isfinite() & (norms > 0))).nonzero().flatten().tolist()
    if bad:
        raise DataError(
            f"{path}: {len(bad)} of its {len(names)} embeddings are zero, infinite or NaN, the first that of "
            f"{shown(names[bad[0]])[:_SHOWN]!r}; remove them"
        )
    return EmbeddingsRead(names, embeddings, {key: text for key, text in about.items() if isinstance(text, str)})


def _record_of(folder: Path) -> RunRecord:
    record = earlier_record(folder)
    if record is None or not record.complete:
        raise DataError(f"{folder} is incomplete: its run was stopped; run it again with --resume")
    return record


def _of_parts(folder: Path) -> EmbeddingsRead:
    """Return the embeddings of all parts of a finished run."""
    record = _record_of(folder)
    parts = whole_parts(folder, record.counts.images if record.counts else 0)
    found = [read_embeddings_file(part, Subject.PATH) for part in parts if has_readable(part)]
    if not found:
        raise DataError(f"{folder} holds no embedding: none of its images could be read")
    names = [name for read in found for name in read.names]
    about = {name: str(value) for name, value in record.settings.items() if value is not None}
    return EmbeddingsRead(names, torch.cat([read.embeddings for read in found]), about)


_Found = tuple[Sequence[object], Tensor, dict[str, object]]


def _checked(texts: Sequence[object], embeddings: Tensor, subject: Subject) -> list[str]:
    """Return the texts or paths. Raises ValueError where something is missing."""
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        kind = str(embeddings.dtype).removeprefix("torch.")
        raise ValueError(f"its embeddings are {kind} of shape {list(embeddings.shape)}, not a row of floats for each")
    found = [text for text in texts if isinstance(text, str)]
    if not len(found) == len(texts) == len(embeddings):
        raise ValueError(f"it has {len(found)} {subject}s and {len(embeddings)} embeddings")
    if not found:
        raise ValueError("it is empty")
    return found


def _npz(path: Path, file: BinaryIO, subject: Subject) -> _Found:
    with np.load(file, allow_pickle=False) as arrays:
        about = load_json(str(arrays["metadata"])) if "metadata" in arrays else {}
        return arrays[f"{subject}s"].tolist(), torch.from_numpy(arrays["embeddings"]), dict(about)


def _safetensors(path: Path, file: BinaryIO, subject: Subject) -> _Found:
    with safe_open(path, framework="pt") as tensors:
        about = tensors.metadata() or {}
        return list(load_json(about[f"{subject}s"])), tensors.get_tensor("embeddings"), about


def _parquet(path: Path, file: BinaryIO, subject: Subject) -> _Found:
    try:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(f"reading {path} needs pyarrow: pip install 'zeroshot-cli[parquet]'") from None
    table = pq.read_table(file)
    table = table.filter(table["embedding"].is_valid())
    rows = table["embedding"].combine_chunks()
    widths = pc.unique(pc.list_value_length(rows)).to_pylist()
    if len(widths) > 1:
        raise ValueError(f"its embeddings have {min(widths)} to {max(widths)} numbers")
    numbers = rows.flatten().to_numpy(zero_copy_only=False)
    names = table[subject.value].to_pylist()
    if "path_bytes" in table.column_names:
        exact = zip(names, table["path_bytes"].to_pylist(), strict=True)
        names = [name if raw is None else os.fsdecode(raw) for name, raw in exact]
    about = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items() if b"ARROW" not in key}
    return names, torch.from_numpy(numbers.reshape(len(rows), widths[0] if widths else 1).copy()), about

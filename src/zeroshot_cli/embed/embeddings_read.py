"""Read the embeddings of texts from a file as `embeddings_file.py` describes it, whoever wrote it."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from zeroshot_cli.disk import open_plain
from zeroshot_cli.display import shown
from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import DataError, UsageError

_Found = tuple[Sequence[object], Tensor]
_BROKEN = (ValueError, KeyError, TypeError, NotImplementedError, EOFError, RuntimeError, AttributeError)
_SHOWN = 60  # characters of a text in a message


def read_text_embeddings(path: Path) -> tuple[list[str], Tensor]:
    """Return the texts of a file and their embeddings (texts, embedding), float32, of the lengths that they have.

    Texts without an embedding are left out. Raises UsageError for a file that cannot be opened or is of another kind,
    DataError for one without texts, or with an embedding that has no direction: zero, infinite or NaN.
    """
    read = {".npz": _npz, ".parquet": _parquet, ".safetensors": _safetensors}.get(path.suffix.lower())
    if read is None:
        raise UsageError(f"{path} is not a .npz, .parquet or .safetensors file, as zeroshot embed --texts writes them")
    try:
        with open_plain(path) as file:
            texts, embeddings = read(path, file)
        texts = _checked(texts, embeddings)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; check the path") from None
    except (*_BROKEN, zipfile.BadZipFile, zlib.error, SafetensorError) as error:
        reason = shown(f"no {error}" if isinstance(error, KeyError) else str(error))[:200]
        raise DataError(
            f"{path} holds no embeddings of texts: {reason}; write it with zeroshot embed --texts"
        ) from None
    embeddings = embeddings.float()
    norms = embeddings.norm(dim=1)
    bad = (~(norms.isfinite() & (norms > 0))).nonzero().flatten().tolist()
    if bad:
        raise DataError(
            f"{path}: {len(bad)} of its {len(texts)} embeddings are zero, infinite or NaN, the first that of "
            f"{shown(texts[bad[0]])[:_SHOWN]!r}; remove them"
        )
    return texts, embeddings


def _checked(texts: Sequence[object], embeddings: Tensor) -> list[str]:
    """Return the texts. Raises ValueError where something is missing."""
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        kind = str(embeddings.dtype).removeprefix("torch.")
        raise ValueError(f"its embeddings are {kind} of shape {list(embeddings.shape)}, not a row of floats for each")
    found = [text for text in texts if isinstance(text, str)]
    if not len(found) == len(texts) == len(embeddings):
        raise ValueError(f"it has {len(found)} texts and {len(embeddings)} embeddings")
    if not found:
        raise ValueError("it is empty")
    return found


def _npz(path: Path, file: BinaryIO) -> _Found:
    with np.load(file, allow_pickle=False) as arrays:
        return arrays["texts"].tolist(), torch.from_numpy(arrays["embeddings"])


def _safetensors(path: Path, file: BinaryIO) -> _Found:
    with safe_open(path, framework="pt") as tensors:
        texts = load_json((tensors.metadata() or {})["texts"])
        return list(texts), tensors.get_tensor("embeddings")


def _parquet(path: Path, file: BinaryIO) -> _Found:
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
    return table["text"].to_pylist(), torch.from_numpy(numbers.reshape(len(rows), widths[0] if widths else 1).copy())

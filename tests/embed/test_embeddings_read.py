"""Files of texts and their embeddings: as this program writes them, as others do, and those that are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from zeroshot_cli.embed.embeddings_file import EmbeddingsFile, Subject
from zeroshot_cli.embed.embeddings_read import read_text_embeddings
from zeroshot_cli.errors import DataError, UsageError

ENDINGS = (".parquet", ".npz", ".safetensors")
TEXTS = ["a cat", "", "Ein „Hund“\n😀", "a cat"]
EMBEDDINGS = np.array([[1, 0, 0], [0.1, -2.5, 3e-8], [4, 5, 6], [0, 0, 1]], np.float32)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_written_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"file{ending}"
    with EmbeddingsFile(path, Subject.TEXT, width=3, about={"model": "m"}) as file:
        file.write([(text, embedding, None) for text, embedding in zip(TEXTS, EMBEDDINGS, strict=True)])
        file.write([("without", None, "it has none")])
    texts, embeddings = read_text_embeddings(path)
    assert texts == TEXTS
    assert embeddings.dtype == torch.float32
    assert np.array_equal(embeddings.numpy(), EMBEDDINGS)


def _npz(path: Path, texts: object, embeddings: object) -> None:
    np.savez(path, texts=texts, embeddings=embeddings)  # type: ignore[arg-type]


def _safetensors(path: Path, texts: object, embeddings: object) -> None:
    save_file({"embeddings": torch.tensor(embeddings)}, path, {"texts": json.dumps(texts)})


def _parquet(path: Path, texts: object, embeddings: object) -> None:
    pq.write_table(pa.table({"text": texts, "embedding": embeddings}), path)


WRITERS: dict[str, Callable[[Path, object, object], None]] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_other_writers_and_other_floats(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"file{ending.upper() if ending == '.npz' else ending}"
    halves = np.array([[1, 2], [3, 0.5]], np.float16)
    WRITERS[ending](path if ending != ".npz" else tmp_path / "a.npz", ["one", "two"], halves.tolist())
    if ending == ".npz":
        (tmp_path / "a.npz").rename(path)
    texts, embeddings = read_text_embeddings(path)
    assert (texts, embeddings.tolist()) == (["one", "two"], [[1, 2], [3, 0.5]])


def test_bfloat16(tmp_path: Path) -> None:
    save_file({"embeddings": torch.ones(1, 2, dtype=torch.bfloat16)}, tmp_path / "a.safetensors", {"texts": '["one"]'})
    assert read_text_embeddings(tmp_path / "a.safetensors")[1].tolist() == [[1, 1]]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 0.0])
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_embedding_without_direction_is_named(tmp_path: Path, ending: str, number: float) -> None:
    path = tmp_path / f"file{ending}"
    WRITERS[ending](path, ["one", "two", "three"], [[1.0, 2.0], [number, 0.0], [0.0, number]])
    with pytest.raises(DataError, match="2 of its 3 embeddings are zero, infinite or NaN, the first that of 'two'"):
        read_text_embeddings(path)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("texts", "embeddings", "reason"),
    [
        ([], [], "holds no embeddings of texts"),
        (["one"], [1.0], "holds no embeddings of texts"),
        ([1, 2], [[1.0], [2.0]], "it has 0 texts and 2 embeddings"),
        (["one"], [[1]], r"its embeddings are int64 of shape \[1, 1\]"),
    ],
)
def test_what_is_lacking_is_said(tmp_path: Path, ending: str, texts: object, embeddings: object, reason: str) -> None:
    path = tmp_path / f"file{ending}"
    WRITERS[ending](path, texts, embeddings)
    with pytest.raises(DataError, match=reason):
        read_text_embeddings(path)


def test_embeddings_of_uneven_length(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", ["one", "two"], [[1.0], [1.0, 2.0, 3.0]])
    with pytest.raises(DataError, match="its embeddings have 1 to 3 numbers"):
        read_text_embeddings(tmp_path / "a.parquet")


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_more_texts_than_embeddings(tmp_path: Path, ending: str) -> None:
    WRITERS[ending](tmp_path / f"a{ending}", ["one", "two"], [[1.0]])
    with pytest.raises(DataError, match="it has 2 texts and 1 embeddings"):
        read_text_embeddings(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x80\x04K\x01.", bytes(1000), b"PAR1" + bytes(99)])
def test_other_content_is_refused(tmp_path: Path, ending: str, content: bytes) -> None:
    (tmp_path / f"a{ending}").write_bytes(content)
    with pytest.raises((DataError, UsageError), match=rf"a\{ending}"):
        read_text_embeddings(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_of_images_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"file{ending}"
    with EmbeddingsFile(path, Subject.PATH, width=1, about={}) as file:
        file.write([("a.png", np.ones(1, np.float32), None)])
    with pytest.raises(DataError, match=r"holds no embeddings of texts: no .*text"):
        read_text_embeddings(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_is_not_there(tmp_path: Path, ending: str) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*: No such file or directory; check the path"):
        read_text_embeddings(tmp_path / f"a{ending}")
    (tmp_path / f"a{ending}").mkdir()
    with pytest.raises(UsageError, match=r"cannot read .*: it is not a regular file"):
        read_text_embeddings(tmp_path / f"a{ending}")


def test_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"texts\.csv is not a \.npz, \.parquet or \.safetensors file"):
        read_text_embeddings(tmp_path / "texts.csv")

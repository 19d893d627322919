"""Outputs at addresses: there when they are complete and not before, resumed from what is here, never overwritten."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from zeroshot_cli.cli import app as entry
from zeroshot_cli.disk import cache_folder
from zeroshot_cli.remote import upload

SETTING = ["--label", "red", "--label", "blue", "--model", "tiny", "--precision", "fp32", "--batch-size", "4"]
OUT = "memory://box/out/labels.csv"
pytestmark = pytest.mark.usefixtures("photos_here")


@pytest.fixture
def store() -> Iterator[Any]:
    memory = fsspec.filesystem("memory")
    memory.makedirs("/box/out", exist_ok=True)
    yield memory
    memory.rm("/box", recursive=True)


def classify(*arguments: str) -> int:
    return entry.run(["classify", "photos", *SETTING, *arguments])


def test_the_file_is_that_of_a_run_here(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify("-o", "here.csv") == 0
    capsys.readouterr()
    assert classify("-o", OUT, "-o", "memory://box/out/page.html", "-o", "beside.jsonl") == 0
    assert store.cat_file("/box/out/labels.csv") == Path("here.csv").read_bytes()
    assert store.cat_file("/box/out/page.html").startswith(b"<!")
    assert sorted(store.ls("/box/out", detail=False)) == [
        "/box/out/labels.csv",
        "/box/out/labels.csv.run.json",
        "/box/out/page.html",
    ]
    assert Path("beside.jsonl").exists()
    assert f"wrote {OUT}, beside.jsonl, memory://box/out/page.html" in capsys.readouterr().err
    assert not list((cache_folder() / "outputs").iterdir())  # nothing is left here


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("s3://box/parts/", "give --output parts/ and copy it there, or give one file, such as s3://…/labels.csv"),
        ("s3://", "error: --output s3://…: parts go into a folder on a disk, perhaps a mounted one; give"),
        ("s3:///labels.csv", "cannot write s3://labels.csv: it is a bucket; name a file in it"),
    ],
)
def test_what_cannot_be_written_is_a_sentence(output: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify("-o", output) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_embeddings_too(store: Any) -> None:
    options = ["--model", "tiny", "--precision", "fp32", "--batch-size", "4"]
    assert entry.run(["embed", "photos", *options, "-o", "here.npz"]) == 0
    assert entry.run(["embed", "photos", *options, "-o", "memory://box/out/there.npz"]) == 0
    import numpy as np

    here, there = np.load("here.npz"), np.load(io.BytesIO(store.cat_file("/box/out/there.npz")))
    assert here.files == there.files
    assert all((here[name] == there[name]).all() for name in here.files)


def test_what_is_there_is_kept(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    store.pipe("/box/out/labels.csv", b"mine")
    assert classify("-o", OUT) == 2
    assert f"error: {OUT} already exists; add --overwrite to replace it" in capsys.readouterr().err
    assert store.cat_file("/box/out/labels.csv") == b"mine"
    assert classify("-o", OUT, "--resume") == 2
    assert f"--resume: {OUT} is there and complete" in capsys.readouterr().err
    assert classify("-o", OUT, "--overwrite") == 0
    assert store.cat_file("/box/out/labels.csv").startswith(b"path,rank")


def test_a_run_that_fails_leaves_nothing_there_and_resume_continues(
    store: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = upload._put

    def full(file: Path, address: str) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(upload, "_put", full)
    assert classify("-o", OUT) == 2
    said = capsys.readouterr().err
    assert f"error: cannot write {OUT}: 403 forbidden; the file is kept as {cache_folder()}" in said
    assert not store.exists("/box/out/labels.csv")
    monkeypatch.setattr(upload, "_put", real)
    assert classify("-o", OUT, "--resume") == 0
    assert len(list(csv.reader(store.cat_file("/box/out/labels.csv").decode().splitlines()))) == 5


def test_a_store_that_writes_piece_by_piece_gets_another_name_first(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_WHOLE", ())
    names: list[str] = []
    put, move = type(store).put_file, type(store).mv
    monkeypatch.setattr(type(store), "put_file", lambda self, a, b, **k: (names.append(b), put(self, a, b, **k))[1])
    monkeypatch.setattr(type(store), "mv", lambda self, a, b, **k: (names.append(f"{a} {b}"), move(self, a, b, **k))[1])
    assert classify("-o", OUT) == 0
    assert names[-2:] == [
        "/box/out/labels.csv.unfinished",
        "/box/out/labels.csv.unfinished /box/out/labels.csv",
    ]
    assert store.exists("/box/out/labels.csv")


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("https://a.org/out.csv", "cannot write https://a.org/out.csv: a web server takes no files"),
        ("foo://a/out.csv", "there is no folder foo:/a"),
    ],
)
def test_where_nothing_can_be_written(output: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify("-o", output) == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_with_a_colon_is_a_folder() -> None:
    Path("s3:").mkdir()
    assert classify("-o", "s3:/out.csv") == 0
    assert Path("s3:/out.csv").exists()

"""Whatever a table holds, reading it ends with what it says or with one sentence of our own; many tries, so slow."""

import csv
import io
import json
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeroshot_cli import read_dataset
from zeroshot_cli.datasets.matching import without_prefixes
from zeroshot_cli.datasets.multilabel import read_multilabel
from zeroshot_cli.errors import ZeroshotError
from zeroshot_cli.pairs.read import read_pairs
from zeroshot_cli.pairs.shards import expand
from zeroshot_cli.pairs.texts import read_texts

pytestmark = pytest.mark.slow

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".parquet", ".csv.gz", ".xml", ".yaml", "")
READERS = (read_dataset, read_multilabel, read_texts, lambda path: read_pairs([path]))
TABLES = (
    b"image,label\na.png,cat\nb.png,dog\n",
    b'image;label\r\na.png;"cat ""x"""\r\nb.png;dog|cat\r\n',
    b"sep=;\nid;tags\na;cat, dog\nb;dog\n",
    b"image,cat,dog\na.png,1,0\nb.png,0,1\n",
    b'{"image": "a.png", "label": ["cat", 3, null]}\n{"image": "b.png", "label": 2.0}\n',
    b'[{"image": "a.png", "caption": "a cat"}]',
    b'{"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 2, "name": "cat"}], '
    b'"annotations": [{"image_id": 1, "category_id": 2}]}',
    "image\tlabel\na.png\tCaf\u00e9\n".encode("utf-16"),
)
FOLDER = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    return tmp_path


def tried(read: Callable[[], Any]) -> tuple[Any, ZeroshotError | None]:
    """What reading gives within ten seconds: a result, or an error of ours; any other error fails the test."""
    start = time.monotonic()
    try:
        return read(), None
    except ZeroshotError as error:
        return None, error
    finally:
        assert time.monotonic() - start < 10


def read_all(path: Path) -> None:
    """Every reader ends with a result, or with one sentence and an exit code that is not our defect."""
    for read in READERS:
        _, error = tried(partial(read, path))
        if error is not None:
            assert len(str(error).splitlines()) == 1
            assert error.exit_code in (2, 3)


BYTES = st.one_of(st.binary(max_size=400), st.text(max_size=400).map(lambda text: text.encode("utf-8", "replace")))


@FOLDER
@given(content=BYTES, suffix=st.sampled_from(SUFFIXES))
def test_any_bytes(folder: Path, content: bytes, suffix: str) -> None:
    path = folder / f"set{suffix}"
    path.write_bytes(content)
    read_all(path)


PIECES = (b"\0", b'"', b",", b"\n", b"\r", b"[", b"]", b"{", b"\xff", b"9" * 5000, b"nan", b"|", b"[" * 2000)


@pytest.mark.parametrize("seed", range(800))
def test_tables_with_a_few_bytes_changed(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    content = bytearray(rng.choice(TABLES))
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(content) + 1)
        piece = rng.choice(PIECES) if rng.random() < 0.7 else bytes([rng.randrange(256)])
        content[place : place + rng.randint(0, 3)] = piece
    path = folder / f"set{rng.choice(SUFFIXES)}"
    path.write_bytes(content)
    read_all(path)


WORDS = st.text("aébc ,;|[]'\"{}\t_-#1", min_size=1, max_size=12).filter(lambda text: text.strip(" _\t"))
CLASS = ("are both the class", "makes an empty")  # refused: two texts that are one class


def spaced(text: str) -> str:
    return " ".join(text.replace("_", " ").split())


@FOLDER
@given(labels=st.lists(WORDS, min_size=2, max_size=6), delimiter=st.sampled_from(",;\t|"))
def test_labels_come_back_as_they_were_written(folder: Path, labels: list[str], delimiter: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("image", "label"), *(("a.png", label) for label in labels)])
    path = folder / "set.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    found, error = tried(partial(read_dataset, path))
    if error is not None:
        assert any(reason in str(error) for reason in CLASS)
    elif not without_prefixes([*dict.fromkeys(map(str.strip, labels))]):
        assert [found.labels.names[target] for target in found.targets] == [spaced(label) for label in labels]


@FOLDER
@given(rows=st.lists(st.lists(WORDS, max_size=4, unique=True), min_size=1, max_size=5))
def test_lists_of_labels_come_back_as_they_were_written(folder: Path, rows: list[list[str]]) -> None:
    for number, _ in enumerate(rows):
        (folder / f"{number}.png").touch()
    path = folder / "set.jsonl"
    wanted = [[*labels, "last", "label"] for labels in rows]
    lines = [json.dumps({"image": f"{number}.png", "labels": labels}) for number, labels in enumerate(wanted)]
    path.write_text("\n".join(lines))
    found, error = tried(partial(read_multilabel, path))
    if error is not None:
        assert any(reason in str(error) for reason in CLASS)
        return
    names = [{found.labels.names[target] for target in targets} for targets in found.targets]
    assert names == [set(map(spaced, labels)) for labels in wanted]


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(st.text("{}.,0123456789abz-:\\", max_size=40))
def test_any_pattern_of_shards(pattern: str) -> None:
    found, error = tried(partial(expand, pattern))
    assert len(found) <= 1_000_000 if error is None else "write" in str(error)

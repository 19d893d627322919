"""`zeroshot cache info` and `clear`: what is there is counted, and emptied under the hands of other processes."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from zeroshot_cli.cli.app import run
from zeroshot_cli.display import size_text
from zeroshot_cli.embed.cache_store import IMAGES, TEXTS, Database, Store, cache_files, clear, size_limit
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.embed.texts import TextCache
from zeroshot_cli.errors import UsageError

EMBEDDING = bytes(range(256)) * 8

# Another process, at work on a database: it answers each line on standard input with one on standard output.
OTHER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
for line in sys.stdin:
    try:
        print(database.execute(line).fetchall(), flush=True)
    except sqlite3.Error as error:
        print(error, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path / "a cache"))
    monkeypatch.delenv("ZEROSHOT_CACHE_SIZE", raising=False)
    return tmp_path / "a cache"


@pytest.fixture
def full(folder: Path) -> Path:
    """3 texts; 2,000 images, of which 1 is known by its path."""
    folder.mkdir()
    fill(folder / "texts.sqlite", TEXTS.schema, "INSERT INTO texts VALUES (?, ?, 0)", 3)
    fill(folder / "images.sqlite", IMAGES.schema, "INSERT INTO embeddings VALUES (?, ?, 0, 0)", 2000)
    fill(folder / "images.sqlite", "", "INSERT INTO files VALUES (?, 1, 1, 1, ?, 0)", 1)
    (folder / "fingerprints.json").write_text(json.dumps({"k": "f", "l": "g"}))
    return folder


def fill(path: Path, schema: str, insert: str, count: int) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.executescript(schema)
        database.executemany(insert, ((key.to_bytes(4, "little"), EMBEDDING) for key in range(count)))


@pytest.fixture
def other_process(full: Path) -> Iterator[Callable[[str], str]]:
    """`other_process(sql)` is what a process that has images.sqlite open all the time answers."""
    command = [sys.executable, "-c", OTHER, str(full / "images.sqlite")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(sql: str) -> str:
            process.stdin.write(sql + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        assert ask("SELECT count(*) FROM embeddings") == "[(2000,)]"
        yield ask
        process.stdin.close()


def rows(text: str) -> dict[str, list[str]]:
    """The table, by its first column."""
    return {fields[0]: fields[1:] for fields in (line.split("\t") for line in text.splitlines())}


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.mark.parametrize(("database", "store"), [(TEXTS, TextCache), (IMAGES, ImageCache)], ids=["texts", "images"])
def test_files_and_tables_are_those_of_the_stores(database: Database, store: type[Store], tmp_path: Path) -> None:
    with closing(sqlite3.connect(":memory:")) as memory:
        memory.executescript(database.schema)
        tables = {name for (name,) in memory.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert set(database.tables) == tables
    assert store(tmp_path).path == tmp_path / database.file


# info


def test_info_counts_what_is_there(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (full / "texts.sqlite.damaged").write_bytes(b"x" * 1234)
    assert run(["cache", "info"]) == 0
    captured = capsys.readouterr()
    images = full / "images.sqlite"
    assert rows(captured.out) == {
        "cache": ["entries", "size", "limit", "file"],
        "texts": ["3 texts", size_text((full / "texts.sqlite").stat().st_size), "", str(full / "texts.sqlite")],
        "images": ["2000 embeddings, 1 file, 0 blocks", size_text(images.stat().st_size), "2.1 GB", str(images)],
        "fingerprints": ["2 fingerprints", "20 B", "", str(full / "fingerprints.json")],
        "texts, damaged": ["", "1.2 kB", "", str(full / "texts.sqlite.damaged")],
    }
    assert captured.err == ""
    assert not [path for path in full.iterdir() if path.name.endswith(("-wal", "-shm"))]


def test_cache_alone_is_info(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache"]) == 0
    assert "2000 embeddings" in capsys.readouterr().out


def test_info_makes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "info"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["images"] == ["0 embeddings, 0 files, 0 blocks", "0 B", "2.1 GB", str(folder / "images.sqlite")]
    assert found["fingerprints"][0] == "0 fingerprints"
    assert not folder.exists()


def test_info_sees_what_another_process_has_just_written(
    full: Path, other_process: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert other_process("BEGIN IMMEDIATE") == "[]"  # a writer is no hindrance
    assert run(["cache"]) == 0
    assert "2000 embeddings" in capsys.readouterr().out
    assert other_process("DELETE FROM embeddings WHERE rowid > 7") == "[]"
    assert other_process("COMMIT") == "[]"
    assert run(["cache"]) == 0
    assert "7 embeddings, 1 file" in capsys.readouterr().out


def test_info_says_in_a_sentence_what_it_cannot_read(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (full / "texts.sqlite").write_bytes(b"this is no database at all" * 100)
    (full / "images.sqlite").unlink()
    (full / "images.sqlite").mkdir()
    (full / "fingerprints.json").write_text("[1")
    assert run(["cache", "info"]) == 0
    captured = capsys.readouterr()
    assert [rows(captured.out)[name][0] for name in ("texts", "images", "fingerprints")] == ["?"] * 3
    lines = captured.err.splitlines()
    assert lines[0] == f"warning: {full / 'texts.sqlite'} cannot be read (file is not a database)"
    assert lines[1].startswith(f"warning: {full / 'images.sqlite'} cannot be read (")
    assert lines[2].startswith(f"warning: {full / 'fingerprints.json'} cannot be read (")
    assert len(lines) == 3
    assert run(["cache", "info", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_info_of_a_database_that_is_locked(
    full: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroshot_cli.embed.cache_store._PATIENCE", 0.1)
    with closing(sqlite3.connect(full / "texts.sqlite", isolation_level=None)) as owner:
        owner.execute("PRAGMA locking_mode=EXCLUSIVE")
        owner.execute("BEGIN EXCLUSIVE")
        owner.execute("DELETE FROM texts")
        assert run(["cache", "info"]) == 0
        captured = capsys.readouterr()
        assert captured.err == f"warning: {full / 'texts.sqlite'} cannot be read (database is locked)\n"
        assert run(["cache", "clear", "--texts"]) == 2
        assert capsys.readouterr().err == (
            f"error: cannot empty {full / 'texts.sqlite'} (database is locked); "
            "try again when no other run is using it\n"
        )
        owner.execute("ROLLBACK")
    assert count(full / "texts.sqlite", "texts") == 3


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + b"\0" * 5000, b"\xff" * 100])
def test_no_content_is_a_traceback(content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    for name in ("texts.sqlite", "images.sqlite", "fingerprints.json"):
        (folder / name).write_bytes(content)
    assert run(["cache", "info"]) == 0
    assert all(line.startswith("warning: ") for line in capsys.readouterr().err.splitlines())
    assert run(["cache", "clear"]) == 0
    assert run(["cache", "info"]) == 0
    assert rows(capsys.readouterr().out)["images"][0] == "0 embeddings, 0 files, 0 blocks"


def test_a_folder_that_is_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write_text("")
    assert run(["cache", "info"]) == 0
    assert run(["cache", "clear"]) == 0
    assert folder.read_text() == ""


@pytest.mark.parametrize("name", ["a?b#c%41 é", "b\udcff"])
def test_a_folder_of_any_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    fill(folder / "texts.sqlite", TEXTS.schema, "INSERT INTO texts VALUES (?, ?, 0)", 3)
    assert cache_files(folder)[0].rows == {"texts": 3}
    assert clear([TEXTS], folder)[0].removed == {"texts": 3}
    assert cache_files(folder)[0].rows == {"texts": 0}


def test_info_loads_neither_torch_nor_numpy(full: Path) -> None:
    program = (
        "import sys; from zeroshot_cli.embed.cache_store import cache_files, clear; cache_files(); clear()\n"
        "import zeroshot_cli.cli.commands.embed; print({'torch', 'numpy', 'open_clip'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("given", "size"),
    [("", 2 << 30), ("0", 0), ("123", 123), ("1.5 kB", 1500), (" 500MB ", 500_000_000), ("2gb", 2 * 10**9), ("7B", 7)],
)
def test_the_limit_is_a_size(given: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROSHOT_CACHE_SIZE", given)
    assert size_limit() == size


@pytest.mark.parametrize("given", ["-1", "much", "5 MiB", "1e9", "nan", "9" * 400, "1.GB", "٣"])
def test_a_limit_that_is_none(given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ZEROSHOT_CACHE_SIZE", given)
    with pytest.raises(UsageError, match="is not a size; give a number of bytes, or one with MB or GB"):
        size_limit()
    assert run(["cache", "info"]) == 2


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (2 << 30, "2.1 GB"),
        (123_456_789_012_345, "123 TB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


# clear


def test_clear_empties_both_and_says_what_was_freed(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = full / "images.sqlite.damaged"
    damaged.write_bytes(b"x" * 1_000_000)
    before = (full / "images.sqlite").stat().st_size
    assert run(["cache", "clear"]) == 0
    captured = capsys.readouterr()
    after = (full / "images.sqlite").stat().st_size
    assert after < 50_000 < 4_000_000 < before
    lines = captured.err.splitlines()
    assert lines[0].startswith(f"{full / 'texts.sqlite'}: 3 texts removed, ")
    freed = size_text(before + 1_000_000 - after)
    assert lines[1:] == [f"{full / 'images.sqlite'}: 2000 embeddings, 1 file, 0 blocks removed, {freed} freed"]
    assert captured.out == ""
    assert count(full / "texts.sqlite", "texts") == 0
    assert count(full / "images.sqlite", "embeddings") == count(full / "images.sqlite", "files") == 0
    assert not damaged.exists()
    assert (full / "fingerprints.json").exists()


@pytest.mark.parametrize(
    ("options", "texts", "images"),
    [(["--texts"], 0, 2000), (["--images"], 3, 0), (["--texts", "--images"], 0, 0), ([], 0, 0)],
)
def test_clear_takes_what_is_named(options: list[str], texts: int, images: int, full: Path) -> None:
    for name in ("texts", "images"):
        (full / f"{name}.sqlite.damaged").write_bytes(b"x")
    assert run(["cache", "clear", *options]) == 0
    assert count(full / "texts.sqlite", "texts") == texts
    assert count(full / "images.sqlite", "embeddings") == images
    assert (full / "texts.sqlite.damaged").exists() == bool(texts)
    assert (full / "images.sqlite.damaged").exists() == bool(images)


def test_clear_of_nothing_makes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "clear"]) == 0
    assert "0 texts removed, 0 B freed" in capsys.readouterr().err
    assert not folder.exists()


def test_quiet_clear_says_nothing(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "clear", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_another_process_goes_on_with_the_same_file(full: Path, other_process: Callable[[str], str]) -> None:
    inode = (full / "images.sqlite").stat().st_ino
    (cleared,) = clear([IMAGES])
    assert (cleared.removed, cleared.in_use) == ({"embeddings": 2000, "files": 1, "blocks": 0}, False)
    assert cleared.freed > 4_000_000
    assert other_process("SELECT count(*) FROM embeddings") == "[(0,)]"
    assert other_process("INSERT INTO embeddings VALUES (x'01', x'02', 3, 4)") == "[]"
    assert count(full / "images.sqlite", "embeddings") == 1  # a third process sees it
    assert (full / "images.sqlite").stat().st_ino == inode


def test_a_reader_keeps_what_it_reads_and_is_named(
    full: Path,
    other_process: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("zeroshot_cli.embed.cache_store._PATIENCE", 0.1)
    other_process("BEGIN")
    other_process("SELECT count(*) FROM embeddings")
    assert run(["cache", "clear", "--images"]) == 0
    assert "0 B freed; the rest is freed when another run ends" in capsys.readouterr().err
    assert (full / "images.sqlite-wal").stat().st_size < 1_000_000  # nothing is written anew only to be thrown away
    assert other_process("SELECT count(*), sum(length(embedding)) FROM embeddings") == f"[(2000, {2000 * 2048})]"
    other_process("COMMIT")
    assert other_process("SELECT count(*) FROM embeddings") == "[(0,)]"
    assert clear([IMAGES])[0].freed > 4_000_000
    assert count(full / "images.sqlite", "embeddings") == 0


def test_a_writer_that_goes_on_for_long_is_a_sentence(
    full: Path,
    other_process: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("zeroshot_cli.embed.cache_store._PATIENCE", 0.1)
    other_process("BEGIN IMMEDIATE")
    assert run(["cache", "clear"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"{full / 'texts.sqlite'}: 3 texts removed")  # the one does not keep the other
    assert lines[1].startswith(f"error: cannot empty {full / 'images.sqlite'} (database is locked); ")
    other_process("COMMIT")
    assert count(full / "images.sqlite", "embeddings") == 2000


def test_a_damaged_database_is_removed(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("texts.sqlite", "texts.sqlite-wal", "texts.sqlite-shm"):
        (full / name).write_bytes(b"no database" * 1000)
    assert run(["cache", "clear", "--texts"]) == 0
    assert "0 texts removed, 33 kB freed" in capsys.readouterr().err
    assert sorted(path.name for path in full.iterdir()) == ["fingerprints.json", "images.sqlite"]


def test_a_database_without_tables_is_emptied(folder: Path) -> None:
    folder.mkdir()
    fill(folder / "texts.sqlite", "CREATE TABLE others (key, content)", "INSERT INTO others VALUES (?, ?)", 1)
    (cleared,) = clear([TEXTS])
    assert (cleared.removed, cleared.problem) == ({"texts": 0}, None)
    assert count(folder / "texts.sqlite", "others") == 1


def test_a_damaged_file_that_cannot_be_removed_is_a_sentence(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (full / "texts.sqlite.damaged").mkdir()
    assert run(["cache", "clear", "--texts"]) == 2
    assert capsys.readouterr().err.startswith(f"error: cannot empty {full / 'texts.sqlite'} (Is a directory); ")


@pytest.mark.parametrize("command", [["cache", "wipe"], ["cache", "clear", "texts"], ["cache", "info", "--images"]])
def test_wrong_words_are_refused(command: list[str], full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert count(full / "texts.sqlite", "texts") == 3

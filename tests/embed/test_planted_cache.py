"""A cache that somebody else could have written is not used: its folder and files are the user's alone."""

import os
import sqlite3
import stat
import zlib
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli import disk
from zeroshot_cli.disk import cache_folder, distrusted, read_own_notes, write_notes
from zeroshot_cli.embed.cache_store import CacheWarning, cache_files, clear
from zeroshot_cli.embed.texts import TextCache

TEXTS = ["10", "20"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "zeroshot"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def filled(folder: Path, model: Any) -> TextCache:
    cache = TextCache(folder)
    cache.put(model, TEXTS, model.encode_texts(TEXTS))
    cache.close()
    return cache


def known(folder: Path, model: Any) -> int:
    cache = TextCache(folder)
    found, _ = cache.get(model, TEXTS)
    cache.close()
    return len(found)


def test_the_folder_and_its_files_are_the_users_alone(folder: Path, angle_model: Any) -> None:
    before = os.umask(0o002)
    try:
        cache = TextCache(folder)
        cache.put(angle_model, TEXTS, angle_model.encode_texts(TEXTS))
        write_notes(folder / "notes.json", {"a": 1})
        files = {path.name: mode_of(path) for path in folder.iterdir()}
    finally:
        os.umask(before)
        cache.close()
    assert mode_of(folder) == 0o700
    assert files.pop("texts.sqlite") == 0o600
    assert set(files.values()) == {0o600}
    assert known(folder, angle_model) == 2


def test_an_earlier_versions_file_is_closed_to_readers(folder: Path, angle_model: Any) -> None:
    filled(folder, angle_model)
    (folder / "texts.sqlite").chmod(0o644)
    assert known(folder, angle_model) == 2
    assert mode_of(folder / "texts.sqlite") == 0o600


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
@pytest.mark.parametrize("name", [".", "texts.sqlite", "texts.sqlite-wal", "texts.sqlite-journal"])
def test_what_others_may_write_is_not_used(mode: int, name: str, folder: Path, angle_model: Any) -> None:
    filled(folder, angle_model)
    (folder / name).touch()
    (folder / name).chmod(mode)
    with pytest.warns(CacheWarning, match=r"others may write to .*; run chmod go-w "):
        assert known(folder, angle_model) == 0


@pytest.mark.parametrize("name", [".", "texts.sqlite", "texts.sqlite-wal"])
def test_what_another_user_planted_is_not_used(
    name: str, folder: Path, angle_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(folder, angle_model)
    (folder / name).touch()
    planted = os.path.normpath(folder / name)
    real = os.lstat

    def lstat(path: Any) -> Any:
        found = real(path)
        return (
            os.stat_result((*found[:4], found.st_uid + 1, *found[5:])) if os.path.normpath(path) == planted else found
        )

    monkeypatch.setattr(disk.os, "lstat", lstat)
    before = (folder / "texts.sqlite").read_bytes()
    with pytest.warns(CacheWarning, match="belongs to another user"):
        assert known(folder, angle_model) == 0
    with pytest.warns(CacheWarning, match="belongs to another user"):
        filled(folder, angle_model)
    assert (folder / "texts.sqlite").read_bytes() == before
    if name != "texts.sqlite-wal":
        assert any("another user" in (file.problem or "") for file in cache_files(folder))
        assert any("another user" in (done.problem or "") for done in clear(folder=folder))


def test_a_row_of_another_width_is_damage(folder: Path, angle_model: Any) -> None:
    filled(folder, angle_model)
    with sqlite3.connect(folder / "texts.sqlite") as database:
        content = bytes(12)
        for (key,) in database.execute("SELECT key FROM texts").fetchall():
            values = (content, zlib.crc32(content, zlib.crc32(key)), key)
            database.execute("UPDATE texts SET embedding = ?, checksum = ? WHERE key = ?", values)
    database.close()
    with pytest.warns(CacheWarning, match="was damaged"):
        assert known(folder, angle_model) == 0


def test_notes_that_others_may_write_are_not_read(folder: Path) -> None:
    write_notes(folder / "fingerprints.json", {"a": 1})
    assert read_own_notes(folder / "fingerprints.json") == {"a": 1}
    folder.chmod(0o777)
    assert read_own_notes(folder / "fingerprints.json") == {}
    write_notes(folder / "fingerprints.json", {"a": 2})
    folder.chmod(0o700)
    assert read_own_notes(folder / "fingerprints.json") == {"a": 1}


def test_a_user_without_a_home_has_a_cache_of_his_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none(_: Any = None) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("ZEROSHOT_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", none)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache_folder().is_relative_to(tmp_path)
    write_notes(cache_folder() / "notes.json", {"a": 1})
    assert distrusted(cache_folder() / "notes.json") is None
    assert mode_of(cache_folder()) == 0o700


def test_a_link_that_another_user_planted_is_not_followed(folder: Path, angle_model: Any, tmp_path: Path) -> None:
    filled(folder, angle_model)
    (folder / "texts.sqlite").rename(tmp_path / "mine.sqlite")
    (folder / "texts.sqlite").symlink_to(tmp_path / "mine.sqlite")
    with pytest.warns(CacheWarning, match="cannot be used"):
        assert known(folder, angle_model) == 0

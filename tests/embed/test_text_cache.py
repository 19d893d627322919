"""The cache of text embeddings: what is known is not encoded, and nothing that happens to the file ends a run."""

import dataclasses
import hashlib
import multiprocessing
import sqlite3
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from zeroshot_cli.clip.tokenizer import TruncatedTextWarning
from zeroshot_cli.disk import cache_folder
from zeroshot_cli.embed import prompt_ensemble
from zeroshot_cli.embed.cache_store import CacheWarning
from zeroshot_cli.embed.prompt_ensemble import class_embeddings
from zeroshot_cli.embed.texts import TextCache
from zeroshot_cli.models.loaded import LoadedModel

CATS = [["a cat.", "the cat."], ["a dog.", "the dog."]]


def test_a_second_run_encodes_nothing_and_gives_the_same_bits(counted: Any, tmp_path: Path) -> None:
    first = class_embeddings(counted.model, CATS, cache=TextCache(tmp_path))
    assert counted.texts == ["a cat.", "the cat.", "a dog.", "the dog."]
    counted.texts.clear()
    again = class_embeddings(counted.model, CATS, cache=TextCache(tmp_path))
    assert counted.texts == []
    assert torch.equal(first, again)
    assert torch.equal(first, class_embeddings(counted.model, CATS))


def test_other_templates_encode_only_what_is_new(counted: Any, tmp_path: Path) -> None:
    class_embeddings(counted.model, CATS, cache=TextCache(tmp_path))
    counted.texts.clear()
    more = [[*texts, texts[0] + "!"] for texts in CATS]
    ours = class_embeddings(counted.model, more, cache=TextCache(tmp_path))
    assert counted.texts == ["a cat.!", "a dog.!"]
    torch.testing.assert_close(ours, class_embeddings(counted.model, more), atol=1e-6, rtol=0)


def test_a_new_label_encodes_only_its_prompts(counted: Any, tmp_path: Path) -> None:
    class_embeddings(counted.model, CATS, cache=TextCache(tmp_path))
    counted.texts.clear()
    more = [["a cow.", "the cow."], *CATS]
    ours = class_embeddings(counted.model, more, cache=TextCache(tmp_path))
    assert counted.texts == ["a cow.", "the cow."]
    torch.testing.assert_close(ours, class_embeddings(counted.model, more), atol=1e-6, rtol=0)


def test_a_file_read_by_sqlite_alone_holds_normalised_rows(small: LoadedModel, tmp_path: Path) -> None:
    class_embeddings(small, CATS, cache=TextCache(tmp_path))
    rows = sqlite3.connect(tmp_path / "texts.sqlite").execute("SELECT embedding FROM texts").fetchall()
    assert len(rows) == 4 + 2  # prompts and classes
    for (content,) in rows:
        assert sum(x * x for x in struct.unpack("<32f", content)) == pytest.approx(1, abs=1e-5)


def test_a_run_that_is_killed_keeps_the_windows_that_are_done(
    counted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_ensemble, "WINDOW", 2)

    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        class_embeddings(counted.model, CATS, on_progress=interrupt, cache=TextCache(tmp_path))
    counted.texts.clear()
    class_embeddings(counted.model, CATS, cache=TextCache(tmp_path))
    assert counted.texts == ["a dog.", "the dog."]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: dataclasses.replace(model, known_fingerprint="another"),
        lambda model: dataclasses.replace(model, precision="int8"),
        lambda model: dataclasses.replace(model, device=torch.device("meta")),
    ],
    ids=["fingerprint", "precision", "device"],
)
def test_another_setting_knows_nothing(
    small: LoadedModel, tmp_path: Path, change: Callable[[LoadedModel], LoadedModel]
) -> None:
    class_embeddings(small, CATS, cache=TextCache(tmp_path))
    assert TextCache(tmp_path).get(small, [*CATS[0], "a cow."])[0] == [0, 1]
    assert TextCache(tmp_path).get(change(small), CATS[0])[0] == []


def _spoil_header(path: Path) -> None:
    path.write_bytes(b"no database" * 400)


def _cut_in_half(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _change_an_embedding(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE texts SET embedding = zeroblob(128)")
    database.commit()
    database.close()


@pytest.mark.parametrize("spoil", [_spoil_header, _cut_in_half, _change_an_embedding])
def test_a_damaged_cache_is_set_aside(small: LoadedModel, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    expected = class_embeddings(small, CATS, cache=TextCache(tmp_path))
    path = tmp_path / "texts.sqlite"
    spoil(path)
    with pytest.warns(CacheWarning, match=r"was damaged .* is now texts.sqlite.damaged"):
        ours = class_embeddings(small, CATS, cache=TextCache(tmp_path))
    assert torch.equal(ours, expected)
    assert (tmp_path / "texts.sqlite.damaged").exists()
    assert TextCache(tmp_path).get(small, CATS[0])[0] == [0, 1]  # a new one took its place


def test_a_cache_that_cannot_be_used_is_done_without(small: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(CacheWarning, match="cannot be used") as warned:
        ours = class_embeddings(small, CATS, cache=TextCache(tmp_path / "file" / "folder"))
    assert len(warned) == 1
    assert torch.equal(ours, class_embeddings(small, CATS))


class _Key:
    """All that a cache asks of a model."""

    fingerprint, text_precision, device, embed_dim = "f" * 64, "fp32", torch.device("cpu"), 8


def test_a_file_that_0_1_0_wrote_is_still_known(tmp_path: Path) -> None:
    key = hashlib.sha256(b"3" + b"f" * 64 + b"\0fp32\0cpu\0" + b"a cat").digest()
    row = struct.pack("<8f", 0.5, *[-0.25] * 7)
    database = sqlite3.connect(tmp_path / "texts.sqlite")
    database.execute("CREATE TABLE texts (key BLOB PRIMARY KEY, embedding BLOB NOT NULL, checksum INTEGER NOT NULL)")
    database.execute("INSERT INTO texts VALUES (?, ?, ?)", (key, row, zlib.crc32(key + row)))
    database.commit()
    database.close()
    cache: Any = TextCache(tmp_path)
    known, rows = cache.get(_Key(), ["a dog", "a cat"])
    assert (known, rows.tolist()) == ([1], [[0.5, *[-0.25] * 7]])


def _fill(folder: Path, start: int) -> None:
    cache: Any = TextCache(folder)
    for number in range(start, start + 40):
        cache.put(_Key(), [f"text {number}"], torch.full((1, 8), float(number)))
        assert cache.get(_Key(), [f"text {number}"])[0] == [0]


def _check_filled(folder: Path) -> None:
    cache: Any = TextCache(folder)
    known, rows = cache.get(_Key(), [f"text {number}" for number in range(100)])
    assert known == list(range(80))
    assert rows[:, 3].tolist() == known


def test_threads_share_a_cache(tmp_path: Path) -> None:
    """Three write eighty texts between them, many of them twice; all are there, and right."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(_fill, [tmp_path] * 3, (0, 20, 40)))
    _check_filled(tmp_path)


@pytest.mark.slow
def test_processes_share_a_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fill, args=(tmp_path, start)) for start in (0, 20, 40)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    _check_filled(tmp_path)


def test_nothing_is_written_before_there_is_something_to_keep(small: LoadedModel, tmp_path: Path) -> None:
    assert TextCache(tmp_path / "new").get(small, ["a cat"])[0] == []
    assert not (tmp_path / "new").exists()


def test_the_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path / "own"))
    assert TextCache().path == tmp_path / "own" / "texts.sqlite"
    monkeypatch.delenv("ZEROSHOT_CACHE_DIR")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "zeroshot"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "zeroshot"


def test_a_text_that_is_too_long_is_warned_of_each_time(small: LoadedModel, tmp_path: Path) -> None:
    long = "cat " * 80
    for prompts in ([[long]], [[long]], [[long, "a cat."]]):  # encoded; known as a class; known as a prompt
        with pytest.warns(TruncatedTextWarning, match="82 tokens"):
            class_embeddings(small, prompts, cache=TextCache(tmp_path))


def test_below_float32_only_whole_calls_are_known(small_in: Callable[[str], LoadedModel], tmp_path: Path) -> None:
    model = small_in("bf16")
    for prompts in (CATS, CATS, CATS[::-1], [*CATS, ["a cow.", "the cow, which is brown."]], CATS[:1], CATS):
        assert torch.equal(
            class_embeddings(model, prompts, cache=TextCache(tmp_path)), class_embeddings(model, prompts)
        )

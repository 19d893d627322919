"""`zeroshot classify` with a cache: the same bytes as without, whatever has happened to it, and no image pass."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zeroshot_cli.embed import image_cache
from zeroshot_cli.images.decoder_pool import Decoders
from zeroshot_cli.models.loaded import LoadedModel

pytestmark = [
    pytest.mark.usefixtures("small_model"),
    pytest.mark.filterwarnings("always::zeroshot_cli.embed.cache_store.CacheWarning"),
]
ANIMALS = ["--label", "cat", "--label", "dog", "--label", "horse", "--top-k", 3, "--batch-size", 4]
THINGS = ["--label", "a table", "--label", "a lamp", "--prompts", "plain", "--top-k", 2, "--batch-size", 4]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache, not made yet."""
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        draw(f"p/{number}.bmp", number)
    Path("p/bad.bmp").write_bytes(b"BM, and nothing else that a picture has")


def draw(path: str, seed: int) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def forbid(patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError(f"{name} was called")

    patch.setattr(owner, name, fail)


def test_other_labels_on_the_same_images_need_no_image_pass(
    classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = classify("p", *THINGS, "--no-cache")
    assert classify("p", *ANIMALS).code == 4
    forbid(monkeypatch, LoadedModel, "encode_pixels")
    ended = classify("p", *THINGS)
    assert (ended.code, ended.err, ended.out) == (expected.code, expected.err, expected.out)


def test_files_that_are_as_they_were_are_not_even_read(
    classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "SETTLED", -(10**18))  # the pictures were drawn just now
    Path("p/bad.bmp").unlink()
    expected = classify("p", *THINGS, "--no-cache")
    assert classify("p", *ANIMALS).code == 0
    forbid(monkeypatch, Decoders, "submit")
    forbid(monkeypatch, LoadedModel, "encode_pixels")
    assert classify("p", *THINGS).out == expected.out
    assert classify(*sorted(map(str, Path("p").resolve().iterdir())), *THINGS).code == 0  # by whatever path


def test_a_file_of_the_same_size_and_time_that_was_changed_is_read_again(
    classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "SETTLED", -(10**18))
    before = classify("p", *ANIMALS).rows
    status = Path("p/3.bmp").stat()
    time.sleep(0.05)  # a clock tick, so that it gets another time of change
    draw("p/3.bmp", 99)
    os.utime("p/3.bmp", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert Path("p/3.bmp").stat().st_size == status.st_size
    after = classify("p", *ANIMALS)
    assert after.out == classify("p", *ANIMALS, "--no-cache").out
    changed = {now["path"] for was, now in zip(before, after.rows, strict=True) if was != now}
    assert changed == {"p/3.bmp"}


def test_precisions_and_batches_share_nothing(classify: Callable[..., Any]) -> None:
    for options in (["--precision", "bf16"], ["--batch-size", 1], ["--exact-decode"], []):
        expected = classify("p", *ANIMALS, *options, "--no-cache", "--format", "jsonl")
        assert classify("p", *ANIMALS, *options, "--format", "jsonl").out == expected.out
        assert classify("p", *ANIMALS, *options, "--format", "jsonl").out == expected.out


def test_no_cache_leaves_none(classify: Callable[..., Any], cache: Path) -> None:
    assert classify("p", *ANIMALS, "--no-cache").code == 4
    assert not list(cache.glob("*.sqlite"))


@pytest.mark.parametrize("damage", ["garbage", "cut off", "one bit of an embedding"])
def test_a_damaged_cache_is_one_warning_and_right_results(
    damage: str, classify: Callable[..., Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = classify("p", *ANIMALS)
    assert expected.err.count("\n") == 1
    with closing(sqlite3.connect(cache / "images.sqlite")) as database:  # closed, it is one file
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (embedding,) = database.execute("SELECT embedding FROM embeddings").fetchone()
    content = (cache / "images.sqlite").read_bytes()
    flipped = bytes([embedding[5] ^ 1])
    damaged = {
        "garbage": b"this was a database " * 5000,
        "cut off": content[: len(content) // 3],
        "one bit of an embedding": content.replace(embedding, embedding[:5] + flipped + embedding[6:]),
    }[damage]
    assert damaged != content
    (cache / "images.sqlite").write_bytes(damaged)
    ended = classify("p", *ANIMALS)
    assert (ended.code, ended.out) == (4, expected.out)
    warning, summary = ended.err.splitlines()
    assert warning.startswith(f"warning: the cache of image embeddings, {cache}/images.sqlite, ")
    assert warning.endswith("images are encoded anew")
    assert f"{summary}\n" == expected.err
    assert (cache / "images.sqlite.damaged").read_bytes()[:1000] == damaged[:1000]
    forbid(monkeypatch, LoadedModel, "encode_pixels")
    again = classify("p", *ANIMALS)
    assert (again.out, again.err) == (expected.out, expected.err)


def test_quiet_says_nothing_of_a_damaged_cache(classify: Callable[..., Any], cache: Path) -> None:
    cache.mkdir()
    (cache / "images.sqlite").write_bytes(b"garbage" * 999)
    ended = classify("p", *ANIMALS, "--quiet")
    assert (ended.code, ended.err) == (4, "")


@pytest.mark.parametrize("obstacle", ["a file", "a file above", "a folder for the database", "not ours"])
def test_a_cache_that_cannot_be_is_done_without(obstacle: str, classify: Callable[..., Any], cache: Path) -> None:
    expected = classify("p", *ANIMALS, "--no-cache")
    for path in (path for path in cache.glob("*") if path.is_file()):
        path.unlink()
    if cache.exists():
        cache.rmdir()
    if obstacle == "a folder for the database":
        (cache / "images.sqlite").mkdir(parents=True)
    elif obstacle == "not ours":
        cache.mkdir()
        with closing(sqlite3.connect(cache / "images.sqlite")) as database:
            database.execute("CREATE TABLE embeddings (mine TEXT)")
    elif obstacle == "a file":
        cache.write_text("a file")
    else:
        os.environ["ZEROSHOT_CACHE_DIR"] = str(cache / "b")  # the fixture puts it back
        cache.write_text("a file")
    ended = classify("p", *ANIMALS)
    assert (ended.code, ended.out) == (4, expected.out)
    *warnings, summary = ended.err.splitlines()
    assert f"{summary}\n" == expected.err
    assert 0 < len(warnings) <= 2  # texts and images
    assert len([line for line in warnings if "image embeddings" in line]) == 1
    for line in warnings:
        assert line.startswith("warning: the cache of ")
        assert "cannot be used (" in line


def test_a_cache_that_is_full_at_once_evicts_and_is_right(
    classify: Callable[..., Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSHOT_CACHE_SIZE", "1 B")
    for number in range(10, 60):
        draw(f"p/{number}.bmp", number)
    expected = classify("p", *ANIMALS, "--no-cache")
    for inputs in (["p"], ["p"], ["p/bad.bmp", *(f"p/{number}.bmp" for number in range(0, 60, 3))], ["p"]):
        ended = classify(*inputs, *ANIMALS)
        assert ended.code == 4
        assert all(row in expected.rows for row in ended.rows)
        assert ended.err.count("\n") == 1
    assert ended.out == expected.out
    with closing(sqlite3.connect(cache / "images.sqlite")) as database:
        (kept,) = database.execute("SELECT count(*) FROM embeddings").fetchone()
    assert 0 < kept < 60


@pytest.mark.parametrize("size", ["much", "-1", "1 PB", "1e9", "∞"])
def test_a_size_that_is_none_is_refused_at_once(
    size: str, classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSHOT_CACHE_SIZE", size)
    monkeypatch.setattr("zeroshot_cli.models.load.load", None)
    ended = classify("p", *ANIMALS)
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err.startswith(f"error: ZEROSHOT_CACHE_SIZE={size} is not a size")
    assert ended.err.count("\n") == 1

"""The cache of image embeddings by itself: what its keys depend on, what goes when it is full, damage, threads."""

import hashlib
import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL
import pytest
import torch

from zeroshot_cli.embed import cache_store, image_cache
from zeroshot_cli.embed.cache_store import CacheWarning
from zeroshot_cli.embed.image_cache import FileState, ImageCache, NewImage, RunCache

SETTING = {"fingerprint": "f" * 64, "precision": "fp32", "device": "cpu", "decoding": "exact", "batch_size": 32}
PAGE = 16384


def run_of(cache: ImageCache, **changes: Any) -> RunCache:
    setting = {**SETTING, **changes}
    model: Any = SimpleNamespace(
        fingerprint=setting["fingerprint"],
        computing=setting["precision"],
        device=SimpleNamespace(type=setting["device"]),
        embed_dim=setting.get("width", 4),
    )
    return cache.for_run(model, decoding=setting["decoding"], batch_size=setting["batch_size"])


def content(number: int) -> bytes:
    """What stands for the SHA-256 of a file."""
    return number.to_bytes(32, "big")


def embedding(number: int, width: int = 4) -> np.ndarray:
    return np.random.default_rng(number).standard_normal(width).astype(np.float32)


def new(number: int, width: int = 4, state: FileState | None = None) -> NewImage:
    return NewImage(state, content(number), embedding(number, width))


def known(run: RunCache, numbers: range) -> set[int]:
    return {number for number in numbers if run.by_content(content(number)) is not None}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`clock(seconds)` is the time from then on."""
    now = 1_000_000

    def set_to(seconds: int) -> None:
        nonlocal now
        now = seconds

    for module in (image_cache, cache_store):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now, time_ns=lambda: now * 10**9))
    return set_to


# keys


def test_what_was_put_is_found_to_the_bit_by_another_process_as_it_were(tmp_path: Path) -> None:
    odd = np.array([-0.0, 1e-42, 1 / 3, np.float32(2) ** -126], dtype=np.float32)
    run_of(ImageCache(tmp_path)).put([NewImage(None, content(1), odd), new(2)])
    run = run_of(ImageCache(tmp_path))
    found = run.by_content(content(1))
    assert found is not None
    assert (found.dtype, found.tobytes()) == (np.float32, odd.tobytes())
    assert run.by_content(content(3)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "e" * 64},
        {"precision": "bf16"},
        {"device": "cuda"},
        {"decoding": "draft"},
        {"batch_size": 16},
    ],
)
def test_a_key_depends_on_every_part_of_the_setting(change: dict[str, Any], tmp_path: Path) -> None:
    state = FileState(b"/a.png", 1, 2, 3)
    cache = ImageCache(tmp_path)
    run_of(cache).put([new(1, state=state)])
    other = run_of(cache, **change)
    assert other.by_content(content(1)) is None
    assert other.by_state([state]) == [None]
    other.put([NewImage(state, content(1), embedding(2))])
    assert run_of(cache).by_content(content(1)).tobytes() == embedding(1).tobytes()
    assert other.by_state([state])[0].tobytes() == embedding(2).tobytes()


@pytest.mark.parametrize("owner", ["torch", "PIL"])
def test_a_key_depends_on_the_versions_of_torch_and_pillow(
    owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ImageCache(tmp_path)
    run_of(cache).put([new(1)])
    with monkeypatch.context() as patch:
        patch.setattr(getattr(image_cache, owner), "__version__", "99.0")
        assert run_of(cache).by_content(content(1)) is None
    assert run_of(cache).by_content(content(1)) is not None


def test_a_file_that_0_1_0_wrote_is_still_known(tmp_path: Path) -> None:
    """Written here by SQL alone, as that version did; only the versions of torch and Pillow are this machine's."""
    setting = ["2", "f" * 64, "fp32", "cpu", "exact", 32, torch.__version__, PIL.__version__]
    key = hashlib.sha256(hashlib.sha256(json.dumps(setting).encode()).digest() + content(1)).digest()
    row = np.array([0.5, -0.25], dtype="<f4").tobytes()
    with closing(sqlite3.connect(tmp_path / "images.sqlite")) as database, database:
        database.execute(
            "CREATE TABLE embeddings (key BLOB PRIMARY KEY, embedding BLOB NOT NULL, checksum INTEGER NOT NULL, "
            "used INTEGER NOT NULL)"
        )
        database.execute(
            "CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER NOT NULL, modified INTEGER NOT NULL, "
            "changed INTEGER NOT NULL, content BLOB NOT NULL, used INTEGER NOT NULL)"
        )
        database.execute("INSERT INTO embeddings VALUES (?, ?, ?, 5)", (key, row, zlib.crc32(key + row)))
        database.execute("INSERT INTO files VALUES (x'2f61', 1, 2, 3, ?, 5)", (content(1),))
    run = run_of(ImageCache(tmp_path), width=2)
    assert run.by_content(content(1)).tolist() == [0.5, -0.25]
    assert run.by_state([FileState(b"/a", 1, 2, 3)])[0].tolist() == [0.5, -0.25]


def test_its_folder_may_be_a_text(tmp_path: Path) -> None:
    assert ImageCache(str(tmp_path)).path == ImageCache(tmp_path).path


def test_nothing_is_made_before_there_is_something_to_keep(tmp_path: Path) -> None:
    run = run_of(ImageCache(tmp_path / "cache"))
    run.put([])
    assert run.by_content(content(1)) is None
    assert run.by_state([None, FileState(b"/a", 1, 2, 3)]) == [None, None]
    assert not (tmp_path / "cache").exists()


# states


def test_by_state_answers_in_order_and_only_for_files_as_they_were(tmp_path: Path) -> None:
    run = run_of(ImageCache(tmp_path))
    states = [FileState(f"/{number}".encode(), 10, 20, 30) for number in range(1200)]  # more than a query takes
    run.put([new(number, state=state) for number, state in enumerate(states)])
    changed = [FileState(b"/5", 11, 20, 30), FileState(b"/5", 10, 21, 30), FileState(b"/5", 10, 20, 31)]
    asked = [None, *states[::-1], *changed, FileState(b"/none", 10, 20, 30), states[7], states[7]]
    found = run.by_state(asked)
    numbers = [None, *range(1199, -1, -1), None, None, None, None, 7, 7]
    for one, number in zip(found, numbers, strict=True):
        assert one is None if number is None else one.tobytes() == embedding(number).tobytes()


def test_the_state_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(b"12345")
    assert FileState.of(str(path)) is None  # it may be changed again within the same tick of the clock
    monkeypatch.setattr(image_cache, "SETTLED", -(10**18))
    status = path.stat()
    expected = FileState(os.fsencode(path), 5, status.st_mtime_ns, status.st_ctime_ns)
    assert FileState.of(str(path)) == FileState.of(path.name) == expected
    for path_of_none in ("none.png", "none\0.png", f"{path}/below.png"):
        assert FileState.of(path_of_none) is None


def test_a_time_in_the_future_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    os.utime(path, (time.time() + 10**6,) * 2)
    assert FileState.of(str(path)) is None


# a full cache


def size_of(cache: ImageCache) -> int:
    """Bytes that are in use, of the file and not of what it was once."""
    with closing(sqlite3.connect(cache.path)) as database:
        pages, free = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return (pages - free) * PAGE


def test_the_oldest_go_first_and_the_size_stays_under_the_cap(tmp_path: Path, clock: Callable[[int], None]) -> None:
    limit, each = 2_000_000, 40  # 40 embeddings of 2 KB
    cache = ImageCache(tmp_path, limit=limit)
    run = run_of(cache, width=512)
    largest = 0
    for round_ in range(60):
        clock(1_000_000 + round_)
        run.put([new(number, width=512) for number in range(each * round_, each * (round_ + 1))])
        if round_ % 5 == 4:
            largest = max(largest, size_of(cache))
    assert limit / 2 < largest <= limit + 2 * each * 2048 + 4 * PAGE  # a block more at most
    assert cache.path.stat().st_size <= limit + 2 * each * 2048 + 4 * PAGE
    left = sorted(known(run, range(60 * each)))
    assert 400 < len(left) < 60 * each
    assert left == list(range(left[0], 60 * each))  # of the first none, of the last all


def test_what_is_used_again_stays(tmp_path: Path, clock: Callable[[int], None]) -> None:
    day = 86_400
    cache = ImageCache(tmp_path, limit=1)
    run = run_of(cache)
    cache.limit = 10**9
    for number in range(40):
        clock(number)
        run.put([new(number, state=FileState(b"/%d" % number, 1, 2, 3))])
    clock(2 * day)
    assert run.by_content(content(0)) is not None
    assert run.by_state([FileState(b"/2", 1, 2, 3)])[0] is not None
    cache.limit = 1
    run.put([new(100)])  # a tenth of 40 go
    assert sorted(set(range(40)) - known(run, range(40))) == [1, 3, 4, 5]
    assert known(run, range(100, 101)) == {100}


def test_a_lower_limit_is_reached_step_by_step(tmp_path: Path, clock: Callable[[int], None]) -> None:
    clock(1)
    cache = ImageCache(tmp_path, limit=10**9)
    run_of(cache).put([new(number, width=512) for number in range(2000)])
    assert size_of(cache) > 4_000_000
    smaller = ImageCache(tmp_path, limit=1_000_000)
    for number in range(40):
        run_of(smaller).put([new(5000 + number, width=512)])
    assert size_of(smaller) <= 1_000_000 + 2 * PAGE


@pytest.mark.parametrize(
    ("given", "size"), [("", 2 << 30), ("1000", 1000), ("500MB", 5 * 10**8), ("1.5 gb", 15 * 10**8), ("0", 0)]
)
def test_the_limit_is_the_users(given: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROSHOT_CACHE_SIZE", given)
    assert ImageCache(tmp_path).limit == size


# damage and company


def test_an_embedding_that_does_not_fit_its_checksum_sets_the_file_aside(tmp_path: Path) -> None:
    run = run_of(ImageCache(tmp_path))
    run.put([new(1), new(2)])
    with closing(sqlite3.connect(tmp_path / "images.sqlite")) as database, database:
        database.execute("UPDATE embeddings SET embedding = zeroblob(16) WHERE rowid = 1")
    with pytest.warns(CacheWarning, match=r"was damaged \(an embedding does not fit its checksum\)") as warned:
        assert known(run, range(1, 3)) == set()
    assert len(warned) == 1
    assert (tmp_path / "images.sqlite.damaged").exists()
    run.put([new(2)])
    assert known(run, range(1, 3)) == {2}


def test_garbage_is_set_aside_once(tmp_path: Path) -> None:
    (tmp_path / "images.sqlite").write_bytes(b"garbage " * 9999)
    run = run_of(ImageCache(tmp_path))
    with pytest.warns(CacheWarning, match=r"is now images\.sqlite\.damaged, so images are encoded anew") as warned:  # noqa: PT031
        assert run.by_state([FileState(b"/a", 1, 2, 3)]) == [None]
        run.put([new(1)])
        assert known(run, range(3)) == {1}
    assert len(warned) == 1
    assert (tmp_path / "images.sqlite.damaged").read_bytes() == b"garbage " * 9999


def test_threads_share_it(tmp_path: Path) -> None:
    """As the threads of the decoders do, beside the one that looks up and keeps."""
    run = run_of(ImageCache(tmp_path))
    errors: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for number in range(start, start + 60):
                run.put([new(number, state=FileState(b"/%d" % number, 1, 2, 3))])
                assert run.by_content(content(number)).tobytes() == embedding(number).tobytes()
                assert run.by_state([FileState(b"/%d" % number, 1, 2, 3)])[0] is not None
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(known(run, range(3000))) == 180


def test_stores_share_the_file(tmp_path: Path) -> None:
    """Two processes, as far as SQLite is concerned."""
    first, second = run_of(ImageCache(tmp_path)), run_of(ImageCache(tmp_path))
    for number in range(0, 20, 2):
        first.put([new(number)])
        second.put([new(number + 1)])
    assert known(first, range(20)) == known(second, range(20)) == set(range(20))


def test_an_embedding_under_anothers_key_is_damage(tmp_path: Path) -> None:
    """A flipped bit in the index of a database can lead from one key to the row of another."""
    run_of(ImageCache(tmp_path)).put([new(1), new(2)])
    with closing(sqlite3.connect(tmp_path / "images.sqlite")) as database, database:
        (first, second) = database.execute("SELECT embedding, checksum FROM embeddings ORDER BY key").fetchall()
        for row, other in ((1, second), (2, first)):
            database.execute(
                "UPDATE embeddings SET embedding = ?, checksum = ? WHERE key = "
                f"(SELECT key FROM embeddings ORDER BY key LIMIT 1 OFFSET {row - 1})",
                other,
            )
    run = run_of(ImageCache(tmp_path))
    with pytest.warns(CacheWarning, match="was damaged"):
        assert run.by_content(content(1)) is None


def test_a_limit_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    run = run_of(ImageCache(tmp_path, limit=0))
    run.put([new(1)])
    assert run.by_content(content(1)) is None
    assert not (tmp_path / "images.sqlite").exists()


def test_paths_that_are_used_again_stay_too(tmp_path: Path, clock: Callable[[int], None]) -> None:
    cache = ImageCache(tmp_path, limit=10**9)
    run = run_of(cache)
    states = [FileState(b"/%d" % number, 1, 2, 3) for number in range(20)]
    for number, state in enumerate(states):
        clock(number)
        run.put([new(number, state=state)])
    clock(2 * 86_400)
    assert run.by_state(states[:1])[0] is not None
    cache.limit = 1
    run.put([new(100)])  # a tenth of twenty go
    assert [run.by_state([state])[0] is not None for state in states[:4]] == [True, False, False, True]


@pytest.mark.parametrize("column", ["content", "path"])
def test_a_text_in_place_of_bytes_is_damage(column: str, tmp_path: Path) -> None:
    state = FileState(b"/a", 1, 2, 3)
    run_of(ImageCache(tmp_path)).put([new(1, state=state)])
    with closing(sqlite3.connect(tmp_path / "images.sqlite")) as database, database:
        database.execute(f"UPDATE files SET {column} = CAST(x'ff612f' AS TEXT)")
    found = run_of(ImageCache(tmp_path)).by_state([state])  # it is read anew, whatever that text is taken for
    assert found == [None]

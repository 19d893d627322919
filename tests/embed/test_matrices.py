"""Embeddings in blocks are those that images have one by one, whatever the cache has of them."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroshot_cli.embed import matrices
from zeroshot_cli.embed.cache_store import CacheWarning, cache_files, clear
from zeroshot_cli.embed.image_cache import ImageCache, RunCache
from zeroshot_cli.embed.matrices import Embedded, embedded_images
from zeroshot_cli.records import SkippedImage

Draw = Callable[[Path, int], Path]
LONG_AGO = time.time() - 1000


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(matrices, "BLOCK", 4)
    monkeypatch.setattr(matrices, "_LEAST", 2)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(draw_angle: Draw) -> list[str]:
    """Nine images: two folders, and one of them cut into two blocks."""
    paths = [draw_angle(Path("a", f"{degrees:03d}.png"), degrees) for degrees in range(0, 60, 10)]
    paths += [draw_angle(Path("b", f"{degrees}.png"), degrees) for degrees in (100, 110, 120)]
    return settled(paths)


def settled(paths: Sequence[Path]) -> list[str]:
    """Return paths of files that seem to have been there for long."""
    for path in paths:
        os.utime(path, (LONG_AGO, LONG_AGO))
    return [str(path) for path in paths]


@pytest.fixture(autouse=True)
def _no_change_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test cannot set the time of a file's change, so that of its content decides whether it has settled."""
    real = time.time_ns
    monkeypatch.setattr(matrices.time, "time_ns", lambda: real() + 10_000_000_000)


def embed(model: Any, items: Sequence[str | SkippedImage], cache: ImageCache | None = None) -> list[Embedded]:
    return list(embedded_images(model, items, batch_size=4, workers=1, cache=cache))


def degrees(blocks: list[Embedded]) -> dict[int, int]:
    """The angle of each image by its place."""
    return {
        place: round(float(np.rad2deg(np.arctan2(*row[::-1]))))
        for block in blocks
        for place, row in zip(block.places, block.embeddings, strict=True)
    }


EXPECTED = dict(enumerate([0, 10, 20, 30, 40, 50, 100, 110, 120]))


def test_each_image_has_its_own_embedding(angle_model: Any, folder: list[str]) -> None:
    blocks = embed(angle_model, folder)
    assert degrees(blocks) == EXPECTED
    assert [len(block.places) for block in blocks] == [4, 2, 3]


def test_cached_blocks_are_not_encoded_nor_looked_up_by_file(
    angle_model: Any, folder: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ImageCache()
    first = embed(angle_model, folder, cache)

    def refuse(*arguments: object) -> None:
        raise AssertionError("a file is looked up by itself")

    monkeypatch.setattr(RunCache, "by_state", refuse)
    batches = len(angle_model.batches)
    again = embed(angle_model, folder, cache)
    assert degrees(again) == EXPECTED
    assert len(angle_model.batches) == batches
    for before, after in zip(first, again, strict=True):
        assert before.embeddings.tobytes() == after.embeddings.tobytes()


def test_absolute_and_relative_paths_are_the_same_files(angle_model: Any, folder: list[str]) -> None:
    cache = ImageCache()
    embed(angle_model, folder, cache)
    batches = len(angle_model.batches)
    assert degrees(embed(angle_model, [str(Path(path).absolute()) for path in folder], cache)) == EXPECTED
    assert len(angle_model.batches) == batches


def test_a_file_that_has_changed_is_read_again_and_the_others_are_not(
    angle_model: Any, folder: list[str], draw_angle: Draw
) -> None:
    cache = ImageCache()
    embed(angle_model, folder, cache)
    angle_model.batches.clear()
    draw_angle(Path(folder[1]), 15)
    os.utime(folder[1], (LONG_AGO + 5, LONG_AGO + 5))
    assert degrees(embed(angle_model, folder, cache)) == {**EXPECTED, 1: 15}
    assert len(angle_model.batches) == 1


def test_new_renamed_and_removed_files(angle_model: Any, folder: list[str], draw_angle: Draw) -> None:
    cache = ImageCache()
    embed(angle_model, folder, cache)
    new = settled([draw_angle(Path("b", "105.png"), 105)])
    Path(folder[0]).rename("a/900.png")
    paths = [*folder[1:6], "a/900.png", "b/100.png", *new, "b/120.png"]
    for _ in range(2):
        found = degrees(embed(angle_model, paths, cache))
        assert list(dict(sorted(found.items())).values()) == [10, 20, 30, 40, 50, 0, 100, 105, 120]


def test_two_names_that_changed_places(angle_model: Any, folder: list[str]) -> None:
    cache = ImageCache()
    embed(angle_model, folder, cache)
    Path(folder[0]).rename("spare")
    Path(folder[1]).rename(folder[0])
    Path("spare").rename(folder[1])
    assert degrees(embed(angle_model, folder, cache)) == {**EXPECTED, 0: 10, 1: 0}


def test_what_cannot_be_read_is_skipped_at_its_place(angle_model: Any, folder: list[str]) -> None:
    Path(folder[2]).write_bytes(b"no image")
    items = [SkippedImage("gone.png", "no such file"), *folder, "a/missing.png"]
    for _ in range(2):
        blocks = embed(angle_model, items, ImageCache())
        skipped = {place: item.path for block in blocks for place, item in block.skipped}
        assert skipped == {0: "gone.png", 3: folder[2], 10: "a/missing.png"}
        assert degrees(blocks) == {place + 1: angle for place, angle in EXPECTED.items() if place != 2}
        assert sum(block.count for block in blocks) == len(items)


def test_other_settings_have_blocks_of_their_own(angle_model: Any, folder: list[str]) -> None:
    cache = ImageCache()
    embed(angle_model, folder, cache)
    batches = len(angle_model.batches)
    angle_model.fingerprint = "e" * 64
    embed(angle_model, folder, cache)
    assert len(angle_model.batches) > batches


def test_a_damaged_block_is_not_believed(angle_model: Any, folder: list[str]) -> None:
    cache = ImageCache()
    embed(angle_model, folder, cache)

    def damage(database: Any) -> None:
        with database:
            database.execute("UPDATE blocks SET content = zeroblob(length(content))")

    cache.use(damage, None)
    with pytest.warns(CacheWarning, match="damaged"):
        assert degrees(embed(angle_model, folder, cache)) == EXPECTED


def test_files_that_have_changed_just_now_are_not_kept_as_a_block(
    angle_model: Any, folder: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrices.time, "time_ns", lambda: 0)
    embed(angle_model, folder, ImageCache())
    assert rows_of_blocks() == 0


def test_blocks_are_counted_and_cleared_with_the_cache(angle_model: Any, folder: list[str]) -> None:
    embed(angle_model, folder, ImageCache())
    assert rows_of_blocks() == 3
    clear()
    assert rows_of_blocks() == 0


def rows_of_blocks() -> int:
    return next(file for file in cache_files() if file.name == "images").rows["blocks"]


def test_without_a_cache_nothing_is_kept(angle_model: Any, folder: list[str]) -> None:
    assert degrees(embed(angle_model, folder)) == EXPECTED
    assert rows_of_blocks() == 0


def test_a_limit_of_nothing_keeps_nothing(angle_model: Any, folder: list[str]) -> None:
    assert degrees(embed(angle_model, folder, ImageCache(limit=0))) == EXPECTED
    assert rows_of_blocks() == 0

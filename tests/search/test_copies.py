"""Which files are copies, which of a group is kept, and what the others are."""

import io
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroshot_cli.search.copies import Copy, find_copies, once_each
from zeroshot_cli.search.listing import Match

EXAMPLES = Path(__file__).parents[2] / "examples" / "images"


@pytest.fixture(autouse=True)
def _inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def save(name: str, image: str, *, size: int = 128, modified: int = 100, quality: int = 90) -> str:
    with Image.open(EXAMPLES / image) as opened:
        opened.convert("RGB").resize((size, size)).save(name, quality=quality)
    os.utime(name, (modified, modified))
    return name


def thumbnails(paths: Sequence[str]) -> Iterator[bytes | None]:
    for path in paths:
        with Image.open(path) as image:
            file = io.BytesIO()
            image.save(file, "PNG")
            yield file.getvalue()


def found(paths: Sequence[str], embeddings: np.ndarray | None = None, **options: float) -> list[list[Copy]]:
    rows = np.tile(np.array([[1, 0]], np.float32), (len(paths), 1)) if embeddings is None else embeddings
    return find_copies(paths, rows, thumbnails=thumbnails, **options)


def names(groups: list[list[Copy]]) -> list[list[tuple[str, str]]]:
    return [[(copy.path, str(copy.match)) for copy in group] for group in groups]


def test_the_largest_file_is_kept_and_the_same_bytes_come_first() -> None:
    paths = [
        save("small.jpg", "dog.jpg", size=64),
        save("cat.jpg", "cat.jpg"),
        save("large.jpg", "dog.jpg", modified=200),
        save("worse.jpg", "dog.jpg", quality=50),
    ]
    paths += [shutil.copy("large.jpg", "copy.jpg"), shutil.copy("small.jpg", "small-copy.jpg")]
    (group,) = found(paths)
    assert [copy.path for copy in group[:2]] == ["large.jpg", "copy.jpg"]
    assert [copy.match for copy in group] == [Match.KEEP, Match.IDENTICAL, *[Match.SIMILAR] * 3]
    assert {copy.path for copy in group[2:]} == {"worse.jpg", "small.jpg", "small-copy.jpg"}
    scores = [copy.score for copy in group]
    assert scores[:2] == [1, 1]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.96
    assert [copy.size for copy in group] == [Path(copy.path).stat().st_size for copy in group]


def test_of_equally_large_files_the_oldest_is_kept_then_the_first() -> None:
    save("new.jpg", "dog.jpg", modified=300)
    for name in ("old.jpg", "also-old.jpg"):
        shutil.copy("new.jpg", name)
        os.utime(name, (200, 200))
    assert names(found(["new.jpg", "old.jpg", "also-old.jpg"])) == [
        [("old.jpg", "keep"), ("also-old.jpg", "identical"), ("new.jpg", "identical")]
    ]


def test_groups_are_numbered_in_the_order_of_their_first_images() -> None:
    paths = [save(f"{size}-{name}", name, size=size) for size in (64, 128) for name in ("dog.jpg", "apple.jpg")]
    groups = found(paths)
    assert [[(copy.group, copy.path) for copy in group] for group in groups] == [
        [(1, "128-dog.jpg"), (1, "64-dog.jpg")],
        [(2, "128-apple.jpg"), (2, "64-apple.jpg")],
    ]


def test_images_that_show_the_same_are_no_copies() -> None:
    assert found([save("a.jpg", "dog.jpg"), save("b.jpg", "cat.jpg"), save("c.jpg", "panda.jpg")]) == []


def test_pixels_are_compared_only_where_embeddings_are_near() -> None:
    paths = [save("a.jpg", "dog.jpg"), save("b.jpg", "dog.jpg", quality=70)]
    apart = np.array([[1, 0], [0, 1]], np.float32)
    assert found(paths, apart) == []
    assert len(found(paths)) == 1


def test_the_same_bytes_are_copies_whatever_their_embeddings() -> None:
    paths = [save("a.jpg", "dog.jpg"), shutil.copy("a.jpg", "b.jpg")]
    apart = np.array([[1, 0], [0, 1]], np.float32)
    assert names(found(paths, apart)) == [[("a.jpg", "keep"), ("b.jpg", "identical")]]


def test_the_threshold_counts() -> None:
    paths = [save("a.jpg", "dog.jpg"), save("b.jpg", "dog.jpg", quality=20)]
    (group,) = found(paths)
    between = group[1].score
    assert len(found(paths, threshold=between - 1e-4)) == 1
    assert found(paths, threshold=between + 1e-4) == []


def test_files_that_are_not_there_are_like_no_other() -> None:
    rows = np.tile(np.array([[1, 0]], np.float32), (3, 1))
    assert find_copies(["missing.jpg", "a.gif#1", "nul\0.jpg"], rows, thumbnails=lambda some: [None] * len(some)) == []
    assert find_copies([], rows[:0], thumbnails=lambda some: []) == []


def test_a_file_counts_once_under_a_name_that_is_no_link() -> None:
    save("b.jpg", "dog.jpg")
    Path("a.jpg").symlink_to("b.jpg")
    Path("c.jpg").hardlink_to("b.jpg")
    shutil.copy("b.jpg", "d.jpg")
    Path("folder").symlink_to(".")
    paths = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "folder/d.jpg", "missing.jpg", "a.gif#1", "nul\0.jpg"]
    assert once_each(paths) == [1, 3, 5, 6, 7]
    assert once_each(["a.jpg", "d.jpg"]) == [0, 1]

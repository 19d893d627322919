"""Walking folders in order of path: as sorting all paths would give, with little in memory."""

import os
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zeroshot_cli.images.file_kinds import reason_of
from zeroshot_cli.images.find import find_images
from zeroshot_cli.images.folders import walk
from zeroshot_cli.images.folders.walk import folders_below, runs_below
from zeroshot_cli.records import SkippedImage

NAMES = ("a", "a.b", "a!", "a b", "a-", "a0", "A", "aa", "é", "猫", os.fsdecode(b"a\xff"), "a\n", "~", "#")


def images(root: str) -> list[list[str]]:
    runs = runs_below(root, lambda folder, identity: True, lambda entry: True)
    return [[item if isinstance(item, str) else item.path for item in run] for run in runs]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Folders and files whose names begin alike, so that a slash's place among other characters decides."""
    draw = random.Random(0)
    folders = [tmp_path / "tree"]
    folders[0].mkdir()
    for _ in range(60):
        folder = draw.choice(folders) / draw.choice(NAMES)
        if not folder.exists() and len(folder.parts) < 12:
            folder.mkdir()
            folders.append(folder)
    for _ in range(300):
        (draw.choice(folders) / (draw.choice(NAMES) + draw.choice(NAMES) + ".png")).touch()
    return tmp_path / "tree"


def by_sorting(root: str) -> list[str]:
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)  # noqa: PTH118


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/./", "."])
def test_the_order_is_that_of_all_paths(tree: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    root = form.format(tree)
    main, failed = images(root)
    assert main == by_sorting(root)
    assert len(main) > 150
    assert failed == []


def test_links_to_folders_come_last_and_each_folder_once(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "other" / "deep").mkdir(parents=True)
    for name in ("1.png", "deep/2.png"):
        (tmp_path / "other" / name).touch()
    (tmp_path / "other" / "deep" / "round").symlink_to(tree)
    (tree / "a.link").symlink_to(tmp_path / "other")
    (tree / "A.again").symlink_to(tmp_path / "other" / "deep")
    (tree / "self").symlink_to(tree)
    (tree / "nowhere").symlink_to(tmp_path / "none")
    main, *links, failed = images(str(tree))
    assert main == by_sorting(str(tree))
    # The links in order of path: the first takes the folder that is below the second's.
    assert [run for run in links if run] == [[f"{tree}/A.again/2.png"], [f"{tree}/a.link/1.png"]]
    assert failed == []
    found = find_images([str(tree)]).items
    assert list(found) == sorted(found, key=lambda item: item if isinstance(item, str) else item.path)


def test_folders_are_listed_once(tree: Path) -> None:
    (tree / "self").symlink_to(tree)
    assert sorted(folders_below(str(tree))) == sorted(folder for folder, _, _ in os.walk(tree))


def test_a_folder_that_cannot_be_listed_is_an_item_in_its_place(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir, locked = os.scandir, str(tree / "locked")
    (tree / "locked").mkdir()
    for name in ("locked!.png", "locked.png", "locke.png", "locked0.png"):
        (tree / name).touch()

    def refuse(path: str) -> Any:
        if path == locked:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    items = find_images([str(tree)]).items
    paths = [item if isinstance(item, str) else item.path for item in items]
    assert paths == sorted(paths)
    assert [item for item in items if isinstance(item, SkippedImage)] == [
        SkippedImage(locked, reason_of(PermissionError(13, "Permission denied")))
    ]


class _Listing:
    """A stand-in for os.scandir: 200 folders with 1,000 images each, and no disk."""

    def __init__(self, root: str) -> None:
        self.root, self.opened = root, 0

    def scandir(self, path: str) -> Any:
        return self

    def __enter__(self) -> Iterator[Any]:
        number, self.opened = self.opened, self.opened + 1
        folders = [self._entry(f"{folder:05}", is_folder=True) for folder in range(200)] if not number else []
        return iter(folders or [self._entry(f"{image:07}.jpg", is_folder=False) for image in range(1000)])

    def __exit__(self, *_: object) -> None: ...

    @staticmethod
    def _entry(name: str, *, is_folder: bool) -> Any:
        return SimpleNamespace(
            name=name, is_dir=lambda follow_symlinks=True: is_folder, is_symlink=lambda: False, path=name
        )


def test_memory_is_that_of_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    listing, numbers = _Listing("root"), iter(range(10**9))
    monkeypatch.setattr(
        walk,
        "os",
        SimpleNamespace(
            scandir=listing.scandir,
            stat=lambda path: SimpleNamespace(st_dev=1, st_ino=next(numbers)),
            sep="/",
            path=os.path,
        ),
    )
    tracemalloc.start()
    count = sum(1 for run in runs_below("root", lambda *_: True, lambda _: True) for _ in run)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 1_500_000

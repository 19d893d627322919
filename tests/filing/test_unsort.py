"""Sorting taken back: what was is again, and what cannot be taken back stays and is said."""

import csv
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.filing.test_sort import (
    COPY,
    DISKS,
    HEADER,
    HOSTILE_NAMES,
    LINK,
    MODES,
    MOVE,
    SORTED,
    draw,
    filed,
    here,
    killed_at,
    like,
    not_root,
    prepare,
    public,
    rows,
    say,
    synced,
    tree,
)
from zeroshot_cli.errors import InputError, UsageError
from zeroshot_cli.filing.sort import SortMode, sort_into
from zeroshot_cli.filing.unsort import Undone, undo
from zeroshot_cli.records import SkippedImage

__all__ = ["here", "public", "synced"]  # fixtures
MANIFEST = Path("out/manifest.csv")


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Return what every file and link below a folder is: text of the link or content, and inode."""
    return {
        str(path.relative_to(folder)): (
            os.readlink(path) if path.is_symlink() else os.fsdecode(path.read_bytes()),  # noqa: PTH115
            path.lstat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize("mode", MODES)
def test_undone_all_is_as_it_was(here: Path, mode: SortMode) -> None:
    for name in HOSTILE_NAMES:
        draw(f"in/{os.fsdecode(name)}", os.fsdecode(name))
    draw("in/sub/~", "clash")
    names = [*(os.fsdecode(name) for name in HOSTILE_NAMES), "sub/~"]
    before = state(here / "in")
    sort_into(Path("out"), say(*(like(f"in/{name}", "a/b", "c") for name in names)), mode)
    done = undo(MANIFEST)
    counts = (len(names), 0) if mode is MOVE else (0, len(names))
    assert done == Undone(*counts, kept=())
    assert state(here / "in") == before
    assert [path.name for path in Path("out").iterdir()] == ["manifest.undone.csv"]


def test_copies_under_every_label_and_several_runs(here: Path) -> None:
    draw("a.jpg", "A"), draw("b.jpg", "B"), draw("c.jpg", "C"), draw("d.jpg", "D")
    before = state(here)
    results = say(like("a.jpg", "cat", "dog"), like("b.jpg", "cat", "dog"))
    sort_into(Path("out"), results, COPY, every_label=True)
    sort_into(Path("out"), results, LINK, every_label=True)
    sort_into(Path("out"), say(like("c.jpg", "cat"), like("d.jpg", "dog")), MOVE)
    assert len(filed(here / "out")) == 10
    assert undo(MANIFEST) == Undone(2, 8, ())
    shutil.rmtree("out")
    assert state(here) == before


def test_files_moved_twice_go_all_the_way_back(here: Path) -> None:
    draw("a.jpg", "A")
    before = state(here)
    sort_into(here, say(like("a.jpg", "cat")), MOVE)
    sort_into(here, say(like("cat/a.jpg", "tabby")), MOVE)
    assert undo(Path("manifest.csv")) == Undone(2, 0, ())
    Path("manifest.undone.csv").unlink()
    assert state(here) == before
    assert [path.name for path in here.iterdir()] == ["a.jpg"]


def test_links_go_back_with_their_own_text(here: Path) -> None:
    draw("in/sub/real.jpg", "R")
    Path("in/one.jpg").symlink_to("../in/./sub/real.jpg")
    Path("in/two.jpg").symlink_to(here / "in/sub/real.jpg")
    names = ["one.jpg", "two.jpg", "sub/real.jpg"]
    before = {name: text for name, (text, _) in state(here / "in").items()}
    sort_into(Path("out"), say(*(like(f"in/{name}", "cat") for name in names)), MOVE)
    assert undo(MANIFEST) == Undone(3, 0, ())
    assert {name: text for name, (text, _) in state(here / "in").items()} == before


def test_the_sorted_folder_may_have_been_moved(here: Path) -> None:
    draw("a.jpg", "A")
    sort_into(Path("out"), say(like("a.jpg", "cat")), MOVE)
    Path("out").rename("elsewhere")
    assert undo(Path("elsewhere")) == Undone(1, 0, ())  # the folder stands for its manifest
    assert Path("a.jpg").read_text() == "A"


def test_folders_that_were_removed_are_made_again(here: Path) -> None:
    draw("in/deep/a.jpg", "A")
    sort_into(Path("out"), say(like("in/deep/a.jpg", "cat")), MOVE)
    shutil.rmtree("in")
    assert undo(MANIFEST) == Undone(1, 0, ())
    assert tree(here / "in") == {"deep/a.jpg": "A"}


def test_an_earlier_undone_manifest_is_not_overwritten(here: Path) -> None:
    draw("a.jpg", "A")
    for _ in range(2):
        sort_into(Path("out"), say(like("a.jpg", "cat")), COPY)
        undo(MANIFEST)
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == ["manifest.undone (2).csv", "manifest.undone.csv"]
    assert undo(Path("out/manifest.undone.csv")) == Undone(0, 0, ())


# what cannot be undone


def test_nothing_is_overwritten_at_the_old_place(here: Path) -> None:
    draw("a.jpg", "A"), draw("b.jpg", "B"), draw("c.jpg", "C")
    sort_into(Path("out"), say(*(like(f"{name}.jpg", "cat") for name in "abc")), MOVE)
    draw("a.jpg", "new"), Path("b.jpg").mkdir()
    done = undo(MANIFEST)
    assert done == Undone(
        1,
        0,
        (
            SkippedImage(f"{here}/out/cat/b.jpg", f"another file is now at {here}/b.jpg"),
            SkippedImage(f"{here}/out/cat/a.jpg", f"another file is now at {here}/a.jpg"),
        ),
    )
    assert (Path("a.jpg").read_text(), Path("c.jpg").read_text()) == ("new", "C")
    assert filed(here / "out") == {"cat/a.jpg": "A", "cat/b.jpg": "B"}
    assert [row[3] for row in rows(here / "out")] == ["target", "cat/a.jpg", "cat/b.jpg"]
    Path("a.jpg").unlink(), Path("b.jpg").rmdir()
    assert undo(MANIFEST) == Undone(2, 0, ())
    assert Path("a.jpg").read_text() == "A"


def test_copies_that_changed_or_are_the_last_stay(here: Path) -> None:
    for name in ("changed", "gone", "newer", "touched", "replaced", "removed"):
        draw(f"{name}.jpg", name)
    results = [like(f"{path.name}", "cat") for path in sorted(here.iterdir())]
    sort_into(Path("out"), say(*results), COPY)
    draw("out/cat/changed.jpg", "CHANGED"), draw("newer.jpg", "NEWER")
    Path("gone.jpg").unlink(), Path("out/cat/removed.jpg").unlink()
    os.utime("out/cat/touched.jpg", ns=(1, 1))
    Path("replaced.jpg").unlink(), Path("replaced.jpg").symlink_to("out/cat/replaced.jpg")
    done = undo(MANIFEST)
    assert (done.moved_back, done.removed) == (0, 1)  # touched.jpg
    assert {Path(item.path).stem: item.reason for item in done.kept} == {
        "changed": f"no longer the same as {here}/changed.jpg",
        "newer": f"no longer the same as {here}/newer.jpg",
        "gone": f"the only copy: {here}/gone.jpg is missing",
        "replaced": f"the only copy: {here}/replaced.jpg leads here",
    }
    want = {"changed": "CHANGED", "gone": "gone", "newer": "newer", "replaced": "replaced"}
    assert filed(here / "out") == {f"cat/{name}.jpg": content for name, content in want.items()}


def test_only_links_that_were_made_are_removed(here: Path) -> None:
    for name in ("kept", "turned", "file", "dangling"):
        draw(f"{name}.jpg", name)
    sort_into(Path("out"), say(*(like(f"{n}.jpg", "cat") for n in ("kept", "turned", "file", "dangling"))), LINK)
    for name in ("turned", "file"):
        Path(f"out/cat/{name}.jpg").unlink()
    Path("out/cat/turned.jpg").symlink_to(here / "kept.jpg")
    draw("out/cat/file.jpg", "mine")
    Path("dangling.jpg").unlink()
    done = undo(MANIFEST)
    assert done.removed == 2
    reasons = {Path(item.path).name: item.reason for item in done.kept}
    assert reasons == dict.fromkeys(("file.jpg", "turned.jpg"), "no longer the link that was created")
    assert filed(here / "out") == {"cat/turned.jpg": "kept", "cat/file.jpg": "mine"}


def test_moved_files_that_are_nowhere_or_something_else(here: Path) -> None:
    draw("a.jpg", "A"), draw("b.jpg", "B"), draw("c.jpg", "C")
    Path("d.jpg").symlink_to("/dev/null")
    sort_into(Path("out"), say(*(like(f"{name}.jpg", "cat") for name in "abcd")), MOVE)
    for name in "abcd":
        Path(f"out/cat/{name}.jpg").unlink()
    Path("out/cat/b.jpg").mkdir()
    draw("c.jpg", "put back by hand"), draw("out/cat/d.jpg", "mine")
    done = undo(MANIFEST)
    assert {Path(item.path).name: item.reason for item in done.kept} == {
        "a.jpg": f"missing, and not at {here}/a.jpg either",
        "b.jpg": "no longer the file that was moved",
        "d.jpg": "no longer the file that was moved",
    }
    assert tree(here / "out/cat") == {"d.jpg": "mine"}


def test_a_newer_file_of_the_same_name_does_not_go_where_an_older_was(here: Path) -> None:
    draw("1/a.jpg", "1"), draw("2/a.jpg", "2")
    sort_into(Path("out"), say(like("1/a.jpg", "cat")), MOVE)
    Path("out/cat/a.jpg").rename("mine.jpg")
    sort_into(Path("out"), say(like("2/a.jpg", "cat")), MOVE)
    draw("2/a.jpg", "in the way")
    assert [item.reason for item in undo(MANIFEST).kept] == [f"another file is now at {here}/2/a.jpg"]
    assert (filed(here / "out"), tree(here / "1"), len(rows(here / "out"))) == ({"cat/a.jpg": "2"}, {}, 3)


def test_a_file_that_is_back_by_a_renamed_folder_is_not_lost(here: Path) -> None:
    """Target and source have become one path: to remove one would be to lose both."""
    draw("in/cat/a.jpg", "A"), draw("in/cat/b.jpg", "B")
    sort_into(Path("out"), say(like("in/cat/a.jpg", "cat")), MOVE)
    sort_into(Path("out"), say(like("in/cat/b.jpg", "cat")), COPY)
    shutil.rmtree("in")
    Path("out").rename("in")
    done = undo(Path("in/manifest.csv"))
    assert [item.reason for item in done.kept] == [f"the only copy: {here}/in/cat/b.jpg leads here"]
    assert filed(here / "in") == {"cat/a.jpg": "A", "cat/b.jpg": "B"}


def test_what_cannot_be_looked_at_is_not_taken_for_gone(public: Path) -> None:
    with not_root():
        draw("a.jpg", "A")
        sort_into(Path("out"), say(like("a.jpg", "cat")), COPY)
        Path("out/cat").chmod(0)
        try:
            with pytest.raises(UsageError, match=r"cannot write .*out/cat/a.jpg: Permission denied"):
                undo(MANIFEST)
        finally:
            Path("out/cat").chmod(0o755)
        assert undo(MANIFEST) == Undone(0, 1, ())


def test_a_folder_that_lets_nothing_back_in(public: Path) -> None:
    with not_root():
        draw("in/a.jpg", "A"), draw("in/b.jpg", "B")
        sort_into(Path("out"), say(like("in/a.jpg", "cat"), like("in/b.jpg", "cat")), MOVE)
        Path("in").chmod(0o555)
        done = undo(MANIFEST)
    assert [item.reason for item in done.kept] == ["permission denied"] * 2
    assert filed(public / "out") == {"cat/a.jpg": "A", "cat/b.jpg": "B"}


# manifests


@pytest.mark.parametrize("name", ["nowhere.csv", "folder", "a.jpg/manifest.csv"])
def test_no_manifest(here: Path, name: str) -> None:
    Path("folder").mkdir(), draw("a.jpg")
    with pytest.raises(UsageError, match=f"there is no manifest {name}"):
        undo(Path(name))


def test_a_file_that_is_no_manifest_is_not_touched(here: Path) -> None:
    draw("mine.csv", HEADER + "copy,cat,/a.jpg,cat/a.jpg,\nhello\n")
    with pytest.raises(InputError, match=r"mine.csv, line 3: not an entry"):
        undo(Path("mine.csv"))
    draw("image.jpg", "\udcff\udcd8")
    with pytest.raises(InputError, match=r"image.jpg, line 1: not a manifest"):
        undo(Path("image.jpg"))
    assert sorted(tree(here)) == ["image.jpg", "mine.csv"]


def test_a_manifest_that_went_through_a_spreadsheet(here: Path) -> None:
    """All quoted, lines ended as Windows does."""
    draw("a.jpg", "A"), draw("b.jpg", "B")
    sort_into(Path("out"), say(like("a.jpg", "cat"), like("b.jpg", "cat")), MOVE)
    table = rows(here / "out")
    with MANIFEST.open("w", newline="") as file:
        file.write(HEADER.replace("\n", "\r\n"))
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(table[1:])
    assert undo(MANIFEST) == Undone(2, 0, ())
    assert (Path("a.jpg").read_text(), Path("b.jpg").read_text()) == ("A", "B")


def test_a_torn_last_line_does_not_matter(here: Path) -> None:
    draw("a.jpg", "A")
    sort_into(Path("out"), say(like("a.jpg", "cat")), MOVE)
    MANIFEST.write_bytes(MANIFEST.read_bytes() + b'move,dog,"/x')
    assert undo(MANIFEST) == Undone(1, 0, ())


def test_a_manifest_that_cannot_be_replaced(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    draw("a.jpg", "A")
    sort_into(Path("out"), say(like("a.jpg", "cat")), COPY)
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UsageError, match=r"cannot write .*manifest.csv: Read-only file system"):
        undo(MANIFEST)


# killed at any moment


@pytest.mark.slow
@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("mode", MODES)
def test_sorting_killed_at_every_step_is_undone(
    here: Path, mode: SortMode, disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    DISKS[disk](monkeypatch.setattr)
    step, killed = 0, True
    while killed:
        step += 1
        results = prepare(here)
        before = texts(here / "in")
        killed = killed_at(step, lambda results=results: sort_into(Path("out"), results, mode))
        if not MANIFEST.exists():
            continue
        assert undo(MANIFEST).kept == (), step
        assert texts(here / "in") == before, step
        assert filed(here / "out") == {}, step
    assert step > 10


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["one disk", "two disks"])
@pytest.mark.parametrize("mode", MODES)
def test_undoing_killed_at_every_step_and_gone_on_with(
    here: Path, mode: SortMode, disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    DISKS[disk](monkeypatch.setattr)
    step, killed = 0, True
    while killed:
        step += 1
        results = prepare(here)
        before = texts(here / "in")
        sort_into(Path("out"), results, mode)
        assert filed(here / "out") == SORTED
        killed = killed_at(step, lambda: undo(MANIFEST))
        if MANIFEST.exists():
            assert undo(MANIFEST).kept == (), step
        assert texts(here / "in") == before, step
        assert filed(here / "out") == {}, step
    assert step > 5


def test_undoing_killed_without_hard_links_loses_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file that holds a place may be left: it looks like somebody's, so it is said and not overwritten."""
    DISKS["no hard links"](monkeypatch.setattr)
    step, killed = 0, True
    while killed:
        step += 1
        results = prepare(here)
        sort_into(Path("out"), results, MOVE)
        killed = killed_at(step, lambda: undo(MANIFEST))
        for item in undo(MANIFEST).kept if MANIFEST.exists() else ():
            source = Path(item.reason.removeprefix("another file is now at "))
            assert source.stat().st_size == 0, step
            source.unlink()
            assert undo(MANIFEST).kept == (), step
        assert tree(here / "in") == {"1/a.jpg": "11111", "2/a.jpg": "22222", "2/b.jpg": "11111"}, step


def texts(folder: Path) -> dict[str, str]:
    return {name: text for name, (text, _) in state(folder).items()}


@pytest.mark.parametrize(
    ("undone", "sentence"),
    [
        (Undone(0, 0, ()), "0 files moved back, 0 copies and links removed."),
        (Undone(1, 2, (SkippedImage("a", "b"),)), "1 file moved back, 2 copies and links removed, 1 left unchanged."),
    ],
)
def test_sentence(undone: Undone, sentence: str) -> None:
    assert undone.sentence() == sentence


@pytest.mark.parametrize("mode", MODES)
def test_a_label_longer_than_a_field_of_csv_usually_is(here: Path, mode: SortMode) -> None:
    draw("a.jpg", "A")
    before = state(here)
    sort_into(Path("out"), say(like("a.jpg", "long " * 40_000)), mode)
    assert undo(MANIFEST).kept == ()
    shutil.rmtree("out")
    assert state(here) == before
    assert csv.field_size_limit() == 131_072

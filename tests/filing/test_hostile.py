"""Manifests from somebody else, and links where zeroshot writes: nothing outside the folder that is named changes."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from tests.filing.test_sort import COPY, LINK, MODES, MOVE, draw, filed, here, like, say
from zeroshot_cli.cli import app as entry
from zeroshot_cli.errors import InputError, UsageError
from zeroshot_cli.filing.sort import SortMode, sort_into
from zeroshot_cli.filing.unsort import undo

__all__ = ["here"]  # a fixture
HEADER = "action,label,source,target,link\n"


def whole(folder: Path) -> dict[str, tuple[str, int, str]]:
    """Return everything below a folder: kind and mode, time, and content or text of the link."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""  # noqa: PTH115
        found[str(path.relative_to(folder))] = (oct(status.st_mode), status.st_mtime_ns, content)
    return found


def plant(here: Path, *lines: str) -> Path:
    """Make a sorted folder as somebody else sends it, beside a folder of the user's own."""
    draw("home/.ssh/id", "secret"), draw("home/photos/cat.jpg", "CAT")
    draw("sent/cat/evil", "evil"), draw("sent/cat/cat.jpg", "CAT")
    (here / "sent/manifest.csv").write_text(HEADER + "".join(line.format(here=here) + "\n" for line in lines))
    return here / "sent"


HOSTILE = {
    "a key for ssh": "move,cat,{here}/home/.ssh/authorized_keys,cat/evil,",
    "new folders": "move,cat,{here}/home/new/deep/evil,cat/evil,",
    "a link to anywhere": "move,cat,{here}/home/link,cat/evil,/etc/passwd",
    "a copy that is compared": "copy,cat,{here}/home/photos/cat.jpg,cat/cat.jpg,",
    "a link that is compared": "link,cat,{here}/home/photos/cat.jpg,cat/cat.jpg,",
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_a_manifest_from_somebody_else_is_refused_whole(here: Path, line: str) -> None:
    sent = plant(here, line)
    before = whole(here)
    with pytest.raises(UsageError, match=r"in folders that you did not sort from on this machine, .*; add --yes"):
        undo(sent)
    assert entry.run(["unsort", str(sent)]) == 2
    assert whole(here) == before


@pytest.mark.parametrize("source", ["{here}/sent/../home/.ssh/x", "{here}/sent/./x", "relative", "{here}//sent/x"])
def test_sources_that_only_seem_to_be_inside(here: Path, source: str) -> None:
    sent = plant(here, f"move,cat,{source},cat/evil,")
    before = whole(here)
    with pytest.raises(InputError, match=r"line 2: the source .* is not an absolute path"):
        undo(sent, elsewhere=True)
    assert whole(here) == before


def test_yes_restores_from_a_manifest_that_is_trusted(here: Path) -> None:
    sent = plant(here, "move,cat,{here}/back/evil,cat/evil,")
    assert entry.run(["unsort", str(sent), "--yes"]) == 0
    assert Path("back/evil").read_text() == "evil"


@pytest.mark.parametrize("mode", MODES)
def test_the_users_own_manifest_is_known_when_it_is_renamed_and_to_nobody_else(
    here: Path, mode: SortMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw("far/in/a.jpg", "A")
    sort_into(Path("out"), say(like("far/in/a.jpg", "cat")), mode)
    Path("out").rename("other")
    shutil.copytree("other", "copy", symlinks=True)
    with pytest.raises(UsageError, match="add --yes"):
        undo(Path("copy"))
    with monkeypatch.context() as patch:
        patch.setenv("ZEROSHOT_CACHE_DIR", str(here / "cache of another"))
        with pytest.raises(UsageError, match="add --yes"):
            undo(Path("other"))
    assert undo(Path("other")).kept == ()
    assert Path("far/in/a.jpg").read_text() == "A"


def test_lines_added_to_the_users_own_manifest(here: Path) -> None:
    draw("in/a.jpg", "A"), draw("victim/b.jpg", "B")
    sort_into(Path("out"), say(like("in/a.jpg", "cat")), MOVE)
    draw("out/cat/evil", "evil")
    with Path("out/manifest.csv").open("a") as file:
        file.write(f"move,cat,{here}/victim/evil,cat/evil,\n")
    before = whole(here)
    with pytest.raises(UsageError, match=r"1 of 2 files .* the first is .*victim/evil"):
        undo(Path("out"))
    assert whole(here) == before


def test_a_label_folder_that_is_a_link_moves_and_deletes_nothing(here: Path) -> None:
    draw("in/a.jpg", "A"), draw("in/b.jpg", "B"), draw("victim/a.jpg", "A"), draw("victim/b.jpg", "B")
    draw("victim/.zeroshot-unfinished", "mine")
    for mode in MODES:
        sort_into(Path("out"), say(like("in/a.jpg", "cat"), like("in/b.jpg", "cat")), mode)
        shutil.rmtree("out/cat")
        Path("out/cat").symlink_to(here / "victim")
        before = whole(here / "victim")
        done = undo(Path("out"))
        assert {item.reason for item in done.kept} == {"its folder is a link, which may lead anywhere"}
        assert whole(here / "victim") == before
        shutil.rmtree("out")
        draw("in/a.jpg", "A"), draw("in/b.jpg", "B")


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_sorted_through_a_link(here: Path, mode: SortMode) -> None:
    draw("in/a.jpg", "A"), draw("in/b.jpg", "B"), draw("victim/c.jpg", "C")
    Path("out").mkdir()
    Path("out/cat").symlink_to(here / "victim")
    before = whole(here / "victim")
    assert sort_into(Path("out"), say(like("in/a.jpg", "cat")), mode).filed == 1
    assert filed(here / "out/cat (2)") == {"a.jpg": "A"}
    Path("out/cat (2)").rename("elsewhere")
    Path("out/cat (2)").symlink_to(here / "victim")  # a folder that the manifest knows
    done = sort_into(Path("out"), say(like("in/b.jpg", "cat")), mode)
    assert (done.filed, len(done.failed)) == (0, 1)
    assert whole(here / "victim") == before


def test_a_link_on_the_way_back(here: Path) -> None:
    draw("in/deep/a.jpg", "A"), draw("victim/b.jpg", "B")
    sort_into(Path("out"), say(like("in/deep/a.jpg", "cat")), MOVE)
    shutil.rmtree("in/deep")
    Path("in/deep").symlink_to(here / "victim")
    before = whole(here / "victim")
    done = undo(Path("out"))
    assert [item.reason for item in done.kept] == [f"a link is on the way to {here}/in/deep/a.jpg"]
    assert whole(here / "victim") == before


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing"])
def test_a_manifest_that_is_a_link(here: Path, there: bool) -> None:
    draw("in/a.jpg", "A")
    if there:
        draw("victim.txt", "")
    Path("out").mkdir()
    Path("out/manifest.csv").symlink_to(here / "victim.txt")
    before = whole(here)
    with pytest.raises(UsageError, match="it is a link, which may lead anywhere"):
        sort_into(Path("out"), say(like("in/a.jpg", "cat")), COPY)
    with pytest.raises(UsageError, match="it is a link, which may lead anywhere"):
        undo(Path("out"))
    assert whole(here) == before


def test_unfinished_files_that_are_links(here: Path) -> None:
    draw("in/a.jpg", "A"), draw("in/b.jpg", "B"), draw("victim.txt", "mine")
    sort_into(Path("out"), say(like("in/a.jpg", "cat"), like("in/b.jpg", "cat")), COPY)
    Path("out/cat/.zeroshot-unfinished").symlink_to(here / "victim.txt")
    Path(f"out/.{hashlib.sha256(b'manifest.csv').hexdigest()[:12]}.unfinished").symlink_to(here / "victim.txt")
    draw("in/c.jpg", "C"), draw("out/cat/b.jpg", "changed")
    assert sort_into(Path("out"), say(like("in/c.jpg", "cat")), COPY).filed == 1
    assert len(undo(Path("out")).kept) == 1  # the manifest is replaced
    assert Path("victim.txt").read_text() == "mine"


@pytest.mark.parametrize("mode", MODES)
def test_a_source_or_a_manifest_that_has_become_a_pipe(here: Path, mode: SortMode) -> None:
    draw("in/a.jpg", "A")
    sort_into(Path("out"), say(like("in/a.jpg", "cat")), mode)
    Path("in/a.jpg").unlink(missing_ok=True)
    os.mkfifo("in/a.jpg")
    done = undo(Path("out"))
    assert len(done.kept) == (mode is not LINK)
    if mode is LINK:
        return
    Path("out/manifest.csv").unlink()
    os.mkfifo("out/manifest.csv")
    for act in (lambda: undo(Path("out")), lambda: sort_into(Path("out"), say(), mode)):
        with pytest.raises(InputError, match="not a regular file"):
            act()

"""Images filed under their labels: nothing overwritten, nothing lost, whatever the names and whenever it is killed."""

import csv
import errno
import os
import shutil
import socket
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.errors import InputError, UsageError
from zeroshot_cli.filing.sort import Sorted, SortMode, check_sort_into, sort_into
from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage

COPY, MOVE, LINK = SortMode.COPY, SortMode.MOVE, SortMode.LINK
MODES = [COPY, MOVE, LINK]
HEADER = "action,label,source,target,link\n"
KILLED = 9
NOBODY = 65534
Say = Callable[[], Iterator[Result]]


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was to be on the disk before anything else was done; no test waits for that."""
    kinds: list[str] = []

    def note(descriptor: int) -> None:
        kinds.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", note)
    return kinds


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the working directory; its name is the one that realpath gives."""
    folder = tmp_path.resolve() / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def like(path: str, *labels: str, rejected: bool = False) -> Prediction:
    return Prediction(path, tuple(LabelScore(label, 0.3, 0.9) for label in labels), rejected=rejected)


def say(*items: Result) -> Say:
    return lambda: iter(items)


def draw(path: str, content: str = "") -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(os.fsencode(content or f"picture {path!r}"))
    return Path(path)


def rows(folder: Path) -> list[list[str]]:
    with (folder / "manifest.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file))


def tree(folder: Path) -> dict[str, str]:
    """Return every file below a folder with its content, links followed."""
    names = (os.path.join(top, name) for top, _, names in os.walk(folder) for name in names)  # noqa: PTH118
    return {
        os.path.relpath(n, folder): os.fsdecode(Path(n).read_bytes()) if Path(n).exists() else "dangling" for n in names
    }


def filed(folder: Path) -> dict[str, str]:
    return {name: content for name, content in tree(folder).items() if "manifest" not in name}


# what goes where


def test_copies_leave_the_sources_and_keep_time_and_mode(here: Path) -> None:
    draw("in/a.jpg", "A").chmod(0o640)
    os.utime("in/a.jpg", ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
    draw("in/sub/b.jpg", "B")
    results = say(like("in/a.jpg", "cat"), SkippedImage("in/bad.jpg", "damaged"), like("in/sub/b.jpg", "dog", "cat"))
    assert sort_into(Path("out"), results, COPY) == Sorted(filed=2, already=0, failed=())
    assert filed(here / "out") == {"cat/a.jpg": "A", "dog/b.jpg": "B"}
    assert tree(here / "in") == {"a.jpg": "A", "sub/b.jpg": "B"}
    status = (here / "out/cat/a.jpg").stat()
    assert (status.st_mtime_ns, stat.S_IMODE(status.st_mode)) == (1_400_000_000_987_654_321, 0o640)
    assert rows(here / "out") == [
        ["action", "label", "source", "target", "link"],
        ["copy", "cat", f"{here}/in/a.jpg", "cat/a.jpg", ""],
        ["copy", "dog", f"{here}/in/sub/b.jpg", "dog/b.jpg", ""],
    ]


def test_moves_take_the_file_itself(here: Path) -> None:
    inode = draw("in/a.jpg", "A").stat().st_ino
    assert sort_into(Path("out"), say(like("in/a.jpg", "cat")), MOVE) == Sorted(1, 0, ())
    assert (here / "out/cat/a.jpg").stat().st_ino == inode
    assert (here / "out/cat/a.jpg").stat().st_nlink == 1
    assert tree(here / "in") == {}


def test_links_are_absolute_and_resolve_from_anywhere(here: Path) -> None:
    draw("in/a.jpg", "A")
    sort_into(Path("out"), say(like("./in/../in/a.jpg", "cat")), LINK)
    assert (here / "out/cat/a.jpg").readlink() == here / "in/a.jpg"
    (here / "out").rename(here / "elsewhere")
    assert filed(here / "elsewhere") == {"cat/a.jpg": "A"}


@pytest.mark.parametrize("mode", MODES)
def test_rejected_images_are_unknown_and_unreadable_ones_stay(here: Path, mode: SortMode) -> None:
    draw("a.jpg", "A"), draw("bad.jpg", "B")
    done = sort_into(Path("out"), say(SkippedImage("bad.jpg", "damaged"), like("a.jpg", "cat", rejected=True)), mode)
    assert done == Sorted(1, 0, ())
    assert filed(here / "out") == {"unknown/a.jpg": "A"}
    assert Path("bad.jpg").read_text() == "B"


@pytest.mark.parametrize("mode", [COPY, LINK])
def test_every_label_gets_the_image(here: Path, mode: SortMode) -> None:
    draw("a.jpg", "A"), draw("b.jpg", "B")
    results = say(like("a.jpg", "cat", "dog", "cat"), like("b.jpg", "cat", "dog", rejected=True))
    assert sort_into(Path("out"), results, mode, every_label=True) == Sorted(2, 0, ())
    assert filed(here / "out") == {"cat/a.jpg": "A", "dog/a.jpg": "A", "unknown/b.jpg": "B"}
    assert sort_into(Path("out"), results, mode, every_label=True) == Sorted(0, 2, ())
    assert len(rows(here / "out")) == 4


def test_a_file_cannot_be_moved_to_two_places(here: Path) -> None:
    with pytest.raises(UsageError, match=r"--sort-mode move cannot .* several labels; use copy or link"):
        sort_into(Path("out"), say(), MOVE, every_label=True)
    assert not Path("out").exists()


def test_progress_counts_images(here: Path) -> None:
    draw("a.jpg"), draw("b.jpg")
    seen: list[int] = []
    results = say(like("a.jpg", "x"), SkippedImage("c", "no"), like("gone", "x"), like("b.jpg", "x"))
    sort_into(Path("out"), results, MOVE, on_progress=seen.append)
    assert seen == [1, 2, 3]


def test_sentence() -> None:
    assert Sorted(1, 0, ()).sentence(Path("out")) == "1 image filed into out."
    done = Sorted(2, 3, (SkippedImage("a", "b"),))
    assert done.sentence(Path("out")) == "2 images filed into out, 3 already there, 1 could not be filed."


# names


@pytest.mark.parametrize("mode", MODES)
def test_clashes_get_numbers(here: Path, mode: SortMode) -> None:
    """Names of several sources, names in other letters, and a file that was there before."""
    for folder in "1234":
        draw(f"{folder}/photo.jpg", folder)
    draw("1/PHOTO.JPG", "caps"), draw("1/caf\u00e9.png", "nfc"), draw("2/cafe\u0301.png", "nfd")
    draw("out/cat/photo (2).jpg", "mine")
    paths = ["1/photo.jpg", "2/photo.jpg", "1/PHOTO.JPG", "3/photo.jpg", "1/caf\u00e9.png", "2/cafe\u0301.png"]
    results = say(*(like(path, "cat") for path in paths), like("4/photo.jpg", "dog"))
    assert sort_into(Path("out"), results, mode).filed == 7
    assert filed(here / "out") == {
        "cat/photo.jpg": "1",
        "cat/photo (2).jpg": "mine",
        "cat/photo (3).jpg": "2",
        "cat/PHOTO (4).JPG": "caps",
        "cat/photo (5).jpg": "3",
        "cat/caf\u00e9.png": "nfc",
        "cat/cafe\u0301 (2).png": "nfd",
        "dog/photo.jpg": "4",
    }
    assert sort_into(Path("out"), results, mode) == Sorted(0, 7, ())


@pytest.mark.parametrize("mode", MODES)
def test_a_name_taken_at_the_last_moment_is_not_overwritten(
    here: Path, mode: SortMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw("a.jpg", "A")
    call = "symlink" if mode is LINK else "link"
    real = getattr(os, call)

    def late(source: str, target: str) -> None:
        if not Path(target).exists() and "(" not in target:
            draw(target, "somebody else's")
        real(source, target)

    monkeypatch.setattr(os, call, late)
    assert sort_into(Path("out"), say(like("a.jpg", "cat")), mode).filed == 1
    assert filed(here / "out") == {"cat/a.jpg": "somebody else's", "cat/a (2).jpg": "A"}
    assert [row[3] for row in rows(here / "out")] == ["target", "cat/a (2).jpg"]


def test_long_names_leave_room_for_a_number(here: Path) -> None:
    long = "猫" * 83 + "xx.jpg"
    draw(f"1/{long}", "1"), draw(f"2/{long}", "2")
    draw("1/" + "." + "y" * 254, "3"), draw("2/" + "." + "y" * 254, "4")
    paths = [f"1/{long}", f"2/{long}", "1/." + "y" * 254, "2/." + "y" * 254]
    assert sort_into(Path("out"), say(*(like(path, "cat") for path in paths)), COPY).filed == 4
    assert filed(here / "out") == {
        f"cat/{long}": "1",
        "cat/" + "猫" * 82 + " (2).jpg": "2",
        "cat/." + "y" * 254: "3",
        "cat/." + "y" * 250 + " (2)": "4",
    }


HOSTILE_NAMES = [
    b"-rf.jpg",
    b"new\nline.jpg",
    b"return\r.jpg",
    b"\xff\xfe.jpg",
    b'quote",comma.jpg',
    b"<img src=x onerror=alert(1)>.png",
    b" .jpg",
    b"~",
    b"$(id).jpg",
    b"=cmd.jpg",
    b"no ending",
    b".zeroshot-unfinished",
]


@pytest.mark.parametrize("mode", MODES)
def test_any_file_name(here: Path, mode: SortMode) -> None:
    names = [os.fsdecode(name) for name in HOSTILE_NAMES]
    for name in names:
        draw(f"in/{name}", name)
    results = say(*(like(f"in/{name}", "cat") for name in names))
    assert sort_into(Path("out"), results, mode).filed == len(names)
    want = {f"cat/{name}": name for name in names[:-1]}
    assert filed(here / "out") == want | {"cat/.zeroshot-unfinished (2)": names[-1]}
    assert [row[2] for row in rows(here / "out")[1:]] == [f"{here}/in/{name}" for name in names]
    assert b"\xff\xfe.jpg,cat/\xff\xfe.jpg,\n" in Path("out/manifest.csv").read_bytes()
    assert sort_into(Path("out"), results, mode) == Sorted(0, len(names), ())


def test_labels_become_safe_folders_and_the_manifest_has_the_true_ones(here: Path) -> None:
    labels = ["../../etc", "a/b", "a:b", "A_B", "CON", "..", "", "new\nline", "manifest.csv", "-rf", "\ud800"]
    results = []
    for number, label in enumerate(labels):
        draw(f"{number}.jpg", str(number))
        results.append(like(f"{number}.jpg", label))
    assert sort_into(Path("out"), say(*results), COPY).failed == ()
    want = [".._.._etc", "a_b", "a_b (2)", "A_B (3)", "_CON", "_", "_ (2)", "new_line"]
    want += ["manifest.csv (2)", "-rf", "_ud800"]
    assert [row[3] for row in rows(here / "out")[1:]] == [f"{name}/{n}.jpg" for n, name in enumerate(want)]
    assert [row[1] for row in rows(here / "out")[1:-1]] == labels[:-1]
    assert sort_into(Path("out"), say(*results), COPY) == Sorted(0, len(labels), ())


def test_folders_follow_the_order_of_the_labels_and_those_of_earlier_runs(here: Path) -> None:
    for number in range(3):
        draw(f"{number}.jpg")
    sort_into(Path("out"), say(like("0.jpg", "A/B")), COPY, labels=["a/b", "A/B"])
    assert [row[3] for row in rows(here / "out")[1:]] == ["A_B (2)/0.jpg"]
    sort_into(Path("out"), say(like("1.jpg", "a:b"), like("2.jpg", "A/B")), COPY)
    assert [row[3] for row in rows(here / "out")[2:]] == ["a_b/1.jpg", "A_B (2)/2.jpg"]


def test_a_file_in_the_place_of_a_label_folder_stays(here: Path) -> None:
    draw("a.jpg", "A"), draw("out/cat", "mine")
    Path("out/dog").symlink_to("nowhere")
    draw("b.jpg", "B")
    assert sort_into(Path("out"), say(like("a.jpg", "cat"), like("b.jpg", "dog")), MOVE).filed == 2
    assert filed(here / "out") == {"cat": "mine", "dog": "dangling", "cat (2)/a.jpg": "A", "dog (2)/b.jpg": "B"}


# where things are


@pytest.mark.parametrize("mode", MODES)
def test_sorting_into_a_folder_among_the_images(here: Path, mode: SortMode) -> None:
    draw("a.jpg", "A"), draw("b.jpg", "B")
    sort_into(here, say(like("a.jpg", "cat"), like("b.jpg", "cat")), mode)
    kept = {} if mode is MOVE else {"a.jpg": "A", "b.jpg": "B"}
    assert filed(here) == kept | {"cat/a.jpg": "A", "cat/b.jpg": "B"}
    found = sorted([*kept, "cat/a.jpg", "cat/b.jpg"])  # what a search for images has now
    assert sort_into(here, say(*(like(path, "cat") for path in found)), mode) == Sorted(0, len(found), ())
    assert filed(here) == kept | {"cat/a.jpg": "A", "cat/b.jpg": "B"}


def test_copies_are_not_sorted_again_under_new_labels_but_moved_files_are(here: Path) -> None:
    draw("a.jpg", "A")
    sort_into(here, say(like("a.jpg", "cat")), COPY)
    for mode in MODES:
        with pytest.raises(UsageError, match=r"sorted by other labels as 'cat'; type zeroshot unsort \S+ first"):
            sort_into(here, say(like("a.jpg", "feline")), mode)
    assert sort_into(here, say(like("cat/a.jpg", "feline")), COPY) == Sorted(0, 1, ())
    assert filed(here) == {"a.jpg": "A", "cat/a.jpg": "A"}
    assert sort_into(here, say(like("cat/a.jpg", "tabby")), MOVE) == Sorted(1, 0, ())
    assert filed(here) == {"a.jpg": "A", "tabby/a.jpg": "A"}


@pytest.mark.parametrize("mode", MODES)
def test_an_image_in_its_place_stays_there(here: Path, mode: SortMode) -> None:
    draw("out/cat/a.jpg", "A")
    assert sort_into(Path("out"), say(like("out/cat/a.jpg", "cat")), mode) == Sorted(0, 1, ())
    Path("through").symlink_to("out")
    assert sort_into(Path("through"), say(like("through/cat/a.jpg", "cat")), mode) == Sorted(0, 1, ())
    assert filed(here / "out") == {"cat/a.jpg": "A"}
    gone = sort_into(Path("out"), say(like("out/cat/b.jpg", "cat")), mode)
    assert gone.failed == (SkippedImage("out/cat/b.jpg", "missing since it was classified"),)


def test_the_folder_may_be_named_in_another_way_the_next_time(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("in/a.jpg", "A")
    sort_into(Path("out"), say(like("in/a.jpg", "cat")), COPY)
    monkeypatch.chdir(here / "in")
    assert sort_into(here / "in" / ".." / "out", say(like("a.jpg", "cat")), COPY) == Sorted(0, 1, ())


# symbolic links as sources


def linked(here: Path) -> None:
    draw("in/real.jpg", "R")
    Path("in/relative.jpg").symlink_to("real.jpg")
    Path("in/absolute.jpg").symlink_to(here / "in/real.jpg")


def test_of_a_link_the_content_is_copied(here: Path) -> None:
    linked(here)
    sort_into(Path("out"), say(like("in/relative.jpg", "cat")), COPY)
    assert not (here / "out/cat/relative.jpg").is_symlink()
    assert filed(here / "out") == {"cat/relative.jpg": "R"}


def test_a_link_is_made_to_a_link(here: Path) -> None:
    linked(here)
    sort_into(Path("out"), say(like("in/relative.jpg", "cat")), LINK)
    assert (here / "out/cat/relative.jpg").readlink() == here / "in/relative.jpg"


def test_a_moved_link_leads_to_where_it_led(here: Path) -> None:
    linked(here)
    sort_into(Path("out"), say(like("in/relative.jpg", "cat"), like("in/absolute.jpg", "cat")), MOVE)
    assert (here / "out/cat/relative.jpg").readlink() == here / "in/real.jpg"
    assert (here / "out/cat/absolute.jpg").readlink() == here / "in/real.jpg"
    assert tree(here / "in") == {"real.jpg": "R"}
    assert [row[4] for row in rows(here / "out")[1:]] == ["real.jpg", f"{here}/in/real.jpg"]


def test_moved_links_follow_files_that_are_moved_too(here: Path) -> None:
    """In whatever order they come, and through a link that is moved itself."""
    linked(here)
    Path("in/chain.jpg").symlink_to("relative.jpg")
    names = ["chain.jpg", "absolute.jpg", "real.jpg", "relative.jpg"]
    results = say(*(like(f"in/{name}", name[0]) for name in names))
    assert sort_into(Path("out"), results, MOVE) == Sorted(4, 0, ())
    assert filed(here / "out") == {"c/chain.jpg": "R", "a/absolute.jpg": "R", "r/real.jpg": "R", "r/relative.jpg": "R"}
    assert tree(here / "in") == {}
    assert sort_into(Path("out"), results, MOVE) == Sorted(0, 4, ())


# what cannot be filed


@pytest.mark.parametrize("mode", MODES)
def test_what_has_gone_or_changed_its_nature_is_said(here: Path, mode: SortMode) -> None:
    draw("a.jpg", "A")
    os.mkfifo("pipe.jpg")
    Path("folder.jpg").mkdir()
    results = say(like("gone.jpg", "cat"), like("pipe.jpg", "cat"), like("folder.jpg", "cat"), like("a.jpg", "cat"))
    done = sort_into(Path("out"), results, mode)
    assert done.filed == 1
    assert done.failed == (
        SkippedImage("gone.jpg", "missing since it was classified"),
        SkippedImage("pipe.jpg", "no longer a file"),
        SkippedImage("folder.jpg", "no longer a file"),
    )
    assert filed(here / "out") == {"cat/a.jpg": "A"}
    assert len(rows(here / "out")) == 2


@pytest.mark.parametrize("mode", [COPY, LINK])
def test_a_link_that_dangles_is_gone(here: Path, mode: SortMode) -> None:
    Path("a.jpg").symlink_to("nowhere")
    done = sort_into(Path("out"), say(like("a.jpg", "cat")), mode)
    assert done.failed == (SkippedImage("a.jpg", "missing since it was classified"),)


@contextmanager
def not_root() -> Iterator[None]:
    """Give up root's right to do everything for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of nobody's, where nobody is the user for the time of a call."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        folder.chmod(0o777)
        monkeypatch.chdir(folder)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
            Path(cache).chmod(0o777)
            monkeypatch.setenv("ZEROSHOT_CACHE_DIR", cache)
            yield folder


def test_a_folder_that_may_not_be_written_to_is_refused(public: Path) -> None:
    (public / "shut").mkdir(mode=0o555)
    for target in ("shut", "shut/new/folder"):
        with not_root(), pytest.raises(UsageError, match=r"cannot sort into shut.*: .*shut is not writable"):
            check_sort_into(Path(target), COPY)
    (public / "locked").mkdir(mode=0)
    with not_root(), pytest.raises(UsageError, match="cannot write locked/out: Permission denied"):
        check_sort_into(Path("locked/out"), COPY)


def test_images_that_may_not_be_read_moved_or_put_there(public: Path) -> None:
    draw("in/a.jpg", "A").chmod(0o600)
    draw("in/b.jpg", "B")
    (public / "in").chmod(0o755)  # nobody may not take files out of it
    (public / "out/shut").mkdir(parents=True)
    (public / "out").chmod(0o777)
    with not_root():
        copied = sort_into(Path("out"), say(like("in/a.jpg", "cat"), like("in/b.jpg", "shut")), COPY)
        moved = sort_into(Path("out"), say(like("in/b.jpg", "cat")), MOVE)
    denied = ("in/a.jpg", "in/b.jpg")
    assert copied == Sorted(0, 0, tuple(SkippedImage(path, "permission denied") for path in denied))
    assert moved == Sorted(0, 0, (SkippedImage("in/b.jpg", "permission denied"),))
    assert filed(public / "out") == {}
    assert tree(public / "in") == {"a.jpg": "A", "b.jpg": "B"}
    assert len(rows(public / "out")) == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("file", r"cannot sort into file: file is not a folder; name another place"),
        ("file/below", r"cannot sort into file/below: .*/file is not a folder"),
        ("dangling", r"cannot sort into dangling: dangling is not a folder"),
        ("x" * 256, r"cannot write x+: File name too long"),
    ],
)
def test_folders_that_cannot_be(here: Path, target: str, message: str) -> None:
    draw("file"), Path("dangling").symlink_to("nowhere")
    for refuse in (lambda: check_sort_into(Path(target), COPY), lambda: sort_into(Path(target), say(), COPY)):
        with pytest.raises(UsageError, match=message):
            refuse()


def test_a_check_leaves_no_trace(here: Path) -> None:
    check_sort_into(Path("new/folder"), COPY)
    assert list(here.iterdir()) == []


# disks


def across(a: str, b: str) -> bool:
    return Path(a).parent != Path(b).parent


@pytest.fixture
def two_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder is a file system of its own."""
    two_disks_in(monkeypatch.setattr)


def two_disks_in(patch: Callable[[Any, str, Any], None]) -> None:
    for name in ("link", "replace", "rename"):
        patch(os, name, _refusing(getattr(os, name)))


def _refusing(real: Callable[[str, str], None]) -> Callable[[str, str], None]:
    def call(source: str, target: str) -> None:
        if across(source, target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source)
        real(source, target)

    return call


def no_hard_links_in(patch: Callable[[Any, str, Any], None]) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), source)

    patch(os, "link", refuse)


def test_moving_to_another_disk_copies_and_removes(here: Path, two_disks: None, synced: list[str]) -> None:
    os.utime(draw("in/a.jpg", "A"), ns=(10**18, 10**18))
    assert sort_into(Path("out"), say(like("in/a.jpg", "cat")), MOVE) == Sorted(1, 0, ())
    assert filed(here / "out") == {"cat/a.jpg": "A"}
    assert (here / "out/cat/a.jpg").stat().st_mtime_ns == 10**18
    assert tree(here / "in") == {}
    assert synced[-2:] == ["file", "folder"]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no second disk at a known place")
def test_moving_to_a_real_other_disk(here: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        draw("a.jpg", "A")
        assert sort_into(Path(other), say(like("a.jpg", "cat")), MOVE) == Sorted(1, 0, ())
        assert filed(Path(other)) == {"cat/a.jpg": "A"}
        assert not Path("a.jpg").exists()


@pytest.mark.parametrize("mode", MODES)
def test_a_disk_without_hard_links(here: Path, mode: SortMode, monkeypatch: pytest.MonkeyPatch) -> None:
    no_hard_links_in(monkeypatch.setattr)
    draw("a.jpg", "A"), draw("1/a.jpg", "B")
    assert sort_into(Path("out"), say(like("a.jpg", "cat"), like("1/a.jpg", "cat")), mode).filed == 2
    assert filed(here / "out") == {"cat/a.jpg": "A", "cat/a (2).jpg": "B"}


def test_a_move_whose_copy_fails_keeps_the_source(here: Path, two_disks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(reader: Any, writer: Any, length: int) -> None:
        writer.write(b"half")
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    draw("in/a.jpg", "A")
    monkeypatch.setattr(shutil, "copyfileobj", broken)
    done = sort_into(Path("out"), say(like("in/a.jpg", "cat")), MOVE)
    assert done == Sorted(0, 0, (SkippedImage("in/a.jpg", "input/output error"),))
    monkeypatch.setattr(shutil, "copyfileobj", lambda reader, writer, length: writer.write(b"hal"))
    done = sort_into(Path("out"), say(like("in/a.jpg", "cat")), MOVE)
    assert done.failed == (SkippedImage("in/a.jpg", "the file changed while it was being copied"),)
    assert (tree(here / "in"), filed(here / "out"), len(rows(here / "out"))) == ({"a.jpg": "A"}, {}, 1)


def test_a_source_that_cannot_be_removed_is_not_doubled(
    here: Path, two_disks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(path: str) -> None:
        if path.endswith("in/a.jpg"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        unlink(path)

    unlink = os.unlink
    draw("in/a.jpg", "A")
    monkeypatch.setattr(os, "unlink", keep)
    done = sort_into(Path("out"), say(like("in/a.jpg", "cat")), MOVE)
    assert done.failed == (SkippedImage("in/a.jpg", "permission denied"),)
    assert (tree(here / "in"), filed(here / "out")) == ({"a.jpg": "A"}, {})


@pytest.mark.parametrize("mode", [COPY, MOVE])
def test_a_full_disk_ends_with_one_sentence(
    here: Path, mode: SortMode, two_disks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(reader: Any, writer: Any, length: int) -> None:
        content = reader.read()
        if content == b"B":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        writer.write(content)

    for name in ("a", "b", "c"):
        draw(f"in/{name}.jpg", name.upper())
    results = say(*(like(f"in/{name}.jpg", "cat") for name in "abc"))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(
            UsageError, match=r"cannot write to .*out: no space left on device; .*free some space and run"
        ):
            sort_into(Path("out"), results, mode)
    assert filed(here / "out") == {"cat/a.jpg": "A"}
    assert [row[3] for row in rows(here / "out")[1:]] == ["cat/a.jpg"]
    assert sort_into(Path("out"), results, mode) == Sorted(2, 1, ())
    assert filed(here / "out") == {"cat/a.jpg": "A", "cat/b.jpg": "B", "cat/c.jpg": "C"}


def test_a_disk_too_full_for_the_manifest(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(descriptor: int, data: bytes) -> int:
        if b"b.jpg" not in data:
            return write(descriptor, data)
        if data.startswith(b"move"):
            return write(descriptor, data[:7])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write = os.write
    draw("a.jpg", "A"), draw("b.jpg", "B")
    monkeypatch.setattr(os, "write", torn)
    with pytest.raises(UsageError, match=r"cannot write .*out/manifest.csv: No space left on device"):
        sort_into(Path("out"), say(like("a.jpg", "cat"), like("b.jpg", "cat")), MOVE)
    assert Path("out/manifest.csv").read_text() == f"{HEADER}move,cat,{here}/a.jpg,cat/a.jpg,\n"
    assert tree(here) == {"b.jpg": "B", "out/cat/a.jpg": "A", "out/manifest.csv": Path("out/manifest.csv").read_text()}


# the manifest


def test_the_manifest_of_an_earlier_run_is_gone_on_with(here: Path) -> None:
    draw("a.jpg", "A"), draw("b.jpg", "B")
    sort_into(Path("out"), say(like("a.jpg", "cat")), COPY)
    before = Path("out/manifest.csv").read_bytes()
    assert sort_into(Path("out"), say(like("a.jpg", "cat"), like("b.jpg", "cat")), LINK) == Sorted(2, 0, ())
    assert Path("out/manifest.csv").read_bytes().startswith(before)
    assert filed(here / "out") == {"cat/a.jpg": "A", "cat/a (2).jpg": "A", "cat/b.jpg": "B"}


def test_what_was_taken_away_or_changed_is_filed_anew(here: Path) -> None:
    for name in "abc":
        draw(f"{name}.jpg", name)
    results = say(*(like(f"{name}.jpg", "cat") for name in "abc"))
    sort_into(Path("out"), results, COPY)
    Path("out/cat/a.jpg").unlink()
    draw("b.jpg", "b, new")
    os.utime("c.jpg", ns=(1, 1))  # the same content at another time is no other file
    assert sort_into(Path("out"), results, COPY) == Sorted(2, 1, ())
    assert filed(here / "out") == {"cat/a.jpg": "a", "cat/b.jpg": "b", "cat/b (2).jpg": "b, new", "cat/c.jpg": "c"}


def test_a_new_file_at_the_place_of_a_moved_one_is_moved_too(here: Path) -> None:
    for name in ("old", "new"):
        draw("a.jpg", name), draw("b.jpg", f"{name} b")
        assert sort_into(Path("out"), say(like("a.jpg", "cat"), like("b.jpg", "cat")), MOVE) == Sorted(2, 0, ())
    want = {"cat/a.jpg": "old", "cat/a (2).jpg": "new", "cat/b.jpg": "old b", "cat/b (2).jpg": "new b"}
    assert filed(here / "out") == want


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_torn_last_line_is_repaired(here: Path, cut: int) -> None:
    """Also where it is cut within quotes, just after a line break."""
    draw("a\nb,.jpg", "A"), draw("c\n.jpg", "C")
    sort_into(Path("out"), say(like("a\nb,.jpg", "cat")), COPY)
    whole = Path("out/manifest.csv").read_bytes()
    last = f'copy,dog,"{here}/c\n.jpg","dog/c\n.jpg",\n'.encode()
    Path("out/manifest.csv").write_bytes(whole + last[:-cut])
    assert sort_into(Path("out"), say(like("a\nb,.jpg", "cat"), like("c\n.jpg", "dog")), COPY) == Sorted(1, 1, ())
    assert Path("out/manifest.csv").read_bytes() == whole + last


@pytest.mark.parametrize("size", range(len(HEADER)))
def test_a_torn_header_is_repaired(here: Path, size: int) -> None:
    draw("out/manifest.csv", HEADER).write_text(HEADER[:size])
    sort_into(Path("out"), say(), COPY)
    assert Path("out/manifest.csv").read_text() == HEADER


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\n", "line 1: not a manifest of sorted images; its columns are not action,label,"),
        ("hello", "line 1: not a manifest"),
        (HEADER + "copy,cat,/a.jpg\n", "line 2: not an entry with the columns action,"),
        (HEADER + 'copy,"c\nat",/a,cat/a,\nsteal,cat,/a.jpg,cat/a.jpg,\n', "line 4: not an entry"),
        (HEADER + 'copy,cat,/a.jpg,"cat/a"b.jpg,\n', "line 2: not an entry"),
        (HEADER + "copy,cat,a.jpg,cat/a.jpg,\n", "line 2: the source 'a.jpg' is not an absolute path"),
        (HEADER + "copy,cat,/a.jpg,../a.jpg,\n", "line 2: the target '../a.jpg' is not a file in a folder beside"),
        (HEADER + "copy,cat,/a.jpg,/etc/passwd,\n", "line 2: the target '/etc/passwd' is not"),
        (HEADER + "copy,cat,/a.jpg,a.jpg,\n", "line 2: the target 'a.jpg' is not"),
        (HEADER + 'copy,cat,"/a,cat/a,\nmove,cat,/b,cat/b,\n', "line 2: a quotation mark is never closed"),
    ],
)
def test_a_file_that_is_no_manifest_is_left_alone(here: Path, content: str, message: str) -> None:
    draw("out/manifest.csv", content), draw("a.jpg")
    for act in (
        lambda: check_sort_into(Path("out"), COPY),
        lambda: sort_into(Path("out"), say(like("a.jpg", "cat")), COPY),
    ):
        with pytest.raises(InputError, match=f"^.*out/manifest.csv, {message}"):
            act()
    assert filed(here / "out") == {}
    assert Path("out/manifest.csv").read_text() == content


def test_two_at_once_are_refused(here: Path) -> None:
    draw("a.jpg")

    def meddle() -> Iterator[Result]:
        with pytest.raises(UsageError, match=r"manifest.csv is in use by another zeroshot process; wait"):
            sort_into(Path("out"), say(like("a.jpg", "dog")), COPY)
        yield like("a.jpg", "cat")

    assert sort_into(Path("out"), meddle, COPY) == Sorted(1, 0, ())
    assert list(filed(here / "out")) == ["cat/a.jpg"]


def test_a_socket_is_no_manifest(here: Path) -> None:
    Path("out").mkdir()
    with socket.socket(socket.AF_UNIX) as pipe:
        pipe.bind("out/manifest.csv")
        with pytest.raises(InputError, match=r"manifest.csv, line 1: .* it is not a regular file"):
            sort_into(Path("out"), say(), COPY)


# killed at any moment


STEPS = ("open", "write", "fsync", "link", "replace", "symlink", "unlink", "ftruncate", "mkdir", "rmdir")
DISKS: dict[str, Callable[[Callable[[Any, str, Any], None]], None]] = {
    "one disk": lambda patch: None,
    "two disks": two_disks_in,
    "no hard links": no_hard_links_in,
}


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Do something in a process that is gone at its n-th change to the disk; False if it came to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process with threads
        child = os.fork()
    if child == 0:
        try:
            _die_at(step)
            act()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


def _die_at(step: int) -> None:
    left = step

    def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if name == "write":  # half a line
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                if name == "copyfileobj":  # half a picture
                    arguments[1].write(b"half")
                    arguments[1].flush()
                os._exit(KILLED)
            return real(*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, counting(name, getattr(os, name)))
    shutil.copyfileobj = counting("copyfileobj", shutil.copyfileobj)


def prepare(here: Path) -> Say:
    """Three images of one name and a link, in an empty working directory."""
    for entry in here.iterdir():
        shutil.rmtree(entry)
    for number in "12":
        draw(f"in/{number}/a.jpg", number * 5)
    Path("in/2/b.jpg").symlink_to("../1/a.jpg")
    return say(like("in/1/a.jpg", "cat"), like("in/2/b.jpg", "dog"), like("in/2/a.jpg", "cat"))


SORTED = {"cat/a.jpg": "11111", "cat/a (2).jpg": "22222", "dog/b.jpg": "11111"}


@pytest.mark.slow
@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("mode", MODES)
def test_killed_at_every_step_and_gone_on_with(
    here: Path, mode: SortMode, disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    DISKS[disk](monkeypatch.setattr)
    step, killed = 0, True
    while killed:
        step += 1
        results = prepare(here)
        killed = killed_at(step, lambda results=results: sort_into(Path("out"), results, mode))
        done = sort_into(Path("out"), results, mode)
        assert (done.filed + done.already, done.failed) == (3, ()), step
        assert filed(here / "out") == SORTED, step
        kept = {} if mode is MOVE else {"1/a.jpg": "11111", "2/a.jpg": "22222", "2/b.jpg": "11111"}
        assert tree(here / "in") == kept, step
        targets = [row[3] for row in rows(here / "out")[1:]]
        assert sorted(targets) == sorted(SORTED), step
        assert all(path.stat().st_nlink == 1 for path in (here / "out").glob("*/*.jpg")), step
        assert sort_into(Path("out"), results, mode) == Sorted(0, 3, ()), step
    assert step > 10

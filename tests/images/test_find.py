import io
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from zeroshot_cli.errors import DataError, UnreadableImage
from zeroshot_cli.images.decode import decode
from zeroshot_cli.images.find import IMAGE_SUFFIXES, find_images
from zeroshot_cli.records import SkippedImage

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that any user of the machine can walk into, which pytest's own is not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def not_root() -> Iterator[None]:
    """Give up root's right to read everything for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_folders_are_recursive_sorted_by_path_and_count_other_files(folder: Path) -> None:
    touch("p/b.jpg", "p/a/z.PNG", "p/a/notes.txt", "p/c.webp", "p/B.jpeg", "p/.DS_Store", "p/none/readme.md", "p/jpg")
    found = find_images(["p"])
    assert found.items == ("p/B.jpeg", "p/a/z.PNG", "p/b.jpg", "p/c.webp")
    assert found.ignored == 4


def test_order_is_that_of_the_inputs_and_paths_stay_as_given(folder: Path) -> None:
    touch("p/b.jpg", "p/a.jpg", "z.jpg", "label")
    found = find_images(["z.jpg", "./p/", "label", str(folder / "p" / ".." / "z.jpg")])
    assert found.items == ("z.jpg", "./p/a.jpg", "./p/b.jpg", "label")


def test_an_input_named_twice_is_one_row(folder: Path) -> None:
    touch("p/a.jpg", "p/b.jpg")
    found = find_images(["p/b.jpg", "./p/b.jpg", "p", str(folder / "p"), "p//a.jpg", "no.jpg", "./no.jpg", "p/*.jpg"])
    assert found.items == ("p/b.jpg", "p/a.jpg", SkippedImage("no.jpg", "no such file"))


def test_missing_inputs_are_rows(folder: Path) -> None:
    touch("a.jpg")
    inputs = ["no.jpg", "a.jpg/b.jpg", "", "nul\0.jpg", "no/*.jpg", "a.jpg"]
    assert find_images(inputs).items == (
        *(SkippedImage(name, "no such file") for name in inputs[:4]),
        SkippedImage("no/*.jpg", "no file matches this pattern"),
        "a.jpg",
    )


def test_globs(folder: Path) -> None:
    touch("p/b.jpg", "p/a.jpg", "p/c.txt", "p/q/d.jpg", "p/q/r/e.jpg", "p/[x].jpg", "x.jpg", "p/x.jpg")
    assert find_images(["p/?.*"]).items == ("p/a.jpg", "p/b.jpg", "p/c.txt", "p/x.jpg")
    assert find_images(["p/[x].jpg"]).items == ("p/[x].jpg",)  # a file of that very name comes first
    assert find_images(["p/[ab].jpg", "p/q*"]).items == ("p/a.jpg", "p/b.jpg", "p/q/d.jpg", "p/q/r/e.jpg")
    assert find_images(["p/**/[de].jpg"]).items == ("p/q/d.jpg", "p/q/r/e.jpg")
    assert find_images(["**/x.jpg"]).items == ("p/x.jpg", "x.jpg")
    assert find_images([f"{folder}/**/r/**/e.jpg"]).items == (f"{folder}/p/q/r/e.jpg",)
    everything = {"p/[x].jpg", "p/a.jpg", "p/b.jpg", "p/q/d.jpg", "p/q/r/e.jpg", "p/x.jpg"}
    assert set(find_images(["p/**"]).items) == everything


def test_stdin(folder: Path) -> None:
    touch("a b.jpg", "p/c.jpg", "[x].jpg", "new\nline.jpg", "return\r")
    stream = io.BytesIO(b"a b.jpg\r\n\np\nno.jpg\n[x].jpg\n*.jpg\nreturn\r")
    missing = [SkippedImage(name, "no such file") for name in ("no.jpg", "*.jpg")]
    expected = ("first.jpg", "a b.jpg", "p/c.jpg", missing[0], "[x].jpg", missing[1], "return\r")
    touch("first.jpg")
    assert find_images(["first.jpg", "-"], stdin=stream).items == expected
    stream = io.BytesIO(b"new\nline.jpg\0a b.jpg\0")
    assert find_images(["-"], stdin=stream, null_separated=True).items == ("new\nline.jpg", "a b.jpg")


def test_names_of_any_bytes(folder: Path) -> None:
    name = b"caf\xe9 \xff\n.jpg"
    Image.new("RGB", (2, 3), "red").save(folder / "a.png")
    (folder / "a.png").rename(os.fsdecode(bytes(folder) + b"/" + name))
    (path,) = find_images(["."]).items
    assert isinstance(path, str)
    assert os.fsencode(path) == b"./" + name
    assert decode(path).size == (2, 3)
    assert find_images(["-"], stdin=io.BytesIO(name + b"\0"), null_separated=True).items == (os.fsdecode(name),)


def test_loops_of_links_end_and_images_go_by_their_own_path(folder: Path) -> None:
    touch("p/z/a.jpg", "out/b.jpg")
    Path("p/a-link").symlink_to("z")
    Path("p/z/up").symlink_to("../../p")
    Path("p/z/self").symlink_to("self")
    Path("p/z/self.jpg").symlink_to("self.jpg")
    Path("p/out1").symlink_to("../out")
    Path("p/out2").symlink_to("../out")
    assert find_images(["p"]).items == ("p/out1/b.jpg", "p/z/a.jpg", "p/z/self", "p/z/self.jpg")
    assert find_images(["p/**/*.jpg"]).items == ("p/out1/b.jpg", "p/z/a.jpg", "p/z/self.jpg")
    with pytest.raises(UnreadableImage, match=r"^a link that leads back to itself$"):
        decode("p/z/self.jpg")


def test_a_dangling_link_in_a_folder_is_a_row(folder: Path) -> None:
    touch("p/a.jpg")
    for name in ("p/b.jpg", "p/folder", "p/notes.txt"):
        Path(name).symlink_to("nowhere")
    found = find_images(["p", "p/b.jpg"])
    assert found.items == ("p/a.jpg", "p/b.jpg", "p/folder")
    assert found.ignored == 1
    for name in found.items[1:]:
        with pytest.raises(UnreadableImage, match=r"^a dangling link$"):
            decode(str(name))


def test_folders_and_files_without_rights(public_folder: Path) -> None:
    root = public_folder
    for name in ("a.png", "locked/b.png", "sub/shut/c.png", "d.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(root / name)
    (root / "through").symlink_to("locked/b.png")
    locked = [root / "a.png", root / "locked", root / "sub" / "shut"]
    for path in locked:
        path.chmod(0)
    try:
        with not_root():
            found = find_images([str(root), str(root / "locked" / "b.png")])
            for path in (root / "a.png", root / "locked" / "b.png", root / "through"):
                with pytest.raises(UnreadableImage, match=r"^permission denied$"):
                    decode(str(path))
            assert decode(str(root / "d.png")).size == (2, 2)
    finally:
        for path in locked:
            path.chmod(stat.S_IRWXU)
    assert found.items == (
        f"{root}/a.png",
        f"{root}/d.png",
        SkippedImage(f"{root}/locked", "permission denied"),
        SkippedImage(f"{root}/sub/shut", "permission denied"),
        f"{root}/through",
        f"{root}/locked/b.png",
    )


@pytest.mark.parametrize("inputs", [[], ["p"], ["-"], ["p", "q"]])
def test_no_image_at_all_is_an_error(folder: Path, inputs: list[str]) -> None:
    touch("p/a.txt", "q/b.md")
    with pytest.raises(DataError, match=r"no image found in .*; give image files, or a folder"):
        find_images(inputs, stdin=io.BytesIO(b"\n"))


def test_suffixes_are_lower_case_with_dot() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tiff", ".heic"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


@pytest.mark.parametrize(("count", "others"), [(0, ""), (1, " among 1 other file"), (2, " among 2 other files")])
def test_the_error_counts_the_other_files(tmp_path: Path, count: int, others: str) -> None:
    for number in range(count):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(DataError) as caught:
        find_images([str(tmp_path)])
    assert f"no image found in {tmp_path}{others}; " in str(caught.value)

"""Inputs as people have them, through the commands: a typo loads and writes nothing, what is left out is said."""

import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from zeroshot_cli.cli import app as entry

ERROR = "error: "


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a NAS and a camera leave it."""
    monkeypatch.chdir(tmp_path)
    draw("photos/red.png", "red"), draw("photos/blue.png", "blue")
    draw("photos/@eaDir/red.png/SYNOPHOTO_THUMB_M.png", "red"), draw("photos/#recycle/old.png", "red")
    for name in ("photos/a.CR2", "photos/b.cr2", "photos/notes.pdf", "photos/._red.png"):
        Path(name).write_bytes(b"\0\5\x16\7 something")
    return tmp_path


def draw(name: str, colour: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(name)


def run(*arguments: object) -> int:
    return entry.run(list(map(str, arguments)))


def classify(*arguments: object) -> int:
    return run("classify", *arguments, "--label", "red", "--label", "blue", "--model", "tiny", "--precision", "fp32")


def tree() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


LEFT_OUT = (
    "assumed: 3 files left out: .cr2 2, .pdf 1; "
    "3 hidden or system images left out: #recycle 1, ._* 1, @eaDir 1; --all-files takes them\n"
)


def test_thumbnails_and_trash_stay_where_they_are_when_images_are_moved(capsys: pytest.CaptureFixture[str]) -> None:
    before = tree()
    assert classify("photos", "--sort-into", "sorted", "--sort-mode", "move", "-o", "out.csv") == 0
    after = tree()
    assert [name for name in before if name not in after] == ["photos/blue.png", "photos/red.png"]
    rows = csv.DictReader(Path("out.csv").read_text().splitlines())
    assert [row["path"] for row in rows] == ["photos/blue.png", "photos/red.png"]
    assert LEFT_OUT in capsys.readouterr().err


def test_every_command_leaves_out_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    model = ("--model", "tiny", "--precision", "fp32")
    assert run("embed", "photos", "-o", "out.npz", *model) == 0
    assert LEFT_OUT in capsys.readouterr().err
    draw("set/photos/x.png", "red"), draw("set/@eaDir/y.png", "red"), draw("set/other/z.png", "blue")
    for name in ("red.png", "._red.png"):
        Path("photos", name).rename(Path("set/photos", name))
    assert run("eval", "set", "--output", "out.json", *model) == 0
    said = capsys.readouterr().err
    assert "1 hidden or system folder left out: @eaDir; --all-files takes them" in said
    assert "1 hidden or system image left out: ._* 1; --all-files takes them" in said


def test_all_files_and_exclude(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert classify("photos", "--all-files") == 4  # the AppleDouble is no image
    assert capsysbinary.readouterr().out.count(b"\n") == 1 + 5
    assert classify("photos", "--exclude", "BLUE*", "--exclude", "nothing") == 0
    ended = capsysbinary.readouterr()
    assert b"blue.png" not in ended.out
    assert b"1 image left out by --exclude" in ended.err


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_a_mistyped_folder_loads_and_writes_nothing(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the model is loaded")

    monkeypatch.setattr("zeroshot_cli.cli.options.RuntimeOptions.load", load)
    before = tree()
    labels = ["--label", "red"] if command == "classify" else []
    output = "out.csv" if command == "classify" else "out.npz"
    assert run(command, "phots", *labels, "-o", output, "--model", "tiny") == 2
    assert capsys.readouterr().err.startswith(f"{ERROR}phots: no such file or folder; did you mean photos?")
    assert tree() == before


def test_a_mistyped_folder_among_others_is_a_row(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert classify("phots", "photos") == 4
    assert b"\nphots,,,,,no such file\n" in capsysbinary.readouterr().out.replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["https:/a.org/x.jpg"], "no such file or folder; did you mean https://a.org/x.jpg?"),
        (["photos", "foo://bucket/x.jpg"], "foo://bucket/x.jpg: unknown scheme foo://; known are s3://"),
        (["-"], "standard input is a PNG image, and - reads paths, one a line"),
    ],
)
def test_what_is_no_path_is_refused_in_one_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(Path("photos/red.png").read_bytes()))
    monkeypatch.setattr("sys.stdin", stream)
    assert classify(*arguments, "-o", "out.csv") == 2
    said = capsys.readouterr().err
    assert said.startswith(ERROR)
    assert sentence in said
    assert not Path("out.csv").exists()


def test_sorting_again_by_other_words_is_refused_and_unsort_named(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["photos", "--sort-into", "sorted", "--model", "tiny", "--precision", "fp32"]
    assert run("classify", *arguments, "--label", "red", "--label", "blue") == 0
    assert run("classify", *arguments, "--label", "red", "--label", "blue") == 0  # the same words: already there
    before = tree()
    capsys.readouterr()
    assert run("classify", *arguments, "--label", "apple", "--label", "sky") == 2
    assert "; type zeroshot unsort sorted first, or name another folder" in capsys.readouterr().err
    assert tree() == before
    assert run("unsort", "sorted") == 0
    assert run("classify", *arguments, "--label", "apple", "--label", "sky") == 0


@pytest.mark.parametrize("images", ["photos", "./photos/", "phot*", "link"])
def test_sorting_a_folder_into_itself_is_refused(images: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("link").symlink_to("photos")
    before = tree()
    for mode in ("copy", "move", "link"):
        assert classify(images, "--sort-into", "photos", "--sort-mode", mode) == 2
        said = capsys.readouterr().err
        assert said.startswith(ERROR)
        assert "zeroshot unsort" in said
    assert tree() == before


@pytest.mark.parametrize("kind", ["a link", "a file of the user's"])
@pytest.mark.parametrize("name", ["out.html.run.json", "out.html.run.jsonl"])
def test_what_lies_beside_an_output_is_not_overwritten(
    name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "a link":
        Path("precious").write_text("mine")
        Path(name).symlink_to("precious")
    else:
        Path(name).write_text("my notes")
    before = tree()
    assert classify("photos", "-o", "out.html", "--overwrite") == 2
    assert capsys.readouterr().err.startswith(f"{ERROR}cannot write {name}: ")
    assert tree() == before

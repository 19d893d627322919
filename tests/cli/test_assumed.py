"""What commands take for granted: said in one line, listed by --verbose, kept in records, JSON and pages."""

import html
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from zeroshot_cli.cli.app import run
from zeroshot_cli.clip.config import config_from_dict
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.console.terminal import assumed_lines
from zeroshot_cli.images import find
from zeroshot_cli.models.formats.open_clip import to_disk
from zeroshot_cli.words import labels

COLOURS = {"blue": (0, 0, 255), "green": (0, 128, 0), "red": (255, 0, 0), "white": (255, 255, 255)}
FILES, FRAMES = ("12 files left out (.cr2 7, .pdf 5)", "2 images of several frames: the first")
WORDS = "labels from key names (words.yaml)"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 10), colour).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def assuming_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of images and labels that took something for granted."""
    find_images, read_labels = find.find_images, labels.read_labels

    def found(*given: Any, **more: Any) -> Any:
        return replace(find_images(*given, **more), assumed=(FILES, FRAMES))

    monkeypatch.setattr(find, "find_images", found)
    monkeypatch.setattr(labels, "read_labels", lambda path: replace(read_labels(path), notes=(WORDS,)))


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.yaml"
    path.write_text("[cat, dog]")
    return path


@pytest.fixture
def table(pictures: Path) -> Path:
    """A table as a German Excel writes it, in UTF-16 and with semicolons, under names of its own."""
    path = pictures / "table.csv"
    rows = [("File", "Class"), *((f"{name}.png", f"colour {name}") for name in COLOURS)]
    path.write_bytes("".join(f"{image};{text}\n" for image, text in rows).encode("utf-16"))
    return path


def test_one_line_names_three_and_verbose_lists_all() -> None:
    notes = ("a", "b", "c", "d")
    assert assumed_lines((), verbose=False) == assumed_lines((), verbose=True) == []
    assert assumed_lines(notes[:3], verbose=False) == ["assumed: a; b; c"]
    assert assumed_lines(notes, verbose=False) == ["assumed: a; b; c; --verbose lists all 4"]
    assert assumed_lines(notes, verbose=True) == [f"assumed: {note}" for note in notes]


@pytest.mark.usefixtures("small_model", "assuming_readers")
def test_classify_says_it_and_keeps_it(
    tmp_path: Path, pictures: Path, words: Path, classify: Callable[..., Any]
) -> None:
    out, page = tmp_path / "out.csv", tmp_path / "out.html"
    done = classify(pictures, "--labels", words, "--output", out, "--output", page)
    assert done.err.splitlines()[0] == f"assumed: {FILES}; {FRAMES}; {WORDS}"
    record = json.loads(Path(f"{out}.run.json").read_text())
    assert record["assumed"] == [FILES, FRAMES, WORDS]
    about = page.read_text().partition('id="about">')[2].partition("</script>")[0]
    assert ["assumed", f"{FILES}\n{FRAMES}\n{WORDS}"] in json.loads(about)
    again = classify(pictures, "--labels", words, "--output", out, "--output", page, "--resume", "--verbose")
    assert [line for line in again.err.splitlines() if "assumed" in line] == [
        f"assumed: {FILES}",
        f"assumed: {FRAMES}",
        f"assumed: {WORDS}",
    ]
    assert classify(pictures, "--labels", words, "--quiet").err == ""


@pytest.mark.usefixtures("small_model")
def test_where_nothing_was_assumed_nothing_is_said(
    tmp_path: Path, pictures: Path, words: Path, classify: Callable[..., Any]
) -> None:
    done = classify(pictures, "--labels", words, "--output", tmp_path / "out.html", "--verbose")
    assert "assumed:" not in done.err
    assert '"assumed"' not in (tmp_path / "out.html").read_text()


@pytest.mark.usefixtures("small_model", "assuming_readers")
def test_embed_and_build_say_it(
    tmp_path: Path, pictures: Path, words: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["embed", str(pictures), "--output", str(tmp_path / "a.npz")]) == 0
    assert capsys.readouterr().err.splitlines()[0] == f"assumed: {FILES}; {FRAMES}"
    assert run(["build", "--labels", str(words), "--output", str(tmp_path / "a.safetensors")]) == 0
    assert capsys.readouterr().err.splitlines()[0] == f"assumed: {WORDS}"


@pytest.mark.usefixtures("small_model")
def test_eval_says_how_it_read_a_table_from_excel(
    tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, page = tmp_path / "figures.json", tmp_path / "page.html"
    files = ["--output", str(output), "--report", str(page)]
    notes = [
        f"{table}: read as UTF-16",
        f"{table}: images from the column 'File', labels from 'Class'",
        f"{table}: its columns are separated by ';'",
    ]
    assert run(["eval", str(table), *files]) == 0
    assert capsys.readouterr().err == f"assumed: {'; '.join(notes)}\n"
    assert json.loads(output.read_text())["assumed"] == notes
    assert "<dt>Assumed</dt><dd>" + html.escape("\n".join(notes)) in page.read_text()
    named = ["--image-column", "File", "--label-column", "Class", "--overwrite"]
    assert run(["eval", str(table), *files, *named]) == 0
    assert json.loads(output.read_text())["assumed"] == [notes[0], notes[2]]
    assert run(["eval", str(table), "--quiet"]) == 0
    assert capsys.readouterr().err.count("assumed") == 1


def test_train_says_how_it_read_a_table_from_excel(
    tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSHOT_DEVICE", "cpu")
    table.write_bytes(table.read_bytes().replace("Class".encode("utf-16-le"), "Title".encode("utf-16-le")))
    settings = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
        "text_cfg": {"width": 16, "heads": 2, "layers": 1, "context_length": 32, "vocab_size": 600},
    }
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(settings))
    command = ["train", "--data", str(table), "--model", str(tmp_path / "model.yaml"), "--batch-size", "2"]
    command += ["--output", str(tmp_path / "run"), "--epochs", "1", "--workers", "1", "--verbose"]
    assert run(command) == 0
    notes = [
        f"{table}: read as UTF-16",
        f"{table}: images from the column 'File', captions from 'Title'",
        f"{table}: its columns are separated by ';'",
    ]
    assert capsys.readouterr().err.splitlines()[:3] == [f"assumed: {note}" for note in notes]
    assert (tmp_path / "run/assumed.txt").read_text().splitlines() == notes
    assert "<dt>assumed</dt><dd>" + html.escape("\n".join(notes)) in (tmp_path / "run/report.html").read_text()


@pytest.mark.filterwarnings("ignore::zeroshot_cli.models.load.ModelWarning")
def test_which_of_two_models_of_a_checkpoint_is_used_is_said(
    tmp_path: Path, pictures: Path, words: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    vision = {"image_size": 16, "patch_size": 8, "width": 64, "layers": 1}
    text = {"width": 64, "heads": 1, "layers": 1}
    weights = to_disk(CLIP(config_from_dict({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text})).state_dict())
    model = tmp_path / "two.pt"
    torch.save({"teacher": weights, "student": weights}, model)
    said = f"assumed: the weights of {model} are those under 'student'; {model} also holds weights under 'teacher'"
    shared = ["--model", str(model)]
    arguments = (
        ["classify", str(pictures), "--labels", str(words), *shared],
        ["eval", str(_class_folders(tmp_path)), *shared, "--output", str(tmp_path / "result.json")],
        ["embed", str(pictures), "--output", str(tmp_path / "a.npz"), *shared],
        ["build", "--labels", str(words), "--output", str(tmp_path / "a.safetensors"), *shared],
        ["train", "--data", str(tmp_path / "classes"), "--dry-run", "--batch-size", "2", "--epochs", "1", *shared],
    )
    for given in arguments:
        assert run(given) == 0
        printed = capsys.readouterr()
        assert "those under 'student'" in printed.err + printed.out, given[0]
        assert given[0] == "train" or said in printed.err
    assert any("'student'" in each for each in json.loads((tmp_path / "result.json").read_text())["assumed"])


def _class_folders(folder: Path) -> Path:
    for name, colour in COLOURS.items():
        (folder / "classes" / name).mkdir(parents=True)
        Image.new("RGB", (20, 10), colour).save(folder / "classes" / name / "a.png")
    return folder / "classes"

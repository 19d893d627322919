"""Labels and templates on the command line, as people write them."""

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from zeroshot_cli.cli.app import run
from zeroshot_cli.display import brief

pytestmark = pytest.mark.filterwarnings("default")  # what is seen, not raised


@pytest.fixture(autouse=True)
def _photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZEROSHOT_MODEL", "tiny")
    for name, colour in (("apple", "red"), ("sky", "blue")):
        Path("photos", name).mkdir(parents=True)
        Image.new("RGB", (20, 10), colour).save(Path("photos", name, "1.png"))


def classify(*options: str) -> int:
    return run(["classify", "photos", *options])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--labels", "cat", "dog"], "no label set or file 'cat'; for words themselves, write --label cat --label dog"),
        (
            ["--labels", "cat,dog"],
            "no label set or file 'cat,dog'; for words themselves, write --label cat --label dog",
        ),
        (["--labels", "polar bear"], "write --label 'polar bear'\n"),
        (["--labels", "imagenette"], "did you mean imagenet?"),
        (["--label", "cat", "--prompts", "a photo of a {}"], "write --template 'a photo of a {}'"),
        (["--label", "cat", "--template", "a photo"], "--template: template 1: 'a photo' has no placeholder; write {}"),
        (["--label", "cat", "--template", "{}", "--prompts", "plain"], "omit one of them"),
        (["--label", "apple", "--label", "Apple"], "the labels 'apple' and 'Apple' are the same words; remove one"),
        (
            ["--label", "cat", "--min-probability", "0.5"],
            "with one label it is always 1; give --min-score X, --background",
        ),
        (["--label", "cat", "--min-margin", "0.5"], "with one label, omit it"),
    ],
)
def test_the_way_out(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify(*arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_one_label_with_a_comma_is_asked_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert classify("--label", "apple,pizza", "--label", "sky") == 0
    captured = capsys.readouterr()
    assert {row["label"] for row in csv.DictReader(io.StringIO(captured.out))} <= {"apple,pizza", "sky"}
    warning, _ = captured.err.splitlines()
    assert warning == "warning: is 'apple,pizza' one label? For 2 labels, write --label apple --label pizza"


@pytest.mark.parametrize(
    ("options", "warned"), [([], True), (["--min-score", "0.1"], False), (["--multi-label"], False), (["-q"], False)]
)
def test_one_label_alone(options: list[str], warned: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify("--label", "apple", *options) == 0
    captured = capsys.readouterr()
    assert ("warning: with one label, every image is 'apple' with probability 1; look at" in captured.err) is warned
    assert captured.err.count("with one label") == warned
    assert all(float(row["score"]) < 1 for row in csv.DictReader(io.StringIO(captured.out)))


def test_one_label_may_have_a_probability_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert classify("--label", "apple", "--multi-label", "--min-probability", "0.5") == 0


def test_a_template_is_a_set_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "photos", "--template", "a {}", "--prompts", "plain", "--output", "out.json"]) == 0
    results = json.loads(Path("out.json").read_text())["results"]
    assert [result["prompts"] for result in results] == ["plain", "own"]


def test_templates_give_the_scores_of_their_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.txt").write_text("a {}\nmy {label}\n")
    assert classify("--label", "apple", "--label", "sky", "--prompts", "mine.txt") == 0
    expected = capsys.readouterr().out
    assert classify("--label", "apple", "--label", "sky", "--template", "a {}", "--template", "my {label}") == 0
    assert capsys.readouterr().out == expected


def test_three_hundred_labels_of_a_hundred_words_are_one_warning(capsys: pytest.CaptureFixture[str]) -> None:
    Path("long.txt").write_text("".join(f"{'very ' * 99}big {number} ball\n" for number in range(300)))
    assert classify("--labels", "long.txt", "--no-cache") == 0
    warning, last = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: 2,100 texts are too long for the model; the first: this text has ")
    assert len(warning) < 500
    assert "could not be read" in last


def test_labels_in_german_are_warned_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert classify("--label", "Hund", "--label", "Katze") == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "'Hund', do not look English, and tiny learned from English captions" in warnings[0]


def test_an_error_has_at_most_200_characters_of_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert classify("--label", "cat", "--prompts", "x" * 5000) == 2
    assert len(capsys.readouterr().err) < 1100
    Path("a.json").write_text(json.dumps({"cat": {"y" * 100_000: "z"}}))
    assert classify("--labels", "a.json") == 3
    error = capsys.readouterr().err
    assert f"'{'y' * 200}…'; known are synonyms" in error


def test_brief() -> None:
    value = "it's " * 100
    assert brief("short 'value'") == "short 'value'"
    assert brief(f'no such file "{value}"; check it') == f'no such file "{value[:200]}…"; check it'
    assert len(brief("a" * 3_000_000 + "; the way out")) < 1010
    assert brief("a" * 3_000_000 + "; the way out").endswith("; the way out")


def test_the_label_file_as_output_is_kept_whole(capsys: pytest.CaptureFixture[str]) -> None:
    table = Path("labels.csv")
    table.write_text("label\nred\nblue\n")
    Path("same.csv").symlink_to(table)
    for name in ("labels.csv", "./labels.csv", "same.csv"):
        assert classify("--labels", "labels.csv", "--output", name, "--overwrite") == 2
        assert (
            f"cannot write {Path(name)}: it is the file of labels, which is read; name another"
            in capsys.readouterr().err
        )
    assert table.read_text() == "label\nred\nblue\n"


def test_a_background_with_a_label_in_capitals(capsys: pytest.CaptureFixture[str]) -> None:
    Path("none.txt").write_text("sky\nRED\n")
    assert classify("--label", "red", "--background", "none.txt") == 3
    assert "none.txt: 'RED' is also a label to choose from; remove one of them" in capsys.readouterr().err

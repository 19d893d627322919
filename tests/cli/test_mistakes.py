"""Mistakes that people make, refused where they are made: before a model is loaded, and with nothing written."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from zeroshot_cli.cli.app import run

ERROR = "error: "


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images, class folders, label files and results, in which no model can be loaded."""
    from zeroshot_cli.models import load

    def refuse(*given: Any, **more: Any) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(load, "load", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts").mkdir()
    (tmp_path / "tables").mkdir()
    for folder in ("photos", "classes/cat", "classes/dog"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "cat.jpg")
    header = "path,rank,label,score,probability,error\n"
    files = {
        "labels.txt": "cat\ndog\n",
        "results.csv": f"{header}photos/cat.jpg,1,cat,0.3,0.9,\n",
        "labels.docx": "PK",
        "labels.xlsx": "PK",
        "empty.txt": "",
        "notes.csv": "name,age\nA,3\n",
        "parts/_run.json": "{}",
        "tables/a-1.parquet": "",
        "tables/a-0.parquet": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def _refused(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str], *said: str) -> None:
    before = sorted(Path().rglob("*"))
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith(ERROR)
    for part in said:
        assert part in line
    assert sorted(Path().rglob("*")) == before


LABELLED = ["classify", "photos", "--labels", "labels.txt"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["classify", "photos", "—labels", "labels.txt"], "—labels begins with a long dash"),
        (["classify", "photos", "–-labels=labels.txt"], "type --labels=labels.txt"),
        (["classify", "photos", "–o", "x.csv"], "type -o"),
        (
            ["classify", "“photos”", "--label", "cat"],
            '“photos” is in curly quotes; type straight double ones: "photos"',
        ),
        (["search", "“a", "red", "boat”", "photos"], 'type straight double ones: "a red boat"'),
        (["classify", "photos", "--label=„ein Hund“"], '"ein Hund"'),
        (["search", "«un chat»", "photos"], '"un chat"'),
        (["search", "'a", "cat'", "photos"], "'a cat' is in single quotes, which this shell does not know"),
        (["classify", "photos", "--labels="], "--labels has an empty value"),
        (["classify", "photos", "--labels", "labels.txt", "-o", ""], "-o has an empty value; give one, or omit -o"),
        (["tune", "classes", "--output="], "--output has an empty value"),
        (["classify", 'photos" --labels labels.txt'], "photos\\ ends with a backslash"),
        (["classify", 'photos"', "--label", "cat"], 'omit the backslash: "photos"'),
    ],
)
def test_what_became_of_a_command_line(
    here: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _refused(arguments, 2, capsys, said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["“photos”", "--label", "cat"],
        ["dogs’", "cats’"],
        ["she said “hello” to him"],
        ["–", "--", "-"],
        ["'tis", "--label", "dogs'"],
        ['12" record', 'a "quoted" word'],
        ["--parent", ""],
        ["", "photos"],
    ],
)
def test_what_may_be_meant_is_left_alone(here: Path, arguments: list[str]) -> None:
    from zeroshot_cli.cli.spoiled import check_spoiled

    Path("“photos”").mkdir()
    check_spoiled(arguments)


@pytest.mark.parametrize("command", [["classify", "photos"], ["build", "-o", "x.safetensors"]])
@pytest.mark.parametrize(
    ("labels", "code", "said"),
    [
        ("photos", 2, "photos is a folder, not a label file; images stand without an option"),
        ("photos/cat.jpg", 2, "photos/cat.jpg is an image, not a label file"),
        ("labels.docx", 2, "save it as plain text (.txt), one label a line"),
        ("labels.xlsx", 2, "save it as CSV, with a column label"),
        ("lables.txt", 2, "cannot read lables.txt: No such file or directory; did you mean labels.txt?"),
        ("empty.txt", 3, "empty.txt holds no labels; add at least one"),
    ],
)
def test_what_is_no_label_file(
    here: Path, command: list[str], labels: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _refused([*command, "--labels", labels], code, capsys, said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["photos", "--label", "cat", "dog"],
            "no image or folder 'dog'; for two labels, write --label cat --label dog",
        ),
        (["photos", "--labels", "cat", "dog"], "for words themselves, write --label cat --label dog"),
        (["photos", "labels.txt"], "for example: zeroshot classify photos --labels labels.txt"),
        (["labels.txt", "--labels", "photos"], "photos is a folder, not a label file"),
        (["photos", "--label", "cat", "--min-probability", "0.5"], "with one label it is always 1"),
        (["typo", "--label", "cat", "--label", "dog", "-o", "typo.csv"], "typo: no such file or folder"),
        (["photos", "--labels", "labels.txt", "--prompts", "a photo of a {}"], "write --template 'a photo of a {}'"),
        (["photos", "--labels", "labels.txt", "--prompts", "a photo of a"], "a template has {} where the label goes"),
        (["photos", "--labels", "labels.txt", "--sort-into", "photos"], "cannot sort the images of photos into it"),
        (["photos", "--labels", "labels.txt", "--output", "results"], "it has no extension; expected one of .csv, "),
        (["photos", "--labels", "labels.txt", "--output", "results"], ", as in results.csv"),
    ],
)
def test_words_and_files_in_the_wrong_place(
    here: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _refused(["classify", *arguments], 2, capsys, said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", "labels.txt", "--label", "cat", "--label", "dog"],
        ["search", "a cat", "labels.txt"],
        ["duplicates", "labels.txt"],
        ["embed", "labels.txt", "-o", "x.npz"],
    ],
)
def test_a_text_alone_is_no_image(here: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    _refused(arguments, 3, capsys, "labels.txt is text, not an image", "- < labels.txt")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["search", "a", "cat", "photos"], 2, "in quotes: zeroshot search 'a cat' photos"),
        (["search", "photos", "a", "cat"], 2, "the text comes first: zeroshot search 'a cat' photos"),
        (["search", "photos", "a cat"], 2, "the text comes first: zeroshot search 'a cat' photos"),
        (["search", "photos/cat.jpg", "photos"], 2, "zeroshot search --like photos/cat.jpg photos"),
        (["duplicates"], 2, "for example: zeroshot duplicates photos/; zeroshot"),
        (["eval", "clases"], 2, "clases: no such data set; did you mean classes?"),
        (["eval", "results.csv"], 3, "its labels are a model's own answers"),
        (["eval", "photos"], 3, "photos: has no class folders"),
        (
            ["eval", "parts/"],
            3,
            "parts/ is a folder of parts that zeroshot wrote, which have no true labels; give eval",
        ),
        (
            ["eval", "tables"],
            3,
            "tables: has no class folders, but Parquet files; name one of them, such as tables/a-0.p",
        ),
        (["tune", "photos", "-o", "x.classifier"], 3, "photos: has no class folders"),
        (["tune", "clases", "-o", "x.classifier"], 2, "clases: no such examples; did you mean classes?"),
        (["tune", "classes"], 2, "Missing option '--output' / '-o', as in --output FILE"),
        (["tune", "classes", "-o", "x.txt"], 2, "give a name ending in .safetensors or .classifier"),
        (["review", "result.csv"], 2, "result.csv: no such results; did you mean results.csv?"),
        (["review", "notes.csv"], 3, "notes.csv has no column 'path'; name what zeroshot classify wrote"),
        (["review", "photos"], 2, "photos: has no manifest.csv"),
        (["tag", "photos"], 3, "photos is a folder; name what zeroshot classify wrote with --output"),
        (["tag", "result.csv"], 2, "there is no file result.csv; did you mean results.csv?"),
        (["tag", "notes.csv"], 3, "notes.csv has no column 'path'"),
        (["tune", "classes", "-o", "x"], 2, "give a name ending in .safetensors or .classifier, as in pets.classifier"),
        (["eval", "classes", "-o", "x"], 2, "give a file name with the extension .json, as in results.json"),
        (
            ["eval", "classes", "--predictions", "x"],
            2,
            "it has no extension; expected one of .csv, .tsv, .jsonl, .parquet",
        ),
        (
            ["search", "a cat", "photos", "-o", "x"],
            2,
            "it has no extension; expected one of .csv, .jsonl, .html, as in x.csv",
        ),
        (["duplicates", "photos", "-o", "x.xlsx"], 2, "expected one of .csv, .jsonl, .html; Excel opens .csv"),
        (["train", "--data", "note.csv", "-o", "run"], 2, "note.csv: no such file; did you mean notes.csv?"),
        (["merge", "note.csv", "-o", "x.csv"], 2, "note.csv: no such file; did you mean notes.csv?"),
        (["merge", "cats.npz", "-o", "x.npz"], 2, "cats.npz: no such file; give what zeroshot embed --shard wrote"),
        (
            ["classify", "photos", "--classifier", "lables.txt"],
            2,
            "no classifier file lables.txt; did you mean labels.txt?",
        ),
        (["search", "--like", "photos/cta.jpg", "photos"], 2, "no such file; did you mean photos/cat.jpg?"),
        ([*LABELLED, "--corrections", "result.csv"], 2, "there is no such file; did you mean results.csv?"),
        (
            [*LABELLED, "--model", "ViT-B-32", "--pretrained", "lable.safetensors"],
            2,
            "there is no such file; name one that exists, or a tag of",
        ),
        (["build", "labels.txt", "-o", "x.classifier"], 2, "write --labels labels.txt"),
        (["build", "--labels", "cat", "dog", "-o", "x.classifier"], 2, "as in --label cat --label dog"),
        (["train", "photos", "--output", "run"], 2, "write --data photos"),
        (["merge", "notes.csv", "-o", "x.csv"], 2, "notes.csv has no record of its run"),
        (["calibrate", "typo", "-o", "x.classifier"], 2, "typo"),
        (["models", "show", "vit"], 2, "zeroshot models list --model vit shows those whose name has it"),
        (["models", "show", "ViTB32"], 2, "did you mean ViT-B-32"),
        (["models", "show", "openai/clip-vit-base"], 2, "write hf-hub:openai/clip-vit-base"),
        (["eval", "classes", "--seed", "4294967296"], 2, "4294967296 is not a seed; give a whole number from 0 to"),
        (["tune", "classes", "-o", "x.classifier", "--seed", "-1"], 2, "-1 is not a seed"),
        (["zeroshot", "classify", "photos"], 2, "zeroshot is there already: type zeroshot classify photos"),
        (["photos"], 2, "to label images: zeroshot classify photos --label TEXT --label TEXT"),
        (["-help"], 2, "No such option -help; did you mean --help?"),
        (["/?"], 2, "did you mean --help?"),
        (["clasify"], 2, "did you mean classify?"),
        (
            ["eval", "classes", "--classifier", "a.classifier", "--classifier", "b.classifier"],
            2,
            "--classifier takes one file, and is given 2 times; run the command once for each",
        ),
        ([*LABELLED, "--level=order"], 2, "1 is the topmost level of groups"),
    ],
)
def test_the_same_in_other_commands(
    here: Path, arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _refused(arguments, code, capsys, said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "classify Fotos Archiv --label cat --label dog",
            'Fotos: no such file or folder; did you mean "Fotos Archiv"?',
        ),
        ("classify photos Archiv alt --label cat", 'Archiv: no such file or folder; did you mean "photos Archiv alt"?'),
        (
            "classify Fotos Archiv --labels meine wörter.txt",
            '"Fotos Archiv" and "meine wörter.txt"? put each in quotes',
        ),
        ("classify photos --labels meine wörter.txt", 'did you mean "meine wörter.txt"? put it in quotes'),
        ("classify photos --labels=meine wörter.txt", 'did you mean "meine wörter.txt"?'),
        ("classify photos --labels mit labels.txt", 'mit: no such file or folder; did you mean "mit labels.txt"?'),
        ("classify photos --label cat --prompts meine wörter.txt", 'did you mean "meine wörter.txt"?'),
        ("classify photos --classifier my photos", 'my: no such file or folder; did you mean "my photos"?'),
        ("build --labels mit labels.txt -o x.classifier", 'did you mean "mit labels.txt"?'),
        ("eval Fotos Archiv", 'did you mean "Fotos Archiv"?'),
        ("search boat Fotos Archiv", 'did you mean "Fotos Archiv"?'),
        ("duplicates Fotos Archiv", 'did you mean "Fotos Archiv"?'),
        ("train --data meine wörter.txt -o run", 'did you mean "meine wörter.txt"?'),
        ("review Fotos Archiv", 'did you mean "Fotos Archiv"?'),
        ("tag a - b.csv", 'a: no such file or folder; did you mean "a - b.csv"?'),
    ],
)
def test_names_with_spaces_and_no_quotes(
    here: Path, arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("Fotos Archiv", "photos Archiv alt", "my photos"):
        Path(folder).mkdir()
    for name in ("meine wörter.txt", "mit labels.txt", "a - b.csv"):
        Path(name).write_text("cat\n", encoding="utf-8")
    _refused(arguments.split(" "), 2, capsys, said)


def test_words_that_only_look_like_a_name_with_spaces(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from zeroshot_cli.cli.spoiled import check_spoiled, unquoted_names

    for folder in ("boat photos", "photos classes", "classify photos"):
        Path(folder).mkdir()
    for arguments in (["search", "boat", "photos"], ["classify", "photos", "classes"], ["classify", "photos"]):
        check_spoiled(arguments)
    assert unquoted_names("weights.safetensors is damaged", ["search", "boat", "photos"]) is None


def test_quotes_that_a_shell_leaves_around_a_label_are_taken_off(capsys: pytest.CaptureFixture[str]) -> None:
    from zeroshot_cli.cli.commands.build import LabelOptions, read_classes

    classes = read_classes(LabelOptions(label=("'cat'", "dog")))
    assert classes.labels.names == ("cat", "dog")
    assert classes.assumed == ("quotes taken off 'cat'",)

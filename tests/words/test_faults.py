"""Each planted fault is found, with its line, and nothing else is."""

from pathlib import Path

import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.words.faults import Kind, holds_templates, lint_labels, lint_templates
from zeroshot_cli.words.prompts import prompts_for, read_prompts
from zeroshot_cli.words.textfiles import label_files, template_files

PHOTO = read_prompts("photo")


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def faults_of(path: Path) -> list[tuple[int, str, str]]:
    faults = lint_templates(path)[0] if holds_templates(path) else lint_labels(path, PHOTO)[0]
    assert {fault.file for fault in faults} <= {str(path)}
    return [(fault.line, str(fault.kind), fault.text) for fault in faults]


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        ("cat", "duplicate", "cat"),
        (" bird", "white space", " bird"),
        ("bird ", "white space", "bird "),
        ("tree  house", "white space", "tree  house"),
        ("tree\thouse", "white space", "tree\thouse"),
        ("so\u200bfa", "non-printing", "so\u200bfa"),
        ("sofa\u00adbed", "non-printing", "sofa\u00adbed"),
        ("tree\u00a0house", "non-printing", "tree\u00a0house"),
        ("a\u200db", "non-printing", "a\u200db"),
        ("images/cat.jpg", "path", "images/cat.jpg"),
        ("cat.PNG", "path", "cat.PNG"),
        ("/data/birds", "path", "/data/birds"),
        ("./birds", "path", "./birds"),
        ("C:\\birds", "path", "C:\\birds"),
        ("train/animals/bird", "path", "train/animals/bird"),
        ("birds/", "path", "birds/"),
        ("17", "number", "17"),
        ("-1.5", "number", "-1.5"),
        ("n01440764", "number", "n01440764"),
        ("a photo of a {}", "placeholder", "a photo of a {}"),
        ("{animal}", "placeholder", "{animal}"),
        ("bird | a {} and a {}", "placeholder", "a {} and a {}"),
        ("wolf | hound", "duplicate", "hound"),
        ("wolf | cat", "duplicate", "cat"),
        ("bird | | eagle", "blank", ""),
        ("   ", "blank", "   "),
        ("", "blank", ""),
    ],
)
def test_a_fault_among_good_labels(tmp_path: Path, line: str, kind: str, text: str) -> None:
    path = written(tmp_path, "labels.txt", f"# animals\ncat\ndog | hound # tame\n{line}\nhorse\n")
    assert faults_of(path) == [(4, kind, text)]


@pytest.mark.parametrize(
    "good",
    [
        *("Cat", "C/V van", "F/A-18", "end / de-restriction / of limit", "3 cats", "737-200", "St. Bernard"),
        *("café", "👩\u200d🚒", "می\u200cخواهم", "bird | a {} on a branch", "T-shirt # worn", "\n# wild\nlion"),
    ],
)
def test_good_labels(tmp_path: Path, good: str) -> None:
    assert faults_of(written(tmp_path, "labels.txt", f"cat\ndog | hound\n{good}\n")) == []


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "a.yaml",
            "- cat\n- ''\n- 'dog '\n- cat\n",
            [(2, "blank", ""), (3, "white space", "dog "), (4, "duplicate", "cat")],
        ),
        ("a.json", '{"cat": ["a {x}"],\n"7": []}', [(1, "placeholder", "a {x}"), (2, "number", "7")]),
        (
            "a.csv",
            "label,prompt\ncat,my cat\ncat,a  cat\ncat,my cat\n",
            [(3, "white space", "a  cat"), (4, "duplicate", "cat")],
        ),
        ("form.yaml", "cat: [", [(0, "form", "")]),
        ("bytes.txt", b"cat\n\xff\n", [(0, "form", "")]),
        ("empty.txt", "# none\n", [(0, "form", "")]),
    ],
)
def test_every_form_of_label_file(
    tmp_path: Path, name: str, content: str | bytes, expected: list[tuple[int, str, str]]
) -> None:
    assert sorted(faults_of(written(tmp_path, name, content))) == expected


def test_labels_that_can_be_used_are_used(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "label,prompt\ncat,my {}\n{},x\ndog,\ncat,a cat\n")
    _, placed = lint_labels(path, PHOTO)
    assert [(each.line, each.label.name, each.label.prompts) for each in placed] == [
        (2, "cat", ("my cat", "a cat")),
        (4, "dog", ()),
    ]


def test_a_number_is_a_label_where_the_templates_ask_for_one(tmp_path: Path) -> None:
    path = written(tmp_path, "digits.txt", "1\n2\n")
    assert [fault.kind for fault in lint_labels(path, PHOTO)[0]] == [Kind.NUMBER, Kind.NUMBER]
    assert lint_labels(path, read_prompts("mnist"))[0] == []


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("a photo of a {label}.", "duplicate"),
        ("a photo", "placeholder"),
        ("{} or {}", "placeholder"),
        ("a {animal}", "placeholder"),
        ("a  {}", "white space"),
        ("\ta {}", "white space"),
        ("a \ufeff{}", "non-printing"),
        ("", "blank"),
    ],
)
def test_a_fault_among_good_templates(tmp_path: Path, line: str, kind: str) -> None:
    text = written(tmp_path, "templates.txt", f"a photo of a {{}}.\na drawing of a {{}}.\n{line}\nmy {{}}\n")
    assert faults_of(text) == [(3, kind, line)]
    quoted = line.replace("\t", "\\t")
    yaml = written(tmp_path, "templates.yaml", f'templates:\n- "a photo of a {{}}."\n- "{quoted}"\n- "my {{}}"\n')
    assert faults_of(yaml) == [(3, kind, line)]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("none.txt", "none.yaml"):
        with pytest.raises(UsageError, match="cannot read"):
            holds_templates(tmp_path / name)
    with pytest.raises(UsageError, match="cannot read"):
        lint_labels(tmp_path / "none.csv", PHOTO)
    with pytest.raises(UsageError, match="no label set 'imagenette'; did you mean imagenet"):
        lint_labels(Path("imagenette"), PHOTO)


def test_the_built_in_sets_have_imagenets_two_names_and_nothing_else() -> None:
    faults = [fault for path in template_files().values() for fault in lint_templates(path)[0]]
    for name, path in label_files().items():
        faults += lint_labels(path, read_prompts(prompts_for(name)))[0]
    assert [(Path(fault.file).stem, fault.kind, fault.text) for fault in faults] == [
        ("imagenet", Kind.DUPLICATE, "missile"),
        ("imagenet", Kind.DUPLICATE, "sunglasses"),
    ]

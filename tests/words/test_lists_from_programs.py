"""Lists of labels that come out of word processors, spreadsheets, code and other tools, and what they look like."""

from pathlib import Path

import pytest

from zeroshot_cli.errors import LabelsError
from zeroshot_cli.words.labels import Labels, read_labels


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("word.txt", "•\t“apple”\r\n•\t“pear”\r\n".encode("utf-16"), "read as UTF-16"),
        ("letters.txt", "a) apple\nb) pear\n", "letters taken off 2 lines, such as 'a) apple'"),
        ("roman.txt", "I. apple\nII. pear\n", "letters taken off 2 lines, such as 'I. apple'"),
        ("colons.txt", "apple:\npear:\n", "bullets, quotes or commas taken off 2 lines, such as 'apple:'"),
        ("under.txt", "Fruit:\n- apple\n- pear\n", "first line 'Fruit:' taken as a header"),
        ("wingdings.txt", "\uf0b7\tapple\n\uf0b7\tpear\n", "bullets, quotes or commas taken off 2 lines"),
        ("tasks.txt", "[x] apple\n[ ] pear\n", "bullets, quotes or commas taken off 2 lines, such as '[x] apple'"),
        ("chat.txt", "1. **apple**\n2. *pear*\n", "bullets, quotes or commas taken off 2 lines"),
        ("code.txt", "classes = ['apple', 'pear']\n", "read as a list in code, which it looks like"),
        ("data.txt", 'names: ["apple", "pear"]\n', "read as a list in code"),
        ("markdown.txt", "| label | n |\n|---|--:|\n| apple | 1 |\n| pear | 2 |\n", "columns separated by |"),
        ("copied.txt", "ap\u00adple\u200b\n\ufeffpear\n", "invisible characters taken off 2 lines"),
        ("images.csv", "LabelName,DisplayName\n/m/014j1m,apple\n/m/061_f,pear\n", "from column `displayname`"),
        ("images.csv", "/m/014j1m,apple\n/m/061_f,pear\n", "column 2 of 2, there being no header"),
        ("shares.json", '{"apple": 0.75, "pear": 0.25}', "the numbers after labels are no"),
        ("own.csv", "label,template\napple,a {}\npear,one {}\n", "columns left out: template"),
    ],
)
def test_a_list_from_a_program(tmp_path: Path, name: str, content: str | bytes, note: str) -> None:
    labels = read_labels(written(tmp_path, name, content))
    assert labels.names == ("apple", "pear")
    assert [label.synonyms for label in labels] == [(), ()]
    assert note in "; ".join(labels.notes)


def test_a_sentence_that_lists_labels(tmp_path: Path) -> None:
    assert read_labels(written(tmp_path, "a.txt", "apple, pear, and plum")).names == ("apple", "pear", "plum")


def test_abbreviated_genera_are_no_letters_that_count(tmp_path: Path) -> None:
    assert read_labels(written(tmp_path, "a.txt", "A. mellifera\nB. terrestris\n")).names[1] == "B. terrestris"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("page.txt", "<ul>\n<li>apple</li>\n</ul>\n", "line 1: '<ul>' is HTML; write one label a line"),
        (
            "table.csv",
            b"PK\x03\x04\x14\x00\x06\x00",
            "is an Excel, Word or zip file, whatever its name says; save it as",
        ),
        ("old.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", "is an Excel or Word file"),
        ("text.txt", "{\\rtf1\\ansi apple}", "is an RTF file, whatever its name says; save it as plain text"),
        (
            "chosen.json",
            '{"apple": true, "pear": false}',
            "'apple' has the value true, which is not a synonym; write a",
        ),
        ("tabs.yaml", "labels:\n\t- apple\n", "write spaces in place of TABs"),
        ("case.txt", "great_tit\nGreat tit\n", "label 'Great tit' is the same words as 'great_tit' on line 1"),
        ("quotes.txt", "worker's glove\nworker’s glove\n", 'is the same words as "worker\'s glove" on line 1'),
        ("wide.txt", "apple\nａｐｐｌｅ\n", "is the same words as 'apple' on line 1"),
        ("hidden.txt", "apple\napple\u200b\n", "label 'apple' is already on line 1"),
    ],
)
def test_a_file_that_holds_no_list_is_refused(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    with pytest.raises(LabelsError) as caught:
        read_labels(written(tmp_path, name, content))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (("a.jpg", "pear"), "labels that may be paths: 1, such as 'a.jpg'"),
        (("photos/apple/", "pear"), "labels that may be paths: 1, such as 'photos/apple/'"),
        (("golden_retriever", "dog"), "labels with underscores, where a model expects spaces: 1"),
        ((r"cat\ndog", "fox"), "labels with a line break: 1"),
        (("apple = Apfel", "pear = Birne"), "what is before and after '=' is one label, as in 'apple = Apfel'"),
        (("apple - red", "pear - green"), "what is before and after ' - ' is one label"),
        (("apple, Apfel", "pear, Birne"), "what is before and after ',' is one label"),
        (("apple 0.5", "pear (12)"), "the numbers at the end of all labels are a part of them"),
    ],
)
def test_labels_that_may_not_be_words_are_used_with_a_note(tmp_path: Path, names: tuple[str, ...], note: str) -> None:
    from_file = read_labels(written(tmp_path, "labels.txt", "\n".join(names)))
    assert from_file.names == names
    assert note in "; ".join(from_file.notes)
    assert note in "; ".join(Labels.of_user(names).notes)


def test_words_get_no_note(tmp_path: Path) -> None:
    words = (
        "polar bear",
        "T-shirt",
        "Apple (fruit)",
        "AC/DC poster",
        "C#",
        "60s car",
        "level 1",
        "level 2",
        "🍎",
        "苹果",
    )
    assert Labels.of_user(words).notes == ()
    assert read_labels(written(tmp_path, "labels.txt", "\n".join(words))).notes == ()

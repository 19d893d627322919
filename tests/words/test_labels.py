import json
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.errors import LabelsError, UsageError
from zeroshot_cli.words.labels import Label, Labels, read_labels

CAT_AND_DOG = (Label("cat", ("kitten", "tabby")), Label("dog"))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "cat | kitten | tabby\ndog\n"),
        ("bom-crlf-no-newline.TXT", b"\xef\xbb\xbfcat|kitten|tabby\r\n\r\ndog"),
        ("mac.txt", "cat|kitten|tabby\rdog\r"),
        ("twice-the-same-synonym.txt", "cat | kitten | tabby | kitten | cat\ndog"),
        ("a.yaml", "cat: [kitten, tabby]\ndog:\n"),
        ("a.yml", "cat:\n  - kitten\n  - tabby\ndog: []\n"),
        ("null.yaml", "cat: {synonyms: [kitten, tabby]}\ndog: null\n"),
        ("a.json", '{"cat": ["kitten", "tabby"], "dog": null}'),
        ("tabs.json", '{\n\t"cat": {"synonyms": ["kitten", "tabby"]},\n\t"dog": []\n}\n'),
        ("a.csv", "label,synonyms\ncat,kitten | tabby\ndog,\n"),
        ("columns-in-another-order.csv", "id,Synonyms, Label \n1,kitten|tabby,cat\n\n2,,dog\n"),
        ("semicolons.csv", "label;synonyms\ncat;kitten|tabby\ndog\n"),
        ("tabs.csv", '"label"\tsynonyms\ncat\tkitten|tabby\ndog\t\n'),
    ],
)
def test_every_form_gives_names_and_synonyms(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read_labels(write(tmp_path, name, content)).items == CAT_AND_DOG


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("comments.txt", "# animals\nC#\n  F# # a language\n\n#cat\ncat\t# tom\n", ("C#", "F#", "cat")),
        ("list.yaml", "- yes\n- 1.0\n- null\n- 007\n- 'a: b'\n", ("yes", "1.0", "null", "007", "a: b")),
        ("words.json", "[true, 0]", ("true", "0")),
        ("keys.yaml", "no: []\n2024-01-01:\n", ("no", "2024-01-01")),
        (
            "list.json",
            r'["caf\u00e9", "\ud83d\ude00", "a\"b", "{,]", 1e3, true]',
            ("café", "😀", 'a"b', "{,]", "1e3", "true"),
        ),
        ("quoted.csv", 'label\n"salt, pepper"\n"""x"""\n', ("salt, pepper", '"x"')),
        ("separators.txt", "a\x0bb\u2028c\nd\n", ("a\x0bb\u2028c", "d")),
    ],
)
def test_names_are_kept_as_they_are_written(tmp_path: Path, name: str, content: str, names: tuple[str, ...]) -> None:
    assert read_labels(write(tmp_path, name, content)).names == names


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", "cat: {prompts: [a cat asleep, 'my {label}']}"),
        ("b.yaml", "cat:\n  prompts:\n    - a cat asleep\n    - my {}\n"),
        ("a.json", '{"cat": {"prompts": ["a cat asleep", "my {}"]}}'),
        ("a.csv", "label,prompt\ncat,a cat asleep\ncat,my {}\n"),
    ],
)
def test_whole_prompts(tmp_path: Path, name: str, content: str) -> None:
    assert read_labels(write(tmp_path, name, content)).items == (Label("cat", (), ("a cat asleep", "my cat")),)


@pytest.mark.parametrize(
    ("texts", "are_prompts"),
    [
        (["A cat is a small furry animal with whiskers."], True),  # CuPL's form
        (["What is furry?", "Cats purr! They sleep"], True),
        (["a photo of my cat asleep"], True),
        (["A furry animal. It sleeps.", "a {} in oil."], True),
        (["a cat asleep"], False),
        (["St. Felix", "domestic cat"], False),
        (["all those wonderful catalogues here today"], False),  # the name is not a word of it
    ],
)
def test_a_plain_list_is_whole_prompts_where_all_read_so(tmp_path: Path, texts: list[str], are_prompts: bool) -> None:
    (label,) = read_labels(write(tmp_path, "a.json", json.dumps({"cat": texts, "dog": []}))).items[:1]
    given = tuple(text.replace("{}", "cat") for text in texts)
    assert (label.prompts, label.synonyms) == ((given, ()) if are_prompts else ((), given))


def test_names_that_are_no_texts_are_refused() -> None:
    with pytest.raises(LabelsError, match="label 2, 7, is not a string"):
        Labels.of(["cat", 7])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", r"\1 | kit{ | a {} in oil"),
        ("a.yaml", r"\1: ['kit{', 'a {} in oil']"),
        ("a.csv", "label,synonyms,prompt\n\\1,kit{,a {} in oil\n"),
    ],
)
def test_a_template_of_one_label_is_filled_with_name_and_synonyms(tmp_path: Path, name: str, content: str) -> None:
    expected = Label(r"\1", ("kit{",), (r"a \1 in oil", "a kit{ in oil"))
    assert read_labels(write(tmp_path, name, content)).items == (expected,)


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        ("a.txt", "dog\ncat\n\ncat | tom\n", 4, "label 'cat' is already on line 2"),
        ("a.yaml", "dog:\ncat: [kitten]\ncat: [tom]\n", 3, "label 'cat' is already on line 2"),
        ("list.yaml", "- cat\n- dog\n- ' cat '\n", 3, "label 'cat' is already on line 1"),
        ("a.json", '{\n "cat": [],\n "dog": [],\n "cat": []\n}', 4, "label 'cat' is already on line 2"),
        ("list.json", '["cat",\n\n"cat"]', 3, "label 'cat' is already on line 1"),
        ("a.csv", "label,n\ncat,1\ncat,2\n", 3, "label 'cat' is already on line 2"),
        ("multiline.csv", 'label,n\n"dog","1\n2"\ncat,1\ncat,2\n', 5, "label 'cat' is already on line 4"),
        ("prompt.csv", "label,prompt\ncat,my {}\ncat,my {}\n", 3, "label 'cat' is already on line 2"),
        ("half.csv", "label,prompt\ncat,my {}\ncat,\n", 3, "label 'cat' is already on line 2"),
        ("latin.txt", b"cat\ncaf\xe9\n", 2, "byte 0xe9 is not UTF-8"),
        ("utf16.txt", "cat".encode("utf-16-le"), 1, "NUL byte and looks like UTF-16 without a byte order mark; save"),
        ("bar.txt", "cat\ndog |\n", 2, "a synonym of 'dog' is blank"),
        ("bar2.txt", "| dog", 1, "is blank"),
        ("blank.yaml", "- cat\n- ''\n", 2, "is blank"),
        ("blank.csv", "label,synonyms\ncat,\n ,kitten\n", 3, "is blank"),
        ("surrogate.json", r'["\ud800"]', 1, "not valid Unicode"),
        ("two.yaml", "cat:\n  - a {} and a {label}\n", 1, "has 2 placeholders"),
        ("unknown.yaml", "cat: ['a {name}']\n", 1, "{name} is not a placeholder"),
        ("in-name.txt", "cat\na {}\n", 2, "label 'a {}' has a placeholder"),
        ("nested.yaml", "- cat\n- [dog]\n", 2, "expected text, found a list"),
        ("mapping.yaml", "- cat\n- dog: [hound]\n", 2, "expected text, found a mapping"),
        (
            "field.yaml",
            "cat:\n  synonyms: [kitten]\n  prompt: [a]\n",
            3,
            "'cat' has the unknown key 'prompt'; known are",
        ),
        ("fields.json", '{"cat": {"prompts": ["a"],\n"prompts": ["b"]}}', 2, "'prompts' twice"),
        ("scalar.yaml", "cat\n", 1, "write a list of labels"),
        ("syntax.yaml", "cat: [a\ndog: b\n", 2, "not valid YAML"),
        ("control.yaml", "cat:\ndog: \x01\n", 2, "not valid YAML"),
        ("syntax.json", '["cat",\n"dog"\n"cow"]', 3, "not valid JSON"),
        ("column.csv", "file,id\ncat,1\n", 1, "no column 'label'; the columns are file, id"),
        ("fields.csv", "label,prompt\ncat,a cat, asleep\n", 2, "3 fields in 2 columns"),
        ("quote.csv", 'label\ncat\n"dog\n', 3, "not valid CSV"),
        ("twice.csv", "label,prompt,prompt\ncat,a,b\n", 1, "column 'prompt' is given twice"),
        ("near.csv", "label,prompts\ncat,a cat\n", 1, "did you mean 'prompt'? The known columns are label, synonyms"),
        ("mixed.yaml", "dog:\ncat: [kitten, A cat purrs.]\n", 2, "under `synonyms:` and `prompts:`"),
    ],
)
def test_errors_name_file_line_and_value(
    tmp_path: Path, name: str, content: str | bytes, line: int, words: str
) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(LabelsError) as caught:
        read_labels(path)
    text = str(caught.value)
    assert text.startswith(f"{path}, line {line}")
    assert words in text
    assert "\n" not in text


@pytest.mark.parametrize("name", ["a.txt", "a.yaml", "a.json", "a.csv"])
@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(LabelsError, match="holds no labels"):
        read_labels(write(tmp_path, name, content))


@pytest.mark.parametrize(
    ("name", "content"),
    [("comments.txt", "# nothing\n"), ("a.yaml", "[]"), ("b.yaml", "{}"), ("a.json", "{}"), ("a.csv", "label\n")],
)
def test_a_file_without_labels_is_refused(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(LabelsError, match="holds no labels"):
        read_labels(write(tmp_path, name, content))


@pytest.mark.parametrize("name", ["deep.json", "deep.yaml"])
@pytest.mark.parametrize("depth", [20, 900, 100_000])
def test_deep_nesting_is_an_error_of_the_file(tmp_path: Path, name: str, depth: int) -> None:
    with pytest.raises(LabelsError, match=r"nested too deeply|maximum nesting depth"):
        read_labels(write(tmp_path, name, "[" * depth + "]" * depth))


def test_a_file_that_is_not_there_or_not_a_label_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.txt: No such file"):
        read_labels(tmp_path / "none.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(UsageError, match=r"folder\.txt: Is a directory"):
        read_labels(tmp_path / "folder.txt")
    with pytest.raises(UsageError, match=r"labels\.doc is a document, not a label file; save it as plain text"):
        read_labels(write(tmp_path, "labels.doc", "cat"))
    with pytest.raises(UsageError, match=r"labels\.log is not a label file; its extension must be \.txt"):
        read_labels(write(tmp_path, "labels.log", "cat"))


def test_labels_of_names() -> None:
    labels = Labels.of([" cat ", "dog"])
    assert labels.names == ("cat", "dog")
    assert len(labels) == 2
    assert list(labels) == [Label("cat"), Label("dog")]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "no labels"),
        (["cat", " "], "label 2 is blank"),
        (["cat", "dog", "cat "], "label 3, 'cat', is already label 1"),
        ("cat", "'cat'; give a list of names"),
        (Path("a.txt"), "'a.txt'; give a list of names, or a file by read_labels"),
        (["caf\udce9"], "not valid Unicode"),
    ],
)
def test_labels_of_wrong_names(names: Any, words: str) -> None:
    for read in (Labels.of, Labels.of_user):  # letters are no labels in either
        with pytest.raises(LabelsError, match=words):
            read(names)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "label,folder,synonyms\ndog,n1 | n2,hound\ncat,,\n"),
        ("rows.csv", "label;folder;synonyms\ndog;n1;hound\ncat;;\ndog;n2;\n"),
        ("a.yaml", "dog: {folder: [n1, n2], synonyms: [hound]}\ncat:\n"),
        ("twice-in-one-list.yaml", "dog:\n  folder: [n1, n2, n1]\n  synonyms: hound\ncat: []\n"),
        ("a.json", '{"dog": {"folder": ["n1", " n2 "], "synonyms": ["hound"]}, "cat": {"folder": null}}'),
    ],
)
def test_labels_may_say_their_folders(tmp_path: Path, name: str, content: str) -> None:
    found = read_labels(write(tmp_path, name, content)).items
    assert found == (Label("dog", ("hound",), folders=("n1", "n2")), Label("cat"))


def test_numbers_are_folders_as_they_are_typed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "horse: {folder: 007}\n")
    assert read_labels(path).items == (Label("horse", folders=("007",)),)


@pytest.mark.parametrize(
    ("name", "content", "line", "message"),
    [
        (
            "two.csv",
            "label,folder\ncat,1\ndog,1\n",
            3,
            "folder '1' of label 'dog' already belongs to label 'cat', on line 2",
        ),
        ("two.yaml", "cat: {folder: 1}\ndog: {folder: [2, 1]}\n", 2, "folder '1' of label 'dog' already belongs"),
        ("same.csv", "label,folder\ncat,1\ncat,1\n", 3, "label 'cat' is already on line 2"),
        ("none.csv", "label,folder\ncat,1\ncat,\n", 3, "label 'cat' is already on line 2"),
        ("blank.csv", "label,folder\ncat,1 | \n", 2, "a folder of 'cat' is blank"),
        ("near.csv", "label,folders\ncat,1\n", 1, "did you mean 'folder'?"),
        ("map.yaml", "cat: {folder: {a: b}}\n", 1, "expected text, found a mapping"),
        (
            "key.yaml",
            "cat: {path: a}\n",
            1,
            "has the unknown key 'path'; known are synonyms, prompts, folder",
        ),
    ],
)
def test_folders_that_are_wrong(tmp_path: Path, name: str, content: str, line: int, message: str) -> None:
    with pytest.raises(LabelsError) as error:
        read_labels(write(tmp_path, name, content))
    assert str(error.value).startswith(f"{tmp_path / name}, line {line}: ")
    assert message in str(error.value)

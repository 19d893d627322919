"""Lists of labels as people have them from other tools: read as words, or refused with what to write."""

import json
from pathlib import Path

import pytest

from zeroshot_cli.errors import LabelsError, UsageError
from zeroshot_cli.words.labels import Label, Labels, read_labels
from zeroshot_cli.words.prompts import Prompts, read_prompts
from zeroshot_cli.words.textfiles import label_files, read_noted

CARD = """\
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': apple
          '1': pizza
"""
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "annotations": [{"id": 1, "category_id": 3}],
    "categories": [{"id": 3, "name": "apple", "supercategory": "food"}, {"id": 7, "name": "pizza"}],
}
HF_CONFIG = {"architectures": ["ViT"], "id2label": {"1": "pizza", "0": "apple"}, "label2id": {"apple": 0, "pizza": 1}}


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", '{"labels": ["apple", "pizza"]}'),
        ("classes.yaml", "classes:\n- apple\n- pizza\n"),
        ("class names.json", '{"class_names": ["apple", "pizza"], "version": 2}'),
        ("label names.json", '{"Label-Names": ["apple", "pizza"]}'),
        ("categories.yaml", "categories: [apple, pizza]\n"),
        ("inner.yaml", "labels:\n  apple: []\n  pizza:\n"),
        ("yolo list.yaml", "path: ../data\ntrain: images\nval: images\nnc: 2\nnames: ['apple', 'pizza']\n"),
        ("yolo mapping.yaml", "train: images\nnames:\n  0: apple\n  1: pizza\n"),
        ("coco.json", json.dumps(COCO)),
        ("objects.json", '[{"id": 1, "label": "apple"}, {"id": 2, "title": "pizza"}]'),
        ("id2label.json", '{"0": "apple", "1": "pizza"}'),
        ("ids in another order.json", '{"10": "pizza", "9": "apple"}'),
        ("id objects.json", '{"0": {"name": "apple"}, "1": {"name": "pizza"}}'),
        ("label2id.json", '{"pizza": 1, "apple": 0}'),
        ("class_to_idx.json", '{"class_to_idx": {"pizza": 1, "apple": 0}}'),
        ("config.json", json.dumps(HF_CONFIG)),
        ("imagenet_class_index.json", '{"0": ["n07739125", "apple"], "1": ["n07873807", "pizza"]}'),
        ("pairs.json", '[["n07739125", "apple"], ["n07873807", "pizza"]]'),
        ("card.yaml", CARD),
        (
            "dataset_infos.json",
            '{"default": {"features": {"label": {"names": ["apple", "pizza"], "_type": "ClassLabel"}}}}',
        ),
        ("0 apple.txt", "0 apple\n1 pizza\n"),
        ("0 colon.txt", "0: apple\n1: pizza\n"),
        ("1 point.txt", "1. apple\n2. pizza\n"),
        ("1 bracket.txt", "1) apple\n2) pizza\n"),
        ("0 bar.txt", "0 | apple\n1 | pizza\n"),
        ("ids and TAB.txt", "17\tapple\n3\tpizza\n"),
        ("ids behind.txt", "apple\t17\npizza\t3\n"),
        ("apple 0.txt", "apple 0\npizza 1\n"),
        ("wnids.txt", "n07739125\tapple\nn07873807 pizza\n"),
        ("quotes.txt", '"apple"\n“pizza”\n'),
        ("python.txt", "'apple',\n'pizza',\n"),
        ("bullets.txt", "- apple\n* pizza\n"),
        ("boxes.txt", "- [ ] apple\n- [x] pizza\n"),
        ("header.txt", "label\napple\npizza\n"),
        ("yaml in text.txt", "labels:\n- apple\n- pizza\n"),
        ("json in text.txt", '["apple", "pizza"]'),
        ("table.txt", "id;label\n0;apple\n1;pizza\n"),
        ("one line.txt", "apple, pizza\n"),
        ("mac.txt", "apple\rpizza"),
        ("utf-16.txt", "apple\r\npizza\r\n".encode("utf-16")),
        ("utf-32.json", '["apple", "pizza"]'.encode("utf-32")),
        ("class.csv", "class\napple\npizza\n"),
        ("name.csv", "id;name\n0;apple\n1;pizza\n"),
        ("category.csv", "id|category\n0|apple\n1|pizza\n"),
        ("numbers and names.csv", "class,name\n0,apple\n1,pizza\n"),
        ("excel.csv", "sep=;\nid;label\n0;apple\n1;pizza\n"),
        ("no header.csv", "0,apple\n1,pizza\n"),
        ("table.tsv", "index\tclass_name\n0\tapple\n1\tpizza\n"),
    ],
)
def test_apple_and_pizza_from_every_list(tmp_path: Path, name: str, content: str | bytes) -> None:
    labels = read_labels(written(tmp_path, name, content))
    assert labels.names == ("apple", "pizza")
    assert all(label.synonyms == () for label in labels)
    assert labels.notes or name in ("mac.txt", "objects.json", "pairs.json")


@pytest.mark.parametrize(
    ("name", "content", "folders"),
    [
        ("map.json", '{"3": "apple", "7": "pizza"}', ("3", "7")),
        ("coco.json", json.dumps(COCO), ("3", "7")),
        ("wnids.txt", "n07739125 apple\nn07873807 pizza\n", ("n07739125", "n07873807")),
    ],
)
def test_ids_name_the_folders_of_a_data_set(tmp_path: Path, name: str, content: str, folders: tuple[str, ...]) -> None:
    assert tuple(label.folders[0] for label in read_labels(written(tmp_path, name, content))) == folders


def test_wordnets_lines_have_synonyms_after_commas(tmp_path: Path) -> None:
    path = written(tmp_path, "synset_words.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish\n")
    assert read_labels(path).items == (
        Label("tench", ("Tinca tinca",), folders=("n01440764",)),
        Label("goldfish", folders=("n01443537",)),
    )


def test_ids_of_imagenet_alone_get_their_names(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "a.txt", "n01440764\nn01484850\n"))
    assert labels.items == (Label("tench", folders=("n01440764",)), Label("great white shark", folders=("n01484850",)))
    assert labels.notes == ("WordNet ids replaced by the names of ImageNet's classes",)


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("counts.txt", "1 person\n2 people\n3 people\n", ("1 person", "2 people", "3 people")),
        ("one count.txt", "apple\n3 cats\n737-200\n", ("apple", "3 cats", "737-200")),
        ("levels.txt", "level 1\nlevel 2\n", ("level 1", "level 2")),
        ("quotes within.txt", 'a "good" dog\n\'s-Hertogenbosch\n', ('a "good" dog', "'s-Hertogenbosch")),
        ("commas.txt", "Paris, France\nRome, Italy\n", ("Paris, France", "Rome, Italy")),
        ("entities.txt", "fish &amp; chips\ncaf&eacute;\nAT&T; x\n", ("fish & chips", "café", "AT&T; x")),
        ("keys.yaml", "cat: [kitten]\nlesson: {synonyms: [class]}\n", ("cat", "lesson")),
    ],
)
def test_what_belongs_to_a_label_stays(tmp_path: Path, name: str, content: str, names: tuple[str, ...]) -> None:
    assert read_labels(written(tmp_path, name, content)).names == names


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("case.txt", "apple\nApple\n", "line 2: label 'Apple' is the same words as 'apple' on line 1; remove"),
        ("accents.txt", "caf\u00e9\ncafe\u0301\n", "line 2: label 'cafe\u0301' is the same words as 'caf\u00e9'"),
        ("point.txt", "apple\npear\napple.\n", "line 3: label 'apple.' is the same words as 'apple' on line 1"),
        ("spaces.txt", "tree house\ntree  house\n", "is the same words as 'tree house' on line 1"),
        (
            "numbers.json",
            '["1", "2"]',
            "all labels are numbers, such as '1', and a model needs words; write '1: apple'",
        ),
        ("unknown.txt", "n07739125\n", "'n07739125' is a WordNet id, not a word, and not one of ImageNet's classes"),
        ("default.json", '{"id2label": {"0": "LABEL_0"}}', "'LABEL_0' is a number, not a word"),
        ("one key.json", '{"fruit": ["apple", "pizza"]}', "write `labels:` above a list of labels, or `fruit:"),
        ("one word.yaml", "fruit: apple\n", "'fruit' is the only key"),
        ("no list.yaml", "labels: apple, pizza\n", "'labels' has no list; write each label as an item"),
        ("unclear.yaml", "classes: [lesson]\ndog: [hound]\n", "'classes' may hold all labels, or be a label"),
        ("two.yaml", "names: [cat]\nlabels: [dog]\n", "'labels' holds other labels than 'names' on line 1; keep one"),
        ("no word.json", '{"0": ["n01440764"]}', "'0' has no word; write one after it"),
        ("field.yaml", "fruit: {colour: red}\n", "unknown key 'colour'"),
        ("objects.json", '[{"colour": "red"}]', "a mapping without the key name"),
        ("some numbers.txt", "apple\n2. pizza\n", "'2. pizza' begins with a number, and line 1 does not; remove"),
        ("counted.txt", "3 cats\n2 dogs\n", "'3 cats' begins with a number, as all lines do; remove it if"),
        ("columns.txt", "apple\tfruit\npizza\tfood\n", "has 2 columns, and all lines do; keep one"),
        ("unnamed.csv", "apple\npizza\n", "write label above the labels"),
        ("either.csv", "name,class\nBello,dog\nMiez,cat\n", "any of the columns name, class may be the label; rename"),
        ("unmarked.txt", "apple\npizza".encode("utf-16-le"), "looks like UTF-16 without a byte order mark; save"),
        ("nul.txt", b"ap\0ple", "line 1: has a NUL byte; save the file as UTF-8"),
        ("latin.csv", "label\ncafé\n".encode("cp1252"), "line 2: byte 0xe9 is not UTF-8 (Windows-1252 for 'é'?); save"),
        ("half.txt", b"\xff\xfea", "is invalid UTF-16; save the file as UTF-8"),
        ("long.txt", "a" * 100_000, "line 1 has 100,000 characters, more than any model reads; write at most 2000"),
        ("digits.json", f"[{'1' * 5000}]", "has 5,000 characters"),
        ("itself.yaml", "a: &x [*x]\n", "the alias *x stands for nothing, or for itself"),
    ],
)
def test_what_is_no_list_of_labels_is_refused_with_what_to_write(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(LabelsError) as caught:
        read_labels(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


def test_aliases_that_stand_for_a_thousand_million_values(tmp_path: Path) -> None:
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    for read in (read_labels, lambda path: read_prompts(str(path))):
        with pytest.raises(Exception, match="its aliases stand for more than 10,000 values; write them out"):
            read(written(tmp_path, "a.yaml", "\n".join(lines)))


def test_a_pipe_is_no_label_file(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UsageError, match="is not a plain file"):
        read_labels(tmp_path / "a.txt")


def test_labels_of_a_user_differ_in_more_than_case() -> None:
    with pytest.raises(LabelsError, match="the labels 'apple' and 'Apple' are the same words; remove one"):
        Labels.of_user(["apple", "pear", "Apple"])


def test_built_in_sets_are_read_as_they_are() -> None:
    for name in label_files():
        assert read_labels(name).notes == ()


def test_a_template_in_the_place_of_a_file() -> None:
    with pytest.raises(UsageError, match=r"is a template, not a file; write --template 'a photo of a \{\}'"):
        read_prompts("a photo of a {}")
    assert Prompts.of(["a photo of a {}", "{label}."]).templates == ("a photo of a {}", "{label}.")


def test_bytes_that_say_their_encoding(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "é\r\n".encode("utf-16-be"))
    with pytest.raises(LabelsError, match="NUL"):
        read_noted(written(tmp_path, "b.txt", "ab".encode("utf-16-be")), LabelsError)
    path.write_bytes(b"\xfe\xff" + "é\r\n".encode("utf-16-be"))
    assert read_noted(path, LabelsError) == ("é\n", ("read as UTF-16",))

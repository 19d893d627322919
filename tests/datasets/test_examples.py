"""Examples to learn from, in the forms that people have."""

from pathlib import Path

import pytest
from PIL import Image

from zeroshot_cli.datasets.examples import read_examples
from zeroshot_cli.datasets.labelled import read_dataset
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.words.labels import Labels

LABELS = Labels.of(["cat", "dog", "red panda"])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        Image.new("RGB", (4, 4), (ord(name), 0, 0)).save(f"{name}.png")


def read(content: str, labels: Labels | None = LABELS) -> list[tuple[object, str]]:
    Path("t.csv").write_text(content)
    found = read_examples(["t.csv"], labels)
    return [(item, found.labels.names[target]) for item, target in zip(found.items, found.targets, strict=True)]


def test_a_table_whose_labels_are_written_otherwise() -> None:
    assert read("image,label\na.png,Cats\nb.png,red_panda\n") == [("a.png", "cat"), ("b.png", "red panda")]


def test_of_corrections_the_last_counts() -> None:
    content = "path,label,was,when\na.png,cat,dog,1\nb.png,dog,cat,2\na.png,dog,cat,3\nb.png,,dog,4\nc.png,cat,dog,5\n"
    assert read(content) == [("a.png", "dog"), ("c.png", "cat")]


def test_without_labels_those_of_all_sources_count() -> None:
    Path("set/fox").mkdir(parents=True)
    Path("set/fox/c.png").write_bytes(Path("c.png").read_bytes())
    Path("t.csv").write_text("image,label\na.png,owl\nb.png,bat\n")
    found = read_examples(["t.csv", "set"])
    assert found.labels.names == ("bat", "fox", "owl")
    assert [found.labels.names[target] for target in found.targets] == ["owl", "bat", "fox"]
    assert found.places == ("t.csv line 2", "t.csv line 3", "set")


def test_a_folder_has_no_columns_and_a_table_beside_it_has() -> None:
    Path("set/fox").mkdir(parents=True)
    Path("set/fox/c.png").write_bytes(Path("c.png").read_bytes())
    Path("t.csv").write_text("image,label,species\na.png,owl,bat\n")
    found = read_examples(["t.csv", "set"], label_column="species")
    assert found.labels.names == ("bat", "fox")
    text = "--label-column species not used, for it is a folder and has no columns"
    assert found.doubts[-1] == f"set: {text}"
    assert not any("--label-column" in each for each in read_examples(["t.csv", "set"]).doubts)
    data = read_dataset("set", image_column="path", label_column="species")
    assert data.warnings[-1] == f"warning: set: --image-column path and {text}"


def test_answers_of_eval_are_true_labels_whatever_their_rank() -> None:
    content = "path,label,predicted,correct,rank,score,probability\na.png,cat,dog,false,3,0.2,0.4\n"
    assert read(content) == [("a.png", "cat")]


def test_answers_that_are_groups_teach_no_label() -> None:
    content = "path,rank,label,score,probability,error,group\na.png,1,cat,0.2,0.9,,pet\nb.png,1,pet,0.2,0.9,,pet\n"
    labels = Labels.of_user({"pet": ["cat", "dog"]})
    assert read(content, labels) == [("a.png", "cat")]
    assert read(content) == [("a.png", "cat")]  # without labels, the column says so
    assert read(content.replace(",,pet\n", ",,animal/pet\n")) == [("a.png", "cat")]
    Path("t.csv").write_text(content)
    assert "t.csv: 1 row labelled with a group passed over" in read_examples(["t.csv"], labels).passed_over


def test_unknown_may_be_a_label() -> None:
    assert read("image,label\na.png,unknown\n", Labels.of(["unknown", "cat"])) == [("a.png", "unknown")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image,label\na.png,red pandda\n", "'red pandda' is not one of the 3 labels (the nearest is 'red panda')"),
        (
            "image,label\na.png,cat\n./a.png,dog\n",
            "'cat' in t.csv line 2 and 'dog' in t.csv line 3; an image has one label",
        ),
        ("image,label\na.png,unknown\n", "no example to learn from; t.csv: 1 row labelled 'unknown' passed over"),
        ("path,rank,label,score,probability,error\na.png,2,cat,0.1,0.1,\n", "1 row with a rank over 1 passed over"),
        ("image,caption\na.png,cat\n", "has no label column"),
    ],
)
def test_what_is_wrong(content: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read(content)
    assert words in str(caught.value)


def test_what_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"none: no such examples; give a folder of class folders, a CSV"):
        read_examples(["none"], LABELS)

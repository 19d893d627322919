"""Folders to train on: images with texts beside them, with a list of captions, or in folders of their class."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from zeroshot_cli.datasets.folders import PairOptions, read_sources
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.selection import Selection
from zeroshot_cli.pairs.read import Pairs
from zeroshot_cli.words.prompts import read_prompts

PLAIN = PairOptions()
Draw = Callable[..., None]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    def write(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), "red").save(tmp_path / name)

    return write


def rows(pairs: Pairs, folder: Path) -> list[tuple[str, str]]:
    return [
        (str(Path(image).relative_to(folder)), caption)
        for image, caption in zip(pairs.images, pairs.captions, strict=True)
    ]


def test_images_with_a_text_file_beside_each(tmp_path: Path, draw: Draw) -> None:
    draw("a.png", "sub/b.png", "sub/c.png")
    (tmp_path / "a.txt").write_text("a red square\nanother line\n")
    (tmp_path / "sub/b.txt").write_text("\n blue \n")
    pairs = read_sources([str(tmp_path)], PLAIN)
    assert rows(pairs, tmp_path) == [("a.png", "a red square"), ("a.png", "another line"), ("sub/b.png", "blue")]
    assert pairs.notes[1] == f"{tmp_path}: 1 images have no caption and are left out"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.jsonl", '{"file_name": "a.png", "text": "red"}\n'),
        ("metadata.csv", "file_name,text\na.png,red\n"),
        ("captions.txt", "image,caption\na.png,red\n"),
    ],
)
def test_a_folder_of_images_with_a_list_of_captions(tmp_path: Path, draw: Draw, name: str, text: str) -> None:
    draw("a.png")
    (tmp_path / name).write_text(text)
    assert rows(read_sources([str(tmp_path)], PLAIN), tmp_path) == [("a.png", "red")]
    (tmp_path / "captions.csv").write_text(text)
    with pytest.raises(UsageError, match=rf"has .*{name}.*; name the one to use"):
        read_sources([str(tmp_path)], PLAIN)


def test_class_folders_get_a_template_that_is_drawn(tmp_path: Path, draw: Draw) -> None:
    draw("red_kite/1.png", "red_kite/2.png", "owl/3.png")
    pairs = read_sources([str(tmp_path)], PairOptions(prompts="imagenet-7"))
    assert rows(pairs, tmp_path) == [
        ("owl/3.png", "owl"),
        ("red_kite/1.png", "red kite"),
        ("red_kite/2.png", "red kite"),
    ]
    templates = [text.replace("{}", "red kite") for text in read_prompts("imagenet-7").templates]
    assert pairs.text(1) == templates[0]
    drawn = [pairs.text(1, Random(seed)) for seed in range(200)]
    assert set(drawn) == set(templates)
    assert drawn == [pairs.text(1, Random(seed)) for seed in range(200)]
    other = read_sources([str(tmp_path)], PairOptions(prompts="plain"))
    assert other.fingerprint() != pairs.fingerprint()


def test_classes_join_captions_of_another_source(tmp_path: Path, draw: Draw) -> None:
    draw("set/owl/1.png", "set/kite/2.png")
    (tmp_path / "x.csv").write_text("image,caption\nset/owl/1.png,owl\n")
    pairs = read_sources([str(tmp_path / "x.csv"), str(tmp_path / "set")], PairOptions(prompts="imagenet-7"))
    assert [source.rows for source in pairs.sources] == [1, 2]
    assert pairs.text(0) == "owl"
    assert pairs.text(2) != "owl"


def test_class_folders_by_number_need_words(tmp_path: Path, draw: Draw) -> None:
    draw("set/0/1.png", "set/1/2.png")
    with pytest.raises(DataError, match=r"numbers for names, such as 0, .*--labels FILE"):
        read_sources([str(tmp_path / "set")], PLAIN)
    labels = tmp_path / "labels.txt"
    labels.write_text("owl\nkite\n")
    pairs = read_sources([str(tmp_path / "set")], PairOptions(labels=str(labels)))
    assert pairs.captions == ("owl", "kite")


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        (["a.png"], DataError, "has no captions: neither metadata.jsonl"),
        (["train/cat/a.png", "val/cat/b.png"], UsageError, "its folders are splits, not classes .*--data .*/train"),
        (["n01440764/a.png", "n01443537/b.png"], DataError, "--labels FILE"),
    ],
)
def test_folders_that_have_no_captions_are_refused(
    tmp_path: Path, draw: Draw, names: list[str], error: type[Exception], words: str
) -> None:
    draw(*names)
    with pytest.raises(error, match=words):
        read_sources([str(tmp_path)], PLAIN)


def test_boxes_of_yolo_are_no_captions(tmp_path: Path, draw: Draw) -> None:
    draw("a.png", "b.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.25 1\n3 0.1 0.2 0.3 0.4\n")
    (tmp_path / "b.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    with pytest.raises(DataError, match="boxes, as YOLO writes them"):
        read_sources([str(tmp_path)], PLAIN)


def test_a_folder_of_tars_says_how_to_name_them(tmp_path: Path) -> None:
    (tmp_path / "s-0.tar").touch()
    with pytest.raises(UsageError, match=r"holds 1 tars; name them as --data '.*/\*\.tar'"):
        read_sources([str(tmp_path)], PLAIN)


def test_thumbnails_and_what_is_excluded_are_not_trained_on(tmp_path: Path, draw: Draw) -> None:
    draw("cat/1.png", "cat/@eaDir/1.png/thumb.png", "dog/2.png", "@eaDir/3.png", ".thumbnails/4.png", "raw/5.png")
    pairs = read_sources([str(tmp_path)], PairOptions(selection=Selection(exclude=("raw",))))
    assert [caption for _, caption in rows(pairs, tmp_path)] == ["cat", "dog"]
    assert any("1 hidden or system image left out: @eaDir 1; --all-files takes them" in note for note in pairs.notes)
    for name in ("cat/1", "cat/@eaDir/1.png/thumb", "dog/2", "raw/5"):
        (tmp_path / f"{name}.txt").write_text(f"a caption of {name[:3]}")
    pairs = read_sources([str(tmp_path)], PairOptions(selection=Selection(exclude=("raw",))))
    assert [caption for _, caption in rows(pairs, tmp_path)] == ["a caption of cat", "a caption of dog"]
    everything = read_sources([str(tmp_path)], PairOptions(selection=Selection(all_files=True)))
    assert len(everything.images) == 4


# tables of labels


def labelled(tmp_path: Path, draw: Draw, text: str = "image,label\na.png,tabby_cat\nb.png,dog\n") -> str:
    draw("a.png", "b.png")
    (tmp_path / "set.csv").write_text(text)
    return str(tmp_path / "set.csv")


def test_labels_of_a_table_are_put_into_templates_as_those_of_class_folders_are(tmp_path: Path, draw: Draw) -> None:
    file = labelled(tmp_path, draw)
    pairs = read_sources([file], PairOptions(templates=("a {}.", "the {}.")))
    assert rows(pairs, tmp_path) == [("a.png", "tabby cat"), ("b.png", "dog")]
    assert pairs.sources[0].texts == {"dog": ("a dog.", "the dog."), "tabby cat": ("a tabby cat.", "the tabby cat.")}
    assert {pairs.text(0, Random(f"0 {epoch} 0 text")) for epoch in range(9)} == {"a tabby cat.", "the tabby cat."}
    assert any("the captions are its 2 labels in templates of own" in note for note in pairs.notes), pairs.notes
    draw("folders/tabby_cat/a.png", "folders/dog/b.png")
    assert read_sources([str(tmp_path / "folders")], PairOptions(templates=("a {}.", "the {}."))).sources[0].texts == (
        pairs.sources[0].texts
    )


def test_captions_come_before_labels_unless_the_labels_are_named(tmp_path: Path, draw: Draw) -> None:
    file = labelled(tmp_path, draw, "image,caption,label,kind\na.png,a cat asleep,cat,pet\nb.png,a dog,dog,pet\n")
    assert read_sources([file], PLAIN).captions == ("a cat asleep", "a dog")
    assert not read_sources([file], PLAIN).sources[0].texts
    for column, captions in (("label", ("cat", "dog")), ("KIND", ("pet", "pet"))):
        pairs = read_sources([file], PairOptions(label_column=column))
        assert pairs.captions == captions
        assert pairs.sources[0].texts.keys() == set(captions)
    assert not read_sources([file], PairOptions(caption_column="label")).sources[0].texts
    with pytest.raises(DataError, match=r"has no column 'x', .*; name the right one with --label-column"):
        read_sources([file], PairOptions(label_column="x"))


def test_folders_have_no_columns(tmp_path: Path, draw: Draw) -> None:
    draw("set/cat/a.png", "set/dog/b.png", "texts/a.png")
    (tmp_path / "texts/a.txt").write_text("a red square\n")
    for folder, options, named in (
        ("set", PairOptions(label_column="species"), "--label-column species"),
        ("texts", PairOptions(image_column="x", caption_column="y"), "--image-column x and --caption-column y"),
    ):
        path = str(tmp_path / folder)
        note = f"{path}: {named} not used, for it is a folder and has no columns"
        assert read_sources([path], options).notes[0] == note
        assert note not in read_sources([path], PLAIN).notes


def test_labels_by_number_need_names(tmp_path: Path, draw: Draw) -> None:
    file = labelled(tmp_path, draw, "image,label\na.png,1\nb.png,0\n")
    with pytest.raises(DataError, match=r"all 2 labels are numbers, such as 1, .*--labels FILE"):
        read_sources([file], PLAIN)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    pairs = read_sources([file], PairOptions(labels=str(tmp_path / "labels.txt"), templates=("{}",)))
    assert rows(pairs, tmp_path) == [("a.png", "dog"), ("b.png", "cat")]
    (tmp_path / "labels.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"set.csv"):
        read_sources([file], PairOptions(labels=str(tmp_path / "labels.txt")))


def test_a_table_with_another_column_of_classes_says_how_to_name_it(tmp_path: Path, draw: Draw) -> None:
    file = labelled(tmp_path, draw, "image,category\na.png,cat\nb.png,dog\n")
    with pytest.raises(DataError, match=r"no caption column .*--caption-column, or --label-column category"):
        read_sources([file], PLAIN)


def test_an_empty_label_and_a_missing_image_are_omitted(tmp_path: Path, draw: Draw) -> None:
    file = labelled(tmp_path, draw, "image,label\na.png,cat\nb.png,\nc.png,dog\nb.png,dog\n")
    pairs = read_sources([file], PLAIN)
    assert rows(pairs, tmp_path) == [("a.png", "cat"), ("b.png", "dog")]
    assert (pairs.empty_captions, pairs.missing_files) == (1, 1)

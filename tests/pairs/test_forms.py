"""Captions in the files that people have: COCO, Flickr, LLaVA, Hugging Face; and what only looks like them."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.pairs.read import Pairs, read_pairs

Read = Callable[..., Pairs]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """a.jpg and b.jpg beside the lists."""
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    return tmp_path


def written(folder: Path, name: str, content: Any) -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def rows(pairs: Pairs) -> list[tuple[str, str]]:
    return [(Path(image).name, caption) for image, caption in zip(pairs.images, pairs.captions, strict=True)]


COCO = {
    "info": {"year": 2017},
    "licenses": [{"id": 1}],
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}, {"id": 9, "file_name": "c.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 8, "caption": "two dogs\n"},
        {"id": 2, "image_id": 7, "caption": "a cat"},
        {"id": 3, "image_id": 8, "caption": "dogs, again"},
    ],
}


@pytest.mark.parametrize("indent", [None, 1])
def test_cocos_captions_have_their_images_in_a_folder_of_their_split(tmp_path: Path, indent: int | None) -> None:
    (tmp_path / "val2017").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / "val2017" / name)
    file = written(tmp_path, "annotations/captions_val2017.json", json.dumps(COCO, indent=indent))
    pairs = read_pairs([file])
    assert rows(pairs) == [("b.jpg", "two dogs"), ("a.jpg", "a cat"), ("b.jpg", "dogs, again")]
    assert sorted(note.removeprefix(f"{file}: ") for note in pairs.notes) == [
        "1 of 3 images have no caption and are left out",
        f"2 images are in {tmp_path / 'val2017'}",
        "read as COCO's captions, with images and annotations",
    ]


def test_cocos_images_that_are_missing_are_counted(images: Path) -> None:
    more = [{"id": 4, "image_id": 9, "caption": "a bird"}, {"id": 5, "image_id": 10, "caption": "what?"}]
    file = written(images, "captions.json", {**COCO, "annotations": COCO["annotations"] + more})  # type: ignore[operator]
    pairs = read_pairs([file])
    assert (len(pairs), pairs.missing_files) == (3, 2)
    assert pairs.first_missing == str(images / "c.jpg")


def test_images_in_a_folder_that_is_named(images: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = written(tmp_path_factory.mktemp("elsewhere"), "captions.json", COCO)
    with pytest.raises(DataError, match=r"none of the 3 images .*--image-root"):
        read_pairs([file])
    assert len(read_pairs([file], image_root=str(images))) == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("results.token", 'a.jpg#0\tA red, "big" thing .\na.jpg#1\tAgain .\n\nb.jpg#0\tBlue .\n'),
        ("captions.txt", 'image,caption\na.jpg,"A red, ""big"" thing ."\na.jpg,Again .\nb.jpg,Blue .\n'),
        (
            "results.csv",
            'image_name| comment_number| comment\na.jpg| 0| A red, "big" thing .\na.jpg| 1| Again .\nb.jpg| 0| Blue .',
        ),
    ],
)
def test_captions_as_flickr8k_and_flickr30k_write_them(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "Images").mkdir()
    for image in ("a.jpg", "b.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / "Images" / image)
    pairs = read_pairs([written(tmp_path, name, text)])
    assert rows(pairs) == [("a.jpg", 'A red, "big" thing .'), ("a.jpg", "Again ."), ("b.jpg", "Blue .")]


def test_a_token_file_with_another_line_names_it(images: Path) -> None:
    with pytest.raises(DataError, match=r"x\.token line 2: 'b\.jpg blue' is not name\.jpg#0"):
        read_pairs([written(images, "x.token", "a.jpg#0\tred\nb.jpg blue\n")])


LLAVA = [
    {
        "id": "1",
        "image": "a.jpg",
        "conversations": [
            {"from": "human", "value": "Describe it.\n<image>"},
            {"from": "gpt", "value": "a red square"},
            {"from": "human", "value": "What colour?"},
            {"from": "gpt", "value": "red"},
        ],
    },
    {"id": "2", "image": "b.jpg", "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "blue"}]},
    {"id": "3", "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hello!"}]},
]
SHAREGPT = [
    {
        "messages": [
            {"role": "user", "content": "<image>?"},
            {"role": "assistant", "content": [{"type": "text", "text": "a red square"}]},
        ],
        "images": ["a.jpg"],
    },
    {"messages": [{"role": "assistant", "content": "blue"}], "images": ["b.jpg"]},
]


@pytest.mark.parametrize(("content", "missing"), [(LLAVA, 1), (SHAREGPT, 0)])
@pytest.mark.parametrize("lines", [False, True])
def test_conversations_about_images(images: Path, content: list[Any], missing: int, lines: bool) -> None:
    text = "\n".join(map(json.dumps, content)) if lines else json.dumps(content, indent=2)
    pairs = read_pairs([written(images, "chat.json", text)])
    assert rows(pairs) == [("a.jpg", "a red square"), ("b.jpg", "blue")]
    assert pairs.missing_files == missing
    assert any("first answers" in note for note in pairs.notes)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.jsonl", '{"file_name": "a.jpg", "text": "red"}\n{"file_name": "b.jpg", "text": "blue"}\n'),
        ("metadata.csv", "file_name,text\na.jpg,red\nb.jpg,blue\n"),
        ("metadata.csv", "file_name,additional_feature\na.jpg,red\nb.jpg,blue\n"),
        ("names.json", '{"a.jpg": "red", "b.jpg": ["blue"]}'),
        (
            "data.json",
            '{"version": 1, "data": [{"image": "a.jpg", "caption": "red"}, {"image": "b.jpg", "caption": "blue"}]}',
        ),
        ("one.json", '{\n"image": "a.jpg",\n"captions": ["red"]\n}'),
    ],
)
def test_other_lists_of_captions(images: Path, name: str, text: str) -> None:
    column = "additional_feature" if "additional" in text else None
    pairs = read_pairs([written(images, name, text)], caption_column=column)
    assert rows(pairs) == [("a.jpg", "red"), ("b.jpg", "blue")][: 1 if name == "one.json" else 2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"images": [], "categories": [], "annotations": []}, "COCO's boxes or categories .*captions_val2017"),
        (
            {"images": [{"filename": "a", "sentences": []}], "dataset": "coco"},
            "looks like Karpathy's splits",
        ),
        ({"questions": [{"image_id": 1}]}, "looks like questions about images"),
        ({"imagePath": "a.jpg", "shapes": []}, "labelme"),
        ({**COCO, "images": [{"file_name": "a.jpg"}]}, "item 1 of images: its id is None"),
        ({**COCO, "annotations": [{"caption": "x"}]}, "item 1 of annotations: its image_id is None"),
        (
            {**COCO, "images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]},
            "images: id 1 occurs",
        ),
        ([{"images": ["a.jpg", "b.jpg"], "messages": [{"role": "user"}]}], "item 1: a conversation about 2 images"),
    ],
)
def test_what_only_looks_like_captions_is_named(images: Path, content: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_pairs([written(images, "x.json", content)])


# commas without quotes


def test_commas_in_the_last_column_belong_to_the_caption(images: Path) -> None:
    text = "image,caption\na.jpg,red, round, and  big\nb.jpg,blue\n"
    pairs = read_pairs([written(images, "x.csv", text)])
    assert rows(pairs) == [("a.jpg", "red, round, and  big"), ("b.jpg", "blue")]
    assert any("1 captions hold ',' without quotes around them" in note for note in pairs.notes)


@pytest.mark.parametrize(
    "line",
    ['a.jpg,"red", round', "photos,a.jpg,red", "a.jpg,red,", ',a.jpg,"x, y"'],
)
def test_commas_that_may_be_of_the_path_or_of_quotes_are_refused_with_the_line(images: Path, line: str) -> None:
    text = f"image,caption\nb.jpg,blue\n{line}\n"
    if line == "a.jpg,red,":  # an empty cell more, as spreadsheets write
        assert rows(read_pairs([written(images, "x.csv", text)]))[1] == ("a.jpg", "red")
        return
    with pytest.raises(DataError, match=r"line 3: 3 cells in 2 columns; put text .*quotes"):
        read_pairs([written(images, "x.csv", text)])


def test_commas_in_a_column_that_is_not_the_last_are_refused(images: Path) -> None:
    with pytest.raises(DataError, match="line 2: 3 cells"):
        read_pairs([written(images, "x.csv", "caption,image\nred, round,a.jpg\n")])


# captions that are none


def test_classes_by_number_are_no_captions(images: Path) -> None:
    file = written(images, "x.csv", "image,text\na.jpg,3\nb.jpg,7\n")
    with pytest.raises(DataError, match=r"all 2 captions are numbers, the first 3, .*--caption-column"):
        read_pairs([file])
    pairs = read_pairs([file], caption_column="text")
    assert pairs.captions == ("3", "7")
    assert f"{file}: 2 captions are numbers only" in pairs.notes


def test_nan_as_pandas_writes_it_is_an_empty_caption(images: Path) -> None:
    file = written(images, "x.csv", "image,caption\na.jpg,red\na.jpg,nan\nb.jpg,NaN\nb.jpg,None\nb.jpg,\n")
    pairs = read_pairs([file])
    assert (pairs.captions, pairs.empty_captions) == (("red",), 4)
    assert f"{file}: 3 captions say nan, null or none, and count as empty" in pairs.notes


# several files


def shard(path: Path, *names: str) -> None:
    with tarfile.open(path, "w") as tar:
        for name in names:
            for extension, content in (("jpg", b"image"), ("txt", name.encode())):
                member = tarfile.TarInfo(f"{name}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def test_one_broken_shard_of_several_is_left_out_and_named(tmp_path: Path) -> None:
    for number in range(3):
        shard(tmp_path / f"s-{number}.tar", f"x{number}", f"y{number}")
    broken = tmp_path / "s-1.tar"
    broken.write_bytes(broken.read_bytes()[:2100])
    pairs = read_pairs([f"{tmp_path}/s-*.tar"])
    assert pairs.captions == ("x0", "y0", "x2", "y2")
    assert set(pairs.members) == set(pairs.images)
    assert [(item.path, item.reason[:12]) for item in pairs.skipped] == [(str(broken), "is truncated")]
    with pytest.raises(DataError, match="truncated"):
        read_pairs([str(broken)])


def test_globs_name_tables_too(images: Path) -> None:
    for name in "ab":
        written(images, f"{name}.csv", f"image,caption\n{name}.jpg,{name}\n")
    assert rows(read_pairs([f"{images}/*.csv"])) == [("a.jpg", "a"), ("b.jpg", "b")]
    with pytest.raises(UsageError, match=r"\*\.tsv: no file matches this pattern"):
        read_pairs([f"{images}/*.tsv"])


@pytest.mark.parametrize("more", [{"objects": [{"label": "cat", "bbox": [1, 2]}]}, {"questions": ["what is it?"]}])
def test_json_lines_whose_rows_hold_lists_of_objects_too(images: Path, more: dict[str, Any]) -> None:
    lines = [{"image": "a.jpg", "caption": "one", **more}, {"image": "b.jpg", "caption": "two", **more}]
    name = written(images, "pairs.jsonl", "\n".join(map(json.dumps, lines)))
    assert rows(read_pairs([name])) == [("a.jpg", "one"), ("b.jpg", "two")]


def test_lines_that_are_lists_of_pairs_are_not_read_as_the_first_of_them(images: Path) -> None:
    line = json.dumps({"data": [{"image": "a.jpg", "caption": "one"}, {"image": "b.jpg", "caption": "two"}]})
    with pytest.raises(DataError, match=r"no image column .* its columns are 'data'"):
        read_pairs([written(images, "pairs.jsonl", f"{line}\n{line}\n")])


@pytest.mark.parametrize(
    "captions",
    [
        [["one"], ["two"]],
        [{"caption": "one"}, {"caption": "two"}],
        [{"raw": "one", "tokens": ["one"]}, {"raw": "two", "tokens": ["two"]}],
    ],
)
def test_captions_in_lists_of_lists_and_of_objects(images: Path, captions: list[Any]) -> None:
    found = read_pairs([written(images, "pairs.json", [{"image": "a.jpg", "captions": captions}])])
    assert rows(found) == [("a.jpg", "one"), ("a.jpg", "two")]


@pytest.mark.parametrize("cell", ["{'one', 'two'}", "('one', 'two')", "('one', 'two',)", "['one' 'two']"])
def test_captions_as_a_set_or_tuple_of_python(images: Path, cell: str) -> None:
    found = read_pairs([written(images, "pairs.csv", f'image,caption\na.jpg,"{cell}"\n')])
    assert [caption for _, caption in rows(found)] == ["one", "two"]


def test_brackets_that_are_part_of_a_caption(images: Path) -> None:
    text = "image,caption\na.jpg,(a dog)\nb.jpg,{}\n"
    assert [caption for _, caption in rows(read_pairs([written(images, "pairs.csv", text)]))] == ["(a dog)", "{}"]


def test_captions_and_tags_by_image_as_kohya_writes_them(images: Path) -> None:
    content = {"a.jpg": {"tags": "x, y", "caption": "one"}, "b.jpg": {"tags": "z", "caption": "two"}}
    assert rows(read_pairs([written(images, "meta.json", content)])) == [("a.jpg", "one"), ("b.jpg", "two")]


def test_images_as_the_library_datasets_writes_them(images: Path) -> None:
    content = [{"image": {"bytes": None, "path": "a.jpg"}, "text": "one"}]
    assert rows(read_pairs([written(images, "pairs.json", content)])) == [("a.jpg", "one")]


def test_addresses_as_laion_lists_them(images: Path) -> None:
    content = "URL,TEXT\nhttps://a.example/a,one\n"
    pairs = read_pairs([written(images, "laion.csv", content)])
    assert (list(pairs.images), list(pairs.captions)) == (["https://a.example/a"], ["one"])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cc3m.tsv", "one\thttps://a.example/a.jpg\n", "has no header, .* such as caption,image, with the separator"),
        ("pairs.txt", "a.jpg 0\nb.jpg 1\n", "has no header, .* write it as CSV with the columns image and caption"),
        ("pairs.json", {"image": {"0": "a.jpg", "1": "b.jpg"}, "caption": {"0": "x"}}, r"orient='records', lines=True"),
        (
            "pairs.json",
            {"train": [{"image": "a.jpg"}], "test": [{"image": "b.jpg"}]},
            "several lists .*'train'",
        ),
    ],
)
def test_lists_that_lack_something_say_the_way_out(images: Path, name: str, content: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_pairs([written(images, name, content)])


def test_a_column_of_splits_and_another_of_captions_are_named(images: Path) -> None:
    text = "img,caption,text,split\na.jpg,one,x,train\nb.jpg,two,y,test\n"
    said = " ".join(read_pairs([written(images, "pairs.csv", text)]).notes)
    assert "images from the column 'img'" in said
    assert "captions are not taken from 'text'" in said
    assert "rows are taken whatever their 'split' is" in said

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm.data

from zeroshot_cli.datasets.imagenet_classes import wnids
from zeroshot_cli.datasets.labelled import read_dataset, read_labelled_folder, read_labelled_table
from zeroshot_cli.datasets.matching import match_classes, sorted_classes
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.selection import Selection
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.words.labels import Label, Labels, read_labels

Draw = Callable[[Path, int], Path]


def test_folders_are_classes_in_order_with_images_at_any_depth(tmp_path: Path, draw_angle: Draw) -> None:
    draw_angle(tmp_path / "red_apple" / "b.png", 1)
    draw_angle(tmp_path / "red_apple" / "a" / "deep.jpg", 1)
    draw_angle(tmp_path / "cat" / "c.png", 1)
    found = read_labelled_folder(tmp_path)
    assert found.labels.names == ("cat", "red apple")
    assert [str(Path(str(item)).relative_to(tmp_path)) for item in found.items] == [
        "cat/c.png",
        "red_apple/a/deep.jpg",
        "red_apple/b.png",
    ]
    assert found.targets == (0, 1, 1)
    assert found.name == str(tmp_path)


def test_numbered_folders_are_numbers(tmp_path: Path, draw_angle: Draw) -> None:
    for number in (10, 2, 0, 1, 11):
        draw_angle(tmp_path / str(number) / f"{number}.png", 1)
    found = read_labelled_folder(tmp_path)
    assert found.labels.names == ("0", "1", "2", "10", "11")
    assert [Path(str(item)).stem for item in found.items] == ["0", "1", "2", "10", "11"]
    assert found.targets == (0, 1, 2, 3, 4)


def test_numbered_folders_take_labels_in_order(tmp_path: Path, draw_angle: Draw) -> None:
    names = [f"name {index}" for index in range(12)]
    for number in range(12):
        draw_angle(tmp_path / str(number) / f"{number}.png", 1)
    found = read_labelled_folder(tmp_path, Labels.of(names))
    for item, target in zip(found.items, found.targets, strict=True):
        assert names[target] == f"name {Path(str(item)).stem}"


def test_a_missing_number_does_not_shift_the_others(tmp_path: Path, draw_angle: Draw) -> None:
    for number in (0, 2):
        draw_angle(tmp_path / str(number) / "x.png", 1)
    assert read_labelled_folder(tmp_path, Labels.of(["a", "b", "c"])).targets == (0, 2)


def test_numbers_without_a_0_that_are_too_few_are_refused(tmp_path: Path, draw_angle: Draw) -> None:
    for number in (1, 3):
        draw_angle(tmp_path / str(number) / "x.png", 1)
    with pytest.raises(DataError, match="2 class numbers begin with 1, and the 3 labels may be counted from 0 or from"):
        read_labelled_folder(tmp_path, Labels.of(["a", "b", "c"]))


def test_a_name_of_two_labels_is_said_to_be_so(tmp_path: Path, draw_angle: Draw) -> None:
    draw_angle(tmp_path / "missile" / "x.png", 1)
    with pytest.raises(DataError, match=r"'missile' is the name of 2 labels, such as numbers 657 and 744"):
        read_labelled_folder(tmp_path, read_labels(Path("imagenet")))


def test_a_name_that_is_too_long_is_no_data_set() -> None:
    with pytest.raises(UsageError, match="no such data set"):
        read_dataset(Path("x" * 300))


def test_a_number_beyond_the_labels_is_named(tmp_path: Path, draw_angle: Draw) -> None:
    for number in (0, 7):
        draw_angle(tmp_path / str(number) / "x.png", 1)
    with pytest.raises(DataError, match="class folder '7' is not one of the 3 labels"):
        read_labelled_folder(tmp_path, Labels.of(["a", "b", "c"]))


def test_folders_match_labels_and_synonyms(tmp_path: Path, draw_angle: Draw) -> None:
    labels = Labels((Label("dog"), Label("cat", ("kitten",)), Label("Red Apple")))
    for name in ("kitten", "red_apple", "cat"):
        draw_angle(tmp_path / name / "x.png", 1)
    found = read_labelled_folder(tmp_path, labels)
    assert found.labels == labels
    assert found.targets == (1, 1, 2)


def test_an_unmatched_folder_is_named(tmp_path: Path, draw_angle: Draw) -> None:
    for name in ("cat", "zebra"):
        draw_angle(tmp_path / name / "x.png", 1)
    with pytest.raises(DataError, match=r"class folder 'zebra' is not one of the 2 labels \(the first is 'cat'\)"):
        read_labelled_folder(tmp_path, Labels.of(["cat", "dog"]))


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (["9", "3"], ["3", "9", "1"], {"3": 0, "9": 1}),  # numbers that are labels themselves
        (["1", "2", "3"], ["a", "b", "c"], {"1": 0, "2": 1, "3": 2}),  # counted from 1
        (["Turkey", "turkey"], ["turkey", "Turkey"], {"Turkey": 1, "turkey": 0}),  # case, where it decides
        (["TURKEY"], ["turkey", "Turkey"], {"TURKEY": None}),  # and where it leaves two choices
        (["a_b"], ["a b", "a_b"], {"a_b": 1}),  # the strictest reading wins
        (["cat", "12"], ["cat", "12 o'clock"], {"12": None, "cat": 0}),  # not all numbers, so no index
    ],
)
def test_matching(names: list[str], labels: list[str], expected: dict[str, int | None]) -> None:
    assert match_classes(names, Labels.of(labels)) == expected


def test_a_name_beats_a_synonym_and_two_synonyms_decide_nothing() -> None:
    labels = Labels((Label("crane", ("bird",)), Label("bird"), Label("duck", ("wader",)), Label("heron", ("wader",))))
    assert match_classes(["bird", "wader"], labels) == {"bird": 1, "wader": None}


def test_order_of_names() -> None:
    assert sorted_classes(["b", "10", "2"]) == ["10", "2", "b"]
    assert sorted_classes(["10", "9", "0100"]) == ["9", "10", "0100"]


def test_an_empty_class_folder_is_a_class(tmp_path: Path, draw_angle: Draw) -> None:
    draw_angle(tmp_path / "cat" / "x.png", 1)
    (tmp_path / "dog").mkdir()
    found = read_labelled_folder(tmp_path)
    assert (found.labels.names, found.targets) == (("cat", "dog"), (0,))


def test_other_files_are_counted_and_hidden_folders_are_no_classes(tmp_path: Path, draw_angle: Draw) -> None:
    draw_angle(tmp_path / "cat" / "x.png", 1)
    draw_angle(tmp_path / "loose.png", 1)
    draw_angle(tmp_path / ".thumbnails" / "x.png", 1)
    (tmp_path / "dog").mkdir()
    for folder in ("cat", "dog"):
        (tmp_path / folder / "notes.txt").write_text("hello")
    found = read_labelled_folder(tmp_path)
    assert (len(found), found.labels.names) == (1, ("cat", "dog"))
    assert found.left_out == (
        "1 file beside the class folders left out: .png 1",
        "1 hidden or system folder left out: .thumbnails; --all-files takes them",
        "2 files left out: .txt 2",
    )
    everything = read_labelled_folder(tmp_path, selection=Selection(all_files=True))
    assert (len(everything), everything.labels.names) == (2, (".thumbnails", "cat", "dog"))
    fewer = read_labelled_folder(tmp_path, selection=Selection(exclude=("dog",)))
    assert (len(fewer), fewer.labels.names) == (1, ("cat",))


def test_a_dangling_link_stays_with_its_class(tmp_path: Path, draw_angle: Draw) -> None:
    draw_angle(tmp_path / "a" / "x.png", 1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = read_labelled_folder(tmp_path)
    assert found.targets == (0, 1)
    gone = found.items[1]
    assert (gone.path if isinstance(gone, SkippedImage) else gone) == str(tmp_path / "b" / "gone.png")


def test_the_working_directory_may_be_the_data_set(
    tmp_path: Path, draw_angle: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("-", "b*"):
        draw_angle(tmp_path / name / "x.png", 1)
    monkeypatch.chdir(tmp_path)
    found = read_labelled_folder(Path())
    assert (found.labels.names, found.targets) == (("-", "b*"), (0, 1))


def test_folders_that_are_no_data_set(tmp_path: Path, draw_angle: Draw) -> None:
    with pytest.raises(UsageError, match="no such data set"):
        read_dataset(tmp_path / "missing")
    with pytest.raises(DataError, match="has no class folders"):
        read_dataset(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="no image in any of its 1 class folders"):
        read_dataset(tmp_path)
    draw_angle(tmp_path / "red_apple" / "x.png", 1)
    draw_angle(tmp_path / "red apple" / "x.png", 1)
    with pytest.raises(DataError, match="'red apple' and 'red_apple' are both the class 'red apple'"):
        read_dataset(tmp_path)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write a table, and the images a.png, b.png and pics/a.png beside it."""
    path.write_bytes(text.encode(encoding))
    (path.parent / "pics").mkdir(exist_ok=True)
    for name in ("a.png", "b.png", "pics/a.png"):
        (path.parent / name).touch()
    return path


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image,label", "{0},{1}"),
        ("label,image", "{1},{0}"),
        ("path,class", "{0},{1}"),
        ("filepath\tclass", "{0}\t{1}"),
        ("File;Label", "{0};{1}"),
        ("id, image , label ", '7,"{0}", {1}'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_forms(tmp_path: Path, header: str, row: str, encoding: str, newline: str) -> None:
    lines = [header, row.format("pics/a.png", "dog"), row.format("/b.png", "red_apple"), ""]
    found = read_dataset(write(tmp_path / "set.csv", newline.join(lines), encoding))
    assert found.items == (str(tmp_path / "pics" / "a.png"), "/b.png")
    assert found.labels.names == ("dog", "red apple")
    assert found.targets == (0, 1)


def test_csv_numbers_are_numbers_and_paths_may_repeat(tmp_path: Path) -> None:
    found = read_labelled_table(write(tmp_path / "set.csv", "image,label\na.png,10\nb.png,2\na.png,2\n"))
    assert found.labels.names == ("2", "10")
    assert found.targets == (1, 0, 0)
    assert len(found) == 3


def test_csv_labels_from_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "set.csv", "image,label\na.png,kitten\nb.png,dog\n")
    labels = Labels((Label("dog"), Label("cat", ("kitten",))))
    assert read_labelled_table(path, labels).targets == (1, 0)
    with pytest.raises(DataError, match=r"set.csv line 2: label 'kitten' is not one of the 1 labels"):
        read_labelled_table(path, Labels.of(["dog"]))
    write(path, "image,label\na.png,dog\nb.png,Unknown\n")
    with pytest.raises(DataError, match=r"line 3: label 'Unknown' is not one .* leave them out"):
        read_labelled_table(path, Labels.of(["dog"]))
    assert read_labelled_table(path, Labels.of(["dog", "unknown"])).targets == (0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,caption\na.png,dog\n",
            "has no label column (label, class, class_name, category, target), its columns are",
        ),
        ("picture,label\na.png,dog\n", "has no image column (image, filepath,"),
        (
            "a.png,dog\nb.png,cat\n",
            "has no header, it begins with 'a.png', 'dog'; add a first line such as image,label",
        ),
        ("", "has no header"),
        ("image,label\n\n", "has no rows"),
        ("image,label\na.png,dog\nb.png,\n", "line 3: the label is empty"),
        ("image,label\na.png,dog\n\nb.png\n", "line 4: the label is empty"),
        ("image,label\n ,dog\n", "line 2: the image is empty"),
        ('image,label\na.png,"dog\n', "line 2: a quote opened here is never closed"),
        ("image,label\na.png,dog, cat\n", "line 2: 3 cells in 2 columns"),
        (
            "image,label,label\na.png,dog,cat\n",
            "has 2 columns named 'label'; rename one, or name another with --label-column",
        ),
    ],
)
def test_csv_errors_name_the_line_and_the_value(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "set.csv", text)
    with pytest.raises(DataError) as error:
        read_dataset(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_labels_must_be_utf8_and_paths_need_not(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"):
        read_dataset(write(tmp_path / "set.csv", "image,label\na.png,café\n", "latin-1"))
    (tmp_path / "caf\udce9.png").touch()
    found = read_dataset(write(tmp_path / "set.csv", "image,label\ncafé.png,dog\n", "latin-1"))
    assert found.items == (os.path.join(tmp_path, "caf\udce9.png"),)  # noqa: PTH118


def test_columns_that_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "set.csv", "label,photo,kind\n1,a.png,dog\n2,b.png,cat\n")
    found = read_dataset(path, image_column="photo", label_column="kind")
    assert ([Path(str(item)).name for item in found.items], found.labels.names) == (["a.png", "b.png"], ("cat", "dog"))
    with pytest.raises(
        DataError, match=r"has no column 'species', its columns are 'label', 'photo', 'kind'; .*--label"
    ):
        read_dataset(path, image_column="photo", label_column="species")
    with pytest.raises(DataError, match="one column for both image and label, 'kind'"):
        read_dataset(path, image_column="kind", label_column="kind")


def test_lines_of_json(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "label": 10}, {"image": "b.png", "label": 2.0}, {"image": "a.png", "label": ["2"]}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    found = read_dataset(write(tmp_path / "set.jsonl", text))
    assert (found.labels.names, found.targets) == (("2", "10"), (1, 0, 0))
    assert read_dataset(write(tmp_path / "set.json", json.dumps(rows))).targets == (1, 0, 0)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ('["dog", "cat"]', r"line 1: the label is \['dog', 'cat'\]; an image has one label"),
        ('{"en": "dog"}', "line 1: the label is {'en': 'dog'}; expected text or a number"),
        ("null", "line 1: the label is empty"),
        ("[]", "line 1: the label is empty"),
    ],
)
def test_labels_of_json_that_are_none(tmp_path: Path, label: str, message: str) -> None:
    path = write(tmp_path / "set.jsonl", f'{{"image": "a.png", "label": {label}}}\n')
    with pytest.raises(DataError, match=message):
        read_dataset(path)


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"file_name": ["a.png", "b.png"], "class": pa.array(["dog", "cat"]).dictionary_encode()})
    (tmp_path / "a.png").touch()
    pq.write_table(table, tmp_path / "set.parquet")
    found = read_dataset(tmp_path / "set.parquet")
    assert (found.labels.names, found.targets) == (("cat", "dog"), (1, 0))


def test_a_list_that_looks_like_captions_is_one_label(tmp_path: Path) -> None:
    path = write(tmp_path / "set.csv", 'image;label\na.png;"[""dog"", ""cat""]"\n')
    assert read_dataset(path).labels.names == ('["dog", "cat"]',)


def test_images_on_the_web_and_files_as_others_write_them(tmp_path: Path, draw_angle: Draw) -> None:
    here = draw_angle(tmp_path / "pics" / "a.png", 1)
    path = write(tmp_path / "set.csv", f"image,label\nhttps://x.org/a.png,dog\npics\\a.png,dog\nfile://{here},dog\n")
    web, *files = read_dataset(path).items
    assert web == "https://x.org/a.png"
    assert files == [str(tmp_path / "pics/a.png"), str(here)]


def test_a_tar_has_no_labels(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(write(tmp_path / "a.txt", "x"), "a.txt")
    with pytest.raises(UsageError, match=r"is a tar, .*unpack it into class folders"):
        read_dataset(tmp_path / "set.tar")


# what labels say of folders


def test_labels_name_their_folders(tmp_path: Path, draw_angle: Draw) -> None:
    labels = read_labels(write(tmp_path / "labels.csv", "label,folder\ndog,7 | 9\ncat,\nhorse,cat\n"))
    for name in ("7", "9", "cat"):
        draw_angle(tmp_path / "set" / name / "x.png", 1)
    found = read_labelled_folder(tmp_path / "set", labels)
    assert (found.targets, found.empty_classes) == ((0, 0, 2), ("cat",))
    draw_angle(tmp_path / "set" / "0" / "x.png", 1)
    with pytest.raises(DataError, match=r"class folder '0' is not one of the 3 labels .*or the folder of a label"):
        read_labelled_folder(tmp_path / "set", labels)


def test_values_of_a_column_are_folders_too(tmp_path: Path) -> None:
    labels = Labels((Label("dog", folders=("1",)), Label("cat", folders=("0",))))
    path = write(tmp_path / "set.csv", "image,label\na.png,0\nb.png,1\n")
    assert read_dataset(path, labels).targets == (1, 0)


# numbers


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 1, 3), "the 3 class numbers go to 3 without a 2"),
        ((0, 2, 3), "the 3 class numbers go to 3 without a 1"),
    ],
)
def test_one_number_too_many_and_one_missing(numbers: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        match_classes(map(str, numbers), Labels.of(["a", "b", "c"]))


def test_a_number_that_is_there_twice() -> None:
    with pytest.raises(DataError, match="two classes have the number 1, one of them written 1; rename one"):
        match_classes(["0", "01", "1"], Labels.of(["a", "b", "c"]))


@pytest.mark.parametrize("missing", [1, 500, 999])
def test_999_of_the_numbers_of_imagenet(missing: int) -> None:
    numbers = [str(number) for number in range(1000) if number != missing]
    assert match_classes(numbers, read_labels("imagenet")) == {number: int(number) for number in numbers}


def test_without_its_0_it_is_not_clear() -> None:
    with pytest.raises(DataError, match="the 999 class numbers begin with 1, and the 1000 labels may be counted"):
        match_classes(map(str, range(1, 1000)), read_labels("imagenet"))


# WordNet ids


def test_wnids_are_classes_of_imagenet(tmp_path: Path, draw_angle: Draw) -> None:
    """Missiles are the classes 657 and 744, sunglasses 836 and 837: each has a folder of its own."""
    folders = {"n03773504": 657, "n04008634": 744, "n04355933": 836, "n04356056": 837, "n01440764": 0, "n15075141": 999}
    for name in folders:
        draw_angle(tmp_path / name / "x.png", 1)
    labels = read_labels("imagenet")
    found = read_labelled_folder(tmp_path, labels)
    assert {
        Path(str(item)).parent.name: target for item, target in zip(found.items, found.targets, strict=True)
    } == folders
    assert [labels.names[place] for place in (657, 744, 836, 837)] == ["missile"] * 2 + ["sunglasses"] * 2
    draw_angle(tmp_path / "n00000001" / "x.png", 1)
    with pytest.raises(DataError, match=r"class folder 'n00000001' is not one of the 1000 labels"):
        read_labelled_folder(tmp_path, labels)


def test_all_wnids_take_a_thousand_labels_in_order() -> None:
    labels = Labels.of([f"classe {place}" for place in range(1000)])
    assert match_classes(wnids(), labels) == {wnid: place for place, wnid in enumerate(wnids())}
    assert set(match_classes(wnids()[:999], labels).values()) == {None}


def test_wnids_beside_other_labels(tmp_path: Path, draw_angle: Draw) -> None:
    draw_angle(tmp_path / "n01440764" / "x.png", 1)
    with pytest.raises(
        DataError, match=r"'n01440764' is not one of the 1 labels .*it is a class of ImageNet: give --labels"
    ):
        read_labelled_folder(tmp_path, Labels.of(["tench"]))
    draw_angle(tmp_path / "n01443537" / "x.png", 1)
    assert (
        "WordNet ids, which mean nothing to a model; give --labels imagenet"
        in read_labelled_folder(tmp_path).warnings[0]
    )


def test_the_wnids_are_timms() -> None:
    path = Path(timm.data.__file__).parent / "_info" / "imagenet_synsets.txt"
    assert list(wnids()) == path.read_text().split()


def test_labels_that_name_wnids() -> None:
    sunglasses = (Label("sunglasses", folders=(wnid,)) for wnid in ("n04355933", "n04356056"))
    labels = Labels((Label("tench", folders=("n01440764",)), *sunglasses))
    assert match_classes(["n04356056", "n04355933", "n01440764"], labels) == {
        "n01440764": 0,
        "n04355933": 1,
        "n04356056": 2,
    }


# classes without images


def test_classes_without_images_are_said(tmp_path: Path, draw_angle: Draw) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    draw_angle(tmp_path / "b" / "only.png", 1)
    found = read_labelled_folder(tmp_path)
    assert (found.targets, found.empty_classes) == ((1,), ("a", "c"))
    assert found.notes == (
        f"{tmp_path}: 2 of 3 classes have no image (a, c); they remain possible answers"
        "; --only-present leaves them out",
    )
    narrower = "; --only-present leaves them out"
    full = read_labelled_folder(tmp_path, Labels.of(["a", "b", "c", "d", "e"]))
    assert full.notes == (
        f"{tmp_path}: 4 of 5 classes have no image (a, c, d, …); they remain possible answers{narrower}",
    )
    (tmp_path / "notes.txt").write_text("x")
    draw_angle(tmp_path / "a" / "x.png", 1)
    assert read_labelled_folder(tmp_path).notes == (
        f"{tmp_path}: 1 file beside the class folders left out: .txt 1",
        f"{tmp_path}: 1 of 3 classes has no image (c); they remain possible answers",
    )

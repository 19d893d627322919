from collections.abc import Callable
from pathlib import Path

import pytest

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.evaluate.datasets import (
    match_classes,
    read_dataset,
    read_labelled_csv,
    read_labelled_folder,
    sorted_classes,
)
from zeroshot_cli.labels import Label, Labels, read_labels
from zeroshot_cli.records import SkippedImage

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
    with pytest.raises(DataError, match="2 class numbers begin with 1 and the 3 labels may be counted from 0 or from"):
        read_labelled_folder(tmp_path, Labels.of(["a", "b", "c"]))


def test_a_name_of_two_labels_is_said_to_be_so(tmp_path: Path, draw_angle: Draw) -> None:
    draw_angle(tmp_path / "missile" / "x.png", 1)
    with pytest.raises(DataError, match=r"'missile' is the name of 2 labels, .* numbers 657 and 744"):
        read_labelled_folder(tmp_path, read_labels(Path("imagenet")))


def test_a_name_that_is_too_long_is_no_data_set() -> None:
    with pytest.raises(UsageError, match="no such data set"):
        read_dataset(Path("x" * 300))


def test_a_number_beyond_the_labels_is_named(tmp_path: Path, draw_angle: Draw) -> None:
    for number in (0, 7):
        draw_angle(tmp_path / str(number) / "x.png", 1)
    with pytest.raises(DataError, match="class folder '7' is none of the 3 labels"):
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
    with pytest.raises(DataError, match=r"class folder 'zebra' is none of the 2 labels \(the first is 'cat'\)"):
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
    assert (len(found), found.ignored, found.labels.names) == (1, 3, ("cat", "dog"))


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
    path.write_bytes(text.encode(encoding))
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
    found = read_labelled_csv(write(tmp_path / "set.csv", "image,label\na.png,10\nb.png,2\na.png,2\n"))
    assert found.labels.names == ("2", "10")
    assert found.targets == (1, 0, 0)
    assert len(found) == 3


def test_csv_labels_from_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "set.csv", "image,label\na.png,kitten\nb.png,dog\n")
    labels = Labels((Label("dog"), Label("cat", ("kitten",))))
    assert read_labelled_csv(path, labels).targets == (1, 0)
    with pytest.raises(DataError, match=r"set.csv, line 2: label 'kitten' is none of the 1 labels"):
        read_labelled_csv(path, Labels.of(["dog"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,caption\na.png,dog\n",
            "has no label column; its columns are 'image', 'caption', one must",
        ),
        (
            "picture,label\na.png,dog\n",
            "has no image column; its columns are 'picture', 'label', one must",
        ),
        ("", "has no image column; its columns are none"),
        ("image,label\n\n", "has no rows"),
        ("image,label\na.png,dog\nb.png,\n", "line 3: label is empty"),
        ("image,label\na.png,dog\n\nb.png\n", "line 4: label is empty"),
        ("image,label\n ,dog\n", "line 2: image is empty"),
        ('image,label\na.png,"dog\n', "line 2: is not a valid CSV"),
    ],
)
def test_csv_errors_name_the_line_and_the_value(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "set.csv", text)
    with pytest.raises(DataError) as error:
        read_dataset(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_csv_must_be_utf8(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not UTF-8"):
        read_dataset(write(tmp_path / "set.csv", "image,label\na.png,café\n", "latin-1"))

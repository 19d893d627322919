"""Folders as people have them: what is evaluated, what is doubted, and what is refused with the way out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from zeroshot_cli import LabelledImages, read_dataset
from zeroshot_cli.datasets.layouts import warnings_of_names
from zeroshot_cli.datasets.matching import match_classes, without_prefixes
from zeroshot_cli.errors import DataError
from zeroshot_cli.words.labels import Labels, read_labels

Draw = Callable[[Path, int], Path]


@pytest.fixture
def folders(tmp_path: Path, draw_angle: Draw) -> Callable[..., Path]:
    """`folders("cat", "dog")` makes a folder with an image in each of these."""

    def make(*names: str) -> Path:
        for name in names:
            draw_angle(tmp_path / "set" / name / "x.png", 1)
        return tmp_path / "set"

    return make


def doubts(path: Path, labels: Labels | None = None) -> str:
    return " ".join(read_dataset(path, labels).warnings)


@pytest.mark.parametrize(("count", "sets"), [(10, "cifar10 or mnist or stl10"), (100, "cifar100"), (3, "")])
def test_folders_named_0_to_9(folders: Callable[..., Path], count: int, sets: str) -> None:
    path = folders(*map(str, range(count)))
    text = doubts(path)
    assert f"its classes are the numbers 0 to {count - 1}, which mean nothing to a model; give their names" in text
    assert all(f"{name} " in text.replace(")", " ") for name in sets.split(" or ") if name)
    assert ("has as many" in text) is bool(sets)
    names = Labels.of(f"name {number}" for number in range(count))
    assert doubts(path, names) == ""
    assert f"{count} class names read as labels: '0' as 'name 0'" in " ".join(read_dataset(path, names).notes)


@pytest.mark.parametrize(
    ("names", "way_out"),
    [
        (("train/cat", "val/cat", "test/cat"), "val"),
        (("training/cat", "testing/cat"), "testing"),
        (("Train/cat", "Validation/cat"), "Validation"),
        (("fold1/cat", "fold2/cat", "fold10/cat"), "fold1"),
        (("test/cat", "labels", "images"), "test"),
        (("images/train", "labels/train", "val/a/b"), "val"),
        (("train/cat",), "train"),
    ],
)
def test_a_folder_that_holds_train_val_and_test(
    folders: Callable[..., Path], names: tuple[str, ...], way_out: str
) -> None:
    path = folders(*names)
    with pytest.raises(
        DataError, match=rf"are parts of a data set, not classes; give one of them, such as .*/{way_out}$"
    ):
        read_dataset(path)


@pytest.mark.parametrize(
    "names", [("images", "labels"), ("JPEGImages", "Annotations", "ImageSets"), ("images", "annotations")]
)
def test_images_beside_their_annotations(folders: Callable[..., Path], names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"what was noted about them, not classes; give a table"):
        read_dataset(folders(*names))


def test_class_folders_in_a_folder_of_images(folders: Callable[..., Path]) -> None:
    path = folders("images/cat", "images/dog")
    with pytest.raises(DataError, match=r"its only folder, images, is not a class; give .*/set/images$"):
        read_dataset(path)
    assert read_dataset(path / "images").labels.names == ("cat", "dog")


def test_trains_beside_cars_are_a_class(folders: Callable[..., Path]) -> None:
    path = folders("train", "car", "bus")
    assert read_dataset(path).labels.names == ("bus", "car", "train")
    assert doubts(path) == ""
    assert "folders test and train look like parts of a data set" in doubts(folders("test"))


def test_labels_that_are_called_train_and_test(folders: Callable[..., Path]) -> None:
    assert len(read_dataset(folders("train", "test"), Labels.of(["test", "train"]))) == 2


def test_what_zeroshot_sorted(folders: Callable[..., Path]) -> None:
    path = folders("cat", "dog", "unknown")
    assert doubts(path) == ""
    (path / "manifest.csv").write_text("action,label,source,target,link\n")
    assert "was sorted by zeroshot (it has a manifest.csv), so its folders are a model's own answers" in doubts(path)
    assert read_dataset(path).labels.names == ("cat", "dog")


def test_a_thousand_numbers() -> None:
    assert "(imagenet has as many)" in warnings_of_names([*map(str, range(1000))])[0]


def test_one_class(folders: Callable[..., Path]) -> None:
    assert "has one class, 'cat', so every answer is right" in doubts(folders("cat"))
    assert doubts(folders("cat"), Labels.of(["cat", "dog"])) == ""


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("001.Black_footed_Albatross", "002.Laysan_Albatross"), ("Black footed Albatross", "Laysan Albatross")),
        (("n02085620-Chihuahua", "n02085782-Japanese_spaniel"), ("Chihuahua", "Japanese spaniel")),
        (("0_cat", "1_dog"), ("cat", "dog")),
        (("2-door", "4-door"), ("2-door", "4-door")),
        (("1 star", "2 star"), ("1 star", "2 star")),
        (("1_cat", "dog"), ("1 cat", "dog")),
    ],
)
def test_numbers_and_ids_before_class_names(
    folders: Callable[..., Path], names: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    found = read_dataset(folders(*names))
    assert found.labels.names == expected
    assert any("without the number or id" in note for note in found.notes) is bool(without_prefixes(names))


def test_dogs_of_stanford_are_classes_of_imagenet(folders: Callable[..., Path]) -> None:
    labels = read_labels("imagenet")
    found = read_dataset(folders("n02085620-Chihuahua", "n02085782-Japanese_spaniel"), labels)
    assert [labels.names[target] for target in found.targets] == ["Chihuahua", "Japanese Chin"]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("cats", "cat"),
        ("CATS", "cat"),
        ("cherry", "cherries"),
        ("dishes", "dish"),
        ("t-shirt", "T shirts"),
        ("Cafe\u0301", "café"),  # accents as macOS writes them in names
        ("red__apples", "Red Apple"),
    ],
)
def test_names_that_differ_in_case_underscores_or_a_plural(name: str, label: str) -> None:
    assert match_classes([name], Labels.of(["bus", label, "glass"])) == {name: 1}


def test_matched_plurals_are_said(folders: Callable[..., Path]) -> None:
    found = read_dataset(folders("cats", "dog"), Labels.of(["cat", "dog"]))
    assert found.notes[-1].endswith("1 class name read as labels: 'cats' as 'cat'")


@pytest.mark.parametrize("names", [("Cat", "cat"), ("Caf\u00e9", "Cafe\u0301"), ("red_apple", "Red Apple")])
def test_classes_that_are_one_word(folders: Callable[..., Path], names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="are both the class"):
        read_dataset(folders(*names))


def test_cat_beside_cats_is_said(folders: Callable[..., Path]) -> None:
    notes = read_dataset(folders("cat", "cats", "dog")).notes
    assert any("nearly the same name: 'cat' and 'cats'" in note for note in notes)


def test_twenty_numbers_and_a_hundred_labels(folders: Callable[..., Path]) -> None:
    text = doubts(folders(*map(str, range(20))), read_labels("cifar100"))
    assert "its 20 class numbers were taken as the first 20 of the 100 labels" in text
    assert "give a list of 20 labels" in text


def test_a_subset_of_imagenet_narrowed_to_what_is_there(folders: Callable[..., Path]) -> None:
    found = read_dataset(folders("n01440764", "n02099601", "n07742313"), read_labels("imagenet"))
    assert len(found.labels) == 1000
    assert any("997 of 1000 classes have no image" in note for note in found.notes)
    narrow = found.narrowed()
    assert narrow.labels.names == ("tench", "Golden Retriever", "Granny Smith apple")
    assert narrow.targets == (0, 1, 2)
    assert any("only the 3 of 1000 labels that have images are possible answers" in note for note in narrow.notes)


def test_one_image_of_a_class_is_said(folders: Callable[..., Path], draw_angle: Draw) -> None:
    path = folders("cat", "dog")
    assert read_dataset(path).notes == ()
    draw_angle(path / "cat" / "y.png", 1)
    assert read_dataset(path).notes == (f"{path}: 1 of 2 classes has one image only",)


def test_labelled_images_without_notes() -> None:
    found = LabelledImages("mine", ("a.png", "b.png"), (0, 1), Labels.of(["cat", "dog"]))
    assert (found.notes, found.warnings, found.narrowed()) == ((), (), found)


def test_folders_inside_class_folders_are_named(folders: Callable[..., Path]) -> None:
    path = folders("animals/cat", "animals/dog", "cars")
    said = " ".join(read_dataset(path).notes)
    assert f"such as cat and dog to 'animals'; if they are the classes, give {path / 'animals'}" in said

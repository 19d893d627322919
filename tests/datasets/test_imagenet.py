"""ImageNet's validation images in the layouts that people have, a few of them, in files without content."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from zeroshot_cli.datasets.imagenet import read_imagenet
from zeroshot_cli.datasets.imagenet_classes import wnids
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.words.labels import read_labels

WNIDS = wnids()
TRUE = [random.Random(7).randrange(1000) for _ in range(50_000)]  # the class of image i + 1
SHOWN = (1, 2, 777, 50_000)
DEVKIT = "ILSVRC2012_validation_ground_truth.txt"


def name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08}.JPEG"


def flat(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in SHOWN:
        (folder / name(number)).touch()
    return folder


def check(folder: Path) -> None:
    found = read_imagenet(folder)
    numbers = [int(Path(str(item)).stem[15:23]) for item in found.items]
    assert numbers == list(SHOWN)
    assert found.targets == tuple(TRUE[number - 1] for number in SHOWN)
    assert found.labels == read_labels("imagenet")
    assert (found.name, found.as_stored, found.prompts, found.known) == ("imagenet", True, "imagenet-80", "imagenet")


def kaggle(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    rows = [
        f"ILSVRC2012_val_{i:08},{WNIDS[true]} 85 1 499 272 {WNIDS[true]} 1 2 3 4 " for i, true in enumerate(TRUE, 1)
    ]
    random.Random(1).shuffle(rows)
    (folder / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "\n".join(rows) + "\n")


def caffe(folder: Path) -> None:
    (folder / "val.txt").write_text("".join(f"{name(i)} {true}\n" for i, true in enumerate(TRUE, 1)))


def caffe_with_wnids(folder: Path) -> None:
    (folder / "val.txt").write_text("".join(f"val/{name(i)} {WNIDS[true]}\r\n" for i, true in enumerate(TRUE, 1)))


def tensorflow(folder: Path) -> None:
    text = "".join(f"{WNIDS[true]}\n" for true in TRUE)
    (folder / "imagenet_2012_validation_synset_labels.txt").write_text(text)


def devkit(folder: Path, classes: int = 1000) -> None:
    """Ids in another order than classes, and the inner nodes of WordNet behind them, as the devkit of 2012 has it."""
    order = list(range(1000))
    random.Random(3).shuffle(order)
    id_of = {true: number for number, true in enumerate(order, start=1)}
    (folder / DEVKIT).write_text("".join(f"{id_of[true]}\n" for true in TRUE))
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    leaves = [(float(number), WNIDS[true], f"word {true}", "a gloss", 0.0) for true, number in id_of.items()]
    inner = [(1001.0 + place, f"n1000000{place}", "animal", "a gloss", 3.0) for place in range(3)]
    rows = np.array([*leaves[:classes], *inner], dtype=kind)
    savemat(folder / "meta.mat", {"synsets": rows.reshape(-1, 1)})


@pytest.mark.parametrize("write", [kaggle, caffe, caffe_with_wnids, tensorflow, devkit])
def test_flat_images_with_a_file_that_says_their_classes(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(flat(tmp_path))
    check(tmp_path)


def test_the_devkit_beside_the_folder_of_images(tmp_path: Path) -> None:
    flat(tmp_path / "root" / "val")
    kit = tmp_path / "root" / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    devkit(kit)
    check(tmp_path / "root")
    check(tmp_path / "root" / "val")


def test_kaggles_folders(tmp_path: Path) -> None:
    """Its ImageSets/CLS-LOC/val.txt counts the images: 1 is no class. Its solution lies at the top."""
    images = flat(tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "val")
    (images / "val.txt").write_text("".join(f"ILSVRC2012_val_{i:08} {i}\n" for i in range(1, 50_001)))
    with pytest.raises(DataError, match="flat images without their classes"):
        read_imagenet(tmp_path)
    kaggle(tmp_path)
    check(tmp_path)


def test_names_that_say_the_class(tmp_path: Path) -> None:
    for number in SHOWN:
        (tmp_path / f"ILSVRC2012_val_{number:08}_{WNIDS[TRUE[number - 1]]}.JPEG").touch()
    check(tmp_path)
    (tmp_path / "ILSVRC2012_val_00000003_n00000001.JPEG").touch()
    with pytest.raises(DataError, match=r"00000003_n00000001.JPEG: n00000001 is not one of ImageNet's 1000 classes"):
        read_imagenet(tmp_path)


@pytest.mark.parametrize("place", ["", "val"])
def test_folders_by_wnid(tmp_path: Path, place: str) -> None:
    for number in SHOWN:
        folder = tmp_path / place / WNIDS[TRUE[number - 1]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name(number)).touch()
    if place:
        (tmp_path / "train" / WNIDS[5]).mkdir(parents=True)
    found = read_imagenet(tmp_path)
    assert {
        int(Path(str(item)).stem[15:]): target for item, target in zip(found.items, found.targets, strict=True)
    } == {number: TRUE[number - 1] for number in SHOWN}
    assert len(found.empty_classes) >= 996


def test_other_files_beside_flat_images_are_counted(tmp_path: Path) -> None:
    caffe(flat(tmp_path))
    (tmp_path / "cat.png").touch()
    found = read_imagenet(tmp_path)
    assert len(found) == 4


def test_what_is_looked_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder; give --data-dir"):
        read_imagenet(tmp_path / "missing")
    with pytest.raises(
        DataError, match=r"looked there and in val, .* folders such as n01440764 and for ILSVRC2012_val_"
    ):
        read_imagenet(tmp_path)
    (tmp_path / "ILSVRC2012_img_val.tar").touch()
    with pytest.raises(DataError, match=r"unpack its ILSVRC2012_img_val.tar first"):
        read_imagenet(tmp_path)
    flat(tmp_path)
    with pytest.raises(
        DataError, match=r"for LOC_val_solution.csv, .*, val.txt and ILSVRC2012_validation_ground_truth"
    ):
        read_imagenet(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("val.txt", f"{name(1)} 5\n{name(2)} n00000001\n", "val.txt line 2: 'n00000001' is not one of"),
        ("val.txt", f"{name(1)} 5 6\n", "val.txt line 1: expected an image and its class, such as"),
        ("val.txt", f"{name(1)} 5\ncat.png 6\n", "line 2: 'cat.png' is not an image of the validation set"),
        ("val.txt", f"{name(1)} 1000\n{name(2)} 1\n", "class numbers go up to 1000, so it is unclear where they begin"),
        ("val.txt", f"{name(1)} 5\n", "val_00000002.JPEG: image 2 has no class listed"),
        ("val.txt", "JPEGImages/2007_000032\n", "flat images without their classes"),  # of another data set
        ("LOC_val_solution.csv", "ImageId,PredictionString\nILSVRC2012_val_00000001,\n", "line 2: '' is not one of"),
        ("synset_labels.txt", "n01440764\n", "has 1 lines where the validation set has 50,000 images"),
        (DEVKIT, "1\n" * 50_000, "needs the devkit's meta.mat, which explains its ids; put it beside"),
    ],
)
def test_wrong_files_of_classes(tmp_path: Path, file: str, text: str, message: str) -> None:
    (flat(tmp_path) / file).write_text(text)
    with pytest.raises(DataError) as error:
        read_imagenet(tmp_path)
    assert message in str(error.value)


def test_a_devkit_that_is_wrong(tmp_path: Path) -> None:
    devkit(flat(tmp_path), classes=999)
    with pytest.raises(DataError, match=r"meta.mat: has 999 of ImageNet's 1000 classes"):
        read_imagenet(tmp_path)
    (tmp_path / "meta.mat").write_bytes(b"not MATLAB's")
    with pytest.raises(DataError, match=r"meta.mat: is damaged or not the devkit's"):
        read_imagenet(tmp_path)
    devkit(tmp_path)
    (tmp_path / DEVKIT).write_text("1\n" * 49_999 + "1001\n")
    with pytest.raises(DataError, match=r"line 50000: '1001' is not an id from 1 to 1000"):
        read_imagenet(tmp_path)


def test_more_images_than_the_validation_set_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / WNIDS[0]).mkdir()
    for number in range(5):
        (tmp_path / WNIDS[0] / f"{WNIDS[0]}_{number}.JPEG").touch()
    monkeypatch.setattr("zeroshot_cli.datasets.imagenet.COUNT", 4)
    with pytest.raises(DataError, match=r"has 5 images where the validation set has 4, so it may be the training set"):
        read_imagenet(tmp_path)


def test_a_number_beyond_the_last(tmp_path: Path) -> None:
    (flat(tmp_path) / name(50_001)).touch()
    with pytest.raises(DataError, match="an image numbered 50001; the validation set ends at 50000"):
        read_imagenet(tmp_path)

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from zeroshot_cli.datasets.captioned import CaptionedImages, captioned, read_captioned
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.records import SkippedImage

Draw = Callable[[Path, int], Path]


def rows(found: CaptionedImages) -> list[tuple[str, str]]:
    return [(Path(str(found.items[image])).name, found.texts[text]) for image, text in found.pairs]


def test_a_table_with_several_captions_an_image(tmp_path: Path, draw_angle: Draw) -> None:
    for name in ("a.png", "b.png"):
        draw_angle(tmp_path / name, 1)
    path = tmp_path / "set.csv"
    path.write_text("image,caption\na.png,a dog\nb.png,a cat\na.png, a dog \na.png,an animal\nb.png,an animal\n")
    found = read_captioned(path)
    assert found.items == (str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    assert found.texts == ("a dog", "a cat", "an animal")
    assert found.pairs == ((0, 0), (1, 1), (0, 2), (1, 2))
    assert (found.name, found.notes, len(found)) == (str(path), (), 2)


def test_lists_of_captions_and_other_columns(tmp_path: Path, draw_angle: Draw) -> None:
    draw_angle(tmp_path / "a.png", 1)
    (tmp_path / "set.jsonl").write_text(json.dumps({"photo": "a.png", "words": ["x", "y", "x"]}))
    found = read_captioned(tmp_path / "set.jsonl", image_column="photo", caption_column="words")
    assert rows(found) == [("a.png", "x"), ("a.png", "y")]


def test_what_is_left_out_is_said(tmp_path: Path, draw_angle: Draw) -> None:
    draw_angle(tmp_path / "a.png", 1)
    path = tmp_path / "set.csv"
    path.write_text("image,caption\na.png,x\na.png,\ngone.png,y\ngone.png,z\n")
    found = read_captioned(path)
    assert rows(found) == [("a.png", "x")]
    assert found.notes == (
        f"{path}: skipped 2 captions of missing images (first: {tmp_path / 'gone.png'})",
        f"{path}: skipped 1 empty caption",
    )


def test_a_folder_with_text_files(tmp_path: Path, draw_angle: Draw) -> None:
    for name in ("a.png", "deep/b.c.jpg", "bare.png", "blank.png"):
        draw_angle(tmp_path / name, 1)
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa dog\r\n\r\n an animal \r\n")
    (tmp_path / "deep" / "b.c.txt").write_text("an animal")
    (tmp_path / "blank.txt").write_text("\n")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "dangling.txt").write_text("a ghost")
    found = read_captioned(tmp_path)
    assert rows(found) == [
        ("a.png", "a dog"),
        ("a.png", "an animal"),
        ("dangling.png", "a ghost"),
        ("b.c.jpg", "an animal"),
    ]
    assert found.notes == (f"{tmp_path}: skipped 2 images without a caption",)


def test_folders_without_captions(tmp_path: Path, draw_angle: Draw) -> None:
    with pytest.raises(DataError, match="no image found"):
        read_captioned(tmp_path)
    draw_angle(tmp_path / "a.png", 1)
    with pytest.raises(DataError, match="none of its 1 image has a caption; write a text file beside each, such as"):
        read_captioned(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"a.txt.* UTF-8"):
        read_captioned(tmp_path)


def test_files_that_are_none(tmp_path: Path, draw_angle: Draw) -> None:
    with pytest.raises(UsageError, match="no such file; give eval a csv, tsv, jsonl or parquet file"):
        read_captioned(tmp_path / "missing.csv")
    draw_angle(tmp_path / "0.png", 1)
    (tmp_path / "0.txt").write_text("x")
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for name in ("0.png", "0.txt"):
            tar.add(tmp_path / name, name)
    with pytest.raises(UsageError, match="evaluation reads images from files; unpack the tar into a folder"):
        read_captioned(tmp_path / "set.tar")


def test_what_is_unreadable_already_stays() -> None:
    bad = SkippedImage("b.png", "empty file")
    found = captioned("x", [("a.png", ["1", "2"]), (bad, ["2"]), ("a.png", ["3"])])
    assert (found.items, found.texts) == (("a.png", bad), ("1", "2", "3"))
    assert found.pairs == ((0, 0), (0, 1), (1, 1), (0, 2))


def test_classes_by_number_are_no_captions(tmp_path: Path, draw_angle: Draw) -> None:
    draw_angle(tmp_path / "a.png", 1)
    (tmp_path / "set.csv").write_text("image,label\na.png,3\na.png,7\n")
    with pytest.raises(DataError, match="all its labels are numbers, which are no captions"):
        read_captioned(tmp_path / "set.csv")

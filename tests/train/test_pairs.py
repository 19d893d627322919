"""Pairs from CSV files, as people have them and as they should not be."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from zeroshot_cli.errors import DataError, UsageError, ZeroshotError
from zeroshot_cli.train.pairs import Pairs, read_pairs

Draw = Callable[..., Path]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """a.png and b.png, red and blue, in a folder of their own."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (8, 8), colour).save(folder / name)
    return folder


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "pairs.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("image", ["image", "filepath", "image_path", "path", "file", "Image", "FILEPATH"])
@pytest.mark.parametrize("caption", ["caption", "title", "text", "label", "Title"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_columns_and_delimiter_are_found(pictures: Path, image: str, caption: str, delimiter: str) -> None:
    rows = [("id", caption, image), ("1", "a red, square; thing", "a.png"), ("2", "blue", "b.png")]
    text = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)
    pairs = read_pairs([write(pictures, text)])
    assert pairs.images == (str(pictures / "a.png"), str(pictures / "b.png"))
    assert pairs.captions == ("a red, square; thing", "blue")


@pytest.mark.parametrize("encode", [lambda text: "\ufeff".encode() + text, lambda text: text.replace(b"\n", b"\r\n")])
def test_a_mark_at_the_start_and_windows_lines_are_no_matter(pictures: Path, encode: Callable[[bytes], bytes]) -> None:
    pairs = read_pairs([write(pictures, encode("image,caption\na.png,été 夏\n".encode()))])
    assert (pairs.images, pairs.captions) == ((str(pictures / "a.png"),), ("été 夏",))


def test_the_first_known_name_is_taken_and_an_option_overrules_it(pictures: Path) -> None:
    file = write(pictures, "path,label,title,image,mine\nb.png,L,T,a.png,M\n")
    assert read_pairs([file]) == Pairs((str(pictures / "a.png"),), ("T",))
    assert read_pairs([file], image_column="path", caption_column="mine") == Pairs((str(pictures / "b.png"),), ("M",))


def test_a_caption_may_hold_a_line_break_and_is_stripped(pictures: Path) -> None:
    assert read_pairs([write(pictures, 'image,caption\na.png,"  two\nlines "\n')]).captions == ("two\nlines",)


def test_rows_without_caption_or_image_are_left_out_and_counted(pictures: Path) -> None:
    text = "image,caption\na.png,red\nb.png,\nb.png,  \nc.png,green\nb.png\n\nd.png,\nb.png,blue\n"
    pairs = read_pairs([write(pictures, text)])
    assert pairs.captions == ("red", "blue")
    assert (pairs.empty_captions, pairs.missing_files) == (4, 1)


def test_a_cell_that_is_too_long_for_a_name_is_a_missing_image(pictures: Path) -> None:
    pairs = read_pairs([write(pictures, f"image,caption\na.png,red\n{'x' * 300}.png,long\n")])
    assert (pairs.captions, pairs.missing_files) == (("red",), 1)


def test_paths_are_relative_to_the_file_that_names_them(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(pictures, "image,caption\na.png,red\n")
    monkeypatch.chdir(tmp_path)
    pairs = read_pairs([Path("set/pairs.csv")])
    assert Path(pairs.images[0]).samefile(pictures / "a.png")


def test_absolute_paths_stay(pictures: Path, tmp_path: Path) -> None:
    pairs = read_pairs([write(tmp_path, f"image,caption\n{pictures / 'a.png'},red\n")])
    assert pairs.images == (str(pictures / "a.png"),)


def test_several_files_follow_each_other(pictures: Path, draw_pairs: Draw) -> None:
    pairs = read_pairs([write(pictures, "path;text\na.png;red\nx.png;x\n"), draw_pairs(1)])
    assert pairs.captions == ("red", "green on red")
    assert pairs.missing_files == 1


@pytest.mark.parametrize(
    ("content", "options", "kind", "words"),
    [
        ("name,caption\na.png,red\n", {}, DataError, ["pairs.csv", "'name', 'caption'", "--image-column"]),
        ("image,words\na.png,red\n", {}, DataError, ["'image', 'words'", "--caption-column"]),
        ("image,caption\na.png,x\n", {"caption_column": "alt"}, DataError, ["'alt'", "--caption-column"]),
        ("image,caption\na.png,x\n", {"image_column": "url"}, DataError, ["'url'", "--image-column"]),
        ("", {}, DataError, ["no header"]),
        ("\n\n", {}, DataError, ["no header"]),
        ("image,caption\n", {}, DataError, ["no rows"]),
        ("image,caption\na.png,\n", {}, DataError, ["empty caption", "--caption-column"]),
        ("image,caption\nx.png,x\n", {}, DataError, ["none of the 1 images", "set/x.png", "relative to the file"]),
        (b"image,caption\na.png,red\nb.png,\xe9t\xe9\n", {}, DataError, ["line 3", "0xe9", "UTF-8"]),
        ("image,caption\na.png,red\na.png," + "x" * 140_000, {}, DataError, ["line 3", "field"]),
    ],
)
def test_a_wrong_file_is_explained(
    pictures: Path, content: str | bytes, options: dict[str, str], kind: type[ZeroshotError], words: list[str]
) -> None:
    with pytest.raises(kind) as error:
        read_pairs([write(pictures, content)], **options)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_file_that_is_not_there_is_a_wrong_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv: no such file"):
        read_pairs([tmp_path / "none.csv"])
    with pytest.raises(UsageError, match="directory"):
        read_pairs([tmp_path])


def test_a_fingerprint_is_of_the_rows_and_not_of_the_place() -> None:
    here = Pairs(("/here/a/1.png", "/here/a/2.png"), ("x", "y")).fingerprint()
    assert Pairs(("/there/a/1.png", "/there/a/2.png"), ("x", "y")).fingerprint() == here
    assert Pairs(("/here/a/1.png", "/here/a/2.png"), ("x", "z")).fingerprint() != here
    assert Pairs(("/here/a/2.png", "/here/a/1.png"), ("x", "y")).fingerprint() != here

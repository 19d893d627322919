"""Pairs from the files that people have, and the paths in them; tables and tars have tests of their own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from zeroshot_cli.errors import DataError, UnreadableImage, UsageError, ZeroshotError
from zeroshot_cli.pairs.read import Pairs, Source, read_pairs

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
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
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
    known, asked = read_pairs([file]), read_pairs([file], image_column="path", caption_column="mine")
    assert (known.images, known.captions) == ((str(pictures / "a.png"),), ("T",))
    assert (asked.images, asked.captions) == ((str(pictures / "b.png"),), ("M",))


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
        ("name,caption\nx,red\n", {}, DataError, ["pairs.csv", "'name', 'caption'", "--image-column"]),
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
    with pytest.raises(UsageError, match="a folder, not a file"):
        read_pairs([tmp_path])
    with pytest.raises(UsageError, match="null byte"):
        read_pairs([f"{tmp_path}/a\0b.csv"])
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UsageError, match="a pipe, not a file"):
        read_pairs([tmp_path / "pipe.csv"])


def test_a_fingerprint_is_of_the_rows_and_not_of_the_place() -> None:
    here = Pairs(("/here/a/1.png", "/here/a/2.png"), ("x", "y")).fingerprint()
    assert Pairs(("/there/a/1.png", "/there/a/2.png"), ("x", "y")).fingerprint() == here
    assert Pairs(("/here/a/1.png", "/here/a/2.png"), ("x", "z")).fingerprint() != here
    assert Pairs(("/here/a/2.png", "/here/a/1.png"), ("x", "y")).fingerprint() != here


# Paths ------------------------------------------------------------------------------------------------------


def images_of(pictures: Path, cell: str) -> tuple[str, ...]:
    return read_pairs([write(pictures, f'image,caption\n"{cell}",x\n')]).images


def test_paths_are_written_in_many_ways(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pictures / "sub" / "é x").mkdir(parents=True)
    (pictures / "sub" / "é x" / "c.png").touch()
    deep = str(pictures / "sub" / "é x" / "c.png")
    monkeypatch.setenv("HOME", str(pictures))
    assert images_of(pictures, "sub\\é x\\c.png") == (deep,)
    assert images_of(pictures, f"file://{pictures}/sub/%C3%A9%20x/c.png") == (deep,)
    assert images_of(pictures, f"file://localhost{deep}") == (deep,)
    assert images_of(pictures, f"file:{pictures}/a.png") == (str(pictures / "a.png"),)
    assert images_of(pictures, "~/a.png") == (str(pictures / "a.png"),)
    assert images_of(pictures, " a.png ") == (str(pictures / "a.png"),)
    assert images_of(pictures, "sub/../a.png") == (f"{pictures}/sub/../a.png",)


def test_a_name_that_is_there_as_it_is_is_not_read_in_another_way(pictures: Path) -> None:
    for name in ("x\\a.png", " a.png ", "~"):
        (pictures / name).touch()
        assert images_of(pictures, name) == (f"{pictures}/{name}",)


def test_a_path_may_hold_any_bytes(pictures: Path) -> None:
    names = [b"-\xff.png", b"<img onerror=x>.png", b"two\nlines.png"]
    for name in names:
        Path(os.fsdecode(os.fsencode(pictures) + b"/" + name)).touch()
    pairs = read_pairs([write(pictures, b"image,caption\n" + b"".join(b'"%s",x\n' % name for name in names))])
    assert [os.fsencode(image) for image in pairs.images] == [os.fsencode(pictures) + b"/" + name for name in names]
    assert len(pairs.fingerprint()) == 64


@pytest.mark.parametrize(
    ("cell", "shown"),
    [("", "an empty cell"), ("C:\\a.png", "set/C:\\a.png")],
)
def test_the_first_missing_image_is_known(pictures: Path, cell: str, shown: str) -> None:
    pairs = read_pairs([write(pictures, f"image,caption\n{cell},x\n{cell},y\nn.png,z\na.png,red\n")])
    assert pairs.missing_files == 3
    assert pairs.first_missing is not None
    assert pairs.first_missing.endswith(shown)


@pytest.mark.parametrize("cell", ["https://x.org/a.png", "s3://bucket/a.png", " HTTP://X/a"])
def test_addresses_are_images_too(pictures: Path, cell: str) -> None:
    assert images_of(pictures, cell) == (cell.strip(),)
    pairs = read_pairs([write(pictures, "url,caption\nhttps://me:secret@x.org/a.png?sig=1,red\n")])
    assert pairs.shown(0) == "https://***@x.org/a.png?sig=***"


def test_a_signature_renewed_is_the_same_data(pictures: Path) -> None:
    first, second = (
        read_pairs([write(pictures, f"url,caption\nhttps://x.org/a.png?sig={sig},red\n")]).fingerprint() for sig in "ab"
    )
    assert first == second


def test_a_picture_in_the_cell_itself_makes_no_long_message(pictures: Path) -> None:
    with pytest.raises(DataError, match="none of the 1 images") as error:
        images_of(pictures, "data:image/png;base64," + "A" * 100_000)
    assert len(str(error.value)) < 1500


def test_each_image_is_looked_for_once(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    isfile = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: asked.append(path) or isfile(path))
    read_pairs([write(pictures, "image,caption\n" + "a.png,x\nn.png,y\n" * 5)])
    assert asked == [str(pictures / "a.png"), str(pictures / "n.png")]


def test_an_image_has_several_captions(pictures: Path) -> None:
    pairs = read_pairs([write(pictures, 'image,caption\na.png,"[""red"", "" "", ""a square""]"\na.png,again\n')])
    assert pairs.images == (str(pictures / "a.png"),) * 3
    assert (pairs.captions, pairs.empty_captions) == (("red", "a square", "again"), 1)


# Sources ----------------------------------------------------------------------------------------------------


def test_sources_lie_one_after_the_other_with_their_weights(pictures: Path, draw_pairs: Draw) -> None:
    first, second = write(pictures, "image,caption\na.png,red\nb.png,\nb.png,blue\n"), draw_pairs(3)
    assert read_pairs([first, second]).sources == (Source(str(first), 2, 1.0), Source(str(second), 3, 1.0))
    weighted = read_pairs([first, str(second)], weights=[2, 0.5])
    assert weighted.sources == (Source(str(first), 2, 2.0), Source(str(second), 3, 0.5))
    assert weighted.images[:2] == (str(pictures / "a.png"), str(pictures / "b.png"))


def test_a_fingerprint_tells_weights_that_differ(draw_pairs: Draw) -> None:
    files = [draw_pairs(3), draw_pairs(3, "again.csv")]
    prints = {weights: read_pairs(files, weights=weights).fingerprint() for weights in [(), (1, 1), (2, 2), (1, 2)]}
    assert prints[()] == prints[1, 1] == prints[2, 2] != prints[1, 2]
    assert read_pairs(files, weights=(2, 1)).fingerprint() not in prints.values()


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1.0], "1 --data-weight for 2 --data"),
        ([1.0, 0.0], "is 0; it must be greater than 0"),
        ([1.0, -1.0], "is -1"),
        ([1.0, float("nan")], "is nan"),
        ([1.0, float("inf")], "is inf"),
    ],
)
def test_weights_that_are_none(draw_pairs: Draw, weights: list[float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_pairs([draw_pairs(2), draw_pairs(2)], weights=weights)


def test_pairs_that_are_made_by_hand_are_one_source() -> None:
    assert Pairs(("a", "b"), ("x", "y")).sources == (Source("", 2, 1.0),)


def test_an_image_is_opened_by_its_row(pictures: Path) -> None:
    pairs = read_pairs([write(pictures, "image,caption\na.png,red\nb.png,blue\n")])
    with pairs.open(1) as file:
        assert file.read() == (pictures / "b.png").read_bytes()
    (pictures / "b.png").unlink()
    with pytest.raises(UnreadableImage, match="no such file"):
        pairs.open(1)

"""The recipe that collects photographs for `small`: captions, Qt's resource files, sizes; on files of our own."""

import io
import struct
import zlib
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from scripts import script_module


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    return script_module("recipes/small/build_photographs.py")


def png(size: tuple[int, int], mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, "red").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("stem", "said", "caption"),
    [
        ("dog", "A dog.", "a dog"),
        ("penny", "A US 1 cent piece ($.01) called a penny.", "a US 1 cent piece"),
        ("nothing_said2", "", "nothing said"),
        ("broccoli", "Eat your broccoli!", "broccoli"),
    ],
)
def test_a_stamp_is_named_by_what_it_is(recipe: ModuleType, stem: str, said: str, caption: str) -> None:
    assert recipe.stamp_caption(stem, said) == caption


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("Armchair", "an armchair"),
        ("Umbrella", "an umbrella"),
        ("Urinal", "a urinal"),
        ("Sitting female", "a sitting woman"),
        ("Scissors", "scissors"),
        ("Bowl with fruits", "a bowl with fruits"),
        ("Double window 4 panes", "a double window"),
    ],
)
def test_furniture_is_named_as_people_write(recipe: ModuleType, name: str, caption: str) -> None:
    assert recipe.furniture_caption(name) == caption


def test_a_qt_resource_file_is_read(recipe: ModuleType) -> None:
    """Laid out by hand after qresource.cpp: a root, in it a folder `a` with `b`, compressed, and `c`."""
    names, at = b"", {}
    for name in ("a", "b", "c"):
        at[name] = len(names)
        names += struct.pack(">HI", 1, 0) + name.encode("utf-16-be")
    packed = struct.pack(">I", 5) + zlib.compress(b"hello")
    contents = struct.pack(">I", len(packed)) + packed + struct.pack(">I", 2) + b"hi"
    tree = struct.pack(">IHIIQ", 0, 2, 1, 1, 0) + struct.pack(">IHIIQ", at["a"], 2, 2, 2, 0)
    tree += struct.pack(">IHHHIQ", at["b"], 1, 0, 0, 0, 0)
    tree += struct.pack(">IHHHIQ", at["c"], 0, 0, 0, 4 + len(packed), 0)
    start = 20
    places = (start, start + len(tree), start + len(tree) + len(contents))
    data = b"qres" + struct.pack(">4I", 2, *places) + tree + contents + names
    assert dict(recipe.qt_resources(data)) == {"/a/b": b"hello", "/a/c": b"hi"}


def test_images_shrink_by_their_kind_and_never_grow(recipe: ModuleType) -> None:
    assert recipe.scaled(png((640, 320))).size == (320, 160)
    assert recipe.scaled(png((90, 60))).size == (90, 60)
    cut_out = Image.new("RGBA", (1000, 1000))
    cut_out.paste("red", (100, 100, 548, 324))
    file = io.BytesIO()
    cut_out.save(file, "PNG")
    assert recipe.scaled(file.getvalue()).size == (224, 112)
    assert recipe.scaled(png((90, 60), "RGBA")).mode == "RGB"


def test_a_caption_without_a_file_stops_the_recipe(recipe: ModuleType, tmp_path: Path) -> None:
    rows = [{"package": "scratch", "file": "no.jpg", "caption": "nothing", "keywords": ""}]
    with pytest.raises(SystemExit, match=r"scratch has no file no\.jpg"):
        list(recipe.captioned(rows, {"scratch": tmp_path}, {}))

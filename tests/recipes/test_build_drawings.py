"""The recipe that draws the training images of `tiny`, on three icons of our own."""

import csv
import json
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from scripts import script_module

RED_SQUARE = '<path fill="red" d="M0 0h8v8H0z"/>'  # the upper left quarter of a 16 × 16 image


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    return script_module("recipes/tiny/build_drawings.py")


def icon_set(prefix: str, *names: str, **more: object) -> dict:
    icons = {name: {"body": RED_SQUARE} for name in names}
    info = {"license": {"spdx": "MIT"}}
    return {"prefix": prefix, "info": info, "icons": icons, "width": 16, "height": 16, **more}


def emoji(hexcode: str, label: str, *tags: str, group: int = 3) -> dict:
    return {"hexcode": hexcode, "label": label, "tags": list(tags), "group": group}


@pytest.fixture
def table(recipe: ModuleType, tmp_path: Path) -> list[dict]:
    (tmp_path / "meta").mkdir()
    (tmp_path / "en").mkdir()
    groups = {"groups": {"2": "component", "3": "animals-nature", "7": "objects"}}
    (tmp_path / "meta/groups.json").write_text(json.dumps(groups))
    rows = [
        emoji("1F3FB", "light skin tone", group=2),
        emoji("1F9A6", "otter", "fishing"),
        emoji("1F6E2-FE0F", "oil drum", "drum", group=7),
    ]
    (tmp_path / "en/data.json").write_text(json.dumps(rows))
    return recipe.emoji_table(tmp_path)


def test_emoji_are_found_by_code_point_and_carry_their_group(recipe: ModuleType, table: list[dict]) -> None:
    chars = {"1f9a6": "an-otter", "1f6e2": "a-barrel", "1f3fb": "tone"}
    drawings = recipe.emoji_drawings(
        icon_set("twemoji", "tone", "an-otter", "a-barrel", chars=chars), table, recipe.LeftOut([])
    )
    found = [(d.stem, d.caption, d.keywords, d.group) for d in drawings]
    assert found == [
        ("1f6e2", "oil drum", ("drum",), "objects"),
        ("1f9a6", "otter", ("fishing",), "animals-nature"),
    ]


def test_emoji_of_a_set_without_code_points_are_found_by_name(recipe: ModuleType, table: list[dict]) -> None:
    drawings = recipe.emoji_drawings(icon_set("noto-v1", "otter", "oil-drum", "badge"), table, recipe.LeftOut([]))
    assert [(d.stem, d.caption) for d in drawings] == [("1f6e2", "oil drum"), ("1f9a6", "otter")]


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("drum", ["otter"]),
        ("fishing", ["oil drum"]),  # a keyword counts
        ("fish", ["oil drum", "otter"]),  # whole words only
        ("emoji: otter", ["oil drum"]),
        ("twemoji: otter", ["oil drum"]),
        ("noto: otter", ["oil drum", "otter"]),
        ("# otter", ["oil drum", "otter"]),
    ],
)
def test_left_out(recipe: ModuleType, table: list[dict], line: str, kept: list[str]) -> None:
    chars = {"1f9a6": "otter", "1f6e2": "oil-drum"}
    twemoji = icon_set("twemoji", "otter", "oil-drum", chars=chars)
    assert [d.caption for d in recipe.emoji_drawings(twemoji, table, recipe.LeftOut([line]))] == kept


def test_icons_of_one_style_that_are_not_hidden(recipe: ModuleType) -> None:
    mdi = icon_set("mdi", "otter-2", "otter-outline", "barrel", categories={"Animal": ["otter-2"]})
    mdi["icons"]["barrel"]["hidden"] = True
    assert [(d.stem, d.caption, d.keywords) for d in recipe.icon_drawings(mdi, recipe.LeftOut([]))] == [
        ("otter-2", "otter", ("Animal",))
    ]
    phosphor = icon_set("ph", "otter", "otter-bold", "otter-duotone")
    assert [d.stem for d in recipe.icon_drawings(phosphor, recipe.LeftOut([]))] == ["otter-duotone"]


@pytest.mark.parametrize(
    ("name", "caption"),
    [("ad-2", "ad"), ("2", "2"), ("arrow-line-down", "arrow down"), ("flat-tire", "flat tire"), ("5g", "5g")],
)
def test_captions_lose_numbers_and_words_of_style(recipe: ModuleType, name: str, caption: str) -> None:
    assert recipe.caption_of(name) == caption


def test_clip_art_needs_a_title_and_counts_once(recipe: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "animals").mkdir()
    (tmp_path / "computer").mkdir()
    titled = "<svg><dc:title>An Otter</dc:title><dc:subject><rdf:li></rdf:li><rdf:li>river</rdf:li></dc:subject></svg>"
    (tmp_path / "animals/otter_01.svg").write_text(titled)
    (tmp_path / "animals/again.svg").symlink_to(tmp_path / "animals/otter_01.svg")
    (tmp_path / "animals/nameless.svg").write_text("<svg><dc:title></dc:title></svg>")
    (tmp_path / "computer/theme.svg").write_text(titled)
    found = [(d.stem, d.caption, d.keywords) for d in recipe.clip_art_drawings(tmp_path, recipe.LeftOut([]))]
    assert found == [("animals-otter-01", "An Otter", ("river",))]


def test_the_table_lists_what_was_drawn(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        recipe, "draw", lambda drawing: None if "broken" in drawing.svg else Image.new("RGBA", (96, 96))
    )
    lucide = icon_set("lucide", "otter", "barrel")
    lucide["icons"]["barrel"]["body"] = "broken"
    recipe.write(tmp_path / "train.csv", recipe.icon_drawings(lucide, recipe.LeftOut([])))
    with (tmp_path / "train.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "image": "train/lucide/otter.webp", "caption": "otter", "keywords": "", "source": "lucide", "license": "MIT",
        "group": "",
    }  # fmt: skip
    with Image.open(tmp_path / row["image"]) as picture:
        assert (picture.format, picture.mode, picture.size) == ("WEBP", "RGBA", (96, 96))
    assert "1 images; 1 could not be drawn lucide/barrel" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("left_out", "tested"),
    [
        (["otter"], {"oil drum"}),
        (["otter", "emoji: oil drum"], set()),  # which icons show, so that it is not unseen
    ],
)
def test_what_training_leaves_out_is_a_table_of_its_own(
    left_out: list[str],
    tested: set[str],
    recipe: ModuleType,
    table: list[dict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recipe, "draw", lambda drawing: Image.new("RGBA", (96, 96)))
    chars = {"1f9a6": "otter", "1f6e2": "oil-drum"}
    for name in (*recipe.EMOJI_SETS, *recipe.ICON_SETS, recipe.TEST_SET):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(icon_set(name, "otter", "oil-drum", chars=chars)))
    recipe.build(tmp_path / "drawn", tmp_path, tmp_path, None, recipe.LeftOut(left_out))
    captions = {}
    for name in ("train", "openmoji", "unseen"):
        with (tmp_path / f"drawn/{name}.csv").open(newline="") as file:
            captions[name] = {row["caption"] for row in csv.DictReader(file)}
    assert captions == {"train": {"oil drum"}, "openmoji": tested, "unseen": {"otter"}}

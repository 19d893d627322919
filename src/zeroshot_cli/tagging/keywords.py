"""Labels as keywords, in the three lists of XMP that photo programs read.

`dc:subject` is flat, and every program reads it. Hierarchies are `lr:hierarchicalSubject` for Lightroom and darktable,
and `digiKam:TagsList` for digiKam and immich. A program that finds the hierarchy it prefers does not look at the other
lists, so a list that is new in a sidecar begins with the keywords of the user.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from zeroshot_cli.filing.folder_names import folded

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Field(StrEnum):
    """A list of keywords in XMP, by its usual name."""

    SUBJECT = "dc:subject"
    HIERARCHY = "lr:hierarchicalSubject"
    TAGS = "digiKam:TagsList"

    @property
    def separator(self) -> str:
        """What stands between the levels of a keyword; nothing in a flat list."""
        return {Field.HIERARCHY: "|", Field.TAGS: "/"}.get(self, "")


Keywords = Mapping[Field, Sequence[str]]


def cleaned(text: str) -> str:
    """Return a label as a keyword: on one line, without characters that XML cannot hold."""
    return " ".join(_NOT_IN_XML.sub("\ufffd", text).split())


def keywords_of(paths: Iterable[Sequence[str]]) -> dict[Field, list[str]]:
    """Return the keywords of labels, each given as its path from the top of its hierarchy.

    A separator within a name becomes a hyphen in the list that it would split.
    """
    found: dict[Field, list[str]] = {field: [] for field in Field}
    for path in paths:
        levels = [level for level in map(cleaned, path) if level]
        for field in Field if levels else ():
            found[field].append(_written(levels, field))
    return {field: _unique(texts) for field, texts in found.items()}


def new_keywords(existing: Keywords, ours: Keywords) -> tuple[dict[Field, list[str]], dict[Field, list[str]]]:
    """Return which of our keywords a sidecar lacks, and what else a new list needs to hide none of the user's."""
    lacking = {field: _without(texts, existing.get(field, ())) for field, texts in ours.items()}
    lacking = {field: texts for field, texts in lacking.items() if texts}
    copied = {field: _users(existing, field) for field in lacking if not existing.get(field)}
    return lacking, {field: _without(texts, lacking[field]) for field, texts in copied.items() if texts}


def among(text: str, keywords: Iterable[str]) -> bool:
    """Return whether a keyword is one of several, whatever its case and its Unicode normalisation."""
    return folded(text) in {folded(keyword) for keyword in keywords}


def _written(levels: Sequence[str], field: Field) -> str:
    separator = field.separator
    return separator.join(level.replace(separator, "-") for level in levels) if separator else levels[-1]


def _users(existing: Keywords, field: Field) -> list[str]:
    """Return the keywords that a program would take from another list if `field` were not there."""
    if not field.separator:
        return []
    other = Field.TAGS if field is Field.HIERARCHY else Field.HIERARCHY
    if existing.get(other):
        return [_written(text.split(other.separator), field) for text in existing[other]]
    return [_written([text], field) for text in existing.get(Field.SUBJECT, ())]


def _without(texts: Iterable[str], others: Iterable[str]) -> list[str]:
    known = {folded(text) for text in others}
    return [text for text in _unique(texts) if folded(text) not in known]


def _unique(texts: Iterable[str]) -> list[str]:
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(folded(text), text)
    return [*first.values()]

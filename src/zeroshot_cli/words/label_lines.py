"""Labels of a text file: one a line, however people write such lists.

Numbers, WordNet ids, bullets, quotes and commas around a label are taken off with a note. Where it is unclear whether
they belong to the label, the line is refused.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from zeroshot_cli.errors import LabelsError
from zeroshot_cli.words.label_nodes import labels_of_node
from zeroshot_cli.words.label_tables import names_a_column, read_table
from zeroshot_cli.words.nodes import Text, at, parse_yaml
from zeroshot_cli.words.raw_labels import RawLabel, Say, in_order, is_id, is_wnid, resolved, such_as, with_id
from zeroshot_cli.words.textfiles import content_lines

_HEADER = re.compile(r"(labels?|class(es)?|names?|categor(y|ies)|(class|label)[ _]?names?|tags?)\s*:?", re.IGNORECASE)
_BULLET = re.compile(r"(?:[-*•‣·–—◦▪●■□☐☑✓✔➢➤→\uf0a7\uf0b7]\s+)?(?:\[[ xX]?\]\s+)?(?=\S)")
_STRESSED = re.compile(r"(\*\*|__|\*)([^*_]+)\1")  # Markdown's bold and italics
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“", "「": "」"}
_NUMBERED = re.compile(
    r"(?:[\[(](?P<a>\d{1,18})[\])]|(?P<b>\d{1,18})(?:\s*[:)=,;|\t](?!\d)|\.(?=\s)|\s+[-–](?=\s)))\s*(?=\S)"
)
_COUNTED = re.compile(r"(?P<a>\d{1,18})\s+(?=\S)")
_WNID = re.compile(r"(n\d{8})(?:[\s:,;=|]+(.+))?")
_LETTERED = re.compile(r"\(?([A-Za-z])\)\s+(?=\S)|([IVXLC]{1,8}|[ivxlc]{1,8})[.)]\s+(?=\S)")
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii", "xiii", "xiv", "xv", "xvi")
_ASSIGNED = re.compile(r"\s*[\w.-]+\s*[=:]\s*(\[.*\])[\s,;]*", re.DOTALL)
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|<!--")
_LAST_OF_LIST = re.compile(r"(?:and|or)\s+(?=\S)")
_LIST_MARKS = ",;\t、，"
_LONGEST_PART = 4  # words of a label in a list that is one line
_YAML_LIST = "write the labels as a YAML list to keep it"


def read_lines(text: str, path: Path, say: Say) -> Iterator[RawLabel]:
    """Yield the labels of a text file; raises LabelsError, with the line, where they are unclear."""
    if text.strip()[:1] in ("{", "[") and text.strip()[-1:] in ("}", "]") and '"' in text + text.replace("'", '"'):
        say("read as JSON, which it looks like")
        yield from labels_of_node(parse_yaml(text, path, LabelsError), path, say)
        return
    if assigned := _ASSIGNED.fullmatch(text):
        say("read as a list in code, which it looks like")
        yield from labels_of_node(parse_yaml(assigned[1], path, LabelsError), path, say)
        return
    typed = list(content_lines(text))
    if marked := next((line for line in typed if _MARKUP.search(line.text)), None):
        raise LabelsError(f"{at(path, marked.line)}: {marked.text!r} is HTML; write one label a line, without tags")
    lines = [replace(line, text=resolved(line.text)) for line in typed]
    if changed := [old.text for old, new in zip(typed, lines, strict=True) if old != new]:
        say(such_as(len(changed), "HTML entities resolved in", changed[0]))
    if lines and names_a_column(lines[0].text):
        yield from read_table(text, path, say)
        return
    lines = _split_one(_undressed(_below_header(lines, say), say), say)
    lines = _undressed(_one_column(_without_numbers(_without_letters(lines, say), path, say), path, say), say)
    for line in lines:
        yield _label(line)
    ids = [line.text for line in lines if (match := _WNID.fullmatch(line.text)) and match[2]]
    if ids:
        say(such_as(len(ids), "WordNet ids taken off", ids[0]))


def _label(line: Text) -> RawLabel:
    match = _WNID.fullmatch(line.text)
    if match and match[2]:
        names = [part.strip() for part in match[2].split("|")]
        return with_id(line.line, match[1], names)
    name, *synonyms = (part.strip() for part in line.text.split("|"))
    return RawLabel(line.line, name, tuple(synonyms))


def _below_header(lines: list[Text], say: Say) -> list[Text]:
    if len(lines) > 2 and _HEADER.fullmatch(lines[0].text):
        say(f"first line {lines[0].text!r} taken as a header")
        return lines[1:]
    if (
        len(lines) > 2
        and lines[0].text.endswith(":")
        and all(_BULLET.sub("", line.text) != line.text for line in lines[1:])
    ):
        say(f"first line {lines[0].text!r} taken as a header")
        return lines[1:]
    return lines


# what is around a label


def _undressed(lines: Iterable[Text], say: Say) -> list[Text]:
    """Return lines without bullets, quotes, and a comma at the end."""
    before = list(lines)
    after = [replace(line, text=_bare(line.text)) for line in before]
    changed = [old.text for old, new in zip(before, after, strict=True) if old != new]
    if changed:
        say(such_as(len(changed), "bullets, quotes or commas taken off", changed[0]))
    return after


def _bare(text: str) -> str:
    text = _BULLET.sub("", text, count=1)
    ended = text.rstrip(",;: \t") or text
    ended = stressed[2] if (stressed := _STRESSED.fullmatch(ended)) else ended
    return " | ".join(unquoted(part) for part in ended.split("|")) if "|" in ended else unquoted(ended)


def unquoted(text: str) -> str:
    """Return what is between quotes that enclose the whole text."""
    text = text.strip()
    close = _QUOTES.get(text[:1])
    inner = text[1:-1]
    enclosed = close is not None and len(text) > 2 and text.endswith(close)
    return inner.strip() if enclosed and inner.strip() and not {text[0], close} & set(inner) else text


# several labels in one line


def _split_one(lines: list[Text], say: Say) -> list[Text]:
    """Return a list that is written in one line as lines."""
    if len(lines) != 1 or "|" in lines[0].text or "{" in lines[0].text or _WNID.match(lines[0].text):
        return lines
    (line,) = lines
    for mark in _LIST_MARKS:
        parts = [part.strip() for part in line.text.split(mark)]
        if len(parts) > 1 and all(part and len(part.split()) <= _LONGEST_PART for part in parts):
            if len(parts) == 2 and is_id(parts[0]):
                return lines
            if len(parts) > 2:
                parts[-1] = _LAST_OF_LIST.sub("", parts[-1], count=1)
            say(f"the one line split into {len(parts)} labels")
            return [Text(line.line, part) for part in parts]
    return lines


# numbers and letters that count the lines


def _without_letters(lines: list[Text], say: Say) -> list[Text]:
    """Return lines without a), b), ... or I., II., ...; single letters with a dot may be names, as in E. coli."""
    marks = [mark for line in lines if (mark := _LETTERED.match(line.text))]
    if len(lines) < 2 or len(marks) < len(lines):
        return lines
    given = tuple((mark[1] or mark[2]).lower() for mark in marks)
    if given not in (tuple("abcdefghijklmnopqrstuvwxyz"[: len(lines)]), _ROMAN[: len(lines)]):
        return lines
    say(such_as(len(lines), "letters taken off", lines[0].text))
    return [replace(line, text=line.text[mark.end() :]) for line, mark in zip(lines, marks, strict=True)]


def _without_numbers(lines: list[Text], path: Path, say: Say) -> list[Text]:
    """Return lines without the numbers that count them or are the ids of classes."""
    marked = [_NUMBERED.match(line.text) for line in lines]
    counted = [mark or _COUNTED.match(line.text) for mark, line in zip(marked, lines, strict=True)]
    if lines and all(counted) and (any(marked) or len(lines) > 1):
        return _numbers_off(lines, [match for match in counted if match], bool(any(marked)), path, say)
    first = next((line for line, mark in zip(lines, marked, strict=True) if mark), None)
    if first is not None:
        other = next(line for line, match in zip(lines, counted, strict=True) if not match)
        raise LabelsError(
            f"{at(path, first.line)}: {first.text!r} begins with a number, and line {other.line} does not; "
            f"remove the number, or {_YAML_LIST}"
        )
    return _without_last_numbers(lines, say)


def _numbers_off(lines: list[Text], matches: Sequence[re.Match[str]], marked: bool, path: Path, say: Say) -> list[Text]:
    ids = [next(id_ for id_ in match.groups() if id_) for match in matches]
    bare = [replace(line, text=line.text[match.end() :]) for line, match in zip(lines, matches, strict=True)]
    if not marked:
        if len({line.text for line in bare}) < len(bare):
            return lines  # 1 apple, 2 apples, ...: the number says what is different
        if not in_order(ids):
            raise LabelsError(
                f"{at(path, lines[0].line)}: {lines[0].text!r} begins with a number, as all lines do; remove it if it "
                f"is an id, or {_YAML_LIST}"
            )
    say(such_as(len(lines), "numbers taken off", lines[0].text))
    return bare


def _without_last_numbers(lines: list[Text], say: Say) -> list[Text]:
    """Return lines without the numbers at their ends, where these count the lines."""
    parts = [re.split(r"[\s:,;=]+(?=\d+$)", line.text) for line in lines]
    if len(lines) < 2 or any(len(part) != 2 for part in parts) or not in_order([part[1] for part in parts]):
        return lines
    if len({part[0] for part in parts}) < len(parts):
        return lines  # level 1, level 2, ...
    say(such_as(len(lines), "numbers taken off", lines[0].text))
    return [replace(line, text=part[0]) for line, part in zip(lines, parts, strict=True)]


# columns


def _one_column(lines: list[Text], path: Path, say: Say) -> list[Text]:
    """Return the one column of words, where all lines have the same columns."""
    for mark in "\t;":
        rows = [[cell.strip() for cell in line.text.split(mark)] for line in lines]
        if not rows or {len(row) for row in rows} != {len(rows[0])} or len(rows[0]) < 2:
            continue
        columns = list(zip(*rows, strict=True))
        words = [column for column in columns if not all(is_id(cell) or not cell for cell in column)]
        ids = next((column for column in columns if all(map(is_wnid, column))), None)
        if len(words) != 1:
            raise LabelsError(
                f"{at(path, lines[0].line)}: {lines[0].text!r} has {len(rows[0])} columns, and all lines do; keep one, "
                "or save it as .csv with the column label"
            )
        say(f"labels taken from column {columns.index(words[0]) + 1} of {len(columns)}")
        texts = [f"{id_} {word}" for id_, word in zip(ids, words[0], strict=True)] if ids else words[0]
        return [replace(line, text=text) for line, text in zip(lines, texts, strict=True)]
    return lines

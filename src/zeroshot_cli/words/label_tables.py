"""Labels of a table: CSV with any of the usual separators, and a column of words that may have other names."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from zeroshot_cli.errors import LabelsError
from zeroshot_cli.words.groups import path_of_cell
from zeroshot_cli.words.nodes import at
from zeroshot_cli.words.raw_labels import RawLabel, Say, is_id

_OWN = ("label", "synonyms", "prompt", "folder")
_COLUMNS = (*_OWN, "group")
# What others call the column of words
_NAMES = {
    "labels", "label_name", "class_name", "classname", "labelname", "display_name", "name", "names", "class",
    "classes", "category", "category_name", "categories", "title", "tag", "tags", "word", "words", "species",
    "displayname",
}  # fmt: skip
_RULE = re.compile(r"\s*:?-{2,}:?\s*")  # below the header of a Markdown table
_SEPARATORS = ",;\t|"
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*')  # Excel reads it, and writes it on request

_Row = tuple[int, list[str]]


def names_a_column(line: str) -> bool:
    """Return whether a line is the header of a table, with one of the columns that are known for labels."""
    return any(len(cells := _cells(line, mark)) > 1 and _known(cells) for mark in _SEPARATORS)


def read_table(text: str, path: Path, say: Say) -> Iterator[RawLabel]:
    """Yield the labels of a table; raises LabelsError, with the line, for what is wrong in it."""
    rows = _rows(text, path, say)
    first = next(iter(rows), None)
    if first is None:
        return
    columns = [column.strip().lower() for column in first[1]]
    if "label" not in columns:
        columns, rows = _renamed(columns, rows, path, say)
    else:
        rows = rows[1:]
    _check_columns(columns, path, first[0])
    others = [name for index, name in enumerate(columns) if name not in _COLUMNS and name and _has_words(rows, index)]
    if others and len(columns) > 1:
        say(f"columns left out: {', '.join(others[:5])}")
    for line, row in rows:
        if len(row) > len(columns):
            count = f"{len(row)} fields in {len(columns)} columns"
            raise LabelsError(f"{at(path, line)}: {count}; put text with a comma in double quotes")
        cells = dict(zip(columns, row, strict=False))
        label, synonyms, prompt, folder, group = (cells.get(name, "") for name in _COLUMNS)
        words, folders = (tuple(_split(cell)) if cell.strip() else () for cell in (synonyms, folder))
        prompts = (prompt,) if prompt.strip() else ()
        path_of_groups = path_of_cell(group, at(path, line))
        yield RawLabel(line, label, words, prompts, folders, path_of_groups, from_table=True)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split("|")]


def _renamed(columns: list[str], rows: list[_Row], path: Path, say: Say) -> tuple[list[str], list[_Row]]:
    """Return the columns with `label` for the one that has the words, and the rows below the header.

    Columns of ids are none of words. Raises LabelsError where there is none, or more than one.
    """
    line, header = rows[0]
    candidates = [index for index, name in enumerate(columns) if name in _NAMES]
    candidates = [index for index in candidates if _has_words(rows[1:], index)] or candidates
    body = rows[1:] if candidates else rows
    words = [index for index in candidates or range(len(columns)) if _has_words(body, index)]
    headless = not candidates and len(words) == 1 and len(columns) > 1
    if len(words) != 1 or (not candidates and not (headless and is_id_row(header))):
        found = ", ".join(header)
        if len(words) > 1 and candidates:
            raise LabelsError(
                f"{at(path, line)}: any of the columns {', '.join(columns[index] for index in words)} may be the "
                "label; rename the right one to label"
            )
        raise LabelsError(
            f"{at(path, line)}: there is no column 'label'; the columns are {found}; rename one to label, or write "
            "label above the labels where the first line is one"
        )
    name = f"`{columns[words[0]]}`" if candidates else f"{words[0] + 1} of {len(columns)}, there being no header"
    say(f"labels taken from column {name}")
    renamed = columns if candidates else [""] * len(columns)
    return ["label" if index == words[0] else column for index, column in enumerate(renamed)], body


def is_id_row(cells: Sequence[str]) -> bool:
    """Return whether a row has an id, as no header has."""
    return any(map(is_id, cells))


def _has_words(rows: Sequence[_Row], index: int) -> bool:
    cells = [row[index].strip() for _, row in rows if len(row) > index]
    return any(cell and not is_id(cell) for cell in cells)


def _check_columns(columns: list[str], path: Path, line: int) -> None:
    """Raise LabelsError for a repeated column, or one that looks like a misspelt known one."""
    for index, column in enumerate(columns):
        if column and column in columns[:index]:
            raise LabelsError(f"{at(path, line)}: column {column!r} is given twice; remove or rename one of them")
        unlike = column in _COLUMNS or column in _NAMES or len(column) > 20
        near = () if unlike else get_close_matches(column, _OWN, n=1, cutoff=0.8)
        if near:
            hint = f"did you mean {near[0]!r}? The known columns are {', '.join(_COLUMNS)}"
            raise LabelsError(f"{at(path, line)}: unknown column {column!r}; {hint}")


def _rows(text: str, path: Path, say: Say) -> list[_Row]:
    """Return the rows that are not blank, with their first lines."""
    above = 0
    if told := _SEPARATOR_LINE.fullmatch(text.split("\n", 1)[0]):
        separator, text, above = told[1], text.partition("\n")[2], 1
    else:
        separator = _separator(text)
    if separator != ",":
        say(f"columns separated by {'TAB' if separator == chr(9) else separator}")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    line, rows = 1, []
    try:
        for row in reader:
            if any(field.strip() and not _RULE.fullmatch(field) for field in row):
                rows.append((line + above, row))
            line = reader.line_num + 1
    except csv.Error as problem:
        raise LabelsError(f"{at(path, line + above)}: not valid CSV: {problem}") from None
    return rows


def _separator(text: str) -> str:
    """Return the separator that sets a known column apart, else the one that is in every line, else the comma."""
    lines = [line for line in text.split("\n") if line.strip()]
    for known in (("label",), _NAMES):
        for mark in _SEPARATORS:
            cells = _cells(lines[0], mark) if lines else []
            if any(cell in known for cell in cells) and (mark == "," or len(cells) > 1):
                return mark
    return next((mark for mark in ",;\t" if lines and all(mark in line for line in lines)), ",")


def _cells(line: str, mark: str) -> list[str]:
    return [cell.strip(" \"'\t").lower() for cell in line[:10_000].split(mark)]


def _known(cells: Sequence[str]) -> bool:
    return any(cell in _NAMES or cell == "label" for cell in cells)

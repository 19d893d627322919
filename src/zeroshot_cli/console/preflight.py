"""Print what was found in the pairs: a table on a terminal, aligned lines elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zeroshot_cli.display import shown

if TYPE_CHECKING:  # rich is slow to import, and the pairs bring numpy
    from rich.console import Console

    from zeroshot_cli.train.preflight import Preflight

_SHOWN = 60  # characters of a caption
_WRONG = "yellow"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what, how many, and a note; `is_wrong` stands out."""

    name: str
    value: str
    note: str = ""
    is_wrong: bool = False


def print_preflight(preflight: "Preflight", console: "Console") -> None:
    """Print the findings; on a terminal what is wrong is yellow."""
    if not console.is_terminal:
        for line in lines(preflight):
            console.print(line, markup=False, emoji=False, soft_wrap=True)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold")
    for finding in findings(preflight):
        cells = (Text(shown(text)) for text in (finding.name, finding.value, finding.note))
        table.add_row(*cells, style=_WRONG if finding.is_wrong else None)
    console.print(table, soft_wrap=False)


def lines(preflight: "Preflight") -> list[str]:
    """Return the findings as aligned lines of text."""
    rows = [(shown(found.name), found.value, shown(found.note)) for found in findings(preflight)]
    names, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"{name:{names}}  {value:>{values}}  {note}".rstrip() for name, value, note in rows]


def findings(preflight: "Preflight") -> list[Finding]:
    """Return what there is to say; what is as it should be is omitted."""
    return [
        Finding("pairs", f"{preflight.pairs:,}"),
        *_sources(preflight),
        *_left_out(preflight),
        *_images(preflight),
        *_captions(preflight),
        _batch(preflight),
        Finding("steps", f"{preflight.steps:,}", f"{preflight.steps_per_epoch:,} an epoch"),
    ]


def _sources(found: "Preflight") -> Iterator[Finding]:
    """Yield the rows of each file if there are several, and how often they are drawn if not once."""
    if len(found.sources) < 2:
        return
    draws = found.pairs / sum(source.rows * source.weight for source in found.sources)
    weighted = len({source.weight for source in found.sources}) > 1
    for source in found.sources:
        drawn = f", each drawn {source.weight * draws:.2f} times an epoch" if weighted else ""
        yield Finding("", f"{source.rows:,}", f"from {source.name}{drawn}")


def _left_out(found: "Preflight") -> Iterator[Finding]:
    if found.empty_captions:
        yield Finding("empty captions", f"{found.empty_captions:,}", "omitted", is_wrong=True)
    if found.missing_files:
        first = f", the first {found.first_missing}" if found.first_missing else ""
        yield Finding("missing images", f"{found.missing_files:,}", f"omitted{first}", is_wrong=True)


def _images(found: "Preflight") -> Iterator[Finding]:
    everything = found.checked == found.images
    bad = len(found.unreadable)
    checked = "all checked" if everything else f"{found.checked:,} of them checked"
    yield Finding("images", f"{found.images:,}", checked if bad else f"{checked}, no fault found")
    if bad:
        first = f"the first {found.unreadable[0].path}: {found.unreadable[0].reason}"
        note = first if everything else f"of {found.checked:,} checked, {first}; --verify finds all"
        yield Finding("unreadable", f"{bad:,}", note, is_wrong=True)
    if found.plain > found.checked / 2:
        yield Finding("plain images", f"{found.plain:,}", "of those checked have one colour", is_wrong=True)
    if found.repeated_pairs:
        note = "repeat image and caption of an earlier row"
        yield Finding("repeated pairs", f"{found.repeated_pairs:,}", note, is_wrong=True)


def _captions(found: "Preflight") -> Iterator[Finding]:
    tokens = f"of {found.median_tokens:,} tokens (the median), {found.longest_tokens:,} at most"
    yield Finding("captions", f"{found.captions:,}", tokens)
    if found.long_captions:
        note = f"over {found.context_length:,} tokens, so their end is cut off; the first {_quoted(found.first_long)}"
        yield Finding("long captions", f"{found.long_captions:,}", note, is_wrong=True)
    if found.several:
        yield Finding("several captions", f"{found.several:,}", "images have more than one, each in a pair of its own")
    if found.markup:
        note = f"hold HTML, which is read as words; the first {_quoted(found.first_markup)}"
        yield Finding("markup", f"{found.markup:,}", note, is_wrong=True)
    if found.largest_count > found.pairs / 2:
        note = f"have one caption, {_quoted(found.largest_caption)}"
        yield Finding("same caption", f"{found.largest_count:,}", note, is_wrong=True)


def _batch(found: "Preflight") -> Finding:
    height, width = found.image_size
    pixels = f"images of {width:,} × {height:,} pixels"
    if not found.shared:
        return Finding("batch", f"{found.batch_size:,}", pixels)
    shared = f"{found.shared:,.1f}" if found.shared >= 0.05 else "under 0.1"
    note = f"{pixels}; on average {shared} of them share a caption, and are not contrasted with each other"
    return Finding("batch", f"{found.batch_size:,}", note, is_wrong=found.shared > found.batch_size / 2)


def _quoted(caption: str | None) -> str:
    text = caption or ""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")

"""What people read of a look at the pairs, with findings made by hand."""

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from zeroshot_cli.console.preflight import lines, print_preflight
from zeroshot_cli.pairs.read import Source
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.preflight import Preflight

GOOD = Preflight(
    pairs=31914,
    sources=(Source("train.csv", 31914),),
    images=30000,
    captions=21050,
    empty_captions=0,
    missing_files=0,
    first_missing=None,
    checked=256,
    unreadable=(),
    context_length=77,
    median_tokens=12,
    longest_tokens=77,
    long_captions=0,
    first_long=None,
    repeated_pairs=0,
    largest_caption="a cat",
    largest_count=12,
    shared=7.34,
    batch_size=256,
    image_size=(224, 336),
    epochs=10,
    steps_per_epoch=124,
    steps=1240,
)
BAD = replace(
    GOOD,
    sources=(Source("a.csv", 30000, 1.0), Source("[red]b\n.tar", 1914, 3.0)),
    empty_captions=1003,
    missing_files=2,
    first_missing="x\n/\udcff.png",
    unreadable=(SkippedImage("[b]é\x1b.png", "the file is empty"), SkippedImage("z.png", "no such file")),
    long_captions=9,
    first_long="word " * 30,
    repeated_pairs=1234,
    largest_count=15958,
    shared=200.0,
)


def printed(preflight: Preflight, *, terminal: bool, width: int = 100, color: bool = False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        force_terminal=terminal,
        color_system="standard" if color else None,
        highlight=False,
        soft_wrap=True,
        legacy_windows=False,
    )
    print_preflight(preflight, console)
    return stream.getvalue()


def test_pairs_without_fault_take_five_lines() -> None:
    assert lines(GOOD) == [
        "pairs     31,914",
        "images    30,000  256 of them checked, no fault found",
        "captions  21,050  of 12 tokens (the median), 77 at most",
        "batch        256  images of 336 × 224 pixels; on average 7.3 of them share a caption, and "
        "are not contrasted with each other",
        "steps      1,240  124 an epoch",
    ]


def test_all_that_is_wrong_is_named_with_its_first() -> None:
    found = lines(BAD)
    assert found[:6] == [
        "pairs           31,914",
        "                30,000  from a.csv, each drawn 0.89 times an epoch",  # 31,914 of 30,000 + 3 × 1,914
        "                 1,914  from [red]b\\n.tar, each drawn 2.68 times an epoch",
        "empty captions   1,003  omitted",
        "missing images       2  omitted, the first x\\n/\\xff.png",
        "images          30,000  256 of them checked",
    ]
    assert found[6:12] == [
        "unreadable           2  of 256 checked, the first [b]é\\x1b.png: the file is empty; --verify finds all",
        "repeated pairs   1,234  repeat image and caption of an earlier row",
        "captions        21,050  of 12 tokens (the median), 77 at most",
        f"long captions        9  over 77 tokens, so their end is cut off; the first '{'word ' * 11}word…'",
        "same caption    15,958  have one caption, 'a cat'",
        "batch              256  images of 336 × 224 pixels; on average 200.0 of them share a caption, and "
        "are not contrasted with each other",
    ]


@pytest.mark.parametrize(("count", "is_named"), [(15957, False), (15958, True)])
def test_a_caption_of_over_half_of_the_rows_is_named(count: int, is_named: bool) -> None:
    found = replace(GOOD, pairs=31914, largest_count=count, largest_caption="the 'cat'")
    assert ("same caption  15,958  have one caption, \"the 'cat'\"" in lines(found)) == is_named


def test_all_images_that_were_looked_at_need_no_further_look() -> None:
    assert "images    30,000  all checked, no fault found" in lines(replace(GOOD, checked=30000))
    bad = replace(GOOD, checked=30000, unreadable=BAD.unreadable[1:])
    assert "unreadable       1  the first z.png: no such file" in lines(bad)


@pytest.mark.parametrize(
    ("shared", "words"), [(0.0, None), (0.049, "under 0.1 of"), (0.05, "0.1 of"), (1e4, "10,000.0")]
)
def test_the_rows_of_a_batch_that_share_a_caption(shared: float, words: str | None) -> None:
    (batch,) = (line for line in lines(replace(GOOD, shared=shared)) if line.startswith("batch"))
    assert batch.endswith("pixels") if words is None else f"on average {words}" in batch


def test_files_of_one_weight_are_counted_only() -> None:
    sources = (Source("a.csv", 30000, 2.0), Source("b.csv", 1914, 2.0))
    assert lines(replace(GOOD, sources=sources))[1:3] == [
        "          30,000  from a.csv",
        "           1,914  from b.csv",
    ]


def test_off_a_terminal_the_lines_are_whole_and_plain() -> None:
    assert printed(BAD, terminal=False, width=20).splitlines() == lines(BAD)


@pytest.mark.parametrize("width", [60, 100])
def test_a_terminal_has_columns_and_what_is_wrong_in_colour(width: int) -> None:
    text = printed(BAD, terminal=True, width=width, color=True)
    rows = [Text.from_ansi(line).plain for line in text.splitlines()]
    assert max(map(cell_len, rows)) <= width
    notes = [row[24:] for row in rows]
    assert {row[22:24] for row in rows} == {"  "}
    assert "omitted, the first x\\n/\\xff.png" in "".join(notes)
    coloured = {Text.from_ansi(line).plain[:14].strip() for line in text.splitlines() if "\x1b[33m" in line}
    assert coloured - {""} == {
        "empty captions",
        "missing images",
        "unreadable",
        "repeated pairs",
        "long captions",
        "same caption",
        "batch",
    }


def test_nothing_is_coloured_where_nothing_is_wrong() -> None:
    assert "\x1b[3" not in printed(GOOD, terminal=True, color=True)

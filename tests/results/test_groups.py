"""The path of groups in the journal, in tables of other libraries, and where a file is cut."""

import io
from typing import Any

import pytest

from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results.formats import GROUP, NOTE, Format, header_of, journal_line, parse_line, rendered
from zeroshot_cli.results.frames import to_arrow, to_pandas
from zeroshot_cli.results.resume import scanner_of

OWL = LabelScore("owl", 0.25, 0.6, ("animal", "=bird, or so"))
ITEMS: list[Result] = [
    Prediction("a.png", (LabelScore("bird", 0.25, 0.9, ("bird",)), OWL), 0.1, others=(LabelScore("car", 0.1, 0.1),)),
    Prediction("b.png", (OWL,), 0.1, rejected=True),
    SkippedImage("c.png", "damaged"),
    Prediction("d.png", (OWL,), 0.1, note="cut off"),
]


def test_a_journal_returns_what_was_written() -> None:
    assert [parse_line(journal_line(item)) for item in ITEMS] == ITEMS
    old = b'{"path":"a","predictions":[["cat",0.5,0.25]],"margin":null,"rejected":false,"others":[]}\n'
    assert parse_line(old) == Prediction("a", (LabelScore("cat", 0.5, 0.25),))


@pytest.mark.parametrize("more", [(), (NOTE,), (GROUP,), (NOTE, GROUP)])
@pytest.mark.parametrize("form", [Format.CSV, Format.TSV, Format.JSONL])
def test_wherever_a_file_with_more_columns_is_cut_whole_images_are_found(form: Format, more: tuple[str, ...]) -> None:
    data = header_of(form, more) + rendered(ITEMS, form, more=more)
    ends = [len(header_of(form, more) + rendered(ITEMS[:n], form, more=more)) for n in range(1, len(ITEMS) + 1)]
    for cut in range(len(data) + 1):
        found = list(scanner_of(form)(io.BytesIO(data[:cut]), "out"))
        assert [item.end for item in found] == ends[: len(found)]
        assert len(found) >= sum(end <= cut for end in ends) - 1


def test_a_group_is_the_last_column_and_no_formula() -> None:
    text = rendered(ITEMS, Format.CSV, more=(NOTE, GROUP), excel_safe=True).decode()
    item = Prediction("d.png", (LabelScore("owl", 0.25, 0.6, ("=bird",)),))
    assert text.splitlines()[0].endswith(",,,bird")
    assert rendered([item], Format.CSV, more=(GROUP,), excel_safe=True).decode().endswith(",'=bird\n")


@pytest.mark.parametrize("make", [to_arrow, to_pandas])
def test_tables_of_other_libraries_have_groups_where_labels_do(make: Any) -> None:
    def columns(items: list[Result]) -> list[str]:
        table = make(iter(items))
        return list(table.column_names if make is to_arrow else table.columns)

    assert columns(ITEMS)[-1] == "group"
    assert columns([Prediction("a", (LabelScore("cat", 0.5, 0.25),))])[-1] == "error"
    assert to_arrow(ITEMS).column("group").to_pylist() == [
        "bird",
        "animal/=bird, or so",
        None,
        None,
        "animal/=bird, or so",
    ]

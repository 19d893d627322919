"""Which record belongs to a file of results, and which results to a record."""

import json
from pathlib import Path

import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.results.found import readable_results, record_beside


def record(path: Path, *outputs: str, started: str = "2026-01-01T00:00:00+00:00") -> Path:
    path.write_text(json.dumps({"started": started, "settings": {"outputs": outputs}}))
    return path


def test_the_own_record_comes_before_one_that_names_the_file_and_the_later_before_the_earlier(tmp_path: Path) -> None:
    results = tmp_path / "b.csv"
    assert record_beside(results) is None
    later = record(tmp_path / "a.xlsx.run.json", "a.xlsx", "b.csv", started="2026-03-01T00:00:00+00:00")
    record(tmp_path / "c.xlsx.run.json", "c.xlsx", "b.csv")
    assert record_beside(results) == later
    own = record(tmp_path / "b.csv.run.json", "b.csv")
    assert record_beside(results) == own


@pytest.mark.parametrize(
    "content",
    [
        '{"settings": {"outputs": ["x/a.xlsx", "y/b.csv"]}}',  # of the same name in another folder
        '{"settings": {"outputs": [["b.csv"], 7, ""]}}',
        '{"settings": {"outputs": "b.csv"}}',
        '{"settings": ["b.csv"]}',
        '["b.csv"]',
        "{",
        "\x00",
    ],
)
def test_what_names_no_output_beside_it_is_nobodys_record(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.xlsx.run.json").write_text(content)
    assert record_beside(tmp_path / "b.csv") is None


def test_records_lead_to_results_and_what_is_for_people_is_refused_with_its_way_out(tmp_path: Path) -> None:
    book, results = tmp_path / "a.xlsx", tmp_path / "b.jsonl"
    assert readable_results(book) == book  # it is not there, which its reader says
    book.touch()
    results.touch()
    run = record(tmp_path / "a.xlsx.run.json", "out/a.xlsx", "out/b.jsonl")
    assert readable_results(run) == readable_results(results) == results
    with pytest.raises(UsageError, match=r"a\.xlsx is for people to read; give .*b\.jsonl, which the same run wrote"):
        readable_results(book)
    results.unlink()
    with pytest.raises(UsageError, match=r"repeat the command that wrote it with --output a\.csv"):
        readable_results(book)
    with pytest.raises(UsageError, match="the results of this run are not beside it"):
        readable_results(run)

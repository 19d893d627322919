"""What `zeroshot review` makes of results: every format, and images wherever they are now."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.filing.manifest import SortMode
from zeroshot_cli.filing.sort import sort_into
from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results.parquet import write_parquet
from zeroshot_cli.results.run_record import RunRecord, write_record
from zeroshot_cli.review.run import is_link_out, read_run

ITEMS: list[Result] = [
    Prediction("a,b.png", (LabelScore("cat", 0.3, 0.9), LabelScore("dog", 0.2, 0.1)), 0.1),
    SkippedImage("x.png", "the file is empty"),
    Prediction("c.png", (LabelScore("dog", 0.3, 0.4), LabelScore("cat", 0.2, 0.35)), 0.1, rejected=True),
]
Write = Callable[[Path, Sequence[Result]], Path]


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_has_the_same_images(tmp_path: Path, write_results: Write, extension: str) -> None:
    path = tmp_path / f"results.{extension}"
    write_parquet(path, lambda: iter(ITEMS)) if extension == "parquet" else write_results(path, ITEMS)
    run = read_run(path)
    assert [(each.path, each.label, each.probability) for each in run.images] == [
        ("a,b.png", "cat", 0.9),
        ("c.png", "unknown", 0.4),
    ]
    assert run.images[0].top == (("cat", 0.9), ("dog", 0.1))
    assert run.images[1].top == ((("dog", 0.4), ("cat", 0.35)) if extension == "jsonl" else ())
    assert (run.unreadable, run.missing) == (1, 2)
    assert {*run.labels} == {"cat", "dog"}


def test_paths_are_relative_to_where_classify_ran(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, moved = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir(), moved.mkdir()
    monkeypatch.chdir(elsewhere)
    assert read_run(results).missing == 0  # beside the results
    results = results.rename(moved / "results.csv")
    assert read_run(results).missing == 3
    write_record(moved / "results.csv.run.json", RunRecord(resolved={"folder": str(tmp_path)}))
    run = read_run(results)
    assert run.missing == 0
    assert [each.path for each in run.images] == ["photos/a.png", "photos/b.png", "photos/c.png"]
    (tmp_path / "photos" / "a.png").unlink()
    assert read_run(results).missing == 1


def test_the_record_of_a_run_leads_to_its_results(results: Path) -> None:
    record = results.with_name("results.csv.run.json")
    write_record(record, RunRecord(settings={"outputs": ["out/report.html", "out/results.csv"], "labels": ["b", "a"]}))
    assert read_run(record).source == results
    assert read_run(record).labels == ("b", "a")  # those that no image has, too


def test_the_record_is_that_of_the_first_output_where_results_are_not_the_first(results: Path, tmp_path: Path) -> None:
    outputs = {"outputs": ["out/answers.xlsx", "out/results.csv"]}
    write_record(tmp_path / "answers.xlsx.run.json", RunRecord(settings={**outputs, "labels": ["dog", "cat"]}))
    assert read_run(results).labels == ("dog", "cat")
    assert read_run(tmp_path / "answers.xlsx.run.json").source == results
    (tmp_path / "answers.xlsx").touch()
    with pytest.raises(UsageError, match=f"answers.xlsx is for people to read; give {results}, which"):
        read_run(tmp_path / "answers.xlsx")
    results.unlink()
    with pytest.raises(UsageError, match=r"; repeat the command that wrote it with --output answers\.csv"):
        read_run(tmp_path / "answers.xlsx")


@pytest.mark.parametrize("mode", [SortMode.MOVE, SortMode.COPY, SortMode.LINK])
def test_a_sorted_folder_and_the_results_of_sorting(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: SortMode
) -> None:
    monkeypatch.chdir(tmp_path)
    sorted_, photos = tmp_path / "sorted", tmp_path / "photos"
    sorted_.mkdir()
    items = [Prediction("photos/a.png", (LabelScore("cat", 0.3, 0.9),))]
    sort_into(sorted_, lambda: iter(items), mode, labels=["cat"])
    (image,) = read_run(sorted_).images
    assert (image.label, image.probability, image.missing) == ("cat", None, False)
    assert image.path == str(sorted_ / "cat" / "a.png" if mode is SortMode.MOVE else photos / "a.png")
    write_record(tmp_path / "results.csv.run.json", RunRecord(settings={"sort_into": "sorted"}))
    assert read_run(results).missing == 0  # found where they are now


def test_excel_safe_results_name_the_files_that_there_are(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("path,rank,label,score,probability,error\n'=a.png,1,'-b,0.1,0.5,\n")
    assert read_run(path).images[0].path == "'=a.png"
    write_record(tmp_path / "results.csv.run.json", RunRecord(settings={"excel_safe": True}))
    assert (read_run(path).images[0].path, read_run(path).images[0].label) == ("=a.png", "-b")


@pytest.mark.parametrize("extension", ["csv", "jsonl"])
def test_the_torn_end_of_a_killed_run_is_left_out(tmp_path: Path, write_results: Write, extension: str) -> None:
    path = write_results(tmp_path / f"results.{extension}", ITEMS)
    path.write_bytes(path.read_bytes()[:-12])
    assert [each.path for each in read_run(path).images] == ["a,b.png"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "image,label\na.png,cat\n", "has no column 'path'; name what zeroshot classify wrote"),
        ("corrections.csv", "path,label,was,when,decision\n", "has no column 'probability'; name what"),
        ("a.csv", "path,rank,label,score,probability,error\na.png,1,cat,0.1,often,\n", "'often', not a number from 0"),
        ("a.csv", "path,rank,label,score,probability,error\na.png,1,cat,0.1,nan,\n", "'nan', not a number from 0"),
        ("a.csv", "path,rank,label,score,probability,error\nx.png,,,,,empty\n", "nothing to review"),
        ("a.jsonl", '{"path": 1}\n{}\n', "line 1: not what zeroshot classify wrote"),
        ("a.parquet", "PAR1", "damaged or not Parquet"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=says):
        read_run(tmp_path / name)


def test_two_answers_for_one_image_are_refused(tmp_path: Path, write_results: Write) -> None:
    path = write_results(tmp_path / "results.csv", [ITEMS[0], ITEMS[2], ITEMS[0]])
    with pytest.raises(DataError, match=r"'a,b\.png' is there twice"):
        read_run(path)


def test_what_cannot_be_reviewed_is_said(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such results"):
        read_run(tmp_path / "none.csv")
    with pytest.raises(UsageError, match=r"has no manifest\.csv"):
        read_run(tmp_path / "photos")
    with pytest.raises(UsageError, match="is not one of"):
        read_run(results.rename(tmp_path / "results.txt"))
    results = (tmp_path / "results.txt").rename(tmp_path / "results.csv")
    write_record(tmp_path / "results.csv.run.json", RunRecord(settings={"multi_label": True}))
    with pytest.raises(UsageError, match="several labels for an image"):
        read_run(results)


def test_a_record_that_is_none_is_left_alone(results: Path, tmp_path: Path) -> None:
    (tmp_path / "results.csv.run.json").write_text(json.dumps([1]))
    assert read_run(results).record is None


def test_links_that_lead_out_of_the_folders_of_the_run(tmp_path: Path, write_results: Write) -> None:
    photos, secret = tmp_path / "photos", tmp_path / "secret"
    (photos / "more").mkdir(parents=True), secret.mkdir()
    for place in (photos / "a.png", photos / "more" / "b.png", secret / "c.png"):
        place.write_bytes(b"x")
    (photos / "inside.png").symlink_to(photos / "more" / "b.png")
    (photos / "outside.png").symlink_to(secret / "c.png")
    (photos / "folder").symlink_to(secret)
    (photos / "up.png").symlink_to("../photos2.png")
    (tmp_path / "photos2.png").write_bytes(b"x")  # begins as the folder does
    names = ["a.png", "more/b.png", "inside.png", "outside.png", "folder/c.png", "up.png"]
    items = [Prediction(str(photos / name), (LabelScore("cat", 0.3, 0.9),)) for name in names]
    run = read_run(write_results(tmp_path / "results.csv", items))
    assert [is_link_out(run, image) for image in run.images] == [False, False, False, True, True, True]
    (tmp_path / "alias").symlink_to(photos)  # a link that the user named
    items = [Prediction(str(tmp_path / "alias" / "a.png"), (LabelScore("cat", 0.3, 0.9),))]
    run = read_run(write_results(tmp_path / "results.csv", items))
    assert [is_link_out(run, image) for image in run.images] == [False]

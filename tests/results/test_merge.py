"""Merging the results of shards: equal to one run, byte for byte; and whatever is wrong with a shard is said first."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results.formats import deliver
from zeroshot_cli.results.outputs import open_outputs
from zeroshot_cli.results.run_record import RunRecord, read_record
from zeroshot_cli.results.shards.merge import merge_results
from zeroshot_cli.results.shards.shard import PathSet, Shard, Share
from zeroshot_cli.results.targets import Targets, check_outputs

FORMS = ("csv", "tsv", "jsonl", "parquet")
SETTINGS = {"model": "tiny", "labels": ["cat", "dog"], "top_k": 2}


def result(number: int) -> Result:
    path = os.fsdecode(
        [b"%d.png", b'"%d,\n\n.png', b"\xff%d\xe7.png", "%d 猫\t.png".encode(), b"=%d.png"][number % 5] % number
    )
    if number % 6 == 3:
        return SkippedImage(path, 'damaged, "really"\n')
    labels = (LabelScore('the "cat"\n猫', 1 / (number + 3), 0.9, ("a", "b")), LabelScore("dog", 0.125, 0.1))
    note = "cut off\n" if number % 7 == 0 else ""
    return Prediction(path, labels, 1 / 7, rejected=number % 6 == 4, note=note)


ITEMS = sorted((result(number) for number in range(60)), key=lambda item: item.path)


def write(paths: list[Path], items: list[Result], settings: dict[str, Any], *, batch_size: int = 8) -> None:
    targets = Targets(tuple(paths))
    check_outputs(targets, overwrite=True)
    record = RunRecord(settings=settings, resolved={"batch_size": batch_size, "folder": "/photos"})
    with open_outputs(targets, record, overwrite=True) as outputs:
        outputs.finish(deliver([items[:7], items[7:]], outputs.sinks, before=outputs.kept))


def shards(
    folder: Path, form: str, *, total: int = 3, items: list[Result] = ITEMS, **settings: Any
) -> tuple[list[Path], Callable[..., Path]]:
    """Write all shards; return their files, and a function that writes one again in another way."""

    def again(
        number: int, items: list[Result] = items, kept: Callable[[Result], bool] = lambda item: True, **others: Any
    ) -> Path:
        shard = Shard(number, total)
        own = [item for item in items if shard.has(item.path)]
        paths = PathSet.of(item.path for item in items)
        share = Share(shard, PathSet.of(item.path for item in own), paths)
        size = others.pop("batch_size", 8)
        path = folder / f"{number}.{form}"
        given = {**SETTINGS, **settings, **others, **share.settings()}
        write([path], [item for item in own if kept(item)], given, batch_size=size)
        return path

    return [again(number) for number in range(1, total + 1)], again


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("more", [{}, {"truncated": "read", "groups": ["a/b", ""]}, {"excel_safe": True}])
@pytest.mark.parametrize("total", [1, 3, 20])
def test_shards_merged_are_one_run(tmp_path: Path, form: str, more: dict[str, Any], total: int) -> None:
    more = {**more, "output_encoding": "utf-8-sig"} if form in ("csv", "tsv") else more
    files, _ = shards(tmp_path, form, total=total, **more)
    output, alone = tmp_path / f"merged.{form}", tmp_path / f"alone.{form}"
    merge_results(files[::-1], output)
    write([alone], ITEMS, {**SETTINGS, **more})
    assert output.read_bytes() == alone.read_bytes()


def test_the_record_is_that_of_one_run(tmp_path: Path) -> None:
    files, _ = shards(tmp_path, "csv")
    merge_results(files, tmp_path / "merged.csv")
    write([tmp_path / "alone.csv"], ITEMS, SETTINGS)
    merged = json.loads((tmp_path / "merged.csv.run.json").read_text())
    alone = json.loads((tmp_path / "alone.csv.run.json").read_text())
    first = json.loads((tmp_path / "1.csv.run.json").read_text())
    alone["settings"]["outputs"], alone["started"] = [str(tmp_path / "merged.csv")], first["started"]
    assert merged == alone


def test_a_file_that_is_not_the_first_of_its_run_has_its_record_too(tmp_path: Path) -> None:
    for number in (1, 2):
        shard = Shard(number, 2)
        own = [item for item in ITEMS if shard.has(item.path)]
        share = Share(shard, PathSet.of(item.path for item in own), PathSet.of(item.path for item in ITEMS))
        names = [tmp_path / f"{number}.csv", tmp_path / f"{number}.jsonl", tmp_path / f"{number}.parquet"]
        write(names, own, {**SETTINGS, **share.settings()})
    write([tmp_path / "alone.csv", tmp_path / "alone.jsonl", tmp_path / "alone.parquet"], ITEMS, SETTINGS)
    for form in ("jsonl", "parquet"):
        merge_results([tmp_path / f"{number}.{form}" for number in (1, 2)], tmp_path / f"merged.{form}")
        assert (tmp_path / f"merged.{form}").read_bytes() == (tmp_path / f"alone.{form}").read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_images_in_another_order_are_sorted(tmp_path: Path, form: str) -> None:
    files, _ = shards(tmp_path, form, items=ITEMS[::-1])
    merge_results(files, tmp_path / f"merged.{form}")
    write([tmp_path / f"alone.{form}"], ITEMS, SETTINGS)
    assert (tmp_path / f"merged.{form}").read_bytes() == (tmp_path / f"alone.{form}").read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_no_image_at_all(tmp_path: Path, form: str) -> None:
    files, _ = shards(tmp_path, form, items=[])
    record = merge_results(files, tmp_path / f"merged.{form}")
    assert record.counts is not None
    assert record.counts.images == 0
    if form == "parquet":
        assert pq.read_table(tmp_path / "merged.parquet").num_rows == 0


def refused(files: list[Path], message: str, error: type[Exception], *, form: str | None = None) -> None:
    """Merging fails with this message, and nothing is written."""
    output = files[0].with_name(f"merged.{form or files[0].suffix.removeprefix('.')}")
    before = sorted(files[0].parent.iterdir())
    with pytest.raises(error, match=message):
        merge_results(files, output)
    assert sorted(files[0].parent.iterdir()) == before


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("others", "what"),
    [
        ({"labels": ["cat", "cow"]}, r"labels is \[.*\], not \[.*\]"),
        ({"model": "small"}, "model is small, not tiny"),
        ({"top_k": 3}, "top_k is 3, not 2"),
        ({"batch_size": 16}, "batch_size is 16, not 8"),
        ({"precision": "bf16"}, "precision is bf16, not not set"),
    ],
)
def test_a_shard_of_other_settings(tmp_path: Path, form: str, others: dict[str, Any], what: str) -> None:
    files, again = shards(tmp_path, form)
    again(2, **others)
    refused(files, rf"2\.{form}, shard 2/3, was made otherwise than .*1\.{form}: {what}; run all", UsageError)


@pytest.mark.parametrize("form", FORMS)
def test_a_shard_of_other_images(tmp_path: Path, form: str) -> None:
    files, again = shards(tmp_path, form)
    again(3, items=ITEMS[1:])
    refused(files, rf"3\.{form}, shard 3/3, is of other inputs than .*1\.{form}: 59 images, not 60 images", DataError)


@pytest.mark.parametrize("form", FORMS)
def test_a_shard_is_missing_or_twice(tmp_path: Path, form: str) -> None:
    files, _ = shards(tmp_path, form)
    refused(files[:2], "shard 3/3 is missing", UsageError)
    refused([*files, files[1]], "are both shard 2/3", UsageError)


@pytest.mark.parametrize("form", FORMS)
def test_an_image_is_missing_or_another(tmp_path: Path, form: str) -> None:
    files, again = shards(tmp_path, form)
    own = [item for item in ITEMS if Shard(2, 3).has(item.path)]
    again(2, kept=lambda item: item is not own[4])
    refused(files, rf"2\.{form}, shard 2/3, has {len(own) - 1} whole images, and its run wrote {len(own)}", DataError)


def test_a_path_was_changed(tmp_path: Path) -> None:
    files, _ = shards(tmp_path, "csv")
    data = files[0].read_bytes()
    plain = next(item.path for item in ITEMS if item.path[0].isdigit() and Shard(1, 3).has(item.path))
    files[0].write_bytes(data.replace(plain.encode(), b"another.png"))
    refused(files, r"1\.csv, shard 1/3, has other images than its run wrote", DataError)


def test_a_row_comes_twice(tmp_path: Path) -> None:
    for form in ("csv", "jsonl"):
        files, _ = shards(tmp_path, form)
        files[0].write_bytes(files[0].read_bytes() + files[0].read_bytes().splitlines(keepends=True)[-1])
        refused(files, r"1\.\w+, shard 1/3, (is damaged|has \d+ whole images)", DataError)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [0, 1, 40, -1, -30])
def test_a_file_that_was_cut(tmp_path: Path, form: str, size: int) -> None:
    files, _ = shards(tmp_path, form)
    files[1].write_bytes(files[1].read_bytes()[:size])
    what = r"has \d+ whole images|is damaged|begins otherwise"
    refused(files, rf"2\.{form}, shard 2/3, ({what})", DataError)


@pytest.mark.parametrize("form", FORMS)
def test_bytes_that_are_no_results(tmp_path: Path, form: str) -> None:
    files, _ = shards(tmp_path, form)
    data = files[1].read_bytes()
    for wrong in (b"\0" * len(data), data[:-20] + b'"' * 20, b"hello\nworld\n"):
        files[1].write_bytes(wrong)
        refused(files, rf"2\.{form}, shard 2/3, (has \d+ whole images|is damaged|begins otherwise)", DataError)


def test_an_incomplete_run(tmp_path: Path) -> None:
    files, _ = shards(tmp_path, "csv")
    record = tmp_path / "2.csv.run.json"
    record.write_text(record.read_text().replace('"complete": true', '"complete": false'))
    refused(files, r"2\.csv, shard 2/3, is incomplete: its run was stopped; run it again with --resume", DataError)


def test_a_table_that_is_still_to_be_made(tmp_path: Path) -> None:
    files, _ = shards(tmp_path, "parquet")
    record = tmp_path / "2.parquet.run.json"
    record.write_text(record.read_text().replace('"to_make": []', '"to_make": ["2.parquet"]'))
    refused(files, r"2\.parquet, shard 2/3, is incomplete", DataError)


def test_files_that_are_no_shards(tmp_path: Path) -> None:
    files, _ = shards(tmp_path, "csv")
    alone = tmp_path / "alone.csv"
    write([alone], ITEMS, SETTINGS)
    refused([files[0], alone], r"alone\.csv is not a shard: its run had no --shard I/N", UsageError)
    (tmp_path / "alone.csv.run.json").unlink()
    refused([files[0], alone], r"alone\.csv has no record of its run, alone\.csv\.run\.json, beside it", UsageError)
    refused([tmp_path / "none.csv"], r"none\.csv: no such file", UsageError)
    refused(files, r"1\.csv is not \.jsonl as the output is", UsageError, form="jsonl")
    refused(files, r"merge writes \.csv, \.tsv, \.jsonl, \.parquet", UsageError, form="html")
    refused(files, r"unknown extension '\.doc'", UsageError, form="doc")


@pytest.mark.parametrize("wrong", ['"5/3"', '"a"', "17"])
def test_a_damaged_record(tmp_path: Path, wrong: str) -> None:
    files, _ = shards(tmp_path, "csv")
    record = tmp_path / "2.csv.run.json"
    record.write_text(record.read_text().replace('"shard": "2/3"', f'"shard": {wrong}'))
    refused(files, r"2\.csv: its record is damaged", DataError)
    record.write_text("{}")
    refused(files, "is not the record of a run", UsageError)


def test_a_record_without_counts(tmp_path: Path) -> None:
    files, _ = shards(tmp_path, "csv")
    record = tmp_path / "2.csv.run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"counts": None}))
    refused(files, r"2\.csv: its record is damaged \(counts are missing\)", DataError)


def test_an_output_that_exists(tmp_path: Path) -> None:
    files, _ = shards(tmp_path, "csv")
    (tmp_path / "merged.csv").write_text("mine")
    refused(files, "already exists; add --overwrite", UsageError)
    assert (tmp_path / "merged.csv").read_text() == "mine"
    with pytest.raises(UsageError, match="shard 2/3 is missing"):
        merge_results([files[0], files[2]], tmp_path / "merged.csv", overwrite=True)
    assert (tmp_path / "merged.csv").read_text() == "mine"
    merge_results(files, tmp_path / "merged.csv", overwrite=True)
    record = read_record(tmp_path / "merged.csv.run.json")
    assert record is not None
    assert record.complete
    assert record.counts is not None
    assert record.counts.images == len(ITEMS)


def test_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    import resource

    files, _ = shards(tmp_path, "csv", total=150)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
    try:
        merge_results(files, tmp_path / "merged.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    write([tmp_path / "alone.csv"], ITEMS, SETTINGS)
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    import tracemalloc

    items: list[Result] = [
        Prediction(f"photos/{number:07}.jpg", (LabelScore("cat", 0.25, 0.5),), None) for number in range(5_000)
    ]
    files, _ = shards(tmp_path, "csv", items=items)
    tracemalloc.start()
    merge_results(files, tmp_path / "merged.csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000  # the merged file has 220,040 bytes

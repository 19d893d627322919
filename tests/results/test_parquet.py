"""Parquet, read back with pyarrow and compared with the CSV that the csv module reads."""

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results import parquet
from zeroshot_cli.results.formats import Format, stream_writer
from zeroshot_cli.results.parquet import check_parquet, write_parquet

CAT = (LabelScore("cat", 0.30000001192092896, 0.7123456789012345), LabelScore("狗", -0.25, 1e-9))
ITEMS: list[Result] = [
    Prediction("a.png", CAT, 0.5, others=(LabelScore("cow", 0.1, 0.0),)),
    SkippedImage("new\nline.png", "no such file"),
    Prediction("猫.png", CAT[:1], None),
    Prediction("d.png", CAT, 0.5, rejected=True),
]


def written(path: Path, items: list[Result]) -> "pa.Table":
    write_parquet(path, lambda: iter(items))
    return pq.read_table(path)


def test_types(tmp_path: Path) -> None:
    assert written(tmp_path / "out.parquet", ITEMS).schema.equals(
        pa.schema(
            [
                ("path", pa.string()),
                ("rank", pa.int32()),
                ("label", pa.string()),
                ("score", pa.float32()),
                ("probability", pa.float64()),
                ("error", pa.string()),
            ]
        )
    )


def test_values_are_exact(tmp_path: Path) -> None:
    rows = written(tmp_path / "out.parquet", ITEMS).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("a.png", 1, "cat", float(np.float32(0.3)), 0.7123456789012345, None),
        ("a.png", 2, "狗", -0.25, 1e-9, None),
        ("new\nline.png", None, None, None, None, "no such file"),
        ("猫.png", 1, "cat", float(np.float32(0.3)), 0.7123456789012345, None),
        ("d.png", 1, "unknown", float(np.float32(0.3)), 0.7123456789012345, None),
    ]


def test_rows_and_columns_are_those_of_the_csv(tmp_path: Path) -> None:
    stream = io.BytesIO()
    stream_writer(stream, Format.CSV).write(ITEMS)
    header, *rows = csv.reader(io.StringIO(stream.getvalue().decode(), newline=""))
    table = written(tmp_path / "out.parquet", ITEMS)
    assert table.column_names == header
    as_text = [
        [
            "" if value is None else f"{value:.6f}" if name in ("score", "probability") else str(value)
            for name, value in row.items()
        ]
        for row in table.to_pylist()
    ]
    assert as_text == rows


def test_bytes_that_are_not_utf_8_are_escaped(tmp_path: Path) -> None:
    items: list[Result] = [SkippedImage(os.fsdecode(b"\xff\xe7\x8c.png"), "a\ud800b")]
    table = written(tmp_path / "out.parquet", items)
    assert table.to_pylist()[0]["path"] == r"\xff\xe7\x8c.png"
    assert table.to_pylist()[0]["error"] == r"a\ud800b"


def test_no_image_is_an_empty_table(tmp_path: Path) -> None:
    table = written(tmp_path / "out.parquet", [])
    assert (table.num_rows, table.column_names[0]) == (0, "path")


def test_row_groups_follow_each_other_and_are_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP", 3)
    sizes: list[int] = []

    def results() -> Iterator[Result]:
        for number in range(8):
            sizes.append(next(tmp_path.glob(".*.unfinished")).stat().st_size)
            yield Prediction(f"{number}{os.urandom(8000).hex()}", CAT, 0.5)

    write_parquet(tmp_path / "out.parquet", results)
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [6, 6, 4]
    assert [path[0] for path in file.read().column("path").to_pylist()] == list("0011223344556677")
    assert sizes[0] == sizes[2] <= sizes[3] < sizes[6]
    file.close()


def test_a_failure_leaves_the_old_file(
    tmp_path: Path, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "out.parquet"
    path.write_bytes(b"old")
    items: list[Result] = [Prediction(os.urandom(16).hex(), CAT, 0.5) for _ in range(1000)]
    with file_size_limit(1000), pytest.raises(UsageError, match=r"cannot write .*out\.parquet: File too large; what"):
        written(path, items)
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_results_that_fail_leave_nothing(tmp_path: Path) -> None:
    def results() -> Iterator[Result]:
        yield ITEMS[0]
        raise UsageError("damaged")

    with pytest.raises(UsageError, match="damaged"):
        write_parquet(tmp_path / "out.parquet", results)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_without_the_package_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"writing \.parquet needs pyarrow: pip install 'zeroshot-cli\[parquet\]'"):
        check_parquet()

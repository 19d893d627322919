r"""Results as a Parquet file, with the extra `parquet`.

One row per image and rank, with the columns of the CSV, typed: `path`, `label` and `error` string, `rank` int32,
`score` float32, `probability` float64; what is empty in the CSV is null. Parquet's strings are UTF-8: other bytes of a
path are escaped, as in `\xff`. The other formats keep them as they are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot_cli.disk import open_plain, replacing, writing
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.records import Result, SkippedImage
from zeroshot_cli.results.formats import COLUMNS, journal_line, labels_to_show, more_fields, parse_line, to_bytes

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 10_000  # images
RESULTS = dict(zip(COLUMNS, ("string", "int32", "string", "float", "double", "string"), strict=True))
ANSWERS = {"path": "string", "label": "string", "predicted": "string", "correct": "bool", "rank": "int32"} | {
    **dict.fromkeys(("score", "probability", "true_score", "true_probability"), "double"),
    "error": "string",
}
RESULT = "result"  # the last column of a part of a folder
TypedRow = tuple[str | int | float | None, ...]


def check_parquet() -> None:
    """Raise UsageError if the package that writes Parquet is missing."""
    if find_spec("pyarrow") is None:
        raise UsageError("writing .parquet needs pyarrow: pip install 'zeroshot-cli[parquet]'")


def column_names(path: Path) -> tuple[str, ...]:
    """Return the columns of a file; DataError where it is not Parquet."""
    check_parquet()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_plain(path) as file:
            return tuple(pq.read_schema(file).names)
    except (pa.ArrowException, OSError) as problem:
        reason = " ".join(str(problem).split())
        raise DataError(f"{path} is damaged or not Parquet ({reason}); write or copy it again") from None


def write_parquet(path: Path, results: Callable[[], Iterator[Result]], *, more: Sequence[str] = ()) -> None:
    """Write all results, 10,000 images per row group; UsageError if the file cannot be written.

    `more` are columns of text that only some runs have: NOTE, GROUP.
    """
    write_typed(path, (typed_rows(item, more) for item in results()), more=more)


def write_typed(path: Path, images: Iterable[Sequence[TypedRow]], *, more: Sequence[str] = ()) -> None:
    """Write the rows of each image as `write_parquet` does."""
    check_parquet()
    import pyarrow.parquet as pq

    schema = schema_of({**RESULTS, **dict.fromkeys(more, "string")})
    with ExitStack() as stack:
        unfinished = stack.enter_context(replacing(path, resumable=True))
        stack.enter_context(writing(str(path), resumable=True))
        file = stack.enter_context(unfinished.open("wb"))
        writer = stack.enter_context(pq.ParquetWriter(file, schema))
        remaining = iter(images)
        while block := list(islice(remaining, ROW_GROUP)):
            rows = [row for image in block for row in image]
            writer.write_table(_table(rows, schema), row_group_size=len(rows))


def schema_of(types: Mapping[str, str]) -> "pa.Schema":
    """Return the schema of columns whose types are given by their names."""
    import pyarrow as pa

    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in types.items()])


def _table(rows: list[TypedRow], schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    columns = zip(*rows, strict=True)
    return pa.table([pa.array(column, form.type) for column, form in zip(columns, schema, strict=True)], schema=schema)


def typed_rows(item: Result, more: Sequence[str] = ()) -> list[TypedRow]:
    """Return the rows of an image, a label each, or the one with its reason."""
    path = arrow_text(item.path)
    if isinstance(item, SkippedImage):
        return [(path, None, None, None, None, arrow_text(item.reason), *(None for _ in more))]
    return [
        (path, rank, arrow_text(best.label), best.score, best.probability, None, *others)
        for rank, best in enumerate(labels_to_show(item), start=1)
        for others in [[arrow_text(text) or None for text in more_fields(item, best, more)]]
    ]


def write_result_part(path: Path, items: Sequence[Result], metadata: Mapping[str, str], *, more: Sequence[str]) -> None:
    """Write some results as a file of its own, with each whole as JSON in a last column, from which all else follows.

    `result` is a line of the journal, in the first row of an image. UsageError if the file cannot be written.
    """
    import pyarrow.parquet as pq

    schema = schema_of({**RESULTS, **dict.fromkeys(more, "string"), RESULT: "string"}).with_metadata(dict(metadata))
    rows = []
    for item in items:
        first, *others = typed_rows(item, more)
        text = journal_line(item).decode("utf-8", "surrogatepass").rstrip("\n")
        rows += [(*first, text.encode("utf-8", "backslashreplace").decode()), *((*row, None) for row in others)]
    with replacing(path) as unfinished, writing(str(path), resumable=True):
        pq.write_table(_table(rows, schema), unfinished)


def read_result_part(path: Path) -> Iterator[Result]:
    """Yield the results in such a file, as they were; ValueError, KeyError or OSError where it is damaged."""
    import pyarrow.parquet as pq

    with open_plain(path) as file:
        for text in pq.read_table(file, columns=[RESULT])[RESULT].to_pylist():
            if text is not None:
                yield parse_line(text.encode())


def arrow_text(text: str) -> str:
    r"""Return the text with bytes that are not UTF-8 as `\xff`: Arrow's strings are UTF-8."""
    return to_bytes(text).decode("utf-8", "backslashreplace")

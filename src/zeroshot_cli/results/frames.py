r"""Results as a table of pyarrow or pandas, which are imported only here, with the columns of the CSV.

What is empty in the CSV is missing. Texts are UTF-8 there: other bytes of a path are escaped, as in `\xff`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import astuple
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import EvalResult, Prediction, Result
from zeroshot_cli.results.formats import GROUP
from zeroshot_cli.results.parquet import ANSWERS, RESULTS, arrow_text, schema_of, typed_rows

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_PANDAS = {"int32": "Int32", "bool": "boolean", "float": "float32", "double": "float64"}  # its names of these types


def to_arrow(results: Iterable[Result] | EvalResult) -> "pa.Table":
    """Return results of `Classifier.predict`, or the answers of `evaluate`, as a table of pyarrow.

    Its columns are those of `zeroshot classify --output`, a row per image and label, or of `zeroshot eval
    --predictions`, a row per image. Raises UsageError without pyarrow.
    """
    if find_spec("pyarrow") is None:
        raise UsageError("to_arrow needs pyarrow: pip install 'zeroshot-cli[parquet]'")
    import pyarrow as pa

    types, columns = _columns(results)
    return pa.table(columns, schema=schema_of(types))


def to_pandas(results: Iterable[Result] | EvalResult) -> "pd.DataFrame":
    """Return results of `Classifier.predict`, or the answers of `evaluate`, as a data frame of pandas.

    Its columns are those of `zeroshot classify --output`, a row per image and label, or of `zeroshot eval
    --predictions`, a row per image. Raises UsageError without pandas; pyarrow is not needed.
    """
    if find_spec("pandas") is None:
        raise UsageError("to_pandas needs pandas: pip install pandas")
    import pandas as pd

    types, columns = _columns(results)
    kinds = {name: _PANDAS.get(kind, kind) for name, kind in types.items()}
    return pd.DataFrame({name: pd.Series(columns[name], dtype=kind) for name, kind in kinds.items()})


def _columns(results: Iterable[Result] | EvalResult) -> tuple[Mapping[str, str], dict[str, list[Any]]]:
    """Return the types of the columns, and their values."""
    if isinstance(results, EvalResult):
        types, rows = ANSWERS, [tuple(map(_as_utf8, astuple(answer))) for answer in results.answers]
    else:
        items = list(results)
        more = [GROUP] * any(best.group for item in items if isinstance(item, Prediction) for best in item.predictions)
        types = {**RESULTS, **dict.fromkeys(more, "string")}
        rows = [row for item in items for row in typed_rows(item, more)]
    return types, {name: [row[place] for row in rows] for place, name in enumerate(types)}


def _as_utf8(value: Any) -> Any:
    return arrow_text(value) if isinstance(value, str) else value

"""The journal of a run: every result, exactly, one line per image; reports are made from it when all are done.

It is internal and removed when the run is finished. Floats are written as Python's `repr`, and lone surrogates are
encoded like any other character, so what is read equals what was written.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results.append_file import AppendFile


class Journal:
    """A sink that keeps results exactly; `results` may read them several times."""

    def __init__(self, file: AppendFile) -> None:
        self._file = file

    def write(self, items: Sequence[Result]) -> None:
        """Append a line per result."""
        self._file.append(b"".join(map(journal_line, items)))

    def results(self) -> Iterator[Result]:
        """Yield all that was written; UsageError if a line is damaged."""
        with self._file.reader() as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    yield parse_line(line)
                except ValueError:
                    where = f"{self._file.name}, line {number}"
                    raise UsageError(f"{where}: damaged; add --overwrite to classify all images again") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def journal_line(item: Result) -> bytes:
    """Return one result as a line."""
    text = json.dumps(_as_json(item), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass") + b"\n"


def parse_line(line: bytes) -> Result:
    """Return the result on a line; ValueError if there is none."""
    fields = json.loads(line.decode("utf-8", "surrogatepass"))
    try:
        if "error" in fields:
            return SkippedImage(fields["path"], fields["error"])
        return Prediction(
            fields["path"],
            _labels(fields["predictions"]),
            fields["margin"],
            rejected=fields["rejected"],
            others=_labels(fields["others"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no result: {error}") from error


def _as_json(item: Result) -> dict[str, Any]:
    if isinstance(item, SkippedImage):
        return {"path": item.path, "error": item.reason}
    return {
        "path": item.path,
        "predictions": [(best.label, best.score, best.probability) for best in item.predictions],
        "margin": item.margin,
        "rejected": item.rejected,
        "others": [(best.label, best.score, best.probability) for best in item.others],
    }


def _labels(rows: list[list[Any]]) -> tuple[LabelScore, ...]:
    return tuple(LabelScore(label, score, probability) for label, score, probability in rows)

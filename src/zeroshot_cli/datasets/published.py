"""Published figures of known data sets: open_clip's table, and what the register has from others."""

import csv
from functools import cache
from pathlib import Path

from zeroshot_cli.datasets.register import KnownSet
from zeroshot_cli.models import registry

TABLE = "open_clip's table of results"
_QUICKGELU = "-quickgelu"


def published_for(known: KnownSet, model: str, pretrained: str | None, prompts: str) -> tuple[str, float, str] | None:
    """What others measured with that model, its weights' tag and the template set: metric, fraction and source.

    None where nothing is published, or the templates are not those of the publication.
    """
    if pretrained is None:
        return None
    for figure in known.figures:
        if (figure.model, figure.pretrained, figure.prompts) == (model, pretrained, prompts):
            return figure.metric, figure.value, figure.source
    if known.column is None or prompts != known.prompts:
        return None
    value = _figure(model, pretrained, known.column)
    return None if value is None else (known.metric, value, TABLE)


def _figure(model: str, tag: str, column: str) -> float | None:
    """The table's figure; it may have the same weights with and without `-quickgelu`, the training's own counts."""
    found = registry.published().get((model, tag))
    base = model.removesuffix(_QUICKGELU)
    names = dict.fromkeys((found.preset if found else model, model, base, base + _QUICKGELU))
    row = next((_table()[name, tag] for name in names if (name, tag) in _table()), {})
    return float(row[column]) if row.get(column) else None


@cache
def _table() -> dict[tuple[str, str], dict[str, str]]:
    path = Path(registry.__file__).with_name("published.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {(row["name"], row["pretrained"]): row for row in rows}

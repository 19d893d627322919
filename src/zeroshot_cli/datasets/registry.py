"""The registry of data sets with a name, `registry.yaml`: where each is, its class names, its published figures."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from zeroshot_cli.errors import UsageError
from zeroshot_cli.models import registry

WDS = "wds/"
WDS_REPO = "clip-benchmark/wds_"
TABLE = "open_clip's table of results"
_NEAR = 0.75  # similarity of a name that is not a path; below it the user means a missing file
_WDS_NEAR = 0.85  # there may be repositories that the registry does not list
_WDS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?")


@dataclass(frozen=True, slots=True)
class Archive:
    """A file of a repository on the hub: its size in bytes, its SHA-256, and `top`, the only folder in it."""

    repo: str
    revision: str
    name: str
    bytes: int
    sha256: str
    top: str


@dataclass(frozen=True, slots=True)
class Shards:
    """A repository on the hub in CLIP_benchmark's WebDataset layout."""

    repo: str
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class Local:
    """What only the user can provide; `advice` is a sentence."""

    advice: str


@dataclass(frozen=True, slots=True)
class Absent:
    """What cannot be downloaded from anywhere, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that open_clip's table does not have, as a fraction."""

    model: str
    pretrained: str
    prompts: str
    metric: str
    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSet:
    """A data set with a name.

    `labels` and `prompts` name built-in sets; without them the data set's own are used. The folders of a `numbered` set
    are named by label index. `metric` is what is published, `column` the column of open_clip's table. `images` and
    `classes` are counts, where known.
    """

    name: str
    title: str
    source: Archive | Shards | Local | Absent
    licence: str = "see its page"
    task: str = "classification"
    metric: str = "top1"
    labels: str | None = None
    numbered: bool = False
    prompts: str | None = None
    images: int | None = None
    classes: int | None = None
    column: str | None = None
    figures: tuple[Figure, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The name of its folder in the folder of data sets."""
        if isinstance(self.source, Shards):
            return self.source.repo.removeprefix(WDS_REPO)
        return self.name.replace(":", "-")


@cache
def known_sets() -> tuple[KnownSet, ...]:
    """Return all data sets with a name; those of CLIP_benchmark (wds/…) come last."""
    import yaml

    content = yaml.safe_load(Path(__file__).with_name("registry.yaml").read_text(encoding="utf-8"))
    named = [_known(row) for row in content["sets"]]
    copies = [_wds_set(name, task) for task, names in content["wds"].items() for name in names]
    return (*named, *(_with_sizes(copy, named) for copy in copies))


def find_known(name: str) -> KnownSet | None:
    """Return the data set of that name, in any case; None for what may be a path.

    Any repository of CLIP_benchmark's is wds/NAME, whether it is listed or not. Raises UsageError for a name that is
    nearly one, a variant that does not exist, and a wds/ name that cannot be one.
    """
    names = _by_name()
    wanted = name.casefold()
    if wanted in names:
        return names[wanted]
    if wanted.startswith(WDS):
        return _other_wds(name)
    if os.sep in name:
        return None
    base = wanted.partition(":")[0]
    if base != wanted and base in names:
        raise UsageError(f"{names[base].name} has no variant {name.partition(':')[2]!r}; {_variants(names[base])}")
    near = get_close_matches(wanted, [each for each in names if not each.startswith(WDS)], n=3, cutoff=_NEAR)
    if near:
        meant = " or ".join(dict.fromkeys(names[each].name for each in near))
        raise UsageError(f"there is no data set {name!r}; did you mean {meant}? zeroshot eval --list shows all")
    return None


def _variants(base: KnownSet) -> str:
    variants = [each.name for each in known_sets() if each.name.startswith(f"{base.name}:")]
    return f"there are {', '.join((base.name, *variants))}" if variants else f"omit it: {base.name}"


def _other_wds(name: str) -> KnownSet:
    rest = name[len(WDS) :]
    if not _WDS_NAME.fullmatch(rest) or ".." in rest or "--" in rest:
        raise UsageError(f"{name!r} is not a valid CLIP_benchmark name; write it like wds/vtab/cifar10")
    listed = [each.name for each in known_sets() if each.name.startswith(WDS)]
    tails = {each.rpartition("/")[2]: each for each in listed}
    near = tails.get(rest) or next(iter(get_close_matches(name.casefold(), listed, n=1, cutoff=_WDS_NEAR)), None)
    if near:
        raise UsageError(f"there is no data set {name!r}; did you mean {near}? zeroshot eval --list shows all")
    return _wds_set(rest, "classification")


@cache
def _by_name() -> dict[str, KnownSet]:
    return {alias.casefold(): each for each in known_sets() for alias in (each.name, *each.aliases)}


def _known(row: Mapping[str, Any]) -> KnownSet:
    fields = {key: value for key, value in row.items() if key not in ("file", "wds", "local", "absent")}
    fields["aliases"] = tuple(row.get("aliases", ()))
    fields["figures"] = tuple(Figure(**figure) for figure in row.get("figures", ()))
    return KnownSet(source=_source(row), **fields)


def _source(row: Mapping[str, Any]) -> Archive | Shards | Local | Absent:
    if "file" in row:
        return Archive(**row["file"])
    if "wds" in row:
        return Shards(_wds_repo(row["wds"]))
    return Local(row["local"]) if "local" in row else Absent(row["absent"])


def _wds_set(name: str, task: str) -> KnownSet:
    metric = "top1" if task == "classification" else "image_to_text_recall@1"
    return KnownSet(name=WDS + name, title=name, source=Shards(_wds_repo(name)), task=task, metric=metric)


def _wds_repo(name: str) -> str:
    return WDS_REPO + name.replace("/", "-")


def _with_sizes(copy: KnownSet, named: Sequence[KnownSet]) -> KnownSet:
    """Return a copy with what the row of the same repository says about it."""
    row = next((each for each in named if each.source == copy.source), copy)
    shared = ("title", "licence", "metric", "images", "classes")
    return replace(copy, **{field: getattr(row, field) for field in shared})


# published figures


def published_for(known: KnownSet, model: str, pretrained: str | None, prompts: str) -> tuple[str, float, str] | None:
    """Return metric, fraction and source of what others measured with that model, its tag and the template set.

    Return None where nothing is published, or where the publication used other templates.
    """
    if pretrained is None:
        return None
    for figure in known.figures:
        if (figure.model, figure.pretrained, figure.prompts) == (model, pretrained, prompts):
            return figure.metric, figure.value, figure.source
    if known.column is None or prompts != known.prompts:
        return None
    value = registry.published_row(model, pretrained).get(known.column)
    return (known.metric, float(value), TABLE) if value else None

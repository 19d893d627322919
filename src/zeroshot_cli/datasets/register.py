"""The register of data sets with a name, `known.yaml`: where each is, what its classes are called, what is measured."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from zeroshot_cli.errors import UsageError

WDS = "wds/"
WDS_REPO = "clip-benchmark/wds_"
_NEAR = 0.75  # of a name that is no path; below it the user means a file that is not there
_WDS_NEAR = 0.85  # others than those in the register may be there too
_WDS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?")


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of a data set repository of the hub: its size in bytes, its hash, and the only folder in it."""

    repo: str
    revision: str
    name: str
    bytes: int
    sha256: str
    top: str


@dataclass(frozen=True, slots=True)
class Shards:
    """A repository of the hub in CLIP_benchmark's WebDataset layout."""

    repo: str
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class Local:
    """What only the user can bring; `advice` is a sentence."""

    advice: str


@dataclass(frozen=True, slots=True)
class Absent:
    """What cannot be fetched from anywhere, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Figure:
    """What others than open_clip's table have published, as a fraction."""

    model: str
    pretrained: str
    prompts: str
    metric: str
    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSet:
    """A data set with a name.

    `labels` and `prompts` are built-in sets; without them the data set's own are taken. In a `numbered` one the folders
    are called by the places of the labels. `metric` is what is published of it, `column` that in the table of
    open_clip's figures. `images` and `classes` are how many there are, where that is known.
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
        """What its folder is called in the folder of data sets."""
        if isinstance(self.source, Shards):
            return self.source.repo.removeprefix(WDS_REPO)
        return self.name.replace(":", "-")


def known_sets() -> tuple[KnownSet, ...]:
    """All data sets with a name, those of CLIP_benchmark (wds/…) last."""
    return _register()


def find_known(name: str) -> KnownSet | None:
    """The data set of that name, in any case; None for what may be a path.

    Any repository of CLIP_benchmark's is wds/NAME, whether it is listed or not. Raises UsageError for a name that is
    nearly one, a variant that is not there, and a wds/ name that cannot be one.
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
    of_it = [each.name for each in known_sets() if each.name.startswith(f"{base.name}:")]
    return f"there are {', '.join((base.name, *of_it))}" if of_it else f"leave it out: {base.name}"


def _other_wds(name: str) -> KnownSet:
    rest = name[len(WDS) :]
    if not _WDS_NAME.fullmatch(rest) or ".." in rest or "--" in rest:
        raise UsageError(f"{name!r} names no data set of CLIP_benchmark's; write it as in wds/vtab/cifar10")
    listed = [each.name for each in known_sets() if each.name.startswith(WDS)]
    tails = {each.rpartition("/")[2]: each for each in listed}
    near = tails.get(rest) or next(iter(get_close_matches(name.casefold(), listed, n=1, cutoff=_WDS_NEAR)), None)
    if near:
        raise UsageError(f"there is no data set {name!r}; did you mean {near}? zeroshot eval --list shows all")
    return _wds_set(rest, "classification")


@cache
def _by_name() -> dict[str, KnownSet]:
    return {alias.casefold(): each for each in known_sets() for alias in (each.name, *each.aliases)}


@cache
def _register() -> tuple[KnownSet, ...]:
    text = Path(__file__).with_name("known.yaml").read_text(encoding="utf-8")
    register = yaml.safe_load(text)
    named = [_known(row) for row in register["sets"]]
    copies = [_wds_set(name, task) for task, names in register["wds"].items() for name in names]
    return (*named, *(_with_sizes(copy, named) for copy in copies))


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
    """A copy with what the row of the same repository says of it."""
    row = next((each for each in named if each.source == copy.source), copy)
    shared = ("title", "licence", "metric", "images", "classes")
    return replace(copy, **{field: getattr(row, field) for field in shared})

"""The lists of models and of known data sets, for people and for programs."""

import sys
from collections.abc import Sequence

from zeroshot_cli.console.terminal import ListFormat, note, print_list
from zeroshot_cli.datasets.registry import WDS, Absent, Archive, KnownSet, Local, Shards, known_sets
from zeroshot_cli.display import size_text
from zeroshot_cli.models.catalogue import Entry
from zeroshot_cli.models.recommended import Recommended, sources
from zeroshot_cli.models.registry import BUNDLED

_MODEL_COLUMNS = (
    "name",
    "pretrained",
    "default",
    "params (M)",
    "pixels",
    "download",
    "ImageNet",
    "ImageNet-V2",
    "here",
    "used",
)
_MODEL_SPARE = ("ImageNet-V2", "pixels", "params (M)", "used", "default", "here", "download")
_RECOMMENDED_COLUMNS = ("name", "used", "ImageNet", "source", "download", "GFLOP", "what for")
_USED = "used *: the model of commands without --model"
_SET_SPARE = ("from", "metric", "prompts", "licence", "classes", "images")
_FIRST_SETS = (  # to begin with: small enough to download, and what others publish figures for
    "imagenet-v2",
    "imagenet-r",
    "imagenet-sketch",
    "food101",
    "cifar10",
    "pets",
    "flowers102",
    "eurosat",
    "wds/flickr30k",
)
_SET_COLUMNS = ("name", "data set", "images", "classes", "metric", "prompts", "licence", "from")
_METRICS = {"top1": "top-1", "mean_per_class_recall": "mean recall", "image_to_text_recall@1": "recall@1"}


def print_models(entries: Sequence[Entry], form: ListFormat) -> None:
    """Print the list on standard output: one row or object per model; for people also what its marks mean."""
    print_list(_MODEL_COLUMNS, map(_model_row, entries), [*map(_model_object, entries)], form, spare=_MODEL_SPARE)
    if form is ListFormat.TABLE and sys.stdout.isatty():
        note(f"default *: the weights of a name without a tag; {_USED}")


def print_first_models(entries: Sequence[Entry], models: Sequence[Recommended]) -> None:
    """Print on a terminal the few models worth having, which others are on this machine, and how to see all."""
    print_recommended(models, None, ListFormat.TABLE)
    few = {model.entry.name for model in models}
    here = [
        f"{entry.name}:{entry.pretrained}" for entry in entries if entry.path and entry.name not in few | {*BUNDLED}
    ]
    if here:
        note(f"also on this machine: {', '.join(here)}")
    note(
        f"{len(models)} of {len(entries)} models and weights; models list --all shows all, --model TEXT those whose "
        "name or tag holds TEXT"
    )


def print_recommended(models: Sequence[Recommended], speeds: Sequence[float | None] | None, form: ListFormat) -> None:
    """Print the models worth having, with images a second where `speeds` were measured."""
    columns: tuple[str, ...] = _RECOMMENDED_COLUMNS
    rows = [_recommended_row(each) for each in models]
    objects = [_recommended_object(each) for each in models]
    if speeds is not None:
        columns = (*columns[:-1], "images/s", columns[-1])
        shown = ["" if speed is None else f"{speed:.1f}" for speed in speeds]
        rows = [(*row[:-1], speed, row[-1]) for row, speed in zip(rows, shown, strict=True)]
        objects = [each | {"images_per_second": speed} for each, speed in zip(objects, speeds, strict=True)]
    print_list(columns, rows, objects, form, spare=("source", "GFLOP"))
    if form is ListFormat.TABLE and sys.stdout.isatty():
        note(_USED)


def _recommended_row(model: Recommended) -> tuple[str, ...]:
    entry = model.entry
    figures = (_percent(model.imagenet), model.source, _download(entry), f"{model.gflops:.1f}")
    return (entry.name, "*" if entry.used else "", *figures, model.purpose)


def _recommended_object(model: Recommended) -> dict[str, object]:
    entry = model.entry
    return {
        "name": entry.name,
        "pretrained": entry.pretrained,
        "imagenet_top1": model.imagenet,
        "source": sources()[model.source] if model.source else None,
        "download_bytes": None if entry.pretrained is None else entry.file_bytes or entry.estimated_bytes,
        "gflops_per_image": model.gflops,
        "purpose": model.purpose,
        "used": entry.used,
    }


def _model_row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        entry.pretrained or "",
        "*" if entry.default else "",
        f"{entry.parameters:.1f}" if entry.parameters else "",
        str(entry.image_size or ""),
        _download(entry),
        _percent(entry.imagenet),
        _percent(entry.imagenet_v2),
        "yes" if entry.path else "",
        "*" if entry.used else "",
    )


def _download(entry: Entry) -> str:
    """Return the size of the local file, else an estimate; a bundled model needs no download."""
    if entry.pretrained is None:
        return "none"
    if entry.file_bytes:
        return size_text(entry.file_bytes)
    return f"~{size_text(entry.estimated_bytes)}" if entry.estimated_bytes else ""


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.2%}"


def _model_object(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "pretrained": entry.pretrained,
        "default": entry.default,
        "parameters_millions": entry.parameters,
        "image_size": entry.image_size,
        "file_bytes": entry.file_bytes,
        "estimated_bytes": entry.estimated_bytes,
        "imagenet_top1": entry.imagenet,
        "imagenet_v2_top1": entry.imagenet_v2,
        "on_this_machine": str(entry.path) if entry.path else None,
        "used": entry.used,
    }


def print_known_sets(form: ListFormat, *, every: bool) -> None:
    """Print one row or object per data set on standard output, on a terminal of a few; on standard error what else is.

    `every` prints all on a terminal too.
    """
    known = known_sets()
    few = form is ListFormat.TABLE and sys.stdout.isatty() and not every
    sets = [each for each in known if not few or each.name in _FIRST_SETS]
    print_list(_SET_COLUMNS, map(_set_row, sets), [*map(_set_object, sets)], form, spare=_SET_SPARE)
    if form is not ListFormat.TABLE:
        return
    if few:
        note(f"{len(sets)} of {len(known)} data sets; eval --list --all shows all")
    note(
        f"These are repositories on the Hugging Face hub. {WDS}NAME is any of CLIP_benchmark's copies there, with its "
        "own class names and templates. To evaluate any other data set, name a folder of class folders."
    )


def _set_row(known: KnownSet) -> tuple[str, ...]:
    return (
        known.name,
        known.title,
        "" if known.images is None else str(known.images),
        "" if known.classes is None else str(known.classes),
        _METRICS[known.metric],
        _prompts(known),
        known.licence,
        _where(known),
    )


def _set_object(known: KnownSet) -> dict[str, object]:
    return {
        "name": known.name,
        "data_set": known.title,
        "task": known.task,
        "images": known.images,
        "classes": known.classes,
        "metric": known.metric,
        "prompts": known.prompts,
        "licence": known.licence,
        "from": _where(known),
    }


def _prompts(known: KnownSet) -> str:
    if known.task == "retrieval":
        return "none"
    return known.prompts or "its own"


def _where(known: KnownSet) -> str:
    source = known.source
    if isinstance(source, Archive):
        return f"{source.repo} ({size_text(source.bytes)})"
    if isinstance(source, Shards):
        return source.repo
    if isinstance(source, Local):
        return "your own copy, with --data-dir"
    assert isinstance(source, Absent)
    return f"nowhere: {source.why}"

"""The list of data sets with a name, and what is measured on each."""

from zeroshot_cli.console.terminal import note, print_rows
from zeroshot_cli.datasets.registry import WDS, Absent, Archive, KnownSet, Local, Shards, known_sets
from zeroshot_cli.display import size_text

_COLUMNS = ("name", "data set", "images", "classes", "metric", "prompts", "licence", "from")
_METRICS = {"top1": "top-1", "mean_per_class_recall": "mean recall", "image_to_text_recall@1": "recall@1"}


def print_known_sets() -> None:
    """Print the list on standard output, a row a data set, and on standard error what else there is."""
    print_rows(_COLUMNS, [_row(known) for known in known_sets()])
    note(
        f"They are repositories of the Hugging Face hub. Any of CLIP_benchmark's copies there is {WDS}NAME, with its "
        "own class names and templates. What cannot be fetched is evaluated from a folder of class folders."
    )


def _row(known: KnownSet) -> tuple[str, ...]:
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

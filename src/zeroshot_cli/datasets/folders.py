"""Pairs to train on from whatever holds them: tables, tars, and folders of images with captions or classes."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH112

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zeroshot_cli.datasets.captioned import CaptionedImages, read_captioned, table_in
from zeroshot_cli.datasets.imagenet_classes import is_wnid
from zeroshot_cli.datasets.labelled import classes_of, read_labelled_folder, unused_columns
from zeroshot_cli.datasets.matching import all_numbers
from zeroshot_cli.disk import expanded
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.find import find_images, path_of
from zeroshot_cli.images.selection import USUAL, Selection
from zeroshot_cli.pairs.read import Pairs, Source, joined, read_pairs
from zeroshot_cli.pairs.shards import CAPTION_EXTENSIONS
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.words.labels import read_labels
from zeroshot_cli.words.prompts import choose_prompts

_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})
_BOX = re.compile(r"\d+( -?[\d.]+(e-?\d+)?){4,}")  # a line of YOLO


@dataclass(frozen=True, slots=True)
class PairOptions:
    """How pairs are read: columns of tables, where images are, words for classes, and what of folders is taken."""

    image_column: str | None = None
    caption_column: str | None = None
    label_column: str | None = None
    image_root: str | None = None
    labels: str | None = None
    prompts: str | None = None
    selection: Selection = USUAL
    templates: tuple[str, ...] = ()


def read_sources(
    sources: Sequence[str], options: PairOptions, *, weights: Sequence[float] = (), option: str = "--data"
) -> Pairs:
    """Read pairs from files, patterns and folders, one after the other.

    A folder holds a list of captions such as metadata.jsonl, or images with a text file beside each, whose lines are
    its captions, or class folders. The texts of these, and of tables that have labels and no captions, are the class's
    name in each template. Raises as `read_pairs` does.
    """
    return joined([_read(source, options, option) for source in sources], weights, option=option)


def _read(source: str, options: PairOptions, option: str) -> Pairs:
    folder = expanded(source)
    table = None
    if os.path.isdir(folder):
        table = table_in(folder)
        if table is None:
            found = _with_texts(folder, options.selection) or _with_classes(folder, options, option)
            unused = unused_columns(
                image=options.image_column, caption=options.caption_column, label=options.label_column
            )
            return replace(found, notes=(*(f"{folder}: {text}" for text in unused), *found.notes))
    pairs = read_pairs(
        [table or source],
        image_column=options.image_column,
        caption_column=options.caption_column,
        label_column=options.label_column,
        image_root=options.image_root,
        option=option,
    )
    return _with_templates(pairs, options) if pairs.sources[0].texts else pairs


def _with_templates(pairs: Pairs, options: PairOptions) -> Pairs:
    """Return the pairs of a table of classes, whose texts are the class's name in each template."""
    (source,) = pairs.sources
    labels = None if options.labels is None else read_labels(options.labels)
    if labels is None and all_numbers([*source.texts]):
        raise DataError(
            f"{source.name}: all {len(source.texts):,} labels are numbers, such as {next(iter(source.texts))}, which "
            "say nothing to a model; name the classes with --labels FILE, or a column of words with --label-column"
        )
    classes = classes_of(source.texts, labels, source.name, kind="label")
    prompts = choose_prompts(options.prompts, options.templates, options.labels)
    names = {name: classes.labels.names[index] for name, index in classes.index_of.items()}
    texts = dict(zip(classes.labels.names, prompts.fill(classes.labels), strict=True))
    note = f"{source.name}: the captions are its {len(names):,} labels in templates of {prompts.name}"
    return replace(
        pairs,
        captions=tuple(names.get(caption, caption) for caption in pairs.captions),
        sources=(replace(source, texts=texts),),
        notes=(*pairs.notes, note, *(f"{source.name}: {text}" for text in classes.assumed)),
    )


def _with_texts(folder: Path, selection: Selection) -> Pairs | None:
    """Return the pairs of images with a text file beside each, None for a folder without any."""
    if not any(_has_text(path_of(item)) for item in _images_in(folder, selection)):
        return None
    found = read_captioned(folder, selection=selection)
    if all(map(_BOX.fullmatch, found.texts)):
        raise DataError(
            f"{folder}: the text files beside its images hold boxes, as YOLO writes them, not captions; "
            "write captions into them, or a CSV with the columns image and caption"
        )
    return _pairs_of(folder, found)


def _pairs_of(folder: Path, found: CaptionedImages) -> Pairs:
    rows = [(found.items[image], found.texts[text]) for image, text in found.pairs]
    notes = [f"{folder}: each image has its captions in a text file beside it, one a line"]
    if found.bare:
        notes.append(f"{folder}: {found.bare:,} images have no caption and are left out")
    notes += [f"{folder}: {text}" for text in found.left_out]
    return Pairs(
        images=tuple(path_of(item) for item, _ in rows),
        captions=tuple(text for _, text in rows),
        sources=(Source(str(folder), len(rows)),),
        notes=tuple(notes),
    )


def _with_classes(folder: Path, options: PairOptions, option: str) -> Pairs:
    """Return the pairs of images in class folders, whose captions are their classes."""
    _check_folders(folder, options, option)
    labels = None if options.labels is None else read_labels(options.labels)
    prompts = choose_prompts(options.prompts, options.templates, options.labels)
    found = read_labelled_folder(folder, labels, options.selection)
    rows = [
        (item, found.labels.names[target])
        for item, target in zip(found.items, found.targets, strict=True)
        if not isinstance(item, SkippedImage)
    ]
    texts = dict(zip(found.labels.names, prompts.fill(found.labels), strict=True))
    words = f"{folder}: the captions are the names of its {len(found.labels):,} class folders in templates of"
    return Pairs(
        images=tuple(path_of(item) for item, _ in rows),
        captions=tuple(name for _, name in rows),
        sources=(Source(str(folder), len(rows), texts=texts),),
        notes=(f"{words} {prompts.name}", *found.notes),
        skipped=tuple(item for item in found.items if isinstance(item, SkippedImage)),
    )


def _check_folders(folder: Path, options: PairOptions, option: str) -> None:
    """Raise DataError or UsageError for a folder whose folders are not named classes."""
    names = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not options.selection.byproduct(str(entry))
    )
    if not names:
        if tars := sorted(folder.glob("*.tar")):
            raise UsageError(f"{folder}: holds {len(tars):,} tars; name them as {option} '{folder}/*.tar'")
        raise DataError(
            f"{folder}: has no captions: neither metadata.jsonl, metadata.csv or captions.txt, nor class folders, nor "
            f"a text file ({', '.join(CAPTION_EXTENSIONS)}) beside each image, such as dog.txt for dog.jpg"
        )
    if {name.casefold() for name in names} <= _SPLITS:
        raise UsageError(
            f"{folder}: its folders are splits, not classes ({', '.join(names)}); name one of them, such as "
            f"{option} {folder / names[0]}"
        )
    if options.labels is None and (all_numbers(names) or all(map(is_wnid, names))):
        raise DataError(
            f"{folder}: its class folders have numbers for names, such as {names[0]}, which say nothing to a model; "
            "name the classes with --labels FILE"
        )


def _images_in(folder: Path, selection: Selection) -> tuple[str | SkippedImage, ...]:
    try:
        return tuple(find_images([f"{folder}{os.sep}"], selection=selection).items)
    except DataError:  # no image at all
        return ()


def _has_text(image: str) -> bool:
    stem = os.path.splitext(image)[0]  # noqa: PTH122
    return any(os.path.isfile(f"{stem}.{extension}") for extension in CAPTION_EXTENSIONS)  # noqa: PTH113

"""What `eval` is asked to evaluate on: data sets by name and of the user's own, opened before any model is loaded."""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot_cli.cli.classes import Classes, saved_classes
from zeroshot_cli.console.terminal import note
from zeroshot_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from zeroshot_cli.cli.eval_run import Settings
    from zeroshot_cli.datasets.captioned import CaptionedImages
    from zeroshot_cli.datasets.labelled import LabelledImages
    from zeroshot_cli.datasets.registry import KnownSet
    from zeroshot_cli.words.labels import Labels
    from zeroshot_cli.words.prompts import Prompts


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the options say is evaluated, on what, and how; `retrieval` is None where the data set decides."""

    names: tuple[str, ...]
    labels: Path | None
    prompts: tuple[str, ...]
    classifier: Path | None
    retrieval: bool | None
    probe: str | None
    models: tuple[str, ...]
    pretrained: str | None
    data_dir: Path | None
    columns: tuple[str | None, str | None]

    def check(self) -> None:
        """Raise UsageError for options that contradict each other."""
        if self.pretrained is not None and len(self.models) > 1:
            raise UsageError("--pretrained is for one model; with several give each its own, as in --model NAME:TAG")
        if self.classifier is not None and self.prompts:
            raise UsageError(f"--classifier {self.classifier} holds its own templates; leave out --prompts")
        if self.retrieval and (self.labels or self.classifier or self.probe):
            raise UsageError(
                "--task retrieval has captions in place of labels; leave out --labels, --classifier, --probe"
            )
        if self.probe is not None and (self.prompts or self.classifier is not None):
            raise UsageError("--probe learns from images alone; leave out --prompts and --classifier")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that is open: labelled or captioned images, the classes to choose from, and the register's row.

    `classes` are one for each template set; captioned images have `templates` in their place, none as a rule, for
    captions are whole sentences. `own_labels`: the classes are called as the data set has it, so that published figures
    tell something. With `train` a probe is fitted to that.
    """

    images: "LabelledImages | CaptionedImages"
    classes: tuple[Classes, ...] = ()
    templates: "tuple[Prompts, ...]" = ()
    known: "KnownSet | None" = None
    own_labels: bool = True
    train: "LabelledImages | None" = None

    @property
    def labelled(self) -> bool:
        return bool(self.classes) or self.train is not None

    @property
    def evaluations(self) -> int:
        """How many there are of it, for each model."""
        return max(1, len(self.classes), len(self.templates))


def open_sources(asked: Asked, settings: "Settings") -> list[Source]:
    """Open every data set, which may download it. Raises UsageError or DataError for what is not there, or wrong."""
    asked.check()
    return [_open(name, asked, settings) for name in asked.names]


def _open(name: str, asked: Asked, settings: "Settings") -> Source:
    from zeroshot_cli.datasets.captioned import CaptionedImages

    saved = None if asked.classifier is None else saved_classes(asked.classifier, labels=asked.labels, prompts=None)
    labels = _labels(asked, saved)
    images, known = _images(name, labels, asked, settings)
    for text in images.notes:
        note(text, quiet=settings.quiet)
    if isinstance(images, CaptionedImages):
        from zeroshot_cli.words.prompts import read_prompts

        return Source(images=images, templates=tuple(map(read_prompts, asked.prompts)), known=known)
    if saved is not None:
        return Source(images=images, classes=(saved,), known=known, own_labels=False)
    if asked.probe is not None:
        return Source(images=images, known=known, train=_probe_images(asked.probe, images))
    return Source(images=images, classes=_classes(images, asked), known=known, own_labels=labels is None)


def _labels(asked: Asked, saved: Classes | None) -> "Labels | None":
    from zeroshot_cli.words.labels import read_labels

    if saved is not None:
        return saved.labels
    return None if asked.labels is None else read_labels(asked.labels)


def _images(
    name: str, labels: "Labels | None", asked: Asked, settings: "Settings"
) -> "tuple[LabelledImages | CaptionedImages, KnownSet | None]":
    from zeroshot_cli.datasets.captioned import read_captioned
    from zeroshot_cli.datasets.labelled import read_dataset

    path, (image_column, text_column) = Path(name), asked.columns
    if not os.path.lexists(name):  # a Path of a name too long raises
        from zeroshot_cli.datasets.known import open_known
        from zeroshot_cli.datasets.registry import find_known

        known = find_known(name)
        if known is not None:
            say = partial(note, quiet=settings.quiet)
            images = open_known(known, data_dir=asked.data_dir, offline=settings.offline, say=say)
            return _with_labels(images, labels), known
    if asked.retrieval:
        return read_captioned(path, image_column=image_column, caption_column=text_column), None
    return read_dataset(path, labels, image_column=image_column, label_column=text_column), None


def _with_labels(
    images: "LabelledImages | CaptionedImages", labels: "Labels | None"
) -> "LabelledImages | CaptionedImages":
    """Call the classes of a known data set otherwise, in its order."""
    from zeroshot_cli.datasets.labelled import LabelledImages

    if labels is None:
        return images
    if not isinstance(images, LabelledImages):
        raise UsageError(f"{images.name}: has captions in place of labels; leave out --labels")
    if len(labels) != len(images.labels):
        raise DataError(
            f"{images.name}: has {len(images.labels)} classes and --labels {len(labels)}; "
            "give a label for each, in their order"
        )
    return replace(images, labels=labels)


def _classes(images: "LabelledImages", asked: Asked) -> tuple[Classes, ...]:
    from zeroshot_cli.words.prompts import prompts_for, read_prompts

    sets = asked.prompts or (images.prompts or prompts_for(asked.labels),)
    return tuple(Classes(images.labels, read_prompts(name)) for name in sets)


def _probe_images(train: str, test: "LabelledImages") -> "LabelledImages":
    from zeroshot_cli.datasets.labelled import read_dataset

    return replace(read_dataset(Path(train), test.labels), as_stored=test.as_stored)

"""What is evaluated on: data sets by name and the user's own, opened before any model is loaded."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from zeroshot_cli.datasets.captioned import CaptionedImages, read_captioned
from zeroshot_cli.datasets.known import open_known
from zeroshot_cli.datasets.labelled import LabelledImages, read_dataset, relabelled
from zeroshot_cli.datasets.multilabel import MultiLabelImages, read_multilabel
from zeroshot_cli.datasets.registry import KnownSet, find_known
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.decode import EACH, Decoding
from zeroshot_cli.images.selection import USUAL, Selection
from zeroshot_cli.records import assumed_of
from zeroshot_cli.remote.address import is_address, shown_address
from zeroshot_cli.remote.tables import copied_table
from zeroshot_cli.results.shards.parts import is_part_folder
from zeroshot_cli.words.labels import Labels, read_labels
from zeroshot_cli.words.prompts import Prompts, choose_prompts, prompts_for, read_prompts

if TYPE_CHECKING:
    from zeroshot_cli.classify.classifier_file import SavedClassifier


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """What is evaluated, on what, and how.

    Without `models` the classifier file's own is evaluated, else the default one. `retrieval` is None where the data
    set decides. None elsewhere means the default.
    """

    datasets: tuple[str, ...]
    models: tuple[str, ...] = ()
    pretrained: str | None = None
    image_size: int | None = None
    labels: Path | None = None
    prompts: tuple[str, ...] = ()
    classifier: Path | None = None
    retrieval: bool | None = None
    template: tuple[str, ...] = ()
    probe: str | None = None
    data_dir: Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    selection: Selection = USUAL
    only_present: bool = False
    multi_label: bool = False
    min_probability: float | None = None
    max_pixels: int | None = None
    decode_timeout: float | None = None
    truncated: str | None = None
    frames: str | None = None
    fit: str | None = None
    device: str = "auto"
    precision: str = "fp32"
    offline: bool = False
    batch_size: int | None = None
    workers: int | None = None
    cache: bool = True
    seed: int = 0
    command: str = ""

    def check(self) -> None:
        """Raise UsageError for options that contradict each other."""
        if self.pretrained is not None and len(self.models) > 1:
            raise UsageError("--pretrained is for one model; with several, give each its own, as --model NAME:TAG")
        if self.retrieval and (self.labels or self.classifier or self.probe):
            raise UsageError("--task retrieval has captions instead of labels; omit --labels, --classifier and --probe")
        if self.classifier is not None and (self.labels or self.prompts or self.template):
            option = "--labels" if self.labels else "--prompts" if self.prompts else "--template"
            raise UsageError(f"--classifier {self.classifier} holds its own labels and templates; omit {option}")
        if self.frames == EACH:
            raise UsageError("--frames each has several images for one label; use first, middle or a number from 0")
        if self.multi_label and (self.retrieval or self.probe):
            option = "--task retrieval" if self.retrieval else "--probe"
            raise UsageError(f"{option} is not for images with several labels; omit it, or --multi-label")
        if self.min_probability is not None and not self.multi_label:
            raise UsageError("--min-probability is for --multi-label; add that, or omit it")
        if self.probe is not None and (self.prompts or self.template or self.classifier is not None):
            raise UsageError("--probe learns from images alone; omit --prompts, --template and --classifier")

    def decoding(self, *, as_stored: bool = False) -> Decoding:
        """Return how images are read: named data sets as the reference reads them, others upright."""
        given: dict[str, Any] = {"max_pixels": self.max_pixels, "timeout": self.decode_timeout}
        given |= {"truncated": self.truncated, "frames": self.frames, "fit": self.fit}
        return Decoding(as_stored=as_stored, **{name: value for name, value in given.items() if value is not None})


Images = LabelledImages | MultiLabelImages | CaptionedImages


class Progress(Protocol):
    """A progress bar."""

    def track(self, items: Iterable[Any], total: int, description: str) -> Iterable[Any]:
        """Yield the items and count them."""
        ...

    def counter(self, description: str, unit: str) -> Callable[[int, int], None]:
        """Return a function that takes how many units are done, and how many there are."""
        ...


class Listener(Protocol):
    """Who hears what an evaluation has to say while it runs."""

    def note(self, text: str) -> None:
        """Take a sentence that a user should read."""
        ...

    def detail(self, text: str) -> None:
        """Take a sentence for users who want to know more."""
        ...

    def assumed(self, notes: Sequence[str]) -> None:
        """Take what was assumed when data sets and labels were read."""
        ...

    def progress(self) -> AbstractContextManager[Progress]:
        """Return a progress bar."""
        ...


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that is open: labelled or captioned images, and how they are evaluated.

    `prompts` are the template sets to evaluate one by one; captioned images usually have none, because captions are
    whole sentences. With `saved` the classes are a classifier file's, with `train` a probe is fitted to that.
    `known` is the row of the registry; published figures apply if the data set's `own_labels` are used.
    """

    images: Images
    prompts: tuple[Prompts, ...] = ()
    saved: "SavedClassifier | None" = None
    train: LabelledImages | None = None
    known: KnownSet | None = None
    own_labels: bool = True

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was assumed when it was read."""
        labels = () if isinstance(self.images, CaptionedImages) else self.images.labels.notes
        return assumed_of(labels, self.images.notes, self.train.notes if self.train is not None else ())

    @property
    def evaluations(self) -> int:
        """The number of evaluations of it, for each model."""
        return max(1, len(self.prompts))


def open_sources(settings: EvalSettings, listener: Listener) -> list[Source]:
    """Open every data set, which may download it.

    Raises UsageError for what contradicts or is missing, DataError for what is wrong, UnavailableError for a data set
    that cannot be downloaded.
    """
    settings.check()
    saved = None
    if settings.classifier is not None:
        from zeroshot_cli.classify.classifier_file import read_classifier
        from zeroshot_cli.classify.rejection import Rules

        saved = read_classifier(settings.classifier)
        if saved.tuning is not None:
            Rules(multi_label=settings.multi_label).check(saved.labels.names, tuned=True)
    sources = [_open(name, saved, settings, listener) for name in settings.datasets]
    listener.assumed(assumed_of(*(source.assumed for source in sources)))
    return sources


def _open(name: str, saved: "SavedClassifier | None", settings: EvalSettings, listener: Listener) -> Source:
    labels = None if settings.labels is None else read_labels(settings.labels)
    images, known = _read(name, labels if saved is None else saved.labels, settings, listener)
    if settings.only_present:
        images = _narrowed(images, saved)
    for text in images.warnings:
        listener.note(text)
    if isinstance(images, CaptionedImages):
        return Source(images=images, prompts=_prompts(settings, ()), known=known)
    if saved is not None:
        return Source(images=images, saved=saved, known=known, own_labels=False)
    if settings.probe is not None and isinstance(images, LabelledImages):
        train = replace(
            read_dataset(Path(settings.probe), images.labels, selection=settings.selection), as_stored=images.as_stored
        )
        return Source(images=images, train=train, known=known)
    own = images.prompts if isinstance(images, LabelledImages) else None
    prompts = _prompts(settings, (own or prompts_for(settings.labels),))
    own_labels = labels is None and not settings.only_present
    return Source(images=images, prompts=prompts, known=known, own_labels=own_labels)


def _prompts(settings: EvalSettings, usual: tuple[str, ...]) -> tuple[Prompts, ...]:
    """Return the template sets to evaluate: those of --prompts, the one of --template, else the usual ones."""
    sets = tuple(map(read_prompts, settings.prompts))
    if settings.template:
        sets = (*sets, choose_prompts(None, settings.template, None))
    return sets or tuple(map(read_prompts, usual))


def _read(
    name: str, labels: Labels | None, settings: EvalSettings, listener: Listener
) -> tuple[Images, KnownSet | None]:
    if not is_address(name) and is_part_folder(Path(name)):
        raise DataError(
            f"{name} is a folder of parts that zeroshot wrote, which have no true labels; give eval class folders of "
            "images, or a table with the columns image and label"
        )
    known = None if os.path.lexists(name) or is_address(name) else find_known(name)  # a Path of a name too long raises
    if known is not None and settings.multi_label:
        raise UsageError(f"{known.name} has one label per image; omit --multi-label, or give a table of your own")
    if known is not None:
        images = open_known(known, data_dir=settings.data_dir, offline=settings.offline, say=listener.note)
        if labels is None:
            return images, known
        if isinstance(images, CaptionedImages):
            raise UsageError(f"{images.name}: has captions instead of labels; omit --labels")
        return relabelled(images, labels), known
    image_column = settings.image_column
    if settings.retrieval:
        columns = {"image_column": image_column, "caption_column": settings.label_column}
        where = name if is_address(name) else Path(name)
        return read_captioned(where, **columns, selection=settings.selection), None
    if is_address(name):
        with copied_table(name) as copy:
            found, known = _read(str(copy), labels, settings, listener)
        return replace(found, name=shown_address(name)), known
    path = Path(name)
    columns = {"image_column": image_column, "label_column": settings.label_column}
    if settings.multi_label:
        return read_multilabel(path, labels, **columns), None
    return read_dataset(path, labels, **columns, selection=settings.selection), None


def _narrowed(images: Images, saved: "SavedClassifier | None") -> LabelledImages | MultiLabelImages:
    """Return a data set with the labels that have images as the only possible answers."""
    if isinstance(images, CaptionedImages):
        raise UsageError(f"{images.name}: has captions instead of labels; omit --only-present")
    if saved is not None:
        raise UsageError(f"--classifier {saved.source} holds its own labels; omit --only-present")
    return images.narrowed()

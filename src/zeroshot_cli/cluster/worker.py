"""What one process of a cluster does with its share of the images; it knows no engine, so that any may call it.

A task is a list of numbered images; its answers have the same numbers. All that is here can be pickled.
"""

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
import torch

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.classify.rejection import Rules
from zeroshot_cli.embed.embeddings_file import Row
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.embed.images import EmbeddedImage, ImageEncoder, Outcome
from zeroshot_cli.embed.parts import EmbeddingParts
from zeroshot_cli.errors import CheckpointError, InputError, UnavailableError, UsageError
from zeroshot_cli.images.decode import Decoding
from zeroshot_cli.images.find import path_of
from zeroshot_cli.images.given import GivenImage, ImageItem
from zeroshot_cli.models.engines.choose import AUTO, TORCH, resolve_engine
from zeroshot_cli.models.load import load
from zeroshot_cli.models.precision import resolve_device, resolve_precision
from zeroshot_cli.models.registry import known_names
from zeroshot_cli.records import Result, SkippedImage, versions
from zeroshot_cli.remote.address import is_address, shown_address
from zeroshot_cli.results.formats import journal_line, parse_line
from zeroshot_cli.results.shards.parts import ResultParts

_LOOKED_AT = 100  # images, for a folder that is there

Item = tuple[int, ImageItem]
Answer = tuple[int, bytes | None, str]  # the number; a line of the journal, or an embedding with its note; a reason


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a process computes: the node's name, its device and precision, the versions that answers depend on."""

    node: str
    device: str
    precision: str
    versions: dict[str, str]

    @classmethod
    def here(cls, device: str, precision: str) -> "Machine":
        """Return what these options mean for this process; raises UsageError where the node cannot do so."""
        try:
            found = resolve_device(device)
            chosen = resolve_precision(precision, found)
            installed = versions_here(chosen, str(found))
        except UsageError as error:
            raise UsageError(f"node {platform.node()}: {error}") from None
        return cls(platform.node(), str(found), chosen, installed)

    def check_versions(self) -> None:
        """Raise UsageError where the node has other versions than this process: its answers could be others."""
        for name, number in versions_here(self.precision, self.device).items():
            if self.versions.get(name) != number:
                raise UsageError(
                    f"node {self.node} has {name} {self.versions.get(name)}, and this machine {number}; install the "
                    "same version on all nodes"
                )


def versions_here(precision: str, device: str) -> dict[str, str]:
    """Return the versions that answers depend on; raises UsageError where nothing here computes in the precision."""
    engine = resolve_engine(AUTO, precision, torch.device(device).type)
    others = ("pillow",) if engine == TORCH else ("pillow", engine)
    return {**versions(*others), "Python": platform.python_version()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAt:
    """A model and how it computes, for processes on any node; files are named from the root."""

    name: str
    pretrained: str | None
    image_size: int | None
    offline: bool
    device: str
    precision: str
    threads: int

    @staticmethod
    def absolute(name: str, pretrained: str | None) -> tuple[str, str | None]:
        """Return the name and the weights of a model, files and folders among them named from the root."""
        if name not in known_names() and os.path.exists(name):  # noqa: PTH110
            name = os.path.abspath(name)  # noqa: PTH100
        if pretrained is not None and os.path.exists(pretrained):  # noqa: PTH110
            pretrained = os.path.abspath(pretrained)  # noqa: PTH100
        return name, pretrained


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of every image: the embedding, or with a `classifier`, which lacks its model, the labels.

    With `parts`, a task is written as a part of a folder, and its answers are empty.

    `fingerprint` is that of the model that must answer. Relative paths begin at `folder`; `seen` is a folder of images
    that every node must have. Every process decodes in `workers` processes of its own.
    """

    fingerprint: str
    batch_size: int
    workers: int
    decoding: Decoding
    cache: bool
    folder: str
    seen: str | None = None
    classifier: Classifier | None = None
    rules: Rules | None = None
    top_k: int | None = None
    shown: int = 0
    parts: ResultParts | EmbeddingParts | None = None


class Worker:
    """A process with its model; raises the errors of `load` in words that name the node."""

    def __init__(self, at: ModelAt) -> None:
        torch.set_num_threads(at.threads)
        self._node = platform.node()
        try:
            self._model = load(
                at.name,
                at.pretrained,
                device=at.device,
                precision=at.precision,
                offline=at.offline,
                image_size=at.image_size,
            )
        except (UsageError, InputError, UnavailableError) as error:
            raise type(error)(f"node {self._node} cannot load the model: {error}; {_shared(at.name)}") from None
        self._name = at.name
        self._question: Question | None = None
        self._encoder: ImageEncoder | None = None
        self._classifier: Classifier | None = None

    def begin(self, question: Question) -> None:
        """Take the question of the tasks to come.

        Raises CheckpointError if it is for a model with other weights, UsageError where this node lacks the images.
        """
        if self._model.fingerprint != question.fingerprint:
            raise CheckpointError(
                f"node {self._node} has other weights under the name {self._name} than this machine "
                f"({self._model.fingerprint[:12]}, not {question.fingerprint[:12]}); {_shared(self._name)}"
            )
        if question.seen is not None and not os.path.isdir(question.seen):  # noqa: PTH112
            raise UsageError(
                f"node {self._node} has no folder {question.seen}, from which images are read; put it where every node "
                "sees it under the same path, such as in a shared folder"
            )
        self._question = question
        self._encoder = ImageEncoder(
            self._model,
            batch_size=question.batch_size,
            workers=question.workers,
            cache=ImageCache() if question.cache else None,
            decoding=question.decoding,
        )
        self._classifier = question.classifier
        if self._classifier is not None:
            self._classifier.model = self._model

    def __call__(self, items: Sequence[Item]) -> list[Answer]:
        """Return the answers to a task, in its order."""
        assert self._question is not None
        assert self._encoder is not None
        images = (_below(self._question.folder, item) for _, item in items)
        encoded = self._encoder.encode(images)
        question, numbers = self._question, range(items[0][0], items[0][0] + len(items))
        if self._classifier is None:
            with closing(encoded):
                outcomes = chain.from_iterable(encoded)
                if isinstance(question.parts, EmbeddingParts):
                    question.parts(
                        numbers, [_row(image, item) for (_, image), item in zip(items, outcomes, strict=True)]
                    )
                    return _written(numbers)
                return [_embedding(number, item) for (number, _), item in zip(items, outcomes, strict=True)]
        answers = self._classifier.answers(
            lambda: encoded, top_k=question.top_k, shown=question.shown, rules=question.rules
        )
        with closing(answers):
            results = [
                _named(image, item) for (_, image), item in zip(items, chain.from_iterable(answers), strict=True)
            ]
        if isinstance(question.parts, ResultParts):
            question.parts(numbers, results)
            return _written(numbers)
        return [(number, journal_line(result), "") for number, result in zip(numbers, results, strict=True)]

    def close(self) -> None:
        """End the decoding processes."""
        if self._encoder is not None:
            self._encoder.__exit__()


def folder_seen(folder: str, items: Iterable[ImageItem]) -> str | None:
    """Return a folder that is here, of one of the first images below `folder`; None where no image is on disk."""
    folders = (
        os.path.dirname(os.path.join(folder, item))  # noqa: PTH118, PTH120
        for item in islice(items, _LOOKED_AT)
        if isinstance(item, str) and not is_address(item)
    )
    return next(filter(os.path.isdir, folders), None)


def results_of(answers: Sequence[Answer]) -> list[Result]:
    """Return the results that lines of the journal hold."""
    return [parse_line(line) for _, line, _ in answers if line is not None]


def outcomes_of(answers: Sequence[Answer], items: Sequence[ImageItem]) -> Iterator[Outcome]:
    """Yield the embeddings in the answers to `items`, or why there is none."""
    for (_, embedding, text), item in zip(answers, items, strict=True):
        if embedding is None:
            yield SkippedImage(shown_path(item), text)
        else:
            yield EmbeddedImage(shown_path(item), np.frombuffer(embedding, dtype=np.float32), text)


def shown_path(item: ImageItem) -> str:
    """Return the path of an image as results have it: of an address, without the secrets."""
    path = path_of(item)
    return shown_address(path) if is_address(path) else path


def _named(image: ImageItem, result: Result) -> Result:
    path = shown_path(image)
    return result if result.path == path else replace(result, path=path)


def _row(image: ImageItem, item: Outcome) -> Row:
    if isinstance(item, SkippedImage):
        return shown_path(image), None, item.reason
    return shown_path(image), item.embedding, None


def _written(numbers: range) -> list[Answer]:
    return [(number, None, "") for number in numbers]


def _embedding(number: int, item: Outcome) -> Answer:
    if isinstance(item, SkippedImage):
        return number, None, item.reason
    return number, item.embedding.tobytes(), item.note


def _below(folder: str, item: ImageItem) -> ImageItem:
    """Return an image as this process finds it, whose working directory may be another."""
    if isinstance(item, SkippedImage | GivenImage) or is_address(item):
        return item
    return os.path.join(folder, item)  # noqa: PTH118


def _shared(name: str) -> str:
    if os.path.isabs(name):  # noqa: PTH117
        return "put it where every node sees it under the same path, such as in a shared folder"
    return f"put it where every node sees it (zeroshot models download {name} --to DIR), and give --model DIR"

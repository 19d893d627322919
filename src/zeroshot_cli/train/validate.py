"""Validate a model in training, on pairs and on labelled images that it does not learn from."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.clip.config import CLIPConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer, TruncatedTextWarning
from zeroshot_cli.datasets.labelled import LabelledImages, read_dataset
from zeroshot_cli.embed.batches import auto_batch_size
from zeroshot_cli.errors import CheckpointError, DataError, UnreadableImage, UsageError
from zeroshot_cli.evaluation.classification import Pipeline, answer
from zeroshot_cli.evaluation.metrics import top_k_accuracy
from zeroshot_cli.evaluation.retrieval import Retrieval, retrieval
from zeroshot_cli.images.decode import EXACTLY, Decoding
from zeroshot_cli.images.decoder_pool import Decoders
from zeroshot_cli.images.decoder_process import Job
from zeroshot_cli.images.find import path_of
from zeroshot_cli.images.preprocess import Preprocess, PreprocessConfig
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.remote.address import shown_address
from zeroshot_cli.train.data import Batch
from zeroshot_cli.words.labels import read_labels
from zeroshot_cli.words.prompts import choose_prompts

_NAME = "the model in training"


# on pairs


@dataclass(frozen=True, slots=True)
class Validation:
    """Loss and retrieval on the validation pairs, without the `skipped` images, which could not be read."""

    loss: float
    retrieval: Retrieval
    skipped: tuple[SkippedImage, ...] = ()


Embed = Callable[[Batch], tuple[Tensor, Tensor]]
LossOf = Callable[[Tensor, Tensor, Batch], Tensor]


@torch.no_grad()
def validate(batches: Iterable[Batch], embed: Embed, loss_of: LossOf) -> Validation:
    """Embed all batches, then score them: the mean loss over rows, and retrieval over all rows.

    Rows with one image, or with captions that differ in case only, are one image or text with several answers. Raises
    DataError where no image can be read.
    """
    images, texts = _Distinct(), _Distinct()
    pairs: list[tuple[int, int]] = []
    losses: list[float] = []
    skipped: dict[SkippedImage, None] = {}
    for batch in batches:
        skipped |= dict.fromkeys(batch.skipped)
        if not batch.captions:
            continue
        image_features, text_features = embed(batch)
        losses.append(float(loss_of(image_features, text_features, batch)) * len(batch.captions))
        own_images = images.add(batch.images, image_features)
        own_texts = texts.add([caption.casefold() for caption in batch.captions], text_features)
        pairs.extend(zip(own_images, own_texts, strict=True))
    if not pairs:
        raise _none_left(tuple(skipped))
    found = retrieval(images.features(), texts.features(), pairs)
    return Validation(sum(losses) / len(pairs), found, tuple(skipped))


@dataclass(slots=True)
class _Distinct:
    """The embeddings of different images or texts, in the order in which they first come."""

    numbers: dict[str, int] = field(default_factory=dict)
    parts: list[Tensor] = field(default_factory=list)

    def add(self, keys: Sequence[str], features: Tensor) -> list[int]:
        """Keep the rows (batch, embedding) of keys that are new; return the number of each key."""
        new = []
        for row, key in enumerate(keys):
            if key not in self.numbers:
                self.numbers[key] = len(self.numbers)
                new.append(row)
        self.parts.append(features[new].float().cpu())
        return [self.numbers[key] for key in keys]

    def features(self) -> Tensor:
        return torch.cat(self.parts)


def _none_left(skipped: Sequence[SkippedImage]) -> DataError:
    first = f" (the first, {skipped[0].path}: {skipped[0].reason})" if skipped else ""
    return DataError(f"none of the {len(skipped)} images to validate on can be read{first}; check --val")


# on labelled images


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of labelled images whose class comes first, and among the first five (or all, where they are fewer).

    `images` counts those that were classified; `skipped` are those that could not be read.
    """

    top1: float
    top5: float
    images: int
    skipped: tuple[SkippedImage, ...] = ()


class Start(Protocol):
    """What belongs to a model in training, besides its weights."""

    @property
    def config(self) -> CLIPConfig:
        """The architecture."""

    @property
    def preprocess(self) -> PreprocessConfig:
        """What images go through."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What texts go through."""


class LabelledSet:
    """Labelled images and the names of their classes, read before a run starts, so that mistakes show at once.

    `folder` has class folders, or is a CSV of images and labels. `labels` and `prompts` are names or files,
    `templates` texts; without them the classes are the folders' names, and the templates those that fit. Raises
    UsageError for what is missing, DataError, LabelsError or PromptsError for what is wrong in it.
    """

    def __init__(
        self,
        folder: str,
        labels: str | None = None,
        prompts: str | None = None,
        templates: Sequence[str] = (),
        *,
        decoding: Decoding = EXACTLY,
    ) -> None:
        classes = None if labels is None else read_labels(labels)
        self.prompts = choose_prompts(prompts, templates, labels)
        self.dataset = read_dataset(Path(folder), classes)
        self.decoding = decoding
        _check(self.dataset, decoding)
        self._has_warned = False

    def accuracy(
        self,
        model: CLIP,
        start: Start,
        *,
        device: torch.device,
        precision: str,
        workers: int,
        batch_size: int,
    ) -> Accuracy:
        """Measure how often a model in training is right, and leave it as it was; `batch_size` is an upper bound.

        `start` has what belongs to the model. The weights stay float32: `precision` bf16 computes as training does,
        with autocast. Raises DataError where no image can be read any more, UsageError where embeddings are not finite.
        """
        loaded = LoadedModel(
            name=_NAME,
            pretrained=None,
            model=model,
            config=start.config,
            preprocess=Preprocess(start.preprocess),
            tokenizer=start.tokenizer,
            device=device,
            precision="fp32",
            known_fingerprint=_NAME,  # it changes with every step, and nothing is kept under it
        )
        bf16 = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        with _in_evaluation(model), bf16, self._warnings_once():
            return self._accuracy(loaded, workers=workers, batch_size=batch_size)

    def _accuracy(self, model: LoadedModel, *, workers: int, batch_size: int) -> Accuracy:
        classifier = Classifier(model, self.dataset.labels, self.prompts)
        if not classifier.embeddings.isfinite().all():
            raise _diverged("labels")
        size = min(batch_size, auto_batch_size(len(self.dataset), model))
        pipeline = Pipeline(batch_size=size, workers=workers, decoding=self.decoding)
        try:
            answers = answer(model, self.dataset, classifier, pipeline)
        except CheckpointError as error:  # it gives advice for weights that are not in training
            raise _diverged("images") from error
        top1, top5 = (top_k_accuracy(answers.ranks, k) for k in (1, 5))
        return Accuracy(top1, top5, len(answers.ranks), answers.skipped)

    @contextmanager
    def _warnings_once(self) -> Iterator[None]:
        """Warn of prompts that are too long the first time only."""
        with warnings.catch_warnings():
            if self._has_warned:
                warnings.simplefilter("ignore", TruncatedTextWarning)
            yield
        self._has_warned = True


def _check(dataset: LabelledImages, decoding: Decoding) -> None:
    """Raise DataError where there is one class only, and where no image can be read."""
    if len(dataset.labels) < 2:
        only = dataset.labels.names[0]
        raise DataError(f"{dataset.name}: {only!r} is its only class, so every answer is right; give it a second one")
    first: SkippedImage | None = None
    with Decoders(Job(thumbnail=1, decoding=decoding), workers=1) as decoders:
        for item in dataset.items:
            problem = item if isinstance(item, SkippedImage) else _why_unreadable(decoders, path_of(item))
            if problem is None:
                return
            first = first or problem
    assert first is not None  # no data set is empty
    raise DataError(
        f"{dataset.name}: none of its {len(dataset)} images can be read (the first, {first.path}: {first.reason}); "
        "put others there, or omit --zero-shot"
    )


def _why_unreadable(decoders: Decoders, path: str) -> SkippedImage | None:
    try:
        decoders.submit(path).result()
    except UnreadableImage as error:
        return SkippedImage(shown_address(path), str(error))
    return None


def _diverged(what: str) -> UsageError:
    return UsageError(
        f"--zero-shot: the embeddings of its {what} are not finite; use a lower --lr or --precision fp32 "
        "(the last checkpoint is from before)"
    )


@contextmanager
def _in_evaluation(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and each of its modules back as it was afterwards: some may be locked."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode

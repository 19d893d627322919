"""Zero-shot accuracy of a model while it is being trained, through the pipeline that classifies."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.clip.config import CLIPConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer, TruncatedTextWarning
from zeroshot_cli.datasets.labelled import LabelledImages, read_dataset
from zeroshot_cli.embed.batches import auto_batch_size
from zeroshot_cli.errors import CheckpointError, DataError, UnreadableImage, UsageError
from zeroshot_cli.evaluation.classification import Pipeline, answer
from zeroshot_cli.evaluation.metrics import top_k_accuracy
from zeroshot_cli.images.decode import decode
from zeroshot_cli.images.preprocess import Preprocess, PreprocessConfig
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.words.labels import read_labels
from zeroshot_cli.words.prompts import prompts_for, read_prompts

_NAME = "the model in training"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of labelled images whose class is the best, and one of the best five (of all, where they are fewer).

    `images` is how many were judged; `skipped` are those that could not be read.
    """

    top1: float
    top5: float
    images: int
    skipped: tuple[SkippedImage, ...] = ()


class ZeroShot:
    """Labelled images and what their classes are called, read before a run starts, so that mistakes show at once.

    `folder` has class folders, or is a CSV of images and labels. `labels` and `prompts` are names or files; without
    them the classes are the folders' names, and the templates those that fit. Raises UsageError for what is not there,
    DataError, LabelsError or PromptsError for what is wrong in it.
    """

    def __init__(self, folder: str, labels: str | None = None, prompts: str | None = None) -> None:
        classes = None if labels is None else read_labels(labels)
        self.prompts = read_prompts(prompts or prompts_for(labels))
        self.dataset = read_dataset(Path(folder), classes)
        _check(self.dataset)
        self._has_warned = False

    def accuracy(
        self,
        model: CLIP,
        config: CLIPConfig,
        preprocess: PreprocessConfig,
        tokenizer: Tokenizer,
        *,
        device: torch.device,
        precision: str,
        workers: int,
        batch_size: int,
    ) -> Accuracy:
        """How often a model in training is right; it is left as it was. `batch_size` is the most images at once.

        The weights stay float32: `precision` bf16 computes as training does, with autocast. Raises DataError where no
        image can be read any more, UsageError where embeddings are no finite numbers.
        """
        loaded = LoadedModel(
            name=_NAME,
            pretrained=None,
            model=model,
            config=config,
            preprocess=Preprocess(preprocess),
            tokenizer=tokenizer,
            device=device,
            precision="fp32",
            known_fingerprint=_NAME,  # it changes with every step, and nothing is kept under it
        )
        bf16 = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        with _judged(model), bf16, self._warnings_once():
            return self._accuracy(loaded, workers=workers, batch_size=batch_size)

    def _accuracy(self, model: LoadedModel, *, workers: int, batch_size: int) -> Accuracy:
        classifier = Classifier(model, self.dataset.labels, self.prompts)
        if not classifier.embeddings.isfinite().all():
            raise _diverged("labels")
        size = min(batch_size, auto_batch_size(len(self.dataset), model))
        try:
            answers = answer(model, self.dataset, classifier, Pipeline(batch_size=size, workers=workers))
        except CheckpointError as error:  # it gives advice for weights that are not in training
            raise _diverged("images") from error
        top1, top5 = (top_k_accuracy(answers.ranks, k) for k in (1, 5))
        return Accuracy(top1, top5, len(answers.ranks), answers.skipped)

    @contextmanager
    def _warnings_once(self) -> Iterator[None]:
        """Let prompts that are too long be warned of the first time."""
        with warnings.catch_warnings():
            if self._has_warned:
                warnings.simplefilter("ignore", TruncatedTextWarning)
            yield
        self._has_warned = True


def _check(dataset: LabelledImages) -> None:
    """Raise DataError for images that would say nothing, and where none can be read."""
    if len(dataset.labels) < 2:
        only = dataset.labels.names[0]
        raise DataError(f"{dataset.name}: {only!r} is its only class, so every answer is right; give it a second one")
    first: SkippedImage | None = None
    for item in dataset.items:
        problem = item if isinstance(item, SkippedImage) else _why_unreadable(item)
        if problem is None:
            return
        first = first or problem
    assert first is not None  # no data set is empty
    raise DataError(
        f"{dataset.name}: none of its {len(dataset)} images can be read (the first, {first.path}: {first.reason}); "
        "put others there, or leave out --zero-shot"
    )


def _why_unreadable(path: str) -> SkippedImage | None:
    try:
        decode(path)
    except UnreadableImage as error:
        return SkippedImage(path, str(error))
    return None


def _diverged(what: str) -> UsageError:
    return UsageError(
        f"--zero-shot: the embeddings of its {what} are no finite numbers; use a lower --lr or --precision fp32 "
        "(the last checkpoint is from before)"
    )


@contextmanager
def _judged(model: nn.Module) -> Iterator[None]:
    """Let a model be in evaluation mode, and each of its modules as it was before afterwards: some may be locked."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode

"""Zero-shot classification: image embeddings against class embeddings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from zeroshot_cli.classifier_file import SavedClassifier, write_classifier
from zeroshot_cli.encode.cache import TextCache
from zeroshot_cli.encode.images import EmbeddedImage, auto_workers, encode_images
from zeroshot_cli.encode.texts import OnProgress, class_embeddings
from zeroshot_cli.errors import CheckpointError
from zeroshot_cli.labels import Labels
from zeroshot_cli.prompts import DEFAULT_PROMPTS, Prompts, read_prompts
from zeroshot_cli.records import LabelScore, Prediction, SkippedImage
from zeroshot_cli.weights.loaded import LoadedModel

VERSIONS_OF = ("zeroshot-cli", "torch", "safetensors")


class Classifier:
    """A model with labels to choose from.

    `labels` may be plain names; `prompts` a template set, its name or its file, by default a small ensemble. The class
    embeddings (c, e) are computed here, once; `on_progress` gets the number of texts that are done and of all, and what
    `cache` knows is not encoded. LabelsError and PromptsError say what is wrong with labels or prompts.
    """

    def __init__(
        self,
        model: LoadedModel,
        labels: Labels | Sequence[str],
        prompts: Prompts | str | None = None,
        *,
        cache: TextCache | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.model = model
        self.labels = labels if isinstance(labels, Labels) else Labels.of(labels)
        self.prompts = prompts if isinstance(prompts, Prompts) else read_prompts(prompts or DEFAULT_PROMPTS)
        self.names = self.labels.names
        texts = self.prompts.fill(self.labels)
        self.embeddings = class_embeddings(model, texts, cache=cache, on_progress=on_progress)

    @classmethod
    def of(cls, saved: SavedClassifier, model: LoadedModel) -> "Classifier":
        """The classifier that a file holds; CheckpointError where it was built with another model."""
        if saved.fingerprint != model.fingerprint:
            given = model_options(model.name, model.pretrained)
            built = model_options(saved.model, saved.pretrained)
            other = f"other weights under the name {given}" if built == given else f"{built}, not with {given}"
            raise CheckpointError(f"{saved.source} was built with {other}; give that model, or build it again")
        classifier = cls.__new__(cls)  # __init__ would compute what the file holds
        classifier.model, classifier.labels, classifier.prompts = model, saved.labels, saved.prompts
        classifier.names, classifier.embeddings = saved.labels.names, saved.embeddings
        return classifier

    def save(self, path: Path, *, thresholds: Mapping[str, float] | None = None) -> None:
        """Write a classifier file; UsageError where that cannot be done."""
        saved = SavedClassifier(
            source=str(path),
            labels=self.labels,
            prompts=self.prompts,
            embeddings=self.embeddings,
            model=self.model.name,
            pretrained=self.model.pretrained,
            precision=self.model.precision,
            fingerprint=self.model.fingerprint,
            temperature=1 / self.model.logit_scale,
            thresholds=thresholds or {},
            versions={name: version(name) for name in VERSIONS_OF},
        )
        write_classifier(saved, path)

    def predict(
        self,
        images: Iterable[str | SkippedImage],
        *,
        top_k: int = 1,
        batch_size: int = 32,
        workers: int | None = None,
    ) -> Iterator[Prediction | SkippedImage]:
        """Yield, in order, the `top_k` best labels of every image (all of them where there are fewer), or why not.

        `workers` threads decode, by default one a core. ValueError where a number is under 1.
        """
        if isinstance(images, str):
            raise TypeError(f"predict takes a list of paths, not one path: write [{images!r}]")
        if top_k < 1:
            raise ValueError(f"top_k is at least 1, not {top_k}")
        workers = auto_workers() if workers is None else workers
        encoded = encode_images(self.model, images, batch_size=batch_size, workers=workers)
        return (item if isinstance(item, SkippedImage) else self._judge(item, top_k) for item in encoded)

    def _judge(self, image: EmbeddedImage, top_k: int) -> Prediction:
        scores = cosines(self.model, self.embeddings, image)
        probabilities = softmax(self.model.logit_scale * scores.astype(np.float64))
        order = np.argsort(-scores, kind="stable")  # stable: ties go to the lower class index
        best = tuple(LabelScore(self.names[i], float(scores[i]), float(probabilities[i])) for i in order[:top_k])
        margin = float(scores[order[0]] - scores[order[1]]) if len(order) > 1 else None
        return Prediction(image.path, best, margin)


def cosines(model: LoadedModel, classes: torch.Tensor, image: EmbeddedImage) -> npt.NDArray[np.float32]:
    """Return the cosines (c,) of an image with the embeddings `classes` (c, e); CheckpointError if not finite."""
    # One product an image, not one a batch: its rounding cannot depend on the neighbours.
    products = classes @ image.embedding  # (c, e) @ (e,) -> c
    if not torch.isfinite(products).all():
        raise CheckpointError(
            f"{model.name}: its scores for {image.path} are not finite numbers; "
            f"try --precision fp32 in place of {model.precision}, or other weights"
        )
    scores: npt.NDArray[np.float32] = products.numpy()
    return scores


def model_options(name: str, pretrained: str | None) -> str:
    """Return what to type for a model."""
    return f"--model {name}" + (f" --pretrained {pretrained}" if pretrained else "")


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the probabilities (c,) of logits (c,)."""
    weights: npt.NDArray[np.float64] = np.exp(logits - logits.max())
    probabilities: npt.NDArray[np.float64] = weights / weights.sum()
    return probabilities

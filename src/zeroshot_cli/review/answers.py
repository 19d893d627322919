"""What the model of a run says of its images now: embeddings from the cache, and the labels of a classifier.

n images, e embedding
"""

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroshot_cli.classify.classifier import Classifier, embeddings_of
from zeroshot_cli.classify.classifier_file import read_classifier
from zeroshot_cli.classify.scoring import best, softmax
from zeroshot_cli.documents import hash_of
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.embed.images import EmbeddedImage, cached_embeddings, encode_images
from zeroshot_cli.embed.texts import TextCache
from zeroshot_cli.errors import UsageError, ZeroshotError
from zeroshot_cli.images.decode import Decoding
from zeroshot_cli.images.decoder_pool import auto_workers
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SEPARATOR
from zeroshot_cli.review.run import TOP, Answered, Run, Scores
from zeroshot_cli.words.labels import Label, Labels
from zeroshot_cli.words.prompts import Prompts, read_prompts

_AT_ONCE = 4096  # images that are scored at once

Embeddings = npt.NDArray[np.float32]
OnProgress = Callable[[int, int], None]


@dataclass(slots=True)
class Scorer:
    """The classifier of a run, and the embeddings (n, e) of its images as far as they are `known` (n,)."""

    classifier: Classifier
    decoding: Decoding
    batch_size: int
    cache: ImageCache
    embeddings: Embeddings
    known: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, run: Run) -> "Scorer":
        """Return the scorer of a run; ZeroshotError with the reason where its classifier cannot be made again."""
        model = _model(run)
        classifier = _classifier(run, model)
        decoding, size, cache = decoding_of(run), int(run.resolved.get("batch_size", 32)), ImageCache()
        found = cached_embeddings(
            model, [image.file for image in run.images], batch_size=size, cache=cache, decoding=decoding
        )
        embeddings = np.zeros((len(found), model.embed_dim), np.float32)
        for row, each in enumerate(found):
            if each is not None:
                embeddings[row] = each
        return cls(classifier, decoding, size, cache, embeddings, np.array([each is not None for each in found]))

    @property
    def model(self) -> LoadedModel:
        """The model of the run."""
        return self.classifier.model

    def with_labels(self, names: Sequence[str]) -> Classifier:
        """Return a zero-shot classifier of the run's labels and of others."""
        own = self.classifier.labels
        new = [Label(name) for name in names if name not in own.names]
        if not new:
            same = copy(self.classifier)
            same.tuning = None
            return same
        labels = Labels((*own.items, *new))
        return Classifier(self.model, labels, self.classifier.prompts, cache=TextCache())

    def encode(self, images: Sequence[Answered], on_progress: OnProgress) -> None:
        """Embed the images that the cache lacks; those that cannot be read stay unknown."""
        rows = [row for row, known in enumerate(self.known) if not known and not images[row].missing]
        if not rows:
            return
        encoded = encode_images(
            self.model,
            [images[row].file for row in rows],
            batch_size=self.batch_size,
            workers=auto_workers(self.model.device.type),
            cache=self.cache,
            decoding=self.decoding,
        )
        done = 0
        with closing(encoded):
            for block in encoded:
                for item in block:
                    if isinstance(item, EmbeddedImage):
                        self.embeddings[rows[done]] = embeddings_of(self.model, [item])[0]
                        self.known[rows[done]] = True
                    done += 1
                on_progress(done, len(rows))

    def answers(self, classifier: Classifier) -> list[Scores]:
        """Return the best labels of every image with their probabilities; none where the embedding is not known."""
        found: list[Scores] = [()] * len(self.known)
        rows = np.flatnonzero(self.known)
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            scores, logits = classifier.scores(self.embeddings[part])
            order = best(scores, min(TOP, len(classifier.names)))
            values = np.take_along_axis(softmax(logits), order, axis=1)
            for row, labels, numbers in zip(part.tolist(), order.tolist(), values.tolist(), strict=True):
                found[row] = tuple(
                    (classifier.names[label], number) for label, number in zip(labels, numbers, strict=True)
                )
        return found


def decoding_of(run: Run) -> Decoding:
    """Return how a run has read its images."""
    settings = run.settings
    named = {name: settings[name] for name in ("truncated", "frames", "fit", "max_pixels") if settings.get(name)}
    return Decoding(exact=bool(settings.get("exact_decode")), **named)


def completed(image: Answered, scores: Scores) -> Answered:
    """Return an answer with the next best labels added, and its probability, where the results lack them."""
    known = {label for label, _ in image.top}
    top = (*image.top, *(each for each in scores if each[0] not in known))[:TOP]
    probability = image.probability if image.probability is not None else dict(scores).get(image.label)
    return replace(image, top=top, probability=probability)


def _model(run: Run) -> LoadedModel:
    from zeroshot_cli.models.engines.choose import computed_by
    from zeroshot_cli.models.load import load

    settings = run.settings
    if not isinstance(settings.get("model"), str):
        raise UsageError("the record of the run, FILE.run.json, is not beside the results, so their model is not known")
    given: dict[str, Any] = {"device": settings["device"]} if settings.get("device") else {}
    if settings.get("precision"):
        given["precision"], given["engine"] = computed_by(settings["precision"])
    size = run.resolved.get("image_size")
    model = load(settings["model"], settings.get("pretrained"), offline=True, image_size=size, **given)
    if settings.get("weights") not in (None, model.fingerprint):
        raise UsageError(f"the model {model.title} has other weights now than when the images were classified")
    return model


def _classifier(run: Run, model: LoadedModel) -> Classifier:
    resolved, settings = run.resolved, run.settings
    if isinstance(source := resolved.get("classifier"), str):
        classifier = Classifier.of(read_classifier(source), model)
    else:
        labels = _labels(run)
        templates = resolved.get("templates")
        name = str(settings.get("prompts"))
        prompts = Prompts(name, "", name, tuple(templates)) if templates else read_prompts(name)
        classifier = Classifier(model, labels, prompts, cache=TextCache())
        if settings.get("texts of the labels") != hash_of(prompts.fill(labels)):
            raise UsageError("the record of the run does not say which texts its labels stood for; classify again")
    tuning = classifier.tuning and classifier.tuning.fingerprint
    if classifier.names != run.labels or settings.get("tuning") != tuning:
        raise UsageError(f"the classifier file {os.fspath(source or '')} is another than the images were classified by")
    return classifier


def _labels(run: Run) -> Labels:
    """Return the labels of a run with their synonyms, whole prompts and groups."""
    more, groups = run.resolved.get("more_words") or {}, run.settings.get("groups") or [""] * len(run.labels)
    paths = [tuple(group.split(SEPARATOR)) if group else () for group in groups]
    words = [more.get(name, ((), ())) for name in run.labels]
    return Labels(
        tuple(
            Label(name, tuple(synonyms), tuple(prompts), group=path)
            for name, (synonyms, prompts), path in zip(run.labels, words, paths, strict=True)
        )
    )


def scorer_of(run: Run) -> "tuple[Scorer | None, str]":
    """Return the scorer of a run; without one, why there is none."""
    try:
        return Scorer.of(run), ""
    except ZeroshotError as error:
        return None, str(error)
    except (ValueError, TypeError, KeyError) as error:  # a record from outside
        return None, f"the record of the run is damaged ({error})"

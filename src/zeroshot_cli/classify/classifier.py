"""Zero-shot classification: image embeddings against class embeddings."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from zeroshot_cli.classify.adapt import Candidates, check_adapting
from zeroshot_cli.classify.adapt import adapt as adapt_to
from zeroshot_cli.classify.classifier_file import THRESHOLDS, SavedClassifier, read_classifier, write_classifier
from zeroshot_cli.classify.groups import answers_by_name, check_level, level_of, levels_of
from zeroshot_cli.classify.negatives import AUTO, Negatives, mine
from zeroshot_cli.classify.rejection import Rules, corrected, judge
from zeroshot_cli.classify.scoring import Doubles, Floats, Scored, cosines, score, score_tuned
from zeroshot_cli.classify.tuning import Tuning
from zeroshot_cli.display import counted
from zeroshot_cli.embed.batches import auto_batch_size
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.embed.images import EmbeddedImage, Outcome, encode_images
from zeroshot_cli.embed.prompt_ensemble import OnProgress, class_embeddings
from zeroshot_cli.embed.texts import TextCache
from zeroshot_cli.errors import CheckpointError, LabelsError
from zeroshot_cli.images.decode import EXACTLY, Decoding
from zeroshot_cli.images.decoder_pool import auto_workers
from zeroshot_cli.images.given import ImageLike, named_images
from zeroshot_cli.models.load import load
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import Result, SkippedImage, versions
from zeroshot_cli.words.labels import Labels
from zeroshot_cli.words.prompts import Prompts, given_prompts

BLANK = ("a photo.", "a picture.", "an image.")  # true of every image: the background of labels judged one by one

_NONE = np.empty(0, dtype=np.float32)  # an embedding that is in a matrix by now
_JUDGED = 512  # images in a block of results that were adapted


@dataclass(slots=True)
class Adapting:
    """A look at all images together before the first answer, for `Classifier.predict_blocks`.

    `track` may count the blocks as they are encoded, `on_progress` gets how many images have been passed, and of how
    many. Afterwards, `changed` of the answers to `images` differ from those that each had alone.
    """

    track: Callable[[Iterable[list[Outcome]]], Iterable[list[Outcome]]] = iter
    on_progress: OnProgress | None = None
    images: int = 0
    changed: int = 0


class Encode(Protocol):
    """What yields the embeddings of all images, or why there is none, block by block."""

    def __call__(self) -> Generator[list[Outcome]]:
        """Begin."""


class Classifier:
    """A model with labels to choose from.

    `labels` may be plain names, or a mapping of groups to lists of labels or to more groups; `prompts` is a template
    set, its name or its file, or templates such as "a photo of a {}", by default a small ensemble. The class embeddings
    (classes, embedding) are computed here, once: `on_progress` gets the number of texts that are done and of all, and
    texts in `cache` are not encoded. `levels` are what is answered at each level of groups, `tuning` is what examples
    taught it, None for zero-shot; `rules` are those that its file has; `corrected` are the labels that people gave
    images, by absolute path. Raises LabelsError and PromptsError.
    """

    def __init__(
        self,
        model: LoadedModel,
        labels: Labels | Sequence[str] | Mapping[str, Any],
        prompts: Prompts | str | os.PathLike[str] | Sequence[str] | None = None,
        *,
        cache: TextCache | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.model = model
        self.labels = Labels.of_user(labels)
        self.prompts = given_prompts(prompts)
        self.names, self.levels = self.labels.names, levels_of(self.labels)
        self.background: Tensor | None = None  # ge
        self.tuning: Tuning | None = None
        self.negatives: Negatives | None = None
        self.corrected: Mapping[str, str] = {}
        self.rules = Rules()
        texts = self.prompts.fill(self.labels)
        self.embeddings = class_embeddings(model, texts, cache=cache, on_progress=on_progress)

    def __repr__(self) -> str:
        taught = "" if self.tuning is None else f", {self.tuning.sentence()}"
        return f"<Classifier: {counted(len(self.names), 'label')}, model {self.model.title}{taught}>"

    @classmethod
    def of(cls, saved: SavedClassifier, model: LoadedModel) -> "Classifier":
        """Return the classifier of a file; raises CheckpointError where it was built with another model."""
        if saved.fingerprint != model.fingerprint:
            given, built = (
                f"--model {name}" + (f" --pretrained {pretrained}" if pretrained else "")
                for name, pretrained in ((model.name, model.pretrained), (saved.model, saved.pretrained))
            )
            other = f"other weights under the name {given}" if built == given else f"{built}, not with {given}"
            raise CheckpointError(f"{saved.source} was built with {other}; give that model, or build it again")
        classifier = cls.__new__(cls)  # __init__ would compute what the file has
        classifier.model, classifier.labels, classifier.prompts = model, saved.labels, saved.prompts
        classifier.names, classifier.levels = saved.labels.names, levels_of(saved.labels)
        classifier.embeddings = saved.embeddings
        classifier.background, classifier.negatives, classifier.tuning = None, None, saved.tuning
        classifier.corrected = {}
        thresholds: dict[str, Any] = dict(saved.thresholds)
        classifier.rules = Rules(**thresholds)
        return classifier

    def set_background(
        self,
        labels: Labels | Sequence[str],
        *,
        cache: TextCache | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Reject images that are nearer to one of these labels; raises LabelsError for one that is also a label.

        "auto" takes common nouns that are far from the labels: an image is rejected where the labels have less of the
        probability than a thousand of the nouns. `on_progress` is as in the classifier.
        """
        if labels == AUTO:
            negatives = mine(self.model, self.labels, cache=cache, on_progress=on_progress)
            self.background, self.negatives = None, negatives
            return
        background = Labels.of_user(labels)
        both = set(background.names) & set(self.names)
        if both:
            raise LabelsError(f"the label {min(both)!r} is also a background label; remove one of them")
        texts = self.prompts.fill(background)
        self.background = class_embeddings(self.model, texts, cache=cache, on_progress=on_progress)
        self.negatives = None

    def save(self, path: str | os.PathLike[str], *, thresholds: Mapping[str, float] | None = None) -> None:
        """Write a classifier file, for `load_classifier` and `zeroshot classify --classifier`.

        The background and `multi_label` are not in it. `thresholds` by name, such as `min_score`, are what an image
        must reach, by default those of `rules`. Raises UsageError where that fails.
        """
        path, given = Path(path), dict[str, Any](thresholds or {})
        rules = self.rules if thresholds is None else Rules(**given)
        found = {name: getattr(rules, name) for name in THRESHOLDS}
        saved = SavedClassifier(
            source=str(path),
            labels=self.labels,
            prompts=self.prompts,
            embeddings=self.embeddings,
            model=self.model.name,
            pretrained=self.model.pretrained,
            precision=self.model.precision,
            fingerprint=self.model.fingerprint,
            temperature=1 / self.model.logit_scale if self.tuning is None else self.tuning.temperature,
            thresholds={name: value for name, value in found.items() if value is not None},
            versions=versions("safetensors"),
            tuning=self.tuning,
        )
        write_classifier(saved, path)

    def check(self, rules: Rules) -> None:
        """Raise UsageError or LabelsError where rules do not fit the labels."""
        mined = self.negatives is not None
        rejects = (
            self.background is not None or mined or (self.tuning is not None and self.tuning.thresholds is not None)
        )
        rules.check(self.names, background=rejects, tuned=self.tuning is not None, mined=mined)
        thresholds = rules.min_probability is None and self.tuning is not None and self.tuning.thresholds is not None
        check_level(rules.level, self.levels, multi_label=rules.multi_label, label_thresholds=thresholds)

    def scores(self, images: Floats) -> tuple[Floats, Doubles]:
        """Return the scores of embeddings (images, embedding), (images, classes), and the logits of their softmax."""
        if (tuning := self.tuning) is None:
            scores = cosines(images, self.embeddings)
            return scores, self.model.logit_scale * scores.astype(np.float64)
        scored = score_tuned(images, self.embeddings, None, tuning)
        return scored.scores, scored.scores.astype(np.float64) / tuning.temperature

    def predict(
        self,
        images: Iterable[ImageLike | SkippedImage],
        *,
        top_k: int | None = None,
        rules: Rules | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        cache: ImageCache | None = None,
        decoding: Decoding = EXACTLY,
        adapt: bool = False,
    ) -> Iterator[Result]:
        """Yield, in order, the labels of every image, best first, or why it has none.

        An image is a path, the bytes of a file, a Pillow image, or an array of uint8, (height, width, 3) in the order
        red, green, blue, or (height, width). Without a path, its place in `images` names it: `<image 0>` is the first.
        `top_k` is the largest number of labels, by default 1, or with `multi_label` all that `rules` allow; an image
        that may have none is rejected. Without `rules` they are the classifier's own. `workers` processes decode, by
        default one per core; images in `cache` are not encoded again; with `adapt` the answers come when all images are
        encoded, and are better for it. Raises TypeError or ValueError for what is no image and for a number under 1,
        UsageError or LabelsError where rules do not fit labels.
        """
        blocks = self.predict_blocks(
            images,
            top_k=top_k,
            rules=rules,
            batch_size=batch_size,
            workers=workers,
            cache=cache,
            decoding=decoding,
            adapting=Adapting() if adapt else None,
        )
        return chain.from_iterable(blocks)

    def predict_blocks(
        self,
        images: Iterable[ImageLike | SkippedImage],
        *,
        top_k: int | None = None,
        shown: int = 0,
        rules: Rules | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        cache: ImageCache | None = None,
        decoding: Decoding = EXACTLY,
        adapting: Adapting | None = None,
    ) -> Generator[list[Result]]:
        """Do as `predict`, a list of results at a time; `others` are the next labels, up to `shown` in total."""
        items = named_images(images)
        if batch_size is None:
            batch_size = auto_batch_size(len(images) if isinstance(images, Sized) else None, self.model)
        encode = partial(
            encode_images,
            self.model,
            items,
            batch_size=batch_size,
            workers=auto_workers(self.model.device.type) if workers is None else workers,
            cache=cache,
            decoding=decoding,
        )
        return self.answers(encode, top_k=top_k, shown=shown, rules=rules, adapting=adapting)

    def answers(
        self,
        encode: Encode,
        *,
        top_k: int | None = None,
        shown: int = 0,
        rules: Rules | None = None,
        adapting: Adapting | None = None,
    ) -> Generator[list[Result]]:
        """Do as `predict_blocks` with images that `encode` yields the embeddings of, wherever it gets them."""
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is at least 1, not {top_k}")
        rules = self.rules if rules is None else rules
        self.check(rules)
        if adapting is not None:
            check_adapting(self.names, rules, tuning=self.tuning)
            return self._adapt_all(encode(), adapting, rules, top_k or 1, shown)
        return self._judge_all(encode(), rules, 1 if top_k is None and not rules.multi_label else top_k, shown)

    def background_of(self, rules: Rules) -> Tensor | None:
        """Return the embeddings of the background, which labels that are judged one by one have in any case."""
        if self.background is None and rules.multi_label and self.model.logit_bias is None:
            return class_embeddings(self.model, [BLANK])
        return self.background

    def without_model(self) -> "Classifier":
        """Return a copy for another process, which sets the `model`."""
        other = copy(self)
        del other.model
        return other

    def _judge_all(
        self, encoded: Generator[list[Outcome]], rules: Rules, top_k: int | None, shown: int
    ) -> Generator[list[Result]]:
        background = self.background_of(rules)
        with closing(encoded):  # the decoders end with this generator
            for block in encoded:
                images = [item for item in block if isinstance(item, EmbeddedImage)]
                if not images:
                    yield [item for item in block if isinstance(item, SkippedImage)]
                    continue
                embeddings = embeddings_of(self.model, images)
                scored = self._score(embeddings, background, multi_label=rules.multi_label)
                yield self._judge(block, self._with_share(scored, embeddings), rules, top_k, shown)

    def _adapt_all(
        self, encoded: Generator[list[Outcome]], adapting: Adapting, rules: Rules, top_k: int, shown: int
    ) -> Generator[list[Result]]:
        items, parts = list[Outcome](), list[Floats]()
        with closing(encoded):
            for block in adapting.track(encoded):
                images = [item for item in block if isinstance(item, EmbeddedImage)]
                parts += [embeddings_of(self.model, images)] if images else []
                items += [replace(item, embedding=_NONE) if isinstance(item, EmbeddedImage) else item for item in block]
        embeddings = np.concatenate(parts) if parts else np.empty((0, self.embeddings.shape[1]), dtype=np.float32)
        before = Candidates.joined(
            Candidates.of(self._score(embeddings[start : start + _JUDGED], None, multi_label=False).probabilities)
            for start in range(0, len(embeddings), _JUDGED)
        )
        after = adapt_to(embeddings, self.embeddings.numpy(), before, adapting.on_progress)
        adapting.images, adapting.changed = len(embeddings), after.changed()
        done = 0
        for start in range(0, len(items), _JUDGED):
            block = items[start : start + _JUDGED]
            rows = slice(done, done + sum(isinstance(item, EmbeddedImage) for item in block))
            done = rows.stop
            if rows.start == rows.stop:
                yield [item for item in block if isinstance(item, SkippedImage)]
                continue
            scored = self._with_share(
                self._score(embeddings[rows], self.background, multi_label=False), embeddings[rows]
            )
            probabilities = after.dense(rows, len(self.names))
            yield self._judge(
                block, replace(scored, probabilities=probabilities, by_probability=True), rules, top_k, shown
            )

    def _with_share(self, scored: Scored, embeddings: Floats) -> Scored:
        """Return scores that know what mined words leave to the labels, if words were mined."""
        return scored if self.negatives is None else replace(scored, share=self.negatives.share(embeddings))

    def _judge(
        self, block: Sequence[Outcome], scored: Scored, rules: Rules, top_k: int | None, shown: int
    ) -> list[Result]:
        """Return the results of a block, of whose images `scored` has the scores."""
        images = [item for item in block if isinstance(item, EmbeddedImage)]
        judged = judge([image.path for image in images], scored, self.levels, rules, top_k=top_k, shown=shown)
        if self.corrected:
            answers = answers_by_name(self.labels, self.levels, rules.level)
            unknown = level_of(self.levels, rules.level), None
            labels = [self.corrected.get(os.path.abspath(image.path)) for image in images]  # noqa: PTH100
            found = {label: answers.get(label, unknown) for label in labels if label is not None}
            scores = {level: level.scored(scored) for level, _ in found.values()}
            for row, label in enumerate(labels):
                if label is not None:
                    level, index = found[label]
                    judged[row] = corrected(judged[row], index, scores[level], row, level)
        predictions = (
            replace(each, note=image.note) if image.note else each for each, image in zip(judged, images, strict=True)
        )
        return [item if isinstance(item, SkippedImage) else next(predictions) for item in block]

    def _score(self, images: Floats, background: Tensor | None, *, multi_label: bool) -> Scored:
        if self.tuning is not None:
            return score_tuned(images, self.embeddings, background, self.tuning)
        scale, bias = self.model.logit_scale, self.model.logit_bias
        return score(images, self.embeddings, background, scale=scale, bias=bias, multi_label=multi_label)


def load_classifier(path: str | os.PathLike[str], model: LoadedModel | None = None) -> Classifier:
    """Read a classifier file, with the thresholds in it as `rules`, for the model that it names or the one given.

    Raises UsageError where there is no such file, CheckpointError where it is damaged, or is another model's, and
    UnavailableError for a model that cannot be had.
    """
    saved = read_classifier(path)
    return Classifier.of(saved, load(saved.model, saved.pretrained) if model is None else model)


def embeddings_of(model: LoadedModel, images: Sequence[EmbeddedImage]) -> Floats:
    """Return the embeddings (images, embedding); raises CheckpointError if one is not finite."""
    embeddings: Floats = np.stack([image.embedding for image in images])
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        raise CheckpointError(
            f"{model.name}: its scores for {images[int(finite.argmin())].path} are not finite numbers; "
            f"try --precision fp32 instead of {model.precision}, or other weights"
        )
    return embeddings

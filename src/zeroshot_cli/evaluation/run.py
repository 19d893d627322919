"""Evaluate every model on every data set, with every template set, and compare what can be compared."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.datasets.captioned import CaptionedImages
from zeroshot_cli.datasets.labelled import LabelledImages
from zeroshot_cli.datasets.multilabel import MultiLabelImages
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.embed.texts import TextCache
from zeroshot_cli.evaluation.answers import Answers
from zeroshot_cli.evaluation.classification import Pipeline, blank_result, result_of
from zeroshot_cli.evaluation.compare import Comparison, compare
from zeroshot_cli.evaluation.evaluate import evaluated, with_published
from zeroshot_cli.evaluation.multilabel import THRESHOLD, judge_labels, result_of_labels
from zeroshot_cli.evaluation.probe import fit_probe
from zeroshot_cli.evaluation.retrieval import MAIN_METRIC, evaluate_retrieval
from zeroshot_cli.evaluation.sources import EvalSettings, Images, Listener, Progress, Source
from zeroshot_cli.images.given import ImageItem
from zeroshot_cli.models.default import Chosen, choose
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.models.registry import split_name
from zeroshot_cli.records import EvalResult
from zeroshot_cli.words.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A result, and the answers that it was computed from; None for captions, and for images with several labels."""

    result: EvalResult
    answers: Answers | None = None


def evaluate_all(sources: Sequence[Source], settings: EvalSettings, listener: Listener) -> list[Evaluation]:
    """Evaluate every model on every source; a model is in memory only while it has work."""
    evaluations: list[Evaluation] = []
    saved = next((source.saved for source in sources if source.saved is not None), None)
    models = [Chosen(*split_name(name, settings.pretrained)) for name in settings.models]
    if not models and saved is not None and settings.pretrained is None:
        models = [Chosen(*split_name(saved.model, saved.pretrained))]
    for chosen in models or [choose(None, settings.pretrained)]:
        evaluator = _Evaluator(_load(chosen, settings), settings, listener)
        listener.assumed(evaluator.model.notes)
        for source in sources:
            evaluations += evaluator.evaluate(source)
    return evaluations


def compare_all(evaluations: Sequence[Evaluation]) -> list[tuple[int, int, Comparison]]:
    """Compare all evaluations of the same images with each other, by their indices."""
    return [
        (i, j, compare(first.answers, second.answers))
        for (i, first), (j, second) in itertools.combinations(enumerate(evaluations), 2)
        if first.answers is not None and second.answers is not None and first.result.dataset == second.result.dataset
    ]


def _load(chosen: Chosen, settings: EvalSettings) -> LoadedModel:
    from zeroshot_cli.models.load import load

    given: dict[str, Any] = {
        "device": settings.device,
        "precision": settings.precision,
        "image_size": settings.image_size,
    }
    with chosen.explained():
        return load(chosen.name, chosen.pretrained, offline=settings.offline, **given)


@dataclass(frozen=True, slots=True)
class _Evaluator:
    model: LoadedModel
    settings: EvalSettings
    listener: Listener

    def evaluate(self, source: Source) -> Iterator[Evaluation]:
        """Yield the evaluations of a data set, with what was assumed about it and about the model."""
        assumed = (*source.assumed, *source.images.warnings, *self.model.notes)
        for each in self._evaluate(source):
            yield replace(each, result=replace(each.result, assumed=(*assumed, *each.result.assumed)))

    def _evaluate(self, source: Source) -> Iterator[Evaluation]:
        if isinstance(source.images, CaptionedImages):
            for templates in source.prompts or (None,):
                yield self._retrieve(source.images, templates)
        elif isinstance(source.images, MultiLabelImages):
            for prompts in source.prompts if source.saved is None else (source.saved.prompts,):
                yield self._judge(source, source.images, prompts)
        elif source.train is not None:
            yield self._probe(source.images, source.train)
        elif source.saved is not None:
            yield self._classify(source, source.images, source.saved.prompts)
        else:
            for prompts in source.prompts:
                yield self._classify(source, source.images, prompts)

    def _classify(self, source: Source, images: LabelledImages, prompts: Prompts) -> Evaluation:
        pipeline = self._pipeline(images, images.items)
        self.listener.detail(
            f"{self.model.name} on {self.model.device} in {self.model.computing}, batches of {pipeline.batch_size}; "
            f"{len(images)} images, {len(images.labels)} labels, prompts {prompts.name}"
        )
        classifier = self._classifier(source, images, prompts)
        with self.listener.progress() as bar:
            tracked = _tracked(pipeline, bar, len(images))
            result, answers = evaluated(classifier, images, tracked, self._blank(pipeline))
        for text in result.assumed:
            self.listener.note(text)
        if source.known is not None:
            result = with_published(result, source.known, own_labels=source.own_labels)
        return Evaluation(result, answers)

    def _judge(self, source: Source, images: MultiLabelImages, prompts: Prompts) -> Evaluation:
        pipeline = self._pipeline(images, images.items)
        classifier = self._classifier(source, images, prompts)
        with self.listener.progress() as bar:
            judged = judge_labels(self.model, images, classifier, _tracked(pipeline, bar, len(images)))
        least = self.settings.min_probability
        blank = replace(self._blank(pipeline), prompts=prompts.name)
        return Evaluation(result_of_labels(judged, images, THRESHOLD if least is None else least, blank))

    def _classifier(self, source: Source, images: LabelledImages | MultiLabelImages, prompts: Prompts) -> Classifier:
        if source.saved is not None:
            return Classifier.of(source.saved, self.model)
        cache = TextCache() if self.settings.cache else None
        with self.listener.progress() as bar:
            on_progress = bar.counter("encoding texts", "texts")
            return Classifier(self.model, images.labels, prompts, cache=cache, on_progress=on_progress)

    def _probe(self, images: LabelledImages, train: LabelledImages) -> Evaluation:
        pipeline = self._pipeline(images, (*train.items, *images.items))
        with self.listener.progress() as bar:
            tracked = _tracked(pipeline, bar, len(train) + len(images))
            answers = fit_probe(train, images, self.model, tracked, seed=self.settings.seed)
        return Evaluation(result_of(answers, images, replace(self._blank(pipeline), task="probe")), answers)

    def _retrieve(self, images: CaptionedImages, templates: Prompts | None) -> Evaluation:
        pipeline = self._pipeline(images, images.items)
        with self.listener.progress() as bar:
            found = evaluate_retrieval(
                self.model,
                images,
                _tracked(pipeline, bar, len(images)),
                template=templates,
                text_cache=TextCache() if self.settings.cache else None,
                on_progress=bar.counter("encoding texts", "texts"),
            )
        return Evaluation(
            replace(
                self._blank(pipeline),
                dataset=images.name,
                n=found.images,
                texts=found.texts,
                prompts=None if templates is None else templates.name,
                metrics=found.metrics,
                intervals=found.intervals,
                main_metric=MAIN_METRIC,
                skipped=found.skipped,
                task="retrieval",
            )
        )

    def _pipeline(self, images: Images, items: Sequence[ImageItem]) -> Pipeline:
        return Pipeline(
            batch_size=self.settings.batch_size,
            workers=self.settings.workers,
            cache=ImageCache() if self.settings.cache else None,
            decoding=self.settings.decoding(as_stored=images.as_stored),
        ).sized(items, self.model)

    def _blank(self, pipeline: Pipeline) -> EvalResult:
        return blank_result(self.model, pipeline, seed=self.settings.seed, command=self.settings.command)


def _tracked(pipeline: Pipeline, bar: Progress, count: int) -> Pipeline:
    return replace(pipeline, track=lambda outcomes: bar.track(outcomes, count, "evaluating"))

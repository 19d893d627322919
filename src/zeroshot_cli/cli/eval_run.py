"""What one run of `eval` does: every model on every data set, with every template set."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.classes import Classes
from zeroshot_cli.cli.eval_sources import Asked, Source
from zeroshot_cli.console.terminal import note, progress_bar
from zeroshot_cli.records import EvalResult

if TYPE_CHECKING:
    from zeroshot_cli.datasets.captioned import CaptionedImages
    from zeroshot_cli.datasets.labelled import LabelledImages
    from zeroshot_cli.embed.image_cache import ImageCache
    from zeroshot_cli.evaluation.answers import Answers
    from zeroshot_cli.evaluation.compare import Comparison
    from zeroshot_cli.images.decode import Decoding
    from zeroshot_cli.models.loaded import LoadedModel
    from zeroshot_cli.words.prompts import Prompts


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How it is evaluated: device, decoding, caches, and what is said meanwhile."""

    device: str
    precision: str
    offline: bool
    batch_size: int | None
    workers: int | None
    cache: bool
    max_pixels: int | None
    timeout: float | None
    seed: int
    command: str
    quiet: bool
    verbose: bool

    def decoding(self, *, as_stored: bool) -> "Decoding":
        """Return how images are read: named data sets as the reference does, others upright."""
        return replace(o.decoding(exact=True, max_pixels=self.max_pixels, timeout=self.timeout), as_stored=as_stored)

    def images_cache(self) -> "ImageCache | None":
        from zeroshot_cli.embed.image_cache import ImageCache

        return ImageCache() if self.cache else None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures, and the answers that they are of: labelled images have some, captioned ones None."""

    result: EvalResult
    answers: "Answers | None" = None


def evaluate_all(sources: Sequence[Source], asked: Asked, settings: Settings) -> list[Evaluation]:
    """Evaluate every model on every source; a model is in memory for as long as it has work."""
    from zeroshot_cli.models.load import load
    from zeroshot_cli.models.registry import split_name

    evaluations: list[Evaluation] = []
    saved = next((classes for source in sources for classes in source.classes if classes.saved is not None), None)
    for name in asked.models or (None,):
        model, tag = (name, asked.pretrained) if saved is None else saved.model(name, asked.pretrained)
        model, tag = split_name(model or o.DEFAULT_MODEL, tag)
        loaded = load(model, tag, device=settings.device, precision=settings.precision, offline=settings.offline)
        for source in sources:
            evaluations += _evaluate(loaded, source, settings)
    return evaluations


def compare_all(evaluations: Sequence[Evaluation]) -> "list[tuple[int, int, Comparison]]":
    """Compare all that answered for the same images with each other, by their places in the list."""
    from zeroshot_cli.evaluation.compare import compare

    return [
        (i, j, compare(first.answers, second.answers))
        for (i, first), (j, second) in itertools.combinations(enumerate(evaluations), 2)
        if first.answers is not None and second.answers is not None and first.result.dataset == second.result.dataset
    ]


def _evaluate(model: "LoadedModel", source: Source, settings: Settings) -> Iterator[Evaluation]:
    from zeroshot_cli.datasets.captioned import CaptionedImages

    if isinstance(source.images, CaptionedImages):
        for templates in source.templates or (None,):
            yield _evaluate_retrieval(model, source.images, templates, settings)
    elif source.train is not None:
        yield _evaluate_probe(model, source.images, source.train, settings)
    else:
        for classes in source.classes:
            yield _evaluate_classes(model, source, source.images, classes, settings)


def _evaluate_classes(
    model: "LoadedModel", source: Source, images: "LabelledImages", classes: Classes, settings: Settings
) -> Evaluation:
    from zeroshot_cli.evaluation.run import answer, result_of

    size = _batch_size(images.items, model, settings)
    decoding = settings.decoding(as_stored=images.as_stored)
    note(_setting(model, images, classes, size), quiet=settings.quiet or not settings.verbose)
    chooser = classes.classifier(model, cache=settings.cache, quiet=settings.quiet)
    with progress_bar(quiet=settings.quiet) as bar:
        answers = answer(
            model,
            images,
            chooser,
            batch_size=size,
            workers=settings.workers,
            cache=settings.images_cache(),
            decoding=decoding,
            track=_tracked(bar, len(images)),
        )
    return Evaluation(
        result_of(
            answers,
            model,
            images,
            prompts=classes.prompts.name,
            batch_size=size,
            decoding=decoding,
            main_metric=source.known.metric if source.known else "top1",
            published=_published(source, model, classes),
            seed=settings.seed,
            command=settings.command,
        ),
        answers,
    )


def _published(source: Source, model: "LoadedModel", classes: Classes) -> tuple[str, float, str] | None:
    """Return metric, value and source of what others measured with the same model, prompts and data set."""
    if source.known is None or not source.own_labels:
        return None
    from zeroshot_cli.datasets.registry import published_for

    return published_for(source.known, model.name, model.pretrained, classes.prompts.name)


def _evaluate_probe(
    model: "LoadedModel", images: "LabelledImages", train: "LabelledImages", settings: Settings
) -> Evaluation:
    from zeroshot_cli.evaluation.probe import fit_probe
    from zeroshot_cli.evaluation.run import result_of

    size = _batch_size((*train.items, *images.items), model, settings)
    decoding = settings.decoding(as_stored=images.as_stored)
    with progress_bar(quiet=settings.quiet) as bar:
        answers = fit_probe(
            train,
            images,
            model,
            batch_size=size,
            workers=settings.workers,
            cache=settings.images_cache(),
            decoding=decoding,
            seed=settings.seed,
            track=_tracked(bar, len(train) + len(images)),
        )
    result = result_of(
        answers,
        model,
        images,
        prompts=None,
        batch_size=size,
        decoding=decoding,
        task="probe",
        seed=settings.seed,
        command=settings.command,
    )
    return Evaluation(result, answers)


def _evaluate_retrieval(
    model: "LoadedModel", images: "CaptionedImages", templates: "Prompts | None", settings: Settings
) -> Evaluation:
    from zeroshot_cli.embed.texts import TextCache
    from zeroshot_cli.evaluation.run import versions
    from zeroshot_cli.evaluation.run_retrieval import MAIN_METRIC, evaluate_retrieval

    size = _batch_size(images.items, model, settings)
    decoding = settings.decoding(as_stored=images.as_stored)
    with progress_bar(quiet=settings.quiet) as bar:
        found = evaluate_retrieval(
            model,
            images,
            template=templates,
            batch_size=size,
            workers=settings.workers,
            cache=settings.images_cache(),
            text_cache=TextCache() if settings.cache else None,
            decoding=decoding,
            track=_tracked(bar, len(images)),
            on_progress=bar.counter("encoding texts", "texts"),
        )
    return Evaluation(
        EvalResult(
            dataset=images.name,
            n=found.images,
            texts=found.texts,
            model=model.name,
            pretrained=model.pretrained,
            prompts=None if templates is None else templates.name,
            metrics=found.metrics,
            intervals=found.intervals,
            main_metric=MAIN_METRIC,
            skipped=found.skipped,
            task="retrieval",
            versions=versions(),
            fingerprint=model.fingerprint,
            device=str(model.device),
            precision=model.precision,
            batch_size=size,
            decoding=decoding.mode,
            seed=settings.seed,
            command=settings.command,
        )
    )


def _tracked(bar: Any, count: int) -> Callable[[Iterable[Any]], Iterable[Any]]:
    return lambda outcomes: bar.track(outcomes, count, "evaluating")


def _batch_size(items: Sequence[object], model: "LoadedModel", settings: Settings) -> int:
    from zeroshot_cli.embed.batches import auto_batch_size

    return settings.batch_size or auto_batch_size(sum(isinstance(item, str) for item in items), model)


def _setting(model: "LoadedModel", images: "LabelledImages", classes: Classes, batch_size: int) -> str:
    return (
        f"{model.name} on {model.device} in {model.precision}, batches of {batch_size}; {len(images)} images, "
        f"{len(images.labels)} labels, prompts {classes.prompts.name}"
    )

"""`zeroshot tune` and `zeroshot calibrate`: a better classifier from a few labelled images."""

import os
import shlex
import sys
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import Panel, check_seed, command, finish
from zeroshot_cli.cli.commands.build import Classes, ClassifierFile, LabelOptions, read_classes
from zeroshot_cli.console.terminal import console_for, note, note_assumed, progress_bar
from zeroshot_cli.disk import check_output
from zeroshot_cli.display import brief, counted
from zeroshot_cli.errors import DataError, LabelsError, UsageError
from zeroshot_cli.records import UNKNOWN, TuneMethod, assumed_of

if TYPE_CHECKING:
    from zeroshot_cli.classify.classifier import Classifier
    from zeroshot_cli.classify.classifier_file import SavedClassifier
    from zeroshot_cli.datasets.examples import ExampleImages
    from zeroshot_cli.tuning.learn import EmbeddedExamples
    from zeroshot_cli.tuning.results import TuneSettings

_NAMED = 20  # unreadable images that are named
_FEW = 3  # labels that are named


class ReportFormat(StrEnum):
    """What standard output gets."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(o.BatchOptions, o.ModelOptions, o.PixelOptions, LabelOptions, o.MessageOptions):
    """The options of `zeroshot calibrate`, which `zeroshot tune` has too."""

    examples: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="EXAMPLES",
            show_default=False,
            help="Folders of class folders, tables with the columns image and label, or results of classify that were "
            "corrected by hand.",
        ),
    ]
    image_column: Annotated[
        str | None,
        typer.Option(
            "--image-column", metavar="NAME", rich_help_panel=Panel.DATA, help="The column of a table with the path."
        ),
    ] = None
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column", metavar="NAME", rich_help_panel=Panel.DATA, help="The column of a table with the label."
        ),
    ] = None
    classifier: ClassifierFile = None
    target_precision: Annotated[
        float | None,
        typer.Option(
            "--target-precision",
            metavar="X",
            show_default=False,
            rich_help_panel=Panel.UNKNOWN,
            help="Find a probability for each label below which an image is unknown, so that this share of the "
            "remaining answers is right, such as 0.95.",
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            callback=check_seed,
            rich_help_panel=Panel.VALIDATION,
            help="Random seed for the parts of the cross-validation.",
        ),
    ] = 0
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.classifier",
            show_default=False,
            rich_help_panel=Panel.OUTPUT,
            help="The classifier file to write.",
        ),
    ]
    overwrite: o.Overwrite = False
    form: Annotated[
        ReportFormat,
        typer.Option("--format", rich_help_panel=Panel.OUTPUT, help="The format of the report on standard output."),
    ] = ReportFormat.TABLE


@dataclass(frozen=True, kw_only=True)
class TuneOptions(CalibrateOptions):
    """The options of `zeroshot tune`."""

    method: Annotated[
        TuneMethod,
        typer.Option(
            "--method",
            rich_help_panel=Panel.OPTIMISATION,
            help="Gaussian discriminant analysis, logistic regression, or the one that cross-validation finds better.",
        ),
    ] = TuneMethod.AUTO
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            rich_help_panel=Panel.OUTPUT,
            help="Write the classifier even if cross-validation does not find it better than zero-shot.",
        ),
    ] = False


@command
def tune(options: TuneOptions) -> None:
    """Make a better classifier from a few labelled images, in seconds, for classify --classifier.

    A zero-shot classifier is fused with what the examples' embeddings say of each label; labels without examples stay
    zero-shot. Everything is chosen and measured by cross-validation on the examples, and a classifier that is not
    better is not written.
    """
    run = _prepare(options)
    from zeroshot_cli.console.tuning import print_tuned, tuned_json
    from zeroshot_cli.tuning.learn import tune_classifier

    tuned = tune_classifier(run.classifier, run.examples, run.settings())
    written = options.force or tuned.better is not False
    labels = run.classifier.names
    if written:
        run.save()
    if options.form is ReportFormat.JSON:
        print(tuned_json(tuned, labels, run.about(written=written)))
    else:
        print_tuned(tuned, labels, options.method.value, console_for(sys.stdout))
    if not written:
        validated = tuned.cross_validation
        assert validated is not None
        other = "zeroshot calibrate finds thresholds for the zero-shot labels; " if options.target_precision else ""
        raise DataError(
            f"{options.output} was not written, for it is not better than zero-shot ({validated.tuned.value:.1%} "
            f"against {validated.zero_shot.value:.1%}, cross-validated); {other}add examples or check their "
            "labels, or --force it"
        )
    run.finish(f"tuned by {tuned.chosen.method.value}")


@command
def calibrate(options: CalibrateOptions) -> None:
    """Make probabilities true: fit a temperature on labelled images and, with --target-precision, thresholds.

    Labels stay as they are; groups may change. The file is for classify --classifier.
    """
    run = _prepare(options)
    from zeroshot_cli.console.tuning import calibrated_json, print_calibrated
    from zeroshot_cli.tuning.learn import calibrate_classifier

    found = calibrate_classifier(run.classifier, run.examples, run.settings())
    run.save()
    if options.form is ReportFormat.JSON:
        print(calibrated_json(found, run.about(written=True)))
    else:
        print_calibrated(found, console_for(sys.stdout))
    if found.calibration.ece_after >= found.calibration.ece_before:
        text = "warning: probabilities are no nearer to the truth than before; zeroshot tune changes answers, too"
        note(text, quiet=options.quiet)
    run.finish("calibrated")


@dataclass(frozen=True, slots=True)
class _Run:
    """A zero-shot classifier, and the examples that it is to learn from."""

    options: CalibrateOptions
    classifier: "Classifier"
    examples: "EmbeddedExamples"
    saved: "SavedClassifier | None"

    def settings(self) -> "TuneSettings":
        """Return how to tune."""
        from zeroshot_cli.tuning.results import TuneSettings

        options = self.options
        method = options.method if isinstance(options, TuneOptions) else TuneMethod.AUTO
        return TuneSettings(method=method, seed=options.seed, target_precision=options.target_precision)

    def about(self, *, written: bool) -> dict[str, Any]:
        """Return what the JSON begins with."""
        model = self.classifier.model
        return {
            "output": os.fspath(self.options.output),
            "written": written,
            "model": model.name,
            "pretrained": model.pretrained,
            "prompts": self.classifier.prompts.name,
            "labels": len(self.classifier.names),
            "skipped": [{"path": each.path, "reason": each.reason} for each in self.examples.skipped],
        }

    def save(self) -> None:
        """Write the classifier file, before anything is printed: a pipe that closes early costs no file."""
        self.classifier.save(self.options.output)

    def finish(self, how: str) -> None:
        """Say what was written and what to do next, and end the command."""
        options, model = self.options, self.classifier.model
        if text := self._left_out():
            note(text, quiet=options.quiet)
        content = f"{counted(len(self.classifier.names), 'label')}, {how}, model {model.title}"
        note(f"wrote {options.output}: {content}.", quiet=options.quiet)
        note(f"next: zeroshot classify FOLDER --classifier {shlex.quote(str(options.output))}", quiet=options.quiet)
        finish(len(self.examples.skipped), ignore_errors=options.ignore_errors)

    def _left_out(self) -> str:
        """Return which thresholds of the classifier that was given are not in the new one, and why."""
        if self.saved is None:
            return ""
        kept, tuning = self.classifier.rules, self.saved.tuning
        given = self.saved.thresholds.items()
        left = [f"--{name.replace('_', '-')} {value:g}" for name, value in given if getattr(kept, name) is None]
        if tuning is not None and tuning.thresholds is not None and self.options.target_precision is None:
            left.append("--target-precision")
        reason = "scores and probabilities have other values now"
        return f"left out: {', '.join(left)} of {self.saved.source}, for {reason}" if left else ""


def _prepare(options: CalibrateOptions) -> _Run:
    """Check and read everything, then load the model and embed the examples; what takes no time comes first."""
    from zeroshot_cli.classify.classifier_file import check_name

    check_name(options.output)
    check_output(options.output, overwrite=options.overwrite)
    options.check_cache()
    _check(options)
    images, classes = _read(options)
    model = options.load(*classes.model(options.model, options.pretrained))
    assumed = assumed_of(images.assumed, classes.assumed, model.notes)
    note_assumed(assumed, quiet=options.quiet, verbose=options.verbose)
    classifier = classes.classifier(model, cache=options.cache, quiet=options.quiet)
    examples = _embed(options, classifier, images)
    return _Run(options, classifier, examples, classes.saved)


def _check(options: CalibrateOptions) -> None:
    """Raise UsageError for options that make no sense."""
    if options.frames == "each":
        raise UsageError("--frames each has several images for one label; use first, middle or a number from 0")
    if options.target_precision is not None and not 0 < options.target_precision < 1:
        raise UsageError(f"--target-precision {options.target_precision} is not a share; give one such as 0.95")


def _read(options: CalibrateOptions) -> "tuple[ExampleImages, Classes]":
    """Return the examples and the classes: those that options name, else those that the examples have."""
    from zeroshot_cli.datasets.examples import read_examples
    from zeroshot_cli.results.shards.parts import check_no_parts
    from zeroshot_cli.words.prompts import choose_prompts

    for path in options.examples:
        check_no_parts(Path(path))
    named = options.labels is not None or options.label or options.classifier is not None
    classes = read_classes(options, options.classifier) if named else None
    images = read_examples(
        options.examples,
        None if classes is None else classes.labels,
        image_column=options.image_column,
        label_column=options.label_column,
        selection=options.selection(),
    )
    for text in images.passed_over:
        note(brief(text), quiet=options.quiet)
    for text in images.doubts:
        note(brief(f"warning: {text}"), quiet=options.quiet)
    if classes is None:
        classes = Classes(images.labels, choose_prompts(options.prompts, options.template, None))
        text = f"the labels are the {len(images.labels)} that the examples have; --labels names others too"
        images = replace(images, assumed=(*images.assumed, text))
    names = classes.labels.names
    if len(names) < 2:
        raise DataError(f"there is nothing to tell apart with one label, {names[0]!r}; give two or more")
    if options.target_precision is not None and UNKNOWN in names:
        raise LabelsError(f"the label {UNKNOWN!r} is reserved for rejected images; rename that label")
    return images, classes


def _embed(options: CalibrateOptions, classifier: "Classifier", images: "ExampleImages") -> "EmbeddedExamples":
    """Return the embeddings of examples, and say what became of them."""
    from zeroshot_cli.embed.image_cache import ImageCache
    from zeroshot_cli.evaluation.classification import Pipeline
    from zeroshot_cli.tuning.learn import embed_examples

    with progress_bar(quiet=options.quiet) as bar:
        pipeline = Pipeline(
            batch_size=o.as_count(options.batch_size),
            workers=o.as_count(options.workers),
            cache=ImageCache() if options.cache else None,
            decoding=options.decoding(),
            track=lambda outcomes: bar.track(outcomes, len(images), "reading examples"),
        ).sized(images.items, classifier.model)
        examples = embed_examples(classifier.model, images, pipeline)
    for image in examples.skipped[:_NAMED]:
        note(f"{image.path}: {image.reason}", quiet=options.quiet)
    if len(examples.skipped) > _NAMED:
        note(f"and {len(examples.skipped) - _NAMED} more that could not be read", quiet=options.quiet)
    for text in _notes(examples, learned=isinstance(options, TuneOptions)):
        note(text, quiet=options.quiet)
    return examples


def _notes(examples: "EmbeddedExamples", *, learned: bool) -> list[str]:
    """Return what a user should know about the examples, one sentence each; calibration learns nothing of a label."""
    images = examples.images
    counts = [0] * len(images.labels)
    for target in images.targets:
        counts[target] += 1
    notes = []
    if examples.repeated:
        notes.append(f"{counted(examples.repeated, 'example')} left out, with the same content as another")
    none = [name for name, count in zip(images.labels.names, counts, strict=True) if not count]
    if none and learned:
        verb = "has no example and stays" if len(none) == 1 else "have no example and stay"
        notes.append(f"{len(none)} of {len(counts)} labels {verb} zero-shot: {_listed(none)}")
    elif none:
        verb = "has" if len(none) == 1 else "have"
        notes.append(f"{len(none)} of {len(counts)} labels {verb} no example: {_listed(none)}")
    if not learned:
        return notes
    single = [name for name, count in zip(images.labels.names, counts, strict=True) if count == 1]
    if single:
        verb = "has one example, which is" if len(single) == 1 else "have one example, which are"
        notes.append(f"{len(single)} of {len(counts)} labels {verb} learned from, not judged: {_listed(single)}")
    return notes


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_FEW]) + (", …" if len(names) > _FEW else "")

"""`zeroshot build`, and the classes that options of all commands name: labels with templates, or a classifier file."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot_cli.cli import completion
from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import AUTO, Panel, check_cosine, check_probability, command
from zeroshot_cli.console.terminal import note, note_assumed, progress_bar
from zeroshot_cli.disk import check_output
from zeroshot_cli.display import brief, counted
from zeroshot_cli.errors import LabelsError, UsageError
from zeroshot_cli.records import assumed_of

if TYPE_CHECKING:
    from zeroshot_cli.classify.classifier import Classifier
    from zeroshot_cli.classify.classifier_file import SavedClassifier
    from zeroshot_cli.classify.rejection import Rules
    from zeroshot_cli.embed.texts import TextCache
    from zeroshot_cli.models.loaded import LoadedModel
    from zeroshot_cli.words.labels import Labels
    from zeroshot_cli.words.prompts import Prompts

_MARKS = re.compile(r"[,;|\n]")  # between labels that are given as one
_FEW = 10  # labels in an example


LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE|NAME",
        autocompletion=completion.labels,
        rich_help_panel=Panel.LABELS,
        help="The labels: a .txt, .yaml, .json or .csv file, or a built-in set (see zeroshot prompts).",
    ),
]
PromptsName = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="NAME|FILE",
        autocompletion=completion.templates,
        rich_help_panel=Panel.LABELS,
        help="The template set. Default: that of a built-in label set, else a small ensemble (see zeroshot prompts).",
    ),
]
Templates = Annotated[
    tuple[str, ...],
    typer.Option(
        "--template",
        metavar="TEXT",
        show_default=False,
        rich_help_panel=Panel.LABELS,
        help="A template, such as 'a photo of a {}.'; repeatable, in place of --prompts.",
    ),
]
ClassifierFile = Annotated[
    Path | None,
    typer.Option(
        "--classifier",
        metavar="FILE",
        rich_help_panel=Panel.LABELS,
        help="A file from zeroshot build or tune, in place of labels and prompts; it needs the --model of then.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class LabelOptions(o.MessageOptions):
    """The labels to choose from, and the templates that make texts of them."""

    labels: LabelsFile = None
    label: Annotated[
        tuple[str, ...],
        typer.Option(
            "--label", metavar="TEXT", show_default=False, rich_help_panel=Panel.LABELS, help="A label; repeatable."
        ),
    ] = ()
    prompts: PromptsName = None
    template: Templates = ()


@dataclass(frozen=True, kw_only=True)
class ThresholdOptions:
    """When an image is like none of the labels."""

    min_score: Annotated[
        float | None,
        typer.Option(
            "--min-score",
            metavar="X",
            callback=check_cosine,
            rich_help_panel=Panel.UNKNOWN,
            help="An image is unknown if its best cosine is lower.",
        ),
    ] = None
    min_probability: Annotated[
        float | None,
        typer.Option(
            "--min-probability",
            metavar="X",
            callback=check_probability,
            rich_help_panel=Panel.UNKNOWN,
            help="An image is unknown if the probability of its best label is lower; where labels have groups, the "
            "deepest group that reaches it answers instead. With --multi-label: keep the labels of at least this "
            "probability, by default 0.5.",
        ),
    ] = None
    min_margin: Annotated[
        float | None,
        typer.Option(
            "--min-margin",
            metavar="X",
            callback=check_cosine,
            rich_help_panel=Panel.UNKNOWN,
            help="An image is unknown if its lead in cosine over the second label is lower.",
        ),
    ] = None

    def thresholds(self) -> dict[str, float]:
        """Return the thresholds that are given, by name."""
        named = {name: getattr(self, name) for name in ("min_score", "min_probability", "min_margin")}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class BuildOptions(o.ModelOptions, ThresholdOptions, LabelOptions, o.MessageOptions):
    """The options of `zeroshot build`."""

    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.safetensors",
            show_default=False,
            rich_help_panel=Panel.OUTPUT,
            help="The file to write.",
        ),
    ]
    overwrite: o.Overwrite = False
    precision: o.PrecisionOption = o.Precision.FP32


@command
def build(options: BuildOptions) -> None:
    """Put the embeddings of labels into one file, for classify --classifier and eval --classifier.

    The file works with the model that it was built with. It is plain safetensors, and holds the thresholds given.
    """
    from zeroshot_cli.classify.classifier_file import check_name

    output = options.output
    check_name(output)
    check_output(output, overwrite=options.overwrite)
    classes = read_classes(options)
    classes.rules(options.thresholds(), multi_label=False)  # refuse what classify would
    model = options.load(options.model, options.pretrained)
    note_assumed(assumed_of(classes.assumed, model.notes), quiet=options.quiet, verbose=options.verbose)
    note(f"{model.title} on {model.device} in {model.computing}", quiet=options.quiet or not options.verbose)
    classifier = classes.classifier(model, cache=options.cache, quiet=options.quiet)
    classifier.save(output, thresholds=options.thresholds())
    labels, texts = len(classes.labels), sum(map(len, classes.prompts.fill(classes.labels)))
    content = f"{counted(labels, 'label')}, {counted(texts, 'text')}, prompts {classes.prompts.name}"
    note(f"wrote {output}: {content}, model {model.title}.", quiet=options.quiet)


@dataclass(frozen=True, slots=True)
class Classes:
    """Labels and templates, with their embeddings in `saved` if they have been built; `background` labels reject.

    With `mined`, only those of the background that are far from the labels do.
    """

    labels: "Labels"
    prompts: "Prompts"
    saved: "SavedClassifier | None" = None
    background: "Labels | None" = None
    mined: bool = False

    @property
    def behind(self) -> list[str] | None:
        """Return the names of the background labels, or AUTO alone for those that are mined."""
        return [AUTO] if self.mined else None if self.background is None else list(self.background.names)

    def described(self) -> dict[str, Any]:
        """Return what a run record needs besides the names of the labels to make the classifier again."""
        more = {each.name: [each.synonyms, each.prompts] for each in self.labels if each.synonyms or each.prompts}
        source = None if self.saved is None else os.path.abspath(self.saved.source)  # noqa: PTH100
        return {"classifier": source, "templates": self.prompts.templates, "more_words": more}

    @property
    def answers(self) -> tuple[str, ...]:
        """All that an image may be: a label, or a group of labels."""
        return tuple(dict.fromkeys((*self.labels.names, *chain.from_iterable(self.labels.groups))))

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was assumed when the labels were read."""
        return assumed_of(self.labels.notes, self.background.notes if self.background is not None else ())

    def model(self, name: str | None, pretrained: str | None) -> tuple[str | None, str | None]:
        """Return --model and --pretrained as given, or else those that the classifier file was built with."""
        if name is None and pretrained is None and self.saved is not None:
            return self.saved.model, self.saved.pretrained
        return name, pretrained

    def rules(self, given: Mapping[str, float], *, multi_label: bool, level: int | None = None) -> "Rules":
        """Return when an image has a label: thresholds as given, or else as in the classifier file; and at what level.

        Raises UsageError for contradictions.
        """
        from zeroshot_cli.classify.groups import check_level, levels_of
        from zeroshot_cli.classify.rejection import Rules

        thresholds: dict[str, Any] = dict(self.saved.thresholds) if self.saved is not None else {}
        if multi_label:
            thresholds.pop("min_margin", None)
        thresholds |= given
        rules = Rules(**thresholds, multi_label=multi_label, level=level)
        tuning = None if self.saved is None else self.saved.tuning
        by_label = tuning is not None and tuning.thresholds is not None
        rejects = self.background is not None or by_label
        rules.check(self.labels.names, background=rejects, tuned=tuning is not None, mined=self.mined)
        by_label = by_label and rules.min_probability is None
        check_level(level, levels_of(self.labels), multi_label=multi_label, label_thresholds=by_label)
        return rules

    def doubt(self, rules: "Rules") -> str | None:
        """Return a warning for one label that every image gets, or for a level below all groups; None if neither."""
        if rules.level is not None and rules.level > (depth := max(map(len, self.labels.groups)) + 1):
            return f"warning: --level {rules.level} is below all groups, so answers are labels, as at level {depth}"
        if len(self.labels) > 1 or rules.multi_label or self.background is not None or rules.min_score is not None:
            return None
        return (
            f"warning: with one label, every image is {self.labels.names[0]!r} with probability 1; look at the score, "
            "and give --min-score X, --background FILE or --background auto to reject images"
        )

    def classifier(self, model: "LoadedModel", *, cache: bool, quiet: bool) -> "Classifier":
        """Return the classifier of a model; a progress bar shows the encoding of texts."""
        from zeroshot_cli.classify.classifier import Classifier
        from zeroshot_cli.classify.language import warning_of_language
        from zeroshot_cli.embed.texts import TextCache

        known = TextCache() if cache else None
        if self.saved is not None:
            classifier = Classifier.of(self.saved, model)
        else:
            with progress_bar(quiet=quiet) as bar:
                on_progress = bar.counter("encoding texts", "texts")
                classifier = Classifier(model, self.labels, self.prompts, cache=known, on_progress=on_progress)
        if self.mined:
            self._mine(classifier, known, quiet=quiet)
        elif self.background is not None:
            classifier.set_background(self.background, cache=known)
        if foreign := warning_of_language(self.labels.names, model.name):
            note(brief(f"warning: {foreign}"), quiet=quiet)
        return classifier

    def _mine(self, classifier: "Classifier", known: "TextCache | None", *, quiet: bool) -> None:
        """Set the background of common nouns, and say so where these have to be encoded first."""
        assert self.background is not None
        what = f"--background auto encodes {counted(len(self.background), 'common noun')}"
        told = False
        with progress_bar(quiet=quiet) as bar:
            count = bar.counter("encoding common nouns", "texts")

            def on_progress(done: int, total: int) -> None:
                nonlocal told
                if not told:
                    note(f"{what}{', once; the cache keeps them' if known is not None else ''}.", quiet=quiet)
                told = True
                count(done, total)

            classifier.set_background(AUTO, cache=known, on_progress=on_progress)


def read_classes(options: LabelOptions, classifier: Path | None = None, background: Path | None = None) -> Classes:
    """Return the classes of a classifier file, or those of a label file followed by those of --label.

    Raises UsageError if there are none, or both.
    """
    from zeroshot_cli.words.common_nouns import common_nouns
    from zeroshot_cli.words.labels import read_labels
    from zeroshot_cli.words.prompts import choose_prompts
    from zeroshot_cli.words.raw_labels import same_words

    if classifier is not None:
        classes = _saved_classes(classifier, options)
    else:
        labels = _labels(options.labels, options.label, getattr(options, "images", ()), quiet=options.quiet)
        classes = Classes(labels, choose_prompts(options.prompts, options.template, options.labels))
    if background is None:
        return classes
    if str(background) == AUTO:
        return replace(classes, background=common_nouns(), mined=True)
    behind = read_labels(background)
    known = {same_words(name) for name in classes.labels.names}
    if both := [name for name in behind.names if same_words(name) in known]:
        raise LabelsError(f"{background}: {both[0]!r} is also a label to choose from; remove one of them")
    return replace(classes, background=behind)


def no_labels(example: str | None = None) -> str:
    """Return the error for a command line without labels, with an example that works as it is."""
    ways = "give --label TEXT for each, --labels FILE with one a line, or a built-in set such as --labels imagenet"
    return f"no labels to choose from; {ways}{f'; for example: {example}' if example else ''}"


def _saved_classes(classifier: Path, options: LabelOptions) -> Classes:
    from zeroshot_cli.classify.classifier_file import read_classifier

    given: dict[str, object] = {"--labels": options.labels, "--label": options.label}
    given |= {"--prompts": options.prompts, "--template": options.template}
    for option in (option for option, value in given.items() if value):
        raise UsageError(f"--classifier {classifier} holds its own labels and templates; omit {option}")
    saved = read_classifier(classifier)
    return Classes(saved.labels, saved.prompts, saved)


def _labels(path: Path | None, texts: Sequence[str], images: Sequence[str], *, quiet: bool) -> "Labels":
    from zeroshot_cli.words.groups import check_groups
    from zeroshot_cli.words.label_lines import unquoted
    from zeroshot_cli.words.labels import Labels, read_labels
    from zeroshot_cli.words.raw_labels import same_words

    if path is None and not texts:
        raise UsageError(no_labels())
    if path is not None and (words := _words_of(path, images)):
        options = " ".join(f"--label {shlex.quote(word)}" for word in words)
        raise UsageError(f"there is no label set or file {str(path)!r}; for words themselves, write {options}")
    none, plain = Labels(()), [unquoted(text) for text in texts]
    quoted = [
        f"quotes taken off {given}" for given, text in zip(texts, plain, strict=True) if given.strip() != text.strip()
    ]
    from_file = read_labels(path) if path is not None else none
    _ask_of_commas(texts, quiet=quiet)
    try:
        from_options = Labels.of_user(plain) if texts else none
    except LabelsError as error:
        raise UsageError(f"--label: {error}") from error
    known = {same_words(label.name) for label in from_file}
    both = [label.name for label in from_options if same_words(label.name) in known]
    if both:
        raise UsageError(f"the label {both[0]!r} is in {path} and in --label; give it once")
    labels = Labels((*from_file, *from_options), (*from_file.notes, *quoted[:1], *from_options.notes))
    check_groups((label.name, label.group, "--label") for label in labels)
    return labels


def _words_of(path: Path, images: Sequence[str]) -> list[str]:
    """Return the labels that were meant by --labels cat dog, --labels cat,dog or --labels cat."""
    from zeroshot_cli.words.textfiles import label_files

    typed = str(path)
    near = get_close_matches(typed[:100], label_files(), n=1)
    if path.suffix or os.sep in typed or os.path.lexists(path) or typed in label_files() or near:
        return []
    others = (image for image in images if image.replace(" ", "").isalnum() and not os.path.lexists(image))
    words = [word.strip() for given in (typed, *others) for word in _MARKS.split(given)]
    return [word for word in dict.fromkeys(words) if word][:_FEW]


def _ask_of_commas(texts: Sequence[str], *, quiet: bool) -> None:
    """Warn of a label that looks like several; it is used as it is."""
    for text in texts:
        parts = [part.strip() for part in _MARKS.split(text) if part.strip()]
        if len(parts) > 1:
            options = " ".join(f"--label {shlex.quote(part)}" for part in parts[:_FEW])
            note(brief(f"warning: is {text!r} one label? For {len(parts)} labels, write {options}"), quiet=quiet)
            return

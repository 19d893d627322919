"""What the options say the classes are: labels with templates, or a classifier that was built before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot_cli.cli.options import DEFAULT_MODEL
from zeroshot_cli.console.terminal import progress_bar
from zeroshot_cli.errors import LabelsError, UsageError

if TYPE_CHECKING:
    from zeroshot_cli.classify.classifier import Classifier
    from zeroshot_cli.classify.classifier_file import SavedClassifier
    from zeroshot_cli.classify.rejection import Rules
    from zeroshot_cli.models.loaded import LoadedModel
    from zeroshot_cli.words.labels import Labels
    from zeroshot_cli.words.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Classes:
    """Labels and templates; their embeddings are in `saved` or still to be computed. `background` labels reject."""

    labels: "Labels"
    prompts: "Prompts"
    saved: "SavedClassifier | None" = None
    background: "Labels | None" = None

    def model(self, name: str | None, pretrained: str | None) -> tuple[str, str | None]:
        """Return --model and --pretrained: as given, else those that the classifier file was built with."""
        if name is None and pretrained is None and self.saved is not None:
            return self.saved.model, self.saved.pretrained
        return name or DEFAULT_MODEL, pretrained

    def rules(
        self,
        min_score: float | None,
        min_probability: float | None,
        min_margin: float | None,
        *,
        multi_label: bool,
    ) -> "Rules":
        """Return when an image has a label: as given, else as the classifier file has it; UsageError for nonsense."""
        from zeroshot_cli.classify.rejection import Rules

        given = {"min_score": min_score, "min_probability": min_probability, "min_margin": min_margin}
        thresholds = dict(self.saved.thresholds) if self.saved is not None else {}
        if multi_label:
            thresholds.pop("min_margin", None)
        thresholds |= {name: value for name, value in given.items() if value is not None}
        rules = Rules(**thresholds, multi_label=multi_label)
        rules.check(self.labels.names, background=self.background is not None)
        return rules

    def classifier(self, model: "LoadedModel", *, cache: bool, quiet: bool) -> "Classifier":
        """Return the classifier of a model, with a progress bar while texts are encoded."""
        from zeroshot_cli.classify.classifier import Classifier
        from zeroshot_cli.embed.texts import TextCache

        known = TextCache() if cache else None
        if self.saved is not None:
            classifier = Classifier.of(self.saved, model)
        else:
            with progress_bar(quiet=quiet) as bar:
                on_progress = bar.counter("encoding texts", "texts")
                classifier = Classifier(model, self.labels, self.prompts, cache=known, on_progress=on_progress)
        if self.background is not None:
            classifier.set_background(self.background, cache=known)
        return classifier


def read_classes(
    labels: Path | None,
    texts: Sequence[str],
    prompts: str | None,
    classifier: Path | None = None,
    background: Path | None = None,
) -> Classes:
    """Return the classes of a classifier file, or of a label file and labels on the spot, in this order.

    UsageError where there are none, or both.
    """
    from zeroshot_cli.words.labels import read_labels
    from zeroshot_cli.words.prompts import prompts_for, read_prompts

    if classifier is not None:
        classes = saved_classes(classifier, labels=labels, texts=texts, prompts=prompts)
    else:
        classes = Classes(_labels(labels, texts), read_prompts(prompts or prompts_for(labels)))
    if background is None:
        return classes
    behind = read_labels(background)
    both = set(behind.names) & set(classes.labels.names)
    if both:
        raise LabelsError(f"{background}: {min(both)!r} is a label to choose from too; remove one of them")
    return replace(classes, background=behind)


def no_labels(example: str | None = None) -> str:
    """Return the sentence for a command line without labels, with an example that works as it is."""
    ways = "give --label TEXT once for each, --labels FILE with one a line, or a built-in set as --labels imagenet"
    return f"no labels to choose from; {ways}{f'; for example: {example}' if example else ''}"


def saved_classes(classifier: Path, *, labels: Path | None, texts: Sequence[str] = (), prompts: str | None) -> Classes:
    """Return what a classifier file holds; UsageError where an option names labels or templates besides."""
    from zeroshot_cli.classify.classifier_file import read_classifier

    given = {"--labels": labels is not None, "--label": bool(texts), "--prompts": prompts is not None}
    for option in (option for option, is_given in given.items() if is_given):
        raise UsageError(f"--classifier {classifier} holds its own labels and templates; omit {option}")
    saved = read_classifier(classifier)
    return Classes(saved.labels, saved.prompts, saved)


def _labels(path: Path | None, texts: Sequence[str]) -> "Labels":
    from zeroshot_cli.words.labels import Labels, read_labels

    if path is None and not texts:
        raise UsageError(no_labels())
    from_file = read_labels(path).items if path is not None else ()
    on_the_spot = _from_options(texts).items if texts else ()
    both = {label.name for label in from_file} & {label.name for label in on_the_spot}
    if both:
        raise UsageError(f"the label {min(both)!r} is in {path} and in --label too; give it once")
    return Labels((*from_file, *on_the_spot))


def _from_options(texts: Sequence[str]) -> "Labels":
    from zeroshot_cli.words.labels import Labels

    try:
        return Labels.of(texts)
    except LabelsError as error:
        raise UsageError(f"--label: {error}") from error

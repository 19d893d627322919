"""Where the results of `eval` go: standard output, and the files that options name."""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot_cli.console.terminal import ProgressBar, console_for, note, progress_bar
from zeroshot_cli.errors import UsageError

if TYPE_CHECKING:
    from zeroshot_cli.evaluation.run import Evaluation
    from zeroshot_cli.evaluation.sources import EvalSettings, Source

_NAMED = 20  # unreadable images that are named; the files list them all


@dataclass(frozen=True, slots=True)
class Terminal:
    """Shows on standard error what an evaluation says while it runs."""

    quiet: bool
    verbose: bool

    def note(self, text: str) -> None:
        """Print a sentence, unless --quiet."""
        note(text, quiet=self.quiet)

    def detail(self, text: str) -> None:
        """Print a sentence with --verbose."""
        note(text, quiet=self.quiet or not self.verbose)

    def progress(self) -> AbstractContextManager[ProgressBar]:
        """Return a progress bar, which shows nothing with --quiet."""
        return progress_bar(quiet=self.quiet)


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files to write; None for those that nobody asked for."""

    json: Path | None
    predictions: Path | None
    report: Path | None

    def check(self, *, overwrite: bool) -> None:
        """Raise UsageError, before any work, for a file that cannot be written."""
        from zeroshot_cli.evaluation.output import check_json_target, check_predictions_target

        if self.json is not None:
            check_json_target(self.json, overwrite=overwrite)
        if self.predictions is not None:
            check_predictions_target(self.predictions, overwrite=overwrite)
        if self.report is not None:
            from zeroshot_cli.pages.evaluation import check_html_target

            check_html_target(self.report, overwrite=overwrite)

    def check_sources(self, sources: "Sequence[Source]", models: int) -> None:
        """Raise UsageError, before any work, for predictions of several evaluations, or of captions."""
        from zeroshot_cli.datasets.captioned import CaptionedImages

        if self.predictions is None:
            return
        count = models * sum(source.evaluations for source in sources)
        if count != 1:
            raise UsageError(
                f"--predictions {self.predictions} is for one model on one data set with one template set, not for "
                f"{count} evaluations; run them one by one, which the cache makes fast"
            )
        images = sources[0].images
        if isinstance(images, CaptionedImages):
            raise UsageError(
                f"--predictions {self.predictions} is for labels, and {images.name} has captions; omit --predictions"
            )

    def write(self, evaluations: "Sequence[Evaluation]", settings: "EvalSettings", terminal: Terminal) -> None:
        """Write the files, then print the results: a pipe that closes early costs no file."""
        from zeroshot_cli.console.evaluation import print_comparison, print_eval
        from zeroshot_cli.evaluation.output import write_eval_json, write_predictions
        from zeroshot_cli.evaluation.run import compare_all

        comparisons = compare_all(evaluations)
        results = [each.result for each in evaluations]
        if self.json is not None:
            write_eval_json(results, comparisons, self.json)
        if self.predictions is not None and evaluations[0].answers is not None:
            write_predictions(evaluations[0].answers, self.predictions)
        if self.report is not None:
            from zeroshot_cli.pages.evaluation import write_eval_html

            pairs = [(each.result, each.answers) for each in evaluations]
            write_eval_html(pairs, comparisons, self.report, thumbnails=_thumbnails(settings))
        _tell(evaluations, terminal)
        console = console_for(sys.stdout)
        if len(results) == 1:
            print_eval(results[0], console)
        else:
            print_comparison(results, comparisons, console)


def _tell(evaluations: "Sequence[Evaluation]", terminal: Terminal) -> None:
    """Name the images that could not be read, and metrics that are far from published ones."""
    skipped = list(dict.fromkeys(image for each in evaluations for image in each.result.skipped))
    for image in skipped[:_NAMED]:
        terminal.note(f"{image.path}: {image.reason}")
    if len(skipped) > _NAMED:
        terminal.note(f"and {len(skipped) - _NAMED} more; --predictions lists them all")
    for result in (each.result for each in evaluations):
        published = result.published
        if published is None or published.inside:
            continue
        low, high = result.intervals[published.metric]
        terminal.note(
            f"warning: {result.dataset}: {published.metric} of {result.model} is "
            f"{result.metrics[published.metric]:.2%}, and {published.source} has {published.value:.2%}, outside the "
            f"95 % interval of {low:.2%} to {high:.2%}; check weights, precision, prompts and data"
        )


def _thumbnails(settings: "EvalSettings") -> Callable[[Sequence[str]], Iterable[bytes | None]]:
    from zeroshot_cli.images.decoder_pool import auto_workers, thumbnails

    return partial(thumbnails, workers=settings.workers or auto_workers(), decoding=settings.decoding())

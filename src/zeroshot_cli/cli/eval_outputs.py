"""Where the figures of `eval` go: standard output, and the files that options name."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot_cli.cli.eval_run import Evaluation, Settings, compare_all
from zeroshot_cli.console.terminal import console_for, note
from zeroshot_cli.errors import UsageError

if TYPE_CHECKING:
    from zeroshot_cli.cli.eval_sources import Source
    from zeroshot_cli.evaluation.compare import Comparison

_NAMED = 20  # unreadable images that are named; the files have them all


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files to write, None where nobody asked."""

    json: Path | None
    predictions: Path | None
    report: Path | None

    def check(self, *, overwrite: bool) -> None:
        """Refuse, before any work, what cannot be written: UsageError."""
        from zeroshot_cli.evaluation.json_output import check_json_target
        from zeroshot_cli.evaluation.predictions import check_predictions_target

        if self.json is not None:
            check_json_target(self.json, overwrite=overwrite)
        if self.predictions is not None:
            check_predictions_target(self.predictions, overwrite=overwrite)
        if self.report is not None:
            from zeroshot_cli.pages.evaluation import check_html_target

            check_html_target(self.report, overwrite=overwrite)

    def check_sources(self, sources: "Sequence[Source]", models: int) -> None:
        """Refuse, before any work, rows that are not there, or of several evaluations in one file: UsageError."""
        if self.predictions is None:
            return
        count = models * sum(source.evaluations for source in sources)
        if count != 1:
            raise UsageError(
                f"--predictions {self.predictions} is for one model on one data set with one template set, and these "
                f"are {count} evaluations; run them one by one, which the cache makes fast"
            )
        if not sources[0].labelled:
            name = sources[0].images.name
            raise UsageError(f"--predictions {self.predictions} is for labels, and {name} has captions; leave it out")

    def write(self, evaluations: Sequence[Evaluation], settings: Settings) -> None:
        """Write the files, then print the figures: a pipe that closes early costs no file."""
        from zeroshot_cli.console.evaluation import print_comparison, print_eval
        from zeroshot_cli.evaluation.json_output import write_eval_json

        comparisons = compare_all(evaluations)
        results = [each.result for each in evaluations]
        if self.json is not None:
            write_eval_json(results, comparisons, self.json)
        if self.predictions is not None:
            self._write_predictions(self.predictions, evaluations[0])
        if self.report is not None:
            _write_report(self.report, evaluations, comparisons, settings)
        self._say(evaluations, settings)
        console = console_for(sys.stdout)
        if len(results) == 1:
            print_eval(results[0], console)
        else:
            print_comparison(results, comparisons, console)

    def _write_predictions(self, path: Path, evaluation: Evaluation) -> None:
        from zeroshot_cli.evaluation.predictions import write_predictions

        assert evaluation.answers is not None
        write_predictions(evaluation.answers, path)

    def _say(self, evaluations: Sequence[Evaluation], settings: Settings) -> None:
        """Name the images that could not be read, and what is far from what others published."""
        skipped = list(dict.fromkeys(image for each in evaluations for image in each.result.skipped))
        for image in skipped[:_NAMED]:
            note(f"{image.path}: {image.reason}", quiet=settings.quiet)
        if len(skipped) > _NAMED:
            note(f"and {len(skipped) - _NAMED} more; --predictions lists them all", quiet=settings.quiet)
        for each in evaluations:
            published = each.result.published
            if published is not None and not published.inside:
                note(_far_off(each), quiet=settings.quiet)


def _far_off(evaluation: Evaluation) -> str:
    result, published = evaluation.result, evaluation.result.published
    assert published is not None
    low, high = result.intervals[published.metric]
    return (
        f"warning: {result.dataset}: {published.metric} of {result.model} is {result.metrics[published.metric]:.2%}, "
        f"and {published.source} has {published.value:.2%}, outside the 95 % interval of {low:.2%} to {high:.2%}; "
        "check weights, precision, prompts and data"
    )


def _write_report(
    path: Path, evaluations: Sequence[Evaluation], comparisons: "list[tuple[int, int, Comparison]]", settings: Settings
) -> None:
    from zeroshot_cli.images.decoder_pool import auto_workers, thumbnails
    from zeroshot_cli.pages.evaluation import write_eval_html

    decoding = settings.decoding(as_stored=False)

    def draw(paths: Sequence[str]) -> Iterable[bytes | None]:
        return thumbnails(paths, workers=settings.workers or auto_workers(), decoding=decoding)

    write_eval_html([(each.result, each.answers) for each in evaluations], comparisons, path, thumbnails=draw)

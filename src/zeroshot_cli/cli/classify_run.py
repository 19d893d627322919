"""What one run of `classify` is, and where its results go."""

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot_cli.cli.classes import Classes
from zeroshot_cli.console.terminal import note, progress_bar
from zeroshot_cli.errors import UsageError
from zeroshot_cli.filing.manifest import SortMode
from zeroshot_cli.records import Counts, Result, SkippedImage
from zeroshot_cli.results.formats import Extension, extension_of

if TYPE_CHECKING:
    from zeroshot_cli.classify.classifier import Classifier
    from zeroshot_cli.classify.rejection import Rules
    from zeroshot_cli.images.decode import Decoding
    from zeroshot_cli.images.find import FoundImages
    from zeroshot_cli.results.outputs import Outputs
    from zeroshot_cli.results.run_record import RunRecord
    from zeroshot_cli.results.targets import Targets

SHOWN_IN_REPORT = 5  # labels of an image in an HTML report, whatever --top-k keeps
VERSIONS_OF = ("zeroshot-cli", "torch", "pillow")

Results = Callable[[], Iterator[Result]]


@dataclass(frozen=True)
class Run:
    """A classifier with all that its answers depend on; `batch_size_given` is the option, which may be auto."""

    classifier: "Classifier"
    classes: Classes
    rules: "Rules"
    top_k: int | None
    decoding: "Decoding"
    batch_size: int
    batch_size_given: str
    workers: int | None
    cache: bool

    @property
    def ranks(self) -> bool:
        """Whether an image may have several rows."""
        return self.rules.multi_label or (self.top_k or 1) > 1

    def blocks(self, items: Sequence[str | SkippedImage], *, shown: int) -> Generator[list[Result]]:
        """Classify images, a list at a time; with up to `shown` labels of each, besides those that it keeps."""
        from zeroshot_cli.embed.image_cache import ImageCache

        return self.classifier.predict_blocks(
            items,
            top_k=self.top_k,
            shown=shown,
            rules=self.rules,
            batch_size=self.batch_size,
            workers=self.workers,
            cache=ImageCache() if self.cache else None,
            decoding=self.decoding,
        )

    def settings(self) -> dict[str, Any]:
        """Return what `--resume` compares, what people know first."""
        model, classes, background = self.classifier.model, self.classes, self.classes.background
        return {
            "model": model.name,
            "pretrained": model.pretrained,
            "labels": list(classes.labels.names),
            "prompts": classes.prompts.name,
            "background": None if background is None else list(background.names),
            "top_k": self.top_k,
            **asdict(self.rules),
            "precision": model.precision,
            "device": model.device.type,
            "batch_size": self.batch_size_given,
            "exact_decode": self.decoding.exact,
            "max_pixels": self.decoding.max_pixels,
            "texts of the labels": _hash(classes.prompts.fill(classes.labels)),
            "texts of the background": _hash([] if background is None else classes.prompts.fill(background)),
            "weights": model.fingerprint,
        }

    def about(self) -> list[tuple[str, str]]:
        """Return what a report says of the run."""
        model, classes = self.classifier.model, self.classes
        settings = self.settings()
        rules = {name: value for name, value in asdict(self.rules).items() if value}
        rows = {
            "date": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
            "model": model.name,
            "pretrained": model.pretrained or "",
            "fingerprint of the weights": model.fingerprint,
            "labels": ", ".join(classes.labels.names),
            "prompts": f"{classes.prompts.name}\n" + "\n".join(classes.prompts.templates),
            "background": ", ".join(settings["background"] or []),
            "rejection": ", ".join(f"{name} {value}" for name, value in rules.items()),
            "computed on": f"{model.device.type} in {model.precision}, batches of {self.batch_size}",
            "decoding": "every pixel" if self.decoding.exact else "large JPEGs at a smaller scale",
            "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        }
        return [(name, value) for name, value in rows.items() if value]


def versions() -> dict[str, str]:
    """Return the versions of what results depend on."""
    return {name: version(name) for name in VERSIONS_OF}


def _hash(texts: Sequence[Sequence[str]]) -> str:
    return hashlib.sha256(json.dumps([list(some) for some in texts]).encode()).hexdigest()


@dataclass(frozen=True)
class Places:
    """Where results go: files, and a folder to sort into."""

    outputs: tuple[Path, ...]
    sort_into: Path | None
    sort_mode: SortMode
    overwrite: bool
    resume: bool

    def check(self, *, every_label: bool) -> None:
        """Raise now what would fail after an hour's work."""
        from zeroshot_cli.filing.sort import check_sort_into
        from zeroshot_cli.results.targets import check_outputs

        if self.sort_into is None and self.sort_mode is not SortMode.COPY:
            raise UsageError(f"--sort-mode {self.sort_mode} is of --sort-into DIR, which is not given; add it")
        check_outputs(self.targets, overwrite=self.overwrite, resume=self.resume)
        if self.sort_into is not None:
            check_sort_into(self.sort_into, self.sort_mode, every_label=every_label)

    def earlier(self) -> "RunRecord | None":
        """Return the record of the run that is to be gone on with."""
        from zeroshot_cli.results.targets import earlier_run

        return earlier_run(self.targets) if self.resume else None

    @property
    def targets(self) -> "Targets":
        """The same for results, which know a folder by its manifest."""
        from zeroshot_cli.filing.manifest import MANIFEST
        from zeroshot_cli.results.targets import Targets

        return Targets(self.outputs, None if self.sort_into is None else self.sort_into / MANIFEST)

    @property
    def shown(self) -> int:
        """How many labels of an image the files need in all."""
        return SHOWN_IN_REPORT if any(extension_of(path) is Extension.HTML for path in self.outputs) else 0

    def open(self, run: Run, found: "FoundImages") -> "AbstractContextManager[Outputs]":
        """Open the files, all or none."""
        from zeroshot_cli.results.outputs import open_outputs
        from zeroshot_cli.results.run_record import RunRecord

        settings = {**run.settings(), "sort_mode": self.sort_mode if self.sort_into else None}
        record = RunRecord(settings=settings, resolved={"batch_size": run.batch_size}, versions=versions())
        return open_outputs(self.targets, record, expected=found.paths(), overwrite=self.overwrite, resume=self.resume)

    def finish(self, run: Run, outputs: "Outputs", counts: Counts, *, quiet: bool) -> int:
        """Make the reports and sort the images; return how many could not be filed."""
        unfiled = 0

        def html(path: Path, results: Results) -> None:
            _write_report(path, results, run, counts.classified, quiet=quiet)

        def sort(folder: Path, results: Results) -> None:
            nonlocal unfiled
            unfiled = _sort(folder, results, run, self.sort_mode, counts.classified, quiet=quiet)

        outputs.finish(counts, html=html, sort=sort)
        return unfiled


def _write_report(path: Path, results: Results, run: Run, total: int, *, quiet: bool) -> None:
    from zeroshot_cli.images.decoder_pool import auto_workers, thumbnails
    from zeroshot_cli.pages.classification import write_html

    with progress_bar(quiet=quiet) as bar:
        write_html(
            path,
            results,
            about=run.about(),
            thumbnails=lambda paths: bar.track(
                thumbnails(paths, workers=run.workers or auto_workers(), decoding=run.decoding),
                total,
                f"drawing {path.name}",
            ),
        )


def _sort(folder: Path, results: Results, run: Run, mode: SortMode, total: int, *, quiet: bool) -> int:
    from zeroshot_cli.filing.sort import sort_into

    with progress_bar(quiet=quiet) as bar:
        count = bar.counter("sorting", "images")
        done = sort_into(
            folder,
            results,
            mode,
            every_label=run.rules.multi_label,
            labels=run.classes.labels.names,
            on_progress=lambda number: count(number, total),
        )
    for item in done.failed:
        note(f"{item.path}: {item.reason}", quiet=quiet)
    note(done.sentence(folder), quiet=quiet)
    return len(done.failed)

"""What a run writes, and every reason to refuse it before the work begins."""

import os
from dataclasses import dataclass
from pathlib import Path

from zeroshot_cli.disk import check_output, open_plain, refuse_link
from zeroshot_cli.errors import UsageError
from zeroshot_cli.results.append_file import is_special
from zeroshot_cli.results.formats import STREAMED, Extension, extension_of, format_of, is_journal
from zeroshot_cli.results.found import RECORD
from zeroshot_cli.results.parquet import check_parquet
from zeroshot_cli.results.run_record import RunRecord, is_record, read_record
from zeroshot_cli.results.summary import SummaryFormat
from zeroshot_cli.results.xlsx import check_xlsx


@dataclass(frozen=True, slots=True)
class Targets:
    """The output files of a run, in the order given, the manifest in the folder to sort into, and the summary."""

    paths: tuple[Path, ...]
    manifest: Path | None = None
    summary: Path | None = None

    @property
    def folder(self) -> Path | None:
        """The folder that images are sorted into."""
        return None if self.manifest is None else self.manifest.parent

    @property
    def streamed(self) -> tuple[Path, ...]:
        """The files that are written image by image."""
        return tuple(path for path in self.paths if extension_of(path) in STREAMED)

    @property
    def derived(self) -> tuple[Path, ...]:
        """The files that are made when all images are done, and the folder."""
        files = tuple(path for path in self.paths if extension_of(path) not in STREAMED)
        return (*files, *filter(None, (self.summary, self.folder)))

    def is_made(self, path: Path) -> bool:
        """Return whether an output exists; a folder counts once its manifest does."""
        made = self.manifest if self.manifest is not None and path == self.folder else path
        return made.exists()

    def has_begun(self) -> bool:
        """Return whether there is anything that a run could resume."""
        journal = self.journal is not None and self.journal.exists()
        return journal or any(map(self.is_made, (*self.streamed, *self.derived)))

    @property
    def anchor(self) -> Path | None:
        """The output that the record lies beside; pipes and devices have none."""
        candidates = [path for path in self.paths if not is_special(path)]
        return candidates[0] if candidates else self.summary or self.manifest

    @property
    def record(self) -> Path | None:
        """The file that says what the run was asked for."""
        return self._beside(RECORD)

    @property
    def journal(self) -> Path | None:
        """The file that reports are made from, if there are any."""
        return self._beside(".run.jsonl") if self.derived else None

    def _beside(self, suffix: str) -> Path | None:
        return None if self.anchor is None else self.anchor.with_name(self.anchor.name + suffix)


def earlier_run(targets: Targets) -> RunRecord | None:
    """Return the record of the run that `--resume` would resume, None if there is none.

    Its `resolved` holds the batch size to take over. Raises UsageError if the record is damaged.
    """
    return None if targets.record is None or not targets.has_begun() else read_record(targets.record)


def check_outputs(targets: Targets, *, overwrite: bool, resume: bool = False) -> None:
    """Raise UsageError now for everything about the outputs that would fail after an hour's work."""
    if overwrite and resume:
        raise UsageError("`--overwrite` starts over and `--resume` continues; give one of them")
    if resume and targets.anchor is None and not targets.paths:
        raise UsageError("`--resume` needs `--output FILE`")
    for path in targets.paths:
        if extension_of(path) is Extension.PARQUET:
            check_parquet()
        if extension_of(path) is Extension.XLSX:
            check_xlsx()
        check_output(path, overwrite=overwrite or resume)
        _check_special(path, resume=resume)
    if targets.summary is not None:
        format_of(targets.summary, SummaryFormat)
        check_output(targets.summary, overwrite=overwrite or resume)
        if is_special(targets.summary):
            raise UsageError(f"cannot write {targets.summary}: it is a pipe or a device; name a file")
    if targets.folder is not None:
        _check_folder(targets.folder)
    _check_distinct(targets)
    if resume:
        check_own(targets)
    _check_beside(targets)


def _check_beside(targets: Targets) -> None:
    """Raise UsageError for a link or somebody else's file where the run's own files beside the outputs would go."""
    for path, is_ours in ((targets.record, is_record), (targets.journal, is_journal)):
        if path is None or not os.path.lexists(path):
            continue
        try:
            refuse_link(path)
            with open_plain(path) as file:
                ours = is_ours(file)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
        if not ours:
            raise UsageError(
                f"cannot write {path}: the run needs this name for a file of its own, and the file that has it was not "
                "written by zeroshot; rename it, or name another output"
            )


def check_own(targets: Targets) -> None:
    """Raise UsageError if outputs exist without the record of their run; empty files do not count."""
    if targets.record is None or read_record(targets.record) is not None:
        return
    for path in (*targets.paths, *filter(None, [targets.summary])):
        if path.exists() and path.stat().st_size:
            raise UsageError(
                f"--resume: {path} exists without the record of its run, {targets.record}; "
                "name the outputs in the same order as that run, or use --overwrite instead"
            )


def _check_special(path: Path, *, resume: bool) -> None:
    if not is_special(path):
        return
    if resume:
        raise UsageError(f"--resume: {path} is a pipe or a device, which cannot be read again; omit --resume")
    if extension_of(path) not in STREAMED:
        raise UsageError(f"cannot write {path}: it is a pipe or a device; name a file")


def _check_folder(folder: Path) -> None:
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"cannot sort into {folder}: it is not a folder; name another")
    if not folder.parent.is_dir():
        raise UsageError(f"cannot sort into {folder}: there is no folder {folder.parent}; create it first")


def _check_distinct(targets: Targets) -> None:
    """Raise UsageError if one file would be two things."""
    own = {path.resolve() for path in (targets.record, targets.journal, targets.manifest, targets.folder) if path}
    seen = set[Path]()
    given = [("--output", path) for path in targets.paths]
    for option, path in (*given, *(("--summary", path) for path in (targets.summary,) if path)):
        place = path.resolve()
        if place in own:
            raise UsageError(f"{option} {path} is a file that the run needs itself; name another")
        if place in seen:
            again = "is given twice; give each file once" if option == "--output" else "is an --output; name another"
            raise UsageError(f"{option} {path} {again}")
        seen.add(place)

"""What a run writes, and everything about it that can be refused before the work."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zeroshot_cli.errors import UsageError
from zeroshot_cli.filing.manifest import MANIFEST
from zeroshot_cli.results.append_file import is_special
from zeroshot_cli.results.files import STREAMED, Ending, check_output, ending_of
from zeroshot_cli.results.parquet import check_parquet
from zeroshot_cli.results.run_record import RunRecord, read_record


@dataclass(frozen=True, slots=True)
class Targets:
    """The outputs of a run, in the order given, and the folder that it sorts into."""

    paths: tuple[Path, ...]
    sort_into: Path | None = None

    @property
    def streamed(self) -> tuple[Path, ...]:
        """The files that are written image by image."""
        return tuple(path for path in self.paths if ending_of(path) in STREAMED)

    @property
    def derived(self) -> tuple[Path, ...]:
        """The files that are made when all images are done, and the folder."""
        files = tuple(path for path in self.paths if ending_of(path) not in STREAMED)
        return files if self.sort_into is None else (*files, self.sort_into)

    def is_made(self, path: Path) -> bool:
        """Whether an output is there; of a folder that images are sorted into, its manifest tells."""
        return (path / MANIFEST if path == self.sort_into else path).exists()

    def has_begun(self) -> bool:
        """Whether there is anything that a run could go on with."""
        journal = self.journal is not None and self.journal.exists()
        return journal or any(map(self.is_made, (*self.streamed, *self.derived)))

    @property
    def anchor(self) -> Path | None:
        """The output beside which the record is; pipes and devices have none."""
        candidates = [path for path in self.paths if not is_special(path)]
        if self.sort_into is not None:
            candidates.append(self.sort_into / MANIFEST)
        return candidates[0] if candidates else None

    @property
    def record(self) -> Path | None:
        return None if self.anchor is None else _beside(self.anchor, ".run.json")

    @property
    def journal(self) -> Path | None:
        """The file that reports are made from, if there are any."""
        return _beside(self.anchor, ".run.jsonl") if self.derived and self.anchor is not None else None


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def earlier_run(paths: Sequence[Path], sort_into: Path | None = None) -> RunRecord | None:
    """Return the record of the run that `--resume` would go on with, None if there is none.

    Its `resolved` holds the batch size to take over. UsageError where the record is damaged.
    """
    targets = Targets(tuple(paths), sort_into)
    return None if targets.record is None or not targets.has_begun() else read_record(targets.record)


def check_outputs(
    paths: Sequence[Path], *, overwrite: bool, resume: bool = False, sort_into: Path | None = None
) -> None:
    """Raise UsageError now for whatever about the outputs would fail after an hour's work."""
    if overwrite and resume:
        raise UsageError("--overwrite begins anew and --resume goes on; give one of them")
    if resume and not paths and sort_into is None:
        raise UsageError("--resume goes on with a file; name it with --output")
    for path in paths:
        if ending_of(path) is Ending.PARQUET:
            check_parquet()
        check_output(path, overwrite=overwrite or resume)
        _refuse_special(path, resume=resume)
    if sort_into is not None:
        _check_folder(sort_into)
    targets = Targets(tuple(paths), sort_into)
    _refuse_twice(targets)
    if resume:
        refuse_strangers(targets)


def refuse_strangers(targets: Targets) -> None:
    """Raise UsageError where outputs are there without the record of their run; empty files are no outputs."""
    if targets.record is None or read_record(targets.record) is not None:
        return
    for path in targets.paths:
        if path.exists() and path.stat().st_size:
            raise UsageError(
                f"--resume: {path} exists without the record of its run, {targets.record}; "
                "name the outputs in the order of that run, or add --overwrite in place of --resume"
            )


def _refuse_special(path: Path, *, resume: bool) -> None:
    if not is_special(path):
        return
    if resume:
        raise UsageError(f"--resume: {path} is a pipe or a device, which cannot be read again; leave --resume out")
    if ending_of(path) not in STREAMED:
        raise UsageError(f"cannot write {path}: it is a pipe or a device; name a file")


def _check_folder(folder: Path) -> None:
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"cannot sort into {folder}: it is not a folder; name another")
    if not folder.parent.is_dir():
        raise UsageError(f"cannot sort into {folder}: there is no folder {folder.parent}; make it first")


def _refuse_twice(targets: Targets) -> None:
    """Raise UsageError where one file would be two things."""
    own = {path.resolve(): path for path in (targets.record, targets.journal) if path is not None}
    if targets.sort_into is not None:
        own[(targets.sort_into / MANIFEST).resolve()] = targets.sort_into / MANIFEST
        own[targets.sort_into.resolve()] = targets.sort_into
    seen = set[Path]()
    for path in targets.paths:
        place = path.resolve()
        if place in own:
            raise UsageError(f"--output {path} is a file that the run needs itself; name another")
        if place in seen:
            raise UsageError(f"--output {path} is given twice; give each file once")
        seen.add(place)

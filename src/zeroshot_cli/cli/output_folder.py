"""Outputs that are folders: `--output DIR/`, which a run fills with parts."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot_cli.errors import UsageError
from zeroshot_cli.results.shards.parts import PART_IMAGES, Folder

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?=/|$)")

if TYPE_CHECKING:
    from zeroshot_cli.images.find import Keep
    from zeroshot_cli.records import SkippedImage
    from zeroshot_cli.results.run_record import RunRecord
    from zeroshot_cli.results.shards.manifest import Manifest

    OutputPath = Path
else:

    class OutputPath:
        """A path that the parser leaves to `output_path`: a Path would lose the slash at its end."""


def output_path(text: str) -> Path:
    """Return the path of an output; it is a folder if it ends in a slash, or is one."""
    is_folder = text.endswith(("/", os.sep)) or os.path.isdir(text)  # noqa: PTH112 (a NUL is no error here)
    return Folder(text) if is_folder else Path(text)


def folder_among(outputs: Sequence[Path], others: Mapping[str, object]) -> Path | None:
    """Return the folder that a run fills, None if its outputs are files.

    UsageError where the folder is not the only output, or one of the `others`, options that need all results, is given.
    """
    folder = next((path for path in outputs if isinstance(path, Folder)), None)
    if folder is None:
        return None
    if scheme := _ADDRESS.match(str(folder)):
        raise UsageError(
            f"--output {scheme[0]}//…: parts go into a folder on a disk, perhaps a mounted one; give --output parts/ "
            f"and copy it there, or give one file, such as {scheme[0]}//…/labels.csv"
        )
    if len(outputs) > 1:
        raise UsageError(
            f"--output {folder}/ is a folder of parts, the only output of its run; zeroshot merge makes a file of it"
        )
    if option := next((name for name, value in others.items() if value), None):
        raise UsageError(
            f"{option} needs all results at once, and --output {folder}/ is written in parts; omit one of them"
        )
    return folder


def keep_on_disk(folder: Path, scratch: ExitStack) -> "Keep":
    """Return what keeps the list of images in files beside the folder to fill, until `scratch` is closed."""
    from zeroshot_cli.results.shards.manifest import Manifest

    def keep(runs: "Iterable[Iterable[str | SkippedImage]]") -> "Manifest":
        manifest = Manifest.of(runs, folder if folder.is_dir() else folder.parent)
        scratch.callback(manifest.close)
        return manifest

    return keep


def part_images(given: int | None, earlier: "RunRecord | None") -> int:
    """Return how many images a part has: as given, as in the run to resume, or 512."""
    before = None if earlier is None else earlier.resolved.get("part_images")
    if isinstance(before, int) and given not in (None, before):
        raise UsageError(f"--resume: parts have {before} images, and --task-images is {given}; omit it, or --overwrite")
    return given or (before if isinstance(before, int) and before > 0 else PART_IMAGES)

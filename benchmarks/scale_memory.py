"""Measure the memory of the process that starts a run, by the number of images: listing, one process, actors of Ray.

No image exists: a stand-in of `os.scandir` lists a folder for every thousand of them, and a stand-in of the encoder
gives each an embedding of its own. All else is what `classify --output DIR/` does: the list on disk, the answers, the
parts, the record. Each measurement is a process of its own, whose peak of resident memory is what the system says.

    python benchmarks/scale_memory.py [--list 10000000] [--images 1000000] [--only listing|local|ray|merge]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

IN_FOLDER = 1000
MOST = 1.0  # gigabytes
STAND_IN = "ZEROSHOT_STAND_IN"  # set where the encoder is the stand-in, in processes that others start
LABELS = ("red", "green", "blue square", "cat", "dog")


class Entry:
    """An entry of a folder that is not there."""

    __slots__ = ("folder", "name", "path")

    def __init__(self, root: str, name: str, *, folder: bool) -> None:
        self.name, self.path, self.folder = name, f"{root}/{name}", folder

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self.folder

    def is_symlink(self) -> bool:
        return False


def stand_in_folders(root: str, images: int) -> None:
    """Let the walk see so many images below `root`."""
    from zeroshot_cli.images.folders import walk

    class Listing:
        def __init__(self, path: str) -> None:
            self.path = path

        def __enter__(self) -> Iterator[Entry]:
            if self.path == root:
                return (Entry(root, f"{each:06}", folder=True) for each in range(-(-images // IN_FOLDER)))
            start = int(self.path.rpartition("/")[2]) * IN_FOLDER
            names = (f"IMG_{each:010}.jpg" for each in range(start, min(start + IN_FOLDER, images)))
            return (Entry(self.path, name, folder=False) for name in names)

        def __exit__(self, *_: object) -> None: ...

    def stat(path: str) -> Any:
        return SimpleNamespace(st_dev=1, st_ino=path)

    walk.os = SimpleNamespace(scandir=Listing, stat=stat, sep="/", path=os.path)  # type: ignore[attr-defined]


def stand_in_encoder() -> None:
    """Give every image an embedding by its name, without reading it; as an import hook, for processes of Ray too."""

    class Finder:
        @staticmethod
        def find_spec(name: str, *given: Any) -> ModuleSpec | None:
            if name != "zeroshot_cli.embed.images":
                return None
            sys.meta_path.remove(Finder)  # type: ignore[arg-type]
            spec = find_spec(name)
            assert spec is not None
            loader: Any = spec.loader
            execute = loader.exec_module

            def with_stand_in(module: Any) -> None:
                execute(module)
                module.ImageEncoder.encode = encode

            loader.exec_module = with_stand_in
            return spec

    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]


def encode(encoder: Any, items: Iterable[str]) -> Iterator[list[Any]]:
    import numpy as np

    from zeroshot_cli.embed.images import EmbeddedImage

    width = encoder._batches.model.embed_dim
    table = np.random.default_rng(0).normal(size=(997, width)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    block: list[Any] = []
    for item in items:
        block.append(EmbeddedImage(item, table[sum(item.encode()) % 997]))
        if len(block) == 512:
            yield block
            block = []
    yield block


def listing(images: int, folder: str) -> None:
    from zeroshot_cli.images.find import find_images
    from zeroshot_cli.results.shards.manifest import Manifest

    found = find_images([folder], keep=lambda runs: Manifest.of(runs, Path(folder)))
    assert len(found.items) == images
    assert found.items[-1].endswith(f"{images - 1:010}.jpg")  # type: ignore[union-attr]


def classify(*options: str) -> Callable[[int, str], None]:
    def run(images: int, folder: str) -> None:
        from zeroshot_cli.cli import app

        labels = [part for label in LABELS for part in ("--label", label)]
        command = ["classify", folder, *labels, "--model", "tiny", "--no-cache", "-q", "-o", f"{folder}/../parts/"]
        code = app.run([*command, *options])
        assert code == 0, code
        assert len(list(Path(folder, "../parts").glob("part*"))) == -(-images // 512)

    return run


def merge(images: int, folder: str) -> None:
    from zeroshot_cli.cli import app

    assert app.run(["merge", f"{folder}/../parts", "-q", "-o", f"{folder}/../labels.csv", "--overwrite"]) == 0
    with Path(folder, "../labels.csv").open("rb") as file:
        assert sum(1 for _ in file) == images + 1


WHAT: dict[str, Callable[[int, str], None]] = {
    "listing": listing,
    "local": classify("--overwrite"),
    "merge": merge,
    "ray": classify("--overwrite", "--engine", "ray", "--actors", "2", "--batch-size", "32"),
}


def measure(what: str, images: int, folder: str) -> None:
    """Run one measurement in this process, and print a line."""
    before = time.monotonic()
    stand_in_folders(folder, images)
    WHAT[what](images, folder)
    seconds = time.monotonic() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{what:8} {images:>11,} images  {peak:.2f} GB at most  {seconds:6.0f} s  {images / seconds:>8,.0f} a second")
    assert peak < MOST, f"{what}: more than {MOST} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", type=int, default=10_000_000)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--only", choices=WHAT)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.only, options.images, options.measure)
        return
    with tempfile.TemporaryDirectory(prefix="zeroshot-scale-") as folder:
        # Every Python that is started has the stand-in: the actors of Ray are not children of this process.
        Path(folder, "sitecustomize.py").write_text(
            f"import os, sys\nif os.environ.get({STAND_IN!r}):\n    sys.path.insert(0, os.environ[{STAND_IN!r}])\n"
            "    import scale_memory\n    scale_memory.stand_in_encoder()\n"
        )
        Path(folder, "images").mkdir()
        paths = [folder, os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, STAND_IN: str(Path(__file__).parent), "PYTHONPATH": os.pathsep.join(paths)}
        for what in [options.only] if options.only else WHAT:
            images = options.list if what == "listing" else options.images
            command = [sys.executable, __file__, "--only", what, "--images", str(images)]
            subprocess.run([*command, "--measure", f"{folder}/images"], env=environment, check=True)


if __name__ == "__main__":
    main()

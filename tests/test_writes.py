"""Every place that opens a file for writing: the list is held complete by walking the code, and each refuses links.

A new place fails here until it is in the list, under the reason why it cannot write through a link.
"""

import ast
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli import disk
from zeroshot_cli.errors import UsageError
from zeroshot_cli.filing import placing
from zeroshot_cli.records import SkippedImage

SOURCE = Path(__file__).parents[1] / "src" / "zeroshot_cli"

WRITERS = frozenset(  # the last part of a name that is called
    [
        "write_text",
        "write_bytes",
        "symlink_to",
        "hardlink_to",
        "touch",
        "save_file",
        "savez",
        "savez_compressed",
        "NamedTemporaryFile",
        "mkstemp",
        "copyfile",
        "copy2",
        "copytree",
        "move",
        "ParquetWriter",
        "mkfifo",
        "memmap",
    ]
)
CALLS = frozenset(["os.link", "os.symlink", "os.replace", "os.rename", "torch.save", "np.save", "sqlite3.connect"])
READING = ("'r'", "'rb'", "'r:'", "'r:*'")
NOT_FILES = frozenset(["tarfile.open", "Image.open", "pairs.open", "archive.open", "copy.open"])  # members, images

# Where the file that is opened is the unfinished one of `disk.replacing`, which that has just made.
UNFINISHED = [
    "disk.write_file",
    "disk.write_notes",
    "embed/embeddings_file.EmbeddingsFile._assemble",
    "embed/embeddings_file._write_parquet",
    "evaluation/output.write_predictions",
    "evaluation/output.write_predictions",
    "models/download._write",
    "models/export.export_model",
    "models/formats/open_clip.save_model",
    "pages/classification.write_html",
    "results/shards/manifest.Manifest.save",
    "results/shards/merge._write_lines",
    "results/parquet.write_typed",
    "results/parquet.write_typed",
    "tagging/tag.write_sidecar",
]
# Where a name of zeroshot's own is opened by `disk.open_own`.
OWN = [
    "hub/transfer._append",
    "remote/copies._alone",
    "remote/copies._receive",
    "results/append_file.AppendFile.__init__",
    "train/features.Views.encode",
    "train/files/folder.RunFolder.log",
    "train/files/folder.RunFolder.skip",
]
# Where the folder is one that the same call has made, under a name that nothing had.
FRESH = [
    "cluster/ray_cluster.own_folder",
    "cluster/ray_cluster.own_folder",
    "cluster/ray_cluster.own_folder",
    "datasets/wds._write_captioned",
    "datasets/wds._write_captioned",
    "datasets/wds._write_labelled",
    "datasets/wds._write_templates",
    "datasets/wds.convert",
    "pairs/shards._unpack_images",
    "remote/tables.copied_table",
    "train/files/checkpoint.save_checkpoint",
    "train/files/checkpoint.save_checkpoint",
]
# Where a name is created that must be free (O_EXCL, link, symlink), or a file is renamed, which replaces a link itself.
NEW = [
    "disk.finished_folder",
    "disk.replacing",
    "disk.replacing",
    "disk.replacing",
    "embed/cache_store.Store._set_aside",
    "filing/placing._copy_to",
    "filing/placing._rename_over_placeholder",
    "filing/placing._rename_over_placeholder",
    "filing/placing.move_link",
    "filing/placing.rename",
    "filing/sort._Sorter._place",
    "hub/cache._link",
    "hub/cache._link",
    "hub/repository.receive_file",
    "remote/copies._copied",
    "tagging/embed._keep",
    "tagging/embed._restore_first",
    "tagging/embed._settle",
    "tagging/embed._settle",
    "tagging/embed._take_out",
    "tagging/embed.restore",
    "train/files/checkpoint.save_checkpoint",
    "train/files/folder._write_text",
    "train/files/folder._write_text",
    "train/files/trackers.TensorBoard.__init__",
]
# The two that open by flags, a database behind `refuse_link`, and what writes nowhere.
OTHERS = [
    "cli/app._drop_stdout",
    "cli/app._open_closed_streams",
    "disk.open_own",
    "embed/cache_store.Store._open",
    "embed/cache_store._connect",
    "images/decoder_process._private_streams",
]


def places() -> Iterator[str]:
    """Yield `room/file.function` of every call that may write a file."""
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).with_suffix("").as_posix()
        yield from _calls(ast.parse(path.read_text(encoding="utf-8")), [name])


def _calls(node: ast.AST, where: list[str]) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if isinstance(child, ast.Call) and _writes(child):
            yield ".".join(where)
        yield from _calls(child, [*where, child.name] if named else where)  # type: ignore[attr-defined]


def _writes(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if name in CALLS or last in WRITERS:
        return True
    if name == "os.open":
        return any(flag in ast.unparse(call.args[1]) for flag in ("WR", "CREAT", "flags", "NEW"))
    if name in ("open", "io.open") or (last == "open" and name not in NOT_FILES):
        modes = [key.value for key in call.keywords if key.arg == "mode"]
        modes += call.args[1:2] if name in ("open", "io.open") else call.args[:1]
        return bool(modes) and ast.unparse(modes[0]) not in READING and name != "os.open"
    # Path.replace and Path.rename take one argument; str.replace takes two.
    return last in ("replace", "rename") and len(call.args) == 1 and not call.keywords and name != "opened.replace"


def test_the_list_of_places_that_write_is_complete() -> None:
    listed = Counter([*UNFINISHED, *OWN, *FRESH, *NEW, *OTHERS])
    found = Counter(places())
    assert {"new": found - listed, "gone": listed - found} == {"new": Counter(), "gone": Counter()}


@pytest.mark.parametrize("place", sorted({*UNFINISHED, *OWN}))
def test_places_open_what_they_are_listed_for(place: str) -> None:
    """An unfinished file has its name from `replacing`; a file of zeroshot's own is opened by `open_own`."""
    file, *names = place.split(".")
    node: ast.AST = ast.parse((SOURCE / f"{file}.py").read_text(encoding="utf-8"))
    for name in names:
        node = next(each for each in ast.walk(node) if getattr(each, "name", None) == name)
    written = [each for each in ast.walk(node) if isinstance(each, ast.Call) and _writes(each)]
    assert written
    for call in written:
        text = ast.unparse(call)
        assert ("open_own" if place in OWN else "unfinished") in text or "ParquetWriter" in text, text


# Each way to write, with a link planted where it writes: what the link leads to stays as it is.


@pytest.fixture
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the user's in a folder of its own; the working directory is another."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path / "here"))
    return tmp_path / "theirs" / "file"


def _unfinished(name: str) -> str:
    return f".{hashlib.sha256(name.encode()).hexdigest()[:12]}.unfinished"


def _append(name: str) -> None:
    from zeroshot_cli.results.append_file import AppendFile

    file = AppendFile(Path(name), own=True)
    file.append(b"new")
    file.close()


def _record(name: str) -> None:
    from zeroshot_cli.results.run_record import RunRecord, write_record

    write_record(Path(name), RunRecord())


def _manifest(name: str) -> None:
    from zeroshot_cli.filing.manifest import open_manifest

    with open_manifest(name, create=True) as manifest:
        manifest.replace([])


def _run_folder(act: str) -> Callable[[], None]:
    def write() -> None:
        pytest.importorskip("torch")
        from zeroshot_cli.train.files.folder import RunFolder

        folder = RunFolder(Path())
        if act == "log":
            folder.log({"step": 1})
        else:
            folder.skip([SkippedImage("a.jpg", "no such file")])

    return write


def _settings() -> None:
    from zeroshot_cli.train.files.folder import _write_text

    _write_text(Path("config.yaml"), "new")


def _copy(name: str) -> None:
    Path("a.jpg").write_text("A")
    placing.copy_file("a.jpg", name)


def _move(name: str) -> None:
    Path("a.jpg").write_text("A")
    placing.move_file("a.jpg", name)


WAYS: dict[str, tuple[str, Callable[[], object]]] = {
    "a file of its own": ("own", lambda: disk.write_file(Path("own"), "new", own=True)),
    "notes": ("notes.json", lambda: disk.write_notes(Path("notes.json"), {"a": 1})),
    "an unfinished file of a run": (_unfinished("out"), lambda: disk.write_file(Path("out"), "new", resumable=True)),
    "an unfinished file under a lock": (_unfinished("out"), lambda: disk.write_file(Path("out"), "new", locked=True)),
    "a journal": ("out.run.jsonl", lambda: _append("out.run.jsonl")),
    "a run record": ("out.run.json", lambda: _record("out.run.json")),
    "the unfinished run record": (_unfinished("out.run.json"), lambda: _record("out.run.json")),
    "a manifest": ("manifest.csv", lambda: _manifest("manifest.csv")),
    "the unfinished manifest": (_unfinished("manifest.csv"), lambda: _manifest("manifest.csv")),
    "a copy": ("b.jpg", lambda: _copy("b.jpg")),
    "the unfinished copy": (placing.UNFINISHED, lambda: _copy("b.jpg")),
    "a moved file": ("b.jpg", lambda: _move("b.jpg")),
    "a moved link": ("b.jpg", lambda: placing.move_link("a.jpg", "b.jpg", "text")),
    "metrics of a training run": ("metrics.jsonl", _run_folder("log")),
    "skipped images of a training run": ("skipped.csv", _run_folder("skip")),
    "settings of a training run": ("config.yaml", _settings),
    "unfinished settings of a training run": ("config.yaml.partial", _settings),
}


@pytest.mark.parametrize("goal", ["a file", "nothing"])
@pytest.mark.parametrize("way", WAYS)
def test_a_link_is_never_written_through(way: str, goal: str, victim: Path) -> None:
    name, act = WAYS[way]
    missing = victim.with_name("missing")
    Path(name).symlink_to(victim if goal == "a file" else missing)
    with suppress(OSError, UsageError):  # refused; else the link itself was replaced
        act()
    assert victim.read_text() == "mine"
    assert [path.name for path in victim.parent.iterdir()] == ["file"]


def test_a_finished_folder_that_is_a_link(victim: Path) -> None:
    Path("unpacking").symlink_to(victim.parent)
    with pytest.raises(OSError, match="File exists"), disk.finished_folder(Path("done"), Path("unpacking")) as folder:
        (folder / "file").write_text("new")
    assert victim.read_text() == "mine"
    shutil.rmtree("unpacking", ignore_errors=True)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("goal", ["a file", "nothing"])
def test_a_cache_that_is_a_link_is_not_used(goal: str, victim: Path) -> None:
    from zeroshot_cli.embed.image_cache import ImageCache

    cache = ImageCache(Path())
    cache.path.symlink_to(victim if goal == "a file" else victim.with_name("missing"))
    with pytest.warns(UserWarning, match="it is a link"):
        assert cache.use(lambda connection: "used", "not used") == "not used"
    assert victim.read_text() == "mine"
    assert [path.name for path in victim.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("goal", ["a file", "nothing"])
def test_a_download_that_would_go_through_a_link(goal: str, victim: Path, hub: Any) -> None:
    from zeroshot_cli.hub.transfer import receive

    Path("partial").symlink_to(victim if goal == "a file" else victim.with_name("missing"))
    hub.repos["org/model"] = {"config.json": b"downloaded"}
    url = f"{hub.endpoint}/org/model/resolve/main/config.json"
    with pytest.raises(OSError, match="it is a link"):
        receive(url, Path("partial"), size=10, label="config.json")
    assert victim.read_text() == "mine"
    assert [path.name for path in victim.parent.iterdir()] == ["file"]


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null"), Path("/dev/tty")):
        with pytest.raises(OSError, match=r"not a regular file|No such"):
            disk.open_plain(path)
    with pytest.raises(OSError, match="not a regular file"):
        disk.open_own(tmp_path / "pipe", os.O_RDWR)
    assert not placing.same_content(str(tmp_path / "pipe"), str(tmp_path / "pipe"))

"""Files of embeddings, read by pyarrow, numpy and safetensors; and what is left where one cannot be written."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from memory import peak_memory
from safetensors import safe_open

from zeroshot_cli.embed import embeddings_file as module
from zeroshot_cli.embed.embeddings_file import EmbeddingsFile, Row, Subject, check_embeddings_file, check_room
from zeroshot_cli.errors import UsageError

ENDINGS = (".parquet", ".npz", ".safetensors")
ABOUT = {"model": "ViT-B-32", "pretrained": "", "fingerprint": "f" * 64, "precision": "fp32", "versions": '{"a": "1"}'}
ODD = "b\udcff\n<img onerror>.png"  # a byte that is not UTF-8, a line break, markup
ROWS: list[Row] = [
    ("a.png", np.array([1, 0, 0], np.float32), None),
    ("-é 😀.png", None, "the file is empty"),
    (ODD, np.array([0.1, -2.5, 3e-38], np.float32), None),
    ("\udcfe\\udcff.gif", None, 'not "an" image\n'),
]
EMBEDDINGS = [[1, 0, 0], [float(np.float32(x)) for x in (0.1, -2.5, 3e-38)]]
ERRORS = {"-é 😀.png": "the file is empty", "\udcfe\\udcff.gif": 'not "an" image\n'}


def write(
    path: Path, *blocks: list[Row], subject: Subject = Subject.PATH, width: int = 3, overwrite: bool = False
) -> Path:
    with EmbeddingsFile(path, subject, width=width, about=ABOUT, overwrite=overwrite) as file:
        for block in blocks:
            file.write(block)
    return path


def content(path: Path) -> tuple[list[str], list[list[float]], dict[str, str], dict[str, str]]:
    """Paths or texts with an embedding, these, errors and metadata, by other people's readers."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            (names,) = {"paths", "texts"} & set(arrays)
            assert arrays["embeddings"].dtype == np.float32
            errors = {str(name): str(reason) for name, reason in arrays["errors"]}
            metadata = json.loads(str(arrays["metadata"]))
            return arrays[names].tolist(), arrays["embeddings"].tolist(), errors, metadata
    if path.suffix == ".safetensors":
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata())
            (names,) = {"paths", "texts"} & set(metadata)
            texts, errors = json.loads(metadata.pop(names)), json.loads(metadata.pop("errors"))
            embeddings = file.get_tensor("embeddings")
            assert embeddings.dtype == np.float32
            return texts, embeddings.tolist(), errors, metadata
    table = pq.read_table(path)
    rows = table.to_pylist()
    names = table.column_names[0]
    for row in rows:
        row["name"] = os.fsdecode(row["path_bytes"]) if row.get("path_bytes") is not None else row[names]
    read = [row for row in rows if row["error"] is None]
    errors = {row["name"]: row["error"] for row in rows if row["error"] is not None}
    metadata = {key.decode(): text.decode() for key, text in table.schema.metadata.items()}
    return [row["name"] for row in read], [row["embedding"] for row in read], errors, metadata


def listing(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


@pytest.fixture
def limited_files() -> Iterator[Callable[[int], AbstractContextManager[None]]]:
    """`limited_files(n)` lets no file of this process grow beyond n bytes for a while."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python itself does: a write fails instead
    yield limit
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("ending", ENDINGS)
def test_others_read_what_was_written(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"out{ending}", ROWS[:1], [], ROWS[1:])
    names, embeddings, errors, metadata = content(path)
    assert names == ["a.png", ODD]
    assert embeddings == EMBEDDINGS
    assert errors == ERRORS
    assert metadata == {"format": "zeroshot-embeddings-1", **ABOUT}
    assert listing(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("block_rows", [1, 2, 3])
def test_blocks_of_any_size_give_the_same(
    ending: str, block_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_ROWS", block_rows)
    monkeypatch.setattr(module, "_BLOCK_BYTES", 20)
    names, embeddings, errors, _ = content(write(tmp_path / f"out{ending}", ROWS))
    assert (names, embeddings, errors) == (["a.png", ODD], EMBEDDINGS, ERRORS)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("rows", [[], [ROWS[1]]], ids=["none", "unreadable only"])
def test_no_embedding_at_all_is_an_empty_matrix(ending: str, rows: list[Row], tmp_path: Path) -> None:
    path = write(tmp_path / f"out{ending}", rows, width=5)
    names, embeddings, errors, _ = content(path)
    assert (names, embeddings, errors) == ([], [], {name: reason for name, _, reason in rows})
    if ending == ".npz":
        assert np.load(path)["embeddings"].shape == (0, 5)
    elif ending == ".safetensors":
        with safe_open(path, framework="np") as file:
            assert file.get_slice("embeddings").get_shape() == [0, 5]
    else:
        assert pq.read_schema(path).field("embedding").type == pa.list_(pa.float32(), -1 if rows else 5)


@pytest.mark.parametrize("ending", ENDINGS)
def test_texts_have_their_own_column_and_may_repeat(ending: str, tmp_path: Path) -> None:
    rows: list[Row] = [(text, np.full(3, k, np.float32), None) for k, text in enumerate(["a cat", "", "a cat", " é\t"])]
    names, embeddings, errors, _ = content(write(tmp_path / f"out{ending}", rows, subject=Subject.TEXT))
    assert names == ["a cat", "", "a cat", " é\t"]
    assert embeddings == [[k] * 3 for k in range(4)]
    assert errors == {}


def test_parquet_with_a_missing_embedding_can_be_read_by_older_pyarrow(tmp_path: Path) -> None:
    """Before 24 it reads lists of a fixed size only where none is missing."""
    complete = pq.read_schema(write(tmp_path / "complete.parquet", [row for row in ROWS if row[1] is not None]))
    assert complete.field("embedding").type == pa.list_(pa.float32(), len(EMBEDDINGS[0]))
    assert pq.read_schema(write(tmp_path / "out.parquet", ROWS)).field("embedding").type == pa.list_(pa.float32())


def test_parquet_has_a_row_for_every_image_in_order(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path / "out.parquet", ROWS))
    table.validate(full=True)
    assert table.schema.remove_metadata() == pa.schema(
        [("path", pa.string()), ("path_bytes", pa.binary()), ("embedding", pa.list_(pa.float32())), ("error", "str")]
    )
    assert table["path"].to_pylist() == ["a.png", "-é 😀.png", "b\\xff\n<img onerror>.png", "\\xfe\\udcff.gif"]
    assert table["path_bytes"].to_pylist() == [None, None, b"b\xff\n<img onerror>.png", b"\xfe\\udcff.gif"]
    assert table["embedding"].to_pylist() == [EMBEDDINGS[0], None, EMBEDDINGS[1], None]


def test_npz_members_are_what_numpy_itself_would_write(tmp_path: Path) -> None:
    arrays = np.load(write(tmp_path / "out.npz", ROWS))
    assert list(arrays) == ["embeddings", "paths", "errors", "metadata"]
    assert arrays["paths"].dtype == np.dtype(f"<U{len(ODD)}")
    assert arrays["errors"].tolist() == [list(error) for error in ERRORS.items()]
    assert arrays["embeddings"].flags.c_contiguous


def test_safetensors_begin_on_a_multiple_of_eight(tmp_path: Path) -> None:
    for length in range(8):
        rows: list[Row] = [("x" * length, np.ones(3, np.float32), None)]
        data = write(tmp_path / f"{length}.safetensors", rows).read_bytes()
        assert int.from_bytes(data[:8], "little") % 8 == 0
        assert np.frombuffer(data[-12:], "<f4").tolist() == [1, 1, 1]


def test_metadata_with_bytes_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    for ending in ENDINGS:
        path = tmp_path / f"out{ending}"
        with EmbeddingsFile(path, Subject.PATH, width=3, about={"model": "m\udcff"}):
            pass
        assert content(path)[3]["model"] == "m\\udcff"


# What is wrong shows at once


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.csv", "unknown extension '.csv'; expected one of .parquet, .npz, .safetensors"),
        ("out", "it has no extension; expected one of .parquet, .npz, .safetensors, as in "),
        (".npz", "it has no extension; expected one of"),
        ("missing/out.npz", "there is no folder"),
        ("file/out.npz", "there is no folder"),
        ("folder.npz", "it is a folder"),
        ("there.NPZ", "already exists; add --overwrite"),
        ("x" * 300 + ".npz", "File name too long"),
    ],
)
def test_a_target_that_cannot_be_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "there.NPZ").write_text("precious")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as error:
        check_embeddings_file(tmp_path / name, overwrite=False)
    assert message in str(error.value)
    assert name in str(error.value)
    with pytest.raises(UsageError):
        EmbeddingsFile(tmp_path / name, Subject.PATH, width=3, about={})
    assert (tmp_path / "there.NPZ").read_text() == "precious"
    assert sorted(listing(tmp_path)) == ["file", "folder.npz", "there.NPZ"]


def test_a_folder_that_takes_no_files_is_refused() -> None:
    with pytest.raises(UsageError, match=r"cannot write /proc/out\.npz: "):
        check_embeddings_file(Path("/proc/out.npz"), overwrite=False)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"^writing \.parquet needs pyarrow: pip install 'zeroshot-cli\[parquet\]'$"):
        check_embeddings_file(tmp_path / "out.parquet", overwrite=False)
    check_embeddings_file(tmp_path / "out.npz", overwrite=False)
    write(tmp_path / "out.safetensors", ROWS)


def test_a_check_leaves_nothing(tmp_path: Path) -> None:
    for ending in ENDINGS:
        check_embeddings_file(tmp_path / f"out{ending}", overwrite=False)
    assert listing(tmp_path) == []


def test_a_name_as_long_as_can_be(tmp_path: Path) -> None:
    path = write(tmp_path / ("x" * 251 + ".npz"), ROWS)
    assert listing(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_overwrite_replaces_the_old_file_at_the_end(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{ending}"
    path.write_text("old")
    with EmbeddingsFile(path, Subject.PATH, width=3, about=ABOUT, overwrite=True) as file:
        file.write(ROWS)
        assert path.read_text() == "old"
    assert content(path)[1] == EMBEDDINGS


def test_overwriting_a_link_changes_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "real.npz").write_text("old")
    link = tmp_path / "link.npz"
    link.symlink_to("folder/real.npz")
    write(link, ROWS, overwrite=True)
    assert link.is_symlink()
    assert content(tmp_path / "folder" / "real.npz")[1] == EMBEDDINGS
    assert sorted(listing(tmp_path)) == ["folder", "link.npz"]
    assert listing(tmp_path / "folder") == ["real.npz"]


def test_two_runs_with_one_target_at_once(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    first, second = (EmbeddingsFile(path, Subject.PATH, width=3, about=ABOUT, overwrite=True) for _ in range(2))
    first.write(ROWS)
    second.write(ROWS[:1])
    first.close()
    second.close()
    assert content(path)[0] == ["a.png"]
    assert listing(tmp_path) == ["out.npz"]


def test_a_file_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    with pytest.raises(UsageError, match="already exists"), EmbeddingsFile(path, Subject.PATH, width=3, about={}):
        path.write_text("another's")
    assert path.read_text() == "another's"
    assert listing(tmp_path) == [path.name]


def test_safetensors_that_nobody_could_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_HEADER_BYTES", 1000)
    names = ["ab\n" * 50] * 3  # a line break is three characters in JSON in JSON: 2 + 2 * 50 + 3 * 50 + 4 a name
    check_room(tmp_path / "out.safetensors", names)
    check_room(tmp_path / "out.npz", names * 2)
    message = r"out\.safetensors: its names take more than .* name a \.parquet or \.npz file"
    with pytest.raises(UsageError, match=message):
        check_room(tmp_path / "out.safetensors", names * 2)
    rows: list[Row] = [(name, np.ones(3, np.float32), None) for name in names * 2]
    with pytest.raises(UsageError, match=message):
        write(tmp_path / "out.safetensors", rows)
    assert listing(tmp_path) == []


def test_rows_that_are_none_are_a_defect(tmp_path: Path) -> None:
    one = np.ones(3, np.float32)
    file = EmbeddingsFile(tmp_path / "out.npz", Subject.PATH, width=3, about={})
    for wrong in (("a", None, None), ("a", one, "no"), ("a", np.ones(4, np.float32), None), ("a", one[None], None)):
        with pytest.raises(ValueError, match="'a'"):
            file.write([ROWS[0], wrong])
    file.close()
    file.close()
    assert content(tmp_path / "out.npz")[0] == []  # a block with a wrong row is not begun
    with pytest.raises(ValueError, match="is closed"):
        file.write(ROWS)


# What an end before the end leaves


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, UsageError, MemoryError])
def test_an_error_leaves_nothing(ending: str, error: type[BaseException], tmp_path: Path) -> None:
    def broken_off() -> None:
        with EmbeddingsFile(tmp_path / f"x{ending}", Subject.PATH, width=3, about={}) as file:
            file.write(ROWS)
            raise error

    with pytest.raises(error):
        broken_off()
    assert listing(tmp_path) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_ctrl_c_while_the_file_is_put_together_leaves_the_old_one(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    path = tmp_path / f"out{ending}"
    path.write_text("old")
    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(path, ROWS, overwrite=True)
    assert (listing(tmp_path), path.read_text()) == ([path.name], "old")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("room", [4_000, 16_300])  # not even for the rows; for these, not for the file
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    ending: str, room: int, tmp_path: Path, limited_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    rows: list[Row] = [(os.urandom(10).hex(), np.ones(400, np.float32), None) for _ in range(10)]
    with limited_files(room), pytest.raises(UsageError, match=rf"cannot write .*out{ending}: File too large"):
        write(tmp_path / f"out{ending}", rows, width=400)
    assert listing(tmp_path) == []


def test_a_folder_that_goes_away_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = EmbeddingsFile(folder / "out.npz", Subject.PATH, width=3, about={})
    folder.rmdir()
    file.write(ROWS)
    with pytest.raises(UsageError, match="there is no folder"):
        file.close()


def test_a_killed_run_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import os, sys, numpy, pathlib; from zeroshot_cli.embed.embeddings_file import *\n"
        "f = EmbeddingsFile(pathlib.Path(sys.argv[1]), Subject.PATH, width=3, about={})\n"
        "f.write([('a', numpy.ones(3, numpy.float32), None)]); os.kill(os.getpid(), 9)"
    )
    run = subprocess.run([sys.executable, "-c", program, tmp_path / "out.npz"], check=False)
    assert run.returncode == -signal.SIGKILL
    assert listing(tmp_path) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_memory_does_not_grow_with_the_rows(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 100_000)
    block: list[Row] = [(f"{k:050}.png", np.full(200, k, np.float32), None) for k in range(100)]
    paths = (tmp_path / f"{name}{ending}" for name in ("one", "two"))
    # 8 MB of embeddings, 0.5 MB of names
    assert peak_memory(lambda: write(next(paths), *[block] * 100, width=200)) < 2_000_000
    assert len(content(tmp_path / f"one{ending}")[0]) == 10_000


def test_the_module_loads_no_torch() -> None:
    program = "import sys, zeroshot_cli.embed.embeddings_file; print('torch' in sys.modules, 'pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"False False\n"

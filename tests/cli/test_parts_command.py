"""--output DIR/: parts that are there and whole are left alone; merged they are what one file would have been."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from command_lines import Runner
from PIL import Image

from zeroshot_cli.errors import UsageError
from zeroshot_cli.results.shards.parts import check_folder

LABELS = ("--label", "0", "--label", "90", "--label", "170", "--prompts", "plain")


COMMANDS = {
    "classify": ("classify", "photos", *LABELS, "--top-k", "2", "--task-images", "7", "--ignore-errors"),
    "embed": ("embed", "photos", "--task-images", "7", "--ignore-errors"),
}
FORMS = {"classify": ("csv", "tsv", "jsonl", "parquet"), "embed": ("npz", "parquet", "safetensors")}
PARTS = [f"part-{start:012}-{min(start + 6, 29):012}.parquet" for start in range(0, 30, 7)]
command = pytest.mark.parametrize("command", COMMANDS)


def contents(folder: str = "out") -> dict[str, tuple[bytes, int]]:
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in Path(folder).iterdir()
        if path.name.startswith("part")
    }


@command
def test_parts_have_all_images_and_become_one_file(command: str, photos: Path, run: Runner) -> None:
    assert run(*COMMANDS[command], "-o", "out/") == 0
    assert run.out == b""
    assert "wrote out" in run.err
    assert sorted(os.listdir("out")) == ["_lock", "_manifest", "_run.json", *PARTS]  # noqa: PTH208
    one = [part for part in COMMANDS[command] if part not in ("--task-images", "7")]
    for form in FORMS[command]:
        assert run(*one, "-o", f"one.{form}") == 0
        assert run("merge", "out", "-o", f"merged.{form}") == 0
        assert Path(f"merged.{form}").read_bytes() == Path(f"one.{form}").read_bytes()


@command
def test_other_programs_read_the_folder(command: str, photos: Path, run: Runner) -> None:
    run(*COMMANDS[command], "-o", "out/")
    run(*COMMANDS[command], "-o", "one/", "--task-images", "1000")
    (single,) = Path("one").glob("part*")
    expected = pq.read_table(single)
    for found in (ds.dataset("out").to_table(), pq.read_table("out"), pq.read_table("out/")):
        assert found.to_pylist() == expected.to_pylist()
    frame = pd.read_parquet("out")
    assert frame.path.tolist() == expected["path"].to_pylist()
    assert frame.path.nunique() == 30


def test_the_record_and_the_manifest(photos: Path, run: Runner) -> None:
    run(*COMMANDS["classify"], "-o", "out/")
    record = json.loads(Path("out/_run.json").read_text())
    assert record["complete"]
    assert record["counts"] == {"classified": 29, "unreadable": 1, "unknown": 0, "truncated": 0}
    assert (record["settings"]["shard"], record["settings"]["all_images"]) == ("1/1", "30")
    assert record["resolved"]["part_images"] == 7
    paths = Path("out/_manifest").read_bytes().split(b"\0\0")
    assert paths[0] == b"photos/=\xff.png" or b"photos/=\xff.png" in paths
    assert len(paths) == 31


@command
def test_a_part_twice_is_the_same_file_twice(command: str, photos: Path, run: Runner) -> None:
    run(*COMMANDS[command], "-o", "one/")
    run(*COMMANDS[command], "-o", "two/")
    first, second = contents("one"), contents("two")
    assert {name: data for name, (data, _) in first.items()} == {name: data for name, (data, _) in second.items()}


@command
def test_resume_leaves_whole_parts_alone(command: str, photos: Path, run: Runner) -> None:
    run(*COMMANDS[command], "-o", "out/")
    before = contents()
    assert run(*COMMANDS[command], "-o", "out/", "--resume") == 0
    assert "--resume: out is finished, with 30 images; nothing to do" in run.err
    assert contents() == before
    Path("out", PARTS[1]).unlink()
    Path("out", PARTS[3]).write_bytes(before[PARTS[3]][0][:-10])
    Path("out", PARTS[0]).write_bytes(before[PARTS[2]][0])  # another's, under its name
    Path("out/.0123456789ab.unfinished").write_bytes(b"half")
    assert run(*COMMANDS[command], "-o", "out", "--resume") == 0
    assert "--resume: kept 9 images of out; 3 parts still to do" in run.err
    after = contents()
    assert {name: data for name, (data, _) in after.items()} == {name: data for name, (data, _) in before.items()}
    assert {name for name in PARTS if after[name][1] != before[name][1]} == {PARTS[0], PARTS[1], PARTS[3]}
    assert not Path("out/.0123456789ab.unfinished").exists()
    assert json.loads(Path("out/_run.json").read_text())["counts"]["unreadable"] == 1


@command
def test_a_part_of_another_program_is_written_again(command: str, photos: Path, run: Runner) -> None:
    run(*COMMANDS[command], "-o", "out/")
    before = contents()[PARTS[2]][0]
    pq.write_table(pq.read_table(Path("out", PARTS[2])).replace_schema_metadata(None), Path("out", PARTS[2]))
    assert run(*COMMANDS[command], "-o", "out/", "--resume") == 0
    assert contents()[PARTS[2]][0] == before


@command
def test_a_run_that_was_stopped(command: str, photos: Path, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    run(*COMMANDS[command], "-o", "whole/")
    from zeroshot_cli.embed.parts import EmbeddingParts
    from zeroshot_cli.results.shards.parts import ResultParts

    with monkeypatch.context() as patch:
        for kind in (EmbeddingParts, ResultParts):
            write = kind.__call__

            def stop(self: Any, images: range, items: Any, write: Any = write) -> Any:
                if images.start == 14:
                    raise KeyboardInterrupt
                return write(self, images, items)

            patch.setattr(kind, "__call__", stop)
        assert run(*COMMANDS[command], "-o", "out/") == 130
    assert sorted(contents()) == PARTS[:2]
    assert not json.loads(Path("out/_run.json").read_text())["complete"]
    assert run("merge", "out", "-o", f"all.{FORMS[command][0]}") == 3
    assert "out" in run.err
    assert "is incomplete: its run was stopped; run it again with --resume" in run.err
    assert run(*COMMANDS[command], "-o", "out/", "--resume") == 0
    assert "kept 14 images of out; 3 parts still to do" in run.err
    found, whole = contents("out"), contents("whole")
    assert {name: data for name, (data, _) in found.items()} == {name: data for name, (data, _) in whole.items()}


@command
def test_shards_of_parts(command: str, photos: Path, run: Runner) -> None:
    for number in "123":
        assert run(*COMMANDS[command], "--shard", f"{number}/3", "-o", f"{number}/") == 0
    form = FORMS[command][0]
    assert run("merge", "2", "1", "3", "-o", f"all.{form}") == 0
    one = [part for part in COMMANDS[command] if part not in ("--task-images", "7")]
    run(*one, "-o", f"one.{form}")
    assert Path(f"all.{form}").read_bytes() == Path(f"one.{form}").read_bytes()


@command
def test_an_empty_shard(command: str, photos: Path, run: Runner) -> None:
    arguments = [part if part != "photos" else "photos/a/0.png" for part in COMMANDS[command]]
    for number in "123":
        assert run(*arguments, "--shard", f"{number}/3", "-o", f"{number}/") == 0
        assert run(*arguments, "--shard", f"{number}/3", "-o", f"{number}/", "--resume") == 0
    assert sorted(len(contents(number)) for number in "123") == [0, 0, 1]
    assert run("merge", "1", "2", "3", "-o", f"all.{FORMS[command][0]}") == 0


@command
def test_a_part_that_is_missing_or_damaged(command: str, photos: Path, run: Runner) -> None:
    form = FORMS[command][0]
    run(*COMMANDS[command], "-o", "out/")
    data = Path("out", PARTS[2]).read_bytes()
    Path("out", PARTS[2]).unlink()
    assert run("merge", "out", "-o", f"all.{form}") == 3
    assert "out is incomplete: image 15 is in no part; run it again with --resume" in run.err
    Path("out", PARTS[2]).write_bytes(data[:-4] + b"oops")
    assert run("merge", "out", "-o", f"all.{form}") == 3
    assert f"{PARTS[2]} is damaged" in run.err
    Path("out", PARTS[2]).write_bytes(Path("out", PARTS[1]).read_bytes())
    assert run("merge", "out", "-o", f"all.{form}") == 3
    assert "has other images than its run wrote" in run.err
    assert not Path(f"all.{form}").exists()


@command
def test_a_finished_run_starts_no_cluster(
    command: str, photos: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: object) -> None:
        raise UsageError("Ray begins")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("zeroshot_cli.cluster.ray_engine.RayCluster", begun)
    run(*COMMANDS[command], "-o", "out/")
    before, again = contents(), (*COMMANDS[command], "-o", "out/", "--resume", "--engine", "ray")
    assert run(*again) == 0
    assert contents() == before
    photos.rename("photographs")
    Image.new("RGB", (4, 4)).save("photographs/new.png")
    photos.symlink_to("photographs")
    assert run(*again) == 2
    assert "Ray begins" in run.err


@pytest.mark.parametrize("command", ["tune", "calibrate"])
def test_a_folder_of_parts_is_no_examples(command: str, photos: Path, run: Runner) -> None:
    run(*COMMANDS["classify"], "-o", "out/")
    assert run(command, "out", "-o", "my.classifier") == 2
    assert run.err == "error: out is a folder of parts; make one file of it: zeroshot merge out --output FILE.csv\n"


@command
def test_a_folder_that_holds_something(command: str, photos: Path, run: Runner) -> None:
    run(*COMMANDS[command], "-o", "out/")
    assert run(*COMMANDS[command], "-o", "out/") == 2
    assert "out holds a run; --resume continues it, --overwrite starts over, or name another folder" in run.err
    before = contents()
    assert run(*COMMANDS[command], "-o", "out/", "--overwrite") == 0
    assert {name for name, (_, when) in contents().items() if when == before[name][1]} == set()
    assert run(*COMMANDS[command], "-o", "photos/") == 2
    assert (
        "photos is not empty, and zeroshot did not write =\\xff.png in it; name a new folder for the parts" in run.err
    )
    Path("out/mine.txt").write_text("mine")
    assert run(*COMMANDS[command], "-o", "out/", "--overwrite") == 2
    assert "zeroshot did not write mine.txt in it" in run.err
    assert run(*COMMANDS[command], "-o", "none/out/") == 2
    assert "there is no folder none; create it first" in run.err
    Path("file").write_text("mine")
    assert run(*COMMANDS[command], "-o", "file/") == 2
    assert Path("file").read_text() == "mine"


@command
def test_parts_without_their_record_are_kept(command: str, photos: Path, run: Runner) -> None:
    run(*COMMANDS[command], "-o", "out/")
    before = contents()
    Path("out/_run.json").unlink()
    for options in ((), ("--resume",)):
        assert run(*COMMANDS[command], "-o", "out/", *options) == 2
        assert "out has parts, and no record of their run, _run.json; put it back" in run.err
    assert contents() == before


@command
def test_other_settings_are_not_resumed(command: str, photos: Path, run: Runner) -> None:
    run(*COMMANDS[command], "-o", "out/")
    assert run(*COMMANDS[command], "-o", "out/", "--resume", "--fit", "pad") == 2
    assert "was" in run.err
    assert "in the run that wrote out" in run.err
    assert run(*COMMANDS[command], "-o", "out/", "--resume", "--task-images", "8") == 2
    assert "--resume: parts have 7 images, and --task-images is 8; omit it, or --overwrite" in run.err
    (photos / "a" / "0.png").rename(photos / "a" / "new.png")
    assert run(*COMMANDS[command], "-o", "out/", "--resume") == 2
    assert "--resume: images were renamed or exchanged since the run that wrote out" in run.err
    assert "; start again with --overwrite" in run.err
    assert run(*COMMANDS[command], "-o", "out/", "--resume", "--overwrite") == 2


@command
def test_two_runs_do_not_write_one_folder(command: str, photos: Path, run: Runner) -> None:
    import subprocess
    import sys

    run(*COMMANDS[command], "-o", "out/")
    hold = "import fcntl, sys; f = open('out/_lock', 'a'); fcntl.lockf(f, 2); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert run(*COMMANDS[command], "-o", "out/", "--resume") == 2
        other.communicate()
    assert "another run is writing out/_lock" in run.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("-o", "a.csv"),
            "--output out/ is a folder of parts, the only output of its run; zeroshot merge makes",
        ),
        (("--adapt",), "--adapt needs all results at once, and --output out/ is written in parts; omit one of them"),
        (("--summary", "a.csv"), "--summary needs all results at once"),
        (("--sort-into", "sorted"), "--sort-into needs all results at once"),
        (("--format", "csv"), "--format needs all results at once"),
        (("--thumbnails",), "--thumbnails shows the images in an .xlsx file"),
        (("--output-encoding", "utf-8-sig"), "--output-encoding utf-8-sig is for .csv and .tsv files"),
    ],
)
def test_what_a_folder_excludes(options: tuple[str, ...], message: str, photos: Path, run: Runner) -> None:
    assert run(*COMMANDS["classify"], "-o", "out/", *options) == 2
    assert message in run.err
    assert not Path("out").exists()


def test_a_folder_at_an_address_is_refused_without_its_password(photos: Path, run: Runner) -> None:
    assert run(*COMMANDS["classify"], "-o", "s3://me:secret@bucket/out/") == 2
    assert "--output s3://…: parts go into a folder on a disk, perhaps a mounted one; give --output parts/" in run.err
    assert "secret" not in run.err


def test_parts_have_the_columns_of_the_csv(photos: Path, run: Runner) -> None:
    Path("labels.yaml").write_text(
        "groups:\n"
        "  left:\n    north: {prompts: ['0']}\n    east: {prompts: ['90']}\n"
        "  right:\n    south: {prompts: ['170']}\n"
    )
    arguments = ("classify", "photos", "--labels", "labels.yaml", "--prompts", "plain", "--truncated", "read")
    run(*arguments, "-o", "out/", "--ignore-errors")
    run(*arguments, "-o", "one.csv", "--ignore-errors")
    columns = Path("one.csv").read_bytes().splitlines()[0].decode().split(",")
    assert columns[-2:] == ["note", "group"]
    parts = pd.read_parquet("out")
    assert parts.columns.tolist() == [*columns, "result"]
    assert set(parts.group.dropna()) == {"left", "right"}


def test_what_embed_excludes(photos: Path, run: Runner) -> None:
    Path("texts.txt").write_text("1\n")
    assert run("embed", "--texts", "texts.txt", "-o", "out/") == 2
    assert "--texts needs all results at once" in run.err
    assert run("embed", "photos", "-o", "out.npz", "--resume") == 2
    assert "--resume needs --output DIR/" in run.err
    assert run("embed", "photos", "-o", "out.npz", "--task-images", "7") == 2
    assert "--task-images needs --engine ray" in run.err


def test_a_folder_of_embeddings_is_read_like_a_file(photos: Path, run: Runner) -> None:
    from zeroshot_cli.embed.embeddings_file import Subject
    from zeroshot_cli.embed.embeddings_read import is_embeddings_file, read_embeddings_file
    from zeroshot_cli.errors import DataError

    run(*COMMANDS["embed"], "-o", "out/")
    run("embed", "photos", "-o", "one.npz")
    found, one = (read_embeddings_file(Path(name), Subject.PATH) for name in ("out", "one.npz"))
    assert is_embeddings_file("out")
    assert found.names == one.names
    assert found.embeddings.tolist() == one.embeddings.tolist()
    assert found.about["model"] == one.about["model"]
    assert run("search", "--like", "photos/a/0.png", "out", "--format", "paths", "--top", 2) == 0
    assert run.out == b"photos/a/0.png\nphotos/=\xff.png\n"
    run("embed", "photos/broken.png", "-o", "broken/")
    assert run("search", "--like", "photos/a/0.png", "broken") == 3
    assert "broken holds no embedding: none of its images could be read" in run.err
    Path("out", PARTS[1]).unlink()
    with pytest.raises(DataError, match="image 8 is in no part"):
        read_embeddings_file(Path("out"), Subject.PATH)


@pytest.mark.parametrize("command", ["review", "tag"])
def test_what_needs_a_file_says_how_to_make_one(command: str, photos: Path, run: Runner) -> None:
    run(*COMMANDS["classify"], "-o", "out/")
    assert run(command, "out") == 2
    assert "out is a folder of parts; make one file of it: zeroshot merge out --output FILE.csv" in run.err


def test_links_are_not_written_through(photos: Path) -> None:
    Path("out").mkdir()
    Path("mine").write_text("mine")
    Path("out/_run.json").symlink_to(Path("mine").absolute())
    with pytest.raises(Exception, match="link"):
        check_folder(Path("out"), overwrite=True, resume=False)
    assert Path("mine").read_text() == "mine"

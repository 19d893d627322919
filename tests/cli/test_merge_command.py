"""--shard and `zeroshot merge`: many runs come to what one run writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_lines import Runner

from zeroshot_cli.results.run_record import read_record

LABELS = ("--label", "0", "--label", "90", "--label", "170", "--prompts", "plain")


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_classify(photos: Path, form: str, run: Runner) -> None:
    assert run("classify", "photos", *LABELS, "--top-k", 2, "-o", f"one.{form}") == 4
    codes = [run("classify", "photos", *LABELS, "--top-k", 2, "--shard", f"{n}/4", "-o", f"{n}.{form}") for n in "1234"]
    assert sorted(codes) == [0, 0, 0, 4]
    assert "shard 4/4: " in run.err
    assert " of 30 images\n" in run.err
    assert run("merge", *(f"{n}.{form}" for n in "3142"), "-o", f"all.{form}") == 0
    assert f"wrote all.{form}: 30 images of 4 shards, 1 of them could not be read." in (run.err)
    assert Path(f"all.{form}").read_bytes() == Path(f"one.{form}").read_bytes()
    record, alone = (read_record(Path(f"{name}.{form}.run.json")) for name in ("all", "one"))
    assert record is not None
    assert alone is not None
    assert (record.counts, record.resolved) == (alone.counts, alone.resolved)
    assert {**record.settings, "outputs": None} == {**alone.settings, "outputs": None}


@pytest.mark.parametrize("form", ["npz", "parquet", "safetensors"])
def test_embed(photos: Path, form: str, run: Runner) -> None:
    assert run("embed", "photos", "-o", f"one.{form}") == 4
    for number in "123":
        run("embed", "photos", "--shard", f"{number}/3", "-o", f"{number}.{form}", "--ignore-errors")
    assert run("merge", f"1.{form}", f"2.{form}", f"3.{form}", "-o", f"all.{form}") == 0
    assert Path(f"all.{form}").read_bytes() == Path(f"one.{form}").read_bytes()


def test_an_empty_shard_is_a_finished_run(photos: Path, run: Runner) -> None:
    for number in range(1, 4):
        command = ("classify", "photos/a/0.png", *LABELS, "--shard", f"{number}/3", "-o", f"{number}.csv")
        assert run(*command) == 0
        assert run(*command, "--resume") == 0
    sizes = [read_record(Path(f"{number}.csv.run.json")).counts.images for number in range(1, 4)]  # type: ignore[union-attr]
    assert sorted(sizes) == [0, 0, 1]
    assert run("merge", "1.csv", "2.csv", "3.csv", "-o", "all.csv") == 0
    assert len(Path("all.csv").read_text().splitlines()) == 2
    assert "wrote all.csv: 1 image of 3 shards.\n" in run.err


def test_shards_do_not_depend_on_the_order_of_inputs(photos: Path, run: Runner) -> None:
    names = [f"photos/{folder}" for folder in "abc"]
    assert run("classify", *names, *LABELS, "-o", "one.csv") == 0
    assert run("classify", *names, *LABELS, "--shard", "1/2", "-o", "1.csv") == 0
    assert run("classify", *names[::-1], *LABELS, "--shard", "2/2", "-o", "2.csv") == 0
    assert run("merge", "1.csv", "2.csv", "-o", "all.csv") == 0
    assert Path("all.csv").read_bytes() == Path("one.csv").read_bytes()


def test_a_missing_input_is_of_a_shard_too(photos: Path, run: Runner) -> None:
    for number in (1, 2):
        run("classify", "photos/a", "none.png", *LABELS, "--shard", f"{number}/2", "-o", f"{number}.csv")
    assert run("merge", "1.csv", "2.csv", "-o", "all.csv") == 0
    assert Path("all.csv").read_text().splitlines()[1] == "none.png,,,,,no such file"


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "a/b", "1", f"1/{'9' * 4000}"])
@pytest.mark.parametrize("command", ["classify", "embed"])
def test_what_is_no_shard(command: str, text: str, photos: Path, run: Runner) -> None:
    labels = LABELS if command == "classify" else ()
    assert run(command, "photos", *labels, "--shard", text, "-o", "out.parquet") == 2
    assert "is not a shard; give I/N, such as 1/16, with I from 1 to N" in run.err
    assert not Path("out.parquet").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--adapt",), "--adapt looks at all images together, and --shard only at some of them; omit one of them"),
        (("--sort-into", "sorted"), "--sort-into files all images of a run, and --shard has some of them; omit one"),
    ],
)
def test_what_needs_all_images(options: tuple[str, ...], message: str, photos: Path, run: Runner) -> None:
    assert run("classify", "photos", *LABELS, "--shard", "1/2", *options) == 2
    assert message in run.err
    assert not Path("sorted").exists()


def test_texts_have_no_shards(photos: Path, run: Runner) -> None:
    Path("texts.txt").write_text("1\n")
    assert run("embed", "--texts", "texts.txt", "--shard", "1/2", "-o", "out.npz") == 2
    assert "--shard is for images, and --texts texts.txt names texts; omit it" in run.err


def test_resume_compares_the_shard_and_the_inputs(photos: Path, run: Runner) -> None:
    command = ("classify", "photos", *LABELS, "-o", "1.csv", "--ignore-errors")
    assert run(*command, "--shard", "1/2") == 0
    assert run(*command, "--shard", "1/2", "--resume") == 0
    assert run(*command, "--shard", "2/2", "--resume") == 2
    assert "--resume: shard was 1/2 in the run that wrote 1.csv and is 2/2 now" in run.err
    assert run(*command, "--resume") == 2
    assert "--resume: shard was 1/2 in the run that wrote 1.csv and is not set now" in run.err
    number = len([path for path in photos.rglob("*") if path.suffix == ".png"])
    (photos / "a" / "0.png").rename(photos / "a" / "new.png")
    assert run(*command, "--shard", "1/2", "--resume") == 2
    assert f"images were renamed or exchanged since the run that wrote 1.csv ({number} images); start all" in run.err
    (photos / "a" / "new.png").unlink()
    assert run(*command, "--shard", "1/2", "--resume") == 2
    numbers = f"({number} images then, {number - 1} now)"
    assert f"images were added or removed since the run that wrote 1.csv {numbers}; start all shards again" in run.err
    assert "shard_" not in run.err


def test_a_run_that_was_stopped_is_resumed_and_merged(
    photos: Path, monkeypatch: pytest.MonkeyPatch, run: Runner
) -> None:
    from zeroshot_cli.classify.classifier import Classifier

    predict = Classifier._judge

    def stop(self: Any, *arguments: Any) -> Any:
        raise KeyboardInterrupt

    command: Callable[[int], tuple[str, ...]] = lambda number: (  # noqa: E731
        *("classify", "photos", *LABELS, "--shard", f"{number}/2"),
        *("-o", f"{number}.csv", "--ignore-errors"),
    )
    assert run(*command(1)) == 0
    monkeypatch.setattr(Classifier, "_judge", stop)
    assert run(*command(2)) == 130
    assert run("merge", "1.csv", "2.csv", "-o", "all.csv") == 3
    assert run.err == ("error: 2.csv, shard 2/2, is incomplete: its run was stopped; run it again with --resume\n")
    assert not Path("all.csv").exists()
    monkeypatch.setattr(Classifier, "_judge", predict)
    assert run(*command(2), "--resume") == 0
    assert run("merge", "1.csv", "2.csv", "-o", "all.csv") == 0


def test_an_output_is_not_an_input(photos: Path, run: Runner) -> None:
    for number in (1, 2):
        run("classify", "photos/a", *LABELS, "--shard", f"{number}/2", "-o", f"{number}.csv")
    before = Path("1.csv").read_bytes()
    assert run("merge", "1.csv", "2.csv", "-o", "1.csv", "--overwrite") == 2
    assert "cannot write 1.csv: it is the file of inputs, which is read; name another" in run.err
    assert Path("1.csv").read_bytes() == before


def test_results_and_embeddings_are_not_merged(photos: Path, run: Runner) -> None:
    run("classify", "photos/a", *LABELS, "--shard", "1/2", "-o", "1.parquet")
    run("embed", "photos/a", "--shard", "2/2", "-o", "2.parquet")
    assert run("merge", "1.parquet", "2.parquet", "-o", "all.parquet") == 2
    assert "2.parquet holds embeddings, and 1.parquet does not; merge the files of one run" in run.err


def test_merged_results_can_be_reviewed(photos: Path, run: Runner) -> None:
    from zeroshot_cli.review.run import read_run

    for number in (1, 2):
        run("classify", "photos", *LABELS, "--shard", f"{number}/2", "-o", f"{number}.csv")
    assert run("merge", "1.csv", "2.csv", "-o", "all.csv") == 0
    found = read_run(Path("all.csv"))
    assert (len(found.images), found.unreadable, found.labels) == (29, 1, ("0", "90", "170"))
    assert not any(image.missing for image in found.images)


@pytest.mark.parametrize(
    "arguments", [("s3://bucket/1.csv", "-o", "all.csv"), ("1.csv", "-o", "https://me:hunter2@a.org/all.csv")]
)
def test_addresses_are_to_be_copied_first(run: Runner, arguments: tuple[str, ...]) -> None:
    assert run("merge", *arguments) == 2
    assert ": merge reads and writes files on disk; copy those of the shards there, with their .run.json" in run.err
    assert "hunter2" not in run.err

"""`zeroshot search` and `zeroshot duplicates` from the arguments to what they print, with angles for images."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zeroshot_cli.cli import app

Draw = Callable[[Path, int], Path]
EXAMPLES = Path(__file__).parents[2] / "examples" / "images"


@dataclass
class Printed:
    """What a command printed, and its exit code."""

    code: int
    out: bytes
    err: str

    @property
    def rows(self) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.out.decode())))

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Printed]:
    def run_command(*arguments: object) -> Printed:
        capfdbinary.readouterr()
        code = app.run([*map(str, arguments)])
        captured = capfdbinary.readouterr()
        return Printed(code, captured.out, captured.err.decode())

    return run_command


@pytest.fixture(autouse=True)
def photos(angles: list[tuple[int, ...]], draw_angle: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five images in a folder, named by their angles; the model is the one of angles."""
    monkeypatch.chdir(tmp_path)
    for degrees in (0, 30, 60, 90, 180):
        draw_angle(Path("photos", f"{degrees:03d}.png"), degrees)


def names(lines: list[str]) -> list[str]:
    return [Path(line).stem for line in lines]


# search


def test_the_best_first_as_paths_in_a_pipe(run: Callable[..., Printed]) -> None:
    done = run("search", "70", "photos", "--top", 3)
    assert done.code == 0
    assert done.lines == ["photos/060.png", "photos/090.png", "photos/030.png"]
    assert "3 images of 5 for '70', model small." in done.err


def test_csv_and_jsonl_have_rank_and_cosine(run: Callable[..., Printed]) -> None:
    assert run("search", "60", "photos", "--top", 2, "--format", "csv").out == (
        b"path,rank,score\nphotos/060.png,1,1.000000\nphotos/030.png,2,0.866025\n"  # cos 30°
    )
    lines = run("search", "60", "photos", "--top", 2, "--format", "jsonl").lines
    assert [json.loads(line) for line in lines] == [
        {"path": "photos/060.png", "rank": 1, "score": 1.0},
        {"path": "photos/030.png", "rank": 2, "score": 0.866025},
    ]


def test_equal_scores_stay_in_the_order_of_the_inputs(run: Callable[..., Printed]) -> None:
    shutil.copy("photos/060.png", "photos/000-again.png")
    assert names(run("search", "60", "photos", "--top", 2).lines) == ["000-again", "060"]
    assert names(run("search", "60", "photos/060.png", "photos", "--top", 2).lines) == ["060", "000-again"]


def test_min_score(run: Callable[..., Printed]) -> None:
    done = run("search", "0", "photos", "--min-score", "0.49")
    assert names(done.lines) == ["000", "030", "060"]
    nothing = run("search", "240", "photos", "--min-score", "0.99")
    assert (nothing.code, nothing.out) == (0, b"")
    assert "0 images of 5" in nothing.err


def test_null_between_paths(run: Callable[..., Printed], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("search", "0", "photos", "--top", 2, "-0").out == b"photos/000.png\0photos/030.png\0"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"photos/180.png\0photos/090.png\0")))
    assert run("search", "0", "-", "-0").out == b"photos/090.png\0photos/180.png\0"


def test_a_path_is_printed_byte_for_byte(run: Callable[..., Printed], draw_angle: Draw) -> None:
    odd = os.fsdecode(b"photos/a\xff\nb.png")
    shutil.copy("photos/000.png", odd)
    assert run("search", "0", odd, "-0").out == b"photos/a\xff\nb.png\0"
    assert run("search", "0", odd, "--format", "csv").out.startswith(b'path,rank,score\n"photos/a\xff\nb.png",1,')
    assert json.loads(run("search", "0", odd, "--format", "jsonl").out)["path"] == odd


def test_like_an_image(run: Callable[..., Printed]) -> None:
    done = run("search", "--like", "photos/090.png", "photos", "--top", 3)
    assert names(done.lines) == ["090", "060", "030"]
    assert "like photos/090.png" in done.err


def test_like_and_text_are_averaged(run: Callable[..., Printed]) -> None:
    done = run("search", "30", "--like", "photos/090.png", "photos", "--top", 1)
    assert names(done.lines) == ["060"]


def test_like_is_repeatable(run: Callable[..., Printed]) -> None:
    done = run("search", "--like", "photos/030.png", "--like", "photos/090.png", "photos", "--top", 1)
    assert names(done.lines) == ["060"]


def test_not(run: Callable[..., Printed]) -> None:
    # 90° minus 30° points to 150°
    assert names(run("search", "90", "--not", "30", "photos").lines) == ["180", "090", "060", "030", "000"]
    assert run("search", "90", "--not", "90", "photos").code == 2


def test_output_files(run: Callable[..., Printed]) -> None:
    done = run("search", "60", "photos", "--top", 1, "-o", "a.csv", "-o", "a.jsonl")
    assert done.lines == ["photos/060.png"]
    assert Path("a.csv").read_text() == "path,rank,score\nphotos/060.png,1,1.000000\n"
    assert json.loads(Path("a.jsonl").read_text())["rank"] == 1
    again = run("search", "60", "photos", "-o", "a.csv")
    assert again.code == 2
    assert "--overwrite" in again.err
    assert run("search", "60", "photos", "-o", "a.csv", "--overwrite").code == 0
    assert run("search", "60", "photos", "-o", "a.xml").code == 2


@pytest.mark.parametrize("command", [["search", "60", "photos"], ["duplicates", "photos"]])
def test_a_page(run: Callable[..., Printed], command: list[str]) -> None:
    assert run(*command, "-o", "a.html").code == 0
    text = Path("a.html").read_text()
    assert "photos/060.png" in text
    assert f"zeroshot {command[0]}" in text
    assert run(*command, "-o", "a.html").code == 2


def test_the_second_search_encodes_no_image(run: Callable[..., Printed], angles: list[tuple[int, ...]]) -> None:
    first = run("search", "70", "photos")
    assert angles
    angles.clear()
    assert run("search", "70", "photos").out == first.out


def test_embeddings_files(run: Callable[..., Printed]) -> None:
    for name in ("a.npz", "a.parquet", "a.safetensors"):
        assert run("embed", "photos", "-o", name).code == 0
        assert run("search", "70", name).out == run("search", "70", "photos").out
    both = run("search", "70", "photos/090.png", "a.npz", "--top", 3)
    assert names(both.lines) == ["060", "090", "090"]


def test_embeddings_of_another_model_are_refused(run: Callable[..., Printed]) -> None:
    run("embed", "photos", "-o", "a.npz", "--model", "other")
    done = run("search", "70", "a.npz", "--model", "small")
    assert (done.code, done.out) == (3, b"")
    assert "give --model other" in done.err
    assert run("search", "70", "a.npz").code == 0  # the file names its model


def test_embeddings_of_another_width_are_refused(run: Callable[..., Printed]) -> None:
    np.savez("a.npz", paths=np.array(["a.jpg"]), embeddings=np.eye(1, 3, dtype=np.float32))
    done = run("search", "70", "a.npz")
    assert done.code == 3
    assert "embeddings of 3 numbers" in done.err


def test_embeddings_of_texts_are_no_images(run: Callable[..., Printed]) -> None:
    Path("texts.txt").write_text("10\n20\n")
    run("embed", "--texts", "texts.txt", "-o", "a.npz")
    done = run("search", "70", "a.npz")
    assert done.code == 3
    assert "holds no embeddings of images" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["search"], 2, "nothing to search for"),
        (["search", " ", "photos"], 2, "nothing to search for"),
        (["search", "photos"], 2, "comes first"),
        (["search", "photos", "70"], 2, "the text comes first: zeroshot search 70 photos"),
        (["search", "70"], 2, "no images to search"),
        (["search", "70", "missing"], 2, "missing"),
        (["search", "70", "empty"], 3, "no image found"),
        (["search", "70", "missing.npz"], 2, "cannot read missing.npz"),
        (["search", "--like", "missing.png", "photos"], 2, "--like missing.png"),
        (["search", "--like", "broken.png", "photos"], 3, "--like broken.png cannot be read"),
        (["search", "--like", "photos/000.png"], 2, "no images to search"),
        (["search", "70", "photos", "--top", "0"], 2, "--top"),
        (["search", "70", "photos", "--min-score", "2"], 2, "cosine"),
        (["search", "70", "photos", "--min-score", "nan"], 2, "cosine"),
        (["search", "70", "photos", "--format", "xml"], 2, "--format"),
        (["duplicates"], 2, "IMAGES"),
        (["duplicates", "empty"], 3, "no image found"),
        (["duplicates", "photos", "--threshold", "1.5"], 2, "cosine"),
        (["duplicates", "photos", "--frames", "each"], 2, "compares whole files"),
    ],
)
def test_mistakes(run: Callable[..., Printed], arguments: list[str], code: int, said: str) -> None:
    Path("empty").mkdir()
    Path("broken.png").write_bytes(b"no image")
    done = run(*arguments)
    assert (done.code, done.out) == (code, b"")
    assert said in done.err
    assert "Traceback" not in done.err


def test_unreadable_images_are_named_and_the_others_found(run: Callable[..., Printed]) -> None:
    Path("photos/broken.png").write_bytes(b"no image")
    for command in (["search", "70"], ["duplicates"]):
        done = run(*command, "photos")
        assert done.code == 4
        assert "photos/broken.png: " in done.err
        assert b"broken" not in done.out
        assert run(*command, "photos", "--ignore-errors").code == 0


def test_many_unreadable_images_are_counted(run: Callable[..., Printed]) -> None:
    for number in range(9):
        Path(f"photos/broken{number}.png").write_bytes(b"no image")
    assert "and 4 more; --verbose names all" in run("search", "70", "photos").err
    assert "broken8" in run("search", "70", "photos", "--verbose").err


# duplicates


@pytest.fixture
def copied() -> None:
    """A dog, the same bytes again, the dog at half the size, and a cat."""
    Path("pets").mkdir()
    shutil.copy(EXAMPLES / "cat.jpg", "pets/cat.jpg")
    for name in ("dog", "dog-again"):
        shutil.copy(EXAMPLES / "dog.jpg", f"pets/{name}.jpg")
        os.utime(f"pets/{name}.jpg", (100, 100))
    with Image.open("pets/dog.jpg") as image:
        image.resize((image.width // 2, image.height // 2)).save("pets/a-dog.png")
        size = os.stat("pets/dog.jpg").st_size  # noqa: PTH116
        assert os.stat("pets/a-dog.png").st_size != size  # noqa: PTH116


@pytest.mark.usefixtures("copied")
def test_groups_with_the_file_to_keep_first(run: Callable[..., Printed]) -> None:
    done = run("duplicates", "pets", "--format", "csv")
    assert done.code == 0
    assert {row["group"] for row in done.rows} == {"1"}
    assert {row["path"] for row in done.rows} == {"pets/dog.jpg", "pets/dog-again.jpg", "pets/a-dog.png"}
    sizes = [int(row["size"]) for row in done.rows]
    assert sizes == [Path(row["path"]).stat().st_size for row in done.rows]
    assert sizes[0] == max(sizes)
    assert [row["match"] for row in done.rows].count("keep") == 1
    assert done.rows[0]["match"] == "keep"
    assert all(float(row["score"]) >= 0.96 for row in done.rows)
    assert "4 images, 1 group of copies, 2 images beyond those to keep (" in done.err
    assert "nothing was deleted" in done.err
    assert len(list(Path("pets").iterdir())) == 4


@pytest.mark.usefixtures("copied")
def test_paths_are_those_that_are_not_kept(run: Callable[..., Printed]) -> None:
    kept, *others = (row["path"] for row in run("duplicates", "pets", "--format", "csv").rows)
    assert run("duplicates", "pets").lines == others
    assert run("duplicates", "pets", "-0").out == "".join(f"{path}\0" for path in others).encode()
    assert kept not in others


@pytest.mark.usefixtures("copied")
def test_the_same_bytes_are_a_group_at_any_threshold(run: Callable[..., Printed]) -> None:
    rows = run("duplicates", "pets", "--threshold", "1", "--format", "csv").rows
    assert [(row["path"], row["match"]) for row in rows] == [
        ("pets/dog-again.jpg", "keep"),
        ("pets/dog.jpg", "identical"),
    ]


def test_no_duplicates(run: Callable[..., Printed]) -> None:
    done = run("duplicates", "photos/090.png", "photos/180.png")
    assert (done.code, done.out) == (0, b"")
    assert "2 images, 0 groups of copies" in done.err


def test_names_of_one_file_are_no_copies(run: Callable[..., Printed]) -> None:
    Path("photos/000-link.png").symlink_to("090.png")
    Path("photos/same.png").hardlink_to("photos/090.png")
    done = run("duplicates", "photos/000-link.png", "photos/090.png", "photos/same.png")
    assert (done.code, done.out) == (0, b"")  # what is printed may be deleted


def test_duplicates_need_pixels(run: Callable[..., Printed]) -> None:
    run("embed", "photos", "-o", "a.npz")
    done = run("duplicates", "a.npz")
    assert (done.code, done.out) == (2, b"")
    assert "a.npz has no pixels to compare" in done.err


@pytest.mark.usefixtures("copied")
def test_duplicates_write_files(run: Callable[..., Printed]) -> None:
    run("duplicates", "pets", "-o", "a.csv", "-o", "a.jsonl")
    assert Path("a.csv").read_text().startswith("group,path,match,score,size\n1,pets/")
    rows: list[dict[str, Any]] = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert [row["match"] for row in rows] == ["keep", *[row["match"] for row in rows[1:]]]
    assert {row["group"] for row in rows} == {1}

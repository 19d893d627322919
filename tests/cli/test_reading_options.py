"""--truncated, --frames and --fit: what of an image a command sees."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from zeroshot_cli.cli import app
from zeroshot_cli.images.decode import decode
from zeroshot_cli.images.preprocess import Preprocess, PreprocessConfig
from zeroshot_cli.models.load import load

LABELS = ("--label", "cat", "--label", "dog")
SAME = (*LABELS, "--batch-size", 4)  # a score depends on it

pytestmark = pytest.mark.usefixtures("small_model")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the working directory."""
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(width: int = 60, height: int = 40) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return stream.getvalue()


def animation(path: str = "a.gif") -> str:
    colours = ("black", "red", "lime", "blue")
    first, *others = (Image.new("RGB", (32, 32), colour) for colour in colours)
    first.save(path, save_all=True, append_images=others)
    return path


def run(*arguments: object) -> int:
    return app.run([*map(str, arguments)])


def test_a_truncated_jpeg_is_an_error_or_a_row_with_a_note(classify: Callable[..., Any]) -> None:
    content = jpeg(noise())
    Path("whole.jpg").write_bytes(content)
    Path("end.jpg").write_bytes(content[:-2])
    Path("half.jpg").write_bytes(content[: len(content) // 2])
    paths = ("whole.jpg", "end.jpg", "half.jpg")
    skipped = classify(*paths, *LABELS, "--format", "jsonl")
    assert skipped.code == 4
    assert skipped.objects[2] == {"path": "half.jpg", "error": "the file is truncated"}
    assert skipped.objects[0]["score"] == skipped.objects[1]["score"]
    for _ in range(2):  # the second time what was read whole is cached
        read = classify(*paths, *LABELS, "--format", "jsonl", "--truncated", "read")
        assert read.code == 0
        notes = [item.get("note") for item in read.objects]
        assert notes == [None, None, "truncated: read without the part that is missing"]
        assert "3 images classified, 1 of them truncated, 0 could not be read, model " in read.err
    again = classify(*paths, *LABELS, "--format", "jsonl")
    assert again.out == skipped.out


def test_the_frame_of_an_animation(classify: Callable[..., Any]) -> None:
    path = animation()
    for number, colour in enumerate(("black", "red", "lime", "blue")):
        Image.new("RGB", (32, 32), colour).save(f"{number}.png")
    stills = [row["score"] for row in classify(*(f"{number}.png" for number in range(4)), *SAME).rows]
    for frames, number in (("first", 0), ("middle", 2), ("3", 3), ("1", 1)):
        assert classify(path, *SAME, "--frames", frames).rows[0]["score"] == stills[number]
    ended = classify(path, "0.png", *SAME, "--frames", "each")
    assert [row["path"] for row in ended.rows] == ["a.gif#0", "a.gif#1", "a.gif#2", "a.gif#3", "0.png"]
    assert [row["score"] for row in ended.rows] == [*stills, stills[0]]
    assert classify(path, *SAME).rows[0]["path"] == "a.gif"
    late = classify(path, *SAME, "--frames", "4")
    assert (late.code, late.rows[0]["error"]) == (4, "no frame 4: it has 4, counted from 0 (--frames)")


def test_tables_have_a_column_of_notes_where_there_may_be_some(classify: Callable[..., Any]) -> None:
    content = jpeg(noise())
    Path("whole.jpg").write_bytes(content)
    Path("half.jpg").write_bytes(content[: len(content) // 2])
    outputs = [part for kind in ("csv", "tsv", "parquet") for part in ("--output", f"o.{kind}")]
    ended = classify("whole.jpg", "half.jpg", "gone.jpg", *LABELS, *outputs, "--truncated", "read")
    assert ended.code == 4
    notes = ["", "truncated: read without the part that is missing", ""]
    assert [row["note"] for row in ended.rows] == notes
    assert [row["note"] or "" for row in pq.read_table("o.parquet").to_pylist()] == notes
    assert Path("o.csv").read_bytes() == ended.out
    whole = Path("o.csv").read_bytes()
    Path("o.csv").write_bytes(whole[: whole.rindex(b"gone")])
    Path("o.csv.run.json").write_text(
        Path("o.csv.run.json").read_text().replace('"complete": true', '"complete": false')
    )
    Path("o.tsv").write_bytes(Path("o.tsv").read_bytes()[:-3])
    again = classify("whole.jpg", "half.jpg", "gone.jpg", *LABELS, *outputs, "--truncated", "read", "--resume")
    assert again.code == 4
    assert Path("o.csv").read_bytes() == whole
    assert "note" not in classify("whole.jpg", *LABELS).rows[0]


@pytest.mark.parametrize("value", ["last", "-1", "1.5", "", "²"])
def test_a_frame_that_is_none_is_refused(classify: Callable[..., Any], value: str) -> None:
    ended = classify("a.gif", *LABELS, "--frames", value)
    assert ended.code == 2
    way_out = "use first, middle, each, or a number from 0" if value else "--frames has an empty value; give one"
    assert way_out in ended.err


def test_frames_are_not_filed(classify: Callable[..., Any]) -> None:
    ended = classify(animation(), *LABELS, "--frames", "each", "--sort-into", "out")
    assert ended.code == 2
    assert "--sort-into files images, and --frames each labels their frames; omit one of them" in ended.err
    assert not Path("out").exists()


def test_resume_wants_the_same_reading(classify: Callable[..., Any]) -> None:
    animation()
    assert classify("a.gif", *LABELS, "--output", "o.csv").code == 0
    for option, value in (("--frames", "middle"), ("--fit", "pad"), ("--truncated", "read")):
        ended = classify("a.gif", *LABELS, "--output", "o.csv", "--resume", option, value)
        assert ended.code == 2
        assert f"{option[2:]} was not set in the run that wrote o.csv and is {value} now" in ended.err
    assert classify("a.gif", *LABELS, "--output", "o.csv", "--resume", "--frames", "first").code == 0


def test_fit_gives_the_model_the_whole_of_a_panorama(classify: Callable[..., Any], model_folder: Path) -> None:
    noise(400, 100).save("wide.png")
    model = load(str(model_folder), device="cpu", precision="fp32")
    config = model.preprocess.config
    shown = {}
    for fit, mode in (("crop", "shortest"), ("pad", "longest"), ("squash", "squash")):
        assert run("embed", "wide.png", "-o", f"{fit}.npz", "--fit", fit, "--batch-size", 1, "--exact-decode") == 0
        shown[fit] = np.load(f"{fit}.npz")["embeddings"][0]
        fitting = PreprocessConfig.from_dict({**config.to_dict(), "resize_mode": mode})
        pixels = Preprocess(fitting)(decode("wide.png"))[None]
        np.testing.assert_allclose(shown[fit], model.encode_images(pixels)[0].numpy(), atol=1e-5)
    assert run("embed", "wide.png", "-o", "default.npz", "--batch-size", 1, "--exact-decode") == 0
    np.testing.assert_array_equal(np.load("default.npz")["embeddings"][0], shown["crop"])
    for one, other in (("crop", "pad"), ("pad", "squash"), ("squash", "crop")):
        assert not np.allclose(shown[one], shown[other])


def test_eval_reads_as_classify_does(capfd: pytest.CaptureFixture[str]) -> None:
    for label, colour in (("cat", "red"), ("dog", "blue")):
        Path(f"data/{label}").mkdir(parents=True)
        Image.new("RGB", (32, 32), colour).save(f"data/{label}/a.png")
    content = jpeg(noise())
    Path("data/dog/half.jpg").write_bytes(content[: len(content) // 2])
    assert run("eval", "data", "--output", "skip.json") == 4
    assert (
        run("eval", "data", "--output", "read.json", "--truncated", "read", "--frames", "middle", "--fit", "pad") == 0
    )
    skip, read = (json.loads(Path(name).read_text()) for name in ("skip.json", "read.json"))
    assert (skip["n"], read["n"]) == (2, 3)
    assert run("eval", "data", "--frames", "each") == 2
    assert "--frames each has several images for one label" in capfd.readouterr().err


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
def test_an_image_of_an_extreme_shape_is_in_the_report(classify: Callable[..., Any], size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save("thin.png")
    noise().save("a.png")
    ended = classify("thin.png", "a.png", *LABELS, "--output", "o.html")
    assert ended.code == 0
    assert "thin.png" in Path("o.html").read_text()

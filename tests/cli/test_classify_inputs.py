"""What `zeroshot classify` is given: names of any bytes, bad files, pictures that harm a decoder, large JPEGs."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from zeroshot_cli import load
from zeroshot_cli.images import decoder_pool as decoders

pytestmark = pytest.mark.usefixtures("small_model")
LABELS = ["--label", "cat", "--label", "dog", "--label", "horse"]

# A file's name says what reading it does to the process.
MISBEHAVING = """
import io, os, signal, time
from zeroshot_cli.images import decoder_process as decoder
read = decoder.read_image
def misbehave(file, how, **options):
    name = "" if isinstance(file, io.BytesIO) else os.path.basename(os.readlink(f"/proc/self/fd/{file.fileno()}"))
    if "crash" in name: os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in name: time.sleep(60)
    return read(file, how, **options)
decoder.read_image = misbehave
decoder.main()
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p").mkdir()


def draw(path: str | bytes, seed: int = 0, size: tuple[int, int] = (40, 30), **options: Any) -> str:
    """A picture of noise; its path."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    with open(path, "wb") as file:  # noqa: PTH123 (bytes)
        Image.fromarray(pixels).save(file, "JPEG" if os.fsdecode(path).endswith("jpg") else "PNG", **options)
    return os.fsdecode(path)


def stdin_of(monkeypatch: pytest.MonkeyPatch, paths: list[bytes]) -> None:
    content = b"".join(path + b"\0" for path in paths)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))


# names

NAMES = [
    b"with two  spaces.png",
    b" .png",
    b"new\nline.png",
    b"carriage\rreturn.png",
    b"latin-1 caf\xe9 \xff.png",
    b"-rf.png",
    b"\"double\", 'single'.png",
    b"tab\tand\\backslash.png",
    b"<img src=x onerror=alert(1)>.png",
    b"=1+1.png",
    b"[x]*?.png",
    b"%s {0} $HOME `id`.png",
    b"\x1b[31mred.png",
    "\U0001f600 e\u0301 \u2028.png".encode(),
    b"n" * 251 + b".png",
]


@pytest.mark.parametrize("way", ["folder", "stdin", "arguments"])
def test_paths_of_any_bytes_are_written_byte_for_byte(
    way: str, classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [b"p/" + name for name in NAMES]
    for number, path in enumerate(paths):
        draw(path, number)
    stdin_of(monkeypatch, paths)
    inputs = {"folder": ["p"], "stdin": ["-", "-0"], "arguments": ["--", *map(os.fsdecode, paths)]}[way]
    files = [part for ending in ("jsonl", "tsv", "parquet", "html") for part in ("--output", f"out.{ending}")]
    ended = classify(*LABELS, *files, *inputs)
    assert ended.err.splitlines() == [
        "wrote out.jsonl, out.tsv, out.parquet, out.html",
        f"{len(NAMES)} images classified, 0 could not be read, model {os.environ['ZEROSHOT_MODEL']}.",
    ]
    assert ended.code == 0
    expected = sorted(paths) if way == "folder" else paths
    assert [os.fsencode(row["path"]) for row in ended.rows] == expected
    objects = [json.loads(line) for line in Path("out.jsonl").read_bytes().splitlines()]
    assert [os.fsencode(item["path"]) for item in objects] == expected
    escaped = [path.decode("utf-8", "backslashreplace") for path in expected]
    assert pq.read_table("out.parquet").column("path").to_pylist() == escaped
    report = Path("out.html").read_text()
    assert "<img src=x" not in report
    assert "\\u003cimg src=x onerror=alert(1)\\u003e.png" in report


def test_a_leading_dash_after_two_dashes(classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("p")
    draw("-x.png")
    draw("--label")
    ended = classify(*LABELS, "--", "-x.png", "--label")
    assert ended.code == 0
    assert [row["path"] for row in ended.rows] == ["-x.png", "--label"]
    ended = classify(*LABELS, "-x.png")
    assert ended.code == 2
    assert ended.err.count("\n") == 1


def test_lines_on_standard_input_and_an_input_named_twice(
    classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw("p/a.png")
    draw("p/b.png", 1)
    lines = b"p/b.png\np/a.png\r\n\n./p/b.png\np/none.png\n"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
    ended = classify("-", "p", *LABELS)
    assert [row["path"] for row in ended.rows] == ["p/b.png", "p/a.png", "p/none.png"]
    assert ended.code == 4


# bad files


def test_a_hundred_bad_files_among_a_hundred_good_ones(
    classify: Callable[..., Any],
    bad_files: Callable[[Path], dict[str, str]],
    good_files: Callable[[Path], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = good_files(Path("good"))
    setting = [*LABELS, "--batch-size", 32, "--top-k", 2]
    alone = classify("good", *setting)
    assert (alone.code, len(alone.rows)) == (0, 200)
    for path in good:
        Path(path).rename(Path("p", Path(path).name))
    reasons = bad_files(Path("p"))
    together = classify("p", "--all-files", *setting)
    assert together.code == 4
    assert together.err == f"100 images classified, 100 could not be read, model {os.environ['ZEROSHOT_MODEL']}.\n"
    _check_mixed(together, alone.out.replace(b"good/", b"p/"), reasons)
    paths = [*dict.fromkeys(row["path"] for row in together.rows)]
    assert paths == sorted(paths)
    stdin_of(monkeypatch, [os.fsencode(path) for path in paths])
    listed = classify("-", "-0", *setting)
    assert (listed.code, listed.err, listed.out) == (together.code, together.err, together.out)
    # Another order makes other batches, and nothing else.
    stdin_of(monkeypatch, [os.fsencode(path) for path in paths[::-1]])
    turned = classify("-", "-0", *setting, "--ignore-errors", "--no-cache")
    assert turned.code == 0
    assert sorted(map(tuple, map(dict.values, turned.rows))) == sorted(map(tuple, map(dict.values, together.rows)))


def _check_mixed(ended: Any, good_alone: bytes, reasons: dict[str, str]) -> None:
    """One row for each bad file, with its reason; the rows of the good ones as in a run of their own."""
    bad = {row["path"]: row for row in ended.rows if row["error"]}
    assert bad.keys() == reasons.keys()
    assert sum(bool(row["error"]) for row in ended.rows) == 100
    for path, row in bad.items():
        assert reasons[path] in row["error"], path
        assert "\n" not in row["error"]
        assert row["rank"] == row["label"] == row["score"] == row["probability"] == ""
    lines = [
        line
        for line in ended.out.splitlines(keepends=True)
        if b",cat," in line or b",dog," in line or b",horse," in line
    ]
    assert b"".join([b"path,rank,label,score,probability,error\n", *lines]) == good_alone


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crash.png", "the decoder crashed on it (SIGSEGV)"),
        ("hang.png", "decoding took longer than 2 seconds (--decode-timeout)"),
    ],
)
def test_a_decoder_that_crashes_or_hangs_costs_one_image(
    name: str, reason: str, classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "PROGRAM", MISBEHAVING)
    for number in range(6):
        draw(f"p/{number}.png", number)
    expected = classify("p", *LABELS, "--batch-size", 4).rows
    draw(f"p/3 {name}", 9)
    files = ["--output", "out.html", "--output", "out.jsonl"]
    ended = classify("p", *LABELS, "--batch-size", 4, "--no-cache", "--decode-timeout", 2, *files)
    assert ended.code == 4
    assert ended.err.splitlines() == [
        "wrote out.jsonl, out.html",
        f"6 images classified, 1 could not be read, model {os.environ['ZEROSHOT_MODEL']}.",
    ]
    assert [(row["path"], row["error"]) for row in ended.rows if row["error"]] == [(f"p/3 {name}", reason)]
    assert [row for row in ended.rows if not row["error"]] == expected
    assert {"path": f"p/3 {name}", "error": reason} in map(json.loads, Path("out.jsonl").read_text().splitlines())
    assert Path("out.html").read_text().count('id="thumbnail-') == 6


@pytest.mark.parametrize("value", ["0", "-1", "nan", "soon"])
def test_a_timeout_that_cannot_be(value: str, classify: Callable[..., Any]) -> None:
    ended = classify("p", *LABELS, "--decode-timeout", value)
    assert ended.code == 2
    assert "--decode-timeout" in ended.err


# pixels


def test_max_pixels_is_a_limit_for_this_run_with_and_without_cache(classify: Callable[..., Any]) -> None:
    draw("p/a.png", size=(40, 30))
    draw("p/b.png", size=(40, 31))
    assert classify("p", *LABELS).code == 0
    reason = "1,240 pixels, more than the limit of 1,200 (--max-pixels)"
    for option in ("--cache", "--no-cache", "--cache"):
        ended = classify("p", *LABELS, "--max-pixels", 1200, option)
        assert ended.code == 4
        assert [reason in row["error"] for row in ended.rows] == [False, True], option
    assert classify("p", *LABELS).code == 0


def test_exact_decode_changes_nothing_for_small_files(classify: Callable[..., Any]) -> None:
    for number in range(4):
        draw(f"p/{number}.jpg", number, size=(60, 50))
        draw(f"p/{number}.png", number, size=(60, 50))
    usual = classify("p", *LABELS, "--format", "jsonl", "--no-cache")
    exact = classify("p", *LABELS, "--format", "jsonl", "--no-cache", "--exact-decode")
    assert usual.code == exact.code == 0
    assert usual.out == exact.out


def photo(path: str, seed: int) -> None:
    """Soft waves of colour, as photographs have them, of 800 × 600."""
    x, y = np.meshgrid(np.linspace(0, 3, 800), np.linspace(0, 2, 600))
    waves = np.random.default_rng(seed).uniform(0, 3, (3, 3))
    pixels = np.stack([np.sin(a * x + b * y + c) * 100 + 128 for a, b, c in waves], axis=2)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=90)


@pytest.mark.parametrize("cache", ["--cache", "--no-cache"])
def test_exact_decode_of_large_jpegs_gives_other_scores_that_are_close(
    cache: str, classify: Callable[..., Any], model_folder: Path
) -> None:
    """What is exact is exact: Pillow and torch, without any pipeline, say the same."""
    for number in range(3):
        photo(f"p/{number}.jpg", number)
    names = ["cat", "dog", "horse"]
    command = ["p", *LABELS, "--prompts", "plain", "--top-k", 3, "--format", "jsonl", cache]
    usual, exact = (
        np.array([[score_of(item, name) for name in names] for item in classify(*command, *option).objects])
        for option in ([], ["--exact-decode"])
    )
    assert (usual != exact).any(axis=1).all()
    np.testing.assert_allclose(usual, exact, atol=0.02)
    model = load(str(model_folder), device="cpu", precision="fp32")
    with torch.inference_mode():
        pixels = torch.stack([model.preprocess(Image.open(f"p/{number}.jpg")) for number in range(3)])
        images, texts = model.model.encode_image(pixels), model.model.encode_text(model.tokenizer(names))
        expected = torch.cosine_similarity(images[:, None], texts[None], dim=2).numpy()
    np.testing.assert_allclose(exact, expected, atol=2e-6)


def score_of(item: dict[str, Any], name: str) -> float:
    return next(float(best["score"]) for best in item["predictions"] if best["label"] == name)


# batches


def test_other_neighbours_and_batches_of_1_7_and_64(classify: Callable[..., Any]) -> None:
    """To the byte at one batch size; across sizes to 1e-6, and one unit of the last of six digits more."""
    for number in range(20):
        draw(f"p/{number:02}.png", number)
    found = {}
    for size in (1, 7, 64):
        command = [*LABELS, "--top-k", 3, "--format", "jsonl", "--no-cache", "--batch-size", size]
        together = classify("p", *command).out.splitlines()
        some = [f"p/{number:02}.png" for number in (13, 4, 19, 0)]
        assert classify(*some, *command).out.splitlines() == [together[13], together[4], together[19], together[0]]
        assert classify("p/07.png", *command).out.splitlines() == together[7:8]
        items = [json.loads(line) for line in together]
        found[size] = np.array([[score_of(item, name) for name in ("cat", "dog", "horse")] for item in items])
    for size in (7, 64):
        np.testing.assert_allclose(found[size], found[1], atol=2e-6, rtol=0)

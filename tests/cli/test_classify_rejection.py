"""Rejection and several labels in every output form, with angles: cosines and probabilities are known by hand.

Pictures of 10, 29 and 200 degrees, labels of 0, 60 and 120; probabilities are the softmax of 10 × cosine.

    10 degrees   cos 10 = .9848, cos 50 = .6428, cos 110 = -.3420; lead .3420; 1 / (1 + exp(-3.420)) = .9683
    29 degrees   cos 29 = .8746, cos 31 = .8572, cos 91 = -.0175; lead .0175; 1 / (1 + exp(-.1745) + …) = .5435
    200 degrees  cos 80 = .1736, cos 140 = -.7660, cos 200 = -.9397; lead .9397; 1 / (1 + exp(-9.397) + …) = .9999
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from zeroshot_cli.classify import negatives
from zeroshot_cli.cli import app
from zeroshot_cli.words import common_nouns
from zeroshot_cli.words.labels import Labels

SETTING = ["--label", "0", "--label", "60", "--label", "120", "--prompts", "plain", "--batch-size", "4"]
PATHS = ["p/010.png", "p/029.png", "p/200.png"]
FILES = [part for ending in ("csv", "tsv", "jsonl", "parquet", "html") for part in ("--output", f"out.{ending}")]
WROTE = "wrote out.csv, out.tsv, out.jsonl, out.parquet, out.html\n"


@pytest.fixture(autouse=True)
def _folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_angle: Callable[[Path, int], Path], angles: list[Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in PATHS:
        draw_angle(Path(path), int(Path(path).stem))
    Path("behind.csv").write_text("label,prompt\n180,180\n270,270\n")
    Path("ninety.csv").write_text("label,prompt\n90,90\n")


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ([], ["0", "0", "120"]),
        (["--min-score", "0.1737"], ["0", "0", "unknown"]),
        (["--min-score", "0.1736"], ["0", "0", "120"]),
        (["--min-score", "0.9"], ["0", "unknown", "unknown"]),
        (["--min-probability", "0.968"], ["0", "unknown", "120"]),
        (["--min-probability", "0.969"], ["unknown", "unknown", "120"]),
        (["--min-margin", "0.0174"], ["0", "0", "120"]),
        (["--min-margin", "0.0175"], ["0", "unknown", "120"]),
        (["--min-margin", "0.3421"], ["unknown", "unknown", "120"]),
        (["--background", "behind.csv"], ["0", "0", "unknown"]),  # 180 is 20 degrees from 200
        (["--background", "ninety.csv"], ["0", "0", "120"]),
        (["--min-score", "0.1737", "--min-margin", "0.0175"], ["0", "unknown", "unknown"]),
        (["--background", "behind.csv", "--min-probability", "0.9"], ["0", "unknown", "unknown"]),
    ],
)
def test_rejection_is_the_same_in_every_form(
    options: list[str], labels: list[str], classify: Callable[..., Any]
) -> None:
    ended = classify("p", *SETTING, *options, *FILES)
    assert ended.code == 0
    unknown = labels.count("unknown")
    counts = f"3 images classified,{f' {unknown} of them unknown,' if unknown else ''} 0 could not be read"
    many = "warning: with this background, 2 of 3 images are unknown; if that is too many, look at some of them: its "
    doubt = f"{many}labels may be too near to yours\n" if "--background" in options and unknown > 1 else ""
    assert ended.err == f"{doubt}{WROTE}{counts}, model small.\n"
    rows = ended.rows
    assert [row["label"] for row in rows] == labels
    # The numbers are those of the nearest label, whatever it is called.
    assert [float(row["score"]) for row in rows] == pytest.approx([0.984808, 0.874620, 0.173648], abs=2e-6)
    assert [float(row["probability"]) for row in rows] == pytest.approx([0.968326, 0.543481, 0.999900], abs=2e-5)
    assert [row["rank"] for row in rows] == ["1"] * 3
    assert Path("out.csv").read_bytes() == ended.out
    assert Path("out.tsv").read_bytes() == ended.out.replace(b",", b"\t")
    objects = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [item["label"] for item in objects] == labels
    assert [item.get("nearest") for item in objects] == [
        near if label == "unknown" else None for label, near in zip(labels, ["0", "0", "120"], strict=True)
    ]
    assert [item["margin"] for item in objects] == pytest.approx([0.342020, 0.017452, 0.939692], abs=1e-5)
    assert pq.read_table("out.parquet").column("label").to_pylist() == labels
    assert '"rejected":true' in Path("out.html").read_text() or not unknown


def test_a_table_calls_it_unknown(classify: Callable[..., Any]) -> None:
    ended = classify("p", *SETTING, "--min-score", 0.5, "--format", "table")
    assert [line.split() for line in ended.out.decode().splitlines()[2:]] == [
        ["p/010.png", "0", "0.9848", "0.9683"],
        ["p/029.png", "0", "0.8746", "0.5435"],
        ["p/200.png", "unknown", "0.1736", "0.9999"],
    ]


def test_a_rejected_image_is_one_row_whatever_top_k_and_keeps_the_nearest_in_jsonl(
    classify: Callable[..., Any],
) -> None:
    ended = classify("p", *SETTING, "--min-score", 0.5, "--top-k", 2, "--output", "out.jsonl")
    assert [(row["path"], row["rank"], row["label"]) for row in ended.rows] == [
        (PATHS[0], "1", "0"),
        (PATHS[0], "2", "60"),
        (PATHS[1], "1", "0"),
        (PATHS[1], "2", "60"),
        (PATHS[2], "1", "unknown"),
    ]
    last = json.loads(Path("out.jsonl").read_text().splitlines()[-1])
    assert (last["label"], last["nearest"]) == ("unknown", "120")
    assert [best["label"] for best in last["predictions"]] == ["120", "60"]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def cosine(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def test_labels_judged_one_by_one_in_every_form(
    classify: Callable[..., Any], draw_angle: Callable[[Path, int], Path]
) -> None:
    """Each label against the background at 90 degrees: sigmoid(10 × (cosine - cosine of the background))."""
    draw_angle(Path("p/090.png"), 90)  # cos 30 is less than cos 0, the background's
    command = ["p", *SETTING, "--multi-label", "--background", "ninety.csv"]
    ended = classify(*command, *FILES)
    counts = "4 images classified, 1 of them unknown, 0 could not be read"
    assert (ended.code, ended.err) == (0, f"{WROTE}{counts}, model small.\n")
    expected = [
        ("p/010.png", "1", "0", 10, 80),
        ("p/010.png", "2", "60", 50, 80),
        ("p/029.png", "1", "0", 29, 61),
        ("p/029.png", "2", "60", 31, 61),
        ("p/090.png", "1", "unknown", 30, 0),
        ("p/200.png", "1", "120", 80, 110),
    ]
    found = [(row["path"], row["rank"], row["label"]) for row in ended.rows]
    assert found == [row[:3] for row in expected]
    scores = [cosine(away) for *_, away, _ in expected]
    chances = [sigmoid(10 * (cosine(away) - cosine(behind))) for *_, away, behind in expected]
    assert [float(row["score"]) for row in ended.rows] == pytest.approx(scores, abs=2e-6)
    assert [float(row["probability"]) for row in ended.rows] == pytest.approx(chances, abs=2e-5)
    table = pq.read_table("out.parquet").to_pylist()
    assert [(row["path"], str(row["rank"]), row["label"]) for row in table] == found
    objects = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [[best["label"] for best in item["predictions"]] for item in objects if "nearest" not in item] == [
        ["0", "60"],
        ["0", "60"],
        ["120"],
    ]
    assert [item["nearest"] for item in objects if "nearest" in item] == ["60"]
    lines = classify(*command, "--format", "table").out.decode().splitlines()[2:]
    assert [line.split()[-4:-2] for line in lines] == [[rank, label] for _, rank, label, *_ in expected]


def test_top_k_and_min_probability_narrow_several_labels(classify: Callable[..., Any]) -> None:
    command = ["p/010.png", *SETTING, "--multi-label", "--background", "ninety.csv"]
    assert [row["label"] for row in classify(*command, "--top-k", 1).rows] == ["0"]
    # sigmoid(10 × (cos 50 - cos 80)) = .9909
    assert [row["label"] for row in classify(*command, "--min-probability", 0.99).rows] == ["0", "60"]
    assert [row["label"] for row in classify(*command, "--min-probability", 0.992).rows] == ["0"]
    assert [row["label"] for row in classify(*command, "--min-probability", 1).rows] == ["unknown"]


def test_an_unknown_label_is_a_label_where_nothing_is_rejected(
    classify: Callable[..., Any], draw_angle: Callable[[Path, int], Path]
) -> None:
    Path("labels.json").write_text('{"unknown": {"prompts": ["0"]}, "60": {"prompts": ["60"]}}')
    ended = classify("p/010.png", "--labels", "labels.json")
    assert [row["label"] for row in ended.rows] == ["unknown"]
    assert ended.err == "1 image classified, 0 could not be read, model small.\n"


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        ["--min-score", "0"],
        ["--min-probability", "0"],
        ["--min-margin", "0"],
        ["--background", "behind.csv"],
        ["--multi-label", "--background", "ninety.csv"],
    ],
)
def test_a_label_named_unknown_is_refused_where_images_may_be_rejected(
    options: list[str], existing: bool, classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroshot_cli.models.load.load", None)  # it is said before the model is loaded
    Path("labels.json").write_text('{"unknown": {"prompts": ["0"]}, "60": {"prompts": ["60"]}}')
    if existing:
        Path("out.csv").write_text("old")
    ended = classify("p", "--labels", "labels.json", *options, "--output", "out.csv", "--overwrite")
    assert (ended.code, ended.out) == (3, b"")
    assert "the label 'unknown' is reserved for rejected images; rename that label" in ended.err
    assert ended.err.count("\n") == 1
    assert Path("out.csv").read_text() == "old" if existing else not Path("out.csv").exists()


def test_a_background_label_may_not_be_one_to_choose(classify: Callable[..., Any]) -> None:
    ended = classify("p", *SETTING, "--label", "90", "--background", "ninety.csv", "--output", "out.csv")
    assert (ended.code, ended.out) == (3, b"")
    assert ended.err == "error: ninety.csv: '90' is also a label to choose from; remove one of them\n"
    assert not Path("out.csv").exists()


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--label", "0", "--min-margin", "0.1"], 2, "with one label, omit it"),
        ([*SETTING, "--multi-label", "--min-margin", "0.1"], 2, "--min-margin cannot be used with --multi-label"),
        ([*SETTING, "--min-score", "1.5"], 2, "1.5 is not a cosine; give a number from -1 to 1"),
        ([*SETTING, "--min-score", "nan"], 2, "nan is not a cosine"),
        ([*SETTING, "--min-probability", "-0.1"], 2, "-0.1 is not a probability; give a number from 0 to 1"),
        ([*SETTING, "--min-probability", "90%"], 2, "'90%'"),
        ([*SETTING, "--min-margin", "inf"], 2, "inf is not a cosine"),
        ([*SETTING, "--background", "none.txt"], 2, "none.txt"),
        ([*SETTING, "--background", "empty.txt"], 3, "empty.txt"),
        ([*SETTING, "--top-k", "0"], 2, "--top-k"),
    ],
)
def test_rules_that_cannot_be_end_before_the_model_is_loaded(
    options: list[str], code: int, sentence: str, classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroshot_cli.models.load.load", None)
    Path("empty.txt").touch()
    ended = classify("p", *options)
    assert (ended.code, ended.out) == (code, b"")
    assert sentence in ended.err
    assert ended.err.count("\n") == 1


def test_a_background_of_common_nouns(
    classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, draw_angle: Callable[[Path, int], Path]
) -> None:
    """Every third degree is a noun; for labels from 0 to 120, half of them are those around 240, from 155 to 325."""
    for module in (negatives, common_nouns):
        monkeypatch.setattr(module, "common_nouns", lambda: Labels.of(map(str, range(0, 360, 3))))
    Path("auto").write_text("0\n")  # no label file: it has no extension
    command = ["p", *SETTING, "--background", "auto"]
    ended = classify(*command, "--output", "out.csv", "--output", "out.html")
    first, wrote, last = ended.err.splitlines()  # one of three is unknown: no warning
    assert wrote == "wrote out.csv, out.html"
    assert first == "--background auto encodes 120 common nouns, once; the cache keeps them."
    assert last == "3 images classified, 1 of them unknown, 0 could not be read, model small."
    assert [row["label"] for row in ended.rows] == ["0", "0", "unknown"]
    assert json.loads(Path("out.csv.run.json").read_text())["settings"]["background"] == ["auto"]
    assert '["background","auto"]' in Path("out.html").read_text()

    again = classify(*command, "--output", "out.csv", "--output", "out.html", "--resume")
    assert (again.code, Path("out.csv").read_bytes()) == (0, ended.out)
    assert "encodes" not in again.err  # the cache has them
    other = classify(*command[:-1], "ninety.csv", "--output", "out.csv", "--output", "out.html", "--resume")
    assert (other.code, "background" in other.err) == (2, True)

    draw_angle(Path("p/201.png"), 201)
    most = classify("p/200.png", "p/010.png", "p/201.png", *command[1:])
    assert "warning: with this background, 2 of 3 images are unknown; if that is too many, name what else" in most.err
    Path("p/201.png").unlink()

    app.run(["build", *SETTING[:-2], "--output", "c.safetensors"])
    ended = classify("p", "--classifier", "c.safetensors", "--background", "auto", "--batch-size", 4)
    assert [row["label"] for row in ended.rows] == ["0", "0", "unknown"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--multi-label"], "--background auto cannot be used with --multi-label, where every label is judged"),
        (["--label", "unknown"], "the label 'unknown' is reserved for rejected images; rename that label"),
    ],
)
def test_what_a_background_of_common_nouns_does_not_go_with(
    options: list[str], message: str, classify: Callable[..., Any]
) -> None:
    ended = classify("p", *SETTING, "--background", "auto", *options)
    assert ended.code in (2, 3)
    assert ended.err.startswith(f"error: {message}")
    assert ended.err.count("\n") == 1

"""Groups of labels in every output, with angles: pictures of 10, 29 and 200 degrees, as in test_classify_rejection.py.

Labels of 0 and 60 degrees are near, that of 120 is far. At 29 degrees the label 0 has a probability of .5435, and near
.9999: exp(8.746) + exp(8.572) against exp(-.175), at a logit scale of 10.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from zeroshot_cli.cli import app

PATHS = ["p/010.png", "p/029.png", "p/200.png"]
SETTING = ["--labels", "labels.csv", "--prompts", "plain", "--batch-size", "4"]
COSINES = [math.cos(math.radians(angle)) for angle in (29, 31, 91)]
WEIGHTS = [math.exp(10 * cosine) for cosine in COSINES]
NEAR = sum(WEIGHTS[:2]) / sum(WEIGHTS)


@pytest.fixture(autouse=True)
def _folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_angle: Callable[[Path, int], Path], angles: list[Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in PATHS:
        draw_angle(Path(path), int(Path(path).stem))
    Path("labels.csv").write_text("label,prompt,group\n0,0,here/near\n120,120,here/far\n60,60,here/near\n")
    Path("flat.csv").write_text("label,prompt\n0,0\n60,60\n120,120\n")


def test_every_output_has_the_path_of_groups(classify: Callable[..., Any]) -> None:
    files = [part for end in ("csv", "tsv", "jsonl", "parquet", "html") for part in ("-o", f"out.{end}")]
    finished = classify("p", *SETTING, "--min-probability", 0.9, "--top-k", 2, *files)
    assert finished.code == 0
    text = Path("out.csv").read_text()
    assert text.splitlines()[0] == "path,rank,label,score,probability,error,group"
    found = [(row["path"], row["rank"], row["label"], row["group"]) for row in finished.rows]
    assert found == [
        ("p/010.png", "1", "0", "here/near"),
        ("p/010.png", "2", "60", "here/near"),
        ("p/029.png", "1", "near", "here/near"),
        ("p/029.png", "2", "0", "here/near"),
        ("p/200.png", "1", "120", "here/far"),
        ("p/200.png", "2", "60", "here/near"),
    ]
    group = finished.rows[2]
    assert float(group["probability"]) == pytest.approx(NEAR, abs=1e-6)
    assert float(group["score"]) == pytest.approx(COSINES[0], abs=1e-6)
    assert Path("out.tsv").read_text() == text.replace(",", "\t")
    item = json.loads(Path("out.jsonl").read_text().splitlines()[1])
    assert (item["label"], item["group"]) == ("near", "here/near")
    assert [each["group"] for each in item["predictions"]] == ["here/near", "here/near"]
    assert pq.read_table("out.parquet").column("group").to_pylist() == [row[3] for row in found]
    assert '["near",' in Path("out.html").read_text()
    assert '"here/near"]' in Path("out.html").read_text()


def test_labels_without_groups_have_no_such_column(classify: Callable[..., Any]) -> None:
    finished = classify("p", "--labels", "flat.csv", *SETTING[2:], "-o", "out.jsonl")
    assert finished.out.splitlines()[0] == b"path,rank,label,score,probability,error"
    assert b"group" not in Path("out.jsonl").read_bytes()


def test_a_level_answers_in_its_groups_and_files_by_them(classify: Callable[..., Any]) -> None:
    finished = classify("p", *SETTING, "--level", 2, "--sort-into", "sorted", "--format", "table")
    rows = [line.split() for line in finished.out.decode().splitlines()]
    assert rows[0] == ["path", "label", "score", "probability", "group"]
    assert [(row[0], row[1], row[-1]) for row in rows[2:]] == [
        ("p/010.png", "near", "here/near"),
        ("p/029.png", "near", "here/near"),
        ("p/200.png", "far", "here/far"),
    ]
    assert sorted(str(path) for path in Path("sorted").glob("*/*")) == [
        "sorted/far/200.png",
        "sorted/near/010.png",
        "sorted/near/029.png",
    ]
    assert classify("p", *SETTING, "--level", 2, "--sort-into", "sorted").code == 0  # again the same folders


def test_an_image_is_unknown_where_no_group_is_sure_enough(classify: Callable[..., Any]) -> None:
    rows = classify("p/029.png", *SETTING, "--min-probability", 0.99999).rows
    assert [(row["label"], row["group"]) for row in rows] == [("unknown", "")]


@pytest.mark.parametrize("option", ["--classifier", "--labels"])
def test_a_built_classifier_has_the_groups(option: str, classify: Callable[..., Any]) -> None:
    options = SETTING
    if option == "--classifier":
        assert app.run(["build", *SETTING[:4], "-o", "a.classifier"]) == 0
        options = ["--classifier", "a.classifier", *SETTING[4:]]
    rows = classify("p", *options, "--min-probability", 0.9).rows
    assert [row["label"] for row in rows] == ["0", "near", "120"]


def test_a_run_is_resumed_with_the_same_groups_only(classify: Callable[..., Any]) -> None:
    command = (*SETTING, "--min-probability", 0.9, "-o", "out.csv", "-o", "out.html")
    assert classify("p", *command).code == 0
    whole = Path("out.csv").read_bytes()
    record = Path("out.csv.run.json")
    fields = json.loads(record.read_text())
    record.write_text(json.dumps(fields | {"complete": False, "counts": None, "to_make": []}))
    Path("out.csv").write_bytes(whole[: whole.index(b"p/200")])
    assert classify("p", *command, "--resume").code == 0
    assert Path("out.csv").read_bytes() == whole
    Path("labels.csv").write_text("label,prompt,group\n0,0,here/close\n120,120,here/far\n60,60,here/close\n")
    refused = classify("p", *command, "--resume")
    assert (refused.code, "groups was" in refused.err) == (2, True)
    Path("labels.csv").write_text("label,prompt,group\n0,0,here/near\n120,120,here/far\n60,60,here/near\n")
    refused = classify("p", *command, "--resume", "--level", 2)
    assert (refused.code, "level was not set" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--level", 0], 2, "'--level': Input should be greater than or equal to 1"),
        (["--level", 1], 2, "--level 1 leaves one answer, 'here', for every image; give --level 2, or omit it"),
        (["--level", 2, "--multi-label"], 2, "--multi-label judges every label on its own; omit one of them"),
        (
            ["--labels", "flat.csv", "--level", 1],
            2,
            "these labels have none; nest them in a .yaml file",
        ),
        (["--label", "far"], 3, "'far' is a label, and 'here/far' is a group; rename one"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: list[Any], code: int, words: str, classify: Callable[..., Any]
) -> None:
    refused = classify("p", *SETTING, *options, "-o", "out.csv")
    assert refused.code == code
    assert words in " ".join(refused.err.split())
    assert not Path("out.csv").exists()


def test_other_options_work_with_groups(classify: Callable[..., Any]) -> None:
    Path("behind.csv").write_text("label,prompt\n180,180\n")
    every = ("--multi-label", "--background", "behind.csv", "--min-probability", 0)
    rows = classify("p/010.png", *SETTING, *every).rows
    assert {(row["label"], row["group"]) for row in rows} == {
        ("0", "here/near"),
        ("60", "here/near"),
        ("120", "here/far"),
    }
    rows = classify("p", *SETTING, "--background", "behind.csv", "--level", 2).rows
    assert [row["label"] for row in rows] == ["near", "near", "unknown"]

"""The outputs of `zeroshot classify`: forms that agree, `--resume` and what it refuses, pictures in folders.

Pictures and labels are angles, so every cosine is known: cos(picture - label).
"""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from zeroshot_cli.cli import app

pytestmark = pytest.mark.usefixtures("angles")

DEGREES = (5, 40, 80, 125, 165, 215, 250)
LABELS = ("0", "60", "120", "180", "240", "300")
NEAREST = {5: "0", 40: "60", 80: "60", 125: "120", 165: "180", 215: "240", 250: "240"}
SETTING = [*(part for label in LABELS for part in ("--label", label)), "--prompts", "plain", "--batch-size", "4"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_angle: Callable[[Path, int], Path]) -> None:
    """The pictures, in `pictures` of the working folder, and a file among them that is none."""
    monkeypatch.chdir(tmp_path)
    for degrees in DEGREES:
        draw_angle(Path(f"pictures/{degrees:03}.png"), degrees)
    Path("pictures/100.png").write_text("no picture at all\n")


def outputs(*names: str) -> list[str]:
    return [part for name in names for part in ("--output", name)]


def data_blocks(name: str) -> dict[str, Any]:
    """What an HTML report holds, by block."""
    blocks = re.findall(r'<script type="application/json" id="(.*?)">(.*?)</script>', Path(name).read_text(), re.S)
    return {key: json.loads(text) for key, text in blocks}


def undated(name: str) -> bytes:
    """A file's bytes, an HTML report's without its date."""
    return re.sub(rb'\["date","[^"]*"\]', b"", Path(name).read_bytes())


# forms


def test_all_forms_at_once_tell_the_same(classify: Callable[..., Any]) -> None:
    files = outputs("out.csv", "out.tsv", "out.jsonl", "out.parquet", "out.html")
    ended = classify("pictures", *SETTING, "--top-k", 2, *files)
    assert ended.code == 4
    assert Path("out.csv").read_bytes() == ended.out
    rows = ended.rows
    assert [row["path"] for row in rows if row["rank"] in ("", "1")] == [
        str(p) for p in sorted(Path("pictures").iterdir())
    ]
    assert {row["path"]: row["label"] for row in rows if row["rank"] == "1"} == {
        f"pictures/{degrees:03}.png": label for degrees, label in NEAREST.items()
    }
    tsv = csv.DictReader(io.StringIO(Path("out.tsv").read_text(), newline=""), delimiter="\t")
    assert list(tsv) == rows
    lines = Path("out.jsonl").read_text().splitlines()
    assert_same([flat for line in lines for flat in flattened(json.loads(line))], rows)
    assert_same(pq.read_table("out.parquet").to_pylist(), rows)
    assert_same([flat for item in data_blocks("out.html")["results-0"] for flat in flattened(item)], rows)


def assert_same(found: list[dict[str, Any]], rows: list[dict[str, str]]) -> None:
    """The rows of CSV: texts to the letter, numbers to the last of their six decimals."""
    assert len(found) == len(rows)
    for one, row in zip(found, rows, strict=True):
        assert {name: one[name] or "" for name in ("path", "label", "error")}.items() <= row.items()
        for name in ("rank", "score", "probability"):
            assert one[name] == (pytest.approx(float(row[name]), abs=2e-6) if row[name] else None)


def flattened(item: dict[str, Any]) -> list[dict[str, Any]]:
    """An object of JSONL or of the HTML report as rows."""
    nothing = dict.fromkeys(("rank", "label", "score", "probability", "error"))
    if "error" in item:
        return [{**nothing, **item}]
    names = ("label", "score", "probability")
    best = [one if isinstance(one, dict) else dict(zip(names, one, strict=True)) for one in item["predictions"]]
    return [{**nothing, "path": item["path"], "rank": n, **one} for n, one in enumerate(best, start=1)]


def test_a_report_shows_five_labels_whatever_the_other_files_keep(classify: Callable[..., Any]) -> None:
    ended = classify("pictures", *SETTING, "--top-k", 2, *outputs("out.csv", "out.html", "out.jsonl"))
    assert [row["rank"] for row in ended.rows if not row["error"]] == ["1", "2"] * 7
    objects = map(json.loads, Path("out.jsonl").read_text().splitlines())
    assert {len(item["predictions"]) for item in objects if "error" not in item} == {2}
    blocks = data_blocks("out.html")
    first = blocks["results-0"][0]
    assert [label for label, *_ in first["predictions"]] == ["0", "60"]
    assert [label for label, *_ in first["others"]] == ["300", "120", "240"]  # 65, 115 and 125 degrees away
    assert {len(item["predictions"] + item["others"]) for item in blocks["results-0"] if "error" not in item} == {5}
    assert len([name for name in blocks if name.startswith("thumbnail")]) == 7
    assert ["prompts", "plain\n{}"] in blocks["about"]


def test_a_report_keeps_what_is_more_than_five(classify: Callable[..., Any]) -> None:
    classify("pictures", *SETTING, "--top-k", 6, *outputs("out.html"))
    first = data_blocks("out.html")["results-0"][0]
    assert (len(first["predictions"]), first["others"]) == (6, [])


def test_a_report_among_outputs_changes_none_of_them(classify: Callable[..., Any]) -> None:
    alone = classify("pictures", *SETTING, *outputs("a.jsonl"), "--format", "jsonl")
    beside = classify("pictures", *SETTING, *outputs("b.jsonl", "b.html"), "--format", "jsonl")
    assert alone.out == beside.out == Path("a.jsonl").read_bytes() == Path("b.jsonl").read_bytes()


# resume


def test_interrupted_after_any_batch_and_resumed_the_bytes_are_the_same(
    classify: Callable[..., Any], angle_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"out.{ending}" for ending in ("csv", "tsv", "jsonl", "parquet", "xlsx", "html")]
    command = ["pictures", *SETTING, "--batch-size", "1", "--top-k", "2", "--no-cache", *outputs(*names)]
    command += ["--summary", "summary.csv", "--output-encoding", "utf-8-sig", "--thumbnails"]
    names.append("summary.csv")
    assert classify(*command).code == 4
    whole = {name: undated(name) for name in names}
    for batches in (0, 1, 4, 6):
        with monkeypatch.context() as patch:
            _interrupt(patch, type(angle_model), after=batches)
            ended = classify(*command, "--overwrite")
        assert ended.code == 130
        kept = "what is done is kept; the same command with --resume in place of --overwrite continues"
        assert ended.err.splitlines()[-2:] == [kept, "interrupted"]
        assert not Path("out.html").exists() or undated("out.html") == whole["out.html"]
        ended = classify(*command, "--resume")
        assert ended.code == 4
        assert ended.err.splitlines()[0].startswith("--resume: ")
        assert ended.err.splitlines()[-1] == "7 images classified, 1 could not be read, model small."
        assert {name: undated(name) for name in names} == whole


def _interrupt(patch: pytest.MonkeyPatch, model: type, *, after: int) -> None:
    """Ctrl-C comes at the batch after so many."""
    encode, left = model.encode_pixels, after

    def encode_pixels(self: Any, batch: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return encode(self, batch)

    patch.setattr(model, "encode_pixels", encode_pixels)


def test_resume_encodes_only_what_is_missing(
    classify: Callable[..., Any], angles: list[Any], angle_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["pictures", *SETTING, "--batch-size", "1", "--no-cache", *outputs("out.jsonl")]
    with monkeypatch.context() as patch:
        _interrupt(patch, type(angle_model), after=5)
        assert classify(*command).code == 130
    assert len(angles) == 5
    ended = classify(*command, "--resume", "--format", "jsonl")
    # Five pictures and the one that is none are in the file.
    assert ended.err.splitlines()[0] == "--resume: kept 6 images of out.jsonl; classifying the rest"
    assert len(angles) == 7
    assert Path("out.jsonl").read_bytes().endswith(ended.out)
    assert [item["path"] for item in ended.objects] == ["pictures/215.png", "pictures/250.png"]


def test_resume_takes_over_the_batch_size_that_auto_came_to(
    classify: Callable[..., Any], angles: list[Any], angle_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eight images auto makes batches of eight; resumed with one left they must not become batches of one."""
    command = ["pictures", *SETTING[:-2], "--no-cache", *outputs("out.csv")]
    assert classify(*command).code == 4
    whole = Path("out.csv").read_bytes()
    Path("out.csv").write_bytes(whole[: whole.rindex(b"pictures/250")])
    _not_complete("out.csv.run.json")
    angles.clear()
    assert classify(*command, "--resume").code == 4
    assert Path("out.csv").read_bytes() == whole
    assert [shape[0] for shape in angles] == [8]


def _not_complete(name: str) -> None:
    """Make a record what it was while its run went on."""
    fields = json.loads(Path(name).read_text())
    Path(name).write_text(json.dumps({**fields, "complete": False, "counts": None}))


REFUSED = [
    (
        ["--label", "90"],
        f"labels was {json.dumps(LABELS)} in the run that wrote out.csv and is {json.dumps([*LABELS, '90'])} now",
    ),
    (["--prompts", "more.txt"], "prompts was plain in the run that wrote out.csv and is more now"),
    (["--model", "other"], "model was angles in the run that wrote out.csv and is other now"),
    (["--pretrained", "tag"], "pretrained was not set in the run that wrote out.csv and is tag now"),
    (["--top-k", "3"], "top_k was not set in the run that wrote out.csv and is 3 now"),
    (["--min-score", "0.5"], "min_score was not set in the run that wrote out.csv and is 0.5 now"),
    (["--min-probability", "0.5"], "min_probability was not set in the run that wrote out.csv and is 0.5 now"),
    (["--min-margin", "0.1"], "min_margin was not set in the run that wrote out.csv and is 0.1 now"),
    (["--background", "behind.csv"], 'background was not set in the run that wrote out.csv and is ["90", "270"] now'),
    (["--multi-label", "--background", "behind.csv"], "background was not set in"),
    (["--precision", "bf16"], "precision was fp32 in the run that wrote out.csv and is bf16 now"),
    (["--batch-size", "8"], "batch_size was 4 in the run that wrote out.csv and is 8 now"),
    (["--batch-size", "auto"], "batch_size was 4 in the run that wrote out.csv and is auto now"),
    (["--exact-decode"], "exact_decode was false in the run that wrote out.csv and is true now"),
    (["--max-pixels", "99"], "max_pixels was 178956970 in the run that wrote out.csv and is 99 now"),
    (
        ["--output", "out.jsonl"],
        'outputs was ["out.csv"] in the run that wrote out.csv and is ["out.csv", "out.jsonl"]',
    ),
    (["--sort-into", "sorted"], "sort_mode was not set in the run that wrote out.csv and is copy now"),
]


@pytest.mark.parametrize(
    ("options", "sentence", "complete"),
    [*((*case, True) for case in REFUSED), *((*case, False) for case in REFUSED[:3])],
)
def test_resume_refuses_other_settings_and_names_the_first(
    options: list[str], sentence: str, complete: bool, classify: Callable[..., Any]
) -> None:
    Path("more.txt").write_text("{}\n1{}\n")
    Path("behind.csv").write_text("label,prompt\n90,90\n270,270\n")
    command = ["pictures", *SETTING, "--model", "angles", *outputs("out.csv")]
    assert classify(*command).code == 4
    if not complete:
        _not_complete("out.csv.run.json")
    before = {path: path.read_bytes() for path in Path().glob("out.*")}
    ended = classify(*command, *options, "--resume")
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err.startswith(f"error: --resume: {sentence}")
    assert ended.err.endswith("; give the same options, or --overwrite\n")
    assert ended.err.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().glob("out.*")} == before
    assert not Path("sorted").exists()


def test_resume_refuses_templates_that_changed_in_their_file(classify: Callable[..., Any]) -> None:
    Path("mine.txt").write_text("{}\n")
    command = ["pictures", *SETTING, "--prompts", "mine.txt", *outputs("out.csv")]
    assert classify(*command).code == 4
    Path("mine.txt").write_text("1{}\n")
    ended = classify(*command, "--resume")
    assert ended.code == 2
    assert "texts of the labels was" in ended.err


def test_resume_refuses_other_inputs(classify: Callable[..., Any], draw_angle: Callable[[Path, int], Path]) -> None:
    command = ["pictures", *SETTING, *outputs("out.csv")]
    assert classify(*command).code == 4
    before = Path("out.csv").read_bytes()
    draw_angle(Path("pictures/000.png"), 1)
    ended = classify(*command, "--resume")
    assert ended.code == 2
    assert "out.csv is finished, with 8 images, but there are 9 now; --overwrite classifies them all" in ended.err
    _not_complete("out.csv.run.json")
    ended = classify(*command, "--resume")
    assert ended.code == 2
    assert "image 1 in out.csv is 'pictures/005.png', but the inputs now give 'pictures/000.png'" in ended.err
    assert Path("out.csv").read_bytes() == before


def test_resume_of_what_was_not_written_by_a_run_is_refused(classify: Callable[..., Any]) -> None:
    command = ["pictures", *SETTING, *outputs("out.csv")]
    Path("out.csv").write_text("precious\n")
    ended = classify(*command, "--resume")
    assert ended.code == 2
    assert "out.csv exists without the record of its run, out.csv.run.json" in ended.err
    Path("out.csv.run.json").write_text("no record")
    ended = classify(*command, "--resume")
    assert ended.code == 2
    assert "out.csv.run.json is not the record of a run" in ended.err
    assert Path("out.csv").read_text() == "precious\n"


def test_resume_where_there_was_no_run_begins(classify: Callable[..., Any]) -> None:
    ended = classify("pictures", *SETTING, *outputs("out.csv"), "--resume")
    assert ended.code == 4
    assert Path("out.csv").read_bytes() == ended.out


def test_resume_of_a_finished_run_does_nothing(classify: Callable[..., Any], angles: list[Any]) -> None:
    names = ("out.csv", "out.parquet", "out.html")
    command = ["pictures", *SETTING, "--no-cache", *outputs(*names)]
    assert classify(*command).code == 4
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in map(Path, names)}
    angles.clear()
    ended = classify(*command, "--resume")
    assert ended.code == 4
    assert ended.err.splitlines() == [
        "--resume: out.csv is finished, with 8 images; nothing to do",
        "7 images classified, 1 could not be read, model small.",
    ]
    assert angles == []
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in map(Path, names)} == before


def test_a_report_that_is_gone_after_a_finished_run_is_an_image_pass_more(classify: Callable[..., Any]) -> None:
    """The journal that it was made from is gone, too."""
    command = ["pictures", *SETTING, *outputs("out.csv", "out.parquet")]
    assert classify(*command).code == 4
    before = Path("out.parquet").read_bytes()
    Path("out.parquet").unlink()
    ended = classify(*command, "--resume")
    assert ended.code == 4
    assert "out.parquet is missing, so all images are classified again" in ended.err
    assert Path("out.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--overwrite", "--resume", "--output", "out.csv"], "`--overwrite` starts over and `--resume` continues"),
        (["--resume"], "`--resume` needs `--output FILE`"),
        (["--output", "out.csv", "--output", "./out.csv"], "out.csv is given twice"),
        (["--output", "out.csv", "--output", "out.csv.run.json"], "unknown extension '.json'"),
        (["--output", "out.csv", "--output", "out.html", "--output", "out.csv.run.jsonl"], "the run needs itself"),
        (["--output", "no/out.html"], "there is no folder no; create it first"),
        (["--sort-into", "labels.txt"], "cannot sort into labels.txt: it is not a folder"),
        (["--sort-into", "sorted", "--multi-label", "--sort-mode", "move"], "cannot put an image under several labels"),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_the_model_is_loaded(
    options: list[str], sentence: str, classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroshot_cli.models.load.load", None)
    Path("labels.txt").write_text("0\n")
    before = sorted(Path().iterdir())
    ended = classify("pictures", *SETTING, *options)
    assert (ended.code, ended.out) == (2, b"")
    assert sentence in ended.err
    assert ended.err.count("\n") == 1
    assert sorted(Path().iterdir()) == before


# sort


def tree(folder: str) -> dict[str, bytes]:
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


SORTED = sorted([f"{label}/{degrees:03}.png" for degrees, label in NEAREST.items()])


@pytest.mark.parametrize("mode", ["copy", "link", "move"])
def test_sort_and_unsort(mode: str, classify: Callable[..., Any], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    before = tree("pictures")
    ended = classify("pictures", *SETTING, "--sort-into", "sorted", "--sort-mode", mode)
    assert ended.code == 4
    assert ended.err.splitlines() == [
        "7 images filed into sorted; zeroshot unsort sorted undoes it.",
        "7 images classified, 1 could not be read, model small.",
    ]
    filed = {str(path.relative_to("sorted")): path for path in Path("sorted").glob("*/*")}
    assert sorted(filed) == SORTED
    for name, path in filed.items():
        assert path.read_bytes() == before[path.name]
        assert path.is_symlink() is (mode == "link")
        assert Path("pictures", Path(name).name).exists() is (mode != "move")
    with Path("sorted/manifest.csv").open(newline="") as file:
        assert {row["action"] for row in csv.DictReader(file)} == {mode}
    assert app.run(["unsort", "sorted"]) == 0
    back, gone = (7, 0) if mode == "move" else (0, 7)
    said = f"{back} files moved back, {gone} copies and links removed.\n"
    assert capfdbinary.readouterr().err.decode() == said
    assert tree("pictures") == before
    assert not list(Path("sorted").glob("*/*"))


def test_rejected_pictures_have_a_folder_of_their_own(classify: Callable[..., Any]) -> None:
    ended = classify("pictures", *SETTING, "--min-score", 0.95, "--sort-into", "sorted")
    assert ended.code == 4
    # cos 20 = 0.94 and cos 25 = 0.91 are less; cos 15 = 0.966 and nearer are enough
    filed = sorted(str(path.relative_to("sorted")) for path in Path("sorted").glob("*/*"))
    assert filed == ["0/005.png", "120/125.png", "180/165.png", "240/250.png"] + [
        f"unknown/{degrees:03}.png" for degrees in (40, 80, 215)
    ]


def test_several_labels_are_several_copies(classify: Callable[..., Any]) -> None:
    Path("behind.csv").write_text("label,prompt\n90,90\n")
    options = ["--multi-label", "--background", "behind.csv", "--min-probability", "0.9", "--sort-into", "sorted"]
    ended = classify("pictures/005.png", *SETTING, *options)
    assert ended.code == 0
    # Over the background, cos 85 = 0.087, are cos 5, cos 55 and cos 65: by more than log(9) / 10 = 0.22.
    assert sorted(str(path.relative_to("sorted")) for path in Path("sorted").glob("*/*")) == [
        "0/005.png",
        "300/005.png",
        "60/005.png",
    ]
    assert [row["label"] for row in ended.rows] == ["0", "60", "300"]


def test_after_a_move_resume_has_nothing_to_do(classify: Callable[..., Any]) -> None:
    Path("pictures/100.png").unlink()
    command = ["pictures", *SETTING, "--sort-into", "sorted", "--sort-mode", "move", *outputs("out.csv", "out.html")]
    assert classify(*command).code == 0
    assert list(Path("pictures").iterdir()) == []
    before = {**tree("sorted"), "csv": Path("out.csv").read_bytes(), "html": Path("out.html").read_bytes()}
    ended = classify(*command, "--resume")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        "--resume: out.csv is finished, with 7 images; nothing to do",
        "7 images classified, 0 could not be read, model small.",
    ]
    assert {**tree("sorted"), "csv": Path("out.csv").read_bytes(), "html": Path("out.html").read_bytes()} == before
    assert classify(*command, "--overwrite").code == 3  # there is no image left


@pytest.mark.parametrize("moved", range(8))
def test_a_move_that_was_stopped_goes_on(
    moved: int, classify: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pictures/100.png").unlink()
    before = tree("pictures")
    command = ["pictures", *SETTING, "--sort-into", "sorted", "--sort-mode", "move", *outputs("out.csv")]
    with monkeypatch.context() as patch:
        _stop_moving(patch, after=moved)
        assert classify(*command).code == (130 if moved < 7 else 0)
    assert len(list(Path("pictures").iterdir())) == 7 - moved
    ended = classify(*command, "--resume")
    assert ended.code == 0
    assert sorted(str(path.relative_to("sorted")) for path in Path("sorted").glob("*/*")) == SORTED
    assert app.run(["unsort", "sorted"]) == 0
    assert tree("pictures") == before


def _stop_moving(patch: pytest.MonkeyPatch, *, after: int) -> None:
    """Ctrl-C comes at the file after so many."""
    from zeroshot_cli.filing import sort

    move, left = sort.move_file, after

    def move_file(source: str, target: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        move(source, target)

    patch.setattr(sort, "move_file", move_file)


def test_a_folder_to_sort_into_is_not_searched(classify: Callable[..., Any]) -> None:
    command = ["pictures", *SETTING, "--sort-into", "pictures/sorted", *outputs("out.csv")]
    first = classify(*command)
    assert first.code == 4
    assert len(list(Path("pictures/sorted").glob("*/*.png"))) == 7
    second = classify(*command, "--overwrite")
    assert second.out == first.out
    said = "0 images filed into pictures/sorted, 7 already there; zeroshot unsort pictures/sorted undoes it."
    assert second.err.splitlines()[0] == said
    assert len(list(Path("pictures/sorted").glob("*/*.png"))) == 7
    assert len(classify("pictures", *SETTING).rows) == 15  # without the option it is a folder like others


def test_sorted_again_after_unsort(classify: Callable[..., Any]) -> None:
    sorting = ["--sort-into", "sorted", "--resume"]
    assert classify("pictures", *SETTING, *sorting).code == 4
    first = sorted(map(str, Path("sorted").rglob("*.png")))
    assert app.run(["unsort", "sorted"]) == 0
    assert not list(Path("sorted").rglob("*.png"))
    assert classify("pictures", *SETTING, *sorting).code == 4
    assert sorted(map(str, Path("sorted").rglob("*.png"))) == first


def test_a_record_that_lacks_what_it_should_have_is_no_defect(classify: Callable[..., Any]) -> None:
    command = ["pictures", *SETTING[:-2], *outputs("out.csv"), "--resume"]
    assert classify(*command).code == 4
    record = Path("out.csv.run.json")
    whole = json.loads(record.read_text())
    record.write_text(json.dumps({**whole, "resolved": {}}))
    assert classify(*command).code == 4
    record.write_text(json.dumps({**whole, "resolved": None}))
    ended = classify(*command)
    assert (ended.code, ended.err) == (
        2,
        "error: out.csv.run.json is not the record of a run; rename it, and use --overwrite instead of --resume\n",
    )


def test_a_record_whose_outputs_are_gone_decides_nothing(classify: Callable[..., Any]) -> None:
    command = [*SETTING[:-2], *outputs("out.csv"), "--resume", "--verbose"]
    assert "batches of 1;" in classify("pictures/005.png", *command).err
    Path("out.csv").unlink()
    assert "batches of 8;" in classify("pictures", *command).err

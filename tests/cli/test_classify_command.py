"""`zeroshot classify` from the options to the rows, with a small random model and pictures made here."""

import csv
import io
import json
import os
import pty
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from zeroshot_cli import load
from zeroshot_cli.cli import app as entry
from zeroshot_cli.cli import options

COLOURS = {"blue": (0, 0, 255), "green": (0, 128, 0), "red": (255, 0, 0)}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, model_folder: Path) -> None:
    monkeypatch.setenv("ZEROSHOT_MODEL", str(model_folder))
    monkeypatch.setenv("ZEROSHOT_PRECISION", "fp32")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 10), colour).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\na very fast car\n")
    return path


def classify(*arguments: object) -> int:
    return entry.run(["classify", *map(str, arguments)])


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_folder_becomes_csv_in_a_pipe(
    pictures: Path, labels: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert classify(pictures, "--labels", labels) == 0
    captured = capfdbinary.readouterr()
    found = rows(captured.out.decode())
    assert [row["path"] for row in found] == [str(pictures / f"{name}.png") for name in COLOURS]
    assert {row["rank"] for row in found} == {"1"}
    model = os.environ["ZEROSHOT_MODEL"]
    assert (
        captured.err.decode()
        == f"assumed: 1 file left out: .txt 1\n3 images classified, 0 could not be read, model {model}.\n"
    )


def test_rows_are_what_the_model_says(
    pictures: Path, labels: Path, model_folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert classify(pictures / "red.png", "--labels", labels, "--prompts", "plain", "--top-k", 3) == 0
    found = rows(capfdbinary.readouterr().out.decode())
    model = load(str(model_folder), device="cpu", precision="fp32")
    names = ["cat", "dog", "a very fast car"]
    with Image.open(pictures / "red.png") as image, torch.inference_mode():
        pixels = model.preprocess(image)[None]
        tokens = model.tokenizer(names)
        cosines = torch.cosine_similarity(model.model.encode_image(pixels), model.model.encode_text(tokens))
    chances = (cosines * model.model.logit_scale.exp()).softmax(0)
    order = cosines.argsort(descending=True).tolist()
    assert [(row["rank"], row["label"]) for row in found] == [(str(n + 1), names[i]) for n, i in enumerate(order)]
    assert [float(row["score"]) for row in found] == pytest.approx(cosines[order].tolist(), abs=2e-6)
    assert [float(row["probability"]) for row in found] == pytest.approx(chances[order].tolist(), abs=1e-5)


def test_labels_judged_one_by_one_against_empty_prompts(
    pictures: Path, model_folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """By torch: the sigmoid of scale × (cosine - cosine of the mean of "a photo." and its like)."""
    assert classify(pictures, "--label", "cat", "--label", "dog", "--prompts", "plain", "--multi-label") == 0
    found = {
        (row["path"], row["label"]): float(row["probability"]) for row in rows(capfdbinary.readouterr().out.decode())
    }
    model = load(str(model_folder), device="cpu", precision="fp32")
    expected = {}
    with torch.inference_mode():
        texts = model.model.encode_text(model.tokenizer(["cat", "dog", "a photo.", "a picture.", "an image."]))
        texts = torch.nn.functional.normalize(texts)
        behind = torch.nn.functional.normalize(texts[2:].mean(0), dim=0)
        for path in (pictures / f"{name}.png" for name in COLOURS):
            with Image.open(path) as image:
                picture = torch.nn.functional.normalize(model.model.encode_image(model.preprocess(image)[None]))[0]
            chances = (model.model.logit_scale.exp() * (texts[:2] @ picture - behind @ picture)).sigmoid().tolist()
            kept = {
                (str(path), name): chance for name, chance in zip(("cat", "dog"), chances, strict=True) if chance >= 0.5
            }
            expected |= kept or {(str(path), "unknown"): max(chances)}
    assert found == pytest.approx(expected, abs=1e-5)


def test_every_output_form_at_once_tells_the_same(
    pictures: Path, labels: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    files = [tmp_path / f"out.{ending}" for ending in ("csv", "tsv", "jsonl")]
    outputs = [part for path in files for part in ("--output", path)]
    assert classify(pictures, "--labels", labels, "--top-k", 2, *outputs) == 0
    standard = capfdbinary.readouterr().out
    assert files[0].read_bytes() == standard
    first = rows(standard.decode())
    second = list(csv.DictReader(io.StringIO(files[1].read_text(), newline=""), delimiter="\t"))
    assert first == second
    objects = [json.loads(line) for line in files[2].read_text().splitlines()]
    flat = [(o["path"], p["label"], f"{p['score']:.4f}") for o in objects for p in o["predictions"]]
    assert flat == [(row["path"], row["label"], f"{float(row['score']):.4f}") for row in first]


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl"])
def test_format_is_what_standard_output_gets(
    form: str, pictures: Path, labels: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / f"out.{form}"
    assert classify(pictures, "--labels", labels, "--format", form, "--output", path) == 0
    assert capfdbinary.readouterr().out == path.read_bytes()


def test_a_table_in_a_pipe_when_asked(pictures: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert classify(pictures, "--label", "cat", "--label", "[red]dog", "--format", "table", "--top-k", 2) == 0
    out = capfdbinary.readouterr().out.decode()
    assert out.splitlines()[0].split() == ["path", "rank", "label", "score", "probability"]
    assert out.count("[red]dog") == 3


@pytest.fixture
def bad_pictures(pictures: Path) -> Path:
    whole = (pictures / "red.png").read_bytes()
    (pictures / "cut.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "empty.png").write_bytes(b"")
    (pictures / "text.jpg").write_text("not a picture at all")
    (pictures / "lost.png").symlink_to(pictures / "nowhere.png")
    return pictures


def test_unreadable_images_are_rows_with_their_reason_and_4(
    bad_pictures: Path, labels: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    only_good = [bad_pictures / f"{name}.png" for name in COLOURS]
    assert classify(*only_good, "--labels", labels, "--batch-size", 4) == 0
    expected = rows(capfdbinary.readouterr().out.decode())
    assert classify(bad_pictures, bad_pictures / "missing.png", "--labels", labels, "--batch-size", 4) == 4
    captured = capfdbinary.readouterr()
    found = rows(captured.out.decode())
    bad = [row for row in found if row["error"]]
    assert {Path(row["path"]).name for row in bad} == {"cut.png", "empty.png", "text.jpg", "lost.png", "missing.png"}
    assert all(row["rank"] == row["label"] == row["score"] == row["probability"] == "" for row in bad)
    assert [row for row in found if not row["error"]] == expected
    model = os.environ["ZEROSHOT_MODEL"]
    assert (
        captured.err.decode()
        == f"assumed: 1 file left out: .txt 1\n3 images classified, 5 could not be read, model {model}.\n"
    )
    assert classify(bad_pictures, "--labels", labels, "--ignore-errors") == 0


@pytest.mark.parametrize(("option", "end"), [([], b"\n"), (["-0"], b"\0")])
def test_paths_on_standard_input_byte_for_byte(
    option: list[str],
    end: bytes,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    strange = os.fsencode(pictures) + b"/not utf-8 \xff, [red].png"
    Path(os.fsdecode(strange)).write_bytes((pictures / "red.png").read_bytes())
    names = [strange, os.fsencode(pictures / "blue.png")]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(end.join([*names, b""]))))
    assert classify("-", *option, "--label", "cat", "--label", "dog") == 0
    out = capfdbinary.readouterr().out
    found = rows(out.decode("utf-8", "surrogateescape"))
    assert [os.fsencode(row["path"]) for row in found] == names


def test_labels_of_a_file_and_on_the_spot_are_joined(
    pictures: Path, labels: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert classify(pictures / "red.png", "--labels", labels, "--label", "bird", "--top-k", 9) == 0
    found = rows(capfdbinary.readouterr().out.decode())
    assert {row["label"] for row in found} == {"cat", "dog", "a very fast car", "bird"}


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        ([], 2, ["no labels", "--labels FILE", "--label TEXT"]),
        (["--labels", "{labels}", "--label", "dog"], 2, ["'dog'", "labels.txt", "once"]),
        (["--labels", "{tmp}/none.txt"], 2, ["none.txt"]),
        (["--labels", "{tmp}/empty.txt"], 3, ["empty.txt"]),
        (["--labels", "{tmp}/twice.txt"], 3, ["twice.txt", "cat", "1", "3"]),
        (["--label", "cat", "--label", "cat"], 2, ["--label", "'cat'"]),
        (["--label", "cat", "--prompts", "{tmp}/none.yaml"], 2, ["none.yaml"]),
        (["--label", "cat", "--prompts", "{tmp}/bare.txt"], 3, ["bare.txt"]),
        (["--label", "cat", "--output", "{tmp}/out.xls"], 2, ["out.xls", ".csv"]),
        (["--label", "cat", "--output", "{labels}"], 2, ["labels.txt", "'.txt'"]),
        (["--label", "cat", "--output", "{tmp}/there.csv"], 2, ["there.csv", "--overwrite"]),
        (["--label", "cat", "--model", "{tmp}/none"], 2, ["none"]),
        (["--label", "cat", "--model", "{tmp}"], 3, ["open_clip_model.safetensors"]),
    ],
)
def test_wrong_input_is_one_sentence_with_its_code(
    arguments: list[str],
    code: int,
    parts: list[str],
    pictures: Path,
    labels: Path,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "twice.txt").write_text("cat\ndog\ncat\n")
    (tmp_path / "bare.txt").write_text("a photo of something\n")
    (tmp_path / "there.csv").write_text("precious")
    filled = [argument.format(tmp=tmp_path, labels=labels) for argument in arguments]
    assert classify(pictures, *filled) == code
    captured = capfdbinary.readouterr()
    err = captured.err.decode()
    assert captured.out == b""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert (tmp_path / "there.csv").read_text() == "precious"


def test_no_image_at_all_is_3_and_leaves_no_output(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (tmp_path / "nothing").mkdir()
    assert classify(tmp_path / "nothing", "--label", "cat", "--output", tmp_path / "out.csv") == 3
    assert capfdbinary.readouterr().err.startswith(b"error: ")
    assert not (tmp_path / "out.csv").exists()


def test_overwrite_replaces(pictures: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old " * 1000)
    assert classify(pictures, "--label", "cat", "--output", out, "--overwrite") == 0
    assert out.read_bytes() == capfdbinary.readouterr().out


def test_quiet_says_nothing_and_verbose_says_what_is_used(
    pictures: Path, model_folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert classify(pictures, "--label", "cat", "--quiet") == 0
    assert capfdbinary.readouterr().err == b""
    assert classify(pictures, "--label", "cat", "--verbose", "--prompts", "plain") == 0
    first = capfdbinary.readouterr().err.decode().splitlines()[0]
    assert first == f"{model_folder} on cpu in fp32, batches of 4; 3 images, 1 label, prompts plain"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODEL", "no-such-model"),
        ("PRETRAINED", "no-such-weights"),
        ("DEVICE", "no-such-device"),
        ("PRECISION", "fp7"),
        ("BATCH_SIZE", "none"),
        ("WORKERS", "none"),
        ("OFFLINE", "perhaps"),
        ("QUIET", "perhaps"),
        ("VERBOSE", "perhaps"),
        ("DEBUG", "perhaps"),
    ],
)
def test_shared_options_have_environment_variables(
    name: str, value: str, pictures: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv(f"ZEROSHOT_{name}", value)
    if name == "PRETRAINED":
        monkeypatch.setenv("ZEROSHOT_MODEL", "RN50")
    assert classify(pictures, "--label", "cat") in (2, 5)
    assert value in capfdbinary.readouterr().err.decode()


def test_help_shows_every_option_and_the_environment_variables_of_shared_ones(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for name, value in {"TERM": "dumb", "COLUMNS": "100", "LINES": "50"}.items():  # as rich would draw it in a pipe
        monkeypatch.setenv(name, value)
    assert classify("--help") == 0
    entries = re.split(r"\n│ (?=-)", capfdbinary.readouterr().out.decode())[1:]
    found = {
        name: variable and variable[1]
        for entry in entries
        for variable in [re.search(r"\[env var:[\s│]+(\w+)", entry)]
        for name in re.findall(r"(?<!\S)--[a-z-]+", entry.partition("\n")[0])
    }
    shared = {
        "model",
        "pretrained",
        "image-size",
        "device",
        "precision",
        "batch-size",
        "workers",
        "offline",
        "quiet",
        "verbose",
        "debug",
        "engine",
    }
    own = """--all-files --exclude --excel-safe
        --labels --label --classifier --prompts --template --top-k --null --output --overwrite --resume --format
            --summary --thumbnails --output-encoding --corrections --level
        --cache --no-cache --min-score --min-probability --min-margin --background --multi-label --adapt
        --sort-into --sort-mode --exact-decode --truncated --frames --fit
        --max-pixels --decode-timeout --ignore-errors --help
        --actors --actor-cpus --actor-gpus --task-images --shard --allow-private"""
    variables = {f"--{name}": "ZEROSHOT_" + name.upper().replace("-", "_") for name in shared}
    assert found == {**dict.fromkeys(own.split()), **variables}


def test_counts_and_auto() -> None:
    assert options.as_count("auto") is None
    assert options.as_count("12") == 12


def test_ctrl_c_in_the_middle_leaves_whole_rows(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from zeroshot_cli.models.loaded import LoadedModel

    calls = 0
    encode = LoadedModel.encode_pixels

    def interrupted(self: LoadedModel, batch: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return encode(self, batch)

    monkeypatch.setattr(LoadedModel, "encode_pixels", interrupted)
    out = tmp_path / "out.jsonl"
    assert classify(pictures, "--label", "cat", "--label", "dog", "--batch-size", 1, "--output", out) == 130
    assert [Path(json.loads(line)["path"]).stem for line in out.read_text().splitlines()] == ["blue", "green"]
    captured = capfdbinary.readouterr()
    assert len(rows(captured.out.decode())) == 2
    kept = b"what is done is kept; the same command with --resume continues\n"
    assert captured.err == b"assumed: 1 file left out: .txt 1\n" + kept + b"interrupted\n"


class Terminal:
    """A pseudo-terminal that a stream of this process writes to; `text` is what appeared on it."""

    def __init__(self) -> None:
        self._main, terminal = pty.openpty()
        self.stream = os.fdopen(terminal, "w", encoding="utf-8")
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._main, 65536)
            except OSError:  # Linux says so when the last writer is gone
                return
            if not part:
                return
            self._parts.append(part)

    def text(self) -> str:
        self.stream.close()
        self._reader.join()
        os.close(self._main)
        return b"".join(self._parts).decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


def test_on_a_terminal_a_table_and_a_progress_bar_that_goes_away(
    pictures: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", terminal.stream)
    monkeypatch.setattr("sys.stderr", terminal.stream)
    code = classify(pictures, "--label", "[cat]", "--label", "dog")
    monkeypatch.undo()
    seen = terminal.text()
    assert code == 0
    assert "path,rank" not in seen
    bar, table = seen.rsplit("images/s", 1)
    assert "classifying" in bar
    assert table.index("\x1b[2K") < table.index("probability") < table.index("3 images classified")
    assert table.count("blue.png") == 1


def test_standard_output_in_a_pipe_gets_rows_while_standard_error_draws_progress(
    pictures: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr("sys.stderr", terminal.stream)
    code = classify(pictures, "--label", "cat")
    monkeypatch.undo()
    seen = terminal.text()
    assert code == 0
    assert len(rows(capfdbinary.readouterr().out.decode())) == 3
    assert "images/s" in seen
    assert "blue.png" not in seen


def test_an_output_that_cannot_be_opened_leaves_no_other(
    pictures: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    first, kept, second = tmp_path / "a.csv", tmp_path / "kept.csv", tmp_path / "b.csv"
    kept.write_text("old")
    second.symlink_to(tmp_path / "no" / "b.csv")
    before = sorted(tmp_path.iterdir())
    outputs = [part for path in (first, kept, second) for part in ("--output", path)]
    assert classify(pictures, "--label", "cat", "--label", "dog", "--overwrite", *outputs) == 2
    captured = capfdbinary.readouterr()
    assert captured.out == b""
    assert captured.err == f"error: cannot write {second}: No such file or directory\n".encode()
    assert sorted(tmp_path.iterdir()) == before
    assert kept.read_text() == "old"

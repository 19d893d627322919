"""`zeroshot review`: training from corrections with answers known by hand, and the server as a process that is killed.

Zero-shot, the border between the labels 1e1 and 8e1 is at 45 degrees; people put it at 60.
"""

import csv
import json
import random
import re
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from queue import Queue
from threading import Event
from typing import Any
from urllib.request import Request, urlopen

import pytest

from zeroshot_cli.classify.classifier_file import read_classifier
from zeroshot_cli.cli.app import run
from zeroshot_cli.embed import image_cache
from zeroshot_cli.review import server
from zeroshot_cli.review.answers import scorer_of
from zeroshot_cli.review.corrections import Corrections
from zeroshot_cli.review.run import read_run
from zeroshot_cli.review.session import Review

DEGREES = (*range(30, 58, 2), *range(62, 90, 2))


@pytest.fixture
def in_folder(
    angles: list[tuple[int, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_angle: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(image_cache, "SETTLED", 0)  # the cache knows files that are just written, too
    monkeypatch.setenv("ZEROSHOT_DEVICE", "cpu")
    monkeypatch.setenv("ZEROSHOT_MODEL", "angles")
    for degrees in DEGREES:
        draw_angle(Path("set", f"{degrees}.png"), degrees)
    Path("labels.txt").write_text("1e1\n8e1\n")
    assert classify("--labels", "labels.txt", "--prompts", "plain", "-o", "r.csv") == 0


def classify(*options: str) -> int:
    return run(["classify", "set", "-q", *options])


@pytest.fixture
def opened() -> Iterator[Callable[[], Review]]:
    """`opened()` opens the review of r.csv; the one before is closed."""
    logs: list[Corrections] = []

    def close() -> None:
        while logs:
            logs.pop().close()

    def open_review() -> Review:
        close()
        found = read_run("r.csv")
        logs.append(Corrections(Path("corrections.csv")))
        return Review(found, logs[-1], *scorer_of(found))

    yield open_review
    close()


def trained(review: Review) -> dict[str, Any]:
    review.train()
    end = time.monotonic() + 60
    while (state := review.training())["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.01)
    return state


def number_of(review: Review) -> dict[int, int]:
    """The number of the image of each angle."""
    return {int(Path(image["path"]).stem): image["n"] for image in review.images()["images"]}


def labels_in(path: str) -> dict[str, str]:
    with Path(path).open(newline="") as file:
        return {row["path"]: row["label"] for row in csv.DictReader(file)}


def correct_all(review: Review) -> None:
    for degrees, number in number_of(review).items():
        review.decide([number], "label", "1e1" if degrees < 60 else "8e1")


def test_training_changes_what_people_corrected_and_classify_gives_the_page_s_answers(
    in_folder: object,
    opened: Callable[[], Review],
) -> None:
    review = opened()
    assert review.about()["can_train"]
    assert [label for label, _ in review.images()["images"][0]["top"]] == ["1e1", "8e1"]  # beyond --top-k
    correct_all(review)
    done = trained(review)
    assert (done["state"], done["examples"], done["tuned"]) == ("done", 28, 1.0)
    assert done["zero_shot"] == pytest.approx(22 / 28)  # those of 46 to 56 degrees are nearer to 80
    numbers = number_of(review)
    assert {each["n"] for each in done["changed"]} == {numbers[degrees] for degrees in range(46, 58, 2)}
    assert {(each["was"], each["now"]) for each in done["changed"]} == {("8e1", "1e1")}
    page = {image["path"]: image for image in review.images()["images"]}
    assert all(image["decision"]["kind"] == "label" for image in page.values())  # decisions stay
    again = {image["path"]: image for image in opened().images()["images"]}
    assert again == page  # a review that is opened again goes on with the classifier
    assert Path(done["classifier"]) == Path("corrections.classifier")
    assert classify("--classifier", "corrections.classifier", "-o", "after.jsonl") == 0
    rows = [json.loads(line) for line in Path("after.jsonl").read_text().splitlines()]
    assert {row["path"]: row["label"] for row in rows} == {path: image["label"] for path, image in page.items()}
    for row in rows:
        assert row["probability"] == pytest.approx(page[row["path"]]["probability"], rel=1e-5)


def test_images_that_the_cache_lacks_are_encoded_and_unreadable_ones_keep_their_answer(
    in_folder: object, opened: Callable[[], Review], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path / "another"))
    Path("set", "30.png").write_bytes(b"no longer an image")
    Path("set", "88.png").unlink()
    review = opened()
    assert [label for label, _ in review.images()["images"][0]["top"]] == ["1e1"]
    correct_all(review)
    done = trained(review)
    assert (done["state"], done["examples"]) == ("done", 26)


@pytest.mark.parametrize("mode", ["move", "copy", "link"])
def test_a_sorted_folder_is_reviewed_and_trained_from(
    in_folder: object, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    sorting = ["--sort-into", "sorted", "--sort-mode", mode]
    assert classify("--labels", "labels.txt", "--prompts", "plain", *sorting) == 0
    found: list[Review] = []
    monkeypatch.setattr(server, "serve", lambda review, *_: found.append(review))
    assert run(["review", "sorted", "--no-browser"]) == 0
    about, images = found[0].about(), found[0].images()["images"]
    assert (about["name"], about["images"], about["missing"], about["can_train"]) == ("sorted", 28, 0, True)
    # by hand, of the two: 1 / (1 + exp(10 * (cos(50°) - cos(20°)))) for 30 degrees, whose label is 1e1
    assert {Path(image["path"]).name: image["probability"] for image in images}["30.png"] == pytest.approx(
        0.9512, abs=1e-4
    )
    assert all(Path(image["path"]).is_file() for image in images)


def test_the_server_begins_while_a_text_browser_waits_for_the_page(
    in_folder: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, visited = Event(), Queue[tuple[str, bool]]()

    def serve(_: object, __: object, ___: object, on_start: Callable[[str, str], None]) -> None:
        on_start("http://127.0.0.1/token/", "http://127.0.0.1/once")
        begun.set()

    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setattr(webbrowser, "open", lambda address: visited.put((address, begun.wait(20))))
    assert run(["review", "r.csv"]) == 0
    assert visited.get(timeout=30) == ("http://127.0.0.1/once", True)


def test_a_new_label_and_a_file_of_somebody_else(in_folder: object, opened: Callable[[], Review]) -> None:
    Path("corrections.classifier").write_text("mine")
    review = opened()
    numbers = number_of(review)
    review.decide([numbers[30]], "label", "1e1")
    review.decide([numbers[88]], "label", "9e1")
    review.decide([numbers[62]], "unwanted", None)
    done = trained(review)
    assert (done["state"], done["examples"], done["classifier"]) == ("done", 2, "corrections-2.classifier")
    assert read_classifier("corrections-2.classifier").labels.names == ("1e1", "8e1", "9e1")
    assert Path("corrections.classifier").read_text() == "mine"
    assert trained(review)["classifier"] == "corrections-2.classifier"  # its own is replaced


def test_what_cannot_be_learned_is_said_and_changes_nothing(in_folder: object, opened: Callable[[], Review]) -> None:
    review = opened()
    before = review.images()
    failed = trained(review)
    assert (failed["state"], failed["message"]) == (
        "failed",
        "there is too little to learn from; decide on images of two labels at least",
    )
    assert review.images() == before
    for number, degrees in enumerate(DEGREES[:28:2]):  # without rhyme or reason: nothing can be better than chance
        review.decide([number_of(review)[degrees]], "label", ("1e1", "8e1")[number % 2])
    failed = trained(review)
    assert failed["state"] == "failed"
    assert re.search(r"make no better classifier \(.*% right against .*%, cross-validated\)", failed["message"])
    assert not Path("corrections.classifier").exists()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"weights": "other"}, "other weights now than when the images were classified"),
        ({"texts of the labels": "other"}, "which texts its labels stood for"),
        ({"tuning": "other"}, "is another than the images were classified by"),
        ({"model": None}, "so their model is not known"),
    ],
)
def test_without_the_classifier_of_the_run_there_is_no_training(
    in_folder: object, opened: Callable[[], Review], change: dict[str, str], why: str
) -> None:
    record = json.loads(Path("r.csv.run.json").read_text())
    record["settings"] |= change
    Path("r.csv.run.json").write_text(json.dumps(record))
    review = opened()
    assert not review.about()["can_train"]
    assert why in review.about()["why_not"]
    assert review.decide([0], "right", None)["images"][0]["decision"]["kind"] == "right"


def test_classify_keeps_what_people_decided(
    in_folder: object, opened: Callable[[], Review], capsys: pytest.CaptureFixture[str]
) -> None:
    review = opened()
    numbers = number_of(review)
    review.decide([numbers[30], numbers[32]], "label", "8e1")
    review.decide([numbers[34]], "unknown", None)
    review.decide([numbers[36]], "right", None)
    review.decide([numbers[38]], "label", "8e1")
    review.undo()
    before = labels_in("r.csv")
    capsys.readouterr()
    options = ["--labels", "labels.txt", "--prompts", "plain", "--corrections", "corrections.csv"]
    assert run(["classify", "set", *options, "-o", "again.csv", "-o", "again.jsonl"]) == 0
    assert "4 answers from corrections.csv, which has 4\n" in capsys.readouterr().err
    decided = {"set/30.png": "8e1", "set/32.png": "8e1", "set/34.png": "unknown"}
    assert labels_in("again.csv") == before | decided
    row = json.loads(Path("again.jsonl").read_text().splitlines()[0])
    # by hand: cos(80° - 30°) = 0.642788, cos(10° - 30°) = 0.939693; the logit scale is 10
    assert (row["label"], row["score"], row["margin"]) == ("8e1", 0.642787, pytest.approx(-0.296905, abs=1e-6))
    assert row["probability"] == pytest.approx(0.0488, abs=1e-4)
    assert classify(*options, "-o", "again.csv", "-o", "again.jsonl", "--resume") == 0
    with Path("corrections.csv").open("a") as file:
        file.write("set/38.png,8e1,1e1,2030-01-01T00:00:00+00:00,label\n")
    assert classify(*options, "-o", "again.csv", "-o", "again.jsonl", "--resume") == 2
    assert "corrections was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--multi-label"], 2, "--corrections has one label for each image"),
        (["--corrections", "none.csv"], 2, "there is no such file"),
        (["--corrections", "other.csv"], 3, "other.csv line 2: label 'cow' is not one of the 2 labels"),
    ],
)
def test_corrections_that_do_not_fit(
    in_folder: object, capsys: pytest.CaptureFixture[str], options: list[str], code: int, says: str
) -> None:
    Path("corrections.csv").write_text("image,label\nset/30.png,8e1\n")
    Path("other.csv").write_text("image,label\nset/30.png,cow\n")
    own = ["--labels", "labels.txt", "--prompts", "plain", "--corrections", "corrections.csv"]
    assert run(["classify", "set", *own, *options]) == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["none.csv"], 2, "none.csv: no such results"),
        (["set"], 2, "has no manifest.csv"),
        (["labels.txt"], 2, "is not one of .csv"),
        (["r.csv", "--port", "0"], 2, "0"),
        (["r.csv", "--corrections", "labels.txt"], 3, "labels.txt, line 1: not a log of corrections"),
        (["r.csv", "--corrections", "none/corrections.csv"], 2, "cannot write none/corrections.csv"),
    ],
)
def test_what_cannot_be_reviewed_is_an_error_in_a_sentence(
    in_folder: object, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    assert run(["review", "--no-browser", *arguments]) == code
    assert says in capsys.readouterr().err
    assert not Path("corrections.csv").exists()


def test_without_the_extra_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from zeroshot_cli.cli.commands import review

    monkeypatch.setattr(review, "find_spec", lambda name: None)
    assert run(["review", "r.csv"]) == 2
    assert "pip install 'zeroshot-cli[review]'" in capsys.readouterr().err


# The server as a process


class Server:
    """`zeroshot review` in a process; `ask` and `tell` as the page does."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "zeroshot_cli", "review", *arguments, "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def ask(self, path: str) -> Any:
        with urlopen(self.address + path, timeout=60) as answer:
            return json.loads(answer.read())

    def tell(self, path: str, body: object) -> Any:
        headers = {"content-type": "application/json"}
        with urlopen(Request(self.address + path, json.dumps(body).encode(), headers), timeout=60) as answer:
            return json.loads(answer.read())

    def end(self, how: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(how)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.fixture
def results(small_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_pairs: Callable[..., Path]) -> str:
    monkeypatch.chdir(tmp_path)
    draw_pairs(40)
    labels = [part for label in ("cat", "dog", "horse") for part in ("--label", label)]
    assert run(["classify", "pictures", *labels, "-o", "r.csv", "-q"]) == 0
    return "r.csv"


@pytest.mark.slow
def test_kills_in_mid_decision_lose_nothing_that_was_answered(results: str) -> None:
    rng, answered = random.Random(0), dict[int, str]()
    for _ in range(6):
        server = Server(results)
        known = {
            each["n"]: each["decision"]["label"] for each in server.ask("api/images")["images"] if each["decision"]
        }
        assert answered.items() <= known.items()
        stop = time.monotonic() + rng.uniform(0.05, 0.6)
        while time.monotonic() < stop:
            number, label = rng.randrange(40), rng.choice(["cat", "dog", "horse"])
            server.tell("api/decisions", {"images": [number], "kind": "label", "label": label})
            answered[number] = label
        body = json.dumps({"images": [*range(40)], "kind": "label", "label": "cow"}).encode()
        sent = Request(server.address + "api/decisions", body, {"content-type": "application/json"})
        killer = subprocess.Popen(["sh", "-c", f"sleep {rng.uniform(0, 0.02)}; kill -9 {server.process.pid}"])
        try:
            with urlopen(sent, timeout=60) as answer:
                answer.read()
            answered = dict.fromkeys(range(40), "cow")
        except (OSError, HTTPException):  # killed before it could answer: written or not, whole lines all the same
            answered = {}
        killer.wait()
        server.process.communicate()
    log = Corrections(Path("corrections.csv"))
    assert len(log.decided) == 40
    log.close()


@pytest.mark.slow
def test_two_servers_on_one_log_refuse_each_other_and_ctrl_c_ends_one(results: str) -> None:
    first = Server(results)
    second = subprocess.run(
        [sys.executable, "-m", "zeroshot_cli", "review", results, "--no-browser"], capture_output=True, text=True
    )
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr == "error: another run is writing corrections.csv; wait until it ends, or name another file\n"
    first.tell("api/decisions", {"images": [0], "kind": "unwanted"})
    third = Server(results, "--corrections", "others.csv")
    assert third.ask("api/images")["images"][0]["decision"] is None
    assert third.end(signal.SIGINT)[0] == 130
    code, errors = first.end(signal.SIGINT)
    assert code == 130
    assert "40 images; decisions go to corrections.csv" in errors
    assert "Ctrl-C ends it; next: zeroshot tune corrections.csv -o my.classifier" in errors
    assert "Traceback" not in errors
    assert not Path("others.csv").exists()  # nothing was decided
    again = Server(results)
    assert again.ask("api/images")["images"][0]["decision"] == {"kind": "unwanted", "label": "unknown"}
    _, errors = again.end(signal.SIGTERM)
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_port_that_is_taken_is_an_error(results: str) -> None:
    first = Server(results)
    port = first.address.split(":")[2].split("/")[0]
    command = [sys.executable, "-m", "zeroshot_cli", "review", results, "--port", port, "--corrections", "b.csv"]
    second = subprocess.run(command, capture_output=True, text=True)
    first.end(signal.SIGINT)
    assert second.returncode == 2
    assert f"cannot listen at port {port} of 127.0.0.1" in second.stderr

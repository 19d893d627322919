"""Results on a terminal: fifty rows, names that fit, and the counts at the end."""

import io
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console

from zeroshot_cli.console.counts import print_counts
from zeroshot_cli.console.results_table import SHOWN_ROWS, TableWriter, shortened
from zeroshot_cli.console.terminal import console_for
from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results.summary import Tally

CAT, DOG = LabelScore("cat", 0.25, 0.9), LabelScore("dog", 0.125, 0.1)
FOLDER = "/home/me/photographs/of 2024/holidays"


@pytest.mark.parametrize(
    ("path", "width", "cut"),
    [
        ("a/b.png", 7, "a/b.png"),
        (f"{FOLDER}/IMG_1.jpg", 47, f"{FOLDER}/IMG_1.jpg"),
        (f"{FOLDER}/IMG_1.jpg", 46, "/home/me/…/of 2024/holidays/IMG_1.jpg"),
        (f"{FOLDER}/IMG_1.jpg", 32, "/home/me/…/holidays/IMG_1.jpg"),
        (f"{FOLDER}/IMG_1.jpg", 22, "/home/…idays/IMG_1.jpg"),
        (f"{FOLDER}/IMG_1.jpg", 11, "…/IMG_1.jpg"),
        (f"{FOLDER}/IMG_1.jpg", 10, "IMG_1.jpg"),
        (f"{FOLDER}/IMG_1.jpg", 9, "IMG_1.jpg"),
        (f"{FOLDER}/IMG_1.jpg", 8, "IM…1.jpg"),
        ("animation-of-a-wheel.gif#12", 15, "anim…eel.gif#12"),
        ("no-extension-at-all", 9, "no-e…-all"),
        (".hidden-file-of-someone", 9, ".hid…eone"),
        ("archive.of everything that there is", 12, "archiv…re is"),
        ("猫猫猫猫猫/狗狗.png", 13, "猫…/狗狗.png"),
        ("/a.png", 5, "a.png"),
    ],
)
def test_a_path_is_cut_in_its_folder(path: str, width: int, cut: str) -> None:
    found = shortened(path, width)
    assert found.replace(" ", "") == cut.replace(" ", "")
    assert cell_len(found) <= width


@pytest.mark.parametrize("width", range(1, 60))
def test_a_path_never_takes_more_than_there_is(width: int) -> None:
    for path in (f"{FOLDER}/Grüße 猫猫猫 👩‍🔬.tar.webp", "x" * 70, "/" * 70, "a/" * 35, ".jpg" * 20):
        found = shortened(path, width)
        assert cell_len(found) <= width
        assert width < 16 or not path.endswith(".webp") or found.endswith(".webp")


def drawn(
    *items: Result, width: int = 80, most: int = sys.maxsize, ranks: bool = False, grouped: bool = False
) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, no_color=True)
    writer = TableWriter(console, ranks=ranks, grouped=grouped, most=most)
    for item in items:
        writer.write([item])
    writer.close()
    text = stream.getvalue()
    for code in ("\x1b[1m", "\x1b[2m", "\x1b[0m", "\x1b[33m", "\x1b[31m"):
        text = text.replace(code, "")
    return [line.rstrip() for line in text.splitlines()]


def test_fifty_rows_then_how_many_more() -> None:
    lines = drawn(*(Prediction(f"{n:03}.png", (CAT,), None) for n in range(1000)), most=SHOWN_ROWS)
    assert [line.split()[0] for line in lines[2:-1]] == [f"{n:03}.png" for n in range(50)]
    assert lines[-1] == "… 950 more images; --format table shows all"


def test_the_rows_of_an_image_stay_together() -> None:
    items = [Prediction(f"{n}.png", (CAT, DOG, CAT), None) for n in range(4)]
    lines = drawn(*items, most=4, ranks=True)
    assert [line.split()[0] for line in lines[2:-1]] == ["0.png", "2", "3", "1.png", "2", "3"]
    assert lines[-1] == "… 2 more images; --format table shows all"


def test_images_that_cannot_be_read_are_named() -> None:
    items: list[Result] = [Prediction(f"{n}.png", (CAT,), None) for n in range(9)]
    items += [SkippedImage(f"bad {n}.png", "damaged") for n in range(12)]
    lines = drawn(*items, most=2)
    assert [line.split()[0] for line in lines[2:4]] == ["0.png", "1.png"]
    assert lines[4:-1] == [f"bad {n}.png: damaged" for n in range(10)]
    assert lines[-1] == "… 9 more images; --format table shows all"


def test_nothing_is_said_of_what_is_all_there() -> None:
    assert "more" not in "".join(drawn(*(Prediction(f"{n}.png", (CAT,), None) for n in range(50)), most=50))


@pytest.mark.parametrize("width", [80, 120])
def test_a_row_is_a_line_on_a_terminal_and_whole_in_a_pipe(width: int) -> None:
    path = f"{FOLDER}/{'deeper/' * 12}IMG_0001.jpg"
    _, _, line = drawn(Prediction(path, (CAT,), None), width=width)
    assert len(line) <= width
    assert line.startswith("/home/me/")
    assert "/IMG_0001.jpg" in line
    stream = io.StringIO()
    writer = TableWriter(console_for(stream), ranks=False)
    writer.write([Prediction(path, (CAT,), None)])
    writer.close()
    assert path in stream.getvalue()


@pytest.mark.parametrize(("ranks", "width"), [(False, 80), (True, 90)])
def test_a_row_with_a_group_is_a_line_too(ranks: bool, width: int) -> None:
    best = LabelScore("crescent moon", 0.25, 0.9, ("living thing", "animal", "mammal"))
    path = "photographs of the year/crescent_moon.png"
    lines = drawn(Prediction(path, (best, best), None), width=width, ranks=ranks, grouped=True)
    assert len(lines) == 4
    assert all(len(line) <= width for line in lines)
    assert " crescent moon " in lines[2]
    assert lines[2].endswith("/mammal")


def test_paths_to_come_may_be_longer_than_the_first() -> None:
    items = [Prediction(f"{n}.png", (CAT,), None) for n in range(200)]
    lines = drawn(*items, Prediction("a folder/of photographs/IMG_0001.jpg", (CAT,), None))
    assert lines[-1].startswith("a folder/of photographs/IMG_0001.jpg ")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def counts(monkeypatch: pytest.MonkeyPatch, tally: Tally, *, width: int = 80, height: int = 24) -> list[str]:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    monkeypatch.setenv("TERM", "dumb")
    print_counts(tally)
    return [line.rstrip() for line in sys.stderr.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_labels_most_frequent_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    tally.write([Prediction(f"{n}.png", (DOG,), None) for n in range(3)])
    tally.write([Prediction(f"{n}.png", (CAT,), None) for n in range(12)])
    tally.write([Prediction("u.png", (CAT,), None, rejected=True)] * 4 + [SkippedImage("b.png", "gone")])
    assert [line.split() for line in counts(monkeypatch, tally) if line][2:] == [
        ["cat", "12", "60.0%"],
        ["dog", "3", "15.0%"],
        ["unknown", "4", "20.0%"],
        ["could", "not", "be", "read", "1", "5.0%"],
    ]


def test_labels_and_folders_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    for number in range(30):
        label = LabelScore(f"label {number:02}", 0.5, 0.5)
        tally.write([Prediction(f"{FOLDER}/{number % 10}/{n}.png", (label,), None) for n in range(31 - number)])
    tally.write([SkippedImage("/b.png", "gone")])
    lines = counts(monkeypatch, tally)
    assert max(map(len, lines)) <= 80
    start = lines.index(next(line for line in lines if line.startswith("folder")))
    # 12 rows: 10 labels, the others, and what could not be read. 31 + ... + 2 are 495.
    assert [line.split() for line in lines[3:13]] == [
        ["label", f"{n:02}", str(31 - n), f"{(31 - n) / 496:.1%}"] for n in range(10)
    ]
    assert [line.split() for line in lines[13:15]] == [
        ["…", "20", "more", "labels", "230", "46.4%"],
        ["could", "not", "be", "read", "1", "0.2%"],
    ]
    assert lines[start + 2].split("  ")[0] == "/home/me/…/holidays/0"
    assert lines[start + 2].endswith("   63   label 00 31, label 10 21, label 20 11")
    assert lines[start + 7].split() == ["…", "6", "more", "folders", "211"]
    assert lines[start + 8 :] == [""]


def test_few_images_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    tally.write([Prediction("a.png", (CAT,), None)] * 9)
    assert counts(monkeypatch, tally) == []


def test_nothing_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    tally.write([Prediction("a.png", (CAT,), None)] * 99)
    print_counts(tally)
    assert capsys.readouterr().err == ""


def test_no_control_character_reaches_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    tally.write([Prediction("[red]\x1b[2J/a.png", (LabelScore("[b]\x1b[2J\n", 0.5, 0.5),), None)] * 20)
    tally.write([Prediction("b/a.png", (CAT,), None)])
    text = "\n".join(counts(monkeypatch, tally))
    assert "\x1b[2J" not in text
    assert text.count("[red]\\x1b[2J") == 1
    assert text.count("[b]\\x1b[2J\\n") == 2

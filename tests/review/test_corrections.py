"""The log of corrections: appended, replayed, undone, and whole after a kill at any byte."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from zeroshot_cli.datasets.examples import read_corrections, read_examples
from zeroshot_cli.errors import InputError, UsageError
from zeroshot_cli.review.corrections import Choice, Corrections, Decision, Kind
from zeroshot_cli.words.labels import Labels

CAT, DOG = Decision(Kind.RIGHT, "cat"), Decision(Kind.LABEL, "dog")
HEADER = "path,label,was,when,decision\n"


def choices(*paths: str, decision: Decision = DOG, was: str = "cat") -> list[Choice]:
    return [Choice(path, was, decision) for path in paths]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "corrections.csv"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def state(path: Path) -> dict[str, Decision]:
    log = Corrections(path)
    found = log.decided
    log.close()
    return found


def test_decisions_are_lines_and_the_last_of_an_image_counts(path: Path) -> None:
    log = Corrections(path)
    log.decide(choices("a.jpg", decision=CAT))
    log.decide(choices("b.jpg", "a.jpg"))
    assert log.of("a.jpg") == DOG
    log.close()
    assert [(row["path"], row["label"], row["was"], row["decision"]) for row in rows(path)] == [
        ("a.jpg", "cat", "cat", "right"),
        ("b.jpg", "dog", "cat", "label"),
        ("a.jpg", "dog", "cat", "label"),
    ]
    times = [row["when"] for row in rows(path)]
    assert times[0] < times[1] == times[2]  # those of one selection share it
    assert state(path) == {"a.jpg": DOG, "b.jpg": DOG}


def test_a_selection_is_undone_as_one_and_again_and_again_after_a_restart(path: Path) -> None:
    log = Corrections(path)
    log.decide(choices("a", decision=CAT))
    log.decide(choices("a", "b", "c"))
    log.decide(choices("c", decision=Decision(Kind.UNWANTED)))
    assert log.undo("abc") == ["c"]
    assert log.of("c") == DOG
    log.close()
    log = Corrections(path)
    assert log.undo("abc") == ["a", "b", "c"]
    assert log.decided == {"a": CAT}
    log.close()
    log = Corrections(path)
    assert log.undo("abc") == ["a"]
    assert log.undo("abc") == []
    log.close()
    assert [row["label"] for row in rows(path)][-5:] == ["dog", "cat", "", "", ""]  # what each has from then on
    assert state(path) == {}


def test_an_undo_passes_over_decisions_on_images_of_other_runs(path: Path) -> None:
    log = Corrections(path)
    log.decide(choices("a", "other"))
    log.decide(choices("other", decision=CAT))
    assert log.undo({"a", "b"}) == ["a"]
    assert log.undo({"a", "b"}) == []
    log.close()
    assert state(path) == {"other": CAT}
    log = Corrections(path)
    assert log.undo({"other"}) == ["other"]
    assert log.undo({"other"}) == ["other"]
    log.close()
    assert state(path) == {}


def test_a_decision_after_an_undo_is_a_group_of_its_own(path: Path) -> None:
    log = Corrections(path)
    log.decide(choices("a", "b"))
    log.undo("abc")
    log.decide(choices("a", decision=CAT))
    log.close()
    log = Corrections(path)
    assert log.undo("abc") == ["a"]
    assert log.undo("abc") == []
    log.close()


def test_odd_paths_and_labels_come_back_as_they_were(path: Path) -> None:
    odd = ['a,"b".jpg', "new\nline.jpg", "\udcff.jpg", "=1+1.jpg", " space ", "Straße 🐈.jpg"]
    log = Corrections(path)
    log.decide(choices(*odd, decision=Decision(Kind.LABEL, '<script>"x"</script>')))
    log.close()
    assert [*state(path)] == odd
    assert {each.label for each in state(path).values()} == {'<script>"x"</script>'}


@pytest.mark.parametrize("kept", [1, 20, 50])
def test_a_line_that_a_kill_has_torn_is_cut_and_the_next_is_whole(path: Path, kept: int) -> None:
    log = Corrections(path)
    log.decide(choices("a"))
    log.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'"b,with comma",dog,cat,2026-11-29T10:43:23.518+00:00,label\n'[:kept])
    log = Corrections(path)
    assert log.decided == {"a": DOG}
    log.decide(choices("c"))
    log.close()
    assert path.read_bytes().startswith(whole)
    assert [row["path"] for row in rows(path)] == ["a", "c"]


def test_every_byte_at_which_a_write_may_end_leaves_a_log_that_opens(path: Path) -> None:
    log = Corrections(path)
    log.decide(choices("a", 'b"\n,', decision=CAT))
    log.undo(log.decided)
    log.close()
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        assert {*state(path)} <= {"a", 'b"\n,'}


def test_a_log_without_a_decision_leaves_no_file(path: Path) -> None:
    Corrections(path).close()
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,label\na.jpg,cat\n", "line 1: not a log of corrections"),
        (HEADER + "a.jpg,cat,dog,2026-01-01T00:00:00+00:00,perhaps\n", "line 2: not a correction"),
        (HEADER + "a.jpg,cat,dog,yesterday,label\n", "line 2: not a correction"),
        (HEADER + "a.jpg,cat,dog,2026-01-01T00:00:00,label\n", "line 2: not a correction"),
        (HEADER + ",cat,dog,2026-01-01T00:00:00+00:00,label\n", "line 2: not a correction"),
        (HEADER + "a.jpg,,dog,2026-01-01T00:00:00+00:00,label\n", "line 2: not a correction"),
        (HEADER + "a.jpg,cat\n", "line 2: not a correction"),
    ],
)
def test_what_is_no_log_is_refused_and_left_alone(path: Path, text: str, says: str) -> None:
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        Corrections(path)
    assert path.read_text() == text


def test_a_link_is_refused(tmp_path: Path, path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    path.symlink_to(tmp_path / "other")
    with pytest.raises(UsageError, match="it is a link"):
        Corrections(path)
    assert (tmp_path / "other").read_text() == "mine"


@pytest.mark.slow
def test_two_processes_on_one_log_refuse_each_other(path: Path) -> None:
    program = (
        "import sys, pathlib; from zeroshot_cli.review.corrections import Corrections; "
        "Corrections(pathlib.Path(sys.argv[1]))"
    )
    log = Corrections(path)
    log.decide(choices("a"))
    second = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert "UsageError: another run is writing" in second.stderr
    log.close()
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == 0


# What other commands read of it


@pytest.fixture
def decided(tmp_path: Path, path: Path) -> Path:
    for name in "abcdef":
        (tmp_path / f"{name}.jpg").write_bytes(b"not looked at")
    log = Corrections(path)
    log.decide(choices("a.jpg", decision=CAT))
    log.decide(choices("b.jpg", "c.jpg"))
    log.decide(choices("c.jpg", decision=Decision(Kind.UNKNOWN)))
    log.decide(choices("d.jpg", decision=Decision(Kind.UNWANTED)))
    log.decide(choices("e.jpg", "b.jpg", decision=Decision(Kind.LABEL, "cow")))
    log.undo(log.decided)
    log.close()
    return path


def test_tune_learns_from_what_has_a_label_in_the_end(decided: Path) -> None:
    found = read_examples([decided])
    labels = {
        Path(str(item)).name: found.labels.names[target]
        for item, target in zip(found.items, found.targets, strict=True)
    }
    assert labels == {"a.jpg": "cat", "b.jpg": "dog"}  # e.jpg has none again, c.jpg and d.jpg are unknown
    assert found.passed_over == (
        f"{decided}: 2 rows labelled 'unknown' passed over",
        f"{decided}: 1 row without a label passed over",
    )


def test_classify_gets_groups_too(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not looked at")
    (tmp_path / "t.csv").write_text("image,label\na.jpg,pet\n")
    assert read_corrections(tmp_path / "t.csv", Labels.of_user({"pet": ["cat", "dog"]})) == {
        str(tmp_path / "a.jpg"): "pet"
    }


def test_classify_gets_the_same_labels_and_what_is_unknown(decided: Path, tmp_path: Path) -> None:
    found = read_corrections(decided, Labels.of(["cat", "dog", "horse"]))
    assert found == {
        str(tmp_path / "a.jpg"): "cat",
        str(tmp_path / "b.jpg"): "dog",
        str(tmp_path / "c.jpg"): "unknown",
        str(tmp_path / "d.jpg"): "unknown",
    }

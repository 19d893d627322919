"""The house stays easy to see: files of one subject, rooms that fit on a screen, little at the root."""

from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "zeroshot_cli"
ROOMS = sorted(path.parent for path in SOURCE.rglob("__init__.py"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_is_longer_than_400_lines() -> None:
    assert {str(path.relative_to(SOURCE)): lines(path) for path in SOURCE.rglob("*.py") if lines(path) > 400} == {}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_no_room_has_more_than_16_files(room: Path) -> None:
    assert len(list(room.glob("*.py"))) <= 16


def test_the_root_holds_what_every_room_needs() -> None:
    names = {path.stem for path in SOURCE.glob("*.py")}
    assert names <= {"__init__", "__main__", "disk", "display", "documents", "errors", "processes", "records"}


def test_the_makefile_finds_the_tests_of_engines() -> None:
    tests = Path(__file__).parent
    marked = {path for path in tests.rglob("test_*.py") if "mark.engines" in path.read_text(encoding="utf-8")}
    assert {path.relative_to(tests).parts[0] for path in marked - {Path(__file__)}} == {"models"}

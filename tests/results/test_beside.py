"""Files that a run makes beside its outputs: where a link or somebody else's file has the name, nothing is touched."""

import hashlib
import os
from pathlib import Path

import pytest

from zeroshot_cli.disk import replacing, write_file, write_notes
from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.results.append_file import AppendFile
from zeroshot_cli.results.formats import journal_lines
from zeroshot_cli.results.run_record import RunRecord, write_record
from zeroshot_cli.results.targets import Targets, check_outputs


@pytest.fixture(autouse=True)
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the user's that a link leads to; the test's folder is the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "victim").write_text("mine")
    return tmp_path / "victim"


BESIDE = ["out.html.run.json", "out.html.run.jsonl"]


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("goal", ["victim", "missing"])
@pytest.mark.parametrize("name", BESIDE)
def test_a_link_beside_an_output_is_refused(name: str, goal: str, overwrite: bool, victim: Path) -> None:
    Path(name).symlink_to(goal)
    with pytest.raises(UsageError, match=f"cannot write {name}: it is a link"):
        check_outputs(Targets((Path("out.html"),)), overwrite=overwrite)
    assert victim.read_text() == "mine"
    assert not Path("missing").exists()


@pytest.mark.parametrize("content", ["my notes\n", '{"a": 1}\n', "[]", '{"path": "a.jpg"}\n'])
@pytest.mark.parametrize("name", BESIDE)
def test_a_file_of_the_users_beside_an_output_is_refused_even_with_overwrite(name: str, content: str) -> None:
    Path(name).write_text(content)
    with pytest.raises(UsageError, match=r"was not written by zeroshot; rename it, or name another output"):
        check_outputs(Targets((Path("out.html"),)), overwrite=True)
    assert Path(name).read_text() == content


@pytest.mark.parametrize("name", BESIDE)
def test_a_pipe_or_a_folder_beside_an_output_is_refused(name: str) -> None:
    os.mkfifo(name)
    with pytest.raises(UsageError, match="it is not a regular file"):
        check_outputs(Targets((Path("out.html"),)), overwrite=True)
    Path(name).unlink()
    Path(name).mkdir()
    with pytest.raises(UsageError, match="it is not a regular file"):
        check_outputs(Targets((Path("out.html"),)), overwrite=True)


@pytest.mark.parametrize("cut", [0, 1, 9, 30, None])
def test_what_a_killed_run_left_is_no_obstacle(cut: int | None) -> None:
    line = journal_lines([SkippedImage("a.jpg", "a reason of some length")])
    Path(BESIDE[1]).write_bytes(line[:cut] if cut != 1 else b"\0" * 50)
    write_record(Path(BESIDE[0]), RunRecord())
    check_outputs(Targets((Path("out.html"),)), overwrite=True)


def test_links_planted_after_the_check_are_refused_too(victim: Path) -> None:
    Path("own").symlink_to("victim")
    for act in (
        lambda: AppendFile(Path("own"), own=True),
        lambda: write_record(Path("own"), RunRecord()),
        lambda: write_file(Path("own"), "new", own=True),
    ):
        with pytest.raises(UsageError, match="cannot write own: it is a link"):
            act()
    write_notes(Path("own"), {"a": 1})  # not worth an error
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("kind", [{"resumable": True}, {"locked": True}])
def test_an_unfinished_file_that_is_a_link_is_replaced_and_not_followed(kind: dict[str, bool], victim: Path) -> None:
    planted = Path(f".{hashlib.sha256(b'out').hexdigest()[:12]}.unfinished")
    planted.symlink_to("victim")
    write_file(Path("out"), "new", **kind)  # type: ignore[arg-type]
    assert (Path("out").read_text(), victim.read_text()) == ("new", "mine")
    assert not planted.is_symlink()
    planted.symlink_to("missing")
    with replacing(Path("out"), **kind) as unfinished:  # type: ignore[arg-type]
        unfinished.write_text("newer")
    assert Path("out").read_text() == "newer"
    assert not Path("missing").exists()


def test_an_output_that_the_user_named_may_be_a_link(victim: Path) -> None:
    Path("out").symlink_to("victim")
    write_file(Path("out"), "new")
    assert (Path("out").is_symlink(), victim.read_text()) == (True, "new")

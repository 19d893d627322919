"""`zeroshot tag` and `zeroshot untag`: what is printed, and exit codes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.filing.test_sort import here, synced
from tests.tagging.test_tag import draw, say
from zeroshot_cli.cli import app

__all__ = ["here", "synced"]  # fixtures
Zeroshot = Callable[..., tuple[int, str, str]]


@pytest.fixture
def zeroshot(here: Path, capfd: pytest.CaptureFixture[str]) -> Zeroshot:
    """`zeroshot("tag", "results.csv")` runs the command: its exit code, standard output and standard error."""
    draw("a.jpg", "b.jpg")
    say(("a.jpg", "cat"), ("b.jpg", "unknown"))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = app.run([*arguments])
        return code, *capfd.readouterr()

    return run


def test_tag_and_untag(zeroshot: Zeroshot, here: Path) -> None:
    dry = zeroshot("tag", "results.csv", "--dry-run", "--parent", "zeroshot|pets")
    rows = "sidecar\tchange\tkeywords\na.jpg.xmp\tnew\tzeroshot|pets|cat\n"
    assert dry == (0, rows, "1 sidecar would be written; passed over: 1 unknown.\n")
    assert not Path("a.jpg.xmp").exists()
    assert zeroshot("tag", "results.csv") == (0, "", "1 sidecar written; passed over: 1 unknown.\n")
    assert zeroshot("tag", "results.csv", "-q") == (0, "", "")
    assert zeroshot("untag", "results.csv") == (0, "", "0 sidecars restored, 1 removed.\n")
    assert not Path("a.jpg.xmp").exists()


def test_what_is_not_written_is_named_even_when_quiet(zeroshot: Zeroshot) -> None:
    Path("a.jpg.xmp").write_text("notes")
    reason = "a.jpg.xmp: left as it is: it is not XMP: syntax error in line 1\n"
    assert zeroshot("tag", "results.csv", "--quiet") == (4, "", reason)


def test_untag_names_what_was_edited(zeroshot: Zeroshot) -> None:
    zeroshot("tag", "results.csv")
    path = Path("a.jpg.xmp")
    path.write_text(path.read_text(encoding="utf-8").replace("<rdf:Description", "<!-- mine --><rdf:Description", 1))
    code, _, said = zeroshot("untag", "results.csv.tags.jsonl")
    assert code == 0
    assert said.splitlines()[0] == "a.jpg.xmp was changed by another program since; only our keywords are taken out"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tag"], 2, "error: "),
        (["tag", "nowhere.csv"], 2, "error: there is no file nowhere.csv; name what zeroshot classify wrote"),
        (["tag", "."], 3, "error: . is a folder; name what zeroshot classify wrote with --output"),
        (["tag", "a.jpg"], 3, "error: a.jpg has no column 'path'"),
        (["tag", "results.csv", "--min-probability", "nan"], 2, "error: "),
        (["tag", "results.csv", "--top-k", "0"], 2, "error: "),
        (
            ["tag", "results.csv", "--parent", "pets||cats"],
            2,
            "error: --parent 'pets||cats' has a name without letters",
        ),
        (["tag", "results.csv", "--parent", "|"], 2, "error: --parent '|' has"),
        (["tag", "results.csv", "--sidecar", "beside"], 2, "error: "),
        (["untag", "results.csv"], 2, "error: there is no record results.csv.tags.jsonl; name the results"),
    ],
)
def test_errors_are_one_sentence(zeroshot: Zeroshot, arguments: list[str], code: int, message: str) -> None:
    got, out, said = zeroshot(*arguments)
    assert (got, out) == (code, "")
    assert said.startswith(message)
    assert said.count("\n") == 1

"""The tutorials: commands in bash blocks run as written, in order, but for training; figures are those of the pages."""

import csv
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zeroshot_cli.cli.app import run

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs/tutorials"
TRAINED = re.compile(r"zeroshot (train|models export)|zeroshot eval .*--model fine|from ")  # minutes; others test them
REVIEWED = (  # what a person does on the page of `zeroshot review`
    "path,label,was,when,decision\n"
    "scans/pagoda.jpg,pagoda,house,2026-01-02T03:04:05Z,label\n"
    "scans/mushroom.jpg,unknown,pizza,2026-01-02T03:04:06Z,unknown\n"
    "scans/astronaut.jpg,astronaut,unknown,2026-01-02T03:04:07Z,label\n"
)


def steps(page: Path) -> list[str]:
    """The command lines of a page: each of zeroshot by itself, what is between them together."""
    blocks = re.findall(r"^```(?:bash|python)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    found: list[str] = []
    for line in "".join(blocks).replace("\\\n", " ").splitlines(keepends=True):
        if line.startswith("zeroshot ") or not found or found[-1].startswith("zeroshot "):
            found.append(line)
        else:
            found[-1] += line
    return found


def follow(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do in `folder` what a page says, but for training; zeroshot runs in this process, which is quicker."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    monkeypatch.chdir(folder)
    settings = {"OFFLINE": "1", "CACHE_DIR": str(folder / "cache"), "DEVICE": "cpu", "PRECISION": "fp32"}
    for name, value in settings.items():
        monkeypatch.setenv(f"ZEROSHOT_{name}", value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{Path('/usr/bin')}:/bin")
    for step in steps(page):
        if TRAINED.match(step):
            continue
        if step.startswith("zeroshot "):
            assert run(shlex.split(step)[1:]) == 0, step
        else:
            subprocess.run(["bash", "-e", "-c", step], check=True)


def figure(text: str, name: str) -> float:
    """The number in per cent after `name` in what eval prints."""
    found = re.search(rf"^{name} +(\d+\.\d+) ?%", text, re.MULTILINE)
    assert found, (name, text)
    return float(found[1])


@pytest.mark.slow
def test_an_archivist_gets_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "corrections.csv").write_text(REVIEWED, encoding="utf-8")
    follow(TUTORIALS / "archivist.md", tmp_path, monkeypatch)
    assert "27 of them unknown" in capsys.readouterr().err
    with Path("final.csv").open(encoding="utf-8", newline="") as file:
        labels = {row["path"]: row["label"] for row in csv.DictReader(file)}
    assert labels["scans/pagoda.jpg"] == "pagoda"
    assert labels["scans/mushroom.jpg"] == "unknown"
    assert (labels["scans/astronaut.jpg"], labels["scans/castle.jpg"]) == ("astronaut", "castle")
    assert Path("final.xlsx").stat().st_size > 10_000
    assert not list(Path("scans").glob("*.xmp"))


@pytest.mark.slow
def test_a_biologist_gets_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(TUTORIALS / "biologist.md", tmp_path, monkeypatch)
    printed = capsys.readouterr().out
    before, after = (text for text in printed.split("camera-trap/held-out.csv: ")[1:])
    page = (TUTORIALS / "biologist.md").read_text(encoding="utf-8")
    first, second = (float(each) for each in re.findall(r"^top-1 +(\d+\.\d+)%", page, re.MULTILINE))
    assert figure(before, "top-1") == pytest.approx(first, abs=2)
    assert figure(after, "top-1") == pytest.approx(second, abs=2)
    assert Path("counts.csv").read_text(encoding="utf-8").startswith("label,folder,outcome,count,group\n")


@pytest.mark.slow
def test_an_engineer_gets_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(TUTORIALS / "engineer.md", tmp_path, monkeypatch)
    tuned = capsys.readouterr().out.split("camera-trap/held-out.csv: ")[2]
    assert figure(tuned, "top-1") == pytest.approx(84.2, abs=2)
    assert "\n84.2 %, " in (TUTORIALS / "engineer.md").read_text(encoding="utf-8")
    assert len(Path("all.csv").read_text(encoding="utf-8").splitlines()) == 361

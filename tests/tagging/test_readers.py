"""What exiftool and exiv2 read of sidecars: keywords, hierarchy and umlauts. Both have to be installed."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sidecars import OF_PROGRAMS

from tests.filing.test_sort import here, synced
from tests.tagging.test_tag import draw
from zeroshot_cli.tagging.settings import TagSettings
from zeroshot_cli.tagging.tag import tag
from zeroshot_cli.tagging.untag import untag

__all__ = ["here", "synced"]  # fixtures
LABELS = ["Äpfel & „Birnen“", "<b>", "猫🐈", "naïve café", "a]]>b"]
RESULTS = Path("r.jsonl")
BEFORE = {"darktable": ["Küste", "Sonnenuntergang"], "digiKam": ["Jörg", "Urlaub"], "Lightroom": [], "immich": []}
HIERARCHY = {
    "darktable": ["Orte|Küste", "Sonnenuntergang"],
    "digiKam": ["Personen|Jörg", "Urlaub"],
    "Lightroom": [],
    "immich": ["Familie|Zoë"],
}


@pytest.fixture(params=[*OF_PROGRAMS, None])
def program(request: pytest.FixtureRequest, here: Path) -> str | None:
    """Image a.jpg, with the sidecar of a program or none, is tagged with five labels."""
    draw("a.jpg")
    if request.param is not None:
        Path("a.jpg.xmp").write_bytes(OF_PROGRAMS[request.param].encode())
    predictions = [{"label": label, "group": "Öffentlich/Obst"} for label in LABELS]
    RESULTS.write_text(json.dumps({"path": "a.jpg", "label": LABELS[0], "predictions": predictions}))
    tag([RESULTS], TagSettings(top_k=9, parent=("zeroshot",)))
    return request.param  # type: ignore[no-any-return]


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def expected(program: str | None) -> tuple[list[str], list[str], list[str]]:
    hierarchy = [*HIERARCHY.get(program or "", ()), *(f"zeroshot|Öffentlich|Obst|{label}" for label in LABELS)]
    return [*BEFORE.get(program or "", ()), *LABELS], hierarchy, [text.replace("|", "/") for text in hierarchy]


def test_exiftool_reads_keywords_hierarchy_and_umlauts(program: str | None) -> None:
    (row,) = json.loads(run("exiftool", "-j", "-validate", "-warning", "-XMP:all", "a.jpg.xmp"))
    subject, hierarchy, tags = expected(program)
    assert listed(row["Subject"]) == subject
    assert listed(row["HierarchicalSubject"]) == hierarchy
    assert listed(row["TagsList"]) == tags
    assert "Error" not in row


def test_exiv2_reads_keywords_hierarchy_and_umlauts(program: str | None) -> None:
    lines = run("exiv2", "-PXkv", "a.jpg.xmp").splitlines()
    found = {line.split()[0]: re.split(r"\s+", line, maxsplit=1)[1] for line in lines}
    subject, hierarchy, tags = expected(program)
    assert found["Xmp.dc.subject"] == ", ".join(subject)
    assert found["Xmp.lr.hierarchicalSubject"] == ", ".join(hierarchy)
    assert found["Xmp.digiKam.TagsList"] == ", ".join(tags)
    if program == "darktable":
        assert found["Xmp.darktable.history[2]/darktable:operation"] == "filmicrgb"
        assert found["Xmp.xmp.Rating"] == "4"
    if program == "Lightroom":
        assert found["Xmp.crs.Temperature"] == "5600"


def test_what_exiftool_and_exiv2_change_since_stays(program: str | None) -> None:
    run("exiftool", "-q", "-overwrite_original", "-XMP-xmp:Rating=2", "-XMP-dc:Subject+=später", "a.jpg.xmp")
    run("exiv2", "-Mset Xmp.xmp.Label XmpText Grün", "a.jpg.xmp")
    undone = untag(RESULTS)
    assert (len(undone.edited), undone.kept) == (1, [])
    (row,) = json.loads(run("exiftool", "-j", "-XMP:all", "a.jpg.xmp"))
    assert (row["Rating"], row["Label"]) == (2, "Grün")
    assert listed(row["Subject"]) == [*BEFORE.get(program or "", ()), "später"]
    assert listed(row.get("HierarchicalSubject", [])) == HIERARCHY.get(program or "", [])

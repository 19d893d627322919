"""Keywords within images by exiftool, which has to be installed: the bytes as they were are there again."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.filing.test_sort import here, synced
from tests.tagging.test_tag import RESULTS, run, say, state
from zeroshot_cli.errors import UsageError
from zeroshot_cli.tagging import embed as embedding
from zeroshot_cli.tagging.settings import Action, TagSettings
from zeroshot_cli.tagging.tag import tag
from zeroshot_cli.tagging.untag import untag

__all__ = ["here", "synced"]  # fixtures
TAGS = ("Subject", "HierarchicalSubject", "TagsList")


def exiftool(*arguments: str) -> bytes:
    return subprocess.run(["exiftool", *arguments], check=True, capture_output=True).stdout


def read(path: str) -> list[Any]:
    (row,) = json.loads(exiftool("-j", "-XMP:all", path))
    return [row.get(tag) for tag in TAGS]


@pytest.fixture
def album(here: Path) -> Path:
    """A JPEG with IPTC keywords, a PNG, and a TIFF with XMP keywords, each with pixels that say where they are."""
    for name in ("a.jpg", "b ü.png", "c.tif"):
        Image.effect_noise((24, 24), 90).convert("RGB").save(name)
    exiftool("-q", "-overwrite_original", "-IPTC:Keywords=Küste", "a.jpg")
    exiftool("-q", "-overwrite_original", "-XMP-dc:Subject=Meer", "-XMP-dc:Subject=007", "-XMP:Rating=4", "c.tif")
    say(("a.jpg", "Bär"), ("b ü.png", "Bär"), ("c.tif", "Bär"))
    return here


def test_written_and_restored_to_the_byte(album: Path) -> None:
    Path("a.jpg").chmod(0o640)
    Path("link.jpg").symlink_to("a.jpg")
    say(("link.jpg", "Bär"), ("b ü.png", "Bär"), ("c.tif", "Bär"))
    before = state(album)
    pixels = Image.open("a.jpg").tobytes()
    assert run(embed=True, parent=("z",)).sentence() == "3 images written."
    assert Path("link.jpg").is_symlink()
    assert read("a.jpg") == [["Küste", "Bär"], ["Küste", "z|Bär"], ["Küste", "z/Bär"]]
    assert read("b ü.png") == ["Bär", "z|Bär", "z/Bär"]
    assert json.loads(exiftool("-j", "-XMP:all", "c.tif"))[0]["Rating"] == 4
    assert Image.open("a.jpg").tobytes() == pixels
    after = state(album)
    assert after[f"{album}/a.jpg"][1] == 0o640
    assert run(embed=True, parent=("z",)).sentence() == "0 images written, 3 unchanged."
    assert state(album) == after
    untag(RESULTS)
    assert state(album) == before
    assert not [path for path in album.iterdir() if path.name.startswith(".") or path.name.endswith("_original")]


@pytest.mark.slow
def test_other_labels_replace_ours(album: Path) -> None:
    before = state(album)
    run(embed=True)
    say(("a.jpg", "Hund"), ("b ü.png", "unknown"))
    tagged = run(embed=True)
    assert (tagged.count(Action.MERGED), tagged.count(Action.RESTORED)) == (1, 2)
    assert read("a.jpg")[0] == ["Küste", "Hund"]
    assert state(album)[f"{album}/c.tif"] == before[f"{album}/c.tif"]
    untag(RESULTS)
    assert state(album) == before


@pytest.mark.slow
def test_an_image_that_was_edited_since_loses_only_ours(album: Path) -> None:
    run(embed=True)
    exiftool("-q", "-overwrite_original", "-XMP:Rating=2", "c.tif")
    tagged = run(embed=True)
    assert [item.reason for item in tagged.failed] == [
        "it was changed by another program since it was tagged; type zeroshot untag first, then tag again"
    ]
    undone = untag(RESULTS)
    assert (undone.images, undone.edited) == (2, [f"{album}/c.tif"])
    (row,) = json.loads(exiftool("-j", "-XMP:all", "c.tif"))
    assert (row["Rating"], row["Subject"]) == (2, ["Meer", "007"])
    assert Path("c.tif_original").exists()


@pytest.mark.slow
def test_killed_between_any_two_steps(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(album)
    for step in ("copymode", "link", "replace"):
        for number in (1, 2):
            calls = 0
            place: Any = shutil if step == "copymode" else os
            real = getattr(place, step)

            def die(*arguments: Any, real: Any = real, number: int = number, **more: Any) -> None:
                nonlocal calls
                calls += "unfinished" in str(arguments) or "_original" in str(arguments)
                if calls == number:
                    raise KeyboardInterrupt
                real(*arguments, **more)

            with monkeypatch.context() as patch:
                patch.setattr(place, step, die)
                with pytest.raises(KeyboardInterrupt):
                    run(embed=True)
            images = {path: data for path, data in state(album).items() if not path.endswith("_original")}
            assert {path for path in images if "unfinished" not in path} == set(before)
            run(embed=True)
            untag(RESULTS)
            assert state(album) == before, (step, number)


def test_what_cannot_be_written_is_named(album: Path) -> None:
    Image.new("RGB", (2, 2)).save("d.bmp")
    Path("e\n.jpg").write_bytes(Path("a.jpg").read_bytes())
    Path("f.jpg").write_bytes(b"\xff\xd8\xff no image")
    Path("b ü.png_original").write_text("mine")
    before = state(album)
    say(*((name, "cat") for name in ("d.bmp", '"e\n.jpg"', "f.jpg", "b ü.png")))
    reasons = {Path(item.path).name: item.reason for item in run(embed=True).failed}
    assert reasons.pop("f.jpg").startswith("exiftool did not write it (")
    assert reasons == {
        "d.bmp": "exiftool did not write it (Can't write BMP files)",
        "e\n.jpg": "its name has a line break, which exiftool cannot be told",
        "b ü.png": "b ü.png_original is there already, from an earlier change; move it away",
    }
    assert state(album) == before


@pytest.mark.slow
def test_labels_are_no_options_of_exiftool(album: Path) -> None:
    labels = ["<=/etc/passwd", "-execute", "@x", "a;b", "$(id)", "#[CSTR]\\n", "1e5"]
    for label in labels:
        say(("b ü.png", f'"{label}"'))
        run(embed=True)
        (row,) = json.loads(exiftool("-j", "-XMP-dc:Subject", "b ü.png"), parse_float=str)
        assert row["Subject"] == label


def test_a_dry_run_touches_nothing(album: Path) -> None:
    before = state(album)
    tagged = tag([RESULTS], TagSettings(embed=True), dry_run=True)
    assert tagged.sentence(dry_run=True) == "3 images would be written."
    assert state(album) == before
    assert not list(album.glob("*.jsonl"))


def test_without_exiftool(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"^writing keywords into images needs exiftool, .* or omit --embed to write"):
        run(embed=True)

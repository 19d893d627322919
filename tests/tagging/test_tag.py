"""Keywords written beside images and taken out again: what was there is there again, to the byte."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sidecars import DARKTABLE, DIGIKAM, LIGHTROOM, OF_PROGRAMS

from tests.filing.test_sort import here, not_root, public, synced
from zeroshot_cli.errors import DataError, InputError, UsageError
from zeroshot_cli.filing import known
from zeroshot_cli.filing.manifest import SortMode
from zeroshot_cli.filing.sort import sort_into
from zeroshot_cli.records import LabelScore, Prediction
from zeroshot_cli.tagging import tag as tagging
from zeroshot_cli.tagging.keywords import Field
from zeroshot_cli.tagging.settings import Action, SidecarName, TagSettings
from zeroshot_cli.tagging.tag import Tagged, tag
from zeroshot_cli.tagging.untag import Untagged, untag
from zeroshot_cli.tagging.xmp import Xmp

__all__ = ["here", "public", "synced"]  # fixtures
RESULTS = Path("results.csv")
RECORD = Path("results.csv.tags.jsonl")
HEADER = "path,rank,label,score,probability,error\n"
BOTH = (*OF_PROGRAMS.values(), None)


def draw(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("an image")


def say(*labels: tuple[str, str], path: Path = RESULTS) -> Path:
    path.write_text(HEADER + "".join(f"{image},1,{label},0.3,0.9,\n" for image, label in labels), encoding="utf-8")
    return path


def run(*results: Path, **settings: object) -> Tagged:
    return tag(results or (RESULTS,), TagSettings(**settings))  # type: ignore[arg-type]


def subject(path: str) -> list[str]:
    return Xmp(Path(path).read_bytes()).keywords.get(Field.SUBJECT, [])


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".csv", ".jsonl"))
    return {str(path): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in files}


@pytest.fixture
def album(here: Path) -> Path:
    """200 images, 160 of them with a sidecar of one of four programs, by either name; and results for all."""
    images = [f"photos/{number % 7}/IMG_{number}.jpg" for number in range(200)]
    draw(*images)
    for number, image in enumerate(images):
        if (text := BOTH[number % 5]) is not None:
            path = Path(f"{image}.xmp" if number % 2 else f"{image[:-4]}.xmp")
            path.write_bytes(text.replace("IMG_1", f"IMG_{number}").encode())
            path.chmod(0o640 if number % 3 else 0o600)
    say(*((image, ("Bär", "猫", "Urlaub")[number % 3]) for number, image in enumerate(images)))
    return here


def test_two_hundred_images_are_as_they_were(album: Path) -> None:
    before = state(album)
    tagged = run(parent=("zeroshot",))
    assert (tagged.count(Action.NEW), tagged.count(Action.MERGED), tagged.failed) == (40, 160, [])
    assert tagged.sentence() == "200 sidecars written (40 new)."
    after = state(album)
    assert len(after) == 400
    assert all(after[path][1] == mode for path, (_, mode) in before.items())
    assert all("Bär" in subject(f"photos/{n % 7}/IMG_{n}.{'jpg.xmp' if n % 2 else 'xmp'}") for n in (3, 6, 18, 21))
    assert untag(RESULTS) == Untagged(restored=160, removed=40)
    assert state(album) == before
    assert [path.name for path in album.glob("*.jsonl")] == ["results.csv.untagged.jsonl"]


def test_tagged_twice_nothing_changes(album: Path) -> None:
    run()
    before, record = state(album), RECORD.read_bytes()
    tagged = run()
    assert tagged.sentence() == "0 sidecars written, 200 unchanged."
    assert (state(album), RECORD.read_bytes()) == (before, record)


def test_other_labels_replace_ours_and_not_the_users(album: Path) -> None:
    before = state(album)
    run()
    say(*((f"photos/{n % 7}/IMG_{n}.jpg", "unknown" if n % 10 == 0 else "Hund") for n in range(190)))
    tagged = run()
    # 19 unknown and 10 left out, but 191 had "Urlaub" from digiKam, and so nothing of ours
    assert (tagged.count(Action.RESTORED), tagged.wanted.unknown) == (28, 19)
    assert subject("photos/1/IMG_1.jpg.xmp") == ["Jörg", "Urlaub", "Hund"]
    assert state(album)["/".join((str(album), "photos/3/IMG_10.xmp"))] == before[f"{album}/photos/3/IMG_10.xmp"]
    assert untag(RECORD).kept == []
    assert state(album) == before


def test_killed_at_any_sidecar_it_continues_and_can_be_undone(
    album: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = state(album)
    write, calls = tagging.write_sidecar, 0

    def die(path: str, data: bytes | None) -> None:
        nonlocal calls
        calls += 1
        if calls % 60 == 0:
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(tagging, "write_sidecar", die)
        with pytest.raises(KeyboardInterrupt):
            run()
    with RECORD.open("ab") as file:
        file.write(b'{"path": "/torn')
    copy = tmp_path / "copy"
    shutil.copytree(album, copy, symlinks=True)
    assert untag(RESULTS) == Untagged(restored=48, removed=12)  # the 60th is in the record only
    assert state(album) == before
    shutil.rmtree(album)
    shutil.copytree(copy, album)
    os.chdir(album)
    assert run().sentence() == "128 sidecars written (28 new), 72 unchanged."
    untag(RESULTS)
    assert state(album) == before


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    assert old in text
    Path(path).write_text(text.replace(old, new), encoding="utf-8")


def test_what_another_program_wrote_since_is_kept(here: Path) -> None:
    draw("a.jpg", "b.jpg", "c.jpg")
    Path("a.jpg.xmp").write_text(DIGIKAM, encoding="utf-8")
    say(("a.jpg", "cat"), ("b.jpg", "cat"), ("c.jpg", "cat"))
    run()
    edit("a.jpg.xmp", 'xmp:Rating="5"', 'xmp:Rating="1"')
    edit("b.jpg.xmp", "<rdf:li>cat</rdf:li>", "<rdf:li>cat</rdf:li><rdf:li>mine</rdf:li>")
    edit("c.jpg.xmp", "</rdf:RDF>", "</rdf:RDF>\n")
    say(("a.jpg", "dog"), ("b.jpg", "dog"), ("c.jpg", "dog"))
    tagged = run()
    assert tagged.notes[0] == "a.jpg.xmp was changed by another program; all that it wrote is kept"
    assert (subject("a.jpg.xmp"), subject("b.jpg.xmp")) == (["Jörg", "Urlaub", "dog"], ["mine", "dog"])
    assert 'xmp:Rating="1"' in Path("a.jpg.xmp").read_text(encoding="utf-8")
    edit("a.jpg.xmp", 'xmp:Rating="1"', 'xmp:Rating="2"')
    undone = untag(RESULTS)
    assert (undone.edited, undone.removed) == ([f"{here}/a.jpg.xmp"], 1)
    assert Path("a.jpg.xmp").read_text(encoding="utf-8") == DIGIKAM.replace('xmp:Rating="5"', 'xmp:Rating="2"')
    assert subject("b.jpg.xmp") == ["mine"]
    assert not Path("c.jpg.xmp").exists()


def test_a_sidecar_that_is_gone_or_damaged_since(here: Path) -> None:
    draw("a.jpg", "b.jpg")
    Path("b.jpg.xmp").write_text(DARKTABLE, encoding="utf-8")
    say(("a.jpg", "cat"), ("b.jpg", "cat"))
    run()
    Path("a.jpg.xmp").unlink()
    Path("b.jpg.xmp").write_text("<x:xmpmeta")
    undone = untag(RESULTS)
    assert [(item.path, item.reason[:14]) for item in undone.kept] == [(f"{here}/b.jpg.xmp", "it is not XMP:")]
    assert undone.sentence() == "0 sidecars restored, 0 removed, 1 left unchanged."
    assert Path("b.jpg.xmp").read_text() == "<x:xmpmeta"
    assert RECORD.exists()


def test_names_of_sidecars(here: Path) -> None:
    draw("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    for name in ("b.xmp", "c.XMP", "d.xmp", "d.jpg.xmp"):
        Path(name).write_text(LIGHTROOM)
    say(*((f"{name}.jpg", "cat") for name in "abcd"))
    names = {
        SidecarName.AUTO: ["a.jpg.xmp", "b.xmp", "c.XMP", "d.jpg.xmp"],
        SidecarName.APPEND: ["a.jpg.xmp", "b.jpg.xmp", "c.jpg.xmp", "d.jpg.xmp"],
        SidecarName.REPLACE: ["a.xmp", "b.xmp", "c.XMP", "d.xmp"],
    }
    for naming, expected in names.items():
        changes = tag([RESULTS], TagSettings(naming=naming), dry_run=True).changes
        assert [path for path, _, _ in changes] == [f"{here}/{name}" for name in expected]
    before = state(here)
    run(naming=SidecarName.APPEND)
    run(naming=SidecarName.REPLACE)  # moves the keywords
    assert {path: data for path, (data, _) in state(here).items() if path.endswith("jpg.xmp")} == {
        f"{here}/d.jpg.xmp": LIGHTROOM.encode()
    }
    untag(RESULTS)
    assert state(here) == before


def test_two_images_with_one_sidecar(here: Path) -> None:
    draw("IMG_1.jpg", "IMG_1.CR2")
    Path("IMG_1.xmp").write_text(LIGHTROOM)
    say(("IMG_1.jpg", "cat"), ("IMG_1.CR2", "dog"))
    tagged = run()
    assert tagged.notes == ["IMG_1.xmp is the sidecar of IMG_1.jpg and IMG_1.CR2, and has the keywords of all"]
    assert subject("IMG_1.xmp") == ["cat", "dog"]
    untag(RESULTS)
    assert Path("IMG_1.xmp").read_bytes() == LIGHTROOM.encode()


def test_corrections_count_after_results(here: Path) -> None:
    draw("a.jpg", "b.jpg", "c.jpg")
    say(("a.jpg", "cat"), ("b.jpg", "cat"), ("c.jpg", "cat"))
    log = Path("corrections.csv")
    log.write_text("path,label,was,when\na.jpg,dog,cat,1\nb.jpg,unknown,cat,2\na.jpg,fox,dog,3\nc.jpg,,dog,4\n")
    run()
    alone = tag([log], TagSettings(), dry_run=True)
    told = (
        "results.csv was tagged before, and keeps its keywords; zeroshot tag results.csv corrections.csv corrects them"
    )
    assert alone.wanted.notes == [told]
    tagged = run(RESULTS, log, min_probability=0.95)
    assert tagged.wanted.notes == []
    assert (tagged.wanted.unknown, tagged.wanted.unsure) == (1, 1)
    assert subject("a.jpg.xmp") == ["fox"]
    assert not Path("b.jpg.xmp").exists()
    assert not Path("c.jpg.xmp").exists()


def test_every_form_of_results(here: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw("a.jpg", "b.jpg", "c.jpg")
    rows = [
        ("a.jpg", 1, "cat", 0.6, "", "animal/mammal"),
        ("a.jpg", 2, "jay", 0.3, "", "animal/bird"),
        ("b.jpg", 1, "unknown", 0.2, "", ""),
        ("c.jpg", "", "", "", "damaged", ""),
    ]
    names = ["path", "rank", "label", "probability", "error", "group"]
    for delimiter, name in ((",", "r.csv"), ("\t", "r.tsv"), (";", "excel.csv")):
        lines = (delimiter.join(map(str, row)) for row in [names, *rows])
        Path(name).write_text("\ufeff" * (name == "excel.csv") + "\r\n".join(lines), encoding="utf-8")
    columns = {name: [None if row[i] == "" else row[i] for row in rows] for i, name in enumerate(names)}
    pq.write_table(pa.table(columns), "r.parquet")
    best = [{"label": "cat", "probability": 0.6, "group": "animal/mammal"}]
    best += [{"label": "jay", "probability": 0.3, "group": "animal/bird"}]
    objects = [
        {"path": "a.jpg", "label": "cat", "probability": 0.6, "predictions": best},
        {"path": "b.jpg", "label": "unknown", "nearest": "cat", "probability": 0.2, "predictions": best},
        {"path": "c.jpg", "error": "damaged"},
    ]
    Path("r.jsonl").write_text("\n".join(map(json.dumps, objects)))
    for name in ("r.csv", "r.tsv", "excel.csv", "r.parquet", "r.jsonl"):
        found = {}
        for top_k, least in ((1, None), (2, None), (2, 0.5), (1, 0.7)):
            settings = TagSettings(top_k, least, ("z",))
            tagged = tag([Path(name)], settings, dry_run=True)
            assert (tagged.wanted.unknown, tagged.wanted.unreadable) == (1, 1)
            found[top_k, least] = [texts.get(Field.TAGS) for _, _, texts in tagged.changes]
        cat, jay = "z/animal/mammal/cat", "z/animal/bird/jay"
        assert found == {(1, None): [[cat]], (2, None): [[cat, jay]], (2, 0.5): [[cat]], (1, 0.7): []}, name


def test_the_record_of_a_run_says_where_images_are_and_that_they_have_several_labels(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw("work/in/a.jpg", "work/in/b.jpg", "elsewhere/x")
    results, log = Path("elsewhere/r.csv"), Path("elsewhere/corrections.csv")
    results.write_text(HEADER + "in/a.jpg,1,cat,0.3,0.9,\nin/a.jpg,2,sofa,0.3,0.8,\nin/b.jpg,1,cat,0.3,0.9,\n")
    log.write_text("path,label,was,when\nin/b.jpg,dog,cat,1\n")
    record = {"settings": {"multi_label": True}, "resolved": {"folder": f"{here}/work"}}
    Path("elsewhere/r.csv.run.json").write_text(json.dumps(record))
    run(results, log)
    assert subject("work/in/a.jpg.xmp") == ["cat", "sofa"]
    assert subject("work/in/b.jpg.xmp") == ["dog"]
    run(results, log, top_k=1)
    assert subject("work/in/a.jpg.xmp") == ["cat"]


def test_the_record_of_another_output_of_the_run_counts_and_leads_to_the_results(here: Path) -> None:
    draw("work/in/a.jpg")
    RESULTS.write_text(HEADER + "in/a.jpg,1,cat,0.3,0.9,\n")
    record = {"settings": {"outputs": ["r.xlsx", RESULTS.name]}, "resolved": {"folder": f"{here}/work"}}
    Path("r.xlsx.run.json").write_text(json.dumps(record))
    run(Path("r.xlsx.run.json"))
    assert subject("work/in/a.jpg.xmp") == ["cat"]
    assert untag(RESULTS) == Untagged(removed=1)
    Path("r.xlsx").touch()
    with pytest.raises(UsageError, match=f"r.xlsx is for people to read; give {RESULTS}, which the same run wrote"):
        run(Path("r.xlsx"))


def test_corrected_labels_have_their_own_groups(here: Path) -> None:
    draw("a.jpg", "b.jpg", "c.jpg")
    header = HEADER.replace("error", "error,group")
    RESULTS.write_text(
        f"{header}a.jpg,1,jay,0.3,0.9,,animal/mammal\nb.jpg,1,cat,0.3,0.9,,animal/mammal\nc.jpg,1,cat,,,,\n"
    )
    Path("log.csv").write_text("path,label,was,when\nb.jpg,bird,cat,1\nc.jpg,car,cat,2\n")
    settings = {"labels": ["cat", "jay", "car"], "groups": ["animal/mammal", "animal/bird", ""]}
    Path("results.csv.run.json").write_text(json.dumps({"settings": settings, "resolved": {"folder": str(here)}}))
    run(RESULTS, Path("log.csv"))
    found = [Xmp(Path(f"{name}.jpg.xmp").read_bytes()).keywords[Field.TAGS] for name in "abc"]
    assert found == [["animal/bird/jay"], ["animal/bird"], ["car"]]


def test_quotes_of_excel_safe_are_no_part_of_paths_and_labels(here: Path) -> None:
    draw("=1.jpg", "-dash/b.jpg", "'c.jpg")
    say(("'=1.jpg", "'@home"), ("'-dash/b.jpg", "cat"), ("'c.jpg", "'quoted'"))
    Path("results.csv.run.json").write_text(json.dumps({"settings": {"excel_safe": True}}))
    run()
    found = [subject(f"{name}.xmp") for name in ("=1.jpg", "-dash/b.jpg", "'c.jpg")]
    assert found == [["@home"], ["cat"], ["'quoted'"]]


def test_images_that_were_moved_are_tagged_where_they_are(here: Path) -> None:
    draw("in/a.jpg")
    say(("in/a.jpg", "cat"))
    results = [Prediction("in/a.jpg", (LabelScore("cat", 0.3, 0.9),), None)]
    sort_into(Path("sorted"), lambda: iter(results), SortMode.MOVE, labels=["cat"])
    notes = {"settings": {"sort_into": "sorted"}, "resolved": {"folder": str(here)}}
    Path("results.csv.run.json").write_text(json.dumps(notes))
    run()
    assert subject("sorted/cat/a.jpg.xmp") == ["cat"]
    assert untag(RESULTS) == Untagged(removed=1)


def test_a_frame_gets_no_keywords_and_the_reason_says_so(here: Path) -> None:
    draw("a.gif", "b.jpg")
    say(("a.gif#1", "cat"), ("b.jpg", "cat"), ("gone.gif#0", "cat"))
    assert [item.reason.partition(",")[0] for item in run().wanted.missing] == [
        "a frame",
        "missing since it was classified",
    ]


def test_labels_of_jsonl_corrected_by_hand(here: Path) -> None:
    draw("a.jpg")
    line = {"path": "a.jpg", "label": "dog", "probability": 0.2, "predictions": [{"label": "cat", "probability": 0.2}]}
    Path("r.jsonl").write_text(json.dumps(line))
    run(Path("r.jsonl"), min_probability=0.5, top_k=3)
    assert subject("a.jpg.xmp") == ["dog"]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, UsageError, "there is no file results.csv; name what zeroshot classify wrote with --output"),
        ("", DataError, "results.csv has no column 'path'"),
        ("path,label\n", DataError, "results.csv has no rows"),
        ("image,class\na.jpg,cat\n", DataError, "results.csv has no column 'path'"),
        ('path,label\na.jpg,"cat\n', DataError, "results.csv, line 2: damaged"),
        ("path,label,probability\na.jpg,cat,high\n", DataError, "results.csv, line 2: .*'high' is not a probability"),
        ("path,label\n,cat\n", DataError, "results.csv, line 2: .*it has no path"),
        ("path,label\nnowhere.jpg,cat\n", DataError, "results.csv: none of its 1 images exists"),
        ("GIF89a\x01\x00\x01\x00", DataError, "results.csv is an image"),
    ],
)
def test_what_is_wrong_with_results(here: Path, content: str | None, error: type[Exception], message: str) -> None:
    draw("a.jpg")
    if content is not None:
        RESULTS.write_text(content)
    with pytest.raises(error, match=f"^{message}"):
        run()
    assert not RECORD.exists()


def test_what_is_no_sidecar_is_left_and_named(here: Path) -> None:
    draw("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    Path("a.jpg.xmp").write_text("my notes")
    Path("b.jpg.xmp").mkdir()
    Path("c.jpg.xmp").symlink_to("nowhere.xmp")
    os.mkfifo("d.jpg.xmp")
    Path("f.jpg").symlink_to("e.jpg")
    say(*((f"{name}.jpg", "cat") for name in "abcdefg"))
    tagged = run()
    assert {item.path.removeprefix(f"{here}/"): item.reason for item in tagged.failed} == {
        "a.jpg.xmp": "left as it is: it is not XMP: syntax error in line 1",
        "b.jpg.xmp": "it is not a regular file",
        "c.jpg.xmp": "it is a link that leads nowhere",
        "d.jpg.xmp": "it is not a regular file",
    }
    assert [item.path for item in tagged.wanted.missing] == [f"{here}/g.jpg"]
    assert tagged.sentence() == "2 sidecars written, 5 not written."
    assert Path("a.jpg.xmp").read_text() == "my notes"
    assert not Path("nowhere.xmp").exists()
    assert (subject("e.jpg.xmp"), subject("f.jpg.xmp")) == (["cat"], ["cat"])


def test_a_sidecar_that_is_a_link_stays_one(here: Path) -> None:
    draw("a.jpg")
    Path("real.xmp").write_text(DIGIKAM, encoding="utf-8")
    Path("a.jpg.xmp").symlink_to("real.xmp")
    say(("a.jpg", "cat"))
    run()
    assert subject("real.xmp") == ["Jörg", "Urlaub", "cat"]
    untag(RESULTS)
    assert Path("a.jpg.xmp").is_symlink()
    assert Path("real.xmp").read_text(encoding="utf-8") == DIGIKAM


def test_a_folder_that_is_read_only_gives_one_sentence(public: Path) -> None:
    draw("shut/a.jpg", "shut/b.jpg", "open/c.jpg")
    Path("open/c.jpg.xmp").write_text(DIGIKAM, encoding="utf-8")
    Path("open/c.jpg.xmp").chmod(0o444)
    say(("shut/a.jpg", "cat"), ("shut/b.jpg", "cat"), ("open/c.jpg", "cat"))
    Path("shut").chmod(0o555)
    Path("open").chmod(0o777)
    with not_root():
        tagged = run()
    assert {item.path.removeprefix(f"{public}/"): item.reason for item in tagged.failed} == {
        "shut": "the folder is read-only, so 2 sidecars in it cannot be written",
        "open/c.jpg.xmp": "it is read-only",
    }


def test_untag_trusts_no_record_of_others(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("in/a.jpg", "out/results.csv")
    results = say(("../in/a.jpg", "cat"), path=Path("out/results.csv"))
    run(results)
    monkeypatch.setattr(known, "cache_folder", lambda: tmp_path / "other")
    with pytest.raises(UsageError, match=r"names 1 of 1 file in folders that you did not tag in .*; add --yes"):
        untag(results)
    assert Path("in/a.jpg.xmp").exists()
    assert untag(results, elsewhere=True).removed == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["hello"], "line 1: not a record of zeroshot tag"),
        (["{}"], "line 1: not a record of zeroshot tag"),
        (['{"record": "zeroshot tag", "version": 2}'], "line 1: not a record"),
        (["", "5"], "line 2: not a record"),
        (["", '{"path": "/home/me/.bashrc", "before": null, "after": "", "keywords": {}}'], "line 2: .*of a sidecar"),
        (
            ["", '{"path": "a.xmp", "before": null, "after": "", "keywords": {}}'],
            "line 2: .*'a.xmp' is not an absolute",
        ),
        (["", '{"path": "/b/../a.xmp", "before": null, "after": "", "keywords": {}}'], "line 2: .*is not an absolute"),
        (["", '{"path": "/a.xmp", "before": "%", "after": "", "keywords": {}}'], "line 2: "),
        (["", '{"path": "/a.xmp", "before": null, "after": "", "keywords": {"x": []}}'], "line 2: "),
    ],
)
def test_a_damaged_record_changes_nothing(here: Path, lines: list[str], message: str) -> None:
    header = '{"record": "zeroshot tag", "version": 1}'
    RECORD.write_text("".join(f"{line or header}\n" for line in lines))
    before = RECORD.read_bytes()
    with pytest.raises(InputError, match=f"^{RECORD}, {message}"):
        untag(RESULTS)
    assert RECORD.read_bytes() == before


def test_the_records_beside_results_without_one_are_named(here: Path) -> None:
    draw("a.jpg")
    say(("a.jpg", "cat"))
    run()
    with pytest.raises(UsageError, match=rf"no record corrections\.csv\.tags\.jsonl; give {RESULTS}\.tags\.jsonl,"):
        untag(Path("corrections.csv"))


def test_no_record(here: Path) -> None:
    with pytest.raises(UsageError, match=r"^there is no record results\.csv\.tags\.jsonl; name the results"):
        untag(RESULTS)
    draw("a.jpg")
    say(("a.jpg", "unknown"))
    run()
    assert not RECORD.exists()


SLOWLY = """
import os, sys, time
from pathlib import Path
from zeroshot_cli.tagging import tag as module
write = module.write_sidecar
def slowly(path, data):
    time.sleep(0.02)
    write(path, data)
    print(path, flush=True)
module.write_sidecar = slowly
module.tag([Path("results.csv")], module.TagSettings())
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 50, 199])
def test_killed_by_the_system(album: Path, after: int) -> None:
    before = state(album)
    with subprocess.Popen([sys.executable, "-c", SLOWLY], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    undone = untag(RESULTS)
    assert undone.kept == []
    assert state(album) == before

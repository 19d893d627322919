"""Rows of images at addresses: those of the files on disk, whatever a server does; nothing secret in any output."""

import csv
import io
import json
import random
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faulty_web import FILES, Web, image

from zeroshot_cli.cli import app as entry
from zeroshot_cli.images import arrived as ahead
from zeroshot_cli.images.arrived import arrived
from zeroshot_cli.images.given import GivenImage
from zeroshot_cli.records import SkippedImage

SETTING = ["--label", "red", "--label", "blue", "--model", "tiny", "--precision", "fp32", "--batch-size", "4"]
pytestmark = pytest.mark.usefixtures("photos_here")


def run(*arguments: str) -> int:
    return entry.run([*arguments])


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scores(path: str) -> list[tuple[str, ...]]:
    return [tuple(row[name] for name in ("rank", "label", "score", "probability", "error")) for row in rows(path)]


def stdin(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_rows_equal_those_of_the_files(web: Web) -> None:
    assert run("classify", "photos", *SETTING, "-o", "disk.csv", "--no-cache") == 0
    faults = ["", "chunked/", "gzip/", "500/"]
    addresses = [web.at(f"{fault}{name}") for fault, name in zip(faults, sorted(FILES), strict=True)]
    assert run("classify", *addresses, *SETTING, "-o", "web.csv") == 0
    assert scores("web.csv") == scores("disk.csv")
    assert [row["path"] for row in rows("web.csv")] == addresses
    assert run("classify", *addresses, *SETTING, "-o", "again.csv") == 0  # from the cache, by content
    assert scores("again.csv") == scores("disk.csv")


def test_every_fault_is_a_row(web: Web, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    web.files["page.png"] = b"<!DOCTYPE html><html><body>sign in</body></html>"
    web.redirects["away.png"] = f"http://localhost:{web.port}/red.png"
    faults = {
        "nothing.png": "404 not found",
        "403/red.png": "403 forbidden",
        "cut/red.png": "the connection was cut",
        "loop/red.png": "it redirects more than 10 times",
        "endless/red.png": "larger than 0.000976562 GiB, the most that is read from an address",
        "always500/red.png": "500 internal server error",
        "away.png": "redirects to 127.0.0.1, in a private network or on this machine (--allow-private)",
    }
    names = ["red.png", *faults, "page.png", "blue.png"]
    stdin(monkeypatch, [web.at(name) for name in names])
    assert run("classify", "-", *SETTING, "-o", "web.csv") == 4
    found = {row["path"].removeprefix(web.at("")): row["error"] for row in rows("web.csv")}
    assert list(found) == names
    assert {name: found[name] for name in faults} == faults
    assert "web page" in found["page.png"] or "HTML" in found["page.png"]
    assert found["red.png"] == found["blue.png"] == ""


@pytest.mark.parametrize("form", ["csv", "jsonl", "html", "parquet", "xlsx"])
def test_secrets_are_in_no_output(web: Web, form: str, capfd: pytest.CaptureFixture[str]) -> None:
    named = web.at("").replace("://", "://me:hunter2@")
    addresses = [f"{named}red.png?sig=hunter2&n=1", f"{named}nothing.png?token=hunter2"]
    assert run("classify", *addresses, *SETTING, "-o", f"out.{form}", "--summary", "sum.csv", "--verbose") == 4
    said = capfd.readouterr()
    for name in [f"out.{form}", f"out.{form}.run.json", "sum.csv"]:
        assert b"hunter2" not in Path(name).read_bytes(), name
    assert "hunter2" not in said.out + said.err
    if form == "csv":
        assert [row["path"] for row in rows("out.csv")] == [
            web.at("red.png?sig=***&n=1").replace("://", "://***@"),
            web.at("nothing.png?token=***").replace("://", "://***@"),
        ]


def test_a_host_that_falls_silent_ends_the_run_and_resume_continues(
    web: Web, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With other signatures the second time, as whoever signs addresses gets them."""
    web.keep_alive = False
    web.files |= {f"{n}.png": image("red") + bytes([n]) for n in range(40)}
    addresses = [web.at(f"{n}.png?sig=") for n in range(40)]
    taken = web.files.pop("20.png")
    closed = f"http://127.0.0.1:{web.port}/20.png?sig="
    assert closed == addresses[20]
    real = web.server.shutdown

    from zeroshot_cli.remote import fetch
    from zeroshot_cli.remote.faults import Fault
    from zeroshot_cli.remote.web import Web as Client

    read = Client.read

    async def refused(self: Client, address: str, *rest: Any, **more: Any) -> bytes:
        if "/20.png" in address:
            raise Fault("the connection was refused", again=True, unreachable=True)
        return await read(self, address, *rest, **more)

    monkeypatch.setattr(fetch, "LIMITS", replace(fetch.LIMITS, silence=30, total=60))  # however busy the machine is
    monkeypatch.setattr(Client, "read", refused)
    assert run("classify", *(f"{each}1" for each in addresses), *SETTING, "-o", "out.csv") == 5
    said = capsys.readouterr().err
    assert re.search(
        r"error: http://127\.0\.0\.1:\d+ cannot be reached: the connection was refused; what is done", said
    )
    monkeypatch.setattr(Client, "read", read)
    web.files["20.png"] = taken
    done = len(rows("out.csv"))
    assert 0 < done <= 20
    assert run("classify", *(f"{each}2" for each in addresses), *SETTING, "-o", "out.csv", "--resume") == 0
    assert [row["path"] for row in rows("out.csv")] == [f"{each}***" for each in addresses]
    assert all(not row["error"] for row in rows("out.csv"))
    assert fetch.LIMITS.tries == 3
    assert real is not None


def test_embed_knows_the_same_images(web: Web) -> None:
    import numpy as np

    options = ["--model", "tiny", "--precision", "fp32", "--batch-size", "4"]
    addresses = [web.at(name) for name in sorted(FILES)]
    assert run("embed", "photos", *options, "-o", "disk.npz", "--no-cache") == 0
    assert run("embed", *addresses, *options, "-o", "web.npz") == 0
    disk, there = np.load("disk.npz"), np.load("web.npz")
    key = next(name for name in disk.files if disk[name].ndim == 2)
    assert (disk[key] == there[key]).all()


def test_a_parquet_file_of_addresses_and_one_of_images(web: Web) -> None:
    names = sorted(FILES)
    assert run("classify", "photos", *SETTING, "-o", "disk.csv", "--no-cache") == 0
    pq.write_table(pa.table({"url": [web.at(name) for name in names]}), "urls.parquet")
    assert run("classify", "urls.parquet", *SETTING, "-o", "a.csv") == 0
    pq.write_table(pa.table({"path": [f"photos/{name}" for name in names]}), "paths.parquet")
    assert run("classify", "paths.parquet", *SETTING, "-o", "b.csv") == 0
    structs = [{"bytes": FILES[name], "path": name} for name in names]
    pq.write_table(pa.table({"label": [1] * 4, "image": structs}), "images.parquet", row_group_size=3)
    assert run("classify", "images.parquet", *SETTING, "-o", "c.csv", "-o", "c.html") == 0
    web.files["i.parquet"] = Path("images.parquet").read_bytes()
    assert run("classify", web.at("i.parquet?sig=A"), *SETTING, "-o", "d.csv") == 0
    for name in "abcd":
        assert scores(f"{name}.csv") == scores("disk.csv"), name
    assert [row["path"] for row in rows("c.csv")] == [f"images.parquet#{n}" for n in range(4)]
    assert Path("c.html").read_bytes().count(b"data:image/webp") == 4


def test_a_parquet_file_without_images_names_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"n": [1, 2]}), "n.parquet")
    assert run("classify", "n.parquet", *SETTING) == 3
    assert "n.parquet has no column of images or of their paths, only 'n'; call it" in capsys.readouterr().err


def test_order_is_kept_and_memory_bounded(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 images of 50 kB, of which at most 5 may wait: the server sends the rest when there is room."""
    draw = random.Random(0)
    web.files |= {f"{n}.bin": draw.randbytes(50_000) for n in range(200)}
    monkeypatch.setattr(ahead, "MOST_WAITING", 250_000)
    most, at = 0, 0
    for item in arrived([web.at(f"{n}.bin") for n in range(200)]):
        assert isinstance(item, GivenImage)
        assert item.content == web.files[f"{at}.bin"]
        at += 1
        if at < 20:
            time.sleep(0.01)
            most = max(most, sum(web.asked.values()) - at)
    assert at == 200
    assert most <= ahead.AHEAD


def test_requests_run_at_once(web: Web) -> None:
    begin = time.monotonic()
    assert len(list(arrived([web.at("soon/red.png")] * 64))) == 64  # 0.2 seconds each
    assert web.most_at_once > 16
    assert time.monotonic() - begin < 64 * 0.2


def test_what_is_here_already_passes_by() -> None:
    items = ["a.jpg", SkippedImage("b", "why"), GivenImage("c", b"x")]
    assert list(arrived(items)) == items


def test_a_run_that_ends_early_asks_for_no_more(web: Web) -> None:
    web.files |= {f"{n}.png": FILES["red.png"] for n in range(1000)}
    coming = arrived(web.at(f"{n}.png") for n in range(1000))
    next(coming)
    coming.close()  # type: ignore[attr-defined]
    time.sleep(0.2)
    assert sum(web.asked.values()) <= ahead.AHEAD


def test_addresses_in_labels_are_words(web: Web) -> None:
    Path("labels.txt").write_text(f"red\n{web.at('label.png')}\n")
    assert run("classify", web.at("red.png"), "--labels", "labels.txt", "--model", "tiny", "-o", "out.jsonl") == 0
    assert json.loads(Path("out.jsonl").read_text())["label"]
    assert web.asked["label.png"] == 0


def test_search_and_duplicates_know_addresses(web: Web, capfd: pytest.CaptureFixture[str]) -> None:
    web.files["copy.png"] = FILES["red.png"]
    addresses = [web.at(f"{name}?sig=hunter2").replace("://", "://me:hunter2@") for name in (*FILES, "copy.png")]
    options = ["--model", "tiny", "--precision", "fp32"]
    assert (
        run("search", "something red", *addresses, *options, "--like", addresses[0], "-o", "s.html", "-o", "s.csv") == 0
    )
    assert run("duplicates", *addresses, *options, "-o", "d.html", "-o", "d.csv", "--format", "table") == 0
    said = capfd.readouterr()
    assert "hunter2" not in said.out + said.err
    for name in ("s.html", "s.csv", "d.html", "d.csv"):
        assert b"hunter2" not in Path(name).read_bytes(), name
    assert len(rows("s.csv")) == 5
    assert [row["path"].partition("?")[0].rpartition("/")[2] for row in rows("d.csv")] == ["red.png", "copy.png"]
    assert "size unknown" in said.out


def test_pages_and_workbooks_link_to_the_address(web: Web) -> None:
    import openpyxl

    web.files['a "b".png'] = FILES["red.png"]
    addresses = [web.at("red.png?n=1&m=2"), web.at('a "b".png')]
    assert run("classify", *addresses, *SETTING, "-o", "out.html", "-o", "out.xlsx") == 0
    page = Path("out.html").read_text()
    assert f'"address":"{web.at("red.png?n=1")}' in page.replace("\\u0026", "&")
    assert web.at("a%20%22b%22.png") in page
    sheet = openpyxl.load_workbook("out.xlsx").worksheets[0]
    links = [cell.hyperlink.target for row in sheet.iter_rows() for cell in row if cell.hyperlink]
    assert links[0] == addresses[0]

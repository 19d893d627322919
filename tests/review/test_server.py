"""Who may ask the server of a review, what it answers, and that it shows nothing but the images of the run."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import pytest
from PIL import Image
from starlette.testclient import TestClient

from zeroshot_cli.images.decode import EXACTLY
from zeroshot_cli.records import LabelScore, Prediction, Result
from zeroshot_cli.results.run_record import RunRecord
from zeroshot_cli.review.corrections import Corrections
from zeroshot_cli.review.pictures import Pictures
from zeroshot_cli.review.run import read_run
from zeroshot_cli.review.server import application
from zeroshot_cli.review.session import Review

PORT, TOKEN = 4321, "s3cret-token"
HOST = f"127.0.0.1:{PORT}"
Write = Callable[[Path, Sequence[Result]], Path]


class Page:
    """A page of the server: `get` and `post` as its scripts do."""

    def __init__(self, results: Path, *, follow_links: bool = False) -> None:
        self.log = Corrections(results.with_name("corrections.csv"))
        run = read_run(results)
        self.pictures = Pictures(run, EXACTLY, follow_links=follow_links)
        self.review = Review(run, self.log, None, "no record")
        self.app = application(self.review, self.pictures, token=TOKEN, port=PORT)
        self.client = TestClient(self.app, base_url=f"http://{HOST}", raise_server_exceptions=False)

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(f"/{TOKEN}/{path}", headers=headers, follow_redirects=False)

    def post(self, path: str, body: object, **headers: str) -> Any:
        own = {"content-type": "application/json", "origin": f"http://{HOST}"}
        content = body if isinstance(body, bytes) else json.dumps(body)
        return self.client.post(f"/{TOKEN}/{path}", content=content, headers={**own, **headers})

    def decide(self, *numbers: int, kind: str = "label", label: str | None = "dog") -> Any:
        return self.post("api/decisions", {"images": numbers, "kind": kind, "label": label})

    def close(self) -> None:
        self.pictures.close()
        self.log.close()


@pytest.fixture
def page(results: Path) -> Iterator[Page]:
    page = Page(results)
    yield page
    page.close()


# What it answers


def test_the_run_and_its_images(page: Page) -> None:
    about = page.get("api/run").json()
    assert about.pop("name").endswith("results.csv")
    assert about == {
        "labels": ["cat", "dog"],
        "model": "",
        "images": 3,
        "unreadable": 1,
        "missing": 0,
        "can_train": False,
        "why_not": "no record",
        "background": "",
    }
    images = page.get("api/images").json()["images"]
    assert images[1] == {
        "n": 1,
        "path": "photos/b.png",
        "folder": "photos",
        "label": "dog",
        "probability": 0.5,
        "top": [["dog", 0.5], ["cat", 0.1]],
        "missing": False,
        "decision": None,
    }
    assert [image["label"] for image in images] == ["cat", "dog", "unknown"]


def test_decisions_are_answered_when_they_are_on_the_disk_and_undone(page: Page) -> None:
    assert page.decide(0, 2).json() == {
        "images": [{"n": n, "decision": {"kind": "label", "label": "dog"}} for n in (0, 2)]
    }
    assert page.decide(1, kind="right").json()["images"] == [{"n": 1, "decision": {"kind": "right", "label": "dog"}}]
    assert page.decide(1, kind="unwanted").json()["images"][0]["decision"] == {"kind": "unwanted", "label": "unknown"}
    with page.log.path.open(newline="") as file:
        assert [(row["path"], row["label"], row["was"]) for row in csv.DictReader(file)] == [
            ("photos/a.png", "dog", "cat"),
            ("photos/c.png", "dog", "unknown"),
            ("photos/b.png", "dog", "dog"),
            ("photos/b.png", "unknown", "dog"),
        ]
    assert page.post("api/undo", {}).json()["images"] == [{"n": 1, "decision": {"kind": "right", "label": "dog"}}]
    assert page.post("api/undo", {}).json()["images"] == [{"n": 1, "decision": None}]
    assert page.post("api/undo", {}).json()["images"] == [{"n": 0, "decision": None}, {"n": 2, "decision": None}]
    assert page.post("api/undo", {}).json()["images"] == []


def test_right_means_the_label_that_the_page_showed_though_training_has_changed_it_since(page: Page) -> None:
    page.review._replace([replace(image, label="dog") for image in page.review.run.images])
    body = {"images": [0, 1, 2], "kind": "right", "seen": ["cat", "dog", "unknown"]}
    decided = [each["decision"]["label"] for each in page.post("api/decisions", body).json()["images"]]
    assert decided == ["cat", "dog", "unknown"]


def test_a_review_goes_on_where_it_was_left(page: Page, results: Path) -> None:
    page.decide(0, label="cow")
    page.log.close()
    again = Page(results)
    assert [each["decision"] for each in again.get("api/images").json()["images"]] == [
        {"kind": "label", "label": "cow"},
        None,
        None,
    ]
    assert again.get("api/run").json()["labels"] == ["cat", "dog", "cow"]
    assert again.post("api/undo", {}).json()["images"] == [{"n": 0, "decision": None}]
    again.close()


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("", "blank|empty"),
        ("unknown", "reserved"),
        ("NaN", "reserved"),
        ("Cat", "are the same words"),
        (None, "lacks a label"),
        ("x" * 5000, "characters"),
    ],
)
def test_a_label_that_is_none_is_refused(page: Page, label: str | None, says: str) -> None:
    answer = page.decide(0, label=label)
    assert answer.status_code == 400
    assert re.search(says, answer.json()["error"])
    assert page.get("api/images").json()["images"][0]["decision"] is None


def test_thumbnails_and_originals(page: Page) -> None:
    thumbnail, original = page.get("thumb/0"), page.get("image/0")
    assert (thumbnail.headers["content-type"], original.headers["content-type"]) == ("image/webp", "image/png")
    assert Image.open(io.BytesIO(thumbnail.content)).size == (320, 160)
    assert Image.open(io.BytesIO(original.content)).size == (400, 200)


def test_what_browsers_do_not_show_is_a_jpeg(tmp_path: Path, write_results: Write) -> None:
    Image.new("RGBA", (300, 200), (255, 0, 0, 0)).save(tmp_path / "a.tiff")
    (tmp_path / "b.jpg").write_bytes(b"<svg onload='alert(1)'/>")
    (tmp_path / "c.png").write_text("<script>alert(1)</script>")
    items = [Prediction(name, (LabelScore("cat", 0.3, 0.9),)) for name in ("a.tiff", "b.jpg", "c.png", "gone.png")]
    page = Page(write_results(tmp_path / "results.csv", items))
    answer = page.get("image/0")
    assert answer.headers["content-type"] == "image/jpeg"
    image = Image.open(io.BytesIO(answer.content))
    assert (image.size, image.getpixel((0, 0))) == ((300, 200), (255, 255, 255))  # transparency on white
    for number in (1, 2, 3):  # whatever its name says, only an image is shown
        for path in (f"image/{number}", f"thumb/{number}"):
            assert page.get(path).status_code == 422
            assert page.get(path).headers["content-type"] == "application/json"
    assert page.get("api/run").json()["missing"] == 1
    page.close()


# Who may not ask


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:80", f"[::1]:{PORT}", ""]
)
def test_another_name_that_leads_here_is_refused(page: Page, host: str) -> None:
    for answer in (page.get("api/images", host=host), page.get("", host=host), page.get("thumb/0", host=host)):
        assert answer.status_code == 403
        assert "photos" not in answer.text
    assert page.post("api/decisions", {"images": [0], "kind": "right"}, host=host).status_code == 403
    assert page.get("api/run", host=f"localhost:{PORT}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/api/images",
        "/wrong/api/images",
        f"/{TOKEN[:-1]}/api/images",
        f"/{TOKEN}x/",
        "/static/review.js",
        f"//{TOKEN}/api/images",
        "/\udcff/",
    ],
)
def test_without_the_token_there_is_nothing(page: Page, path: str) -> None:
    raw = path.encode("utf-8", "surrogateescape")
    answer = page.client.get(
        f"http://{HOST}/".rstrip("/") + "".join(f"%{byte:02x}" if byte > 127 else chr(byte) for byte in raw)
    )
    assert answer.status_code == 404
    assert "photos" not in answer.text


def test_a_number_without_end_is_nothing(page: Page) -> None:
    """Python refuses to read it, with an error of its own."""
    answer = page.client.get(f"/{TOKEN}/image/{'9' * 5000}")
    assert (answer.status_code, answer.json()) == (404, {"error": "there is nothing here"})


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": f"http://127.0.0.1:{PORT + 1}"},
        {"origin": f"https://{HOST}"},
        {"origin": f"http://localhost:{PORT}"},  # not the address that the page has
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": ""},
    ],
)
def test_what_another_page_sends_changes_nothing(page: Page, headers: dict[str, str]) -> None:
    answer = page.post("api/decisions", {"images": [0], "kind": "right"}, **headers)
    assert answer.status_code in (403, 415)
    assert page.log.decided == {}


def test_another_page_can_neither_load_nor_frame_anything(page: Page) -> None:
    for path in ("api/images", "thumb/0", "image/0", "static/x.js"):
        answer = page.get(path, **{"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"})
        assert answer.status_code == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert page.get("", **link).status_code == 200  # a link in a mail or a notebook may open the page itself
    for answer in (page.get(""), page.get("api/images"), page.get("nothing"), page.get("thumb/0")):
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(page: Page, method: str) -> None:
    assert page.client.request(method, f"/{TOKEN}/api/decisions").status_code == 405
    assert page.get("api/decisions").status_code == 405
    assert page.post("api/images", {}).status_code == 405


def test_browsers_leave_out_port_80(page: Page) -> None:
    app = application(page.review, page.pictures, token=TOKEN, port=80)
    client = TestClient(app, base_url="http://127.0.0.1")
    assert client.get(f"/{TOKEN}/api/run").status_code == 200
    assert client.post(f"/{TOKEN}/api/undo", json={}, headers={"origin": "http://127.0.0.1"}).status_code == 200
    assert client.get(f"/{TOKEN}/api/run", headers={"host": "evil.example"}).status_code == 403


def test_the_address_that_a_browser_is_started_with_works_once(page: Page) -> None:
    page.client = TestClient(
        application(page.review, page.pictures, token=TOKEN, port=PORT, once="n0nce"), base_url=f"http://{HOST}"
    )
    assert page.client.get("/n0nce", headers={"host": "evil.example"}).status_code == 403
    first = page.client.get("/n0nce", follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (307, f"/{TOKEN}/")
    assert page.client.get("/n0nce", follow_redirects=False).status_code == 404
    assert page.client.get("/", follow_redirects=False).status_code == 404


# What is asked for


@pytest.mark.parametrize(
    "path",
    [
        "static/../server.py",
        "static/..%2fserver.py",
        "static/%2e%2e/server.py",
        "static/%2e%2e%2f%2e%2e%2fcli%2fapp.py",
        "static//etc/passwd",
        "static/index.html",
        "static/.",
        "static/",
        "thumb/../../etc/passwd",
        "thumb/-1",
        "image/0/../1",
        "image/a.png",
        "image/0.5",
        "photos/a.png",
        "image/99",
        "image/99999999999999999999999999",
    ],
)
def test_no_path_leads_to_a_file(page: Page, path: str) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    scope = {  # as uvicorn gives it: not made tidy, unlike by a client
        "type": "http",
        "method": "GET",
        "path": unquote(f"/{TOKEN}/{path}"),
        "raw_path": f"/{TOKEN}/{path}".encode(),
        "query_string": b"",
        "headers": [(b"host", HOST.encode())],
    }
    anyio.run(page.app, scope, receive, send)
    assert sent[0]["status"] in (400, 404)
    assert sent[1]["body"].startswith(b'{"error":')


@pytest.mark.parametrize("follow", [False, True])
def test_a_link_out_of_the_folder_is_shown_only_on_request(tmp_path: Path, write_results: Write, follow: bool) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "link.png").symlink_to("../secret.png")
    items = [Prediction(f"photos/{name}.png", (LabelScore("cat", 0.3, 0.9),)) for name in ("a", "link")]
    page = Page(write_results(tmp_path / "results.csv", items), follow_links=follow)
    for path in ("thumb/1", "image/1"):
        answer = page.get(path)
        assert answer.status_code == (200 if follow else 422)
        assert follow or "leads out of the folders of the run" in answer.json()["error"]
    (tmp_path / "photos" / "a.png").unlink()  # one that takes an image's place later
    (tmp_path / "photos" / "a.png").symlink_to("../secret.png")
    assert page.get("image/0").status_code == (200 if follow else 422)
    page.close()


def test_names_with_scripts_are_no_markup(tmp_path: Path, write_results: Write) -> None:
    script = "<script>alert(1)</script>"
    items = [Prediction(f"{script}\udcff.png".replace("/", ""), (LabelScore(script, 0.3, 0.9),))]
    page = Page(write_results(tmp_path / "results.csv", items))
    answer = page.get("api/images")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["images"][0]["label"] == script
    assert page.decide(0, label='"><img src=x onerror=alert(1)>').status_code == 200
    assert page.decide(0, label="=cmd|' /C calc'!A0").status_code == 200
    page.close()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"images": 1' + b"1" * 10_000 + b"}", "not JSON|numbers of the images"),
        ([], "not a JSON object"),
        ({}, "numbers of the images"),
        ({"images": [], "kind": "right"}, "numbers of the images"),
        ({"images": [True], "kind": "right"}, "numbers of the images"),
        ({"images": ["0"], "kind": "right"}, "numbers of the images"),
        ({"images": [0, 99], "kind": "right"}, "there is no image 99"),
        ({"images": [-1], "kind": "right"}, "there is no image -1"),
        ({"images": [0], "kind": "right", "seen": "cat"}, "seen are labels"),
        ({"images": [0], "kind": "right", "seen": [1]}, "seen are labels"),
        ({"images": [0], "kind": "right", "seen": []}, "one for each"),
        ({"images": [0], "kind": "right", "seen": ["wolf"]}, "one for each"),
        ({"images": [0], "kind": "wrong"}, "'wrong' is no decision"),
        ({"images": [0], "kind": 1}, "are texts"),
        ({"images": [0], "kind": "label", "label": ["x"]}, "are texts"),
        ({"images": [0], "kind": "label", "label": "a\u0000b"}, "control character"),
        ({"images": [0], "kind": "label", "label": "a\nb"}, "control character"),
        ({"images": [0], "kind": "label", "label": "\ud800"}, "not valid Unicode"),
    ],
)
def test_what_is_no_decision_is_refused_whole(page: Page, body: object, says: str) -> None:
    answer = page.post("api/decisions", body)
    assert answer.status_code == 400
    assert re.search(says, answer.json()["error"])
    assert page.log.decided == {}


def test_too_much_is_refused(page: Page) -> None:
    answer = page.post("api/decisions", b" " * (17 << 20))
    assert (answer.status_code, answer.json()) == (413, {"error": "that is too much at once"})


def test_training_without_a_model_says_why(page: Page) -> None:
    assert page.get("api/train").json() == {"state": "idle", "message": ""}
    answer = page.post("api/train", {})
    assert (answer.status_code, answer.json()["error"]) == (400, "no classifier can be trained here: no record")


def test_a_folder_is_opened_by_number(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    from zeroshot_cli.review import pictures

    started: list[list[str]] = []
    monkeypatch.setattr(pictures.subprocess, "Popen", lambda command, **_: started.append(command))
    assert page.post("api/open-folder", {"image": 1}).status_code == 200
    assert started[0][1:] == [str(page.log.path.parent / "photos")]
    monkeypatch.setattr(pictures.sys, "platform", "darwin")
    assert page.post("api/open-folder", {"image": 1}).status_code == 200
    assert started.pop() == ["open", "-R", str(page.log.path.parent / "photos" / "b.png")]  # starts no photos.app
    assert page.post("api/open-folder", {"image": "../.."}).status_code == 400
    assert page.post("api/open-folder", {"image": 7}).status_code == 400
    assert len(started) == 1


@pytest.mark.parametrize(("words", "option"), [(None, ""), (["auto"], "auto"), (["wall", "sky"], "FILE")])
def test_the_background_of_the_run_is_told_to_the_page(results: Path, words: list[str] | None, option: str) -> None:
    run = replace(read_run(results), record=RunRecord(settings={"background": words}))
    with closing(Corrections(results.with_name("corrections.csv"))) as log:
        assert Review(run, log, None).about()["background"] == option

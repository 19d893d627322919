"""Bytes of web addresses: equal to the file's, or a reason; nothing that a server does goes further than its image."""

import socket
from contextlib import suppress
from pathlib import Path

import pytest
from faulty_web import FILES, Web

from zeroshot_cli.errors import UnavailableError, UnreadableImage, UsageError
from zeroshot_cli.images.find import find_images
from zeroshot_cli.remote.fetch import fetch


@pytest.mark.parametrize(
    "fault", ["", "500/", "503/", "429/", "later/", "cutonce/", "gzip/", "chunked/"], ids=lambda fault: fault or "none"
)
def test_the_bytes_are_those_of_the_file(web: Web, fault: str) -> None:
    assert fetch(web.at(f"{fault}red.png")) == FILES["red.png"]


@pytest.mark.parametrize(
    ("path", "reason", "times"),
    [
        ("nothing.png", "404 not found", 1),
        ("403/red.png", "403 forbidden", 1),
        ("401/red.png", "401 unauthorized", 1),
        ("410/red.png", "410 gone", 1),
        ("418/red.png", "418 i'm a teapot", 1),
        ("204/red.png", "204 no content", 1),
        ("always500/red.png", "500 internal server error", 3),
        ("cut/red.png", "the connection was cut", 3),
        ("silent/red.png", "no answer within 0.8 seconds", 3),
        ("drip/red.png", "not complete within 2 seconds", 1),
        ("endless/red.png", "larger than 0.000976562 GiB, the most that is read from an address", 1),
        ("bomb/red.png", "larger than 0.000976562 GiB, the most that is read from an address", 1),
        ("loop/red.png", "it redirects more than 10 times", 1),
        ("empty.png", "the file is empty", 1),
    ],
)
def test_a_failure_has_its_reason(web: Web, path: str, reason: str, times: int) -> None:
    web.files["empty.png"] = b""
    with pytest.raises(UnreadableImage) as caught:
        fetch(web.at(path))
    assert str(caught.value) == reason
    assert web.asked[path] == times


def test_more_than_was_announced_is_never_read(web: Web) -> None:
    """Whether it is cut off or refused depends on how much has come before the connection is given back."""
    with suppress(UnreadableImage):
        assert fetch(web.at("toolong/red.png")) == FILES["red.png"][: len(FILES["red.png"]) // 2]


def test_retry_after_is_honoured(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    begin = time.monotonic()
    assert fetch(web.at("later/red.png")) == FILES["red.png"]
    assert 1 <= time.monotonic() - begin < 3


def test_redirects_on_the_same_host_are_followed(web: Web) -> None:
    web.redirects["old.png"] = "/red.png"
    assert fetch(web.at("old.png")) == FILES["red.png"]


PRIVATE = [
    "http://localhost:{port}/red.png",
    "http://127.0.0.2:{port}/red.png",
    "http://10.0.0.1/red.png",
    "http://172.16.3.4/red.png",
    "http://192.168.1.1/red.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::1]/red.png",
    "http://[::ffff:127.0.0.1]:{port}/red.png",
    "http://[64:ff9b::7f00:1]/red.png",
    "http://[2002:7f00:1::]/red.png",
    "http://[fd00::1]/red.png",
    "http://[fe80::1]/red.png",
    "http://[fec0::1]/red.png",
    "http://[::127.0.0.1]:{port}/red.png",
    "http://[64:ff9b:1::7f00:1]/red.png",
    "http://0.0.0.0:{port}/red.png",
    "http://100.64.0.1/red.png",
]


@pytest.mark.parametrize("target", PRIVATE)
def test_a_redirect_into_a_private_network_is_refused(web: Web, target: str) -> None:
    web.redirects["old.png"] = target.format(port=web.port)
    with pytest.raises(UnreadableImage, match=r"(redirects|leads) to .* \(--allow-private\)$"):
        fetch(web.at("old.png"))
    assert web.asked["red.png"] == 0


def test_a_name_is_judged_by_what_it_leads_to(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up that is checked is the one that is connected to: a second one could answer something else."""
    asked = []
    real = socket.getaddrinfo

    def rebinding(host: str, *rest: object, **more: object) -> object:
        if host != "images.example.org":
            return real(host, *rest, **more)  # type: ignore[arg-type]
        asked.append(host)
        return real("127.0.0.1", *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    web.redirects["old.png"] = f"http://images.example.org:{web.port}/red.png"
    with pytest.raises(UnreadableImage, match=r"redirects to 127\.0\.0\.1, in a private network"):
        fetch(web.at("old.png"))
    assert asked == ["images.example.org"]
    assert web.asked["red.png"] == 0


def test_a_connection_to_a_named_host_is_not_lent_to_a_redirect(web: Web) -> None:
    """The connection to localhost is open and could be used again, without a look-up to check."""
    assert fetch(web.at("red.png", host="localhost")) == FILES["red.png"]
    web.redirects["old.png"] = f"http://localhost:{web.port}/blue.png"
    with pytest.raises(UnreadableImage, match="in a private network"):
        fetch(web.at("old.png"))
    assert web.asked["blue.png"] == 0


def test_allow_private_follows(web: Web) -> None:
    web.redirects["old.png"] = f"http://localhost:{web.port}/red.png"
    assert fetch(web.at("old.png"), allow_private=True) == FILES["red.png"]


def test_the_services_for_credentials_are_refused_though_named(web: Web) -> None:
    with pytest.raises(UnreadableImage, match="where machines of a cloud keep their credentials"):
        fetch("http://169.254.169.254/latest/meta-data/iam/")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.png", "data:image/png;base64,AA"])
def test_a_redirect_to_another_scheme_is_refused(web: Web, target: str, tmp_path: Path) -> None:
    web.redirects["old.png"] = target
    with pytest.raises(UnreadableImage, match=r"redirects to|not an address"):
        fetch(web.at("old.png"))


def test_a_password_goes_to_its_server_only(web: Web) -> None:
    web.redirects |= {"here.png": "/red.png", "there.png": f"http://localhost:{web.port}/blue.png"}
    named = web.at("").replace("://", "://me:secret@")
    assert fetch(f"{named}here.png") == FILES["red.png"]
    assert web.authorization["red.png"] == "Basic bWU6c2VjcmV0"  # base64 of me:secret
    fetch(f"{named}there.png", allow_private=True)
    assert web.authorization["blue.png"] is None


def test_a_signed_address_is_asked_for_byte_for_byte(web: Web) -> None:
    web.files["a+b%.png"] = b"signed"
    assert fetch(web.at("a%2Bb%25.png?X-Amz-Signature=a%2Fb%3D")) == b"signed"


def test_a_blank_and_letters_beyond_ascii_are_encoded(web: Web) -> None:
    web.files["ein Bär.png"] = b"bear"
    assert fetch(web.at("ein Bär.png")) == b"bear"


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_no_connection_ends_the_run() -> None:
    with pytest.raises(
        UnavailableError, match=r"^http://127\.0\.0\.1:\d+ cannot be reached: the connection was refused"
    ):
        fetch(f"http://127.0.0.1:{closed_port()}/a.png")


def test_an_unknown_name_ends_the_run() -> None:
    with pytest.raises(UnavailableError, match=r"^https://nowhere\.invalid cannot be reached: there is no host"):
        fetch("https://nowhere.invalid/a.png")


def test_a_host_that_never_answered_is_a_row_where_others_answer(web: Web) -> None:
    fetch(web.at("red.png"))
    dead = f"http://127.0.0.1:{closed_port()}/a.png"
    for _ in range(2):  # the second time without a try
        with pytest.raises(UnreadableImage, match="cannot be reached: the connection was refused"):
            fetch(dead)


def test_a_host_that_has_answered_before_ends_the_run(web: Web) -> None:
    web.keep_alive = False
    fetch(web.at("red.png"))
    web.close()
    with pytest.raises(UnavailableError, match="the connection was refused"):
        fetch(web.at("blue.png"))


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:99999/a.png", "http:///a.png", "http://a b/c.png", "http://[::1/a"]
)
def test_what_is_no_address_is_a_row(address: str) -> None:
    with pytest.raises((UnreadableImage, UnavailableError)):
        fetch(address)


@pytest.mark.parametrize(
    "address", ["foo://bucket/a.png", "local:///etc/passwd", "dir:///etc", "simplecache::http://a/b", "zip://a.zip"]
)
def test_other_schemes_and_those_of_this_machine_are_rows(address: str) -> None:
    """Among many; where a user types one, `find_images` names the known ones at once."""
    with pytest.raises(UnreadableImage, match="unknown scheme"):
        fetch(address)
    if not address.startswith("simplecache"):  # which is a path
        with pytest.raises(UsageError, match=r"unknown scheme \w+://; known are s3://, gs://, hf://, https://"):
            find_images([address])


@pytest.mark.parametrize("package", ["fsspec", "aiohttp"])
def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    from zeroshot_cli.remote import stores

    monkeypatch.setattr(stores, "_is_there", lambda name: name != package)
    with pytest.raises(UsageError, match=rf"needs {package}: pip install 'zeroshot-cli\[remote\]'$"):
        fetch("https://example.org/a.png")


def test_a_connection_that_cannot_be_encrypted_is_nobodys_bad_image(web: Web) -> None:
    """A line that is cut in the middle of a handshake looks so, and it is not the certificate's fault."""
    with pytest.raises(UnavailableError, match="cannot be reached: no encrypted connection"):
        fetch(web.at("red.png").replace("http://", "https://"))

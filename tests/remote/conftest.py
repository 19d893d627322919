"""Impatient limits, so that a server's fault costs a moment; a web server with four images."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_web import FILES, Web, serving

from zeroshot_cli.remote import fetch
from zeroshot_cli.remote.web import Limits


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    limits = Limits(most_bytes=1 << 20, connect=2, silence=0.8, total=2.0, tries=3, first_wait=0.01, longest_wait=1.2)
    monkeypatch.setattr(fetch, "LIMITS", limits)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield
    fetch.close_connections()


@pytest.fixture
def photos_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FILES in a folder photos of the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name, body in FILES.items():
        Path("photos", name).write_bytes(body)


@pytest.fixture
def web() -> Iterator[Web]:
    """A server of FILES."""
    with serving(FILES) as server:
        yield server

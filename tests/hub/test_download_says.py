"""What a download says: how large before it begins, how long on a terminal, nothing for what is here or small."""

import logging
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.cli import app
from zeroshot_cli.errors import UnavailableError
from zeroshot_cli.hub import cache
from zeroshot_cli.models import download
from zeroshot_cli.models.registry import Published, find_published

REPO, WEIGHTS = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors"
CONTENT = bytes(range(256)) * 8000  # 2,048,000 bytes
NAME = "ViT-B-32:laion2b_s34b_b79k"


@pytest.fixture
def model(hub: Any, caplog: pytest.LogCaptureFixture) -> Published:
    hub.repos[REPO] = {WEIGHTS: CONTENT, "open_clip_config.json": b"{}"}
    caplog.set_level(logging.INFO, logger="zeroshot_cli")
    return find_published("ViT-B-32")


def test_the_size_stands_there_before_the_first_byte(
    hub: Any, model: Published, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.refuse_bodies = 503  # so that nothing comes
    with pytest.raises(UnavailableError):
        download.fetch_model(model)
    expected = f"downloading {NAME} ({WEIGHTS}: 2.0 MB) from {hub.endpoint} to {tmp_path / 'hub'}"
    assert caplog.messages == [expected]


def test_what_is_here_is_not_announced(hub: Any, model: Published, caplog: pytest.LogCaptureFixture) -> None:
    download.fetch_model(model)
    caplog.clear()
    download.fetch_model(model)
    assert caplog.messages == []


def test_small_files_need_no_line(hub: Any, model: Published, caplog: pytest.LogCaptureFixture) -> None:
    download.fetch_file(REPO, "open_clip_config.json")
    assert caplog.messages == []


def test_what_is_half_here_is_said(
    hub: Any, model: Published, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroshot_cli.hub.transfer.TRIES_TO_RESUME", 1)
    hub.cut_after, hub.cuts = 700_000, 1
    with pytest.raises(UnavailableError):
        download.fetch_model(model)
    download.fetch_model(model)
    assert f"({WEIGHTS}: 2.0 MB, 700 kB of it here already)" in caplog.messages[1]


def test_off_a_terminal_the_command_says_one_line_before(
    hub: Any, model: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["models", "download", "ViT-B-32"]) == 0
    before, after = capsys.readouterr().err.splitlines()
    assert before.startswith(f"downloading {NAME} ({WEIGHTS}: 2.0 MB) from {hub.endpoint} to ")
    assert after.endswith(" is ready")


def test_what_hushes_pythons_warnings_does_not_hush_it(
    hub: Any, model: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as PYTHONWARNINGS=ignore does
        assert app.run(["models", "download", "ViT-B-32"]) == 0
    assert capsys.readouterr().err.startswith(f"downloading {NAME} ")


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_hushes_it(
    terminal: bool,
    hub: Any,
    model: Published,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    command = ["classify", str(tmp_path / "photos"), "--label", "a", "--model", "ViT-B-32"]
    assert app.run([*command, "-q"]) == 3  # the weights are none
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert [line.split(": ")[0] for line in err.splitlines()] == ["error", *["see"] * terminal]
    cache.remove(REPO)
    assert app.run(command) == 3
    err = capsys.readouterr().err
    loading = "loading ViT-B-32 …\r\x1b[K" * terminal  # which makes room for what comes
    assert err.startswith(f"{loading}downloading {NAME} ")
    assert ("100%" in err) is terminal


def test_on_a_terminal_a_bar_has_the_size_and_the_remaining_time(
    hub: Any, model: Published, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    hub.cut_after, hub.cuts = 700_000, 1  # half a second's wait, in which a third is there
    download.fetch_model(model)
    bar = capsys.readouterr().err
    assert re.search(rf"{WEIGHTS}:\s+34%.*0?\.?70\d?[kM].*/2\.05M \[\d\d:\d\d<\d\d:\d\d, .*B/s\]", bar), bar
    assert "100%" in bar


def test_the_library_alone_prints_nothing(hub: Any, model: Published, capsys: pytest.CaptureFixture[str]) -> None:
    download.fetch_model(model)
    assert capsys.readouterr() == ("", "")


def test_a_run_leaves_the_logger_as_it_was() -> None:
    logger = logging.getLogger("zeroshot_cli")
    before = (logger.level, tuple(logger.handlers))
    assert app.run(["--version"]) == 0
    assert (logger.level, tuple(logger.handlers)) == before

"""What doctor finds on machines that lack this or that, and its last line."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.cli import app as entry
from zeroshot_cli.cli.commands import doctor
from zeroshot_cli.hub import settings

REPO, WEIGHTS = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors"
PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "PRETRAINED", "OFFLINE", "CACHE_SIZE", "DEVICE", "PRECISION"):
        monkeypatch.delenv(f"ZEROSHOT_{name}", raising=False)


@pytest.fixture
def better() -> None:
    """ViT-B-32 is the default of the config file."""
    Path(os.environ["ZEROSHOT_CONFIG"]).write_text("model: ViT-B-32\n")


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, str], str]:
    """The rows by name, and the last line."""
    assert entry.run(["doctor", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    *rows, last = captured.out.splitlines()
    assert rows[0] == "what\tfound"
    return dict(row.split("\t") for row in rows), last


def test_a_machine_with_a_network_is_well(hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    rows, last = found(capsys)
    assert last == "all is well"
    assert rows["python"] == ".".join(map(str, sys.version_info[:3]))
    assert rows["torch"] == torch.__version__.split("+")[0] or rows["torch"] == torch.__version__
    assert rows["threads of torch"] == str(torch.get_num_threads())
    assert rows["devices"].endswith("cpu")
    assert rows["device"].endswith("(auto)")
    assert rows["precision"].split()[0] in ("fp32", "bf16", "fp16")
    assert rows["downloads"] == f"on, and {hub.endpoint} answers"
    assert re.fullmatch(r"small, [\d.]+ MB; tiny, [\d.]+ MB; they need no network", rows["bundled models"])
    assert rows["config file"] == f"{os.environ['ZEROSHOT_CONFIG']}, not there"
    assert rows["default model"] == "small (in the package)"
    assert [method for method, *_ in hub.requests] == ["HEAD"]  # nothing is downloaded


@pytest.mark.usefixtures("better")
def test_a_default_of_the_config_file_is_shown(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, last = found(capsys)
    assert rows["config file"] == f"{os.environ['ZEROSHOT_CONFIG']}, model ViT-B-32"
    assert rows["default model"] == (
        "ViT-B-32:laion2b_s34b_b79k is not on this machine; its first use downloads it (about 605 MB) "
        "(from the config file)"
    )
    assert last == "all is well"
    Path(os.environ["ZEROSHOT_CONFIG"]).write_text("# nothing\n")
    rows, _ = found(capsys)
    assert rows["config file"].endswith(", which names no model")
    assert rows["default model"] == "small (in the package)"
    Path(os.environ["ZEROSHOT_CONFIG"]).write_text("model: tinny\n")
    rows, last = found(capsys)
    assert "there is no model 'tinny': did you mean tiny?" in rows["config file"]
    assert "there is no model 'tinny'" in rows["default model"]
    assert last == "to do: correct or remove the config file"
    (tmp_path / "empty").mkdir()
    Path(os.environ["ZEROSHOT_CONFIG"]).write_text(f"model: {tmp_path / 'empty'}\n")
    rows, last = found(capsys)
    assert "is not a model folder" in rows["default model"]
    assert last == "to do: correct the config file"
    monkeypatch.setenv("ZEROSHOT_CONFIG", "~nobody-at-all/config.yaml")
    rows, last = found(capsys)
    assert "ZEROSHOT_CONFIG=~nobody-at-all/config.yaml: there is no such home folder" in rows["config file"]
    assert last == "to do: correct or remove the config file"
    monkeypatch.setenv("ZEROSHOT_MODEL", "tiny")
    rows, _ = found(capsys)
    assert rows["default model"] == "tiny (from ZEROSHOT_MODEL)"


def test_without_a_home_folder_there_is_no_config_file(
    hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zeroshot_cli.models.default.config_file", lambda: None)
    rows, last = found(capsys)
    assert rows["config file"] == "none, for want of a home folder; ZEROSHOT_CONFIG can name one"
    assert (rows["default model"], last) == ("small (in the package)", "all is well")


@pytest.mark.usefixtures("better")
def test_what_was_downloaded_is_counted(
    hub: Any, hub_at: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repos[REPO] = {WEIGHTS: bytes(2_000_000)}
    from zeroshot_cli.models.download import fetch_file

    fetch_file(REPO, WEIGHTS)
    hub_at("http://127.0.0.1:9")  # nobody listens there
    rows, last = found(capsys)
    assert rows["downloaded models"] == f"{tmp_path / 'hub'}, 2.0 MB"
    assert rows["default model"] == "ViT-B-32:laion2b_s34b_b79k, 2.0 MB, is on this machine (from the config file)"
    assert "http://127.0.0.1:9 does not answer" in rows["downloads"]
    assert last == "all is well"  # what it would need the hub for is here


@pytest.mark.usefixtures("better")
@pytest.mark.parametrize("way", ["--offline", "HF_HUB_OFFLINE", "no hub", "a proxy that refuses"])
def test_without_the_hub_it_says_what_works(
    way: str, hub: Any, hub_at: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    if way == "HF_HUB_OFFLINE":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if way == "no hub":
        hub_at("http://127.0.0.1:9")
    if way == "a proxy that refuses":
        hub.server.RequestHandlerClass.do_HEAD = lambda self: self._refuse(403, "")
    rows, last = found(capsys, *["--offline"] * (way == "--offline"))
    assert rows["downloads"].startswith("off" if "OFFLINE" in way.upper() else "on, but ")
    assert last.startswith(
        "to do: --model small works without the hub; for ViT-B-32:laion2b_s34b_b79k run zeroshot models "
    )


def test_a_silent_hub_is_not_waited_for_long(
    hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import threading

    done = threading.Event()
    hub.server.RequestHandlerClass.do_HEAD = lambda self: done.wait(20) and None
    monkeypatch.setattr(doctor, "_PATIENCE", 0.2)
    try:
        rows, _ = found(capsys)
    finally:
        done.set()
    assert rows["downloads"].startswith(f"on, but {hub.endpoint} ")


def test_packages_that_are_missing_come_with_the_command(
    hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib import metadata

    real = metadata.version

    def version(name: str) -> str:
        if name in ("safetensors", "ftfy", "pyarrow"):
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    rows, last = found(capsys)
    assert rows["safetensors"] == "missing; pip install safetensors"
    assert rows["for Parquet tables"] == "pyarrow is missing; pip install 'zeroshot-cli[parquet]'"
    assert last == "to do: pip install safetensors ftfy"  # what is optional is no fault


@pytest.mark.parametrize(
    "error", [OSError("libcudart.so: cannot open shared object file"), RuntimeError("CUDA unknown error")]
)
def test_a_torch_that_does_not_work_is_a_row(
    error: Exception, hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(doctor, "_devices", broken)
    monkeypatch.setenv("ZEROSHOT_CACHE_SIZE", "much")
    rows, last = found(capsys)
    assert rows["devices"] == f"not checked: {error}"
    assert rows["bundled models"].startswith("small")
    assert last.startswith("to do: find out why the devices")
    assert "correct ZEROSHOT_CACHE_SIZE" in last


def test_the_bundled_model_may_be_missing(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zeroshot_cli.models.registry.bundled_folder", lambda name: tmp_path / name)
    rows, last = found(capsys)
    assert (rows["bundled models"], rows["missing models"]) == ("none", "small, tiny")
    assert last == "to do: reinstall zeroshot-cli"
    Path(os.environ["ZEROSHOT_CONFIG"]).write_text("model: ViT-B-32\n")
    _, last = found(capsys, "--offline")
    assert "--model small" not in last


def test_variables_that_are_wrong_are_named(
    hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZEROSHOT_MODEL", "tinny")
    monkeypatch.setenv("ZEROSHOT_CACHE_SIZE", "much")
    rows, last = found(capsys)
    assert "did you mean tiny?" in rows["default model"]
    assert last == "to do: correct ZEROSHOT_CACHE_SIZE; correct ZEROSHOT_MODEL"
    monkeypatch.setenv("ZEROSHOT_MODEL", "tiny")
    monkeypatch.setenv("ZEROSHOT_CACHE_SIZE", "5 MB")
    rows, last = found(capsys)
    assert (rows["default model"], last) == ("tiny (from ZEROSHOT_MODEL)", "all is well")
    assert rows["cache of images"] == "0 B of at most 5.0 MB"


@pytest.mark.parametrize(
    ("model", "pretrained", "said", "wrong"),
    [
        ("", "nope", "--pretrained nope needs --model NAME", "ZEROSHOT_PRETRAINED"),
        ("ViT-B-32", "nope", "ViT-B-32 has no weights 'nope'", "ZEROSHOT_PRETRAINED"),
        ("tinny", "openai", "did you mean tiny?", "ZEROSHOT_MODEL"),
        ("ViT-B-32:openai", "openaj", "omit openaj", "ZEROSHOT_PRETRAINED"),
        ("tiny", "openai", "omit openai", "ZEROSHOT_PRETRAINED"),
        ("ViT-B-32", "{empty}", "holds no weights", "ZEROSHOT_PRETRAINED"),
        ("{empty}", "", "is not a model folder", "ZEROSHOT_MODEL"),
    ],
)
def test_the_variable_that_is_wrong_is_the_one_that_is_named(
    model: str,
    pretrained: str,
    said: str,
    wrong: str,
    hub: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("ZEROSHOT_MODEL", model.format(empty=tmp_path / "empty"))
    monkeypatch.setenv("ZEROSHOT_PRETRAINED", pretrained.format(empty=tmp_path / "empty"))
    rows, last = found(capsys)
    assert said in rows["default model"]
    assert last == f"to do: correct {wrong}"


def test_a_model_of_ones_own(
    hub: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZEROSHOT_MODEL", str(model_folder))
    rows, last = found(capsys)
    assert (rows["default model"], last) == (f"{model_folder} (from ZEROSHOT_MODEL)", "all is well")
    monkeypatch.setenv("ZEROSHOT_MODEL", "ViT-B-32")
    monkeypatch.setenv("ZEROSHOT_PRETRAINED", str(model_folder))
    rows, last = found(capsys)
    assert rows["default model"].startswith(f"ViT-B-32 with the weights {model_folder}")
    assert last == "all is well"


def test_a_repository_of_the_hub_is_here_or_not(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from zeroshot_cli.models.download import fetch_repo

    hub.repos["a/b"] = {WEIGHTS: bytes(2_000_000), "open_clip_config.json": b"{}"}
    monkeypatch.setenv("ZEROSHOT_MODEL", "hf-hub:a/b")
    rows, last = found(capsys)
    assert (
        rows["default model"] == "hf-hub:a/b is not on this machine; its first use downloads it (from ZEROSHOT_MODEL)"
    )
    assert last == "all is well"
    _, last = found(capsys, "--offline")
    assert last.startswith("to do: --model small works without the hub; for hf-hub:a/b run zeroshot models download ")
    fetch_repo("hf-hub:a/b")
    rows, last = found(capsys, "--offline")
    assert (rows["default model"], last) == ("hf-hub:a/b (from ZEROSHOT_MODEL)", "all is well")
    for blob in (tmp_path / "hub").rglob("blobs/*"):
        blob.write_bytes(b"damaged")
    rows, _ = found(capsys, "--offline")
    assert (
        rows["default model"] == "hf-hub:a/b is not on this machine; its first use downloads it (from ZEROSHOT_MODEL)"
    )


def test_a_tag_goes_before_a_folder_of_its_name(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "openai").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZEROSHOT_MODEL", "ViT-B-32")
    monkeypatch.setenv("ZEROSHOT_PRETRAINED", "openai")
    rows, last = found(capsys)
    assert rows["default model"].startswith("ViT-B-32:openai is not on this machine")
    assert last == "all is well"


def test_device_and_precision_may_be_of_variables(
    hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZEROSHOT_DEVICE", "gpu")
    monkeypatch.setenv("ZEROSHOT_PRECISION", "fp61")
    rows, last = found(capsys)
    assert "'gpu'" in rows["ZEROSHOT_DEVICE"]
    assert "'fp61'" in rows["ZEROSHOT_PRECISION"]
    assert last == "to do: correct ZEROSHOT_DEVICE; correct ZEROSHOT_PRECISION"
    monkeypatch.setenv("ZEROSHOT_DEVICE", "cpu:0")
    monkeypatch.setenv("ZEROSHOT_PRECISION", "fp32")
    _, last = found(capsys)
    assert last == "to do: correct ZEROSHOT_DEVICE"
    monkeypatch.setenv("ZEROSHOT_DEVICE", "cpu")
    rows, last = found(capsys)
    assert (rows["device"], rows["precision"]) == ("cpu (from ZEROSHOT_DEVICE)", "fp32 (from ZEROSHOT_PRECISION)")
    assert last == "all is well"


def test_caches_have_their_place_and_size(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "texts.sqlite").write_bytes(b"no database" * 1000)
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(folder))
    rows, last = found(capsys)
    assert rows["cache of embeddings"] == str(folder)
    assert rows["cache of texts"].startswith("cannot be read: ")
    assert last == "to do: zeroshot cache clear"
    assert entry.run(["cache", "clear"]) == 0
    capsys.readouterr()
    rows, last = found(capsys)
    assert (rows["cache of texts"], last) == ("0 B", "all is well")


def test_a_full_disk_and_a_folder_that_is_locked(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(os.environ["ZEROSHOT_CONFIG"]).write_text("model: ViT-B-32\n")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 9 * 10**8, 10**8))
        rows, last = found(capsys)
    assert rows["space left there"] == "100 MB"
    assert last == "to do: set HF_HUB_CACHE to a folder with more space"
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path / "locked"))
    with monkeypatch.context() as patch:
        patch.setattr(doctor.os, "access", lambda path, mode: False)
        _, last = found(capsys, "--offline")
    assert last.startswith("to do: set ZEROSHOT_CACHE_DIR to a folder that you can write to")
    Path(os.environ["ZEROSHOT_CONFIG"]).unlink()
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path / "file"))
    _, last = found(capsys)
    assert last.startswith("to do: set ZEROSHOT_CACHE_DIR to a folder that you can write to")


@pytest.mark.usefixtures("better")
def test_a_hub_library_that_does_not_load_is_a_row(
    hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import builtins

    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "huggingface_hub":
            raise ValueError("HF_HUB_ETAG_TIMEOUT: '2.5' is no int")
        return real(name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", refuse)
        settings._constants.cache_clear()
        rows, last = found(capsys)
    assert "HF_HUB_ETAG_TIMEOUT: '2.5' is no int" in rows["models"]
    assert last.startswith("to do: find out why the models cannot be checked")


@pytest.mark.usefixtures("better")
def test_a_proxy_that_cannot_be_used_is_a_row(
    hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import close_session

    close_session()
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:9")
    try:
        rows, last = found(capsys)
    finally:
        close_session()
    assert "correct ALL_PROXY, HTTPS_PROXY or HTTP_PROXY" in rows["downloads"]
    assert last.startswith("to do: --model small works without the hub")


def test_the_extras_are_those_of_the_project() -> None:
    theirs = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra, (package, _) in doctor.EXTRAS.items():
        assert any(each.startswith(package) for each in theirs[extra]), extra
    assert set(theirs) - set(doctor.EXTRAS) == {"all", "bench", "dev", "docs"}


def test_the_command_itself_imports_torch_only_when_it_runs() -> None:
    code = "import sys, zeroshot_cli.cli.commands.doctor\nassert not {'torch', 'huggingface_hub'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0

"""Which model answers where nobody names one: option, then variable, then config file, then the package's."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from zeroshot_cli.errors import CheckpointError, ConfigError, InputError, UnavailableError, UsageError
from zeroshot_cli.models import default
from zeroshot_cli.models.catalogue import list_models
from zeroshot_cli.models.default import Source, choose, config_file, forget_default, read_default, use_model
from zeroshot_cli.models.load import load

REPO, WEIGHTS = "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", "open_clip_model.safetensors"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "PRETRAINED"):
        monkeypatch.delenv(f"ZEROSHOT_{name}", raising=False)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEROSHOT_CONFIG", str(tmp_path / "config.yaml"))
    return tmp_path / "config.yaml"


def chosen(*given: str | None) -> tuple[str, str | None, Source]:
    found = choose(*given)
    return found.name, found.pretrained, found.source


def test_option_before_variable_before_config_before_package(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen() == ("small", None, Source.PACKAGE)
    config.write_text("model: ViT-B-16:openai\n")
    assert chosen() == ("ViT-B-16", "openai", Source.CONFIG)
    assert chosen(None, "laion400m_e32") == ("ViT-B-16", "laion400m_e32", Source.CONFIG)
    monkeypatch.setenv("ZEROSHOT_MODEL", "ViT-L-14")
    monkeypatch.setenv("ZEROSHOT_PRETRAINED", "openai")
    assert chosen() == ("ViT-L-14", "openai", Source.VARIABLE)
    assert chosen("tiny") == ("tiny", None, Source.GIVEN)
    config.write_text("[broken")  # nobody reads it
    assert chosen()[0] == "ViT-L-14"
    assert chosen("tiny")[0] == "tiny"


def test_weights_alone_need_a_model(config: Path) -> None:
    with pytest.raises(UsageError, match=r"--pretrained openai needs --model NAME: small, the default, brings its own"):
        choose(None, "openai")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", None),
        ("# a comment alone\n", None),
        ("model:\n", None),
        ("\ufeffmodel: tiny\n", "tiny"),
        ('{"model": "hf-hub:a/b"}', "hf-hub:a/b"),
        ("model: vit-b/16\n", "vit-b/16"),
    ],
)
def test_what_a_config_file_may_hold(content: str, expected: str | None, config: Path) -> None:
    config.write_text(content, encoding="utf-8")
    assert read_default(config) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"model: [tiny\n", "line 2: "),
        (b"modell: tiny\n", "there is no setting 'modell', only 'model'"),
        (b"model: tiny\nmodel2: x\n", "there is no setting 'model2'"),
        (b"- tiny\n", "holds no setting such as 'model: NAME'"),
        (b"tiny\n", "holds no setting"),
        (b"model: 7\n", "model is 7, not the name of a model"),
        (b"model: ' '\n", "model is ' ', not"),
        (b"model: tinny\n", "there is no model 'tinny': did you mean tiny?"),
        (b"model: ViT-B-32:openaj\n", "ViT-B-32 has no weights 'openaj': did you mean openai?"),
        (b"model: tiny:openai\n", "no weights of tiny are published"),
        (b"model: /nowhere/run\n", "nor a file or folder of that name"),
        (b"model: \xff\n", "byte 8 is not UTF-8"),
        (b"model: tiny #" + b"x" * 64_000, "more than 64,000 bytes"),
        (b"model: " + b"[" * 200 + b"]" * 200, "nested too deeply"),
        (b"\x00\x01\x02", "line 1"),
    ],
)
def test_a_config_file_that_is_wrong_is_one_sentence_with_the_way_out(content: bytes, said: str, config: Path) -> None:
    config.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        choose()
    sentence = str(caught.value)
    assert said in sentence or (content[0] == 0 and "config.yaml: " in sentence)
    assert sentence.startswith(f"{config}: ")
    assert sentence.endswith("correct or remove the file, or name a model with --model")
    assert "\n" not in sentence
    assert isinstance(caught.value, InputError)
    assert caught.value.exit_code == 3
    if "model" not in said.partition("setting")[2] and said.startswith(("there is no setting", "holds no", "line")):
        with pytest.raises(ConfigError):
            use_model("tiny", None)  # what is not ours is not overwritten
        assert config.read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with names")
def test_a_pipe_in_its_place_is_not_waited_for(config: Path) -> None:
    os.mkfifo(config)
    with pytest.raises(ConfigError, match=r"config.yaml: cannot be read \(it is not a regular file\)"):
        choose()
    with pytest.raises(ConfigError):
        use_model("tiny", None)


def test_a_folder_in_its_place(config: Path) -> None:
    config.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        choose()


def test_a_config_that_cannot_be_seen_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of another user, whose home folder HOME still names in a container."""
    monkeypatch.delenv("ZEROSHOT_CONFIG")

    def locked(path: object) -> bool:
        return False

    monkeypatch.setattr(default.os.path, "exists", locked)
    assert read_default(Path("/root/.config/zeroshot/config.yaml")) is None


def test_the_place_of_the_config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZEROSHOT_CONFIG")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert config_file() == tmp_path / "xdg" / "zeroshot" / "config.yaml"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_file() == tmp_path / ".config" / "zeroshot" / "config.yaml"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert config_file() == tmp_path / "Library" / "Application Support" / "zeroshot" / "config.yaml"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("APPDATA", str(tmp_path / "Roaming"))
    assert config_file() == tmp_path / "Roaming" / "zeroshot" / "config.yaml"
    monkeypatch.setenv("ZEROSHOT_CONFIG", "~/own.yaml")
    assert config_file() == tmp_path / "own.yaml"


def test_a_config_in_the_present_folder_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends photographs in an archive does not choose the model that sees them."""
    monkeypatch.delenv("ZEROSHOT_CONFIG")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", "conf")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "zeroshot").mkdir(parents=True)
    (tmp_path / "conf" / "zeroshot" / "config.yaml").write_text("model: tiny\n")
    assert config_file() is None
    assert chosen()[0] == "small"


def test_without_a_home_folder_small_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ZEROSHOT_CONFIG")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert config_file() is None
    assert chosen() == ("small", None, Source.PACKAGE)
    with pytest.raises(UsageError, match="no home folder for a config file; set ZEROSHOT_CONFIG"):
        use_model("tiny", None)


# models use


def test_a_published_model_is_downloaded_and_named_with_its_weights(hub: Any, config: Path) -> None:
    hub.repos[REPO] = {WEIGHTS: b"weights"}
    assert use_model("vit-b/32-256", None) == ("ViT-B-32-256:datacomp_s34b_b86k", config)
    assert yaml.safe_load(config.read_text()) == {"model": "ViT-B-32-256:datacomp_s34b_b86k"}
    assert hub.bodies()
    assert chosen() == ("ViT-B-32-256", "datacomp_s34b_b86k", Source.CONFIG)
    assert [entry.name for entry in list_models() if entry.used] == ["ViT-B-32-256"]
    assert forget_default() == config
    assert chosen() == ("small", None, Source.PACKAGE)
    assert [entry.name for entry in list_models() if entry.used] == ["small"]


def test_a_model_that_cannot_be_had_changes_nothing(hub: Any, config: Path) -> None:
    use_model("TINY", None)
    before = config.read_text()
    with pytest.raises(UnavailableError):
        use_model("ViT-B-32-256", None, offline=True)
    with pytest.raises(UsageError, match="did you mean"):
        use_model("ViT-B-33", None)
    with pytest.raises(UsageError, match="tiny brings its own weights: omit openai"):
        use_model("tiny", "openai")
    assert config.read_text() == before
    assert not hub.requests


def test_a_folder_of_ones_own(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        use_model("empty", None)
    folder = tmp_path / 'my "run": 1'
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(b"weights")
    (folder / "open_clip_config.json").write_text("{}")
    assert use_model(folder.name, None) == (str(folder), config)
    monkeypatch.chdir("/")
    assert chosen() == (str(folder), None, Source.CONFIG)
    with pytest.raises(CheckpointError, match=rf"; {re.escape(str(config))} makes .* the default"):
        load()  # its weights are none
    monkeypatch.chdir(tmp_path)
    config.write_text(json.dumps({"model": folder.name}))
    with pytest.raises(ConfigError, match="is another model in every folder; give the whole path; correct"):
        choose()


def test_a_bundled_model_goes_before_a_folder_of_its_name(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Small").mkdir()
    assert use_model("Small", None) == ("small", config)


def test_a_folder_that_cannot_be_made_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZEROSHOT_CONFIG", str(tmp_path / "file" / "config.yaml"))
    assert choose().source is Source.PACKAGE
    with pytest.raises(UsageError, match=r"cannot create .*file.*; set ZEROSHOT_CONFIG to a file that you can write"):
        use_model("tiny", None)


def test_a_link_to_the_file_stays(tmp_path: Path, config: Path) -> None:
    (tmp_path / "dotfiles.yaml").write_text("")
    config.symlink_to("dotfiles.yaml")
    use_model("tiny", None)
    assert config.is_symlink()
    assert yaml.safe_load((tmp_path / "dotfiles.yaml").read_text()) == {"model": "tiny"}


def test_weights_that_are_gone_name_the_config_file(hub: Any, config: Path) -> None:
    config.write_text("model: ViT-B-32-256\n")
    with pytest.raises(UnavailableError) as caught:
        load(offline=True)
    assert str(caught.value).endswith(f"; {config} makes ViT-B-32-256 the default")
    assert "zeroshot models download ViT-B-32-256:datacomp_s34b_b86k --to DIR" in str(caught.value)
    with pytest.raises(UnavailableError) as caught:
        load("ViT-B-32-256", offline=True)
    assert str(config) not in str(caught.value)


def test_load_without_a_name_is_the_commands_default(config: Path) -> None:
    ours, small = load(device="cpu", precision="fp32"), load("small", device="cpu", precision="fp32")
    assert (ours.name, ours.title, ours.fingerprint) == ("small", "small", small.fingerprint)
    config.write_text("model: tiny\n")
    assert load(device="cpu", precision="fp32").name == "tiny"


def test_the_size_that_is_named_is_that_of_the_table() -> None:
    from zeroshot_cli.display import size_text

    (better,) = (entry for entry in list_models(default.BETTER_MODEL) if entry.name == default.BETTER_MODEL)
    assert (better.pretrained, better.imagenet) == ("datacomp_s34b_b86k", 0.7281)
    assert better.estimated_bytes is not None
    assert size_text(better.estimated_bytes) == default.BETTER_DOWNLOAD

"""A model's configuration is data from outside: whatever it holds, one short sentence, at once."""

import json
import time
from pathlib import Path

import pytest

from zeroshot_cli.clip.config import PRESETS, config_to_dict
from zeroshot_cli.errors import CheckpointError
from zeroshot_cli.models.formats.open_clip import read_config
from zeroshot_cli.models.load import load, new_model

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "embed_dim: !!bool x",
        "embed_dim: !!int ''",
        "embed_dim: !!timestamp x",
        "embed_dim: !!python/object/apply:os.system [touch x]",
        "embed_dim: " + "[" * 900 + "]" * 900,
        BOMB,
        "embed_dim: " + "9" * 5000,
        "embed_dim: 1" + "0" * 400,
        "embed_dim: " + "x" * 2_000_000,
        "? [a, b]\n: 1",
        "- 1",
        "\x00",
        "a: b: c",
    ],
)
def test_a_models_yaml(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(text)
    start = time.monotonic()
    with pytest.raises(CheckpointError, match="is not a model configuration") as caught:
        new_model(str(tmp_path / "model.yaml"))
    assert time.monotonic() - start < 5
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 900 + "1" + "}" * 900,
        '{"embed_dim": ' + "9" * 6000 + "}",
        '{"embed_dim": 1, "init_logit_scale": 1' + "0" * 400 + "}",
        '{"embed_dim": "' + "x" * 100_000 + '"}',
        '{"embed_dim": NaN}',
        "\ufeff5",
    ],
)
def test_an_open_clip_config_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(text, encoding="utf-8")
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is not a model configuration") as caught:
        read_config(tmp_path / "open_clip_config.json")
    assert len(str(caught.value)) < 300 + len(str(tmp_path))
    with pytest.raises(CheckpointError):
        load(str(tmp_path))


def test_a_number_too_large_for_a_float(tmp_path: Path) -> None:
    document = config_to_dict(PRESETS["ViT-B-32"]) | {"init_logit_scale": 10**400}
    (tmp_path / "model.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="is not a model configuration"):
        read_config(tmp_path / "model.json")

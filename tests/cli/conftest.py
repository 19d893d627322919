"""Models for commands, and what a command answered."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_lines import Runner
from good_files import make_good_files
from PIL import Image

from zeroshot_cli.cli import app
from zeroshot_cli.models import load as loading
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.models.load import new_model

_SMALL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"width": 16, "heads": 2, "layers": 1, "context_length": 77, "vocab_size": 49408},
}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of 16 × 16 pixels, for --model."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.yaml").write_text(yaml.safe_dump(_SMALL))
    model, config, preprocess, _ = new_model(str(folder / "config.yaml"), seed=0)
    save_model(folder / "model", model, config, preprocess)
    return folder / "model"


@dataclass
class Finished:
    """A command that has ended."""

    code: int
    out: bytes
    err: str

    @property
    def rows(self) -> list[dict[str, str]]:
        """Its CSV, bytes that are not UTF-8 as lone surrogates."""
        text = self.out.decode("utf-8", "surrogateescape")
        return list(csv.DictReader(io.StringIO(text, newline="")))

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Its JSONL."""
        return [json.loads(line) for line in self.out.decode().splitlines()]


@pytest.fixture
def classify(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Finished]:
    """`classify("photos", "--top-k", 2)` runs the command in this process."""

    def run(*arguments: object) -> Finished:
        capfdbinary.readouterr()
        code = app.run(["classify", *map(str, arguments)])
        captured = capfdbinary.readouterr()
        return Finished(code, captured.out, captured.err.decode())

    return run


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch, model_folder: Path) -> None:
    """Commands take the small random model, in float32 on the CPU."""
    monkeypatch.setenv("ZEROSHOT_MODEL", str(model_folder))
    monkeypatch.setenv("ZEROSHOT_PRECISION", "fp32")
    monkeypatch.setenv("ZEROSHOT_DEVICE", "cpu")


@pytest.fixture
def angles(monkeypatch: pytest.MonkeyPatch, angle_model: Any) -> list[tuple[int, ...]]:
    """Commands take the angle model, under any name and precision; the shapes of the batches that it gets."""
    batches: list[tuple[int, ...]] = []

    def load(name: str, pretrained: str | None = None, *, precision: str, **others: object) -> Any:
        model = type(angle_model)()
        model.name, model.pretrained, model.batches = name, pretrained, batches
        model.fingerprint = hashlib.sha256(repr((name, pretrained)).encode()).hexdigest()
        model.precision = "fp32" if precision == "auto" else precision
        return model

    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr("zeroshot_cli.models.download.fetch_ahead", lambda *_, **__: None)  # under any name
    return batches


@pytest.fixture
def good_files() -> Callable[[Path], dict[str, Any]]:
    """`good_files(folder)` draws one hundred pictures of many formats and modes there: path → what it shows."""
    return make_good_files


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, angles: Any) -> Path:
    """Thirty images in folders, one of them broken, one not named in UTF-8; the working directory is above them."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    for number in range(28):
        place = folder / "abc"[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number * 9, 0, 0)).save(place / f"{number}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG")
    Image.new("RGB", (4, 4), (7, 0, 0)).save(os.fsdecode(os.fsencode(folder) + b"/=\xff.png"), "PNG")
    return folder


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Runner:
    return Runner(capfdbinary)

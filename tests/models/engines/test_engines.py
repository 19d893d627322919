"""Image towers run by OpenVINO and ONNX Runtime: what torch answers, whatever the neighbours."""

import json
import logging
import shutil
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import ready_models
import torch
from ready_models import EFFICIENTNET, RESNET, TEXT, VIT, images, randomise
from torch import nn

from zeroshot_cli.cli.app import app
from zeroshot_cli.clip.config import (
    CBOWConfig,
    CLIPConfig,
    VisionTransformerConfig,
)
from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.models.engines import choose
from zeroshot_cli.models.engines import onnx as onnx_files
from zeroshot_cli.models.engines import tower as towers
from zeroshot_cli.models.engines.choose import computed_by, resolve_engine
from zeroshot_cli.models.engines.integers import cpu_flags
from zeroshot_cli.models.export import Layout, export_model
from zeroshot_cli.models.load import load
from zeroshot_cli.models.loaded import LoadedModel

CONFIGS = {"ViT": VIT, "ResNet": RESNET, "EfficientNet": EFFICIENTNET}
ENGINES = [name for name in ("openvino", "onnxruntime") if find_spec(name)]
EACH = [  # each takes seconds to be written
    pytest.param(kind, engine, marks=[pytest.mark.slow] * ((kind, engine) != ("ViT", "openvino")))
    for kind in CONFIGS
    for engine in ENGINES
]
pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(not ENGINES or not find_spec("onnxscript"), reason="no engine is installed"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was written by one test serves the others."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture
def ready(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoadedModel]:
    monkeypatch.setattr(towers, "engines_folder", lambda: cache / "engines")
    return lambda kind, precision, engine="torch": ready_models.ready(CONFIGS[kind], precision, engine=engine)


def least_cosine(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found * expected).sum(dim=-1).min())


@pytest.mark.parametrize(("kind", "engine"), EACH)
def test_an_engine_answers_as_torch_does(kind: str, engine: str, ready: Callable[..., LoadedModel]) -> None:
    exact, other = ready(kind, "fp32"), ready(kind, "fp32", engine)
    assert other.engine == engine
    assert least_cosine(other.encode_images(images(4)), exact.encode_images(images(4))) > 0.99999
    pixels = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    assert least_cosine(other.encode_pixels(pixels), exact.encode_pixels(pixels)) > 0.99999
    torch.testing.assert_close(other.encode_texts(["a cat", ""]), exact.encode_texts(["a cat", ""]), rtol=0, atol=0)
    assert other.fingerprint == exact.fingerprint
    assert (exact.computing, other.computing) == ("fp32", f"fp32 by {engine} {version(engine)}")
    assert computed_by(exact.computing) == ("fp32", "torch")
    assert computed_by(other.computing) == ("fp32", engine)


@pytest.mark.parametrize(("kind", "engine"), EACH)
def test_int8_stays_within_a_thousandth(kind: str, engine: str, ready: Callable[..., LoadedModel]) -> None:
    exact, short = ready(kind, "fp32"), ready(kind, "int8", engine)
    found = short.encode_images(images(4))
    assert found.dtype == torch.float32
    assert least_cosine(found, exact.encode_images(images(4))) > 0.999
    assert not torch.equal(found, exact.encode_images(images(4)))
    assert least_cosine(short.encode_texts(["a cat"]), exact.encode_texts(["a cat"])) > 0.999


@pytest.mark.parametrize(("kind", "engine"), [param for param in EACH if param.values[0] != "EfficientNet"])
def test_int8_is_of_integers(kind: str, engine: str, ready: Callable[..., LoadedModel], cache: Path) -> None:
    import onnx

    ready(kind, "int8", engine).encode_images(images(1))
    kinds = []
    for path in cache.rglob("*.onnx"):
        nodes = onnx.load(str(path), load_external_data=False).graph.node
        kinds.append(sum(node.op_type == "QuantizeLinear" for node in nodes))
    assert max(kinds) > 10
    sizes = sorted(sum(f.stat().st_size for f in folder.iterdir()) for folder in (cache / "engines").iterdir())
    assert sizes[0] < 2_000_000


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(("kind", "engine"), EACH)
def test_an_image_depends_on_no_neighbour_and_no_place(
    kind: str, precision: str, engine: str, ready: Callable[..., LoadedModel]
) -> None:
    model, batch = ready(kind, precision, engine), images(8)
    alone = model.encode_images(batch)
    others = batch * torch.tensor([1.0, *[50.0] * 7]).view(8, 1, 1, 1)
    assert torch.equal(model.encode_images(others)[0], alone[0])
    for rows in range(1, 8):
        turned = model.encode_images(batch.roll(rows, 0)).roll(-rows, 0)
        torch.testing.assert_close(turned, alone, atol=2e-6 if precision == "fp32" else 2e-3, rtol=0)


@pytest.mark.skipif("openvino" not in ENGINES, reason="OpenVINO is not installed")
def test_openvino_computes_in_bf16(ready: Callable[..., LoadedModel]) -> None:
    exact, short = ready("ViT", "fp32"), ready("ViT", "bf16", "openvino")
    found, expected = short.encode_images(images(4)), exact.encode_images(images(4))
    assert least_cosine(found, expected) > 0.999
    if "avx512_bf16" in cpu_flags():
        assert not torch.allclose(found, expected, atol=1e-6)


def test_what_is_written_serves_the_next_run(
    ready: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = ready("ViT", "fp32", ENGINES[0]).encode_images(images(2))

    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(towers, "write_onnx", never)
    with caplog.at_level(logging.INFO):
        assert torch.equal(ready("ViT", "fp32", ENGINES[0]).encode_images(images(2)), first)
    assert not caplog.records


def test_another_run_may_be_faster(
    ready: Callable[..., LoadedModel], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ready("ViT", "fp32", ENGINES[0]).encode_images(images(2))
    monkeypatch.setattr(towers, "engines_folder", lambda: tmp_path / "engines")

    def write(*_: object, **__: object) -> None:  # as if the other had finished meanwhile
        shutil.copytree(cache / "engines", tmp_path / "engines", dirs_exist_ok=True)

    monkeypatch.setattr(towers, "write_onnx", write)
    assert torch.equal(ready("ViT", "fp32", ENGINES[0]).encode_images(images(2)), first)


def test_nan_is_no_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load("tiny", device="cpu", precision="fp32")
    monkeypatch.setattr(onnx_files.F, "cosine_similarity", lambda *_: torch.tensor([float("nan")]))
    with pytest.raises(CheckpointError, match="a cosine of nan"):
        export_model(model, tmp_path / "out", layout=Layout.ONNX)
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(UsageError, match="out holds something already: name another folder"):
        export_model(model, tmp_path / "out", layout=Layout.ONNX)


def test_auto_is_torch_but_for_int8() -> None:
    assert resolve_engine("auto", "bf16", "cpu") == "torch"
    assert resolve_engine("auto", "int8", "cpu") == ENGINES[0]
    assert resolve_engine("auto", "fp16", "cuda") == "torch"


@pytest.mark.parametrize(
    ("given", "installed", "message"),
    [
        (("auto", "int8", "cpu"), False, r"int8 needs OpenVINO: pip install 'zeroshot-cli\[openvino\]'"),
        (("openvino", "fp32", "cpu"), False, r"--engine openvino needs OpenVINO: pip install"),
        (("torch", "int8", "cpu"), True, "int8 is for --engine openvino or onnxruntime"),
        (("openvino", "fp32", "cuda"), True, "openvino is for the CPU: on cuda use --engine torch"),
        (("onnxruntime", "bf16", "cpu"), True, "onnxruntime has no bf16"),
        (("tensorrt", "fp32", "cpu"), True, "'tensorrt' is unknown: use auto, torch, openvino, onnxruntime"),
    ],
)
def test_an_engine_that_cannot_be_had(
    given: tuple[str, str, str], installed: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "find_spec", lambda name: name if installed else None)
    with pytest.raises(UsageError, match=message):
        resolve_engine(*given)


@pytest.mark.slow
def test_the_bundled_model_in_int8(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(towers, "engines_folder", lambda: cache / "engines")
    exact, short = load("tiny", device="cpu", precision="fp32"), load("tiny", precision="int8")
    assert short.engine == ENGINES[0]
    pixels = torch.randint(0, 256, (3, *exact.preprocess.config.height_width, 3), dtype=torch.uint8)
    assert least_cosine(short.encode_pixels(pixels), exact.encode_pixels(pixels)) > 0.999


@pytest.mark.skipif("onnxruntime" not in ENGINES, reason="ONNX Runtime is not installed")
@pytest.mark.parametrize(
    "given", [("--to", "onnx"), pytest.param(("--to", "folder", "--layout", "onnx"), marks=pytest.mark.slow)]
)
def test_a_model_as_onnx_answers_in_another_program(
    given: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    monkeypatch.chdir(tmp_path)
    app(["models", "export", "tiny", *given], standalone_mode=False)
    assert "its least cosine to the model is" in capsys.readouterr().err
    folder = tmp_path / given[1]
    about = json.loads((folder / "model.json").read_text())
    model = load("tiny", device="cpu", precision="fp32")
    assert about["logit_scale"] == pytest.approx(model.logit_scale)
    batch = torch.randn(5, 3, *model.preprocess.config.height_width)
    session = onnxruntime.InferenceSession(str(folder / "images.onnx"))
    found = session.run(None, {"images": batch.numpy()})[0]
    np.testing.assert_allclose(found, model.encode_images(batch).numpy(), atol=1e-5)
    texts = ["a cat", "a photo of a dog", ""]
    session = onnxruntime.InferenceSession(str(folder / "texts.onnx"))
    found = session.run(None, {"texts": model.tokenizer(texts).long().numpy()})[0]
    np.testing.assert_allclose(found, model.encode_texts(texts).numpy(), atol=1e-5)


@pytest.mark.slow
def test_a_bag_of_words_as_onnx(tmp_path: Path) -> None:
    from zeroshot_cli.models.engines.onnx import write_folder

    config = CLIPConfig(
        embed_dim=32,
        vision=VisionTransformerConfig(image_size=32, patch_size=16, width=64, layers=1),
        text=CBOWConfig(width=32, context_length=10, vocab_size=1000),
    )
    assert write_folder(ready_models.ready(config), tmp_path) > 0.9999


@pytest.mark.slow
def test_int8_on_a_model_of_the_real_size(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(towers, "engines_folder", lambda: cache / "engines")
    config = CLIPConfig(
        embed_dim=512, vision=VisionTransformerConfig(image_size=224, patch_size=32, width=768, layers=12), text=TEXT
    )
    batch = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    for seeded in (nn.Module.eval, randomise):  # as it is made; and with every branch at full strength and outliers
        found = [ready_models.ready(config, precision, seeded).encode_images(batch) for precision in ("fp32", "int8")]
        assert least_cosine(*found) > 0.999

"""The towers of a model written as ONNX, for any number of rows."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeroshot_cli.clip.kernels import textbook
from zeroshot_cli.disk import write_file
from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.models.tokenizers import transformers_files

if TYPE_CHECKING:
    from zeroshot_cli.models.loaded import LoadedModel

_OPSET = 18
_LEAST = 0.9999  # cosine of what was written to the model itself


def write_onnx(tower: nn.Module, example: Tensor, path: Path, *, names: tuple[str, str]) -> None:
    """Write a module of one argument as ONNX, with names for what goes in and out; the first dimension is free.

    Weights go beside it, to `path` and `.data`. Raises UsageError where the exporter is not installed, or does not know
    what the module does.
    """
    try:
        import onnxscript  # noqa: F401  torch's exporter needs it, and says so less clearly
    except ImportError as error:
        raise UsageError(f"writing ONNX needs onnxscript ({error}): pip install 'zeroshot-cli[onnx]'") from None
    rows = {0: torch.export.Dim("rows", min=1, max=1 << 20)}
    try:
        with _silence(), torch.no_grad(), textbook():
            torch.onnx.export(
                tower,
                (example,),
                str(path),
                input_names=[names[0]],
                output_names=[names[1]],
                dynamo=True,
                opset_version=_OPSET,
                dynamic_shapes=(rows,),
                external_data=True,
                verbose=False,
            )
    except OSError:
        raise
    except Exception as error:  # the exporter raises all kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"this model cannot be written as ONNX ({reason}); use --precision fp32 or bf16, without --engine"
        ) from error


class _Normalised(nn.Module):
    """A tower, and its embeddings divided by their lengths."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, x: Tensor) -> Tensor:
        """Embed rows: b… -> be, of length 1."""
        return F.normalize(self.tower(x), dim=-1)


def write_folder(loaded: LoadedModel, directory: Path) -> float:
    """Write both towers of a bundled CLIP, float32 on the CPU, as `images.onnx` and `texts.onnx`.

    Beside them are `model.json` (preprocessing, temperature, configuration) and the tokenizer of Transformers. Returns
    the least cosine of what ONNX Runtime answers to what the model answers, for noise and a few texts. Raises
    UsageError where a package is missing, CheckpointError where that is below 0.9999.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UsageError("the check of what is written needs ONNX Runtime: pip install 'zeroshot-cli[onnx]'") from None
    model, _, tokenizer = loaded.bundled()
    images = torch.randn(2, 3, *loaded.preprocess.config.height_width, generator=torch.Generator().manual_seed(0))
    tokens = tokenizer(["a photo of a cat", "two dogs"]).long()
    least = 1.0
    about = loaded.describe() | {"logit_scale": loaded.logit_scale, "logit_bias": loaded.logit_bias}
    for tower, example, name in ((model.visual, images, "images"), (model.text, tokens, "texts")):
        path = directory / f"{name}.onnx"
        write_onnx(_Normalised(tower), example, path, names=(name, "embeddings"))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {name: example.numpy()})[0])
        with torch.inference_mode():
            cosine = float(F.cosine_similarity(found, tower(example)).min())
        if not cosine >= _LEAST:  # NaN, too
            raise CheckpointError(f"what ONNX Runtime answers is not what the model answers: a cosine of {cosine:.5f}")
        least = min(least, cosine)
    write_file(directory / "model.json", json.dumps(about, indent=2) + "\n")
    for name, text in transformers_files(tokenizer).items():
        write_file(directory / name, text)
    return least


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's advice to its own developers away from the user."""
    before = logging.root.manager.disable
    fast = torch.backends.mha.get_fastpath_enabled()
    logging.disable(logging.WARNING)
    torch.backends.mha.set_fastpath_enabled(False)  # the exporter knows the operations that it stands for
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        torch.backends.mha.set_fastpath_enabled(fast)

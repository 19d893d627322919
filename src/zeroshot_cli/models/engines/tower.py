"""The image tower of a model run by OpenVINO or ONNX Runtime; its ONNX is written once and kept in the cache."""

from __future__ import annotations

import copy
import gc
import logging
import secrets
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from zeroshot_cli.clip.efficientnet import EfficientNet
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.disk import finished_folder, make_private, require_private, writing
from zeroshot_cli.documents import hash_of
from zeroshot_cli.errors import UsageError
from zeroshot_cli.models.engines.choose import PACKAGES, engines_folder
from zeroshot_cli.models.engines.integers import cpu_flags, quantise, weight_steps
from zeroshot_cli.models.engines.onnx import write_onnx

_log = logging.getLogger(__name__)
_VERSION = 2  # of what is kept: raised when the same model would be written otherwise
_FILE = "images.onnx"

Pixels = npt.NDArray[np.float32]


def attach(model: nn.Module, engine: str, precision: str, key: str) -> None:
    """Let an engine encode the images of a model, float32 on the CPU; `key` tells its weights apart."""
    vars(model)["encode_image"] = EngineTower(weakref.ref(model), engine, precision, key)  # both end with the model


@dataclass
class EngineTower:
    """`encode_image` of a model, by an engine that compiles it for each shape of batch that comes."""

    owner: weakref.ref[nn.Module]
    engine: str
    precision: str
    key: str
    _compiled: dict[torch.Size, Callable[[Pixels], Pixels]] = field(default_factory=dict)
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, images: Tensor) -> Tensor:
        """Embed preprocessed images: b3hw -> be, not normalised."""
        shape = images.shape
        with self._alone:  # an engine answers one request at a time
            if shape not in self._compiled:
                with torch.inference_mode(False):
                    self._compiled[shape] = self._opened(self._written(shape), shape)
            return torch.from_numpy(self._compiled[shape](images.contiguous().numpy()))

    def _opened(self, path: Path, shape: torch.Size) -> Callable[[Pixels], Pixels]:
        try:
            return _openvino(path, shape, self._hint()) if self.engine == "openvino" else _onnx_runtime(path)
        except Exception as error:  # of kinds of their own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
            raise UsageError(
                f"{PACKAGES[self.engine]} cannot run this model in {self.precision} ({reason}); use --precision fp32 "
                "or bf16, without --engine"
            ) from error

    def _hint(self) -> str:
        """Return how the engine computes what is not of integers."""
        whole = self.precision == "int8" and not isinstance(getattr(self.owner(), "visual", None), EfficientNet)
        short = self.precision == "bf16" or (whole and bool({"avx512_bf16", "amx_bf16"} & cpu_flags()))
        return "bf16" if short else "f32"

    def _written(self, shape: torch.Size) -> Path:
        """Return the tower as ONNX, written unless the cache has it."""
        integers = weight_steps() if self.precision == "int8" else None
        name = hash_of((_VERSION, self.key, list(shape[1:]), integers, torch.__version__))
        folder = engines_folder() / name
        path = folder / _FILE
        with writing(str(folder)):
            if not path.is_file():
                _log.info("preparing the model for %s, once …", PACKAGES[self.engine])
                make_private(folder.parent)
                try:
                    with finished_folder(folder, folder.with_name(f".{secrets.token_hex(8)}")) as unfinished:
                        self._write(unfinished / _FILE, shape)
                except OSError:
                    if not path.is_file():  # else another run was faster
                        raise
            require_private(folder, path, path.with_name(f"{_FILE}.data"))
        return path

    def _write(self, path: Path, shape: torch.Size) -> None:
        model = self.owner()
        assert model is not None  # it calls this
        tower = copy.deepcopy(_tower(model))
        if isinstance(tower, EfficientNet):
            tower.fold()
        if self.precision == "int8":
            quantise(tower)
        write_onnx(tower, torch.zeros(2, *shape[1:]), path, names=("images", "embeddings"))
        gc.collect()  # the exporter leaves a million objects that know each other


def _tower(model: nn.Module) -> nn.Module:
    return model.visual if isinstance(model, CLIP) else _Images(model)


class _Images(nn.Module):
    """A model of another family as its image tower alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = copy.copy(model)
        del vars(self.model)["encode_image"]  # so that it is that of its class

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.model.encode_image(images)
        return out


def _openvino(path: Path, shape: torch.Size, hint: str) -> Callable[[Pixels], Pixels]:
    import openvino

    core = openvino.Core()
    graph = core.read_model(str(path))
    graph.reshape(list(shape))
    how = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(graph, "CPU", how).create_infer_request()
    return lambda images: np.array(request.infer([images], share_inputs=True)[0])


def _onnx_runtime(path: Path) -> Callable[[Pixels], Pixels]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait leave the core
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {"images": images})[0])

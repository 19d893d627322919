"""Zero-shot image classification with a CLIP of its own.

The public names are loaded when first used, so that `import zeroshot_cli` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroshot_cli.classifier_file import read_classifier
    from zeroshot_cli.classify import Classifier
    from zeroshot_cli.encode.image_cache import ImageCache
    from zeroshot_cli.encode.images import Decoding
    from zeroshot_cli.errors import ZeroshotError
    from zeroshot_cli.evaluate.run import evaluate
    from zeroshot_cli.labels import Label, Labels, read_labels
    from zeroshot_cli.prompts import Prompts, read_prompts
    from zeroshot_cli.records import EvalResult, LabelScore, Prediction, SkippedImage
    from zeroshot_cli.scoring import Rules
    from zeroshot_cli.weights.load import load
    from zeroshot_cli.weights.loaded import LoadedModel

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "classify",
    "Decoding": "encode.images",
    "EvalResult": "records",
    "ImageCache": "encode.image_cache",
    "Label": "labels",
    "LabelScore": "records",
    "Labels": "labels",
    "LoadedModel": "weights.loaded",
    "Prediction": "records",
    "Prompts": "prompts",
    "Rules": "scoring",
    "SkippedImage": "records",
    "ZeroshotError": "errors",
    "evaluate": "evaluate.run",
    "load": "weights.load",
    "read_classifier": "classifier_file",
    "read_labels": "labels",
    "read_prompts": "prompts",
}

__all__ = [
    "Classifier",
    "Decoding",
    "EvalResult",
    "ImageCache",
    "Label",
    "LabelScore",
    "Labels",
    "LoadedModel",
    "Prediction",
    "Prompts",
    "Rules",
    "SkippedImage",
    "ZeroshotError",
    "__version__",
    "evaluate",
    "load",
    "read_classifier",
    "read_labels",
    "read_prompts",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zeroshot_cli' has no attribute {name!r}")
    return getattr(import_module(f"zeroshot_cli.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

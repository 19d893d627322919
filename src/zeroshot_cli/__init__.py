"""Zero-shot image classification with a CLIP of its own.

The public names are loaded when first used, so that `import zeroshot_cli` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroshot_cli.classify.classifier import Classifier, load_classifier
    from zeroshot_cli.classify.classifier_file import read_classifier
    from zeroshot_cli.classify.rejection import Rules
    from zeroshot_cli.datasets.labelled import LabelledImages, read_dataset
    from zeroshot_cli.embed.image_cache import ImageCache
    from zeroshot_cli.errors import (
        CheckpointError,
        DataError,
        InputError,
        LabelsError,
        PromptsError,
        UnavailableError,
        UnreadableImage,
        UsageError,
        ZeroshotError,
    )
    from zeroshot_cli.evaluation.evaluate import evaluate
    from zeroshot_cli.images.decode import Decoding
    from zeroshot_cli.models.load import ModelWarning, load
    from zeroshot_cli.models.loaded import LoadedModel
    from zeroshot_cli.records import EvalResult, ImageAnswer, LabelScore, Prediction, SkippedImage
    from zeroshot_cli.results.frames import to_arrow, to_pandas
    from zeroshot_cli.tuning.program import ExampleWarning, tune
    from zeroshot_cli.words.labels import Label, Labels, read_labels
    from zeroshot_cli.words.prompts import Prompts, read_prompts

__version__ = "0.2.0"

_HOMES = {
    "CheckpointError": "errors",
    "Classifier": "classify.classifier",
    "DataError": "errors",
    "Decoding": "images.decode",
    "EvalResult": "records",
    "ExampleWarning": "tuning.program",
    "ImageAnswer": "records",
    "ImageCache": "embed.image_cache",
    "InputError": "errors",
    "Label": "words.labels",
    "LabelScore": "records",
    "LabelledImages": "datasets.labelled",
    "Labels": "words.labels",
    "LabelsError": "errors",
    "LoadedModel": "models.loaded",
    "ModelWarning": "models.load",
    "Prediction": "records",
    "Prompts": "words.prompts",
    "PromptsError": "errors",
    "Rules": "classify.rejection",
    "SkippedImage": "records",
    "UnavailableError": "errors",
    "UnreadableImage": "errors",
    "UsageError": "errors",
    "ZeroshotError": "errors",
    "evaluate": "evaluation.evaluate",
    "load": "models.load",
    "load_classifier": "classify.classifier",
    "read_classifier": "classify.classifier_file",
    "read_dataset": "datasets.labelled",
    "read_labels": "words.labels",
    "read_prompts": "words.prompts",
    "to_arrow": "results.frames",
    "to_pandas": "results.frames",
    "tune": "tuning.program",
}

__all__ = [
    "CheckpointError",
    "Classifier",
    "DataError",
    "Decoding",
    "EvalResult",
    "ExampleWarning",
    "ImageAnswer",
    "ImageCache",
    "InputError",
    "Label",
    "LabelScore",
    "LabelledImages",
    "Labels",
    "LabelsError",
    "LoadedModel",
    "ModelWarning",
    "Prediction",
    "Prompts",
    "PromptsError",
    "Rules",
    "SkippedImage",
    "UnavailableError",
    "UnreadableImage",
    "UsageError",
    "ZeroshotError",
    "__version__",
    "evaluate",
    "load",
    "load_classifier",
    "read_classifier",
    "read_dataset",
    "read_labels",
    "read_prompts",
    "to_arrow",
    "to_pandas",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zeroshot_cli' has no attribute {name!r}")
    return getattr(import_module(f"zeroshot_cli.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

"""Towers that stay as they are while the other one learns (LiT, arXiv 2111.07991)."""

from torch import nn

from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import UsageError


def check_locks(image: bool, text: bool, has_weights: bool) -> None:
    """Raise UsageError for locks that leave nothing to train, or that keep a tower which has learned nothing."""
    if image and text:
        raise UsageError("--lock-image and --lock-text leave only the temperature to train; leave out one of them")
    if (image or text) and not has_weights:
        option = "--lock-image" if image else "--lock-text"
        raise UsageError(
            f"{option} keeps a tower as it is, and a new model's is random; "
            "start from weights (--pretrained) or leave it out"
        )


def lock(model: CLIP, *, image: bool, text: bool) -> None:
    """Let a tower, with its projection, get no gradient."""
    for tower, locked in ((model.visual, image), (model.text, text)):
        if locked:
            tower.requires_grad_(False)


def train_mode(model: CLIP) -> None:
    """Put the model in training mode, but for locked towers: their batch norm keeps its statistics."""
    model.train()
    for tower in (model.visual, model.text):
        if _is_locked(tower):
            tower.eval()


def _is_locked(tower: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in tower.parameters())

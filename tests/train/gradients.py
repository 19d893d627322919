"""Not a test: the loss and the gradient of one batch, by as many processes as torchrun starts (see test_step.py).

torchrun gradients.py FOLDER writes a file for each of CASES.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from zeroshot_cli.clip.config import (
    CBOWConfig,
    CLIPConfig,
    ResNetConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
)
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.records import Loss
from zeroshot_cli.train.data import Batch
from zeroshot_cli.train.distributed import (
    World,
    clip_gradients,
    replicated,
    sharded,
    share_scalar_gradients,
    whole,
)
from zeroshot_cli.train.joining import joined
from zeroshot_cli.train.step import Inputs, Objective, Teacher, Towers, backward, distil, pair_ids

ALONE = World()
# the loss, the size of chunks, whether in shares, whether taught by another model and with similar texts masked
CASES: dict[str, tuple[Loss, int | None, bool, bool]] = {
    "clip": (Loss.CLIP, None, False, False),
    "clip in chunks": (Loss.CLIP, 4, False, False),
    "sigmoid": (Loss.SIGMOID, None, False, False),
    "clip in shares": (Loss.CLIP, None, True, False),
    "sigmoid in shares and chunks": (Loss.SIGMOID, 2, True, False),
    "clip, taught": (Loss.CLIP, None, False, True),
    "sigmoid in chunks, taught": (Loss.SIGMOID, 4, False, True),
    "clip in shares and chunks, taught": (Loss.CLIP, 4, True, True),
}
SIMILAR = 0.8
WEIGHT = 3.0
ROWS = 12
TEXT = TextTransformerConfig(width=32, heads=2, layers=2, context_length=12, vocab_size=514)
VIT = VisionTransformerConfig(image_size=16, patch_size=8, width=32, layers=2, head_width=16)
RESNET = ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8, head_width=32)
CONFIGS = {
    "vit": CLIPConfig(embed_dim=16, vision=VIT, text=TEXT, init_logit_bias=-1.0),
    "resnet": CLIPConfig(embed_dim=16, vision=RESNET, text=CBOWConfig(width=32, context_length=12, vocab_size=514)),
}


def model_of(kind: str) -> CLIP:
    torch.manual_seed(0)
    return CLIP(CONFIGS[kind]).train()


def batch_of(kind: str, rows: slice = slice(None)) -> Batch:
    """Twelve pairs, of which the first and the eighth share a caption, the second and the third an image."""
    draw = np.random.default_rng(0)
    size = CONFIGS[kind].vision.image_size
    pixels = draw.integers(0, 256, (ROWS, size, size, 3), dtype=np.uint8)
    captions = [f"picture {'number ' * (row % 4)}{row}" for row in range(ROWS)]
    images = [f"{row}.png" for row in range(ROWS)]
    captions[7], images[2] = captions[0].upper(), images[1]
    return Batch(pixels[rows], tuple(captions[rows]), tuple(images[rows]))


def inputs_of(kind: str) -> Inputs:
    size = CONFIGS[kind].vision.image_size
    return Inputs(
        Tokenizer((), context_length=12),
        PreprocessConfig(size=size),
        torch.device("cpu"),
        torch.contiguous_format,
    )


def teacher_of(kind: str) -> Teacher:
    """Fifteen texts, of which a step draws twelve."""
    draw = torch.Generator().manual_seed(1)
    embeddings = torch.randn(15, CONFIGS[kind].embed_dim, generator=draw)
    return Teacher([f"sentence {'of ' * (row % 3)}{row}" for row in range(15)], F.normalize(embeddings, dim=1), "")


def gradients(
    kind: str,
    loss: Loss,
    chunk_size: int | None,
    world: World = ALONE,
    *,
    fsdp: bool = False,
    taught: bool = False,
) -> dict[str, torch.Tensor]:
    """The gradient by parameter, the loss, the norm of the gradient, and the buffers of batch norm."""
    model = model_of(kind)
    towers: torch.nn.Module = Towers(model, bf16=False)
    if world.size > 1:
        towers = sharded(towers, model, torch.device("cpu")) if fsdp else replicated(towers, model, torch.device("cpu"))
    share = ROWS // world.size
    batch = batch_of(kind, slice(world.rank * share, (world.rank + 1) * share))
    inputs = inputs_of(kind)
    distilled = torch.tensor(0.0)
    if taught:
        lesson = teacher_of(kind).lesson(ROWS, seed=0, step=1, world=world)
        distilled = distil(towers, inputs, lesson, weight=WEIGHT, chunk_size=chunk_size)
    objective = Objective(loss, world, SIMILAR if taught else None)
    value, same = backward(towers, objective, inputs.chunks(batch, chunk_size), pair_ids(batch))
    if fsdp:
        share_scalar_gradients(model, world)
    found = {name: whole(p.grad).clone() for name, p in model.named_parameters() if p.grad is not None}
    norm = clip_gradients(model.parameters(), 1e-3)
    clipped = {f"clipped {name}": whole(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    figures = torch.stack([value, distilled, same[:].float().mean()])
    loss_, distilled, masked = world.summed(figures.clone()) / world.size
    named = {"loss": loss_, "distilled": distilled, "masked": masked, "norm": torch.tensor(norm)}
    return {**found, **clipped, **dict(model.named_buffers()), **named}


def main() -> None:
    torch.set_num_threads(1)
    with joined("cpu") as (world, _):
        for name, (loss, chunk_size, fsdp, taught) in CASES.items():
            found = gradients("vit", loss, chunk_size, world, fsdp=fsdp, taught=taught)
            if world.is_first:
                tensors = {key: tensor.detach().contiguous() for key, tensor in found.items()}
                save_file(tensors, Path(sys.argv[1]) / f"{name}.safetensors")


if __name__ == "__main__":
    main()

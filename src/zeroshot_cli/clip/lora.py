"""Low-rank adaptation (LoRA, arXiv 2106.09685): a weight keeps its values and learns a product of two thin matrices.

p matrices stacked in a weight (queries, keys and values), r rank, o rows and i columns of each matrix
"""

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from zeroshot_cli.clip.efficientnet import GatedHead
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.resnet import AttentionPool
from zeroshot_cli.clip.transformer import MLP, Attention

_ORIGINAL = re.compile(r"parametrizations\.(\w+)\.original$")  # torch's name for what is parametrized
_FACTOR = re.compile(r"parametrizations\.\w+\.0\.[ab]$")


class LowRank(nn.Module):
    """What a weight is while it learns: the sum of itself and B · A / √r, for each of the `parts` that it stacks.

    B is zero at first, and A as a linear layer is. To divide by √r lets one learning rate serve all ranks (arXiv
    2312.03732).
    """

    def __init__(self, weight: Tensor, *, rank: int, parts: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape[0] // parts, weight.shape[1]
        a = torch.empty(parts, rank, columns).uniform_(-(columns**-0.5), columns**-0.5, generator=generator)
        self.a = nn.Parameter(a.to(weight))  # pri
        self.b = nn.Parameter(torch.zeros(parts, rows, rank).to(weight))  # por

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight as it is used, (po)i."""
        with torch.autocast(weight.device.type, enabled=False):  # it is rounded once, when it is used
            return _sum(weight, self.a, self.b)


def _sum(weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    matrices = weight.view(a.shape[0], -1, weight.shape[1])  # (po)i -> poi
    return torch.baddbmm(matrices, b, a, alpha=a.shape[1] ** -0.5).view_as(weight)


def adapt(model: CLIP, *, rank: int, seed: int) -> None:
    """Let a model learn by matrices of this rank; its weights, except for temperature and bias, are trained no more.

    Of what is trained before, these have them: in each tower the attention's queries, keys, values and output, as in
    CLIP-LoRA (arXiv 2405.18541); in a tower without attention, or of which only the head is trained, the head's
    projection and MLP. Raises ValueError for a rank that a matrix of them cannot have.
    """
    found = [weight for tower in (model.visual, model.text) for weight in _adapted(tower)]
    for module, name, parts in found:
        rows, columns = getattr(module, name).shape
        if rank > min(rows // parts, columns):
            raise ValueError(f"a matrix of {rows // parts} × {columns} has no rank of {rank}")
    for tower in (model.visual, model.text):
        tower.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for module, name, parts in found:
        low_rank = LowRank(getattr(module, name).detach(), rank=rank, parts=parts, generator=generator)
        parametrize.register_parametrization(module, name, low_rank)


def _adapted(tower: nn.Module) -> Iterator[tuple[nn.Module, str, int]]:
    """Yield what is adapted of what is trained: a module, the name of a weight, and how many matrices that stacks."""
    attention: list[tuple[nn.Module, str, int]] = []
    head = [(tower, name, 1) for name in ("proj", "text_projection") if hasattr(tower, name)]
    for module in tower.modules():
        if isinstance(module, Attention):
            attention += [(module, "in_proj_weight", 3), (module.out_proj, "weight", 1)]
        elif isinstance(module, AttentionPool):
            attention += [(getattr(module, f"{each}_proj"), "weight", 1) for each in "qkvc"]
        elif isinstance(module, MLP | GatedHead):
            head += [(module.c_fc, "weight", 1), (module.c_proj, "weight", 1)]
    attention, head = ([each for each in some if getattr(each[0], each[1]).requires_grad] for some in (attention, head))
    yield from attention or head


def merged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a model's state_dict with all that it has learned by `adapt` added to its weights.

    The names are a plain model's; tensors of a plain model stay as they are.
    """
    out = {}
    for name, tensor in tensors.items():
        plain = _ORIGINAL.sub(r"\1", name)
        if plain != name:
            out[plain] = _sum(tensor, *(tensors[name.removesuffix("original") + f"0.{each}"] for each in "ab"))
        elif not _FACTOR.search(name):
            out[name] = tensor
    return out

"""The gradient of one batch: of all of it or in chunks of which one is in memory, of one process or of many.

The loss sees embeddings only. So embeddings come first, then the loss's gradient for each of them, which then goes back
through the towers: chunk by chunk, computed a second time, where there are several (gradient caching, arXiv
2101.06983). Embeddings of other processes are gathered, and their rows of the gradient summed. A teacher of the text
tower adds a gradient of its own.
"""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from zeroshot_cli.clip.kernels import frozen_averages
from zeroshot_cli.clip.loss import clip_loss, row_blocks, sigmoid_loss
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer, TruncatedTextWarning
from zeroshot_cli.embed.embeddings_read import read_text_embeddings
from zeroshot_cli.errors import UsageError
from zeroshot_cli.images.preprocess import Preprocess, PreprocessConfig
from zeroshot_cli.records import Loss
from zeroshot_cli.train.data import Batch, Features, Pixels
from zeroshot_cli.train.distributed import World

Chunk = tuple[Tensor, Tensor]  # images (batch, 3, height, width), tokens (batch, sequence)


class Inputs:
    """Turn batches into what the model takes, on its device."""

    def __init__(
        self, tokenizer: Tokenizer, preprocess: PreprocessConfig, device: torch.device, layout: torch.memory_format
    ) -> None:
        self.preprocess = Preprocess(preprocess)
        self.tokenizer, self.device, self.layout = tokenizer, device, layout

    def __call__(self, batch: Batch, rows: slice = slice(None)) -> Chunk:
        """Return the images and tokens of some rows."""
        return self.images(batch.pixels[rows]), self.tokens(batch.captions[rows])

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Return the tokens (batch, sequence) of texts."""
        return trimmed(self.tokenizer, texts).to(self.device)

    def images(self, pixels: Pixels | Features) -> Tensor:
        """Normalise pixels (batch, height, width, 3), uint8, to (batch, 3, height, width), float32.

        Features stay as they are, in float32.
        """
        given = torch.from_numpy(pixels).to(self.device)
        return given.float() if given.is_floating_point() else self.preprocess.normalise(given, self.layout)

    def chunks(self, batch: Batch, size: int | None) -> list[Callable[[], Chunk]]:
        """Return the batch in parts of `size` rows, each made when it is called."""
        rows = len(batch.captions)
        size = size or rows
        return [partial(self, batch, slice(start, start + size)) for start in range(0, rows, size)]


def trimmed(tokenizer: Tokenizer, captions: Sequence[str]) -> Tensor:
    """Return tokens (batch, sequence) as long as the longest caption.

    That is exact, for nothing after the end of a text changes its embedding.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedTextWarning)  # preflight has counted them
        sequences = tokenizer.sequences(captions)
    longest = max(map(len, sequences))
    return torch.tensor([ids + [0] * (longest - len(ids)) for ids in sequences])


# rows of a batch that are not negatives of each other: they have a caption or an image in common


def pair_ids(batch: Batch) -> Tensor:
    """Return (batch, 2): a number for each row's caption, in any case, or its class, and one for its image."""
    rows = zip(batch.meanings or batch.captions, batch.images, strict=True)
    return torch.tensor([[_number(caption.casefold()), _number(image)] for caption, image in rows]).view(-1, 2)


def same_pairs(ids: Tensor, others: Tensor) -> Tensor:
    """Return (rows, others): whether a row has the caption or the image of another, which is then no negative of it.

    A row matches itself.
    """
    captions, images = (ids[:, column, None] == others[:, column] for column in (0, 1))
    return captions.logical_or_(images)


@dataclass(frozen=True, slots=True)
class Same:
    """Which rows of a batch are no negatives of this process's, (rows, all rows), made when some rows are sliced.

    `ids` and `texts` are of all processes, the `pair_ids` and the embeddings; `own` are this process's rows.
    """

    ids: Tensor
    texts: Tensor
    own: slice
    similar: float | None

    def __len__(self) -> int:
        return int(self.own.stop - self.own.start)

    def __getitem__(self, rows: slice) -> Tensor:
        start, stop, _ = rows.indices(len(self))
        rows = slice(self.own.start + start, self.own.start + stop)
        same = same_pairs(self.ids[rows], self.ids)
        if self.similar is not None:
            same |= self.texts[rows] @ self.texts.T > self.similar
        return same

    def negatives(self) -> Tensor:
        """Return how many negatives each of this process's rows has."""
        return torch.cat([(~self[rows]).sum(dim=1) for rows in row_blocks(len(self), len(self.ids))])


def guessing(loss: Loss, negatives: Tensor) -> float:
    """Return the lowest mean loss of a model that tells no pair of a batch from another, by the negatives of each row.

    A row with n negatives is one of n + 1: that costs log(n + 1), and as yes-or-no questions (n + 1) times the entropy
    of 1 in n + 1.
    """
    choices = 1 + negatives.double()
    cost = choices.log()
    if loss is Loss.SIGMOID:
        rest = choices - 1
        cost = cost + torch.where(rest > 0, rest * (choices / rest.clamp(min=1)).log(), 0.0)
    return float(cost.mean())


def _number(text: str) -> int:
    """Return 64 bits that are the same in every process: two of a million texts collide with a probability of 10⁻⁷."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


# the gradient

Outputs = tuple[Tensor, Tensor, Tensor, Tensor | None]


class Towers(nn.Module):
    """Both towers of a CLIP in one call, as the loss needs them and wrappers for many processes expect.

    With `encode`, which embeds features, these are given in place of images.
    """

    def __init__(self, model: CLIP, *, bf16: bool, encode: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.model, self.bf16, self.encode = model, bf16, encode

    def forward(self, images: Tensor | None, tokens: Tensor) -> Outputs:
        """Return both embeddings (batch, embedding), normalised, in float32; 1 ÷ temperature; the bias, if any.

        Images are (batch, 3, height, width), tokens (batch, sequence). Without images they have no embeddings either.
        """
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.bf16):
            if images is None:
                text_features = F.normalize(self.model.encode_text(tokens).float(), dim=-1)
                image_features, scale = text_features[:0].detach(), self.model.logit_scale.exp()
            else:
                image_features, text_features, scale = self.model(images, tokens, self.encode)
        bias = self.model.logit_bias
        return image_features.float(), text_features.float(), scale, None if bias is None else bias.clone()


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss of a run, among the processes of `world`; `mask_similar` is the cosine over which texts are alike."""

    loss: Loss
    world: World = World()  # noqa: RUF009  (it is frozen)
    mask_similar: float | None = None

    def same(self, texts: Tensor, ids: Tensor) -> Same:
        """Return which rows of the batch are no negatives of this process's.

        `texts` are the embeddings of all processes' texts; `ids` are the `pair_ids` of this process's rows.
        """
        own = slice(self.world.rank * len(ids), (self.world.rank + 1) * len(ids))
        return Same(self.world.gathered(ids), texts.detach(), own, self.mask_similar)

    def value(self, outputs: Outputs, same: Same, everyone: Mapping[int, Tensor] | None = None) -> Tensor:
        """Return the loss of this process's rows, whose mean over the processes is the batch's.

        `outputs` are of these rows; `everyone` has the embeddings of all processes at their places in `outputs`, and is
        needed where there are several. `same` is from the method of that name.
        """
        images, texts, scale, bias = outputs
        everyone = everyone or {}
        others: dict[str, Any] = {"all_images": everyone.get(0), "all_texts": everyone.get(1), "first": same.own.start}
        if self.loss is Loss.SIGMOID:
            assert bias is not None  # start_from has added it
            return sigmoid_loss(images, texts, scale, bias, same=same, **others)
        return clip_loss(images, texts, scale, same=same, **others)

    def gradients(self, outputs: Outputs, ids: Tensor) -> tuple[Tensor, Same, list[Tensor]]:
        """Return the loss of this process's rows, `same`, and for each output the gradient of all rows' loss."""
        leaves = [output.detach().requires_grad_() for output in outputs if output is not None]
        # The sigmoid loss scores images against all texts; the contrastive loss also texts against all images.
        places = (1,) if self.loss is Loss.SIGMOID else (0, 1)
        everyone = {place: self.world.gathered(leaves[place].detach()).requires_grad_() for place in places}
        same = self.same(everyone[1], ids)
        images, texts, scale, *bias = leaves
        value = self.value((images, texts, scale, bias[0] if bias else None), same, everyone)
        # A bias that the loss does not use gets zeros: wrappers for many processes wait for every gradient.
        found = torch.autograd.grad(value, [*leaves, *everyone.values()], allow_unused=True, materialize_grads=True)
        gradients = list(found[: len(leaves)])
        for place, gradient in zip(places, found[len(leaves) :], strict=True):
            gradients[place] += self.world.summed(gradient)[same.own]
        return value.detach(), same, gradients


def backward(
    towers: nn.Module, objective: Objective, chunks: Sequence[Callable[[], Chunk]], ids: Tensor, *, seed: int = 0
) -> tuple[Tensor, Same]:
    """Add the gradient of a batch to the parameters of `towers`; return the loss of this process's rows, and `same`.

    `seed` says what dropout drops, the same at each pass over the batch and in a run that is resumed. Of several chunks
    one is in memory at a time; the gradient is the same, except that batch norm's statistics are a chunk's.
    """
    torch.manual_seed(seed)
    if len(chunks) == 1:
        outputs = towers(*chunks[0]())
        value, same, gradients = objective.gradients(outputs, ids)
        _back(outputs, gradients)
        return value, same
    value, same, gradients = objective.gradients(_embedded(towers, chunks), ids)
    torch.manual_seed(seed)
    start = 0
    for number, chunk in enumerate(chunks, 1):
        images, tokens = chunk()
        rows = slice(start, start := start + len(images))
        last = number == len(chunks)
        with nullcontext() if last else unshared(towers):
            outputs = towers(images, tokens)
            # The temperature and the bias belong to the batch: they take part once.
            own = [gradient[rows] for gradient in gradients[:2]] + (gradients[2:] if last else [])
            _back(outputs[: len(own)], own)
    return value, same


@torch.no_grad()
def _embedded(towers: nn.Module, chunks: Sequence[Callable[[], Chunk]]) -> Outputs:
    model = towers.module if isinstance(towers, DistributedDataParallel) else towers
    with frozen_averages(model):  # the second pass counts
        parts = [model(*chunk()) for chunk in chunks]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]), *parts[0][2:]


def _back(outputs: Sequence[Tensor | None], gradients: Sequence[Tensor]) -> None:
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=False) if o is not None and o.requires_grad]
    torch.autograd.backward([output for output, _ in pairs], [gradient for _, gradient in pairs])


def unshared(towers: nn.Module) -> AbstractContextManager[None]:
    """Put off exchanging gradients with other processes to a later chunk."""
    return towers.no_sync() if isinstance(towers, DistributedDataParallel) else nullcontext()


# a teacher's embeddings of texts, which the text tower goes on learning while both towers learn pairs

Lesson = tuple[list[str], Tensor]  # texts and what they should be, (texts, embedding), normalised

_DRAW = 1  # tells these draws from others of the same seed


@dataclass(frozen=True, slots=True)
class Teacher:
    """Texts with their embeddings (texts, embedding), normalised, on the CPU; `fingerprint` is that of both."""

    texts: list[str]
    embeddings: Tensor
    fingerprint: str

    @classmethod
    def read(cls, path: Path, *, width: int) -> "Teacher":
        """Read a file of embeddings. Raises UsageError or DataError, also where their size is not `width`."""
        texts, embeddings = read_text_embeddings(path)
        if embeddings.shape[1] != width:
            raise UsageError(
                f"{path} holds embeddings of {embeddings.shape[1]} numbers, and those of the model have {width}; name "
                f"another --distil-text, or a --model whose embed_dim is {embeddings.shape[1]}"
            )
        digest = hashlib.blake2b(embeddings.numpy().tobytes(), digest_size=16)
        for text in texts:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        return cls(texts, F.normalize(embeddings, dim=1), digest.hexdigest())

    def lesson(self, size: int, *, seed: int, step: int, world: World) -> Lesson:
        """Draw `size` texts for a step, and return this process's share of them; a text comes twice only if it must."""
        draw = np.random.default_rng([seed, step, _DRAW])
        rows = draw.choice(len(self.texts), size, replace=size > len(self.texts))
        share = size // world.size
        own = rows[world.rank * share : (world.rank + 1) * share]
        return [self.texts[row] for row in own], self.embeddings[torch.from_numpy(own)]


def distil(towers: nn.Module, inputs: Inputs, lesson: Lesson, *, weight: float, chunk_size: int | None) -> Tensor:
    """Add the gradient of `weight` · mean(1 - cosine) to the parameters of `towers`, and return the mean itself.

    It comes before the gradient of the pairs, which takes it along to other processes. Of the texts `chunk_size` are in
    memory at once.
    """
    texts, targets = lesson
    total = torch.zeros((), device=inputs.device)
    for start in range(0, len(texts), chunk_size or len(texts)):
        rows = slice(start, start + (chunk_size or len(texts)))
        with unshared(towers):
            embeddings = towers(None, inputs.tokens(texts[rows]))[1]
            cosines = (embeddings * targets[rows].to(inputs.device)).sum(dim=1)
            loss = (1 - cosines).sum() / len(texts)
            (weight * loss).backward()
        total += loss.detach()
    return total

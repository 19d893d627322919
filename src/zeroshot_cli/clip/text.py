"""The two text encoders of the paper: a causal Transformer, and CBOW (arXiv 2103.00020, section 2.3 and 2.4).

b batch, s sequence, d width, e embedding, n tokens of a tree, m texts in it
"""

import torch
from torch import Tensor, nn

from zeroshot_cli.clip.transformer import Transformer


def end_of_text(tokens: Tensor, eot_id: int) -> Tensor:
    """The place of the first end-of-text token in each row: tokens bs -> b."""
    return (tokens == eot_id).int().argmax(dim=-1)


def ancestors(parents: Tensor) -> Tensor:
    """Whether a token of a tree is another one or is behind it: parents n, -1 for none -> nn."""
    seen = torch.eye(len(parents), dtype=torch.bool)
    for child, parent in enumerate(parents.tolist()):
        if parent >= 0:
            seen[child] |= seen[parent]
    return seen


class TextTransformer(nn.Module):
    """Token ids to embeddings, read at the end-of-text token.

    Attention is causal, so what stands behind that token changes nothing: a batch may be cut to its longest text.
    """

    def __init__(
        self,
        *,
        context_length: int,
        vocab_size: int,
        width: int,
        heads: int,
        layers: int,
        embed_dim: int,
        quick_gelu: bool,
    ) -> None:
        super().__init__()
        self.eot_id = vocab_size - 1
        self.context_length = context_length
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(nn.init.normal_(torch.empty(context_length, width), std=0.01))
        self.transformer = Transformer(width=width, heads=heads, layers=layers, quick_gelu=quick_gelu)
        self.transformer.start_as_gpt2()
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(nn.init.normal_(torch.empty(width, embed_dim), std=width**-0.5))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens bs, s at most the context length -> be, not normalised."""
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]  # bs -> bsd
        x = self.transformer(x, end_of_text(tokens, self.eot_id), causal=True)  # bsd -> bd
        return self._project(x)  # bd -> be

    def in_tree(self, tokens: Tensor, positions: Tensor, parents: Tensor, ends: Tensor) -> Tensor:
        """Embed the texts that end at m places of a tree: tokens n, positions n, parents n, ends m -> me.

        A token sees its parent and what that sees (-1: none), so what texts begin with is computed once for all.
        """
        x = self.token_embedding(tokens) + self.positional_embedding[positions]
        return self._project(self.transformer.in_tree(x, ancestors(parents).to(x.device), ends))  # nd -> md -> me

    def _project(self, x: Tensor) -> Tensor:
        out: Tensor = self.ln_final(x) @ self.text_projection
        return out


class CBOW(nn.Module):
    """Token ids to embeddings: the mean of the token embeddings up to the end of the text, normalised and projected."""

    def __init__(self, *, context_length: int, vocab_size: int, width: int, embed_dim: int) -> None:
        super().__init__()
        self.eot_id = vocab_size - 1
        self.context_length = context_length
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(nn.init.normal_(torch.empty(width, embed_dim), std=width**-0.5))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens bs -> be, not normalised."""
        length = end_of_text(tokens, self.eot_id)[:, None] + 1  # b1
        inside = torch.arange(tokens.shape[1], device=tokens.device) < length  # bs
        x = self.token_embedding(tokens)  # bs -> bsd
        x = (x * inside[..., None]).sum(dim=1) / length  # bsd -> bd
        out: Tensor = self.ln_final(x) @ self.text_projection  # bd -> be
        return out

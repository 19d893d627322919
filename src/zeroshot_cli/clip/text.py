"""The two text encoders of the paper: a causal Transformer, and CBOW (arXiv 2103.00020, sections 2.3 and 2.4).

b batch, s sequence, d width, e embedding, n tokens of a tree, m texts in it
"""

import torch
from torch import Tensor, nn

from zeroshot_cli.clip.config import CBOWConfig, TextTransformerConfig
from zeroshot_cli.clip.transformer import MLP, Transformer


def end_of_text(tokens: Tensor, eot_id: int) -> Tensor:
    """Return the position of the first end-of-text token in each row: tokens bs -> b."""
    return (tokens == eot_id).int().argmax(dim=-1)


def ancestors(parents: Tensor) -> Tensor:
    """Return whether token i of a tree sees token j, itself or one before it: parents n, -1 for none -> nn."""
    seen = torch.eye(len(parents), dtype=torch.bool)
    for child, parent in enumerate(parents.tolist()):
        if parent >= 0:
            seen[child] |= seen[parent]
    return seen


class TextTransformer(nn.Module):
    """Token ids to embeddings, read at the end-of-text token.

    Attention is causal, so tokens after the end change nothing: a batch may be cut to its longest text.
    """

    def __init__(self, config: TextTransformerConfig, embed_dim: int, *, quick_gelu: bool) -> None:
        super().__init__()
        width = config.width
        self.eot_id = config.vocab_size - 1
        self.context_length = config.context_length
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(nn.init.normal_(torch.empty(config.context_length, width), std=0.01))
        self.transformer = Transformer(width, config.heads, config.layers, quick_gelu=quick_gelu)
        self.transformer.start_as_gpt2()
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(nn.init.normal_(torch.empty(width, embed_dim), std=width**-0.5))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        visible: Tensor | None = None,
        ends: Tensor | None = None,
    ) -> Tensor:
        """Embed texts: tokens bs, at most the context length -> be, not normalised.

        Texts that begin alike can share their first tokens as a tree: tokens 1n with their positions in their texts n,
        which tokens they see nn (`ancestors`), and where the texts end 1m -> me.
        """
        position = slice(tokens.shape[1]) if positions is None else positions
        x = self.token_embedding(tokens) + self.positional_embedding[position]  # bs -> bsd
        read = end_of_text(tokens, self.eot_id)[:, None] if ends is None else ends
        x = self.transformer(x, read, causal=visible is None, visible=visible).flatten(0, 1)  # b1d -> bd, or 1md -> md
        out: Tensor = self.ln_final(x) @ self.text_projection  # bd -> be
        return out


class CBOW(nn.Module):
    """Token ids to embeddings: the mean of the token embeddings up to the end of the text, normalised and projected.

    With `hidden` an MLP, which starts at zero, adds to the projection what is not linear.
    """

    def __init__(self, config: CBOWConfig, embed_dim: int) -> None:
        super().__init__()
        width = config.width
        self.eot_id = config.vocab_size - 1
        self.context_length = config.context_length
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(nn.init.normal_(torch.empty(width, embed_dim), std=width**-0.5))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.mlp = None if config.hidden is None else MLP(width, config.hidden, out=embed_dim, quick=False)
        if self.mlp is not None:
            nn.init.zeros_(self.mlp.c_proj.weight)
            nn.init.zeros_(self.mlp.c_proj.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed texts: tokens bs -> be, not normalised."""
        length = end_of_text(tokens, self.eot_id)[:, None] + 1  # b1
        inside = torch.arange(tokens.shape[1], device=tokens.device) < length  # bs
        x = self.token_embedding(tokens)  # bs -> bsd
        x = self.ln_final((x * inside[..., None]).sum(dim=1) / length)  # bsd -> bd
        out: Tensor = x @ self.text_projection  # bd -> be
        return out if self.mlp is None else out + self.mlp(x)

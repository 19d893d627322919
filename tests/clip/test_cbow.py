"""CBOW against numpy."""

import numpy as np
import torch

from zeroshot_cli.clip.config import CBOWConfig
from zeroshot_cli.clip.text import CBOW


def test_cbow_is_the_projected_norm_of_the_mean_up_to_the_end() -> None:
    torch.manual_seed(0)
    cbow = CBOW(CBOWConfig(width=6, context_length=8, vocab_size=20), embed_dim=4).eval()
    with torch.no_grad():
        cbow.ln_final.weight.normal_()
        cbow.ln_final.bias.normal_()
        tokens = torch.tensor([[18, 3, 5, 19, 0, 0, 0, 0], [18, 1, 2, 3, 4, 5, 6, 19]])
        ours = cbow(tokens).numpy()
        cut = cbow(tokens[:1, :4]).numpy()

    table = cbow.token_embedding.weight.detach().numpy().astype(np.float64)
    for row, ids in zip(ours, ([18, 3, 5, 19], [18, 1, 2, 3, 4, 5, 6, 19]), strict=True):
        mean = table[ids].mean(axis=0)
        norm = (mean - mean.mean()) / np.sqrt(mean.var() + 1e-5)
        norm = norm * cbow.ln_final.weight.detach().numpy() + cbow.ln_final.bias.detach().numpy()
        np.testing.assert_allclose(row, norm @ cbow.text_projection.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(cut, ours[:1], atol=1e-6)

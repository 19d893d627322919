"""CBOW against numpy."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from zeroshot_cli.clip.config import CBOWConfig, config_from_dict, config_to_dict
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


def test_the_mlp_adds_to_the_projection_of_the_same_norm() -> None:
    torch.manual_seed(0)
    cbow = CBOW(CBOWConfig(width=6, context_length=8, vocab_size=20, hidden=5), embed_dim=4).eval()
    tokens = torch.tensor([[18, 3, 5, 19, 0, 0, 0, 0], [18, 1, 2, 3, 4, 5, 6, 19]])
    plain = CBOW(CBOWConfig(width=6, context_length=8, vocab_size=20), embed_dim=4).eval()
    plain.load_state_dict({name: w for name, w in cbow.state_dict().items() if not name.startswith("mlp.")})
    with torch.no_grad():
        assert torch.equal(cbow(tokens), plain(tokens)), "it starts at zero"
        for parameter in cbow.parameters():
            parameter.normal_()
        ours = cbow(tokens).numpy()

    weights = {name: tensor.numpy().astype(np.float64) for name, tensor in cbow.state_dict().items()}
    for row, ids in zip(ours, ([18, 3, 5, 19], [18, 1, 2, 3, 4, 5, 6, 19]), strict=True):
        mean = weights["token_embedding.weight"][ids].mean(axis=0)
        norm = (mean - mean.mean()) / np.sqrt(mean.var() + 1e-5)
        norm = norm * weights["ln_final.weight"] + weights["ln_final.bias"]
        inner = _gelu(weights["mlp.c_fc.weight"] @ norm + weights["mlp.c_fc.bias"])
        more = weights["mlp.c_proj.weight"] @ inner + weights["mlp.c_proj.bias"]
        np.testing.assert_allclose(row, norm @ weights["text_projection"] + more, atol=1e-4)


def _gelu(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 0.5 * x * (1 + np.array([math.erf(each) for each in x / np.sqrt(2)]))


VISION = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}


def test_hidden_is_in_the_file_of_a_model_that_has_it_and_of_no_other() -> None:
    model_cfg = {"embed_dim": 4, "vision_cfg": VISION, "text_cfg": {"encoder": "cbow", "width": 8, "hidden": 16}}
    config = config_from_dict(model_cfg)
    assert isinstance(config.text, CBOWConfig)
    assert config.text.hidden == 16
    assert config_to_dict(config)["text_cfg"]["hidden"] == 16
    assert config_from_dict(config_to_dict(config)) == config
    model_cfg["text_cfg"] = {"encoder": "cbow", "width": 8}
    assert config_to_dict(config_from_dict(model_cfg))["text_cfg"].keys() == {
        "encoder", "width", "context_length", "vocab_size",
    }  # fmt: skip


@pytest.mark.parametrize("hidden", [0, -1, 1.5, "16", True, 10**9])
def test_hidden_is_a_whole_number(hidden: Any) -> None:
    text_cfg = {"encoder": "cbow", "width": 8, "hidden": hidden}
    with pytest.raises(ValueError, match=r"text_cfg\.hidden cannot be"):
        config_from_dict({"embed_dim": 4, "vision_cfg": VISION, "text_cfg": text_cfg})


def test_a_transformer_has_no_hidden() -> None:
    text_cfg = {"width": 8, "heads": 1, "layers": 1, "hidden": 16}
    with pytest.raises(ValueError, match="text_cfg has a setting that this CLIP does not know: 'hidden'"):
        config_from_dict({"embed_dim": 4, "vision_cfg": VISION, "text_cfg": text_cfg})

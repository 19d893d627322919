"""Heads of a model that speak together: begin another one, to be trained beside the first, or join several into one.

    python recipes/small/heads.py begin runs/small-0/last --start runs/small-start --seed 1 --to runs/small-start-1
    python recipes/small/heads.py join runs/small-0/last runs/small-1/last runs/small-2/last --to runs/small

A head depends on the numbers that it began with, and the mean of several is better than each (arXiv 1612.01474). They
share a text tower, so they are trained with `--lock-text`; their MLPs side by side are one MLP with as many hidden
layers' widths, so the model stays one of its kind and as fast.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from zeroshot_cli.clip.config import CLIPConfig, EfficientNetConfig
from zeroshot_cli.clip.efficientnet import EfficientNet, GatedHead
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.models.load import load
from zeroshot_cli.models.loaded import LoadedModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    begin = commands.add_parser("begin")
    begin.add_argument("model", help="the trained model, whose text tower stays")
    begin.add_argument("--start", required=True, help="the model that its training started from")
    begin.add_argument("--seed", type=int, required=True)
    together = commands.add_parser("join")
    together.add_argument("models", nargs="+", help="with one text tower; the first gives the temperature")
    for each in (begin, together):
        each.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()

    if options.command == "begin":
        loaded = opened(options.model)
        model, config = another_head(loaded, opened(options.start), seed=options.seed)
    else:
        several = [opened(model) for model in options.models]
        loaded = several[0]
        model, config = joined(several)
    save_model(options.to, model, config, loaded.preprocess.config)


def opened(model: str) -> LoadedModel:
    """A model to change, with weights as they are on disk."""
    return load(model, device="cpu", precision="fp32")


@torch.no_grad()
def another_head(trained: LoadedModel, start: LoadedModel, *, seed: int) -> tuple[CLIP, CLIPConfig]:
    """The trained model with a head that has learned nothing: the start's classes, and an MLP from a seed."""
    model, config, _ = trained.bundled()
    head = _head(model)
    head.class_embedding.copy_(_head(start.bundled()[0]).class_embedding)
    torch.manual_seed(seed)
    head.c_fc.reset_parameters()
    nn.init.zeros_(head.c_proj.weight)
    nn.init.zeros_(head.c_proj.bias)
    return model, config


@torch.no_grad()
def joined(several: list[LoadedModel]) -> tuple[CLIP, CLIPConfig]:
    """The first model with the mean of all heads. Exits where a text tower is another than the first's."""
    models = [loaded.bundled()[0] for loaded in several]
    first, config, _ = several[0].bundled()
    texts = first.text.state_dict()
    for loaded, model in zip(several[1:], models[1:], strict=True):
        other = model.text.state_dict()
        if other.keys() != texts.keys() or not all(torch.equal(other[name], texts[name]) for name in texts):
            raise SystemExit(f"{loaded.name} has another text tower than {several[0].name}: train it with --lock-text")
    heads = [_head(model) for model in models]
    assert isinstance(config.vision, EfficientNetConfig)
    vision = replace(config.vision, hidden=sum(head.c_fc.out_features for head in heads))
    head = GatedHead(vision, config.embed_dim)
    head.mean.copy_(heads[0].mean)
    head.deviation.copy_(heads[0].deviation)
    head.class_embedding.copy_(torch.stack([each.class_embedding for each in heads]).mean(dim=0))
    head.c_fc.weight.copy_(torch.cat([each.c_fc.weight for each in heads]))
    head.c_fc.bias.copy_(torch.cat([each.c_fc.bias for each in heads]))
    head.c_proj.weight.copy_(torch.cat([each.c_proj.weight for each in heads], dim=1) / len(heads))
    head.c_proj.bias.copy_(torch.stack([each.c_proj.bias for each in heads]).mean(dim=0))
    assert isinstance(first.visual, EfficientNet)
    first.visual.gated_head = head
    return first, replace(config, vision=vision)


def _head(model: CLIP) -> GatedHead:
    assert isinstance(model.visual, EfficientNet)
    return model.visual.gated_head


if __name__ == "__main__":
    main()

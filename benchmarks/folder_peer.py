"""Label a folder with open_clip in its best settings on a CPU: bf16, a DataLoader with workers, inference mode, a CSV.

The script that folder.py compares `zeroshot classify` with. It prints how many images it labelled, and in how many
seconds once the model and the labels were there.

    python benchmarks/folder_peer.py MODEL FOLDER OUTPUT.csv [--precision pure_bf16|amp_bf16|fp32] [--workers 2]
"""

import argparse
import csv
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

LABELS = ["a building", "a flower", "a dog", "a street", "a meal"]
BATCH = 32


class Folder(Dataset):
    """The images of a folder, as the model wants them."""

    def __init__(self, folder: str, preprocess: Any) -> None:
        self.paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            return self.preprocess(image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("output")
    parser.add_argument("--precision", choices=("pure_bf16", "amp_bf16", "fp32"), default="pure_bf16")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    name = f"local-dir:{options.model}"
    model, _, preprocess = open_clip.create_model_and_transforms(name, precision=options.precision)
    model.eval()
    kind = torch.bfloat16 if options.precision == "pure_bf16" else torch.float32
    mixed = options.precision == "amp_bf16"
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext():
        text = torch.nn.functional.normalize(model.encode_text(open_clip.get_tokenizer(name)(LABELS)), dim=-1)
        start = time.perf_counter()
        images = Folder(options.folder, preprocess)
        rows = []
        for batch in DataLoader(images, batch_size=BATCH, num_workers=options.workers):
            features = torch.nn.functional.normalize(model.encode_image(batch.to(kind)), dim=-1)
            rows += (100 * features @ text.T).float().softmax(dim=-1).tolist()
        with Path(options.output).open("w", newline="") as file:
            writer = csv.writer(file)
            for path, probabilities in zip(images.paths, rows, strict=True):
                best = max(range(len(LABELS)), key=probabilities.__getitem__)
                writer.writerow([path, LABELS[best], probabilities[best]])
    print(len(images), time.perf_counter() - start)


if __name__ == "__main__":
    main()

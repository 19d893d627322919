"""Give a trained run an honest temperature, and put it into the package as the bundled model, in 8 bits.

    python recipes/small/pack.py runs/small/model --chosen runs/small-data/chosen.csv

The temperature of training belongs to its batches. Here it is what makes the probabilities of photographs that were
kept back most likely, among 5 to 40 labels, as people have them: the mean negative log-likelihood is least (temperature
scaling, arXiv 1706.04599).
"""

import argparse
import csv
import random
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from zeroshot_cli.images.decode import decode
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.models.load import load
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.models.registry import bundled_folder

DRAWS = 400  # sets of labels
SIZES = (5, 10, 20, 40)
SCALES = [float(scale) for scale in range(4, 101)]
TEMPLATE = "a photo of a {}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the folder of a run or of a model")
    parser.add_argument("--chosen", type=Path, required=True, help="labelled photographs that were kept back")
    options = parser.parse_args()

    loaded = load(options.model, device="cpu", precision="fp32")
    model, config, _ = loaded.bundled()
    scale = honest_scale(*similarities(loaded, options.chosen))
    print(f"1 / temperature: {loaded.logit_scale:.1f} in training, now {scale:.0f}")
    with torch.no_grad():
        model.logit_scale.fill_(scale).log_()
    folder = bundled_folder("small")
    save_model(folder, model, config, loaded.preprocess.config, dtype=torch.int8)
    for file in sorted(folder.iterdir()):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


def similarities(loaded: LoadedModel, table: Path) -> tuple[Tensor, Tensor]:
    """The cosines of images with the labels of a table, (images, labels), and the label of each image."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})
    images = torch.cat(
        [
            loaded.encode_images(torch.stack([loaded.preprocess(decode(row["image"])) for row in rows[i : i + 32]]))
            for i in range(0, len(rows), 32)
        ]
    )
    texts = loaded.encode_texts([TEMPLATE.format(label) for label in labels])
    return images @ texts.T, torch.tensor([labels.index(row["label"]) for row in rows])


def honest_scale(cosines: Tensor, truth: Tensor) -> float:
    """The scale with the least negative log-likelihood over random sets of labels and the images that have them."""
    rng = random.Random(0)
    losses = torch.zeros(len(SCALES))
    for _ in range(DRAWS):
        labels = torch.tensor(rng.sample(range(cosines.shape[1]), rng.choice(SIZES)))
        place = torch.full((cosines.shape[1],), -1)
        place[labels] = torch.arange(len(labels))
        rows = place[truth] >= 0
        few, target = cosines[rows][:, labels], place[truth[rows]]
        losses += torch.stack([F.cross_entropy(scale * few, target) for scale in SCALES])
    return SCALES[int(losses.argmin())]


if __name__ == "__main__":
    main()

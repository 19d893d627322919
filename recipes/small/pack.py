"""Give a trained run an honest temperature, and put it into the package as the bundled model, in 8 bits.

    python recipes/small/pack.py runs/small-joined --photographs runs/small-data/chosen.csv \\
        --photographs runs/small-data/shop.csv --drawings runs/small-data/val.csv

The temperature of training belongs to its batches. For each table of images that were kept back there is one at which
they are most likely to have their own label, among 5 to 40 labels, as people have them: the mean negative
log-likelihood is least (temperature scaling, arXiv 1706.04599). The geometric mean of these is taken, so that each
table counts the same, and not the hardest the most.
"""

import argparse
import csv
import random
import statistics
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the folder of a run or of a model")
    parser.add_argument(
        "--photographs", type=Path, action="append", required=True, help="that were kept back, with labels; repeatable"
    )
    parser.add_argument("--to", type=Path, default=bundled_folder("small"), help="where the model is written")
    parser.add_argument("--drawings", type=Path, required=True, help="that were kept back, with captions")
    options = parser.parse_args()

    loaded = load(options.model, device="cpu", precision="fp32")
    model, config, _ = loaded.bundled()
    tables = [(table, "label", "a photo of a {}.") for table in options.photographs]
    best = []
    for table, column, template in (*tables, (options.drawings, "caption", "{}")):
        found, right = losses_of(*similarities(loaded, table, column, template))
        best.append(SCALES[int(found.argmin())])
        print(f"{table}: {right:.1%} right among its few labels; its best scale is {best[-1]:.0f}")
    scale = statistics.geometric_mean(best)
    print(f"1 / temperature: {loaded.logit_scale:.1f} in training, now {scale:.1f}")
    with torch.no_grad():
        model.logit_scale.fill_(scale).log_()
    folder = options.to
    save_model(folder, model, config, loaded.preprocess.config, dtype=torch.int8)
    for file in sorted(folder.iterdir()):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


def similarities(loaded: LoadedModel, table: Path, column: str, template: str) -> tuple[Tensor, Tensor]:
    """The cosines of images with the labels of a table, (images, labels), and the label of each image."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row[column] for row in rows})
    images = torch.cat(
        [
            loaded.encode_images(torch.stack([loaded.preprocess(decode(row["image"])) for row in rows[i : i + 32]]))
            for i in range(0, len(rows), 32)
        ]
    )
    texts = loaded.encode_texts([template.format(label) for label in labels])
    return images @ texts.T, torch.tensor([labels.index(row[column]) for row in rows])


def losses_of(cosines: Tensor, truth: Tensor) -> tuple[Tensor, float]:
    """The mean negative log-likelihood at each scale, over random sets of labels and the images that have them.

    Also the share of these images whose own label is the nearest.
    """
    rng = random.Random(0)
    losses, right, count = torch.zeros(len(SCALES)), 0, 0
    for _ in range(DRAWS):
        labels = torch.tensor(rng.sample(range(cosines.shape[1]), min(rng.choice(SIZES), cosines.shape[1])))
        place = torch.full((cosines.shape[1],), -1)
        place[labels] = torch.arange(len(labels))
        rows = place[truth] >= 0
        few, target = cosines[rows][:, labels], place[truth[rows]]
        if len(few):
            losses += torch.stack([F.cross_entropy(scale * few, target) for scale in SCALES])
            right, count = right + int((few.argmax(dim=1) == target).sum()), count + len(few)
    return losses / DRAWS, right / count


if __name__ == "__main__":
    main()

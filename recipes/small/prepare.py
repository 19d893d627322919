"""Write the tables that `small` is trained and chosen with, from drawings, labelled photographs and packages' images.

    python recipes/small/prepare.py --drawings drawings/train.csv --photos photos-train/train.csv \\
        --photographs runs/photographs/photographs.csv --to runs/small-data

The drawings are those of recipes/tiny/build_drawings.py, the photographs a CSV with the columns image, caption and
label, and the packages' images the table of build_photographs.py. Of the latter, renderings of emoji join the emoji;
images under the GPL or a share-alike licence are not trained on. Three tables are for choosing settings and for the
temperature: chosen.csv, Tux Paint's photographs, which are under the GPL; and five in a hundred of the emoji, val.csv,
and of the labelled photographs, shop.csv.
"""

import argparse
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny"))

from prepare import DRAWING_TEMPLATES, EMOJI, PHOTO_TEMPLATES, VALIDATION_SHARE, emoji_pairs, read_rows, write_pairs

LINE_ICONS = {"mdi", "tabler", "lucide", "ph"}  # half of all drawings, and unlike photographs
EXAMPLES = {  # photographs of GCompris that examples/images has, which a demonstration must not have seen
    "animals-dog", "animals-panda", "animals-scarlet-macaw", "germany-neuschwansteinCastle", "others-bulb",
    "others-chair",
}  # fmt: skip
Row = dict[str, str]
Pair = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("drawings", "photos", "photographs", "to"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rng = random.Random(options.seed)
    drawings, photographs = read_rows(options.drawings), read_rows(options.photographs)
    free = [
        row
        for row in photographs
        if not re.search("GPL|SA", row["license"])
        and not (row["source"] == "gcompris-photo" and Path(row["image"]).stem in EXAMPLES)
    ]
    emoji = [row for row in drawings if row["source"] in EMOJI]
    val = rng.sample(emoji, int(VALIDATION_SHARE * len(emoji)))
    kept_back = {row["image"] for row in val}
    emoji = [row for row in emoji if row["image"] not in kept_back]
    emoji += [row for row in free if row["source"] == "fluent-render"]
    photos = read_rows(options.photos)
    shop = rng.sample(photos, int(VALIDATION_SHARE * len(photos)))
    shown = {row["image"] for row in shop}
    icons = [row for row in drawings if row["source"] not in EMOJI | LINE_ICONS]

    options.to.mkdir(parents=True, exist_ok=True)
    pairs = {
        "emoji": [pair for row in emoji for pair in emoji_pairs(row, rng)],
        "icons": [(row["image"], _icon_text(row, rng)) for row in icons],
        "photos": [pair for row in photos if row["image"] not in shown for pair in _photo_pairs(row, rng)],
        "photographs": [pair for row in free if row["source"] != "fluent-render" for pair in _captions(row)],
        "val": [(row["image"], row["caption"]) for row in val],
    }
    for name, rows in pairs.items():
        write_pairs(options.to / f"{name}.csv", ("image", "caption"), rows)
    chosen = [(row["image"], _name(row["caption"])) for row in photographs if row["source"] == "stamps-photo"]
    write_pairs(options.to / "chosen.csv", ("image", "label"), chosen)
    write_pairs(options.to / "shop.csv", ("image", "label"), [(row["image"], row["label"]) for row in shop])


def _icon_text(row: Row, rng: random.Random) -> str:
    return rng.choice((row["caption"], rng.choice(DRAWING_TEMPLATES).format(row["caption"])))


def _photo_pairs(row: Row, rng: random.Random) -> Iterator[Pair]:
    """Three texts of a photograph: its caption, its label in a template, and what that is a kind of, in another."""
    yield row["image"], row["caption"]
    kind = row["caption"].rpartition(", a kind of ")[2]
    for name in (row["label"], kind):
        yield row["image"], rng.choice(PHOTO_TEMPLATES).format(name)


def _captions(row: Row) -> Iterator[Pair]:
    yield row["image"], row["caption"]
    yield row["image"], f"a photo of {row['caption']}."
    if row["keywords"]:
        yield row["image"], ", ".join((_name(row["caption"]), *row["keywords"].split("|")))


def _name(caption: str) -> str:
    """The caption up to its first comma or bracket, without an article."""
    return re.sub(r"^(an?|the|some) ", "", re.split(r"[,.(]", caption)[0].strip().lower())


if __name__ == "__main__":
    main()

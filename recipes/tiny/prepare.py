"""Write the tables that the bundled model is trained and measured with, from the drawings and the photographs.

    python recipes/tiny/prepare.py --drawings drawings/train.csv --photos photos-train/train.csv \\
        --test drawings/openmoji.csv --to runs/tiny-data

The drawings are CSVs with the columns image, caption, source, keywords (joined with a bar) and group, as
build_drawings.py writes them; the photographs a CSV with the columns image, caption and label. Emoji stand three times,
with other texts each time. Five in a hundred images of the emoji artists are kept for validation; the other artists
drew most of their concepts. Of the test images, those of objects are a table of their own, without people, faces,
symbols and flags.
"""

import argparse
import csv
import random
import sys
from collections.abc import Iterator
from pathlib import Path

EMOJI = {"noto", "noto-v1", "twemoji", "emojione", "fxemoji", "streamline-emojis"}
DRAWING_TEMPLATES = (
    "a drawing of a {}.", "an icon of a {}.", "an emoji of a {}.", "clip art of a {}.", "a cartoon {}.", "{} icon",
    "{} emoji", "a picture of a {}.", "a symbol of a {}.",
)  # fmt: skip
PHOTO_TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "a photo of the {}.")
OBJECTS = {"animals-nature", "food-drink", "travel-places", "activities", "objects"}  # groups of emojibase
VALIDATION_SHARE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drawings", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shuffle", action="store_true", help="give every training image another one's caption")
    options = parser.parse_args()

    rng = random.Random(options.seed)
    drawings, photos, test = read_rows(options.drawings), read_rows(options.photos), read_rows(options.test)
    if test and "group" not in test[0]:
        sys.exit(f"{options.test} has no column `group`; build_drawings.py writes one that has it")
    emoji = [row for row in drawings if row["source"] in EMOJI]
    validation = rng.sample(emoji, int(VALIDATION_SHARE * len(emoji)))
    kept_back = {row["image"] for row in validation}
    training = [row for row in drawings if row["image"] not in kept_back]

    options.to.mkdir(parents=True, exist_ok=True)
    emoji = [row for row in training if row["source"] in EMOJI]
    others = [row for row in training if row["source"] not in EMOJI]
    tables = {
        "emoji": [pair for row in emoji for pair in emoji_pairs(row, rng)],
        "icons": [(row["image"], row["caption"]) for row in others],
        "photos": [photo_pair(row, rng) for row in photos],
    }
    for name, pairs in tables.items():
        write_pairs(
            options.to / f"{name}.csv", ("image", "caption"), _shuffled(pairs, rng) if options.shuffle else pairs
        )
    write_pairs(options.to / "val.csv", ("image", "caption"), [(row["image"], row["caption"]) for row in validation])
    for name, rows in {"test": test, "test-objects": [row for row in test if row.get("group") in OBJECTS]}.items():
        write_pairs(options.to / f"{name}.csv", ("image", "label"), [(row["image"], row["caption"]) for row in rows])


def emoji_pairs(row: dict[str, str], rng: random.Random) -> Iterator[tuple[str, str]]:
    caption, keywords = row["caption"], [word for word in row["keywords"].split("|") if word]
    yield row["image"], caption
    yield row["image"], rng.choice(DRAWING_TEMPLATES).format(caption)
    yield row["image"], ", ".join(rng.sample(keywords, min(3, len(keywords)))) or caption


def photo_pair(row: dict[str, str], rng: random.Random) -> tuple[str, str]:
    return row["image"], rng.choice((row["caption"], rng.choice(PHOTO_TEMPLATES).format(row["label"])))


def _shuffled(pairs: list[tuple[str, str]], rng: random.Random) -> list[tuple[str, str]]:
    captions = [caption for _, caption in pairs]
    rng.shuffle(captions)
    return [(image, caption) for (image, _), caption in zip(pairs, captions, strict=True)]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row | {"image": str((path.parent / row["image"]).absolute())} for row in csv.DictReader(file)]


def write_pairs(path: Path, columns: tuple[str, str], rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    print(f"{path}: {len(rows)} rows")


if __name__ == "__main__":
    main()

"""Make the folder of the tutorial for biologists: `python examples/camera_trap.py camera-trap`.

Three cameras have 120 images each: photographs of four animals from images/, cut, mirrored, turned, small in front of
a made-up undergrowth, by day and in the grey of night, blurred or half out of the frame, and images of nothing.
labelled.csv has sixteen of each kind from two of the cameras, held-out.csv all of the third, species.yaml the labels.
The same run gives the same images. They are easier than those of a forest: each animal has one photograph.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

HERE = Path(__file__).resolve().parent
CAMERAS = {"creek": (70, 92, 62), "ridge": (118, 104, 78), "meadow": (104, 128, 58)}  # the colour of its ground
ANIMALS = ("cat", "dog", "panda", "parrot")
EMPTY = "empty forest"
HELD_OUT = "meadow"
A_KIND, EXAMPLES = 24, 8  # images of each kind a camera, and how many of these are examples
WIDTH, HEIGHT = 320, 240
SPECIES = f"groups:\n  mammal: [cat, dog, panda]\n  bird: [parrot]\n  {EMPTY}:\n"


def main(folder: Path) -> None:
    numbers = np.random.default_rng(0)
    rows: dict[str, list[tuple[str, str]]] = {"labelled.csv": [], "held-out.csv": []}
    for camera, ground in CAMERAS.items():
        (folder / camera).mkdir(parents=True, exist_ok=True)
        kinds = [kind for kind in (*ANIMALS, EMPTY) for _ in range(A_KIND)]
        for number, place in enumerate(numbers.permutation(len(kinds)), start=1):
            name = f"{camera}/IMG_{number:04}.jpg"
            taken(kinds[place], ground, numbers).save(folder / name, quality=80)
            if camera == HELD_OUT:
                rows["held-out.csv"].append((name, kinds[place]))
            elif place % A_KIND < EXAMPLES:
                rows["labelled.csv"].append((name, kinds[place]))
    for name, listed in rows.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("image", "label"), *listed])
    (folder / "species.yaml").write_text(SPECIES, encoding="utf-8")


def taken(kind: str, ground: tuple[int, int, int], numbers: np.random.Generator) -> Image.Image:
    """Return one image of a camera: an animal, or nothing, in front of its undergrowth."""
    image = undergrowth(ground, numbers)
    if kind != EMPTY:
        animal = part(kind, numbers)
        soft = Image.new("L", animal.size, 0)
        soft.paste(255, (8, 8, animal.width - 8, animal.height - 8))
        left = int(numbers.uniform(-0.25, 1.05) * (WIDTH - animal.width * 0.8))
        top = int(numbers.uniform(0.3, 1.1) * (HEIGHT - animal.height * 0.9))
        image.paste(animal, (left, top), soft.filter(ImageFilter.GaussianBlur(6)))
    if numbers.random() < 0.5:  # night: grey, dark and noisy
        image = ImageOps.grayscale(image).point(lambda level: level * 0.55).convert("RGB")
    image = image.filter(ImageFilter.GaussianBlur(numbers.uniform(0, 2.2)))
    noise = numbers.normal(0, numbers.uniform(3, 14), (HEIGHT, WIDTH, 1))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def part(kind: str, numbers: np.random.Generator) -> Image.Image:
    """Return a part of the photograph of an animal, as it passes by."""
    photograph = Image.open(HERE / "images" / f"{kind}.jpg").convert("RGB")
    cut = numbers.uniform(0, 0.3, 4) * np.array([photograph.width, photograph.height] * 2)
    size = photograph.width - cut[2], photograph.height - cut[3]
    animal = photograph.crop((int(cut[0] / 2), int(cut[1] / 2), int(size[0]), int(size[1])))
    animal = ImageOps.mirror(animal) if numbers.random() < 0.5 else animal
    return ImageOps.contain(animal, (int(numbers.uniform(90, 210)),) * 2)


def undergrowth(ground: tuple[int, int, int], numbers: np.random.Generator) -> Image.Image:
    """Return leaves of a camera's colours: noise of three sizes."""
    light = np.zeros((HEIGHT, WIDTH))
    for cells, strength in ((5, 30), (20, 24), (80, 16)):
        cloud = Image.fromarray(numbers.normal(0, strength, (cells * 3 // 4, cells)).astype(np.float32))
        light += np.asarray(cloud.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(np.array(ground) + light[:, :, None], 0, 255).astype(np.uint8))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

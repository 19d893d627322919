"""Draw the training and test drawings of `tiny` from public packages.

    pip install -r recipes/tiny/requirements.txt
    python recipes/tiny/build_drawings.py --to runs/drawings

Fetches npm `@iconify/json` and `emojibase-data` by `npm pack` and Debian's `openclipart-svg` by `apt-get download`, so
that the user's own mirrors and proxies count, each at one version with the checksum below. Draws each SVG with its
longest side at 96 pixels on a transparent ground and writes `train.csv` and `openmoji.csv`: image, caption, keywords
(joined with a bar), source, license and, for emoji, the group of emojibase. `left_out.txt` names the concepts that both
do without; OpenMoji's images of these are `unseen.csv`, to see what a name is worth that no training drawing has.
"""

import argparse
import csv
import html
import importlib.util
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from packages import fetch_debian, fetch_npm

SIDE = 96
DRAWN_SIDE = 128  # emoji and clip art are drawn at this side and scaled down; icons are drawn at SIDE
QUALITY = 88

NPM = {
    "@iconify/json@2.2.535": "nAV60ACUSHwnsb6fsp+letHlNkrwO4vzBtcC6B4EDHErQQfezk7E3nJdnwJjve6OCfMNO0uVT5Vrgna9/NCmXw==",
    "emojibase-data@17.0.0": "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
}  # base64 of the SHA-512, npm's own `dist.integrity`
DEBIAN = "openclipart-svg=1:0.18+dfsg-19"
DEBIAN_SHA256 = "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5"
CLIP_ART = "usr/share/openclipart/svg"

EMOJI_SETS = ("noto", "twemoji", "emojione", "noto-v1")
TEST_SET = "openmoji"
# What the names of the icons of one style end with, or must not end with.
ICON_SETS = {
    "game-icons": "",
    "streamline-color": "(?<!-flat)",
    "streamline-emojis": "",
    "fxemoji": "",
    "icon-park": "",
    "flat-color-icons": "",
    "healthicons": "(?<!-outline)(?<!-24px)(?<!-negative)",
    "ph": "-duotone",
    "mdi": "(?<!-outline)",
    "tabler": "(?<!-filled)",
    "lucide": "",
}
STYLE_WORDS = {
    "bold", "color", "duotone", "fill", "filled", "flat", "light", "line", "negative", "outline", "rounded", "sharp",
    "thin",
}  # fmt: skip
CLIP_ART_WITHOUT_NAMES = {"computer", "shapes", "special", "unsorted"}  # their titles name the collection


@dataclass(frozen=True)
class Drawing:
    source: str
    stem: str  # of the file that is written
    caption: str
    keywords: tuple[str, ...]
    license: str
    svg: str
    group: str = ""


class LeftOut:
    """The words and the single images of `left_out.txt`."""

    def __init__(self, lines: Iterable[str]) -> None:
        entries = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        self.single = {tuple(entry.split(": ", 1)) for entry in entries if ": " in entry}
        words = sorted(entry for entry in entries if ": " not in entry)
        self.pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b") if words else None

    def __contains__(self, drawing: tuple[str, str, Iterable[str]]) -> bool:
        source, name, texts = drawing
        if (source, name) in self.single:
            return True
        return self.pattern is not None and any(self.pattern.search(_plain(text)) for text in texts)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9_]+", text.lower().replace("’", "")))


# --- Which images, and what they are called -----------------------------------------------------------------------


def emoji_table(emojibase: Path) -> list[dict[str, Any]]:
    """The emoji of emojibase but components, each with the name of its group; skin tones are not among them."""
    names = json.loads((emojibase / "meta/groups.json").read_text(encoding="utf-8"))["groups"]
    table = json.loads((emojibase / "en/data.json").read_text(encoding="utf-8"))
    named = [emoji | {"group": names.get(str(emoji.get("group")), "component")} for emoji in table]
    return [emoji for emoji in named if emoji["group"] != "component"]


def emoji_drawings(icon_set: dict[str, Any], table: list[dict[str, Any]], left_out: LeftOut) -> list[Drawing]:
    """By code point where the set lists them, else by the label as a name; in the order of the names."""
    source, chars = icon_set["prefix"], icon_set.get("chars")
    found: dict[str, Drawing] = {}
    for emoji in table:
        full = emoji["hexcode"].lower()
        short = full.replace("-fe0f", "")
        texts = _texts(emoji)
        name = (chars.get(full) or chars.get(short)) if chars else _name_of(texts[0])
        if name not in icon_set["icons"] or any((s, texts[0], texts) in left_out for s in ("emoji", source)):
            continue
        stem = full if chars and full in chars else short
        license, svg = icon_set["info"]["license"]["spdx"], svg_of(icon_set, name)
        found[name] = Drawing(source, stem, texts[0], texts[1:], license, svg, emoji["group"])
    return [found[name] for name in sorted(found)]


def _texts(emoji: dict[str, Any]) -> tuple[str, ...]:
    """Its label, then its keywords."""
    return (emoji["label"], *emoji.get("tags", ()))


def _name_of(label: str) -> str:
    return re.sub(r"[^a-z0-9#]+", "-", re.sub("[’&:]", "", label.lower())).strip("-")


def icon_drawings(icon_set: dict[str, Any], left_out: LeftOut) -> Iterator[Drawing]:
    """The visible icons of one style; the caption is the name without numbers and words of style."""
    source = icon_set["prefix"]
    style = re.compile(f".*{ICON_SETS[source]}$")
    keywords: dict[str, list[str]] = {}
    for category, names in icon_set.get("categories", {}).items():
        for name in names:
            keywords.setdefault(name, []).append(category)
    for name, icon in icon_set["icons"].items():
        if icon.get("hidden") or not style.match(name) or (source, name, (name,)) in left_out:
            continue
        license = icon_set["info"]["license"]["spdx"]
        yield Drawing(source, name, caption_of(name), tuple(keywords.get(name, ())), license, svg_of(icon_set, name))


def caption_of(name: str) -> str:
    first, *rest = name.split("-")
    words = [first, *(word for word in rest if word not in STYLE_WORDS)]
    return " ".join(word for word in words if not word.isdigit()) or name.replace("-", " ")


def svg_of(icon_set: dict[str, Any], name: str) -> str:
    icon = icon_set["icons"][name]
    left, top, width, height = (
        icon.get(key, icon_set.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    box = f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}"'
    return f"<svg {spaces} {box}>{icon['body']}</svg>"


def clip_art_drawings(root: Path, left_out: LeftOut) -> Iterator[Drawing]:
    """Openclipart's images that have a title, each once (many stand in several folders by a link)."""
    for path in sorted(root.rglob("*.svg")):
        place = path.relative_to(root)
        if path.is_symlink() or place.parts[0] in CLIP_ART_WITHOUT_NAMES:
            continue
        svg = path.read_text(encoding="utf-8", errors="replace")
        title = html.unescape(_element("dc:title", svg))
        keywords = tuple(filter(None, re.findall(r"<rdf:li[^>]*>(.*?)</rdf:li>", _element("dc:subject", svg), re.S)))
        stem = re.sub(r"[^a-z0-9]+", "-", str(place.with_suffix("")).lower()).strip("-")
        if title and ("openclipart", stem, (title, *keywords)) not in left_out:
            yield Drawing("openclipart", stem, title, keywords, "PD", svg)


def _element(name: str, svg: str) -> str:
    found = re.search(rf"<{name}[^>]*>(.*?)</{name}>", svg, re.S)
    return found[1].strip() if found else ""


# --- Drawing --------------------------------------------------------------------------------------------------------


def draw(drawing: Drawing) -> Image.Image | None:
    """The image with its longest side at SIDE, clip art in the middle of a square; None if it is broken or empty."""
    import resvg_py

    side = SIDE if drawing.source in ICON_SETS else DRAWN_SIDE
    try:
        picture = _opened(resvg_py.svg_to_bytes(svg_string=drawing.svg, width=side, dpi=96))
        if picture.height > picture.width:
            picture = _opened(resvg_py.svg_to_bytes(svg_string=drawing.svg, height=side, dpi=96))
    except ValueError:
        return None
    if picture.getchannel("A").getbbox() is None:
        return None
    if drawing.source == "openclipart":
        square = Image.new("RGBA", (side, side))
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        picture = square
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture


def _opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGBA")


def write(table: Path, drawings: Iterable[Drawing]) -> None:
    """Draw what can be drawn into a folder named like the table, and list it in the table."""
    table.parent.mkdir(parents=True, exist_ok=True)
    drawn, refused = 0, []
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "caption", "keywords", "source", "license", "group"))
        for drawing in drawings:
            picture = draw(drawing)
            if picture is None:
                refused.append(f"{drawing.source}/{drawing.stem}")
                continue
            image = f"{table.stem}/{drawing.source}/{drawing.stem}.webp"
            (table.parent / image).parent.mkdir(parents=True, exist_ok=True)
            picture.save(table.parent / image, "WEBP", quality=QUALITY)
            keywords = "|".join(drawing.keywords)
            writer.writerow((image, drawing.caption, keywords, drawing.source, drawing.license, drawing.group))
            drawn += 1
    print(f"{table}: {drawn} images; {len(refused)} could not be drawn {' '.join(refused[:5])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--packages", type=Path, help="where the packages are kept (in the folder of --to)")
    parser.add_argument("--no-clip-art", action="store_true", help="without Openclipart, where there is no apt-get")
    options = parser.parse_args()
    if importlib.util.find_spec("resvg_py") is None:
        sys.exit("resvg_py, which draws, is missing: pip install -r recipes/tiny/requirements.txt")

    packages = options.packages or options.to / "packages"
    iconify, emojibase = (fetch_npm(spec, checksum, packages) for spec, checksum in NPM.items())
    clip_art = None if options.no_clip_art else fetch_debian(DEBIAN, DEBIAN_SHA256, packages) / CLIP_ART
    left_out = LeftOut((Path(__file__).parent / "left_out.txt").read_text(encoding="utf-8").splitlines())
    build(options.to, iconify / "json", emojibase, clip_art, left_out)


def build(to: Path, sets: Path, emojibase: Path, clip_art: Path | None, left_out: LeftOut) -> None:
    """Write `train.csv`, `openmoji.csv` and, of what both leave out, `unseen.csv` from the unpacked packages."""
    table = emoji_table(emojibase)

    def training() -> Iterator[Drawing]:
        for name in EMOJI_SETS:
            yield from emoji_drawings(_read_set(sets, name), table, left_out)
        if clip_art is not None:
            yield from clip_art_drawings(clip_art, left_out)
        for name in ICON_SETS:
            yield from icon_drawings(_read_set(sets, name), left_out)

    write(to / "train.csv", training())
    test_set, trained = _read_set(sets, TEST_SET), _words_of(to / "train.csv")
    unseen = [
        emoji
        for emoji in table
        if ("emoji", emoji["label"], _texts(emoji)) in left_out and f" {_plain(emoji['label'])} " not in trained
    ]
    write(to / f"{TEST_SET}.csv", emoji_drawings(test_set, table, left_out))
    write(to / "unseen.csv", emoji_drawings(test_set, unseen, LeftOut([])))


def _words_of(table: Path) -> str:
    """All captions and keywords of a table that was written, as plain words with a bar between two texts."""
    with table.open(newline="", encoding="utf-8") as file:
        texts = [text for row in csv.DictReader(file) for text in (row["caption"], *row["keywords"].split("|"))]
    return " | ".join(["", *map(_plain, texts), ""])


def _read_set(sets: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((sets / f"{name}.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()

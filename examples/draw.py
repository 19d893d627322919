"""Draw the examples that are drawings: `python examples/draw.py` makes them in images/, and labels.txt, anew.

Each is drawn from ellipses, polygons and curves, so the project owns them all; README.md has the photographs.
Coordinates are those of the finished 256 x 256 image; drawing is done four times as large and reduced, which smooths
the edges. The file name is the answer: `red_heart.png` shows a red heart. The same run gives the same pixels.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image, ImageDraw

SIZE, SCALE = 256, 4
HERE = Path(__file__).parent

Point = tuple[float, float]
Box = tuple[float, float, float, float]

RED, DARK_RED, ORANGE, YELLOW, GOLD = "#dd2e44", "#a61b30", "#f79020", "#ffd83b", "#f2a81d"
GREEN, LEAF, DARK_GREEN, BLUE, SKY, NAVY = "#5c9e31", "#7cb342", "#3e721d", "#3b88c3", "#8ccaf7", "#226699"
PURPLE, DARK_PURPLE, BROWN, DARK_BROWN = "#8a4fbf", "#6a3a99", "#8d5b3e", "#5d3a26"
WHITE, PALE, GREY, DARK_GREY, BLACK, CREAM, PINK = (
    "#ffffff",
    "#e1e8ed",
    "#aab8c2",
    "#66757f",
    "#292f33",
    "#ffe8b6",
    "#f4abba",
)


class Canvas:
    """A transparent image with round-ended lines and smooth curves."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (SIZE * SCALE, SIZE * SCALE))
        self._draw = ImageDraw.Draw(self.image)

    def ellipse(self, box: Box, fill: str) -> None:
        self._draw.ellipse(_scaled(box), fill=fill)

    def circle(self, center: Point, radius: float, fill: str) -> None:
        x, y = center
        self.ellipse((x - radius, y - radius, x + radius, y + radius), fill)

    def box(self, box: Box, fill: str, radius: float = 0) -> None:
        self._draw.rounded_rectangle(_scaled(box), radius * SCALE, fill=fill)

    def pie(self, box: Box, start: float, end: float, fill: str) -> None:
        """Angles in degrees, clockwise from three o'clock."""
        self._draw.pieslice(_scaled(box), start, end, fill=fill)

    def polygon(self, points: Iterable[Point], fill: str) -> None:
        self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=fill)

    def line(self, points: Iterable[Point], fill: str, width: float) -> None:
        """Draw a line with round ends and corners."""
        dots = list(points)
        scaled = [(x * SCALE, y * SCALE) for x, y in dots]
        self._draw.line(scaled, fill=fill, width=round(width * SCALE), joint="curve")
        for dot in dots:
            self.circle(dot, width / 2, fill)

    def arc(self, center: Point, radius: float, start: float, end: float, fill: str, width: float) -> None:
        self.line(arc(center, radius, start, end), fill, width)

    def erase(self, other: "Canvas") -> None:
        """Make transparent what the other canvas covers."""
        self.image.paste((0, 0, 0, 0), mask=other.image.getchannel("A"))

    def clip(self, other: "Canvas", fill: str) -> None:
        """Colour the overlap of this image with the other canvas."""
        both = Image.composite(other.image.getchannel("A"), Image.new("L", self.image.size), self.image.getchannel("A"))
        self.image.paste(fill, mask=both)

    def turned(self, degrees: float) -> "Canvas":
        """Return the image turned counter-clockwise about its centre."""
        turned = Canvas()
        turned.image.alpha_composite(self.image.rotate(degrees, Image.Resampling.BICUBIC))
        return turned

    def finished(self) -> Image.Image:
        # Reduced with premultiplied alpha, else transparent black would darken the edges.
        return self.image.convert("RGBa").resize((SIZE, SIZE), Image.Resampling.LANCZOS).convert("RGBA")


def _scaled(box: Box) -> Box:
    left, top, right, bottom = box
    return left * SCALE, top * SCALE, right * SCALE, bottom * SCALE


def arc(center: Point, radius: float, start: float, end: float, steps: int = 60) -> list[Point]:
    """Return points on a circle, angles in degrees clockwise from three o'clock."""
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)) for a in angles]


def curve(a: Point, b: Point, c: Point, d: Point, steps: int = 40) -> list[Point]:
    """Return points on the cubic Bézier curve from a to d with the handles b and c."""
    points = []
    for i in range(steps + 1):
        t = i / steps
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
        x, y = (sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
        points.append((x, y))
    return points


def mirrored(points: list[Point]) -> list[Point]:
    """Return a closed outline: the points, and back along their mirror image on the vertical middle."""
    return points + [(SIZE - x, y) for x, y in reversed(points)]


def anchor(c: Canvas) -> None:
    c.circle((128, 42), 30, NAVY)
    hole = Canvas()
    hole.circle((128, 42), 14, BLACK)
    c.erase(hole)
    c.line([(128, 76), (128, 226)], NAVY, 24)
    c.line([(76, 92), (180, 92)], NAVY, 20)
    c.arc((128, 140), 90, 15, 165, NAVY, 24)
    for tip in ([(14, 176), (62, 182), (30, 128)], [(242, 176), (194, 182), (226, 128)]):
        c.polygon(tip, NAVY)


def apple(c: Canvas) -> None:
    half = curve((128, 84), (96, 56), (22, 62), (22, 136)) + curve((22, 136), (22, 196), (84, 262), (128, 232))
    c.polygon(mirrored(half), RED)
    shine = curve((48, 136), (46, 108), (60, 92), (78, 88)) + curve((78, 88), (66, 102), (58, 114), (48, 136))
    c.polygon(shine, "#f2707f")
    c.line(curve((128, 86), (126, 62), (122, 42), (108, 22)), DARK_BROWN, 11)
    c.polygon(
        curve((134, 66), (138, 22), (174, 8), (214, 16)) + curve((214, 16), (206, 58), (172, 78), (134, 66)), LEAF
    )
    c.line(curve((142, 60), (160, 46), (178, 34), (198, 26)), DARK_GREEN, 4)


def balloon(c: Canvas) -> None:
    c.line(curve((128, 186), (96, 206), (166, 222), (126, 250)), GREY, 6)
    c.polygon(
        mirrored(curve((128, 8), (64, 8), (40, 62), (50, 104)) + curve((50, 104), (60, 144), (104, 172), (122, 180))),
        RED,
    )
    c.polygon([(128, 170), (110, 196), (146, 196)], DARK_RED)
    c.polygon(
        curve((70, 82), (70, 54), (86, 36), (106, 32)) + curve((106, 32), (92, 48), (84, 62), (84, 84)), "#f58a97"
    )


def banana(c: Canvas) -> None:
    outer = curve((204, 30), (236, 140), (150, 262), (22, 216))
    c.polygon(outer + curve((22, 190), (98, 178), (152, 110), (170, 34)), YELLOW)
    c.polygon(outer + curve((22, 216), (130, 222), (196, 130), (192, 32)), GOLD)
    c.line(curve((24, 202), (112, 196), (172, 122), (182, 42)), "#c98a12", 4)
    c.polygon([(166, 42), (172, 6), (196, 2), (207, 38)], "#6b7d1f")
    c.polygon([(30, 187), (10, 188), (8, 212), (30, 219)], DARK_BROWN)


def bell(c: Canvas) -> None:
    c.circle((128, 34), 20, GOLD)
    c.circle((128, 222), 24, "#c98a12")
    c.polygon(
        mirrored(curve((128, 32), (76, 32), (66, 74), (64, 116)) + curve((64, 116), (62, 166), (46, 176), (26, 198))),
        YELLOW,
    )
    c.polygon(
        [
            *curve((186, 70), (194, 130), (190, 170), (230, 198)),
            (196, 198),
            *curve((196, 198), (172, 170), (176, 120), (160, 42)),
        ],
        GOLD,
    )
    c.box((18, 190, 238, 214), GOLD, 12)


def book(c: Canvas) -> None:
    c.polygon([(8, 56), (128, 72), (248, 56), (248, 218), (128, 234), (8, 218)], NAVY)
    left = curve((20, 44), (60, 30), (108, 38), (128, 62)) + curve((128, 222), (104, 198), (62, 194), (20, 206))
    c.polygon(left, WHITE)
    c.polygon([(SIZE - x, y) for x, y in left], PALE)
    for y in (74, 100, 126, 152):
        c.line(curve((38, y), (62, y - 8), (92, y - 4), (110, y + 8)), GREY, 6)
        c.line(curve((218, y), (194, y - 8), (164, y - 4), (146, y + 8)), GREY, 6)
    c.line([(128, 62), (128, 222)], GREY, 5)


def cactus(c: Canvas) -> None:
    c.line([(52, 106), (52, 150), (128, 168)], GREEN, 36)
    c.line([(204, 76), (204, 120), (128, 138)], GREEN, 36)
    c.line([(128, 40), (128, 200)], GREEN, 60)
    for x in (112, 128, 144):
        c.line([(x, 36), (x, 180)], DARK_GREEN, 4)
    c.polygon([(64, 190), (192, 190), (176, 250), (80, 250)], "#c1694f")
    c.box((54, 178, 202, 204), "#d98268", 6)
    c.circle((128, 14), 12, PINK)


def car(c: Canvas) -> None:
    c.polygon(curve((48, 124), (66, 64), (74, 58), (106, 58)) + curve((150, 58), (186, 58), (196, 92), (216, 126)), RED)
    c.polygon([(70, 116), *curve((78, 84), (84, 74), (92, 74), (112, 74)), (112, 116)], SKY)
    c.polygon([(126, 116), (126, 74), *curve((148, 74), (170, 74), (178, 92), (190, 116)), (190, 116)], SKY)
    c.box((10, 112, 246, 188), RED, 26)
    c.box((10, 166, 246, 188), DARK_RED, 10)
    c.ellipse((224, 126, 246, 150), YELLOW)
    c.box((10, 126, 26, 146), ORANGE, 6)
    c.box((134, 130, 156, 138), DARK_RED, 4)
    for x in (70, 188):
        c.circle((x, 186), 32, BLACK)
        c.circle((x, 186), 15, GREY)


def clock(c: Canvas) -> None:
    c.circle((128, 128), 120, BLUE)
    c.circle((128, 128), 98, WHITE)
    for hour in range(12):
        inner, outer = (arc((128, 128), r, hour * 30, hour * 30, 1)[0] for r in (78 if hour % 3 == 0 else 84, 88))
        c.line([inner, outer], BLACK, 8 if hour % 3 == 0 else 5)
    c.line([(128, 128), (84, 104)], BLACK, 12)
    c.line([(128, 128), (176, 70)], BLACK, 8)
    c.circle((128, 128), 11, RED)


def cloud(c: Canvas) -> None:
    for center, radius in (((66, 154), 54), ((118, 108), 66), ((184, 136), 58), ((206, 160), 46)):
        c.circle(center, radius, "#c3d3de")
    c.box((20, 140, 250, 208), "#c3d3de", 34)
    for center, radius in (((66, 144), 52), ((118, 100), 64), ((182, 128), 56), ((202, 148), 42)):
        c.circle(center, radius, "#eaf1f6")
    c.box((18, 130, 244, 190), "#eaf1f6", 30)


def crescent_moon(c: Canvas) -> None:
    c.circle((120, 128), 112, "#ffd45a")
    shade = Canvas()
    shade.circle((104, 120), 112, BLACK)
    rim = Canvas()
    rim.circle((120, 128), 112, BLACK)
    rim.erase(shade)
    c.clip(rim, GOLD)
    bite = Canvas()
    bite.circle((84, 92), 100, BLACK)
    c.erase(bite)


def envelope(c: Canvas) -> None:
    c.box((8, 44, 248, 212), "#ccd6dd", 18)
    c.line([(18, 202), (104, 124)], "#99aab5", 7)
    c.line([(238, 202), (152, 124)], "#99aab5", 7)
    c.polygon([(14, 54), (242, 54), (144, 150), (112, 150)], PALE)
    c.line([(16, 56), (112, 148), (144, 148), (240, 56)], "#99aab5", 7)


def fish(c: Canvas) -> None:
    c.polygon(
        curve((176, 128), (206, 118), (226, 78), (250, 66))
        + curve((250, 66), (236, 110), (236, 146), (250, 190))
        + curve((250, 190), (226, 178), (206, 138), (176, 128)),
        NAVY,
    )
    c.polygon(curve((76, 84), (106, 34), (146, 40), (166, 94)), NAVY)
    c.polygon([*curve((104, 170), (110, 208), (140, 212), (154, 206)), (148, 160)], NAVY)
    c.polygon(
        curve((6, 130), (50, 44), (160, 60), (206, 128)) + curve((206, 128), (160, 198), (50, 210), (6, 130)), "#55acee"
    )
    c.polygon(
        curve((206, 128), (160, 198), (50, 210), (6, 130)) + curve((6, 130), (66, 176), (150, 162), (206, 128)), SKY
    )
    c.line(curve((92, 86), (110, 112), (110, 146), (92, 172)), NAVY, 6)
    c.circle((56, 112), 15, WHITE)
    c.circle((54, 112), 9, BLACK)
    for x in (134, 164):
        c.arc((x - 16, 126), 18, -50, 50, NAVY, 5)
    c.line(curve((10, 132), (22, 142), (32, 142), (42, 138)), NAVY, 5)


def house(c: Canvas) -> None:
    c.box((176, 34, 208, 110), "#a0412d")
    c.box((36, 112, 220, 240), CREAM)
    c.polygon([(128, 14), (4, 128), (28, 136), (128, 46), (228, 136), (252, 128)], "#c1442e")
    c.polygon([(128, 40), (36, 122), (220, 122)], CREAM)
    c.line([(14, 126), (128, 24), (242, 126)], "#c1442e", 22)
    c.box((108, 160, 156, 240), DARK_BROWN)
    c.circle((146, 202), 5, GOLD)
    for x in (54, 172):
        c.box((x, 148, x + 32, 184), BLUE)
        c.line([(x + 16, 150), (x + 16, 182)], WHITE, 4)
        c.line([(x + 2, 166), (x + 30, 166)], WHITE, 4)
    c.circle((128, 96), 16, BLUE)


def ladybug(c: Canvas) -> None:
    for side in (-1, 1):
        for y, reach in ((104, 108), (148, 116), (192, 104)):
            c.line([(128, y), (128 + side * reach, y + (y - 148) * 0.5)], BLACK, 11)
        c.line(curve((128, 50), (128 + side * 24, 40), (128 + side * 30, 26), (128 + side * 44, 12)), BLACK, 8)
    c.circle((128, 70), 48, BLACK)
    c.circle((108, 50), 9, WHITE)
    c.circle((148, 50), 9, WHITE)
    c.ellipse((34, 62, 222, 246), RED)
    c.pie((34, 50, 222, 234), 208, 332, BLACK)
    c.line([(128, 90), (128, 244)], BLACK, 9)
    for x, y, r in ((80, 132, 20), (66, 184, 15), (102, 204, 15)):
        c.circle((x, y), r, BLACK)
        c.circle((SIZE - x, y), r, BLACK)


def mushroom(c: Canvas) -> None:
    c.polygon(
        mirrored(
            curve((104, 140), (110, 190), (88, 214), (84, 232)) + curve((84, 232), (86, 252), (112, 250), (128, 250))
        ),
        CREAM,
    )
    c.polygon(
        mirrored(curve((128, 8), (56, 8), (4, 70), (8, 134)) + curve((8, 134), (16, 164), (80, 166), (128, 166))), RED
    )
    c.ellipse((92, 144, 164, 172), "#e6c88a")
    for x, y, r in (
        (128, 50, 24),
        (62, 82, 19),
        (194, 82, 19),
        (108, 116, 19),
        (164, 128, 15),
        (44, 130, 13),
        (216, 132, 11),
    ):
        c.circle((x, y), r, WHITE)


def padlock(c: Canvas) -> None:
    c.arc((128, 86), 54, 180, 360, GREY, 26)
    c.line([(74, 86), (74, 130)], GREY, 26)
    c.line([(182, 86), (182, 130)], GREY, 26)
    c.box((34, 112, 222, 246), GOLD, 18)
    c.box((34, 112, 222, 136), YELLOW, 12)
    c.circle((128, 168), 17, DARK_BROWN)
    c.polygon([(120, 172), (136, 172), (142, 214), (114, 214)], DARK_BROWN)


def pencil(c: Canvas) -> None:
    upright = Canvas()
    upright.box((98, -10, 158, 30), PINK, 14)
    upright.box((98, 18, 158, 46), GREY)
    upright.box((98, 44, 158, 206), YELLOW)
    upright.box((118, 44, 138, 206), "#ffe680")
    upright.box((138, 44, 158, 206), GOLD)
    upright.polygon([(98, 205), (158, 205), (128, 268)], CREAM)
    upright.polygon([(117, 245), (139, 245), (128, 268)], BLACK)
    c.image.alpha_composite(upright.turned(-45).image)


def pizza(c: Canvas) -> None:
    c.polygon([*curve((10, 78), (60, 12), (196, 12), (246, 78)), (128, 250)], "#d99245")
    c.polygon([*curve((34, 84), (80, 44), (176, 44), (222, 84)), (128, 238)], "#ffcf4d")
    c.polygon([(104, 190), (152, 190), (128, 240)], "#ffcf4d")
    for x, y, r in ((96, 92, 22), (164, 104, 22), (126, 154, 20)):
        c.circle((x, y), r, "#c9302c")
        c.circle((x - 4, y - 4), r - 8, "#e05a4e")
    for x, y in ((128, 70), (64, 92), (196, 86), (130, 116), (138, 200)):
        c.ellipse((x - 9, y - 5, x + 9, y + 5), GREEN)


def red_heart(c: Canvas) -> None:
    half = curve((128, 66), (112, 8), (14, 2), (10, 92)) + curve((10, 92), (8, 150), (74, 202), (128, 244))
    c.polygon(mirrored(half), RED)
    c.polygon(curve((34, 96), (32, 62), (52, 42), (80, 42)) + curve((80, 42), (60, 56), (50, 70), (48, 98)), "#f2707f")


def sailboat(c: Canvas) -> None:
    c.line([(124, 14), (124, 190)], DARK_BROWN, 9)
    c.polygon([(136, 12), *curve((136, 12), (178, 60), (212, 120), (222, 172)), (136, 172)], ORANGE)
    c.polygon([(112, 44), *curve((112, 44), (84, 90), (54, 140), (30, 172)), (112, 172)], CREAM)
    c.polygon([(12, 184), (244, 184), (208, 234), (48, 234)], "#c1442e")
    c.box((12, 182, 244, 196), WHITE)
    c.box((0, 224, 256, 256), BLUE)
    for x in range(0, 256, 64):
        c.pie((x, 212, x + 64, 240), 0, 180, BLUE)


def snowman(c: Canvas) -> None:
    for side in (-1, 1):
        c.line([(128 + side * 40, 140), (128 + side * 108, 98)], DARK_BROWN, 9)
        c.line([(128 + side * 88, 110), (128 + side * 92, 86)], DARK_BROWN, 7)
    for center, radius, fill in (((128, 186), 66, "#c3d3de"), ((124, 182), 62, "#eef4f8")):
        c.circle(center, radius, fill)
    for center, radius, fill in (((128, 92), 48, "#c3d3de"), ((125, 90), 45, "#eef4f8")):
        c.circle(center, radius, fill)
    c.box((72, 44, 184, 60), BLACK, 6)
    c.box((92, 2, 164, 52), BLACK, 6)
    c.box((92, 32, 164, 46), RED)
    c.circle((110, 80), 7, BLACK)
    c.circle((146, 80), 7, BLACK)
    c.polygon([(126, 88), (126, 102), (168, 98)], ORANGE)
    c.box((84, 122, 172, 144), RED, 10)
    c.box((144, 126, 166, 182), RED, 6)
    for y in (164, 190, 216):
        c.circle((122, y), 8, BLACK)


def star(c: Canvas) -> None:
    points = [arc((128, 138), 128 if i % 2 == 0 else 54, 36 * i - 90, 0, 1)[0] for i in range(10)]
    c.line([*points, points[0]], "#ffc21a", 10)
    c.polygon(points, "#ffc21a")


def sun(c: Canvas) -> None:
    for ray in range(12):
        a = ray * 30
        tip, left, right = (arc((128, 128), r, b, b, 1)[0] for r, b in ((126, a), (88, a - 11), (88, a + 11)))
        c.polygon([tip, left, right], ORANGE)
    c.circle((128, 128), 76, "#ffcc1f")
    c.circle((122, 122), 62, "#ffd94d")


def tree(c: Canvas) -> None:
    c.polygon([(112, 140), (144, 140), (152, 250), (104, 250)], BROWN)
    c.line([(128, 190), (166, 160)], BROWN, 14)
    for center, radius in (((78, 126), 60), ((180, 128), 60), ((128, 78), 70), ((128, 138), 56)):
        c.circle(center, radius, GREEN)
    for center, radius in (((76, 108), 44), ((120, 66), 50), ((172, 106), 42)):
        c.circle(center, radius, LEAF)


def umbrella(c: Canvas) -> None:
    c.line([(128, 14), (128, 216)], DARK_GREY, 10)
    c.arc((152, 216), 24, 0, 180, DARK_GREY, 12)
    canopy = Canvas()
    canopy.pie((8, 24, 248, 264), 180, 360, PURPLE)
    middle = Canvas()
    middle.ellipse((88, 24, 168, 264), BLACK)
    canopy.clip(middle, DARK_PURPLE)
    scallops = Canvas()
    for x in (8, 88, 168):
        scallops.ellipse((x, 126, x + 80, 166), BLACK)
    canopy.erase(scallops)
    c.image.alpha_composite(canopy.image)


def watermelon(c: Canvas) -> None:
    upright = Canvas()
    for radius, fill in ((118, DARK_GREEN), (106, LEAF), (98, "#eaf3d0"), (90, "#f0465a")):
        upright.pie((128 - radius, 72 - radius, 128 + radius, 72 + radius), 0, 180, fill)
    for x, y in ((64, 86), (104, 84), (152, 84), (192, 86), (86, 116), (128, 112), (170, 116), (108, 140), (148, 140)):
        upright.ellipse((x - 5, y - 9, x + 5, y + 9), BLACK)
    c.image.alpha_composite(upright.turned(24).image)


# PNG with transparency where it says so, else JPEG on white: both kinds of file are met in the wild.
PNG = (
    anchor,
    balloon,
    bell,
    cactus,
    clock,
    crescent_moon,
    envelope,
    fish,
    house,
    padlock,
    pizza,
    red_heart,
    snowman,
    star,
    tree,
)
JPEG = (apple, banana, book, car, cloud, ladybug, mushroom, pencil, sailboat, sun, umbrella, watermelon)


def drawing(draw: Callable[[Canvas], None]) -> Image.Image:
    """Return the finished image, 256 x 256 with transparency."""
    canvas = Canvas()
    draw(canvas)
    return canvas.finished()


def main() -> None:
    folder = HERE / "images"
    folder.mkdir(exist_ok=True)
    for draw in PNG:
        small = drawing(draw).quantize(128, Image.Quantize.FASTOCTREE)  # a palette with transparency
        small.save(folder / f"{draw.__name__}.png", optimize=True)
    for draw in JPEG:
        drawn = drawing(draw)
        on_white = Image.new("RGB", drawn.size, "white")
        on_white.paste(drawn, mask=drawn.getchannel("A"))
        on_white.save(folder / f"{draw.__name__}.jpg", quality=88, optimize=True)
    names = sorted(image.stem.replace("_", " ") for image in folder.iterdir())
    (HERE / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


if __name__ == "__main__":
    main()

"""What Pillow does not say of a JPEG: which process it is coded in, and whether all of its pixels are there."""

from __future__ import annotations

from dataclasses import dataclass

# ITU-T T.81, tables B.1 and B.2; T.87 for JPEG-LS
_SOI, _EOI, _SOS, _JPEG_LS = 0xD8, 0xD9, 0xDA, 0xF7
_FRAMES = {*range(0xC0, 0xD0), _JPEG_LS} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF}
_HIERARCHICAL = {0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF}
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
END = bytes((0xFF, _EOI))
# Bits that would show as pixels if any were wanting: two ways, for one may by chance look like none.
OTHER_ENDS = (b"\x5a\xa5\x33\xcc\x0f\x71\x96\x2d" * 16 + END, b"\xe3\x91\x7c\x48\xd2\x1b\x66\xb5" * 16 + END)


@dataclass(frozen=True, slots=True)
class Jpeg:
    """The marker of a JPEG's frame (None: it has none), its bits a sample, and whether its last marker is there.

    It is `complete` if every coefficient of every component has a scan, though the last scan may be cut off. `pixels`
    are the bytes from the first scan on.
    """

    frame: int | None
    bits: int
    complete: bool
    ended: bool
    pixels: int

    @property
    def lossless(self) -> bool:
        """Whether it is coded without loss, and so at one scale only."""
        return self.frame in _LOSSLESS

    def unsupported(self) -> str | None:
        """Return what kind it is where that is beyond baseline and progressive of eight bits."""
        if self.frame is None:
            return None
        if self.frame == _JPEG_LS:
            return "JPEG-LS"
        parts = ["hierarchical"] * (self.frame in _HIERARCHICAL) + ["lossless"] * self.lossless
        parts += ["arithmetic-coded"] * (self.frame >= 0xC9) + [f"{self.bits}-bit"] * (self.bits != 8)
        return " ".join([*parts, "JPEG"]) if parts else None


def inspect(content: bytes) -> Jpeg:
    """Walk the markers of a JPEG up to its end, or that of the file."""
    frame, bits, components, at, ended = None, 8, set[int](), 2, False
    seen, first_scan = set[int](), len(content)  # components
    scanned: dict[tuple[int, int], int] = {}  # (component, coefficient) → the lowest bit that came
    while 0 <= (at := content.find(b"\xff", at)) < len(content) - 1:
        marker = content[at + 1]
        if marker in (0x00, 0xFF) or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _EOI:
            ended = True
            break
        length = int.from_bytes(content[at + 2 : at + 4])
        body = content[at + 4 : at + 2 + length]
        if marker in _FRAMES and len(body) >= 6 and frame is None:
            frame, bits = marker, body[0]
            components = set(body[6 : 6 + 3 * body[5] : 3])
        elif marker == _SOS and len(body) >= 4 and len(body) >= 2 * body[0] + 4:
            first, last, low = body[-3], body[-2], body[-1] & 15
            of_scan = body[1 : 1 + 2 * body[0] : 2]
            seen |= set(of_scan)
            first_scan = min(first_scan, at + 2 + length)
            scanned |= {(each, k): low for each in of_scan for k in range(first, min(last, 63) + 1)}
        at += 2 + max(length, 2)
    if frame in _PROGRESSIVE:
        complete = all(scanned.get((each, k)) == 0 for each in components for k in range(64))
    else:
        complete = components <= seen
    return Jpeg(frame, bits, complete and bool(components), ended, len(content) - first_scan)


def why_unreadable(content: bytes) -> str | None:
    """Return what a JPEG is that is of an unusual kind; None for the usual ones."""
    kind = inspect(content).unsupported()
    return kind and f"{'an' if kind[0] in 'aA' else 'a'} {kind}, which cannot be read; convert it to PNG first"

"""Whether two images show the same pixels: a correlation of thumbnails that a resize or a slight crop changes little.

Embeddings tell what an image shows, so two photographs of one thing are as near as an image and its copy. Copies are
told from them by pixels: 24 × 24 colours of the whole image, and of its centre without a margin of 4 and 8 %.
"""

import io
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroshot_cli.search.nearest import Floats
from zeroshot_cli.search.pairs import Pairs

Crops = npt.NDArray[np.uint8]  # (images, margins, side, side, 3)

MARGINS = (0.0, 0.04, 0.08)
SIDE = 24
_COARSE = 4  # colours an edge that are compared for all images
COARSELY_ALIKE = 0.88  # of 1,000 copies without 5 % at each side, 4 are less alike, and 1 in 300 of other pairs is more
_ALIGNED = ((0, 0), (1, 0), (0, 1), (2, 0), (0, 2))  # the margin taken from the first image, and from the second
_BLOCK = 1024  # pairs that are compared at once: 35 MB


def crops_of(thumbnail: bytes | None) -> Crops:
    """Return the colours of an encoded image (margins, side, side, 3); black, which is like nothing, for None."""
    if thumbnail is None:
        return np.zeros((len(MARGINS), SIDE, SIDE, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(thumbnail)) as image:
        rgb = image.convert("RGB")
    w, h = rgb.size
    boxes = [(w * margin, h * margin, w * (1 - margin), h * (1 - margin)) for margin in MARGINS]
    return np.stack([np.asarray(rgb.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)) for box in boxes])


def coarse(crops: Crops) -> Floats:
    """Return few colours of each image, as directions (images, 48): their product is a rough correlation."""
    means = crops[:, 0].reshape(-1, _COARSE, SIDE // _COARSE, _COARSE, SIDE // _COARSE, 3).mean((2, 4))
    return _directions(means)


def likeness(first: Crops, second: Crops) -> Floats:
    """Return the correlation of colours of each pair of images, at the best of five alignments; 0 for a flat image."""
    a, b = ([_directions(crops[:, margin]) for margin in range(len(MARGINS))] for crops in (first, second))
    best: Floats = np.max([np.einsum("ij,ij->i", a[i], b[j]) for i, j in _ALIGNED], axis=0)
    return best


def alike(pairs: Iterator[Pairs], crops: Crops, least: float) -> Iterator[Pairs]:
    """Yield those of the pairs whose likeness is at least `least`."""
    for some in pairs:
        for start in range(0, len(some), _BLOCK):
            part = some[start : start + _BLOCK]
            yield part[likeness(crops[part[:, 0]], crops[part[:, 1]]) >= np.float32(least)]


def _directions(colours: npt.NDArray[np.generic]) -> Floats:
    rows = colours.reshape(len(colours), int(np.prod(colours.shape[1:]))).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    directions: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return directions

"""What is nearest to a query. Pure functions of numbers: n images, e embedding."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_NOTHING = 1e-6  # length of a direction that is only rounding
Block = tuple[Sequence[int], Floats]  # the places of images among all, and their embeddings


def query_of(wanted: Sequence[Floats], unwanted: Sequence[Floats] = ()) -> Floats:
    """Return one direction, normalised, for several embeddings e: the mean of the wanted minus that of the unwanted.

    ValueError where nothing is wanted, or nothing is left of it.
    """
    if not len(wanted):
        raise ValueError("a query needs something that is wanted")
    query = np.array(wanted, dtype=np.float64).mean(axis=0)
    if len(unwanted):
        query = query - np.array(unwanted, dtype=np.float64).mean(axis=0)
    length = float(np.linalg.norm(query))
    if length < _NOTHING:
        raise ValueError("what is wanted and what is not are the same")
    return np.asarray(query / length, dtype=np.float32)


def scores_of(blocks: Iterable[Block], query: Floats, images: int) -> Floats:
    """Return the cosine n of each image with a query e, both normalised; -inf for an image that no block has.

    Summed in float64 and rounded once, so that a score does not depend on the block that an image is in.
    """
    scores = np.full(images, -np.inf, dtype=np.float32)
    for places, embeddings in blocks:
        if len(places):
            scores[places] = embeddings.astype(np.float64) @ query.astype(np.float64)
    return scores


def best(scores: Floats, top: int, least: float | None = None) -> list[int]:
    """Return the places of at most `top` images, the highest score first, those with the same score in their order.

    Images with a score under `least` are left out, and so are those without one.
    """
    order = np.argsort(-scores, kind="stable")
    enough = np.isfinite(scores) if least is None else scores >= np.float32(least)
    found: list[int] = order[enough[order]][:top].tolist()
    return found

"""Results as `classify` writes them, with images that are there."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from chromium import browser
from PIL import Image
from reviewed import reviewer

from zeroshot_cli.records import LabelScore, Prediction, Result, SkippedImage
from zeroshot_cli.results.formats import Format, row_writer

__all__ = ["browser", "reviewer"]


def answer(path: str, label: str, probability: float, *others: str, rejected: bool = False) -> Prediction:
    scores = (LabelScore(label, 0.3, probability), *(LabelScore(other, 0.2, 0.1) for other in others))
    return Prediction(path, scores, 0.1, rejected)


@pytest.fixture
def write_results() -> Callable[[Path, Sequence[Result]], Path]:
    """`write_results(path, results)` writes them in the format of the extension."""

    def write(path: Path, results: Sequence[Result]) -> Path:
        with path.open("wb") as file:
            row_writer(file.write, Format(path.suffix[1:])).write(results)
        return path

    return write


@pytest.fixture
def results(tmp_path: Path, write_results: Callable[[Path, Sequence[Result]], Path]) -> Path:
    """Three images in photos/: a cat, a dog or a cat, an unknown one, and one that could not be read."""
    (tmp_path / "photos").mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "green"), ("c.png", "blue")):
        Image.new("RGB", (400, 200), colour).save(tmp_path / "photos" / name)
    items: list[Result] = [
        answer("photos/a.png", "cat", 0.9),
        SkippedImage("photos/x.png", "the file is empty"),
        answer("photos/b.png", "dog", 0.5, "cat"),
        answer("photos/c.png", "cat", 0.4, rejected=True),
    ]
    return write_results(tmp_path / "results.csv", items)

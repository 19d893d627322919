"""The images of an evaluation as its page shows them: the worst mistakes, and those of each cell of the matrix."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zeroshot_cli.evaluation.answers import Answers, Ints
from zeroshot_cli.pages.shared import Thumbnails, card, data_url, escaped, link_to

MISTAKES = 60  # mistakes that are shown
OF_A_CELL = 12  # thumbnails

Shown = tuple[str, str, float, str | int | None]
"""An image as the script shows it: path, address, probability, and a thumbnail or the number of the mistake with it."""


class AnsweredImages:
    """What each image was taken for, with thumbnails of the worst mistakes and of `most` others."""

    def __init__(self, answers: Answers, page: Path, thumbnails: Thumbnails, most: int) -> None:
        self.answers = answers
        self._page = page
        self._paths = answers.paths
        self._worst = worst_mistakes(answers)
        places = [*self._worst, *_others(answers, set(self._worst), most)]
        made = thumbnails([self._paths[place] for place in places])
        self._thumbnails = {place: data_url(image) for place, image in zip(places, made, strict=True)}
        self._cells: dict[tuple[int, int], list[int]] = {}
        for place in np.concatenate(_in_order(answers)).tolist():
            self._cells.setdefault(_cell(answers, place), []).append(place)

    def of_cell(self, true: int, given: int) -> list[Shown]:
        """Return the images of a class that were taken for another: the most confident first, of right ones last."""
        numbers = {place: number for number, place in enumerate(self._worst)}
        return [
            (
                self._paths[place],
                link_to(self._paths[place], self._page),
                round(float(self.answers.confidences[place]), 4),
                numbers.get(place, self._thumbnails.get(place)),
            )
            for place in self._cells.get((true, given), [])
        ]

    def worst_mistakes(self) -> str:
        """Return cards of the wrong answers that the model was most sure of."""
        if not self._worst:
            return "<p>There are none.</p>"
        wrong = len(self.answers.targets) - int(self.answers.right.sum())
        hint = f'<p class="hint">{len(self._worst)} of {wrong:,} wrong answers, the most confident first.</p>'
        return f'{hint}<ul class="images">{"".join(map(self._card, self._worst))}</ul>'

    def _card(self, place: int) -> str:
        answers = self.answers
        true, given = (escaped(answers.labels[label]) for label in _cell(answers, place))
        about = (
            f'taken for <span class="given">{given}</span> {answers.confidences[place]:.1%}<br>'
            f'is <span class="true">{true}</span> {answers.probabilities_of_true[place]:.1%}'
        )
        return card(self._paths[place], self._page, self._thumbnails[place], about)


def worst_mistakes(answers: Answers, count: int = MISTAKES) -> list[int]:
    """Return the places of wrong answers, the most confident first; equal ones stay in the data set's order."""
    worst: list[int] = _in_order(answers)[0][:count].tolist()
    return worst


def _in_order(answers: Answers) -> tuple[Ints, Ints]:
    """Return the places of wrong answers, the most confident first, and of right ones, the most doubtful first."""
    wrong, right = np.flatnonzero(~answers.right), np.flatnonzero(answers.right)
    confidences = answers.confidences
    return (
        wrong[np.argsort(-confidences[wrong], kind="stable")],
        right[np.argsort(confidences[right], kind="stable")],
    )


def _cell(answers: Answers, place: int) -> tuple[int, int]:
    return int(answers.targets[place]), int(answers.best[place, 0])


def _others(answers: Answers, known: set[int], most: int) -> Iterator[int]:
    """Yield places that have a thumbnail beside the known ones: at most two thirds are wrong, and few of one cell."""
    counts = Counter(_cell(answers, place) for place in known)
    left = most
    for places, least in zip(_in_order(answers), (most // 3, 0), strict=True):
        for place in places.tolist():
            cell = _cell(answers, place)
            if left <= least:
                break
            if place not in known and counts[cell] < OF_A_CELL:
                counts[cell] += 1
                left -= 1
                yield place

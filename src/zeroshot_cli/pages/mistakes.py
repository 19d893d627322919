"""The worst mistakes of an evaluation, with their pictures."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from zeroshot_cli.evaluation.answers import Answers
from zeroshot_cli.pages.classification import data_url
from zeroshot_cli.pages.markup import escaped

MISTAKES = 60  # that are shown

Thumbnails = Callable[[Sequence[str]], Iterable[bytes | None]]


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image, its true class and the one it was taken for, with the probabilities that the model gave them."""

    path: str
    true: str
    given: str
    probability: float
    true_probability: float


def worst_mistakes(answers: Answers, count: int = MISTAKES) -> list[Mistake]:
    """Return wrong answers, the most confident first; of equal ones in the data set's order."""
    wrong = np.flatnonzero(~answers.right)
    order = wrong[np.argsort(-answers.confidences[wrong], kind="stable")][:count]
    paths, labels = answers.paths, answers.labels
    return [
        Mistake(
            paths[place],
            labels[answers.targets[place]],
            labels[answers.best[place, 0]],
            float(answers.confidences[place]),
            float(answers.probabilities_of_true[place]),
        )
        for place in order.tolist()
    ]


def mistakes_markup(answers: Answers, thumbnails: Thumbnails) -> str:
    """Return a card for each of the worst mistakes; `thumbnails` gives a small encoded picture, or None, for each."""
    worst = worst_mistakes(answers)
    if not worst:
        return "<p>There are none.</p>"
    wrong = len(answers.targets) - int(answers.right.sum())
    hint = f'<p class="hint">{len(worst)} of {wrong:,} wrong answers, those that the model was surest of first.</p>'
    pictures = thumbnails([mistake.path for mistake in worst])
    cards = (_card(mistake, picture) for mistake, picture in zip(worst, pictures, strict=True))
    return f'{hint}<div class="mistakes">{"".join(cards)}</div>'


def _card(mistake: Mistake, picture: bytes | None) -> str:
    address = None if picture is None else data_url(picture)
    image = f'<img src="{address}" alt="">' if address else "cannot be shown"
    return (
        f'<figure><div class="picture">{image}</div><figcaption>'
        f'taken for <span class="given">{escaped(mistake.given)}</span> {mistake.probability:.1%}<br>'
        f'is <span class="true">{escaped(mistake.true)}</span> {mistake.true_probability:.1%}<br>'
        f'<span class="path" title="{escaped(mistake.path)}">{escaped(_short(mistake.path))}</span>'
        "</figcaption></figure>"
    )


def _short(path: str) -> str:
    """The name of a file in its folder."""
    return "/".join(PurePath(path).parts[-2:])

"""Words that are far from the labels, so that an image which shows something else has a text that fits it better.

NegLabel: Jiang et al., "Negative label guided OOD detection with pretrained vision-language models", ICLR 2024, arXiv
2403.20078; the words are chosen as in its section 3.1, the share is the grouped score of section 3.2. Ours: the
distance is to the nearest label (percentile 0 where the paper has 5), which spares the synonyms of every label; half of
the words are taken, where the paper has a seventh; words and labels are compared as they are, without a template.

n images, c labels, w words, e embedding
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from zeroshot_cli.classify.scoring import Doubles, Floats, Indices, cosines
from zeroshot_cli.embed.prompt_ensemble import OnProgress, class_embeddings
from zeroshot_cli.embed.texts import TextCache
from zeroshot_cli.errors import LabelsError
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.words.common_nouns import common_nouns
from zeroshot_cli.words.labels import Labels
from zeroshot_cli.words.prompts import BARE
from zeroshot_cli.words.raw_labels import same_words

AUTO = "auto"  # the background that is mined
GROUP = 1000  # words that the labels are compared with at once: half of the share is a tie with the best of so many
TEMPERATURE = 0.01  # of the paper's score: that of CLIP
FARTHEST = 0.5  # the share of the words that is taken


@dataclass(frozen=True, slots=True)
class Negatives:
    """Embeddings of the labels ce and of the words we that are far from them, without a template, normalised."""

    labels: Tensor
    words: Tensor

    def share(self, images: Floats) -> Doubles:
        """Return how much of the probability the labels have for images ne -> n."""
        return known_share(cosines(images, self.labels), cosines(images, self.words))


def mine(
    model: LoadedModel,
    labels: Labels,
    words: Labels | None = None,
    *,
    cache: TextCache | None = None,
    on_progress: OnProgress | None = None,
) -> Negatives:
    """Return the negatives of labels among words, by default the common nouns; `on_progress` is of the words.

    Raises LabelsError where no word is left.
    """
    given = common_nouns() if words is None else words
    other = naming_none(labels, given.names)
    if not other:
        raise LabelsError(f"--background auto: each of the {len(given):,} nouns names a label; give --background FILE")
    # All words are encoded, whatever the labels are: so the cache has them for the next labels, too.
    encoded = class_embeddings(model, BARE.fill(given), cache=cache, on_progress=on_progress)[other]
    positive = class_embeddings(model, BARE.fill(labels), cache=cache)
    return Negatives(positive, encoded[farthest(cosines(encoded, positive)).tolist()])


def naming_none(labels: Labels, words: Sequence[str]) -> list[int]:
    """Return the places of the words that are no label, synonym or group, no kind of one, and not what it is a kind of.

    A kind ends in the name of what it is: "bird dog". The plural of a word counts as the word.
    """
    names = {
        end for label in labels for name in (label.name, *label.synonyms, *label.group) for end in _singulars(name)
    }
    kinds = {end for name in names for end in _ends(name)}
    return [
        place
        for place, word in enumerate(words)
        if not (_singulars(word) & kinds or any(end in names for one in _singulars(word) for end in _ends(one)))
    ]


def _singulars(name: str) -> set[str]:
    """Return what the singular of a name may be, itself included."""
    name = same_words(name)
    found = {name}
    if name.endswith("ies"):
        found.add(f"{name[:-3]}y")
    if name.endswith("es"):
        found.add(name[:-2])
    if name.endswith("s"):
        found.add(name[:-1])
    return found


def _ends(name: str) -> list[str]:
    """Return a name of several words without its first ones: "big red dog", "red dog", "dog"."""
    parts = name.replace("-", " ").split()
    return [" ".join(parts[start:]) for start in range(len(parts))]


def farthest(similarities: Floats) -> Indices:
    """Return the words, farthest first, whose nearest label is far: cosines wc -> those taken, whole groups of them."""
    order: Indices = np.argsort(similarities.max(axis=1), kind="stable")
    count = max(1, int(len(order) * FARTHEST))
    return order[: count - count % GROUP if count > GROUP else count]


def known_share(positive: Floats, negative: Floats) -> Doubles:
    """Return the sum of the labels' probabilities, each time against a group of the words, on average: nc, nw -> n.

    Word i is in group i modulo their number, so that each has far and less far ones; words of no whole group are left
    out, as in the paper.
    """
    groups = max(1, negative.shape[1] // GROUP)
    size = negative.shape[1] // groups
    highest = np.maximum(positive.max(axis=1), negative.max(axis=1)).astype(np.float64)[:, None]
    labels = np.exp((positive - highest) / TEMPERATURE).sum(axis=1)
    weights = np.exp((negative[:, : groups * size] - highest) / TEMPERATURE)
    against = weights.reshape(len(weights), size, groups).sum(axis=1)
    share: Doubles = (labels[:, None] / (labels[:, None] + against)).mean(axis=1)
    return share

"""Corrections of zero-shot logits: a linear map that was learned from classes with examples, extended to the others.

n images, c classes, s classes with examples, e embedding
"""

from dataclasses import dataclass

import numpy as np

from zeroshot_cli.evaluation.answers import Doubles, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What is added to zero-shot logits: x @ weights.T + biases, with weights (s, e) and biases (s,) of `classes` (s,).

    `total` is the number of all classes, c.
    """

    classes: Ints
    weights: Doubles
    biases: Doubles
    total: int

    @property
    def is_partial(self) -> bool:
        """Whether some classes have no examples."""
        return len(self.classes) < self.total

    def of(self, embeddings: Doubles) -> Doubles:
        """Return what is added for the classes with examples: embeddings (n, e) -> (n, s)."""
        added: Doubles = embeddings @ self.weights.T + self.biases
        return added

    def extended(self, lead: float) -> tuple[Doubles, Doubles]:
        """Return weights (c, e) and biases (c,): a class without examples gets the mean of the others and `lead`."""
        weights = np.tile(self.weights.mean(axis=0), (self.total, 1))
        biases = np.full(self.total, self.biases.mean() + lead)
        weights[self.classes], biases[self.classes] = self.weights, self.biases
        return weights, biases

    def add_to(self, logits: Doubles, added: Doubles, lead: float) -> Doubles:
        """Return zero-shot logits (n, c) plus `added` (n, s), what `of` returned."""
        if not self.is_partial:  # and classes are sorted
            both: Doubles = logits + added
            return both
        summed: Doubles = logits + (added.mean(axis=1, keepdims=True) + lead)
        summed[:, self.classes] = logits[:, self.classes] + added
        return summed

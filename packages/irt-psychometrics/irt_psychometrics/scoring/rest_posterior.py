"""What learners' answers to the other items say of their θ, when an item is asked about by itself.

Belongs here: those posteriors. Does not belong here: what is asked about an item (kinds.py,
proportion_correct.py), and reported abilities (scoring.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.item_models import CountedScores
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.quadrature import Grid

Indices = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class RestPosterior:
    """The answers of N learners, and which of the J items bear on θ.

    Attributes:
        nodes: shape (Q,), θ.
        right, wrong: shape (N, M), 1 where an answer is right, or wrong. M are the rows of `ItemCurves.score_tables`:
            the items where all have scores of 0 and 1.
        log_right, log_wrong: shape (M, Q), 0 for items that do not.
        log_prior: shape (Q,).
    """

    nodes: Floats
    right: csr_matrix
    wrong: csr_matrix
    log_right: Floats
    log_wrong: Floats
    log_prior: Floats

    @classmethod
    def from_answers(
        cls,
        person: Indices,
        item: Indices,
        score: Indices,
        known: Mask,
        items: ItemParameters,
        *,
        mean: float,
        sd: float,
        categories: Ints | None = None,
    ) -> RestPosterior:
        """person, item, score: shape (R,), indices, and scores of so many `categories` (J,), None: 0 and 1. known:
        shape (J,), of items with parameters; N(mean, sd²): prior.

        There are as many nodes as the posterior of the learner with the most information needs.
        """
        counted = CountedScores.from_curves(items.curves)
        of_row = counted.item_of_row
        row, is_right = counted.rows(item, counted.of_answers(item, score.astype(np.int8), categories))
        shape = (int(person.max(initial=-1)) + 1, of_row.size)
        # without the zeros: 0 times the log of a score that an item cannot have is not a number
        right, wrong = (
            csr_matrix((np.ones(np.count_nonzero(chosen)), (person[chosen], row[chosen])), shape=shape)
            for chosen in (is_right == 1, is_right == 0)
        )
        points = counted.categories - 1
        most = (right + wrong) @ np.where(known, (points * items.a) ** 2 / 4, 0.0)[of_row]  # at most (a·m)²/4 each
        grid = Grid.resolving(1 / np.sqrt(1 + sd**2 * most.max(initial=0.0)))
        nodes = mean + sd * grid.nodes
        log_right, log_wrong = (np.where(known[of_row, None], x, 0.0) for x in items.curves.score_tables(nodes))
        return cls(nodes, right, wrong, log_right, log_wrong, grid.log_weights())

    def posterior(self, people: Indices) -> Floats:
        """Shape (n, Q), rows sum to 1, of the n learners."""
        log_posterior = self.right[people] @ self.log_right + self.wrong[people] @ self.log_wrong + self.log_prior
        posterior: Floats = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        return posterior

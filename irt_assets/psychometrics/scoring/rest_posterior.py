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

from irt_assets.psychometrics.core.arrays import Floats, Mask
from irt_assets.psychometrics.core.items import ItemParameters
from irt_assets.psychometrics.core.quadrature import Grid

Indices = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class RestPosterior:
    """The answers of N learners, and which of the J items bear on θ.

    Attributes:
        nodes: shape (Q,), θ.
        right, wrong: shape (N, J), 1 where an answer is right, or wrong.
        log_right, log_wrong: shape (J, Q), 0 for items that do not.
        log_prior: shape (Q,).
    """

    nodes: Floats
    right: csr_matrix
    wrong: csr_matrix
    log_right: Floats
    log_wrong: Floats
    log_prior: Floats

    @classmethod
    def of(
        cls,
        person: Indices,
        item: Indices,
        correct: Indices,
        known: Mask,
        items: ItemParameters,
        *,
        mean: float,
        sd: float,
    ) -> RestPosterior:
        """person, item, correct: shape (R,), indices and 0 or 1. known: shape (J,), of items with parameters; N(mean,
        sd²): prior.

        There are as many nodes as the posterior of the learner with the most information needs.
        """
        shape = (int(person.max(initial=-1)) + 1, known.size)
        right, wrong = (
            csr_matrix((chosen.astype(float), (person, item)), shape=shape) for chosen in (correct == 1, correct == 0)
        )
        most = (right + wrong) @ np.where(known, items.a**2 / 4, 0.0)  # information is at most a²/4
        grid = Grid.resolving(1 / np.sqrt(1 + sd**2 * most.max(initial=0.0)))
        nodes = mean + sd * grid.nodes
        log_right, log_wrong = (np.where(known[:, None], x, 0.0) for x in items.curves.log_tables(nodes))
        return cls(nodes, right, wrong, log_right, log_wrong, grid.log_weights())

    def posterior(self, people: Indices) -> Floats:
        """Shape (n, Q), rows sum to 1, of the n learners."""
        log_posterior = self.right[people] @ self.log_right + self.wrong[people] @ self.log_wrong + self.log_prior
        posterior: Floats = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        return posterior

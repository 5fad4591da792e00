"""Posteriors of learners' θ from their answers to the other items, for examining a single item.

Reported abilities are in `abilities`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.item_models import CountedScores
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses

Indices = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class RestPosterior:
    """The answers of N learners, and the curves of the items that count for θ.

    Attributes:
        nodes: shape (Q,), θ.
        right, wrong: shape (N, M), 1 for a right, or a wrong, answer. M are the rows of `ItemCurves.score_tables`; if
            all scores are 0 and 1, they are the items.
        log_right, log_wrong: shape (M, Q), log P of a right, or a wrong, answer; 0 for items that do not count.
        log_prior: shape (Q,), log weights of the nodes.
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
        """Make the posteriors from R answers.

        `person` and `item` (R,) are indices, `score` (R,) are scores, and `categories` (J,) are the numbers of scores
        that answers can have; None means 0 and 1. `known` (J,) marks the items that have parameters and count. The
        prior is N(mean, sd²). The number of nodes is sufficient for the learner with the most information.
        """
        counted = CountedScores.from_curves(items.curves)
        of_row = counted.item_of_row
        row, is_right = counted.rows(item, counted.of_answers(item, score.astype(np.int8), categories))
        shape = (int(person.max(initial=-1)) + 1, of_row.size)
        # no zeros are stored, because 0 times the log of a score that an item cannot have (−∞) is NaN
        right, wrong = (
            csr_matrix((np.ones(np.count_nonzero(chosen)), (person[chosen], row[chosen])), shape=shape)
            for chosen in (is_right == 1, is_right == 0)
        )
        points = counted.categories - 1
        most = (right + wrong) @ np.where(known, (points * items.a) ** 2 / 4, 0.0)[of_row]  # at most (a·m)²/4 each
        grid = Grid.for_posterior_sd(1 / np.sqrt(1 + sd**2 * most.max(initial=0.0)))
        nodes = mean + sd * grid.nodes
        log_right, log_wrong = (np.where(known[of_row, None], x, 0.0) for x in items.curves.score_tables(nodes))
        return cls(nodes, right, wrong, log_right, log_wrong, grid.log_weights())

    def posterior(self, people: Indices) -> Floats:
        """The posteriors of n learners on the nodes, shape (n, Q); rows sum to 1."""
        log_posterior = self.right[people] @ self.log_right + self.wrong[people] @ self.log_wrong + self.log_prior
        posterior: Floats = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        return posterior


def rest_abilities(responses: Responses, items: ItemParameters, *, mean: float, sd: float) -> Floats:
    """Estimate the ability of each response's person from the person's other responses.

    Parameters
    ----------
    responses
        R responses.
    items
        Known item parameters. Responses to other items do not count for θ.
    mean, sd
        The prior N(mean, sd²) of θ.

    Returns
    -------
    Floats
        Shape (R,), posterior mean of θ; NaN if the person has no other response that counts.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.scoring import rest_abilities
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2"], "a": [1, 1], "b": [0, 0]})
    >>> x = irt.Responses.from_wide({"q1": [1, 0], "q2": [1, 1]})
    >>> rest_abilities(x, items, mean=0, sd=1).round(2).tolist()
    [0.41, 0.41, 0.41, -0.41]
    """
    x, items = responses, items.among(responses.item_ids)
    known = items.curves.known
    measured = RestPosterior.from_answers(
        x.person, x.item, x.score, known, items, mean=mean, sd=sd, categories=x.categories
    )
    item_of_row = CountedScores.from_curves(items.curves).item_of_row
    counted = np.bincount(x.person, known[x.item], minlength=x.n_persons)
    rest = np.full(x.n_responses, np.nan)
    for j in range(x.n_items):
        others = (item_of_row != j)[:, None]
        log_right, log_wrong = (np.where(others, log, 0.0) for log in (measured.log_right, measured.log_wrong))
        without = replace(measured, log_right=log_right, log_wrong=log_wrong)
        rows = np.flatnonzero((x.item == j) & (counted[x.person] > known[j]))
        rest[rows] = without.posterior(x.person[rows]) @ measured.nodes
    return rest

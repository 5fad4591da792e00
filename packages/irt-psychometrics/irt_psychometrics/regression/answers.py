"""The likelihood of each person's answers on ability nodes, given item parameters.

The distribution of θ is in `maximum`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import CountedScores
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of

_STEP = 0.8
"""Distance between nodes in SDs of the narrowest posterior; the error of a sum over nodes is exp(−2π²/.8²), 4e-14."""
_REACH = 8.0
"""Distance from the most extreme conditional means to the ends of the nodes, in conditional SDs."""


@dataclass(frozen=True)
class Answers:
    """The answers of N persons to items with parameters.

    Attributes
    ----------
    items
        The J items with parameters, with the covariances between items.
    given
        Shape (N, 2M), 1 if the person gave the answer. M are the rows of `ItemCurves.score_tables`: columns 0 … M − 1
        are scores above 0, columns M … 2M − 1 are scores of 0.
    """

    items: ItemParameters
    given: csr_matrix

    @classmethod
    def from_responses(cls, x: Responses, items: ItemParameters) -> Answers:
        """Count the scores of the answers under the items' models. Answers to items with NaN do not count.

        Raises PsychometricsError if an item of the responses is not among the items, or if no answer counts.
        """
        if missing := sorted({*x.item_ids} - {*items.item_ids}):
            raise PsychometricsError(
                f"items has no parameters for {some_of(missing)}; leave these items out, as x.of_items([…]) does, or "
                "add the parameters"
            )
        known = items.select(x.item_ids).curves.known
        own = x.of_items(known)
        if not own.n_responses:
            raise PsychometricsError("no person has answered an item that has parameters, so θ is unknown")
        items = items.select(own.item_ids)
        counted = CountedScores.from_curves(items.curves)
        row, right = counted.rows(own.item, counted.of_answers(own.item, own.score, own.categories))
        n_rows = len(counted.item_of_row)
        ones, places = np.ones(own.n_responses), (own.person, row + n_rows * (right == 0))
        return cls(items, csr_matrix((ones, places), shape=(x.n_persons, 2 * n_rows)))

    @property
    def item_of_answer(self) -> Ints:
        """The item of each column of `given`, shape (2M,)."""
        return np.tile(CountedScores.from_curves(self.items.curves).item_of_row, 2)

    @property
    def n(self) -> Ints:
        """The number of answers of each person, shape (N,)."""
        return np.diff(self.given.indptr).astype(np.int64)

    def log_likelihood(self, nodes: Floats) -> Floats:
        """Compute log P(answers | θ) at the nodes, shape (N, Q); 0 for persons without an answer."""
        return np.asarray(self.given @ np.concatenate(self.items.curves.score_tables(nodes)))

    def nodes_for(self, means: Floats, sds: Floats) -> Floats:
        """Choose equally spaced nodes that are wide and dense enough to integrate over every person's posterior.

        `means` and `sds`, of any shape, are the persons' conditional means and SDs.
        """
        low, high = means.min() - _REACH * sds.max(), means.max() + _REACH * sds.max()
        coarse = np.linspace(low, high, 61)
        information = self.items.curves.information(coarse).T[self.item_of_answer]
        most = float((self.given @ information).max(initial=0.0))
        narrowest = 1 / math.sqrt(1 / sds.min() ** 2 + most)
        return np.linspace(low, high, max(61, 1 + math.ceil((high - low) / (_STEP * narrowest))))

"""Sums over learners from which item fit is computed, with the answers in memory or on other machines.

`item_fit` computes statistics from these sums, or from the same sums over responses; `estimation.reductions` adds
them up.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from irt_psychometrics.core import kernels
from irt_psychometrics.core.classical import rest_correlation
from irt_psychometrics.core.logistic import logit
from irt_psychometrics.core.models import Calibration, Floats, spread
from irt_psychometrics.estimation.likelihood import Guessing
from irt_psychometrics.estimation.reductions import KernelSum
from irt_psychometrics.estimation.response_layout import LaidOutAnswers
from irt_psychometrics.itemfit import fit_kernels
from irt_psychometrics.itemfit.model_replicates import on_common_nodes


@dataclass(frozen=True)
class ItemSums:
    """Sums for the J items of a calibration, in its order; 0 for items without answers or parameters.

    Attributes:
        n_persons: number of learners with an answer.
        seen: shape (J, Q), expected number of learners at each node of `Abilities`, over those who answered the item.
        residual: shape (J, Q), observed minus expected right answers at each node.
        item_rest: shape (J,), item-rest correlations as in `classical.item_rest_correlation`, over the items that have
            parameters; NaN if undefined.
    """

    n_persons: int
    seen: Floats
    residual: Floats
    item_rest: Floats

    @classmethod
    def from_answers(cls, answers: LaidOutAnswers, calibration: Calibration, *, threads: int | None = None) -> Self:
        """Add up the answers that a calibration was estimated from, in its engine's layout.

        The cost is one more E-step and one pass over the answers.
        """
        nodes, log_weights = on_common_nodes(calibration)
        place_of = {item: place for place, item in enumerate(calibration.item_ids)}
        place = np.array([place_of[item] for item in answers.item_ids])
        fit = calibration.select(place)
        with kernels.runner(threads) as run, np.errstate(divide="ignore"):
            total = answers.sums(run)
            found = Guessing(answers, nodes, fit.a, fit.d, logit(fit.c)).expect(total, log_weights)
            tables, shape = (answers.flipped, answers.correct / answers.n), (answers.n_items, 5)
            (rest,) = total(KernelSum(fit_kernels.item_rest_sums, tables, (shape,)))
        J, item_rest = calibration.n_items, spread(rest_correlation(rest), place, calibration.n_items)
        seen, residual = (spread(values, place, J, blank=0.0) for values in (found.seen, found.residual))
        return cls(answers.n_persons, seen, residual, item_rest)

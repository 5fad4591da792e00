"""Effect of errors of item parameters on estimates of how abilities move.

All learners answer the same items, so they share the items' errors. The errors make days seem to differ. A larger
number of learners does not average the errors out, and only makes the difference more significant.

This module computes the effect of these errors on the slopes of the log-likelihood, and from it on estimates, standard
errors and p-values. The likelihood and its slopes are in `ability_growth`, draws of the errors in `core.moved_items`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as students_t

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.moved_items import moved_curves
from irt_psychometrics.scoring.abilities import Curves

_DRAWS = 16


@dataclass(frozen=True)
class ItemErrors:
    """Effect of the items' errors on the slopes of the log-likelihood with respect to its P parameters, at its maximum.

    Attributes
    ----------
    information
        Covariance of the slopes over learners, shape (P, P).
    bias
        Mean change of the slopes due to errors of items, shape (P,). It is not 0, because slopes are not linear in the
        parameters of items.
    covariance
        Covariance of the slopes over sets of errors, shape (P, P). It includes the error of the bias.
    """

    information: Floats
    bias: Floats
    covariance: Floats

    @classmethod
    def from_draws(
        cls, information: Floats, slopes: Callable[[Curves], Floats], curves: Curves, items: ItemParameters | None
    ) -> ItemErrors:
        """Compute the slopes again with items that are moved by draws of their errors.

        Parameters
        ----------
        information
            Covariance of the slopes over learners, shape (P, P).
        slopes
            Function from the curves of items to the slopes summed over learners, shape (P,).
        curves
            Curves of the items.
        items
            The items of `curves` with the errors of their parameters. Unknown errors count as 0. None: all are 0.
        """
        moved = moved_curves(items, _DRAWS) if items else ()
        drawn = [slopes(Curves.from_items(one, population=curves.population)) for one in moved]
        if not drawn:
            return cls(information, np.zeros(len(information)), np.zeros_like(information))
        bias = np.mean(drawn, axis=0) - slopes(curves)
        return cls(information, bias, (1 + 1 / _DRAWS) * np.cov(drawn, rowvar=False))

    def correct_bias(self, x: Floats, free: Ints) -> Floats:
        """The maximum x (P,), with the parameters at the places `free` corrected for bias."""
        found = x.copy()
        found[free] -= self._inverse(free) @ self.bias[free]
        return found

    @property
    def errors(self) -> Floats:
        """Standard errors (P,) with every parameter free."""
        inverse = self._inverse(np.arange(len(self.bias)))
        return np.sqrt(np.diag(inverse @ (self.information + self.covariance) @ inverse))

    def p_of(self, root: float, place: int, free: Ints, *, two_sided: bool) -> float:
        """p-value of "the parameter at `place` is 0", with the others of `free` free, from a signed root of a
        likelihood ratio.

        The root is the slope along `by`, which leaves the other parameters free, divided by its standard deviation. The
        variance that the items' errors add is estimated from `_DRAWS` draws (degrees of freedom of Satterthwaite 1946).
        """
        by = self._inverse(free)[:, free == place][:, 0]
        learners, items = (by @ cov[np.ix_(free, free)] @ by for cov in (self.information, self.covariance))
        if learners <= 0:
            return 0.5
        z = (root - by @ self.bias[free] / np.sqrt(learners)) / np.sqrt(1 + items / learners)
        freedom = (_DRAWS - 1) * (1 + learners / items) ** 2 if items > 0 else np.inf
        return float(2 * students_t.sf(abs(z), freedom) if two_sided else students_t.sf(z, freedom))

    def _inverse(self, free: Ints) -> Floats:
        return np.linalg.pinv(self.information[np.ix_(free, free)]).astype(np.float64)

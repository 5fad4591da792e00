"""What an item's two curves, the window's and the published one, say of the same learners, with the error of that.

Belongs here: the statistic that compares curves, under a 3PL and across models, with its covariance. Does not belong
here: who is flagged (drift.py), errors of parameters (drift_errors.py).

**Across models.** A slope of 0.9 under a 2PL and one of 1.2 under a 3PL may be of one item that has not moved. What has
to stay is what a fit of the simpler model takes from the answers. Of an item with curve P, answered by learners with
density g, a 2PL is estimated whose curve P₂ has the same share of right answers and the same covariance of these with
ability: the score equations of a logistic regression, Σ(x − P₂) = 0 and Σ θ(x − P₂) = 0, whose expectations are

    T = ∫ (1, z)ᵀ (P_window − P_published) g(θ) dθ = 0,    z = (θ − mean)/SD of g,

g = N(mean, sd²) being the learners of the simpler of the two fits: what a misspecified model comes to depends on them
(White 1982, Econometrica 50). With θ not known but integrated out, these hold nearly. Where the simpler model gives
items no slope of their own, only the first component is 0.

**Under a 3PL**, a, b and c of one item are traded for each other at little cost to its curve, so that a change of b by
0.5 is lost in the errors of (a, b), and T is where the answers speak. g is then the scale's population.

With H the derivatives of T by the item's (a, b, logit c), y those of the window and p those published,

    Cov T = H_y Cov(y) H_yᵀ + H_p Cov(p) H_pᵀ − H_y Cov(y, p) H_pᵀ − H_p Cov(p, y) H_yᵀ,

and Tᵀ (Cov T)⁻¹ T is χ² with 2 degrees of freedom (1 without slopes) where the item has not changed. A published c
whose errors are not stored is held, with the errors of a and b as they are; then Cov T is too large. What errors of c
have in common with the linking's constants is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from irt_assets.psychometrics.drift_errors import Comparison, Fitted
from irt_assets.psychometrics.models import Floats, Model
from irt_assets.psychometrics.quadrature import Grid

_FROM_THE_SIMPLEST: tuple[Model, ...] = ("rasch", "1pl", "2pl", "3pl")
assert set(_FROM_THE_SIMPLEST) == set(get_args(Model))


@dataclass(frozen=True)
class CurveDifferences:
    """T of J items.

    Attributes:
        t: shape (J, 2), a difference of probabilities, and of their covariances with z.
        cov: shape (J, 2, 2).
        df: shape (J,), 2, or 1 where only the first component is 0 for a sound item.
    """

    t: Floats
    cov: Floats
    df: npt.NDArray[np.int64]

    @property
    def wald(self) -> Floats:
        """Shape (J,), χ² with `df` degrees of freedom."""
        wald: Floats = self.t[:, 0] ** 2 / self.cov[:, 0, 0]
        t, cov = self.t[self.df == 2], self.cov[self.df == 2]
        wald[self.df == 2] = np.einsum("jk,jk->j", t, np.linalg.solve(cov, t[:, :, None])[:, :, 0])
        return wald


def curve_differences(comparison: Comparison, *, mean: float, sd: float) -> CurveDifferences:
    """Of all compared items; N(mean, sd²): the scale's population."""
    old, window = comparison.published, comparison.fitted or Fitted("2pl")
    simpler = [
        Fitted(model) if model == window.model else min(window, of or Fitted(model), key=_rank)
        for of, model in zip(old.fitted, old.models(window.model), strict=True)
    ]
    means = np.array([mean if fit.mean is None else fit.mean for fit in simpler])
    sds = np.array([sd if fit.sd is None else fit.sd for fit in simpler])
    now, by_now = _moments(comparison.a, comparison.b, comparison.c, means, sds)
    published, by_published = _moments(old.a, old.b, old.c, means, sds)
    both = by_now[:, :, :2] @ comparison.shared @ by_published[:, :, :2].transpose(0, 2, 1)
    cov = by_now @ comparison.cov_window @ by_now.transpose(0, 2, 1)
    cov += by_published @ old.cov_with_guessing @ by_published.transpose(0, 2, 1)
    df = np.array([2 if fit.model in ("2pl", "3pl") else 1 for fit in simpler])
    return CurveDifferences(now - published, cov - both - both.transpose(0, 2, 1), df)


def _rank(fit: Fitted) -> int:
    return _FROM_THE_SIMPLEST.index(fit.model)


def _moments(a: Floats, b: Floats, c: Floats, mean: Floats, sd: Floats) -> tuple[Floats, Floats]:
    """∫ (1, z) P(θ) g(θ) dθ, shape (J, 2), and its derivatives by (a, b, logit c), shape (J, 2, 3); all are (J,)."""
    grid = Grid.spanning()
    z, weights = grid.nodes, np.exp(grid.log_weights())
    distance = mean[:, None] + sd[:, None] * z - b[:, None]
    s = expit(a[:, None] * distance)
    by_eta = (1 - c[:, None]) * s * (1 - s)
    by_x = np.stack([by_eta * distance, -by_eta * a[:, None], (1 - s) * (c * (1 - c))[:, None]], axis=2)
    moments = np.stack([weights, weights * z])
    return (c[:, None] + (1 - c[:, None]) * s) @ moments.T, np.einsum("mq,jqx->jmx", moments, by_x)

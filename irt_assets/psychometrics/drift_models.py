"""Items whose published values are of another model than the window's fit: what their curves differ by.

Belongs here: the statistic that compares two curves of different models, with its covariance. Does not belong here: who
is flagged (drift.py), errors of parameters (drift_errors.py).

A slope of 0.9 under a 2PL and one of 1.2 under a 3PL may be of one item that has not moved. What has to stay is what a
fit of the simpler model takes from the answers. Of an item with curve P, answered by learners with density g, a 2PL is
estimated whose curve P₂ has the same number and the same covariance with ability of right answers: the score equations
of a logistic regression, Σ(x − P₂) = 0 and Σ θ(x − P₂) = 0, whose expectations are

    T = ∫ (1, z)ᵀ (P_window − P_published) g(θ) dθ = 0,    z = (θ − mean)/SD of g,

g = N(mean, sd²) being the learners of the simpler of the two fits: of a misspecified model it is the nearest to the truth
where its learners are (White 1982, Econometrica 50). With θ not known but integrated out, these hold nearly. Where the
simpler model gives items no slope of their own, only the first component is 0.

With H the derivatives of either integral by the item's parameters y (a, b, logit c of the window) and p (a, b of the
published, whose c is held),

    Cov T = H_y Cov(y) H_yᵀ + H_p Cov(p) H_pᵀ − H_y Cov(y, p) H_pᵀ − H_p Cov(p, y) H_yᵀ,

and Tᵀ (Cov T)⁻¹ T is χ² with 2 degrees of freedom (1 without slopes) where the item has not changed. The error that the
window's c has in common with the linking's constants is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
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
    df: np.ndarray

    @property
    def wald(self) -> Floats:
        """Shape (J,), χ² with `df` degrees of freedom."""
        both = np.einsum("jk,jk->j", self.t, np.linalg.solve(self.cov, self.t[:, :, None])[:, :, 0])
        return np.where(self.df == 2, both, self.t[:, 0] ** 2 / self.cov[:, 0, 0])


def curve_differences(comparison: Comparison, *, mean: float, sd: float) -> CurveDifferences:
    """Of all compared items; N(mean, sd²): the learners of published values of which no more is known."""
    old, window = comparison.published, comparison.fitted or Fitted("2pl", mean, sd)
    models = old.models(window.model)
    sources = [of or Fitted(model, mean, sd) for of, model in zip(old.fitted, models, strict=True)]
    simpler = [min(window, of, key=lambda fit: _FROM_THE_SIMPLEST.index(fit.model)) for of in sources]
    means, sds = (np.array([getattr(fit, name) for fit in simpler]) for name in ("mean", "sd"))
    guessing = np.zeros((len(old.a), 3)) if comparison.guessing_cov is None else comparison.guessing_cov

    now, by_now = _moments(comparison.a, comparison.b, comparison.c, means, sds)
    published, by_published = _moments(old.a, old.b, old.c, means, sds)
    by_published = by_published[:, :, :2]
    both = comparison.by_anchors @ old.with_anchors.transpose(0, 2, 1)  # Cov(y, p)
    cov_now = np.zeros((len(old.a), 3, 3))
    cov_now[:, :2, :2] = comparison.cov - old.cov + both + both.transpose(0, 2, 1)
    cov_now[:, 2] = cov_now[:, :, 2] = guessing
    shared = by_now[:, :, :2] @ both @ by_published.transpose(0, 2, 1)
    cov = by_now @ cov_now @ by_now.transpose(0, 2, 1) + by_published @ old.cov @ by_published.transpose(0, 2, 1)
    df = np.array([2 if fit.model in ("2pl", "3pl") else 1 for fit in simpler])
    return CurveDifferences(now - published, cov - shared - shared.transpose(0, 2, 1), df)


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

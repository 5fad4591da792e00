"""What an item's two curves, the window's and the published one, say of the same learners, with the error of that.

Belongs here: the statistic that compares curves, under a 3PL, of scored items and across models, with its covariance.
Does not belong here: which items are flagged (items.py), errors of parameters (errors.py).

**Across models.** A slope of 0.9 under a 2PL and one of 1.2 under a 3PL may be of one item that has not moved. What has
to stay is what a fit of the simpler model takes from the answers. Of an item with curve P, answered by learners with
density g, a 2PL is estimated whose curve P₂ has the same share of right answers and the same covariance of these with
ability: the score equations of a logistic regression, Σ(x − P₂) = 0 and Σ θ(x − P₂) = 0, whose expectations are

    T = ∫ (1, z)ᵀ (P_window − P_published) g(θ) dθ = 0,    z = (θ − mean)/SD of g,

g = N(mean, sd²) being the learners of the simpler of the two fits: what a misspecified model comes to depends on them
(White 1982, Econometrica 50). With θ not known but integrated out, these hold nearly. Where the simpler model gives
items no slope of their own, only the first component is 0.

Each model's scale is its own: where a 2PL puts abler learners, a 3PL puts them a little elsewhere. So on the other
fit's side mean and SD of g are those that make its items' T smallest, Σ Tᵀ (Cov T)⁻¹ T, over the items of one fit,
those left out that stand out; with fewer than 5 items they are what the simpler fit says. A change that all items of a
fit have in common is therefore not seen across models.

**Under a 3PL**, a, b and c of one item are traded for each other at little cost to its curve, so that a change of b by
0.5 is lost in the errors of (a, b), and T is where the answers speak. g is then the scale's population. **Of an item
scored 0 … m** the same is true of a, b and the parameters of its scores; P is its expected score as a share of m, so
that T has two numbers whatever m is, and scores that nobody got on one side change nothing.

With H the derivatives of T by the item's a, b and further parameters (logit c, or t of each score), y those of the
window and p those published,

    Cov T = H_y Cov(y) H_yᵀ + H_p Cov(p) H_pᵀ − H_y Cov(y, p) H_pᵀ − H_p Cov(p, y) H_yᵀ,

and Tᵀ (Cov T)⁻¹ T is χ² with 2 degrees of freedom (1 without slopes) where the item has not changed. Published further
parameters whose errors are not stored are held, with the errors of a and b as they are; then Cov T is too large. What
the window's have in common with the linking's constants is left out.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.item_models import ITEM_MODELS, which
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.drift.errors import Comparison, Fitted

FEWEST = 5
"""Fewest items of a fit that can place its learners on the scale of another model."""
BEYOND = 13.8
"""Items whose statistic exceeds this, by chance one in a thousand, are not used to place them."""
ROUNDS = 8


@dataclass(frozen=True)
class Moments:
    """∫ (1, z)ᵀ P(θ) g(θ) dθ of J items, shape (J, 2), and its derivatives by their P parameters, a, b and the further
    ones, shape (J, 2, P), and by mean and SD of g, shape (J, 2, 2)."""

    values: Floats
    by_parameters: Floats
    by_place: Floats

    @classmethod
    def of(cls, items: ItemParameters, learners: Floats) -> Self:
        """learners: mean and SD of g, shape (J, 2)."""
        grid = Grid.spanning()
        z, weights = grid.nodes, np.exp(grid.log_weights())
        theta = learners[:, :1] + learners[:, 1:] * z
        p, by_eta = items.curve_at(theta)
        by_b = -by_eta * items.a[:, None]
        by_a = by_eta * (theta - items.b[:, None])
        by_x = np.stack([by_a, by_b, -by_b, -by_b * z, *items.by_further(theta).swapaxes(0, 1)], axis=2)
        moments = np.stack([weights, weights * z])
        by_all = np.einsum("mq,jqx->jmx", moments, by_x)
        return cls(p @ moments.T, np.delete(by_all, [2, 3], axis=2), by_all[:, :, 2:4])

    def turned(self, cov: Floats) -> Floats:
        """Their covariance, shape (J, 2, 2), from that of the parameters, shape (J, P, P)."""
        return self.by_parameters @ cov @ self.by_parameters.transpose(0, 2, 1)


@dataclass(frozen=True)
class CurveDifferences:
    """T of J items.

    Attributes:
        window, published: of which T, shape (J, 2), is the difference: one of probabilities, and of their covariances
            with z.
        cov: shape (J, 2, 2).
        df: shape (J,), 2, or 1 where only the first component is 0 for a sound item.
    """

    window: Moments
    published: Moments
    cov: Floats
    df: Ints

    @property
    def t(self) -> Floats:
        return self.window.values - self.published.values

    @property
    def wald(self) -> Floats:
        """Shape (J,), χ² with `df` degrees of freedom."""
        wald: Floats = self.t[:, 0] ** 2 / self.cov[:, 0, 0]
        t, cov = self.t[self.df == 2], self.cov[self.df == 2]
        wald[self.df == 2] = np.einsum("jk,jk->j", t, np.linalg.solve(cov, t[:, :, None])[:, :, 0])
        return wald


def curve_differences(comparison: Comparison, *, mean: float, sd: float) -> CurveDifferences:
    """Comparison of all items; N(mean, sd²) is the scale's population."""
    old, windows, across = comparison.published, comparison.fitted, comparison.across_models
    by_model = list(ITEM_MODELS)
    simpler = [
        min(window, of or Fitted(model), key=lambda fit: by_model.index(fit.model)) if is_across else Fitted(model)
        for window, of, model, is_across in zip(windows, old.fitted, comparison.models_published, across, strict=True)
    ]
    learners = np.array([[mean if f.mean is None else f.mean, sd if f.sd is None else f.sd] for f in simpler])
    learners = learners.reshape(-1, 2)
    of_window, of_published = learners.copy(), learners.copy()
    df = 1 + which([fit.model for fit in simpler], lambda model: model.own_slopes)
    for fit in {fit for fit, is_across in zip(simpler, across, strict=True) if is_across}:
        some = across & np.array([one == fit for one in simpler])
        of_the_window = fit in windows
        theirs = of_published if of_the_window else of_window
        if some.sum() >= FEWEST:
            theirs[some] = _placed(comparison.select(some), learners[some], df[some], window_moves=not of_the_window)
    return _differences(comparison, of_window, of_published, df)


def _placed(comparison: Comparison, learners: Floats, df: Ints, *, window_moves: bool) -> Floats:
    """Mean and SD of the learners (J, 2), all equal, on the scale of the window or, else, of the published values."""
    placed = learners.copy()
    for round_ in range(ROUNDS):
        sides = (placed, learners) if window_moves else (learners, placed)
        found = _differences(comparison, *sides, df)
        by_place = found.window.by_place if window_moves else -found.published.by_place
        kept = (found.wald < BEYOND) if round_ > 1 else np.ones(len(df), dtype=bool)
        t, cov, by_place = found.t[kept], found.cov[kept], by_place[kept]
        weight = np.linalg.inv(cov)
        weight[df[kept] == 1] = 0.0
        weight[df[kept] == 1, 0, 0] = 1 / cov[df[kept] == 1, 0, 0]
        information = np.einsum("jmx,jmn,jny->xy", by_place, weight, by_place)
        step = -np.linalg.lstsq(information, np.einsum("jmx,jmn,jn->x", by_place, weight, t), rcond=1e-8)[0]
        moved = placed + np.clip(step, -0.5, 0.5)
        placed = np.column_stack([moved[:, 0], np.maximum(moved[:, 1], 0.1)])
    return placed


def _differences(comparison: Comparison, of_window: Floats, of_published: Floats, df: Ints) -> CurveDifferences:
    """of_window, of_published: mean and SD of the learners (J, 2) on the scale of each side."""
    now, then = Moments.of(comparison.window, of_window), Moments.of(comparison.published, of_published)
    shared = comparison.shared
    both = now.by_parameters[:, :, :2] @ shared @ then.by_parameters[:, :, : shared.shape[2]].transpose(0, 2, 1)
    cov = now.turned(comparison.cov_window) + then.turned(comparison.published.cov_of_all)
    return CurveDifferences(now, then, cov - both - both.transpose(0, 2, 1), df)

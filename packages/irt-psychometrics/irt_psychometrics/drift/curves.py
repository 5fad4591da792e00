"""Difference between an item's curve in the window and its published curve for the same learners, with its errors.

This module contains the statistic that compares curves under a 3PL, of scored items and across models, and its
covariance. items.py flags items; errors.py contains the errors of parameters.

**Across models.** A slope of 0.9 under a 2PL and a slope of 1.2 under a 3PL may describe the same item, unmoved. The
item is unmoved if the answers give the same estimate under the simpler model. Let an item with curve P be answered by
learners with density g. The estimated 2PL curve P₂ has the same share of right answers and the same covariance between
right answers and ability. These are the score equations of a logistic regression, Σ(x − P₂) = 0 and Σ θ(x − P₂) = 0.
Their expectations are

    T = ∫ (1, z)ᵀ (P_window − P_published) g(θ) dθ = 0,    z = (θ − mean)/SD of g,

where g = N(mean, sd²) are the learners of the simpler of the two fits, because the estimate of a misspecified model
depends on the learners (White 1982, Econometrica 50). They hold approximately, because θ is not known but integrated
out. If items of the simpler model have no slopes of their own, only the first component is 0.

Each model has its own scale, and a 3PL puts the same learners at slightly different θ than a 2PL. So on the side of the
other fit, the mean and SD of g are the values that minimise Σ Tᵀ (Cov T)⁻¹ T over the items of one fit without
outliers. With fewer than 5 items, they are the values of the simpler fit. Therefore a change that all items of a fit
have in common is not detected across models.

**Under a 3PL**, a, b and c of an item can compensate for each other with little effect on its curve. A change of b by
0.5 then disappears in the errors of (a, b), but T remains well determined. g is then the scale's population. The same
is true **for an item scored 0 … m**, with a, b and the parameters of its scores. P is its expected score divided by m,
so T has two components for any m, and scores that nobody got on one side have no effect. Changes of single scores are
in `core.category_changes`.

Let H be the derivatives of T with respect to the item's a, b and further parameters (logit c, or t of each score), y
the parameters of the window and p the published parameters. Then

    Cov T = H_y Cov(y) H_yᵀ + H_p Cov(p) H_pᵀ − H_y Cov(y, p) H_pᵀ − H_p Cov(p, y) H_yᵀ,

and Tᵀ (Cov T)⁻¹ T is χ² with 2 degrees of freedom (1 without slopes) if the item has not changed. Published further
parameters without stored errors are treated as known, and the errors of a and b are not reduced; then Cov T is too
large. The covariance of the window's further parameters with the linking's constants is ignored.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.item_models import ITEM_MODELS, items_where
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.drift.errors import Comparison, FitPopulation

MIN_ITEMS = 5
"""Minimum number of a fit's items from which its learners are placed on the scale of another model."""
BEYOND = 13.8
"""Items whose statistic exceeds this (one in a thousand by chance) are not used to place the learners."""
ROUNDS = 8


@dataclass(frozen=True)
class Moments:
    """Moments of the curves of J items.

    Attributes:
        values: ∫ (1, z)ᵀ P(θ) g(θ) dθ, shape (J, 2).
        by_parameters: derivatives with respect to an item's P parameters (a, b and the further parameters), shape (J,
            2, P).
        by_place: derivatives with respect to the mean and SD of g, shape (J, 2, 2).
    """

    values: Floats
    by_parameters: Floats
    by_place: Floats

    @classmethod
    def from_items(cls, items: ItemParameters, learners: Floats) -> Self:
        """Compute the moments. learners: mean and SD of g for each item, shape (J, 2)."""
        grid = Grid.symmetric()
        z, weights = grid.nodes, np.exp(grid.log_weights())
        theta = learners[:, :1] + learners[:, 1:] * z
        p, by_eta = items.curve_at(theta)
        by_b = -by_eta * items.a[:, None]
        by_a = by_eta * (theta - items.b[:, None])
        by_x = np.stack([by_a, by_b, -by_b, -by_b * z, *items.by_further(theta).swapaxes(0, 1)], axis=2)
        moments = np.stack([weights, weights * z])
        by_all = np.einsum("mq,jqx->jmx", moments, by_x)
        return cls(p @ moments.T, np.delete(by_all, [2, 3], axis=2), by_all[:, :, 2:4])

    def propagate(self, cov: Floats) -> Floats:
        """Covariance of the moments, shape (J, 2, 2), from the covariance of the parameters, shape (J, P, P)."""
        return self.by_parameters @ cov @ self.by_parameters.transpose(0, 2, 1)


@dataclass(frozen=True)
class CurveDifferences:
    """T of J items, shape (J, 2): differences of probabilities, and of their covariances with z.

    Attributes
    ----------
    window, published
        The moments whose difference is T.
    cov
        Covariance of T, shape (J, 2, 2).
    df
        Shape (J,), 2, or 1 if only the first component is 0 for an unchanged item.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.drift import CurveDifferences
    >>> from irt_psychometrics.drift.curves import Moments
    >>> old, new = (irt.ItemParameters.from_frame({"item": ["q1"], "a": [1.0], "b": [b]}) for b in (0.0, 0.5))
    >>> both = [Moments.from_items(items, np.array([[0.0, 1.0]])) for items in (new, old)]
    >>> CurveDifferences(*both, cov=0.001 * np.eye(2)[None], df=np.array([2])).t[:, 0].round(2).tolist()  # harder now
    [-0.1]
    """

    window: Moments
    published: Moments
    cov: Floats
    df: Ints

    @property
    def t(self) -> Floats:
        """T, window minus published, shape (J, 2)."""
        return self.window.values - self.published.values

    @property
    def wald(self) -> Floats:
        """Wald statistic, shape (J,); χ² with `df` degrees of freedom if the item has not changed."""
        wald: Floats = self.t[:, 0] ** 2 / self.cov[:, 0, 0]
        t, cov = self.t[self.df == 2], self.cov[self.df == 2]
        wald[self.df == 2] = np.einsum("jk,jk->j", t, np.linalg.solve(cov, t[:, :, None])[:, :, 0])
        return wald


def curve_differences(comparison: Comparison, *, mean: float, sd: float) -> CurveDifferences:
    """Compare the curves of all items. N(mean, sd²) is the scale's population."""
    old, windows, across = comparison.published, comparison.fitted, comparison.across_models
    by_model = list(ITEM_MODELS)
    simpler = [
        min(window, of or FitPopulation(model), key=lambda fit: by_model.index(fit.model))
        if is_across
        else FitPopulation(model)
        for window, of, model, is_across in zip(windows, old.fitted, comparison.models_published, across, strict=True)
    ]
    learners = np.array([[mean if f.mean is None else f.mean, sd if f.sd is None else f.sd] for f in simpler])
    learners = learners.reshape(-1, 2)
    of_window, of_published = learners.copy(), learners.copy()
    df = 1 + items_where([fit.model for fit in simpler], lambda model: model.own_slopes)
    for fit in {fit for fit, is_across in zip(simpler, across, strict=True) if is_across}:
        some = across & np.array([one == fit for one in simpler])
        of_the_window = fit in windows
        moving = of_published if of_the_window else of_window
        if some.sum() >= MIN_ITEMS:
            moving[some] = _place_learners(
                comparison.select(some), learners[some], df[some], window_moves=not of_the_window
            )
    return _differences(comparison, of_window, of_published, df)


def _place_learners(comparison: Comparison, learners: Floats, df: Ints, *, window_moves: bool) -> Floats:
    """Mean and SD of the learners, shape (J, 2) with equal rows, on the scale of the window if `window_moves`, or else
    on the scale of the published values."""
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
    """Compute T. of_window, of_published: mean and SD of the learners on the scale of each side, shape (J, 2)."""
    now, then = Moments.from_items(comparison.window, of_window), Moments.from_items(comparison.published, of_published)
    shared = comparison.shared
    both = now.by_parameters[:, :, :2] @ shared @ then.by_parameters[:, :, : shared.shape[2]].transpose(0, 2, 1)
    cov = now.propagate(comparison.cov_window) + then.propagate(comparison.published.cov_of_all)
    return CurveDifferences(now, then, cov - both - both.transpose(0, 2, 1), df)

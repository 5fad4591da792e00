"""Fits with split items, with known estimates and errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from irt_psychometrics.core.models import Calibration, Convergence, Population
from irt_psychometrics.core.options import Model
from irt_psychometrics.dif.split_items import Copies

LEARNERS = 1000


def split_fit(a: np.ndarray, d: np.ndarray, error: float = 0.05, *, model: Model = "2pl", mean: float = 0.0) -> Copies:
    """Copies of J items in G groups, (G, J) each, with independent errors; the focal groups are N(mean, 1)."""
    G, J = a.shape
    n = G * J
    cov = np.tile(error**2 * np.eye(2), (n, 1, 1))
    if model != "2pl":
        cov[:, 0] = cov[:, :, 0] = 0.0
    groups = tuple(Population(str(g), LEARNERS, mean * (g > 0), 1.0, 0.0, 0.0) for g in range(G))
    counts = np.full(n, LEARNERS)
    fit = Calibration(
        tuple(f"item{k:02d}" for k in range(n)), (model,) * n, "test", "0", a.ravel(), d.ravel(), np.zeros(n), cov,
        None, counts, counts // 2, ((),) * n, 0.0, 1.0, G * LEARNERS, Convergence(True, 1, 0.0, 0.0, -1.0, 2 * n),
        populations=groups,
    )  # fmt: skip
    return Copies(fit, np.arange(n).reshape(G, J))


def without(copies: Copies, group: int, item: int) -> Copies:
    """The same copies, with the copy of `item` in `group` not estimated."""
    k = copies.place[group, item]
    a, d, cov = copies.fit.a.copy(), copies.fit.d.copy(), copies.fit.cov.copy()
    a[k] = d[k] = np.nan
    cov[k] = np.nan
    return replace(copies, fit=replace(copies.fit, a=a, d=d, cov=cov))

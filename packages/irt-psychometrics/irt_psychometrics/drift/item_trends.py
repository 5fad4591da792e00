"""Trends of items that move a little every month, detected over several months before a single month flags them.

This module estimates and tests the slope of an item's change over months. The test of a single month is in items.py.
The caller chooses the months and the published values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.significance import q_values
from irt_psychometrics.drift.errors import Comparison

TREND_FALSE_DISCOVERIES = 0.05


@dataclass(frozen=True)
class Trends:
    """Trends of the J items that were compared in two months or more, as `Drift.with_trends` finds them.

    Attributes
    ----------
    item_ids
        J items, sorted.
    slope, slope_se
        Shape (J,), change of b in θ per month, and its standard error.
    p, q
        Shape (J,), p-value and q value of the hypothesis "the slope is 0"; q is Benjamini & Hochberg's over the J
        items.
    n_months
        Shape (J,), number of months.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.drift import Trends
    >>> p = np.array([0.001, 0.6])
    >>> slope, se = np.array([0.05, 0.01]), np.array([0.015, 0.02])
    >>> Trends(("q1", "q2"), slope, se, p, 2 * p, np.array([6, 6])).flagged
    ('q1',)
    """

    item_ids: tuple[str, ...]
    slope: Floats
    slope_se: Floats
    p: Floats
    q: Floats
    n_months: Ints

    @property
    def flagged(self) -> tuple[str, ...]:
        """Items with q < 0.05."""
        return tuple(item for item, q in zip(self.item_ids, self.q, strict=True) if q < TREND_FALSE_DISCOVERIES)


def trends(comparisons: Sequence[Comparison], elapsed: Sequence[npt.ArrayLike], anchors: AnchorSet) -> Trends:
    """Slopes of b through the published value, by generalised least squares.

    `elapsed`: months, > 0, from publication to each comparison's window: one number, or one for each of its items. The
    line starts at the published value: Δ_t = slope·t. The error of this value and the anchors' errors are part of every
    Δ_t:

        Cov(Δ_t, Δ_u) = P − C A_uᵀ − A_t Cᵀ + A_t S A_uᵀ,    A = ∂b/∂s,

    with P, C and S as in errors.py. The months' own errors are independent. Raises PsychometricsError if `elapsed` does
    not match the comparisons, or if an item's published value is not the same in all months, because a decision starts
    a new trend.
    """
    if len(comparisons) != len(elapsed) or any(np.any(np.asarray(t) <= 0) for t in elapsed):
        raise PsychometricsError(f"every comparison needs the months since publication, above 0; got {list(elapsed)}")
    months: dict[str, list[tuple[float, Comparison, int]]] = {}
    for comparison, since in zip(comparisons, elapsed, strict=True):
        times = np.broadcast_to(since, len(comparison.item_ids)).tolist()
        for j, item in enumerate(comparison.item_ids):
            months.setdefault(item, []).append((times[j], comparison, j))
    seen = {item: found for item, found in sorted(months.items()) if len(found) > 1}
    slope, variance = np.empty(len(seen)), np.empty(len(seen))
    for k, (item, found) in enumerate(seen.items()):
        slope[k], variance[k] = _line(item, found, anchors.joint_cov)
    se = np.sqrt(variance)
    p = 2 * ndtr(-np.abs(slope) / se)
    q = q_values(p)
    return Trends(tuple(seen), slope, se, p, q, np.array([len(found) for found in seen.values()], dtype=np.int64))


def _line(item: str, found: list[tuple[float, Comparison, int]], of_frozen: Floats) -> tuple[float, float]:
    """Slope and its variance from the months of one item."""
    if len({float(c.published.b[j]) for _, c, j in found}) > 1:
        raise PsychometricsError(f"item {item} was published again between these months: give only the months after it")
    t = np.array([time for time, _, _ in found])
    delta = np.array([c.delta[j, 1] for _, c, j in found])
    _, first, j = found[0]
    p_b, with_frozen = first.published.cov[j, 1, 1], first.published.with_anchors[j, 1, : len(of_frozen)]
    by_frozen = np.stack([c.by_anchors[j, 1, : len(of_frozen)] for _, c, j in found])
    common = by_frozen @ with_frozen
    cov = p_b - common[:, None] - common + by_frozen @ of_frozen @ by_frozen.T
    cov[np.diag_indices(t.size)] = [c.cov[j, 1, 1] for _, c, j in found]
    weighted = np.linalg.solve(cov, t)
    variance = 1 / (t @ weighted)
    return float(variance * (weighted @ delta)), float(variance)

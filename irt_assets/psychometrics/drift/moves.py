"""A window aligned with all published values in force: how much items vary, and whether the anchors moved as a group.

Belongs here: the second alignment of a month, by a line of its own, which drift and the gate on the anchors ask. Does
not belong here: the first one, from the frozen anchors alone, whose constants put the month on the scale (`linking`);
the test of an item (items.py); the errors (errors.py).

An item's two differences are in ln a and b. Of items that are compared by their curves they are J⁻¹T (curves.py), with
J = ∂T/∂(ln a, b) of the published curve; where only the first component of T says something, that over ∂T₁/∂b. They are
taken as linear in the constants, which are near 1 and 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from irt_assets.psychometrics.alignment.align import Alignment, Differences, align
from irt_assets.psychometrics.core.arrays import Floats, Mask
from irt_assets.psychometrics.core.item_models import which
from irt_assets.psychometrics.drift.curves import curve_differences
from irt_assets.psychometrics.drift.errors import Comparison

_MOST_STARTS = 50
"""Of anchors and of other items each."""
_MOST_ALIKE = 1e8


@dataclass(frozen=True)
class Moves:
    """How a window's J items lie to the published values.

    Attributes:
        line: from all of them; its constants are no one's but its own. `line.d` and `line.d_cov` are the items' moves
            in (ln a, b) against the others of their group, and their errors with τ.
        others: shape (J,), the items that are no anchors.
        shift, shift_se: by how much b of the anchors moved against that of the others, above 0: harder; from those of
            both that did not move singly. NaN where of either none are left.
    """

    item_ids: tuple[str, ...]
    line: Alignment
    others: Mask
    shift: float
    shift_se: float

    @property
    def tau(self) -> float:
        return self.line.tau

    @property
    def moved(self) -> tuple[str, ...]:
        """Items that moved singly."""
        return tuple(np.array(self.item_ids, dtype=object)[~self.line.kept])

    @property
    def n_others(self) -> int:
        """How many of the others determine the shift."""
        return int((self.line.kept & self.others).sum())


def moves(comparison: Comparison, *, mean: float = 0.0, sd: float = 1.0, expected_variation: float = 0.10) -> Moves:
    """N(mean, sd²): the scale's population, over which curves are compared; expected_variation: the rule
    `item_variation`.

    Raises NoLineError where no three items lie on one line.
    """
    at, others = differences(comparison, mean, sd), ~comparison.anchors
    both = bool(others.any() and not others.all())

    def by_line(slope: float, intercept: float) -> Differences:
        constants = np.array([np.log(slope), intercept])[-at.by_constants.shape[2] :]
        return replace(at, d=at.d + at.by_constants @ constants)

    line = align(by_line, _starts(at, others), others=others if both else None, expected_variation=expected_variation)
    told = both and (line.kept & others).any() and (line.kept & ~others).any()
    shift, shift_se = (line.constants[-1], np.sqrt(line.cov[-1, -1])) if told else (np.nan, np.nan)
    return Moves(comparison.item_ids, line, others, float(shift), float(shift_se))


def differences(comparison: Comparison, mean: float, sd: float) -> Differences:
    """Of all items, on the line that put the window on the scale."""
    window, published, apart = comparison.window, comparison.published, comparison.apart
    d = np.stack([np.log(window.a / published.a), window.b - published.b], axis=1)
    by_window, by_published = np.zeros((2, len(d), 2, 3))
    by_window[:, 0, 0], by_published[:, 0, 0] = 1 / window.a, 1 / published.a
    by_window[:, 1, 1] = by_published[:, 1, 1] = 1.0
    own_slopes, curved = comparison.tests_slopes, comparison.by_curves
    if curved.any():
        curves = curve_differences(comparison, mean=mean, sd=sd)
        units = curves.published.by_parameters[:, :, :2] * np.stack([published.a, np.ones(len(d))], axis=1)[:, None]
        units[curves.df == 1] = units[curves.df == 1, 0, 1][:, None, None] * np.array([[0.0, 1.0], [1.0, 0.0]])
        curved = curved & (np.linalg.cond(units) < _MOST_ALIKE)
        to_units = np.linalg.inv(units[curved])
        d[curved] = (to_units @ curves.t[curved, :, None])[:, :, 0]
        by_window[curved] = to_units @ curves.window.by_parameters[curved]
        by_published[curved] = to_units @ curves.published.by_parameters[curved]
        own_slopes = np.where(curved, curves.df == 2, own_slopes)
    slope_fixed = which(comparison.models, lambda model: model.fixed_slopes).all()
    return Differences(
        d,
        by_constants=by_published[:, :, :2] @ apart.by_line[:, :, 1 if slope_fixed else 0 :],
        cov=by_window @ apart.window @ by_window.swapaxes(1, 2)
        + by_published @ apart.published @ by_published.swapaxes(1, 2),
        own_slopes=own_slopes,
        common=by_published @ apart.common,
        common_cov=apart.common_cov,
    )


def _starts(at: Differences, others: Mask) -> Floats:
    """Lines through one item's b with the median slope, (slope, intercept) each."""
    log_slope = float(np.median(at.d[:, 0])) if at.by_constants.shape[2] == 2 else 0.0
    intercepts = -(at.d[:, 1] + at.by_constants[:, 1, 0] * log_slope)
    some = np.concatenate(
        [of[:: -(-of.size // _MOST_STARTS)] for of in map(np.flatnonzero, (others, ~others)) if of.size]
    )
    return np.column_stack([np.full(some.size, np.exp(log_slope)), intercepts[some]])

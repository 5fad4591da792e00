"""A window aligned with all published values in force: how much items vary, which moved, and the anchors as a group.

Belongs here: the second alignment of a month, by a line of its own, which drift and the gate on the anchors ask. Does
not belong here: the first one, from the frozen anchors alone, whose constants put the month on the scale (`linking`);
which moves matter (items.py); the errors (errors.py).

An item's two differences are J⁻¹ΔT, in units of ln a and b: T are (a, d), d = −a·b, or the moments of curves where
these are compared (curves.py), and J = ∂T/∂(ln a, b) in the middle of both sides. Where only the first moment says
something, it is that over ∂T₁/∂b. They are linear in the constants, which are near 1 and 0. In (a, d), each side with
its own errors, estimates are closest to normal: at N = 500 against 5000, tested in (a, b), 11 % of sound months had a
flag, in (a, d) 5 %.
"""

from dataclasses import dataclass, replace

import numpy as np

from irt_psychometrics.alignment.common_line import Alignment, Differences, align, say_two_things
from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.core.item_models import which
from irt_psychometrics.drift.curves import curve_differences
from irt_psychometrics.drift.errors import Comparison, ad_by_ab, middle_of
from irt_psychometrics.linking.criteria import by_b_alone

_MOST_STARTS = 50
"""Lines that the search begins with, by group of items."""


@dataclass(frozen=True)
class Moves:
    """How a window's J items lie to the published values, the anchors and the others as two groups.

    Attributes:
        line: through all of them, with constants of its own. `line.d` and `line.d_cov` are the items' moves in ln a
            and b against the others of their group, and their errors with τ.
        others: shape (J,), the items besides the anchors.
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
    others = ~comparison.anchors
    both = bool(others.any() and not others.all())
    at, _ = differences(comparison, mean, sd)
    line = second_line(at, others if both else None, expected_variation)
    told = both and (line.kept & others).any() and (line.kept & ~others).any()
    shift, shift_se = (line.constants[-1], np.sqrt(line.cov[-1, -1])) if told else (np.nan, np.nan)
    return Moves(comparison.item_ids, line, others, float(shift), float(shift_se))


def second_line(at: Differences, others: Mask | None, expected_variation: float) -> Alignment:
    """The line through all items; others: see `align`. Raises NoLineError where no three items lie on one line.

    It is looked for with half of the expected variation: with all of it, many items that moved are taken for variation
    (simulated, 16 of 40 moved by .4 in either direction, 2,000 learners: 63 % of them named, with half of it 76 %, and
    as few of those that only vary by as much as is expected).
    """

    def by_line(slope: float, intercept: float) -> Differences:
        constants = np.array([np.log(slope), intercept])[-at.by_constants.shape[2] :]
        return replace(at, d=at.d + at.by_constants @ constants)

    return align(by_line, _starts(at, others), others=others, expected_variation=expected_variation / 2)


def differences(comparison: Comparison, mean: float, sd: float) -> tuple[Differences, Floats]:
    """Differences of all items on the line that put the window on the scale, with their errors apart from any line; and
    their covariances (J, 2, 2) with the errors of that line."""
    window, published, apart = comparison.window, comparison.published, comparison.apart
    middle = middle_of(window, published)
    of_ab = np.stack([middle.a, np.ones_like(middle.a)], axis=1)[:, None]
    change = np.stack([window.a - published.a, published.a * published.b - window.a * window.b], axis=1)
    of_stored = comparison.cov / (of_ab * of_ab.swapaxes(1, 2))
    by_window, by_published = np.zeros((2, len(change), 2, apart.window.shape[1]))
    by_window[:, :, :2], by_published[:, :, :2] = ad_by_ab(window), ad_by_ab(published)
    units, own_slopes, curved = ad_by_ab(middle) * of_ab, comparison.tests_slopes, comparison.by_curves
    if curved.any():
        curves = curve_differences(comparison, mean=mean, sd=sd)
        by_curves = curves.published.by_parameters[:, :, :2] * of_ab
        by_curves[curves.df == 1] = by_b_alone(by_curves[curves.df == 1])
        curved = curved & say_two_things(by_curves)
        units[curved], change[curved] = by_curves[curved], curves.t[curved]
        by_window[curved] = curves.window.by_parameters[curved]
        by_published[curved] = curves.published.by_parameters[curved]
        own_slopes = np.where(curved, curves.df == 2, own_slopes)
    to_units = np.linalg.inv(units)
    if curved.any():
        of_stored[curved] = (to_units @ curves.cov @ to_units.swapaxes(1, 2))[curved]
    by_line = np.zeros((len(change), 2, 2))
    by_line[:, 0, 0], by_line[:, 1, 0], by_line[:, 1, 1] = -1.0, middle.b, 1.0
    slope_fixed = which(comparison.models, lambda model: model.fixed_slopes).all()
    by_window, by_published = to_units @ by_window, to_units @ by_published
    at = Differences(
        (to_units @ change[:, :, None])[:, :, 0],
        by_constants=by_line[:, :, 1 if slope_fixed else 0 :],
        cov=by_window @ apart.window @ by_window.swapaxes(1, 2)
        + by_published @ apart.published @ by_published.swapaxes(1, 2),
        own_slopes=own_slopes,
        common=np.concatenate([np.eye(2) / of_ab.swapaxes(1, 2), by_published[:, :, 2:]], axis=2) @ apart.common,
        common_cov=apart.common_cov,
    )
    return at, of_stored


def _starts(at: Differences, others: Mask | None) -> Floats:
    """Lines through one item's b with the median slope, (slope, intercept) each; of each group some."""
    groups = [np.arange(len(at.d))] if others is None else [np.flatnonzero(others), np.flatnonzero(~others)]
    log_slope = float(np.median(at.d[:, 0])) if at.by_constants.shape[2] == 2 else 0.0
    intercepts = -(at.d[:, 1] + at.by_constants[:, 1, 0] * log_slope)
    some = np.concatenate([group[:: -(-group.size // _MOST_STARTS)] for group in groups])
    return np.column_stack([np.full(some.size, np.exp(log_slope)), intercepts[some]])

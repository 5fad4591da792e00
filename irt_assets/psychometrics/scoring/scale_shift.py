"""How far a month's values move θ on the same answers, and how far their errors alone would.

Belongs here: learners scored twice, the error of the difference, and how much of it is too much. Does not belong here:
which items and learners are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_assets.psychometrics.core.items import ItemParameters
from irt_assets.psychometrics.core.models import Floats, Responses
from irt_assets.psychometrics.scoring.abilities import wle

FEWEST_ANSWERS = 5
"""A learner with fewer answers to the compared items is left out: too few to estimate θ from."""


LARGEST_SHIFT = 0.1
"""Largest accepted shift in SDs of the scale's population: a third to a half of a good test's standard error."""
LARGEST_FLIP = 0.02
"""Largest accepted share of learners who flip, one way net of the other."""
Z = 2.33
"""Number of standard errors from 0 at which a shift or a flip counts: one-sided 1 %."""


@dataclass(frozen=True)
class Placement:
    """The linking by which values were put on the scale; cov, shape (2, 2): of (slope, intercept)."""

    slope: float
    intercept: float
    cov: Floats

    def variance_at(self, theta: float) -> float:
        """Error variance of θ there from the constants alone."""
        by = np.array([(theta - self.intercept) / self.slope, 1.0])
        return float(by @ self.cov @ by)


@dataclass(frozen=True)
class Shift:
    """θ by the new values less θ by the old ones.

    Attributes:
        learners, items: compared. mean: of the learners' θ, new minus old. theta: their mean θ by the old values.
        items_variance: error variance of `mean` from the items' own errors.
        shares: shape (J,), how much each item has to say in `mean`; they add up to 1.
    """

    learners: int
    items: int
    mean: float
    theta: float
    items_variance: float
    shares: Floats

    def se(self, theta: float, new: Placement, old: Sequence[Placement], of: npt.NDArray[np.intp]) -> float:
        """Standard error of a shift at `theta`, from the items' errors and from both sides' linkings.

        of: shape (J,), index into `old` of the linking that an item's old value was placed by, −1 where none was. What
        the linkings have in common, the anchors' own errors, is counted on every side though it cancels: the SE errs on
        the large side.
        """
        variance = self.items_variance + new.variance_at(theta)
        for k, placement in enumerate(old):
            variance += float(self.shares[of == k].sum()) ** 2 * placement.variance_at(theta)
        return float(np.sqrt(variance))


@dataclass(frozen=True)
class MonthImpact:
    """What the month's values do to θ on the same answers.

    Attributes:
        why: why nothing could be compared, else empty; the numbers are then zero.
        learners, items: behind `shift`. shift, shift_se: mean change of θ, and its standard error.
        sd: of the scale's population, the unit of the limit.
        pass_theta: the scale's pass mark, None where none is set. scored, newly_passed, newly_failed: learners whose θ
            is reported, and who of them crosses the mark. flip_se: standard error of the net share that crosses.
    """

    why: str = ""
    learners: int = 0
    items: int = 0
    shift: float = 0.0
    shift_se: float = 0.0
    sd: float = 1.0
    pass_theta: float | None = None
    scored: int = 0
    newly_passed: int = 0
    newly_failed: int = 0
    flip_se: float = 0.0

    @property
    def flip(self) -> float:
        """Share of the learners that newly pass, less the share that newly fails."""
        return (self.newly_passed - self.newly_failed) / self.scored if self.scored else 0.0

    @property
    def shifts(self) -> bool:
        return abs(self.shift) > max(LARGEST_SHIFT * self.sd, Z * self.shift_se)

    @property
    def flips(self) -> bool:
        return abs(self.flip) > max(LARGEST_FLIP, Z * self.flip_se)

    @property
    def sentence(self) -> str:
        if self.why:
            return self.why
        limit = max(LARGEST_SHIFT * self.sd, Z * self.shift_se)
        summary = (
            f"on the same answers of {self.learners:,} learners to {self.items} published items other than anchors, "
            f"the month's values move θ by {self.shift:+.2f} on average (SE {self.shift_se:.2f}, limit {limit:.2f})"
        )
        if self.shifts:
            summary += ": the anchors and the others moved against each other, each group together"
        if self.pass_theta is None:
            return summary
        return (
            f"{summary}; at θ = {self.pass_theta:g}, {self.newly_passed:,} of {self.scored:,} newly pass and "
            f"{self.newly_failed:,} newly fail: {self.flip:+.1%} (SE {self.flip_se:.1%}, limit "
            f"{max(LARGEST_FLIP, Z * self.flip_se):.1%})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Its numbers as plain data."""
        return asdict(self)


def scale_shift(
    responses: Responses, old: ItemParameters, new: ItemParameters, *, mean: float, sd: float
) -> Shift | None:
    """The mean shift over learners with at least 5 answers to the items; None if no learner has as many.

    θ is Warm's WLE: it has no prior that would draw both sides to one mean, so where all b move by δ the shift is δ,
    and where only errors moved them it is 0 in expectation. `mean` and `sd` say where the search for θ begins.

    The shift's error is that of Σ_j (∂θ/∂a_j·Δa_j + ∂θ/∂b_j·Δb_j), with ∂θ/∂b_j = I_j/I and ∂θ/∂a_j = −I_j·(θ − b_j)/
    (a_j·I), I the information of the items answered, averaged over learners: from the items' covariances on both sides,
    or from how far the items' own shifts differ, whichever is larger. A few items that changed widen it. What is not
    known of the covariances counts as 0, as the items' spread includes it.
    """
    before, after = (wle(responses, of.curves, mean=mean, sd=sd).theta for of in (old, new))
    answers = np.bincount(responses.person, minlength=responses.n_persons)
    enough = (answers >= FEWEST_ANSWERS) & np.isfinite(before) & np.isfinite(after)
    n = int(enough.sum())
    if not n:
        return None
    mine = enough[responses.person]
    person, item = responses.person[mine], responses.item[mine]
    theta = (before + after)[person] / 2
    a, b = old.a[item], old.b[item]
    information = old.information_of(item, theta)
    total = np.bincount(person, information, minlength=responses.n_persons)[person]
    by_b = np.bincount(item, information / total, minlength=responses.n_items) / n
    by_a = np.bincount(item, -information * (theta - b) / (a * total), minlength=responses.n_items) / n
    mean_shift = float((after - before)[enough].mean())
    gradient = np.stack([by_a, by_b], axis=1)
    by_errors = float(np.einsum("jx,jxy,jy->", gradient, np.nan_to_num(old.cov) + np.nan_to_num(new.cov), gradient))
    rest = by_a * (new.a - old.a) + by_b * (new.b - old.b - mean_shift)
    seen = int((by_b > 0).sum())
    by_spread = float(rest @ rest) * seen / (seen - 1) if seen > 1 else 0.0
    return Shift(n, seen, mean_shift, float(before[enough].mean()), max(by_errors, by_spread), by_b)

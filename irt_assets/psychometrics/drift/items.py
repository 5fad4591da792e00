"""Which items moved against the published set, and how much it matters.

Belongs here: the test of a window's items, the severity that follows from it, and what is shown next to it. Does not
belong here: the errors of the differences (errors.py), trends over months (trends.py), what kind of change
it is (kinds.py).

An item is flagged when it certainly moved more than items of its bank do, that is q < 0.05 after Benjamini & Hochberg
(1995) over the scale's items of a joint Wald test of both its parameters, whose errors hold the variation of those that
did not move (moves.py), and when it *matters*: wABC, the area between the two response curves
weighted by the population (Edelen, Stucky & Chandra 2015), exceeds 0.05 (medium) or 0.10 (high), the limits of
standardised differences of proportions (Dorans & Kulick 1986). A wABC of 0.05 means that the expected score differs by
5 percentage points on average.

Items of a 3PL, and those whose published values are of another model, are tested on what their two curves say of the
same learners (curves.py). Parameters of two models are not compared, and their changes are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import chdtrc, ndtr

from irt_assets.psychometrics.alignment.align import FEWEST, NoLineError
from irt_assets.psychometrics.core.arrays import Floats
from irt_assets.psychometrics.core.curves import HIGH_WABC, MEDIUM_WABC
from irt_assets.psychometrics.core.items import wabc
from irt_assets.psychometrics.core.options import Model
from irt_assets.psychometrics.core.significance import q_values
from irt_assets.psychometrics.drift.curves import CurveDifferences, curve_differences
from irt_assets.psychometrics.drift.errors import Comparison
from irt_assets.psychometrics.drift.moves import moves
from irt_assets.psychometrics.eligibility.rules import Rules

Severity = Literal["none", "medium", "high"]

FALSE_DISCOVERIES = 0.05
LIMITS = {"a": (0.2, 0.4), "b": (0.25, 0.5), "c": (0.03, np.inf)}
"""The limits on |Δ| that the requirement documents name, medium and high; shown, never used."""
LARGE_A, LARGE_B = 0.2, 0.3
PRIOR_SD_B = 0.5
"""Under drift Δb ~ N(0, 0.5²), for the Bayes factor."""


@dataclass(frozen=True)
class Drift:
    """The J compared items of a window.

    Attributes:
        comparison: the differences; their errors hold what the items vary by, at most `most_tau`.
        tau: SD by which b of the items that did not move varies.
        wald, p, q: shape (J,), of "it moved by no more than others"; of items compared by their curves, of "both curves
            say the same of the learners".
        wabc: shape (J,), a probability.
        severity: J of "none", "medium", "high".
        curves: what was tested of items that are compared by their curves; None where none is.
    """

    comparison: Comparison
    tau: float
    most_tau: float
    wald: Floats
    p: Floats
    q: Floats
    wabc: Floats
    severity: tuple[Severity, ...]
    curves: CurveDifferences | None = None

    @property
    def item_ids(self) -> tuple[str, ...]:
        return self.comparison.item_ids

    @property
    def at_the_limit(self) -> bool:
        """Whether items vary by more than is allowed for, so that many may be flagged."""
        return self.tau > self.most_tau

    @property
    def flagged(self) -> tuple[str, ...]:
        return tuple(item for item, level in zip(self.item_ids, self.severity, strict=True) if level != "none")

    @property
    def delta_a(self) -> Floats:
        return self.comparison.delta[:, 0]

    @property
    def delta_b(self) -> Floats:
        return self.comparison.delta[:, 1]

    @property
    def delta_c(self) -> Floats:
        """Shape (J,); its standard error is that of the window's c, as a published c has none."""
        comparison = self.comparison
        return np.where(comparison.across_models, np.nan, comparison.window.c - comparison.published.c)

    @property
    def se(self) -> Floats:
        """Shape (J, 2): standard errors of Δa and Δb; NaN across models."""
        se = np.sqrt(np.einsum("jkk->jk", self.comparison.cov))
        return np.where(self.comparison.across_models[:, None], np.nan, se)

    @property
    def across_models(self) -> dict[str, tuple[Model, Model]]:
        """Item → the model it was published as, and the one it was fitted as, where these differ."""
        of = self.comparison
        models = zip(of.item_ids, of.models_published, of.models, strict=True)
        return {item: (published, fitted) for item, published, fitted in models if published != fitted}

    def beyond_limits(self, parameter: Literal["a", "b", "c"]) -> tuple[Severity, ...]:
        """Class of |Δ| by the documents' limits, whatever its error; "none" across models."""
        change = {"a": self.delta_a, "b": self.delta_b, "c": self.delta_c}[parameter]
        return graded(np.abs(change), *LIMITS[parameter])

    @property
    def chance_b_large(self) -> Floats:
        """Shape (J,): P(|Δb| > 0.3 | data), flat prior."""
        return _beyond(LARGE_B, self.delta_b, self.se[:, 1])

    @property
    def chance_a_large(self) -> Floats:
        """Shape (J,): P(|Δa| > 0.2 | data), flat prior."""
        return _beyond(LARGE_A, self.delta_a, self.se[:, 0])

    @property
    def log_bayes_factor(self) -> Floats:
        """Shape (J,): natural log of the evidence for Δb ~ N(0, 0.5²) over Δb = 0.

        Savage & Dickey's ratio of the prior's to the posterior's density at 0 (Dickey 1971), both normal.
        """
        v, d = self.se[:, 1] ** 2, self.delta_b
        wide = v + PRIOR_SD_B**2
        return (np.log(v / wide) + d**2 * (1 / v - 1 / wide)) / 2


def judge(comparison: Comparison, *, mean: float = 0.0, sd: float = 1.0, rules: Rules | None = None) -> Drift:
    """Judge the compared items; N(mean, sd²) is the scale's population, over which wABC is taken.

    A model without slopes of items' own is tested on b alone.
    """
    rules = rules or Rules()
    most, expected = rules.warnings.item_variation_max, rules.linking.item_variation
    of_slopes, tau = _variation(comparison, mean, sd, expected)
    comparison = comparison.varying(min(of_slopes, most), min(tau, most))
    slopes = comparison.tests_slopes
    of_b = np.stack([np.zeros(len(slopes)), comparison.window.b - comparison.published.b], axis=1)
    difference = np.where(slopes[:, None], comparison.delta_ad, of_b)
    cov, degrees = comparison.cov_ad.copy(), 1 + slopes
    cov[~slopes] = np.eye(2)
    cov[~slopes, 1, 1] = comparison.cov[~slopes, 1, 1]
    wald = np.einsum("jk,jk->j", difference, np.linalg.solve(cov, difference[:, :, None])[:, :, 0])
    curves = None
    if (by_curves := comparison.by_curves).any():
        curves = curve_differences(comparison, mean=mean, sd=sd)
        wald[by_curves], degrees[by_curves] = curves.wald[by_curves], curves.df[by_curves]
    p = chdtrc(degrees, np.maximum(wald, 0))
    q = q_values(p)
    area = wabc(comparison.window, comparison.published, mean, sd)
    severity = graded(np.where(q < FALSE_DISCOVERIES, area, 0.0), MEDIUM_WABC, HIGH_WABC)
    return Drift(comparison, tau, most, wald, p, q, area, severity, curves)


def _variation(comparison: Comparison, mean: float, sd: float, expected: float) -> tuple[float, float]:
    """SDs by which ln a and b vary; of b what is `expected` where there are too few items to tell, and no limit where
    they have no line in common."""
    if len(comparison.item_ids) < FEWEST:
        return 0.0, expected
    try:
        line = moves(comparison, mean=mean, sd=sd, expected_variation=expected).line
    except NoLineError:
        return 0.0, np.inf
    return line.tau_slope, line.tau


def graded(size: Floats, medium: float, high: float) -> tuple[Severity, ...]:
    """What exceeds `high`, `medium`, or neither; of J sizes."""
    return tuple("high" if x > high else "medium" if x > medium else "none" for x in size)


def _beyond(limit: float, estimate: Floats, se: Floats) -> Floats:
    """P(|x| > limit) for x ~ N(estimate, se²)."""
    return ndtr((-limit - estimate) / se) + ndtr((estimate - limit) / se)

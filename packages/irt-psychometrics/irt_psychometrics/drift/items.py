"""Which items moved against the published set, and how much it matters.

Belongs here: the test of a window's items, the severity that follows from it, and what is shown next to it. Does not
belong here: the errors of the differences (errors.py), trends over months (item_trends.py), what kind of change
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

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, ndtr

from irt_psychometrics.alignment.common_line import FEWEST, NoLineError, quadratic
from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.curves import HIGH_WABC, MEDIUM_WABC
from irt_psychometrics.core.items import ItemParameters, wabc
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.significance import q_values
from irt_psychometrics.drift.curves import CurveDifferences, curve_differences
from irt_psychometrics.drift.errors import Comparison
from irt_psychometrics.drift.group_shift import ShiftAgainstAnchors, shift_against_anchors
from irt_psychometrics.drift.item_trends import Trends, trends
from irt_psychometrics.drift.kinds import Change, TimedAnswers, classify_changes
from irt_psychometrics.drift.moves import differences, second_line
from irt_psychometrics.drift.proportion_correct import ProportionsCorrect, proportions_correct
from irt_psychometrics.drift.severity import FALSE_DISCOVERIES, Severity, graded

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
        trends: of the items over several months, as `with_trends` adds them.
        proportions: tests of items without an estimate, as `with_proportions` adds them.
        changes: item → what happened to it, as `with_changes` adds them.
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
    trends: Trends | None = None
    proportions: ProportionsCorrect | None = None
    changes: dict[str, Change] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        comparison: Comparison,
        *,
        mean: float = 0.0,
        sd: float = 1.0,
        item_variation: float = 0.10,
        max_item_variation: float = 0.10,
        misfit_accepted: bool = False,
    ) -> Self:
        """Judge the compared items; N(mean, sd²) is the scale's population, over which wABC is taken.

        An item is tested by how far it lies off the line of the others. A model without slopes of items' own is tested
        on b alone. Where no three items tell how much they vary, they are compared by the line that put the window on
        the scale, and vary as `item_variation` expects; where they lie on no line, by as much as is allowed for. Where
        misfit was accepted, such as a second ability that moves its items together, all vary by half of
        `item_variation` or more.
        """
        most, expected = max_item_variation, item_variation
        least = expected / 2 if misfit_accepted else 0.0
        at, of_stored = differences(comparison, mean, sd)
        tau, of_slopes = (expected if len(at.d) < FEWEST else np.inf), 0.0
        try:
            line = second_line(at, None, expected) if len(at.d) >= FEWEST else None
        except NoLineError:
            line = None
        if line is None:
            wald = quadratic(at.d, of_stored + np.diag([0.0, min(tau, most) ** 2]), at.own_slopes)
        else:
            wald, tau, of_slopes = line.distances(least, most), line.tau, line.tau_slope
        comparison = comparison.varying(min(of_slopes, most), min(max(tau, least), most))
        curves = curve_differences(comparison, mean=mean, sd=sd) if comparison.by_curves.any() else None
        p = chdtrc(1 + at.own_slopes, np.maximum(wald, 0))
        q = q_values(p)
        area = wabc(comparison.window, comparison.published, mean, sd)
        severity = graded(np.where(q < FALSE_DISCOVERIES, area, 0.0), MEDIUM_WABC, HIGH_WABC)
        return cls(comparison, tau, most, wald, p, q, area, severity, curves)

    @staticmethod
    def of_anchors(
        comparison: Comparison, *, mean: float = 0.0, sd: float = 1.0, expected_variation: float = 0.10
    ) -> ShiftAgainstAnchors:
        """By how much b of the other published items moved as a group against b of the anchors.

        Args:
            mean, sd: of the scale's population, over which curves are compared.
            expected_variation: SD by which an item's b is expected to vary beyond errors.

        Raises PsychometricsError if the two groups cannot be compared.
        """
        return shift_against_anchors(comparison, mean=mean, sd=sd, expected_variation=expected_variation)

    def with_trends(
        self, comparisons: Sequence[Comparison], elapsed: Sequence[npt.ArrayLike], anchors: AnchorSet
    ) -> Self:
        """The same with the slopes of b over several months.

        Args:
            comparisons: of these months, each with the same published values.
            elapsed: months, > 0, from publication to each comparison's window: one number, or one for each item.
            anchors: the frozen anchors, whose errors all months share.

        Raises PsychometricsError if an item's published value is not the same in all months.
        """
        return replace(self, trends=trends(comparisons, elapsed, anchors))

    def with_proportions(
        self,
        responses: Responses,
        items: Collection[str],
        published: ItemParameters,
        *,
        mean: float,
        sd: float,
        mean_se: float = 0.0,
    ) -> Self:
        """The same with tests of `items` that have no estimate: whether they are answered as published.

        Args:
            responses: of the window.
            items: those with enough answers are tested; they do not contribute to anyone's θ.
            published: in the order of `responses.item_ids`.
            mean, sd: of the window's learners on the bank's scale, θ ~ N(mean, sd²). mean_se: the error of the mean.
        """
        found = proportions_correct(responses, items, published, mean=mean, sd=sd, mean_se=mean_se)
        return replace(self, proportions=found)

    def with_changes(
        self, answers: TimedAnswers, items: Collection[str], published: ItemParameters, *, mean: float, sd: float
    ) -> Self:
        """The same with the kind of change of each of `items`: drift, a leak or a wrong key.

        Args:
            answers: of the window, unfiltered.
            published: in the order of `answers.item_ids`.
            mean, sd: of the window's learners on the bank's scale, θ ~ N(mean, sd²).
        """
        return replace(self, changes=classify_changes(answers, items, published, mean=mean, sd=sd))

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


def _beyond(limit: float, estimate: Floats, se: Floats) -> Floats:
    """P(|x| > limit) for x ~ N(estimate, se²)."""
    return ndtr((-limit - estimate) / se) + ndtr((estimate - limit) / se)

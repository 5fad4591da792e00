"""Test of items against the published set, and the severity of their changes.

This module tests a window's items, derives severities, and computes other measures that are shown next to them. The
errors of the differences are in errors.py, trends over months in item_trends.py, and kinds of change in
change_types.py.

An item is flagged under two conditions. First, it moved significantly more than items of its bank vary: q < 0.05 by
Benjamini & Hochberg (1995) over the scale's items. The test is a joint Wald test of both its parameters, whose errors
include the variation of items that did not move (anchor_alignment.py). Second, the move *matters*: wABC, the area
between the two response curves weighted by the population (Edelen, Stucky & Chandra 2015), exceeds 0.05 (medium) or
0.10 (high), the limits of standardised differences of proportions (Dorans & Kulick 1986). A wABC of 0.05 means that the
expected score differs by 5 percentage points on average.

Items of a 3PL, and items whose published values are from another model, are tested by the difference between their two
curves for the same learners (curves.py). Parameters of two models are not compared, and their changes are NaN.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, ndtr

from irt_psychometrics.alignment.common_line import MIN_ITEMS, NoLineError, quadratic
from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.category_changes import CategoryChanges, score_counts
from irt_psychometrics.core.curves import HIGH_WABC, MEDIUM_WABC
from irt_psychometrics.core.items import ItemParameters, wabc
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.significance import q_values
from irt_psychometrics.drift.anchor_alignment import differences, second_line
from irt_psychometrics.drift.change_types import Change, TimedAnswers, classify_changes
from irt_psychometrics.drift.curves import CurveDifferences, curve_differences
from irt_psychometrics.drift.errors import Comparison
from irt_psychometrics.drift.group_shift import ShiftAgainstAnchors, shift_against_anchors
from irt_psychometrics.drift.item_trends import Trends, trends
from irt_psychometrics.drift.proportion_correct import ProportionsCorrect, proportions_correct
from irt_psychometrics.drift.severity import FALSE_DISCOVERIES, Severity, grade_severity

LIMITS = {"a": (0.2, 0.4), "b": (0.25, 0.5), "c": (0.03, np.inf)}
"""Limits on |Δ| from the requirement documents, above which a change is medium or high. They are shown, but decide
nothing."""
LARGE_A, LARGE_B = 0.2, 0.3
PRIOR_SD_B = 0.5
"""SD of Δb under drift, for the Bayes factor."""


@dataclass(frozen=True)
class Drift:
    """Drift of the J compared items of a window.

    `irt_psychometrics.find_drift` gives the same tests as a table of items.

    Attributes
    ----------
    comparison
        The differences; their errors include the variation of items, limited to `most_tau`.
    tau
        SD of the variation in b of items that did not move.
    most_tau
        Largest variation that is allowed for.
    wald, p, q
        Shape (J,), Wald statistic, p-value and q value of the hypothesis "it moved by no more than other items" or, for
        items compared by their curves, "both curves have the same moments" (curves.py).
    wabc
        Shape (J,), weighted area between the curves, a probability.
    severity
        J of "none", "medium", "high".
    curves
        The tested differences of curves; None if no item is compared by its curves.
    categories
        Changes of single categories of scored items, from `with_categories`.
    trends
        Trends of the items over several months, from `with_trends`.
    proportions
        Tests of items without an estimate, from `with_proportions`.
    changes
        Changes by item, from `with_changes`.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.drift import Comparison, Drift, Published
    >>> from irt_psychometrics.linking import AnchorSet, link_to_anchors
    >>> old, new = irt.datasets.two_forms()
    >>> f, g = irt.fit(old.responses), irt.fit(new.responses)
    >>> more = {"scale_id": "maths", "version": "1", "topics": (None,) * 30, "errors_assumed": np.zeros(30, dtype=bool)}
    >>> anchors = AnchorSet(**vars(f.calibration.items), **more)
    >>> linking, published = link_to_anchors(g.calibration, anchors), Published.from_anchors(anchors)
    >>> comparison = Comparison.from_linked_fit(g.calibration, linking, anchors, published)
    >>> Drift.from_comparison(comparison).flagged  # the common items did not change
    ()
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
    categories: CategoryChanges | None = None
    trends: Trends | None = None
    proportions: ProportionsCorrect | None = None
    changes: dict[str, Change] = field(default_factory=dict)

    @classmethod
    def from_comparison(
        cls,
        comparison: Comparison,
        *,
        mean: float = 0.0,
        sd: float = 1.0,
        item_variation: float = 0.10,
        max_item_variation: float = 0.10,
        misfit_accepted: bool = False,
    ) -> Self:
        """Test the compared items.

        An item is tested by its distance from the line of the other items. If items have no slopes of their own, only b
        is tested.

        If fewer than three items are compared, their variation cannot be estimated. They are then compared with the
        line that put the window on the scale, and their variation is `item_variation`. If no three items lie on one
        line, it is `max_item_variation`.

        Parameters
        ----------
        comparison
            The differences of the items.
        mean, sd
            The scale's population N(mean, sd²), over which wABC is computed.
        item_variation
            Expected SD of the variation of an item's b.
        max_item_variation
            Largest variation that is allowed for.
        misfit_accepted
            Whether misfit was accepted, such as a second ability that moves its items together. All items then vary by
            at least half of `item_variation`.

        Returns
        -------
        Drift
            The tests of the items.
        """
        most, expected = max_item_variation, item_variation
        least = expected / 2 if misfit_accepted else 0.0
        at, of_stored = differences(comparison, mean, sd)
        tau, of_slopes = (expected if len(at.d) < MIN_ITEMS else np.inf), 0.0
        try:
            line = second_line(at, None, expected) if len(at.d) >= MIN_ITEMS else None
        except NoLineError:
            line = None
        if line is None:
            wald = quadratic(at.d, of_stored + np.diag([0.0, min(tau, most) ** 2]), at.own_slopes)
        else:
            wald, tau, of_slopes = line.distances(least, most), line.tau, line.tau_slope
        comparison = comparison.with_variation(min(of_slopes, most), min(max(tau, least), most))
        curves = curve_differences(comparison, mean=mean, sd=sd) if comparison.by_curves.any() else None
        p = chdtrc(1 + at.own_slopes, np.maximum(wald, 0))
        q = q_values(p)
        area = wabc(comparison.window, comparison.published, mean, sd)
        severity = grade_severity(np.where(q < FALSE_DISCOVERIES, area, 0.0), MEDIUM_WABC, HIGH_WABC)
        return cls(comparison, tau, most, wald, p, q, area, severity, curves)

    @staticmethod
    def shift_against_anchors(
        comparison: Comparison, *, mean: float = 0.0, sd: float = 1.0, expected_variation: float = 0.10
    ) -> ShiftAgainstAnchors:
        """Compare b of the other published items, as a group, with b of the anchors.

        Parameters
        ----------
        comparison
            The differences of the items.
        mean, sd
            The scale's population N(mean, sd²), over which curves are compared.
        expected_variation
            SD by which an item's b is expected to vary beyond errors.

        Returns
        -------
        ShiftAgainstAnchors
            The shift with its standard error.

        Raises
        ------
        PsychometricsError
            If the two groups cannot be compared.
        """
        return shift_against_anchors(comparison, mean=mean, sd=sd, expected_variation=expected_variation)

    def with_categories(self, responses: Responses, *, mean: float = 0.0, sd: float = 1.0) -> Self:
        """Add tests of single categories of scored items: whether P(X ≥ k) changed for a score k.

        A category that changed does not change the severity of the item. Items that were published under another model
        are not tested, because the models' curves differ.

        Parameters
        ----------
        responses
            The responses of the window. A category with fewer than ten is merged with a neighbouring one.
        mean, sd
            The scale's population N(mean, sd²), over which curves are compared.

        Returns
        -------
        Drift
            The same tests with `categories`.
        """
        of, across = self.comparison, self.across_models
        place = {item: j for j, item in enumerate(responses.item_ids) if item not in across}
        n_answers = score_counts(responses)
        none = np.zeros_like(n_answers[:1])
        counts = np.append(n_answers, none, axis=0)[None, [place.get(item, -1) for item in self.item_ids]]
        theta = mean + sd * Grid.symmetric().nodes
        found = CategoryChanges.compare(of.window.curves, of.published.curves, of.cov_of_sides, theta, counts)
        return replace(self, categories=found)

    def with_trends(
        self, comparisons: Sequence[Comparison], elapsed: Sequence[npt.ArrayLike], anchors: AnchorSet
    ) -> Self:
        """Add the slopes of b over several months.

        Parameters
        ----------
        comparisons
            One for each month, all with the same published values.
        elapsed
            Months, > 0, from publication to each comparison's window: one number, or one for each item.
        anchors
            The frozen anchors, whose errors all months share.

        Returns
        -------
        Drift
            The same tests with `trends`.

        Raises
        ------
        PsychometricsError
            If `elapsed` does not match the comparisons, or if an item's published value is not the same in all months.
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
        """Add tests of items without an estimate: whether their answers agree with the published curves.

        Parameters
        ----------
        responses
            The responses of the window.
        items
            The items; those with enough answers are tested, and none contributes to any person's θ.
        published
            The published items, in the order of `responses.item_ids`.
        mean, sd
            The window's persons on the bank's scale, θ ~ N(mean, sd²).
        mean_se
            Standard error of the mean.

        Returns
        -------
        Drift
            The same tests with `proportions`.
        """
        found = proportions_correct(responses, items, published, mean=mean, sd=sd, mean_se=mean_se)
        return replace(self, proportions=found)

    def with_changes(
        self, answers: TimedAnswers, items: Collection[str], published: ItemParameters, *, mean: float, sd: float
    ) -> Self:
        """Add the kind of change of some items: drift, a leak or a wrong key.

        Parameters
        ----------
        answers
            The unfiltered answers of the window.
        items
            The items to examine.
        published
            The published items, in the order of `answers.item_ids`.
        mean, sd
            The window's persons on the bank's scale, θ ~ N(mean, sd²).

        Returns
        -------
        Drift
            The same tests with `changes`.
        """
        return replace(self, changes=classify_changes(answers, items, published, mean=mean, sd=sd))

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The J items."""
        return self.comparison.item_ids

    @property
    def at_the_limit(self) -> bool:
        """Whether items vary by more than `most_tau`, so that many may be flagged."""
        return self.tau > self.most_tau

    @property
    def flagged(self) -> tuple[str, ...]:
        """Items with a severity other than "none"."""
        return tuple(item for item, level in zip(self.item_ids, self.severity, strict=True) if level != "none")

    @property
    def delta_a(self) -> Floats:
        """Change of a, shape (J,); NaN across models."""
        return self.comparison.delta[:, 0]

    @property
    def delta_b(self) -> Floats:
        """Change of b, shape (J,); NaN across models."""
        return self.comparison.delta[:, 1]

    @property
    def delta_c(self) -> Floats:
        """Change of c, shape (J,). Its error is the error of the window's c, because a published c has none."""
        comparison = self.comparison
        return np.where(comparison.across_models, np.nan, comparison.window.c - comparison.published.c)

    @property
    def se(self) -> Floats:
        """Standard errors of Δa and Δb, shape (J, 2); NaN across models."""
        se = np.sqrt(np.einsum("jkk->jk", self.comparison.cov))
        return np.where(self.comparison.across_models[:, None], np.nan, se)

    @property
    def across_models(self) -> dict[str, tuple[Model, Model]]:
        """The published and the fitted model of each item for which they differ."""
        of = self.comparison
        models = zip(of.item_ids, of.models_published, of.models, strict=True)
        return {item: (published, fitted) for item, published, fitted in models if published != fitted}

    def beyond_limits(self, parameter: Literal["a", "b", "c"]) -> tuple[Severity, ...]:
        """Compare |Δ| with the limits in the requirement documents, regardless of its error.

        Parameters
        ----------
        parameter
            "a", "b" or "c".

        Returns
        -------
        tuple of str
            J of "none", "medium", "high"; "none" across models.
        """
        change = {"a": self.delta_a, "b": self.delta_b, "c": self.delta_c}[parameter]
        return grade_severity(np.abs(change), *LIMITS[parameter])

    @property
    def chance_b_large(self) -> Floats:
        """P(|Δb| > 0.3 | data) with a flat prior, shape (J,)."""
        return _beyond(LARGE_B, self.delta_b, self.se[:, 1])

    @property
    def chance_a_large(self) -> Floats:
        """P(|Δa| > 0.2 | data) with a flat prior, shape (J,)."""
        return _beyond(LARGE_A, self.delta_a, self.se[:, 0])

    @property
    def log_bayes_factor(self) -> Floats:
        """Natural log of the Bayes factor of Δb ~ N(0, 0.5²) against Δb = 0, shape (J,).

        It is Savage & Dickey's ratio of the prior density to the posterior density at 0 (Dickey 1971), both normal.
        """
        v, d = self.se[:, 1] ** 2, self.delta_b
        wide = v + PRIOR_SD_B**2
        return (np.log(v / wide) + d**2 * (1 / v - 1 / wide)) / 2


def _beyond(limit: float, estimate: Floats, se: Floats) -> Floats:
    """P(|x| > limit) for x ~ N(estimate, se²)."""
    return ndtr((-limit - estimate) / se) + ndtr((estimate - limit) / se)

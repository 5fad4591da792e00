"""Score tables: from the raw scores of a form to θ, scaled scores, percentiles and the cut.

Equating, which gives raw scores of an older form, is in `equating`. Scores of persons do not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_sources import ItemSource, require_items, require_population
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.results import Result
from irt_psychometrics.scoring.form_scores import (
    lowest_score,
    max_scores,
    require_curves,
    thetas_of_scores,
)
from irt_psychometrics.scoring.sum_scores import sum_score_table

Rounding = Literal["half-up", "half-even", "not-up-to-pass"]
_EXACT = 1e-9
"""Differences of scaled scores that rounding errors can make."""


@dataclass(frozen=True)
class ScoreScale:
    """A scale on which scores are reported: slope·x + intercept, rounded, between a lowest and a highest score.

    Attributes
    ----------
    slope, intercept
        The line. x is θ, a raw score, a percentage, or a normal deviate (`normal_deviates`).
    step
        Reported scores are multiples of it.
    lowest, highest
        The lowest and the highest obtainable scores; None: no limit.
    rounding
        "half-up": halves are rounded up. "half-even": halves are rounded to the even multiple of the step.
        "not-up-to-pass": as "half-up", but a score below the pass mark is shown below the mark.

    Raises
    ------
    PsychometricsError
        For a slope or a step that is not above 0, for a lowest score that is not below the highest, and for another
        rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.scoring import ScoreScale
    >>> scale = ScoreScale(slope=50, intercept=500, step=10, lowest=400)
    >>> scale.rounded(scale.unrounded(np.array([-3.0, 0.1, 1.02]))).tolist()
    [400.0, 510.0, 550.0]
    """

    slope: float
    intercept: float
    step: float = 1.0
    lowest: float | None = None
    highest: float | None = None
    rounding: Rounding = "half-up"

    def __post_init__(self) -> None:
        low, high = self._limits
        if not (self.slope > 0 and np.isfinite(self.intercept) and self.step > 0 and low < high):
            raise PsychometricsError(
                f"score scale {self.slope:g}·x + {self.intercept:g}, step {self.step:g}, {low:g} … {high:g}: slope and"
                " step must be above 0, and the lowest score below the highest"
            )
        if self.rounding not in get_args(Rounding):
            raise PsychometricsError(f"rounding must be one of {', '.join(get_args(Rounding))}, got {self.rounding!r}")

    @property
    def _limits(self) -> tuple[float, float]:
        return -np.inf if self.lowest is None else self.lowest, np.inf if self.highest is None else self.highest

    def unrounded(self, x: Floats) -> Floats:
        """Compute scaled scores between the lowest and the highest, which decide who passes.

        Parameters
        ----------
        x
            Values on the scale of the line, of any shape.

        Returns
        -------
        array in the shape of `x`
            Scaled scores before rounding.
        """
        return np.clip(self.slope * x + self.intercept, *self._limits)

    def rounded(self, unrounded: Floats, mark: float | None = None) -> Floats:
        """Round scaled scores for display.

        Parameters
        ----------
        unrounded
            Scaled scores as `unrounded` returns them, of any shape.
        mark
            The lowest unrounded score that passes, used by "not-up-to-pass".

        Returns
        -------
        array in the shape of `unrounded`
            Multiples of `step`, between the lowest and the highest score.

        Examples
        --------
        >>> import numpy as np
        >>> from irt_psychometrics.scoring import ScoreScale
        >>> half_points, at = np.array([68.5, 69.5]), dict(slope=1, intercept=0)
        >>> ScoreScale(**at).rounded(half_points).tolist()
        [69.0, 70.0]
        >>> ScoreScale(**at, rounding="half-even").rounded(half_points).tolist()
        [68.0, 70.0]
        >>> ScoreScale(**at, rounding="not-up-to-pass").rounded(half_points, mark=70).tolist()
        [69.0, 69.0]
        """
        steps = unrounded / self.step
        if self.rounding == "half-even":
            halves = np.rint(2 * steps) / 2
            whole = np.rint(np.where(np.abs(halves - steps) <= _EXACT, halves, steps))
        else:
            whole = np.floor(steps + 0.5 + _EXACT)
        if self.rounding == "not-up-to-pass" and mark is not None:
            whole = whole - ((unrounded < mark - _EXACT) & (whole * self.step >= mark - _EXACT))
        return np.clip(whole * self.step, *self._limits)


def normal_deviates(counts: npt.ArrayLike) -> Floats:
    """Compute normal deviates of the percentile ranks of raw scores, for normalised scores.

    Parameters
    ----------
    counts
        Shape (K + 1,), the number of persons of the norm group with each raw score 0 … K.

    Returns
    -------
    array of shape (K + 1,)
        The standard normal quantile of each score's percentile rank.

    Raises
    ------
    PsychometricsError
        For a norm group without persons.

    Examples
    --------
    >>> from irt_psychometrics.scoring import normal_deviates
    >>> normal_deviates([10, 20, 10]).round(2).tolist()
    [-1.15, 0.0, 1.15]
    """
    return np.asarray(ndtri(percentile_ranks(counts) / 100))


def percentile_ranks(counts: npt.ArrayLike) -> Floats:
    """Compute the percentage of a norm group below each raw score, with half of the persons who have the score.

    A score below or above the scores of all persons gets the rank of half a person, so that the normal deviate of the
    rank is finite.

    Parameters
    ----------
    counts
        Shape (K + 1,), the number of persons of the norm group with each raw score 0 … K.

    Returns
    -------
    array of shape (K + 1,)
        Percentile ranks, above 0 and below 100.

    Raises
    ------
    PsychometricsError
        For a norm group without persons.

    Examples
    --------
    >>> from irt_psychometrics.scoring import percentile_ranks
    >>> percentile_ranks([10, 20, 10]).tolist()
    [12.5, 50.0, 87.5]
    """
    n = np.asarray(counts, float)
    if not n.sum() > 0:
        raise PsychometricsError("the norm group has no persons: give the counts of raw scores of its window")
    middle = n.cumsum() - n / 2
    return np.clip(middle, 0.5, n.sum() - 0.5) / n.sum() * 100


@dataclass(frozen=True, eq=False, repr=False)
class ScoreTable(Result):
    """The scores that each raw score of a form gives.

    Attributes
    ----------
    raw
        Shape (K + 1,), 0 … K.
    theta, se
        Shape (K + 1,), θ and its standard error: of the posterior given the raw score, or where the test curve has it.
        The values and errors themselves, if the table was made by `from_values`.
    unrounded, scaled
        Shape (K + 1,), scaled scores before and after rounding.
    scaled_se
        Shape (K + 1,), standard error of the scaled score.
    percentile
        Shape (K + 1,), percentile ranks in the norm group; NaN without one.
    passes
        Shape (K + 1,), whether the raw score reaches the mark; False without one.
    notes
        Sentences for the reader of the table.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.scoring import ScoreScale, ScoreTable
    >>> form = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 2, 1], "b": [-1, 0, 1]})
    >>> table = ScoreTable.from_items(form, ScoreScale(50, 500), mean=0, sd=1, mark=500)
    >>> table.scaled.tolist(), table.raw_cut
    ([449.0, 481.0, 519.0, 551.0], 2)
    """

    raw: Floats
    theta: Floats
    se: Floats
    unrounded: Floats
    scaled: Floats
    scaled_se: Floats
    percentile: Floats
    passes: Mask
    notes: tuple[str, ...]
    frame_kind: str | None = None

    @classmethod
    def from_items(
        cls,
        items: ItemSource,
        scale: ScoreScale,
        *,
        theta: Literal["eap", "test-curve"] = "eap",
        mean: float | None = None,
        sd: float | None = None,
        group: str | None = None,
        norm_counts: Sequence[float] | None = None,
        mark: float | None = None,
    ) -> ScoreTable:
        """Make the table of a form from its items.

        Parameters
        ----------
        items
            The form's items: a `Fit` of the form, a `ScaleLink` (the new fit on the old scale), or `ItemParameters`.
        scale
            The scale of reported scores, as a line in θ.
        theta
            "eap": mean and SD of θ given the raw score (Thissen, Pommerich, Billeaud & Williams 1995). "test-curve":
            where the expected raw score is the raw score, with 1/√information; scores up to the sum of the c and the
            highest continue the line through the two nearest scores (Kolen & Brennan 2014, section 6.5).
        mean, sd
            The prior N(mean, sd²) of "eap". None: the population of the fit; parameters of items contain no population.
        group
            The group whose population is the prior of "eap", for a fit with groups.
        norm_counts
            The number of persons of the norm group with each raw score 0 … K.
        mark
            The lowest unrounded scaled score that passes.

        Returns
        -------
        ScoreTable
            A row for each raw score 0 … K.

        Raises
        ------
        PsychometricsError
            For items without parameters, if "eap" has no prior, and for counts of other scores than 0 … K.

        References
        ----------
        Thissen, D., Pommerich, M., Billeaud, K. & Williams, V. S. L. (1995). Item response theory for scores on tests
        including polytomous items with ordered responses. Applied Psychological Measurement, 19, 39-49.
        """
        form = require_items(items, "ScoreTable.from_items")
        require_curves(form, "the form")
        notes: tuple[str, ...] = ()
        if theta == "eap":
            prior = require_population(items, 'ScoreTable.from_items by "eap"', mean=mean, sd=sd, group=group)
            found = sum_score_table(form.curves, prior)
            at, se = found.theta, found.se
        elif theta == "test-curve":
            at, se = _by_test_curve(form)
            outside = np.setdiff1d(np.arange(at.size), _inside(form)).tolist()
            notes = (f"Raw scores {outside} have no θ on the test curve, and continue the line of the two nearest.",)
        else:
            raise PsychometricsError(f'theta must be "eap" or "test-curve", got {theta!r}')
        return cls.from_values(at, se, scale, norm_counts=norm_counts, mark=mark, notes=notes)

    @classmethod
    def from_values(
        cls,
        values: Floats,
        se: Floats,
        scale: ScoreScale,
        *,
        norm_counts: Sequence[float] | None = None,
        mark: float | None = None,
        notes: tuple[str, ...] = (),
    ) -> ScoreTable:
        """Make the table from the value x of each raw score (θ, an equated score, a normal deviate) and its error.

        A value below the value of a lower raw score is raised to it, and a note says so.

        Parameters
        ----------
        values, se
            Shape (K + 1,), x of each raw score and the standard error of x.
        scale
            The scale of reported scores, as a line in x.
        norm_counts, mark
            As in `from_items`.
        notes
            Sentences for the reader of the table.

        Returns
        -------
        ScoreTable
            A row for each raw score 0 … K, with x instead of θ.

        Raises
        ------
        PsychometricsError
            For counts of other scores than 0 … K.
        """
        rising = np.maximum.accumulate(values)
        if fell := np.flatnonzero(rising > values + _EXACT).tolist():
            notes = (*notes, f"Raw scores {fell} would give less than a lower raw score, and are given the same.")
        raw = np.arange(values.size, dtype=float)
        counts = None if norm_counts is None else np.asarray(norm_counts, float)
        if counts is not None and counts.shape != values.shape:
            raise PsychometricsError(f"norm_counts has {counts.size} counts; the form has {values.size} raw scores")
        unrounded = scale.unrounded(rising)
        passes = np.zeros(values.size, dtype=bool) if mark is None else unrounded >= mark - _EXACT
        scaled = scale.rounded(unrounded, mark)
        if mark is not None and (shown := np.flatnonzero(~passes & (scaled >= mark)).tolist()):
            notes = (*notes, f"Raw scores {shown} are shown as {mark:g} or more by rounding, and do not pass.")
        percentile = np.full(values.size, np.nan) if counts is None else percentile_ranks(counts)
        return cls(raw, rising, se, unrounded, scaled, scale.slope * se, percentile, passes, notes)

    def with_theta(self, theta: Floats, se: Floats) -> ScoreTable:
        """Replace θ, if the table was made from values on another scale.

        Parameters
        ----------
        theta, se
            Shape (K + 1,), θ of each raw score and the standard error of θ; NaN if θ is not known.

        Returns
        -------
        ScoreTable
            The same scaled scores with this θ.
        """
        return replace(self, theta=theta, se=se)

    @property
    def raw_cut(self) -> int | None:
        """The lowest raw score that passes. Returns None if no raw score passes."""
        return int(self.passes.argmax()) if self.passes.any() else None

    @property
    def ties(self) -> list[tuple[int, int]]:
        """The first and the last of raw scores with one scaled score, for each scaled score of several."""
        starts = np.flatnonzero(np.diff(self.scaled, prepend=-np.inf) > _EXACT)
        ends = np.append(starts[1:], self.scaled.size) - 1
        return [(int(a), int(b)) for a, b in zip(starts, ends, strict=True) if b > a]

    def gaps(self, step: float) -> list[tuple[float, float]]:
        """Find scaled scores that nobody can have.

        Parameters
        ----------
        step
            Neighbouring scaled scores at most this far apart leave nothing out.

        Returns
        -------
        list of (low, high)
            Neighbouring scaled scores more than `step` apart.
        """
        found = np.unique(self.scaled)
        return [(float(a), float(b)) for a, b in pairwise(found) if b - a > step + _EXACT]

    def _title(self) -> str:
        return f"score table of {self.raw.size} raw scores"

    def _facts(self) -> dict[str, str]:
        return {} if self.raw_cut is None else {"lowest raw score that passes": str(self.raw_cut)}

    def _columns(self) -> dict[str, Any]:
        names = ("raw", "theta", "se", "unrounded", "scaled", "scaled_se", "percentile", "passes")
        return {name: getattr(self, name) for name in names}

    def _notes(self) -> Sequence[str]:
        return self.notes


def _inside(items: ItemParameters) -> Ints:
    """The raw scores that the test curve reaches."""
    highest = max_scores(items).sum()
    raw = np.arange(highest + 1)
    lowest = lowest_score(items) + 1e-9  # a sum of c such as 10 · .2 may be below or above 2 by rounding
    return np.flatnonzero((raw > lowest) & (raw < highest))


def _by_test_curve(items: ItemParameters) -> tuple[Floats, Floats]:
    """θ where the test curve has each raw score, or continues, and its error."""
    inside = _inside(items)
    if inside.size < 2:
        raise PsychometricsError('fewer than two raw scores of the form have a θ on its test curve; use "eap"')
    theta = thetas_of_scores(items, inside.astype(float))
    n_above = int(max_scores(items).sum() - inside[-1])
    at = np.concatenate(
        [
            theta[0] + (theta[0] - theta[1]) * np.arange(inside[0], 0, -1),
            theta,
            theta[-1] + (theta[-1] - theta[-2]) * np.arange(1, n_above + 1),
        ]
    )
    return at, 1 / np.sqrt(items.curves.information(at).sum(axis=1))

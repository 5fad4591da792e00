"""Equate raw scores of two forms by distributions of observed scores.

Lines are in `linear_equating`, percentiles and kernels in `continuous_scores`; equating by item parameters is in
`irt_equating`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.delta import SMALL_STEP, delta_errors
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_sources import find_calibration
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.options import Adjustment, EquatingMethod
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result
from irt_psychometrics.equating.continuous_scores import (
    ContinuousScores,
    GaussianKernels,
    Percentiles,
    best_bandwidth,
)
from irt_psychometrics.equating.linear_equating import (
    Moments,
    circle_arc,
    joint_moments,
    line,
    moments_of,
    synthetic_moments,
)
from irt_psychometrics.equating.score_counts import ScoreCounts

_SAMPLES = 1000

_ADJUSTMENTS: dict[str, tuple[str, ...]] = {
    "identity": (),
    "mean": ("tucker", "levine", "frequency-estimation", "chained"),
    "linear": ("tucker", "levine", "levine-true-score", "frequency-estimation", "chained"),
    "circle-arc": ("tucker", "levine", "frequency-estimation", "chained"),
    "equipercentile": ("frequency-estimation", "chained"),
    "kernel": ("frequency-estimation", "chained"),
}
"""The ways to allow for groups of different ability that each method has, with common items."""


@dataclass(frozen=True, eq=False, repr=False)
class Equating(Result):
    """The old form's equivalents of a new form's raw scores.

    Attributes
    ----------
    design
        "random groups", "single group", "common items" or "item parameters".
    method
        The method and, with common items, the adjustment for groups of different ability.
    scores
        Shape (K + 1,), raw scores 0 … K of the new form.
    equated
        Shape (K + 1,), their equivalents on the old form, not rounded.
    se
        Shape (K + 1,), standard errors of the equivalents; NaN if they are not known.
    bandwidths
        The kernels' bandwidths, by the distribution's name; empty for other methods.
    notes
        Sentences for the reader of the equating.

    Examples
    --------
    >>> from irt_psychometrics.equating import equate
    >>> equate([1, 2, 2, 3], [0, 1, 1, 2], method="mean").to_frame("pandas")["equated"].tolist()
    [-1.0, 0.0, 1.0, 2.0]
    """

    design: str
    method: str
    scores: Floats
    equated: Floats
    se: Floats
    bandwidths: dict[str, float]
    notes: tuple[str, ...] = ()
    frame_kind: str | None = None

    def _title(self) -> str:
        return f"{self.method} equating of {self.scores.size} raw scores, {self.design}"

    def _facts(self) -> dict[str, str]:
        return {f"bandwidth, {name}": f"{h:.4f}" for name, h in self.bandwidths.items()}

    def _columns(self) -> dict[str, Any]:
        return {"score": self.scores, "equated": self.equated, "se": self.se}

    def _notes(self) -> Sequence[str]:
        return self.notes


def equate(
    new: ScoreCounts | Responses | npt.ArrayLike,
    old: ScoreCounts | Responses | npt.ArrayLike | None = None,
    *,
    method: EquatingMethod = "equipercentile",
    adjustment: Adjustment | None = None,
    weight: float | None = None,
    internal: bool = True,
    bandwidths: Sequence[float] | None = None,
    bootstrap: int | None = None,
    random_state: int = 0,
) -> Equating:
    """Find the old form's equivalent of each raw score of the new form.

    The design follows from the data. Responses to two forms with items of the same name are common items, with these
    items as the anchor; otherwise they are random groups, as are raw scores alone. Of `ScoreCounts`, two forms with
    counts of one score each are random groups; counts of a second score, the anchor's, are common items; `new` alone,
    with the old form's as second score, is a single group.

    Parameters
    ----------
    new, old
        Both forms: `Responses` of persons who answered all items; or raw scores, one number a person, of which the
        highest that occurs counts as the maximum; or `ScoreCounts`, as observed or presmoothed.
    method
        "identity", "mean", "linear", "circle-arc" (simplified; Livingston & Kim 2009), "equipercentile" or "kernel"
        (Gaussian; von Davier, Holland & Thayer 2004).
    adjustment
        With common items, how differences between the groups are allowed for: "tucker", "levine" (observed score) or
        "levine-true-score" for lines, "frequency-estimation" (poststratification; for lines Braun-Holland) or
        "chained". With "chained", "mean" and "circle-arc" go through the point of chained linear equating at the new
        form's mean. None: "chained" with common items.
    weight
        The share of the new form's group in the synthetic population; None: the share among all persons.
    internal
        Whether the anchor items count in the forms' scores; Levine's method needs it.
    bandwidths
        For "kernel": the bandwidths of the new and the old form's scores; with "chained" four: new form, its anchor,
        the old group's anchor, old form. None: those with the smallest penalty.
    bootstrap
        The number of samples for bootstrap standard errors; 0: by the delta method; None: by the delta method, but
        1,000 samples for "equipercentile" and "kernel" if counts are not presmoothed: their shares are far from normal.
    random_state
        The seed of the samples.

    Returns
    -------
    Equating
        The equivalents with their standard errors. Errors by the delta method take the bandwidths as fixed.

    Raises
    ------
    PsychometricsError
        For a method that the design does not have, for counts that determine no equating, for persons who have not
        answered all items, and if `new` or `old` contains no scores.

    References
    ----------
    Kolen, M. J. & Brennan, R. L. (2014). Test equating, scaling, and linking. 3rd ed. New York: Springer.
    von Davier, A. A., Holland, P. W. & Thayer, D. T. (2004). The kernel method of test equating. New York: Springer.
    Livingston, S. A. & Kim, S. (2009). The circle-arc method for equating in small samples. Journal of Educational
    Measurement, 46, 330-343.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.equating import equate
    >>> bank = irt.ItemParameters.from_frame({"item": range(12), "a": [1] * 12, "b": np.linspace(-1, 1, 12)})
    >>> forms, theta = (bank.select(bank.item_ids[:8]), bank.select(bank.item_ids[4:])), np.linspace(-3, 3, 500)
    >>> x_old, x_new = (irt.simulate_responses(form, theta, random_state=1) for form in forms)
    >>> equate(x_new, x_old, method="linear").design  # the new form is harder
    'common items'
    """
    notes: tuple[str, ...] = ()
    if isinstance(new, Responses) and isinstance(old, Responses):
        new, old = ScoreCounts.from_forms(new, old)
        if new.counts.ndim == 1:
            notes = ("No item is in both forms, so the groups are taken as random samples of one population.",)
    new, old = _counts_of(new), None if old is None else _counts_of(old)
    design = _design(new, old)
    if adjustment is None and design == "common items" and _ADJUSTMENTS.get(method):
        adjustment = "chained"
    _require_method(design, method, adjustment)
    if weight is None:
        weight = new.n / (new.n + old.n) if old is not None else 1.0
    if not 0 <= weight <= 1:
        raise PsychometricsError(f"weight {weight:g} of the new form's group must be from 0 to 1")
    samples = [new] if old is None else [new, old]
    shares = [sample.probability for sample in samples]
    n = [sample.n for sample in samples]
    plan = _Plan(method, adjustment, weight, internal, tuple(n))
    if method == "kernel":
        plan = plan.with_bandwidths(shares, bandwidths)
    elif bandwidths is not None:
        raise PsychometricsError(f"method {method} has no bandwidths; leave them out, or use the method kernel")
    equated = plan(*shares)
    if not np.isfinite(equated).all():
        raise PsychometricsError(
            f"the counts determine no {method} equating: the scores of a form or of the anchor do not vary"
        )
    by_percentiles = method in ("equipercentile", "kernel")
    if bootstrap is None:
        bootstrap = _SAMPLES if by_percentiles and any(sample.model is None for sample in samples) else 0
    if method == "identity":
        se = np.zeros(equated.size)
    elif bootstrap:
        random = np.random.default_rng(random_state)
        drawn = [plan(*(sample.resampled(random).probability for sample in samples)) for _ in range(bootstrap)]
        se = np.std(drawn, axis=0, ddof=1)
    else:
        steps = [np.sqrt(sample.columns) if method == "equipercentile" else SMALL_STEP for sample in samples]
        se = delta_errors(plan, samples, steps)
    name = method if adjustment is None else f"{method}, {adjustment}"
    return Equating(design, name, np.arange(equated.size, dtype=float), equated, se, plan.named_bandwidths, notes)


@dataclass(frozen=True)
class _Plan:
    """An equating as a function of the shares of scores: of both groups, or of one group's two scores."""

    method: str
    adjustment: str | None
    weight: float
    internal: bool
    n: tuple[float, ...]
    bandwidths: tuple[float, ...] = ()

    def __call__(self, *shares: Floats) -> Floats:
        x = np.arange(shares[0].shape[0], dtype=float)
        old_highest = (shares[0].shape[1] if len(shares) == 1 else shares[1].shape[0]) - 1
        if self.method == "identity":
            return x
        if self.method in ("equipercentile", "kernel"):
            return self._along(x, self._steps(shares))
        with np.errstate(divide="ignore", invalid="ignore"):
            moments, slope = self._moments(shares)
        if self.method == "circle-arc":
            return circle_arc(x, moments.new_mean, moments.old_mean, old_highest)
        return line(x, moments, 1.0 if self.method == "mean" else slope)

    def with_bandwidths(self, shares: Sequence[Floats], given: Sequence[float] | None) -> _Plan:
        distributions = [share for step in self._steps(shares) for share in step]
        if given is None:
            given = [best_bandwidth(share, n) for share, n in zip(distributions, self._sizes, strict=True)]
        if len(given) != len(distributions) or not all(h > 0 for h in given):
            raise PsychometricsError(
                f"this kernel equating needs {len(distributions)} bandwidths above 0; given are {list(given)}"
            )
        return replace(self, bandwidths=tuple(given))

    @property
    def named_bandwidths(self) -> dict[str, float]:
        names = (
            ("new form", "old form")
            if len(self.bandwidths) == 2
            else ("new form", "new group's anchor", "old group's anchor", "old form")
        )
        return dict(zip(names, self.bandwidths, strict=False))

    @property
    def _sizes(self) -> tuple[float, ...]:
        """The number of persons of each distribution in `_steps`."""
        new, old = self.n if len(self.n) == 2 else self.n * 2
        return (new, new, old, old) if self.adjustment == "chained" else (new, old)

    def _steps(self, shares: Sequence[Floats]) -> list[tuple[Floats, Floats]]:
        """Pairs of distributions whose percentiles are made equal, in the order of the chain."""
        if self.adjustment == "chained":
            new, old = shares
            return [(new.sum(axis=1), new.sum(axis=0)), (old.sum(axis=0), old.sum(axis=1))]
        return [self._margins(shares)]

    def _margins(self, shares: Sequence[Floats]) -> tuple[Floats, Floats]:
        """The shares of the new and of the old form's scores in one population."""
        if len(shares) == 1:
            return shares[0].sum(axis=1), shares[0].sum(axis=0)
        new, old = shares
        if new.ndim == 1:
            return new, old
        in_new, in_old = new.sum(axis=0), old.sum(axis=0)
        anchor = self.weight * in_new + (1 - self.weight) * in_old
        by_anchor = (np.divide(anchor, own, out=np.zeros(own.size), where=own > 0) for own in (in_new, in_old))
        margins = [share @ ratio for share, ratio in zip((new, old), by_anchor, strict=True)]
        return margins[0] / margins[0].sum(), margins[1] / margins[1].sum()

    def _along(self, x: Floats, steps: Sequence[tuple[Floats, Floats]]) -> Floats:
        kernels = zip(self._sizes, self.bandwidths, strict=False)

        def spread(share: Floats) -> ContinuousScores:
            return GaussianKernels(share, *next(kernels)) if self.method == "kernel" else Percentiles(share)

        for source, target in steps:
            p = spread(source).cdf(x)
            x = spread(target).quantile(p)
        return x

    def _moments(self, shares: Sequence[Floats]) -> tuple[Moments, float]:
        """The moments of both forms in one population, and the slope of the linear method."""
        if self.adjustment in (None, "frequency-estimation"):
            (m_new, v_new), (m_old, v_old) = map(moments_of, self._margins(shares), self._sizes)
            found = Moments(m_new, np.sqrt(v_new), m_old, np.sqrt(v_old))
            return found, found.old_sd / found.new_sd
        new, old = map(joint_moments, shares, self.n)
        if self.adjustment == "chained":
            to_old = np.sqrt(old.variance / old.anchor_variance)  # points of the old form for a point of the anchor
            moved = old.mean + to_old * (new.anchor_mean - old.anchor_mean)
            found = Moments(new.mean, np.sqrt(new.variance), moved, to_old * np.sqrt(new.anchor_variance))
            return found, found.old_sd / found.new_sd
        if self.adjustment == "tucker":
            slopes = new.regression(), old.regression()
        else:
            slopes = new.true_score_slope(self.internal), old.true_score_slope(self.internal)
        if self.adjustment == "levine-true-score":
            moved = old.mean + slopes[1] * (new.anchor_mean - old.anchor_mean)
            return Moments(new.mean, slopes[0], moved, slopes[1]), slopes[1] / slopes[0]
        found = synthetic_moments(new, old, *slopes, self.weight)
        return found, found.old_sd / found.new_sd


def _counts_of(form: Any) -> ScoreCounts:
    """Return counts as they are, and count raw scores. Raises PsychometricsError for anything else."""
    if isinstance(form, ScoreCounts):
        return form
    if isinstance(form, ItemParameters) or find_calibration(form) is not None:
        raise PsychometricsError(
            f"equate needs responses or raw scores, got {type(form).__name__}; equate_by_items(new, old) equates forms"
            " by their items"
        )
    scores = None if isinstance(form, Responses) else np.asarray(form)
    if scores is None or scores.ndim != 1 or scores.dtype.kind not in "biuf":
        raise PsychometricsError(
            "equate needs two Responses, two ScoreCounts, or raw scores, one number a person, got"
            f" {type(form).__name__}; Responses.from_wide reads a table with a row for each person"
        )
    return ScoreCounts.from_scores(scores)


def _design(new: ScoreCounts, old: ScoreCounts | None) -> str:
    if old is None:
        if new.counts.ndim == 1:
            raise PsychometricsError("one form's counts alone: give the old form's, or counts of both scores together")
        return "single group"
    if new.counts.ndim != old.counts.ndim:
        raise PsychometricsError("one form has counts of an anchor and the other has not; both need them, or neither")
    if new.counts.ndim == 1:
        return "random groups"
    anchors = [form.counts.shape[1] - 1 for form in (new, old)]
    if anchors[0] != anchors[1]:
        raise PsychometricsError(
            f"the anchor has the scores 0 … {anchors[0]} in the new group and 0 … {anchors[1]} in the old one; give"
            " `max_second` to `ScoreCounts.from_scores`"
        )
    return "common items"


def _require_method(design: str, method: str, adjustment: str | None) -> None:
    if method not in get_args(EquatingMethod):
        raise PsychometricsError(f"no such method: {method!r}; there are {', '.join(get_args(EquatingMethod))}")
    possible = _ADJUSTMENTS[method] if design == "common items" else ()
    if adjustment is None and not possible:
        return
    if adjustment not in possible:
        ways = f"one of the adjustments {', '.join(possible)}" if possible else "no adjustment"
        raise PsychometricsError(f"{method} equating of {design} needs {ways}, not {adjustment!r}")

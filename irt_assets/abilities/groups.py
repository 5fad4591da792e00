"""Ability of groups of learners in a month: mean, SD, percentiles, differences and changes, with their errors.

Pure functions of answers. Each group's ability is normal with a mean and SD of its own, which a latent regression
estimates from the answers, because means of θ are shrunk and their errors are too small. `group_month` reads the
month and writes rows. Learners' θ never depend on a group, and do not belong here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from scipy.stats import false_discovery_control

from irt_assets.common.arrays import Floats
from irt_assets.common.wording import natural_order
from irt_psychometrics import LatentRegression, NotConvergedWarning, Responses, latent_regression
from irt_psychometrics.scoring import ParameterErrors

Row = dict[str, Any]

MIN_LEARNERS = 30
"""Number of learners below which a group is not described."""
PERCENTILES = (10, 25, 50, 75, 90)
TOO_SMALL_BEFORE = f"the group had fewer than {MIN_LEARNERS} learners in the month before"
NOT_DESCRIBED = ("mean", "mean_se", "sd", "sd_se", "difference", "difference_se", "change", "change_se", "change_q")
TINY = 1e-300
SIGNIFICANT = 0.05
"""Level of `change_q`, the share of false alarms among groups that changed."""


@dataclass(frozen=True)
class MonthSample:
    """The answers of a month's learners to items in force.

    Attributes:
        responses: the responses of N learners.
        learners: shape (N,), the learners' keys.
    """

    responses: Responses
    learners: npt.NDArray[np.int64]

    def of_group(self, members: npt.NDArray[np.bool_]) -> MonthSample:
        """Select the learners of a mask, shape (N,)."""
        return MonthSample(self.responses.of_persons(np.flatnonzero(members)), self.learners[members])


@dataclass(frozen=True)
class GroupFit:
    """Mean and SD of the ability of a group with n learners.

    Attributes:
        learners: shape (n,), the learners' keys.
        influence: shape (n, 2), contribution of each learner to mean and SD.
        by_items: shape (2, J, 2 + M), derivatives of mean and SD by the parameters of all J items in force.
        why_not: why there are no estimates, or empty.
    """

    n_responses: int
    mean: float
    sd: float
    learners: npt.NDArray[np.int64]
    influence: Floats
    by_items: Floats
    why_not: str = ""

    @classmethod
    def from_sample(cls, sample: MonthSample, errors: ParameterErrors) -> GroupFit:
        """Fit a normal distribution to the ability of the learners by the parameters of the items in `errors`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)
            fit = latent_regression(sample.responses, errors.items)
        by_items = np.zeros((2, len(errors.items.item_ids), 2 + errors.items.n_further))
        n_responses = sample.responses.n_responses
        if not fit.converged:
            nothing = np.zeros((len(sample.learners), 2))
            return cls(n_responses, np.nan, np.nan, sample.learners, nothing, by_items, fit.convergence.reason)
        place_items(by_items, fit, errors.items.item_ids)
        mean, sd = fit.estimates
        return cls(n_responses, float(mean), float(sd), sample.learners, fit.person_influence, by_items)


def place_items(by_items: Floats, fit: LatentRegression, item_ids: Sequence[str]) -> None:
    """Write the fit's derivatives into `by_items`, whose items are `item_ids`."""
    place = {item: j for j, item in enumerate(item_ids)}
    found = fit.by_items
    assert found is not None  # the items are held
    by_items[:, [place[item] for item in fit.items.item_ids], : found.shape[2]] = found


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error, and the part that comes from the items, or None without known item errors."""

    value: float
    se: float
    item_se: float | None

    @property
    def p(self) -> float:
        """p-value of the hypothesis that the number is 0."""
        return float(2 * ndtr(-abs(self.value) / max(self.se, TINY)))


def combine(errors: ParameterErrors, value: float, *parts: tuple[Sequence[float], GroupFit]) -> Estimate:
    """Compute the error of a number that depends on the means and SDs of some fits.

    Learners in several fits count once, with the sum of their contributions, and an item error that moves all fits
    alike cancels.

    Args:
        errors: errors of the items.
        value: the number.
        parts: derivatives by mean and SD of each fit, and the fit.
    """
    learners = np.concatenate([fit.learners for _, fit in parts])
    influence = np.concatenate([fit.influence @ np.array(by, dtype=float) for by, fit in parts])
    sampling = float((np.bincount(np.unique(learners, return_inverse=True)[1], influence) ** 2).sum())
    by_items = sum(np.tensordot(by, fit.by_items, 1) for by, fit in parts)
    of_items = float(errors.covariance(np.array([by_items]))[0, 0])
    if math.isnan(of_items):
        return Estimate(value, math.sqrt(sampling), None)
    of_items = max(of_items, 0.0)  # rounding errors of a difference can be below 0
    return Estimate(value, math.sqrt(sampling + of_items), math.sqrt(of_items))


def subtract(errors: ParameterErrors, fit: GroupFit, other: GroupFit) -> Estimate:
    """The difference between the means of two fits."""
    return combine(errors, fit.mean - other.mean, ((1, 0), fit), ((-1, 0), other))


def fit_groups(
    sample: MonthSample, groups: Sequence[str | None], errors: ParameterErrors
) -> tuple[dict[str, GroupFit], dict[str, int]]:
    """Fit the ability of each group that is large enough, largest first.

    `groups` has the group of each learner, or None. Also returns the number of learners in each group that is too
    small.
    """
    labels = np.array(["" if group is None else group for group in groups], dtype=object)
    names, sizes = np.unique(labels[labels != ""].astype(str), return_counts=True)
    ordered = sorted(zip(names.tolist(), sizes.tolist(), strict=True), key=lambda x: (-x[1], natural_order(x[0])))
    fits = {
        name: GroupFit.from_sample(sample.of_group(labels == name), errors) for name, n in ordered if n >= MIN_LEARNERS
    }
    return fits, {name: n for name, n in ordered if n < MIN_LEARNERS}


def group_rows(
    now: Mapping[str, GroupFit],
    before: Mapping[str, GroupFit],
    errors: ParameterErrors,
    mark: float | None,
    no_change: str = "",
) -> list[Row]:
    """The rows of an attribute's groups as `resources.tables` describes them, without month, scale and attribute.

    Args:
        now, before: the fits of the month and of the month before, both by the items in `errors`.
        errors: the items in force, with their errors.
        mark: pass mark in θ, or None.
        no_change: why no group can be compared with the month before, or empty.
    """
    reference = next((name for name, fit in now.items() if not fit.why_not), "")
    rows = []
    for name, fit in now.items():
        row: Row = {"group_name": name, "n": len(fit.learners), "reference_group": reference}
        details: Row = {"why_not": fit.why_not, "n_responses": fit.n_responses}
        if fit.why_not:
            rows.append(row | dict.fromkeys(NOT_DESCRIBED) | {"details": details})
            continue
        earlier = before.get(name)
        why = no_change or (TOO_SMALL_BEFORE if earlier is None else earlier.why_not)
        change = None if earlier is None or why else subtract(errors, fit, earlier)
        mean = combine(errors, fit.mean, ((1, 0), fit))
        row |= _columns("mean", mean) | _columns("sd", combine(errors, fit.sd, ((0, 1), fit)))
        row |= _columns("difference", None if name == reference else subtract(errors, fit, now[reference]))
        row |= _columns("change", change) | {"change_q": change and change.p}
        details |= {"item_se": mean.item_se, "percentiles": percentiles_of(fit, errors), "no_change": why}
        details["passing"] = None if mark is None else share_above(fit, mark, errors)
        rows.append(row | {"details": details})
    return rows


def _columns(name: str, estimate: Estimate | None) -> Row:
    return {name: estimate and estimate.value, f"{name}_se": estimate and estimate.se}


def percentiles_of(fit: GroupFit, errors: ParameterErrors) -> list[Row]:
    """The percentiles of a group's ability, with their standard errors."""
    found = []
    for percentile in PERCENTILES:
        z = float(ndtri(percentile / 100))
        at = combine(errors, fit.mean + z * fit.sd, ((1, z), fit))
        found.append({"percentile": percentile, "theta": at.value, "se": at.se})
    return found


def share_above(fit: GroupFit, mark: float, errors: ParameterErrors) -> Row:
    """The share of a group above a mark in θ, with its standard error."""
    t = (fit.mean - mark) / fit.sd
    density = math.exp(-0.5 * t**2) / math.sqrt(2 * math.pi) / fit.sd
    share = combine(errors, float(ndtr(t)), ((density, -density * t), fit))
    return {"mark": mark, "share": share.value, "se": share.se}


def with_q_values(rows: Sequence[Row]) -> list[Row]:
    """Replace the p-values in `change_q` by q-values over all rows of a scale (Benjamini & Hochberg 1995)."""
    tested = [k for k, row in enumerate(rows) if row["change_q"] is not None]
    q = dict(zip(tested, false_discovery_control([rows[k]["change_q"] for k in tested]).tolist(), strict=True))
    return [row | {"change_q": q.get(k)} for k, row in enumerate(rows)]

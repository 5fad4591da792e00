"""The reported score of a θ: scaled score, pass, and the probability of a pass. All ways to a score use these rules."""

from typing import NamedTuple

from scipy.special import ndtr

from irt_assets.common.arrays import Floats, Mask
from irt_assets.scales.rules import MAX_REPORTED, ScoreRules
from irt_assets.scales.scale import Scale
from irt_psychometrics.scoring import ScoreScale
from resources.failures import PermanentFailure

UNITS = {"theta": "θ =", "raw": "raw score", "percent": "per cent", "percentile": "percentile rank"}
"""Names of the units of pass marks, as in `ScoreRules.unit`."""
SAME = 1e-9
"""Largest difference of unrounded scores that rounding errors can make."""


class ReportedScores(NamedTuple):
    """Reported scores, each of the shape of θ. `passes` and `pass_probability` are None if there is no pass mark."""

    scaled: Floats
    scaled_se: Floats
    passes: Mask | None
    pass_probability: Floats | None


def reported_scale(scale: Scale) -> ScoreScale:
    """The scale of reported scores. Raises PermanentFailure if no scores are reported."""
    rules: ScoreRules = scale.rules.scores
    if not rules.score_slope:
        raise PermanentFailure(
            f"scale {scale.scale_id} reports no scores: `irt scale set score_slope=100 score_intercept=500 --scale "
            f"{scale.scale_id}`"
        )
    lowest, highest = (
        None if abs(limit) == MAX_REPORTED else limit for limit in (rules.score_lowest, rules.score_highest)
    )
    return ScoreScale(rules.score_slope, rules.score_intercept, rules.score_step, lowest, highest, rules.score_rounding)


def score_mark(scale: Scale) -> float | None:
    """The lowest unrounded score that passes. Returns None if there is no pass mark.

    Raises PermanentFailure if everybody or nobody can have this score.
    """
    return None if scale.pass_mark is None else score_of_mark(scale, scale.pass_mark)


def score_of_mark(scale: Scale, at: float) -> float:
    """The unrounded score of a pass mark in the unit of the scale's scores.

    Raises PermanentFailure if everybody or nobody can have this score.
    """
    line, rules = reported_scale(scale), scale.rules.scores
    mark = line.slope * at + line.intercept
    if not rules.score_lowest < mark - SAME <= rules.score_highest:  # as scores are compared
        raise PermanentFailure(
            f"the pass mark of scale {scale.scale_id}, {in_unit(rules.unit, at)}, is the score {mark:g}, outside of "
            f"score_lowest {rules.score_lowest:g} and score_highest {rules.score_highest:g}: everybody or nobody would "
            "pass"
        )
    return mark


def in_unit(unit: str, mark: float) -> str:
    """Return a pass mark in words, such as θ = 0.4 or raw score 44."""
    return f"{UNITS[unit]} {mark:.4g}"


def report_thetas(scale: Scale, theta: Floats, se: Floats) -> ReportedScores:
    """Reported scores of abilities with their standard errors, for forms without a table.

    Raises PermanentFailure on a scale whose scores come from raw scores, which θ does not have.
    """
    rules = scale.rules.scores
    if rules.score_by == "normalised" or rules.unit != "theta":
        raise PermanentFailure(
            f"scores of scale {scale.scale_id} come from raw scores (score_by={rules.score_by}), and this form has no "
            "raw score: import the list of the form's items (`irt import forms FILE`), or set score_by to eap, "
            "test-curve or theta"
        )
    line, mark = reported_scale(scale), score_mark(scale)
    unrounded = line.unrounded(theta)
    passes = None if mark is None else unrounded >= mark - SAME
    return ReportedScores(
        line.rounded(unrounded, mark), line.slope * se, passes, pass_probability(theta, se, scale.pass_theta)
    )


def pass_probability(estimate: Floats, se: Floats, mark: float | None) -> Floats | None:
    """Probability that the true θ or score is at or above the pass mark, if it is normal around the estimate.

    Returns None if there is no pass mark.
    """
    return None if mark is None else ndtr((estimate - mark) / se)

"""Linking puts a fit (NEW) on a bank's scale (OLD) through anchors: θ* = slope·θ + intercept.

Belongs here: which anchors take part, which of them moved, and the transformation of a `Calibration`. Does not belong
here: the arithmetic of the alignment (`alignment`) and of the criteria (`criteria`), where anchors are stored, which
origin a scale has, and what a gate does with the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import get_args

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from irt_psychometrics.alignment.align import (
    FEWEST,
    Agreement,
    Alignment,
    NoLineError,
    align,
)
from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.curves import probability_at, slope_at
from irt_psychometrics.core.errors import BreakdownError, PsychometricsError
from irt_psychometrics.core.item_models import OtherItems, which
from irt_psychometrics.core.models import Calibration, Floats, ab_by_ad
from irt_psychometrics.core.options import Method
from irt_psychometrics.core.significance import skewness_of
from irt_psychometrics.linking.criteria import NODES, WEIGHTS, Constants, Pairs, medians, solve
from irt_psychometrics.linking.placement import AnchorLimits, Linking, LinkingError, Suspect

ASSUMED_N = 500  # a bank that gives no errors is taken for one calibrated with this many learners
_MOST_STARTS = 100


def assumed_errors(
    a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike, scored: Sequence[OtherItems] = ()
) -> tuple[Floats, Floats, Floats]:
    """(a_se, b_se, cov_ab), shape (K,), of a calibration with 500 learners θ ~ N(0, 1); c is held, and so are the
    parameters of scores of the `scored` among these items, whose information about a(θ − b) is Var(score).

    Inverse of n·E[P'²/(P(1 − P)) · g gᵀ], g = (θ − b, −a), P' = (1 − c)·σ(1 − σ), σ = 1/(1 + exp(−a(θ − b))): the
    expected information with θ known (Lord 1980, ch. 12), hence a floor. Infinite, and cov_ab 0, where there is no
    information.
    """
    a, b, c = (np.atleast_1d(np.asarray(x, dtype=float)) for x in (a, b, c))
    z, guessing = a[:, None] * (NODES - b[:, None]), c[:, None]
    p, slope = probability_at(z, guessing), slope_at(z, guessing)
    variance = p * (1 - p)  # 0 where the curve of a steep item has reached 1, and its slope 0
    weight = np.divide(ASSUMED_N * WEIGHTS * slope**2, variance, out=np.zeros_like(p), where=variance > 0)
    for some in scored:
        information = some.model.information(NODES, some.parameters(a, -a * b), some.categories)
        weight[some.at] = ASSUMED_N * WEIGHTS * information / a[some.at][:, None] ** 2
    off = NODES - b[:, None]
    i_aa, i_bb = (weight * off**2).sum(1), (weight * a[:, None] ** 2).sum(1)
    i_ab = -(weight * off * a[:, None]).sum(1)
    det = i_aa * i_bb - i_ab**2
    nothing, determined = np.full_like(det, np.inf), det > 0
    a_se, b_se = (np.sqrt(np.divide(i, det, out=nothing.copy(), where=determined)) for i in (i_bb, i_aa))
    return a_se, b_se, np.divide(-i_ab, det, out=np.zeros_like(det), where=determined)


def link(
    new: Calibration,
    anchors: AnchorSet,
    *,
    method: Method = "stocking-lord",
    symmetric: bool = False,
    purify: bool = True,
    limits: AnchorLimits | None = None,
) -> Linking:
    """The constants that put `new` on the scale of `anchors`.

    Methods: Stocking & Lord 1983 and Haebara 1980 (61 nodes on [−6, 6] of the old scale, weighted by N(0, 1) or by the
    window's own distribution where that is a histogram), mean-sigma (Marco 1977), mean-mean (Loyd & Hoover 1980).
    `symmetric`: Stocking-Lord and Haebara compare curves on both scales, on the old one over N(0, 1) and on the fit's
    over the window's own distribution (Haebara 1980; Kim & Kolen 2007). Anchors are weighted by the errors of their
    differences where every anchor's own errors are known; where some are assumed, the classical criterion is used.
    Standard errors come from both sides' errors through the criterion (delta method on the implicit function); with
    `new.joint_cov` they include what the fit's items have in common, without it they do not.
    Which anchors moved, and by how much the others vary (τ), is found by `alignment`; without `purify` all are used,
    and τ is taken as 0. Constants and their errors depend on the fit and the frozen anchors alone.

    Raises LinkingError where no line can be found; BreakdownError where the errors of either side are not a covariance
    matrix; PsychometricsError for an unknown method or a symmetric one of moments.
    """
    if method not in get_args(Method):
        raise PsychometricsError(f"no such linking method: {method!r}; the methods are {', '.join(get_args(Method))}")
    limits = limits or AnchorLimits()
    pairs, dropped = match(new, anchors, limits)
    answers = dict(zip(new.item_ids, new.n.tolist(), strict=True))
    n_candidates = sum(answers.get(item, -1) >= limits.min_anchor_responses for item in anchors.item_ids)
    n_assumed = int(anchors.errors_assumed[np.isin(anchors.item_ids, pairs.ids)].sum())
    if pairs.size < FEWEST:
        raise _not_linked(anchors, limits, n_candidates, dropped, f"{pairs.size} of these can be used")
    found, kept = None, pairs
    if purify:
        try:
            found = _aligned(pairs, limits)
        except NoLineError as error:
            raise _not_linked(anchors, limits, n_candidates, dropped, str(error)) from None
        kept = replace(pairs.keep(found.kept), variation=(found.tau_slope, found.tau))
    share = kept.size / n_candidates
    compared = weighted_by_populations(kept, new, symmetric)
    constants = solve(compared, method, weighted=n_assumed == 0)
    if constants is None:
        why = f"the {method} criterion has no minimum for the {kept.size} that can be used"
        raise _not_linked(anchors, limits, n_candidates, dropped, why)
    cov = constants.covariance(kept)
    agreement = found.agreement if found else Agreement.of(kept.differences(constants.slope, constants.intercept))
    _require_errors(cov, agreement, anchors.scale_id)
    suspects, diagnosis = _moved(pairs, found, constants) if found else ({}, "")
    if found:
        dropped |= _off_the_line(pairs, found)
    return Linking(
        slope=constants.slope,
        intercept=constants.intercept,
        slope_se=float(np.sqrt(cov[0, 0])),
        intercept_se=float(np.sqrt(cov[1, 1])),
        cov=cov,
        method=method,
        rmse=compared.rmse(constants.slope, constants.intercept),
        anchors_used=kept.ids,
        anchors_dropped=dropped,
        q=agreement.q,
        q_df=agreement.q_df,
        q_p=float(chdtrc(agreement.q_df, agreement.q)),
        share_kept=share,
        warnings=_warnings(n_assumed, share, limits),
        anchor_set=anchors.version,
        weighted=n_assumed == 0,
        symmetric=symmetric,
        suspects={item: asdict(suspect) for item, suspect in suspects.items()},
        diagnosis=diagnosis,
        tau=kept.variation[1],
        tau_slope=kept.variation[0],
        tau_low=agreement.tau_low,
        i2=agreement.i_squared,
        weights=dict(zip(kept.ids, constants.weights.tolist(), strict=True)),
        skewness=skewness_of((found.d[:, 1] / np.sqrt(found.d_cov[:, 1, 1]))[found.kept]) if found else None,
        with_items=with_items(new, kept, constants),
    )


def _warnings(n_assumed: int, share: float, limits: AnchorLimits) -> tuple[str, ...]:
    warnings = []
    if n_assumed:
        warnings.append(
            f"{n_assumed} anchors have no errors in the bank: those of a calibration with n = {ASSUMED_N} are assumed,"
            " and anchors are not weighted"
        )
    if share < limits.warn_anchor_share:
        warnings.append(f"only {share:.0%} of the anchors with enough responses are used: review those dropped")
    return tuple(warnings)


def _require_errors(cov: Floats, agreement: Agreement, scale_id: str) -> None:
    if not (np.isfinite(cov).all() and (np.diag(cov) >= 0).all() and np.isfinite(agreement.q)):
        raise BreakdownError(
            f"the linking of scale {scale_id} has no standard errors: those of the fit or of its anchors"
            " are not a covariance matrix. Fit the month again, or leave out the anchors with few answers"
        )


def _not_linked(
    anchors: AnchorSet, limits: AnchorLimits, n_candidates: int, dropped: Mapping[str, str], why: str
) -> LinkingError:
    named = "; ".join(f"{item}: {reason}" for item, reason in list(dropped.items())[:5])
    needed = limits.min_anchors
    if n_candidates < needed:
        first = (
            f"collect answers to more anchors (rules min_anchor_responses = {limits.min_anchor_responses} and"
            f" min_anchors = {needed})"
        )
    else:
        first = "recalibrate or replace the anchors that moved and freeze a new anchor set"
    return LinkingError(
        f"scale {anchors.scale_id}: the fit cannot be linked to anchor set {anchors.version}. Of its"
        f" {len(anchors.item_ids)} anchors {n_candidates} have ≥ {limits.min_anchor_responses} responses in the"
        f" fit, and {why}. Dropped ({len(dropped)}): {named or 'none.'} Two ways out: {first}, or declare a window the"
        " new origin of the scale (irt scale init)."
    )


def _aligned(pairs: Pairs, limits: AnchorLimits) -> Alignment:
    """The line of the anchors that did not move. It begins at lines through one anchor's b with the median slope."""
    slope, _ = medians(pairs)
    some = np.arange(0, pairs.size, -(-pairs.size // _MOST_STARTS))
    starts = np.column_stack([np.full(some.size, slope), (pairs.old.b - slope * pairs.new.b)[some]])
    return align(pairs.differences, starts, expected_variation=limits.item_variation)


def _off_the_line(pairs: Pairs, found: Alignment) -> dict[str, str]:
    """Why anchors are not used that moved."""
    reasons, tests_slopes = {}, pairs.tests_slopes
    for k in np.flatnonzero(~found.kept):
        df = 1 + int(tests_slopes[k])
        p = chdtrc(df, found.wald[k])
        reasons[pairs.ids[k]] = (
            f"It lies off the line of the anchors that are kept: b by {found.d[k, 1]:+.2f}"
            + (f", ln a by {found.d[k, 0]:+.2f}" if df == 2 else "")
            + f", Wald distance {found.wald[k]:.1f} (df {df}, p = {p:.1g})."
        )
    return reasons


def _moved(pairs: Pairs, found: Alignment, constants: Constants) -> tuple[dict[str, Suspect], str]:
    """The anchors that moved against the others, largest |z| first, and that in words.

    Answers show how far anchors moved against each other, never which of two groups stood still (Bechger & Maris 2015):
    only a majority can name the others.
    """
    n = int(found.kept.sum())
    if n == pairs.size:
        return {}, ""
    if 2 * n <= pairs.size:
        return {}, f"which anchors moved cannot be determined: of {pairs.size}, {n} agree with each other"
    inverse = np.linalg.inv(np.where(found.own[:, :, None] & found.own[:, None], found.d_cov, np.eye(2)))
    d = found.d * found.own
    alone = np.einsum("kij,kj->ki", inverse, d) / np.sqrt(np.einsum("kii->ki", inverse))
    parameter = np.abs(alone).argmax(axis=1)
    z = alone[np.arange(pairs.size), parameter]
    delta_a = pairs.new.a / constants.slope - pairs.old.a
    delta_b = constants.slope * pairs.new.b + constants.intercept - pairs.old.b
    moved = np.flatnonzero(~found.kept)
    suspects = {
        pairs.ids[k]: Suspect(float(delta_b[k]), float(delta_a[k]), float(z[k]), "b" if parameter[k] else "a")
        for k in moved[np.argsort(-np.abs(z[moved]), kind="stable")]
    }
    named = ", ".join(f"{item} ({suspect.shown})" for item, suspect in suspects.items())
    return suspects, f"moved against the others: {named}"


def match(new: Calibration, anchors: AnchorSet, limits: AnchorLimits) -> tuple[Pairs, dict[str, str]]:
    """The anchors usable on both sides, and why the others are not."""
    place = {item: j for j, item in enumerate(new.item_ids)}
    cov_ab = new.cov_ab
    slopes_fixed = which(new.models, lambda model: model.fixed_slopes)
    dropped: dict[str, str] = {}
    rows, used = [], []
    for k, item in enumerate(anchors.item_ids):
        j = place.get(item)
        if j is None:
            dropped[item] = "It is not among the items of this fit."
            continue
        if why := why_unusable(new, j, limits):
            dropped[item] = why
        elif not anchors.a[k] > 0:
            dropped[item] = f"Its discrimination in the anchor set is {anchors.a[k]:.3f}, not above 0."
        elif not (np.isfinite(cov_ab[j]).all() and cov_ab[j, 1, 1] > 0 and (slopes_fixed[j] or cov_ab[j, 0, 0] > 0)):
            dropped[item] = "This fit gave it no standard errors."
        else:
            rows.append(j)
            used.append(item)
    some = new.select(np.array(rows, dtype=int))
    return Pairs(some.items, anchors.select(used), some.models), dropped


def why_unusable(fit: Calibration, j: int, limits: AnchorLimits) -> str:
    """Why a fit says too little of its item `j` to compare it with other values; empty where it says enough."""
    if fit.n[j] < limits.min_anchor_responses:
        return f"It has {fit.n[j]} responses in this window, {limits.min_anchor_responses} are needed."
    bad_flag = next((f for f in fit.flags[j] if not f.meaning.anchors_may_carry), None)
    if bad_flag is not None:
        return f"This fit could not estimate it: {bad_flag.explanation}."
    return "" if fit.a[j] > 0 else f"Its discrimination in this fit is {fit.a[j]:.3f}, not above 0: check its key."


def weighted_by_populations(pairs: Pairs, new: Calibration, symmetric: bool) -> Pairs:
    """The same pairs with the distributions over which the criterion compares curves, as `link` describes them.

    In one direction the window's histogram stands on the old scale where the anchors' medians put it.
    """
    only = new.populations[0] if len(new.populations) == 1 else None
    histogram = only if only and only.nodes else None
    if symmetric:
        nodes, weights = new.latent_mean + new.latent_sd * NODES, WEIGHTS
        if histogram:
            nodes, weights = np.array(histogram.nodes), np.array(histogram.weights)
        return replace(pairs, nodes_new=nodes, weights_new=weights)
    if not histogram:
        return pairs
    placed = histogram.rescaled(*medians(pairs))
    return replace(pairs, nodes=np.array(placed.nodes), weights=np.array(placed.weights))


def with_items(new: Calibration, pairs: Pairs, constants: Constants) -> Floats:
    """See `Linking.with_items`."""
    place = {item: j for j, item in enumerate(new.item_ids)}
    used = np.array([place[item] for item in pairs.ids])
    by_ad = constants.by_new.reshape(2, -1, 2).swapaxes(0, 1) @ ab_by_ad(new.a[used], new.d[used])
    own, by_own = np.nan_to_num(new.cov[used]), np.zeros((pairs.size, new.cov.shape[1], 2))
    by_own[:, :2] = by_ad.swapaxes(1, 2)
    if constants.by_further_new is not None and by_own.shape[1] > 2:
        by_own[:, 2:] = constants.by_further_new.transpose(1, 2, 0)
    shared = np.zeros((new.n_items, *by_own.shape[1:]))
    if not (new.joint_cov is None or len(pairs.new.cov) == pairs.size):
        n = 2 * new.n_items
        with_used = new.joint_cov[:n, :n].reshape(new.n_items, 2, new.n_items, 2)[:, :, used]
        shared[:, :2] = np.einsum("jxky,kiy->jxi", with_used, by_ad, optimize=True)
        own[:, :2, :2] = 0.0  # is among these
    shared[used] += own @ by_own
    return shared


def ad_by_constants(a: Floats, linking: Linking) -> Floats:
    """Shape (J, 2, 2): ∂(a*, d*)/∂(slope, intercept)."""
    slope, intercept = linking.slope, linking.intercept
    jacobian = np.zeros((len(a), 2, 2))
    jacobian[:, 0, 0], jacobian[:, 1, 0], jacobian[:, 1, 1] = -a / slope**2, a * intercept / slope**2, -a / slope
    return jacobian


def transform(calibration: Calibration, linking: Linking) -> Calibration:
    """The fit on the bank's scale: a* = a/slope, b* = slope·b + intercept, so d* = d − a·intercept/slope.

    The latent mean and SD move along. Covariances gain by the delta method the constants' own error and what it shares
    with the items' errors: an anchor's error has gone into the constants, and all items share the sample of learners,
    both with a sign that takes error away. `drift.errors.with_errors` makes both again for a linking that was stored.
    """
    slope, intercept = linking.slope, linking.intercept
    moved = calibration.rescaled(slope, intercept)
    by_constants = np.zeros((*moved.cov.shape[:2], 2))
    by_constants[:, :2] = ad_by_constants(calibration.a, linking)
    shared = np.zeros(by_constants.shape) if linking.with_items is None else linking.with_items.copy()
    shared[:, :2] = np.array([[1 / slope, 0.0], [-intercept / slope, 1.0]]) @ shared[:, :2]
    cross = shared @ by_constants.transpose(0, 2, 1)
    cov = moved.cov + by_constants @ linking.cov @ by_constants.transpose(0, 2, 1) + cross + cross.transpose(0, 2, 1)
    joint = moved.joint_cov
    if joint is not None:
        places = calibration.places_of_parameters
        has, n = places >= 0, places.shape[1]
        all_constants, with_constants = np.zeros((2, len(joint), 2))
        all_constants[places[has]], with_constants[places[has]] = by_constants[:, :n][has], shared[:, :n][has]
        between = with_constants @ all_constants.T
        joint = joint + all_constants @ linking.cov @ all_constants.T + between + between.T
    return replace(moved, cov=cov, joint_cov=joint)

"""Link a fit (new) to a bank's scale (old) through anchors: θ* = slope·θ + intercept.

This module determines the anchors that are used. The alignment is in `alignment`, the criteria are in `criteria`, and
`placement.Linking` transforms a fit.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import get_args

import numpy as np
from scipy.special import chdtrc

from irt_psychometrics.alignment.common_line import (
    MIN_ITEMS,
    Agreement,
    Alignment,
    NoLineError,
    align,
)
from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.assumed_errors import ASSUMED_N, NODES, WEIGHTS
from irt_psychometrics.core.errors import BreakdownError, PsychometricsError
from irt_psychometrics.core.item_models import items_where
from irt_psychometrics.core.models import Calibration, Floats, ab_by_ad
from irt_psychometrics.core.options import Method
from irt_psychometrics.core.significance import skewness_of
from irt_psychometrics.linking.criteria import AnchorPairs, Constants, medians, solve
from irt_psychometrics.linking.placement import AnchorLimits, Linking, LinkingError, Suspect

_MAX_STARTS = 100


def link_to_anchors(
    new: Calibration,
    anchors: AnchorSet,
    *,
    method: Method = "stocking-lord",
    symmetric: bool = False,
    purify: bool = True,
    limits: AnchorLimits | None = None,
) -> Linking:
    """Find the constants that put `new` on the scale of `anchors`.

    `alignment` finds the anchors that moved and the SD τ by which the others vary. Anchors are weighted by the errors
    of their differences if every anchor's own errors are known; if some are assumed, the classical criterion is used.
    Standard errors follow from the errors of fit and anchors through the criterion (delta method on the implicit
    function). With `new.joint_cov` they include the covariances between the fit's items. Constants and their errors
    depend on the fit and the frozen anchors alone.

    Parameters
    ----------
    new
        The fit, on its own scale.
    anchors
        The anchors, on the bank's scale.
    method
        "stocking-lord" (Stocking & Lord 1983) or "haebara" (Haebara 1980), both on 61 nodes on [−6, 6] of the old
        scale, weighted by N(0, 1), or by the window's own distribution if it is a histogram; "mean-sigma" or
        "mean-mean".
    symmetric
        Whether Stocking-Lord and Haebara compare curves on both scales: on the old scale over N(0, 1) and on the fit's
        scale over the window's own distribution.
    purify
        Whether anchors that moved are left out. If not, all usable anchors are used, and τ is 0.
    limits
        Requirements for anchors; None: the defaults of `AnchorLimits`.

    Returns
    -------
    Linking
        The constants, their errors, and the anchors' agreement.

    Raises
    ------
    LinkingError
        If the anchors determine no line.
    BreakdownError
        If the errors of the fit or of the anchors are not a covariance matrix.
    PsychometricsError
        For an unknown method, or if `symmetric` is requested of a method that compares no curves.

    References
    ----------
    Haebara, T. (1980). Equating logistic ability scales by a weighted least squares method. Japanese Psychological
    Research, 22, 144-149.
    Kim, S. & Kolen, M. J. (2007). Effects on scale linking of different definitions of criterion functions for the IRT
    characteristic curve methods. Journal of Educational and Behavioral Statistics, 32, 371-397.
    Loyd, B. H. & Hoover, H. D. (1980). Vertical equating using the Rasch model. Journal of Educational Measurement, 17,
    179-193.
    Marco, G. L. (1977). Item characteristic curve solutions to three intractable testing problems. Journal of
    Educational Measurement, 14, 139-160.
    Stocking, M. L. & Lord, F. M. (1983). Developing a common metric in item response theory. Applied Psychological
    Measurement, 7, 201-210.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.linking import AnchorSet, link_to_anchors
    >>> old, new = irt.datasets.two_forms()
    >>> f, g = irt.fit(old.responses), irt.fit(new.responses)
    >>> more = {"scale_id": "maths", "version": "1", "topics": (None,) * 30, "errors_assumed": np.zeros(30, dtype=bool)}
    >>> anchors = AnchorSet(**vars(f.calibration.items), **more)
    >>> linking = link_to_anchors(g.calibration, anchors)
    >>> round(linking.slope, 1), round(linking.intercept, 1)
    (1.1, 0.3)
    """
    if method not in get_args(Method):
        raise PsychometricsError(f"no such linking method: {method!r}; the methods are {', '.join(get_args(Method))}")
    limits = limits or AnchorLimits()
    pairs, dropped = match(new, anchors, limits)
    answers = dict(zip(new.item_ids, new.n.tolist(), strict=True))
    n_candidates = sum(answers.get(item, -1) >= limits.min_anchor_responses for item in anchors.item_ids)
    n_implied = len({*anchors.cov_ab_assumed} & {*pairs.ids})
    n_assumed = int(anchors.errors_assumed[np.isin(anchors.item_ids, pairs.ids)].sum())
    if pairs.size < MIN_ITEMS:
        raise _not_linked(anchors, limits, n_candidates, dropped, f"{pairs.size} of these can be used")
    found, kept = None, pairs
    if purify:
        try:
            found = _align_anchors(pairs, limits)
        except NoLineError as error:
            raise _not_linked(anchors, limits, n_candidates, dropped, str(error)) from None
        kept = replace(pairs.keep(found.kept), variation=(found.tau_slope, found.tau))
    share = kept.size / n_candidates
    compared = weight_by_populations(kept, new, symmetric)
    constants = solve(compared, method, weighted=n_assumed == 0)
    if constants is None:
        why = f"the {method} criterion has no minimum for the {kept.size} that can be used"
        raise _not_linked(anchors, limits, n_candidates, dropped, why)
    cov = constants.covariance(kept)
    agreement = (
        found.agreement if found else Agreement.from_differences(kept.differences(constants.slope, constants.intercept))
    )
    _require_errors(cov, agreement, anchors.scale_id)
    suspects, diagnosis = _moved_anchors(pairs, found, constants) if found else ({}, "")
    if found:
        dropped |= _off_line_reasons(pairs, found)
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
        warnings=_warnings(n_assumed, n_implied, share, limits),
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


def _warnings(n_assumed: int, n_implied: int, share: float, limits: AnchorLimits) -> tuple[str, ...]:
    warnings = []
    if n_implied:
        warnings.append(
            f"{n_implied} anchors have errors in the bank but no covariances (cov_ab): the covariances"
            " that the model implies for θ ~ N(0, 1) are assumed"
        )
    if n_assumed:
        warnings.append(
            f"{n_assumed} anchors have no errors in the bank: the errors of a calibration with n = {ASSUMED_N} are"
            " assumed, and anchors are not weighted"
        )
    if share < limits.warn_anchor_share:
        warnings.append(f"only {share:.0%} of the anchors with enough responses are used: review the dropped anchors")
    return tuple(warnings)


def _require_errors(cov: Floats, agreement: Agreement, scale_id: str) -> None:
    if not (np.isfinite(cov).all() and (np.diag(cov) >= 0).all() and np.isfinite(agreement.q)):
        raise BreakdownError(
            f"the linking of scale {scale_id} has no standard errors: the errors of the fit or of its"
            " anchors are not a covariance matrix. Fit the month again, or leave out the anchors with few answers"
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
        f" fit, and {why}. Dropped ({len(dropped)}): {named or 'none.'} Two remedies: {first}, or declare a window the"
        " new origin of the scale (irt scale init)"
    )


def _align_anchors(pairs: AnchorPairs, limits: AnchorLimits) -> Alignment:
    """The line of the anchors that did not move, starting from lines through one anchor's b with the median slope."""
    slope, _ = medians(pairs)
    some = np.arange(0, pairs.size, -(-pairs.size // _MAX_STARTS))
    starts = np.column_stack([np.full(some.size, slope), (pairs.old.b - slope * pairs.new.b)[some]])
    return align(pairs.differences, starts, expected_variation=limits.item_variation)


def _off_line_reasons(pairs: AnchorPairs, found: Alignment) -> dict[str, str]:
    """The reason why each anchor that moved is not used, by its id."""
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


def _moved_anchors(pairs: AnchorPairs, found: Alignment, constants: Constants) -> tuple[dict[str, Suspect], str]:
    """The anchors that moved against the others, largest |z| first, and a sentence about them.

    Answers determine how anchors changed relative to each other, but not which of two groups stayed unchanged (Bechger
    & Maris 2015). So anchors are named only if a majority of them agree with each other.
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


def match(new: Calibration, anchors: AnchorSet, limits: AnchorLimits) -> tuple[AnchorPairs, dict[str, str]]:
    """The anchors that are usable in the fit and in the set, and the reason why each other anchor is not, by its id."""
    place = {item: j for j, item in enumerate(new.item_ids)}
    cov_ab = new.cov_ab
    slopes_fixed = items_where(new.models, lambda model: model.fixed_slopes)
    dropped: dict[str, str] = {}
    rows, used = [], []
    for k, item in enumerate(anchors.item_ids):
        j = place.get(item)
        if j is None:
            dropped[item] = "It is not among the items of this fit."
            continue
        if why := limits.why_unusable(new, j):
            dropped[item] = why
        elif not anchors.a[k] > 0:
            dropped[item] = f"Its discrimination in the anchor set is {anchors.a[k]:.3f}, not above 0."
        elif not (np.isfinite(cov_ab[j]).all() and cov_ab[j, 1, 1] > 0 and (slopes_fixed[j] or cov_ab[j, 0, 0] > 0)):
            dropped[item] = "This fit gave it no standard errors."
        else:
            rows.append(j)
            used.append(item)
    some = new.select(np.array(rows, dtype=int))
    return AnchorPairs(some.items, anchors.select(used), some.models), dropped


def weight_by_populations(pairs: AnchorPairs, new: Calibration, symmetric: bool) -> AnchorPairs:
    """The same pairs with the distributions over which the criterion compares curves; see `link_to_anchors`.

    For a criterion of one direction, the window's histogram is put on the old scale by the anchors' medians.
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


def with_items(new: Calibration, pairs: AnchorPairs, constants: Constants) -> Floats:
    """Covariance of each item's parameters with the constants; see `Linking.with_items`."""
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
        own[:, :2, :2] = 0.0  # `shared` already contains these covariances
    shared[used] += own @ by_own
    return shared

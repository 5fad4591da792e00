"""Errors of the parameters of items that measure several dimensions, from the observed information."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.logistic import logit
from irt_psychometrics.core.model_families import GUESSING_BOUNDS, SLOPE_BOUND
from irt_psychometrics.core.priors import Priors
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.dimensions import curves
from irt_psychometrics.dimensions.calibration import DimensionsCalibration
from irt_psychometrics.dimensions.posterior import CurvesAndAnswers, model_of_items
from irt_psychometrics.dimensions.posterior_kernels import Scores, expand_scores
from irt_psychometrics.estimation.likelihood import BEND_STEP
from irt_psychometrics.estimation.reductions import Sums, add_parts
from irt_psychometrics.estimation.standard_errors import inverse

_SHARE = 0.01
"""Smallest share of a parameter in singular directions of the information that leaves the parameter without error."""
_COMPONENTS_AT_ONCE = 1_000_000
_RESPONSES_PER_PART, _MAX_PARTS = 50_000, 64


def dimensions_errors(
    responses: Responses,
    calibration: DimensionsCalibration,
    weights: Floats | None = None,
    priors: Priors | None = None,
    threads: int | None = None,
) -> DimensionsCalibration:
    """Compute the covariance of all free parameters at the maximum of the likelihood.

    It is the inverse of the observed information (Louis 1982). The errors of an exploratory fit belong to its unrotated
    slopes, with the zeros of its first items. Rotated loadings have no errors.

    Parameters
    ----------
    responses
        The responses that were fitted.
    calibration
        The fit.
    weights
        Shape (N,), the number of persons that each person represents; None: 1.
    priors
        The priors of the fit; None: the default priors of its models.
    threads
        Number of threads; None: all processors. The result does not depend on it.

    Returns
    -------
    DimensionsCalibration
        The fit with `cov`. If the answers do not determine a parameter, for example because the slopes of a specific
        dimension are 0, its row and column are NaN, and `missing_errors` names the parameters. The same holds for
        parameters at a bound.

    References
    ----------
    Louis, T. A. (1982). Finding the observed information matrix when using the EM algorithm. Journal of the Royal
    Statistical Society B, 44, 226-233.
    """
    observed, complete = observed_information(responses, calibration, weights, priors, threads)
    stopped = _at_bound(calibration)
    free, lost = ~stopped, stopped.copy()
    scale = np.sqrt(np.diag(complete)[free])
    scale[~(scale > 0)] = 1.0
    covariance, share = inverse(observed[np.ix_(free, free)] / np.outer(scale, scale))
    cov = np.full(observed.shape, np.nan)
    cov[np.ix_(free, free)] = covariance / np.outer(scale, scale)
    lost[free] = share > _SHARE
    cov[lost], cov[:, lost] = np.nan, np.nan
    return replace(calibration, cov=cov, missing_errors=_reason(calibration, lost & ~stopped, stopped))


def observed_information(
    responses: Responses,
    calibration: DimensionsCalibration,
    weights: Floats | None = None,
    priors: Priors | None = None,
    threads: int | None = None,
) -> tuple[Floats, Floats]:
    """Compute the observed and the complete-data information of the free parameters, shape (p, p) each.

    The observed information is the complete-data information minus the covariance of the persons' scores given their
    answers (Louis 1982). Given the primary dimensions, scores of different specific dimensions are independent, so the
    covariance is the mean of the specific dimensions' covariances plus the covariance of conditional means.
    """
    own = CurvesAndAnswers.from_responses(responses, calibration, calibration.nodes, weights)
    rows = _Rows.from_calibration(calibration)
    scores = Scores(
        alone=_scores_of_items(calibration, own, own.alone, own.tables.alone.shape),
        paired=_scores_of_items(calibration, own, own.paired, own.tables.paired.shape),
        place=rows.place,
        inner=rows.inner,
        others=_scores_of_correlations(calibration, own.tables.theta),
    )
    part = partial(_sums_of_part, own, scores, rows)
    cut = kernels.cut(np.diff(own.tables.start) + 1, min(_MAX_PARTS, 1 + own.tables.item.size // _RESPONSES_PER_PART))
    with kernels.runner(threads) as run:
        lost, alone, paired, persons = add_parts(run.in_order(part, cut, max(2, run.threads)))
    p = calibration.places.n_free
    complete, missing = np.zeros((p, p)), np.zeros((p, p))
    np.add.at(missing, (rows.free[:, None], rows.free), lost)
    for items, counts in ((own.alone, alone), (own.paired, paired)):
        if not items.size:
            continue
        for j, block in zip(items, _information_of_items(calibration, own, items, counts), strict=True):
            has = rows.place[j] >= 0
            at = rows.free[rows.place[j][has]]
            np.add.at(complete, (at[:, None], at), block[np.ix_(has, has)])
    at = rows.free[len(rows.free) - len(scores.others) :]
    complete[np.ix_(at, at)] += _information_of_correlations(calibration, own.tables.theta, persons)
    bend = np.diag(_prior_information(calibration, priors))
    return complete - missing + bend, complete + bend


@dataclass(frozen=True)
class _Rows:
    """Rows of parameters in the covariance of scores, before equal slopes are added up.

    Attributes:
        place, inner: shape (J, P + 2 + M), see `posterior_kernels.Scores`.
        of_specific: for each specific dimension, the rows in the whole covariance of the rows in its own one.
        free: shape (L,), the free parameter of each row; those of correlations come last.
    """

    place: Ints
    inner: Ints
    of_specific: tuple[Ints, ...]
    free: Ints

    @classmethod
    def from_calibration(cls, calibration: DimensionsCalibration) -> _Rows:
        dimensions, places = calibration.dimensions, calibration.places
        P, S = dimensions.n_primary, len(dimensions.names) - dimensions.n_primary
        specific = dimensions.specific
        own = np.where(specific < 0, -1, places.slopes[np.arange(specific.size), P + specific])
        free = np.column_stack([places.slopes[:, :P], own, places.intercepts, places.further])
        free[~calibration.estimated] = -1
        has = free >= 0
        place, inner = np.full(free.shape, -1), np.full(free.shape, -1)
        place[has] = np.arange(has.sum())
        of_specific = []
        for s in range(S):
            here = has & (specific == s)[:, None]
            inner[here] = np.arange(here.sum())
            of_specific.append(place[here])
        return cls(place, inner, tuple(of_specific), np.concatenate([free[has], _correlations(calibration)[2]]))


def _correlations(calibration: DimensionsCalibration) -> tuple[Ints, Ints, Ints]:
    """Return the two dimensions and the place of each free correlation, shape (C,) each."""
    first, second = np.nonzero(np.triu(calibration.places.correlations >= 0, 1))
    return first, second, calibration.places.correlations[first, second]


def _sums_of_part(own: CurvesAndAnswers, scores: Scores, rows: _Rows, part: tuple[int, int]) -> Sums:
    """Compute the covariance of scores, and the expected counts of answers and persons, over a range of persons."""
    first, last = part
    G, Q, L, S = own.tables.primary.size, own.tables.unit.size, len(rows.free), len(rows.of_specific)
    most = max([1, *map(len, rows.of_specific)])
    whole = np.zeros((L, max(G, _COMPONENTS_AT_ONCE // max(L, 1))))
    inner = np.zeros((S, most, max(G * Q, _COMPONENTS_AT_ONCE // (most * max(S, 1)))))
    counts = np.zeros(own.tables.alone.shape), np.zeros(own.tables.paired.shape), np.zeros(G)
    lost, used = np.zeros((L, L)), np.zeros(1 + S, dtype=np.int64)
    while first < last:
        whole[:], inner[:], used[:] = 0.0, 0.0, 0
        first = expand_scores(first, last, own.tables, scores, counts, whole, inner, used)
        lost += whole[:, : used[0]] @ whole[:, : used[0]].T
        for s, at in enumerate(rows.of_specific):
            filled = inner[s, : at.size, : used[1 + s]]
            lost[np.ix_(at, at)] += filled @ filled.T
    return lost, *counts


def _scores_of_items(
    calibration: DimensionsCalibration, own: CurvesAndAnswers, items: Ints, shape: tuple[int, ...]
) -> Floats:
    """Compute ∂ log P/∂z and by each further parameter of each row of a table with this shape, see `Scores`."""
    if not items.size:
        return np.zeros((0, 1, *shape[1:]))
    by = _by_z(calibration, items, own.nodes.z(calibration, items), calibration.further_parameters[items])
    return np.ascontiguousarray(by.transpose(1, 3, 0, 2)).reshape(shape[0], len(by), *shape[1:])


def _by_z(calibration: DimensionsCalibration, items: Ints, z: Floats, further: Floats) -> Floats:
    return curves.derivatives(model_of_items(calibration, items), z, further, calibration.categories[items])


def _information_of_items(
    calibration: DimensionsCalibration, own: CurvesAndAnswers, items: Ints, counts: Floats
) -> Floats:
    """Minus the second derivatives of log P, summed over expected answers, shape (n, P + 2 + M, P + 2 + M).

    `counts` are expected answers in rows as in `Tables`. Derivatives are differences of first derivatives.
    """
    z, further = own.nodes.z(calibration, items), calibration.further_parameters[items]
    M, directions = further.shape[1], own.nodes.directions(counts.ndim == 3)
    expected = counts.reshape(items.size, -1, z.shape[1])
    bends = np.empty((items.size, 1 + M, 1 + M, z.shape[1]))
    for k in range(1 + M):
        step = BEND_STEP * (np.arange(1 + M) == k)
        low, high = (_by_z(calibration, items, z + move[0], further + move[1:]) for move in (-step, step))
        bends[:, k] = np.einsum("mnxc,ncx->nmx", low - high, expected) / (2 * BEND_STEP)
    P2 = len(directions)
    out = np.empty((items.size, P2 + M, P2 + M))
    out[:, :P2, :P2] = np.einsum("nx,ax,bx->nab", bends[:, 0, 0], directions, directions, optimize=True)
    out[:, P2:, :P2] = (bends[:, 1:, 0] + bends[:, 0, 1:]) / 2 @ directions.T
    out[:, :P2, P2:] = out[:, P2:, :P2].transpose(0, 2, 1)
    inner = bends[:, 1:, 1:].sum(axis=3)
    out[:, P2:, P2:] = (inner + inner.transpose(0, 2, 1)) / 2
    return out


def _units_of_correlations(calibration: DimensionsCalibration) -> tuple[Floats, Floats]:
    """Return the inverse of the primary dimensions' correlations R, and R⁻¹ ∂R/∂ρ of each free correlation ρ."""
    P = calibration.dimensions.n_primary
    first, second, _ = _correlations(calibration)
    by = np.zeros((first.size, P, P))
    by[np.arange(first.size), first, second] = by[np.arange(first.size), second, first] = 1.0
    precision = np.linalg.inv(calibration.correlations[:P, :P])
    return precision, precision @ by


def _scores_of_correlations(calibration: DimensionsCalibration, theta: Floats) -> Floats:
    """Compute the derivatives of the log density of `theta` (P, G) by the free correlations, shape (C, G)."""
    precision, by = _units_of_correlations(calibration)
    return 0.5 * (np.einsum("pg,cpq,qg->cg", theta, by @ precision, theta) - np.einsum("cpp->c", by)[:, None])


def _information_of_correlations(calibration: DimensionsCalibration, theta: Floats, persons: Floats) -> Floats:
    """Minus the second derivatives of the log density by the free correlations, summed over `persons` (G,)."""
    precision, by = _units_of_correlations(calibration)
    squares = (theta * persons) @ theta.T
    return np.einsum("cpq,dqr,rs,sp->cd", by, by, precision, squares) - 0.5 * persons.sum() * np.einsum(
        "cpq,dqp->cd", by, by
    )


def _prior_information(calibration: DimensionsCalibration, priors: Priors | None) -> Floats:
    """Return the prior's information on the logit c of each free parameter, shape (p,); 0 for others."""
    out, prior = np.zeros(calibration.places.n_free), priors or calibration.item_model.default_priors
    guessed = calibration.item_model.guessed(len(calibration.models)) & calibration.estimated
    if prior.c is not None and guessed.any():
        out[calibration.places.further[guessed, 0]] = prior.c.terms(calibration.further_parameters[guessed, 0]).bend
    return out


def _at_bound(calibration: DimensionsCalibration) -> Mask:
    """Mask of the free parameters that stopped at a bound, shape (p,)."""
    stopped, places = np.zeros(calibration.places.n_free, dtype=bool), calibration.places
    slopes = (places.slopes >= 0) & (np.abs(calibration.slopes) >= SLOPE_BOUND)
    stopped[places.slopes[slopes]] = True
    guessed = calibration.item_model.guessed(len(calibration.models)) & calibration.estimated
    low, high = logit(np.array(GUESSING_BOUNDS))
    at = np.flatnonzero(guessed)
    c = calibration.further_parameters[at, :1].ravel()
    stopped[places.further[at, :1].ravel()[(c <= low) | (c >= high)]] = True
    return stopped


def _reason(calibration: DimensionsCalibration, lost: Mask, stopped: Mask) -> str:
    """Explain which parameters have no errors; empty if all have."""
    parts = []
    if lost.any():
        parts.append(
            f"the answers do not determine {some_of(_names(calibration, lost))}, so these parameters have no errors. "
            "Drop a dimension whose slopes are about 0, or tie its slopes"
        )
    if stopped.any():
        verbs = "has no error" if stopped.sum() == 1 else "have no errors"
        parts.append(f"{some_of(_names(calibration, stopped))} stopped at a bound and {verbs}")
    return ". ".join(parts)


def _names(calibration: DimensionsCalibration, some: Mask) -> list[str]:
    """Name free parameters, for example "the slope of q1 on algebra"."""
    ids, places, dimensions = calibration.item_ids, calibration.places, calibration.dimensions.names
    names: dict[int, str] = {}
    for (d, e), at in np.ndenumerate(places.correlations):
        names.setdefault(int(at), f"the correlation of {dimensions[d]} and {dimensions[e]}")
    for (j, d), at in np.ndenumerate(places.slopes):
        names.setdefault(int(at), f"the slope of {ids[j]} on {dimensions[d]}")
    for j, at in enumerate(places.intercepts.tolist()):
        names.setdefault(at, f"the intercept of {ids[j]}")
    for (j, m), at in np.ndenumerate(places.further):
        names.setdefault(int(at), f"parameter {m + 3} of {ids[j]}")
    return [names[k] for k in np.flatnonzero(some).tolist()]

"""Errors of the parameters of items that measure several dimensions, from the observed information."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import compress

import numpy as np

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.priors import Priors
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.dimensions import curves
from irt_psychometrics.dimensions.calibration import DimensionsCalibration
from irt_psychometrics.dimensions.error_kernels import Scores, expand_scores
from irt_psychometrics.dimensions.fitting import _check_request, _lay_out
from irt_psychometrics.dimensions.likelihood import Layout, _Group
from irt_psychometrics.dimensions.posterior import OnNodes
from irt_psychometrics.estimation.em_request import Persons
from irt_psychometrics.estimation.likelihood import BEND_STEP
from irt_psychometrics.estimation.reductions import Sums, add_parts
from irt_psychometrics.estimation.source import InMemory
from irt_psychometrics.estimation.standard_errors import inverse

_SHARE = 0.01
"""Smallest share of a parameter in singular directions of the information that leaves the parameter without error."""
_COMPONENTS_AT_ONCE = 1_000_000


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
    responses, weights, priors
        The arguments with which `fit_dimensions` made the fit.
    calibration
        The fit.
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
    layout = _fitted_layout(responses, calibration, weights, priors)
    observed, complete = observed_information(responses, calibration, layout, weights, threads)
    low, high = layout.bounds
    stopped = (calibration.vector <= low) | (calibration.vector >= high)
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
    layout: Layout,
    weights: Floats | None = None,
    threads: int | None = None,
) -> tuple[Floats, Floats]:
    """Compute the observed and the complete-data information of the free parameters, shape (p, p) each.

    Both include the information of the priors in `layout`. The observed information is the complete-data information
    minus the covariance of the persons' scores given their answers (Louis 1982). Given the primary dimensions, scores
    of different specific dimensions are independent, so this covariance is the covariance of the conditional means plus
    the mean of each specific dimension's conditional covariance.
    """
    with kernels.runner(threads) as run:
        own = OnNodes.from_responses(responses, calibration, calibration.nodes, run, weights)
        rows = _Rows.from_items(own)
        part = partial(_covariance_of_part, own, rows, rows.scores(own))
        (covariance,) = add_parts(run.in_order(part, own.problem.answers.pieces, max(2, run.threads)))
        _, alone, within, mass = own.problem._counts(own.tables)
    p = calibration.places.n_free
    gradient, complete, missing = np.zeros(p), np.zeros((p, p)), np.zeros((p, p))
    np.add.at(missing, (rows.free[:, None], rows.free), covariance)
    for group, counts, at in ((own.alone, alone, rows.alone), (own.within, within, rows.within)):
        for place, block in zip(at, _information_of_items(group, counts), strict=True):
            places = rows.free[place[place >= 0]]
            np.add.at(complete, (places[:, None], places), block[np.ix_(place >= 0, place >= 0)])
    at = rows.free[len(rows.free) - len(rows.others) :]
    complete[np.ix_(at, at)] += _information_of_correlations(own, mass)
    replace(own.problem, layout=layout)._add_priors(layout.expand(calibration.vector), gradient, complete)
    return complete - missing, complete


@dataclass(frozen=True)
class _Rows:
    """Rows of parameters in the covariance of scores, before equal slopes are added up.

    Attributes:
        alone, within, inner: rows of the items' parameters, see `error_kernels.Scores`.
        of_specific: for each specific dimension, the rows in the whole covariance of the rows in its own one.
        free: shape (L,), the free parameter of each row; correlations come last.
        others: shape (O, T), scores of the correlations.
    """

    alone: Ints
    within: Ints
    inner: Ints
    of_specific: tuple[Ints, ...]
    free: Ints
    others: Floats

    @classmethod
    def from_items(cls, own: OnNodes) -> _Rows:
        dimensions, places = own.problem.layout.dimensions, own.problem.layout.places.correlations
        free = [own.alone._places, own.within._places]
        alone, within = (np.full(x.shape, -1) for x in free)
        alone[free[0] >= 0] = np.arange((free[0] >= 0).sum())
        within[free[1] >= 0] = (free[0] >= 0).sum() + np.arange((free[1] >= 0).sum())
        inner, of_specific = np.full(within.shape, -1), []
        for s in range(len(dimensions.names) - dimensions.n_primary):
            here = (within >= 0) & (dimensions.specific[own.problem.answers.within] == s)[:, None]
            inner[here] = np.arange(here.sum())
            of_specific.append(within[here])
        correlations = places[np.nonzero(np.triu(places >= 0))]
        P = dimensions.n_primary
        others = own.problem.scores_of_correlations(own.problem.layout.fixed.correlations[:P, :P])
        rows = np.concatenate([*(x[x >= 0] for x in free), correlations])
        return cls(alone, within, inner, tuple(of_specific), rows, np.ascontiguousarray(others.T))

    def scores(self, own: OnNodes) -> Scores:
        """Compute the scores at the nodes."""
        of_items = _scores_of_items(own.alone), _scores_of_items(own.within)
        return Scores(*of_items, self.alone, self.within, self.inner, self.others, own.alone._logs.shape[2])


def _covariance_of_part(own: OnNodes, rows: _Rows, scores: Scores, part: tuple[int, int]) -> Sums:
    """Compute the covariance of scores, shape (L, L), over a range of persons."""
    first, last = part
    (T,), (Q,) = own.tables.primary.shape, own.tables.specific.shape
    L, S, most = len(rows.free), len(rows.of_specific), max([1, *map(len, rows.of_specific)])
    whole = np.zeros((L, max(T, _COMPONENTS_AT_ONCE // max(L, 1))))
    inner = np.zeros((S, most, max(T * Q, _COMPONENTS_AT_ONCE // (most * max(S, 1)))))
    covariance, used = np.zeros((L, L)), np.zeros(1 + S, dtype=np.int64)
    while first < last:
        whole[:], inner[:], used[:] = 0.0, 0.0, 0
        first = expand_scores(first, last, own.problem.answers.persons, own.tables, scores, whole, inner, used)
        covariance += whole[:, : used[0]] @ whole[:, : used[0]].T
        for s, at in enumerate(rows.of_specific):
            filled = inner[s, : at.size, : used[1 + s]]
            covariance[np.ix_(at, at)] += filled @ filled.T
    return (covariance,)


def _scores_of_items(group: _Group) -> Floats:
    """Compute ∂ log P by the slopes, d and further parameters, in rows as in `error_kernels.Scores`."""
    (n, K), C = group._places.shape, group._logs.shape[2]
    scores = np.zeros((n, C, K, len(group._theta)))
    if n:
        by = curves.derivatives(group._model, group._z, group._further, group._categories).swapaxes(2, 3)
        S = group._theta.shape[1]
        scores[:, : by.shape[2], :S] = by[0][:, :, None] * group._theta.T
        scores[:, : by.shape[2], S : S + len(by) - 1] = by[1:].transpose(1, 2, 0, 3)
    return scores.reshape(n * C, K, len(group._theta))


def _information_of_items(group: _Group, counts: Floats) -> Floats:
    """Minus the second derivatives of log P, summed over expected answers, shape (n, K, K).

    `counts` are expected answers in the group's rows. Derivatives are differences of first derivatives.
    """
    (n, K), (X, S) = group._places.shape, group._theta.shape
    block = np.zeros((n, K, K))
    if not n:
        return block
    size, M = int(group._categories.max()), group._further.shape[1]
    expected = counts.reshape(n, -1, X)[:, :size].swapaxes(1, 2)
    bends = np.empty((n, 1 + M, 1 + M, X))
    for k in range(1 + M):
        step = BEND_STEP * (np.arange(1 + M) == k)
        low, high = (
            curves.derivatives(group._model, group._z + move[0], group._further + move[1:], group._categories)
            for move in (-step, step)
        )
        bends[:, k] = np.einsum("mjtc,jtc->jmt", low - high, expected) / (2 * BEND_STEP)
    bends = (bends + bends.swapaxes(1, 2)) / 2
    further = slice(S, S + M)
    block[:, :S, :S] = np.einsum("jt,ta,tb->jab", bends[:, 0, 0], group._theta, group._theta, optimize=True)
    block[:, further, :S] = bends[:, 1:, 0] @ group._theta
    block[:, :S, further] = block[:, further, :S].swapaxes(1, 2)
    block[:, further, further] = bends[:, 1:, 1:].sum(axis=3)
    return block


def _information_of_correlations(own: OnNodes, mass: Floats) -> Floats:
    """Minus the second derivatives of the log weights, summed over `mass` (T,) persons, shape (O, O)."""
    P = own.problem.layout.dimensions.n_primary
    held = own.problem.layout.fixed.correlations[:P, :P]
    a, b = np.nonzero(np.triu(own.problem.layout.places.correlations >= 0))
    bends = np.empty((a.size, a.size))
    for k, (d, e) in enumerate(zip(a, b, strict=True)):
        step = np.zeros(held.shape)
        step[d, e] = step[e, d] = BEND_STEP
        low, high = (own.problem.scores_of_correlations(held + move) for move in (-step, step))
        bends[:, k] = mass @ (low - high) / (2 * BEND_STEP)
    return bends


def _fitted_layout(
    responses: Responses, calibration: DimensionsCalibration, weights: Floats | None, priors: Priors | None
) -> Layout:
    """Return the free parameters of the estimated items, with the priors of the fit."""
    keep, dimensions = calibration.estimated, calibration.dimensions
    own = responses.among(calibration.item_ids, calibration.categories)
    counts = InMemory(own, Persons.from_responses(own, None, None, weights)).counts()
    among = dimensions if keep.all() else dimensions.among([*compress(calibration.item_ids, keep)])
    checked = _check_request(own, calibration.models, priors)
    return _lay_out(among, [*compress(calibration.models, keep)], counts.select(keep), checked)


def _reason(calibration: DimensionsCalibration, lost: Mask, stopped: Mask) -> str:
    """Explain which parameters have no errors; empty if all have."""
    reasons = []
    if lost.any():
        remedy = "drop a dimension whose slopes are about 0, or give its slopes one label (from_frame)"
        reasons.append(f"the answers do not determine {_named(calibration, lost)}: {remedy}")
    if stopped.any():
        reasons.append(f"{_named(calibration, stopped)} stopped at a bound")
    return "; ".join(reasons)


def _named(calibration: DimensionsCalibration, some: Mask) -> str:
    """Name free parameters by their items and dimensions, for example "slopes of q1, q2 on algebra"."""
    places, padded = calibration.places, np.append(some, False)  # the place −1 is of parameters that are not free
    slopes, correlations = padded[places.slopes], padded[places.correlations]
    others = padded[np.column_stack([places.intercepts, places.further])].any(axis=1)
    ids, names = np.array(calibration.item_ids, dtype=object), np.array(calibration.dimensions.names, dtype=object)
    found = {
        f"slopes of {some_of(ids[slopes.any(axis=1)])} on {some_of(names[slopes.any(axis=0)])}": slopes,
        f"other parameters of {some_of(ids[others])}": others,
        f"correlations of {some_of(names[correlations.any(axis=0)])}": correlations,
    }
    return ", ".join(name for name, mask in found.items() if mask.any())

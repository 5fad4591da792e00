"""Fit two-tier models by marginal maximum likelihood (Cai 2010): starting values, grids, and flags of items.

The likelihood is in `likelihood`; standard errors do not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.design import alike, require_connected
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import ITEM_MODELS, items_where, model_of
from irt_psychometrics.core.model_families import SLOPE_BOUND
from irt_psychometrics.core.models import Convergence, Flag, spread
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.priors import Priors, StepTerms
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.version import __version__
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.dimensions import curves
from irt_psychometrics.dimensions.calibration import DimensionsCalibration, ParameterPlaces
from irt_psychometrics.dimensions.grid import TwoTierGrid, enough_nodes
from irt_psychometrics.dimensions.likelihood import (
    CORRELATION_BOUND,
    Answers,
    Layout,
    Point,
    TwoTierProblem,
    Values,
)
from irt_psychometrics.dimensions.structure import Dimensions
from irt_psychometrics.estimation.em_request import Persons, rare_steps, require_persons, resolve_priors, same_answers
from irt_psychometrics.estimation.optimizer import Pair, Solution, maximise
from irt_psychometrics.estimation.response_layout import Counts
from irt_psychometrics.estimation.source import InMemory

TOLERANCE, COARSE_TOLERANCE = 1e-5, 1e-2
"""Largest change of a parameter, and largest gradient in standard errors, at the maximum and on the first grid."""
COARSE_NODES, MAX_ITERATIONS = 11, 500
_SPECIFIC = 0.5
"""Slope of specific dimensions at the start."""
_ABILITIES = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Primary abilities at which the width of posteriors decides the number of nodes."""
_MOST_PERSONS = 5000
"""Persons whose correlations give the starting values of an exploratory fit."""


def fit_dimensions(
    responses: Responses,
    dimensions: Dimensions,
    models: Sequence[Model],
    *,
    priors: Priors | None = None,
    weights: npt.ArrayLike | None = None,
    nodes: int | None = None,
    threads: int | None = None,
) -> DimensionsCalibration:
    """Fit items that measure several dimensions.

    Parameters
    ----------
    responses
        Sparse responses; missing ones must be ignorable given the others.
    dimensions
        The dimensions of all items that have responses.
    models
        Names of the items' models, J. All must have slopes of their own.
    priors
        Prior on c. None: `GUESSING_PRIOR` for 3PL items.
    weights
        Shape (n_persons,), ≥ 0, the number of persons whom each person represents.
    nodes
        Number of nodes of each dimension on [−6, 6]. None: as many as the narrowest posterior needs, from 15.
    threads
        Number of threads. None: all processors. Results are the same for any number.

    Returns
    -------
    DimensionsCalibration
        Estimates of all items of `responses`, without errors.

    Raises
    ------
    PsychometricsError
        If dimensions, models or priors do not suit the items, or if there are too few responses.
    DisconnectedDesignError
        If the responses fall into groups without common learners or items.
    """
    dimensions = dimensions.among(responses.item_ids)
    persons = Persons.from_responses(responses, None, None, weights)
    priors = _check_request(responses, models, priors)
    source = InMemory(responses, persons)
    counts = source.counts()
    keep = counts.estimable(model_of([*models]))
    laid = source.lay_out_items(keep, rarer=False, by_category=True)
    require_persons(laid.informative, persons.names)
    require_connected(laid.links, tuple(compress(responses.item_ids, keep)))
    kept = responses if keep.all() else responses.of_items(keep)
    layout = _lay_out(dimensions.among(kept.item_ids), [*compress(models, keep)], counts.select(keep), priors)
    x = layout.gather(_start(layout, counts.select(keep), kept))
    with kernels.runner(threads) as run:
        problem, solution = _find_maximum(layout, kept, persons.weight, run, x, nodes)
    same = alike(laid.first_alike, counts.n[keep], counts.correct[keep])
    fit = _calibration(dimensions, counts, keep, problem, solution, same)
    return replace(fit, models=tuple(models), n_persons=laid.answers.n_persons)


def _check_request(responses: Responses, models: Sequence[Model], priors: Priors | None) -> Priors:
    """Return the priors, or raise PsychometricsError if models or priors do not suit the items."""
    if len(models) != responses.n_items:
        raise PsychometricsError(f"models must be {responses.n_items} names, one per item; got {len(models)}")
    model = model_of([*models])
    model.require_categories(responses.item_ids, responses.n_categories)
    common = ~items_where(models, lambda one: one.own_slopes)
    if common.any():
        raise PsychometricsError(
            f"items on several dimensions need slopes of their own, got model {models[int(common.argmax())]!r}. Fit "
            f"{' or '.join(name for name, one in ITEM_MODELS.items() if one.own_slopes)}; equal slopes have one label "
            "in Dimensions.from_frame"
        )
    priors = resolve_priors(model, priors)
    if priors.positive_slopes:
        raise PsychometricsError("priors on a and b are defined for one dimension only; leave them out")
    return priors


def _lay_out(dimensions: Dimensions, models: Sequence[Model], counts: Counts, priors: Priors) -> Layout:
    """Number the free parameters: slopes, intercepts, further ones, correlations."""
    model, categories, given, D = model_of(models), counts.categories, counts.table > 0, len(dimensions.names)
    free, fixed = model.free(categories, given)[2:].T, model.fixed_values(categories, given)[2:].T
    n = dimensions.n_slopes + len(models)
    further, correlations = np.full(free.shape, -1), np.full((D, D), -1)
    further[free] = n + np.arange(free.sum())
    pairs = np.nonzero(np.triu(dimensions.free_correlations))
    correlations[pairs] = correlations[pairs[::-1]] = n + free.sum() + np.arange(len(pairs[0]))
    places = ParameterPlaces(dimensions.tied, dimensions.n_slopes + np.arange(len(models)), further, correlations)
    held = Values(dimensions.fixed, np.zeros(len(models)), fixed, np.eye(D))
    own_steps = items_where(models, lambda one: one.path != "general" and not one.has_parameter("c"))
    rare = rare_steps(dimensions.item_ids, own_steps, counts)
    steps = None
    if rare is not None:
        with_prior = np.isin(dimensions.item_ids, rare.items)
        steps = StepTerms.rare(counts.table, with_prior, 2 + free.shape[1], rare.sd)
    return Layout(dimensions, tuple(models), categories, places, held, steps, priors)


def _start(layout: Layout, counts: Counts, responses: Responses) -> Values:
    """Starting values: shares of scores give intercepts, and correlations the slopes of an exploratory fit."""
    dimensions, P = layout.dimensions, layout.dimensions.n_primary
    shares = counts.table / counts.n[:, None]
    parameters = layout.model.start(shares, layout.categories, layout.priors)
    slopes = np.full(dimensions.free.shape, _SPECIFIC)
    slopes[:, :P] = 1 / np.sqrt(np.maximum(dimensions.measured[:, :P].sum(axis=1, keepdims=True), 1))
    if dimensions.exploratory:
        slopes = _explored_slopes(responses, P)
    shared = np.maximum(np.bincount(dimensions.tied[dimensions.free], minlength=1), 1)
    sums = np.bincount(dimensions.tied[dimensions.free], weights=slopes[dimensions.free], minlength=1)
    slopes = np.where(dimensions.free, (sums / shared)[dimensions.tied], dimensions.fixed)
    return Values(slopes, parameters[1], parameters[2:].T, layout.fixed.correlations)


def _explored_slopes(responses: Responses, k: int) -> Floats:
    """Slopes (J, k) of principal axes, rotated so that item j measures no dimension after the j-th."""
    some = responses.person < _MOST_PERSONS
    x = np.full((min(responses.n_persons, _MOST_PERSONS), responses.n_items), np.nan)
    x[responses.person[some], responses.item[some]] = responses.score[some]
    seen = np.isfinite(x)
    centred = np.where(seen, x - np.nanmean(x, axis=0), 0.0)
    pairs = np.maximum(seen.T.astype(float) @ seen, 1)
    covariances = centred.T @ centred / pairs
    sds = np.sqrt(np.maximum(covariances.diagonal(), 1e-12))
    values, vectors = np.linalg.eigh(covariances / np.outer(sds, sds))
    loadings = vectors[:, -k:][:, ::-1] * np.sqrt(np.maximum(values[-k:][::-1] - 1, 0.1))
    rotation = np.linalg.qr(loadings[:k].T)[0]
    loadings = loadings @ rotation
    loadings *= np.sign(loadings.sum(axis=0))
    unique = np.maximum(1 - (loadings**2).sum(axis=1, keepdims=True), 0.2)
    return 1.7 * loadings / np.sqrt(unique)


def _find_maximum(
    layout: Layout, responses: Responses, weight: Floats, run: kernels.Run, x: Floats, nodes: int | None
) -> tuple[TwoTierProblem, Solution[Point]]:
    """Find the maximum: on few nodes first, and then on as many as the posteriors need.

    Two nodes more are not worth another ascent.
    """
    P, S = layout.dimensions.n_primary, len(layout.dimensions.names) - layout.dimensions.n_primary
    answers = Answers.from_responses(responses, layout.dimensions, weight)
    if nodes is not None:
        problem = TwoTierProblem(layout, answers, TwoTierGrid.from_nodes(P, (nodes, nodes if S else 1), 6.0), run)
        return problem, maximise(problem, x, TOLERANCE, MAX_ITERATIONS)
    numbers, tolerance, iterations = (COARSE_NODES, COARSE_NODES if S else 1), COARSE_TOLERANCE, 0
    pairs: tuple[Pair, ...] = ()
    while True:
        problem = TwoTierProblem(layout, answers, TwoTierGrid.from_nodes(P, numbers), run)
        solution = maximise(problem, x, tolerance, MAX_ITERATIONS, pairs)
        x, pairs, iterations = solution.point.x, solution.pairs, iterations + solution.iterations
        wanted = enough_nodes(_narrowest_posteriors(layout, responses, x), P)
        if tolerance == TOLERANCE and wanted[0] <= numbers[0] + 2 and wanted[1] <= numbers[1] + 2:
            return problem, replace(solution, iterations=iterations)
        numbers, tolerance = (max(wanted[0], numbers[0]), max(wanted[1], numbers[1])), TOLERANCE


def _narrowest_posteriors(layout: Layout, responses: Responses, x: Floats) -> Floats:
    """Approximate the covariances (K, D, D) of posteriors at K abilities, for the person whose items inform most.

    Slopes at their bound are left out, because all the information of such an item is at one point.
    """
    values, D = layout.expand(x), len(layout.dimensions.names)
    theta = np.zeros((len(_ABILITIES), D))
    theta[:, : layout.dimensions.n_primary] = np.array(_ABILITIES)[:, None]
    z = values.slopes @ theta.T + values.intercepts[:, None]
    p = np.exp(curves.log_probabilities(layout.model, z, values.further, layout.categories))
    information = (p * curves.derivatives(layout.model, z, values.further, layout.categories)[0] ** 2).sum(axis=2)
    information[(np.abs(values.slopes) >= SLOPE_BOUND).any(axis=1)] = 0.0
    of_item = information.max(axis=1) * (values.slopes**2).sum(axis=1)
    best = np.bincount(responses.person, weights=of_item[responses.item]).argmax()
    items = responses.item[responses.person == best]
    own = values.slopes[items]
    return np.linalg.inv(np.linalg.inv(values.correlations) + np.einsum("jk,jd,je->kde", information[items], own, own))


def _calibration(
    dimensions: Dimensions, counts: Counts, keep: Mask, problem: TwoTierProblem, solution: Solution[Point], same: Mask
) -> DimensionsCalibration:
    """Assemble the estimates of all items, with flags."""
    layout, J, kept = problem.layout, len(keep), np.flatnonzero(keep)
    values, places = _orient(layout, layout.expand(solution.point.x)), layout.places
    at_bound = np.append(solution.at_bound, False)
    slope_at_bound = at_bound[places.slopes].any(axis=1)
    guessed, further_at_bound = layout.model.guessed(len(kept)), at_bound[places.further].any(axis=1)
    primary = values.slopes[:, : dimensions.n_primary]
    simple = layout.dimensions.measured[:, : dimensions.n_primary].sum(axis=1) == 1
    marks = {
        Flag.AT_BOUND: slope_at_bound | (further_at_bound & ~guessed),
        Flag.NEGATIVE_DISCRIMINATION: simple & (primary.sum(axis=1) < 0),
        Flag.DUPLICATE: same,
        Flag.GUESSING_UNIDENTIFIED: further_at_bound & guessed,
    }
    names = np.array(layout.dimensions.item_ids, dtype=object)
    reasons = [solution.reason] if solution.reason else []
    reasons += [same_answers(names[same].tolist())] if same.any() else []
    if at_bound[places.correlations].any():
        reasons.append(f"a correlation stopped at its bound of {CORRELATION_BOUND}: join the two dimensions")
    if slope_at_bound.any():
        reasons.append(
            f"slopes of {some_of(names[slope_at_bound])} have no finite maximum: leave these items out of the "
            "dimension, or give its slopes one label (Dimensions.from_frame)"
        )
    point, grid = solution.point, problem.grid
    return DimensionsCalibration(
        dimensions=dimensions,
        models=(),
        categories=counts.categories,
        slopes=spread(values.slopes, kept, J),
        intercepts=spread(values.intercepts, kept, J),
        further=spread(values.further, kept, J, 0.0) if values.further.size else None,
        correlations=values.correlations,
        cov=None,
        places=ParameterPlaces(
            _spread(places.slopes, kept, J),
            _spread(places.intercepts, kept, J),
            _spread(places.further, kept, J),
            places.correlations,
        ),
        n=np.rint(counts.n).astype(np.int64),
        n_persons=0,
        flags=counts.flags(keep, marks),
        convergence=Convergence(
            converged=not reasons,
            iterations=solution.iterations,
            max_change=solution.max_change,
            max_gradient=solution.max_gradient,
            loglik=point.loglik,
            n_parameters=len(point.x),
            reason="; ".join(reasons),
        ),
        engine_version=__version__,
        nodes=(round(len(grid.primary) ** (1 / dimensions.n_primary)), len(grid.specific)),
    )


def _spread(places: Ints, kept: Ints, n_items: int) -> Ints:
    """Give the items at the places `kept` their places of parameters, and others −1."""
    return spread(places.astype(float), kept, n_items, -1.0).astype(np.int64)


def _orient(layout: Layout, values: Values) -> Values:
    """Replace each dimension with mostly negative slopes by its negative, if the likelihood stays the same."""
    dimensions = layout.dimensions
    signs = np.ones(len(dimensions.names))
    for k, slopes in enumerate(values.slopes.T):
        shared = np.isin(dimensions.tied[:, k], np.delete(dimensions.tied, k, axis=1)) & dimensions.free[:, k]
        if slopes.sum() < 0 and not (shared | (dimensions.fixed[:, k] != 0)).any():
            signs[k] = -1.0
    return values._replace(slopes=values.slopes * signs, correlations=values.correlations * np.outer(signs, signs))

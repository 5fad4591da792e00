"""Marginal maximum likelihood (or posterior mode) for Rasch, 1PL, 2PL, 3PL, partial credit, graded and nominal items.

This module checks the request, runs the steps of a fit, and assembles the `Calibration` with its flags.

The E-step is Bock & Aitkin's (1981). Its expected counts give the gradient of the *marginal* log-likelihood (Fisher's
identity) and the complete-data information, a small block per item. An M-step of a single Newton step is information⁻¹
· gradient (the EM gradient algorithm, Lange 1995a). This information is the starting matrix of a limited-memory
quasi-Newton iteration on the marginal likelihood (Lange 1995b, "A quasi-Newton acceleration of the EM algorithm";
two-loop recursion of Nocedal 1980). The iteration begins as EM and ends superlinearly; each iteration costs one E-step.
A 3PL makes full M-steps (`mstep`) as long as it is far from its maximum, and a histogram makes them in its first
iterations. Fits start on half of the nodes and, if there are many learners, on a sample.

Standard errors come from the observed information, by Louis' (1982) method: the complete-data information minus the
covariance of the complete-data score given each pattern. It agrees with Oakes' (1999) information to a relative
difference of about 1e-5.

The scale is identified by θ ~ N(0, 1) in the reference group, with the sign of θ such that most slopes are positive.
For Rasch models it is identified by slopes of 1 and a mean of 0 in that group. If items are anchored, it is identified
by their given parameters, and the latent mean and SD of every group are estimated. An empirical histogram (Bock &
Aitkin 1981, section 4; Mislevy 1984) is estimated by its log weights, with penalties that are 0 for N(0, 1) (see
`Smoothing`), and moved to mean 0 and SD 1 at the end.

The likelihood is in `marginal`, the optimiser in `optimizer`, the covariance in `standard_errors`, loops in `kernels`.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core import kernels
from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.covariances import symmetrized
from irt_psychometrics.core.design import alike, require_connected
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import COMPARED_MODELS, ITEM_MODELS, ItemCurves, items_where, model_of
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.core.models import (
    Calibration,
    Convergence,
    Flag,
    Population,
    places_of_parameters,
    pool_moments,
    spread,
)
from irt_psychometrics.core.options import DEFAULT_MODEL, Latent, Model
from irt_psychometrics.core.priors import KNOWN_GUESSING_SD, KnownGuessing, Normal, Priors, RareSteps
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.testlets import share_testlets
from irt_psychometrics.core.version import __version__
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.estimation.em_request import (
    RULING_SHARE,
    Items,
    Persons,
    blocks_of_steps,
    given_parameters,
    no_common_scale,
    origin_of,
    rare_steps,
    replace_lacking_scores,
    require_given_scores,
    require_items,
    require_persons,
    resolve_model,
    resolve_priors,
    same_answers,
)
from irt_psychometrics.estimation.independence import unrelated_reason
from irt_psychometrics.estimation.latent_distribution import NormalGroups
from irt_psychometrics.estimation.marginal import Point, Problem
from irt_psychometrics.estimation.optimizer import Solution, maximise
from irt_psychometrics.estimation.parameter_layout import (
    SMOOTHING,
    SMOOTHING_WITH_GUESSING,
    ParameterLayout,
)
from irt_psychometrics.estimation.remote import RemoteAnswers
from irt_psychometrics.estimation.response_layout import Counts, LaidOutAnswers, Merge, represents_several
from irt_psychometrics.estimation.source import InMemory, LaidOut, Source
from irt_psychometrics.estimation.standard_errors import (
    Errors,
    MatrixSize,
    errors,
    no_errors,
    require_one_matrix,
)

ENGINE = "em"
ENOUGH_FOR_SIGN = 5
"""Number of responses in the rarer category from which an unbounded slope estimate still identifies its sign."""
COARSE_TOLERANCE = 1e-2
"""Half of the nodes are used, at half the cost, until no gradient exceeds a hundredth of a standard error."""
COARSE_GAIN = 1e-2
"""The search for a histogram on half of the nodes ends when a step promises a gain of the log-likelihood below this."""
COMPARED_GAIN = 1e-5
"""A fit made for its log-likelihood ends when a step promises a gain of the objective below this. If the objective
includes priors or a histogram's penalty, the log-likelihood itself may still change by about the square root of
that."""
NARROWEST = 0.8
"""Minimum SD of a posterior, in distances between nodes. The error of a sum over nodes is then of the order
exp(−2π² .8²), 3e-6."""
SAMPLE, SAMPLE_STEP, SAMPLE_ITERATIONS = 2000, 16, 50
"""A fit starts on a sample of every k-th learner, with k at most SAMPLE_STEP and at least SAMPLE learners in the
sample. This first fit need not converge."""


class FitOptions(TypedDict, total=False):
    """Options that `fit` and `fit_em` share. `fit_em` documents them.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> from irt_psychometrics.estimation import FitOptions
    >>> quick: FitOptions = {"nodes": 31, "max_iterations": 50}
    >>> irt.fit(x, "rasch", **quick).converged
    True
    """

    testlets: Mapping[str, str] | None
    nodes: int
    tolerance: float
    max_iterations: int
    threads: int | None
    start: Calibration | None
    likelihood_only: bool
    abilities_known: bool
    blocks: Mapping[str, str] | None
    prior_on_rare_steps: bool | Collection[str]
    learners: npt.NDArray[np.integer[Any]] | None
    guessing: Mapping[str, float] | None


class FitRequest(FitOptions, total=False):
    """Arguments of `fit_em` that apply to answers in memory and elsewhere.

    Examples
    --------
    >>> from irt_psychometrics.estimation import FitRequest
    >>> request: FitRequest = {"model": "2pl", "latent": "histogram", "threads": 1}
    """

    model: Model | Sequence[Model]
    priors: Priors | None
    anchors: AnchorSet | None
    latent: Latent
    data_hash: str


def fit_em(
    responses: Responses | RemoteAnswers,
    *,
    groups: Sequence[str] | None = None,
    reference: str | None = None,
    weights: npt.ArrayLike | None = None,
    sampling_weights: npt.ArrayLike | None = None,
    **options: Unpack[FitRequest],
) -> Calibration:
    """Calibrate items by marginal maximum likelihood, or to the posterior mode if there are priors.

    Parameters
    ----------
    responses
        Sparse responses. Any pattern of missing responses is allowed if it is ignorable given the observed responses.
        They may instead be answers that are stored elsewhere, which have their own groups and no weights.
    groups
        n_persons labels, one per person. Items are equal across groups. Each group has its own latent mean and SD. The
        model fixes mean and SD of the reference group (without anchors).
    reference
        The label of the reference group. None: the group with the most persons who answered an item; of equally large
        groups the first in sorted order.
    weights
        Shape (n_persons,), ≥ 0, the number of persons with the same answers that each person represents. The result is
        the same as with the rows of each person repeated this many times.
    sampling_weights
        Shape (n_persons,), > 0 in any unit: the number of members of the population that each person of a sample with
        unequal probabilities represents. They are scaled to a mean of 1. The estimates maximise the weighted (pseudo)
        log-likelihood (Skinner 1989; Asparouhov 2005) and errors are the sandwich A⁻¹BA⁻¹ (Huber 1967; White 1982) with
        A the observed information and B = Σ wᵢ²sᵢsᵢᵀ over the scores of persons. If `learners` is given, the sum is
        over learners, with the scores of each learner's persons added up. Likelihood ratios, AIC and BIC cannot be used
        to compare such fits. Answers of clusters (schools, classes) count as independent unless `learners` numbers the
        clusters.
    model
        The name of one of `ITEM_MODELS`, or a name for each item. If models are mixed, items without a slope of their
        own share one slope, and θ has an SD of 1.
    priors
        Priors on a, b and c. None: no prior, except `GUESSING_PRIOR` for a 3PL. `Priors()`: no prior at all.
    anchors
        Items that keep their parameters a, b and c (their errors are not used). All other items come out on their
        scale, and the latent mean and SD are estimated. Anchors that are not among the items are left out.
    latent
        "normal", or "histogram" for free weights on the nodes in each group. The errors of the items then include the
        uncertainty of the weights. With more items than `joint_cov` allows, the weights are treated as known.
    testlets
        item → testlet. If two items of the fit share a testlet, the errors are robust (see `standard_errors.errors`),
        because answers in a testlet depend on each other beyond θ. The estimates are the same.
    nodes
        Number of nodes, equally spaced on [−6, 6]. The fit is repeated on a wider grid if a population reaches beyond,
        and on a denser grid if a posterior is too narrow for the distance between nodes.
    tolerance
        The fit has converged when the last step changed no parameter by more than this *and* no gradient, divided by
        the square root of its complete-data information (so in standard errors), exceeds it.
    max_iterations
        Maximum number of quasi-Newton iterations; each is about one pass over the data.
    threads
        Number of threads. None: all processors. The result is bit for bit the same for any number.
    start
        An earlier fit of these or similar responses, by any model, with one normal distribution or the same groups. The
        ascent begins there and reaches the same maximum sooner.
    likelihood_only
        Whether the fit is only for comparison with other fits. The log-likelihood is then within .05 of its value at
        the maximum, a histogram has the same penalties under all models, there are no errors, and `convergence` covers
        only the ascent, not whether the answers determine the parameters.
    abilities_known
        Whether to compute errors as if abilities were known. Such errors are too small, but cost nothing.
    blocks
        item → block of a rating scale model. The items of a block have their steps in common. Items without a block
        form one block.
    prior_on_rare_steps
        Whether steps next to a score that fewer than ten learners got have a weak prior (`RareSteps`), which
        `Calibration.priors` then lists with the items. A collection names the only items that may have this prior. Do
        not use it for items whose given values the fit is meant to test.
    learners
        Shape (n_persons,), the learner of each person, numbered from 0, if a learner is several persons (on several
        occasions). The errors are then clustered by learner; the estimates are the same. The answers must be in memory.
    guessing
        item → value of c, in (0, 1), that is known from another fit. A 3PL then has a narrow prior around this value
        (`KnownGuessing`) on c of that item, instead of the prior on c of all items.
    data_hash
        Stored in the `Calibration` unchanged.

    Returns
    -------
    Calibration
        Estimates for all items of `responses`. `joint_cov` is the inverse observed information in the order a_1, d_1,
        a_2, d_2, … and then, item by item, the free t of scores. It is computed for up to 2000 items, 500 with
        guessing, or 4000 parameters of items with more than two scores. Above these limits, `cov` inverts each item's
        own block, with the other items treated as known. A common slope is one parameter, so its variance and
        covariances are repeated in the rows of every item and the matrix is singular by design. Rows and columns of
        fixed slopes and of anchors are 0. Covariances include the uncertainty of c and of estimated latent means and
        SDs. `convergence.loglik` is the marginal log-likelihood over the items that could be estimated, without the
        priors' density; `max_gradient` is in the units of `tolerance`. `n_persons` counts learners with a response to
        such an item.

    Raises
    ------
    PsychometricsError
        If nothing can be estimated or the request makes no sense; the message contains the reason.
    DisconnectedDesignError
        If the responses fall into groups without common learners, items or anchors.
    TypeError
        If an option is unknown, or answers that are elsewhere are given groups or weights.

    Notes
    -----
    Items with more than two scores need a model for them. A score that nobody got is absent: the item keeps its other
    scores, and the parameters of the absent score are −∞.

    Items whose answers are all correct, all wrong, missing, or all of one score have NaN parameters and a flag. Other
    flags:

    - `AT_BOUND`: the item is at |a| = 10, without errors. Its slope has no finite maximum, usually because there are
      too few wrong or right answers. Or a nominal item is at |s| = 50, because a is near 0: persons with the lowest and
      with the highest score hardly differ in θ. The estimates of the other items hold with or without it.
    - `UNIDENTIFIED`: the item's information is singular. It has no errors, and the fit counts as not converged.
    - `DUPLICATE`: another item has exactly the same answers. The fit counts as not converged.
    - `NEGATIVE_DISCRIMINATION`: a < 0 or, if the model gives the item no slope of its own, abler learners answer it
      worse.
    - `GUESSING_UNIDENTIFIED`: c only reflects its prior or a bound.

    References
    ----------
    Bock, R. D. & Aitkin, M. (1981). Marginal maximum likelihood estimation of item parameters: application of an EM
    algorithm. Psychometrika, 46, 443-459.
    Lange, K. (1995b). A quasi-Newton acceleration of the EM algorithm. Statistica Sinica, 5, 1-18.
    Louis, T. A. (1982). Finding the observed information matrix when using the EM algorithm. JRSS B, 44, 226-233.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> from irt_psychometrics.estimation import fit_em
    >>> fit = fit_em(x, model="rasch", threads=1)
    >>> fit.convergence.converged, fit.joint_cov.shape
    (True, (6, 6))
    """
    if isinstance(responses, RemoteAnswers):
        if not (groups is None and reference is None and weights is None):
            raise TypeError("answers on other machines have their own groups and cannot have weights")
        remote = responses
        return fit_source(lambda: remote, remote, **options)
    counted = replace_lacking_scores(responses, options.get("anchors"))
    if sampling_weights is not None and options.get("learners") is None:
        options["learners"] = np.arange(responses.n_persons)

    def source() -> InMemory:
        if sampling_weights is not None and not options.get("likelihood_only"):
            _require_robust(responses, groups, {**_DEFAULTS, **options})
        return InMemory(counted, Persons.from_responses(responses, groups, reference, weights, sampling_weights))

    return fit_source(source, responses, **options)


def _require_robust(responses: Responses, groups: Sequence[str] | None, request: FitRequest) -> None:
    """Raise PsychometricsError if a request with sampling weights has no robust errors."""
    if request["abilities_known"]:
        raise PsychometricsError(
            "errors with known abilities are not robust, as sampling_weights require. Leave out abilities_known"
        )
    if request["latent"] == "histogram" and (groups is not None or request["anchors"] is not None):
        raise PsychometricsError(
            "the errors of a histogram's mean and SD, which groups and anchors leave free, are not robust, as "
            "sampling_weights require. Use latent='normal', or fit each group without anchors and link"
        )
    models = request["model"]
    whole = MatrixSize.from_model(model_of([models] if isinstance(models, str) else models), responses.n_categories)
    if whole.size > whole.most:
        raise PsychometricsError(
            f"robust errors, as sampling_weights require, are computed for up to {whole.most} {whole.unit}, and "
            f"there are {whole.size}. Fit fewer items at once"
        )


_DEFAULTS: FitRequest = {
    "model": DEFAULT_MODEL,
    "priors": None,
    "anchors": None,
    "latent": "normal",
    "testlets": None,
    "nodes": 61,
    "tolerance": 1e-5,
    "max_iterations": 500,
    "threads": None,
    "data_hash": "",
    "start": None,
    "likelihood_only": False,
    "abilities_known": False,
    "blocks": None,
    "prior_on_rare_steps": True,
    "learners": None,
    "guessing": None,
}


def fit_source(source_of: Callable[[], Source], items: Items, **options: Unpack[FitRequest]) -> Calibration:
    """`fit_em` for answers in memory or elsewhere. `source_of` is called once the request has been checked for
    `items`."""
    if unexpected := options.keys() - _DEFAULTS.keys():
        raise TypeError(f"a fit has no option {', '.join(sorted(unexpected))}")
    request: FitRequest = {**_DEFAULTS, **options}
    model, anchors = request["model"], request["anchors"]
    models = (model,) * items.n_items if isinstance(model, str) else tuple(model)
    of = _resolve_model(models, items, request)
    given_priors = priors = resolve_priors(of, request["priors"])
    source = source_of()
    counts = source.counts()
    given = given_parameters(items, anchors, of)
    require_given_scores(items, counts, given)
    keep = counts.estimable(of) | (given.known & (counts.n > 0))
    require_items(items, counts, keep, given, of)
    origin = origin_of(given)
    held = replace(given, d=given.d + given.a * origin).select(np.flatnonzero(keep))
    if priors.b is not None:
        priors = replace(priors, b=Normal(priors.b.mean - origin, priors.b.sd))
    kept_ids = tuple(np.array(items.item_ids, dtype=object)[keep])
    of = model_of([*compress(models, keep)])
    of_kept = counts.select(keep)
    steps_of = blocks_of_steps(kept_ids, [*compress(models, keep)], of_kept, held, request["blocks"] or {})
    own_steps = ~held.known if steps_of is None else ~held.known & (steps_of < 0)
    own_steps &= items_where(
        [*compress(models, keep)], lambda model: model.path != "general" and not model.has_parameter("c")
    )
    rare = _rare_steps(kept_ids, own_steps, of_kept, request["prior_on_rare_steps"]) if own_steps.any() else None
    known_c = _known_guessing(kept_ids, request["guessing"]) if of.has_parameter("c") else None
    priors, given_priors = (replace(each, rare_steps=rare, known_guessing=known_c) for each in (priors, given_priors))

    def lay_out(histogram_nodes: int = 0) -> ParameterLayout:
        layout = ParameterLayout.from_model(
            of,
            len(kept_ids),
            given=held,
            n_groups=len(source.names),
            histogram_nodes=histogram_nodes,
            categories=items.n_categories[keep],
            given_scores=of_kept.table > 0,
            steps_of=steps_of,
        )
        smoothing = SMOOTHING_WITH_GUESSING if of.has_parameter("c") and not request["likelihood_only"] else SMOOTHING
        return replace(layout, positive_slopes=priors.slopes_held(kept_ids), smoothing=smoothing)

    structure = lay_out()
    require_one_matrix(structure)
    testlets = share_testlets(kept_ids, request["testlets"] or {})  # whose errors need the answers of each person
    by_sums = of.fixed_slopes and of.path != "general" and not (structure.anchored or testlets)
    merge: Merge = "sums" if by_sums else "patterns"
    laid = source.lay_out_items(keep, rarer=structure.guessing, by_category=of.path != "logistic", merge=merge)
    require_persons(laid.informative, source.names)
    require_connected(laid.links, kept_ids, held.known)
    with kernels.runner(request["threads"]) as run:
        fit = _fit_answers(source, laid, keep, kept_ids, run, priors, lay_out, request)
    calibration = _calibration(items, counts, fit, keep, models, given)
    calibration = _restore_anchors(calibration.rescaled(1.0, origin) if origin else calibration, given)
    calibration = replace(calibration, priors=given_priors.as_dict(), data_hash=request["data_hash"])
    if request["latent"] == "histogram" and not structure.anchored:
        return calibration.standardised(calibration.populations[0].mean, calibration.populations[0].sd)
    return calibration


def _resolve_model(models: tuple[Model, ...], items: Items, request: FitRequest) -> ItemModel:
    """Return the model of the items. Raises PsychometricsError if the request makes no sense."""
    if unknown := set(models).difference(ITEM_MODELS, COMPARED_MODELS):
        raise PsychometricsError(f"the em engine fits {', '.join(ITEM_MODELS)}; got model {min(unknown)!r}")
    if request["latent"] not in ("normal", "histogram"):
        raise PsychometricsError(f"latent must be 'normal' or 'histogram', got {request['latent']!r}")
    return resolve_model(models, items, share_testlets(items.item_ids, request["testlets"] or {}))


def _rare_steps(
    item_ids: Sequence[str], own_steps: Mask, counts: Counts, wanted: bool | Collection[str]
) -> RareSteps | None:
    """`rare_steps` of all items, or of the requested items. Returns None if the prior is not requested."""
    if not isinstance(wanted, bool):
        own_steps = own_steps & np.isin(item_ids, [*wanted])
    return rare_steps(item_ids, own_steps, counts) if wanted else None


def _known_guessing(item_ids: Sequence[str], guessing: Mapping[str, float] | None) -> KnownGuessing | None:
    known = {item: guessing[item] for item in item_ids if item in guessing} if guessing else {}
    return KnownGuessing(KNOWN_GUESSING_SD, tuple(known), tuple(known.values())) if known else None


@dataclass(frozen=True)
class _Fit:
    """A maximum and its errors.

    Attributes
    ----------
    groups
        Names of the groups, the reference first.
    same
        Shape (J,), whether an earlier item has exactly the same answers.
    doubt
        The reason why the answers do not form a scale; "" if they do.
    """

    problem: Problem
    solution: Solution[Point]
    errors: Errors
    groups: tuple[str, ...]
    same: Mask
    doubt: str


def _fit_answers(
    source: Source,
    laid: LaidOut,
    keep: Mask,
    kept_ids: tuple[str, ...],
    run: kernels.Run,
    priors: Priors,
    lay_out: Callable[..., ParameterLayout],
    request: FitRequest,
) -> _Fit:
    """Fit answers that have been laid out. `lay_out` returns the parameter layout for a number of `histogram_nodes`."""
    data, structure, likelihood_only = laid.answers, lay_out(), request["likelihood_only"]
    earlier = None if request["start"] is None else request["start"].select(keep)
    least_gain = COMPARED_GAIN if likelihood_only else 0.0
    problem, solution = _find_maximum(
        lambda grid: Problem(data, structure, grid, run, priors),
        _Search(request["nodes"], request["tolerance"], request["max_iterations"], least_gain),
        earlier,
        lay_out if request["latent"] == "histogram" else None,
        has_curves=earlier is not None and earlier.item_model == structure.item_model,
    )
    solution = _orient(problem, solution)
    if likelihood_only:
        found = no_errors(problem, solution.point)
    else:
        products: Callable[[Point], Floats] | None = None
        if request["learners"] is not None:
            products = _learner_products(problem, source.gather_items(keep), request["learners"])
        elif share_testlets(kept_ids, request["testlets"] or {}):
            products = problem.score_products
        known = request["abilities_known"]
        found = errors(problem, solution.point, solution.at_bound, products=products, abilities_known=known)
    doubt = unrelated_reason(lambda: source.gather_items(keep), problem, solution.point.loglik)
    same = alike(laid.first_alike, data.n, data.correct)
    return _Fit(problem, solution, found, source.names, same, doubt)


def _orient(problem: Problem, solution: Solution[Point]) -> Solution[Point]:
    """Replace θ by −θ if most free slopes are negative. The likelihood is the same."""
    slopes = solution.point.x[: problem.structure.n_slopes]
    if problem.structure.anchored or np.sign(slopes).sum() + np.tanh(slopes.sum()) / 2 >= 0:  # the sum decides ties
        return solution
    return replace(solution, point=problem.evaluate(problem.structure.mirror(solution.point.x)))


@dataclass(frozen=True)
class _Search:
    """Settings of the search for a maximum.

    `nodes` is the minimum number of nodes of the grid. The last maximisation may stop when a step promises a gain of
    the objective below `least_gain`.
    """

    nodes: int
    tolerance: float
    max_iterations: int
    least_gain: float

    def ascend(self, problem: Problem, near: Solution[Point]) -> Solution[Point]:
        found = maximise(
            problem, near.point.x, self.tolerance, self.max_iterations, near.pairs, least_gain=self.least_gain
        )
        return _add_iterations(near, found)


def _find_maximum(
    problem_on: Callable[[Grid], Problem],
    search: _Search,
    earlier: Calibration | None,
    with_weights: Callable[..., ParameterLayout] | None,
    *,
    has_curves: bool,
) -> tuple[Problem, Solution[Point]]:
    """Find the maximum, on a grid that is wide and dense enough for it.

    The search starts from `earlier`, an earlier fit of these items; `has_curves` says whether it has the same model.
    `with_weights` returns a layout with the histogram of θ. It is None if θ is normal.
    """
    if with_weights is not None and earlier is not None and has_curves:
        grid = _wide_enough(search.nodes, earlier.latent_mean, earlier.latent_sd)
        problem = problem_on(grid)
        problem = _dense_enough(problem, problem.start(earlier))
        problem, solution = _start_histogram(problem, problem.start(earlier), with_weights, search.max_iterations)
        return problem, search.ascend(problem, solution)
    problem = problem_on(Grid.symmetric(search.nodes))
    coarse = max(search.tolerance, COARSE_TOLERANCE)
    few = problem_on(_half(problem.grid))
    near = _maximise_from_sample(few, lambda on: on.start(earlier), coarse, search.max_iterations)
    solution = search.ascend(problem, near)
    grid = _wide_enough(search.nodes, solution.point.means, solution.point.sds)
    resolved = _dense_enough(problem_on(grid), solution.point.x)
    if len(resolved.grid.nodes) > search.nodes:
        problem = resolved
        solution = search.ascend(problem, replace(solution, pairs=()))
    if with_weights is not None:
        problem, near = _start_histogram(problem, solution.point.x, with_weights, search.max_iterations)
        solution = search.ascend(problem, _add_iterations(solution, near))
    return problem, solution


def _learner_products(
    problem: Problem, gathered: tuple[Responses, Persons] | None, learners: npt.NDArray[np.integer[Any]]
) -> Callable[[Point], Floats]:
    if gathered is None:
        raise PsychometricsError(
            "errors clustered by learner need all answers in memory: fit fewer learners, or let the scale's occasions "
            "be months"
        )
    from irt_psychometrics.estimation.clustered_scores import products_by_learner  # loads SciPy's sparse matrices

    return lambda point: products_by_learner(problem, point, *gathered, learners)


def _half(grid: Grid) -> Grid:
    """A grid of the same width with half of the nodes."""
    return Grid.symmetric(max(8 * round(len(grid.nodes) / 16), 3), float(grid.nodes[-1]))


def _maximise_from_sample(
    whole: Problem, start: Callable[[Problem], Floats], tolerance: float, max_iterations: int, least_gain: float = 0.0
) -> Solution[Point]:
    """Find a maximum. If there are many learners, the search starts at the maximum of a sample of them."""
    data, step = whole.data, _sample_step(whole.data)
    if step < 2:
        return maximise(whole, start(whole), tolerance, max_iterations, least_gain=least_gain)
    sample = Problem(data.thin(step), whole.structure, whole.grid, whole.run, whole.priors)
    some_iterations = min(SAMPLE_ITERATIONS, max_iterations)
    first = maximise(sample, start(sample), tolerance, some_iterations, least_gain=least_gain)
    known = first.pairs if not whole.structure.guessing else ()  # with guessing a sample's curvature differs
    return _add_iterations(
        first, maximise(whole, first.point.x, tolerance, max_iterations, known, least_gain=least_gain)
    )


def _sample_step(data: LaidOutAnswers) -> int:
    """The k for which every k-th learner is in the sample; below 2 there is no sample.

    With more than two categories there is no sample, because rare categories would be missing from it. If rows
    represent several persons, every k-th row is not a sample either, because rows differ in their numbers of persons.
    """
    if data.counts is not None or represents_several(data.weight, data.size):
        return 1
    return min(SAMPLE_STEP, data.size // SAMPLE)


def _add_iterations(first: Solution[Point], second: Solution[Point]) -> Solution[Point]:
    return replace(second, iterations=first.iterations + second.iterations)


def _wide_enough(nodes: int, means: npt.ArrayLike, sds: npt.ArrayLike) -> Grid:
    """A grid up to ±6 if all populations are within it up to four SDs, else up to five SDs with equally dense nodes."""
    away, sds = np.abs(means), np.asarray(sds)
    if np.max(away + 4 * sds) <= 6.0:
        return Grid.symmetric(nodes)
    limit = float(np.ceil(np.max(away + 5 * sds)))
    return Grid.symmetric(1 + round((nodes - 1) * limit / 6), limit)


def _dense_enough(problem: Problem, x: Floats) -> Problem:
    """The problem, on a denser grid if the SD of the narrowest posterior is less than .8 of the distance between nodes.

    Sums over the nodes would then approximate integrals badly and bias slopes.
    """
    nodes = problem.grid.nodes
    max_step = problem.narrowest_posterior(x) / NARROWEST
    if max_step >= nodes[1] - nodes[0]:
        return problem
    grid = Grid.symmetric(1 + 2 * math.ceil(nodes[-1] / max_step), float(nodes[-1]))
    return Problem(problem.data, problem.structure, grid, problem.run, problem.priors)


def _start_histogram(
    problem: Problem, x: Floats, with_weights: Callable[..., ParameterLayout], max_iterations: int
) -> tuple[Problem, Solution[Point]]:
    """The problem with free weights, and a starting point.

    The point is near the maximum on half of the nodes. The search for it starts at x with normal distributions.
    `with_weights` returns the layout for a number of `histogram_nodes`.
    """
    old, few = problem.structure, _half(problem.grid)
    coarse = with_weights(histogram_nodes=len(few.nodes))
    x = np.concatenate([x[: coarse.n_before_weights], *NormalGroups(old, few).log_weights(old.expand(x))])
    whole = Problem(problem.data, coarse, few, problem.run, problem.priors)
    near = _maximise_from_sample(whole, lambda _: x, 0.0, max_iterations, least_gain=COARSE_GAIN)
    free = with_weights(histogram_nodes=len(problem.grid.nodes))
    fine = Problem(problem.data, free, problem.grid, problem.run, problem.priors)
    return fine, _interpolate_solution(near, whole, fine)


def _interpolate_solution(near: Solution[Point], few: Problem, all_nodes: Problem) -> Solution[Point]:
    """Interpolate a solution on `few` nodes, and the steps that led to it, by splines of the log densities."""
    from scipy.interpolate import CubicSpline  # loads SciPy's optimisers, not needed if θ is normal

    between = CubicSpline(few.grid.nodes, np.eye(len(few.grid.nodes)))(all_nodes.grid.nodes)
    items, G = few.structure.n_before_weights, few.structure.n_groups

    def spread_out(values: Floats, share: float = 1.0) -> Floats:
        weights = share * values[items:].reshape(G, -1) @ between.T
        return np.concatenate([values[:items], weights.ravel()])

    persons_per_node = len(few.grid.nodes) / len(all_nodes.grid.nodes)
    pairs = [(spread_out(moved), spread_out(bend, persons_per_node)) for moved, bend, _ in near.pairs]
    kept = tuple((moved, bend, along) for moved, bend in pairs if (along := float(moved @ bend)) > 0)
    return replace(near, point=all_nodes.evaluate(spread_out(near.point.x)), pairs=kept)


def _calibration(
    items: Items,
    counts: Counts,
    fit: _Fit,
    keep: Mask,
    models: tuple[Model, ...],
    given: ItemCurves,
) -> Calibration:
    """Assemble the `Calibration` of all items from the estimates of the items that took part, with flags."""
    problem, solution, found = fit.problem, fit.solution, fit.errors
    J, point, structure = items.n_items, solution.point, problem.structure
    kept = np.flatnonzero(keep)
    a, d, c = (spread(values, kept, J) for values in (point.a, point.d, point.c))
    at_bound = structure.items_using(solution.at_bound)
    estimable = counts.estimable(structure.item_model)[kept]
    own_slope = (structure.index[structure.block(0)] >= 0) & ~structure.common_slopes
    reversed_ = np.where(own_slope, point.a < 0, (point.expected.association < 0) & estimable)
    # A slope that is unbounded because of a single answer does not show a wrong key.
    reversed_ &= ~at_bound | (counts.rarer[kept] >= ENOUGH_FOR_SIGN)
    marks = {
        Flag.AT_BOUND: at_bound,
        Flag.UNIDENTIFIED: found.unidentified,
        Flag.NEGATIVE_DISCRIMINATION: reversed_,
        Flag.DUPLICATE: fit.same,
        Flag.GUESSING_UNIDENTIFIED: found.guessing_unidentified,
    }
    further, cov = _further(problem, point, items, kept, given), spread(symmetrized(found.cov), kept, J)
    if further is not None:
        more = (0, 2 + further.shape[1] - cov.shape[1])
        cov = np.pad(cov, ((0, 0), more, more))
    places, joint = places_of_parameters(model_of(models), items.n_categories, further), None
    if found.joint is not None:
        free = (structure.listed_at[2 : 2 + structure.n_scores].T >= 0) & ~structure.guessed[:, None]
        at = np.concatenate([places[kept, :2].ravel(), places[kept, 2 : 2 + structure.n_scores][free]])
        size = places.max(initial=-1) + 1
        joint = np.full((size, size), np.nan)
        joint[np.ix_(at, at)] = found.joint
    named = np.array(items.item_ids, dtype=object)[kept]
    populations, reasons = _populations(fit), _reasons(fit, named)
    mean, sd = _overall_moments(populations)
    return Calibration(
        item_ids=items.item_ids,
        models=models,
        engine=ENGINE,
        engine_version=__version__,
        a=a,
        d=d,
        c=c,
        cov=cov,
        joint_cov=joint,
        n=np.rint(counts.n).astype(np.int64),
        n_correct=np.rint(counts.correct).astype(np.int64),
        flags=counts.flags(keep, marks),
        latent_mean=mean,
        latent_sd=sd,
        n_persons=problem.data.n_persons,
        convergence=Convergence(
            converged=not reasons,
            iterations=solution.iterations,
            max_change=solution.max_change,
            max_gradient=solution.max_gradient,
            loglik=point.loglik,
            n_parameters=structure.n_before_weights + round(found.effective_df),
            reason="; ".join(reasons),
        ),
        populations=populations,
        priors=problem.priors.as_dict(),
        categories=None if further is None else items.n_categories,
        further=further,
        score_sums=np.rint(counts.score_sums).astype(np.int64) if (items.n_categories > 2).any() else None,
    )


def _further(problem: Problem, point: Point, items: Items, kept: Ints, given: ItemCurves) -> Floats | None:
    """Parameters other than a, d and c of all items, shape (J, M), including anchors that nobody answered.

    Returns None if no item has such parameters.
    """
    s = problem.structure
    width = max([s.n_curve - 2, *(len(some.further) for some in given.others)])
    if width == 0:
        return None
    out = np.full((items.n_items, width), np.nan)
    if s.n_curve > 2:
        has = s.item_model.has(items.n_categories[kept])[2:]
        for model, at in s.item_model.places(len(kept)).items():
            has[:, at] &= model.path != "logistic"
        own = s.expand(point.x)[2 * len(kept) : s.means.start].reshape(has.shape)
        out[kept, : len(has)] = np.where(has, own, np.nan).T
    for others in given.others:
        has = np.arange(len(others.further))[:, None] < others.sizes
        out[others.at, : len(has)] = np.where(has, others.further, np.nan).T
    return out


def _populations(fit: _Fit) -> tuple[Population, ...]:
    point, out = fit.solution.point, []
    for g, name in enumerate(fit.groups):
        n_persons, se = int(np.rint(point.mass[g])), np.sqrt(fit.errors.latent[g])
        normal = Population(name, n_persons, float(point.means[g]), float(point.sds[g]), float(se[0]), 0.0)
        group = fit.problem.latent.describe(normal, point.log_weights[g])
        out.append(replace(group, sd_se=float(group.sd * se[1])))
    return tuple(out)


def _overall_moments(populations: Sequence[Population]) -> tuple[float, float]:
    """Mean and SD of θ over all groups together."""
    if len(populations) == 1:
        return populations[0].mean, populations[0].sd
    means, sds = np.array([p.mean for p in populations]), np.array([p.sd for p in populations])
    return pool_moments([p.n_persons for p in populations], means, sds)


def _restore_anchors(calibration: Calibration, given: ItemCurves) -> Calibration:
    """Give all anchors, answered or not, their given parameters and errors of 0."""
    if not given.known.any():
        return calibration
    a, d, c = (
        np.where(given.known, known, found)
        for known, found in ((given.a, calibration.a), (given.d, calibration.d), (given.c, calibration.c))
    )
    cov, joint = calibration.cov.copy(), calibration.joint_cov
    cov[given.known] = 0.0
    if joint is not None:
        joint, places = joint.copy(), calibration.places_of_parameters[given.known]
        held = places[places >= 0]
        joint[held] = 0.0
        joint[:, held] = 0.0
    names = tuple(calibration.item_ids[j] for j in np.flatnonzero(given.known))
    return replace(calibration, a=a, d=d, c=c, cov=cov, joint_cov=joint, anchored=names)


def _reasons(fit: _Fit, named: np.ndarray) -> list[str]:
    """Reasons why the fit as a whole is not a valid result; empty if it is valid. `named` are its items' names."""
    solution, found, groups = fit.solution, fit.errors, fit.groups
    reasons = [solution.reason] if solution.reason else []
    data, structure = fit.problem.data, fit.problem.structure
    if (alike := structure.common_slopes).any() and solution.at_bound[structure.common_place]:
        reasons.append(_bound_reason("common slope", float(solution.point.a[alike][0])))
    for g in np.flatnonzero(structure.section_mask(solution.at_bound, structure.log_sds)).tolist():
        of_group = f" of group {groups[g]}" if len(groups) > 1 else ""
        reasons.append(_bound_reason(f"latent SD{of_group}", float(solution.point.sds[g])))
    for g in np.flatnonzero(structure.section_mask(solution.at_bound, structure.means)).tolist():
        reasons.append(
            f"the latent mean of group {groups[g]} stopped at its bound of {solution.point.means[g]:.3g} from the "
            f"middle of the anchors: its learners answer nearly all of them alike"
        )
    held = structure.section_mask(solution.at_bound, structure.block(0)) & ~alike
    if held.any():
        split = np.minimum(data.correct, data.n - data.correct) / data.n_persons
        ruling = held & (split > RULING_SHARE)
        if ruling.any():
            reasons.append(no_common_scale("slopes without a finite maximum", named[ruling]))
    reasons += [fit.doubt] if fit.doubt else []
    if found.unidentified.any():
        reasons.append(
            f"the responses do not determine the parameters of {found.unidentified.sum()} of {data.n_items} items "
            f"({some_of(list(named[found.unidentified]))}): the observed information is singular for them"
        )
    if fit.same.any():
        reasons.append(same_answers(named[fit.same].tolist()))
    return reasons


def _bound_reason(unit: str, at: float) -> str:
    why = "are unrelated" if at < 1 else "follow from each other"
    return f"the {unit} stopped at its bound of {at:.3g}: answers to different items {why}"

"""Marginal maximum likelihood for Rasch, 1PL and 2PL on sparse responses: checks, fit, flags, `Calibration`.

The E-step is Bock & Aitkin's (1981). Its expected counts give the gradient of the *marginal* log-likelihood (Fisher's
identity) and the complete-data information, a 2 × 2 block per item. One M-step by a single Newton step is then
information⁻¹ · gradient (the EM gradient algorithm, Lange 1995a), and this is the starting matrix of a limited-memory
quasi-Newton iteration on the marginal likelihood (Lange 1995b, "A quasi-Newton acceleration of the EM algorithm";
two-loop recursion of Nocedal 1980). It begins as EM and ends superlinearly; each iteration costs one E-step.

Standard errors come from the observed information by Louis (1982): complete-data information minus the covariance
of the complete-data score given each pattern. It is exact, so it equals Oakes' (1999) to rounding.

What identifies the scale: 1PL and 2PL θ ~ N(0, 1), with the sign of θ such that most slopes are positive;
Rasch slopes of 1 and θ ~ N(0, σ²), σ estimated.

The likelihood is in `marginal`, the optimiser in `ascent`, the covariance in `standard_errors`, loops in `kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from irt_assets.psychometrics import kernels
from irt_assets.psychometrics.ascent import Solution, maximise
from irt_assets.psychometrics.design import row_starts
from irt_assets.psychometrics.errors import PsychometricsError
from irt_assets.psychometrics.marginal import Counts, Data, Problem, Structure
from irt_assets.psychometrics.models import Calibration, Convergence, Flag, Floats, Model, Responses
from irt_assets.psychometrics.quadrature import Grid
from irt_assets.psychometrics.standard_errors import Errors, errors

ENGINE = "em"
MIN_PERSONS = 10
"""With fewer learners who answered two items or more, every estimate is an accident of a handful of answers."""
MIN_ITEMS: dict[Model, int] = {"rasch": 2, "1pl": 2, "2pl": 3}
"""Below these a model has more parameters than the answers have frequencies, so it has no unique maximum."""
RULING_SHARE = 0.1
"""Where an item with a slope at its bound divides more of the learners than this, it has become the ability scale."""


def fit_em(
    responses: Responses,
    *,
    model: Model = "2pl",
    nodes: int = 61,
    tolerance: float = 1e-5,
    max_iterations: int = 500,
    threads: int | None = None,
    data_hash: str = "",
) -> Calibration:
    """Calibrates items by marginal maximum likelihood.

    Args:
        responses: sparse responses; any pattern of missing responses, ignorable given the observed ones.
        model: "rasch" (a = 1, latent SD free), "1pl" (one slope, θ ~ N(0, 1)) or "2pl" (θ ~ N(0, 1)).
        nodes: equally spaced on [−6, 6]; a Rasch fit whose latent SD exceeds 1.5 is repeated on a wider grid.
        tolerance: the fit has converged when the last step changed no parameter by more than this *and* no gradient,
            divided by the root of its complete-data information (so in standard errors), exceeds it.
        max_iterations: quasi-Newton iterations, about one pass over the data each.
        threads: None for all processors. The result is the same, bit for bit, for any number.

    Returns a `Calibration` for all items of `responses`. `joint_cov` is the inverse observed information in the order
    a_1, d_1, a_2, d_2, … for up to 2000 items (above, `cov` inverts each item's own block, with the other items
    taken as known). Under "1pl" the slope is one parameter, so its variance and its covariances stand in every
    item's rows and the matrix is singular by design; under "rasch" rows and columns of a are 0, and the covariance
    of d is that with the latent SD estimated beside it. `convergence.loglik` is the marginal log-likelihood over the
    items that could be estimated; `max_gradient` is in the units of `tolerance`. `n_persons` counts learners with a
    response to such an item.

    Items answered all correctly, all wrongly or not at all have NaN parameters and a flag. `AT_BOUND` items stand at
    |a| = 10 (a slope without a finite maximum, usually from too few wrong or right answers), without errors;
    `UNIDENTIFIED` ones, whose information is singular, have no errors and make the fit unconverged.

    Raises PsychometricsError where nothing can be estimated (the message says why) and DisconnectedDesignError where
    the responses fall into groups without common learners or items.
    """
    if model not in MIN_ITEMS:
        raise PsychometricsError(f"the em engine fits {', '.join(MIN_ITEMS)}; got model {model!r}")
    counts = Counts.of(responses)
    data = Data.of(_estimable(responses, counts, model))
    with kernels.runner(threads) as run:
        problem = Problem(data, Structure.of(model, data.n_items), Grid.spanning(nodes), run)
        solution = maximise(problem, problem.start(), tolerance, max_iterations)
        if model == "rasch" and 4 * solution.point.sd > 6.0:
            limit = float(np.ceil(5 * solution.point.sd))
            problem = Problem(data, problem.structure, Grid.spanning(1 + round((nodes - 1) * limit / 6), limit), run)
            first = solution.iterations
            solution = maximise(problem, solution.point.x, tolerance, max_iterations)
            solution = replace(solution, iterations=first + solution.iterations)
        solution = solution.oriented(problem)
        found = errors(problem, solution.point, solution.at_bound)
    return _calibration(responses, counts, problem, solution, found, model, data_hash)


def _estimable(responses: Responses, counts: Counts, model: Model) -> Responses:
    """Responses to items that were answered both ways; raises where they are too few to estimate anything."""
    if responses.n_responses == 0:
        raise PsychometricsError("there are no responses: a calibration needs learners who answered items")
    keep = counts.estimable
    if keep.sum() < MIN_ITEMS[model]:
        left_out = [f"{responses.item_ids[j]} ({counts.flags(j)[0].value})" for j in np.flatnonzero(~keep)]
        because = f"; left out: {_some(left_out)}" if left_out else ""
        raise PsychometricsError(
            f"a {model} model needs at least {MIN_ITEMS[model]} items that were answered both correctly and wrongly, "
            f"found {keep.sum()}{because}. With fewer it has more parameters than the answers determine"
        )
    if keep.all():
        kept = responses
    else:
        rows = keep[responses.item]
        renumbered = np.cumsum(keep, dtype=np.int32) - 1
        kept = Responses(
            responses.person[rows],
            renumbered[responses.item[rows]],
            responses.score[rows],
            responses.n_persons,
            tuple(item for item, kept in zip(responses.item_ids, keep, strict=True) if kept),
        )
    informative = int((np.diff(row_starts(kept)) >= 2).sum())
    if 0 < informative < MIN_PERSONS:
        raise PsychometricsError(
            f"only {informative} learners answered two or more items that can be estimated; at least {MIN_PERSONS} "
            f"are needed, and hundreds for errors worth having. Widen the window or collect more answers"
        )
    return kept


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _calibration(
    responses: Responses,
    counts: Counts,
    problem: Problem,
    solution: Solution,
    found: Errors,
    model: Model,
    data_hash: str,
) -> Calibration:
    """Places the estimates of the estimable items among all items, with their flags and the judgement of the fit."""
    J = responses.n_items
    kept = np.flatnonzero(counts.estimable)
    a, d = (_spread(values, kept, J) for values in (solution.point.a, solution.point.d))
    both = (2 * kept[:, None] + np.arange(2)).ravel()
    joint = None
    if found.joint is not None:
        joint = np.full((2 * J, 2 * J), np.nan)
        joint[np.ix_(both, both)] = found.joint
    flags = [counts.flags(j) for j in range(J)]
    at_bound = problem.structure.items_using(solution.at_bound)
    for k, j in enumerate(kept):
        flags[j] += [Flag.AT_BOUND] * bool(at_bound[k])
        flags[j] += [Flag.UNIDENTIFIED] * bool(found.unidentified[k])
        flags[j] += [Flag.NEGATIVE_DISCRIMINATION] * bool(a[j] < 0)
    named = np.array(responses.item_ids, dtype=object)[kept]
    reasons = _reasons(problem, solution, found, named)
    return Calibration(
        item_ids=responses.item_ids,
        model=model,
        engine=ENGINE,
        engine_version=engine_version(),
        a=a,
        d=d,
        c=np.where(np.isfinite(a), 0.0, np.nan),
        cov=_spread(found.cov, kept, J),
        joint_cov=joint,
        n=counts.n,
        n_correct=counts.correct,
        flags=tuple(tuple(item) for item in flags),
        latent_mean=0.0,
        latent_sd=solution.point.sd,
        n_persons=problem.data.n_persons,
        convergence=Convergence(
            converged=not reasons,
            iterations=solution.iterations,
            max_change=solution.max_change,
            max_gradient=solution.max_gradient,
            loglik=solution.point.loglik,
            n_parameters=problem.structure.size,
            reason="; ".join(reasons),
        ),
        data_hash=data_hash,
    )


def _reasons(problem: Problem, solution: Solution, found: Errors, named: np.ndarray) -> list[str]:
    """Sentences that say why the fit as a whole is not a result; empty where it is one."""
    reasons = [solution.reason] if solution.reason else []
    data, structure = problem.data, problem.structure
    held = structure.items_using(solution.at_bound)
    if structure.n_slopes < data.n_items and held.any():
        unit = "common slope" if structure.n_slopes else "latent SD"
        at = float(solution.point.a[0]) if structure.n_slopes else solution.point.sd
        why = "are unrelated" if at < 1 else "follow from each other"
        reasons.append(f"the {unit} stopped at its bound of {at:.3g}: answers to different items {why}")
    elif held.any():
        split = np.minimum(data.correct, data.n - data.correct) / data.n_persons
        ruling = held & (split > RULING_SHARE)
        if ruling.any():
            reasons.append(
                f"the ability scale is not a common one: slopes without a finite maximum belong to items that tell "
                f"more than {RULING_SHARE:.0%} of the learners apart ({_some(list(named[ruling]))}), so that those "
                f"answers alone decide θ. Look for duplicated or dependent items among them"
            )
    if found.unidentified.any():
        reasons.append(
            f"the responses do not determine the parameters of {found.unidentified.sum()} of {data.n_items} items "
            f"({_some(list(named[found.unidentified]))}): the observed information is singular there"
        )
    return reasons


def _spread(values: Floats, kept: np.ndarray, n_items: int) -> Floats:
    """Estimates of the kept items among all, NaN elsewhere; the first axis is items."""
    out = np.full((n_items, *values.shape[1:]), np.nan)
    out[kept] = values
    return out


def engine_version() -> str:
    """The version of this package, "unknown" where it runs from a bare source tree."""
    try:
        return version("irt-assets")
    except PackageNotFoundError:
        return "unknown"

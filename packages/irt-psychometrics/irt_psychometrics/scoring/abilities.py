"""Abilities from responses and known item parameters: EAP, MAP, ML and WLE, each with its standard error.

Abilities for sum scores are in `sum_scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.design import over_learners, row_starts
from irt_psychometrics.core.item_models import CountedScores, ItemCurves, OtherItems
from irt_psychometrics.core.models import Population
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.testlets import Effects
from irt_psychometrics.scoring import score_kernels, testlet_kernels

Method = Literal["eap", "map", "wle", "ml", "jeffreys"]

_TINY = float(np.finfo(float).tiny)
_NARROW = 0.17
"""Posterior SD, in SDs of the prior, below which a posterior is computed again on a finer grid. The usual nodes, .2
apart, are then more than 1.2 posterior SDs apart, and the error of their sums is exp(−2π²/1.2²) or more."""
_FINE_NODES, _REACH = 481, 40
"""Number of nodes of the finer grid, which are .025 SDs of the prior apart (enough for posterior SDs from .02 on), and
number of nodes used on either side of the first estimate, 1 SD of the prior. Curves are computed for ranges of this
width."""
_FILLED_AT_ONCE = 1_000
"""Number of items whose curves are computed at once, which needs some 20 MB."""
_MAX_KEPT = 20_000
"""Largest number of rows of a table that is kept. On the finer grid a row has some 2 KB for each of some 6 ranges."""
_EQUATIONS = {
    "ml": score_kernels.ML,
    "map": score_kernels.MAP,
    "wle": score_kernels.WLE,
    "jeffreys": score_kernels.JEFFREYS,
}


@dataclass(frozen=True)
class Scores:
    """Ability and its standard error, shape (n_persons,), on the scale of the item parameters.

    Attributes:
        se_total: shape (n_persons,), the standard error including the errors of the item parameters (`total_error`);
            NaN if these are not known. None if it was not computed.
        discount: shape (R,), in [0, 1], the part of each response's information that counts at the last answer, if
            ability moves. It is the product of V/(V + q·Δt) over later occasions, V the posterior variance before the
            time Δt passed, and of 1/(1 + s²I), I the information of the response's own occasion (the Kalman filter's
            update of precisions). It is 1 for responses to items without a curve. None: everything counts.
        start: shape (n_persons,), the part of the population's information at the first answer that counts at the last
            one: 1/se² ≈ Σ discount·I + start/sd². None: everything counts.
    """

    theta: Floats
    se: Floats
    se_total: Floats | None = None
    discount: Floats | None = None
    start: Floats | None = None

    @property
    def reliability(self) -> float:
        """Variance of EAP scores divided by that variance plus the mean squared SE, in [0, 1] (Bock & Mislevy 1982).

        Use it for EAP only: the variance of other scores includes their errors. Learners without a usable response
        count with the prior, so leave them out first to get the test's reliability. NaN for fewer than two learners.
        """
        return self.weighted_reliability(np.ones(self.theta.size))

    def weighted_reliability(self, weights: Floats) -> float:
        """Compute `reliability` if each person represents a number of persons, `weights` (n_persons,)."""
        total = float(weights.sum())
        if total < 2:
            return float("nan")
        between = float(weights @ (self.theta - weights @ self.theta / total) ** 2) / (total - 1)
        return between / (between + float(weights @ self.se**2) / total)

    @property
    def known_total(self) -> float | None:
        """The `se_total` of the first (or only) learner. Returns None if it is not known."""
        return None if self.se_total is None or np.isnan(self.se_total[0]) else float(self.se_total[0])


def estimate_abilities(
    responses: Responses,
    a: Floats,
    d: Floats,
    c: Floats,
    *,
    others: Sequence[OtherItems] = (),
    method: Method = "eap",
    mean: float = 0.0,
    sd: float = 1.0,
    threads: int | None = None,
) -> Scores:
    """Estimate abilities of persons from responses and arrays of item parameters, by one of five methods.

    - "eap": posterior mean and SD with the prior N(mean, sd²).
    - "map": posterior mode. The SE follows from the curvature there, 1/√(observed information + 1/sd²).
    - "ml": maximum of the likelihood, SE 1/√(observed information). If the likelihood is highest at an end of the scale
      (all right, all wrong; under a 3PL also patterns no better than guessing), θ is +∞ or −∞ and its SE ∞. This
      infinite value is the estimate; no finite number replaces it.
    - "wle": Warm's (1989) root of score + J/(2I) = 0, J = Σ P'P''/P over all scores of the items (for 0 and 1, P'P''
      divided by P(1 − P)). It removes the bias of order 1/n and is finite for every pattern; SE 1/√(expected
      information).
    - "jeffreys": root of score + I'/(2I) = 0, the mode under Jeffreys' prior, which R mirt calls WLE. It equals "wle"
      if all c = 0; under a 3PL it differs and keeps a bias.

    Parameters
    ----------
    responses
        Sparse responses of n_persons learners.
    a, d, c
        Shape (n_items,), slopes, intercepts and lower asymptotes in the order of `responses.item_ids`. An item with NaN
        in any of them has no curve, and answers to it are ignored.
    others
        Items whose curves are not determined by a, d and c, with their places among the items. If their model is not a
        `ScoredModel`, methods other than "eap" find θ on nodes .02 sd apart, up to 12 sd from the mean.
    method
        "eap", "map", "wle", "ml" or "jeffreys".
    mean, sd
        Mean and SD of the prior, sd > 0. For "ml", "wle" and "jeffreys" they only determine where the search starts.
    threads
        Number of threads; None: all processors. The result does not depend on it.

    Returns
    -------
    Scores
        θ and its standard error, shape (n_persons,). A learner without a usable response gets the mean and SD of the
        prior from "eap" and "map", and θ NaN with SE ∞ from other methods. For methods other than "eap", responses to
        items with a = 0 are not usable.

    Raises
    ------
    ValueError
        For an unknown method, parameters of the wrong shape, c outside [0, 1), or sd ≤ 0.

    References
    ----------
    Warm, T. A. (1989). Weighted likelihood estimation of ability in item response theory. Psychometrika, 54, 427-450.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.scoring import estimate_abilities
    >>> answers = irt.Responses.from_wide({"q1": [1, 0], "q2": [1, 0]})
    >>> estimate_abilities(answers, np.ones(2), np.zeros(2), np.zeros(2)).theta.round(2).tolist()
    [0.7, -0.7]
    """
    if method == "eap":
        return eap(responses, a, d, c, others=others, mean=mean, sd=sd, threads=threads)
    if method not in _EQUATIONS:
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}; got {method!r}")
    usable = _usable(responses, a, d, c, sd) & (np.asarray(a) != 0)
    nodes = mean + sd * Grid.symmetric().nodes
    items = ItemCurves(a, d, c, tuple(others))
    if not items.have_compiled_scores:
        return _score_on_nodes(responses, items, method, mean, sd)
    counted = CountedScores.from_curves(items)
    log_right, log_wrong = items.score_tables(nodes)
    a, d, c = (np.where(usable, x, 0.0) for x in (a, d, c))
    info = np.ascontiguousarray(ItemCurves(a, d, c, items.others).information(nodes).T)
    start = row_starts(responses)
    score = counted.of_answers(responses.item, responses.score, responses.categories)
    row, right = counted.rows(responses.item, score)
    theta, se = np.empty(responses.n_persons), np.empty(responses.n_persons)

    def solve(first: int, last: int) -> None:
        score_kernels.maximise_scores(
            _EQUATIONS[method],
            first,
            last,
            (start, responses.item, score, row, right),
            (a, d, c, usable, counted.categories, *items.score_rows),
            counted.table,
            (log_right, log_wrong, info, nodes),
            (float(mean), float(sd)),
            (theta, se),
        )

    over_learners(solve, responses, start, threads)
    return Scores(theta, se)


def eap(
    responses: Responses,
    a: Floats,
    d: Floats,
    c: Floats,
    *,
    others: Sequence[OtherItems] = (),
    mean: float = 0.0,
    sd: float = 1.0,
    nodes: int = 61,
    threads: int | None = None,
) -> Scores:
    """Mean and SD of each learner's posterior with the prior N(mean, sd²) (Bock & Mislevy 1982).

    Arguments as in `estimate_abilities`; `nodes` is the number of equally spaced nodes on mean ± 6 sd. A learner
    without a usable response gets theta = mean and se = sd. All-right and all-wrong patterns have finite scores, shrunk
    towards the mean. Raises ValueError for parameters of the wrong shape, c outside [0, 1), or sd ≤ 0.
    """
    _usable(responses, a, d, c, sd)
    items = ItemCurves(a, d, c, tuple(others))
    return eap_by(responses, Curves.from_items(items, mean=mean, sd=sd, nodes=nodes), threads=threads)


def _score_on_nodes(responses: Responses, items: ItemCurves, method: Method, mean: float, sd: float) -> Scores:
    """Score learners by a method other than "eap" under models without compiled equations.

    The root is found on 1,201 nodes on mean ± 12 sd, with differences instead of derivatives, linear between two nodes.
    It never lies beyond the ends, except that "ml" is ±∞ there.
    """
    nodes = mean + sd * np.linspace(-12, 12, 1201)
    p = items.score_probabilities(nodes)
    J, C, Q = p.shape
    by_theta = np.gradient(np.log(np.where(p > 0, p, 1.0)), nodes, axis=2)
    information = (p * by_theta**2).sum(axis=1)
    bias = np.gradient(information, nodes, axis=1)
    if method == "wle":
        bias = (p * by_theta * (by_theta**2 + np.gradient(by_theta, nodes, axis=2))).sum(axis=1)
    score = CountedScores.from_curves(items).of_answers(responses.item, responses.score, responses.categories)
    theta, se = (np.full(responses.n_persons, x) for x in ((mean, sd) if method == "map" else (np.nan, np.inf)))
    start = row_starts(responses)
    for first, last in kernels.cut(np.diff(start) + 1, 1 + responses.n_persons // 1000):
        rows = slice(start[first], start[last])
        given = np.zeros((last - first, J * C))
        np.add.at(given, (responses.person[rows] - first, responses.item[rows] * C + score[rows]), 1.0)
        seen = given.reshape(-1, J, C).sum(axis=2)
        known, slope = seen @ information, given @ by_theta.reshape(J * C, Q)
        if method == "map":
            slope -= (nodes - mean) / sd**2
        elif method != "ml":
            slope += seen @ bias / (2 * np.maximum(known, _TINY))
        precision = -np.gradient(slope, nodes, axis=1) if method in ("ml", "map") else known
        top = np.cumsum(slope[:, :-1] + slope[:, 1:], axis=1).argmax(axis=1).clip(1, Q - 3) + 1
        for k in np.flatnonzero(known.max(axis=1) > 0).tolist():
            j = top[k] - (slope[k, top[k]] < 0)
            if method == "ml" and slope[k, j] * slope[k, j + 1] > 0:
                theta[first + k] = np.copysign(np.inf, slope[k, j])
            else:
                share = np.clip(slope[k, j] / (slope[k, j] - slope[k, j + 1]), 0, 1)
                theta[first + k] = nodes[j] + share * (nodes[j + 1] - nodes[j])
                se[first + k] = np.interp(theta[first + k], nodes, precision[k]) ** -0.5
    return Scores(theta, se)


@dataclass(frozen=True)
class Curves:
    """The curves of items for learners of one population. Once they are made, they can score any number of learners.

    Attributes:
        items: the J items, in the order of the items of the responses.
        population: the distribution of θ.
        nodes: shape (Q,), the equally spaced nodes for posteriors that are wide enough.
        effects: effects of learners in testlets; None if there are none.
        counted: the scores that answers count as; None if all items have scores 0 and 1.
    """

    items: ItemCurves
    population: Population
    nodes: Floats
    effects: Effects | None = None
    counted: CountedScores | None = None
    _tables: dict[bytes, tuple[Floats, Mask]] = field(default_factory=dict)

    @classmethod
    def from_items(
        cls,
        items: ItemCurves,
        *,
        mean: float = 0.0,
        sd: float = 1.0,
        nodes: int = 61,
        population: Population | None = None,
        effects: Effects | None = None,
    ) -> Curves:
        """Make curves for learners of a population.

        Parameters
        ----------
        items
            The curves of J items, in the order of the items of the responses.
        mean, sd
            Mean and SD of the normal population; not used if `population` is given.
        nodes
            Number of equally spaced nodes on mean ± 6 sd. A population with a histogram has its own nodes.
        population
            The distribution of θ; None: N(mean, sd²).
        effects
            Effects of learners in testlets; None: no effects.

        Returns
        -------
        Curves
            Curves that score learners of this population.
        """
        population = population or Population.normal(mean, sd)
        theta = np.array(population.nodes) if population.nodes else _around(population, nodes)
        return cls(items, population, theta, effects, CountedScores.from_curves(items) if items.scored else None)

    @property
    def usable(self) -> Mask:
        """Mask of the items that have a curve, shape (J,)."""
        return self.items.known

    @cached_property
    def information(self) -> Floats:
        """Fisher information of the items at the nodes, shape (Q, J); 0 for items without a curve."""
        return np.where(self.usable, self.items.information(self.nodes), 0.0)

    def wle(self, responses: Responses) -> Scores:
        """Warm's estimates from responses to these items in this order.

        Parameters
        ----------
        responses
            Responses whose items are these J items in the same order.

        Returns
        -------
        Scores
            θ and its standard error, shape (n_persons,); θ NaN and SE ∞ without a usable response.
        """
        items, of = self.items, self.population
        own = items.a, items.d, items.c
        return estimate_abilities(responses, *own, others=items.others, method="wle", mean=of.mean, sd=of.sd)

    @property
    def _item_of_row(self) -> Ints:
        return np.arange(len(self.items.a)) if self.counted is None else self.counted.item_of_row

    def rows(self, responses: Responses) -> npt.NDArray[np.int32]:
        """The row of each response in `table`, shape (R,)."""
        row, right = responses.item, responses.score == 1
        if self.counted is not None:
            row, score = self.counted.rows(row, self.counted.of_answers(row, responses.score, responses.categories))
            right = score == 1
        elif responses.categories is not None:
            right = responses.score >= responses.categories[row] - 1
        return row + np.int32(len(self._item_of_row)) * ~right

    def table(self, rows: npt.NDArray[np.int32], nodes: Floats) -> Floats:
        """log P at Q nodes, shape (2M, Q), filled in for these `rows`.

        The first M rows are for right answers and the last M for wrong answers to the rows of
        `ItemCurves.score_tables`, of which a scored item has one for each score above 0. If M ≤ `_MAX_KEPT`, the table
        is kept, so each row is computed only once.
        """
        item_of_row = self._item_of_row
        M = len(item_of_row)
        kept = self._tables if M <= _MAX_KEPT else {}
        table, filled = kept.setdefault(
            nodes.tobytes(), (np.empty((2 * M, len(nodes))), np.zeros(len(self.items.a), dtype=bool))
        )
        item = item_of_row[rows % M]
        new = np.unique(item[~filled[item]])
        for some in np.array_split(new, -(-new.size // _FILLED_AT_ONCE)) if new.size else []:
            own = np.flatnonzero(np.isin(item_of_row, some))
            table[own], table[M + own] = self.items.select(some).score_tables(nodes)
            filled[some] = True
        return table


def _around(population: Population, nodes: int) -> Floats:
    return population.mean + population.sd * Grid.symmetric(nodes).nodes


class Posteriors(NamedTuple):
    """Mean, SD and log ∫ Π P(response | θ) g(θ) dθ of N persons, shape (N,) each.

    A person without a response to an item with a curve has the mean and SD of the prior, and a log of 0.
    """

    theta: Floats
    se: Floats
    log_likelihood: Floats


def posteriors(responses: Responses, curves: Curves, *, threads: int | None = None) -> Posteriors:
    """The posterior of each person's θ; the items of the curves are in the order of `responses.item_ids`.

    Posteriors that are too narrow for the nodes are computed on a finer grid around their mean.
    """
    start, row, prior = row_starts(responses), curves.rows(responses), curves.population
    informed = np.bincount(responses.person[curves.usable[responses.item]], minlength=responses.n_persons) > 0
    found = Posteriors(*(np.full(responses.n_persons, float(x)) for x in (prior.mean, prior.sd, 0.0)))

    def compute(chosen: Mask, grid: Floats, nodes: Floats, reach: int) -> None:
        persons, rows = np.flatnonzero(chosen), row[np.repeat(chosen, np.diff(start))]
        if not persons.size:
            return
        table, of_grid = curves.table(rows, nodes), prior.log_density(grid)
        weights = prior.log_density(nodes) - np.logaddexp.reduce(of_grid)

        def moments(first: int, last: int) -> None:
            kernels.posterior_moments(first, last, persons, (start, row), table, nodes, weights, reach, found)

        with kernels.runner(threads) as run:
            run(moments, kernels.cut(np.diff(start)[persons], min(64, 1 + rows.size // 50_000)))

    compute(informed, curves.nodes, curves.nodes, len(curves.nodes))
    narrow = found.se < _NARROW * prior.sd
    if narrow.any():
        finer = _around(prior, _FINE_NODES)
        above = np.searchsorted(finer, found.theta[narrow])
        first, last = max((above.min() - 1) // _REACH - 1, 0), above.max() // _REACH + 2
        compute(narrow, finer, finer[_REACH * first : _REACH * last], _REACH)
    return found


def eap_by(responses: Responses, curves: Curves, *, threads: int | None = None) -> Scores:
    """Score learners by EAP; the items of the curves are in the order of `responses.item_ids`.

    Effects of testlets do not change θ, but SE² = se² + se⁴ σ² Σ_t Σ_{j≠k ∈ t} I_j I_k, with the items' information I
    at θ. The reason is that answers in a testlet have covariances σ² P'_j P'_k at θ, to first order in σ², and that θ
    changes by se² per unit of the score Σ (x_j − P_j) P'_j/(P_j Q_j).
    """
    theta, se, _ = posteriors(responses, curves, threads=threads)
    if curves.effects is not None and responses.n_responses:
        se *= np.sqrt(1 + se**2 * curves.effects.sd**2 * information_in_testlets(responses, curves, theta, threads))
    return Scores(theta, se)


def information_in_testlets(
    responses: Responses, curves: Curves, theta: Floats, threads: int | None = None, discount: Floats | None = None
) -> Floats:
    """Σ_t Σ_{j≠k ∈ t} I_j I_k over the answers of each learner in testlets at `theta`, shape (n_persons,).

    `discount` (R,) is the part of each answer's information that counts; None means all of it.
    """
    start = row_starts(responses)
    counts = np.ones(responses.n_responses) if discount is None else discount
    assert curves.effects is not None
    testlet, item_information = curves.effects.testlet, curves.information
    nodes = curves.nodes
    pairs = np.empty(responses.n_persons)

    def add_up(first: int, last: int) -> None:
        testlet_kernels.information_in_pairs(
            first,
            last,
            (start, responses.item, counts),
            testlet,
            item_information,
            (nodes[0], nodes[1] - nodes[0]),
            theta,
            pairs,
        )

    over_learners(add_up, responses, start, threads)
    return pairs


def _usable(responses: Responses, a: Floats, d: Floats, c: Floats, sd: float) -> Mask:
    """Mask of the items with a curve, shape (J,).

    Raises ValueError, which names the argument, for an impossible prior or impossible parameters.
    """
    for name, values in (("a", a), ("d", d), ("c", c)):
        if np.shape(values) != (responses.n_items,):
            raise ValueError(f"{name} must have shape ({responses.n_items},), one per item; got {np.shape(values)}")
    if not sd > 0:
        raise ValueError(f"sd must be positive, got {sd}")
    usable = np.isfinite(a) & np.isfinite(d) & np.isfinite(c)
    if np.any((c[usable] < 0) | (c[usable] >= 1)):
        raise ValueError(f"c must be in [0, 1), got {c[usable & ~((c >= 0) & (c < 1))][0]}")
    return usable

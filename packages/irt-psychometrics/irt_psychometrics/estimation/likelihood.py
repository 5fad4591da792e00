"""E-step of the items: expected counts, gradient and information, without and with guessing.

`Logistic`, `Guessing`, `PartialCredit` and `Categories` have the same interface. Each represents J curves on Q nodes at
one parameter vector. A complete-data score of an item (θ known) is (x − P)·V with V = (θ, 1) or, with guessing, the
`factors` of its tables. Formulas of curves, the ability distribution, priors and the optimiser are elsewhere.

`PartialCredit` is for models in which the sum of scores, each times its item's slope, is sufficient for θ. Its rows in
the kernels are the scores k > 0 of each item, with slopes k·a, and sums over nodes include only the seen items.
`Categories` is for any `ItemModel`. log P(pattern) is Σ log P(0) over the seen items plus Σ log P(k)/P(0) over the
chosen categories k > 0 (if nobody chose 0, the lowest chosen category replaces it), so the kernels have a row for each
item and category instead of each item.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.curves import GuessingTables, logistic_table
from irt_psychometrics.core.logistic import expit
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.estimation import (
    category_information_kernels,
    information_kernels,
    score_product_kernels,
    scored_information_kernels,
    table_kernels,
)
from irt_psychometrics.estimation.reductions import KernelSum, SumOverPersons, Sums
from irt_psychometrics.estimation.response_layout import LaidOutAnswers

SCORE_STEP, BEND_STEP = 1e-3, 1e-4
"""Step for finite differences. The relative error of a second derivative is one in a million."""
NOTHING = -1e4
"""Log weight of an unused node."""
Tables = TypeVar("Tables", information_kernels.Scores, scored_information_kernels.ScoredItems)
MIN_FOR_TABLE = 800
"""Minimum number of persons in a set for which a table of posteriors saves time. The number must also be twice the
number of rows of the table."""
PARTS_AT_ONCE = 1_000_000
"""Number of components of persons' scores that are in memory at once."""
MAX_INFORMATION = 10_000
"""Upper limit of the information about θ; larger values are not distinguished. It gives a posterior SD of .01."""


@dataclass(frozen=True)
class Expectation:
    """Results of one E-step over all persons.

    Attributes
    ----------
    loglik
        Marginal log-likelihood.
    gradient
        Shape (K, J), gradient of the marginal log-likelihood in each item's parameters (Fisher's identity).
    information
        Shape (J, K, K), complete-data information expected over answers; always positive semidefinite.
    residual
        Shape (J, Q), expected minus modelled number of correct answers at each node; (0, 0) without guessing.
    mass
        Shape (G, Q), expected number of persons of each group at each node.
    association
        Shape (J,), Σ θ(x − x̄) over the persons who saw an item, with θ expected. It is negative if abler persons answer
        the item worse, regardless of the model's slope.
    seen
        Shape (J, Q), expected number of persons at each node who saw an item.
    right
        Shape (J, Q), expected number of persons at each node who answered an item correctly. Without guessing: shape
        (J, 1), their sum of θ. By category: shape (M, Q), persons who chose the category of a row. Partial credit
        family: shape (M, 1), their sum of θ.
    """

    loglik: float
    gradient: Floats
    information: Floats
    residual: Floats
    mass: Floats
    association: Floats
    seen: Floats
    right: Floats


class Logistic:
    """P = 1/(1 + exp(−(aθ + d)))."""

    K = 2

    def __init__(self, data: LaidOutAnswers, nodes: Floats, a: Floats, d: Floats) -> None:
        self.data, self.nodes, self.d = data, nodes, d
        log_wrong, self.p = logistic_table(a, d, nodes)
        self.c = np.zeros(len(a))
        self.curves = kernels.Curves(a, _pad_nodes(log_wrong), _pad_nodes(np.empty((0, len(nodes)))))

    def expect(self, total: SumOverPersons, log_weights: Floats) -> Expectation:
        value, seen, right, mass = _counts(self, total, log_weights)
        theta_right = right[:, 0]
        expected = seen * self.p
        weight = expected * (1.0 - self.p)
        gradient = np.stack([theta_right - expected @ self.nodes, self.data.correct - expected.sum(axis=1)])
        off = weight @ self.nodes
        blocks = np.stack([weight @ self.nodes**2, off, off, weight.sum(axis=1)], axis=1).reshape(-1, 2, 2)
        association = theta_right - self.data.correct / self.data.n * (seen @ self.nodes)
        value += float(self.d @ self.data.correct)
        return Expectation(value, gradient, blocks, np.empty((0, 0)), mass, association, seen, right)

    def curvature(self, expected: Expectation) -> Floats:
        """Complete-data information given the answers, shape (J, K, K) (Louis 1982, first term)."""
        return expected.information

    def scores(self, latent: Floats) -> information_kernels.Scores:
        none = np.empty((0, len(self.nodes)))
        return information_kernels.Scores(1.0 - self.p, -self.p, none, none, np.empty(0), latent)


class Guessing:
    """P = c + (1 − c)L with L = 1/(1 + exp(−(aθ + d))); c may be 0 for some items."""

    K = 3

    def __init__(self, data: LaidOutAnswers, nodes: Floats, a: Floats, d: Floats, logit_c: Floats) -> None:
        self.data, self.nodes = data, nodes
        self.tables = tables = GuessingTables(nodes, a, d, logit_c)
        self.c = tables.c[:, 0]
        flip, log_odds = data.flipped[:, None], tables.log_right - tables.log_wrong
        self.curves = kernels.Curves(
            a,
            _pad_nodes(np.where(flip, tables.log_right, tables.log_wrong)),
            _pad_nodes(np.where(flip, -log_odds, log_odds)),
        )

    def expect(self, total: SumOverPersons, log_weights: Floats) -> Expectation:
        loglik, seen, listed, mass = _counts(self, total, log_weights)
        flip, tables = self.data.flipped[:, None], self.tables
        residual = listed - seen * np.where(flip, tables.q, tables.p)
        residual = np.where(flip, -residual, residual)
        spread = seen * tables.p * tables.q
        gradient = np.einsum("kjq,jq->kj", tables.factors, residual)
        information = np.einsum("kjq,mjq,jq->jkm", tables.factors, tables.factors, spread)
        right = residual + seen * tables.p
        association = right @ self.nodes - self.data.correct / self.data.n * (seen @ self.nodes)
        return Expectation(loglik, gradient, information, residual, mass, association, seen, right)

    def curvature(self, expected: Expectation) -> Floats:
        """Same as `Logistic.curvature`."""
        bent: Floats = np.einsum("kmjq,jq->jkm", self.tables.factor_derivatives, expected.residual)
        return expected.information - bent

    def scores(self, latent: Floats) -> information_kernels.Scores:
        flip, tables = self.data.flipped[:, None], self.tables
        pairs = [(tables.q * value, -tables.p * value) for value in tables.factors[1:]]
        (right, wrong), (guess_right, guess_wrong) = [
            (np.where(flip, other, one), np.where(flip, one, other)) for one, other in pairs
        ]
        return information_kernels.Scores(right, wrong, guess_right, guess_wrong, self.c - 1, latent)


class PartialCredit:
    """Curves of the partial credit family. The 2PL is the special case of two scores.

    `parameters` has shape (K, J). `listed_at` is `ParameterLayout.listed_at`.
    """

    def __init__(self, data: LaidOutAnswers, nodes: Floats, parameters: Floats, listed_at: Ints) -> None:
        assert data.counts is not None
        assert data.row_item is not None
        assert data.row_category is not None
        self.data, self.nodes, self.K, self.listed_at = data, nodes, len(parameters), listed_at
        self.rows, self.table = (data.row_item, data.row_category), data.counts.table
        a, d = parameters[:2]
        self.a = a
        self.points = np.arange(self.table.shape[1])
        t = np.where(self.points < data.n_categories[:, None], parameters[2:].T, -np.inf)
        self.intercepts = self.points * d[:, None] + t
        logs = self.intercepts[:, :, None] + self.points[:, None] * np.multiply.outer(a, nodes)[:, None]
        most = logs.max(axis=1)
        self.p = np.exp(logs - most[:, None])
        total = self.p.sum(axis=1)
        self.p /= total[:, None]
        self.c = np.zeros(len(a))
        rows = self.rows[1] * a[self.rows[0]]
        none = np.empty((0, len(nodes)))
        self.curves = kernels.Curves(rows, _pad_nodes(-most - np.log(total)), _pad_nodes(none))

    def expect(self, total: SumOverPersons, log_weights: Floats) -> Expectation:
        value, seen, right, mass = _counts(self, total, log_weights)
        points, J = self.points, len(self.p)
        thetas = np.zeros(self.table.shape)
        thetas[self.rows] = right[:, 0]
        theta_score, score = thetas @ points, self.table @ points
        answers = seen[:, None] * self.p
        scored = points @ answers
        by_t = np.einsum("jkq->jk", answers)
        gradient = np.vstack(
            [theta_score - scored @ self.nodes, score - scored.sum(axis=1), (self.table - by_t).T[: self.K - 2]]
        )
        away = points[:, None] - (points @ self.p)[:, None]
        weighted = answers * away
        spread = np.einsum("jkq,jkq->jq", weighted, away)
        information = np.empty((J, self.K, self.K))
        information[:, 0, 0] = spread @ self.nodes**2
        information[:, 0, 1] = information[:, 1, 0] = spread @ self.nodes
        information[:, 1, 1] = spread.sum(axis=1)
        information[:, 0, 2:] = information[:, 2:, 0] = weighted @ self.nodes
        information[:, 1, 2:] = information[:, 2:, 1] = weighted.sum(axis=2)
        information[:, 2:, 2:] = -answers @ self.p.transpose(0, 2, 1)
        information[:, 2 + points, 2 + points] += by_t
        association = theta_score - score / self.data.n * (seen @ self.nodes)
        given = self.table > 0
        value += float(self.table[given] @ self.intercepts[given])
        return Expectation(value, gradient, information, np.empty((0, 0)), mass, association, seen, right)

    def curvature(self, expected: Expectation) -> Floats:
        """Same as `Logistic.curvature`."""
        return expected.information

    def scores(self, latent: Floats) -> scored_information_kernels.ScoredItems:
        n_columns = (self.listed_at >= 0).sum(axis=0)
        found = np.concatenate([(self.points @ self.p)[:, None], self.p], axis=1)
        places = self.listed_at.T[self.listed_at.T >= 0]
        return scored_information_kernels.ScoredItems(
            first=np.concatenate([[0], np.cumsum(n_columns)]),
            place=np.concatenate([places, np.arange(len(places), len(places) + 2 * len(latent))]),
            unlisted=-found[self.listed_at[1:].T >= 0],
            row_item=self.rows[0],
            row_score=self.rows[1].astype(float),
            steepness=self._steepness(),
            latent=latent,
        )

    def _steepness(self) -> Floats:
        """Slope of the logistic curve with the same maximum information over the nodes, shape (J,)."""
        points = self.points[:, None]
        variance = ((points - (self.points @ self.p)[:, None]) ** 2 * self.p).sum(axis=1)
        return 2 * np.abs(self.a) * np.sqrt(variance.max(axis=1))

    def missing_information(self, total: SumOverPersons, log_weights: Floats, latent: Floats) -> Floats:
        """Same as the function `missing_information`, in the order of `ParameterLayout.listed`."""
        half = self._missing_products(total, log_weights, latent, whole=True)
        return half + half.T

    def missing_information_blocks(self, total: SumOverPersons, log_weights: Floats) -> Floats:
        """Same as the function `missing_information_blocks`."""
        found = 2 * self._missing_products(total, log_weights, np.zeros((2, *log_weights.shape)), whole=False)
        out = np.zeros((len(self.p), self.K, self.K))
        for j, at in enumerate(self.listed_at.T):
            own = np.flatnonzero(at >= 0)
            out[j][np.ix_(own, own)] = found[at[own], : len(own)]
        return out

    def _missing_products(self, total: SumOverPersons, log_weights: Floats, latent: Floats, whole: bool) -> Floats:
        scores = self.scores(np.ascontiguousarray(latent.transpose(1, 0, 2)))
        size = len(scores.place)
        nodes, log_weights = _pad_nodes(self.nodes), _pad_nodes(log_weights, NOTHING)
        tables = (self.curves, nodes, log_weights, _pad_tables(scores), whole)
        runs, alone = scored_information_kernels.add_scored_runs, scored_information_kernels.add_scored_persons
        (found,) = total(_MissingInformation(runs, tables, ((size, size if whole else self.K),), alone))
        return found


class Categories:
    """Curves of items with several categories under any model.

    `parameters` has shape (K, J). `listed_at` is `ParameterLayout.listed_at`.
    """

    def __init__(
        self, data: LaidOutAnswers, nodes: Floats, model: ItemModel, parameters: Floats, listed_at: Ints
    ) -> None:
        assert data.row_item is not None
        assert data.row_category is not None
        self.data, self.nodes, self.K = data, nodes, len(parameters)
        self.model, self.parameters, self.listed_at = model, parameters, listed_at
        self.rows = data.row_item, data.row_category
        item, category = self.rows
        logs = model.log_probabilities(nodes, parameters, data.n_categories)
        self.p, self.c = np.exp(logs), np.zeros(len(logs))
        guessed = model.guessed(len(logs))
        if guessed.any():
            self.c[guessed] = expit(parameters[2, guessed])
        self.by_parameters = model.by_parameters(nodes, parameters, data.n_categories)
        lowest = logs[np.arange(len(logs)), :, np.isfinite(logs[:, 0]).argmax(axis=1)]
        log_odds = logs[item, :, category] - lowest[item]
        self.curves = kernels.Curves(parameters[0].copy(), _pad_nodes(lowest), _pad_nodes(log_odds))

    def expect(self, total: SumOverPersons, log_weights: Floats) -> Expectation:
        value, seen, right, mass = _counts(self, total, log_weights)
        answers = self.answers(seen, right)
        gradient = np.einsum("kjqc,jqc->kj", self.by_parameters, answers)
        expected = self.p * seen[:, :, None]
        information = np.einsum("kjqc,mjqc,jqc->jkm", self.by_parameters, self.by_parameters, expected)
        score = answers @ np.arange(self.p.shape[2])
        association = score @ self.nodes - score.sum(axis=1) / self.data.n * (seen @ self.nodes)
        return Expectation(value, gradient, information, np.empty((0, 0)), mass, association, seen, right)

    def answers(self, seen: Floats, right: Floats) -> Floats:
        """Expected number of persons at each node who chose each category, shape (J, Q, C)."""
        item, category = self.rows
        answers = np.zeros(self.p.shape)
        answers[item, :, category] = right
        answers[:, :, 0] = seen - answers.sum(axis=2)
        return answers

    def curvature(self, expected: Expectation) -> Floats:
        """Same as `Logistic.curvature`, with second derivatives of log P by differences."""
        answers, found = self.answers(expected.seen, expected.right), np.zeros((len(self.p), self.K, self.K))
        for k in np.flatnonzero((self.listed_at >= 0).any(axis=1)):
            step = np.zeros((self.K, 1))
            step[k] = BEND_STEP
            down, up = (
                self.model.by_parameters(self.nodes, self.parameters + move, self.data.n_categories)
                for move in (-step, step)
            )
            found[:, k] = np.einsum("mjqc,jqc->jm", down - up, answers) / (2 * BEND_STEP)
        return (found + found.transpose(0, 2, 1)) / 2

    def missing_information(self, total: SumOverPersons, log_weights: Floats, latent: Floats) -> Floats:
        """Same as the function `missing_information`, in the order of `ParameterLayout.listed`."""
        (found,) = total(self._lost(log_weights, latent, whole=True))
        return found

    def missing_information_blocks(self, total: SumOverPersons, log_weights: Floats) -> Floats:
        """Same as the function `missing_information_blocks`."""
        (found,) = total(self._lost(log_weights, np.zeros((2, *log_weights.shape)), whole=False))
        return found

    def _lost(self, log_weights: Floats, latent: Floats, *, whole: bool) -> "_LostByCategory":
        squares = (self.p * self.by_parameters[1] ** 2).sum(axis=2)
        scores = category_information_kernels.CategoryScores(
            items=_pad_nodes(self.by_parameters.transpose(1, 3, 0, 2)),
            place=self.listed_at,
            row_item=self.rows[0],
            row_category=self.rows[1],
            steepness=2 * np.abs(self.parameters[0]) * np.sqrt(np.maximum(squares.max(axis=1), 1.0)),
            latent=_pad_nodes(latent),
        )
        size = int(self.listed_at.max()) + 1 + 2 * len(log_weights)
        tables = self.curves, _pad_nodes(self.nodes), _pad_nodes(log_weights, NOTHING), scores
        return _LostByCategory(tables, size, whole)


Curves = Logistic | Guessing | PartialCredit | Categories


def missing_information(curves: Curves, total: SumOverPersons, log_weights: Floats, latent: Floats) -> Floats:
    """Σ_i Cov(complete-data score | pattern i), in the order of `ParameterLayout.listed`.

    `latent` (2, G, Q) are the scores of the groups' means and log SDs.
    """
    if isinstance(curves, PartialCredit | Categories):
        return curves.missing_information(total, log_weights, latent)
    J, G, K = curves.data.n_items, len(log_weights), curves.K
    half = _run_kernel(curves, total, log_weights, latent, J + G)
    whole = half.transpose(2, 0, 3, 1).reshape(K * (J + G), K * (J + G))
    whole = whole + whole.T
    items = (np.arange(K)[:, None] * (J + G) + np.arange(J)).ravel()
    groups = (np.arange(2)[:, None] * (J + G) + J + np.arange(G)).ravel()
    order = np.concatenate([items, groups])
    return whole[np.ix_(order, order)]


def missing_information_blocks(curves: Curves, total: SumOverPersons, log_weights: Floats) -> Floats:
    """Own block of `missing_information` of each item, shape (J, K, K)."""
    if isinstance(curves, PartialCredit | Categories):
        return curves.missing_information_blocks(total, log_weights)
    return 2 * _run_kernel(curves, total, log_weights, np.zeros((2, *log_weights.shape)), 1)[:, 0]


def shared_with_nodes(curves: Curves, total: SumOverPersons, log_weights: Floats) -> Floats:
    """Minus the second derivatives of the log-likelihood with respect to the items' parameters and the groups' log
    weights, shape (KJ, GQ), in the order of `ParameterLayout` (Louis 1982).

    The log weights are free parameters here, without a constraint on their sum.
    """
    J, K, (G, Q) = curves.data.n_items, curves.K, log_weights.shape
    if isinstance(curves, PartialCredit | Categories):
        return shared_by_differences(curves, total, log_weights, np.broadcast_to(np.eye(Q), (G, Q, Q)))
    scores = _pad_tables(curves.scores(np.zeros((G, 2, Q))))
    nodes, log_weights = _pad_nodes(curves.nodes), _pad_nodes(log_weights, NOTHING)
    tables = curves.curves, nodes, log_weights, scores
    (found,) = total(KernelSum(score_product_kernels.shared_with_nodes, tables, ((K, J, G, len(nodes)),)))
    return found[..., :Q].reshape(K * J, G * Q)


def shared_by_differences(curves: Curves, total: SumOverPersons, log_weights: Floats, latent_scores: Floats) -> Floats:
    """Minus the second derivatives with respect to the items' parameters and M parameters of each group, shape (KJ,
    GM).

    `latent_scores` (G, M, Q) are the scores of the groups' parameters. They are computed from differences of gradients.
    """
    columns = []
    for g, m in np.ndindex(*latent_scores.shape[:2]):
        step = np.zeros_like(log_weights)
        step[g] = SCORE_STEP * latent_scores[g, m]
        down, up = (curves.expect(total, log_weights + move).gradient.ravel() for move in (-step, step))
        columns.append((down - up) / (2 * SCORE_STEP))
    return np.stack(columns, axis=1)


def products_of_posteriors(curves: Curves, total: SumOverPersons, log_weights: Floats) -> Floats:
    """Σ p pᵀ over the persons of each group, with posterior weights p at the nodes, shape (G, Q, Q)."""
    Q = len(curves.nodes)
    nodes, log_weights = _pad_nodes(curves.nodes), _pad_nodes(log_weights, NOTHING)
    tables, shape = (curves.curves, nodes, log_weights), (*log_weights.shape, len(nodes))
    (found,) = total(KernelSum(score_product_kernels.products_of_posteriors, tables, (shape,)))
    return found[:, :Q, :Q].copy()


def score_products(
    curves: Logistic | Guessing, total: SumOverPersons, log_weights: Floats, latent_scores: Floats
) -> Floats:
    """Σ_i s_i s_iᵀ over persons, shape (KJ + GM, KJ + GM).

    The scores s_i are those of the items' parameters, in the order of `ParameterLayout`, and then the M `latent_scores`
    (G, M, Q) of each group.
    """
    J, (G, M, _) = curves.data.n_items, latent_scores.shape
    scores = _pad_tables(curves.scores(np.zeros((G, 2, len(curves.nodes)))))
    nodes, log_weights, latent_scores = (
        _pad_nodes(curves.nodes),
        _pad_nodes(log_weights, NOTHING),
        _pad_nodes(latent_scores),
    )
    tables, size = (curves.curves, nodes, log_weights, scores, latent_scores), curves.K * J + G * M
    (once,) = total(KernelSum(score_product_kernels.score_products, tables, ((size, size),)))
    return once + once.T - np.diag(np.diag(once))


def most_information(information: Floats, total: SumOverPersons) -> float:
    """Largest information, rounded up, that one person's items have together at a node.

    `information` (J, Q) is the information of each item.
    """
    (persons,) = total(KernelSum(information_kernels.count_by_information, (information,), ((MAX_INFORMATION,),)))
    return float(1 + np.flatnonzero(persons)[-1])


class _ExpectedCounts(KernelSum):
    """A `KernelSum` whose first array, shape (1,), is the sum of the values that the kernel returns.

    Without guessing and with two scores, a table replaces the exponentials of large sets. Persons are added in their
    order.
    """

    def add(self, first: int, last: int, people: kernels.People, into: Sums) -> None:
        value, *counts = into
        for begin, end in self._large_sets(first, last, people):
            if first < begin:
                value += self.kernel(first, begin, people, *self.tables, *counts)
            found = table_kernels.counts_by_table(begin, end, people, *self.tables, *counts)
            value += self.kernel(begin, end, people, *self.tables, *counts) if np.isnan(found) else found
            first = end
        if first < last:
            value += self.kernel(first, last, people, *self.tables, *counts)

    def _large_sets(self, first: int, last: int, people: kernels.People) -> Iterator[tuple[int, int]]:
        """Yield the ranges of persons in sets that are large enough for a table."""
        curves: kernels.Curves = self.tables[0]
        if last - first < MIN_FOR_TABLE or len(curves.log_odds) or len(curves.slope) > len(curves.log_wrong):
            return
        edges = first + np.flatnonzero(np.diff(people.set_of[first:last], prepend=-1, append=-1))
        for begin, end in itertools.pairwise(edges.tolist()):
            if end - begin >= MIN_FOR_TABLE:
                s = people.set_of[begin]
                items = people.set_items[people.set_start[s] : people.set_start[s + 1]]
                if end - begin > 2 * np.abs(curves.slope[items]).sum() / table_kernels.STEP:
                    yield begin, end


@dataclass(frozen=True)
class _MissingInformation(KernelSum):
    """The loss of information, by one kernel for persons in runs and one, `alone`, for all others.

    Persons are added in their order, so the sum does not depend on which kernel processes them. A row counts as the
    number of persons whom it represents, so rows of several persons are processed as the persons would be.
    """

    alone: Callable[..., Any] = information_kernels.add_persons

    def add(self, first: int, last: int, people: kernels.People, into: Sums) -> None:
        *tables, whole = self.tables
        edges = first + np.flatnonzero(np.diff(people.set_of[first:last], prepend=-1, append=-1))
        sets = np.column_stack([edges[:-1], edges[1:]])
        persons = np.maximum(np.diff(edges), np.add.reduceat(people.weight[first:last], edges[:-1] - first))
        in_runs = whole & (persons >= information_kernels.RUN)
        changes = np.flatnonzero(np.diff(in_runs)) + 1
        for stretch in np.split(np.arange(len(sets)), changes):
            if in_runs[stretch[0]]:
                self.kernel(sets[stretch], people, *tables, *into)
            else:
                self.alone(sets[stretch], people, *tables, whole, *into)


@dataclass(frozen=True)
class _LostByCategory:
    """The lost information of `Categories`: covariances of the persons' scores, as products of matrices.

    `whole`: of all parameters, shape (L, L); otherwise of each item's own, shape (J, K, K).
    """

    tables: tuple[Any, ...]
    size: int
    whole: bool

    def zeros(self) -> Sums:
        K, J = self.tables[3].place.shape
        return (np.zeros((self.size, self.size) if self.whole else (J, K, K)),)

    def add(self, first: int, last: int, people: kernels.People, into: Sums) -> None:
        scores, size = self.tables[3], self.size
        parts = np.empty((size, max(len(self.tables[1]) + 6, PARTS_AT_ONCE // size)))
        category = np.zeros(len(scores.items), dtype=np.int64)
        while first < last:
            parts[:] = 0.0
            first, used = category_information_kernels.expand_scores(first, last, people, *self.tables, category, parts)
            filled = parts[:, :used]
            if self.whole:
                into[0][:] += filled @ filled.T
                continue
            for own, at in zip(into[0], scores.place.T, strict=True):
                has = np.flatnonzero(at >= 0)
                own[np.ix_(has, has)] += filled[at[has]] @ filled[at[has]].T


def _counts(curves: Curves, total: SumOverPersons, log_weights: Floats) -> tuple[float, Floats, Floats, Floats]:
    """Run `kernels.expected_counts` over all persons. Returns value, seen, right and mass."""
    J, Q, rows = curves.data.n_items, len(curves.nodes), len(curves.curves.log_odds)
    nodes, log_weights = _pad_nodes(curves.nodes), _pad_nodes(log_weights, NOTHING)
    right_shape = (rows, len(nodes)) if rows else (len(curves.curves.slope), 1)
    shapes = ((1,), (J, len(nodes)), right_shape, log_weights.shape)
    tables = curves.curves, nodes, log_weights
    value, seen, right, mass = total(_ExpectedCounts(kernels.expected_counts, tables, shapes))
    return float(value[0]), seen[:, :Q], right[:, :Q], mass[:, :Q]


def _pad_nodes(table: Floats, value: float | None = None) -> Floats:
    """Pad the last axis to a multiple of 8 nodes, which kernels process at once, with `value` or the last node's
    values."""
    Q = table.shape[-1]
    out = np.empty((*table.shape[:-1], -8 * (-Q // 8)))
    out[..., :Q] = table
    out[..., Q:] = table[..., -1:] if value is None else value
    return out


def _pad_tables(raw: Tables) -> Tables:
    return type(raw)(*(_pad_nodes(table) if table.ndim > 1 else table for table in raw))


def _run_kernel(
    curves: Logistic | Guessing,
    total: SumOverPersons,
    log_weights: Floats,
    latent: Floats,
    width: int,
) -> Floats:
    """Run a kernel of `information_kernels` over all persons, with `width` blocks for each item."""
    J, G, K = curves.data.n_items, len(log_weights), curves.K
    whole = width > 1
    shape = (J + G if whole else J, width, K, K)
    scores = _pad_tables(curves.scores(np.ascontiguousarray(latent.transpose(1, 0, 2))))
    nodes, log_weights = _pad_nodes(curves.nodes), _pad_nodes(log_weights, NOTHING)
    of_runs = information_kernels.add_guessed_runs if isinstance(curves, Guessing) else information_kernels.add_runs
    (found,) = total(_MissingInformation(of_runs, (curves.curves, nodes, log_weights, scores, whole), (shape,)))
    return found

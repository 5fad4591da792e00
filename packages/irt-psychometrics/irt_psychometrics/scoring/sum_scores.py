"""The distribution of the sum score of a complete form at each ability, and abilities for sum scores.

Item fit by sum scores is in `sum_score_fit`; scores for response patterns are in `abilities`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.kernels import _kernel
from irt_psychometrics.core.models import Population
from irt_psychometrics.core.quadrature import WIDEST_STEP, Grid


@dataclass(frozen=True)
class SumScoreTable:
    """Abilities for the sum scores of a complete form, 0 to the sum of the items' maximum scores.

    Attributes
    ----------
    theta, se
        Shape (K,), mean and SD of the posterior of θ given the sum score; NaN for impossible sum scores.
    probability
        Shape (K,), expected share of the population with the score.
    """

    theta: Floats
    se: Floats
    probability: Floats


def sum_score_table(items: ItemCurves, population: Population) -> SumScoreTable:
    """Compute EAP and SE for each sum score (Thissen, Pommerich, Billeaud & Williams 1995), by Lord & Wingersky's
    recursion.

    Parameters
    ----------
    items
        The J items of the form, all with parameters.
    population
        The prior of θ.

    Raises ValueError if an item has no parameters, because its contribution to the sum cannot be predicted.
    """
    if not items.known.all():
        missing = np.flatnonzero(~items.known)
        raise ValueError(
            f"every item of the form needs parameters; items at positions {missing[:5].tolist()} lack them"
        )
    theta, weights = nodes_of_forms([items], population)
    joint = score_distributions(items, theta) * weights
    total = joint.sum(axis=1)
    with np.errstate(invalid="ignore"):
        eap = joint @ theta / total
        variance = (joint * (theta - eap[:, None]) ** 2).sum(axis=1) / total
    return SumScoreTable(eap, np.sqrt(variance), total)


def nodes_of_forms(forms: Sequence[ItemCurves], population: Population) -> tuple[Floats, Floats]:
    """Choose nodes that suffice for posteriors given all answers to one of the forms.

    A histogram keeps its nodes and weights if they are close enough. Otherwise nodes lie on mean ± 6 SD.

    Returns nodes and weights, which sum to 1, shape (Q,) each.
    """
    most = max(float(np.sum(((form.categories - 1) * form.a) ** 2)) for form in forms) / 4  # information ≤ (a·m)²/4
    narrowest = 1 / np.sqrt(1 + population.sd**2 * most)  # in SDs of the population
    own = np.array(population.nodes)
    if own.size > 1 and np.diff(own).max() <= WIDEST_STEP * narrowest * population.sd:
        return own, np.array(population.weights)
    grid = Grid.for_posterior_sd(narrowest)
    theta = population.mean + population.sd * grid.nodes
    if not own.size:
        return theta, np.exp(grid.log_weights())
    density = np.exp(population.log_density(theta))
    return theta, density / density.sum()


def score_distributions(items: ItemCurves, theta: Floats) -> Floats:
    """P(sum score = k | θ_q), shape (K, Q); all items have parameters."""
    if not items.others:
        return score_distribution(np.ascontiguousarray(items.probability(theta).T))
    given, lowest = items.score_tables(theta)
    return distribution_of_points(np.exp(given), np.exp(lowest), items.categories - 1)


@_kernel
def distribution_of_points(given, lowest, max_scores):  # type: ignore[no-untyped-def]
    """P(sum score = k | θ_q), shape (K, Q), of items with maximum scores `max_scores` (J,).

    `given` and `lowest` (M, Q) are P of each score above 0, and P of 0, in the rows of `ItemCurves.score_tables`.
    """
    Q = given.shape[1]
    out = np.zeros((max_scores.sum() + 1, Q))
    out[0] = 1.0
    row, most = 0, 0
    for m in max_scores:
        most += m
        for k in range(most, -1, -1):
            for q in range(Q):
                value = out[k, q] * lowest[row, q]
                for points in range(1, min(m, k) + 1):
                    value += out[k - points, q] * given[row + points - 1, q]
                out[k, q] = value
        row += m
    return out


@_kernel
def score_distribution(p):  # type: ignore[no-untyped-def]
    """P(sum score = k | θ_q), shape (J + 1, Q), from p (J, Q) (Lord & Wingersky 1984)."""
    J, Q = p.shape
    out = np.zeros((J + 1, Q))
    out[0] = 1.0
    for j in range(J):
        for k in range(j + 1, 0, -1):
            for q in range(Q):
                out[k, q] = out[k, q] * (1.0 - p[j, q]) + out[k - 1, q] * p[j, q]
        for q in range(Q):
            out[0, q] *= 1.0 - p[j, q]
    return out


@_kernel
def expected_proportions(p, weights):  # type: ignore[no-untyped-def]
    """P(x_j = 1 | sum score k), shape (J, J + 1), and the expected share of each sum score, shape (J + 1,).

    `p` is (J, Q), and `weights` (Q,) are the weights of the nodes. For each item the recursion runs over the other
    items (Orlando & Thissen 2000, eq. 5), J³Q/2 steps in all: dividing the item out of the whole distribution would
    lose digits.
    """
    J, Q = p.shape
    out = np.zeros((J, J + 1))
    total = score_distribution(p)
    share = np.zeros(J + 1)
    for k in range(J + 1):
        for q in range(Q):
            share[k] += weights[q] * total[k, q]
    others = np.empty((J - 1, Q))
    for j in range(J):
        for k in range(J - 1):  # an assignment of a slice takes seconds to compile: the texts of errors of shape
            for q in range(Q):
                others[k, q] = p[k + (k >= j), q]
        rest = score_distribution(others)
        for k in range(1, J + 1):
            value = 0.0
            for q in range(Q):
                value += weights[q] * p[j, q] * rest[k - 1, q]
            out[j, k] = value / share[k]
    return out, share


@_kernel
def expected_shares(given, lowest, max_scores, weights):  # type: ignore[no-untyped-def]
    """P(x_j = s | sum score k), shape (J, C, K), of items with scores 0 … m (Kang & Chen 2008).

    Arguments as in `distribution_of_points`; `weights` (Q,) are the weights of the nodes. NaN if no answers sum to k.
    """
    J, K = max_scores.size, max_scores.sum() + 1
    out = np.zeros((J, max_scores.max() + 1, K))
    row = 0
    for j in range(J):
        m = max_scores[j]
        others = np.concatenate((given[:row], given[row + m :]))
        of_others = np.concatenate((lowest[:row], lowest[row + m :]))
        rest = distribution_of_points(others, of_others, np.concatenate((max_scores[:j], max_scores[j + 1 :])))
        for s in range(m + 1):
            p = weights * (lowest[row] if s == 0 else given[row + s - 1])
            for k in range(K - m):
                out[j, s, k + s] = np.sum(p * rest[k])
        row += m
        for k in range(K):
            total = 0.0
            for s in range(out.shape[1]):
                total += out[j, s, k]
            for s in range(out.shape[1]):
                out[j, s, k] /= total
    return out

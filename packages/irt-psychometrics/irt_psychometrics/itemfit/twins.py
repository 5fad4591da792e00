"""Learners under two ids, and items that are nearly the same: pairs whose answers are equal far more often than chance.

The fitted model determines how often answers agree by chance, so neither easy items nor learners with all answers right
look like twins. Pairs of items that share something beyond the ability without being the same are in `dependence`.

**Learners.** One learner under two ids gives the same answers except for a share ε = `CHANGED`. The likelihood ratio of
this hypothesis to a different learner from the same population is

    (1 − ε)^equal · ε^different / P(answers),

where P is the marginal probability of the answers to the common items. Its expectation is 1 if the learners are
different, for any abilities. So it is an e-value. The e-BH procedure of Wang & Ramdas (2022) over all pairs, at
`FALSE_MONTHS`, decides whether there are twins at all, for any dependence between pairs. It uses Markov's bound, which
is conservative: if the logarithms have an SD of 2.5, as with 30 answers, the actual rate is a seventh of the bound. If
there are twins, their share among all pairs is estimated by maximum likelihood. It turns each ratio into the
probability that the pair is one learner, and pairs with at least `MIN_PROBABILITY` are named. No other statistic of the
answers finds more twins with the same number of false pairs (Neyman-Pearson).

Only some of the N² pairs are compared: those with `TOGETHER` of their `RAREST` least likely answers in common. Twins
nearly always have them, and other pairs seldom do. Sorting finds these pairs, so the computing time is about
proportional to the number of learners.

**Items.** Two items that are the same have few different answers. The expected number of different answers, at the
learners' θ, is Σ P(1 − P') + P'(1 − P). A pair is named if it has significantly less than `MAX_SHARE` of this
number. The test uses the Poisson distribution, whose variance is larger than that of such a sum, and Bonferroni's
correction for all pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.sparse import csr_array
from scipy.special import logsumexp, pdtr

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.logistic import expit, logit
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.itemfit import fit_kernels
from irt_psychometrics.itemfit.dependence import eap
from irt_psychometrics.itemfit.model_replicates import FittedData
from irt_psychometrics.itemfit.pair_sums import expected_answers, observed_answers, sum_over_pairs

CHANGED = 0.01
"""Share of common answers that differ between one learner's two ids, because a key or an answer has been corrected."""
FALSE_MONTHS = 0.05
"""Largest share of months without twins in which a pair of learners may be named."""
MIN_PROBABILITY = 0.25
"""Smallest probability of being one learner at which a pair is named. A missed pair counts as much as three pairs that
a person compares in vain."""
RAREST, TOGETHER = 8, 4
"""Number of a learner's least likely answers, and how many of them the learners of a compared pair have in common."""
MAX_IN_COMMON = 64
"""A set of rare answers that more learners than this have in common identifies no pair."""
DIFFERENT = 20
"""Among the common answers of a pair of learners, at most one in this many may differ."""
MAX_SHARE = 0.5
"""A pair of items is named if it has less than this share of the expected number of different answers."""
LEVEL = 0.01
"""Largest probability that a pair is named in a set of items without twins."""
STEPS = 50
"""Number of EM steps. After 25 steps, the number of pairs no longer changed in its first three decimals."""
_PAIRS = 20_000
"""Number of pairs whose answers are listed at once."""


@dataclass(frozen=True)
class LearnerTwins:
    """A pair of person ids that probably belong to one learner.

    Attributes:
        persons: indices of the two persons.
        common: number of items that both answered.
        equal: number of these with equal answers.
    """

    persons: tuple[int, int]
    common: int
    equal: int


@dataclass(frozen=True)
class ItemTwins:
    """A pair of items that are nearly the same.

    Attributes:
        items: indices of the two items.
        learners: number of learners who saw both.
        equal: observed share of equal answers.
        expected: share of equal answers expected of two different items.
    """

    items: tuple[int, int]
    learners: int
    equal: float
    expected: float


def learner_twins(
    responses: Responses, calibration: Calibration, *, groups: Sequence[str] | None = None, threads: int | None = None
) -> list[LearnerTwins]:
    """Find pairs of ids that are probably one person, the most certain pair first.

    `groups`: the group of each person, n_persons labels, if the fit has groups. The cost is a sort of the answers, and
    a sort of 70 numbers per person.
    """
    whole = FittedData.from_responses(responses, calibration, groups)
    rows = whole.rows
    pairs = _candidates(whole, eap(whole, threads))
    if not len(pairs):
        return []
    most = np.minimum(*np.diff(rows.start)[pairs].T) // DIFFERENT
    counts = np.zeros((len(pairs), 2), dtype=np.int64)
    fit_kernels.common_answers(pairs, rows, most, counts)
    near = (counts[:, 0] - counts[:, 1]) * DIFFERENT <= counts[:, 0]
    pairs, counts = pairs[near], counts[near]
    log_e = _log_likelihood_ratios(whole, pairs, counts)
    order = np.argsort(-log_e, kind="stable")
    n = whole.responses.n_persons
    excess = log_e[order] + np.log(np.arange(1, len(order) + 1)) - np.log(n * (n - 1) / 2)
    if not (excess >= -np.log(FALSE_MONTHS)).any():
        return []
    probability = _probabilities(log_e[order], n * (n - 1) // 2)
    return [
        LearnerTwins((int(pairs[k, 0]), int(pairs[k, 1])), int(counts[k, 0]), int(counts[k, 1]))
        for k in order[probability >= MIN_PROBABILITY]
    ]


def _probabilities(log_e: Floats, pairs: int) -> Floats:
    """Estimate the probability that each pair is one person, shape (K,).

    EM estimates the share of twins among all `pairs` by maximum likelihood. Pairs without a ratio in `log_e` count as
    different persons.
    """
    share = len(log_e) / pairs
    for _ in range(STEPS):
        found: Floats = expit(log_e + logit(share))
        share = found.sum() / pairs
    return found


def _candidates(whole: FittedData, theta: Floats) -> Ints:
    """Find pairs of persons with rare answers in common, shape (K, 2), the smaller index first."""
    r, start = whole.responses, whole.rows.start
    nodes = whole.abilities.nodes
    node = np.rint((theta - nodes[0]) / (nodes[1] - nodes[0])).astype(np.int64)
    likely = whole.log_probabilities[r.score, r.item, node[r.person]]
    order = np.lexsort((r.item, likely, r.person))
    able = np.flatnonzero(np.diff(start) >= RAREST)
    rarest = order[start[able][:, None] + np.arange(RAREST)]
    scores = len(whole.log_probabilities)
    answer = np.sort(r.item[rarest].astype(np.int64) * scores + r.score[rarest], axis=1)
    base = r.n_items * scores
    chosen = np.array([*combinations(range(RAREST), TOGETHER)])
    key = (answer[:, chosen] @ base ** np.arange(TOGETHER)).ravel()
    person = np.repeat(able, len(chosen))
    order = np.argsort(key, kind="stable")
    key, person = key[order], person[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    size = np.diff(first, append=len(key))
    few = np.repeat((size > 1) & (size <= MAX_IN_COMMON), size)
    key, person = key[few], person[few]
    found = []
    for lag in range(1, MAX_IN_COMMON):
        same = key[lag:] == key[:-lag]
        if not same.any():
            break
        found.append(np.unique(person[:-lag][same] * r.n_persons + person[lag:][same]))
    if not found:
        return np.empty((0, 2), dtype=np.int64)
    return np.column_stack(np.divmod(np.unique(np.concatenate(found)), r.n_persons))


def _log_likelihood_ratios(whole: FittedData, pairs: Ints, counts: Ints) -> Floats:
    """Compute the log of the module's likelihood ratio, shape (K,). A differing answer can be any other score."""
    r, start = whole.responses, whole.rows.start
    place = r.person * np.int64(r.n_items) + r.item
    by_place = np.argsort(place, kind="stable")
    place = place[by_place]
    scores, J, Q = whole.log_probabilities.shape
    tables = whole.log_probabilities.reshape(scores * J, Q)
    marginal = np.empty(len(pairs))
    for low in range(0, len(pairs), _PAIRS):
        one, other = pairs[low : low + _PAIRS].T
        length = np.diff(start)[one]
        pair = np.repeat(np.arange(len(one)), length)
        row = np.arange(len(pair)) + np.repeat(start[one] - np.cumsum(length) + length, length)
        wanted = other[pair] * np.int64(r.n_items) + r.item[row]
        at = np.minimum(np.searchsorted(place, wanted), len(place) - 1)
        both = place[at] == wanted
        pair, row = pair[both], row[both]
        answers = csr_array(
            (np.ones(len(row)), (pair, r.score[row].astype(np.int64) * J + r.item[row])), shape=(len(one), scores * J)
        )
        group = whole.abilities.group[one]
        marginal[low : low + _PAIRS] = logsumexp(answers @ tables + whole.abilities.log_weights[group], axis=1)
    common, equal = counts.T
    differs = np.log(CHANGED / (scores - 1))
    return equal * np.log1p(-CHANGED) + (common - equal) * differs - marginal


def item_twins(
    responses: Responses, calibration: Calibration, *, groups: Sequence[str] | None = None, threads: int | None = None
) -> list[ItemTwins]:
    """Find pairs of items scored 0 and 1 that are nearly the same, the largest share of equal answers first.

    `groups`: the group of each person, n_persons labels, if the fit has groups.
    """
    whole = FittedData.from_responses(responses, calibration, groups).scored_0_and_1
    J = whole.calibration.n_items
    answers, p = observed_answers(whole), expected_answers(whole, eap(whole, threads))
    n, first, _, product = sum_over_pairs(whole, answers)
    observed = first + first.T - 2 * product
    _, first, _, product = sum_over_pairs(whole, p)
    expected = first + first.T - 2 * product
    pairs = J * (J - 1) / 2
    chance = pdtr(np.rint(observed), MAX_SHARE * expected)
    i, j = np.nonzero(np.triu((chance * pairs < LEVEL) & (n > 0), 1))
    found = [
        ItemTwins(
            (int(whole.place[a]), int(whole.place[b])),
            int(n[a, b]),
            1 - float(observed[a, b] / n[a, b]),
            1 - float(expected[a, b] / n[a, b]),
        )
        for a, b in zip(i.tolist(), j.tolist(), strict=True)
    ]
    return sorted(found, key=lambda pair: -pair.equal)

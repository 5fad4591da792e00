"""Compiled loop of adaptive tests: choose an item, take the answer, estimate θ, and stop.

`run_tests` simulates whole tests, or replays the answers of one test and chooses its next item, by the same statements.

Values between two of the fine nodes are interpolated by a cubic through four nodes. At a distance of .02 its error is
below 1e-8 of the information.

Content: every limit is a *group* of items with a minimum and a maximum. A *unit* is an item, or a testlet whose items
are given together. Units of one *kind* have the same size and groups. `completion` holds units with which the test can
be completed within all limits. A unit is chosen only if a completion exists after it, and a completion always contains
the next choice, so the limits are met in every test. The module `plan` makes the tables.
"""

from typing import NamedTuple

import numpy as np

from irt_psychometrics.core.kernels import _in_place_kernel, _inlined_in_place_kernel

INFORMATION, KULLBACK_LEIBLER, POSTERIOR_VARIANCE, PROGRESSIVE = range(4)
NOT_STOPPED, MAX_ITEMS, MAX_SE, CLASSIFIED, NO_ITEM = range(5)
PENALTY = 1e6
"""Subtracted from the value of items that are not eligible, so that they are chosen only if the limits require them
(big M; Choi & Lim 2021)."""
_REACH = 2.0
"""An item must be eligible in all intervals of θ within this many SDs of the estimate, because exposure is counted in
the interval of the last estimate."""
_AMONG_BEST, _ELIGIBLE, _RANDOM_PART = 1 << 20, 1 << 30, 1 << 40
"""First numbers of the draws for the choice among the best items, for eligibility and for the random part of
progressive selection. Answers have the numbers from 0 on."""


class Tables(NamedTuple):
    """Tables of J items with up to C scores: at Q nodes of the posterior, and at F fine nodes `low` + f·`step`.

    `weights` (Q,) is the prior, `p` (J, C, Q) the probabilities of scores, `log_p` their logarithms (for
    Kullback-Leibler information only), `criterion` (F, J) the information, `fine` (J, C, F) the probabilities at the
    fine nodes, `log_ratio` (J, C) the log likelihood ratio of the sequential test. For WLE, `slopes` (J, C, F) are
    ∂ log P/∂θ and `warm` (2, J, F) information and Warm's J.
    """

    nodes: np.ndarray
    weights: np.ndarray
    p: np.ndarray
    log_p: np.ndarray
    low: float
    step: float
    criterion: np.ndarray
    fine: np.ndarray
    log_ratio: np.ndarray
    slopes: np.ndarray
    warm: np.ndarray


class Content(NamedTuple):
    """Groups of items with their limits, and units; see the module's docstring. `first` is a completion of an empty
    test."""

    group_start: np.ndarray
    groups: np.ndarray
    least: np.ndarray
    most: np.ndarray
    unit_of: np.ndarray
    unit_start: np.ndarray
    unit_items: np.ndarray
    kind: np.ndarray
    first: np.ndarray


class State(NamedTuple):
    """Arrays of one test in progress.

    `used` (J,) marks items that were given or are excluded, `off` (S, J) items that are not eligible in an interval of
    θ, and `avoided` (J,) items that are not eligible now. `prior` (Q,) is the prior by which items are chosen, `sums`
    (3, F) are the sums of WLE, `counted` (K,) are the items of each group. The other arrays are overwritten by the
    functions that use them.
    """

    used: np.ndarray
    off: np.ndarray
    avoided: np.ndarray
    value: np.ndarray
    likelihood: np.ndarray
    posterior: np.ndarray
    prior: np.ndarray
    sums: np.ndarray
    counted: np.ndarray
    spare: np.ndarray
    taken: np.ndarray
    failed: np.ndarray
    completion: np.ndarray
    other: np.ndarray
    best: np.ndarray

    @classmethod
    def of_size(cls, tables: Tables, content: Content, eligible: np.ndarray, randomesque: int) -> "State":
        """Make the arrays for tests with these tables and limits, `eligible` (S, J)."""
        J, Q, K, U = eligible.shape[1], tables.nodes.size, content.least.size, content.kind.size
        return cls(
            used=np.empty(J, np.bool_),
            off=np.empty(eligible.shape, np.bool_),
            avoided=np.empty(J, np.bool_),
            value=np.empty(J),
            likelihood=np.empty(Q),
            posterior=np.empty(Q),
            prior=np.empty(Q),
            sums=np.empty((3, tables.criterion.shape[0])),
            counted=np.empty(K, np.int64),
            spare=np.empty(K, np.int64),
            taken=np.empty(U, np.bool_),
            failed=np.empty(U, np.bool_),
            completion=np.empty(U, np.int64),
            other=np.empty(U, np.int64),
            best=np.empty(randomesque, np.int64),
        )


class Rules(NamedTuple):
    """Rules of the test. `cut` is NaN if the test does not classify; `z` is 0 for the sequential test."""

    method: int
    wle: bool
    min_items: int
    max_items: int
    max_se: float
    cut: float
    ratio_low: float
    ratio_high: float
    z: float
    randomesque: int


@_inlined_in_place_kernel
def _uniform(seed, number):  # type: ignore[no-untyped-def]
    """Draw with this number from the stream of a seed, in [0, 1) (splitmix64; Steele, Lea & Flood 2014)."""
    z = np.uint64(seed) + np.uint64(number + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * 1.1102230246251565e-16


@_inlined_in_place_kernel
def _place(theta, low, step, size):  # type: ignore[no-untyped-def]
    """The first of four fine nodes around θ, and the weights of the nodes in a cubic through them."""
    x = min(max((theta - low) / step, 1.0), size - 2.0)
    k = min(int(x), size - 3)
    t = x - k
    return (
        k - 1,
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    )


@_inlined_in_place_kernel
def _mean_sd(likelihood, prior, nodes, out):  # type: ignore[no-untyped-def]
    """Mean and SD of a posterior, which is written to `out` (Q,) and sums to 1."""
    total = 0.0
    mean = 0.0
    square = 0.0
    for q in range(nodes.size):
        out[q] = likelihood[q] * prior[q]
        total += out[q]
        mean += out[q] * nodes[q]
    mean /= total
    for q in range(nodes.size):
        out[q] /= total
        square += out[q] * (nodes[q] - mean) ** 2
    return mean, np.sqrt(square)


@_inlined_in_place_kernel
def _weighted_likelihood(sums, low, step):  # type: ignore[no-untyped-def]
    """WLE and its SE from the sums (3, F) of slopes, information and J: the root of slope + J/(2·information) at which
    the weighted likelihood is highest (Warm 1989). At an end of the nodes if there is no root."""
    best = 0
    height = 0.0
    top = 0.0
    before = sums[0, 0] + sums[2, 0] / (2 * sums[1, 0])
    for f in range(1, sums.shape[1]):
        now = sums[0, f] + sums[2, f] / (2 * sums[1, f])
        height += before + now
        if height > top:
            top, best = height, f
        before = now
    best = min(max(best, 1), sums.shape[1] - 2)
    left, right = low + (best - 1) * step, low + (best + 1) * step
    theta, known = 0.0, 1.0
    for _ in range(40):  # bisection, because Newton's method does not always converge with guessing
        theta = 0.5 * (left + right)
        k, w0, w1, w2, w3 = _place(theta, low, step, sums.shape[1])
        slope = w0 * sums[0, k] + w1 * sums[0, k + 1] + w2 * sums[0, k + 2] + w3 * sums[0, k + 3]
        known = w0 * sums[1, k] + w1 * sums[1, k + 1] + w2 * sums[1, k + 2] + w3 * sums[1, k + 3]
        bend = w0 * sums[2, k] + w1 * sums[2, k + 1] + w2 * sums[2, k + 2] + w3 * sums[2, k + 3]
        if slope + bend / (2 * known) > 0:
            left = theta
        else:
            right = theta
    return theta, 1 / np.sqrt(known)


@_inlined_in_place_kernel
def _set_values(theta, spread, n, seed, tables, rules, state):  # type: ignore[no-untyped-def]
    """state.value (J,) = the value of each item at θ by the method of selection, after n items.

    `spread` is the SD of the posterior.
    """
    J, C, Q = tables.p.shape
    out, used, likelihood, posterior = state.value, state.used, state.likelihood, state.posterior
    k, w0, w1, w2, w3 = _place(theta, tables.low, tables.step, tables.criterion.shape[0])
    if rules.method == INFORMATION or rules.method == PROGRESSIVE:
        r0, r1, r2, r3 = tables.criterion[k], tables.criterion[k + 1], tables.criterion[k + 2], tables.criterion[k + 3]
        for j in range(J):
            out[j] = w0 * r0[j] + w1 * r1[j] + w2 * r2[j] + w3 * r3[j]
        if rules.method == PROGRESSIVE:
            top = 0.0
            for j in range(J):
                if not used[j]:
                    top = max(top, out[j])
            share = n / max(rules.max_items - 1, 1)
            for j in range(J):
                out[j] = (1 - share) * top * _uniform(seed, _RANDOM_PART + n * J + j) + share * out[j]
        return
    mass = 0.0
    for q in range(Q):
        mass += likelihood[q]
    for j in range(J):
        out[j] = 0.0
        if used[j]:
            continue
        for c in range(C):
            row, own = tables.fine[j, c], tables.p[j, c]
            here = w0 * row[k] + w1 * row[k + 1] + w2 * row[k + 2] + w3 * row[k + 3]
            if here <= 0.0:
                continue
            if rules.method == KULLBACK_LEIBLER:
                total = mass * np.log(here)
                logs = tables.log_p[j, c]
                for q in range(Q):
                    total -= likelihood[q] * logs[q]
                out[j] += here * total
            else:
                total = 0.0
                mean = 0.0
                square = 0.0
                for q in range(Q):
                    weight = posterior[q] * own[q]
                    total += weight
                    mean += weight * tables.nodes[q]
                    square += weight * tables.nodes[q] ** 2
                if total > 0:
                    out[j] += here * (spread**2 - (square / total - (mean / total) ** 2))


@_inlined_in_place_kernel
def _add(unit, content, count, by):  # type: ignore[no-untyped-def]
    """Add `by` to the counts of the groups of a unit's items; returns the unit's size."""
    start, end = content.unit_start[unit], content.unit_start[unit + 1]
    for r in range(start, end):
        j = content.unit_items[r]
        for g in range(content.group_start[j], content.group_start[j + 1]):
            count[content.groups[g]] += by
    return end - start


@_inlined_in_place_kernel
def _fits(unit, content, count, used, left):  # type: ignore[no-untyped-def]
    """Whether a unit's items are free, and fit in `left` places and within the maxima after `count` of each group."""
    start, end = content.unit_start[unit], content.unit_start[unit + 1]
    fits = end - start <= left
    _add(unit, content, count, 1)
    for r in range(start, end):
        j = content.unit_items[r]
        fits &= not used[j]
        for g in range(content.group_start[j], content.group_start[j + 1]):
            fits &= count[content.groups[g]] <= content.most[content.groups[g]]
    _add(unit, content, count, -1)
    return fits


@_in_place_kernel
def complete(content, counted, left, at_least, used, old, n_old, leaving, new, count, taken):  # type: ignore[no-untyped-def]
    """Write to `new` units with which the test can be completed, and return their number; −1 if the search fails.

    Units that lower most deficits of minima come first, and units of the completion `old` before others. Then the test
    is filled up. `counted` (K,) are the items of each group so far, `left` is the number of places, and at least
    `at_least` of these must be filled. The unit `leaving` is not used. `count` (K,) and `taken` (U,) are overwritten.
    """
    n, places, lacking = 0, left, 0
    for g in range(count.size):
        count[g] = counted[g]
        lacking += max(content.least[g] - count[g], 0)
    taken[:] = False
    if leaving >= 0:
        taken[leaving] = True
    while lacking > 0:
        best, most = -1, 0
        for c in range(n_old + taken.size):
            u = old[c] if c < n_old else c - n_old
            if taken[u]:
                continue
            gain = 0
            for r in range(content.unit_start[u], content.unit_start[u + 1]):
                j = content.unit_items[r]
                for g in range(content.group_start[j], content.group_start[j + 1]):
                    gain += count[content.groups[g]] < content.least[content.groups[g]]
            if gain > most and _fits(u, content, count, used, places):
                best, most = u, gain
        if best < 0:
            return -1
        taken[best] = True
        places -= _add(best, content, count, 1)
        new[n] = best
        n += 1
        lacking = 0
        for g in range(count.size):
            lacking += max(content.least[g] - count[g], 0)
    for c in range(n_old + taken.size):
        if places == 0:
            break
        u = old[c] if c < n_old else c - n_old
        if not taken[u] and _fits(u, content, count, used, places):
            taken[u] = True
            places -= _add(u, content, count, 1)
            new[n] = u
            n += 1
    return n if left - places >= at_least else -1


@_inlined_in_place_kernel
def _copy(units, n, into):  # type: ignore[no-untyped-def]
    """Copy the first n units. An assignment of a slice would compile the text of an error for arrays of two sizes."""
    for k in range(n):
        into[k] = units[k]


@_inlined_in_place_kernel
def _place_in(unit, content, completion, n):  # type: ignore[no-untyped-def]
    """The place of a unit in a completion of n units, or else of a unit of its kind; −1 if there is no such unit."""
    found = -1
    for k in range(n):
        if completion[k] == unit:
            return k
        if found < 0 and content.kind[completion[k]] == content.kind[unit]:
            found = k
    return found


@_inlined_in_place_kernel
def _complete_after(unit, n, rules, content, state, n_completion):  # type: ignore[no-untyped-def]
    """Write to `state.other` a completion of the test of n items after a unit, and return its size, or −1 if the
    search finds no completion."""
    place = _place_in(unit, content, state.completion, n_completion)
    if place >= 0:
        _copy(state.completion, n_completion, state.other)
        state.other[place] = state.completion[n_completion - 1]
        return n_completion - 1
    n += _add(unit, content, state.counted, 1)
    found = complete(
        content, state.counted, rules.max_items - n, rules.min_items - n, state.used, state.completion,
        max(n_completion, 0), unit, state.other, state.spare, state.taken,
    )  # fmt: skip
    _add(unit, content, state.counted, -1)
    return found


@_inlined_in_place_kernel
def _worth(unit, content, state):  # type: ignore[no-untyped-def]
    """Priority index of a unit, per item: value × Π (maximum − count)/maximum over the groups (Cheng & Chang 2009)."""
    worth, start, end = 0.0, content.unit_start[unit], content.unit_start[unit + 1]
    for r in range(start, end):
        j = content.unit_items[r]
        priority = 1.0
        for g in range(content.group_start[j], content.group_start[j + 1]):
            k = content.groups[g]
            priority *= (content.most[k] - state.counted[k]) / content.most[k]
        worth += (state.value[j] * priority - PENALTY * state.avoided[j]) / (end - start)
    return worth


@_inlined_in_place_kernel
def _choose(n, seed, rules, content, state, n_completion, plain):  # type: ignore[no-untyped-def]
    """The unit that comes next after n items, or −1. Its item or items can be given within all limits."""
    U, n_best = content.kind.size, 0
    state.failed[:] = False
    while n_best < rules.randomesque:
        top, top_worth = -1, -np.inf
        for u in range(U):
            if state.failed[u]:
                continue
            if plain:
                if state.used[u]:
                    continue
                worth = state.value[u] - PENALTY * state.avoided[u]
            elif _fits(u, content, state.counted, state.used, rules.max_items - n):
                worth = _worth(u, content, state)
            else:
                continue
            if worth > top_worth:
                top, top_worth = u, worth
        if top < 0 or (n_best > 0 and top_worth < -PENALTY / 2):
            break
        state.failed[top] = True
        if plain or _complete_after(top, n, rules, content, state, n_completion) >= 0:
            state.best[n_best] = top
            n_best += 1
        else:
            for u in range(U):
                state.failed[u] |= content.kind[u] == content.kind[top]
    return state.best[int(_uniform(seed, _AMONG_BEST + n) * n_best)] if n_best > 0 else -1


@_inlined_in_place_kernel
def _draw_score(probabilities, theta, tables, u):  # type: ignore[no-untyped-def]
    """A score drawn with the probabilities (C, F) at θ, for a uniform number u."""
    k, w0, w1, w2, w3 = _place(theta, tables.low, tables.step, probabilities.shape[1])
    for c in range(probabilities.shape[0] - 1):
        row = probabilities[c]
        u -= w0 * row[k] + w1 * row[k + 1] + w2 * row[k + 2] + w3 * row[k + 3]
        if u < 0:
            return c
    return probabilities.shape[0] - 1


@_inlined_in_place_kernel
def _interval_of(theta, cuts):  # type: ignore[no-untyped-def]
    s = 0
    while s < cuts.size and theta >= cuts[s]:
        s += 1
    return s


@_inlined_in_place_kernel
def _set_avoided(theta, spread, cuts, off, avoided):  # type: ignore[no-untyped-def]
    """avoided (J,) = items that are not eligible in an interval that may contain the last estimate."""
    avoided[:] = False
    for s in range(_interval_of(theta - _REACH * spread, cuts), _interval_of(theta + _REACH * spread, cuts) + 1):
        for j in range(avoided.size):
            avoided[j] |= off[s, j]


@_inlined_in_place_kernel
def _reason_to_stop(n, theta, se, ratio, rules):  # type: ignore[no-untyped-def]
    """The reason for which the test ends after n items that meet all minima, or NOT_STOPPED."""
    if n >= rules.min_items:
        if se <= rules.max_se:
            return MAX_SE
        if rules.z > 0 and abs(theta - rules.cut) > rules.z * se:
            return CLASSIFIED
        if rules.z == 0 and (ratio >= rules.ratio_high or ratio <= rules.ratio_low):
            return CLASSIFIED
    return NOT_STOPPED


@_in_place_kernel
def run_tests(first, last, tables, content, rules, truth, eligible, people, given, into, counts, values, state):  # type: ignore[no-untyped-def]
    """Run the tests of persons first … last − 1.

    truth: probabilities of scores by which answers are drawn, (J, C, F); (0, 0, 0): nothing is drawn, and the test ends
        when the next item is chosen.
    eligible: (cuts, probability (S, J) of each item to be eligible in the intervals of θ between the cuts).
    people: (seed, theta, prior mean, prior sd, excluded (N, J)) of each person; prior SD 0: the population; excluded
        may be (1, J) for all.
    given: (items, scores) that are known, (N, L), −1 after the last one, and for scores that are drawn.
    into: (theta, se, length, items (N, L), scores (N, L), stop, passes).
    counts: (times eligible, times given), (S, J) each, to which is added.
    values: (N, J), into which the values of the items after the given ones are written, to be chosen by a shadow test;
        −∞ for items that are used. (0, J): items are chosen here.
    state: arrays that are overwritten, as `State.of_size` makes them.
    """
    nodes, weights, p, slopes, warm = tables.nodes, tables.weights, tables.p, tables.slopes, tables.warm
    unit_start, unit_items, least = content.unit_start, content.unit_items, content.least
    used, off, avoided, value, counted = state.used, state.off, state.avoided, state.value, state.counted
    likelihood, posterior, prior, sums, completion = (
        state.likelihood, state.posterior, state.prior, state.sums, state.completion,
    )  # fmt: skip
    J, Q = tables.criterion.shape[1], nodes.size
    K, U, F = least.size, content.kind.size, tables.criterion.shape[0]
    cuts, probability = eligible
    seeds, thetas, prior_mean, prior_sd, excluded = people
    plain, shadow = K == 0 and U == J, values.shape[0] > 0
    theta_out, se_out, length_out, items_out, scores_out, stop_out, passes_out = into
    for i in range(first, last):
        seed = seeds[i]
        for j in range(J):
            used[j] = excluded[i if excluded.shape[0] > 1 else 0, j]
        likelihood[:] = 1.0
        likelihood[0] = likelihood[-1] = 0.5  # trapezoidal rule
        sums[:] = 0.0
        counted[:] = 0
        for s in range(probability.shape[0]):
            for j in range(J):
                chance = probability[s, j]
                off[s, j] = chance < 1.0 and _uniform(seed, _ELIGIBLE + j) >= chance
        for q in range(Q):
            away = (nodes[q] - prior_mean[i]) / max(prior_sd[i], 1e-9)
            prior[q] = np.exp(-0.5 * away**2) if prior_sd[i] > 0 else weights[q]
        theta, se = _mean_sd(likelihood, weights, nodes, posterior)
        here, spread = _mean_sd(likelihood, prior, nodes, posterior)
        n_completion, valid = content.first.size, True
        _copy(content.first, n_completion, completion)
        for u in content.first:
            valid &= _fits(u, content, counted, used, rules.max_items)
        if not valid and not shadow:
            n_completion = complete(
                content, counted, rules.max_items, rules.min_items, used, content.first, content.first.size,
                -1, completion, state.spare, state.taken,
            )  # fmt: skip
        ratio, n, stop, unit, within = 0.0, 0, NOT_STOPPED, -1, 0
        while stop == NOT_STOPPED:
            is_given = n < given[0].shape[1] and given[0][i, n] >= 0
            chosen = given[0][i, n] if is_given else -1
            while unit >= 0 and chosen < 0 and within < unit_start[unit + 1]:  # a testlet is not complete
                if not used[unit_items[within]]:
                    chosen = unit_items[within]
                within += 1
            if chosen < 0 and n_completion >= 0:
                _set_values(here, spread, n, seed, tables, rules, state)
                _set_avoided(here, spread, cuts, off, avoided)
                own = -1 if shadow else _choose(n, seed, rules, content, state, n_completion, plain)
                if own >= 0:
                    chosen = unit_items[unit_start[own]]
                for j in range(values.shape[1] if shadow else 0):
                    values[i, j] = -np.inf if used[j] else value[j] - PENALTY * avoided[j]
            if shadow and not is_given:
                items_out[i, n] = chosen
                break
            if chosen < 0:
                stop = NO_ITEM
                break
            items_out[i, n] = chosen
            if not is_given and truth.shape[0] == 0:
                break
            is_scored = is_given and given[1][i, n] >= 0
            score = given[1][i, n] if is_scored else _draw_score(truth[chosen], thetas[i], tables, _uniform(seed, n))
            scores_out[i, n] = score
            own = content.unit_of[chosen]
            if own != unit and not plain:
                if not shadow:
                    n_completion = _complete_after(own, n, rules, content, state, n_completion)
                    _copy(state.other, n_completion, completion)
                _add(own, content, counted, 1)
            unit, within = own, unit_start[own]
            while unit_items[within] != chosen:
                within += 1
            within += 1
            used[chosen] = True
            n += 1
            peak = 0.0
            for q in range(Q):
                likelihood[q] *= p[chosen, score, q]
                peak = max(peak, likelihood[q])
            for q in range(Q):
                likelihood[q] /= peak
            theta, se = _mean_sd(likelihood, weights, nodes, posterior)
            here, spread = theta, se
            if prior_sd[i] > 0:
                here, spread = _mean_sd(likelihood, prior, nodes, posterior)
            if rules.wle:
                for f in range(F):
                    sums[0, f] += slopes[chosen, score, f]
                    sums[1, f] += warm[0, chosen, f]
                    sums[2, f] += warm[1, chosen, f]
                theta, se = _weighted_likelihood(sums, tables.low, tables.step)
                here = theta
            ratio += tables.log_ratio[chosen, score]
            complete_unit = within == unit_start[unit + 1]
            for g in range(K):
                complete_unit &= counted[g] >= least[g]
            if complete_unit:
                stop = _reason_to_stop(n, theta, se, ratio, rules)
            if n == rules.max_items and stop == NOT_STOPPED:
                stop = MAX_ITEMS
        theta_out[i], se_out[i], length_out[i], stop_out[i] = theta, se, n, stop
        passes_out[i] = theta >= rules.cut if rules.z > 0 else ratio > 0.5 * (rules.ratio_high + rules.ratio_low)
        s = _interval_of(theta, cuts)
        for j in range(J):
            counts[0][s, j] += not off[s, j]
        for r in range(n):
            j = items_out[i, r]
            counts[1][s, j] += 1
            counts[0][s, j] += off[s, j]

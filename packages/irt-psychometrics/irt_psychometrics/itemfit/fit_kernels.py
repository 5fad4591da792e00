"""Compiled loops of the fit statistics, each over consecutive persons. The calling modules explain the sums."""

from typing import NamedTuple

import numpy as np

from irt_psychometrics.core.kernels import NEGLIGIBLE, _in_place_kernel, _kernel
from irt_psychometrics.core.scored_kernels import score_curve

DEGENERATE = 1e-8
"""Smallest share of the log-likelihood's variance that remains at a given θ̂. It is 0 if all items have the same a and
b."""
RARE = 1e-9
"""Nodes with less posterior weight contribute nothing to a product of two residuals; skipping them halves the work."""


class Rows(NamedTuple):
    """Responses by person: person i gave item[r] and score[r] from r = start[i] to start[i + 1] − 1."""

    start: np.ndarray
    item: np.ndarray
    score: np.ndarray


class Tables(NamedTuple):
    """Tables at the nodes of θ.

    Attributes:
        logs: log P of each score, shape (C, J, Q).
        log_weights: log weights of the nodes in each group, shape (G, Q).
        group: the group of each person, shape (N,).
        credit: each score divided by the item's maximum score, shape (C, J).
    """

    logs: np.ndarray
    log_weights: np.ndarray
    group: np.ndarray
    credit: np.ndarray


@_in_place_kernel
def posterior(i, rows, tables, post):  # type: ignore[no-untyped-def]
    """Fill post (Q,) with P(node | responses of person i) at the nodes low to high − 1. Returns low and high.

    Nodes outside have a negligible probability; post is unnormalised there.
    """
    Q = post.size
    for q in range(Q):
        post[q] = tables.log_weights[tables.group[i], q]
    for r in range(rows.start[i], rows.start[i + 1]):
        table = tables.logs[rows.score[r], rows.item[r]]
        for q in range(Q):
            post[q] += table[q]
    top = -np.inf
    for q in range(Q):
        top = max(top, post[q])
    low, high = 0, Q
    while post[low] - top < NEGLIGIBLE:
        low += 1
    while post[high - 1] - top < NEGLIGIBLE:
        high -= 1
    counting, total = post[low:high], 0.0
    for q in range(counting.size):
        counting[q] = np.exp(counting[q] - top)
        total += counting[q]
    for q in range(counting.size):
        counting[q] /= total
    return low, high


@_in_place_kernel
def sum_over_pairs(start, item, values, sums):  # type: ignore[no-untyped-def]
    """Add to sums (J, J, 4), for each person's answers to items j and k, 1, x_j, x_j² and x_j·x_k of the values x."""
    for i in range(start.size - 1):
        for r in range(start[i], start[i + 1]):
            x, row = values[r], sums[item[r]]
            for other in range(start[i], start[i + 1]):
                into = row[item[other]]
                into[0] += 1.0
                into[1] += x
                into[2] += x * x
                into[3] += x * values[other]


@_kernel
def posterior_means(first, last, rows, tables, nodes, mean):  # type: ignore[no-untyped-def]
    """Fill mean (N,) with the EAPs."""
    post = np.empty(nodes.size)
    for i in range(first, last):
        low, high = posterior(i, rows, tables, post)
        mean[i] = 0.0
        for q in range(low, high):
            mean[i] += post[q] * nodes[q]


@_kernel
def residual_counts(first, last, rows, tables, p, seen, residual):  # type: ignore[no-untyped-def]
    """Add to seen (J, Q) the expected number of persons at each node, and to residual (J, Q) Σ (x − P)·posterior.

    x is the score divided by the item's maximum score, and P is its expectation, p (J, Q).
    """
    post = np.empty(p.shape[1])
    for i in range(first, last):
        low, high = posterior(i, rows, tables, post)
        for r in range(rows.start[i], rows.start[i + 1]):
            j = rows.item[r]
            x = tables.credit[rows.score[r], j]
            curve, share, persons, into = p[j, low:high], post[low:high], seen[j, low:high], residual[j, low:high]
            for q in range(share.size):
                persons[q] += share[q]
                into[q] += (x - curve[q]) * share[q]


@_kernel
def residual_products(first, last, rows, tables, p, count, products):  # type: ignore[no-untyped-def]
    """Add to products (J, Q, Q), for q ≤ k, Σ u_q·u_k with u_q = (x − P)·posterior, and to count (J,) the number of
    responses."""
    Q = p.shape[1]
    post, u = np.empty(Q), np.empty(Q)
    for i in range(first, last):
        low, high = posterior(i, rows, tables, post)
        while post[low] < RARE:
            low += 1
        while post[high - 1] < RARE:
            high -= 1
        for r in range(rows.start[i], rows.start[i + 1]):
            j = rows.item[r]
            x = tables.credit[rows.score[r], j]
            count[j] += 1
            for q in range(low, high):
                u[q] = (x - p[j, q]) * post[q]
            for q in range(low, high):
                others, into = u[q:high], products[j, q, q:high]
                for k in range(others.size):
                    into[k] += u[q] * others[k]


@_kernel
def direction_moments(first, last, rows, tables, direction, moments):  # type: ignore[no-untyped-def]
    """Add to moments (K, J, 3) the first three powers of Σ_q direction[k, x, j, q]·posterior; x is the score."""
    Q = tables.logs.shape[2]
    K = direction.shape[0]
    post = np.empty(Q)
    for i in range(first, last):
        low, high = posterior(i, rows, tables, post)
        for r in range(rows.start[i], rows.start[i + 1]):
            j, x = rows.item[r], rows.score[r]
            share = post[low:high]
            for k in range(K):
                along, t = direction[k, x, j, low:high], 0.0
                for q in range(share.size):
                    t += along[q] * share[q]
                power = t
                for m in range(3):
                    moments[k, j, m] += power
                    power *= t


@_kernel
def direction_transforms(first, last, rows, tables, p, direction, step, most, found):  # type: ignore[no-untyped-def]
    """Add to found (K, J, L, 2) the real and the imaginary part of E exp(i·l·step·t) − 1 of each answer, l = 1 … L.

    t is the Σ_q direction[k, x, j, q]·posterior of `direction_moments`, limited to ± `most`. The expectation is over
    the scores x of a person with these answers to the other items. So each score counts by its probability, even if it
    hardly ever occurs. step, most: shape (K, J). p: P of each score at the nodes, shape (C, J, Q).
    """
    C, _, Q = p.shape
    K, _, L, _ = found.shape
    log_post, post, joint = np.empty(Q), np.empty(Q), np.empty(Q)
    for i in range(first, last):
        for q in range(Q):
            log_post[q] = tables.log_weights[tables.group[i], q]
        for r in range(rows.start[i], rows.start[i + 1]):
            table = tables.logs[rows.score[r], rows.item[r]]
            for q in range(Q):
                log_post[q] += table[q]
        for r in range(rows.start[i], rows.start[i + 1]):
            j = rows.item[r]
            own, top, total = tables.logs[rows.score[r], j], -np.inf, 0.0
            for q in range(Q):
                post[q] = log_post[q] - own[q]
                top = max(top, post[q])
            for q in range(Q):
                away = post[q] - top
                post[q] = np.exp(away) if away > NEGLIGIBLE else 0.0
                total += post[q]
            for x in range(C):
                curve, share = p[x, j], 0.0
                for q in range(Q):
                    joint[q] = post[q] * curve[q]
                    share += joint[q]
                if share <= 0.0:
                    continue
                for k in range(K):
                    along, t = direction[k, x, j], 0.0
                    for q in range(Q):
                        t += along[q] * joint[q]
                    angle = step[k, j] * min(max(t / share, -most[k, j]), most[k, j])
                    cos, sin, real, imaginary = np.cos(angle), np.sin(angle), 1.0, 0.0
                    for at in range(L):
                        real, imaginary = real * cos - imaginary * sin, real * sin + imaginary * cos
                        found[k, j, at, 0] += (real - 1.0) * share / total
                        found[k, j, at, 1] += imaginary * share / total


@_kernel
def score_products(first, last, rows, tables, p, place, of_score, sums, products, crossed):  # type: ignore[no-untyped-def]
    """Add sums over persons for S of the J items. place (J,): an item's index among the S, or −1 for the other items.

    Add to sums (S, D) v_d = Σ_q of_score[d, x, s, q]·posterior, where x is the score; to products (S, D, D) v·vᵀ; and
    to crossed (S, D, Q) v_d·u_q, with u as in `residual_products`.
    """
    D, Q = of_score.shape[0], p.shape[1]
    post, v = np.empty(Q), np.empty(D)
    for i in range(first, last):
        low, high = posterior(i, rows, tables, post)
        for r in range(rows.start[i], rows.start[i + 1]):
            j, score = rows.item[r], rows.score[r]
            s, x = place[j], tables.credit[score, j]
            if s < 0:
                continue
            curve, share = p[j, low:high], post[low:high]
            for d in range(D):
                along, v[d] = of_score[d, score, s, low:high], 0.0
                for q in range(share.size):
                    v[d] += along[q] * share[q]
                sums[s, d] += v[d]
            for d in range(D):
                for k in range(D):
                    products[s, d, k] += v[d] * v[k]
                into = crossed[s, d, low:high]
                for q in range(share.size):
                    into[q] += v[d] * (x - curve[q]) * share[q]


@_kernel
def item_rest_sums(first, last, people, flipped, p, sums):  # type: ignore[no-untyped-def]
    """Add to sums (J, 5) the weighted 1, x, rest, x·rest and rest² of each answer x of persons with several answers.

    The rest is the mean of x − p over the person's other answers; the weight is the person's. `flipped` (J,): items
    whose wrong answers are listed instead of the right ones. p (J,): shares of correct answers.
    """
    listed = np.zeros(flipped.size, dtype=np.bool_)
    for i in range(first, last):
        s, weight = people.set_of[i], people.weight[i]
        begin, end = people.set_start[s], people.set_start[s + 1]
        if end - begin < 2:
            continue
        for r in range(people.right_start[i], people.right_start[i + 1]):
            listed[people.right_items[r]] = True
        total = 0.0
        for r in range(begin, end):
            j = people.set_items[r]
            total += (1.0 if listed[j] != flipped[j] else 0.0) - p[j]
        for r in range(begin, end):
            j = people.set_items[r]
            x = 1.0 if listed[j] != flipped[j] else 0.0
            rest = (total - (x - p[j])) / (end - begin - 1)
            sums[j, 0] += weight
            sums[j, 1] += weight * x
            sums[j, 2] += weight * rest
            sums[j, 3] += weight * x * rest
            sums[j, 4] += weight * rest**2
        for r in range(people.right_start[i], people.right_start[i + 1]):
            listed[people.right_items[r]] = False


@_kernel
def likelihood_moments(first, last, rows, items, theta, moments):  # type: ignore[no-untyped-def]
    """Fill moments (N, 3) with lz*'s numerator, its variance and its third central moment at theta (N,), a WLE.

    `items`: a, d, c (J,), the number of categories (J,), and `ItemCurves.score_rows`. Persons are skipped if their
    theta is not finite, or if all patterns with the same θ̂ are equally likely.
    """
    a, d, c, categories, own_rows, points, family = items
    C = own_rows.shape[1]
    p, w, slope, bend = np.empty(C), np.empty(C), np.empty(C), np.empty(C)
    for i in range(first, last):
        if not np.isfinite(theta[i]):
            continue
        information, bias, slope_w, centred, raw, variance, third = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for r in range(rows.start[i], rows.start[i + 1]):
            j = rows.item[r]
            if categories[j] > 2:
                n = categories[j]
                eta = a[j] * theta[i] + d[j]
                of_w = _scores(eta, own_rows[j, :n], points[j, :n], family[j], p, w, slope, bend)
                centred += w[rows.score[r]] - of_w
                for score in range(categories[j]):
                    along, off = slope[score], w[score] - of_w
                    information += a[j] ** 2 * p[score] * along**2
                    bias += a[j] ** 3 * p[score] * along * (along**2 + bend[score])
                    slope_w += a[j] * p[score] * along * off
                    raw += p[score] * off**2
                continue
            L, M, P, ratio, w_j = _curve(a[j], d[j], c[j], theta[i])
            own = a[j] ** 2 * (1.0 - c[j]) * ratio * L * M
            information += own
            bias += own * a[j] * (M - L)
            slope_w += a[j] * (1.0 - c[j]) * L * M * w_j
            centred += (rows.score[r] - P) * w_j
            raw += w_j**2 * P * (1.0 - c[j]) * M
        if information <= 0.0:
            continue
        k = slope_w / information
        for r in range(rows.start[i], rows.start[i + 1]):
            j = rows.item[r]
            if categories[j] > 2:
                n = categories[j]
                eta = a[j] * theta[i] + d[j]
                of_w = _scores(eta, own_rows[j, :n], points[j, :n], family[j], p, w, slope, bend)
                for score in range(categories[j]):
                    off = w[score] - of_w - k * a[j] * slope[score]
                    variance += p[score] * off**2
                    third += p[score] * off**3
                continue
            L, M, P, ratio, w_j = _curve(a[j], d[j], c[j], theta[i])
            Q = (1.0 - c[j]) * M
            weight = w_j - k * a[j] * ratio
            variance += weight**2 * P * Q
            third += weight**3 * P * Q * (Q - P)
        if variance < DEGENERATE * raw:
            continue
        moments[i, 0] = centred + k * bias / (2.0 * information)
        moments[i, 1] = variance
        moments[i, 2] = third


@_in_place_kernel
def _scores(eta, own, points, family, p, w, slope, bend):  # type: ignore[no-untyped-def]
    """Fill the results of `score_curve`, and return the expected log P."""
    score_curve(eta, own, points, family, p, w, slope, bend)
    of_w = 0.0
    for k in range(own.size):
        of_w += w[k] * p[k]
    return of_w


@_in_place_kernel
def _curve(a, d, c, theta):  # type: ignore[no-untyped-def]
    """L, 1 − L, P, L/P and log(P/(1 − P)) without overflow. P'/(P(1 − P)) is a times L/P."""
    eta = a * theta + d
    e = np.exp(-abs(eta))
    high, low = 1.0 / (1.0 + e), e / (1.0 + e)
    L, M = (high, low) if eta >= 0 else (low, high)
    P = c + (1.0 - c) * L
    if c == 0.0:
        return L, M, P, 1.0, eta
    log_wrong = np.log1p(-c) + min(-eta, 0.0) - np.log1p(e)
    return L, M, P, L / P, np.log(P) - log_wrong


@_kernel
def slopes_of_answers(first, last, rows, tables, nodes, by_theta, information, slope, known, mean):  # type: ignore[no-untyped-def]
    """Fill slope (R,) and known (R,) with posterior means of each response, and mean (N,) with the EAPs.

    slope: posterior mean of ∂ log P(score)/∂θ, which is by_theta (C, J, Q). known: posterior mean of the item's
    information (J, Q).
    """
    post = np.empty(nodes.size)
    for i in range(first, last):
        low, high = posterior(i, rows, tables, post)
        share = post[low:high]
        mean[i] = 0.0
        for q in range(low, high):
            mean[i] += post[q] * nodes[q]
        for r in range(rows.start[i], rows.start[i + 1]):
            along, about = by_theta[rows.score[r], rows.item[r], low:high], information[rows.item[r], low:high]
            by_score, by_item = 0.0, 0.0
            for q in range(share.size):
                by_score += share[q] * along[q]
                by_item += share[q] * about[q]
            slope[r], known[r] = by_score, by_item


@_kernel
def common_answers(pairs, rows, most, counts):  # type: ignore[no-untyped-def]
    """Fill counts (K, 2) with the number of items that both persons of a pair answered, and of their equal answers.

    pairs: shape (K, 2), pairs with the same first person adjacent. most: shape (K,). A pair is abandoned at its
    `most` + 1st different answer; its counts are then incomplete.
    """
    n_items = 0
    for r in range(rows.item.size):
        n_items = max(n_items, rows.item[r] + 1)
    owner, given, one = np.full(n_items, -1), np.empty(n_items, dtype=np.int64), -1
    for k in range(len(pairs)):
        if pairs[k, 0] != one:
            one = pairs[k, 0]
            for r in range(rows.start[one], rows.start[one + 1]):
                owner[rows.item[r]] = one
                given[rows.item[r]] = rows.score[r]
        common, equal = 0, 0
        for r in range(rows.start[pairs[k, 1]], rows.start[pairs[k, 1] + 1]):
            if owner[rows.item[r]] == one:
                common += 1
                equal += given[rows.item[r]] == rows.score[r]
                if common - equal > most[k]:
                    break
        counts[k, 0], counts[k, 1] = common, equal

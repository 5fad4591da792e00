"""Compiled loop of the filter of a moving ability (see `moving_filter`): day by day, on a window of nodes.

Nodes of level l are 2⁻ˡ steps apart; a step is the distance between nodes in the tables of curves. Place j of N is
j − N//2 nodes from the population's mean, plus a fraction of a node that growth has added to whole nodes. Windows are
ranges of places between walls.
"""

import numpy as np

from irt_psychometrics.core.kernels import _inlined_in_place_kernel, _inlined_kernel, _kernel, _take, exp_of_part

DONE, TRUNCATED = 0, 1
"""Result for a learner: the answers were filtered, or a window was too small."""
INTERPOLATION_NODES = 5
"""Number of nodes on either side from which a curve between two nodes is interpolated."""
TRIMMED = 1e-15
"""Largest total mass of nodes that are removed at an end of the window."""
AT_AN_END = 1e-9
"""Largest accepted mass of the last three nodes at an end of the window."""
MIN_LOG = -600.0
"""Lower bound of the logarithms of likelihoods, relative to the largest one."""
MIN_NODES = 8
"""Minimum number of nodes in a window."""
PARTS = 16
"""Number of steps of a walk after which its window is trimmed."""
NARROWEST, WIDEST = 1.5, 6.7
"""Posterior SD, in distances between nodes, below which this distance is halved, and SD of the weights before a day
above which it is doubled. After doubling, the SD is still 3.35 such distances."""


@_inlined_in_place_kernel
def _relative(logs, top, out):  # type: ignore[no-untyped-def]
    """out = exp(logs − top), at most 1: (e^(x/1024))^1024 as in `kernels._normalise`, to an error of 1e-12."""
    for q in range(logs.size):
        e = exp_of_part(max(logs[q] - top, MIN_LOG) * (1 / 1024))
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        out[q] = e


@_inlined_in_place_kernel
def _trim(weights, low, high):  # type: ignore[no-untyped-def]
    """The window without the nodes at its ends whose mass is negligible."""
    mass = weights[low]
    while mass < TRIMMED and high - low > MIN_NODES:
        low += 1
        mass += weights[low]
    mass = weights[high - 1]
    while mass < TRIMMED and high - low > MIN_NODES:
        high -= 1
        mass += weights[high - 1]
    return low, high


@_inlined_in_place_kernel
def _spread(weights, spare, low, high, p, first, last):  # type: ignore[no-untyped-def]
    """spare = the weights after p/2 of each has moved to either neighbour, on a window wider by one node at each end;
    walls reflect mass."""
    weights[low - 1] = weights[low] if low == first else 0.0
    weights[high] = weights[high - 1] if high == last else 0.0
    if low > first:
        low -= 1
        weights[low - 1] = 0.0
    if high < last:
        high += 1
        weights[high] = 0.0
    below, here, above, out = (
        weights[low - 1 : high - 1],
        weights[low:high],
        weights[low + 1 : high + 1],
        spare[low:high],
    )
    rest, half = 1.0 - p, p / 2
    for q in range(out.size):
        out[q] = rest * here[q] + half * (below[q] + above[q])
    return low, high


@_inlined_in_place_kernel
def _between(fraction, shares):  # type: ignore[no-untyped-def]
    """Fill `shares` (2m,) with the weights of nodes 1 − m … m for interpolation at `fraction` above node 0.

    The interpolation is Lagrange's polynomial through the nodes; m is `INTERPOLATION_NODES`.
    """
    for m in range(2 * INTERPOLATION_NODES):
        share = 1.0
        for k in range(2 * INTERPOLATION_NODES):
            if k != m:
                share *= (fraction + INTERPOLATION_NODES - 1 - k) / (m - k)
        shares[m] = share


@_inlined_in_place_kernel
def _at_nodes(sums, table_centre, level, fraction, first, last, centre, shares, logs):  # type: ignore[no-untyped-def]
    """logs[first … last − 1] = the curve `sums`, given at whole steps, at the nodes of a level."""
    if level == 0 and fraction == 0.0:
        some, out = sums[first - centre + table_centre : last - centre + table_centre], logs[first:last]
        for q in range(out.size):
            out[q] = some[q]
        return
    per_step = 1 << level
    for begin in range(first, min(first + per_step, last)):
        place = (begin - centre + fraction) / per_step
        below = int(np.floor(place))
        _between(place - below, shares)
        n = (last - begin + per_step - 1) // per_step
        known = sums[below + table_centre - INTERPOLATION_NODES + 1 : below + table_centre + INTERPOLATION_NODES + n]
        every = logs[begin:last]
        for q in range(n):
            total = 0.0
            for m in range(2 * INTERPOLATION_NODES):
                total += shares[m] * known[q + m]
            every[q * per_step] = total


@_inlined_in_place_kernel
def _halve(weights, low, high, fraction, centre, reach, logs, shares, out):  # type: ignore[no-untyped-def]
    """out = the weights at nodes half as far apart, with their logarithm interpolated between the old nodes.

    Beyond the ends of the window the logarithm is extended linearly. Returns the window, at most `reach` places from
    the centre, and the fraction.
    """
    n = high - low
    for q in range(n):
        logs[q + INTERPOLATION_NODES] = np.log(max(weights[low + q], 1e-300))
    for q in range(INTERPOLATION_NODES):
        logs[INTERPOLATION_NODES - 1 - q] = 2 * logs[INTERPOLATION_NODES - q] - logs[INTERPOLATION_NODES + 1 - q]
        logs[n + INTERPOLATION_NODES + q] = (
            2 * logs[n + INTERPOLATION_NODES - 1 + q] - logs[n + INTERPOLATION_NODES - 2 + q]
        )
    _between(0.5, shares)
    carry = int(2 * fraction)
    begin = 2 * (low - centre) + centre + carry
    total = 0.0
    for q in range(n):
        out[begin + 2 * q] = weights[low + q]
        value = 0.0
        for m in range(2 * INTERPOLATION_NODES):
            value += shares[m] * logs[q + 1 + m]
        out[begin + 2 * q + 1] = np.exp(value)
        total += out[begin + 2 * q] + out[begin + 2 * q + 1]
    low, high = max(begin, centre - reach), min(begin + 2 * n, centre + reach + 1)
    for q in range(low, high):
        out[q] /= total
    return low, high, 2 * fraction - carry


@_inlined_in_place_kernel
def _double(weights, low, high, fraction, centre, out):  # type: ignore[no-untyped-def]
    """out = the weights at every second node. Returns the window and the fraction."""
    odd = (low - centre) % 2
    begin = (low + odd - centre) // 2 + centre
    n = (high - low - odd + 1) // 2
    total = 0.0
    for q in range(n):
        out[begin + q] = weights[low + odd + 2 * q]
        total += out[begin + q]
    for q in range(begin, begin + n):
        out[q] /= total
    return begin, begin + n, fraction / 2


@_inlined_in_place_kernel
def _posterior(weights, logs, raw, like, taps, low, high):  # type: ignore[no-untyped-def]
    """like = the posterior on the window, from the weights before a day and the day's smoothed log-likelihood.

    Returns the log probability of the day's answers, and mean and variance in nodes from the window's first.
    """
    r = taps.size // 2
    own, out = logs[low - r : high + r], raw[low - r : high + r]
    top = own[0]
    for q in range(own.size):
        top = max(top, own[q])
    _relative(own, top, out)
    inside, before = like[low:high], weights[low:high]
    if r == 0:
        for q in range(inside.size):
            inside[q] = out[q]
    else:
        for q in range(inside.size):
            inside[q] = 0.0
        for m in range(taps.size):
            some = out[m : m + inside.size]
            for q in range(inside.size):
                inside[q] += taps[m] * some[q]
    total, mean = 0.0, 0.0
    for q in range(inside.size):
        inside[q] *= before[q]
        total += inside[q]
        mean += inside[q] * q
    mean /= total
    variance, each = 0.0, 1.0 / total
    for q in range(inside.size):
        inside[q] *= each
        variance += inside[q] * (q - mean) ** 2
    return np.log(total) + top, mean, variance


@_inlined_in_place_kernel
def _shift(weights, spare, low, high, fraction, by_nodes, floor, ceiling):  # type: ignore[no-untyped-def]
    """Move the window up by `by_nodes`, between the walls. Returns the window and the fraction."""
    fraction += by_nodes
    by = int(np.floor(fraction))
    fraction -= by
    if by != 0:
        for k in range(low, high):
            spare[k] = weights[k]
        to_low = min(max(low + by, floor), ceiling - MIN_NODES)
        to_high = max(min(high + by, ceiling), floor + MIN_NODES)
        for q in range(to_low, to_high):
            weights[q] = spare[min(max(q - by, low), high - 1)]
        low, high = to_low, to_high
    return low, high, fraction


@_inlined_kernel
def _walk(weights, spare, low, high, p, floor, ceiling, whole):  # type: ignore[no-untyped-def]
    """Apply a random walk of variance p (in nodes²) to the weights.

    Returns the weights, the array that is now spare, and the window.
    """
    parts = int(np.ceil(2 * p))
    for part in range(parts):
        low, high = _spread(weights, spare, low, high, p / parts, floor, ceiling)
        weights, spare = spare, weights
        if not whole and part % PARTS == PARTS - 1:
            low, high = _trim(weights, low, high)
    return weights, spare, low, high


@_inlined_in_place_kernel
def _at_an_end(like, low, high, centre, furthest):  # type: ignore[no-untyped-def]
    """Whether too much of a posterior lies at an end of its window that can be extended."""
    below = like[low] + like[low + 1] + like[low + 2]
    above = like[high - 1] + like[high - 2] + like[high - 3]
    below_all, above_all = low <= centre - furthest, high > centre + furthest
    return (below > AT_AN_END and not below_all) or (above > AT_AN_END and not above_all)


@_inlined_in_place_kernel
def _last_shares(alike, kept, share, days, first, last):  # type: ignore[no-untyped-def]
    """share[first … last − 1] = the part of each response's information that counts after the last of the days.

    `alike` is the part that counts on its own day. Returns the part of the information before the first day that
    counts.
    """
    remaining = 1.0
    for t in range(days - 1, -1, -1):
        alike[t] *= remaining
        remaining *= kept[t]
    for n in range(first, last):
        share[n] = alike[int(share[n])]
    return remaining


@_inlined_kernel
def _move(weights, spare, window, variance, gap, movement, centre, reach, whole):  # type: ignore[no-untyped-def]
    """The weights `gap` days after a posterior of this variance (in nodes²).

    θ grows and walks, and the distance between nodes is doubled as long as they are too close. Returns the weights, the
    array that is now spare, the window, the variance, and the part of the earlier information that counts.
    """
    level, low, high, fraction = window
    pace, most_days, walk, _ = movement
    floor, ceiling = centre - (reach << level), centre + (reach << level) + 1
    by_nodes = pace * (1 << level) * min(gap, most_days)
    low, high, fraction = _shift(weights, spare, low, high, fraction, by_nodes, floor, ceiling)
    p = walk * (1 << (2 * level)) * gap
    weights, spare, low, high = _walk(weights, spare, low, high, p, floor, ceiling, whole)
    kept = variance / (variance + p)
    variance += p
    while level > 0 and variance > WIDEST**2:
        low, high, fraction = _double(weights, low, high, fraction, centre, spare)
        weights, spare = spare, weights
        level -= 1
        variance /= 4
    return weights, spare, (level, low, high, fraction), variance, kept


@_inlined_in_place_kernel
def _longest(start, persons, first, last):  # type: ignore[no-untyped-def]
    """The largest number of answers of one of persons[first … last − 1], at least 1."""
    longest = 1
    for k in range(first, last):
        longest = max(longest, start[persons[k] + 1] - start[persons[k]])
    return longest


@_inlined_in_place_kernel
def _counted_share(logs, low, high, mean, alone):  # type: ignore[no-untyped-def]
    """The part of a day's information that counts, from the curvature of the day's log-likelihood.

    `alone` is the variance of an occasion.
    """
    around = min(max(low + round(mean), low + 1), high - 2)
    bend = max(2 * logs[around] - logs[around - 1] - logs[around + 1], 0.0)
    return 1.0 / (1.0 + alone * bend)


@_kernel
def filter_days(first, last, persons, answers, table, lattice, whole, prior, into):  # type: ignore[no-untyped-def]
    """Filter persons[first … last − 1]. If `whole`, windows always include all nodes.

    answers: (start, day, row). Person i has the answers start[i] … start[i + 1] − 1, in the order of days. row is each
    answer's row in the table (at least T columns), its log P at whole steps around the population's mean.

    lattice: (scale, movement, taps, taps_start, reach, margin).
    - scale: the population's mean, and a step in θ.
    - movement: the growth of θ in steps per day, and the largest number of days for which it grows; the variance of the
      walk per day, and the variance of an occasion, in steps².
    - taps, taps_start: the kernel of an occasion at each level, 2r + 1 numbers.
    - reach: the distance of the windows' furthest ends from the mean in steps.
    - margin: the number of further steps for which an occasion's curve is known.

    prior: the weights (N,) of a person before any answer, on nodes of level 0, and the first and last + 1 place of
    their window.

    into: (theta, se, loglik, share, fade, found).
    - loglik (n,): Σ of the log probability of each day's answers given the earlier answers.
    - share (R,): the part of a response's information that counts after the last day.
    - fade (n,): the part of the information before the first answer that counts.
    - found (n,): DONE or TRUNCATED.
    """
    start, day, row = answers
    (bottom, step), movement, taps, taps_start, reach, margin = lattice
    prior, prior_low, prior_high = prior
    theta, se, loglik, share, fade, found = into
    whole = whole != 0
    N, T = prior.size, 2 * (reach + margin) + 5
    centre, table_centre, finest = N // 2, T // 2, taps_start.size - 2
    further = table.shape[1] // 2 - table_centre
    shares, sums = np.empty(2 * INTERPOLATION_NODES), np.zeros(T)
    weights, spare, logs, raw = np.zeros(N), np.zeros(N), np.zeros(N), np.zeros(N)
    like, finer, third = np.zeros(N), np.zeros(N), np.zeros(N)
    longest = _longest(start, persons, first, last)
    kept, alike = np.empty(longest), np.empty(longest)
    for k in range(first, last):
        i = persons[k]
        level, low, high, fraction, today, days, variance = 0, prior_low, prior_high, 0.0, -1, -1, 0.0
        for k in range(low, high):
            weights[k] = prior[k]
        sums[:] = 0.0
        found[i], loglik[i] = DONE, 0.0
        at = to = start[i]
        while found[i] == DONE:
            # the first round has no answers: it determines the level of the nodes for the population
            if days >= 0:
                weights, like = like, weights
                gap, began, today = float(day[at] - today), today >= 0, day[at]
                kept[days] = 1.0
                if not whole:
                    low, high = _trim(weights, low, high)
                if began:
                    weights, spare, (level, low, high, fraction), variance, kept[days] = _move(
                        weights, spare, (level, low, high, fraction), variance, gap, movement, centre, reach, whole
                    )
                from_step = max(((low - centre) >> level) - margin + table_centre, 0)
                to_step = min(((high - centre) >> level) + 2 + margin + table_centre, T)
                sums[from_step:to_step] = 0.0
                while to < start[i + 1] and day[to] == today:
                    share[to] = days
                    to += 1
                _take(table[:, from_step + further : to_step + further], row, at, to, sums[from_step:to_step])
            before, other, fine = weights, finer, False
            while True:
                own_taps = taps[taps_start[level] : taps_start[level + 1]]
                r = own_taps.size // 2
                _at_nodes(sums, table_centre, level, fraction, low - r, high + r, centre, shares, logs)
                log_p, mean, variance = _posterior(before, logs, raw, like, own_taps, low, high)
                if variance >= NARROWEST**2 or level == finest:
                    break
                level += 1
                low, high, fraction = _halve(before, low, high, fraction, centre, reach << level, raw, shares, other)
                before, other, fine = other, before if fine else third, True
            theta[i] = bottom + step * (low - centre + fraction + mean) / (1 << level)
            se[i] = step * np.sqrt(variance) / (1 << level)
            if days >= 0:
                loglik[i] += log_p
                alike[days] = _counted_share(logs, low, high, mean, movement[3] * (1 << (2 * level)))
                if not whole and _at_an_end(like, low, high, centre, reach << level):
                    found[i] = TRUNCATED
            days, at = days + 1, to
            if at == start[i + 1]:
                break
        fade[i] = _last_shares(alike, kept, share, days, start[i], at)

"""Compiled loop that draws abilities from posteriors. How nodes are chosen is in `posterior_draws`."""

import numpy as np

from irt_psychometrics.core.kernels import _inlined_in_place_kernel, _kernel

TRIMMED = 30.0
"""Ends of the posterior where its log density is this far below the maximum are left out, 1e-13 of its mass."""
STEPS = 8
"""Number of steps per posterior SD between which the log density counts as linear. Quantiles are then within 3e-3 SDs
of the right ones, and mostly within 1e-4."""
USUAL = 4.0
"""Distance from the prior's mean, in its SDs, at which the computation of a posterior begins and proceeds outwards."""
ALIKE = 1e-5
"""Difference of two log densities below which the density between them counts as constant or linear."""


@_inlined_in_place_kernel
def _add_answers(first, last, row, table, low, high, post):  # type: ignore[no-untyped-def]
    """Add log P of the answers first … last − 1 at the nodes low … high − 1 to `post`, and return the maximum there."""
    own = post[low:high]
    for r in range(first, last):
        logs = table[row[r], low:high]
        for q in range(own.size):
            own[q] += logs[q]
    top = -np.inf
    for q in range(own.size):
        top = max(top, own[q])
    return top


@_inlined_in_place_kernel
def _between(post, q, t):  # type: ignore[no-untyped-def]
    """Value at q + t, 0 ≤ t ≤ 1, of the cubic through the two nodes on either side."""
    before, here, after, beyond = post[q - 1], post[q], post[q + 1], post[q + 2]
    by3 = beyond - 3 * after + 3 * here - before
    by = (after - before) / 2 - by3 / 6
    return here + t * (by + t * ((before - 2 * here + after) / 2 + t * by3 / 6))


@_inlined_in_place_kernel
def _quantile(share, logs, below):  # type: ignore[no-untyped-def]
    """Place, in steps, below which a density has this share of its mass; its logarithm is linear between `logs`.

    `below` is overwritten by the mass below each step.
    """
    n = logs.size - 1
    below[0], here = 0.0, np.exp(logs[0])
    for k in range(n):
        by, after = logs[k + 1] - logs[k], np.exp(logs[k + 1])
        below[k + 1] = below[k] + ((after + here) / 2 if abs(by) < ALIKE else (after - here) / by)
        here = after
    target = share * below[n]
    k = min(np.searchsorted(below[: n + 1], target, side="right"), n) - 1
    by, part = logs[k + 1] - logs[k], (target - below[k]) / (below[k + 1] - below[k])
    return k + (part if abs(by) < ALIKE else np.log1p(part * np.expm1(by)) / by)


@_kernel
def draw_abilities(first, last, answers, table, nodes, priors, uniforms, theta):  # type: ignore[no-untyped-def]
    """Write a draw from the posterior of persons first … last − 1 into `theta` (N,).

    The posterior's log density is a cubic between the nodes, and linear between the steps into which an interval of
    nodes is divided. The draw is the inverse of the cumulative distribution function at the person's uniform number.

    answers: (start, row). Person i gave the answers start[i] … start[i + 1] − 1; row is each answer's row in `table`.
    table: log P of answers on the equally spaced nodes.
    priors: (mean, SD) of each person's normal prior, shape (N,) each.
    uniforms (N,): in [0, 1).
    """
    start, row = answers
    mean, sd = priors
    width = nodes[1] - nodes[0]
    post = np.empty(nodes.size)
    logs, below = np.empty(64), np.empty(64)
    for i in range(first, last):
        for q in range(nodes.size):
            post[q] = -0.5 * ((nodes[q] - mean[i]) / sd[i]) ** 2
        more = 1 + int(USUAL * sd[i] / width)
        nearest = round((mean[i] - nodes[0]) / width)
        low, high = max(nearest - more, 0), min(nearest + more + 1, nodes.size)
        top = _add_answers(start[i], start[i + 1], row, table, low, high, post)
        while low > 0 and post[low] > top - TRIMMED:
            end, low = low, max(low - more, 0)
            top = max(top, _add_answers(start[i], start[i + 1], row, table, low, end, post))
        while high < nodes.size and post[high - 1] > top - TRIMMED:
            end, high = high, min(high + more, nodes.size)
            top = max(top, _add_answers(start[i], start[i + 1], row, table, end, high, post))
        low, high = low + 1, high - 2  # a cubic needs a node on either side
        while post[low] < top - TRIMMED and low < high - 1:
            low += 1
        while post[high] < top - TRIMMED and high > low + 1:
            high -= 1
        mass = 0.0  # √(2π) SDs in steps between nodes, if the posterior is normal
        for q in range(low, high + 1):
            mass += np.exp(post[q] - top)
        steps = 1 + int(STEPS * np.sqrt(2 * np.pi) / mass)
        n = (high - low) * steps
        if n >= logs.size:
            logs, below = np.empty(2 * n), np.empty(2 * n)
        for q in range(low, high):
            for k in range(steps):
                logs[(q - low) * steps + k] = _between(post, q, k / steps) - top
        logs[n] = post[high] - top
        theta[i] = nodes[low] + width * _quantile(uniforms[i], logs[: n + 1], below) / steps

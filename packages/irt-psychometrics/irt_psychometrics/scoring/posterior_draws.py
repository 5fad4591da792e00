"""Draws of θ from persons' posteriors, given item parameters and each person's normal prior.

Draws of the parameters themselves, and statistics of draws, are in `regression`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import shake_128

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.design import over_learners, row_starts
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.scoring.abilities import Curves
from irt_psychometrics.scoring.draw_kernels import draw_abilities

_WIDEST = 0.2
"""Largest distance between nodes in SDs of the prior."""
_FARTHEST = 30.0
"""Distance from the prior's mean, in its SDs, up to which nodes go. Hundreds of answers can move a person that far."""
_PER_SD = 2
"""Least number of nodes per posterior SD. A cubic between them has an error below 1e-3 in the log density."""


def uniforms_of(person_ids: Sequence[str | int], n: int, random_state: int) -> Floats:
    """Make n numbers in [0, 1) for each person, shape (N, n), which depend on the seed and the person's label alone.

    They are digests of both (SHAKE-128), so that a person keeps them if persons leave, arrive or change their order,
    and the first ones if n grows.
    """
    seeded = shake_128(f"{random_state}\0".encode())
    digests = []
    for person in person_ids:
        own = seeded.copy()
        own.update(str(person).encode())
        digests.append(own.digest(8 * n))
    bits = np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, n) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def draw_from_posteriors(
    responses: Responses, items: ItemCurves, mean: Floats, sd: Floats, uniforms: Floats, *, threads: int | None = None
) -> Floats:
    """Draw θ of each person from the posterior with the prior N(mean, sd²) of the person.

    Parameters
    ----------
    responses
        Responses of N persons.
    items
        The curves of the items, in the order of `responses.item_ids`. Answers to items without a curve do not count.
    mean, sd
        Shape (N,), mean and SD of each person's prior, sd > 0.
    uniforms
        Shape (N,), values of the posterior's cumulative distribution function, in [0, 1).
    threads
        Number of threads; None: all processors. The result does not depend on it.

    Returns
    -------
    array of shape (N,)
        θ at which the cumulative distribution has these values; a person without an answer gets a draw from the prior.
    """
    curves = Curves.from_items(items)
    reach = np.linspace((mean - _FARTHEST * sd).min(), (mean + _FARTHEST * sd).max(), 601)
    most = np.nan_to_num(items.information(reach)).max(axis=0)[responses.item]
    information = np.bincount(responses.person, most, minlength=responses.n_persons) + sd**-2.0
    width = min(_WIDEST * sd.min(), information.max() ** -0.5 / _PER_SD)
    intervals = np.ceil((reach[-1] - reach[0]) / width - 1e-6)  # rounding must not add one
    nodes = np.linspace(reach[0], reach[-1], 1 + int(intervals))
    rows, start, theta = curves.rows(responses), row_starts(responses), np.empty(responses.n_persons)
    table = curves.table(rows, nodes)

    def draw(first: int, last: int) -> None:
        draw_abilities(first, last, (start, rows), table, nodes, (mean, sd), uniforms, theta)

    over_learners(draw, responses, start, threads)
    return theta

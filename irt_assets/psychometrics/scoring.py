"""Abilities from responses and known item parameters. Estimating the parameters is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_expit

from irt_assets.psychometrics import kernels
from irt_assets.psychometrics.design import row_starts
from irt_assets.psychometrics.models import Floats, Responses
from irt_assets.psychometrics.quadrature import Grid

_RESPONSES_PER_CHUNK = 50_000


@dataclass(frozen=True)
class Scores:
    """Ability and its standard error, both shape (n_persons,), on the scale of the item parameters."""

    theta: Floats
    se: Floats


def eap(
    responses: Responses,
    a: Floats,
    d: Floats,
    c: Floats,
    *,
    mean: float = 0.0,
    sd: float = 1.0,
    nodes: int = 61,
    threads: int | None = None,
) -> Scores:
    """Mean and SD of each learner's posterior under the prior N(mean, sd²) (Bock & Mislevy 1982).

    Args:
        responses: sparse responses of n_persons learners.
        a, d, c: shape (n_items,), in the order of `responses.item_ids`. An item with a NaN in any of them has no
            curve: answers to it are ignored.
        mean, sd: the prior; sd > 0.
        nodes: equally spaced on mean ± 6 sd.
        threads: None for all processors; the result does not depend on it.

    A learner without a usable response gets the prior back: theta = mean, se = sd. All-right and all-wrong patterns
    give finite scores, drawn to the mean. Raises ValueError for parameters of the wrong shape, c outside [0, 1) or
    sd ≤ 0.
    """
    for name, values in (("a", a), ("d", d), ("c", c)):
        if np.shape(values) != (responses.n_items,):
            raise ValueError(f"{name} must have shape ({responses.n_items},), one per item; got {np.shape(values)}")
    if not sd > 0:
        raise ValueError(f"sd must be positive, got {sd}")
    usable = np.isfinite(a) & np.isfinite(d) & np.isfinite(c)
    if np.any((c[usable] < 0) | (c[usable] >= 1)):
        raise ValueError(f"c must be in [0, 1), got {c[usable & ~((c >= 0) & (c < 1))][0]}")
    unit = Grid.spanning(nodes)
    theta_nodes = mean + sd * unit.nodes
    log_right, log_wrong = _log_tables(a, d, c, usable, theta_nodes)
    start = row_starts(responses)
    theta = np.full(responses.n_persons, float(mean))
    se = np.full(responses.n_persons, float(sd))
    if responses.n_responses:
        pieces = min(64, 1 + responses.n_responses // _RESPONSES_PER_CHUNK)
        chunks = kernels.cut(np.diff(start) + 1, pieces)

        def score(first: int, last: int) -> None:
            kernels.posterior_moments(
                first,
                last,
                start,
                responses.item,
                responses.score,
                log_right,
                log_wrong,
                theta_nodes,
                unit.log_weights(),
                theta,
                se,
            )

        with kernels.runner(threads) as run:
            run(score, chunks)
        informed = np.bincount(responses.person[usable[responses.item]], minlength=responses.n_persons) > 0
        theta[~informed], se[~informed] = mean, sd
    return Scores(theta, se)


def _log_tables(a: Floats, d: Floats, c: Floats, usable: np.ndarray, nodes: Floats) -> tuple[Floats, Floats]:
    """log P and log(1 − P), both (J, Q), without cancellation; zero rows for items without parameters."""
    a, d, c = (np.where(usable, x, 0.0)[:, None] for x in (a, d, c))
    eta = a * nodes + d
    with np.errstate(divide="ignore"):
        log_right = np.logaddexp(np.log(c), np.log1p(-c) + log_expit(eta))
    log_wrong = np.log1p(-c) + log_expit(-eta)
    return np.where(usable[:, None], log_right, 0.0), np.where(usable[:, None], log_wrong, 0.0)

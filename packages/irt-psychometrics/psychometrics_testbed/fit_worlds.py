"""Simulated data and known calibrations for the tests of the fit statistics, and a tail probability."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from irt_psychometrics.core.curves import probability
from irt_psychometrics.core.models import Calibration, Convergence


def known(a, d, c=None, *, model="2pl", sd=1.0) -> Calibration:
    """A calibration with the given parameters of J items, named as `Responses.from_wide` names them."""
    J = len(a)
    return Calibration(
        item_ids=tuple(f"i{j + 1}" for j in range(J)),
        models=(model,) * J,
        engine="known",
        engine_version="1",
        a=np.asarray(a, dtype=float),
        d=np.asarray(d, dtype=float),
        c=np.zeros(J) if c is None else np.asarray(c, dtype=float),
        cov=np.zeros((J, 2, 2)),
        joint_cov=None,
        n=np.ones(J, dtype=np.int64),
        n_correct=np.ones(J, dtype=np.int64),
        flags=((),) * J,
        latent_mean=0.0,
        latent_sd=sd,
        n_persons=1,
        convergence=Convergence(True, 1, 0.0, 0.0, 0.0, 2 * J),
    )


def planned(rng, persons=1500, length=20):
    """Answers (persons × 2·length, NaN = not seen) to three overlapping forms of `length` items, simulated from a
    2PL."""
    items = 2 * length
    a, d = np.exp(rng.normal(0, 0.3, items)), rng.normal(0, 1, items)
    x = (rng.random((persons, items)) < probability(rng.normal(size=persons), a, d, np.zeros(items))).astype(float)
    return np.where(unseen(persons, length), np.nan, x)


def unseen(persons, length):
    """Design of `planned`: True if learner i did not see item j."""
    first = (np.arange(persons) % 3)[:, None] * (length // 2)
    place = np.arange(2 * length)
    return (place < first) | (place >= first + length)


def two_sided(z) -> np.ndarray:
    """Probability of a standard normal at least as far from 0 as z."""
    return 2 * norm.sf(np.abs(z))

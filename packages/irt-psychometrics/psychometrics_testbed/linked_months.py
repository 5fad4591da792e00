"""Months whose linking is known, with fits and anchors that are exact or have errors drawn from their covariances."""

from __future__ import annotations

from typing import get_args

import numpy as np

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.assumed_errors import assumed_errors
from irt_psychometrics.core.models import Calibration, Convergence
from irt_psychometrics.core.options import Method
from psychometrics_testbed.made_anchors import anchor_set_of

SLOPE, INTERCEPT = 1.2, 0.5
CRITERIA = [*((method, False) for method in get_args(Method)), ("stocking-lord", True), ("haebara", True)]
"""Linking methods, and whether each is symmetric."""


def ids(k: int) -> tuple[str, ...]:
    return tuple(f"item{j:02d}" for j in range(k))


def covariance(a_se: np.ndarray, b_se: np.ndarray, cov_ab: np.ndarray) -> np.ndarray:
    """Covariance of (a, b), shape (K, 2, 2)."""
    return np.stack([np.stack([a_se**2, cov_ab], -1), np.stack([cov_ab, b_se**2], -1)], -2)


def errors(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """Error covariance of (a, b) with n learners, from the expected information, shape (K, 2, 2)."""
    return covariance(*assumed_errors(a, b, np.zeros_like(a))) * 500 / n


def calibration(
    a: np.ndarray, b: np.ndarray, cov_ab: np.ndarray, *, n: int = 1000, c: float = 0.0, model: str = "2pl",
    joint_ab: np.ndarray | None = None,
) -> Calibration:  # fmt: skip
    """A fit with these parameters and errors of (a, b).

    `joint_ab`: covariance of all (a, b), shape (2K, 2K), if the errors of items are correlated.
    """
    k = len(a)
    g = np.zeros((k, 2, 2))
    g[:, 0, 0], g[:, 1, 0], g[:, 1, 1] = 1.0, -b, -a
    joint = None
    if joint_ab is not None:
        big = np.zeros((2 * k, 2 * k))
        for j in range(k):
            big[2 * j : 2 * j + 2, 2 * j : 2 * j + 2] = g[j]
        joint = big @ joint_ab @ big.T
    return Calibration(
        item_ids=ids(k), models=(model,) * k, engine="em", engine_version="test", a=a, d=-a * b, c=np.full(k, c),
        cov=g @ cov_ab @ g.transpose(0, 2, 1), joint_cov=joint, n=np.full(k, n), n_correct=np.full(k, n // 2),
        flags=((),) * k, latent_mean=0.0, latent_sd=1.0, n_persons=2 * n,
        convergence=Convergence(True, 10, 0.0, 0.0, -1.0, 2 * k),
    )  # fmt: skip


def anchor_set(a: np.ndarray, b: np.ndarray, cov_ab: np.ndarray, *, c: float = 0.0, assumed: bool = False) -> AnchorSet:
    k = len(a)
    return anchor_set_of(
        "math", "3", ids(k), a, b, np.full(k, c), np.sqrt(cov_ab[:, 0, 0]), np.sqrt(cov_ab[:, 1, 1]), cov_ab[:, 0, 1],
        tuple("algebra" if j % 2 else "geometry" for j in range(k)), np.full(k, assumed),
    )  # fmt: skip


def exact(k: int = 12, seed: int = 0, c: float = 0.0, assumed: bool = False) -> tuple[Calibration, AnchorSet]:
    """Anchors that differ only by the known constants."""
    rng = np.random.default_rng(seed)
    a, b = rng.lognormal(0, 0.3, k), rng.normal(0, 1, k)
    a_new, b_new = a * SLOPE, (b - INTERCEPT) / SLOPE
    new = calibration(a_new, b_new, errors(a_new, b_new, 1000), c=c)
    return new, anchor_set(a, b, errors(a, b, 1500), c=c, assumed=assumed)


def month(
    rng: np.random.Generator, k: int = 30, moved: int = 0, shift: float = 0.0, n_new: int = 1000, n_old: int = 1000
) -> tuple[Calibration, AnchorSet]:
    """Anchors with errors drawn from their covariances on both sides. The first `moved` anchors have b + shift."""
    a, b = rng.lognormal(0, 0.3, k), rng.permutation(np.linspace(-1.3, 1.3, k))
    b_moved = b + shift * (np.arange(k) < moved)
    a_new, b_new = a * SLOPE, (b_moved - INTERCEPT) / SLOPE
    old_cov, new_cov = errors(a, b, n_old), errors(a_new, b_new, n_new)
    draw = lambda cov: np.einsum("kij,kj->ki", np.linalg.cholesky(cov), rng.standard_normal((k, 2)))  # noqa: E731
    e_old, e_new = draw(old_cov), draw(new_cov)
    return (
        calibration(a_new + e_new[:, 0], b_new + e_new[:, 1], new_cov, n=n_new),
        anchor_set(a + e_old[:, 0], b + e_old[:, 1], old_cov),
    )

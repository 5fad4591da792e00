"""Worlds for tests of drift: fits and anchors with errors drawn from their covariances and with known differences."""

from __future__ import annotations

import numpy as np

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.assumed_errors import assumed_errors
from irt_psychometrics.core.covariances import block_diagonal
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Calibration, Convergence
from irt_psychometrics.core.options import Model
from irt_psychometrics.drift.errors import Comparison, FitPopulation, Published
from irt_psychometrics.linking.linking import link_to_anchors
from psychometrics_testbed.made_anchors import anchor_set_of
from psychometrics_testbed.published_months import alone

ITEMS, ANCHORS = 14, 9
SLOPE, INTERCEPT = 1.2, 0.5
LEARNERS = 20_000
"""Number of learners of each fit. Errors are small enough for the covariance's first-order approximation to hold."""

rng = np.random.default_rng(5)
A, B = rng.lognormal(0, 0.3, ITEMS), rng.permutation(np.linspace(-1.5, 1.5, ITEMS))
IDS = tuple(f"item{j:02d}" for j in range(40))


def blocks(a: np.ndarray, b: np.ndarray, n: int = LEARNERS) -> np.ndarray:
    """Error covariance of (a, b) with n learners, shape (K, 2, 2)."""
    a_se, b_se, cov = assumed_errors(a, b, np.zeros_like(a))
    return np.stack([[a_se**2, cov], [cov, b_se**2]]).transpose(2, 0, 1) * 500 / n


def fit(a: np.ndarray, b: np.ndarray, cov_ad: np.ndarray, model: Model = "2pl") -> Calibration:
    """A fit with these parameters; `cov_ad`: covariance of all (a, d), shape (2J, 2J)."""
    k = len(a)
    own = cov_ad.reshape(k, 2, k, 2)[np.arange(k), :, np.arange(k), :]
    return Calibration(
        item_ids=IDS[:k], models=(model,) * k, engine="em", engine_version="test", a=a, d=-a * b, c=np.zeros(k),
        cov=own, joint_cov=cov_ad, n=np.full(k, LEARNERS), n_correct=np.full(k, LEARNERS // 2), flags=((),) * k,
        latent_mean=0.0, latent_sd=1.0, n_persons=LEARNERS, convergence=Convergence(True, 9, 0.0, 0.0, -1.0, 2 * k),
    )  # fmt: skip


def anchor_set(a: np.ndarray, b: np.ndarray, cov_ab: np.ndarray) -> AnchorSet:
    k = len(a)
    return anchor_set_of(
        "math", "1", IDS[:k], a, b, np.zeros(k), np.sqrt(cov_ab[:, 0, 0]), np.sqrt(cov_ab[:, 1, 1]), cov_ab[:, 0, 1],
        ("algebra",) * k, np.zeros(k, dtype=bool),
    )  # fmt: skip


def fit_covariance() -> np.ndarray:
    """Covariance of all (a, d), shape (2J, 2J).

    It has a part for each item's own errors, and a part that all items share because the sample's mean and SD vary.
    """
    a, b = A * SLOPE, (B - INTERCEPT) / SLOPE
    to_ad = np.zeros((ITEMS, 2, 2))
    to_ad[:, 0, 0], to_ad[:, 1, 0], to_ad[:, 1, 1] = 1.0, -b, -a
    own = block_diagonal(to_ad @ blocks(a, b) @ to_ad.transpose(0, 2, 1))
    by_mean, by_log_sd = np.zeros((ITEMS, 2)), np.zeros((ITEMS, 2))
    by_mean[:, 1], by_log_sd[:, 0] = a, a
    common = np.stack([by_mean.ravel(), by_log_sd.ravel()], axis=1)
    return own + common @ np.diag([4.0, 2.0]) @ common.T / LEARNERS


FIT_COVARIANCE = fit_covariance()
FIT_ROOT = np.linalg.cholesky(FIT_COVARIANCE)
ANCHOR_BLOCKS = blocks(A[:ANCHORS], B[:ANCHORS])


def estimated(generator: np.random.Generator) -> Calibration:
    a, b = A * SLOPE, (B - INTERCEPT) / SLOPE
    error = (FIT_ROOT @ generator.standard_normal(2 * ITEMS)).reshape(ITEMS, 2)
    a_hat, d_hat = a + error[:, 0], -a * b + error[:, 1]
    return fit(a_hat, -d_hat / a_hat, FIT_COVARIANCE)


def world(generator: np.random.Generator, windows: int = 1) -> tuple[AnchorSet, list[Comparison]]:
    """Anchors frozen with errors, and comparisons of new fits with them and with items published by an earlier fit."""
    error = np.einsum("kij,kj->ki", np.linalg.cholesky(ANCHOR_BLOCKS), generator.standard_normal((ANCHORS, 2)))
    frozen = anchor_set(A[:ANCHORS] + error[:, 0], B[:ANCHORS] + error[:, 1], ANCHOR_BLOCKS)
    anchors = frozen
    earlier = estimated(generator)
    published = Published.from_fit(earlier, link_to_anchors(earlier, frozen, purify=False), anchors)
    published = published.then(Published.from_anchors(anchors))
    fits = [estimated(generator) for _ in range(windows)]
    return anchors, [
        Comparison.from_linked_fit(now, link_to_anchors(now, frozen, purify=False), anchors, published) for now in fits
    ]


def compared(delta_a: np.ndarray, delta_b: np.ndarray, se: float, tests_slopes: bool = True) -> Comparison:
    """Comparison of items with a = 1, b = 0 that changed by these amounts, with independent errors of (a, b)."""
    k = len(delta_b)
    cov = np.broadcast_to(se**2 * np.eye(2), (k, 2, 2)).copy()
    old = Published(
        tuple(f"i{j}" for j in range(k)),
        np.ones(k),
        np.zeros(k),
        np.zeros(k),
        0.5 * cov,
        with_anchors=np.zeros((k, 2, 2)),
    )
    a, b = 1 + delta_a, delta_b
    now = ItemParameters(old.item_ids, a, b, np.zeros(k), 0.5 * cov)
    return Comparison(
        now, old, np.zeros((k, 2, 2)), fitted=(FitPopulation("2pl" if tests_slopes else "rasch"),) * k,
        **alone(now, old),
    )  # fmt: skip

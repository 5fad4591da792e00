"""Items and answers of learners who may guess, or whose ability is skewed, and what was staged of their month."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from irt_assets.ledger import fits
from resources.postgres.database import Database
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, answer_matrix

FIRST, NEXT = MONTHS
GATE = "guessing_is_in_the_model"
LEARNERS, OLD, NEW = 2000, 26, 4
ITEMS = [f"i{j:02d}" for j in range(OLD)] + [f"new{j}" for j in range(NEW)]
RULES = {"min_responses": 200, "min_responses_3pl": 500, "min_anchor_responses": 200}
VALUES = {"a": 1.2, "b": 0.5, "c": 0.0, "a_se": 0.1, "b_se": 0.08, "cov_ab": -0.001}


def truth(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return np.exp(rng.normal(0.3, 0.3, OLD + NEW)), rng.normal(0.4, 1.0, OLD + NEW)


def skewed(learners: int, rng: np.random.Generator) -> np.ndarray:
    """χ² with 4 degrees of freedom, of mean 0 and SD 1."""
    return (rng.chisquare(4, learners) - 4) / np.sqrt(8)


def add_answers(
    database: Database,
    month: str,
    theta: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    items: Sequence[str],
    rng: np.random.Generator,
    guessing: float = 0.0,
) -> None:
    p = guessing + (1 - guessing) * expit(a[: len(items)] * (theta[:, None] - b[: len(items)]))
    scores = (rng.random(p.shape) < p).astype(float)
    add_attempts(database, answer_matrix(month, scores, items, [f"{month}-{i}" for i in range(theta.size)]))


def staged_shape(database: Database, month: str) -> Any:
    with database.connect() as connection:
        staged = fits.latest_staged(connection, month, SCALE, "em")
    return staged.spec.as_json()["shape"]

"""Fits of items of one model or of several, with the errors of an engine's estimates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import logit

from irt_psychometrics import Calibration
from irt_psychometrics.estimation import Convergence
from psychometrics_testbed.trial_item_model import MODEL

EACH = 8
"""Items of each model."""
MODELS = ("2pl", "3pl", MODEL.name)


def of_one_model(name: str) -> Calibration:
    """Draw a fit of items of a single model, with correlated errors of parameters, as from an engine."""
    rng = np.random.default_rng(MODELS.index(name))
    a, b = np.exp(rng.normal(0.2, 0.2, EACH)), rng.normal(0, 0.8, EACH)
    size = {"2pl": 2, "3pl": 3}.get(name, 4)
    root = rng.normal(0, 0.02, (EACH, size, size)) + 0.06 * np.eye(size)
    c = np.zeros(EACH) if name == "2pl" else rng.uniform(0.1, 0.3, EACH)
    further = logit(np.column_stack([c, rng.uniform(0.7, 0.9, EACH)])) if name == MODEL.name else None
    return Calibration(
        item_ids=tuple(f"{name}-{j}" for j in range(EACH)), models=(name,) * EACH, engine="em", engine_version="test",
        a=a, d=-a * b, c=c,
        cov=root @ root.transpose(0, 2, 1), joint_cov=None, n=np.full(EACH, 900), n_correct=np.full(EACH, 500),
        flags=((),) * EACH, latent_mean=0.1, latent_sd=1.1, n_persons=900,
        convergence=Convergence(True, 9, 0.0, 0.0, -1.0, size * EACH),
        further=further,
    )  # fmt: skip


def join_fits(*parts: Calibration) -> Calibration:
    """Join fits to one fit with the same items."""
    J = sum(part.n_items for part in parts)
    cov, further = np.zeros((J, 4, 4)), np.full((J, 2), np.nan)
    end = 0
    for part in parts:
        rows, size = slice(end, end + part.n_items), part.cov.shape[1]
        cov[rows, :size, :size] = part.cov
        if part.further is not None:
            further[rows] = part.further
        end += part.n_items
    whole = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in ("a", "d", "c", "n", "n_correct")
    }
    named = {name: sum((getattr(part, name) for part in parts), ()) for name in ("item_ids", "models", "flags")}
    return replace(parts[0], **whole, **named, cov=cov, further=further)

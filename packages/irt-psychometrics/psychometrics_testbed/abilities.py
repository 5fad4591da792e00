"""Abilities of learners, normal and skewed."""

from __future__ import annotations

import numpy as np

from irt_psychometrics.core.models import Floats

DEGREES = {"χ²₂₀": 20, "χ²₄": 4, "−χ²₄": 4}


def abilities(shape: str, persons: int, rng: np.random.Generator) -> Floats:
    """Draw abilities with mean 0 and SD 1."""
    if shape not in DEGREES:
        return rng.normal(size=persons)
    k = DEGREES[shape]
    return (-1 if shape.startswith("−") else 1) * (rng.chisquare(k, persons) - k) / np.sqrt(2 * k)

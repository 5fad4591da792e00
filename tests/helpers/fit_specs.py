"""Complete specifications that fits store besides their parameters, as read from the database."""

from __future__ import annotations

import copy
from typing import Any

CONSTANTS: dict[str, Any] = {
    "slope": 1.1,
    "slope_se": 0.02,
    "intercept": -0.2,
    "intercept_se": 0.02,
    "method": "stocking-lord",
    "rmse": 0.01,
    "anchors_used": ["k1", "k2", "k3", "k4", "k5"],
    "anchors_dropped": {},
    "anchor_set": "1",
    "q": 3.0,
    "q_df": 4,
    "q_p": 0.5,
    "share_kept": 1.0,
    "warnings": [],
    "weighted": True,
    "symmetric": False,
    "suspects": {},
    "diagnosis": "",
    "q_shifts": {},
    "slope_intercept_cov": 0.0001,
    "tau": 0.05,
    "tau_slope": 0.0,
    "tau_low": 0.0,
    "i2": 0.2,
    "weights": {"k1": 1.1, "k2": 0.9, "k3": 1.0, "k4": 1.0, "k5": 1.0},
}
BEFORE_TAU = {name: CONSTANTS[name] for name in CONSTANTS.keys() - {"tau", "tau_slope", "tau_low", "i2", "weights"}}
"""Linking constants of a release from before variation of anchors was estimated."""
PARALLEL: dict[str, Any] = {
    "eigenvalue": 1.5,
    "expected": 1.4,
    "rounds": 3,
    "p": 0.25,
    "under_model": [1.3, 1.4, 1.5],
    "se": 0.02,
    "learners": 400,
    "together": ["i1", "i2"],
}
SET: dict[str, Any] = {
    "learners": {"items": 400, "set": 400, "parallel": 400},
    "reliability": 0.8,
    "lz": {"learners": 390, "unlikely": 0.04, "level": 0.05, "rare": 0.02},
    "q3": {
        "pairs": 1,
        "mean": -0.05,
        "flagged": 1,
        "clusters": [["i1", "i2"]],
        "largest": [{"items": ["i1", "i2"], "q3": 0.3, "n": 400}],
    },
    "loadings": {"i1": 0.1, "i2": -0.1},
    "parallel": PARALLEL,
    "m2": [{"items": 2, "learners": 400, "m2": 3.0, "df": 2, "p": 0.22, "rmsea": 0.03}],
    "halves": {"apart": 0.4, "expected": 0.4},
}
_MEASURES = ("ratio", "rmsea", "unlikely", "random")
_MEASURE = {"value": 0.01, "low": -0.01, "high": 0.03}
MISFIT: dict[str, Any] = {
    "reference": "2026-01",
    "fit_id": "2026-01-default-em-0",
    "ratio": 1.07,
    "ratio_together": ["i1", "i2"],
    "why": None,
    "lost": False,
    "items": 20,
    "growth": dict.fromkeys(("dependence", *_MEASURES), _MEASURE) | {"chance": None},
    "now": dict.fromkeys(_MEASURES, _MEASURE),
    "before": dict.fromkeys(_MEASURES, _MEASURE),
    "together": {"dependence": ["i1"], "ratio": ["i2"]},
}
SHAPE: dict[str, Any] = {
    "latent": "normal",
    "why": "a normal θ is not rejected",
    "normality": {"statistic": 1.0, "p": 0.6, "skewness_z": 0.5, "kurtosis_z": -0.5},
    "histogram_gain": 3.0,
    "guessing_gain": 4.0,
    "guessing": False,
    "learners": 400,
    "compared": [
        {
            "model": "2pl",
            "latent": "normal",
            "loglik": -900.0,
            "n_parameters": 4,
            "aic": 1808.0,
            "bic": 1824.0,
            "converged": True,
        }
    ],
}
_ALIKE: dict[str, Any] = {
    "version": 1,
    "model": "2pl",
    "scale_priors": {"a": {"family": "LogNormal", "mean": 0.0, "sd": 0.5}},
    "eligibility": {"min_responses": 100},
    "provisional": ["i2"],
    "never_published": [],
    "left_out": {"i3": 12},
    "priors": {"a": {"family": "LogNormal", "mean": 0.0, "sd": 0.5}},
    "assignment": {"correlation": 0.01, "learners": 300, "of": 400},
    "populations": [{"name": "all", "learners": 400, "mean": 0.0, "sd": 1.0}],
    "shape": SHAPE,
    "misfit": MISFIT,
    "sample": None,
    "draws": None,
    "sampling": None,
    "snapshot": None,
    "pooled": {},
    "passed_over": {},
    "answers_from": {},
}


def staged_json() -> dict[str, Any]:
    """Specification of a converged fit by the scale's engine `em`, on a bank with testlets."""
    testlets = {"sd": 0.2, "se": 0.05, "n_testlets": 1, "n_items": 2, "learners": 400, "why": "", "of": {"i1": "t"}}
    staged = {"latent": "auto", "fit_statistics": {"items": {"rmsd": [0.02, None]}, "set": SET}}
    return copy.deepcopy(_ALIKE | staged | {"testlets": testlets | {"raw_sd": None}, "linking_constants": None})


def linked_json() -> dict[str, Any]:
    """Specification of the same fit after linking."""
    testlets = staged_json()["testlets"] | {"sd": 0.22, "raw_sd": 0.2}
    linked = {"latent": {"mean": -0.2, "sd": 1.1}, "linking_constants": CONSTANTS, "software": {}}
    return copy.deepcopy(_ALIKE | linked | {"testlets": testlets, "fit_statistics": SET})

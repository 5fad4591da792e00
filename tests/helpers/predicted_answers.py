"""What a sampled posterior predicts of new learners."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from irt_assets.engines.pymc_engine import Posterior


def predicted_answers(posterior: Posterior, n: int) -> npt.NDArray[np.int8]:
    """Answers of new learners who see what the learners saw, shape (n, R) in the order of the responses to the items
    that were sampled: each row from another draw, at equal distances."""
    import arviz as az  # only an installation with the extra bayes has these
    import pymc as pm

    flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in posterior.draws.values.items()}
    at = np.linspace(0, len(flat["b"]) - 1, n).round().astype(int)
    chosen = az.from_dict(posterior={name: x[None, at] for name, x in flat.items()})
    with posterior.model:
        found = pm.sample_posterior_predictive(chosen, random_seed=61, progressbar=False)
    return found.posterior_predictive["scores"].to_numpy()[0].astype(np.int8)

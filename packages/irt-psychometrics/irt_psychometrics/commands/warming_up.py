"""`warm-up`: compile the kernels before the first analysis, for images and continuous integration."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

import irt_psychometrics as irt
from irt_psychometrics.adaptive import AdaptiveTest, simulate_tests
from irt_psychometrics.commands.simulating import simulate_responses
from irt_psychometrics.core.errors import PsychometricsWarning
from irt_psychometrics.core.kernel_cache import COMPILATION
from irt_psychometrics.core.options import DrawnModel
from irt_psychometrics.scoring.abilities import Method

PERSONS, ITEMS, SEEN, MAX_SCORE = 1000, 12, 10, 3
MODELS: tuple[DrawnModel, ...] = ("2pl", "3pl", "gpcm")
METHODS: tuple[Method, ...] = ("eap", "map", "wle")


@dataclass(frozen=True)
class WarmUp:
    """Result of a warm-up.

    Attributes:
        kernels: number of kernels that were compiled; the others were in the cache.
        seconds: time that their compilation took.
    """

    kernels: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {"kernels": self.kernels, "seconds": self.seconds}

    def report(self) -> list[str]:
        """Report on the number of kernels and the time."""
        return [f"{self.kernels} kernels compiled in {self.seconds:.1f} s; all kernels are in the cache"]


def warm_up() -> WarmUp:
    """Compile the kernels of fits, fit statistics, scores, DIF and adaptive tests.

    Each analysis runs on made-up answers. Kernels that are in the cache are only loaded.

    Returns
    -------
    WarmUp
        The number of kernels that were compiled, and the time.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PsychometricsWarning)  # the answers are too few for exact parameters
        for model in MODELS:
            made = simulate_responses(persons=PERSONS, items=ITEMS, model=model, each=SEEN)
            scores = np.where(made.score < 0, np.nan, made.score)
            most = 1 if made.scored is None else MAX_SCORE
            responses = irt.Responses.from_wide(scores, item_ids=made.item_ids, max_score=most)
            fit = irt.fit(responses, model=model)
            fit.fit_statistics(responses)
            for method in METHODS:
                fit.score(responses, method)
            irt.find_dif(responses, ["even", "odd"] * (PERSONS // 2), model=model)
            simulate_tests(fit, AdaptiveTest(max_items=5), 10)
    return WarmUp(COMPILATION.kernels, COMPILATION.seconds)

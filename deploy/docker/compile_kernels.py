"""Calls what numba compiles, on made-up answers, so that an image has it compiled: fits with guessing and
without by `em` and by PyMC, statistics of fit, and scores. A kernel that this misses is compiled at its first use.
"""

from __future__ import annotations

from irt_assets.engines import Calibrator
from irt_assets.engines.em import EmEngine
from irt_assets.engines.pymc_engine import PymcEngine
from irt_psychometrics import Calibration, Responses
from irt_psychometrics.commands import simulate_responses
from irt_psychometrics.itemfit import FitSummary
from irt_psychometrics.items import Model
from irt_psychometrics.scoring import score

MODELS: tuple[Model, ...] = ("2pl", "3pl")
MANY, FEW = 5000, 500
"""Learners: em begins with a sample where they are many; PyMC is to end within seconds."""


def main() -> None:
    for model in MODELS:
        answers = _answers(model, MANY)
        fit = _fit(EmEngine(), answers, model)
        FitSummary.of(answers, fit)
        for method in ("eap", "map"):
            score(answers, fit.a, fit.d, fit.c, method=method)
        _fit(PymcEngine(draws=10, tune=10, chains=2), _answers(model, FEW), model)


def _answers(model: Model, persons: int) -> Responses:
    made = simulate_responses(persons=persons, model=model)
    return Responses.from_wide(made.score, made.item_ids)


def _fit(engine: Calibrator, answers: Responses, model: Model) -> Calibration:
    return engine.calibrate(answers, model=model, data_hash="")


if __name__ == "__main__":
    main()

"""Compile the numba kernels for an image by running them on made-up answers: fits with and without guessing by `em` and
PyMC, fit statistics, and scores. A kernel missed here is compiled at its first use.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from irt_assets.engines import Calibrator
from irt_assets.engines.em import EmEngine
from irt_assets.engines.pymc_engine import PymcEngine
from irt_assets.intake.library_files import FILES
from irt_psychometrics import Calibration, Responses
from irt_psychometrics.commands import score, simulate_responses
from irt_psychometrics.itemfit import FitSummary
from irt_psychometrics.items import Model

MODELS: tuple[Model, ...] = ("2pl", "3pl")
MANY, FEW = 5000, 500
"""Numbers of learners. With many learners em begins with a sample; with few, PyMC ends within seconds."""


def main() -> None:
    for model in MODELS:
        with TemporaryDirectory() as folder:
            simulate_responses(persons=MANY, model=model).write(Path(folder))
            answers, parameters = (
                FILES.answers(Path(folder, "responses.csv")),
                FILES.parameters(Path(folder, "items.csv")),
            )
        score(answers, parameters, method="eap")
        score(answers, parameters, method="map")
        FitSummary.from_fit(answers.responses, _fit(EmEngine(), answers.responses, model))
        few = simulate_responses(persons=FEW, model=model)
        _fit(PymcEngine(draws=10, tune=10, chains=2), Responses.from_wide(few.score, few.item_ids), model)


def _fit(engine: Calibrator, answers: Responses, model: Model) -> Calibration:
    return engine.calibrate(answers, model=model, data_hash="")


if __name__ == "__main__":
    main()

"""Compile the numba kernels for an image by running them on made-up answers: fits with and without guessing by `em` and
PyMC, fit statistics, and scores. A kernel missed here is compiled at its first use.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from irt_assets.engines import Calibrator
from irt_assets.engines.em import EmEngine
from irt_assets.engines.pymc_engine import PymcEngine
from irt_assets.intake.library_files import FILES
from irt_psychometrics import Calibration, Responses
from irt_psychometrics.commands import main as run, score
from irt_psychometrics.itemfit import FitSummary
from irt_psychometrics.items import Model

MODELS: tuple[Model, ...] = ("2pl", "3pl")
MANY, FEW = 5000, 500
"""Numbers of learners. With many learners em begins with a sample; with few, PyMC ends within seconds."""


def main() -> None:
    for model in MODELS:
        answers, parameters = _simulate(MANY, model)
        score(answers, parameters, method="eap")
        score(answers, parameters, method="map")
        FitSummary.from_fit(answers.responses, _fit(EmEngine(), answers.responses, model))
        few, _ = _simulate(FEW, model)
        _fit(PymcEngine(draws=10, tune=10, chains=2), few.responses, model)


def _simulate(persons: int, model: Model) -> tuple[Any, Any]:
    """Simulate answers, and read the files of answers and of parameters."""
    with TemporaryDirectory() as folder:
        run(["simulate-responses", folder, "--persons", str(persons), "--model", model])
        return FILES.answers(Path(folder, "responses.csv")), FILES.parameters(Path(folder, "items.csv"))


def _fit(engine: Calibrator, answers: Responses, model: Model) -> Calibration:
    return engine.calibrate(answers, model=model, data_hash="")


if __name__ == "__main__":
    main()

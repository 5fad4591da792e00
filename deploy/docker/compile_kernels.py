"""Compile an image's numba kernels: the library's, and by fits of made-up answers with and without guessing also the
kernels of `em` and PyMC. A kernel missed here is compiled at its first use.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from irt_assets.engines import Calibrator
from irt_assets.engines.em import EmEngine
from irt_assets.engines.pymc_engine import PymcEngine
from irt_assets.intake.library_files import FILES
from irt_psychometrics import Calibration, Responses
from irt_psychometrics.commands import main as run
from irt_psychometrics.items import Model

MODELS: tuple[Model, ...] = ("2pl", "3pl")
MANY, FEW = 5000, 500
"""Numbers of persons. With many persons em begins with a sample; with few, PyMC ends within seconds."""


def main() -> None:
    run(["warm-up"])
    for model in MODELS:
        _fit(EmEngine(), _simulate(MANY, model), model)
        _fit(PymcEngine(draws=10, tune=10, chains=2), _simulate(FEW, model), model)


def _simulate(persons: int, model: Model) -> Responses:
    """Simulate answers, and read them from a file."""
    with TemporaryDirectory() as folder:
        run(["simulate-responses", folder, "--persons", str(persons), "--model", model])
        return FILES.answers(Path(folder, "responses.csv")).responses


def _fit(engine: Calibrator, answers: Responses, model: Model) -> Calibration:
    return engine.calibrate(answers, model=model, data_hash="")


if __name__ == "__main__":
    main()

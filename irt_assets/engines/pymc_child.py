"""The pymc engine in a child process: the adapter that starts it, and the program that it runs.

    python -m irt_assets.engines.pymc_child FOLDER

reads `request` in the folder and writes `result` there, both pickled by this module.
"""

import pickle
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from irt_assets.engines import SampledCalibration
from irt_assets.engines.child import Limits, die_with_parent, run
from irt_assets.engines.pymc_engine import ENGINE, PymcEngine
from irt_assets.engines.spec import PYMC_MODELS, one_model
from irt_psychometrics import Calibration, PsychometricsError, Responses
from irt_psychometrics.items import Model
from irt_psychometrics.linking import AnchorSet
from resources.failures import PermanentFailure


@dataclass
class PymcInChild:
    """`PymcEngine` in a child process, with the same results and errors. If the child dies, raises EngineFailure."""

    engine: PymcEngine = field(default_factory=PymcEngine)
    timeout_s: float = Limits.seconds
    name: str = ENGINE

    def calibrate(
        self, responses: Responses, *, model: Model | Sequence[Model], data_hash: str, anchors: AnchorSet | None = None
    ) -> Calibration:
        return self.draw(responses, model=model, data_hash=data_hash, anchors=anchors).calibration

    def draw(
        self, responses: Responses, *, model: Model | Sequence[Model], data_hash: str, anchors: AnchorSet | None = None
    ) -> SampledCalibration:
        engine = self.engine if anchors is None else replace(self.engine, anchors=anchors)
        one_model(ENGINE, PYMC_MODELS, model)
        request = {"responses": responses, "model": model, "data_hash": data_hash}
        with tempfile.TemporaryDirectory(prefix="irt-pymc-") as name:
            folder = Path(name)
            (folder / "request").write_bytes(pickle.dumps((engine, request)))
            run(
                [sys.executable, "-m", __name__, name],
                name=f"engine {ENGINE}",
                answer=folder / "result",
                log=folder / "printed.txt",
                limits=Limits(seconds=self.timeout_s),
            )
            answer: SampledCalibration | Exception = pickle.loads((folder / "result").read_bytes())  # noqa: S301 - our child's own
        if isinstance(answer, Exception):
            raise answer
        return answer


def _answer(engine: PymcEngine, request: dict[str, Any]) -> SampledCalibration | Exception:
    try:
        posterior = engine.sample(**request)
    except (PsychometricsError, PermanentFailure) as error:
        return error
    found = posterior.diagnostics
    sampling = {
        "max_rhat": found.max_rhat,
        "min_ess": min(found.min_bulk_ess, found.min_tail_ess),
        "divergences": found.divergences,
    }
    return SampledCalibration(posterior.calibration, posterior.to_parquet(), sampling)


def main(folder: Path) -> None:
    die_with_parent()
    engine, request = pickle.loads((folder / "request").read_bytes())  # noqa: S301 - our own parent wrote it
    part = folder / "result.part"
    part.write_bytes(pickle.dumps(_answer(engine, request)))
    part.replace(folder / "result")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

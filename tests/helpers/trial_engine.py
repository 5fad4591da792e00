"""A new engine in one file: em's estimates under another name. It also needs a line in the registry:

monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, SPEC))
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from irt_assets.engines.spec import EngineSpec, PythonPackage

if TYPE_CHECKING:
    from irt_psychometrics import Calibration
    from irt_psychometrics.items import Model
    from irt_psychometrics.linking import AnchorSet
    from irt_psychometrics.responses import Responses


@dataclass
class TrialEngine:
    threads: int | None
    name: str = "trial"

    def calibrate(
        self, responses: Responses, *, model: Model, data_hash: str, anchors: AnchorSet | None = None
    ) -> Calibration:
        from irt_psychometrics.estimation import fit_em

        SPEC.one_model(model)
        found = fit_em(responses, model=model, anchors=anchors, data_hash=data_hash, threads=self.threads)
        return replace(found, engine=self.name, engine_version="1")


SPEC = EngineSpec(
    name="trial",
    method="em's, under another name",
    models=("1pl", "2pl"),
    build=lambda settings: TrialEngine(settings.irt_threads),
    runs_in="this process",
    kind="python",
    pool="trials",
    python_packages=(PythonPackage("numpy", "pip install numpy"),),
)

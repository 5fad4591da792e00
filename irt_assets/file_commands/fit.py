"""`irt fit` by another engine than the library's own."""

from collections.abc import Callable, Sequence
from typing import Any

from irt_assets.engines import Calibrator
from irt_assets.engines.registry import DEFAULT
from irt_psychometrics import Calibration, Responses
from irt_psychometrics.items import Model
from resources.failures import PermanentFailure


def calibrate_by(
    engine: Calibrator, *, groups: bool, latent: str
) -> Callable[[Responses, Model | Sequence[Model], Any], Calibration]:
    """Return the function by which the library's `fit` calls the engine.

    `groups`: whether persons are in groups; `latent`: the distribution of
    θ that is requested. Raises PermanentFailure if the engine cannot do this.
    """
    if latent != "normal":
        raise PermanentFailure(
            f"engine {engine.name} assumes that θ is normal; for --latent {latent} use --engine {DEFAULT}"
        )
    if groups:
        raise PermanentFailure(f"engine {engine.name} fits one population; for --groups use --engine {DEFAULT}")

    def calibrate(responses: Responses, model: Model | Sequence[Model], anchors: Any) -> Calibration:
        return engine.calibrate(responses, model=model, data_hash="", anchors=anchors)

    return calibrate

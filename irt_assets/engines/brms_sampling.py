"""What brms is asked besides the answers: which models it fits, and how long Stan samples. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from irt_assets.psychometrics.core.options import Model

ENGINE = "brms"
MODELS: tuple[Model, ...] = ("rasch", "1pl", "2pl")


@dataclass(frozen=True)
class Sampling:
    """How long Stan samples, and where the compiled models are kept: a compilation takes a minute and 2.6 GB.

    `draws` and `tune` are per chain; `cores` chains run at once; `cache` None compiles again for every fit. The limits
    below which a fit has not converged (R-hat 1.01, ESS 1000) are met by four chains of 1500 draws as a rule.
    """

    draws: int = 1500
    tune: int = 500
    chains: int = 4
    cores: int = 1
    seed: int = 61
    cache: Path | None = None

    def as_options(self) -> dict[str, int | str]:
        numbers = {name: getattr(self, name) for name in ("draws", "tune", "chains", "cores", "seed")}
        return numbers | ({} if self.cache is None else {"cache": str(self.cache)})

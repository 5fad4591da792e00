"""What the platform knows about an engine before it builds one: its `EngineSpec`.

Imports nothing heavy, as the command line reads specs before it does anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from irt_psychometrics import PsychometricsError
from resources.version import installed_version

if TYPE_CHECKING:
    from irt_assets.engines import Calibrator
    from irt_psychometrics.items import Model
    from resources.settings import Settings

LIGHT_POOL = "calibration"
"""Pool of whatever reads a month of answers or fits it: one of these runs executes at a time."""
HEAVY_POOL = "heavy_engines"
"""Pool of engines that take gigabytes or hours: only one of their runs executes at a time."""


DEFAULT_MODEL: Model = "2pl"
"""The model of a scale that names none."""
RIGHT_AND_WRONG: tuple[Model, ...] = ("rasch", "1pl", "2pl", "3pl")
"""Models of items scored 0 and 1."""


@dataclass(frozen=True)
class PythonPackage:
    """A distribution that an engine imports, and the command that installs it."""

    name: str
    install: str

    @property
    def version(self) -> str | None:
        """None where it is not installed."""
        return installed_version(self.name)


@dataclass(frozen=True)
class RPackage:
    """A package of R. `debian`: the Debian package that has it; None where it comes from CRAN."""

    name: str
    debian: str | None = None

    @property
    def install(self) -> str:
        """The command that installs it."""
        if self.debian is not None:
            return f"apt install {self.debian}"
        return f"""Rscript -e 'install.packages("{self.name}")'"""


@dataclass(frozen=True)
class EngineSpec:
    """One engine. `registry.ENGINES` lists them; graph, settings, command line, `irt doctor` and docs follow from it.

    Attributes:
        name: in settings, in the database, and in the names of assets and checks.
        method: what its parameters and their errors are, for the docs.
        models: those it fits; it refuses others with a PsychometricsError.
        scored: whether it fits items with scores besides 0 and 1.
        build: makes it. Called where everything it needs is there; what is slow to import is imported in here.
        runs_in: where a fit takes place. Only one in this process has no time limit.
        kind: its asset's in Dagster, such as `r`.
        pool: its asset's in Dagster; one run of a pool goes on at a time.
        for_comparison: whether it may fit months besides the scales' own engine, where IRT_ENGINES names it.
        has_draws: whether its posterior draws are kept (`Sampler`).
        python_packages, r_packages: what must be installed. One with R packages runs in the R IRT service where that
            is set, and needs none of them here.
    """

    name: str
    method: str
    models: tuple[Model, ...]
    build: Callable[[Settings], Calibrator]
    runs_in: Literal["this process", "child process", "R IRT service"]
    kind: str
    pool: str = HEAVY_POOL
    for_comparison: bool = True
    has_draws: bool = False
    scored: bool = False
    python_packages: tuple[PythonPackage, ...] = ()
    r_packages: tuple[RPackage, ...] = ()

    def in_r_service(self, settings: Settings) -> bool:
        """Whether its fits are made by the R IRT service."""
        return self.runs_in == "R IRT service" or (bool(self.r_packages) and settings.r_irt_base_url is not None)

    def one_model(self, model: Model | Sequence[Model]) -> Model:
        """The model of all items. Raises PsychometricsError where they have several, or one that it does not fit."""
        return one_model(self.name, self.models, model)


def one_model(engine: str, fits: Sequence[Model], model: Model | Sequence[Model]) -> Model:
    """As `EngineSpec.one_model`, of an engine that `fits` these."""
    named = {model} if isinstance(model, str) else set(model)
    if len(named) != 1 or not named.issubset(fits):
        got = repr(model) if isinstance(model, str) else " and ".join(sorted(named))
        raise PsychometricsError(f"the {engine} engine fits {', '.join(fits)}; got model {got}")
    return named.pop()

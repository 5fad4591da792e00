"""The description of an engine, `EngineSpec`, which the platform reads without building the engine.

Imports nothing heavy, because the command line reads the specs before anything else.
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
"""Pool of the steps that read or fit a month of answers: only one of its runs executes at a time."""
HEAVY_POOL = "heavy_engines"
"""Pool of engines that take gigabytes or hours: only one of their runs executes at a time."""


DEFAULT_MODEL: Literal["2pl"] = "2pl"
"""Model of a scale that names no model."""
RIGHT_AND_WRONG: tuple[Model, ...] = ("rasch", "1pl", "2pl", "3pl")
"""Models of items scored 0 and 1."""
MIRT_MODELS: tuple[Model, ...] = (*RIGHT_AND_WRONG, "pcm", "gpcm", "grm", "nominal")
"""Models that R's mirt fits here."""
BRMS_MODELS: tuple[Model, ...] = ("rasch", "1pl", "2pl", "grm")
PYMC_MODELS: tuple[Model, ...] = (*RIGHT_AND_WRONG, "grm")


@dataclass(frozen=True)
class PythonPackage:
    """A distribution that an engine imports, and the command that installs it."""

    name: str
    install: str

    @property
    def version(self) -> str | None:
        """Version of the package. None if it is not installed."""
        return installed_version(self.name)


@dataclass(frozen=True)
class RPackage:
    """An R package. `debian`: the Debian package that contains it, or None if it is installed from CRAN."""

    name: str
    debian: str | None = None

    @property
    def install(self) -> str:
        """Command that installs the package."""
        if self.debian is not None:
            return f"apt install {self.debian}"
        return f"""Rscript -e 'install.packages("{self.name}")'"""


@dataclass(frozen=True)
class EngineSpec:
    """One engine. `registry.ENGINES` lists all engines; graph, settings, command line, `irt doctor` and docs follow
    from it.

    Attributes:
        name: its name in settings, in the database, and in the names of assets and checks.
        method: its estimates and their errors, in words, for the docs.
        models: models that it fits. It refuses others with a PsychometricsError.
        build: builds the engine. It is called only if everything the engine needs is installed, and imports the slow
            packages itself.
        runs_in: place in which a fit runs. Only a fit in this process has no time limit.
        kind: kind of its asset in Dagster, such as `r`.
        pool: pool of its asset in Dagster. Only one run of a pool executes at a time.
        for_comparison: whether it may fit months in addition to a scale's own engine, if IRT_ENGINES names it.
        has_draws: whether its posterior draws are kept (`Sampler`).
        python_packages, r_packages: packages that must be installed. If the R IRT service is set, an engine with R
            packages runs there, and needs none of them here.
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
    python_packages: tuple[PythonPackage, ...] = ()
    r_packages: tuple[RPackage, ...] = ()

    def in_r_service(self, settings: Settings) -> bool:
        """Whether the R IRT service runs its fits."""
        return self.runs_in == "R IRT service" or (bool(self.r_packages) and settings.r_irt_base_url is not None)

    def one_model(self, model: Model | Sequence[Model]) -> Model:
        """The model of all items. Raises PsychometricsError for several models, or a model that the engine does not
        fit."""
        return one_model(self.name, self.models, model)


def require_models(engine: str, fits: Sequence[Model], model: Model | Sequence[Model]) -> set[Model]:
    """Return the names of the items' models. Raises PsychometricsError unless the engine fits all of them."""
    named = {model} if isinstance(model, str) else set(model)
    if not named.issubset(fits):
        raise _model_error(engine, fits, model)
    return named


def one_model(engine: str, fits: Sequence[Model], model: Model | Sequence[Model]) -> Model:
    """Like `EngineSpec.one_model`, for an engine that fits the models `fits`.

    The 2PL is the case of two scores among graded items.
    """
    named = require_models(engine, fits, model)
    named -= {"2pl"} if "grm" in named else set()
    if len(named) != 1:
        raise _model_error(engine, fits, model)
    return named.pop()


def _model_error(engine: str, fits: Sequence[Model], model: Model | Sequence[Model]) -> PsychometricsError:
    got = repr(model) if isinstance(model, str) else " and ".join(sorted(set(model)))
    return PsychometricsError(f"the {engine} engine fits {', '.join(fits)}; got model {got}. Engine em fits it")

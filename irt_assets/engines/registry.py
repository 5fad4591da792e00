"""The list of engines. A new engine needs a module with its `SPEC`, and a line in `ENGINES`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from irt_assets.engines import em, pymc, r_engines
from irt_assets.engines.spec import EngineSpec, RPackage
from irt_psychometrics import PsychometricsError
from resources.failures import PermanentFailure
from resources.r_runtime import RPY2, missing_r, r_runtime

if TYPE_CHECKING:
    from irt_assets.engines import Calibrator
    from resources.settings import Settings
from resources.version import installed_version, is_checkout

ENGINES: tuple[EngineSpec, ...] = (
    em.SPEC,
    r_engines.MIRT,
    pymc.SPEC,
    r_engines.BRMS,
    r_engines.REMOTE,
)
"""Engines in the order in which a month runs them."""
DEFAULT = em.SPEC.name
"""The engine that fits every month of every scale."""


def names() -> tuple[str, ...]:
    return tuple(spec.name for spec in ENGINES)


def comparison_names() -> tuple[str, ...]:
    """Engines that may fit a month in addition to a scale's own engine, in the order in which a month runs them."""
    return tuple(spec.name for spec in ENGINES if spec.for_comparison)


def spec_of(name: str) -> EngineSpec:
    """The engine with this name. Raises PermanentFailure if it does not exist."""
    for spec in ENGINES:
        if spec.name == name:
            return spec
    raise PermanentFailure(f"unknown engine {name!r}; known engines: {', '.join(names())}")


def asset_of(name: str) -> str:
    """The name of the asset that fits a month with an engine."""
    return "item_calibration" if name == DEFAULT else f"item_calibration_{name}"


def enabled_scales(settings: Settings) -> dict[str, frozenset[str] | None]:
    """The scales that each engine in IRT_ENGINES fits (None: all), in the order in which a month runs the engines.

    Raises PermanentFailure for an entry that is not ENGINE or SCALE:ENGINE.
    """
    known = comparison_names()
    scales_by_engine: dict[str, set[str]] = {}
    for entry in filter(None, (part.strip() for part in settings.irt_engines.split(","))):
        scale, colon, engine = entry.rpartition(":")
        if engine not in known or (colon and not scale):
            raise PermanentFailure(
                f"setting IRT_ENGINES: every entry must be ENGINE or SCALE:ENGINE with one of {', '.join(known)} "
                f"({DEFAULT} always runs)"
            )
        scales_by_engine.setdefault(engine, set()).add(scale)
    return {
        name: None if "" in scales_by_engine[name] else frozenset(scales_by_engine[name])
        for name in known
        if name in scales_by_engine
    }


def require_demandable(engines: Iterable[str]) -> None:
    """Raise PsychometricsError if a scale cannot demand fits by one of these engines, because no asset makes them."""
    known = (DEFAULT, *comparison_names())
    for name in engines:
        if name not in known:
            raise PsychometricsError(
                f"rule demanded_engines must name engines of {', '.join(known)}, with commas; got {name!r}"
            )


def r_packages() -> dict[RPackage, list[str]]:
    """Every R package that engines need, with the names of these engines, in alphabetical order."""
    needed = {package for spec in ENGINES for package in spec.r_packages}
    return {
        package: [spec.name for spec in ENGINES if package in spec.r_packages]
        for package in sorted(needed, key=lambda package: package.name)
    }


def obstacle(name: str, settings: Settings) -> str | None:
    """Why the engine cannot run here, and how to install the missing part. Returns None if it can run.

    Raises PermanentFailure for a name that is not an engine's.
    """
    spec = spec_of(name)
    for package in spec.python_packages:
        if package.version is None:
            return f"engine {name} needs the package {package.name}: {package.install}"
    if spec.in_r_service(settings) or (spec.r_packages and not is_checkout() and installed_version(RPY2) is None):
        needed = {"R_IRT_BASE_URL": settings.r_irt_base_url, "R_IRT_INTERNAL_TOKEN": settings.r_irt_internal_token}
        missing = " and ".join(setting for setting, value in needed.items() if value is None)
        return f"engine {name} calls the R IRT service: set {missing} (docs/how-to/r-service.md)" if missing else None
    return _r_obstacle(spec) if spec.r_packages else None


def build(name: str, settings: Settings) -> Calibrator:
    """Build the engine with this name, with the threads, the time limit and the R IRT service of the settings.

    Raises PermanentFailure if there is no such engine, or if it cannot run here.
    """
    absence = obstacle(name, settings)
    if absence is not None:
        raise PermanentFailure(absence)
    return spec_of(name).build(settings)


def _r_obstacle(spec: EngineSpec) -> str | None:
    runtime = r_runtime(tuple(package.name for package in r_packages()))
    if runtime is None or missing_r(runtime):
        return f"engine {spec.name} needs {missing_r(runtime)}"
    for package in spec.r_packages:
        if runtime.packages[package.name] is None:
            return f"engine {spec.name} needs the R package {package.name}: {package.install}"
    return None

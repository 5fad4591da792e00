"""Findings of `irt doctor` about the engines: whether their packages are installed, and whether they fit months."""

from collections.abc import Iterator

import requests
from pydantic import SecretStr

from irt_assets.engines import registry
from irt_assets.engines.registry import DEFAULT, enabled_scales, obstacle, r_packages
from resources.doctor import Finding
from resources.r_runtime import INSTALL_R, RPY2, r_runtime
from resources.settings import Settings
from resources.version import installed_version, way_to_install


def engine_findings(settings: Settings) -> Iterator[Finding]:
    """Findings about the engines and the packages and services that the optional engines need."""
    yield Finding(f"engine {DEFAULT}", "ok", "built in")
    yield from _r()
    for spec in registry.ENGINES:
        for package in spec.python_packages:
            need = f"only the engine {spec.name} needs it"
            yield _package(package.name, package.version, need, package.install)
    if settings.r_irt_base_url is not None:
        yield from _r_service(settings, settings.r_irt_base_url, settings.r_irt_internal_token)
    for spec in registry.ENGINES:
        if spec.for_comparison and not spec.in_r_service(settings):
            yield _usage_finding(settings, spec.name, obstacle(spec.name, settings))


def _r() -> Iterator[Finding]:
    needed = r_packages()
    users = " and ".join(spec.name for spec in registry.ENGINES if spec.r_packages)
    need = f"only the engines {users} need it"
    runtime = r_runtime(tuple(package.name for package in needed))
    if runtime is None:
        debian = [package.debian for package in needed if package.debian is not None]
        yield Finding("R", "absent", need, " ".join([INSTALL_R, *debian]))
    else:
        yield Finding("R", "ok", runtime.version)
        for package, names in needed.items():
            of_these = f"only the engine {' and '.join(names)} needs it"
            yield _package(f"R package {package.name}", runtime.packages[package.name], of_these, package.install)
    yield _package(RPY2, installed_version(RPY2), need, way_to_install("r"))


def _usage_finding(settings: Settings, engine: str, absence: str | None) -> Finding:
    """Whether an optional engine fits months, and why not."""
    subject = f"engine {engine}"
    fitting = enabled_scales(settings)
    if engine in fitting:
        scales = fitting[engine]
        where = "all scales" if scales is None else f"scale {', '.join(sorted(scales))}"
        if absence:
            return Finding(subject, "error", f"IRT_ENGINES enables it for {where}, but it cannot run: {absence}")
        return Finding(subject, "ok", f"fits every month of {where}, besides {DEFAULT}")
    if absence:
        return Finding(subject, "absent", absence)
    setting = ",".join(filter(None, [settings.irt_engines, engine]))
    fix = f"To fit each month with it too, besides {DEFAULT}: IRT_ENGINES={setting}."
    return Finding(subject, "ok", "installed, not enabled", fix)


def _r_service(settings: Settings, url: str, token: SecretStr | None) -> Iterator[Finding]:
    """Findings about the R IRT service: whether it answers, accepts the token and has the engines."""
    subject = "R IRT service"
    if token is None:
        yield Finding(subject, "error", f"{url}, without R_IRT_INTERNAL_TOKEN", "Set the token of the service.")
        return
    shown = {"Authorization": f"Bearer {token.get_secret_value()}"}
    try:
        health = requests.get(f"{url}/healthz", timeout=5).json()
        accepted = requests.post(f"{url}/irt/score", data="{}", headers=shown, timeout=30).status_code != 401
        engines, loading, not_loaded = set(health["engines"]), set(health["loading"]), dict(health["not_loaded"])
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        fix = "Check R_IRT_BASE_URL, and that the service runs (docs/how-to/r-service.md)."
        yield Finding(subject, "error", f"{url} does not answer like the R IRT service: {type(error).__name__}", fix)
        return
    if accepted:
        yield Finding(subject, "ok", f"{url}, R {health['versions']['R']}")
    else:
        yield Finding(subject, "error", f"{url} rejects R_IRT_INTERNAL_TOKEN", "Set the token of the service.")
    for engine in (spec.name for spec in registry.ENGINES if spec.for_comparison and spec.in_r_service(settings)):
        version = f"{engine} {health['versions'].get(engine)} in the R IRT service"
        if engine in engines:
            yield Finding(f"engine {engine}", "ok", version)
        elif engine in loading:
            yield Finding(f"engine {engine}", "warn", f"{version}, which still loads it", "Try again in a minute.")
        elif engine in not_loaded:
            why = f"it does not load where the R IRT service runs, {url}: {not_loaded[engine]}"
            yield _usage_finding(settings, engine, why)
        else:
            yield _usage_finding(settings, engine, f"not installed where the R IRT service runs, {url}")


def _package(subject: str, version: str | None, need: str, install: str) -> Finding:
    return Finding(subject, "ok", version) if version else Finding(subject, "absent", need, install)

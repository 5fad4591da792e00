"""The registry of engines: names, reasons of absence, and adapters with a common signature."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from irt_assets.engines import registry
from irt_assets.engines.em import EmEngine
from irt_assets.engines.r_engines import REngine
from irt_assets.engines.spec import PythonPackage
from irt_psychometrics import PsychometricsError
from irt_psychometrics.responses import Responses
from resources.failures import PermanentFailure
from resources.settings import Settings
from tests.helpers.what_changed import WHERE_ENGINES_CHANGE
from tests.testbed.patience import patient

PLAIN = Settings(_env_file=None)


def test_default_engine_is_always_installed_and_uses_the_set_number_of_threads() -> None:
    assert registry.obstacle("em", PLAIN) is None
    built = registry.build("em", Settings(irt_threads=1, _env_file=None))
    assert isinstance(built, EmEngine)
    assert built.threads == 1


def test_unknown_engine_is_refused_with_a_list_of_known_engines() -> None:
    with pytest.raises(PermanentFailure, match=r"unknown engine 'girth'; known engines: em, mirt, pymc, brms, remote"):
        registry.obstacle("girth", PLAIN)


def test_reading_every_spec_imports_no_slow_package() -> None:
    program = "import sys, irt_assets.engines.registry; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=patient(60))
    imported = {name.partition(".")[0] for name in ran.stdout.split()}
    assert not {"numpy", "pyarrow", "pydantic", "pymc", "requests", "rpy2"} & imported


@pytest.mark.parametrize("name", registry.names())
def test_only_installed_engines_can_be_built(name: str) -> None:
    absence = registry.obstacle(name, PLAIN)
    if absence is None:
        assert registry.build(name, PLAIN).name == name
    else:
        with pytest.raises(PermanentFailure, match=f"engine {name} "):
            registry.build(name, PLAIN)


def test_error_gives_the_command_that_installs_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PythonPackage, "version", None)
    with pytest.raises(PermanentFailure, match="make venv EXTRAS=bayes"):
        registry.build("pymc", PLAIN)


def test_engines_in_r_use_the_r_service_if_its_address_is_set() -> None:
    settings = Settings(
        r_irt_base_url="http://r-irt:8000",
        r_irt_internal_token="hidden",
        irt_engine_timeout_minutes=1,
        _env_file=None,
    )
    for name, engine in (("remote", "mirt"), ("mirt", "mirt"), ("brms", "brms")):
        assert registry.obstacle(name, settings) is None
        built = registry.build(name, settings)
        assert isinstance(built, REngine)
        service = built.call.__self__  # type: ignore[attr-defined]
        fits = "brms" if built.sampling else "mirt"
        assert (built.name, fits, service.base_url) == (name, engine, "http://r-irt:8000")
        assert service.seconds > 60.0
        assert "hidden" not in repr(built)


@pytest.mark.parametrize(
    ("given", "missing"),
    [({}, "R_IRT_BASE_URL and R_IRT_INTERNAL_TOKEN"), ({"r_irt_base_url": "http://r-irt"}, "R_IRT_INTERNAL_TOKEN")],
)
def test_remote_engine_names_the_settings_that_are_missing(given: dict[str, str], missing: str) -> None:
    settings = Settings(**given, _env_file=None)
    message = f"engine remote calls the R IRT service: set {missing} (docs/how-to/r-service.md)"
    assert registry.obstacle("remote", settings) == message


@pytest.mark.parametrize(
    ("value", "enabled"),
    [
        ("", {}),
        ("pymc", {"pymc": None}),
        (" brms , pymc ", {"pymc": None, "brms": None}),
        ("maths:brms,mirt", {"mirt": None, "brms": frozenset({"maths"})}),
        ("maths:pymc,reading:pymc", {"pymc": frozenset({"maths", "reading"})}),
        ("maths:pymc,pymc", {"pymc": None}),
        ("a:b:pymc", {"pymc": frozenset({"a:b"})}),
    ],
)
def test_engines_are_enabled_for_all_or_for_listed_scales_in_the_order_of_a_month(value: str, enabled: dict) -> None:
    found = registry.enabled_scales(Settings(irt_engines=value, _env_file=None))
    assert list(found.items()) == list(enabled.items())


@pytest.mark.parametrize("value", ["stan", "pymc;mirt", "maths:", ":pymc", "em"])
def test_invalid_entry_of_irt_engines_is_refused_with_a_list_of_engines(value: str) -> None:
    with pytest.raises(PermanentFailure, match=r"setting IRT_ENGINES: every entry .* one of mirt, pymc, brms"):
        registry.enabled_scales(Settings(irt_engines=value, _env_file=None))


@WHERE_ENGINES_CHANGE
def test_engine_adapter_records_its_name_its_version_and_the_data_hash() -> None:
    scores = (np.random.default_rng(12).random((200, 5)) < 0.5).astype(float)
    fit = EmEngine(threads=1).calibrate(Responses.from_wide(scores), model="rasch", data_hash="sha256:1")
    assert (fit.engine, fit.model, fit.data_hash) == ("em", "rasch", "sha256:1")
    assert fit.engine_version not in ("", "unknown")


def test_engines_name_the_models_they_fit() -> None:
    """An item of two scores is the same in the 2PL and among graded items."""
    assert registry.spec_of("brms").one_model(("grm", "2pl")) == "grm"
    for engine, model in (("brms", "3pl"), ("brms", ("gpcm", "2pl")), ("pymc", ("3pl", "grm")), ("pymc", "gpcm")):
        with pytest.raises(PsychometricsError, match=f"the {engine} engine fits rasch, .*grm; got model"):
            registry.spec_of(engine).one_model(model)

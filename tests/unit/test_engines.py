"""The registry of engines: names, reasons of absence, adapters of one signature."""

from __future__ import annotations

import pytest

from irt_assets import engines
from irt_assets.engines.em import EmEngine
from irt_assets.engines.remote import RemoteEngine
from resources.failures import PermanentFailure


def test_the_default_engine_is_always_there_and_takes_the_threads() -> None:
    assert engines.installed("em") is None
    built = engines.build("em", threads=1)
    assert isinstance(built, EmEngine)
    assert built.threads == 1


def test_a_name_that_is_no_engines_is_refused_with_those_that_are() -> None:
    with pytest.raises(PermanentFailure, match=r"no engine 'girth'; there are em, pymc, mirt, brms, remote"):
        engines.installed("girth")


@pytest.mark.parametrize("name", engines.NAMES)
def test_an_engine_can_be_built_exactly_where_it_is_installed(name: str) -> None:
    absence = engines.installed(name)
    if absence is None:
        assert engines.build(name).name == name
    else:
        with pytest.raises(PermanentFailure, match=f"engine {name} "):
            engines.build(name)


def test_a_missing_package_is_named_with_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    assert "make venv EXTRAS=bayes" in (engines.installed("pymc") or "")


def test_where_the_r_service_is_set_the_engines_in_r_run_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R_IRT_BASE_URL", "http://r-irt:8000")
    monkeypatch.setenv("R_IRT_INTERNAL_TOKEN", "hidden")
    for name, engine in (("remote", "mirt"), ("mirt", "mirt"), ("brms", "brms")):
        assert engines.installed(name) is None
        built = engines.build(name, timeout_s=60.0)
        assert isinstance(built, RemoteEngine)
        assert (built.name, built.engine, built.service.base_url) == (name, engine, "http://r-irt:8000")
        assert built.service.seconds > 60.0
        assert "hidden" not in repr(built)


@pytest.mark.parametrize(
    ("settings", "missing"),
    [({}, "R_IRT_BASE_URL and R_IRT_INTERNAL_TOKEN"), ({"R_IRT_BASE_URL": "http://r-irt"}, "R_IRT_INTERNAL_TOKEN")],
)
def test_the_remote_engine_names_the_settings_it_wants(
    settings: dict[str, str], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert (
        engines.installed("remote")
        == f"engine remote calls the R IRT service: set {missing} (docs/how-to/r-service.md)"
    )

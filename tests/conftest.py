"""Fixtures for all tests of the platform: a clean environment and a separate database.

No test reads the developer's environment or writes outside its temporary folder.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from importlib import import_module
from itertools import count
from pathlib import Path

import pytest

from resources.files.object_store import ObjectStore, object_store
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import KUBERNETES, Settings, get_settings
from tests.helpers.databases import empty_template, run_folder, server_of_the_run, template_copy
from tests.testbed import patience

# As in `cli.main`: if the tests run in the background, Dagster's copiers of output would ignore SIGTERM.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The first process of a run measures the slowness, and its workers use the same value.
os.environ.setdefault(patience.VARIABLE, f"{patience.measure_slowness():.2f}")

# Many containers set this variable. Each process would then compile every module that it imports, for seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The tests may run in a pod themselves, and keep their files on its disk.
os.environ.pop(KUBERNETES, None)

# Modules loaded during collection are never freed: the garbage collector pauses meanwhile and ignores them later.
gc.disable()

pytest_plugins = [
    "psychometrics_testbed.fixtures",
    *(f"tests.helpers.{name}" for name in ("record", "selection", "groups", "leftovers", "pictures")),
]

homes = count()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.option.timeout = patience.patient(float(config.getini("timeout")))
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        # Not in the process that only starts workers: they would wait while it imports the product.
        config.pluginmanager.register(import_module("tests.helpers.worlds"), "worlds")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exempt loaded modules from garbage collection, also in the process that only starts workers."""
    found = yield
    gc.freeze()
    gc.enable()
    return found


@pytest.fixture(autouse=True)
def clean_environment(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Unset all settings, and give the test its own IRT_HOME: below `tmp_path` if the test uses that fixture, whose
    folder takes longer to make than most tests."""
    for name in [*Settings.model_fields, "irt_env_file"]:
        monkeypatch.delenv(name.upper(), raising=False)
    if "tmp_path" in request.fixturenames:
        home = request.getfixturevalue("tmp_path") / "irt"
    else:
        home = tmp_path_factory.getbasetemp() / f"home-{next(homes)}"
    monkeypatch.setenv("IRT_HOME", str(home))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The PostgreSQL server that all tests share."""
    with server_of_the_run(run_folder(tmp_path_factory)) as server:
        yield server


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the server that the workers share, in the process that started them."""
    if getattr(session.config.option, "numprocesses", None):
        folder = session.config._tmp_path_factory.getbasetemp() / "postgres"  # type: ignore[attr-defined]
        EmbeddedPostgres(folder).stop()


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """Name of a migrated database that others are copied from; nothing may stay connected to it."""
    return empty_template(postgres)


@pytest.fixture
def settings(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings with the test's own home and its own migrated, empty database."""
    with template_copy(postgres, migrated_template, tmp_path / "irt") as settings:
        yield settings


@pytest.fixture
def database(settings: Settings) -> Database:
    return Database(settings)


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return object_store(settings)

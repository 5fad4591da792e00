"""What tests share: a clean environment, reference material, a database of their own.

No test reads the developer's environment or writes outside its temporary folder.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import hypothesis
import psycopg
import pytest
from pydantic import SecretStr

from resources.database import Database
from resources.embedded_postgres import EmbeddedPostgres
from resources.object_store import ObjectStore, object_store
from resources.schema import upgrade
from resources.settings import KUBERNETES, Settings, get_settings

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# As in `cli.main`: where the tests run in the background, Dagster's copiers of output would ignore SIGTERM.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests may run in a pod themselves, and keep what they make on its disk.
os.environ.pop(KUBERNETES, None)

pytest_plugins = ["tests.helpers.worlds"]

TEMPLATE = "template_irt"
numbers = count(1)


@pytest.fixture(scope="session")
def require() -> Callable[[bool, str], None]:
    """`require(present, what)` skips where `what` is absent, and fails where everything is meant to be there."""

    def check(present: bool, what: str) -> None:
        if present:
            return
        if os.environ.get("IRT_REQUIRE_ALL") == "1":
            pytest.fail(f"{what}: absent, and IRT_REQUIRE_ALL=1")
        pytest.skip(f"{what}: absent")

    return check


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Settings as if nothing were set, and an IRT_HOME that vanishes with the test."""
    for name in [*Settings.model_fields, "irt_env_file"]:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("IRT_HOME", str(tmp_path / "irt"))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def shared(require: Callable[[bool, str], None]) -> Path:
    """Reference material and real logs: $IRT_SHARED, else `shared` beside the repository."""
    folder = Path(os.environ.get("IRT_SHARED", Path(__file__).parents[2] / "shared")).absolute()
    require(folder.is_dir(), f"shared folder {folder}")
    return folder


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server for the whole session."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """URL of a migrated database that others are copied from; nothing may stay connected to it."""
    url = _sibling(postgres.start(), TEMPLATE)
    with psycopg.connect(postgres.start(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    upgrade(Database(Settings(database_url=SecretStr(url), _env_file=None)))
    return url


@pytest.fixture
def settings(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings with an own home and an own, migrated, empty database."""
    admin = postgres.start()
    name = f"test_{next(numbers)}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield Settings(irt_home=tmp_path / "irt", database_url=SecretStr(_sibling(admin, name)), _env_file=None)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(settings: Settings) -> Database:
    return Database(settings)


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return object_store(settings)


def _sibling(url: str, database: str) -> str:
    """The URL of another database of the same server."""
    return f"{url.rpartition('/')[0]}/{database}"

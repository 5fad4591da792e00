"""Fixtures of this folder in addition to `tests.helpers.worlds`: the command line, a webhook, and a month that
Dagster has materialised."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from irt_assets.decisions.origin import initialise
from irt_assets.runs.in_process_runs import run_month
from irt_assets.servers.instance import dagster_instance
from resources.postgres import schema, schema_version
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers import next_migration, rooms
from tests.helpers.databases import made_once, template_copy
from tests.helpers.typed import Irt, IrtOf, command_line
from tests.helpers.worlds import OF_MONTHS
from tests.integration.sinks import HttpSink, http_sink


@pytest.fixture
def irt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> IrtOf:
    """`irt(settings)` returns a command line whose environment contains these settings."""

    def run_with(settings: Settings) -> Irt:
        monkeypatch.setenv("IRT_HOME", str(settings.irt_home))
        monkeypatch.setenv("IRT_FIRST_MONTH", settings.irt_first_month)
        if settings.irt_pull_sources is not None:
            monkeypatch.setenv("IRT_PULL_SOURCES", str(settings.irt_pull_sources))
        if settings.database_url is not None:
            monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
        return command_line(monkeypatch, capsys)

    return run_with


@pytest.fixture
def http() -> Iterator[HttpSink]:
    with http_sink() as sink:
        yield sink


@pytest.fixture
def next_version(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the code be one migration ahead of `database`. Returns the revision of the migration."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema_version.VERSIONS.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    versions, config = folder / "versions", schema._alembic()
    shutil.copy(next_migration.__file__, versions / f"{next_migration.revision}.py")
    config.set_main_option("script_location", str(folder))
    monkeypatch.setattr(schema_version, "VERSIONS", versions)
    monkeypatch.setattr(schema, "_alembic", lambda: config)
    return next_migration.revision


@pytest.fixture
def made_month(postgres: EmbeddedPostgres, small_truth: object, tmp_path: Path) -> Iterator[Settings]:
    """The small world whose first month a run in this process has made. Dagster's tables contain that run."""
    made_once(postgres, "template_made_month", "template_rooms", _make_first_month, **OF_MONTHS)
    with template_copy(postgres, "template_made_month", tmp_path, **OF_MONTHS) as settings:
        yield settings


def _make_first_month(settings: Settings) -> None:
    database = Database(settings)
    initialise(database, rooms.SCALE, first_month=rooms.MONTHS[0], thresholds=rooms.LOWERED)
    with dagster_instance(settings, database) as instance:
        assert run_month(instance, settings, rooms.MONTHS[0]).success

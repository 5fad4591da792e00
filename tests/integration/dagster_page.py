"""The Dagster UI as it is served, behind our layer, and requests to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dagster import DagsterInstance
from starlette.types import ASGIApp

from irt_assets.servers.instance import dagster_instance
from irt_assets.webserver.__main__ import guard_ui, login
from jobs.launching.launched_by import tags_of_backfill
from resources.dagster_compat import webserver_app
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.asgi import Answer, ask

JSON = {"content-type": "application/json"}
GO = "mutation { setAutoMaterializePaused(paused: false) }"
PAUSED = "{ instance { autoMaterializePaused } }"


@pytest.fixture(scope="module")
def settings(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("page")
    with rooms.copied(postgres.start(), migrated_template, "webserver", home) as settings:
        yield settings


@pytest.fixture(scope="module")
def instance(settings: Settings) -> Iterator[DagsterInstance]:
    with dagster_instance(settings, Database(settings)) as instance:
        yield instance


@contextmanager
def serve_page(
    settings: Settings, *, read_only: bool = False, locations: str = "[]", **changes: Any
) -> Iterator[ASGIApp]:
    """The application of the webserver's process, with these code locations."""
    settings = settings.model_copy(update=changes)
    workspace = settings.irt_home / "workspace.yaml"
    workspace.write_text(f"load_from: {locations}\n")
    prefix, verifier = settings.ui_prefix, login(settings)
    with webserver_app(
        workspace, path_prefix=prefix, read_only=read_only, tags_of_backfill=tags_of_backfill
    ) as dagster:
        yield guard_ui(dagster, settings, verifier, read_only=read_only)


def post(app: ASGIApp, query: str, path: str = "/graphql", **headers: str) -> Answer:
    return ask(app, "POST", path, JSON | headers, body=json.dumps({"query": query}).encode())

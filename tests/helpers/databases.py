"""The PostgreSQL of a run of the tests, its templates, and copies of them.

One server serves all workers. A template, which is a database and its files, is built once, by the first worker that
needs it. Every test works on a copy, whose name contains the worker's name. `worlds` fills the templates.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import psycopg
import pytest
from pydantic import SecretStr

from resources.files.folder_claim import ID_FILE, adopt_folder
from resources.postgres import embedded_postgres
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.postgres.server_account import surroundings
from resources.settings import Settings
from tests.helpers import new_year

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
UNSAFE = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "400",
    "autovacuum": "off",
}
"""Fast and unsafe settings, as no data of this server outlives the run and several workers share it."""
EMPTY = "template_irt"
"""Template with the schema and without rows."""
READ_ONLY = ("SET default_transaction_read_only = on", "RESET default_transaction_read_only")
"""Arguments of `altered` for a database that can only be read, as after a failover."""
CUT_OFF_WITHIN_S = 60
T = TypeVar("T")
numbers = count(1)


def run_folder(folders: pytest.TempPathFactory) -> Path:
    """The temporary folder that the workers of a run share."""
    own = folders.getbasetemp()
    return own if WORKER == "main" else own.parent


@contextmanager
def server_of_the_run(folder: Path) -> Iterator[EmbeddedPostgres]:
    """Yields the server, which the first worker starts. It stops here, or in `stop_server` if the run has workers."""
    server = EmbeddedPostgres(folder / "postgres")
    around = surroundings()
    around["env"] |= {name: os.environ[name] for name in new_year.VARIABLES if name in os.environ}
    with (
        patch.dict(embedded_postgres.SERVER_SETTINGS, UNSAFE),
        patch.object(embedded_postgres, "surroundings", lambda: around),
    ):
        server.start()
    try:
        yield server
    finally:
        if WORKER == "main":
            server.stop()


@contextmanager
def database_copy(server: str, template: str, name: str) -> Iterator[str]:
    """Yields the URL of a copy of a database, dropped at the end. Its name is `name` and the worker's name."""
    own = f"{name}_{WORKER}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {own} TEMPLATE {_known(connection, template)} STRATEGY FILE_COPY".encode())
    try:
        yield f"{server.rpartition('/')[0]}/{own}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {own} WITH (FORCE)".encode())


def _known(connection: psycopg.Connection, template: str) -> str:
    """Returns the worker's own template of this name, or else the run's."""
    own = f"{template}_{WORKER}"
    row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (own,)).fetchone()
    return own if row else template


def empty_template(server: EmbeddedPostgres) -> str:
    """Returns the name of the template of all other templates."""
    made_once(server, EMPTY, "template1", lambda settings: upgrade(Database(settings)))
    return EMPTY


def made_once(server: EmbeddedPostgres, name: str, template: str, fill: Callable[[Settings], T], **others: Any) -> T:
    """Build the template `name` once. Returns the value of `fill`, called in this process or another one.

    `fill` gets settings of a copy of the template `template`, including `others`, and must close its connections.
    """
    folder = server.folder.parent / "templates" / name
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "result.pickle"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            url = server.start()
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
                connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY".encode())
            shutil.rmtree(folder / "home", ignore_errors=True)
            files = folder.with_name(template) / "home"
            if files.exists():
                shutil.copytree(files, folder / "home")
            own = f"{url.rpartition('/')[0]}/{name}"
            made = fill(_settings(own, folder / "home", **others))
            with psycopg.connect(own, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")  # autovacuum is off, and a query without statistics took 30 s
            part = folder / "result.part"
            part.write_bytes(pickle.dumps(made))
            part.rename(result)
    loaded: T = pickle.loads(result.read_bytes())
    return loaded


@contextmanager
def template_copy(server: EmbeddedPostgres, name: str, home: Path, **others: Any) -> Iterator[Settings]:
    """Yields settings of a copy of a template built by `made_once`, with its own database and its own files in `home`.

    `others` are further settings.
    """
    files = server.folder.parent / "templates" / name / "home"
    if files.exists():
        shutil.copytree(files, home, dirs_exist_ok=True)
    with database_copy(server.start(), name, f"{name}_{next(numbers)}") as url:
        settings = _settings(url, home, **others)
        mark = home / "objects" / ID_FILE
        if mark.exists():
            mark.unlink()
            adopt_folder(settings, Database(settings))
        yield settings


def _settings(url: str, home: Path, **others: Any) -> Settings:
    return Settings(irt_home=home, database_url=SecretStr(url), _env_file=None, **others)


@contextmanager
def altered(settings: Settings, change: str, back: str) -> Iterator[None]:
    """Context in which `ALTER DATABASE … change` is in force. It closes the connections open at its start."""
    server, _, name = Database(settings).url.rpartition("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} {change}".encode())
        try:
            admin.execute(
                """SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity
                   WHERE datname = %s AND pid <> pg_backend_pid()""",
                (1000 * CUT_OFF_WITHIN_S, name),
            )
            yield
        finally:
            admin.execute(f"ALTER DATABASE {name} {back}".encode())

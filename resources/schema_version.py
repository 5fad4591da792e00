"""Whether the schema in a database is one that this code works with.

What does not belong here: how a schema is changed (see `schema`, `migrations`).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from resources.database import Database
from resources.failures import PermanentFailure, explain, is_transient
from resources.service_manager import is_supervised
from resources.settings import Settings, private_home

if TYPE_CHECKING:
    import sqlalchemy as sa

LOG = logging.getLogger(__name__)
VERSION_TABLE = "irt_alembic_version"
PAUSE_S = 1.0
VERSIONS = Path(__file__).parent / "migrations" / "versions"


@dataclass(frozen=True)
class SchemaVersion:
    """`revision` of the newest migration that ran (None: none did); `oldest_code`: the oldest revision whose code it
    serves."""

    revision: str | None
    oldest_code: str | None = None

    @property
    def is_newer(self) -> bool:
        """Whether a migration ran that this code does not have."""
        return number(self.revision) > newest_known()

    @property
    def fault(self) -> str | None:
        """Why this code must not work with it, and the way out; None where it may."""
        if self.revision is None:
            return "the database has no schema yet: run `irt db upgrade`"
        if number(self.revision) < newest_known():
            return (
                f"the schema in the database is at {self.revision}, this code needs {newest_known():04d}: "
                "run `irt db upgrade`"
            )
        if number(self.oldest_code or self.revision) > newest_known():
            return (
                f"the schema in the database is at {self.revision} and serves code from "
                f"{self.oldest_code or self.revision} on; this code knows it up to {newest_known():04d} only: "
                "install the newer irt-assets, or let that one run `irt db downgrade`"
            )
        return None


def open_database(settings: Settings) -> Database:
    """The database of a command. An embedded one that is new gets its schema first; a service waits for its database.

    Raises PermanentFailure where the schema is not one that this code works with.
    """
    if settings.irt_home.is_dir():
        private_home(settings)
    database = Database(settings)
    if is_supervised():
        _wait_until_it_answers(database)
    version = schema_version(database)
    if version.revision is None and settings.database_url is None:
        from resources.schema import upgrade  # Alembic takes a second to load

        LOG.info("making the database in %s", settings.irt_home)
        upgrade(database)
    elif version.fault:
        raise PermanentFailure(version.fault)
    return database


def _wait_until_it_answers(database: Database) -> None:
    """If a server exited here, its service manager would restart it again and again and then give up."""
    announced = False
    while True:
        try:
            with database.connect():
                return
        except psycopg.OperationalError as error:
            if not is_transient(error):
                raise
            if not announced:
                LOG.warning("the database does not answer, waiting for it: %s", explain(error) or error)
                announced = True
            time.sleep(PAUSE_S)


def schema_version(database: Database) -> SchemaVersion:
    """The schema's version in `database`, read without Alembic."""
    with database.connect() as connection:
        try:
            row = connection.execute(f"SELECT to_jsonb(v) FROM {VERSION_TABLE} v").fetchone()
        except psycopg.errors.UndefinedTable:
            return SchemaVersion(None)
    return SchemaVersion(row[0]["version_num"], row[0].get("oldest_code")) if row else SchemaVersion(None)


def record_oldest_code(connection: sa.Connection, revision: str, oldest_code: str) -> None:
    """Write down the oldest migration whose code works with the schema at `revision`."""
    if number(revision) >= FIRST_RECORDED:
        import sqlalchemy as sa  # only migrations come here, which have it

        statement = sa.text(f"UPDATE {VERSION_TABLE} SET oldest_code = :oldest_code")
        connection.execute(statement, {"oldest_code": oldest_code})


FIRST_RECORDED = 14
"""The migration that made room for it."""


def newest_known() -> int:
    """The number of the newest migration of this code."""
    return max(int(path.name[:4]) for path in VERSIONS.glob("[0-9][0-9][0-9][0-9]*.py"))


def number(revision: str | None) -> int:
    """Revisions begin with their number: `0011_anchor_versions`."""
    return int(revision[:4]) if revision else 0

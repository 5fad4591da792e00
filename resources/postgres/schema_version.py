"""Version of the schema in a database, and whether this code works with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.postgres.own_schema import VERSION_TABLE

VERSIONS = Path(__file__).parents[1] / "migrations" / "versions"
COMMIT_OF_FIRST_SCHEMA = "ae35023e89cca30961bcd629598fabfdd4eb24ba"
"""The commit whose code upgrades an older database to the first schema from which this code can upgrade."""
REMEDY = f"`git checkout {COMMIT_OF_FIRST_SCHEMA}`, run `irt db upgrade` with that code, then again with this code"


@dataclass(frozen=True)
class SchemaVersion:
    """Version of a schema.

    Attributes:
        revision: the newest migration that has run, or None if there is no schema.
        oldest_code: the oldest revision whose code works with this schema.
    """

    revision: str | None
    oldest_code: str | None = None

    @property
    def is_newer(self) -> bool:
        """Whether a migration has run that this code does not have."""
        return number(self.revision) > newest_revision()

    @property
    def can_be_upgraded(self) -> bool:
        """Whether this code's migrations can upgrade it. False if it is newer, or older than the first migration."""
        return self.revision is None or first_revision() <= number(self.revision) <= newest_revision()

    @property
    def fault(self) -> str | None:
        """The reason why this code must not work with it, and the remedy. Returns None if it may."""
        if self.revision is None:
            return "the database has no schema yet: run `irt db upgrade`"
        if number(self.revision) < first_revision():
            return (
                f"the schema in the database is at {self.revision}, and this code upgrades from "
                f"{first_revision():04d} on: {REMEDY}"
            )
        if number(self.revision) < newest_revision():
            return (
                f"the schema in the database is at {self.revision}, this code needs {newest_revision():04d}: "
                "run `irt db upgrade`"
            )
        if number(self.oldest_code or self.revision) > newest_revision():
            return (
                f"the schema in the database is at {self.revision} and serves code from "
                f"{self.oldest_code or self.revision} on; this code supports it up to {newest_revision():04d} only: "
                "install the newer irt-assets, or run `irt db downgrade` with it"
            )
        return None


def schema_version(database: Database) -> SchemaVersion:
    """The version of the schema in `database`, read without Alembic."""
    with database.connect() as connection:
        try:
            row = connection.execute(f"SELECT to_jsonb(v) FROM {VERSION_TABLE} v").fetchone()
        except psycopg.errors.UndefinedTable:
            return SchemaVersion(None)
    return SchemaVersion(row[0]["version_num"], row[0].get("oldest_code")) if row else SchemaVersion(None)


class SchemaMisfit(PermanentFailure):
    """The schema does not fit this code."""


@contextmanager
def schema_compared(database: Database) -> Iterator[None]:
    """Raise SchemaMisfit for an error of a query, such as a missing table, if the schema does not fit this code.

    For servers: a schema may be downgraded while they run. If the database is lost meanwhile, psycopg's
    OperationalError leaves the block, as for any query.
    """
    try:
        yield
    except psycopg.ProgrammingError as error:
        if fault := schema_version(database).fault:
            raise SchemaMisfit(fault) from error
        raise


def first_revision() -> int:
    """The number of the migration that creates the first schema."""
    return min(_revision_numbers())


def newest_revision() -> int:
    """The number of the newest migration of this code."""
    return max(_revision_numbers())


def _revision_numbers() -> list[int]:
    return [number(path.name) for path in VERSIONS.glob("[0-9][0-9][0-9][0-9]*.py")]


def number(revision: str | None) -> int:
    """The number with which a revision begins: 11 for `0011_anchor_versions`, 0 for None."""
    return int(revision[:4]) if revision else 0

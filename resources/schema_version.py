"""Whether the schema in a database is one that this code works with.

What does not belong here: how a schema is changed (see `schema`, `migrations`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from resources.database import Database

if TYPE_CHECKING:
    import sqlalchemy as sa

VERSION_TABLE = "irt_alembic_version"
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

"""Whether the schema in a database is one that this code works with.

What does not belong here: how a schema is changed (see `schema`, `migrations`).
"""

from dataclasses import dataclass
from pathlib import Path

import psycopg

from resources.postgres.database import Database
from resources.postgres.own_schema import VERSION_TABLE

VERSIONS = Path(__file__).parents[1] / "migrations" / "versions"
COMMIT_OF_FIRST_SCHEMA = "ae35023e89cca30961bcd629598fabfdd4eb24ba"
"""The commit whose code brings an older home to the first schema that this code knows."""
REMEDY = f"`git checkout {COMMIT_OF_FIRST_SCHEMA}`, run `irt db upgrade` with that code, then again with this code"


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
    def can_be_upgraded(self) -> bool:
        """Whether migrations lead from it to this code's schema: not from a newer one, nor from before the first."""
        return self.revision is None or first_known() <= number(self.revision) <= newest_known()

    @property
    def fault(self) -> str | None:
        """Why this code must not work with it, and the way out; None where it may."""
        if self.revision is None:
            return "the database has no schema yet: run `irt db upgrade`"
        if number(self.revision) < first_known():
            return (
                f"the schema in the database is at {self.revision}, and this code upgrades from "
                f"{first_known():04d} on: {REMEDY}"
            )
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


def first_known() -> int:
    """The number of the migration that makes the first schema."""
    return min(_known())


def newest_known() -> int:
    """The number of the newest migration of this code."""
    return max(_known())


def _known() -> list[int]:
    return [number(path.name) for path in VERSIONS.glob("[0-9][0-9][0-9][0-9]*.py")]


def number(revision: str | None) -> int:
    """Revisions begin with their number: `0011_anchor_versions`."""
    return int(revision[:4]) if revision else 0

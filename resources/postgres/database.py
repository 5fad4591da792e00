"""The way to PostgreSQL: one `Database`, connecting lazily, always in UTC.

With no DATABASE_URL the embedded server is started (or attached to) at the first connection.
What does not belong here: SQL of any table (see `warehouse` and the packages of `irt_assets`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import class_row, dict_row

from resources.failures import PermanentFailure
from resources.postgres.database_url import (
    for_sqlalchemy,
    parameters,
    read_database_url,
    refused_value,
    with_search_path,
)
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.own_schema import PROOF, OwnSchema, find_own_schema, named_schema, path_option
from resources.serving.service_manager import started_by_systemd
from resources.settings import Settings, private_home, refuse_in_a_pod

if TYPE_CHECKING:
    import sqlalchemy as sa
    from psycopg.abc import Params
    from psycopg.abc import QueryNoTemplate as Query

T = TypeVar("T")

WAY_OUT = "set DATABASE_URL, or PGHOST, PGUSER, PGPASSWORD and PGDATABASE, to a PostgreSQL server"


class Connection(psycopg.Connection[Any]):
    """A connection that knows the settings of its database, and so the lake beside it."""

    settings: Settings


def database_settings(connection: psycopg.Connection) -> Settings:
    """The settings of the `Database` that opened the connection."""
    assert isinstance(connection, Connection)
    return connection.settings


class Database:
    """Connections to the database that `settings` names, which see our schema alone. Creating one touches nothing."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._own: OwnSchema | None = None
        self._sends_options = True

    @cached_property
    def url(self) -> str:
        """`postgresql://…`, of a server that runs: the embedded one is started if need be."""
        if self.settings.database_url is None:
            server = embedded_postgres(self.settings)
            private_home(self.settings)
            return server.start()
        return read_database_url(self.settings.database_url.get_secret_value())

    @property
    def dagster_url(self) -> str:
        """The address for Dagster's storage, which connects by psycopg2, to a schema of its own."""
        return for_sqlalchemy(with_search_path(self.url, self.settings.irt_dagster_schema), "psycopg2")

    @property
    def own(self) -> OwnSchema:
        """Our schema here. It is looked up by the first connection, and stays the same for this object."""
        if self._own is None:
            self.open().close()
        assert self._own is not None
        return self._own

    @property
    def schema(self) -> str:
        """The name of the schema of our tables."""
        return self._named or self.own.name

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection]:
        """One connection and one transaction: committed at the end, rolled back on an error."""
        with self.open() as connection:
            yield connection

    def open(self, options: str = "", **further: Any) -> Connection:
        """A connection to close, made with `arguments`. Raises PermanentFailure where it does not see our schema."""
        try:
            made = Connection.connect("", **self.arguments(options, **further))
        except psycopg.OperationalError as error:
            if fault := refused_value(error):
                raise fault from None
            if self._sends_options and "unsupported startup parameter" in str(error):
                self._sends_options = False
                return self.open(options, **further)
            raise
        made.settings = self.settings
        if self._own is None:
            asked = made.autocommit
            try:
                made.autocommit = True
                self._own = find_own_schema(made, self._named)
                made.autocommit = asked
            except BaseException:
                made.close()
                raise
        return made

    def arguments(self, options: str = "", **further: Any) -> dict[str, Any]:
        """What a connection is made with, by libpq's names. What DATABASE_URL says counts more than
        `options`, and less than `further`."""
        arguments = parameters(self.url) | {"application_name": "irt"} | further
        schema = self._own.name if self._own else self._named
        ours = f"-c timezone=UTC {PROOF} {path_option(schema) if schema else ''}"
        arguments["options"] = f"{options} {parameters(self.url).get('options', '')} {ours}".strip()
        if not self._sends_options:
            del arguments["options"]
        return arguments

    @property
    def _named(self) -> str | None:
        return named_schema(self.settings, parameters(self.url).get("options", ""))

    def engine(self) -> sa.Engine:
        import sqlalchemy as sa  # takes longer to load than most commands take

        return sa.create_engine("postgresql+psycopg://", creator=self.open)


def embedded_postgres(settings: Settings) -> EmbeddedPostgres:
    """The server used where DATABASE_URL is unset. Raises PermanentFailure in a pod, and in a unit of systemd."""
    refuse_in_a_pod("DATABASE_URL", "an embedded database", WAY_OUT)
    if started_by_systemd():
        raise PermanentFailure(
            f"DATABASE_URL is not set, and a unit of systemd has no embedded database: {WAY_OUT}, in its env file"
        )
    return EmbeddedPostgres(settings.irt_home / "postgres")


def records(connection: psycopg.Connection, of: type[T], query: Query, values: Params | None = None) -> list[T]:
    """The rows of a query, each as a record whose fields are named like its columns."""
    return connection.cursor(row_factory=class_row(of)).execute(query, values).fetchall()


def record(connection: psycopg.Connection, of: type[T], query: Query, values: Params | None = None) -> T | None:
    """The first row of a query as a record whose fields are named like its columns; None where there is none."""
    return connection.cursor(row_factory=class_row(of)).execute(query, values).fetchone()


def named_rows(connection: psycopg.Connection, query: Query, values: Params | None = None) -> list[dict[str, Any]]:
    """The rows of a query, each by the names of its columns."""
    return connection.cursor(row_factory=dict_row).execute(query, values).fetchall()


def first_column(connection: psycopg.Connection, query: Query, values: Params | None = None) -> list[Any]:
    """The first value of each row of a query."""
    return [row[0] for row in connection.execute(query, values)]


def one_value(connection: psycopg.Connection, query: Query, values: Params | None = None) -> Any:
    """The first column of a query's first row; None where it has no row."""
    row = connection.execute(query, values).fetchone()
    return row[0] if row else None


def advisory_lock(connection: psycopg.Connection, *parts: str) -> None:
    """Hold until the transaction ends: two writers of one thing meet here, the second waits."""
    connection.execute(f"SELECT pg_advisory_xact_lock({LOCK})", (lock_key(*parts),))


LOCK: LiteralString = (
    "(%s::bigint # CASE current_schema() WHEN 'public' THEN 0 ELSE hashtextextended(current_schema(), 0) END)"
)
"""The key of a lock in SQL, of which `lock_key` is the value: another one for each schema of ours, as locks are the
database's."""


def lock_key(*parts: str) -> int:
    """The number by which one installation knows the lock of one thing."""
    return int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:8], "big", signed=True)

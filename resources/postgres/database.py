"""Connections to PostgreSQL: a `Database` connects lazily, and always in UTC.

Without DATABASE_URL, the first connection starts the embedded server or uses the running one. What does not belong
here: SQL on tables (see `warehouse` and the packages of `irt_assets`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, LiteralString, ParamSpec, TypeVar

import psycopg
from psycopg.rows import class_row, dict_row

from resources.failures import PermanentFailure
from resources.postgres.database_url import (
    for_sqlalchemy,
    parameters,
    read_database_url,
    refusal_of_value,
    with_search_path,
)
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.own_schema import PROOF, OwnSchema, find_own_schema, named_schema, path_option
from resources.serving.service_manager import started_by_systemd
from resources.settings import Settings, private_home, refuse_in_a_pod

if TYPE_CHECKING:
    import sqlalchemy as sa
    from psycopg.abc import Params, QueryNoTemplate as Query

T = TypeVar("T")
P = ParamSpec("P")

REMEDY = "set DATABASE_URL, or PGHOST, PGUSER, PGPASSWORD and PGDATABASE, to a PostgreSQL server"


class Connection(psycopg.Connection[Any]):
    """A connection with the settings of its database, which also name the lake."""

    settings: Settings


def database_settings(connection: psycopg.Connection) -> Settings:
    """The settings of the `Database` that opened the connection."""
    assert isinstance(connection, Connection)
    return connection.settings


class Database:
    """Connections to the database of `settings`, which see only our schema. Creating the object does not connect."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._own: OwnSchema | None = None
        self._sends_options = True

    @cached_property
    def url(self) -> str:
        """Address of the server, `postgresql://…`. The embedded server is started if necessary."""
        if self.settings.database_url is None:
            server = embedded_postgres(self.settings)
            private_home(self.settings)
            return server.start()
        return read_database_url(self.settings.database_url.get_secret_value())

    @property
    def dagster_url(self) -> str:
        """The address for Dagster's storage, which connects by psycopg2 and has its own schema."""
        return for_sqlalchemy(with_search_path(self.url, self.settings.irt_dagster_schema), "psycopg2")

    @property
    def own(self) -> OwnSchema:
        """Our schema in this database. The first connection looks it up; then it stays the same for this object."""
        if self._own is None:
            self.open().close()
        assert self._own is not None
        return self._own

    @property
    def schema(self) -> str:
        """The name of the schema of our tables."""
        return self._schema_setting or self.own.name

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection]:
        """Open a connection with one transaction: committed at the end of the block, rolled back on an error."""
        with self.open() as connection:
            yield connection

    def call(
        self, function: Callable[Concatenate[psycopg.Connection, P], T], *arguments: P.args, **options: P.kwargs
    ) -> T:
        """Call a function with a connection and the arguments, in a transaction of its own. Returns its result."""
        with self.connect() as connection:
            return function(connection, *arguments, **options)

    def open(self, options: str = "", **further: Any) -> Connection:
        """Open a connection, which the caller closes. Its parameters are described in `arguments`.

        Raises PermanentFailure if the connection cannot see our schema.
        """
        try:
            connection = Connection.connect("", **self.arguments(options, **further))
        except psycopg.OperationalError as error:
            if fault := refusal_of_value(error):
                raise fault from None
            if self._sends_options and "unsupported startup parameter" in str(error):
                self._sends_options = False
                return self.open(options, **further)
            raise
        connection.settings = self.settings
        if self._own is None:
            autocommit = connection.autocommit
            try:
                connection.autocommit = True
                self._own = find_own_schema(connection, self._schema_setting)
                connection.autocommit = autocommit
            except BaseException:
                connection.close()
                raise
        return connection

    def arguments(self, options: str = "", **further: Any) -> dict[str, Any]:
        """Arguments of a connection, by libpq's names. DATABASE_URL overrides `options`, and `further` DATABASE_URL."""
        arguments = parameters(self.url) | {"application_name": "irt"} | further
        schema = self._own.name if self._own else self._schema_setting
        own_options = f"-c timezone=UTC {PROOF} {path_option(schema) if schema else ''}"
        arguments["options"] = f"{options} {parameters(self.url).get('options', '')} {own_options}".strip()
        if not self._sends_options:
            del arguments["options"]
        return arguments

    @property
    def _schema_setting(self) -> str | None:
        return named_schema(self.settings, parameters(self.url).get("options", ""))

    def engine(self) -> sa.Engine:
        import sqlalchemy as sa  # takes longer to load than most commands take

        return sa.create_engine("postgresql+psycopg://", creator=self.open)


def embedded_postgres(settings: Settings) -> EmbeddedPostgres:
    """The server that is used if DATABASE_URL is unset. Raises PermanentFailure in a pod and in a unit of systemd."""
    refuse_in_a_pod("DATABASE_URL", "an embedded database", REMEDY)
    if started_by_systemd():
        raise PermanentFailure(
            f"DATABASE_URL is not set, and a unit of systemd has no embedded database: {REMEDY}, in its env file"
        )
    return EmbeddedPostgres(settings.irt_home / "postgres")


def records(
    connection: psycopg.Connection, record_class: type[T], query: Query, values: Params | None = None
) -> list[T]:
    """The rows of a query as records of `record_class`, whose fields have the names of the columns."""
    return connection.cursor(row_factory=class_row(record_class)).execute(query, values).fetchall()


def record(
    connection: psycopg.Connection, record_class: type[T], query: Query, values: Params | None = None
) -> T | None:
    """The first row of a query as a record of `record_class`, like `records`. Returns None if there is no row."""
    return connection.cursor(row_factory=class_row(record_class)).execute(query, values).fetchone()


def named_rows(connection: psycopg.Connection, query: Query, values: Params | None = None) -> list[dict[str, Any]]:
    """The rows of a query as dictionaries by column name."""
    return connection.cursor(row_factory=dict_row).execute(query, values).fetchall()


def first_column(connection: psycopg.Connection, query: Query, values: Params | None = None) -> list[Any]:
    """The first value of each row of a query."""
    return [row[0] for row in connection.execute(query, values).fetchall()]  # much faster than row by row


def one_value(connection: psycopg.Connection, query: Query, values: Params | None = None) -> Any:
    """The first value of a query's first row. Returns None if there is no row."""
    row = connection.execute(query, values).fetchone()
    return row[0] if row else None


def advisory_lock(connection: psycopg.Connection, *parts: str) -> None:
    """Hold a lock on the thing that `parts` name until the transaction ends. A second writer of it waits here."""
    connection.execute(f"SELECT pg_advisory_xact_lock({LOCK})", (lock_key(*parts),))


LOCK: LiteralString = (
    "(%s::bigint # CASE current_schema() WHEN 'public' THEN 0 ELSE hashtextextended(current_schema(), 0) END)"
)
"""SQL for the key of a lock, with the placeholder for `lock_key`. It depends on the schema, because PostgreSQL's locks
apply to the whole database, which may have several of our schemas."""


def lock_key(*parts: str) -> int:
    """The number of the lock on the thing that `parts` name, within one installation."""
    return int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:8], "big", signed=True)

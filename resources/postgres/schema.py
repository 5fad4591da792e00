"""Upgrades, downgrades and checks of the schema in a database."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import alembic.command
import psycopg
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from resources.failures import PermanentFailure
from resources.postgres.database import Database, one_value
from resources.postgres.log_months import make_months_ahead
from resources.postgres.schema_version import number, schema_version
from resources.tables import METADATA, VIEWS, irreplaceable_rows

COMPUTED = "Computed default"
"""Beginning of Alembic's warnings about columns that the server computes: it warns instead of listing a difference."""


def is_ours(_object: Any, name: str | None, type_: str, _reflected: bool, _compare_to: Any) -> bool:
    """Alembic's filter: false for tables that the registry lacks, such as Dagster's tables and partitions."""
    return type_ != "table" or name in METADATA.tables


def driver_of(connection: sa.Connection) -> psycopg.Connection:
    """The driver's connection below SQLAlchemy's."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def upgrade(database: Database) -> None:
    """Upgrade the schema, and create the log's partitions of the next months.

    It can be repeated, and two processes may do it at once. A newer schema that this code works with stays as it is.
    Raises PermanentFailure if this code does not work with it, or if the schema is older than the first migration.
    """
    version = schema_version(database)
    if not version.can_be_upgraded:
        if version.fault:
            raise PermanentFailure(version.fault)
        return
    config = _alembic()
    config.attributes["database"] = database
    alembic.command.upgrade(config, "head")
    database.call(make_months_ahead, datetime.now(UTC))


def downgrade(database: Database, revision: str) -> str:
    """Return the schema of `database` to an earlier revision, completely or not at all. Returns its full name.

    Raises PermanentFailure if the revision is not an earlier one, or if rows would be lost that no job recomputes.
    """
    current = schema_version(database).revision
    scripts = ScriptDirectory.from_config(_alembic())
    earlier = [script.revision for script in scripts.walk_revisions() if number(script.revision) < number(current)]
    matches = [name for name in earlier if revision in (name, name[:4])]
    if len(matches) != 1:
        raise PermanentFailure(
            f"the schema is at {current}: {revision!r} does not name one of the earlier "
            f"{', '.join(reversed(earlier)) or '(there is none)'}"
        )
    config = _alembic()
    config.attributes.update(database=database, guard=_refuse_losses)
    alembic.command.downgrade(config, matches[0])
    return matches[0]


@contextmanager
def _refuse_losses(connection: sa.Connection) -> Iterator[None]:
    """Raise PermanentFailure, before the commit, if the block loses rows or values that no job recomputes."""
    before = _irreplaceable_values(connection)
    yield
    after = _irreplaceable_values(connection)
    lost = {name: n - after.get(name, 0) for name, n in before.items() if after.get(name, 0) < n}
    parts = [
        f"{n:,} {'rows' if column is None else 'values'} of {table if column is None else f'{table}.{column}'}"
        for (table, column), n in lost.items()
        if column is None or (table, None) not in lost
    ]
    if parts:
        raise PermanentFailure(
            f"The schema is unchanged: the earlier one has no place for {', '.join(parts)}, and no job recomputes "
            "them. To go back anyway, restore the backup that was made before `irt db upgrade`."
        )


def _irreplaceable_values(connection: sa.Connection) -> dict[tuple[str, str | None], int]:
    """Count the rows that no job recomputes by table, with None as column, and their values by table and column.

    Numbers of rows (identity columns and `decision_id`) and values equal to the column's default are not counted: a
    later upgrade gives rows the same ones again. A downgrade returns decisions with a `former_table` to that table.
    """
    counts_by_name: dict[tuple[str, str | None], int] = {}
    inspector = sa.inspect(connection)
    for table, condition in {**irreplaceable_rows(), "decision": "former_table IS NULL"}.items():
        if not inspector.has_table(table):
            continue
        counted = [c for c in inspector.get_columns(table) if "identity" not in c and c["name"] != "decision_id"]
        defaults = {column["name"]: column["default"] for column in counted}
        columns = [name for name, default in defaults.items() if not str(default).startswith("nextval")]
        counts = ", ".join(f'count(nullif("{name}", {defaults[name] or "NULL"}))' for name in columns)
        query = f"SELECT count(*), {counts} FROM {table} WHERE {condition}"
        counts_by_column = zip([None, *columns], connection.exec_driver_sql(query).one(), strict=True)
        counts_by_name.update({(table, column): n for column, n in counts_by_column})
    return counts_by_name


def drift(database: Database) -> list[str]:
    """All differences between `database` and the registry, in words."""
    engine = database.engine()
    with engine.connect() as connection, connection.begin() as transaction:
        options = {"compare_type": True, "compare_server_default": True, "include_object": is_ours}
        context = MigrationContext.configure(connection, opts=options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.filterwarnings("always", COMPUTED)
            changes = compare_metadata(context, METADATA)  # changes of one column are in a nested list
            flat = chain.from_iterable(change if isinstance(change, list) else [change] for change in changes)
            differences = [_describe_change(change) for change in flat if not _is_random(change)]
        messages = [str(message.message) for message in caught]
        differences += [
            message.replace("cannot be modified", "differs") for message in messages if message.startswith(COMPUTED)
        ]
        differences += _key_differences(connection)
        differences += filter(None, (_view_difference(driver_of(connection), *view) for view in VIEWS.items()))
        transaction.rollback()
    engine.dispose()
    return differences


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", "resources:migrations")
    return config


def _is_random(change: tuple[Any, ...]) -> bool:
    """Whether two defaults differ only because Alembic evaluates both, and they return random numbers."""
    return change[0] == "modify_default" and all(
        "random" in str(getattr(default, "arg", "")) for default in change[5:7]
    )


def _describe_change(change: tuple[Any, ...]) -> str:
    kind, *subject = change
    match kind:
        case "add_table":
            return f"table {subject[0].name} is missing"
        case "add_column":
            return f"column {subject[1]}.{subject[2].name} is missing"
        case "remove_column":
            return f"column {subject[1]}.{subject[2].name} is not in the registry"
        case "add_index" | "add_constraint":
            return f"{kind[4:]} {subject[0].name} of {subject[0].table.name} is missing"
        case "remove_index" | "remove_constraint":
            return f"{kind[7:]} {subject[0].name} of {subject[0].table.name} is not in the registry"
        case "add_table_comment" | "remove_table_comment":
            return f"comment of table {subject[0].name} differs"
        case "modify_type" | "modify_nullable" | "modify_comment" | "modify_default":
            _, table, column, _, stored, expected = subject
            stored, expected = (getattr(getattr(value, "arg", value), "text", value) for value in (stored, expected))
            return f"{kind[7:]} of {table}.{column} is {stored!r} instead of {expected!r}"
    return f"{kind}: {subject}"


def _key_differences(connection: sa.Connection) -> list[str]:
    inspector = sa.inspect(connection)
    expected = {
        table.name: [column.name for column in table.primary_key]
        for table in METADATA.sorted_tables
        if inspector.has_table(table.name)
    }
    stored = {name: inspector.get_pk_constraint(name)["constrained_columns"] for name in expected}
    differences = [
        f"primary key of {name} is {stored[name]} instead of {key}"
        for name, key in expected.items()
        if stored[name] != key
    ]
    partitioned = connection.scalar(
        sa.text("SELECT pg_get_partkeydef(to_regclass('response_log'))"),
    )
    partitioning = METADATA.tables["response_log"].dialect_options["postgresql"]["partition_by"]
    if partitioned != partitioning:
        differences.append(f"partitioning of response_log is {partitioned!r} instead of {partitioning!r}")
    return differences


def _view_difference(connection: psycopg.Connection, name: str, query: str) -> str | None:
    """The difference between a view and `query`, both in the server's wording. Returns None if they are equal."""
    stored = one_value(connection, "SELECT pg_get_viewdef(to_regclass(%s))", (name,))
    if stored is None:
        return f"view {name} is missing"
    try:
        with connection.transaction():
            connection.execute(f"CREATE TEMPORARY VIEW registry_{name} AS {query}")
    except psycopg.ProgrammingError as error:
        return f"view {name} cannot be created as in the registry: {error}"
    expected = one_value(connection, f"SELECT pg_get_viewdef('registry_{name}'::regclass)")
    return None if stored == expected else f"view {name} is:\n{stored}\ninstead of:\n{expected}"

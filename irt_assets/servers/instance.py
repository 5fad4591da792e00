"""Dagster's instance, for runs and look-ups inside this process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dagster import DagsterInstance

from irt_assets.common.environment import dagster_environment
from resources.dagster_compat import keep_connections
from resources.postgres.database import Database, advisory_lock
from resources.postgres.schemas import make_schemas
from resources.settings import Settings


@contextmanager
def dagster_instance(settings: Settings, database: Database) -> Iterator[DagsterInstance]:
    """The instance that the servers use, for runs inside this process. Creates Dagster's tables at first use.

    The process's environment is changed until the context ends.
    """
    environment = dagster_environment(settings, database)
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        make_schemas(database)
        with database.connect() as one_at_a_time:
            advisory_lock(one_at_a_time, "dagster's tables")
            instance = DagsterInstance.from_config(environment["DAGSTER_HOME"])
        with instance:
            keep_connections(instance, statement_timeout_ms=0)
            yield instance
    finally:
        os.environ.clear()
        os.environ.update(before)

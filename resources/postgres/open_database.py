"""The database of a command: a new one gets its schema, an existing one is used only if its schema fits this code."""

import logging
import time

import psycopg

from resources.failures import PermanentFailure, explain, is_transient
from resources.postgres.database import Database
from resources.postgres.schema_version import schema_version
from resources.serving.service_manager import is_supervised
from resources.settings import Settings, private_home

LOG = logging.getLogger(__name__)
PAUSE_S = 1.0


def open_database(settings: Settings) -> Database:
    """The database of a command. A new embedded database gets its schema first; a service waits for its database.

    Raises PermanentFailure if this code does not work with the schema.
    """
    if settings.irt_home.is_dir():
        private_home(settings)
    database = Database(settings)
    if is_supervised():
        _wait_for_database(database)
    version = schema_version(database)
    if version.revision is None and settings.database_url is None:
        from resources.postgres.schema import upgrade  # Alembic takes a second to load

        LOG.info("making the database in %s", settings.irt_home)
        upgrade(database)
    elif version.fault:
        raise PermanentFailure(version.fault)
    return database


def _wait_for_database(database: Database) -> None:
    """Wait for the database. A service manager would restart a server that exits instead, and finally give up."""
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

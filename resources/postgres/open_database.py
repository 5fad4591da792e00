"""The database of a command: new ones get their schema, others are used only where theirs is right."""

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
        from resources.postgres.schema import upgrade  # Alembic takes a second to load

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

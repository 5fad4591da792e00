"""The installation that a command works on: its settings, its database and its store.

Commands get them from here and not from `resources`, which they would import for `irt --help`, too.
"""

from __future__ import annotations

import os
import pwd
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from irt_assets.engines.registry import enabled
from resources.settings import Settings, get_settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from resources.files.object_store import ObjectStore
    from resources.postgres.database import Database

LOGIN_UID = Path("/proc/self/loginuid")
NO_LOGIN = 2**32 - 1
"""The kernel's login uid of processes that were started without a login."""


def current_settings() -> Settings:
    """Raises PermanentFailure that names what is wrong in them."""
    settings = get_settings()
    enabled(settings)  # refuses an engine that there is not
    return settings


def current_database() -> Database:
    """The database, created if it is embedded and new. Raises PermanentFailure if this code cannot work with its
    schema."""
    from resources.postgres.open_database import open_database  # imports psycopg, which commands on files do without

    return open_database(current_settings())


def database_as_it_is() -> Database:
    """The database, with any schema or none."""
    from resources.postgres.database import Database  # see above

    return Database(current_settings())


def current_store(database: Database) -> ObjectStore:
    """Raises PermanentFailure where the files of `database` lie in another folder than this installation's."""
    from resources.files.folder_claim import open_store  # see above

    return open_store(current_settings(), database)


def current_instance(database: Database) -> AbstractContextManager[DagsterInstance]:
    """Dagster's instance on `database`."""
    from irt_assets.servers.instance import dagster_instance  # imports Dagster, which most commands do without

    return dagster_instance(current_settings(), database)


def os_user() -> str:
    """The account that logged in to this machine, even behind sudo; without a login, the owner of this process."""
    uid = int(LOGIN_UID.read_text()) if LOGIN_UID.exists() else NO_LOGIN
    uid = os.getuid() if uid == NO_LOGIN else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def signed(by: str) -> str:
    """The name to record for a decision: if a login is set up, with the account that typed it."""
    from irt_assets.decisions.release import require_text  # imports what a month is computed with

    name = require_text("name", by)
    return f"{name} (irt, {os_user()})" if current_settings().has_login else name

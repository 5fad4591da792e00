"""The installation that a command works on: its settings, its database and its store.

Imports that are slow run when a function is called, so that short commands start fast.
"""

from __future__ import annotations

import os
import pwd
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from irt_assets.engines.registry import enabled_scales
from resources.settings import Settings, get_settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from resources.files.object_store import ObjectStore
    from resources.postgres.database import Database

LOGIN_UID = Path("/proc/self/loginuid")
NO_LOGIN = 2**32 - 1
"""Login uid in the kernel of processes that were started without a login."""


def current_settings() -> Settings:
    """Read the settings. Raises PermanentFailure, which names the wrong settings."""
    settings = get_settings()
    enabled_scales(settings)  # raises if an engine is unknown
    return settings


def current_database() -> Database:
    """The database, which is created if it is embedded and new. Raises PermanentFailure if its schema does not fit this
    code."""
    from resources.postgres.open_database import open_database  # imports psycopg, which commands on files do not need

    return open_database(current_settings())


def unchecked_database() -> Database:
    """The database, whatever its schema."""
    from resources.postgres.database import Database  # see above

    return Database(current_settings())


def current_store(database: Database) -> ObjectStore:
    """The store of files. Raises PermanentFailure if the files of `database` are not in this installation's folder."""
    from resources.files.folder_claim import open_store  # see above

    return open_store(current_settings(), database)


def current_instance(database: Database) -> AbstractContextManager[DagsterInstance]:
    """The Dagster instance on `database`."""
    from irt_assets.servers.instance import dagster_instance  # imports Dagster, which most commands do not need

    return dagster_instance(current_settings(), database)


def os_user() -> str:
    """The account that logged in to this machine, even under sudo. Without a login: the owner of this process."""
    uid = int(LOGIN_UID.read_text()) if LOGIN_UID.exists() else NO_LOGIN
    uid = os.getuid() if uid == NO_LOGIN else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def signature(by: str) -> str:
    """Return the name to record for a decision, with the account that ran the command if a login is set up."""
    from irt_assets.scales.scale_decisions import require_text  # imports psycopg, see above

    name = require_text("name", by)
    return f"{name} (irt, {os_user()})" if current_settings().has_login else name


def require_reason(reason: str) -> str:
    """Return the reason to record for a decision."""
    from irt_assets.scales.scale_decisions import require_text  # see above

    return require_text("reason", reason)


By = Annotated[str, typer.Option("--by", callback=signature, help="Name of the person who decides.")]
Reason = Annotated[str, typer.Option("--reason", callback=require_reason, help="Reason, stored with the decision.")]

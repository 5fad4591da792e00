"""Functions that make backups in a folder and restore them into an empty database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from irt_assets.backup.make import BackupResult, make_backup
from irt_assets.backup.places import FolderPlace
from irt_assets.backup.restore import restore_backup
from resources.files.folder_claim import open_store
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.testbed.stack_harness import ROOT

numbers = count(1)
OURS = """SELECT count(*) FROM pg_stat_activity
          WHERE application_name = 'irt backup' AND datname = current_database()"""
"""The sessions of pg_dump and pg_restore in the current database. Other tests run theirs on the same server."""
OURS_WAIT = f"{OURS} AND wait_event_type = 'Lock'"


@contextmanager
def empty_database(server: str, home: Path) -> Iterator[Settings]:
    """Settings of an empty installation."""
    with rooms.copied(server, "template0", f"restored_{next(numbers)}", home) as settings:
        yield settings


def back_up(settings: Settings, folder: Path) -> BackupResult:
    database = Database(settings)
    return make_backup(settings, database, open_store(settings, database), FolderPlace(folder))


def restore(settings: Settings, folder: Path, *, verify: bool = False) -> list[str]:
    """Restore a backup. Returns the differences from the backup."""
    location = FolderPlace(folder.parent)
    return restore_backup(settings, Database(settings), location, folder.name, verify=verify).differences


def start_irt(settings: Settings, *words: object) -> subprocess.Popen[bytes]:
    """Start `irt` in a child process."""
    environment = {
        "PATH": os.environ["PATH"],
        "IRT_HOME": str(settings.irt_home),
        "DATABASE_URL": settings.database_url.get_secret_value(),
    }
    command = [sys.executable, "-c", "from irt_assets.cli import main; main()", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def is_empty(settings: Settings) -> bool:
    query = """SELECT FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
               UNION ALL SELECT FROM pg_namespace WHERE nspname = 'dagster'"""
    return rooms.rows(Database(settings), query) == []

"""A folder's files belong to one database, and that database to the folder: on a second machine they would be missing.

The folder has an id in a file of its own, and the database has it on record. A folder that moves, or that several
machines share, keeps it. What does not belong here: reading and writing (see `object_store`).
"""

import socket
import uuid

from resources.failures import PermanentFailure
from resources.files.object_store import FolderStore, ObjectStore, object_store
from resources.postgres.database import Database, advisory_lock
from resources.settings import Settings

ID_FILE = ".folder-id"


def open_store(settings: Settings, database: Database) -> ObjectStore:
    """The store of a command. Raises PermanentFailure where the files of `database` lie in another folder."""
    store = object_store(settings)
    if isinstance(store, FolderStore):
        _claim(store, database)
    return store


def adopt_folder(settings: Settings, database: Database) -> FolderStore:
    """From now on the files of `database` lie in the folder of these settings; what is elsewhere is not found."""
    store = object_store(settings)
    if not isinstance(store, FolderStore):
        raise PermanentFailure("S3_BUCKET is set: the files of this database lie in the bucket, no folder is in use")
    with database.connect() as connection:
        connection.execute("DELETE FROM object_folder")
    _claim(store, database)
    return store


_KNOWN = "SELECT folder_id, path, host FROM object_folder"
"""The database's folder."""


def _claim(store: FolderStore, database: Database) -> None:
    with database.connect() as connection:
        known = connection.execute(_KNOWN).fetchone()
        if known is None:
            advisory_lock(connection, "object folder")
            known = connection.execute(_KNOWN).fetchone()  # another process may have been first
        if known is None:
            if not (mine := _mark(store)):
                mine = uuid.uuid4().hex
                store.put(ID_FILE, mine.encode())
            known = (mine, str(store.root), socket.gethostname())
            connection.execute("INSERT INTO object_folder (folder_id, path, host) VALUES (%s, %s, %s)", known)
    mine = _mark(store)
    folder_id, path, host = known
    if folder_id != mine:
        raise PermanentFailure(
            f"The files of this database lie in {path} on host {host}; {store.root} on host {socket.gethostname()} is "
            "another folder. Run irt there, share that folder, or set S3_BUCKET to a bucket for both. If those files "
            "were lost, or this is the copy to go on with: irt db adopt-folder"
        )


def _mark(store: FolderStore) -> str | None:
    file = store.root / ID_FILE
    return file.read_text("ascii").strip() if file.exists() else None

"""A database claims the folder of its files, because a second machine with another folder would not find them.

The folder contains a file with its id, which the database also stores. The id stays if the folder moves or several
machines share it.
"""

import socket
import uuid

from resources.failures import PermanentFailure
from resources.files.object_store import FolderStore, ObjectStore, object_store
from resources.postgres.database import Database, advisory_lock
from resources.settings import Settings

ID_FILE = ".folder-id"


def open_store(settings: Settings, database: Database) -> ObjectStore:
    """The store of a command. Raises PermanentFailure if the files of `database` are in another folder."""
    store = object_store(settings)
    if isinstance(store, FolderStore):
        _claim(store, database)
    return store


def adopt_folder(settings: Settings, database: Database) -> FolderStore:
    """Use the folder of these settings for the files of `database` from now on. Files elsewhere are not found.

    Raises PermanentFailure if S3_BUCKET is set.
    """
    store = object_store(settings)
    if not isinstance(store, FolderStore):
        raise PermanentFailure(
            "S3_BUCKET is set: the files of this database are in the bucket, and no folder is in use"
        )
    with database.connect() as connection:
        connection.execute("DELETE FROM object_folder")
    _claim(store, database)
    return store


_CLAIMED_FOLDER = "SELECT folder_id, path, host FROM object_folder"
"""Query for the folder of the database."""


def _claim(store: FolderStore, database: Database) -> None:
    with database.connect() as connection:
        claim = connection.execute(_CLAIMED_FOLDER).fetchone()
        if claim is None:
            advisory_lock(connection, "object folder")
            claim = connection.execute(_CLAIMED_FOLDER).fetchone()  # another process may have been first
        if claim is None:
            if not (folder_mark := _mark(store)):
                folder_mark = uuid.uuid4().hex
                store.put(ID_FILE, folder_mark.encode())
            claim = (folder_mark, str(store.root), socket.gethostname())
            connection.execute("INSERT INTO object_folder (folder_id, path, host) VALUES (%s, %s, %s)", claim)
    folder_mark = _mark(store)
    folder_id, path, host = claim
    if folder_id != folder_mark:
        raise PermanentFailure(
            f"The files of this database are in {path} on host {host}; {store.root} on host {socket.gethostname()} is "
            "another folder. Run irt there, share that folder, or set S3_BUCKET to a bucket for both. If those files "
            "are lost, or you want to continue with this copy: irt db adopt-folder"
        )


def _mark(store: FolderStore) -> str | None:
    file = store.root / ID_FILE
    return file.read_text("ascii").strip() if file.exists() else None

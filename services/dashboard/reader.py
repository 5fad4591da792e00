"""What the views read with: connections that cannot write and do not wait long, the object store, a recent overview.

What does not belong here: SQL, which the rooms hold.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import dagster as dg
import psycopg

from irt_assets.responses.remembered_hashes import RememberedHashes
from jobs.overview import Overview, look
from resources.database import Database
from resources.failures import PermanentFailure
from resources.object_store import ObjectStore, object_store
from resources.settings import Settings

STATEMENT_TIMEOUT_MS = 5_000
CACHED_S = 30.0


class Reader:
    """`database` is for decisions alone: views read by `connect`."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings = settings
        self.instance = instance
        self.database = Database(settings)
        self._reading = threading.Lock()
        self._hash_of = RememberedHashes()
        self._overview: tuple[float, Overview] | None = None

    @property
    def store(self) -> ObjectStore:
        return object_store(self.settings)

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection]:
        """A transaction that only reads, each statement of it for at most `STATEMENT_TIMEOUT_MS`."""
        with self.database.connect() as connection:
            connection.read_only = True
            connection.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
            yield connection

    def now(self) -> datetime:
        return datetime.now(UTC)

    @property
    def is_ready(self) -> bool:
        """Whether an overview can be shown at once."""
        return self._overview is not None

    def begin(self) -> None:
        """Read the first overview, beside what this thread does."""
        threading.Thread(target=self._refresh, name="overview", daemon=True).start()

    def overview(self) -> Overview:
        """The state of everything. Where it is older than `CACHED_S`, it is read anew meanwhile, and nobody waits.

        Only who comes before the first reading waits for it.
        """
        known = self._overview
        if known is None:
            with self._reading:
                return (self._overview or self._read())[1]
        if time.monotonic() - known[0] > CACHED_S and not self._reading.locked():
            self.begin()
        return known[1]

    def forget(self) -> None:
        """After a decision: the next overview is read anew."""
        self._overview = None

    def _refresh(self) -> None:
        with self._reading, suppress(psycopg.Error, PermanentFailure):
            self._read()

    def _read(self) -> tuple[float, Overview]:
        self._overview = time.monotonic(), look(self.database, self.instance, self.settings, self._hash_of)
        return self._overview

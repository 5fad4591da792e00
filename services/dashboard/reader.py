"""What the views read with: connections that cannot write and do not wait long, the object store, a recent overview.

What does not belong here: SQL, which the rooms hold.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import TypeVar, cast

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
REMEMBERED = 256
Made = TypeVar("Made")


class Reader:
    """`database` is for decisions alone: views read by `connect`."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings = settings
        self.instance = instance
        self.database = Database(settings)
        self._reading = threading.Lock()
        self._hash_of = RememberedHashes()
        self._remembering = threading.Lock()
        self._remembered: dict[tuple[str, ...], object] = {}
        self._overview: tuple[float, Overview] | None = None

    @cached_property
    def store(self) -> ObjectStore:
        return object_store(self.settings)

    @contextmanager
    def connect(self, timeout_ms: int = STATEMENT_TIMEOUT_MS) -> Iterator[psycopg.Connection]:
        """A transaction that only reads, each statement of it for at most `timeout_ms`."""
        with self.database.connect() as connection:
            connection.read_only = True
            connection.execute(f"SET LOCAL statement_timeout = {timeout_ms}")
            yield connection

    def remembered(self, key: tuple[str, ...], read: Callable[[], Made]) -> Made:
        """What `read` gives, read once while it is among the last `REMEMBERED`. `key`: of what never changes."""
        found = self._remembered.get(key)
        if found is None:
            found = read()
            with self._remembering:
                while len(self._remembered) >= REMEMBERED:
                    self._remembered.pop(next(iter(self._remembered)))
                self._remembered[key] = found
        return cast("Made", found)

    def now(self) -> datetime:
        return datetime.now(UTC)

    @property
    def is_ready(self) -> bool:
        """Whether an overview can be shown at once."""
        return self._overview is not None

    def begin(self) -> None:
        """Read the overview in another thread."""
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
        """Have the next overview read anew, as after a decision."""
        self._overview = None

    def _refresh(self) -> None:
        with self._reading, suppress(psycopg.Error, PermanentFailure):
            self._read()

    def _read(self) -> tuple[float, Overview]:
        self._overview = time.monotonic(), look(self.database, self.instance, self.settings, self._hash_of)
        return self._overview

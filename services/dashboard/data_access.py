"""The views' access to data: read-only connections with short time limits, the object store, a recent overview."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TypeVar, cast

import dagster as dg
import psycopg

from jobs.watching.overview import Overview, collect_overview
from resources.failures import explain
from resources.files.object_store import ObjectStore, object_store
from resources.postgres.database import Database
from resources.settings import Settings

LOG = logging.getLogger("services.dashboard")
STATEMENT_TIMEOUT_MS = 5_000
FRESH = timedelta(seconds=30)
OLDEST_SHOWN = timedelta(minutes=10)
"""Greatest age of an overview that is shown: a month may have turned red since."""
REMEMBERED = 256
Value = TypeVar("Value")


class BeingRead(Exception):
    """There is no recent overview yet. The page can be requested again in a moment."""


class Reader:
    """Reads data for the views. Views use `connect`; `database` is only for decisions. `collect` reads the overview."""

    patience_s = 2.0
    """Seconds a page waits for the first overview, which takes a second or more for each month of answers."""
    patience_later_s = 20.0
    """Seconds a page waits after a decision, when no answers are hashed again."""
    patience_old_s = 5.0
    """Seconds a page waits for a new overview if there is an old one."""

    def __init__(
        self,
        settings: Settings,
        instance: dg.DagsterInstance,
        collect: Callable[[Database, dg.DagsterInstance, Settings], Overview] = collect_overview,
    ) -> None:
        self.settings = settings
        self.instance = instance
        self._collect = collect
        self.database = Database(settings)
        self._turn = threading.RLock()
        self._reading: Future[Overview] | None = None
        self._remembering = threading.Lock()
        self._remembered: dict[tuple[str, ...], object] = {}
        self._overview: Overview | None = None
        self.is_ready = False
        """Whether an overview has ever been read."""

    @cached_property
    def store(self) -> ObjectStore:
        return object_store(self.settings)

    @contextmanager
    def connect(self, timeout_ms: int = STATEMENT_TIMEOUT_MS) -> Iterator[psycopg.Connection]:
        """Open a read-only transaction in which each statement may take at most `timeout_ms`."""
        with self.database.connect() as connection:
            connection.read_only = True
            connection.execute(f"SET LOCAL statement_timeout = {timeout_ms}")
            yield connection

    def remembered(self, key: tuple[str, ...], read: Callable[[], Value]) -> Value:
        """The result of `read`, cached while it is among the last `REMEMBERED` results. `key` must identify data that
        never changes."""
        found = self._remembered.get(key)
        if found is None:
            found = read()
            with self._remembering:
                while len(self._remembered) >= REMEMBERED:
                    self._remembered.pop(next(iter(self._remembered)))
                self._remembered[key] = found
        return cast("Value", found)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def begin(self) -> Future[Overview]:
        """Start reading the overview in another thread, unless a reading is under way. Returns its future."""
        with self._turn:
            if self._reading is None or self._reading.done():
                self._reading = Future()
                threading.Thread(target=self._read, args=(self._reading,), name="overview", daemon=True).start()
            return self._reading

    def overview(self) -> Overview:
        """The overview, read again if it is not `FRESH`.

        Returns the old overview if no new one is read within `patience_old_s`. Raises BeingRead if the old one is older
        than `OLDEST_SHOWN`. If there is no old one, waits `patience_s`, or `patience_later_s` after a decision, and
        then raises BeingRead.
        """
        with self._turn:
            known = self._overview
            if known is not None and self.age(known.now) <= FRESH:
                return known
            reading = self.begin()
        patience = self.patience_old_s if known else self.patience_later_s if self.is_ready else self.patience_s
        try:
            return reading.result(timeout=patience)
        except TimeoutError:
            if known is None or self.age(known.now) > OLDEST_SHOWN:
                raise BeingRead from None
            return known

    def age(self, then: datetime) -> timedelta:
        """Time since `then`. A time in the future, as after a clock was set back, counts as equally long ago."""
        return abs(self.now() - then)

    def forget(self) -> None:
        """Drop the overview, after a decision. A reading that is under way is not kept, either."""
        with self._turn:
            self._overview = self._reading = None

    def _read(self, reading: Future[Overview]) -> None:
        try:
            found = self._collect(self.database, self.instance, self.settings)
        except Exception as error:  # noqa: BLE001 - the waiting threads raise it
            LOG.warning("the overview was not read: %s", explain(error) or error)
            reading.set_exception(error)
            return
        with self._turn:
            if reading is self._reading:
                self._overview = found
                self.is_ready = True
        reading.set_result(found)

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
FRESH_AGE = timedelta(seconds=30)
MAX_SHOWN_AGE = timedelta(minutes=10)
"""Maximum age of an overview that is shown: in the meantime a month may have turned red."""
MAX_CACHED = 256
Value = TypeVar("Value")


class OverviewPending(Exception):
    """There is no recent overview yet. The page can be requested again in a moment."""


class Reader:
    """Reads data for the views. Views use `connect`; `database` is only for decisions. `collect` reads the overview."""

    timeout_s = 2.0
    """Seconds a page waits for the first overview, which takes a second or more for each month of answers."""
    timeout_after_decision_s = 20.0
    """Seconds a page waits after a decision for the new overview, for which no answers are hashed again."""
    timeout_with_old_s = 5.0
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
        self._cache_lock = threading.Lock()
        self._computing = threading.Lock()
        self._cache: dict[tuple[str, ...], object] = {}
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

    def read_cached(self, key: tuple[str, ...], read: Callable[[], Value]) -> Value:
        """The result of `read`, cached while it is among the last `MAX_CACHED` results. `key` must identify data that
        never changes."""
        value = self._cache.get(key)
        if value is None:
            value = read()
            with self._cache_lock:
                while len(self._cache) >= MAX_CACHED:
                    self._cache.pop(next(iter(self._cache)))
                self._cache[key] = value
        return cast("Value", value)

    def compute_cached(self, key: tuple[str, ...], compute: Callable[[], Value]) -> Value:
        """Return `read_cached` for results that take much time or memory, which are computed one at a time."""
        if key in self._cache:
            return self.read_cached(key, compute)
        with self._computing:
            return self.read_cached(key, compute)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def start_reading(self) -> Future[Overview]:
        """Start reading the overview in another thread, unless a reading is under way. Returns its future."""
        with self._turn:
            if self._reading is None or self._reading.done():
                self._reading = Future()
                threading.Thread(target=self._read, args=(self._reading,), name="overview", daemon=True).start()
            return self._reading

    def overview(self) -> Overview:
        """The overview, read again if it is older than `FRESH_AGE`.

        Returns the old overview if no new one is read within `timeout_with_old_s`. Raises OverviewPending if the old
        one is older than `MAX_SHOWN_AGE`. If there is no old one, waits `timeout_s`, or `timeout_after_decision_s`
        after a decision, and then raises OverviewPending.
        """
        with self._turn:
            old = self._overview
            if old is not None and self.age(old.now) <= FRESH_AGE:
                return old
            reading = self.start_reading()
        timeout = self.timeout_with_old_s if old else self.timeout_after_decision_s if self.is_ready else self.timeout_s
        try:
            return reading.result(timeout=timeout)
        except TimeoutError:
            if old is None or self.age(old.now) > MAX_SHOWN_AGE:
                raise OverviewPending from None
            return old

    def age(self, then: datetime) -> timedelta:
        """Time since `then`. A time in the future (after a clock was set back) counts as that long ago."""
        return abs(self.now() - then)

    def drop_overview(self) -> None:
        """Drop the overview, after a decision. A reading that is under way is not kept, either."""
        with self._turn:
            self._overview = self._reading = None

    def _read(self, reading: Future[Overview]) -> None:
        try:
            overview = self._collect(self.database, self.instance, self.settings)
        except Exception as error:  # noqa: BLE001 - the waiting threads raise it
            LOG.warning("the overview was not read: %s", explain(error) or error)
            reading.set_exception(error)
            return
        with self._turn:
            if reading is self._reading:
                self._overview = overview
                self.is_ready = True
        reading.set_result(overview)

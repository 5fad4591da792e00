"""The views' access to data: read-only connections with short time limits, the object store, the states of months."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TypeVar, cast

import dagster as dg
import psycopg

from irt_assets.gates.month_classification import MonthState
from irt_assets.gates.month_status import ledger_states, unsettled_months
from jobs.watching.overview import complete_months
from resources.files.object_store import ObjectStore, object_store
from resources.postgres.database import Database
from resources.settings import Settings

STATEMENT_TIMEOUT_MS = 5_000
MAX_CACHED = 256
Value = TypeVar("Value")


class Reader:
    """Reads data for the views. Views use `connect`; `database` is only for decisions."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings = settings
        self.instance = instance
        self.database = Database(settings)
        self._cache_lock = threading.Lock()
        self._computing = threading.Lock()
        self._cache: dict[tuple[str, ...], object] = {}

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

    def month_states(self) -> list[MonthState]:
        """Read the state of every complete month on every scale, oldest month first."""
        running = unsettled_months(self.instance)
        with self.connect() as connection:
            return ledger_states(connection, complete_months(self.settings, self.now()), running)

"""The views' access to data: read-only connections with short time limits, the object store, a recent overview.

What does not belong here: SQL, which is with its subject in `irt_assets`.
"""

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
"""No verdict that is older is shown: the month may have turned red since."""
REMEMBERED = 256
Made = TypeVar("Made")


class BeingRead(Exception):
    """No overview that can be shown is there yet: the page can be asked for again in a moment."""


class Reader:
    """`database` is for decisions alone: views read by `connect`. `collect`: how the overview is read."""

    patience_s = 2.0
    """How long a page waits for the first overview, which takes a second or more for each month of answers."""
    patience_later_s = 20.0
    """How long it waits after a decision, when no answers are hashed again."""
    patience_old_s = 5.0
    """How long it waits for a new one where there is an old one to show."""

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
        """Whether an overview was ever read."""

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
        """The result of `read`, cached while it is among the last `REMEMBERED`. `key`: of data that never changes."""
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

    def begin(self) -> Future[Overview]:
        """Read the overview in another thread, unless one is being read; the result of that reading."""
        with self._turn:
            if self._reading is None or self._reading.done():
                self._reading = Future()
                threading.Thread(target=self._read, args=(self._reading,), name="overview", daemon=True).start()
            return self._reading

    def overview(self) -> Overview:
        """The state of everything, read again where it is not `FRESH`.

        The old one where none is read within `patience_old_s`. Raises BeingRead where that is over `OLDEST_SHOWN`, or
        there is none and none is read within `patience_s`, after a decision `patience_later_s`.
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
        """How long ago it was; a time to come, as after a clock was set back, counts as long."""
        return abs(self.now() - then)

    def forget(self) -> None:
        """Have the next overview read again, as after a decision; one that is being read now is not kept."""
        with self._turn:
            self._overview = self._reading = None

    def _read(self, reading: Future[Overview]) -> None:
        try:
            found = self._collect(self.database, self.instance, self.settings)
        except Exception as error:  # noqa: BLE001 - for those who wait
            LOG.warning("the overview was not read: %s", explain(error) or error)
            reading.set_exception(error)
            return
        with self._turn:
            if reading is self._reading:
                self._overview = found
                self.is_ready = True
        reading.set_result(found)

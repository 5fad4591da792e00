"""The API's access to the database: two small pools of connections, and a cache of the published parameters."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import psycopg
from psycopg.errors import LockNotAvailable, QueryCanceled, ReadOnlySqlTransaction
from psycopg_pool import ConnectionPool, PoolTimeout

from irt_assets.abilities.batch import estimate
from irt_assets.abilities.online import Measures, read_measures
from irt_assets.abilities.sweep import record_online_updates
from irt_assets.adaptive.sessions import Plans
from irt_assets.scales.scale import Scale
from irt_psychometrics import ItemParameters, Responses
from irt_psychometrics.adaptive import AdaptiveTest, SelectionPlan
from irt_psychometrics.items import ItemRow
from irt_psychometrics.scoring import Movement
from resources.failures import PermanentFailure, TransientFailure, explain, is_transient
from resources.postgres.database import Connection, Database
from resources.postgres.schema_version import SchemaMisfit, schema_compared, schema_version
from resources.serving import traces

LOG = logging.getLogger("services.theta_api")
REFRESH_S = 30.0
"""Seconds between refreshes, so that a release is in force within a minute."""
MAX_AGE_S = 300.0
"""Seconds after which a published set that could not be refreshed is no longer used for scoring."""
RETRY_S = 1.0
FIRST_READ_TIMEOUT_S = 120.0
"""Longest wait for the first reading, in seconds. It includes compiling; a database that does not answer is detected
within seconds."""
STATEMENT_S = 2
CONNECT_S = 2
OPTIONS = (
    f"-c statement_timeout={STATEMENT_S}s -c lock_timeout={STATEMENT_S}s "
    "-c idle_in_transaction_session_timeout=10s -c plan_cache_mode=force_generic_plan "
    "-c enable_nestloop=off -c jit=off"
)
"""Settings of a connection for θ. Each statement is planned once per connection, because planning a learner's query
takes longer than running it. The plan must also suit learners with thousands of answers: with 400 omissions in 2,000
answers, nested loops took 170 ms, hash joins take 30."""


POST_OPTIONS = (
    "-c statement_timeout=5s -c lock_timeout=4s -c idle_in_transaction_session_timeout=10s "
    "-c plan_cache_mode=force_generic_plan -c jit=off"
)


class DatabaseUnavailable(TransientFailure):
    """The database does not answer at the moment, or the data from it is missing or too old."""


class Ledger:
    """Opens connections and keeps `measures` current from `start` to `stop`, across failures of the database."""

    def __init__(
        self,
        database: Database,
        connections: int,
        clock: Callable[[], datetime] | None = None,
        *,
        posts: int = 2,
    ) -> None:
        self.clock = clock or (lambda: datetime.now(UTC))
        self.settings = database.settings
        self.plans = Plans()
        self._database, self._connections, self._posts = database, connections, posts
        self._pool: ConnectionPool[Connection] | None = None
        self._post_pool: ConnectionPool[Connection] | None = None
        self._measures: Measures | None = None
        self._read_at = 0.0
        self._online_updates = database.settings.enable_irt_online_update
        self._stopped, self._refresh_wanted, self._first_read = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_reading, name="theta-ledger", daemon=True)
        self.why_unavailable = "the API is starting: the published parameters have not been read yet"

    def start(self) -> None:
        """Start reading in a thread.

        `ready` becomes true once the published parameters have been read and the code for θ has been compiled.
        """
        self._thread.start()

    def wait_for_first_read(self) -> None:
        """Wait for the first reading, successful or not, so that requests sent during a restart are not turned away."""
        self._first_read.wait(FIRST_READ_TIMEOUT_S)

    def stop(self) -> None:
        self._stopped.set()
        self._refresh_wanted.set()
        self._thread.join(5)
        for pool in (self._pool, self._post_pool):
            if pool is not None:
                pool.close(timeout=2)

    @property
    def ready(self) -> bool:
        return not self.why_unavailable and self.age_s < MAX_AGE_S

    @property
    def age_s(self) -> float:
        """Seconds since the published parameters were last read."""
        return time.monotonic() - self._read_at if self._measures is not None else float("inf")

    def measures(self) -> Measures:
        """The parameters in force.

        Raises DatabaseUnavailable if they have not been read yet, or if they are older than `MAX_AGE_S`.
        """
        if self._measures is None:
            raise DatabaseUnavailable(self.why_unavailable)
        if self.age_s > MAX_AGE_S:
            raise DatabaseUnavailable(f"the published parameters could not be read for {self.age_s / 60:.0f} minutes")
        return self._measures

    @contextmanager
    def connect(self, *, to_post: bool = False) -> Iterator[psycopg.Connection]:
        """Run one transaction on a connection of the pool for θ, or of the pool for posts if `to_post`.

        Raises DatabaseUnavailable if no connection is free in time, if the database does not answer or cannot be
        written to, or if the schema does not fit this code.
        """
        pool = self._post_pool if to_post else self._pool
        if pool is None:
            raise DatabaseUnavailable(self.why_unavailable)
        try:
            with (
                traces.span("transaction"),
                schema_compared(self._database),
                pool.connection(CONNECT_S) as connection,
            ):
                try:
                    yield connection
                except ReadOnlySqlTransaction:
                    connection.close()  # a new connection may lead to the primary
                    raise
        except (PoolTimeout, psycopg.OperationalError, ReadOnlySqlTransaction, SchemaMisfit) as error:
            raise self._note_failure(error) from error

    def refresh(self) -> None:
        """Read the parameters in force now. Raises PermanentFailure if the schema does not fit this code."""
        if fault := schema_version(self._database).fault:
            self._measures = None  # read again when the schema fits
            raise PermanentFailure(fault)
        with self._database.connect() as connection:
            measures = read_measures(connection, self.clock(), self._measures)
            measures.judging.read_ahead(connection)
            if self._measures is None:
                record_online_updates(connection, self._online_updates)
        if self._measures is None:
            _compile()
        with self._database.connect() as connection:
            self.plans.seeds.refresh(connection, measures)
            self.plans.refresh(connection, measures.as_of)
        if self._pool is None:
            self._post_pool = self._open(POST_OPTIONS, self._posts, "irt posts")
            self._pool = self._open(OPTIONS, self._connections, "irt theta-api")
        self._measures, self._read_at, self.why_unavailable = measures, time.monotonic(), ""

    def record_online_updates(self, connection: psycopg.Connection) -> None:
        """Record, once, that the exam service's session hook is on, even if this process's own setting is off."""
        if not self._online_updates:
            record_online_updates(connection, True)
            self._online_updates = True

    def _open(self, options: str, connections: int, name: str) -> ConnectionPool[Connection]:
        def configure(connection: Connection) -> None:
            connection.settings = self.settings

        return ConnectionPool(
            connection_class=Connection,
            configure=configure,
            kwargs=self._database.arguments(
                options,
                application_name=name,
                connect_timeout=CONNECT_S,
                tcp_user_timeout=5000,
                keepalives_idle=3,
                keepalives_interval=2,
            ),
            min_size=connections,
            max_size=connections,
            check=ConnectionPool.check_connection,
            reconnect_timeout=CONNECT_S,
            open=True,
        )

    def _keep_reading(self) -> None:
        while not self._stopped.is_set():
            self._refresh_wanted.clear()
            try:
                self.refresh()
            except Exception as error:
                self._note_failure(error)
                is_expected = is_transient(error) or isinstance(error, PermanentFailure)
                LOG.log(
                    logging.WARNING if is_expected else logging.ERROR,
                    "theta: the published parameters cannot be read: %s",
                    self.why_unavailable,
                    exc_info=None if is_expected else error,
                )
                self._first_read.set()
                self._stopped.wait(RETRY_S)
            else:
                self._first_read.set()
                self._refresh_wanted.wait(REFRESH_S)

    def _note_failure(self, error: Exception) -> DatabaseUnavailable:
        reason = explain(error) or str(error) or type(error).__name__
        if isinstance(error, PoolTimeout):
            reason = "the database accepts no connection"
        if not isinstance(error, QueryCanceled | LockNotAvailable | ReadOnlySqlTransaction):
            self.why_unavailable = reason
            self._refresh_wanted.set()
        return DatabaseUnavailable(reason)


def _compile() -> None:
    """Score a made-up learner and choose an item, so that the first request does not wait for the compiler."""
    zero = np.zeros(1, dtype=np.int32)
    made_up = Responses(zero, zero, np.ones(1, dtype=np.int8), 1, ("item",), at=zero.astype(np.int64))
    for movement in (Movement(), Movement(variance=0.01)):
        scale = Scale("warm", movement=movement)
        estimate(made_up, {"item": ItemRow(1.0, 0.0)}, scale)
    items = ItemParameters.from_rows(["item"], [ItemRow(1.0, 0.0)])
    SelectionPlan(AdaptiveTest(max_items=1), items, scale.mu, scale.sigma).next([], [], random_state=0)

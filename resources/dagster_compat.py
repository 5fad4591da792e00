"""Private parts of Dagster, for one version of it: no other module imports or replaces them.

First what others take from here unchanged, which is imported, then its servers, the logs of runs, its page as an
application, its queue, its monitor and its run worker. What `import dagster` does not load is imported inside the
function that needs it: it takes seconds. Other modules hold only what a subclass inherits (`INHERITED_IN`). What does
not belong here: what `dagster` itself exports, and the layer of our own around the page (see `irt_assets.webserver`).
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial, wraps
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any

from dagster import DagsterInstance
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.events import EngineEventData, RunFailureReason
from dagster._core.execution import context_creation_job
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus, PartitionBackfill
from dagster._core.execution.plan.objects import ErrorSource, StepFailureData
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, ScheduleInstigatorData, TickStatus
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.storage.cloud_storage_compute_log_manager import (
    CloudStorageComputeLogManager,
    PollingComputeLogSubscriptionManager,
)
from dagster._core.storage.compute_log_manager import CapturedLogSubscription, ComputeIOType
from dagster._core.storage.dagster_run import FINISHED_STATUSES, NOT_FINISHED_STATUSES
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    AUTO_RETRY_RUN_ID_TAG,
    HIDDEN_TAG_PREFIX,
    MAX_RETRIES_TAG,
    PARENT_BACKFILL_ID_TAG,
    PARENT_RUN_ID_TAG,
    PARTITION_NAME_TAG,
    PRIORITY_TAG,
    RETRY_NUMBER_TAG,
    RUN_FAILURE_REASON_TAG,
    RUN_KEY_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
)
from dagster._core.utils import coerce_valid_log_level
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._grpc.impl import start_run_in_subprocess
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from dagster._utils import ensure_file
from dagster._utils.error import ExceptionInfo
from dagster._utils.interrupts import capture_interrupts
from dagster._utils.log import configure_loggers
from dagster._utils.schedules import schedule_execution_time_iterator
from dagster_shared.error import SerializableErrorInfo
from psycopg2 import Error as DriverError  # SQLAlchemy does not wrap it where a connection is set up
from sqlalchemy.exc import DBAPIError
from starlette.types import ASGIApp

from resources.failures import PermanentFailure, TransientFailure, explain, is_transient
from resources.version import way_to_install

if TYPE_CHECKING:
    from dagster import LoggerDefinition, RunRecord

LOG = logging.getLogger(__name__)
DAGSTER = "1.13.27"
"""The version whose private parts this module knows; `pyproject.toml` pins the same."""
INHERITED_IN = (
    "jobs/launching/launcher.py",
    "jobs/launching/kubernetes_launcher.py",
    "jobs/launching/launched_by.py",
    "jobs/launching/stored_logs.py",
)
"""Modules with a subclass of one of Dagster's classes, which may use and override what is private to that."""
STATEMENT_TIMEOUT_MS = 15_000
POOL_RECYCLE_S = 3_600
MAX_OVERFLOW = 20
LIVE_DATA_POLL_MS = 2_000
"""These four are what `dagster-webserver` uses by default."""
LONGEST_OUTAGE_S = 300.0
"""About as long as a step is tried again (see `irt_assets.common.retries`)."""
RECONNECT_S = 1.0
REPEATED = ("add_", "all_", "create_", "fetch_", "get_", "handle_", "has_", "store_", "update_")
"""How the names of a storage's methods begin that are made again when they are cut off."""
READ_ONLY = "25006"
NUMBER = "SELECT pg_current_xact_id_if_assigned()::text"
BECAME = """SELECT CASE WHEN %(number)s::xid8 < pg_current_xact_id() THEN pg_xact_status(%(number)s::xid8) END"""
"""What became of a transaction; nothing, if a crash took its number back."""


def check_version() -> None:
    """Raise PermanentFailure where another version of the webserver is installed than the one that is known."""
    installed = version("dagster-webserver")
    if installed != DAGSTER:
        raise PermanentFailure(f"dagster-webserver is {installed}, needed is {DAGSTER}: {way_to_install()}")


def keep_connections(instance: DagsterInstance, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS) -> None:
    """Let the instance's storages keep their connections open between queries, as they do in the webserver.

    Otherwise each query opens one, which takes longer than the query. One that the database has closed meanwhile is
    replaced; they are closed with the context of the instance. `statement_timeout_ms`: 0 for none.
    """
    instance.optimize_for_webserver(statement_timeout_ms, POOL_RECYCLE_S, MAX_OVERFLOW)
    for storage in _storages(instance):
        storage._engine.pool._pre_ping = True
        instance._exit_stack.callback(storage._engine.dispose)


def wait_for_database(instance: DagsterInstance) -> None:
    """Let the instance's storages wait for a database that does not answer, up to `LONGEST_OUTAGE_S`.

    They give up after six seconds otherwise, and the run with them.
    """
    outage = _Outage()
    for storage in _storages(instance):
        connect_by = "_connect" if storage is instance.event_log_storage else "connect"
        transactions = _Transactions(storage, getattr(storage, connect_by), outage)
        setattr(storage, connect_by, transactions.connect)
        for name in dir(type(storage)):
            if name.startswith(REPEATED) and callable(getattr(type(storage), name)):
                setattr(storage, name, transactions.whole(getattr(storage, name)))


def _storages(instance: DagsterInstance) -> tuple[Any, ...]:
    return instance.run_storage, instance.event_log_storage, instance.schedule_storage


@dataclass
class _Outage:
    """What an instance's storages know together: whether they have written, and since when their database is away."""

    has_written: bool = False
    away_since: float | None = None


class _Transactions:
    """Calls of a storage, each of them one transaction, which is made again where its connection breaks or, once
    something was written, where the database may only be read.

    What breaks off leaves nothing, unless it does so while it is being committed; then the database knows what became
    of it. So nothing is doubled.
    """

    def __init__(self, storage: Any, connect: Callable[[], Any], outage: _Outage) -> None:
        self._storage, self._connect, self._outage, self._of_thread = storage, connect, outage, local()

    def connect(self, *_: Any) -> Any:
        """The connection of the call under way in this thread, else a new one."""
        return nullcontext(self._of_thread.connection) if self._is_under_way else self._connect()

    def whole(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method as a transaction, or as part of the one that is under way."""

        @wraps(method)
        def called(*arguments: Any, **options: Any) -> Any:
            call = partial(method, *arguments, **options)
            return call() if self._is_under_way else self._until_committed(call)

        return called

    @property
    def _is_under_way(self) -> bool:
        return hasattr(self._of_thread, "connection")

    def _until_committed(self, call: Callable[[], Any]) -> Any:
        number, result = None, None
        while True:
            try:
                with self._transaction() as connection:
                    if number is None or not _is_committed(connection, number):
                        result = call()
                        number = connection.exec_driver_sql(NUMBER).scalar()
            except (DBAPIError, DriverError, TransientFailure) as error:
                self._wait_after(error)
            else:
                self._outage.has_written = self._outage.has_written or number is not None
                self._outage.away_since = None
                return result

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        engine = self._storage._engine  # Dagster's own `connect` tries for six seconds, and logs each attempt
        with engine.connect() as made, made.execution_options(isolation_level="READ COMMITTED").begin():
            self._of_thread.connection = made
            try:
                yield made
            finally:
                del self._of_thread.connection

    def _wait_after(self, error: DBAPIError | DriverError | TransientFailure) -> None:
        """Raise the error where another attempt would not help, or the database is away for too long."""
        self._storage._engine.dispose()  # one that is kept may only read where others may write again
        now = time.monotonic()
        sqlstate = getattr(getattr(error, "orig", None), "pgcode", None)
        helps = is_transient(error) and (self._outage.has_written or sqlstate != READ_ONLY)
        if not helps or now - (self._outage.away_since or now) > LONGEST_OUTAGE_S:
            raise error
        if self._outage.away_since is None:
            self._outage.away_since = now
            LOG.warning("waiting %.0f minutes at most: %s", LONGEST_OUTAGE_S / 60, explain(error))
        time.sleep(RECONNECT_S)


def _is_committed(connection: Any, number: str) -> bool:
    """Whether a transaction that was cut off was committed. Raises TransientFailure where it may still be."""
    became = connection.exec_driver_sql(BECAME, {"number": number}).scalar()
    if became == "in progress":
        raise TransientFailure("the database has not finished what Dagster was recording when it was cut off")
    return bool(became == "committed")


def fork_runs(begin: Callable[[], None]) -> None:
    """In the code server: the processes that execute runs are of `multiprocessing`'s context "forkserver".

    They call `begin` first, a function of a module, and wait for the database, as `wait_for_database` says.
    """
    from dagster._grpc import server

    class ForkingServer(server.DagsterApiServer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._mp_ctx: Any = get_context("forkserver")

    vars(server)["DagsterApiServer"] = ForkingServer
    vars(server)["start_run_in_subprocess"] = partial(execute_started_run, begin)


def execute_started_run(begin: Callable[[], None], *arguments: Any) -> None:
    """What a process does that executes a run and was started by the code server."""
    begin()
    make = DagsterInstance.from_ref

    def made(ref: Any) -> DagsterInstance:
        instance = make(ref)
        wait_for_database(instance)
        return instance

    DagsterInstance.from_ref = staticmethod(made)  # type: ignore[method-assign,assignment]
    try:
        start_run_in_subprocess(*arguments)
    finally:
        atexit._run_exitfuncs()  # a process of that context ends without


def run_daemon() -> None:
    """`dagster-daemon` with this process's arguments; returns when it has ended."""
    from dagster._daemon.cli import main

    with DagsterInstance.get() as instance:
        let_none_be_ahead(instance)
    main()


def let_none_be_ahead(instance: DagsterInstance) -> None:
    """Date what schedules and sensors have in the future as now: where the clock was set back, they would wait for the
    time of their last tick."""
    now = time.time()
    for state in instance.all_instigator_state():
        if data := state.instigator_data:
            ahead: dict[str, Any] = {
                name: now for name, value in data._asdict().items() if isinstance(value, float) and value > now
            }
            instance.update_instigator_state(state.with_data(data._replace(**ahead)))
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, after=now):
            instance.update_tick(tick._replace(tick_data=tick.tick_data._replace(timestamp=now)))


def run_code_server() -> None:
    """`dagster api grpc` with this process's arguments; returns when it has ended."""
    from dagster._cli.api import grpc_command

    grpc_command()


def give_runs_these_loggers(loggers: Sequence[tuple[LoggerDefinition, dict[str, str]]]) -> None:
    """The loggers, with their configuration, of every run in this process whose run config names none.

    There is no setting for that.
    """
    vars(context_creation_job)["default_system_loggers"] = lambda _instance: list(loggers)


def have_the_last_word_on_logs(configure: Callable[[], None]) -> None:
    """Call `configure` whenever Dagster's daemon or code server has given its loggers handlers of its own.

    Otherwise every line is written twice, once by each.
    """
    from dagster._cli import api
    from dagster._daemon import controller

    def configured(**options: Any) -> None:
        configure_loggers(**options)
        configure()

    for module in (api, controller):
        vars(module)["configure_loggers"] = configured


@contextmanager
def webserver_app(
    workspace: Path,
    *,
    path_prefix: str,
    read_only: bool,
    tags_of_backfill: Callable[[Mapping[str, str]], dict[str, str]],
) -> Iterator[ASGIApp]:
    """The Dagster UI on the instance of DAGSTER_HOME, with the code locations of the file `workspace`.

    tags_of_backfill: of a request's headers the tags that a backfill gets which it asks for.

    Raises PermanentFailure as `check_version` does.
    """
    check_version()
    # Loaded here: they take seconds, and only the webserver needs them.
    from dagster_webserver.webserver import DagsterWebserver

    class Request(WorkspaceRequestContext):
        def get_viewer_tags(self) -> dict[str, str]:
            return tags_of_backfill(getattr(self.source, "headers", {}))

    class Process(WorkspaceProcessContext):
        def create_request_context(self, source: object | None = None) -> WorkspaceRequestContext:
            return Request(
                instance=self._instance,
                current_workspace=self.get_current_workspace(),
                process_context=self,
                version=self.version,
                source=source,
                read_only=self._read_only,
            )

    with DagsterInstance.get() as instance:
        keep_connections(instance)
        with Process(
            instance, version=DAGSTER, read_only=read_only, workspace_load_target=WorkspaceFileTarget([str(workspace)])
        ) as context:
            yield DagsterWebserver(context, path_prefix, LIVE_DATA_POLL_MS).create_asgi_app(lifespan=_end_quietly)


def queue_run(
    instance: DagsterInstance,
    workspace: Path,
    location: str,
    job: str,
    tags: Mapping[str, str],
    *,
    instead: Callable[[], str | None] = lambda: None,
) -> str:
    """Queue a run of a job of a code location, as the page does it, for the daemon to launch; the run's id.

    `instead` is called when the run is stored, so that others see it, and not queued yet. Where it returns the id of
    another run, this one is deleted, and the other is the answer. Raises TransientFailure where the code server does
    not answer.
    """
    from dagster._cli.job import _create_run

    target = WorkspaceFileTarget([str(workspace)])
    with _quiet(), WorkspaceProcessContext(instance, version=DAGSTER, workspace_load_target=target) as process:
        context = process.create_request_context()
        if context.has_code_location_error(location):
            raise TransientFailure(f"the code server of {location} does not answer: see `irt health`")
        code = context.get_code_location(location)
        (repository,) = code.get_repositories().values()
        run = _create_run(
            instance=instance,
            code_location=code,
            remote_repo=repository,
            remote_job=repository.get_full_job(job),
            run_config={},
            tags=dict(tags),
            op_selection=None,
            run_id=None,
        )
        other = instead()
        if other is not None:
            instance.delete_run(run.run_id)
            return other
        return instance.submit_run(run.run_id, context).run_id


def watch_starting_runs() -> None:
    """In the daemon: also ask a launcher that can answer (`check_starting_run`) about runs that are starting.

    Until a run has started, Dagster only watches the clock.
    """
    from dagster._daemon.monitoring import run_monitoring

    by_the_clock = run_monitoring.monitor_starting_run

    def monitor(instance: DagsterInstance, run_record: RunRecord, logger: logging.Logger) -> None:
        run = run_record.dagster_run
        if ask := getattr(instance.run_launcher, "check_starting_run", None):
            found = ask(run)
            if found.status is WorkerStatus.FAILED:
                now = instance.get_run_by_id(run.run_id)
                if now is not None and now.status is run.status:
                    logger.info("%s did not start: %s", run.run_id, found.msg)
                    instance.report_run_failed(run, found.msg)
                return
        by_the_clock(instance, run_record, logger)

    run_monitoring.monitor_starting_run = monitor


def tell_in_a_sentence(kind: type[Exception]) -> None:
    """In the daemon: an exception of `kind` is a sentence in its run's log, without a stack, and not in the daemon's.

    The code that raises it has already logged it there.
    """
    from dagster._daemon.utils import DaemonErrorCapture

    def process(exc_info: ExceptionInfo, logger: logging.Logger, log_message: str) -> SerializableErrorInfo:
        error = exc_info[1]
        if isinstance(error, kind):
            return SerializableErrorInfo(f"{error}\n", [], kind.__name__)
        return DaemonErrorCapture.default_process_exception(exc_info, logger, log_message)

    DaemonErrorCapture.process_exception = process


def execute_launched_run(run_id: str) -> int:
    """Execute a run that was launched, in this process, on the instance of DAGSTER_HOME; 0 where it succeeded."""
    from dagster._cli.api import _execute_run_command_body

    with capture_interrupts(), DagsterInstance.get() as instance:
        wait_for_database(instance)
        return _execute_run_command_body(run_id, instance, lambda _: None, set_exit_code_on_failure=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the traceback of an unreachable code server out of the log: the caller reports it in a sentence."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Error loading repository location")
        yield


@asynccontextmanager
async def _end_quietly(_app: object) -> AsyncIterator[None]:
    """uvicorn cancels the application when it is interrupted, which is not an error."""
    try:
        yield
    except asyncio.CancelledError:
        return

"""Private parts of Dagster, for one version of it: no other module imports or replaces them.

The module begins with imports that other modules use unchanged. Dagster's servers, the logs of runs, the UI as an
application and the queue follow. A comment above each import gives its reason, and the event after which it can go.
Modules that `import dagster` does not load are imported inside the function that needs them, because that takes
seconds. Other modules use private parts only in subclasses (`SUBCLASS_MODULES`). What does not belong here: public
names of `dagster`, and our own layer around the UI (see `irt_assets.webserver`).
"""

from __future__ import annotations

import asyncio
import atexit
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import DagsterInstance, DagsterRunStatus

# Distinguishes schedules from sensors; until `dagster` exports it, like `DagsterEventType`.
from dagster._core.definitions.run_request import InstigatorType

# Type of `define_asset_job`'s result; until `dagster` exports it.
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

# Filter for reading checks by partition; until partitioned checks leave preview.
from dagster._core.event_api import PartitionKeyFilter

# Reason of a run's failure, for `auto_reexecution_should_retry_run`; until that goes.
from dagster._core.events import RunFailureReason

# Chooses the logger of runs whose run config names no logger; until the instance's configuration can name it.
from dagster._core.execution import context_creation_job

# For listing backfills, and cancelling them without a daemon; until `DagsterInstance` has calls for both.
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

# Whether a step failed in Dagster or in our code; until `dagster` exports the types that `DagsterEvent` returns.
from dagster._core.execution.plan.objects import ErrorSource, StepFailureData

# Whether the daemon repeats a run; until the daemon no longer gives up a run while the code server is down.
from dagster._core.execution.retries import auto_reexecution_should_retry_run

# Arguments and results of a run launcher; until `dagster` exports them with `DefaultRunLauncher`.
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus

# States and ticks of schedules and sensors; until `DagsterInstance` has a public call for them.
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, ScheduleInstigatorData, TickStatus

# Results of checks by partition; until partitioned checks leave preview.
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

# Whether a run left output; until the compute log manager can say so without a kind.
from dagster._core.storage.compute_log_manager import ComputeIOType

# The UI's requests, to record who requested a backfill; until Dagster passes that request to the coordinator.
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext

# The address of the code server; until `DagsterInstance` submits a job of a code location by its name.
from dagster._core.workspace.load_target import WorkspaceFileTarget

# Executes a run in a process that the code server starts; until the code server's start method can be chosen.
from dagster._grpc.impl import start_run_in_subprocess

# Sets up the logs of daemon and code server, before ours are set up; until `--log-format` can name our format.
from dagster._utils.log import configure_loggers

# Times of a schedule as the daemon computes them, through changes of clocks; until `dagster` exports it.
from dagster._utils.schedules import schedule_execution_time_iterator
from starlette.types import ASGIApp

from resources.failures import PermanentFailure, TransientFailure
from resources.version import way_to_install

if TYPE_CHECKING:
    from dagster import LoggerDefinition

DAGSTER = "1.13.27"
"""The version whose private parts this module uses; `pyproject.toml` pins the same."""
SUBCLASS_MODULES = (
    "jobs/launching/launcher.py",
    "jobs/launching/kubernetes_launcher.py",
    "jobs/launching/launched_by.py",
)
"""Modules with subclasses of Dagster's classes, which may use and override private parts of these classes."""
ASSET_PARTITION_RANGE_END_TAG = "dagster/asset_partition_range_end"
ASSET_PARTITION_RANGE_START_TAG = "dagster/asset_partition_range_start"
AUTO_RETRY_RUN_ID_TAG = "dagster/auto_retry_run_id"
HIDDEN_TAG_PREFIX = ".dagster/"
MAX_RETRIES_TAG = "dagster/max_retries"
PARENT_BACKFILL_ID_TAG = "dagster/parent_backfill_id"
PARENT_RUN_ID_TAG = "dagster/parent_run_id"
PARTITION_NAME_TAG = "dagster/partition"
PRIORITY_TAG = "dagster/priority"
RETRY_NUMBER_TAG = "dagster/retry_number"
RETRY_ON_ASSET_OR_OP_FAILURE_TAG = "dagster/retry_on_asset_or_op_failure"
RUN_FAILURE_REASON_TAG = "dagster/failure_reason"
RUN_KEY_TAG = "dagster/run_key"
SCHEDULE_NAME_TAG = "dagster/schedule_name"
SENSOR_NAME_TAG = "dagster/sensor_name"
"""Dagster's tags. They are stored with runs, so Dagster cannot change them; a test compares them with Dagster's own."""
FINISHED_STATUSES = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
NOT_FINISHED_STATUSES = [*{*DagsterRunStatus} - {*FINISHED_STATUSES, DagsterRunStatus.MANAGED}]
BULK_ACTION_TERMINAL_STATUSES = {*BulkActionStatus} - {
    BulkActionStatus.REQUESTED,
    BulkActionStatus.CANCELING,
    BulkActionStatus.FAILING,
}
STATEMENT_TIMEOUT_MS = 15_000
POOL_RECYCLE_S = 3_600
MAX_OVERFLOW = 20
LIVE_DATA_POLL_MS = 2_000
"""Defaults of `dagster-webserver`, as are the three values above."""


def check_version() -> None:
    """Raise PermanentFailure if the installed webserver is not of the version DAGSTER."""
    installed = version("dagster-webserver")
    if installed != DAGSTER:
        raise PermanentFailure(f"dagster-webserver is {installed}, but {DAGSTER} is needed: {way_to_install()}")


def keep_connections(instance: DagsterInstance, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS) -> None:
    """Let the instance's storages keep their connections open between queries, as they do in the webserver.

    Otherwise each query opens a connection, which takes longer than the query. A connection that the database has
    closed is replaced; all are closed with the context of the instance. `statement_timeout_ms`: 0 for no limit.
    """
    instance.optimize_for_webserver(statement_timeout_ms, POOL_RECYCLE_S, MAX_OVERFLOW)
    # `_engine` and `_exit_stack`: until `optimize_for_webserver` can ping connections and close them with the instance.
    for storage in _storages(instance):
        storage._engine.pool._pre_ping = True
        instance._exit_stack.callback(storage._engine.dispose)


def _storages(instance: DagsterInstance) -> tuple[Any, ...]:
    return instance.run_storage, instance.event_log_storage, instance.schedule_storage


def fork_runs(begin: Callable[[], None]) -> None:
    """Let the code server start the processes of runs by `multiprocessing`'s context "forkserver".

    They first call `begin`, a function of a module.
    """
    # Starts the processes of runs with the context in `_mp_ctx`; until the context can be chosen.
    from dagster._grpc import server

    class ForkingServer(server.DagsterApiServer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._mp_ctx: Any = get_context("forkserver")

    vars(server)["DagsterApiServer"] = ForkingServer
    vars(server)["start_run_in_subprocess"] = partial(execute_started_run, begin)


def execute_started_run(begin: Callable[[], None], *arguments: Any) -> None:
    """Execute a run in a process that the code server has started."""
    begin()
    try:
        start_run_in_subprocess(*arguments)
    finally:
        atexit._run_exitfuncs()  # processes of the context "forkserver" do not call them


def run_daemon() -> None:
    """Run `dagster-daemon` with this process's arguments until it ends."""
    # The command, in a process that holds our lock; until the daemon takes its own lock.
    from dagster._daemon.cli import main

    main()


def run_code_server() -> None:
    """Run `dagster api grpc` with this process's arguments until it ends."""
    # The command, in a process that we set up; until `dagster` can call a function of ours first.
    from dagster._cli.api import grpc_command

    grpc_command()


def set_run_loggers(loggers: Sequence[tuple[LoggerDefinition, dict[str, str]]]) -> None:
    """Give these loggers, with their configuration, to every run in this process whose run config names no logger.

    Dagster has no setting for this.
    """
    vars(context_creation_job)["default_system_loggers"] = lambda _instance: list(loggers)


def reconfigure_logs(configure: Callable[[], None]) -> None:
    """Call `configure` each time Dagster's daemon or code server has added its handlers to its loggers.

    Otherwise every line is written twice, by Dagster's handler and by ours.
    """
    # Both modules import `configure_loggers` by name; until `--log-format` can name our format.
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

    tags_of_backfill: returns the tags of a backfill, from the headers of the request for it.

    Raises PermanentFailure like `check_version`.
    """
    check_version()
    # Loaded here: they take seconds, and only the webserver needs them.
    from dagster_webserver.webserver import DagsterWebserver

    class Request(WorkspaceRequestContext):
        def get_viewer_tags(self) -> dict[str, str]:
            return tags_of_backfill(getattr(self.source, "headers", {}))

    class Process(WorkspaceProcessContext):
        # Uses `_instance` and `_read_only` like the overridden method; until the class of a request can be chosen.
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
    """Queue a run of a job of a code location, as the UI does, for the daemon to launch. Returns the run's id.

    `instead` is called after the run is stored, so that other processes see it, and before it is queued. If `instead`
    returns the id of another run, the new run is deleted and that id is returned. Raises TransientFailure if the code
    server does not respond.
    """
    # Stores a run of a job of a code location; until `DagsterInstance` submits such a job by its name.
    from dagster._cli.job import _create_run

    target = WorkspaceFileTarget([str(workspace)])
    with (
        _hide_load_warnings(),
        WorkspaceProcessContext(instance, version=DAGSTER, workspace_load_target=target) as process,
    ):
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


@contextmanager
def _hide_load_warnings() -> Iterator[None]:
    """Keep the traceback of an unreachable code server out of the log: the caller raises an error with a sentence."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Error loading repository location")
        yield


@asynccontextmanager
async def _end_quietly(_app: object) -> AsyncIterator[None]:
    """Ignore that uvicorn cancels the application when it is interrupted."""
    try:
        yield
    except asyncio.CancelledError:
        return

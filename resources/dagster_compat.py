"""Private parts of Dagster, for one version of it: no other module imports or replaces them.

First what others take from here unchanged, which is imported, then its servers, the logs of runs, its page as an
application and its queue. A comment above each import says why, and until when. What `import dagster` does not load is
imported inside the function that needs it: it takes seconds. Other modules hold only what a subclass inherits
(`INHERITED_IN`). What does not belong here: what `dagster` itself exports, and the layer of our own around the page
(see `irt_assets.webserver`).
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import DagsterInstance, DagsterRunStatus

# What schedules and sensors are known by; until `dagster` exports it as it does `DagsterEventType`.
from dagster._core.definitions.run_request import InstigatorType

# Type of `define_asset_job`'s result; until `dagster` exports it.
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

# Checks are read by partition with it; until partitioned checks leave preview.
from dagster._core.event_api import PartitionKeyFilter

# Why a run failed, as `auto_reexecution_should_retry_run` takes it; until that goes.
from dagster._core.events import RunFailureReason

# Runs whose run config names no logger get ours; until the instance's configuration can name one.
from dagster._core.execution import context_creation_job

# Backfills are listed, and cancelled without a daemon; until `DagsterInstance` has calls for both.
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

# Whether a step failed in Dagster or in our code; until `dagster` exports what `DagsterEvent` returns.
from dagster._core.execution.plan.objects import ErrorSource, StepFailureData

# Whether the daemon repeats a run; until it no longer gives up a run while the code server is away.
from dagster._core.execution.retries import auto_reexecution_should_retry_run

# What a run launcher takes and returns; until `dagster` exports it with `DefaultRunLauncher`.
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus

# States and ticks of schedules and sensors; until `DagsterInstance` has a public call for them.
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, ScheduleInstigatorData, TickStatus

# Results of checks by partition; until partitioned checks leave preview.
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

# Whether a run left output; until the compute log manager can say so without a kind.
from dagster._core.storage.compute_log_manager import ComputeIOType

# The page's requests, to name who asked for a backfill; until Dagster hands a backfill's request to the coordinator.
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext

# Where the code server is; until `DagsterInstance` submits a job of a code location by its name.
from dagster._core.workspace.load_target import WorkspaceFileTarget

# Executes a run in a process that the code server starts; until the code server's start method can be chosen.
from dagster._grpc.impl import start_run_in_subprocess

# Sets up the logs of daemon and code server, after which we do; until `--log-format` can name ours.
from dagster._utils.log import configure_loggers

# Times of a schedule as the daemon computes them, through changes of clocks; until `dagster` exports it.
from dagster._utils.schedules import schedule_execution_time_iterator
from starlette.types import ASGIApp

from resources.failures import PermanentFailure, TransientFailure
from resources.version import way_to_install

if TYPE_CHECKING:
    from dagster import LoggerDefinition

LOG = logging.getLogger(__name__)
DAGSTER = "1.13.27"
"""The version whose private parts this module knows; `pyproject.toml` pins the same."""
INHERITED_IN = (
    "jobs/launching/launcher.py",
    "jobs/launching/kubernetes_launcher.py",
    "jobs/launching/launched_by.py",
)
"""Modules with a subclass of one of Dagster's classes, which may use and override what is private to that."""
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
"""Tags are stored with runs, so Dagster cannot change them; a test holds them equal to its own."""
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
"""These four are what `dagster-webserver` uses by default."""


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
    # `_engine` and `_exit_stack`: until `optimize_for_webserver` can ping connections and close them with the instance.
    for storage in _storages(instance):
        storage._engine.pool._pre_ping = True
        instance._exit_stack.callback(storage._engine.dispose)


def _storages(instance: DagsterInstance) -> tuple[Any, ...]:
    return instance.run_storage, instance.event_log_storage, instance.schedule_storage


def fork_runs(begin: Callable[[], None]) -> None:
    """In the code server: the processes that execute runs are of `multiprocessing`'s context "forkserver".

    They call `begin` first, a function of a module.
    """
    # Its class starts the processes of runs, and how is in its field `_mp_ctx`; until that can be chosen.
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
    try:
        start_run_in_subprocess(*arguments)
    finally:
        atexit._run_exitfuncs()  # a process of that context ends without


def run_daemon() -> None:
    """`dagster-daemon` with this process's arguments; returns when it has ended."""
    # The command, in a process that holds our lock; until the daemon takes a lock of its own.
    from dagster._daemon.cli import main

    main()


def run_code_server() -> None:
    """`dagster api grpc` with this process's arguments; returns when it has ended."""
    # The command, in a process that we set up; until `dagster` can be told what to call first.
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
    # Both look `configure_loggers` up in themselves; until `--log-format` can name ours.
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
        # With `_instance` and `_read_only`, as the overridden method; until the class of a request can be chosen.
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
    # Stores a run of a job of a code location; until `DagsterInstance` submits such a job by its name.
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

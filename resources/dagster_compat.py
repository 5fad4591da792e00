"""Private parts of Dagster, for one version of it: its page as an application, its queue, monitor and run worker.

What does not belong here: the layer of our own around the page (see `irt_assets.webserver`).
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from resources.failures import PermanentFailure, TransientFailure

if TYPE_CHECKING:
    import logging

    from dagster import DagsterInstance, RunRecord

DAGSTER = "1.13.27"
"""The version whose private parts are known; `pyproject.toml` pins the same."""
STATEMENT_TIMEOUT_MS = 15_000
POOL_RECYCLE_S = 3_600
MAX_OVERFLOW = 20
LIVE_DATA_POLL_MS = 2_000
"""These four are what `dagster-webserver` uses by default."""


def check_version() -> None:
    """Raise PermanentFailure where another version of the webserver is installed than the one that is known."""
    installed = version("dagster-webserver")
    if installed != DAGSTER:
        raise PermanentFailure(f"dagster-webserver {installed} is installed and {DAGSTER} is needed: run `make venv`")


def keep_connections(instance: DagsterInstance) -> None:
    """Let the instance's storages keep their connections open between queries, as they do in the webserver.

    Else each query opens one, which takes longer than the query.
    """
    instance.optimize_for_webserver(STATEMENT_TIMEOUT_MS, POOL_RECYCLE_S, MAX_OVERFLOW)


def have_the_last_word_on_logs(configure: Callable[[], None]) -> None:
    """Call `configure` whenever Dagster's daemon or code server has given its loggers handlers of its own.

    Else every line is written twice, once by each.
    """
    from dagster._cli import api
    from dagster._daemon import controller
    from dagster._utils.log import configure_loggers

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
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context

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
            instance,
            version=DAGSTER,
            read_only=read_only,
            workspace_load_target=WorkspaceFileTarget([str(workspace)]),
        ) as context:
            yield create_app_from_workspace_process_context(
                context, path_prefix, LIVE_DATA_POLL_MS, lifespan=_without_a_trace_at_the_end
            )


def queue_run(instance: DagsterInstance, workspace: Path, location: str, job: str, tags: Mapping[str, str]) -> str:
    """Queue a run of a job of a code location, as the page does it, for the daemon to launch; the run's id.

    Raises TransientFailure where the code server does not answer.
    """
    from dagster._cli.job import _create_run
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget

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
        return instance.submit_run(run.run_id, context).run_id


def watch_starting_runs() -> None:
    """In the daemon: ask a launcher that can tell (`check_starting_run`) for runs that are starting, too.

    Dagster looks at the clock alone until a run has started.
    """
    from dagster._core.launcher import WorkerStatus
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

    Whoever raises it has told of it there.
    """
    from dagster._daemon.utils import DaemonErrorCapture
    from dagster._utils.error import ExceptionInfo
    from dagster_shared.error import SerializableErrorInfo

    def process(exc_info: ExceptionInfo, logger: logging.Logger, log_message: str) -> SerializableErrorInfo:
        error = exc_info[1]
        if isinstance(error, kind):
            return SerializableErrorInfo(f"{error}\n", [], kind.__name__)
        return DaemonErrorCapture.default_process_exception(exc_info, logger, log_message)

    DaemonErrorCapture.process_exception = process


def execute_launched_run(run_id: str) -> int:
    """Execute a run that was launched, in this process, on the instance of DAGSTER_HOME; 0 where it succeeded."""
    from dagster import DagsterInstance
    from dagster._cli.api import _execute_run_command_body
    from dagster._utils.interrupts import capture_interrupts

    with capture_interrupts(), DagsterInstance.get() as instance:
        return _execute_run_command_body(run_id, instance, lambda _: None, set_exit_code_on_failure=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a trace of a code server that does not answer, which whoever asks says in a sentence."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Error loading repository location")
        yield


@asynccontextmanager
async def _without_a_trace_at_the_end(_app: object) -> AsyncIterator[None]:
    """uvicorn cancels the application when it is interrupted, which is not an error."""
    try:
        yield
    except asyncio.CancelledError:
        return

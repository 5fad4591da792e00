"""Dagster's webserver as an ASGI application: what it takes of Dagster that is not public, for one version of it.

What does not belong here: the layer of our own around it (see `irt_assets.webserver`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path

from starlette.types import ASGIApp

from resources.failures import PermanentFailure

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


@contextmanager
def webserver_app(workspace: Path, *, path_prefix: str, read_only: bool) -> Iterator[ASGIApp]:
    """The Dagster UI on the instance of DAGSTER_HOME, with the code locations of the file `workspace`.

    Raises PermanentFailure as `check_version` does.
    """
    check_version()
    # Loaded here: they take seconds, and only the webserver needs them.
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context

    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(STATEMENT_TIMEOUT_MS, POOL_RECYCLE_S, MAX_OVERFLOW)
        with WorkspaceProcessContext(
            instance,
            version=DAGSTER,
            read_only=read_only,
            workspace_load_target=WorkspaceFileTarget([str(workspace)]),
        ) as context:
            yield create_app_from_workspace_process_context(
                context, path_prefix, LIVE_DATA_POLL_MS, lifespan=_without_a_trace_at_the_end
            )


@asynccontextmanager
async def _without_a_trace_at_the_end(_app: object) -> AsyncIterator[None]:
    """uvicorn cancels the application when it is interrupted, which is not an error."""
    try:
        yield
    except asyncio.CancelledError:
        return

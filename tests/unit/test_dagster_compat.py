"""The version of Dagster whose private names we use, and the only module that may use them."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resources import dagster_compat
from resources.failures import PermanentFailure
from tests.helpers import dagster_private

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "pyproject.toml"
HOLDERS = (dagster_compat.__file__, dagster_private.__file__)
MAX_PRIVATE_NAMES = 32
PRIVATE = re.compile(r"\bdagster(_\w+)?(\.\w+)*\._\w")
LOOK_AT = (
    "pyproject.toml pins another version of {package} than {known}, whose private parts resources/dagster_compat.py "
    "knows. Read what changed in Dagster since; compare with its source every import and replacement of that module, "
    f"and what is inherited in {', '.join(dagster_compat.SUBCLASS_MODULES)}; run `make test CI=1`; then change DAGSTER "
    "there."
)


@pytest.mark.parametrize("package", ["dagster", "dagster-webserver", "dagster-aws", "dagster-postgres", "dagster-k8s"])
def test_supported_version_of_dagster_is_pinned(package: str) -> None:
    """Version 0.29.27 of Dagster's libraries belongs to version 1.13.27 of Dagster."""
    known = dagster_compat.DAGSTER
    if package in ("dagster-aws", "dagster-postgres", "dagster-k8s"):
        minor, patch = known.split(".")[1:]
        known = f"0.{int(minor) + 16}.{patch}"
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    pinned = [*project["dependencies"], *project["optional-dependencies"]["k8s"]]
    assert f"{package}=={known}" in pinned, LOOK_AT.format(package=package, known=known)


def test_supported_version_of_dagster_is_installed() -> None:
    dagster_compat.check_version()


def test_private_names_of_dagster_are_used_only_in_dagster_compat() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for folder in ("irt_assets", "jobs", "resources", "services", "deploy", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if str(path) not in (*HOLDERS, __file__)
        for line, name in private_names(path)
    ]
    assert not found, f"take them from resources/dagster_compat.py (tests: tests/helpers/dagster_private.py): {found}"


def test_comment_above_each_private_import_states_its_reason_and_its_end() -> None:
    names = 0
    for holder in HOLDERS:
        lines = Path(holder).read_text("utf-8").splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.ImportFrom) and PRIVATE.search(f"{node.module}."):
                above = next(line for line in reversed(lines[: node.lineno - 1]) if not PRIVATE.search(line))
                assert re.match(r" *# .*; until .*\.$", above), f"{holder}:{node.lineno}: {above}"
                names += len(node.names) * (holder == dagster_compat.__file__)
    assert names <= MAX_PRIVATE_NAMES, "use what `dagster` exports, or say in the commit for whom it is worth one more"


def test_tags_and_statuses_equal_dagsters() -> None:
    from dagster._core.execution import backfill
    from dagster._core.storage import dagster_run, tags

    ours = {name: value for name, value in vars(dagster_compat).items() if re.fullmatch(r"[A-Z_]+_(TAG|PREFIX)", name)}
    assert len(ours) == 15
    assert ours == {name: getattr(tags, name) for name in ours}
    for holder, name in (
        (dagster_run, "FINISHED_STATUSES"),
        (dagster_run, "NOT_FINISHED_STATUSES"),
        (backfill, "BULK_ACTION_TERMINAL_STATUSES"),
    ):
        assert {*getattr(dagster_compat, name)} == {*getattr(holder, name)}


def test_tables_of_dagster_are_queried_only_in_dagster_tables() -> None:
    query = re.compile(r"\b(?:FROM|JOIN|UPDATE|INTO)\s+(?:dagster|\{+dagster\}+)\.\w+")
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("irt_assets", "jobs", "resources", "services")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in query.findall(path.read_text("utf-8"))
    ]
    assert {name.partition(":")[0] for name in found} == {"resources/dagster_tables.py"}, found


def private_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of private imports, and of strings that name a private module, as for monkeypatch."""
    text = path.read_text("utf-8")
    if not (PRIVATE.search(text) or re.search(r"\bfrom dagster\S* import\b[^)]*?\b_\w", text)):
        return
    for node in ast.walk(ast.parse(text)):
        named: list[Any] = []
        if isinstance(node, ast.ImportFrom):
            named = [f"{node.module}.{one.name}" for one in node.names]
        elif isinstance(node, ast.Import):
            named = [one.name for one in node.names]
        elif isinstance(node, ast.Attribute):
            named = [ast.unparse(node)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = [node.value]
        for name in named:
            if found := PRIVATE.search(name):
                yield node.lineno, found[0]


def test_functions_of_dagster_that_we_replace_exist_with_the_same_parameters() -> None:
    """Replacing a function that no longer exists would silently have no effect. The functions are read from the modules
    that define them, as this process may have replaced them elsewhere already."""
    from dagster import _loggers
    from dagster._cli import api, job
    from dagster._core.execution import context_creation_job
    from dagster._core.remote_representation.external import RemoteSensor
    from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
    from dagster._daemon import controller
    from dagster._grpc.server import DagsterApiServer
    from dagster._utils import log

    takes = {
        (_loggers, "default_system_loggers"): ("instance",),
        (log, "configure_loggers"): ("handler", "formatter", "log_level"),
        (WorkspaceRequestContext, "get_viewer_tags"): ("self",),
        (WorkspaceProcessContext, "create_request_context"): ("self", "source"),
    }
    for (owner, name), parameters in takes.items():
        assert tuple(inspect.signature(getattr(owner, name)).parameters) == parameters, f"{owner.__name__}.{name}"
    assert hasattr(context_creation_job, "default_system_loggers")
    assert all(hasattr(module, "configure_loggers") for module in (api, controller))
    assert hasattr(controller, "DEFAULT_DAEMON_INTERVAL_SECONDS")
    assert {"_mp_ctx", "start_run_in_subprocess"} <= {*DagsterApiServer.StartRun.__code__.co_names}
    assert isinstance(RemoteSensor.min_interval_seconds, property)
    assert {"remote_repo", "remote_job", "code_location", "run_id"} <= {*inspect.signature(job._create_run).parameters}


def test_unsupported_version_of_dagster_is_refused_before_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dagster_compat, "version", lambda _: "1.14.0")
    with (
        pytest.raises(PermanentFailure, match=r"is 1\.14\.0, but 1\.13\.27 is needed"),
        dagster_compat.webserver_app(PROJECT, path_prefix="", read_only=False, tags_of_backfill=lambda _: {}),
    ):
        pass

"""Set-up of a process that loads the graph: logs, warnings, garbage collection, and access to settings."""

from __future__ import annotations

import ast
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from irt_assets import definitions
from irt_assets.common.environment import CONFIGURATION, WORKSPACE
from jobs.launching.launcher import HealthCheckedRunLauncher
from tests.testbed.patience import patient

LOADED = """
import gc, json, logging, sys, warnings
import dagster as dg
logging.getLogger("dagster").addHandler(logging.StreamHandler())
import irt_assets.definitions
from tests.helpers.dagster_private import context_creation_job
warnings.warn_explicit("a preview", dg.PreviewWarning, "somewhere.py", 1)
logging.getLogger("irt_assets.calibration").info("loaded")
print(json.dumps({
    "dagster": [type(one).__name__ for one in logging.getLogger("dagster").handlers],
    "root": [type(one).__name__ for one in logging.getLogger().handlers],
    "runs": context_creation_job.default_system_loggers(None)[0][1],
    "collects": gc.isenabled(),
}))
"""


def test_module_of_the_graph_only_builds_the_graph() -> None:
    """Apart from imports, functions and constants, the module only reads settings and builds the graph."""
    body = ast.parse(Path(definitions.__file__).read_text("utf-8")).body
    harmless = (ast.Import, ast.ImportFrom, ast.FunctionDef)
    done = [ast.unparse(one).partition(" = ")[0] for one in body if not isinstance(one, harmless)]
    assert [name for name in done if name.isidentifier()] == ["OWNERS", "DAILY_FRESHNESS", "SETTINGS", "defs"]
    assert all(isinstance(one, (*harmless, ast.Assign, ast.Expr)) for one in body)


def test_process_that_loads_the_graph_has_our_logs_and_collects_garbage() -> None:
    """Preview warnings of Dagster are hidden, too. A Spark driver keeps objects of its JVM until Python collects their
    proxies."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=patient(120))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("collects") is True
    assert found == {
        "dagster": [],
        "root": ["_StandardError"],
        "runs": {"log_level": "INFO", "name": "run"},
    }
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["message"] == "loaded"


def test_dagster_dev_in_a_checkout_ends_with_an_error_that_recommends_irt_serve(tmp_path: Path) -> None:
    for file in (CONFIGURATION, WORKSPACE):
        shutil.copy(file, tmp_path)
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER_", "IRT_"))}
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "dev"],
        cwd=tmp_path,
        env=bare,
        capture_output=True,
        text=True,
        timeout=patient(120),
    )
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "Traceback" not in output
    assert "IRT_DAGSTER_DATABASE_URL is not set" in output.splitlines()[-1]
    assert "`irt serve`" in output.splitlines()[-1]


def test_daemon_and_webserver_use_our_log_handler_once_their_instance_exists() -> None:
    """Both never load the graph, but creating their instance registers the launcher, which sets up logs."""
    root, dagster = logging.getLogger(), logging.getLogger("dagster")
    dagster.addHandler(logging.StreamHandler())
    launcher = {"module": HealthCheckedRunLauncher.__module__, "class": HealthCheckedRunLauncher.__name__}
    with dg.instance_for_test(overrides={"run_launcher": launcher}) as instance:
        assert isinstance(instance.run_launcher, HealthCheckedRunLauncher)
    assert dagster.handlers == []
    [ours] = [handler for handler in root.handlers if type(handler).__name__ == "_StandardError"]
    root.removeHandler(ours)


JOURNAL = """
import logging, os, sys
stderr = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{stderr.st_dev}:{stderr.st_ino + int(sys.argv[1])}"
from resources.serving import logs
logs.configure()
logging.getLogger("irt").info("began")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("irt").exception("failed")
"""


def test_every_line_in_the_journal_begins_with_its_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise `journalctl -p err` would find no entries. Every line of a traceback has the priority, too."""
    monkeypatch.setenv("LOG_FORMAT", "text")
    journal, elsewhere = (
        subprocess.run([sys.executable, "-c", JOURNAL, off], capture_output=True, text=True, check=True).stderr
        for off in ("0", "1")
    )
    first, *rest = journal.splitlines()
    assert first.startswith("<6>")
    assert len(rest) > 3
    assert all(line.startswith("<3>") for line in rest)
    assert "<" not in elsewhere.splitlines()[0]


MAY_READ_SETTINGS = {
    "irt_assets/definitions.py": "the graph's root",
    "irt_assets/cli/installation.py": "the root of every command",
    "irt_assets/demo/own_log.py": "it writes settings and goes on with them",
    "irt_assets/demo/simulated.py": "it writes settings and goes on with them",
    "irt_assets/servers/code_server.py": "a program",
    "irt_assets/servers/daemon.py": "a program",
    "irt_assets/webserver/__main__.py": "a program",
    "resources/migrations/env.py": "Alembic runs it",
    "resources/serving/service.py": "the program of each service",
    "resources/serving/logs.py": "it hides secrets before a program has read them",
}


def test_settings_are_read_only_by_programs_and_passed_to_other_modules() -> None:
    root = Path(definitions.__file__).parents[1]
    readers = {
        path.relative_to(root).as_posix()
        for folder in ("irt_assets", "jobs", "resources", "services")
        for path in (root / folder).rglob("*.py")
        if "get_settings" in (text := path.read_text("utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "get_settings"
    }
    assert readers == set(MAY_READ_SETTINGS)

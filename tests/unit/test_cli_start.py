"""What the command line imports before a command runs, and who may write to standard output with `--json`."""

from __future__ import annotations

import json
import subprocess
import sys

from irt_assets.cli import NOUNS
from tests.testbed.patience import patient

NOT_FOR_STATUS = {
    *(
        "numba",
        "scipy.optimize",
        "pandas",
        "scipy.stats",
        "duckdb",
        "botocore",
        "boto3",
        "plotly",
        "pandera",
        "jinja2",
        "pymc",
    ),
    *("irt_assets.definitions", "irt_assets.reports", "irt_assets.kpis"),
}
HEAVY = {"dagster", "numpy", "pandas", "psycopg", "pyarrow", "pydantic", "scipy", "sqlalchemy"}


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=patient(60))


def test_help_imports_nothing_heavy() -> None:
    """`irt --help` once took two seconds, most of them for importing SciPy; blocks, settings and progress bars took a
    seventh of the rest."""
    done = run("import sys, irt_assets.cli; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert not HEAVY & {name.partition(".")[0] for name in imported}
    assert not {"irt_assets.cli.console", "resources.version"} & imported


def test_help_says_of_a_command_what_it_says_of_itself() -> None:
    for noun in (noun for nouns in NOUNS.values() for noun in nouns):
        command = noun.command()
        assert command.name == noun.name
        assert " ".join(command.help.partition("\n\n")[0].split()) == noun.help


def test_a_command_imports_nothing_that_only_other_commands_need() -> None:
    """Status once took three seconds to load, most of them in garbage collections, SciPy's distributions and DuckDB. In
    fits of files SciPy's optimisers took an eighth of a second of two, and a fit of a normal θ uses none of them."""
    done = run("""
import sys
import irt_assets.cli.status, irt_assets.servers.stack
print(*sys.modules)
import irt_assets.cli.desk
print(*sys.modules)
""")
    assert done.returncode == 0, done.stderr
    of_status, of_fits_too = (set(line.split()) for line in done.stdout.splitlines())
    assert not NOT_FOR_STATUS & of_status
    assert "irt_assets.cli.desk" in of_fits_too
    assert not {"scipy.optimize", "scipy.interpolate", "scipy.stats"} & of_fits_too


def test_a_command_leaves_its_memory_to_the_system_unless_duckdb_would_list_it() -> None:
    """DuckDB writes on standard error what of its own was not freed when the process ends."""
    program = """
import gc, sys
from irt_assets import cli

@cli.app.command()
def loaded(name: str) -> None:
    __import__(name)

try:
    cli.main()
finally:
    cli._leave_memory_to_the_system()
    print(gc.get_freeze_count() > 0)
"""
    for module, is_left in (("json", "True"), ("duckdb", "False")):
        done = run(program, "loaded", module)
        assert (done.stdout.split(), done.stderr) == ([is_left], "")


def test_json_is_json_whatever_a_library_or_a_child_process_prints() -> None:
    done = run(
        """
import subprocess, sys
from irt_assets import cli
from irt_assets.cli import console

@cli.app.command()
def noisy(as_json: console.AsJson = False) -> None:
    print("a library")
    subprocess.run([sys.executable, "-c", "print('its child')"], check=True)
    console.out.print("a line for people")
    console.print_json({"answer": [as_json]})

cli.main()
""",
        "noisy",
        "--json",
    )
    assert json.loads(done.stdout) == {"answer": [True]}
    for line in ("a library", "its child", "a line for people"):
        assert line in done.stderr


def test_a_command_in_the_background_can_be_interrupted() -> None:
    """A shell has it ignore SIGINT, and Dagster in a run SIGTERM too, as do all that it starts."""
    done = run(
        """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from irt_assets import cli

@cli.app.command()
def handler() -> None:
    print(signal.getsignal(signal.SIGINT).__name__)

cli.main()
""",
        "handler",
    )
    assert done.stdout.strip() == "default_int_handler", done.stderr

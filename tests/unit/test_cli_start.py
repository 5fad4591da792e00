"""What the command line imports before a command runs, and who may write to standard output with `--json`."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {"dagster", "numpy", "pandas", "psycopg", "pyarrow", "pydantic", "scipy", "sqlalchemy"}


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)


def test_help_imports_nothing_heavy() -> None:
    """`irt --help` once took two seconds, most of them for importing SciPy."""
    done = run("import sys, irt_assets.cli; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert not HEAVY & {name.partition(".")[0] for name in done.stdout.split()}


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

"""Imports of the command line before a command runs, and standard output with `--json`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

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


def test_help_imports_no_heavy_package() -> None:
    """`irt --help` once took two seconds, most of them to import SciPy. Blocks, settings and progress bars took a
    seventh of the rest."""
    done = run("import sys, irt_assets.cli; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert not HEAVY & {name.partition(".")[0] for name in imported}
    assert not {"irt_assets.cli.console", "resources.version"} & imported


def test_list_of_commands_shows_the_first_paragraph_of_each_commands_own_help() -> None:
    for noun in (noun for nouns in NOUNS.values() for noun in nouns):
        command = noun.command()
        assert command.name == noun.name
        assert " ".join(command.help.partition("\n\n")[0].split()) == noun.help


def test_status_and_file_commands_do_not_import_packages_of_other_commands() -> None:
    """Status once took three seconds to load, most of them in garbage collections, SciPy's distributions and DuckDB. A
    fit of a file took two seconds, an eighth of a second of them to import SciPy's optimisers, which a fit of a normal
    θ does not use."""
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


def test_json_output_stays_valid_if_a_library_or_a_child_process_prints() -> None:
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


def test_command_handles_sigint_if_its_parent_ignores_sigint() -> None:
    """A shell starts background commands with SIGINT ignored. Dagster ignores SIGTERM too in a run, and child processes
    inherit this."""
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


def test_suggestion_on_a_terminal_asks_which_reading_is_right(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = (f"s{k},q{k % 2},10/{5 + k % 5:02d}/2026 09:{k:02d},{k % 2}\n" for k in range(30))
    path.write_text("student,question,submitted,correct\n" + "".join(rows))
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "irt_assets.cli", "import", "attempts", str(path), "--suggest", "--zone", "UTC"]
    with subprocess.Popen(command, stdin=end, stdout=subprocess.PIPE, stderr=end, text=True) as asked:
        os.close(end)
        os.write(terminal, b"3\n1\n")
        mapping, _ = asked.communicate(timeout=patient(60))
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert shown.count("Which is right (1, 2)?") == 2
    assert "line 2: 10/05/2026 09:00 is 10 May 2026, 09:00" in shown
    assert "format: '%m/%d/%Y %H:%M'" in mapping
    assert "choose" not in mapping
    assert "30 of 30 answers would be stored" in mapping

"""The units in a systemd that boots, on Debian 12 with its PostgreSQL 15 and without a network: what
docs/deploy-systemd.md says is done here, in this order, on one machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.deploy.booted import Machine, debian_root

ROOT = Path(__file__).parents[2]
PACKAGES = "systemd,systemd-sysv,dbus,python3,tzdata,postgresql"
INSTALLER = "/srv/wheelhouse/install.sh"
IRT = "/usr/local/bin/irt"
SERVERS = (
    "irt-code-server",
    "irt-daemon",
    "irt-webserver",
    "irt-exporter",
    "irt-theta-api",
    "shiny-dashboard",
    "jwt-verifier",
)
TOKENS = """IRT_ORG_ID=exam
JWT_ISSUER=https://issuer.example
JWT_AUDIENCE=irt
JWT_PUBLIC_KEY_PATH=/etc/irt/jwt_public.pem
"""
SETTINGS = f"""DATABASE_URL=postgresql:///irt?host=/var/run/postgresql
IRT_FIRST_MONTH=2026-10
IRT_THETA_TOKEN=0123456789abcdef0123456789abcdef
ALERT_WEBHOOK_URL=http://127.0.0.1:9999/alert
{TOKENS}"""
HOOK = """import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open("/srv/alerts", "ab") as file:
            file.write(self.rfile.read(int(self.headers["Content-Length"])) + b"\\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 9999), Hook).serve_forever()
"""
AT_WORK = "tail -F"
"""What copies the output of a run's steps; before, a run whose code server dies is repeated from its start."""
MONTH_S = 1200.0
START_S, WATCHDOG_S, RESTART_S = 300.0, 60.0, 10.0
"""Of the units: TimeoutStartSec, WatchdogSec, RestartSec."""
pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Iterator[Machine]:
    require(shutil.which("systemd-nspawn") is not None and os.geteuid() == 0, "systemd-nspawn, and root to run it")
    folder = tmp_path_factory.mktemp("booted")
    root = folder / "irt-debian"
    fault = debian_root(root, PACKAGES)
    require(not fault, f"a root of Debian 12 ({fault})")
    wheelhouse = ROOT / "dist/wheelhouse"
    subprocess.run([sys.executable, ROOT / "deploy/systemd/make_wheelhouse.py", wheelhouse], check=True)
    shutil.copytree(wheelhouse, root / "srv/wheelhouse")
    subprocess.run([ROOT / ".venv/bin/irt", "simulate", "--learners", "400", root / "srv/log"], check=True)
    (root / "srv/hook.py").write_text(HOOK)
    machine = Machine(root, folder / "console.log")
    try:
        machine.boot()
        machine.must("systemd-run", "--unit=hook", "python3", "/srv/hook.py")
        yield machine
    finally:
        machine.power_off()


def states(machine: Machine) -> list[str]:
    return machine.says("systemctl", "is-active", *SERVERS).splitlines()


def all_are_back(machine: Machine) -> float:
    """Seconds until every server is active; its start is the longest of their limits."""
    return machine.wait(
        lambda: states(machine) == ["active"] * len(SERVERS), RESTART_S + START_S, f"every one of {SERVERS}"
    )


def lives(machine: Machine) -> dict[str, tuple[str, str]]:
    """Of each server how often it was started again, and its process."""
    return {name: (machine.shows(name, "NRestarts"), machine.shows(name, "MainPID")) for name in SERVERS}


def test_on_a_bare_machine_the_installer_asks_for_a_database(machine: Machine) -> None:
    ran = machine.run(INSTALLER)
    assert ran.returncode == 1
    commands = [line.strip() for line in ran.stdout.splitlines() if "su postgres" in line]
    assert len(commands) == 2
    for command in commands:  # as they are printed
        machine.must("sh", "-c", command)


def test_it_installs_and_everything_is_well(machine: Machine) -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (machine.root / "etc/irt/jwt_public.pem").write_bytes(pem)
    for name, text in (("irt", SETTINGS), ("jwt-verifier", TOKENS)):
        (machine.root / f"etc/irt/{name}.env").write_text(text)
    machine.must(INSTALLER)
    assert states(machine) == ["active"] * len(SERVERS)
    for name in SERVERS:
        probe = {"shiny-dashboard": "dashboard"}.get(name, name.removeprefix("irt-"))
        if probe != "jwt-verifier":
            machine.must(IRT, "health", "--probe", probe)
    assert machine.says("systemctl", "--failed", "--no-legend") == ""
    assert machine.says("systemctl", "is-enabled", "irt.target") == "enabled"


def test_a_month_is_calibrated_by_the_service_of_the_timer_though_the_code_server_dies(machine: Machine) -> None:
    for kind, file in (
        ("questions", "questions.jsonl"),
        ("learners", "learners.jsonl"),
        ("attempts", "attempts.parquet"),
    ):
        machine.run(IRT, "import", kind, f"/srv/log/{file}")  # answers of months before the first one are rejected
    machine.must(IRT, "scale", "init")
    machine.must("systemctl", "start", "--no-block", "irt-calibration.service")
    machine.wait(
        lambda: AT_WORK in machine.says("systemctl", "status", "-n0", "-l", "irt-code-server"), START_S, "a worker"
    )
    machine.must("systemctl", "kill", "-s", "KILL", "--kill-whom=main", "irt-code-server")  # the worker lives on
    machine.wait(lambda: machine.shows("irt-calibration.service", "ActiveState") != "activating", MONTH_S, "its end")
    assert machine.shows("irt-calibration.service", "Result") == "success"
    said = machine.says("journalctl", "--no-pager", "--output=cat", "-u", "irt-calibration")
    assert "monthly_calibration 2026-10: done" in said
    assert int(machine.shows("irt-code-server", "NRestarts")) == 1
    assert '"state": "green"' in machine.says(IRT, "status", "--json")


def test_what_is_killed_is_back_within_its_limits(machine: Machine) -> None:
    before = lives(machine)
    machine.must("systemctl", "kill", "-s", "KILL", *SERVERS)
    machine.wait(lambda: "active" not in states(machine), WATCHDOG_S, "the death of all")
    print(f"killed: all back after {all_are_back(machine):.0f} s")
    for name, (restarts, process) in lives(machine).items():
        assert int(restarts) == int(before[name][0]) + 1
        assert process != before[name][1]


def test_what_hangs_is_started_again_by_its_watchdog(machine: Machine) -> None:
    before = lives(machine)
    machine.must("systemctl", "kill", "-s", "STOP", *SERVERS)
    machine.wait(
        lambda: all(int(restarts) > int(before[name][0]) for name, (restarts, _) in lives(machine).items()),
        2 * WATCHDOG_S + START_S,
        "a new start of everything",
    )
    all_are_back(machine)
    said = machine.says("journalctl", "--no-pager", "--output=cat", "_PID=1")
    for name in SERVERS:
        assert f"{name}.service: Failed with result 'watchdog'" in said


def test_a_database_that_is_away_ends_nothing(machine: Machine) -> None:
    before = lives(machine)
    machine.must("systemctl", "stop", "postgresql@15-main")
    machine.run("sleep", str(2.5 * WATCHDOG_S))
    assert lives(machine) == before
    machine.must("systemctl", "start", "postgresql@15-main")
    all_are_back(machine)
    machine.wait(lambda: machine.run(IRT, "health").returncode == 0, START_S, "every part of the daemon")
    assert lives(machine) == before
    assert machine.says("systemctl", "--failed", "--no-legend") == ""


def test_five_deaths_are_enough_and_somebody_is_told(machine: Machine) -> None:
    machine.must("systemctl", "reset-failed", "jwt-verifier")
    machine.must("systemctl", "restart", "jwt-verifier")  # the first of five starts
    for _ in range(5):
        machine.wait(lambda: machine.shows("jwt-verifier", "ActiveState") == "active", START_S, "the verifier")
        machine.must("systemctl", "kill", "-s", "KILL", "jwt-verifier")
        machine.wait(lambda: machine.shows("jwt-verifier", "ActiveState") != "active", START_S, "its death")
    machine.wait(lambda: machine.shows("jwt-verifier", "ActiveState") == "failed", START_S, "the end of patience")
    alerts = machine.root / "srv/alerts"
    machine.wait(lambda: alerts.exists() and "jwt-verifier.service failed" in alerts.read_text(), START_S, "an alert")
    machine.must("systemctl", "reset-failed", "jwt-verifier")
    machine.must("systemctl", "start", "jwt-verifier")


def test_after_a_reboot_everything_is_back(machine: Machine) -> None:
    machine.reboot()
    print(f"reboot: all back after {all_are_back(machine):.0f} s")
    assert machine.says("systemctl", "--failed", "--no-legend") == ""
    machine.wait(lambda: machine.run(IRT, "health").returncode == 0, START_S, "every part of the daemon")


def test_uninstalled_it_leaves_settings_and_data_and_nothing_that_runs(machine: Machine) -> None:
    machine.must("/opt/irt/current/install.sh", "--uninstall")
    assert machine.says("systemctl", "list-units", "--all", "--no-legend", "irt*", "jwt*", "shiny*") == ""
    assert not (machine.root / "opt/irt").exists()
    assert (machine.root / "etc/irt/irt.env").exists()
    assert (machine.root / "var/lib/irt/objects/.folder-id").exists()
    assert machine.says("find", "/proc", "-maxdepth", "1", "-user", "irt") == ""

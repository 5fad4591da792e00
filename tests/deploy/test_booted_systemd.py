"""The units on a booted systemd, on Debian 12 with its PostgreSQL 15 and without a network.

The tests follow docs/how-to/deploy-systemd.md, in this order, on one machine. CI runs the installation and, if a file
in `SHOWN` has changed, a month in which the code server is killed.
"""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.deploy.booted import IRT, ROOT, Machine, booted, fill_srv, first_month, import_log, log_of_unit, now
from tests.helpers.sentences import missing_sentences
from tests.testbed.patience import patient

PACKAGES = "systemd,systemd-sysv,dbus,python3,tzdata,postgresql"
INSTALLER = "/srv/wheelhouse/install.sh"
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
IRT_THETA_TOKEN=0123456789abcdef0123456789abcdef
ALERT_WEBHOOK_URL=http://127.0.0.1:9999/alert
{TOKENS}"""
ADDRESSES = {
    "irt-theta-api": "http://127.0.0.1:8001/ready",
    "irt-webserver": "http://127.0.0.1:3000/server_info",
    "irt-exporter": "http://127.0.0.1:9464/health",
    "shiny-dashboard": "http://127.0.0.1:8080/health",
    "jwt-verifier": "http://127.0.0.1:9000/health",
}
STREAM = """import json, os, sys, threading, time, urllib.request
came = {address: {"answered": 0, "failed": [], "slowest": 0.0} for address in sys.argv[1:]}
def ask(address, of_it):
    while not os.path.exists("/srv/enough") or of_it["answered"] + len(of_it["failed"]) < 2:
        began = time.monotonic()
        try:
            with urllib.request.urlopen(address, timeout=300) as answer:
                of_it["answered"] += answer.status == 200
        except OSError as error:
            of_it["failed"].append(str(error))
        of_it["slowest"] = max(of_it["slowest"], time.monotonic() - began)
        time.sleep(0.05)
threads = [threading.Thread(target=ask, args=pair) for pair in came.items()]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(came))
"""
HOOK = """import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open("/srv/alerts", "ab") as file:
            file.write(self.rfile.read(int(self.headers["Content-Length"])) + b"\\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 9999), Hook).serve_forever()
"""
AGAIN = "irt-again"
AT_WORK = "tail -F"
"""The process that copies the output of a run's steps. Until it runs, a run whose code server dies starts again."""
MONTH_S = 1200.0
AWAY_S = 600.0
ROOM = 16 << 20
START_S, WATCHDOG_S, RESTART_S = 300.0, 60.0, 10.0
"""TimeoutStartSec, WatchdogSec and RestartSec of the units."""
SHOWN = (
    "deploy/systemd/**",
    "docs/how-to/deploy-systemd.md",
    "irt_assets/servers/code_server.py",
    "irt_assets/servers/daemon.py",
    "resources/serving/listening.py",
    "resources/serving/service.py",
    "resources/serving/service_manager.py",
    "tests/deploy/*booted*.py",
)
"""Files that only a booted systemd tests: units, installer, their page, and the servers' side of the protocol."""
pytestmark = [pytest.mark.xdist_group("booted"), pytest.mark.timeout(patient(3600))]


@pytest.fixture(scope="module")
def bare_machine(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Iterator[Machine]:
    """A booted machine without the platform."""

    def fill(root: Path) -> None:
        fill_srv(root, learners=400)
        (root / "srv/hook.py").write_text(HOOK)
        (root / "srv/stream.py").write_text(STREAM)

    with booted(tmp_path_factory, require, "irt-debian", PACKAGES, fill) as machine:
        machine.must("systemd-run", "--unit=hook", "python3", "/srv/hook.py")
        yield machine


@pytest.fixture(scope="module")
def refused(bare_machine: Machine) -> subprocess.CompletedProcess[str]:
    """The installer's outcome if there is no database."""
    return bare_machine.run(INSTALLER)


@pytest.fixture(scope="module")
def installed(bare_machine: Machine, refused: subprocess.CompletedProcess[str]) -> Machine:
    """The machine with the platform and the database that the installer requests. If this fails, all its tests do."""
    for command in commands(refused):  # exactly as the installer prints them
        bare_machine.must("sh", "-c", command)
    key = rsa.generate_private_key(65537, 2048).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (bare_machine.root / "etc/irt/jwt_public.pem").write_bytes(pem)
    settings = f"IRT_FIRST_MONTH={first_month()}\n{SETTINGS}"
    for name, text in (("irt", settings), ("jwt-verifier", TOKENS)):
        (bare_machine.root / f"etc/irt/{name}.env").write_text(text)
    bare_machine.must(INSTALLER)
    return bare_machine


@pytest.fixture
def machine(installed: Machine) -> Machine:
    """The machine without failed units, so that any failure belongs to the test."""
    installed.must("systemctl", "reset-failed")
    return installed


def commands(refused: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.strip() for line in refused.stdout.splitlines() if "su postgres" in line]


def ended() -> str:
    """Beginning of a job's last line."""
    return f"monthly_calibration {first_month()}: "


def states(machine: Machine) -> list[str]:
    return machine.says("systemctl", "is-active", *SERVERS).splitlines()


def all_are_back(machine: Machine) -> float:
    """Wait until every server is active, at most the longest start limit. Returns the seconds."""
    return machine.wait(
        lambda: states(machine) == ["active"] * len(SERVERS), RESTART_S + START_S, f"every one of {SERVERS}"
    )


def lives(machine: Machine) -> dict[str, tuple[str, str]]:
    """Number of restarts and main process of each server."""
    return {name: (machine.shows(name, "NRestarts"), machine.shows(name, "MainPID")) for name in SERVERS}


@contextmanager
def none_refused(machine: Machine) -> Iterator[None]:
    """Send requests to every HTTP server all the time and check that each is answered.

    Each server gets at least two requests, and each request has a new connection.
    """
    enough = machine.root / "srv/enough"
    enough.unlink(missing_ok=True)
    machine.run("systemctl", "reset-failed", "stream")
    machine.must(
        *("systemd-run", "--unit=stream", "-p", "StandardOutput=truncate:/srv/stream.json"),
        *("python3", "/srv/stream.py", *ADDRESSES.values()),
    )
    yield
    enough.touch()
    machine.wait(lambda: machine.shows("stream", "ActiveState") == "inactive", START_S, "the end of all requests")
    came = json.loads((machine.root / "srv/stream.json").read_text())
    print(json.dumps(came, indent=1))
    assert {address: of_it["failed"] for address, of_it in came.items()} == {address: [] for address in came}
    assert min(of_it["answered"] for of_it in came.values()) > 1


@pytest.mark.long
def test_installer_prints_commands_to_create_a_database_if_there_is_no_database(
    refused: subprocess.CompletedProcess[str],
) -> None:
    assert refused.returncode == 1
    assert len(commands(refused)) == 2


@pytest.mark.ci
def test_all_servers_are_active_and_healthy_after_the_installation(machine: Machine) -> None:
    assert states(machine) == ["active"] * len(SERVERS)
    for name in SERVERS:
        probe = {"shiny-dashboard": "dashboard"}.get(name, name.removeprefix("irt-"))
        if probe != "jwt-verifier":
            machine.must(IRT, "health", "--probe", probe)
    assert machine.says("systemctl", "--failed", "--no-legend") == ""
    assert machine.says("systemctl", "is-enabled", "irt.target") == "enabled"


@pytest.mark.ci
@pytest.mark.on_change(*SHOWN)
def test_a_month_is_calibrated_by_the_timers_service_if_the_code_server_is_killed(machine: Machine) -> None:
    import_log(machine)
    machine.must(IRT, "job", "judge_attempts")  # `scale init` has queued the same job: let both end first
    machine.wait(
        lambda: AT_WORK not in machine.says("systemctl", "status", "-n0", "-l", "irt-code-server"), MONTH_S, "judging"
    )
    machine.must("systemctl", "start", "--no-block", "irt-calibration.service")
    machine.wait(
        lambda: AT_WORK in machine.says("systemctl", "status", "-n0", "-l", "irt-code-server"), START_S, "a worker"
    )
    machine.must("systemctl", "kill", "-s", "KILL", "--kill-whom=main", "irt-code-server")  # the worker survives
    machine.wait(lambda: machine.shows("irt-calibration.service", "ActiveState") != "activating", MONTH_S, "its end")
    assert machine.shows("irt-calibration.service", "Result") == "success"
    journal = machine.says("journalctl", "--no-pager", "--output=cat", "-u", "irt-calibration")
    assert f"{ended()}done" in journal
    assert int(machine.shows("irt-code-server", "NRestarts")) == 1
    assert '"state": "green"' in machine.says(IRT, "status", "--json")


QUIET = "irt-inactivity"
"""A unit whose job takes seconds; its timer is at 05:00 UTC."""
ABSENT = "engine {} calls the R IRT service: set R_IRT_BASE_URL and R_IRT_INTERNAL_TOKEN (docs/how-to/r-service.md)"


def ticks(machine: Machine, unit: str) -> None:
    """Let a timer start its unit once, now, and wait until the unit ends."""
    dropin = machine.root / f"etc/systemd/system/{unit}.timer.d/now.conf"
    dropin.parent.mkdir()
    dropin.write_text("[Timer]\nOnCalendar=\nOnActiveSec=1s\nPersistent=false\n")
    before = machine.shows(unit, "InvocationID")
    try:
        machine.must("systemctl", "daemon-reload")
        machine.must("systemctl", "restart", f"{unit}.timer")
        machine.wait(lambda: machine.shows(unit, "InvocationID") != before, START_S, f"a tick of {unit}.timer")
        machine.wait(lambda: machine.shows(unit, "ActiveState") != "activating", MONTH_S, f"the end of {unit}")
    finally:
        shutil.rmtree(dropin.parent)
        machine.must("systemctl", "daemon-reload")
        machine.must("systemctl", "restart", f"{unit}.timer")


@pytest.mark.long
def test_timers_make_only_missing_days_and_a_manual_start_repeats_the_last_day(machine: Machine) -> None:
    """Timer and manual starts alternate, as systemd reports for each start whether a timer caused it."""
    ticks(machine, QUIET)
    for _ in range(2):
        before, began = len(runs(machine, "detect_inactivity")), now(machine)
        machine.must("systemctl", "start", QUIET)
        yesterday = machine.must("date", "-u", "--date=yesterday", "+%F").strip()
        assert f"detect_inactivity {yesterday}: done" in log_of_unit(machine, QUIET, began)
        assert runs(machine, "detect_inactivity")[before:] == ["SUCCESS"]
        began = now(machine)
        ticks(machine, QUIET)
        assert "detect_inactivity: nothing is missing." in log_of_unit(machine, QUIET, began)
        assert len(runs(machine, "detect_inactivity")) == before + 1
    assert machine.shows(QUIET, "Result") == "success"


def refuses(machine: Machine, unit: str) -> str:
    """Start a unit whose engine is not installed. Returns its log."""
    began = now(machine)
    assert machine.run("systemctl", "start", unit).returncode != 0
    assert (machine.shows(unit, "ActiveState"), machine.shows(unit, "ExecMainStatus")) == ("failed", "2")
    return " ".join(log_of_unit(machine, unit, began).split())


def fits_by_pymc(machine: Machine) -> int:
    """Number of converged fits by PyMC."""
    query = "SELECT count(*) FROM mirt_fit_meta WHERE engine = 'pymc' AND converged"
    return int(machine.must("su", "postgres", "-c", f'psql -d irt -Atc "{query}"'))


@pytest.mark.long
def test_units_of_other_engines_fit_or_name_the_missing_setting(machine: Machine) -> None:
    """PyMC is in the wheelhouse. No Debian package has mirt, and brms needs the R service (see test_booted_faults).

    `irt-calibration-all` continues after both engines and ends as failed.
    """
    began = time.monotonic()
    machine.must("systemctl", "start", "irt-calibration-pymc")
    print(f"a month by em and PyMC: {time.monotonic() - began:.0f} s")
    fitted = fits_by_pymc(machine)
    assert fitted > 0
    for engine in ("mirt", "brms"):
        assert ABSENT.format(engine) in refuses(machine, f"irt-calibration-{engine}")
    message = refuses(machine, "irt-calibration-all")
    assert not missing_sentences(
        message, ABSENT.format("mirt"), f"{first_month()} default: green", ABSENT.format("brms")
    )
    assert fits_by_pymc(machine) == fitted, "the same outcome is the same fit"


@pytest.mark.long
def test_killed_servers_are_restarted_within_their_limits(machine: Machine) -> None:
    before = lives(machine)
    machine.must("systemctl", "kill", "-s", "KILL", *SERVERS)
    machine.wait(lambda: "active" not in states(machine), WATCHDOG_S, "the death of all")
    print(f"killed: all back after {all_are_back(machine):.0f} s")
    for name, (restarts, process) in lives(machine).items():
        assert int(restarts) == int(before[name][0]) + 1
        assert process != before[name][1]


@pytest.mark.long
def test_hanging_servers_are_restarted_by_their_watchdog(machine: Machine) -> None:
    before = lives(machine)
    machine.must("systemctl", "kill", "-s", "STOP", *SERVERS)
    machine.wait(
        lambda: all(int(restarts) > int(before[name][0]) for name, (restarts, _) in lives(machine).items()),
        2 * WATCHDOG_S + START_S,
        "a new start of everything",
    )
    all_are_back(machine)
    journal = machine.says("journalctl", "--no-pager", "--output=cat", "_PID=1")
    for name in SERVERS:
        assert f"{name}.service: Failed with result 'watchdog'" in journal


@pytest.mark.long
def test_no_server_ends_while_the_database_is_unreachable(machine: Machine) -> None:
    before = lives(machine)
    machine.must("systemctl", "stop", "postgresql@15-main")
    machine.run("sleep", str(AWAY_S))
    assert lives(machine) == before
    machine.must("systemctl", "start", "postgresql@15-main")
    all_are_back(machine)
    machine.wait(lambda: machine.run(IRT, "health").returncode == 0, START_S, "every part of the daemon")
    assert lives(machine) == before
    assert machine.says("systemctl", "--failed", "--no-legend") == ""


@pytest.mark.long
def test_a_unit_fails_after_five_deaths_and_an_alert_is_sent(machine: Machine) -> None:
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


@pytest.mark.long
def test_no_request_is_refused_during_reload_and_restart(machine: Machine) -> None:
    for verb in ("reload", "restart"):
        before = lives(machine)
        with none_refused(machine):
            machine.must("systemctl", verb, *ADDRESSES)
            print(f"{verb}: all back after {all_are_back(machine):.0f} s")
        for name in ADDRESSES:
            assert (lives(machine)[name] == before[name]) == (verb == "reload")


@pytest.mark.long
def test_settings_given_as_a_credential_are_not_in_the_environment(machine: Machine) -> None:
    server = "irt-exporter"
    dropin = machine.root / f"etc/systemd/system/{server}.service.d/credentials.conf"
    dropin.parent.mkdir()
    shutil.copy(machine.root / "opt/irt/current/share/etc/credentials.conf", dropin)
    try:
        machine.must("systemctl", "daemon-reload")
        machine.must("systemctl", "restart", server)
        environment = machine.must("cat", f"/proc/{machine.shows(server, 'MainPID')}/environ")
        assert "IRT_ENV_FILE=/run/credentials/" in environment
        assert not [line for line in SETTINGS.splitlines() if line in environment]
        machine.must(IRT, "health", "--probe", "exporter")
    finally:
        shutil.rmtree(dropin.parent)
        machine.must("systemctl", "daemon-reload")
        machine.must("systemctl", "restart", server)


@contextmanager
def calibrating_again(machine: Machine) -> Iterator[None]:
    """Calibrate the month again. Yields once the run has started."""
    unit = machine.root / f"etc/systemd/system/{AGAIN}.service"
    once_more = f"/opt/irt/current/bin/irt job monthly_calibration --partition {first_month()}"
    unit.write_text(f"[Service]\nType=oneshot\nExecStart={once_more}\n")
    machine.must("systemctl", "daemon-reload")
    before = len(runs(machine))
    machine.must("systemctl", "start", "--no-block", AGAIN)
    machine.wait(lambda: runs(machine)[before:] == ["STARTED"], START_S, "a worker that is at work")
    try:
        yield
    finally:
        unit.unlink()
        machine.must("systemctl", "daemon-reload")


@pytest.mark.long
def test_a_run_beyond_the_memory_limit_is_killed_alone_and_repeated(machine: Machine) -> None:
    if not machine.enforces_limits:
        pytest.skip("no limits of memory here: the machine's control groups are of version 2, or not writable")
    server, began = "irt-code-server", now(machine)
    before = machine.shows(server, "NRestarts"), machine.shows(server, "MainPID")
    with calibrating_again(machine):
        limit = resident(machine, server) + ROOM
        machine.must("systemctl", "set-property", "--runtime", server, f"MemoryMax={limit}")
        machine.wait(lambda: "out of memory" in log_of_unit(machine, AGAIN, began), MONTH_S, "the end of the worker")
        machine.must("systemctl", "set-property", "--runtime", server, "MemoryMax=80%")
        machine.wait(lambda: ended() in log_of_unit(machine, AGAIN, began), MONTH_S, "the end of the job")
    assert not missing_sentences(log_of_unit(machine, AGAIN, began), "the daemon repeats it as", f"{ended()}done")
    assert (machine.shows(server, "NRestarts"), machine.shows(server, "MainPID")) == before


@pytest.mark.long
def test_a_restarted_code_server_leaves_no_worker_and_the_run_is_completed(machine: Machine) -> None:
    """A run that does not end within the stop timeout is repeated."""
    began = now(machine)
    with calibrating_again(machine):
        machine.must("systemctl", "restart", "irt-code-server")
        assert AT_WORK not in machine.says("systemctl", "status", "-n0", "-l", "irt-code-server")
        machine.wait(lambda: ended() in log_of_unit(machine, AGAIN, began), MONTH_S, "the end of the job")
    assert f"{ended()}done" in log_of_unit(machine, AGAIN, began)


def resident(machine: Machine, unit: str) -> int:
    """Resident memory of a unit's processes, in bytes."""
    path = f"/sys/fs/cgroup/memory/{machine.shows(unit, 'ControlGroup')}/memory.stat"
    return int(dict(line.split() for line in machine.says("cat", path).splitlines())["total_rss"])


def monitors(machine: Machine) -> tuple[int, int, int]:
    """Exit codes of three monitors: is the invariants' timer active, has the last run failed, are the results fresh."""
    return (
        machine.run("systemctl", "is-active", "irt-invariants.timer").returncode,
        machine.run("systemctl", "is-failed", "irt-invariants.service").returncode,
        machine.run(IRT, "invariants", "fresh", "--max-age", "25h").returncode,
    )


def set_back(machine: Machine, time: str) -> None:
    """Move the evaluation times of the invariants back."""
    change = f"UPDATE invariant_result SET evaluated_at = evaluated_at - interval '{time}'"
    machine.must("su", "postgres", "-c", f'psql -d irt -c "{change}"')


@pytest.mark.long
def test_monitors_detect_faults_of_the_timers_and_the_daemon_can_be_reinstalled(machine: Machine) -> None:
    run = ("systemctl", "start", "irt-invariants.service")
    machine.must(INSTALLER, "--timers")
    try:
        assert machine.shows("irt-daemon", "ActiveState") == "inactive"
        machine.must(*run)
        assert monitors(machine) == (0, 1, 0)
        machine.must("systemctl", "stop", "irt-invariants.timer")
        assert monitors(machine) == (3, 1, 0)
        machine.must("systemctl", "start", "irt-invariants.timer")
        set_back(machine, "26 hours")
        assert monitors(machine) == (0, 1, 1)
        machine.must("systemctl", "stop", "postgresql@15-main")
        assert machine.run(*run).returncode != 0
        machine.must("systemctl", "start", "postgresql@15-main")
        assert monitors(machine) == (0, 0, 1)
        machine.must(*run)  # the day exists already and is not recomputed
        set_back(machine, "-26 hours")
        assert monitors(machine) == (0, 1, 0)
    finally:
        machine.must(INSTALLER, "--daemon")
    all_are_back(machine)
    assert machine.shows("irt-invariants.timer", "ActiveState") == "active"


def release(machine: Machine, which: str) -> str:
    return (machine.root / "opt/irt" / which).readlink().name


@pytest.mark.long
def test_upgrades_refuse_no_request_and_a_rollback_restores_the_first_release(machine: Machine) -> None:
    first, following = release(machine, "current"), machine.root / "srv/next"
    shutil.copytree(machine.root / "srv/wheelhouse", following)
    with (following / "share/doc/how-to/deploy-systemd.md").open("a") as page:
        page.write("Another release.\n")
    runpy.run_path(str(ROOT / "deploy/systemd/make_wheelhouse.py"))["_write_sums"](following)
    assert machine.run("/srv/next/install.sh").returncode == 1  # without --upgrade
    with none_refused(machine):
        machine.must("/srv/next/install.sh", "--upgrade")
    all_are_back(machine)
    assert (release(machine, "previous"), release(machine, "current") != first) == (first, True)
    assert '"state": "green"' in machine.says(IRT, "status", "--json")
    machine.must("/opt/irt/current/install.sh", "--rollback")
    all_are_back(machine)
    assert release(machine, "current") == first
    assert machine.says("systemctl", "--failed", "--no-legend") == ""


@pytest.mark.long
def test_all_servers_are_active_after_a_reboot(machine: Machine) -> None:
    machine.reboot()
    print(f"reboot: all back after {all_are_back(machine):.0f} s")
    assert machine.says("systemctl", "--failed", "--no-legend") == ""
    machine.wait(lambda: machine.run(IRT, "health").returncode == 0, START_S, "every part of the daemon")


@pytest.mark.long
def test_a_run_interrupted_by_a_sudden_reboot_is_repeated(machine: Machine) -> None:
    """No process is stopped before the reboot, as in a power failure."""
    before = len(runs(machine))
    with calibrating_again(machine):
        machine.reboot("--force", "--force")
        all_are_back(machine)
    began = time.monotonic()
    machine.wait(lambda: runs(machine)[before:] == ["FAILURE", "SUCCESS"], MONTH_S, "the repetition of the run")
    print(f"repeated {time.monotonic() - began:.0f} s after all were back")
    assert '"state": "green"' in machine.says(IRT, "status", "--json")
    assert machine.says("systemctl", "--failed", "--no-legend") == ""


def runs(machine: Machine, job: str = "monthly_calibration") -> list[str]:
    """Statuses of a job's runs, oldest first."""
    query = f"SELECT status FROM dagster.runs WHERE pipeline_name = '{job}' ORDER BY id"
    return machine.must("su", "postgres", "-c", f'psql -d irt -Atc "{query}"').split()


@pytest.mark.long
def test_uninstalling_keeps_settings_and_data_and_leaves_no_process(machine: Machine) -> None:
    machine.must("/opt/irt/current/install.sh", "--uninstall")
    assert machine.says("systemctl", "list-units", "--all", "--no-legend", "irt*", "jwt*", "shiny*") == ""
    assert not (machine.root / "opt/irt").exists()
    assert (machine.root / "etc/irt/irt.env").exists()
    assert (machine.root / "var/lib/irt/objects/.folder-id").exists()
    assert machine.says("find", "/proc", "-maxdepth", "1", "-user", "irt") == ""


@pytest.mark.long
def test_reinstalling_finds_the_data_and_purging_keeps_the_database(machine: Machine) -> None:
    machine.must(INSTALLER)
    all_are_back(machine)
    assert '"state": "green"' in machine.says(IRT, "status", "--json")
    machine.must("/opt/irt/current/install.sh", "--uninstall", "--purge")
    paths = ("opt/irt", "etc/irt", "var/lib/irt", "var/cache/irt", "var/log/irt", "usr/local/bin/irt")
    assert [path for path in paths if (machine.root / path).exists()] == []
    assert "mirt_ability" in machine.must("su", "postgres", "-c", "psql -d irt -c '\\dt'")

"""The units in a systemd that boots, on Debian 12 with its PostgreSQL 15 and without a network: what
docs/how-to/deploy-systemd.md says is done here, in this order, on one machine.
CI installs it; where something of it changed, it goes on as far as the deaths of all servers.
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

from tests.deploy.booted import IRT, ROOT, Machine, booted, fill_srv, first_month, import_log, now, said
from tests.helpers.sentences import unsaid
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
"""What copies the output of a run's steps; before, a run whose code server dies is repeated from its start."""
MONTH_S = 1200.0
AWAY_S = 600.0
ROOM = 16 << 20
START_S, WATCHDOG_S, RESTART_S = 300.0, 60.0, 10.0
"""Of the units: TimeoutStartSec, WatchdogSec, RestartSec."""
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
"""What only a systemd that boots shows: units and installer, their page, how servers speak with it."""
pytestmark = [pytest.mark.xdist_group("booted"), pytest.mark.timeout(patient(3600))]


@pytest.fixture(scope="module")
def bare_machine(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Iterator[Machine]:
    """Nothing is installed on it."""

    def fill(root: Path) -> None:
        fill_srv(root, learners=400)
        (root / "srv/hook.py").write_text(HOOK)
        (root / "srv/stream.py").write_text(STREAM)

    with booted(tmp_path_factory, require, "irt-debian", PACKAGES, fill) as machine:
        machine.must("systemd-run", "--unit=hook", "python3", "/srv/hook.py")
        yield machine


@pytest.fixture(scope="module")
def refused(bare_machine: Machine) -> subprocess.CompletedProcess[str]:
    """What the installer says where there is no database."""
    return bare_machine.run(INSTALLER)


@pytest.fixture(scope="module")
def installed(bare_machine: Machine, refused: subprocess.CompletedProcess[str]) -> Machine:
    """Installed, with the database that the installer asked for. Where that fails, all its tests do at once."""
    for command in commands(refused):  # as they are printed
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
    """What fails on it is the test's own."""
    installed.must("systemctl", "reset-failed")
    return installed


def commands(refused: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.strip() for line in refused.stdout.splitlines() if "su postgres" in line]


def ended() -> str:
    """How the last line of a job begins."""
    return f"monthly_calibration {first_month()}: "


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


@contextmanager
def none_refused(machine: Machine) -> Iterator[None]:
    """Ask every server that answers HTTP all the time, twice at least and each time over a new connection: all is
    answered."""
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
def test_on_a_bare_machine_the_installer_asks_for_a_database(refused: subprocess.CompletedProcess[str]) -> None:
    assert refused.returncode == 1
    assert len(commands(refused)) == 2


@pytest.mark.ci
def test_it_installs_and_everything_is_well(machine: Machine) -> None:
    assert states(machine) == ["active"] * len(SERVERS)
    for name in SERVERS:
        probe = {"shiny-dashboard": "dashboard"}.get(name, name.removeprefix("irt-"))
        if probe != "jwt-verifier":
            machine.must(IRT, "health", "--probe", probe)
    assert machine.says("systemctl", "--failed", "--no-legend") == ""
    assert machine.says("systemctl", "is-enabled", "irt.target") == "enabled"


@pytest.mark.ci
@pytest.mark.on_change(*SHOWN)
def test_a_month_is_calibrated_by_the_service_of_the_timer_though_the_code_server_dies(machine: Machine) -> None:
    import_log(machine)
    machine.must(IRT, "job", "judge_attempts")  # `scale init` has queued one: let both end first
    machine.wait(
        lambda: AT_WORK not in machine.says("systemctl", "status", "-n0", "-l", "irt-code-server"), MONTH_S, "judging"
    )
    machine.must("systemctl", "start", "--no-block", "irt-calibration.service")
    machine.wait(
        lambda: AT_WORK in machine.says("systemctl", "status", "-n0", "-l", "irt-code-server"), START_S, "a worker"
    )
    machine.must("systemctl", "kill", "-s", "KILL", "--kill-whom=main", "irt-code-server")  # the worker lives on
    machine.wait(lambda: machine.shows("irt-calibration.service", "ActiveState") != "activating", MONTH_S, "its end")
    assert machine.shows("irt-calibration.service", "Result") == "success"
    said = machine.says("journalctl", "--no-pager", "--output=cat", "-u", "irt-calibration")
    assert f"{ended()}done" in said
    assert int(machine.shows("irt-code-server", "NRestarts")) == 1
    assert '"state": "green"' in machine.says(IRT, "status", "--json")


QUIET = "irt-inactivity"
"""A unit whose job takes seconds; its timer is at 05:00 UTC."""
ABSENT = "engine {} calls the R IRT service: set R_IRT_BASE_URL and R_IRT_INTERNAL_TOKEN (docs/how-to/r-service.md)"


def ticks(machine: Machine, unit: str) -> None:
    """Let a timer start its unit once, now, and wait for its end."""
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
def test_a_timer_makes_what_is_missing_and_a_hand_the_last_day_again(machine: Machine) -> None:
    """Timer, hand, timer, hand, timer: systemd says each time anew which of them started the unit."""
    ticks(machine, QUIET)
    for _ in range(2):
        before, began = len(runs(machine, "detect_inactivity")), now(machine)
        machine.must("systemctl", "start", QUIET)
        yesterday = machine.must("date", "-u", "--date=yesterday", "+%F").strip()
        assert f"detect_inactivity {yesterday}: done" in said(machine, QUIET, began)
        assert runs(machine, "detect_inactivity")[before:] == ["SUCCESS"]
        began = now(machine)
        ticks(machine, QUIET)
        assert "detect_inactivity: nothing is missing." in said(machine, QUIET, began)
        assert len(runs(machine, "detect_inactivity")) == before + 1
    assert machine.shows(QUIET, "Result") == "success"


def refuses(machine: Machine, unit: str) -> str:
    """What a unit says that ends as what is asked for is not installed."""
    began = now(machine)
    assert machine.run("systemctl", "start", unit).returncode != 0
    assert (machine.shows(unit, "ActiveState"), machine.shows(unit, "ExecMainStatus")) == ("failed", "2")
    return " ".join(said(machine, unit, began).split())


def fits_by_pymc(machine: Machine) -> int:
    """Fits of the month by PyMC that converged."""
    query = "SELECT count(*) FROM mirt_fit_meta WHERE engine = 'pymc' AND converged"
    return int(machine.must("su", "postgres", "-c", f'psql -d irt -Atc "{query}"'))


@pytest.mark.long
def test_the_units_of_the_other_engines_fit_or_say_what_is_missing(machine: Machine) -> None:
    """PyMC comes with the wheelhouse. mirt is in no package of Debian, and brms needs the R service, which fits in
    test_booted_faults; `irt-calibration-all` goes on after each of the two and ends as failed."""
    began = time.monotonic()
    machine.must("systemctl", "start", "irt-calibration-pymc")
    print(f"a month by em and PyMC: {time.monotonic() - began:.0f} s")
    fitted = fits_by_pymc(machine)
    assert fitted > 0
    for engine in ("mirt", "brms"):
        assert ABSENT.format(engine) in refuses(machine, f"irt-calibration-{engine}")
    told = refuses(machine, "irt-calibration-all")
    assert not unsaid(told, ABSENT.format("mirt"), f"{first_month()} default: green", ABSENT.format("brms"))
    assert fits_by_pymc(machine) == fitted, "the same outcome is the same fit"


@pytest.mark.long
def test_what_is_killed_is_back_within_its_limits(machine: Machine) -> None:
    before = lives(machine)
    machine.must("systemctl", "kill", "-s", "KILL", *SERVERS)
    machine.wait(lambda: "active" not in states(machine), WATCHDOG_S, "the death of all")
    print(f"killed: all back after {all_are_back(machine):.0f} s")
    for name, (restarts, process) in lives(machine).items():
        assert int(restarts) == int(before[name][0]) + 1
        assert process != before[name][1]


@pytest.mark.long
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


@pytest.mark.long
def test_a_database_that_is_away_ends_nothing(machine: Machine) -> None:
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


@pytest.mark.long
def test_reload_and_restart_refuse_nobody(machine: Machine) -> None:
    for verb in ("reload", "restart"):
        before = lives(machine)
        with none_refused(machine):
            machine.must("systemctl", verb, *ADDRESSES)
            print(f"{verb}: all back after {all_are_back(machine):.0f} s")
        for name in ADDRESSES:
            assert (lives(machine)[name] == before[name]) == (verb == "reload")


@pytest.mark.long
def test_settings_as_a_credential_are_not_in_the_environment(machine: Machine) -> None:
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
    """A job that makes the month once more, from when its worker is at work."""
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
def test_a_run_at_the_limit_of_memory_ends_alone_and_is_repeated(machine: Machine) -> None:
    if not machine.enforces_limits:
        pytest.skip("no limits of memory here: the machine's control groups are of version 2, or not writable")
    server, began = "irt-code-server", now(machine)
    before = machine.shows(server, "NRestarts"), machine.shows(server, "MainPID")
    with calibrating_again(machine):
        limit = resident(machine, server) + ROOM
        machine.must("systemctl", "set-property", "--runtime", server, f"MemoryMax={limit}")
        machine.wait(lambda: "out of memory" in said(machine, AGAIN, began), MONTH_S, "the end of the worker")
        machine.must("systemctl", "set-property", "--runtime", server, "MemoryMax=80%")
        machine.wait(lambda: ended() in said(machine, AGAIN, began), MONTH_S, "the end of the job")
    assert not unsaid(said(machine, AGAIN, began), "the daemon repeats it as", f"{ended()}done")
    assert (machine.shows(server, "NRestarts"), machine.shows(server, "MainPID")) == before


@pytest.mark.long
def test_a_code_server_that_is_restarted_leaves_no_worker_and_the_run_is_done(machine: Machine) -> None:
    """A run that does not end within the seconds of the stop is repeated."""
    began = now(machine)
    with calibrating_again(machine):
        machine.must("systemctl", "restart", "irt-code-server")
        assert AT_WORK not in machine.says("systemctl", "status", "-n0", "-l", "irt-code-server")
        machine.wait(lambda: ended() in said(machine, AGAIN, began), MONTH_S, "the end of the job")
    assert f"{ended()}done" in said(machine, AGAIN, began)


def resident(machine: Machine, unit: str) -> int:
    """Bytes of memory that a unit's processes cannot give back."""
    path = f"/sys/fs/cgroup/memory/{machine.shows(unit, 'ControlGroup')}/memory.stat"
    return int(dict(line.split() for line in machine.says("cat", path).splitlines())["total_rss"])


def monitors(machine: Machine) -> tuple[int, int, int]:
    """The exit codes of the three monitors of the invariants: is the timer on, did the last run fail, is it fresh."""
    return (
        machine.run("systemctl", "is-active", "irt-invariants.timer").returncode,
        machine.run("systemctl", "is-failed", "irt-invariants.service").returncode,
        machine.run(IRT, "invariants", "fresh", "--max-age", "25h").returncode,
    )


def set_back(machine: Machine, time: str) -> None:
    """Let the invariants have been evaluated earlier."""
    change = f"UPDATE invariant_result SET evaluated_at = evaluated_at - interval '{time}'"
    machine.must("su", "postgres", "-c", f'psql -d irt -c "{change}"')


@pytest.mark.long
def test_with_timers_three_monitors_tell_what_is_wrong_and_the_daemon_comes_back(machine: Machine) -> None:
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
        machine.must(*run)  # the day is there already, and is not made again
        set_back(machine, "-26 hours")
        assert monitors(machine) == (0, 1, 0)
    finally:
        machine.must(INSTALLER, "--daemon")
    all_are_back(machine)
    assert machine.shows("irt-invariants.timer", "ActiveState") == "active"


def release(machine: Machine, which: str) -> str:
    return (machine.root / "opt/irt" / which).readlink().name


@pytest.mark.long
def test_an_upgrade_refuses_nobody_and_a_rollback_leads_back(machine: Machine) -> None:
    first, following = release(machine, "current"), machine.root / "srv/next"
    shutil.copytree(machine.root / "srv/wheelhouse", following)
    with (following / "share/doc/how-to/deploy-systemd.md").open("a") as page:
        page.write("Another release.\n")
    runpy.run_path(str(ROOT / "deploy/systemd/make_wheelhouse.py"))["_sealed"](following)
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
def test_after_a_reboot_everything_is_back(machine: Machine) -> None:
    machine.reboot()
    print(f"reboot: all back after {all_are_back(machine):.0f} s")
    assert machine.says("systemctl", "--failed", "--no-legend") == ""
    machine.wait(lambda: machine.run(IRT, "health").returncode == 0, START_S, "every part of the daemon")


@pytest.mark.long
def test_a_run_that_a_sudden_reboot_ended_is_repeated(machine: Machine) -> None:
    """Nothing is stopped before it, as where the power fails."""
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
    """How the runs of a job stand, oldest first."""
    query = f"SELECT status FROM dagster.runs WHERE pipeline_name = '{job}' ORDER BY id"
    return machine.must("su", "postgres", "-c", f'psql -d irt -Atc "{query}"').split()


@pytest.mark.long
def test_uninstalled_it_leaves_settings_and_data_and_nothing_that_runs(machine: Machine) -> None:
    machine.must("/opt/irt/current/install.sh", "--uninstall")
    assert machine.says("systemctl", "list-units", "--all", "--no-legend", "irt*", "jwt*", "shiny*") == ""
    assert not (machine.root / "opt/irt").exists()
    assert (machine.root / "etc/irt/irt.env").exists()
    assert (machine.root / "var/lib/irt/objects/.folder-id").exists()
    assert machine.says("find", "/proc", "-maxdepth", "1", "-user", "irt") == ""


@pytest.mark.long
def test_installed_again_it_finds_its_data_and_purged_it_leaves_the_database_alone(machine: Machine) -> None:
    machine.must(INSTALLER)
    all_are_back(machine)
    assert '"state": "green"' in machine.says(IRT, "status", "--json")
    machine.must("/opt/irt/current/install.sh", "--uninstall", "--purge")
    left = ("opt/irt", "etc/irt", "var/lib/irt", "var/cache/irt", "var/log/irt", "usr/local/bin/irt")
    assert [path for path in left if (machine.root / path).exists()] == []
    assert "mirt_ability" in machine.must("su", "postgres", "-c", "psql -d irt -c '\\dt'")

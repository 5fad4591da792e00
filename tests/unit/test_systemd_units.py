"""The units of deploy/systemd: verification by systemd's own tools, commands, timers, and templates."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from irt_assets.engines.registry import comparison_names
from irt_assets.runs.in_process_runs import SENSORS
from irt_assets.servers import SERVERS
from jobs.plans import PLANS, Plan
from resources.settings import known_names

SYSTEMD = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = SYSTEMD / "units"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
MOST_EXPOSED = 2.0
OF_THE_R_SERVICE = re.compile(r"R_IRT_\w+")
APPARMOR = shutil.which("apparmor_parser", path="/usr/sbin:/sbin")
WEEKDAYS = {"*": "", "1": "Mon "}


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Path:
    """Copy the units as they are installed, with stubs of their programs."""
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    folder = tmp_path_factory.mktemp("systemd")
    shutil.copytree(UNITS, folder / "units")
    for name in (
        "bin/irt",
        "libexec/irt-end-workers",
        "libexec/generate_reports.sh",
        "libexec/calibrate_all.sh",
        "libexec/irt-r-service",
    ):
        program = folder / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    for unit in (folder / "units").glob("*.service"):
        unit.write_text(unit.read_text().replace("/opt/irt/current", str(folder)))
    return folder / "units"


def run_analyze(units: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{units}:", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_systemd_verifies_all_units_without_a_message(units: Path) -> None:
    ran = run_analyze(
        units, "verify", "--man=no", *map(str, sorted(path for path in units.iterdir() if path.is_file()))
    )
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_exposure_of_every_service_is_below_the_limit(units: Path) -> None:
    named = [name.replace("@.", "@x.") for name in SERVICES]
    ran = run_analyze(units, "security", "--offline=true", "--no-pager", *named)
    levels = re.findall(r"exposure level for (\S+): (\d+\.\d)", ran.stdout)
    assert sorted(name for name, _ in levels) == sorted(named), ran.stderr
    assert {name: level for name, level in levels if float(level) > MOST_EXPOSED} == {}


def test_drop_in_that_loads_settings_as_a_credential_is_valid(units: Path) -> None:
    """Operators create this drop-in from the template."""
    dropin = units / "irt-theta-api.service.d/credentials.conf"
    dropin.parent.mkdir()
    shutil.copy(SYSTEMD / "etc/credentials.conf", dropin)
    try:
        ran = run_analyze(units, "verify", "--man=no", str(units / "irt-theta-api.service"))
        assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")
    finally:
        shutil.rmtree(dropin.parent)


def test_apparmor_profile_has_valid_syntax(require: Callable[[bool, str], None]) -> None:
    """Only the syntax is tested, because the kernels of the tests have no AppArmor."""
    require(APPARMOR is not None, "apparmor_parser (apt install apparmor)")
    assert APPARMOR is not None
    ran = subprocess.run(
        [APPARMOR, "--skip-kernel-load", "--skip-cache", SYSTEMD / "etc/apparmor.conf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_apparmor_profile_of_the_units_exists_in_complain_mode() -> None:
    named = {
        re.findall(r"^AppArmorProfile=-(\w+)$", path.read_text(), re.M)[0]
        for path in UNITS.glob("*.d/10-hardening.conf")
    }
    profiles = re.findall(r"^profile (\w+) flags=\((.*)\)", (SYSTEMD / "etc/apparmor.conf").read_text(), re.M)
    assert [(name, "complain" in flags.split(", ")) for name, flags in profiles] == [(name, True) for name in named]


def start_commands(name: str) -> list[list[str]]:
    """Return the commands of a unit, split into words."""
    return [line.split() for line in re.findall(r"^ExecStart=(.*)$", (UNITS / name).read_text(), re.M)]


def test_programs_and_commands_of_units_exist() -> None:
    jobs = {plan.documents_name for plan in PLANS} | set(SENSORS)
    for name in SERVICES:
        for command, *words in start_commands(name):
            if command.endswith("bin/irt"):
                known = {"run": set(SERVERS), "job": jobs, "calibrate": {"--engine"}, "report": {"drift"}}
                assert words == ["backup"] or words[1] in known.get(words[0], {"unit-failed"}), name
            else:
                assert (SYSTEMD / Path(command).name).stat().st_mode & 0o111, name
    servers = {words[2] for name in SERVICES for words in start_commands(name) if words[1:2] == ["run"]}
    assert servers == set(SERVERS)


@pytest.mark.parametrize(
    ("status_of_mirt", "fitted", "status"), [(0, "mirt pymc brms", 0), (2, "mirt pymc brms", 2), (1, "mirt", 1)]
)
def test_script_runs_the_remaining_engines_if_an_engine_is_not_installed(
    status_of_mirt: int, fitted: str, status: int, tmp_path: Path
) -> None:
    assert {*["mirt", "pymc", "brms"]} <= {*comparison_names()}
    irt = tmp_path / "irt"
    irt.write_text(f'#!/bin/sh\necho "$3" >>{tmp_path}/fitted\n[ "$3" != mirt ] || exit {status_of_mirt}\n')
    irt.chmod(0o755)
    ran = subprocess.run(["/bin/sh", SYSTEMD / "calibrate_all.sh"], env={"IRT": str(irt)}, check=False)
    assert ((tmp_path / "fitted").read_text().split(), ran.returncode) == (fitted.split(), status)


def test_services_with_a_watchdog_notify_systemd_and_every_failure_sends_an_alert() -> None:
    for name in SERVICES:
        text = (UNITS / name).read_text()
        assert ("Type=notify" in text) == ("WatchdogSec=" in text), name
        assert ("OnFailure=irt-failure@%n.service" in text) == (name != "irt-failure@.service"), name


def test_every_line_in_the_journal_names_its_unit() -> None:
    common = list(UNITS.glob("*.d/10-hardening.conf"))
    assert all("SyslogIdentifier=%N\n" in path.read_text() for path in common)
    prefixes = tuple(path.parent.name.removesuffix("service.d").removesuffix(".") for path in common)
    assert all(name.startswith(prefixes) for name in SERVICES)


def test_processes_that_outlive_their_server_have_a_permanent_temporary_folder() -> None:
    """systemd removes the private /tmp of a crashed service before it restarts the service."""
    folders = re.findall(r"^d (\S+) 0700 irt irt 2d$", (SYSTEMD / "etc/tmpfiles.conf").read_text(), re.M)
    for name in SERVICES:
        text = (UNITS / name).read_text()
        assert re.findall(r"^Environment=TMPDIR=(\S+)$", text, re.M) == folders * ("KillMode=process" in text), name


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.job)
def test_every_schedule_has_a_timer_at_its_time(plan: Plan) -> None:
    (service,) = [
        name
        for name in SERVICES
        if [plan.documents_name]
        == [w[2] for w in start_commands(name) if w[1:2] == ["job"] and w[2] == plan.documents_name]
    ]
    minute, hour, day, _, weekday = plan.cron.split()
    date = f"*-*-{day.rjust(2, '0') if day != '*' else '*'}"
    hour = hour if hour == "*" else hour.rjust(2, "0")
    expected = f"{WEEKDAYS[weekday]}{date} {hour}:{minute.rjust(2, '0')}:00 {plan.zone}"
    timer = (UNITS / service).with_suffix(".timer").read_text()
    assert f"OnCalendar={expected}\n" in timer
    assert "Persistent=true" in timer


def test_units_do_not_conflict_with_each_other() -> None:
    assert [path.name for path in UNITS.iterdir() if path.is_file() and "Conflicts=" in path.read_text()] == []


@pytest.mark.parametrize(
    ("begin", "hours"),
    [("2027-03-12", [7, 7, 6, 6]), ("2027-11-04", [6, 6, 7, 7]), ("2028-03-10", [7, 7, 6, 6])],
    ids=["the hour that is missing", "the hour that comes twice", "another year"],
)
def test_invariants_timer_fires_every_night_if_new_york_changes_its_clocks(
    units: Path, begin: str, hours: list[int]
) -> None:
    """02:00 in New York does not exist in one night of the year, and systemd skips that day."""
    lines = re.findall(r"^OnCalendar=(.*)$", (UNITS / "irt-invariants.timer").read_text(), re.M)
    output = run_analyze(units, "calendar", "--iterations=6", f"--base-time={begin} 12:00:00 UTC", *lines)
    at = {
        datetime.strptime(found, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - UTC, by the pattern
        for found in re.findall(r"(?:in UTC|elapse|#\d+): \w{3} (\S+ \S+) UTC", output.stdout)
    }
    nights = sorted(at)[: len(hours)]
    assert [night.hour for night in nights] == hours
    assert [(later.date() - earlier.date()).days for earlier, later in itertools.pairwise(nights)] == [1, 1, 1]


def test_templates_of_env_files_contain_only_settings() -> None:
    for template in (SYSTEMD / "etc").glob("*.env.example"):
        named = re.findall(r"^#?([A-Z][A-Z0-9_]+)=", template.read_text(), re.M)
        assert named
        unknown = [name for name in named if name not in known_names()]
        assert all(OF_THE_R_SERVICE.fullmatch(name) for name in unknown), (template, unknown)


def test_r_service_without_r_gives_the_packages_to_install_and_is_not_restarted(tmp_path: Path) -> None:
    ran = subprocess.run(
        ["/bin/sh", SYSTEMD / "irt-r-service"], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "R is not installed: apt-get install r-cran-plumber r-cran-processx" in ran.stderr
    assert "RestartPreventExitStatus=2\n" in (UNITS / "irt-r.service").read_text()

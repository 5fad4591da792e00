"""deploy/systemd/install.sh in a scratch folder: a small wheelhouse, and systemd's programs as lines in a log.

What only a booted systemd shows is in tests/deploy.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.sentences import unsaid

pytestmark = pytest.mark.on_change("deploy/systemd/**")

SYSTEMD = Path(__file__).parents[2] / "deploy" / "systemd"
RELEASES = ("1.0-aaaaaaaaaaaa", "1.1-bbbbbbbbbbbb", "1.2-cccccccccccc")
URL = "DATABASE_URL=postgresql:///irt?host=/var/run/postgresql\n"
STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "$IRT_TEST_LOG"
case "$*" in *"$IRT_TEST_FAILS"*) exit 1 ;; esac
"""
UV = """#!/bin/sh
echo "uv $*" >> "$IRT_TEST_LOG"
"""


@dataclass(frozen=True)
class Machine:
    """A scratch root, the wheelhouses of three releases, and what was asked of systemd."""

    root: Path
    houses: dict[str, Path]
    log: Path
    programs: Path

    def install(self, *arguments: str, release: str = RELEASES[0], fails: str = "nothing fails") -> tuple[int, str]:
        """Run the script of a release. Returns its exit status and all it says."""
        return self.script(self.houses[release] / "install.sh", *arguments, fails=fails)

    def script(self, script: Path, *arguments: str, fails: str = "nothing fails") -> tuple[int, str]:
        self.log.write_text("")
        ran = subprocess.run(
            ["sh", str(script), "--root", str(self.root), *arguments],
            env={"PATH": f"{self.programs}:/usr/bin:/bin", "IRT_TEST_LOG": str(self.log), "IRT_TEST_FAILS": fails},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return ran.returncode, ran.stdout

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines()

    @property
    def restarted(self) -> list[str]:
        """The units of the only command that restarts some."""
        (command,) = [line for line in self.asked if line.startswith("systemctl restart")]
        return command.split()[2:]

    @property
    def current(self) -> str:
        return (self.root / "opt/irt/current").readlink().name

    def env(self, text: str = URL, name: str = "irt", mode: int = 0o600) -> Path:
        file = self.root / f"etc/irt/{name}.env"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
        file.chmod(mode)
        return file

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for release in RELEASES:
        house = tmp_path_factory.mktemp("house") / release
        shutil.copytree(SYSTEMD / "units", house / "share/units")
        shutil.copytree(SYSTEMD / "etc", house / "share/etc")
        (house / "share/units" / f"irt-of-{release[:3]}.service").write_text("[Service]\n")
        for folder in ("wheels", "locks", "libexec"):
            (house / folder).mkdir()
        shutil.copy(SYSTEMD / "irt-as-service", house / "libexec")
        with zipfile.ZipFile(house / "wheels/uv-0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("uv-0.data/scripts/uv", UV)
        (house / "wheels/irt_assets-1.0-py3-none-any.whl").write_bytes(b"")
        (house / "locks/requirements.lock").write_text("")
        (house / "locks/requirements-build.lock").write_text("")
        shutil.copy(SYSTEMD / "install.sh", house)
        (house / "python").write_text(f"{sys.version_info.major}.{sys.version_info.minor} {platform.machine()}\n")
        sums = [
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(house)}\n"
            for path in sorted(house.rglob("*"))
            if path.is_file()
        ]
        (house / "SHA256SUMS").write_text("".join(sums))
        (house / "release").write_text(f"{release}\n")
        made[release] = house
    return made


@pytest.fixture
def machine(tmp_path: Path, houses: dict[str, Path]) -> Machine:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("systemctl", "systemd-run", "systemd-sysusers", "systemd-tmpfiles"):
        (programs / name).write_text(STUB)
        (programs / name).chmod(0o755)
    (programs / "python3").symlink_to(Path(sys.base_prefix) / "bin/python3")
    root = tmp_path / "root"
    root.mkdir()
    return Machine(root, houses, tmp_path / "log", programs)


@pytest.fixture
def installed(machine: Machine) -> Machine:
    """A machine with the first release, which has a database."""
    machine.env()
    machine.install()
    return machine


def test_without_a_database_it_writes_the_templates_names_three_commands_and_stops(machine: Machine) -> None:
    status, said = machine.install()
    assert status == 1
    assert unsaid(said, "apt-get install postgresql", "createuser irt", "createdb --owner=irt irt") == []
    assert (machine.root / "etc/irt/irt.env").stat().st_mode & 0o777 == 0o600
    assert machine.asked == []


def test_a_dry_run_changes_nothing(machine: Machine) -> None:
    before = machine.files()
    status, said = machine.install("--dry-run")
    assert (status, machine.files(), machine.asked) == (0, before, [])
    assert "would run: systemctl enable" in said


def test_the_schema_comes_before_the_switch_and_the_servers_after_it(machine: Machine) -> None:
    machine.env()
    status, said = machine.install()
    assert status == 0, said
    assert machine.current == RELEASES[0]
    order = [
        next(n for n, line in enumerate(machine.asked) if words in line)
        for words in ("sysusers", "uv pip install", "irt health --config", "irt db upgrade", "daemon-reload", "restart")
    ]
    assert order == sorted(order)
    assert "irt-daemon.service" in machine.restarted
    for unset in ("irt-theta-api", "shiny-dashboard", "jwt-verifier"):
        assert f"{unset}.service" not in machine.restarted
        assert f"{unset} is not started: set" in said
    units = machine.root / "etc/systemd/system"
    assert (units / "irt-.service.d/10-hardening.conf").is_file()
    assert (units / "jwt-verifier.service.d/10-hardening.conf").is_file()


def test_servers_whose_settings_are_there_are_started(machine: Machine) -> None:
    machine.env(URL + "IRT_THETA_TOKEN=x\nJWT_ISSUER=y\n")
    machine.env("JWT_ISSUER=y\n", "jwt-verifier")
    machine.install()
    assert {"irt-theta-api.service", "shiny-dashboard.service", "jwt-verifier.service"} <= {*machine.restarted}


def test_an_upgrade_restarts_the_r_service_where_it_was_enabled(installed: Machine) -> None:
    installed.install("--upgrade", release=RELEASES[1])
    assert "irt-r.service" in installed.restarted
    installed.install("--upgrade", release=RELEASES[2], fails="is-enabled --quiet irt-r")
    assert "irt-r.service" not in installed.restarted


def test_repeated_it_unpacks_nothing_and_leaves_settings_and_drop_ins_alone(machine: Machine) -> None:
    file = machine.env(URL + "IRT_THREADS=7\n")
    machine.install()
    drop_in = machine.root / "etc/systemd/system/irt-daemon.service.d/override.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\n")
    before = machine.files()
    status, _ = machine.install()
    assert status == 0
    assert not any(line.startswith("uv ") for line in machine.asked)
    assert machine.files() == before
    assert "IRT_THREADS=7" in file.read_text()


def test_timers_are_on_beside_the_daemon(installed: Machine) -> None:
    (enable,) = [line for line in installed.asked if "enable --quiet" in line]
    assert "irt-daemon.service" in enable
    assert {"irt-invariants.timer", "irt-report.timer"} <= set(enable.split())


def test_timers_alone_take_the_place_of_the_daemon(machine: Machine) -> None:
    machine.env()
    machine.install("--timers")
    others = {"irt-daemon.service", "irt-theta-sweep.timer", "irt-intake.timer", "irt-pull.timer"}
    assert "irt-calibration.timer" in machine.restarted
    assert not others & {*machine.restarted}
    assert "systemctl disable --now irt-daemon.service" in machine.asked


@pytest.mark.parametrize("options", [(), ("--timers",)], ids=["daemon", "timers"])
def test_whether_backups_are_made_is_left_to_the_operator(machine: Machine, options: tuple[str, ...]) -> None:
    machine.env()
    machine.install(*options)
    assert (machine.root / "etc/systemd/system/irt-backup.timer").is_file()
    assert not any("irt-backup" in line for line in machine.asked)


def test_an_upgrade_does_without_the_daemon_unless_it_is_asked_for(machine: Machine) -> None:
    machine.env()
    machine.install("--timers")
    for arguments, daemon in ((["--upgrade"], False), (["--daemon"], True)):
        machine.install(*arguments, release=RELEASES[1], fails="is-enabled")
        assert "irt-calibration.timer" in machine.restarted
        assert ("irt-daemon.service" in machine.restarted) == daemon


def test_timers_that_an_operator_switched_off_stay_off(installed: Machine) -> None:
    installed.install("--upgrade", release=RELEASES[1])
    assert not any(".timer" in line for line in installed.asked)
    installed.install("--daemon", release=RELEASES[1])
    assert any("enable" in line and "irt-calibration.timer" in line for line in installed.asked)


def test_the_journal_of_the_host_is_limited_only_if_asked(installed: Machine) -> None:
    limits = installed.root / "etc/systemd/journald.conf.d/irt.conf"
    assert not limits.exists()
    installed.install("--journal-limits")
    assert limits.exists()
    assert "systemctl restart systemd-journald.service" in installed.asked


@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_the_units_of_reports_may_write_to_the_folder_of_the_settings(machine: Machine, quote: str) -> None:
    (machine.root / "opt/dreamseed/reports").mkdir(parents=True)
    machine.env(f"{URL}REPORT_OUTPUT_DIR={quote}/opt/dreamseed/reports{quote}\n")
    machine.install()
    drop_ins = [
        machine.root / f"etc/systemd/system/{name}.service.d/report-output-dir.conf"
        for name in ("irt-report", "irt-report-")
    ]
    assert [path.read_text() for path in drop_ins] == ["[Service]\nReadWritePaths=/opt/dreamseed/reports\n"] * 2
    machine.env()
    machine.install()
    assert not any(path.exists() for path in drop_ins)


def test_installer_refuses_a_report_folder_that_is_not_a_whole_path(machine: Machine) -> None:
    machine.env(f"{URL}REPORT_OUTPUT_DIR=reports\n")
    status, said = machine.install()
    assert status == 1
    assert "REPORT_OUTPUT_DIR=reports is not a whole path" in said


def test_an_upgrade_keeps_the_old_release_and_a_rollback_returns_to_it(installed: Machine) -> None:
    status, said = installed.install(release=RELEASES[1])
    assert (status, installed.current) == (1, RELEASES[0])
    assert "--upgrade" in said

    units = installed.root / "etc/systemd/system"
    for release in RELEASES[1:]:
        status, said = installed.install("--upgrade", release=release)
        assert (status, installed.current) == (0, release), said
    assert {path.name for path in (installed.root / "opt/irt/releases").iterdir()} == set(RELEASES[1:])
    assert (units / "irt-of-1.2.service").is_file()
    assert not (units / "irt-of-1.1.service").exists()

    status, said = installed.script(installed.root / "opt/irt/current/install.sh", "--rollback")
    assert (status, installed.current) == (0, RELEASES[1]), said
    assert (units / "irt-of-1.1.service").is_file()
    assert not (units / "irt-of-1.2.service").exists()
    assert not any("db " in line for line in installed.asked)


def test_where_the_schema_cannot_be_brought_up_to_date_all_stays_as_it_was(installed: Machine) -> None:
    status, said = installed.install("--upgrade", release=RELEASES[1], fails="db upgrade")
    assert (status, installed.current) == (1, RELEASES[0])
    assert "goes on as it was" in said
    assert not any("restart" in line for line in installed.asked)


def test_where_a_server_does_not_start_the_way_back_is_named(installed: Machine) -> None:
    status, said = installed.install("--upgrade", release=RELEASES[1], fails="restart")
    assert status == 1
    assert "--rollback" in said


def test_uninstalling_keeps_settings_and_data_unless_it_is_told(installed: Machine) -> None:
    data = installed.root / "var/lib/irt/objects/snapshot"
    data.parent.mkdir(parents=True)
    data.write_text("answers")
    status, said = installed.script(installed.root / "opt/irt/current/install.sh", "--uninstall")
    assert status == 0, said
    kept = {"etc/irt/irt.env", "etc/irt/jwt-verifier.env", "etc/irt/irt-r.env", "var/lib/irt/objects/snapshot"}
    assert installed.files() == kept
    assert "database" in said

    installed.install()
    installed.script(installed.root / "opt/irt/current/install.sh", "--uninstall", "--purge")
    assert installed.files() == set()


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (URL, 0o644, "can be read by others"),
        (URL, 0o640, "can be read by others"),
        (URL.replace("\n", "\r\n"), 0o600, "CRLF"),
        ('DATABASE_URL="postgresql:///irt\n', 0o600, "line 1: a quote without its other one"),
        ("# first\nexport " + URL, 0o600, "line 2: systemd takes NAME=value"),
        ("DATABASE_URL = postgresql:///irt\n", 0o600, "line 1: systemd takes NAME=value"),
        ("DATABASE_URL=\n", 0o600, "names no database"),
    ],
    ids=["readable by all", "readable by a group", "CRLF", "half a quote", "export", "blanks", "embedded"],
)
def test_unfit_settings_are_refused_and_explained(machine: Machine, text: str, mode: int, said: str) -> None:
    machine.env(text, mode=mode)
    status, words = machine.install()
    assert status == 1
    assert said in words
    assert machine.asked == []


@pytest.mark.parametrize(("engines", "offered"), [("pymc,brms", True), ("pymc", False), ("", False)])
def test_where_an_engine_of_r_is_named_its_service_is_offered(machine: Machine, engines: str, offered: bool) -> None:
    machine.env(f"{URL}IRT_ENGINES={engines}\n")
    status, said = machine.install()
    assert status == 0
    assert ("systemctl enable --now irt-r" in said) == offered


def test_a_pair_of_quotes_is_fine(machine: Machine) -> None:
    machine.env('DATABASE_URL="postgresql://irt:p%27w@db/irt"\n')
    assert machine.install()[0] == 0


def test_a_wheelhouse_that_is_not_whole_is_refused(machine: Machine, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(machine.houses[RELEASES[0]], spoilt)
    (spoilt / "wheels/irt_assets-1.0-py3-none-any.whl").write_bytes(b"something else")
    status, said = machine.script(spoilt / "install.sh")
    assert status == 1
    assert "irt_assets-1.0-py3-none-any.whl: FAILED" in said


def test_a_wheelhouse_for_another_python_is_refused(machine: Machine, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(machine.houses[RELEASES[0]], other)
    sums = (other / "SHA256SUMS").read_text().splitlines(keepends=True)
    (other / "SHA256SUMS").write_text("".join(line for line in sums if not line.endswith("  python\n")))
    (other / "python").write_text("3.99 riscv64\n")
    status, said = machine.script(other / "install.sh")
    assert status == 1
    assert "3.99 riscv64" in said


def test_old_cron_lines_are_named(machine: Machine) -> None:
    machine.env()
    tab = machine.root / "var/spool/cron/crontabs/svc_dreamseed"
    tab.parent.mkdir(parents=True)
    tab.write_text("# 0 2 1 * * run_calibration.sh\n0 2 1 * * /opt/dreamseed/run_calibration.sh\n5 4 * * * backup\n")
    _, said = machine.install("--dry-run")
    assert f"warning: {tab}:2:0 2 1 * * /opt/dreamseed/run_calibration.sh" in said
    assert "backup" not in said
    assert f"{tab}:1" not in said

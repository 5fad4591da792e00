"""deploy/systemd/install.sh in a scratch folder, with a small wheelhouse and stubs that log calls of systemd's tools.

Tests that require a booted systemd are in tests/deploy.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.pictures import Picture

pytestmark = pytest.mark.on_change("deploy/systemd/**")

SYSTEMD = Path(__file__).parents[2] / "deploy" / "systemd"
RELEASES = ("1.0-aaaaaaaaaaaa", "1.1-bbbbbbbbbbbb", "1.2-cccccccccccc")
URL = "DATABASE_URL=postgresql:///irt?host=/var/run/postgresql\n"
STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "$IRT_TEST_LOG"
case "$*" in *"$IRT_TEST_FAILS"*) exit 1 ;; esac
"""
SYSTEMCTL = """#!/bin/sh
verb=$1; shift
enabled=$IRT_TEST_LOG.enabled
touch "$enabled"
if [ "$verb" = is-enabled ]; then
    for unit; do case $unit in -*) ;; *) grep -qxF "$unit" "$enabled" || exit 1 ;; esac; done
    exit 0
fi
echo "systemctl $verb $*" >> "$IRT_TEST_LOG"
case "$verb $*" in *"$IRT_TEST_FAILS"*) exit 1 ;; esac
for unit; do
    case $verb:$unit in
        *:-*) ;;
        enable:*) grep -qxF "$unit" "$enabled" || echo "$unit" >> "$enabled" ;;
        disable:*) grep -vxF "$unit" "$enabled" > "$enabled.new"; mv "$enabled.new" "$enabled" ;;
    esac
done
"""
"""Log calls except queries, and keep the names of enabled units."""
UV = """#!/bin/sh
echo "uv $*" >> "$IRT_TEST_LOG"
"""


@dataclass(frozen=True)
class Machine:
    """A scratch root, the wheelhouses of three releases, and the log of calls of systemd's programs."""

    root: Path
    houses: dict[str, Path]
    log: Path
    programs: Path

    def install(self, *arguments: str, release: str = RELEASES[0], fails: str = "nothing fails") -> tuple[int, str]:
        """Run the script of a release. Returns its exit status and its output."""
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
    def logged_calls(self) -> list[str]:
        return self.log.read_text().splitlines()

    @property
    def enabled(self) -> set[str]:
        return set(Path(f"{self.log}.enabled").read_text().splitlines())

    def systemctl(self, *arguments: str) -> None:
        """Call systemctl as an operator."""
        log = {"PATH": "/usr/bin:/bin", "IRT_TEST_LOG": str(self.log), "IRT_TEST_FAILS": "nothing fails"}
        subprocess.run([self.programs / "systemctl", *arguments], env=log, check=True)

    @property
    def current(self) -> str:
        return (self.root / "opt/irt/current").readlink().name

    def shown(self, *arguments: str, release: str = RELEASES[0], fails: str = "nothing fails") -> str:
        """Install, and return status, output and calls as text, with a unit per line and without this run's paths."""
        status, output = self.install(*arguments, release=release, fails=fails)
        current = self.current if (self.root / "opt/irt/current").exists() else "none"
        lines = [f"exit status {status}, current release: {current}", output, "asked:", *self.logged_calls]
        text = "\n".join(lines).replace(str(self.houses[release]), "HOUSE").replace(str(self.root), "ROOT")
        return re.sub(r" (?=[\w@.-]+\.(?:service|timer|target)\b)", "\n  ", text)

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
        for kind in ("service", "timer"):
            (house / "share/units" / f"irt-of-{release[:3]}.{kind}").write_text("")
        for folder in ("wheels", "locks", "libexec"):
            (house / folder).mkdir()
        shutil.copy(SYSTEMD / "irt-as-service", house / "libexec")
        with zipfile.ZipFile(house / "wheels/uv-0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("uv-0.data/scripts/uv", UV)
        for package in ("irt_assets", "irt_psychometrics"):
            (house / f"wheels/{package}-1.0-py3-none-any.whl").write_bytes(b"")
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
        (programs / name).write_text(SYSTEMCTL if name == "systemctl" else STUB)
        (programs / name).chmod(0o755)
    (programs / "python3").symlink_to(Path(sys.base_prefix) / "bin/python3")
    root = tmp_path / "root"
    root.mkdir()
    return Machine(root, houses, tmp_path / "log", programs)


SCENES: dict[str, tuple[str, dict[tuple[str, ...], dict[str, str]]]] = {
    "no_database": ("", {(): {}}),
    "first": (URL, {(): {}}),
    "all_servers": (URL + "IRT_THETA_TOKEN=x\nJWT_ISSUER=y\n", {(): {}}),
    "upgrade": (
        URL,
        {
            (): {},
            ("--upgrade",): {"release": RELEASES[1]},
            ("--upgrade", "--journal-limits"): {"release": RELEASES[2]},
            ("--daemon",): {"release": RELEASES[2]},
        },
    ),
    "timers": (
        URL,
        {("--timers",): {}, ("--upgrade",): {"release": RELEASES[1]}, ("--daemon",): {"release": RELEASES[1]}},
    ),
    "no_upgrade": (URL, {(): {}, ("--daemon",): {"release": RELEASES[1]}}),
    "no_schema": (URL, {(): {}, ("--upgrade",): {"release": RELEASES[1], "fails": "db upgrade"}}),
    "no_start": (URL, {(): {}, ("--upgrade",): {"release": RELEASES[1], "fails": "restart"}}),
}
"""Settings and consecutive calls by scene. A call has arguments, the release, and the command that fails."""
CHANGING = {"n": r"(?<=hashes of )\d+"}


@pytest.mark.parametrize("scene", SCENES)
def test_installer_calls_systemd_in_the_right_order_and_explains_each_step(
    machine: Machine, picture: Picture, scene: str
) -> None:
    """The schema is upgraded before the switch, and servers restart after it. Servers without settings are not started,
    backups are left to the operator, disabled timers stay disabled, and a failure leaves the release unchanged."""
    settings, calls = SCENES[scene]
    if settings:
        machine.env(settings)
    if "JWT_ISSUER" in settings:
        machine.env("JWT_ISSUER=y\n", "jwt-verifier")
    titles = {call: ", ".join([" ".join(["install.sh", *call]), *options.values()]) for call, options in calls.items()}
    picture({titles[call]: machine.shown(*call, **options) for call, options in calls.items()}, scene, **CHANGING)


def test_dry_run_changes_no_file_and_lists_old_cron_lines(machine: Machine, picture: Picture) -> None:
    tab = machine.root / "var/spool/cron/crontabs/svc_dreamseed"
    tab.parent.mkdir(parents=True)
    tab.write_text("# 0 2 1 * * run_calibration.sh\n0 2 1 * * /opt/dreamseed/run_calibration.sh\n5 4 * * * backup\n")
    before = machine.files()
    picture(machine.shown("--dry-run"), "dry_run", **CHANGING)
    assert machine.files() == before


def test_installer_writes_private_templates_all_units_and_journal_limits_on_request(machine: Machine) -> None:
    machine.install()
    assert (machine.root / "etc/irt/irt.env").stat().st_mode & 0o777 == 0o600
    machine.env()
    machine.install()
    units = ("irt-.service.d/10-hardening.conf", "jwt-verifier.service.d/10-hardening.conf", "irt-backup.timer")
    assert {f"etc/systemd/system/{unit}" for unit in units} <= machine.files()
    limits = "etc/systemd/journald.conf.d/irt.conf"
    assert limits not in machine.files()
    machine.install("--journal-limits")
    assert limits in machine.files()


def test_repeated_installation_unpacks_no_wheel_and_keeps_settings_and_drop_ins(machine: Machine) -> None:
    file = machine.env(URL + "IRT_THREADS=7\n")
    machine.install()
    drop_in = machine.root / "etc/systemd/system/irt-daemon.service.d/override.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\n")
    before = machine.files()
    status, _ = machine.install()
    assert status == 0
    assert not any(line.startswith("uv ") for line in machine.logged_calls)
    assert machine.files() == before
    assert "IRT_THREADS=7" in file.read_text()


@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_report_units_may_write_to_the_report_folder_of_the_settings(machine: Machine, quote: str) -> None:
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


def test_upgrade_keeps_the_old_release_and_rollback_returns_to_that_release(machine: Machine) -> None:
    machine.env()
    machine.install()
    units = machine.root / "etc/systemd/system"
    for release in RELEASES[1:]:
        status, output = machine.install("--upgrade", release=release)
        assert (status, machine.current) == (0, release), output
    assert {path.name for path in (machine.root / "opt/irt/releases").iterdir()} == set(RELEASES[1:])
    assert (units / "irt-of-1.2.service").is_file()
    assert not (units / "irt-of-1.1.service").exists()

    status, output = machine.script(machine.root / "opt/irt/current/install.sh", "--rollback")
    assert (status, machine.current) == (0, RELEASES[1]), output
    assert (units / "irt-of-1.1.service").is_file()
    assert not (units / "irt-of-1.2.service").exists()
    assert not any("db " in line for line in machine.logged_calls)


def test_upgrade_enables_new_timers_and_disables_dropped_timers(machine: Machine) -> None:
    machine.env()
    machine.install()
    machine.systemctl("disable", "--now", "irt-kpis.timer")
    machine.systemctl("enable", "irt-r.service", "irt-backup.timer")
    machine.install("--upgrade", release=RELEASES[1])
    assert "irt-of-1.1.timer" in machine.enabled
    assert not {"irt-of-1.0.timer", "irt-kpis.timer"} & machine.enabled
    machine.script(machine.root / "opt/irt/current/install.sh", "--rollback")
    assert "irt-of-1.0.timer" in machine.enabled
    assert not {"irt-of-1.1.timer", "irt-kpis.timer"} & machine.enabled
    assert {"irt-r.service", "irt-backup.timer", "irt-prune.timer", "irt-daemon.service"} <= machine.enabled


def test_option_timers_leaves_timers_off_that_an_operator_disabled(machine: Machine) -> None:
    machine.env()
    machine.install()
    everything = {unit for unit in machine.enabled if unit.endswith(".timer")}
    machine.systemctl("disable", "irt-kpis.timer", "irt-prune.timer")
    machine.install("--timers")
    assert {unit for unit in machine.enabled if unit.endswith(".timer")} == everything - {
        "irt-kpis.timer",
        "irt-prune.timer",
    }
    machine.install("--daemon")
    machine.systemctl("disable", *everything)
    machine.install("--upgrade", release=RELEASES[1])
    assert not any(unit.endswith(".timer") for unit in machine.enabled)
    machine.install("--timers", release=RELEASES[1])
    assert {unit for unit in machine.enabled if unit.endswith(".timer")} == everything - {"irt-of-1.0.timer"} | {
        "irt-of-1.1.timer"
    }
    assert "irt-daemon.service" not in machine.enabled


def test_uninstalling_keeps_settings_and_data_unless_purge_is_given(machine: Machine) -> None:
    machine.env()
    machine.install()
    data = machine.root / "var/lib/irt/objects/snapshot"
    data.parent.mkdir(parents=True)
    data.write_text("answers")
    status, output = machine.script(machine.root / "opt/irt/current/install.sh", "--uninstall")
    assert status == 0, output
    kept = {"etc/irt/irt.env", "etc/irt/jwt-verifier.env", "etc/irt/irt-r.env", "var/lib/irt/objects/snapshot"}
    assert machine.files() == kept
    assert "database" in output

    machine.install()
    machine.script(machine.root / "opt/irt/current/install.sh", "--uninstall", "--purge")
    assert machine.files() == set()


UNFIT = {
    "readable by all": (URL, 0o644),
    "readable by a group": (URL, 0o640),
    "CRLF": (URL.replace("\n", "\r\n"), 0o600),
    "half a quote": ('DATABASE_URL="postgresql:///irt\n', 0o600),
    "export": ("# first\nexport " + URL, 0o600),
    "blanks": ("DATABASE_URL = postgresql:///irt\n", 0o600),
    "embedded": ("DATABASE_URL=\n", 0o600),
    "a report folder that is not a whole path": (f"{URL}REPORT_OUTPUT_DIR=reports\n", 0o600),
}


def test_unfit_settings_are_refused_and_explained(machine: Machine, picture: Picture) -> None:
    found = {}
    for title, (text, mode) in UNFIT.items():
        machine.env(text, mode=mode)
        found[title] = machine.shown()
    picture(found, "unfit_settings", **CHANGING)


@pytest.mark.parametrize(("engines", "offered"), [("pymc,brms", True), ("pymc", False), ("", False)])
def test_installer_recommends_the_r_service_if_a_setting_enables_an_engine_in_r(
    machine: Machine, engines: str, offered: bool
) -> None:
    machine.env(f"{URL}IRT_ENGINES={engines}\n")
    status, output = machine.install()
    assert status == 0
    assert ("systemctl enable --now irt-r" in output) == offered


def test_quoted_setting_is_accepted(machine: Machine) -> None:
    machine.env('DATABASE_URL="postgresql://irt:p%27w@db/irt"\n')
    assert machine.install()[0] == 0


def test_wheelhouse_with_a_damaged_file_is_refused(machine: Machine, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(machine.houses[RELEASES[0]], spoilt)
    (spoilt / "wheels/irt_assets-1.0-py3-none-any.whl").write_bytes(b"something else")
    status, output = machine.script(spoilt / "install.sh")
    assert status == 1
    assert "irt_assets-1.0-py3-none-any.whl: FAILED" in output


def test_wheelhouse_for_a_different_python_is_refused(machine: Machine, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(machine.houses[RELEASES[0]], other)
    sums = (other / "SHA256SUMS").read_text().splitlines(keepends=True)
    (other / "SHA256SUMS").write_text("".join(line for line in sums if not line.endswith("  python\n")))
    (other / "python").write_text("3.99 riscv64\n")
    status, output = machine.script(other / "install.sh")
    assert status == 1
    assert "3.99 riscv64" in output

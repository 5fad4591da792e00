"""A machine that boots: a bare Debian root under systemd-nspawn, in its own network without other hosts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil
import pytest

from tests.deploy.commands import completed
from tests.helpers.debian import debian_root
from tests.testbed.kept import fingerprint, kept
from tests.testbed.patience import patient
from tests.testbed.small_world import last_months

ROOT = Path(__file__).parents[2]
MAKE_WHEELHOUSE = ROOT / "deploy/systemd/make_wheelhouse.py"
IRT = "/usr/local/bin/irt"
PAUSE_S = 1.0
BOOT_S = 420.0
"""Includes the start of the machine's servers, each of which may take five minutes."""
POWER_OFF = "RTMIN+4"
"""The signal that systemd, as process 1, treats as `systemctl poweroff`."""
CONTROLLERS = ("memory", "pids")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
HIERARCHIES = {"memory": "memory", "pids": "pids", "name=systemd": "systemd", "": "unified"}
"""Folders of the hierarchies that systemd manages, by name in /proc/PID/cgroup. Two machines must not share a group."""
IN_GROUPS = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'
"""A shell script that enters control groups and then becomes a command."""


@dataclass
class Machine:
    """A root file system, and the systemd that runs it."""

    root: Path
    log: Path
    _nspawn: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def boot(self) -> None:
        """Start it and wait until its systemd has started everything."""
        command: list[str | Path] = [
            "systemd-nspawn",
            "--quiet",
            "--directory",
            self.root,
            "--boot",
            f"--machine={self.root.name}",
        ]
        command += ["--register=no", "--keep-unit", "--private-network", "--console=pipe"]
        if self.enforces_limits:
            command = ["sh", "-c", IN_GROUPS, "sh", *self._groups(), "--", *command]
        with self.log.open("ab") as log:
            self._nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait_until_booted()

    def wait_until_booted(self) -> None:
        self.wait(lambda: self._init() is not None, BOOT_S, "process 1")
        self.wait(lambda: self.says("systemctl", "is-system-running") in ("running", "degraded"), BOOT_S, "its boot")
        if self.enforces_limits:
            for controller in CONTROLLERS:
                self.must("mount", "-o", "remount,rw,bind", f"{CONTROL_GROUPS}/{controller}")
            self.must("systemctl", "daemon-reexec")

    @property
    def enforces_limits(self) -> bool:
        """Whether limits of memory and tasks are enforced, which needs control groups of version 1."""
        return all((CONTROL_GROUPS / controller / "cgroup.procs").exists() for controller in CONTROLLERS)

    def _groups(self) -> list[Path]:
        """Create the machine's control group in each hierarchy, below the group of this process."""
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        own = {names: path.lstrip("/") for _, names, path in lines}
        groups = [CONTROL_GROUPS / folder / own[name] / self.root.name for name, folder in HIERARCHIES.items()]
        for group in groups:
            group.mkdir(exist_ok=True)
        return groups

    def reboot(self, *options: str) -> None:
        """Reboot and wait. systemd-nspawn ends at a reboot, so it is started again."""
        self.run("systemctl", "reboot", *options)
        self._nspawn.wait(patient(BOOT_S))
        self.boot()

    def power_off(self) -> None:
        """End the machine and remove its control groups, which the kernel would keep."""
        if self._nspawn is None:
            return
        if (init := self._init()) is not None:
            subprocess.run(["kill", "-s", POWER_OFF, str(init)], check=False)
        try:
            self._nspawn.wait(patient(BOOT_S))
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        for group in self._groups() if self.enforces_limits else ():
            for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                folder.rmdir()
            group.rmdir()

    def run(self, *command: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a command as root on the machine. Its output is shown if the test fails."""
        ran = completed(
            ["nsenter", "-t", str(self._init()), "-m", "-u", "-i", "-n", "-p", "-C", "--", *command],
            {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            timeout_s=patient(timeout_s),
        )
        print("$", *command, f"→ {ran.returncode}\n{ran.stdout}")
        return ran

    def must(self, *command: str) -> str:
        ran = self.run(*command)
        assert ran.returncode == 0, ran.stdout
        return ran.stdout

    def says(self, *command: str) -> str:
        return self.run(*command).stdout.strip()

    def shows(self, unit: str, name: str) -> str:
        """Returns a property of a unit."""
        return self.says("systemctl", "show", "-P", name, unit)

    def wait(self, condition: Callable[[], bool], within_s: float, subject: str) -> float:
        """Wait until the condition is true. Returns the seconds. `within_s` applies to an idle machine."""
        began, within_s = time.monotonic(), patient(within_s)
        while not condition():
            assert time.monotonic() - began < within_s, f"{subject} did not come within {within_s:.0f} s"
            time.sleep(PAUSE_S)
        return time.monotonic() - began

    def _init(self) -> int | None:
        if self._nspawn.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended: {self.log.read_text(errors='replace')[-1000:]}")
        children = psutil.Process(self._nspawn.pid).children()
        return children[0].pid if children else None


@contextmanager
def booted(
    folders: pytest.TempPathFactory,
    require: Callable[[bool, str], None],
    name: str,
    packages: str,
    fill: Callable[[Path], None],
) -> Iterator[Machine]:
    """Yields a booted machine: Debian 12 with these packages, whose root `fill` has completed."""
    require(shutil.which("systemd-nspawn") is not None, "systemd-nspawn")
    folder = folders.mktemp("booted")
    root = folder / f"{name}-{os.getpid()}"  # machines of the same name would share control groups
    root.mkdir()
    debian_root(root, "bookworm", packages, require)
    fill(root)
    machine = Machine(root, folder / "console.log")
    try:
        machine.boot()
        yield machine
    finally:
        machine.power_off()
        shutil.rmtree(root)


@cache
def first_month() -> str:
    """First month of the machines: the last complete month."""
    return last_months(1)[0]


def fill_srv(root: Path, learners: int) -> None:
    """Put the wheelhouse of this code and a simulated log into /srv of a root. `learners`: new learners per month."""
    wheelhouse = root / "srv/wheelhouse"
    made_from = (*sorted((ROOT / "requirements").glob("*.lock")), MAKE_WHEELHOUSE, sys.version)
    shutil.copytree(kept("wheelhouse", fingerprint(*made_from), _make_wheelhouse), wheelhouse)
    _make_wheelhouse(wheelhouse)  # builds our own wheel again
    subprocess.run([ROOT / ".venv/bin/irt", "simulate", "--learners", str(learners), root / "srv/log"], check=True)


def _make_wheelhouse(folder: Path) -> None:
    subprocess.run([sys.executable, MAKE_WHEELHOUSE, folder], check=True)


def import_log(machine: Machine) -> None:
    """Import the log of `fill_srv` and begin a scale. Answers before the first month are rejected."""
    for kind, file in (
        ("questions", "questions.jsonl"),
        ("learners", "learners.jsonl"),
        ("attempts", "attempts.parquet"),
    ):
        machine.run(IRT, "import", kind, f"/srv/log/{file}")
    machine.must(IRT, "scale", "init")


def now(machine: Machine) -> str:
    """Returns the machine's time, for `log_of_unit`."""
    return machine.must("date", "+%s.%N").strip()


def log_of_unit(machine: Machine, unit: str, since: str) -> str:
    """Returns the log of a unit since a time."""
    return machine.says("journalctl", "--no-pager", "--output=cat", f"--since=@{since}", "-u", unit)

"""A machine that boots: a bare root of Debian under systemd-nspawn, in a network of its own with nobody else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.deploy.commands import completed

ROOT = Path(__file__).parents[2]
IRT = "/usr/local/bin/irt"
PAUSE_S = 1.0
BOOT_S = 420.0
"""With the servers that the machine starts by itself, each of which may take five minutes."""
POWER_OFF = "RTMIN+4"
"""What systemd, as process 1, takes for `systemctl poweroff`."""
CONTROLLERS = ("memory", "pids")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
HIERARCHIES = {"memory": "memory", "pids": "pids", "name=systemd": "systemd", "": "unified"}
"""Those that a systemd manages, by their names in /proc/PID/cgroup: two machines must not share one."""
IN_GROUPS = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'
"""A shell that enters control groups, and becomes a command."""


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
        """Whether limits of memory and tasks hold on it: of hierarchies of version 1 a group can be lent to it."""
        return all((CONTROL_GROUPS / controller / "cgroup.procs").exists() for controller in CONTROLLERS)

    def _groups(self) -> list[Path]:
        """A control group of its own in each hierarchy, below that of this process."""
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        own = {names: path.lstrip("/") for _, names, path in lines}
        groups = [CONTROL_GROUPS / folder / own[name] / self.root.name for name, folder in HIERARCHIES.items()]
        for group in groups:
            group.mkdir(exist_ok=True)
        return groups

    def reboot(self, *options: str) -> None:
        """systemd-nspawn ends, as it leaves the next boot to whoever started it."""
        assert self._nspawn is not None
        self.run("systemctl", "reboot", *options)
        self._nspawn.wait(BOOT_S)
        self.boot()

    def power_off(self) -> None:
        """Its control groups go, too, which the kernel keeps though they are empty."""
        if self._nspawn is None:
            return
        if (init := self._init()) is not None:
            subprocess.run(["kill", "-s", POWER_OFF, str(init)], check=False)
        try:
            self._nspawn.wait(BOOT_S)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        for group in self._groups() if self.enforces_limits else ():
            for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                folder.rmdir()
            group.rmdir()

    def run(self, *command: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """As root on it. What it prints is shown where the test fails."""
        ran = completed(
            ["nsenter", "-t", str(self._init()), "-m", "-u", "-i", "-n", "-p", "-C", "--", *command],
            {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            timeout_s=timeout_s,
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
        """A property of a unit."""
        return self.says("systemctl", "show", "-P", name, unit)

    def wait(self, condition: Callable[[], bool], within_s: float, what: str) -> float:
        """Seconds until it came true."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < within_s, f"{what} did not come within {within_s:.0f} s"
            time.sleep(PAUSE_S)
        return time.monotonic() - began

    def _init(self) -> int | None:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended: {self.log.read_text(errors='replace')[-1000:]}")
        children = psutil.Process(self._nspawn.pid).children()
        return children[0].pid if children else None


def debian_root(folder: Path, packages: str) -> str:
    """Make a root of Debian 12 in `folder`. Returns what went wrong, if anything did."""
    if shutil.which("debootstrap") is None:
        return "debootstrap is not installed"
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(folder)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return ran.stdout[-500:] if ran.returncode else ""


def fill_srv(root: Path, learners: int) -> None:
    """Put into /srv of a root the wheelhouse of this code, and a log with so many new learners a month."""
    wheelhouse = ROOT / "dist/wheelhouse"
    subprocess.run([sys.executable, ROOT / "deploy/systemd/make_wheelhouse.py", wheelhouse], check=True)
    shutil.copytree(wheelhouse, root / "srv/wheelhouse")
    subprocess.run([ROOT / ".venv/bin/irt", "simulate", "--learners", str(learners), root / "srv/log"], check=True)


def import_log(machine: Machine) -> None:
    """Bring in what `fill_srv` left on it, and begin a scale; answers of months before the first one are rejected."""
    for kind, file in (
        ("questions", "questions.jsonl"),
        ("learners", "learners.jsonl"),
        ("attempts", "attempts.parquet"),
    ):
        machine.run(IRT, "import", kind, f"/srv/log/{file}")
    machine.must(IRT, "scale", "init")


def now(machine: Machine) -> str:
    """The machine's time, for `said`."""
    return machine.must("date", "+%s.%N").strip()


def said(machine: Machine, unit: str, since: str) -> str:
    """What a unit has logged since a time."""
    return machine.says("journalctl", "--no-pager", "--output=cat", f"--since=@{since}", "-u", unit)

"""Start servers as children of this process, restart servers that die, and stop all of them with it."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from irt_assets.servers.claims import StackError
from resources.postgres.daemon_lock import REFUSED_STATUS
from resources.serving.child_processes import end_with_parent

LOG = logging.getLogger("irt.stack")
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 15.0
MAX_PAUSE_S = 60.0
"""Longest pause between restarts of a server that keeps dying, in seconds."""
LOG_LIMIT = 16 * 2**20
"""Log size in bytes above which the next start of the server begins a new log."""
HEALTHY_AFTER_S = 10.0
"""Running time in seconds above which a server that dies is restarted without a pause."""


@dataclass
class Child:
    """One server: its command, its process, and the pause before its next restart."""

    name: str
    arguments: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.0
    restart_at: float = 0.0


@dataclass
class Supervisor:
    """Starts and restarts servers.

    Each server leads its own process group and writes to a file in `logs`. All servers end with this process, even if
    it is killed. To the kernel the parent is a thread, so the thread that starts and supervises the servers must live
    as long as they do.
    """

    logs: Path
    environment: dict[str, str] = field(default_factory=dict)
    children: dict[str, Child] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Leaders of all process groups that may be alive. A dead code server's group lives while it has a run worker."""

    def start(self, name: str, arguments: list[str]) -> None:
        self.children[name] = Child(name, arguments, self.logs / f"{name.replace(' ', '_')}.log")
        self._spawn(self.children[name])

    def supervise(self) -> None:
        """Check the servers once. A dead one is restarted, now or when its pause is over.

        Raises StackError if the daemon may not start.
        """
        now = time.monotonic()
        for child in self.children.values():
            if child.process is not None and child.process.poll() is not None:
                if child.name == "daemon" and child.process.returncode == REFUSED_STATUS:
                    raise StackError(f"The daemon may not start:\n{_tail(child.log, 1)}")
                lived = now - child.started
                child.pause = 0.0 if lived > HEALTHY_AFTER_S else min(MAX_PAUSE_S, 2 * child.pause + 1)
                child.restart_at = now + child.pause
                LOG.warning(
                    "The %s ended (%s) after %.0f s; starting it again in %.0f s. Its log: %s",
                    child.name, _ending(child.process.returncode), lived, child.pause, child.log,
                )  # fmt: skip
                child.process = None
            if child.process is None and now >= child.restart_at:
                self._spawn(child)

    def wait_until(self, condition: Callable[[], bool], start: float) -> None:
        """Wait until the condition holds.

        Raises StackError if a server dies first, with the end of its log, or at START_TIMEOUT_S after `start`.
        """
        while not condition():
            for child in self.children.values():
                if child.process is not None and child.process.poll() is not None:
                    ending, end = _ending(child.process.returncode), _tail(child.log)
                    raise StackError(f"The {child.name} did not start ({ending}). The end of {child.log}:\n{end}")
            if time.monotonic() > start + START_TIMEOUT_S:
                raise StackError(f"Dagster was not ready after {START_TIMEOUT_S:.0f} s. Its logs are in {self.logs}.")
            time.sleep(0.1)

    def stop(self) -> None:
        """Interrupt the servers and run workers, wait, and kill the remaining ones."""
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_TIMEOUT_S
            for process in self.started:
                _signal_group(process, signal_number)
            while any(_signal_group(process) for process in self.started) and time.monotonic() < deadline:
                time.sleep(0.05)
        self.started.clear()
        self.children.clear()

    def _spawn(self, child: Child) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        if child.log.exists() and child.log.stat().st_size > LOG_LIMIT:
            child.log.replace(child.log.with_suffix(".log.1"))
        child.log.touch(mode=0o600)
        with child.log.open("ab") as log:
            child.process = subprocess.Popen(
                child.arguments,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=prepare_server,
            )
        child.started = time.monotonic()
        self.started = [*filter(_signal_group, self.started), child.process]


def prepare_server() -> None:
    """Prepare a child before it becomes a server: its parent's end kills it, and INT and TERM stop it.

    Processes started in the background may inherit ignored INT and TERM. Only the owner can read the files it writes.
    """
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()


def _signal_group(process: subprocess.Popen[bytes], signal_number: int = 0) -> bool:
    """Send a signal, if any, to the process's group. Returns whether the group is alive."""
    process.poll()
    try:
        os.killpg(process.pid, signal_number)
    except ProcessLookupError:
        return False
    return True


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])

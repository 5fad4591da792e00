"""Child processes for engines that may crash, hang or use up the memory. The caller gets an error and survives.

`run` starts, watches and ends a program; the program itself calls `die_with_parent`. Files of the caller contain the
request and the answer.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from resources.failures import PermanentFailure

GIB = 2**30
TERM_SECONDS = 3.0
"""Seconds that a program has to end by itself. Compiled code does not react to the signal, and is killed."""
_LOOK_SECONDS = 0.1
_TAIL_LINES = 15


class EngineFailure(PermanentFailure):
    """An engine's program could not do its work, for a reason that is not in the data."""


class EngineTimeoutError(EngineFailure):
    """The program did not end within its time limit."""


class EngineMemoryError(EngineFailure):
    """The program needed more memory than its limit."""


class EngineCrashedError(EngineFailure):
    """The program ended without an answer."""


@dataclass(frozen=True)
class Limits:
    """Limits of a child and its descendants together.

    Attributes:
        seconds: longest running time.
        memory: resident memory in bytes. None: three quarters of the machine's memory.
    """

    seconds: float = 7200.0
    memory: int | None = None

    @property
    def bytes(self) -> int:
        return int(psutil.virtual_memory().total * 3 / 4) if self.memory is None else self.memory


def run(
    command: Sequence[str],
    *,
    name: str,
    answer: Path,
    log: Path,
    limits: Limits,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program until it has written `answer` and ended with code 0.

    The program and its descendants have always ended when this function ends, also after an interrupt or a cancelled
    run.

    Args:
        command: the program with its arguments.
        name: the program's name in errors.
        answer: file that the program writes.
        log: file for the program's output.
        limits: limits of time and memory.
        environment: variables added to this process's environment.

    Raises EngineTimeoutError, EngineMemoryError and EngineCrashedError, whose messages contain the remedy.
    """
    with log.open("wb") as printed:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            code = _watch(process, name, limits)
        finally:
            _end(process)
    if code == 0 and answer.exists():
        return
    raise EngineCrashedError(f"{name} {_exit_reason(code, answer.exists())}{_tail(log)}")


def die_with_parent() -> None:
    """Call this in the child: when the parent has ended, it ends the child with all processes that it started.

    The parent has the other end of the child's standard input, which closes when the parent ends, for any reason.
    (PR_SET_PDEATHSIG would fire when the parent's *thread* ends, and would spare the child's own children.) The waiting
    thread needs the interpreter lock at times; rpy2 releases it while R runs.
    """

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _watch(process: subprocess.Popen[bytes], name: str, limits: Limits) -> int:
    deadline = time.monotonic() + limits.seconds
    while True:
        try:
            return process.wait(_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        if (used := _memory(process.pid)) > limits.bytes:
            raise EngineMemoryError(
                f"{name} used {used / GIB:.1f} GiB of memory and may use {limits.bytes / GIB:.1f}: give it fewer "
                f"answers (a shorter window, fewer items), or more memory"
            )
        if time.monotonic() > deadline:
            raise EngineTimeoutError(
                f"{name} had not ended after {limits.seconds:g} seconds and was stopped: give it more time or fewer "
                f"answers, or use engine em"
            )


def _memory(pid: int) -> int:
    """Resident bytes of a process and its descendants."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += member.memory_info().rss
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    """Send TERM, then KILL, to the whole session, because helpers may outlive the program that started them."""
    assert process.stdin is not None
    if process.poll() is None:
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TERM_SECONDS)
    _signal(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _exit_reason(code: int, answered: bool) -> str:
    if code == -signal.SIGKILL:
        return "was killed from outside, as the kernel does when memory is short (see dmesg): give it fewer answers"
    if code < 0:
        return f"crashed ({signal.Signals(-code).name}), which is a fault of the program, not of the answers"
    if answered:
        return f"returned an answer, but then ended with code {code}, so the answer cannot be trusted"
    return f"ended with code {code} and no answer"


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-_TAIL_LINES:]
    return "; its last output: " + " | ".join(lines) if lines else ""

"""Child processes for engines that may crash, hang or eat all memory: the caller gets an error, its worker survives.

Both sides are here: `run` starts, watches and ends a program, `die_with_parent` is for the program. The caller's files
hold the request and the answer. What does not belong here: R, or any other engine.
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
"""Time that a program has to end by itself. In compiled code it does not react to the signal, and is killed."""
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
    """What a child may use. `memory` in bytes, of it and all it starts; None for three quarters of the machine's."""

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
    """Runs a program until it has written `answer` and ended with code 0.

    `name` is what errors call it; `log` gets what it prints, `environment` is added to this process's own. Whatever
    ends this function (an interrupt or a cancelled run too), the program and all it started are gone then.

    Raises EngineTimeoutError, EngineMemoryError and EngineCrashedError, which say what to do.
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
    """Called in the child: end it, with all it started, when the process that started it is gone.

    The parent holds the other end of standard input, which closes with the parent, however it dies. (PR_SET_PDEATHSIG
    would strike when the parent's *thread* ends, and spare the child's own children.) Needs the interpreter lock now
    and then, which rpy2 releases while R runs.
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
                f"answers, or take the engine em"
            )


def _memory(pid: int) -> int:
    """Resident bytes of a process and its descendants."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += one.memory_info().rss
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    """TERM, then KILL, to the whole session: helpers outlive the program that started them."""
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
        return f"gave an answer, but then ended with code {code}, so that the answer is not to be trusted"
    return f"ended with code {code} and no answer"


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-_TAIL_LINES:]
    return "; the last it printed: " + " | ".join(lines) if lines else ""

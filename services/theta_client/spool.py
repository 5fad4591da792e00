"""Answers that wait on disk until the θ API has stored them, for an exam service that cannot wait itself.

A process locks the file to which it writes. The name of this file ends in `.part`, the name of a closed file in
`.jsonl`. A process that can lock a file of either kind sends it, and deletes it when the API has all its answers. After
a kill, some answers are sent twice; they are stored once, because each has an id. What does not belong here: how
answers are sent, and what an error means (see `attempts`).
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import logging
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from .attempts import MAX_BODY_BYTES, MAX_ROWS, AttemptsNotSent, parse_object, send_attempts

with contextlib.suppress(ImportError):  # absent on Windows, where only the hook and `send_attempts` work
    import fcntl

log = logging.getLogger("irt_theta_client")

REFUSED = "refused.jsonl"
MAX_FILE_BYTES = MAX_BODY_BYTES
MAX_LINE_BYTES = MAX_BODY_BYTES // 2
MAX_PAUSE = SECONDS_BETWEEN_WARNINGS = 60.0
SECONDS_BETWEEN_LOOKS = 5.0
"""Pause after which a process with nothing to send searches again for files of processes that died."""
SCALARS = (str, int, float, bool, type(None))


class AttemptSpool:
    """A folder of answers on a disk of this machine, and a thread that tries to send them until all are sent.

    Several processes may share the folder. `refused` is the number of answers that this object sent and the API
    refused; they are kept in `refused.jsonl`, each with the reason.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.refused = 0
        self._changed = threading.Condition()
        self._own: _OwnFile | None = None
        self._is_over = self._is_idle = False
        self._progress = ("", 0)
        self._warn_at: dict[str, float] = {}
        self._start()
        atexit.register(self.close, 0)
        os.register_at_fork(after_in_child=self._forget_the_parent)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Write the rows, and return when they are on disk. Each row without `attempt_id` gets one, in place.

        Raises OSError if they cannot be written, for example because the disk is full; the same rows can then be added
        again. Raises ValueError if the spool is closed, or if the API could not read a row.
        """
        lines = b"".join(map(_line, rows))
        with self._changed:
            if self._is_over:
                raise ValueError("the spool is closed")
            if self._own is not None and (self._own.is_lost or self._own.size > MAX_FILE_BYTES):
                self._close_own()
            own = self._own = self._own or _OwnFile(self.folder)
            end = own.write(lines)
            self._is_idle = False
            if not self._worker.is_alive():  # in a child after a fork
                self._start()
            self._changed.notify_all()
        own.sync(end)

    def close(self, timeout: float = 5.0) -> bool:
        """Wait until everything is sent, at most `timeout` seconds. Returns whether everything is sent.

        The rest is sent by the next process that opens the folder. Answers that other running processes have written
        since they last closed a file do not count.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: self._is_idle, timeout)
            self._is_over = True
            self._changed.notify_all()
            self._close_own()
        self._worker.join(1.0)
        atexit.unregister(self.close)
        return done

    def _start(self) -> None:
        self._worker = threading.Thread(target=self._work, name="irt-attempt-spool", daemon=True)
        self._worker.start()

    def _close_own(self) -> bool:
        """Close this process's file. Returns whether there was one."""
        own, self._own = self._own, None
        if own is not None:
            own.close()
        return own is not None

    def _forget_the_parent(self) -> None:
        """Start without a file in a child after a fork: the parent sends the answers that it wrote."""
        self._changed = threading.Condition()
        self._is_idle = True
        if self._own is not None:
            os.close(self._own.file)
            self._own = None

    def _work(self) -> None:
        pause = 1.0
        while not self._is_over:
            try:
                if self._send_oldest():
                    pause = 1.0
                else:
                    self._close_or_wait()
                continue
            except AttemptsNotSent as failure:
                wait = (failure.retry_after or pause) if failure.again else MAX_PAUSE
                self._warn("answers wait on disk: %s", str(failure))
            except Exception as error:  # noqa: BLE001 - after any error the answers stay on disk and are sent again
                wait = pause
                self._warn("answers wait on disk: %s", getattr(error, "strerror", None) or type(error).__name__)
            pause = min(2 * pause, MAX_PAUSE)
            wait = min(wait, MAX_PAUSE) * random.uniform(1, 1.2)  # noqa: S311
            with self._changed:
                self._changed.wait_for(lambda: self._is_over, wait)

    def _close_or_wait(self) -> None:
        """Close this process's file, so that it is sent. If there is none, wait until there may be a file to send.

        A closed file that is left is being sent by another process, which may die before the API has its answers.
        """
        with self._changed:
            if not self._close_own() and not self._is_over:
                self._is_idle = all(path.name == REFUSED for path in self.folder.glob("*.jsonl"))
                self._changed.notify_all()
                self._changed.wait(SECONDS_BETWEEN_LOOKS if self._is_idle else 1.0)

    def _send_oldest(self) -> bool:
        """Send the oldest file that no process has locked and that can be read. Returns whether there was one.

        Raises OSError if the only files that are left cannot be read.
        """
        failure = None
        for path in sorted([*self.folder.glob("*.jsonl"), *self.folder.glob("*.part")]):
            try:
                with _lock(path) as file:
                    if file is None or path.name == REFUSED:
                        continue
                    self._send_file(path, file)
                    return True
            except OSError as error:
                failure = error
        if failure is not None:
            raise failure
        return False

    def _send_file(self, path: Path, file: int) -> None:
        closed = path.rename(path.with_suffix(".jsonl"))  # a .part file that is not locked is from a dead process
        name, offset = self._progress
        offset, end = offset if name == closed.name else 0, os.fstat(file).st_size
        while offset < end and not self._is_over:
            offset += self._send(os.pread(file, MAX_BODY_BYTES, offset))
            self._progress = closed.name, offset
        if offset >= end:
            closed.unlink()

    def _send(self, chunk: bytes) -> int:
        """Send the answers at the beginning of a chunk. Returns their size in bytes."""
        lines = chunk[: chunk.rfind(b"\n") + 1].splitlines(keepends=True)[:MAX_ROWS] or [chunk]
        rows = []
        refused: list[dict[str, Any]] = []
        for line in lines:
            row = parse_object(line)
            if row is None:
                refused.append({"reason": "torn_line", "line": line.decode("utf-8", "replace")})
            else:
                rows.append(row)
        refused += [
            {**row, "reason": result.get("reason"), "what_to_do": result.get("what_to_do")}
            for row, result in zip(rows, send_attempts(rows))
            if result["result"] == "rejected"
        ]
        if refused:
            self._keep_refused(refused)
        return sum(map(len, lines))

    def _keep_refused(self, rows: list[dict[str, Any]]) -> None:
        file = os.open(self.folder / REFUSED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            opened.writelines(json.dumps(row) + "\n" for row in rows)
            opened.flush()
            os.fsync(file)
        _sync_folder(self.folder)
        self.refused += len(rows)
        self._warn("answers were refused; see the reasons in %s in the folder of the spool", REFUSED)

    def _warn(self, message: str, detail: str) -> None:
        """Log the warning, at most once a minute, and never with an answer or an id."""
        now = time.monotonic()
        if now >= self._warn_at.get(message, 0.0):
            self._warn_at[message] = now + SECONDS_BETWEEN_WARNINGS
            log.warning(message, detail)


class _OwnFile:
    """The file to which a process writes. `size`: bytes so far. `is_lost`: written lines may never reach the disk."""

    def __init__(self, folder: Path) -> None:
        self.size = self._synced = 0
        self.is_lost = False
        self._sync_lock = threading.Lock()
        while True:
            self._path = folder / f"{time.time_ns():020}-{uuid4().hex[:8]}.part"
            self.file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(self.file, fcntl.LOCK_EX)
            if _is_at(self._path, self.file):  # before the lock, another process may have sent and deleted it
                break
            os.close(self.file)

    def write(self, lines: bytes) -> int:
        """Append all lines or none. Returns the file size that `sync` has to reach."""
        try:
            if os.pwrite(self.file, lines, self.size) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self.file, self.size)
            raise
        self.size += len(lines)
        return self.size

    def sync(self, until: int) -> None:
        """Wait until the first `until` bytes are on disk. One fsync serves all threads that wait.

        Raises OSError if the lines may be lost.
        """
        with self._sync_lock:
            if self._synced >= until:
                return
            if self.is_lost:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            size = self.size
            try:
                os.fsync(self.file)
                if not self._synced:
                    _sync_folder(self._path.parent)
            except OSError:
                self.is_lost = True  # a second fsync would report success although data is lost
                raise
            self._synced = size

    def close(self) -> None:
        """Leave the file to the next process that locks it. If lines are lost, `sync` raises in the waiting threads."""
        with contextlib.suppress(OSError):
            self.sync(self.size)
        self._path.rename(self._path.with_suffix(".jsonl"))
        _unlock(self.file)


def _line(row: dict[str, Any]) -> bytes:
    """The row as a line; a row without an id gets one. Raises ValueError if the API could not read the row."""
    if not row.get("attempt_id"):
        row["attempt_id"] = uuid4().hex
    if not all(isinstance(name, str) and isinstance(value, SCALARS) for name, value in row.items()):
        raise ValueError("the fields of an answer are texts, numbers, true, false or null")
    line = json.dumps(row, allow_nan=False, ensure_ascii=False).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"an answer may have at most {MAX_LINE_BYTES} bytes")
    return line


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[int | None]:
    """Open and lock a file. Yields None if another process has locked it, or if it no longer exists."""
    with contextlib.ExitStack() as ending:
        locked = None
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            file = os.open(path, os.O_RDWR)
            ending.callback(_unlock, file)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = file if _is_at(path, file) else None
        yield locked


def _unlock(file: int) -> None:
    """Close the file. It is unlocked explicitly, because a forked child may have it open, too."""
    fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


def _is_at(path: Path, file: int) -> bool:
    """Whether the path still leads to the open file."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file))
    return False


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)

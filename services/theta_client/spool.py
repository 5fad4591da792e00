"""Answers that wait on disk until the θ API has them, for an exam service that cannot wait itself.

What belongs here: the files, who sends which, and for how long. What does not: how answers are sent, and what an error
means (see `attempts`). A process locks the file to which it writes and which ends in `.part`; a closed file ends in
`.jsonl`. Whoever locks a file sends it, and deletes it when the API has all of it. After a kill some answers are sent
twice, and stored once, as each has its id.
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

from .attempts import LARGEST_BODY, MOST_ROWS, AttemptsNotSent, parsed_object, send_attempts

with contextlib.suppress(ImportError):  # absent on Windows, where only the hook and `send_attempts` work
    import fcntl

log = logging.getLogger("irt_theta_client")

REFUSED = "refused.jsonl"
LARGEST_FILE = 2 * 2**20
"""Bytes after which a process begins another file."""
LARGEST_LINE = LARGEST_BODY // 2
LONGEST_PAUSE = 60.0
SECONDS_BETWEEN_LOOKS = 5.0
"""How often a process with nothing to send looks for files of processes that died."""
SECONDS_BETWEEN_WARNINGS = 60.0
SCALARS = (str, int, float, bool, type(None))


class AttemptSpool:
    """A folder of answers on a disk of this machine, and a thread that sends them for as long as it takes.

    Several processes may share the folder. `refused`: how many answers the API refused to this object; they are kept in
    `refused.jsonl`, each with the reason.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.refused = 0
        self._changed = threading.Condition()
        self._own: _OwnFile | None = None
        self._is_over = self._is_idle = False
        self._warn_at: dict[str, float] = {}
        self._start()
        atexit.register(self.close, 0)
        os.register_at_fork(after_in_child=self._forget_the_parent)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Returns when the rows are on disk. A row without `attempt_id` is given one, in place.

        Raises OSError where the disk does not take them, such as a full one, and ValueError where a row is nothing that
        the API could read. The same rows can then be added again.
        """
        lines = b"".join(map(_line, rows))
        with self._changed:
            if self._is_over:
                raise ValueError("the spool is closed")
            if self._own is None or self._own.size > LARGEST_FILE:
                self._close_own()
                self._own = _OwnFile(self.folder)
            own, end = self._own, self._own.write(lines)
            self._is_idle = False
            if not self._worker.is_alive():  # in a child after a fork
                self._start()
            self._changed.notify_all()
        try:
            own.sync(end)
        except OSError:
            with self._changed:
                if self._own is own:
                    self._close_own()  # what is cached of it may never reach the disk
            raise

    def close(self, timeout: float = 5.0) -> bool:
        """Waits until all is sent, for `timeout` seconds at most, and says whether it is. The next process that opens
        the folder sends the rest."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._is_idle, timeout)
            self._is_over = True
            self._changed.notify_all()
        self._worker.join(1.0)
        with self._changed:
            self._close_own()
        atexit.unregister(self.close)
        return done

    def _start(self) -> None:
        self._worker = threading.Thread(target=self._work, name="irt-attempt-spool", daemon=True)
        self._worker.start()

    def _close_own(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None

    def _forget_the_parent(self) -> None:
        """In a child after a fork, which has no thread: its parent sends what it wrote."""
        self._changed = threading.Condition()
        self._is_idle = True
        if self._own is not None:
            os.close(self._own.file)
            self._own = None

    def _work(self) -> None:
        pause = 1.0
        while not self._is_over:
            try:
                if self._send_closed() or self._send_own():
                    pause = 1.0
                else:
                    self._rest()
                continue
            except AttemptsNotSent as failure:
                wait = (failure.retry_after or pause) if failure.again else LONGEST_PAUSE
                self._warn("answers wait on disk: %s", str(failure))
            except Exception as error:  # noqa: BLE001 - whatever it is, the answers stay and are tried again
                wait = pause
                self._warn("answers wait on disk: %s", getattr(error, "strerror", None) or type(error).__name__)
            pause = min(2 * pause, LONGEST_PAUSE)
            wait = min(wait, LONGEST_PAUSE) * random.uniform(1, 1.2)  # noqa: S311
            with self._changed:
                self._changed.wait_for(lambda: self._is_over, wait)

    def _rest(self) -> None:
        """Waits for another answer, or until it is time to look at the folder."""
        with self._changed:
            self._is_idle = self._own is None or self._own.is_sent
            self._changed.notify_all()
            if self._is_idle and not self._is_over:
                self._changed.wait(SECONDS_BETWEEN_LOOKS)

    def _send_closed(self) -> bool:
        """Sends the oldest file that no other process has; False if there is none."""
        for path in sorted([*self.folder.glob("*.jsonl"), *self.folder.glob("*.part")]):
            if path.name == REFUSED:
                continue
            with _locked(path) as file:
                if file is None:
                    continue
                closed = path.with_suffix(".jsonl")
                path.rename(closed)  # of a process that died
                place, end = 0, os.fstat(file).st_size
                while place < end and not self._is_over:
                    place += self._send(os.pread(file, LARGEST_BODY, place))
                if place >= end:
                    closed.unlink()
                return True
        return False

    def _send_own(self) -> bool:
        """Sends what this process wrote; False if nothing is left of that."""
        with self._changed:
            own = self._own
            if own is None or own.is_sent:
                return False
            chunk = os.pread(own.file, min(own.size - own.sent, LARGEST_BODY), own.sent)
        sent = self._send(chunk)
        with self._changed:
            if self._own is own:
                own.mark_sent(sent)
        return True

    def _send(self, chunk: bytes) -> int:
        """Sends the answers at the beginning of a chunk; how many bytes they are."""
        lines = chunk[: chunk.rfind(b"\n") + 1].splitlines(keepends=True)[:MOST_ROWS] or [chunk]
        parsed = [(line, parsed_object(line)) for line in lines]
        rows = [row for _, row in parsed if row is not None]
        torn = [line.decode("utf-8", "replace") for line, row in parsed if row is None]
        refused: list[dict[str, Any]] = [{"reason": "torn_line", "line": line} for line in torn]
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

    def _warn(self, message: str, what: str) -> None:
        """At most once a minute, and never with an answer or an id."""
        now = time.monotonic()
        if now >= self._warn_at.get(message, 0.0):
            self._warn_at[message] = now + SECONDS_BETWEEN_WARNINGS
            log.warning(message, what)


class _OwnFile:
    """The file to which a process writes. `size` and `sent`: how many bytes were written, and the API has of them."""

    def __init__(self, folder: Path) -> None:
        self.size = self.sent = 0
        self._written = self._synced = 0  # since the file was made
        self._is_lost = False
        self._sync_lock = threading.Lock()
        while True:
            self._path = folder / f"{time.time_ns():020}-{uuid4().hex[:8]}.part"
            self.file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(self.file, fcntl.LOCK_EX)
            if _is_at(self._path, self.file):  # nobody took it for a dead process's before it was locked
                break
            os.close(self.file)
        _sync_folder(folder)

    @property
    def is_sent(self) -> bool:
        return self.sent == self.size

    def write(self, lines: bytes) -> int:
        """Appends all or nothing; what `sync` needs to know."""
        try:
            if os.pwrite(self.file, lines, self.size) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.file, self.size)
            raise
        self.size += len(lines)
        self._written += len(lines)
        return self._written

    def sync(self, until: int) -> None:
        """All who wait for the disk wait for it once."""
        with self._sync_lock:
            if self._synced < until:
                self._sync()

    def _sync(self) -> None:
        if self._is_lost:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        written = self._written
        try:
            os.fsync(self.file)
        except OSError:
            self._is_lost = True  # asked again, the system would say that all is well
            raise
        self._synced = written

    def mark_sent(self, count: int) -> None:
        self.sent += count
        if self.is_sent:
            os.ftruncate(self.file, 0)
            self.sent = self.size = 0

    def close(self) -> None:
        """Leaves what is not sent to whoever locks the file next."""
        with self._sync_lock:
            with contextlib.suppress(OSError):
                self._sync()
            self._is_lost = True
            if self.is_sent:
                self._path.unlink()
            else:
                self._path.rename(self._path.with_suffix(".jsonl"))
            os.close(self.file)


def _line(row: dict[str, Any]) -> bytes:
    """The row as a line, with an id. Raises ValueError."""
    if not row.get("attempt_id"):
        row["attempt_id"] = uuid4().hex
    if not all(isinstance(name, str) and isinstance(value, SCALARS) for name, value in row.items()):
        raise ValueError("the fields of an answer are texts, numbers, true, false or null")
    line = json.dumps(row, allow_nan=False, ensure_ascii=False).encode() + b"\n"
    if len(line) > LARGEST_LINE:
        raise ValueError(f"an answer may have at most {LARGEST_LINE} bytes")
    return line


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """The file, locked; None where another has it, or it is gone or another account's."""
    file = None
    try:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            file = os.open(path, os.O_RDWR)
        yield file if file is not None and _lock_at_once(file) and _is_at(path, file) else None
    finally:
        if file is not None:
            fcntl.flock(file, fcntl.LOCK_UN)  # a child that was forked meanwhile has the file open, too
            os.close(file)


def _lock_at_once(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, file: int) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)

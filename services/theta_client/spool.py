"""Answers that wait on disk until the θ API has them, for an exam service that cannot wait itself.

What belongs here: the file, whose turn it is to send, and for how long. What does not: how answers are sent, and what
an error means (see `attempts`). The processes of an exam service share one SQLite file, and one of them sends at a
time. After a kill some answers are sent twice, and stored once, as each has its id.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from uuid import uuid4

from .attempts import LARGEST_BODY, MOST_ROWS, AttemptsNotSent, parsed_object, send_attempts

with contextlib.suppress(ImportError):  # absent on Windows, where only the hook and `send_attempts` work
    import fcntl

log = logging.getLogger("irt_theta_client")

FILE, TURN, REFUSED = "answers.db", "sending.lock", "refused.jsonl"
SCHEMA = """
PRAGMA auto_vacuum=FULL;
PRAGMA journal_mode=WAL;
PRAGMA synchronous=FULL;
PRAGMA secure_delete=ON;
CREATE TABLE IF NOT EXISTS waiting (number INTEGER PRIMARY KEY AUTOINCREMENT, answer TEXT NOT NULL);
"""
SELECT = "SELECT number, answer FROM waiting WHERE number > ? ORDER BY number LIMIT ?"
INSERT = "INSERT INTO waiting (answer) VALUES (?)"
FORMER_FILES = "0*.jsonl", "0*.part"
"""The files of version 1.0, with an answer a line. The process that writes to a file has a lock on it."""
LARGEST_LINE = LARGEST_BODY // 2
LOCK_TIMEOUT_S = 20.0
"""How long a process waits for the others' transactions."""
LONGEST_PAUSE = SECONDS_BETWEEN_WARNINGS = 60.0
SECONDS_BETWEEN_LOOKS = 5.0
"""How often a process with nothing to send looks for answers that others left."""
SCALARS = (str, int, float, bool, type(None))


class AttemptSpool:
    """Answers in a folder on a disk of this machine, and a thread that sends them for as long as it takes.

    Several processes may share the folder. `refused`: how many answers the API refused to this object; they are kept in
    `refused.jsonl`, each with the reason.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.refused = 0
        self._database: sqlite3.Connection | None = None
        self._sent = 0  # number of the last answer that was sent
        self._is_over = self._has_news = False
        self._warn_at: dict[str, float] = {}
        self._make_locks()
        self._start()
        atexit.register(self.close, 0)
        os.register_at_fork(
            before=self._prepare_fork,
            after_in_parent=lambda: self._changed.release(),
            after_in_child=self._make_locks,
        )

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Returns when the rows are on disk. A row without `attempt_id` is given one, in place.

        Raises OSError if the disk does not take them, such as a full one, and ValueError if the API could not read a
        row. The same rows can then be added again.
        """
        answers = [(_line(row),) for row in rows]
        with self._queue_lock:
            is_first, written = not self._unwritten, self._written
            self._unwritten += answers
        if is_first:  # while it waits for the file, other threads add what it writes
            self._write()
        written.result()

    def close(self, timeout: float = 5.0) -> bool:
        """Waits until all is sent, for `timeout` seconds at most, and says whether it is. The next process that opens
        the folder sends the rest."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not (done := self._is_empty()) and (left := deadline - time.monotonic()) > 0:
                self._wake_worker()
                self._changed.wait(min(left, 0.05))  # another process may be the one that sends
            self._is_over = True
            self._wake_worker()
        self._worker.join(1.0)
        with self._changed:
            self._disconnect()
        atexit.unregister(self.close)
        return done

    def _make_locks(self) -> None:
        """At the start and in a child after a fork, whose parent writes and sends what its threads added."""
        self._changed = threading.Condition()
        self._queue_lock = threading.Lock()
        self._unwritten: list[tuple[str]] = []
        self._written: Future[None] = Future()

    def _start(self) -> None:
        self._worker = threading.Thread(target=self._work, name="irt-attempt-spool", daemon=True)
        self._worker.start()

    def _write(self) -> None:
        """Write the answers of all threads that wait, in one call of the disk."""
        batch = None
        try:
            with self._changed:
                batch = self._take_unwritten()
                if self._is_over:
                    raise ValueError("the spool is closed")
                with self._transaction() as database:
                    database.executemany(INSERT, batch[0])
                if not self._worker.is_alive():  # in a child after a fork
                    self._start()
                self._wake_worker()
            batch[1].set_result(None)
        except BaseException as error:  # noqa: BLE001 - `add` raises it in each thread
            (batch or self._take_unwritten())[1].set_exception(error)

    def _take_unwritten(self) -> tuple[list[tuple[str]], Future[None]]:
        with self._queue_lock:
            batch = self._unwritten, self._written
            self._unwritten, self._written = [], Future()
        return batch

    def _wake_worker(self) -> None:
        self._has_news = True
        self._changed.notify_all()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Changes that all reach the disk, or none of them. Raises OSError."""
        with self._changed:
            try:
                database = self._database or self._connect()
                with database:
                    yield database
            except sqlite3.Error as error:
                if self._database is not None and "full" in str(error):
                    self._database.rollback()  # answers can still be read and sent
                else:
                    self._disconnect()
                raise OSError(errno.EIO, str(error), str(self.folder / FILE)) from None

    def _connect(self) -> sqlite3.Connection:
        file = self.folder / FILE
        file.touch(0o600)
        database = sqlite3.connect(file, timeout=LOCK_TIMEOUT_S, check_same_thread=False)
        try:
            database.executescript(SCHEMA)
            for path in sorted(path for pattern in FORMER_FILES for path in self.folder.glob(pattern)):
                self._take_over(path, database)
        except sqlite3.Error:
            database.close()
            raise
        self._database, self._sent = database, 0
        return database

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _is_empty(self) -> bool:
        with contextlib.suppress(OSError), self._transaction() as database:
            return database.execute("SELECT max(number) FROM waiting").fetchone()[0] in (None, self._sent)
        return False

    def _prepare_fork(self) -> None:
        """Close the file: SQLite must not be in use when its process is forked."""
        self._changed.acquire()
        self._disconnect()

    def _work(self) -> None:
        pause = 1.0
        while not self._is_over:
            try:
                if self._send_oldest():
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
        with self._changed:
            self._disconnect()

    def _rest(self) -> None:
        with self._changed:
            if not self._has_news:
                self._changed.wait(SECONDS_BETWEEN_LOOKS)

    def _send_oldest(self) -> bool:
        """Send the oldest answers. Returns False if there are none, or another process is sending."""
        self._has_news = False
        with contextlib.suppress(BlockingIOError), (self.folder / TURN).open("w") as turn:
            fcntl.lockf(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a child that is forked meanwhile does not inherit it
            if answers := self._oldest():
                self._send(answers)
                return True
        return False

    def _oldest(self) -> list[tuple[int, str]]:
        """The oldest answers with their numbers, as many as one request takes."""
        found: list[tuple[int, str]] = []
        size = 0
        with self._transaction() as database:
            for number, answer in database.execute(SELECT, (self._sent, MOST_ROWS)):
                size += len(answer)
                if found and size > LARGEST_BODY:
                    break
                found.append((number, answer))
        return found

    def _send(self, answers: list[tuple[int, str]]) -> None:
        rows = [json.loads(answer) for _, answer in answers]
        refused = [
            {**row, "reason": result.get("reason"), "what_to_do": result.get("what_to_do")}
            for row, result in zip(rows, send_attempts(rows))
            if result["result"] == "rejected"
        ]
        if refused:
            self._keep_refused(refused)
        with self._transaction() as database:
            self._sent = answers[-1][0]  # kept, as a full disk does not even allow to delete
            database.execute("DELETE FROM waiting WHERE number <= ?", (self._sent,))

    def _keep_refused(self, rows: list[dict[str, Any]]) -> None:
        file = os.open(self.folder / REFUSED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as opened:
            opened.write("".join(json.dumps(row) + "\n" for row in rows))
            opened.flush()
            os.fsync(file)
        self.refused += len(rows)
        self._warn("answers were refused; see the reasons in %s in the folder of the spool", REFUSED)

    def _take_over(self, path: Path, database: sqlite3.Connection) -> None:
        """Move the answers of an earlier version's file to the database, unless a process still writes to the file."""
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.stat()  # another process may have taken it over before it was locked
                parsed = [(line, parsed_object(line)) for line in file.read().splitlines()]
                answers = [(json.dumps(row, ensure_ascii=False),) for _, row in parsed if row is not None]
                torn = [
                    {"reason": "torn_line", "line": line.decode("utf-8", "replace")}
                    for line, row in parsed
                    if row is None
                ]
                with database:
                    database.executemany(INSERT, answers)
                if torn:
                    self._keep_refused(torn)
                path.unlink()
        except (FileNotFoundError, BlockingIOError):
            return
        except OSError as error:
            self._warn("answers of an earlier version wait on disk: %s", str(error.strerror))

    def _warn(self, message: str, what: str) -> None:
        """At most once a minute, and never with an answer or an id."""
        now = time.monotonic()
        if now >= self._warn_at.get(message, 0.0):
            self._warn_at[message] = now + SECONDS_BETWEEN_WARNINGS
            log.warning(message, what)


def _line(row: dict[str, Any]) -> str:
    """The row as JSON, with an id. Raises ValueError."""
    if not row.get("attempt_id"):
        row["attempt_id"] = uuid4().hex
    if not all(isinstance(name, str) and isinstance(value, SCALARS) for name, value in row.items()):
        raise ValueError("the fields of an answer are texts, numbers, true, false or null")
    line = json.dumps(row, allow_nan=False, ensure_ascii=False)
    if len(line.encode()) > LARGEST_LINE:
        raise ValueError(f"an answer may have at most {LARGEST_LINE} bytes")
    return line

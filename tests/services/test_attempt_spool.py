"""`send_attempts` and `AttemptSpool`: what was taken reaches the API, whoever is killed, as real processes show."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from irt_assets.intake.load import import_attempts
from resources.postgres.database import Database
from services.theta_client import AttemptsNotSent, AttemptSpool, send_attempts, spool
from services.theta_client.api import read_address
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

pytestmark = pytest.mark.xdist_group("send attempts")

ROOT = Path(__file__).parents[2]
ADDING = """
import sys
from itertools import chain
from services.theta_client import AttemptSpool
spool = AttemptSpool(sys.argv[1])
for k, _ in enumerate(chain(range(int(sys.argv[3])), sys.stdin)):
    row = {"attempt_id": f"{sys.argv[2]}-{k}", "user_id": "a learner", "item_id": "i", "correct": True}
    spool.add([row])
    print(row["attempt_id"], flush=True)
"""
NOBODY = "http://127.0.0.1:9"
"""The port of the discard service: nothing listens there."""
Answer = tuple[int, dict[str, str], Any]


class Server(ThreadingHTTPServer):
    """An API that stores each id, and answers by `judge` instead where that is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[list[dict[str, Any]]] = []
        self.judge: Callable[[list[dict[str, Any]]], Answer | None] = lambda _rows: None

    @property
    def ids(self) -> Counter[str]:
        return Counter(row["attempt_id"] for rows in self.received for row in rows)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        assert self.path == "/behind/api/seedtest/attempts"
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        stored = [{"result": "accepted", "attempt_id": row["attempt_id"]} for row in rows]
        judged = self.server.judge(rows)
        if judged is None or judged[0] == 200:
            self.server.received.append(rows)
        status, headers, content = judged or (200, {}, {"attempts": stored})
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    read_address.cache_clear()
    with Server() as made:
        monkeypatch.setenv("IRT_THETA_URL", f"http://127.0.0.1:{made.server_port}/behind")
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()
    read_address.cache_clear()


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    read_address.cache_clear()
    monkeypatch.setenv("IRT_THETA_URL", NOBODY)
    yield
    read_address.cache_clear()


def answer(number: int) -> dict[str, Any]:
    return {"attempt_id": f"a{number}", "user_id": "u", "item_id": "i", "correct": number % 2 == 0}


def adding(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ADDING, str(folder), name, str(count)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def waiting(folder: Path) -> list[dict[str, Any]]:
    """The answers that have not been sent yet."""
    with closing(sqlite3.connect(folder / spool.FILE)) as database:
        return [json.loads(row[0]) for row in database.execute("SELECT answer FROM waiting ORDER BY number")]


def lines(*numbers: int) -> str:
    """A file of version 1.0."""
    return "".join(json.dumps(answer(k)) + "\n" for k in numbers)


def kept(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / spool.REFUSED).read_text().splitlines()]


def test_rows_without_an_id_get_one_that_stays_when_they_are_sent_again(server: Server) -> None:
    rows: list[dict[str, Any]] = [{"user_id": "u"}, {"user_id": "u", "attempt_id": "mine"}]
    first, again = send_attempts(rows), send_attempts(rows)
    assert first == again
    assert first[1]["attempt_id"] == "mine"
    assert server.received == [rows, rows]


def test_many_rows_go_in_parts_that_the_api_takes(server: Server) -> None:
    assert len(send_attempts([{"user_id": "u"} for _ in range(2500)])) == 2500
    assert [len(rows) for rows in server.received] == [1000, 1000, 500]
    send_attempts([{"user_id": "u" * 40_000} for _ in range(100)])
    assert all(len(json.dumps(rows)) <= 2**21 for rows in server.received)


def test_a_refusal_says_whether_to_send_again_and_when(server: Server) -> None:
    server.judge = lambda _rows: (503, {"Retry-After": "3"}, {"detail": "not now"})
    with pytest.raises(AttemptsNotSent, match="not now") as busy:
        send_attempts([{"user_id": "u"}])
    assert (busy.value.again, busy.value.pause) == (True, 3.0)
    server.judge = lambda _rows: (403, {}, {})
    with pytest.raises(AttemptsNotSent) as refused:
        send_attempts([{"user_id": "u"}])
    assert not refused.value.again


def test_a_server_that_is_away_is_an_error(away: None) -> None:
    with pytest.raises(AttemptsNotSent) as failed:
        send_attempts([{"user_id": "u"}])
    assert failed.value.again


def test_answers_of_many_threads_are_sent_once(server: Server, tmp_path: Path) -> None:
    sending = AttemptSpool(tmp_path / "made")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: sending.add([answer(k), {"user_id": "u"}]), range(100)))
    assert sending.close(patient(30))
    assert server.ids.total() == len(server.ids) == 200
    assert {f"a{k}" for k in range(100)} < server.ids.keys()
    assert not waiting(tmp_path / "made")
    with pytest.raises(ValueError, match="closed"):
        sending.add([answer(1)])


def test_add_returns_when_the_rows_are_on_disk(away: None, tmp_path: Path) -> None:
    sending = AttemptSpool(tmp_path)
    for k in range(3):
        sending.add([answer(k)])
        assert waiting(tmp_path)[-1] == answer(k)
    with sending._transaction() as database:
        settings = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]  # each commit waits for the disk
    sending.close(0)


@pytest.mark.parametrize("killed_while", ["nobody sends", "all is sent"])
def test_what_add_took_before_kill_9_is_sent_by_the_next_process(
    server: Server, tmp_path: Path, killed_while: str
) -> None:
    if killed_while == "nobody sends":
        server.judge = lambda _rows: (503, {"Retry-After": "1"}, {})
    processes = [adding(tmp_path, name, 100_000) for name in "xy"]
    taken: set[str] = set()
    for process in processes:
        assert process.stdout is not None
        taken.update(process.stdout.readline().strip() for _ in range(40))
        process.send_signal(signal.SIGKILL)
        taken.update(line.strip() for line in process.stdout if line.endswith("\n"))
        process.communicate()
    assert len(taken) >= 80
    server.judge = lambda _rows: None
    sending = AttemptSpool(tmp_path)
    assert sending.close(patient(60))
    assert taken <= server.ids.keys()
    assert not waiting(tmp_path)


def test_answers_of_several_processes_are_sent_once(server: Server, tmp_path: Path) -> None:
    processes = [adding(tmp_path, name, 40) for name in "xyz"]
    wait_for("all answers", lambda: len(server.ids) == 120)
    wait_for("the end of the last request", lambda: not waiting(tmp_path))
    for process in processes:
        process.communicate()
    assert server.ids.total() == 120


def test_answers_of_version_1_are_sent_first_and_their_files_deleted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "02.part").write_text(lines(2) + '{"attempt_id": "torn", "us')
    (tmp_path / "01.jsonl").write_text(lines(0, 1))
    (tmp_path / spool.REFUSED).write_text('{"attempt_id": "old", "reason": "bad_score"}\n')
    sending = AttemptSpool(tmp_path)
    sending.add([answer(3)])
    assert sending.close(patient(30))
    assert [row["attempt_id"] for rows in server.received for row in rows] == ["a0", "a1", "a2", "a3"]
    assert [(row["reason"], row.get("line")) for row in kept(tmp_path)] == [
        ("bad_score", None),
        ("torn_line", '{"attempt_id": "torn", "us'),
    ]
    assert not [*tmp_path.glob("0*")]
    assert sending.refused == 1


def test_a_file_to_which_a_process_of_version_1_writes_is_left_to_it(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "01.part"
    path.write_text(lines(0))
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert AttemptSpool(tmp_path).close(patient(30))
        assert path.read_text() == lines(0)
    assert AttemptSpool(tmp_path).close(patient(30))
    assert server.ids == {"a0": 1}
    assert not path.exists()


def test_forked_children_and_their_parent_each_send_what_they_added(server: Server, tmp_path: Path) -> None:
    """Forked while threads of the parent write, and while its worker sends."""
    sending = AttemptSpool(tmp_path)
    children = []
    with ThreadPoolExecutor(4) as pool:
        added = [pool.submit(sending.add, [answer(k)]) for k in range(40)]
        for number in range(5):
            child = os.fork()
            if child == 0:
                try:
                    for k in range(4):
                        sending.add([answer(1000 * (number + 1) + k)])
                    os._exit(0)
                finally:
                    os._exit(77)
            children.append(child)
        for each in added:
            each.result()
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 5
    assert sending.close(patient(30))
    by_children = {f"a{1000 * n + k}" for n in range(1, 6) for k in range(4)}
    assert server.ids.keys() == {f"a{k}" for k in range(40)} | by_children


def test_refused_answers_are_kept_with_the_reason_and_counted_and_the_log_names_none(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {"result": "rejected", "reason": "bad_score", "value": "7", "what_to_do": "Send 0 or 1."}
    server.judge = lambda rows: (
        200,
        {},
        {"attempts": [bad if row["correct"] else {"result": "accepted"} for row in rows]},
    )
    sending = AttemptSpool(tmp_path)
    for k in range(6):
        sending.add([answer(k)])
    assert sending.close(patient(30))
    assert (sending.refused, [row["attempt_id"] for row in kept(tmp_path)]) == (3, ["a0", "a2", "a4"])
    assert kept(tmp_path)[0] == answer(0) | {"reason": "bad_score", "what_to_do": "Send 0 or 1."}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "a0" not in caplog.text


def test_the_pause_is_what_the_api_asks_for_and_grows_where_it_asks_for_none(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    usual = threading.Condition.wait_for
    monkeypatch.setattr(spool.random, "uniform", lambda *_: 1.0)

    def wait_for_it(self: threading.Condition, probe: Callable[[], bool], timeout: float | None = None) -> bool:
        if threading.current_thread().name != "irt-attempt-spool":
            return usual(self, probe, timeout)
        waits.append(timeout or 0)
        return usual(self, probe, 0.01)

    monkeypatch.setattr(threading.Condition, "wait_for", wait_for_it)
    asked: Iterator[dict[str, str]] = iter([{"Retry-After": "7"}, {"Retry-After": "1"}, *[{}] * 6])

    def judge(_rows: list[dict[str, Any]]) -> Answer | None:
        headers = next(asked, None)
        return None if headers is None else (503, headers, {"detail": "busy"})

    server.judge = judge
    sending = AttemptSpool(tmp_path)
    sending.add([answer(1)])
    assert sending.close(patient(30))
    assert waits == [7, 1, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("status", [400, 401, 403, 409])
def test_where_a_setting_is_at_fault_the_rows_stay_and_it_says_so_once_a_minute(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    asked = []

    def judge(rows: list[dict[str, Any]]) -> Answer:
        asked.append(rows)
        return status, {}, {"detail": "mend it"}

    server.judge = judge
    sending = AttemptSpool(tmp_path)
    sending.add([answer(1)])
    wait_for("it to be refused", lambda: caplog.records)
    assert not sending.close(0.3)
    assert len(asked) == 1
    assert [record.getMessage().endswith(f"answered {status}: mend it") for record in caplog.records] == [True]
    assert waiting(tmp_path) == [answer(1)]


def test_a_body_that_is_too_large_is_halved_and_a_row_that_is_is_refused(server: Server, tmp_path: Path) -> None:
    def judge(rows: list[dict[str, Any]]) -> Answer | None:
        return (413, {}, None) if len(rows) > 2 or rows[0]["attempt_id"] == "a3" else None

    server.judge = judge
    sending = AttemptSpool(tmp_path)
    sending.add([answer(k) for k in range(7)])
    assert sending.close(patient(30))
    assert server.ids == Counter(f"a{k}" for k in (0, 1, 2, 4, 5, 6))
    assert [(row["attempt_id"], row["reason"]) for row in kept(tmp_path)] == [("a3", "too_large")]


def test_a_row_whose_body_the_api_cannot_read_is_refused_for_good_and_later_rows_go_on(
    server: Server, tmp_path: Path
) -> None:
    detail = {"type": "urn:irt:problem:bad_request", "detail": "it is not what it should be"}

    def judge(rows: list[dict[str, Any]]) -> Answer | None:
        return (400, {}, detail) if any(row["attempt_id"] == "a3" for row in rows) else None

    server.judge = judge
    sending = AttemptSpool(tmp_path)
    sending.add([answer(k) for k in range(7)])
    sending.add([answer(7)])
    assert sending.close(patient(30))
    assert server.ids == Counter(f"a{k}" for k in (0, 1, 2, 4, 5, 6, 7))
    assert [(row["attempt_id"], row["reason"], row["what_to_do"]) for row in kept(tmp_path)] == [
        ("a3", "bad_request", detail["detail"])
    ]


def test_a_line_that_cannot_be_sent_as_json_is_refused_and_the_others_are_sent(server: Server, tmp_path: Path) -> None:
    unfit = '{"attempt_id": "a0", "score": NaN}\n{"attempt_id": "a1", "user_id": "\\ud800"}\n'
    (tmp_path / "00.jsonl").write_text(unfit + lines(2))
    sending = AttemptSpool(tmp_path)
    assert sending.close(patient(30))
    assert server.ids == Counter(["a2"])
    assert [row["reason"] for row in kept(tmp_path)] == ["torn_line"] * 2


def test_a_file_of_version_1_that_cannot_be_read_does_not_hold_up_others(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "00.jsonl").mkdir()
    (tmp_path / "01.jsonl").write_text(lines(1))
    assert AttemptSpool(tmp_path).close(patient(30))
    assert server.ids == {"a1": 1}
    assert caplog.messages == ["answers of an earlier version wait on disk: Is a directory"]


@pytest.mark.parametrize(
    "row", [{"x": float("nan")}, {"x": "\ud800"}, {"x": [1]}, {"x": {"y": 1}}, {1: "x"}, {"x": "y" * 2**20}]
)
def test_a_row_that_the_api_could_not_read_is_refused_at_the_door(away: None, tmp_path: Path, row: Any) -> None:
    sending = AttemptSpool(tmp_path)
    with pytest.raises(ValueError):  # noqa: PT011 - of json, of a codec, or of the spool
        sending.add([answer(1), row])
    sending.close(0)
    assert not waiting(tmp_path)


def test_a_full_disk_is_the_callers_error_and_the_rows_before_it_stay(server: Server, tmp_path: Path) -> None:
    server.judge = lambda _rows: (503, {}, {})
    sending = AttemptSpool(tmp_path)
    sending.add([answer(1)])
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match=rf"I/O error.*{spool.FILE}"):
            sending.add([answer(2) | {"response": "x" * 100_000}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    sending.add([answer(3)])
    server.judge = lambda _rows: None
    assert sending.close(patient(30))
    assert server.ids == {"a1": 1, "a3": 1}


def test_a_disk_too_full_to_delete_does_not_hold_up_later_answers(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool.random, "uniform", lambda *_: 0.01)  # pauses of hundredths
    server.judge = lambda _rows: (503, {}, {})
    sending = AttemptSpool(tmp_path)
    sending.add([answer(k) for k in range(1500)])
    with closing(sqlite3.connect(tmp_path / spool.FILE)) as database:
        full = "SELECT RAISE(ROLLBACK, 'database or disk is full');"
        database.execute(f"CREATE TRIGGER full BEFORE DELETE ON waiting BEGIN {full} END")
        database.commit()
        server.judge = lambda _rows: None
        wait_for("all answers", lambda: len(server.ids) == 1500)
        database.execute("DROP TRIGGER full")
        database.commit()
    sending.add([answer(1500)])
    assert sending.close(patient(30))
    assert server.ids.total() == 1501
    assert not waiting(tmp_path)


@pytest.mark.parametrize(("content", "said"), [(b"garbage" * 1000, "file is not a database"), (None, "unable to open")])
def test_a_file_that_is_no_database_is_named_until_it_is_moved_away(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None, said: str
) -> None:
    file = tmp_path / spool.FILE
    file.mkdir() if content is None else file.write_bytes(content)
    sending = AttemptSpool(tmp_path)
    for _ in range(2):
        with pytest.raises(OSError, match=rf"{said}.*{file}"):
            sending.add([answer(1)])
    wait_for("the warning", lambda: caplog.messages)
    assert not sending.close(0)
    assert [message.startswith(f"answers wait on disk: {said}") for message in caplog.messages] == [True]
    file.rename(tmp_path / "moved")
    sending = AttemptSpool(tmp_path)
    sending.add([answer(1)])
    assert sending.close(patient(30))
    assert server.ids == {"a1": 1}


def test_a_long_outage_is_sent_in_requests_of_bounded_size(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()

    def judge(_rows: list[dict[str, Any]]) -> Answer:
        refused.set()
        return 503, {}, {}

    server.judge = judge
    sending = AttemptSpool(tmp_path)
    sending.add([answer(k) for k in range(2500)])
    sending.add([answer(3000 + k) | {"response": "x" * 600_000} for k in range(5)])
    assert refused.wait(patient(60))
    server.judge = lambda _rows: None
    assert sending.close(patient(60))
    assert [len(rows) for rows in server.received] == [1000, 1000, 503, 2]
    assert (tmp_path / spool.FILE).stat().st_size < 100_000  # the file shrinks


def test_an_import_takes_the_answers_of_an_outage(away: None, tmp_path: Path, database: Database) -> None:
    sending = AttemptSpool(tmp_path / "spool")
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    sending.add([answer(k) | {"completed_at": now.isoformat(), "response": None} for k in range(3)])
    assert not sending.close(0)
    files = [tmp_path / "waiting.jsonl"]
    files[0].write_text("".join(json.dumps(row) + "\n" for row in waiting(tmp_path / "spool")))
    report = import_attempts(database, files, first_month=f"{now:%Y-%m}")
    assert (report.accepted, report.rejected.total()) == (3, 0)
    again = import_attempts(database, files, first_month=f"{now:%Y-%m}")
    assert again.duplicates == 3

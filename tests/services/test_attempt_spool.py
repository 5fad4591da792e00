"""`send_attempts` and `AttemptSpool` deliver every added row to the API, even if processes are killed."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
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
    """An API that stores the rows, unless `judge` returns another response."""

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
        result = self.server.judge(rows)
        if result is None or result[0] == 200:
            self.server.received.append(rows)
        status, headers, content = result or (200, {}, {"attempts": stored})
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
def unreachable_api(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    read_address.cache_clear()
    monkeypatch.setenv("IRT_THETA_URL", NOBODY)
    yield
    read_address.cache_clear()


def answer(number: int) -> dict[str, Any]:
    return {"attempt_id": f"a{number}", "user_id": "u", "item_id": "i", "correct": number % 2 == 0}


def fill_spool(folder: Path, *numbers: int) -> AttemptSpool:
    """Returns a spool to which these answers were added, one call each."""
    sending = AttemptSpool(folder)
    for number in numbers:
        sending.add([answer(number)])
    return sending


def adding(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ADDING, str(folder), name, str(count)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def stopped_with_one_file(living: subprocess.Popen[str], folder: Path) -> tuple[str, Path] | None:
    """Let a process add an answer, and stop the process. Returns the answer's id and the file that contains it.

    Returns None and lets the process continue if it has just closed that file or is sending another file.
    """
    assert living.stdin is not None
    assert living.stdout is not None
    living.stdin.write("\n")
    living.stdin.flush()
    added = living.stdout.readline().strip()
    living.send_signal(signal.SIGSTOP)
    wait_for("it to stop", lambda: psutil.Process(living.pid).status() == psutil.STATUS_STOPPED, pause=0.01)
    held = [path for path in folder.iterdir() if is_locked(path)]
    if len(held) == 1 and held[0].suffix == ".part":
        return added, held[0]
    living.send_signal(signal.SIGCONT)
    return None


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def refused_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / spool.REFUSED).read_text().splitlines()]


def test_rows_without_an_id_keep_their_generated_id_when_sent_again(server: Server) -> None:
    rows: list[dict[str, Any]] = [{"user_id": "u"}, {"user_id": "u", "attempt_id": "mine"}]
    first, again = send_attempts(rows), send_attempts(rows)
    assert (again, first[1]["attempt_id"], server.received) == (first, "mine", [rows, rows])


def test_large_batches_are_sent_in_parts_within_the_apis_limits(server: Server) -> None:
    assert len(send_attempts([{"user_id": "u"} for _ in range(2500)])) == 2500
    assert [len(rows) for rows in server.received] == [1000, 1000, 500]
    send_attempts([{"user_id": "u" * 40_000} for _ in range(100)])
    assert all(len(json.dumps(rows)) <= 2**21 for rows in server.received)


def test_errors_contain_whether_and_when_to_send_again(server: Server) -> None:
    server.judge = lambda _rows: (503, {"Retry-After": "3"}, {"detail": "not now"})
    busy = sending_error()
    assert ("not now" in str(busy), busy.again, busy.pause) == (True, True, 3.0)
    server.judge = lambda _rows: (403, {}, {})
    assert not sending_error().again


def test_an_unreachable_server_raises_an_error_that_can_be_retried(unreachable_api: None) -> None:
    assert sending_error().again


def sending_error() -> AttemptsNotSent:
    """Returns the error that sending a row raises."""
    with pytest.raises(AttemptsNotSent) as failed:
        send_attempts([{"user_id": "u"}])
    return failed.value


def test_answers_of_many_threads_are_sent_once_and_the_folder_is_then_empty(server: Server, tmp_path: Path) -> None:
    sending = AttemptSpool(tmp_path / "made")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: sending.add([answer(k), {"user_id": "u"}]), range(100)))
    assert sending.close(patient(30))
    assert server.ids.total() == len(server.ids) == 200
    assert {f"a{k}" for k in range(100)} < server.ids.keys()
    assert not list((tmp_path / "made").iterdir())
    with pytest.raises(ValueError, match="closed"):
        sending.add([answer(1)])


def test_add_returns_when_the_rows_are_on_disk(
    unreachable_api: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    usual = os.fsync

    def fsync(file: int) -> None:
        usual(file)
        opened = Path(f"/proc/self/fd/{file}")
        if opened.readlink().suffix == ".part":
            synced.append(opened.read_text())

    monkeypatch.setattr(spool.os, "fsync", fsync)
    sending = AttemptSpool(tmp_path)
    for k in range(3):
        sending.add([answer(k)])
        assert f'"a{k}"' in synced[-1]
    sending.close(0)


@pytest.mark.parametrize("killed_while", ["no sending", "sending all rows"])
def test_rows_added_before_kill_9_are_sent_by_the_next_process(
    server: Server, tmp_path: Path, killed_while: str
) -> None:
    if killed_while == "no sending":
        server.judge = lambda _rows: (503, {"Retry-After": "1"}, {})
    processes = [adding(tmp_path, name, 100_000) for name in "xy"]
    taken: set[str] = set()
    for process in processes:
        assert process.stdout is not None
        taken.update(process.stdout.readline().strip() for _ in range(150))
        process.send_signal(signal.SIGKILL)
        taken.update(line.strip() for line in process.stdout if line.endswith("\n"))
        process.communicate()
    assert len(taken) >= 300
    unsent = [*tmp_path.glob("*.part"), *tmp_path.glob("*.jsonl")]  # empty if a file had just been sent
    with (unsent[0] if unsent else tmp_path / "0.part").open("ab") as file:
        file.write(b'{"attempt_id": "torn", "us')
    server.judge = lambda _rows: None
    assert AttemptSpool(tmp_path).close(patient(60))
    assert taken <= server.ids.keys()
    assert [row["reason"] for row in refused_rows(tmp_path)] == ["torn_line"]
    assert '"torn"' in refused_rows(tmp_path)[0]["line"]
    assert [path.name for path in tmp_path.iterdir()] == [spool.REFUSED]


def test_files_of_a_running_process_are_unchanged_and_closed_files_are_sent(server: Server, tmp_path: Path) -> None:
    server.judge = lambda _rows: (503, {}, {})
    living = adding(tmp_path, "living", 50)
    assert living.stdout is not None
    assert [living.stdout.readline() for _ in range(50)][-1] == "living-49\n"
    closed = fill_spool(tmp_path, 1)
    assert not closed.close(0)
    closed._worker.join()
    last, written = wait_for(
        "it to stop while it writes and sends nothing", lambda: stopped_with_one_file(living, tmp_path)
    )
    server.judge = lambda _rows: None
    assert AttemptSpool(tmp_path).close(patient(30))
    assert [path.name for path in tmp_path.iterdir()] == [written.name]
    assert server.ids["a1"] == 1
    assert last not in server.ids
    living.send_signal(signal.SIGCONT)
    wait_for("its own answers to be sent", lambda: last in server.ids)
    living.communicate()
    assert living.returncode == 0
    assert not list(tmp_path.iterdir())


def test_a_file_that_another_process_sends_is_unsent_until_that_process_has_deleted_it(
    server: Server, tmp_path: Path
) -> None:
    server.judge = lambda _rows: (503, {}, {})
    closed = fill_spool(tmp_path, 1)
    assert not closed.close(0)
    closed._worker.join()
    server.judge = lambda _rows: None
    with next(tmp_path.glob("*.jsonl")).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sending = AttemptSpool(tmp_path)
        with sending._changed:
            assert not sending._changed.wait_for(lambda: sending._is_idle, 1.5)
    assert sending.close(patient(30))
    assert server.ids == {"a1": 1}


def test_a_forked_child_has_its_own_file_and_thread(server: Server, tmp_path: Path) -> None:
    server.judge = lambda _rows: (503, {}, {})
    sending = fill_spool(tmp_path, 1)
    child = os.fork()
    if child == 0:
        try:
            os.environ["IRT_THETA_URL"] = NOBODY  # otherwise the server may receive the ended child's last request
            read_address.cache_clear()
            sending.add([answer(2)])
            os._exit(len([*tmp_path.iterdir()]))
        finally:
            os._exit(77)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    server.judge = lambda _rows: None
    assert sending.close(patient(30))
    assert server.ids == {"a1": 1, "a2": 1}


def test_refused_answers_are_kept_with_the_reason_and_the_log_contains_no_ids(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {"result": "rejected", "reason": "bad_score", "value": "7", "what_to_do": "Send 0 or 1."}
    server.judge = lambda rows: (
        200,
        {},
        {"attempts": [bad if row["correct"] else {"result": "accepted"} for row in rows]},
    )
    sending = fill_spool(tmp_path, *range(6))
    assert sending.close(patient(30))
    assert (sending.refused, [row["attempt_id"] for row in refused_rows(tmp_path)]) == (3, ["a0", "a2", "a4"])
    assert refused_rows(tmp_path)[0] == answer(0) | {"reason": "bad_score", "what_to_do": "Send 0 or 1."}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "a0" not in caplog.text


def test_pause_follows_retry_after_and_grows_if_the_header_is_missing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    usual = threading.Condition.wait_for

    def wait_for_it(self: threading.Condition, probe: Callable[[], bool], timeout: float | None = None) -> bool:
        if threading.current_thread().name != "irt-attempt-spool":
            return usual(self, probe, timeout)
        waits.append(timeout or 0)
        return usual(self, probe, 0.01)

    monkeypatch.setattr(threading.Condition, "wait_for", wait_for_it)
    responses: Iterator[dict[str, str]] = iter([{"Retry-After": "7"}, {"Retry-After": "1"}, *[{}] * 6])

    def judge(_rows: list[dict[str, Any]]) -> Answer | None:
        headers = next(responses, None)
        return None if headers is None else (503, headers, {"detail": "busy"})

    server.judge = judge
    assert fill_spool(tmp_path, 1).close(patient(30))
    longer = [wait / least for wait, least in zip(waits, [7, 1, 4, 8, 16, 32, 60, 60], strict=True)]
    assert all(1 <= factor <= 1.2 for factor in longer), waits


@pytest.mark.parametrize("status", [400, 401, 403, 409])
def test_rows_stay_if_a_setting_is_wrong_and_the_reason_is_logged_once(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    requests = []

    def judge(rows: list[dict[str, Any]]) -> Answer:
        requests.append(rows)
        return status, {}, {"detail": "mend it"}

    server.judge = judge
    sending = fill_spool(tmp_path, 1)
    wait_for("it to be refused", lambda: caplog.records)
    assert not sending.close(0.3)
    assert len(requests) == 1
    assert [record.getMessage().endswith(f"answered {status}: mend it") for record in caplog.records] == [True]
    [file] = tmp_path.iterdir()
    assert (file.suffix, json.loads(file.read_text())) == (".jsonl", answer(1))


def test_too_large_bodies_are_halved_and_too_large_rows_are_refused(server: Server, tmp_path: Path) -> None:
    def judge(rows: list[dict[str, Any]]) -> Answer | None:
        return (413, {}, None) if len(rows) > 2 or rows[0]["attempt_id"] == "a3" else None

    server.judge = judge
    sending = AttemptSpool(tmp_path)
    sending.add([answer(k) for k in range(7)])
    assert sending.close(patient(30))
    assert server.ids == Counter(f"a{k}" for k in (0, 1, 2, 4, 5, 6))
    assert [(row["attempt_id"], row["reason"]) for row in refused_rows(tmp_path)] == [("a3", "too_large")]


def test_rows_that_the_api_cannot_read_are_refused_and_later_files_are_sent(server: Server, tmp_path: Path) -> None:
    detail = {"type": "urn:irt:problem:bad_request", "detail": "it is not what it should be"}

    def judge(rows: list[dict[str, Any]]) -> Answer | None:
        return (400, {}, detail) if any(row["attempt_id"] == "a3" for row in rows) else None

    server.judge = judge
    (tmp_path / "00.jsonl").write_text("".join(json.dumps(answer(k)) + "\n" for k in range(7)))
    (tmp_path / "01.jsonl").write_text(json.dumps(answer(7)) + "\n")
    assert AttemptSpool(tmp_path).close(patient(30))
    assert server.ids == Counter(f"a{k}" for k in (0, 1, 2, 4, 5, 6, 7))
    assert [(row["attempt_id"], row["reason"], row["what_to_do"]) for row in refused_rows(tmp_path)] == [
        ("a3", "bad_request", detail["detail"])
    ]


def test_lines_that_cannot_be_sent_as_json_are_refused_and_other_lines_are_sent(server: Server, tmp_path: Path) -> None:
    lines = ['{"attempt_id": "a0", "score": NaN}', '{"attempt_id": "a1", "user_id": "\\ud800"}', json.dumps(answer(2))]
    (tmp_path / "00.jsonl").write_text("\n".join(lines) + "\n")
    assert AttemptSpool(tmp_path).close(patient(30))
    assert server.ids == Counter(["a2"])
    assert [row["reason"] for row in refused_rows(tmp_path)] == ["torn_line"] * 2


def test_an_unreadable_file_does_not_delay_later_files(server: Server, tmp_path: Path) -> None:
    (tmp_path / "00.jsonl").mkdir()
    (tmp_path / "01.jsonl").write_text(json.dumps(answer(1)) + "\n")
    sending = AttemptSpool(tmp_path)
    wait_for("the later file to be sent", lambda: server.ids == Counter(["a1"]), pause=0.01)
    assert not sending.close(0.1)


@pytest.mark.parametrize(
    "row", [{"x": float("nan")}, {"x": "\ud800"}, {"x": [1]}, {"x": {"y": 1}}, {1: "x"}, {"x": "y" * 2**20}]
)
def test_add_raises_if_the_api_could_not_read_a_row(unreachable_api: None, tmp_path: Path, row: Any) -> None:
    sending = AttemptSpool(tmp_path)
    with pytest.raises(ValueError):  # noqa: PT011 - raised by json, a codec or the spool
        sending.add([answer(1), row])
    assert not list(tmp_path.iterdir())
    sending.close(0)


def test_add_raises_if_the_disk_is_full_and_earlier_rows_stay_whole(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.judge = lambda _rows: (503, {}, {})
    sending = fill_spool(tmp_path, 1)
    usual, free_bytes = os.pwrite, [20]
    with monkeypatch.context() as patch:
        patch.setattr(spool.os, "pwrite", lambda file, text, at: usual(file, text[: free_bytes[0]], at))
        with pytest.raises(OSError, match="No space left"):
            sending.add([answer(2)])
        free_bytes[0] = 10_000
        sending.add([answer(2)])
        patch.setattr(spool.os, "fsync", lambda _file: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="output error"):
            sending.add([answer(3)])
    sending.add([answer(3)])
    server.judge = lambda _rows: None
    assert sending.close(patient(30))
    assert {"a1", "a2", "a3"} == server.ids.keys()
    assert not list(tmp_path.iterdir())


def test_a_long_outage_makes_files_of_bounded_size_that_are_read_in_chunks(server: Server, tmp_path: Path) -> None:
    refused = threading.Event()

    def judge(_rows: list[dict[str, Any]]) -> Answer:
        refused.set()
        return 503, {}, {}

    server.judge = judge
    sending = AttemptSpool(tmp_path)
    for k in range(30):
        sending.add([answer(1000 * k + j) | {"response": "x" * 20_000} for j in range(20)])
        assert refused.wait(patient(60))  # from here on the spool's thread closes no file, whatever the scheduling
    assert len([*tmp_path.glob("*.jsonl")]) >= 4
    assert all(path.stat().st_size < 1.3 * spool.MAX_FILE_BYTES for path in tmp_path.iterdir())
    server.judge = lambda _rows: None
    assert sending.close(patient(30))
    assert (len(server.ids), max(map(len, server.received)) <= 1000) == (600, True)


def test_spool_files_of_an_outage_can_be_imported(unreachable_api: None, tmp_path: Path, database: Database) -> None:
    sending = AttemptSpool(tmp_path / "spool")
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    sending.add([answer(k) | {"completed_at": now.isoformat(), "response": None} for k in range(3)])
    assert not sending.close(0)
    files = [*(tmp_path / "spool").glob("0*.jsonl")]
    report = import_attempts(database, files, first_month=f"{now:%Y-%m}")
    assert (report.accepted, report.rejected.total()) == (3, 0)
    assert import_attempts(database, files, first_month=f"{now:%Y-%m}").duplicates == 3

"""The session hook runs inside the exam service and never disturbs an exam, whatever the θ API does."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator
from functools import partial
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from statistics import median, quantiles
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from services import theta_client
from services.theta_client import NextItemFailed, api, counters, next_item, on_session_complete, updates
from services.theta_client.api import PATH, SECONDS, UpdateFailed, read_address, update_theta
from services.theta_client.updates import MAX_WAITING, Updates
from tests.helpers.sentences import missing_sentences
from tests.helpers.written_commands import fenced_blocks
from tests.services.fake_api import fake_api, floods, hangs, says, sends, theta, trickles
from tests.testbed.patience import patient

ROOT = Path(__file__).parents[2]
MILLISECOND = 1e-3
NOBODY = "http://127.0.0.1:9"  # the port of the discard service: nothing listens there


@pytest.fixture(autouse=True)
def fresh_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin each test like a new process, with the hook enabled and no server at the API's address.

    Updates have a long timeout, for busy machines.
    """
    monkeypatch.setattr(api, "SECONDS", patient(30))
    monkeypatch.setenv("ENABLE_IRT_ONLINE_UPDATE", "true")
    monkeypatch.setenv("IRT_THETA_URL", NOBODY)
    monkeypatch.delenv("IRT_THETA_TOKEN", raising=False)
    read_address.cache_clear()
    theta_client._forget_the_parent()
    yield
    theta_client._updates.finish(0)


def wait_for(updates: Updates, **expected: int) -> None:
    """Wait until these counters have these values. A minute is far more than any test needs."""

    def reached() -> bool:
        return expected.items() <= updates.counters().items()

    with updates._changed:
        assert updates._changed.wait_for(reached, timeout=patient(60)), updates.counters()


class HeldUpdate:
    """An update that waits until it is released, as if the API were slow."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.learners: list[str] = []

    def __call__(self, user_id: str) -> None:
        self.learners.append(user_id)
        self.begun.release()
        assert self.go_on.wait(patient(60))


# --- requests


def test_hook_sends_the_learner_of_a_finished_session_to_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_api(theta) as server:
        monkeypatch.setenv("IRT_THETA_URL", server.url + "/behind/")
        monkeypatch.setenv("IRT_THETA_TOKEN", "a-secret\n")
        on_session_complete("test-user-123", "s1")
        wait_for(theta_client._updates, sent=1)
    head, _, body = server.requests[0].decode().partition("\r\n\r\n")
    assert head.startswith("POST /behind/api/seedtest/analysis/irt/update-theta HTTP/1.1\r\n")
    assert {"Authorization: Bearer a-secret", "Content-Type: application/json"} <= set(head.split("\r\n"))
    assert body == '{"user_id": "test-user-123"}'
    assert counters() == {"sent": 1, "failed": 0, "dropped": 0, "merged": 0}


@pytest.mark.parametrize("user_id", ["사용자 '😀'\"\\", "\ud800", "../../etc", "a\r\nX-Evil: 1", "x" * 1000])
def test_any_text_is_sent_as_a_learner_id(user_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_api(theta) as server:
        monkeypatch.setenv("IRT_THETA_URL", server.url)
        update_theta(user_id)
    assert server.learners() == [user_id]


def test_numbers_and_uuids_are_sent_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    number = uuid.uuid4()
    with fake_api(theta) as server:
        monkeypatch.setenv("IRT_THETA_URL", server.url)
        on_session_complete(42, number)
        on_session_complete(number, 42)
        wait_for(theta_client._updates, sent=2)
    assert server.learners() == ["42", str(number)]


@pytest.mark.parametrize("value", [None, "", "false", "0", "off", "maybe"])
def test_hook_starts_no_worker_if_switched_off(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENABLE_IRT_ONLINE_UPDATE")
    if value is not None:
        monkeypatch.setenv("ENABLE_IRT_ONLINE_UPDATE", value)
    on_session_complete("u1", "s1")
    assert not theta_client._updates._has_worker
    assert set(counters().values()) == {0}


def test_hook_is_off_by_default_and_starts_no_thread() -> None:
    program = "import os; hook('u1', 's1'); print(len(os.listdir('/proc/self/task')), sum(counters().values()))"
    assert run(program, ENABLE_IRT_ONLINE_UPDATE=None).stdout == "1 0\n"


# --- an API that misbehaves

FLAWED = {
    "closes": sends(b""),
    "garbage": sends(b"\x00\xff\xfe garbage \r\n" * 100),
    "greets as SSH": sends(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "login page": says(200, b"<html>please log in</html>"),
    "another learner's": says(200, b'{"user_id": "u2", "theta": 0.5}'),
    "no theta": says(200, b'{"user_id": "u1", "theta": null}'),
    "a list": says(200, b"[1, 2]"),
    "deep": says(200, b"[" * 60_000),
    "not UTF-8": says(200, b'"\xff"'),
    "breaks off": sends(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"user_id"'),
    "bad chunks": sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n"),
    "many headers": sends(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"),
    "long header": sends(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000),
    "continues": sends(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000),
    "floods": floods,
    **{str(status): says(status) for status in (204, 302, 400, 401, 403, 404, 409, 422, 500, 502, 503)},
}


@pytest.mark.parametrize("flaw", FLAWED)
def test_flawed_responses_count_as_failures_and_the_next_learner_is_sent(
    flaw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_api(FLAWED[flaw]) as server:
        monkeypatch.setenv("IRT_THETA_URL", server.url)
        on_session_complete("u1", "s1")
        on_session_complete("u3", "s3")
        wait_for(theta_client._updates, failed=2)
    assert server.learners() == ["u1", "u3"]
    assert counters()["sent"] == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_update_fails_after_a_second_if_the_api_does_not_respond(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "SECONDS", SECONDS)
    with fake_api(hangs) as server:
        monkeypatch.setenv("IRT_THETA_URL", server.url.replace("http", scheme))
        read_address()  # the system's certificates are read once, outside any request
        began = time.monotonic()
        with pytest.raises(UpdateFailed, match="did not answer within 1 s"):
            update_theta("u1")
        took = time.monotonic() - began
    assert 0.99 <= took <= patient(1.5)


@pytest.mark.parametrize(
    ("status", "retry_after", "pause"),
    [(503, "7", 7), (429, "7", 7), (503, "86400", 60), (503, "soon", 0), (503, "-1", 0), (503, "٣", 0), (500, "7", 0)],
)
def test_pause_after_a_failure_follows_the_retry_after_header(
    status: int, retry_after: str, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = f"HTTP/1.1 {status} Busy\r\nRetry-After: {retry_after}\r\nContent-Length: 0\r\n\r\n".encode()
    with fake_api(sends(answer)) as server:
        monkeypatch.setenv("IRT_THETA_URL", server.url)
        with pytest.raises(UpdateFailed, match=str(status)) as failure:
            update_theta("u1")
    assert failure.value.pause == pause


def test_token_is_never_sent_to_proxies_or_redirect_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_api(theta) as other:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, other.url)
        for status in (301, 302, 303, 307, 308):
            with fake_api(says(status, b"", f"Location: {other.url}{PATH}")) as server:
                monkeypatch.setenv("IRT_THETA_URL", server.url)
                monkeypatch.setenv("IRT_THETA_TOKEN", "a-secret")
                read_address.cache_clear()
                with pytest.raises(UpdateFailed, match=f"redirects \\({status}\\)"):
                    update_theta("u1")
            assert len(server.requests) == 1
    assert other.requests == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IRT_THETA_URL", ""),
        ("IRT_THETA_URL", "theta-api:8001"),
        ("IRT_THETA_URL", "ftp://theta-api"),
        ("IRT_THETA_URL", "http://"),
        ("IRT_THETA_URL", "http://api:port"),
        ("IRT_THETA_URL", "http://[::1"),
        ("IRT_THETA_URL", "http://api/a b"),
        ("IRT_THETA_URL", "http://api\r\nX-Evil: 1"),
        ("IRT_THETA_URL", "http://me:s3cret@api"),
        ("IRT_THETA_TOKEN", "s3cret\r\nX-Evil: 1"),
        ("IRT_THETA_TOKEN", "s3cret-비밀"),
    ],
)
def test_invalid_settings_are_named_and_no_request_is_sent(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UpdateFailed, match=f"^{name} must be") as failure:
        update_theta("u1")
    assert "s3cret" not in str(failure.value)


# --- the queue


def test_waiting_learners_are_sent_once_and_a_learner_being_sent_is_sent_again() -> None:
    update = HeldUpdate()
    queue = Updates(update)
    queue.add("u1")
    update.begun.acquire(timeout=patient(60))
    for user_id in ("u2", "u1", "u2", "u1", "u2"):  # u1 is on its way, perhaps without the latest answers
        queue.add(user_id)
    update.go_on.set()
    wait_for(queue, sent=3, merged=3)
    assert update.learners == ["u1", "u2", "u1"]


def test_a_full_queue_drops_new_learners() -> None:
    update = HeldUpdate()
    queue = Updates(update)
    queue.add("first")
    update.begun.acquire(timeout=patient(60))
    for number in range(MAX_WAITING + 5):
        queue.add(f"u{number}")
    assert queue.counters() == {"sent": 0, "failed": 0, "dropped": 5, "merged": 0}
    update.go_on.set()
    wait_for(queue, sent=MAX_WAITING + 1)
    assert update.learners[-1] == f"u{MAX_WAITING - 1}"


def test_no_request_is_sent_during_the_pause_of_an_overloaded_api() -> None:
    def shed(user_id: str) -> None:
        raise UpdateFailed("the API answered 503", pause=3600)

    queue = Updates(shed)
    for user_id in ("u1", "u2", "u2"):
        queue.add(user_id)
    wait_for(queue, failed=1, merged=1)
    began = time.monotonic()
    queue.finish(30)  # does not wait for a learner who will not be sent
    assert time.monotonic() - began < patient(10)
    assert queue.counters() == {"sent": 0, "failed": 1, "dropped": 1, "merged": 1}


def test_unexpected_errors_count_as_failures() -> None:
    def fail(user_id: str) -> None:
        raise ZeroDivisionError

    queue = Updates(fail)
    queue.add("u1")
    wait_for(queue, failed=1)
    queue.add("u2")
    wait_for(queue, failed=2)


def test_failures_are_logged_once_a_minute(request: pytest.FixtureRequest) -> None:
    now = [1000.0]
    warnings: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler = QueueHandler(warnings)
    updates.log.addHandler(handler)
    request.addfinalizer(partial(updates.log.removeHandler, handler))
    queue = Updates(update_theta, clock=lambda: now[0])
    for number in range(200):
        queue.add(f"u{number}")
    wait_for(queue, failed=200)
    first = warnings.get(timeout=patient(60))
    now[0] += 61
    queue.add(None)  # wakes the worker, which looks at the clock
    second = warnings.get(timeout=patient(60))
    assert (first.levelno, second.levelno) == (logging.WARNING, logging.WARNING)
    beginning = "theta not updated after {} session(s), theta_sweep will catch up; the last: {}"
    assert first.getMessage().startswith(beginning.format(1, "learner 'u0': 127.0.0.1:9: "))
    assert second.getMessage() == beginning.format(200, "a call without a learner's id")
    assert warnings.empty()


# --- effects on the exam


class Hostile:
    """An object whose every method raises SystemExit, even the look-up of its class."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise SystemExit

    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__
    __eq__ = __hash__ = __bool__ = __len__ = __str__  # type: ignore[assignment]


class HostileText(str):
    """A string whose methods raise SystemExit."""

    __slots__ = ()

    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__
    __eq__ = __hash__ = __bool__ = __len__ = __str__  # type: ignore[assignment]


ANYTHING = st.one_of(
    st.none(),
    st.text(),
    st.text().map(HostileText),
    st.builds(Hostile),
    st.builds(object),
    st.sampled_from(["x" * 10_000, "😀" * 10_000, 10**10_000, b"u1", "", ["u1"], {"sub": "u1"}, str, Hostile]),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.uuids(),
    st.binary(),
)


@given(st.lists(st.tuples(ANYTHING, ANYTHING), max_size=20))
def test_hook_never_raises_and_every_call_is_counted_or_waits(calls: list[tuple[Any, Any]]) -> None:
    queue = Updates(HeldUpdate())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theta_client, "_updates", queue)
        patch.setattr(updates._thread, "start_new_thread", lambda *_: None)
        for user_id, session_id in calls:
            on_session_complete(user_id, session_id)
    assert sum(queue.counters().values()) + len(queue._waiting) == len(calls)
    assert all(type(user_id) is str and 0 < len(user_id) <= 1000 for user_id in queue._waiting)


def test_hook_does_not_raise_if_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(updates._thread, "start_new_thread", refuse)
        on_session_complete("u1", "s1")
    on_session_complete("u2", "s2")
    wait_for(theta_client._updates, failed=2)


def test_hook_may_be_called_by_a_signal_handler_during_a_call() -> None:
    with theta_client._updates._changed:  # as if a call had been interrupted
        on_session_complete("u1", "s1")
    wait_for(theta_client._updates, failed=1)


def test_calls_of_the_hook_take_at_most_a_millisecond_while_the_api_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call takes some microseconds and is slow only if its thread loses its core.

    This happens to fewer than one call in a hundred, even on a busy machine. In most calls the queue is full; every
    fifth learner waits.
    """
    taken = []
    with fake_api(hangs) as server:
        monkeypatch.setenv("IRT_THETA_URL", server.url)
        for number in range(10_000):
            began = time.perf_counter()
            on_session_complete(f"u{number}", "s1")
            taken.append(time.perf_counter() - began)
    assert quantiles(taken, n=100)[98] <= patient(MILLISECOND)
    assert counters()["dropped"] >= 10_000 - MAX_WAITING - 2


def test_first_call_of_the_hook_does_not_wait_for_its_thread() -> None:
    """While four threads compute, a new thread starts after about 20 ms, and the caller must not wait for it."""
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            sum(range(1000))

    busy = [threading.Thread(target=compute) for _ in range(4)]
    for thread in busy:
        thread.start()
    taken, queues = [], []
    for _ in range(11):
        theta_client._forget_the_parent()
        queues.append(theta_client._updates)
        began = time.perf_counter()
        on_session_complete("u1", "s1")
        taken.append(time.perf_counter() - began)
    over.set()
    for thread in busy:
        thread.join()
    for queue in queues:  # otherwise a thread that starts late sends to the API of the next test
        wait_for(queue, failed=1)
    assert median(taken) <= patient(MILLISECOND)


# --- processes

PREAMBLE = """
import os, sys, time, threading
from services.theta_client import counters, on_session_complete as hook
def wait_for(name, value):
    while counters()[name] < value: time.sleep(0.001)
"""


UNHURRIED = """
import services.theta_client
from services.theta_client import api
api.SECONDS = services.theta_client.SECONDS_AT_EXIT = 60
"""
"""For a process whose updates succeed, however busy the machine is."""


def run(program: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run the program in its own process, like the exam service."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value) if value is not None else patch.delenv(name)
        command = [sys.executable, "-W", "error", "-c", PREAMBLE + program]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=patient(60))


def test_waiting_learners_are_sent_when_the_process_ends() -> None:
    with fake_api(theta) as server:
        done = run(f"{UNHURRIED}for n in range(10): hook(f'u{{n}}', 's')", IRT_THETA_URL=server.url)
    assert server.learners() == [f"u{number}" for number in range(10)]
    assert done.stderr == ""


@pytest.mark.parametrize("behave", [hangs, trickles(b"HTTP/1.1 "), floods, says(500)])
def test_process_ends_soon_even_if_the_api_misbehaves(behave: Any) -> None:
    """The hook takes 0.6 s at most. The interpreter ends within hundredths of a second, or tenths on a busy machine."""
    with fake_api(behave) as server:
        program = "for n in range(3000): hook(f'u{n}', 's')\nprint(time.monotonic())"
        done = run(program, IRT_THETA_URL=server.url)
        took = time.monotonic() - float(done.stdout)  # processes share the machine's monotonic clock
    assert took < patient(2)
    assert "Fatal" not in done.stderr
    assert "Traceback" not in done.stderr


def test_no_request_is_sent_after_the_exit_handler_has_run() -> None:
    program = """
import atexit
from services import theta_client
hook('u1', 's1')
wait_for('sent', 1)
theta_client._finish()
theta_client.SECONDS_AT_EXIT = 0.1
hook('u2', 's2')
print(counters())
"""
    with fake_api(theta) as server:
        done = run(UNHURRIED + program, IRT_THETA_URL=server.url)
    assert done.stdout == "{'sent': 1, 'failed': 0, 'dropped': 1, 'merged': 0}\n"
    assert server.learners() == ["u1"]


def test_a_forked_child_has_its_own_worker() -> None:
    """The fork happens while a thread of the parent holds the lock and a learner waits, whom the parent sends."""
    program = """
from services import theta_client
hook('parent', 's')
wait_for('sent', 1)
held, forked = threading.Event(), threading.Event()
def hold():
    with theta_client._updates._changed:
        theta_client._updates._waiting['waits'] = None
        held.set()
        forked.wait()
holder = threading.Thread(target=hold)
holder.start()
held.wait()
child = os.fork()
if not child:
    hook('child', 's')
    wait_for('sent', 1)
    print('child', counters(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
forked.set()
holder.join()
hook('again', 's')
wait_for('sent', 3)
print('parent', counters())
"""
    with fake_api(theta) as server:
        done = run(UNHURRIED + program, IRT_THETA_URL=server.url)
    assert done.stdout == (
        "child {'sent': 1, 'failed': 0, 'dropped': 0, 'merged': 0}\n"
        "parent {'sent': 3, 'failed': 0, 'dropped': 0, 'merged': 0}\n"
    )
    assert server.learners() == ["parent", "child", "waits", "again"]


# --- the next item of an adaptive test

NEXT = {"session_id": "s/1", "item_id": "q7", "position": 2, "stop": None}


def test_program_of_the_page_waits_after_a_refusal_and_sends_all_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    page = fenced_blocks((ROOT / "docs/how-to/adaptive-sessions.md").read_text("utf-8"))
    [program] = [block for language, block in page if language == "python"]
    sent, pauses = [], []
    replies = iter([{"item_id": "q1", "stop": None}, NextItemFailed("busy", 1.0), {"item_id": None, "stop": "max-se"}])

    def reply(*arguments: Any) -> dict[str, Any]:
        sent.append(len(arguments[3]))
        if isinstance(found := next(replies), Exception):
            raise found
        return found

    client = SimpleNamespace(next_item=reply, NextItemFailed=NextItemFailed)
    monkeypatch.setitem(sys.modules, "irt_theta_client", client)
    monkeypatch.setattr(time, "sleep", pauses.append)
    exec(program, {"ask": lambda item: item == "q1"})
    assert (sent, pauses) == ([0, 1, 1], [1.0])


def test_next_item_sends_the_answers_and_returns_the_item(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_api(says(200, json.dumps(NEXT).encode())) as server:
        monkeypatch.setenv("IRT_THETA_URL", server.url)
        assert next_item("place/ment ü", "ann", "s/1", [{"item_id": "q1", "correct": True}]) == NEXT
    head, _, body = server.requests[0].decode().partition("\r\n\r\n")
    assert head.startswith("POST /api/seedtest/tests/place%2Fment%20%C3%BC/next-item HTTP/1.1\r\n")
    assert json.loads(body) == {
        "user_id": "ann",
        "session_id": "s/1",
        "answers": [{"item_id": "q1", "correct": True}],
    }


@pytest.mark.parametrize(
    ("behave", "pause", "reason"),
    [
        (says(503, b'{"detail": "too many"}', "Retry-After: 3"), 3.0, "too many"),
        (says(500), 1.0, "500"),
        (says(404, b'{"detail": "no such test"}'), 0.0, "no such test"),
        (says(200, b"hello"), 0.0, "not the θ API"),
        (says(200, json.dumps(NEXT | {"session_id": "s2"}).encode()), 0.0, "not the θ API"),
        (sends(b"nonsense\r\n\r\n"), 1.0, "127.0.0.1"),
    ],
)
def test_next_item_fails_with_reason_and_pause(
    behave: Any, pause: float, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_api(behave) as server:
        monkeypatch.setenv("IRT_THETA_URL", server.url)
        with pytest.raises(NextItemFailed, match=reason) as raised:
            next_item("placement", "ann", "s/1")
    assert raised.value.pause == pause


# --- the installed package


@pytest.mark.ci
def test_the_wheel_has_no_dependencies_and_runs_the_documented_module(tmp_path: Path) -> None:
    """Installs the wheel alone and runs the module of docs/how-to/session-hook.md."""
    source, environment = tmp_path / "source", tmp_path / "venv"
    left_out = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    shutil.copytree(ROOT / "services" / "theta_client", source, ignore=left_out)
    python = environment / "bin" / "python"
    for command in (
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source],
        [sys.executable, "-m", "venv", "--without-pip", environment],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    wheel = next(tmp_path.glob("irt_theta_client-*-py3-none-any.whl"))
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-index", "--python", python]
    subprocess.run([*install, wheel], check=True)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    files = ("__init__.py", "api.py", "attempts.py", "next_item.py", "spool.py", "updates.py", "py.typed")
    modules = {f"irt_theta_client/{name}" for name in files}
    assert {name for name in names if ".dist-info/" not in name} == modules
    assert missing_sentences(metadata, "Requires-Python: >=3.9", "Requires-Dist") == ["Requires-Dist"]

    module = tmp_path / "exam" / "apps" / "seedtest_api" / "services" / "session_hooks.py"
    module.parent.mkdir(parents=True)
    page = (ROOT / "docs" / "how-to" / "session-hook.md").read_text("utf-8")
    module.write_text(page.partition("```python\n")[2].partition("```")[0], "utf-8")
    program = """
import sys, time
from apps.seedtest_api.services.session_hooks import counters, on_session_complete
on_session_complete('u1', 's1')
while not counters()['sent']: time.sleep(0.001)
assert sys.modules['irt_theta_client'].__file__.startswith(sys.prefix)
"""
    with fake_api(theta) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("IRT_THETA_URL", server.url)
        subprocess.run([python, "-W", "error", "-c", program], cwd=tmp_path / "exam", check=True, timeout=patient(60))
    assert server.learners() == ["u1"]

"""The listening socket, which outlives its server. The tests act as systemd and start small servers."""

from __future__ import annotations

import array
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testbed.machine import free_port
from tests.testbed.patience import patient

ROOT = Path(__file__).parents[2]
GIVEN_UP_S = patient(30.0)
SERVER = """
import os, sys, time
if sys.argv[2:]:  # what systemd does for a process that it starts
    os.dup2(int(sys.argv[2]), 3)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    sys.orig_argv.pop()
from resources.failures import PermanentFailure
from resources.serving.service import serve_http
BEGAN = str(time.monotonic()).encode()
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": BEGAN})
try:
    serve_http(app, host="127.0.0.1", port=int(sys.argv[1]), lifespan="off")
except PermanentFailure as failure:
    sys.exit(str(failure))
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(GIVEN_UP_S)
        yield notified


@contextmanager
def server(port: int, manager: socket.socket, kept: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a server. `kept`: a descriptor of a socket, passed to the server as systemd passes it."""
    passed = [] if kept is None else [kept]
    command = [sys.executable, "-c", SERVER, str(port), *map(str, passed)]
    environment = {**os.environ, "NOTIFY_SOCKET": manager.getsockname()}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=passed, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def receive_descriptors(manager: socket.socket) -> tuple[list[str], list[int]]:
    """Receive a message to systemd. Returns its lines and the descriptors sent with it."""
    message, passed, _, _ = manager.recvmsg(4096, socket.CMSG_SPACE(4))
    descriptors = array.array("i", b"".join(data for _, _, data in passed))
    return message.decode().split("\n"), list(descriptors)


def answer(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=GIVEN_UP_S) as answered:
        return str(answered.read().decode())


@pytest.fixture
def kept_socket(manager: socket.socket) -> Iterator[tuple[int, int]]:
    """Return descriptor and port of a socket whose server has been killed."""
    port = free_port()
    with server(port, manager):
        message, (descriptor,) = receive_descriptors(manager)
        assert message == ["FDSTORE=1", "FDNAME=requests"]
        assert answer(port)
    yield descriptor, port
    os.close(descriptor)


def test_request_sent_while_no_server_runs_is_answered_by_the_next_server(
    kept_socket: tuple[int, int], manager: socket.socket
) -> None:
    descriptor, port = kept_socket
    with socket.create_connection(("127.0.0.1", port), GIVEN_UP_S) as early:
        early.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        with server(port, manager, descriptor):
            assert early.recv(4096).startswith(b"HTTP/1.1 200")


def test_server_opens_a_new_socket_if_the_port_of_the_stored_socket_differs(
    kept_socket: tuple[int, int], manager: socket.socket
) -> None:
    descriptor, _ = kept_socket
    other = free_port()
    with server(other, manager, descriptor):
        assert receive_descriptors(manager) == (["FDSTOREREMOVE=1", "FDNAME=requests"], [])
        message, (opened,) = receive_descriptors(manager)
        assert message == ["FDSTORE=1", "FDNAME=requests"]
        assert answer(other)
        os.close(opened)


def test_requests_are_answered_during_reloads(manager: socket.socket) -> None:
    port = free_port()
    with server(port, manager) as process:
        _, (descriptor,) = receive_descriptors(manager)
        os.close(descriptor)  # the server has its own copy
        first = answer(port)
        process.send_signal(signal.SIGHUP)
        until = time.monotonic() + GIVEN_UP_S
        while (latest := answer(port)) == first:  # raises if a request is refused
            assert time.monotonic() < until
        process.send_signal(signal.SIGHUP)  # a second reload
        while answer(port) == latest:
            assert time.monotonic() < until
        assert process.poll() is None


def test_error_names_a_port_that_is_in_use(manager: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with server(port, manager) as process:
            _, message = process.communicate(timeout=GIVEN_UP_S)
    assert process.returncode == 1
    assert f"127.0.0.1, port {port}" in message
    assert "Traceback" not in message

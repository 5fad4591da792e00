"""A server that replaces the θ API and can misbehave as a test requires."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TLS_HANDSHAKE = b"\x16"
Behaviour = Callable[[socket.socket, bytes, threading.Event], None]
"""Responds to a request on its connection; the event is set at the end of the test."""


class FakeApi:
    """Listens on a free port; `requests` contains the requests it received."""

    def __init__(self, behave: Behaviour) -> None:
        self.requests: list[bytes] = []
        self.over = threading.Event()
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def learners(self) -> list[str]:
        """Learner ids of the requests, in their order."""
        return [json.loads(request.partition(b"\r\n\r\n")[2])["user_id"] for request in self.requests]

    def stop(self) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                request = _read_request(connection)
                self.requests.append(request)
                self._behave(connection, request, self.over)
            except OSError:
                pass  # the client has gone


@contextmanager
def fake_api(behave: Behaviour) -> Iterator[FakeApi]:
    api = FakeApi(behave)
    try:
        yield api
    finally:
        api.stop()


def theta(connection: socket.socket, request: bytes, over: threading.Event) -> None:
    """Responds as the θ API does."""
    user_id = json.loads(request.partition(b"\r\n\r\n")[2])["user_id"]
    says(200, json.dumps({"user_id": user_id, "theta": 0.85, "se": 0.12}).encode())(connection, request, over)


def says(status: int, body: bytes = b"", *headers: str) -> Behaviour:
    """Sends the same response to each request."""
    head = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers, "", ""]
    return sends("\r\n".join(head).encode() + body)


def sends(raw: bytes) -> Behaviour:
    def behave(connection: socket.socket, request: bytes, over: threading.Event) -> None:
        connection.sendall(raw)

    return behave


def hangs(connection: socket.socket, request: bytes, over: threading.Event) -> None:
    """Accepts the request and never answers."""
    over.wait()


def trickles(raw: bytes) -> Behaviour:
    """Sends `raw`, then one byte every 50 ms, so that no single read waits for long."""

    def behave(connection: socket.socket, request: bytes, over: threading.Event) -> None:
        connection.sendall(raw)
        while not over.wait(0.05):
            connection.sendall(b"x")

    return behave


def floods(connection: socket.socket, request: bytes, over: threading.Event) -> None:
    """Sends as fast as it can, without end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"x" * 65536)


def _read_request(connection: socket.socket) -> bytes:
    """Head and body of one request, or the first bytes of a TLS handshake."""
    received, missing = b"", 1
    while missing > 0:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("the client has gone before its request was whole")
        received += piece
        if received.startswith(TLS_HANDSHAKE):
            break
        head, end, body = received.partition(b"\r\n\r\n")
        if end:
            lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            missing = int(lengths[0]) - len(body)
    return received

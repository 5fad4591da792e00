"""A server that sends given responses and records the requests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class ReceivedRequests:
    """Received requests: path, token and body; `times` by time.monotonic."""

    url: str
    paths: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


@contextmanager
def answering(*answers: tuple[int, Any] | Callable[[BaseHTTPRequestHandler], None]) -> Iterator[ReceivedRequests]:
    """Yields the requests of a server that sends these responses in turn and then repeats the last response.

    A body that is not text is sent as JSON.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.paths.append(self.path)
            seen.tokens.append(self.headers["Authorization"])
            seen.bodies.append(json.loads(body))
            seen.times.append(time.monotonic())
            answer = answers[min(len(seen.paths), len(answers)) - 1]
            if callable(answer):
                answer(self)
                return
            status, content = answer
            text = content if isinstance(content, str) else json.dumps(content)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/login")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen = ReceivedRequests(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

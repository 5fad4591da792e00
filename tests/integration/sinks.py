"""An HTTP server and an SMTP server that accept and record every message, on free ports of this machine."""

from __future__ import annotations

import email
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class HttpSink:
    """Answers every POST with `status`, after waiting for `gate`."""

    status: int = 200
    received: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, body in self.received]


@contextmanager
def http_sink() -> Iterator[HttpSink]:
    sink = HttpSink()
    sink.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sink.received.append((self.path, json.loads(body)))
            sink.gate.wait(30)
            self.send_response(sink.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:
            """Ignore errors: tests include clients that give up waiting."""

    server = Server(("127.0.0.1", 0), Handler)
    sink.port = server.server_address[1]
    with serving(server):
        try:
            yield sink
        finally:
            sink.gate.set()


@dataclass
class SmtpSink:
    """Accepts every mail, or refuses it if `refuse` is set."""

    refuse: bool = False
    received: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    port: int = 0


@contextmanager
def smtp_sink() -> Iterator[SmtpSink]:
    sink = SmtpSink()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 sink")
            to: list[str] = []
            while line := self.rfile.readline().decode().strip():
                verb = line.split()[0].split(":")[0].upper()
                if verb == "RCPT":
                    to.append(line.partition("<")[2].partition(">")[0])
                if verb == "DATA":
                    self.say("354 go on")
                    lines = []
                    while (part := self.rfile.readline()) != b".\r\n":
                        if not part:
                            return  # the sender has gone before the end
                        lines.append(part)
                    sink.received.append(email.message_from_bytes(b"".join(lines), EmailMessage, policy=default))
                    sink.recipients.append(to)
                    to = []
                if verb == "QUIT":
                    self.say("221 bye")
                    return
                self.say("554 no" if verb == "MAIL" and sink.refuse else "250 ok")

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    sink.port = server.server_address[1]
    with serving(server):
        yield sink


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """Run the server in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""nginx with our configuration, as a child process on free ports, and the clients and servers around it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.testbed.machine import free_port
from tests.testbed.patience import patient

ROOT = Path(__file__).parents[2]
NGINX = "/usr/sbin/nginx"
HOST = "irt.example.org"
BEHIND = {"dashboard": 8080, "dagster": 3000, "dagster-view": 3001}
VERIFIER = 9000
MAIN = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {}
http {
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include irt.conf;
}
"""


@dataclass
class ReceivedRequest:
    """A request as received by a server behind nginx."""

    port: int
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given == name]


class Recorder:
    """Records every request and passes it to `app`, or returns it as the response. A WebSocket echoes its text."""

    def __init__(self, app: ASGIApp | None = None) -> None:
        self.app = app
        self.seen: list[ReceivedRequest] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
        query = scope["query_string"].decode()
        seen = ReceivedRequest(scope["server"][1], scope["raw_path"].decode(), query, headers, b"")
        self.seen.append(seen)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        more = True
        while more:
            message = await receive()
            seen.body += message.get("body", b"")
            more = message.get("more_body", False)
        if self.app is not None:
            await self.app(scope, receive, send)
            return
        answer = json.dumps({"path": seen.path, "headers": headers}).encode()
        own = [(b"x-frame-options", b"DENY"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": answer})

    async def _live(self, receive: Receive, send: Send) -> None:
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})


@contextmanager
def serve_in_thread(app: ASGIApp, sockets: list[socket.socket]) -> Iterator[None]:
    """Serve `app` on these sockets, in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="websockets-sansio", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": sockets}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(patient(10))


def listening() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", 0))
    made.listen(64)
    return made


def port_of(made: socket.socket) -> int:
    return made.getsockname()[1]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given.lower() == name.lower()]


@dataclass
class Door:
    """A running nginx and its ports."""

    plain: int
    tls: int
    folder: Path
    behind: Recorder
    ports: dict[str, int]
    asked: Recorder = field(default_factory=Recorder)

    def connect(self, name: str = HOST, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.folder / "irt.crt"))
        context.set_ciphers("DEFAULT@SECLEVEL=0")  # so that nginx and not the client refuses
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = newest
        raw = socket.create_connection(("127.0.0.1", self.tls), timeout=30)
        try:
            return context.wrap_socket(raw, server_hostname=name)
        except BaseException:
            raw.close()
            raise

    def ask(
        self,
        path: str,
        headers: list[tuple[str, str]] | None = None,
        method: str = "GET",
        body: bytes = b"",
        name: str = HOST,
    ) -> Reply:
        """Send a request over TLS, with the headers unchanged."""
        connection = http.client.HTTPConnection("127.0.0.1", self.tls)
        connection.sock = self.connect()
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for given, value in [("Host", f"{name}:{self.tls}"), *(headers or [])]:
                connection.putheader(given, value.encode("utf-8"))
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return Reply(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def passed_requests(self) -> list[tuple[str, ReceivedRequest]]:
        """Returns the requests that passed since the last call, each with the name of its server."""
        names = {port: name for name, port in self.ports.items()}
        passed, self.behind.seen = self.behind.seen, []
        return [(names[seen.port], seen) for seen in passed]


@contextmanager
def open_door(
    folder: Path, verifier: int, behind: Recorder, *, limit: str = "50r/s", **patience: str
) -> Iterator[Door]:
    """Yields nginx in front of three servers, for all of which `behind` responds.

    `limit`: requests per second. `patience`: other timeouts.
    """
    sockets = {name: listening() for name in BEHIND}
    ports = {name: port_of(made) for name, made in sockets.items()}
    door = Door(free_port(), free_port(), folder, behind, ports)
    configure(folder, door, verifier, limit, patience)
    with serve_in_thread(behind, [*sockets.values()]), (folder / "stderr").open("wb") as told_by_nginx:
        child = subprocess.Popen([NGINX, "-p", folder, "-c", folder / "nginx.conf"], stderr=told_by_nginx)
        try:
            _wait_until_open(child, door)
            yield door
        finally:
            child.terminate()
            child.wait(patient(10))


def configure(folder: Path, door: Door, verifier: int, limit: str, patience: dict[str, str]) -> None:
    """Write our configuration with other ports, and a certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "irt.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "irt.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "snippets").mkdir()
    other = {VERIFIER: verifier, **{BEHIND[name]: port for name, port in door.ports.items()}}
    for source, target in (("irt.conf", "irt.conf"), ("jwt_auth_simple.conf", "snippets/jwt_auth_simple.conf")):
        text = (ROOT / "deploy" / "nginx" / source).read_text("utf-8")
        for port, replaced in other.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:@{replaced}")
        text = text.replace(":@", ":").replace("/etc/nginx/tls", str(folder)).replace("50r/s", limit)
        text = re.sub(r"\blisten 80\b", f"listen 127.0.0.1:{door.plain}", text)
        text = re.sub(r"\blisten 443\b", f"listen 127.0.0.1:{door.tls}", text)
        for directive, value in patience.items():
            text = re.sub(rf"\b{directive}( +)10s;", rf"{directive}\g<1>{value};", text)
        (folder / target).write_text(text, "utf-8")
    (folder / "nginx.conf").write_text(MAIN, "utf-8")


def _wait_until_open(child: subprocess.Popen[bytes], door: Door) -> None:
    deadline = time.monotonic() + patient(30)
    while True:
        try:
            socket.create_connection(("127.0.0.1", door.tls), timeout=1).close()
        except OSError:
            errors = (door.folder / "stderr").read_text("utf-8")
            assert child.poll() is None, f"nginx did not start: {errors}"
            assert time.monotonic() < deadline, f"nginx does not listen: {errors}"
            time.sleep(0.02)
        else:
            return


def bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


def user_headers(seen: ReceivedRequest) -> dict[str, Any]:
    """Headers with which nginx tells a server about the user."""
    return {name: seen.header(name) for name in ("x-user", "x-org-id", "x-roles", "x-required-role")}

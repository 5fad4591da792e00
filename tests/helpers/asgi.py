"""Requests to an ASGI application without a server or a network."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Headers
    text: str


def ask(
    app: ASGIApp,
    method: str,
    path: str,
    headers: list[tuple[str, str]] | dict[str, str] | None = None,
    query: str = "",
    body: bytes = b"",
) -> Answer:
    """Send a request to `app`, for the host localhost:3000 unless `headers` name another. Returns the response."""
    return _run(app, {"type": "http", "method": method, "query_string": query.encode()}, path, headers or {}, body)


def open_socket(app: ASGIApp, path: str, headers: list[tuple[str, str]] | dict[str, str] | None = None) -> Answer:
    """Request a WebSocket of `app`. Returns status 101 if it is accepted, and 403 if it is closed before that."""
    return _run(app, {"type": "websocket", "query_string": b""}, path, headers or {})


async def echo(scope: Scope, _receive: Receive, send: Send) -> None:
    """An application that accepts everything."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the page"})


def _run(
    app: ASGIApp, scope: Scope, path: str, headers: list[tuple[str, str]] | dict[str, str], body: bytes = b""
) -> Answer:
    pairs = [*headers.items()] if isinstance(headers, dict) else headers
    if "host" not in {name.lower() for name, _ in pairs}:
        pairs = [("host", "localhost:3000"), *pairs]
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    incoming: list[Message] = [{"type": "http.request", "body": body}]

    async def receive() -> Message:
        if not incoming:
            await asyncio.Event().wait()  # the client stays connected
        return incoming.pop()

    raw = [(name.lower().encode(), value.encode()) for name, value in pairs]
    asyncio.run(app({"path": path, "headers": raw, "root_path": "", **scope}, receive, send))
    first: dict[str, Any] = dict(sent[0])
    statuses = {"websocket.accept": 101, "websocket.close": 403}
    status = first["status"] if first["type"] == "http.response.start" else statuses[first["type"]]
    text = b"".join(message.get("body", b"") for message in sent).decode()
    return Answer(status, Headers(raw=[*first.get("headers", ())]), text)

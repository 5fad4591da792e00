"""Connections on which no whole request comes are closed; all others are left alone."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import ExitStack

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from resources.serving import service
from resources.serving.listening import listening
from tests.testbed.patience import patient

LIMIT_S = 0.3
PROMISED = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1234"
WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
PARTS = (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", PROMISED, WHOLE + b"GET / HT")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/slow":
        await asyncio.sleep(2 * LIMIT_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_a_connection_without_a_whole_request_is_closed(http: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "REQUEST_S", LIMIT_S)
    listener = listening("127.0.0.1", 0)
    config = uvicorn.Config(app, http=http, log_config=None, lifespan="off", timeout_keep_alive=60)
    server = service.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener.dup()]})
    try:
        with ExitStack() as open_ones:
            slow, *half_open = [
                open_ones.enter_context(socket.create_connection(listener.getsockname(), timeout=patient(10)))
                for _ in range(1 + len(PARTS))
            ]
            for asker, sent in zip((slow, *half_open), (SLOW, *PARTS), strict=True):
                asker.sendall(sent)
            began = time.monotonic()
            thread.start()  # now, as a test that pauses between two of these lines would pass for a slow asker
            for asker in half_open:
                while asker.recv(4096):
                    pass
                assert time.monotonic() - began >= LIMIT_S
            assert slow.recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        server.should_exit = True
        if thread.ident is not None:
            thread.join()
        listener.close()

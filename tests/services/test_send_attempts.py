"""What the client's `send_attempts` sends, returns and raises, against a server that is not ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from services.theta_client import AttemptsNotSent, send_attempts
from services.theta_client.api import read_address

pytestmark = pytest.mark.xdist_group("send attempts")


class Server(HTTPServer):
    status, retry_after, received = 200, "3", [[]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        assert self.path == "/behind/api/seedtest/attempts"
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append(rows)
        results = [{"result": "accepted", "attempt_id": row["attempt_id"]} for row in rows]
        content = {"attempts": results} if self.server.status == 200 else {"detail": "not now"}
        body = json.dumps(content).encode()
        self.send_response(self.server.status)
        self.send_header("Retry-After", self.server.retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    read_address.cache_clear()
    with Server(("127.0.0.1", 0), Handler) as made:
        made.received = []
        monkeypatch.setenv("IRT_THETA_URL", f"http://127.0.0.1:{made.server_address[1]}/behind")
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()
    read_address.cache_clear()


def test_rows_without_an_id_get_one_that_stays_when_they_are_sent_again(server: Server) -> None:
    rows: list[dict[str, Any]] = [{"user_id": "u"}, {"user_id": "u", "attempt_id": "mine"}]
    first, again = send_attempts(rows), send_attempts(rows)
    assert first == again
    assert first[1]["attempt_id"] == "mine"
    assert server.received[0] == server.received[1] == rows


def test_many_rows_go_in_parts_that_the_api_takes(server: Server) -> None:
    assert len(send_attempts([{"user_id": "u"} for _ in range(2500)])) == 2500
    assert [len(rows) for rows in server.received] == [1000, 1000, 500]
    send_attempts([{"user_id": "u" * 40_000} for _ in range(100)])
    assert all(len(json.dumps(rows)) <= 2**21 for rows in server.received)


def test_a_refusal_says_whether_to_send_again_and_when(server: Server) -> None:
    server.status = 503
    with pytest.raises(AttemptsNotSent, match="not now") as busy:
        send_attempts([{"user_id": "u"}])
    assert (busy.value.again, busy.value.pause) == (True, 3.0)
    server.status = 403
    with pytest.raises(AttemptsNotSent) as refused:
        send_attempts([{"user_id": "u"}])
    assert not refused.value.again


def test_a_server_that_is_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    read_address.cache_clear()
    monkeypatch.setenv("IRT_THETA_URL", "http://127.0.0.1:9")
    with pytest.raises(AttemptsNotSent) as away:
        send_attempts([{"user_id": "u"}])
    assert away.value.again
    read_address.cache_clear()

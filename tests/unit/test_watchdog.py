"""The request to an external monitor after a good night."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from resources.alerts import watchdog
from resources.alerts.watchdog import request_watchdog
from resources.settings import Settings


@contextmanager
def monitor(*statuses: int) -> Iterator[tuple[str, list[str]]]:
    """Run a server that responds with these statuses in turn, then always with the last. Yields URL and requested
    paths."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[min(len(paths), len(statuses) - 1)])
            paths.append(self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/ping/very-secret", paths
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "PAUSE_S", 0)


def test_monitor_is_not_requested_without_the_setting() -> None:
    assert not request_watchdog(Settings(_env_file=None))


@pytest.mark.parametrize(
    ("statuses", "accepted", "requests"), [((200,), True, 1), ((502, 200), True, 2), ((404,), False, 3)]
)
def test_request_is_repeated_until_accepted_and_failures_do_not_log_the_secret(
    statuses: tuple[int, ...], accepted: bool, requests: int, caplog: pytest.LogCaptureFixture
) -> None:
    with monitor(*statuses) as (url, paths):
        assert request_watchdog(Settings(_env_file=None, irt_watchdog_url=SecretStr(url))) is accepted
    assert paths == ["/ping/very-secret"] * requests
    assert ("404" in caplog.text) is not accepted
    assert "secret" not in caplog.text


def test_invalid_address_of_the_monitor_is_logged_and_raises_no_error(caplog: pytest.LogCaptureFixture) -> None:
    assert not request_watchdog(Settings(_env_file=None, irt_watchdog_url=SecretStr("very-secret")))
    assert "IRT_WATCHDOG_URL did not accept the request: MissingSchema" in caplog.text
    assert "secret" not in caplog.text

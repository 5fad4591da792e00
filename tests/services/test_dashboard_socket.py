"""A decision whose WebSocket is lost is recorded once or not at all, and a reload of the page shows which."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html import unescape
from typing import Any

import dagster as dg
import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from irt_assets.common.dashboard_pages import address
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard import decisions as decision_pages
from services.dashboard.login import DEMO
from services.dashboard.server import build_app
from tests.helpers.door import listening, port_of, serve_in_thread
from tests.helpers.waiting_decision import FEB, MOVED, bank, decisions
from tests.services.test_dashboard_decisions import ReaderAtTime

__all__ = ["bank"]  # a fixture
PAGE = address("proposal", proposal=str(MOVED))
WAIT_S = 60.0
ADDRESS = {".clientdata_url_search": "?view=nothing"}
INIT = {"method": "init", "data": ADDRESS}
UNEXPECTED = {
    "no JSON": ["reject"],
    "no object": ["[]"],
    "binary": [b"\x00\xff"],
    "binary JSON": [json.dumps(INIT).encode()],
    "nested": ["[" * 100_000],
    "without a method": ["{}"],
    "unknown method": [json.dumps(INIT | {"method": "exit"})],
    "method is a list": [json.dumps(INIT | {"method": ["init"]})],
    "data is a list": [json.dumps(INIT | {"data": []})],
    "without data": [json.dumps({"method": "init"})],
    "without an address": [json.dumps(INIT | {"data": {}})],
    "update first": [json.dumps({"method": "update", "data": {}})],
    "init twice": [json.dumps(INIT)] * 2,
    "upload": [json.dumps(INIT), json.dumps({"method": "uploadInit", "tag": {}, "args": 7})],
    "two colons": [json.dumps({"method": "init", "data": ADDRESS | {"a:b:c": 1}})],
    "date in pieces": [json.dumps({"method": "init", "data": ADDRESS | {"since:shiny.date": []}})],
    "click is a text": [json.dumps(INIT), json.dumps({"method": "update", "data": {"reject:shiny.action": "x"}})],
    "half a character": [json.dumps({"method": "init", "data": ADDRESS | {"reason": "\ud800"}})],
    "digits": [json.dumps(INIT)[:-2] + f', "reason": {"9" * 5000}' + "}}"],
}


@pytest.fixture
def port(settings: Settings, bank: Database, store: FolderStore) -> Iterator[int]:
    own = listening()
    with (
        dg.DagsterInstance.ephemeral() as instance,
        serve_in_thread(build_app(ReaderAtTime(settings, instance), None, settings), [own]),
    ):
        yield port_of(own)


@contextmanager
def open_page(port: int) -> Iterator[ClientConnection]:
    """Yields the page's WebSocket with a reason typed in, as in a browser."""
    with connect(f"ws://localhost:{port}/websocket/") as made:
        shown = {".clientdata_url_search": PAGE, ".clientdata_output_decision_hidden": False}
        send(made, "init", **shown, reason="too few answers", **{"reject:shiny.action": 0})
        yield made


def send(connection: ClientConnection, method: str = "update", **data: Any) -> None:
    connection.send(json.dumps({"method": method, "data": data}))


def click(connection: ClientConnection, button: str) -> None:
    send(connection, **{f"{button}:shiny.action": 1})


def wait_for(connection: ClientConnection, text: str) -> None:
    while text not in str(connection.recv(timeout=WAIT_S)):
        pass


def page(port: int) -> str:
    answer = requests.get(f"http://localhost:{port}/{PAGE}", timeout=WAIT_S)
    assert answer.status_code == 200
    return unescape(answer.text)


def test_a_confirmed_decision_is_recorded_once_if_the_connection_is_lost(
    port: int, bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, lost, done = threading.Event(), threading.Event(), threading.Event()
    reject = decision_pages.release.reject

    def slow(*args: Any, **options: Any) -> Any:
        started.set()
        assert lost.wait(WAIT_S)
        try:
            return reject(*args, **options)
        finally:
            done.set()

    monkeypatch.setattr(decision_pages.release, "reject", slow)
    with open_page(port) as connection:
        click(connection, "reject")
        wait_for(connection, "This will happen")
        click(connection, "confirm")
        assert started.wait(WAIT_S)
        connection.socket.shutdown(socket.SHUT_RDWR)
    assert decisions(bank) == []
    lost.set()
    assert done.wait(WAIT_S)
    assert decisions(bank) == [(FEB, "moved", "reject", DEMO.sub, "too few answers", None)]
    assert f"rejected by {DEMO.sub}" in page(port)
    with open_page(port) as connection:
        click(connection, "reject")
        wait_for(connection, "nothing was decided")
    assert len(decisions(bank)) == 1


def test_an_unconfirmed_decision_is_not_recorded_by_a_later_connection(port: int, bank: Database) -> None:
    with open_page(port) as connection:
        click(connection, "reject")
        wait_for(connection, "This will happen")
        connection.socket.shutdown(socket.SHUT_RDWR)
    with open_page(port) as connection:
        click(connection, "confirm")
        click(connection, "reject")
        wait_for(connection, "This will happen")
    assert decisions(bank) == []
    assert "rejected by" not in page(port)


def test_message_that_no_page_sends_closes_its_own_connection_without_a_traceback(
    port: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with connect(f"ws://localhost:{port}/websocket/") as page_of_another:
        send(page_of_another, "init", **ADDRESS)
        for name, messages in UNEXPECTED.items():
            caplog.clear()
            with connect(f"ws://localhost:{port}/websocket/") as connection:
                with suppress(ConnectionClosed):
                    for message in messages:
                        connection.send(message)
                    while True:
                        connection.recv(timeout=WAIT_S)
                assert connection.protocol.close_code == 1007, name
            tracebacks = [record.exc_info for record in caplog.records if record.name == "services.dashboard"]
            assert tracebacks == [None], name
        assert page_of_another.ping().wait(WAIT_S)
    assert not {"Traceback", "SessionWarning"} & set(re.findall(r"\w+", "".join(capfd.readouterr())))

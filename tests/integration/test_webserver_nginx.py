"""Both pages behind the door: nginx, the verifier, our layers, and Dagster's own application."""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from resources.settings import Settings
from services.jwt_verifier.app import build_app
from services.jwt_verifier.tokens import build_verifier
from tests.helpers.door import (
    HOST,
    NGINX,
    Door,
    Recorder,
    Reply,
    bearer,
    listening,
    open_door,
    port_of,
    serve_in_thread,
)
from tests.integration.dagster_page import GO, PAUSED, instance, serve_page as page, settings
from tests.testbed.issuer import ORGANISATION, Issuer

__all__ = ["instance", "settings"]  # fixtures
pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("nginx")]


class Pages(Recorder):
    """Applications by port: each server behind nginx has its own."""

    by_port: dict[int, ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        await self.by_port[scope["server"][1]](scope, receive, send)


@pytest.fixture(scope="module")
def door(
    instance: DagsterInstance,
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
    require: Callable[[bool, str], None],
) -> Iterator[Door]:
    require(os.access(NGINX, os.X_OK), "nginx")
    folder: Path = tmp_path_factory.mktemp("nginx")
    login = Issuer().settings(folder)
    verifier = build_app(build_verifier(settings.model_copy(update=login)), settings.jwt_cookie_name)
    pages, own = Pages(), listening()
    with (
        page(settings, irt_ui_url=f"https://{HOST}/dagster", **login) as full,
        page(settings, irt_ui_url=f"https://{HOST}/dagster-view", read_only=True, **login) as view,
        serve_in_thread(verifier, [own]),
        open_door(folder, port_of(own), pages, limit="9999r/s") as made,
    ):
        pages.by_port = {made.ports["dagster"]: full, made.ports["dagster-view"]: view}
        yield made


def cookie(role: str) -> tuple[str, str]:
    return "Cookie", f"__Host-irt={Issuer().token(roles=[role])}"


def post(door: Door, path: str, query: str, *headers: tuple[str, str]) -> Reply:
    body = json.dumps({"query": query}).encode()
    return door.ask(f"{path}graphql", [("Content-Type", "application/json"), *headers], "POST", body)


def open_socket(door: Door, path: str, role: str, origin: str) -> ClientConnection:
    return connect(
        f"wss://{HOST}:{door.tls}{path}graphql",
        sock=socket.create_connection(("127.0.0.1", door.tls), timeout=10),
        ssl=ssl.create_default_context(cafile=str(door.folder / "irt.crt")),
        additional_headers=[cookie(role)],
        origin=Origin(origin),
        subprotocols=[Subprotocol("graphql-ws")],
        proxy=None,
    )


@pytest.mark.parametrize(("path", "role"), [("/dagster/", "analyst"), ("/dagster-view/", "viewer")])
def test_browser_receives_the_page_its_data_and_its_websocket(door: Door, path: str, role: str) -> None:
    shown = door.ask(f"{path}runs", [cookie(role)])
    assert (shown.status, f'"{path}_next/'.encode() in shown.body) == (200, True)
    own = ("Origin", f"https://{HOST}:{door.tls}")
    assert b"autoMaterializePaused" in post(door, path, PAUSED, cookie(role), own).body
    with open_socket(door, path, role, own[1]) as channel:
        channel.send('{"type": "connection_init", "payload": {}}')
        assert json.loads(channel.recv(timeout=10)) == {"type": "connection_ack"}
        channel.send(json.dumps({"type": "start", "id": "1", "payload": {"query": GO}}))
        assert json.loads(channel.recv(timeout=10))["type"] == "error"


@pytest.mark.parametrize("path", ["/dagster/", "/dagster-view/"])
def test_requests_from_a_sibling_domain_are_refused_with_the_same_cookie(door: Door, path: str) -> None:
    sibling = f"https://evil.{HOST}"
    assert post(door, path, GO, cookie("operator"), ("Origin", sibling)).status == 403
    with pytest.raises(InvalidStatus) as refused:
        open_socket(door, path, "operator", sibling)
    assert refused.value.response.status_code == 403


def test_roles_are_enforced_at_each_location_and_by_the_webserver(door: Door) -> None:
    assert door.ask("/dagster/", [cookie("viewer")]).status == 403
    assert post(door, "/dagster/", GO, bearer(Issuer().token(roles=["psychometrician"]))).status == 403
    assert b"errors" not in post(door, "/dagster/", GO, bearer(Issuer().token(roles=["operator"]))).body
    assert b"UnauthorizedError" in post(door, "/dagster-view/", GO, cookie("operator")).body
    assert post(door, "/dagster-view/", GO, cookie("viewer")).status == 403


def test_local_request_past_nginx_is_refused_without_a_token(door: Door) -> None:
    """The request has the headers that nginx would have set."""
    forged = ["X-User: root", f"X-Org-Id: {ORGANISATION}", "X-Roles: operator", 'Irt-Caller: {"name": "root"}']
    with socket.create_connection(("127.0.0.1", door.ports["dagster"]), timeout=10) as made:
        head = ["GET /dagster/ HTTP/1.1", f"Host: {HOST}", *forged, "Connection: close"]
        made.sendall("\r\n".join([*head, "", ""]).encode())
        answer = b"".join(iter(lambda: made.recv(4096), b"")).decode()
    assert answer.startswith("HTTP/1.1 401")
    assert "<html" not in answer

"""The dashboard behind the door: nginx, the verifier, and its pages under a prefix."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from starlette.types import Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from resources.settings import Settings
from services.dashboard import server
from services.dashboard.reader import Reader
from services.jwt_verifier.app import build_app
from services.jwt_verifier.tokens import build_verifier
from tests.helpers.door import HOST, NGINX, Door, Recorder, listening, opened, port_of, served
from tests.services import test_dashboard_login as pages
from tests.testbed.issuer import Issuer

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("nginx")]


class Dashboard(Recorder):
    """Behind nginx, its WebSockets too."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self.app is None:
            await super().__call__(scope, receive, send)
            return
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Iterator[Door]:
    require(os.access(NGINX, os.X_OK), "nginx")
    folder: Path = tmp_path_factory.mktemp("nginx")
    login = Issuer().settings(folder)
    settings = Settings(irt_home=folder, irt_ui_url=f"https://{HOST}/dagster", _env_file=None, **login)
    own = listening()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(server, "VIEWS", pages.VIEWS)
        dashboard = server.build_app(cast(Reader, pages.NoDatabase()), build_verifier(settings), settings)
        verifier = build_app(build_verifier(settings), settings.jwt_cookie_name)
        with (
            served(verifier, [own]),
            opened(folder, port_of(own), Dashboard(dashboard), limit="9999r/s") as made,
        ):
            yield made


def cookie(role: str = "viewer") -> tuple[str, str]:
    return "Cookie", f"__Host-irt={Issuer().token(roles=[role], sub='zoe')}"


def test_a_page_and_every_file_it_names_come_under_the_prefix(door: Door) -> None:
    shown = door.ask("/admin/?view=whoami", [cookie()])
    text = shown.body.decode()
    assert (shown.status, "you are zoe" in text) == (200, True)
    files = re.findall(r'(?:src|href)="([^"?]+\.(?:js|css))"', text)
    assert len(files) > 5
    assert {door.ask(f"/admin/{file}", [cookie()]).status for file in files} == {200}


def test_an_honest_status_passes(door: Door) -> None:
    assert door.ask("/admin/?view=missing", [cookie()]).status == 404
    assert door.ask("/admin/?view=whoami").status == 401


def websocket(door: Door, *headers: tuple[str, str], origin: str) -> ClientConnection:
    return connect(
        f"wss://{HOST}:{door.tls}/admin/websocket/",
        sock=socket.create_connection(("127.0.0.1", door.tls), timeout=10),
        ssl=ssl.create_default_context(cafile=str(door.folder / "irt.crt")),
        additional_headers=[*headers],
        origin=Origin(origin),
        proxy=None,
    )


def test_what_happens_on_a_page_passes_for_those_who_may_see_it(door: Door) -> None:
    origin = f"https://{HOST}:{door.tls}"
    pages.heard.clear()
    with websocket(door, cookie(), origin=origin) as connection:
        first = {".clientdata_url_search": "?view=listens", "word": "through the door"}
        connection.send(json.dumps({"method": "init", "data": first}))
        pages.until_heard(connection, "through the door")
    for headers, elsewhere in (([], origin), ([cookie()], f"https://sibling.{HOST}")):
        with pytest.raises(InvalidStatus), websocket(door, *headers, origin=elsewhere):
            pass

"""Access to the dashboard, and its answers if a page cannot be shown. Needs no browser and no database."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from htmltools import tags
from pydantic import SecretStr
from shiny import Inputs, Outputs, Session, reactive
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from resources.failures import PermanentFailure
from resources.settings import Settings
from services.dashboard import login, server
from services.dashboard.data_access import Reader
from services.dashboard.page import NotFound, Page, View, ViewRequest
from services.jwt_verifier.app import build_app
from services.jwt_verifier.tokens import build_verifier
from tests.helpers.asgi import ask, open_socket
from tests.helpers.door import (
    HOST,
    NGINX,
    Door,
    Recorder,
    listening,
    open_door as opened_page,
    port_of,
    serve_in_thread,
)
from tests.helpers.sentences import refusal
from tests.services import test_dashboard_login as pages
from tests.testbed.issuer import ATTACKS, Attack, Issuer, after
from tests.testbed.patience import patient

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PASSWORD = "the-database-password"


class NoDatabase:
    """A reader without a database."""

    database = None


def failing(error: Exception) -> Callable[[ViewRequest], Page]:
    def page(_asked: ViewRequest) -> Page:
        raise error

    return page


heard: list[str] = []


def listens(_asked: ViewRequest, input: Inputs, _output: Outputs, _session: Session) -> None:  # noqa: A002 - Shiny's name
    @reactive.effect
    def hear() -> None:
        heard.append(str(input.word()))


VIEWS = (
    View("whoami", lambda asked: Page("Who", tags.p(f"you are {asked.identity.sub}"))),
    View("listens", lambda _: Page("Listens", tags.p("say a word")), server=listens),
    View("missing", failing(NotFound("There is no item <A17>: see the bank."))),
    View("refused", failing(PermanentFailure("the month 2026-13 does not exist"))),
    View("slow", failing(psycopg.errors.QueryCanceled("canceling statement"))),
    View("away", failing(psycopg.OperationalError(f"connection failed: {PASSWORD}"))),
    View("fault", failing(RuntimeError(PASSWORD))),
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(server, "VIEWS", VIEWS)
    return Settings(irt_home=tmp_path, _env_file=None, **Issuer().settings(tmp_path))  # type: ignore[call-arg]


@pytest.fixture
def app(settings: Settings) -> ASGIApp:
    return server.build_app(cast(Reader, NoDatabase()), build_verifier(settings), settings)


def bearer(**claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {Issuer().token(**claims)}"}


def test_user_is_taken_from_the_token_and_never_from_headers(app: ASGIApp) -> None:
    forged = {"x-user": "root", "x-roles": "operator", "x-org-id": "acme"}
    assert ask(app, "GET", "/", forged, "view=whoami").status == 401
    shown = ask(app, "GET", "/", forged | bearer(sub="zoe", roles=["viewer"]), "view=whoami")
    assert (shown.status, "you are zoe" in shown.text, "root" in shown.text) == (200, True, False)
    assert shown.headers["cache-control"] == "no-store"


def test_tokens_without_a_role_are_refused(app: ASGIApp) -> None:
    assert ask(app, "GET", "/", bearer(roles=[]), "view=whoami").status == 403
    assert ask(app, "GET", "/download", bearer(roles=[]), "what=bank").status == 403


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_attacks_on_tokens_are_refused(app: ASGIApp, attack: Attack) -> None:
    token = attack.make(Issuer())
    sent = [("authorization", f"Bearer {token}")]
    assert ask(app, "GET", "/", sent, "view=whoami").status == attack.status
    assert open_socket(app, "/websocket/", sent).status == 403


def test_requests_with_a_foreign_host_or_origin_are_refused(app: ASGIApp) -> None:
    assert ask(app, "GET", "/", bearer() | {"host": "evil.example"}, "view=whoami").status == 403
    origin = {"origin": "http://sibling.localhost:3000"}
    assert open_socket(app, "/websocket/", bearer() | origin).status == 403


@pytest.mark.parametrize("host", ["localhost", "10.1.2.3:8080", "[fd00::7]:8080"])
def test_probes_need_no_token_and_work_with_any_host(app: ASGIApp, host: str) -> None:
    named = {"host": host}
    assert json.loads(ask(app, "GET", "/health", named).text) == {"status": "ok"}
    assert json.loads(ask(app, "GET", "/ready", named).text) == {"status": "ready"}
    assert "process_start_time_seconds" in ask(app, "GET", "/metrics", named).text


@pytest.mark.parametrize(
    ("view", "status", "message"),
    [
        ("missing", 404, "There is no item &lt;A17&gt;: see the bank."),
        ("nonsense", 404, "There is no view"),
        ("<script>", 404, "&lt;script&gt;"),
        ("refused", 422, "the month 2026-13 does not exist"),
        ("slow", 503, "took too long"),
        ("away", 503, "Try again in a minute"),
        ("fault", 500, "a fault of the dashboard"),
    ],
)
def test_failing_pages_state_the_reason_without_secrets(app: ASGIApp, view: str, status: int, message: str) -> None:
    answer = ask(app, "GET", "/", bearer(), f"view={view}")
    assert (answer.status, message in answer.text, PASSWORD in answer.text) == (status, True, False)


def test_content_security_policy_allows_exactly_the_scripts_of_shiny(app: ASGIApp) -> None:
    """Checks the hash of every inline script; a browser test shows that pages work under the policy."""
    for view in ("whoami", "missing"):
        answer = ask(app, "GET", "/", bearer(), f"view={view}")
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self' 'sha256-" in policy
        assert "unsafe-eval" not in policy
        scripts = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
        hashes = {f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts}
        assert hashes == set(re.findall(r"'sha256-[^']+'", policy))


@contextmanager
def open_websocket(app: ASGIApp, token: str, origin: str | None = None) -> Iterator[ClientConnection]:
    """Yields a page's WebSocket after the page's first message."""
    listens_here = listening()
    port = port_of(listens_here)
    headers = {"Authorization": f"Bearer {token}"}
    with serve_in_thread(app, [listens_here]):
        address = f"ws://localhost:{port}/websocket/"
        with connect(address, additional_headers=headers, origin=Origin(origin) if origin else None) as made:
            first = {".clientdata_url_search": "?view=listens", "word": "hello"}
            made.send(json.dumps({"method": "init", "data": first}))
            yield made


def until_heard(connection: ClientConnection, word: str) -> None:
    while word not in heard:
        connection.recv(timeout=patient(20))


def drain(connection: ClientConnection) -> None:
    """Read all remaining messages. Raises ConnectionClosed if the connection was closed because of an error."""
    for _ in connection:
        pass


def test_websocket_is_closed_when_the_token_expires(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages sent after the expiry are ignored, and the WebSocket is closed with the reason."""
    app = server.build_app(cast(Reader, NoDatabase()), build_verifier(settings), settings)
    heard.clear()
    with open_websocket(app, Issuer().token(exp=after(3600))) as connection:
        until_heard(connection, "hello")
        end = time.time() + 7200
        monkeypatch.setattr("services.jwt_verifier.tokens.time.time", lambda: end)
        connection.send(json.dumps({"method": "update", "data": {"word": "too late"}}))
        with pytest.raises(ConnectionClosed):
            drain(connection)
        assert (connection.close_code, connection.close_reason) == (1008, "The token has expired: log in again.")
    assert heard == ["hello"]


def test_websockets_without_a_valid_token_or_origin_are_refused(app: ASGIApp) -> None:
    with pytest.raises(InvalidStatus), open_websocket(app, "nothing"):
        pass
    with pytest.raises(InvalidStatus), open_websocket(app, Issuer().token(), origin="http://elsewhere.localhost"):
        pass


def test_demo_refuses_a_company_database_other_addresses_and_login_settings(settings: Settings, tmp_path: Path) -> None:
    company = settings.model_copy(update={"database_url": SecretStr("postgresql://db/irt")})
    assert "unset DATABASE_URL" in refusal(server.serve, company, demo=True)
    bare = Settings(irt_home=tmp_path, _env_file=None)  # type: ignore[call-arg]
    assert "127.0.0.1 only" in refusal(server.serve, bare, demo=True, host="0.0.0.0")
    assert "without --demo" in refusal(server.serve, settings, demo=True)
    assert "JWT_ISSUER" in refusal(server.serve, bare, demo=False)


def test_every_user_of_the_demo_is_its_psychometrician(settings: Settings) -> None:
    shown = ask(server.build_app(cast(Reader, NoDatabase()), None, settings), "GET", "/", {}, "view=whoami")
    assert (shown.status, login.DEMO.sub in shown.text, "This is a demo" in shown.text) == (200, True, True)


# -- behind nginx ------------------------------------------------------------------------------------
# The dashboard behind nginx and the verifier, with its pages under a prefix.


class Dashboard(Recorder):
    """The dashboard behind nginx, with WebSockets."""

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
            serve_in_thread(verifier, [own]),
            opened_page(folder, port_of(own), Dashboard(dashboard), limit="9999r/s") as made,
        ):
            yield made


def cookie(role: str = "viewer") -> tuple[str, str]:
    return "Cookie", f"__Host-irt={Issuer().token(roles=[role], sub='zoe')}"


@pytest.mark.ci
@pytest.mark.xdist_group("nginx")
def test_pages_and_all_their_files_are_served_under_the_prefix(door: Door) -> None:
    shown = door.ask("/admin/?view=whoami", [cookie()])
    text = shown.body.decode()
    assert (shown.status, "you are zoe" in text) == (200, True)
    files = re.findall(r'(?:src|href)="([^"?]+\.(?:js|css))"', text)
    assert len(files) > 5
    assert {door.ask(f"/admin/{file}", [cookie()]).status for file in files} == {200}


@pytest.mark.ci
@pytest.mark.xdist_group("nginx")
def test_statuses_of_the_dashboard_pass_through_nginx(door: Door) -> None:
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


@pytest.mark.ci
@pytest.mark.xdist_group("nginx")
def test_websocket_messages_pass_nginx_only_with_a_token_and_the_right_origin(door: Door) -> None:
    origin = f"https://{HOST}:{door.tls}"
    pages.heard.clear()
    with websocket(door, cookie(), origin=origin) as connection:
        first = {".clientdata_url_search": "?view=listens", "word": "through the door"}
        connection.send(json.dumps({"method": "init", "data": first}))
        pages.until_heard(connection, "through the door")
    for headers, elsewhere in (([], origin), ([cookie()], f"https://sibling.{HOST}")):
        with pytest.raises(InvalidStatus), websocket(door, *headers, origin=elsewhere):
            pass


def test_dashboard_without_a_login_names_the_demo(tmp_path: Path) -> None:
    settings = Settings(irt_home=tmp_path, database_url=None, _env_file=None)
    with pytest.raises(PermanentFailure, match=r"set JWT_ISSUER.* a demo .* irt run dashboard --demo"):
        server.serve(settings, demo=False)

"""A real nginx with our configuration and the real verifier admits only requests with a valid token and role."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from services.jwt_verifier.app import build_app
from services.jwt_verifier.keys import PemKey
from services.jwt_verifier.tokens import ROLES, Role, Rules, Verifier
from tests.helpers.door import (
    HOST,
    NGINX,
    Door,
    Recorder,
    bearer,
    listening,
    open_door,
    port_of,
    serve_in_thread,
    user_headers,
)
from tests.testbed.issuer import ATTACKS, AUDIENCE, ISSUER, MAX_AGE_S, ORGANISATION, UNFIT_FOR_HEADERS, Attack, Issuer
from tests.testbed.machine import free_port
from tests.testbed.patience import patient

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("nginx")]

PLACES: dict[str, tuple[str, Role]] = {
    "/admin/": ("dashboard", "viewer"),
    "/dagster/": ("dagster", "analyst"),
    "/dagster-view/": ("dagster-view", "viewer"),
}
SECURITY = {
    "Strict-Transport-Security": "max-age=63072000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@pytest.fixture(scope="module", autouse=True)
def nginx(require: Callable[[bool, str], None]) -> None:
    require(os.access(NGINX, os.X_OK), "nginx")


@pytest.fixture(scope="module")
def door(nginx: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """nginx in front of the real verifier, without a rate limit, which has a test of its own."""
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "public.pem").write_bytes(Issuer().pem)
    verifier = Verifier(PemKey(folder / "public.pem"), Rules(ISSUER, AUDIENCE, ORGANISATION, MAX_AGE_S))
    asked, own = Recorder(build_app(verifier, "__Host-irt")), listening()
    with serve_in_thread(asked, [own]), open_door(folder, port_of(own), Recorder(), limit="9999r/s") as made:
        made.asked = asked
        yield made


@pytest.fixture(autouse=True)
def nobody_was_let_in_before(door: Door) -> None:
    door.passed_requests()
    door.asked.seen.clear()


def token(role: str = "operator") -> str:
    return Issuer().token(roles=[role])


@pytest.mark.parametrize("path", PLACES)
def test_admitted_users_are_named_to_the_server_behind_nginx(door: Door, path: str) -> None:
    given = token()
    assert door.ask(f"{path}page?a=b", [bearer(given), ("Cookie", "theme=dark")]).status == 200
    ((server, seen),) = door.passed_requests()
    assert server == PLACES[path][0]
    assert (seen.path, seen.query) == ("/page" if path == "/admin/" else f"{path}page", "a=b")
    assert user_headers(seen) == {
        "x-user": ["ann"],
        "x-org-id": ["acme"],
        "x-roles": ["operator"],
        "x-required-role": [],
    }
    assert (seen.header("authorization"), seen.header("cookie")) == ([f"Bearer {given}"], ["theme=dark"])
    assert seen.header("host") == seen.header("x-forwarded-host") == [f"{HOST}:{door.tls}"]
    assert seen.header("x-forwarded-proto") == ["https"]


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("role", ROLES)
def test_each_location_requires_its_role(door: Door, path: str, role: Role) -> None:
    server, needed = PLACES[path]
    enough = ROLES.index(role) >= ROLES.index(needed)
    assert door.ask(path, [bearer(token(role))]).status == (200 if enough else 403)
    assert [name for name, _ in door.passed_requests()] == ([server] if enough else [])


@pytest.mark.parametrize("path", PLACES)
def test_forged_identity_and_forwarding_headers_are_overwritten(door: Door, path: str) -> None:
    lies = [("X-User", "root"), ("x-user", "root"), ("X-Org-Id", "other"), ("X-Roles", "root"), ("X_User", "root")]
    lies += [("X-Required-Role", "viewer"), ("X-Forwarded-For", "10.0.0.1"), ("X-Forwarded-Proto", "http")]
    lies += [("Forwarded", "for=10.0.0.1"), ("X-Real-IP", "10.0.0.1"), ("X-Forwarded-Host", "evil.example")]
    assert door.ask(path, [bearer(token()), *lies]).status == 200
    ((_, seen),) = door.passed_requests()
    assert user_headers(seen) == {
        "x-user": ["ann"],
        "x-org-id": ["acme"],
        "x-roles": ["operator"],
        "x-required-role": [],
    }
    assert seen.header("x-forwarded-for") == seen.header("x-real-ip") == ["127.0.0.1"]
    assert seen.header("x-forwarded-proto") == ["https"]
    assert not seen.header("forwarded")
    assert "root" not in str(seen.headers)
    assert door.ask(path, lies).status == 401
    assert not door.passed_requests()


def test_requests_cannot_lower_the_required_role(door: Door) -> None:
    lies = [("X-Required-Role", "viewer"), ("X-Roles", "operator")]
    assert door.ask("/dagster/", [bearer(token("viewer")), *lies]).status == 403
    assert door.asked.seen[0].header("x-required-role") == ["analyst"]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_attacks_on_tokens_are_refused(door: Door, attack: Attack) -> None:
    """Includes tokens that HTTP cannot transport."""
    assert door.ask("/admin/", [bearer(attack.make(Issuer()))]).status == attack.status
    assert not door.passed_requests()


@pytest.mark.parametrize("name", UNFIT_FOR_HEADERS)
def test_user_names_that_do_not_fit_a_header_are_refused(door: Door, name: str) -> None:
    assert door.ask("/admin/", [bearer(Issuer().token(sub=name))]).status == 403
    assert not door.passed_requests()


@pytest.mark.parametrize(
    "path",
    [
        "/dagster-view/../dagster/graphql",
        "/dagster-view/..%2fdagster/graphql",
        "/dagster-view/%2e%2e/dagster/graphql",
        "/admin/..%2f..%2fdagster/",
        "//dagster/",
        "/DAGSTER/",
        "/dagster-view/..;/dagster/",
        "/admin/%2e%2e%2fdagster%2f",
        "/dagster%2f",
        "/dagster/?x=/admin/",
    ],
)
def test_no_spelling_of_a_path_bypasses_its_required_role(door: Door, path: str) -> None:
    door.ask(path, [bearer(token("viewer"))])
    assert "dagster" not in [name for name, _ in door.passed_requests()]


@pytest.mark.parametrize("path", ["/auth/verify", "/auth/verify?x", "/verify", "/metrics", "/health", "/other"])
def test_unknown_and_internal_paths_return_404(door: Door, path: str) -> None:
    assert door.ask(path, [bearer(token())]).status == 404
    assert not door.passed_requests()
    assert not door.asked.seen


def test_request_body_reaches_the_server_behind_nginx_and_not_the_verifier(door: Door) -> None:
    body = os.urandom(300_000)
    more = [("Content-Type", "application/json"), ("X-Original-URI", "/"), ("Transfer-Encoding-Of-Mine", "chunked")]
    assert door.ask("/dagster/graphql", [bearer(token()), *more], "POST", body).status == 200
    ((_, seen),) = door.passed_requests()
    assert seen.body == body
    (request,) = door.asked.seen
    assert request.body == b""
    assert {name for name, _ in request.headers} == {"host", "authorization", "x-required-role"}


def test_browsers_may_send_their_token_in_a_cookie(door: Door) -> None:
    assert door.ask("/admin/", [("Cookie", f"theme=dark; __Host-irt={token()}")]).status == 200
    assert (door.ask("/admin/", [("Cookie", "__Host-irt=rubbish")]).status, len(door.passed_requests())) == (401, 1)


def test_browsers_are_redirected_to_the_login_and_programs_receive_401(door: Door) -> None:
    person = door.ask("/admin/items?id=7", [("Accept", "text/html,application/xhtml+xml")])
    assert person.status == 302
    back = f"https://{HOST}:{door.tls}/admin/items?id=7"
    assert person.header("Location") == [f"https://login.example.org/?return={back}"]
    program = door.ask("/admin/items", [("Accept", "application/json")])
    assert (program.status, program.header("WWW-Authenticate")) == (401, ['Bearer realm="irt"'])
    forbidden = door.ask("/dagster/", [("Accept", "text/html"), bearer(token("viewer"))])
    assert (forbidden.status, forbidden.header("Content-Type")) == (403, ["text/plain"])
    assert forbidden.body.startswith(b"This page needs a role that your login does not have")


@pytest.mark.parametrize("path", PLACES)
def test_websockets_are_accepted_only_with_the_required_role(door: Door, path: str) -> None:
    url = f"wss://{HOST}:{door.tls}{path}graphql"

    def open_one(role: str) -> str | bytes:
        raw = socket.create_connection(("127.0.0.1", door.tls), timeout=10)
        trusted = ssl.create_default_context(cafile=str(door.folder / "irt.crt"))
        given = [("Authorization", f"Bearer {token(role)}")] if role else []
        with connect(url, sock=raw, ssl=trusted, additional_headers=given, proxy=None) as channel:
            channel.send("안녕")
            return channel.recv(timeout=10)

    assert open_one("operator") == "안녕"
    ((server, seen),) = door.passed_requests()
    assert server == PLACES[path][0]
    assert user_headers(seen)["x-user"] == ["ann"]
    for role in ("", "viewer") if path == "/dagster/" else ("",):
        with pytest.raises(InvalidStatus) as refused:
            open_one(role)
        assert refused.value.response.status_code == (403 if role else 401)
    assert not door.passed_requests()


def test_every_response_has_each_security_header_once(door: Door) -> None:
    for path, given in (("/admin/", [bearer(token())]), ("/admin/", []), ("/other", []), ("/dagster/", [bearer("x")])):
        answer = door.ask(path, given)
        assert {name: answer.header(name) for name in SECURITY} == {name: [v] for name, v in SECURITY.items()}
        assert answer.header("Server") == ["nginx"]


def test_tls_before_1_2_is_refused(door: Door) -> None:
    for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with door.connect(newest=newest) as made:
            assert made.version() == newest.name.replace("_", ".")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises((ssl.SSLError, ConnectionError)):
        door.connect(newest=ssl.TLSVersion.TLSv1_1)


def test_other_host_names_are_refused(door: Door) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        door.connect("evil.example")
    with pytest.raises(ConnectionError):
        door.ask("/admin/", [bearer(token())], name="evil.example")
    assert not door.passed_requests()


def test_plain_http_is_redirected_to_https(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.plain), timeout=10) as made:
        made.sendall(f"GET /admin/?a=b HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: made.recv(4096), b"")).decode()
    assert answer.startswith("HTTP/1.1 301")
    assert f"Location: https://{HOST}/admin/?a=b\r\n" in answer


class FaultyVerifier:
    """A verifier that responds to any request with these bytes, or never responds."""

    def __init__(self) -> None:
        self.answer: bytes | None = b""
        self.own = listening()
        self.kept: list[socket.socket] = []
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                made, _ = self.own.accept()
            except OSError:
                return
            if self.answer is None:
                self.kept.append(made)
                continue
            with made, suppress(OSError):  # nginx closes the connection after a second or two
                made.recv(65536)
                made.sendall(self.answer)

    def close(self) -> None:
        self.own.shutdown(socket.SHUT_RDWR)
        self.own.close()
        for made in self.kept:
            made.close()


def says(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nX-User: ann\r\nX-Roles: operator\r\nContent-Length: 2\r\n\r\nOK".encode()


@pytest.fixture(scope="module")
def faulty(nginx: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FaultyVerifier, Door]]:
    verifier, folder = FaultyVerifier(), tmp_path_factory.mktemp("faulty")
    with open_door(
        folder, port_of(verifier.own), Recorder(), limit="9999r/s", proxy_read_timeout=f"{1000 * patient(1):.0f}ms"
    ) as made:
        yield verifier, made
    verifier.close()


@pytest.mark.parametrize(
    "answer",
    [
        *(says(status) for status in ("500 Oops", "502 Bad", "503 Busy", "504 Late", "400 Bad", "404 Gone", "418 Tea")),
        *(says(status) for status in ("301 Moved", "302 Found", "304 Same", "100 Continue", "101 Switch", "199 Odd")),
        b"",
        b"OK",
        b"X-User: ann\r\n\r\n",
        b"<html>200 OK</html>\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-User: ann\r\n",
        b"HTTP/1.1 20",
        b"\x00" * 4096,
        None,
    ],
    ids=lambda answer: repr(answer)[:40],
)
def test_no_request_is_admitted_if_the_verifier_fails(
    faulty: tuple[FaultyVerifier, Door], answer: bytes | None
) -> None:
    verifier, door = faulty
    verifier.answer = answer
    for given in ([bearer(token())], []):
        assert door.ask("/admin/", given).status == 500
    assert not door.passed_requests()


def test_requests_are_admitted_if_the_faulty_verifier_returns_200(faulty: tuple[FaultyVerifier, Door]) -> None:
    """Shows that the refusals above are caused by the faults."""
    verifier, door = faulty
    verifier.answer = says("200 OK")
    assert (door.ask("/admin/").status, len(door.passed_requests())) == (200, 1)


def test_no_request_is_admitted_if_the_verifier_is_unreachable(nginx: None, tmp_path: Path) -> None:
    with open_door(tmp_path, free_port(), Recorder()) as made:
        assert made.ask("/admin/", [bearer(token())]).status == 500
        assert not made.passed_requests()


@pytest.mark.parametrize("sent", [b"", b"GET /admin/ HTTP/1.1\r\nHost: "], ids=["nothing", "half a header"])
def test_connections_without_a_complete_header_are_closed(nginx: None, tmp_path: Path, sent: bytes) -> None:
    with open_door(tmp_path, free_port(), Recorder(), client_header_timeout="300ms") as made, made.connect() as channel:
        channel.settimeout(patient(5))  # nginx waits for a minute by default
        channel.sendall(sent)
        assert channel.recv(65536) == b""


def test_too_frequent_requests_receive_429(nginx: None, tmp_path: Path) -> None:
    """Three hundred requests at once are allowed, then fifty per second."""
    verifier = FaultyVerifier()
    verifier.answer = says("401 No")
    with open_door(tmp_path, port_of(verifier.own), Recorder(), limit="1r/s") as made:
        with made.connect() as channel:
            one = f"GET /admin/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
            channel.sendall(one.encode() * 400 + one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
            answers = b"".join(iter(lambda: channel.recv(65536), b"")).decode("latin-1")
        assert answers.count("HTTP/1.1 401") in range(300, 320)
        assert answers.count("HTTP/1.1 429") in range(80, 102)
        assert not made.passed_requests()
    verifier.close()

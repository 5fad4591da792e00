"""Requests that the webserver accepts: hosts, origins, forms, tokens, roles, mutations, and WebSockets."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from dagster_graphql.schema.roots.mutation import GrapheneMutation
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from irt_assets.webserver import __main__ as webserver, operations
from irt_assets.webserver.identity import IdentityLayer
from jobs.launching.launched_by import CALLER_HEADER, LAUNCHED_BY
from resources.serving.guard import Guard
from resources.settings import KUBERNETES, Settings
from services.jwt_verifier.keys import PemKey
from services.jwt_verifier.tokens import ROLES, Role, Rules, Verifier
from tests.helpers.asgi import Answer, ask, echo, open_socket
from tests.testbed.issuer import ATTACKS, AUDIENCE, ISSUER, MAX_AGE_S, ORGANISATION, Attack, Issuer, after

JSON = {"content-type": "application/json"}
EVIL = "http://evil.example"


def guard(prefix: str = "", **settings: Any) -> Guard:
    """Return a guard around an application that accepts every request."""
    names = Settings(_env_file=None, **settings).ui_names
    return Guard(echo, names, prefix=prefix)


def test_requests_of_a_browser_on_our_own_page_are_accepted() -> None:
    for path in ("/", "/assets/abilities", "/graphql", "/logs/run/compute_logs/step/err", "/server_info"):
        assert ask(guard(), "GET", path).text == "the page"
    own = {"content-type": "application/json; charset=utf-8", "origin": "http://localhost:3000"}
    assert ask(guard(), "POST", "/graphql", own).text == "the page"
    assert open_socket(guard(), "/graphql", own).status == 101


@pytest.mark.parametrize("path", ["/report_asset_materialization/x", "/report_asset_check/a/b", "/report_asset_new"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_reports_of_events_from_outside_are_refused(method: str, path: str) -> None:
    answer = ask(guard(), method, path, JSON)
    assert answer.status == 403
    assert answer.text == "Materialisations and checks come from runs; they cannot be reported from outside.\n"


def test_debug_files_are_refused_with_the_command_that_writes_these_files() -> None:
    refused = ask(guard(), "GET", "/download_debug/0b1c")
    assert (refused.status, "dagster debug export RUN_ID FILE" in refused.text) == (403, True)


@pytest.mark.parametrize("query", ["query={version}", "a=1&query=mutation{x}", "%71uery=x", "query", "query="])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_graphql_query_by_get_is_refused(method: str, query: str) -> None:
    answer = ask(guard(), method, "/graphql", {"accept": "text/html"}, query)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_pages_of_the_ui_may_have_query_parameters() -> None:
    assert ask(guard(), "GET", "/runs", query="query=status:FAILURE").status == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain; application/json",
        "text/plain;charset=application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "application/graphql",
        "application/json-patch+json",
        "application/jsonx",
        "",
        None,
    ],
)
def test_content_types_that_a_form_can_send_are_refused(content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    assert ask(guard(), "POST", "/graphql", headers).status == 415


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([("content-type", "application/json"), ("content-type", "text/plain")], 415),
        ([*JSON.items(), ("host", "localhost"), ("host", "evil.example")], 403),
        ([*JSON.items(), ("origin", "http://localhost:3000"), ("origin", EVIL)], 403),
    ],
)
def test_request_with_a_duplicate_header_is_refused(sent: list[tuple[str, str]], status: int) -> None:
    assert ask(guard(), "POST", "/graphql", sent).status == status


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/"), ("POST", "/graphql/"), ("PUT", "/graphql"), ("DELETE", "/x"), ("OPTIONS", "/")]
)
def test_write_requests_outside_graphql_are_refused(method: str, path: str) -> None:
    answer = ask(guard(), method, path, JSON)
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "0.0.0.0:3000",
        "",
        "a b",
    ],
)
def test_foreign_host_is_refused_except_for_the_health_probe(host: str) -> None:
    """The owner of a foreign name may let it point here (DNS rebinding): browsers then attribute our page to that
    name."""
    named = {"host": host}
    assert ask(guard(), "GET", "/", named).status == 403
    assert ask(guard(), "POST", "/graphql", {**JSON, **named, "origin": f"http://{host}"}).status == 403
    assert open_socket(guard(), "/graphql", named).status == 403
    assert ask(guard(), "GET", "/server_info", named).status == 200
    assert ask(guard(), "POST", "/server_info", {**JSON, **named}).status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:4711", "127.9.9.9", "[::1]:3000", "[::1]"])
def test_names_of_the_local_machine_are_accepted_at_any_port(host: str) -> None:
    own = {**JSON, "host": host, "origin": f"http://{host}"}
    assert ask(guard(), "POST", "/graphql", own).status == 200
    assert open_socket(guard(), "/graphql", own).status == 101


@pytest.mark.parametrize(
    "origin",
    [EVIL, "null", "http://localhost:8080", "http://localhost", "file://", "http://localhost:3000.evil.example"],
)
def test_write_requests_and_websockets_of_foreign_origins_are_refused(origin: str) -> None:
    assert ask(guard(), "POST", "/graphql", {**JSON, "origin": origin}).status == 403
    assert open_socket(guard(), "/graphql", {"origin": origin}).status == 403


def test_requests_without_an_origin_are_accepted() -> None:
    assert ask(guard(), "POST", "/graphql", JSON).status == 200
    assert open_socket(guard(), "/graphql").status == 101


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("irt.example.org", "https://irt.example.org", 200),
        ("IRT.example.org:443", "https://irt.example.org", 200),
        ("127.0.0.1:3000", "https://irt.example.org", 200),  # a proxy that sends its backend's name
        ("irt.example.org", "https://irt.example.org:8443", 403),
        ("irt.example.org", "http://irt.example.org:8080", 403),
        ("irt.example.org", EVIL, 403),
        ("other.example.org", "https://irt.example.org", 403),
    ],
)
def test_public_address_is_the_accepted_host_and_origin_behind_a_proxy(host: str, origin: str, status: int) -> None:
    layer = guard(irt_ui_url="https://irt.example.org/")
    assert ask(layer, "POST", "/graphql", {**JSON, "host": host, "origin": origin}).status == status
    assert open_socket(layer, "/graphql", {"host": host, "origin": origin}).status == (101 if status == 200 else 403)


def test_rules_apply_to_paths_under_a_prefix() -> None:
    layer = guard(prefix="/dagster", irt_ui_url="https://example.org/dagster")
    own = {"host": "example.org", "origin": "https://example.org"}
    assert ask(layer, "GET", "/dagster/runs", own).status == 200
    assert ask(layer, "POST", "/dagster/graphql", {**JSON, **own}).status == 200
    assert ask(layer, "POST", "/dagster/report_asset_check/x", {**JSON, **own}).status == 403
    assert ask(layer, "GET", "/dagster/graphql", own, "query=x").status == 405
    assert ask(layer, "POST", "/dagster/graphql", {**own, "content-type": "text/plain"}).status == 415
    assert ask(layer, "GET", "/dagster/download_debug/x", own).status == 403
    assert ask(layer, "GET", "/dagster/server_info", {"host": "10.1.2.3"}).status == 200
    assert ask(layer, "GET", "/dagster/runs", {"host": "10.1.2.3"}).status == 403


@pytest.mark.parametrize("path", ["/", "/graphql", "/report_asset_check/x"])
def test_responses_cannot_be_framed_by_other_sites(path: str) -> None:
    headers = ask(guard(), "GET", path).headers
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["cross-origin-resource-policy"] == "same-origin"


# -- identities --------------------------------------------------------------------------------------
# The layer that verifies the user of a request: only requests with a valid token and role pass.

LAUNCH = "mutation ($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename } }"
MONTHLY = {"p": {"selector": {"jobName": "monthly"}}}
FORGED = {"x-user": "root", "x-roles": "operator", "x-org-id": ORGANISATION, CALLER_HEADER: '"root"'}


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    path: Path = tmp_path_factory.mktemp("keys") / "public.pem"
    path.write_bytes(Issuer().pem)
    return Verifier(PemKey(path), Rules(ISSUER, AUDIENCE, ORGANISATION, MAX_AGE_S))


def page(verifier: Verifier | None, role: Role = "analyst", app: ASGIApp = echo, **settings: Any) -> Guard:
    """Return the page as it is served, behind the guard against foreign pages."""
    identified = IdentityLayer(app, verifier, "__Host-irt", role)
    return Guard(identified, Settings(_env_file=None, **settings).ui_names)


def bearer(*roles: str, **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {Issuer().token(roles=[*roles], **claims)}"}


def post(app: ASGIApp, query: str, variables: object = None, **headers: str) -> Answer:
    body = {"query": query, "variables": variables}
    return ask(app, "POST", "/graphql", JSON | headers, body=json.dumps(body).encode())


async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the received headers and body."""
    got = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = (await receive())["body"].decode() if scope["method"] == "POST" else ""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"headers": got, "body": body}).encode()})


@pytest.mark.parametrize("headers", [{}, FORGED, {"cookie": "theme=dark"}, {"authorization": "Basic b3A6b3A="}])
def test_requests_without_a_token_are_refused_regardless_of_identity_headers(
    verifier: Verifier, headers: dict[str, str]
) -> None:
    for method, path in (("GET", "/"), ("GET", "/reports/1"), ("GET", "/_next/a.js"), ("POST", "/graphql")):
        answer = ask(page(verifier), method, path, JSON | headers, body=b'{"query": "{ version }"}')
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="irt"')
        assert json.loads(answer.text)["data"] is None
    assert open_socket(page(verifier), "/graphql", headers).status == 403


@pytest.mark.parametrize("attack", ATTACKS[::12], ids=str)
def test_forged_token_is_refused(verifier: Verifier, attack: Attack) -> None:
    token = attack.make(Issuer())
    assert ask(page(verifier), "GET", "/", [("authorization", f"Bearer {token}")]).status == attack.status


def test_health_check_requires_no_token(verifier: Verifier) -> None:
    assert ask(page(verifier), "GET", "/server_info", {"host": "10.0.0.7"}).status == 200


@pytest.mark.parametrize("needed", ["viewer", "analyst"])
@pytest.mark.parametrize("role", ROLES)
def test_page_is_accessible_to_its_role_and_higher_roles(verifier: Verifier, role: Role, needed: Role) -> None:
    expected = ROLES.index(role) >= ROLES.index(needed)
    app = page(verifier, needed)
    assert ask(app, "GET", "/runs", bearer(role)).status == (200 if expected else 403)
    assert ask(app, "GET", "/runs", {"cookie": f"__Host-irt={Issuer().token(roles=[role])}"}).status == (
        200 if expected else 403
    )
    assert open_socket(app, "/graphql", bearer(role)).status == (101 if expected else 403)
    assert post(app, "{ version }", **bearer(role)).status == (200 if expected else 403)


def test_token_without_roles_is_refused(verifier: Verifier) -> None:
    assert ask(page(verifier, "viewer"), "GET", "/", bearer()).status == 403


# -- forwarded headers ---------------------------------------------------------------------------------------------
def test_verified_name_is_forwarded_and_names_in_request_headers_are_removed(verifier: Verifier) -> None:
    app = page(verifier, app=mirror)
    got = json.loads(post(app, LAUNCH, MONTHLY, **bearer("analyst", sub="Zoë\u2028"[:3]), **FORGED).text)
    assert json.loads(got["headers"][CALLER_HEADER]) == "Zoë"
    assert json.loads(got["body"]) == {"query": LAUNCH, "variables": MONTHLY}
    got = json.loads(ask(app, "GET", "/", bearer("psychometrician") | FORGED).text)
    assert json.loads(got["headers"][CALLER_HEADER]) == "ann"


def test_requests_pass_without_a_name_if_there_is_no_login() -> None:
    got = json.loads(post(page(None, app=mirror), LAUNCH, MONTHLY, **FORGED).text)
    assert CALLER_HEADER not in got["headers"]
    assert open_socket(page(None), "/graphql").status == 101


def test_webserver_in_a_pod_listens_on_all_addresses_only_with_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Settings(_env_file=None)
    with_login = alone.model_copy(update={"jwt_issuer": ISSUER})
    assert (alone.ui_address, with_login.ui_address) == ("127.0.0.1", "127.0.0.1")
    monkeypatch.setenv(KUBERNETES, "10.96.0.1")
    assert (alone.ui_address, with_login.ui_address) == ("127.0.0.1", "0.0.0.0")


def test_duplicate_internal_headers_are_not_forwarded(verifier: Verifier) -> None:
    both = [*bearer("analyst").items(), (CALLER_HEADER, "a"), ("IRT-Caller", "b")]
    got = json.loads(ask(page(verifier, app=mirror), "GET", "/", both).text)
    assert json.loads(got["headers"][CALLER_HEADER]) == "ann"


# -- mutations -----------------------------------------------------------------------------------------------------
ANALYSTS = {
    *("launchPipelineExecution", "launchRun", "launchMultipleRuns", "launchPipelineReexecution"),
    *("launchRunReexecution", "launchPartitionBackfill", "resumePartitionBackfill", "reexecutePartitionBackfill"),
    *("terminatePipelineExecution", "terminateRun", "terminateRuns", "cancelPartitionBackfill"),
}
MUTATIONS = sorted(GrapheneMutation._meta.fields)
"""Names of all mutations in this version of Dagster."""


def test_mutations_permitted_to_analysts_exist_in_dagster() -> None:
    assert set(MUTATIONS) >= ANALYSTS
    assert operations.LAUNCHING_RUNS | operations.LAUNCHING_BACKFILLS | operations.CANCELLING == ANALYSTS


@pytest.mark.parametrize("name", [*MUTATIONS, "somethingThatIsNewInDagster"])
def test_analysts_may_launch_and_end_runs_and_only_operators_other_mutations(verifier: Verifier, name: str) -> None:
    needed: Role = "analyst" if name in ANALYSTS else "operator"
    for role in ROLES:
        answer = post(page(verifier, "viewer"), f"mutation {{ {name} {{ __typename }} }}", **bearer(role))
        assert answer.status == (200 if ROLES.index(role) >= ROLES.index(needed) else 403), role


NESTED = """mutation ($p: X!) { ...f } fragment f on Mutation { ...g } fragment g on Mutation
{ ... on Mutation { wipeAssets(p: $p) { __typename } } ...f }"""
HIDDEN = [
    "mutation { launchRun: wipeAssets(p: 1) { __typename } }",
    "mutation { launchRun(p: 1) { __typename } wipeAssets(p: 1) { __typename } }",
    "{ version } mutation m { wipeAssets(p: 1) { __typename } }",
    "mutation ($p: X!) { ... @skip(if: true) { wipeAssets(p: $p) { __typename } } }",
    NESTED,
]


@pytest.mark.parametrize("query", HIDDEN, ids=range(len(HIDDEN)))
def test_mutation_is_judged_by_its_name_at_any_position_in_a_query(verifier: Verifier, query: str) -> None:
    refused = post(page(verifier), query, {"p": 1}, **bearer("analyst"))
    assert refused.status == 403
    assert json.loads(refused.text)["errors"][0]["message"] == (
        "wipeAssets needs the role operator, which your token does not grant."
    )
    assert post(page(verifier), query, {"p": 1}, **bearer("operator")).status == 200
    assert post(page(verifier), query.replace("wipeAssets", "launchRun"), {"p": 1}, **bearer("analyst")).status == 200


def test_mutations_in_operations_that_are_not_executed_are_judged_too(verifier: Verifier) -> None:
    query = "query a { version } mutation b { wipeAssets(assetPartitionRanges: []) { __typename } }"
    body = json.dumps({"query": query, "operationName": "a"}).encode()
    assert ask(page(verifier), "POST", "/graphql", JSON | bearer("analyst"), body=body).status == 403
    assert ask(page(verifier), "POST", "/graphql", JSON | bearer("operator"), body=body).status == 200


def test_backfill_that_sets_the_launchers_tag_is_refused(verifier: Verifier) -> None:
    query = "mutation ($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) { __typename } }"
    tags = {"p": {"allPartitions": True, "tags": [{"key": LAUNCHED_BY, "value": "zoe"}]}}
    refused = post(page(verifier), query, tags, **bearer("operator"))
    assert (refused.status, "server sets the tag irt/launched_by" in refused.text) == (403, True)
    assert post(page(verifier), LAUNCH, MONTHLY["p"] | tags, **bearer("analyst")).status == 200  # tag is overwritten


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'"query"',
        b'[{"query": "{ version }"}]',
        b"{}",
        b'{"query": 7}',
        b'{"query": "{"}',
        b'{"query": "{ version }", "variables": "{}"}',
        b'{"query": "{ version }", "variables": []}',
        json.dumps({"query": "{a" * 5000 + "}" * 5000}).encode(),
        json.dumps({"query": "{ " + "a " * 21_000 + "}"}).encode(),
        b"[" * 100_000,
    ],
    ids=range(13),
)
def test_body_that_cannot_be_parsed_is_refused(verifier: Verifier, body: bytes) -> None:
    answer = ask(page(verifier), "POST", "/graphql", JSON | bearer("operator"), body=body)
    assert (answer.status, json.loads(answer.text)["data"]) == (400, None)


def test_mutation_by_get_is_refused_with_a_valid_token(verifier: Verifier) -> None:
    query = "query=mutation{launchRun(executionParams:{selector:{jobName:%22monthly%22}}){__typename}}"
    assert ask(page(verifier), "GET", "/graphql", bearer("operator"), query).status == 405


def test_body_that_is_too_large_is_refused(verifier: Verifier) -> None:
    assert ask(page(verifier), "POST", "/graphql", JSON | bearer("operator"), body=b" " * (2**24 + 1)).status == 413


def test_request_is_dropped_silently_if_the_client_disconnects_before_its_end(
    verifier: Verifier, caplog: pytest.LogCaptureFixture
) -> None:
    """Browsers disconnect like this if the user opens a different page, so it is not logged as a refusal."""
    waiting: list[Message] = [
        {"type": "http.request", "body": b'{"query"', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    pairs = JSON | bearer("operator") | {"host": "localhost:3000"}
    raw = [(name.encode(), value.encode()) for name, value in pairs.items()]
    scope = {"type": "http", "method": "POST", "path": "/graphql", "query_string": b"", "headers": raw}
    asyncio.run(page(verifier)(scope, receive, send))
    assert (sent, caplog.records) == ([], [])


# -- WebSockets ----------------------------------------------------------------------------------------------------
SUBSCRIBE = {"type": "start", "id": "1", "payload": {"query": "subscription { capturedLogs { stdout } }"}}


def converse(app: ASGIApp, headers: dict[str, str], messages: list[Any]) -> tuple[list[Any], list[Message]]:
    """Send messages by WebSocket. Returns the messages that reach Dagster, and the messages sent to the client.

    A function among the messages is called in its turn.
    """
    reached: list[Any] = []
    heard: list[Message] = []
    waiting: list[Any] = [
        {"type": "websocket.connect"},
        *(each if callable(each) else {"type": "websocket.receive", "text": _text(each)} for each in messages),
        {"type": "websocket.disconnect", "code": 1000},
    ]

    async def receive() -> Message:
        while callable(message := waiting.pop(0)):
            message()
        return message

    async def send(message: Message) -> None:
        heard.append(message)

    async def inner(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            reached.append(json.loads(message["text"]))
            await send({"type": "websocket.send", "text": "data"})

    app.app.app = inner  # type: ignore[attr-defined]
    pairs = {"host": "localhost:3000", **headers}
    raw = [(name.encode(), value.encode()) for name, value in pairs.items()]
    scope = {"type": "websocket", "path": "/graphql", "query_string": b"", "headers": raw, "root_path": ""}
    asyncio.run(app(scope, receive, send))
    return reached, heard


def _text(message: object) -> str:
    return message if isinstance(message, str) else json.dumps(message)


@pytest.mark.parametrize("kind", ["start", "subscribe", "anything"])
@pytest.mark.parametrize("query", [LAUNCH, "{ version }", "subscription { a } mutation { reloadWorkspace { x } }", "{"])
def test_operations_by_websocket_except_subscriptions_are_refused(verifier: Verifier, kind: str, query: str) -> None:
    other = {"type": kind, "id": "2", "payload": {"query": query, "variables": MONTHLY}}
    begin = {"type": "connection_init", "payload": {}}
    reached, heard = converse(page(verifier), bearer("operator"), [begin, SUBSCRIBE, other, SUBSCRIBE])
    assert reached == [begin, SUBSCRIBE, SUBSCRIBE]
    (message,) = [json.loads(m["text"]) for m in heard if m.get("text") not in (None, "data")]
    assert (message["type"], message["id"]) == ("error", "2")


@pytest.mark.parametrize("login", [True, False])
@pytest.mark.parametrize(
    "sent",
    [
        *("", "{", "[]", "7", "[" * 100_000, {"type": "start"}, {"type": "start", "payload": {}}),
        *(SUBSCRIBE | {"payload": {"query": 7}}, SUBSCRIBE | {"id": ["1"]}, SUBSCRIBE | {"id": "\ud800"}),
        {"type": "stop", "id": {}},
    ],
    ids=lambda sent: str(sent)[:50],
)
def test_message_that_dagster_cannot_parse_is_not_forwarded(verifier: Verifier, sent: object, login: bool) -> None:
    app, headers = (page(verifier), bearer("operator")) if login else (page(None), {})
    assert converse(app, headers, [sent, SUBSCRIBE])[0] == [SUBSCRIBE]


@pytest.mark.parametrize(
    "origin", ["https://evil.irt.example.org", "https://example.org", "http://localhost:3000", "null"]
)
def test_websocket_with_the_cookie_is_refused_if_its_origin_is_a_sibling_site(verifier: Verifier, origin: str) -> None:
    app = page(verifier, irt_ui_url="https://irt.example.org")
    own = {"cookie": f"__Host-irt={Issuer().token(roles=['operator'])}", "host": "irt.example.org"}
    assert open_socket(app, "/graphql", own | {"origin": origin}).status == 403
    assert open_socket(app, "/graphql", own | {"origin": "https://irt.example.org"}).status == 101
    assert post(app, LAUNCH, MONTHLY, **own, origin=origin).status == 403


def test_websocket_is_closed_if_its_token_expires(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    given = bearer("operator", exp=after(60))
    app = page(verifier)

    def time_goes_by() -> None:
        later = time.time() + 100
        monkeypatch.setattr("services.jwt_verifier.tokens.time.time", lambda: later)

    reached, heard = converse(app, given, [SUBSCRIBE, time_goes_by, SUBSCRIBE, SUBSCRIBE])
    assert reached == [SUBSCRIBE]
    assert [message["type"] for message in heard] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert (heard[-1]["code"], heard[-1]["reason"]) == (1008, "The token has expired: log in again.")


def test_webserver_exits_with_a_list_of_missing_login_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_ISSUER", ISSUER)
    monkeypatch.setattr("sys.argv", ["webserver", "--port", "1"])
    with pytest.raises(SystemExit, match="set JWT_AUDIENCE, IRT_ORG_ID"):
        webserver.main()

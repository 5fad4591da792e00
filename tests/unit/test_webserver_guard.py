"""Who may ask the page for what: browsers on foreign pages, forms, rebound names, and people."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from dagster_graphql.schema.roots.mutation import GrapheneMutation
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from irt_assets.webserver import __main__ as webserver
from irt_assets.webserver import operations
from irt_assets.webserver.identity import Identified
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
    """Around an application that takes everything."""
    names = Settings(_env_file=None, **settings).ui_names
    return Guard(echo, names, prefix=prefix)


def test_a_person_s_requests_go_through() -> None:
    for path in ("/", "/assets/abilities", "/graphql", "/logs/run/compute_logs/step/err", "/server_info"):
        assert ask(guard(), "GET", path).text == "the page"
    own = {"content-type": "application/json; charset=utf-8", "origin": "http://localhost:3000"}
    assert ask(guard(), "POST", "/graphql", own).text == "the page"
    assert open_socket(guard(), "/graphql", own).status == 101


@pytest.mark.parametrize("path", ["/report_asset_materialization/x", "/report_asset_check/a/b", "/report_asset_new"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_nobody_reports_events_from_outside(method: str, path: str) -> None:
    answer = ask(guard(), method, path, JSON)
    assert answer.status == 403
    assert answer.text == "Materialisations and checks come from runs; they cannot be reported from outside.\n"


def test_debug_files_are_refused_with_the_command_that_writes_them() -> None:
    refused = ask(guard(), "GET", "/download_debug/0b1c")
    assert (refused.status, "dagster debug export RUN_ID FILE" in refused.text) == (403, True)


@pytest.mark.parametrize("query", ["query={version}", "a=1&query=mutation{x}", "%71uery=x", "query", "query="])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_query_by_get_is_refused(method: str, query: str) -> None:
    answer = ask(guard(), method, "/graphql", {"accept": "text/html"}, query)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_a_page_of_the_ui_may_have_a_query_of_its_own() -> None:
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
def test_what_a_form_can_send_is_refused(content_type: str | None) -> None:
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
def test_a_header_that_is_there_twice_counts_as_none(sent: list[tuple[str, str]], status: int) -> None:
    assert ask(guard(), "POST", "/graphql", sent).status == status


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/"), ("POST", "/graphql/"), ("PUT", "/graphql"), ("DELETE", "/x"), ("OPTIONS", "/")]
)
def test_only_graphql_takes_what_writes(method: str, path: str) -> None:
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
def test_a_foreign_host_is_refused_everywhere_but_by_the_probe(host: str) -> None:
    """A name that its owner has let point here: the browser takes the page for a page of that name."""
    named = {"host": host}
    assert ask(guard(), "GET", "/", named).status == 403
    assert ask(guard(), "POST", "/graphql", {**JSON, **named, "origin": f"http://{host}"}).status == 403
    assert open_socket(guard(), "/graphql", named).status == 403
    assert ask(guard(), "GET", "/server_info", named).status == 200
    assert ask(guard(), "POST", "/server_info", {**JSON, **named}).status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:4711", "127.9.9.9", "[::1]:3000", "[::1]"])
def test_this_machine_s_own_names_are_answered_at_any_port(host: str) -> None:
    own = {**JSON, "host": host, "origin": f"http://{host}"}
    assert ask(guard(), "POST", "/graphql", own).status == 200
    assert open_socket(guard(), "/graphql", own).status == 101


@pytest.mark.parametrize(
    "origin",
    [EVIL, "null", "http://localhost:8080", "http://localhost", "file://", "http://localhost:3000.evil.example"],
)
def test_a_foreign_page_neither_writes_nor_listens(origin: str) -> None:
    assert ask(guard(), "POST", "/graphql", {**JSON, "origin": origin}).status == 403
    assert open_socket(guard(), "/graphql", {"origin": origin}).status == 403


def test_a_program_that_names_no_origin_is_let_in() -> None:
    assert ask(guard(), "POST", "/graphql", JSON).status == 200
    assert open_socket(guard(), "/graphql").status == 101


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("irt.example.org", "https://irt.example.org", 200),
        ("IRT.example.org:443", "https://irt.example.org", 200),
        ("127.0.0.1:3000", "https://irt.example.org", 200),  # a proxy that names its backend
        ("irt.example.org", "https://irt.example.org:8443", 403),
        ("irt.example.org", "http://irt.example.org:8080", 403),
        ("irt.example.org", EVIL, 403),
        ("other.example.org", "https://irt.example.org", 403),
    ],
)
def test_behind_a_proxy_the_public_address_counts(host: str, origin: str, status: int) -> None:
    layer = guard(irt_ui_url="https://irt.example.org/")
    assert ask(layer, "POST", "/graphql", {**JSON, "host": host, "origin": origin}).status == status
    assert open_socket(layer, "/graphql", {"host": host, "origin": origin}).status == (101 if status == 200 else 403)


def test_under_a_path_prefix_every_rule_holds() -> None:
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
def test_no_answer_is_shown_inside_another_site_s_page(path: str) -> None:
    headers = ask(guard(), "GET", path).headers
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["cross-origin-resource-policy"] == "same-origin"


# -- identities --------------------------------------------------------------------------------------
# The layer that verifies whose request it is: what a token lets through, and what nothing else does.

LAUNCH = "mutation ($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename } }"
MONTHLY = {"p": {"selector": {"jobName": "monthly"}}}
FORGED = {"x-user": "root", "x-roles": "operator", "x-org-id": ORGANISATION, CALLER_HEADER: '"root"'}


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    path: Path = tmp_path_factory.mktemp("keys") / "public.pem"
    path.write_bytes(Issuer().pem)
    return Verifier(PemKey(path), Rules(ISSUER, AUDIENCE, ORGANISATION, MAX_AGE_S))


def page(verifier: Verifier | None, role: Role = "analyst", app: ASGIApp = echo, **settings: Any) -> Guard:
    """As it is served: behind the layer that knows foreign pages."""
    identified = Identified(app, verifier, "__Host-irt", role)
    return Guard(identified, Settings(_env_file=None, **settings).ui_names)


def bearer(*roles: str, **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {Issuer().token(roles=[*roles], **claims)}"}


def post(app: ASGIApp, query: str, variables: object = None, **headers: str) -> Answer:
    body = {"query": query, "variables": variables}
    return ask(app, "POST", "/graphql", JSON | headers, body=json.dumps(body).encode())


async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the headers and the body that it got."""
    got = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = (await receive())["body"].decode() if scope["method"] == "POST" else ""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"headers": got, "body": body}).encode()})


@pytest.mark.parametrize("headers", [{}, FORGED, {"cookie": "theme=dark"}, {"authorization": "Basic b3A6b3A="}])
def test_without_a_token_nobody_passes_whatever_they_say_of_themselves(
    verifier: Verifier, headers: dict[str, str]
) -> None:
    for method, path in (("GET", "/"), ("GET", "/reports/1"), ("GET", "/_next/a.js"), ("POST", "/graphql")):
        answer = ask(page(verifier), method, path, JSON | headers, body=b'{"query": "{ version }"}')
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="irt"')
        assert json.loads(answer.text)["data"] is None
    assert open_socket(page(verifier), "/graphql", headers).status == 403


@pytest.mark.parametrize("attack", ATTACKS[::12], ids=str)
def test_a_forged_token_opens_nothing(verifier: Verifier, attack: Attack) -> None:
    token = attack.make(Issuer())
    assert ask(page(verifier), "GET", "/", [("authorization", f"Bearer {token}")]).status == attack.status


def test_a_health_check_needs_no_token(verifier: Verifier) -> None:
    assert ask(page(verifier), "GET", "/server_info", {"host": "10.0.0.7"}).status == 200


@pytest.mark.parametrize("needed", ["viewer", "analyst"])
@pytest.mark.parametrize("role", ROLES)
def test_a_page_opens_to_its_role_and_those_above(verifier: Verifier, role: Role, needed: Role) -> None:
    expected = ROLES.index(role) >= ROLES.index(needed)
    app = page(verifier, needed)
    assert ask(app, "GET", "/runs", bearer(role)).status == (200 if expected else 403)
    assert ask(app, "GET", "/runs", {"cookie": f"__Host-irt={Issuer().token(roles=[role])}"}).status == (
        200 if expected else 403
    )
    assert open_socket(app, "/graphql", bearer(role)).status == (101 if expected else 403)
    assert post(app, "{ version }", **bearer(role)).status == (200 if expected else 403)


def test_a_token_without_roles_opens_nothing(verifier: Verifier) -> None:
    assert ask(page(verifier, "viewer"), "GET", "/", bearer()).status == 403


# -- what is handed on ---------------------------------------------------------------------------------------------
def test_the_verified_name_is_handed_on_and_one_from_outside_is_not(verifier: Verifier) -> None:
    app = page(verifier, app=mirror)
    got = json.loads(post(app, LAUNCH, MONTHLY, **bearer("analyst", sub="Zoë\u2028"[:3]), **FORGED).text)
    assert json.loads(got["headers"][CALLER_HEADER]) == "Zoë"
    assert json.loads(got["body"]) == {"query": LAUNCH, "variables": MONTHLY}
    got = json.loads(ask(app, "GET", "/", bearer("psychometrician") | FORGED).text)
    assert json.loads(got["headers"][CALLER_HEADER]) == "ann"


def test_without_a_login_everybody_passes_and_nobody_has_a_name() -> None:
    got = json.loads(post(page(None, app=mirror), LAUNCH, MONTHLY, **FORGED).text)
    assert CALLER_HEADER not in got["headers"]
    assert open_socket(page(None), "/graphql").status == 101


def test_the_page_answers_others_in_a_pod_with_a_login_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Settings(_env_file=None)
    with_login = alone.model_copy(update={"jwt_issuer": ISSUER})
    assert (alone.ui_address, with_login.ui_address) == ("127.0.0.1", "127.0.0.1")
    monkeypatch.setenv(KUBERNETES, "10.96.0.1")
    assert (alone.ui_address, with_login.ui_address) == ("127.0.0.1", "0.0.0.0")


def test_of_two_internal_headers_neither_is_handed_on(verifier: Verifier) -> None:
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
"""All that this version of Dagster has."""


def test_the_mutations_of_analysts_are_those_of_dagster() -> None:
    assert set(MUTATIONS) >= ANALYSTS
    assert operations.LAUNCHING_RUNS | operations.LAUNCHING_BACKFILLS | operations.ENDING == ANALYSTS


@pytest.mark.parametrize("name", [*MUTATIONS, "somethingThatIsNewInDagster"])
def test_analysts_launch_and_end_and_all_else_is_the_operator_s(verifier: Verifier, name: str) -> None:
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
def test_a_mutation_is_judged_by_its_name_wherever_it_stands(verifier: Verifier, query: str) -> None:
    refused = post(page(verifier), query, {"p": 1}, **bearer("analyst"))
    assert refused.status == 403
    assert json.loads(refused.text)["errors"][0]["message"] == (
        "wipeAssets needs the role operator, which your token does not give you."
    )
    assert post(page(verifier), query, {"p": 1}, **bearer("operator")).status == 200
    assert post(page(verifier), query.replace("wipeAssets", "launchRun"), {"p": 1}, **bearer("analyst")).status == 200


def test_of_several_operations_the_one_that_is_not_named_counts_too(verifier: Verifier) -> None:
    query = "query a { version } mutation b { wipeAssets(assetPartitionRanges: []) { __typename } }"
    body = json.dumps({"query": query, "operationName": "a"}).encode()
    assert ask(page(verifier), "POST", "/graphql", JSON | bearer("analyst"), body=body).status == 403
    assert ask(page(verifier), "POST", "/graphql", JSON | bearer("operator"), body=body).status == 200


def test_a_backfill_hands_its_runs_no_name(verifier: Verifier) -> None:
    query = "mutation ($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) { __typename } }"
    tags = {"p": {"allPartitions": True, "tags": [{"key": LAUNCHED_BY, "value": "zoe"}]}}
    refused = post(page(verifier), query, tags, **bearer("operator"))
    assert (refused.status, "irt/launched_by is set here" in refused.text) == (403, True)
    assert post(page(verifier), LAUNCH, MONTHLY["p"] | tags, **bearer("analyst")).status == 200  # is overwritten


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
def test_what_cannot_be_read_goes_no_further(verifier: Verifier, body: bytes) -> None:
    answer = ask(page(verifier), "POST", "/graphql", JSON | bearer("operator"), body=body)
    assert (answer.status, json.loads(answer.text)["data"]) == (400, None)


def test_a_query_by_get_goes_no_further(verifier: Verifier) -> None:
    query = "query=mutation{launchRun(executionParams:{selector:{jobName:%22monthly%22}}){__typename}}"
    assert ask(page(verifier), "GET", "/graphql", bearer("operator"), query).status == 405


def test_a_body_that_is_too_large_goes_no_further(verifier: Verifier) -> None:
    assert ask(page(verifier), "POST", "/graphql", JSON | bearer("operator"), body=b" " * (2**24 + 1)).status == 413


def test_of_whoever_goes_before_the_whole_request_is_there_nothing_is_passed_on(
    verifier: Verifier, caplog: pytest.LogCaptureFixture
) -> None:
    """As browsers do when another page is opened meanwhile; that is no refusal."""
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


def converse(app: ASGIApp, headers: dict[str, str], said: list[Any]) -> tuple[list[Any], list[Message]]:
    """What reaches Dagster of the messages, and what the one who sent them gets to hear; each is answered.

    A function among the messages is called when its turn has come.
    """
    reached: list[Any] = []
    heard: list[Message] = []
    waiting: list[Any] = [
        {"type": "websocket.connect"},
        *(each if callable(each) else {"type": "websocket.receive", "text": _text(each)} for each in said),
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


def _text(said: object) -> str:
    return said if isinstance(said, str) else json.dumps(said)


@pytest.mark.parametrize("kind", ["start", "subscribe", "anything"])
@pytest.mark.parametrize("query", [LAUNCH, "{ version }", "subscription { a } mutation { reloadWorkspace { x } }", "{"])
def test_a_websocket_is_for_subscriptions_alone(verifier: Verifier, kind: str, query: str) -> None:
    other = {"type": kind, "id": "2", "payload": {"query": query, "variables": MONTHLY}}
    begin = {"type": "connection_init", "payload": {}}
    reached, heard = converse(page(verifier), bearer("operator"), [begin, SUBSCRIBE, other, SUBSCRIBE])
    assert reached == [begin, SUBSCRIBE, SUBSCRIBE]
    (told,) = [json.loads(m["text"]) for m in heard if m.get("text") not in (None, "data")]
    assert (told["type"], told["id"]) == ("error", "2")


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
def test_message_that_dagster_cannot_read_does_not_reach_it(verifier: Verifier, sent: object, login: bool) -> None:
    app, headers = (page(verifier), bearer("operator")) if login else (page(None), {})
    assert converse(app, headers, [sent, SUBSCRIBE])[0] == [SUBSCRIBE]


@pytest.mark.parametrize(
    "origin", ["https://evil.irt.example.org", "https://example.org", "http://localhost:3000", "null"]
)
def test_a_sibling_s_page_opens_no_websocket_with_the_cookie(verifier: Verifier, origin: str) -> None:
    app = page(verifier, irt_ui_url="https://irt.example.org")
    own = {"cookie": f"__Host-irt={Issuer().token(roles=['operator'])}", "host": "irt.example.org"}
    assert open_socket(app, "/graphql", own | {"origin": origin}).status == 403
    assert open_socket(app, "/graphql", own | {"origin": "https://irt.example.org"}).status == 101
    assert post(app, LAUNCH, MONTHLY, **own, origin=origin).status == 403


def test_a_token_that_expires_meanwhile_ends_its_websocket(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    given = bearer("operator", exp=after(60))
    app = page(verifier)

    def time_goes_by() -> None:
        later = time.time() + 100
        monkeypatch.setattr("services.jwt_verifier.tokens.time.time", lambda: later)

    reached, heard = converse(app, given, [SUBSCRIBE, time_goes_by, SUBSCRIBE, SUBSCRIBE])
    assert reached == [SUBSCRIBE]
    assert [message["type"] for message in heard] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert (heard[-1]["code"], heard[-1]["reason"]) == (1008, "The token has expired: log in again.")


def test_a_login_of_which_settings_are_missing_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_ISSUER", ISSUER)
    monkeypatch.setattr("sys.argv", ["webserver", "--port", "1"])
    with pytest.raises(SystemExit, match="set JWT_AUDIENCE, IRT_ORG_ID"):
        webserver.main()

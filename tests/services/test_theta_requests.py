"""Requests that the θ API refuses before it queries the database. Its ledger in these tests always fails."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck
from pydantic import SecretStr
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from irt_assets.abilities.online import Measures
from irt_assets.adaptive.policy import Policy
from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.responses.learner_answers import Judging
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema_version import SchemaVersion, first_revision, newest_revision
from resources.settings import Settings
from services.theta_api import app
from services.theta_api.access import Access, build_access
from services.theta_api.app import build_app
from services.theta_api.next_item import NEXT_ITEM_PATH
from services.theta_api.parameter_cache import DatabaseUnavailable, Ledger
from services.theta_api.posts import EXAMPLE, POSTS_PATH
from services.theta_api.problems import TITLES, Problem
from services.theta_api.seeds import SEEDS_PATH
from services.theta_client.api import PATH
from tests.helpers import rooms
from tests.helpers.decided import set_policy
from tests.helpers.door import ROOT, serve_in_thread
from tests.helpers.sentences import refusal
from tests.testbed.issuer import ATTACKS, Issuer

TOKEN = "a-service-token-of-32-characters"
HISTORY = "/api/seedtest/analysis/irt/theta"


class UnusedLedger:
    """A ledger whose database refuses every connection; `asked` counts the attempts."""

    ready, age_s, why_unavailable = False, 1.0, "it is a test"
    settings = Settings(_env_file=None)

    def __init__(self) -> None:
        self.asked = 0

    def start(self) -> None:
        pass

    def wait_for_first_read(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def clock(self) -> datetime:
        return datetime.now(UTC)

    def measures(self) -> Measures:
        return Measures(self.clock(), {}, Judging(self.clock()))

    @contextmanager
    def connect(self, *, to_post: bool = False) -> Iterator[None]:
        self.asked += 1
        raise DatabaseUnavailable("it is a test")
        yield


@contextmanager
def unhurried() -> Iterator[None]:
    """Raise the time limits, so that no request is shed on a busy machine."""
    with pytest.MonkeyPatch.context() as limits:
        for name in ("WAIT_S", "MAX_LOOP_DELAY_S", "LIMIT_S"):
            limits.setattr(app, name, 60.0)
        yield


@pytest.fixture(scope="module")
def issuer_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return Issuer().settings(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def untouched() -> UnusedLedger:
    return UnusedLedger()


@pytest.fixture
def ledger(untouched: UnusedLedger) -> UnusedLedger:
    """The ledger behind `url`, with its count of attempts reset."""
    untouched.asked = 0
    return untouched


@pytest.fixture(scope="module")
def url(issuer_settings: dict[str, Any], untouched: UnusedLedger) -> Iterator[str]:
    access = build_access(Settings(_env_file=None, irt_theta_token=SecretStr(TOKEN), **issuer_settings))
    listening = socket.create_server(("127.0.0.1", 0))
    with unhurried(), serve_in_thread(app.build_app(access, untouched, 2), [listening]):  # type: ignore[arg-type]
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def post(url: str, content: object, token: str | None = TOKEN) -> requests.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    return requests.post(url + PATH, body, headers=headers, timeout=10)


def is_problem(answer: requests.Response, status: int, kind: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    content = answer.json()
    assert (content["type"], content["status"]) == (f"urn:irt:problem:{kind}", status)
    assert content["detail"].strip()


UNFIT = {
    "not JSON": b'{"user_id": "u1"',
    "not text": b"\xff\xfe",
    "a list": [],
    "null": None,
    "a text": "u1",
    "nothing": b"",
    "no learner": {"lookback_days": 30},
    "an unknown field": {"user_id": "u1", "scale": "default"},
    "no id": {"user_id": ""},
    "a number as id": {"user_id": 17},
    "a long id": {"user_id": "x" * 10_000},
    "a long id in emoji": {"user_id": "🦊" * 151},
    "NUL": {"user_id": "u\x001"},
    "half a character": b'{"user_id": "\\ud83e"}',
    "0 days": {"user_id": "u1", "lookback_days": 0},
    "-1 days": {"user_id": "u1", "lookback_days": -1},
    "366 days": {"user_id": "u1", "lookback_days": 366},
    "days as text": {"user_id": "u1", "lookback_days": "30"},
    "half a day": {"user_id": "u1", "lookback_days": 30.5},
    "yes": {"user_id": "u1", "lookback_days": True},
    "no number": b'{"user_id": "u1", "lookback_days": NaN}',
    "endless": b'{"user_id": "u1", "lookback_days": 1e999}',
    "deep": b'{"user_id": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
}


@pytest.mark.xdist_group("theta requests")
@pytest.mark.parametrize("name", UNFIT)
def test_unreadable_bodies_are_refused_with_400_without_a_database_query(
    name: str, url: str, ledger: UnusedLedger
) -> None:
    answer = post(url, UNFIT[name])
    is_problem(answer, 400, "bad_request")
    assert len(answer.content) < 2_000
    assert ledger.asked == 0


NEXT_ITEM = NEXT_ITEM_PATH.format(test="t")
SESSION = {"user_id": "u1", "session_id": "s1"}
BOTH = 'Send JSON such as {"user_id": "…", "session_id": "…"}.'
EXPLAINED = {
    "no JSON": (PATH, b'{"user_id": "u1"', "The body is not JSON: Expecting ',' delimiter at character 16. Send JSON"),
    "no body": (NEXT_ITEM, b"", BOTH),
    "a missing field": (NEXT_ITEM, {"user_id": "u1"}, f"'session_id': Field required. {BOTH}"),
    "a misspelt field": (
        PATH,
        {"userid": "u1", "user_id": "u1"},
        "'userid': unknown field; did you mean user_id? Send JSON",
    ),
    "a misspelt field of an answer": (
        NEXT_ITEM,
        SESSION | {"answers": [{"item_id": "q", "corect": True}]},
        "'answers.0.corect': unknown field; did you mean correct?",
    ),
    "no similar field": (PATH, {"user_id": "u1", "zzz": 1}, "'zzz': unknown field; must be user_id or lookback_days"),
    "a misspelt parameter": (f"{POSTS_PATH}?dryrun=1", [EXAMPLE], "unknown parameter dryrun: did you mean dry_run?"),
    "no similar parameter": (f"{PATH}?zzz=1", {"user_id": "u1"}, "unknown parameter zzz: this path has no parameters"),
    "a wrong parameter": (f"{POSTS_PATH}?as=zzz", [EXAMPLE], "Input should be 'xapi'. See /openapi.json"),
}


@pytest.mark.xdist_group("theta requests")
@pytest.mark.parametrize("name", EXPLAINED)
def test_detail_of_an_unreadable_request_explains_the_body_of_its_path(name: str, url: str) -> None:
    path, content, expected = EXPLAINED[name]
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    answer = requests.post(url + path, body, headers=headers, timeout=10)
    is_problem(answer, 400, "bad_request")
    assert expected in answer.json()["detail"]


KINDS_ON_PAGE = {
    (int(status), kind)
    for status, kinds in re.findall(
        r"^\| (404|409|422) \| ([^|]*) \|", (ROOT / "docs/reference/theta-api.md").read_text("utf-8"), re.MULTILINE
    )
    for kind in re.findall(r"`(\w+)`", kinds)
}


@pytest.mark.xdist_group("theta requests")
def test_each_type_of_problem_has_a_title_of_its_own() -> None:
    """The other statuses have a single meaning, so that their types may share a title."""
    titles = [json.loads(bytes(Problem(*kind, "why").response().body))["title"] for kind in KINDS_ON_PAGE]
    assert len(titles) == 15
    assert len(set(titles)) == len(titles)
    assert set(titles).isdisjoint(TITLES.values())


@pytest.mark.xdist_group("theta requests")
def test_fields_sent_by_the_documented_exam_service_are_ignored(url: str, ledger: UnusedLedger) -> None:
    body = {"user_id": "u1", "lookback_days": 30, "session_id": "s-17", "model": "2PL", "version": "v1"}
    is_problem(post(url, body), 503, "database_away")
    assert ledger.asked == 1


@pytest.mark.xdist_group("theta requests")
def test_too_large_bodies_are_refused_with_413(url: str, ledger: UnusedLedger) -> None:
    is_problem(post(url, b'{"user_id": "' + b"x" * 17_000 + b'"}'), 413, "too_large")
    chunked = requests.post(
        url + PATH, data=iter([b"x" * 9_000] * 3), headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10
    )
    is_problem(chunked, 413, "too_large")
    assert ledger.asked == 0


@pytest.mark.xdist_group("theta requests")
@pytest.mark.parametrize(
    "user_id", ["u1", "🦊", "o'; DROP TABLE learner; --", "../../etc/passwd", "%s%(user)s", "x" * 600]
)
def test_every_text_is_accepted_as_a_learner_id(user_id: str, url: str, ledger: UnusedLedger) -> None:
    answer = post(url, {"user_id": user_id, "lookback_days": 365})
    is_problem(answer, 503, "database_away")
    assert int(answer.headers["Retry-After"]) > 0
    assert ledger.asked == 1


@pytest.mark.xdist_group("theta requests")
def test_requests_without_a_token_are_refused_before_the_body_is_parsed(url: str) -> None:
    answer = post(url, b"{", token=None)
    is_problem(answer, 401, "no_token")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    is_problem(requests.get(url + HISTORY, timeout=10), 401, "no_token")
    is_problem(requests.get(url + "/invariants/latest", timeout=10), 401, "no_token")


@pytest.mark.xdist_group("theta requests")
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: str(attack.name))
def test_attacks_on_tokens_are_refused_without_a_database_query(attack: Any, url: str, ledger: UnusedLedger) -> None:
    assert post(url, {"user_id": "ann"}, attack.make(Issuer())).status_code in (400, 401, 403), attack
    assert ledger.asked == 0


WHO = {
    "a service": ({"sub": "exam", "roles": ["viewer"], "scope": "exam:write"}, "ann", 503, 503),
    "a learner for herself": ({"sub": "ann", "roles": [], "scope": "exam:write"}, "ann", 503, 503),
    "a learner for another": ({"sub": "bob", "roles": [], "scope": "exam:write"}, "ann", 403, 403),
    "a learner without the scope": ({"sub": "ann", "roles": [], "scope": "openid"}, "ann", 403, 503),
    "an analyst without the scope": ({"sub": "eve", "roles": ["analyst"], "scope": ""}, "ann", 403, 503),
    "a scope that only begins so": ({"sub": "ann", "roles": [], "scope": "exam:writer"}, "ann", 403, 503),
    "another spelling": ({"sub": "Ann", "roles": [], "scope": "exam:write"}, "ann", 403, 403),
}


@pytest.mark.xdist_group("theta requests")
@pytest.mark.parametrize("who", WHO)
def test_updates_require_the_scope_and_learners_access_only_themselves(who: str, url: str) -> None:
    claims, user_id, update, read = WHO[who]
    token = Issuer().token(**claims)
    assert post(url, {"user_id": user_id}, token).status_code == update
    answer = requests.get(url + HISTORY, {"user_id": user_id}, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert answer.status_code == read


POSTERS = {
    "a service": ({"sub": "exam", "roles": ["viewer"], "scope": "exam:write attempts:write"}, 503),
    "a role without the scope": ({"sub": "exam", "roles": ["admin"], "scope": "exam:write"}, 403),
    "a learner with the scope": ({"sub": "ann", "roles": [], "scope": "attempts:write exam:write"}, 403),
    "a scope that only begins so": ({"sub": "exam", "roles": ["viewer"], "scope": "attempts:writer"}, 403),
}


@pytest.mark.xdist_group("theta requests")
@pytest.mark.parametrize("who", POSTERS)
def test_posting_answers_requires_a_role_and_the_scope(who: str, url: str, ledger: UnusedLedger) -> None:
    """A 503 means that the caller was admitted, as the database is unreachable in this test."""
    claims, status = POSTERS[who]
    headers = {"Authorization": f"Bearer {Issuer().token(**claims)}"}
    answer = requests.post(url + POSTS_PATH, json=[EXAMPLE], headers=headers, timeout=10)
    assert answer.status_code == status
    assert ledger.asked == (status == 503)
    assert requests.post(url + POSTS_PATH, json=[EXAMPLE], timeout=10).status_code == 401


EXAM_SERVICES = {
    "a service": ({"sub": "exam", "roles": ["viewer"], "scope": "exam:write"}, 503),
    "a role without the scope": ({"sub": "eve", "roles": ["admin"], "scope": "attempts:write"}, 403),
    "a learner for herself": ({"sub": "ann", "roles": [], "scope": "exam:write"}, 403),
    "a scope that only begins so": ({"sub": "exam", "roles": ["viewer"], "scope": "exam:writer"}, 403),
}


@pytest.mark.xdist_group("theta requests")
@pytest.mark.parametrize("path", [NEXT_ITEM, SEEDS_PATH])
@pytest.mark.parametrize("who", EXAM_SERVICES)
def test_items_of_sessions_require_a_role_and_the_scope(who: str, path: str, url: str, ledger: UnusedLedger) -> None:
    """A 503 means that the caller was admitted, as the database is unreachable in this test."""
    claims, status = EXAM_SERVICES[who]
    headers = {"Authorization": f"Bearer {Issuer().token(**claims)}"}
    content = {"user_id": "ann", "session_id": "s1"} | ({"n": 1} if path == SEEDS_PATH else {})
    answer = requests.post(url + path, json=content, headers=headers, timeout=10)
    assert answer.status_code == status
    assert ledger.asked == (status == 503)


@pytest.mark.xdist_group("theta requests")
def test_learners_may_not_read_invariants(url: str) -> None:
    for roles, status in (([], 403), (["viewer"], 503)):
        headers = {"Authorization": f"Bearer {Issuer().token(roles=roles)}"}
        assert requests.get(url + "/invariants/latest", headers=headers, timeout=10).status_code == status


@pytest.mark.xdist_group("theta requests")
def test_probes_metrics_and_the_openapi_page_respond_and_unknown_pages_return_404(url: str) -> None:
    assert requests.get(url + "/health", timeout=10).json() == {"status": "ok"}
    assert requests.get(url + "/healthz", timeout=10).json() == {"status": "ok"}
    is_problem(requests.get(url + "/ready", timeout=10), 503, "not_ready")
    assert "irt_theta_updates_total" in requests.get(url + "/metrics", timeout=10).text
    described = requests.get(url + "/openapi.json", timeout=10).json()
    assert {PATH, HISTORY, NEXT_ITEM_PATH, SEEDS_PATH, "/ready", "/invariants/latest"} <= set(described["paths"])
    summaries = [method["summary"] for methods in described["paths"].values() for method in methods.values()]
    assert [text for text in summaries if len(text.split()) < 4] == []
    for path in ("/", "/docs"):
        page = requests.get(url + path, timeout=10).text
        assert [text for text in (*summaries, *described["paths"], "/openapi.json") if text not in page] == []
    is_problem(requests.get(url + "/nowhere", timeout=10), 404, "no_such_page")
    is_problem(requests.put(url + "/health", timeout=10), 405, "wrong_method")


@pytest.mark.xdist_group("theta requests")
def test_theta_api_does_not_start_without_valid_access_settings(
    issuer_settings: dict[str, Any], tmp_path: Path
) -> None:
    assert "IRT_THETA_TOKEN" in refusal(build_access, Settings(_env_file=None))
    assert "16 printable" in refusal(Access, "short", None)
    assert "JWT_AUDIENCE" in refusal(build_access, Settings(_env_file=None, **issuer_settings | {"jwt_audience": None}))


def refuse_at_door(path: str, *coming: Any, headers: Any = (), **options: Any) -> tuple[int, Any, str]:
    """Returns status, headers and problem type with which `AccessMiddleware` refuses a request."""
    sent: list[Any] = []
    messages = iter(coming)

    async def nobody(*_: object) -> None:
        pytest.fail("it was asked")

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    door = app.AccessMiddleware(nobody, Access(TOKEN, None), **options)  # type: ignore[arg-type]
    asyncio.run(door({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send))
    start, body = sent
    return start["status"], start["headers"], json.loads(body["body"])["type"]


@pytest.mark.xdist_group("theta requests")
def test_requests_are_shed_before_authentication_if_the_queue_is_full() -> None:
    """Requests without a token or valid JSON are shed too, as checking them costs more than shedding."""
    counted: list[None] = []
    full = {"refusal": lambda _path: app._overload_problem().response(), "shed": lambda: counted.append(None)}
    for path in (PATH, HISTORY, "/api/seedtest/bank/items", "/invariants/latest"):
        status, headers, kind = refuse_at_door(path, **full)
        assert (status, kind, (b"retry-after", b"1") in headers) == (503, "urn:irt:problem:shed", True)
    assert len(counted) == 4


@pytest.mark.xdist_group("theta requests")
def test_truncated_requests_are_refused_as_a_whole() -> None:
    """The first lines are complete and could be stored."""
    first_lines = {"type": "http.request", "body": b'{"user_id": "u"}\n', "more_body": True}
    known = {"headers": [(b"authorization", f"Bearer {TOKEN}".encode())]}
    open_door = {"refusal": lambda _path: None, "shed": lambda: None}
    status, _, kind = refuse_at_door(POSTS_PATH, first_lines, {"type": "http.disconnect"}, **known, **open_door)
    assert (status, kind) == (400, "urn:irt:problem:cut_off")


# -- the contract ------------------------------------------------------------------------------------
# Every response of the θ API matches its own OpenAPI description.

END = Month(rooms.MONTHS[1]).end
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}
ANSWERED, SILENT, CHECKER = "test-user-123", "o'; DROP TABLE learner; --", "🦊"
ODD = UNFIT | {
    "a body of 17 kB": {"user_id": "x" * 17_000},
    "a form": b"user_id=u1",
    "more than JSON": b'{"user_id": "u"} x',
}
DECLARED = [
    status_code_conformance,
    content_type_conformance,
    positive_data_acceptance,
    response_schema_conformance,
    response_headers_conformance,
]
EXAMPLES = hypothesis.settings(
    max_examples=200, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
CONFIG = {
    "generation": {"deterministic": True},
    "checks": {
        "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "503"]},
        "negative_data_rejection": {"expected-statuses": ["4xx", "503"]},
        "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "422", "503"]},
    },
}


@schemathesis.serializer("application/x-ndjson")
def lines(_context: object, value: object) -> bytes:
    return json.dumps(value).encode()


OPENAPI = build_app(Access(TOKEN, None), cast(Ledger, None), 1).openapi()
SCHEMA = schemathesis.openapi.from_dict(OPENAPI, config=SchemathesisConfig.from_dict(CONFIG))


@pytest.fixture(scope="module")
def database_of_it(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A bank of ten items, a learner who answered one item a month, a learner without answers, and a test account."""
    with rooms.copied(
        postgres.start(), migrated_template, "theta_contract", tmp_path_factory.mktemp("contract")
    ) as settings:
        database = Database(settings)
        items = {f"i{k}": {"a": 1.0, "b": k / 5 - 1, "a_se": 0.1, "b_se": 0.1} for k in range(10)}
        rooms.add_items(database, items)
        rooms.add_learners(database, [ANSWERED, SILENT])
        rooms.add_learners(database, [CHECKER], is_test=True)
        at = [END - timedelta(days=1 + 30 * k) for k in range(len(items))]
        rooms.add_attempts(
            database, [rooms.attempt(ANSWERED, item, when) for item, when in zip(items, at, strict=True)]
        )
        initialise(database, rooms.SCALE, first_month=rooms.MONTHS[0], thresholds=rooms.LOWERED)
        policy = Policy.from_yaml(f"test: t1\nscale: {rooms.SCALE}\nlength: {{max: 2}}\n")
        set_policy(database, policy, by="Ann", reason="trial", effective_from=END - timedelta(days=1))
        yield database


@pytest.fixture(scope="module")
def contract_url(database_of_it: Database) -> Iterator[str]:
    ledger = Ledger(database_of_it, 2, clock=lambda: END)
    listening = socket.create_server(("127.0.0.1", 0))
    with unhurried(), serve_in_thread(build_app(Access(TOKEN, None), ledger, 2), [listening]):
        while not ledger.ready:
            assert "starting" in ledger.why_unavailable, ledger.why_unavailable
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.xdist_group("theta contract")
@SCHEMA.parametrize()
@EXAMPLES
def test_responses_to_generated_requests_match_the_description(case: schemathesis.Case, contract_url: str) -> None:
    """Generated requests follow or violate the description, with every method, with and without the token."""
    # A description cannot say that a body may be an object only with as=xapi.
    hypothesis.assume(not (isinstance(case.body, dict) and (case.query or {}).get("as") == "xapi"))
    case.call_and_validate(base_url=contract_url, headers=HEADERS)


GUARDED = [(method, path) for path, one in OPENAPI["paths"].items() for method in one if path[1:4] in ("api", "inv")]


@pytest.mark.xdist_group("theta contract")
@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_unknown_query_parameter_is_refused_on_every_path(method: str, path: str, contract_url: str) -> None:
    """Only the posts refused them; a page of the bank ignored a misspelt `limit`."""
    url = contract_url + path.format(month="2026-01", test="t1")
    answer = requests.request(method, f"{url}?user_id=u&item_id=q&limt=5", json=[], headers=HEADERS, timeout=30)
    assert (answer.status_code, "limt" in answer.json()["detail"]) == (400, True)


@pytest.mark.xdist_group("theta contract")
@pytest.mark.parametrize("path", ["/healthz", "/ready", "/metrics"])
def test_probes_may_add_query_parameters(path: str, contract_url: str) -> None:
    assert requests.get(f"{contract_url}{path}?at=1", timeout=30).status_code == 200


@pytest.mark.xdist_group("theta contract")
@pytest.mark.parametrize("name", ODD)
def test_responses_to_malformed_bodies_match_the_description(name: str, contract_url: str) -> None:
    sent = ODD[name]
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    answer = requests.post(contract_url + PATH, body, headers=JSON | HEADERS, timeout=30)
    SCHEMA[PATH]["POST"].Case().validate_response(answer, checks=DECLARED)


@pytest.mark.xdist_group("theta contract")
@pytest.mark.parametrize(("user_id", "status"), [(ANSWERED, 200), (SILENT, 422), (CHECKER, 422), ("nobody", 404)])
def test_responses_of_every_status_match_the_description(user_id: str, status: int, contract_url: str) -> None:
    for days in (1, 365):
        case = SCHEMA[PATH]["POST"].Case(body={"user_id": user_id, "lookback_days": days})
        assert case.call_and_validate(base_url=contract_url, headers=HEADERS).status_code == status
    shown = SCHEMA[HISTORY]["GET"].Case(query={"user_id": user_id})
    stored = {200: 200, 404: 404}.get(status, 422)
    assert shown.call_and_validate(base_url=contract_url, headers=HEADERS).status_code == stored


@pytest.mark.xdist_group("theta contract")
@pytest.mark.parametrize(
    ("test", "user_id", "items", "status"),
    [
        ("t1", "ann", [], 200),
        ("t1", "ann", ["i0", "i1"], 200),
        ("t1", "bob", [], 409),
        ("t1", "ann", ["nobody"], 422),
        ("t2", "ann", [], 404),
    ],
)
def test_next_items_of_every_status_match_the_description(
    test: str, user_id: str, items: list[str], status: int, contract_url: str
) -> None:
    def answer(test: str, user_id: str, items: list[str]) -> int:
        body = {"user_id": user_id, "session_id": "s1", "answers": [{"item_id": i, "correct": True} for i in items]}
        case = SCHEMA[NEXT_ITEM_PATH]["POST"].Case(path_parameters={"test": test}, body=body)
        excluded = [positive_data_acceptance]
        response = case.call_and_validate(base_url=contract_url, headers=HEADERS, excluded_checks=excluded)
        return int(response.status_code)

    assert answer("t1", "ann", []) == 200
    assert answer(test, user_id, items) == status


@pytest.mark.xdist_group("theta contract")
@pytest.mark.parametrize(
    ("field", "value", "status"),
    [("n", 2, 200), ("n", 51, 400), ("form_id", "nobody", 404), ("topics", ["none"], 404), ("scale_id", "none", 404)],
)
def test_new_items_of_every_status_match_the_description(
    field: str, value: Any, status: int, contract_url: str
) -> None:
    case = SCHEMA[SEEDS_PATH]["POST"].Case(body={"user_id": "ann", "session_id": "s1", "n": 1, field: value})
    excluded = [positive_data_acceptance]
    response = case.call_and_validate(base_url=contract_url, headers=HEADERS, excluded_checks=excluded)
    assert response.status_code == status


@pytest.mark.xdist_group("theta contract")
def test_lookback_days_may_be_written_as_an_integer_or_as_a_whole_float(contract_url: str) -> None:
    """JSON has one kind of number, and JSON Schema calls both an integer."""
    bodies = [f'{{"user_id": "{ANSWERED}", "lookback_days": {days}}}' for days in ("90", "90.0", "9e1")]
    answers = [requests.post(contract_url + PATH, one, headers=JSON | HEADERS, timeout=30) for one in bodies]
    assert [one.status_code for one in answers] == [200] * 3
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert answers[0].json()["n_items"] == 3


@pytest.mark.xdist_group("theta contract")
def test_invariant_pages_with_results_match_the_description(contract_url: str, database_of_it: Database) -> None:
    rooms.run_sql(
        database_of_it,
        """INSERT INTO invariant_result (run, invariant, partition, subject, passed, not_tested, observed)
           VALUES ('r1', 'exposure', '', '', false, 'too few', '1'), ('r1', 'exposure', '', 'i1', false, NULL, NULL)""",
    )
    pages = [SCHEMA[path]["GET"].Case() for path in ("/invariants/latest", "/invariants/history")]
    assert {page.call_and_validate(base_url=contract_url, headers=HEADERS).status_code for page in pages} == {200}


@pytest.mark.xdist_group("theta contract")
def test_a_wrong_method_is_refused_with_the_allowed_method(contract_url: str) -> None:
    answer = requests.get(contract_url + PATH, headers=HEADERS, timeout=30)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.xdist_group("theta contract")
@pytest.mark.parametrize(
    ("revision", "message"),
    [
        (None, "run `irt db upgrade`"),
        (f"{first_revision() - 1:04d}_before", "git checkout"),
        (f"{newest_revision() + 1:04d}_later", "install the newer irt-assets"),
    ],
)
def test_ledger_refuses_a_schema_of_a_different_version(
    revision: str | None, message: str, database_of_it: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.theta_api.parameter_cache.schema_version", lambda _: SchemaVersion(revision))
    ledger = Ledger(database_of_it, 1)
    assert message in refusal(ledger.refresh)
    assert not ledger.ready

"""xAPI statements by HTTP: each is judged by itself, stored once, and withdrawn when it is voided."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests

from irt_assets.intake.arrivals import refused_rows, source_states
from irt_assets.intake.xapi import ANSWERED, VOIDED
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from services.theta_api.access import Access
from services.theta_api.app import build_app
from services.theta_api.ledger import Ledger
from services.theta_api.posts import POSTS_PATH
from tests.helpers.asking import unless_busy
from tests.helpers.door import served
from tests.helpers.rooms import copied, rows
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

pytestmark = pytest.mark.xdist_group("posts")

TOKEN = "a-service-token-of-32-characters"
HOME = "https://exam.example.org/accounts"
PREFIX = "https://exam.example.org/items/"
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)


@pytest.fixture
def database(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Database]:
    with copied(postgres.start(), migrated_template, "statements", tmp_path) as made:
        named = made.model_copy(update={"irt_xapi_home_page": HOME, "irt_xapi_item_prefix": PREFIX})
        with Database(named).connect() as connection:
            ensure_month_partitions(connection, made.irt_first_month, f"{NOW + timedelta(days=1):%Y-%m}")
        yield Database(named)


@pytest.fixture
def url(database: Database) -> Iterator[str]:
    ledger = Ledger(database, 1)
    listening = socket.create_server(("127.0.0.1", 0))
    with served(build_app(Access(TOKEN, None), ledger, 1), [listening]):
        wait_for("it to be ready", lambda: ledger.ready, pause=0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}{POSTS_PATH}"


def uuid(number: int) -> str:
    return str(UUID(int=number))


def statement(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": uuid(number),
        "actor": {"account": {"homePage": HOME, "name": f"u{number}"}},
        "verb": {"id": ANSWERED},
        "object": {"id": f"{PREFIX}q{number}"},
        "result": {"success": number % 2 == 0, "duration": "PT2.5S"},
        "timestamp": NOW.isoformat(),
    } | more


def voiding(number: int) -> dict[str, Any]:
    actor = {"mbox": "mailto:admin@example.org"}
    return {"actor": actor, "verb": {"id": VOIDED}, "object": {"objectType": "StatementRef", "id": uuid(number)}}


def post(url: str, body: Any, **params: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    asked = {"headers": headers, "params": {"as": "xapi"} | params, "timeout": patient(30)}
    return unless_busy(lambda: requests.post(url, json=body, **asked))


def results(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one.get("reason") or one["result"] for one in answer.json()["attempts"]]


def test_statements_become_answers_and_each_is_answered_in_the_order_sent(url: str, database: Database) -> None:
    assert results(post(url, statement(1))) == ["accepted"]
    answer = post(
        url,
        [
            *(statement(1), statement(2), statement(3), statement(4, verb={"id": "http://x/completed"})),
            *(statement(5, result={"score": {"scaled": 0.5}}), statement(6, actor={"openid": "https://a.example.org"})),
            *(statement(7, timestamp=None), statement(8, timestamp="2026-11-20T08:00:00"), "no statement", {}),
            *(statement(1, result={"success": True}), statement(9, object={"id": "https://elsewhere.org/9"})),
        ],
    )
    assert results(answer) == [
        *("duplicate", "accepted", "accepted", "left_out", "bad_score", "not_an_account", "bad_statement", "bad_time"),
        *("bad_json", "bad_statement", "conflicting_duplicate", "other_activity"),
    ]
    counts = {"accepted": 2, "duplicate": 1, "corrected": 0, "rejected": 8, "withdrawn": 0, "left_out": 1}
    assert {name: answer.json()[name] for name in counts} == counts
    assert all(one["what_to_do"] for one in answer.json()["attempts"] if one["result"] == "rejected")
    kept = rows(database, "SELECT attempt_id, item_id, correct, response_time_ms FROM response_log ORDER BY 1")
    assert kept == [(uuid(n), f"q{n}", n % 2 == 0, 2500) for n in (1, 2, 3)]
    assert "example.org" not in str(rows(database, "SELECT user_id FROM response_log"))
    with database.connect() as connection:
        [state] = source_states(connection)
        assert (state.read, state.stored, state.duplicates, state.refused) == (12, 3, 1, 8)
        refused = list(refused_rows(connection))
        assert len(refused) == 8
        assert "openid" not in str(refused) + str(rows(database, """SELECT "row" FROM intake_reject"""))


def test_a_voided_statement_is_withdrawn_by_the_caller_and_does_not_come_back(url: str, database: Database) -> None:
    post(url, [statement(1), statement(2)])
    assert results(post(url, [voiding(1)], dry_run="true")) == ["withdrawn"]
    answer = post(url, [voiding(1), statement(3), voiding(3), voiding(4)])
    assert results(answer) == ["withdrawn", "accepted", "withdrawn", "nothing_to_void"]
    assert (answer.json()["withdrawn"], answer.json()["rejected"]) == (2, 1)
    assert results(post(url, [statement(1), voiding(1)])) == ["withdrawn_attempt", "duplicate"]
    assert rows(database, "SELECT attempt_id FROM response_log") == [(uuid(2),)]
    assert rows(database, "SELECT attempt_id, how, corrected_by, reason FROM attempt_correction ORDER BY 1") == [
        (uuid(n), "withdraw", "service", "voided by an xAPI statement") for n in (1, 3)
    ]


def test_a_post_of_nothing_but_other_verbs_leaves_no_trace(url: str, database: Database) -> None:
    assert results(post(url, statement(1, verb={"id": "http://adlnet.gov/expapi/verbs/launched"}))) == ["left_out"]
    assert rows(database, "SELECT count(*) FROM intake") == [(0,)]
    assert results(post(url, voiding(1))) == ["nothing_to_void"]
    assert rows(database, "SELECT rejected FROM intake") == [({"nothing_to_void": 1},)]


def test_lines_and_gzip_are_read_and_a_line_that_is_none_is_refused_without_a_trace_of_whom(
    url: str, database: Database
) -> None:
    lines = gzip.compress(f'{json.dumps(statement(1))}\n{{"actor": {{"mbox": "mailto:a@b.c"\n'.encode())
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"}
    asked = {"headers": headers, "params": {"as": "xapi"}, "timeout": patient(30)}
    answer = unless_busy(lambda: requests.post(url, lines, **asked))
    assert results(answer) == ["accepted", "bad_json"]
    assert rows(database, """SELECT reason, "row" FROM intake_reject""") == [("bad_json", "")]


def test_what_is_no_statement_at_all_stores_nothing(url: str, database: Database) -> None:
    for body in ([], 7, "x"):
        assert post(url, body).status_code == 400
    assert post(url, statement(1), **{"as": "caliper"}).status_code == 400
    asked = {"headers": {"Authorization": f"Bearer {TOKEN}"}, "timeout": patient(30)}
    assert unless_busy(lambda: requests.post(url, json=statement(1), **asked)).status_code == 400

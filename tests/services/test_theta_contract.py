"""The θ API against its own description: however it is asked, the answer is one that is declared.

What each refusal is and costs is in `test_theta_requests`, what θ is in `integration/test_theta_api`.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import cast

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema_version import SchemaVersion, first_known, newest_known
from services.theta_api.access import Access
from services.theta_api.app import build_app
from services.theta_api.ledger import Ledger
from services.theta_client.api import PATH
from tests.helpers import rooms
from tests.helpers.door import served
from tests.services.test_theta_requests import HISTORY, TOKEN, UNFIT, unhurried

pytestmark = pytest.mark.xdist_group("theta contract")

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
        "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "422", "503"]},
    },
}


@schemathesis.serializer("application/x-ndjson")
def lines(_context: object, value: object) -> bytes:
    return json.dumps(value).encode()


SCHEMA = schemathesis.openapi.from_dict(
    build_app(Access(TOKEN, None), cast(Ledger, None), 1).openapi(), config=SchemathesisConfig.from_dict(CONFIG)
)


@pytest.fixture(scope="module")
def database_of_it(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A bank of ten items, a learner who answered one a month, one who answered none, and a test account."""
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
        yield database


@pytest.fixture(scope="module")
def url(database_of_it: Database) -> Iterator[str]:
    ledger = Ledger(database_of_it, 2, clock=lambda: END)
    listening = socket.create_server(("127.0.0.1", 0))
    with unhurried(), served(build_app(Access(TOKEN, None), ledger, 2), [listening]):
        while not ledger.ready:
            assert "starting" in ledger.why_away, ledger.why_away
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@SCHEMA.parametrize()
@EXAMPLES
def test_whatever_is_made_up_is_answered_as_declared(case: schemathesis.Case, url: str) -> None:
    """With what the description allows and what it does not, by every method, with and without the token."""
    # A description cannot say that a body may be an object only with as=xapi.
    hypothesis.assume(not (isinstance(case.body, dict) and (case.query or {}).get("as") == "xapi"))
    case.call_and_validate(base_url=url, headers=HEADERS)


@pytest.mark.parametrize("name", ODD)
def test_what_people_send_by_mistake_is_answered_as_declared(name: str, url: str) -> None:
    sent = ODD[name]
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    answer = requests.post(url + PATH, body, headers=JSON | HEADERS, timeout=30)
    SCHEMA[PATH]["POST"].Case().validate_response(answer, checks=DECLARED)


@pytest.mark.parametrize(("user_id", "status"), [(ANSWERED, 200), (SILENT, 422), (CHECKER, 422), ("nobody", 404)])
def test_every_outcome_is_as_declared(user_id: str, status: int, url: str) -> None:
    for days in (1, 365):
        asked = SCHEMA[PATH]["POST"].Case(body={"user_id": user_id, "lookback_days": days})
        assert asked.call_and_validate(base_url=url, headers=HEADERS).status_code == status
    shown = SCHEMA[HISTORY]["GET"].Case(query={"user_id": user_id})
    stored = {200: 200, 404: 404}.get(status, 422)
    assert shown.call_and_validate(base_url=url, headers=HEADERS).status_code == stored


def test_the_days_may_be_written_as_30_or_as_30_0(url: str) -> None:
    """JSON has one kind of number, and JSON Schema calls both an integer."""
    asked = [f'{{"user_id": "{ANSWERED}", "lookback_days": {days}}}' for days in ("90", "90.0", "9e1")]
    answers = [requests.post(url + PATH, one, headers=JSON | HEADERS, timeout=30) for one in asked]
    assert [one.status_code for one in answers] == [200] * 3
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert answers[0].json()["n_items"] == 3


def test_a_page_with_something_on_it_is_as_declared(url: str, database_of_it: Database) -> None:
    rooms.run_sql(
        database_of_it,
        """INSERT INTO invariant_result (run, invariant, partition, subject, passed, not_tested, observed)
           VALUES ('r1', 'exposure', '', '', false, 'too few', '1'), ('r1', 'exposure', '', 'i1', false, NULL, NULL)""",
    )
    for path in ("/invariants/latest", "/invariants/history"):
        assert SCHEMA[path]["GET"].Case().call_and_validate(base_url=url, headers=HEADERS).status_code == 200


def test_a_method_that_is_not_there_is_told_which_is(url: str) -> None:
    answer = requests.get(url + PATH, headers=HEADERS, timeout=30)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        (None, "run `irt db upgrade`"),
        (f"{first_known() - 1:04d}_before", "git checkout"),
        (f"{newest_known() + 1:04d}_later", "install the newer irt-assets"),
    ],
)
def test_nothing_is_read_from_a_schema_that_is_not_for_this_code(
    revision: str | None, said: str, database_of_it: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.theta_api.ledger.schema_version", lambda _: SchemaVersion(revision))
    ledger = Ledger(database_of_it, 1)
    with pytest.raises(PermanentFailure, match=said):
        ledger.refresh()
    assert not ledger.ready

"""A request to the θ API as a trace: from the request to each statement, and to the line in the log."""

from __future__ import annotations

import io
import json
import logging
import socket

import pytest
import requests
from pydantic import SecretStr

from resources.postgres.database import Database
from resources.serving import logs, traces
from resources.settings import Settings
from services.theta_api.server import theta_app
from services.theta_client.api import PATH
from tests.helpers.asking import unless_busy
from tests.helpers.collector import collector
from tests.helpers.door import port_of, served
from tests.helpers.rooms import add_attempts, attempt, rows
from tests.integration.test_theta_api import HEADERS, TOKEN
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

pytestmark = pytest.mark.xdist_group("theta api")

ANN = "ann-7@example.org"


def test_a_request_is_a_trace_down_to_its_statements_and_names_nobody(
    world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(world)
    item = rows(database, "SELECT item_id FROM item_parameter_publication ORDER BY 1 LIMIT 1")[0][0]
    add_attempts(database, [attempt(ANN, item, rows(database, "SELECT now() - interval '1 hour'")[0][0])])
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logs.Formatter())
    log = logging.getLogger("services.theta_api")
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(log, "level", logging.INFO)
    with collector() as received:
        settings = world.model_copy(
            update={"irt_theta_token": SecretStr(TOKEN), "otel_exporter_otlp_endpoint": received.endpoint}
        )
        assert traces.start("theta-api", settings)
        listening = socket.create_server(("127.0.0.1", 0))
        with served(theta_app(settings), [listening]):
            url = f"http://127.0.0.1:{port_of(listening)}"
            wait_for("it to be ready", lambda: requests.get(f"{url}/ready", timeout=30).status_code == 200, pause=0.02)
            asked = unless_busy(
                lambda: requests.post(url + PATH, json={"user_id": ANN}, headers=HEADERS, timeout=patient(30))
            )
            assert asked.status_code == 200, asked.text
            theta = "/api/seedtest/analysis/irt/theta"
            shown = unless_busy(
                lambda: requests.get(url + theta, {"user_id": ANN}, headers=HEADERS, timeout=patient(30))
            )
            assert shown.status_code == 200, shown.text
        traces.stop()
    posts = [span for span in received.spans if span.name == f"POST {PATH}"]
    (request,) = [span for span in posts if span.attributes["http.status_code"] != 503]
    assert (request.service, request.parent) == ("irt-theta-api", "")
    assert (request.attributes["http.route"], request.attributes["http.status_code"]) == (PATH, 200)
    (transaction,) = received.below(request)
    statements = received.below(transaction)
    assert [span.name for span in statements] == [
        "SELECT learner",
        "SELECT pg_advisory_xact_lock",
        "SELECT attempt_verdict",
        "SELECT attempt",
        "INSERT mirt_ability",
    ]
    assert statements[0].attributes == {"db.system.name": "postgresql", "db.operation.name": "SELECT"}
    assert {span.trace_id for span in (transaction, *statements)} == {request.trace_id}
    assert {span.name for span in received.spans if not span.parent} == {f"POST {PATH}", f"GET {theta}"}
    sent = b"".join(received.bodies)
    assert b"ann-7" not in sent
    assert b"user_id" not in sent
    assert ANN not in written.getvalue()
    (line,) = [json.loads(line) for line in written.getvalue().splitlines() if "theta: updated in" in line]
    assert (line["trace_id"], line["span_id"]) == (request.trace_id, request.span_id)

"""The θ API over HTTP and on a real database: the document's request, learners without θ, a database with outages.

Its clock shows the end of the small world's last month.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import psycopg
import pytest
import requests
from pydantic import SecretStr

from irt_assets.abilities.batch import measure
from irt_assets.abilities.online import read_measures, update
from irt_assets.abilities.sweep import Mark, SweepResult, online_updates_are_on, sweep
from irt_assets.common.partitions import Month
from irt_assets.runs.in_process_runs import SENSORS
from jobs.sensors import build_theta_sensor
from resources.postgres.database import Database, lock_key
from resources.serving import logs, traces
from resources.settings import Settings
from services.theta_api.access import Access
from services.theta_api.app import build_app
from services.theta_api.parameter_cache import Ledger
from services.theta_api.server import theta_app
from services.theta_client import api as client
from services.theta_client.api import PATH
from tests.helpers.asking import kind, unless_busy, unless_shed
from tests.helpers.collector import collector
from tests.helpers.databases import READ_ONLY, altered
from tests.helpers.door import ROOT, port_of, serve_in_thread
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, add_items, add_learners, attempt, rows, run_sql
from tests.testbed.machine import free_port
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

END = Month(MONTHS[1]).end
TOKEN = "a-service-token-of-32-characters"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class Api:
    def __init__(self, url: str, ledger: Ledger, database: Database) -> None:
        self.url, self.ledger, self.database = url, ledger, database

    def update(self, user_id: str, days: int = 365) -> requests.Response:
        return unless_busy(lambda: self.update_at_once(user_id, days))

    def update_unless_shed(self, user_id: str) -> requests.Response:
        return unless_shed(lambda: self.update_at_once(user_id))

    def update_at_once(self, user_id: str, days: int = 365) -> requests.Response:
        content = {"user_id": user_id, "lookback_days": days}
        return requests.post(self.url + PATH, json=content, headers=HEADERS, timeout=30)

    def theta(self, user_id: str) -> requests.Response:
        path = "/api/seedtest/analysis/irt/theta"
        return unless_busy(lambda: requests.get(self.url + path, {"user_id": user_id}, headers=HEADERS, timeout=30))

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, headers=HEADERS, timeout=30)

    @property
    def is_ready(self) -> bool:
        return self.get("/ready").status_code == 200


@contextmanager
def running(settings: Settings, connections: int = 2) -> Iterator[Api]:
    ledger = Ledger(Database(settings), connections, clock=lambda: END)
    listening = socket.create_server(("127.0.0.1", 0))
    with serve_in_thread(build_app(Access(TOKEN, None), ledger, connections), [listening]):
        api = Api(f"http://127.0.0.1:{listening.getsockname()[1]}", ledger, Database(settings))
        wait_for("it to be ready", lambda: api.is_ready, pause=0.02)
        yield api


def published_item(database: Database) -> str:
    return str(rows(database, "SELECT min(item_id) FROM item_parameter_publication")[0][0])


@pytest.fixture(scope="module")
def api(calibrated: Settings) -> Iterator[Api]:
    measure(Database(calibrated), MONTHS[1], "run")
    with running(calibrated) as made:
        yield made


@pytest.fixture
def someone(api: Api) -> str:
    return str(
        rows(api.database, "SELECT user_id FROM mirt_ability WHERE kind = 'monthly' ORDER BY theta LIMIT 1")[0][0]
    )


@pytest.mark.xdist_group("theta api")
def test_the_documents_request_has_the_documents_answer_and_the_months_theta(api: Api, someone: str) -> None:
    answer = api.update(someone).json()
    monthly = rows(
        api.database,
        "SELECT theta, se, se_total, n_items, set_hash FROM mirt_ability WHERE user_id = %s AND kind = 'monthly'",
        (someone,),
    )[0]
    assert list(answer)[:6] == ["user_id", "theta", "se", "model", "version", "updated_at"]
    assert answer["user_id"] == someone
    assert (answer["theta"], answer["se"], answer["se_total"]) == pytest.approx(monthly[:3], abs=6e-7, rel=0)
    assert answer["se"] < answer["se_total"] < 1.5 * answer["se"]
    assert (answer["n_items"], answer["set_hash"]) == monthly[3:]
    assert (answer["model"], answer["version"]) == ("2PL", "v1")
    assert (answer["updated_at"], answer["scale_id"]) == ("2026-08-01T00:00:00Z", SCALE)
    assert answer["by_scale"][SCALE]["theta"] == answer["theta"]
    online = "SELECT * FROM mirt_ability WHERE kind = 'online' AND user_id = %s"
    (before,) = rows(api.database, online, (someone,))
    assert api.update(someone).json() == answer
    assert rows(api.database, online, (someone,)) == [before]


@pytest.mark.xdist_group("theta api")
def test_only_a_request_of_the_session_hook_switches_the_sweep_on(
    api: Api, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The setting may exist only in the exam service."""
    learners = rows(api.database, "SELECT user_id FROM mirt_ability WHERE kind = 'monthly' ORDER BY 1")
    someone = next(user for (user,) in learners if api.update(user, 30).status_code == 200)
    assert not online_updates_are_on(api.database)
    client.read_address.cache_clear()
    request.addfinalizer(client.read_address.cache_clear)
    monkeypatch.setenv("IRT_THETA_URL", api.url)
    monkeypatch.setenv("IRT_THETA_TOKEN", TOKEN)

    def sent() -> bool:
        try:
            client.update_theta(someone)
        except client.UpdateFailed:
            return False
        return True

    wait_for("an answer within the second that the hook waits", sent)
    assert online_updates_are_on(api.database)


@pytest.mark.xdist_group("theta api")
def test_theta_page_shows_the_latest_theta_and_its_history(api: Api, someone: str) -> None:
    updated = api.update(someone).json()
    shown = api.theta(someone).json()
    assert shown["theta"] == pytest.approx(updated["theta"], abs=1e-12, rel=0)
    assert set(updated) < set(shown)
    assert {one["kind"] for one in shown["history"]} == {"online", "monthly"}


@pytest.mark.xdist_group("theta api")
def test_concurrent_updates_of_a_learner_write_a_single_row_and_return_the_same_theta(api: Api) -> None:
    user = str(rows(api.database, "SELECT user_id FROM mirt_ability WHERE kind = 'monthly' ORDER BY 1 LIMIT 1")[0][0])
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: api.update_at_once(user), range(24)))
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert len({answer.text for answer in answers if answer.status_code == 200}) == 1
    online = "SELECT count(*) FROM mirt_ability WHERE kind = 'online' AND user_id = %s"
    assert rows(api.database, online, (user,)) == [(1,)]


@pytest.mark.xdist_group("theta api")
def test_request_without_a_theta_is_refused_with_the_reason(api: Api) -> None:
    assert kind(api.theta("nobody")) == (404, "unknown_learner")
    for user in ("nobody", "../../etc/passwd", "o'; DROP TABLE learner; --", "🦊", "%s", "x" * 600):
        assert kind(api.update(user)) == (404, "unknown_learner")
    add_learners(api.database, ["silent"])
    add_learners(api.database, ["checker"], is_test=True)
    run_sql(api.database, "INSERT INTO learner (user_id, target_scale_id) VALUES ('aims', 'another scale')")
    assert kind(api.update("silent")) == kind(api.theta("silent")) == (422, "no_answers")
    assert kind(api.update("checker")) == (422, "test_account")
    assert kind(api.update("aims")) == (409, "nothing_published")
    run_sql(api.database, "DELETE FROM learner WHERE user_id IN ('silent', 'checker', 'aims')")


@pytest.mark.xdist_group("theta api")
def test_answer_states_how_far_sources_were_read_if_answers_are_pulled(
    api: Api, someone: str, request: pytest.FixtureRequest
) -> None:
    fields = ("waiting_for", "answers_until")
    add_learners(api.database, ["silent"])
    assert [api.update(someone).json()[name] for name in fields] == [None, None]
    request.addfinalizer(lambda: run_sql(api.database, "DELETE FROM pull_source"))
    request.addfinalizer(lambda: run_sql(api.database, "DELETE FROM learner WHERE user_id = 'silent'"))
    read = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    state = """INSERT INTO pull_source (name, columns, position, notices_regrading, first_pull, pulled_at)
               VALUES (%s, '{}', '[1, 1]', true, %s, %s)"""
    run_sql(api.database, state, ("lms", None, read))
    run_sql(api.database, state, ("app", None, read + timedelta(seconds=9)))
    run_sql(api.database, state, ("gone", None, read - timedelta(days=8)))
    for answer in (api.update(someone), api.theta(someone), api.update("silent")):
        assert [answer.json()[name] for name in fields] == ["pull", f"{read:%Y-%m-%dT%H:%M:%SZ}"]
    run_sql(api.database, """UPDATE pull_source SET first_pull = '{"days": []}' WHERE name = 'app'""")
    assert [api.update(someone).json()[name] for name in fields] == ["pull", None]


@pytest.mark.xdist_group("theta api")
def test_theta_is_refused_if_no_parameters_are_published(database: Database, settings: Settings) -> None:
    add_items(database, {"i1": None})
    add_learners(database, ["ann"])
    add_attempts(database, [attempt("ann", "i1", END - timedelta(days=1))])
    with running(settings) as api:
        assert kind(api.update("ann")) == (409, "nothing_published")
        assert kind(unless_busy(lambda: api.get("/invariants/latest"))) == (404, "no_report")
    assert rows(database, "SELECT count(*) FROM mirt_ability") == [(0,)]


@pytest.mark.xdist_group("theta api")
def test_theta_of_the_target_scale_is_returned_if_a_learner_has_two_scales(world: Settings) -> None:
    """Numbers from a single right answer are finite and shrunk to the mean. A target scale without answers has no
    number."""
    database = Database(world)
    item = published_item(database)
    run_sql(database, "INSERT INTO question (item_id, scale_id, topic_id) VALUES ('other', 'other', 'topic')")
    run_sql(
        database,
        """INSERT INTO calibration_scale SELECT * FROM jsonb_populate_record(null::calibration_scale,
             (SELECT to_jsonb(c) FROM calibration_scale c) || '{"scale_id": "other"}')""",
    )
    run_sql(
        database,
        """INSERT INTO item_parameter_publication (scale_id, item_id, parameters, effective_from, rule, reason,
             anchor_hash, code_version)
           VALUES ('other', 'other', '{"a": 1, "b": 0, "c": 0}', %s, 'origin', 'a test', '', '')""",
        (END - timedelta(days=90),),
    )
    at = END - timedelta(days=1)
    add_attempts(database, [attempt("both", item, at), attempt("both", "other", at), attempt("one", item, at)])
    run_sql(database, "UPDATE learner SET target_scale_id = 'other' WHERE user_id IN ('both', 'one')")
    with running(world) as api:
        both = api.update("both").json()
        assert (both["scale_id"], set(both["by_scale"])) == ("other", {SCALE, "other"})
        # One right answer to an item with a = 1, b = 0 against N(0, 1): E θ = ∫ θ Φ'(θ) logistic(θ) dθ · 2 = 0.4132
        assert both["theta"] == pytest.approx(0.4132, abs=1e-4)
        one = api.update("one")
        assert kind(one) == (422, "no_answers")
        assert set(one.json()["by_scale"]) == {SCALE}
        stored = "SELECT user_id, count(*) FROM mirt_ability WHERE kind = 'online' GROUP BY 1"
        assert rows(database, stored) == [("both", 2)]  # a refused request stores nothing


@pytest.mark.xdist_group("theta api")
def test_lost_database_returns_503_and_a_returned_database_needs_no_restart(
    world: Settings, world_database: Database
) -> None:
    user = "ann"
    add_attempts(world_database, [attempt(user, published_item(world_database), END - timedelta(days=1))])
    with running(world) as api:
        before = api.update(user).json()
        with altered(world, "RESET work_mem", "RESET work_mem"):
            assert api.update_unless_shed(user).json() == before, (
                "a connection that was lost meanwhile is nobody's trouble"
            )
        with altered(world, "ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"):
            answer = api.update_unless_shed(user)
            assert kind(answer) == (503, "database_away")
            assert int(answer.headers["Retry-After"]) > 0
            assert (api.get("/ready").status_code, api.get("/health").status_code) == (503, 200)
        wait_for("it to come back", lambda: api.is_ready, pause=0.02)
        wait_for("it to come back", lambda: api.update(user).status_code == 200, pause=0.02)
        assert api.update(user).json() == before


@pytest.mark.xdist_group("theta api")
def test_read_only_database_returns_503_with_the_reason_for_updates_and_serves_reads(
    world: Settings, world_database: Database
) -> None:
    add_attempts(world_database, [attempt("ann", published_item(world_database), END - timedelta(days=1))])
    with running(world) as api:
        with altered(world, *READ_ONLY):
            answer = api.update_unless_shed("ann")
            assert kind(answer) == (503, "database_away")
            assert "is read-only at the moment" in answer.json()["detail"]
            assert int(answer.headers["Retry-After"]) > 0
            history = unless_shed(lambda: api.get("/invariants/history"))
            assert (api.get("/ready").status_code, history.status_code) == (200, 200)
        wait_for("it to come back", lambda: api.update("ann").status_code == 200, pause=0.02)


@pytest.mark.xdist_group("theta api")
def test_locked_learner_returns_503_and_does_not_block_further_learners(world: Settings) -> None:
    database = Database(world)
    at = END - timedelta(days=1)
    add_attempts(database, [attempt(user, published_item(database), at) for user in ("ann", "bob")])
    with running(world) as api, ThreadPoolExecutor(3) as threads:
        with psycopg.connect(database.url) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key("theta", "ann"),))
            kinds: set[tuple[int, str]] = set()

            def asked_for_ann() -> bool:
                """One waits for the lock, and the other for its turn, unless both are shed before they wait."""
                held = [threads.submit(api.update_at_once, "ann") for _ in range(2)]
                wait_for("one", lambda: in_flight(api) or all(one.done() for one in held), pause=0.02)
                assert api.update_unless_shed("bob").status_code == 200
                kinds.update(kind(one.result()) for one in held)
                return kinds >= {(503, "shed"), (503, "database_away")}

            wait_for("both", asked_for_ann)
        assert {status for status, _ in kinds} == {503}
        assert api.update("ann").status_code == 200


def in_flight(api: Api) -> bool:
    return "irt_theta_in_flight 0.0" not in api.get("/metrics").text


@pytest.mark.xdist_group("theta api")
def test_locked_log_returns_503_after_two_seconds(world: Settings) -> None:
    database = Database(world)
    someone = str(rows(database, "SELECT min(user_id) FROM attempt")[0][0])
    with running(world) as api:
        assert api.update(someone).status_code == 200
        with database.connect() as other:
            other.execute("LOCK TABLE response_log IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            refused = api.update_unless_shed(someone)
            assert time.monotonic() - began < patient(3)
            assert kind(refused) == (503, "database_away")
            assert int(refused.headers["Retry-After"]) >= 1
            assert api.is_ready
            other.rollback()
        assert api.update(someone).status_code == 200


@pytest.mark.xdist_group("theta api")
def test_invariants_pages_equal_the_stored_results(world: Settings) -> None:
    database = Database(world)
    run_sql(
        database,
        """INSERT INTO invariant_result (run, invariant, partition, subject, passed, not_tested, observed, expected,
             fix)
           VALUES ('r1', 'exposure', '', '', false, 'too few', '1 violations', NULL, NULL),
                  ('r1', 'exposure', '2026-07', 'i1', false, NULL, '40', '30', 'show it less')""",
    )
    with running(world) as api:
        latest = unless_busy(lambda: api.get("/invariants/latest")).json()
        history = unless_busy(lambda: api.get("/invariants/history")).json()
    assert (latest["run"], latest["incomplete"]) == ("r1", [{"invariant": "exposure", "why": "too few"}])
    assert [v["subject"] for v in latest["invariants"][0]["violations"]] == ["i1"]
    assert [(run["run"], run["held"], run["of"]) for run in history["runs"]] == [("r1", 0, 1)]
    assert history["violations"][0]["resolved_at"] is None


PATIENT = """
from services.theta_api import app, parameter_cache
from services.theta_api.__main__ import main
parameter_cache.OPTIONS = parameter_cache.OPTIONS.replace(f"_timeout={parameter_cache.STATEMENT_S}s", "_timeout=300s")
app.LIMIT_S = 300
main()
"""


@pytest.mark.xdist_group("theta api")
@pytest.mark.ci
def test_process_answers_pending_requests_before_its_end(world_database: Database, tmp_path: Path) -> None:
    """A request waits for a lock, TERM arrives, and the lock is released. The limit of two seconds is raised for
    this test."""
    add_attempts(
        world_database, [attempt("ann", published_item(world_database), datetime.now(UTC) - timedelta(hours=1))]
    )
    port, metrics = free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "IRT_HOME": str(tmp_path / "irt"),
        "DATABASE_URL": world_database.url,
        "IRT_THETA_TOKEN": TOKEN,
        "IRT_THETA_PORT": str(port),
        "PROMETHEUS_METRICS_PORT": str(metrics),
    }
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return requests.get(f"{url}/ready", timeout=5).status_code == 200
        except (requests.ConnectionError, requests.Timeout):  # while it loads its parameters
            return False

    with (tmp_path / "log").open("wb") as log:
        child = subprocess.Popen([sys.executable, "-c", PATIENT], env=environment, stderr=log, stdout=log)
        try:
            wait_for("it to be ready", lambda: child.poll() is not None or is_ready(), pause=0.02)
            with ThreadPoolExecutor(1) as threads, psycopg.connect(world_database.url) as other:
                other.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key("theta", "ann"),))
                asking = threads.submit(
                    unless_shed,
                    lambda: requests.post(url + PATH, json={"user_id": "ann"}, headers=HEADERS, timeout=patient(30)),
                )
                wait_for(
                    "it came",
                    lambda: "irt_theta_in_flight 1.0" in requests.get(f"{url}/metrics", timeout=30).text,
                    pause=0.02,
                )
                assert "irt_theta_in_flight 1.0" in requests.get(f"http://127.0.0.1:{metrics}/metrics", timeout=30).text
                child.send_signal(signal.SIGTERM)
            assert asking.result().status_code == 200, asking.result().text
            assert child.wait(patient(30)) in (0, -signal.SIGTERM)
        finally:
            child.kill()
            child.wait(patient(10))
    log = (tmp_path / "log").read_text("utf-8")
    assert "theta: updated in" in log
    assert "ann" not in re.findall(r"\w+", log)


# -- traces ------------------------------------------------------------------------------------------
# A request to the θ API as a trace: from the request to its transaction, and to the line in the log.

ANN = "ann-7@example.org"


@pytest.mark.xdist_group("theta api")
def test_request_is_traced_with_its_transaction_and_without_the_learners_id(
    world: Settings,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = Database(world)
    item = rows(database, "SELECT item_id FROM item_parameter_publication ORDER BY 1 LIMIT 1")[0][0]
    add_attempts(database, [attempt(ANN, item, rows(database, "SELECT now() - interval '1 hour'")[0][0])])
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logs.Formatter())
    log = logging.getLogger("services.theta_api")
    log.addHandler(handler)
    request.addfinalizer(partial(log.removeHandler, handler))
    caplog.set_level(logging.INFO, log.name)
    with collector() as received:
        settings = world.model_copy(
            update={"irt_theta_token": SecretStr(TOKEN), "otel_exporter_otlp_endpoint": received.endpoint}
        )
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.endpoint)  # otherwise it stays set after the test
        assert traces.start("theta-api", settings)
        listening = socket.create_server(("127.0.0.1", 0))
        with serve_in_thread(theta_app(settings), [listening]):
            url = f"http://127.0.0.1:{port_of(listening)}"
            wait_for("it to be ready", lambda: requests.get(f"{url}/ready", timeout=30).status_code == 200, pause=0.02)
            response = unless_busy(
                lambda: requests.post(url + PATH, json={"user_id": ANN}, headers=HEADERS, timeout=patient(30))
            )
            assert response.status_code == 200, response.text
            theta = "/api/seedtest/analysis/irt/theta"
            shown = unless_busy(
                lambda: requests.get(url + theta, {"user_id": ANN}, headers=HEADERS, timeout=patient(30))
            )
            assert shown.status_code == 200, shown.text
        traces.stop()
    posts = [span for span in received.spans if span.name == f"POST {PATH}"]
    (root,) = [span for span in posts if span.attributes["http.status_code"] != 503]
    assert (root.service, root.parent) == ("irt-theta-api", "")
    assert (root.attributes["http.route"], root.attributes["http.status_code"]) == (PATH, 200)
    (transaction,) = received.children_of(root)
    assert (transaction.name, transaction.trace_id) == ("transaction", root.trace_id)
    assert {span.name for span in received.spans if not span.parent} == {f"POST {PATH}", f"GET {theta}"}
    sent = b"".join(received.bodies)
    assert b"ann-7" not in sent
    assert b"user_id" not in sent
    assert ANN not in written.getvalue()
    (line,) = [json.loads(line) for line in written.getvalue().splitlines() if "theta: updated in" in line]
    assert (line["trace_id"], line["span_id"]) == (root.trace_id, root.span_id)


# -- the sweep ---------------------------------------------------------------------------------------
# The sweep finds learners with answers newer than their θ, measures each once, and resumes after a stop.


@pytest.fixture
def answered(world: Settings, now: datetime) -> Database:
    """A database with answers of ann, bob and eve half an hour ago, recorded one minute apart, after all others."""
    database = Database(world)
    item = rows(database, "SELECT item_id FROM item_parameter_publication ORDER BY 1 LIMIT 1")[0][0]
    run_sql(database, "UPDATE response_log SET recorded_at = completed_at")
    add_attempts(database, [attempt(user, item, now - timedelta(minutes=30)) for user in ("ann", "bob", "eve")])
    for user, minutes in (("ann", 20), ("bob", 19), ("eve", 18)):
        recorded(database, user, minutes)
    return database


def recorded(database: Database, user: str, minutes: float) -> None:
    run_sql(
        database,
        "UPDATE response_log SET recorded_at = %s WHERE user_id = %s",
        (datetime.now(UTC) - timedelta(minutes=minutes), user),
    )


def online(database: Database) -> list[str]:
    return [user for (user,) in rows(database, "SELECT user_id FROM mirt_ability WHERE kind = 'online' ORDER BY 1")]


def test_sweep_updates_learners_without_a_request_once_each(answered: Database) -> None:
    with answered.connect() as connection:
        now = datetime.now(UTC)
        update(connection, read_measures(connection, now), "bob", 30, now)
    first = sweep(answered, None, 60)
    assert (first.looked_at, first.updated) == (2, 2)
    assert online(answered) == ["ann", "bob", "eve"]
    before = rows(answered, "SELECT * FROM mirt_ability WHERE kind = 'online' ORDER BY user_id")
    assert sweep(answered, first.mark.write(), 60).looked_at == 0
    assert sweep(answered, None, 60).looked_at == 0, "without its mark it sees that they are measured"
    assert rows(answered, "SELECT * FROM mirt_ability WHERE kind = 'online' ORDER BY user_id") == before


def test_sweep_updates_a_theta_that_was_requested_while_a_pull_stored_answers(answered: Database) -> None:
    """Begins the pull before the request, and commits it after the request."""
    run_sql(answered, "UPDATE response_log SET pulled_from = 1 WHERE user_id IN ('ann', 'bob')")
    for user, minutes in (("ann", 20), ("bob", 19)):
        recorded(answered, user, minutes)
    with answered.connect() as connection:
        now = datetime.now(UTC)
        for user in ("ann", "bob", "eve"):
            update(connection, read_measures(connection, now), user, 30, now)
    fitted = "UPDATE mirt_ability SET fitted_at = %s WHERE kind = 'online' AND user_id = %s"
    for user, minutes in (("ann", 19.5), ("bob", 17.9), ("eve", 17.5)):
        run_sql(answered, fitted, (now - timedelta(minutes=minutes), user))
    swept = sweep(answered, None, 60)
    assert (swept.looked_at, swept.updated) == (1, 1), "ann's: the others' requests came after the commit"


def test_sweep_resumes_after_a_timeout_even_among_answers_of_the_same_moment(answered: Database) -> None:
    moment = datetime.now(UTC) - timedelta(minutes=20)
    run_sql(answered, "UPDATE response_log SET recorded_at = %s WHERE user_id IN ('ann', 'bob', 'eve')", (moment,))
    rest = sweep(answered, Mark(moment, "ann").write(), 60)
    assert (rest.looked_at, online(answered)) == (2, ["bob", "eve"])
    stopped = sweep(answered, Mark(moment - timedelta(seconds=1)).write(), -1.0)
    assert stopped == SweepResult(Mark(moment - timedelta(seconds=1)), 0, 0)


def test_sweep_ignores_test_accounts_and_sandbox_and_new_and_imported_answers(
    answered: Database,
) -> None:
    """New answers are of this minute; imported answers are older than their arrival."""
    add_learners(answered, ["ann"], is_test=True)
    run_sql(answered, "UPDATE response_log SET mode = 'sandbox' WHERE user_id = 'bob'")
    recorded(answered, "eve", 0)
    someone = rows(answered, "SELECT min(user_id) FROM response_log WHERE user_id NOT IN ('ann', 'bob', 'eve')")[0][0]
    recorded(answered, someone, 5)
    swept = sweep(answered, None, 60)
    assert (swept.looked_at, online(answered)) == (0, [])
    recorded(answered, "eve", 2)
    assert sweep(answered, swept.mark.write(), 60).updated == 0, "its mark is a minute ago"
    assert sweep(answered, None, 60).updated == 1


def test_sweep_waits_if_no_parameters_are_published(database: Database) -> None:
    assert sweep(database, None, 60).why == "nothing is published"


@pytest.mark.parametrize(
    ("of_the_daemon", "of_the_api", "works"),
    [
        (False, (), False),
        (True, (), True),
        (False, (True,), True),
        (False, (True, False), False),
        (True, (False,), True),
    ],
)
def test_theta_sensor_works_only_if_the_daemon_or_the_last_started_api_has_the_setting(
    of_the_daemon: bool, of_the_api: tuple[bool, ...], works: bool, answered: Database, world: Settings
) -> None:
    assert "theta_sweep" in SENSORS
    for on in of_the_api:
        ledger = Ledger(Database(world.model_copy(update={"enable_irt_online_update": on})), 1)
        ledger.start()
        ledger.wait_for_first_read()
        ledger.stop()
    sensor = build_theta_sensor(world.model_copy(update={"enable_irt_online_update": of_the_daemon}))
    context = dg.build_sensor_context(resources={"database": answered}, sensor_name="theta_sweep")
    with context:
        tick = sensor.evaluate_tick(context)
    assert not tick.run_requests
    assert online(answered) == (["ann", "bob", "eve"] if works else [])

"""Answers by HTTP: each is stored once and before it is acknowledged, and the response has a result for each row.

They come as rows, as xAPI statements, and while a month ends and PostgreSQL is killed.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import psycopg
import pytest
import requests
from pydantic import SecretStr

from irt_assets.intake.arrivals import arrivals, refused_rows, source_states
from irt_assets.intake.corrections import AnswerSelection, withdraw
from irt_assets.intake.load import import_attempts
from irt_assets.intake.posted import Post, store_post
from irt_assets.intake.report import csv_of_refused
from irt_assets.intake.staging import Staging, wait_for_posts
from irt_assets.intake.xapi import ANSWERED_VERB, VOIDED_VERB
from irt_assets.servers.instance import dagster_instance
from jobs.retention.erasure import erase, holdings
from resources.postgres import embedded_postgres
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.log_months import make_months_ahead, missing_months_ahead
from resources.postgres.schema import upgrade
from resources.postgres.server_account import surroundings
from resources.settings import Settings
from services.theta_api.access import Access
from services.theta_api.app import build_app
from services.theta_api.parameter_cache import Ledger
from services.theta_api.posts import POSTS_PATH
from tests.helpers.asking import kind, unless_busy
from tests.helpers.door import ROOT, serve_in_thread
from tests.helpers.new_year import Clock
from tests.helpers.rooms import call, copied, folder_store, rows, run_sql
from tests.testbed.machine import free_port
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

pytestmark = pytest.mark.xdist_group("posts")

TOKEN = "a-service-token-of-32-characters"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
MONTH_AGO = (NOW.replace(day=1) - timedelta(days=1)).replace(hour=12)


def attempt(number: int, **fields: Any) -> dict[str, Any]:
    known = {"attempt_id": f"a{number}", "user_id": f"u{number % 7}", "item_id": f"i{number % 5}"}
    return known | {"completed_at": NOW.isoformat(), "correct": number % 2 == 0} | fields


@pytest.fixture
def settings(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    with copied(postgres.start(), migrated_template, "posts", tmp_path) as made:
        call(Database(made), ensure_month_partitions, made.irt_first_month, f"{NOW + timedelta(days=1):%Y-%m}")
        yield made


@contextmanager
def replica(database: Database) -> Iterator[str]:
    """The address for posts of answers."""
    ledger = Ledger(database, 1)
    listening = socket.create_server(("127.0.0.1", 0))
    with serve_in_thread(build_app(Access(TOKEN, None), ledger, 1), [listening]):
        wait_for("it to be ready", lambda: ledger.ready, pause=0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}{POSTS_PATH}"


@pytest.fixture
def replicas(settings: Settings) -> Iterator[list[str]]:
    with replica(Database(settings)) as one, replica(Database(settings)) as other:
        yield [one, other]


def post(url: str, attempts: Any, **more: Any) -> requests.Response:
    return unless_busy(lambda: requests.post(url, json=attempts, headers=HEADERS, timeout=patient(30), **more))


def results(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["result"] for one in answer.json()["attempts"]]


def count_stored(database: Database) -> Counter[str]:
    return Counter(row[0] for row in rows(database, "SELECT attempt_id FROM response_log"))


def test_ids_of_posts_are_stored_without_invisible_characters(replicas: list[str], database: Database) -> None:
    with database.connect() as connection:
        connection.execute("INSERT INTO question (item_id, meta) VALUES ('q1', '{\"irt\": {\"max_score\": 3}}')")
    sent = attempt(1) | {"user_id": "an\u200bn", "item_id": "\ufeffq1", "score": 2}
    assert results(post(replicas[0], [{name: value for name, value in sent.items() if name != "correct"}])) == [
        "accepted"
    ]
    stored = rows(database, "SELECT user_id, item_id, score FROM response_log")
    assert stored == [("ann", "q1", 2)]


def test_results_of_a_post_are_in_the_order_of_its_rows_and_counted(replicas: list[str], database: Database) -> None:
    first = post(replicas[0], [attempt(1), attempt(2)])
    assert results(first) == ["accepted", "accepted"]
    sent = [
        attempt(1),
        attempt(3),
        attempt(2, correct=False, revision=1),
        attempt(1, correct=True),
        attempt(4, correct=2),
        attempt(5, completed_at="yesterday"),
        attempt(6, completed_at="2026-11-20T08:00:00"),
        attempt(7) | {"corect": True},
        {"user_id": "u", "item_id": "i", "completed_at": NOW.isoformat()},
        attempt(8, completed_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat()),
        attempt(9, completed_at="2020-01-01T00:00:00Z"),
        "no object",
        attempt(10, user_id="x" * 601),
        attempt(11, item_id="a\0b"),
        attempt(3),
    ]
    answer = post(replicas[1], sent)
    given = answer.json()["attempts"]
    assert [one.get("reason") or one["result"] for one in given] == [
        *("duplicate", "accepted", "corrected", "conflicting_duplicate", "bad_score", "bad_time", "bad_time"),
        *("unknown_field", "missing_field", "time_in_future", "time_before_first_month", "bad_json", "id_too_long"),
        *("bad_character", "duplicate"),
    ]
    assert all(one["what_to_do"] for one in given if one["result"] == "rejected")
    assert {name: answer.json()[name] for name in ("accepted", "duplicate", "corrected", "rejected")} == {
        "accepted": 1,
        "duplicate": 2,
        "corrected": 1,
        "rejected": 11,
    }
    assert count_stored(database) == {"a1": 1, "a2": 1, "a3": 1}
    assert rows(database, "SELECT correct, revision FROM response_log WHERE attempt_id = 'a2'") == [(False, 1)]
    with database.connect() as connection:
        [one] = source_states(connection)
        counted = (one.source, one.kind, one.read, one.stored, one.duplicates, one.refused)
        assert counted == ("service", "http", 17, 4, 2, 11)
        kept = [reason for _, _, reason, _, _ in refused_rows(connection)]
        assert (len(kept), kept.count("bad_time")) == (11, 2)
        assert sum(arrival["read"] for arrival in arrivals(connection, 5)) == 17


def test_gzipped_json_lines_are_read_and_missing_ids_equal_the_ids_of_an_import(
    replicas: list[str], database: Database, tmp_path: Path
) -> None:
    whole = attempt(1)
    del whole["attempt_id"]
    body = gzip.compress((json.dumps(whole) + "\n\n{broken\n" + json.dumps(attempt(2)) + "\n").encode())
    headers = HEADERS | {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    answer = unless_busy(lambda: requests.post(replicas[0], body, headers=headers, timeout=patient(30)))
    assert results(answer) == ["accepted", "rejected", "accepted"]
    file = tmp_path / "log.jsonl"
    file.write_text(json.dumps(whole) + "\n" + json.dumps(attempt(2)) + "\n")
    again = import_attempts(database, [file], first_month="2026-06")
    assert (again.accepted, again.duplicates) == (0, 2)


def test_dry_run_stores_no_answers(replicas: list[str], database: Database) -> None:
    answer = post(replicas[0], [attempt(1)], params={"dry_run": "true"})
    assert results(answer) == ["accepted"]
    assert answer.json()["dry_run"] is True
    assert kind(post(replicas[0], [attempt(1)], params={"dryrun": "true"})) == (400, "bad_request")
    assert not count_stored(database)
    assert rows(database, "SELECT count(*) FROM intake") == [(0,)]


def test_unreadable_post_is_refused_and_stores_no_answers(replicas: list[str], database: Database) -> None:
    url, whole = replicas[0], json.dumps([attempt(1)]).encode()
    as_json = HEADERS | {"Content-Type": "application/json"}

    def sent(body: bytes, **headers: str) -> tuple[int, str]:
        return kind(unless_busy(lambda: requests.post(url, body, headers=as_json | headers, timeout=patient(30))))

    bomb = gzip.compress(b"[" + b" " * 200_000_000 + b"]")
    assert len(bomb) < 2**20
    for expected, body, headers in (
        ((413, "too_large"), bomb, {"Content-Encoding": "gzip"}),
        ((413, "too_large"), b" " * (2**21 + 1), {}),
        ((413, "too_many"), json.dumps([attempt(k) for k in range(1001)]).encode(), {}),
        ((415, "wrong_type"), whole, {"Content-Type": "text/csv"}),
        ((415, "wrong_encoding"), whole, {"Content-Encoding": "br"}),
        ((400, "bad_request"), gzip.compress(whole)[:-9], {"Content-Encoding": "gzip"}),
        ((400, "bad_request"), whole, {"Content-Encoding": "gzip"}),
    ):
        assert sent(body, **headers) == expected, headers
    garbage = b"", b"[]", b"{}", b"null", b"[1", b"\xff\xfe", b'[{"a": NaN}]', b"[" * 100_000, whole + b"x"
    assert {body[:20]: sent(body) for body in garbage} == {body[:20]: (400, "bad_request") for body in garbage}
    floods = b"\n" * 2**21, b"x\n" * 2**20, whole + b"\nx" * 1_000
    assert [sent(body, **{"Content-Type": "application/x-ndjson"}) for body in floods] == [(413, "too_many")] * 3
    assert not count_stored(database)


def test_faulty_row_is_rejected_and_remaining_rows_are_stored(replicas: list[str], database: Database) -> None:
    run_sql(database, """INSERT INTO question (item_id, meta) VALUES ('keyed', '{"key": "A"}')""")
    local = f"{NOW:%Y-%m-%dT%H:%M:%S}"
    blanks = {"attempt_id": " a5\v", "item_id": "\tkeyed ", "response": " A", "correct": None}
    sent = [json.dumps(attempt(k, completed_at=f"{before}{local}")) for k, before in enumerate(("", " ", "\t", "\v"))]
    sent += [
        json.dumps(attempt(4, started_at=f" {local}")),
        json.dumps(attempt(5, **blanks)),
        json.dumps(attempt(6, user_id=" \t")),
        json.dumps(attempt(7))[:-1] + ', "user_id": "twice"}',
        json.dumps(attempt(8))[:-1] + ', "score": NaN}',
        json.dumps(attempt(9))[:-1] + ', "response": "\\ud800"}',
        json.dumps(attempt(10)),
    ]
    body = "\n".join(sent).encode()
    headers = HEADERS | {"Content-Type": "application/x-ndjson"}
    answer = unless_busy(lambda: requests.post(replicas[0], body, headers=headers, timeout=patient(30)))
    assert [one.get("reason") or one["result"] for one in answer.json()["attempts"]] == [
        *["bad_time"] * 5,
        *("accepted", "missing_field", "bad_json", "bad_json", "bad_json", "accepted"),
    ]
    assert count_stored(database) == {"a5": 1, "a10": 1}
    assert rows(database, "SELECT item_id, correct FROM response_log WHERE attempt_id = 'a5'") == [("keyed", True)]


def test_same_id_posted_to_two_replicas_with_times_in_two_months_is_stored_once(
    replicas: list[str], database: Database
) -> None:
    for round_ in range(15):
        sent = [attempt(100 * round_ + k) for k in range(20)]
        earlier = [one | {"completed_at": MONTH_AGO.isoformat()} for one in reversed(sent)]
        with ThreadPoolExecutor(4) as pool:
            requests_ = [
                pool.submit(post, url, body)
                for url, body in zip(replicas * 2, (sent, earlier, earlier, sent), strict=True)
            ]
        answers = [one.result() for one in requests_]
        assert sum(one.json()["accepted"] for one in answers if one.status_code == 200) == 20
    assert [*count_stored(database).values()] == [1] * 300


def test_answer_with_a_time_ahead_is_stored_as_of_now_and_a_repetition_is_a_duplicate(
    replicas: list[str], database: Database
) -> None:
    ahead = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    without_id = {"user_id": "u", "item_id": "i", "completed_at": ahead, "correct": None}
    for expected, counted in (("accepted", 2), ("duplicate", 0)):
        answer = post(replicas[0], [attempt(1, completed_at=ahead), without_id])
        assert results(answer) == [expected] * 2
        assert answer.json()["clock_ahead"] == counted
    assert rows(database, "SELECT count(*) FROM response_log WHERE completed_at <= now() AND sent_at > now()") == [(2,)]


def test_answers_of_an_erased_learner_are_rejected_without_their_text(replicas: list[str], database: Database) -> None:
    run_sql(
        database,
        """INSERT INTO erasure (learner_hash, salt, erased_by, reason)
           VALUES (encode(sha256('\\x01'::bytea || convert_to('gone', 'UTF8')), 'hex'), '\\x01', 'me', 'asked')""",
    )
    answer = post(replicas[0], [attempt(1, user_id="gone"), attempt(2), attempt(3, user_id="gone", correct=7)])
    assert results(answer) == ["rejected", "accepted", "rejected"]
    assert rows(database, """SELECT count(*), max(value), max("row") FROM intake_reject""") == [(2, "", "")]


def test_a_withdrawn_answer_stays_withdrawn_until_a_higher_revision(replicas: list[str], database: Database) -> None:
    post(replicas[0], [attempt(1)])
    withdraw(database, AnswerSelection(ids=["a1"]), by="me", reason="leak")
    answer = post(replicas[1], [attempt(1)]).json()["attempts"]
    assert answer[0]["reason"] == "withdrawn_attempt"
    assert results(post(replicas[1], [attempt(1, revision=1)])) == ["accepted"]


def test_points_are_read_by_the_items_recorded_rule(replicas: list[str], database: Database) -> None:
    run_sql(database, """INSERT INTO question (item_id, meta) VALUES ('p', '{"dichotomise": "full=2"}')""")
    scores = (0, 1, 2, True, None)
    post(replicas[0], [attempt(k, item_id="p", correct=score) for k, score in enumerate(scores)])
    found = rows(database, "SELECT correct FROM response_log ORDER BY attempt_id")
    assert [row[0] for row in found] == [False, False, True, True, None]


def test_scores_are_accepted_up_to_the_banks_maximum(replicas: list[str], database: Database) -> None:
    run_sql(database, """INSERT INTO question (item_id, meta) VALUES ('s', '{"irt": {"max_score": 4}}')""")
    cells = [
        {"score": 3},
        {"score": 4},
        {"correct": True},
        {"correct": False, "score": 4},
        {"score": 5},
        {"score": 0.5},
        {"score": True},
        {"score": 2.0000000001},
    ]
    sent = [attempt(k, item_id="s", **cell) for k, cell in enumerate(cells)] + [attempt(8, item_id="free", score=2)]
    for one, cell in zip(sent, [*cells, {}], strict=True):
        if "correct" not in cell:
            del one["correct"]
    given = post(replicas[0], sent).json()["attempts"]
    reasons = ["score_contradicts", "score_above_max", *["bad_score"] * 3, "max_score_unknown"]
    assert [one.get("reason") for one in given] == [None, None, None, *reasons]
    assert all("what_to_do" in one for one in given[3:])
    found = rows(database, "SELECT correct, score FROM response_log ORDER BY attempt_id")
    assert found == [(False, 3), (True, 4), (True, None)]
    changed = [attempt(0, item_id="s", correct=False, score=score) for score in (3, 2)]
    assert results(post(replicas[0], changed)) == ["duplicate", "rejected"]


def test_an_item_with_a_key_is_scored_from_the_chosen_option(replicas: list[str], database: Database) -> None:
    run_sql(
        database,
        """INSERT INTO question (item_id, meta) VALUES ('k', '{"key": "B"}'),
             ('both', '{"key": "B", "dichotomise": "at=2"}')""",
    )
    sent = [
        attempt(1, item_id="k", correct=False, response="B"),
        attempt(2, item_id="k", correct=True, response="C"),
        attempt(3, item_id="k", correct=None, response=" B "),
        attempt(4, item_id="k", correct=None),
        attempt(5, item_id="both", correct=7, response="b"),
        attempt(6, item_id="k", correct=True),
        attempt(7, item_id="k", correct=True, response=""),
        attempt(8, item_id="free", correct=True),
    ]
    given = post(replicas[0], sent).json()["attempts"]
    assert [one.get("reason") for one in given] == [*[None] * 5, "missing_response", "missing_response", None]
    assert "response" in given[5]["what_to_do"]
    found = rows(database, "SELECT correct FROM response_log ORDER BY attempt_id")
    assert [row[0] for row in found] == [True, False, True, None, False, True]


def test_answer_of_a_month_without_partition_is_rejected_by_row(replicas: list[str], settings: Settings) -> None:
    run_sql(Database(settings), "DROP TABLE response_log_2026_06")
    answer = post(replicas[0], [attempt(1, completed_at="2026-06-10T10:00:00Z"), attempt(2)])
    assert [one.get("reason") for one in answer.json()["attempts"]] == ["month_not_there", None]


def test_posts_continue_during_an_import_and_a_common_answer_is_stored_once(
    replicas: list[str], database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The posts arrive after the import has compared its answers with the log and has written its own."""
    file = tmp_path / "log.jsonl"
    same, other_month = attempt(1), attempt(2)
    higher, lower = attempt(3, revision=5, correct=True), attempt(4)
    file.write_text("".join(json.dumps(one) + "\n" for one in (same, other_month, higher, lower, attempt(5))))
    posted: list[requests.Response] = []
    usual = Staging.judge

    def judge(staging: Staging, *, strict: bool) -> Counter[str]:
        verdicts = usual(staging, strict=strict)
        body = [
            same,
            other_month | {"completed_at": MONTH_AGO.isoformat()},
            higher | {"revision": 1, "correct": False},
            lower | {"revision": 7},
            attempt(6),
        ]
        posted.append(post(replicas[0], body))
        return verdicts

    monkeypatch.setattr(Staging, "judge", judge)
    report = import_attempts(database, [file], first_month="2026-06")
    assert results(posted[0]) == ["accepted"] * 5
    assert (report.accepted, report.corrected, report.duplicates, dict(report.rejected)) == (
        *(1, 1, 2),
        {"conflicting_duplicate": 1},
    )
    assert count_stored(database) == {f"a{k}": 1 for k in range(1, 7)}
    assert rows(database, "SELECT revision, correct FROM response_log WHERE attempt_id = 'a3'") == [(5, True)]


def test_posts_continue_during_an_erasure_and_the_erased_learners_answers_are_refused(
    replicas: list[str], settings: Settings, database: Database
) -> None:
    found: dict[str, list[str]] = {"gone": [], "other": []}
    over = threading.Event()

    def go_on() -> None:
        for k in count():
            last = over.is_set()
            body = [attempt(k, attempt_id=f"{user}-{k}", user_id=user) for user in found]
            answer = post(replicas[k % 2], body)
            assert answer.status_code == 200, answer.text
            for given, results_of_user in zip(answer.json()["attempts"], found.values(), strict=True):
                results_of_user.append(given.get("reason") or given["result"])
            if last:
                return

    with dagster_instance(settings, database) as instance, ThreadPoolExecutor(1) as pool:
        going_on = pool.submit(go_on)
        wait_for("some posts", lambda: len(found["gone"]) > 5, pause=0.01)
        store = folder_store(settings)
        held, rejects = holdings(database, store, "gone"), settings.irt_home / "rejects"
        erase(database, store, instance, held, by="me", reason="asked", rejects=rejects)
        over.set()
        going_on.result()
    refused_from = found["gone"].index("erased_learner")
    assert found["gone"] == ["accepted"] * refused_from + ["erased_learner"] * (len(found["gone"]) - refused_from)
    assert set(found["other"]) == {"accepted"}
    assert rows(database, "SELECT user_id, count(*) FROM response_log GROUP BY 1") == [("other", len(found["other"]))]


def test_post_waits_until_the_import_commits(replicas: list[str], database: Database) -> None:
    waits = """SELECT FROM pg_locks JOIN pg_database d ON d.oid = database
               WHERE NOT granted AND datname = current_database()"""
    with ThreadPoolExecutor(1) as pool:
        with database.connect() as connection:
            wait_for_posts(connection)
            posting = pool.submit(post, replicas[0], [attempt(1)])
            wait_for("the post to wait", lambda: bool(rows(database, waits)))
            assert not posting.done()
        assert results(posting.result()) == ["accepted"]


def test_refused_rows_of_a_post_are_written_in_the_imports_format(
    replicas: list[str], database: Database, tmp_path: Path
) -> None:
    post(replicas[0], [attempt(1, correct="=1+1")])
    with database.connect() as connection, csv_of_refused(tmp_path / "r.csv") as write:
        write(refused_rows(connection, "service"))
    header, row = (tmp_path / "r.csv").read_text().splitlines()
    assert header == "file,line,reason,value,row"
    assert row.startswith("service,1,bad_score,'=1+1,")


def test_posts_of_a_connection_share_temporary_tables_and_leave_the_tables_empty(database: Database) -> None:
    tables = "SELECT array_agg(oid ORDER BY oid) FROM pg_class WHERE relpersistence = 't'"
    made = []
    with database.connect() as connection:
        for number in range(2):
            post_of_one = Post("test", json.dumps([attempt(number)]).encode(), lines=False)
            assert store_post(connection, post_of_one, first_month="2026-06").results[0]["result"] == "accepted"
            connection.commit()
            made.append(connection.execute(tables).fetchone())
            assert connection.execute("SELECT count(*) FROM staged").fetchone() == (0,)
    assert made[0] == made[1]


def test_answers_acknowledged_before_kill_9_are_stored_once(settings: Settings, database: Database) -> None:
    port = free_port()
    env = os.environ | {
        "DATABASE_URL": settings.database_url.get_secret_value() if settings.database_url else "",
        "IRT_HOME": str(settings.irt_home),
        "IRT_FIRST_MONTH": settings.irt_first_month,
        "IRT_THETA_TOKEN": TOKEN,
        "IRT_THETA_PORT": str(port),
    }
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return requests.get(f"{url}/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    acknowledged: set[str] = set()
    for start in range(0, 4000, 2000):
        server = subprocess.Popen([sys.executable, "-m", "services.theta_api"], env=env, cwd=ROOT)
        try:
            wait_for("it to be ready", is_ready, 120)
            with ThreadPoolExecutor(2) as pool:
                posts = [pool.submit(post, url + POSTS_PATH, [attempt(start + k)]) for k in range(2000)]
                posts[60].result()
                os.kill(server.pid, signal.SIGKILL)
                for k, one in enumerate(posts):
                    if one.exception() is None and one.result().status_code == 200:
                        acknowledged.add(f"a{start + k}")
        finally:
            server.kill()
            server.wait()
    assert 80 < len(acknowledged) < 4000
    found = count_stored(database)
    assert acknowledged <= set(found)
    assert set(found.values()) == {1}


def test_post_is_committed_synchronously_even_if_the_databases_default_is_off(
    replicas: list[str], database: Database
) -> None:
    run_sql(
        database,
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF current_setting('synchronous_commit') <> 'on' THEN RAISE 'not on disk'; END IF; RETURN NEW; END $$;
           CREATE TRIGGER refuse BEFORE INSERT ON response_log FOR EACH ROW EXECUTE FUNCTION refuse()""",
    )
    name = rows(database, "SELECT current_database()")[0][0]
    run_sql(database, f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    with database.connect() as connection, pytest.raises(psycopg.errors.RaiseException):
        connection.execute(
            "INSERT INTO response_log (attempt_id, completed_at, user_id, item_id) VALUES ('x', now(), 'u', 'i')"
        )
    body = json.dumps([attempt(1)]).encode()
    assert call(database, store_post, Post("t", body, lines=False), first_month="2026-06").report.accepted == 1
    assert results(post(replicas[0], [attempt(2)])) == ["accepted"]


# -- statements of xAPI -------------------------------------------------------------------------------
# xAPI statements by HTTP: each is judged by itself, stored once, and withdrawn when it is voided.

HOME = "https://exam.example.org/accounts"
PREFIX = "https://exam.example.org/items/"


@pytest.fixture
def xapi_database(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Database]:
    with copied(postgres.start(), migrated_template, "statements", tmp_path) as made:
        named = made.model_copy(update={"irt_xapi_home_page": HOME, "irt_xapi_item_prefix": PREFIX})
        call(Database(named), ensure_month_partitions, made.irt_first_month, f"{NOW + timedelta(days=1):%Y-%m}")
        yield Database(named)


@pytest.fixture
def xapi_url(xapi_database: Database) -> Iterator[str]:
    with replica(xapi_database) as url:
        yield url


def uuid(number: int) -> str:
    return str(UUID(int=number))


def statement(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": uuid(number),
        "actor": {"account": {"homePage": HOME, "name": f"u{number}"}},
        "verb": {"id": ANSWERED_VERB},
        "object": {"id": f"{PREFIX}q{number}"},
        "result": {"success": number % 2 == 0, "duration": "PT2.5S"},
        "timestamp": NOW.isoformat(),
    } | more


def voiding(number: int) -> dict[str, Any]:
    actor = {"mbox": "mailto:admin@example.org"}
    return {"actor": actor, "verb": {"id": VOIDED_VERB}, "object": {"objectType": "StatementRef", "id": uuid(number)}}


def post_statements(xapi_url: str, body: Any, **params: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    options = {"headers": headers, "params": {"as": "xapi"} | params, "timeout": patient(30)}
    return unless_busy(lambda: requests.post(xapi_url, json=body, **options))


def statement_results(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one.get("reason") or one["result"] for one in answer.json()["attempts"]]


def test_xapi_statements_are_stored_as_answers_with_results_in_their_order(
    xapi_url: str, xapi_database: Database
) -> None:
    assert statement_results(post_statements(xapi_url, statement(1))) == ["accepted"]
    answer = post_statements(
        xapi_url,
        [
            *(statement(1), statement(2), statement(3), statement(4, verb={"id": "http://x/completed"})),
            *(statement(5, result={"score": {"scaled": 0.5}}), statement(6, actor={"openid": "https://a.example.org"})),
            *(statement(7, timestamp=None), statement(8, timestamp="2026-11-20T08:00:00"), "no statement", {}),
            *(statement(1, result={"success": True}), statement(9, object={"id": "https://elsewhere.org/9"})),
        ],
    )
    assert statement_results(answer) == [
        *("duplicate", "accepted", "accepted", "left_out", "no_success", "not_an_account", "bad_statement", "bad_time"),
        *("bad_json", "bad_statement", "conflicting_duplicate", "other_activity"),
    ]
    counts = {"accepted": 2, "duplicate": 1, "corrected": 0, "rejected": 8, "withdrawn": 0, "left_out": 1}
    assert {name: answer.json()[name] for name in counts} == counts
    assert all(one["what_to_do"] for one in answer.json()["attempts"] if one["result"] == "rejected")
    kept = rows(xapi_database, "SELECT attempt_id, item_id, correct, response_time_ms FROM response_log ORDER BY 1")
    assert kept == [(uuid(n), f"q{n}", n % 2 == 0, 2500) for n in (1, 2, 3)]
    assert "example.org" not in str(rows(xapi_database, "SELECT user_id FROM response_log"))
    with xapi_database.connect() as connection:
        [state] = source_states(connection)
        assert (state.read, state.stored, state.duplicates, state.refused) == (12, 3, 1, 8)
        refused = list(refused_rows(connection))
        assert len(refused) == 8
        assert "openid" not in str(refused) + str(rows(xapi_database, """SELECT "row" FROM intake_reject"""))


def test_statements_about_scored_items_are_stored_with_partial_credit(xapi_url: str, xapi_database: Database) -> None:
    with xapi_database.connect() as connection:
        connection.execute("INSERT INTO question (item_id, meta) VALUES ('q1', '{\"irt\": {\"max_score\": 3}}')")
    score = {"scaled": 0.6667, "raw": 2, "min": 0, "max": 3}
    sent = [
        statement(1, result={"score": score, "success": False}),
        statement(2, object={"id": f"{PREFIX}q1"}, result={"score": {"scaled": 0.5}}),
        statement(3, object={"id": f"{PREFIX}q1"}, result={"score": {"raw": 3, "max": 3}}),
        statement(4, result={"score": score, "success": True}),
    ]
    answer = post_statements(xapi_url, sent)
    assert statement_results(answer) == ["accepted", "bad_scaled", "accepted", "accepted"]
    assert answer.json()["attempts"][1]["value"] == "0.5 of 3 points"
    kept = rows(xapi_database, "SELECT item_id, correct, score FROM response_log ORDER BY attempt_id")
    assert kept == [("q1", False, 2), ("q1", True, 3), ("q4", True, None)]


def test_voided_statement_is_withdrawn_permanently(xapi_url: str, xapi_database: Database) -> None:
    post_statements(xapi_url, [statement(1), statement(2)])
    assert statement_results(post_statements(xapi_url, [voiding(1)], dry_run="true")) == ["withdrawn"]
    answer = post_statements(xapi_url, [voiding(1), statement(3), voiding(3), voiding(4)])
    assert statement_results(answer) == ["withdrawn", "accepted", "withdrawn", "nothing_to_void"]
    assert (answer.json()["withdrawn"], answer.json()["rejected"]) == (2, 1)
    assert statement_results(post_statements(xapi_url, [statement(1), voiding(1)])) == [
        "withdrawn_attempt",
        "duplicate",
    ]
    assert rows(xapi_database, "SELECT attempt_id FROM response_log") == [(uuid(2),)]
    assert rows(xapi_database, "SELECT attempt_id, how, corrected_by, reason FROM attempt_correction ORDER BY 1") == [
        (uuid(n), "withdraw", "service", "voided by an xAPI statement") for n in (1, 3)
    ]


def test_post_with_only_ignored_verbs_is_not_recorded(xapi_url: str, xapi_database: Database) -> None:
    assert statement_results(
        post_statements(xapi_url, statement(1, verb={"id": "http://adlnet.gov/expapi/verbs/launched"}))
    ) == ["left_out"]
    assert rows(xapi_database, "SELECT count(*) FROM intake") == [(0,)]
    assert statement_results(post_statements(xapi_url, voiding(1))) == ["nothing_to_void"]
    assert rows(xapi_database, "SELECT rejected FROM intake") == [({"nothing_to_void": 1},)]


def test_gzipped_lines_are_read_and_an_invalid_line_is_rejected_without_its_text(
    xapi_url: str, xapi_database: Database
) -> None:
    lines = gzip.compress(f'{json.dumps(statement(1))}\n{{"actor": {{"mbox": "mailto:a@b.c"\n'.encode())
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"}
    options = {"headers": headers, "params": {"as": "xapi"}, "timeout": patient(30)}
    answer = unless_busy(lambda: requests.post(xapi_url, lines, **options))
    assert statement_results(answer) == ["accepted", "bad_json"]
    assert rows(xapi_database, """SELECT reason, "row" FROM intake_reject""") == [("bad_json", "")]


def test_body_without_statements_is_refused(xapi_url: str, xapi_database: Database) -> None:
    assert {post_statements(xapi_url, body).status_code for body in ([], 7, "x")} == {400}
    assert post_statements(xapi_url, statement(1), **{"as": "caliper"}).status_code == 400
    options = {"headers": {"Authorization": f"Bearer {TOKEN}"}, "timeout": patient(30)}
    assert unless_busy(lambda: requests.post(xapi_url, json=statement(1), **options)).status_code == 400


# -- while a month ends and PostgreSQL is killed -----------------------------------------------------
# Answers by HTTP while a month ends, and while PostgreSQL is killed: the clock of both servers is the test's.

TURN = datetime(2031, 2, 1, tzinfo=UTC)


class TurningMonth:
    """PostgreSQL, with fsync, and the API, in the last two hours of a month, which leaves time for their start."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock(folder, TURN - timedelta(hours=2))
        self.server = EmbeddedPostgres(folder / "postgres")
        url = self.start_postgres()
        settings = Settings(irt_home=folder, database_url=SecretStr(url), _env_file=None)
        self.database = Database(settings)
        upgrade(self.database)
        self.make_months()
        port = free_port()
        env = {"DATABASE_URL": url, "IRT_HOME": str(folder), "IRT_THETA_TOKEN": TOKEN, "IRT_THETA_PORT": str(port)}
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "services.theta_api"]
        self.api = subprocess.Popen(
            command, env=os.environ | env | self.clock.environment, cwd=ROOT, stderr=subprocess.DEVNULL
        )
        wait_for("the API to be ready", self.is_ready, 120)

    def start_postgres(self) -> str:
        around = surroundings()
        around["env"] |= self.clock.environment
        with patch.object(embedded_postgres, "surroundings", lambda: around):
            return self.server.start()

    def make_months(self) -> None:
        """Make the months ahead, as the daemon does within minutes."""
        with self.database.connect() as connection:
            make_months_ahead(connection, self.clock.now())

    def is_ready(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/ready", timeout=5).status_code == 200
        return False

    def post(self, number: int, at: datetime | None = None) -> str:
        """Send an answer and return its result, or an empty text if it was not acknowledged."""
        given = {"attempt_id": f"a{number}", "user_id": f"u{number % 7}", "item_id": f"i{number % 5}", "correct": True}
        given["completed_at"] = (at or self.clock.now()).isoformat()
        with suppress(requests.RequestException):
            answer = requests.post(self.url + POSTS_PATH, json=[given], headers=HEADERS, timeout=patient(20))
            assert answer.status_code in (200, 503), answer.text
            return answer.json()["attempts"][0]["result"] if answer.status_code == 200 else ""
        return ""

    def until_stored(self, number: int, at: datetime | None = None) -> str:
        """Send an answer until it is acknowledged, and return its result."""
        return wait_for("the answer to be stored", lambda: self.post(number, at), 60)

    def kill_postgres(self) -> None:
        pid = int((self.server.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)  # an immediate shutdown


@pytest.fixture
def turning_month() -> Iterator[TurningMonth]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        made = TurningMonth(Path(folder))
        try:
            yield made
        finally:
            made.api.kill()
            made.api.wait()
            made.server.stop()


def test_turn_of_a_month_and_a_killed_server_neither_lose_nor_duplicate_answers(turning_month: TurningMonth) -> None:
    with turning_month.database.connect() as connection:
        assert not missing_months_ahead(
            connection, turning_month.clock.now()
        )  # the next month's partition exists before it begins
    assert [turning_month.until_stored(k) for k in range(3)] == ["accepted"] * 3
    turning_month.clock.set(TURN - timedelta(minutes=2))
    early = TURN + timedelta(minutes=1)
    assert turning_month.until_stored(3, early) == "accepted"  # by a clock that is ahead, in the next month
    turning_month.clock.set(TURN - timedelta(seconds=1))
    acknowledged = set(range(4))
    with ThreadPoolExecutor(2) as pool:
        for batch in range(2):
            numbers = range(10 + 1000 * batch, 10 + 1000 * batch + 120)
            posts = {number: pool.submit(turning_month.post, number) for number in numbers}
            posts[numbers[60]].result()
            if batch:
                turning_month.kill_postgres()
                wait_for("it to end", lambda: turning_month.server.status().state != "running", 60)
                assert turning_month.post(4000) == ""
                turning_month.start_postgres()
            acknowledged |= {number for number, answer in posts.items() if answer.result() == "accepted"}
    assert turning_month.until_stored(5000) in ("accepted", "duplicate")
    assert turning_month.until_stored(3, early) == "duplicate"
    assert turning_month.clock.now() > TURN
    found = rows(turning_month.database, "SELECT attempt_id, completed_at, tableoid::regclass::text FROM response_log")
    ids = [attempt_id for attempt_id, _, _ in found]
    assert len(ids) == len(set(ids))
    assert {f"a{number}" for number in acknowledged} <= set(ids)
    assert len(acknowledged) > 150
    assert "a4000" not in ids
    assert all(table.endswith(f"response_log_{at:%Y_%m}") for _, at, table in found)
    assert {f"{at:%Y-%m}" for _, at, _ in found} == {"2031-01", "2031-02"}
    assert next(at for attempt_id, at, _ in found if attempt_id == "a3") < TURN
    with turning_month.database.connect() as connection:
        assert missing_months_ahead(connection, turning_month.clock.now()) == ["2031-04"]
    turning_month.make_months()
    assert turning_month.until_stored(6000) in ("accepted", "duplicate")

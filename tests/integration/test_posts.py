"""Answers by HTTP: each is stored once and before it is acknowledged, and the answer says by row what became of it."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from irt_assets.intake.arrivals import arrivals, refused_rows, source_states
from irt_assets.intake.corrections import Answers, withdraw
from irt_assets.intake.load import import_attempts
from irt_assets.intake.posted import Post, take_post
from irt_assets.intake.report import csv_of_refused
from irt_assets.intake.staging import Staging, wait_for_posts
from irt_assets.servers.instance import dagster_instance
from jobs.retention.erasure import erase, holdings
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from services.theta_api.access import Access
from services.theta_api.app import build_app
from services.theta_api.ledger import Ledger
from services.theta_api.posts import POSTS_PATH
from tests.helpers.asking import kind, unless_busy
from tests.helpers.door import ROOT, served
from tests.helpers.rooms import copied, folder_store, rows, run_sql
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
        with Database(made).connect() as connection:
            ensure_month_partitions(connection, made.irt_first_month, f"{NOW + timedelta(days=1):%Y-%m}")
        yield made


@pytest.fixture
def database(settings: Settings) -> Database:
    return Database(settings)


@pytest.fixture
def replicas(settings: Settings) -> Iterator[list[str]]:
    with ExitStack() as open_ones:
        urls = []
        for _ in range(2):
            ledger = Ledger(Database(settings), 1)
            listening = socket.create_server(("127.0.0.1", 0))
            open_ones.enter_context(served(build_app(Access(TOKEN, None), ledger, 1), [listening]))
            wait_for("it to be ready", lambda ledger=ledger: ledger.ready, pause=0.02)
            urls.append(f"http://127.0.0.1:{listening.getsockname()[1]}{POSTS_PATH}")
        yield urls


def post(url: str, attempts: Any, **more: Any) -> requests.Response:
    return unless_busy(lambda: requests.post(url, json=attempts, headers=HEADERS, timeout=patient(30), **more))


def results(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["result"] for one in answer.json()["attempts"]]


def stored(database: Database) -> Counter[str]:
    return Counter(row[0] for row in rows(database, "SELECT attempt_id FROM response_log"))


def test_each_row_is_answered_in_the_order_sent_and_counted(replicas: list[str], database: Database) -> None:
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
    assert stored(database) == {"a1": 1, "a2": 1, "a3": 1}
    assert rows(database, "SELECT correct, revision FROM response_log WHERE attempt_id = 'a2'") == [(False, 1)]
    with database.connect() as connection:
        [one] = source_states(connection)
        assert (one.source, one.kind, one.read, one.stored, one.duplicates, one.refused) == (
            *("service", "http", 17, 4, 2, 11),
        )
        kept = list(refused_rows(connection))
        assert [reason for _, _, reason, _, _ in kept].count("bad_time") == 2
        assert len(kept) == 11
        assert sum(arrival["read"] for arrival in arrivals(connection, 5)) == 17


def test_json_lines_and_gzip_are_read_and_a_row_without_an_id_gets_the_imports(
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


def test_a_dry_run_stores_nothing(replicas: list[str], database: Database) -> None:
    answer = post(replicas[0], [attempt(1)], params={"dry_run": "true"})
    assert results(answer) == ["accepted"]
    assert answer.json()["dry_run"] is True
    assert kind(post(replicas[0], [attempt(1)], params={"dryrun": "true"})) == (400, "bad_request")
    assert not stored(database)
    assert rows(database, "SELECT count(*) FROM intake") == [(0,)]


def test_what_cannot_be_read_stores_nothing(replicas: list[str], database: Database) -> None:
    url, whole = replicas[0], json.dumps([attempt(1)]).encode()
    as_json = HEADERS | {"Content-Type": "application/json"}

    def sent(body: bytes, **headers: str) -> tuple[int, str]:
        return kind(unless_busy(lambda: requests.post(url, body, headers=as_json | headers, timeout=patient(30))))

    bomb = gzip.compress(b"[" + b" " * 200_000_000 + b"]")
    assert len(bomb) < 2**20
    assert sent(bomb, **{"Content-Encoding": "gzip"}) == (413, "too_large")
    assert sent(b" " * (2**21 + 1)) == (413, "too_large")
    assert sent(json.dumps([attempt(k) for k in range(1001)]).encode()) == (413, "too_many")
    assert sent(whole, **{"Content-Type": "text/csv"}) == (415, "wrong_type")
    assert sent(whole, **{"Content-Encoding": "br"}) == (415, "wrong_encoding")
    cut = gzip.compress(whole)[:-9]
    assert sent(cut, **{"Content-Encoding": "gzip"}) == (400, "bad_request")
    assert sent(whole, **{"Content-Encoding": "gzip"}) == (400, "bad_request")
    for garbage in (b"", b"[]", b"{}", b"null", b"[1", b"\xff\xfe", b'[{"a": NaN}', b"[" * 100_000, whole + b"x"):
        assert sent(garbage) == (400, "bad_request"), garbage[:20]
    lines = {"Content-Type": "application/x-ndjson"}
    for flood in (b"\n" * 2**21, b"x\n" * 2**20, whole + b"\nx" * 1_000):
        assert sent(flood, **lines) == (413, "too_many")
    assert not stored(database)


def test_a_key_that_occurs_twice_among_many_is_found_in_linear_time(replicas: list[str], database: Database) -> None:
    """Each key was once counted in all the others: that took ten minutes."""
    keys = ", ".join(f'"k{n}": 1' for n in range(150_000))
    body = f'[{{{keys}, "k149999": 1}}]'.encode()
    headers = HEADERS | {"Content-Type": "application/json"}
    answer = unless_busy(lambda: requests.post(replicas[0], body, headers=headers, timeout=patient(30)))
    assert results(answer) == ["rejected"]
    assert not stored(database)


def test_a_fault_of_one_row_leaves_the_others_as_they_are(replicas: list[str], database: Database) -> None:
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
    body = f"[{', '.join(sent)} ]\n".encode()
    headers = HEADERS | {"Content-Type": "application/json"}
    answer = unless_busy(lambda: requests.post(replicas[0], body, headers=headers, timeout=patient(30)))
    assert [one.get("reason") or one["result"] for one in answer.json()["attempts"]] == [
        *["bad_time"] * 5,
        *("accepted", "missing_field", "bad_json", "bad_json", "bad_json", "accepted"),
    ]
    assert stored(database) == {"a5": 1, "a10": 1}
    assert rows(database, "SELECT item_id, correct FROM response_log WHERE attempt_id = 'a5'") == [("keyed", True)]


def test_one_id_at_two_replicas_with_times_in_two_months_is_stored_once(
    replicas: list[str], database: Database
) -> None:
    for round_ in range(15):
        sent = [attempt(100 * round_ + k) for k in range(20)]
        earlier = [one | {"completed_at": MONTH_AGO.isoformat()} for one in reversed(sent)]
        with ThreadPoolExecutor(4) as pool:
            asked = [
                pool.submit(post, url, body)
                for url, body in zip(replicas * 2, (sent, earlier, earlier, sent), strict=True)
            ]
        answers = [one.result() for one in asked]
        assert sum(one.json()["accepted"] for one in answers if one.status_code == 200) == 20
    assert set(stored(database).values()) == {1}
    assert len(stored(database)) == 300


def test_a_clock_that_is_ahead_counts_as_now_and_its_copy_is_a_duplicate(
    replicas: list[str], database: Database
) -> None:
    ahead = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    without_id = {"user_id": "u", "item_id": "i", "completed_at": ahead, "correct": None}
    for expected, counted in (("accepted", 2), ("duplicate", 0)):
        answer = post(replicas[0], [attempt(1, completed_at=ahead), without_id])
        assert results(answer) == [expected] * 2
        assert answer.json()["clock_ahead"] == counted
    assert rows(database, "SELECT count(*) FROM response_log WHERE completed_at <= now() AND sent_at > now()") == [(2,)]


def test_an_erased_learner_does_not_come_back_and_leaves_no_row(replicas: list[str], database: Database) -> None:
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
    withdraw(database, Answers(ids=["a1"]), by="me", reason="leak")
    answer = post(replicas[1], [attempt(1)]).json()["attempts"]
    assert answer[0]["reason"] == "withdrawn_attempt"
    assert results(post(replicas[1], [attempt(1, revision=1)])) == ["accepted"]


def test_points_are_read_by_the_items_recorded_rule(replicas: list[str], database: Database) -> None:
    run_sql(database, """INSERT INTO question (item_id, meta) VALUES ('p', '{"dichotomise": "full=2"}')""")
    scores = (0, 1, 2, True, None)
    post(replicas[0], [attempt(k, item_id="p", correct=score) for k, score in enumerate(scores)])
    found = rows(database, "SELECT correct FROM response_log ORDER BY attempt_id")
    assert [row[0] for row in found] == [False, False, True, True, None]


def test_scores_are_taken_up_to_the_banks_maximum(replicas: list[str], database: Database) -> None:
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


def test_a_month_that_is_not_there_is_refused_by_row(replicas: list[str], settings: Settings) -> None:
    run_sql(Database(settings), "DROP TABLE response_log_2026_06")
    answer = post(replicas[0], [attempt(1, completed_at="2026-06-10T10:00:00Z"), attempt(2)])
    assert [one.get("reason") for one in answer.json()["attempts"]] == ["month_not_there", None]


def test_posts_go_on_beside_an_import_and_an_answer_in_both_is_there_once(
    replicas: list[str], database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The posts come when the import has compared its answers with the log and has written its own."""
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
    assert stored(database) == {f"a{k}": 1 for k in range(1, 7)}
    assert rows(database, "SELECT revision, correct FROM response_log WHERE attempt_id = 'a3'") == [(5, True)]


def test_during_an_erasure_posts_of_others_go_on_and_the_learners_are_refused(
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


def test_posts_wait_for_the_end_of_an_import_and_not_longer(replicas: list[str], database: Database) -> None:
    waits = """SELECT FROM pg_locks JOIN pg_database d ON d.oid = database
               WHERE NOT granted AND datname = current_database()"""
    with ThreadPoolExecutor(1) as pool:
        with database.connect() as connection:
            wait_for_posts(connection)
            asked = pool.submit(post, replicas[0], [attempt(1)])
            wait_for("the post to wait", lambda: bool(rows(database, waits)))
            assert not asked.done()
        assert results(asked.result()) == ["accepted"]


def test_refused_rows_are_written_as_the_imports_file(replicas: list[str], database: Database, tmp_path: Path) -> None:
    post(replicas[0], [attempt(1, correct="=1+1")])
    with database.connect() as connection, csv_of_refused(tmp_path / "r.csv") as write:
        write(refused_rows(connection, "service"))
    header, row = (tmp_path / "r.csv").read_text().splitlines()
    assert header == "file,line,reason,value,row"
    assert row.startswith("service,1,bad_score,'=1+1,")


def test_posts_of_a_connection_share_their_tables_and_leave_nothing_in_them(database: Database) -> None:
    tables = "SELECT array_agg(oid ORDER BY oid) FROM pg_class WHERE relpersistence = 't'"
    made = []
    with database.connect() as connection:
        for number in range(2):
            post_of_one = Post("test", json.dumps([attempt(number)]).encode(), lines=False)
            assert take_post(connection, post_of_one, first_month="2026-06").results[0]["result"] == "accepted"
            connection.commit()
            made.append(connection.execute(tables).fetchone())
            assert connection.execute("SELECT count(*) FROM staged").fetchone() == (0,)
    assert made[0] == made[1]


def test_what_was_acknowledged_before_kill_9_is_there_once(settings: Settings, database: Database) -> None:
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
                asked = [pool.submit(post, url + POSTS_PATH, [attempt(start + k)]) for k in range(2000)]
                asked[60].result()
                os.kill(server.pid, signal.SIGKILL)
                for k, one in enumerate(asked):
                    if one.exception() is None and one.result().status_code == 200:
                        acknowledged.add(f"a{start + k}")
        finally:
            server.kill()
            server.wait()
    assert 80 < len(acknowledged) < 4000
    found = stored(database)
    assert acknowledged <= set(found)
    assert set(found.values()) == {1}


def test_a_post_is_on_disk_whatever_the_roles_default(replicas: list[str], database: Database) -> None:
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
    with database.connect() as connection:
        assert take_post(connection, Post("t", body, lines=False), first_month="2026-06").report.accepted == 1
    assert results(post(replicas[0], [attempt(2)])) == ["accepted"]

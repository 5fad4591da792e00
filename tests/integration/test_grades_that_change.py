"""A key or a maximum score changes during a post, a pull or an import: no answer keeps the grade by the former one.

Each test stops one of the two transactions after it has read or written and before it commits, and lets the other
continue until it ends or waits for a lock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from irt_assets.decisions.rekey import rekey
from irt_assets.intake import corrections
from irt_assets.intake.bank import QUESTIONS, import_bank_file
from irt_assets.intake.corrections import AnswerSelection, withdraw
from irt_assets.intake.load import import_attempts
from irt_assets.intake.posted import Post, store_post
from irt_assets.intake.pulling import pull as pulling
from irt_assets.intake.staging import Staging
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.pulled import Company, pull
from tests.helpers.rooms import rows, run_sql
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.stack_harness import wait_for

AT = datetime(2026, 6, 3, tzinfo=UTC)
FIRST_MONTH = "2026-06"
WAITS = """SELECT FROM pg_locks JOIN pg_database d ON d.oid = database
           WHERE NOT granted AND datname = current_database()"""
BY = {"by": "Ann", "reason": "the key was wrong"}


def attempt(number: int, **fields: Any) -> dict[str, Any]:
    return {"attempt_id": f"a{number}", "user_id": "u", "item_id": "q", "completed_at": AT.isoformat()} | fields


@pytest.fixture
def log(database: Database) -> Database:
    """An item with a key, an item with a maximum score, and an answer to each."""
    run_sql(
        database,
        """INSERT INTO question (item_id, meta) VALUES ('q', '{"key": "A"}'), ('s', '{"irt": {"max_score": 2}}')""",
    )
    with database.connect() as connection:
        ensure_month_partitions(connection, FIRST_MONTH, FIRST_MONTH)
    post(database, attempt(1, response="A", correct=None), attempt(2, response="B", correct=None))
    post(database, attempt(3, item_id="s", score=2))
    return database


@pytest.fixture
def run_concurrently() -> Iterator[Callable[..., Future[Any]]]:
    """Run a function with these arguments in another thread until it ends or waits for a lock in the database."""
    with ThreadPoolExecutor(1) as pool:

        def start(database: Database, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
            future = pool.submit(function, *arguments)
            wait_for("an end or a lock", lambda: future.done() or bool(rows(database, WAITS)), pause=0.01)
            return future

        yield start


def post(database: Database, *attempts: dict[str, Any]) -> list[str]:
    with database.connect() as connection:
        return take(connection, *attempts)


def take(connection: Any, *attempts: dict[str, Any]) -> list[str]:
    body = json.dumps(attempts).encode()
    done = store_post(connection, Post("test", body, lines=False), first_month=FIRST_MONTH)
    return [one.get("reason") or one["result"] for one in done.results]


def to_key_b(database: Database) -> None:
    rekey(database, "q", "B", **BY)


def write_file(folder: Path, text: str, name: str = "bank.csv") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder / name


def grades(database: Database) -> dict[str, bool]:
    return dict(rows(database, "SELECT attempt_id, correct FROM response_log ORDER BY 1"))  # type: ignore[arg-type]


def test_uncommitted_answers_of_a_post_are_scored_by_the_new_key(log: Database, run_concurrently: Any) -> None:
    with log.connect() as connection:
        assert take(connection, attempt(4, response="A", correct=None)) == ["accepted"]
        changing = run_concurrently(log, to_key_b, log)
    changing.result()
    assert grades(log) == {"a1": False, "a2": True, "a3": True, "a4": False}


def test_post_waits_for_an_uncommitted_change_and_is_graded_by_the_new_key(
    log: Database, run_concurrently: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, posts = corrections._correction, []

    def correction(*given: Any) -> Any:
        posts.append(run_concurrently(log, post, log, attempt(4, response="A", correct=None)))
        return usual(*given)

    monkeypatch.setattr(corrections, "_correction", correction)
    to_key_b(log)
    assert posts[0].result() == ["accepted"]
    assert grades(log)["a4"] is False


def test_full_credit_of_an_uncommitted_post_follows_the_banks_new_maximum(
    log: Database, run_concurrently: Any, tmp_path: Path
) -> None:
    bank = write_file(tmp_path, "item_id,max_score\ns,3\n")
    with log.connect() as connection:
        take(connection, attempt(4, item_id="s", score=2))
        changing = run_concurrently(log, import_bank_file, log, QUESTIONS, bank)
    changing.result()
    assert (grades(log)["a3"], grades(log)["a4"]) == (False, False)


@pytest.mark.parametrize("accepted", [1, 0])
def test_full_credit_of_an_uncommitted_post_follows_an_imports_new_maximum(
    log: Database, run_concurrently: Any, tmp_path: Path, accepted: int
) -> None:
    post(log, attempt(4, item_id="new", correct=None, score=1))
    given = attempt(6, item_id="new", correct=None, score=3, completed_at="2026-06-04T00:00:00Z")
    if not accepted:
        given = attempt(4, item_id="new", correct=None, score=2)
    file = write_file(tmp_path, json.dumps(given) + "\n", "log.jsonl")

    def importing() -> Any:
        return import_attempts(log, [file], first_month=FIRST_MONTH, max_scores=["new=3"])

    with log.connect() as connection:
        take(connection, attempt(5, item_id="new", correct=None, score=1))
        importing_it = run_concurrently(log, importing)
    assert importing_it.result().accepted == accepted
    assert (grades(log)["a4"], grades(log)["a5"]) == (False, False)


def test_import_fails_if_a_maximum_score_changes_during_its_reading(
    log: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, usual = write_file(tmp_path, "item_id,max_score\ns,3\n"), Staging.lock

    def lock(staging: Staging) -> None:
        import_bank_file(log, QUESTIONS, bank)
        usual(staging)

    file = write_file(tmp_path, json.dumps(attempt(4, item_id="s", score=2)) + "\n", "log.jsonl")
    monkeypatch.setattr(Staging, "lock", lock)
    with pytest.raises(TransientFailure, match="the maximum score of item s changed while its answers were read"):
        import_attempts(log, [file], first_month=FIRST_MONTH)
    monkeypatch.setattr(Staging, "lock", usual)
    assert grades(log).keys() == {"a1", "a2", "a3"}
    assert import_attempts(log, [file], first_month=FIRST_MONTH).accepted == 1
    assert grades(log)["a4"] is False


def test_import_by_a_key_fails_if_the_key_changes_during_its_reading(
    log: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Staging.lock

    def lock(staging: Staging) -> None:
        to_key_b(log)
        usual(staging)

    monkeypatch.setattr(Staging, "lock", lock)
    matrix, key = (
        write_file(tmp_path, "user_id,q\nv,A\n", "matrix.csv"),
        write_file(tmp_path, "item,key\nq,A\n", "key.csv"),
    )
    with pytest.raises(PermanentFailure, match="item q: its record has key B, but this import has key A"):
        import_attempts(log, [matrix], first_month=FIRST_MONTH, mapping="wide", at=AT.date(), key=key)
    assert grades(log).keys() == {"a1", "a2", "a3"}


def test_answers_are_graded_by_the_new_key_if_the_key_changes_during_a_pull(
    log: Database, settings: Settings, run_concurrently: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = Company(log.url, tmp_path / "sources.yaml")
    company.run(
        "CREATE SCHEMA company",
        "CREATE TABLE company.answers (id bigint, learner text, question text, answered timestamptz, choice text)",
        f"INSERT INTO company.answers VALUES (4, 'u4', 'q', '{AT}', 'A')",
    )
    columns = {"attempt_id": "id", "user_id": "learner", "item_id": "question", "completed_at": "answered"}
    lms = company.write_file(
        settings,
        table="company.answers",
        mapping={"columns": columns | {"response": "choice"}, "constants": {"correct": ""}},
        cursor={"column": "answered", "key": "id"},
    )
    usual, changes = pulling.recorded_rules, []

    def recorded_rules(connection: Any) -> Any:
        found = usual(connection)
        if not changes:
            changes.append(run_concurrently(log, to_key_b, log))
        return found

    monkeypatch.setattr(pulling, "recorded_rules", recorded_rules)
    assert pull(log, lms).accepted == 1
    changes[0].result()
    assert grades(log)["4"] is False


def test_uncommitted_correction_is_withdrawn_with_its_answer(log: Database, run_concurrently: Any) -> None:
    with log.connect() as connection:
        take(connection, attempt(1, response="B", correct=None, revision=1))
        withdrawing = run_concurrently(log, lambda: withdraw(log, AnswerSelection(item_id="q"), **BY))
    assert withdrawing.result().answers == 2
    assert grades(log).keys() == {"a3"}

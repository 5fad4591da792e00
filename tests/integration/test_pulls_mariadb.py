"""`irt pull` from MariaDB: Moodle's quiz tables by the page's mapping, and MariaDB's column types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from irt_assets.intake.pulling.pull import Pull
from irt_assets.responses.erased import begin
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.mariadb import mariadb
from tests.helpers.pulled import POINTS, TABLE, Company, clock_after, pull, source
from tests.helpers.rooms import call, rows
from tests.helpers.sentences import missing_sentences, refusal

pytestmark = pytest.mark.ci
PAGE = Path(__file__).parents[2] / "docs/how-to/pull.md"
NOW = datetime.now(UTC).replace(microsecond=0)
BERLIN = ZoneInfo("Europe/Berlin")
LOG = "SELECT attempt_id, user_id, item_id, completed_at, correct FROM response_log ORDER BY attempt_id"
MOODLE = """
    CREATE TABLE mdl_question_attempts (
        id bigint(10) NOT NULL AUTO_INCREMENT PRIMARY KEY, questionusageid bigint(10) NOT NULL,
        slot bigint(10) NOT NULL,
        questionid bigint(10) NOT NULL, maxmark decimal(12,7) NOT NULL, responsesummary longtext,
        timemodified bigint(10) NOT NULL);
    CREATE TABLE mdl_question_attempt_steps (
        id bigint(10) NOT NULL AUTO_INCREMENT PRIMARY KEY, questionattemptid bigint(10) NOT NULL,
        sequencenumber bigint(10) NOT NULL, state varchar(13) NOT NULL, fraction decimal(12,7),
        timecreated bigint(10) NOT NULL, userid bigint(10));
    CREATE TABLE mdl_quiz_attempts (
        id bigint(10) NOT NULL AUTO_INCREMENT PRIMARY KEY, quiz bigint(10) NOT NULL, userid bigint(10) NOT NULL,
        uniqueid bigint(10) NOT NULL, preview smallint(3) NOT NULL DEFAULT 0, timefinish bigint(10) NOT NULL DEFAULT 0);
    INSERT INTO mdl_quiz_attempts VALUES (1, 7, 42, 100, 0, 0), (2, 7, 43, 101, 1, 0)
"""

STEP = "questionattemptid, sequencenumber, state, fraction, timecreated, userid"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with mariadb() as address:
        yield address


@pytest.fixture
def company(server: str, database: Database, tmp_path: Path) -> Company:
    made = Company(server.replace("mysql:", "mysql+pymysql:"), tmp_path / "sources.yaml")
    made.run("DROP DATABASE lms", "CREATE DATABASE lms")
    return made


def table(company: Company, time: str = "datetime(6)", score: str = "tinyint(1)", id_: str = "bigint") -> None:
    company.run(TABLE.format(time=time, score=score).replace("bigint", id_))


def time_ago(**ago: float) -> str:
    return f"'{NOW - timedelta(**ago):%Y-%m-%d %H:%M:%S}'"


def row(number: int, score: Any = 1, *, time: str, item: str = "q1") -> str:
    return f"INSERT INTO answers VALUES ({number}, 'u1', '{item}', {time}, {score}, {time})"


def test_quiz_answers_of_moodle_are_pulled_by_the_pages_mapping(
    company: Company, settings: Settings, database: Database
) -> None:
    company.run(*filter(str.strip, MOODLE.split(";")))
    then = round((NOW - timedelta(days=2)).timestamp())

    def answer(number: int, *steps: tuple[str, str, int]) -> None:
        usage = 101 if number == 9 else 100
        company.run(
            f"INSERT INTO mdl_question_attempts VALUES ({number}, {usage}, 1, {number + 500}, 1, 'B', {steps[-1][2]})"
        )
        for sequence, (state, fraction, time) in enumerate(steps):
            company.run(
                f"INSERT INTO mdl_question_attempt_steps ({STEP}) VALUES"
                f" ({number}, {sequence}, '{state}', {fraction}, {time}, 42)"
            )

    answer(1, ("todo", "NULL", then), ("complete", "NULL", then + 5), ("gradedright", "1.0000000", then + 9))
    answer(2, ("todo", "NULL", then), ("gradedwrong", "0.0000000", then + 9))
    answer(3, ("todo", "NULL", then), ("gaveup", "NULL", then + 9))
    answer(4, ("todo", "NULL", then))  # not over
    answer(9, ("todo", "NULL", then), ("gradedright", "1.0000000", then + 9))  # a preview
    given = yaml.safe_load(re.search(r"```yaml\n(moodle:.*?)```", PAGE.read_text("utf-8"), re.S)[1])  # type: ignore[index]
    lms = company.write_file(settings, **(given["moodle"] | {"address": company.address, "table": None}))
    assert pull(database, lms).accepted == 3
    stored = """SELECT attempt_id, user_id, item_id, extract(epoch FROM completed_at)::int, correct, revision
                FROM response_log ORDER BY 1"""
    assert rows(database, stored) == [
        ("1", "42", "501", then + 9, True, (then + 9) * 10**6),
        ("2", "42", "502", then + 9, False, (then + 9) * 10**6),
        ("3", "42", "503", then + 9, None, (then + 9) * 10**6),
    ]
    company.run(
        f"UPDATE mdl_question_attempts SET timemodified = {then + 500} WHERE id = 2",
        f"INSERT INTO mdl_question_attempt_steps ({STEP}) VALUES (2, 2, 'mangrright', 1, {then + 500}, 42)",
    )
    assert pull(database, lms).corrected == 1
    assert ("2", True) in rows(database, "SELECT attempt_id, correct FROM response_log")


def test_datetime_is_read_in_the_named_zone_and_timestamp_in_utc(
    company: Company, settings: Settings, database: Database
) -> None:
    noon = (NOW - timedelta(days=1)).replace(hour=12, minute=0, second=0)  # in an hour that occurs once
    table(company)
    company.run(row(1, time=f"'{noon.astimezone(BERLIN):%Y-%m-%d %H:%M:%S}'"))
    assert "answered (DATETIME) contains times without a zone" in refusal(pull, database, company.write_file(settings))
    pull(database, company.write_file(settings, zone="Europe/Berlin"))
    company.run("DROP TABLE answers")
    table(company, time="timestamp(6)")
    company.run("SET time_zone = '+00:00'", row(2, time=f"FROM_UNIXTIME({round(noon.timestamp())})"))
    pull(database, company.write_file(settings, name="other"), name="other")
    assert [one[3] for one in rows(database, LOG)] == [noon] * 2


def test_answers_in_a_repeated_hour_are_all_pulled(company: Company, settings: Settings, database: Database) -> None:
    """On 25 October 2026, Berlin has 02:00 to 03:00 twice, so that times without a zone go back."""
    table(company)
    company.run(row(1, time="'2026-10-25 02:55:00'"))
    lms = company.write_file(settings, zone="Europe/Berlin")
    pull(database, lms)
    company.run(row(2, time="'2026-10-25 02:05:00'"))
    assert pull(database, lms).accepted == 1


def test_tinyint_is_accepted_as_a_score_only_if_0_or_1(
    company: Company, settings: Settings, database: Database
) -> None:
    table(company)
    company.run(*(row(n, score, time=time_ago(days=1)) for n, score in ((1, 0), (2, 1), (3, 2), (4, "NULL"))))
    report = pull(database, company.write_file(settings, zone="UTC"))
    assert report.rejected == {"bad_score": 1}
    assert [one[4] for one in rows(database, LOG)] == [False, True, None]


def test_columns_of_bits_are_read_as_scores_and_decimals_as_points(
    company: Company, settings: Settings, database: Database
) -> None:
    table(company, score="bit(1)")
    company.run(*(row(n, score, time=time_ago(days=1)) for n, score in ((1, "b'0'"), (2, "b'1'"))))
    pull(database, company.write_file(settings, zone="UTC"))
    assert [one[4] for one in rows(database, LOG)] == [False, True]
    company.run("DROP TABLE answers")
    table(company, score="decimal(12,7)")
    company.run(
        *(row(n, score, time=time_ago(days=1), item="q2") for n, score in ((3, "3.0000000"), (4, "4"), (5, "2.5")))
    )
    report = pull(database, company.write_file(settings, name="other", zone="UTC", mapping=POINTS), name="other")
    assert report.rejected == {"bad_score": 1}
    assert rows(database, "SELECT score, correct FROM response_log WHERE item_id = 'q2' ORDER BY 1") == [
        (3, False),
        (4, True),
    ]


@pytest.mark.parametrize("time", ["datetime", "timestamp"])
def test_row_with_a_zero_date_is_refused_without_stopping_the_pull(
    time: str, company: Company, settings: Settings, database: Database
) -> None:
    table(company, time=f"{time} NOT NULL DEFAULT 0")
    zero = row(1, time="'0000-00-00 00:00:00'")
    company.run("SET sql_mode = ''", zero, row(2, time=time_ago(days=2)), row(3, time=time_ago(days=1)))
    lms = company.write_file(settings, zone="UTC")
    report = pull(database, lms)
    assert (report.accepted, dict(report.rejected)) == (2, {"bad_time": 1})
    company.run(row(4, time=time_ago(minutes=30)))
    assert pull(database, lms).accepted == 1
    assert [one[0] for one in rows(database, LOG)] == ["2", "3", "4"]


def test_faults_in_text_columns_and_an_erased_learner_are_refused_by_row(
    company: Company, settings: Settings, database: Database
) -> None:
    table(company, time="varchar(40)", score="varchar(10)")
    time, soon = time_ago(days=1), time_ago(minutes=30)
    given = [
        ("u1", time, "'true'"),
        ("u1", time.replace("'", "' ", 1), "'1'"),
        ("u1", f"CONCAT(CHAR(9), {time})", "'0'"),
        ("u1", "'infinity'", "'1'"),
        ("u1", "'10000-01-01 00:00:00'", "'1'"),
        ("erased", time, "'1'"),
        ("u1", time, "'perhaps'"),
    ]
    call(database, begin, "erased", "Kim", "asked to")
    company.run(row(1, time=time))
    assert not missing_sentences(
        refusal(pull, database, company.write_file(settings, zone="UTC")),
        "answered is VAR_STRING,",
        "(CAST it in a SELECT)",
    )
    times = ", ".join(f"CAST({name} AS datetime(6)) AS {name}" for name in ("answered", "written"))
    select = f"SELECT id, learner, question, score, {times} FROM answers"
    lms = company.write_file(settings, zone="UTC", table=None, select=select)
    assert pull(database, lms).accepted == 1
    company.run(
        *(
            f"INSERT INTO answers VALUES ({number}, '{learner}', 'q1', {answered}, {score}, {soon})"
            for number, (learner, answered, score) in enumerate(given, 2)
        )
    )
    report = pull(database, lms)
    assert report.accepted == 3
    assert dict(report.rejected) == {"bad_time": 2, "erased_learner": 1, "bad_score": 1}
    assert [(one[0], one[4]) for one in rows(database, LOG)] == [("1", True), ("2", True), ("3", True), ("4", False)]


def begin_in_batches_of_two(
    company: Company, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch, *, waiting: int
) -> Settings:
    """Pull one row, and leave others for the next pull, which reads two at a time."""
    monkeypatch.setattr("irt_assets.intake.pulling.rows.BATCH", 2)
    table(company)
    company.run(row(0, time=time_ago(days=1)))
    lms = company.write_file(settings, zone="UTC")
    pull(database, lms)
    company.run(*(row(n, time=time_ago(minutes=1)) for n in range(1, waiting + 1)))
    return lms


def test_row_whose_key_changes_during_a_pull_is_stored_under_its_new_key(
    company: Company, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lms = begin_in_batches_of_two(company, settings, database, monkeypatch, waiting=7)
    changes = iter(["UPDATE answers SET id = 70 WHERE id = 1", "UPDATE answers SET id = 60 WHERE id = 7"])
    usual = Pull._store_rows

    def take(self: Pull, *rows: Any, **options: Any) -> None:
        usual(self, *rows, **options)
        company.run(*[change for change in [next(changes, None)] if change])

    monkeypatch.setattr(Pull, "_store_rows", take)
    pull(database, lms)
    pull(database, lms)
    assert {"60", "70"} < {one[0] for one in rows(database, LOG)}


def test_absent_driver_of_mariadb_is_named(company: Company, settings: Settings, database: Database) -> None:
    address = company.address.replace("pymysql", "absent")
    assert "no driver for mysql+absent is installed" in refusal(
        pull, database, company.write_file(settings, address=address, zone="UTC")
    )


def test_unsigned_ids_above_the_signed_range_are_pulled(
    company: Company, settings: Settings, database: Database
) -> None:
    table(company, id_="bigint unsigned")
    largest = 2**64 - 1
    company.run(row(1, time=time_ago(days=1)), row(largest, time=time_ago(days=1)))
    lms = company.write_file(settings, zone="UTC", cursor={"column": "id", "key": "id"})
    assert pull(database, lms).accepted == 2
    company.run(row(largest - 1, time=time_ago(days=1)))
    assert pull(database, lms).accepted == 0  # below the greatest id: a night finds it
    assert [one[0] for one in rows(database, LOG)] == ["1", str(largest)]


def test_ids_that_differ_only_in_case_are_stored_separately(
    company: Company, settings: Settings, database: Database
) -> None:
    table(company)
    company.run(row(1, time=time_ago(days=1), item="Q1"), row(2, time=time_ago(days=1), item="q1"))
    pull(database, company.write_file(settings, zone="UTC"))
    assert [one[2] for one in rows(database, LOG)] == ["Q1", "q1"]
    lower = "SELECT id, learner, lower(question) AS question, answered, score, written FROM answers"
    pull(database, company.write_file(settings, name="other", zone="UTC", table=None, select=lower), name="other")
    assert rows(database, "SELECT item_id FROM question ORDER BY 1") == [("Q1",), ("q1",)]


def test_remaining_rows_of_a_large_result_are_not_read_after_a_timeout(
    company: Company, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lms = begin_in_batches_of_two(company, settings, database, monkeypatch, waiting=11)
    assert Pull(database, source(lms), seconds=1, clock=clock_after(1)).run().accepted == 4
    assert pull(database, lms).accepted == 7

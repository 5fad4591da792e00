"""`irt pull` from PostgreSQL: new rows are pulled once, faults stop a source, and nights detect differences."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irt_assets.decisions.rekey import rekey
from irt_assets.intake.pulling import nightly, pull as pulling, rows as source_rows
from irt_assets.intake.pulling.nightly import compare_days
from irt_assets.intake.pulling.pull import Pull
from irt_assets.intake.pulling.pull_state import (
    DayComparison,
    first_pull_under_way,
    insert_state,
    pulled_answers,
    pulls_in_words,
    store_state,
)
from jobs import pulls
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.pulled import MAPPING, NAME, POINTS, TABLE, Company, clock_after, pull, source
from tests.helpers.rooms import call, rows, run_sql
from tests.helpers.sentences import missing_sentences, refusal
from tests.helpers.typed import IrtOf
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

NOW = datetime.now(UTC).replace(microsecond=0)
LOG = "SELECT attempt_id, user_id, item_id, correct FROM response_log ORDER BY 1"


def time_ago(**ago: float) -> str:
    return f"'{(NOW - timedelta(**ago)).isoformat()}'"


def row(number: int, score: Any = 1, *, item: str = "q1", answered: str, written: str | None = None) -> str:
    cells = f"{number}, 'u{number}', '{item}', {answered}, {score}, {written or answered}"
    return f"INSERT INTO company.answers VALUES ({cells})"


@pytest.fixture
def company(database: Database, tmp_path: Path) -> Company:
    made = Company(database.url, tmp_path / "sources.yaml")
    made.run(
        "CREATE SCHEMA company",
        TABLE.format(time="timestamptz", score="smallint").replace("answers", "company.answers"),
        row(1, answered=time_ago(days=4)),
        row(2, 0, answered=time_ago(days=3)),
        row(3, answered=time_ago(hours=2)),
    )
    return made


@pytest.fixture
def lms(company: Company, settings: Settings) -> Settings:
    return company.write_file(settings, table="company.answers", revision="cursor")


def test_each_answer_is_stored_once_and_a_regraded_answer_replaces_the_former(
    company: Company, lms: Settings, database: Database
) -> None:
    assert pull(database, lms).accepted == 3
    company.run(
        row(4, answered=time_ago(minutes=1)),
        f"UPDATE company.answers SET score = 1, written = {time_ago()} WHERE id = 2",
    )
    later = [pull(database, lms) for _ in range(2)]
    # rows read twice, as rows commit out of order, have no effect
    assert [(one.read, one.accepted, one.corrected) for one in later] == [(2, 1, 1), (0, 0, 0)]
    assert rows(database, LOG) == [(f"{n}", f"u{n}", "q1", True) for n in (1, 2, 3, 4)]
    assert rows(database, "SELECT source, kind, sum(accepted)::int FROM intake GROUP BY 1, 2") == [(NAME, "pull", 4)]


@pytest.mark.parametrize("cursor", ["written", "id"])
def test_row_committed_late_is_pulled_next_time(
    company: Company, settings: Settings, database: Database, cursor: str
) -> None:
    lms = company.write_file(settings, table="company.answers", cursor={"column": cursor, "key": "id"})
    pull(database, lms)
    with company.open_transaction(row(4, answered=time_ago(minutes=2))):
        company.run(row(5, answered=time_ago(minutes=1)))
        assert pull(database, lms).accepted == 1
    assert pull(database, lms).accepted == 1
    assert [one[0] for one in rows(database, LOG)] == ["1", "2", "3", "4", "5"]


def test_remaining_rows_with_the_same_cursor_value_are_pulled_next_time(
    company: Company, lms: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irt_assets.intake.pulling.rows.BATCH", 2)
    pull(database, lms)
    company.run(*(row(n, answered=time_ago(minutes=5)) for n in range(10, 20)))
    taken = [Pull(database, source(lms), seconds=1, clock=clock_after(1)).run().accepted for _ in range(3)]
    assert taken == [4, 4, 2]


def test_second_reading_of_recent_rows_resumes_after_a_timeout(
    company: Company, lms: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irt_assets.intake.pulling.rows.BATCH", 2)
    company.run(*(row(n, answered=time_ago(minutes=5)) for n in range(10, 20)))
    pull(database, lms)
    Pull(database, source(lms), seconds=1, clock=clock_after(2)).run()
    [(again,)] = rows(database, "SELECT again FROM pull_source")
    assert again["behind"][1] == 13
    company.run(row(20, answered=time_ago(minutes=6)))
    assert (pull(database, lms).accepted, pull(database, lms).accepted) == (0, 1)


def test_time_of_a_source_is_the_begin_of_the_last_complete_pull(
    company: Company, lms: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irt_assets.intake.pulling.rows.BATCH", 2)
    assert call(database, pulled_answers) == (False, None)
    [(begin,)] = rows(database, "SELECT now()")
    pull(database, lms)
    first = call(database, pulled_answers).until
    assert first is not None
    assert begin < first
    company.run(*(row(n, answered=time_ago(minutes=5)) for n in range(10, 20)))
    Pull(database, source(lms), seconds=1, clock=clock_after(1)).run()
    assert call(database, pulled_answers) == (True, first), "rows remain"
    [(begin,)] = rows(database, "SELECT now()")
    pull(database, lms)
    later = call(database, pulled_answers).until
    assert later is not None
    assert begin < later
    [(stored,)] = rows(database, "SELECT max(recorded_at) FROM response_log")
    assert later < stored, "a row that was written during the pull may be missing"


def test_refused_row_counts_once_if_several_pulls_read_the_row(
    company: Company, lms: Settings, database: Database
) -> None:
    pull(database, lms)
    company.run(*(row(n, 1 if n > 10 else 2, answered=time_ago(minutes=1)) for n in range(10, 130)))
    assert pull(database, lms).rejected == {"bad_score": 1}
    assert pull(database, lms).rejected == {}
    assert rows(database, "SELECT source, kind, reason, value FROM intake_reject") == [(NAME, "pull", "bad_score", "2")]
    company.run(f"UPDATE company.answers SET score = 0, written = {time_ago()} WHERE id = 10")
    assert pull(database, lms).accepted == 1


def test_source_with_points_as_scores_is_stopped_and_no_answer_is_stored(
    company: Company, lms: Settings, database: Database
) -> None:
    company.run(*(row(n, 2, answered=time_ago(days=80)) for n in (10, 11)))
    assert not missing_sentences(refusal(pull, database, lms), "2 of its first 2 rows are bad_score", "--accept")
    assert "was stopped" in refusal(pull, database, lms)
    assert rows(database, LOG) == []
    company.run("DELETE FROM company.answers WHERE id IN (10, 11)")
    assert pull(database, lms, accept=True).accepted == 3


def test_rules_for_files_in_the_mapping_of_a_pull_are_refused(
    company: Company, settings: Settings, database: Database
) -> None:
    mapping = MAPPING | {"rename": {"a": "b"}, "file": {"header": 2}}
    with pytest.raises(PermanentFailure, match="only files have file, rename; take them out of mapping"):
        pull(database, company.write_file(settings, table="company.answers", mapping=mapping))


def test_scores_are_pulled_if_the_mapping_has_maximum_scores(
    company: Company, settings: Settings, database: Database
) -> None:
    company.run(row(4, 3, answered=time_ago(hours=1)))
    assert pull(database, company.write_file(settings, table="company.answers", mapping=POINTS)).accepted == 4
    found = rows(database, "SELECT score, correct FROM response_log ORDER BY attempt_id")
    assert found == [(1, False), (0, False), (1, False), (3, False)]
    assert rows(database, "SELECT max_score FROM question") == [(4,)]


@pytest.mark.parametrize(("columns", "right"), [({}, [True, False, True]), ({"response": "chosen"}, [False] * 3)])
def test_source_with_chosen_options_is_scored_by_the_banks_key(
    company: Company, settings: Settings, database: Database, columns: dict[str, str], right: list[bool]
) -> None:
    company.run("ALTER TABLE company.answers ADD chosen text DEFAULT 'A'")
    run_sql(database, """INSERT INTO question (item_id, meta) VALUES ('q1', '{"key": "B"}')""")
    mapping = {"columns": MAPPING["columns"] | columns}
    assert pull(database, company.write_file(settings, table="company.answers", mapping=mapping)).accepted == 3
    assert [found[3] for found in rows(database, LOG)] == right


def test_key_decided_during_a_pull_scores_the_pulled_choices(
    company: Company, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decides during the pull, which has read the former key; the decision waits, and scores the answers again."""
    company.run("ALTER TABLE company.answers ADD chosen text DEFAULT 'A'")
    run_sql(database, """INSERT INTO question (item_id, meta) VALUES ('q1', '{"key": "B"}')""")
    mapping = {"columns": MAPPING["columns"] | {"response": "chosen"}}
    lms = company.write_file(settings, table="company.answers", mapping=mapping)
    real, waiting = (
        pulling.scoring_of,
        """SELECT count(*) > 0 FROM pg_locks JOIN pg_database d ON d.oid = database
           WHERE NOT granted AND datname = current_database()""",
    )
    decisions: list[Future[Any]] = []

    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:

        def decide_meanwhile(*given: Any) -> Any:
            scoring = real(*given)
            if not decisions:
                decisions.append(pool.submit(rekey, database, "q1", True, by="Ann", reason="wrong key"))
                wait_for("the decision to wait", lambda: rows(database, waiting) == [(True,)])
            return scoring

        patch.setattr(pulling, "scoring_of", decide_meanwhile)
        assert pull(database, lms).accepted == 3
        assert decisions[0].result().answers > 0
    assert [found[3] for found in rows(database, LOG)] == [True] * 3


def test_changed_type_of_a_column_stops_the_source_and_is_named(
    company: Company, lms: Settings, database: Database
) -> None:
    pull(database, lms)
    company.run("ALTER TABLE company.answers ALTER learner TYPE text", row(4, answered=time_ago(minutes=1)))
    assert "learner was varchar(40) and is text" in refusal(pull, database, lms)
    assert len(rows(database, LOG)) == 3
    assert pull(database, lms, accept=True).accepted == 1


def test_interrupted_first_pull_resumes_and_begins_with_the_newest_month(
    company: Company, lms: Settings, database: Database
) -> None:
    company.run(row(9, answered=time_ago(days=40)))
    messages: list[str] = []
    interrupted = Pull(
        database, source(lms), seconds=1, report_progress=messages.append, clock=lambda: 2.0 * len(messages)
    )
    assert interrupted.run(newest_first=True).accepted == 1
    assert rows(database, "SELECT attempt_id FROM response_log") != [("9",)]
    company.run(row(4, answered=time_ago(minutes=1)))
    assert pull(database, lms).accepted == 4
    assert rows(database, "SELECT first_pull FROM pull_source") == [(None,)]


def test_comparison_pulls_missing_answers_and_withdraws_deleted_answers(
    company: Company, lms: Settings, database: Database
) -> None:
    day = (NOW - timedelta(days=3)).replace(hour=10).isoformat()
    company.run(*(row(n, n % 2, answered=f"'{day}'") for n in range(100, 400)))
    pull(database, lms)
    assert _compare_days(database, lms) == []
    company.run("DELETE FROM company.answers WHERE id = 100", row(400, answered=f"'{day}'", written="'2020-01-01'"))
    company.run("UPDATE company.answers SET score = 7 WHERE id = 101")  # still a row, but no answer
    assert _compare_days(database, lms, later=1) == []  # the number of rows is the same
    company.run("DELETE FROM company.answers WHERE id = 102")
    [found] = _compare_days(database, lms, later=2)
    assert (found.missing, found.vanished, found.waits) == (1, 2, False)
    corrections = rows(database, "SELECT attempt_id, how, corrected_by, reason FROM attempt_correction ORDER BY 1")
    assert corrections == [(n, "withdraw", "irt pull", "lms no longer has it") for n in ("100", "102")]
    assert {("400",), ("101",)} <= set(rows(database, "SELECT attempt_id FROM response_log"))
    assert _compare_days(database, lms, later=3) == []


def test_withdrawal_of_more_than_1_percent_of_a_day_waits_for_a_person(
    company: Company, lms: Settings, database: Database
) -> None:
    pull(database, lms)
    company.run("DELETE FROM company.answers WHERE id = 2")
    [found] = _compare_days(database, lms)
    assert (found.vanished, found.waits) == (1, True)
    assert str(found).endswith(f"→ irt pull lms --confirm {found.day}")
    assert len(rows(database, LOG)) == 3
    [done] = compare_days(database, source(lms), NOW, confirm=found.day)
    assert (done.vanished, done.waits, len(rows(database, LOG))) == (1, False, 2)


def test_answers_from_outside_the_source_are_never_withdrawn(
    company: Company, lms: Settings, database: Database
) -> None:
    company.run("DELETE FROM company.answers WHERE id = 2")
    pull(database, lms)
    other = f"('x', {time_ago(days=3)}, 'u', 'q')"
    company.run(f"INSERT INTO public.response_log (attempt_id, completed_at, user_id, item_id) VALUES {other}")
    assert _compare_days(database, lms) == []


def _compare_days(database: Database, settings: Settings, later: int = 0) -> list[DayComparison]:
    return [*compare_days(database, source(settings), NOW + timedelta(days=later))]


def test_unreachable_source_is_named_without_its_password(
    company: Company, settings: Settings, database: Database
) -> None:
    lms = company.write_file(settings, address="postgresql://irt:hush@127.0.0.1:1/lms")
    with pytest.raises(TransientFailure, match="lms: postgresql") as raised:
        pull(database, lms)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"zonee": "UTC"}, "lms: zonee: unknown field; did you mean zone?"),
        ({"mapping": {"colums": {}}}, "lms: colums: unknown field; did you mean columns?"),
        ({"zone": "Mars"}, "not a time zone"),
        ({"cursor": None}, "cursor is missing"),
        ({"cursor": {"column": "nope", "key": "id"}}, "the cursor names 'nope'"),
        ({"cursor": {"column": "id", "key": "id"}, "revision": "cursor"}, "id cannot be the revision"),
        ({"select": "SELECT 1"}, "either a table or a select"),
        ({"address": "nonsense:hush"}, "address is not a URL"),
    ],
)
def test_errors_in_the_file_of_sources_are_named(
    company: Company, settings: Settings, database: Database, keys: dict[str, Any], says: str
) -> None:
    wrong = company.write_file(settings, **({"table": "company.answers"} | keys))
    error = refusal(pull, database, wrong)
    assert (says in error, "hush" in error) == (True, False), error


def test_file_of_sources_is_refused_if_readable_by_further_users(
    company: Company, lms: Settings, database: Database
) -> None:
    company.file.chmod(0o640)
    assert "chmod 600" in refusal(pull, database, lms)


def _die_at_call(settings: Settings, step: str, nth: int) -> None:
    """Pull or compare, in a child process, and die by SIGKILL after the nth call of a function."""
    module, name = {
        "store": (pulling, "store_state"),
        "take": (pulling, "ingest_answers"),
        "withdraw": (nightly, "withdraw_answers"),
    }[step]
    calls, real = 0, getattr(module, name)

    def dying(*given: Any, **named: Any) -> Any:
        nonlocal calls
        done = real(*given, **named)
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(module, name, dying)
    source_rows.BATCH = 2
    if step == "withdraw":
        list(compare_days(Database(settings), source(settings), NOW))
    else:
        Pull(Database(settings), source(settings)).run()


def _kill(settings: Settings, step: str, nth: int) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die_at_call, args=(settings, step, nth))
    process.start()
    process.join(patient(60))
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("step", "nth"),
    [
        ("take", 1),
        ("store", 3),
        pytest.param("take", 2, marks=pytest.mark.long),
        pytest.param("store", 5, marks=pytest.mark.long),
    ],
)
def test_killed_pull_neither_loses_nor_duplicates_answers(
    company: Company, lms: Settings, database: Database, step: str, nth: int
) -> None:
    """Killed before a commit and after a commit between batches, in the first pull and in a later pull."""
    company.run(*(row(n, n % 2, answered=time_ago(days=3)) for n in range(10, 20)))
    _kill(lms, step, nth)
    counted = rows(database, "SELECT coalesce(sum(accepted), 0)::int FROM intake WHERE kind = 'pull'")
    assert counted == rows(database, "SELECT count(*)::int FROM response_log")
    pull(database, lms)
    company.run(*(row(n, n % 2, answered=time_ago(minutes=2)) for n in range(30, 40)))
    _kill(lms, step, 1)
    pull(database, lms)
    ids = [one[0] for one in rows(database, "SELECT attempt_id FROM response_log ORDER BY attempt_id::int")]
    assert ids == [str(n) for n in (1, 2, 3, *range(10, 20), *range(30, 40))]
    assert rows(database, "SELECT sum(accepted)::int, sum(duplicates)::int FROM intake")[0][0] == len(ids)


def test_killed_comparison_leaves_its_day_unchanged(company: Company, lms: Settings, database: Database) -> None:
    company.run(*(row(n, n % 2, answered=time_ago(days=3)) for n in range(100, 400)))
    pull(database, lms)
    company.run("DELETE FROM company.answers WHERE id = 100")
    _kill(lms, "withdraw", 1)
    assert rows(database, "SELECT count(*) FROM attempt_correction") == [(0,)]
    [found] = _compare_days(database, lms)
    assert (found.vanished, found.waits, found.here) == (1, False, 300)


def test_pull_sensor_alerts_on_a_stopped_source_and_on_a_waiting_day(
    company: Company, lms: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(lms)
    assert "lms: 3 rows, 3 new, 0 corrected" in _tick(database)
    company.run("DELETE FROM company.answers WHERE id = 2")
    later = NOW.replace(hour=3) + timedelta(days=1)
    monkeypatch.setattr(pulls, "datetime", SimpleNamespace(now=lambda _zone: later))
    _tick(database)
    company.run("ALTER TABLE company.answers ALTER learner TYPE text")
    assert [part in _tick(database) for part in ("learner was varchar(40)", "stopped")] == [True, True]
    open_alerts = rows(database, "SELECT key, severity FROM alert WHERE resolved_at IS NULL ORDER BY 1")
    day = (NOW - timedelta(days=3)).date()
    assert open_alerts == [("pull lms", "error"), (f"pull lms {day}", "warning")]
    state, waiting = call(database, pulls_in_words)
    assert state.startswith("lms: stopped: its columns have changed since the first pull")
    assert waiting.startswith(
        f"lms {day}: 0 rows there, 1 answers here; 0 missing are to be fetched, 1 vanished are to"
    )
    assert pull(database, lms, accept=True).read == 0
    _tick(database)
    assert rows(database, "SELECT key FROM alert WHERE resolved_at IS NULL") == [(f"pull lms {day}",)]


def _tick(database: Database) -> str:
    with dg.build_sensor_context(resources={"database": database}, sensor_name="pull") as context:
        return str(pulls.pull.evaluate_tick(context).skip_message)


def test_pull_command_prints_counts_and_open_confirmations(company: Company, lms: Settings, irt: IrtOf) -> None:
    typed = irt(lms)
    company.run(row(9, answered=time_ago(days=40)), row(10, answered=time_ago(days=80)))
    first, closed = ((NOW - timedelta(days=n)).strftime("%Y-%m") for n in (40, 80))
    run_sql(
        Database(lms),
        """INSERT INTO month_state (month, scale_id, state, decided_by, reason, snapshot_hash, rules, items,
                                    test_accounts)
           VALUES (%s, 'default', 'closed', 'nightly', '', '', '{}', '{}', '[]')""",
        (closed,),
    )
    assert not missing_sentences(
        typed("pull", "--newest-first").out,
        "lms: 5 rows read, 5 accepted, 0 corrected, 0 duplicates, rejected: none",
        f"months that the first pull filled: irt backfill --from {first} --to ",
        f"only once you reopen them: {closed} → irt month reopen {closed}\n",
        "rows, ",
        " left\n",
    )
    assert "--confirm" not in typed("pull", "lms", "--compare").out
    company.run("DELETE FROM company.answers WHERE id = 2")
    done = typed("pull", "lms", "--compare")  # compares again, although today's comparison is done
    day = (NOW - timedelta(days=3)).date()
    assert f"→ irt pull lms --confirm {day}" in done.out
    assert "1 vanished were withdrawn" in typed("pull", "lms", "--confirm", str(day)).out
    assert typed("pull", "nothing").code == 2
    assert "pull: lms: read 20" in typed("status").out
    assert typed("job", "pull").out == "pull: done\n"


def test_status_marks_a_source_without_the_time_of_the_last_write(
    company: Company, settings: Settings, database: Database
) -> None:
    lms = company.write_file(settings, table="company.answers")
    pull(database, lms)
    company.run(f"UPDATE company.answers SET score = 1, written = {time_ago()} WHERE id = 2")
    assert pull(database, lms).rejected == {"conflicting_duplicate": 1}
    [line] = call(database, pulls_in_words)
    assert line.endswith("regrading is not noticed (no `revision: cursor`)")


def test_months_wait_for_the_end_of_a_first_pull(company: Company, lms: Settings, database: Database) -> None:
    with database.connect() as connection:
        found = [first_pull_under_way(connection)]
        pull_state = insert_state(connection, NAME, {}, True)
        pull_state.first_pull = {"days": ["2026-01-01"], "behind": None}
        store_state(connection, pull_state)
        found.append(first_pull_under_way(connection))
        connection.execute("UPDATE pull_source SET pulled_at = now() - interval '2 hours'")
        assert [*found, first_pull_under_way(connection)] == [False, True, False]


FAR = ("'infinity'", "'-infinity'", "'10000-01-01T00:00:00Z'", "'0044-03-15 BC'")


@pytest.mark.parametrize("time", ["timestamptz", "timestamp", "numeric"])
def test_row_with_a_time_beyond_all_calendars_is_refused_without_stopping_the_pull(
    company: Company, settings: Settings, database: Database, time: str
) -> None:
    """The time occurs in the first pull and in a later one, as the time of the answer and as the cursor."""
    answered, written, far = time_ago(minutes=30), "now() AT TIME ZONE 'UTC'", FAR
    mapping: dict[str, Any] = MAPPING
    cursor: dict[str, Any] = {"column": "written", "key": "id"}
    if time == "timestamptz":
        written = "now()"
    if time == "numeric":
        answered, written = f"{(NOW - timedelta(minutes=30)).timestamp():.0f}", "extract(epoch FROM now())"
        far = ("'Infinity'", "'-Infinity'", "'NaN'", "1e300")
        mapping, cursor = mapping | {"time": {"unit": "s"}}, cursor | {"unit": "s"}
    company.run(
        "DROP TABLE company.answers",
        TABLE.format(time=time, score="smallint").replace("answers", "company.answers"),
    )

    def add(first: int) -> None:
        company.run(
            row(first, answered=answered, written=written),
            row(first + 1, answered=answered, written=far[0]),
            *(row(first + 2 + k, answered=value, written=written) for k, value in enumerate(far)),
        )

    add(10)
    lms = company.write_file(settings, table="company.answers", mapping=mapping, cursor=cursor, zone="UTC")
    for first in (20, 30):
        report = pull(database, lms)
        assert (report.accepted, dict(report.rejected)) == (2, {"bad_time": 4})
        add(first)
    pull(database, lms)
    assert [name for name, *_ in rows(database, LOG)] == ["10", "11", "20", "21", "30", "31"]
    assert rows(database, "SELECT stopped FROM pull_source") == [(None,)]


def test_answers_of_days_outside_the_log_are_read_in_few_statements_and_refused(
    company: Company, lms: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement per day, from 1970 to 2150, would be 66,000 statements."""
    written = time_ago(days=1)
    company.run(row(4, answered="'1970-01-01Z'", written=written), row(5, answered="'2150-01-01Z'", written=written))
    parts: list[Any] = []
    usual = source_rows.SqlRows.read
    monkeypatch.setattr(source_rows.SqlRows, "read", lambda self, part: parts.append(part) or usual(self, part))
    report = pull(database, lms)
    assert (report.accepted, dict(report.rejected)) == (3, {"time_before_first_month": 1, "time_in_future": 1})
    starts = [part.start for part in parts if part.start is not None]
    assert min(starts) >= datetime.fromisoformat(f"{lms.irt_first_month}-01").replace(tzinfo=UTC)
    assert max(starts) <= NOW + timedelta(days=2)


def test_source_with_a_missing_driver_is_named_and_the_remaining_sources_are_pulled(
    company: Company, lms: Settings, database: Database
) -> None:
    text = company.file.read_text("utf-8")
    others = "".join(
        f"{name}: {{address: '{address}', table: t, cursor: {{column: a, key: b}}}}\n"
        for name, address in (("oracle", "oracle+absent://host/db"), ("strange", "strange://host/db"))
    )
    company.file.write_text(others + text, "utf-8")
    result = _tick(Database(lms))
    absent = "oracle: no driver for oracle+absent is installed", "strange: no driver for strange is installed"
    assert not missing_sentences(result, *absent, f"{NAME}: 3 rows, 3 new")


def test_unexpected_exception_ends_only_the_pull_of_its_source(
    company: Company, lms: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.file.write_text(company.file.read_text("utf-8").replace(NAME, "broken") + company.file.read_text("utf-8"))
    usual = Pull.run

    def run(self: Pull, **options: Any) -> Any:
        if self.source.name == "broken":
            raise ZeroDivisionError
        return usual(self, **options)

    monkeypatch.setattr(Pull, "run", run)
    result = _tick(Database(lms))
    assert not missing_sentences(result, "broken: the pull failed with ZeroDivisionError", f"{NAME}: 3 rows, 3 new")
    assert rows(database, "SELECT key FROM alert") == [("pull broken",)]


# -- from a lake -------------------------------------------------------------------------------------
# `irt pull` from a folder of Parquet.

LAKE_LOG = "SELECT attempt_id, correct FROM response_log ORDER BY attempt_id::int"


def table(*numbers: int, score: int = 1, ago: timedelta = timedelta(days=2)) -> pa.Table:
    when = pa.array([NOW - ago + timedelta(milliseconds=n) for n in numbers], pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "learner": pa.array([f"u{n}" for n in numbers], pa.string()),
            "question": pa.array(["q1"] * len(numbers), pa.string()),
            "answered": when,
            "score": pa.array([score] * len(numbers), pa.int32()),
            "written": when,
        }
    )


@pytest.fixture
def lake_company(database: Database, tmp_path: Path) -> Company:
    return Company(database.url, tmp_path / "sources.yaml")


def test_folder_of_parquet_files_is_pulled_like_a_table(
    lake_company: Company, settings: Settings, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "it's: a lake"
    (folder / "day=1").mkdir(parents=True)
    lms = lake_company.write_file(settings, address=f"parquet:{folder}", table=None, revision="cursor")
    with pytest.raises(TransientFailure, match="the folder cannot be read"):
        pull(database, lms)
    pq.write_table(table(1, 2), folder / "day=1/a.parquet")
    assert pull(database, lms).accepted == 2
    pq.write_table(table(2, 3, score=0, ago=timedelta(hours=1)), folder / "b.parquet")
    report = pull(database, lms)
    assert (report.accepted, report.corrected, pull(database, lms).read) == (1, 1, 0)
    assert rows(database, LAKE_LOG) == [("1", True), ("2", False), ("3", False)]
    pq.write_table(table(1, 9, score=1), folder / "day=1/a.parquet")
    [found] = compare_days(database, source(lms), NOW, confirm=(NOW - timedelta(days=2)).date())
    assert (found.missing, found.vanished) == (1, 0)  # 2 is in the folder, with its newer row


def test_zoned_times_in_nanoseconds_in_parquet_are_read(
    lake_company: Company, settings: Settings, database: Database, tmp_path: Path
) -> None:
    """Pandas writes such times. DuckDB reads the largest of them as infinity."""
    day_ago = round((datetime.now(UTC) - timedelta(days=1)).timestamp()) * 10**9
    answered, written = (pa.array(at, pa.timestamp("ns", "UTC")) for at in ([day_ago, 2**63 - 1], [day_ago] * 2))
    columns = {"id": [1, 2], "learner": ["u", "u"], "question": ["q", "q"], "score": [1, 1]}
    folder = tmp_path / "nanoseconds"
    folder.mkdir()
    pq.write_table(pa.table(columns | {"answered": answered, "written": written}), folder / "part.parquet")
    report = pull(database, lake_company.write_file(settings, address=f"parquet:{folder}", table=None))
    assert (report.accepted, set(report.rejected)) == (1, {"bad_time"})


def test_parquet_rows_with_times_beyond_all_calendars_are_refused(
    lake_company: Company, settings: Settings, database: Database, tmp_path: Path
) -> None:
    lms = lake_company.write_file(settings, address=f"parquet:{tmp_path / 'lake'}", table=None)
    (tmp_path / "lake").mkdir()
    far = pa.array([2**62, -(2**61)], pa.int64()).cast(pa.timestamp("us", "UTC"))
    sound = table(1, 2, 3, 4)
    answered = pa.concat_arrays([sound["answered"].combine_chunks()[:2], far])
    pq.write_table(sound.set_column(3, "answered", answered), tmp_path / "lake/a.parquet")
    report = pull(database, lms)
    assert (report.accepted, dict(report.rejected)) == (2, {"bad_time": 2})

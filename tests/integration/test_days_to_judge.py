"""Days that a scale's changed or first rules judge again: named before they are, and judged by one run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from irt_assets.common.job_names import JUDGE_JOB
from irt_assets.common.partitions import month_of
from irt_assets.decisions.days_to_judge import days_of_change, days_of_new_scale
from irt_assets.responses.judged_assets import look_back
from irt_assets.responses.scales import Scale, change_rules, consider_rules, store_scale
from irt_assets.responses.verdicts import days_that_differ, judge_differing
from irt_assets.runs import queue
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.dagster_private import create_run_for_test
from tests.helpers.rooms import SCALE, add_attempts, add_items, attempt, run_sql
from tests.helpers.sentences import unsaid
from tests.helpers.typed import IrtOf
from tests.testbed.partitions import ensure_month_partitions

OTHER = "other"
SIGNED = ("--by", "Ann", "--reason", "hints give it away", "--yes")
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
OLD = TODAY - timedelta(days=800)
CLOSED = TODAY - timedelta(days=200)
DAYS = [TODAY - timedelta(days=n) for n in (90, 9, 1)]
OTHERS_DAY = TODAY - timedelta(days=5)


@pytest.fixture
def judged(database: Database) -> Database:
    """Judged answers to a scale on three days, in a closed month, and before the look-back; and to another scale."""
    with database.connect() as connection:
        ensure_month_partitions(connection, month_of(OLD), month_of(TODAY))
        store_scale(connection, Scale(SCALE), {"kind": "made up"})
    add_items(database, {"q1": None})
    add_items(database, {"r1": None}, OTHER)
    add_attempts(database, [attempt(f"u{n}", "q1", at) for n, at in enumerate([OLD, CLOSED, *DAYS])])
    add_attempts(database, [attempt("u0", "r1", OTHERS_DAY)])
    run_sql(
        database,
        """INSERT INTO month_state (month, scale_id, state, decided_by, reason, snapshot_hash, rules, items,
                                    test_accounts)
           VALUES (%s, %s, 'closed', 'nightly', '', '', '{}', '{}', '[]')""",
        (month_of(CLOSED), SCALE),
    )
    judge_differing(database, OLD.date(), TODAY.date())
    return database


def dates(times: list[datetime]) -> list[date]:
    return [at.date() for at in times]


def differing(database: Database) -> list[date]:
    with database.connect() as connection:
        start, end = look_back(connection, datetime.now(UTC))
        return days_that_differ(connection, start.date(), end.date())


@pytest.mark.parametrize(("rules", "days"), [({"hinted": "exclude"}, DAYS), ({"min_responses": 7}, [])])
def test_days_of_a_changed_rule_are_those_that_differ_once_it_holds(
    judged: Database, rules: dict[str, object], days: list[datetime]
) -> None:
    assert differing(judged) == []
    with judged.connect() as connection:
        found = days_of_change(connection, consider_rules(connection, SCALE, rules), datetime.now(UTC))
    assert found.days == dates(days)
    change_rules(judged, SCALE, rules)
    assert differing(judged) == found.days


def test_days_of_a_new_scale_are_those_without_verdicts_unless_its_rules_differ_from_the_defaults(
    judged: Database,
) -> None:
    run_sql(judged, "DELETE FROM judged_day WHERE day = ANY(%s)", ([OTHERS_DAY.date(), DAYS[1].date()],))
    found = []
    for rules in ("{}", '{"min_responses": 7}', '{"hinted": "exclude"}'):
        run_sql(judged, "UPDATE calibration_scale SET rules = %s WHERE scale_id = %s", (rules, SCALE))
        with judged.connect() as connection:
            found.append(days_of_new_scale(connection, SCALE, datetime.now(UTC)).days)
    unjudged = dates([DAYS[1], OTHERS_DAY])
    assert found == [unjudged, unjudged, sorted({*unjudged, *dates(DAYS)})]


def test_command_names_the_days_and_queues_one_run(
    judged: Database, settings: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = irt(settings)
    assert "to be judged" not in typed("scale", "set", "min_responses=7", *SIGNED).out
    asked = typed("scale", "set", "hinted=exclude", *SIGNED)
    days = f"to be judged: three days, {DAYS[0]:%Y-%m-%d} to {DAYS[-1]:%Y-%m-%d}"
    closed = f"; closed months keep their rules: {month_of(CLOSED)}"
    assert not unsaid(asked.out, days, closed, f"not judged yet, as no daemon runs: `irt job {JUDGE_JOB}`"), asked.out
    asked_for: list[str] = []

    def queued(
        instance: dg.DagsterInstance, _workspace: Path, _location: str, job: str, tags: Mapping[str, str], **_: object
    ) -> str:
        run = create_run_for_test(instance, job, status=dg.DagsterRunStatus.NOT_STARTED, tags=dict(tags))
        asked_for.append(run.run_id)
        return run.run_id

    monkeypatch.setattr(queue, "daemon_alive", lambda _: True)
    monkeypatch.setattr(queue, "queue_run", queued)
    for rule in ("hinted=wrong", "hinted=exclude"):
        said = typed("scale", "set", rule, *SIGNED)
        assert said.code == 0, said.err
        assert not unsaid(said.out, days, f"{JUDGE_JOB} judges them: run {asked_for[0]}"), said.out
    assert len(asked_for) == 1

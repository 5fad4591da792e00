"""Verdicts as Dagster makes them: by the nightly job, or by a range of days in one run."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from irt_assets.common.job_names import INVENTORY, JUDGE_JOB, JUDGED
from irt_assets.common.partitions import day_of, last_complete_month
from irt_assets.responses import verdicts
from resources.dagster_compat import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from resources.settings import Settings
from tests.helpers.rooms import add_attempts, add_items, attempt, rows, run_sql
from tests.integration.graph import Graph, checks, metadata

MONTH = last_complete_month(datetime.now(UTC))
DAYS = [day_of(MONTH.start + timedelta(days=n)) for n in (2, 3, 5)]
VERDICTS = "SELECT attempt_id, reason, score FROM attempt_verdict ORDER BY 1"
BACKFILL = "backfill_of_days"


class Days(Graph):
    """The real graph over a log of three days of the last month."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        super().__init__(settings.model_copy(update={"irt_first_month": str(MONTH)}), instance)
        days = dg.Definitions(jobs=[dg.define_asset_job(BACKFILL, [JUDGED])])
        self.defs = dg.Definitions.merge(self.defs, days)
        add_items(self.database, {"i0": None, "i1": None})
        log = [attempt("ann", f"i{k % 2}", date_at(day), attempt_id=f"a{k}") for k, day in enumerate(DAYS)]
        add_attempts(self.database, log)

    def backfill(self, first: str, last: str) -> dg.ExecuteInProcessResult:
        """A range of days in one run."""
        return self.run(job=BACKFILL, **{ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last})

    def reported_days(self) -> list[str]:
        return sorted(self.instance.get_materialized_partitions(dg.AssetKey(JUDGED)))


def date_at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)


@pytest.fixture
def graph(settings: Settings, instance: dg.DagsterInstance) -> Days:
    return Days(settings, instance)


def test_judge_job_judges_and_reports_the_waiting_days(graph: Days) -> None:
    assert (
        graph.run(job=JUDGE_JOB).success,
        graph.reported_days(),
        rows(graph.database, "SELECT count(*) FROM attempt_verdict"),
    ) == (True, DAYS, [(3,)])
    run_sql(graph.database, "UPDATE response_log SET correct = false, recorded_at = now() WHERE attempt_id = 'a1'")
    before = n_reports(graph)
    result = graph.run(job=JUDGE_JOB)
    assert [one.partition for one in materializations(result)] == [DAYS[1]]
    assert (n_reports(graph), rows(graph.database, "SELECT score FROM attempt_verdict WHERE attempt_id = 'a1'")) == (
        before + 1,
        [(0,)],
    )


def test_item_times_of_the_previous_month_are_computed_once(graph: Days) -> None:
    run_sql(graph.database, "UPDATE response_log SET response_time_ms = 4000, recorded_at = now()")
    taken = "SELECT item_id, n FROM item_time WHERE month = %s ORDER BY 1"
    graph.run(job=JUDGE_JOB)
    assert rows(graph.database, taken, [MONTH]) == [("i0", 2), ("i1", 1)]
    add_attempts(graph.database, [attempt("bob", "i1", date_at(DAYS[2]), response_time_ms=9000)])
    graph.run(job=JUDGE_JOB)
    assert rows(graph.database, taken, [MONTH]) == [("i0", 2), ("i1", 1)]


def test_run_over_a_range_that_fails_keeps_and_reports_the_earlier_days(
    graph: Days, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = verdicts._judge

    def dies(connection: Any, fingerprint: Any, *others: Any) -> Any:
        if fingerprint.day == date.fromisoformat(DAYS[2]):
            raise RuntimeError("killed")
        return judge(connection, fingerprint, *others)

    with monkeypatch.context() as until_then:
        until_then.setattr(verdicts, "_judge", dies)
        assert not graph.backfill(DAYS[0], DAYS[2]).success
    assert (graph.reported_days(), [row[0] for row in rows(graph.database, VERDICTS)]) == (DAYS[:2], ["a0", "a1"])
    first = rows(graph.database, "SELECT attempt_id, judged_at FROM attempt_verdict ORDER BY 1")
    result = graph.backfill(DAYS[0], DAYS[2])
    assert result.success
    assert set(DAYS) < set(graph.reported_days()), "a day without an answer is judged, too"
    assert rows(graph.database, "SELECT attempt_id, judged_at FROM attempt_verdict ORDER BY 1")[:2] == first
    assert (metadata(result, JUDGED)["rows written"], checks(result)[INVENTORY].passed) == (1, True)


def test_single_day_is_judged_completely_even_if_no_verdict_differs(graph: Days) -> None:
    graph.run(job=JUDGE_JOB)
    run_sql(graph.database, "DELETE FROM attempt_verdict WHERE attempt_id = 'a0'")
    assert (
        graph.backfill(DAYS[0], DAYS[2]).success,
        len(rows(graph.database, VERDICTS)),
        graph.run(DAYS[0], BACKFILL).success,
        len(rows(graph.database, VERDICTS)),
    ) == (True, 2, True, 3)


def test_inventory_names_the_waiting_days(graph: Days) -> None:
    def found() -> dg.AssetCheckEvaluation:
        evaluations = graph.run(job="inventory").get_asset_check_evaluations()
        return {one.asset_key.to_user_string(): one for one in evaluations}[JUDGED]

    waiting = found()
    assert (waiting.passed, waiting.description) == (
        False,
        f"3 days wait to be judged: {', '.join(reversed(DAYS))}; run the job judge_attempts",
    )
    graph.run(job=JUDGE_JOB)
    assert found().passed
    run_sql(graph.database, "DELETE FROM response_log WHERE attempt_id = 'a2'")
    assert not found().passed


def materializations(result: dg.ExecuteInProcessResult) -> list[dg.AssetMaterialization]:
    events = result.filter_events(lambda event: event.is_step_materialization)
    return [event.step_materialization_data.materialization for event in events]


def n_reports(graph: Days) -> int:
    return len(graph.instance.fetch_materializations(dg.AssetKey(JUDGED), limit=100).records)

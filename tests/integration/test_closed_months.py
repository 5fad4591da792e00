"""Months close, keep their snapshot and rules, count later changes of answers, and are reopened by decisions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from irt_assets.calibration.month import FitOutcome, fit_month
from irt_assets.common.job_names import JUDGE_JOB, KPI_JOB, MONTHLY_JOB
from irt_assets.common.partitions import Month, day_bounds, day_of, month_of, week_of
from irt_assets.decisions import closing
from irt_assets.decisions.closing import REOPEN_MONTHS, MonthRange, close_months
from irt_assets.decisions.days_to_judge import days_of_change, days_of_new_scale
from irt_assets.decisions.deciding import preview
from irt_assets.decisions.rekey import rekey
from irt_assets.definitions import build_defs
from irt_assets.engines.em import EmEngine
from irt_assets.features.daily import write_features
from irt_assets.gates.evidence import current_fit, load_evidence
from irt_assets.intake.corrections import AnswerSelection, withdraw
from irt_assets.intake.staging import Staging
from irt_assets.kpis.weekly import write_week
from irt_assets.ledger import fits
from irt_assets.ledger.fit_spec import StagedSpec
from irt_assets.ledger.pruning import SUPERSEDED_SNAPSHOTS
from irt_assets.reports import month_blocks
from irt_assets.responses.closed_months import scales_of_month
from irt_assets.responses.closing_records import ClosedMonth, read_closed, read_states
from irt_assets.responses.judged_assets import look_back
from irt_assets.responses.open_months import scales_with_changed_verdicts
from irt_assets.responses.snapshot import (
    Snapshot,
    current_snapshots,
    months_with_changed_rules,
    read_snapshot,
    take_snapshot,
)
from irt_assets.responses.verdicts import days_that_differ, judge_differing
from irt_assets.runs import queue
from irt_assets.scales.scale import Scale, change_rules, preview_rules, read_scales, store_scale
from irt_psychometrics import Calibration
from jobs.plans import PLANS
from resources.dagster_compat import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings
from services.exporter import families, readings
from tests.helpers import rooms
from tests.helpers.dagster_private import create_run_for_test
from tests.helpers.decided import reopen_months
from tests.helpers.rooms import (
    MADE_UP_SPEC,
    SCALE,
    add_attempts,
    add_items,
    add_learners,
    attempt,
    call,
    made_up_calibration,
    rows,
    run_sql,
)
from tests.helpers.sentences import missing_sentences, refusal
from tests.helpers.typed import IrtOf
from tests.helpers.worlds import not_before
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.small_world import last_months

MONTH = "2026-06"
START, END = Month(MONTH).bounds
DUE = END + timedelta(days=14)
BY = {"by": "Ann", "reason": "a school sent its answers on paper"}
OTHER = "other"


class Home:
    """A month with 100 answers to items q0 … q4 of one scale."""

    def __init__(self, settings: Settings) -> None:
        self.database, self.store = Database(settings), rooms.folder_store(settings)
        add_items(self.database, dict.fromkeys(f"q{n}" for n in range(5)))
        add_learners(self.database, [f"u{n}" for n in range(20)])
        with self.database.connect() as connection:
            for scale_id in (rooms.SCALE, OTHER):
                store_scale(connection, Scale(scale_id), {"kind": "made up"})
        self.add_answers([(f"u{n}", f"q{item}") for n in range(20) for item in range(5)])
        run_sql(self.database, "UPDATE response_log SET recorded_at = completed_at")

    def add_answers(self, answers: list[tuple[str, str]]) -> None:
        at = START + timedelta(days=3)
        add_attempts(
            self.database,
            [attempt(user, item, at + timedelta(seconds=n), response="A") for n, (user, item) in enumerate(answers)],
        )

    def make(self, error: str | None = "too few answers for a fit") -> Snapshot:
        """Score the month, and record for each scale with answers a failed fit with its reason."""
        snapshot, _ = take_snapshot(self.database, self.store, MONTH, None)
        for n, scale_id in enumerate(snapshot.counts):
            run_sql(
                self.database,
                """INSERT INTO fit_staging (fit_id, month, scale_id, engine, snapshot_hash, error, spec, code_version)
                   VALUES (gen_random_uuid()::text || %s, %s, %s, 'em', %s, %s, '{}', 'made up')""",
                (str(n), MONTH, scale_id, snapshot.snapshot_hash, error),
            )
        return snapshot

    def judge(self) -> None:
        """Judge the month, as the night does."""
        judge_differing(self.database, START.date(), END.date())

    def close(self, now: datetime = DUE) -> list[str]:
        """Judge, then close, as a night does."""
        self.judge()
        return [one.scale_id for one in close_months(self.database, now)]

    @property
    def closed_scales(self) -> dict[str, ClosedMonth]:
        return {one.scale_id: one for one in call(self.database, read_closed, [MONTH])}

    @property
    def is_stale(self) -> bool:
        self.judge()
        return MONTH in call(self.database, scales_with_changed_verdicts)


@pytest.fixture
def home(settings: Settings) -> Home:
    return Home(settings)


def test_month_closes_in_the_night_after_the_late_days_with_its_snapshot(home: Home) -> None:
    assert home.close() == [], "it was never made"
    snapshot = home.make()
    assert home.close(DUE - timedelta(seconds=1)) == []
    assert home.close() == [rooms.SCALE]
    assert home.closed_scales[rooms.SCALE].snapshot_hash == snapshot.snapshot_hash
    assert home.close(DUE + timedelta(days=1)) == [], "it is closed"


def test_month_stays_open_until_all_answers_are_fitted_by_the_present_rules(
    home: Home,
) -> None:
    home.make()
    home.add_answers([("u1", "q1")])
    assert home.close() == []
    take_snapshot(home.database, home.store, MONTH, None)
    assert home.close() == [], "scored and not fitted"
    home.make()
    change_rules(home.database, rooms.SCALE, {"rapid_share": 0.2})
    assert home.close() == [], "judged by earlier rules"
    home.make()
    with home.database.connect() as importing:
        Staging(importing)
        assert home.close() == [], "an import is under way"
    pull = """INSERT INTO pull_source (name, columns, position, notices_regrading, first_pull)
              VALUES ('lms', '{}', '[null, null]', false, '{}')"""
    run_sql(home.database, pull)
    assert home.close() == [], "a first pull is under way"
    run_sql(home.database, "UPDATE pull_source SET first_pull = NULL")
    assert home.close() == [rooms.SCALE]


@pytest.mark.parametrize(("days_before_end", "closes"), [(2, False), (-2, True)])
def test_month_stays_open_if_a_source_has_been_silent_since_before_the_months_end(
    home: Home, days_before_end: int, closes: bool
) -> None:
    home.make()
    last = END - timedelta(days=days_before_end)
    for hours in range(0, 24 * 10, 6):
        arrived = """INSERT INTO intake (source, kind, arrived_at, writer, read, accepted, corrected, duplicates,
                       clock_ahead, rejected, latest) VALUES ('lms', 'http', %s, 1, 1, 1, 0, 0, 0, '{}', NULL)"""
        run_sql(home.database, arrived, (last - timedelta(hours=hours),))
    assert bool(home.close(DUE)) is closes


def ids_of(home: Home, condition: str) -> list[str]:
    return [one for (one,) in rows(home.database, f"SELECT attempt_id FROM response_log WHERE {condition}")]


def test_changes_to_a_closed_month_are_counted_by_kind_share_and_item(home: Home) -> None:
    snapshot = home.make()
    home.close()
    home.add_answers([("u1", "q0"), ("new", "q0")])
    run_sql(home.database, "UPDATE response_log SET response = 'B', recorded_at = recorded_at - interval '1 ms' WHERE attempt_id IN (SELECT attempt_id FROM response_log WHERE item_id = 'q1' AND user_id < 'u12')")  # fmt: skip  # noqa: E501
    rescored = rekey(home.database, "q1", "A", **BY)
    withdraw(home.database, AnswerSelection(ids=ids_of(home, "user_id = 'u7' AND item_id = 'q2'")), **BY)
    run_sql(home.database, "DELETE FROM response_log WHERE user_id = 'u8'")
    run_sql(home.database, "UPDATE learner SET is_test = true WHERE user_id = 'u9'")
    run_sql(home.database, """UPDATE question SET meta = '{"irt": {"max_score": 2}}' WHERE item_id = 'q4'""")
    assert (home.is_stale, home.close(DUE + timedelta(days=1))) == (False, [])
    closed = home.closed_scales[rooms.SCALE]
    assert (rescored.closed_months, rescored.stale_months) == ((MONTH,), ())
    assert (closed.changes, closed.came["answers"], set(closed.came["items"]) >= {"q0", "q1", "q4"}) == (
        {
            "late": 2,
            "corrected": rescored.answers,
            "withdrawn": 1,
            "deleted": 5,
            "flagged": 5,
            "item_changed": 19,
        },
        100,
        True,
    )
    assert (closed.share, "2 late" in closed.sentence) == (
        pytest.approx((2 + rescored.answers + 1 + 5 + 5 + 19) / 100),
        True,
    )
    assert (read_snapshot(home.store, home.make()).num_rows, home.closed_scales[rooms.SCALE].snapshot_hash) == (
        snapshot.n_attempts,
        snapshot.snapshot_hash,
    )


def test_changes_are_counted_again_only_after_a_change(home: Home) -> None:
    home.make()
    home.close()
    home.close()
    assert home.closed_scales[rooms.SCALE].counted_at is None
    home.add_answers([("u1", "q0")])
    home.close()
    counted = home.closed_scales[rooms.SCALE].counted_at
    home.close()
    assert counted is not None
    assert home.closed_scales[rooms.SCALE].counted_at == counted


def test_closed_month_keeps_its_eligibility_rules(home: Home) -> None:
    home.make()
    home.close()
    change_rules(home.database, rooms.SCALE, {"rapid_share": 0.2, "latent": "histogram"})
    with home.database.connect() as connection:
        rules = scales_of_month(connection, MONTH)[rooms.SCALE].rules
        assert (rules.eligibility.rapid_share, rules.fit.latent) == (0.1, "histogram")
        assert months_with_changed_rules(connection, read_scales(connection)[rooms.SCALE]) == []


def test_reopened_month_includes_late_answers_and_closes_again(home: Home) -> None:
    before = home.make()
    home.close()
    home.add_answers([("new", "q1")])
    assert (home.make(), home.is_stale) == (before, False), "scored while it was closed, from the same file"
    first, last = call(home.database, preview, REOPEN_MONTHS, MonthRange(MONTH)).sentences
    again = f"to be calibrated again, by the daemon at most once a night: {MONTH}"
    assert ("1 late" in first, last) == (True, again)
    assert home.closed_scales, "a preview changes nothing"
    reopen_months(home.database, MONTH, **BY)
    assert not home.closed_scales
    assert home.is_stale
    assert home.close(DUE + timedelta(days=1)) == [], "it is stale"
    after = home.make()
    assert after.n_attempts == before.n_attempts + 1
    assert (home.close(DUE + timedelta(days=2)), home.closed_scales[rooms.SCALE].snapshot_hash) == (
        [rooms.SCALE],
        after.snapshot_hash,
    )
    states = rows(home.database, "SELECT state, decided_by, reason FROM month_state ORDER BY state_id")
    assert ([one[0] for one in states], states[1][1:]) == (["closed", "reopened", "closed"], ("Ann", BY["reason"]))


def test_first_answers_of_a_second_scale_are_calibrated_and_leave_the_closed_scale_unchanged(home: Home) -> None:
    """A second source's year is imported later, so that its month has never been calibrated."""
    before = home.make()
    home.close()
    add_items(home.database, {"r0": None}, OTHER)
    assert not home.is_stale
    home.add_answers([("new", "q1")])
    assert not home.is_stale, "answers of the closed scale"
    home.add_answers([(f"u{n}", "r0") for n in range(20)])
    assert home.is_stale
    after = home.make()
    table = read_snapshot(home.store, after)
    assert (table.num_rows, table.group_by("learner_key").aggregate([]).num_rows) == (
        before.n_attempts + 20,
        20,  # without the learner who came after closing
    )
    assert after.counts[rooms.SCALE] == before.counts[rooms.SCALE]
    assert (home.close(DUE + timedelta(days=1)), {one.snapshot_hash for one in home.closed_scales.values()}) == (
        [OTHER],
        {before.snapshot_hash, after.snapshot_hash},
    )


def test_closed_scale_keeps_its_fit_and_snapshot_when_a_second_scale_is_calibrated(home: Home) -> None:
    home.judge()
    first, _ = take_snapshot(home.database, home.store, MONTH, None)
    with home.database.connect() as connection:
        fit = made_up_calibration({f"q{n}": (1.0, 0.0) for n in range(5)})
        spec = MADE_UP_SPEC | StagedSpec(latent="normal")
        kept = fits.stage_fit(connection, first, rooms.SCALE, "em", fit, spec, None)
    home.close()
    add_items(home.database, {"r0": None}, OTHER)
    home.add_answers([("new", "q1"), *((f"u{n}", "r0") for n in range(20))])
    second, _ = take_snapshot(home.database, home.store, MONTH, None)
    assert second.snapshot_hash != first.snapshot_hash

    def fit_again() -> FitOutcome:
        outcomes = fit_month(home.database, home.store, MONTH, EmEngine(1), None, lambda _: EmEngine(1))
        return {one.scale_id: one for one in outcomes}[rooms.SCALE]

    outcome = fit_again()
    assert (outcome.fit_id, outcome.error) == (kept, None)
    of_fits = "SELECT DISTINCT scale_id, snapshot_hash FROM fit_staging ORDER BY 1"
    assert rows(home.database, of_fits) == [(rooms.SCALE, first.snapshot_hash), (OTHER, second.snapshot_hash)]
    with home.database.connect() as connection:
        evidence = load_evidence(connection, MONTH, scales_of_month(connection, MONTH)[rooms.SCALE], home.store)
    assert (evidence.snapshot, evidence.snapshot_problem) == (first, None)
    assert isinstance(current_fit(evidence), Calibration), "the gates do not ask for another fit"

    change_rules(home.database, rooms.SCALE, {"latent": "histogram"})
    with pytest.raises(PermanentFailure, match="could be fitted"):
        fit_again()
    assert rows(home.database, of_fits)[0] == (rooms.SCALE, first.snapshot_hash), "a fit by other rules reads its file"


def test_snapshot_of_a_closed_month_is_never_pruned(home: Home) -> None:
    before = home.make()
    home.close()
    run_sql(home.database, "DELETE FROM fit_staging")
    run_sql(home.database, "UPDATE scored_snapshot SET superseded_at = '2026-06-30'")
    found, _ = SUPERSEDED_SNAPSHOTS
    with home.database.connect() as connection:
        options = {"before": datetime.now(UTC)}
        assert connection.execute(found.encode(), options).fetchall() == []
        connection.execute("DELETE FROM month_state")
        assert connection.execute(found.encode(), options).fetchall() == [(f"{MONTH}/{before.snapshot_hash}",)]


def test_reopening_counts_after_the_clock_was_set_back(home: Home) -> None:
    home.make()
    home.close()
    run_sql(home.database, "UPDATE month_state SET since = since + interval '1 day'")
    reopen_months(home.database, MONTH, **BY)
    assert not home.closed_scales
    assert home.close() == [rooms.SCALE]
    assert home.closed_scales[rooms.SCALE].decided_by == "nightly"
    home.add_answers([("new", "q1")])
    home.close()
    came = dict(rows(home.database, "SELECT state_id, came FROM month_state"))
    assert [came[n].get("answers") for n in sorted(came)] == [None, None, 100], "only the state in force is counted"


def test_month_stays_open_if_a_run_stores_another_file_while_it_closes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts the run after the closing has read which file is current; the run waits until the closing ends."""
    home.make()
    home.add_answers([("new", "q1")])
    home.judge()
    run, reads, stored = ThreadPoolExecutor(1), list[Any](), list[Future[Any]]()

    def read_and_begin_a_run(connection: psycopg.Connection) -> dict[str, Snapshot]:
        reads.append(current_snapshots(connection))
        if len(reads) == 2:  # the first read finds the months that are due
            stored.append(run.submit(take_snapshot, home.database, home.store, MONTH, None))
            _wait_for_a_lock(connection, stored[0])
        return reads[-1]

    with run, monkeypatch.context() as patched:
        patched.setattr(closing, "current_snapshots", read_and_begin_a_run)
        assert close_months(home.database, DUE) == [], "its only fit is without the new answer"
    assert [one.result()[0].n_attempts for one in stored] == [101]
    home.make()
    assert home.close() == [rooms.SCALE]


def _wait_for_a_lock(connection: psycopg.Connection, task: Future[Any]) -> None:
    """Wait until another process of the server waits for a lock that this one holds, or the task has ended."""
    waiting = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"""
    while not task.done() and not connection.execute(waiting).fetchone()[0]:  # type: ignore[index]
        time.sleep(0.01)


def test_open_month_cannot_be_reopened(home: Home) -> None:
    home.make()
    home.close()
    reopen_months(home.database, MONTH, **BY)
    assert refusal(reopen_months, home.database, MONTH, **BY) == (
        f"{MONTH} is not closed: there is nothing to reopen (Ann reopened {MONTH})"
    )
    assert f"{MONTH} is after" in refusal(reopen_months, home.database, MONTH, Month(MONTH).previous, **BY)


def test_withdraw_command_names_closed_months_and_reopens_the_months_on_request(
    home: Home, settings: Settings, irt: IrtOf
) -> None:
    home.make()
    home.close()
    words = ("attempts", "withdraw", "--item", "q1", "--by", "Ann", "--reason", "a leak")
    output = irt(settings)(*words, "--dry-run").out
    assert f"closed: {MONTH}; the change does not count there unless you reopen them, with --reopen" in output
    tried = irt(settings)(*words, "--reopen", "--dry-run").out
    assert home.closed_scales
    done = irt(settings)(*words, "--reopen").out
    assert tried == done
    assert (
        missing_sentences(done, f"reopened: {MONTH}", f"calibrated again, by the daemon or irt calibrate: {MONTH}"),
        "closed:" in done,
    ) == ([], False)
    reasons = rows(home.database, "SELECT decided_by, reason FROM month_state WHERE state = 'reopened'")
    assert reasons == [("Ann", "a leak")]


def opening(home: Home, at: datetime = datetime(2026, 7, 14, tzinfo=UTC)) -> str:
    known = next(iter(call(home.database, read_states, [MONTH])), None)
    return str([*month_blocks.opening(Scale(rooms.SCALE), MONTH, known, at, "UTC", None)])


def test_months_page_shows_the_state_of_the_month_and_items_with_many_changed_answers(home: Home) -> None:
    home.make()
    assert "From 2026-07-15 on it closes in the first night" in opening(home)
    assert "It has been due since 2026-07-15, and closes in the first night" in opening(
        home, datetime(2026, 7, 15, tzinfo=UTC)
    )
    home.close()
    assert "No answer has changed since" in opening(home)
    home.add_answers([(f"new{n}", "q1") for n in range(3)])
    home.close()
    shown = opening(home)
    assert not missing_sentences(shown, "3 late (3.0% of its answers)", "more than 5 % of the answers", "q1")
    reopen_months(home.database, MONTH, **BY)
    assert f"by Ann: {BY['reason']}" in opening(home)


def test_exporter_counts_changed_answers_of_closed_months(home: Home) -> None:
    home.make()
    home.close()
    home.add_answers([("new", "q1")])
    home.close()
    with home.database.connect() as connection:
        look = readings.ScrapeContext(connection, home.database.settings, datetime(2026, 8, 20, tzinfo=UTC))
        found = [one for one in readings.months(look) if one.family is families.CHANGED]
    assert [(one.labels, one.value) for one in found] == [((rooms.SCALE, MONTH, "late"), 1)]


# -- late answers ------------------------------------------------------------------------------------
# Late answers in a real database and a real instance: the night judges them, and their partitions are recomputed once.

NOON = timedelta(hours=12)
FEATURES = "aggregate_features_daily"


class World:
    """Three months of answers of two learners. All days, weeks and months are materialised."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, now: datetime) -> None:
        self.now, self.months = now, last_months(3)
        self.settings = settings.model_copy(update={"irt_first_month": self.months[0]})
        self.instance, self.database = instance, Database(self.settings)
        self.store = rooms.folder_store(settings)
        self.defs = build_defs(self.settings, resources={"database": self.database, "store": self.store})
        add_items(self.database, {"q1": None, "q2": None, "q3": None})
        add_learners(self.database, ["u1", "u2"])
        for month in self.months:
            first = Month(month).start
            self.arrive(attempt("u2", "q2", first + timedelta(days=9)))
            if month != self.months[0]:
                self.arrive(attempt("u1", "q1", first + timedelta(days=3)))
        self.night()
        self.make()

    def arrive(self, *attempts: dict[str, Any]) -> None:
        add_attempts(self.database, attempts)

    def make(self) -> None:
        begin = Month(self.months[0]).start
        for month in self.months:
            take_snapshot(self.database, self.store, month, None)
        with self.database.connect() as connection:
            write_features(connection, begin, day_bounds(day_of(self.now))[0])
            for n in range((self.now - begin).days // 7 + 1):
                write_week(connection, week_of(begin + timedelta(weeks=n)), self.now)

    def weeks_after(self, day: datetime) -> list[str]:
        weeks = [week_of(day + timedelta(weeks=n)) for n in range(9)]
        return [week for week in weeks if week <= week_of(self.now)]

    def night(self) -> None:
        """Run the job of 00:30."""
        done = self.defs.resolve_job_def(JUDGE_JOB).execute_in_process(instance=self.instance)
        assert done.success

    def asked_months(self) -> list[tuple[str | None, str | None]]:
        """Month and run key of each request of the sensor."""
        sensor = self.defs.resolve_sensor_def("stale_months")
        with dg.build_sensor_context(
            instance=self.instance, resources={"database": self.database}, definitions=self.defs
        ) as context:
            found = sensor.evaluate_tick(context)
        self.said = found.skip_message
        return [(one.partition_key, one.run_key) for one in found.run_requests or ()]

    def stale_partitions(self, job: str) -> list[str]:
        """The partitions that the schedule of a job requests, except partitions that were never made."""
        plan = next(plan for plan in PLANS if plan.job == job)
        tick = day_bounds(day_of(self.now))[0] + timedelta(hours=3)
        with dg.build_schedule_context(
            instance=self.instance,
            scheduled_execution_time=tick,
            repository_def=self.defs.get_repository_def(),
            resources={"database": self.database},
        ) as context:
            requests = self.defs.resolve_schedule_def(plan.name).evaluate_tick(context).run_requests or []
        due = plan.partitions_due(tick, self.months[0])
        found = []
        for one in requests:
            tags = (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
            first, last = (one.tags.get(tag, one.partition_key or "") for tag in tags)
            found += [f"{first}…{last}" if first != last else first] if first not in due else []
        return found


@pytest.fixture
def now() -> datetime:
    """Current time. No day ends during the test."""
    return not_before(60.0, timedelta(0))


@pytest.fixture
def world(settings: Settings, now: datetime, tmp_path: Path) -> Iterator[World]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield World(settings, instance, now)


def test_late_answer_makes_its_open_month_stale_after_the_night(world: World) -> None:
    """The month of the learner's next answer to the item is stale too, as the answer is now a repeat."""
    assert world.asked_months() == []
    day = Month(world.months[0]).start + timedelta(days=1) + NOON
    world.arrive(attempt("u1", "q1", day))
    assert world.asked_months() == [], "nights know"
    world.night()
    requested = world.asked_months()
    assert [month for month, _ in requested] == world.months[:2]
    world.night()
    assert world.asked_months() == requested, "with the same run keys, so that Dagster requests them once"
    world.make()
    assert (world.asked_months(), world.stale_partitions(FEATURES), world.stale_partitions(KPI_JOB)) == ([], [], [])


def test_day_with_a_late_answer_and_its_weeks_are_requested_by_their_schedules(world: World) -> None:
    first = Month(world.months[0]).start + timedelta(days=1)
    assert (world.stale_partitions(FEATURES), world.stale_partitions(KPI_JOB)) == ([], [])
    for n in (0, 1, 4):
        world.arrive(attempt("u2", "q3", first + timedelta(days=n) + NOON))
    world.night()
    days = [day_of(first + timedelta(days=n)) for n in (0, 1, 4)]
    assert world.stale_partitions(FEATURES) == [f"{days[0]}…{days[1]}", days[2]]
    weeks = {*world.weeks_after(first), *world.weeks_after(first + timedelta(days=4))}
    due = next(plan for plan in PLANS if plan.job == KPI_JOB).partitions_due(world.now, world.months[0])
    assert world.stale_partitions(KPI_JOB) == sorted(weeks - {*due})


def test_stale_months_are_not_requested_during_judging_or_a_months_run(world: World) -> None:
    world.arrive(attempt("u1", "q3", Month(world.months[1]).start + NOON))
    world.night()

    def run(job: str, **tags: str) -> dg.DagsterRun:
        status = dg.DagsterRunStatus.STARTED
        return world.instance.create_run_for_job(world.defs.resolve_job_def(job), tags=tags, status=status)

    for one in (run(JUDGE_JOB), run(MONTHLY_JOB, **{"dagster/partition": world.months[1]})):
        assert world.asked_months() == []
        world.instance.report_run_failed(one)
    assert [month for month, _ in world.asked_months()] == [world.months[1]]


def test_open_month_before_the_look_back_is_judged_in_the_night(world: World) -> None:
    """A month that a person has reopened can be this old."""
    old = Month(f"{world.now.year - 3}-05")
    world.arrive(attempt("u2", "q2", old.start + NOON))
    take_snapshot(world.database, world.store, old, None)
    world.arrive(attempt("u1", "q1", old.start + NOON))
    world.night()
    assert [*call(world.database, scales_with_changed_verdicts)] == [old]


# -- days to judge -----------------------------------------------------------------------------------
# Days that must be judged again by a scale's changed or first rules: they are named first, then judged by one run.

SIGNED = ("--by", "Ann", "--reason", "hints give it away", "--yes")
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
OLD = TODAY - timedelta(days=800)
CLOSED = TODAY - timedelta(days=200)
DAYS = [TODAY - timedelta(days=n) for n in (90, 9, 1)]
OTHERS_DAY = TODAY - timedelta(days=5)


@pytest.fixture
def judged_log(database: Database) -> Database:
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
def test_days_of_a_rule_change_equal_the_days_that_differ_after_the_change(
    judged_log: Database, rules: dict[str, object], days: list[datetime]
) -> None:
    assert differing(judged_log) == []
    with judged_log.connect() as connection:
        found = days_of_change(connection, preview_rules(connection, SCALE, rules), datetime.now(UTC))
    assert found.days == dates(days)
    change_rules(judged_log, SCALE, rules)
    assert differing(judged_log) == found.days


def test_days_of_a_new_scale_are_the_unjudged_days_unless_its_rules_differ_from_the_defaults(
    judged_log: Database,
) -> None:
    run_sql(judged_log, "DELETE FROM judged_day WHERE day = ANY(%s)", ([OTHERS_DAY.date(), DAYS[1].date()],))
    found = []
    for rules in ("{}", '{"min_responses": 7}', '{"hinted": "exclude"}'):
        run_sql(judged_log, "UPDATE calibration_scale SET rules = %s WHERE scale_id = %s", (rules, SCALE))
        found.append(call(judged_log, days_of_new_scale, SCALE, datetime.now(UTC)).days)
    unjudged = dates([DAYS[1], OTHERS_DAY])
    assert found == [unjudged, unjudged, sorted({*unjudged, *dates(DAYS)})]


def test_scale_set_names_the_days_to_be_judged_and_queues_a_single_run(
    judged_log: Database, settings: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = irt(settings)
    assert "to be judged" not in typed("scale", "set", "min_responses=7", *SIGNED).out
    unconfirmed = typed("scale", "set", "hinted=exclude", *SIGNED)
    days = f"to be judged: three days, {DAYS[0]:%Y-%m-%d} to {DAYS[-1]:%Y-%m-%d}"
    closed = f"; closed months keep their rules: {month_of(CLOSED)}"
    assert not missing_sentences(
        unconfirmed.out, days, closed, f"not judged yet, as no daemon runs: `irt job {JUDGE_JOB}`"
    ), unconfirmed.out
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
        done = typed("scale", "set", rule, *SIGNED)
        assert done.code == 0, done.err
        assert not missing_sentences(done.out, days, f"{JUDGE_JOB} judges them: run {asked_for[0]}"), done.out
    assert len(asked_for) == 1

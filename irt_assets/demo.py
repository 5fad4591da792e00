"""The demo: months of a company's life in minutes, with planted faults, and a check whether they were found.

`run_simulated` plants faults, runs every month and compares the findings with the truth. `own_log` runs a user's log
as one window that becomes its own origin.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import psycopg
import pyarrow.compute as pc
import pyarrow.parquet as pq
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter

from irt_assets.common.job_names import INVARIANTS_JOB, KPI_JOB, MONTHLY_JOB, NIGHTLY_JOB, same_job
from irt_assets.common.partitions import DAYS, WEEKS, Month, month_of
from irt_assets.common.retries import failed_because_held
from irt_assets.common.run_progress import RANGE_TAGS
from irt_assets.common.wording import quantity, some_of
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.engines.em import EmEngine
from irt_assets.engines.spec import DEFAULT_MODEL
from irt_assets.gates.evidence import load_evidence
from irt_assets.gates.linking_gates import anchors_agree
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.gates.month_status import month_states
from irt_assets.intake.bank import LEARNERS, QUESTIONS, import_bank_file
from irt_assets.intake.inbox import import_waiting_files
from irt_assets.intake.load import import_attempts
from irt_assets.intake.report import ImportReport
from irt_assets.invariants.open_violations import last_evaluated
from irt_assets.ledger.decisions import newest_decisions
from irt_assets.ledger.steps import last_settled_at
from irt_assets.reports import drift_month, learner_copies, learner_week
from irt_assets.reports.artifacts import store_report
from irt_assets.reports.assets import DRIFT_REPORT_JOB
from irt_assets.responses.eligibility.minimum import propose_minimum, recommend
from irt_assets.responses.eligibility.rules import Rules
from irt_assets.responses.scale_decisions import Subject, record_decisions
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.stored_window import stored_window
from irt_assets.responses.verdicts import judge_differing
from irt_assets.responses.window import scored_responses_of
from irt_assets.runs.in_process_runs import run_job, run_month
from irt_assets.simulation.files import SimulatedFiles, write
from irt_assets.simulation.response_log import simulate
from irt_assets.simulation.scenario import demo_scenario
from irt_assets.spark.lake import export_days
from irt_psychometrics import Responses
from irt_psychometrics.estimation import Flag
from irt_psychometrics.items import Model
from resources.cluster.relational import lake
from resources.dagster_compat import PARTITION_NAME_TAG
from resources.failures import PermanentFailure
from resources.files.inbox_files import FolderInbox, inbox_of
from resources.files.object_store import object_store
from resources.postgres.database import Database, first_column
from resources.postgres.schema import upgrade
from resources.settings import Settings, get_settings, write_env_file

Say = Callable[[str], None]
OpenInstance = Callable[[Settings, Database], AbstractContextManager[DagsterInstance]]
EARLIEST_MONTH = "1970-01"
FOREIGN_DATA = (
    "this database holds other data, and the demo does not mix its answers into it. Set IRT_HOME to an empty folder "
    "(and unset DATABASE_URL), then run the demo again"
)
NEXT_STEPS = """
what to do next, in the same IRT_HOME:
  read the window's report: irt report drift --month {last} --out reports
  look at every item: the dashboard, which `irt demo --data LOG` serves without --no-serve
  export the values: irt export parameters --to csv
drift is what has changed since the window, so it begins after it, in {month}; once that month is over:
  add its answers: irt import attempts FILE
  calibrate it and judge its drift: irt job monthly_calibration --partition {month}
  read the result: irt report drift --month {month} --out reports
to judge drift within this log, make its first month the origin, in another IRT_HOME: docs/tutorial/own-log.md"""
MOVES: Mapping[Subject, str] = {"ability_variance": "0.0025", "ability_growth": "0.0276"}
"""Abilities walk by .05 a week, and grow by .12 from month to month."""
KPI_WEEKS = 8
"""Number of weeks before the running one for which the demo computes KPIs."""
MIN_SHARE_NAMED = 0.75  # share of the moved anchors, because some move by less than their errors


@dataclass(frozen=True)
class Finding:
    """A planted fault and the platform's finding on it."""

    fault: str
    planted: str
    found: str
    as_expected: bool


class DemoResult(NamedTuple):
    """Result of a demo: the settings that it wrote, the states of its months, and the findings on planted faults."""

    settings: Settings
    states: list[MonthState]
    findings: list[Finding]


def run_simulated(settings: Settings, say: Say, open_instance: OpenInstance) -> DemoResult:
    """Run the demo, from the simulation to the comparison of planted faults with findings."""
    files, truth = prepare(settings.irt_home / "simulated", settings, say)
    settings = get_settings()
    database = Database(settings)
    load(database, files, settings, say)
    write_lake(database, say)
    months = truth["months"][:-1]
    say("calibrating, linking, checking and publishing month by month …")
    with open_instance(settings, database) as instance:
        again, states = run_months(database, instance, settings, months, say)
        jobs = Jobs(instance, settings, say, again)
        say("looking for drift and DIF …")
        for state in states:
            if state.state is State.GREEN:
                jobs.run(DRIFT_JOB, state.month)
        say("writing the drift report of every month …")
        for month in months:
            jobs.run(DRIFT_REPORT_JOB, month)
        for url in drift_month.stored_uris(database, months[-1]):
            say(f"  {months[-1]}: {url}")
        run_daily_life(jobs, settings, datetime.now(UTC))
        write_learner_reports(database, settings, datetime.now(UTC), say)
        jobs.run("inventory")
        findings = compare(database, truth, months, states)
    return DemoResult(settings, states, findings)


def prepare(folder: Path, settings: Settings, say: Say) -> tuple[SimulatedFiles, dict[str, Any]]:
    """Simulate a log (or reuse the files of an earlier demo) and write settings that suit it."""
    names = ("questions.jsonl", "learners.jsonl", "attempts.parquet", "late_attempts.parquet", "truth.json")
    files = SimulatedFiles(*(folder / name for name in names))
    if not files.truth.exists():
        say("simulating four months and the running one …")
        scenario = replace(
            demo_scenario(datetime.now(UTC), scored=True), weekly_variance=float(MOVES["ability_variance"])
        )
        files = write(*simulate(scenario), folder)
    truth = json.loads(files.truth.read_text("utf-8"))
    inbox = settings.irt_inbox or str((settings.irt_home / "inbox").resolve())
    write_env_file(settings, irt_first_month=truth["months"][0], irt_schedules="stopped", irt_inbox=inbox)
    return files, truth


def load(database: Database, files: SimulatedFiles, settings: Settings, say: Say) -> None:
    """Migrate, import everything and freeze the anchors. Safe to repeat."""
    upgrade(database)
    _refuse_foreign_data(database, files)
    with database.connect() as connection:
        known = read_scales(connection).values()
    if known and all(scale.initialised for scale in known):
        say("questions, learners and answers have already been imported")
        return
    say("importing questions, learners and answers …")
    import_bank_file(database, QUESTIONS, files.questions)
    import_bank_file(database, LEARNERS, files.learners)
    report = import_attempts(database, [files.attempts], first_month=settings.irt_first_month)
    say(f"  {report.accepted:,} answers imported, {report.duplicates:,} were there already")
    _take_file_from_inbox(database, files.late_attempts, settings, say)
    with database.connect() as connection:
        new = [s.scale_id for s in read_scales(connection).values() if not s.initialised]
    for scale_id in new:
        origin = initialise(database, scale_id, first_month=settings.irt_first_month)
        say(f"  scale {scale_id}: {origin.anchors} anchors frozen and published")
        with database.connect() as connection:
            start = Month(settings.irt_first_month).start
            record_decisions(connection, scale_id, MOVES, start, by="demo", reason="its learners learn")


def _take_file_from_inbox(database: Database, late_attempts: Path, settings: Settings, say: Say) -> None:
    """Deliver the late answers of the running month through the inbox, unless it is in a bucket."""
    inbox = inbox_of(settings)
    if not isinstance(inbox, FolderInbox):
        return
    folder = inbox.root / "attempts"
    folder.mkdir(parents=True, exist_ok=True)
    answers = pq.read_table(late_attempts, filters=pc.field("completed_at") >= Month(month_of(datetime.now(UTC))).start)
    pq.write_table(answers, folder / "late-answers.parquet")
    for outcome in import_waiting_files(database, inbox, unchanged_for=timedelta()):
        say(f"  {outcome.path}: {outcome.why or f'{outcome.report.accepted:,} answers imported'}")


def write_lake(database: Database, say: Say) -> None:
    """Write the log to the lake that Spark reads, if there is a lake. Safe to repeat."""
    with database.connect() as connection:
        target = lake(connection)
    if target is None:
        return
    done = export_days(database, target)
    say(f"  {done.rows:,} answers of {len(done.written):,} days written to the lake {target.name}")


@dataclass(frozen=True)
class Jobs:
    """Runs jobs in this process. Partitions that an earlier demo made are kept, unless `again`."""

    instance: DagsterInstance
    settings: Settings
    say: Say
    again: bool

    def run(self, name: str, first: str = "", last: str = "") -> None:
        """Run a job for one partition, for all from `first` to `last`, or without a partition."""
        partition = f" {first} … {last}" if last else f" {first}" if first else ""
        tags = (
            dict(zip(RANGE_TAGS, (first, last), strict=True)) if last else {PARTITION_NAME_TAG: first} if first else {}
        )
        made = (RunsFilter(job_name=alias, statuses=[DagsterRunStatus.SUCCESS], tags=tags) for alias in same_job(name))
        if not self.again and any(map(self.instance.get_runs_count, made)):
            self.say(f"  {name}{partition}: already made")
            return
        began = time.monotonic()
        done = run_job(self.instance, self.settings, name, first, last)
        ended = f"{time.monotonic() - began:.0f} s" if done else "failed, see its run in the UI"
        self.say(f"  {name}{partition}: {ended}")


def run_months(
    database: Database, instance: DagsterInstance, settings: Settings, months: list[str], say: Say
) -> tuple[bool, list[MonthState]]:
    """Materialise every month that an earlier demo has not made green or found to be held, oldest first.

    Returns whether a month was run, and the states of all months.
    """
    states = month_states(database, instance, months)
    any_run = False
    for month in months:
        present_states = {s.state for s in states if s.month == month}
        if present_states == {State.GREEN} or (present_states == {State.RED} and _was_held(instance, month)):
            say(f"  {month}: {', '.join(present_states)} already")
            continue
        any_run = True
        outcome = run_month(instance, settings, month)
        ended = f"{month}: materialised" if outcome.success else f"{month}: failed – {outcome.why}"
        say(f"  {outcome.why if outcome.held else ended}")
    return any_run, month_states(database, instance, months) if any_run else states


def _was_held(instance: DagsterInstance, month: str) -> bool:
    """Whether the newest run of the month judged it and held it."""
    newest = instance.get_runs(RunsFilter(job_name=MONTHLY_JOB, tags={PARTITION_NAME_TAG: month}), limit=1)
    failures = [f for run in newest for f in instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE)]
    return any(failed_because_held(f.dagster_event.step_failure_data) for f in failures if f.dagster_event is not None)


def run_daily_life(jobs: Jobs, settings: Settings, now: datetime) -> None:
    """Run the jobs that schedules would have run by now: features of all days, KPIs of nine weeks, one night."""
    jobs.say("features of every day, KPIs of eight weeks and the running one, the last night, the invariants …")
    (yesterday,), weeks = DAYS.last_keys(now, 1), [*WEEKS.last_keys(now, KPI_WEEKS), WEEKS.key_of(now)]
    requests = [("aggregate_features_daily", DAYS.key_of(Month(settings.irt_first_month).start), yesterday)]
    requests += [(KPI_JOB, week, "") for week in weeks]
    requests += [(job, yesterday, "") for job in (NIGHTLY_JOB, "detect_inactivity", INVARIANTS_JOB)]
    for job, first, last in requests:
        made_since = job == INVARIANTS_JOB and _months_changed_since_evaluation(Database(settings))
        (replace(jobs, again=True) if made_since else jobs).run(job, first, last)


def _months_changed_since_evaluation(database: Database) -> bool:
    """Whether a month was published or held after the invariants were last evaluated."""
    with database.connect() as connection:
        evaluated = last_evaluated(connection)
        settled = last_settled_at(connection)
    return bool(evaluated and settled and settled > evaluated)


def write_learner_reports(database: Database, settings: Settings, now: datetime, say: Say) -> None:
    """Write last week's report of a learner in each language, to a folder and to the store.

    The weekly job writes all reports and takes minutes.
    """
    (week,) = WEEKS.last_keys(now, 1)
    with database.connect() as connection:
        users = first_column(
            connection,
            """SELECT DISTINCT ON (lang) user_id FROM (
                 SELECT l.attributes->>'lang' AS lang, user_id, sum(attempts) AS answers
                 FROM features_topic_daily f JOIN learner l USING (user_id)
                 WHERE NOT is_test AND date >= %(monday)s AND date < %(monday)s + 7 GROUP BY 1, 2) practised
               ORDER BY lang, answers DESC, user_id""",
            {"monday": date.fromisoformat(week)},
        )
    folder = (settings.report_output_dir or settings.irt_home / "reports") / week
    existing = [folder / name for user in users for name in learner_copies.names(week, user)]
    if all(path.exists() for path in existing):
        say(f"  the reports of {len(users)} learners are already in {folder}")
        return
    say(f"the week's report of {len(users)} learners, one in each language …")
    copies = learner_copies.write_copies(
        database, week, folder, users=users, zone=settings.irt_time_zone, n_processes=1
    )
    store = object_store(settings)
    of_user = {name: user for user in users for name in learner_copies.names(week, user)}
    for path in copies.files:
        say(f"  {path}")
        store_report(
            database,
            store,
            f"{learner_week.folder(week)}/{path.name}",
            path.read_bytes(),
            format="pdf" if path.suffix == ".pdf" else "html",
            user_id=of_user[path.name],
            week_start=date.fromisoformat(week),
        )
    for user, why in copies.failed.items():
        say(f"  {user}: {why}")


def compare(database: Database, truth: dict[str, Any], months: list[str], states: list[MonthState]) -> list[Finding]:
    """Compare the planted faults with the findings."""
    with database.connect() as connection:
        flags = {month: _flags(connection, month) for month in months}
        findings = [_finding(connection, fault, states, flags) for fault in truth["faults"]]
        dropped = {month: _dropped_by(connection, month) for month in months}
    findings.append(_false_alarms(truth, flags))
    bad = {m for f in truth["faults"] if f["kind"] == "anchors_moved" for m in f["months"]}
    for state in states:
        expected = State.RED if state.month in bad else State.GREEN
        found, as_expected = f"{state.state}", state.state is expected
        if not as_expected and state.month in bad and dropped[state.month]:
            found, as_expected = f"{found}: {dropped[state.month]}", True
        findings.append(Finding(f"state of {state.month}", f"{expected}", found, as_expected))
    return findings


def _dropped_by(connection: psycopg.Connection, month: str) -> str:
    """A clause with the person who dropped anchors from the month on; empty if nobody did."""
    dropped = [decision for decision in newest_decisions(connection, month=month) if decision.kind == "drop_anchor"]
    return (
        f"{dropped[0].by} dropped {quantity(len({decision.item_id for decision in dropped}), 'anchor')}"
        if dropped
        else ""
    )


def _flags(connection: psycopg.Connection, month: str) -> dict[str, tuple[Flag, ...]]:
    """Flags of each item in the month's fits."""
    found: dict[str, tuple[Flag, ...]] = {}
    for scale in read_scales(connection, Month(month).start).values():
        if fit := load_evidence(connection, month, scale).calibration:
            found |= zip(fit.item_ids, fit.flags, strict=True)
    return found


def _finding(
    connection: psycopg.Connection,
    fault: dict[str, Any],
    states: list[MonthState],
    flags: dict[str, dict[str, tuple[Flag, ...]]],
) -> Finding:
    kind, items = fault["kind"], fault["item_ids"]
    active = [m for m in fault["months"] if m in flags]
    planted = some_of(items, 3) + (f" in {active[0]}" if len(active) == 1 else f" from {active[0]}")
    judged = [m for m in active if any(s.month == m and s.state is State.GREEN for s in states)]
    if kind == "dif":
        return _dif_finding(connection, planted, set(items), judged)
    if kind in ("drift", "leak"):
        kinds_found = connection.execute(
            """SELECT month, details->'change'->>'kind' FROM item_drift
               WHERE severity <> 'none' AND item_id = ANY(%s) AND month = ANY(%s) ORDER BY 1""",
            (items, judged),
        ).fetchall()
        rightly = [month for month, found in kinds_found if found == kind]
        other_kinds = sorted({str(found) for _, found in kinds_found} - {kind})
        found = f"flagged as {kind} in {len(rightly)} of {len(judged)} green months"
        return Finding(
            kind, planted, found + (f", as {', '.join(other_kinds)} too" if other_kinds else ""), rightly == judged
        )
    if kind == "anchors_moved":
        state = next(s.state for s in states if s.month == active[0])
        if decided := _dropped_by(connection, active[0]):
            return Finding("anchors moved", planted, f"{decided}; month is {state}", as_expected=True)
        scale = next(iter(read_scales(connection, Month(active[0]).start).values()))
        evidence = load_evidence(connection, active[0], scale)
        constants = anchors_agree(evidence).details
        named = {*constants.get("anchors_dropped", ()), *constants.get("suspects", ())}
        right = len(named & set(items))
        found = f"{right} of {len(items)} named, {len(named) - right} others; month is {state}"
        return Finding("anchors moved", planted, found, state is State.RED and right >= MIN_SHARE_NAMED * len(items))
    expected_flag = Flag.NEGATIVE_DISCRIMINATION if kind == "wrong_key" else Flag.ALL_CORRECT
    flagged = sum(all(expected_flag in flags[month].get(item, ()) for item in items) for month in active)
    found = f"{expected_flag.value} in {flagged} of {len(active)} months"
    return Finding(kind, planted, found, flagged == len(active))


def _dif_finding(connection: psycopg.Connection, planted: str, items: set[str], judged: list[str]) -> Finding:
    large: dict[str, set[str]] = {month: set() for month in judged}
    for month, item in connection.execute(
        "SELECT month, item_id FROM dif_analysis WHERE month = ANY(%s) AND details->'large' = 'true'", (judged,)
    ):
        large[month].add(item)
    rightly = [month for month in judged if items <= large[month]]
    other_items = sorted(set().union(*large.values()) - items)
    found = f"large in {len(rightly)} of {len(judged)} green months, "
    found += f"and so are {', '.join(other_items[:5])}" if other_items else "and no other item is"
    return Finding("dif", planted, found, rightly == judged and not other_items)


def _false_alarms(truth: dict[str, Any], flags: dict[str, dict[str, tuple[Flag, ...]]]) -> Finding:
    planted = {item for fault in truth["faults"] for item in fault["item_ids"]}
    flagged = {item for of_month in flags.values() for item, found in of_month.items() if found}
    wrong = sorted(flagged - planted)
    return Finding("sound items", "none flagged", ", ".join(wrong[:5]) or "none flagged", not wrong)


def _refuse_foreign_data(database: Database, files: SimulatedFiles) -> None:
    bank = {json.loads(line)["item_id"] for line in files.questions.read_text("utf-8").splitlines()}
    with database.connect() as connection:
        present = first_column(connection, "SELECT item_id FROM question")
    if not bank.issuperset(present):
        raise PermanentFailure(FOREIGN_DATA)


def own_log(
    settings: Settings,
    log: Path,
    say: Say,
    open_instance: OpenInstance,
    import_log: Callable[[Database], ImportReport],
    *,
    model: Model = DEFAULT_MODEL,
    rules: Mapping[str, Any] = MappingProxyType({}),
) -> Settings:
    """Import a user's log, propose thresholds for its size, and make it its own origin, as one window.

    `rules`: rules of its scales that differ from the defaults and from the proposed minimum. Returns the settings that
    go with it. Raises PermanentFailure if the database contains another log.
    """
    database = Database(settings)
    upgrade(database)
    marker = settings.irt_home / "demo-log"
    identity = f"{log.absolute()} {log.stat().st_size}" if log.exists() else ""
    if not identity:
        raise PermanentFailure(f"there is no file {log}")
    with database.connect() as connection:
        row = connection.execute("SELECT EXISTS (SELECT FROM response_log), EXISTS (SELECT FROM question)").fetchone()
    if row != (False, False) and (not marker.exists() or marker.read_text("utf-8") != identity):
        raise PermanentFailure(FOREIGN_DATA)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(identity, "utf-8")
    report = import_log(database)
    say(f"{report.accepted:,} answers imported, {report.duplicates:,} already there, rejected: {report.reasons}")
    if report.complaint and not report.accepted + report.duplicates:
        raise PermanentFailure(f"{log}: {report.complaint}")
    if report.complaint:
        say(report.complaint)
    write_lake(database, say)
    window = _log_window(database)
    first_month = month_of(window[0])
    write_env_file(settings, irt_first_month=first_month, irt_schedules="stopped")
    settings = get_settings()
    with database.connect() as connection:
        new = [scale for scale in read_scales(connection).values() if not scale.initialised]
    for scale in new:
        _initialise_from_window(database, settings, scale, window, model, rules, say)
    last_month = month_of(window[1] - timedelta(microseconds=1))
    if last_month < month_of(datetime.now(UTC)):
        with open_instance(settings, database) as instance:
            outcome = run_month(instance, settings, last_month, ("scored_responses", "item_analysis", "abilities"))
            if not outcome.success:
                raise PermanentFailure(outcome.why)
            _say_abilities(database, last_month, say)
            say("looking for DIF, and writing the report of the window …")
            jobs = Jobs(instance, settings, say, again=True)
            for job in (DRIFT_JOB, DRIFT_REPORT_JOB):
                jobs.run(job, last_month)
        for url in drift_month.stored_uris(database, last_month):
            say(f"  {url}")
    say(NEXT_STEPS.format(month=month_of(window[1]), last=last_month))
    return settings


def _initialise_from_window(
    database: Database,
    settings: Settings,
    scale: Scale,
    window: tuple[datetime, datetime],
    model: Model,
    rules: Mapping[str, Any],
    say: Say,
) -> None:
    """Propose a minimum, split the scale if its answers have no common scale, and make the window its origin."""
    responses, counts = _read_eligible(database, scale, window, min_responses=1)
    say(f"scale {scale.scale_id}: " + ", ".join(f"{name} {n:,}" for name, n in counts.items() if n))
    options = propose_minimum(np.bincount(responses.item, minlength=responses.n_items))
    least = rules.get("min_responses", recommend(options).min_responses)
    say("  how many responses an item needs, how many items have them, and the SE(b) that costs:")
    for option in options:
        mark = "  ← chosen here" if option.min_responses == least else ""
        say(f"  {option.min_responses:>5}  {option.items_admitted:>5} items  SE(b) ≈ {option.expected_b_se:.2f}{mark}")
    responses, _ = _read_eligible(database, scale, window, min_responses=least)
    for scale_id in _split_scale(database, scale.scale_id, responses, say):
        origin = initialise(
            database,
            scale_id,
            first_month=settings.irt_first_month,
            model=model,
            thresholds={"min_responses": least, **rules},
            window=OriginWindow(*window, EmEngine(settings.irt_threads), object_store(settings)),
        )
        say(f"  {scale_id}: {origin.published} items calibrated and published, {len(origin.left_out)} left out")
        for item, why in list(origin.left_out.items())[:5]:
            say(f"    {item}: {why}")
        setting = f"--scale {scale_id} --set min_responses=N"
        say(f"    to use another N than {least}, for all months: irt calibrate --month MONTH {setting}")


def _read_eligible(
    database: Database, scale: Scale, window: tuple[datetime, datetime], min_responses: int
) -> tuple[Responses, dict[str, int]]:
    tried = replace(scale, rules=Rules.from_settings({"min_responses": min_responses}))
    start, end = window
    judge_differing(database, start.date(), (end - timedelta(microseconds=1)).date() + timedelta(days=1))
    with database.connect() as connection:
        judged = stored_window(connection, start, end, {scale.scale_id: tried})
    return scored_responses_of(judged.table, scale.scale_id)[0], judged.judgements[scale.scale_id].counts


def _split_scale(database: Database, scale_id: str, responses: Responses, say: Say) -> list[str]:
    """Put groups of items that share neither a learner nor an item on scales of their own. Returns the scales."""
    parts = responses.components()
    if len(parts) == 1:
        return [scale_id]
    say(f"  the answers fall into {len(parts)} groups with no learner and no item in common: each gets its own scale")
    names = [f"{scale_id}-{k + 1}" for k in range(len(parts))]
    with database.connect() as connection:
        for name, part in zip(names, parts, strict=True):
            connection.execute("UPDATE question SET scale_id = %s WHERE item_id = ANY(%s)", (name, list(part.items)))
    return names


def _say_abilities(database: Database, month: str, say: Say) -> None:
    with database.connect() as connection:
        [(n, mean, sd, se)] = connection.execute(
            """SELECT count(*), avg(theta), stddev_samp(theta), avg(se) FROM mirt_ability
               WHERE kind = 'monthly' AND window_end = %s""",
            (Month(month).end,),
        ).fetchall()
    if n:
        say(f"{n:,} learners measured: mean θ {mean:+.2f}, SD {sd or 0:.2f}, mean SE {se:.2f}")


def _log_window(database: Database) -> tuple[datetime, datetime]:
    """The months of all answers. If the last month is not over, the window ends just after the last answer."""
    with database.connect() as connection:
        row = connection.execute("SELECT min(completed_at), max(completed_at) FROM attempt").fetchone()
    if row is None or row[0] is None:
        raise PermanentFailure("no answer of the log was accepted: irt intake rejects names each row and the reason")
    end = month_of(row[1]).end
    return month_of(row[0]).start, end if end <= datetime.now(UTC) else row[1] + timedelta(microseconds=1)

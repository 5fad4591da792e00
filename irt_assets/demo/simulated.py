"""The simulated demo: plant faults, run every month, and compare the findings with the truth."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
from dagster import DagsterInstance

from irt_assets.abilities.online import read_measures
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.policy_decision import SET_POLICY, PolicyRequest
from irt_assets.adaptive.sessions import Answer, Plans, begin_session
from irt_assets.blocks import Table
from irt_assets.common.job_names import INVARIANTS_JOB, ITEM_ANALYSIS_JOB, KPI_JOB, NIGHTLY_JOB
from irt_assets.common.partitions import DAYS, WEEKS, Month, month_of
from irt_assets.decisions.deciding import decide
from irt_assets.decisions.origin import initialise
from irt_assets.demo.findings import Finding, compare
from irt_assets.demo.new_items import (
    TRUE_VALUES,
    compare_new_items,
    outcomes_table,
    publish_new_items,
    read_outcomes,
    seed_new_items,
)
from irt_assets.demo.running import FOREIGN_DATA, Jobs, OpenInstance, Say, write_lake
from irt_assets.demo.second_form import NEW_ITEMS, equate_second_form
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.gates.month_status import month_states
from irt_assets.intake.bank import LEARNERS, QUESTIONS, import_bank_file
from irt_assets.intake.inbox import import_waiting_files
from irt_assets.intake.load import import_attempts
from irt_assets.invariants.open_violations import changes_since_evaluation, last_evaluated
from irt_assets.item_analysis.forms import import_forms
from irt_assets.ledger.steps import steps_of_month
from irt_assets.reports import drift_month, learner_copies, learner_week
from irt_assets.reports.artifacts import store_report
from irt_assets.reports.assets import DRIFT_REPORT_JOB
from irt_assets.runs.in_process_runs import run_month
from irt_assets.scales.scale import change_rules, read_scales
from irt_assets.scales.scale_decisions import Subject, record_decisions
from irt_assets.scores.issuing import issue_scores
from irt_assets.scores.releases import release_table, released_tables
from irt_assets.scores.standards import plan_mark, set_mark
from irt_assets.simulation.files import SimulatedFiles, write
from irt_assets.simulation.response_log import simulate
from irt_assets.simulation.scenario import VocabularyScenario, demo_scenario
from irt_psychometrics import simulate_responses
from resources.failures import PermanentFailure
from resources.files.inbox_files import FolderInbox, inbox_of
from resources.files.object_store import object_store
from resources.postgres.database import Database, first_column
from resources.postgres.schema import upgrade
from resources.settings import Settings, get_settings, write_env_file

MOVES: Mapping[Subject, str] = {"ability_variance": "0.0025", "ability_growth": "0.0276"}
"""Abilities walk by .05 a week, and grow by .12 from month to month."""
EXAM, EXAM_FORM = VocabularyScenario.scale_id, "V"
"""The scale with reported scores, and its form."""
REPORTED = {"score_slope": 100.0, "score_intercept": 500.0, "score_lowest": 200.0, "score_highest": 800.0}
SIGNED: dict[str, Any] = {"by": "demo", "reason": "the first scores of the exam"}
TEST, SITTINGS = "placement", 40
"""The adaptive test of the first scale, and the number of new learners who take it."""
POLICY = f"""
test: {TEST}
length: {{min: 8, max: 24, se: 0.42}}
exposure: {{max: 0.4}}
"""
KPI_WEEKS = 8
"""Number of weeks before the running one for which the demo computes KPIs."""
ITEM_DAYS = 5
"""Number of days before today for which the demo analyses items."""


class DemoResult(NamedTuple):
    """Result of a demo: the settings that it wrote, the states of its months, the outcomes of the new items, and
    the findings on planted faults."""

    settings: Settings
    states: list[MonthState]
    new_items: Table
    findings: list[Finding]


def run_simulated(settings: Settings, say: Say, open_instance: OpenInstance) -> DemoResult:
    """Run the demo, from the simulation to the comparison of planted faults with findings."""
    files, truth = prepare(settings.irt_home / "simulated", settings, say)
    settings = get_settings()
    database = Database(settings)
    load(database, files, settings, say)
    seed_new_items(database, files[0], truth, say)
    write_lake(database, say)
    months = truth["months"][:-1]
    say("calibrating, linking, checking and publishing month by month …")
    with open_instance(settings, database) as instance:
        again, states = run_months(database, instance, settings, months, say)
        jobs = Jobs(instance, settings, say, again)
        take_adaptive_test(database, files[0].truth.parent, datetime.now(UTC), say)
        say("looking for drift and DIF …")
        for month in dict.fromkeys(state.month for state in states if state.state is State.GREEN):
            jobs.run(DRIFT_JOB, month)
        say("writing the drift report of every month …")
        for month in months:
            jobs.run(DRIFT_REPORT_JOB, month)
        for url in drift_month.stored_uris(database, months[-1]):
            say(f"  {months[-1]}: {url}")
        hand_out_scores(database, months[-1], datetime.now(UTC), say)
        equate_second_form(
            database, EXAM, EXAM_FORM, months[-1], files[0].truth.parent, datetime.now(UTC), say, **SIGNED
        )
        run_daily_life(jobs, settings, datetime.now(UTC))
        write_learner_reports(database, settings, datetime.now(UTC), say)
        jobs.run("inventory")
        findings = compare(database, truth, months, states)
    with database.connect() as connection:
        findings += compare_new_items(connection)
        return DemoResult(settings, states, outcomes_table(read_outcomes(connection)), findings)


def prepare(folder: Path, settings: Settings, say: Say) -> tuple[list[SimulatedFiles], dict[str, Any]]:
    """Simulate a log of two scales (or reuse the files of an earlier demo) and write settings that suit it.

    Returns the files of each scale, and the truth of the first one. No fault is planted in the second one.
    """
    scales = [SimulatedFiles.in_folder(folder / name) for name in ("", VocabularyScenario.scale_id)]
    if not scales[0].truth.exists():
        say("simulating four months and the running one …")
        first = demo_scenario(datetime.now(UTC), scored=True)
        second = VocabularyScenario(first.months, first.now)
        for scenario, files in zip((second, first), reversed(scales), strict=True):  # the first scale's truth is last
            walking = replace(scenario, weekly_variance=float(MOVES["ability_variance"]))
            write(*simulate(walking), files.truth.parent)
    truth = json.loads(scales[0].truth.read_text("utf-8"))
    inbox = settings.irt_inbox or str((settings.irt_home / "inbox").resolve())
    write_env_file(settings, irt_first_month=truth["months"][0], irt_schedules="stopped", irt_inbox=inbox)
    return [files for files in scales if files.truth.exists()], truth


def load(database: Database, scales: list[SimulatedFiles], settings: Settings, say: Say) -> None:
    """Migrate, import everything and freeze the anchors. Safe to repeat."""
    upgrade(database)
    _refuse_foreign_data(database, scales)
    with database.connect() as connection:
        known = read_scales(connection).values()
    if known and all(scale.initialised for scale in known):
        say("questions, learners and answers have already been imported")
        return
    say("importing questions, learners and answers …")
    for files in reversed(scales):  # the first scale's values of a learner count
        import_bank_file(database, QUESTIONS, files.questions)
        import_bank_file(database, LEARNERS, files.learners)
    report = import_attempts(database, [files.attempts for files in scales], first_month=settings.irt_first_month)
    say(f"  {report.accepted:,} answers imported, {report.duplicates:,} were there already")
    _take_file_from_inbox(database, scales[0].late_attempts, settings, say)
    with database.connect() as connection:
        new = [s.scale_id for s in read_scales(connection).values() if not s.initialised]
    for scale_id in new:
        origin = initialise(database, scale_id, first_month=settings.irt_first_month)
        say(f"  scale {scale_id}: {origin.anchors} anchors frozen and published")
        with database.connect() as connection:
            start = Month(settings.irt_first_month).start
            record_decisions(connection, scale_id, MOVES, start, by="demo", reason="its learners learn")
        if scale_id == EXAM:
            _declare_exam(database, scales[-1].questions)
    last_month = Month(month_of(Month(month_of(datetime.now(UTC))).start - timedelta(days=1)))
    request = PolicyRequest.of(Policy.from_yaml(POLICY), last_month.start)
    decide(database, SET_POLICY, request, by="demo", reason="places new learners")


def _declare_exam(database: Database, questions: Path) -> None:
    """Import the form of the exam, and declare its reported scores and pass mark."""
    items = [json.loads(line)["item_id"] for line in questions.read_text("utf-8").splitlines()]
    forms = questions.with_name("forms.csv")
    lines = [f"{EXAM_FORM},{item},{k}" for k, item in enumerate(items, 1)]
    forms.write_text("\n".join(["form_id,item_id,position", *lines]) + "\n", "utf-8")
    import_forms(database, forms)
    change_rules(database, EXAM, REPORTED)
    set_mark(database, database.call(plan_mark, EXAM, 0.0), by="demo", reason="the mean of the population")


def take_adaptive_test(database: Database, folder: Path, now: datetime, say: Say) -> None:
    """Let new learners take the adaptive test, yesterday or, on the first day of a month, today.

    θ of the learners is normal, and their answers follow the published values.
    """
    file = folder / "sittings.csv"
    if file.exists():
        return
    say(f"{SITTINGS} new learners take the adaptive test {TEST} …")
    began, plans, rows = max(now - timedelta(days=1), Month(month_of(now)).start), Plans(), []
    with database.connect() as connection:
        plans.refresh(connection, began)
        offer, measures = plans.offers[TEST], read_measures(connection, began)
        places = offer.bank.plan.places
        drawn = simulate_responses(offer.bank.items, np.random.default_rng(1).standard_normal(SITTINGS), random_state=1)
        scores = drawn.score.reshape(SITTINGS, len(places))
        for k in range(SITTINGS):
            session = begin_session(connection, offer, measures, f"{TEST}-{k + 1:02d}", f"{TEST}-{k + 1:02d}", began)
            answers: list[Answer] = []
            while item := plans.next_item(connection, session, answers, began).item_id:
                answers.append(Answer(item, None, int(scores[k, places[item]])))
            rows += [(session.user_id, own.item_id, own.score, at) for at, own in enumerate(answers, 1)]
    answered = pd.DataFrame(rows, columns=["user_id", "item_id", "score", "position"])
    answered["attempt_id"] = answered["user_id"] + "-" + answered["position"].astype(str)
    answered["completed_at"] = began + answered["position"] * min(
        timedelta(seconds=40),
        (now - began) // (answered["position"].max() + 1),  # before now, in a month that is minutes old
    )
    answered["response_time_ms"] = np.random.default_rng(2).integers(8_000, 40_000, len(answered))
    answered.assign(session_id=answered["user_id"], form_id=TEST).to_csv(file, index=False)
    import_attempts(database, [file], first_month=database.settings.irt_first_month)


def hand_out_scores(database: Database, month: str, now: datetime, say: Say) -> None:
    """Release the score table of the exam's form, and issue the scores of the month."""
    with database.connect() as connection:
        if EXAM_FORM in released_tables(connection, EXAM):
            return
    say(f"releasing the score table of form {EXAM_FORM}, and issuing the scores of {month} …")
    release_table(database, EXAM, EXAM_FORM, **SIGNED)
    for line in issue_scores(database, EXAM, EXAM_FORM, month, **SIGNED, now=now).sentences:
        say(f"  {line}")


def _refuse_foreign_data(database: Database, scales: list[SimulatedFiles]) -> None:
    banks = [files.questions.read_text("utf-8").splitlines() for files in scales]
    bank = {json.loads(line)["item_id"] for lines in banks for line in lines}
    with database.connect() as connection:
        present = first_column(connection, "SELECT item_id FROM question")
    if not (bank | NEW_ITEMS.keys() | TRUE_VALUES.keys()).issuperset(present):
        raise PermanentFailure(FOREIGN_DATA)


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


def run_months(
    database: Database, instance: DagsterInstance, settings: Settings, months: list[str], say: Say
) -> tuple[bool, list[MonthState]]:
    """Materialise every month that an earlier demo has not made green or found to be held, oldest first.

    Returns whether a month was run, and the states of all months.
    """
    states = month_states(database, instance, months)
    any_run = False
    for month in months:
        of_month = [state for state in states if state.month == month]
        held = _held_scales(database, month)
        if all(s.state is State.GREEN or (s.state is State.RED and s.scale_id in held) for s in of_month):
            say(f"  {month}: {', '.join(f'{s.scale_id} {s.state}' for s in of_month)} already")
            continue
        any_run = True
        outcome = run_month(instance, settings, month)
        held = _held_scales(database, month)
        if not (outcome.success or outcome.held):
            say(f"  {month}: failed – {outcome.why}")
        elif not held:
            say(f"  {month}: materialised")
        for scale_id, why in held.items():
            say(f"  {month} is held on {scale_id}: {why}")
    return any_run, month_states(database, instance, months) if any_run else states


def _held_scales(database: Database, month: str) -> dict[str, str]:
    """Scale → the reason why the month is held on it."""
    with database.connect() as connection:
        return {step.scale_id: step.why for step in steps_of_month(connection, month) if step.state == "held"}


def run_daily_life(jobs: Jobs, settings: Settings, now: datetime) -> None:
    """Run the jobs that schedules would have run by now.

    Features of all days, KPIs of nine weeks, items of the last days, and one night.
    """
    jobs.say("features of every day, KPIs of eight weeks and the running one, the last nights, the invariants …")
    (yesterday,), weeks = DAYS.last_keys(now, 1), [*WEEKS.last_keys(now, KPI_WEEKS), WEEKS.key_of(now)]
    requests = [("aggregate_features_daily", DAYS.key_of(Month(settings.irt_first_month).start), yesterday)]
    requests += [(KPI_JOB, week, "") for week in weeks]
    requests += [(ITEM_ANALYSIS_JOB, day, "") for day in DAYS.last_keys(now, ITEM_DAYS)]
    requests += [(job, yesterday, "") for job in (NIGHTLY_JOB, "detect_inactivity")]
    for job, first, last in requests:
        jobs.run(job, first, last)
    database = Database(settings)
    publish_new_items(database, now, jobs.say)
    with database.connect() as connection:
        outdated = changes_since_evaluation(connection, last_evaluated(connection))
    (replace(jobs, again=True) if outdated else jobs).run(INVARIANTS_JOB, yesterday)


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
                 WHERE NOT is_test AND l.attributes ? 'lang'
                   AND date >= %(monday)s AND date < %(monday)s + 7 GROUP BY 1, 2) practised
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

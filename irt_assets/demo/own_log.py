"""The demo on a user's log: one window that becomes its own origin."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from irt_assets.common.partitions import Month, month_of
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.demo.running import FOREIGN_DATA, Jobs, OpenInstance, Say, write_lake
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.engines.em import EmEngine
from irt_assets.engines.spec import DEFAULT_MODEL
from irt_assets.intake.report import ImportReport
from irt_assets.item_analysis.key_evidence import suspect_keys
from irt_assets.reports import drift_month
from irt_assets.reports.assets import DRIFT_REPORT_JOB
from irt_assets.responses.eligibility.minimum import propose_minimum, recommend
from irt_assets.responses.stored_window import stored_window
from irt_assets.responses.verdicts import judge_differing
from irt_assets.responses.window import scored_responses_of
from irt_assets.runs.in_process_runs import run_month
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics import Responses
from irt_psychometrics.items import ScaleModel
from resources.failures import PermanentFailure
from resources.files.object_store import object_store
from resources.postgres.database import Database
from resources.postgres.schema import upgrade
from resources.settings import Settings, get_settings, write_env_file

EARLIEST_MONTH = "1970-01"
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


def own_log(
    settings: Settings,
    log: Path,
    say: Say,
    open_instance: OpenInstance,
    import_log: Callable[[Database], ImportReport],
    *,
    model: ScaleModel = DEFAULT_MODEL,
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
    with database.connect() as connection:
        for scale_id in read_scales(connection):
            for item, why in suspect_keys(connection, scale_id).items():
                say(f"  {item}: {why}")
    say(NEXT_STEPS.format(month=month_of(window[1]), last=last_month))
    return settings


def _initialise_from_window(
    database: Database,
    settings: Settings,
    scale: Scale,
    window: tuple[datetime, datetime],
    model: ScaleModel,
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

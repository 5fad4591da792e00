"""The sensor that pulls answers, items and learners from other databases and folders of Parquet (`irt pull`).

Answers are pulled each minute and compared each night; items and learners are copied every five minutes. It is a sensor
and not a job, because a run each minute would be 1,440 runs a day. The daemon evaluates it, or `irt job pull` if timers
replace the daemon. `intake.pulling` implements a pull, `copies` a copy.
"""

import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from irt_assets.intake.pulling.nightly import compare_days
from irt_assets.intake.pulling.pull import Pull
from irt_assets.intake.pulling.pull_state import PullInProgress
from irt_assets.intake.pulling.rows import TableLocked
from irt_assets.intake.pulling.sources_file import PullSource, read_sources
from jobs.copies import copy_with_alert
from resources.alerts.outbox import Alert, open_alert, resolve_alert
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import Database

LOG = logging.getLogger(__name__)
TICK_BUDGET_S = 40
"""Time budget of a tick, of the 60 seconds that Dagster allows; the next tick continues."""
COPY_INTERVAL_S = 290
COMPARISON_HOUR = 2
"""Hour (UTC) from which a night's comparison may begin."""
Marks = dict[str, Any]
"""For each copied source: the mark of its rows and ours (see `copies.CopyResult`), and the Unix time of the comparison.
"""


@dg.sensor(
    name="pull",
    description="Pulls the answers that were written since the last tick from the databases and folders of "
    "IRT_PULL_SOURCES, compares the last 35 days with them each night, and copies items and learners from sources of "
    "these kinds every five minutes.",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def pull(context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]) -> dg.SensorResult:
    try:
        sources = [*read_sources(database.settings).values()]
    except PermanentFailure as failure:
        return dg.SensorResult(skip_reason=str(failure))
    # The cursor holds the turn, so that a source that got no time comes first at a later tick, and the marks. Earlier
    # versions stored only the turn.
    cursor = json.loads(context.cursor or "0")
    turn, marks = (cursor["turn"], cursor["marks"]) if isinstance(cursor, dict) else (cursor, {})
    began, summaries = time.monotonic(), []
    for n in range(len(sources)):
        remaining_s = TICK_BUDGET_S - (time.monotonic() - began)
        if remaining_s > 0:
            summaries.append(_pull_source(database, sources[(turn + n) % len(sources)], remaining_s, marks))
    cursor = json.dumps({"turn": turn + 1, "marks": marks})
    return dg.SensorResult(skip_reason="; ".join(summaries) or "IRT_PULL_SOURCES names no source", cursor=cursor)


def _pull_source(database: Database, source: PullSource, seconds: float, marks: Marks) -> str:
    """Pull one source for at most `seconds`, with an alert that stays open while this fails. Returns a summary."""
    key, began = f"pull {source.name}", time.monotonic()
    days = []
    try:
        if source.kind != "attempts":
            summary = _copy_source(database, source, marks)
        else:
            report = Pull(database, source, seconds).run()
            summary = f"{source.name}: {report.read:,} rows, {report.accepted:,} new, {report.corrected:,} corrected"
            now = datetime.now(UTC)
            remaining_s = seconds - (time.monotonic() - began)
            if now.hour >= COMPARISON_HOUR and remaining_s > 0:
                days = [*compare_days(database, source, now, seconds=remaining_s)]
    except (PullInProgress, TableLocked) as busy:
        return str(busy)
    except Exception as failure:
        is_expected = isinstance(failure, PermanentFailure | TransientFailure)
        reason = str(failure) if is_expected else f"{source.name}: the pull failed with {type(failure).__name__}"
        if not is_expected:
            LOG.exception(reason)
        alert = Alert(key, "error", reason, f"irt pull {source.name} shows whether it works again.")
        database.call(open_alert, alert)
        return reason
    with database.connect() as connection:
        resolve_alert(connection, key)
        for day in days:
            if day.waits:
                fix = "Check the source, then confirm."
                open_alert(connection, Alert(f"{key} {day.day}", "warning", str(day), fix))
    return summary


def _copy_source(database: Database, source: PullSource, marks: Marks) -> str:
    mark, at = marks.get(source.name, ("", 0))
    if time.time() - at < COPY_INTERVAL_S:
        return f"{source.name}: compared less than five minutes ago"
    step = copy_with_alert(database, source, mark)
    marks[source.name] = (step.mark, time.time())
    return step.summary

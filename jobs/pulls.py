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

from irt_assets.intake.pulling.nightly import Comparison
from irt_assets.intake.pulling.pull import Pull
from irt_assets.intake.pulling.pull_state import PullInProgress
from irt_assets.intake.pulling.rows import TableLocked
from irt_assets.intake.pulling.sources_file import PullSource, read_sources
from jobs.copies import keep_in_step
from resources.alerts.outbox import Alert, open_alert, resolve_alert
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import Database

LOG = logging.getLogger(__name__)
SECONDS_A_TICK = 40
"""Time budget of a tick, of the 60 seconds that Dagster allows; the next tick continues."""
COPY_EVERY_S = 290
NIGHT = 2
"""Hour (UTC) from which a night's comparison may begin."""
Marks = dict[str, Any]
"""For each copied source: the mark of its rows and ours (see `copies.Step`), and the Unix time of the comparison."""


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
    began, said = time.monotonic(), []
    for n in range(len(sources)):
        left = SECONDS_A_TICK - (time.monotonic() - began)
        if left > 0:
            said.append(_pulled(database, sources[(turn + n) % len(sources)], left, marks))
    cursor = json.dumps({"turn": turn + 1, "marks": marks})
    return dg.SensorResult(skip_reason="; ".join(said) or "IRT_PULL_SOURCES names no source", cursor=cursor)


def _pulled(database: Database, source: PullSource, seconds: float, marks: Marks) -> str:
    """Pull one source for at most `seconds`, with an alert that stays open while this fails. Returns a summary."""
    key, began = f"pull {source.name}", time.monotonic()
    found = []
    try:
        if source.kind != "attempts":
            said = _copied(database, source, marks)
        else:
            report = Pull(database, source, seconds).run()
            said = f"{source.name}: {report.read:,} rows, {report.accepted:,} new, {report.corrected:,} corrected"
            now = datetime.now(UTC)
            left = seconds - (time.monotonic() - began)
            if now.hour >= NIGHT and left > 0:
                found = [*Comparison(database, source, left).run(now)]
    except (PullInProgress, TableLocked) as held:
        return str(held)
    except Exception as failure:
        known = isinstance(failure, PermanentFailure | TransientFailure)
        why = str(failure) if known else f"{source.name}: the pull failed with {type(failure).__name__}"
        if not known:
            LOG.exception(why)
        alert = Alert(key, "error", why, f"irt pull {source.name} says whether it works again.")
        with database.connect() as connection:
            open_alert(connection, alert)
        return why
    with database.connect() as connection:
        resolve_alert(connection, key)
        for day in found:
            if day.waits:
                fix = "Look at the source, then confirm."
                open_alert(connection, Alert(f"{key} {day.day}", "warning", str(day), fix))
    return said


def _copied(database: Database, source: PullSource, marks: Marks) -> str:
    mark, at = marks.get(source.name, ("", 0))
    if time.time() - at < COPY_EVERY_S:
        return f"{source.name}: compared less than five minutes ago"
    step = keep_in_step(database, source, mark)
    marks[source.name] = (step.mark, time.time())
    return step.summary

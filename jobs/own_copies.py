"""Brings `question` and `learner` in step with the company's own tables, where they are copies (`irt connect`).

A sensor does it and no job: a run every five minutes would be 288 a day that mostly find nothing, and a sensor is
evaluated by the daemon and, where timers replace it, by `irt job own_tables`. Where neither the company's rows nor ours
have changed since, one query says so. What does not belong here: what a row may be (see `intake.bank`), and which
columns are which (see `own_tables`).
"""

import json
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import dagster as dg
import psycopg
import pyarrow.compute as pc

from irt_assets.decisions.withdrawal import SOONEST, next_day, restore, withdraw
from irt_assets.intake.bank import COPIES, take_rows
from irt_assets.intake.report import ERASED
from irt_assets.intake.sources import TableSource
from irt_assets.ledger.anchors import anchors_among
from irt_assets.responses.item_status import item_status
from resources.alerts.outbox import Alert, open_alert, resolve_alert
from resources.failures import PermanentFailure
from resources.postgres.database import Database, first_column, one_value
from resources.postgres.guest_reads import GUEST_MS, set_limits
from resources.postgres.own_log import LogMapping, read_mapping
from resources.postgres.warehouse import read_arrow

BY = "irt connect question"
"""Who retires items, and takes back only what it did itself."""
LIMITS_MS = GUEST_MS | {"statement_timeout": 20_000}
"""Two statements read the company's table, and Dagster allows a tick 60 s."""


@dataclass(frozen=True)
class Step:
    """`mark`: of the company's rows and ours as they are now; empty: look again in any case. `alert`: what was left."""

    mark: str
    summary: str
    alert: Alert | None = None


@dg.sensor(
    name="own_tables",
    description="Brings the item bank and the learners in step with the company's own tables that `irt connect "
    "question` and `irt connect learner` name.",
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def own_tables(context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]) -> dg.SensorResult:
    marks: dict[str, str] = json.loads(context.cursor or "{}")
    with database.connect() as connection:
        connected = [target for target in COPIES if read_mapping(connection, target)]
    steps = {target: _tried(database, target, marks.get(target, "")) for target in connected}
    with database.connect() as connection:
        for target in COPIES:
            step = steps.get(target, Step("", ""))
            if not step.mark or step.mark != marks.get(target):
                _tell(connection, target, step.alert)
    said = "; ".join(step.summary for step in steps.values()) or "no table of the company's own is connected"
    cursor = json.dumps({target: step.mark for target, step in steps.items()})
    return dg.SensorResult(skip_reason=said, cursor=cursor)


def _tried(database: Database, target: str, mark: str) -> Step:
    """`bring_in_step`, with an alert where the table cannot be read. One that is locked waits for the next tick."""
    try:
        return bring_in_step(database, target, mark)
    except psycopg.errors.LockNotAvailable:
        return Step(mark, f"{target}: the company's table is locked, and read the next time")
    except PermanentFailure as failure:
        fix = f"Correct the table or the rights, or name another SELECT: irt connect {target}."
        what = f"{target} is not in step with the company's: {failure}"
        return Step("", f"{target}: {failure}", Alert(f"copy of {target}", "error", what, fix))


def _tell(connection: psycopg.Connection, target: str, alert: Alert | None) -> None:
    for key in (f"copy of {target}", f"rows of {target}"):
        if alert is None or alert.key != key:
            resolve_alert(connection, key)
    if alert is not None:
        open_alert(connection, alert)


def bring_in_step(database: Database, target: str, mark: str = "") -> Step:
    """Take over what differs in the company's table; items that are not in it any more are retired, and those that are
    back are active again. Nothing is done where all is as it was at `mark`.

    Raises PermanentFailure where the table cannot be read or is empty, LockNotAvailable where it is locked.
    """
    kind = COPIES[target]
    with database.connect() as connection:
        mapping = read_mapping(connection, target)
        if mapping is None:
            raise PermanentFailure(f"no table of your own is connected as the {target}")
        connection.execute("SET TRANSACTION READ ONLY")
        set_limits(connection, LIMITS_MS)
        try:
            theirs = f"{mapping.made_at} {_hash(connection, f'({mapping.query})')}"
            if f"{theirs} {_hash(connection, target)}" == mark:
                return Step(mark, f"{target}: unchanged")
            table = read_arrow(connection, mapping.query)
        except psycopg.errors.LockNotAvailable:
            raise
        except psycopg.Error as error:
            message = error.diag.message_primary or error
            raise PermanentFailure(f"{mapping.source} cannot be read as it was connected: {message}") from error
    if not table.num_rows:
        raise PermanentFailure(f"{mapping.source} has no rows: nothing was changed")
    batches = partial(table.to_batches, max_chunksize=65_536)
    source = TableSource(mapping.source, table.column_names, table.num_rows, batches)
    report = take_rows(database, source, kind, given=table.column_names)
    said, left = f"{target}: {report.read:,} rows read, {report.accepted:,} new or changed", ""
    if target == "question":
        names = pc.ascii_trim_whitespace(table[kind.key].drop_null()).to_pylist()
        retired, left = _retire(database, mapping, set(names))
        said += retired
    said += f", rejected: {report.reasons}" if report.rejected else ""
    alert = None
    if left or report.rejected.keys() - {ERASED}:
        see = f"{shlex.join(['irt', 'intake', 'rejects', '--source', mapping.source])} shows each refused row. "
        fix = f"{see if report.rejected else ''}{left}"
        alert = Alert(f"rows of {target}", "warning", f"not all of {mapping.source} was copied: {said}", fix)
    with database.connect() as connection:
        return Step("" if left else f"{theirs} {_hash(connection, target)}", said, alert)


def _retire(database: Database, mapping: LogMapping, there: Collection[str]) -> tuple[str, str]:
    """What was retired and what is back, and which anchors a person has to drop first. What a person decided on an
    item's use stays decided."""
    now = datetime.now(UTC)
    since = next_day(now + SOONEST)
    with database.connect() as connection:
        bank, status = first_column(connection, "SELECT item_id FROM question ORDER BY 1"), item_status(connection)
        ours = {item: one.is_withdrawn for item, one in status.items() if one.decided_by == BY}
        gone = [item for item in bank if item not in there and not ours.get(item, item in status)]
        anchors = anchors_among(connection, gone)
    retired = [item for item in gone if item not in anchors]
    back = [item for item in bank if item in there and ours.get(item)]
    if retired:
        withdraw(database, retired, since=since, by=BY, reason=f"it is not in {mapping.source} any more", now=now)
    if back:
        restore(database, back, since=since, by=BY, reason=f"it is in {mapping.source} again", now=now)
    drop = shlex.join(["irt", "release", "drop-anchors", *sorted(anchors)])
    left = f"Anchors that are not in it any more stay in use until a person drops them: {drop}" if anchors else ""
    return f", {len(retired):,} retired, {len(back):,} active again", left


def _hash(connection: psycopg.Connection, relation: str) -> str:
    query = f"SELECT md5(concat_ws(' ', count(*), sum(hash_record_extended(s, 0)))) FROM {relation} s"
    return str(one_value(connection, query.encode()))

"""Brings `question` and `learner` in step with the sources of these kinds (`irt pull`).

What does not belong here: when that is done (see `pulls`), and what a row may be (see `intake.bank`).
"""

import hashlib
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.decisions.withdrawal import SOONEST, next_day, restore, withdraw
from irt_assets.intake.bank import COPIES, Kind, binding_of, take_rows
from irt_assets.intake.clean import Columns
from irt_assets.intake.mapping import AUTO
from irt_assets.intake.pulling.open_source import open_source
from irt_assets.intake.pulling.rows import SqlRows
from irt_assets.intake.pulling.sources_file import PullSource
from irt_assets.intake.pulling.standing import one_at_a_time
from irt_assets.intake.report import ERASED
from irt_assets.intake.sources import TableSource
from irt_assets.ledger.anchors import anchors_among
from irt_assets.responses.item_status import item_status
from resources.alerts.outbox import Alert, open_alert, resolve_alert
from resources.failures import PermanentFailure
from resources.postgres.database import Database, first_column, one_value

BY = "irt pull"
"""Who retires items, and takes back only what it did itself."""


@dataclass(frozen=True)
class Step:
    """`mark`: of the source's rows and ours as they are now; empty: take them over in any case. `alert`: what was
    left."""

    mark: str
    summary: str
    alert: Alert | None = None


def keep_in_step(database: Database, source: PullSource, mark: str = "") -> Step:
    """`bring_in_step`, with an alert that is open while rows or anchors are left."""
    step = bring_in_step(database, source, mark)
    if not step.mark or step.mark != mark:
        with database.connect() as connection:
            if step.alert is None:
                resolve_alert(connection, f"rows of {source.name}")
            else:
                open_alert(connection, step.alert)
    return step


def bring_in_step(database: Database, source: PullSource, mark: str = "") -> Step:
    """Take over what differs in the source; items that are not in it any more are retired, and those that are back are
    active again. Nothing is done where all is as it was at `mark`.

    Raises PermanentFailure where the source is empty or its columns are not as the file says, TransientFailure where it
    is away, Locked where its table is locked.
    """
    kind = COPIES[source.kind]
    with one_at_a_time(database, source.name):
        known = {*kind.known, *(name for names in kind.also_called.values() for name in names)}
        with open_source(source, database) as reader:
            assert isinstance(reader, SqlRows)
            table = reader.whole(known)
        if not table.num_rows:
            raise PermanentFailure(f"{source.name} has no rows: nothing was changed")
        theirs = _digest(table)
        with database.connect() as connection:
            if f"{theirs} {_hash(connection, kind)}" == mark:
                return Step(mark, f"{source.name}: unchanged")
        batches, rules = partial(table.to_batches, max_chunksize=65_536), source.rules or AUTO
        rows = TableSource(source.name, table.column_names, table.num_rows, batches)
        binding = binding_of(kind, source.name, table.column_names, rules)
        report = take_rows(database, rows, kind, mapping=rules, given=binding.columns)
        said, left = f"{source.name}: {report.read:,} rows read, {report.accepted:,} new or changed", ""
        if source.kind == "question":
            there = {item for part in batches() for item in Columns(binding).ours(part, kind.key).to_pylist()}
            retired, left = _retire(database, source.name, there)
            said += retired
        said += f", rejected: {report.reasons}" if report.rejected else ""
        alert = None
        if left or report.rejected.keys() - {ERASED}:
            see = f"{shlex.join(['irt', 'intake', 'rejects', '--source', source.name])} shows each refused row. "
            fix = f"{see if report.rejected else ''}{left}"
            alert = Alert(f"rows of {source.name}", "warning", f"not all of {source.name} was copied: {said}", fix)
        with database.connect() as connection:
            return Step("" if left else f"{theirs} {_hash(connection, kind)}", said, alert)


def _retire(database: Database, name: str, there: Collection[str]) -> tuple[str, str]:
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
        withdraw(database, retired, since=since, by=BY, reason=f"it is not in {name} any more", now=now)
    if back:
        restore(database, back, since=since, by=BY, reason=f"it is in {name} again", now=now)
    drop = shlex.join(["irt", "release", "drop-anchors", *sorted(anchors)])
    left = f"Anchors that are not in it any more stay in use until a person drops them: {drop}" if anchors else ""
    return f", {len(retired):,} retired, {len(back):,} active again", left


def _digest(table: pa.Table) -> str:
    """Hash of the rows, in any order."""
    cells = [pc.fill_null(column, "\0") for column in table.columns]
    rows = sorted(pc.binary_join_element_wise(*cells, "\x1f").to_pylist())
    return hashlib.sha256("\x1e".join([*table.column_names, *rows]).encode()).hexdigest()


def _hash(connection: psycopg.Connection, kind: Kind) -> str:
    query = f"SELECT md5(concat_ws(' ', count(*), sum(hash_record_extended(s, 0)))) FROM {kind.table} s"
    return str(one_value(connection, query))

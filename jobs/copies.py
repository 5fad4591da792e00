"""Copy the rows of `question` and `learner` sources into our tables (`irt pull`).

`pulls` decides when; `intake.bank` decides which rows are accepted.
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

from irt_assets.decision_kinds import RESTORE, WITHDRAW
from irt_assets.decisions.deciding import decide
from irt_assets.decisions.withdrawal import MIN_LEAD_TIME, UseRequest, next_day
from irt_assets.intake.bank import COPIES, Kind, binding_of, import_bank_rows
from irt_assets.intake.clean import Columns
from irt_assets.intake.mapping import AUTO
from irt_assets.intake.pulling.pull import open_source
from irt_assets.intake.pulling.pull_state import pull_lock
from irt_assets.intake.pulling.rows import SqlRows
from irt_assets.intake.pulling.sources_file import PullSource
from irt_assets.intake.report import ERASED
from irt_assets.intake.sources import TableSource
from irt_assets.ledger.anchors import anchors_among
from irt_assets.scales.item_status import item_status
from resources.alerts.outbox import Alert, open_alert, resolve_alert
from resources.failures import PermanentFailure
from resources.postgres.database import Database, first_column, one_value

ACTOR = "irt pull"
"""Name under which items are retired. Only items retired under this name become active again by themselves."""


@dataclass(frozen=True)
class CopyResult:
    """Result of one copy.

    Attributes:
        mark: hashes of the source's rows and of ours; empty if the next copy must not be skipped.
        summary: one line of text.
        alert: the alert about rows that were rejected and anchors that stay in use, if there are any.
    """

    mark: str
    summary: str
    alert: Alert | None = None


def copy_with_alert(database: Database, source: PullSource, mark: str = "") -> CopyResult:
    """Run `copy_source`, and keep an alert open while rows are rejected or anchors stay in use."""
    step = copy_source(database, source, mark)
    if not step.mark or step.mark != mark:
        with database.connect() as connection:
            if step.alert is None:
                resolve_alert(connection, f"rows of {source.name}")
            else:
                open_alert(connection, step.alert)
    return step


def copy_source(database: Database, source: PullSource, mark: str = "") -> CopyResult:
    """Copy new and changed rows from the source.

    Items that are no longer in the source are retired, and items that are in it again become active again. Nothing
    happens if neither side has changed since `mark`.

    Raises PermanentFailure if the source is empty or its columns differ from the file of sources, TransientFailure if
    it cannot be reached, and Locked if its table is locked.
    """
    kind = COPIES[source.kind]
    with pull_lock(database, source.name):
        columns = {*kind.known, *(name for names in kind.also_called.values() for name in names)}
        with open_source(source, database) as reader:
            assert isinstance(reader, SqlRows)
            table = reader.read_text_table(columns)
        if not table.num_rows:
            raise PermanentFailure(f"{source.name} has no rows: nothing was changed")
        digest = _digest(table)
        with database.connect() as connection:
            if f"{digest} {_table_hash(connection, kind)}" == mark:
                return CopyResult(mark, f"{source.name}: unchanged")
        batches, rules = partial(table.to_batches, max_chunksize=65_536), source.rules or AUTO
        rows = TableSource(source.name, table.column_names, table.num_rows, batches)
        binding = binding_of(kind, source.name, table.column_names, rules)
        report = import_bank_rows(database, rows, kind, mapping=rules, given=binding.columns)
        summary, instruction = f"{source.name}: {report.read:,} rows read, {report.accepted:,} new or changed", ""
        if source.kind == "question":
            item_ids = {item for part in batches() for item in Columns(binding).our_column(part, kind.key).to_pylist()}
            retired, instruction = _retire(database, source.name, item_ids)
            summary += retired
        summary += f", rejected: {report.reasons}" if report.rejected else ""
        alert = None
        if instruction or report.rejected.keys() - {ERASED}:
            see = f"{shlex.join(['irt', 'intake', 'rejects', '--source', source.name])} shows each refused row. "
            fix = f"{see if report.rejected else ''}{instruction}"
            alert = Alert(f"rows of {source.name}", "warning", f"not all of {source.name} was copied: {summary}", fix)
        with database.connect() as connection:
            return CopyResult("" if instruction else f"{digest} {_table_hash(connection, kind)}", summary, alert)


def _retire(database: Database, name: str, item_ids: Collection[str]) -> tuple[str, str]:
    """Retire the items that are missing in the source, and restore retired items that are in it again.

    Items on whose use a person has decided are left alone. Returns a summary, and an instruction if missing items are
    anchors, which a person has to drop first.
    """
    now = datetime.now(UTC)
    since = next_day(now + MIN_LEAD_TIME)
    with database.connect() as connection:
        bank, status = first_column(connection, "SELECT item_id FROM question ORDER BY 1"), item_status(connection)
        retired_by_pull = {item: state.is_withdrawn for item, state in status.items() if state.decided_by == ACTOR}
        missing = [item for item in bank if item not in item_ids and not retired_by_pull.get(item, item in status)]
        anchors = anchors_among(connection, missing)
    retired = [item for item in missing if item not in anchors]
    back = [item for item in bank if item in item_ids and retired_by_pull.get(item)]
    if retired:
        request = UseRequest(retired, since, now)
        decide(database, WITHDRAW, request, by=ACTOR, reason=f"it is not in {name} any more")
    if back:
        decide(database, RESTORE, UseRequest(back, since, now), by=ACTOR, reason=f"it is in {name} again")
    drop = shlex.join(["irt", "release", "drop-anchors", *sorted(anchors)])
    instruction = (
        f"Anchors that are not in it any more stay in use until a person drops them: {drop}" if anchors else ""
    )
    return f", {len(retired):,} retired, {len(back):,} active again", instruction


def _digest(table: pa.Table) -> str:
    """Hash of the rows, in any order."""
    cells = [pc.fill_null(column, "\0") for column in table.columns]
    rows = sorted(pc.binary_join_element_wise(*cells, "\x1f").to_pylist())
    return hashlib.sha256("\x1e".join([*table.column_names, *rows]).encode()).hexdigest()


def _table_hash(connection: psycopg.Connection, kind: Kind) -> str:
    query = f"SELECT md5(concat_ws(' ', count(*), sum(hash_record_extended(s, 0)))) FROM {kind.table} s"
    return str(one_value(connection, query))

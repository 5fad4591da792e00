"""Erasing a learner: answers, verdicts, features, KPIs, abilities, reports and the row of `learner`.

The order makes an interruption harmless: the next attempt finds the data that is left. The tombstone comes first, so
that no import brings the learner back. The second step is the DELETE that the file of sources names for a source. Then
all rows are deleted in one transaction, and finally the reports.

The files of months stay as they are: they contain the learner's key, which identifies nobody without the row of
`learner`. Published parameters, fits and other numbers from many learners stay, too. `responses.erased` stores the
tombstones; `erasure_mentions` finds the learner's name in other tables.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import dagster as dg
import psycopg
from psycopg import sql

from irt_assets.intake.arrivals import drop_refused
from irt_assets.intake.pulling.erase import erase_at_sources
from irt_assets.intake.report import contains_id
from irt_assets.intake.staging import wait_for_posts
from irt_assets.reports.learner_week import FORMATS, key
from irt_assets.responses.erased import Erasure, begin, erasures_of, finish, record
from irt_assets.responses.verdict_states import kept_current
from irt_assets.spark.lake_upkeep import attempts_of, erase_learner
from jobs.retention.erasure_mentions import drop_mentions
from jobs.retention.unused import WEEK
from jobs.schedules import VERDICT_WINDOWS
from jobs.watching.stuck_runs import fail_lost_runs
from resources.cluster.lake import Lake
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database, advisory_lock, first_column
from resources.tables import METADATA

LEARNER_TABLES = tuple(sorted(table.name for table in METADATA.tables.values() if "user_id" in table.columns))
"""Tables with a column `user_id`: each row belongs to a learner."""
VERDICTS = "attempt_verdict"
LEARNER_VERDICTS = "{} FROM attempt_verdict WHERE learner_key = (SELECT learner_key FROM learner WHERE user_id = %s)"
RETURNING_DAYS = " RETURNING (completed_at AT TIME ZONE 'UTC')::date"
ACTIVE_STATUSES = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
Session = psycopg.Connection


@dataclass(frozen=True)
class Holdings:
    """Data that is stored about a learner.

    Attributes:
        rows: number of rows by table.
        reports: keys of the report files.
        earlier: tombstones of the learner.
        in_lake: number of answers by file of the lake.
    """

    user_id: str
    rows: Mapping[str, int]
    reports: tuple[str, ...]
    earlier: tuple[Erasure, ...]
    in_lake: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.rows or self.reports or self.in_lake)


def holdings(database: Database, store: ObjectStore, user_id: str, lake: Lake | None = None) -> Holdings:
    """All data that is stored about a learner. Reads every file of the lake.

    Raises PermanentFailure if no learner has or had the id.
    """
    with database.connect() as connection:
        counts = {table: _count(connection, table, user_id) for table in LEARNER_TABLES}
        counts[VERDICTS] = connection.execute(LEARNER_VERDICTS.format("SELECT"), (user_id,)).rowcount
        rows = {table: n for table, n in counts.items() if n}
        earlier = tuple(erasures_of(connection, user_id))
    in_lake = attempts_of(lake, user_id) if lake is not None else {}
    if not rows and not earlier and not in_lake:
        raise PermanentFailure(
            f"no learner has the id {user_id!r}: ids are case-sensitive; `irt export abilities` lists those who were "
            "measured"
        )
    return Holdings(user_id, rows, tuple(_reports(store, user_id)), earlier, in_lake)


def erase(
    database: Database,
    store: ObjectStore,
    instance: dg.DagsterInstance,
    held: Holdings,
    *,
    by: str,
    reason: str,
    rejects: Path,
    lake: Lake | None = None,
) -> tuple[Erasure, int]:
    """Delete all data about a learner, or finish an interrupted erasure.

    `rejects` is the folder of rejected rows that early versions wrote; it is deleted as a whole. Returns the tombstone,
    and the number of deleted files that the bucket keeps as old versions.

    Raises PermanentFailure while a run is under way, because it may have read the learner already, and if the DELETE of
    a source fails. Data that was not deleted is then found by repeating the call.
    """
    refuse_while_running(instance)
    with database.connect() as only_one:
        advisory_lock(only_one, "erasure")
        erasure_id = _open_tombstone(database, held, by, reason)
        database.call(wait_for_posts)  # later posts read the tombstone
        erase_at_sources(database, held.user_id)
        with database.connect() as connection:
            removed = _remove_rows(connection, held.user_id, f"erasure {erasure_id}")
            record(connection, erasure_id, removed | ({"reports": len(held.reports)} if held.reports else {}))
            refuse_while_running(instance)
        old_versions = sum(store.delete(name) for name in held.reports)
        try:
            if lake is not None:
                advisory_lock(only_one, "lake", lake.name)  # an export may have read the learner before
                days, old_files = erase_learner(lake, held.user_id)
                old_versions += old_files
                lost = {"answers in the lake": sum(days.values()), "days of the lake rewritten": len(days)}
                _record(database, erasure_id, lost)
        finally:
            dropped = database.call(drop_refused, partial(contains_id, held.user_id))
            _record(database, erasure_id, {"rejected rows": dropped})
            shutil.rmtree(rejects, ignore_errors=True)
        with database.connect() as connection:
            finish(connection, erasure_id)
            done = next(
                erasure for erasure in erasures_of(connection, held.user_id) if erasure.erasure_id == erasure_id
            )
    return done, old_versions


def refuse_while_running(instance: dg.DagsterInstance) -> None:
    """Raise PermanentFailure while a run is under way: it may write data that it read before the erasure."""
    fail_lost_runs(instance)
    runs = instance.get_runs(dg.RunsFilter(statuses=ACTIVE_STATUSES))
    if runs:
        names = ", ".join(sorted({f"{run.job_name} ({run.run_id[:8]})" for run in runs})[:3])
        raise PermanentFailure(
            f"{len(runs)} runs are under way and may have read the learner: {names}. Nothing has been deleted "
            "yet. Wait until they have ended (`irt runs list`), and erase again"
        )


def _record(database: Database, erasure_id: int, removed: Mapping[str, int]) -> None:
    if counts := {subject: n for subject, n in removed.items() if n}:
        database.call(record, erasure_id, counts)


def _open_tombstone(database: Database, held: Holdings, by: str, reason: str) -> int:
    """The tombstone of the interrupted erasure, or a new one, committed before anything is removed."""
    with database.connect() as connection:
        unfinished = [erasure for erasure in erasures_of(connection, held.user_id) if erasure.finished_at is None]
        return unfinished[-1].erasure_id if unfinished else begin(connection, held.user_id, by, reason)


# -- files -------------------------------------------------------------------------------------------


def _reports(store: ObjectStore, user_id: str) -> Iterator[str]:
    """Keys of the learner's reports in the store, including reports that no row names."""
    names = {name for name, _ in store.list("reports")}
    for week in sorted({part for name in names if WEEK.fullmatch(part := name.split("/")[1])}):
        yield from (name for kind in FORMATS if (name := key(week, user_id, kind)) in names)


# -- rows --------------------------------------------------------------------------------------------


def _count(connection: Session, table: str, user_id: str) -> int:
    query = sql.SQL("SELECT count(*) FROM {} WHERE user_id = %s").format(sql.Identifier(table))
    return int(connection.execute(query, (user_id,)).fetchall()[0][0])


def _remove_rows(connection: Session, user_id: str, instead: str) -> dict[str, int]:
    """Delete the learner's rows in the caller's transaction. Returns the number of deleted rows by table."""
    advisory_lock(connection, "response_log", "import")
    advisory_lock(connection, "theta", user_id)
    for scale_id in first_column(connection, "SELECT scale_id FROM calibration_scale ORDER BY 1"):
        advisory_lock(connection, "scores", scale_id)
    for month in _months(connection, user_id):
        for asset in ("scored_responses", "item_calibration", "linked_item_parameters"):
            advisory_lock(connection, asset, month)
    with kept_current(connection, VERDICT_WINDOWS):  # they name no learner, or the learner's rows are deleted, too
        days = first_column(connection, LEARNER_VERDICTS.format("DELETE") + RETURNING_DAYS, (user_id,))
        connection.execute("UPDATE judged_day SET judged_at = clock_timestamp() WHERE day = ANY(%s)", (days,))
    removed = {VERDICTS: len(days)}
    for table in LEARNER_TABLES:
        delete = sql.SQL("DELETE FROM {} WHERE user_id = %s").format(sql.Identifier(table))
        removed[table] = connection.execute(delete, (user_id,)).rowcount
    removed |= drop_mentions(connection, user_id, instead)
    return {table: n for table, n in removed.items() if n}


def _months(connection: Session, user_id: str) -> list[str]:
    """The months of the learner's answers in the log."""
    return first_column(
        connection,
        """SELECT DISTINCT to_char(completed_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month FROM response_log
           WHERE user_id = %s ORDER BY month""",
        (user_id,),
    )

"""Erasing a learner: answers, features, KPIs, abilities, reports and the learner's row; snapshots are written again.

In this order, an interruption at any point loses nothing, and the next attempt finds what is left. First the tombstone,
so that no import brings the learner back. Then, where the log is the company's own tables, the DELETE there that the
mapping names; without one, the learner has to be gone. Then each snapshot that holds the learner is stored once more,
without them. Then, in one transaction, every row is deleted, and rows that name a snapshot name the new one. Last, the
old files are deleted.

Published parameters, fits and other numbers over many learners stay. What does not belong here: what is kept of who was
erased (see `responses.erased`), and where else a learner is named (see `erasure_mentions`).
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import dagster as dg
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from psycopg import sql

from irt_assets.intake.arrivals import drop_refused
from irt_assets.intake.staging import wait_for_posts
from irt_assets.ledger.citations import cited_names
from irt_assets.reports.learner_week import FORMATS, key
from irt_assets.responses.data_versions import data_version
from irt_assets.responses.erased import Erasure, Rewrite, begin, erasures_of, finish, record
from irt_assets.responses.learner_answers import answered_at_all
from irt_assets.responses.observe import answer_versions_of
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.snapshot_files import (
    Manifest,
    is_manifest,
    read_manifest,
    store_manifest,
    store_parquet,
    stored_parts,
)
from irt_assets.responses.window import digest_of, sums_of_attempts
from irt_assets.spark.lake_upkeep import attempts_of, forget
from jobs.retention.erasure_mentions import drop_mentions, holds
from jobs.retention.unused import WEEK
from jobs.watching.stuck_runs import fail_lost_runs
from resources.cluster.lake import Lake
from resources.failures import PermanentFailure, TransientFailure
from resources.files.object_store import ObjectStore
from resources.files.stored_copies import open_hashed
from resources.postgres.database import Database, advisory_lock, first_column
from resources.postgres.guest_reads import GUEST_MS, reads_own_tables, set_limits
from resources.postgres.own_log import delete_of_learner, read_mapping
from resources.postgres.sources import record_sources, recorded_sources
from resources.tables import METADATA

OF_LEARNERS = tuple(sorted(table.name for table in METADATA.tables.values() if "user_id" in table.columns))
"""Tables whose rows belong to a learner."""
FEATURES = "features_topic_daily"
UNDER_WAY = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
POOLED = "recalibration"
"""The folder of snapshots over several months: a learner of each is a person, `2026-09/u1`."""
MONTH_AND_SLASH = 8
Session = psycopg.Connection


@dataclass(frozen=True)
class Rewritten:
    """A snapshot without the learner. `lost`: their answers in it, by scale and reason; `data_hash`: of those that are
    left, as `window.data_hash` has it of a log that holds these; empty for a snapshot over several months."""

    rewrite: Rewrite
    lost: Counter[tuple[str, str]]
    data_hash: str


@dataclass(frozen=True)
class Holdings:
    """What is stored about a learner: rows by table, answers by snapshot (a file, or a manifest) and by part of one,
    files of reports. `cited`: every snapshot that a row names, the learner's or not; `earlier`: tombstones of the
    learner; `in_lake`: answers by file of the lake."""

    user_id: str
    rows: Mapping[str, int]
    snapshots: Mapping[str, int]
    parts: Mapping[str, int]
    reports: tuple[str, ...]
    cited: frozenset[str]
    earlier: tuple[Erasure, ...]
    in_lake: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.rows or self.snapshots or self.reports or self.in_lake)


def holdings(database: Database, store: ObjectStore, user_id: str, lake: Lake | None = None) -> Holdings:
    """All that is stored about a learner, or is in the company's tables; reads every snapshot, and every file of the
    lake. Raises PermanentFailure for an id that no learner has or had."""
    with database.connect() as connection:
        counted = {table: _count(connection, table, user_id) for table in OF_LEARNERS}
        if reads_own_tables(connection):
            counted["attempt"] = _count(connection, "attempt", user_id)
        rows = {table: n for table, n in counted.items() if n}
        earlier = tuple(erasures_of(connection, user_id))
        named = frozenset(cited_names(connection, "snapshots"))
    in_lake = attempts_of(lake, user_id) if lake is not None else {}
    if not rows and not earlier and not in_lake:
        raise PermanentFailure(
            f"no learner has the id {user_id!r}: ids are case-sensitive; `irt export abilities` lists those who were "
            "measured"
        )
    files = sorted(name for name, _ in store.list("snapshots"))
    answers = {name: n for name in files if not is_manifest(name) and (n := _answers_in(store, name, user_id))}
    of_manifests = _parts(store, [name for name in files if is_manifest(name)])
    parts = {part: n for part, n in answers.items() if part in {p for of_one in of_manifests.values() for p in of_one}}
    snapshots = {name: n for name, n in answers.items() if name not in parts}
    snapshots |= {name: n for name, of_one in of_manifests.items() if (n := sum(parts.get(p, 0) for p in of_one))}
    return Holdings(user_id, rows, snapshots, parts, tuple(_reports(store, user_id)), named, earlier, in_lake)


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
    """Remove all that is stored about a learner, or what an interrupted erasure has left. Returns the tombstone, and
    how many of the deleted files the bucket keeps as old versions.

    `rejects`: the folder of rejected rows that imports of early versions wrote, which goes as a whole.
    Raises PermanentFailure while a run is under way, which may have read the learner already, and while tables that are
    not ours still have their answers; TransientFailure where what is stored changed meanwhile. Then every row and file
    of the learner is still there, or is found by repeating the call.
    """
    refuse_while_running(instance)
    with database.connect() as only_one:
        advisory_lock(only_one, "erasure")
        erasure_id = _open_tombstone(database, held, by, reason)
        with database.connect() as connection:
            wait_for_posts(connection)  # later ones know of the tombstone
        remove_from_own_tables(database, held.user_id, f"erasure {erasure_id}")
        rewritten = [_rewrite_snapshot(store, name, held) for name in held.snapshots if name in held.cited]
        with database.connect() as connection:
            removed = _remove_rows(connection, held, rewritten, f"erasure {erasure_id}")
            files = {"snapshots rewritten": len(rewritten), "reports": len(held.reports)}
            rewrites = [one.rewrite for one in rewritten]
            record(connection, erasure_id, removed | {k: n for k, n in files.items() if n}, rewrites)
            refuse_while_running(instance)
        old_versions = sum(store.delete(name) for name in (*held.snapshots, *held.parts, *held.reports))
        try:
            if lake is not None:
                advisory_lock(only_one, "lake", lake.name)  # an export may have read the learner before
                days, old_files = forget(lake, held.user_id)
                old_versions += old_files
                lost = {"answers in the lake": sum(days.values()), "days of the lake rewritten": len(days)}
                _record(database, erasure_id, lost)
        finally:
            with database.connect() as connection:
                dropped = drop_refused(connection, partial(holds, held.user_id))
            _record(database, erasure_id, {"rejected rows": dropped})
            shutil.rmtree(rejects, ignore_errors=True)
        with database.connect() as connection:
            finish(connection, erasure_id)
            done = next(one for one in erasures_of(connection, held.user_id) if one.erasure_id == erasure_id)
    return done, old_versions


def refuse_while_running(instance: dg.DagsterInstance) -> None:
    """Raises PermanentFailure while a run is under way: it would write what it has already read."""
    fail_lost_runs(instance)
    runs = instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY))
    if runs:
        names = ", ".join(sorted({f"{run.job_name} ({run.run_id[:8]})" for run in runs})[:3])
        raise PermanentFailure(
            f"{len(runs)} runs are under way and may have read the learner: {names}. Nothing of the learner was "
            "deleted yet. Wait for their end (`irt runs list`), and erase again"
        )


def remove_from_own_tables(database: Database, user_id: str, erasure: str) -> None:
    """Run the DELETE that the mapping of the company's tables names, in a transaction of its own, after noting which
    days' features are of what the log has: from its end on nobody can tell."""
    with database.connect() as connection:
        if not reads_own_tables(connection) or not answered_at_all(connection, user_id):
            return
        current = _current_days(connection, user_id)
        left = answer_versions_of(connection, current, without=user_id)
        record_sources(connection, erasure, {day: f"{version} {left[day]}" for day, version in current.items()})
        mapping = read_mapping(connection)
    if mapping is None or mapping.erase_with is None:
        raise PermanentFailure(
            "the view `attempt` still has answers of the learner: it reads tables of your own. Nothing was deleted: "
            "erase the learner there, then here again; or name the DELETE: irt connect log … --erase-with SQL"
        )
    try:
        with database.connect() as connection:
            set_limits(connection, GUEST_MS)
            connection.execute(delete_of_learner(mapping.erase_with), {"user_id": user_id})
            if answered_at_all(connection, user_id):
                raise PermanentFailure(f"{mapping.erase_with} leaves answers of the learner: nothing was deleted")
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.IntegrityError) as error:
        raise PermanentFailure(
            f"{mapping.erase_with} fails: {error.diag.message_primary or error}. Nothing was deleted: correct that, or "
            "erase the learner there, then here again"
        ) from error


def _record(database: Database, erasure_id: int, removed: Mapping[str, int]) -> None:
    if some := {what: n for what, n in removed.items() if n}:
        with database.connect() as connection:
            record(connection, erasure_id, some, [])


def _open_tombstone(database: Database, held: Holdings, by: str, reason: str) -> int:
    """The tombstone of the interrupted erasure, or a new one, committed before anything is removed."""
    with database.connect() as connection:
        left = [one for one in erasures_of(connection, held.user_id) if one.finished_at is None]
        return left[-1].erasure_id if left else begin(connection, held.user_id, by, reason)


# -- files -------------------------------------------------------------------------------------------


def _reports(store: ObjectStore, user_id: str) -> Iterator[str]:
    """The learner's reports that are in the store, whether a row names them or not."""
    there = {name for name, _ in store.list("reports")}
    for week in sorted({part for name in there if WEEK.fullmatch(part := name.split("/")[1])}):
        yield from (name for kind in FORMATS if (name := key(week, user_id, kind)) in there)


def _answers_in(store: ObjectStore, name: str, user_id: str) -> int:
    with open_hashed(store, name, keep=False)[0] as file:
        users = pq.read_table(file, columns=["user_id"], read_dictionary=["user_id"])["user_id"]
        return int(pc.sum(_is_of(name, users, user_id)).as_py() or 0)


def _parts(store: ObjectStore, manifests: list[str]) -> dict[str, list[str]]:
    """The keys of the parts of each manifest. Raises PermanentFailure for one that cannot be read."""
    found = stored_parts(store, manifests)
    if unreadable := [name for name, parts in found.items() if parts is None]:
        raise PermanentFailure(
            f"the snapshot {unreadable[0]} cannot be read, so nobody knows whose answers it names: bring the file back "
            "from the object store's backup, or delete it where no month cites it, and erase again"
        )
    return {name: [part.key for part in parts or ()] for name, parts in found.items()}


def _is_of(name: str, users: pa.ChunkedArray, user_id: str) -> pa.ChunkedArray:
    texts = pc.cast(users, pa.string())
    if name.split("/")[1] == POOLED:
        texts = pc.utf8_slice_codeunits(texts, MONTH_AND_SLASH)
    return pc.equal(texts, user_id)


def _rewrite_snapshot(store: ObjectStore, name: str, held: Holdings) -> Rewritten:
    """A snapshot without the learner."""
    folder = name.removeprefix("snapshots/").rpartition("/")[0]
    old = name.rpartition("/")[2].partition(".")[0]
    if not is_manifest(name):
        others, theirs = _read_apart(store, name, held.user_id)
        new = store_parquet(store, folder, others)
        data = "" if folder == POOLED else digest_of([others.num_rows, *sums_of_attempts(others)])
        return Rewritten(Rewrite(old, new.sha256, name, new.key), _counted(theirs), data)
    manifest = read_manifest(name, store.get(name))
    parts, lost = [], Counter[tuple[str, str]]()
    for part in manifest.parts:
        if part.key in held.parts:
            others, theirs = _read_apart(store, part.key, held.user_id)
            lost += _counted(theirs)
            new = store_parquet(store, folder, others)
            part = part.without(sums_of_attempts(theirs), theirs.num_rows, *new)
        parts.append(part)
    left = Manifest.over(manifest.month, parts, manifest.columns)
    new_uri, digest = store_manifest(store, folder, left)
    return Rewritten(Rewrite(old, digest, name, new_uri), lost, left.data_hash)


def _read_apart(store: ObjectStore, name: str, user_id: str) -> tuple[pa.Table, pa.Table]:
    """The attempts of a Parquet file: those of all others, and the learner's."""
    with open_hashed(store, name, keep=False)[0] as file:
        table = pq.read_table(file)
    theirs = _is_of(name, table["user_id"], user_id)
    return table.filter(pc.invert(theirs)), table.filter(theirs)


def _counted(attempts: pa.Table) -> Counter[tuple[str, str]]:
    rows = attempts.select(["scale_id", "reason"]).to_pylist()
    return Counter((row["scale_id"], row["reason"] or "scored") for row in rows)


# -- rows --------------------------------------------------------------------------------------------


def _count(connection: Session, table: str, user_id: str) -> int:
    query = sql.SQL("SELECT count(*) FROM {} WHERE user_id = %s").format(sql.Identifier(table))
    return int(connection.execute(query, (user_id,)).fetchall()[0][0])


def _remove_rows(connection: Session, held: Holdings, rewritten: list[Rewritten], instead: str) -> dict[str, int]:
    """Everything in the database, in the caller's transaction; how many rows, by table. What the rewritten snapshots
    are completed with goes into `rewritten`."""
    user_id = held.user_id
    advisory_lock(connection, "response_log", "import")
    advisory_lock(connection, "theta", user_id)
    for month in _months(connection, user_id, [one.rewrite.old for one in rewritten]):
        for asset in ("scored_responses", "item_calibration", "linked_item_parameters"):
            advisory_lock(connection, asset, month)
    if cited_names(connection, "snapshots").keys() != held.cited:
        raise TransientFailure("snapshots were taken or deleted meanwhile: erase again to continue from there")
    true_days = _current_days(connection, user_id)
    removed = {}
    for table in OF_LEARNERS:
        delete = sql.SQL("DELETE FROM {} WHERE user_id = %s").format(sql.Identifier(table))
        removed[table] = connection.execute(delete, (user_id,)).rowcount
    scales = read_scales(connection)
    for place, one in enumerate(rewritten):
        rewritten[place] = replace(one, rewrite=_replace_snapshot(connection, one, scales))
    record_sources(connection, FEATURES, answer_versions_of(connection, true_days))
    _keep_noted_days(connection, instead)
    removed |= drop_mentions(connection, user_id, instead)
    return {table: n for table, n in removed.items() if n}


def _months(connection: Session, user_id: str, snapshots: list[str]) -> list[str]:
    """The months of the learner's answers in the log and in snapshots with these hashes."""
    return first_column(
        connection,
        """SELECT to_char(completed_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month FROM response_log WHERE user_id = %s
           UNION SELECT month FROM scored_snapshot WHERE snapshot_hash = ANY(%s) ORDER BY month""",
        (user_id, snapshots),
    )


def _current_days(connection: Session, user_id: str) -> dict[str, str]:
    """The learner's days whose features were computed from the answers that the log has now, with their hash."""
    sources = recorded_sources(connection, FEATURES)
    rows = connection.execute(
        "SELECT DISTINCT (completed_at AT TIME ZONE 'UTC')::date FROM attempt WHERE user_id = %s", (user_id,)
    )
    versions = answer_versions_of(connection, (str(day) for (day,) in rows if str(day) in sources))
    return {day: version for day, version in versions.items() if sources.get(day) == version}


def _keep_noted_days(connection: Session, erasure: str) -> None:
    """The features of a day that was noted before the learner went from the company's tables stay current, if they were
    not made again and the log has what the others answered."""
    noted, made_from = recorded_sources(connection, erasure), recorded_sources(connection, FEATURES)
    now = answer_versions_of(connection, noted)
    kept = {day: version for day, version in now.items() if noted[day] == f"{made_from.get(day)} {version}"}
    record_sources(connection, FEATURES, kept)
    connection.execute("DELETE FROM partition_source WHERE asset = %s", (erasure,))


def _replace_snapshot(connection: Session, of: Rewritten, scales: Mapping[str, Scale]) -> Rewrite:
    """Replace the old file by the new one in every row that names it. A month whose log has now what the new file has
    was made from what the log has, and so it stays: its hash is the new one."""
    one = of.rewrite
    rows = connection.execute(
        "SELECT month, data_hash, counts, superseded_at IS NULL FROM scored_snapshot WHERE snapshot_hash = %s",
        (one.old,),
    ).fetchall()
    for month, old_data, counts, current in rows:
        for (scale_id, reason), n in of.lost.items():
            counts[scale_id][reason] -= n
        has = "UPDATE scored_snapshot SET counts = %s WHERE (month, snapshot_hash) = (%s, %s)"
        connection.execute(has, (json.dumps(counts), month, one.old))
        data = old_data
        if current and data_version(connection, month, scales) == of.data_hash:
            data = of.data_hash
            one = replace(one, old_data=old_data, new_data=data)
        twin = connection.execute(
            "SELECT superseded_at IS NULL FROM scored_snapshot WHERE (month, snapshot_hash) = (%s, %s)",
            (month, one.new),
        ).fetchone()
        # Two snapshots of a month that differed in nothing but the learner are one now, and the current one stays.
        if twin is not None:
            gone = one.new if current else one.old
            connection.execute("DELETE FROM scored_snapshot WHERE (month, snapshot_hash) = (%s, %s)", (month, gone))
        connection.execute(
            """UPDATE scored_snapshot SET snapshot_hash = %s, uri = %s, data_hash = %s,
                 n_attempts = n_attempts - %s WHERE (month, snapshot_hash) = (%s, %s)""",
            (one.new, one.new_uri, data, of.lost.total(), month, one.old),
        )
    for table, column in (("mirt_fit_meta", "model_spec"), ("fit_staging", "spec")):
        connection.execute(
            f"""UPDATE {table} SET snapshot_hash = replace(snapshot_hash, %(old)s, %(new)s),
                  {column} = replace({column}::text, %(old)s, %(new)s)::jsonb
                WHERE snapshot_hash = %(old)s OR strpos({column}::text, %(old)s) > 0""".encode(),
            {"old": one.old, "new": one.new},
        )
    return one

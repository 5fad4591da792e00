"""Deletion of rows and files that nothing references any more.

Rows are deleted before files, each kind in one transaction, so that an interruption leaves only files without a row,
which are found the next time.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import chain, islice

import psycopg

from irt_assets.common.partitions import months_between
from irt_assets.ledger import pruning
from irt_assets.ledger.citations import CITATIONS, cited_names
from irt_assets.ledger.decisions import decided_windows
from irt_assets.reports.artifacts import recorded_keys
from irt_assets.responses.snapshot_files import is_manifest, stored_parts
from resources import tables
from resources.files.object_store import ObjectStore
from resources.postgres import warehouse
from resources.postgres.database import Database, advisory_lock

NIGHT_AGE = timedelta(days=30)
"""Time for which fits and abilities of nights are kept."""
REQUEST_AGE = timedelta(days=90)
"""Time for which θ that was computed on request is kept: each session leaves a row."""
SUPERSEDED_AGE = timedelta(days=100)
"""Time for which superseded fits are kept: a quarter, so that the last three months can still be examined."""
HISTORY_AGE = timedelta(days=365)
"""Time for which resolved alerts, resolved violations and verdicts of invariants are kept."""
LEARNER_REPORTS = INTAKE = timedelta(days=400)
"""Time for which learners' reports and arrivals are kept: a school year and the holidays around it. The data from which
reports were made is kept longer."""
MIN_FILE_AGE = timedelta(days=1)
"""Age below which files are kept, because a file is written before the row that cites it."""
LOOKUP_BATCH = 1000
DRIFT_REPORTS = "reports/drift/"
WEEK = re.compile(r"\d{4}-\d{2}-\d{2}")
"""The folder of a week's reports of learners."""


@dataclass(frozen=True)
class Deletion:
    """Names of the rows, files or runs of one kind that were deleted or, in a dry run, would be deleted."""

    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Rule:
    """A rule of deletion.

    Attributes:
        find: query for the names to delete, older than %(before)s.
        deletes: statements that delete them, with the names as %(names)s.
    """

    kind: str
    age: timedelta
    find: str
    deletes: tuple[str, ...]


RULES = (
    _Rule("fits of nights", NIGHT_AGE, *pruning.FITS_OF_NIGHTS),
    _Rule(
        "abilities of nights",
        NIGHT_AGE,
        """SELECT DISTINCT window_end::text FROM mirt_ability a WHERE kind = 'nightly' AND window_end < %(before)s
             AND window_end < (SELECT max(window_end) FROM mirt_ability WHERE kind = 'nightly')""",
        ("DELETE FROM mirt_ability WHERE kind = 'nightly' AND window_end = ANY(%(names)s::timestamptz[])",),
    ),
    _Rule(
        "abilities on request",
        REQUEST_AGE,
        """SELECT update_id FROM mirt_ability a WHERE kind = 'online' AND window_end < %(before)s
             AND EXISTS (SELECT FROM mirt_ability n
                         WHERE (n.user_id, n.scale_id, n.kind) = (a.user_id, a.scale_id, a.kind)
                           AND (n.window_end, n.update_id) > (a.window_end, a.update_id))""",
        (
            # A row that is requested again meanwhile has a new window_end, and is kept.
            """DELETE FROM mirt_ability WHERE kind = 'online' AND update_id = ANY(%(names)s)
                 AND window_end < %(before)s""",
        ),
    ),
    _Rule("superseded proposals of fits without a decision", SUPERSEDED_AGE, *pruning.SUPERSEDED_PROPOSALS),
    _Rule("superseded fits", SUPERSEDED_AGE, *pruning.SUPERSEDED_FITS),
    _Rule("attempts at fits", SUPERSEDED_AGE, *pruning.ATTEMPTS_AT_FITS),
    _Rule("superseded snapshots", SUPERSEDED_AGE, *pruning.SUPERSEDED_SNAPSHOTS),
    _Rule(
        "reports of learners",
        LEARNER_REPORTS,
        "SELECT artifact_id::text FROM report_file WHERE user_id IS NOT NULL AND week_start < %(before)s",
        ("DELETE FROM report_file WHERE artifact_id = ANY(%(names)s::bigint[])",),
    ),
    _Rule(
        "arrivals",
        INTAKE,
        "SELECT DISTINCT source FROM intake WHERE arrived_at < %(before)s",
        ("DELETE FROM intake WHERE source = ANY(%(names)s) AND arrived_at < %(before)s",),
    ),
    _Rule(
        "alerts that are over",
        HISTORY_AGE,
        "SELECT alert_id::text FROM alert WHERE resolved_at < %(before)s",
        (
            "DELETE FROM alert_delivery WHERE alert_id = ANY(%(names)s::bigint[])",
            "DELETE FROM alert WHERE alert_id = ANY(%(names)s::bigint[])",
        ),
    ),
    _Rule(
        "violations that are gone",
        HISTORY_AGE,
        """SELECT DISTINCT run || '|' || invariant FROM invariant_result
           WHERE subject <> '' AND resolved_at < %(before)s""",
        (
            """DELETE FROM invariant_result WHERE run || '|' || invariant = ANY(%(names)s) AND subject <> ''
                 AND resolved_at < %(before)s""",
        ),
    ),
    _Rule(
        "verdicts of invariants",
        HISTORY_AGE,
        """SELECT DISTINCT run || '|' || invariant FROM invariant_result r
           WHERE subject = '' AND evaluated_at < %(before)s
             AND EXISTS (SELECT FROM invariant_result n WHERE n.invariant = r.invariant AND n.subject = ''
                           AND n.evaluated_at > r.evaluated_at)""",
        ("DELETE FROM invariant_result WHERE run || '|' || invariant = ANY(%(names)s) AND subject = ''",),
    ),
)
"""The rules in their order: once a row is deleted, it no longer protects its origin. Proposals protect their fit, and a
fit protects its attempt and its snapshot."""


def prune_rows(database: Database, now: datetime, *, dry_run: bool) -> Iterator[Deletion]:
    """Apply the rules, each in one transaction. A dry run applies all of them in one transaction and rolls it back."""
    if dry_run:
        with database.connect() as connection:
            yield from [_apply(connection, rule, now) for rule in RULES]
            connection.rollback()
        return
    for rule in RULES:
        with database.connect() as connection:
            yield _apply(connection, rule, now)


def _apply(connection: psycopg.Connection, rule: _Rule, now: datetime) -> Deletion:
    advisory_lock(connection, "prune")
    values = {"before": now - rule.age}
    names = sorted(name for (name,) in connection.execute(rule.find, values))
    for delete in rule.deletes:
        connection.execute(delete, values | {"names": names})
    return Deletion(rule.kind, tuple(names))


def prune_files(database: Database, store: ObjectStore, now: datetime, *, dry_run: bool) -> Deletion:
    """Delete old files that no row cites. A dry run still counts citations in rows that `prune_rows` would delete.

    Earlier drift reports of a month with a decision are kept, because the decision was based on them.
    """
    uncited = []
    with database.connect() as connection:
        decided = {month for window in decided_windows(connection) for month in _months(window)}
        reports = recorded_keys(connection, store, "reports")  # also under URLs from before the store moved
    for folder in CITATIONS:
        old = (key for key, written in store.list(folder) if written < now - MIN_FILE_AGE)
        candidates: list[str] = []
        while batch := [*islice(old, LOOKUP_BATCH)]:
            with database.connect() as connection:
                candidates += _uncited_keys(connection, store, batch)
        for key in sorted({*candidates} - reports):
            if key.startswith(DRIFT_REPORTS) and key.split("/")[2] in decided:
                continue
            with database.connect() as connection:
                _wait_for_writers(connection, key)
                if _uncited_keys(connection, store, [key]):
                    uncited.append(key)
                    if not dry_run:
                        store.delete(key)
    return Deletion("files that no row cites", tuple(uncited))


def prune_unfinished(store: ObjectStore, now: datetime, *, dry_run: bool) -> Deletion:
    """Delete files that killed processes did not finish writing."""
    unfinished = (store.drop_unfinished(folder, now - MIN_FILE_AGE, dry_run=dry_run) for folder in CITATIONS)
    return Deletion("half-written files", tuple(sorted(chain.from_iterable(unfinished))))


def _months(window: str) -> Iterator[str]:
    """The months of a decision's window, which is a month or, for a recalibration, FIRST:LAST."""
    first, _, last = window.partition(":")
    return months_between(first, last or first)


def _uncited_keys(connection: psycopg.Connection, store: ObjectStore, keys: Collection[str]) -> list[str]:
    """The keys that are cited neither by a row nor by a manifest that a row cites. All keys are of one folder."""
    uris = {store.uri(key): key for key in keys}
    folder = next(iter(keys)).partition("/")[0]
    cited = cited_names(connection, folder, among=[*keys, *uris])
    uncited = [key for uri, key in uris.items() if uri not in cited and key not in cited]
    return _without_manifest(connection, store, uncited) if folder == "snapshots" and uncited else uncited


def _without_manifest(connection: psycopg.Connection, store: ObjectStore, keys: Collection[str]) -> list[str]:
    """The keys of snapshots that no cited manifest of the same folder names.

    If a cited manifest cannot be read, all files of its folder are kept until it is restored or no longer cited.
    """
    folders = {key.rpartition("/")[0] for key in keys}
    cited = [name for name in cited_names(connection, "snapshots") if is_manifest(name)]
    parts_by_manifest = stored_parts(store, [name for name in cited if name.rpartition("/")[0] in folders])
    unknown = {name.rpartition("/")[0] for name, parts in parts_by_manifest.items() if parts is None}
    used = {part.key for parts in parts_by_manifest.values() for part in parts or ()}
    return [key for key in keys if key not in used and key.rpartition("/")[0] not in unknown]


def _wait_for_writers(connection: psycopg.Connection, key: str) -> None:
    """Take the lock under which a process writes the same key again: first the file, then its row."""
    folder, *parts = key.split("/")
    if folder != "reports":
        advisory_lock(connection, *parts[:2])
    elif WEEK.fullmatch(parts[0]):
        warehouse.lock_rows(connection, tables.report_file, {"week_start": date.fromisoformat(parts[0])})

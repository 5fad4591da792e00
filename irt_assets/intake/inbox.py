"""Import the files of the inbox in order, and set aside files that cannot be imported.

This module reads and writes the table `inbox_file`, and reads `_import.yaml`. What does not belong here: reading a file
(see `ingest` and `bank`, which `irt import` uses, too), and where the files are stored (see
`resources.files.inbox_files`).
"""

import hashlib
import logging
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import psycopg
from psycopg.types.json import Jsonb
from pydantic import Field, ValidationError

from irt_assets.common.wording import with_stop
from irt_assets.intake.bank import LEARNERS, QUESTIONS, import_bank_rows
from irt_assets.intake.ingest import AnswerSource, check_zone, ingest_answers, limits_of, with_prefix_of_items
from irt_assets.intake.mapping import (
    AUTO,
    Encoding,
    Mapping,
    Rules,
    bind_attempts,
    encoding_of,
    load_mapping,
    presets,
    problems_of,
    read_yaml,
)
from irt_assets.intake.readers import open_source
from irt_assets.intake.report import ImportReport, ignore_rows
from irt_assets.intake.scoring import Scoring, scoring_of
from irt_assets.intake.sources import Source
from irt_assets.intake.staging import Staging
from irt_psychometrics.items import MAX_SCORE
from resources.alerts.outbox import Alert, open_alert, resolve_alert
from resources.failures import PermanentFailure, TransientFailure
from resources.files.inbox_files import FOLDERS, IGNORED, Inbox, InboxFile
from resources.files.s3_failures import ObjectMissing
from resources.postgres.database import LOCK, Database, first_column, lock_key, named_rows, records

LOG = logging.getLogger(__name__)
KINDS = {"questions": QUESTIONS, "learners": LEARNERS}
OPTIONS_FILE = "_import.yaml"
MIN_UNCHANGED = timedelta(seconds=60)
MAX_BEGUN = 2
DIED = (
    f"its import began {MAX_BEGUN} times and the process died each time, as it does if memory runs out or its reader "
    "crashes. Give the file in parts or as CSV UTF-8, or give the process more memory"
)
LISTED_FILES = """
    WITH listed AS MATERIALIZED (
        SELECT *, %(inbox)s || name AS path FROM ROWS FROM (
            jsonb_to_recordset(%(files)s) AS (name text, size bigint, version text, options text)
        ) WITH ORDINALITY AS given(name, size, version, options, place))
"""
DELETE_VANISHED = f"""{LISTED_FILES}
    DELETE FROM inbox_file i WHERE starts_with(path, %(inbox)s) AND path NOT IN (SELECT path FROM listed)
        AND (taken_at IS NULL OR taken_at < now() - interval '400 days') RETURNING path
"""
"""Delete the rows of files that have vanished. Imported files are kept for 400 days, because they may come back."""
RECORD_FILES = f"""{LISTED_FILES}
    INSERT INTO inbox_file (path, size, version)
    SELECT path, l.size, l.version FROM listed l LEFT JOIN inbox_file i USING (path)
    WHERE (i.size, i.version) IS DISTINCT FROM (l.size, l.version)
    ON CONFLICT (path) DO UPDATE
        SET size = excluded.size, version = excluded.version, seen_at = now(), taken_at = NULL, problem = NULL,
            begun = 0
"""
WAITING_FILES = f"""{LISTED_FILES}
    SELECT name, path, l.version, l.options, i.seen_at, sha256, begun
    FROM listed l JOIN inbox_file i USING (path)
    WHERE taken_at IS NULL AND (problem IS NULL OR i.options IS DISTINCT FROM l.options)
        AND (%(at_once)s OR seen_at <= now() - %(unchanged_for)s OR seen_at > now() + %(unchanged_for)s) ORDER BY place
"""
"""SQL: the waiting files, in order. These are not imported yet, and were not set aside with the present options.

A file is ready if it was first seen at least `unchanged_for` ago. If that time is in the future, the clock has been set
back, and the file is ready, too.
"""


class _BankOptions(Rules):
    mapping: str = AUTO
    encoding: Encoding | None = None


class _AnswerOptions(_BankOptions):
    zone: str | None = None
    dichotomise: str | None = None
    key: str | None = None
    strict: bool = False
    max_scores: dict[str, Annotated[int, Field(ge=1, le=MAX_SCORE)]] = Field(default_factory=dict)


@dataclass(frozen=True)
class WaitingFile:
    """A waiting file of the inbox.

    Attributes:
        version, options: present version of the file and of its folder's options.
        seen_at: time at which this version was first seen, or at which a person requested another import.
        sha256: hash of the content that was last imported under this name, or None.
        begun: number of imports of this version that began and whose process died.
    """

    name: str
    path: str
    version: str
    options: str
    seen_at: datetime
    sha256: str | None
    begun: int

    @property
    def run_key(self) -> str:
        """Key of the run that imports the file. It changes if the file or its options are written again, or a person
        requests another import."""
        return f"{self.path} {self.version} {self.options[:8]} {self.seen_at.isoformat()}"

    @property
    def folder(self) -> str:
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class FileOutcome:
    """Outcome of a file. `why`: reason if it was not imported."""

    path: str
    result: Literal["taken", "unchanged", "set aside", "vanished"]
    why: str = ""
    report: ImportReport = field(default_factory=ImportReport)


def scan_inbox(
    connection: psycopg.Connection, inbox: Inbox, unchanged_for: timedelta = MIN_UNCHANGED
) -> list[WaitingFile]:
    """Record the files of the inbox. Returns the waiting files, in the order in which to import them.

    `unchanged_for`: time for which a file must be unchanged. Raises PermanentFailure if the inbox cannot be read.
    """
    listed = sorted(inbox.list(), key=lambda file: file.name)
    options = {folder: _version(file for file in listed if file.name.startswith(f"{folder}/_")) for folder in FOLDERS}
    files = [
        {"name": file.name, "size": file.size, "version": file.version, "options": options[folder]}
        for folder in FOLDERS
        for file in listed
        if file.name.startswith(f"{folder}/") and not IGNORED.search(file.name)
    ]
    values = {
        "files": Jsonb(files),
        "inbox": f"{inbox.address}/",
        "unchanged_for": unchanged_for,
        "at_once": inbox.at_once,
    }
    for path in first_column(connection, DELETE_VANISHED, values):
        resolve_alert(connection, _alert_key(path))
    connection.execute(RECORD_FILES, values)
    return records(connection, WaitingFile, WAITING_FILES, values)


def import_waiting_files(
    database: Database, inbox: Inbox, name: str | None = None, *, unchanged_for: timedelta = MIN_UNCHANGED
) -> Iterator[FileOutcome]:
    """Import the file `name` if it waits (None: every waiting file), and yield the result of each.

    Only one process at a time imports. Raises PermanentFailure if the inbox cannot be read, and any error that is not
    the fault of a file. Files that were imported before the error stay imported.
    """
    with database.open(autocommit=True) as guard:
        guard.execute(f"SELECT pg_advisory_lock({LOCK})", (lock_key("inbox"),))
        with database.connect() as connection:
            listed = scan_inbox(connection, inbox, unchanged_for)
        for folder, files in groupby(listed, key=lambda file: file.folder):
            waiting = list(files)
            chosen = [file for file in waiting if name in (None, file.name)]
            if not chosen:
                continue
            options_path = f"{inbox.address}/{folder}/{OPTIONS_FILE}"
            try:
                options = FolderOptions.read(inbox, folder)
            except PermanentFailure as failure:
                yield _set_aside(database, options_path, failure, waiting)
                continue
            with database.connect() as connection:
                resolve_alert(connection, _alert_key(options_path))
            for file in chosen:
                yield _import_file(database, inbox, file, options)


@dataclass(frozen=True)
class FolderOptions:
    """The options in a folder's `_import.yaml`."""

    rules: Mapping | None
    scoring: Scoring
    zone: str | None
    strict: bool
    encoding: str | None

    @classmethod
    def read(cls, inbox: Inbox, folder: str) -> "FolderOptions":
        """Read the options; defaults if there is no such file. Raises PermanentFailure that names the wrong key."""
        name = f"{folder}/{OPTIONS_FILE}"
        kind = _AnswerOptions if folder == "attempts" else _BankOptions
        try:
            with inbox.on_disk(name) as path:
                options = kind(**(read_yaml(path) or {}))
        except ObjectMissing:
            options = kind()
        except ValidationError as error:
            raise PermanentFailure(
                f"{with_stop(problems_of(error, kind))} Accepted keys: {', '.join(kind.model_fields)}."
            ) from error
        except TypeError as error:
            raise PermanentFailure("it is not YAML with a line `name: value` for each option") from error
        with ExitStack() as stack:

            def open_companion(file: str) -> Path:
                return stack.enter_context(inbox.on_disk(f"{folder}/{file}"))

            mapping = options.mapping
            if mapping in (AUTO, *presets()):
                rules = load_mapping(mapping)
            elif rules := load_mapping(open_companion(mapping)):
                rules = rules.model_copy(update={"name": mapping})
            encoding = options.encoding or encoding_of(None, rules)
            if not isinstance(options, _AnswerOptions):
                return cls(rules, scoring_of(None, None, {}), None, False, encoding)
            check_zone(options.zone, f"zone: {options.zone}: unknown")
            key = open_companion(options.key) if options.key else None
            keys = rules.keys if rules else {}
            scoring = scoring_of(options.dichotomise, key, options.max_scores, encoding, keys)
            scoring = with_prefix_of_items(scoring, rules.prefix if rules else "")
            return cls(rules, scoring, options.zone, options.strict, encoding)


def _import_file(database: Database, inbox: Inbox, file: WaitingFile, options: FolderOptions) -> FileOutcome:
    if file.begun >= MAX_BEGUN:
        return _set_aside(database, file.path, PermanentFailure(DIED), [file])
    try:
        with _counted_while_it_runs(database, file), inbox.on_disk(file.name) as local:
            source = open_source(local, options.encoding, options.rules)
            source.address = file.path
            if file.sha256 != source.sha256:
                return FileOutcome(file.path, "taken", report=_ingest_file(database, source, file, options))
        with database.connect() as connection:
            _record_imported(connection, file, source)
        return FileOutcome(file.path, "unchanged")
    except ObjectMissing as failure:
        return FileOutcome(file.path, "vanished", str(failure))
    except psycopg.DataError as failure:
        return _set_aside(database, file.path, failure, [file])
    except (psycopg.Error, TransientFailure, OSError):  # not the file's fault: the next file would fail, too
        raise
    except Exception as failure:  # noqa: BLE001 - errors of readers have types of their own
        return _set_aside(database, file.path, failure, [file])


@contextmanager
def _counted_while_it_runs(database: Database, file: WaitingFile) -> Iterator[None]:
    """Count an import as begun until it ends, with or without an error, so that only a process that died stays counted.

    A process that is told to stop (SIGTERM) ends with an exception here, if it has no handler of its own.
    """

    def record(begun: int) -> None:
        with database.connect() as connection:
            values = (begun, file.path, file.version)
            connection.execute("UPDATE inbox_file SET begun = %s WHERE path = %s AND version = %s", values)

    in_main_thread = threading.current_thread() is threading.main_thread()
    stops = in_main_thread and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if stops:
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    record(file.begun + 1)
    try:
        yield
    finally:
        record(file.begun)
        if stops:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _ingest_file(database: Database, source: Source, file: WaitingFile, options: FolderOptions) -> ImportReport:
    """Import a file and record it as imported; for answers, in one transaction."""
    if file.folder in KINDS:
        report = import_bank_rows(database, source, KINDS[file.folder], mapping=options.rules or AUTO)
        with database.connect() as connection:
            _record_imported(connection, file, source)
        return report
    columns = bind_attempts(options.rules, source.name, source.columns).columns
    if "completed_at" not in columns:
        twice = "neither ids nor times, so a longer copy of the file would be counted twice"
        raise PermanentFailure(
            f"its rows have {'no times' if 'attempt_id' in columns else twice}. Add a column completed_at, or import "
            "the file once by hand (irt import attempts FILE --at DATE)"
        )
    report = ImportReport()
    with database.connect() as connection:
        ingest_answers(
            connection,
            [AnswerSource(source, options.rules, None, options.scoring)],
            report,
            ignore_rows,
            limits_of(connection, database.settings.irt_first_month, options.zone),
            scoring=options.scoring,
            strict=options.strict,
            staging=Staging(connection, "inbox"),
        )
        if loss := report.main_loss("See them: irt import attempts FILE --dry-run --csv REJECTED."):
            raise PermanentFailure(loss)
        _record_imported(connection, file, source)
    return report


def _record_imported(connection: psycopg.Connection, file: WaitingFile, source: Source) -> None:
    """Record a file as imported. Raises TransientFailure if another process has seen a new version meanwhile."""
    noted = connection.execute(
        """UPDATE inbox_file SET taken_at = now(), sha256 = %s, problem = NULL
           WHERE path = %s AND version = %s AND taken_at IS NULL""",
        (source.sha256, file.path, file.version),
    )
    if noted.rowcount != 1:
        raise TransientFailure(f"{file.path} was written again while it was imported")
    resolve_alert(connection, _alert_key(file.path))


def files_set_aside(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """Path and problem of the files that were set aside."""
    return named_rows(connection, "SELECT path, problem FROM inbox_file WHERE problem IS NOT NULL ORDER BY path")


def requeue_files(connection: psycopg.Connection, paths: Sequence[str]) -> list[str]:
    """Let files wait as if they were new. Without `paths`: all files that were set aside. Returns their sorted
    paths."""
    found = connection.execute(
        """UPDATE inbox_file SET seen_at = now(), taken_at = NULL, sha256 = NULL, problem = NULL, begun = 0
           WHERE CASE WHEN %(paths)s::text[] = '{}' THEN problem IS NOT NULL ELSE path = ANY(%(paths)s) END
           RETURNING path""",
        {"paths": list(paths)},
    )
    return sorted(path for (path,) in found)


def _set_aside(database: Database, path: str, failure: Exception, files: Sequence[WaitingFile]) -> FileOutcome:
    """Record why a file, or a folder's options, cannot be used, and open an alert.

    `files` are not imported until they or the options change.
    """
    why = _reason(failure)
    if re.search("--(mapping|zone|dichotomise|key|encoding)", why):
        why = f"{why.rstrip('.')}. Set options in the folder's {OPTIONS_FILE}, such as zone: Europe/Berlin"
    again = f"To try it unchanged: irt intake again {path}"
    fix = f"Correct it, or {OPTIONS_FILE}; it is then imported automatically. {again}"
    with database.connect() as connection:
        connection.execute(
            "UPDATE inbox_file SET problem = %s, options = %s, begun = 0 WHERE path = ANY(%s)",
            (why, files[0].options, [file.path for file in files]),
        )
        resolve_alert(connection, _alert_key(path))
        open_alert(connection, Alert(_alert_key(path), "error", f"{path} was set aside: {why}", fix))
    return FileOutcome(path, "set aside", why)


def _reason(failure: Exception) -> str:
    """The reason for a failure, without any content of the file."""
    if isinstance(failure, PermanentFailure):
        return str(failure).strip()
    if isinstance(failure, psycopg.DataError):
        return f"the database cannot store one of its values ({type(failure).__name__})"
    LOG.error("inbox: a file cannot be read", exc_info=failure)
    return f"it cannot be read ({type(failure).__name__})"


def _version(files: Iterable[InboxFile]) -> str:
    return hashlib.sha256(repr([(file.name, file.version) for file in files]).encode()).hexdigest()


def _alert_key(path: str) -> str:
    return f"inbox {path}"

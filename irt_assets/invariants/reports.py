"""The invariant of report files: every recorded file is in the store, unchanged."""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil

from irt_assets.invariants.invariant import Findings, InvariantContext, NotTested, Violation, invariant
from resources.files.s3_failures import ObjectMissing
from resources.postgres.database import one_value

N_THREADS = 16
"""Files read at the same time: a bucket takes a few milliseconds for each, and serves many in parallel."""
MAX_DAYS_UNREAD = 28
MAX_PER_DAY = 20_000
"""Days within which every file is read again, and the most files per day. With more than 560,000 files it takes longer
than four weeks."""
OTHERS = "the other files"


@dataclass(frozen=True)
class _File:
    artifact_id: int
    key: str
    sha256: str
    description: str
    partition: str
    newest: bool


@invariant(
    kind="report files",
    protects="Every report that was written can still be read, and is unchanged.",
    fix="Restore the file from the store's backup, or materialise `weekly_learner_report` of the week or "
    "`drift_report` of the month again.",
    note="Every file must exist. The sha256 is compared every day for all files of the newest week and month, for "
    "files with an open violation, and for a share of the other files, so that each is read again within four weeks "
    "(if there are more than 560,000 files, 20,000 a day are read).",
    reads_files=True,
)
def report_files_are_as_they_were_written(context: InvariantContext) -> Findings:
    n: int = one_value(context.connection, "SELECT count(*) FROM report_file")
    if not n:
        yield NotTested("no report has been written yet")
        return
    rounds = max(MAX_DAYS_UNREAD, ceil(n / MAX_PER_DAY))
    today = context.now.toordinal() % rounds
    wrong_before = {
        subject
        for (subject,) in context.connection.execute(
            """SELECT subject FROM invariant_result
               WHERE invariant = 'report_files_are_as_they_were_written' AND NOT passed AND resolved_at IS NULL"""
        )
    }
    unread = 0
    with ThreadPoolExecutor(N_THREADS) as pool:
        for files, elsewhere in _by_week(context):
            for url, partition in elsewhere[:1]:
                observed = f"{len(elsewhere)} files in another store, such as {url}"
                yield Violation("another store", observed, f"all in {context.store.uri('reports')}", partition)
            stored = _stored_keys(context, files)
            read = [
                file
                for file in files
                if file.key in stored
                and (file.newest or file.artifact_id % rounds == today or file.key in wrong_before)
            ]
            unread += len(files) - len(read)
            for file in files:
                if file.key not in stored:
                    yield Violation(
                        file.key, "it does not exist", f"{file.description}, as it was written", file.partition
                    )
            for file, digest in zip(read, pool.map(lambda file: _digest(context, file), read), strict=True):
                if digest != file.sha256:
                    observed = f"sha256 {digest[:12]}…" if digest else "it was deleted while it was read"
                    yield Violation(
                        file.key, observed, f"{file.description}, sha256 {file.sha256[:12]}…", file.partition
                    )
    if unread:
        why = f"the sha256 of {unread:,} of {n:,} files was not compared today; each is within {rounds} days"
        yield NotTested(why, subject=OTHERS)


def _by_week(context: InvariantContext) -> Iterator[tuple[list[_File], list[tuple[str, str]]]]:
    """The files of each week of learners, then the files without a week.

    Yields pairs: the files in this store, and the URL and partition of files that are not.
    """
    weeks = [week for (week,) in context.connection.execute("SELECT DISTINCT week_start FROM report_file")]
    newest_week = max((week for week in weeks if week is not None), default=None)
    newest_month = one_value(context.connection, "SELECT max(split_part(\"window\", '/', 1)) FROM report_file")
    for week in sorted(weeks, key=str):
        files, elsewhere = [], []
        for artifact_id, user, window, kind, url, digest in context.connection.execute(
            """SELECT artifact_id, user_id, "window", format, url, sha256 FROM report_file
               WHERE week_start IS NOT DISTINCT FROM %s ORDER BY url""",
            (week,),
        ):
            key = context.store.key(url)
            partition = str(week) if week is not None else window.partition("/")[0]
            if key is None:
                elsewhere.append((url, partition))
                continue
            description = (
                f"the {kind} of learner {user}, week {week}" if week is not None else f"the {kind} of {window}"
            )
            is_newest = partition == (str(newest_week) if week is not None else newest_month)
            files.append(_File(artifact_id, key, digest, description, partition, is_newest))
        yield files, elsewhere


def _stored_keys(context: InvariantContext, files: Collection[_File]) -> set[str]:
    """The keys that exist in the files' folders. Listing folders returns a thousand keys per request."""
    folders = {file.key.rpartition("/")[0] for file in files}
    highest = {folder for folder in folders if not any(folder.startswith(f"{other}/") for other in folders)}
    return {key for folder in highest for key, _ in context.store.list(folder)}


def _digest(context: InvariantContext, file: _File) -> str:
    try:
        return context.store.sha256(file.key)
    except ObjectMissing:
        return ""

"""The invariant of report files: every recorded file is in the store, unchanged."""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil

from irt_assets.invariants.invariant import Found, InvariantContext, NotTested, Violation, invariant
from resources.files.s3_failures import ObjectMissing
from resources.postgres.database import one_value

AT_ONCE = 16
"""Files read at the same time: a bucket takes a few milliseconds for each, and serves many in parallel."""
READ_AGAIN_WITHIN = 28
MAX_PER_DAY = 20_000
"""Days within which every file is read again, and the most files per day. With more than 560,000 files it takes longer
than four weeks."""
OTHERS = "the other files"


@dataclass(frozen=True)
class _File:
    artifact_id: int
    key: str
    sha256: str
    what: str
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
def report_files_are_as_they_were_written(look: InvariantContext) -> Found:
    n: int = one_value(look.connection, "SELECT count(*) FROM report_file")
    if not n:
        yield NotTested("no report has been written yet")
        return
    rounds = max(READ_AGAIN_WITHIN, ceil(n / MAX_PER_DAY))
    today = look.now.toordinal() % rounds
    wrong_before = {
        subject
        for (subject,) in look.connection.execute(
            """SELECT subject FROM invariant_result
               WHERE invariant = 'report_files_are_as_they_were_written' AND NOT passed AND resolved_at IS NULL"""
        )
    }
    unread = 0
    with ThreadPoolExecutor(AT_ONCE) as several:
        for files, elsewhere in _by_week(look):
            for url, partition in elsewhere[:1]:
                observed = f"{len(elsewhere)} files in another store, such as {url}"
                yield Violation("another store", observed, f"all in {look.store.uri('reports')}", partition)
            there = _listed(look, files)
            read = [
                file
                for file in files
                if file.key in there and (file.newest or file.artifact_id % rounds == today or file.key in wrong_before)
            ]
            unread += len(files) - len(read)
            for file in files:
                if file.key not in there:
                    yield Violation(file.key, "it is not there", f"{file.what}, as it was written", file.partition)
            for file, digest in zip(read, several.map(lambda file: _digest(look, file), read), strict=True):
                if digest != file.sha256:
                    observed = f"sha256 {digest[:12]}…" if digest else "it went away while it was read"
                    yield Violation(file.key, observed, f"{file.what}, sha256 {file.sha256[:12]}…", file.partition)
    if unread:
        why = f"the sha256 of {unread:,} of {n:,} files was not compared today; each is within {rounds} days"
        yield NotTested(why, subject=OTHERS)


def _by_week(look: InvariantContext) -> Iterator[tuple[list[_File], list[tuple[str, str]]]]:
    """The files of each week of learners, then the files without a week.

    Yields pairs: the files in this store, and the URL and partition of files that are not.
    """
    weeks = [week for (week,) in look.connection.execute("SELECT DISTINCT week_start FROM report_file")]
    newest_week = max((week for week in weeks if week is not None), default=None)
    newest_month = one_value(look.connection, "SELECT max(split_part(\"window\", '/', 1)) FROM report_file")
    for week in sorted(weeks, key=str):
        files, elsewhere = [], []
        for artifact_id, user, window, kind, url, digest in look.connection.execute(
            """SELECT artifact_id, user_id, "window", format, url, sha256 FROM report_file
               WHERE week_start IS NOT DISTINCT FROM %s ORDER BY url""",
            (week,),
        ):
            key = look.store.key(url)
            partition = str(week) if week is not None else window.partition("/")[0]
            if key is None:
                elsewhere.append((url, partition))
                continue
            what = f"the {kind} of learner {user}, week {week}" if week is not None else f"the {kind} of {window}"
            is_newest = partition == (str(newest_week) if week is not None else newest_month)
            files.append(_File(artifact_id, key, digest, what, partition, is_newest))
        yield files, elsewhere


def _listed(look: InvariantContext, files: Collection[_File]) -> set[str]:
    """The keys that exist in the files' folders. Listing folders returns a thousand keys per request."""
    folders = {file.key.rpartition("/")[0] for file in files}
    highest = {folder for folder in folders if not any(folder.startswith(f"{other}/") for other in folders)}
    return {key for folder in highest for key, _ in look.store.list(folder)}


def _digest(look: InvariantContext, file: _File) -> str:
    try:
        return look.store.sha256(file.key)
    except ObjectMissing:
        return ""

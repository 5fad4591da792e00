"""Write and record the reports of all learners for a week, and delete reports that are out of date.

A report is written again if its file is missing, or if the hash of its inputs differs from the hash in its row. The
inputs are the facts, and the code, templates and phrases that render them. So a run after a kill continues with the
missing reports, and a run without changes writes nothing.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from inspect import getsource
from itertools import islice

import psycopg

from irt_assets.abilities.batch import judge_until
from irt_assets.common import intervals
from irt_assets.common.partitions import week_bounds
from irt_assets.common.wording import some_of
from irt_assets.kpis import kpi_definitions
from irt_assets.reports import learner_curve, learner_page, learner_processes, learner_verdicts, learner_words
from irt_assets.reports.artifacts import Artifact, Format, put_file, record_files, unrecorded_keys
from irt_assets.reports.learner_facts import load_facts
from irt_assets.reports.learner_page import Facts
from irt_assets.reports.learner_processes import closing, processes, render_report
from irt_assets.reports.learner_words import language_of
from resources import tables
from resources.failures import PermanentFailure, TransientFailure
from resources.files import typesetting
from resources.files.object_store import ObjectStore, hashed_part
from resources.postgres import warehouse
from resources.postgres.database import Database
from resources.version import installed_version

FORMATS: tuple[Format, Format] = ("html", "pdf")
MAX_CONCURRENT = 16
"""Learners whose files are rendered or sent at the same time. A bucket takes 20 to 50 ms per file."""
RECORDED_TOGETHER = 50
"""Learners whose rows are written in one transaction. After a kill, this many are rendered again."""
PROGRESS_EVERY = 1000
MAX_NAMED = 10
RENDERERS = (
    intervals,
    kpi_definitions,
    learner_curve,
    learner_page,
    learner_processes,
    learner_verdicts,
    learner_words,
    typesetting,
)
"""Modules that render a report, besides the packages of blocks and plots."""
PLAIN_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class WeekOutcome:
    """Outcome of a week.

    Attributes:
        learners: number of learners who are due a report.
        made: number of reports written.
        kept: number of reports that were up to date.
        failed: user id → why the learner has no report.
        without_pdf: user id → why the learner has HTML only.
        removed: number of deleted files.
        seconds: duration of the run.
    """

    learners: int
    made: int
    kept: int
    failed: dict[str, str]
    without_pdf: dict[str, str]
    removed: int
    seconds: float
    samples: list[str] = field(default_factory=list)
    """Keys of one report per language."""

    @property
    def summary(self) -> str:
        """The outcome as a sentence, naming up to ten learners without a report and ten without a PDF."""
        made = f"{self.learners:,} learners: {self.made:,} reports made in {self.seconds:.0f} s, {self.kept:,} kept"
        return "; ".join([made, *self.problems])

    @property
    def problems(self) -> list[str]:
        """Sentences that name up to ten learners without a report, and ten without a PDF, with reasons."""
        missing = (("report", self.failed), ("PDF", self.without_pdf))
        return [failures_in_words(reasons, kind) for kind, reasons in missing if reasons]


def failures_in_words(failed: Mapping[str, str], kind: str = "report") -> str:
    """Name up to ten learners without a report (or PDF), with reasons, as a sentence."""
    named = [f"{user} ({why})" for user, why in failed.items()]
    return f"no {kind} for {len(failed):,}: {some_of(named, MAX_NAMED, between='; ')}"


def folder(week: str) -> str:
    """Folder of a week's reports in the store."""
    return f"reports/{week}"


def key(week: str, user_id: str, kind: Format) -> str:
    """Key of a learner's report in the store, for example `reports/2026-11-09/u1.pdf`.

    The last part is the `file_name`, so every id gives a valid key.
    """
    return f"{folder(week)}/{file_name(user_id, kind)}"


def file_name(user_id: str, kind: Format) -> str:
    """Return the name of a learner's file.

    An id of up to 64 lower-case letters, digits, `-` and `_` is used unchanged. Any other id is replaced by its
    `hashed_part`.
    """
    return f"{user_id if PLAIN_ID.fullmatch(user_id) else hashed_part(user_id)}.{kind}"


def write_week(
    database: Database,
    store: ObjectStore,
    week: str,
    *,
    zone: str,
    now: datetime,
    n_processes: int,
    say: Callable[[str], None],
    pool: Callable[[int], Executor] = processes,
) -> WeekOutcome:
    """Write HTML and PDF for every learner who is due a report of the week, and a row for each file.

    If a learner's report fails, that learner has no report; if only the PDF fails, the learner has the HTML. Failures
    are reported by name, and the other learners get their reports. `pool` returns an executor with the given number of
    workers.

    Raises PermanentFailure if the week is not over, if features, KPIs or rights are missing, or if no report could be
    rendered, and TransientFailure if the store does not answer. Files written before an error stay.
    """
    started = time.monotonic()
    if week_bounds(week)[1] > now:
        raise PermanentFailure(
            f"the week {week} runs until {week_bounds(week)[1]:%Y-%m-%d %H:%M} UTC: wait for its end"
        )
    judge_until(database, week_bounds(week)[1])
    with database.connect() as only_writer:
        warehouse.lock_rows(only_writer, tables.report_file, {"week_start": date.fromisoformat(week)})
        stored = {store.uri(name) for name, _ in store.list(folder(week))}
        with database.connect() as connection:
            everybody = load_facts(connection, week, zone)
            known = _recorded_hashes(connection, week)
        hashes = {facts.user_id: inputs_hash(facts) for facts in everybody}
        new = [
            facts
            for facts in everybody
            if any(
                known.get((facts.user_id, kind)) != hashes[facts.user_id]
                or store.uri(key(week, facts.user_id, kind)) not in stored
                for kind in FORMATS
            )
        ]
        failed, without_pdf = dict[str, str](), dict[str, str]()
        if new:
            with closing(pool(min(n_processes, len(new)))) as rendering:
                failed, without_pdf = _write_reports(database, store, week, new, hashes, rendering, say)
        if failed and len(failed) == len(everybody):
            raise PermanentFailure(f"{failures_in_words(failed)}. Earlier reports stay.")
        having = [facts for facts in everybody if facts.user_id not in failed]
        removed = _tidy(database, store, week, [facts.user_id for facts in having], [*without_pdf])
    firsts = {
        language_of(facts.lang): key(week, facts.user_id, "html" if facts.user_id in without_pdf else "pdf")
        for facts in reversed(having)
    }
    return WeekOutcome(
        learners=len(everybody),
        made=len(new) - len(failed),
        kept=len(everybody) - len(new),
        failed=failed,
        without_pdf=without_pdf,
        removed=removed,
        seconds=time.monotonic() - started,
        samples=[firsts[language] for language in sorted(firsts)],
    )


def inputs_hash(facts: Facts) -> str:
    """Hash of all inputs of a report: the facts, and the code, templates and phrases that render them."""
    content = json.dumps(asdict(facts), default=str, sort_keys=True)
    return sha256(f"{_makers_hash()} {content}".encode()).hexdigest()


@cache
def _makers_hash() -> str:
    blocks, plots = files("irt_assets.blocks"), files("irt_psychometrics.plots")
    folders = (blocks, blocks / "templates", plots, files("irt_assets.reports") / "templates")
    digest = sha256((installed_version("typst") or "none").encode())
    for module in RENDERERS:
        digest.update(getsource(module).encode())
    for folder in folders:
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if file.is_file():
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _recorded_hashes(connection: psycopg.Connection, week: str) -> dict[tuple[str, str], str]:
    rows = connection.execute(
        "SELECT user_id, format, inputs_hash FROM report_file WHERE week_start = %s", (date.fromisoformat(week),)
    ).fetchall()
    return {(user, kind): inputs for user, kind, inputs in rows}


def _write_reports(
    database: Database,
    store: ObjectStore,
    week: str,
    new: Sequence[Facts],
    hashes: Mapping[str, str],
    rendering: Executor,
    say: Callable[[str], None],
) -> tuple[dict[str, str], dict[str, str]]:
    """Render, store and record. Returns the reasons by learner who has no report, and by learner who has no PDF."""
    failed: dict[str, str] = {}
    without_pdf: dict[str, str] = {}
    problems: list[Exception] = []

    def make(facts: Facts) -> tuple[list[Artifact], str]:
        if problems:
            raise problems[0]
        try:
            return _write_report(rendering, store, week, facts, hashes[facts.user_id])
        except Exception as error:
            problems.append(error)
            raise

    with closing(ThreadPoolExecutor(MAX_CONCURRENT)) as writing:
        users = {writing.submit(make, facts): facts.user_id for facts in new}
        finished = as_completed(users)
        for n in range(0, len(new), RECORDED_TOGETHER):
            artifacts = list[Artifact]()
            for future in islice(finished, RECORDED_TOGETHER):
                written, problem = future.result()
                artifacts += written
                if problem:
                    (without_pdf if written else failed)[users[future]] = problem
            with database.connect() as connection:
                record_files(connection, artifacts)
            if n % PROGRESS_EVERY == 0:
                say(f"{n:,} of {len(new):,} learners")
    return dict(sorted(failed.items())), dict(sorted(without_pdf.items()))


def _write_report(
    rendering: Executor, store: ObjectStore, week: str, facts: Facts, inputs: str
) -> tuple[list[Artifact], str]:
    """Render a report and store its files. Returns them, and the reason if one is missing."""
    try:
        made = rendering.submit(render_report, facts).result()
    except BrokenProcessPool as error:
        raise TransientFailure(
            f"a rendering process was killed while it rendered the report of {facts.user_id}, perhaps because memory "
            "ran out"
        ) from error
    files = {kind: data for kind, data in zip(FORMATS, (made.html, made.pdf), strict=True) if data is not None}
    return [
        put_file(
            store,
            key(week, facts.user_id, kind),
            data,
            Artifact("", "", kind, facts.user_id, facts.week, inputs_hash=inputs),
        )
        for kind, data in files.items()
    ], made.problem


def _tidy(database: Database, store: ObjectStore, week: str, users: Sequence[str], without_pdf: Sequence[str]) -> int:
    """Delete rows of other learners and of outdated PDFs, then files without a row. Returns the number of files."""
    with database.connect() as connection:
        connection.execute(
            """DELETE FROM report_file WHERE week_start = %s
               AND (NOT user_id = ANY(%s) OR format = 'pdf' AND user_id = ANY(%s))""",
            (date.fromisoformat(week), [*users], [*without_pdf]),
        )
    with database.connect() as connection:
        orphans = unrecorded_keys(connection, store, folder(week))
    for orphan in orphans:
        store.delete(orphan)
    return len(orphans)

"""A learner's reports on request: links to stored reports, or files written now into a folder."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath

import psycopg

from irt_assets.abilities.batch import judge_until
from irt_assets.common.partitions import week_bounds
from irt_assets.reports.learner_facts import load_facts
from irt_assets.reports.learner_processes import closing, processes, render_report
from irt_assets.reports.learner_week import FORMATS, key
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database


@dataclass(frozen=True)
class Copies:
    """The written files, and user id → the reason why a learner's file is missing."""

    files: list[Path]
    failed: dict[str, str]


def links(database: Database, store: ObjectStore, week: str, user: str) -> list[str]:
    """Return links to a learner's stored reports of a week. Links to a bucket expire.

    Raises PermanentFailure if the learner has no reports.
    """
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT format FROM report_file WHERE user_id = %s AND week_start = %s ORDER BY 1",
            (user, date.fromisoformat(week)),
        ).fetchall()
        if not rows:
            _require_known(connection, [user])
            raise PermanentFailure(
                f"{user} has no report of the week {week}: run `irt report learner --week {week}` to write the "
                "reports of all learners who answered in the eight weeks that end with it"
            )
    return [store.link(key(week, user, kind)) for (kind,) in rows]


def write_copies(
    database: Database, week: str, folder: Path, *, users: Collection[str] | None, zone: str, n_processes: int
) -> Copies:
    """Write HTML and PDF of the given learners, or of all if `users` is None, into a folder.

    The folder is created if it is missing. Raises the PermanentFailures of `load_facts`, and PermanentFailure if one
    of the learners is unknown or not due a report.
    """
    judge_until(database, week_bounds(week)[1])
    with database.connect() as connection:
        _require_known(connection, users or ())
        wanted = load_facts(connection, week, zone, users)
    if missing := sorted({*(users or ())} - {facts.user_id for facts in wanted}):
        raise PermanentFailure(
            f"{', '.join(missing)} gave no live answer in the eight weeks that end with the week {week}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    files, failed = list[Path](), dict[str, str]()
    with closing(processes(n_processes)) as rendering:
        for facts, made in zip(wanted, rendering.map(render_report, wanted), strict=True):
            if made.problem:
                failed[facts.user_id] = made.problem
            for name, data in zip(names(week, facts.user_id), (made.html, made.pdf), strict=True):
                if data is None:
                    continue
                files.append(folder / name)
                files[-1].write_bytes(data)
    return Copies(files, failed)


def names(week: str, user: str) -> list[str]:
    """Names of a learner's files, HTML first."""
    return [PurePosixPath(key(week, user, kind)).name for kind in FORMATS]


def _require_known(connection: psycopg.Connection, users: Collection[str]) -> None:
    rows = connection.execute(
        """SELECT u FROM unnest(%s::text[]) u WHERE NOT EXISTS (SELECT FROM learner WHERE user_id = u)
           AND NOT EXISTS (SELECT FROM features_topic_daily WHERE user_id = u) ORDER BY 1""",
        (list(users),),
    ).fetchall()
    if rows:
        raise PermanentFailure(
            f"no learner has the id {', '.join(repr(user) for (user,) in rows)}: ids are case-sensitive; "
            "`irt export abilities` lists the measured learners"
        )

"""Worlds whose stored verdicts are compared, attempt by attempt, with the plain loops of `verdict_reference`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from irt_assets.common.partitions import Month, month_of, months_between
from irt_assets.responses.item_time import take_item_times
from irt_assets.responses.verdicts import judge_differing
from irt_assets.simulation.files import SCALE_ID, write
from irt_assets.simulation.response_log import simulate
from irt_assets.simulation.scenario import Fault, Scenario
from resources import tables
from resources.postgres import warehouse
from resources.postgres.database import Database
from tests.helpers.dirty_log import load_dirty
from tests.helpers.kpi_worlds import load, random_world
from tests.helpers.rooms import add_attempts, add_items, attempt, rows, run_sql
from tests.helpers.verdict_reference import USUAL, Key, Log, Verdict, judge_log
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.scenario import AnyScenario

MONTHS = ("2026-02", "2026-03")
SMALL = AnyScenario(
    months=MONTHS,
    now=Month(MONTHS[-1]).end,
    learners_per_month=60,
    items_per_block=12,
    anchors_per_block=5,
    seed=51,
)
LOWERED = {"rapid_min_times": 25, "min_responses": 20}
"""Rules of a small world, in which an item has about 50 live answers a month. The defaults require 100 times."""
DAY = timedelta(days=1)
Fill = Callable[[Database], None]


@dataclass(frozen=True)
class World:
    """A log and the changes to it after its days are judged.

    Attributes:
        fill: puts the log into a migrated database.
        changes: later changes, in order. After each, the days that differ are judged again.
        nights: interval at which days that differ are judged, while answers arrive by `recorded_at`. None: the whole
            log has arrived before the first day is judged.
        reasons: reasons that occur among its verdicts.
    """

    name: str
    fill: Fill
    changes: Sequence[Fill] = ()
    nights: timedelta | None = None
    reasons: Collection[str] = ()


class WrongVerdict(AssertionError):
    """A verdict that differs from the plain loops."""


# -- judging -----------------------------------------------------------------------------------------


def judge_world(database: Database, world: World) -> Iterator[Counter[str]]:
    """Fill an empty database with a world and judge its days; then each of its changes.

    Yields the number of attempts by reason, with scored attempts under "scored". Raises WrongVerdict if a verdict
    differs from `judge_log`.
    """
    world.fill(database)
    run_sql(database, "ANALYZE")
    if world.nights is not None:
        _judge_by_night(database, world.nights)
    _judge_months(database)
    yield compare(database)
    for change in world.changes:
        change(database)
        _judge_months(database)
        yield compare(database)


def _judge_months(database: Database) -> None:
    """Judge all days with the item times at which the months before them close."""
    months = months_of_log(database)
    with database.connect() as connection:
        for month in months:
            take_item_times(connection, month.previous)
    judge_differing(database, months[0].start.date(), months[-1].end.date())


def months_of_log(database: Database) -> list[Month]:
    """The months with attempts, and those between them, oldest first."""
    [(first, last)] = rows(database, "SELECT min(completed_at), max(completed_at) FROM attempt")
    return list(months_between(month_of(first), month_of(last)))


def _judge_by_night(database: Database, interval: timedelta) -> None:
    months = months_of_log(database)
    with database.connect() as connection:
        connection.execute("CREATE TABLE whole_log AS SELECT * FROM response_log")
        connection.execute("DELETE FROM response_log")
        found = connection.execute("SELECT recorded_at FROM whole_log ORDER BY 1").fetchall()
    days = sorted({at.astimezone(UTC).date() for (at,) in found})
    night = datetime.combine(days[0], datetime.min.time(), UTC)
    while days:
        night += interval
        with database.connect() as connection:
            connection.execute("INSERT INTO response_log SELECT * FROM whole_log WHERE recorded_at <= %s", (night,))
            connection.execute("DELETE FROM whole_log WHERE recorded_at <= %s", (night,))
        while days and days[0] < night.date():
            del days[0]
        judge_differing(database, months[0].start.date(), min(night, months[-1].end).date())
        if days:  # sleep until the first night after the next answers
            night = max(night, datetime.combine(days[0], datetime.min.time(), UTC))


# -- comparing ---------------------------------------------------------------------------------------


def compare(database: Database) -> Counter[str]:
    """Returns the number of attempts by reason. Raises WrongVerdict if a verdict differs from `judge_log`."""
    expected, found = judge_log(read_log(database)), _stored_verdicts(database)
    wrong = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    if wrong:
        first = min(wrong)
        raise WrongVerdict(f"{len(wrong)} of {len(expected)}: {first} {found.get(first)}, not {expected.get(first)}")
    return Counter(verdict.reason or "scored" for verdict in expected.values())


def read_log(database: Database) -> Log:
    """Read the log of a database. A closed month keeps the rules in force when it closed."""
    columns = "id, user_id, item_id, session_id, form_id, position, completed_at, correct, score, response_time_ms"
    names = [*columns.split(", "), "hints_used", "mode"]
    attempts = [dict(zip(names, row, strict=True)) for row in rows(database, f"SELECT {', '.join(names)} FROM attempt")]
    for a in attempts:
        a["completed_at"] = a["completed_at"].astimezone(UTC)
    now = dict(rows(database, "SELECT scale_id, rules FROM calibration_scale"))
    closed = {
        (month, scale): rules
        for month, scale, rules in rows(
            database, "SELECT month, scale_id, rules FROM month_state WHERE state = 'closed'"
        )
    }

    def rule(month: str, scale: str, name: str) -> Any:
        return closed.get((month, scale), now.get(scale, {})).get(name, USUAL[name])

    bank = rows(database, "SELECT item_id, scale_id, coalesce(max_score, 1) FROM question")
    flagged = rows(database, "SELECT user_id FROM learner WHERE is_test")
    draws = {*rows(database, "SELECT session_id, item_id, user_id FROM seed_draw")}
    items = {item: (scale, most) for item, scale, most in bank}
    return Log(attempts, items, {user for (user,) in flagged}, rule, draws)


def _stored_verdicts(database: Database) -> dict[Key, Verdict]:
    query = "SELECT attempt_id, completed_at, scale_id, reason, score, max_score FROM attempt_verdict"
    return {(row[0], row[1].astimezone(UTC)): Verdict(*row[2:]) for row in rows(database, query)}


# -- logs --------------------------------------------------------------------------------------------


def add_scale(database: Database, rules: Mapping[str, Any], scale_id: str = SCALE_ID) -> None:
    run_sql(
        database,
        "INSERT INTO calibration_scale (scale_id, origin, rules) VALUES (%s, '{}', %s)",
        (scale_id, json.dumps(dict(rules))),
    )


def load_scenario(database: Database, scenario: Scenario, rules: Mapping[str, Any], *, late: bool = False) -> None:
    """Load a simulated log, with a month's answers in its first days.

    `late`: includes answers that arrive after `now`.
    """
    with TemporaryDirectory() as folder, database.connect() as connection:
        files = write(*simulate(scenario), Path(folder))
        ensure_month_partitions(connection, scenario.months[0], month_of(scenario.now))
        for table, path in ((tables.question, files.questions), (tables.learner, files.learners)):
            lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            warehouse.append(connection, table, pd.DataFrame(lines))
        for path in (files.attempts, files.late_attempts)[: 1 + late]:
            warehouse.append(connection, tables.response_log, pq.read_table(path).to_pandas())
    add_scale(database, rules)
    _hurry(database, 6)


def _late(database: Database) -> None:
    """Items depend on the learner's earlier answers. One session in 20 is late, and three answers arrive after their
    month has closed."""
    adaptive: dict[str, Any] = {"assignment": "adaptive", "adaptive_items": 24}
    scenario = replace(SMALL, now=datetime(2026, 4, 20, tzinfo=UTC), seed=52, late_rate=0.05, **adaptive)
    load_scenario(database, scenario, LOWERED, late=True)
    run_sql(
        database,
        """INSERT INTO response_log (attempt_id, user_id, item_id, completed_at, correct, response_time_ms, recorded_at)
           SELECT 'late ' || attempt_id, user_id, item_id, completed_at - interval '1 minute', NOT correct, 900,
             '2026-03-20T12:00Z'
           FROM response_log WHERE completed_at < '2026-03-01' AND correct IS NOT NULL ORDER BY attempt_id LIMIT 3""",
    )


def _correct_some(database: Database) -> None:
    """Regrade, withdraw, flag an account and change an item's scale, in days that have been judged."""
    with database.connect() as connection:
        for statement in (
            """UPDATE response_log SET correct = NOT correct, revision = revision + 1, recorded_at = now()
               WHERE correct IS NOT NULL AND hashtext(attempt_id) % 40 = 0""",
            """UPDATE response_log SET response_time_ms = 400, recorded_at = now()
               WHERE hashtext(attempt_id) % 41 = 0""",
            "DELETE FROM response_log WHERE hashtext(attempt_id) % 43 = 0",
            """UPDATE learner SET is_test = NOT is_test
               WHERE user_id IN (SELECT user_id FROM learner ORDER BY user_id LIMIT 3)""",
            "UPDATE question SET scale_id = 'other' WHERE item_id IN (SELECT min(item_id) FROM question)",
        ):
            connection.execute(statement)


def _seed_some(database: Database) -> None:
    """Draw the items of every seventh attempt."""
    run_sql(
        database,
        """INSERT INTO seed_draw (scale_id, item_id, user_id, session_id, position, probability, at_random)
           SELECT DISTINCT ON (session_id, item_id) 'default', item_id, user_id, session_id, position, 0.1, false
           FROM response_log WHERE mod(hashtext(attempt_id), 7) = 0 AND session_id IS NOT NULL AND position IS NOT NULL
           ON CONFLICT DO NOTHING""",
    )


def _take_draws_back(database: Database) -> None:
    run_sql(database, "DELETE FROM seed_draw WHERE mod(hashtext(session_id), 2) = 0")


def _erase_some(database: Database) -> None:
    with database.connect() as connection:
        users = connection.execute("SELECT user_id FROM learner ORDER BY user_id LIMIT 5").fetchall()
        for (user,) in users:
            connection.execute("DELETE FROM response_log WHERE user_id = %s", (user,))
            connection.execute("DELETE FROM learner WHERE user_id = %s", (user,))


def _change_rules(database: Database) -> None:
    changed = LOWERED | {"rapid_share": 0.3, "rapid_cap_ms": 20_000, "hinted": "exclude", "lookback_months": 1}
    run_sql(database, "UPDATE calibration_scale SET rules = %s", (json.dumps(changed),))


def _close_and_change_rules(database: Database) -> None:
    """Close the first month, which keeps its rules, and change the rules."""
    with database.connect() as connection:
        connection.execute(
            """INSERT INTO month_state
                 (month, scale_id, state, decided_by, reason, snapshot_hash, rules, items, test_accounts)
               SELECT %s, scale_id, 'closed', 'nightly', 'late_days', '', rules, '{}', '[]' FROM calibration_scale""",
            (MONTHS[0],),
        )
        connection.execute("UPDATE calibration_scale SET rules = %s", (json.dumps(LOWERED),))


def _midnight(database: Database) -> None:
    """Exams that continue after midnight, of a day and of a month, with items omitted before and after it."""
    add_items(database, {f"i{k}": None for k in range(6)})
    add_scale(database, {"rapid_min_times": 3, "min_responses": 1})
    log = []
    for n, midnight in enumerate((datetime(2026, 3, 11, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))):
        for user in range(8):
            for position in range(6):
                at = midnight + timedelta(minutes=10 * (position - 3) + user)
                shown = (user + position) % 3 != 0 and not (user > 5 and position > 2)
                log.append(
                    attempt(
                        f"u{user}",
                        f"i{position}",
                        at,
                        session_id=f"s{n}{user}",
                        form_id="A",
                        position=None if user % 2 else position + 1,
                        correct=bool(user % 2) if shown else None,
                        response_time_ms=300 if user == position else 40_000 + 100 * user,
                    )
                )
    _recorded_at_once(database, log)


def _hurry(database: Database, times: int) -> None:
    """Move the answers of a month into its first days, in the same order, as every judged day costs time."""
    run_sql(
        database,
        """WITH hurried AS (
             SELECT attempt_id AS id, completed_at AS was,
               date_trunc('month', completed_at, 'UTC') + (completed_at - date_trunc('month', completed_at, 'UTC')) / %s
                 AS now FROM response_log)
           UPDATE response_log r SET completed_at = now, started_at = started_at + (now - was),
             recorded_at = now + (recorded_at - was)
           FROM hurried WHERE attempt_id = id AND completed_at = was""",
        (times,),
    )


def _recorded_at_once(database: Database, log: Sequence[Mapping[str, Any]]) -> None:
    add_attempts(database, log)
    run_sql(database, "UPDATE response_log SET recorded_at = completed_at + interval '1 second'")


def _clocks(database: Database) -> None:
    """Answers around each clock change, in a database whose sessions are in New York.

    Also answers seven months after the first skipped hour, half an hour before and after the look-back ends.
    """
    [(name,)] = rows(database, "SELECT current_database()")
    run_sql(database, f"""ALTER DATABASE "{name}" SET timezone = 'America/New_York'""")
    add_items(database, {f"i{k}": None for k in range(30)})
    add_scale(database, {"rapid_min_times": 2, "min_responses": 1, "lookback_months": 7})
    changes = [datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)]
    log = [
        attempt(
            f"u{user}",
            f"i{(k + shift * (-1) ** user) % 30}",
            at + timedelta(minutes=30 * k + user, microseconds=user),
            response_time_ms=500 if k == user - 30 else 30_000,
            session_id=f"s{at:%m}{user}",
            form_id="A" if user else None,
            correct=None if k == -5 else k % 2 == 0,
        )
        for at, shift in zip([*changes, datetime(2026, 10, 8, 7, tzinfo=UTC)], (0, 0, 1), strict=True)
        for user in range(4)
        for k in range(-30, 30)
    ]
    _recorded_at_once(database, log)


def _leap_day(database: Database) -> None:
    """Items answered around 29 February and again a year later, a microsecond before, at and after the same time."""
    add_items(database, {f"i{k}": None for k in range(3)})
    add_scale(database, {"rapid_min_times": 2, "min_responses": 1})
    tiny = timedelta(microseconds=1)
    first = [datetime(2024, 2, day, 12, tzinfo=UTC) for day in (28, 29)] + [datetime(2024, 3, 1, 12, tzinfo=UTC)]
    log = [attempt("u0", f"i{k}", at, response_time_ms=30_000) for k, at in enumerate(first)]
    log += [
        attempt(f"u{n}", f"i{k}", at, response_time_ms=400 if n == 9 else 30_000)
        for n in range(1, 10)
        for k, was in enumerate(first)
        for at in (was, datetime(2025, 2 + (k == 2), 1 if k == 2 else 28, 12, tzinfo=UTC) + (n % 3 - 1) * tiny)
    ]
    _recorded_at_once(database, log)


def _slower(database: Database) -> None:
    """In a first month all learners take four times as long, in the next month they do not.

    Item i2 is new in the next month, and takes four times as long from the second day on.
    """
    add_items(database, {f"i{k}": None for k in range(3)})
    add_scale(database, {"rapid_min_times": 5, "min_responses": 1, "rapid_cap_ms": 60_000})
    log = []
    for m, (month, usual) in enumerate((("2026-01", 20_000), ("2026-02", 80_000), ("2026-03", 20_000))):
        for user in range(30):
            for k in range(3 if m == 2 else 2):
                at = Month(month).start + timedelta(days=user % 4, hours=3 + k, minutes=user)
                late = k == 2 and user % 4 > 0
                ms = 4_000 if user in (3, 4, 25) else (4 if late else 1) * usual + 10 * user
                log.append(attempt(f"{month} {user}", f"i{k}", at, response_time_ms=ms))
    _recorded_at_once(database, log)


def _two_scales(database: Database) -> None:
    load(database, random_world(11))
    for table in ("attempt_verdict", "judged_day"):
        run_sql(database, f"DELETE FROM {table}")
    _hurry(database, 30)


def _scored(database: Database) -> None:
    """Items with up to four scores. Three of the other items leak in the second month."""
    leak = Fault("leak", size=0.1, share=0.5, n_items=3, first_month=MONTHS[1])
    scenario = replace(SMALL, scored_items=((0, 1, 2, 3), (0, 1, 2), (0, 2)), faults=(leak,))
    load_scenario(database, scenario, LOWERED)
    _seed_some(database)


WORLDS = (
    World(
        "two scales",
        _two_scales,
        reasons=("sandbox", "test_account", "unusable", "repeat", "not_reached", "hinted", "rapid"),
    ),
    World("dirty texts", load_dirty, reasons=("sandbox", "test_account", "unusable", "repeat", "not_reached")),
    World("slower month", _slower, reasons=("rapid",)),
    World("exam over midnight", _midnight, nights=DAY, reasons=("repeat", "not_reached", "rapid")),
    World("change of clocks", _clocks, nights=DAY, reasons=("repeat", "rapid")),
    World("leap day", _leap_day, reasons=("repeat", "rapid")),
    World("levels, late answers", _late, nights=4 * DAY, reasons=("repeat", "not_reached", "rapid")),
    World(
        "scored items, corrected",
        _scored,
        (_take_draws_back, _seed_some, _correct_some, _erase_some, _change_rules, _close_and_change_rules),
        reasons=("sandbox", "test_account", "repeat", "not_reached", "rapid", "seed"),
    ),
)

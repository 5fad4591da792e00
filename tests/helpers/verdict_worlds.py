"""Worlds in which stored verdicts are compared with today's judgement of each month, attempt by attempt.

`python -m tests.helpers.verdict_worlds [WORLD …]` prints the differences by kind and world. What belongs here: the
logs, and the comparison. What does not: the judgement itself (see `responses.verdicts`).
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import SecretStr

from irt_assets.common.partitions import Month, month_of, months_between
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.eligibility.attempts import Judgement, judge
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.scoring.abilities import Curves, eap_by
from irt_assets.psychometrics.simulation.scenario import Fault, Scenario, demo_scenario
from irt_assets.psychometrics.simulation.simulate import simulate
from irt_assets.responses import simulated
from irt_assets.responses.columns import attempts_of, codes
from irt_assets.responses.item_time import take_item_times
from irt_assets.responses.late_answers import scales_of_month
from irt_assets.responses.scales import Scale, read_scales, rules_of_month
from irt_assets.responses.verdicts import judge_differing
from irt_assets.responses.window import judged_window, scored_responses_of, with_outcome
from resources import tables
from resources.postgres import warehouse
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.databases import EMPTY, database_copy, empty_template, server_of_the_run
from tests.helpers.dirty_log import load_dirty
from tests.helpers.kpi_worlds import load, random_world
from tests.helpers.rooms import add_attempts, add_items, answer_matrix, attempt, run_sql
from tests.testbed.partitions import ensure_month_partitions

MONTHS = ("2026-02", "2026-03")
SMALL = Scenario(
    months=MONTHS,
    now=Month(MONTHS[-1]).end,
    learners_per_month=60,
    items_per_block=12,
    anchors_per_block=5,
    seed=51,
)
LOWERED = {"rapid_min_times": 25, "min_responses": 20}
"""An item of a small world has about 50 live answers a month; the defaults want 100 times."""
DAY = timedelta(days=1)
SEEN_OFTEN = 200
Fill = Callable[[Database], None]


@dataclass(frozen=True)
class World:
    """A log, and how it came to be judged.

    Attributes:
        fill: puts the log into a migrated database.
        changes: is called after all days are judged; the days that differ are then judged again.
        in_nights: the log arrives by `recorded_at`, and the days that differ are judged in each night.
    """

    name: str
    fill: Fill
    changes: Fill | None = None
    in_nights: bool = False


class Verdict(NamedTuple):
    scale_id: str
    reason: str | None
    score: int | None
    max_score: int | None


class Difference(NamedTuple):
    """An attempt whose verdict differs from today's judgement; `kind`: why, `change`: from what to what."""

    kind: str
    change: str


class WrongVerdict(AssertionError):
    """A verdict that is neither today's nor explained by an allowed difference."""


@dataclass(frozen=True)
class Compared:
    """The result of a world: attempts and differences, and seconds of judging them."""

    attempts: int
    differences: Counter[Difference]
    seconds: float


# -- judging -----------------------------------------------------------------------------------------


def judge_world(database: Database, world: World) -> None:
    """Judge all days of a world that is filled, in the way that the world says."""
    if world.in_nights:
        _judge_by_night(database)
    else:
        for month in months_of_log(database):
            judge_month(database, month)
    if world.changes is not None:
        world.changes(database)
        for month in months_of_log(database):
            judge_differing(database, *_days_of(month))


def judge_month(database: Database, month: Month) -> None:
    with database.connect() as connection:
        take_item_times(connection, month.previous)
    judge_differing(database, *_days_of(month))


def _days_of(month: Month) -> tuple[date, date]:
    return month.start.date(), month.end.date()


def months_of_log(database: Database) -> list[Month]:
    """The months with attempts, and those between them, oldest first."""
    with database.connect() as connection:
        [(first, last)] = connection.execute("SELECT min(completed_at), max(completed_at) FROM attempt").fetchall()
    return list(months_between(month_of(first), month_of(last)))


def _judge_by_night(database: Database) -> None:
    months = months_of_log(database)
    with database.connect() as connection:
        connection.execute("CREATE TABLE whole_log AS SELECT * FROM response_log")
        connection.execute("TRUNCATE response_log")
        [(last,)] = connection.execute("SELECT max(recorded_at) FROM whole_log").fetchall()
    night = months[0].start + DAY
    arrived = datetime(1970, 1, 1, tzinfo=UTC)
    while arrived < last:
        with database.connect() as connection:
            new = connection.execute(
                "INSERT INTO response_log SELECT * FROM whole_log WHERE recorded_at > %s AND recorded_at <= %s",
                (arrived, night),
            ).rowcount
            if night.day == 1:
                take_item_times(connection, month_of(night).previous)
        if new or night.day == 1:
            judge_differing(database, months[0].start.date(), min(night, months[-1].end).date())
        arrived, night = night, night + DAY
    for month in months:  # each closes
        judge_month(database, month)


# -- comparing ---------------------------------------------------------------------------------------


def differences(database: Database) -> tuple[int, Counter[Difference]]:
    """Attempts, and the allowed differences between verdicts and today's judgement.

    Raises WrongVerdict for any other difference, with the attempt and both verdicts.
    """
    found, n = Counter[Difference](), 0
    with database.connect() as connection:
        for month in months_of_log(database):
            judged = judged_month(connection, month)
            n += len(judged.today)
            verdicts = _stored_verdicts(connection, month)
            if missing := judged.today.keys() ^ verdicts.keys():
                raise WrongVerdict(f"{month}: without a verdict, or without an attempt: {sorted(missing)[:5]}")
            for key, verdict in verdicts.items():
                expected, today = judged.expected[key], judged.today[key]
                if verdict != expected:
                    raise WrongVerdict(f"{month}: {key} has {verdict}, expected {expected}; today's is {today}")
                if expected != today:
                    found[Difference(judged.kinds[key], _change(today, expected))] += 1
            found.update(_late_differences(connection, month, judged.today))
    return n, found


def _change(today: Verdict, expected: Verdict) -> str:
    return f"{today.reason or 'counts'} → {expected.reason or 'counts'}"


Key = tuple[str, datetime]


@dataclass(frozen=True)
class JudgedMonth:
    """Each attempt of a month as judged today, as it should be judged, and why the two differ."""

    table: pa.Table
    today: dict[Key, Verdict]
    expected: dict[Key, Verdict]
    kinds: dict[Key, str]
    code: npt.NDArray[np.int8]
    score: npt.NDArray[np.int8]


def judged_month(connection: psycopg.Connection, month: Month) -> JudgedMonth:
    """Today's judgement of a month and the expected one, by medians computed here; no minimum applies to either."""
    scales = {name: _without_minima(scale) for name, scale in read_scales(connection).items()}
    scales.setdefault("default", _without_minima(Scale("default")))
    found = judged_window(connection, *month.bounds, scales).table
    rules = rules_of_month(connection, month)
    times = _NewTimes(connection, month)
    code, score = (np.full(found.num_rows, -1, dtype=np.int8) for _ in range(2))
    own_rules, kinds_of_time = np.zeros(found.num_rows, dtype=bool), np.full(found.num_rows, "", dtype=object)
    for scale_id in found["scale_id"].unique().to_pylist():
        rows = np.flatnonzero(found["scale_id"].to_numpy(zero_copy_only=False) == scale_id)
        now, then = scales[scale_id].rules, rules.get(scale_id, Rules())
        outcome, kinds_of_time[rows] = _judge_by(found, rows, then, times)
        code[rows], score[rows] = outcome.code, outcome.score
        if (
            now.eligibility.rapid_share != then.eligibility.rapid_share
            or now.eligibility.hinted != then.eligibility.hinted
        ):
            own_rules[rows] = True
    new = with_outcome(found.drop_columns(["reason", "score"]), code, score)
    today, expected = _by_attempt(found), _by_attempt(new)
    kinds = {}
    for row, (key, verdict) in enumerate(expected.items()):
        if verdict == today[key]:
            continue
        if "rapid" in (verdict.reason, today[key].reason):
            kinds[key] = str(kinds_of_time[row])
        elif own_rules[row]:
            kinds[key] = "rules of its own month"
        else:
            raise WrongVerdict(f"{month}: {key} is {today[key]} today, and {verdict} by other times of items")
    return JudgedMonth(found, today, expected, kinds, code, score)


def _without_minima(scale: Scale) -> Scale:
    minima = dict.fromkeys(("min_responses", "min_learner_responses", "min_provisional_responses"), 1)
    eligibility = scale.rules.eligibility.model_copy(update=minima)
    return replace(scale, rules=scale.rules.model_copy(update={"eligibility": eligibility}), answers_until=None)


def _judge_by(
    found: pa.Table, rows: npt.NDArray[np.intp], rules: Rules, times: _NewTimes
) -> tuple[Judgement, npt.NDArray[np.object_]]:
    part = found.take(pa.array(rows))
    plain = part.set_column(part.schema.get_field_index("item_id"), "item_id", part["item_id"].cast(pa.string()))
    median, n, kinds = times.of(plain, rules.eligibility.rapid_min_times)
    user, item = (codes(part[name].cast(pa.string()))[0] for name in ("user_id", "item_id"))
    attempts = attempts_of(part, user, item, median, n, np.arange(rows.size))
    return judge(attempts, rules, min_learner=False, min_item=False), kinds


class _NewTimes:
    """Median times of items in the month before, and from the start of a month to the end of each of its days."""

    def __init__(self, connection: psycopg.Connection, month: Month) -> None:
        rows = connection.execute(
            """SELECT item_id, completed_at, response_time_ms FROM attempt
               WHERE mode = 'live' AND correct IS NOT NULL AND response_time_ms IS NOT NULL
                 AND completed_at >= %s AND completed_at < %s""",
            (month.previous.start, month.end),
        ).fetchall()
        times = pd.DataFrame(rows, columns=["item", "at", "ms"])
        times["at"] = pd.to_datetime(times["at"], utc=True)
        self._own = times[times["at"] >= month.start]
        before = times[times["at"] < month.start].groupby("item")["ms"].agg(["median", "count"])
        self._before = {item: (median, int(n)) for item, median, n in before.itertuples()}
        self._to_end_of_day: dict[tuple[str, date], tuple[float, int]] = {}

    def of(
        self, attempts: pa.Table, least: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.object_]]:
        """Median, number of times, and whose they are, of each attempt."""
        found = []
        days = attempts["completed_at"].cast(pa.timestamp("us", "UTC")).to_pylist()
        for item, at in zip(attempts["item_id"].to_pylist(), days, strict=True):
            if self._before.get(item, (np.nan, 0))[1] >= least:
                found.append((*self._before[item], "median of the month before"))
            else:
                median, n = self._so_far(item, at.date())
                found.append((median, n, "median of its own month so far" if n >= least else "too few times"))
        median, n, kinds = zip(*found, strict=True) if found else ((), (), ())
        return np.array(median, float), np.array(n, np.int64), np.array(kinds, object)

    def _so_far(self, item: str, day: date) -> tuple[float, int]:
        if (item, day) not in self._to_end_of_day:
            end = datetime.combine(day, datetime.min.time(), UTC) + DAY
            ms = self._own[(self._own["item"] == item) & (self._own["at"] < end)]["ms"]
            self._to_end_of_day[item, day] = (float(ms.median()) if ms.size else np.nan), int(ms.size)
        return self._to_end_of_day[item, day]


def _by_attempt(found: pa.Table) -> dict[Key, Verdict]:
    most = found["max_score"].to_pylist() if "max_score" in found.column_names else [None] * found.num_rows
    columns = [found[name].to_pylist() for name in ("attempt_id", "completed_at", "scale_id", "reason", "score")]
    return {(key, at): Verdict(*values) for key, at, *values in zip(*columns, most, strict=True)}


def _stored_verdicts(connection: psycopg.Connection, month: Month) -> dict[Key, Verdict]:
    rows = connection.execute(
        """SELECT attempt_id, completed_at, scale_id, reason, score, max_score FROM attempt_verdict
           WHERE completed_at >= %s AND completed_at < %s""",
        month.bounds,
    ).fetchall()
    return {(row[0], row[1]): Verdict(*row[2:]) for row in rows}


def _late_differences(
    connection: psycopg.Connection, month: Month, today: Mapping[Key, Verdict]
) -> Counter[Difference]:
    """Attempts that are recorded too late for today's month, and those that they make a repeat or an omission."""
    scales = scales_of_month(connection, month, read_scales(connection), again=True)
    if not any(scale.answers_until for scale in scales.values()):
        return Counter()
    lax = {name: replace(_without_minima(s), answers_until=s.answers_until) for name, s in scales.items()}
    without = _by_attempt(judged_window(connection, *month.bounds, lax).table)
    found = Counter[Difference]()
    for key, verdict in today.items():
        if key not in without:
            found[Difference("late answer", f"left out → {verdict.reason or 'counts'}")] += 1
        elif verdict != without[key]:
            found[Difference("late answer of the learner", _change(without[key], verdict))] += 1
    return found


# -- numbers -----------------------------------------------------------------------------------------


def largest_changes(database: Database, scale_id: str = simulated.SCALE_ID) -> Iterator[tuple[str, float, float]]:
    """By month, the largest change of b in standard errors' unit θ, and of θ, when a month is fitted from verdicts."""
    with database.connect() as connection:
        for month in months_of_log(database):
            judged = judged_month(connection, month)
            new = with_outcome(judged.table.drop_columns(["reason", "score"]), judged.code, judged.score)
            (old, users), (fresh, users_now) = (scored_responses_of(one, scale_id) for one in (judged.table, new))
            fits = [fit_em(one, model=["gpcm" if k > 2 else "2pl" for k in one.n_categories]) for one in (old, fresh)]
            b = [dict(zip(fit.item_ids, np.where(fit.n >= SEEN_OFTEN, fit.b, np.nan), strict=True)) for fit in fits]
            shift = np.array([b[1][item] - b[0][item] for item in b[0].keys() & b[1].keys()])
            yield month, float(np.nanmax(np.abs(shift))), _theta_change(old, fresh, users, users_now, fits[0])


def _theta_change(old: Responses, new: Responses, users: Sequence[str], users_now: Sequence[str], fit: Any) -> float:
    """The largest change of θ of a learner, both measured by the parameters of one fit."""
    if old.item_ids != new.item_ids:
        raise AssertionError("an item has responses by one judgement alone")
    curves = Curves.of(fit.curves)
    before, after = (
        dict(zip(names, eap_by(responses, curves).theta, strict=True))
        for names, responses in ((users, old), (users_now, new))
    )
    return float(max(abs(after[user] - before[user]) for user in before.keys() & after.keys()))


# -- logs --------------------------------------------------------------------------------------------


def add_scale(database: Database, rules: Mapping[str, Any], scale_id: str = simulated.SCALE_ID) -> None:
    run_sql(
        database,
        "INSERT INTO calibration_scale (scale_id, origin, rules) VALUES (%s, '{}', %s)",
        (scale_id, json.dumps(dict(rules))),
    )


def simulated_log(rules: Mapping[str, Any] = LOWERED, **knobs: Any) -> Fill:
    """A small company's log; `knobs` of its `Scenario`."""
    scenario = replace(SMALL, **knobs)
    return lambda database: load_scenario(database, scenario, rules)


def load_scenario(
    database: Database, scenario: Scenario, rules: Mapping[str, Any], *, late: bool = False, hurried: bool = True
) -> None:
    """`late`: with the answers that reach the database after `now`. hurried: a month's are in its first days."""
    with TemporaryDirectory() as folder, database.connect() as connection:
        files = simulated.write(*simulate(scenario), Path(folder))
        ensure_month_partitions(connection, scenario.months[0], month_of(scenario.now))
        for table, path in ((tables.question, files.questions), (tables.learner, files.learners)):
            lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            warehouse.append(connection, table, pd.DataFrame(lines))
        for path in (files.attempts, files.late_attempts)[: 1 + late]:
            warehouse.append(connection, tables.response_log, pq.read_table(path).to_pandas())
    add_scale(database, rules)
    if hurried:
        _hurry(database)


def _demo(database: Database) -> None:
    scenario = demo_scenario(datetime(2026, 6, 20, tzinfo=UTC), scored=True)
    load_scenario(database, replace(scenario, weekly_variance=0.0025), {"ability_variance": 0.0025}, hurried=False)


def _sat12(database: Database) -> None:
    with (Path(os.environ["IRT_SHARED"]) / "data" / "sat12_scored_wide.csv").open() as file:
        names, *rows = csv.reader(file)
    scores = np.array([row[1:] for row in rows], dtype=float)
    add_items(database, dict.fromkeys(names[1:]))
    add_scale(database, {})
    add_attempts(database, answer_matrix("2026-03", scores, names[1:]))


def _testlets(database: Database) -> None:
    simulated_log()(database)
    run_sql(database, "UPDATE question SET testlet_id = 't' || (right(item_id, 2)::int / 3)")


def _late(database: Database) -> None:
    """One session in 20 comes late, and three answers after their month has closed: too many to be left out."""
    scenario = replace(SMALL, months=MONTHS[:2], now=datetime(2026, 4, 20, tzinfo=UTC), seed=52, late_rate=0.05)
    load_scenario(database, scenario, LOWERED, late=True)
    run_sql(
        database,
        """INSERT INTO response_log (attempt_id, user_id, item_id, completed_at, correct, response_time_ms, recorded_at)
           SELECT 'late ' || attempt_id, user_id, item_id, completed_at - interval '1 minute', NOT correct, 900,
             '2026-03-20T12:00Z'
           FROM response_log WHERE completed_at < '2026-03-01' AND correct IS NOT NULL ORDER BY attempt_id LIMIT 3""",
    )


def _correct_some(database: Database) -> None:
    """Regrade, withdraw, flag an account, change an item's scale: in days that are judged already."""
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


def _erase_some(database: Database) -> None:
    with database.connect() as connection:
        users = connection.execute("SELECT user_id FROM learner ORDER BY user_id LIMIT 5").fetchall()
        for (user,) in users:
            connection.execute("DELETE FROM response_log WHERE user_id = %s", (user,))
            connection.execute("DELETE FROM learner WHERE user_id = %s", (user,))


def _change_rules(database: Database) -> None:
    changed = LOWERED | {"rapid_share": 0.3, "rapid_cap_ms": 20_000, "hinted": "exclude", "lookback_months": 1}
    run_sql(database, "UPDATE calibration_scale SET rules = %s", (json.dumps(changed),))


def _midnight(database: Database) -> None:
    """Exams that go on after a midnight, of a day and of a month, with items left out before it and after it."""
    add_items(database, {f"i{k}": None for k in range(6)})
    add_scale(database, {"rapid_min_times": 3, "min_responses": 1})
    log = []
    for n, midnight in enumerate((datetime(2026, 3, 11, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))):
        for user in range(8):
            for place in range(6):
                at = midnight + timedelta(minutes=10 * (place - 3) + user)
                shown = (user + place) % 3 != 0 and not (user > 5 and place > 2)
                log.append(
                    attempt(
                        f"u{user}",
                        f"i{place}",
                        at,
                        session_id=f"s{n}{user}",
                        form_id="A",
                        position=None if user % 2 else place + 1,
                        correct=bool(user % 2) if shown else None,
                        response_time_ms=300 if user == place else 40_000 + 100 * user,
                    )
                )
    _recorded_at_once(database, log)


def _hurry(database: Database) -> None:
    """Put the answers of a month into its first days, in the same order: each day takes its time, however small."""
    run_sql(
        database,
        """WITH hurried AS (
             SELECT attempt_id AS id, completed_at AS was,
               date_trunc('month', completed_at, 'UTC') + (completed_at - date_trunc('month', completed_at, 'UTC')) / 6
                 AS now FROM response_log)
           UPDATE response_log r SET completed_at = now, started_at = started_at + (now - was),
             recorded_at = now + (recorded_at - was)
           FROM hurried WHERE attempt_id = id AND completed_at = was""",
    )


def _recorded_at_once(database: Database, log: Sequence[Mapping[str, Any]]) -> None:
    add_attempts(database, log)
    run_sql(database, "UPDATE response_log SET recorded_at = completed_at + interval '1 second'")


def _clocks(database: Database) -> None:
    """Answers around each change of clocks, in a database whose sessions are in New York."""
    [(name,)] = _rows(database, "SELECT current_database()")
    run_sql(database, f"""ALTER DATABASE "{name}" SET timezone = 'America/New_York'""")
    add_items(database, {f"i{k}": None for k in range(4)})
    add_scale(database, {"rapid_min_times": 2, "min_responses": 1})
    changes = [datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)]
    log = [
        attempt(
            f"u{user}",
            f"i{k % 4}",
            at + timedelta(minutes=30 * k + user, microseconds=user),
            response_time_ms=500 if k == user else 30_000,
            session_id=f"s{at:%m}{user}",
            form_id="A" if user else None,
            correct=None if k == 5 else k % 2 == 0,
        )
        for at in changes
        for user in range(4)
        for k in range(-30, 30)
    ]
    _recorded_at_once(database, log)


def _leap_day(database: Database) -> None:
    """Items met around a 29 February and again a year later, a microsecond before, at and after the same time."""
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
    """A month in which everybody takes four times as long, then one in which nobody does. In that one i2 is new, and
    takes four times as long from the second day on."""
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
    _hurry(database)


def _rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(query.encode()).fetchall()


WORLDS = (
    World("two scales", _two_scales),
    World("dirty texts", load_dirty),
    World("slower month", _slower),
    World("levels", simulated_log(assignment="adaptive", adaptive_items=24)),
    World("testlets", _testlets),
    World("3PL", simulated_log(guessing=0.2)),
    World("scored items", simulated_log(scored_items=((0, 1, 2, 3), (0, 1, 2), (0, 2)))),
    World("moving ability", simulated_log(LOWERED | {"ability_variance": 0.01}, weekly_variance=0.01)),
    World(
        "leaked items", simulated_log(faults=(Fault("leak", size=0.1, share=0.5, n_items=3, first_month=MONTHS[1]),))
    ),
    World("late answers", _late, in_nights=True),
    World("corrected answers", simulated_log(), _correct_some),
    World("erased learners", simulated_log(), _erase_some),
    World("rules changed", simulated_log(), _change_rules),
    World("exam over midnight", _midnight, in_nights=True),
    World("change of clocks", _clocks, in_nights=True),
    World("leap day", _leap_day),
    World("SAT12", _sat12),
)
DEMO = World("demo", _demo)


def compare(database: Database, world: World) -> Compared:
    """Fill an empty database with a world, judge it and count the differences."""
    world.fill(database)
    run_sql(database, "ANALYZE")
    begun = time.process_time(), time.monotonic()
    judge_world(database, world)
    seconds = time.monotonic() - begun[1]
    n, found = differences(database)
    return Compared(n, found, seconds)


def main(names: Sequence[str]) -> None:
    """Print the table of the worlds named, or of all."""
    wanted = [world for world in (*WORLDS, DEMO) if world.name in names or not names]
    print("| world | attempts | kind | change | n | judged in s |\n|---|--:|---|---|--:|--:|")
    with TemporaryDirectory() as folder, server_of_the_run(Path(folder)) as server:
        empty_template(server)
        for k, world in enumerate(wanted):
            with database_copy(server.start(), EMPTY, f"world_{k}") as url:
                database = Database(
                    Settings(irt_home=Path(folder) / f"{k}", database_url=SecretStr(url), _env_file=None)  # type: ignore[call-arg]
                )
                found = compare(database, world)
                start = f"| {world.name} | {found.attempts:,} |"
                for difference, n in sorted(found.differences.items()) or [(Difference("none", ""), 0)]:
                    print(
                        f"{start} {difference.kind} | {difference.change} | {n:,} | {found.seconds:.1f} |", flush=True
                    )
                if world is DEMO:
                    for month, b, theta in largest_changes(database):
                        print(f"{month}: b changes by {b:.4f} at most, θ by {theta:.4f}")


if __name__ == "__main__":
    main(sys.argv[1:])

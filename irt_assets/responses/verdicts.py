"""Judge attempts by day, once, and store the verdicts: each attempt's score, or the reason why it has no score.

A day is judged again if the fingerprint of its log differs from the fingerprint stored with its verdicts. New,
corrected and deleted answers are noticed only in this way. Verdicts do not depend on withdrawn items, the set in force
and the minima; readers apply these.

Verdicts are a table of their own and not columns of the log. With 600,000 attempts a month, writing a night's verdicts
takes PostgreSQL .05 s in a table and .17 s in columns; reading a month .06 s and .10 s; joining a learner to the log
.11 ms and .02 ms; the size is 116 MB and 56 MB. With columns, each verdict would also be an UPDATE of the log, whose
`recorded_at` is the time at which an answer was written.

What does not belong here: the rules (see `eligibility`), and facts about attempts (see `facts`).
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

import ibis
import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
from psycopg.rows import class_row

from irt_assets.common.partitions import Month, day_bounds, day_of, month_of, spans
from irt_assets.responses.closed_months import rules_of_month, scales_of_month
from irt_assets.responses.columns import attempts_of, codes
from irt_assets.responses.eligibility.attempts import Attempts, judge
from irt_assets.responses.facts import COLUMNS, Bounds, abilities_start, facts_within, judged_columns, lookback_start
from irt_assets.responses.item_time import ItemTimes, ensure_item_times, times_of_day
from irt_assets.responses.window import with_outcome
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale, read_scales
from resources.cluster.relational import holds_log, on_postgres
from resources.postgres.database import Database, advisory_lock, first_column, named_rows, one_value
from resources.postgres.log_months import make_verdict_month
from resources.postgres.warehouse import copy_arrow, read_arrow

JUDGING_RULES = ("hinted", "lookback_months", "rapid_cap_ms", "rapid_min_times", "rapid_share")
"""The eligibility rules on which a verdict depends; the other eligibility rules are minima."""
US_PER_ATTEMPT = 35
"""Microseconds of one core for judging an attempt for the first time, including the database's share; measured by
`bench_verdicts`."""
DAY = timedelta(days=1)


@dataclass(frozen=True)
class JudgedDay:
    """Result of judging a day.

    Attributes:
        n: number of the day's verdicts.
        written: number of rows that were written or deleted.
        counts: number of verdicts by scale and reason ("scored": verdicts with a score).
    """

    day: date
    n: int
    written: int
    counts: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Fingerprint:
    """Counts and hashes of the data from which the verdicts of a day are made, as in the table `judged_day`.

    `rules` has three words: the hash of the rules of the day's month, the hash of the previous month's item times, and
    the hash of the month's answers up to the end of the day to items with too few times in the previous month.
    """

    day: date
    n: int = 0
    recorded_sum: int = 0
    revision_sum: int = 0
    test_accounts: str = ""
    items: str = ""
    rules: str = ""


@dataclass
class Learners:
    """The learners to judge on a day: everyone, or the learners with these ids and keys."""

    everyone: bool = False
    users: set[str] = field(default_factory=set)
    keys: set[int] = field(default_factory=set)


def rules_hash(rules: Rules) -> int:
    """The hash of the rules on which a verdict depends (`JUDGING_RULES`), as a signed number of 64 bits."""
    text = rules.eligibility.model_dump_json(include={*JUDGING_RULES})
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def days_that_differ(connection: psycopg.Connection, start: date, end: date) -> list[date]:
    """The days of [start, end) with attempts that were never judged, or whose fingerprint has changed since they were
    judged; oldest first."""
    return [fingerprint.day for fingerprint in _differing_fingerprints(connection, start, end)]


def judge_day(connection: psycopg.Connection, day: date) -> JudgedDay:
    """Judge every attempt of a day (UTC), and the attempts of other days that depend on it.

    Runs in the caller's transaction, after waiting for other transactions that judge. Writes only rows that change.
    """
    _lock(connection)
    ensure_item_times(connection, _month(day).previous)
    found = {fingerprint.day: fingerprint for fingerprint in _fingerprints(connection, day, day + DAY)}
    written = _judge(connection, found.get(day, Fingerprint(day)), Learners(everyone=True))
    [judged] = _judged_days(connection, {day: written[day]})
    return judged


def judge_differing(
    database: Database,
    start: date,
    end: date,
    report: Callable[[JudgedDay], object] | None = None,
    *,
    newest_first: bool = False,
) -> list[JudgedDay]:
    """Judge the days of [start, end) that differ from their verdicts (`days_that_differ`), oldest first.

    Each day is judged in a transaction, together with the attempts of other days that depend on it. If a day was judged
    before, only the learners of changed rows are judged again, or all learners if its rules or item times have changed.
    `report` is called with each day once it is committed. `newest_first`: days that were never judged come first,
    newest first. Returns the days that were judged, and other days of which verdicts were written.
    """
    with database.connect() as connection:
        for month in sorted({_month(start + n * DAY).previous for n in range((end - start).days)}):
            ensure_item_times(connection, month)
    with database.connect() as connection:
        differing = _differing_fingerprints(connection, start, end)
        learners = _learners_to_judge(connection, differing)
        if newest_first:
            new = {*days_without_verdicts(connection, _midnight(start), _midnight(end))}
            differing.sort(key=lambda x: -x.day.toordinal() if x.day in new else x.day.toordinal())
    found: dict[date, JudgedDay] = {}
    complete: list[date] = []
    for fingerprint in differing:
        day = fingerprint.day
        with database.connect() as connection:
            _lock(connection)
            if _stored_fingerprints(connection, day, day + DAY).get(day) == fingerprint:
                continue  # another process judged it while this one waited for the lock
            of_days = _judged_days(connection, _judge(connection, fingerprint, learners[day], complete))
        if learners[day].everyone:
            complete.append(day)
        for of_day in of_days:
            if report is not None:
                report(of_day)
            before = found[of_day.day].written if of_day.day in found else 0
            found[of_day.day] = replace(of_day, written=before + of_day.written)
    return [found[day] for day in sorted(found)]


def judge_missing(database: Database, start: datetime, end: datetime) -> None:
    """Judge the days of [start, end), two midnights, that have attempts and were never judged.

    For readers of a look-back. Other differences are left to the nightly runs, because finding them means reading the
    whole log of the period.
    """
    days = database.call(days_without_verdicts, start, end)
    for first, last in spans(day.isoformat() for day in days):
        judge_differing(database, date.fromisoformat(first), date.fromisoformat(last) + DAY)


def days_without_verdicts(connection: psycopg.Connection, start: datetime, end: datetime) -> list[date]:
    """The days of [start, end), two midnights, that have attempts and were never judged; oldest first."""
    return first_column(connection, _MISSING, (start, end - DAY))


def attempts_without_verdicts(connection: psycopg.Connection, now: datetime) -> tuple[int, int]:
    """Number of never-judged days in the look-back of abilities before `now`, and number of their attempts."""
    end = day_bounds(day_of(now))[0]
    days = days_without_verdicts(connection, abilities_start(end, read_scales(connection)), end)
    if not days:
        return 0, 0
    query = """SELECT count(*) FROM response_log WHERE completed_at >= %s AND completed_at < %s
               AND NOT EXISTS (SELECT FROM judged_day WHERE day = completed_at::date)"""
    return len(days), one_value(connection, query, (_midnight(days[0]), _midnight(days[-1] + DAY)))


_MISSING = """
    SELECT midnight::date FROM generate_series(%s::timestamptz, %s, interval '1 day') midnight
    WHERE NOT EXISTS (SELECT FROM judged_day WHERE day = midnight::date) AND EXISTS (
      SELECT FROM response_log WHERE completed_at >= midnight AND completed_at < midnight + interval '1 day')
    ORDER BY 1
"""


# -- fingerprints ----------------------------------------------------------------------------------


def _differing_fingerprints(connection: psycopg.Connection, start: date, end: date) -> list[Fingerprint]:
    """The present fingerprints of the days that differ from their verdicts, oldest first.

    A day without answers differs too if it has verdicts, unless PostgreSQL has dropped its log because a lake has it.
    """
    stored = _stored_fingerprints(connection, start, end)
    now = {fingerprint.day: fingerprint for fingerprint in _fingerprints(connection, start, end)}
    deleted = holds_log(connection, _midnight(start), _midnight(end))
    without_answers = {day: Fingerprint(day) for day in stored if deleted and day not in now}
    present = sorted({**without_answers, **now}.items())
    return [fingerprint for day, fingerprint in present if stored.get(day) != fingerprint]


def _stored_fingerprints(connection: psycopg.Connection, start: date, end: date) -> dict[date, Fingerprint]:
    query = """SELECT day, n, recorded_sum, revision_sum, test_accounts, items, rules FROM judged_day
               WHERE day >= %s AND day < %s"""
    found = connection.cursor(row_factory=class_row(Fingerprint)).execute(query, (start, end))
    return {fingerprint.day: fingerprint for fingerprint in found}


_FINGERPRINTS = """
    WITH by_item AS MATERIALIZED (
      SELECT midnight::date AS day, g.*, scale_id, max_score
      FROM (
        SELECT date_bin('1 day', completed_at, timestamptz 'epoch') AS midnight, item_id, count(*) AS n,
               sum((date_part('epoch', recorded_at) * 1000000)::bigint) AS recorded, sum(revision) AS revision,
               'seeds ' || sum(draw_id) AS seeds
        FROM response_log LEFT JOIN seed_draw USING (session_id, item_id, user_id)
        WHERE completed_at >= %(first)s AND completed_at < %(end)s GROUP BY 1, 2
      ) g LEFT JOIN question USING (item_id)
    ), few AS (
      SELECT b.*, coalesce(r.least, %(usual)s) AS least
      FROM by_item b
      LEFT JOIN unnest(%(scales)s::text[], %(least)s::bigint[]) r (scale_id, least)
        ON r.scale_id = coalesce(b.scale_id, 'default')
      LEFT JOIN item_time t ON t.item_id = b.item_id AND t.month = %(before)s
      WHERE coalesce(t.n, 0) < coalesce(r.least, %(usual)s)
    ), until AS (
      SELECT day, sum(n) OVER w >= least AS is_new,
             concat_ws(' ', item_id, sum(n) OVER w, sum(recorded) OVER w, sum(revision) OVER w) AS answers
      FROM few WINDOW w AS (PARTITION BY item_id ORDER BY day)
    ), new AS (
      SELECT day, sum(hashtextextended(answers, 0))::text AS answers FROM until WHERE is_new GROUP BY 1
    ), flagged AS (
      SELECT completed_at::date AS day, sum(DISTINCT hashtextextended(user_id, 0))::text AS test_accounts
      FROM response_log JOIN learner USING (user_id)
      WHERE is_test AND completed_at >= %(start)s AND completed_at < %(end)s GROUP BY 1
    )
    SELECT day, sum(n)::bigint AS n, sum(recorded) AS recorded_sum, sum(revision) AS revision_sum,
           coalesce(min(test_accounts), '') AS test_accounts,
           sum(hashtextextended(concat_ws(chr(31), item_id, scale_id, max_score, seeds), 0))::text AS items,
           array_agg(DISTINCT coalesce(scale_id, 'default')) AS scales, coalesce(min(answers), '0') AS answers
    FROM by_item LEFT JOIN flagged USING (day) LEFT JOIN new USING (day)
    WHERE day >= %(start)s::date GROUP BY day ORDER BY day
"""
_TIMES = """
    SELECT month, md5(string_agg(concat_ws(' ', item_id, median_ms, n), E'\\n' ORDER BY item_id COLLATE "C"))
    FROM item_time WHERE month = ANY(%s) GROUP BY month
"""


def _fingerprints(connection: psycopg.Connection, start: date, end: date) -> list[Fingerprint]:
    """The fingerprint of each day of [start, end) with attempts, from one query per month of the log.

    They are read before the attempts are: answers that are committed in between make the day differ again.
    """
    months = sorted({_month(start + n * DAY) for n in range((end - start).days)})
    times: dict[str, str] = dict(connection.execute(_TIMES, ([month.previous for month in months],)).fetchall())
    found = []
    for month in months:
        rules = rules_of_month(connection, month)
        values = {"first": month.start, "start": max(month.start, _midnight(start))}
        values |= {"end": min(month.end, _midnight(end))} | _least(month, rules)
        for row in named_rows(connection, _FINGERPRINTS, values):
            hashes = {scale: rules_hash(rules.get(scale, Rules())) for scale in sorted(row.pop("scales"))}
            words = (_hash(hashes.items()), times.get(month.previous, "none"), row.pop("answers"))
            found.append(Fingerprint(**row, rules=" ".join(words)))
    return found


def _least(month: Month, rules: Mapping[str, Rules]) -> dict[str, Any]:
    """Query parameters: the number of item times in the previous month that each scale's rules require."""
    least = [scale_rules.eligibility.rapid_min_times for scale_rules in rules.values()]
    usual = Rules().eligibility.rapid_min_times
    return {"before": month.previous, "scales": [*rules], "least": least, "usual": usual}


def _hash(values: Iterable[object]) -> str:
    return hashlib.sha256("\n".join(map(str, values)).encode()).hexdigest()[:16]


# -- who is judged again ---------------------------------------------------------------------------

_CHANGED = """
    WITH log AS (
      SELECT r.attempt_id, r.completed_at, r.user_id, r.item_id, r.recorded_at, r.mode, l.is_test, q.scale_id,
             CASE WHEN q.max_score > 1 THEN q.max_score END AS max_score, draw_id IS NOT NULL AS is_seed
      FROM response_log r LEFT JOIN learner l USING (user_id) LEFT JOIN question q ON q.item_id = r.item_id
      LEFT JOIN seed_draw s ON (s.session_id, s.item_id, s.user_id) = (r.session_id, r.item_id, r.user_id)
      WHERE r.completed_at >= %(start)s AND r.completed_at < %(end)s AND r.completed_at::date = ANY(%(days)s)
    ), verdict AS (
      SELECT * FROM attempt_verdict
      WHERE completed_at >= %(start)s AND completed_at < %(end)s AND completed_at::date = ANY(%(days)s)
    )
    SELECT DISTINCT completed_at::date AS day, log.user_id, v.learner_key
    FROM log FULL JOIN verdict v USING (attempt_id, completed_at)
    LEFT JOIN unnest(%(scales)s::text[], %(least)s::bigint[]) r (scale_id, least)
      ON r.scale_id = coalesce(log.scale_id, 'default')
    LEFT JOIN item_time t ON t.item_id = log.item_id AND t.month = %(before)s
    WHERE v.recorded_at IS DISTINCT FROM log.recorded_at
       OR v.scale_id IS DISTINCT FROM coalesce(log.scale_id, 'default')
       OR v.max_score IS DISTINCT FROM log.max_score
       OR log.scale_id IS NULL AND coalesce(v.reason NOT IN ('sandbox', 'test_account', 'unusable'), true)
       OR log.scale_id IS NOT NULL AND v.reason = 'unusable'
       OR log.mode = 'live' AND coalesce(v.reason = 'test_account', false) <> coalesce(log.is_test, false)
       OR coalesce(v.reason, 'seed') = 'seed' AND (v.reason IS NULL) = log.is_seed
       OR completed_at::date = ANY(%(new_times)s) AND coalesce(t.n, 0) < coalesce(r.least, %(usual)s)
"""


def _learners_to_judge(connection: psycopg.Connection, differing: Sequence[Fingerprint]) -> dict[date, Learners]:
    """Day → the learners to judge, for the days of `differing`, oldest first.

    These are all learners if the day was never judged, or if its rules or the previous month's item times have changed.
    Otherwise they are the learners of changed rows, and of answers to items whose times in the day's own month have
    changed.
    """
    whom, new_times = {}, []
    stored = _stored_fingerprints(connection, differing[0].day, differing[-1].day + DAY) if differing else {}
    for fingerprint in differing:
        before = stored.get(fingerprint.day, Fingerprint(fingerprint.day))
        was, now = before.rules.split(), fingerprint.rules.split()
        whom[fingerprint.day] = Learners(everyone=was[:2] != now[:2] and fingerprint.n > 0)
        if was[2:] != now[2:]:
            new_times.append(fingerprint.day)
    by_month: dict[Month, list[date]] = defaultdict(list)
    for day, learners in whom.items():
        if not learners.everyone:
            by_month[_month(day)].append(day)
    for month, days in by_month.items():
        values = {
            "start": _midnight(min(days)),
            "end": _midnight(max(days) + DAY),
            "days": days,
            "new_times": new_times,
        }
        values |= _least(month, rules_of_month(connection, month))
        for day, user, key in connection.execute(_CHANGED, values):
            if user is not None:
                whom[day].users.add(user)
            if key is not None:
                whom[day].keys.add(key)
    return whom


# -- judging ---------------------------------------------------------------------------------------

_ATTEMPT = f"SELECT {', '.join((*COLUMNS, 'recorded_at'))} FROM attempt"
_STAGED = f"""
    CREATE TEMPORARY TABLE IF NOT EXISTS judged_learner (user_id text, learner_key bigint) ON COMMIT DROP;
    CREATE TEMPORARY TABLE IF NOT EXISTS judged_attempt ON COMMIT DROP AS {_ATTEMPT} WITH NO DATA;
    CREATE TEMPORARY TABLE IF NOT EXISTS new_verdict (
      attempt_id text, completed_at timestamptz, user_id text, item_id text, scale_id text, reason text,
      score smallint, max_score smallint, rules_hash bigint, recorded_at timestamptz) ON COMMIT DROP;
    CREATE TEMPORARY TABLE IF NOT EXISTS changed_pair (user_id text, item_id text) ON COMMIT DROP;
    TRUNCATE judged_learner, judged_attempt, new_verdict, changed_pair
"""
_ALL_LEARNERS = "SELECT DISTINCT user_id FROM response_log WHERE completed_at >= %(start)s AND completed_at < %(end)s"
_MAKE_LEARNERS = """
    INSERT INTO learner (user_id) SELECT user_id FROM unnest(%(users)s::text[]) u (user_id)
    WHERE NOT EXISTS (SELECT FROM learner l WHERE l.user_id = u.user_id) ORDER BY 1 ON CONFLICT DO NOTHING
"""
_KEYS = "UPDATE learner SET learner_key = DEFAULT WHERE learner_key IS NULL"
_STAGE_LEARNERS = """
    INSERT INTO judged_learner SELECT l.user_id, coalesce(l.learner_key, k.learner_key)
    FROM (SELECT * FROM learner WHERE user_id = ANY(%(users)s) OR learner_key = ANY(%(keys)s)) l
    FULL JOIN unnest(%(keys)s::bigint[]) k (learner_key) ON k.learner_key = l.learner_key
"""
_STAGE_DAY = """
    INSERT INTO judged_learner SELECT DISTINCT user_id, learner_key FROM response_log LEFT JOIN learner USING (user_id)
    WHERE completed_at >= %(start)s AND completed_at < %(end)s
"""
_STAGE_ATTEMPTS = f"""
    INSERT INTO judged_attempt {_ATTEMPT}
    WHERE user_id IN (SELECT user_id FROM judged_learner)
      AND completed_at >= %(lookback)s AND completed_at < %(after)s
"""
_OLD_OF_ALL = "SELECT * FROM attempt_verdict WHERE completed_at >= %(start)s AND completed_at < %(end)s"
_OLD_OF_SOME = f"{_OLD_OF_ALL} AND learner_key IN (SELECT learner_key FROM judged_learner)"
_CHANGED_PAIRS = """
    WITH old AS (SELECT v.*, l.user_id FROM ({old}) v LEFT JOIN learner l USING (learner_key)),
    changed AS (
      SELECT old.user_id AS was, n.user_id AS is_now, old.item_id AS was_item, n.item_id
      FROM old FULL JOIN new_verdict n USING (attempt_id, completed_at)
      WHERE (old.recorded_at, old.item_id, old.user_id) IS DISTINCT FROM (n.recorded_at, n.item_id, n.user_id))
    INSERT INTO changed_pair
    SELECT was, was_item FROM changed WHERE was IS NOT NULL
    UNION SELECT is_now, item_id FROM changed WHERE is_now IS NOT NULL
"""
_SAME = """
    (v.learner_key, v.item_id, v.scale_id, v.reason, v.score, v.max_score, v.rules_hash, v.recorded_at)
    IS NOT DISTINCT FROM
    (l.learner_key, n.item_id, n.scale_id, n.reason, n.score, n.max_score, n.rules_hash, n.recorded_at)
"""
_RULES_ALONE = f"""
    UPDATE attempt_verdict d SET rules_hash = n.rules_hash, judged_at = now()
    FROM ({{old}}) v JOIN new_verdict n USING (attempt_id, completed_at) JOIN judged_learner l USING (user_id)
    WHERE d.attempt_id = v.attempt_id AND d.completed_at = v.completed_at
      AND d.completed_at >= %(start)s AND d.completed_at < %(end)s AND v.rules_hash <> n.rules_hash
      AND {_SAME.replace("v.rules_hash, ", "").replace("n.rules_hash, ", "")}
"""
_DELETE = f"""
    DELETE FROM attempt_verdict d USING ({{old}}) v
    WHERE d.attempt_id = v.attempt_id AND d.completed_at = v.completed_at
      AND d.completed_at >= %(start)s AND d.completed_at < %(end)s AND NOT EXISTS (
        SELECT FROM new_verdict n JOIN judged_learner l USING (user_id)
        WHERE n.attempt_id = v.attempt_id AND n.completed_at = v.completed_at AND {_SAME})
"""
_INSERT = """
    INSERT INTO attempt_verdict (attempt_id, completed_at, learner_key, item_id, scale_id, reason, score, max_score,
                                 rules_hash, recorded_at, judged_at)
    SELECT n.attempt_id, n.completed_at, l.learner_key, n.item_id, n.scale_id, n.reason, n.score, n.max_score,
           n.rules_hash, n.recorded_at, now()
    FROM new_verdict n JOIN judged_learner l USING (user_id)
    WHERE NOT EXISTS (SELECT FROM attempt_verdict v WHERE v.attempt_id = n.attempt_id
                      AND v.completed_at = n.completed_at
                      AND v.completed_at >= %(start)s AND v.completed_at < %(end)s)
"""
_DIFFERING = f"""
    SELECT count(*)
    FROM ({_OLD_OF_ALL}) v
    FULL JOIN (new_verdict n JOIN judged_learner l USING (user_id)) USING (attempt_id, completed_at)
    WHERE NOT ({_SAME})
"""
_FOLLOWING = """
    WITH followed AS (
      SELECT r.completed_at::date AS day, r.user_id, r.item_id
      FROM (SELECT DISTINCT user_id FROM changed_pair) c JOIN response_log r USING (user_id)
      WHERE r.completed_at >= %(before)s AND r.completed_at < %(until)s
        AND NOT (r.completed_at >= %(start)s AND r.completed_at < %(end)s)
    ), met AS (
      SELECT user_id, item_id FROM changed_pair
      UNION
      SELECT o.user_id, o.item_id FROM (SELECT DISTINCT user_id FROM followed) f JOIN response_log o USING (user_id)
      WHERE o.completed_at >= %(since)s AND o.completed_at < %(until)s
        AND o.correct IS NULL AND o.form_id IS NOT NULL
    )
    SELECT DISTINCT day, user_id FROM followed JOIN met USING (user_id, item_id) JOIN judged_day USING (day)
"""
_COUNTS = """
    SELECT day, scale_id, coalesce(reason, 'scored') AS reason, count(*) AS n
    FROM unnest(%s::date[]) day JOIN attempt_verdict ON completed_at >= day AND completed_at < day + interval '1 day'
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def _judge(
    connection: psycopg.Connection, fingerprint: Fingerprint, learners: Learners, complete: Collection[date] = ()
) -> dict[date, int]:
    """Judge some learners of a day, and their attempts on other judged days that the changes affect.

    The other days are later days, on which an attempt may become or cease to be a repeat, and the day before, on which
    an unanswered item of an exam may become or cease to be an omission. `complete`: days whose learners were all judged
    after the fingerprint was taken. They are not judged again if the day's log has not changed since, because their
    verdicts take account of it already. Returns day → number of rows written or deleted, for this day and for other
    days if not zero.
    """
    written: dict[date, int] = {}
    to_do = {fingerprint.day: learners}
    while to_do:
        day = min(to_do)
        written[day] = written.get(day, 0) + _judge_learners(connection, day, to_do.pop(day))
        known = complete if day == fingerprint.day and _has_answers_of(connection, fingerprint) else ()
        for other, user in _affected_learners(connection, day):
            if other not in known:
                to_do.setdefault(other, Learners()).users.add(user)
    _store_fingerprint(connection, fingerprint)
    touched = [day for day, n in written.items() if n]
    connection.execute("UPDATE judged_day SET judged_at = clock_timestamp() WHERE day = ANY(%s)", (touched,))
    return {day: written[day] for day in {fingerprint.day, *touched}}


def _judge_learners(connection: psycopg.Connection, day: date, learners: Learners) -> int:
    """Judge the attempts of some learners on a day, and write the learner and item of each change to `changed_pair`.

    Returns the number of rows written or deleted. A verdict of which only the hash of its rules changes is not counted.
    """
    start, end = day_bounds(day.isoformat())
    values = {"start": start, "end": end, "keys": [*learners.keys]}
    connection.execute(_STAGED)
    users = first_column(connection, _ALL_LEARNERS, values) if learners.everyone else [*learners.users]
    values["users"] = users
    for statement in (_MAKE_LEARNERS, _KEYS, _STAGE_LEARNERS, "ANALYZE judged_learner"):
        connection.execute(statement, values)
    scales = scales_of_month(connection, _month(day))
    copy_arrow(connection, "new_verdict", _verdicts(connection, day, scales))
    connection.execute("ANALYZE new_verdict")
    old = _OLD_OF_ALL if learners.everyone else _OLD_OF_SOME
    connection.execute(_CHANGED_PAIRS.format(old=old), values)
    make_verdict_month(connection, _month(day))
    if learners.everyone:
        connection.execute(_RULES_ALONE.format(old=old), values)
    deleted = connection.execute(_DELETE.format(old=old), values).rowcount
    return max(deleted, connection.execute(_INSERT, values).rowcount)


def stage_verdicts(connection: psycopg.Connection, day: date, scales: Mapping[str, Scale]) -> None:
    """Judge every attempt of a day by the rules of `scales` instead of the month's, without storing the verdicts.

    Writes the verdicts to the temporary table new_verdict, and the learners to judged_learner.
    """
    start, end = day_bounds(day.isoformat())
    connection.execute(_STAGED)
    connection.execute(_STAGE_DAY, {"start": start, "end": end})
    connection.execute("ANALYZE judged_learner")
    copy_arrow(connection, "new_verdict", _verdicts(connection, day, scales))


def count_differing_verdicts(connection: psycopg.Connection, day: date) -> int:
    """Judge a day again, store nothing, and count the verdicts that are missing, different or in excess."""
    stage_verdicts(connection, day, scales_of_month(connection, _month(day)))
    start, end = day_bounds(day.isoformat())
    return one_value(connection, _DIFFERING, {"start": start, "end": end})


def _verdicts(connection: psycopg.Connection, day: date, scales: Mapping[str, Scale]) -> pa.Table:
    """The verdicts on a day's attempts of the learners in `judged_learner`: the columns of `new_verdict`."""
    start, end = day_bounds(day.isoformat())
    bounds = Bounds.from_window(start, end, scales)._asdict()
    # A temporary table with statistics: on the log, the planner would read a learner's answers again for each item.
    connection.execute(_STAGE_ATTEMPTS, bounds)
    connection.execute("ANALYZE judged_attempt")
    found = read_arrow(connection, _facts(tuple(scales.values())), bounds)
    rules_of = {scale_id: scale.rules for scale_id, scale in scales.items()}
    times = times_of_day(connection, day, found["item_id"].unique().to_pylist(), rules_of)
    code, score = (np.full(found.num_rows, -1, dtype=np.int8) for _ in range(2))
    hashes = np.zeros(found.num_rows, dtype=np.int64)
    for part in _attempts_by_scale(found, found["scale_id"].unique().to_pylist(), times):
        rules = rules_of.get(part.scale_id, Rules())
        judgement = judge(part.attempts, rules, min_learner=False, min_item=False)
        code[part.rows], score[part.rows], hashes[part.rows] = judgement.code, judgement.score, rules_hash(rules)
    max_score = found["max_score"] if "max_score" in found.column_names else pa.nulls(found.num_rows, pa.int64())
    found = found.select(["id", "completed_at", "user_id", "item_id", "scale_id", "recorded_at"])
    found = found.rename_columns(["attempt_id", *found.column_names[1:]])
    found = with_outcome(found, code, score).append_column("max_score", max_score)
    return found.append_column("rules_hash", pa.array(hashes))


@dataclass(frozen=True)
class _ScaleAttempts:
    """The attempts of a scale. `rows`: their indices in the table; `items`: ids by the codes of `attempts`."""

    scale_id: str
    rows: npt.NDArray[np.intp]
    items: npt.NDArray[np.object_]
    attempts: Attempts


def _attempts_by_scale(found: pa.Table, scales: Iterable[str], times: ItemTimes) -> Iterator[_ScaleAttempts]:
    """Yield the attempts of each of `scales` among the rows of `found`, which has the columns that the rules read."""
    scale_of_row, present = codes(found["scale_id"])
    rows_of = {scale_id: np.flatnonzero(scale_of_row == code) for code, scale_id in enumerate(present.tolist())}
    del scale_of_row
    facts = found.select(["user_id", "item_id", *judged_columns(found.column_names)])
    for scale_id in scales:
        rows = rows_of.get(scale_id, np.empty(0, dtype=np.intp))
        part = facts if rows.size == found.num_rows else facts.take(pa.array(rows))
        item, items = codes(part["item_id"])
        yield _ScaleAttempts(
            scale_id, rows, items, attempts_of(part, codes(part["user_id"])[0], item, *times.lookup(items))
        )


@cache
def _facts(scales: tuple[Scale, ...]) -> str:
    """The query for the facts of `judged_attempt`, with its bounds as parameters.

    Cached, because building it takes longer than reading the facts of a few learners.
    """
    bounds = Bounds(*(ibis.literal(f":{name}").cast("timestamp('UTC')") for name in Bounds._fields))
    facts = facts_within(bounds, {scale.scale_id: scale for scale in scales}, "recorded_at")
    query = on_postgres.sql(facts).replace("%", "%%")
    for name in Bounds._fields:
        query = query.replace(f"':{name}'", f"%({name})s")
    return f"WITH attempt AS NOT MATERIALIZED (SELECT * FROM judged_attempt) SELECT * FROM ({query}) facts"


def _has_answers_of(connection: psycopg.Connection, fingerprint: Fingerprint) -> bool:
    """Whether `new_verdict` contains the same answers as the log from which the fingerprint was made."""
    query = """SELECT count(*), coalesce(sum((date_part('epoch', recorded_at) * 1000000)::bigint), 0)
               FROM new_verdict"""
    return connection.execute(query).fetchone() == (fingerprint.n, fingerprint.recorded_sum)


def _affected_learners(connection: psycopg.Connection, day: date) -> list[tuple[date, str]]:
    """Other judged days, and learners whose attempts on them depend on the changes of a day (`changed_pair`)."""
    judged = "SELECT max(day) FROM judged_day WHERE day >= %s AND day <> %s"
    last = one_value(connection, judged, (day - DAY, day))
    if last is None:
        return []
    start, end = day_bounds(day.isoformat())
    since = lookback_start(start - DAY, scales_of_month(connection, _month(day)))
    values = {"start": start, "end": end, "before": start - DAY, "until": _midnight(last + DAY), "since": since}
    connection.execute("ANALYZE changed_pair")
    return connection.execute(_FOLLOWING, values).fetchall()


def _store_fingerprint(connection: psycopg.Connection, fingerprint: Fingerprint) -> None:
    connection.execute(
        """INSERT INTO judged_day (day, n, recorded_sum, revision_sum, test_accounts, items, rules, judged_at)
           VALUES (%(day)s, %(n)s, %(recorded_sum)s, %(revision_sum)s, %(test_accounts)s, %(items)s, %(rules)s, now())
           ON CONFLICT (day) DO UPDATE SET (n, recorded_sum, revision_sum, test_accounts, items, rules) =
             (excluded.n, excluded.recorded_sum, excluded.revision_sum, excluded.test_accounts, excluded.items,
              excluded.rules)""",
        asdict(fingerprint),
    )


def _judged_days(connection: psycopg.Connection, written: Mapping[date, int]) -> list[JudgedDay]:
    """The stored verdicts of days as counts, in order of the days."""
    counts: dict[date, dict[str, dict[str, int]]] = {day: {} for day in sorted(written)}
    for row in named_rows(connection, _COUNTS, ([*counts],)):
        counts[row["day"]].setdefault(row["scale_id"], {})[row["reason"]] = row["n"]
    n = {day: sum(sum(of_scale.values()) for of_scale in of_day.values()) for day, of_day in counts.items()}
    return [JudgedDay(day, n[day], written[day], of_day) for day, of_day in counts.items()]


def _lock(connection: psycopg.Connection) -> None:
    """Let only one transaction judge at a time, because judging one day can change verdicts of others."""
    advisory_lock(connection, "attempt_verdict")


def _month(day: date) -> Month:
    return month_of(_midnight(day))


def _midnight(day: date) -> datetime:
    return day_bounds(day.isoformat())[0]

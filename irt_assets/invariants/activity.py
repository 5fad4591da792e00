"""Invariants of what learners did: daily features and weekly KPIs."""

from __future__ import annotations

from datetime import timedelta

from irt_assets.invariants.invariant import Found, Look, NotTested, Violation, invariant
from irt_assets.kpis.record import RANGES

SETTLED_AFTER = timedelta(hours=6)
"""Features of a day are made soon after it; before that its absence says nothing."""


@invariant(
    severity="error",
    kind="days",
    protects="No answer is lost and none is counted twice: a day's features hold every live answer of the day.",
    fix="Materialise `features_topic_daily` of the day again.",
    told_by_checks=True,
)
def features_conserve_attempts(look: Look) -> Found:
    row = look.connection.execute("SELECT min(date) FROM features_topic_daily").fetchone()
    if row is None or row[0] is None:
        yield NotTested("no daily features have been computed yet")
        return
    rows = look.connection.execute(
        """WITH logged AS (
             SELECT (a.completed_at AT TIME ZONE 'UTC')::date AS date, count(*) AS n
             FROM attempt a LEFT JOIN learner l USING (user_id)
             WHERE a.mode = 'live' AND a.correct IS NOT NULL AND NOT coalesce(l.is_test, false)
               AND a.completed_at >= %(first)s::date::timestamp AT TIME ZONE 'UTC'
               AND a.completed_at < date_trunc('day', %(until)s AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
             GROUP BY 1
           ), stored AS (
             SELECT date, sum(attempts) AS n FROM features_topic_daily
             WHERE date < (%(until)s AT TIME ZONE 'UTC')::date GROUP BY 1
           )
           SELECT date, coalesce(s.n, 0), coalesce(l.n, 0) FROM logged l FULL JOIN stored s USING (date)
           WHERE coalesce(s.n, 0) <> coalesce(l.n, 0) ORDER BY 1""",
        {"first": row[0], "until": look.now - SETTLED_AFTER},
    ).fetchall()
    for day, stored, logged in rows:
        yield Violation(f"{day}", f"{stored:,} answers in the features", f"{logged:,}, as in the log", f"{day}")


@invariant(
    severity="error",
    kind="learners",
    protects="Every KPI is there, in its range, or empty with a reason: nobody acts on a number that means nothing.",
    fix="Materialise `weekly_kpi` of the week again; if it stays so, report it as a bug.",
    told_by_checks=True,
)
def kpis_are_whole(look: Look) -> Found:
    row = look.connection.execute("SELECT EXISTS (SELECT 1 FROM weekly_kpi)").fetchone()
    if row is None or not row[0]:
        yield NotTested("no weekly KPIs have been computed yet")
        return
    limits = ", ".join(f"('{name}', {low}, {high})" for name, (low, high) in RANGES.items())
    rows = look.connection.execute(
        f"""SELECT user_id, week_start, string_agg(said, ', ' ORDER BY said) FROM (
              SELECT user_id, week_start, CASE
                WHEN NOT kpis ? name THEN name || ' is missing'
                WHEN jsonb_typeof(kpis->name) = 'null' AND coalesce(kpis->'why'->>name, '') = ''
                  THEN name || ' is empty without a reason'
                WHEN jsonb_typeof(kpis->name) NOT IN ('null', 'number') THEN name || ' is no number'
                WHEN jsonb_typeof(kpis->name) = 'number' AND NOT (kpis->>name)::float8 BETWEEN low AND high
                  THEN name || ' = ' || (kpis->>name) END AS said
              FROM weekly_kpi CROSS JOIN (VALUES {limits}) AS wanted (name, low, high)) found
            WHERE said IS NOT NULL GROUP BY 1, 2 ORDER BY 2, 1""".encode()
    ).fetchall()
    for user, week, said in rows:
        yield Violation(user, said, "six keys, I_t from −1 to 1 and the others from 0 to 1", f"{week}")

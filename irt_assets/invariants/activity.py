"""Invariants of what learners did: daily features and weekly KPIs."""

from datetime import UTC, datetime, time, timedelta

from irt_assets.features.checks import unconserved
from irt_assets.invariants.invariant import Found, InvariantContext, NotTested, Violation, invariant
from irt_assets.kpis.meaning import RANGES
from resources.postgres.database import one_value

SETTLED_AFTER = timedelta(hours=6)
"""Features of a day are made soon after it; before that its absence says nothing."""


@invariant(
    kind="days",
    protects="No answer is lost and none is counted twice: a day's features hold every live answer of the day.",
    fix="Materialise `features_topic_daily` of the day again.",
    alerted_by_checks=True,
)
def features_conserve_attempts(look: InvariantContext) -> Found:
    first_day = one_value(look.connection, "SELECT min(date) FROM features_topic_daily")
    if first_day is None:
        yield NotTested("no daily features have been computed yet")
        return
    first, settled = (
        datetime.combine(day, time(), UTC) for day in (first_day, (look.now - SETTLED_AFTER).astimezone(UTC).date())
    )
    for day, (stored, logged) in unconserved(look.connection, first, settled).items():
        yield Violation(day, f"{stored:,} answers in the features", f"{logged:,}, as in the log", day)


@invariant(
    kind="learners",
    protects="Every KPI is present and in its range, or empty with a reason, so that no decision rests on nonsense.",
    fix="Materialise `weekly_kpi` of the week again; if it stays so, report it as a bug.",
    alerted_by_checks=True,
)
def kpis_are_whole(look: InvariantContext) -> Found:
    if not one_value(look.connection, "SELECT EXISTS (SELECT 1 FROM weekly_kpi)"):
        yield NotTested("no weekly KPIs have been computed yet")
        return
    limits = ", ".join(f"('{name}', {low}, {high})" for name, (low, high) in RANGES.items())
    rows = look.connection.execute(
        f"""SELECT user_id, week_start, string_agg(fault, ', ' ORDER BY fault) FROM (
              SELECT user_id, week_start, CASE
                WHEN NOT kpis ? name THEN name || ' is missing'
                WHEN jsonb_typeof(kpis->name) = 'null' AND coalesce(kpis->'why'->>name, '') = ''
                  THEN name || ' is empty without a reason'
                WHEN jsonb_typeof(kpis->name) NOT IN ('null', 'number') THEN name || ' is not a number'
                WHEN jsonb_typeof(kpis->name) = 'number' AND NOT (kpis->>name)::float8 BETWEEN low AND high
                  THEN name || ' = ' || (kpis->>name) END AS fault
              FROM weekly_kpi CROSS JOIN (VALUES {limits}) AS wanted (name, low, high)) found
            WHERE fault IS NOT NULL GROUP BY 1, 2 ORDER BY 2, 1""".encode()
    ).fetchall()
    for user, week, faults in rows:
        yield Violation(user, faults, "six keys, I_t from −1 to 1 and the others from 0 to 1", f"{week}")

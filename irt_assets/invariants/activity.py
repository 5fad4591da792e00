"""Invariants of learners' activity: the grades of answers, their verdicts, daily features and weekly KPIs."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, time, timedelta

from irt_assets.common.partitions import spans
from irt_assets.common.wording import quantity, some_of
from irt_assets.features.checks import days_with_wrong_counts
from irt_assets.invariants.invariant import Findings, InvariantContext, NotTested, Violation, invariant
from irt_assets.invariants.open_violations import open_partitions
from irt_assets.kpis.kpi_definitions import RANGES
from irt_assets.responses.verdicts import count_differing_verdicts, days_that_differ
from irt_assets.scales.item_keys import RIGHT, Key, key_in_words
from resources.cluster.relational import holds_log
from resources.postgres.database import first_column, one_value

SUNDAY = 6
FEATURES_DUE_AFTER = timedelta(hours=6)
"""Time after a day by which its features must exist."""
DAYS_AT_ONCE = 28
"""Number of days that are judged again by an evaluation: a year's days in two weeks, at about .3 s each."""
MAX_GRADES = 1_000_000
"""Approximate number of answers whose grades are compared on a day that is not a Sunday."""
MIN_WRONG = 200
"""Consecutive wrong answers after which a key that nobody has chosen is a violation. If one learner in ten is right,
the probability of 200 wrong answers is .9^200 = 7e-10."""
MAX_CHOICES = 5
GRADED_ANSWERS = f"""
    SELECT r.item_id, q.scale_id, q.meta->'key' AS key, coalesce(q.max_score, 1) AS most,
           NOT EXISTS (SELECT FROM attempt_correction c
                       WHERE (c.attempt_id, c.how, c.corrected_at) = (r.attempt_id, 'rescore', r.recorded_at))
           AND CASE WHEN jsonb_exists(q.meta, 'key') THEN r.correct <> chose_key
                    ELSE r.score > coalesce(q.max_score, 1)
                         OR (r.correct IS TRUE) <> (r.score = coalesce(q.max_score, 1)) END AS differs, chose_key
    FROM {{answers}} JOIN question q USING (item_id)
    CROSS JOIN LATERAL (SELECT {RIGHT.format(key="(q.meta->'key')", response="r.response")}) c (chose_key)
    WHERE CASE WHEN jsonb_exists(q.meta, 'key') THEN r.response IS NOT NULL AND r.correct IS NOT NULL
               ELSE r.score IS NOT NULL END
"""
"""Query of the answers that a key or a maximum score grades, with whether their stored grade differs."""
LOG = "response_log r"  # no sample can be drawn from the view `attempt`


@invariant(
    kind="days",
    protects="Each verdict follows from the answer, the account, the bank and the rules of the scale, because months, "
    "abilities and KPIs read verdicts.",
    fix="Materialise `judged_attempts` of the day, which writes the verdicts that differ, and then the month and the "
    "weeks that read them. Find out who changed the table: only the platform writes it.",
    note=f"An evaluation judges {DAYS_AT_ONCE} consecutive days again, in turn, and every day with an open violation. "
    "Days whose answers have changed since are left to the job `judge_attempts`.",
)
def verdicts_follow_from_answers_and_rules(context: InvariantContext) -> Findings:
    judged = first_column(context.connection, "SELECT day FROM judged_day ORDER BY day")
    if not judged:
        yield NotTested("no day has been judged yet")
        return
    turn = context.now.toordinal() % -(-len(judged) // DAYS_AT_ONCE)
    days = {
        *judged[turn * DAYS_AT_ONCE : (turn + 1) * DAYS_AT_ONCE],
        *map(date.fromisoformat, open_partitions(context.connection, verdicts_follow_from_answers_and_rules.name)),
    }
    waiting = {
        day
        for first, last in spans(map(str, days))  # a fingerprint reads the month up to its day
        for day in days_that_differ(
            context.connection, date.fromisoformat(first), date.fromisoformat(last) + timedelta(days=1)
        )
    }
    for day in sorted(days):
        start = datetime.combine(day, time(), UTC)
        if not holds_log(context.connection, start, start + timedelta(days=1)):
            yield NotTested(f"PostgreSQL no longer has the answers of {day}", f"{day}")
        elif day in waiting:
            yield NotTested(f"{day} waits for the job judge_attempts", f"{day}")
        elif n := count_differing_verdicts(context.connection, day):
            yield Violation(
                f"{day}", f"{quantity(n, 'verdict')} would differ if the day was judged again", "none", f"{day}"
            )


@invariant(
    kind="days",
    protects="No answer is lost and none is counted twice: a day's features hold every live answer of the day.",
    fix="Materialise `features_topic_daily` of the day again.",
    alerted_by_checks=True,
)
def features_conserve_attempts(context: InvariantContext) -> Findings:
    first_day = one_value(context.connection, "SELECT min(date) FROM features_topic_daily")
    if first_day is None:
        yield NotTested("no daily features have been computed yet")
        return
    first, last_day = (
        datetime.combine(day, time(), UTC)
        for day in (first_day, (context.now - FEATURES_DUE_AFTER).astimezone(UTC).date())
    )
    for day, (stored, logged) in days_with_wrong_counts(context.connection, first, last_day).items():
        yield Violation(day, f"{stored:,} answers in the features", f"{logged:,}, as in the log", day)


@invariant(
    kind="items",
    protects="An answer is right if it chose the item's key or has the item's maximum score, by the bank's values.",
    fix="Score the item's answers again (`irt items rekey ITEM --key OPTION`, which also corrects the bank's key), or "
    "correct the bank (`irt import questions`), which leaves stored answers as they are; answers with points are "
    "imported again with a higher revision.",
    note="Answers with a stored choice to items with a key are compared, and answers with a score to items without a "
    "key: about a million a day, and all of them on Sundays. Answers whose grade a person corrected last are left "
    "out. A key that nobody has chosen (choices are written differently, "
    f"or the key belongs to another item) is reported with the chosen options after {MIN_WRONG} consecutive wrong "
    f"answers, or after {MIN_WRONG} to all items of the scale if none of its keys has been chosen. If one learner in "
    f"ten is right, the probability of {MIN_WRONG} wrong answers is 7e-10.",
)
def grades_follow_keys_and_maximum_scores(context: InvariantContext) -> Findings:
    sampled = context.connection.execute(
        f"""SELECT scale_id, item_id, bool_or(differs), bool_or(chose_key), count(*)
            FROM ({GRADED_ANSWERS.format(answers=_sample_of_log(context))}) graded GROUP BY 1, 2"""
    ).fetchall()
    chosen_on = {scale_id for scale_id, _, _, chosen, _ in sampled if chosen}
    open_items = """SELECT item_id FROM invariant_result v JOIN question ON v.subject = scale_id || ': ' || item_id
        WHERE v.invariant = %(name)s AND NOT v.passed AND v.resolved_at IS NULL"""
    items = {
        item
        for scale_id, item, differs, chosen, n in sampled
        if differs or (chosen is False and (n >= MIN_WRONG or scale_id not in chosen_on))
    }
    items.update(first_column(context.connection, open_items, {"name": grades_follow_keys_and_maximum_scores.name}))
    if not items:
        return
    of_items = GRADED_ANSWERS.format(answers=LOG) + " AND item_id = ANY(%(items)s)"
    rows = context.connection.execute(
        f"""SELECT scale_id, item_id, key, most, bool_or(chose_key), count(*) FILTER (WHERE differs), count(*)
            FROM ({of_items}) graded GROUP BY 1, 2, 3, 4 ORDER BY 1, 2""",
        {"items": [*items]},
    ).fetchall()
    chosen_on |= {scale_id for scale_id, _, _, _, chosen, *_ in rows if chosen}
    unchosen = {}
    for scale_id, item, key, most, chosen, n, total in rows:
        if chosen is False:
            unchosen[item] = (scale_id, key)
        elif n:
            expected = (
                f"right only with the score {most}"
                if key is None
                else f"right only with the choice {key_in_words(key)!r} ({_rekey(item, key)})"
            )
            yield Violation(f"{scale_id}: {item}", f"{n:,} of {total:,} answers are graded differently", expected)
    yield from _unchosen_keys(context, unchosen, chosen_on)


def _unchosen_keys(
    context: InvariantContext, unchosen: Mapping[str, tuple[str, Key]], chosen_on: Collection[str]
) -> Findings:
    """Violations of items whose key nobody has chosen in `MIN_WRONG` answers since the last right one.

    On a scale where no key has been chosen, the answers to all its items count together.
    `unchosen`: scale and key by item. `chosen_on`: scales with a key that somebody has chosen.
    """
    rows = context.connection.execute(
        b"""SELECT item_id, response, count(*)
            FROM (SELECT item_id, response, recorded_at > coalesce(
                    max(recorded_at) FILTER (WHERE correct) OVER (PARTITION BY item_id), '-infinity') AS since
                  FROM response_log
                  WHERE item_id = ANY(%s) AND response IS NOT NULL AND correct IS NOT NULL) answered
            WHERE since GROUP BY 1, 2""",
        ([*unchosen],),
    ).fetchall()
    choices: dict[str, Counter[str]] = defaultdict(Counter)
    on_scale: Counter[str] = Counter()
    for item, choice, n in rows:
        choices[item][choice] = n
        on_scale[unchosen[item][0]] += n
    for item, (scale_id, key) in unchosen.items():
        n = choices[item].total()
        if n >= MIN_WRONG or (n and scale_id not in chosen_on and on_scale[scale_id] >= MIN_WRONG):
            named = [f"{choice!r} ({times:,})" for choice, times in choices[item].most_common()]
            yield Violation(
                f"{scale_id}: {item}",
                f"nobody chose the key {key_in_words(key)!r} in {quantity(n, 'answer')}; "
                f"chosen: {some_of(named, MAX_CHOICES)}",
                f"a key that is one of the choices ({_rekey(item, 'OPTION')})",
            )


def _rekey(item: str, key: Key) -> str:
    right = map(shlex.quote, key if isinstance(key, list) else [str(key)])
    options = "--all" if key is True else "--key " + " --also ".join(right)
    return f"irt items rekey {shlex.quote(item)} {options} --by NAME --reason WHY"


def _sample_of_log(context: InvariantContext) -> str:
    """FROM item of the answers to compare: the whole log on Sundays, or if it is not larger than a sample. Otherwise a
    sample that differs from day to day."""
    answers = one_value(
        context.connection,
        """SELECT coalesce(sum(greatest(reltuples, 0)), 0) FROM pg_inherits JOIN pg_class ON oid = inhrelid
           WHERE inhparent = 'response_log'::regclass""",
    )
    if answers <= MAX_GRADES or context.now.weekday() == SUNDAY:
        return LOG
    percent = 100 * MAX_GRADES / answers
    return f"{LOG} TABLESAMPLE SYSTEM ({percent:.6f}) REPEATABLE ({context.now.toordinal()})"


@invariant(
    kind="learners",
    protects="Every KPI is present and in its range, or empty with a reason, so that decisions use valid numbers.",
    fix="Materialise `weekly_kpi` of the week again; if the violation persists, report it as a bug.",
    alerted_by_checks=True,
)
def kpis_are_whole(context: InvariantContext) -> Findings:
    if not one_value(context.connection, "SELECT EXISTS (SELECT 1 FROM weekly_kpi)"):
        yield NotTested("no weekly KPIs have been computed yet")
        return
    limits = ", ".join(f"('{name}', {low}, {high})" for name, (low, high) in RANGES.items())
    rows = context.connection.execute(
        f"""SELECT user_id, week_start, string_agg(fault, ', ' ORDER BY fault) FROM (
              SELECT user_id, week_start, CASE
                WHEN NOT kpis ? name THEN name || ' is missing'
                WHEN jsonb_typeof(kpis->name) = 'null' AND coalesce(kpis->'why'->>name, '') = ''
                  THEN name || ' is empty without a reason'
                WHEN jsonb_typeof(kpis->name) NOT IN ('null', 'number') THEN name || ' is not a number'
                WHEN jsonb_typeof(kpis->name) = 'number' AND NOT (kpis->>name)::float8 BETWEEN low AND high
                  THEN name || ' = ' || (kpis->>name) END AS fault
              FROM weekly_kpi CROSS JOIN (VALUES {limits}) AS wanted (name, low, high)) found
            WHERE fault IS NOT NULL GROUP BY 1, 2 ORDER BY 2, 1"""
    ).fetchall()
    for user, week, faults in rows:
        yield Violation(user, faults, "six keys, I_t from −1 to 1 and the others from 0 to 1", f"{week}")

"""Invariants of learners and the items they see: abilities, exposure, positions."""

from datetime import datetime
from itertools import chain

import numpy as np
import psycopg

from irt_assets.abilities.online import Measures, read_measures, read_theta
from irt_assets.common.partitions import Month
from irt_assets.invariants.invariant import (
    Findings,
    InvariantContext,
    NotTested,
    Violation,
    invariant,
    no_finished_month,
)
from irt_assets.ledger.publications import in_force
from irt_assets.responses.facts import ability_start
from irt_assets.responses.scored_answers import scoring_groups
from irt_assets.scales.scale import read_scales
from irt_psychometrics import ItemParameters
from resources.postgres.database import one_value
from resources.postgres.warehouse import read_arrow

MAX_EXPOSURE = 0.30
MIN_LEARNERS = 100
"""Fewest learners from which a share is computed."""
N_REMEASURED = 10
SAME_THETA = 1e-9
"""Tolerance: two runs on the same answers and parameters may add the same numbers in a different order."""
MAX_POSITION_EFFECT = 0.05
"""Largest accepted change in the probability of a correct answer from the first to the last place of a session."""
POSITION_Z = 4.0
MIN_ANSWERS = 1_000


@invariant(
    kind="learners",
    protects="Every learner who answered a published item has an ability.",
    fix="Materialise `abilities` of the scale's last month.",
)
def every_learner_with_answers_has_an_ability(context: InvariantContext) -> Findings:
    for scale_id in context.scales:
        if not context.finished_months[scale_id]:
            yield no_finished_month(scale_id, f"{scale_id}: ")
            continue
        end = Month(context.finished_months[scale_id][-1]).end
        scale = read_scales(context.connection, end)[scale_id]
        published = in_force(context.connection, scale_id, end)
        items, withdrawn = list(published.items), published.withdrawn
        groups = scoring_groups(context.connection, ability_start(end, scale), end, items, withdrawn)
        learners = {user for _, some in groups for user in some.tolist()}
        measured = {
            user
            for (user,) in context.connection.execute(
                "SELECT user_id FROM mirt_ability WHERE kind = 'monthly' AND window_end = %s AND scale_id = %s",
                (end, scale_id),
            )
        }
        for user in sorted(learners - measured):
            yield Violation(f"{scale_id}: {user}", f"no ability at {end:%Y-%m-%d}", "one")


@invariant(
    kind="learners",
    protects="θ of the month, of the night and from the θ API are equal on the same answers and the same parameters.",
    fix="Materialise both runs with one version of the code, and start the θ API with the same version. If they still "
    "differ, report it as a bug.",
    note="The API's function measures 10 learners of each scale again, as of the end of the last month and of the last "
    "night; learners whose answers changed since are not compared.",
)
def runs_agree_on_abilities(context: InvariantContext) -> Findings:
    seen = set()
    for found in chain(
        _compare_nights_with_months(context),
        *(_compare_runs_with_api(context, scale_id) for scale_id in context.scales),
    ):
        if isinstance(found, Violation):
            if (found.subject, found.partition) in seen:
                continue
            seen.add((found.subject, found.partition))
        yield found


def _compare_runs_with_api(context: InvariantContext, scale_id: str) -> Findings:
    newest = "SELECT max(window_end) FROM mirt_ability WHERE kind = %s AND scale_id = %s"
    for kind in ("monthly", "nightly"):
        if end := one_value(context.connection, newest, (kind, scale_id)):
            measures = read_measures(context.connection, end)
            if scale_id in measures.scales:
                yield from _compare_run_with_api(context.connection, measures, scale_id, kind, end)


def _compare_run_with_api(
    connection: psycopg.Connection, measures: Measures, scale_id: str, kind: str, end: datetime
) -> Findings:
    stored = connection.execute(
        """SELECT user_id, theta, se, n_items FROM mirt_ability
           WHERE kind = %s AND window_end = %s AND scale_id = %s AND set_hash = %s ORDER BY md5(user_id) LIMIT %s""",
        (kind, end, scale_id, measures.scales[scale_id].scoring_hash, N_REMEASURED),
    ).fetchall()
    for user, theta, se, n_items in stored:
        again = read_theta(connection, measures, scale_id, user, end)
        if again is None or again.n_items != n_items:
            continue
        if abs(again.theta - theta) > SAME_THETA or abs(again.se - se) > SAME_THETA:
            expected = f"{again.theta:.6f}, as in the θ API"
            yield Violation(f"{scale_id}: {user}", f"θ = {theta:.6f} {kind}", expected, f"{end:%Y-%m-%d}")


def _compare_nights_with_months(context: InvariantContext) -> Findings:
    rows = context.connection.execute(
        """SELECT n.scale_id, n.user_id, n.theta, m.theta, n.se, m.se,
                  to_char(n.window_end AT TIME ZONE 'UTC', 'YYYY-MM-DD')
           FROM mirt_ability n JOIN mirt_ability m
             ON (m.user_id, m.scale_id, m.window_end, m.set_hash, m.method, m.n_items)
              = (n.user_id, n.scale_id, n.window_end, n.set_hash, n.method, n.n_items)
           WHERE n.kind = 'nightly' AND m.kind = 'monthly' ORDER BY 1, 2"""
    ).fetchall()
    if not rows:
        yield NotTested("no nightly and monthly run have measured the same answers with the same parameters")
    for scale_id, user, nightly, monthly, nightly_se, monthly_se, day in rows:
        if abs(nightly - monthly) > SAME_THETA or abs(nightly_se - monthly_se) > SAME_THETA:
            yield Violation(f"{scale_id}: {user}", f"θ = {nightly:.6f} nightly", f"{monthly:.6f}, as monthly", day)


@invariant(
    kind="items",
    protects="No item that is chosen freely is shown to so many learners that it becomes known.",
    fix="Show the item less often, or add items to its topic.",
    note="At most 30 % of a month's learners may have seen a published item. On a scale with `assignment=by_level` "
    "every attempt outside adaptive tests counts; on a linear one, only attempts outside forms count, because everyone "
    "who takes a form sees its items and its anchors. It is not tested if learners see more than 15 % of the scale's "
    "published items on average: in so small a bank no item stays unknown. In an adaptive test, the limit is "
    "`exposure.max` of its policy, and 3 standard errors more, for 100 sessions of the last 30 days or more.",
)
def items_are_not_overexposed(context: InvariantContext) -> Findings:
    for scale_id, scale in context.scales.items():
        subject = f"{scale_id}: "
        yield from _overexposed_in_tests(context, scale_id)
        if not context.finished_months[scale_id]:
            yield no_finished_month(scale_id, subject)
            continue
        month = context.finished_months[scale_id][-1]
        forms_too = scale.rules.fit.assignment == "by_level"
        rows = context.connection.execute(
            """WITH published AS (
                 SELECT item_id FROM item_stage WHERE scale_id = %(scale)s AND stage IN ('published', 'retired')),
               seen AS (
                 SELECT DISTINCT a.user_id, a.item_id FROM attempt a JOIN published USING (item_id)
                 LEFT JOIN learner l USING (user_id)
                 WHERE a.completed_at >= %(start)s AND a.completed_at < %(end)s AND a.mode = 'live'
                   AND NOT coalesce(l.is_test, false)
                   AND (a.form_id IS NULL
                        OR (%(forms_too)s AND a.form_id NOT IN (SELECT test_id FROM adaptive_test))))
               SELECT item_id, count(*), (SELECT count(DISTINCT user_id) FROM seen),
                      (SELECT count(*) FROM published)
               FROM seen GROUP BY 1 ORDER BY 1""",
            context.window(month) | {"scale": scale_id, "forms_too": forms_too},
        ).fetchall()
        learners, items = rows[0][2:] if rows else (0, 0)
        if learners < MIN_LEARNERS:
            restriction = "" if forms_too else " outside forms, which a linear scale gives to all alike"
            yield NotTested(f"{learners} learners of scale {scale_id} in {month}{restriction}", subject=subject)
            continue
        usual = sum(row[1] for row in rows) / (learners * items)
        if usual > MAX_EXPOSURE / 2:
            mean = f"learners of scale {scale_id} see {usual:.0%} of its {items:,} items on average"
            yield NotTested(f"{mean}: too small a bank to keep one unknown", subject=subject)
            continue
        for item, n, *_ in rows:
            if n / learners > MAX_EXPOSURE:
                observed = f"{n / learners:.0%} of {learners:,} learners saw it in {month} ({usual:.0%} is usual)"
                yield Violation(f"{scale_id}: {item}", observed, f"at most {MAX_EXPOSURE:.0%}")


def _overexposed_in_tests(context: InvariantContext, scale_id: str) -> Findings:
    """Items of adaptive tests that were given to more learners than a policy allows, in the last 30 days."""
    rows = context.connection.execute(
        """SELECT test_id, item_id, max(given / sessions), max(allowed)
           FROM (SELECT test_id, item_id, (policy->'exposure'->>'max')::float AS allowed,
                        sum(given)::float AS given, sum(sessions)::float AS sessions
                 FROM item_exposure JOIN adaptive_test USING (version)
                 WHERE scale_id = %(scale)s AND day > (%(now)s - interval '30 days')::date
                 GROUP BY adaptive_test.version, item_id, theta_interval) shown
           WHERE sessions >= %(few)s AND given > allowed * sessions + 3 * sqrt(allowed * (1 - allowed) * sessions)
           GROUP BY 1, 2 ORDER BY 1, 2""",
        {"scale": scale_id, "now": context.now, "few": MIN_LEARNERS},
    ).fetchall()
    for test_id, item, share, allowed in rows:
        observed = f"test {test_id} gave it to {share:.0%} of the learners in 30 days"
        yield Violation(f"{scale_id}, test {test_id}: {item}", observed, f"at most {allowed:.0%}")


@invariant(
    kind="scales",
    protects="An item is as hard at the end of a session as at its beginning, so that tiredness and haste do not bias "
    "its difficulty.",
    fix="Compare answers by position; shorten sessions, or let positions vary and leave late answers out.",
    note="Answers in adaptive tests are left out: their items depend on the answers before them.",
)
def positions_do_not_change_difficulty(context: InvariantContext) -> Findings:
    for scale_id in context.scales:
        months = context.finished_months[scale_id]
        residual, position = (
            _residuals(context.connection, context, scale_id, months[-1]) if months else (np.array([]),) * 2
        )
        if len(residual) < MIN_ANSWERS or np.ptp(position) == 0:
            why = f"{len(residual):,} answers of scale {scale_id} have a position, {MIN_ANSWERS:,} are needed"
            yield NotTested(why, subject=scale_id)
            continue
        x = position - position.mean()
        slope = float(x @ residual / (x @ x))
        rest = residual - residual.mean() - slope * x
        z = slope / float(np.sqrt((rest @ rest) / (len(x) - 2) / (x @ x)))
        if abs(slope) > MAX_POSITION_EFFECT and abs(z) > POSITION_Z:
            observed = f"a correct answer is {slope:+.2f} likelier at a session's end (z = {z:.1f}, {months[-1]})"
            yield Violation(scale_id, observed, f"within ±{MAX_POSITION_EFFECT:g}")


def _residuals(
    connection: psycopg.Connection, context: InvariantContext, scale_id: str, month: str
) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of a month's answers to published items scored 0 or 1, and their places in their sessions, shapes (R,).

    The residual is score − P(θ̂), less its mean over all answers in exams or all answers in practice. Places go from 0
    (first) to 1 (last).
    """
    end = Month(month).end
    published = in_force(connection, scale_id, end).items
    answers = read_arrow(
        connection,
        """SELECT a.item_id, a.correct::int AS score, h.theta, a.form_id IS NULL AS practice,
                  (a.position - 1) / (s.last - 1.0) AS place
           FROM attempt a
           JOIN mirt_ability h ON h.user_id = a.user_id AND h.kind = 'monthly' AND h.window_end = %(end)s
            AND h.scale_id = %(scale)s
           JOIN (SELECT user_id, session_id, max(position) AS last FROM attempt
                 WHERE completed_at >= %(start)s AND completed_at < %(end)s
                 GROUP BY 1, 2 HAVING max(position) > 1) s
             ON s.user_id = a.user_id AND s.session_id = a.session_id
           WHERE a.completed_at >= %(start)s AND a.completed_at < %(end)s AND a.mode = 'live'
             AND a.position IS NOT NULL AND a.correct IS NOT NULL
             AND (a.form_id IS NULL OR a.form_id NOT IN (SELECT test_id FROM adaptive_test))
             AND a.item_id = ANY(%(items)s) AND a.item_id NOT IN (SELECT item_id FROM question WHERE max_score > 1)""",
        context.window(month) | {"scale": scale_id, "items": list(published)},
    )
    if answers.num_rows == 0:
        return np.array([]), np.array([])
    ids = answers["item_id"].to_pylist()
    items = ItemParameters.from_rows(ids, map(published.get, ids))
    p, _ = items.curve_at(answers["theta"].to_numpy()[:, None])
    residual = answers["score"].to_numpy() - p[:, 0]
    kind = answers["practice"].to_numpy(zero_copy_only=False).astype(np.int64)  # in practice, items are often known
    mean = np.bincount(kind, residual) / np.maximum(np.bincount(kind), 1)
    return residual - mean[kind], answers["place"].to_numpy()

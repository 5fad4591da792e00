"""How often the items of adaptive tests were eligible and given. The eligibility of items in the next sessions follows
from these numbers."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import psycopg

from irt_assets.adaptive.banks import TestBank, read_test_bank
from irt_assets.adaptive.stored_banks import SetGone, read_session_bank
from irt_assets.adaptive.versions import read_versions
from irt_assets.common.arrays import Floats, Mask
from irt_assets.responses.points import read_points
from irt_psychometrics.adaptive import SelectionPlan
from resources.tables import item_exposure

PRIOR_SESSIONS = 100
"""Number of real sessions from which on simulated sessions no longer count. Real learners may need other items than
simulated ones, and each simulated session delays the limit."""
_SESSIONS = """
    SELECT version, bank_hash, set_hash, seed, eligible, started_at, array_agg(item_id), array_agg(correct),
           array_agg(score)
    FROM (SELECT s.*, a.item_id, a.score, a.correct FROM adaptive_session s
          JOIN attempt a ON a.user_id = s.user_id AND a.session_id = s.session_id AND a.form_id = s.test_id
           AND a.completed_at BETWEEN %(start)s - interval '1 day' AND %(end)s + interval '7 days'
          WHERE s.started_at >= %(start)s AND s.started_at < %(end)s
          ORDER BY session_id, a.position, a.completed_at) given
    GROUP BY session_id, version, bank_hash, set_hash, seed, eligible, started_at ORDER BY started_at"""


def simulated_counts(connection: psycopg.Connection, version: int, plan: SelectionPlan) -> Floats:
    """Read how often a plan's items were eligible and given in the newest simulation, shape (2, S, J)."""
    found = _no_counts(plan)
    simulated = connection.execute(
        "SELECT items FROM adaptive_simulation WHERE version = %s ORDER BY made_at DESC LIMIT 1", (version,)
    ).fetchone()
    for item, own in (simulated[0] if simulated else {}).items():
        if item in plan.places:
            found[:, :, plan.places[item]] = own["eligible"], own["given"]
    return found


def exposure_counts(connection: psycopg.Connection, version: int, plan: SelectionPlan) -> Floats:
    """Read how often a plan's items were eligible and given in real tests of a version, shape (2, S, J).

    The sessions are those in `item_exposure`.
    """
    found = _no_counts(plan)
    for item, interval, *own in connection.execute(
        """SELECT item_id, theta_interval, sum(eligible)::float, sum(given)::float FROM item_exposure
           WHERE version = %s GROUP BY 1, 2""",
        (version,),
    ):
        if item in plan.places:
            found[:, interval, plan.places[item]] += own
    return found


def _no_counts(plan: SelectionPlan) -> Floats:
    return np.zeros((2, len(plan.test.exposure_cuts) + 1, len(plan.places)))


def with_prior(counts: Floats, simulated: Floats) -> Floats:
    """Add simulated sessions to the counts of n real sessions in an interval of θ, as `PRIOR_SESSIONS` − n sessions."""
    n, n_simulated = (own[0].max(axis=1) for own in (counts, simulated))
    weight = np.clip((PRIOR_SESSIONS - n) / np.maximum(n_simulated, 1.0), 0.0, 1.0)
    return counts + simulated * weight[:, None]


def counts_by_items(counts: Floats, before: SelectionPlan, after: SelectionPlan) -> Floats:
    """Arrange counts of a plan's items by the places of another plan, with 0 for its other items."""
    at = [before.places.get(item, -1) for item in after.places]
    return np.pad(counts, ((0, 0), (0, 0), (0, 1)))[:, :, at]


def counts_of_session(
    plan: SelectionPlan, eligible: Mapping[str, Sequence[float]], given: Sequence[str], theta: float
) -> tuple[int, Mask]:
    """The interval of θ of a session, and whether each item of the plan was eligible and given, shape (2, J)."""
    interval = int(np.searchsorted(plan.test.exposure_cuts, theta, side="right"))
    is_given = np.isin(plan.items.item_ids, given)
    is_eligible = [item not in eligible or eligible[item][interval] > 0 for item in plan.places]
    return interval, np.array([is_given | is_eligible, is_given])


def count_exposure(connection: psycopg.Connection, start: datetime, end: datetime) -> pd.DataFrame:
    """The rows of `item_exposure` of the sessions that began in [start, end) and have answers.

    A session is in the interval of θ after its last answer. Items without published values are not counted. If the
    published set of a session is not known any more, θ is computed by the set in force at its start.
    """
    policies = {each.version: each for each in read_versions(connection)}
    banks: dict[tuple[int, str | None, str], TestBank] = {}
    counts: dict[tuple[date, int, int], pd.DataFrame] = {}
    rows = connection.execute(_SESSIONS, {"start": start, "end": end})
    for version, bank_hash, set_hash, seed, off, began, items, correct, scores in rows:
        cited = version, bank_hash, set_hash
        if cited not in banks:
            try:
                banks[cited] = read_session_bank(connection, *cited, began)
            except SetGone:
                banks[cited] = read_test_bank(connection, policies[version].policy, began)
        plan, values = banks[cited].plan, banks[cited].published.items
        answers = [answer for answer in zip(items, correct, scores, strict=True) if answer[0] in plan.places]
        points = {x: read_points(is_right, n, values[x].max_score) for x, is_right, n in answers[: plan.test.max_items]}
        known = {item: own for item, own in points.items() if own is not None}
        theta = plan.next([*known], [*known.values()], random_state=seed).theta if plan.test.exposure_cuts else 0.0
        interval, (eligible, given) = counts_of_session(plan, off, [*points], theta)
        own = pd.DataFrame({"sessions": 1, "eligible": eligible * 1, "given": given * 1}, [*plan.places])
        key = began.astimezone(UTC).date(), version, interval
        counts[key] = counts[key].add(own, fill_value=0) if key in counts else own
    columns = [column.name for column in item_exposure.columns]
    frames = [
        own.reset_index(names="item_id").assign(day=day, version=version, theta_interval=interval)
        for (day, version, interval), own in counts.items()
    ]
    kinds = dict.fromkeys(("sessions", "eligible", "given"), "int64")
    return pd.concat(frames)[columns].astype(kinds) if frames else pd.DataFrame(columns=columns)

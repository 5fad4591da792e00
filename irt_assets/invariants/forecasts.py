"""The invariant of moving abilities: they forecast the next answers no worse than constant abilities do."""

from dataclasses import replace

import numpy as np
import psycopg

from irt_assets.abilities.batch import curves_of, estimate, scoring_hash
from irt_assets.common.arrays import Floats
from irt_assets.common.partitions import Month
from irt_assets.invariants.forecast_errors import by_decile, compare_losses, forecast, growth_since
from irt_assets.invariants.invariant import Findings, InvariantContext, NotTested, Violation, invariant
from irt_assets.ledger.publications import in_force
from irt_assets.responses.facts import LOOKBACK
from irt_assets.responses.scored_answers import scoring_responses
from irt_assets.scales.item_status import DAY, microseconds
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics import Responses
from irt_psychometrics.scoring import Movement

LEARNERS = 1_000
"""Largest number of learners per scale whose next answers are forecast, chosen by a hash of their ids."""
MIN_LEARNERS = 100
MIN_ANSWERS = 1_000
MAX_DIFFERENCE = 0.02
"""Largest accepted difference between the mean forecast and the share of right answers in a decile."""


@invariant(
    kind="scales",
    protects="If abilities move, the θ at a month's end forecasts the next month's answers at least as well as a "
    "constant θ, and the share of right answers agrees with the forecasts.",
    fix="If items have drifted, decide on these first. Then estimate the movement again (`irt scale movement "
    "--propose`) and decide on the proposal. If nothing is proposed, `irt scale set ability_variance=0 "
    "ability_growth=0 occasion_variance=0` makes abilities constant.",
    note="Tested for scales with a movement, with 1,000 learners by a hash of their ids, and their answers in the last "
    "month whose publication step is done. The log loss may exceed the log loss of the constant θ by two standard "
    "errors. In each decile of the forecasts, the share of right answers may differ from the forecast by .02, or by "
    "three standard errors if these are more.",
)
def abilities_forecast_the_next_answers(context: InvariantContext) -> Findings:
    for scale_id, newest in context.scales.items():
        months = context.finished_months[scale_id]
        scale = read_scales(context.connection, Month(months[-1]).start)[scale_id] if months else newest
        if months and scale.movement:
            yield from _compare_month(context.connection, scale, months[-1])
        elif newest.movement:
            yield NotTested(f"no month of scale {scale_id} in the ledger began with a movement", subject=scale_id)


def _compare_month(connection: psycopg.Connection, scale: Scale, month: str) -> Findings:
    """Compare forecasts of the month's answers, from moving and from constant abilities at its start."""
    start, end = Month(month).bounds
    published = in_force(connection, scale.scale_id, start)
    measured = connection.execute(
        """SELECT user_id, theta, se, coalesce(as_of, window_end) FROM mirt_ability
           WHERE kind = 'monthly' AND window_end = %s AND scale_id = %s AND set_hash = %s
             AND user_id IN (SELECT user_id FROM attempt WHERE completed_at >= %s AND completed_at < %s)
           ORDER BY md5(user_id) LIMIT %s""",
        (start, scale.scale_id, scoring_hash(published, scale), start, end, LEARNERS),
    ).fetchall()
    known = {user: (theta, se, microseconds(as_of) // DAY) for user, theta, se, as_of in measured}
    items, withdrawn = list(published.items), published.withdrawn
    users = sorted(known)
    later, answered = scoring_responses(connection, start, end, items, users, withdrawn)
    earlier, before = scoring_responses(connection, start - LOOKBACK, start, items, users, withdrawn)
    rows = np.isin(answered, before)[later.person]
    later = later.of_rows(rows if later.categories is None else rows & (later.categories == 2)[later.item])
    n = np.unique(later.person).size
    if n < MIN_LEARNERS or later.n_responses < MIN_ANSWERS:
        yield NotTested(
            f"{later.n_responses:,} answers of {month} on scale {scale.scale_id} that are right or wrong are by {n:,} "
            f"learners measured before it by its movement; {MIN_ANSWERS:,} and {MIN_LEARNERS} are needed",
            subject=scale.scale_id,
        )
        return
    constant = estimate(earlier, published.items, replace(scale, movement=Movement()), published.testlets)
    at = np.searchsorted(before, answered)[later.person]
    theta, se, known_on = np.array([known[user] for user in answered.tolist()]).T[:, later.person]
    assert later.at is not None
    day, movement = later.at // DAY, scale.movement
    curves = curves_of(later.item_ids, published.items, scale)
    moving = forecast(
        curves,
        later.item,
        theta + growth_since(movement, later.person, day, known_on),
        se**2 + movement.variance_over(day - known_on) + movement.occasion_variance,
    )
    constant_forecast = forecast(curves, later.item, constant.theta[at], constant.se[at] ** 2)
    yield from _compare_forecasts(scale.scale_id, month, later, moving, constant_forecast)


def _compare_forecasts(scale_id: str, month: str, later: Responses, p: Floats, constant: Floats) -> Findings:
    excess = compare_losses(p, constant, later.score, later.person)
    if excess.is_worse:
        yield Violation(
            scale_id,
            f"log loss {excess.loss:.4f} by answer, {excess.loss - excess.reference:.4f} ± {excess.se:.4f} more than "
            "with a constant θ",
            "at most two standard errors more",
            month,
        )
    for k, share in enumerate(by_decile(p, later.score, later.person), 1):
        if share.differs(MAX_DIFFERENCE):
            yield Violation(
                f"{scale_id}: decile {k}",
                f"{share.observed:.1%} of {share.n:,} answers were right (± {share.se:.1%})",
                f"{share.forecast:.1%}, as was forecast",
                month,
            )

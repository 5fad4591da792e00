"""What a month would do to learners: its answers scored with the values in force and with the month's own.

Compared are answers to items that are in force already, each item once with its published value and once with the
month's, as proposed. Items that the month publishes for the first time are left out: they only add answers, so that an
EAP is drawn less to the mean, which leaves the scale where it is. An error of the fit or the linking that moved their
values has moved the proposals as well.

Two numbers come of it. The *shift*: the mean change of θ over the items other than anchors. The linking puts the
anchors where they were, so their values cannot show that all of them moved; the other published items can. The *flips*:
learners whose reported θ, by all items in force, crosses the scale's pass mark, one way net of the other.

It is measured between linking and publication, in `linked_item_parameters`, and again at publication where the values
in force have changed since; the gate `theta_stays_on_the_same_answers` reads what is stored.

What does not belong here: single items that moved (`drift`), and a person's decision on a proposal (`release_impact`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta

import numpy as np
import psycopg

from irt_assets.abilities.batch import estimate
from irt_assets.common.partitions import Month
from irt_assets.common.wording import counted
from irt_assets.ledger.anchors import read_every_anchor
from irt_assets.ledger.cited_fits import constants_of
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.fits import LinkedFit, linked_fit, read_impact, write_impact
from irt_assets.ledger.fitted_items import FittedItem
from irt_assets.ledger.publications import ItemInForce, publications_in_force
from irt_assets.psychometrics.core.items import ItemParameters, ItemRow
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.scoring.scale_shift import FEWEST_ANSWERS, MonthImpact, Placement, scale_shift
from irt_assets.responses.item_status import read_withdrawals
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.window import scoring_responses
from resources.postgres.database import Database, advisory_lock

MOST_LEARNERS = 20_000
FEWEST_ITEMS = 3
"""With fewer items besides the anchors, a shift of the items cannot be distinguished from a shift of the scale."""


def measure_month(database: Database, month: str) -> None:
    """Measure and store the impact of the month's linked fit of every scale that has none yet."""
    start = Month(month).start
    with database.connect() as connection:
        advisory_lock(connection, "linked_item_parameters", month)
        for scale in read_scales(connection, start).values():
            fit = linked_fit(connection, scale.scale_id, "monthly", start, scale.engine)
            if fit and read_impact(connection, fit.fit_id) is None:
                current_impact(connection, scale, month, fit)


def current_impact(connection: psycopg.Connection, scale: Scale, month: str, fit: LinkedFit) -> MonthImpact:
    """The impact of a month's linked fit, measured and stored where it was not, or where the values in force have
    changed since: months that are run together are linked before those before them are published."""
    published = publications_in_force(connection, scale.scale_id, Month(month).end - timedelta(microseconds=1))
    content = json.dumps([[one.item_id, *one.values.scored_with] for one in published])
    digest = hashlib.sha256(f"{scale.anchor_version} {scale.pass_theta} {content}".encode()).hexdigest()
    impact = read_impact(connection, fit.fit_id, compared_with=digest)
    if impact is None:
        impact = _measured(connection, scale, month, fit, published)
        write_impact(connection, fit.fit_id, impact, digest)
    return impact


def _measured(
    connection: psycopg.Connection, scale: Scale, month: str, fit: LinkedFit, published: list[ItemInForce]
) -> MonthImpact:
    """The impact on up to 20,000 of the month's learners; `published` is in force in the month's last instant, so that
    what the month itself has published, if it is run again, is not compared with itself."""
    start, end = Month(month).bounds
    before = {one.item_id: one.values for one in published}
    made_by = {one.item_id: one.fit_id for one in published if one.fit_id}
    after = proposed_values(fit.items, scale, before)
    every = read_every_anchor(connection, scale.scale_id, scale.anchor_version)
    anchors = set(every.item_ids) if every else set()
    if why := _nothing_to_compare(before, after, anchors):
        return MonthImpact(why)
    items = sorted(before)
    learners = _some_learners(connection, month, items)
    withdrawn = read_withdrawals(connection)
    responses, _ = scoring_responses(connection, start, end, scale, items, learners, withdrawn)
    linkings = constants_of(connection, {*made_by.values()})
    old = {fit_id: _placement(constants) for fit_id, constants in linkings.items()}
    return compare(responses, before, after, anchors, made_by, old, _placement(fit.constants), scale)


def compare(
    responses: Responses,
    before: Mapping[str, ItemRow],
    after: Mapping[str, ItemRow],
    anchors: Collection[str],
    made_by: Mapping[str, str],
    old: Mapping[str, Placement],
    new: Placement,
    scale: Scale,
) -> MonthImpact:
    """Score `responses` with the values in force, `before`, and with those of the month, `after`, laid over them.

    anchors: items that carry no information on the scale. made_by: the fit that an item's value in force comes from, of
    items that have one; old: the linking of each such fit, where it is known; new: the month's.
    """
    compared = np.array([item in after and item not in anchors for item in responses.item_ids], dtype=bool)
    some = _answers_to(responses, compared)
    values = [ItemParameters.of_rows(some.item_ids, (of[item] for item in some.item_ids)) for of in (before, after)]
    shift = scale_shift(some, *values, mean=scale.mu, sd=scale.sigma) if some.n_items >= FEWEST_ITEMS else None
    if shift is None or shift.items < FEWEST_ITEMS:
        return MonthImpact(
            f"nothing in force to compare: no learner of the month has {FEWEST_ANSWERS} answers to items that are "
            "published, fitted again and not anchors"
        )
    fits = sorted(old)
    placed = [old[fit] for fit in fits]
    of = np.array([fits.index(fit) if (fit := made_by.get(item, "")) in old else -1 for item in some.item_ids])
    found = MonthImpact(
        learners=shift.learners,
        items=shift.items,
        shift=shift.mean,
        shift_se=shift.se(shift.theta, new, placed, of),
        sd=scale.sigma,
    )
    if scale.pass_theta is None:
        return found
    mark = scale.pass_theta
    theta, theta_new = (estimate(responses, items, scale).theta for items in (before, {**before, **after}))
    n, near = theta.size, 0.25 * scale.sigma
    newly_passed = int(((theta < mark) & (theta_new >= mark)).sum())
    newly_failed = int(((theta >= mark) & (theta_new < mark)).sum())
    density = float((np.abs(theta - mark) < near).mean()) / (2 * near)
    by_chance = (newly_passed + newly_failed) / n**2
    flip_se = float(np.sqrt((density * shift.se(mark, new, placed, of)) ** 2 + by_chance))
    return replace(
        found, pass_theta=mark, scored=n, newly_passed=newly_passed, newly_failed=newly_failed, flip_se=flip_se
    )


def proposed_values(items: Mapping[str, FittedItem], scale: Scale, before: Collection[str]) -> dict[str, ItemRow]:
    """The month's values of items in force that it has estimated from enough answers to propose them."""
    fewest = scale.rules.eligibility.min_published_responses(scale.model)
    return {
        item: values
        for item, one in items.items()
        if item in before
        and not one.flags
        and one.n >= fewest
        and (values := one.values)
        and values.has_errors
        and values.a > 0
    }


def _nothing_to_compare(before: Collection[str], after: Collection[str], anchors: Collection[str]) -> str:
    others = [item for item in before if item not in anchors]
    if not others:
        return f"nothing in force to compare: {'only anchors are' if before else 'no item is'} published so far"
    again = [item for item in others if item in after]
    if len(again) < FEWEST_ITEMS:
        return (
            f"nothing in force to compare: of {counted(len(others), 'published item')} besides the anchors the month "
            f"has estimated {len(again)} well enough, and {FEWEST_ITEMS} are needed"
        )
    return ""


def _answers_to(responses: Responses, wanted: np.ndarray) -> Responses:
    """The answers to the wanted items alone, which are renumbered; the learners stay."""
    number = np.cumsum(wanted) - 1
    kept = wanted[responses.item]
    ids = tuple(item for item, of in zip(responses.item_ids, wanted, strict=True) if of)
    item = number[responses.item[kept]].astype(np.int32)
    return Responses(responses.person[kept], item, responses.score[kept], responses.n_persons, ids)


def _some_learners(connection: psycopg.Connection, month: str, items: list[str]) -> list[str] | None:
    """20,000 of the month's learners, the same ones whenever it is asked; None where it has no more than these."""
    start, end = Month(month).bounds
    rows = connection.execute(
        """SELECT user_id FROM (
             SELECT DISTINCT user_id FROM attempt
             WHERE completed_at >= %s AND completed_at < %s AND item_id = ANY(%s)) learners
           ORDER BY md5(user_id) LIMIT %s""",
        (start, end, items, MOST_LEARNERS + 1),
    ).fetchall()
    return [user for (user,) in rows[:MOST_LEARNERS]] if len(rows) > MOST_LEARNERS else None


def _placement(constants: LinkingConstants) -> Placement:
    return Placement(constants.slope, constants.intercept, constants.cov)

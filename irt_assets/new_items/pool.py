"""The items that are being seeded, in memory: their values for the choice, and how far their limits are used up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import psycopg

from irt_assets.abilities.online import Measure, Measures
from irt_assets.common.arrays import Floats, Ints, Mask
from irt_assets.ledger.encoding import item_from_json
from irt_assets.new_items.decided import SeedLimits, read_seeding
from irt_assets.new_items.pipeline import declare_items, item_rows
from irt_assets.new_items.progress import PipelineItem, read_pipeline
from irt_assets.scales.enemies import read_enemies
from irt_assets.scales.scale import Scale
from irt_psychometrics.items import ItemParameters
from irt_psychometrics.new_items import PersonPosteriors, answer_information, estimate_new_items, expected_gain

GIVE_BACK_AFTER, GIVE_BACK_EVERY = timedelta(hours=24), timedelta(minutes=10)
"""Age at which a draw without an answer is given back, and time between two searches for such draws."""
OLDEST_RESERVED = timedelta(days=7)
"""Age of draws up to which they are searched for late answers, and for interrupted searches."""
_ANSWERED = """EXISTS (SELECT FROM attempt a WHERE (a.user_id, a.session_id, a.item_id)
                                             = (d.user_id, d.session_id, d.item_id))"""


@dataclass(frozen=True)
class SeedPool:
    """Items of a scale that are being seeded, in order: those with the most answers first.

    Attributes:
        values: the night's estimates; an item without an estimate has the prior's values.
        topics: topic of each item, or None.
        limits: decided limits of each item.
        enemies: enemies of each item of the bank that has any.
        counts: draws that hold an answer, also only of today, and only since the night, shape (J, 3). Draws of this
            process are added; draws of others are read every half-minute.
        made_of: the sources of the other attributes except `counts`.
    """

    scale: Scale
    values: ItemParameters
    topics: Sequence[str | None]
    limits: Sequence[SeedLimits]
    enemies: Mapping[str, Collection[str]]
    counts: Ints
    made_of: Any

    @property
    def item_ids(self) -> Sequence[str]:
        return self.values.item_ids

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Index of each item."""
        return {item: j for j, item in enumerate(self.item_ids)}

    @cached_property
    def _most(self) -> Ints:
        return np.array([(own.max_answers, own.max_per_day or own.max_answers) for own in self.limits])

    @cached_property
    def _usual_information(self) -> Floats:
        """Information of an answer by a learner of the population, shape (J, 2, 2)."""
        return answer_information(self.values, self.scale.mu, self.scale.sigma)

    @cached_property
    def _precision(self) -> Floats:
        """Precision of (ln a, b) of each item as of the night, shape (J, 2, 2)."""
        by = np.column_stack([1 / self.values.a, np.ones_like(self.values.a)])
        cov = by[:, :, None] * self.values.cov_of_each * by[:, None]
        return np.asarray(np.linalg.inv(cov + 1e-10 * np.eye(2)))  # a may have no error

    def may_draw(self, closed: Iterable[str], topics: Collection[str] | None) -> Mask:
        """Find the items outside `closed`, of `topics` if given, whose limits leave room for a draw, shape (J,)."""
        may = np.asarray((self.counts[:, :2] < self._most).all(axis=1))
        may[[self.places[item] for item in closed if item in self.places]] = False
        return may if topics is None else may & np.isin(np.array(self.topics, dtype=object), [*topics])

    def goes_with(self, items: Iterable[str], topics: Iterable[str | None]) -> Mask:
        """Find the items that a session may have beside its `items`, shape (J,). `topics`: topics of its draws.

        They have no enemy among `items`, and a topic of which the session has fewer draws than `seed_per_topic`.
        """
        most = self.scale.rules.seeding.seed_per_topic
        full = [topic for topic, n in Counter(topics).items() if topic is not None and n >= most]
        goes = ~np.isin(np.array(self.topics, dtype=object), full)
        enemies = chain.from_iterable(self.enemies.get(item, ()) for item in items)
        goes[[self.places[enemy] for enemy in enemies if enemy in self.places]] = False
        return goes

    def gain(self, some: Ints, theta: float, se: float) -> Floats:
        """Compute the expected gain in precision of (ln a, b) by an answer to each of `some` items at this ability.

        Returns the gains, shape (J,), 0 for other items. Draws since the night count as answers, so that a day's draws
        do not all choose the same items.
        """
        known = self._precision[some] + self.counts[some, 2, None, None] * self._usual_information[some]
        gain = np.zeros(len(self.item_ids))
        gain[some] = expected_gain(self.values.among([self.item_ids[j] for j in some]), known, theta, se)
        return gain


class SeedPools:
    """The pool of each scale with published items, as of the last refresh."""

    def __init__(self) -> None:
        self.by_scale: Mapping[str, SeedPool] = {}
        self._given_back_at = datetime.min.replace(tzinfo=UTC)

    def refresh(self, connection: psycopg.Connection, measures: Measures) -> None:
        """Give back draws without an answer, and read the items to draw with their counts."""
        if measures.as_of - self._given_back_at >= GIVE_BACK_EVERY:
            give_back(connection, measures.as_of)
            self._given_back_at = measures.as_of
        pools = {
            scale_id: _read_pool(connection, measure, measures.as_of, self.by_scale.get(scale_id))
            for scale_id, measure in measures.scales.items()
        }
        self.by_scale = {scale_id: pool for scale_id, pool in pools.items() if pool}


def give_back(connection: psycopg.Connection, now: datetime) -> None:
    """Give back draws that have no answer after 24 hours, and take back those with a late answer."""
    connection.execute(
        f"""UPDATE seed_draw d SET given_back_at = CASE WHEN given_back_at IS NULL THEN %(now)s::timestamptz END
            WHERE drawn_at >= %(first)s AND drawn_at < %(last)s AND (given_back_at IS NULL) <> {_ANSWERED}""",
        {"now": now, "first": now - OLDEST_RESERVED, "last": now - GIVE_BACK_AFTER},
    )


def _read_pool(
    connection: psycopg.Connection, measure: Measure, now: datetime, former: SeedPool | None
) -> SeedPool | None:
    """Read the pool of a scale, or reuse the values of `former` if nothing changed.

    Returns None if no item is being seeded.
    """
    scale, seeding = measure.scale, read_seeding(connection, measure.scale.scale_id, now)
    nightly = {item.item_id: item for item in read_pipeline(connection, scale.scale_id) if item.item_id in seeding}
    wanted = [item for item in seeding if not (item in nightly and _is_done(nightly[item]))]
    items = sorted(wanted, key=lambda item: -nightly[item].n if item in nightly else 0)
    if not items:
        return None
    evaluated_at = max((item.evaluated_at for item in nightly.values()), default=None)
    made_of = scale, measure.published.set_hash, evaluated_at, {item: seeding[item] for item in items}
    counts = _read_counts(connection, items, now, evaluated_at)
    if former and former.made_of == made_of:
        values, topics = former.values, former.topics
    else:
        values, topics = _read_values(connection, measure, items, nightly)
    limits = [seeding[item] for item in items]
    return SeedPool(scale, values, topics, limits, read_enemies(connection), counts, made_of)


def _is_done(item: PipelineItem) -> bool:
    """Check whether more answers would not help an item: it is publishable, or its key is accused."""
    return item.publishable or item.accused


def _read_values(
    connection: psycopg.Connection, measure: Measure, items: Sequence[str], nightly: Mapping[str, PipelineItem]
) -> tuple[ItemParameters, Sequence[str | None]]:
    declared = declare_items(connection, measure.scale, measure.published, items)
    by_prior = item_rows(estimate_new_items(items, [], [], [], PersonPosteriors.normal([], []), **declared).items)
    rows = [
        item_from_json(nightly[item].parameters) if item in nightly and nightly[item].parameters else row
        for item, row in zip(items, by_prior, strict=True)
    ]
    return ItemParameters.from_rows(items, rows), declared["topics"]


def _read_counts(
    connection: psycopg.Connection, items: Sequence[str], now: datetime, evaluated_at: datetime | None
) -> Ints:
    counted = connection.execute(
        """SELECT item_id, count(*), count(*) FILTER (WHERE drawn_at >= %(day)s),
                  count(*) FILTER (WHERE drawn_at >= coalesce(%(night)s, drawn_at))
           FROM seed_draw WHERE given_back_at IS NULL AND item_id = ANY(%(items)s) GROUP BY item_id""",
        {"items": [*items], "day": start_of_day(now), "night": evaluated_at},
    )
    by_item = {item: own for item, *own in counted}
    return np.array([by_item.get(item, [0, 0, 0]) for item in items], dtype=np.int64)


def start_of_day(now: datetime) -> datetime:
    """Return the start of the day (UTC)."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

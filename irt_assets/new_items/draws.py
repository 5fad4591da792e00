"""Draw new items for places in learners' sessions, within the limits, and store each draw before anybody sees it.

A draw is made under locks of the learner, the session and the item, so that servers that draw at the same time
neither exceed a limit nor draw twice for a place. Values and counts in memory belong to `pool`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import psycopg

from irt_assets.common.arrays import Mask
from irt_assets.new_items.pool import SeedPool, start_of_day
from irt_assets.responses.erased import HASHED
from irt_psychometrics import PsychometricsError
from irt_psychometrics.new_items import Choice, choose_item
from resources.postgres.database import LOCK, advisory_lock, first_column, lock_key, one_value

LOOK_BACK = timedelta(days=365)
"""Time for which an item that a learner has answered is not drawn for this learner."""

USED_UP = 1_000_000_000
"""Count of an item whose limit other servers have used up: this process does not try it until it reads the counts."""


@dataclass(frozen=True)
class Places:
    """Places of a learner's session that new items shall fill.

    Attributes:
        positions: places from 1, in order.
        form_id: form or test of the session; None: practice.
    """

    user_id: str
    session_id: str
    form_id: str | None
    positions: Sequence[int]


class OtherSession(PsychometricsError):
    """A session has draws for another learner."""


def read_draws(connection: psycopg.Connection, user_id: str, session_id: str) -> dict[int, str]:
    """Read the items that were drawn for a session: place → item. Raises OtherSession if another learner has them."""
    rows = connection.execute("SELECT position, item_id, user_id FROM seed_draw WHERE session_id = %s", (session_id,))
    drawn = {}
    for position, item, owner in rows:
        if owner != user_id:
            raise OtherSession("the session has draws for another learner: a session has its own id")
        drawn[position] = item
    return drawn


def fill_places(
    connection: psycopg.Connection,
    pool: SeedPool | None,
    places: Places,
    posterior: Callable[[], tuple[float, float]],
    now: datetime,
    *,
    among: Collection[str] | None = None,
    excluded: Iterable[str] = (),
) -> dict[int, str]:
    """Draw an item for each empty place. Returns place → item, fewer if the limits leave no item.

    A place that has been filled keeps its item. `posterior` returns the mean and SD of the learner's θ and is called
    only if there is something to draw. `among`: topics of the items; None: all. Items in `excluded` are not drawn.
    """
    if pool:  # an erasure waits for the first lock
        keys = lock_key("theta", places.user_id), lock_key("seeds", places.session_id)
        connection.execute(f"SELECT pg_advisory_xact_lock({LOCK}), pg_advisory_xact_lock({LOCK})", keys)
    drawn = read_draws(connection, places.user_id, places.session_id)
    if pool and not drawn.keys() >= {*places.positions}:
        met = _read_met(connection, places, now)
        eligible = pool.may_draw({*filter(None, met), *excluded}, among) & (None not in met)
        left = _draws_left(connection, pool, places.user_id, len(drawn), now) if eligible.any() else 0
        missing = [position for position in places.positions if position not in drawn]
        if missing[: max(left, 0)]:
            items = {item for item, is_of_session in met.items() if item and is_of_session}
            topics = _read_topics(connection, places.session_id)
            theta, se = posterior()
            for position in missing[:left]:
                eligible &= pool.goes_with(items, topics)
                waits = position == missing[0]
                item = _draw(connection, pool, places, position, (theta, se), eligible, now, waits=waits)
                if item is None:
                    break
                drawn[position] = item
                items.add(item)
                topics.append(pool.topics[pool.places[item]])
    return {position: drawn[position] for position in places.positions if position in drawn}


def _read_met(connection: psycopg.Connection, places: Places, now: datetime) -> dict[str | None, bool]:
    """Read the items that are not new to the learner: item → whether it is in this session.

    The session has the items of its form, the answered ones and the drawn ones. A learner who was erased has None.
    """
    rows = connection.execute(
        f"""SELECT item_id, bool_or(of_session) FROM (
              SELECT item_id, session_id = %(session_id)s AS of_session FROM attempt
              WHERE user_id = %(user_id)s AND completed_at >= %(since)s
              UNION ALL SELECT item_id, session_id = %(session_id)s FROM seed_draw WHERE user_id = %(user_id)s
              UNION ALL SELECT item_id, true FROM form_item WHERE form_id = %(form_id)s
              UNION ALL SELECT NULL, false FROM erasure
              WHERE learner_hash = {HASHED.format(salt="salt", user_id="%(user_id)s::text")}) met GROUP BY 1""",
        vars(places) | {"since": now - LOOK_BACK},
    )
    return dict(rows.fetchall())


def _read_topics(connection: psycopg.Connection, session_id: str) -> list[str | None]:
    """Read the topics of the items that were drawn for a session."""
    query = "SELECT topic_id FROM seed_draw JOIN question USING (item_id) WHERE session_id = %s"
    return first_column(connection, query, (session_id,))


def _draws_left(connection: psycopg.Connection, pool: SeedPool, user_id: str, in_session: int, now: datetime) -> int:
    """Return how many draws the scale's rules leave to a learner in a session."""
    today = one_value(
        connection,
        "SELECT count(*) FROM seed_draw WHERE user_id = %s AND drawn_at >= %s",
        (user_id, start_of_day(now)),
    )
    rules = pool.scale.rules.seeding
    return min(rules.seed_per_session - in_session, rules.seed_per_learner_day - today)


def _draw(
    connection: psycopg.Connection,
    pool: SeedPool,
    places: Places,
    position: int,
    posterior: tuple[float, float],
    eligible: Mask,
    now: datetime,
    *,
    waits: bool,
) -> str | None:
    """Draw and store an item for a place, and mark it as not eligible. Returns None if no item is left.

    If another server draws the item at this moment, or its limit is used up, the next best follows. The last item left
    waits for the other server, but only for the first place of a request (`waits`) and without a lock on another item:
    two requests that wait for items of the other would never end.
    """
    rules = pool.scale.rules.seeding
    rng = np.random.default_rng(lock_key("seed", places.session_id, str(position)) % 2**63)
    while eligible.any():
        open_items = eligible & (np.cumsum(eligible) <= rules.seed_open_items)
        gain = pool.gain(np.flatnonzero(open_items), *posterior)
        choice = choose_item(gain, open_items, rng, rules.seed_random_share)
        eligible[choice.place] = False
        pool.counts[choice.place] += 1  # meanwhile, other threads of this process choose other items
        is_locked = _lock_item(connection, pool.item_ids[choice.place], waits=waits and not eligible.any())
        if is_locked and _claim(connection, pool, places, position, posterior, choice, now):
            return pool.item_ids[choice.place]
        pool.counts[choice.place] += USED_UP if is_locked else -1
        waits &= not is_locked
    return None


def _lock_item(connection: psycopg.Connection, item: str, *, waits: bool) -> bool:
    """Lock an item until the transaction ends. Returns False if another transaction has it, unless `waits`."""
    if waits:
        advisory_lock(connection, "seed item", item)
        return True
    locked: bool = one_value(connection, f"SELECT pg_try_advisory_xact_lock({LOCK})", (lock_key("seed item", item),))
    return locked


def _claim(
    connection: psycopg.Connection,
    pool: SeedPool,
    places: Places,
    position: int,
    posterior: tuple[float, float],
    choice: Choice,
    now: datetime,
) -> bool:
    """Store a draw of a locked item, unless it would exceed a limit of the item. Returns whether it is stored."""
    item, limits = pool.item_ids[choice.place], pool.limits[choice.place]
    stored = connection.execute(
        """INSERT INTO seed_draw (scale_id, item_id, user_id, session_id, position, form_id, theta, theta_se,
                                  probability, at_random, drawn_at)
           SELECT %(scale)s, %(item)s, %(user)s, %(session)s, %(position)s, %(form)s, %(theta)s, %(se)s,
                  %(probability)s, %(at_random)s, %(now)s
           FROM (SELECT count(*) AS n, count(*) FILTER (WHERE drawn_at >= %(day)s) AS today
                 FROM seed_draw WHERE item_id = %(item)s AND given_back_at IS NULL) held
           WHERE n < %(most)s AND today < %(most_a_day)s""",
        {
            "scale": pool.scale.scale_id,
            "item": item,
            "user": places.user_id,
            "session": places.session_id,
            "position": position,
            "form": places.form_id,
            "theta": posterior[0],
            "se": posterior[1],
            "probability": choice.probability,
            "at_random": choice.at_random,
            "now": now,
            "day": start_of_day(now),
            "most": limits.max_answers,
            "most_a_day": limits.max_per_day or limits.max_answers,
        },
    )
    return stored.rowcount == 1


def give_back_unanswered(
    connection: psycopg.Connection, session_id: str, answered: Collection[str], now: datetime
) -> None:
    """Give back the unanswered draws of a session that has ended."""
    connection.execute(
        """UPDATE seed_draw SET given_back_at = %s
           WHERE session_id = %s AND given_back_at IS NULL AND NOT item_id = ANY(%s)""",
        (now, session_id, [*answered]),
    )

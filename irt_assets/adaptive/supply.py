"""Compare the number of items of each topic, now and in the months to come, with the blueprints of forms and tests."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime

import psycopg

from irt_assets.adaptive.blueprint import Blueprint
from irt_assets.adaptive.forms import read_drafts
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.versions import versions_in_force
from irt_assets.common.wording import natural_order
from irt_assets.ledger.publications import items_published_by
from irt_assets.new_items.progress import read_pipeline
from irt_assets.new_items.stages import UNPUBLISHED, item_stages
from irt_assets.scales.item_status import read_withdrawals


@dataclass(frozen=True)
class TopicSupply:
    """Items of a topic, and the number that a blueprint needs.

    Attributes:
        in_use: number of published items that are neither withdrawn nor retired.
        changes: days on which an item comes (+1) or goes (−1), in order. New items come on the day of their forecast,
            and items go and come by decided withdrawals.
        stuck: number of new items that do not get ahead and have no forecast.
        needed: the least number of items with which each stored blueprint can be met; 0 if there is no minimum.
        needed_by: the blueprint that needs the most items.
    """

    topic: str
    in_use: int
    changes: tuple[tuple[date, int], ...]
    stuck: int
    needed: int
    needed_by: str

    def size(self, day: date) -> int:
        """Compute the number of items in use on a day."""
        return self.in_use + sum(change for on, change in self.changes if on <= day)

    @property
    def shortage(self) -> str:
        """Describe when the topic has fewer items than it needs; "" if it always has enough."""
        sizes = {day: self.size(day) for day, _ in self.changes}
        needed = f"{self.needed} needed for {self.needed_by}"
        if self.in_use < self.needed:
            enough = next((day for day, n in sizes.items() if n >= self.needed), None)
            most = max(sizes.values(), default=self.in_use)
            then = f"{self.needed} by {enough:%B %Y}" if enough else f"{most} at most by the forecasts"
            return f"{self.topic} runs short: {needed}, {self.in_use} in use, {then}"
        short = next((day for day, n in sizes.items() if n < self.needed), None)
        return f"{self.topic} runs short in {short:%B %Y}: {needed}, {sizes[short]} left" if short else ""


def read_supplies(connection: psycopg.Connection, scale_id: str, at: datetime) -> list[TopicSupply]:
    """Read the supply of each topic of a scale as of `at`, also of topics without items that a blueprint needs."""
    topics: dict[str, str] = dict(
        connection.execute(
            "SELECT item_id, coalesce(nullif(topic_id, ''), 'no topic') FROM question WHERE scale_id = %s", (scale_id,)
        ).fetchall()
    )
    needs, withdrawn = _read_needs(connection, scale_id, at), read_withdrawals(connection)
    stages = {each.item_id: each.stage for each in item_stages(connection, scale_id)}
    in_use, stuck = defaultdict[str, int](int), defaultdict[str, int](int)
    changes = {topic: list[tuple[date, int]]() for topic in {*topics.values(), *needs}}
    for item in items_published_by(connection, scale_id, at):
        if stages.get(item, "retired") != "retired":
            in_use[topics[item]] += not withdrawn.covers(item, at)
            ends = (end for since, until in withdrawn.stretches.get(item, ()) for end in ((since, -1), (until, 1)))
            changes[topics[item]] += [(day.astimezone(UTC).date(), n) for day, n in ends if day and day > at]
    for new in read_pipeline(connection, scale_id):
        if stages.get(new.item_id) in UNPUBLISHED:
            stuck[topics[new.item_id]] += bool(new.stuck)
            ready = at.date() if new.publishable else new.ready_at
            changes[topics[new.item_id]] += [(ready, 1)] if ready and not new.stuck else []
    return [
        TopicSupply(topic, in_use[topic], tuple(sorted(changes[topic])), stuck[topic], *needs.get(topic, (0, "")))
        for topic in sorted(changes, key=natural_order)
    ]


def _read_needs(connection: psycopg.Connection, scale_id: str, at: datetime) -> dict[str, tuple[int, str]]:
    """Read the number of items of each topic that blueprints need, with the blueprint that needs the most.

    These are the newest blueprint of each name among the assembled forms, and the policies in force at `at`.
    """
    drafts = sorted(read_drafts(connection, scale_id).values(), key=lambda own: own.decision_id)
    stored: dict[str, Blueprint | Policy] = {f"form blueprint {own.blueprint.name}": own.blueprint for own in drafts}
    tests = versions_in_force(connection, at).values()
    stored |= {f"adaptive test {own.test_id}": own.policy for own in tests if own.scale_id == scale_id}
    needs: dict[str, tuple[int, str]] = {}
    for title, rules in stored.items():
        for topic, limits in rules.topics.items():
            needs[topic] = max(needs.get(topic, (0, "")), (rules.needed(limits.min), title))
    return needs

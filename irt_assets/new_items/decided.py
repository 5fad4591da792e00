"""Decide on new items: seed them within limits, stop, reject or retire them, and bring them back.

A new version of an item is a new item; `replaces` in its `meta` is the id of the item that it replaces.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Annotated, Literal, get_args

import psycopg
from pydantic import BaseModel, Field

from irt_assets.common.wording import first_sentences, join_names, quantity
from irt_assets.ledger.decision_rows import DecisionRow, Entry, Kind, Plan, read_decisions
from irt_assets.ledger.publications import items_ever_published
from irt_assets.new_items.stages import IN_LEDGER, UNPUBLISHED, ItemStage, Stage, item_stages
from irt_assets.scales.item_status import read_withdrawals
from resources.failures import PermanentFailure

MAX_NAMED = 10
"""Number of items that are named one by one; the others are counted."""
MAX_ANSWERS = 1_000_000


class SeedLimits(BaseModel):
    """Value of a decision to seed an item, or to stop: limits of the draws.

    Attributes:
        max_answers: most answers in all, with draws that are not answered yet. 0: the item is not drawn.
        max_per_day: most of them a day (UTC); None: no limit.
        first_day, last_day: days (UTC) between which the item is drawn, both included; None: no limit.
    """

    max_answers: Annotated[int, Field(ge=0, le=MAX_ANSWERS)] = 400
    max_per_day: Annotated[int | None, Field(ge=1, le=MAX_ANSWERS)] = None
    first_day: date | None = None
    last_day: date | None = None

    @property
    def problems(self) -> list[str]:
        """Why the limits are not possible."""
        if self.first_day and self.last_day and self.last_day < self.first_day:
            return [f"the last day must not be before {self.first_day}, got {self.last_day}"]
        return []

    @property
    def in_words(self) -> str:
        if not self.max_answers:
            return "not seeded"
        answers = f"seeded, with {quantity(self.max_answers, 'answer')} at most"
        per_day = f", {self.max_per_day:,} a day" if self.max_per_day else ""
        days = [f" {word} {day}" for word, day in (("from", self.first_day), ("until", self.last_day)) if day]
        return "".join((answers, per_day, *days))


class ItemFate(BaseModel):
    """Value of a decision to reject, retire or bring back an item."""

    state: Literal["rejected", "retired", "in use"] = "in use"

    @property
    def in_words(self) -> str:
        return self.state


NOT_SEEDED = SeedLimits(max_answers=0)


@dataclass(frozen=True)
class ItemsRequest:
    """Items to decide on, and their limits if they are to be seeded."""

    items: Sequence[str]
    limits: SeedLimits = field(default_factory=SeedLimits)


@dataclass(frozen=True)
class ItemDecision(Kind):
    """Decide on the items of an `ItemsRequest`.

    Attributes:
        decided: the value; None: the limits of the request.
        stages: stages of the items that may be decided on so.
        way_out: advice on items in other stages.
        effect: a sentence about {item} with {value}.
        opposite: kind that undoes the first decision on an item.
    """

    name: str
    value: type[SeedLimits | ItemFate]
    decided: SeedLimits | ItemFate | None
    stages: Collection[str]
    way_out: str
    effect: str
    opposite: str
    subject = "item"

    def plan(self, connection: psycopg.Connection, request: ItemsRequest) -> Plan:
        """Plan the decision. Raises PermanentFailure, naming the items, if the bank lacks an item, if an item is in a
        stage that does not allow the decision, if nothing would change, or if the scale has no origin."""
        value = self.decided or request.limits
        stages = {stage.item_id: stage for stage in item_stages(connection, items=request.items)}
        items = [*dict.fromkeys(request.items)]
        before = {item: self._last(connection, item) for item in items}
        if problems := [
            *missing_items(items, stages),
            *request.limits.problems,
            *self._problems(connection, stages, before),
        ]:
            raise PermanentFailure(f"nothing was decided: {'; '.join(problems[:MAX_NAMED])}")
        part = "the seeding" if self.value is SeedLimits else "the state"
        return Plan(
            entries=[Entry(stages[item].scale_id, value, item) for item in items],
            sentences=first_sentences(
                [self.effect.format(item=item, value=value.in_words) for item in items], MAX_NAMED
            ),
            basis={f"{part} of {item}": self._in_words(before[item]) for item in items},
            effects=lambda connection: forms_with_items(connection, items) if value is request.limits else [],
        )

    def inverse(self, connection: psycopg.Connection, decision: DecisionRow) -> tuple[str, ItemsRequest]:
        """Return the request to decide as before."""
        before = self._last(connection, decision.subject, decision.decision_id)
        if before is None:
            return self.opposite, ItemsRequest([decision.subject])
        limits = SeedLimits.model_validate(before.value) if self.value is SeedLimits else SeedLimits()
        return before.kind, ItemsRequest([decision.subject], limits)

    def _last(self, connection: psycopg.Connection, item: str, before: int | None = None) -> DecisionRow | None:
        """Read the last decision on the same thing, or the last one before a decision."""
        related = [kind.name for kind in ITEM_DECISIONS if kind.value is self.value]
        found = read_decisions(connection, kinds=related, subject=item)
        return next((each for each in reversed(found) if before is None or each.decision_id < before), None)

    def _in_words(self, last: DecisionRow | None) -> str:
        """Describe the value of the last decision."""
        if last is None:
            return "no decision"
        return f"{self.value.model_validate(last.value).in_words} (decision {last.decision_id})"

    def _problems(
        self, connection: psycopg.Connection, stages: Mapping[str, ItemStage], before: Mapping[str, DecisionRow | None]
    ) -> Iterator[str]:
        """Yield why items cannot be decided on, a sentence for each."""
        published = {each.scale_id for each in item_stages(connection) if each.stage in IN_LEDGER}
        for item, stage in stages.items():
            last = before[item]
            if stage.stage not in self.stages:
                yield f"{item} is {stage.stage}: {self.way_out}"
            elif self.decided == NOT_SEEDED and (last is None or not last.value["max_answers"]):
                yield f"{item} is not seeded"
            elif self.decided is None and stage.scale_id not in published:
                yield (
                    f"{item} is on scale {stage.scale_id} without published values. The origin comes first: "
                    f"`irt scale init --scale {stage.scale_id}`"
                )


def missing_items(items: Sequence[str], stages: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each item that the bank lacks, or one if no item is named."""
    if not items:
        yield "no item is named"
    yield from (f"the bank has no item {item!r} (ids are case-sensitive)" for item in items if item not in stages)


def forms_with_items(connection: psycopg.Connection, items: Sequence[str]) -> list[str]:
    """Name the forms in which items count towards the score, a sentence for each item."""
    rows = connection.execute(
        """SELECT item_id, array_agg(form_id ORDER BY form_id) FROM form_item WHERE scored AND item_id = ANY(%s)
           GROUP BY 1 ORDER BY 1""",
        ([*items],),
    )
    sentences = [f"{item} is also on {join_names(forms, MAX_NAMED)}, whose score it counts for" for item, forms in rows]
    return first_sentences(sentences, MAX_NAMED)


SEED = ItemDecision(
    "seed items",
    SeedLimits,
    None,
    UNPUBLISHED,
    "only unpublished items that are not rejected can be seeded; `irt items bring-back` undoes a rejection",
    "item {item} is {value}. Its answers in seeded places count for no fit, θ or score.",
    "stop seeding",
)
STOP = ItemDecision(
    "stop seeding",
    SeedLimits,
    NOT_SEEDED,
    get_args(Stage),
    "",
    "item {item} is {value} any more. Answers to earlier draws still count for its estimate.",
    "seed items",
)
REJECT = ItemDecision(
    "reject items",
    ItemFate,
    ItemFate(state="rejected"),
    UNPUBLISHED,
    "only unpublished items can be rejected; `irt items retire` retires published ones",
    "item {item} is {value}: it is not drawn or proposed. A month may still publish it from other answers.",
    "bring items back",
)
RETIRE = ItemDecision(
    "retire items",
    ItemFate,
    ItemFate(state="retired"),
    ("published",),
    "only published items can be retired; `irt items reject` rejects unpublished ones",
    "item {item} is {value}. Its answers still count towards θ until `irt items withdraw` takes it out of use.",
    "bring items back",
)
BRING_BACK = ItemDecision(
    "bring items back",
    ItemFate,
    ItemFate(),
    ("rejected", "retired"),
    "only rejected and retired items can be brought back",
    "item {item} is {value} again.",
    "reject items",
)
ITEM_DECISIONS = (SEED, STOP, REJECT, RETIRE, BRING_BACK)


def read_seeding(connection: psycopg.Connection, scale_id: str, at: datetime) -> dict[str, SeedLimits]:
    """Read the items of a scale that may be drawn at `at`, with their limits: item → limits.

    These are items without a publication, not even a future one, whose last decision seeds them, and which are not
    rejected, retired or withdrawn.
    """
    day, withdrawn = at.astimezone(UTC).date(), read_withdrawals(connection)
    published = items_ever_published(connection, scale_id)
    found = read_decisions(connection, kinds=(SEED.name, STOP.name), scale_id=scale_id)
    last = {decision.subject: decision for decision in found if decision.decided_at <= at}
    stages = item_stages(connection, scale_id, last.keys() - published)
    limits = {
        each.item_id: SeedLimits.model_validate(last[each.item_id].value)
        for each in stages
        if each.stage in UNPUBLISHED and not withdrawn.covers(each.item_id, at)
    }
    return {
        item: each
        for item, each in limits.items()
        if each.max_answers and (each.first_day or day) <= day <= (each.last_day or day)
    }

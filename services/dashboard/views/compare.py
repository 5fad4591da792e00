"""Two months of a scale side by side: gates, counts, linking, flagged items, and the parameters that moved most."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg

from irt_assets.abilities.batch import MeasuredLearners, read_measured_learners
from irt_assets.blocks import (
    DASH,
    Badge,
    Block,
    Cell,
    Figure,
    Figures,
    Paragraph,
    Section,
    Text,
    Tone,
    notice,
    number,
    table,
    value_with_error,
)
from irt_assets.charts import scatter_chart
from irt_assets.common.arrays import Floats
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.partitions import Month
from irt_assets.common.wording import in_words, is_or_are, join_names, quantity
from irt_assets.drift.blocks import CURVES
from irt_assets.gates.gates import SET_GATES
from irt_assets.gates.month_classification import GateStatus, MonthState
from irt_assets.gates.month_status import gate_statuses
from irt_assets.ledger.findings import findings_of
from irt_assets.ledger.fits import LinkedFit, linked_fit
from irt_assets.ledger.linked_windows import LinkedFitRecord, linkings_of
from irt_assets.ledger.month_verdicts import read_verdict
from irt_assets.ledger.publications import ItemInForce, publications_in_force
from irt_assets.ledger.steps import Step
from irt_assets.reports.drift_linking import jump_between
from irt_assets.reports.item_blocks import parameters
from irt_assets.reports.month_blocks import OUTCOMES
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics import ItemParameters
from irt_psychometrics.plots import Chart
from services.dashboard.address_fields import find_month, find_scale, months_of, scales_of, state_of
from services.dashboard.elements import choice, query_form
from services.dashboard.figures import render_blocks
from services.dashboard.page import Page, ViewRequest

MOVERS_SHOWN = 15
CHANGES_SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two months.

    Attributes:
        fit: its linked fit, with the items.
        linked: how the fit was linked.
        flags: findings by item.
        in_force: publication that scoring uses at the end of the month, by item.
    """

    state: MonthState
    scale: Scale
    gates: dict[str, GateStatus]
    step: Step | None
    fit: LinkedFit | None
    linked: LinkedFitRecord | None
    measured: MeasuredLearners
    flags: dict[str, list[str]]
    in_force: dict[str, ItemInForce]

    @property
    def month(self) -> str:
        return self.state.month


@dataclass(frozen=True)
class ItemPairs:
    """The items that both months estimated.

    Attributes:
        sides: their parameters in the first and in the second month.
        distances: wABC between the two curves of each item, shape (J,).
    """

    sides: tuple[ItemParameters, ItemParameters]
    distances: Floats

    @property
    def items(self) -> tuple[str, ...]:
        return self.sides[0].item_ids

    @property
    def movers(self) -> list[int]:
        """Indices of the items whose curves are furthest apart, largest distance first."""
        return [int(k) for k in np.argsort(-self.distances, kind="stable")[:MOVERS_SHOWN]]


def page(request: ViewRequest) -> Page:
    reader, states = request.reader, request.reader.month_states()
    scale_id, months = find_scale(request, states), months_of(states)
    second = find_month(request, states, "second", months[0] if months else "")
    first = find_month(request, states, "first", months[min(months.index(second) + 1, len(months) - 1)])
    scales = scales_of(states)
    choose = query_form(
        "compare",
        choice("First month", "first", months, first),
        choice("Second month", "second", months, second),
        choice("Scale", "scale", scales, scale_id) if len(scales) > 1 else None,
        button="Compare",
    )
    if first == second:
        return Page("Two months side by side", render_blocks(choose, notice("Choose two different months.", "warning")))
    with reader.connect() as connection:
        left, right = [_side(connection, state_of(states, name, scale_id)) for name in (first, second)]
    pairs = pairs_of(left, right)
    limits = right.scale.rules.publication
    jump = jump_between(left.linked, right.linked, limits) if left.linked and right.linked else ""
    return Page(
        f"What changed from {first} to {second}?",
        render_blocks(
            Paragraph(_answer(left, right, pairs), "lead"),
            Paragraph(jump) if jump else None,
            choose,
            Section("In numbers", (_numbers(left, right),)),
            _gates(left, right),
            _movers(pairs, left, right),
            Section("Published parameters that differ", tuple(_in_force(left, right))),
            Section("Flagged items, new and gone", tuple(_flags(left, right))),
        ),
    )


def _side(connection: psycopg.Connection, state: MonthState) -> Side:
    start, end = Month(state.month).bounds
    scale = read_scales(connection, start)[state.scale_id]
    judged = read_verdict(connection, state.month, state.scale_id)
    return Side(
        state=state,
        scale=scale,
        gates=gate_statuses(judged),
        step=judged.step,
        fit=linked_fit(connection, scale.scale_id, "monthly", start, scale.engine),
        linked=next((fit for fit in linkings_of(connection, scale, state.month) if fit.month == state.month), None),
        measured=read_measured_learners(connection, scale.scale_id, end),
        flags=findings_of(connection, scale.scale_id, state.month),
        in_force={left.item_id: left for left in publications_in_force(connection, scale.scale_id, end)},
    )


def pairs_of(left: Side, right: Side) -> ItemPairs:
    first, second = (side.fit.values if side.fit else {} for side in (left, right))
    items = [item for item in first if item in second]
    old, new = (ItemParameters.from_rows(items, (values[item] for item in items)) for values in (first, second))
    return ItemPairs((old, new), new.wabc(old, left.scale.mu, left.scale.sigma))


def _answer(left: Side, right: Side, pairs: ItemPairs) -> str:
    new, no_longer = right.flags.keys() - left.flags.keys(), left.flags.keys() - right.flags.keys()
    changed = len(changes_in_force(left, right))
    states = (left.state.state, right.state.state)
    parts = [
        f"Both months are {states[0]}"
        if states[0] is states[1]
        else f"{left.month} is {states[0]} and {right.month} is {states[1]}",
        f"scoring uses other parameters for {quantity(changed, 'item')}"
        if changed
        else "scoring uses the same parameters",
        f"{quantity(len(new), 'item')} newly flagged and {in_words(len(no_longer))} no longer"
        if new or no_longer
        else "the same items are flagged",
    ]
    largest_move = f" The curve of {pairs.items[pairs.movers[0]]} moved most." if pairs.items else ""
    return f"{'; '.join(parts)}.{largest_move}"


def _numbers(left: Side, right: Side) -> Block:
    rows = [(name, value(left), value(right)) for name, value in _ROWS]
    return table(("", left.month, right.month), rows, numbers=(left.month, right.month), caption="Both months")


def _constant(side: Side, name: str) -> str:
    return value_with_error(*side.linked.constants.value(name), 3) if side.linked else DASH


_ROWS: Sequence[tuple[str, Any]] = (
    ("state", lambda s: s.state.state.badge),
    ("gates passed", lambda s: f"{sum(g.passed is True for g in s.gates.values())} of {len(SET_GATES)}"),
    ("answers fitted", lambda s: f"{s.linked.n_responses:,}" if s.linked else DASH),
    ("learners", lambda s: f"{s.linked.n_persons:,}" if s.linked else DASH),
    ("items fitted", lambda s: f"{s.linked.n_items:,}" if s.linked else DASH),
    ("slope of the linking", lambda s: _constant(s, "slope")),
    ("intercept of the linking", lambda s: _constant(s, "intercept")),
    ("anchors used", lambda s: f"{len(s.linked.constants.anchors_used)}" if s.linked else DASH),
    ("anchors left out", lambda s: f"{len(s.linked.constants.anchors_dropped)}" if s.linked else DASH),
    ("first published", lambda s: f"{s.step.n_published:,}" if s.step else DASH),
    ("proposed", lambda s: f"{s.step.n_proposed:,}" if s.step else DASH),
    ("held back", lambda s: f"{s.step.n_held:,}" if s.step else DASH),
    ("items flagged", lambda s: f"{len(s.flags):,}"),
    ("items in use at its end", lambda s: f"{len(s.in_force):,}"),
    ("learners measured", lambda s: f"{s.measured.learners:,}"),
    ("mean θ", lambda s: number(s.measured.mean)),
    ("SD of θ", lambda s: number(s.measured.sd)),
)


def _gates(left: Side, right: Side) -> Section:
    differ = [gate for gate in SET_GATES if left.gates[gate.name].passed is not right.gates[gate.name].passed]
    if not differ:
        return Section("Gates", (Paragraph("Every gate has the same result in both months."),))
    verdicts = [[OUTCOMES[side.gates[gate.name].passed] for gate in differ] for side in (left, right)]
    rows: list[tuple[Cell, ...]] = list(zip([gate.explanation for gate in differ], *verdicts, strict=True))
    headers = ("gate", left.month, right.month)
    return Section("Gates that differ", (table(headers, rows, caption="Gates that differ"),))


def _movers(pairs: ItemPairs, left: Side, right: Side) -> Section:
    if not pairs.items:
        sentence = "No item was put on the scale by both months, so no parameters can be compared."
        return Section("Parameters", (Paragraph(sentence),))
    rows = [
        (
            _link(pairs.items[k], left),
            *_values([side.b[k] for side in pairs.sides], [side.b_se[k] for side in pairs.sides]),
            *_values([side.a[k] for side in pairs.sides], [side.a_se[k] for side in pairs.sides]),
            pairs.distances[k],
        )
        for k in pairs.movers
    ]
    numbers = (f"b {left.month}", f"b {right.month}", "change", f"a {left.month}", f"a {right.month}", "change")
    explanation = (
        f"{len(pairs.items):,} items were put on the scale by both months. The table has the {len(rows)} whose "
        "curves differ most over the scale's learners, with the errors of the changes."
    )
    scatters = (
        _scatter("difficulty b", pairs, [side.b for side in pairs.sides], left, right),
        _scatter("discrimination a", pairs, [side.a for side in pairs.sides], left, right),
    )
    moved = table(("item", *numbers, CURVES), rows, numbers=numbers, caption="The items that moved most", small=True)
    return Section("Parameters that moved most", (Paragraph(explanation), Figures(scatters), moved))


def _link(item: str, side: Side) -> Text:
    return page_link(item, "item", item=item, scale=side.scale.scale_id)


def _values(values: Sequence[float], errors: Sequence[float]) -> list[str]:
    """The two months' values of a parameter and the change, each with its error, as text."""
    change = value_with_error(values[1] - values[0], math.hypot(*errors), sign=True)
    return [*map(value_with_error, values, errors), change]


def _scatter(name: str, pairs: ItemPairs, values: Sequence[Floats], left: Side, right: Side) -> Figure:
    movers = pairs.movers
    correlation = number(float(np.corrcoef(values[0], values[1])[0, 1])) if len(pairs.items) > 2 else DASH
    return Figure(
        scatter_chart(
            (f"{name}, {left.month}", f"{name}, {right.month}"),
            f"{name.capitalize()} of {len(pairs.items):,} items, {left.month} against {right.month}: correlation "
            f"{correlation}. Moved most: {join_names((pairs.items[k] for k in movers), 5)}.",
            values[0],
            values[1],
            ["moved most" if k in movers else "" for k in range(len(pairs.items))],
            Chart.ends_of(*values),
            titles=[f"{item}: {x:.2f} → {y:.2f}" for item, x, y in zip(pairs.items, *values, strict=True)],
            plain="items",
        )
    )


def changes_in_force(left: Side, right: Side) -> list[str]:
    """Items whose parameters for scoring differ between the ends of the two months, sorted."""

    def scored(side: Side, item: str) -> list[Any] | None:
        return side.in_force[item].values.scored_with if item in side.in_force else None

    items = left.in_force.keys() | right.in_force.keys()
    return sorted(item for item in items if scored(left, item) != scored(right, item))


def _in_force(left: Side, right: Side) -> Iterator[Block]:
    changed = changes_in_force(left, right)
    yield Paragraph(f"{quantity(len(changed), 'item').capitalize()} of those in use at the end of either month.")
    rows = [
        (_link(item, left), *(_published_text(side.in_force.get(item)) for side in (left, right)))
        for item in changed[:CHANGES_SHOWN]
    ]
    if rows:
        caption = "Published parameters at the end of each month"
        yield table(("item", left.month, right.month), rows, caption=caption)
    if more := len(changed) - len(rows):
        yield Paragraph((f"{more:,} more are in ", page_link("the item bank", "bank", scale=left.scale.scale_id), "."))


def _published_text(left: ItemInForce | None) -> str:
    return f"{parameters(left.values)} since {left.effective_from:%Y-%m-%d}" if left else "not in use"


def _flags(left: Side, right: Side) -> Iterator[Block]:
    both = len(left.flags.keys() & right.flags.keys())
    yield Paragraph(f"{quantity(both, 'item').capitalize()} {is_or_are(both)} flagged in both months.")
    news: tuple[tuple[str, Side, Side, Tone], ...] = (("new", right, left, "bad"), ("gone", left, right, "good"))
    rows: list[tuple[Cell, ...]] = [
        (_link(item, left), Badge(word, tone), "; ".join(side.flags[item]))
        for word, side, opposite, tone in news
        for item in sorted(side.flags.keys() - opposite.flags.keys())
    ]
    if rows:
        yield table(("item", "", "finding"), rows[:CHANGES_SHOWN], caption="Flags that are new or gone")
    if len(rows) > CHANGES_SHOWN:
        yield Paragraph(f"{len(rows) - CHANGES_SHOWN:,} more are on the months' own pages.")

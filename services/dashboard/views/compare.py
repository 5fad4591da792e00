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
from irt_assets.gates.gates import SET_GATES
from irt_assets.gates.month_classification import GateStatus, MonthState
from irt_assets.gates.month_status import gate_statuses
from irt_assets.ledger.findings import findings_of
from irt_assets.ledger.fits import LinkedFit, linked_fit
from irt_assets.ledger.linked_windows import LinkedFitRecord, linkings_of
from irt_assets.ledger.publications import ItemInForce, publications_in_force
from irt_assets.ledger.steps import Step, step_of
from irt_assets.reports.item_blocks import parameters
from irt_assets.reports.month_blocks import OUTCOMES
from irt_assets.responses.scales import Scale, read_scales
from irt_psychometrics import ItemParameters
from irt_psychometrics.plots import Chart
from services.dashboard.address_fields import month_named, months_of, scale_named, scales_of, state_of
from services.dashboard.elements import asking_form, choice
from services.dashboard.figures import shown
from services.dashboard.page import Page, ViewRequest
from services.dashboard.views.month import gate_of

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
class ComparedPairs:
    """The items that both months estimated.

    Attributes:
        sides: their parameters in the first and in the second month.
        apart: wABC between the two curves of each item, shape (J,).
    """

    sides: tuple[ItemParameters, ItemParameters]
    apart: Floats

    @property
    def items(self) -> tuple[str, ...]:
        return self.sides[0].item_ids

    @property
    def movers(self) -> list[int]:
        """Indices of the items whose curves are furthest apart, largest distance first."""
        return [int(k) for k in np.argsort(-self.apart, kind="stable")[:MOVERS_SHOWN]]


def page(asked: ViewRequest) -> Page:
    reader, overview = asked.reader, asked.reader.overview()
    scale_id, months = scale_named(asked, overview), months_of(overview)
    second = month_named(asked, overview, "second", months[0] if months else "")
    first = month_named(asked, overview, "first", months[min(months.index(second) + 1, len(months) - 1)])
    scales = scales_of(overview)
    choose = asking_form(
        "compare",
        choice("First month", "first", months, first),
        choice("Second month", "second", months, second),
        choice("Scale", "scale", scales, scale_id) if len(scales) > 1 else None,
        button="Compare",
    )
    if first == second:
        return Page("Two months side by side", shown(choose, notice("Choose two different months.", "warning")))
    gates = {
        name: {gate: gate_of(by_scale, scale_id) for gate, by_scale in gate_statuses(reader.instance, name).items()}
        for name in (first, second)
    }
    with reader.connect() as connection:
        one, other = [_side(connection, state_of(overview, name, scale_id), gates[name]) for name in (first, second)]
    pairs = pairs_of(one, other)
    return Page(
        f"What changed from {first} to {second}?",
        shown(
            Paragraph(_answer(one, other, pairs), "lead"),
            choose,
            Section("In numbers", (_numbers(one, other),)),
            _gates(one, other),
            _movers(pairs, one, other),
            Section("Published parameters that differ", tuple(_in_force(one, other))),
            Section("Flagged items, new and gone", tuple(_flags(one, other))),
        ),
        as_of=overview.now,
    )


def _side(connection: psycopg.Connection, state: MonthState, gates: dict[str, GateStatus]) -> Side:
    start, end = Month(state.month).bounds
    scale = read_scales(connection, start)[state.scale_id]
    return Side(
        state=state,
        scale=scale,
        gates=gates,
        step=step_of(connection, scale.scale_id, state.month),
        fit=linked_fit(connection, scale.scale_id, "monthly", start, scale.engine),
        linked=next((fit for fit in linkings_of(connection, scale, state.month) if fit.month == state.month), None),
        measured=read_measured_learners(connection, scale.scale_id, end),
        flags=findings_of(connection, scale.scale_id, state.month),
        in_force={one.item_id: one for one in publications_in_force(connection, scale.scale_id, end)},
    )


def pairs_of(one: Side, other: Side) -> ComparedPairs:
    first, second = (side.fit.values if side.fit else {} for side in (one, other))
    items = [item for item in first if item in second]
    old, new = (ItemParameters.from_rows(items, (of[item] for item in items)) for of in (first, second))
    return ComparedPairs((old, new), new.wabc(old, one.scale.mu, one.scale.sigma))


def _answer(one: Side, other: Side, pairs: ComparedPairs) -> str:
    new, gone = other.flags.keys() - one.flags.keys(), one.flags.keys() - other.flags.keys()
    changed = len(changes_in_force(one, other))
    states = (one.state.state, other.state.state)
    parts = [
        f"Both months are {states[0]}"
        if states[0] is states[1]
        else f"{one.month} is {states[0]} and {other.month} is {states[1]}",
        f"scoring uses other parameters for {quantity(changed, 'item')}"
        if changed
        else "scoring uses the same parameters",
        f"{quantity(len(new), 'item')} newly flagged and {in_words(len(gone))} no longer"
        if new or gone
        else "the same items are flagged",
    ]
    moved = f" The curve of {pairs.items[pairs.movers[0]]} moved most." if pairs.items else ""
    return f"{'; '.join(parts)}.{moved}"


def _numbers(one: Side, other: Side) -> Block:
    rows = [(name, value(one), value(other)) for name, value in _ROWS]
    return table(("", one.month, other.month), rows, numbers=(one.month, other.month), caption="Both months")


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


def _gates(one: Side, other: Side) -> Section:
    differ = [gate for gate in SET_GATES if one.gates[gate.name].passed is not other.gates[gate.name].passed]
    if not differ:
        return Section("Gates", (Paragraph("Every gate came to the same in both months."),))
    verdicts = [[OUTCOMES[side.gates[gate.name].passed] for gate in differ] for side in (one, other)]
    rows: list[tuple[Cell, ...]] = list(zip([gate.explanation for gate in differ], *verdicts, strict=True))
    headers = ("gate", one.month, other.month)
    return Section("Gates that differ", (table(headers, rows, caption="Gates that differ"),))


def _movers(pairs: ComparedPairs, one: Side, other: Side) -> Section:
    if not pairs.items:
        none = "No item was put on the scale by both months, so none can be compared."
        return Section("Parameters", (Paragraph(none),))
    rows = [
        (
            _link(pairs.items[k], one),
            *_values([of.b[k] for of in pairs.sides], [of.b_se[k] for of in pairs.sides]),
            *_values([of.a[k] for of in pairs.sides], [of.a_se[k] for of in pairs.sides]),
            number(pairs.apart[k], 3),
        )
        for k in pairs.movers
    ]
    numbers = (f"b {one.month}", f"b {other.month}", "change", f"a {one.month}", f"a {other.month}", "change", "wABC")
    named = (
        f"{len(pairs.items):,} items were put on the scale by both months. Named are the {len(rows)} whose curves "
        "lie furthest apart (wABC: the area between them over the scale's learners); changes with their errors."
    )
    scatters = (
        _scatter("difficulty b", pairs, [of.b for of in pairs.sides], one, other),
        _scatter("discrimination a", pairs, [of.a for of in pairs.sides], one, other),
    )
    moved = table(("item", *numbers), rows, numbers=numbers, caption="The items that moved most", small=True)
    return Section("Parameters that moved most", (Paragraph(named), Figures(scatters), moved))


def _link(item: str, side: Side) -> Text:
    return page_link(item, "item", item=item, scale=side.scale.scale_id)


def _values(values: Sequence[float], errors: Sequence[float]) -> list[str]:
    """The two months' values of a parameter and the change, each with its error, as text."""
    change = value_with_error(values[1] - values[0], math.hypot(*errors), sign=True)
    return [*map(value_with_error, values, errors), change]


def _scatter(name: str, pairs: ComparedPairs, values: Sequence[Floats], one: Side, other: Side) -> Figure:
    movers = pairs.movers
    correlation = number(float(np.corrcoef(values[0], values[1])[0, 1])) if len(pairs.items) > 2 else DASH
    return Figure(
        scatter_chart(
            (f"{name}, {one.month}", f"{name}, {other.month}"),
            f"{name.capitalize()} of {len(pairs.items):,} items, {one.month} against {other.month}: correlation "
            f"{correlation}. Moved most: {join_names((pairs.items[k] for k in movers), 5)}.",
            values[0],
            values[1],
            ["moved most" if k in movers else "" for k in range(len(pairs.items))],
            Chart.ends_of(*values),
            titles=[f"{item}: {x:.2f} → {y:.2f}" for item, x, y in zip(pairs.items, *values, strict=True)],
            plain="items",
        )
    )


def changes_in_force(one: Side, other: Side) -> list[str]:
    """Items whose parameters for scoring differ between the ends of the two months, sorted."""

    def scored(side: Side, item: str) -> list[Any] | None:
        return side.in_force[item].values.scored_with if item in side.in_force else None

    items = one.in_force.keys() | other.in_force.keys()
    return sorted(item for item in items if scored(one, item) != scored(other, item))


def _in_force(one: Side, other: Side) -> Iterator[Block]:
    changed = changes_in_force(one, other)
    yield Paragraph(f"{quantity(len(changed), 'item').capitalize()} of those in use at the end of either month.")
    rows = [
        (_link(item, one), *(_published(side.in_force.get(item)) for side in (one, other)))
        for item in changed[:CHANGES_SHOWN]
    ]
    if rows:
        caption = "Published parameters at the end of each month"
        yield table(("item", one.month, other.month), rows, caption=caption)
    if more := len(changed) - len(rows):
        yield Paragraph((f"{more:,} more are in ", page_link("the item bank", "bank", scale=one.scale.scale_id), "."))


def _published(one: ItemInForce | None) -> str:
    return f"{parameters(one.values)} since {one.effective_from:%Y-%m-%d}" if one else "not in use"


def _flags(one: Side, other: Side) -> Iterator[Block]:
    both = len(one.flags.keys() & other.flags.keys())
    yield Paragraph(f"{quantity(both, 'item').capitalize()} {is_or_are(both)} flagged in both months.")
    news: tuple[tuple[str, Side, Side, Tone], ...] = (("new", other, one, "bad"), ("gone", one, other, "good"))
    rows: list[tuple[Cell, ...]] = [
        (_link(item, one), Badge(what, tone), "; ".join(side.flags[item]))
        for what, side, beside, tone in news
        for item in sorted(side.flags.keys() - beside.flags.keys())
    ]
    if rows:
        yield table(("item", "", "what was found"), rows[:CHANGES_SHOWN], caption="Flags that are new or gone")
    if len(rows) > CHANGES_SHOWN:
        yield Paragraph(f"{len(rows) - CHANGES_SHOWN:,} more are on the months' own pages.")

"""All that is known of one month of a scale, as sections: the order of its page, and what the drift report lacks of it.

What does not belong here: whether the month is safe to release in a sentence (see the dashboard and drift_report.py),
and what both have (month_shown.py, drift_linking.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import psycopg

from irt_assets.abilities.batch import measured_in
from irt_assets.blocks import (
    Badge,
    Block,
    Details,
    Figure,
    Paragraph,
    Section,
    Span,
    Text,
    pairs,
    prose,
    table,
)
from irt_assets.calibration.linking_history import history_figures, history_table, linked_of, read_history
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.partitions import Month
from irt_assets.common.wording import counted, with_capital, with_stop
from irt_assets.decisions.shown import decisions_table
from irt_assets.gates.anchor_shifts import AnchorShift, anchor_shifts
from irt_assets.gates.gates import SET_GATES, SetGate
from irt_assets.gates.month_judged import GateStatus, MonthState, State
from irt_assets.ledger.anchors import read_anchors
from irt_assets.ledger.decisions import Decision, newest_decisions
from irt_assets.ledger.fits import linked_fit
from irt_assets.ledger.linked_windows import latest_constants
from irt_assets.ledger.steps import Step, step_of
from irt_assets.reports.drift_charts import anchor_changes
from irt_assets.reports.drift_linking import linked, off_the_others
from irt_assets.reports.drift_rows import Linked, linkings_of, proposed_of
from irt_assets.reports.month_items import flagged_items
from irt_assets.reports.month_shown import answers, fit_facts, learners, published
from irt_assets.responses.scales import Scale
from irt_assets.responses.snapshot import current_snapshot

OUTCOMES = {True: Badge("passed", "good"), False: Badge("failed", "bad"), None: Badge("not evaluated")}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A month of a scale, with the status of each set gate, its publication, and its linked fit."""

    scale: Scale
    state: MonthState
    gates: Mapping[str, GateStatus]
    step: Step | None
    fit: Linked | None

    @property
    def month(self) -> str:
        return self.state.month

    @property
    def is_red(self) -> bool:
        return self.state.state is State.RED

    def failed(self, gate: SetGate) -> bool:
        """Whether the gate failed by itself."""
        status = self.gates[gate.name]
        return status.passed is False and not status.follows


def read_judged(
    connection: psycopg.Connection, scale: Scale, state: MonthState, gates: Mapping[str, GateStatus]
) -> Judged:
    fits = linkings_of(connection, scale, Month(state.month).start)
    return Judged(
        scale=scale,
        state=state,
        gates=gates,
        step=step_of(connection, scale.scale_id, state.month),
        fit=next((fit for fit in fits if fit.month == state.month), None),
    )


def sections(
    connection: psycopg.Connection, of: Judged, *, dashboard: str | None = None, ui_url: str = "", zone: str = "UTC"
) -> Iterator[Section]:
    """All that is known of the month; its answers are not read. dashboard: see `page_link`; ui_url: of Dagster."""
    month, scale = of.month, of.scale
    snapshot = current_snapshot(connection, month)
    counts = snapshot.counts.get(scale.scale_id, {}) if snapshot else {}
    decisions = newest_decisions(connection, month=month, scale_id=scale.scale_id)
    red = Paragraph("While the month is red its items are not compared with what is published.")
    flagged = [red] if of.is_red else flagged_items(connection, scale, month, of.step, dashboard)
    measured = measured_in(connection, scale.scale_id, Month(month).end)
    for title, blocks in (
        ("What must hold before anything is published", judged_by_gates(of)),
        ("Anchors and linking", linking(connection, scale, month, dashboard)),
        ("What was published", published(of.step, proposed_of(connection, scale, month, of.fit))),
        ("Flagged items", flagged),
        ("Answers and learners", [*answers(of.fit, counts), learners(measured)]),
        ("Decisions taken on it", decided(decisions, zone, dashboard)),
        ("Where the numbers come from", provenance(of, ui_url, zone)),
    ):
        yield Section(title, tuple(blocks))


def judged_by_gates(of: Judged) -> Iterator[Block]:
    """What each set gate says, and in a red month what to do about those that failed by themselves."""
    passed = sum(status.passed is True for status in of.gates.values())
    yield Paragraph(f"{passed} of {len(SET_GATES)} gates passed. One that fails holds the whole month of the scale.")
    rows: list[tuple[Text, Text]] = []
    for gate in SET_GATES:
        status = of.gates[gate.name]
        outcome = Badge("not judged") if status.follows else OUTCOMES[status.passed]
        what_to_do = (Span(" What to do: ", "bold"), *prose(gate.fix)) if of.is_red and of.failed(gate) else ()
        rows.append((outcome, (Span(gate.explanation, "bold"), " ", *prose(with_stop(status.why)), *what_to_do)))
    yield table(("outcome", "gate and reason"), rows, caption="Gates of the month")


def linking(connection: psycopg.Connection, scale: Scale, month: str, dashboard: str | None) -> Iterator[Block]:
    """How the month came to the scale, its anchors, and the months before it."""
    constants = latest_constants(connection, month, scale.scale_id, scale.engine)
    fit = linked_fit(connection, scale.scale_id, "monthly", Month(month).start, scale.engine)
    history = read_history(connection, scale, month)
    now = next((one for one in history if one.month == month), None)
    if now is None or now.error:
        yield Paragraph((f"{month} is not on the scale: ", *prose(now.error if now else "it was not fitted yet"), "."))
    if constants is not None:
        yield linked(constants, scale.rules.publication.anchor_q_alpha)
        link = partial(page_link, view="item", dashboard=dashboard, scale=scale.scale_id)
        yield from off_the_others(constants, lambda item: link(item, item=item))
    anchors = read_anchors(connection, scale.scale_id, scale.anchor_version)
    shifts = anchor_shifts(anchors, fit.values, fit.constants) if anchors and fit and constants == fit.constants else []
    if shifts:
        yield anchors_off(shifts)
    if linked_of(history):
        yield history_figures(history)
    if history:
        yield Details("Linking month by month", (history_table(history),))


def anchors_off(shifts: Sequence[AnchorShift]) -> Figure:
    """How far each anchor lies from the anchor set."""
    chart = anchor_changes(shifts)
    formats = {"change in b": "+.2f", "error": ".2f"}
    rows = [(of.item_id, of.delta_b, of.error, "moved" if of.moved else "agrees") for of in shifts]
    numbers = table(("anchor", *formats, ""), rows, numbers=formats, caption="Change of each anchor")
    return Figure(chart, chart.described, wide=True, numbers=numbers)


def decided(taken: Sequence[Decision], zone: str, dashboard: str | None) -> Iterator[Block]:
    yield Paragraph(f"{with_capital(counted(len(taken), 'decision'))} so far.")
    if taken:
        yield decisions_table(taken, zone, dashboard=dashboard)


def provenance(of: Judged, ui_url: str, zone: str) -> Iterator[Block]:
    if of.fit is None:
        yield Paragraph("There is no linked fit of the month yet.")
    else:
        yield Details("Fit, hashes, code and run", (pairs(fit_facts(of.fit, of.scale, ui_url, zone)),))

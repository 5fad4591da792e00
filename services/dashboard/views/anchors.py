"""Drop anchors from the linking, or restore them: the evidence, the effect and the decision.

Addresses are `?view=anchors&month=2026-08&scale=default&item=K7`; for several anchors, `&chosen:K7=on` for each.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from htmltools import TagChild, tags
from shiny import Inputs, Outputs, Session, render, ui

from irt_assets.blocks import List, Paragraph, Span, notice, prose
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import join_names, quantity, sentence, with_stop
from irt_assets.decisions.anchor_versions import FIND_OUT_FIRST, Kind, moved_anchors, preview_change
from irt_assets.decisions.proposals import Reference
from irt_assets.decisions.rule_trial import try_anchors
from irt_assets.ledger.anchors import dropped_anchors
from irt_assets.ledger.decisions import decided_anchors
from irt_assets.reports.decision_blocks import moved_anchors_table
from irt_assets.scales.scale import read_scales
from resources.failures import PermanentFailure
from services.dashboard import decision_form, rematerialising
from services.dashboard.address_fields import bounds_of_month, chosen_names, require_known
from services.dashboard.decisions import DecisionKind, may_decide
from services.dashboard.elements import DASH, section, shorten
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotFound, Page, ViewRequest

CHANGES: Mapping[DecisionKind, Kind] = {"drop": "drop_anchor", "put_back": "restore_anchor"}
MAX_NAMED = 5
DROPPING = "An anchor that has changed shifts the whole scale. The others keep their frozen values. " + FIND_OUT_FIRST
RESTORING = "Restored anchors have their frozen values, and later windows are linked with them again."


@dataclass(frozen=True)
class AnchorSelection:
    """The anchors that the address chooses, for a month and a scale."""

    month: str
    scale_id: str
    items: list[str]


def page(request: ViewRequest) -> Page:
    selection = _read_selection(request)
    month, scale_id, items = selection.month, selection.scale_id, selection.items
    with request.reader.connect() as connection:
        scales = read_scales(connection, bounds_of_month(month)[0])
        require_known("scale", scale_id, scales)
        moved = moved_anchors(connection, month, scales[scale_id])
        kind = _kind(connection, selection)
        restored = {(scale_id, item) for item in items} <= decided_anchors(connection, "restore_anchor")
        decided = restored or kind == "put_back"
        try:
            effect, can = preview_change(connection, CHANGES[kind], scale_id, items, month).sentence, True
        except PermanentFailure as failure:
            effect, can = shorten(str(failure), 500), False
    links = {item: page_link(item, "item", scale=scale_id, item=item) for item in items}
    findings = {item: moved[item] for item in items if item in moved}
    others = tuple(links[item] for item in items if item not in moved)
    names = join_names((shorten(item) for item in items), MAX_NAMED)
    return Page(
        f"Link {month} without {names}?"
        if kind == "drop" and not restored
        else f"{'Among' if kind == 'drop' else 'Out of'} the anchors in {month}: {names}",
        render_blocks(
            Paragraph(DROPPING if kind == "drop" else RESTORING, "lead"),
            rematerialising.button_place(request) if decided else None,
            section(
                "Findings",
                moved_anchors_table(findings, links.__getitem__, f"Moved in {month} against the other anchors")
                if findings
                else None,
                List(others) if others else None,
                Paragraph(
                    (
                        *(page_link("The month", "month", month=month, scale=scale_id), " · "),
                        page_link("All open decisions", "decisions"),
                    )
                ),
            ),
            section(
                "Effect",
                Paragraph(f"{effect}.") if can else notice(f"{effect}.", "warning"),
                tags.div(ui.output_ui("trial"), aria_live="polite") if can and may_decide(request.identity) else None,
            ),
            section("Decide", decision_form.form(request, (kind,))) if can else None,
        ),
    )


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    selection = _read_selection(request)

    @render.ui
    async def trial() -> TagChild:
        return await asyncio.to_thread(_trial_results, request, selection) if may_decide(request.identity) else None

    anchors = [Reference(selection.month, item) for item in selection.items]
    decision_form.handle_events(request, inputs, tuple(CHANGES), lambda: anchors, selection.scale_id)
    rematerialising.handle_events(request, inputs)


def _kind(connection: psycopg.Connection, selection: AnchorSelection) -> DecisionKind:
    """`put_back` if all the anchors have been dropped, otherwise `drop`."""
    scale = read_scales(connection, bounds_of_month(selection.month)[0])[selection.scale_id]
    return "put_back" if {*selection.items} <= dropped_anchors(connection, scale) else "drop"


def _trial_results(request: ViewRequest, selection: AnchorSelection) -> TagChild:
    """Whether each month that the change makes stale would be green, as a list."""
    try:
        with request.reader.connect() as connection:
            decision = CHANGES[_kind(connection, selection)]
            change = preview_change(connection, decision, selection.scale_id, selection.items, selection.month)
        results = try_anchors(request.reader.database, request.reader.store, change)
    except PermanentFailure as failure:
        return render_blocks(Paragraph(prose(sentence(str(failure)))))
    return render_blocks(
        List(tuple((Span(f"{stale} ", "bold"), *prose(with_stop(result))) for stale, result in results.items()))
    )


def _read_selection(request: ViewRequest) -> AnchorSelection:
    """Read the address. Raises NotFound if it does not name a month, a scale and at least one anchor."""
    items = chosen_names(request, "item")
    month, scale_id = request.field("month"), request.field("scale")
    if not (items and month and scale_id):
        raise NotFound(
            f"The address names {quantity(len(items), 'anchor')}, month {shorten(month) or DASH} and scale "
            f"{shorten(scale_id) or DASH}: choose anchors of a red month under Decisions."
        )
    return AnchorSelection(month, scale_id, items)

"""Drop anchors from the linking, or restore them: the evidence, the effect and the decision.

Addresses are `?view=anchors&month=2026-08&scale=default&item=K7`; for several anchors, `&chosen:K7=on` for each.
"""

import asyncio
from dataclasses import dataclass

import psycopg
from htmltools import TagChild, tags
from shiny import Inputs, Outputs, Session, render, ui

from irt_assets.blocks import List, Paragraph, Span, notice, prose
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import join_names, quantity, sentence, with_stop
from irt_assets.decisions.anchor_versions import FIND_OUT_FIRST, moved_anchors, preview_change
from irt_assets.decisions.proposals import Reference
from irt_assets.decisions.rule_trial import try_anchors
from irt_assets.ledger.anchors import dropped_anchors
from irt_assets.ledger.decisions import decided_anchors
from irt_assets.reports.decision_blocks import moved_anchors_table
from irt_assets.responses.scales import read_scales
from resources.failures import PermanentFailure
from services.dashboard import decision_form, rematerialising
from services.dashboard.address_fields import bounds_of_month, names_in, require_known
from services.dashboard.decisions import ANCHORS, DecisionForm, DecisionOutcome, What, may_decide
from services.dashboard.elements import DASH, section, shorten
from services.dashboard.figures import shown
from services.dashboard.page import NotFound, Page, ViewRequest

KINDS: tuple[What, ...] = ("drop", "put_back")
NAMED = 5
DROPPING = (
    "An anchor that changed by itself pulls the whole scale along. The others keep their frozen values. "
    + FIND_OUT_FIRST
)
RESTORING = "Restored, they have the values that they were frozen with, and later windows are linked with them again."


@dataclass(frozen=True)
class Chosen:
    """The anchors that the address chooses, for a month and a scale."""

    month: str
    scale_id: str
    items: list[str]


def page(asked: ViewRequest) -> Page:
    chosen = _chosen(asked)
    month, scale_id, items = chosen.month, chosen.scale_id, chosen.items
    with asked.reader.connect() as connection:
        scales = read_scales(connection, bounds_of_month(month)[0])
        require_known("scale", scale_id, scales)
        moved = moved_anchors(connection, month, scales[scale_id])
        kind = _kind(connection, chosen)
        restored = {(scale_id, item) for item in items} <= decided_anchors(connection, "restore_anchor")
        try:
            effect, can = preview_change(connection, ANCHORS[kind], scale_id, items, month).sentence, True
        except PermanentFailure as failure:
            effect, can = shorten(str(failure), 500), False
    links = {item: page_link(item, "item", scale=scale_id, item=item) for item in items}
    known = {item: moved[item] for item in items if item in moved}
    others = tuple(links[item] for item in items if item not in moved)
    named = join_names((shorten(item) for item in items), NAMED)
    return Page(
        f"Link {month} without {named}?"
        if kind == "drop" and not restored
        else f"{'Among' if kind == 'drop' else 'Out of'} the anchors in {month}: {named}",
        shown(
            Paragraph(DROPPING if kind == "drop" else RESTORING, "lead"),
            section(
                "What is known of them",
                moved_anchors_table(known, links.__getitem__, f"Moved in {month} against the other anchors")
                if known
                else None,
                List(others) if others else None,
                _links(chosen),
            ),
            section(
                "What it would do",
                Paragraph(f"{effect}.") if can else notice(f"{effect}.", "warning"),
                tags.div(ui.output_ui("would_be"), aria_live="polite") if can and may_decide(asked.identity) else None,
            ),
            section("Decide", decision_form.form(asked, (kind,))) if can else None,
        ),
    )


def server(asked: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    try:
        chosen = _chosen(asked)
    except NotFound:
        return

    @render.ui
    async def would_be() -> TagChild:
        return await asyncio.to_thread(_would_be, asked, chosen) if may_decide(asked.identity) else None

    def fill(what: What, reason: str, _since: str, _leaked: bool) -> DecisionForm:
        anchors = tuple(Reference(chosen.month, item) for item in chosen.items)
        return DecisionForm(what, anchors, reason, scale_id=chosen.scale_id)

    def after(_form: DecisionForm, outcome: DecisionOutcome) -> TagChild:
        if not outcome.stale:
            return shown(_links(chosen))
        again = Paragraph(f"To be made again: {join_names(outcome.stale, NAMED)}.")
        return shown(again, rematerialising.place(asked), _links(chosen))

    decision_form.converse(asked, inputs, fill, after, KINDS)
    rematerialising.converse(asked, inputs)


def _links(chosen: Chosen) -> Paragraph:
    month = page_link("The month", "month", month=chosen.month, scale=chosen.scale_id)
    return Paragraph((month, " · ", page_link("All that waits", "decisions")))


def _kind(connection: psycopg.Connection, chosen: Chosen) -> What:
    """`put_back` if all the anchors have been dropped, otherwise `drop`."""
    scale = read_scales(connection, bounds_of_month(chosen.month)[0])[chosen.scale_id]
    return "put_back" if {*chosen.items} <= dropped_anchors(connection, scale) else "drop"


def _would_be(asked: ViewRequest, chosen: Chosen) -> TagChild:
    """Whether each month that the change makes stale would be green, as a list."""
    try:
        with asked.reader.connect() as connection:
            what = ANCHORS[_kind(connection, chosen)]
            change = preview_change(connection, what, chosen.scale_id, chosen.items, chosen.month)
        found = try_anchors(asked.reader.database, asked.reader.store, change)
    except PermanentFailure as failure:
        return shown(Paragraph(prose(sentence(str(failure)))))
    return shown(List(tuple((Span(f"{stale} ", "bold"), *prose(with_stop(said))) for stale, said in found.items())))


def _chosen(asked: ViewRequest) -> Chosen:
    """Read the address. Raises NotFound if it does not name a month, a scale and at least one anchor."""
    items = names_in(asked, "item")
    month, scale_id = asked.field("month"), asked.field("scale")
    if not (items and month and scale_id):
        raise NotFound(
            f"The address names {quantity(len(items), 'anchor')}, month {shorten(month) or DASH} and scale "
            f"{shorten(scale_id) or DASH}: choose anchors of a red month under Decisions."
        )
    return Chosen(month, scale_id, items)

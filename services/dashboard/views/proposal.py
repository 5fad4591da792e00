"""One or several proposals: the evidence, the effect, and the decision.

Addresses are `?view=proposal&proposal=2026-10/A21`; for several proposals, `&chosen:2026-10/A21=on` for each.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
from htmltools import Tag, TagChild, TagList, tags
from shiny import Inputs, Outputs, Session, reactive, render, ui

from irt_assets.adaptive.changes import effects_of_release
from irt_assets.blocks import Box, List, Paragraph, notice, prose
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import quantity, sentence, with_capital
from irt_assets.decisions import release_undo
from irt_assets.decisions.proposals import (
    Proposal,
    Reference,
    State,
    find_proposals,
    parse_reference,
    superseded_reason,
)
from irt_assets.decisions.release import next_month
from irt_assets.decisions.release_impact import impacts
from irt_assets.reports import item_blocks, item_history_blocks
from irt_assets.reports.decision_blocks import proposal, proposals_table
from irt_assets.reports.item_facts import item_facts
from irt_assets.scales.scale import read_scales
from resources.failures import PermanentFailure
from services.dashboard import decision_form
from services.dashboard.address_fields import chosen_names
from services.dashboard.decisions import DecisionKind
from services.dashboard.elements import section, shorten
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotFound, Page, ViewRequest

MAX_PROPOSALS = 200
IMPACT_TIMEOUT_MS = 30_000
KINDS: tuple[DecisionKind, ...] = ("accept", "reject", "undo", "withdraw")
_impacts = ThreadPoolExecutor(max_workers=1, thread_name_prefix="impact")  # each computation needs a whole processor


def page(request: ViewRequest) -> Page:
    references = references_in(request)
    with request.reader.connect() as connection:
        proposals = _load_proposals(connection, references)
        if len(proposals) > 1:
            return _several_proposals(proposals, request)
        return _one_proposal(connection, proposals[0], request)


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    references = tuple(references_in(request))

    @reactive.extended_task
    async def impact_task() -> tuple[str, ...]:
        return await asyncio.get_running_loop().run_in_executor(_impacts, impact_sentences, request, references)

    @render.ui
    def impact() -> TagChild:
        if impact_task.status() in ("initial", "running"):
            return _waiting_text()
        return TagList(*(tags.p(sentence) for sentence in impact_task.result()))

    decision_form.handle_events(request, inputs, KINDS, lambda: references)
    impact_task()


def references_in(request: ViewRequest) -> list[Reference]:
    """The proposals that the address names. Raises NotFound if it names 0 or more than `MAX_PROPOSALS`."""
    names = chosen_names(request, "proposal")
    if not names or len(names) > MAX_PROPOSALS:
        raise NotFound(
            f"The address names {quantity(len(names), 'proposal')}, and this page shows 1 to {MAX_PROPOSALS}: choose "
            "proposals under Decisions."
        )
    try:
        return list(dict.fromkeys(parse_reference(name.replace("\0", "")) for name in names))
    except PermanentFailure as failure:
        raise NotFound(f"{with_capital(shorten(str(failure), 300))}. Open proposals are under Decisions.") from None


def impact_sentences(request: ViewRequest, references: Sequence[Reference]) -> tuple[str, ...]:
    """The effect on learners and adaptive tests of accepting all proposals, or why it is not known. Takes a while."""
    try:
        with request.reader.connect(IMPACT_TIMEOUT_MS) as connection:
            proposals = find_proposals(connection, references)
            since = next_month(request.reader.now())
            effects, of_tests = impacts(connection, proposals, since), effects_of_release(connection, proposals, since)
    except psycopg.errors.QueryCanceled:
        return ("Reading the answers took too long: `irt release show` waits for it.",)
    except psycopg.OperationalError:
        return ("The database does not answer: reload the page.",)
    except PermanentFailure as failure:
        return (f"It cannot be computed: {failure}.",)
    if not effects:
        return ("No proposal can be accepted now, so no θ would change.",)
    several = len(effects) > 1
    return (
        *(f"Scale {effect.scale_id}: " * several + sentence(effect.sentence) for effect in effects),
        *map(sentence, of_tests),
    )


def _load_proposals(connection: psycopg.Connection, references: Sequence[Reference]) -> list[Proposal]:
    try:
        return find_proposals(connection, references)
    except PermanentFailure as failure:
        raise NotFound(f"{with_capital(shorten(str(failure), 500))}. Open proposals are under Decisions.") from None


def _one_proposal(connection: psycopg.Connection, p: Proposal, request: ViewRequest) -> Page:
    item = shorten(p.item_id)
    scale = read_scales(connection)[p.scale_id]
    facts = item_facts(connection, scale, p.item_id, request.reader.now())
    superseded = superseded_reason(connection, p) if p.state is State.SUPERSEDED else ""
    state = "out of date" if superseded else p.state
    fields = {"scale": p.scale_id, "item": p.item_id}
    return Page(
        f"Publish the new values of {item}?"
        if p.state is State.OPEN
        else f"The proposal of {p.window} for {item} is {state}",
        render_blocks(
            *proposal(p, request.reader.now(), superseded),
            Paragraph(sentence(f"The item is {p.withdrawn}")) if p.withdrawn else None,
            item_blocks.curves(p.item_id, p.old if p.state is State.OPEN else None, p.new, scale, p.window),
            Paragraph(
                (
                    *(page_link("The item", "item", **fields), " · "),
                    *(page_link("The month", "month", scale=p.scale_id, month=p.window[-7:]), " · "),
                    page_link("All open decisions", "decisions"),
                )
            ),
            item_history_blocks.month_by_month(facts) if facts and facts.months else None,
            _impact_section("Effect on learners if it is accepted") if p.state is State.OPEN else None,
            _decide_section(connection, p, request),
        ),
    )


def _several_proposals(proposals: Sequence[Proposal], request: ViewRequest) -> Page:
    look_at = [
        (page_link(str(p.reference), "proposal", proposal=str(p.reference)), ": ", *prose(caution))
        for p in proposals
        for caution in p.cautions
    ]
    are_open = [p for p in proposals if p.state is State.OPEN]
    leaked = any(p.is_leak for p in are_open)
    among = (
        "Some of them are decided or out of date: choose among ",
        page_link("the open proposals", "decisions"),
        ".",
    )
    return Page(
        f"Publish the new values of {quantity(len(proposals), 'item')}?",
        render_blocks(
            Paragraph("They are decided on together: all of them or none.", "lead"),
            proposals_table(proposals, states=True, dashboard=""),
            Box((Paragraph("Look at:"), List(tuple(look_at))), "warning") if look_at else None,
            _impact_section("Effect on learners if all are accepted") if are_open else None,
            section(
                "Decide",
                decision_form.form(request, ("accept", "reject"), since=_first_day(request), leaked=leaked)
                if len(are_open) == len(proposals)
                else notice(among, "neutral"),
            ),
        ),
    )


def _impact_section(title: str) -> Tag:
    output = ui.output_ui("impact")
    output.append(_waiting_text())
    return section(title, tags.div(output, aria_live="polite"))


def _waiting_text() -> Tag:
    return tags.p("Being computed from the last month's answers …", class_="text-body-secondary")


def _decide_section(connection: psycopg.Connection, p: Proposal, request: ViewRequest) -> Tag | None:
    if p.state is State.OPEN:
        kinds: tuple[DecisionKind, ...] = ("accept", "reject", *_withdrawal_kinds(p))
        return section("Decide", decision_form.form(request, kinds, since=_first_day(request), leaked=p.is_leak))
    if p.state is State.SUPERSEDED:
        return None
    try:
        (undone,) = release_undo.preview(connection, [p.reference], effective_from=None, now=request.reader.now())
    except PermanentFailure as failure:
        return section("Undo", notice(prose(f"It cannot be undone: {failure}."), "neutral"))
    elsewhere = page_link("Take the item out of use", "item", scale=p.scale_id, item=p.item_id), " on its page."
    return section(
        "Undo",
        Paragraph(f"If it is undone, {undone.sentence}."),
        decision_form.form(request, ("undo",)),
        Paragraph(elsewhere) if _withdrawal_kinds(p) else None,
    )


def _withdrawal_kinds(p: Proposal) -> tuple[DecisionKind, ...]:
    """The remedy for a leaked item: withdrawing it. Not for an anchor, which stays in use until it is dropped."""
    return ("withdraw",) if p.is_leak and not p.anchor and not p.withdrawn else ()


def _first_day(request: ViewRequest) -> str:
    return f"{next_month(request.reader.now()):%Y-%m-%d}"

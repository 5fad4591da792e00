"""One or several proposals: the evidence, the effect, and the decision.

Addresses are `?view=proposal&proposal=2026-10/A21`; for several proposals, `&chosen:2026-10/A21=on` for each.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
from htmltools import Tag, TagChild, TagList, tags
from shiny import Inputs, Outputs, Session, reactive, render, ui

from irt_assets.blocks import Box, List, Paragraph, Span, Text, notice, prose
from irt_assets.common.dashboard_pages import address, page_link
from irt_assets.common.wording import quantity, with_capital
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
from irt_assets.reports import item_blocks
from irt_assets.reports.decision_blocks import proposal, proposals_table
from irt_assets.reports.item_facts import item_facts
from irt_assets.responses.scales import read_scales
from resources.failures import PermanentFailure
from services.dashboard import decision_form
from services.dashboard.address_fields import CHOSEN, names_in
from services.dashboard.decisions import DecisionForm, DecisionOutcome, What
from services.dashboard.elements import section, shorten
from services.dashboard.figures import shown
from services.dashboard.page import NotFound, Page, ViewRequest

MOST = 200
IMPACT_TIMEOUT_MS = 30_000
KINDS: tuple[What, ...] = ("accept", "reject", "undo", "withdraw")
_impacts = ThreadPoolExecutor(max_workers=1, thread_name_prefix="impact")  # each computation needs a whole processor


def page(asked: ViewRequest) -> Page:
    references = references_in(asked)
    with asked.reader.connect() as connection:
        found = _load_proposals(connection, references)
        if len(found) > 1:
            return _several_proposals(found, asked)
        return _one_proposal(connection, found[0], asked)


def server(asked: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    try:
        references = tuple(references_in(asked))
    except NotFound:
        return

    @reactive.extended_task
    async def computed() -> tuple[str, ...]:
        return await asyncio.get_running_loop().run_in_executor(_impacts, impact_sentences, asked, references)

    @render.ui
    def impact() -> TagChild:
        if computed.status() in ("initial", "running"):
            return _being_computed()
        return TagList(*(tags.p(sentence) for sentence in computed.result()))

    def fill(what: What, reason: str, since: str, although_it_leaked: bool) -> DecisionForm:
        tomorrow = what == "withdraw"  # the day on the form is the first day of the values, not of the withdrawal
        return DecisionForm(what, references, reason, "" if tomorrow else since, although_it_leaked)

    def after(_form: DecisionForm, _outcome: DecisionOutcome) -> TagChild:
        return decision_state(asked, references)

    decision_form.converse(asked, inputs, fill, after, KINDS)
    computed()


def references_in(asked: ViewRequest) -> list[Reference]:
    """The proposals that the address names. Raises NotFound if it names 0 or more than `MOST`."""
    names = names_in(asked, "proposal")
    if not names or len(names) > MOST:
        raise NotFound(
            f"The address names {quantity(len(names), 'proposal')}, and this page shows 1 to {MOST}: choose some among "
            "what waits under Decisions."
        )
    try:
        return list(dict.fromkeys(parse_reference(name.replace("\0", "")) for name in names))
    except PermanentFailure as failure:
        raise NotFound(f"{with_capital(shorten(str(failure), 300))}. What waits is under Decisions.") from None


def address_of(references: Sequence[Reference]) -> str:
    if len(references) == 1:
        return address("proposal", proposal=str(references[0]))
    return address("proposal", **{f"{CHOSEN}{reference}": "on" for reference in references})


def impact_sentences(asked: ViewRequest, references: Sequence[Reference]) -> tuple[str, ...]:
    """The effect on learners of accepting the proposals together, or why it is not known. Takes a while."""
    try:
        with asked.reader.connect(IMPACT_TIMEOUT_MS) as connection:
            found = find_proposals(connection, references)
            effects = impacts(connection, found, next_month(asked.reader.now()))
    except psycopg.errors.QueryCanceled:
        return ("Reading the answers took too long: `irt release show` waits for it.",)
    except psycopg.OperationalError:
        return ("The database does not answer: load the page again.",)
    except PermanentFailure as failure:
        return (f"It cannot be computed: {failure}.",)
    if not effects:
        return ("None of it can be accepted now, so no θ would change.",)
    many = len(effects) > 1
    return tuple((f"Scale {one.scale_id}: " if many else "") + with_capital(one.sentence) + "." for one in effects)


def decision_state(asked: ViewRequest, references: Sequence[Reference]) -> TagList:
    """The present state of the proposals in the ledger, with links to the items."""
    states: list[Text] = []
    with suppress(psycopg.Error, PermanentFailure), asked.reader.connect() as connection:
        for p in find_proposals(connection, references)[:MOST]:
            item = page_link(p.item_id, "item", scale=p.scale_id, item=p.item_id)
            states.append((shorten(str(p.reference)), f": {p.withdrawn or p.state_in_words}. See the item: ", item))
    return shown(List(tuple(states)), Paragraph(Span("Reload this page", link=address_of(references))))


def _load_proposals(connection: psycopg.Connection, references: Sequence[Reference]) -> list[Proposal]:
    try:
        return find_proposals(connection, references)
    except PermanentFailure as failure:
        raise NotFound(f"{with_capital(shorten(str(failure), 500))}. What waits is under Decisions.") from None


def _one_proposal(connection: psycopg.Connection, p: Proposal, asked: ViewRequest) -> Page:
    item = shorten(p.item_id)
    scale = read_scales(connection)[p.scale_id]
    facts = item_facts(connection, scale, p.item_id, asked.reader.now())
    superseded = superseded_reason(connection, p) if p.state is State.SUPERSEDED else ""
    what = "out of date" if superseded else p.state
    named = {"scale": p.scale_id, "item": p.item_id}
    return Page(
        f"Publish the new values of {item}?"
        if p.state is State.OPEN
        else f"The proposal of {p.window} for {item} is {what}",
        shown(
            *proposal(p, superseded),
            item_blocks.curves(p.item_id, p.old if p.state is State.OPEN else None, p.new, scale, p.window),
            Paragraph(
                (
                    *(page_link("The item", "item", **named), " · "),
                    *(page_link("The month", "month", scale=p.scale_id, month=p.window[-7:]), " · "),
                    page_link("All that waits", "decisions"),
                )
            ),
            item_blocks.month_by_month(facts) if facts and facts.months else None,
            _impact_section("What accepting it would do to learners") if p.state is State.OPEN else None,
            _decide_section(connection, p, asked),
        ),
    )


def _several_proposals(found: Sequence[Proposal], asked: ViewRequest) -> Page:
    look_at = [
        (page_link(str(p.reference), "proposal", proposal=str(p.reference)), ": ", *prose(caution))
        for p in found
        for caution in p.cautions
    ]
    are_open = [p for p in found if p.state is State.OPEN]
    leaked = any(p.is_leak for p in are_open)
    among = ("Some of them are decided or out of date: choose among ", page_link("what waits", "decisions"), ".")
    return Page(
        f"Publish the new values of {quantity(len(found), 'item')}?",
        shown(
            Paragraph("They are decided on together: all of them or none.", "lead"),
            proposals_table(found, states=True, dashboard=""),
            Box((Paragraph("Look at:"), List(tuple(look_at))), "warning") if look_at else None,
            _impact_section("What accepting them together would do to learners") if are_open else None,
            section(
                "Decide",
                decision_form.form(asked, ("accept", "reject"), since=_first_day(asked), leaked=leaked)
                if len(are_open) == len(found)
                else notice(among, "neutral"),
            ),
        ),
        wide=True,
    )


def _impact_section(title: str) -> Tag:
    waiting = ui.output_ui("impact")
    waiting.append(_being_computed())
    return section(title, tags.div(waiting, aria_live="polite"))


def _being_computed() -> Tag:
    return tags.p("Being computed from the last month's answers …", class_="text-body-secondary")


def _decide_section(connection: psycopg.Connection, p: Proposal, asked: ViewRequest) -> Tag | None:
    if p.state is State.OPEN:
        kinds: tuple[What, ...] = ("accept", "reject", *_out_of_use(p))
        return section("Decide", decision_form.form(asked, kinds, since=_first_day(asked), leaked=p.is_leak))
    if p.state is State.SUPERSEDED:
        return None
    try:
        (undone,) = release_undo.preview(connection, [p.reference], effective_from=None, now=asked.reader.now())
    except PermanentFailure as failure:
        return section("Undo", notice(prose(f"It cannot be undone: {failure}."), "neutral"))
    elsewhere = page_link("Take the item out of use", "item", scale=p.scale_id, item=p.item_id), " on its page."
    return section(
        "Undo",
        Paragraph(f"Undone, {undone.sentence}."),
        decision_form.form(asked, ("undo",)),
        Paragraph(elsewhere) if _out_of_use(p) else None,
    )


def _out_of_use(p: Proposal) -> tuple[What, ...]:
    """The remedy for a leaked item: withdrawing it. Not for an anchor, which stays in use until it is dropped."""
    return ("withdraw",) if p.is_leak and not p.anchor and not p.withdrawn else ()


def _first_day(asked: ViewRequest) -> str:
    return f"{next_month(asked.reader.now()):%Y-%m-%d}"

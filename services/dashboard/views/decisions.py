"""Everything that waits for a decision, with the evidence in a line each, and the latest decisions."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import psycopg
from htmltools import Tag, TagChild, TagList, tags

from irt_assets.blocks import Block, Details, List, Paragraph, Span, Table, notice
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.partitions import Month
from irt_assets.common.wording import join_names, quantity, with_capital
from irt_assets.decisions.anchor_versions import moved_anchors
from irt_assets.decisions.movement_proposal import waiting_movement
from irt_assets.decisions.proposals import Proposal, State, latest_waiting, proposals
from irt_assets.ledger.anchors import dropped_anchors
from irt_assets.ledger.decisions import Decision, newest_decisions
from irt_assets.ledger.movement_proposals import MovementProposal
from irt_assets.ledger.steps import held_months, stepped_months
from irt_assets.reports.decision_blocks import decisions_table, moved_anchors_table, proposals_table
from irt_assets.reports.scale_blocks import movement_in_short
from irt_assets.scales.scale import read_scales, read_scales_of_windows
from irt_assets.scores.releases import moved_tables
from irt_psychometrics.linking import Suspect
from services.dashboard.address_fields import BOX_PREFIX, paginate, require_known
from services.dashboard.decisions import DECIDER, may_decide
from services.dashboard.elements import choice, markup, query_form, section, shorten, tick_box
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotFound, Page, ViewRequest

PER_PAGE = 100
DECISIONS_SHOWN = 20
MovedAnchors = dict[tuple[str, str], dict[str, Suspect]]


def page(request: ViewRequest) -> Page:
    month, scale, every = request.field("month"), request.field("scale"), request.field("all") == "1"
    with request.reader.connect() as connection:
        scales = read_scales(connection)
        if scale:
            require_known("scale", scale, scales)
        months = stepped_months(connection, scale or None)
        if month and month not in months:
            raise NotFound(f"No publication step of the month {shorten(month)!r} is stored: see Months.")
        changing = proposals(connection, scale_id=scale or None, may_ask=True)
        waiting = [p for p in latest_waiting(changing) if month in ("", p.window[-7:])]
        settled = [p for p in changing if p.settled and month in ("", p.window[-7:])]
        if every and months:
            month = month or months[0]
            listed = proposals(connection, windows=[month], scale_id=scale or None)
            listed.sort(key=lambda p: (-(2.0 if p.wabc is None else p.wabc), p.scale_id, p.item_id))
        else:
            listed, every = waiting, False
        anchors = find_moved_anchors(connection, month, scale)
        movements = [
            found
            for name, stored_scale in scales.items()
            if scale in ("", name)
            and (found := waiting_movement(connection, stored_scale))
            and month in ("", found.month)
        ]
        moved = [
            (
                *("Form ", page_link(new.form_id, "form", scale=name, form=new.form_id)),
                f" of scale {shorten(name)}: by the newest table, its score {why}.",
            )
            for name, stored_scale in scales.items()
            if scale in ("", name)
            for _, new, why in moved_tables(connection, stored_scale)
            if month in ("", new.month)
        ]
        decided = newest_decisions(connection, DECISIONS_SHOWN, month=month or None, scale_id=scale or None)
        dropped = {
            (scale_id, item)
            for scale_id, stored_scale in scales.items()
            for item in dropped_anchors(connection, stored_scale)
        }
    return Page(
        "What waits for a decision?",
        render_blocks(
            Paragraph(_answer(waiting, anchors, movements, len(moved), month), "lead"),
            query_form(
                "decisions",
                choice("Month", "month", {"": "all"} | {name: name for name in months}, month),
                choice("Scale", "scale", {"": "all"} | {name: shorten(name) for name in scales}, scale)
                if len(scales) > 1
                else None,
                tick_box("Also proposals that need no decision", "all", ticked=every),
            ),
            section(
                f"Every proposal of {month}" if every else "Proposals that need a decision",
                *_proposal_list(listed, request, every),
                _settled_list(settled) if settled else None,
            )
            if listed or settled
            else None,
            section("How abilities move", *map(_movement, movements)) if movements else None,
            section("Score tables that have moved", List(tuple(moved))) if moved else None,
            *(_anchors(of_month, of_scale, moved, request) for (of_month, of_scale), moved in anchors.items()),
            section("Decided last", _latest_decisions(decided, dropped, request.reader.settings.irt_time_zone))
            if decided
            else None,
        ),
    )


def find_moved_anchors(connection: psycopg.Connection, month: str = "", scale_id: str = "") -> MovedAnchors:
    """Find the anchors that moved, for each held month and scale with such anchors."""
    held = [(at, name) for at, name in held_months(connection) if month in ("", at) and scale_id in ("", name)]
    scales = read_scales_of_windows(connection, {at: Month(at).start for at, _ in held})
    return {(at, name): moved for at, name in held if (moved := moved_anchors(connection, at, scales[at][name]))}


def _movement(proposal: MovementProposal) -> Paragraph:
    page = page_link(f"Look at scale {proposal.scale_id}, and decide", "scale", scale=proposal.scale_id)
    return Paragraph((f"Scale {shorten(proposal.scale_id)}: {movement_in_short(proposal)}. ", page, "."))


def _answer(
    waiting: Sequence[Proposal], anchors: MovedAnchors, movements: Sequence[MovementProposal], tables: int, month: str
) -> str:
    suffix = f" of {month}" if month else ""
    parts = [f"{quantity(len(waiting), 'proposal')}{suffix}"] if waiting else []
    parts += [
        f"{quantity(len(moved), 'anchor')} that moved in {held_month}" for (held_month, _), moved in anchors.items()
    ]
    parts += [f"the movement proposed for scale {shorten(movement.scale_id)}" for movement in movements]
    parts += [quantity(tables, "score table")] if tables else []
    if not parts:
        return f"Nothing{suffix} waits for a decision."
    summary = join_names(parts)
    is_single = len(waiting) + sum(map(len, anchors.values())) + len(movements) + tables == 1
    return f"{with_capital(summary)} {'waits' if is_single else 'wait'} for a decision."


def _proposal_list(proposals: Sequence[Proposal], request: ViewRequest, every: bool) -> Iterator[Block | TagChild]:
    if not proposals:
        yield Paragraph("None.")
        return
    first, pages = paginate(request, len(proposals), PER_PAGE)
    listed = proposals[first : first + PER_PAGE]
    caption = f"Largest change first; {first + 1} to {first + len(listed)} of {len(proposals)}"
    proposed = proposals_table(listed, states=every, dashboard="", caption=caption)
    boxes = {str(p.reference): p.state is State.OPEN for p in listed}
    yield _choice_form(request, "proposal", "Decide on the chosen ones …", proposed, boxes)
    yield pages


def _settled_list(proposals: Sequence[Proposal]) -> Details:
    lines = [(page_link(str(p.reference), "proposal", proposal=str(p.reference)), f": {p.settled}") for p in proposals]
    summary = f"No decision needed: {quantity(len(proposals), 'proposal')} that would change a published value"
    return Details(summary, (List(tuple(lines)),))


def _anchors(month: str, scale_id: str, moved: dict[str, Suspect], request: ViewRequest) -> Tag:
    fields = {"month": month, "scale": scale_id}
    caption = f"Moved against the other anchors of {scale_id}"
    anchors = moved_anchors_table(moved, lambda item: page_link(item, "anchors", **fields, item=item), caption)
    disagree = (
        f"{month} of scale {scale_id} is red: its anchors disagree. An anchor that changed (a leak, a wrong key, "
        "an edited text) is taken out of the linking; without such a reason, the month stays red. "
    )
    reason_link = page_link(f"Why {month} is red", "month", **fields)
    boxes = dict.fromkeys(moved, True)
    return section(
        f"Anchors that moved in {month}",
        Paragraph((disagree, reason_link)),
        _choice_form(request, "anchors", "Drop the chosen ones …", anchors, boxes, **fields),
    )


def _choice_form(
    request: ViewRequest, view: str, label: str, rows: Table, boxes: Mapping[str, bool], **hidden: str
) -> Tag | TagList:
    """The table. People who may decide also get a box in each row and a button to the page that decides on the ticked
    rows. `boxes` maps a row's name to whether its box can be ticked."""
    if not may_decide(request.identity):
        return render_blocks(rows, notice(f"Deciding needs the role {DECIDER}.", "neutral"))
    ticked = [markup(_box(name, disabled=not can)) for name, can in boxes.items()]
    return tags.form(
        *(tags.input(type="hidden", name=name, value=value) for name, value in {"view": view, **hidden}.items()),
        render_blocks(rows.with_column("choose", ticked, first=True)),
        tags.button(label, class_="btn btn-sm btn-primary me-3"),
        *("choose ", tags.button("all", type="button", data_choose_all="", class_="btn btn-sm btn-link p-0")),
        method="get",
        class_="mb-3",
    )


def _box(name: str, *, disabled: bool) -> Tag:
    return tags.input(
        type="checkbox",
        name=f"{BOX_PREFIX}{name}",
        value="on",
        class_="form-check-input",
        aria_label=f"choose {shorten(name)}",
        disabled="" if disabled else None,
    )


def _latest_decisions(decisions: Sequence[Decision], dropped: Collection[tuple[str, str]], zone: str) -> Table:
    caption = f"{with_capital(quantity(len(decisions), 'decision'))}, the newest first"
    rows = decisions_table(decisions, zone, dashboard="", caption=caption)
    return rows.with_column("undo", [_undo(d, decisions, dropped) for d in decisions])


def _undo(d: Decision, decisions: Sequence[Decision], dropped: Collection[tuple[str, str]]) -> Span | None:
    """A link to the page that undoes the decision; anchors that were dropped together are restored together."""
    if d.stands:
        return page_link("Undo …", "proposal", proposal=d.subject)
    if d.kind == "drop_anchor" and (d.scale_id, d.item_id) in dropped:
        together = [
            other.item_id for other in decisions if other.at == d.at and (other.scale_id, other.item_id) in dropped
        ]
        ticked = {f"{BOX_PREFIX}{item}": "on" for item in together}
        return page_link("Restore …", "anchors", month=d.window, scale=d.scale_id, **ticked)
    return None

"""What waits for a decision, each with its evidence in a line, and the latest decisions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import psycopg
from htmltools import Tag, TagChild, TagList, tags

from irt_assets.common.partitions import Month
from irt_assets.common.wording import counted, with_capital
from irt_assets.decisions.anchor_versions import moved_anchors
from irt_assets.decisions.proposals import Proposal, Reference, latest_waiting, proposals
from irt_assets.decisions.shown import DECIDED, drift_in_a_word, remarks
from irt_assets.ledger.anchors import dropped_anchors
from irt_assets.ledger.decisions import Decision, newest_decisions
from irt_assets.ledger.steps import held_months, stepped_months
from irt_assets.psychometrics.linking.placement import Suspect
from irt_assets.responses.scales import Scale, read_scales
from services.dashboard.chosen import CHOSEN, require_known, whole_number
from services.dashboard.deciding import DECIDER, may_decide
from services.dashboard.elements import (
    DASH,
    asking_form,
    choice,
    link,
    moment,
    notice,
    number,
    section,
    shortened,
    table,
    tick_box,
)
from services.dashboard.page import Asked, NotFound, Page

PER_PAGE = 100
LAST_DECISIONS = 20
Moved = dict[tuple[str, str], dict[str, Suspect]]


def page(asked: Asked) -> Page:
    month, scale, every = asked.field("month"), asked.field("scale"), asked.field("all") == "1"
    with asked.reader.connect() as connection:
        scales = read_scales(connection)
        if scale:
            require_known("scale", scale, scales)
        months = stepped_months(connection, scale or None)
        if month and month not in months:
            raise NotFound(f"Nothing was taken to the ledger of a month {shortened(month)!r}: look under Months.")
        changing = proposals(connection, scale_id=scale or None, may_ask=True)
        waiting = [p for p in latest_waiting(changing) if month in ("", p.window[-7:])]
        settled = [p for p in changing if p.settled and month in ("", p.window[-7:])]
        if every and months:
            month = month or months[0]
            listed = proposals(connection, windows=[month], scale_id=scale or None)
            listed.sort(key=lambda p: (-(2.0 if p.wabc is None else p.wabc), p.scale_id, p.item_id))
        else:
            listed, every = waiting, False
        anchors = moved_in_held_months(connection, month, scale)
        decided = newest_decisions(connection, LAST_DECISIONS, month=month or None, scale_id=scale or None)
        dropped = {(of, item) for of, one in scales.items() for item in dropped_anchors(connection, one)}
    return Page(
        "What waits for a decision?",
        TagList(
            tags.p(_answer(waiting, anchors, month), class_="lead"),
            _filter(months, list(scales), month, scale, every),
            section(
                f"Every proposal of {month}" if every else "Proposals that need a decision",
                _proposal_list(listed, asked, month, scale, every),
                _settled(settled) if settled else None,
            ),
            *(_anchors(of_month, of_scale, moved, asked) for (of_month, of_scale), moved in anchors.items()),
            section("Decided last", _latest_decisions(decided, dropped, asked.reader.settings.irt_time_zone)),
        ),
        wide=True,
    )


def moved_in_held_months(connection: psycopg.Connection, month: str = "", scale_id: str = "") -> Moved:
    """The anchors that moved, for each held month and scale that has any."""
    found: Moved = {}
    for held, of in held_months(connection):
        if month in ("", held) and scale_id in ("", of):
            scale: Scale = read_scales(connection, Month(held).start)[of]
            if moved := moved_anchors(connection, held, scale):
                found[held, of] = moved
    return found


def _answer(waiting: Sequence[Proposal], anchors: Moved, month: str) -> str:
    of = f" of {month}" if month else ""
    parts = [f"{counted(len(waiting), 'proposal')}{of}"] if waiting else []
    parts += [f"{counted(len(moved), 'anchor')} that moved in {held}" for (held, _), moved in anchors.items()]
    if not parts:
        return f"Nothing{of} waits for a decision."
    summary = " and ".join(parts)
    one = len(waiting) + sum(map(len, anchors.values())) == 1
    return f"{with_capital(summary)} {'waits' if one else 'wait'} for a decision."


def _filter(months: Sequence[str], scales: Sequence[str], month: str, scale: str, every: bool) -> Tag:
    return asking_form(
        "decisions",
        choice("Month", "month", {"": "all"} | {name: name for name in months}, month),
        choice("Scale", "scale", {"": "all"} | {name: shortened(name) for name in scales}, scale)
        if len(scales) > 1
        else None,
        tick_box("Also proposals that need no decision", "all", ticked=every),
    )


def _proposal_list(found: Sequence[Proposal], asked: Asked, month: str, scale: str, every: bool) -> TagChild:
    if not found:
        return tags.p("None.")
    first = whole_number(asked, "first", "place in this list", 0, 0, len(found) - 1)
    shown = found[first : first + PER_PAGE]
    may = may_decide(asked.identity)
    rows: list[tuple[TagChild, ...]] = [
        (
            *([_box(str(p.reference), disabled=p.state != "open")] if may else []),
            link(shortened(str(p.reference)), "proposal", proposal=str(p.reference)),
            str(p.old or "nothing"),
            str(p.new),
            number(p.wabc, 3),
            drift_in_a_word(p),
            DASH if p.n is None else f"{p.n:,}",
            p.standing if every else "; ".join(remarks(p)) or DASH,
        )
        for p in shown
    ]
    headers = ("proposal", "published", "proposed", "wABC", "drift", "answers", "state" if every else "look at")
    caption = f"Largest change first; {first + 1} to {first + len(shown)} of {len(found)}"
    steps_on = [
        link(name, "decisions", month=month, scale=scale, all="1" if every else None, first=str(at))
        for name, at in (("Before", first - PER_PAGE), ("Next", first + PER_PAGE))
        if 0 <= at < len(found)
    ]
    return TagList(
        _choosing("proposal", "Decide on those chosen …", caption, headers, rows, "tttntnt", may),
        tags.nav(*(tags.span(one, class_="me-3") for one in steps_on), aria_label="Pages") if steps_on else None,
    )


def _settled(found: Sequence[Proposal]) -> Tag:
    names = [(p, str(p.reference)) for p in found]
    lines = [tags.li(link(shortened(name), "proposal", proposal=name), f": {p.settled}") for p, name in names]
    summary = f"No decision needed: {counted(len(found), 'proposal')} that would change a published value"
    return tags.details(tags.summary(summary), tags.ul(*lines))


def _anchors(month: str, scale_id: str, moved: dict[str, Suspect], asked: Asked) -> Tag:
    may = may_decide(asked.identity)
    rows: list[tuple[TagChild, ...]] = [
        (
            *([_box(item)] if may else []),
            link(shortened(item), "anchors", month=month, scale=scale_id, item=item),
            anchor.shown,
            number(anchor.z, 1),
        )
        for item, anchor in moved.items()
    ]
    return section(
        f"Anchors that moved in {month}",
        tags.p(
            f"{month} of scale {scale_id} is red: its anchors disagree. An anchor that changed (a leak, a wrong key, "
            "an edited text) is taken out of the linking; without such a reason, the month stays red. ",
            link(f"Why {month} is red", "month", month=month, scale=scale_id),
        ),
        _choosing(
            "anchors",
            "Drop those chosen …",
            f"Moved against the other anchors of {scale_id}",
            ("anchor", "moved by", "standard errors"),
            rows,
            "ttn",
            may,
            month=month,
            scale=scale_id,
        ),
    )


def _choosing(
    view: str,
    label: str,
    caption: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[TagChild]],
    numbers: str,
    may: bool,
    **hidden: str,
) -> TagChild:
    """A table; those who may decide get a box in each row, and a button to the page that decides on the ticked rows."""
    if not may:
        return TagList(
            table(caption, headers, rows, numbers=numbers),
            notice(f"Deciding needs the role {DECIDER}.", tone="secondary"),
        )
    all_of_them = tags.button("all", type="button", data_choose_all="", class_="btn btn-sm btn-link p-0")
    return tags.form(
        *(tags.input(type="hidden", name=name, value=value) for name, value in {"view": view, **hidden}.items()),
        table(caption, (tags.span("choose ", all_of_them), *headers), rows, numbers=f"t{numbers}"),
        tags.button(label, class_="btn btn-sm btn-primary"),
        method="get",
    )


def _box(name: str, *, disabled: bool = False) -> Tag:
    return tags.input(
        type="checkbox",
        name=f"{CHOSEN}{name}",
        value="on",
        class_="form-check-input",
        aria_label=f"choose {shortened(name)}",
        disabled="" if disabled else None,
    )


def _latest_decisions(found: Sequence[Decision], dropped: Collection[tuple[str, str]], zone: str) -> Tag:
    rows = [
        (
            moment(d.at, zone),
            _subject(d),
            DECIDED.get(d.what, d.what),
            d.in_force_from or DASH,
            d.by,
            shortened(d.reason, 200),
            _undo(d, [one for one in found if one.at == d.at and (one.scale_id, one.item_id) in dropped]),
        )
        for d in found
    ]
    return table(
        f"{with_capital(counted(len(rows), 'decision'))}, the newest first",
        ("when", "on", "decision", "from", "by", "reason", "undo"),
        rows,
    )


def _undo(d: Decision, dropped_with_it: Sequence[Decision]) -> TagChild:
    """A link to the page that undoes the decision; anchors that were dropped together are restored together."""
    if d.stands:
        return link("Undo …", "proposal", proposal=str(Reference(d.window, d.item_id)))
    if d.what == "drop_anchor" and d in dropped_with_it:
        ticked = {f"{CHOSEN}{one.item_id}": "on" for one in dropped_with_it}
        return link("Restore …", "anchors", month=d.window, scale=d.scale_id, **ticked)
    return DASH


def _subject(d: Decision) -> TagChild:
    name = str(Reference(d.window, d.item_id))
    if d.what not in ("accept", "reject", "undo"):
        return link(shortened(d.item_id), "item", scale=d.scale_id, item=d.item_id)
    return link(shortened(name), "proposal", proposal=name)

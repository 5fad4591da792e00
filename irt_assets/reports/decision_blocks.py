"""Blocks about proposals, decisions and publications, for the command line, reports and the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from irt_assets.blocks import (
    Badge,
    Block,
    Column,
    Moment,
    Paragraph,
    Section,
    Span,
    Table,
    Text,
    notice,
    number,
    pairs,
    prose,
    table,
)
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import sentence
from irt_assets.decision_kinds import KINDS
from irt_assets.decisions.proposals import Proposal, State
from irt_assets.drift.blocks import CURVES
from irt_assets.ledger.decisions import Decision
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_psychometrics.items import ItemRow
from irt_psychometrics.linking import Suspect

DECISION_WORDS = {
    "accept": "accepted",
    "reject": "rejected",
    "undo": "undone",
    "drop_anchor": "dropped from the anchors",
    "restore_anchor": "restored to the anchors",
    "key": "key changed",
    "undo_key": "change of a key undone",
    "scores": "score table released",
    "undo_scores": "release of a score table undone",
    "equating": "equating chosen",
    "undo_equating": "choice of equating undone",
    "form": "form released",
    "undo_form": "release of a form undone",
    "standard": "pass mark set",
    "undo_standard": "former pass mark restored",
}


def proposal(p: Proposal, at: datetime, superseded: str = "") -> Iterator[Block]:
    """Yield why a proposal needs a decision or not, the checks before accepting it, and its evidence.

    `at` is the present time, and `superseded` the reason shown for a proposal that is out of date.
    """
    lead = {State.OPEN: _why_it_waits(p), State.SUPERSEDED: superseded}.get(p.state, p.decided)
    yield Paragraph(sentence(lead or p.state_in_words), "lead")
    for caution in p.cautions:
        yield notice((Badge("look at", "warning"), " ", *prose(caution)), "warning")
    yield pairs(evidence(p, at))


def _why_it_waits(p: Proposal) -> str:
    n = f"{p.n:,} answers" if p.n else "answers"
    month = f"{p.window} proposes b = {number(p.new.b)} from {n}"
    if p.old is None:
        return f"{month}; nothing was ever published for it."
    drifted = f": {p.severity} drift{f' ({p.kind})' if p.kind else ''}" if p.severity in ("medium", "high") else ""
    moved = f"{month}, where b = {number(p.old.b)} is published{drifted}."
    if p.settled:
        return f"{moved} It needs no decision: {p.settled}."
    confirms = " It needs no decision: it confirms the published values, or a newer decision exists."
    return moved if p.needs_decision else moved + confirms


def proposals_table(
    found: Sequence[Proposal], *, states: bool = False, dashboard: str | None = None, caption: str = "Proposals"
) -> Table:
    """Return a table with one row per proposal.

    Its last column contains the remarks or, if `states`, the state of each proposal. For `dashboard` see `page_link`.
    """
    rows = [
        (
            page_link(str(p.reference), "proposal", dashboard=dashboard, proposal=str(p.reference)),
            str(p.old or "nothing"),
            str(p.new),
            p.wabc,
            p.severity + (f" ({p.kind})" if p.kind else ""),
            p.n,
            p.state_in_words if states else "; ".join(remarks(p)) or None,
        )
        for p in found
    ]
    answers = Column("answers", number=True, format=",", bar=True)
    curves = replace(CURVES, name="wABC") if dashboard is None else CURVES
    columns = ("proposal", "published", "proposed", curves, "drift", answers, "state" if states else "look at")
    return table(columns, rows, caption=caption)


def decisions_table(
    taken: Sequence[Decision],
    zone: str = "UTC",
    empty: str = "none",
    *,
    dashboard: str | None = None,
    caption: str = "Decisions",
    numbers: bool = False,
) -> Table:
    """Return a table with one row per decision. Its column `on` names the proposal, or the anchor or item.

    A table without decisions has no caption. `numbers`: whether to show the numbers that `irt decisions undo` takes.
    For `dashboard` see `page_link`.
    """
    columns = ("on", "decision", "by", "when", "in force from", "why")
    rows = [
        (
            _subject(d, dashboard),
            DECISION_WORDS.get(d.kind, d.kind if d.kind in KINDS else f"{d.kind} set"),
            d.by,
            Moment(d.at, zone),
            d.in_force_from or None,
        )
        + (d.reason,)
        for d in taken
    ]
    shown = table(columns, rows, empty=empty, caption=caption if taken else "")
    return shown.with_column("number", [d.decision_id for d in taken], first=True) if numbers else shown


def _subject(d: Decision, dashboard: str | None) -> Span:
    if kind := KINDS.get(d.kind):
        name = d.item_id or d.window
        return page_link(name, kind.subject, dashboard=dashboard, **{"scale": d.scale_id, kind.subject: name})
    if d.kind in ("accept", "reject", "undo"):
        return page_link(d.subject, "proposal", dashboard=dashboard, proposal=d.subject)
    if d.kind.endswith(("scores", "equating", "form")):
        return page_link(f"form {d.item_id}", "form", dashboard=dashboard, scale=d.scale_id, form=d.item_id)
    if not d.item_id:
        return page_link(f"scale {d.scale_id}", "scale", dashboard=dashboard, scale=d.scale_id)
    return page_link(d.subject, "item", dashboard=dashboard, scale=d.scale_id, item=d.item_id)


def moved_anchors_table(moved: Mapping[str, Suspect], link: Callable[[str], Text], caption: str = "") -> Table:
    """Return a table of the anchors that moved against the others. `link` turns an item's id into text."""
    changes = {"change in b": "+.2f", "change in a": "+.2f", "standard errors": "+.1f"}
    rows = [(link(item), suspect.shown, suspect.delta_b, suspect.delta_a, suspect.z) for item, suspect in moved.items()]
    return table(("anchor", "moved by", *changes), rows, numbers=changes, caption=caption)


def publications(rows: Iterable[Mapping[str, Any]], zone: str = "UTC") -> Iterator[Section]:
    """Yield a section on the source of each publication of an item. `rows` come from `lineage`."""
    for row in rows:
        state = " (in force)" if row["in_force"] else ""
        title = f"From {row['effective_from']:%Y-%m-%d} on{state}"
        yield Section(title, (pairs(publication_facts(row, zone)),), level=3)


_HOW = {"undo": ", an undo", "pipeline": ", with the values of item_pipeline"}
"""How a person decided, by the rule of the publication."""


def publication_facts(row: Mapping[str, Any], zone: str = "UTC") -> dict[str, Text | None]:
    """Source of an item's published values, by name. `row` comes from `lineage`."""
    values = ItemRow.from_row(row)
    stored = row["linking_constants"]
    linking = LinkingConstants.from_json(stored, row["fit_id"]) if stored else None
    max_score = values.max_score
    if max_score == 1:
        shown = values.shown
    else:
        by_score = values.score_parameters.items()
        shown = values.in_brief | {f"{word} {k}": x for word, of_score in by_score for k, x in of_score.items()}
    known: dict[str, Text | None] = {
        name: f"{value:.3f}" + (f" ± {error:.3f}" if error is not None else "")
        for name, (value, error) in shown.items()
    }
    return known | {
        "maximum score": f"{max_score}" if max_score > 1 else None,
        "in force from": Moment(row["effective_from"], zone),
        "published": Moment(row["published_at"], zone),
        "by": (row["decided_by"] or f"rule {row['rule']}") + _HOW.get(row["rule"], ""),
        "why": row["reason"],
        "month": row["month"],
        "answers": None if row["n_responses"] is None else f"{row['n_responses']:,}",
        "fit": _code(row["fit_id"]),
        "engine": row["engine"] and f"{row['engine']} {row['engine_version']}, {row['model']}",
        "linked": linking
        and f"{linking.method}, slope {linking.slope:.3f}, intercept {linking.intercept:+.3f}, "
        f"{len(linking.anchors_used)} anchors",
        "snapshot": _code(row["snapshot"]),
        "hash of the anchors": _code(row["anchor_hash"]),
        "hash of the answers": _code(row["data_hash"]),
        "code": _code(row["code_version"]),
        "run": _code(row["run_id"]),
    }


def _code(text: str | None) -> Span | None:
    return Span(text, "code") if text else None


def evidence(proposal: Proposal, at: datetime) -> list[tuple[str, str]]:
    """Names and values of a proposal's evidence. Values that are in force later than `at` are not called published."""
    known = "comes into force" if proposal.old_since and proposal.old_since > at else "published"
    drift, fit = proposal.drift, proposal.fit
    change = drift.get("change") or {}
    return [
        ("state", proposal.state_in_words),
        ("proposed", f"{proposal.new} from {proposal.n or 0:,} answers"),
        (known, f"{proposal.old}, from {proposal.old_since:%Y-%m-%d} on" if proposal.old else "nothing"),
        ("difference of curves", "–" if proposal.wabc is None else f"{proposal.wabc:.3f}"),
        ("drift", proposal.severity + (f", Δb = {drift['delta_b']:+.2f}" if drift.get("delta_b") is not None else "")),
        ("kind of change", _change(change) if change else "–"),
        ("fit", ", ".join(f"{k} {fit[k]:.3f}" for k in ("infit", "outfit", "rmsd") if fit[k] is not None) or "–"),
        ("DIF", "not tested" if proposal.dif is None else "; ".join(proposal.dif) or "none found"),
        ("not published by itself", proposal.why),
        ("fit id", proposal.fit_id),
    ]


def remarks(proposal: Proposal) -> list[str]:
    """Short remarks on points to check: anchor, flags of the fit, and DIF."""
    return ["anchor"] * proposal.anchor + [*proposal.fit["flags"], *(proposal.dif or ())]


def _change(change: Mapping[str, Any]) -> str:
    size = f", size {change['size']:.2f}" if change.get("size") is not None else ""
    return f"{change.get('kind', 'unclear')}{size}" + (f", from {change['onset']} on" if change.get("onset") else "")

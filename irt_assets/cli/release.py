"""The commands of `irt release`, which ask for confirmation before they record a decision.

Exit codes: 0 done; 1 not confirmed; 2 the request is wrong.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from irt_assets.adaptive.changes import effects_of_release
from irt_assets.blocks import Section
from irt_assets.cli.console import AsJson, ScaleId, Yes, confirm, escape, out, print_blocks, print_json, say
from irt_assets.cli.installation import By, Reason, current_database, current_store
from irt_assets.common.partitions import month_of
from irt_assets.common.wording import quantity, shorten
from irt_assets.decisions import anchor_versions, recalibration, release, release_undo
from irt_assets.decisions.proposals import Proposal, find_proposals, latest_waiting, parse_reference, proposals
from irt_assets.decisions.release_impact import impacts
from irt_assets.decisions.rule_trial import try_anchors
from irt_assets.reports.decision_blocks import proposal, proposals_table

app = typer.Typer(no_args_is_help=True)

MAX_LISTED, MAX_NAMED = 30, 10
MAX_REASON_LENGTH = 100
"""Maximum number of characters of a reason, so that it fits on a line."""

Names = Annotated[
    list[str],
    typer.Argument(metavar="MONTH/ITEM…", help="Proposals, e.g. 2026-09/A21; 2026-09/all: all that need a decision."),
]
EffectiveFrom = Annotated[
    str | None, typer.Option(help="First day (UTC) of the new values, YYYY-MM-DD. Default: the 1st of next month.")
]
Anchors = Annotated[list[str], typer.Argument(help="Item ids.")]
FirstMonth = Annotated[
    str | None, typer.Option("--from", help="First month linked with the new set, YYYY-MM. Default: next month.")
]


@app.command("list", epilog="Example: irt release list --month 2026-09")
def list_(
    month: Annotated[
        str | None, typer.Option(help="Only this month, YYYY-MM, or FIRST:LAST of a recalibration.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Include proposals that need no decision or are closed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the proposals that need a decision, each with its evidence on one line."""
    found = current_database().call(proposals, windows=None if month is None else [month])
    shown = found if every else latest_waiting(found)
    if as_json:
        print_json([as_dict(p) for p in shown])
        return
    if shown:
        print_blocks(proposals_table(shown if every else shown[:MAX_LISTED], states=every))
    silent = sum(p.state == "open" for p in found) - sum(p.state == "open" for p in shown)
    asks = f"{len(shown)} of {len(found)} proposals need a decision"
    asks += f"; the {MAX_LISTED} that change most are listed" if len(shown) > MAX_LISTED else ""
    settled = sum(bool(p.settled) for p in found)
    rest = f"; {settled} are contradicted by later months or rejected leaks" if settled else ""
    rest += f"; {silent - settled} open ones confirm what is published" if silent > settled else ""
    rest += " (--all)" if silent else ""
    say(f"{len(found)} proposals" if every else f"{asks}{rest}")


@app.command(epilog="Example: irt release show 2026-09/A21 2026-09/A22")
def show(names: Names, effective_from: EffectiveFrom = None, as_json: AsJson = False) -> None:
    """Show the evidence on proposals, and the effect of accepting them on last month's learners."""
    with current_database().connect() as connection:
        found = find_proposals(connection, [parse_reference(name) for name in names])
        since = release.parse_start(effective_from, datetime.now(UTC))
        effects, of_tests = impacts(connection, found, since), effects_of_release(connection, found, since)
        changes = release.changes_of_answers(connection, found)
    if as_json:
        print_json(
            {
                "proposals": [as_dict(p) for p in found],
                "impact": [i.as_dict() for i in effects],
                "tests": of_tests,
                "changed_since": changes,
            }
        )
        return
    for shown_proposal in found:
        print_blocks(
            Section(
                f"{shown_proposal.reference} on scale {shown_proposal.scale_id}",
                tuple(proposal(shown_proposal, datetime.now(UTC))),
            )
        )
    _print_cautions(changes)
    say(*(effect.sentence for effect in effects), *of_tests)


@app.command(epilog='Example: irt release accept 2026-09/A21 --by Kim --reason "reworded in August"')
def accept(
    names: Names,
    by: By,
    reason: Reason,
    effective_from: EffectiveFrom = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Publish proposed parameters from a future day on."""
    references = [parse_reference(name) for name in names]
    since = release.parse_start(effective_from, datetime.now(UTC))
    database = current_database()
    with database.connect() as connection:
        found = release.open_proposals(connection, references)
        for proposal in found:
            say(f"{proposal.reference}: {'nothing' if proposal.old is None else proposal.old} → {proposal.new}")
            _print_cautions(proposal.cautions, "  ")
        _print_cautions(release.changes_of_answers(connection, found))
        say(*(effect.sentence for effect in impacts(connection, found, since)))
        say(*effects_of_release(connection, found, since))
    confirm(f"publish {_count(found)} from {since:%Y-%m-%d} on?", yes)
    accepted = release.accept(
        database,
        [p.reference for p in found],
        by=by,
        reason=reason,
        effective_from=since,
        now=datetime.now(UTC),
        seen=found,
    )
    out.print(f"accepted: {_count(found)}, in force from {since:%Y-%m-%d} 00:00 UTC on")
    if as_json:
        print_json({"accepted": [str(p.reference) for p in accepted], "effective_from": since.isoformat()})


@app.command(epilog='Example: irt release reject 2026-09/A21 --by Kim --reason "leaked"')
def reject(names: Names, by: By, reason: Reason, yes: Yes = False, as_json: AsJson = False) -> None:
    """Close proposals. The published parameters stay in force."""
    database = current_database()
    with database.connect() as connection:
        found = release.open_proposals(connection, [parse_reference(name) for name in names])
        _print_cautions(release.changes_of_answers(connection, found))
    say(release.effect_of_reject(found))
    confirm(f"reject {_count(found)}?", yes)
    rejected = release.reject(database, [p.reference for p in found], by=by, reason=reason, seen=found)
    out.print(f"rejected: {_count(found)}")
    if as_json:
        print_json({"rejected": [str(p.reference) for p in rejected]})


@app.command(epilog='Example: irt release undo 2026-09/A21 --by Kim --reason "wrong item"')
def undo(
    names: Names,
    by: By,
    reason: Reason,
    effective_from: Annotated[
        str | None,
        typer.Option(
            help="First day (UTC) of the earlier values, YYYY-MM-DD. Default: the first day that changes no reported θ."
        ),
    ] = None,
    yes: Yes = False,
) -> None:
    """Undo a decision by a new one.

    The earlier values are in force again, and the proposal is open.
    """
    references = [parse_reference(name) for name in names]
    now = datetime.now(UTC)
    since = release.parse_start(effective_from, now) if effective_from else None
    database = current_database()
    with database.connect() as connection:
        found = release_undo.preview(connection, references, effective_from=since, now=now)
        say(*(undone.sentence for undone in found))
        say(*(effect.sentence for effect in release_undo.effects(connection, found)))
    confirm(f"undo what was decided on {', '.join(names)}?", yes)
    done = release_undo.undo(
        database, references, by=by, reason=reason, effective_from=since, now=datetime.now(UTC), seen=found
    )
    out.print(f"undone: {_count([undone.proposal for undone in done])}")


@app.command(epilog="Example: irt release recalibrate --from 2026-07 --to 2026-09 --item A21")
def recalibrate(
    first: Annotated[str, typer.Option("--from", help="First month, YYYY-MM.")],
    last: Annotated[str, typer.Option("--to", help="Last month, YYYY-MM.")],
    item: Annotated[list[str] | None, typer.Option(help="Propose only this item. May be repeated.")] = None,
    scale: ScaleId = "default",
    as_json: AsJson = False,
) -> None:
    """Fit several green months together, and propose the new parameters.

    Items that changed are fitted to their answers since the change.
    """
    database = current_database()
    done = recalibration.recalibrate(
        database, current_store(database), scale, first, last, item or (), database.settings.irt_threads
    )
    if as_json:
        print_json(vars(done))
        return
    say(f"{done.n_responses:,} answers of {done.n_persons:,} learner-months in {', '.join(done.months)}")
    say(*(f"  passed over: {month} {shorten(why, MAX_REASON_LENGTH)}" for month, why in done.passed_over.items()))
    say(*(f"  {name}: only answers from {day:%Y-%m-%d} on, when it changed" for name, day in done.changed.items()))
    for name, problems in list(done.held.items())[:MAX_NAMED]:
        say(f"  held back: {name}: {shorten('; '.join(problems), MAX_REASON_LENGTH)}")
    say(f"{quantity(len(done.proposed), 'item')} proposed: irt release list --month {done.window}")


@app.command("drop-anchors", epilog='Example: irt release drop-anchors A01 A02 --by Kim --reason "leaked"')
def drop_anchors(
    items: Anchors, by: By, reason: Reason, first_month: FirstMonth = None, scale: ScaleId = "default", yes: Yes = False
) -> None:
    """Drop items from the anchors of future months. The other anchors keep their frozen values."""
    _change_anchors("drop_anchor", items, by, reason, first_month, scale, yes)


@app.command("restore-anchors", epilog='Example: irt release restore-anchors A01 --by Kim --reason "not leaked"')
def restore_anchors(
    items: Anchors, by: By, reason: Reason, first_month: FirstMonth = None, scale: ScaleId = "default", yes: Yes = False
) -> None:
    """Restore dropped items to the anchors of future months, with their frozen values."""
    _change_anchors("restore_anchor", items, by, reason, first_month, scale, yes)


def _change_anchors(
    kind: anchor_versions.Kind, items: list[str], by: str, reason: str, first_month: str | None, scale: str, yes: bool
) -> None:
    month = first_month or month_of(release.next_month(datetime.now(UTC)))
    database = current_database()
    change = database.call(anchor_versions.preview_change, kind, scale, items, month)
    say(change.sentence)
    for stale, would_be in try_anchors(database, current_store(database), change).items():
        say(f"  {stale} {would_be}")
    say(f"  {change.undo_sentence}")
    verb, done = ("drop", "dropped") if kind == "drop_anchor" else ("restore", "restored")
    confirm(f"{verb} {', '.join(items)} {'from' if verb == 'drop' else 'to'} the anchors?", yes)
    change = anchor_versions.change_anchors(database, kind, scale, items, month, by=by, reason=reason, seen=change)
    out.print(f"{done}: the scale has {change.n_left} anchors from {month} on")
    say(*(f"  to be calibrated again: irt calibrate --month {stale}" for stale in change.stale))


def as_dict(p: Proposal) -> dict[str, Any]:
    """Convert a proposal to JSON values."""
    return {
        "proposal": str(p.reference),
        "scale_id": p.scale_id,
        "fit_id": p.fit_id,
        "state": p.state,
        "asks_for_a_decision": p.needs_decision,
        "settled": p.settled or None,
        "proposed": vars(p.new) | {"n": p.n},
        "published": None if p.old is None else vars(p.old) | {"since": p.old_since},
        "wabc": p.wabc,
        "drift": dict(p.drift) or None,
        "dif": None if p.dif is None else list(p.dif),
        "fit": dict(p.fit),
        "why_not_published": p.why,
        "cautions": list(p.cautions),
        "decided": p.decided or None,
    }


def _count(found: Sequence[Proposal]) -> str:
    return f"{len(found)} proposals" if len(found) != 1 else str(found[0].reference)


def _print_cautions(cautions: Iterable[str], indent: str = "") -> None:
    for caution in cautions:
        out.print(f"{indent}[yellow]look at[/yellow] {escape(caution)}")

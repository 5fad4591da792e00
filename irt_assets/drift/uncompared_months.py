"""Reasons why months are not compared with the published values, and the decisions that are needed first.

If anchors moved, the month's linking is wrong, which distorts the other items' estimates. DIF is not affected: it
compares groups within the month and needs no scale.
"""

import psycopg
from psycopg import sql

from irt_assets.common.partitions import Month
from irt_assets.decisions.anchor_versions import FIND_OUT_FIRST, command
from irt_assets.gates.gates import failures, hold_reasons_and_remedy
from irt_assets.ledger.fits import LinkedFit, linked_fit
from irt_assets.ledger.month_verdicts import read_verdict
from irt_assets.ledger.publications import items_published_by
from irt_assets.scales.scale import Scale, read_scales


def not_judged_reason(connection: psycopg.Connection, scale: Scale, month: str) -> str | None:
    """Why a linked month is not judged, with the remedy. Returns None if nothing holds it, or without a linked fit."""
    linked = linked_fit(connection, scale.scale_id, "monthly", Month(month).start, scale.engine)
    return _red_reason(connection, scale, month, linked) if linked else None


def unjudged_scales(connection: psycopg.Connection, month: str, table: str) -> dict[str, str]:
    """Scales on which the month could be compared but has no rows in `table`, or is red, with the reason."""
    found = {}
    start = Month(month).start
    for scale_id, scale in read_scales(connection, start).items():
        linked = linked_fit(connection, scale_id, "monthly", start, scale.engine)
        if linked is None:
            continue
        has_rows = connection.execute(
            sql.SQL("SELECT FROM {} WHERE (month, scale_id) = (%s, %s) LIMIT 1").format(sql.Identifier(table)),
            (month, scale_id),
        ).fetchone()
        if why := _red_reason(connection, scale, month, linked):
            found[scale_id] = f"not judged: {why}"
        elif has_rows is None and linked.converged and items_published_by(connection, scale_id, start):
            found[scale_id] = f"not judged: the first lines of {table}'s metadata give the reason"
    return found


def _red_reason(connection: psycopg.Connection, scale: Scale, month: str, linked: LinkedFit) -> str | None:
    """Why the month's verdict holds it. A month that its publication step held stays held until the step runs again."""
    verdict = read_verdict(connection, month, scale.scale_id)
    if verdict.step is not None and verdict.step.fit_id == linked.fit_id and verdict.step.state == "held":
        held = verdict.step.why
    else:
        held = hold_reasons_and_remedy(failures(verdict.gates))
    if held and linked.constants.disagreement(scale.rules.publication):
        drop = command("drop_anchor", linked.constants.moved_anchors, scale.scale_id, month)
        return (
            f"the month is red: its anchors disagree. {FIND_OUT_FIRST} Those that did change: {drop}, then "
            f"`irt calibrate --month {month}`"
        )
    return f"the month is red: {held}" if held else None

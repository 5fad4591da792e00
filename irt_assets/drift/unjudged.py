"""Months that are not compared with what is published: why, and what has to be decided before they can be.

If anchors moved, the month is in the wrong place on the scale, which distorts what it shows of other items. What does
not belong here: DIF, which compares groups within the month and needs no scale.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from irt_assets.common.partitions import month_bounds
from irt_assets.decisions.anchor_versions import FIND_OUT_FIRST, command
from irt_assets.gates.evidence import Evidence, MonthFile, load_evidence
from irt_assets.gates.gates import failures, held_because, way_out
from irt_assets.responses.scales import Scale, read_scales
from resources.files.object_store import ObjectStore


def why_not(connection: psycopg.Connection, store: ObjectStore, scale: Scale, month: str) -> str | None:
    """Why a month that was linked is not judged, and the way out; None where it passes its set gates."""
    return _red(load_evidence(connection, MonthFile.verified(connection, store, month), month, scale))


def unjudged(connection: psycopg.Connection, store: ObjectStore, month: str, table: str) -> dict[str, str]:
    """The scales that the month could be compared on but that `table` lacks, and why."""
    found = {}
    file = MonthFile.verified(connection, store, month)
    for scale in read_scales(connection, month_bounds(month)[0]).values():
        evidence = load_evidence(connection, file, month, scale)
        has_rows = connection.execute(
            sql.SQL("SELECT FROM {} WHERE (month, scale_id) = (%s, %s) LIMIT 1").format(sql.Identifier(table)),
            (month, scale.scale_id),
        ).fetchone()
        if why := _red(evidence):
            found[scale.scale_id] = f"not judged: {why}"
        elif has_rows is None and evidence.linked and evidence.linked.converged and evidence.in_force:
            found[scale.scale_id] = f"not judged: the first lines of {table}'s metadata say why"
    return found


def _red(evidence: Evidence) -> str | None:
    failed = failures(evidence) if evidence.linked else {}
    if not failed:
        return None
    if "anchors_agree" in failed:
        return f"the month is red: its anchors disagree. {FIND_OUT_FIRST} Those that did change: {_drop(evidence)}"
    return f"the month is red ({held_because(failed)}); {way_out(failed)}"


def _drop(evidence: Evidence) -> str:
    assert evidence.linked is not None
    drop = command("drop_anchor", evidence.linked.constants.moved, evidence.scale.scale_id, evidence.month)
    return f"{drop}, then `irt calibrate --month {evidence.month}`"

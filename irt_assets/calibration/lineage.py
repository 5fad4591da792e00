"""Where a published number comes from: publication, fit, answers, anchors, code, run; and what people decided on it."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import dict_row

from irt_assets.responses.erased import rewrites_behind, rewrites_in_words
from resources.failures import PermanentFailure


def lineage(connection: psycopg.Connection, item_id: str) -> list[dict[str, Any]]:
    """Every publication of an item, latest in force first, with the fit, snapshot and anchors behind it; `rewritten`
    says why the snapshot's hash changed, where it did.

    Raises PermanentFailure where nothing was ever published for the item, saying what is known of it.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            """
            SELECT p.publication_id, p.scale_id, p.item_id, p.a, p.b, p.c, p.a_se, p.b_se, p.effective_from, p.rule,
                   p.decided_by, p.reason, p.replaces, p.month, p.fit_id, p.data_hash, p.anchor_hash, p.code_version,
                   p.run_id, p.published_at,
                   current.publication_id IS NOT NULL AS in_force,
                   m.engine, m.engine_version, m.model, m.n_persons, m.n_responses AS fit_responses,
                   m.model_spec->'linking_constants' AS linking_constants, m.snapshot_hash,
                   coalesce(s.uri, m.model_spec->>'snapshot') AS snapshot,
                   i.n_responses, i.params->'raw' AS raw
            FROM item_parameter_publication p
            LEFT JOIN item_parameter_current current ON current.publication_id = p.publication_id
            LEFT JOIN mirt_fit_meta m ON m.fit_id = p.fit_id
            LEFT JOIN mirt_item_params i ON i.fit_id = p.fit_id AND i.item_id = p.item_id
            LEFT JOIN scored_snapshot s ON s.month = p.month AND s.snapshot_hash = m.snapshot_hash
            WHERE p.item_id = %s ORDER BY p.effective_from DESC, p.publication_id DESC
            """,
            (item_id,),
        ).fetchall()
    if rows:
        behind = rewrites_behind(connection)
        return [row | {"rewritten": rewrites_in_words(behind(row["snapshot_hash"] or ""))} for row in rows]
    known = connection.execute("SELECT scale_id FROM question WHERE item_id = %s", (item_id,)).fetchone()
    if known is None:
        raise PermanentFailure(f"the bank has no item {item_id!r}: ids are case-sensitive; `irt import questions FILE`")
    held = connection.execute(
        """SELECT month, held->%s FROM publication_step WHERE scale_id = %s AND held ? %s
           ORDER BY month DESC LIMIT 1""",
        (item_id, known[0], item_id),
    ).fetchone()
    why = f"; {held[0]} held it back: {'; '.join(held[1])}" if held else ""
    raise PermanentFailure(f"nothing was ever published for item {item_id} of scale {known[0]}{why}")


def decisions_on(connection: psycopg.Connection, item_id: str) -> list[dict[str, Any]]:
    """Every decision on an item, on a proposal for it or on it as an anchor, latest first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """SELECT decision_id, scale_id, month, decision, decided_by, decided_at, effective_from, reason, fit_id
               FROM release_decision WHERE item_id = %s ORDER BY decision_id DESC""",
            (item_id,),
        ).fetchall()

"""Proposals: values that a month or a recalibration suggests and that only a person may publish."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

from irt_assets.ledger.encoding import item_as_json, item_columns
from irt_assets.ledger.relations import IN_USE
from irt_psychometrics.items import ItemRow
from resources.postgres.database import first_column, named_rows, one_value


@dataclass(frozen=True)
class NewProposal:
    """A row of `item_parameter_proposal`."""

    month: str
    scale_id: str
    item_id: str
    fit_id: str
    values: ItemRow
    why: str


def append_proposals(connection: psycopg.Connection, proposals: Collection[NewProposal]) -> None:
    """Append proposals in the caller's transaction, which holds the lock of the ledger. A proposal that the same fit
    made before is left unchanged.

    `created_at` is later than in all earlier proposals of these months, even if the clock was set back, because the
    newest proposal replaces the others.
    """
    months = [*{proposal.month for proposal in proposals}]
    before = set(
        connection.execute(
            "SELECT month, scale_id, item_id, fit_id FROM item_parameter_proposal WHERE month = ANY(%s)", (months,)
        )
    )
    created_at = one_value(
        connection,
        """SELECT greatest(now(), max(created_at) + interval '1 microsecond') FROM item_parameter_proposal
           WHERE month = ANY(%s)""",
        (months,),
    )
    columns = "month, scale_id, item_id, fit_id, parameters, why, created_at"
    with connection.cursor().copy(f"COPY item_parameter_proposal ({columns}) FROM STDIN") as copy:
        for proposal in proposals:
            key = proposal.month, proposal.scale_id, proposal.item_id, proposal.fit_id
            if key not in before:
                copy.write_row([*key, item_as_json(proposal.values), proposal.why, created_at])


def read_proposals(
    connection: psycopg.Connection,
    *,
    windows: Iterable[str] | None = None,
    items: Iterable[str] | None = None,
    scale_id: str | None = None,
    may_ask: bool = False,
) -> list[dict[str, Any]]:
    """Proposals of the windows, items and scale (None: all), ordered by window and item, the latest fit last.

    Each row has the proposal's fit, the item's drift and DIF in the window's last month, the last decision on the
    proposal, and the publication that it would replace. If the item has changed, `later` is the estimate of the latest
    later month whose step is done, and `no_drift` is whether that month found no drift from the publication.
    `rejected_leak` is the item's last decision if it rejected a proposal because of a leak.

    may_ask: return only the proposals that can need a decision.
    """
    return named_rows(
        connection,
        _PROPOSALS,
        {
            "windows": None if windows is None else list(windows),
            "items": None if items is None else list(items),
            "scale": scale_id,
            "may_ask": may_ask,
        },
    )


def scales_proposed_for(connection: psycopg.Connection, windows: Collection[str]) -> list[str]:
    """The scales with a proposal of one of these windows, in order."""
    return first_column(
        connection,
        "SELECT DISTINCT scale_id FROM item_parameter_proposal WHERE month = ANY(%s) ORDER BY 1",
        (list(windows),),
    )


def newest_windows_of(connection: psycopg.Connection, item_id: str) -> list[str]:
    """The newest five windows with a proposal for the item, the newest first."""
    return first_column(
        connection,
        "SELECT DISTINCT month FROM item_parameter_proposal WHERE item_id = %s ORDER BY 1 DESC LIMIT 5",
        (item_id,),
    )


def proposals_by_reason(
    connection: psycopg.Connection, scale_id: str, month: str, fit_id: str | None
) -> dict[str, int]:
    """Number of proposals that the month's fit made, by the reason why a person decides."""
    rows = connection.execute(
        """SELECT why, count(*) FROM item_parameter_proposal WHERE (scale_id, month, fit_id) = (%s, %s, %s)
           GROUP BY why ORDER BY why""",
        (scale_id, month, fit_id),
    ).fetchall()
    return dict(rows)


_PROPOSALS = f"""
SELECT p.month, p.scale_id, p.item_id, p.fit_id, {item_columns("p")}, p.why, p.created_at,
       i.n_responses, i.infit, i.outfit, i.rmsd, i.flags,
       m.kind, m.window_start, m.window_end, m.data_hash, m.anchor_hash,
       m.fit_id IS NULL OR (m.kind = 'monthly' AND (m.superseded_at IS NOT NULL OR s.fit_id IS NULL)) OR EXISTS (
         SELECT FROM item_parameter_proposal n
         WHERE (n.month, n.scale_id, n.item_id) = (p.month, p.scale_id, p.item_id)
           AND (n.created_at, n.fit_id) > (p.created_at, p.fit_id)) AS superseded,
       d.severity, d.delta_b,
       CASE WHEN d.details->'change'->>'onset' > e.began
            THEN jsonb_set(d.details->'change', '{{onset}}', to_jsonb(e.began)) ELSE d.details->'change' END AS change,
       x.decision, x.decided_by, x.decided_at, x.reason, x.effective_from AS decided_from,
       o.publication_id, {item_columns("o", "old_")}, o.effective_from AS old_since, o.rule AS old_rule,
       o.window_end > m.window_end OR (o.window_end = m.window_end AND m.kind = 'monthly') OR EXISTS (
         SELECT FROM standing_decision r
         WHERE (r.scale_id, r.item_id) = (p.scale_id, p.item_id)
           AND right(r.month, 7) >= right(p.month, 7) AND r.decided_at > p.created_at) AS outdated,
       EXISTS (SELECT FROM anchor_set n JOIN calibration_scale k ON k.scale_id = n.scale_id
                 AND k.anchor_version = n.version
               WHERE n.scale_id = p.scale_id AND n.item_id = p.item_id) AS anchor,
       f.dif, later.month AS later_month, later.params AS later, later.no_drift, to_jsonb(leak) AS rejected_leak
FROM item_parameter_proposal p
LEFT JOIN mirt_fit_meta m USING (fit_id)
LEFT JOIN mirt_item_params i USING (fit_id, item_id)
LEFT JOIN month_verdict s ON (s.month, s.scale_id, s.fit_id, s.state) = (p.month, p.scale_id, p.fit_id, 'done')
LEFT JOIN item_drift d
  ON (d.month, d.scale_id, d.item_id, d.engine) = (right(p.month, 7), p.scale_id, p.item_id, m.engine)
LEFT JOIN LATERAL (
  SELECT coalesce(g.details->'change'->>'onset', l.opened_month || '-01') AS began
  FROM drift_alerts l LEFT JOIN item_drift g
    ON (g.month, g.scale_id, g.item_id, g.engine) = (l.opened_month, l.scale_id, l.item_id, m.engine)
  WHERE (l.scale_id, l.item_id) = (p.scale_id, p.item_id) AND l.opened_month <= right(p.month, 7)
    AND (l.closed_month IS NULL OR l.closed_month > right(p.month, 7))
  ORDER BY l.opened_month DESC LIMIT 1) e ON true
LEFT JOIN LATERAL (
  SELECT * FROM release_decision r
  WHERE (r.month, r.scale_id, r.item_id, r.fit_id) = (p.month, p.scale_id, p.item_id, p.fit_id)
    AND r.decision IN ('accept', 'reject', 'undo')
  ORDER BY decision_id DESC LIMIT 1) x ON true
LEFT JOIN LATERAL (
  SELECT l.*, w.window_end FROM item_parameter_publication l LEFT JOIN mirt_fit_meta w ON w.fit_id = l.fit_id
  WHERE (l.scale_id, l.item_id) = (p.scale_id, p.item_id)
  ORDER BY l.effective_from DESC, l.publication_id DESC LIMIT 1) o ON true
LEFT JOIN LATERAL (
  SELECT jsonb_agg(jsonb_build_object('attribute', attribute, 'group', focal_group, 'q', q_value, 'ets', ets_class,
                                      'size', details->'wald'->>'severity')
                   ORDER BY attribute, focal_group) AS dif
  FROM dif_analysis y
  WHERE (y.month, y.scale_id, y.item_id) = (right(p.month, 7), p.scale_id, p.item_id)
    AND (p_value IS NOT NULL OR ets_class IS NOT NULL)) f ON true
LEFT JOIN LATERAL (
  SELECT u.month, v.params, coalesce(w.severity = 'none' AND o.effective_from <= t.window_start, false) AS no_drift
  FROM month_verdict u JOIN {IN_USE} t USING (fit_id) JOIN mirt_item_params v USING (fit_id)
  LEFT JOIN item_drift w ON (w.month, w.scale_id, w.item_id, w.engine) = (u.month, u.scale_id, v.item_id, t.engine)
  WHERE (u.scale_id, t.engine, v.item_id, u.state) = (p.scale_id, m.engine, p.item_id, 'done')
    AND u.month > right(p.month, 7) AND (m.kind = 'pooled' OR d.severity IN ('medium', 'high'))
    AND v.params->>'a_se' IS NOT NULL AND v.params->>'b_se' IS NOT NULL AND NOT u.held ? p.item_id
  ORDER BY u.month DESC LIMIT 1) later ON true
LEFT JOIN LATERAL (
  SELECT * FROM (
    SELECT r.month, r.decision, r.decided_by, r.decided_at, {item_columns("q")},
           (SELECT g.details->'change'->>'kind' FROM item_drift g
            WHERE (g.month, g.scale_id, g.item_id, g.engine)
                  = (right(r.month, 7), p.scale_id, p.item_id, m.engine)) AS kind
    FROM standing_decision r JOIN item_parameter_proposal q USING (month, scale_id, item_id, fit_id)
    WHERE (r.scale_id, r.item_id) = (p.scale_id, p.item_id) ORDER BY r.decision_id DESC LIMIT 1
  ) AS last
  WHERE decision = 'reject' AND 'leak' IN (kind, d.details->'change'->>'kind')) leak ON true
WHERE (%(windows)s::text[] IS NULL OR p.month = ANY(%(windows)s))
  AND (%(items)s::text[] IS NULL OR p.item_id = ANY(%(items)s))
  AND (%(scale)s::text IS NULL OR p.scale_id = %(scale)s)
  AND (NOT %(may_ask)s OR m.kind = 'pooled' OR d.severity IN ('medium', 'high')
       OR (p.scale_id, p.item_id) NOT IN (SELECT l.scale_id, l.item_id FROM item_parameter_publication l))
ORDER BY p.month, p.scale_id, p.item_id, p.created_at
"""

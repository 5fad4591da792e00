"""Write the table `month_state`: close and reopen months, and count the changes to the answers of closed months.

`decisions.closing` decides whether a month may close, `responses.closed_months` reads its closed state.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb
from pydantic import BaseModel

from irt_assets.common.partitions import Month
from irt_assets.ledger.decision_rows import DecisionRow, Entry, append_decisions
from irt_assets.responses.closing_records import NEWEST, ClosedMonth, read_closed
from irt_assets.responses.snapshot import Snapshot
from resources.cluster.relational import holds_log
from resources.postgres.database import first_column, named_rows

NIGHTLY = "nightly"
MIN_SHARE_OF_ITEM = 0.05
"""An item is named if more than this share of its answers has changed."""
REOPEN = "reopen a month"


class Reopened(BaseModel):
    """Value of a decision that reopens a month: the hash of the file with which the month had closed."""

    snapshot_hash: str


def close_month(connection: psycopg.Connection, snapshot: Snapshot, scales: Collection[str]) -> list[str]:
    """Record that the snapshot's month has closed for the scales. Returns the scales for which it was open."""
    rows = connection.execute(
        f"""INSERT INTO month_state
              (month, scale_id, state, decided_by, reason, snapshot_hash, rules, items, test_accounts)
            SELECT %(month)s, s.scale_id, 'closed', '{NIGHTLY}', 'late_days have passed', %(hash)s,
                   coalesce(%(rules)s::jsonb -> s.scale_id, '{{}}'),
                   coalesce((SELECT jsonb_object_agg(item_id, coalesce(max_score, 1)) FROM question q
                             WHERE q.scale_id = s.scale_id), '{{}}'),
                   coalesce((SELECT jsonb_agg(learner_key) FROM learner WHERE is_test), '[]')
            FROM unnest(%(scales)s::text[]) AS s (scale_id)
            WHERE NOT EXISTS (SELECT FROM {NEWEST} n
                              WHERE (n.month, n.scale_id, n.state) = (%(month)s, s.scale_id, 'closed'))
            RETURNING scale_id""",
        {
            "month": snapshot.month,
            "hash": snapshot.snapshot_hash,
            "rules": Jsonb(snapshot.rules),
            "scales": sorted(scales),
        },
    )
    return [scale for (scale,) in rows]


def reopening(closed: ClosedMonth) -> Entry:
    """Entry of the decision that reopens a closed month."""
    return Entry(closed.scale_id, Reopened(snapshot_hash=closed.snapshot_hash), window=closed.month)


def reopen_months(connection: psycopg.Connection, closed: Iterable[ClosedMonth], *, by: str, reason: str) -> None:
    """Record that a person reopens closed months, in the transaction of another decision."""
    mark_reopened(connection, append_decisions(connection, REOPEN, map(reopening, closed), by=by, reason=reason))


def mark_reopened(connection: psycopg.Connection, decisions: Iterable[DecisionRow]) -> None:
    """Open the closed months that these decisions reopen."""
    connection.execute(
        f"""INSERT INTO month_state (month, scale_id, state, decided_by, reason, snapshot_hash, rules, items,
                                     test_accounts, decision_id)
            SELECT month, scale_id, 'reopened', d.decided_by, d.reason, snapshot_hash, rules, items, test_accounts,
                   d.decision_id
            FROM {NEWEST} n JOIN decision d USING (scale_id)
            WHERE d.decision_id = ANY(%s) AND d."window" = month AND state = 'closed'""",
        ([decision.decision_id for decision in decisions],),
    )


_COUNT: LiteralString = """
WITH closed AS (
  SELECT scale_id, since, items, test_accounts, (
      SELECT coalesce(sum(n::bigint), 0) FROM scored_snapshot s, jsonb_each_text(s.counts -> m.scale_id) AS c (why, n)
      WHERE (s.month, s.snapshot_hash) = (m.month, m.snapshot_hash)) AS answers
  FROM month_state m
  WHERE state_id = ANY(%(states)s)
), home AS (
  SELECT scale_id, item_id, was FROM closed, jsonb_each(items) AS i (item_id, was)
), account AS (
  SELECT scale_id, user_id FROM closed c JOIN learner l ON is_test AND NOT test_accounts @> to_jsonb(learner_key)
  UNION ALL
  SELECT scale_id, user_id FROM closed, jsonb_array_elements(test_accounts) AS k
    JOIN learner ON learner_key = k::bigint AND NOT is_test
), former AS (
  SELECT c.scale_id, attempt_id, min(a.item_id) AS item_id
  FROM attempt_correction a LEFT JOIN home h USING (item_id) LEFT JOIN question q USING (item_id)
    JOIN closed c ON c.scale_id = coalesce(h.scale_id, q.scale_id, 'default')
  WHERE corrected_at > since AND completed_at >= %(start)s AND completed_at < %(end)s
  GROUP BY 1, 2 HAVING min(recorded_at) <= min(since)
), present AS (
  SELECT c.scale_id, a.id, a.item_id, f.attempt_id IS NOT NULL AS is_corrected,
         h.item_id IS NOT NULL OR q.item_id IS NULL AS was_of_scale, account.user_id IS NOT NULL AS is_flagged,
         (q.scale_id, to_jsonb(coalesce(q.max_score, 1))) IS DISTINCT FROM (c.scale_id, h.was)
           AND (q.item_id IS NOT NULL OR h.item_id IS NOT NULL) AS has_other_item,
         a.recorded_at > since AND NOT EXISTS (
           SELECT FROM attempt_correction w WHERE w.attempt_id = a.id AND w.recorded_at <= since) AS is_late
  FROM attempt a LEFT JOIN home h USING (item_id) LEFT JOIN question q USING (item_id)
    JOIN closed c ON c.scale_id = coalesce(h.scale_id, q.scale_id, 'default')
    LEFT JOIN account ON (account.scale_id, account.user_id) = (c.scale_id, a.user_id)
    LEFT JOIN former f ON (f.scale_id, f.attempt_id) = (c.scale_id, a.id)
  WHERE completed_at >= %(start)s AND completed_at < %(end)s
), counted AS (
  SELECT scale_id, item_id, count(*) FILTER (WHERE was_of_scale AND NOT is_late) AS stayed,
         count(*) FILTER (WHERE is_late) AS late, count(*) FILTER (WHERE is_corrected) AS corrected, 0 AS withdrawn,
         count(*) FILTER (WHERE is_flagged AND NOT is_late) AS flagged,
         count(*) FILTER (WHERE has_other_item AND NOT is_late) AS item_changed
  FROM present GROUP BY 1, 2
  UNION ALL
  SELECT scale_id, item_id, 0, 0, 0, count(*), 0, 0 FROM former f
  WHERE NOT EXISTS (SELECT FROM present p WHERE (p.scale_id, p.id) = (f.scale_id, f.attempt_id)) GROUP BY 1, 2
)
SELECT c.scale_id, answers::bigint, item_id, coalesce(sum(stayed), 0)::bigint AS stayed,
       coalesce(sum(late), 0)::bigint AS late, coalesce(sum(corrected), 0)::bigint AS corrected,
       coalesce(sum(withdrawn), 0)::bigint AS withdrawn, coalesce(sum(flagged), 0)::bigint AS flagged,
       coalesce(sum(item_changed), 0)::bigint AS item_changed
FROM closed c LEFT JOIN counted USING (scale_id) GROUP BY 1, 2, 3
"""


def count_changes(
    connection: psycopg.Connection, month: str, closed: Sequence[ClosedMonth]
) -> dict[str, dict[str, Any]]:
    """Current value of `ClosedMonth.came` of a month, by scale. `closed`: the month's closed scales.

    A row that was rewritten by hand counts as one late and one deleted answer, because nothing records that the two
    rows are the same answer.
    """
    start, end = Month(month).bounds
    values = {
        "start": start,
        "end": end,
        "states": [record.state_id for record in closed],
    }
    found: dict[str, Counter[str]] = {}
    items: dict[str, dict[str, float]] = {}
    for row in named_rows(connection, _COUNT, values):
        scale_id, answers, item = row.pop("scale_id"), row.pop("answers"), row.pop("item_id")
        of_scale = found.setdefault(scale_id, Counter(answers=answers))
        of_scale.update(row)
        was = row["stayed"] + row["withdrawn"]
        changed = sum(n for kind, n in row.items() if kind != "stayed")
        if item and changed > MIN_SHARE_OF_ITEM * max(was, 1):
            items.setdefault(scale_id, {})[item] = changed / max(was, 1)
    for of_scale in found.values():
        deleted = of_scale["answers"] - of_scale.pop("stayed") - of_scale["withdrawn"]
        of_scale["deleted"] = max(deleted, 0)
        of_scale["late"] += max(-deleted, 0)  # answers whose transaction began before the closing and ended after it
    return {scale_id: {**of_scale, "items": items.get(scale_id, {})} for scale_id, of_scale in found.items()}


def recount_changes(connection: psycopg.Connection) -> None:
    """Count and store the changes of each closed month in which a day was judged again since the last count."""
    changed = first_column(
        connection,
        f"""SELECT DISTINCT month FROM {NEWEST} n WHERE state = 'closed' AND EXISTS (
              SELECT FROM judged_day
              WHERE day >= to_date(month, 'YYYY-MM') AND day < to_date(month, 'YYYY-MM') + interval '1 month'
                AND judged_at > coalesce(counted_at, since))""",
    )
    for month in changed:
        closed = read_closed(connection, [month])
        if not holds_log(connection, *Month(month).bounds):
            continue
        counts = count_changes(connection, month, closed)
        connection.cursor().executemany(
            "UPDATE month_state SET came = %s, counted_at = now() WHERE state_id = %s",
            [(Jsonb(counts[record.scale_id]), record.state_id) for record in closed],
        )

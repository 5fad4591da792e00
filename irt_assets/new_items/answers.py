"""Answers to new items, from which their values are estimated before they are published."""

from datetime import datetime

import psycopg
import pyarrow as pa

from resources.postgres.warehouse import read_arrow

_ANSWERS = """
    SELECT v.item_id, v.learner_key, r.user_id, v.completed_at,
           CASE WHEN v.reason IS NULL THEN v.score
                WHEN r.correct IS NULL OR r.hints_used > 0 THEN 0
                WHEN v.max_score IS NULL THEN r.correct::int
                ELSE coalesce(r.score, v.max_score) END::smallint AS score,
           coalesce(v.max_score, 1)::smallint AS max_score, r.position, v.reason IS NOT NULL AS seed
    FROM attempt_verdict v JOIN response_log r USING (attempt_id, completed_at)
    WHERE v.scale_id = %(scale)s AND v.completed_at >= %(since)s AND v.completed_at < %(until)s
      AND (v.reason IS NULL OR v.reason = 'seed')
      AND v.item_id IN (
        SELECT item_id FROM item_stage WHERE scale_id = %(scale)s AND stage NOT IN ('published', 'retired'))
      AND NOT EXISTS (SELECT FROM item_withdrawal w
                      WHERE w.item_id = v.item_id AND since <= v.completed_at
                        AND coalesce(w.until > v.completed_at, true))
    ORDER BY 1, 4, 2
"""


def read_new_item_answers(connection: psycopg.Connection, scale_id: str, since: datetime, until: datetime) -> pa.Table:
    """Read the judged answers of [since, until) to the items of a scale that have no published values now.

    These are answers that count and answers to seed draws, each once, in order of item and time. An answer that was
    given while its item was withdrawn is left out. Columns: item_id, learner_key, user_id, completed_at, score (from 0
    to max_score; 0 with hints or if the item was omitted), max_score, position (null: not known), and seed (whether a
    seed draw chose the item).
    """
    return read_arrow(connection, _ANSWERS, {"scale": scale_id, "since": since, "until": until})

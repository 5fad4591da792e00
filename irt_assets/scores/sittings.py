"""The answers of the sittings of a form, and their raw scores.

A sitting is a learner's session on a form. Its raw score counts every answer as it was scored: also rapid answers, and
answers to items that the learner had met before, from which nothing is estimated.
"""

from collections.abc import Collection
from datetime import datetime

import pandas as pd
import psycopg

from resources.postgres.warehouse import read_frame

SITTING = ["user_id", "session_id"]
_ANSWERS = """
    SELECT DISTINCT ON (r.user_id, r.session_id, r.item_id)
           r.user_id, coalesce(r.session_id, '') AS session_id, r.item_id, r.completed_at, v.score, v.max_score,
           v.reason IS NULL AS counts,
           CASE WHEN v.reason IS NULL THEN v.score
                WHEN v.reason = 'not_reached' THEN 0
                WHEN v.reason IN ('rapid', 'repeat') THEN
                  coalesce(r.score, CASE WHEN r.correct THEN coalesce(v.max_score, 1)
                                         WHEN coalesce(v.max_score, 1) = 1 THEN 0 END) END AS points
    FROM response_log r JOIN attempt_verdict v USING (attempt_id, completed_at)
    WHERE r.form_id = %(form)s AND v.scale_id = %(scale)s AND r.completed_at >= %(start)s AND r.completed_at < %(end)s
      AND v.reason IS DISTINCT FROM 'sandbox' AND v.reason IS DISTINCT FROM 'test_account'
    ORDER BY r.user_id, r.session_id, r.item_id, r.completed_at"""


def read_answers(
    connection: psycopg.Connection, scale_id: str, form_id: str, start: datetime, end: datetime
) -> pd.DataFrame:
    """The judged answers of real learners to a form in [start, end), the first to each item of a sitting.

    Columns: user_id, session_id (empty if the log has no session), item_id, completed_at, score and max_score of the
    verdict, counts (whether the verdict has a score), and points, which are missing if the answer has no score at all.
    """
    values = {"form": form_id, "scale": scale_id, "start": start, "end": end}
    return read_frame(connection, _ANSWERS, values).astype({"points": float})


def raw_scores(answers: pd.DataFrame, items: Collection[str]) -> pd.Series:
    """The sum of the points on these items, by user_id and session_id. Items without a row give no points.

    It is missing (NaN) for a sitting with an answer whose points are missing.
    """
    points = answers[answers["item_id"].isin(list(items))].groupby(SITTING)["points"]
    return points.sum().where(points.count() == points.size())

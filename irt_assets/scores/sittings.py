"""The answers of the sittings of a form, and their raw scores.

A sitting is a learner's session on a form; of a form with fixed items also the sessions that continue it with further
items. Its raw score counts every answer as it was scored: also rapid answers, and answers to items that the learner had
met before, from which nothing is estimated.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

import pandas as pd
import psycopg

from resources.postgres.warehouse import read_frame

SITTING = ["user_id", "session_id"]
MAX_LENGTH = timedelta(days=31)
"""Longest time between the first and the last answer of a sitting."""
_ANSWERS = """
    SELECT DISTINCT ON (r.user_id, r.session_id, r.item_id)
           r.user_id, coalesce(r.session_id, '') AS session_id, r.item_id, r.completed_at, v.score, v.max_score,
           v.reason IS NULL AS counts, coalesce(r.score, r.correct::int) IS NOT NULL AS answered,
           CASE WHEN v.reason IS NULL THEN v.score
                WHEN v.reason = 'not_reached' THEN 0
                WHEN v.reason IN ('rapid', 'repeat') THEN
                  coalesce(r.score, CASE WHEN r.correct THEN coalesce(v.max_score, 1)
                                         WHEN coalesce(v.max_score, 1) = 1 THEN 0 END) END AS points
    FROM response_log r JOIN attempt_verdict v USING (attempt_id, completed_at)
    WHERE r.form_id = %(form)s AND v.scale_id = %(scale)s AND r.completed_at >= %(start)s AND r.completed_at < %(end)s
      AND v.reason IS DISTINCT FROM 'sandbox' AND v.reason IS DISTINCT FROM 'test_account'
      AND NOT EXISTS (SELECT FROM seed_draw s
                      WHERE (s.session_id, s.item_id, s.user_id) = (r.session_id, r.item_id, r.user_id))
    ORDER BY r.user_id, r.session_id, r.item_id, r.completed_at"""


def read_answers(
    connection: psycopg.Connection, scale_id: str, form_id: str, start: datetime, end: datetime, *, fixed: bool
) -> pd.DataFrame:
    """The judged answers of real learners in sittings of a form that end in [start, end), the first to each item.
    Answers to items that a seed draw chose count for no score, and are left out.

    `fixed`: whether the form has fixed items, so that sessions continue sittings.

    Columns: user_id, session_id (of the sitting's first session; empty if the log has no session), item_id,
    completed_at, score and max_score of the verdict, counts (whether the verdict has a score), answered (whether the
    item was not left out), and points, which are missing if the answer has no score at all.
    """
    values = {"form": form_id, "scale": scale_id, "start": start - MAX_LENGTH, "end": end + MAX_LENGTH}
    found = read_frame(connection, _ANSWERS, values).astype({"points": float})
    if fixed:
        sessions = found.drop_duplicates(SITTING)["user_id"]
        several = found["user_id"].isin(sessions[sessions.duplicated()])
        found.loc[several, "session_id"] = _first_sessions(found[several])
    last = found.groupby(SITTING)["completed_at"].transform("max")
    return found[(last >= start) & (last < end)]


def _first_sessions(answers: pd.DataFrame) -> pd.Index:
    """The first session of the sitting of each answer.

    A session continues the learner's sitting if it has none of its items, and begins within `MAX_LENGTH` of its start.
    """
    of_sessions = answers.groupby(SITTING, sort=False)
    sessions = pd.DataFrame({"at": of_sessions["completed_at"].min(), "items": of_sessions["item_id"].agg(set)})
    first: dict[tuple[str, str], str] = {}
    open_sittings: dict[str, tuple[str, datetime, set[str]]] = {}
    for (user, session), at, items in sessions.sort_values("at", kind="stable").itertuples(name=None):
        began = open_sittings.get(user)
        if began is None or began[2] & items or at - began[1] > MAX_LENGTH:
            began = open_sittings[user] = session, at, set()
        began[2].update(items)
        first[user, session] = began[0]
    return pd.Index([first[session] for session in sessions.index])[of_sessions.ngroup().to_numpy()]


def raw_scores(answers: pd.DataFrame, items: Collection[str]) -> pd.Series:
    """The sum of the points on these items, by user_id and session_id. Items without a row give no points.

    It is missing (NaN) for a sitting with an answer whose points are missing.
    """
    points = answers[answers["item_id"].isin(list(items))].groupby(SITTING)["points"]
    return points.sum().where(points.count() == points.size())


def unfinished_sittings(answers: pd.DataFrame, items: Collection[str], since: datetime) -> pd.Series:
    """Whether a sitting lacks one of the items and has answers since a time, by user_id and session_id."""
    sittings = answers[answers["item_id"].isin(list(items))].groupby(SITTING)
    return (sittings.size() < len(items)) & (sittings["completed_at"].max() >= since)

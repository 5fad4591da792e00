"""The maximum scores of items in the bank: consistency, and the effect of a new maximum on stored answers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import psycopg

from irt_assets.common.wording import join_names
from irt_assets.intake.staging import correction_sql
from resources.failures import PermanentFailure
from resources.postgres.database import first_column

MAX_NAMED = 5


class NewMaximum(NamedTuple):
    item_id: str
    former: int
    max_score: int


FORMER_MAXIMA = "UPDATE staged s SET max_score = coalesce(q.max_score, 1) FROM question q WHERE q.item_id = s.item_id"
"""Stores the bank's maxima with the staged items, to be compared once the bank is written."""
NEW_MAXIMA = """SELECT q.item_id, s.max_score AS former, coalesce(q.max_score, 1) AS max_score
    FROM question q JOIN staged s ON s.item_id = q.item_id WHERE s.max_score <> coalesce(q.max_score, 1)"""
INCONSISTENT = """
    SELECT item_id, format('its model %s is for right and wrong, and its maximum score is %s', model, max_score)
    FROM known WHERE max_score > 1 AND model IN ('rasch', '1pl', '2pl', '3pl')
    UNION ALL
    SELECT item_id, 'an rsm shares the steps of a block: name it in the column block'
    FROM known WHERE model = 'rsm' AND block IS NULL
    UNION ALL
    SELECT item_id, format('only the items of an rsm have a block, and its model is %s', coalesce(model, 'not given'))
    FROM known WHERE model IS DISTINCT FROM 'rsm' AND block IS NOT NULL
    UNION ALL
    SELECT k.item_id, format('the block %s has %s with the maximum score %s, and its own is %s',
                             k.block, o.item_id, o.max_score, k.max_score)
    FROM known k JOIN question o ON o.scale_id = k.scale_id AND o.meta->'irt'->>'block' = k.block
        AND o.max_score IS DISTINCT FROM k.max_score"""


def known_maxima(connection: psycopg.Connection, items: Iterable[str] | None = None) -> dict[str, int | None]:
    """Maximum score of each item (None if the bank has none). If `items` is None: of every item that has one."""
    rows = connection.execute(
        """SELECT item_id, max_score FROM question
           WHERE item_id = ANY(%(items)s) OR %(items)s::text[] IS NULL AND max_score IS NOT NULL""",
        {"items": None if items is None else [*items]},
    )
    return dict(rows.fetchall())


def recorded_rules(connection: psycopg.Connection, items: list[str] | None = None) -> list[tuple[Any, ...]]:
    """The scoring rules in the records of these items, or of all if `items` is None (see `AsRecorded`)."""
    these = "true" if items is None else "item_id = ANY(%(items)s)"
    return connection.execute(
        f"""SELECT item_id, meta->>'dichotomise', meta->'key', max_score FROM question
            WHERE {these} AND (jsonb_exists(meta, 'dichotomise') OR jsonb_exists(meta, 'key') OR max_score > 1)
        """,
        {"items": items},
    ).fetchall()


def record_maxima(connection: psycopg.Connection, maxima: Mapping[str, int]) -> None:
    """Put the maximum scores of items into their records."""
    connection.cursor().executemany(
        """UPDATE question SET meta = meta || jsonb_build_object('irt',
               coalesce(meta->'irt', '{}') || jsonb_build_object('max_score', %s::int)) WHERE item_id = %s""",
        [(most, item) for item, most in maxima.items()],
    )


def require_consistent_scores(connection: psycopg.Connection, file: str) -> None:
    """Raise PermanentFailure if model, block and maximum score of a staged item contradict each other in the bank."""
    found = connection.execute(
        f"""WITH known AS (
              SELECT q.item_id, q.scale_id, q.max_score, q.meta->'irt'->>'model' AS model,
                     q.meta->'irt'->>'block' AS block
              FROM question q JOIN staged s ON s.item_id = q.item_id)
            {INCONSISTENT} ORDER BY 1 LIMIT {MAX_NAMED}"""
    ).fetchall()
    if found:
        why = "; ".join(f"item {item}: {text}" for item, text in found)
        raise PermanentFailure(f"{file}: {why}. Nothing was imported.")


def new_maxima(connection: psycopg.Connection) -> list[NewMaximum]:
    """The staged items whose maximum score in the bank has changed."""
    return [NewMaximum(*row) for row in connection.execute(NEW_MAXIMA)]


def follow_new_maxima(connection: psycopg.Connection, file: str, changed: Sequence[NewMaximum]) -> list[str]:
    """Decide again which stored answers have full credit after maximum scores changed. Returns notes for the report.

    Raises PermanentFailure if parameters of such an item are published, or an answer has a higher score.
    """
    if not changed:
        return []
    values = {"items": [item.item_id for item in changed], "most": [item.max_score for item in changed]}
    named = join_names([f"{item.item_id} ({item.former} → {item.max_score})" for item in changed], MAX_NAMED)
    query = "SELECT DISTINCT item_id FROM item_parameter_publication WHERE item_id = ANY(%s) ORDER BY 1"
    if published := first_column(connection, query, (values["items"],)):
        raise PermanentFailure(
            f"{file}: the maximum score of {join_names(published, MAX_NAMED)} cannot change, because parameters are "
            "published. An item with a different maximum score is a different item: give it an id of its own. "
            "Nothing was imported."
        )
    maxima = "unnest(%(items)s::text[], %(most)s::int[]) AS m (item_id, max_score)"
    log = f"response_log r JOIN {maxima} ON m.item_id = r.item_id"
    beyond = f"SELECT m.item_id, max(r.score) FROM {log} WHERE r.score > m.max_score GROUP BY 1 ORDER BY 1"
    for item, score in connection.execute(beyond, values):
        raise PermanentFailure(
            f"{file}: item {item} has an answer with the score {score}, so its maximum score cannot be lower. Nothing "
            "was imported."
        )
    wrong = "r.score IS NOT NULL AND r.correct IS DISTINCT FROM (r.score = m.max_score)"
    former = f"SELECT r.*, 'the maximum score is ' || m.max_score AS reason FROM {log} WHERE {wrong}"
    connection.execute(correction_sql(former, kind="rescore", by="session_user"), values)
    corrected = connection.execute(
        f"""UPDATE response_log r SET correct = (r.score = m.max_score), recorded_at = now()
            FROM {maxima} WHERE m.item_id = r.item_id AND {wrong}""",
        values,
    ).rowcount
    [(only_right_or_wrong,)] = connection.execute(
        f"SELECT count(*) FROM {log} WHERE r.score IS NULL AND r.correct IS NOT NULL", values
    ).fetchall()
    notes = [f"{file}: new maximum scores: {named}; {corrected:,} answers gain or lose full credit"]
    if only_right_or_wrong:
        notes.append(
            f"{file}: {only_right_or_wrong:,} answers to these items have no score: right ones have full credit, "
            "wrong ones are left out as score_missing. If they earned points, import these with a higher revision"
        )
    return notes

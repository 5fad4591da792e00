"""Decisions on the items that count in a form's score, and their effect on the table `form_item`."""

from collections.abc import Sequence

import psycopg
from pydantic import BaseModel

LEAVE_OUT, COUNT_AGAIN = "leave items out of a score", "count items again"
"""Kinds of decisions on the items that count in a form's score (`scores.left_out`)."""


class FormScoring(BaseModel):
    """Value of a decision on whether items of a form count."""

    items: list[str]
    scored: bool


def apply_scoring(connection: psycopg.Connection, forms: Sequence[str]) -> None:
    """Write the newest decision on each item of these forms into `form_item`: whether the item counts."""
    connection.execute(
        """UPDATE form_item f SET scored = decided.scored
           FROM (SELECT DISTINCT ON (subject, item) subject, item, (decision.value->>'scored')::boolean AS scored
                 FROM decision, jsonb_array_elements_text(decision.value->'items') AS element (item)
                 WHERE kind = ANY(%s) AND subject = ANY(%s) ORDER BY subject, item, decision_id DESC) decided
           WHERE f.form_id = decided.subject AND f.item_id = decided.item""",
        ([LEAVE_OUT, COUNT_AGAIN], [*forms]),
    )

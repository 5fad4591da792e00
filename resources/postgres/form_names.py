"""The names that `form_id` of an answer may have: forms with fixed items and adaptive tests share one namespace.

A name that is both would have its sittings scored in two ways. Every writer of `form` or `adaptive_test` checks its
names here, under one lock.
"""

from collections.abc import Collection
from typing import Literal

import psycopg

from resources.failures import PermanentFailure
from resources.postgres.database import advisory_lock, first_column, one_value

_TAKEN = {
    "form": (
        "SELECT test_id FROM adaptive_test WHERE test_id = ANY(%s) ORDER BY 1 LIMIT 1",
        "is an adaptive test; give the form another name",
    ),
    "test": (
        "SELECT form_id FROM form WHERE form_id = ANY(%s) ORDER BY 1 LIMIT 1",
        "is a form with fixed items; give the adaptive test another name",
    ),
}
CLASH_FIX = (
    "Give the form another name in its file and import it again. Then delete the form of the former name from the "
    "tables form_item and form. Hold the scores that were issued by the form's score table."
)
"""Remedy for a name that is a form and an adaptive test."""


def lock_form_names(connection: psycopg.Connection) -> None:
    """Wait until no other transaction adds forms or adaptive tests, and keep others waiting until this one ends."""
    advisory_lock(connection, "forms", "")


def require_free_names(connection: psycopg.Connection, names: Collection[str], kind: Literal["form", "test"]) -> None:
    """Raise PermanentFailure if an adaptive test has the name of a new form, or a form the name of a new test."""
    query, fault = _TAKEN[kind]
    if taken := one_value(connection, query, ([*names],)):
        raise PermanentFailure(f"{taken} {fault}")


def clashing_names(connection: psycopg.Connection) -> list[str]:
    """List the names that are a form and an adaptive test, from before both were checked."""
    return first_column(
        connection, "SELECT DISTINCT form_id FROM form JOIN adaptive_test ON test_id = form_id ORDER BY 1"
    )

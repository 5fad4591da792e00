"""Groups of learners by an attribute, for DIF and `group_abilities`. Comparing groups does not belong here."""

import json
from collections.abc import Sequence
from typing import Any

import psycopg

MAX_GROUP_LENGTH = 100
"""The longest value, in characters, that names a group; a longer one is free text."""


def groups_of(connection: psycopg.Connection, attribute: str, learners: Sequence[int]) -> tuple[list[str | None], int]:
    """Current group of each learner, by key, and the number of learners whose value names no group. An erased learner
    has no group."""
    values: dict[int, Any] = dict(
        connection.execute(
            """SELECT learner_key, attributes->%s::text FROM learner
               WHERE learner_key = ANY(%s) AND attributes ? %s::text""",
            (attribute, list(learners), attribute),
        ).fetchall()
    )
    groups = {user: group_of(value) for user, value in values.items()}
    written = {user for user, value in values.items() if value is not None and str(value).strip()}
    n_unreadable = sum(groups[user] is None for user in written)
    return [groups.get(user) for user in learners], n_unreadable


def group_of(value: object) -> str | None:
    """The group named by an attribute's JSON value. Returns None if it is not a short string, a number or a boolean.

    3 and 3.0 are the same group. Extra white space is ignored; case is not.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool | int | float):
        value = json.dumps(value)
    name = " ".join(value.split()) if isinstance(value, str) else ""
    return name if 0 < len(name) <= MAX_GROUP_LENGTH else None

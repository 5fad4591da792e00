"""Learners' ids that can be found in running text, such as the reason of a failed run."""

import psycopg

MIN_ID_LENGTH = 4


def is_distinctive(connection: psycopg.Connection, user_id: str) -> bool:
    """Check whether the id cannot be an ordinary word: four characters, not only digits, and not an item's id."""
    is_item = connection.execute("SELECT EXISTS (SELECT FROM question WHERE item_id = %s)", (user_id,)).fetchone()
    return len(user_id) >= MIN_ID_LENGTH and not user_id.isdigit() and is_item == (False,)

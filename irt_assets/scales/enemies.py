"""Enemies: items that no session or form may contain together, such as items that give away each other's answer.

`enemies` in an item's `meta` lists item ids. One list makes both items enemies.
"""

import psycopg


def read_enemies(connection: psycopg.Connection) -> dict[str, list[str]]:
    """Read the enemies of each item that has any, in order."""
    rows = connection.execute(
        """WITH listed AS (SELECT item_id, jsonb_path_query(meta, '$.enemies[*]') #>> '{}' AS enemy FROM question)
           SELECT item_id, array_agg(enemy ORDER BY enemy)
           FROM (SELECT item_id, enemy FROM listed UNION SELECT enemy, item_id FROM listed) AS either
           WHERE item_id <> enemy GROUP BY 1"""
    )
    return dict(rows.fetchall())

"""What partitions were computed from, stored in the transaction that writes their rows.

A partition is stale if its source is another now. Months keep theirs with their snapshot
(`scored_snapshot.verdict_state`). What does not belong here: what a source is (see `responses.verdict_states`).
"""

from collections.abc import Mapping

import psycopg


def record_sources(connection: psycopg.Connection, asset: str, hashes: Mapping[str, str]) -> None:
    """Note that each partition, by its key, has just been computed from a source with this hash."""
    connection.cursor().executemany(
        """INSERT INTO partition_source (asset, partition, data_hash) VALUES (%s, %s, %s)
               ON CONFLICT (asset, partition) DO UPDATE
               SET data_hash = excluded.data_hash, computed_at = excluded.computed_at""",
        [(asset, partition, data_hash) for partition, data_hash in hashes.items()],
    )


def recorded_sources(connection: psycopg.Connection, asset: str) -> dict[str, str]:
    """The hash of the source of each partition of an asset that was computed, by partition key."""
    rows = connection.execute("SELECT partition, data_hash FROM partition_source WHERE asset = %s", (asset,)).fetchall()
    return dict(rows)

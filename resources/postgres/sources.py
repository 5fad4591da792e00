"""What partitions were computed from, stored in the transaction that writes their rows.

A partition is stale if the hash stored here differs from that of the answers now. Months keep theirs with
their snapshot (`scored_snapshot.data_hash`). What does not belong here: how a hash is made (see `responses.observe`).
"""

from collections.abc import Mapping

import psycopg


def record_sources(connection: psycopg.Connection, asset: str, hashes: Mapping[str, str]) -> None:
    """Note that each partition, by its key, has just been computed from answers of this hash."""
    connection.cursor().executemany(
        """INSERT INTO partition_source (asset, partition, data_hash) VALUES (%s, %s, %s)
               ON CONFLICT (asset, partition) DO UPDATE
               SET data_hash = excluded.data_hash, computed_at = excluded.computed_at""",
        [(asset, partition, data_hash) for partition, data_hash in hashes.items()],
    )


def recorded_sources(connection: psycopg.Connection, asset: str) -> dict[str, str]:
    """The hash of the answers behind each partition of an asset, by partition key; without partitions never
    computed."""
    rows = connection.execute("SELECT partition, data_hash FROM partition_source WHERE asset = %s", (asset,)).fetchall()
    return dict(rows)

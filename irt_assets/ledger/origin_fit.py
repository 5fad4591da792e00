"""Read and record facts that only the fits of origin windows have."""

from dataclasses import dataclass
from datetime import datetime

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.ledger.relations import ORIGINS_IN_USE
from irt_assets.responses.snapshot import Snapshot
from resources.postgres.database import record


@dataclass(frozen=True)
class OriginFit:
    """The fit of an origin window, as it is stored."""

    window_start: datetime
    window_end: datetime
    data_hash: str
    snapshot_hash: str
    uri: str
    engine: str
    n_persons: int
    n_responses: int

    def covers(self, month: Month) -> bool:
        """Check whether the whole month is in the window."""
        return self.window_start <= month.start and month.end <= self.window_end

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot("the origin", self.snapshot_hash, self.uri, self.data_hash, 0, {}, {})


def origin_fit(connection: psycopg.Connection, scale_id: str) -> OriginFit | None:
    """The last fit of a scale's origin window."""
    return record(
        connection,
        OriginFit,
        """SELECT window_start, window_end, data_hash, snapshot_hash, model_spec->>'snapshot' AS uri,
                  engine, n_persons, n_responses
           FROM mirt_fit_meta WHERE scale_id = %s AND kind = 'origin' AND superseded_at IS NULL
           ORDER BY fitted_at DESC LIMIT 1""",
        (scale_id,),
    )


def overlapping_origin(
    connection: psycopg.Connection, scale_id: str, start: datetime, end: datetime
) -> OriginFit | None:
    """The last fit of a scale's origin window. Returns None if the window does not overlap start to end."""
    found = origin_fit(connection, scale_id)
    return found if found and found.window_start < end and start < found.window_end else None


def origin_windows(connection: psycopg.Connection) -> dict[str, tuple[datetime, datetime]]:
    """Start and end of each scale's origin window."""
    rows = connection.execute(f"SELECT scale_id, window_start, window_end FROM {ORIGINS_IN_USE} o").fetchall()
    return {scale_id: (start, end) for scale_id, start, end in rows}


def record_anchor_hash(connection: psycopg.Connection, fit_id: str, digest: str) -> None:
    """Record the hash of the anchor set that was frozen from the fit of an origin window."""
    connection.execute("UPDATE mirt_fit_meta SET anchor_hash = %s WHERE fit_id = %s", (digest, fit_id))

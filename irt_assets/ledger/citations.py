"""Queries for the files of the object store that rows name, shared by backups, pruning and erasure."""

from collections.abc import Collection

import psycopg

CITATIONS = {
    "snapshots": """
        SELECT uri AS name, split_part(split_part(uri, '/', -1), '.', 1) AS sha256 FROM scored_snapshot
        UNION ALL SELECT model_spec->>'snapshot', NULL FROM mirt_fit_meta WHERE model_spec->>'snapshot' IS NOT NULL
        UNION ALL SELECT spec->>'snapshot', NULL FROM fit_staging WHERE spec->>'snapshot' IS NOT NULL""",
    "posterior_draws": """
        SELECT spec->'draws'->>'uri' AS name, spec->'draws'->>'sha256' AS sha256 FROM fit_staging
        WHERE spec->'draws'->>'uri' IS NOT NULL""",
    "reports": "SELECT url AS name, sha256 FROM report_file",
}
"""For each folder of the store, the queries for its files' names in rows and the recorded sha256."""


def cited_names(connection: psycopg.Connection, folder: str, among: Collection[str] | None = None) -> dict[str, str]:
    """Recorded sha256 ("" if not recorded) of each file in `folder` that a row names.

    Snapshots and draws are named by key, reports by address. If `among` is given, only these names are looked up.
    """
    where = "" if among is None else "WHERE name = ANY(%(among)s)"
    query = f"SELECT name, coalesce(max(sha256), '') FROM ({CITATIONS[folder]}) c {where} GROUP BY name ORDER BY name"
    return dict(connection.execute(query, {"among": None if among is None else [*among]}).fetchall())

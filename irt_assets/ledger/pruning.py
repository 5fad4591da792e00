"""SQL that deletes fits, proposals and snapshots that no row cites any more.

Each kind has a query for the names of the rows older than %(before)s that can be deleted, and the statements that
delete the rows in %(names)s. `jobs.retention.unused` sets how long each kind is kept.
"""

from irt_assets.ledger.relations import LATEST_STAGED
from resources.tables import METADATA

Prunable = tuple[str, tuple[str, ...]]

_CITING = [
    table.name
    for table in METADATA.tables.values()
    if "fit_id" in table.columns
    and table.name not in ("mirt_fit_meta", "mirt_item_params", "month_impact", "fit_staging")
]
"""Tables whose rows cite a fit as evidence. A fit is kept as long as one of them cites it."""
_NOT_CITED = " AND ".join(f"NOT EXISTS (SELECT FROM {name} c WHERE c.fit_id = f.fit_id)" for name in _CITING)
_LINKED_FITS = (
    "DELETE FROM mirt_item_params WHERE fit_id = ANY(%(names)s)",
    "DELETE FROM month_impact WHERE fit_id = ANY(%(names)s)",
    "DELETE FROM mirt_fit_meta WHERE fit_id = ANY(%(names)s)",
)

FITS_OF_NIGHTS: Prunable = (
    f"""SELECT fit_id FROM mirt_fit_meta f WHERE kind = 'nightly' AND window_end < %(before)s AND {_NOT_CITED}
          AND EXISTS (SELECT FROM mirt_fit_meta n WHERE (n.kind, n.scale_id) = (f.kind, f.scale_id)
                        AND n.window_end > f.window_end)""",
    _LINKED_FITS,
)
SUPERSEDED_PROPOSALS: Prunable = (
    """SELECT p.fit_id || '/' || p.item_id FROM item_parameter_proposal p JOIN mirt_fit_meta f USING (fit_id)
       WHERE (f.kind = 'monthly' AND f.superseded_at < %(before)s
              OR EXISTS (SELECT FROM item_parameter_proposal n
                         WHERE (n.month, n.scale_id, n.item_id) = (p.month, p.scale_id, p.item_id)
                           AND (n.created_at, n.fit_id) > (p.created_at, p.fit_id) AND n.created_at < %(before)s))
         AND NOT EXISTS (SELECT FROM release_decision d WHERE d.fit_id = p.fit_id)""",
    ("DELETE FROM item_parameter_proposal WHERE fit_id || '/' || item_id = ANY(%(names)s)",),
)
SUPERSEDED_FITS: Prunable = (
    # Origins are kept: months with the model of an origin are compared with it whenever they are calibrated again.
    f"""SELECT fit_id FROM mirt_fit_meta f WHERE superseded_at < %(before)s AND kind <> 'origin'
          AND {_NOT_CITED}""",
    _LINKED_FITS,
)
ATTEMPTS_AT_FITS: Prunable = (
    f"""SELECT fit_id FROM fit_staging f WHERE fitted_at < %(before)s AND {_NOT_CITED}
          AND NOT EXISTS (SELECT FROM mirt_fit_meta m WHERE m.fit_id = f.fit_id)
          AND fit_id NOT IN (SELECT fit_id FROM {LATEST_STAGED} l)""",
    ("DELETE FROM fit_staging WHERE fit_id = ANY(%(names)s)",),
)
SUPERSEDED_SNAPSHOTS: Prunable = (
    """SELECT month || '/' || snapshot_hash FROM scored_snapshot s WHERE superseded_at < %(before)s
         AND NOT EXISTS (SELECT FROM fit_staging f WHERE f.snapshot_hash = s.snapshot_hash)
         AND NOT EXISTS (SELECT FROM mirt_fit_meta m WHERE m.snapshot_hash = s.snapshot_hash)
         AND NOT EXISTS (SELECT FROM month_state c WHERE c.snapshot_hash = s.snapshot_hash)""",
    ("DELETE FROM scored_snapshot WHERE month || '/' || snapshot_hash = ANY(%(names)s)",),
)

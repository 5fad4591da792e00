"""Judge the attempts of a window by proposed rules, without storing the verdicts."""

from collections.abc import Mapping
from datetime import datetime

import ibis
import psycopg

from irt_assets.common.partitions import Month
from irt_assets.responses.snapshot import Snapshot, record_snapshot, rules_of, store_attempts
from irt_assets.responses.stored_window import JudgedWindow, stored_window
from irt_assets.responses.verdict_states import states_of_months
from irt_assets.responses.verdicts import stage_verdicts
from irt_assets.responses.window import without_ids
from irt_assets.scales.scale import Scale, read_scales
from resources.cluster.relational import holds_log
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore
from resources.postgres.database import first_column
from resources.postgres.relations import VERDICT

_PROPOSED = ibis.table(VERDICT.schema(), name="proposed_verdict")
_DAYS = "SELECT DISTINCT completed_at::date FROM response_log WHERE completed_at >= %s AND completed_at < %s ORDER BY 1"
_INSERT = """
    INSERT INTO proposed_verdict
    SELECT n.attempt_id, n.completed_at, l.learner_key, n.item_id, n.scale_id, n.reason, n.score, n.max_score,
           n.rules_hash, n.recorded_at, now()
    FROM new_verdict n JOIN judged_learner l USING (user_id)
"""


def proposed_window(
    connection: psycopg.Connection, start: datetime, end: datetime, scales: Mapping[str, Scale]
) -> JudgedWindow:
    """The attempts of [start, end) as `stored_window` would return them after judging them by the rules of `scales`.

    Each day is judged as in a nightly run, by the item times of the previous month. Raises PermanentFailure if
    PostgreSQL has dropped answers of the window, so that only a lake has them.
    """
    if not holds_log(connection, start, end):
        raise PermanentFailure(
            f"the answers of {start:%Y-%m-%d} to {end:%Y-%m-%d} cannot be judged by other rules: PostgreSQL no longer "
            "has all of them, only the lake does. Choose a later window or month"
        )
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE TEMPORARY TABLE proposed_verdict (LIKE attempt_verdict) ON COMMIT DROP")
        for day in first_column(connection, _DAYS, (start, end)):
            stage_verdicts(connection, day, scales)
            connection.execute(_INSERT)
        connection.execute("ANALYZE proposed_verdict")
        return stored_window(connection, start, end, scales, _PROPOSED)


def propose_snapshot(connection: psycopg.Connection, store: ObjectStore, month: str) -> Snapshot:
    """Make the month's snapshot by the rules in force without storing verdicts, for a trial.

    The row is written in the caller's transaction, which a trial rolls back, and the file into `store`, which is a
    temporary folder then. Raises PermanentFailure like `proposed_window`.
    """
    scales, state = read_scales(connection), states_of_months(connection, [month])[month]
    window = proposed_window(connection, *Month(month).bounds, scales)
    stored = store_attempts(store, f"scored_responses/{month}", without_ids(window.table))
    return record_snapshot(connection, month, stored, window.totals, rules_of(scales), state, None)

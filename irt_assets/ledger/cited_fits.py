"""Linked fits by id, superseded ones included, as publications, decisions and snapshots cite them."""

from collections.abc import Collection
from typing import Any, NamedTuple

import psycopg

from irt_assets.ledger.encoding import decode
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.responses.snapshot import Snapshot
from irt_psychometrics import Calibration
from irt_psychometrics.items import Model
from resources.postgres.database import named_rows, one_value, record, records

_SNAPSHOT = "s.month, s.snapshot_hash, s.uri, s.data_hash, s.n_attempts, s.counts, s.rules"


class ModelOfFit(NamedTuple):
    """The model of an item in a fit, and mean and SD of the fit's learners on the bank's scale, None if unknown."""

    model: Model
    mean: float | None = None
    sd: float | None = None


def constants_of(connection: psycopg.Connection, fit_ids: Collection[str]) -> dict[str, LinkingConstants]:
    """Linking constants by fit id; a fit without constants is left out."""
    rows = connection.execute(
        "SELECT fit_id, model_spec->'linking_constants' FROM mirt_fit_meta WHERE fit_id = ANY(%s)", ([*fit_ids],)
    )
    return {fit_id: LinkingConstants.from_json(stored, fit_id) for fit_id, stored in rows if stored}


def calibration_of(connection: psycopg.Connection, fit_id: str) -> Calibration | None:
    """The fit before linking, as its engine returned it. Returns None if it is no longer stored."""
    stored = one_value(connection, "SELECT calibration FROM fit_staging WHERE fit_id = %s", (fit_id,))
    return None if stored is None else decode(stored)


def models_of_fits(
    connection: psycopg.Connection, fit_ids: Collection[str], items: Collection[str]
) -> dict[tuple[str, str], ModelOfFit]:
    """Model of each item in each fit, with mean and SD of the fit's learners, by fit id and item."""
    rows = connection.execute(
        """SELECT fit_id, item_id, params->>'model',
                  (model_spec->'latent'->>'mean')::float, (model_spec->'latent'->>'sd')::float
           FROM mirt_fit_meta JOIN mirt_item_params USING (fit_id) WHERE fit_id = ANY(%s) AND item_id = ANY(%s)""",
        ([*fit_ids], [*items]),
    )
    return {(fit_id, item): ModelOfFit(model, mean, sd) for fit_id, item, model, mean, sd in rows}


_FURTHER = "coalesce(params->'cov_further', jsonb_build_array(nullif(params->'cov_logit_c', 'null')))"
"""SQL for the covariances of an item's further parameters, one row per parameter; [null] if they are not stored."""
FurtherErrors = list[list[float]]


def further_errors(
    connection: psycopg.Connection, fit_ids: Collection[str], items: Collection[str]
) -> dict[tuple[str, str], FurtherErrors]:
    """Covariances of the further parameters with a, b and each other, by fit and item. Items without them are left
    out."""
    rows = connection.execute(
        f"""SELECT fit_id, item_id, {_FURTHER} FROM mirt_item_params
           WHERE fit_id = ANY(%s) AND item_id = ANY(%s)""",
        ([*fit_ids], [*items]),
    )
    return {(fit_id, item): cov for fit_id, item, cov in rows if _is_complete(cov)}


def further_errors_of_origins(
    connection: psycopg.Connection, scale_id: str, items: Collection[str]
) -> dict[tuple[str, float, float], FurtherErrors]:
    """Covariances of the further parameters with a, b and each other by item, a and b, in all origins of the scale."""
    rows = connection.execute(
        f"""SELECT item_id, (params->>'a')::float, (params->>'b')::float, {_FURTHER}
           FROM mirt_item_params JOIN mirt_fit_meta USING (fit_id)
           WHERE scale_id = %s AND kind = 'origin' AND item_id = ANY(%s)""",
        (scale_id, [*items]),
    )
    return {(item, a, b): cov for item, a, b, cov in rows if _is_complete(cov)}


def _is_complete(cov: list[list[float | None] | None]) -> bool:
    return all(row is not None and None not in row for row in cov)


def snapshot_of_fit(connection: psycopg.Connection, fit_id: str, month: str) -> Snapshot | None:
    """The snapshot of the month from which the fit was made. Returns None if it is no longer recorded."""
    return record(
        connection,
        Snapshot,
        f"""SELECT {_SNAPSHOT} FROM scored_snapshot s JOIN mirt_fit_meta m USING (snapshot_hash)
            WHERE m.fit_id = %s AND s.month = %s""",
        (fit_id, month),
    )


def snapshots_to_keep(connection: psycopg.Connection) -> list[Snapshot]:
    """The current snapshot of each month and all snapshots behind publications, ordered by month."""
    return records(
        connection,
        Snapshot,
        f"""SELECT {_SNAPSHOT} FROM scored_snapshot s
                WHERE superseded_at IS NULL OR EXISTS (
                  SELECT 1 FROM item_parameter_publication JOIN mirt_fit_meta m USING (fit_id)
                  WHERE m.snapshot_hash = s.snapshot_hash)
                ORDER BY month""",
    )


def snapshots_of_other_answers(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """Snapshots whose answers have a different hash from the one stored with their fit.

    Columns: uri, month, fit_id, snapshot_hash, and the hash of the answers `now` and as fitted (`seen`). Snapshots that
    differ because earlier releases rewrote them to erase a learner are left out.
    """
    return named_rows(
        connection,
        """SELECT s.uri, s.month, m.fit_id, s.snapshot_hash, s.data_hash AS now, m.data_hash AS seen
           FROM scored_snapshot s JOIN mirt_fit_meta m USING (snapshot_hash) WHERE s.data_hash <> m.data_hash
             AND NOT EXISTS (SELECT FROM erasure, jsonb_array_elements(rewritten) AS one
                             WHERE one->>'new_data' = s.data_hash)""",
    )


def snapshots_of_other_files(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """Snapshots whose address contains neither the hash that cites them nor the hash of the file that replaced them.

    Columns: uri, month and the expected `hash`.
    """
    return named_rows(
        connection,
        """SELECT uri, month, coalesce(new_hash, snapshot_hash) AS hash
           FROM scored_snapshot LEFT JOIN snapshot_rewrite ON old_hash = snapshot_hash
           WHERE strpos(uri, coalesce(new_hash, snapshot_hash)) = 0""",
    )

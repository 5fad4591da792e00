"""Errors of a published set: the items' own errors, and the errors that items from one fit share.

`irt_psychometrics.scoring` computes their effect on θ; `values_with_errors` has the errors that a month's fit shares
with the anchors.
"""

from dataclasses import replace
from datetime import datetime

import numpy as np
import psycopg

from irt_assets.ledger.cited_fits import FurtherErrors, further_errors
from irt_assets.ledger.publications import PublishedSet, in_force, in_force_query
from irt_psychometrics import ItemParameters
from irt_psychometrics.items import ItemRow
from irt_psychometrics.scoring import ParameterErrors
from resources.postgres.database import first_column


def set_with_errors(connection: psycopg.Connection, scale_id: str, at: datetime) -> PublishedSet:
    """The set in force at `at`, with the errors of its items.

    An item's errors are unknown (NaN) if its fit stored no shared errors, as in earlier releases, or if its lower
    asymptote was estimated without covariances. The further parameters of values from `item_pipeline` have independent
    errors, because the pipeline stores no covariances; so the errors of θ are somewhat too large.
    """
    published = in_force(connection, scale_id, at)
    if not published.items:
        return published
    cited = sorted({fit for fit in published.fits.values() if fit})
    stored = connection.execute(
        """SELECT fit_id, kind = 'origin', common_errors FROM mirt_fit_meta
           WHERE fit_id = ANY(%s) OR (scale_id, kind) = (%s, 'origin') AND superseded_at IS NULL""",
        (cited, scale_id),
    ).fetchall()
    common = {fit: np.array(gamma or [np.nan] * 4).reshape(2, 2) for fit, _, gamma in stored}
    shared = [common[fit] for fit, is_origin, gamma in stored if is_origin and gamma]
    items = ItemParameters.from_rows(list(published.items), published.items.values())
    more = [j for j, x in enumerate(published.items.values()) if x.c_se is not None or x.further]
    names = [items.item_ids[j] for j in more]
    known = further_errors(connection, cited, names) if more else {}
    if more:
        query = f"""SELECT item_id FROM ({in_force_query("rule")}) p
                    WHERE (scale_id, rule) = (%(scale)s, 'pipeline') AND item_id = ANY(%(items)s)"""
        for item in first_column(connection, query, {"scale": scale_id, "at": at, "items": names}):
            known["", item] = _independent_errors(published.items[item])
    cited_by = {j: (published.fits.get(items.item_ids[j]) or "", items.item_ids[j]) for j in more}
    further_cov = items.further_cov_of({j: known.get(x) for j, x in cited_by.items()})
    index_of = {fit: k for k, fit in enumerate(common)}
    origin = np.array([index_of.get(published.fits.get(item) or "", -1) for item in published.items])
    unknown = [bool(fit) and fit not in common for fit in map(published.fits.get, published.items)]
    cov = np.where(np.array(unknown)[:, None, None], np.nan, items.cov_of_each)
    return replace(
        published,
        errors=ParameterErrors(
            replace(items, cov=cov, further_cov=further_cov),
            origin,
            list(common.values()),
            shared[0] if shared else np.zeros((2, 2)),
        ),
    )


def _independent_errors(row: ItemRow) -> FurtherErrors:
    """Return the covariances of an item's further parameters with a, b and each other, as if they were independent."""
    errors = [row.further.get(f"{name}_se", 0.0) for name in row.further if name[0] in "tw" and name[1:].isdigit()]
    se = [row.c_se / (row.c * (1 - row.c))] if row.c_se else errors
    cov: FurtherErrors = np.hstack([np.zeros((len(se), 2)), np.diag(np.square(se))]).tolist()
    return cov

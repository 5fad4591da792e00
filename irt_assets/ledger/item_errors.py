"""Errors of a published set: the items' own errors, and the errors that items from one fit share.

`irt_psychometrics.scoring` computes their effect on θ; `values_with_errors` has the errors that a month's fit shares
with the anchors.
"""

from dataclasses import replace
from datetime import datetime

import numpy as np
import psycopg

from irt_assets.ledger.cited_fits import further_errors
from irt_assets.ledger.publications import PublishedSet, in_force
from irt_psychometrics import ItemParameters
from irt_psychometrics.scoring import ParameterErrors


def set_with_errors(connection: psycopg.Connection, scale_id: str, at: datetime) -> PublishedSet:
    """The set in force at `at`, with the errors of its items.

    An item's errors are unknown (NaN) if its fit stored no shared errors, as in earlier releases, or if its lower
    asymptote was estimated without covariances.
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
    known = further_errors(connection, cited, [items.item_ids[j] for j in more]) if more else {}
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

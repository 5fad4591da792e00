"""A month's linked fit and the published set in force, with their own and shared errors.

Turns rows into the inputs of `irt_psychometrics.drift`, for drift and for a gate. item_errors.py has the errors of a
published set alone.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import get_args

import numpy as np
import psycopg

from irt_assets.common.partitions import Month
from irt_assets.ledger.cited_fits import (
    ModelOfFit,
    calibration_of,
    constants_of,
    further_errors,
    models_of_fits,
)
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.fits import linked_fit
from irt_assets.ledger.publications import ItemInForce, publications_in_force
from irt_assets.scales.scale import Scale
from irt_psychometrics import Calibration, ItemParameters
from irt_psychometrics.drift import Comparison, Published
from irt_psychometrics.items import Model
from irt_psychometrics.linking import AnchorSet, Linking


@dataclass(frozen=True)
class LinkedWindow:
    """A fit before linking, and its linking."""

    fit_id: str
    raw: Calibration
    linking: Linking


@dataclass(frozen=True)
class SetInForce:
    """The published set at a time, and the first day of each item's value, in the same order."""

    published: Published
    since: tuple[datetime, ...]


def linked_window(connection: psycopg.Connection, scale: Scale, month: str) -> LinkedWindow | None:
    """The month's linked fit by the scale's own engine.

    Returns None if it does not exist, did not converge or is no longer stored, or if it was linked by no anchors.
    """
    fit = linked_fit(connection, scale.scale_id, "monthly", Month(month).start, scale.engine)
    return None if fit is None or not fit.converged else _window(connection, fit.fit_id, fit.constants)


def _window(connection: psycopg.Connection, fit_id: str, constants: LinkingConstants) -> LinkedWindow | None:
    raw = calibration_of(connection, fit_id) if constants.anchors_used else None
    return None if raw is None else LinkedWindow(fit_id, raw, constants.as_linking())


def set_in_force_with_errors(
    connection: psycopg.Connection, scale: Scale, at: datetime, anchors: AnchorSet
) -> SetInForce:
    """The published set in force at `at`, with the errors that its values share with the anchors.

    An anchor that is published with its frozen value has the error of the frozen value. Values from a stored fit share
    the error of that fit's linking. All other errors are independent. Without stored errors, the errors of a fit to 500
    learners are assumed.
    """
    by_item = {row.item_id: row for row in publications_in_force(connection, scale.scale_id, at)}
    values = ItemParameters.from_rows(list(by_item), (row.values for row in by_item.values()))
    unknown = ~np.isfinite(values.a_se + values.b_se)
    cov = np.where(unknown[:, None, None], values.with_assumed_errors().cov, np.nan_to_num(values.cov))
    published = Published.from_values(replace(values, cov=cov), anchors)
    of_anchors = Published.from_anchors(anchors)
    frozen = [
        item
        for item, a_k, b_k in zip(of_anchors.item_ids, of_anchors.a, of_anchors.b, strict=True)
        if item in by_item and by_item[item].values.abc[:2] == (a_k, b_k)
    ]
    better = [of_anchors.select(frozen)]
    for fit_id in sorted({row.fit_id for item, row in by_item.items() if row.fit_id and item not in frozen}):
        better.append(
            _published_from_fit(connection, fit_id, {i: r for i, r in by_item.items() if r.fit_id == fit_id}, anchors)
        )
    for part in better:
        published = published.then(part)
    published = _with_origins(connection, published.select(sorted(by_item)), by_item)
    return SetInForce(published, tuple(by_item[item].effective_from for item in published.item_ids))


def _with_origins(connection: psycopg.Connection, published: Published, rows: dict[str, ItemInForce]) -> Published:
    """Add to each value the model of its fit and the errors of its further parameters. Values from the bank get the
    model that the bank names."""
    fits = sorted({row.fit_id for row in rows.values() if row.fit_id})
    of_fits = models_of_fits(connection, fits, rows)
    further = further_errors(connection, fits, rows)
    of_bank: dict[str, str] = dict(
        connection.execute(
            "SELECT item_id, meta->'irt'->>'model' FROM question WHERE item_id = ANY(%s) AND meta->'irt' ? 'model'",
            ([item for item, row in rows.items() if not row.fit_id],),
        ).fetchall()
    )
    cited = [(rows[item].fit_id or "", item) for item in published.item_ids]
    fitted = [of_fits.get(key) or _bank_model(of_bank.get(key[1])) for key in cited]
    known = {j: further[key] for j, key in enumerate(cited) if key in further}
    cov = published.cov_of_all[:, 2:].copy()
    cov[[*known]] = published.further_cov_of(known)[[*known]]
    return published.with_fits(fitted, cov)


def _bank_model(model: str | None) -> ModelOfFit | None:
    """The bank's model, without mean and SD of learners: they are unknown, so the scale's are used."""
    known = {name: name for name in get_args(Model)}.get((model or "").lower())
    return None if known is None else ModelOfFit(known)


def _published_from_fit(
    connection: psycopg.Connection, fit_id: str, rows: dict[str, ItemInForce], anchors: AnchorSet
) -> Published:
    """The items that were published with the fit's values. Returns an empty set if the fit is no longer stored."""
    nothing = Published.from_anchors(anchors).select([])
    constants = constants_of(connection, [fit_id]).get(fit_id)
    window = _window(connection, fit_id, constants) if constants else None
    if window is None:
        return nothing
    linked = Published.from_fit(window.raw, window.linking, anchors)
    unchanged = [
        item
        for item, a, b in zip(linked.item_ids, linked.a, linked.b, strict=True)
        if item in rows and np.allclose((a, b), rows[item].values.abc[:2], rtol=1e-9, atol=1e-12)
    ]
    return linked.select(unchanged)


def compare_with_published(window: LinkedWindow, anchors: AnchorSet, at: SetInForce, start: datetime) -> Comparison:
    """Compare a window with the values in force at its `start`.

    Items whose slope or rare steps the fit stabilised by a prior are left out.
    """
    priors = window.raw.priors
    stabilised = {*priors.get("only", ()), *priors.get("rare_steps", {}).get("items", ())}
    in_force = zip(at.published.item_ids, at.since, strict=True)
    items = [item for item, since in in_force if since <= start and item not in stabilised]
    return Comparison.from_linked_fit(window.raw, window.linking, anchors, at.published.select(items))

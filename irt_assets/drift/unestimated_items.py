"""Published items without an estimate in a month: the reason, and a test of their proportion correct.

Reasons are too few answers for a fit, an estimate at a bound, or an item that has left the bank.
`irt_psychometrics.drift` has the test; month.py judges the items with an estimate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import psycopg

from irt_assets.common.partitions import Month
from irt_assets.drift import evidence
from irt_assets.drift.month_comparison import ComparedMonth
from irt_assets.ledger.fits import linked_fit
from irt_assets.responses.window import eligible_responses_of
from irt_assets.scales.scale import Scale
from irt_psychometrics import Responses
from irt_psychometrics.drift import Drift
from irt_psychometrics.estimation import Flag
from resources.files.object_store import ObjectStore


@dataclass(frozen=True)
class UnestimatedItems:
    """Published items without an estimate in a month.

    Attributes:
        why: item → reason why it has no estimate.
        gone: items that the bank no longer has on this scale.
        published: item → published (a, b, c).
        drift: the month's drift with tests of the items that have enough answers, or None if the month has no
            answers or all items have an estimate.
    """

    why: dict[str, str] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    published: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    drift: Drift | None = None

    @property
    def tested_items(self) -> tuple[str, ...]:
        tested = self.drift.proportions if self.drift else None
        return tested.item_ids if tested else ()

    @property
    def untested_items(self) -> dict[str, str]:
        """The items that could not be tested either, with the reason; items that have left the bank come first."""
        items = sorted(self.why, key=lambda item: (item not in self.gone, item))
        return {item: self.why[item] for item in items if item not in self.tested_items}

    def items(self, severity: str) -> dict[str, float]:
        """The tested items of this severity, with the absolute difference of their proportion correct."""
        tested = self.drift.proportions if self.drift else None
        if tested is None:
            return {}
        found = zip(tested.item_ids, tested.severity, np.abs(tested.difference).tolist(), strict=True)
        return {item: size for item, level, size in found if level == severity}


def examine_unestimated_items(
    connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale, compared: ComparedMonth
) -> UnestimatedItems:
    """Test the items that were in force when the month began and have no estimate in it.

    Learners' θ is computed from the items that have not moved.
    """
    items = sorted(set(compared.at.published.item_ids) - set(compared.drift.item_ids))
    if not items:
        return UnestimatedItems()
    table = evidence.attempts_of(connection, store, month, scale)
    responses = None if table is None else eligible_responses_of(table, scale.scale_id)
    published = compared.at.published
    columns = (published.item_ids, published.a.tolist(), published.b.tolist(), published.c.tolist())
    values = {item: (a, b, c) for item, a, b, c in zip(*columns, strict=True) if item in items}
    missing = find_missing_items(connection, scale.scale_id, items)
    why = _reasons(connection, month, scale, items, missing, responses)
    if responses is None:
        return UnestimatedItems(why, frozenset(missing), values)
    moved = set(compared.drift.flagged)
    known = published.select([item for item in published.item_ids if item not in moved]).among(responses.item_ids)
    mean, sd = evidence.population_of(compared.window)
    mean_se = compared.window.linking.intercept_se
    drift = compared.drift.with_proportions(responses, items, known, mean=mean, sd=sd, mean_se=mean_se)
    return UnestimatedItems(why, frozenset(missing), values, drift)


def find_missing_items(connection: psycopg.Connection, scale_id: str, items: Sequence[str]) -> dict[str, str]:
    """The items that the bank no longer has on this scale, each with a clause on its present scale."""
    now: dict[str, str] = dict(
        connection.execute("SELECT item_id, scale_id FROM question WHERE item_id = ANY(%s)", (list(items),)).fetchall()
    )
    return {
        item: f"the bank has it on scale {now[item]} now" if item in now else "it is no longer in the bank"
        for item in items
        if now.get(item) != scale_id
    }


def _reasons(
    connection: psycopg.Connection,
    month: str,
    scale: Scale,
    items: list[str],
    missing: dict[str, str],
    responses: Responses | None,
) -> dict[str, str]:
    """The reason why each item has no estimate, as text."""
    fit = linked_fit(connection, scale.scale_id, "monthly", Month(month).start, scale.engine)
    estimates = fit.items if fit else {}
    n: dict[str, int] = {}
    if responses is not None:
        counts = np.bincount(responses.item, minlength=responses.n_items).tolist()
        n = dict(zip(responses.item_ids, counts, strict=True))
    reasons = dict(missing)
    for item in items:
        if item in missing:
            continue
        if not n.get(item):
            reasons[item] = f"it has no eligible answer in {month}"
        elif item not in estimates:
            reasons[item] = (
                f"{n[item]} eligible answers, and a fit needs {scale.rules.eligibility.min_fitted_responses}"
            )
        else:
            flags = [f"{flag}: {Flag(flag).explanation}" for flag in estimates[item].flags]
            reasons[item] = "; ".join(flags) or "its estimate has no standard error"
    return reasons

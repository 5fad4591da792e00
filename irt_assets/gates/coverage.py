"""How far the anchors of a month's linking cover the bank, as it was published when the month began.

The linking itself depends on the month's answers and the frozen anchors alone; what the bank is made of changes with
every publication, which is why this is not among its constants.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt
import psycopg

from irt_assets.common.arrays import Floats
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.publications import bank_in_force

_ENDS = (0.1, 0.9)
_BIG_TOPIC = 0.10
_ANCHORS_A_TOPIC = 2


@dataclass(frozen=True)
class Bank:
    """A scale's items at a time. `topics`: of each item; `b`: of those that were published then; `anchors`: of every
    version of the set."""

    topics: Mapping[str, str | None] = field(default_factory=dict)
    b: Mapping[str, float] = field(default_factory=dict)
    anchors: frozenset[str] = frozenset()

    @property
    def has_more_than_anchors(self) -> bool:
        """Whether anything else was published, so that there is something for the anchors to cover."""
        return not self.b.keys() <= self.anchors


def read_bank(connection: psycopg.Connection, scale_id: str, at: datetime) -> Bank:
    rows = bank_in_force(connection, scale_id, at)
    return Bank(
        {row["item_id"]: row["topic_id"] for row in rows},
        {row["item_id"]: row["b"] for row in rows if row["b"] is not None},
        frozenset(row["item_id"] for row in rows if row["was_anchor"]),
    )


def gaps(constants: LinkingConstants, bank: Bank, max_error: float) -> list[str]:
    """What the anchors used by a linking do not cover of the bank, a sentence each; max_error: of b at an end."""
    if not bank.has_more_than_anchors:
        return []
    return gaps_in_coverage(
        constants.slope,
        constants.intercept,
        constants.cov,
        [bank.topics[item] for item in constants.anchors_used if item in bank.topics],
        bank.b,
        list(bank.topics.values()),
        max_error,
    )


def ends_of(constants: LinkingConstants, bank: Bank) -> list[tuple[float, float]]:
    """b at both ends of what was published besides anchors and with them, and the error that linking gives it; empty
    where there is nothing but anchors."""
    known = [b for b in bank.b.values() if np.isfinite(b)]
    if not known or not bank.has_more_than_anchors:
        return []
    ends = np.quantile(known, _ENDS)
    return list(zip(ends, error_of_linking(constants.slope, constants.intercept, constants.cov, ends), strict=True))


def error_of_linking(slope: float, intercept: float, cov: Floats, b: npt.ArrayLike) -> Floats:
    """Standard error, shape (K,), of slope·b_fit + intercept where that is `b`, shape (K,), on the bank's scale.

    cov: shape (2, 2), of (slope, intercept); b_fit is held.
    """
    b_fit = (np.asarray(b, dtype=float) - intercept) / slope
    by_constants = np.stack([b_fit, np.ones_like(b_fit)], axis=-1)
    return np.sqrt(np.einsum("ki,ij,kj->k", by_constants, cov, by_constants))


def gaps_in_coverage(
    slope: float,
    intercept: float,
    cov: Floats,
    kept_topics: Collection[str | None],
    published_b: Mapping[str, float],
    bank_topics: Collection[str | None],
    max_error: float,
) -> list[str]:
    """A sentence for each part of the bank that the kept anchors hardly cover: at the ends of its published b, and in
    topics.

    cov: shape (2, 2), of (slope, intercept). `kept_topics`: of each kept anchor; `published_b`: by item;
    `bank_topics`: of all items of the bank.
    """
    gaps = []
    known = {item: b for item, b in published_b.items() if np.isfinite(b)}
    if lost := sorted(published_b.keys() - known.keys()):
        gaps.append(f"{len(lost)} items are published with a b that is not a number: {', '.join(lost[:5])}")
    if known:
        ends = np.quantile(list(known.values()), _ENDS)
        for share, b, error in zip(_ENDS, ends, error_of_linking(slope, intercept, cov, ends), strict=True):
            if not error <= max_error:
                gaps.append(
                    f"the anchors used place b = {b:.2f}, the {100 * share:.0f}th percentile of the published b, with a"
                    f" standard error of {error:.2f}, limit {max_error:.2f}"
                )
    items, kept = Counter(bank_topics), Counter(kept_topics)
    large = sorted(topic for topic, n in items.items() if topic is not None and n >= _BIG_TOPIC * len(bank_topics))
    if few := [f"{topic} ({kept[topic]})" for topic in large if kept[topic] < _ANCHORS_A_TOPIC]:
        gaps.append(
            f"fewer than {_ANCHORS_A_TOPIC} anchors used from these topics, each a tenth of the bank or more:"
            f" {', '.join(few)}"
        )
    return gaps

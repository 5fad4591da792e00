"""Coverage of the bank, as published when the month began, by the anchors of the month's linking.

Coverage is not stored with the linking constants: they depend only on the month's answers and the frozen anchors,
whereas the bank changes with every publication.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt
import psycopg

from irt_assets.common.arrays import Floats
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.publications import bank_in_force
from irt_psychometrics.items import ScaleModel, item_model

_ENDS = (0.1, 0.9)
_LARGE_TOPIC = 0.10
_MIN_ANCHORS_OF_TOPIC = 2
_SLOPE_BIAS = 0.03
"""Largest bias of a 3PL's slope in simulations; see the page on the distribution of ability. It counts as an error."""


@dataclass(frozen=True)
class Bank:
    """The items of a scale at a given time.

    Attributes:
        topics: item → topic, for all items.
        b: item → difficulty, for the items that were published then.
        anchors: anchors in any version of the set.
    """

    topics: Mapping[str, str | None] = field(default_factory=dict)
    b: Mapping[str, float] = field(default_factory=dict)
    anchors: frozenset[str] = frozenset()

    @property
    def has_more_than_anchors(self) -> bool:
        """Whether items other than anchors were published, which the anchors have to cover."""
        return not self.b.keys() <= self.anchors


def read_bank(connection: psycopg.Connection, scale_id: str, at: datetime) -> Bank:
    rows = bank_in_force(connection, scale_id, at)
    return Bank(
        {row["item_id"]: row["topic_id"] for row in rows},
        {row["item_id"]: row["b"] for row in rows if row["b"] is not None},
        frozenset(row["item_id"] for row in rows if row["was_anchor"]),
    )


def ends_of(constants: LinkingConstants, bank: Bank, model: ScaleModel) -> list[tuple[float, float]]:
    """b at both ends of the published items, with its standard error from the linking. Under a model with guessing the
    error includes the slope's bias. Returns an empty list if only anchors are published."""
    known = [b for b in bank.b.values() if np.isfinite(b)]
    if not known or not bank.has_more_than_anchors:
        return []
    ends = np.quantile(known, _ENDS)
    cov = constants.cov + np.diag([_SLOPE_BIAS**2 if item_model(model).guesses else 0.0, 0.0])
    return list(zip(ends, error_of_linking(constants.slope, constants.intercept, cov, ends), strict=True))


def error_of_linking(slope: float, intercept: float, cov: Floats, b: npt.ArrayLike) -> Floats:
    """Standard error from the linking of difficulties `b` on the bank's scale, shape (K,).

    It is the error of slope·b_fit + intercept for fixed b_fit. `cov`: covariance of (slope, intercept), shape (2, 2).
    """
    b_fit = (np.asarray(b, dtype=float) - intercept) / slope
    by_constants = np.stack([b_fit, np.ones_like(b_fit)], axis=-1)
    return np.sqrt(np.einsum("ki,ij,kj->k", by_constants, cov, by_constants))


def coverage_gaps(constants: LinkingConstants, bank: Bank, model: ScaleModel, max_error: float) -> list[str]:
    """A sentence for each part of the bank (ends of the published b, topics) that the anchors used hardly cover.

    max_error: largest accepted standard error of b at either end of the published items.
    """
    if not bank.has_more_than_anchors:
        return []
    sentences = []
    if lost := sorted(item for item, b in bank.b.items() if not np.isfinite(b)):
        sentences.append(f"{len(lost)} items are published with a b that is not a number: {', '.join(lost[:5])}")
    for share, (b, error) in zip(_ENDS, ends_of(constants, bank, model), strict=False):  # no ends if no b is known
        if not error <= max_error:
            sentences.append(
                f"the anchors used place b = {b:.2f}, the {100 * share:.0f}th percentile of the published b, with a"
                f" standard error of {error:.2f}, limit {max_error:.2f}"
            )
    items, kept = Counter(bank.topics.values()), Counter(map(bank.topics.get, constants.anchors_used))
    large = sorted(topic for topic, n in items.items() if topic is not None and n >= _LARGE_TOPIC * len(bank.topics))
    if few := [f"{topic} ({kept[topic]})" for topic in large if kept[topic] < _MIN_ANCHORS_OF_TOPIC]:
        sentences.append(
            f"fewer than {_MIN_ANCHORS_OF_TOPIC} anchors used from these topics, each a tenth of the bank or more:"
            f" {', '.join(few)}"
        )
    return sentences

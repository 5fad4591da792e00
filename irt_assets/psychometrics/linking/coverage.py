"""How far a linking covers the bank: the error that it gives b, and the parts of the bank that its anchors miss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from irt_assets.psychometrics.core.arrays import Floats

MAX_LINKING_SE = 0.10
"""Largest standard error that linking may give b at either end of the bank; drift in b is reported from 0.25 on."""
_ENDS = (0.1, 0.9)
_BIG_TOPIC = 0.10
_ANCHORS_A_TOPIC = 2


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
            if not error <= MAX_LINKING_SE:
                gaps.append(
                    f"the anchors used place b = {b:.2f}, the {100 * share:.0f}th percentile of the published b, with a"
                    f" standard error of {error:.2f}, limit {MAX_LINKING_SE:.2f}"
                )
    items, kept = Counter(bank_topics), Counter(kept_topics)
    large = sorted(topic for topic, n in items.items() if topic is not None and n >= _BIG_TOPIC * len(bank_topics))
    if few := [f"{topic} ({kept[topic]})" for topic in large if kept[topic] < _ANCHORS_A_TOPIC]:
        gaps.append(
            f"fewer than {_ANCHORS_A_TOPIC} anchors used from these topics, each a tenth of the bank or more:"
            f" {', '.join(few)}"
        )
    return gaps

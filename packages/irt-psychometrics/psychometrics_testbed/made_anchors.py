"""Anchor sets from columns of numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.covariances import from_errors
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Calibration


def anchor_set_of(
    scale_id: str,
    version: str,
    item_ids: tuple[str, ...],
    a: Floats,
    b: Floats,
    c: Floats,
    a_se: Floats,
    b_se: Floats,
    cov_ab: Floats,
    topics: tuple[str | None, ...],
    errors_assumed: npt.NDArray[np.bool_],
    cov: Floats | None = None,
) -> AnchorSet:
    """`cov`: shape (2K, 2K), the covariance of all (a, b); None: the errors of different anchors are independent."""
    return AnchorSet(
        item_ids, a, b, c, from_errors(a_se, b_se, cov_ab) if cov is None else cov[None],
        scale_id=scale_id, version=version, topics=topics, errors_assumed=errors_assumed,
    )  # fmt: skip


def with_errors_of(anchors: AnchorSet, fit: Calibration) -> AnchorSet:
    """The anchors with the errors of their values from a fit on the bank's scale."""
    place = {item: j for j, item in enumerate(fit.item_ids)}
    known = fit.select([place[item] for item in anchors.item_ids]).items
    return AnchorSet(**vars(anchors) | {"cov": known.cov, "further_cov": known.further_cov})


def anchors_of_items(items: ItemParameters) -> AnchorSet:
    """Anchor set of all the items."""
    k = len(items.item_ids)
    return AnchorSet(
        **vars(items), scale_id="s", version="1", topics=(None,) * k, errors_assumed=np.zeros(k, dtype=bool)
    )

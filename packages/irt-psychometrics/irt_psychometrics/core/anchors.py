"""The frozen anchors of a scale: items whose values on the bank's scale no fit may change."""

from dataclasses import dataclass

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.items import ItemParameters


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AnchorSet(ItemParameters):
    """The frozen anchors of a scale: K items with their parameters on the bank's scale and their errors.

    Attributes
    ----------
    cov
        Covariances of (a, b). They include covariances between anchors only if all values come from one fit that kept
        them; otherwise errors of different anchors are treated as independent.
    topics
        Topic of each anchor; None if an anchor has no topic.
    errors_assumed
        Shape (K,); true for anchors without errors in the bank, which have the errors of `with_assumed_errors` instead.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.linking import AnchorSet
    >>> items = irt.fit(irt.datasets.guessing().responses).calibration.items.select(["q01", "q02"])
    >>> more = {"scale_id": "maths", "version": "1", "topics": (None, None), "errors_assumed": np.zeros(2, dtype=bool)}
    >>> AnchorSet(**vars(items), **more)
    <AnchorSet: 2 items>
    """

    scale_id: str
    version: str
    topics: tuple[str | None, ...]
    errors_assumed: Mask

    def __post_init__(self) -> None:
        k = len(self.item_ids)
        if self.cov.shape not in ((k, 2, 2), (1, 2 * k, 2 * k)):
            raise PsychometricsError(f"the anchors' covariance has shape {self.cov.shape}, there are {k} items")
        for name in ("a", "b", "c", "a_se", "b_se", "cov_ab", "errors_assumed"):
            column = getattr(self, name)
            if column.shape != (k,):
                raise PsychometricsError(f"anchor column {name} has shape {column.shape}, there are {k} items")
            self._refuse(~np.isfinite(column), f"{name} is not a number")
        if len(self.topics) != k or len(set(self.item_ids)) != k:
            raise PsychometricsError(f"anchors of scale {self.scale_id} need one topic each (or None) and distinct ids")
        self._refuse((self.c < 0) | (self.c >= 1), "c is outside [0, 1)")
        self._refuse(self.b_se <= 0, "the standard error of b is not above 0")
        impossible = np.abs(self.cov_ab) >= self.a_se * self.b_se
        self._refuse(impossible & (self.cov_ab != 0), "|cov_ab| is not below a_se · b_se")

    def _refuse(self, wrong: Mask, reason: str) -> None:
        if wrong.any():
            named = ", ".join(np.array(self.item_ids, dtype=object)[wrong][:5])
            raise PsychometricsError(
                f"{wrong.sum()} anchors of scale {self.scale_id} cannot be used, {reason}: {named};"
                " correct question.meta->'irt' of these items"
            )

    @property
    def cov_with_further(self) -> Floats:
        """Covariance of a₁, b₁, a₂, b₂, …, then of the further parameters, item by item; shape (PK, PK).

        The further parameters are included only if their errors are known. Entries are 0 for parameters that are held.
        """
        if self.further_cov is None:
            return self.joint_cov
        places = self.places_of_parameters
        out = np.zeros((places.size, places.size))
        out[: len(self.joint_cov), : len(self.joint_cov)] = self.joint_cov
        own, further = places[:, None, :], places[:, 2:, None]
        out[further, own] = self.further_cov
        out[own, further] = self.further_cov
        return out

    @property
    def places_of_parameters(self) -> Ints:
        """Row of each anchor's parameters in `cov_with_further`, shape (K, P)."""
        pairs = np.arange(2 * len(self.item_ids)).reshape(-1, 2)
        if self.further_cov is None:
            return pairs
        further = np.arange(self.further_cov[:, :, 0].size).reshape(len(pairs), -1)
        return np.column_stack([pairs, pairs.size + further])

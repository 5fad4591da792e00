"""The frozen anchors of a scale: items whose values on the bank's scale no fit may change."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Floats

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AnchorSet:
    """The frozen anchors of a scale: K items with their parameters on the bank's scale and the errors of these.

    Attributes:
        a, b, c, a_se, b_se, cov_ab: shape (K,), D = 1. `cov_ab` is the covariance of a and b.
        topics: topic of each anchor, None where it has none.
        errors_assumed: shape (K,); true where the bank gave no errors and `assumed_errors` stand in.
        cov: shape (2K, 2K), covariance of a₁, b₁, a₂, b₂, …, of the fit that the values come from. None: errors of
            different anchors are taken as independent.
    """

    scale_id: str
    version: str
    item_ids: tuple[str, ...]
    a: Floats
    b: Floats
    c: Floats
    a_se: Floats
    b_se: Floats
    cov_ab: Floats
    topics: tuple[str | None, ...]
    errors_assumed: Bools
    cov: Floats | None = None

    def __post_init__(self) -> None:
        k = len(self.item_ids)
        for name in ("a", "b", "c", "a_se", "b_se", "cov_ab", "errors_assumed"):
            column = getattr(self, name)
            if column.shape != (k,):
                raise PsychometricsError(f"anchor column {name} has shape {column.shape}, there are {k} items")
            self._refuse(~np.isfinite(column), f"{name} is not a number")
        if len(self.topics) != k or len(set(self.item_ids)) != k:
            raise PsychometricsError(f"anchors of scale {self.scale_id} need one topic each (or None) and distinct ids")
        if self.cov is not None and self.cov.shape != (2 * k, 2 * k):
            raise PsychometricsError(f"the anchors' covariance has shape {self.cov.shape}, there are {k} items")
        self._refuse((self.c < 0) | (self.c >= 1), "c is outside [0, 1)")
        self._refuse((self.a_se < 0) | (self.b_se <= 0), "a standard error is not above 0 (a_se is 0 where a is fixed)")
        impossible = np.abs(self.cov_ab) >= self.a_se * self.b_se
        self._refuse(impossible & (self.cov_ab != 0), "|cov_ab| is not below a_se · b_se")

    def _refuse(self, wrong: Bools, what: str) -> None:
        if wrong.any():
            named = ", ".join(np.array(self.item_ids, dtype=object)[wrong][:5])
            raise PsychometricsError(
                f"{wrong.sum()} anchors of scale {self.scale_id} cannot be used, {what}: {named};"
                " correct question.meta->'irt' of these items"
            )

    @property
    def covariance(self) -> Floats:
        """Covariance of the anchors' (a, b), in the form of `covariances`: between anchors only where `cov` says it."""
        if self.cov is not None:
            return self.cov[None]
        return np.stack([[self.a_se**2, self.cov_ab], [self.cov_ab, self.b_se**2]]).transpose(2, 0, 1)

    @property
    def hash(self) -> str:
        """sha256 over what each anchor is, in the order of their ids; equal for equal sets on every machine."""
        columns = [getattr(self, f.name) for f in fields(self)[2:] if f.name != "cov"]
        rows = sorted(zip(*(c.tolist() if isinstance(c, np.ndarray) else c for c in columns), strict=True))
        return hashlib.sha256(json.dumps([self.scale_id, self.version, rows]).encode()).hexdigest()

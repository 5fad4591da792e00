"""How a fit was placed on a scale: the constants with what the anchors say of them, or why there are none.

What does not belong here: how the constants are found (see `linking`). Whoever reads a stored fit imports this alone.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.options import Method


@dataclass(frozen=True)
class AnchorLimits:
    """Which anchors link a fit, and how many are asked for.

    Attributes:
        min_anchor_responses: an anchor with fewer responses in the fit is not used.
        item_variation: SD by which an item's b is expected to vary between samples beyond errors.
        min_anchors: how many anchors a fit should have in common with the set; only named in the error if it has fewer.
        warn_anchor_share: `Linking.warnings` says so if a smaller share of the usable anchors is left.
    """

    min_anchor_responses: int = 200
    item_variation: float = 0.10
    min_anchors: int = 5
    warn_anchor_share: float = 0.85

    def why_unusable(self, fit: Calibration, j: int) -> str:
        """Why a fit says too little of its item `j` to compare it with other values; empty if it says enough."""
        if fit.n[j] < self.min_anchor_responses:
            return f"It has {fit.n[j]} responses in this window, {self.min_anchor_responses} are needed."
        bad_flag = next((f for f in fit.flags[j] if not f.meaning.anchors_may_carry), None)
        if bad_flag is not None:
            return f"This fit could not estimate it: {bad_flag.explanation}."
        return "" if fit.a[j] > 0 else f"Its discrimination in this fit is {fit.a[j]:.3f}, not above 0: check its key."


@dataclass(frozen=True)
class Linking:
    """The constants of θ* = slope·θ + intercept, how they came about, and whether the anchors agree.

    Attributes:
        cov: shape (2, 2), covariance of (slope, intercept).
        rmse: root mean squared difference of the kept anchors' curves, old minus linked, over θ ~ N(0, 1): a
            probability.
        anchors_dropped: item id → why it was not used, a sentence.
        q, q_df, q_p: the test whether the kept anchors agree.
        share_kept: kept anchors among those with enough responses in the window.
        anchor_set: version of the anchor set.
        weighted: whether anchors were weighted by their errors.
        symmetric: whether curves were compared on both scales.
        tau, tau_slope: SD by which the b, and the ln a, of anchors vary beyond errors; part of `cov`. tau_low: lower
            95 % limit of τ; None where it was not estimated. i2: I², the share of the
            anchors' differences beyond errors. weights: item id → what an anchor used counts, 1 on average.
        skewness: of the b of the anchors used around the line, in units of their errors with τ; None of few anchors.
        with_items: shape (J, P, 2), covariance of each item's parameters in the fit with (slope, intercept); None
            in what is stored, to which `drift.Comparison` gives it back.
        ALIGNED: fields that are known of anchors that were aligned, and of none that an engine held or an earlier
            release linked by.
        suspects, diagnosis: for people, where anchors moved: item id → how far it moved against the others, and a
            sentence. Nothing is linked or judged by them.
    """

    ALIGNED: ClassVar = ("tau", "tau_slope", "tau_low", "i2", "weights")

    slope: float
    intercept: float
    slope_se: float
    intercept_se: float
    cov: Floats
    method: Method
    rmse: float
    anchors_used: tuple[str, ...]
    anchors_dropped: dict[str, str]
    q: float
    q_df: int
    q_p: float
    share_kept: float
    warnings: tuple[str, ...]
    anchor_set: str
    weighted: bool = True
    symmetric: bool = False
    suspects: dict[str, dict[str, Any]] = field(default_factory=dict)
    diagnosis: str = ""
    tau: float = 0.0
    tau_slope: float = 0.0
    tau_low: float | None = None
    i2: float = 0.0
    weights: dict[str, float] = field(default_factory=dict)
    skewness: float | None = None
    with_items: Floats | None = field(default=None, compare=False)

    def transform(self, fit: Calibration) -> Calibration:
        """The fit on the bank's scale: a* = a/slope, b* = slope·b + intercept, so d* = d − a·intercept/slope.

        The latent mean and SD move along. Covariances gain by the delta method the constants' own error and what it
        shares with the items' errors: an anchor's error has gone into the constants, and all items share the sample of
        learners, both with a sign that takes error away. `drift.Comparison` makes both again for a stored linking.
        """
        moved = fit.rescaled(self.slope, self.intercept)
        by_constants = np.zeros((*moved.cov.shape[:2], 2))
        by_constants[:, :2] = self.ad_by_constants(fit.a)
        shared = np.zeros(by_constants.shape) if self.with_items is None else self.with_items.copy()
        shared[:, :2] = np.array([[1 / self.slope, 0.0], [-self.intercept / self.slope, 1.0]]) @ shared[:, :2]
        cross = shared @ by_constants.transpose(0, 2, 1)
        of_constants = by_constants @ self.cov @ by_constants.transpose(0, 2, 1)
        cov = moved.cov + of_constants + cross + cross.transpose(0, 2, 1)
        joint = moved.joint_cov
        if joint is not None:
            places = fit.places_of_parameters
            has, n = places >= 0, places.shape[1]
            all_constants, with_constants = np.zeros((2, len(joint), 2))
            all_constants[places[has]], with_constants[places[has]] = by_constants[:, :n][has], shared[:, :n][has]
            between = with_constants @ all_constants.T
            joint = joint + all_constants @ self.cov @ all_constants.T + between + between.T
        return replace(moved, cov=cov, joint_cov=joint)

    def ad_by_constants(self, a: Floats) -> Floats:
        """Derivatives ∂(a*, d*)/∂(slope, intercept), shape (J, 2, 2), of items with a (J,) in the fit."""
        jacobian = np.zeros((len(a), 2, 2))
        jacobian[:, 0, 0] = -a / self.slope**2
        jacobian[:, 1, 0], jacobian[:, 1, 1] = a * self.intercept / self.slope**2, -a / self.slope
        return jacobian

    def as_constants(self) -> dict[str, Any]:
        """What `linking_constants` stores: plain numbers, lists and text. `q_shifts` is what earlier releases read."""
        constants = {
            f.name: list(value) if isinstance(value := getattr(self, f.name), tuple) else value
            for f in fields(self)
            if f.name not in ("cov", "with_items", *(self.ALIGNED if self.tau_low is None else ()))
        }
        return constants | {"slope_intercept_cov": float(self.cov[0, 1]), "q_shifts": {}}


class LinkingError(PsychometricsError):
    """The fit cannot be placed on the scale: its anchors determine no line."""


@dataclass(frozen=True)
class Suspect:
    """An anchor that moved: by the constants of those that did not, its b and a are off from the anchor set's.

    `parameter` is the one whose change alone explains more of it, and `z` that change over its error, the other
    parameter (ln a or b) taken as unchanged: errors of a and b are correlated, so neither is judged by itself.
    """

    delta_b: float
    delta_a: float
    z: float
    parameter: Literal["a", "b"]

    @property
    def shown(self) -> str:
        return f"b {self.delta_b:+.2f}" if self.parameter == "b" else f"a {self.delta_a:+.2f}"

    @property
    def evidence(self) -> str:
        return f"{self.shown}, {self.z:+.1f} standard errors"

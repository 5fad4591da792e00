"""The result of linking a fit: the constants with the anchors' agreement, or the reason why there are none.

Readers of stored fits import this module alone; `linking` finds the constants.
"""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.options import Method
from irt_psychometrics.core.results import Result, format_p, format_value


@dataclass(frozen=True)
class AnchorLimits:
    """Requirements for anchors: which anchors can link a fit, and how many are needed.

    Attributes
    ----------
    min_anchor_responses
        Minimum number of responses in the fit; anchors with fewer are not used.
    item_variation
        Expected SD of an item's b between samples, beyond errors.
    min_anchors
        Number of anchors that a fit should have in common with the set. It changes only the remedy in the message if
        linking fails.
    warn_anchor_share
        If a smaller share of the anchors with enough responses is used, `Linking.warnings` contains a warning.

    Examples
    --------
    >>> from irt_psychometrics.linking import AnchorLimits
    >>> AnchorLimits(min_anchor_responses=100).min_anchors
    5
    """

    min_anchor_responses: int = 200
    item_variation: float = 0.10
    min_anchors: int = 5
    warn_anchor_share: float = 0.85

    def why_unusable(self, fit: Calibration, j: int) -> str:
        """Return the reason why an item of a fit cannot be compared with other values.

        Parameters
        ----------
        fit
            The fit.
        j
            Place of the item in the fit.

        Returns
        -------
        str
            The reason, a sentence; empty if the item can be compared.
        """
        if fit.n[j] < self.min_anchor_responses:
            return f"It has {fit.n[j]} responses in this window, {self.min_anchor_responses} are needed."
        bad_flag = next((f for f in fit.flags[j] if not f.meaning.anchors_may_carry), None)
        if bad_flag is not None:
            return f"This fit could not estimate it: {bad_flag.explanation}."
        return "" if fit.a[j] > 0 else f"Its discrimination in this fit is {fit.a[j]:.3f}, not above 0: check its key."


@dataclass(frozen=True, eq=False, repr=False)
class Linking(Result):
    """The constants of θ* = slope·θ + intercept with their errors, and the anchors' agreement.

    Attributes
    ----------
    slope, intercept
        The constants.
    slope_se, intercept_se
        Their standard errors.
    cov
        Shape (2, 2), covariance of (slope, intercept).
    method
        The criterion.
    rmse
        Root mean squared difference of the used anchors' curves, old minus linked, over θ ~ N(0, 1): a probability.
    anchors_used
        Ids of the anchors that determine the constants.
    anchors_dropped
        Item id → the reason why it was not used, a sentence.
    q, q_df, q_p
        Q, its degrees of freedom and its p value in the test that the used anchors agree.
    share_kept
        Share of the anchors with enough responses in the window that are used.
    warnings
        Sentences about weaknesses of the linking.
    anchor_set
        Version of the anchor set.
    weighted
        Whether anchors were weighted by their errors.
    symmetric
        Whether curves were compared on both scales.
    tau, tau_slope
        SD of the anchors' b, and of their ln a, beyond errors; `cov` includes them.
    tau_low
        Lower 95 % limit of τ; None if it was not estimated.
    i2
        I², the share of the anchors' differences that errors do not explain.
    weights
        Item id → weight of a used anchor, 1 on average.
    skewness
        Skewness of the used anchors' b around the line, in units of their errors including τ; None if there are too few
        anchors.
    with_items
        Shape (J, P, 2), covariance of each item's parameters in the fit with (slope, intercept). It is not stored;
        `drift.Comparison` computes it again.
    ALIGNED
        Fields that are known only if anchors were aligned, not if an engine held the anchors, or if an earlier release
        linked the fit.
    suspects, diagnosis
        Shown to people if anchors moved, and used in no calculation: item id → change against the other anchors, and a
        sentence.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> old, new = irt.datasets.two_forms()
    >>> f, g = irt.fit(old.responses), irt.fit(new.responses)
    >>> linking = irt.link(g, f).linking
    >>> round(linking.slope, 1), round(linking.intercept, 1), len(linking.anchors_used)
    (1.1, 0.3, 10)
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
    with_items: Floats | None = None
    frame_kind = None  # not a field, because the platform stores all fields

    def _title(self) -> str:
        return f"{self.method} link by {len(self.anchors_used)} anchors"

    def _facts(self) -> dict[str, str]:
        return {
            "slope": f"{format_value(self.slope)} ± {format_value(self.slope_se)}",
            "intercept": f"{format_value(self.intercept)} ± {format_value(self.intercept_se)}",
            "τ": format_value(self.tau),
            "p (anchors agree)": format_p(self.q_p),
        }

    def _columns(self) -> dict[str, Any]:
        items = (*self.anchors_used, *self.anchors_dropped)
        return {
            "item": items,
            "used": [item in self.anchors_used for item in items],
            "weight": [self.weights.get(item, math.nan) for item in items],
            "dropped": [self.anchors_dropped.get(item, "") for item in items],
        }

    def _notes(self) -> list[str]:
        return [*self.warnings, *([self.diagnosis] if self.diagnosis else [])]

    def transform(self, fit: Calibration) -> Calibration:
        """Put a fit on the bank's scale: a* = a/slope, b* = slope·b + intercept, so d* = d − a·intercept/slope.

        The latent mean and SD are transformed, too. By the delta method, covariances include the error of the constants
        and its covariance with the items' errors. These are correlated because an anchor's error is part of the
        constants' error and because all items share the sample of persons; both reduce the errors. For a stored
        linking, `drift.Comparison` computes these terms again.

        Parameters
        ----------
        fit
            The fit that was linked.

        Returns
        -------
        Calibration
            The same fit on the bank's scale.
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
        """Compute the derivatives ∂(a*, d*)/∂(slope, intercept).

        Parameters
        ----------
        a
            Shape (J,), slopes of the items in the fit.

        Returns
        -------
        array of shape (J, 2, 2)
            The derivatives of a* and d*, by slope and intercept.
        """
        jacobian = np.zeros((len(a), 2, 2))
        jacobian[:, 0, 0] = -a / self.slope**2
        jacobian[:, 1, 0], jacobian[:, 1, 1] = a * self.intercept / self.slope**2, -a / self.slope
        return jacobian

    def as_constants(self) -> dict[str, Any]:
        """Return the constants in the form of the table `linking_constants`.

        Returns
        -------
        dict
            Plain numbers, lists and text. `q_shifts` is empty; earlier releases read it.
        """
        constants = {
            f.name: list(value) if isinstance(value := getattr(self, f.name), tuple) else value
            for f in fields(self)
            if f.name not in ("cov", "with_items", *(self.ALIGNED if self.tau_low is None else ()))
        }
        return constants | {"slope_intercept_cov": float(self.cov[0, 1]), "q_shifts": {}}


class LinkingError(PsychometricsError):
    """Fit that cannot be placed on the scale, because its anchors determine no line.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.linking import LinkingError
    >>> f = irt.fit(irt.datasets.two_forms()[0].responses)
    >>> try:
    ...     irt.link(f, f, anchors=["c01", "c02"])
    ... except LinkingError as error:
    ...     print(str(error)[:47])
    2 of 2 common items can serve as anchors, 3 are
    """


@dataclass(frozen=True)
class Suspect:
    """An anchor that moved, compared through the constants of the anchors that did not move.

    Attributes
    ----------
    delta_b, delta_a
        Linked value of b, and of a, minus the value in the anchor set.
    z
        Change of `parameter` divided by its error, if the other parameter (ln a or b) had not changed. Errors of a and
        b are correlated, so neither is tested by itself.
    parameter
        The parameter whose change alone explains more of the difference.

    Examples
    --------
    >>> from irt_psychometrics.linking import Suspect
    >>> Suspect(delta_b=0.5, delta_a=0.02, z=4.1, parameter="b").evidence
    'b +0.50, +4.1 standard errors'
    """

    delta_b: float
    delta_a: float
    z: float
    parameter: Literal["a", "b"]

    @property
    def shown(self) -> str:
        """The change, such as "b +0.50"."""
        return f"b {self.delta_b:+.2f}" if self.parameter == "b" else f"a {self.delta_a:+.2f}"

    @property
    def evidence(self) -> str:
        """The change with its z."""
        return f"{self.shown}, {self.z:+.1f} standard errors"

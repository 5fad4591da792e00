"""Link fits, and find drift and DIF, in a notebook, with the results as tables.

This module calls `linking`, `drift` and `dif`, which contain the computations.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.core.confidence import normal_interval
from irt_psychometrics.core.covariances import times
from irt_psychometrics.core.errors import LinkWarning, PsychometricsError
from irt_psychometrics.core.fitted_items import require_responses
from irt_psychometrics.core.frames import make
from irt_psychometrics.core.item_sources import ItemSource, find_calibration, require_items
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Calibration, ab_by_ad
from irt_psychometrics.core.options import DEFAULT_MODEL, Method, Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, format_value
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.dif.analysis import TESTABLE, Dif
from irt_psychometrics.dif.forms import sets_as_forms
from irt_psychometrics.dif.mantel_haenszel import MantelHaenszel
from irt_psychometrics.dif.wald import severity_of
from irt_psychometrics.drift.errors import Comparison, Published, repeat_linking
from irt_psychometrics.drift.items import Drift
from irt_psychometrics.fitting import Fit, anchors_from
from irt_psychometrics.linking.linking import link_to_anchors, match
from irt_psychometrics.linking.placement import AnchorLimits, Linking, LinkingError
from irt_psychometrics.scoring.form_scores import covariance_of_forms, row_width

if TYPE_CHECKING:
    from irt_psychometrics.plots.chart import Chart, Picture

MIN_ANCHORS = 3
_LIMITS = AnchorLimits(min_anchor_responses=1, min_anchors=MIN_ANCHORS)


@dataclass(frozen=True, eq=False)
class ConstantErrors:
    """Errors of a link's constants, together with errors of the items.

    Attributes
    ----------
    cov
        Shape (2, 2), covariance of (slope, intercept). The anchors' own variation τ counts only if it is significant:
        errors of equating are small, and chance values of τ, which are never below 0, would make them 15 % too large.
    with_new, with_old
        Item → covariance of its a, b and further parameters with (slope, intercept), shape (2 + M, 2), for the items of
        the new fit on its own scale and for the items of the old side.
    """

    cov: Floats
    with_new: Mapping[str, Floats]
    with_old: Mapping[str, Floats]

    @classmethod
    def from_linking(
        cls, new: Calibration, bank: ItemParameters, linking: Linking, anchors: AnchorSet
    ) -> ConstantErrors:
        """Derive the errors from the criterion's derivatives with respect to the items of both sides.

        With errors x of the new and y of the old items, the constants' error is Cx + Dy, so their covariances with x
        and y are Cov(x)Cᵀ and Cov(y)Dᵀ.
        """
        again, constants, _ = repeat_linking(new, linking, anchors)
        assert again.with_items is not None
        with_new = again.with_items.copy()
        with_new[:, :2] = ab_by_ad(new.a, new.d) @ with_new[:, :2]
        used, by_old = bank.places(linking.anchors_used), np.zeros((len(bank.a), 2 + bank.n_further, 2))
        by_old[used, :2] = constants.by_old.reshape(2, -1, 2).transpose(1, 2, 0)
        if constants.by_further_old is not None:
            by_old[used, 2:] = constants.by_further_old.transpose(1, 2, 0)
        by_ab = by_old[:, :2].transpose(2, 0, 1).reshape(2, -1)
        own = bank.cov_of_all
        own[:, :2, :2] = 0.0  # `times` includes these covariances
        with_old = own @ by_old
        with_old[:, :2] += times(by_ab, bank.cov).reshape(2, -1, 2).transpose(1, 2, 0)
        cov = again.cov
        if linking.tau_low == 0:
            a = bank.a[used]
            variances = np.stack([(a * linking.tau_slope) ** 2, np.full(a.size, linking.tau**2)], axis=1).ravel()
            cov = cov - (constants.by_old * variances) @ constants.by_old.T
        sides = ((new.item_ids, with_new), (bank.item_ids, with_old))
        return cls(cov, *(dict(zip(ids, each, strict=True)) for ids, each in sides))


@dataclass(frozen=True, eq=False, repr=False)
class ScaleLink(Result):
    """A fit on the scale of an older one: θ_old = slope·θ_new + intercept.

    Attributes
    ----------
    linking
        The constants with their covariance, the agreement of the anchors, and the reasons for dropped anchors.
    fit
        The new fit on the old scale. Its errors include the errors of the constants.
    item_ids
        The K items in both fits.
    old_a, old_b, new_a, new_b
        Shape (K,), slopes and difficulties on the old scale; NaN for items without parameters.
    used
        Shape (K,), whether the item was used as an anchor.
    errors
        How errors of the constants depend on errors of the items of both sides, for `joint_cov`.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> names, b = [f"q{k}" for k in range(9)], [0.5 * k - 2 for k in range(9)]
    >>> bank = irt.ItemParameters.from_frame({"item": names, "a": [1.5] * 9, "b": b})
    >>> f = irt.fit(irt.simulate_responses(bank, [0.003 * k for k in range(-600, 601)], random_state=2))
    >>> round(irt.link(f, f).slope, 3), irt.link(f, f).plot().columns
    (1.0, 2)
    """

    linking: Linking
    fit: Fit
    item_ids: tuple[str, ...]
    old_a: Floats
    old_b: Floats
    new_a: Floats
    new_b: Floats
    used: Mask
    errors: ConstantErrors
    frame_kind: str | None = None

    @property
    def slope(self) -> float:
        """Slope of θ_old = slope·θ_new + intercept."""
        return self.linking.slope

    @property
    def intercept(self) -> float:
        """Intercept of θ_old = slope·θ_new + intercept."""
        return self.linking.intercept

    def conf_int(self, level: float = 0.95) -> Any:
        """Compute confidence intervals of the link's constants, constant ± z·SE.

        Parameters
        ----------
        level
            Confidence level, above 0 and below 1.

        Returns
        -------
        data frame
            Rows for slope and intercept, with the columns constant, estimate, se, low and high, not rounded.

        Raises
        ------
        PsychometricsError
            If the level is not between 0 and 1.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> names, b = [f"q{k}" for k in range(9)], [0.5 * k - 2 for k in range(9)]
        >>> bank = irt.ItemParameters.from_frame({"item": names, "a": [1.5] * 9, "b": b})
        >>> x = irt.simulate_responses(bank, [0.003 * k for k in range(-600, 601)], random_state=2)
        >>> f = irt.fit(x)
        >>> irt.link(f, f).conf_int(level=0.9)["constant"].tolist()
        ['slope', 'intercept']
        """
        estimate = np.array([self.slope, self.intercept])
        se = np.array([self.linking.slope_se, self.linking.intercept_se])
        low, high = normal_interval(estimate, se, level)
        columns = {"estimate": estimate, "se": se, "low": low, "high": high}
        return make({"constant": ["slope", "intercept"], **columns}, self.frame_kind)

    def plot(self) -> Picture:
        """Draw b and a of the common items in both fits, with the line of the link.

        `plots.linking(new, old, link)` adds 95 % intervals.

        Returns
        -------
        Picture
            A notebook shows the figure; `save("figure.png")` writes it.

        Raises
        ------
        PsychometricsError
            If no common item has parameters in both fits.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> names, b = [f"q{k}" for k in range(9)], [0.5 * k - 2 for k in range(9)]
        >>> bank = irt.ItemParameters.from_frame({"item": names, "a": [1.5] * 9, "b": b})
        >>> x = irt.simulate_responses(bank, [0.003 * k for k in range(-600, 601)], random_state=2)
        >>> f = irt.fit(x)
        >>> irt.link(f, f).plot().charts[0]
        <Chart: difficulty b of 9 anchors, new against old, 0 left out>
        """
        from irt_psychometrics.plots.figures import link_picture

        return link_picture(self)

    def joint_cov(self, new: ItemSource, old: ItemSource) -> Floats:
        """Return the covariance of the items of two forms and the constants, for `equate_by_items`.

        Errors of origin and unit that the items of a fit share cancel against errors of the constants, so that the
        equivalents are much more precise than the items.

        Parameters
        ----------
        new, old
            The forms' items: the two fits that were linked, or `ItemParameters` selected from the two sides of the
            link, each on its own scale.

        Returns
        -------
        array of shape (S, S)
            Covariance in the order of `equate_by_items`. All NaN if the fit of the new form kept no covariances between
            items.

        Raises
        ------
        PsychometricsError
            If an item is not on its side of the link.

        Examples
        --------
        >>> import numpy as np
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.equating import equate_by_items
        >>> names, rng = [f"q{k}" for k in range(9)], np.random.default_rng(1)
        >>> bank = irt.ItemParameters.from_frame({"item": names, "a": [1.5] * 9, "b": rng.normal(size=9)})
        >>> x, y = (irt.fit(irt.simulate_responses(bank, rng.normal(m, 1, 1000), random_state=1)) for m in (0, 0.5))
        >>> found = irt.link(y, x)
        >>> found.joint_cov(y, x).shape
        (56, 56)
        >>> bool((equate_by_items(y, x, link=found).se[1:-1] < 0.2).all())
        True
        """
        new, old = (require_items(side, "ScaleLink.joint_cov") for side in (new, old))
        width = row_width((new, old))
        with_constants = []
        for form, known in ((new, self.errors.with_new), (old, self.errors.with_old)):
            if lost := [item for item in form.item_ids if item not in known]:
                raise PsychometricsError(f"{some_of(lost)} must be on the form's own side of the link")
            with_constants += [np.pad(known[item], ((0, width - len(known[item])), (0, 0))) for item in form.item_ids]
        items, between = covariance_of_forms((new, old)), np.concatenate(with_constants)
        if len(new.cov) == len(new.a) > 1:
            items[:] = np.nan
        return np.block([[items, between], [between.T, self.errors.cov]])

    def _title(self) -> str:
        return f"{self.linking.method} link by {len(self.linking.anchors_used)} of {len(self.item_ids)} common items"

    def _facts(self) -> dict[str, str]:
        return self.linking._facts()

    def _columns(self) -> dict[str, Any]:
        dropped = self.linking.anchors_dropped
        return {
            "item": self.item_ids,
            "used": self.used,
            "a_old": self.old_a,
            "a_new": self.new_a,
            "b_old": self.old_b,
            "b_new": self.new_b,
            "delta_b": self.new_b - self.old_b,
            "dropped": [dropped.get(item, "") for item in self.item_ids],
        }

    def _notes(self) -> list[str]:
        return self.linking._notes()


@dataclass(frozen=True, eq=False, repr=False)
class ItemDrift(Result):
    """Changes of item parameters from an old to a new fit, on the old scale.

    Attributes
    ----------
    item_ids
        The J items with parameters and errors in both fits.
    delta_a, delta_b, delta_a_se, delta_b_se
        Shape (J,), new minus old, and standard errors. Above 0 the item now discriminates more (a) or is harder (b).
        NaN if the item's model differs between the fits.
    wabc
        Shape (J,), mean difference of the two curves over the old population, 0 … 1 (Edelen, Stucky & Chandra 2015).
    p, q
        Shape (J,), p-value of "the item moved no more than items do in general", and Benjamini & Hochberg's false
        discovery rate.
    severity
        J of "none", "medium" (q < .05 and wABC > .05), "high" (wABC > .10).
    link
        The link that put the new fit on the old scale.
    categories
        J texts: the scores k for which P(X ≥ k) changed, such as "2, 3". None if categories were not tested.
    """

    item_ids: tuple[str, ...]
    delta_a: Floats
    delta_a_se: Floats
    delta_b: Floats
    delta_b_se: Floats
    wabc: Floats
    p: Floats
    q: Floats
    severity: tuple[str, ...]
    link: ScaleLink
    categories: tuple[str, ...] | None = None
    frame_kind: str | None = None

    @property
    def flagged(self) -> tuple[str, ...]:
        """Items whose change is significant and large enough to matter."""
        return tuple(item for item, level in zip(self.item_ids, self.severity, strict=True) if level != "none")

    def plot(self, parameter: Literal["a", "b"] = "b") -> Chart:
        """Draw the items' changes with 95 % intervals. Flagged items are orange.

        Parameters
        ----------
        parameter
            "b" (difficulty) or "a" (discrimination).

        Returns
        -------
        Chart
            A notebook shows the figure; `save("figure.png")` writes it.

        Raises
        ------
        PsychometricsError
            For another parameter, or if no item has a value.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> names, b = [f"q{k}" for k in range(9)], [0.5 * k - 2 for k in range(9)]
        >>> bank = irt.ItemParameters.from_frame({"item": names, "a": [1.5] * 9, "b": b})
        >>> x = irt.simulate_responses(bank, [0.003 * k for k in range(-600, 601)], random_state=2)
        >>> f = irt.fit(x)
        >>> irt.find_drift(f, f).plot("a")
        <Chart: Δa, new minus published of 9 items with 95 % intervals>
        """
        from irt_psychometrics.plots.figures import drift

        return drift(self, parameter)

    def _title(self) -> str:
        return f"drift of {len(self.item_ids)} items"

    def _facts(self) -> dict[str, str]:
        return {
            "moved": f"{len(self.flagged)}",
            "slope": format_value(self.link.slope),
            "τ": format_value(self.link.linking.tau),
        }

    def _columns(self) -> dict[str, Any]:
        numbers = ("delta_a", "delta_a_se", "delta_b", "delta_b_se", "wabc", "p", "q")
        more = {"severity": self.severity} | ({"categories": self.categories} if self.categories else {})
        return {"item": self.item_ids, **{name: getattr(self, name) for name in numbers}, **more}

    def _notes(self) -> list[str]:
        if not self.flagged:
            return []
        return [
            f"{some_of(self.flagged)}: look for an exposed item, a changed key or text; then give it new parameters."
        ]


@dataclass(frozen=True, eq=False, repr=False)
class ItemDif(Result):
    """DIF: differences of items between a focal group and the reference group, one row per item and focal group.

    Attributes
    ----------
    reference
        The group with which the other groups are compared.
    item_ids, groups
        The item and the focal group of each of the R rows.
    delta_a, delta_b, delta_a_se, delta_b_se
        Shape (R,), focal minus reference, and standard errors. If delta_b is above 0, the item is harder for the focal
        group.
    wabc, shift
        Shape (R,), mean unsigned and mean signed difference of the two curves over both groups' θ. If the shift is
        below 0, the item is harder for the focal group.
    p, q
        Shape (R,), p-value of "no group differs" (Wald), and Benjamini & Hochberg's false discovery rate.
    severity
        R of "none", "small", "medium" (wABC > .05), "high" (> .10).
    mh_delta, mh_class
        Mantel-Haenszel Δ of persons who saw the same items, shape (R,), and the ETS class; NaN and "" if they could not
        be computed.
    reasons
        R texts: the reason why an item was not tested; empty if it was tested.
    notes
        Sentences about anchors and groups.
    categories
        R texts: the scores k for which P(X ≥ k) differs, such as "2, 3". None if there are no scored items.
    """

    reference: str
    item_ids: tuple[str, ...]
    groups: tuple[str, ...]
    delta_a: Floats
    delta_a_se: Floats
    delta_b: Floats
    delta_b_se: Floats
    wabc: Floats
    shift: Floats
    p: Floats
    q: Floats
    severity: tuple[str, ...]
    mh_delta: Floats
    mh_class: tuple[str, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    categories: tuple[str, ...] | None = None
    frame_kind: str | None = None

    @property
    def flagged(self) -> tuple[str, ...]:
        """Items with at least medium DIF for some group."""
        found = (item for item, level in zip(self.item_ids, self.severity, strict=True) if level in ("medium", "high"))
        return tuple(dict.fromkeys(found))

    def plot(self, group: str | None = None) -> Chart:
        """Draw how much harder each item is for a focal group than for the reference group, with 95 % intervals.

        Parameters
        ----------
        group
            The focal group. None: the first.

        Returns
        -------
        Chart
            A notebook shows the figure; `save("figure.png")` writes it.

        Raises
        ------
        PsychometricsError
            If there is no such focal group, or no item has a value.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> names, b = [f"q{k}" for k in range(9)], [0.5 * k - 2 for k in range(9)]
        >>> bank = irt.ItemParameters.from_frame({"item": names, "a": [1.5] * 9, "b": b})
        >>> x = irt.simulate_responses(bank, [0.003 * k for k in range(-600, 601)], random_state=2)
        >>> irt.find_dif(x, ["new", "old", "old"] * 400 + ["new"]).plot("new")
        <Chart: Δb, new minus old of 9 items with 95 % intervals>
        """
        from irt_psychometrics.plots.figures import dif_effects

        return dif_effects(self, group)

    def _title(self) -> str:
        return f"DIF of {len(set(self.item_ids))} items against {self.reference}"

    def _facts(self) -> dict[str, str]:
        return {"medium or high": f"{len(self.flagged)}"}

    def _columns(self) -> dict[str, Any]:
        numbers = ("delta_a", "delta_a_se", "delta_b", "delta_b_se", "wabc", "shift", "p", "q")
        return {
            "item": self.item_ids,
            "group": self.groups,
            **{name: getattr(self, name) for name in numbers},
            "severity": self.severity,
            **({"categories": self.categories} if self.categories else {}),
            "mh_delta": self.mh_delta,
            "mh_class": self.mh_class,
            "not_tested": self.reasons,
        }

    def _notes(self) -> Sequence[str]:
        return self.notes


def link(
    new: Fit,
    old: ItemSource,
    *,
    anchors: Sequence[str] | None = None,
    method: Method = "stocking-lord",
    symmetric: bool = False,
) -> ScaleLink:
    """Put a fit on the scale of another fit through their common items.

    Parameters
    ----------
    new
        The fit to be placed on the old scale.
    old
        The fit, the link (its new fit on its old scale), or the item parameters that define the old scale.
    anchors
        Items that may serve as anchors. None: all common items. Anchors that moved relative to the others are dropped.
    method
        "stocking-lord" (1983), "haebara" (1980), "mean-sigma" (Marco 1977) or "mean-mean" (Loyd & Hoover 1980).
    symmetric
        Whether "stocking-lord" and "haebara" compare curves on both scales.

    Returns
    -------
    ScaleLink
        The constants, and the new fit on the old scale.

    Warns
    -----
    LinkWarning
        If errors or covariances of the old items are assumed, or many anchors were dropped.

    Raises
    ------
    PsychometricsError
        If `new` is not a `Fit`, `old` contains no items, or an anchor is repeated or has no old
        parameters.
    LinkingError
        If fewer than 3 items can serve as anchors, or no line relates their parameters.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> names, b = [f"q{k}" for k in range(9)], [0.5 * k - 2 for k in range(9)]
    >>> errors = {"a_se": [0.05] * 9, "b_se": [0.05] * 9, "cov_ab": [0.0] * 9}
    >>> bank = irt.ItemParameters.from_frame({"item": names, "a": [1.5] * 9, "b": b, **errors})
    >>> x = irt.simulate_responses(bank, [1 + 0.003 * k for k in range(-600, 601)], random_state=2)
    >>> found = irt.link(irt.fit(x), bank)
    >>> 0.8 < found.slope < 1.4, 0.8 < found.intercept < 1.2
    (True, True)
    """
    found = _link_fits(new, old, anchors, method, symmetric)
    for note in found._notes():
        warnings.warn(note, LinkWarning, stacklevel=2)
    return found


def _link_fits(new: Fit, old: ItemSource, anchors: Sequence[str] | None, method: Method, symmetric: bool) -> ScaleLink:
    if not isinstance(new, Fit):
        raise PsychometricsError(f"the new side of a link must be a Fit, got {type(new).__name__}")
    bank, known = require_items(old, "link"), set(new.item_ids)
    common = [item for item in (bank.item_ids if anchors is None else anchors) if item in known]
    if not common:
        raise LinkingError(
            f"the two fits have no item in common ({some_of(new.item_ids)} and {some_of(bank.item_ids)}), so their "
            "scales cannot be related. Are the names written alike?"
        )
    frozen = anchors_from(old, common)
    pairs, dropped = match(new.calibration, frozen, _LIMITS)
    reasons = "; ".join(f"{item}: {why}" for item, why in [*dropped.items()][:5])
    if pairs.size < MIN_ANCHORS:
        raise LinkingError(
            f"{pairs.size} of {len(common)} common items can serve as anchors, {MIN_ANCHORS} are needed"
            f"{f'. Dropped: {reasons}' if reasons else ''}. Give both sides more items in common"
        )
    try:
        found = link_to_anchors(new.calibration, frozen, method=method, symmetric=symmetric, limits=_LIMITS)
    except LinkingError as error:
        raise LinkingError(
            f"no line relates the {pairs.size} common items: too many of them moved, or their errors are too large. "
            "Name the items that did not move with anchors=, or collect more answers"
        ) from error
    found = replace(found, warnings=tuple(text.replace(" in the bank", " on the old side") for text in found.warnings))
    moved = replace(new, calibration=found.transform(new.calibration))
    both = [item for item in bank.item_ids if item in known]
    then, now = bank.select(both), moved.calibration.items.select(both)
    used = np.isin(both, found.anchors_used)
    errors = ConstantErrors.from_linking(new.calibration, bank, found, frozen)
    return ScaleLink(found, moved, tuple(both), then.a, then.b, now.a, now.b, used, errors, new.frame_kind)


def find_drift(
    new: Fit, old: ItemSource, *, anchors: Sequence[str] | None = None, responses: Responses | None = None
) -> ItemDrift:
    """Find items whose parameters changed between two fits.

    Parameters
    ----------
    new
        The later fit, on any scale.
    old
        The earlier fit or link, or the parameters in use, with errors.
    anchors
        Items that put both fits on one scale. None: all common items. Anchors that moved are dropped.
    responses
        The responses of the new fit. With them, single categories of scored items are tested, too.

    Returns
    -------
    ItemDrift
        Changes on the old scale with their errors, tests and severities.

    Warns
    -----
    LinkWarning
        If errors or covariances of the old items are assumed, or many anchors were dropped.

    Raises
    ------
    PsychometricsError
        If the two cannot be linked (see `link`), or fewer than 3 items can be compared.

    Notes
    -----
    Each item gets a joint Wald test of both parameters. The errors include the errors of the linking and the variation
    between calibrations of items that did not move.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> names, b = [f"q{k}" for k in range(9)], [0.5 * k - 2 for k in range(9)]
    >>> bank = irt.ItemParameters.from_frame({"item": names, "a": [1.5] * 9, "b": b})
    >>> now = irt.ItemParameters.from_frame({"item": names, "a": [1.5] * 9, "b": [*b[:8], 0.5]})
    >>> theta = [0.004 * k for k in range(-500, 501)]
    >>> old, new = (irt.fit(irt.simulate_responses(i, theta, random_state=k)) for k, i in enumerate((bank, now)))
    >>> irt.find_drift(new, old, anchors=names[:8]).flagged
    ('q8',)
    """
    linked = _link_fits(new, old, anchors, "stocking-lord", symmetric=False)
    for note in linked.linking.warnings:
        warnings.warn(note, LinkWarning, stacklevel=2)
    bank = require_items(old, "find_drift")
    frozen = anchors_from(old, [item for item in linked.item_ids if anchors is None or item in set(anchors)])
    published = Published.from_anchors(frozen)
    rest = [item for item in linked.item_ids if item not in set(frozen.item_ids)]
    rest = [item for item in rest if np.isfinite(bank.select([item]).b_se[0])]
    if rest:
        others = bank.select(rest)
        own = ItemParameters(others.item_ids, others.a, others.b, others.c, others.cov_of_each, others=others.others)
        published = Published.from_values(own, frozen).then(published)
    population = find_calibration(old)
    mean, sd = (0.0, 1.0) if population is None else (population.latent_mean, population.latent_sd)
    comparison = Comparison.from_linked_fit(new.calibration, linked.linking, frozen, published)
    found = Drift.from_comparison(comparison, mean=mean, sd=sd)
    se = found.se
    changes = (found.delta_a, se[:, 0], found.delta_b, se[:, 1], found.wabc, found.p, found.q)
    categories = None
    if responses is not None and comparison.window.curves.scored:
        require_responses(responses, "find_drift")
        tested = found.with_categories(responses, mean=mean, sd=sd).categories
        assert tested is not None
        categories = tuple(tested.named_scores(len(found.item_ids)))
    return ItemDrift(found.item_ids, *changes, tuple(found.severity), linked, categories, new.frame_kind)


def find_dif(
    x: Responses,
    groups: Sequence[Any],
    *,
    model: Model | Mapping[str, Model] | None = None,
    reference: str | None = None,
) -> ItemDif:
    """Find items that function differently for groups of persons of equal ability.

    Parameters
    ----------
    x
        Responses of N persons.
    groups
        N labels, one per person; None or NaN if the group is unknown.
    model
        A model for all items, or item → model. None: "2pl", or "gpcm" if items have more than two scores.
    reference
        The group with which the other groups are compared. None: the largest group, counted by persons with a response;
        of equally large groups the first in sorted order, as in `fit`.

    Returns
    -------
    ItemDif
        One row per item and focal group.

    Raises
    ------
    PsychometricsError
        If fewer than two groups can be tested; the message contains the reasons.

    Notes
    -----
    The items' curves are estimated for each group on common anchors, which are selected by the data, and compared by a
    Wald test (Lord 1980, ch. 14). The Mantel-Haenszel statistic is computed within sets of persons who saw the same
    items (Holland & Thayer 1988).

    References
    ----------
    Lord, F. M. (1980). Applications of item response theory to practical testing problems. Erlbaum.
    Holland, P. W. & Thayer, D. T. (1988). Differential item performance and the Mantel-Haenszel procedure.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> names, b = [f"q{k}" for k in range(6)], [-1.0, -0.5, 0.0, 0.2, 0.6, 1.0]
    >>> items = irt.ItemParameters.from_frame({"item": names, "a": [1.2] * 6, "b": b})
    >>> x = irt.simulate_responses(items, [0.005 * k for k in range(-300, 300)] * 2, random_state=3)
    >>> irt.find_dif(x, ["a"] * 600 + ["b"] * 600).reference
    'a'
    """
    require_responses(x, "find_dif")
    values = [None if label is None or label != label else str(label) for label in groups]
    if len(values) != x.n_persons:
        raise PsychometricsError(f"groups must be {x.n_persons} labels, one per person; got {len(values)}")
    usual = DEFAULT_MODEL if x.categories is None else "gpcm"
    chosen: Any = usual if model is None else model if isinstance(model, str) else [model[item] for item in x.item_ids]
    forms = sets_as_forms(x, 2 * TESTABLE)
    found = Dif.from_responses("groups", x, values, forms=forms, model=chosen, reference=reference)
    if found.wald is None:
        each = "; ".join(f"{group.name}: {group.reason}" for group in found.groups if group.reason)
        raise PsychometricsError(f"DIF cannot be tested: {found.reason}{f' ({each})' if each else ''}")
    return _dif_rows(x, found)


def _dif_rows(x: Responses, found: Dif) -> ItemDif:
    wald, within = found.wald, found.within_forms
    assert wald is not None
    n_items, focal = x.n_items, wald.groups[1:]
    mh_delta, mh_class = np.full((len(focal), n_items), np.nan), [[""] * n_items for _ in focal]
    if within is not None:
        for f, name in enumerate(focal):
            for j, own in enumerate(within.mantel_haenszel[within.groups.index(name) - 1]):
                if own is not None:
                    mh_class[f][j] = own.ets_class or ""
                    mh_delta[f, j] = own.delta if isinstance(own, MantelHaenszel) else np.nan
    by_name = {group.name: group for group in found.groups}
    severity = [severity_of(q, size) for of_group in wald.wabc for q, size in zip(wald.q, of_group, strict=True)]
    notes = [*wald.warnings]
    notes += [f"{group.name} was left out: {group.reason}." for group in found.groups if group.reason]
    notes += [f"{group.name} has low power: {group.n_learners} persons." for group in found.groups if group.low_power]
    if found.n_unknown:
        notes.append(f"{found.n_unknown:,} persons have no group and were left out.")
    of_rows = {
        "delta_a": wald.delta[:, :, 0],
        "delta_a_se": wald.se[:, :, 0],
        "delta_b": wald.delta[:, :, 1],
        "delta_b_se": wald.se[:, :, 1],
        "wabc": wald.wabc,
        "shift": wald.shift,
        "p": np.tile(wald.p, (len(focal), 1)),
        "q": np.tile(wald.q, (len(focal), 1)),
        "mh_delta": mh_delta,
    }
    return ItemDif(
        reference=wald.groups[0],
        item_ids=tuple(x.item_ids) * len(focal),
        groups=tuple(name for name in focal for _ in range(n_items)),
        severity=tuple(severity),
        mh_class=tuple(own for of_group in mh_class for own in of_group),
        reasons=tuple(found.why_not(j, by_name[name]) for name in focal for j in range(n_items)),
        notes=tuple(notes),
        categories=None
        if x.categories is None
        else tuple(scores for name in focal for scores in wald.categories[name].named_scores(n_items)),
        frame_kind=x.frame_kind,
        **{name: values.ravel() for name, values in of_rows.items()},
    )

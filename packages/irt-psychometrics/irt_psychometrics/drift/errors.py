"""Differences between linked and published parameters, with all their errors.

This module contains `Published`, the parameters that scoring uses with their errors, and `Comparison`, the differences
with their covariance. Tests and severities are in items.py, trends in item_trends.py.

Let y = (a/slope, d − a·intercept/slope) be the linked parameters of an item. Their errors come from the fit's estimates
x of *all* items, through the linking's constants β(x, s), and from the anchors' frozen values s. The published values p
may be anchors' frozen values, or may come from a fit that was linked to the same s. With T = ∂y/∂x_item, B = ∂y/∂β, and
∂β/∂x and ∂β/∂s from the linking criterion (criteria.py),

    dy = T·dx_item + B·(β_x·dx + β_s·ds),        Δ = y − p,
    Cov y = T Σ_item Tᵀ + T K Bᵀ + B Kᵀ Tᵀ + B (β_x Σ β_xᵀ + β_s S β_sᵀ) Bᵀ,
    Cov Δ = Cov y + P − C β_sᵀ Bᵀ − B β_s Cᵀ,

where Σ = Cov x, Σ_item is its block of the item, K = Cov(x_item, β_x x), S = Cov s, P = Cov p and C = Cov(p, s). If the
published value of an anchor is its frozen value, P is its block of S, and C its rows of S. So the formula accounts for
an anchor's influence on the constants, which reduces its own difference. If p comes from an earlier linked fit, P is
that fit's Cov y, and C = B' β'_s S. `Linking.transform` computes Cov y.

**Between items**, errors of differences are correlated, too. Errors of a window's items share its sample and its
constants, which form a line. A second alignment estimates this line again, so it is excluded here. Errors of published
values share their fits. Let γ = (stretch, shift) be a fit's place on the scale, which changes (a, b) by
B_j γ = (−a_j γ₁, b_j γ₁ + γ₂). Then

    p_j = own_j + B_j γ_f,    γ_f = F_f s + ν_f

for an item that fit f published (`PlacementErrors`). An anchor's frozen value is s_j itself, and if one fit gave all
frozen values, S has a common part B Γ Bᵀ. So the covariance of published values is a low-rank matrix plus each value's
own covariance (`DifferenceErrors`).

Parameters of a window and published parameters of another model have different meanings. They have no differences here;
only their curves are compared (curves.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Self

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.core.assumed_errors import assumed_covariances_of_scores
from irt_psychometrics.core.covariances import block_diagonal, common_part, padded, with_further
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import item_model, items_where, select_others
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.model_families import THREE_PL, ItemModel
from irt_psychometrics.core.models import Calibration, ab_by_ad
from irt_psychometrics.core.options import Model
from irt_psychometrics.linking.criteria import Constants, solve
from irt_psychometrics.linking.linking import match, weight_by_populations, with_items
from irt_psychometrics.linking.placement import AnchorLimits, Linking
from irt_psychometrics.scoring.total_error import ParameterErrors

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class FitPopulation:
    """The model of an estimate, and the distribution N(mean, sd²) of its learners on the bank's scale.

    mean and sd are None if they are unknown.
    """

    model: Model
    mean: float | None = None
    sd: float | None = None

    @classmethod
    def for_items(cls, linked: Calibration) -> tuple[FitPopulation, ...]:
        return tuple(cls(model, linked.latent_mean, linked.latent_sd) for model in linked.models)


@dataclass(frozen=True, eq=False)
class PlacementErrors:
    """Errors of a fit's place γ on the scale.

    Attributes:
        by_anchors: F of the module's docstring, shape (2, PK), derivatives with respect to the anchors' frozen values
            in the order of `AnchorSet.cov_with_further`.
        cov: Cov ν, shape (2, 2).
    """

    by_anchors: Floats
    cov: Floats


FROZEN = PlacementErrors(np.zeros((2, 0)), np.zeros((2, 2)))
"""Marks values that are the anchors' frozen values."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Published(ItemParameters):
    """The published set in force: J items on the bank's scale, without covariances between items.

    Attributes
    ----------
    further_cov
        As in `ItemParameters`; also 0 if the errors of further parameters are unknown.
    with_anchors
        Shape (J, P, PK), covariance of (a, b), or of these and the further parameters, with the anchors' frozen values
        in the order of `AnchorSet.cov_with_further`.
    fitted, placed
        The fit of each of J values and its place; None if unknown. () if all are unknown.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.drift import Published
    >>> from irt_psychometrics.linking import AnchorSet
    >>> items = irt.fit(irt.datasets.guessing().responses).calibration.items.select(["q01", "q02"])
    >>> more = {"scale_id": "maths", "version": "1", "topics": (None, None), "errors_assumed": np.zeros(2, dtype=bool)}
    >>> Published.from_anchors(AnchorSet(**vars(items), **more)).item_ids
    ('q01', 'q02')
    """

    with_anchors: Floats
    fitted: tuple[FitPopulation | None, ...] = ()
    placed: tuple[PlacementErrors | None, ...] = ()

    def __post_init__(self) -> None:
        for name in ("fitted", "placed"):
            if not getattr(self, name):
                object.__setattr__(self, name, (None,) * len(self.item_ids))

    @classmethod
    def from_anchors(cls, anchors: AnchorSet) -> Published:
        """Create the set from the anchors' frozen values, which were published when the scale began.

        Parameters
        ----------
        anchors
            The anchors.

        Returns
        -------
        Published
            The anchors with their frozen values.
        """
        values = anchors.item_ids, anchors.a, anchors.b, anchors.c, anchors.cov_of_each, anchors.further_cov
        with_anchors = anchors.cov_with_further[anchors.places_of_parameters]
        return cls(*values, anchors.others, with_anchors=with_anchors, placed=(FROZEN,) * len(anchors.item_ids))

    @classmethod
    def from_fit(cls, raw: Calibration, linking: Linking, anchors: AnchorSet) -> Published:
        """Create the set from all items with estimates in a fit, linked to the anchors.

        Parameters
        ----------
        raw
            The fit on its own scale.
        linking
            The linking of this fit.
        anchors
            The anchors to which the fit was linked.

        Returns
        -------
        Published
            The items on the bank's scale.

        Raises
        ------
        PsychometricsError
            If `linking` is not the linking of this fit.
        """
        y = _LinkedFit.from_calibration(raw, linking, anchors)
        with_anchors = _no_covariance(y.fit.n_items, anchors)
        with_anchors[:, :2] = y.to_ab @ y.by_anchors @ anchors.cov_with_further
        placed = (y.placement_errors(anchors),) * y.fit.n_items
        return cls(**vars(y.fit.items), with_anchors=with_anchors, fitted=FitPopulation.for_items(y.fit), placed=placed)

    @classmethod
    def from_values(cls, items: ItemParameters, anchors: AnchorSet) -> Published:
        """Create the set from values whose covariances with the anchors are unknown, and assumed to be 0.

        Parameters
        ----------
        items
            The published values.
        anchors
            The anchors of the scale.

        Returns
        -------
        Published
            The same values, independent of the anchors.
        """
        return cls(**vars(items), with_anchors=_no_covariance(len(items.item_ids), anchors))

    def select(self, item_ids: Sequence[str]) -> Published:
        """Restrict the set to some items.

        Parameters
        ----------
        item_ids
            The items, in the order of the result.

        Returns
        -------
        Published
            The values of these items.
        """
        j = self.places(item_ids)
        fitted, placed = (tuple(of[k] for k in j) for of in (self.fitted, self.placed))
        some = vars(super().select(item_ids))
        return Published(**some, with_anchors=self.with_anchors[j], fitted=fitted, placed=placed)

    def with_fits(
        self, fits: Sequence[tuple[Model, float | None, float | None] | None], further_cov: Floats
    ) -> Published:
        """Add the fit of each value and the errors of its further parameters.

        Parameters
        ----------
        fits
            For each value the model, and the mean and SD of the persons on the bank's scale (None if unknown). None for
            a value whose fit is unknown.
        further_cov
            Shape (J, M, 2 + M).

        Returns
        -------
        Published
            The same values with their fits.
        """
        fitted = tuple(None if of is None else FitPopulation(*of) for of in fits)
        return replace(self, fitted=fitted, further_cov=further_cov)

    def then(self, other: Published) -> Published:
        """Merge both sets. For items in both, the values of `other` replace the values of this set.

        Parameters
        ----------
        other
            The later set.

        Returns
        -------
        Published
            The items of this set that are not in `other`, then the items of `other`.
        """
        kept = self.select([item for item in self.item_ids if item not in set(other.item_ids)])
        a, b, c, cov, with_anchors = (
            np.concatenate([getattr(kept, name), getattr(other, name)])
            for name in ("a", "b", "c", "cov", "with_anchors")
        )
        size = max(kept.n_further, other.n_further)
        further = [padded(one.further_cov, len(one.item_ids), size) for one in (kept, other)]
        shifted = tuple(some.shift_places(len(kept.item_ids)) for some in other.others)
        return Published(
            kept.item_ids + other.item_ids, a, b, c, cov, np.concatenate(further),
            kept.others + shifted, with_anchors=with_anchors,
            fitted=kept.fitted + other.fitted, placed=kept.placed + other.placed,
        )  # fmt: skip

    def models(self, window: Sequence[Model]) -> tuple[Model, ...]:
        """Return the model of each of the J values.

        Parameters
        ----------
        window
            J models, of the items in the window.

        Returns
        -------
        tuple of str
            J models. An unknown model is assumed to be the window's, unless the value's parameters belong to another
            model.
        """
        own = {j: some.model for some in self.others for j in some.at.tolist()}

        def by_parameters(j: int, of_window: ItemModel) -> Model:
            if j in own:
                alike = own[j].parameter_names(2) == of_window.parameter_names(2)
                return of_window.name if alike else own[j].name
            return THREE_PL.name if self.c[j] > 0 else of_window.without_guessing.name

        models = map(item_model, window)
        return tuple(
            of.model if of else by_parameters(j, model)
            for j, (of, model) in enumerate(zip(self.fitted, models, strict=True))
        )


@dataclass(frozen=True)
class _LinkedFit:
    """A fit's items with estimates and errors.

    Attributes:
        raw: the items on the fit's own scale.
        linking: the linking, with its covariances.
        fit: the items on the bank's scale.
        by_anchors: shape (J, 2, PK), derivatives of their (a, d) with respect to the anchors' frozen values in the
            order of `AnchorSet.cov_with_further`.
    """

    raw: Calibration
    linking: Linking
    fit: Calibration
    by_anchors: Floats

    @classmethod
    def from_calibration(cls, raw: Calibration, linking: Linking, anchors: AnchorSet) -> _LinkedFit:
        raw = raw.select(_has_errors(raw))
        linking, constants, frozen = repeat_linking(raw, linking, anchors)
        by_constants = linking.ad_by_constants(raw.a)
        places = anchors.places_of_parameters[frozen]
        by_anchors = np.zeros((raw.n_items, 2, anchors.places_of_parameters.size))
        by_anchors[:, :, places[:, :2].ravel()] = by_constants @ constants.by_old
        if constants.by_further_old is not None and anchors.further_cov is not None:
            by_anchors[:, :, places[:, 2:].ravel()] = by_constants @ constants.by_further_old.reshape(2, -1)
        return cls(raw, linking, linking.transform(replace(raw, joint_cov=None)), by_anchors)

    def placement_errors(self, anchors: AnchorSet) -> PlacementErrors | None:
        """Errors of the fit's place on the scale. Returns None if the fit has no items.

        Cov ν comes from the common part of the errors of the items that are not used for linking. If that cannot be
        determined, it comes from the constants alone.
        """
        if not self.raw.n_items:
            return None
        linking, frozen = self.linking, anchors.cov_with_further
        by_anchors = -self.by_anchors[0] / self.fit.a[0]
        of_constants = np.array([[1.0, 0.0], [-linking.intercept, linking.slope]]) / linking.slope
        cov = of_constants @ linking.cov @ of_constants.T - by_anchors @ frozen @ by_anchors.T
        if self.raw.joint_cov is not None:
            linked, by = linking.transform(self.raw), self.by_anchors.reshape(-1, len(frozen))
            assert linked.joint_cov is not None
            others = ~np.isin(self.raw.item_ids, linking.anchors_used)
            joint = linked.joint_cov[: len(by), : len(by)] - by @ frozen @ by.T
            common = ParameterErrors.common_to(replace(linked, joint_cov=joint, further=None).select(others))
            cov = cov if common is None else common
        return PlacementErrors(by_anchors, _as_covariance(cov))

    @property
    def to_ab(self) -> Floats:
        return ab_by_ad(self.fit.a, self.fit.d)


def middle_of(one: ItemParameters, other: ItemParameters) -> ItemParameters:
    """Mean of both sides, at which derivatives with respect to common moves of all items are computed.

    Derivatives at one side would share its errors with the differences, and so explain part of them.
    """
    return replace(one, a=(one.a + other.a) / 2, b=(one.b + other.b) / 2)


def ad_by_ab(items: ItemParameters) -> Floats:
    """∂(a, d)/∂(a, b), shape (J, 2, 2)."""
    return np.stack([np.stack([np.ones_like(items.a), np.zeros_like(items.a)], 1), -np.stack([items.b, items.a], 1)], 1)


def by_place(items: ItemParameters) -> Floats:
    """B_j of the module's docstring, the derivatives of (a, b) with respect to γ; shape (J, 2, 2)."""
    return np.stack([np.stack([-items.a, np.zeros_like(items.a)], 1), np.stack([items.b, np.ones_like(items.b)], 1)], 1)


def _subtract_common(cov: Floats, by: Floats, common: Floats) -> Floats:
    """Subtract by · common · byᵀ from covariances of (a, b) and further parameters, shape (J, P, P).

    The covariance of an item is unchanged if the difference would not be positive semidefinite.
    """
    own, n = cov.copy(), by.shape[1]
    own[:, :n, :n] -= by @ common @ by.swapaxes(1, 2)
    least = np.linalg.eigvalsh(own)[:, 0]
    sound = least >= -1e-9 * np.trace(cov, axis1=1, axis2=2)
    return np.where(sound[:, None, None], own, cov)


def _as_covariance(matrix: Floats | None) -> Floats:
    """Nearest positive semidefinite matrix, shape (2, 2). Zeros if `matrix` is None."""
    if matrix is None:
        return np.zeros((2, 2))
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


def _no_covariance(n_items: int, anchors: AnchorSet) -> Floats:
    """`Published.with_anchors` of values that are independent of the anchors' values."""
    places = anchors.places_of_parameters
    return np.zeros((n_items, places.shape[1], places.size))


def _has_errors(raw: Calibration) -> Mask:
    """Whether an item has estimates and errors, shape (J,)."""
    return np.isfinite(raw.cov_ab).all(axis=(1, 2)) & (raw.cov[:, 1, 1] > 0)


def repeat_linking(raw: Calibration, linking: Linking, anchors: AnchorSet) -> tuple[Linking, Constants, Places]:
    """Recompute a linking's covariances, which are not stored.

    Returns the linking with its covariances, its constants with their derivatives, and the indices of the used anchors
    in their set, shape (K_used,).
    """
    pairs, _ = match(raw, anchors, AnchorLimits(min_anchor_responses=1))
    kept = pairs.keep(np.isin(pairs.ids, linking.anchors_used))
    pairs = replace(kept, variation=(linking.tau_slope, linking.tau))
    whole = pairs.size == len(linking.anchors_used)
    compared = weight_by_populations(pairs, raw, linking.symmetric)
    found = solve(compared, linking.method, linking.weighted) if whole else None
    if found is None:
        raise PsychometricsError(
            f"this is not the linking of this fit: it used {len(linking.anchors_used)} anchors, {pairs.size} of them"
            f" are in the fit and in anchor set {anchors.version}; link the fit again"
        )
    cov = found.covariance(pairs)
    return replace(linking, cov=cov, with_items=with_items(raw, pairs, found)), found, anchors.places(pairs.ids)


@dataclass(frozen=True)
class DifferenceErrors:
    """Errors of differences without a line that all items have in common (see the module's docstring).

    Attributes:
        window, published: shape (J, P, P), each item's own covariance of a, b and the further parameters.
        common, common_cov: U and M, shapes (J, P, r) and (r, r). U M Uᵀ is the common part of the covariance of
            published parameters.
    """

    window: Floats
    published: Floats
    common: Floats
    common_cov: Floats

    def select(self, keep: Mask) -> DifferenceErrors:
        return DifferenceErrors(self.window[keep], self.published[keep], self.common[keep], self.common_cov)

    @classmethod
    def from_window(cls, window: Calibration, published: Published, anchors: AnchorSet) -> DifferenceErrors:
        """Separate the errors.

        `window`: fit on the bank's scale, with its constants treated as known, and with all items of `published`.
        `published` must have as many further parameters as either side.
        """
        size = published.n_further
        now = replace(window, joint_cov=None).items.select(published.item_ids)
        of_sample = _as_covariance(ParameterErrors.common_to(window))
        by_line = by_place(middle_of(now, published))
        common, common_cov = _common_errors(published, by_line, anchors)
        return cls(
            _subtract_common(
                with_further(now.cov, padded(now.further_cov, len(now.a), size)), by_place(now), of_sample
            ),
            _subtract_common(published.cov_of_all, common, common_cov),
            common,
            common_cov,
        )


def _common_errors(published: Published, by_line: Floats, anchors: AnchorSet) -> tuple[Floats, Floats]:
    """`common` and `common_cov` of `DifferenceErrors`.

    The common part comes from γ of each fit, from γ of the fit that gave the anchors' frozen values, and from each
    frozen value's own error, which also affects the fits that were linked to it.
    """
    place = {item: k for k, item in enumerate(anchors.item_ids)}
    by_anchors, k = by_place(anchors), len(place)
    of_origin = _as_covariance(common_part(anchors.joint_cov, by_anchors) if len(anchors.cov) < k else None)
    places, frozen = anchors.places_of_parameters, anchors.cov_with_further
    own = _subtract_common(frozen[places[:, :, None], places[:, None]], by_anchors, of_origin)
    fits = [fit for fit in dict.fromkeys(published.placed) if fit is not None and fit is not FROZEN]
    n = 2 * len(fits)
    f = np.array([fit.by_anchors[:, places] for fit in fits]).reshape(n, *places.shape)
    with_own = np.einsum("nkx,kxy->kyn", f, own)
    f_by_origin = np.einsum("nkx,kxy->ny", f[:, :, :2], by_anchors)
    with_origin = f_by_origin @ of_origin
    between = np.einsum("nkx,kxm->nm", f, with_own) + with_origin @ f_by_origin.T
    between += block_diagonal(np.array([fit.cov for fit in fits]).reshape(-1, 2, 2))
    common = np.zeros((len(published.item_ids), 2 + published.n_further, 2 * n + 2))
    for j, (item, fit) in enumerate(zip(published.item_ids, published.placed, strict=True)):
        if fit is FROZEN:
            common[j, :2, n : n + 2], common[j, : places.shape[1], n + 2 :] = by_line[j], with_own[place[item]]
        elif fit is not None:
            first = 2 * fits.index(fit)
            common[j, :2, first : first + 2] = by_line[j]
    common_cov = np.block(
        [
            [between, with_origin, np.eye(n)],
            [with_origin.T, of_origin, np.zeros((2, n))],
            [np.eye(n), np.zeros((n, 2)), np.zeros((n, n))],
        ]
    )
    return common, common_cov


@dataclass(frozen=True)
class Comparison:
    """The linked fit of one window compared with the published set, for the J items in both.

    Attributes
    ----------
    window, published
        The values of the same items. Their covariance is `shared`.
    by_anchors
        Shape (J, 2, PK), derivatives of the window's (a, b) with respect to the anchors' frozen values.
    fitted
        Model and persons of the window's J items.
    anchors
        Shape (J,), whether an item was used to link the window, or dropped from the linking.
    difference_errors
        The errors without a common line.
    linking
        The linking of the window, with its covariances.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.drift import Comparison, Published
    >>> from irt_psychometrics.linking import AnchorSet, link_to_anchors
    >>> old, new = irt.datasets.two_forms()
    >>> f, g = irt.fit(old.responses), irt.fit(new.responses)
    >>> more = {"scale_id": "maths", "version": "1", "topics": (None,) * 30, "errors_assumed": np.zeros(30, dtype=bool)}
    >>> anchors = AnchorSet(**vars(f.calibration.items), **more)
    >>> linking, published = link_to_anchors(g.calibration, anchors), Published.from_anchors(anchors)
    >>> comparison = Comparison.from_linked_fit(g.calibration, linking, anchors, published)
    >>> len(comparison.item_ids), comparison.delta.shape
    (10, (10, 2))
    """

    window: ItemParameters
    published: Published
    by_anchors: Floats
    fitted: tuple[FitPopulation, ...]
    anchors: Mask
    difference_errors: DifferenceErrors
    linking: Linking

    @classmethod
    def from_linked_fit(cls, raw: Calibration, linking: Linking, anchors: AnchorSet, published: Published) -> Self:
        """Compare a linked fit with the published set, for every item with estimates and errors on both sides.

        Parameters
        ----------
        raw
            The fit on its own scale, with its joint covariance if it has one. Without it, errors that all items share
            count as independent.
        linking
            The result of `link_to_anchors` for `raw` and `anchors`.
        anchors
            The anchor set.
        published
            The published set.

        Returns
        -------
        Comparison
            The differences of the J items in both.

        Raises
        ------
        PsychometricsError
            If `linking` is not the linking of this fit.
        """
        y = _LinkedFit.from_calibration(raw, linking, anchors)
        known = set(published.item_ids)
        j = np.array([k for k, item in enumerate(y.fit.item_ids) if item in known], dtype=int)
        old = published.select([y.fit.item_ids[k] for k in j])
        now = y.fit.items.select(old.item_ids)
        size = max(now.n_further, old.n_further, old.with_anchors.shape[1] - 2)
        now = replace(now, further_cov=padded(now.further_cov, len(j), size))
        old = replace(old, further_cov=padded(old.further_cov, len(j), size))
        return cls(
            window=now,
            published=old,
            by_anchors=(y.to_ab @ y.by_anchors)[j],
            fitted=FitPopulation.for_items(y.fit.select(j)),
            anchors=np.isin(old.item_ids, [*linking.anchors_used, *linking.anchors_dropped]),
            difference_errors=DifferenceErrors.from_window(
                y.raw.rescaled(linking.slope, linking.intercept), old, anchors
            ),
            linking=y.linking,
        )

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The J items."""
        return self.window.item_ids

    @property
    def delta(self) -> Floats:
        """Change of (a, b), shape (J, 2); NaN if the published values are from another model."""
        change = np.stack([self.window.a - self.published.a, self.window.b - self.published.b], axis=1)
        return np.where(self.across_models[:, None], np.nan, change)

    @property
    def across_models(self) -> Mask:
        """Whether an item's published values are from another model than the window's, shape (J,)."""
        return np.array([old != new for old, new in zip(self.models_published, self.models, strict=True)], dtype=bool)

    @property
    def models(self) -> tuple[Model, ...]:
        """Model of each of the window's J items."""
        return tuple(of.model for of in self.fitted)

    @property
    def models_published(self) -> tuple[Model, ...]:
        """Model of each of the J published values."""
        return self.published.models(self.models)

    @property
    def tests_slopes(self) -> Mask:
        """Whether an item has its own slope, shape (J,)."""
        return items_where(self.models, lambda model: model.own_slopes)

    @property
    def by_curves(self) -> Mask:
        """Whether an item's curves are compared instead of its parameters, shape (J,).

        Curves are compared across models, under a 3PL, and under partial credit models.
        """
        return self.across_models | items_where(self.models, lambda model: model.more_than_a_and_b)

    @property
    def shared(self) -> Floats:
        """Covariance of the window's (a, b) with the published values, shape (J, 2, P).

        Published values are (a, b) and those further parameters whose covariance with the anchors is known.
        """
        return self.by_anchors @ self.published.with_anchors.transpose(0, 2, 1)

    @property
    def cov(self) -> Floats:
        """Covariance of the change of (a, b), shape (J, 2, 2)."""
        both = self.shared[:, :, :2]
        return self.window.cov + self.published.cov - both - both.transpose(0, 2, 1)

    @property
    def cov_window(self) -> Floats:
        """Covariance of the window's a, b and further parameters, shape (J, P, P)."""
        return self.window.cov_of_all

    @property
    def cov_of_sides(self) -> Floats:
        """Covariance of the window's and the published a, d and further parameters, shape (J, 2, P, 2, P).

        If the errors of an item's published scores are not stored, a calibration with 500 persons gives them,
        or of fewer persons if the stored error of b is larger.
        """
        old, size = self.published, self.cov_window.shape[1]
        of_old = old.cov_of_all.copy()
        unknown = np.where(of_old[:, 2:, 2:].any(axis=(1, 2)), -1, np.arange(len(old.a)))
        for some in select_others(old.others, unknown, len(old.a)):
            assumed = assumed_covariances_of_scores(old.a, old.b, some, size)
            of_b = assumed[:, 1, 1]
            larger = np.divide(of_old[some.at, 1, 1], of_b, out=np.ones_like(of_b), where=of_b > 0)
            of_old[some.at] = assumed * np.maximum(larger, 1.0)[:, None, None]
        cov = np.zeros((len(old.a), 2, size, 2, size))
        cov[:, 0, :, 0], cov[:, 1, :, 1] = self.cov_window, of_old
        shared = self.shared
        cov[:, 0, :2, 1, : shared.shape[2]] = shared
        cov[:, 1, : shared.shape[2], 0, :2] = shared.swapaxes(1, 2)
        to_ad = np.tile(np.eye(size), (2, len(old.a), 1, 1))
        to_ad[:, :, :2, :2] = ad_by_ab(self.window), ad_by_ab(old)
        return np.einsum("sjxy,jsytv,tjuv->jsxtu", to_ad, cov, to_ad)

    def with_variation(self, by_log_a: float, by_b: float) -> Comparison:
        """Add the items' own variation to the errors of the window.

        Parameters
        ----------
        by_log_a, by_b
            SDs of ln a and of b.

        Returns
        -------
        Comparison
            The same differences with larger errors.
        """
        own = np.zeros_like(self.cov)
        own[:, 0, 0], own[:, 1, 1] = (by_log_a * self.window.a) ** 2, by_b**2
        return replace(self, window=replace(self.window, cov=self.window.cov + own))

    def select(self, keep: Mask) -> Comparison:
        """Restrict the comparison to some items.

        Parameters
        ----------
        keep
            Shape (J,), the items that remain.

        Returns
        -------
        Comparison
            The differences of these items.
        """
        kept = [item for item, is_kept in zip(self.item_ids, keep, strict=True) if is_kept]
        return replace(
            self,
            window=self.window.select(kept),
            published=self.published.select(kept),
            fitted=tuple(compress(self.fitted, keep)),
            difference_errors=self.difference_errors.select(keep),
            by_anchors=self.by_anchors[keep],
            anchors=self.anchors[keep],
        )

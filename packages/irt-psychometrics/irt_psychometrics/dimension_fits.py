"""Fits of several abilities in a notebook: their items, loadings, scores and indices as tables.

This module calls `dimensions`, which contains the computations. `fitting.fit` makes the fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.fitted_items import REMEDIES, align_responses, flag_notes
from irt_psychometrics.core.frames import make
from irt_psychometrics.core.item_models import item_model
from irt_psychometrics.core.models import Flag
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.priors import Priors
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, columns_of_rows, format_value
from irt_psychometrics.core.summary import Summary
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.dimensions.calibration import DimensionsCalibration
from irt_psychometrics.dimensions.errors import dimensions_errors
from irt_psychometrics.dimensions.fitting import fit_dimensions
from irt_psychometrics.dimensions.indices import Dimensionality, dimensionality, variance_shares
from irt_psychometrics.dimensions.loadings import communalities, standardised_loadings
from irt_psychometrics.dimensions.rotation import Rotations, rotate
from irt_psychometrics.dimensions.scores import DimensionsMethod, dimensions_scores
from irt_psychometrics.dimensions.structure import Dimensions

if TYPE_CHECKING:
    from irt_psychometrics.plots.chart import Picture

ROUNDING = 1e-9
"""Correlations of uncorrelated dimensions that were rotated are smaller."""
_REMEDIES_BY_OPTION = {
    "groups": "fit each group alone",
    "reference": "leave it out, because there are no groups",
    "anchors": "the scale of each dimension is that of the persons, with mean 0 and SD 1; leave anchors out",
    "sampling_weights": "give them as weights with a mean of 1; the errors are then too small",
    "latent": "each dimension is normal; leave latent out",
    "testlets": "make each testlet a specific dimension, as Dimensions.bifactor(testlets) does",
    "start": "leave it out, because the fit finds its own start",
}
"""Remedies for options of `fit` that need one ability."""
_REMEDIES = REMEDIES | {
    Flag.AT_BOUND: "leave it out, drop its specific dimension, or tie its slope to others by the same label in "
    "Dimensions.from_frame",
}


@dataclass(frozen=True, eq=False, repr=False)
class DimensionScores(Result):
    """Abilities of N persons on D dimensions, in SDs of the population.

    Attributes
    ----------
    person_ids
        N labels; row numbers if the responses had no labels.
    names, specific
        The D names of all dimensions, and the names of the specific ones.
    n
        Shape (N, D), number of responses to items that measure the dimension.
    theta
        Shape (N, D), abilities.
    cov
        Shape (N, D, D), covariance of each person's posterior distribution; for "map" from its curvature.
    method
        "eap" or "map".
    reliability
        Shape (D,), empirical reliability of EAP scores of the persons with a response, in [0, 1]; NaN for "map".
    frame_index
        The index of the pandas frame from which the responses were made, as in `PersonScores`.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> rng = np.random.default_rng(1)
    >>> z = rng.normal(size=(600, 2)) @ [[1.5, 0.8], [0.0, 1.2]]
    >>> x = irt.Responses.from_wide((z.repeat(4, axis=1) > rng.logistic(size=(600, 8))).astype(int))
    >>> skills = irt.Dimensions.between(dict(zip(x.item_ids, ["read"] * 4 + ["write"] * 4)))
    >>> irt.fit(x, dimensions=skills).score(x).to_frame("pandas").columns.tolist()
    ['person', 'n_read', 'theta_read', 'se_read', 'n_write', 'theta_write', 'se_write']
    """

    person_ids: tuple[str | int, ...]
    names: tuple[str, ...]
    specific: tuple[str, ...]
    n: Ints
    theta: Floats
    cov: Floats
    method: str
    reliability: Floats
    frame_kind: str | None = None
    frame_index: Any = None

    @property
    def se(self) -> Floats:
        """Standard errors, shape (N, D): SDs of each person's posterior distribution."""
        return np.sqrt(np.diagonal(self.cov, axis1=1, axis2=2))

    def _title(self) -> str:
        return f"θ of {len(self.theta):,} persons on {len(self.names)} dimensions by {self.method.upper()}"

    def _facts(self) -> dict[str, str]:
        known = zip(self.names, self.reliability.tolist(), strict=True)
        return {f"reliability of {name}": format_value(r) for name, r in known if not np.isnan(r)}

    def _columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = {"person": self.person_ids}
        for k, name in enumerate(self.names):
            columns |= {f"n_{name}": self.n[:, k], f"theta_{name}": self.theta[:, k], f"se_{name}": self.se[:, k]}
        return columns

    def _index(self) -> Any:
        return self.frame_index

    def _notes(self) -> list[str]:
        notes = []
        if self.specific:
            notes.append(
                f"θ of {some_of(self.specific)}: 0 means as good as the ability on primary dimensions predicts."
            )
        if unknown := int((self.n.max(axis=1) == 0).sum()):
            notes.append(f"{unknown:,} of {len(self.n):,} persons answered no item that has parameters.")
        return notes


@dataclass(frozen=True, eq=False, repr=False)
class DimensionsFit(Result):
    """A fit of item response models with several abilities: slopes on each dimension, correlations, scores.

    P(score | θ) is the curve of the item's model at z = Σ slope·θ + d. All dimensions have mean 0 and SD 1.

    Attributes
    ----------
    calibration
        All estimates with their covariance and flags, and whether the fit converged.
    weights
        Shape (N,), the weights of the persons if `fit` was called with them, else None.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> rng = np.random.default_rng(1)
    >>> z = rng.normal(size=(600, 2)) @ [[1.5, 0.8], [0.0, 1.2]]
    >>> x = irt.Responses.from_wide((z.repeat(4, axis=1) > rng.logistic(size=(600, 8))).astype(int))
    >>> skills = irt.Dimensions.between(dict(zip(x.item_ids, ["read"] * 4 + ["write"] * 4)))
    >>> f = irt.fit(x, dimensions=skills)
    >>> f.converged, f.correlations.shape
    (True, (2, 2))
    >>> irt.DimensionsFit.from_json(f.to_json()) == f
    True
    """

    calibration: DimensionsCalibration
    weights: Floats | None = None
    frame_kind: str | None = None

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The names of the J items."""
        return self.calibration.item_ids

    @property
    def dimensions(self) -> Dimensions:
        """The dimensions that each item measures."""
        return self.calibration.dimensions

    @property
    def slopes(self) -> Floats:
        """Slopes of the items on the dimensions, shape (J, D); NaN for items without parameters."""
        return self.calibration.slopes

    @property
    def correlations(self) -> Floats:
        """Correlations of the dimensions, shape (D, D)."""
        return self.calibration.correlations

    @property
    def converged(self) -> bool:
        """Whether the fit reached a maximum of the likelihood. If not, its numbers must not be used."""
        return self.calibration.convergence.converged

    @property
    def log_likelihood(self) -> float:
        """Marginal log-likelihood, without the density of priors."""
        return self.calibration.convergence.loglik

    @property
    def n_parameters(self) -> int:
        """The number of estimated parameters."""
        return self.calibration.convergence.n_parameters

    @property
    def aic(self) -> float:
        """Akaike's (1974) criterion, 2·(number of parameters) − 2·log L; the lower, the better."""
        return self.calibration.convergence.aic

    @property
    def bic(self) -> float:
        """Schwarz's (1978) criterion, log(persons)·(number of parameters) − 2·log L; the lower, the better."""
        return self.calibration.convergence.bic(self.calibration.n_persons)

    @property
    def flag_notes(self) -> list[str]:
        """A sentence for each kind of flag, with the flagged items and the remedy."""
        return [*flag_notes(self.item_ids, self.calibration.flags, _REMEDIES)]

    def score(self, x: Responses, method: DimensionsMethod = "eap") -> DimensionScores:
        """Score persons on all dimensions with the fit's item parameters.

        Parameters
        ----------
        x
            Responses to items of the fit, from the persons who were fitted or from other persons.
        method
            "eap" (mean of the posterior distribution of the abilities) or "map" (its maximum).

        Returns
        -------
        DimensionScores
            Abilities and their covariances, one row per person.

        Raises
        ------
        PsychometricsError
            If an item is not in the fit, a score exceeds its item's maximum, or the method is unknown.

        Examples
        --------
        >>> import numpy as np
        >>> import irt_psychometrics as irt
        >>> rng = np.random.default_rng(1)
        >>> z = rng.normal(size=(600, 2)) @ [[1.5, 0.8], [0.0, 1.2]]
        >>> x = irt.Responses.from_wide((z.repeat(4, axis=1) > rng.logistic(size=(600, 8))).astype(int))
        >>> skills = irt.Dimensions.between(dict(zip(x.item_ids, ["read"] * 4 + ["write"] * 4)))
        >>> scores = irt.fit(x, dimensions=skills).score(x)
        >>> scores.theta.shape, scores.names
        ((600, 2), ('read', 'write'))
        """
        own = align_responses(x, self.item_ids, self.calibration.categories)
        found = dimensions_scores(own, self.calibration, method)
        ids, kind = x.person_ids or tuple(range(x.n_persons)), x.frame_kind or self.frame_kind
        reliability = found.reliability if method == "eap" else np.full(found.theta.shape[1], np.nan)
        names, n_primary = self.dimensions.names, self.dimensions.n_primary
        estimates = found.n, found.theta, found.cov, method, reliability
        return DimensionScores(ids, names, names[n_primary:], *estimates, kind, x.frame_index)

    def rotate(self, method: Rotations = "oblimin") -> DimensionsFit:
        """Rotate the dimensions of an exploratory fit to simple structure. The likelihood does not change.

        Parameters
        ----------
        method
            "oblimin" (the dimensions may correlate) or "varimax" (they do not).

        Returns
        -------
        DimensionsFit
            The rotated slopes and correlations, without standard errors. The dimension with the largest loadings is the
            first, and loadings have a positive sum.

        Raises
        ------
        PsychometricsError
            If the fit is not exploratory, or the method is unknown.

        Examples
        --------
        >>> import numpy as np
        >>> import irt_psychometrics as irt
        >>> rng = np.random.default_rng(1)
        >>> z = rng.normal(size=(600, 2)) @ [[1.5, 0.8], [0.0, 1.2]]
        >>> x = irt.Responses.from_wide((z.repeat(4, axis=1) > rng.logistic(size=(600, 8))).astype(int))
        >>> f = irt.fit(x, dimensions=2)
        >>> f.rotate("oblimin").log_likelihood == f.log_likelihood
        True
        """
        if not self.dimensions.exploratory:
            raise PsychometricsError(
                "only fits that explore the dimensions are rotated, as irt.fit(x, dimensions=2) does; the dimensions "
                "of this fit were given"
            )
        fit = self.calibration
        loadings = standardised_loadings(fit.slopes[fit.estimated], fit.correlations)
        found = rotate(loadings @ np.linalg.cholesky(fit.correlations), method)
        turn = np.linalg.lstsq(loadings, found.loadings)[0]
        return replace(
            self, calibration=replace(fit, slopes=fit.slopes @ turn, correlations=found.correlations, cov=None)
        )

    def loadings(self, rotation: Rotations | None = None) -> Any:
        """Compute standardised loadings: correlations of the items' latent responses with independent dimensions.

        Parameters
        ----------
        rotation
            As in `rotate`, for exploratory fits. None: the dimensions as they were fitted.

        Returns
        -------
        data frame
            One row per item: item, the loading on each dimension, and communality, the share of the latent response's
            variance that the dimensions explain.

        Raises
        ------
        PsychometricsError
            If a rotation is given and the fit is not exploratory.

        Notes
        -----
        In the logistic metric the latent response of an item has the variance 1.702² + aᵀΦa (Rodriguez, Reise &
        Haviland 2016), so uncorrelated dimensions have the loadings of R mirt's `summary`.
        """
        fit = (self if rotation is None else self.rotate(rotation)).calibration
        loadings = standardised_loadings(fit.slopes, fit.correlations)
        columns = dict(zip(fit.dimensions.names, loadings.T, strict=True))
        return make(
            {"item": fit.item_ids, **columns, "communality": communalities(loadings, fit.correlations)}, self.frame_kind
        )

    def dimensionality(self, x: Responses, *, replicates: int = 0, random_state: int = 0) -> Dimensionality:
        """Compute indices of the dimensions: is one score enough, or are subscores worth it?

        Parameters
        ----------
        x
            The responses that were fitted.
        replicates
            Number of data sets with one ability that are simulated for the p-value of the likelihood ratio, for example
            99. Each of them is fitted like this fit.
        random_state
            Seed of the simulated data sets.

        Returns
        -------
        Dimensionality
            ω, ECV and PRMSE of each dimension, M₂, the comparison with one ability, and a verdict in words.

        Raises
        ------
        PsychometricsError
            If the fit did not converge or has weights, or if these are not the responses that were fitted.

        Examples
        --------
        >>> import numpy as np
        >>> import irt_psychometrics as irt
        >>> rng = np.random.default_rng(1)
        >>> z = rng.normal(size=(600, 2)) @ [[1.5, 0.8], [0.0, 1.2]]
        >>> x = irt.Responses.from_wide((z.repeat(4, axis=1) > rng.logistic(size=(600, 8))).astype(int))
        >>> skills = irt.Dimensions.between(dict(zip(x.item_ids, ["read"] * 4 + ["write"] * 4)))
        >>> irt.fit(x, dimensions=skills).dimensionality(x).adds_value.tolist()
        [True, True]
        """
        if not self.converged or self.weights is not None:
            reason = "has weights" if self.converged else f"did not converge: {self.calibration.convergence.reason}"
            raise PsychometricsError(
                f"dimensionality needs a fit that converged, without weights, and this fit {reason}"
            )
        own = align_responses(x, self.item_ids, self.calibration.categories)
        if not np.array_equal(np.bincount(own.item, minlength=own.n_items), self.calibration.n):
            raise PsychometricsError("dimensionality needs the responses that were fitted, and these are other ones")
        kind = x.frame_kind or self.frame_kind
        return dimensionality(own, self.calibration, replicates=replicates, random_state=random_state, frame_kind=kind)

    def summary(self, decimals: int = 3) -> Summary:
        """Summarise the fit for people: numbers about the fit, correlations, items and flags.

        Parameters
        ----------
        decimals
            Digits after the decimal point of items and correlations.

        Returns
        -------
        Summary
            Text if it is printed, HTML in a notebook; `to_latex()` renders it for a paper.
        """
        fit, columns = self.calibration, self._columns()
        facts = {name: value for name, value in self._facts().items() if name != "converged"} | {
            "parameters": format_value(self.n_parameters),
            "converged": f"{'yes' if self.converged else 'no'}, after {fit.convergence.iterations:,} iterations",
            "fitted by": f"irt-psychometrics {fit.engine_version}",
        }
        hidden = {"flags"} if not any(fit.flags) else set()
        hidden |= {"model"} if len(set(fit.models)) == 1 else set()
        hidden |= {f"{name}_se" for name in columns} if fit.cov is None else set()
        items = {name: cells for name, cells in columns.items() if name not in hidden}
        correlations = self._correlation_columns()
        tables = ({"correlations": correlations} if correlations["dimension"] else {}) | {"items": items}
        return Summary(self._title(), facts, tables, self._notes(), decimals)

    def plot(self) -> Picture:
        """Draw standardised loadings, and for a bifactor model the parts of ω of the total and of each subscore.

        Returns
        -------
        Picture
            One or two charts. A notebook shows them; `save("figure.png")` writes them.
        """
        from irt_psychometrics.plots.chart import Picture  # fits that are not plotted need no plotting code
        from irt_psychometrics.plots.loadings import loadings_chart, omega_chart

        fit, of = self.calibration, self.dimensions
        loadings = standardised_loadings(fit.slopes, fit.correlations)
        charts = [loadings_chart(of.item_ids, of.names, loadings, of.measured)]
        if of.n_primary == 1 < len(of.names):
            shares = variance_shares(loadings[fit.estimated], fit.correlations, of.measured[fit.estimated])
            own, others = shares["omega_h"], shares["omega"] - shares["omega_h"]
            general, specific = np.append(own[0], others[1:]), np.append(others[0], own[1:])
            charts.append(omega_chart(["all items", *of.names[1:]], general, specific))
        return Picture(self._title(), charts)

    @property
    def _covariance(self) -> Floats:
        """Covariance of the free parameters, shape (p + 1, p + 1); row −1 is 0, for fixed parameters."""
        p, cov = self.calibration.places.n_free, self.calibration.cov
        return np.full((p + 1, p + 1), np.nan) if cov is None else np.pad(cov, (0, 1))

    def _errors(self, places: Ints) -> Floats:
        """Return standard errors of the parameters at `places`: 0 for fixed ones, NaN if errors are unknown."""
        return np.sqrt(self._covariance.diagonal())[places]

    def _correlation_columns(self) -> dict[str, Any]:
        """Return a row for each pair of primary dimensions with a free correlation."""
        first, second = np.nonzero(np.triu(self.calibration.places.correlations >= 0, 1))
        if self.dimensions.exploratory:
            first, second = np.nonzero(np.abs(np.triu(self.correlations, 1)) > ROUNDING)
        names, se = self.dimensions.names, self._errors(self.calibration.places.correlations)
        return {
            "dimension": [names[k] for k in first],
            "with": [names[k] for k in second],
            "correlation": self.correlations[first, second],
            "se": se[first, second],
        }

    def _title(self) -> str:
        fit, primary = self.calibration, self.dimensions.n_primary
        specific = len(self.dimensions.names) - primary
        kind = "general" if primary == 1 else "primary"
        dimensions = f"{primary} {kind} and {specific} specific" if specific else f"{primary}"
        return (
            f"{fit.item_model.name}, {dimensions} dimensions, {fit.n_persons:,} persons, {len(self.item_ids):,} items"
        )

    def _facts(self) -> dict[str, str]:
        numbers = {"log L": self.log_likelihood, "AIC": self.aic, "BIC": self.bic}
        facts = {name: format_value(value, 2) for name, value in numbers.items()}
        return facts if self.converged else facts | {"converged": "no"}

    def _columns(self) -> dict[str, Any]:
        fit, of = self.calibration, self.dimensions
        columns: dict[str, Any] = {"item": self.item_ids, "model": fit.models, "n": fit.n}
        slope_errors, shown = self._errors(fit.places.slopes), of.measured & fit.estimated[:, None]
        for k, name in enumerate(of.names):
            columns[f"a_{name}"] = np.where(shown[:, k], fit.slopes[:, k], np.nan)
            columns[f"a_{name}_se"] = np.where(shown[:, k], slope_errors[:, k], np.nan)
        columns |= {"d": fit.intercepts, "d_se": np.where(fit.estimated, self._errors(fit.places.intercepts), np.nan)}
        columns |= columns_of_rows([self._further_of(j) for j in range(len(self.item_ids))])
        return columns | {"flags": [", ".join(flag.value for flag in own) for own in fit.flags]}

    def _further_of(self, j: int) -> dict[str, float]:
        """Return an item's parameters besides slopes and d with their errors: c, or d1, d2, … of a scored item."""
        fit, model = self.calibration, item_model(self.calibration.models[j])
        size = len(model.parameter_names(int(fit.categories[j]))) - 2
        if not fit.estimated[j] or not size:
            return {}
        own, at = fit.further_parameters[j, :size], fit.places.further[j, :size]
        if not model.by_score:
            return model.stored_values(own, self._errors(at), int(fit.categories[j]))
        steps, by = model.steps(np.concatenate([[1.0, fit.intercepts[j]], own]))  # of z, which has a slope of 1
        places = np.concatenate([[-1, fit.places.intercepts[j]], at])
        variance = np.einsum("kp,pq,kq->k", by, self._covariance[np.ix_(places, places)], by)
        rows = enumerate(zip(steps.tolist(), np.sqrt(variance).tolist(), strict=True), start=1)
        return {name: value for k, (step, se) in rows for name, value in ((f"d{k}", -step), (f"d{k}_se", se))}

    def _notes(self) -> list[str]:
        fit = self.calibration
        notes = [] if self.converged else [f"Not converged: {fit.convergence.reason}."]
        notes += [f"{fit.missing_errors}."] if fit.missing_errors else []
        return [*notes, *self.flag_notes]


def fit_with_dimensions(
    x: Responses,
    dimensions: int | Dimensions,
    models: Model | Sequence[Model],
    priors: Priors | None,
    weights: Floats | None,
    *,
    nodes: int | None = None,
    threads: int | None = None,
    **others: Any,
) -> DimensionsFit:
    """Fit items with several dimensions, and compute the errors. `others` are options of `fit` for one ability.

    Raises PsychometricsError if one of `others` is given, or if the dimensions do not belong to the items.
    """
    for name, value in others.items():
        if value is not None and value is not False:
            remedy = _REMEDIES_BY_OPTION.get(name, "leave it out")
            raise PsychometricsError(f"fits with dimensions have no {name}: {remedy}")
    if not isinstance(dimensions, Dimensions):
        if not isinstance(dimensions, (int, np.integer)) or isinstance(dimensions, bool) or dimensions == 1:
            raise PsychometricsError(
                f"dimensions must be 2 or 3, or Dimensions, got {dimensions!r}; for one ability leave dimensions out"
            )
        dimensions = Dimensions.explore(x.item_ids, int(dimensions))
    if strange := [item for item in dimensions.item_ids if item not in set(x.item_ids)]:
        raise PsychometricsError(
            f"dimensions are given for {some_of(strange)}, not among the items ({some_of(x.item_ids)})"
        )
    options: dict[str, Any] = {"priors": priors, "weights": weights, "threads": threads}
    each = (models,) * x.n_items if isinstance(models, str) else models
    calibration = fit_dimensions(x, dimensions, each, nodes=nodes, **options)
    return DimensionsFit(dimensions_errors(x, calibration, **options), weights, x.frame_kind)

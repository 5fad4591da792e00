"""Fit a latent regression: read the arguments, find the maximum, and compute errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import ItemWarning, NotConvergedWarning, PsychometricsError
from irt_psychometrics.core.item_sources import ItemSource, require_items
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Convergence
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.standard_errors import scaled_inverse
from irt_psychometrics.regression.answers import Answers
from irt_psychometrics.regression.covariates import design_matrix, labels_of
from irt_psychometrics.regression.item_errors import covariance_from_items, scores_by_items
from irt_psychometrics.regression.joint import JointLikelihood
from irt_psychometrics.regression.maximum import Persons, maximise
from irt_psychometrics.regression.result import LatentRegression


def latent_regression(
    responses: Responses,
    items: ItemSource | None = None,
    covariates: Any = None,
    *,
    model: Model | Sequence[Model] = "2pl",
    reference: Mapping[str, Any] | None = None,
    groups: Sequence[Any] | None = None,
    sampling_weights: npt.ArrayLike | None = None,
    clusters: Sequence[Any] | None = None,
) -> LatentRegression:
    """Regress ability on covariates by maximum likelihood, without scoring persons first.

    Means of EAP scores by group are shrunk towards the common mean, and their errors are too small. This function
    estimates θ = xᵀγ + ε from the answers themselves (Mislevy 1984; Adams, Wilson & Wu 1997).

    Parameters
    ----------
    responses
        Responses of N persons. Any pattern of missing responses is allowed.
    items
        The item parameters, which are held: a `Fit`, a `ScaleLink` or `ItemParameters`. None: the items are estimated
        together with the regression, on a scale on which the intercept is 0 and the first group has a residual SD of 1
        (under a model with slopes of 1, all slopes are 1 instead), as in R TAM's `tam.mml(formulaY = …)`.
    covariates
        A data frame of any kind or a mapping column → N cells. Numbers are used as they are. Text is dummy coded: each
        level but the reference has a coefficient, the difference to the reference. For an interaction, add a column
        with the product. None: no covariates, or the groups if `groups` is given.
    model
        The model of the items if `items` is None, or a model for each item; "3pl" and "rsm" cannot be used.
    reference
        Column → level with which other levels are compared; None: the first level in sorted order. A column of numbers
        that is named here is dummy coded, too.
    groups
        N labels. Each group has a residual SD of its own. Without covariates, each group has its own mean, too.
    sampling_weights
        Shape (N,), > 0 in any unit, the number of members of the population that each person represents. The errors are
        then robust (sandwich).
    clusters
        N labels, such as schools, whose persons may resemble each other. The errors are then robust for clusters.

    Returns
    -------
    LatentRegression
        Coefficients, residual SDs, and the mean and SD of each group, on the scale of the items.

    Warns
    -----
    NotConvergedWarning
        If the maximum was not found.

    Raises
    ------
    PsychometricsError
        If an item has no parameters, a covariate, weight or label is missing, or a covariate depends on others. The
        message names the column and the person.

    Notes
    -----
    Errors of the items are included in the standard errors if they are known, to first order, as if the items had been
    calibrated with other persons.

    References
    ----------
    Adams, R. J., Wilson, M. & Wu, M. (1997). Multilevel item response models. JEBS, 22, 47-76.
    Mislevy, R. J. (1984). Estimating latent distributions. Psychometrika, 49, 359-381.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> theta, country = [0.01 * k for k in range(-200, 201)], ["north"] * 200 + ["south"] * 201
    >>> x = irt.simulate_responses(items, theta, random_state=7)
    >>> found = irt.latent_regression(x, items, {"country": country})
    >>> found.to_frame("pandas")["parameter"].tolist()
    ['intercept', 'country: south', 'residual SD']
    >>> found.coefficients.round(1).tolist()
    [-1.0, 2.1]
    """
    if not isinstance(responses, Responses):
        raise PsychometricsError(
            f"latent_regression needs Responses, got {type(responses).__name__}; Responses.from_wide reads a table"
        )
    x = responses
    weights = None if sampling_weights is None else _weights(sampling_weights, x.n_persons)
    group_names: tuple[str, ...] = ("all",)
    group = np.zeros(x.n_persons, dtype=np.int64)
    if groups is not None:
        group_names, group = labels_of(groups, x, "groups")
        covariates = {"group": np.array(group_names)[group]} if covariates is None else covariates
    names, design = design_matrix(covariates, x, reference)
    persons = Persons(design, group, np.ones(x.n_persons) if weights is None else weights / weights.mean())
    cluster = None if clusters is None else labels_of(clusters, x, "clusters")[1]
    if items is None:
        found = _fit_jointly(x, persons, model, weights)
    else:
        found = _fit_held(x, persons, require_items(items, "latent_regression"))
    if not found.convergence.converged:
        warnings.warn(
            f"the latent regression did not converge: {found.convergence.reason}", NotConvergedWarning, stacklevel=2
        )
    errors = "clustered" if cluster is not None else "model" if weights is None else "robust"
    return LatentRegression(
        coefficient_names=names,
        group_names=group_names,
        estimates=found.estimates,
        cov=found.cov if errors == "model" else _sandwich(found.influence(), cluster),
        item_cov=found.item_cov,
        errors=errors,
        convergence=found.convergence,
        responses=found.responses,
        items=found.items,
        design=design,
        group=group,
        person_influence=found.influence,
        by_items=found.by_items,
        weights=weights,
        frame_kind=x.frame_kind,
    )


@dataclass(frozen=True)
class _Maximum:
    """The estimates of either kind of items: γ and σ, and functions that compute what is seldom read."""

    estimates: Floats
    cov: Floats
    item_cov: Floats | None
    convergence: Convergence
    responses: Responses
    items: ItemParameters
    influence: Callable[[], Floats]
    by_items: Callable[[], Floats] | None


def _fit_held(x: Responses, persons: Persons, items: ItemParameters) -> _Maximum:
    answers, K = Answers.from_responses(x, items), persons.design.shape[1]
    point, nodes, convergence = maximise(answers, persons)
    inverse = scaled_inverse(point.information)
    estimates = np.concatenate([point.parameters[:K], np.exp(point.parameters[K:])])
    per_log = np.concatenate([np.ones(K), estimates[K:]])

    def influence() -> Floats:
        return (point.scores * persons.weight[:, None]) @ inverse * per_log

    @cache
    def by_items() -> Floats:
        own = scores_by_items(answers, persons, point, nodes)
        return np.asarray(np.einsum("xy,yjp->xjp", inverse, own) * per_log[:, None, None])

    has_errors = np.isfinite(answers.items.cov).all()
    item_cov = covariance_from_items(answers.items, by_items()) if has_errors else None
    cov = inverse * np.outer(per_log, per_log)
    return _Maximum(estimates, cov, item_cov, convergence, x, answers.items, influence, by_items)


def _fit_jointly(x: Responses, persons: Persons, model: Any, weights: Floats | None) -> _Maximum:
    fit = fit_em(x, model=model, sampling_weights=weights, likelihood_only=True)
    usable = fit.estimated & np.array([not flags for flags in fit.flags])
    if not usable.all():
        names = [item for item, has in zip(fit.item_ids, usable, strict=True) if not has]
        warnings.warn(f"{some_of(names)} cannot be estimated and do not count", ItemWarning, stacklevel=3)
    x = x.of_items(usable)
    likelihood, K = JointLikelihood.from_fit(x, fit.select(usable), persons), persons.design.shape[1]
    point, convergence = likelihood.maximise()
    inverse = scaled_inverse(point.information)
    latent = point.full[-len(likelihood.latent) :].copy()
    latent[K:] = np.exp(latent[K:])
    per_log = np.concatenate([np.ones(K), latent[K:]])
    place = likelihood.place[-len(latent) :]
    of_latent = np.zeros((len(inverse), len(latent)))
    of_latent[place[place >= 0], np.flatnonzero(place >= 0)] = per_log[place >= 0]
    cov = of_latent.T @ inverse @ of_latent

    def influence() -> Floats:
        return (point.scores * persons.weight[:, None]) @ inverse @ of_latent

    items = likelihood.items(point, inverse)
    return _Maximum(latent, cov, None, convergence, x, items, influence, None)


def _weights(sampling_weights: npt.ArrayLike, n_persons: int) -> Floats:
    weights = np.asarray(sampling_weights, dtype=float)
    if weights.shape != (n_persons,):
        raise PsychometricsError(
            f"sampling_weights must be {n_persons} numbers, one per person; got shape {weights.shape}"
        )
    if (bad := np.flatnonzero(~(np.isfinite(weights) & (weights > 0)))).size:
        raise PsychometricsError(
            f"sampling_weights must be finite and above 0, got {weights[bad[0]]:g} of person {bad[0]} (counted from 0);"
            " leave persons out who represent nobody"
        )
    return weights


def _sandwich(influence: Floats, cluster: Ints | None) -> Floats:
    """Sum products of persons' contributions, or of clusters' with the factor C/(C − 1)."""
    if cluster is None:
        return influence.T @ influence
    sums = np.zeros((int(cluster.max()) + 1, influence.shape[1]))
    np.add.at(sums, cluster, influence)
    if len(sums) < 2:
        raise PsychometricsError("clusters must have at least 2 labels; leave clusters out if all persons are in one")
    return sums.T @ sums * len(sums) / (len(sums) - 1)

"""Fit a latent regression: read the arguments, find the maximum, and compute errors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import ItemWarning, NotConvergedWarning, PsychometricsError
from irt_psychometrics.core.item_sources import ItemSource, require_items
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.standard_errors import scaled_inverse
from irt_psychometrics.regression.answers import Answers
from irt_psychometrics.regression.covariates import design_matrix, labels_of
from irt_psychometrics.regression.free_items import FreeItems
from irt_psychometrics.regression.item_errors import covariance_from_items, scores_by_items
from irt_psychometrics.regression.maximum import HeldItems, Persons, climb
from irt_psychometrics.regression.result import LatentRegression, sandwich


def latent_regression(
    responses: Responses,
    items: ItemSource | None = None,
    covariates: Any = None,
    *,
    model: Model | Mapping[str, Model] = "2pl",
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
        The name of a model for all items, or item → model, if `items` is None; "3pl" and "rsm" cannot be used.
    reference
        Column → level with which other levels are compared; None: the first level in sorted order. A column of numbers
        that is named here is dummy coded, too.
    groups
        N labels. Each group has a residual SD of its own. Without covariates, each group has its own mean, too.
    sampling_weights
        Shape (N,), > 0 in any unit, the number of members of the population that each person represents. The errors are
        then robust (sandwich).
    clusters
        N labels, such as schools, whose persons may resemble each other. The errors are then robust for clusters
        (sandwich with the factor C/(C − K) for C clusters).

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
    likelihood: HeldItems | FreeItems
    if items is None:
        x, likelihood = _free_items(x, persons, model, weights)
        point, convergence = climb(likelihood, likelihood.start)
        item_parameters = likelihood.items(point, scaled_inverse(point.information))
    else:
        answers = Answers.from_responses(x, require_items(items, "latent_regression"))
        likelihood, point, convergence = HeldItems.maximise(answers, persons)
        item_parameters = answers.items
    if not convergence.converged:
        warnings.warn(
            f"the latent regression did not converge: {convergence.reason}", NotConvergedWarning, stacklevel=2
        )
    K, inverse = len(names), scaled_inverse(point.information)
    estimates, by_parameters = likelihood.latent(point.parameters)
    estimates[K:] = np.exp(estimates[K:])
    by_parameters = by_parameters * np.concatenate([np.ones(K), estimates[K:]])[:, None]

    @cache
    def influence() -> Floats:
        return np.asarray((point.scores * persons.weight[:, None]) @ inverse @ by_parameters.T)

    @cache
    def by_items() -> Floats:
        by = scores_by_items(answers, persons, point, likelihood.nodes)
        return np.asarray(np.tensordot(by_parameters @ inverse, by, axes=1))

    has_errors = items is not None and np.isfinite(item_parameters.cov).all()
    errors = "clustered" if cluster is not None else "model" if weights is None else "robust"
    return LatentRegression(
        coefficient_names=names,
        group_names=group_names,
        estimates=estimates,
        cov=by_parameters @ inverse @ by_parameters.T if errors == "model" else sandwich(influence(), cluster, K),
        item_cov=covariance_from_items(item_parameters, by_items()) if has_errors else None,
        errors=errors,
        convergence=convergence,
        responses=x,
        items=item_parameters,
        design=design,
        group=group,
        person_influence=influence,
        by_items=None if items is None else by_items,
        weights=weights,
        clusters=cluster,
        frame_kind=x.frame_kind,
    )


def _free_items(x: Responses, persons: Persons, model: Any, weights: Floats | None) -> tuple[Responses, FreeItems]:
    """Fit the items without the regression, to start from, and leave out items that cannot be estimated."""
    if not isinstance(model, str):
        if missing := [item for item in x.item_ids if item not in model]:
            raise PsychometricsError(f"no model is named for {some_of(missing)}; name one for each item")
        model = [model[item] for item in x.item_ids]
    fit = fit_em(x, model=model, sampling_weights=weights, likelihood_only=True)
    usable = fit.estimated & np.array([not flags for flags in fit.flags])
    if not usable.all():
        names = [item for item, has in zip(fit.item_ids, usable, strict=True) if not has]
        warnings.warn(f"{some_of(names)} cannot be estimated and do not count", ItemWarning, stacklevel=3)
    x = x.of_items(usable)
    return x, FreeItems.from_fit(x, fit.select(usable), persons)


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

"""The result of a latent regression: coefficients, residual SDs, groups, and the posteriors of the persons."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.confidence import normal_interval
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.frames import make
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Convergence, Population
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, format_value
from irt_psychometrics.core.summary import Summary
from irt_psychometrics.core.when_read import WhenRead
from irt_psychometrics.regression.answers import Answers
from irt_psychometrics.regression.maximum import posterior
from irt_psychometrics.regression.plausible import PlausibleValues, draw_parameters
from irt_psychometrics.scoring.posterior_draws import draw_from_posteriors, uniforms_of


class GroupMoments(NamedTuple):
    """Means and SDs of θ in G groups, shape (G,) each, and their covariance, shape (2G, 2G)."""

    means: Floats
    sds: Floats
    cov: Floats


@dataclass(frozen=True, eq=False, repr=False)
class LatentRegression(Result):
    """The regression θ = xᵀγ + ε of ability on covariates, ε ~ N(0, σ²) with a σ for each of G groups.

    Attributes
    ----------
    coefficient_names, group_names
        K names of coefficients, of which the first is the intercept, and G names of groups.
    estimates
        Shape (K + G,), the coefficients γ and then the residual SDs σ, on the scale of the items.
    cov
        Shape (K + G, K + G), covariance of the estimates as a sample of persons and answers. If the items were
        estimated together with the regression, it includes the errors of the items.
    item_cov
        Shape (K + G, K + G), the part of errors of held items, which is added to `cov`. If these errors are not known,
        it is None.
    errors
        How `cov` was computed: "model" (observed information), "robust" (sandwich), or "clustered" (sandwich of
        clusters).
    convergence
        Whether the maximum of the likelihood was found.
    responses, items
        The responses of N persons, and the items by which they were read.
    design, group
        Shape (N, K) and (N,), each person's covariates and group.
    person_influence
        Shape (N, K + G), contribution of each person to the estimates: H⁻¹ times the weighted score, H the observed
        information. Sums of products over persons who are in two analyses estimate the covariance of their estimates.
        It is computed when it is first read.
    by_items
        Shape (K + G, J, 2 + M), derivatives of the estimates by the items' a, b and further parameters, from which
        `regression.item_errors.covariance_from_items` makes covariances. None if the items were estimated together
        with the regression. It is computed when it is first read.
    weights, clusters
        Shape (N,), sampling weights and the number of each person's cluster, or None.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> found = irt.latent_regression(x, items, {"country": ["north"] * 200 + ["south"] * 201})
    >>> found.coefficient_names, found.converged
    (('intercept', 'country: south'), True)
    >>> irt.LatentRegression.from_json(found.to_json()) == found
    True
    """

    coefficient_names: tuple[str, ...]
    group_names: tuple[str, ...]
    estimates: Floats
    cov: Floats
    item_cov: Floats | None
    errors: str
    convergence: Convergence
    responses: Responses
    items: ItemParameters
    design: Floats
    group: Ints
    person_influence: WhenRead[Floats] = WhenRead()  # noqa: RUF009  (a descriptor, not a default)
    by_items: WhenRead[Floats | None] = WhenRead()  # noqa: RUF009
    weights: Floats | None = None
    clusters: Ints | None = None
    frame_kind: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return all values for a pickle; values that were not read yet are computed."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def coefficients(self) -> Floats:
        """γ, shape (K,)."""
        return self.estimates[: len(self.coefficient_names)]

    @property
    def residual_sds(self) -> Floats:
        """σ of each group, shape (G,)."""
        return self.estimates[len(self.coefficient_names) :]

    @property
    def total_cov(self) -> Floats:
        """Covariance of the estimates including the errors of the items if these are known, shape (K + G, K + G)."""
        return self.cov if self.item_cov is None else self.cov + self.item_cov

    @property
    def se(self) -> Floats:
        """Standard errors of the estimates, √ of the diagonal of `total_cov`, shape (K + G,)."""
        return np.sqrt(np.diag(self.total_cov))

    @property
    def converged(self) -> bool:
        """Whether the maximum of the likelihood was found. If not, the numbers must not be used."""
        return self.convergence.converged

    @property
    def log_likelihood(self) -> float:
        """Marginal log-likelihood; with sampling weights the weighted sum, for weights with mean 1."""
        return self.convergence.loglik

    @property
    def aic(self) -> float:
        """Akaike's (1974) criterion, 2·(number of parameters) − 2·log L; the lower, the better."""
        return self.convergence.aic

    @property
    def bic(self) -> float:
        """Schwarz's (1978) criterion, log(persons)·(number of parameters) − 2·log L; the lower, the better."""
        return self.convergence.bic(len(self.design))

    @property
    def r_squared(self) -> float:
        """Share of the variance of θ that the covariates explain: Var(xᵀγ)/(Var(xᵀγ) + mean σ²), 0 … 1."""
        w, fitted = self._shares, self.design @ self.coefficients
        explained = float(np.average((fitted - np.average(fitted, weights=w)) ** 2, weights=w))
        return explained / (explained + float(np.average(self.residual_sds[self.group] ** 2, weights=w)))

    @property
    def populations(self) -> tuple[Population, ...]:
        """Mean and SD of θ in each group, with errors.

        The mean is the average of xᵀγ over the group's persons. The variance is σ² plus the variance of xᵀγ. The errors
        include that another sample has other covariates.
        """
        means, sds, cov = self._moments_of_groups
        G, errors = len(means), np.sqrt(np.diag(cov))
        sizes = np.bincount(self.group, minlength=G).tolist()
        values = (means.tolist(), sds.tolist(), errors[:G].tolist(), errors[G:].tolist())
        rows = zip(self.group_names, sizes, *values, strict=True)
        return tuple(Population(*row) for row in rows)

    def prior(self, estimates: Floats | None = None) -> tuple[Floats, Floats]:
        """Compute mean and SD of θ of each person before the answers, xᵀγ and σ, shape (N,) each.

        Parameters
        ----------
        estimates
            Shape (K + G,), values to use instead of the estimates, such as a draw of them.

        Returns
        -------
        tuple
            Means and SDs.
        """
        K = len(self.coefficient_names)
        values = self.estimates if estimates is None else estimates
        return self.design @ values[:K], values[K:][self.group]

    def posterior(self, estimates: Floats | None = None, items: ItemParameters | None = None) -> tuple[Floats, Floats]:
        """Compute each person's posterior of θ given covariates and answers.

        Parameters
        ----------
        estimates
            As in `prior`.
        items
            The J `items` with other values, such as a draw of them.

        Returns
        -------
        tuple
            Q equally spaced nodes, shape (Q,), and posterior weights of the nodes, shape (N, Q), which sum to 1 for
            each person.
        """
        means, sds = self.prior(estimates)
        answers = Answers(items or self._answers.items, self._answers.given)
        nodes = answers.nodes_for(means, sds)
        return nodes, posterior(answers.log_likelihood(nodes), nodes, means, sds)[0]

    def plausible_values(self, n: int = 10, random_state: int = 0, *, threads: int | None = None) -> PlausibleValues:
        """Draw plausible values, the form in which surveys hand out abilities for statistics of groups.

        For each set, the parameters of the regression are drawn from their errors, and the held items, too, if their
        errors are known. Then θ of each person is drawn from the posterior given covariates and answers (Mislevy 1991).
        Draws are continuous. Items that were estimated together with the regression stay at their estimates.

        A statistic by a variable that is not among the covariates is shrunk towards the others: name all variables by
        which groups will be compared as covariates.

        Parameters
        ----------
        n
            Number of sets.
        random_state
            Seed, at least 0. A person's values depend on the seed, the person's label, answers, covariates and the
            estimates. They depend neither on the order of persons nor on `threads`, up to rounding. More sets leave the
            first ones as they are.
        threads
            Number of threads; None: all processors.

        Returns
        -------
        PlausibleValues
            n values of each person.

        Raises
        ------
        PsychometricsError
            If the regression did not converge, or n is below 1.

        References
        ----------
        Mislevy, R. J. (1991). Randomization-based inference about latent variables from complex samples. Psychometrika,
        56, 177-196.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
        >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
        >>> irt.latent_regression(x, items).plausible_values(n=5).values.shape
        (401, 5)
        """
        if n < 1:
            raise PsychometricsError(f"n must be at least 1, got {n}; surveys use 5 or 10")
        if not self.converged:
            raise PsychometricsError(
                f"plausible values need a regression that converged: {self.convergence.reason}. Leave covariates out"
            )
        x, items = self.responses, self.items
        held = self.cov, len(self.coefficient_names), items, None if self.item_cov is None else self.by_items
        ids = x.person_ids or tuple(range(x.n_persons))
        own, uniforms = x.of_items(np.isin(x.item_ids, items.item_ids)), uniforms_of(ids, n, random_state)
        values = np.empty((x.n_persons, n))
        for k, (estimates, curves) in zip(range(n), draw_parameters(self.estimates, *held, random_state), strict=False):
            values[:, k] = draw_from_posteriors(own, curves, *self.prior(estimates), uniforms[:, k], threads=threads)
        return PlausibleValues(ids, values, self.weights, self.clusters, self.frame_kind, x.frame_index)

    def conf_int(self, level: float = 0.95) -> Any:
        """Compute confidence intervals estimate ± z·SE of coefficients and residual SDs.

        Parameters
        ----------
        level
            Confidence level, above 0 and below 1.

        Returns
        -------
        data frame
            The columns of `to_frame`, then low and high, not rounded. Intervals of SDs are computed from log σ.

        Raises
        ------
        PsychometricsError
            If the level is not between 0 and 1.
        """
        K = len(self.coefficient_names)
        low, high = normal_interval(self.estimates, self.se, level)
        ends = normal_interval(np.log(self.residual_sds), self.se[K:] / self.residual_sds, level)
        low[K:], high[K:] = np.exp(ends[0]), np.exp(ends[1])
        return make(self._columns() | {"low": low, "high": high}, self.frame_kind)

    def summary(self, decimals: int = 3) -> Summary:
        """Summarise the regression for people: coefficients, groups, and numbers about the fit.

        Parameters
        ----------
        decimals
            Digits after the decimal point of estimates.

        Returns
        -------
        Summary
            Text if it is printed, HTML in a notebook; `to_latex()` renders it for a paper.
        """
        facts = self._facts() | {
            "AIC": format_value(self.aic, 2),
            "BIC": format_value(self.bic, 2),
            "errors": self.errors,
            "converged": f"{'yes' if self.converged else 'no'}, after {self.convergence.iterations:,} iterations",
        }
        names = {"group": "name", "persons": "n_persons", "mean": "mean", "mean_se": "mean_se"}
        names |= {"sd": "sd", "sd_se": "sd_se"}
        groups = {name: [getattr(group, of) for group in self.populations] for name, of in names.items()}
        tables = {"coefficients and residual SDs": self._columns(), "θ of groups": groups}
        return Summary(self._title(), facts, tables, self._notes(), decimals)

    @cached_property
    def _answers(self) -> Answers:
        return Answers.from_responses(self.responses, self.items)

    @property
    def _shares(self) -> Floats:
        """Share of the population that each person represents, shape (N,)."""
        weight = np.ones(len(self.design)) if self.weights is None else self.weights
        return weight / weight.sum()

    @property
    def _moments_of_groups(self) -> GroupMoments:
        K, G, w = len(self.coefficient_names), len(self.group_names), self._shares
        own = (self.group == np.arange(G)[:, None]) * w
        own /= own.sum(axis=1, keepdims=True)
        fitted = self.design @ self.coefficients
        means, average = own @ fitted, own @ self.design
        off = fitted - means[self.group]
        variances = own @ off**2
        sds = np.sqrt(self.residual_sds**2 + variances)
        by = np.zeros((2 * G, K + G))
        by[:G, :K] = average
        by[G:, :K] = (own * off) @ (self.design - average[self.group]) / sds[:, None]
        by[G:, K:] = np.diag(self.residual_sds / sds)
        of_sample = np.concatenate([own * off, own * (off**2 - variances[self.group]) / (2 * sds[:, None])])
        if self.errors == "model":
            return GroupMoments(means, sds, by @ self.total_cov @ by.T + of_sample @ of_sample.T)
        cov = sandwich(self.person_influence @ by.T + of_sample.T, self.clusters, K)
        return GroupMoments(means, sds, cov if self.item_cov is None else cov + by @ self.item_cov @ by.T)

    def _title(self) -> str:
        return f"latent regression of {len(self.design):,} persons on {len(self.coefficient_names) - 1} covariates"

    def _facts(self) -> dict[str, str]:
        facts = {"R²": format_value(self.r_squared), "log L": format_value(self.log_likelihood, 2)}
        return facts if self.converged else facts | {"converged": "no"}

    def _columns(self) -> dict[str, Any]:
        sds = ["residual SD"] if len(self.group_names) == 1 else [f"residual SD: {name}" for name in self.group_names]
        columns: dict[str, Any] = {
            "parameter": [*self.coefficient_names, *sds],
            "estimate": self.estimates,
            "se": self.se,
            "sampling_se": np.sqrt(np.diag(self.cov)),
        }
        unknown = np.full(len(self.estimates), np.nan)
        return columns | {"item_se": unknown if self.item_cov is None else np.sqrt(np.diag(self.item_cov))}

    def _notes(self) -> list[str]:
        notes = [] if self.converged else [f"Not converged: {self.convergence.reason}."]
        if self.item_cov is None and self.by_items is not None:
            notes.append("The errors of the items are not known, so the standard errors do not include them.")
        if empty := int((self._answers.n == 0).sum()):
            notes.append(f"{empty:,} persons have no answer that counts and do not change the estimates.")
        return notes


def sandwich(influence: Floats, cluster: Ints | None, n_coefficients: int) -> Floats:
    """Sum products of persons' contributions, or of C clusters' with the factor C/(C − K) for K coefficients."""
    if cluster is None:
        return influence.T @ influence
    sums = np.zeros((int(cluster.max()) + 1, influence.shape[1]))
    np.add.at(sums, cluster, influence)
    if (spare := len(sums) - n_coefficients) < 1:
        raise PsychometricsError(
            f"clusters must have more labels than there are coefficients ({n_coefficients}), got {len(sums)}; leave "
            "clusters or covariates out"
        )
    return sums.T @ sums * len(sums) / spare

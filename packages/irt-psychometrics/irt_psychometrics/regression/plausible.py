"""Plausible values: draws of each person's ability for statistics of groups, and these statistics.

`scoring.posterior_draws` draws from the posteriors; `pooling` has the formulas for statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.frames import Column, make
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.moved_items import add_to_further
from irt_psychometrics.core.results import Result
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.regression.pooling import (
    Method,
    Replicates,
    Statistic,
    evaluate,
    paired_replicates,
    pool,
    variance_factor,
)
from irt_psychometrics.scoring.form_scores import covariance_of_forms


@dataclass(frozen=True, eq=False, repr=False)
class PlausibleValues(Result):
    """Plausible values of N persons: n draws of each person's ability given answers and covariates.

    Use them for statistics of groups, which they reproduce without the shrinkage of scores (Mislevy 1991). Do not use
    them as scores: a person's values depend on chance and on the persons with the same covariates.

    Attributes
    ----------
    person_ids
        N labels; row numbers if the responses had no labels.
    values
        Shape (N, n), one column for each set, on the scale of the items.
    weights
        Shape (N,), sampling weights, or None if all persons count the same.
    clusters
        Shape (N,), the number of each person's cluster, from 0 on, or None without clusters.
    frame_index
        The index of the pandas frame from which the responses were made, which `to_frame` gives to a pandas frame.

    References
    ----------
    Mislevy, R. J. (1991). Randomization-based inference about latent variables from complex samples. Psychometrika, 56,
    177-196.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> values = irt.latent_regression(x, items).plausible_values(n=5)
    >>> values.to_frame("pandas").columns.tolist()
    ['person', 'PV1', 'PV2', 'PV3', 'PV4', 'PV5']
    >>> irt.PlausibleValues.from_json(values.to_json()) == values
    True
    """

    person_ids: tuple[str | int, ...]
    values: Floats
    weights: Floats | None = None
    clusters: Ints | None = None
    frame_kind: str | None = None
    frame_index: Any = None

    def pooled(
        self,
        statistic: Statistic = "mean",
        at: npt.ArrayLike | None = None,
        *,
        by: Sequence[Any] | npt.NDArray[Any] | None = None,
        reference: Any = None,
        replicate_weights: Any = None,
        method: Method | float = "fay",
        level: float = 0.95,
    ) -> Any:
        """Estimate a statistic of the population with its standard error, by Rubin's (1987) rules.

        The statistic is computed from each set of plausible values. The error has two parts: the sampling of persons,
        from replicate weights, and the differences between the sets, which contain the errors of measurement and of
        the parameters.

        Parameters
        ----------
        statistic
            "mean", "sd", "percentile", "share_above", or a function of values (n,) and weights (n,) that returns a
            number or k numbers. A function of other columns, such as a regression, needs `by=None`: it then gets all
            persons in their order.
        at
            Percentages, 0 … 100, for "percentile"; values of θ, such as a cut score, for "share_above".
        by
            N labels: the statistic of each group. None: the statistic of all persons.
        reference
            A label of `by`. The result are then the differences of the other groups to this one.
        replicate_weights
            Table with the survey's R columns of replicate weights, shape (N, R). None: persons, or whole clusters, are
            dealt at random into 64 pairs for balanced repeated replication, as if they were a simple random sample.
        method
            How replicate weights were made. "brr"; "fay" with a factor of .5, as in PISA; "jk1", deleting one unit of
            all; "jk2", deleting one of each pair, as in TIMSS until 2011 and NAEP; or the factor of the sum of squared
            deviations, such as 1/2 for TIMSS since 2015.
        level
            Confidence level, above 0 and below 1.

        Returns
        -------
        data frame
            A row per group and number with the columns estimate, se, df (degrees of freedom by Barnard & Rubin 1999),
            low, high, sampling_se, between_se (from differences between sets) and missing_information (the share of
            the information that is missing because θ is not observed). Errors are NaN if no replicate differs, for
            example in a group of one person.

        Raises
        ------
        PsychometricsError
            If there is only one set, or an argument is invalid. The message names it.

        References
        ----------
        OECD (2009). PISA data analysis manual, chapters 4 and 8.
        Rubin, D. B. (1987). Multiple imputation for nonresponse in surveys. Wiley.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
        >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
        >>> country = ["north"] * 200 + ["south"] * 201
        >>> values = irt.latent_regression(x, items, {"country": country}).plausible_values()
        >>> values.pooled("mean", by=country, reference="north")["estimate"].round(1).tolist()
        [2.1]
        >>> values.pooled("percentile", at=[10, 50, 90])["at"].tolist()
        [10.0, 50.0, 90.0]
        """
        if self.values.shape[1] < 2:
            raise PsychometricsError("errors need at least 2 sets of plausible values, got 1; draw 10")
        if not 0 < level < 1:
            raise PsychometricsError(f"level must be above 0 and below 1, for example 0.95; got {level}")
        points = None if at is None else np.atleast_1d(np.asarray(at, dtype=float))
        names, group = self._groups(["all"] * len(self.values) if by is None else by)
        weights, factor, df = self._weights(group, replicate_weights, method)
        results, size = {}, dict(zip(names, np.bincount(group).tolist(), strict=True))
        for g, name in enumerate(names):
            own = group == g
            results[name] = np.stack([evaluate(statistic, v[own], weights[own], points) for v in self.values.T])
        if reference is not None:
            if str(reference) not in results:
                raise PsychometricsError(f"reference must be a label of by ({some_of(names)}), got {reference!r}")
            base, df = results.pop(str(reference)), min(df, size[str(reference)] - 1)
            results = {name: own - base for name, own in results.items()}
        columns: dict[str, Any] = (
            {} if by is None else {"group": np.repeat([*results], [len(t[0]) for t in results.values()])}
        )
        columns |= {} if points is None else {"at": np.tile(points, len(results))}
        pooled = [pool(own, factor, min(df, size[name] - 1), level) for name, own in results.items()]
        return make(
            columns | {name: np.concatenate([own[name] for own in pooled]) for name in pooled[0]}, self.frame_kind
        )

    def _groups(self, by: Sequence[Any] | npt.NDArray[Any]) -> tuple[list[str], Ints]:
        """Read labels: the distinct ones in sorted order, and each person's place."""
        column = Column.from_cells(by if isinstance(by, np.ndarray) else list(by))
        if len(column.missing) != len(self.values) or column.missing.any():
            without = [self.person_ids[k] for k in np.flatnonzero(column.missing[: len(self.values)])]
            raise PsychometricsError(
                f"by must be {len(self.values)} labels, one per person; got {len(column.missing)}"
                + (f", but no label for {some_of(map(str, without))}" if without else "")
            )
        labels, places = column.distinct()
        names, order = np.unique([str(label) for label in labels], return_inverse=True)
        return names.tolist(), order[places]

    def _weights(self, group: Ints, replicates: Any, method: Method | float) -> Replicates:
        """Return the replicate weights, with the weights themselves as the first column."""
        weights = np.ones(len(self.values)) if self.weights is None else self.weights
        if replicates is None:
            unit = np.empty(len(weights), dtype=np.int64)
            unit[np.argsort(group, kind="stable")] = np.arange(len(weights))
            own, factor, pairs = paired_replicates(weights, unit if self.clusters is None else self.clusters)
            return Replicates(np.column_stack([weights, own]), factor, pairs)
        own = np.asarray(replicates, dtype=float)
        if own.ndim != 2 or len(own) != len(weights) or own.shape[1] < 2 or not (own >= 0).all():
            raise PsychometricsError(
                f"replicate_weights must be a table of numbers that are at least 0, with {len(weights)} rows and at "
                f"least 2 columns; got shape {own.shape}"
            )
        factor = variance_factor(method, own.shape[1])
        return Replicates(np.column_stack([weights, own]), factor, own.shape[1] - 1)

    def _title(self) -> str:
        return f"{self.values.shape[1]} plausible values of {len(self.values):,} persons"

    def _columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = {"person": self.person_ids}
        columns |= {f"PV{k + 1}": own for k, own in enumerate(self.values.T)}
        columns |= {} if self.weights is None else {"weight": self.weights}
        return columns if self.clusters is None else columns | {"cluster": self.clusters}

    def _index(self) -> Any:
        return self.frame_index

    def _notes(self) -> list[str]:
        return ["For statistics of groups, never for decisions about a person: `Fit.score` scores persons."]


def draw_parameters(
    estimates: Floats, cov: Floats, n_coefficients: int, items: ItemParameters, by_items: Floats | None, seed: int
) -> Iterator[tuple[Floats, ItemCurves]]:
    """Draw a regression's parameters, shape (K + G,), and the curves of its items, without end.

    Items move in (a, d) and residual SDs in log σ, in which their estimates are closer to normal.

    Parameters
    ----------
    estimates, cov
        Shape (K + G,) and (K + G, K + G), coefficients and residual SDs, and their covariance with the items held.
    n_coefficients
        K.
    items
        J items with their covariances.
    by_items
        Shape (K + G, J, 2 + M), derivatives of the estimates by the items' a, b and further parameters. None: the items
        are held.
    seed
        Each draw depends on the seed and its number alone.
    """
    root, sds = _root_of(cov), estimates[n_coefficients:]
    if by_items is not None:
        item_root = _root_of(items.cov_of_all if items.cov.shape[1] == 2 else covariance_of_forms([items])[None])
    for rng in map(np.random.default_rng, zip(repeat(seed), count())):
        by, curves = root @ rng.standard_normal(len(estimates)), items.curves
        if by_items is not None:
            moved = (item_root @ rng.standard_normal((*item_root.shape[:2], 1))).reshape(len(items.a), -1)
            by = by + np.einsum("xjp,jp->x", by_items, moved)
            by_d = -items.a * moved[:, 1] - items.b * moved[:, 0]
            curves = ItemCurves(items.a + moved[:, 0], items.d + by_d, *add_to_further(items, moved))
        by_sd = np.exp(by[n_coefficients:] / sds)
        yield np.concatenate([estimates[:n_coefficients] + by[:n_coefficients], sds * by_sd]), curves


def _root_of(cov: Floats) -> Floats:
    """Compute the symmetric root of covariances, shape (…, n, n); eigenvalues below 0 count as 0.

    Unlike other roots, it hardly changes if the covariances hardly change, so that draws are reproducible.
    """
    values, vectors = np.linalg.eigh(cov)
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ vectors.swapaxes(-1, -2)
    return root

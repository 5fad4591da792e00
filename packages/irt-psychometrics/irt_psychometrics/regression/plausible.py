"""Plausible values: draws of each person's ability for statistics of groups, and these statistics.

How draws are made is in `scoring.posterior_draws` and `parameter_draws`; formulas for statistics are in `pooling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.frames import Column, make
from irt_psychometrics.core.results import Result, format_value
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.regression.pooling import (
    Method,
    Statistic,
    evaluate,
    paired_replicates,
    pool,
    rows_of,
    variance_factor,
)


@dataclass(frozen=True, eq=False, repr=False)
class PlausibleValues(Result):
    """Plausible values of N persons: n draws of each person's ability given answers and covariates.

    They are for statistics of groups, which they reproduce without the shrinkage of scores (Mislevy 1991). They are no
    scores: a person's values depend on chance and on the persons with the same covariates.

    Attributes
    ----------
    person_ids
        N labels; row numbers if the responses had no labels.
    values
        Shape (N, n), one column for each set, on the scale of the items.
    weights
        Shape (N,), sampling weights; None if all persons count the same.
    clusters
        Shape (N,), the number of each person's cluster, from 0 on; None if there are no clusters.
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
        by: Sequence[Any] | None = None,
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
        n_persons, n_sets = self.values.shape
        if n_sets < 2:
            raise PsychometricsError("errors need at least 2 sets of plausible values, got 1; draw 10")
        if not 0 < level < 1:
            raise PsychometricsError(f"level must be above 0 and below 1, for example 0.95; got {level}")
        points = None if at is None else np.atleast_1d(np.asarray(at, dtype=float))
        names, group = ([""], np.zeros(n_persons, dtype=np.int64)) if by is None else self._groups(by)
        if reference is not None and str(reference) not in names:
            raise PsychometricsError(f"reference must be a label of by ({some_of(names)}), got {reference!r}")
        weights, factor, df = self._weights(group, replicate_weights, method)
        size = dict(zip(names, np.bincount(group).tolist(), strict=True))
        found = {
            name: np.stack([evaluate(statistic, v[group == g], weights[group == g], points) for v in self.values.T])
            for g, name in enumerate(names)
        }
        if reference is not None:
            base, df = found.pop(str(reference)), min(df, size[str(reference)] - 1)
            found = {name: own - base for name, own in found.items()}
        pooled = {}
        for name, own in found.items():
            sampling = factor * ((own[:, :, 1:] - own[:, :, :1]) ** 2).sum(axis=2)
            pooled[name] = pool(own[:, :, 0], sampling, min(df, size[name] - 1), level)
        return make(rows_of(pooled, points, by is not None), self.frame_kind)

    def _groups(self, by: Sequence[Any]) -> tuple[list[str], Ints]:
        """Read labels: the distinct ones in sorted order, and each person's place."""
        column = Column.from_cells(by if isinstance(by, np.ndarray) else list(by))
        if len(column.missing) != len(self.values):
            raise PsychometricsError(f"by must be {len(self.values)} labels, one per person; got {len(column.missing)}")
        if column.missing.any():
            person = self.person_ids[int(np.flatnonzero(column.missing)[0])]
            raise PsychometricsError(f"by must have a label for each person; person {person!r} has none")
        labels, places = column.distinct()
        names, order = np.unique([str(label) for label in labels], return_inverse=True)
        return names.tolist(), order[places]

    def _weights(self, group: Ints, replicates: Any, method: Method | float) -> tuple[Floats, float, int]:
        """Return the weights and, beside them, R replicates, shape (N, 1 + R); factor and df of the variances."""
        weights = np.ones(len(self.values)) if self.weights is None else self.weights
        if replicates is None:
            unit = np.empty(len(weights), dtype=np.int64)
            unit[np.argsort(group, kind="stable")] = np.arange(len(weights))
            own, factor, pairs = paired_replicates(weights, unit if self.clusters is None else self.clusters)
            return np.column_stack([weights, own]), factor, pairs
        replicates = np.asarray(replicates, dtype=float)
        if replicates.ndim != 2 or len(replicates) != len(weights) or replicates.shape[1] < 2:
            raise PsychometricsError(
                f"replicate_weights must have a row for each of the {len(weights)} persons and at least 2 columns; got "
                f"shape {replicates.shape}"
            )
        if not (np.isfinite(replicates) & (replicates >= 0)).all():
            raise PsychometricsError("replicate_weights must be finite and at least 0; select their columns alone")
        R = replicates.shape[1]
        return np.column_stack([weights, replicates]), variance_factor(method, R), R - 1

    def _title(self) -> str:
        return f"{self.values.shape[1]} plausible values of {len(self.values):,} persons"

    def _facts(self) -> dict[str, str]:
        weights = np.ones(len(self.values)) if self.weights is None else self.weights
        mean, sd = (
            np.mean([evaluate(name, v, weights[:, None], None)[0, 0] for v in self.values.T]) for name in ("mean", "sd")
        )
        return {"mean": format_value(float(mean)), "SD": format_value(float(sd))}

    def _columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = {"person": self.person_ids}
        columns |= {f"PV{k + 1}": own for k, own in enumerate(self.values.T)}
        columns |= {} if self.weights is None else {"weight": self.weights}
        return columns if self.clusters is None else columns | {"cluster": self.clusters}

    def _index(self) -> Any:
        return self.frame_index

    def _notes(self) -> list[str]:
        return ["For statistics of groups, never for decisions about a person: `Fit.score` scores persons."]

"""Fit item response models in a notebook, and show items, scores, fit statistics and information as tables.

This module calls `estimation`, `scoring` and `itemfit`, which contain the computations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.assumed_errors import assumed_errors
from irt_psychometrics.core.confidence import normal_interval
from irt_psychometrics.core.errors import ItemWarning, NotConvergedWarning, PsychometricsError
from irt_psychometrics.core.fitted_items import align_responses, flag_notes
from irt_psychometrics.core.frames import make
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.item_sources import ItemSource, require_items
from irt_psychometrics.core.items import ItemParameters, ItemRow
from irt_psychometrics.core.logistic import expit, logit
from irt_psychometrics.core.models import Calibration, Flag, Population
from irt_psychometrics.core.options import LatentRule, Model
from irt_psychometrics.core.priors import Priors
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, columns_of_rows, format_value
from irt_psychometrics.core.score_tables import Key
from irt_psychometrics.core.summary import Summary
from irt_psychometrics.core.when_read import WhenRead
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.dimensions.structure import Dimensions
from irt_psychometrics.estimation.em import FitOptions, fit_em
from irt_psychometrics.estimation.latent_shape import Shape
from irt_psychometrics.estimation.optimizer import Progress, report_progress
from irt_psychometrics.scoring.abilities import Curves, Method, Scores, eap_by, estimate_abilities
from irt_psychometrics.scoring.reliability import fitted_posteriors, reliability_of

if TYPE_CHECKING:
    from irt_psychometrics.core.frames import Table
    from irt_psychometrics.dimension_fits import DimensionsFit
    from irt_psychometrics.itemfit.dependence import ResidualCorrelations
    from irt_psychometrics.itemfit.m2 import FormFits
    from irt_psychometrics.itemfit.person_patterns import PersonFit
    from irt_psychometrics.plots.chart import Chart, Picture

MISFIT = 0.05
"""An item fits badly if its RMSD exceeds both this and the cut-off that an item that follows the model exceeds once in
1,000 times."""


@dataclass(frozen=True, eq=False, repr=False)
class ItemTable(Result):
    """The items of a fit, one row per item; NaN for items without parameters.

    Attributes
    ----------
    item_ids, models
        J names of items and of their models.
    n
        Shape (J,), number of responses.
    facility
        Shape (J,), mean score as a share of the maximum score; the proportion correct for items scored 0 and 1.
    a, b, c, a_se, b_se, c_se
        Shape (J,), slope (of one point), difficulty and lower asymptote, D = 1, and their standard errors.
    steps
        b1, b1_se, b2, …, shape (J,) each: θ at which two neighbouring scores are equally likely, and its standard
        error. Empty if all items are scored 0 and 1.
    written
        The further columns from which `ItemParameters.from_frame` reads the items back: max_score, t0, t1, …, their
        standard errors, and covariances within an item, shape (J,) each.
    flags
        J tuples of `Flag`.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.1 * k for k in range(-20, 21)] * 5, random_state=1)
    >>> irt.fit(x, "rasch").items.n.tolist()
    [205, 205, 205]
    """

    item_ids: tuple[str, ...]
    models: tuple[str, ...]
    n: Ints
    facility: Floats
    a: Floats
    a_se: Floats
    b: Floats
    b_se: Floats
    c: Floats
    c_se: Floats
    steps: Mapping[str, Floats]
    written: Mapping[str, Floats]
    flags: tuple[tuple[Flag, ...], ...]
    frame_kind: str | None = None

    @classmethod
    def from_calibration(cls, fit: Calibration, frame_kind: str | None) -> ItemTable:
        """Make the table of a calibration's items."""
        rows = []
        for j in range(fit.n_items):
            found = ItemRow(float(fit.a[j]), float(fit.b[j]), further=fit.further_of(j)).steps
            row: dict[str, float] = {}
            for k, (step, se) in found.items():
                row |= {f"b{k}": step, f"b{k}_se": np.nan if se is None else se}
            rows.append(row)
        stated = ("item", "model", "a", "a_se", "b", "b_se", "c", "c_se")
        known = fit.estimated
        a, a_se, b, b_se, c, c_se = (
            np.where(known, x, np.nan) for x in (fit.a, fit.a_se, fit.b, fit.b_se, fit.c, fit.c_se)
        )
        return cls(
            item_ids=fit.item_ids,
            models=fit.models,
            n=fit.n,
            facility=fit.p_values,
            a=a,
            a_se=a_se,
            b=b,
            b_se=b_se,
            c=c,
            c_se=c_se,
            steps=columns_of_rows(rows),
            written={name: x for name, x in fit.item_columns.items() if name not in stated},
            flags=fit.flags,
            frame_kind=frame_kind,
        )

    @property
    def parameters(self) -> ItemParameters:
        """The parameters in this table, without covariances between items."""
        return ItemParameters.from_frame(self._columns())

    def _title(self) -> str:
        return f"{len(self.item_ids):,} items"

    def _columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = {"item": self.item_ids, "model": self.models, "n": self.n, "facility": self.facility}
        columns |= {"a": self.a, "a_se": self.a_se, "b": self.b, "b_se": self.b_se}
        if np.nan_to_num(self.c).any():
            columns |= {"c": self.c, "c_se": self.c_se}
        flags = [", ".join(flag.value for flag in own) for own in self.flags]
        return columns | dict(self.steps) | dict(self.written) | {"flags": flags}

    def _html_columns(self) -> dict[str, Any]:
        return {name: cells for name, cells in self._columns().items() if name not in self.written}

    def _notes(self) -> list[str]:
        return [*flag_notes(self.item_ids, self.flags)]


@dataclass(frozen=True, eq=False, repr=False)
class PersonScores(Result):
    """Abilities of N persons on the scale of the fit.

    Attributes
    ----------
    person_ids
        N labels; row numbers if the responses had no labels.
    n
        Shape (N,), number of responses to items that have parameters.
    theta, se
        Shape (N,), ability and its standard error. Under "ml" θ is ±∞ for response patterns without a finite maximum.
    method
        Estimator of ability, as in `Fit.score`.
    reliability
        Empirical reliability of EAP scores of the persons with a response; NaN for other methods.
    frame_index
        The index of the pandas frame from which the responses were made. `to_frame` returns a pandas frame with this
        index, so that a column fits the frame of the responses. None: there was no such frame.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> truth = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(truth, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> irt.fit(x, "1pl").score(x, "wle").to_frame("pandas").columns.tolist()
    ['person', 'n', 'theta', 'se']
    """

    person_ids: tuple[str | int, ...]
    n: Ints
    theta: Floats
    se: Floats
    method: str
    reliability: float
    frame_kind: str | None = None
    frame_index: Any = None

    def conf_int(self, level: float = 0.95) -> Any:
        """Compute the confidence interval θ ± z·SE of each person; for "eap" it is an interval of the posterior.

        Parameters
        ----------
        level
            Confidence level, above 0 and below 1.

        Returns
        -------
        data frame
            The columns of `to_frame`, then low and high, not rounded; NaN if θ is not finite.

        Raises
        ------
        PsychometricsError
            If the level is not between 0 and 1.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
        >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
        >>> irt.fit(x, "1pl").score(x).conf_int(level=0.9).columns.tolist()
        ['person', 'n', 'theta', 'se', 'low', 'high']
        """
        low, high = normal_interval(np.asarray(self.theta, dtype=float), np.asarray(self.se, dtype=float), level)
        return make(self._columns() | {"low": low, "high": high}, self.frame_kind, self._index())

    def plot(self) -> Chart:
        """Draw a histogram of the abilities.

        Returns
        -------
        Chart
            A notebook shows the figure; `save("figure.png")` writes it.

        Raises
        ------
        PsychometricsError
            If no ability is finite.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
        >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
        >>> irt.fit(x, "1pl").score(x).plot().x_label
        'ability θ'
        """
        from irt_psychometrics.plots.figures import score_distribution

        return score_distribution(self.theta)

    def _title(self) -> str:
        return f"θ of {len(self.theta):,} persons by {self.method.upper()}"

    def _facts(self) -> dict[str, str]:
        known = self.theta[np.isfinite(self.theta)]
        facts = (
            {"mean": format_value(float(known.mean())), "SD": format_value(float(known.std(ddof=1)))}
            if known.size > 1
            else {}
        )
        return facts | ({} if np.isnan(self.reliability) else {"reliability": format_value(self.reliability)})

    def _columns(self) -> dict[str, Any]:
        return {"person": self.person_ids, "n": self.n, "theta": self.theta, "se": self.se}

    def _index(self) -> Any:
        return self.frame_index

    def _notes(self) -> list[str]:
        endless, unknown = int(np.isinf(self.theta).sum()), int((self.n == 0).sum())
        notes = []
        if endless:
            notes.append(f"{endless:,} of {len(self.n):,} persons have no finite maximum; method='wle' gives finite θ.")
        if unknown:
            notes.append(f"{unknown:,} of {len(self.n):,} persons answered no item that has parameters.")
        return notes


@dataclass(frozen=True, eq=False, repr=False)
class FitStatistics(Result):
    """Statistics of how well a fit describes the responses.

    Attributes
    ----------
    item_ids
        J names.
    items
        Shape (J,) each, by name, NaN for items without the statistic: point_biserial (correlation with the rest of the
        items); infit and outfit (mean squares, 1 under the model) with infit_z and outfit_z; rmsd (observed against
        model curve, 0 … 1), rmsd_cutoff (an item that fits exceeds it once in 1,000 times) and rmsd_p; s_x2, s_x2_df
        and s_x2_p (Orlando & Thissen 2000).
    m2
        M₂, or C₂ with scored items, RMSEA, CFI, TLI and SRMSR of the largest forms, a row per form. Only persons who
        answered the whole form count. Of more than 100 items, 100 evenly spaced items are tested.
    q3
        Q3 of all pairs of items, from the persons who answered both.
    reliability
        Empirical reliability of EAP scores, in [0, 1]; NaN for fewer than two persons.
    wle_reliability
        Reliability of Warm's WLEs: 1 − mean SE²/variance of θ, as `WLErel` in R TAM. Below 0 if errors are larger than
        the spread of θ.
    whole
        Further statistics of the whole set as plain data: eigenvalues of residuals, persons with unlikely patterns,
        halves of the items, twins. Sets with more than 1,000,000 responses are represented by a random sample here and
        in m2, q3 and the reliabilities.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> x = irt.datasets.two_forms()[0].responses
    >>> statistics = irt.fit(x, "2pl").fit_statistics(x)
    >>> statistics.misfitting, statistics.q3.flagged
    ((), ())
    >>> round(statistics.wle_reliability, 2), round(statistics.strata, 1)
    (0.84, 3.4)
    """

    item_ids: tuple[str, ...]
    items: Mapping[str, Floats]
    m2: FormFits
    q3: ResidualCorrelations
    reliability: float
    wle_reliability: float
    whole: Mapping[str, Any]
    frame_kind: str | None = None

    @property
    def separation(self) -> float:
        """Person separation G: SD of θ without error, in mean errors (Wright & Masters 1982, eq. 5.4.5).

        It is √(R/(1 − R)) with R the reliability of WLEs; 0 if R is below 0.
        """
        share = max(self.wle_reliability, 0.0) if self.wle_reliability == self.wle_reliability else np.nan
        return float(np.sqrt(share / (1 - share)))

    @property
    def strata(self) -> float:
        """Number of levels of ability that the test distinguishes, (4G + 1)/3 (Wright & Masters 1982, p. 106)."""
        return (4 * self.separation + 1) / 3

    @property
    def misfitting(self) -> tuple[str, ...]:
        """Items with an RMSD above .05 and above their cut-off."""
        rmsd = self.items["rmsd"]
        wrong = (rmsd > MISFIT) & (rmsd > self.items["rmsd_cutoff"])
        return tuple(item for item, bad in zip(self.item_ids, wrong, strict=True) if bad)

    def _title(self) -> str:
        return f"fit of {len(self.item_ids):,} items"

    def _facts(self) -> dict[str, str]:
        facts = {
            "reliability": format_value(self.reliability),
            "separation": format_value(self.separation, 2),
        }
        facts |= {name: value for name, value in self.m2._facts().items() if name in ("RMSEA₂", "CFI", "SRMSR")}
        facts["locally dependent pairs"] = self.q3._facts()["locally dependent pairs"]
        facts["misfitting items"] = format_value(len(self.misfitting))
        return facts

    def _columns(self) -> dict[str, Any]:
        return {"item": self.item_ids, **self.items}

    def _notes(self) -> list[str]:
        bad = self.misfitting
        notes = [f"{some_of(bad)}: the curve does not fit; draw it, or try another model."] if bad else []
        return [*notes, *self.m2._notes(), *self.q3._notes()]


@dataclass(frozen=True, eq=False, repr=False)
class InformationTable(Result):
    """Fisher information about θ.

    Attributes
    ----------
    theta
        Shape (T,), abilities.
    item_ids, items
        J names, and the information of each item, shape (T, J).

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> table = irt.fit(x, "1pl").information([-1.0, 0.0, 1.0])
    >>> table.to_frame("pandas").shape, table.test.argmax()
    ((3, 6), np.int64(1))
    """

    theta: Floats
    item_ids: tuple[str, ...]
    items: Floats
    frame_kind: str | None = None

    @property
    def test(self) -> Floats:
        """Test information, shape (T,): the sum over all items."""
        return self.items.sum(axis=1)

    @property
    def se(self) -> Floats:
        """Standard error of a maximum likelihood θ, shape (T,): 1/√information, ∞ without information."""
        from irt_psychometrics.information.functions import conditional_se

        return conditional_se(self.test)

    def plot(self) -> Picture:
        """Draw test information and the standard error of θ.

        Returns
        -------
        Picture
            Two charts. A notebook shows them; `save("figure.png")` writes them.

        Raises
        ------
        PsychometricsError
            If θ are not at least two increasing abilities.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> table = irt.InformationTable(np.array([-1.0, 0.0, 1.0]), ("q1",), np.array([[0.2], [0.25], [0.2]]))
        >>> table.plot()
        <Picture of 2 charts: 1 items measure best at θ = 0.0, with a standard error of 2.00>
        """
        from irt_psychometrics.plots.figures import increasing, information_picture

        return information_picture(increasing(self.theta), self.test, len(self.item_ids))

    def _title(self) -> str:
        return f"information of {len(self.item_ids):,} items at {len(self.theta):,} θ"

    def _facts(self) -> dict[str, str]:
        best = int(self.test.argmax())
        return {"most": f"{format_value(float(self.test[best]))} at θ = {format_value(float(self.theta[best]), 2)}"}

    def _columns(self) -> dict[str, Any]:
        own = {f"information_{item}": self.items[:, j] for j, item in enumerate(self.item_ids)}
        return {"theta": self.theta, "information": self.test, "se": self.se} | own

    def _html_columns(self) -> dict[str, Any]:
        return {"theta": self.theta, "information": self.test, "se": self.se}


@dataclass(frozen=True, eq=False, repr=False)
class Fit(Result):
    """A fit of item response models: items, distribution of θ, and scores of persons.

    Attributes
    ----------
    calibration
        All estimates with their covariances and flags, and whether the fit converged.
    shape
        The chosen distribution of θ and the reason for it.
    reliability
        Empirical reliability of EAP scores of the persons who were fitted; NaN for fewer than two persons. It is
        computed when it is first read.
    person_log_likelihood
        Shape (N,), marginal log-likelihood of each person's responses; the weighted sum is `log_likelihood`. It is
        computed when it is first read.
    weights, sampling_weights
        Shape (N,), the weights of the persons if `fit` was called with them, else None.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> truth = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3", "q4"], "a": [1, 2, 1, 2], "b": [-1, 0, 0, 1]})
    >>> x = irt.simulate_responses(truth, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> f = irt.fit(x, model="2pl")
    >>> f.converged, f.items.to_frame("pandas").shape
    (True, (4, 10))
    >>> irt.Fit.from_json(f.to_json()) == f
    True
    """

    calibration: Calibration
    shape: Shape
    reliability: WhenRead[float] = WhenRead()  # noqa: RUF009  (a descriptor, not a default)
    person_log_likelihood: WhenRead[Floats] = WhenRead()  # noqa: RUF009
    weights: Floats | None = None
    sampling_weights: Floats | None = None
    frame_kind: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return all values for a pickle; values that were not read yet are computed."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The names of the J items."""
        return self.calibration.item_ids

    @property
    def curves(self) -> ItemCurves:
        """The items' curves."""
        return self.calibration.curves

    @property
    def items(self) -> ItemTable:
        """The items with errors and flags."""
        return ItemTable.from_calibration(self.calibration, self.frame_kind)

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
        return self.calibration.aic

    @property
    def bic(self) -> float:
        """Schwarz's (1978) criterion, log(persons)·(number of parameters) − 2·log L; the lower, the better."""
        return self.calibration.bic

    def summary(self, decimals: int = 3) -> Summary:
        """Summarise the fit for people: numbers about the fit, the distribution of θ, the items and their flags.

        Parameters
        ----------
        decimals
            Digits after the decimal point of items and of θ.

        Returns
        -------
        Summary
            Text if it is printed, HTML in a notebook; `to_latex()` renders it for a paper.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> truth = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
        >>> x = irt.simulate_responses(truth, [0.01 * k for k in range(-200, 201)], random_state=7)
        >>> print(irt.fit(x, "rasch").summary(decimals=2))  # doctest: +ELLIPSIS
        rasch, 401 persons, 3 items
        <BLANKLINE>
        log L        ...
        """
        fit, columns = self.calibration, self.items._columns()
        facts = {name: value for name, value in self._facts().items() if name != "converged"} | {
            "parameters": format_value(self.n_parameters),
            "converged": f"{'yes' if self.converged else 'no'}, after {fit.convergence.iterations:,} iterations",
            "fitted by": f"{fit.engine}, irt-psychometrics {fit.engine_version}",
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        }
        numbers = {"group": "name", "persons": "n_persons", "mean": "mean", "mean_se": "mean_se"}
        numbers |= {"sd": "sd", "sd_se": "sd_se"}
        population = {name: [getattr(group, of) for group in fit.latent] for name, of in numbers.items()}
        names = ["item", "n", "facility", "a", "a_se", "b", "b_se", "c", "c_se", *self.items.steps]
        names[1:1] = ["model"] if len(set(fit.models)) > 1 else []
        names += ["flags"] if any(fit.flags) else []
        items = {name: columns[name] for name in names if name in columns}
        tables = {f"distribution of θ: {self.shape.latent}": population, "items": items}
        return Summary(self._title(), facts, tables, self._doubts(), decimals)

    def conf_int(self, level: float = 0.95) -> Any:
        """Compute confidence intervals of the item parameters.

        The interval is estimate ± z·SE; for c it is computed from logit c, so that it stays between 0 and 1.

        Parameters
        ----------
        level
            Confidence level, above 0 and below 1.

        Returns
        -------
        data frame
            One row per item and parameter, with the columns item, parameter, estimate, se, low and high, not rounded.
            A parameter with a fixed value has an interval of width 0, and a parameter without an error NaN.

        Raises
        ------
        PsychometricsError
            If the level is not between 0 and 1.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> truth = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
        >>> x = irt.simulate_responses(truth, [0.01 * k for k in range(-200, 201)], random_state=7)
        >>> irt.fit(x, "1pl").conf_int()["parameter"].tolist()
        ['a', 'b', 'a', 'b', 'a', 'b']
        """
        of = self.items
        columns = {"a": (of.a, of.a_se), "b": (of.b, of.b_se)}
        if np.nan_to_num(of.c).any():
            columns["c"] = (of.c, of.c_se)
        columns |= {name: (of.steps[name], of.steps[f"{name}_se"]) for name in of.steps if not name.endswith("_se")}
        estimate, se = (np.stack(side, axis=1) for side in zip(*columns.values(), strict=True))  # (J, parameters)
        low, high = normal_interval(estimate, se, level)
        if "c" in columns:
            k = list(columns).index("c")
            with np.errstate(divide="ignore", invalid="ignore"):
                ends = normal_interval(logit(of.c), of.c_se / (of.c * (1 - of.c)), level)
            low[:, k], high[:, k] = (np.where(of.c > 0, expit(end), of.c) for end in ends)
        exists = np.isfinite(estimate)
        exists[:, :2] |= ~exists.any(axis=1, keepdims=True)  # an item without parameters has rows for a and b
        at = np.nonzero(exists)
        values = {"estimate": estimate, "se": se, "low": low, "high": high}
        return make(
            {
                "item": [self.item_ids[j] for j in at[0]],
                "parameter": [list(columns)[k] for k in at[1]],
                **{name: value[at] for name, value in values.items()},
            },
            self.frame_kind,
        )

    def score(self, x: Responses, method: Method = "eap", *, groups: Sequence[Any] | None = None) -> PersonScores:
        """Score persons with the fit's item parameters.

        Parameters
        ----------
        x
            Responses to items of the fit, from the persons who were fitted or from other persons.
        method
            "eap", "map", "ml", "wle" (Warm 1989) or "jeffreys" (called WLE in R mirt). The prior of "eap" is the fit's
            distribution of θ. The prior of "map" is normal with the same mean and SD.
        groups
            N labels, one per person, if the fit has groups. The prior is then the distribution of the person's group.

        Returns
        -------
        PersonScores
            Abilities and standard errors, one row per person.

        Raises
        ------
        PsychometricsError
            If an item is not in the fit, a score exceeds its item's maximum, or the method or a group is unknown.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> truth = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
        >>> x = irt.simulate_responses(truth, [0.01 * k for k in range(-200, 201)], random_state=7)
        >>> scores = irt.fit(x, "1pl").score(x)
        >>> len(scores.theta), scores.method
        (401, 'eap')
        """
        own, labels = self._align(x), _labels(groups, x.n_persons)
        theta, se = np.full(own.n_persons, np.nan), np.full(own.n_persons, np.nan)
        for population, here in populations_of(self.calibration, labels, own.n_persons):
            scores = self._score(own, method, population)
            theta[here], se[here] = scores.theta[here], scores.se[here]
        n = np.bincount(own.person[self.calibration.estimated[own.item]], minlength=own.n_persons)
        reliability = Scores(theta[n > 0], se[n > 0]).reliability if method == "eap" else float("nan")
        ids = x.person_ids or tuple(range(x.n_persons))
        kind = x.frame_kind or self.frame_kind
        return PersonScores(ids, n, theta, se, method, reliability, kind, x.frame_index)

    def fit_statistics(
        self, x: Responses, *, groups: Sequence[Any] | None = None, random_state: int = 0
    ) -> FitStatistics:
        """Compute how well the fit describes the responses from which it was estimated.

        Parameters
        ----------
        x
            The responses that were fitted.
        groups
            N labels, one per person, if the fit has groups.
        random_state
            Seed of the simulated answers with which RMSD, infit and outfit are compared.

        Returns
        -------
        FitStatistics
            Statistics of each item and of the whole set.

        Raises
        ------
        PsychometricsError
            If the fit did not converge, has weights, or lacks an item.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> x = irt.datasets.two_forms()[0].responses
        >>> irt.fit(x, "2pl").fit_statistics(x).m2.to_frame("pandas").round(2).loc[0, ["df", "cfi", "srmsr"]].tolist()
        [405.0, 1.0, 0.03]
        """
        from irt_psychometrics.itemfit.fit_summary import FitSummary  # fits without statistics need no import
        from irt_psychometrics.itemfit.m2 import MAX_ITEMS, FormFits

        if self.weights is not None or self.sampling_weights is not None:
            raise PsychometricsError(
                "fit statistics count each person once, and this fit has weights. Fit the responses without weights, "
                "with a row for each person"
            )
        own, labels = self._align_converged(x), _labels(groups, x.n_persons)
        populations_of(self.calibration, labels, x.n_persons)
        found = FitSummary.from_fit(
            own, self.calibration, groups=labels, form_items=MAX_ITEMS, random_state=random_state
        )
        kind, whole = x.frame_kind or self.frame_kind, dict(found.whole)
        for name in ("m2", "q3", "loadings"):
            del whole[name]
        reliability = whole.pop("reliability")
        return FitStatistics(
            self.item_ids,
            found.items,
            FormFits.from_forms(found.forms or (), self.item_ids, kind),
            found.pairs.correlations(self.item_ids, kind),
            float("nan") if reliability is None else reliability,
            found.persons.reliability,
            whole,
            kind,
        )

    def person_fit(self, x: Responses) -> PersonFit:
        """Test each person's pattern of responses by lz*, infit and outfit.

        θ of each person is Warm's WLE, so the distribution of θ and groups do not matter. Responses may be missing.

        Parameters
        ----------
        x
            Responses to items of the fit, from the persons who were fitted or from other persons.

        Returns
        -------
        PersonFit
            One row per person.

        Raises
        ------
        PsychometricsError
            If the fit did not converge, an item is not in the fit, or a score exceeds its item's maximum.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> x = irt.datasets.two_forms()[0].responses
        >>> persons = irt.fit(x, "2pl").person_fit(x)
        >>> persons.person_ids[:2], len(persons.unlikely) / len(persons.p) < 0.06
        (('p0001', 'p0002'), True)
        """
        from irt_psychometrics.itemfit.person_patterns import person_fit

        found = person_fit(self._align_converged(x), self.calibration)
        return replace(found, frame_kind=x.frame_kind or self.frame_kind, frame_index=x.frame_index)

    def plot(
        self,
        *items: str,
        scores: PersonScores | npt.ArrayLike | None = None,
        responses: Responses | None = None,
        each_score: bool = False,
    ) -> Chart:
        """Draw persons and items on one scale, or response curves of some items with 95 % bands.

        Parameters
        ----------
        items
            Names of items to draw their curves. Without items, a Wright map is drawn.
        scores
            Scores or abilities of persons for the Wright map; None: the fit's distribution of θ.
        responses
            If given, the curves are drawn with observed proportions.
        each_score
            Whether to draw the probability of each score of one item.

        Returns
        -------
        Chart
            A notebook shows the figure; `save("figure.png")` writes it.

        Raises
        ------
        PsychometricsError
            If an item is not in the fit or has no parameters, or `each_score` is used with several items.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> truth = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
        >>> x = irt.simulate_responses(truth, [0.01 * k for k in range(-200, 201)], random_state=7)
        >>> f = irt.fit(x, "1pl")
        >>> f.plot("q1", "q3")
        <Chart: Response curves of q1, q3>
        >>> f.plot(scores=f.score(x))
        <Chart: 3 items and the persons on one scale>
        """
        from irt_psychometrics.plots import figures  # fits that are not plotted need no plotting code

        if not items:
            return figures.wright_map(self.calibration, scores)
        return figures.item_curves(self.calibration, items, responses=responses, each_score=each_score)

    def information(self, theta: npt.ArrayLike | None = None) -> InformationTable:
        """Fisher information of the items and the test.

        Parameters
        ----------
        theta
            Abilities, shape (T,). None: 81 equally spaced values from −4 to 4.

        Returns
        -------
        InformationTable
            Information at each θ, of each item and of the test.
        """
        from irt_psychometrics.information.functions import item_information

        at = np.linspace(-4, 4, 81) if theta is None else np.atleast_1d(np.asarray(theta, dtype=float))
        return InformationTable(at, self.item_ids, item_information(at, self.curves), self.frame_kind)

    def _align_converged(self, x: Responses) -> Responses:
        if not self.converged:
            raise PsychometricsError(
                f"fit statistics need a fit that converged: {self.calibration.convergence.reason}. Fit again first"
            )
        return self._align(x)

    def _align(self, x: Responses) -> Responses:
        return align_responses(x, self.item_ids, self.calibration.n_categories)

    def _score(self, x: Responses, method: Method, population: Population) -> Scores:
        items = self.curves
        if method == "eap":
            return eap_by(x, Curves.from_items(items, population=population))
        try:
            a, d, c, others = items.a, items.d, items.c, items.others
            return estimate_abilities(x, a, d, c, others=others, method=method, mean=population.mean, sd=population.sd)
        except PsychometricsError:
            raise
        except ValueError as error:
            raise PsychometricsError(str(error)) from error

    def _title(self) -> str:
        fit = self.calibration
        return f"{fit.model}, {fit.n_persons:,} persons, {fit.n_items:,} items"

    def _facts(self) -> dict[str, str]:
        facts = {
            "log L": format_value(self.log_likelihood, 2),
            "AIC": format_value(self.aic, 2),
            "BIC": format_value(self.bic, 2),
        }
        facts["reliability"] = format_value(self.reliability)
        return facts if self.converged else facts | {"converged": "no"}

    def _columns(self) -> Mapping[str, Any]:
        return self.items._columns()

    def _html_columns(self) -> Mapping[str, Any]:
        return self.items._html_columns()

    def _doubts(self) -> list[str]:
        """Return why the fit, or items of it, should not be trusted."""
        fit = self.calibration
        notes = [] if self.converged else [f"Not converged: {fit.convergence.reason}."]
        return [*notes, *flag_notes(fit.item_ids, fit.flags)]

    def _notes(self) -> list[str]:
        fit = self.calibration
        several = len(fit.populations) > 1
        of_theta = [
            f"{f'θ of {p.name}' if several else 'θ'} has mean {format_value(p.mean, 2)} and SD {format_value(p.sd, 2)}."
            for p in fit.populations
            if several or (p.mean, p.sd) != (0.0, 1.0)
        ]
        return self._doubts() + of_theta


@overload
def fit(
    x: Responses | Table,
    model: Model | Mapping[str, Model] = "2pl",
    *,
    dimensions: int | Dimensions,
    person: str | int | None = None,
    key: Key | None = None,
    max_score: int | Mapping[Any, int] | None = None,
    priors: Priors | None = None,
    weights: npt.ArrayLike | None = None,
    nodes: int = ...,
    threads: int | None = None,
) -> DimensionsFit: ...


@overload
def fit(
    x: Responses | Table,
    model: Model | Mapping[str, Model] = "2pl",
    *,
    dimensions: None = None,
    person: str | int | None = None,
    key: Key | None = None,
    max_score: int | Mapping[Any, int] | None = None,
    groups: Sequence[Any] | None = None,
    reference: str | None = None,
    anchors: ItemSource | None = None,
    priors: Priors | None = None,
    latent: LatentRule = "normal",
    weights: npt.ArrayLike | None = None,
    sampling_weights: npt.ArrayLike | None = None,
    progress: bool | Progress = False,
    **options: Unpack[FitOptions],
) -> Fit: ...


def fit(
    x: Responses | Table,
    model: Model | Mapping[str, Model] = "2pl",
    *,
    dimensions: int | Dimensions | None = None,
    person: str | int | None = None,
    key: Key | None = None,
    max_score: int | Mapping[Any, int] | None = None,
    groups: Sequence[Any] | None = None,
    reference: str | None = None,
    anchors: ItemSource | None = None,
    priors: Priors | None = None,
    latent: LatentRule = "normal",
    weights: npt.ArrayLike | None = None,
    sampling_weights: npt.ArrayLike | None = None,
    progress: bool | Progress = False,
    **options: Unpack[FitOptions],
) -> Fit | DimensionsFit:
    """Fit item response models by marginal maximum likelihood.

    Parameters
    ----------
    x
        Responses of N persons, or a table with a row for each person, which `Responses.from_wide` reads. Any pattern of
        missing responses is allowed.
    model
        The name of a model for all items, or item → model: "rasch", "1pl", "2pl", "3pl", "pcm", "rsm", "gpcm",
        "grm", "nominal".
    dimensions
        Items that measure several abilities: `Dimensions`, or 2 or 3 to explore them. None: one ability. With several
        abilities, models need slopes of their own, and priors on c, `weights`, `progress`, `nodes` and `threads` apply.
    person, key, max_score
        How to read a table, as in `Responses.from_wide`: the column with the persons' labels, item → right option, and
        the highest score.
    groups
        N labels, one per person. Items are equal across groups; each group has its own mean and SD of θ.
    reference
        The group whose θ has mean 0 and SD 1. None: the largest group, counted by persons with a response; of equally
        large groups the first in sorted order.
    anchors
        Items that keep their parameters: a `Fit`, a `ScaleLink` (the new fit on the old scale) or `ItemParameters`. All
        other items come out on their scale.
    priors
        Priors on a, b and c. None: no prior, except on c of a 3PL. `Priors()`: no prior at all.
    latent
        The distribution of θ: "normal", "histogram" (free weights), or "auto", which tests and chooses.
    weights
        Shape (N,), ≥ 0, the number of persons with the same answers that each person represents. The estimates and
        errors are those of a fit in which the rows of each person are repeated this many times.
    sampling_weights
        Shape (N,), > 0 in any unit, the number of members of the population that each person of a sample with unequal
        probabilities represents. The errors are then robust (sandwich), and AIC and BIC cannot be used to compare fits.
    progress
        True: a progress bar (needs tqdm). A function: called after each iteration with the iteration's number and the
        largest change of a parameter.
    options
        The options in `estimation.FitOptions`, such as `testlets`, `max_iterations` and `threads`. `estimation.fit_em`
        explains each of them.

    Returns
    -------
    Fit or DimensionsFit
        Item parameters, the distribution of θ, and the log-likelihood of each person. With `dimensions`: slopes on each
        dimension and the correlations of dimensions.

    Warns
    -----
    NotConvergedWarning
        If the fit did not converge.
    ItemWarning
        For each kind of flag, with the flagged items.

    Raises
    ------
    PsychometricsError
        If nothing can be estimated or the request makes no sense. The message names the item and the remedy.
    TypeError
        If an option is unknown.

    Notes
    -----
    EM of Bock & Aitkin (1981) with quasi-Newton steps (Lange 1995); errors from the observed information (Louis 1982).

    References
    ----------
    Bock, R. D. & Aitkin, M. (1981). Marginal maximum likelihood estimation of item parameters: application of an EM
    algorithm. Psychometrika, 46, 443-459.
    Lange, K. (1995). A quasi-Newton acceleration of the EM algorithm. Statistica Sinica, 5, 1-18.
    Louis, T. A. (1982). Finding the observed information matrix when using the EM algorithm. JRSS B, 44, 226-233.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> truth = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(truth, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> seen = []
    >>> f = irt.fit(x, {"q1": "1pl", "q2": "1pl", "q3": "1pl"}, progress=lambda n, change: seen.append(n))
    >>> f.converged, seen[:3]
    (True, [1, 2, 3])
    >>> choices = {"who": [*range(60)], "q1": [*"AAABBB"] * 10, "q2": [*"CCDDDC"] * 10}
    >>> irt.fit(choices, "rasch", person="who", key={"q1": "A", "q2": "C"}).item_ids
    ('q1', 'q2')
    """
    if not isinstance(x, Responses):
        x = Responses.from_wide(x, person=person, key=key, max_score=max_score)
    elif not (person is None and key is None and max_score is None):
        raise PsychometricsError(
            "person, key and max_score must be given to Responses.from_wide or from_long if fit gets Responses"
        )
    labels, models = _labels(groups, x.n_persons), _models(x, model)
    if unknown := options.keys() - FitOptions.__annotations__.keys():
        raise TypeError(f"fit() has no option {', '.join(sorted(unknown))}")
    counts, sampling = (None if w is None else np.asarray(w, dtype=float) for w in (weights, sampling_weights))
    if dimensions is not None:
        from irt_psychometrics.dimension_fits import fit_with_dimensions  # imports SciPy

        others = {"groups": groups, "reference": reference, "anchors": anchors, "sampling_weights": sampling_weights}
        others["latent"] = None if latent == "normal" else latent
        with _report_progress(progress):
            several = fit_with_dimensions(x, dimensions, models, priors, counts, **others, **options)
        _warn(several, "Leave out the items named, tie their slopes, or fit fewer dimensions", several.flag_notes)
        return several
    request: dict[str, Any] = {**options, "groups": labels, "reference": reference, "priors": priors}
    request |= {"weights": counts, "sampling_weights": sampling, "data_hash": digest(x, counts, sampling)}
    request |= {"anchors": None if anchors is None else anchors_from(anchors)}
    with _report_progress(progress):
        if latent == "auto":
            single = groups is None and anchors is None and counts is None and sampling is None
            if not single or isinstance(model, Mapping):
                raise PsychometricsError(
                    "latent='auto' is for one model of all items without groups, anchors and weights; choose 'normal' "
                    "or 'histogram'"
                )

            def one(r: Responses, m: Any, of: Any, /, **more: Any) -> Calibration:
                return fit_em(r, **(request | more | {"model": m, "latent": of}))

            calibration, shape = Shape.fit(one, x, models, latent)
        else:
            calibration = fit_em(x, model=models, latent=latent, **request)
            shape = Shape(latent, f"θ is taken as {'normal' if latent == 'normal' else 'a histogram'}, as requested")
    weight = counts if sampling is None else sampling
    persons = cache(lambda: fitted_posteriors(x, calibration, groups=labels))
    found = Fit(
        calibration,
        shape,
        reliability=lambda: reliability_of(persons(), weight),
        person_log_likelihood=lambda: persons().log_likelihood,
        weights=counts,
        sampling_weights=sampling,
        frame_kind=x.frame_kind,
    )
    way_out = (
        "Raise max_iterations if only the limit was reached; else leave out the items named, give priors, or fit a"
    )
    _warn(found, f"{way_out} model with fewer parameters", flag_notes(found.item_ids, calibration.flags))
    return found


def anchors_from(source: ItemSource, item_ids: Sequence[str] | None = None) -> AnchorSet:
    """The items of a fit, or given parameters, as anchors. Items without parameters or with a ≤ 0 are left out.

    If the errors of an item's a and b are unknown, the errors of a calibration with 500 persons are assumed.

    Raises PsychometricsError if an item of `item_ids` does not exist or is repeated, or if no item is left.
    """
    if isinstance(source, AnchorSet):
        return source
    items = require_items(source, "anchors")
    if item_ids is not None and (lost := [item for item in item_ids if item not in set(items.item_ids)]):
        raise PsychometricsError(f"{some_of(lost)} cannot be an anchor: no parameters have this name")
    chosen = items.item_ids if item_ids is None else tuple(item_ids)
    if len(set(chosen)) != len(chosen):
        raise PsychometricsError("an item is named twice among the anchors; name it once")
    known = items.select(chosen).with_assumed_covariances()
    with np.errstate(invalid="ignore"):
        usable = known.curves.known & (known.a > 0) & np.isfinite(known.b)
        errors = np.isfinite(known.a_se) & np.isfinite(known.b_se) & (known.b_se > 0) & np.isfinite(known.cov_ab)
    assumed = ~errors[usable]
    known = known.select([item for item, use in zip(chosen, usable, strict=True) if use])
    if not known.item_ids:
        raise PsychometricsError(f"no item of {some_of(chosen)} has parameters with a > 0, so there is no anchor")
    if assumed.any():
        cov = known.cov_of_each.copy()
        a_se, b_se, cov_ab = assumed_errors(known.a, known.b, known.c, known.others)
        stand_in = np.stack([np.stack([a_se**2, cov_ab], axis=1), np.stack([cov_ab, b_se**2], axis=1)], axis=1)
        cov[assumed] = stand_in[assumed]
        known = replace(known, cov=cov)
    own = {name: value for name, value in vars(known).items() if name in ItemParameters.__dataclass_fields__}
    k = len(known.item_ids)
    return AnchorSet(**own, scale_id="old", version="", topics=(None,) * k, errors_assumed=assumed)


def populations_of(fit: Calibration, labels: list[str] | None, n_persons: int) -> list[tuple[Population, Mask]]:
    """The distribution of θ in each group, and which of the N persons are in the group, shape (N,).

    Raises PsychometricsError if a label is not a group of the fit, or if the fit has several groups and labels is None.
    """
    names = [population.name for population in fit.latent]
    if labels is None:
        if len(names) > 1:
            raise PsychometricsError(f"the fit has the groups {some_of(names)}: give groups=, the label of each person")
        return [(fit.latent[0], np.ones(n_persons, dtype=bool))]
    if strange := set(labels) - set(names):
        raise PsychometricsError(f"the fit has no group {min(strange)!r}; its groups are {some_of(names)}")
    of_person = np.array(labels, dtype=object)
    return [(population, of_person == population.name) for population in fit.latent]


def digest(x: Responses, *weights: Floats | None) -> str:
    """Return a hash of the responses and weights, in hexadecimal. It depends on the order of persons and items."""
    found = blake2b(digest_size=16)
    n_answers = np.bincount(x.person, minlength=x.n_persons)  # says as much as the sorted persons, in fewer bytes
    items = x.item.astype(np.min_scalar_type(x.n_items))
    for part in (n_answers, items, x.score, x.n_categories.astype(np.int64)):
        found.update(np.ascontiguousarray(part).data)
    found.update("\n".join([str(x.n_persons), *x.item_ids]).encode())
    for name, of_persons in zip(("weights", "sampling weights"), weights, strict=False):
        if of_persons is not None:
            found.update(name.encode())
            found.update(np.ascontiguousarray(of_persons).data)
    return found.hexdigest()


def _labels(groups: Sequence[Any] | None, n_persons: int) -> list[str] | None:
    """Labels as text. Raises PsychometricsError if a label is missing or their number is not `n_persons`."""
    if groups is None:
        return None
    labels = list(groups)
    if len(labels) != n_persons:
        raise PsychometricsError(f"groups must be {n_persons} labels, one per person; got {len(labels)}")
    for k, label in enumerate(labels):
        if label is None or label != label:  # NaN, too
            raise PsychometricsError(f"person {k} (counted from 0) has no group; name one, or leave the person out")
    return [str(label.as_py()) if hasattr(label, "as_py") else str(label) for label in labels]


def _models(x: Responses, model: Model | Mapping[str, Model]) -> Any:
    if isinstance(model, str):
        return model.lower()
    if missing := [item for item in x.item_ids if item not in model]:
        raise PsychometricsError(f"no model is named for {some_of(missing)}; name one for each item")
    if strange := [item for item in model if item not in set(x.item_ids)]:
        raise PsychometricsError(
            f"a model is named for {some_of(strange)}, not among the items ({some_of(x.item_ids)})"
        )
    return tuple(model[item].lower() for item in x.item_ids)


@contextmanager
def _report_progress(progress: bool | Progress) -> Iterator[None]:
    if not progress:
        yield
    elif callable(progress):
        with report_progress(progress):
            yield
    else:
        with _bar() as advance, report_progress(advance):
            yield


@contextmanager
def _bar() -> Iterator[Callable[[int, float], object]]:
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise PsychometricsError(
            "progress=True needs tqdm; install it, or give a function of the iteration and the largest change"
        ) from error
    with tqdm(desc="fit", unit=" iterations") as bar:

        def advance(number: int, change: float) -> None:  # noqa: ARG001
            bar.set_postfix_str(f"largest change {change:.1e}", refresh=False)
            bar.update()

        yield advance


def _warn(found: Fit | DimensionsFit, way_out: str, notes: Iterable[str]) -> None:
    convergence = found.calibration.convergence
    if not convergence.converged:
        message = f"the fit did not converge: {convergence.reason}. {way_out}"
        warnings.warn(message, NotConvergedWarning, stacklevel=3)
    for note in notes:
        warnings.warn(note, ItemWarning, stacklevel=3)

"""Fits: the `Calibration`, the flags of its items, and the groups of persons to which it was fitted.

The item response function is the logistic one with D = 1,
    P(x = 1 | θ) = c + (1 − c) / (1 + exp(−(a·θ + d))),   d = −a·b.
Engines estimate slope `a` and intercept `d`; difficulty `b` and its errors follow by the delta method,
because b = −d/a explodes for a flat item while (a, d) stays well behaved.

The scale of an unlinked fit is identified by θ ~ N(0, 1) in the reference group, or in the whole sample if there are no
groups. The scale of a Rasch fit is identified by a = 1 and a mean of 0 (the latent SD is free). Anchored fits have the
scale of their anchors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats as Floats, Ints, Mask
from irt_psychometrics.core.covariances import block_diagonal, times_both_sides
from irt_psychometrics.core.item_models import (
    ItemCurves,
    OtherItems,
    item_model,
    model_of,
    parts,
    select_others,
)
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.logistic import logit
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.core.named_values import Meaning, NameWithMeaning
from irt_psychometrics.core.options import Model as Model
from irt_psychometrics.core.results import Result, format_value


@dataclass(frozen=True)
class _Meaning(Meaning):
    """A flag's properties.

    Attributes:
        anchors_may_carry: whether linking uses an anchor in spite of the flag. Slopes are checked separately, and if c
            comes from its prior, the curve in the range of the learners is as well known as any other.
        key_doubt: the reason why the drift report proposes to check the item's key; empty if it does not.
    """

    anchors_may_carry: bool = False
    key_doubt: str = ""


class Flag(NameWithMeaning):
    """The reason why an engine could not estimate an item, or could estimate it only badly.

    PROVISIONAL follows from a scale's rules: stored fits contain it, and a `Calibration` does not.
    """

    meaning: _Meaning

    ALL_CORRECT = _Meaning(
        "all_correct",
        "every learner answered it correctly, so it has no finite difficulty",
        key_doubt="every learner answered it correctly, so it has no finite difficulty; "
        "a key that accepts any answer has the same effect",
    )
    ALL_WRONG = _Meaning(
        "all_wrong",
        "no learner answered it correctly, so it has no finite difficulty",
        key_doubt="no learner answered it correctly, so it has no finite difficulty; "
        "a key that accepts any answer has the same effect",
    )
    NO_DATA = _Meaning("no_data", "no learner answered it in this window")
    AT_BOUND = _Meaning("at_bound", "the estimate stopped at a bound and is not a maximum")
    UNIDENTIFIED = _Meaning("unidentified", "the responses do not determine its parameters (information is singular)")
    NEGATIVE_DISCRIMINATION = _Meaning(
        "negative_discrimination",
        "stronger learners get it wrong more often; check the answer key",
        anchors_may_carry=True,
        key_doubt="stronger learners get it wrong more often",
    )
    DUPLICATE = _Meaning(
        "duplicate", "the same learners gave it the same answers as another item: one of the two counts twice"
    )
    GUESSING_UNIDENTIFIED = _Meaning(
        "guessing_unidentified",
        "its answers hardly determine guessing: c reflects the prior or a bound",
        anchors_may_carry=True,
    )
    PROVISIONAL = _Meaning("provisional", "it has too few responses to be published, or to be used for a reported θ")


@dataclass(frozen=True)
class Convergence:
    """The state in which the optimiser ended. `reason` is a sentence, and is not empty if `converged` is false."""

    converged: bool
    iterations: int
    max_change: float
    max_gradient: float
    loglik: float
    n_parameters: int
    reason: str = ""

    @property
    def aic(self) -> float:
        """Akaike's (1974) information criterion, −2 log L + 2 k for k parameters."""
        return 2 * self.n_parameters - 2 * self.loglik

    def bic(self, n_persons: int) -> float:
        """Compute the criterion of Schwarz (1978), −2 log L + k log N for k parameters and N persons."""
        return self.n_parameters * float(np.log(max(n_persons, 1))) - 2 * self.loglik


@dataclass(frozen=True)
class Population:
    """The ability distribution of one group of a fit, on the fit's scale.

    The distribution is normal unless it has `nodes` and `weights` (of equal length, weights summing to 1). With these
    it is a histogram, and `mean` and `sd` are its moments. An error is 0 if the value was set and not estimated, and
    NaN if it is not known.
    """

    name: str
    n_persons: int
    mean: float
    sd: float
    mean_se: float
    sd_se: float
    nodes: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()

    @classmethod
    def normal(cls, mean: float, sd: float, n_persons: int = 0) -> Self:
        """The population N(mean, sd²), with errors of 0."""
        return cls("all", n_persons, mean, sd, 0.0, 0.0)

    def log_density(self, theta: Floats) -> Floats:
        """Log density at `theta` up to a constant; for a histogram, linear between its nodes."""
        if not self.nodes:
            return -0.5 * ((theta - self.mean) / self.sd) ** 2
        least = np.finfo(float).tiny
        logs = np.log(np.maximum(self.weights, least))
        return np.interp(theta, self.nodes, logs, left=np.log(least), right=np.log(least))

    def rescaled(self, slope: float, intercept: float) -> Self:
        """The same population on θ* = slope·θ + intercept, slope > 0."""
        return replace(
            self,
            mean=slope * self.mean + intercept,
            sd=slope * self.sd,
            mean_se=slope * self.mean_se,
            sd_se=slope * self.sd_se,
            nodes=tuple(slope * node + intercept for node in self.nodes),
        )


def ab_by_ad(a: Floats, d: Floats) -> Floats:
    """∂(a, b)/∂(a, d), shape (J, 2, 2), with ∂b/∂a = d/a² and ∂b/∂d = −1/a."""
    jacobian = np.zeros((len(a), 2, 2))
    jacobian[:, 0, 0], jacobian[:, 1, 0], jacobian[:, 1, 1] = 1.0, d / a**2, -1.0 / a
    return jacobian


@dataclass(frozen=True, eq=False, repr=False)
class Calibration(Result):
    """One engine's estimates for J items, on the fit's own scale or (after linking) on the bank's.

    Attributes:
        models: J names of item models.
        a, d, c: shape (J,), slope, intercept and lower asymptote; NaN for items that could not be estimated.
        cov: shape (J, P, P), covariance of each item's parameters on the scale of estimation: a, d, and the parameters
            that its model adds, such as logit c. NaN if it is not known, 0 for parameters that an item does not have.
        joint_cov: covariance of a_1, d_1, a_2, d_2, …, and then, item by item, of the free parameters of scores, at the
            `places_of_parameters`. None if only `cov` was kept.
        n, n_correct: shape (J,), numbers of responses and of correct responses (responses in the highest category).
        flags: J tuples of `Flag`.
        latent_mean, latent_sd: mean and SD of θ on this scale in the fitted population, all groups together.
        populations: the ability distribution of each group, the reference group first; empty if the engine has none.
        priors: the priors of the item parameters, as `Priors.as_dict`; empty if there were none.
        anchored: the items whose parameters were given and held. Their errors are 0, because this fit did not estimate
            them.
        software: versions of the software in which the engine runs, besides `engine_version`; may be empty.
        categories: shape (J,), the number of categories of each item; None if all items have two.
        score_sums: shape (J,), the sum of all scores of an item; None if all scores are 0 or 1 (then it is
            `n_correct`).
        further: shape (J, M), the parameters besides a, d and c, in the order of `ItemModel.parameter_names`; NaN for
            parameters that an item does not have. None if no item has such parameters.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> calibration = irt.fit(x, "rasch").calibration
    >>> irt.Calibration.from_json(calibration.to_json()) == calibration
    True
    """

    item_ids: tuple[str, ...]
    models: tuple[Model, ...]
    engine: str
    engine_version: str
    a: Floats
    d: Floats
    c: Floats
    cov: Floats
    joint_cov: Floats | None
    n: Ints
    n_correct: Ints
    flags: tuple[tuple[Flag, ...], ...]
    latent_mean: float
    latent_sd: float
    n_persons: int
    convergence: Convergence
    data_hash: str = ""
    populations: tuple[Population, ...] = ()
    priors: dict[str, Any] = field(default_factory=dict)
    anchored: tuple[str, ...] = ()
    software: dict[str, str] = field(default_factory=dict)
    categories: Ints | None = None
    further: Floats | None = None
    score_sums: Ints | None = None
    frame_kind = None  # not a field, because the platform stores all fields

    @classmethod
    def from_stored(cls, kept: Mapping[str, Any]) -> Self:
        """Make a calibration from stored attributes, by name.

        Tuples may be lists, flags texts, and nested records mappings, as in JSON. Arrays must be arrays.
        """
        plain = dict(kept)
        for name in ("item_ids", "models", "anchored"):
            plain[name] = tuple(plain.get(name, ()))
        plain["flags"] = tuple(tuple(Flag(flag) for flag in flags) for flags in plain["flags"])
        plain["convergence"] = Convergence(**plain["convergence"])
        plain["populations"] = tuple(
            Population(**population | {name: tuple(population[name]) for name in ("nodes", "weights")})
            for population in plain.get("populations", ())
        )
        return cls(**plain)

    def _title(self) -> str:
        return f"{self.model} by {self.engine}, {self.n_persons:,} persons, {self.n_items:,} items"

    def _facts(self) -> dict[str, str]:
        facts = {"log L": format_value(self.convergence.loglik, 2)}
        return facts if self.convergence.converged else facts | {"converged": "no"}

    def _columns(self) -> dict[str, Any]:
        written = {name: cells for name, cells in self.item_columns.items() if name not in ("item", "model")}
        flags = [", ".join(flag.value for flag in own) for own in self.flags]
        known = {"item": self.item_ids, "model": self.models, "n": self.n, "facility": self.p_values}
        return known | written | {"flags": flags}

    def _html_columns(self) -> dict[str, Any]:
        return {name: cells for name, cells in self._columns().items() if not name.startswith("cov_")}

    @property
    def n_items(self) -> int:
        """J, the number of items."""
        return len(self.item_ids)

    @property
    def n_responses(self) -> int:
        """Number of responses."""
        return int(self.n.sum())

    @property
    def p_values(self) -> Floats:
        """The mean score as a share of the maximum score, shape (J,); NaN for items without responses.

        For scores of 0 and 1 it is the proportion correct.
        """
        points = self.n_correct if self.score_sums is None else self.score_sums / (self.n_categories - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = points / self.n
        return found

    @property
    def model(self) -> str:
        """The name of the model of all items, or the names of their models joined by +."""
        return self.item_model.name

    @property
    def item_model(self) -> ItemModel:
        """The model of all items; a `MixedModel` if they differ."""
        return model_of(self.models)

    @property
    def latent(self) -> tuple[Population, ...]:
        """The populations. If the engine has none, one normal population with `latent_mean` and `latent_sd`."""
        return self.populations or (Population.normal(self.latent_mean, self.latent_sd, self.n_persons),)

    @property
    def n_categories(self) -> Ints:
        """The number of categories of each item, shape (J,)."""
        return np.full(self.n_items, 2) if self.categories is None else self.categories

    @property
    def parameters(self) -> Floats:
        """The parameters in the form of `model_families`, shape (P, J); 0 for those that an item does not have."""
        more = [] if self.further is None else [*np.where(np.isnan(self.further), 0.0, self.further).T]
        guessed = self.item_model.guessed(self.n_items)
        if guessed.any():
            with np.errstate(divide="ignore"):
                third = logit(self.c)
            more[:1] = [np.where(guessed, third, more[0]) if more else third]
        return np.stack([self.a, self.d, *more])

    @property
    def curves(self) -> ItemCurves:
        """The items' curves."""
        return ItemCurves(self.a, self.d, self.c, self._others)

    @property
    def _others(self) -> tuple[OtherItems, ...]:
        items = parts(self.item_model, self.parameters, self.n_categories)
        places = np.where(self.estimated, np.arange(self.n_items), -1)
        return select_others((some for some in items if some.model.path != "logistic"), places, self.n_items)

    @property
    def places_of_parameters(self) -> Ints:
        """Row of each item's a, d and further parameters in `joint_cov`, shape (J, 2 + M); −1 if they have none."""
        return places_of_parameters(self.item_model, self.n_categories, self.further)

    def further_of(self, j: int) -> dict[str, float]:
        """An item's parameters besides a, d and c, and their errors, under the names `u` and `u_se`.

        For a scored item that has all scores, the errors of its steps are included.
        """
        if self.further is None:
            return {}
        errors = _root(self.cov[j].diagonal()[2:])
        model, categories = item_model(self.models[j]), int(self.n_categories[j])
        size = len(model.parameter_names(categories)) - 2
        own = np.array([self.a[j], self.d[j], *self.further[j, :size]])
        steps = model.step_errors(own, self.cov[j, : own.size, : own.size])
        found = model.stored_values(self.further[j], errors, categories) | steps
        return {name: value for name, value in found.items() if name not in ("c", "c_se")}

    @property
    def estimated(self) -> Mask:
        """Mask of the items that have parameters, shape (J,)."""
        return np.isfinite(self.a) & np.isfinite(self.d)

    @property
    def b(self) -> Floats:
        """Difficulty −d/a; ±inf for a = 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return -self.d / self.a

    @property
    def a_se(self) -> Floats:
        """Standard errors of a, shape (J,)."""
        return _root(self.cov[:, 0, 0])

    @property
    def d_se(self) -> Floats:
        """Standard errors of d, shape (J,)."""
        return _root(self.cov[:, 1, 1])

    @property
    def c_se(self) -> Floats:
        """Standard error of c, shape (J,), by the delta method with dc/d logit c = c(1 − c); 0 if c is fixed at 0."""
        return self.c * (1 - self.c) * (_root(self.cov[:, 2, 2]) if self.cov.shape[1] > 2 else 0.0)

    @property
    def cov_ab(self) -> Floats:
        """Covariance of (a, b) by the delta method, shape (J, 2, 2)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            g = ab_by_ad(self.a, self.d)
            return g @ self.cov[:, :2, :2] @ g.transpose(0, 2, 1)

    @property
    def further_cov_ab(self) -> Floats | None:
        """Covariances of the further parameters with (a, b) and with each other, shape (J, M, 2 + M).

        Further parameters are on the scale of estimation. Entries are 0 for parameters that were not estimated. None if
        no item has further parameters.
        """
        if self.cov.shape[1] == 2:
            return None
        found = self.cov[:, 2:].copy()
        with np.errstate(divide="ignore", invalid="ignore"):
            found[:, :, :2] = found[:, :, :2] @ ab_by_ad(self.a, self.d).swapaxes(1, 2)
        return np.nan_to_num(found)

    @property
    def b_se(self) -> Floats:
        """Standard errors of b by the delta method, shape (J,)."""
        return _root(self.cov_ab[:, 1, 1])

    @property
    def items(self) -> ItemParameters:
        """The items; covariances between items are included only if the fit kept them."""
        of_pairs = slice(0, 2 * self.n_items)
        if self.joint_cov is None or not np.isfinite(self.joint_cov[of_pairs, of_pairs]).all():
            cov = self.cov_ab
        else:
            g = block_diagonal(ab_by_ad(self.a, self.d))
            cov = (g @ self.joint_cov[: len(g), : len(g)] @ g.T)[None]
        return ItemParameters(self.item_ids, self.a, self.b, self.c, cov, self.further_cov_ab, self._others)

    @property
    def item_columns(self) -> dict[str, Any]:
        """The columns of a table of the items, which has covariances within an item alone."""
        cov, further = self.cov_ab, self.further_cov_ab
        return ItemParameters(self.item_ids, self.a, self.b, self.c, cov, further, self._others)._columns()

    @property
    def aic(self) -> float:
        """Akaike's information criterion, −2 log L + 2 k for k parameters."""
        return self.convergence.aic

    @property
    def bic(self) -> float:
        """Schwarz's information criterion, −2 log L + k log N for k parameters and N persons."""
        return self.convergence.bic(self.n_persons)

    def select(self, keep: npt.ArrayLike) -> Self:
        """Select items of a fit; `keep` is a boolean mask (J,) or indices.

        Returns
        -------
        Calibration
            The fit with these items only.
        """
        idx = np.arange(self.n_items)[np.asarray(keep)]
        places = self.places_of_parameters[idx]
        kept = np.concatenate([places[:, :2].ravel(), places[:, 2:][places[:, 2:] >= 0]])
        return replace(
            self,
            item_ids=tuple(self.item_ids[i] for i in idx),
            models=tuple(self.models[i] for i in idx),
            a=self.a[idx],
            d=self.d[idx],
            c=self.c[idx],
            cov=self.cov[idx],
            joint_cov=None if self.joint_cov is None else self.joint_cov[np.ix_(kept, kept)],
            n=self.n[idx],
            n_correct=self.n_correct[idx],
            flags=tuple(self.flags[i] for i in idx),
            anchored=tuple(item for item in self.anchored if item in {self.item_ids[i] for i in idx}),
            categories=None if self.categories is None else self.categories[idx],
            further=None if self.further is None else self.further[idx],
            score_sums=None if self.score_sums is None else self.score_sums[idx],
        )

    def standardised(self, mean: float, sd: float) -> Self:
        """Move a fit to the scale on which the population with this mean and SD has mean 0 and SD 1.

        Returns
        -------
        Calibration
            The same fit on this scale. If slopes are fixed at 1 (Rasch family), only the mean changes.
        """
        slope = 1.0 if self.item_model.fixed_slopes else 1 / sd
        return self.rescaled(slope, -slope * mean)

    def rescaled(self, slope: float, intercept: float) -> Self:
        """Move a fit to θ* = slope·θ + intercept, slope > 0: a* = a/slope, d* = d − a·intercept/slope.

        Returns
        -------
        Calibration
            The same fit on the new scale.
        """
        own = np.array([[1 / slope, 0.0], [-intercept / slope, 1.0]])  # ∂(a*, d*)/∂(a, d)
        joint = self.joint_cov
        if joint is not None:
            J, joint = self.n_items, joint.copy()
            for _ in range(2):  # every row pair, then every column pair
                joint[: 2 * J] = (own @ joint[: 2 * J].reshape(J, 2, -1)).reshape(2 * J, -1)
                joint = np.ascontiguousarray(joint.T)
        cov, further = self.cov.copy(), np.zeros((self.n_items, 0)) if self.further is None else self.further.copy()
        for some in parts(self.item_model, np.stack([self.a, self.d, *further.T]), self.n_categories):
            by = some.model.jacobian(slope, intercept, cov.shape[1])
            cov[some.at] = times_both_sides(by, cov[some.at])
            moved = some.rescaled(self.a, self.d, slope, intercept).further
            further[some.at, : len(moved)] = moved.T
        return replace(
            self,
            a=self.a / slope,
            d=self.d - self.a * intercept / slope,
            cov=cov,
            joint_cov=joint,
            latent_mean=slope * self.latent_mean + intercept,
            latent_sd=slope * self.latent_sd,
            populations=tuple(population.rescaled(slope, intercept) for population in self.populations),
            further=None if self.further is None else further,
        )


def places_of_parameters(model: ItemModel, categories: Ints, further: Floats | None) -> Ints:
    """Rows of parameters in `Calibration.joint_cov`; see `Calibration.places_of_parameters`.

    Free parameters belong to the scores between an item's lowest and highest score.
    """
    pairs = np.arange(2 * len(categories)).reshape(-1, 2)
    if further is None:
        return pairs
    free = np.zeros(further.shape, dtype=bool)
    for some in parts(model, np.pad(further.T, ((2, 0), (0, 0))), categories):
        if some.model.by_score:
            given = some.model.scores_with_parameters(some.further, some.categories)
            free[some.at, : len(some.further)] = some.model.free(some.categories, given)[2:].T
    places = np.full(free.shape, -1)
    places[free] = pairs.size + np.arange(free.sum())
    return np.column_stack([pairs, places])


def spread(values: Floats, kept: npt.NDArray[np.integer[Any]], n_items: int, blank: float = np.nan) -> Floats:
    """Put the values of K items at their places `kept` (K,) among all, and `blank` elsewhere; axis 0 is items."""
    out = np.full((n_items, *values.shape[1:]), blank)
    out[kept] = values
    return out


def pool_moments(sizes: npt.ArrayLike, means: Floats, sds: Floats) -> tuple[float, float]:
    """Mean and SD of θ over the persons of G groups together; arguments have shape (G,), `sizes` in any unit."""
    share = np.asarray(sizes, dtype=float)
    share = share / share.sum()
    mean = float(share @ means)
    return mean, float(np.sqrt(share @ (sds**2 + (means - mean) ** 2)))


def _root(variance: Floats) -> Floats:
    """Square root of a variance; NaN if it is negative or missing."""
    return np.sqrt(np.where(variance >= 0, variance, np.nan))

"""Prior distributions of item parameters, their log densities and derivatives.

Every density is the density of the named quantity, without a Jacobian for the scale of the optimiser: `LogNormal` and
`Normal` of a and b, `Beta` of c, `LogitNormal` of logit c. So if the answers contain no information about c, the
estimate with a Beta(α, β) prior is (α − 1)/(α + β − 2). BILOG and mirt follow the same conventions.
"""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.logistic import expit, log_expit, logit

_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


class Terms(NamedTuple):
    """Log density, its derivative and its negative second derivative, each in the shape of the argument."""

    density: Floats
    slope: Floats
    bend: Floats


def _require(prior: object, **conditions: bool) -> None:
    for name, holds in conditions.items():
        if not holds:
            kind = type(prior).__name__
            least = "above 1" if kind == "Beta" else "above 0"
            raise PsychometricsError(f"{kind} prior: {name} must be {least}, got {getattr(prior, name)}")


@dataclass(frozen=True)
class _MeanAndSd:
    mean: float
    sd: float

    def __post_init__(self) -> None:
        _require(self, sd=self.sd > 0)


class Normal(_MeanAndSd):
    """Prior b ~ N(mean, sd²) of difficulties, with sd > 0.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> irt.Priors(b=irt.Normal(0, 2)).as_dict()
    {'b': {'family': 'Normal', 'mean': 0, 'sd': 2}}
    """

    def terms(self, value: Floats) -> Terms:
        """Compute the log density of b and its derivatives.

        Parameters
        ----------
        value
            Values of b, of any shape.

        Returns
        -------
        Terms
            Log density, slope and negative second derivative, in the shape of `value`.
        """
        z = (value - self.mean) / self.sd
        return Terms(
            -0.5 * z**2 - np.log(self.sd) - _HALF_LOG_2PI,
            -z / self.sd,
            np.full_like(z, self.sd**-2.0),
        )


class LogNormal(_MeanAndSd):
    """Prior ln a ~ N(mean, sd²) of slopes, with sd > 0, as a density of a > 0.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> irt.LogNormal(mean=0, sd=0.5)
    LogNormal(mean=0, sd=0.5)
    """

    def terms(self, value: Floats) -> Terms:
        """Compute the log density of a and its derivatives.

        Parameters
        ----------
        value
            Values of a above 0, of any shape.

        Returns
        -------
        Terms
            Log density, slope and negative second derivative, in the shape of `value`.
        """
        z = (np.log(value) - self.mean) / self.sd
        return Terms(
            -0.5 * z**2 - np.log(self.sd) - _HALF_LOG_2PI - np.log(value),
            -(1 + z / self.sd) / value,
            (self.sd**-2.0 - 1 - z / self.sd) / value**2,
        )


class LogitNormal(_MeanAndSd):
    """Prior logit c ~ N(mean, sd²) of lower asymptotes, with sd > 0, as a density of logit c.

    Examples
    --------
    A prior around c = 1/(1 + e^1.39) = .2:

    >>> import irt_psychometrics as irt
    >>> irt.LogitNormal(-1.39, 0.5).mode
    -1.39
    """

    @property
    def mode(self) -> float:
        """The mode of logit c."""
        return self.mean

    def terms(self, value: Floats) -> Terms:
        """Compute the log density of logit c and its derivatives.

        Parameters
        ----------
        value
            Values of logit c, of any shape.

        Returns
        -------
        Terms
            Log density, slope and negative second derivative, in the shape of `value`.
        """
        return Normal(self.mean, self.sd).terms(value)


@dataclass(frozen=True)
class Beta:
    """Prior c ~ Beta(alpha, beta) of lower asymptotes, as a density of c. With alpha, beta > 1 it has a mode in (0, 1).

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> prior = irt.Beta(5, 17)
    >>> round(1 / (1 + 2.718281828 ** -prior.mode), 3)
    0.2
    """

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        _require(self, alpha=self.alpha > 1, beta=self.beta > 1)

    @property
    def mode(self) -> float:
        """The mode of logit c."""
        return float(np.log((self.alpha - 1) / (self.beta - 1)))

    def terms(self, value: Floats) -> Terms:
        """Compute the log density of c and its derivatives with respect to logit c.

        With dc/d logit c = c(1 − c), the slope is (α − 1)(1 − c) − (β − 1)c.

        Parameters
        ----------
        value
            Values of logit c, of any shape.

        Returns
        -------
        Terms
            Log density, slope and negative second derivative, in the shape of `value`.
        """
        c = expit(value)
        right, wrong = self.alpha - 1, self.beta - 1
        return Terms(
            right * log_expit(value) + wrong * log_expit(-value) - _log_beta(self.alpha, self.beta),
            right * (1 - c) - wrong * c,
            (right + wrong) * c * (1 - c),
        )


def _log_beta(alpha: float, beta: float) -> float:
    return math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)


Prior = Normal | LogNormal | LogitNormal | Beta


@dataclass(frozen=True)
class RareSteps:
    """A prior on steps of `items`.

    ln P(k)/P(l) at θ = 0 ~ N(0, sd²) for neighbouring scores l < k, of which one is rare.
    """

    sd: float
    items: tuple[str, ...]

    def __post_init__(self) -> None:
        _require(self, sd=self.sd > 0)
        object.__setattr__(self, "items", tuple(self.items))


@dataclass(frozen=True)
class KnownGuessing:
    """A prior on c of `items` whose c another fit has estimated: logit c ~ N(logit c_j, sd²), with c_j in (0, 1)."""

    sd: float
    items: tuple[str, ...]
    c: tuple[float, ...]

    def __post_init__(self) -> None:
        _require(self, sd=self.sd > 0)
        object.__setattr__(self, "items", tuple(self.items))
        object.__setattr__(self, "c", tuple(self.c))


@dataclass(frozen=True)
class Priors:
    """The priors of a fit.

    A prior on a or b keeps slopes positive, because ln a and −d/a have no meaning for negative ones. So a wrong key
    leads to a slope near 0 instead of a negative slope.

    Attributes
    ----------
    a, b
        Priors on a and b; None if there is no prior.
    c
        Prior on c of all items except those of `known_guessing`; None if there is no prior.
    only
        Items to which the priors on a and b apply; None for all items.
    rare_steps
        Prior that the fit itself adds to steps that hardly any answer determines.
    known_guessing
        Prior on c of items whose c another fit has estimated.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> priors = irt.Priors(a=irt.LogNormal(0, 0.5), c=irt.Beta(5, 17))
    >>> irt.Priors.from_dict(priors.as_dict()) == priors
    True
    """

    a: LogNormal | None = None
    b: Normal | None = None
    c: LogitNormal | Beta | None = None
    only: tuple[str, ...] | None = None
    rare_steps: RareSteps | None = None
    known_guessing: KnownGuessing | None = None

    @classmethod
    def weakly_informative(cls) -> Self:
        """Build priors ln a ~ N(0, 0.5²), with 95 % of slopes between 0.38 and 2.7, and b ~ N(0, 1).

        Returns
        -------
        Priors
            Priors on a and b that keep estimates finite in small samples.
        """
        return cls(a=LogNormal(0.0, 0.5), b=Normal(0.0, 1.0))

    def rescaled(self, slope: float) -> Self:
        """Transform the priors to θ* = slope·θ: a* = a/slope and b* = slope·b. Priors on c do not change.

        Parameters
        ----------
        slope
            Unit of θ in units of θ*, above 0.

        Returns
        -------
        Priors
            The priors on a* and b*.
        """
        a = None if self.a is None else LogNormal(self.a.mean - float(np.log(slope)), self.a.sd)
        b = None if self.b is None else Normal(slope * self.b.mean, slope * self.b.sd)
        return replace(self, a=a, b=b)

    @staticmethod
    def parse(parameter: str, text: str) -> Prior | None:
        """Read a prior from text; see `prior_from_text`.

        Parameters
        ----------
        parameter
            "a", "b" or "c".
        text
            The prior, such as "lognormal(0, 0.5)", "normal(0, 2)" or "beta(5, 17)"; see `NO_PRIOR`, too.

        Returns
        -------
        prior or None
            The prior, or None for `NO_PRIOR`.

        Raises
        ------
        PsychometricsError
            If the text is not a prior on this parameter, or a number is out of range.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> irt.Priors.parse("b", "normal(0, 2)")
        Normal(mean=0.0, sd=2.0)
        """
        return prior_from_text(parameter, text)

    @staticmethod
    def text_of(prior: Prior | None) -> str:
        """Return the text from which `parse` reads this prior.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> irt.Priors.text_of(irt.Beta(5, 17))
        'beta(5, 17)'
        """
        return prior_as_text(prior)

    @property
    def positive_slopes(self) -> bool:
        """Whether there is a prior on a or b, which keeps slopes positive."""
        return self.a is not None or self.b is not None

    def slopes_held(self, item_ids: Sequence[str]) -> Mask:
        """Mark the items with a prior on a or b, whose slopes are therefore positive, shape (J,)."""
        return self.positive_slopes & np.isin(item_ids, item_ids if self.only is None else self.only)

    def known_logit_c(self, item_ids: Sequence[str]) -> Floats:
        """Return logit c of the items of `known_guessing`, and NaN for other items, shape (J,)."""
        known = self.known_guessing
        found = {} if known is None else dict(zip(known.items, known.c, strict=True))
        return logit(np.array([found.get(item, np.nan) for item in item_ids], dtype=float))

    def as_dict(self) -> dict[str, Any]:
        """Return the priors as plain data for JSON, from which `from_dict` makes equal priors.

        Returns
        -------
        dict
            Parameter → family and numbers of the prior; parameters without a prior are missing.
        """
        chosen = {name: getattr(self, name) for name in _STORED if getattr(self, name) is not None}
        out = {
            name: {"family": type(prior).__name__}
            | {field: list(value) if isinstance(value, tuple) else value for field, value in asdict(prior).items()}
            for name, prior in chosen.items()
        }
        return out if self.only is None else out | {"only": list(self.only)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Build priors from the result of `as_dict`.

        Parameters
        ----------
        stored
            Plain data, as `as_dict` returns them.

        Returns
        -------
        Priors
            Priors that are equal to the original.

        Raises
        ------
        PsychometricsError
            If a parameter or family is unknown.
        """
        chosen: dict[str, Any] = {}
        for name, prior in stored.items():
            if name == "only":
                chosen[name] = tuple(prior)
                continue
            if name not in _STORED or prior.get("family") not in _STORED[name]:
                raise PsychometricsError(
                    f"unknown prior {prior!r} on {name!r}; the priors are "
                    + "; ".join(f"{parameter}: {', '.join(families)}" for parameter, families in _FAMILIES.items())
                )
            chosen[name] = _STORED[name][prior["family"]](**{k: v for k, v in prior.items() if k != "family"})
        return cls(**chosen)


_FAMILIES: dict[str, dict[str, type]] = {
    "a": {"LogNormal": LogNormal},
    "b": {"Normal": Normal},
    "c": {"LogitNormal": LogitNormal, "Beta": Beta},
}
_STORED: dict[str, dict[str, type]] = _FAMILIES | {
    "rare_steps": {"RareSteps": RareSteps},
    "known_guessing": {"KnownGuessing": KnownGuessing},
}

NO_PRIOR = "none"
_EXAMPLES = {"a": "lognormal(0, 0.5)", "b": "normal(0, 2)", "c": "beta(5, 17)"}


def prior_from_text(parameter: str, text: str) -> Prior | None:
    """Read the prior on `parameter` (a, b or c) from `text`. Returns None for the text "none".

    Forms are, for a, lognormal(mean, sd) of ln a; for b, normal(mean, sd); for c, beta(alpha, beta) or
    logitnormal(mean, sd) of logit c. Capitals and spaces do not matter. Raises PsychometricsError for other text, with
    the parameter's forms in the message, and for numbers out of range.
    """
    if parameter not in _FAMILIES:
        raise PsychometricsError(f"there are priors on {', '.join(_FAMILIES)}, not on {parameter!r}")
    written = re.sub(r"\s", "", text).lower()
    if written == NO_PRIOR:
        return None
    families = {name.lower(): family for name, family in _FAMILIES[parameter].items()}
    found = re.fullmatch(r"([a-z]+)\(([^(),]+),([^(),]+)\)", written)
    if found is None or found[1] not in families:
        forms = [f"{name}({', '.join(field.name for field in fields(family))})" for name, family in families.items()]
        raise PsychometricsError(
            f"prior {text!r} on {parameter} is not one of {', '.join([*forms, NO_PRIOR])}; "
            f"for example {_EXAMPLES[parameter]}"
        )
    try:
        values = [float(number) for number in found.groups()[1:]]
    except ValueError:
        values = [float("nan")]
    if not np.isfinite(values).all():
        raise PsychometricsError(
            f"prior {text!r} on {parameter} needs two finite numbers, such as {_EXAMPLES[parameter]}"
        )
    return families[found[1]](*values)


def prior_as_text(prior: Prior | None) -> str:
    """The text from which `prior_from_text` reads this prior."""
    if prior is None:
        return NO_PRIOR
    return f"{type(prior).__name__.lower()}({', '.join(f'{float(x)!r}'.removesuffix('.0') for x in astuple(prior))})"


GUESSING_PRIOR = Priors(c=LogitNormal(float(np.log(0.25)), 0.5))
"""The default prior of a 3PL: c around 0.2, with 95 % of the distribution between 0.09 and 0.40. Without a prior, the
answers to most items do not determine c."""
KNOWN_GUESSING_SD = 0.12
"""SD of logit c around a value from another fit: ± .019 at c = .2. With an SD of .3, smoothing a histogram shifts c
enough to bias the slope of linking. If c is held, the errors of the given values bias the slope the other way. Chosen
on pairs like those of `bench_origin_shape`, with c = .2 and with c from Beta(5, 17)."""

RARE_SCORE = 10
"""A score that fewer learners have is rare. Steps next to a rare score have errors of whole logits, and change by as
much from sample to sample (Linacre 2002)."""
STEP_SD = 3.0
"""SD of the prior on a step next to a rare score. It allows one score to be four hundred times as frequent as the next.
It has the weight of a ninth of an answer: enough to keep steps finite (as Gelman, Jakulin, Pittau & Su 2008 do for
logistic regression), and little compared with even two answers."""


@dataclass(frozen=True)
class ItemTerms:
    """The priors of each item at one point, and their derivatives with respect to (a, d, logit c).

    Attributes:
        value: shape (J,), log density.
        gradient: shape (K, J).
        hessian: shape (J, K, K), the negative Hessian.
        curvature: shape (J, K, K), the part of `hessian` that is always positive semidefinite, so that steps go uphill.
    """

    value: Floats
    gradient: Floats
    hessian: Floats
    curvature: Floats

    def add(self, k: int, at: Ints | Mask, terms: Terms) -> None:
        """Add a prior on the k-th parameter of the items at the places `at`, with these `terms`."""
        self.value[at] += terms.density
        self.gradient[k, at] += terms.slope
        self.hessian[at, k, k] += terms.bend
        self.curvature[at, k, k] += terms.bend


@dataclass(frozen=True)
class StepTerms:
    """The prior `RareSteps` of S steps.

    Attributes:
        item: shape (S,), the item of each step.
        of: shape (S, K), the weights of the item's parameters in the step's log odds.
    """

    item: Ints
    of: Floats
    sd: float

    @classmethod
    def rare(cls, given: Floats, of_items: Mask, size: int, sd: float) -> Self:
        """The steps next to a rare score of the items that `of_items` (J,) marks.

        `given` (J, C) are the numbers of learners with each score, `size` is the number of an item's parameters.
        """
        item, found = [], []
        for j in np.flatnonzero(of_items).tolist():
            scores = np.flatnonzero(given[j])
            for low, high in itertools.pairwise(scores.tolist()):
                if min(given[j, low], given[j, high]) < RARE_SCORE:
                    row = np.zeros(size)
                    row[1], row[2 + low], row[2 + high] = high - low, -1.0, 1.0
                    item.append(j)
                    found.append(row)
        return cls(np.array(item, dtype=np.int64), np.array(found).reshape(-1, size), sd)

    def add_to(self, terms: ItemTerms, parameters: Floats) -> ItemTerms:
        """Add this prior at `parameters` (K, J) to `terms`, in place, and return them."""
        odds = np.einsum("sk,sk->s", self.of, np.where(self.of != 0, parameters[:, self.item].T, 0.0))
        density, slope, bend = Normal(0.0, self.sd).terms(odds)
        curvature = np.einsum("sk,sm,s->skm", self.of, self.of, bend)
        np.add.at(terms.value, self.item, density)
        np.add.at(terms.gradient.T, self.item, self.of * slope[:, None])
        np.add.at(terms.hessian, self.item, curvature)
        np.add.at(terms.curvature, self.item, curvature)
        return terms


def item_terms(
    priors: Priors, a: Floats, d: Floats, logit_c: Floats, share: Floats, K: int, known_logit_c: Floats
) -> ItemTerms:
    """The log density and derivatives of the priors of J items with K parameters.

    `share` (J, 3) is the weight of the priors on a, b and c at each item: 0 if the parameter is fixed, 1/J for a slope
    that J items have in common. `known_logit_c` (J,) is the result of `Priors.known_logit_c`.
    """
    J = len(a)
    gradient, hessian, curvature = np.zeros((K, J)), np.zeros((J, K, K)), np.zeros((J, K, K))
    value = np.zeros(J)
    if priors.a is not None:
        on = share[:, 0] > 0
        density, slope, bend = (term * share[on, 0] for term in priors.a.terms(a[on]))
        value[on] += density
        gradient[0, on] += slope
        hessian[on, 0, 0] += bend
        curvature[on, 0, 0] += np.maximum(bend, 0.0)
    if priors.b is not None:
        on = share[:, 1] > 0
        free_a, free_d = a[on], d[on]
        density, slope, bend = priors.b.terms(-free_d / free_a)
        by_a, by_d = free_d / free_a**2, -1 / free_a
        value[on] += density
        gradient[0, on] += slope * by_a
        gradient[1, on] += slope * by_d
        outer = np.stack([by_a**2, by_a * by_d, by_a * by_d, by_d**2], axis=1).reshape(-1, 2, 2) * bend[:, None, None]
        second = np.zeros_like(outer)  # ∂²b/∂a² = −2d/a³, ∂²b/∂a∂d = 1/a²
        second[:, 0, 0] = -2 * free_d / free_a**3
        second[:, 0, 1] = second[:, 1, 0] = free_a**-2
        hessian[on, :2, :2] += outer - slope[:, None, None] * second
        curvature[on, :2, :2] += outer
    found = ItemTerms(value, gradient, hessian, curvature)
    if share[:, 2].any():
        on, known = share[:, 2] > 0, np.isfinite(known_logit_c)
        if priors.c is not None:
            found.add(2, on & ~known, priors.c.terms(logit_c[on & ~known]))
        if priors.known_guessing is not None:
            off = (logit_c - known_logit_c)[on & known]
            found.add(2, on & known, Normal(0.0, priors.known_guessing.sd).terms(off))
    return found

"""The typed heart: `Responses` go into an engine, a `Calibration` comes out of it.

The item response function is the logistic one with D = 1,
    P(x = 1 | θ) = c + (1 − c) / (1 + exp(−(a·θ + d))),   d = −a·b.
Engines estimate slope `a` and intercept `d`; difficulty `b` and its errors follow by the delta method,
because b = −d/a explodes for a flat item while (a, d) stays well behaved.

What identifies the scale of an unlinked fit: θ ~ N(0, 1) in the reference group, the only one where there are none;
Rasch by a = 1 (latent SD is free). Anchored fits take the scale of their anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.options import Model as Model

Floats = npt.NDArray[np.float64]


class Flag(StrEnum):
    """What an engine says about an item it could not, or could only badly, estimate.

    PROVISIONAL is what a scale's rules say of an item: it stands in stored fits and not in a `Calibration`.
    """

    ALL_CORRECT = "all_correct"
    ALL_WRONG = "all_wrong"
    NO_DATA = "no_data"
    AT_BOUND = "at_bound"
    UNIDENTIFIED = "unidentified"
    NEGATIVE_DISCRIMINATION = "negative_discrimination"
    GUESSING_UNIDENTIFIED = "guessing_unidentified"
    DUPLICATE = "duplicate"
    PROVISIONAL = "provisional"

    @property
    def explanation(self) -> str:
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Flag.ALL_CORRECT: "every learner answered it correctly, so it has no finite difficulty",
    Flag.ALL_WRONG: "no learner answered it correctly, so it has no finite difficulty",
    Flag.NO_DATA: "no learner answered it in this window",
    Flag.AT_BOUND: "the estimate stopped at a bound and is not a maximum",
    Flag.UNIDENTIFIED: "the responses do not determine its parameters (information is singular)",
    Flag.NEGATIVE_DISCRIMINATION: "stronger learners get it wrong more often; check the answer key",
    Flag.DUPLICATE: "the same learners gave it the same answers as another item: one of the two counts twice",
    Flag.PROVISIONAL: "it has too few responses to be published, or to be used for a reported θ",
    Flag.GUESSING_UNIDENTIFIED: "its answers hardly determine guessing: c reflects the prior or a bound",
}


@dataclass(frozen=True)
class Responses:
    """Scored responses in sparse form, sorted by person: one entry per person-item pair that was seen.

    Attributes:
        person: shape (R,), int32, index of the person, non-decreasing.
        item: shape (R,), int32, index into `item_ids`.
        score: shape (R,), int8, 0 or 1.
        n_persons: number of persons (indices run from 0 to n_persons − 1).
        item_ids: J item ids; an item may have no responses.
    """

    person: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    score: npt.NDArray[np.int8]
    n_persons: int
    item_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (self.person.shape == self.item.shape == self.score.shape):
            raise PsychometricsError("person, item and score must have one length")
        if not (binary := (self.score == 0) | (self.score == 1)).all():
            raise PsychometricsError(f"scores must be 0 or 1, found {self.score[~binary][0]}")
        for name, index, size in (("person", self.person, self.n_persons), ("item", self.item, self.n_items)):
            if index.size and not (index.min() >= 0 and index.max() < size):
                raise PsychometricsError(
                    f"{name} indices must lie in 0 … {size - 1}, found {index.min()} … {index.max()}"
                )
        if np.any(np.diff(self.person) < 0):
            raise PsychometricsError("responses must be sorted by person (use Responses.from_long)")
        # compiled kernels check no bounds and are compiled again for every other type, order and read-only buffer
        for name, dtype in (("person", np.int32), ("item", np.int32), ("score", np.int8)):
            object.__setattr__(self, name, np.require(getattr(self, name), dtype, ["C", "W"]))

    @classmethod
    def from_long(cls, person: npt.ArrayLike, item: npt.ArrayLike, score: npt.ArrayLike) -> Responses:
        """Build from three columns of length R; ids are any sortable labels, items come out sorted by id.

        Raises PsychometricsError where a person-item pair occurs twice (the first five are named).
        """
        persons, person_index = np.unique(np.asarray(person), return_inverse=True)
        items, item_index = np.unique(np.asarray(item), return_inverse=True)
        order = np.lexsort((item_index, person_index))
        p, i = person_index[order].astype(np.int32), item_index[order].astype(np.int32)
        twice = np.flatnonzero((np.diff(p) == 0) & (np.diff(i) == 0))
        if twice.size:
            named = ", ".join(f"{persons[p[k]]}/{items[i[k]]}" for k in twice[:5])
            raise PsychometricsError(f"{twice.size} person-item pairs occur more than once: {named}")
        s = np.asarray(score)[order].astype(np.int8)
        return cls(p, i, s, len(persons), tuple(str(x) for x in items))

    @classmethod
    def from_wide(cls, matrix: npt.ArrayLike, item_ids: Sequence[str] | None = None) -> Responses:
        """Build from a persons × items matrix of 0, 1 and NaN (not seen). Persons keep their row number."""
        x = np.asarray(matrix, dtype=float)
        person, item = np.nonzero(~np.isnan(x))
        values = x[person, item]
        if not np.isin(values, (0.0, 1.0)).all():
            k = np.flatnonzero(~np.isin(values, (0.0, 1.0)))[0]
            raise PsychometricsError(
                f"scores must be 0, 1 or NaN, found {values[k]} in row {person[k]}, column {item[k]}"
            )
        ids = tuple(item_ids) if item_ids is not None else tuple(f"i{j + 1}" for j in range(x.shape[1]))
        return cls(person.astype(np.int32), item.astype(np.int32), values.astype(np.int8), x.shape[0], ids)

    def of_items(self, keep: npt.ArrayLike) -> Responses:
        """The responses to the items of `keep` (a boolean mask or ascending indices); persons keep their number."""
        kept = np.arange(self.n_items)[np.asarray(keep)]
        place = np.full(self.n_items, -1, dtype=np.int32)
        place[kept] = np.arange(len(kept))
        rows = place[self.item] >= 0
        ids = tuple(self.item_ids[j] for j in kept)
        return Responses(self.person[rows], place[self.item[rows]], self.score[rows], self.n_persons, ids)

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @property
    def n_responses(self) -> int:
        return int(self.person.size)


@dataclass(frozen=True)
class Convergence:
    """How the optimiser ended. `reason` is a sentence; it is never empty when `converged` is false."""

    converged: bool
    iterations: int
    max_change: float
    max_gradient: float
    loglik: float
    n_parameters: int
    reason: str = ""


@dataclass(frozen=True)
class Population:
    """The ability distribution of one group of a fit, on the fit's scale.

    Normal, unless `nodes` and `weights` (of one length, weights summing to 1) say otherwise; `mean` and `sd` are then
    those of the histogram. Errors are 0 where a value was set and not estimated, NaN where there is none.
    """

    name: str
    n_persons: int
    mean: float
    sd: float
    mean_se: float
    sd_se: float
    nodes: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()

    def rescaled(self, slope: float, intercept: float) -> Population:
        """The same calibration in θ* = slope·θ + intercept, slope > 0."""
        return replace(
            self,
            mean=slope * self.mean + intercept,
            sd=slope * self.sd,
            mean_se=slope * self.mean_se,
            sd_se=slope * self.sd_se,
            nodes=tuple(slope * node + intercept for node in self.nodes),
        )


@dataclass(frozen=True)
class Calibration:
    """One engine's estimates for J items, on the fit's own scale or (after linking) on the bank's.

    Attributes:
        a, d, c: shape (J,). Slope, intercept, lower asymptote; NaN where an item could not be estimated.
        cov: shape (J, 2, 2), covariance of (a_j, d_j); NaN where there is none.
        joint_cov: shape (2J, 2J) in the order a_1, d_1, a_2, d_2, …; None where only the blocks are kept.
        n, n_correct: shape (J,), responses and correct responses per item.
        flags: J tuples of `Flag`.
        latent_mean, latent_sd: of θ on this scale, in the population that was fitted (all its groups together).
        guessing_cov: shape (J, 3), covariances of logit c_j with a_j and d_j, and its variance; NaN where c was not
            estimated. None for models without guessing.
        populations: the ability distribution of each group, the reference group first; empty where an engine has none.
        priors: of the item parameters, where an engine had any; as `Priors.as_dict`.
        anchored: the items whose parameters were given and held. Their errors are 0: they are not part of this fit.
        software: versions of what an engine runs in, besides `engine_version`; empty where that says all.
    """

    item_ids: tuple[str, ...]
    model: Model
    engine: str
    engine_version: str
    a: Floats
    d: Floats
    c: Floats
    cov: Floats
    joint_cov: Floats | None
    n: npt.NDArray[np.int64]
    n_correct: npt.NDArray[np.int64]
    flags: tuple[tuple[Flag, ...], ...]
    latent_mean: float
    latent_sd: float
    n_persons: int
    convergence: Convergence
    data_hash: str = ""
    guessing_cov: Floats | None = None
    populations: tuple[Population, ...] = ()
    priors: dict[str, Any] = field(default_factory=dict)
    anchored: tuple[str, ...] = ()
    software: dict[str, str] = field(default_factory=dict)

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @property
    def n_responses(self) -> int:
        return int(self.n.sum())

    @property
    def estimated(self) -> npt.NDArray[np.bool_]:
        """Shape (J,): which items have parameters."""
        return np.isfinite(self.a) & np.isfinite(self.d)

    @property
    def b(self) -> Floats:
        """Difficulty −d/a; ±inf for a = 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return -self.d / self.a

    @property
    def a_se(self) -> Floats:
        return _root(self.cov[:, 0, 0])

    @property
    def d_se(self) -> Floats:
        return _root(self.cov[:, 1, 1])

    @property
    def c_se(self) -> Floats:
        """Shape (J,), by the delta method: dc/d logit c = c(1 − c). 0 where c is fixed at 0."""
        if self.guessing_cov is None:
            return np.where(np.isfinite(self.c), 0.0, np.nan)
        return self.c * (1 - self.c) * _root(self.guessing_cov[:, 2])

    @property
    def cov_adc(self) -> Floats:
        """Shape (J, 3, 3), covariance of (a, d, logit c); the last row and column are 0 for models without guessing."""
        out = np.zeros((self.n_items, 3, 3))
        out[:, :2, :2] = self.cov
        if self.guessing_cov is not None:
            out[:, 2] = out[:, :, 2] = self.guessing_cov
        return out

    @property
    def cov_ab(self) -> Floats:
        """Shape (J, 2, 2), covariance of (a, b) by the delta method: ∂b/∂a = d/a², ∂b/∂d = −1/a."""
        with np.errstate(divide="ignore", invalid="ignore"):
            g = np.zeros((self.n_items, 2, 2))
            g[:, 0, 0] = 1.0
            g[:, 1, 0] = self.d / self.a**2
            g[:, 1, 1] = -1.0 / self.a
            return g @ self.cov @ g.transpose(0, 2, 1)

    @property
    def guessing_cov_ab(self) -> Floats | None:
        """Shape (J, 3), covariances of logit c with (a, b), and its variance; 0 where c was not estimated, None for
        models without guessing."""
        if self.guessing_cov is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            with_a, with_d, variance = self.guessing_cov.T
            with_b = self.d / self.a**2 * with_a - with_d / self.a
        return np.nan_to_num(np.stack([with_a, with_b, variance], axis=1))

    @property
    def b_se(self) -> Floats:
        return _root(self.cov_ab[:, 1, 1])

    @property
    def aic(self) -> float:
        return 2 * self.convergence.n_parameters - 2 * self.convergence.loglik

    @property
    def bic(self) -> float:
        return self.convergence.n_parameters * float(np.log(max(self.n_persons, 1))) - 2 * self.convergence.loglik

    def select(self, keep: npt.ArrayLike) -> Calibration:
        """The same fit with only the items of `keep` (a boolean mask or indices of length ≤ J)."""
        idx = np.arange(self.n_items)[np.asarray(keep)]
        pairs = np.stack([2 * idx, 2 * idx + 1], axis=1).ravel()
        return replace(
            self,
            item_ids=tuple(self.item_ids[i] for i in idx),
            a=self.a[idx],
            d=self.d[idx],
            c=self.c[idx],
            cov=self.cov[idx],
            joint_cov=None if self.joint_cov is None else self.joint_cov[np.ix_(pairs, pairs)],
            n=self.n[idx],
            n_correct=self.n_correct[idx],
            flags=tuple(self.flags[i] for i in idx),
            guessing_cov=None if self.guessing_cov is None else self.guessing_cov[idx],
            anchored=tuple(item for item in self.anchored if item in {self.item_ids[i] for i in idx}),
        )

    def rescaled(self, slope: float, intercept: float) -> Calibration:
        """The same fit with θ* = slope·θ + intercept, slope > 0: a* = a/slope, d* = d − a·intercept/slope."""
        own = np.array([[1 / slope, 0.0], [-intercept / slope, 1.0]])  # ∂(a*, d*)/∂(a, d)
        joint = self.joint_cov
        if joint is not None:
            J = self.n_items
            joint = (own @ joint.reshape(J, 2, 2 * J)).reshape(2 * J, 2 * J)  # every row pair, then every column pair
            joint = (own @ joint.T.reshape(J, 2, 2 * J)).reshape(2 * J, 2 * J).T
        guessing = self.guessing_cov
        if guessing is not None:
            guessing = np.column_stack([guessing[:, :2] @ own.T, guessing[:, 2]])
        return replace(
            self,
            a=self.a / slope,
            d=self.d - self.a * intercept / slope,
            cov=own @ self.cov @ own.T,
            joint_cov=joint,
            guessing_cov=guessing,
            latent_mean=slope * self.latent_mean + intercept,
            latent_sd=slope * self.latent_sd,
            populations=tuple(population.rescaled(slope, intercept) for population in self.populations),
        )


def spread(values: Floats, kept: npt.NDArray[np.intp], n_items: int) -> Floats:
    """Values of the K items at the places `kept` (K,) among all, NaN elsewhere; the first axis is items."""
    out = np.full((n_items, *values.shape[1:]), np.nan)
    out[kept] = values
    return out


def _root(variance: Floats) -> Floats:
    """Square root; NaN where the variance is negative or missing."""
    return np.sqrt(np.where(variance >= 0, variance, np.nan))

"""Check the requests of fits by other programs, and test their estimates by the rules of `fit_em`.

A program reports whether its steps became small. This module checks whether the answers determine the estimates.
Otherwise another program could give an item a plausible value that `fit_em` would refuse.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Self

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.classical import item_rest_correlation
from irt_psychometrics.core.covariances import symmetrized
from irt_psychometrics.core.design import alike, require_connected
from irt_psychometrics.core.item_models import ItemCurves, model_of
from irt_psychometrics.core.logistic import logit
from irt_psychometrics.core.model_families import GUESSING_BOUNDS, SLOPE_BOUND, ItemModel
from irt_psychometrics.core.models import Calibration, Convergence, Flag, spread
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.priors import LogitNormal, Priors
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.version import __version__
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.estimation.em_request import (
    RULING_SHARE,
    Persons,
    given_parameters,
    no_common_scale,
    origin_of,
    require_items,
    require_persons,
    resolve_priors,
    same_answers,
)
from irt_psychometrics.estimation.marginal import largest_scaled_gradient
from irt_psychometrics.estimation.parameter_layout import COMMON_SLOPE_FLOOR, LATENT_SD_BOUNDS
from irt_psychometrics.estimation.response_layout import Counts
from irt_psychometrics.estimation.source import InMemory
from irt_psychometrics.estimation.standard_errors import VARIANCE_INFLATION_LIMIT, weakly_identified

STEEPEST = 0.1
"""Largest accepted gradient at a maximum, in the standard errors that known abilities would give. mirt stops by the
size of its steps, which are also small on a long gentle slope. In every test, converged mirt fits of clean data were
below 0.0015."""


@dataclass(frozen=True)
class Estimates:
    """The estimates of another program for J items. Unknown values are NaN.

    Attributes
    ----------
    a, d, c
        Shape (J,), slope, intercept and lower asymptote.
    cov
        Covariances of each item, shape (J, 2, 2) of (a, d), (J, 3, 3) with logit c, or (J, 1 + C, 1 + C) of
        (a, log_odds). Logit c of a 3PL item next to scored items has the place of the log odds of score 2.
    latent_mean, latent_sd
        Mean and SD of θ.
    loglik
        Marginal log-likelihood, without priors.
    n_parameters
        Number of estimated parameters.
    converged
        Whether the program reports convergence.
    reason
        The reason why it did not converge, a clause.
    iterations
        Number of iterations.
    log_odds
        Shape (J, C), log odds at θ = 0 of each score against the lowest score, or of at least this score for graded
        items; shape (J, 2C) if there are nominal items, with the points of each of their scores, from 0, in the last C
        columns. None if no item has a score above 1.

    Examples
    --------
    Estimates of one item from a program that reports no errors:

    >>> import numpy as np
    >>> from irt_psychometrics.estimation import Estimates
    >>> numbers = np.array([1.2]), np.array([0.3]), np.zeros(1), np.full((1, 2, 2), np.nan)
    >>> found = Estimates(*numbers, 0.0, 1.0, -250.0, 2, converged=True, reason="", iterations=9)
    """

    a: Floats
    d: Floats
    c: Floats
    cov: Floats
    latent_mean: float
    latent_sd: float
    loglik: float
    n_parameters: int
    converged: bool
    reason: str
    iterations: int
    log_odds: Floats | None = None

    def merge_into(
        self,
        first: Calibration,
        kept: npt.NDArray[np.intp],
        *,
        engine: str,
        version: str,
        n_persons: int,
        unidentified: Mask,
        joint_cov: Floats | None = None,
        known_of_c: Floats | None = None,
    ) -> Calibration:
        """Replace the estimates of K items in `first`, a calibration of J items, by these estimates.

        The findings of the first fit about all answers (two identical items, no common scale) are kept.

        Parameters
        ----------
        first
            The calibration whose estimates are replaced.
        kept
            Shape (K,), positions of the K items among the J items.
        engine, version
            Name of the program, and its version as text.
        n_persons
            Number of learners with a response.
        unidentified
            Shape (K,), whether the answers do not determine an item. Unidentified items of `first` are added.
        joint_cov
            Shape (2J, 2J), as in `Calibration`.
        known_of_c
            Shape (K,), information of the prior on logit c, NaN if c was given. None without guessing.

        Returns
        -------
        Calibration
            `first` with these estimates, with the flags and reasons of both.
        """
        found, of_scores = _with_scores(self, model_of([first.models[j] for j in kept]))
        J, cov, further = first.n_items, found.cov.copy(), first.further
        if further is not None:
            more = (0, 2 + further.shape[1] - cov.shape[1])
            cov = np.pad(cov, ((0, 0), more, more))
        if further is not None and of_scores is not None:
            own, further = further[kept, : of_scores.shape[1]], further.copy()
            further[kept, : of_scores.shape[1]] = np.where(np.isnan(own), np.nan, of_scores)
        vague = np.zeros(len(kept), dtype=bool)
        if known_of_c is not None:
            free = np.isfinite(known_of_c)
            vague[free] = weakly_identified(cov[free, 2, 2], known_of_c[free])
        unidentified = unidentified | np.array([Flag.UNIDENTIFIED in first.flags[j] for j in kept])
        cov[unidentified] = np.nan
        flags = [[flag for flag in flags if flag is not Flag.GUESSING_UNIDENTIFIED] for flags in first.flags]
        for k, j in enumerate(kept):
            flags[j] += [Flag.UNIDENTIFIED] * bool(unidentified[k] and Flag.UNIDENTIFIED not in flags[j])
            flags[j] += [Flag.GUESSING_UNIDENTIFIED] * bool(vague[k])
        reasons = [first.convergence.reason] if first.convergence.reason else []
        if not self.converged:
            reasons.append(self.reason or f"{engine} did not converge and gave no reason")
        return replace(
            first,
            engine=engine,
            engine_version=f"{__version__} ({version})",
            a=spread(self.a, kept, J),
            d=spread(found.d, kept, J),
            c=spread(self.c, kept, J),
            cov=spread(cov, kept, J),
            joint_cov=joint_cov,
            flags=tuple(tuple(item) for item in flags),
            latent_mean=self.latent_mean,
            latent_sd=self.latent_sd,
            n_persons=n_persons,
            convergence=Convergence(
                converged=not reasons,
                iterations=self.iterations,
                max_change=np.nan,
                max_gradient=np.nan,
                loglik=self.loglik,
                n_parameters=self.n_parameters,
                reason="; ".join(reasons),
            ),
            populations=(),
            further=further,
        )


@dataclass(frozen=True)
class ExternalFit:
    """The request of a fit by the program `engine`, checked by the rules of `fit_em`.

    Attributes
    ----------
    engine
        Name of the program.
    responses
        The responses to fit, of the K items that can be estimated.
    curves
        Curves of these items: the given values of `held` items, NaN for all others.
    held
        Shape (K,), whether an item keeps the parameters of an anchor.
    item_model
        The model of these items, or a model with the features that their models have in common.
    priors
        Priors on a, b and c.
    origin
        The θ that is 0 in the request. It is not 0 if the anchors are far from 0.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> from irt_psychometrics.estimation import ExternalFit
    >>> ExternalFit.from_request(x, "mirt", "2pl").responses.n_items
    3
    """

    engine: str
    responses: Responses
    curves: ItemCurves
    held: Mask
    item_model: ItemModel
    priors: Priors
    origin: float
    _requested: Responses
    _models: tuple[Model, ...]
    _given: ItemCurves
    _keep: Mask
    _counts: Counts
    _first_alike: Ints

    @classmethod
    def from_request(
        cls,
        responses: Responses,
        engine: str,
        model: Model | Sequence[Model],
        *,
        anchors: AnchorSet | None = None,
        priors: Priors | None = None,
    ) -> Self:
        """Check a request and select the items that can be estimated.

        Parameters
        ----------
        responses, model, anchors, priors
            As in `fit_em`.
        engine
            Name of the program.

        Returns
        -------
        ExternalFit
            The request for the program.

        Raises
        ------
        PsychometricsError
            As `fit_em` does.
        """
        models = (model,) * responses.n_items if isinstance(model, str) else tuple(model)
        of = model_of(models)
        priors = resolve_priors(of, priors)
        source = InMemory(responses, Persons.from_responses(responses, None, None, None))
        counts, given = source.counts(), given_parameters(responses, anchors, of)
        keep = counts.estimable(of) | (given.known & (counts.n > 0))
        require_items(responses, counts, keep, given, of)
        kept, _ = source.gather_items(keep)
        by_category = bool((responses.n_categories > 2).any())
        laid, held = source.lay_out_items(keep, rarer=False, by_category=by_category), given.known[keep]
        require_persons(laid.informative, source.names)
        require_connected(laid.links, kept.item_ids, held)
        origin = origin_of(given)
        curves = ItemCurves(given.a[keep], (given.d + given.a * origin)[keep], given.c[keep])
        of_kept = model_of([*compress(models, keep)])
        own = responses, models, given, keep, counts, laid.first_alike
        return cls(engine, kept, curves, held, of_kept, priors, origin, *own)

    def calibration(
        self, found: Estimates, *, version: str = "", software: dict[str, str] | None = None, data_hash: str = ""
    ) -> Calibration:
        """Build a `Calibration` of all items of the request, with flags and convergence by our own rules.

        Parameters
        ----------
        found
            The program's estimates of the items of `responses`.
        version
            Version of the program, as text.
        software
            Versions of the program's parts, by name.
        data_hash
            Stored in the `Calibration` unchanged.

        Returns
        -------
        Calibration
            An item is `AT_BOUND` if its slope, or the slope's error, is beyond ±10. It keeps the slope at which the
            program stopped. An item is `UNIDENTIFIED` if a variance is 10⁵ times the variance with known abilities,
            with n·Var(score) as the information in that case.
        """
        found, further = _with_scores(_orient(found, self.item_model, anchored=bool(self.held.any())), self.item_model)
        slope, owner = largest_scaled_gradient(
            self.responses,
            self.item_model,
            ItemCurves(found.a, found.d, found.c),
            latent_mean=found.latent_mean,
            latent_sd=found.latent_sd,
            given=self.curves,
            priors=self.priors,
            further=further,
        )
        assessment = self._assess(found)
        requested, given, counts = self._requested, self._given, self._counts
        scored = bool((requested.n_categories > 2).any())
        J, at = requested.n_items, np.flatnonzero(self._keep)
        values = np.stack([given.a, given.d + given.a * self.origin, given.c])
        values[:, at] = found.a, found.d, found.c
        cov = spread(symmetrized(assessment.cov), at, J)
        cov[given.known & ~self._keep] = 0.0
        calibration = Calibration(
            item_ids=requested.item_ids,
            models=self._models,
            engine=self.engine,
            engine_version=f"{__version__} ({version})",
            a=values[0],
            d=values[1],
            c=values[2],
            cov=cov,
            joint_cov=None,
            n=np.rint(counts.n).astype(np.int64),
            n_correct=np.rint(counts.correct).astype(np.int64),
            flags=counts.flags(self._keep, assessment.marks),
            latent_mean=found.latent_mean,
            latent_sd=found.latent_sd,
            n_persons=len(np.unique(self.responses.person)),
            convergence=assessment.convergence(found, slope, owner),
            data_hash=data_hash,
            priors=self.priors.as_dict(),
            anchored=tuple(item for item, fixed in zip(requested.item_ids, given.known, strict=True) if fixed),
            software=software or {},
            categories=requested.categories if scored else None,
            further=None if further is None else spread(self._of_scored_items(further), at, J),
            score_sums=np.rint(counts.table @ np.arange(counts.table.shape[1])).astype(np.int64) if scored else None,
        )
        return calibration.rescaled(1.0, self.origin) if self.origin else calibration

    def _of_scored_items(self, further: Floats) -> Floats:
        """Parameters of scores, shape (J, M); NaN for scores that an item lacks, and for items scored 0 and 1."""
        categories = self.responses.n_categories
        sizes = np.zeros(len(categories), dtype=np.int64)
        for model, at in self.item_model.places(len(categories)).items():
            sizes[at] = [len(model.parameter_names(n)) - 2 if n > 2 else 0 for n in categories[at].tolist()]
        return np.where(np.arange(further.shape[1]) < sizes[:, None], further, np.nan)

    def _assess(self, found: Estimates) -> "_Assessment":
        kept, held, of = self.responses, self.held, self.item_model
        n, points, squares = (np.bincount(kept.item, kept.score.astype(float) ** k, kept.n_items) for k in range(3))
        correct = np.bincount(kept.item, kept.score == kept.n_categories[kept.item] - 1, kept.n_items)
        named = np.array(kept.item_ids, dtype=object)
        own_slope = ~held & of.own_slopes
        endless = np.sqrt(found.cov[:, 0, 0]) >= SLOPE_BOUND
        at_bound = own_slope & ((np.abs(found.a) >= SLOPE_BOUND) | endless)
        variance = np.stack([found.cov[:, 0, 0] * found.latent_sd**2, found.cov[:, 1, 1]])
        inflation = variance.max(axis=0) * (squares - points**2 / n)
        unidentified = ~held & ~at_bound & ~(inflation < VARIANCE_INFLATION_LIMIT)
        reversed_ = np.where(own_slope, found.a < 0, ~held & (item_rest_correlation(kept) < 0))
        same = alike(self._first_alike, n, correct)
        vague = np.zeros(len(n), dtype=bool)
        if of.has_parameter("c"):
            vague = ~held & of.guessed(len(n)) & _vague_guessing(found, self.priors)
        cov = found.cov.copy()
        cov[at_bound | unidentified] = np.nan

        unexplained = f"{self.engine} did not converge and gave no reason"
        reasons = [found.reason or unexplained] if not found.converged else []
        if not held.any():
            reasons += _unit_problems(found, of)
        split = np.minimum(correct, n - correct) / len(np.unique(kept.person))
        if (ruling := at_bound & (split > RULING_SHARE)).any():
            reasons.append(no_common_scale(f"slopes beyond {SLOPE_BOUND:g}", named[ruling]))
        if unidentified.any():
            reasons.append(
                f"the responses do not determine the parameters of {unidentified.sum()} of {len(n)} items "
                f"({some_of(list(named[unidentified]))})"
            )
        if same.any():
            reasons.append(same_answers(named[same].tolist()))
        marks = {
            Flag.AT_BOUND: at_bound,
            Flag.UNIDENTIFIED: unidentified,
            Flag.NEGATIVE_DISCRIMINATION: reversed_,
            Flag.DUPLICATE: same,
            Flag.GUESSING_UNIDENTIFIED: vague,
        }
        return _Assessment(self.engine, marks, cov, reasons)


@dataclass(frozen=True)
class _Assessment:
    """Items by flag, the covariance of identified items, and the reasons why the fit is not a valid result."""

    engine: str
    marks: dict[Flag, Mask]
    cov: Floats
    reasons: list[str]

    def convergence(self, found: Estimates, slope: float, parameter: str) -> Convergence:
        """The convergence, given the largest gradient `slope` and the name of its parameter, `parameter`."""
        if found.converged and not slope <= STEEPEST:
            self.reasons.append(
                f"{self.engine} stopped before the maximum of the likelihood: the largest gradient, for {parameter}, "
                f"is {slope:.2g} standard errors and must be at most {STEEPEST:g}"
            )
        return Convergence(
            converged=not self.reasons,
            iterations=found.iterations,
            max_change=np.nan,
            max_gradient=slope,
            loglik=found.loglik,
            n_parameters=found.n_parameters,
            reason="; ".join(self.reasons),
        )


def _orient(found: Estimates, of: ItemModel, *, anchored: bool) -> Estimates:
    """Replace θ by −θ if most slopes are negative. The likelihood is the same."""
    if anchored or not of.own_slopes or np.sign(found.a).sum() + np.tanh(found.a.sum()) / 2 >= 0:
        return found
    turn = np.ones(found.cov.shape[1])
    turn[0] = -1.0
    return replace(found, a=-found.a, latent_mean=-found.latent_mean, cov=found.cov * np.outer(turn, turn))


def _with_scores(found: Estimates, of: ItemModel) -> tuple[Estimates, Floats | None]:
    """Return the estimates with the covariance of all parameters, and the parameters besides a and d, shape (J, C).

    They are the parameters of scores, or logit c. If no item is scored above 1, they are None.
    """
    if (log_odds := found.log_odds) is None:
        return found, None
    J, C = log_odds.shape
    d, further, by = found.d.copy(), np.zeros((J, C)), np.zeros((J, 2 + C, 1 + C))
    by[:, 0, 0] = 1.0
    for model, at in of.places(J).items():
        for j in at.tolist():
            if model.by_score:
                values, by[j, 1:, 1:] = model.from_log_odds(log_odds[j])
                d[j], further[j] = values[0], values[1:]
            else:
                by[j, 1, 2], by[j, 2, 3] = 1.0, model.has_parameter("c")
                further[j, 0] = logit(found.c[j]) if model.has_parameter("c") else 0.0
    return replace(found, d=d, cov=by @ found.cov @ by.transpose(0, 2, 1)), further


def _unit_problems(found: Estimates, of: ItemModel) -> list[str]:
    """Reasons why a Rasch model's latent SD, or a common slope, shows that the answers do not form a scale."""
    quantity, value, (low, high) = {
        "fixed": ("latent SD", found.latent_sd, LATENT_SD_BOUNDS),
        "common": ("common slope", float(found.a[0]), (COMMON_SLOPE_FLOOR, SLOPE_BOUND)),
        "own": ("", 1.0, (0.0, 2.0)),
    }[of.slopes]
    if low < value < high:
        return []
    why = "are unrelated" if value <= low else "follow from each other"
    return [f"the {quantity} is {value:.3g}, which is not a scale: answers to different items {why}"]


def _vague_guessing(found: Estimates, prior: Priors) -> Mask:
    """Whether c of each item is `weakly_identified` or at a bound."""
    known = 0.0 if not isinstance(prior.c, LogitNormal) else prior.c.sd**-2.0
    low, high = GUESSING_BOUNDS
    return weakly_identified(found.cov[:, 2, 2], known) | (found.c <= low) | (found.c >= high)

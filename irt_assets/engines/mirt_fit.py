"""Fits by R's mirt: what it is asked, and how its estimates are judged. mirt itself runs in irt.R.

mirt says whether its steps became small. Whether the answers determine what it found is judged here, by the rules of
the em engine, so that no item of either comes out as a plausible number where the other refuses one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Self

import numpy as np

from irt_assets.common.arrays import Floats, Ints, Mask
from irt_assets.engines.r_calibration import Answer, Call, anchors_of, request
from irt_psychometrics import Calibration, PsychometricsError, Responses
from irt_psychometrics.classical import item_rest_correlation
from irt_psychometrics.estimation import (
    COMMON_SLOPE_FLOOR,
    LATENT_SD_BOUNDS,
    RULING_SHARE,
    VARIANCE_INFLATION_LIMIT,
    Convergence,
    Flag,
    InMemory,
    Persons,
    alike,
    checked_priors,
    given_parameters,
    largest_scaled_gradient,
    no_common_scale,
    origin_of,
    require_connected,
    require_items,
    require_persons,
    same_answers,
    some,
    spread,
    weakly_identified,
)
from irt_psychometrics.items import (
    GUESSING_BOUNDS,
    RSM,
    SLOPE_BOUND,
    ItemCurves,
    ItemModel,
    LogitNormal,
    Model,
    Priors,
    mirrored,
    model_of,
)
from irt_psychometrics.linking import AnchorSet

ENGINE = "mirt"
_BY_SLOPES: dict[str, Model] = {"own": "2pl", "common": "1pl", "fixed": "rasch"}
"""The model of the 0/1 items beside scored ones, by which irt.R knows what slopes all have."""
STEEPEST = 0.1
"""Largest gradient at a maximum, in the standard errors that known abilities would give. mirt stops by the size of its
steps, which are small on a long gentle slope, too; fits of clean data that it calls converged were below 0.0015 in
every test."""


def fit_mirt(
    responses: Responses,
    *,
    call: Call,
    model: Model | Sequence[Model],
    data_hash: str = "",
    anchors: AnchorSet | None = None,
    priors: Priors | None = None,
) -> Calibration:
    """Marginal maximum likelihood by mirt's EM, 61 nodes, errors by Oakes' identity.

    Arguments, refusals, flags and what identifies the scale are those of `fit_em`; there is one population, and of
    priors only a LogitNormal of c. Differences: `joint_cov` is None; an item is `AT_BOUND` where its slope, or the
    slope's error, is beyond ±10, and keeps the slope that mirt stopped at; an item is `UNIDENTIFIED` where a variance
    is 10⁵ times what it were with known abilities,
    n·Var(score) standing for that information. Scored items, of a GPCM or PCM, have no prior on steps beside rare
    scores, and anchors are not held beside them.
    """
    models = (model,) * responses.n_items if isinstance(model, str) else tuple(model)
    of = model_of(models)
    scored = _has_scored_items(responses, models, anchors)
    priors = checked_priors(of, priors)
    guessing = _prior_on_guessing(priors)
    source = InMemory(responses, Persons.of(responses, None, None, None))
    counts, given = source.counts(), given_parameters(responses, anchors, of)
    keep = counts.estimable(of) | (given.known & (counts.n > 0))
    require_items(responses, counts, keep, given, of)
    kept, _ = source.gathered(keep)
    of = model_of([*compress(models, keep)])
    laid, held = source.laid_out(keep, rarer=False, by_category=scored), given.known[keep]
    require_persons(laid.informative, source.names)
    require_connected(laid.links, kept.item_ids, held)
    origin = origin_of(given)
    fixed = ItemCurves(given.a[keep], (given.d + given.a * origin)[keep], given.c[keep])
    payload = _payload(kept, _BY_SLOPES[of.slopes] if scored else of.name, fixed, held, guessing, scored=scored)
    answer = Answer.of(call("irt_calibrate", payload), kept.n_items)
    found, further = _with_t(_oriented(answer, of, anchored=bool(held.any())))
    slope, whose = largest_scaled_gradient(
        kept,
        of,
        ItemCurves(found.a, found.d, found.c),
        latent_mean=found.latent_mean,
        latent_sd=found.latent_sd,
        given=fixed,
        priors=priors,
        further=further,
    )
    judged = _Judged.of(found, kept, first_alike=laid.first_alike, held=held, of=of, priors=priors)
    J, at = responses.n_items, np.flatnonzero(keep)
    values = np.stack([given.a, given.d + given.a * origin, given.c])
    values[:, at] = found.a, found.d, found.c
    cov = spread(mirrored(judged.cov), at, J)
    cov[given.known & ~keep] = 0.0
    version, software = found.software_versions(ENGINE)
    calibration = Calibration(
        item_ids=responses.item_ids,
        models=models,
        engine=ENGINE,
        engine_version=version,
        a=values[0],
        d=values[1],
        c=values[2],
        cov=cov,
        joint_cov=None,
        n=np.rint(counts.n).astype(np.int64),
        n_correct=np.rint(counts.correct).astype(np.int64),
        flags=counts.flags(keep, judged.marks),
        latent_mean=found.latent_mean,
        latent_sd=found.latent_sd,
        n_persons=len(np.unique(kept.person)),
        convergence=judged.convergence(found, slope, whose),
        data_hash=data_hash,
        priors=priors.as_dict(),
        anchored=tuple(item for item, fixed in zip(responses.item_ids, given.known, strict=True) if fixed),
        software=software,
        categories=responses.categories if scored else None,
        further=None if further is None else spread(_steps_of_items(kept, further), at, J),
        score_sums=np.rint(counts.table @ np.arange(counts.table.shape[1])).astype(np.int64) if scored else None,
    )
    return calibration.rescaled(1.0, origin) if origin else calibration


def _has_scored_items(responses: Responses, models: Sequence[Model], anchors: AnchorSet | None) -> bool:
    """Whether items are scored above 1. Raises PsychometricsError if mirt takes no such models or anchors."""
    scored = bool((responses.n_categories > 2).any())
    if scored and (anchors is not None or RSM.name in models):
        what = "anchors" if anchors is not None else "a rating scale model"
        raise PsychometricsError(f"the mirt engine does not take {what} where items are scored above 1: take em")
    return scored


def _prior_on_guessing(priors: Priors) -> LogitNormal | None:
    """The prior on c. Raises PsychometricsError for any other prior."""
    if priors.a is not None or priors.b is not None or not isinstance(priors.c, LogitNormal | None):
        raise PsychometricsError(
            "the mirt engine takes a LogitNormal prior on c and no other; for priors on a and b take em or pymc"
        )
    return priors.c


def _payload(
    responses: Responses, model: Model, curves: ItemCurves, held: Mask, guessing: LogitNormal | None, *, scored: bool
) -> dict[str, Any]:
    """The request to irt.R. Items that are `held` keep their `curves`; `guessing`: the prior on c."""
    return request(
        responses,
        engine=ENGINE,
        model=model,
        anchors=anchors_of(np.array(responses.item_ids)[held], a=curves.a[held], d=curves.d[held], c=curves.c[held])
        if held.any()
        else None,
        guessing_prior=None if guessing is None else {"mean_logit": guessing.mean, "sd_logit": guessing.sd},
        **({"categories": responses.n_categories.tolist()} if scored else {}),
    )


def _steps_of_items(responses: Responses, further: Floats) -> Floats:
    """t of the scores that an item has, NaN elsewhere and of items of 0 and 1; shape (J, C)."""
    of_item = np.where(responses.n_categories > 2, responses.n_categories, 0)
    return np.where(np.arange(further.shape[1]) < of_item[:, None], further, np.nan)


def _oriented(found: Answer, of: ItemModel, *, anchored: bool) -> Answer:
    """θ → −θ where most slopes are negative: the likelihood is the same for both."""
    if anchored or not of.own_slopes or np.sign(found.a).sum() + np.tanh(found.a.sum()) / 2 >= 0:
        return found
    turn = np.ones(found.cov.shape[1])
    turn[0] = -1.0
    return replace(found, a=-found.a, latent_mean=-found.latent_mean, cov=found.cov * np.outer(turn, turn))


def _with_t(found: Answer) -> tuple[Answer, Floats | None]:
    """The answer with each item's d, and the covariance of a, d and t; and t, shape (J, C), as in
    `PartialCreditModel`. t is None if no item is scored."""
    if (log_odds := found.log_odds) is None:
        return found, None
    J, C = log_odds.shape
    points, has = np.arange(C), np.isfinite(log_odds)
    low, high = has.argmax(axis=1), C - 1 - has[:, ::-1].argmax(axis=1)
    by = np.zeros((J, 2 + C, 1 + C))  # of (a, d, t) by (a, log odds)
    by[:, 0, 0] = 1.0
    by[np.arange(J), 1, 1 + high] = 1 / (high - low)
    by[:, 2:, 1:] = np.eye(C) - (points - low[:, None])[:, :, None] * by[:, 1, None, 1:]
    by[:, 2:, 1:] *= has[:, :, None]
    of_scores = np.einsum("jkl,jl->jk", by[:, 1:, 1:], np.where(has, log_odds, 0.0))
    cov = by @ found.cov @ by.transpose(0, 2, 1)
    return replace(found, d=of_scores[:, 0], cov=cov), np.where(has, of_scores[:, 1:], -np.inf)


@dataclass(frozen=True)
class _Judged:
    """Which of mirt's items get which flag, the covariance of what is identified, and why the fit is not a result."""

    marks: dict[Flag, Mask]
    cov: Floats
    reasons: list[str]

    @classmethod
    def of(
        cls, found: Answer, kept: Responses, *, first_alike: Ints, held: Mask, of: ItemModel, priors: Priors
    ) -> Self:
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
        same = alike(first_alike, n, correct)
        vague = ~held & _vague_guessing(found, priors) if of.guesses else np.zeros(len(n), dtype=bool)
        cov = found.cov.copy()
        cov[at_bound | unidentified] = np.nan

        reasons = [found.reason or "mirt did not converge, and does not say why"] if not found.converged else []
        if not held.any():
            reasons += _without_unit(found, of)
        split = np.minimum(correct, n - correct) / len(np.unique(kept.person))
        if (ruling := at_bound & (split > RULING_SHARE)).any():
            reasons.append(no_common_scale(f"slopes beyond {SLOPE_BOUND:g}", named[ruling]))
        if unidentified.any():
            reasons.append(
                f"the responses do not determine the parameters of {unidentified.sum()} of {len(n)} items "
                f"({some(list(named[unidentified]))})"
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
        return cls(marks, cov, reasons)

    def convergence(self, found: Answer, slope: float, whose: str) -> Convergence:
        """`slope`: the largest gradient, and `whose` it is."""
        if found.converged and not slope <= STEEPEST:
            self.reasons.append(
                f"mirt stopped where the likelihood still rises, most for {whose}: the gradient is {slope:.2g} "
                f"standard errors and must be at most {STEEPEST:g}"
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


def _without_unit(found: Answer, of: ItemModel) -> list[str]:
    """Reasons why a Rasch model's latent SD, or a common slope, shows that the answers do not make a scale."""
    what, value, (low, high) = {
        "fixed": ("latent SD", found.latent_sd, LATENT_SD_BOUNDS),
        "common": ("common slope", float(found.a[0]), (COMMON_SLOPE_FLOOR, SLOPE_BOUND)),
        "own": ("", 1.0, (0.0, 2.0)),
    }[of.slopes]
    if low < value < high:
        return []
    why = "are unrelated" if value <= low else "follow from each other"
    return [f"the {what} is {value:.3g}, which is not a scale: answers to different items {why}"]


def _vague_guessing(found: Answer, prior: Priors) -> Mask:
    """Items whose c is `weakly_identified`, or at a bound."""
    known = 0.0 if not isinstance(prior.c, LogitNormal) else prior.c.sd**-2.0
    low, high = GUESSING_BOUNDS
    return weakly_identified(found.cov[:, 2, 2], known) | (found.c <= low) | (found.c >= high)

"""Fits by R's mirt: what it is asked, and how its estimates are judged. mirt itself runs in irt.R.

mirt says whether its steps became small. Whether the answers determine what it found is judged here, by the rules of
the em engine, so that no item of either comes out as a plausible number where the other refuses one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from irt_assets.engines.r_calibration import Answer, Call, anchors_of, request
from irt_assets.psychometrics.core.anchors import AnchorSet
from irt_assets.psychometrics.core.arrays import Ints, Mask
from irt_assets.psychometrics.core.covariances import mirrored
from irt_assets.psychometrics.core.design import alike, require_connected
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.item_models import ItemCurves, item_model
from irt_assets.psychometrics.core.model_families import GUESSING_BOUNDS, SLOPE_BOUND
from irt_assets.psychometrics.core.models import Calibration, Convergence, Flag, Floats, Responses
from irt_assets.psychometrics.core.options import Model
from irt_assets.psychometrics.core.priors import LogitNormal, Priors
from irt_assets.psychometrics.estimation.em_request import (
    RULING_SHARE,
    Persons,
    checked_priors,
    given_parameters,
    no_common_scale,
    origin_of,
    require_items,
    require_persons,
    same_answers,
    some,
)
from irt_assets.psychometrics.estimation.marginal import largest_scaled_gradient
from irt_assets.psychometrics.estimation.parameter_layout import (
    COMMON_SLOPE_FLOOR,
    LATENT_SD_BOUNDS,
)
from irt_assets.psychometrics.estimation.source import InMemory
from irt_assets.psychometrics.estimation.standard_errors import VARIANCE_INFLATION_LIMIT, weakly_identified
from irt_assets.psychometrics.fit.classical import item_rest_correlation

ENGINE = "mirt"
STEEPEST = 0.1
"""Largest gradient at a maximum, in the standard errors that known abilities would give. mirt stops by the size of its
steps, which are small on a long gentle slope, too; fits of clean data that it calls converged were below 0.0015 in
every test."""


def fit_mirt(
    responses: Responses,
    *,
    call: Call,
    model: Model,
    data_hash: str = "",
    anchors: AnchorSet | None = None,
    priors: Priors | None = None,
) -> Calibration:
    """Marginal maximum likelihood by mirt's EM, 61 nodes, errors by Oakes' identity.

    Arguments, refusals, flags and what identifies the scale are those of `fit_em`; there is one population, and of
    priors only a LogitNormal of c. Differences: `joint_cov` is None; an item is `AT_BOUND` where its slope, or the
    slope's error, is beyond ±10, and keeps the slope that mirt stopped at; an item is `UNIDENTIFIED` where a variance
    is 10⁵ times what it were with known abilities,
    n·p·(1 − p) standing for that information.
    """
    of = item_model(model)
    priors = checked_priors(of, priors)
    if priors.a is not None or priors.b is not None or not isinstance(priors.c, LogitNormal | None):
        raise PsychometricsError(
            "the mirt engine takes a LogitNormal prior on c and no other; for priors on a and b take em or pymc"
        )
    source = InMemory(responses, Persons.of(responses, None, None, None))
    counts, given = source.counts(), given_parameters(responses, anchors, of)
    keep = counts.estimable(of) | (given.known & (counts.n > 0))
    require_items(responses, counts, keep, given, of)
    kept, _ = source.gathered(keep)
    laid, held = source.laid_out(keep, rarer=False, by_category=False), given.known[keep]
    require_persons(laid.informative, source.names)
    require_connected(laid.links, kept.item_ids, held)
    origin = origin_of(given)
    fixed = ItemCurves(given.a[keep], (given.d + given.a * origin)[keep], given.c[keep])
    known = None
    if held.any():
        known = anchors_of(np.array(kept.item_ids)[held], a=fixed.a[held], d=fixed.d[held], c=fixed.c[held])
    payload = request(
        kept,
        engine=ENGINE,
        model=model,
        anchors=known,
        guessing_prior=None if priors.c is None else {"mean_logit": priors.c.mean, "sd_logit": priors.c.sd},
    )
    found = _oriented(Answer.of(call("irt_calibrate", payload), kept.n_items), model, anchored=bool(held.any()))
    slope, whose = largest_scaled_gradient(
        kept,
        of,
        a=found.a,
        d=found.d,
        c=found.c,
        latent_mean=found.latent_mean,
        latent_sd=found.latent_sd,
        given=fixed,
        priors=priors,
    )
    judged = _Judged.of(found, kept, first_alike=laid.first_alike, held=held, model=model, priors=priors)
    if found.converged and not slope <= STEEPEST:
        judged.reasons.append(
            f"mirt stopped where the likelihood still rises, most for {whose}: the gradient is {slope:.2g} standard "
            f"errors and must be at most {STEEPEST:g}"
        )

    J, at = responses.n_items, np.flatnonzero(keep)
    values = np.stack([given.a, given.d + given.a * origin, given.c])
    values[:, at] = found.a, found.d, found.c
    cov = np.full((J, *found.cov.shape[1:]), np.nan)
    cov[given.known] = 0.0
    cov[at] = mirrored(judged.cov)
    version, software = found.software_versions(ENGINE)
    calibration = Calibration(
        item_ids=responses.item_ids,
        models=(model,) * J,
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
        convergence=Convergence(
            converged=not judged.reasons,
            iterations=found.iterations,
            max_change=np.nan,
            max_gradient=slope,
            loglik=found.loglik,
            n_parameters=found.n_parameters,
            reason="; ".join(judged.reasons),
        ),
        data_hash=data_hash,
        priors=priors.as_dict(),
        anchored=tuple(item for item, fixed in zip(responses.item_ids, given.known, strict=True) if fixed),
        software=software,
    )
    return calibration.rescaled(1.0, origin) if origin else calibration


def _oriented(found: Answer, model: Model, *, anchored: bool) -> Answer:
    """θ → −θ where most slopes are negative: the likelihood is the same for both."""
    if anchored or not item_model(model).own_slopes or np.sign(found.a).sum() + np.tanh(found.a.sum()) / 2 >= 0:
        return found
    turn = np.ones(found.cov.shape[1])
    turn[0] = -1.0
    return replace(found, a=-found.a, latent_mean=-found.latent_mean, cov=found.cov * np.outer(turn, turn))


@dataclass(frozen=True)
class _Judged:
    """Which of mirt's items get which flag, the covariance of what is identified, and why the fit is not a result."""

    marks: dict[Flag, Mask]
    cov: Floats
    reasons: list[str]

    @classmethod
    def of(
        cls, found: Answer, kept: Responses, *, first_alike: Ints, held: Mask, model: Model, priors: Priors
    ) -> _Judged:
        n = np.bincount(kept.item, minlength=kept.n_items)
        correct = np.bincount(kept.item, kept.score, minlength=kept.n_items)
        named = np.array(kept.item_ids, dtype=object)
        own_slope = ~held & item_model(model).own_slopes
        endless = np.sqrt(found.cov[:, 0, 0]) >= SLOPE_BOUND
        at_bound = own_slope & ((np.abs(found.a) >= SLOPE_BOUND) | endless)
        variance = np.stack([found.cov[:, 0, 0] * found.latent_sd**2, found.cov[:, 1, 1]])
        inflation = variance.max(axis=0) * correct * (n - correct) / n
        unidentified = ~held & ~at_bound & ~(inflation < VARIANCE_INFLATION_LIMIT)
        reversed_ = np.where(own_slope, found.a < 0, ~held & (item_rest_correlation(kept) < 0))
        same = alike(first_alike, n, correct)
        vague = ~held & _vague_guessing(found, priors) if item_model(model).guesses else np.zeros(len(n), dtype=bool)
        cov = found.cov.copy()
        cov[at_bound | unidentified] = np.nan

        reasons = [found.reason or "mirt did not converge, and does not say why"] if not found.converged else []
        if not held.any():
            reasons += _without_unit(found, model)
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


def _without_unit(found: Answer, model: Model) -> list[str]:
    """Reasons why a Rasch model's latent SD, or a common slope, shows that the answers do not make a scale."""
    what, value, (low, high) = {
        "fixed": ("latent SD", found.latent_sd, LATENT_SD_BOUNDS),
        "common": ("common slope", float(found.a[0]), (COMMON_SLOPE_FLOOR, SLOPE_BOUND)),
        "own": ("", 1.0, (0.0, 2.0)),
    }[item_model(model).slopes]
    if low < value < high:
        return []
    why = "are unrelated" if value <= low else "follow from each other"
    return [f"the {what} is {value:.3g}, which is not a scale: answers to different items {why}"]


def _vague_guessing(found: Answer, prior: Priors) -> Mask:
    """Items whose c is `weakly_identified`, or at a bound."""
    known = 0.0 if not isinstance(prior.c, LogitNormal) else prior.c.sd**-2.0
    low, high = GUESSING_BOUNDS
    return weakly_identified(found.cov[:, 2, 2], known) | (found.c <= low) | (found.c >= high)

"""Adapter of R's brms: a Bayesian fit by Stan that samples every learner's θ. brms itself runs in irt.R.

For small data, and as a second opinion on `pymc`, whose priors and judgement these are; with θ sampled it is slower
by hundreds of times.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from irt_assets.engines.child import Limits
from irt_assets.engines.r_calibration import Answer, Call, anchors_of, request
from irt_assets.engines.r_process import call_r
from irt_assets.psychometrics.em import fit_em
from irt_assets.psychometrics.em_request import some
from irt_assets.psychometrics.errors import PsychometricsError
from irt_assets.psychometrics.linking import AnchorSet, link
from irt_assets.psychometrics.models import Calibration, Convergence, Flag, Model, Responses
from irt_assets.psychometrics.priors import LogNormal, Normal, Priors

ENGINE = "brms"
MODELS: tuple[Model, ...] = ("rasch", "1pl", "2pl")
ITEM_PRIORS = Priors(a=LogNormal(0.0, 0.5), b=Normal(0.0, 1.0))
"""Written into irt.R, too."""
FEWEST_ITEMS = 3


@dataclass(frozen=True)
class Sampling:
    """How long Stan samples, and where the compiled models are kept: a compilation takes a minute and 2.6 GB.

    `draws` and `tune` are per chain; `cores` chains run at once; `cache` None compiles anew for every fit. The limits
    below which a fit has not converged (R-hat 1.01, ESS 1000) are met by four chains of 1500 draws as a rule.
    """

    draws: int = 1500
    tune: int = 500
    chains: int = 4
    cores: int = 1
    seed: int = 61
    cache: Path | None = None

    def as_options(self) -> dict[str, int | str]:
        numbers = {name: getattr(self, name) for name in ("draws", "tune", "chains", "cores", "seed")}
        return numbers | ({} if self.cache is None else {"cache": str(self.cache)})


@dataclass
class BrmsEngine:
    """R's brms in a child process, within `limits` of time and memory."""

    sampling: Sampling = field(default_factory=Sampling)
    limits: Limits = field(default_factory=Limits)
    name: str = ENGINE

    def calibrate(
        self, responses: Responses, *, model: Model, data_hash: str, anchors: AnchorSet | None = None
    ) -> Calibration:
        """See `fit_brms`. Raises also what `call_r` does."""
        call = partial(call_r, limits=self.limits)
        return fit_brms(responses, call=call, model=model, data_hash=data_hash, anchors=anchors, sampling=self.sampling)


def fit_brms(
    responses: Responses,
    *,
    call: Call,
    model: Model,
    data_hash: str = "",
    anchors: AnchorSet | None = None,
    sampling: Sampling | None = None,
) -> Calibration:
    """Posterior means and covariances of a and d, for Rasch, 1PL and 2PL.

    Scale, priors, anchors (purified, then with normal priors as wide as their errors) and what is left out are those
    of `PymcEngine`: the em engine goes first, what it refuses is refused, items with a negative slope get no number,
    and where the responses make no scale this fit has not converged either. `convergence.loglik` is the marginal
    log-likelihood at the posterior means; `iterations` counts those of all chains.

    Raises PsychometricsError for what is refused and LinkingError where too few anchors agree with the responses.
    """
    if model not in MODELS:
        raise PsychometricsError(f"the brms engine fits {', '.join(MODELS)}; got model {model!r}")
    em = fit_em(responses, model=model, data_hash=data_hash)
    kept = np.flatnonzero(em.estimated & (np.nan_to_num(em.a) > 0))
    if len(kept) < FEWEST_ITEMS:
        negative = [item for item, a in zip(em.item_ids, em.a, strict=True) if a < 0]
        raise PsychometricsError(
            f"only {len(kept)} items have a positive slope, too few for a scale; with a negative one: "
            f"{some(negative)}. Check their keys"
        )
    names = [em.item_ids[j] for j in kept]
    known = None
    if anchors is not None:
        used = set(link(em, anchors).anchors_used)
        rows = [k for k, item in enumerate(anchors.item_ids) if item in used]
        a, b = anchors.a[rows], anchors.b[rows]
        errors = {"a_se": anchors.a_se[rows], "b_se": anchors.b_se[rows]}
        known = anchors_of([anchors.item_ids[k] for k in rows], a=a, d=-a * b, c=np.zeros(len(rows)), **errors)
    asked = request(
        responses.of_items(kept),
        engine=ENGINE,
        model=model,
        anchors=known,
        options=(sampling or Sampling()).as_options(),
    )
    found = Answer.of(call("irt_calibrate", asked), len(kept))

    J = em.n_items
    a, d, c, cov = np.full(J, np.nan), np.full(J, np.nan), np.full(J, np.nan), np.full((J, 2, 2), np.nan)
    a[kept], d[kept], c[kept], cov[kept] = found.a, found.d, 0.0, found.cov
    vague = set(found.diagnostics["unidentified"] or ()) | {
        item for item in names if Flag.UNIDENTIFIED in em.flags[em.item_ids.index(item)]
    }
    cov[[item in vague for item in em.item_ids]] = np.nan
    flags = [
        tuple(dict.fromkeys([*flags, *([Flag.UNIDENTIFIED] if item in vague else [])]))
        for item, flags in zip(em.item_ids, em.flags, strict=True)
    ]
    reasons = [em.convergence.reason] if em.convergence.reason else []
    if not found.converged:
        reasons.append(found.reason or "brms did not converge, and does not say why")
    version, software = found.made_with("brms", "rstan")
    return Calibration(
        item_ids=em.item_ids,
        model=model,
        engine=ENGINE,
        engine_version=version,
        a=a,
        d=d,
        c=c,
        cov=cov,
        joint_cov=None,
        n=em.n,
        n_correct=em.n_correct,
        flags=tuple(flags),
        latent_mean=found.latent_mean,
        latent_sd=found.latent_sd,
        n_persons=len(np.unique(responses.of_items(kept).person)),
        convergence=Convergence(
            converged=not reasons,
            iterations=found.iterations,
            max_change=np.nan,
            max_gradient=np.nan,
            loglik=found.loglik,
            n_parameters=found.n_parameters,
            reason="; ".join(reasons),
        ),
        data_hash=data_hash,
        priors=ITEM_PRIORS.as_dict(),
        software=software,
    )

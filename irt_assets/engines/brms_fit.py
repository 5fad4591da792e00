"""Fits by R's brms: Bayesian, by Stan, which samples every learner's θ. brms itself runs in irt.R.

For small data, and as a second opinion on `pymc`, whose priors and judgement these are; with θ sampled it is slower
by hundreds of times.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from irt_assets.engines.r_calibration import Answer, Call, anchors_of, request
from irt_assets.engines.screening import ITEM_PRIORS, screen_items
from irt_psychometrics import Calibration, Responses
from irt_psychometrics.estimation import Convergence, Flag, spread
from irt_psychometrics.items import Model
from irt_psychometrics.linking import AnchorSet, link

ENGINE = "brms"


def fit_brms(
    responses: Responses,
    *,
    call: Call,
    model: Model,
    options: Mapping[str, Any],
    data_hash: str = "",
    anchors: AnchorSet | None = None,
) -> Calibration:
    """Posterior means and covariances of a and d, for Rasch, 1PL and 2PL. `options`: how Stan samples.

    Scale, priors, anchors (those that did not move, with normal priors as wide as their errors) and what is left out
    are those of `PymcEngine`: the em engine goes first, what it refuses is refused, items with a negative slope get no
    number, and where the responses make no scale this fit has not converged either. `convergence.loglik` is the
    marginal log-likelihood at the posterior means; `iterations` counts those of all chains.

    Raises PsychometricsError for what is refused and LinkingError where the anchors determine no line.
    """
    em, kept = screen_items(responses, model, None, data_hash)
    names = [em.item_ids[j] for j in kept]
    known = None
    if anchors is not None:
        used = set(link(em, anchors).anchors_used)
        rows = [k for k, item in enumerate(anchors.item_ids) if item in used]
        a, b = anchors.a[rows], anchors.b[rows]
        errors = {"a_se": anchors.a_se[rows], "b_se": anchors.b_se[rows]}
        known = anchors_of([anchors.item_ids[k] for k in rows], a=a, d=-a * b, c=np.zeros(len(rows)), **errors)
    sampled, J = responses.of_items(kept), em.n_items
    payload = request(
        sampled,
        engine=ENGINE,
        model=model,
        anchors=known,
        options=dict(options),
    )
    found = Answer.of(call("irt_calibrate", payload), len(kept))

    cov = spread(found.cov, kept, J)
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
    version, software = found.software_versions("brms", "rstan")
    return replace(
        em,
        engine=ENGINE,
        engine_version=version,
        a=spread(found.a, kept, J),
        d=spread(found.d, kept, J),
        c=spread(np.zeros(len(kept)), kept, J),
        cov=cov,
        joint_cov=None,
        flags=tuple(flags),
        latent_mean=found.latent_mean,
        latent_sd=found.latent_sd,
        n_persons=len(np.unique(sampled.person)),
        convergence=Convergence(
            converged=not reasons,
            iterations=found.iterations,
            max_change=np.nan,
            max_gradient=np.nan,
            loglik=found.loglik,
            n_parameters=found.n_parameters,
            reason="; ".join(reasons),
        ),
        priors=ITEM_PRIORS.as_dict(),
        populations=(),
        software=software,
    )

"""Bayesian fits by R's brms, with Stan, which samples every learner's θ. brms itself runs in irt.R.

For small data, and as a second opinion on `pymc`: both have the same priors and the same criteria of convergence.
Because θ is sampled, a fit takes hundreds of times longer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from irt_assets.engines.r_calibration import Answer, Call, anchor_columns, request
from irt_assets.engines.screening import ITEM_PRIORS, screen_items
from irt_assets.engines.spec import BRMS_MODELS, one_model
from irt_psychometrics import Calibration, PsychometricsError, Responses
from irt_psychometrics.items import Model
from irt_psychometrics.linking import AnchorSet, link_to_anchors

ENGINE = "brms"


def fit_brms(
    responses: Responses,
    *,
    call: Call,
    model: Model | Sequence[Model],
    options: Mapping[str, Any],
    data_hash: str = "",
    anchors: AnchorSet | None = None,
) -> Calibration:
    """Posterior means and covariances, for Rasch, 1PL, 2PL and graded items. `options`: Stan's sampling options.

    Scale, priors and omitted items are the same as in `PymcEngine`. The em engine fits the responses first. Items with
    a negative slope get no values, and if the responses do not form a scale, this fit has not converged, either.
    The logarithms of distances between a graded item's thresholds have the prior N(0, 1) on the scale of a·θ. Graded
    items cannot be combined with anchors.

    Anchors that did not move have normal priors with their errors as SDs. `convergence.loglik` is the marginal
    log-likelihood at the posterior means; `iterations` counts the iterations of all chains.

    Raises PsychometricsError if the em engine refuses the responses or too few items are left, and LinkingError if the
    anchors determine no line.
    """
    family = one_model(ENGINE, BRMS_MODELS, model)
    if family == "grm" and anchors is not None:
        raise PsychometricsError("the brms engine does not support anchors for graded items: use engine em")
    em, kept = screen_items(responses, model, None, data_hash)
    names = [em.item_ids[j] for j in kept]
    known = None
    if anchors is not None:
        used = set(link_to_anchors(em, anchors).anchors_used)
        rows = [k for k, item in enumerate(anchors.item_ids) if item in used]
        a, b = anchors.a[rows], anchors.b[rows]
        errors = {"a_se": anchors.a_se[rows], "b_se": anchors.b_se[rows]}
        known = anchor_columns([anchors.item_ids[k] for k in rows], a=a, d=-a * b, c=np.zeros(len(rows)), **errors)
    sampled = responses.of_items(kept)
    graded = {
        "categories": sampled.n_categories.tolist(),
        "item_types": np.where(sampled.n_categories > 2, "graded", "2PL").tolist(),
    }
    payload = request(
        sampled,
        engine=ENGINE,
        model="2pl" if family == "grm" else family,
        **(graded if family == "grm" else {}),
        anchors=known,
        options=dict(options),
    )
    answer = Answer.from_result(call("irt_calibrate", payload), len(kept))
    version, software = answer.software_versions("brms", "rstan")
    calibration = replace(answer.estimates, c=np.zeros(len(kept))).merge_into(
        em,
        kept,
        engine=ENGINE,
        version=version,
        n_persons=len(np.unique(sampled.person)),
        unidentified=np.isin(names, answer.diagnostics["unidentified"] or ()),
    )
    return replace(calibration, priors=ITEM_PRIORS.as_dict(), software=software)

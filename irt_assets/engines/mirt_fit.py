"""Fits by R's mirt. This module writes the request, irt.R runs mirt, and the library checks the estimates."""

from collections.abc import Sequence

import numpy as np

from irt_assets.engines.r_calibration import Answer, Call, anchor_columns, request
from irt_psychometrics import Calibration, PsychometricsError, Responses
from irt_psychometrics.estimation import ExternalFit
from irt_psychometrics.items import LogitNormal, Model, Priors
from irt_psychometrics.linking import AnchorSet

ENGINE = "mirt"
_BY_SLOPES: dict[str, Model] = {"own": "2pl", "common": "1pl", "fixed": "rasch"}
"""Model of the 0/1 items next to scored items, by the kind of slopes. irt.R derives the slopes of all items from it."""


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

    Arguments, refusals, flags and the identification of the scale are the same as in `fit_em`, except that there is one
    population and that the only possible prior is a LogitNormal on c. `joint_cov` is None, and `AT_BOUND` and
    `UNIDENTIFIED` are determined as in `ExternalFit.calibration`. Scored items (GPCM or PCM) have no prior on steps
    next to rare scores, and cannot be combined with anchors.

    Raises PsychometricsError for refused responses, models, priors and anchors, and the errors of `call`.
    """
    scored = _has_scored_items(responses, model, anchors)
    fit = ExternalFit.from_request(responses, ENGINE, model, anchors=anchors, priors=priors)
    family, held, curves = fit.item_model, fit.held, fit.curves
    guessing = _prior_on_guessing(fit.priors)
    payload = request(
        fit.responses,
        engine=ENGINE,
        model=_BY_SLOPES[family.slopes] if scored else family.name,
        anchors=anchor_columns(
            np.array(fit.responses.item_ids)[held], a=curves.a[held], d=curves.d[held], c=curves.c[held]
        )
        if held.any()
        else None,
        guessing_prior=None if guessing is None else {"mean_logit": guessing.mean, "sd_logit": guessing.sd},
        **({"categories": fit.responses.n_categories.tolist()} if scored else {}),
    )
    answer = Answer.from_result(call("irt_calibrate", payload), fit.responses.n_items)
    version, software = answer.software_versions(ENGINE)
    return fit.calibration(answer.estimates, version=version, software=software, data_hash=data_hash)


def _has_scored_items(responses: Responses, model: Model | Sequence[Model], anchors: AnchorSet | None) -> bool:
    """Whether items are scored above 1. If so, raises PsychometricsError for anchors or a rating scale model."""
    scored = bool((responses.n_categories > 2).any())
    if scored and (anchors is not None or "rsm" in ([model] if isinstance(model, str) else model)):
        feature = "anchors" if anchors is not None else "a rating scale model"
        raise PsychometricsError(
            f"the mirt engine does not support {feature} if items are scored above 1: use engine em"
        )
    return scored


def _prior_on_guessing(priors: Priors) -> LogitNormal | None:
    """The prior on c. Raises PsychometricsError for any other prior."""
    if priors.a is not None or priors.b is not None or not isinstance(priors.c, LogitNormal | None):
        raise PsychometricsError(
            "the mirt engine supports only a LogitNormal prior on c; for priors on a and b use engine em or pymc"
        )
    return priors.c

"""Fits by R's mirt. This module writes the request, irt.R runs mirt, and the library checks the estimates."""

from collections.abc import Sequence

import numpy as np

from irt_assets.common.arrays import Ints
from irt_assets.engines.r_calibration import Answer, Call, anchor_columns, request
from irt_assets.engines.spec import MIRT_MODELS, require_models
from irt_psychometrics import Calibration, PsychometricsError, Responses
from irt_psychometrics.estimation import ExternalFit
from irt_psychometrics.items import ItemModel, LogitNormal, Model, Priors, item_model
from irt_psychometrics.linking import AnchorSet

ENGINE = "mirt"
_ITEM_TYPES: dict[Model, str] = {"3pl": "3PL", "pcm": "gpcm", "gpcm": "gpcm", "grm": "graded", "nominal": "nominal"}
"""mirt's types of items; other models are 2PL."""
_BY_SLOPES: dict[str, Model] = {"own": "2pl", "common": "1pl", "fixed": "rasch"}
"""The member `model` of a request, by the kind of slopes."""


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
    `UNIDENTIFIED` are determined as in `ExternalFit.calibration`. Scored items have no prior on steps next to rare
    scores, and cannot be combined with anchors.

    Raises PsychometricsError for refused responses, models, priors and anchors, and the errors of `call`.
    """
    scored = bool((responses.n_categories > 2).any())
    require_models(ENGINE, MIRT_MODELS, model)
    if not scored:  # mirt's types of items follow from the models of two scores
        names = [model] * responses.n_items if isinstance(model, str) else model
        model = tuple(item_model(name).of_max_score(1).name for name in names)
    if scored and anchors is not None:
        raise PsychometricsError("the mirt engine does not support anchors if items are scored above 1: use engine em")
    fit = ExternalFit.from_request(responses, ENGINE, model, anchors=anchors, priors=priors)
    family, held, curves = fit.item_model, fit.held, fit.curves
    if family.own_slopes and family.common_slopes(fit.responses.n_items).any():
        raise PsychometricsError(
            f"the mirt engine fits either own slopes or a common one, got both in {family.name}: use engine em"
        )
    guessing = _prior_on_guessing(fit.priors)
    payload = request(
        fit.responses,
        engine=ENGINE,
        model=_BY_SLOPES[family.slopes],
        anchors=anchor_columns(
            np.array(fit.responses.item_ids)[held], a=curves.a[held], d=curves.d[held], c=curves.c[held]
        )
        if held.any()
        else None,
        guessing_prior=None if guessing is None else {"mean_logit": guessing.mean, "sd_logit": guessing.sd},
        categories=fit.responses.n_categories.tolist(),
        item_types=_item_types(family, fit.responses.n_categories),
    )
    answer = Answer.from_result(call("irt_calibrate", payload), fit.responses.n_items)
    version, software = answer.software_versions(ENGINE)
    return fit.calibration(answer.estimates, version=version, software=software, data_hash=data_hash)


def _item_types(family: ItemModel, categories: Ints) -> list[str]:
    """Return mirt's type of each item."""
    types = np.full(len(categories), "2PL", dtype=object)
    for model, at in family.places(len(categories)).items():
        more = model.has_parameter("c") | (categories[at] > 2)
        types[at[more]] = _ITEM_TYPES.get(model.name, "2PL")
    return types.tolist()


def _prior_on_guessing(priors: Priors) -> LogitNormal | None:
    """The prior on c. Raises PsychometricsError for any other prior."""
    if priors.a is not None or priors.b is not None or not isinstance(priors.c, LogitNormal | None):
        raise PsychometricsError(
            "the mirt engine supports only a LogitNormal prior on c; for priors on a and b use engine em or pymc"
        )
    return priors.c

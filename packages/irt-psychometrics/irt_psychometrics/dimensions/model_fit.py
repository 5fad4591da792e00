"""Absolute fit of two-tier models: M₂ or C₂ of each form, with RMSEA, CFI, TLI and SRMSR.

The statistics are defined in `itemfit.m2`; margins of the model come from `margins`.
"""

import numpy as np

from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dimensions.calibration import DimensionsCalibration
from irt_psychometrics.dimensions.margins import Moments
from irt_psychometrics.itemfit.m2 import MIN_FORM, FormFit, Margins, fit_of_margins, observed_margins
from irt_psychometrics.itemfit.model_replicates import complete_forms, require_same_items

MAX_ITEMS = 50
"""Default largest number of tested items of a form. Computing time grows with the fourth power of their number: 2 s for
50 items."""


def form_fit(
    responses: Responses,
    calibration: DimensionsCalibration,
    *,
    most_items: int = MAX_ITEMS,
    most_forms: int | None = None,
) -> list[FormFit]:
    """Compute M₂ (Maydeu-Olivares & Joe 2006) or C₂ (Cai & Monroe 2014) of each form, the most persons first.

    Forms are defined as in `itemfit.m2.form_fit`, and so are `most_items` and `most_forms`. All free parameters have
    derivatives, tied slopes and correlations included.

    Raises PsychometricsError if the scores of an item have no order, or if responses and calibration do not have the
    same items in the same order.
    """
    calibration.item_model.require_ordered_scores("M₂")
    require_same_items(responses, calibration.item_ids)
    places = np.flatnonzero(calibration.estimated)
    kept = responses.of_items(calibration.estimated)
    found = []
    everybody = np.zeros(kept.n_persons, dtype=np.int64)
    forms = sorted(complete_forms(kept, everybody, MIN_FORM), key=lambda form: -len(form.answers))
    for form in (form.evenly_spaced(most_items) for form in forms[:most_forms]):
        if len(form.items) < 2:
            continue
        model = Moments.from_calibration(calibration, places[form.items])
        item, score = model.scores
        margins = Margins(
            len(form.items),
            item,
            model.points[item, score],
            observed_margins(form.answers, item, score, model.has),
            model.expected,
            model.covariance,
            model.derivatives,
        )
        fit = fit_of_margins(margins, model.items, len(form.answers))
        found += [] if fit is None else [fit]
    return found

"""Turn a linked fit into rows for its items and statistics for the set; `fits` writes and reads them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

from irt_assets.common.arrays import finite
from irt_assets.ledger.fit_spec import FitStatistics, SetStatistics, StagedSpec, Testlets
from irt_psychometrics import Calibration
from irt_psychometrics.estimation import Flag
from irt_psychometrics.items import item_model
from irt_psychometrics.linking import Linking

if TYPE_CHECKING:
    from irt_psychometrics.itemfit import FitSummary

STATISTIC_COLUMNS = ("point_biserial", "infit", "outfit", "rmsd")
"""Statistics with a column of their own; the others are stored in `params` under `fit`."""


def statistics_spec(summary: FitSummary) -> FitStatistics:
    """Convert fit statistics to the form in which they are stored with a staged fit."""
    return FitStatistics(
        items={name: tuple(finite(x) for x in values) for name, values in summary.items.items()},
        set=SetStatistics.from_json(summary.whole, "that was summarised"),
    )


def item_rows(
    fit_id: str,
    raw: Calibration,
    linked: Calibration,
    fitted_at: datetime,
    spec: StagedSpec,
) -> list[dict[str, Any]]:
    statistics = spec.fit_statistics.items if spec.fit_statistics else {}
    provisional, unpublished = set(spec.provisional), set(spec.never_published)
    cov_ab, c_se = linked.cov_ab, linked.c_se
    further_cov, p_values = linked.further_cov_ab, raw.p_values
    rows: list[dict[str, Any]] = []
    for j, item_id in enumerate(raw.item_ids):
        model = item_model(linked.models[j])
        params: dict[str, Any] = {
            "model": model.name,
            "a": finite(linked.a[j]),
            "b": finite(linked.b[j]),
            "c": finite(linked.c[j]),
            "a_se": finite(linked.a_se[j]),
            "b_se": finite(linked.b_se[j]),
            "c_se": finite(c_se[j]) if model.has_parameter("c") else None,
            "cov_ab": finite(cov_ab[j, 0, 1]),
            "cov_logit_c": None,
            "raw": {
                "a": finite(raw.a[j]),
                "b": finite(raw.b[j]),
                "d": finite(raw.d[j]),
                "a_se": finite(raw.a_se[j]),
                "b_se": finite(raw.b_se[j]),
                "d_se": finite(raw.d_se[j]),
            },
            "fit": {name: values[j] for name, values in statistics.items() if name not in STATISTIC_COLUMNS},
        } | ({"provisional": True} if item_id in unpublished else {})
        if further_cov is not None and model.more_than_a_and_b:
            n = len(model.parameter_names(int(linked.n_categories[j]))) - 2
            rows_of_cov = [[*map(finite, row)] for row in further_cov[j, :n, : 2 + n]]
            params |= {"cov_logit_c": rows_of_cov[0]} if n == 1 else {"cov_further": rows_of_cov}
        if further := linked.further_of(j):
            params["further"] = further
        rows.append(
            {
                "fit_id": fit_id,
                "item_id": item_id,
                "params": params,
                "n_responses": int(raw.n[j]),
                "p_value": finite(p_values[j]),
                "flags": [str(f) for f in raw.flags[j]] + [str(Flag.PROVISIONAL)] * (item_id in provisional),
                "fitted_at": fitted_at,
            }
            | {name: statistics[name][j] if statistics else None for name in STATISTIC_COLUMNS}
        )
    return rows


def testlets_on_the_scale(found: Testlets, linking: Linking | None) -> Testlets:
    """Convert testlet effects to units of the bank's scale; `raw_sd` is the SD in units of the fit.

    Returns `found` unchanged if it has no SD, or if `linking` is None (the fit of an origin).
    """
    if found.sd is None or found.se is None or linking is None:
        return found
    error = math.hypot(linking.slope * found.se, found.sd * linking.slope_se)
    return found.model_copy(update={"raw_sd": found.sd, "sd": linking.slope * found.sd, "se": error})

"""The parallel analysis that a fit is stored with, read again for the months that are compared with it."""

from __future__ import annotations

import numpy as np
import pytest

from irt_assets.gates.misfit import kept_dimensions
from irt_assets.ledger.fit_spec import SetStatistics
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.fit.dependence import parallel_analysis
from irt_assets.psychometrics.fit.fit_summary import PARALLEL_ROUNDS, summarise
from tests.helpers.fit_specs import PARALLEL, SET
from tests.helpers.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

WITHOUT_ERROR = PARALLEL | {"under_model": [], "se": None, "learners": 0, "together": []}


def test_what_is_kept_is_the_analysis_itself() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(500, 1)) - np.linspace(-1, 1, 6)
    responses = Responses.from_wide((rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype(float))
    fit = fit_em(responses, threads=1)
    statistics = SetStatistics.from_json(summarise(responses, fit, threads=1).whole, "fit")
    found = kept_dimensions(statistics, responses.item_ids)
    again = parallel_analysis(responses, fit, replications=PARALLEL_ROUNDS, threads=1)
    np.testing.assert_array_equal(found.under_model, again.under_model)
    assert (found.ratio, found.ratio_se, found.p) == (again.ratio, again.ratio_se, again.p)
    assert (found.loading_items, found.learners) == (again.loading_items, 500)
    without = [item for j, item in enumerate(responses.item_ids) if j not in found.loading_items]
    assert kept_dimensions(statistics, without) is None, "its items have left the scale"


@pytest.mark.parametrize("kept", [None, WITHOUT_ERROR])
def test_of_a_fit_that_kept_none_there_is_none(kept: dict[str, object] | None) -> None:
    assert kept_dimensions(SetStatistics.from_json(SET | {"parallel": kept}, "fit"), ("i1", "i2")) is None
    assert kept_dimensions(None, ("i1", "i2")) is None

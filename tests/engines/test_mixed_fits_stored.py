"""Fits of several models in the ledger: encoded fits, rows of items, and the fits that were compared.

The models are the 2PL, the 3PL and the trial model with an upper asymptote, which the product does not contain.
"""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import numpy as np
import pytest

from irt_assets.ledger.encoding import decode, encode
from irt_assets.ledger.fit_rows import item_rows
from irt_assets.ledger.fit_spec import StagedSpec
from irt_assets.ledger.fitted_items import FittedItem
from irt_psychometrics import Calibration
from irt_psychometrics.items import ItemParameters
from psychometrics_testbed.mixed_fits import EACH, MODELS, join_fits, of_one_model
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE
from tests.helpers.fit_specs import staged_json
from tests.helpers.same_fits import assert_same

pytestmark = [WHERE_STATISTICS_CHANGE, pytest.mark.usefixtures("trial_model")]

SLOPE, INTERCEPT = 1.2, -0.4
THETA = np.linspace(-3, 3, 13)


@pytest.fixture
def parts() -> list[Calibration]:
    return [of_one_model(name) for name in MODELS]


@pytest.fixture
def mixed(parts: list[Calibration]) -> Calibration:
    return join_fits(*parts)


def test_stored_mixed_fits_are_read_back_unchanged(mixed: Calibration) -> None:
    assert_same(decode(encode(mixed)), mixed)


def test_fits_stored_by_an_earlier_release_are_read(parts: list[Calibration]) -> None:
    """Such a file has one model, and stores covariances of c separately. Fits of one model are still stored like
    this."""
    _, fit, _ = parts
    with np.load(io.BytesIO(encode(fit))) as stored:
        header = json.loads(stored["header"].tobytes())
        assert header["model"] == "3pl"
        assert "models" not in header
        np.testing.assert_array_equal(stored["cov"], fit.cov[:, :2, :2])
        np.testing.assert_array_equal(stored["guessing_cov"], fit.cov[:, 2])
    back = decode(encode(fit))
    assert back.models == ("3pl",) * EACH
    np.testing.assert_array_equal(back.cov, fit.cov)


def test_rows_of_mixed_fits_match_rows_of_fits_of_a_single_model(mixed: Calibration, parts: list[Calibration]) -> None:
    at = datetime(2026, 7, 1, tzinfo=UTC)

    def rows(fit: Calibration) -> list[dict[str, object]]:
        return item_rows("fit", fit, fit.rescaled(SLOPE, INTERCEPT), at, StagedSpec())

    found, alone = rows(mixed), [row for part in parts for row in rows(part)]
    assert [row["params"]["model"] for row in found] == [name for name in MODELS for _ in range(EACH)]
    for one, other in zip(found, alone, strict=True):
        assert one["params"].keys() == other["params"].keys()
        assert (one["params"]["cov_logit_c"] is None) == (one["params"]["model"] == "2pl")
        for name, value in one["params"].items():
            if isinstance(value, float | list):
                assert value == pytest.approx(other["params"][name], rel=1e-12), name
            else:
                assert value == other["params"][name], name
    read = [FittedItem.from_row(row).values for row in found]
    items = ItemParameters.from_rows(mixed.item_ids, read)
    np.testing.assert_allclose(items.curve(THETA), mixed.rescaled(SLOPE, INTERCEPT).items.curve(THETA), rtol=1e-9)


def test_compared_fits_of_several_models_are_read_back_unchanged() -> None:
    stored = staged_json()
    stored["shape"] |= {"compared": [one | {"model": "2pl+3pl+2plu"} for one in stored["shape"]["compared"]]}
    assert stored["shape"]["compared"]
    assert StagedSpec.from_json(stored, "fit").as_json() == stored

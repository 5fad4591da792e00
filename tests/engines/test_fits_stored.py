"""Fits as the ledger stores them: encoded fits, rows of items, and the fits that were compared."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import numpy as np
import pytest

from irt_assets.ledger.encoding import DecodedFits, decode, encode
from irt_assets.ledger.fit_rows import item_rows
from irt_assets.ledger.fit_spec import StagedSpec
from irt_assets.ledger.fitted_items import FittedItem
from irt_psychometrics import Calibration
from irt_psychometrics.estimation import Flag, fit_em
from irt_psychometrics.items import ItemParameters, Priors, item_model
from irt_psychometrics.responses import Responses
from psychometrics_testbed.mixed_fits import EACH, MODELS, join_fits, of_one_model
from tests.helpers import rooms
from tests.helpers.fit_specs import staged_json
from tests.helpers.same_fits import assert_same

SLOPE, INTERCEPT = 1.2, -0.4
THETA = np.linspace(-3, 3, 13)


def test_encoded_fits_are_decoded_bitwise() -> None:
    """An engine may return NumPy's numbers instead of Python's; the codec accepts both."""
    rng = np.random.default_rng(4)
    theta = rng.normal(size=(300, 1))
    scores = (rng.random((300, 6)) < 1 / (1 + np.exp(-(theta - np.linspace(-1, 1, 6))))).astype(float)
    scores[:, 5] = 1.0
    fit = fit_em(Responses.from_wide(scores), model="2pl", threads=1, data_hash="hash")
    back = decode(encode(fit))
    for name in ("a", "d", "c", "cov", "joint_cov", "n", "n_correct"):
        assert getattr(back, name).tobytes() == getattr(fit, name).tobytes(), name
    assert (back.flags, back.convergence, back.item_ids) == (fit.flags, fit.convergence, fit.item_ids)
    assert Flag.ALL_CORRECT in back.flags[5]


def test_encoded_3pl_with_groups_and_a_histogram_is_decoded_unchanged() -> None:
    rng = np.random.default_rng(5)
    theta = rng.normal(size=(300, 1))
    scores = (rng.random((300, 6)) < 0.2 + 0.8 / (1 + np.exp(-(theta - np.linspace(-1, 1, 6))))).astype(float)
    fit = fit_em(Responses.from_wide(scores), model="3pl", groups=["x", "y", "z"] * 100, latent="histogram")
    assert_same(decode(encode(fit)), fit)
    assert Priors.from_dict(fit.priors) == item_model("3pl").default_priors


def test_encoded_gpcm_with_a_prior_on_rare_steps_is_decoded_unchanged() -> None:
    rng = np.random.default_rng(6)
    proficiency = rng.normal(size=(300, 1)) + rng.logistic(size=(300, 6))
    scores = sum((proficiency > cut).astype(float) for cut in (-1.0, 0.5, 4.5))
    fit = fit_em(Responses.from_wide(scores, categories=np.full(6, 4)), model="gpcm", threads=1)
    rare_steps = Priors.from_dict(fit.priors).rare_steps
    assert rare_steps is not None
    assert rare_steps.items
    assert_same(decode(encode(fit)), fit)


def test_decoded_fits_are_read_only_and_kept_up_to_the_memory_limit() -> None:
    first, second = (encode(rooms.made_up_calibration({item: (1.0, 0.0)})) for item in ("one", "two"))
    size = sum(array.nbytes for array in vars(decode(first)).values() if isinstance(array, np.ndarray))
    for max_bytes, is_kept in ((2 * size, True), (2 * size - 1, False)):
        fits = DecodedFits(max_bytes)
        fit = fits.decode(first)
        assert (fits.decode(second).item_ids, fits.decode(bytes(bytearray(first))) is fit) == (("two",), is_kept)
    with pytest.raises(ValueError, match="read-only"):
        fit.a[0] = 2.0


# -- fits of several models --------------------------------------------------------------------------
# The 2PL, the 3PL and the 4PL, which the product does not contain.


@pytest.fixture
def parts(trial_model: str) -> list[Calibration]:
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
        assert (one["params"]["cov_logit_c"] is None) == (one["params"]["model"] != "3pl")
        assert ("cov_further" in one["params"]) == (one["params"]["model"] == MODELS[2])
        for name, value in one["params"].items():
            if name == "cov_further":
                np.testing.assert_allclose(value, other["params"][name], rtol=1e-12)
            elif isinstance(value, float | list):
                assert value == pytest.approx(other["params"][name], rel=1e-12), name
            else:
                assert value == other["params"][name], name
    read = [FittedItem.from_row(row).values for row in found]
    items = ItemParameters.from_rows(mixed.item_ids, read)
    np.testing.assert_allclose(items.curve(THETA), mixed.rescaled(SLOPE, INTERCEPT).items.curve(THETA), rtol=1e-9)


def test_compared_fits_of_several_models_are_read_back_unchanged() -> None:
    stored = staged_json()
    stored["shape"] |= {"compared": [one | {"model": "2pl+3pl+4pl"} for one in stored["shape"]["compared"]]}
    assert stored["shape"]["compared"]
    assert StagedSpec.from_json(stored, "fit").as_json() == stored

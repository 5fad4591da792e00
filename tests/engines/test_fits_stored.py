"""Encoding and decoding of fits of the em engine."""

from __future__ import annotations

import numpy as np
import pytest

from irt_assets.ledger.encoding import DecodedFits, decode, encode
from irt_psychometrics.estimation import Flag, fit_em
from irt_psychometrics.items import Priors, item_model
from irt_psychometrics.responses import Responses
from tests.helpers import rooms
from tests.helpers.same_fits import assert_same


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

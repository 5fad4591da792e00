"""Bit-for-bit comparison of two fits."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from irt_psychometrics import Calibration


def assert_same(left: Calibration, right: Calibration) -> None:
    """Assert that two fits have the same types and bytes, including NaN."""
    for field in fields(Calibration):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), field.name
        else:
            assert type(a) is type(b), field.name
            assert repr(a) == repr(b), field.name

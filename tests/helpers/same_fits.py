"""Whether two fits are the same to the last bit."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from irt_psychometrics.core.models import Calibration


def assert_same(left: Calibration, right: Calibration) -> None:
    """Equal to the last bit: same types, same bytes, NaN where NaN was."""
    for field in fields(Calibration):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), field.name
        else:
            assert type(a) is type(b), field.name
            assert repr(a) == repr(b), field.name

"""Small simulated data sets with known truth, for examples and lessons. Nothing is stored: each call simulates."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.datasets.simulated import Dataset, guessing, rating_scale, two_forms, wrong_key
else:
    __getattr__ = names_when_used(__name__)

__all__ = ["Dataset", "guessing", "rating_scale", "two_forms", "wrong_key"]

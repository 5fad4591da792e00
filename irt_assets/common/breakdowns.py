"""Breakdowns of the arithmetic as errors that name what failed."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from irt_psychometrics import PsychometricsError


class BreakdownError(PsychometricsError):
    """The arithmetic came to an end on this data: a singular matrix, an overflow, a division by zero."""


_log = logging.getLogger(__name__)


@contextmanager
def breakdowns_explained(what: str) -> Iterator[None]:
    """Turn a breakdown of the arithmetic into a BreakdownError that begins with `what`, a clause.

    Any other error is a fault of the code and goes on as it is.
    """
    from numpy.linalg import LinAlgError  # many commands need no NumPy

    try:
        yield
    except (LinAlgError, ArithmeticError) as error:
        _log.warning("%s", what, exc_info=True)
        raise BreakdownError(
            f"{what}: the arithmetic broke down on its data ({type(error).__name__}: {error}). Items with few answers, "
            "or with parameters far out, are the usual cause; the log has the place"
        ) from error

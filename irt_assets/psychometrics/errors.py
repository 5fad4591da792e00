"""Errors of the numerics. All are permanent: the same data fails the same way again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from numpy.linalg import LinAlgError

if TYPE_CHECKING:
    from irt_assets.psychometrics.linking import Linking


class PsychometricsError(ValueError):
    """The data or the request cannot give the number asked for; the message says why and what to do."""


class BreakdownError(PsychometricsError):
    """The arithmetic came to an end on this data: a singular matrix, an overflow, a division by zero."""


class DisconnectedDesignError(PsychometricsError):
    """The responses fall into groups that share neither a person nor an item, so there is no one scale."""


class LinkingError(PsychometricsError):
    """The fit cannot be placed on the scale: too few anchors are left to link with.

    `linking` keeps what was tried, for the plot and the record; None where no constants could be computed.
    """

    def __init__(self, message: str, linking: Linking | None = None) -> None:
        super().__init__(message)
        self.linking = linking


_log = logging.getLogger(__name__)


@contextmanager
def breakdowns_explained(what: str) -> Iterator[None]:
    """Turn a breakdown of the arithmetic into a BreakdownError that begins with `what`, a clause.

    Any other error is a fault of the code and goes on as it is.
    """
    try:
        yield
    except (LinAlgError, ArithmeticError) as error:
        _log.warning("%s", what, exc_info=True)
        raise BreakdownError(
            f"{what}: the arithmetic broke down on its data ({type(error).__name__}: {error}). Items with few answers, "
            "or with parameters far out, are the usual cause; the log has the place"
        ) from error

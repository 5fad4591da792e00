"""Errors and warnings of the numerics. All errors are permanent: the same data fails the same way again."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """A missing result, with the reason `why`; other results of the same data may exist."""

    why: str


class PsychometricsError(ValueError):
    """The data or the request cannot give the requested number; the message says why and what to do."""


class BreakdownError(PsychometricsError):
    """The arithmetic failed on this data: a singular matrix, an overflow, a division by zero."""

    @classmethod
    @contextmanager
    def explain(cls, failure: str) -> Iterator[None]:
        """Turn a failure of the arithmetic into a BreakdownError whose message begins with the clause `failure`.

        Other errors are faults of the code and are raised unchanged.
        """
        from numpy.linalg import LinAlgError  # every command imports this module, and many need no NumPy

        try:
            yield
        except (LinAlgError, ArithmeticError) as error:
            _log.warning("%s", failure, exc_info=True)
            raise cls(
                f"{failure}: the arithmetic broke down on its data ({type(error).__name__}: {error}). Items with few "
                "answers, or with parameters far out, are the usual cause; the log contains the traceback"
            ) from error


class DisconnectedDesignError(PsychometricsError):
    """The responses fall into groups that share neither a person nor an item, so they have no common scale."""


class PsychometricsWarning(UserWarning):
    """A result has a weakness that its reader must know about; the message names the weakness and the remedy."""


class NotConvergedWarning(PsychometricsWarning):
    """A fit is not a maximum of the likelihood, so its numbers must not be used."""


class ItemWarning(PsychometricsWarning):
    """Some items could not be estimated, or only badly."""


class LinkWarning(PsychometricsWarning):
    """A link is based on few items, or on items that do not agree."""


class ComparisonWarning(PsychometricsWarning):
    """The reference distribution of a test of two fits does not hold, or holds only roughly."""

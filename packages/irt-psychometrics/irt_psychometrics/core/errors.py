"""Errors of the numerics. All are permanent: the same data fails the same way again."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Refused:
    """There is no result; `why`, where that says something about the data and others go on."""

    why: str


class PsychometricsError(ValueError):
    """The data or the request cannot give the number asked for; the message says why and what to do."""


class BreakdownError(PsychometricsError):
    """The arithmetic came to an end on this data: a singular matrix, an overflow, a division by zero."""


class DisconnectedDesignError(PsychometricsError):
    """The responses fall into groups that share neither a person nor an item, so they have no common scale."""

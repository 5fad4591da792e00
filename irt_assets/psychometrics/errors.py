"""Errors of the numerics. All are permanent: the same data fails the same way again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from irt_assets.psychometrics.linking import Linking


class PsychometricsError(ValueError):
    """The data or the request cannot give the number asked for; the message says why and what to do."""


class DisconnectedDesignError(PsychometricsError):
    """The responses fall into groups that share neither a person nor an item, so there is no one scale."""


class LinkingError(PsychometricsError):
    """The fit cannot be placed on the scale: too few anchors are left to link with.

    `linking` keeps what was tried, for the plot and the record; None where no constants could be computed.
    """

    def __init__(self, message: str, linking: Linking | None = None) -> None:
        super().__init__(message)
        self.linking = linking

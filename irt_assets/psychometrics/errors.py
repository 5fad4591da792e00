"""Errors of the numerics. All are permanent: the same data fails the same way again."""


class PsychometricsError(ValueError):
    """The data or the request cannot give the number asked for; the message says why and what to do."""


class DisconnectedDesignError(PsychometricsError):
    """The responses fall into groups that share neither a person nor an item, so there is no one scale."""


class LinkingError(PsychometricsError):
    """The fit cannot be placed on the scale: too few anchors are left to link with."""

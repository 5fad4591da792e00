"""Scored responses of persons to items."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.responses import Responses
else:
    __getattr__ = names_when_used(__name__)

__all__ = ["Responses"]

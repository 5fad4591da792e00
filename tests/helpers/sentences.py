"""Checks of texts and error messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from irt_psychometrics import PsychometricsError
from resources.failures import PermanentFailure


def missing_sentences(text: str, *sentences: str) -> list[str]:
    """Returns the sentences that the text does not contain."""
    return [sentence for sentence in sentences if sentence not in text]


def refusal(call: Callable[..., object], *arguments: Any, **named: Any) -> str:
    """Returns the message with which a call fails."""
    with pytest.raises((PermanentFailure, PsychometricsError)) as caught:
        call(*arguments, **named)
    return str(caught.value)

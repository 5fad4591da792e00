"""Commands as typed by a user, with their output and exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from irt_assets import cli
from resources.settings import Settings, get_settings


@dataclass(frozen=True)
class Typed:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Irt = Callable[..., Typed]
IrtOf = Callable[[Settings], Irt]
"""Returns a command line with these settings in its environment."""


def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Irt:
    """`irt` in the environment of the test: each call runs it with the given words."""

    def typed(*words: object) -> Typed:
        get_settings.cache_clear()
        monkeypatch.setattr("sys.argv", ["irt", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return Typed(int(ended.value.code or 0), printed.out, printed.err)

    return typed

"""What the tests of this folder share besides `tests.helpers.worlds`: commands as they are typed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from resources.settings import Settings
from tests.helpers.typed import Irt, command_line


@pytest.fixture
def irt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Settings], Irt]:
    """`irt(settings)` gives a command line in whose environment these settings are set."""

    def of(settings: Settings) -> Irt:
        monkeypatch.setenv("IRT_HOME", str(settings.irt_home))
        monkeypatch.setenv("IRT_FIRST_MONTH", settings.irt_first_month)
        if settings.database_url is not None:
            monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
        return command_line(monkeypatch, capsys)

    return of

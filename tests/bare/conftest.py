"""The marker of these tests."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "bare: needs a bare root of Debian, which debootstrap makes")

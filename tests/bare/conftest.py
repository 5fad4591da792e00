"""The markers of these tests: the tiers of `make test` choose by them."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "bare: needs a bare root of Debian, which debootstrap makes")
    config.addinivalue_line("markers", "long: not for every run of CI")

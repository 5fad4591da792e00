"""What a wheel holds, from which services are installed."""

import tomllib
from pathlib import Path

from setuptools import find_packages

HOME = Path(__file__).resolve().parents[2]
PRODUCT = ("irt_assets", "jobs", "resources", "services")
DISTRIBUTION_OF_ITS_OWN = "services/theta_client"


def test_every_module_of_the_product_is_in_the_wheel() -> None:
    """A new folder of modules was once installed with the checkout, and not with the wheel."""
    find = tomllib.loads((HOME / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]["find"]
    packed = set(find_packages(str(HOME), include=find["include"], exclude=find["exclude"]))
    folders = {
        file.parent.relative_to(HOME)
        for part in PRODUCT
        for file in (HOME / part).rglob("*.py")
        if not file.is_relative_to(HOME / DISTRIBUTION_OF_ITS_OWN)
    }
    assert {".".join(folder.parts) for folder in folders} == packed

"""Tests of the wheels, which users install instead of the checkout."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci

ROOT = Path(__file__).parents[2]
PACKAGES = ("irt_assets", "jobs", "resources", "services")


def _listed(*names: str) -> list[str]:
    command = ["git", "ls-files", *names]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [name for name in listed if (ROOT / name).is_file()]


def _built(source: Path, target: Path) -> Path:
    build = "import sys, setuptools.build_meta; setuptools.build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, target]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: a build folder left in the checkout would end up in the next wheel."""
    folder = tmp_path_factory.mktemp("source")
    for name in _listed(*PACKAGES, "packages", "pyproject.toml", "README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built(source, tmp_path_factory.mktemp("platform"))


@pytest.fixture(scope="module")
def library(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built(source / "packages/irt-psychometrics", tmp_path_factory.mktemp("library"))


def test_wheel_contains_every_module_of_the_checkout(wheel: Path) -> None:
    expected = {
        name
        for name in _listed("irt_assets", "jobs", "resources", "services/jwt_verifier")
        if name.endswith((".py", ".yaml", ".R", ".sql"))
    }
    missing = expected - set(zipfile.ZipFile(wheel).namelist())
    assert not missing


def test_library_wheel_contains_its_modules_and_is_below_1_mb(library: Path) -> None:
    package = "packages/irt-psychometrics/"
    expected = {name.removeprefix(package) for name in _listed(f"{package}irt_psychometrics")}
    names = set(zipfile.ZipFile(library).namelist())
    assert not expected - names
    assert {name.partition("/")[0] for name in names} == {"irt_psychometrics", "irt_psychometrics-1.0.0.dist-info"}
    assert library.stat().st_size <= 1_000_000


def test_installed_wheels_import_without_the_checkout(wheel: Path, library: Path, tmp_path: Path) -> None:
    for one in (wheel, library):
        zipfile.ZipFile(one).extractall(tmp_path / "site")  # as pip installs a wheel of pure Python
    program = (
        "import sys; sys.path.insert(0, 'site')\n"
        "import irt_assets.definitions, irt_assets.servers.stack, jobs.launching.launcher, resources.postgres.schema\n"
        "import services.jwt_verifier.app\n"
        "from irt_assets.common import environment\n"
        "import irt_psychometrics\n"
        "for module in (irt_assets, irt_psychometrics, jobs, resources, services):\n"
        "    assert 'site' in module.__file__, module.__file__\n"
        "assert environment.CONFIGURATION.exists() and environment.WORKSPACE.exists()\n"
        "print(len(list(irt_assets.definitions.defs.resolve_all_asset_specs())))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 7

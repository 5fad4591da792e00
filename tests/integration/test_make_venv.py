"""The environment is made from lock files alone, and failures are explained in a sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

LIBRARY = "packages/irt-psychometrics/pyproject.toml"
READS = ("Makefile", "requirements/**", "pyproject.toml", LIBRARY, "resources/postgres/server_account.py")
pytestmark = [pytest.mark.ci, pytest.mark.on_change(*READS)]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "requirements"
LOCKS = sorted(FOLDER.glob("*.lock"))
NOWHERE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_FIND_LINKS": "",
    "PIP_RETRIES": "0",
}


def pinned(lock: Path) -> list[str]:
    return re.findall(r"^([a-z0-9._-]+)==", lock.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_lock_pins_every_package_with_hashes_and_contains_no_address(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert "://" not in text
    assert "--index" not in text
    packages = re.split(r"\n(?=\S)", text.strip())
    assert len(packages) == len(pinned(lock))
    assert [package for package in packages if "--hash=sha256:" not in package] == []


def test_declared_packages_are_in_the_lock_of_their_extra_or_in_the_base_lock() -> None:
    library, project = (
        tomllib.loads((ROOT / path).read_text("utf-8"))["project"] for path in (LIBRARY, "pyproject.toml")
    )
    base = set(pinned(FOLDER / "requirements.lock"))
    needed = {Requirement(line).name for line in [*project["dependencies"], *library["dependencies"]]}
    assert needed - base == {library["name"]}, "what is ours is installed from its folder"
    for extra, lines in project["optional-dependencies"].items():
        assert {Requirement(line).name for line in lines} <= base | set(pinned(FOLDER / f"requirements-{extra}.lock"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with all files that `make_venv.py` reads, and without an environment."""
    shutil.copytree(FOLDER, tmp_path / "requirements")
    for name in ("pyproject.toml", LIBRARY, "resources/postgres/server_account.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def run_make_venv(checkout: Path, *extras: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "requirements/make_venv.py", *extras]
    return subprocess.run(
        command, cwd=checkout, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_missing_network_is_reported_in_a_single_sentence(checkout: Path) -> None:
    ran = run_make_venv(checkout, **NOWHERE)
    assert ran.returncode == 1
    started, sentence = ran.stderr.splitlines()
    assert started == "fetching the installer …"
    assert sentence.startswith("The package index cannot be reached: check the network")
    assert not (checkout / ".venv").exists()


def test_unknown_extra_is_refused_with_the_existing_extras(checkout: Path) -> None:
    there_are = "bayes, dev, docs, files, k8s, otel, r, spark"
    assert run_make_venv(checkout, "bayesian").stderr == f"there is no extra bayesian: use one of {there_are}\n"


def test_spark_without_java_is_refused_with_the_install_command(checkout: Path, tmp_path: Path) -> None:
    (without_java := tmp_path / "bin").mkdir()
    output = run_make_venv(checkout, "spark", **NOWHERE, PATH=str(without_java)).stderr
    assert output.startswith("Spark also needs Java 17, which is missing: apt install openjdk-17-jre-headless\n")


def test_complete_environment_is_not_installed_again(checkout: Path) -> None:
    """No download is possible; a changed lock or an incomplete environment is installed again."""
    ready = (
        "import json, sys; sys.path.insert(0, 'requirements'); import make_venv;"
        "venv = make_venv.VENV; (venv / 'bin').mkdir(parents=True);"
        "make_venv.PYTHON.symlink_to(make_venv.sys.executable);"
        "make_venv.READY.write_text(json.dumps({n: make_venv._fingerprint(make_venv.LOCKS / n) for n in NAMES}))"
    ).replace("NAMES", "['requirements.lock', 'requirements-k8s.lock']")
    subprocess.run([sys.executable, "-c", ready], cwd=checkout, check=True)
    for extras in ((), ("k8s",)):
        ran = run_make_venv(checkout, *extras, **NOWHERE)
        assert (ran.returncode, ran.stderr) == (0, "")
    assert run_make_venv(checkout, "bayes", **NOWHERE).returncode == 1
    (checkout / ".venv" / "bin" / "python").unlink()
    assert run_make_venv(checkout, **NOWHERE).returncode == 1


def test_processes_started_by_make_can_write_bytecode() -> None:
    """Otherwise every server and worker compiles all its imports, which takes three times as long as loading."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = ["make", "--silent", "--eval=said: ; @env", "said"]
    output = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert "IRT_HOME=" in output
    assert "PYTHONDONTWRITEBYTECODE" not in output

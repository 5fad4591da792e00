"""deploy/docker without a container engine: the files that the Dockerfiles copy, and the entry point."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
FILES = ("Dockerfile", "r-service.Dockerfile")
NOT_INSTALLED = {f"requirements-{extra}.lock" for extra in ("dev", "docs", "r", "spark")}
"""Lock files that the image does not install: tools for tests and pages; R, which its own service has; Spark, which
needs Java too."""
KERNEL = "kernels.logistic_table.nbc"


def instructions(file: str) -> list[tuple[str, str]]:
    """Return names and arguments of instructions, with continued lines joined."""
    lines = [line for line in (DOCKER / file).read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in whole.splitlines() if line)]


def sources(file: str) -> list[str]:
    copies = [rest.split() for name, rest in instructions(file) if name == "COPY"]
    return [source for words in copies if not words[0].startswith("--from=") for source in words[:-1]]


def is_copied(path: str) -> bool:
    """Whether .dockerignore admits a path: the last pattern that matches the path or a parent folder decides."""
    passes = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parts = Path(path).parts
        above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        if any(fnmatch(one, pattern) or fnmatch("/" + one, pattern.replace("**", "*")) for one in above):
            passes = line.startswith("!")
    return passes


@pytest.mark.parametrize("file", FILES)
def test_copied_files_exist_and_are_not_ignored(file: str) -> None:
    assert sources(file)
    for source in sources(file):
        found = list(ROOT.glob(source))
        assert found, source
        for path in found:
            assert is_copied(str(path.relative_to(ROOT))), source


@pytest.mark.parametrize(
    "path",
    [".git/config", ".irt/env", ".venv/bin/irt", "tests/conftest.py", "dist/wheelhouse/x", "irt_assets/__pycache__/x"],
)
def test_secrets_tests_and_caches_are_ignored(path: str) -> None:
    assert not is_copied(path)


def test_all_packages_of_the_distribution_are_copied() -> None:
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    packages = {pattern.removesuffix("*") for pattern in find["include"]}
    assert packages
    assert packages <= set(sources("Dockerfile"))


def test_symbolic_links_in_copied_folders_point_to_copied_files() -> None:
    copied = [path.resolve() for source in sources("Dockerfile") for path in ROOT.glob(source)]
    links = [path for folder in copied for path in folder.rglob("*") if path.is_symlink()]
    for link in links:
        assert any(link.resolve().is_relative_to(path) for path in copied), link


def test_every_lock_file_is_installed_with_hashes_required() -> None:
    installs = [
        command
        for name, rest in instructions("Dockerfile")
        if name == "RUN"
        for command in rest.split("&&")
        if re.search(r"\binstall\b.*-r ", command)
    ]
    named = {lock for command in installs for lock in re.findall(r"-r (\S+)", command)}
    assert named == {path.name for path in (ROOT / "requirements").glob("*.lock")} - NOT_INSTALLED
    for command in installs:
        assert "--require-hashes" in command
        assert "--no-deps" in command


@pytest.mark.parametrize("file", FILES)
def test_image_runs_as_an_unprivileged_user(file: str) -> None:
    last = [number for number, (name, _) in enumerate(instructions(file)) if name == "FROM"][-1]
    assert ("USER", "10001:10001") in instructions(file)[last:]


@pytest.mark.parametrize("file", FILES)
def test_process_1_forwards_signals(file: str) -> None:
    (entry,) = (rest for name, rest in instructions(file) if name == "ENTRYPOINT")
    assert json.loads(entry)[:2] == ["/usr/bin/tini", "--"]


@pytest.mark.parametrize("file", FILES)
def test_base_image_can_be_changed_and_no_package_index_is_hard_coded(file: str) -> None:
    assert next(rest for name, rest in instructions(file) if name == "ARG").startswith("BASE=docker.io/library/")
    for name, rest in instructions(file):
        assert name != "FROM" or re.match(r"\$\{BASE\}|r( |$)", rest), rest
        assert not re.search(r"https?://", rest), rest


def test_image_sets_the_same_environment_as_the_systemd_units() -> None:
    unit = (ROOT / "deploy/systemd/units/irt-.service.d/20-installation.conf").read_text()
    image_variables = {
        word
        for line in unit.splitlines()
        if re.match("Environment=[A-Z]", line)
        for word in line.partition("=")[2].split()
    }
    image = {word for name, rest in instructions("Dockerfile") if name == "ENV" for word in rest.split()}
    assert image_variables
    assert image_variables <= image


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder with the layout of /opt/irt and a compiled kernel."""
    (tmp_path / "libexec").mkdir()
    shutil.copy(DOCKER / "irt-container", tmp_path / "libexec")
    (tmp_path / "numba/psychometrics").mkdir(parents=True)
    (tmp_path / "numba/built").write_text("today\n")
    (tmp_path / "numba/psychometrics" / KERNEL).write_text("machine code")
    return tmp_path


def run_container(image: Path, cache: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run(
        [image / "libexec/irt-container", *command], env=environment, capture_output=True, text=True, check=False
    )


def test_entry_point_copies_kernels_to_a_writable_cache_and_runs_the_command(image: Path) -> None:
    cache = image / "var/numba"
    cache.parent.mkdir()
    ran = run_container(image, cache, "sh", "-c", 'echo "$1"; exit 7', "sh", "two words")
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "two words\n", "")
    assert (cache / "psychometrics" / KERNEL).read_text() == "machine code"
    assert [path.name for path in cache.parent.iterdir()] == ["numba"]


def test_kernels_compiled_later_are_kept_until_the_image_changes(image: Path) -> None:
    cache = image / "var/numba"
    cache.parent.mkdir()
    run_container(image, cache, "true")
    (cache / "more.nbc").write_text("compiled here")
    run_container(image, cache, "true")
    assert (cache / "more.nbc").exists()
    (image / "numba/built").write_text("tomorrow\n")
    run_container(image, cache, "true")
    assert not (cache / "more.nbc").exists()
    assert (cache / "built").read_text() == "tomorrow\n"


def test_command_runs_if_the_cache_is_not_writable(image: Path) -> None:
    ran = run_container(image, image / "absent/numba", "echo", "here")
    assert (ran.returncode, ran.stdout) == (0, "here\n")
    assert "numba compiles anew" in ran.stderr


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", DOCKER / "sbom.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sbom_identifies_packages_by_package_urls(sbom: ModuleType) -> None:
    made = sbom.document("irt-assets", "0f", "libstdc++6\t12.2.0-14+deb12u1\tamd64\n", "typing_extensions\t4.15.0\n")
    assert [component["purl"] for component in made["components"]] == [
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64",
        "pkg:pypi/typing-extensions@4.15.0",
    ]
    assert made["metadata"]["component"]["version"] == "sha256:0f"

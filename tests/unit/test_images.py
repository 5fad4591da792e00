"""deploy/docker without an engine: what the Dockerfiles name is there and gets through; what the entry point does."""

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
"""What tests and the pages need; R in the platform's own process, as its service has R; Spark, which needs Java too."""
KERNEL = "kernels.logistic_table.nbc"


def instructions(file: str) -> list[tuple[str, str]]:
    """Names and arguments, lines that go on joined."""
    lines = [line for line in (DOCKER / file).read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in whole.splitlines() if line)]


def sources(file: str) -> list[str]:
    copies = [rest.split() for name, rest in instructions(file) if name == "COPY"]
    return [source for words in copies if not words[0].startswith("--from=") for source in words[:-1]]


def gets_through(path: str) -> bool:
    """By .dockerignore, whose last pattern that fits the path or a folder above it decides."""
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
def test_what_is_copied_is_there_and_gets_through(file: str) -> None:
    assert sources(file)
    for source in sources(file):
        found = list(ROOT.glob(source))
        assert found, source
        for path in found:
            assert gets_through(str(path.relative_to(ROOT))), source


@pytest.mark.parametrize(
    "path",
    [".git/config", ".irt/env", ".venv/bin/irt", "tests/conftest.py", "dist/wheelhouse/x", "irt_assets/__pycache__/x"],
)
def test_what_is_nobodys_business_stays_out(path: str) -> None:
    assert not gets_through(path)


def test_all_that_our_package_is_made_of_is_copied() -> None:
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    packages = {pattern.removesuffix("*") for pattern in find["include"]}
    assert packages
    assert packages <= set(sources("Dockerfile"))


def test_no_link_in_what_is_copied_leads_out_of_it() -> None:
    copied = [path.resolve() for source in sources("Dockerfile") for path in ROOT.glob(source)]
    links = [path for folder in copied for path in folder.rglob("*") if path.is_symlink()]
    for link in links:
        assert any(link.resolve().is_relative_to(path) for path in copied), link


def test_every_lock_is_installed_with_its_hashes() -> None:
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
def test_it_runs_as_nobody_in_particular(file: str) -> None:
    last = [number for number, (name, _) in enumerate(instructions(file)) if name == "FROM"][-1]
    assert ("USER", "10001:10001") in instructions(file)[last:]


@pytest.mark.parametrize("file", FILES)
def test_process_1_hands_signals_on(file: str) -> None:
    (entry,) = (rest for name, rest in instructions(file) if name == "ENTRYPOINT")
    assert json.loads(entry)[:2] == ["/usr/bin/tini", "--"]


@pytest.mark.parametrize("file", FILES)
def test_its_base_can_be_another_and_no_index_is_named(file: str) -> None:
    assert next(rest for name, rest in instructions(file) if name == "ARG").startswith("BASE=docker.io/library/")
    for name, rest in instructions(file):
        assert name != "FROM" or re.match(r"\$\{BASE\}|r( |$)", rest), rest
        assert not re.search(r"https?://", rest), rest


def test_caches_and_home_are_where_the_services_of_systemd_have_them() -> None:
    unit = (ROOT / "deploy/systemd/units/irt-.service.d/20-installation.conf").read_text()
    there = {
        word
        for line in unit.splitlines()
        if re.match("Environment=[A-Z]", line)
        for word in line.partition("=")[2].split()
    }
    image = {word for name, rest in instructions("Dockerfile") if name == "ENV" for word in rest.split()}
    assert there
    assert there <= image


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder laid out as /opt/irt is, with one compiled kernel."""
    (tmp_path / "libexec").mkdir()
    shutil.copy(DOCKER / "irt-container", tmp_path / "libexec")
    (tmp_path / "numba/psychometrics").mkdir(parents=True)
    (tmp_path / "numba/built").write_text("today\n")
    (tmp_path / "numba/psychometrics" / KERNEL).write_text("machine code")
    return tmp_path


def started(image: Path, cache: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run(
        [image / "libexec/irt-container", *command], env=environment, capture_output=True, text=True, check=False
    )


def test_a_start_lays_the_kernels_where_more_can_be_added(image: Path) -> None:
    cache = image / "var/numba"
    cache.parent.mkdir()
    ran = started(image, cache, "sh", "-c", 'echo "$1"; exit 7', "sh", "two words")
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "two words\n", "")
    assert (cache / "psychometrics" / KERNEL).read_text() == "machine code"
    assert [path.name for path in cache.parent.iterdir()] == ["numba"]


def test_what_was_compiled_since_stays_until_another_image_comes(image: Path) -> None:
    cache = image / "var/numba"
    cache.parent.mkdir()
    started(image, cache, "true")
    (cache / "more.nbc").write_text("compiled here")
    started(image, cache, "true")
    assert (cache / "more.nbc").exists()
    (image / "numba/built").write_text("tomorrow\n")
    started(image, cache, "true")
    assert not (cache / "more.nbc").exists()
    assert (cache / "built").read_text() == "tomorrow\n"


def test_where_nothing_can_be_written_the_command_runs_all_the_same(image: Path) -> None:
    ran = started(image, image / "absent/numba", "echo", "here")
    assert (ran.returncode, ran.stdout) == (0, "here\n")
    assert "numba compiles anew" in ran.stderr


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", DOCKER / "sbom.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_of_contents_names_packages_as_others_do(sbom: ModuleType) -> None:
    made = sbom.document("irt-assets", "0f", "libstdc++6\t12.2.0-14+deb12u1\tamd64\n", "typing_extensions\t4.15.0\n")
    assert [component["purl"] for component in made["components"]] == [
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64",
        "pkg:pypi/typing-extensions@4.15.0",
    ]
    assert made["metadata"]["component"]["version"] == "sha256:0f"

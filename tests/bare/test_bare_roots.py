"""README's commands work on a new machine: a Debian root file system with only python3, python3-venv, make, git and
certificates.

The testing machine's package index settings and compiled kernels are copied into the root. The kernels suit the same
Python only, so trixie compiles its own. Every command runs in its own namespaces, so its mounts and processes are gone
when it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.debian import debian_root
from tests.testbed import compiled
from tests.testbed.patience import patient

ROOT = Path(__file__).parents[2]
PACKAGES = "python3,python3-venv,make,git,ca-certificates"
BOOKWORM = pytest.param(("bookworm", "user"), id="bookworm-user")
INDEX = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_")
"""Prefixes of environment variables that configure package indexes and trusted certificates."""
PROXY = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
ENTER = """set -e
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
root=$1 user=$2 folder=$3; shift 3
exec chroot --userspec="$user" "$root" sh -c 'cd "$1" && shift && exec "$@"' sh "$folder" "$@"
"""
DEMO_S = 1800
RESTS_ON = (
    "Makefile",
    "irt_assets/**",
    "jobs/**",
    "packages/**",
    "pyproject.toml",
    "requirements/make_venv.py",
    "requirements-build.lock",
    "requirements.lock",
    "resources/**",
)
"""Files that the two commands use."""
pytestmark = [
    pytest.mark.bare,
    pytest.mark.xdist_group("bare"),
    pytest.mark.on_change(*RESTS_ON),
    pytest.mark.timeout(patient(DEMO_S)),
]


@dataclass(frozen=True)
class Machine:
    """A root file system, its user's id, and the path of the clone in it."""

    root: Path
    user: int
    clone: str

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the root. Its output, as one stream, is shown if the test fails."""
        home = str(Path(self.clone).parent)
        kept = {name: value for name, value in os.environ.items() if name.startswith(INDEX) or name in PROXY}
        alone = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child")
        ran = subprocess.run(
            [*alone, "sh", "-c", ENTER, "sh", self.root, f"{self.user}:{self.user}", self.clone, *command],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": home, **kept},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(ran.stdout)
        return ran


@pytest.fixture(scope="module")
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]
) -> Iterator[Machine]:
    release, who = request.param
    root = tmp_path_factory.mktemp(release)
    debian_root(root, release, PACKAGES, require)
    _hand_in_the_index(root)
    user, home = (0, root / "root") if who == "root" else (1000, root / "home" / "person")
    home.mkdir(exist_ok=True)
    home.chmod(0o700)
    clone = home / "irt-assets"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().strip("\0").split("\0"):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    compiled.copy(compiled.CORE, clone / compiled.CORE.relative_to(ROOT))
    if user:
        with (root / "etc" / "passwd").open("a") as accounts:
            accounts.write(f"person:x:{user}:{user}::/home/person:/bin/sh\n")
        subprocess.run(["chown", "-R", f"{user}:{user}", home], check=True)
    yield Machine(root, user, f"/{clone.relative_to(root)}")
    shutil.rmtree(root)


def _hand_in_the_index(root: Path) -> None:
    """Copy the files that the environment names and pip's configuration to the same paths in the root."""
    named = [Path(value) for name, value in os.environ.items() if name.startswith(INDEX) and value.startswith("/")]
    for file in [*named, Path("/etc/resolv.conf"), Path("/etc/hosts")]:
        if file.is_file():
            target = root / file.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    if (wheels := Path(os.environ.get("PIP_FIND_LINKS", ""))).is_absolute() and wheels.is_dir():
        shutil.copytree(wheels, root / wheels.relative_to("/"), dirs_exist_ok=True)
    for file in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"):
        if file.is_file():
            shutil.copy(file, root / "etc" / "pip.conf")


@pytest.mark.parametrize("machine", [BOOKWORM], indirect=True)
def test_make_names_the_missing_package_if_python3_venv_is_not_installed(machine: Machine) -> None:
    """Debian's python3 has the module venv even without python3-venv, and then leaves half an environment behind."""
    (module,) = machine.root.glob("usr/lib/python3.*/ensurepip")
    aside = module.rename(module.with_name("aside"))
    try:
        ran = machine.run("make", "demo", "SERVE=0")
    finally:
        aside.rename(module)
    assert ran.returncode != 0
    assert "apt install python3-venv" in ran.stdout
    assert "Traceback" not in ran.stdout
    half = machine.root / machine.clone[1:] / ".venv"  # left by a manual attempt
    half.mkdir()
    os.chown(half, machine.user, machine.user)


@pytest.mark.parametrize(
    "machine",
    [
        BOOKWORM,
        pytest.param(("bookworm", "root"), id="bookworm-root", marks=pytest.mark.long),
        pytest.param(("trixie", "user"), id="trixie-user", marks=pytest.mark.long),
    ],
    indirect=True,
)
def test_the_demo_finds_the_planted_faults_and_prints_only_plain_text(machine: Machine) -> None:
    ran = machine.run("make", "demo", "SERVE=0")
    assert ran.returncode == 0
    assert "NOT as expected" not in ran.stdout
    for strange in ("Traceback", '{"', "Warning", "findfont"):
        assert strange not in ran.stdout


@pytest.mark.long
@pytest.mark.parametrize("machine", [BOOKWORM], indirect=True)
def test_the_unit_tests_pass_in_a_bare_root(machine: Machine) -> None:
    assert machine.run("make", "venv", "EXTRAS=dev k8s otel").returncode == 0  # the extras of `make test`, without PyMC
    ran = machine.run(".venv/bin/pytest", "-q", "-m", "not long", "--numprocesses=2", "--dist=loadfile", "tests/unit")
    assert ran.returncode == 0

"""The images of deploy/docker, built on a Debian 12 root instead of a registry's image, and run as in a cluster.

They run as uid 10001, without capabilities, on a read-only root file system, with PostgreSQL outside the container.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.deploy.images import PLATFORM, ROOT, Podman, podman_of
from tests.testbed.patience import patient

R_SERVICE = "localhost/irt-test-r"
START_S = 60.0
LOADED_S = 300.0
"""brms takes four seconds to load on an idle machine."""
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("images"), pytest.mark.timeout(patient(5400))]


@pytest.fixture(scope="module")
def podman(
    tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres, require: Callable[[bool, str], None]
) -> Podman:
    require(shutil.which("podman") is not None and os.geteuid() == 0, "podman, and root to run it")
    folder = tmp_path_factory.mktemp("images")
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir()
    os.chown(home, 10001, 10001)
    with psycopg.connect(postgres.start(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE of_the_container")
    database = f"{postgres.start().rpartition('/')[0]}/of_the_container"
    return podman_of(folder, require, database, home)


@pytest.fixture(scope="module")
def platform(podman: Podman) -> Podman:
    podman.build("deploy/docker/Dockerfile", PLATFORM)
    return podman


def kernels(folder: Path) -> set[Path]:
    """Kernels that numba has compiled."""
    return set(folder.rglob("*.nbc"))


def test_commands_start_on_a_read_only_file_system(platform: Podman) -> None:
    for command in (("irt", "--version"), ("irt", "health", "--config")):
        began = time.monotonic()
        platform.confined(PLATFORM, *command)
        print(f"{' '.join(command)}: {time.monotonic() - began:.1f} s from nothing")


def test_containers_end_on_sigterm_even_without_a_handler(platform: Podman) -> None:
    """A command without a handler would ignore SIGTERM as process 1."""
    waiting = "import time; print('here', flush=True); time.sleep(600)"
    container = platform.must("run", "--detach", "--network=none", PLATFORM, "python", "-c", waiting).strip()
    try:
        began = time.monotonic()
        while "here" not in platform.must("logs", container):
            assert time.monotonic() - began < patient(START_S)
        print(f"TERM: it ends after {platform.ends(container):.1f} s")
    finally:
        platform.must("rm", "--force", container)


def test_a_month_is_calibrated_with_the_images_kernels_and_reported_as_a_pdf(platform: Podman, tmp_path: Path) -> None:
    """The cache is a folder in which newly compiled kernels can be counted."""
    cache = tmp_path / "cache"
    cache.mkdir()
    os.chown(cache, 10001, 10001)

    def irt(*command: str) -> str:
        return platform.confined(PLATFORM, "irt", *command, cache=str(cache), variables=(f"IRT_FIRST_MONTH={month}",))

    month = "2020-01"
    irt("simulate", "--learners", "400", "/var/lib/irt/log")
    month = json.loads((platform.home / "log/truth.json").read_text())["months"][-2]
    irt("db", "upgrade")
    irt("health", "--schema")
    for kind, file in (("questions", "questions.jsonl"), ("learners", "learners.jsonl")):
        irt("import", kind, f"/var/lib/irt/log/{file}")
    arguments = ["import", "attempts", "/var/lib/irt/log/attempts.parquet"]
    script = 'irt "$@"; test $? -le 1'  # answers of months before the first one are rejected
    platform.confined(
        PLATFORM, "sh", "-c", script, "sh", *arguments, cache=str(cache), variables=(f"IRT_FIRST_MONTH={month}",)
    )
    irt("scale", "init")
    before = kernels(cache)
    assert before
    began = time.monotonic()
    irt("calibrate", "--month", month)
    print(f"irt calibrate: {time.monotonic() - began:.0f} s; {len(before)} kernels from the image")
    assert kernels(cache) == before, "the image's own kernels are not all that a month needs"
    irt("report", "drift", "--month", month)
    pdfs = list(platform.home.rglob("*.pdf"))
    assert pdfs
    assert pdfs[0].read_bytes().startswith(b"%PDF")


def test_another_processor_compiles_its_own_kernels(platform: Podman) -> None:
    """Compiled kernels suit one kind of processor. Another kind ignores them and still fits."""
    count = "irt simulate-responses --persons 200 /tmp/made && irt fit /tmp/made/responses.csv >/dev/null && "
    count += "n() { find $1 -name '*.nbc' | wc -l; }; echo $(($(n /var/cache/irt) - $(n /opt/irt/numba)))"
    other = ("NUMBA_CPU_NAME=x86-64", "NUMBA_CPU_FEATURES=+sse2")
    for variables, processor in (((), "here"), (other, "elsewhere")):
        began = time.monotonic()
        n_compiled = int(platform.confined(PLATFORM, "sh", "-c", count, variables=variables).split()[-1])
        print(f"a first fit {processor}: {time.monotonic() - began:.0f} s, {n_compiled} kernels compiled anew")
        assert (n_compiled > 0) == (processor == "elsewhere")


def test_sbom_lists_debian_and_python_packages(platform: Podman, tmp_path: Path) -> None:
    made = subprocess.run(
        ["python3", ROOT / "deploy/docker/sbom.py", "podman", PLATFORM],
        env=platform.environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    urls = {component["purl"].partition("@")[0] for component in json.loads(made.stdout)["components"]}
    assert {"pkg:deb/debian/libc6", "pkg:pypi/numba", "pkg:pypi/typst", "pkg:pypi/irt-assets"} <= urls


def test_the_r_service_image_responds_and_lists_its_engines(podman: Podman) -> None:
    podman.build("deploy/docker/r-service.Dockerfile", R_SERVICE)
    limits = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges"]
    limits += ["--network=host", "--tmpfs=/tmp:mode=1777", "--tmpfs=/var/cache/irt:mode=1777"]
    settings = ["--env=R_IRT_INTERNAL_TOKEN=told-to-nobody", "--env=R_IRT_HOST=127.0.0.1", "--env=R_IRT_PORT=18017"]
    began = time.monotonic()
    container = podman.must("run", "--detach", *limits, *settings, R_SERVICE).strip()
    ask = 'cat(readLines(url("http://127.0.0.1:18017/healthz"), warn = FALSE))'
    try:
        answer = ""
        while '"loading":[]' not in answer:
            assert time.monotonic() - began < patient(LOADED_S), podman.must("logs", container)
            request = subprocess.run(
                ["podman", "exec", container, "Rscript", "-e", ask],
                env=podman.environment,
                capture_output=True,
                text=True,
                check=False,
            )
            answer = request.stdout
        print(f"the R service answers, its engines loaded, after {time.monotonic() - began:.1f} s: {answer}")
        health = json.loads(answer)
        engines = [engine for engine in ("mirt", "brms") if health["versions"][engine]]
        assert (health["engines"], health["not_loaded"]) == (engines, {})
        assert "brms" in engines
        podman.ends(container)
    finally:
        subprocess.run(["podman", "rm", "--force", container], env=podman.environment, check=False)

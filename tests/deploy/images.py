"""podman, and the images of deploy/docker built on a Debian 12 root instead of a registry's image.

The images stay in podman's storage, so a later build makes only the layers that changed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.commands import completed
from tests.helpers.debian import debian_root

ROOT = Path(__file__).parents[2]
BASE = "localhost/irt-test-base"
PLATFORM = "localhost/irt-test-assets"
PACKAGES = "python3,python3-venv,ca-certificates"
ENGINE = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
"""podman's configuration if it may not raise limits, as inside a container."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
KILLED_AFTER_S = 30


@dataclass(frozen=True)
class Podman:
    """podman with an environment in which it works on this machine."""

    environment: dict[str, str]
    database: str = ""
    home: Path = field(default_factory=Path)

    def must(self, *arguments: str | Path) -> str:
        ran = completed(["podman", *arguments], self.environment, folder=ROOT)
        assert ran.returncode == 0, ran.stdout[-3000:]
        return ran.stdout

    def build(self, file: str | Path, tag: str, folder: Path = ROOT) -> None:
        secrets: list[str] = []
        if CERTIFICATES.is_file():
            secrets += ["--secret", f"id=certificates,src={CERTIFICATES}"]
        if (pip := Path("/etc/pip.conf")).is_file():
            secrets += ["--secret", f"id=pip.conf,src={pip}"]
        began = time.monotonic()
        options = ["--pull=never", "--network=host", f"--build-arg=BASE={BASE}", *secrets]
        self.must("build", *options, "--file", file, "--tag", tag, folder)
        size = int(self.must("image", "inspect", "--format", "{{.Size}}", tag)) / 1e6
        print(
            f"{file}: {size:.0f} MB with its base; {time.monotonic() - began:.0f} s beyond the layers that were there"
        )

    def ends(self, container: str) -> float:
        """Stop a container with TERM. Returns the seconds until it ends, which must be before it would be killed."""
        began = time.monotonic()
        self.must("stop", f"--time={KILLED_AFTER_S}", container)
        took = time.monotonic() - began
        assert took < KILLED_AFTER_S, "it takes no notice of TERM"
        return took

    def confined(self, image: str, *command: str, cache: str = "tmpfs", variables: tuple[str, ...] = ()) -> str:
        """Run a command in a container confined like the cluster's. Returns its output.

        `cache` is tmpfs or a folder that is kept.
        """
        limits = ["--read-only", "--read-only-tmpfs=false", "--user=10001:10001", "--cap-drop=all"]
        limits += ["--security-opt=no-new-privileges", "--network=host", "--tmpfs=/tmp:mode=1777"]
        limits += ["--tmpfs=/var/cache/irt:mode=1777"] if cache == "tmpfs" else [f"--volume={cache}:/var/cache/irt"]
        given = [f"--env={variable}" for variable in (f"DATABASE_URL={self.database}", *variables)]
        return self.must("run", "--rm", *limits, f"--volume={self.home}:/var/lib/irt", *given, image, *command)


def podman_of(folder: Path, require: Callable[[bool, str], None], database: str = "", home: Path = Path()) -> Podman:
    """Returns podman with its settings in `folder`. Builds the base image if it is missing."""
    (folder / "containers.conf").write_text(ENGINE)
    podman = Podman({**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}, database, home)
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode:
        (root := folder / "root").mkdir()
        debian_root(root, "bookworm", PACKAGES, require)
        with (folder / "root.tar").open("wb") as tar:
            subprocess.run(["tar", "-C", root, "-c", "."], stdout=tar, check=True)
        podman.must("import", folder / "root.tar", BASE)
    return podman

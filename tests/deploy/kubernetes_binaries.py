"""The programs of a Kubernetes cluster, built from their Go modules and kept.

`python -m tests.deploy.kubernetes_binaries` builds the missing programs and prints all folders. Building all of them
takes about 12 minutes of CPU time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.testbed.kept import kept

KUBERNETES = "1.34.4"
ETCD = "3.6.4"
GO = (1, 24)
"""Oldest Go version that compiles this Kubernetes."""
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
OF_MACHINES = ("kube-scheduler", "kubelet", "kube-proxy")
"""Further programs of a cluster whose pods run in containers."""


class MissingBuilderError(RuntimeError):
    """This machine has no Go that could build the programs."""


def kubernetes_programs(*others: str) -> str:
    """Folders of the programs and of `others`, as in PATH. Builds missing programs."""
    return os.pathsep.join(str(_folder(program)) for program in (*PROGRAMS, *others))


def _folder(program: str) -> Path:
    version = ETCD if program == "etcd" else KUBERNETES
    return kept("kubernetes", f"{program}-{version}", partial(_build, program))


def _go() -> str:
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    version = subprocess.run([go, "version"], capture_output=True, text=True, check=True).stdout if go else "no go"
    found = re.search(r"go(\d+)\.(\d+)", version)
    if go is None or found is None or (int(found[1]), int(found[2])) < GO:
        oldest = ".".join(map(str, GO))
        raise MissingBuilderError(
            f"A test cluster is built with Go {oldest} or newer, and this machine has {version.strip()}. "
            f"Install it from https://go.dev/dl/ and put its bin folder on PATH."
        )
    return go


def _build(program: str, folder: Path) -> None:
    """Build a program from a module of our own: `go install` refuses modules with replacements."""
    go = _go()
    if program == "etcd":
        package, version = "go.etcd.io/etcd/server/v3", ETCD
        required, stamp = package, ""
    else:
        package, version = f"k8s.io/kubernetes/cmd/{program}", KUBERNETES
        required, stamp = "k8s.io/kubernetes", f"-X k8s.io/component-base/version.gitVersion=v{KUBERNETES}"
    replaced = _replaced(go, f"{required}@v{version}") if program != "etcd" else []
    lines = ["module irt-assets/kubernetes", f"go {GO[0]}.{GO[1]}.0", f"require {required} v{version}"]
    staged = "0" + KUBERNETES[KUBERNETES.index(".") :]
    lines += [f"replace {name} => {name} v{staged}" for name in replaced]
    with tempfile.TemporaryDirectory(prefix="irt-kubernetes-") as module:
        (Path(module) / "go.mod").write_text("\n".join(lines) + "\n")
        command = [go, "build", "-ldflags", f"-s -w {stamp}".strip(), "-o", str(folder / program), package]
        subprocess.run(command, cwd=module, env=_environment(), check=True)


def _replaced(go: str, module: str) -> list[str]:
    """Modules in this module's source tree that are also published under the same version."""
    command = [go, "mod", "download", "-json", module]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment()).stdout
    command = [go, "mod", "edit", "-json", json.loads(output)["GoMod"]]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [
        each["Old"]["Path"] for each in json.loads(output)["Replace"] if each["New"]["Path"].startswith("./staging")
    ]


def _environment() -> dict[str, str]:
    return os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}


if __name__ == "__main__":
    try:
        print(kubernetes_programs(*OF_MACHINES))
    except MissingBuilderError as fault:
        sys.exit(str(fault))

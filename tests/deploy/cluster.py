"""A Kubernetes without machines: etcd, the API server and the controllers, on free ports of this machine, with RBAC.

`pods.py` runs its pods.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import requests

from tests.deploy.commands import completed
from tests.testbed.machine import free_port
from tests.testbed.patience import patient

CLONE_NEWNET = 0x40000000
START_S = 120.0
SHELL_S = 300.0
ADDRESS = "192.0.2.1"
"""Address of this machine in its own network; reserved for examples by RFC 5737."""
NODE = "this-machine"
SERVICES = "10.96.0.0/24"
API_SERVICE = "10.96.0.1"
"""Address of the API server: the first in `SERVICES`."""
NAMES = f"IP:127.0.0.1,IP:{ADDRESS},IP:{API_SERVICE},DNS:localhost,DNS:kubernetes.default.svc"
PAUSE_S = 0.3
WITHOUT_NODES = "*,-node-lifecycle-controller,-node-ipam-controller,-pod-garbage-collector-controller"
"""All controllers but three, which would remove a node without a kubelet."""


@dataclass
class Cluster:
    """A cluster whose files are in `folder`. That is outside /tmp, as its pods have their own /tmp."""

    folder: Path
    programs: str
    """Folders of the programs, as in PATH."""
    controllers: str = WITHOUT_NODES
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    port: int = 0
    _etcd: str = ""
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    # -- start and end -------------------------------------------------------------------------------

    def start(self) -> None:
        self._write_keys()
        etcd, peers, self.port = (free_port() for _ in range(3))
        self._etcd = f"http://127.0.0.1:{etcd}"
        peer = f"http://127.0.0.1:{peers}"
        self.launch(
            "etcd",
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={self._etcd}",
            f"--advertise-client-urls={self._etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )
        self._write_kubeconfig(self.kubeconfig, self.token)
        self._write_kubeconfig(self.kubeconfig_of_node, f"{self.token}-node")
        self.start_api_server()
        self.launch(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={self.folder / 'accounts.key'}",
            f"--root-ca-file={self.certificate}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            f"--controllers={self.controllers}",
            "--bind-address=127.0.0.1",
            "--secure-port=0",
        )
        self.wait(lambda: bool(self.get("/api/v1/namespaces/default/serviceaccounts")["items"]), START_S, "controllers")

    def start_api_server(self) -> None:
        self.launch(
            "kube-apiserver",
            f"--etcd-servers={self._etcd}",
            f"--advertise-address={ADDRESS}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--secure-port={self.port}",
            f"--tls-cert-file={self.certificate}",
            f"--tls-private-key-file={self.key}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'accounts.key'}",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            f"--service-cluster-ip-range={SERVICES}",
        )
        self.wait(self.answers, START_S, "the API server")

    def stop_api_server(self) -> None:
        self.end("kube-apiserver")

    def stop(self) -> None:
        for name in reversed(list(self._processes)):
            self.end(name)

    # -- requests ------------------------------------------------------------------------------------

    @property
    def certificate(self) -> Path:
        """Self-signed certificate of the API server."""
        return self.folder / "kubernetes.crt"

    @property
    def key(self) -> Path:
        return self.folder / "kubernetes.key"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def kubeconfig_of_node(self) -> Path:
        return self.folder / "kubeconfig-node"

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/readyz").ok
        except requests.ConnectionError:
            return False

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        answer.raise_for_status()
        return answer.json()

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> requests.Response:
        """Send a request as an administrator, over a new connection, so that threads can call this."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind, "Connection": "close"}
        data = None if body is None else json.dumps(body)
        url = f"https://127.0.0.1:{self.port}{path}"
        return requests.request(method, url, data=data, headers=headers, verify=str(self.certificate), timeout=30)

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run an operator's command in the repository's root, with this cluster's kubectl.

        Its output is shown if a test fails.
        """
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        ran = completed(
            ["bash", "-c", command],
            os.environ | {"KUBECONFIG": str(self.kubeconfig), "PATH": path},
            folder=Path(__file__).parents[2],
            timeout_s=patient(SHELL_S),
        )
        print("$", command, f"→ {ran.returncode}\n{ran.stdout}")
        return ran

    def must(self, command: str) -> str:
        ran = self.shell(command)
        assert ran.returncode == 0, f"{command}: {ran.stdout}"
        return ran.stdout

    def wait(self, condition: Callable[[], bool], within_s: float, subject: str) -> float:
        """Wait until the condition is true. Returns the seconds. `within_s` applies to an idle machine."""
        began, within_s = time.monotonic(), patient(within_s)
        while not condition():
            assert not self._ends(), self._ends()
            assert time.monotonic() - began < within_s, f"{subject} did not come within {within_s:.0f} s"
            time.sleep(PAUSE_S)
        return time.monotonic() - began

    # -- parts ---------------------------------------------------------------------------------------

    def _write_keys(self) -> None:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "30", "-subj", "/CN=kubernetes", "-keyout", str(self.key), "-out", str(self.certificate)]
        command += ["-addext", f"subjectAltName={NAMES}"]
        subprocess.run(command, check=True, capture_output=True)
        accounts = ["openssl", "genpkey", "-algorithm", "RSA", "-out", str(self.folder / "accounts.key")]
        subprocess.run(accounts, check=True, capture_output=True)
        users = f"{self.token},admin,admin,system:masters\n{self.token}-node,system:node:{NODE},node,system:nodes\n"
        (self.folder / "tokens.csv").write_text(users)

    def _write_kubeconfig(self, file: Path, token: str) -> None:
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(self.certificate)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
            "current-context": "test",
        }
        file.write_text(json.dumps(config))

    def launch(self, name: str, *options: str, through: Sequence[str] = ()) -> None:
        """Start a part of the cluster with the log NAME.log. `through` is a command that executes the program."""
        program = shutil.which(name, path=self.programs)
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*through, program, *options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def _ends(self) -> str:
        """End of the logs of parts that ended unexpectedly."""
        ended = [name for name, process in self._processes.items() if process.poll() is not None]
        return "; ".join(f"{name}: {(self.folder / f'{name}.log').read_text('utf-8')[-1000:]}" for name in ended)


@contextmanager
def own_network() -> Iterator[None]:
    """Move this thread and the processes it starts into their own network, in which all ports are free."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "no network of its own: run as root")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
        yield
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(before)


@contextmanager
def kubernetes(programs: str, controllers: str = WITHOUT_NODES) -> Iterator[Cluster]:
    folder = Path(mkdtemp(prefix="irt-kubernetes-", dir="/var/tmp"))
    folder.chmod(0o755)
    cluster = Cluster(folder, programs, controllers)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)

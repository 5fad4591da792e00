"""Replacement for the machines of a cluster: runs the containers of every pod as processes of this machine.

A pod has its own processes (the first has number 1), its volumes, its read-only root, its user, its service account's
token and its log, which `kubectl logs` reads. It shares this machine's network, so a Service is a name in its
/etc/hosts. There are no probes, limits, evictions or network policies, which need a kubelet.
"""

from __future__ import annotations

import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlparse

import psutil
import requests

from tests.deploy.cluster import Cluster
from tests.deploy.surroundings import NODE, PAUSE_S, Pod, Surroundings, WaitingError, expanded

RESTART_S = 3.0
LAST_WORDS = 500
ENTRYPOINT = ["/usr/bin/tini", "--", "/opt/irt/libexec/irt-container"]
"""Beginning of the image's commands, which is removed as there is no image."""
MERGE = "application/strategic-merge-patch+json"


@dataclass
class PodRunner:
    """Runs the pods of `cluster`; `image` contains the environment variables of every image."""

    cluster: Cluster
    image: Mapping[str, str]
    _seen: dict[str, _Running] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[PodRunner]:
        logs = _log_server(self.cluster)
        self._register(logs.server_address[1])
        for target in (logs.serve_forever, self._watch):
            self._threads.append(threading.Thread(target=target, daemon=True))
            self._threads[-1].start()
        try:
            yield self
        finally:
            self._stopping.set()
            logs.shutdown()
            logs.server_close()
            for pod in self._seen.values():
                pod.leave()
            for thread in (*self._threads, *(pod.thread for pod in self._seen.values())):
                thread.join()

    def kill(self, name: str) -> None:
        """Send SIGKILL to every process of the pod, as the kernel would. The pod's restartPolicy then applies."""
        for pod in self._seen.values():
            if pod.name == name:
                pod.signal(signal.SIGKILL)

    def last_words(self) -> str:
        """The end of each container's log."""
        logs = sorted((self.cluster.folder / "pods").rglob("*.log"))
        return "\n".join(f"{log.parent.name}: {log.read_text('utf-8', 'replace')[-LAST_WORDS:]}" for log in logs)

    def _register(self, port: int) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        self.cluster.ask("POST", "/api/v1/nodes", node).raise_for_status()
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": ""}],
        }
        self.cluster.ask("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, MERGE).raise_for_status()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            with suppress(requests.RequestException):
                self._look(self.cluster.get("/api/v1/pods")["items"])
            self._stopping.wait(PAUSE_S)

    def _look(self, pods: list[Pod]) -> None:
        for pod in pods:
            uid, spec = pod["metadata"]["uid"], pod["spec"]
            if uid not in self._seen and "deletionTimestamp" not in pod["metadata"] and "nodeName" not in spec:
                binding = {"metadata": {"name": pod["metadata"]["name"]}, "target": {"kind": "Node", "name": NODE}}
                self.cluster.ask("POST", f"{_path(pod)}/binding", {"apiVersion": "v1", "kind": "Binding", **binding})
                self._seen[uid] = _Running(self.cluster, self.image, pod)
            elif uid in self._seen and "deletionTimestamp" in pod["metadata"]:
                self._seen[uid].end(pod["metadata"].get("deletionGracePeriodSeconds", 30))
                if not self._seen[uid].thread.is_alive():
                    at_once = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
                    self.cluster.ask("DELETE", _path(pod), at_once)
        uids = {pod["metadata"]["uid"] for pod in pods}
        for uid, running in self._seen.items():
            if uid not in uids:
                running.kill()


class _Running:
    """A pod from its start to its end, in its own thread."""

    def __init__(self, cluster: Cluster, image: Mapping[str, str], pod: Pod) -> None:
        self.cluster, self.pod, self.name = cluster, pod, pod["metadata"]["name"]
        self.folder = cluster.folder / "pods" / pod["metadata"]["namespace"] / self.name
        self.surroundings = Surroundings(cluster, image, pod, self.folder)
        self._ending, self._left = threading.Event(), threading.Event()
        self._killer: threading.Timer | None = None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._states: dict[str, dict[str, Any]] = {}
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    # -- end -----------------------------------------------------------------------------------------

    def kill(self) -> None:
        self._ending.set()
        self.signal(signal.SIGKILL)

    def leave(self) -> None:
        """End the pod's processes and stop reporting its status."""
        self._left.set()
        self.kill()

    def end(self, grace_s: float) -> None:
        """Send SIGTERM to the first processes, and SIGKILL after `grace_s`, without waiting."""
        if not self._ending.is_set() and self.thread.is_alive():
            self._ending.set()
            self.signal(signal.SIGTERM)
            self._killer = threading.Timer(grace_s, self.signal, [signal.SIGKILL])
            self._killer.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the first process of each container. If that ends, the kernel ends its descendants."""
        for process in [each for each in self._processes.values() if each.poll() is None]:
            with suppress(psutil.NoSuchProcess):
                for first in psutil.Process(process.pid).children() or [process]:
                    first.send_signal(number)

    # -- start, containers and status ----------------------------------------------------------------

    def _run(self) -> None:
        spec, self.began = self.pod["spec"], _now()
        self.folder.mkdir(parents=True, exist_ok=True)
        codes = [0]
        for container in spec.get("initContainers", ()):
            codes = [self._to_its_end(container, may_repeat=spec["restartPolicy"] != "Never")]
            if codes[0] != 0:
                break
        else:
            threads = [threading.Thread(target=self._container, args=[each, codes]) for each in spec["containers"]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self._report("Succeeded" if not any(codes) else "Failed")
        if self._killer is not None:
            self._killer.cancel()

    def _container(self, container: Pod, codes: list[int]) -> None:
        policy = self.pod["spec"]["restartPolicy"]
        code = self._to_its_end(container, may_repeat=policy == "OnFailure")
        while policy == "Always" and not self._ending.wait(RESTART_S):
            code = self._to_its_end(container, may_repeat=False)
        codes.append(code)

    def _to_its_end(self, container: Pod, *, may_repeat: bool) -> int:
        name, restarts = container["name"], self._states.get(container["name"], {}).get("restartCount", -1)
        code = 1
        while not self._ending.is_set():
            try:
                environment = self.surroundings.environment(container)
                script = self.surroundings.script(container)
            except WaitingError as fault:
                self._state(name, restarts, waiting={"reason": "CreateContainerConfigError", "message": str(fault)})
                self._report("Pending")
                self._ending.wait(1)
                continue
            restarts, began = restarts + 1, _now()
            command = [*container.get("command", ()), *container.get("args", ())]
            command = [expanded(word, environment) for word in command]
            if command[: len(ENTRYPOINT)] == ENTRYPOINT:
                command = command[len(ENTRYPOINT) :]
            with (self.folder / f"{name}.log").open("ab" if restarts else "wb") as log:
                unshared = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--"]
                self._processes[name] = process = subprocess.Popen(
                    [*unshared, "sh", "-c", script, "sh", *command],
                    env=environment | {"POD": str(self.folder)},
                    cwd=container.get("workingDir", "/"),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            if self._ending.is_set():
                self.signal(signal.SIGKILL)
            self._state(name, restarts, running={"startedAt": began})
            self._report("Running")
            code = process.wait()
            code = 128 - code if code < 0 else code
            how = {
                "exitCode": code,
                "startedAt": began,
                "finishedAt": _now(),
                "reason": "Error" if code else "Completed",
            }
            self._state(name, restarts, terminated=how)
            if code == 0 or not may_repeat:
                break
            self._report("Running")
            self._ending.wait(RESTART_S)
        return code

    def _state(self, name: str, restarts: int, **state: Any) -> None:
        """Record a container's state. The other states become None, as a strategic merge would keep earlier states."""
        states = {"waiting": None, "running": None, "terminated": None} | state
        self._states[name] = {
            "name": name,
            "image": "irt-assets",
            "imageID": "",
            "ready": "running" in state,
            "started": "running" in state,
            "restartCount": max(restarts, 0),
            "state": states,
        }

    def _report(self, phase: str) -> None:
        """Report the pod's status, and retry until the API server accepts it, as the server may be down."""
        spec = self.pod["spec"]
        starters = {each["name"] for each in spec.get("initContainers", ())}
        ready = phase == "Running" and all(
            self._states.get(each["name"], {}).get("ready", False) for each in spec["containers"]
        )
        conditions = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
        status = {
            "phase": phase,
            "startTime": self.began,
            "conditions": [{"type": name, "status": str(true)} for name, true in conditions.items()],
            "containerStatuses": [each for name, each in self._states.items() if name not in starters],
            "initContainerStatuses": [each for name, each in self._states.items() if name in starters],
        }
        while not self._left.is_set():
            try:
                answer = self.cluster.ask("PATCH", f"{_path(self.pod)}/status", {"status": status}, MERGE)
            except requests.RequestException:
                time.sleep(PAUSE_S)
                continue
            if not answer.ok and answer.status_code != requests.codes.not_found:
                print(f"The status of the pod {self.name} is refused: {answer.text}")
            return


class _Logs(BaseHTTPRequestHandler):
    """Serves the container logs that the API server requests for `kubectl logs`."""

    cluster: ClassVar[Cluster]

    def do_GET(self) -> None:
        address = urlparse(self.path)
        _, _, space, pod, container = address.path.split("/")
        expected = {key: values[0] for key, values in parse_qs(address.query).items()}
        file = self.cluster.folder / "pods" / space / pod / f"{container}.log"
        lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        count = int(expected.get("tailLines", len(lines)))
        self.wfile.write(b"".join(lines[len(lines) - count :] if count else []))
        position = sum(map(len, lines))
        while expected.get("follow") == "true":
            ended = self._ended(space, pod, container)
            more = file.read_bytes()[position:] if file.exists() else b""
            self.wfile.write(more)
            self.wfile.flush()
            position += len(more)
            if ended:
                return
            time.sleep(PAUSE_S)

    def _ended(self, space: str, pod: str, container: str) -> bool:
        answer = self.cluster.ask("GET", f"/api/v1/namespaces/{space}/pods/{pod}")
        if not answer.ok:
            return True
        states = answer.json()["status"].get("containerStatuses", ())
        return any(each["name"] == container and "terminated" in each["state"] for each in states)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def _log_server(cluster: Cluster) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Logs", (_Logs,), {"cluster": cluster}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cluster.certificate, cluster.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


def _path(pod: Pod) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

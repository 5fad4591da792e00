"""A stub of the Kubernetes API server for run launchers: Jobs and pods over HTTP, and every kind of outage.

The stub stores requests and responds like the real server. Expectations belong to the tests.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.testbed.machine import free_port

NAMESPACE = "seedtest"
KINDS = {"jobs": ("batch/v1", "Job"), "pods": ("v1", "Pod")}


@dataclass
class ApiServer:
    """The server. Objects outlive an outage, as they are stored in etcd.

    Attributes:
        answers: status of the response to every request, if not 0.
        loses_answers: whether the server executes a request and closes the connection before responding.
    """

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    answers: int = 0
    loses_answers: bool = False
    port: int = field(default_factory=free_port)
    """Reserved during an outage."""
    _server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @contextmanager
    def outage(self) -> Iterator[None]:
        self.stop()
        yield
        self.start()

    def kubeconfig(self, path: Path) -> Path:
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                    "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                    "users": [{"name": "test", "user": {"token": "irrelevant"}}],
                }
            )
        )
        return path

    # -- actions of controllers and kubelets -------------------------------------------------------
    def run_pod(self, job: str, phase: str = "Running", **status: Any) -> None:
        """Give the Job a pod in this phase. The Job's controller has not noticed the end of a finished pod yet."""
        self.pods[f"{job}-x7k2p"] = {
            "metadata": {"name": f"{job}-x7k2p", "labels": {"job-name": job}},
            "spec": self.jobs[job]["spec"]["template"]["spec"],
            "status": {"phase": phase, **status},
        }
        self.jobs[job]["status"] = {"active": 1}

    def end_pod(self, job: str, exit_code: int, reason: str, message: str = "") -> None:
        ended = {"exitCode": exit_code, "reason": reason, "message": message}
        one = {"name": "dagster", "ready": False, "restartCount": 0, "image": "i", "imageID": "i"}
        phase = "Failed" if exit_code else "Succeeded"
        self.run_pod(job, phase, containerStatuses=[{**one, "state": {"terminated": ended}}])

    # -- requests ----------------------------------------------------------------------------------
    def answer(self, method: str, url: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(url)
        self.requests.append((method, parts.path))
        if self.answers:
            return self.answers, {"kind": "Status", "code": self.answers, "message": "not now"}
        namespace, kind, name = ([*parts.path.partition("/namespaces/")[2].split("/"), ""])[:3]
        assert namespace == NAMESPACE, url
        if kind == "events":
            return 200, {"apiVersion": "v1", "kind": "EventList", "items": []}
        objects = self.jobs if kind == "jobs" else self.pods
        api, one = KINDS[kind]
        if method == "POST":
            if body["metadata"]["name"] in objects:
                return 409, {"kind": "Status", "code": 409, "reason": "AlreadyExists"}
            objects[body["metadata"]["name"]] = body | {"status": {}}
            return 201, body
        if not name:
            ((by, (selector,)),) = parse_qs(parts.query).items()
            key, _, value = selector.partition("=")
            found = [
                each
                for each in objects.values()
                if (each["metadata"]["name"] if by == "fieldSelector" else each["metadata"]["labels"].get(key)) == value
            ]
            return 200, {"apiVersion": api, "kind": f"{one}List", "items": found}
        if name not in objects:
            return 404, {"kind": "Status", "code": 404, "reason": "NotFound"}
        if method == "DELETE":
            del objects[name]
            return 200, {"kind": "Status", "status": "Success"}
        return 200, {"apiVersion": api, "kind": one, **objects[name]}


def _handler(api: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = api.answer(self.command, self.path, body)
            if api.loses_answers:
                self.close_connection = True
                return
            content = json.dumps(answer).encode()
            with suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the base class's names

        def log_message(self, *_: object) -> None:
            pass

    return Handler

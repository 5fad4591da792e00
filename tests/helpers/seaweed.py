"""A real S3 server for the tests: SeaweedFS on this machine, with users, passwords and rights.

It can be killed and restarted on its data.
"""

from __future__ import annotations

import ctypes
import json
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.machine import free_port
from tests.testbed.patience import patient

WEED = shutil.which("weed", path=str(Path(sys.executable).parent))
REGION = "us-east-1"
BUCKET = "bank"
RIGHTS = {
    "owner": ["Admin"],
    "writer": [f"{right}:{BUCKET}" for right in ("Read", "Write", "List")],
    "reader": [f"{right}:{BUCKET}" for right in ("Read", "List")],
}
PORTS = ("master", "volume", "filer", "s3")
LONGEST_START_S = 30
"""Timeout of a start, which usually takes 3 s."""


@dataclass
class SeaweedFS:
    """A server with its own folder. Its random passwords prevent confusion with other servers."""

    folder: Path
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    ports: list[int] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports[-1]}"

    def user(self, name: str) -> dict[str, str]:
        """Environment variables with which boto3 is this user of this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": f"{name}-key",
            "AWS_SECRET_ACCESS_KEY": f"{name}-{self.secret}",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def log_in(self, environment: pytest.MonkeyPatch, name: str) -> None:
        """Make boto3 this user of this server from now on."""
        for variable, value in self.user(name).items():
            environment.setenv(variable, value)

    def start(self) -> None:
        """Start on the previous ports or on free ports. If a port has been occupied meanwhile, other ports are used."""
        for chosen in (self.ports, [], [], []):
            self.ports = chosen or [free_port() for _ in range(2 * len(PORTS))]
            if self._started():
                return
        raise RuntimeError((self.folder / "log").read_text("utf-8")[-5000:])

    def kill(self) -> None:
        """Kill the server without notice, as in a power cut."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def owner(self) -> Any:
        """Returns a client with all rights."""
        import boto3  # takes half a second, and only tests with a bucket need it

        values = self.user("owner")
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=values["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=values["AWS_SECRET_ACCESS_KEY"],
        )

    def empty(self) -> None:
        """Delete every object and every unfinished upload of the bucket."""
        client = self.owner()
        for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()):
            client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            keys = [{"Key": one["Key"]} for one in page.get("Contents", ())]
            if keys:
                client.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})

    def _started(self) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        users = [
            {
                "name": name,
                "credentials": [{"accessKey": f"{name}-key", "secretKey": f"{name}-{self.secret}"}],
                "actions": actions,
            }
            for name, actions in RIGHTS.items()
        ]
        config = self.folder / "users.json"
        config.write_text(json.dumps({"identities": users}), "utf-8")
        options = {f"{name}.port": port for name, port in zip(PORTS, self.ports[len(PORTS) :], strict=True)}
        options |= {f"{name}.port.grpc": port for name, port in zip(PORTS, self.ports, strict=False)}
        options |= {
            "dir": self.folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "filer": "true",
            "filer.localSocket": self.folder / "filer.sock",
            "master.telemetry": "false",
            "master.electionTimeout": "1s",
            "master.volumeSizeLimitMB": 1024,
            "volume.max": 100,  # a bucket takes up to seven
            "s3": "true",
            "s3.config": config,
            "s3.autoCreateBucket": "false",
            "s3.iam": "false",
            "s3.localSocket": self.folder / "s3.sock",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
        }
        assert WEED is not None
        command = [WEED, "-logtostderr=true", "server", *(f"-{name}={value}" for name, value in options.items())]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                preexec_fn=_dies_with_its_parent,
            )
        until = time.monotonic() + patient(LONGEST_START_S)
        while time.monotonic() < until and self._process.poll() is None:
            if self._answers():
                return True
            time.sleep(0.05)
        self.kill()
        return False

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False


def _dies_with_its_parent() -> None:
    """Let the server die with the tests, however they end."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

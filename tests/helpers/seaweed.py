"""A real S3 server for the tests: SeaweedFS on this machine, with users, passwords and rights.

What belongs here: starting it, killing it, starting it again on its data. What does not: what is asked of it.
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
"""It takes 3 s."""


@dataclass
class SeaweedFS:
    """A server of its own folder. The passwords are made up for it, so that no other server is taken for it."""

    folder: Path
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    ports: list[int] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports[-1]}"

    def user(self, name: str) -> dict[str, str]:
        """The environment in which boto3 is this user here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": f"{name}-key",
            "AWS_SECRET_ACCESS_KEY": f"{name}-{self.secret}",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def log_in(self, environment: pytest.MonkeyPatch, name: str) -> None:
        """From here on boto3 is this user here."""
        for variable, value in self.user(name).items():
            environment.setenv(variable, value)

    def start(self) -> None:
        """Start it on free ports, or on those that it had; other ports where somebody was faster."""
        for chosen in (self.ports, [], [], []):
            self.ports = chosen or [free_port() for _ in range(2 * len(PORTS))]
            if self._started():
                return
        raise RuntimeError((self.folder / "log").read_text("utf-8")[-5000:])

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def owner(self) -> Any:
        """A client that may do everything."""
        import boto3  # takes half a second, which only tests of a bucket need

        values = self.user("owner")
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=values["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=values["AWS_SECRET_ACCESS_KEY"],
        )

    def empty(self) -> None:
        """Drop every object of the bucket, and every upload that nobody finished."""
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
    """However the tests end, no server is left."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

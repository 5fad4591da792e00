"""Requests to the θ API: the settings, the connection, and the check that a response contains a learner's θ.

Redirects are not followed and proxies are not used, so that the token reaches no host but the one in IRT_THETA_URL.
Therefore the module uses `http.client`: by default `urllib.request` follows redirects and uses proxies.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import ssl
from collections.abc import Iterator
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

PATH = "/api/seedtest/analysis/irt/update-theta"
SECONDS = 1.0
MAX_RESPONSE_BYTES = 64 * 1024
MAX_PAUSE = 60.0


class UpdateFailed(Exception):
    """θ was not updated; the message is the reason. For `pause` seconds no further request should be sent."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class Address(NamedTuple):
    """The address of the θ API, and the token that each request sends."""

    host: str
    port: int
    base: str
    tls: ssl.SSLContext | None
    token: str


def update_theta(user_id: str) -> None:
    """Request an update of one learner's θ. Raises `UpdateFailed` if the API does not update it."""
    address = read_address()
    body = json.dumps({"user_id": user_id}).encode()
    host = f"{address.host}:{address.port}"
    try:
        with post_json(address, PATH, body, SECONDS) as response:
            _require_theta(response, user_id)
    except socket.timeout:
        raise UpdateFailed(f"{host} did not answer within {SECONDS:g} s") from None
    except OSError as error:
        raise UpdateFailed(f"{host}: {error}") from None
    except (HTTPException, ValueError) as error:
        raise UpdateFailed(f"{host} does not speak HTTP: {ascii(error)[:100]}") from None


@contextlib.contextmanager
def post_json(address: Address, path: str, body: bytes, timeout: float) -> Iterator[HTTPResponse]:
    """Send a JSON body and yield the API's response. `timeout`: seconds for connecting, for TLS and for each read."""
    if address.tls is None:
        connection = HTTPConnection(address.host, address.port, timeout=timeout)
    else:
        connection = HTTPSConnection(address.host, address.port, timeout=timeout, context=address.tls)
    headers = {"Content-Type": "application/json", "User-Agent": "irt-theta-client"}
    if address.token:
        headers["Authorization"] = f"Bearer {address.token}"
    with contextlib.closing(connection):
        connection.request("POST", address.base + path, body, headers)
        with connection.getresponse() as response:
            yield response


@cache
def read_address() -> Address:
    """Read the address from the environment, at the first use.

    Raises `UpdateFailed` if a setting is invalid, at each use: any other value would be a guess.
    """
    url = os.environ.get("IRT_THETA_URL", "http://127.0.0.1:8001").strip()
    token = os.environ.get("IRT_THETA_TOKEN", "").strip()
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        plain = parts.hostname and not (parts.username or parts.password or parts.query or parts.fragment)
    except (ValueError, KeyError):
        plain = None
    if not plain or not re.fullmatch(r"[!-~]+", url):
        raise UpdateFailed("IRT_THETA_URL must be http(s)://HOST[:PORT], without a password")
    if not re.fullmatch(r"[!-~]*", token):
        raise UpdateFailed("IRT_THETA_TOKEN must be printable ASCII without spaces")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    return Address(cast(str, parts.hostname), port, parts.path.rstrip("/"), tls, token)


def _require_theta(response: HTTPResponse, user_id: str) -> None:
    """Raise `UpdateFailed` unless the response contains the learner's θ."""
    status = response.status
    if status == 200:
        content = response.read(MAX_RESPONSE_BYTES)
        if not _is_theta_of(user_id, content):
            raise UpdateFailed("the response is not a θ: is IRT_THETA_URL the address of the θ API?")
    elif status in (401, 403):
        raise UpdateFailed(f"the API refuses IRT_THETA_TOKEN ({status})")
    elif 300 <= status < 400:
        raise UpdateFailed(f"IRT_THETA_URL redirects ({status}): set it to the API's own address")
    else:
        retry_after = re.fullmatch(r"[0-9]{1,9}", response.getheader("Retry-After") or "")
        pause = min(float(retry_after[0]), MAX_PAUSE) if retry_after and status in (429, 503) else 0.0
        raise UpdateFailed(f"the API answered {status} {response.reason[:100]!a}", pause)


def _is_theta_of(user_id: str, content: bytes) -> bool:
    try:
        answer: Any = json.loads(content)
    except (ValueError, RecursionError):
        return False
    has_learner = isinstance(answer, dict) and answer.get("user_id") == user_id
    return has_learner and isinstance(answer.get("theta"), (float, int))

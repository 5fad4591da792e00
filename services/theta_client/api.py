"""One request to the θ API, over within a second whatever the server does.

What belongs here: the settings, the connection and what an answer means. Redirects and proxies are not followed, so
the token reaches no host but the one in IRT_THETA_URL.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import ssl
import time
from functools import cache
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

PATH = "/api/seedtest/analysis/irt/update-theta"
SECONDS = 1.0
LARGEST_ANSWER = 64 * 1024
LONGEST_PAUSE = 60.0


class UpdateFailed(Exception):
    """Says why θ was not updated. For `pause` seconds no further request should be sent."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class Address(NamedTuple):
    """Where the θ API is, and what each request to it says."""

    host: str
    port: int
    base: str
    tls: ssl.SSLContext | None
    token: str
    lookback_days: int | None


def update_theta(user_id: str) -> None:
    """Asks the API to update one learner's θ. Raises `UpdateFailed` if it does not."""
    address = read_address()
    deadline = time.monotonic() + SECONDS
    try:
        with contextlib.closing(_connect(address, deadline)) as connection:
            connection.settimeout(_left(deadline))
            connection.sendall(_request(address, user_id))
            with HTTPResponse(cast(socket.socket, _Timed(connection, deadline)), method="POST") as answer:
                answer.begin()
                _judge(answer, user_id)
    except socket.timeout:
        raise UpdateFailed(f"{address.host}:{address.port} did not answer within {SECONDS:g} s") from None
    except OSError as error:
        raise UpdateFailed(f"{address.host}:{address.port}: {error}") from None
    except (HTTPException, ValueError) as error:
        raise UpdateFailed(f"{address.host}:{address.port} does not speak HTTP: {ascii(error)[:100]}") from None


@cache
def read_address() -> Address:
    """From the environment, at the first use. A bad setting fails each update, as another value would be a guess."""
    url = os.environ.get("IRT_THETA_URL", "http://127.0.0.1:8001").strip()
    token = os.environ.get("IRT_THETA_TOKEN", "").strip()
    days = os.environ.get("IRT_THETA_LOOKBACK_DAYS", "").strip()
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
    if days and not (re.fullmatch(r"[0-9]{1,3}", days) and 1 <= int(days) <= 365):
        raise UpdateFailed("IRT_THETA_LOOKBACK_DAYS must be empty, or between 1 and 365")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    return Address(cast(str, parts.hostname), port, parts.path.rstrip("/"), tls, token, int(days) if days else None)


def _connect(address: Address, deadline: float) -> socket.socket:
    """Tries the host's addresses in turn; each has an equal share of the time that is left."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    for left, (family, kind, protocol, _, destination) in zip(range(len(found), 0, -1), found):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(deadline) / left)
            connection.connect(destination)
            if address.tls is None:
                return connection
            connection.settimeout(_left(deadline))
            return address.tls.wrap_socket(connection, server_hostname=address.host)
        except OSError:
            connection.close()
            if left == 1:
                raise
    raise OSError("the host name has no address")


def _request(address: Address, user_id: str) -> bytes:
    days = {} if address.lookback_days is None else {"lookback_days": address.lookback_days}
    body = json.dumps({"user_id": user_id, **days}).encode()
    host = f"[{address.host}]" if ":" in address.host else address.host
    head = [
        f"POST {address.base}{PATH} HTTP/1.1",
        f"Host: {host}:{address.port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Accept: application/json",
        "User-Agent: irt-theta-client",
        "Connection: close",
    ]
    if address.token:
        head.append(f"Authorization: Bearer {address.token}")
    return "\r\n".join([*head, "", ""]).encode("ascii") + body


def _judge(answer: HTTPResponse, user_id: str) -> None:
    """Returns where the answer is the learner's θ."""
    status = answer.status
    if status == 200:
        content = answer.read(LARGEST_ANSWER)
        if not _is_theta_of(user_id, content):
            raise UpdateFailed("the answer is not a θ: is IRT_THETA_URL the address of the θ API?")
    elif status in (401, 403):
        raise UpdateFailed(f"the API refuses IRT_THETA_TOKEN ({status})")
    elif 300 <= status < 400:
        raise UpdateFailed(f"IRT_THETA_URL redirects ({status}): set it to the API's own address")
    else:
        asked = re.fullmatch(r"[0-9]{1,9}", answer.getheader("Retry-After") or "")
        pause = min(float(asked[0]), LONGEST_PAUSE) if asked and status in (429, 503) else 0.0
        raise UpdateFailed(f"the API answered {status} {answer.reason[:100]!a}", pause)


def _is_theta_of(user_id: str, content: bytes) -> bool:
    try:
        answer: Any = json.loads(content)
    except (ValueError, RecursionError):
        return False
    ours = isinstance(answer, dict) and answer.get("user_id") == user_id
    return ours and isinstance(answer.get("theta"), (float, int))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout
    return left


class _Timed(io.RawIOBase):
    """A connection's bytes, read no later than the deadline, however slowly they come."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def makefile(self, *_: Any) -> io.BufferedReader:
        """What `HTTPResponse` calls on the socket that it expects."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(_left(self._deadline))
        return self._connection.recv_into(buffer)

"""HTTP requests to the servers of this installation: directly, even if the environment names a proxy."""

from typing import Any

import requests


def ask(url: str, seconds: float, *, send: dict[str, Any] | None = None) -> requests.Response:
    """Send a GET request or, with `send`, a POST request with `send` as JSON. Returns the response.

    The body is read on access. seconds: time limit for the connection, and for each part of the response. Raises
    requests.RequestException, which is an OSError, if there is no response.
    """
    with requests.Session() as session:
        session.trust_env = False
        return session.request("GET" if send is None else "POST", url, json=send, timeout=seconds, stream=True)

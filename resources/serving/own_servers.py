"""HTTP requests to the servers of this installation: directly, whatever proxy the environment names."""

from typing import Any

import requests


def ask(url: str, seconds: float, *, send: dict[str, Any] | None = None) -> requests.Response:
    """What `url` answers to a GET, or to a POST of `send` as JSON. Its body is read once it is asked for.

    seconds: to wait for a connection, and for each part of the answer. Raises requests.RequestException, which is an
    OSError, where nothing answers.
    """
    with requests.Session() as session:
        session.trust_env = False
        return session.request("GET" if send is None else "POST", url, json=send, timeout=seconds, stream=True)

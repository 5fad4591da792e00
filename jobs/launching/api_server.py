"""The cluster's API server as its clients see it: whether it answers, and its errors in words.

What does not belong here: what it is asked for (see `kubernetes_launcher`).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes.client.rest import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from resources.dagster_compat import DagsterUserCodeUnreachableError
from resources.failures import PermanentFailure

LOG = logging.getLogger(__name__)
AWAY = {401, 408, 429, 500, 502, 503, 504}
"""Status codes of an API server that is starting, overloaded, or cannot reach its authenticator."""


class ApiServerAway(DagsterUserCodeUnreachableError):
    """The API server does not answer. On this error a run that is being launched is queued again."""


class Outage:
    """Whether the API server answers; logs once when it stops answering and once when it answers again."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._lock = threading.Lock()  # the daemon's queue and its monitor both ask

    def watch(self, request: Callable[..., Any], *arguments: object, **named: object) -> Any:
        """The answer to a request; its errors go on to the caller."""
        try:
            answer = request(*arguments, **named)
        except (ApiException, HTTPError) as error:
            if _is_away(error):
                self._begins(error)
            else:
                self._ends()
            raise
        self._ends()
        return answer

    def _begins(self, error: Exception) -> None:
        with self._lock:
            if self._began is None:
                self._began = time.monotonic()
                LOG.warning(
                    "The cluster's API server does not answer: runs go on, and those to be launched wait in the queue "
                    "until it does (%s).",
                    error_text(error),
                )

    def _ends(self) -> None:
        with self._lock:
            if self._began is not None:
                LOG.info("The cluster's API server answers again, after %.0f s.", time.monotonic() - self._began)
                self._began = None


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """A request's errors as ours: no answer, or why it was refused."""
    try:
        yield
    except ConfigException as error:
        raise PermanentFailure(f"cannot {what}: {error}") from error
    except (ApiException, HTTPError) as error:
        if _is_away(error):
            raise ApiServerAway(f"the cluster's API server does not answer: {error_text(error)}") from error
        raise PermanentFailure(f"the cluster does not let us {what}: {error_text(error)}") from error


def _is_away(error: Exception) -> bool:
    """Whether the API server did not answer, rather than refused."""
    return not isinstance(error, ApiException) or not error.status or error.status in AWAY


def error_text(error: Exception) -> str:
    if isinstance(error, ApiException):
        return f"{error.status} {error.reason}" + (f", {error.body[:500]}" if error.status not in AWAY else "")
    return str(error)

"""Call R by HTTP: a client of the R IRT service (`services/r_irt`).

As for R in a child process, `mirt_fit` and `brms_fit` write the requests and interpret the results.
"""

import json
import logging
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from irt_psychometrics import PsychometricsError
from resources.failures import PermanentFailure, TransientFailure, root_cause

ATTEMPTS = 3
CONNECT_SECONDS = 10.0
MAX_PAUSE = 60.0
MIB = 2**20
_log = logging.getLogger(__name__)


class _Bearer(AuthBase):
    """Sets the `Authorization` header. A .netrc file does not replace it, and messages of `requests` do not show it."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


@dataclass(frozen=True)
class Service:
    """The R IRT service at a base URL.

    Attributes:
        base_url: http(s)://host[:port][/path].
        token: its R_IRT_INTERNAL_TOKEN. No log, message or repr contains it.
        seconds: time to wait for an answer. It should exceed the service's own R_IRT_SECONDS + R_IRT_WAIT_SECONDS, so
            that the service gives up first, with the reason.
        pause: seconds before the second attempt. Each later pause is twice as long. Up to `pause` seconds of random
            jitter are added to each.
    """

    base_url: str
    token: str = field(repr=False)
    seconds: float = 8000.0
    pause: float = 2.0

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
            raise PermanentFailure(
                f"R_IRT_BASE_URL must be http(s)://host[:port], without user or password; got scheme "
                f"{url.scheme!r} and host {url.hostname!r}"
            )
        if not (self.token and self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise PermanentFailure(
                "R_IRT_INTERNAL_TOKEN must be printable ASCII without blanks; its value is not shown"
            )

    def call(self, function: str, argument: dict[str, Any]) -> dict[str, Any]:
        """Call `irt_calibrate` or `irt_score` of irt.R and return its value, as `r_process.call_r` does.

        Raises PsychometricsError if the service rejects the request or the answers in it; TransientFailure if three
        attempts fail because the service cannot be reached or cannot answer; and PermanentFailure if R failed, the
        service refuses the token, or something other than the R IRT service answers.
        """
        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(multiplier=self.pause, max=MAX_PAUSE) + wait_random(0, self.pause),
            retry=retry_if_exception_type(TransientFailure),
            before_sleep=_log_retry,
            reraise=True,
        )
        _log.info("Calling R IRT service...")
        try:
            return attempts(self._post, function, json.dumps(argument, allow_nan=False).encode())
        except TransientFailure:
            _log.error("R IRT service call failed after %d attempts", ATTEMPTS)
            raise

    def _post(self, function: str, body: bytes) -> dict[str, Any]:
        url = f"{self.base_url.rstrip('/')}/{function.replace('_', '/')}"
        try:
            answer = requests.post(
                url,
                data=body,
                headers={"Content-Type": "application/json"},
                auth=_Bearer(self.token),
                timeout=(CONNECT_SECONDS, self.seconds),
                allow_redirects=False,
            )
        except requests.exceptions.SSLError as error:
            raise PermanentFailure(f"{url}: the certificate is not trusted ({error}): check it") from error
        except requests.exceptions.ReadTimeout as error:
            raise TransientFailure(f"{url}: no answer within {self.seconds:g} s") from error
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            cut_off = f", and that its R_IRT_BODY_MIB is above {len(body) / MIB:.1f}" if len(body) > MIB else ""
            raise TransientFailure(
                f"{url}: no connection ({root_cause(error)}). Check R_IRT_BASE_URL and that the service runs: /healthz "
                f"answers without a token{cut_off}"
            ) from error
        except requests.exceptions.RequestException as error:
            raise TransientFailure(f"{url}: {error}") from error
        content = _content(answer)
        if answer.status_code == 200 and content is not None and "error" not in content:
            return content
        raise _failure(url, answer.status_code, content)


def _content(answer: requests.Response) -> dict[str, Any] | None:
    """The JSON object in an answer, or None."""
    try:
        content = answer.json()
    except requests.exceptions.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None


def _failure(url: str, status: int, content: dict[str, Any] | None) -> Exception:
    """The exception for a failed call: from the service's own error or, if something else answered, from the status."""
    error = (content or {}).get("error")
    if isinstance(error, dict) and error.get("kind") in ("permanent", "transient"):
        message = f"R IRT service: {error.get('message')} (status {status} of {url})"
        if status in (400, 422):
            return PsychometricsError(message)
        transient = error["kind"] == "transient"
    else:
        message = f"{url} answered with status {status} and not as the R IRT service does. Check R_IRT_BASE_URL"
        transient = status == 429 or status >= 500
    if status == 413:
        message += ", and that the service's R_IRT_BODY_MIB allows a request of this size"
    if status == 401:
        message += ". Set R_IRT_INTERNAL_TOKEN to the token that the service was started with"
    return TransientFailure(message) if transient else PermanentFailure(message)


def _log_retry(state: RetryCallState) -> None:
    assert state.outcome is not None
    assert state.next_action is not None
    why, pause = state.outcome.exception(), state.next_action.sleep
    _log.warning("attempt %d of %d failed: %s; again in %.1f s", state.attempt_number, ATTEMPTS, why, pause)

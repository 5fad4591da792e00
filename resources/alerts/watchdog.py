"""The request that informs an external monitor of a successful night: the monitor alerts when the requests stop.

Other alerts need a running process that sends them. This request also covers the loss of a host or a cluster.
`jobs.watching.alert_sensors` decides when a night was successful.
"""

import logging

import requests
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from resources.settings import Settings

LOG = logging.getLogger(__name__)
TIMEOUT_S = 5
ATTEMPTS = 3
PAUSE_S = 1


def request_watchdog(settings: Settings) -> bool:
    """Request IRT_WATCHDOG_URL, three times at most. Returns whether the monitor accepted it.

    A failure is logged without the URL, which is a secret, and raises no error: the monitor misses the request and
    sends an alert.
    """
    if settings.irt_watchdog_url is None:
        return False
    address = settings.irt_watchdog_url.get_secret_value().strip()
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(requests.RequestException),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_fixed(PAUSE_S),
            reraise=True,
        ):
            with attempt:
                requests.get(address, timeout=TIMEOUT_S).raise_for_status()
    except requests.RequestException as error:
        status = error.response.status_code if error.response is not None else None
        LOG.warning("IRT_WATCHDOG_URL did not accept the request: %s", status or type(error).__name__)
        return False
    return True

"""What a failure means to Dagster: transient ones are retried with back-off, permanent ones are explained.

Runs themselves are never retried; a step is, and only here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from irt_assets.psychometrics.errors import PsychometricsError
from resources.failures import PermanentFailure, is_transient

# A PostgreSQL restart takes seconds, a failover about a minute.
MAX_RETRIES = 6
SECONDS_BETWEEN = 10


@contextmanager
def failures_told_apart() -> Iterator[None]:
    """Turn transient errors into `RetryRequested` and permanent ones into a `Failure` that is not retried."""
    try:
        yield
    except (PermanentFailure, PsychometricsError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    except Exception as error:
        if is_transient(error):
            raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=SECONDS_BETWEEN) from error
        raise

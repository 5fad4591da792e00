"""Conversion of failures to Dagster's exceptions, and of failed steps to reasons for people.

Only this module decides on retries of steps: transient failures are retried with back-off, permanent failures are not.
A run is repeated if its worker was killed (see dagster.yaml), and once if Dagster could not record a step (see
`run_progress`).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from irt_psychometrics import PsychometricsError
from resources.dagster_compat import ErrorSource, RunFailureReason, StepFailureData
from resources.failures import PermanentFailure, explain, is_transient

# A PostgreSQL restart takes seconds, a failover about a minute.
MAX_RETRIES = 6
FIRST_WAIT_S = 5
"""First delay in seconds; it doubles each time, which makes five minutes in all."""
HELD = "held"
"""Metadata of a publication that failed because all scales of the month are held: a sentence with the reason."""
STOPPED = (
    "it was stopped while it ran, by hand or because the service was shut down; unfinished work was not stored: start "
    "it again"
)


@contextmanager
def classify_failures() -> Iterator[None]:
    """Turn transient errors into `RetryRequested` and permanent ones into a `Failure` that is not retried."""
    try:
        yield
    except (PermanentFailure, PsychometricsError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    except Exception as error:
        if is_transient(error):
            wait = FIRST_WAIT_S * 2 ** dg.OpExecutionContext.get().retry_number
            raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=wait) from error
        if explanation := explain(error):
            raise dg.Failure(description=explanation, allow_retries=False) from error
        raise


def step_failure_reason(step: StepFailureData) -> str:
    """A failed step's reason for people: a sentence if it was stopped, else its description or its root cause."""
    if step.error_source is ErrorSource.INTERRUPT:
        return STOPPED
    if step.user_failure_data is not None and step.user_failure_data.description:
        return step.user_failure_data.description
    return first_cause(step.error) if step.error else "a step failed without a reason"


def first_cause(error: SerializableErrorInfo) -> str:
    """The message of the root cause."""
    while error.cause is not None:
        error = error.cause
    return error.message.strip()


def failed_because_held(failed: StepFailureData) -> bool:
    """Whether a step failed because its month is held."""
    return failed.user_failure_data is not None and HELD in failed.user_failure_data.metadata


def is_dagsters_own(events: Iterable[dg.DagsterEvent]) -> bool:
    """Whether a run failed in Dagster and not in our code, e.g. because the database restarted while Dagster wrote.

    Errors that Dagster raises on purpose do not count, such as `dagster.Failure` and failed blocking checks.
    """
    return any(
        (event.is_step_failure and event.step_failure_data.error_source is ErrorSource.UNEXPECTED_ERROR)
        or (event.is_run_failure and event.job_failure_data.failure_reason is RunFailureReason.RUN_EXCEPTION)
        for event in events
    )

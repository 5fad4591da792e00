"""Spans of a run and of each of its steps, opened and closed by Dagster's events in the run's own log.

Steps run one after the other in the run's process. What does not belong here: what a span is (see `resources.traces`).
"""

from __future__ import annotations

import logging
from contextlib import ExitStack

from dagster import DagsterEvent, DagsterEventType

from resources import traces
from resources.logs import DAGSTER_META

BEGIN = {DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED}
FAILED = {DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY, DagsterEventType.RUN_FAILURE}
STEP_OVER = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY}
RUN_OVER = {DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED}


class RunSpans(logging.Handler):
    """The spans of one run: the current one is that of the step, or between steps that of the run."""

    def __init__(self) -> None:
        super().__init__()
        self._of_run, self._of_step = ExitStack(), ExitStack()
        self._assets: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, DAGSTER_META, {})
        event: DagsterEvent | None = meta.get("dagster_event")
        if event is None:
            return
        kind = event.event_type
        if kind is DagsterEventType.RUN_START:
            partition = (meta.get("job_tags") or {}).get("dagster/partition")
            named = {"run_id": meta["run_id"], "job": event.job_name} | ({"partition": partition} if partition else {})
            self._of_run.enter_context(traces.span(f"run {event.job_name}", **named))
        elif kind in BEGIN and event.step_key:
            self._assets = []
            self._of_step.enter_context(traces.span(event.step_key, step=event.step_key))
        elif kind is DagsterEventType.ASSET_MATERIALIZATION and event.asset_key:
            self._assets.append(event.asset_key.to_user_string())
            traces.describe(asset=", ".join(self._assets))
        if kind in RUN_OVER:
            self._of_step.close()
        if kind in FAILED:
            traces.fail()
        if kind in STEP_OVER:
            self._of_step.close()
        if kind in RUN_OVER:
            self._of_run.close()

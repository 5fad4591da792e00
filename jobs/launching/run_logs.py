"""The logger of runs: it writes a run's messages to its worker's output, in the format of `resources.serving.logs`.

Dagster reads a run's loggers from its run config. If the config names no logger, as in runs from the UI, a sensor or a
backfill, Dagster uses its coloured logger. `install` replaces the function that chooses that default.
"""

import logging
import sys
from contextlib import ExitStack

import dagster as dg
from dagster import DagsterEvent, DagsterEventType

from resources.dagster_compat import set_run_loggers
from resources.serving import logs, traces
from resources.settings import Settings

DEFAULTS = {"log_level": "INFO", "name": "run"}

STEP_STARTS = {DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED}
FAILURES = {DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY, DagsterEventType.RUN_FAILURE}
STEP_ENDS = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY}
RUN_ENDS = {DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED}


class RunSpans(logging.Handler):
    """Trace spans of one run: one for the run, and within it one for each step."""

    def __init__(self) -> None:
        super().__init__()
        self._of_run, self._of_step = ExitStack(), ExitStack()
        self._assets: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, logs.DAGSTER_META, {})
        event: DagsterEvent | None = meta.get("dagster_event")
        if event is None:
            return
        kind = event.event_type
        if kind is DagsterEventType.RUN_START:
            partition = (meta.get("job_tags") or {}).get("dagster/partition")
            attributes = {"run_id": meta["run_id"], "job": event.job_name} | (
                {"partition": partition} if partition else {}
            )
            self._of_run.enter_context(traces.span(f"run {event.job_name}", **attributes))
        elif kind in STEP_STARTS and event.step_key:
            self._assets = []
            self._of_step.enter_context(traces.span(event.step_key, step=event.step_key))
        elif kind is DagsterEventType.ASSET_MATERIALIZATION and event.asset_key:
            self._assets.append(event.asset_key.to_user_string())
            traces.describe(asset=", ".join(self._assets))
        if kind in RUN_ENDS:
            self._of_step.close()
        if kind in FAILURES:
            traces.fail()
        if kind in STEP_ENDS:
            self._of_step.close()
        if kind in RUN_ENDS:
            self._of_run.close()


def install(settings: Settings) -> dg.LoggerDefinition:
    """Set up logging in a process that may execute runs. Returns the logger of its runs."""
    logs.configure()

    @dg.logger(
        {
            "log_level": dg.Field(str, default_value=DEFAULTS["log_level"], description="lowest level that is logged"),
            "name": dg.Field(str, default_value=DEFAULTS["name"], description="value of `logger` in its lines"),
        },
        description="Writes to standard error: lines on a terminal, else JSON.",
    )
    def console(context: dg.InitLoggerContext) -> logging.Logger:
        """Replace Dagster's coloured logger, under the same name and with the same configuration."""
        levels = logging.getLevelNamesMapping()
        level = levels[context.logger_config["log_level"].upper()]
        logger = logging.Logger(context.logger_config["name"])
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logs.formatter())
        handler.setLevel(max(level, levels[logs.level()]))
        logger.addHandler(handler)
        if traces.start("run", settings):
            logger.addHandler(RunSpans())  # last: the log line of a failure needs the ids of the open span
        return logger

    set_run_loggers([(console, DEFAULTS)])
    return console

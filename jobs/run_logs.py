"""The logger of runs: a run's messages, in its worker's output too, in the format of `resources.logs`.

Dagster takes a run's loggers from its run config, and where that names none, as for whatever the UI, a sensor or
a backfill puts together, it makes its coloured one. `install` replaces
the function which chooses it, and a test sees both ways of a run.
"""

import logging
import sys

import dagster as dg

from jobs.run_spans import RunSpans
from resources import logs, traces
from resources.dagster_compat import coerce_valid_log_level, give_runs_these_loggers

DEFAULTS = {"log_level": "INFO", "name": "run"}


@dg.logger(
    {
        "log_level": dg.Field(str, default_value=DEFAULTS["log_level"], description="the least that is written"),
        "name": dg.Field(str, default_value=DEFAULTS["name"], description="the `logger` of its lines"),
    },
    description="To standard error: lines on a terminal, else JSON.",
)
def console(context: dg.InitLoggerContext) -> logging.Logger:
    """In the place of Dagster's coloured lines, under the same name and with the same configuration."""
    level = coerce_valid_log_level(context.logger_config["log_level"])
    logger = logging.Logger(context.logger_config["name"])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logs.formatter())
    handler.setLevel(logs.level())
    handler.setLevel(max(level, handler.level))
    logger.addHandler(handler)
    if traces.start("run"):
        logger.addHandler(RunSpans())  # last, so that the line of a failure has the ids of what failed
    return logger


def install() -> None:
    """Set up the logs of a process that may execute runs."""
    logs.configure()
    give_runs_these_loggers([(console, DEFAULTS)])

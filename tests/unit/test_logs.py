"""Log lines: fields, levels, formats, and removal of secrets."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import dagster as dg
import pytest

from jobs.launching import run_logs
from resources.dagster_compat import reconfigure_logs
from resources.serving import logs
from resources.settings import get_settings
from tests.helpers.dagster_private import api, controller

SECRETS = {
    "DATABASE_URL": "postgresql://irt:dbpassword@db/bank",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/xyz",
    "R_IRT_INTERNAL_TOKEN": "token-of-the-service",
}


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Remove handlers during the test and restore them afterwards; read secrets again."""
    loggers = [logging.getLogger(name) for name in ("", "dagster")]
    before = [(logger, logger.handlers, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers = []
    logs._secrets.cache_clear()
    yield
    for logger, handlers, level in before:
        logger.handlers, logger.level = handlers, level


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_log_line_is_json_with_time_level_logger_and_message_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.configure()  # a second time changes nothing
    logging.getLogger("irt_assets.calibration").info("Loaded %d observations", 7, extra={"scale_id": "math"})
    logging.getLogger("botocore").info("not ours, and no news")
    (line,) = lines(capsys.readouterr().err)
    when = datetime.fromisoformat(line.pop("timestamp"))
    assert when.tzinfo == UTC
    assert line == {
        "level": "INFO",
        "logger": "irt_assets.calibration",
        "message": "Loaded 7 observations",
        "scale_id": "math",
    }


def test_log_lines_of_dagster_are_written_once_in_our_format(capsys: pytest.CaptureFixture[str]) -> None:
    """Dagster's loggers have a handler before our code is loaded."""
    logging.getLogger("dagster").addHandler(logging.StreamHandler())
    logs.configure()
    logging.getLogger("dagster.daemon.SensorDaemon").warning("a sensor failed")
    (line,) = lines(capsys.readouterr().err)
    assert (line["logger"], line["message"]) == ("dagster.daemon.SensorDaemon", "a sensor failed")


def test_exception_is_a_field_of_its_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    try:
        raise ValueError("2 is\nno score")
    except ValueError:
        logging.getLogger("irt").exception("it failed")
    (line,) = lines(capsys.readouterr().err)
    assert line["message"] == "it failed"
    assert line["exception"].endswith("ValueError: 2 is\nno score")


def test_secrets_are_removed_from_log_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    logs.configure()
    message = " and ".join(SECRETS.values())
    try:
        raise ValueError(message)
    except ValueError:
        logging.getLogger("irt").exception("said %s", message, extra={"url": message, "other": {"deep": message}})
    text = capsys.readouterr().err
    assert len(lines(text)) == 1
    for secret in ("dbpassword", "hooks.slack.com/services/T0", "token-of-the-service"):
        assert secret not in text


def test_log_lines_on_a_terminal_are_plain_text() -> None:
    with redirect_stderr(Terminal()) as terminal:
        logs.configure()
        logging.getLogger("irt.stack").warning("the daemon ended")
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING the daemon ended\n", terminal.getvalue())


def test_log_level_is_the_lowest_level_that_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "error")
    get_settings.cache_clear()
    logs.configure()
    for name in ("irt_assets.calibration", "dagster"):
        logging.getLogger(name).warning("low disk")
        logging.getLogger(name).error("no disk")
    assert [line["message"] for line in lines(capsys.readouterr().err)] == ["no disk", "no disk"]


@pytest.mark.parametrize(("expected", "begins"), [("json", "{"), ("text", "")])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_setting_of_the_log_format_has_precedence_over_the_kind_of_standard_error(
    expected: str, begins: str, stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_FORMAT", expected)
    get_settings.cache_clear()
    with redirect_stderr(stream()) as written:
        logs.configure()
        logging.getLogger("irt").warning("the daemon ended")
    assert written.getvalue().startswith(begins)
    assert written.getvalue().endswith("WARNING the daemon ended\n") == (expected == "text")


def test_only_errors_are_logged_and_as_text_while_prose_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    with logs.print_for_people():
        logging.getLogger("irt_assets.calibration").info("loaded")
        logging.getLogger("matplotlib.font_manager").warning("findfont: no such font")
        warnings.warn("a glyph is missing", UserWarning, stacklevel=1)
        logging.getLogger("irt").error("the store is gone")
    assert capsys.readouterr().err.endswith("ERROR the store is gone\n")
    logging.getLogger("irt").info("loaded")
    (line,) = lines(capsys.readouterr().err)
    assert line["message"] == "loaded"


@pytest.mark.parametrize("run_config", [None, {"loggers": {"console": {}}}])
def test_messages_of_a_run_are_logged_once_with_run_and_partition(
    run_config: dict[str, Any] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Messages of our modules in a run are in Dagster's run log, and once in the worker's output."""
    console = run_logs.install(get_settings())

    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["2026-09"]))
    def month(context) -> None:  # Dagster reads annotations, which this module postpones
        logging.getLogger("irt_assets.calibration").info("Loaded 7 observations from attempt VIEW")
        context.log.warning("and this")

    @dg.asset(deps=[month], partitions_def=month.partitions_def)
    def broken() -> None:
        raise ValueError("no such thing")

    @dg.asset(deps=[month], partitions_def=month.partitions_def)
    def held() -> None:
        raise dg.Failure("the month is held", allow_retries=False)

    with dg.instance_for_test(
        overrides={"python_logs": {"managed_python_loggers": ["irt_assets"], "python_log_level": "INFO"}}
    ) as instance:
        job = dg.Definitions(
            assets=[month, broken, held],
            jobs=[dg.define_asset_job("nightly", selection="*")],
            loggers={"console": console},
            executor=dg.in_process_executor,
        ).resolve_job_def("nightly")
        result = job.execute_in_process(
            partition_key="2026-09", instance=instance, run_config=run_config, raise_on_error=False
        )
        stored = [entry.user_message for entry in instance.all_logs(result.run_id)]
    printed = lines(capsys.readouterr().err)
    for message in ("Loaded 7 observations from attempt VIEW", "and this"):
        assert stored.count(message) == 1
        (line,) = [line for line in printed if line["message"] == message]
        assert (line["run_id"], line["job"], line["partition"]) == (result.run_id, "nightly", "2026-09")
        assert line["step"] == "month"
    failed = {line["step"]: line["exception"] for line in printed if line.get("event") == "STEP_FAILURE"}
    assert "ValueError: no such thing" in failed["broken"]
    assert "Stack Trace" in failed["broken"]
    assert failed["held"].endswith("Failure: the month is held"), "a message for people needs no trace"
    assert {"timestamp", "level", "logger", "message"} <= set.intersection(*(set(line) for line in printed))


@pytest.mark.parametrize("server", [api, controller])
def test_servers_of_dagster_write_each_log_line_once(server: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only our handler writes, with the level that was set for Dagster's servers."""
    dagster = logging.getLogger("dagster")
    for module in (api, controller):
        monkeypatch.setattr(module, "configure_loggers", module.configure_loggers)
    dagster.setLevel(logging.NOTSET)
    reconfigure_logs(logs.configure)
    server.configure_loggers(handler="default", formatter="json", log_level="INFO")
    assert (dagster.handlers, dagster.level) == ([], logging.INFO)

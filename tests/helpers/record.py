"""Records durations and failures of a test run in `build`, as they happen.

A pytest plugin, which `tests/conftest.py` names. `durations.tsv` has a line for each phase of each test, with its wall
seconds and the processor seconds of all processes that the test's process started. `failed.tsv` has a line for each
failure, written before pytest builds the report, so that it is recorded even if this kills the process.
`python -m tests.helpers.record` prints the sums by folder and file, and the tests that were left out.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

DURATIONS, FAILED, LEFT_OUT = (Path("build", f"{name}.tsv") for name in ("durations", "failed", "left-out"))
"""Paths below the root of the tests."""
GROUPS = Path("/sys/fs/cgroup/cpuacct")
LONGEST = 25


class ProcessorTime:
    """Processor seconds of this process and its descendants, including detached processes.

    The kernel counts them in a control group, which needs root. Otherwise only ended children count.
    """

    def __init__(self) -> None:
        self.group: Path | None = GROUPS / "irt-tests" / str(os.getpid())
        try:
            self.group.mkdir(parents=True)
            (self.group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            self.group = None

    def __call__(self) -> float:
        if self.group is None:
            return sum(os.times()[:4])
        return int((self.group / "cpuacct.usage").read_text()) / 1e9

    def end(self) -> None:
        """Leave the control group, and remove it unless it still contains processes."""
        if self.group is not None:
            with suppress(OSError):
                (GROUPS / "cgroup.procs").write_text(str(os.getpid()))
                self.group.rmdir()


class Recorder:
    """Recorder of a process, which runs tests, collects the reports, or both."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.root = config.rootpath
        self.worker = hasattr(config, "workerinput")
        self.time = ProcessorTime()
        self.mark = 0.0

    def pytest_collection_finish(self) -> None:
        if self.worker:
            self.config.workeroutput["collecting"] = self.time()  # type: ignore[attr-defined]

    def pytest_unconfigure(self) -> None:
        self.time.end()

    def pytest_testnodedown(self, node: Any) -> None:
        spent = getattr(node, "workeroutput", {}).get("collecting", 0.0)
        append(self.root / DURATIONS, node.gateway.id, "(collecting)", "", "collect", "0", f"{spent:.3f}", "")

    def pytest_runtest_logstart(self) -> None:
        self.mark = self.time()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        now = self.time()
        if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
            append(self.root / FAILED, item.nodeid, call.when, call.excinfo.typename, _one_line(call.excinfo.value))
        try:
            report = yield
        except Exception as error:  # noqa: BLE001 - an error in pytest itself, which would end the worker without naming the test
            report = _plain_report(item, call, error)
        report.processor_s = now - self.mark
        self.mark = now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.worker:
            return
        file, _, test = report.nodeid.partition("::")
        worker = getattr(report, "worker_id", "")
        spent = getattr(report, "processor_s", 0.0)
        append(
            self.root / DURATIONS,
            worker,
            file,
            test,
            report.when,
            f"{report.duration:.3f}",
            f"{spent:.3f}",
            report.outcome,
        )
        if report.failed:
            report_lines = report.longreprtext.splitlines()
            reporter = self.config.pluginmanager.get_plugin("terminalreporter")
            if reporter is not None:
                reporter.write_line(
                    f"\nFAILED {report.nodeid} ({report.when}): {report_lines[-1] if report_lines else ''}", red=True
                )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder(config), "irt-record")


def _plain_report(item: pytest.Item, call: pytest.CallInfo[None], error: Exception) -> pytest.TestReport:
    """Report without a traceback. Python before 3.11.5 may fail to format it (`SystemError: AST constructor …`)."""
    failure = call.excinfo
    message = f"{failure.typename}: {failure.value}" if failure is not None else ""
    return pytest.TestReport(
        item.nodeid,
        item.location,
        dict.fromkeys(item.keywords, 1),
        "failed" if failure is not None else "passed",
        f"{message}\n(its traceback cannot be shown: {error!r})" if failure is not None else None,
        call.when,
        duration=call.duration,
        start=call.start,
        stop=call.stop,
    )


def _one_line(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())[:500]
    except Exception:  # noqa: BLE001 - the text is optional
        return ""


def append(file: Path, *columns: str) -> None:
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as lines:
        lines.write("\t".join(column.replace("\t", " ") for column in columns) + "\n")


# -- summary at the end ------------------------------------------------------------------------------


def summary() -> str:
    """Table of processor and wall seconds by folder and of the longest files, and the tests that were left out."""
    folders: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    files: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for line in DURATIONS.read_text().splitlines():
        _, file, _, phase, clock, processor, _ = line.split("\t")
        folder = "/".join(file.split("/")[:2])
        for sums in (folders[folder], files[file]):
            sums[0] += float(processor)
            sums[1] += float(clock)
            sums[2] += phase == "call"
    lines = [*_table("folder", folders), "", *_table(f"the {LONGEST} longest files", files, LONGEST)]
    if LEFT_OUT.exists():
        left_out = sorted(set(LEFT_OUT.read_text().splitlines()))
        lines += ["", f"left out, as none of the files changed that they test: {len(left_out)} tests", *left_out]
    if FAILED.exists():
        lines += ["", "failed:", *sorted(set(FAILED.read_text().splitlines()))]
    return "\n".join(lines)


def _table(title: str, sums: dict[str, list[float]], longest: int | None = None) -> list[str]:
    rows = sorted(sums.items(), key=lambda each: -each[1][0])[:longest]
    total = [sum(column) for column in zip(*sums.values(), strict=True)]
    head = f"{title:<60} {'CPU s':>8} {'clock s':>8} {'tests':>6}"
    return [
        head,
        *(f"{name:<60} {cpu:8.0f} {clock:8.0f} {tests:6.0f}" for name, (cpu, clock, tests) in [*rows, ("all", total)]),
    ]


if __name__ == "__main__":
    sys.stdout.write(summary() + "\n")

"""The platform of the walks: a running stack with a faulty month, and the sinks that receive its messages."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import month_states
from irt_assets.runs.in_process_runs import run_month
from tests.integration.sinks import HttpSink, SmtpSink
from tests.testbed.stack_harness import Harness

T = TypeVar("T")
Picture = Callable[..., None]
"""`picture(page, name)` saves a picture if the environment variable IRT_SCREENSHOTS names a folder."""
PAGE_MS = 30_000
"""Maximum wait for an expected element of a page, in ms, on an idle machine."""


@dataclass(frozen=True)
class Platform:
    """A running stack and the sinks of its messages. No month has been calibrated yet.

    Two months have no answers. Three months follow. In the second, half the correct answers to some anchors were
    recorded as wrong; in the third, some items have become easy.
    """

    stack: Harness
    web: HttpSink
    mail: SmtpSink
    empty: list[str]
    months: list[str]

    @property
    def address(self) -> str:
        return self.stack.stack.address

    @property
    def bad_month(self) -> str:
        return self.months[1]

    def make(self, *months: str) -> None:
        """Calibrate these months unless an earlier file has done so. A file that runs alone needs this."""
        for month in months:
            if self.states()[self.months.index(month)] is State.MISSING:
                self.run_in_thread(run_month, month)

    def run_in_thread(self, run: Callable[..., T], *arguments: str) -> T:
        """Run a function of `runs.in_process_runs` in another thread, as Playwright's event loop blocks this thread."""
        with ThreadPoolExecutor(1) as other:
            return other.submit(run, self.stack.instance, self.stack.settings, *arguments).result()

    def states(self) -> list[State]:
        return [of_scale.state for of_scale in month_states(self.stack.database, self.stack.instance, self.months)]

"""The platform that the walks are about.

What belongs here: a running stack with an ill month, and where its messages arrive. What does not: what a page shows.
"""

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
"""`picture(page, name)` takes one where the environment says where pictures go."""
PAGE_MS = 30_000
"""Longest wait of a page for what it should show, on an idle machine."""


@dataclass(frozen=True)
class Platform:
    """A running stack, and where its messages arrive. No month is made yet.

    Two months have no answers. Of the three after them, the second has anchors of which half the correct answers were
    recorded as wrong, and in the third some items have become easy.
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
    def bad(self) -> str:
        return self.months[1]

    def make(self, *months: str) -> None:
        """Make those of the months that no file before has made, as where a file is run alone."""
        for month in months:
            if self.states()[self.months.index(month)] is State.MISSING:
                self.beside_the_browser(run_month, month)

    def beside_the_browser(self, run: Callable[..., T], *arguments: str) -> T:
        """What a run of `runs.in_process_runs` returns. Playwright's event loop runs in the tests' own thread."""
        with ThreadPoolExecutor(1) as other:
            return other.submit(run, self.stack.instance, self.stack.settings, *arguments).result()

    def states(self) -> list[State]:
        return [of_scale.state for of_scale in month_states(self.stack.database, self.stack.instance, self.months)]

"""Processes that render reports. Each keeps a core busy.

They are spawned, because sockets of the database do not survive a fork. They ignore interrupts, and they end when
their parent process ends, even if it is killed.
"""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread

from irt_assets.blocks import html, pdf
from irt_assets.reports import learner_page
from resources.failures import PermanentFailure


@dataclass(frozen=True)
class Pages:
    """A report's HTML and its PDF, and the reason if one is missing."""

    html: bytes | None
    pdf: bytes | None
    problem: str = ""


@contextmanager
def closing(pool: Executor) -> Iterator[Executor]:
    """Yield the pool. On exit, also after an error, running tasks finish and waiting tasks are cancelled."""
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def processes(n: int) -> ProcessPoolExecutor:
    """Return a pool of `n` processes that run `render_report`."""
    return ProcessPoolExecutor(n, mp_context=get_context("spawn"), initializer=_begin)


def render_report(facts: learner_page.Facts) -> Pages:
    """Render the report. Errors become `problem`, so that one learner's failure does not affect the others."""
    try:
        document = learner_page.document(facts)
        page = html.page(document).encode()
    except Exception as error:  # noqa: BLE001 - the reason is reported with the learner's name
        return Pages(None, None, f"{type(error).__name__}: {error}")
    try:
        return Pages(page, pdf.typeset(document))
    except PermanentFailure as error:
        return Pages(page, None, str(error))


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)

"""Processes that make pages: each keeps a core busy, so as many work as there are cores.

They are started afresh (the database's sockets do not survive a fork), end with the process that started them
however it dies, and leave an interrupt to it. What does not belong here: what is done with a page.
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
    """A report's HTML and its PDF, and why one of them is lacking."""

    html: bytes | None
    pdf: bytes | None
    problem: str = ""


@contextmanager
def closing(pool: Executor) -> Iterator[Executor]:
    """The pool; on leaving, even by an error, tasks under way are finished and all others dropped."""
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def processes(n: int) -> ProcessPoolExecutor:
    """A pool of `n`, for `attempt`."""
    return ProcessPoolExecutor(n, mp_context=get_context("spawn"), initializer=_begin)


def attempt(facts: learner_page.Facts) -> Pages:
    """The report, or why there is none, so that one learner's failure does not affect the others."""
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

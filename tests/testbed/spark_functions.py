"""Functions that tests pass to mapInArrow. Executors import them from here, as tests are not a package."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_psychometrics import PsychometricsError
from resources.failures import PermanentFailure

NAME_LENGTH = len(PsychometricsError.__name__)
TOO_MUCH = 2**55
"""Number of bytes larger than any address space."""


def with_our_code(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Add the length of a name in our package to the numbers, so that executors must import the package."""
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"id": pc.add(batch["id"], NAME_LENGTH)})


def slowly(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        time.sleep(0.5)
        yield batch


def sleeps(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        time.sleep(60)
        yield batch


def wants_an_array(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    np.zeros(TOO_MUCH)
    yield from batches


def wants_a_buffer(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    pa.allocate_buffer(TOO_MUCH)
    yield from batches


def refuses(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    raise PermanentFailure("item 7 has no key: import it")
    yield from batches


def is_killed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield from batches

"""Compiled inner loops, each over consecutive persons, and the function that runs them on several threads.

Kernels release the GIL and are called from a thread pool: numba's own parallel layers abort the process when two
Python threads use them at once, and do not survive a fork. Every chunk fills its own accumulators, which are added in
the order of the chunks. The chunks depend on the data only, so results are the same bit for bit for any number of
threads (see `estimation.reductions`). This module contains no models, convergence criteria or item ids.

Loops over a window of nodes run over slices: numba assumes that an index that starts above 0 may be negative, and does
not vectorise the loop.

Layout of persons: sorted by the *set* of items they saw, one set per group of persons. `set_of[i]` is the set of
person i, `set_group[s]` the group of set s, `set_items[set_start[s]:set_start[s + 1]]` its items,
`right_items[right_start[i]:right_start[i + 1]]` the items that person i answered correctly, and `weight[i]` the number
of persons that i represents. The log-likelihood of a pattern is then
log P(pattern i | θ) = Σ log(P_j / (1 − P_j)) + Σ log(1 − P_j). The first sum is over the correct items, and the second,
which the whole set shares, over the seen items. Without guessing the log-odds are a_j·θ + d_j, so the first sum is one
slope and one intercept per person. With guessing it is a curve, and items that most persons answer correctly may be
*flipped*: right and wrong, P and 1 − P are swapped, and their score V becomes −V.

If all slopes are equal and fixed, persons of a set with the same sum of scores may share a row. The row then has the
right answers of one of the persons, which determine the posterior. `tally[tally_start[i]:tally_start[i + 1]]` are the
weights of the persons in row i who answered the items in `tally_items` correctly. Otherwise these arrays are empty.
"""

import itertools
import os
import pkgutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np

NEGLIGIBLE = -38.0
"""Weights below exp(−38) of the largest are clamped to it: the difference is below double precision."""
EXP_OF_MINUS_THREE_TENTHS = 0.74081822068171786607
BLOCK = 32
"""Number of persons whose distributions are computed together, small enough for the first-level cache."""
NO_SET = np.int64(-1)
"""A set that no person has."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class _Kernel:
    """A function that numba compiles, or loads from the cache, at its first call from Python or from another kernel.

    Until then numba is not imported: the import takes half a second, and most commands compute nothing.
    """

    function: Callable[..., Any]
    options: dict[str, Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)

    @property
    def _numba_type_(self) -> Any:
        """The numba type of this function for kernels that call it."""
        return self.dispatcher._numba_type_

    def __reduce__(self) -> tuple[Any, ...]:
        return pkgutil.resolve_name, (f"{self.function.__module__}:{self.function.__qualname__}",)

    @cached_property
    def dispatcher(self) -> Any:
        from irt_psychometrics.core.kernel_cache import compile_kernel  # loads numba

        return compile_kernel(self.function, self.options)


def _kernel(
    function: Callable[..., Any],
    relaxed: Sequence[str] = ("contract", "reassoc", "nsz"),
    *,
    forceinline: bool = False,
    in_place: bool = False,
) -> _Kernel:
    """Declare a kernel without wrappers that nobody calls: without one for C, and, if it is inlined, without one for
    Python."""
    options = {
        "_nrt": not in_place,
        "nogil": True,
        "error_model": "numpy",
        "fastmath": set(relaxed),
        "forceinline": forceinline,
        "no_cfunc_wrapper": True,
        "no_cpython_wrapper": forceinline,
    }
    return _Kernel(function, options)


def _inlined_kernel(function: Callable[..., Any]) -> _Kernel:
    """Declare a kernel that is inlined into its callers.

    A separate function would be compiled once for each caller. A process that has just compiled a kernel would use a
    different copy, with different last digits, than a process that loads the kernel.
    """
    return _kernel(function, forceinline=True)


def _in_place_kernel(function: Callable[..., Any]) -> _Kernel:
    """Declare a kernel that neither creates nor returns arrays.

    Such a kernel counts no references to arrays, and compiles in about half the time.
    """
    return _kernel(function, in_place=True)


def _inlined_in_place_kernel(function: Callable[..., Any]) -> _Kernel:
    """Declare a kernel that is inlined into its callers, and neither creates nor returns arrays."""
    return _kernel(function, forceinline=True, in_place=True)


def available_threads() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Run:
    """Applies functions on the threads of a pool; results come in the order of the arguments."""

    pool: ThreadPoolExecutor
    threads: int

    def __call__(self, function: Callable[[int, int], R], chunks: Sequence[tuple[int, int]]) -> list[R]:
        """[function(first, last) for each chunk]."""
        return list(self.in_order(lambda chunk: function(*chunk), chunks, len(chunks)))

    def in_order(self, function: Callable[[T], R], arguments: Sequence[T], at_once: int) -> Iterator[R]:
        """Yield function(argument) for each argument, with at most `at_once` calls started and not yet yielded."""
        if self.threads == 1 or len(arguments) == 1:
            yield from map(function, arguments)
            return
        started: deque[Future[R]] = deque()
        for argument in arguments:
            if len(started) == at_once:
                yield started.popleft().result()
            started.append(self.pool.submit(function, argument))
        while started:
            yield started.popleft().result()


@contextmanager
def runner(threads: int | None) -> Iterator[Run]:
    """A `Run` on `threads` threads, or on all processors if it is None. Raises ValueError if `threads` is below 1."""
    count = threads if threads is not None else available_threads()
    if count < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    with ThreadPoolExecutor(count) as pool:
        yield Run(pool, count)


def cut(cost: np.ndarray, pieces: int) -> list[tuple[int, int]]:
    """Cut persons into at most `pieces` consecutive ranges of about equal cost (shape (N,), any unit)."""
    total = np.cumsum(cost)
    marks = np.searchsorted(total, total[-1] * np.arange(1, pieces) / pieces, side="left") + 1
    edges = np.unique(np.concatenate(([0], marks, [len(cost)])))
    return [(int(first), int(last)) for first, last in itertools.pairwise(edges)]


class People(NamedTuple):
    """N persons in S sets, in the layout that the module's docstring describes."""

    set_of: np.ndarray
    set_group: np.ndarray
    set_start: np.ndarray
    set_items: np.ndarray
    right_start: np.ndarray
    right_items: np.ndarray
    weight: np.ndarray
    tally_start: np.ndarray
    tally_items: np.ndarray
    tally: np.ndarray


def cost(people: People) -> np.ndarray:
    """Work per person in units of one response, shape (N,), including the posterior and a change of set."""
    new_set = np.diff(people.set_of, prepend=-1) != 0
    return 30 + np.diff(people.right_start) + new_set * np.diff(people.set_start)[people.set_of] * 8


class Curves(NamedTuple):
    """J items on Q nodes: slope (J,), log P(wrong) (J, Q), and log-odds (J, Q), or (0, Q) without guessing."""

    slope: np.ndarray
    log_wrong: np.ndarray
    log_odds: np.ndarray


@_in_place_kernel
def logistic_table(a, d, nodes, log_wrong, p):  # type: ignore[no-untyped-def]
    """log_wrong[j, q] = −log(1 + exp(a_j·θ_q + d_j)) and the probability p[j, q]; both (J, Q)."""
    for j in range(a.size):
        for q in range(nodes.size):
            eta = a[j] * nodes[q] + d[j]
            e = np.exp(-abs(eta))
            log_wrong[j, q] = -max(eta, 0.0) - np.log1p(e)
            p[j, q] = (1.0 if eta >= 0 else e) / (1.0 + e)


@_inlined_in_place_kernel
def _take(table, items, first, last, into):  # type: ignore[no-untyped-def]
    """Add the rows items[first:last] of a table to `into` (Q,), four at a time: each visit to `into` costs a store."""
    r = first
    while r + 4 <= last:
        j, k, m, n = items[r], items[r + 1], items[r + 2], items[r + 3]
        for q in range(into.size):
            into[q] += (table[j, q] + table[k, q]) + (table[m, q] + table[n, q])
        r += 4
    while r < last:
        j = items[r]
        for q in range(into.size):
            into[q] += table[j, q]
        r += 1


@_inlined_in_place_kernel
def _scatter(row, items, first, last, table):  # type: ignore[no-untyped-def]
    """Add `row` (Q,) to the rows items[first:last] of a table."""
    for r in range(first, last):
        j = items[r]
        for q in range(row.size):
            table[j, q] += row[q]


@_inlined_in_place_kernel
def exp_of_part(x):  # type: ignore[no-untyped-def]
    """e^x for x in [−0.6, 0]: a Taylor polynomial around −0.3 without branches, so that eight run at once."""
    y = x + 0.3
    e = 1 + y * (1 / 12)
    e = 1 + y * (1 / 11) * e
    e = 1 + y * (1 / 10) * e
    e = 1 + y * (1 / 9) * e
    e = 1 + y * (1 / 8) * e
    e = 1 + y * (1 / 7) * e
    e = 1 + y * (1 / 6) * e
    e = 1 + y * (1 / 5) * e
    e = 1 + y * (1 / 4) * e
    e = 1 + y * (1 / 3) * e
    e = 1 + y * (1 / 2) * e
    return (1 + y * e) * EXP_OF_MINUS_THREE_TENTHS


@_inlined_in_place_kernel
def _normalise(post):  # type: ignore[no-untyped-def]
    """Turn log weights (Q,) into a distribution; returns log Σ exp.

    exp(x) is computed as (e^(x/64))^64 with x/64 in [−0.6, 0], to an error of 2e-14.
    """
    top = post[0]
    for q in range(post.size):
        top = max(top, post[q])
    total = 0.0
    for q in range(post.size):
        e = exp_of_part(max(post[q] - top, NEGLIGIBLE) * (1 / 64))
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        post[q] = e
        total += e
    for q in range(post.size):
        post[q] /= total
    return top + np.log(total)


@_inlined_in_place_kernel
def _posteriors(first, last, people, curves, nodes, log_weights, current, base, post):  # type: ignore[no-untyped-def]
    """Fill post (at least last − first, Q) with the distribution of θ of persons first … last − 1.

    `base` (Q,) holds the sum that persons of set `current` share, and afterwards the sum of the last person's set.
    Returns the weighted Σ log P(pattern) and the last person's set. Without guessing, the sum lacks the term
    Σ d_j · (number correct).
    """
    loglik = 0.0
    for i in range(first, last):
        s = people.set_of[i]
        if s != current:
            for q in range(base.size):
                base[q] = log_weights[people.set_group[s], q]
            _take(curves.log_wrong, people.set_items, people.set_start[s], people.set_start[s + 1], base)
            current = s
        row = post[i - first]
        begin, end = people.right_start[i], people.right_start[i + 1]
        slope = 0.0
        if curves.log_odds.shape[0] == 0:
            for r in range(begin, end):
                slope += curves.slope[people.right_items[r]]
        for q in range(row.size):
            row[q] = base[q] + slope * nodes[q]
        if curves.log_odds.shape[0] > 0:
            _take(curves.log_odds, people.right_items, begin, end, row)
        loglik += people.weight[i] * _normalise(row)
    return loglik, current


@_kernel
def expected_counts(first, last, people, curves, nodes, log_weights, seen, right, mass):  # type: ignore[no-untyped-def]
    """E-step over persons first … last − 1. Adds to

    seen (J, Q): expected number of persons at node q who saw item j,
    right (J, Q): expected number of persons at node q who answered item j correctly; without guessing (J, 1), because
        the sum of their posterior means of θ is then sufficient,
    mass (G, Q): expected number of persons of each group at node q.

    Returns Σ log P(pattern). Without guessing, the sum lacks the term Σ d_j · (number correct).
    """
    Q = nodes.size
    base, in_set, post = np.empty(Q), np.zeros(Q), np.empty((BLOCK, Q))
    loglik, current = 0.0, NO_SET
    for block in range(first, last, BLOCK):
        stop = min(block + BLOCK, last)
        value, current = _posteriors(block, stop, people, curves, nodes, log_weights, current, base, post)
        loglik += value
        for i in range(block, stop):
            row = post[i - block]
            mean = 0.0
            for q in range(Q):
                row[q] *= people.weight[i]
                in_set[q] += row[q]
                mean += row[q] * nodes[q]
            begin, end = people.right_start[i], people.right_start[i + 1]
            if curves.log_odds.shape[0] > 0:
                _scatter(row, people.right_items, begin, end, right)
            elif people.tally.size > 0:
                mean /= people.weight[i]
                for r in range(people.tally_start[i], people.tally_start[i + 1]):
                    right[people.tally_items[r], 0] += mean * people.tally[r]
            else:
                for r in range(begin, end):
                    right[people.right_items[r], 0] += mean
            s = people.set_of[i]
            if i + 1 == last or people.set_of[i + 1] != s:
                _scatter(in_set, people.set_items, people.set_start[s], people.set_start[s + 1], seen)
                for q in range(Q):
                    mass[people.set_group[s], q] += in_set[q]
                    in_set[q] = 0.0
    return loglik


@_inlined_in_place_kernel
def _mean_and_sd(post, nodes):  # type: ignore[no-untyped-def]
    """Mean and SD of a posterior on the nodes, and the logarithm of its sum over the nodes.

    `post` is the logarithm of the posterior up to a constant. It is overwritten.
    """
    top = -np.inf
    for q in range(nodes.size):
        top = max(top, post[q])
    total = 0.0
    mean = 0.0
    for q in range(nodes.size):
        post[q] = np.exp(post[q] - top)
        total += post[q]
        mean += post[q] * nodes[q]
    mean /= total
    variance = 0.0
    for q in range(nodes.size):
        variance += post[q] * (nodes[q] - mean) ** 2
    return mean, np.sqrt(variance / total), top + np.log(total)


@_kernel
def posterior_moments(first, last, persons, answers, table, nodes, log_weights, reach, into):  # type: ignore[no-untyped-def]
    """Write EAP, posterior SD and log-likelihood of persons[first … last − 1] into `into` = (theta, se, loglik).

    answers: (start, row). Person i gave the answers start[i] … start[i + 1] − 1; row is each answer's row in `table`.
    table: log P of answers on the equally spaced nodes.
    reach: only nodes at most this many nodes from the node nearest to theta (before the call) are used.
    """
    start, row = answers
    theta, se, loglik = into
    for k in range(first, last):
        i = persons[k]
        nearest = round((theta[i] - nodes[0]) / (nodes[1] - nodes[0]))
        low, high = max(0, nearest - reach), min(nodes.size, nearest + reach + 1)
        post = log_weights[low:high].copy()
        for r in range(start[i], start[i + 1]):
            logs = table[row[r], low:high]
            for q in range(logs.size):
                post[q] += logs[q]
        theta[i], se[i], loglik[i] = _mean_and_sd(post, nodes[low:high])

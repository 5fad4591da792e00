"""Sums over persons: the division of persons into parts, and the order in which the parts are added.

Persons are divided into *shards* by the data alone: by a hash of each learner's id, or by their number if there are no
ids. Consecutive shards form at most 64 bundles. The shards of a bundle are added one after the other to the same
accumulators, and the bundles' sums are added in order. So a sum is the same bit for bit, for any number of threads and
on other machines that hold the shards.

A `PersonSum` defines a sum and can be pickled. A `SumOverPersons` computes it.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Ints

Array = npt.NDArray[Any]
Sums = tuple[Array, ...]
Piece = tuple[kernels.People, int, int]
"""A shard and a range of its persons: first … last − 1."""

RESPONSES_PER_SHARD, MAX_SHARDS = 100_000, 16
MAX_RESPONSES_PER_SHARD = 20_000_000
"""There is one shard per RESPONSES_PER_SHARD responses, up to MAX_SHARDS shards. There are more shards only if a shard
would otherwise have more than MAX_RESPONSES_PER_SHARD responses."""
MAX_BUNDLES = 64
_COST_PER_PIECE = 100_000
_IN_FLIGHT_BYTES = 256 * 2**20


class PersonSum(Protocol):
    """Sums that start at zero and to which ranges of persons are added."""

    def zeros(self) -> Sums:
        """Return arrays of zeros for the sums."""

    def add(self, first: int, last: int, people: kernels.People, into: Sums) -> None:
        """Add the persons `first` to `last` − 1 of a shard to `into`."""


class SumOverPersons(Protocol):
    """Computes a sum over all persons of a data set. The caller may change the returned arrays."""

    def __call__(self, summand: PersonSum) -> Sums:
        """Return the sums over all persons."""


@dataclass(frozen=True)
class KernelSum:
    """A `PersonSum` that a kernel computes from `tables` into arrays of these `shapes`."""

    kernel: Callable[..., Any]
    tables: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]

    def zeros(self) -> Sums:
        return tuple(np.zeros(shape) for shape in self.shapes)

    def add(self, first: int, last: int, people: kernels.People, into: Sums) -> None:
        self.kernel(first, last, people, *self.tables, *into)


def number_of_shards(n_responses: int) -> int:
    """Number of shards for a request with this many responses."""
    return max(min(MAX_SHARDS, 1 + n_responses // RESPONSES_PER_SHARD), -(-n_responses // MAX_RESPONSES_PER_SHARD))


def shard_of(key: npt.NDArray[np.uint32] | None, n_persons: int, shards: int) -> Ints:
    """Shard of each person, shape (n_persons,), by `key`, or by the order of persons if `key` is None."""
    if key is None:
        return np.arange(n_persons) * shards // max(n_persons, 1)
    return (key % np.uint32(shards)).astype(np.int64)


def bundles(shards: int) -> list[range]:
    """Divide the shards into bundles of consecutive shards."""
    edges = [k * shards // min(shards, MAX_BUNDLES) for k in range(min(shards, MAX_BUNDLES) + 1)]
    return [range(first, last) for first, last in itertools.pairwise(edges)]


def pieces(shards: Sequence[kernels.People]) -> list[list[Piece]]:
    """Bundles of pieces in order; each bundle has its own accumulators. A single shard is cut for several threads."""
    if len(shards) == 1:
        cost = kernels.cost(shards[0])
        cut = kernels.cut(cost, min(MAX_SHARDS, 1 + int(cost.sum()) // _COST_PER_PIECE))
        return [[(shards[0], first, last)] for first, last in cut]
    return [[(shards[k], 0, len(shards[k].set_of)) for k in bundle] for bundle in bundles(len(shards))]


def sum_bundle(summand: PersonSum, bundle: Iterable[Piece]) -> Sums:
    """Compute the sums over one bundle."""
    into = summand.zeros()
    for people, first, last in bundle:
        summand.add(first, last, people, into)
    return into


def add_parts(parts: Iterable[Sums]) -> Sums:
    """Add the parts in order. At most two parts need to be in memory at once."""
    rest = iter(parts)
    total = next(rest)
    for part in rest:
        for into, one in zip(total, part, strict=True):
            into += one
    return total


@dataclass(frozen=True)
class ThreadSums:
    """A `SumOverPersons` of shards in memory, computed by the threads of `run`."""

    run: kernels.Run
    pieces: Sequence[Sequence[Piece]]

    def __call__(self, summand: PersonSum) -> Sums:
        size = sum(array.nbytes for array in summand.zeros())
        at_once = max(2, _IN_FLIGHT_BYTES // max(size, 1))
        return add_parts(self.run.in_order(lambda bundle: sum_bundle(summand, bundle), self.pieces, at_once))

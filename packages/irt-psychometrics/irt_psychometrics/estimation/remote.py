"""Fit answers that are on other machines, which lay them out in shards and compute sums over the shards.

`fit_em` accepts `RemoteAnswers` instead of `Responses`, and gives the same result bit for bit (see `reductions`) on the
same CPU type. This module defines the work on shards and the arrays that are exchanged. A subclass of `RemoteAnswers`
stores the shards and runs the work.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.design import Links
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation import reductions
from irt_psychometrics.estimation.em_request import EVERYONE, Persons
from irt_psychometrics.estimation.response_layout import (
    Counts,
    Facts,
    LaidOutAnswers,
    Listing,
    Merge,
    ResponseLayout,
    list_answers,
    thin_shard,
)
from irt_psychometrics.estimation.source import LaidOut

Row = Mapping[str, Any]
"""Arrays by column name; their bytes after they were transferred."""
_PEOPLE: dict[str, Any] = {
    "set_of": np.int64,
    "set_group": np.int64,
    "set_start": np.int64,
    "set_items": None,
    "right_start": np.int64,
    "right_items": None,
    "weight": np.float64,
    "tally_start": np.int64,
    "tally_items": None,
    "tally": np.float64,
}
"""The fields of `kernels.People` and their types; None for the type of item indices."""
_FACTS: dict[str, Any] = {
    "parent": np.int64,
    "persons": np.int64,
    "code": np.uint64,
    "informative": np.float64,
    "total_weight": np.float64,
}


class ShardWork(Protocol):
    """Work on shards, done where they are stored. It can be pickled.

    It is called with pairs of a shard's number, in ascending order, and its row (`RemoteAnswers.COLUMNS`, as bytes).
    It yields pairs of a shard's number and a row with `columns`.

    Examples
    --------
    >>> class CountBytes:
    ...     columns = ("n_bytes",)
    ...     def __call__(self, shards):
    ...         for shard, row in shards:
    ...             yield shard, {"n_bytes": sum(map(len, row.values()))}
    >>> list(CountBytes()([(0, {"weight": b"12345678"})]))
    [(0, {'n_bytes': 8})]
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of a result."""

    def __call__(self, shards: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
        """Yield the number and the result of each shard."""


@dataclass(frozen=True)
class ShardLayout:
    """Function that lays out the answers of one shard. It can be pickled. `keep` (J,) marks the items of the fit."""

    keep: Mask
    listing: Listing
    n_shards: int

    def __call__(self, shard: int, responses: Responses, group: Ints) -> dict[str, npt.NDArray[Any]]:
        """Lay out a shard; see `RemoteAnswers.lay_out`."""
        kept = responses if self.keep.all() else responses.of_items(self.keep)
        weights = np.ones(kept.n_persons)
        (made,) = self.listing.shards(kept, group, weights, self.n_shards, only=shard)
        links, *facts = made.facts
        return made.people._asdict() | dict(zip(_FACTS, (links.parent, links.persons, *facts), strict=True))


class RemoteAnswers(ABC):
    """The answers of a request, stored on other machines.

    Attributes
    ----------
    item_ids, n_categories
        Names and numbers of categories of the J items, as in `Responses`.
    names
        Names of the groups, the reference first.
    n_shards
        Number of shards. Persons are assigned to shards by the CRC-32 of their ids.
    bundles
        Ranges of shards whose sums are computed together.
    n_bytes
        Size of all shards that were laid out last.
    max_fetched_bytes
        Largest size of all shards at which they are fetched and added up in this process.
    answers
        The answers that were laid out last.
    COLUMNS
        Names of the arrays that are stored for a shard.
    FACTS
        Names of the arrays that `lay_out` returns for a shard.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = tuple(_PEOPLE)
    FACTS: ClassVar[tuple[str, ...]] = tuple(_FACTS)

    max_fetched_bytes: int = 0
    answers: LaidOutAnswers | None = None

    def __init__(
        self, item_ids: tuple[str, ...], scores: Floats, n_categories: Ints, groups: tuple[str, ...] = ()
    ) -> None:
        """Describe the answers.

        Parameters
        ----------
        item_ids, n_categories
            Names and numbers of categories of the J items, shape (J,).
        scores
            Shape (J, C), number of answers with each score.
        groups
            Names of the groups, the reference first. Empty: one group.
        """
        self.item_ids, self.n_categories = item_ids, n_categories
        self.names = groups or (EVERYONE,)
        self._scores = scores
        self.n_shards = reductions.number_of_shards(self.n_answers)
        self.bundles = reductions.bundles(self.n_shards)
        self.n_bytes = 0

    @abstractmethod
    def lay_out(
        self, layout: Callable[[int, Responses, Ints], dict[str, npt.NDArray[Any]]]
    ) -> Iterable[tuple[int, Row]]:
        """Lay out every shard that has a person, and store it.

        Parameters
        ----------
        layout
            Function that returns the arrays of `COLUMNS` and `FACTS`. Its arguments are the number of a shard, the
            responses of its persons to all items, in the order of the persons' ids, and the group of each person. It
            can be pickled.

        Returns
        -------
        iterable of (int, row)
            Number and facts of each shard, in any order: `FACTS` as bytes, `n_rows`, and `n_bytes`, the size of the
            stored arrays.
        """

    @abstractmethod
    def add_up(self, work: ShardWork, n_bytes: int) -> Iterable[tuple[int, Row]]:
        """Run `work` on the shards of each bundle together.

        Returns, in order, one row of `n_bytes` for each bundle that has a person, with the number of its first shard.
        """

    @abstractmethod
    def fetch(self, work: ShardWork | None = None) -> Iterable[tuple[int, Row]]:
        """Return the shards, or the result of `work` for each shard, in any order."""

    @abstractmethod
    def gather(self) -> tuple[Responses, Ints] | None:
        """Return all answers, and the group of each person, in memory. Returns None if there are too many answers."""

    @abstractmethod
    def report_loglik(self, loglik: float) -> None:
        """Receive the log-likelihood after each E-step on the shards."""

    @property
    def n_items(self) -> int:
        """J."""
        return len(self.item_ids)

    @property
    def n_answers(self) -> int:
        """Number of answers of all persons."""
        return int(self._scores.sum())

    @property
    def categories(self) -> Ints | None:
        """`n_categories` if an item has more than two categories, else None, as in `Responses`."""
        return self.n_categories if (self.n_categories > 2).any() else None

    @property
    def in_memory(self) -> bool:
        """Whether the answers that were laid out last have been fetched into memory."""
        return isinstance(self.answers, ResponseLayout)

    def counts(self) -> Counts:
        """Count the answers to each item."""
        correct = self._scores[np.arange(self.n_items), self.n_categories - 1]
        return Counts(self._scores.sum(axis=1), correct, self._scores, self.n_categories)

    def lay_out_items(self, keep: Mask, *, rarer: bool, by_category: bool, merge: Merge = "patterns") -> LaidOut:
        """Lay out the answers to the items marked in `keep` (J,), and fetch them if they are not too large."""
        ids = tuple(np.array(self.item_ids, dtype=object)[keep])
        answers, listing = list_answers(self.counts().select(keep), ids, len(self.names), rarer, by_category, merge)
        found = self.lay_out(ShardLayout(keep, listing, self.n_shards))
        known = [row for _, row in sorted(found, key=lambda shard: shard[0])]
        facts = [*map(_facts, known)]
        size, self.n_bytes = sum(row["n_rows"] for row in known), sum(row["n_bytes"] for row in known)
        weight = float(sum(each.weight[0] for each in facts))
        held = {field.name: getattr(answers, field.name) for field in fields(LaidOutAnswers)}
        sharded = _ShardedAnswers(**{**held, "size": size, "weight": weight}, remote=self)
        self.answers = sharded.fetch_all() if self.n_bytes <= self.max_fetched_bytes else sharded
        return LaidOut.from_answers(self.answers, facts)

    def gather_items(self, keep: Mask) -> tuple[Responses, Persons] | None:
        """Return the answers to the items marked in `keep`, in memory. Returns None if there are too many answers."""
        found = self.gather()
        if found is None:
            return None
        responses, group = found
        kept = responses if keep.all() else responses.of_items(keep)
        return kept, Persons(self.names, group, np.ones(len(group)))


@dataclass(frozen=True)
class _ShardedAnswers(LaidOutAnswers):
    """The answers of a fit in the shards of `remote`."""

    remote: RemoteAnswers = None  # type: ignore[assignment]

    def sums(self, run: kernels.Run) -> reductions.SumOverPersons:  # noqa: ARG002
        return _RemoteSums(self.remote)

    def thin(self, step: int) -> ResponseLayout:
        return self.sample_of(self._people(_Thinning(self.rare(step), step)))

    def report_loglik(self, loglik: float) -> None:
        self.remote.report_loglik(loglik)

    def fetch_all(self) -> ResponseLayout:
        """The same answers in memory."""
        return ResponseLayout.from_shards(self._people(None), self)

    def _people(self, work: ShardWork | None) -> list[kernels.People]:
        """All shards in order. Shards without a person are not stored remotely and are empty here."""
        known = {shard: _people_of(row) for shard, row in self.remote.fetch(work)}
        index = next(iter(known.values())).set_items.dtype
        nobody = _people_of(dict.fromkeys(_PEOPLE, b""), index)
        start = np.zeros(1, dtype=np.int64)
        nobody = nobody._replace(set_start=start, right_start=start.copy())
        return [known.get(shard, nobody) for shard in range(self.remote.n_shards)]


@dataclass(frozen=True)
class _RemoteSums:
    """A `SumOverPersons` of shards on other machines."""

    remote: RemoteAnswers

    def __call__(self, summand: reductions.PersonSum) -> reductions.Sums:
        zeros = summand.zeros()
        shapes, n_bytes = [array.shape for array in zeros], sum(array.nbytes for array in zeros)
        del zeros
        edges = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        return reductions.add_parts(
            tuple(part.reshape(shape) for part, shape in zip(np.split(flat, edges), shapes, strict=True))
            for flat in self._parts(summand, n_bytes)
        )

    def _parts(self, summand: reductions.PersonSum, n_bytes: int) -> Iterator[Floats]:
        """The bundles' sums, in order; 0 for a bundle without persons."""
        bundles = self.remote.bundles
        first_of = tuple(bundle.start for bundle in bundles for _ in bundle)
        found = iter(self.remote.add_up(_BundleSums(summand, first_of), n_bytes))
        last, row = next(found, (-1, {}))
        for bundle in bundles:
            if last != bundle.start:
                yield np.zeros(n_bytes // 8)
                continue
            yield np.frombuffer(row["sums"], dtype=np.float64)
            last, row = next(found, (-1, {}))


@dataclass(frozen=True)
class _BundleSums:
    """A `ShardWork` that returns the sums of each bundle, with the number of its first shard.

    `first_of` (S,) is the number of the first shard in each shard's bundle.
    """

    summand: reductions.PersonSum
    first_of: Sequence[int]

    columns: ClassVar[tuple[str, ...]] = ("sums",)

    def __call__(self, shards: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
        into: reductions.Sums = ()
        current = -1
        for shard, row in shards:
            people = _people_of(row)
            if len(self.first_of) == 1:
                into = reductions.add_parts(
                    reductions.sum_bundle(self.summand, piece) for piece in reductions.pieces([people])
                )
                current = 0
                continue
            if self.first_of[shard] != current:
                if current >= 0:
                    yield current, _flat(into)
                current, into = self.first_of[shard], self.summand.zeros()
            self.summand.add(0, len(people.set_of), people, into)
        if current >= 0:
            yield current, _flat(into)


@dataclass(frozen=True)
class _Thinning:
    """A `ShardWork` that applies `thin_shard` to each shard."""

    rare: Mask
    step: int

    columns: ClassVar[tuple[str, ...]] = tuple(_PEOPLE)

    def __call__(self, shards: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
        for shard, row in shards:
            yield shard, thin_shard(_people_of(row), self.rare, self.step)._asdict()


def _flat(into: reductions.Sums) -> Row:
    return {"sums": np.concatenate([array.ravel() for array in into])}


def _people_of(values: Row, index: npt.DTypeLike | None = None) -> kernels.People:
    """The arrays of a row, writable, because kernels would be compiled again for read-only arrays."""
    set_start = np.frombuffer(values["set_start"], dtype=np.int64)
    if index is None:
        wide = len(memoryview(values["set_items"])) == 4 * set_start[-1]
        index = np.int32 if wide and set_start[-1] else np.uint16
    arrays = {name: np.frombuffer(values[name], dtype=dtype or index) for name, dtype in _PEOPLE.items()}
    return kernels.People(**{name: np.require(array, requirements=["C", "W", "A"]) for name, array in arrays.items()})


def _facts(row: Row) -> Facts:
    found: dict[str, Any] = {name: np.frombuffer(row[name], dtype=dtype).copy() for name, dtype in _FACTS.items()}
    parent, persons, *facts = found.values()
    return Facts(Links(parent, persons), *facts)

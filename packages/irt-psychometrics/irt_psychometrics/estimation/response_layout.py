"""Lay out the responses of a fit for the kernels. It uses no parameters and no likelihood."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core import kernels, layout_kernels
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.design import Links, require_connected, row_starts, set_keys
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.core.models import Flag
from irt_psychometrics.core.responses import Responses, answered_rows, category_rows
from irt_psychometrics.estimation.reductions import SumOverPersons, ThreadSums, number_of_shards, pieces, shard_of

SAMPLED, MIN_REPEATED = 2_000, 0.02
"""Persons of a shard are compared with each other only if more than this share of the answers of `SAMPLED` persons
occur before, so that a fit of persons who all differ takes no longer."""
_NO_STEP = np.uint64(0)
Merge = Literal["nobody", "patterns", "sums"]
"""Persons who share a row of the layout: nobody; persons with the same answers; persons with the same items and sum of
scores. Persons share rows only in shards in which this at least halves the number of rows."""
RARE = 20
"""Minimum number of right and of wrong answers in a sample; with fewer, an item may have no finite estimate there."""


@dataclass(frozen=True)
class Counts:
    """Numbers of answers, weighted by learner.

    Attributes
    ----------
    n
        Shape (J,), answers per item.
    correct
        Shape (J,), answers in the highest category of each item.
    table
        Shape (J, C), answers per item and category.
    categories
        Shape (J,), number of categories of each item.
    """

    n: Floats
    correct: Floats
    table: Floats
    categories: Ints

    @classmethod
    def from_responses(cls, responses: Responses, weights: Floats) -> Counts:
        categories = responses.n_categories
        table = np.zeros((responses.n_items, categories.max(initial=2)))
        layout_kernels.count_scores(responses.person, responses.item, responses.score, weights, table)
        return cls(table.sum(axis=1), table[np.arange(len(table)), categories - 1], table, categories)

    def estimable(self, model: ItemModel) -> Mask:
        """Whether an item's answers have a finite maximum under the model, shape (J,)."""
        return model.estimable(self.table, self.categories)

    def select(self, keep: Mask) -> Counts:
        """The counts of the items marked in `keep` (J,)."""
        categories = self.categories[keep]
        table = self.table[keep, : categories.max(initial=2)]
        return Counts(self.n[keep], self.correct[keep], table, categories)

    @property
    def score_sums(self) -> Floats:
        """Sum of all scores of each item, shape (J,)."""
        return self.table @ np.arange(self.table.shape[1])

    @property
    def rarer(self) -> Floats:
        """Number of answers to each item outside its most frequent category, shape (J,)."""
        others = self.n - np.where(self.categories > 2, self.table.max(axis=1, initial=0.0), self.correct)
        return np.where(self.categories > 2, others, np.minimum(self.correct, others))

    def flags(self, kept: Mask, marks: Mapping[Flag, Mask]) -> tuple[tuple[Flag, ...], ...]:
        """The flags of all J items, in the order of `Flag`.

        Items that are not marked in `kept` (J,) get the flags that follow from the answers alone. The K kept items get
        the flags of their engine, `marks` (K,).
        """
        all_wrong = (self.n > 0) & (self.table[:, 0] == self.n)
        never_given = ((self.table == 0) & (np.arange(self.table.shape[1]) < self.categories[:, None])).any(axis=1)
        given = {
            Flag.NO_DATA: ~kept & (self.n == 0),
            Flag.ALL_CORRECT: ~kept & (self.n > 0) & (self.correct == self.n),
            Flag.ALL_WRONG: ~kept & all_wrong,
            Flag.UNIDENTIFIED: ~kept & (self.n > 0) & (self.correct < self.n) & ~all_wrong & never_given,
        }
        for flag, mark in marks.items():
            given.setdefault(flag, np.zeros(kept.size, dtype=bool))[kept] |= mark
        in_order = [flag for flag in Flag if flag in given]
        return tuple(tuple(flag for flag in in_order if given[flag][j]) for j in range(kept.size))


class Facts(NamedTuple):
    """Facts of a shard about the design; they can be added over shards.

    Attributes
    ----------
    links
        Items that are connected by persons.
    code
        Shape (J,), a sum of random numbers over an item's answers, equal for items with the same answers.
    informative
        Shape (G,), total weight of the persons with two or more responses in each group.
    weight
        Shape (1,), total weight of the persons with a response.
    """

    links: Links
    code: npt.NDArray[np.uint64]
    informative: Floats
    weight: Floats


class Shard(NamedTuple):
    """The persons of a shard with a response and a weight above 0, and the shard's facts about the design."""

    people: kernels.People
    facts: Facts


class _Rows(NamedTuple):
    """R rows of persons who are laid out together.

    Attributes
    ----------
    person
        Shape (R,), the first person of each row.
    weight, n_persons
        Shape (R,), total weight and number of the persons.
    of_person
        Shape (n,), the row of each person. None: nobody shares a row.
    """

    person: Ints
    weight: Floats
    n_persons: Ints
    of_person: Ints | None = None


@dataclass(frozen=True)
class Listing:
    """How a fit's answers are listed.

    Attributes
    ----------
    flipped
        Shape (J,), whether an item's wrong answers are listed instead of the correct ones.
    n_groups
        Number of groups of persons.
    by_category
        Whether the category of each answer is listed.
    merge
        The persons who may share a row.
    """

    flipped: Mask
    n_groups: int = 1
    by_category: bool = False
    merge: Merge = "nobody"

    def shards(
        self, responses: Responses, group: Ints, weights: Floats, number: int, only: int | None = None
    ) -> list[Shard]:
        """Divide the persons into `number` shards.

        `group` and `weights` have shape (n_persons,). If `only` is given, all responses belong to this shard.
        """
        start = row_starts(responses)
        n_responses = np.diff(start)
        item, score, flipped = responses.item, responses.score, self.flipped
        if self.by_category:
            item, score = answered_rows(responses)
            flipped = np.zeros(int((responses.n_categories - 1).sum()), dtype=bool)
        index = np.uint16 if len(flipped) <= 2**16 else np.int32
        order, edges = np.arange(responses.n_persons), np.array([0, responses.n_persons])
        if only is None:
            of_person = shard_of(responses.key, responses.n_persons, number)
            order = np.argsort(of_person, kind="stable")
            edges = np.searchsorted(of_person[order], np.arange(number + 1))
        found = []
        for shard, (first, last) in enumerate(itertools.pairwise(edges), start=only or 0):
            everybody = order[first:last]
            everybody = everybody[(n_responses[everybody] > 0) & (weights[everybody] > 0)]
            rows = self._merge(responses, start, everybody, group, weights)
            persons = rows.person
            code = _codes(responses, start, persons, set_keys(responses.n_items)[:, None])
            _, seen_first, rank = np.unique(code, return_index=True, return_inverse=True)
            seen_first = persons[seen_first]
            seen_by = np.bincount(rank, rows.n_persons)
            links = Links.from_item_sets(start, responses.item, responses.n_items, seen_first, seen_by)
            several = n_responses[persons] >= 2
            informative = np.bincount(group[persons[several]], rows.weight[several], self.n_groups).astype(np.float64)
            hashed = everybody if self.merge == "sums" else persons
            key = np.random.default_rng((67, shard)).integers(
                0, 2**64, size=(len(hashed), int(responses.n_categories.max(initial=2))), dtype=np.uint64
            )
            answered = np.zeros(responses.n_items, dtype=np.uint64)
            layout_kernels.hash_answers(hashed, start, responses.item, responses.score, key, answered)
            own = rank * self.n_groups + group[persons]
            kinds, set_of = np.unique(own, return_inverse=True)
            by_set = np.argsort(set_of, kind="stable")
            persons, set_of, weight = persons[by_set], set_of[by_set], rows.weight[by_set]
            shown = seen_first[kinds // self.n_groups]
            set_start = _ends(n_responses[shown])
            set_items = np.empty(set_start[-1], dtype=index)
            layout_kernels.take_rows(shown, start, responses.item, set_items)
            marked = (start, item, score, flipped)
            right = np.empty(len(persons), dtype=np.int64)
            layout_kernels.count_marked(persons, *marked, right)
            right_start = _ends(right)
            right_items = np.empty(right_start[-1], dtype=index)
            layout_kernels.take_marked(persons, *marked, right_items)
            tallies = np.empty(0, dtype=np.int64), np.empty(0, dtype=index), np.empty(0)
            if self.merge == "sums" and rows.of_person is not None:
                place = np.empty_like(by_set)
                place[by_set] = np.arange(len(by_set))
                tallies = _tally(everybody, place[rows.of_person], marked, weights, tallies)
            sets = (set_of, kinds % self.n_groups, set_start, set_items)
            people = kernels.People(*sets, right_start, right_items, weight, *tallies)
            found.append(Shard(people, Facts(links, answered, informative, np.array([weight.sum()]))))
        return found

    def _merge(self, responses: Responses, start: Ints, persons: Ints, group: Ints, weights: Floats) -> _Rows:
        """Find the persons who share rows, as `merge` says, if this at least halves the number of rows."""
        alone = _Rows(persons, weights[persons], np.ones(len(persons), dtype=np.int64))
        if self.merge == "nobody" or not len(persons):
            return alone
        rng = np.random.default_rng(71)
        n_keys = int(responses.n_categories.max(initial=2)) if self.merge == "patterns" else 1
        keys = rng.integers(0, 2**64, size=(responses.n_items, n_keys), dtype=np.uint64)
        step, *of_group = rng.integers(0, 2**64, size=1 + self.n_groups, dtype=np.uint64)
        step = step if self.merge == "sums" else np.uint64(0)

        def number(some: Ints) -> tuple[Ints, Ints]:
            code = _codes(responses, start, some, keys, step) + np.array(of_group)[group[some]]
            table = np.full(2 ** (2 * len(some)).bit_length(), -1, dtype=np.int64)
            of_person, first = np.empty((2, len(some)), dtype=np.int64)
            return of_person, first[: layout_kernels.number_codes(code, table, of_person, first)].copy()

        if len(persons) > 2 * SAMPLED:
            some = persons[:: len(persons) // SAMPLED]
            if len(number(some)[1]) > (1 - MIN_REPEATED) * len(some):
                return alone
        of_person, first = number(persons)
        if 2 * len(first) > len(persons):
            return alone
        weight = np.bincount(of_person, alone.weight).astype(float)
        return _Rows(persons[first], weight, np.bincount(of_person), of_person)


@dataclass(frozen=True)
class LaidOutAnswers:
    """The facts that a fit needs about its answers, in addition to sums over persons.

    Attributes
    ----------
    item_ids
        Names of the J items.
    n, correct
        Shape (J,), answers and correct answers per item, weighted by learner.
    size
        Number of rows of persons with a response.
    weight
        Total weight of these persons.
    n_groups, flipped
        As in `Listing`.
    counts
        Counts over all learners. None if the category of answers is not listed.
    row_item, row_category
        Shape (M,), item and category of each row of the kernels, in the order of `answered_rows`.
    """

    item_ids: tuple[str, ...]
    n: Floats
    correct: Floats
    size: int
    weight: float
    n_groups: int
    flipped: Mask
    counts: Counts | None = None
    row_item: Ints | None = None
    row_category: Ints | None = None

    def sums(self, run: kernels.Run) -> SumOverPersons:
        """Return the object that computes sums over these persons, by the threads of `run` if they are in memory."""
        raise NotImplementedError

    def thin(self, step: int) -> ResponseLayout:
        """Return a representative sample: every `step`-th person of a shard, with `step` times the weight.

        It also contains, with their own weight, all persons with an answer that would otherwise be too rare to estimate
        its item, and all rows of shards in which rows represent several persons.
        """
        raise NotImplementedError

    def report_loglik(self, loglik: float) -> None:
        """Called with the log-likelihood after each E-step."""

    def sample_of(self, shards: Iterable[kernels.People]) -> ResponseLayout:
        """Lay out a sample that consists of these shards, the results of `thin_shard`."""
        shards = tuple(shards)
        n, listed = np.zeros(self.n_items), np.zeros(self.n_items)
        for people in shards:
            layout_kernels.count_listed(people, n, listed)
        return ResponseLayout.from_shards(shards, self, n=n, correct=np.where(self.flipped, n - listed, listed))

    def rare(self, step: int) -> Mask:
        """Whether an item's unlisted and listed answers would be too rare among every step-th person, shape (2, J)."""
        listed = np.where(self.flipped, self.n - self.correct, self.correct)
        return np.stack([self.n - listed, listed]) < RARE * step

    @property
    def shares(self) -> Floats:
        """Share of an item's answers in each category, shape (J, C)."""
        if self.counts is not None:
            return self.counts.table / np.maximum(self.counts.n, 1)[:, None]
        right = self.correct / np.maximum(self.n, 1)
        return np.stack([1 - right, right], axis=1)

    @property
    def n_categories(self) -> Ints:
        return np.full(self.n_items, 2) if self.counts is None else self.counts.categories

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @property
    def n_persons(self) -> int:
        """Number of persons: their total weight, rounded."""
        return int(np.rint(self.weight))


@dataclass(frozen=True)
class ResponseLayout(LaidOutAnswers):
    """The persons of a fit in memory, in shards. In a shard they are sorted by the set of items they saw and by group.

    The same items seen in two groups, or in two shards, are two sets.
    """

    shards: tuple[kernels.People, ...] = ()

    @classmethod
    def from_shards(cls, shards: Sequence[kernels.People], answers: LaidOutAnswers, **changes: Any) -> ResponseLayout:
        """A layout with the persons of these shards. All other fields are those of `answers`, except `changes`."""
        known = {field.name: getattr(answers, field.name) for field in fields(LaidOutAnswers)}
        size, weight = sum(len(p.weight) for p in shards), math.fsum(float(p.weight.sum()) for p in shards)
        return cls(**{**known, "size": size, "weight": weight, **changes}, shards=tuple(shards))

    @classmethod
    def from_responses(
        cls,
        responses: Responses,
        *,
        group: Ints | None = None,
        weights: Floats | None = None,
        anchored: Mask | None = None,
        rarer: bool = False,
        by_category: bool = False,
        shards: int | None = None,
    ) -> ResponseLayout:
        """Lay out responses in memory.

        Parameters
        ----------
        responses
            Responses of n_persons persons to J items.
        group
            Shape (n_persons,), groups numbered from 0. None: one group.
        weights
            Shape (n_persons,), ≥ 0. Persons with weight 0 are left out. None: 1 each.
        anchored
            Shape (J,), whether an item's parameters are known.
        rarer
            Whether to list the rarer kind of answer of each item instead of the correct answers.
        by_category
            Whether to list the category of each answer.
        shards
            Number of shards. None: the number for a request with these responses.

        Raises
        ------
        DisconnectedDesignError
            If the responses fall into groups without common learners, items or anchors.
        """
        group = np.zeros(responses.n_persons, dtype=np.int64) if group is None else group
        weights = np.ones(responses.n_persons) if weights is None else weights
        number = number_of_shards(responses.n_responses) if shards is None else shards
        answers, listing = list_answers(
            Counts.from_responses(responses, weights),
            responses.item_ids,
            int(group.max(initial=0)) + 1,
            rarer,
            by_category,
        )
        found = listing.shards(responses, group, weights, number)
        require_connected(Links.union([shard.facts.links for shard in found]), responses.item_ids, anchored)
        return cls.from_shards([shard.people for shard in found], answers)

    def sums(self, run: kernels.Run) -> SumOverPersons:
        return ThreadSums(run, pieces(self.shards))

    def thin(self, step: int) -> ResponseLayout:
        rare = self.rare(step)
        return self.sample_of(thin_shard(people, rare, step) for people in self.shards)


def list_answers(
    counts: Counts,
    item_ids: tuple[str, ...],
    n_groups: int,
    rarer: bool,
    by_category: bool,
    merge: Merge = "nobody",
) -> tuple[LaidOutAnswers, Listing]:
    """The facts about a fit's answers before its persons are laid out, and how to list the answers."""
    listing = Listing((2 * counts.correct > counts.n) & rarer, n_groups, by_category, merge)
    rows = category_rows(counts.categories) if by_category else (None, None)
    known = counts if by_category else None
    return LaidOutAnswers(item_ids, counts.n, counts.correct, 0, 0.0, n_groups, listing.flipped, known, *rows), listing


def thin_shard(people: kernels.People, rare: Mask, step: int) -> kernels.People:
    """A shard's part of the sample that `LaidOutAnswers.thin` describes; `rare` is `LaidOutAnswers.rare(step)`."""
    if people.tally.size or represents_several(float(people.weight.sum()), len(people.weight)):
        return people
    kept = np.empty(len(people.set_of), dtype=np.bool_)
    layout_kernels.mark_rare(people, rare, kept)
    weight = np.where(kept, people.weight, step * people.weight)
    kept[::step] = True
    persons = np.flatnonzero(kept)
    sets, set_of = np.unique(people.set_of[persons], return_inverse=True)
    set_start, set_items = _take_rows(sets, people.set_start, people.set_items)
    right_start, right_items = _take_rows(persons, people.right_start, people.right_items)
    groups = people.set_group[sets]
    lists = set_start, set_items, right_start, right_items
    return kernels.People(set_of, groups, *lists, weight[persons], people.tally_start, people.tally_items, people.tally)


def represents_several(weight: float, rows: int) -> bool:
    """Check whether the rows represent two persons each, on average, or more. Every k-th row is then no sample."""
    return weight >= 2 * rows


def _codes(
    responses: Responses, start: Ints, persons: Ints, keys: npt.NDArray[np.uint64], step: np.uint64 = _NO_STEP
) -> npt.NDArray[np.uint64]:
    """Compute a number for the answers of each of these persons; see `layout_kernels.hash_persons`."""
    code = np.empty(len(persons), dtype=np.uint64)
    layout_kernels.hash_persons(persons, start, responses.item, responses.score, keys, step, code)
    return code


def _tally(
    persons: Ints, row: Ints, marked: tuple[Any, ...], weights: Floats, nothing: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Compute the tallies of rows, as in `kernels.People`. `row` is each person's row; `nothing` are empty tallies."""
    by_row, n_rows, (start, *_, flipped) = np.argsort(row, kind="stable"), int(row.max()) + 1, marked
    most = min(int((start[persons + 1] - start[persons]).sum()), n_rows * len(flipped))
    into = [np.empty(size, dtype=x.dtype) for size, x in zip((n_rows + 1, most, most), nothing, strict=True)]
    size = layout_kernels.tally_marked(persons[by_row], row[by_row], *marked, weights, *into)
    return into[0], into[1][:size].copy(), into[2][:size].copy()


def _take_rows(rows: Ints, start: Ints, items: npt.NDArray[Any]) -> tuple[Ints, npt.NDArray[Any]]:
    """The starts and the items of the selected rows."""
    taken_start = _ends(np.diff(start)[rows])
    taken = np.empty(taken_start[-1], dtype=items.dtype)
    layout_kernels.take_rows(rows, start, items, taken)
    return taken_start, taken


def _ends(length: Ints) -> Ints:
    """The starts of runs of these lengths, and the end of the last run."""
    return np.concatenate(([0], np.cumsum(length)))

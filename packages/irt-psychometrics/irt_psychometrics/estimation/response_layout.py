"""Lay out the responses of a fit for the kernels. It uses no parameters and no likelihood."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core import kernels, layout_kernels
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.design import Links, require_connected, row_starts, set_codes
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.core.models import Flag
from irt_psychometrics.core.responses import Responses, answered_rows, category_rows
from irt_psychometrics.estimation.reductions import SumOverPersons, ThreadSums, number_of_shards, pieces, shard_of

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
    """

    links: Links
    code: npt.NDArray[np.uint64]
    informative: Floats


class Shard(NamedTuple):
    """The persons of a shard with a response and a weight above 0, and the shard's facts about the design."""

    people: kernels.People
    facts: Facts


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
    """

    flipped: Mask
    n_groups: int = 1
    by_category: bool = False

    def shards(
        self, responses: Responses, group: Ints, weights: Floats, number: int, only: int | None = None
    ) -> list[Shard]:
        """Divide the persons into `number` shards.

        `group` and `weights` have shape (n_persons,). If `only` is given, all responses belong to this shard.
        """
        start = row_starts(responses)
        code = set_codes(start, responses.item, responses.n_items)
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
            persons = order[first:last]
            persons = persons[(start[persons] < start[persons + 1]) & (weights[persons] > 0)]
            _, seen_first, rank = np.unique(code[persons], return_index=True, return_inverse=True)
            seen_first = persons[seen_first]
            links = Links.from_item_sets(start, responses.item, responses.n_items, seen_first, np.bincount(rank))
            several = persons[np.diff(start)[persons] >= 2]
            informative = np.bincount(group[several], weights[several], self.n_groups).astype(np.float64)
            key = np.random.default_rng((67, shard)).integers(
                0, 2**64, size=(len(persons), int(responses.n_categories.max(initial=2))), dtype=np.uint64
            )
            answered = np.zeros(responses.n_items, dtype=np.uint64)
            layout_kernels.hash_answers(persons, start, responses.item, responses.score, key, answered)
            own = rank * self.n_groups + group[persons]
            kinds, set_of = np.unique(own, return_inverse=True)
            by_set = np.argsort(set_of, kind="stable")
            persons, set_of = persons[by_set], set_of[by_set]
            shown = seen_first[kinds // self.n_groups]
            set_start = _ends(np.diff(start)[shown])
            set_items = np.empty(set_start[-1], dtype=index)
            layout_kernels.take_rows(shown, start, responses.item, set_items)
            rows = (persons, start, item, score, flipped)
            right = np.empty(len(persons), dtype=np.int64)
            layout_kernels.count_marked(*rows, right)
            right_start = _ends(right)
            right_items = np.empty(right_start[-1], dtype=index)
            layout_kernels.take_marked(*rows, right_items)
            sets = (set_of, kinds % self.n_groups, set_start, set_items)
            people = kernels.People(*sets, right_start, right_items, weights[persons])
            found.append(Shard(people, Facts(links, answered, informative)))
        return found


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
        Number of persons with a response.
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
        """A representative sample: every `step`-th person of a shard, with `step` times the weight.

        It also contains, with their own weight, all persons with an answer that would otherwise be too rare to estimate
        its item.
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
    counts: Counts, item_ids: tuple[str, ...], n_groups: int, rarer: bool, by_category: bool
) -> tuple[LaidOutAnswers, Listing]:
    """The facts about a fit's answers before its persons are laid out, and how to list the answers."""
    listing = Listing((2 * counts.correct > counts.n) & rarer, n_groups, by_category)
    rows = category_rows(counts.categories) if by_category else (None, None)
    known = counts if by_category else None
    return LaidOutAnswers(item_ids, counts.n, counts.correct, 0, 0.0, n_groups, listing.flipped, known, *rows), listing


def thin_shard(people: kernels.People, rare: Mask, step: int) -> kernels.People:
    """A shard's part of the sample that `LaidOutAnswers.thin` describes; `rare` is `LaidOutAnswers.rare(step)`."""
    kept = np.empty(len(people.set_of), dtype=np.bool_)
    layout_kernels.mark_rare(people, rare, kept)
    weight = np.where(kept, people.weight, step * people.weight)
    kept[::step] = True
    persons = np.flatnonzero(kept)
    sets, set_of = np.unique(people.set_of[persons], return_inverse=True)
    set_start, set_items = _take_rows(sets, people.set_start, people.set_items)
    right_start, right_items = _take_rows(persons, people.right_start, people.right_items)
    groups = people.set_group[sets]
    return kernels.People(set_of, groups, set_start, set_items, right_start, right_items, weight[persons])


def _take_rows(rows: Ints, start: Ints, items: npt.NDArray[Any]) -> tuple[Ints, npt.NDArray[Any]]:
    """The starts and the items of the selected rows."""
    taken_start = _ends(np.diff(start)[rows])
    taken = np.empty(taken_start[-1], dtype=items.dtype)
    layout_kernels.take_rows(rows, start, items, taken)
    return taken_start, taken


def _ends(length: Ints) -> Ints:
    """The starts of runs of these lengths, and the end of the last run."""
    return np.concatenate(([0], np.cumsum(length)))

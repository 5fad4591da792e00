"""The responses of one fit in the layout that the kernels read. No parameters and no likelihood here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from irt_assets.psychometrics.core import kernels, layout_kernels
from irt_assets.psychometrics.core.design import require_connected, seen_sets
from irt_assets.psychometrics.core.models import Flag, Floats, Responses

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

RARE = 20
"""An item with fewer right, or fewer wrong, answers in a sample may have no finite estimate there."""


@dataclass(frozen=True)
class Counts:
    """Answers and correct answers per item, shape (J,), each answer counted as often as its learner."""

    n: Floats
    correct: Floats

    @classmethod
    def of(cls, responses: Responses, weights: Floats) -> Counts:
        table = np.zeros((responses.n_items, 2))
        layout_kernels.count_scores(responses.person, responses.item, responses.score, weights, table)
        return cls(table.sum(axis=1), table[:, 1].copy())

    @property
    def estimable(self) -> Mask:
        return (self.correct > 0) & (self.correct < self.n)

    @property
    def rarer(self) -> Floats:
        """How many answers were of the kind that was given less often."""
        return np.minimum(self.correct, self.n - self.correct)

    def flags(self, j: int | np.intp) -> list[Flag]:
        if self.n[j] == 0:
            return [Flag.NO_DATA]
        if self.correct[j] == self.n[j]:
            return [Flag.ALL_CORRECT]
        return [Flag.ALL_WRONG] if self.correct[j] == 0 else []


@dataclass(frozen=True)
class ResponseLayout:
    """N persons with a response, sorted by the set of items they saw and by group; correct items only.

    `set_group` (S,) is the group of a set: the same items seen in two groups are two sets. `weight` (N,) says how many
    persons each stands for. Of `flipped` items (J,) the wrong answers are listed in place of the correct ones.
    """

    item_ids: tuple[str, ...]
    n: Floats
    correct: Floats
    set_of: Ints
    set_group: Ints
    set_start: Ints
    set_items: npt.NDArray[np.uint16] | npt.NDArray[np.int32]
    right_start: Ints
    right_items: npt.NDArray[np.uint16] | npt.NDArray[np.int32]
    weight: Floats
    n_groups: int
    flipped: Mask

    @classmethod
    def of(
        cls,
        responses: Responses,
        *,
        group: Ints | None = None,
        weights: Floats | None = None,
        anchored: Mask | None = None,
        rarer: bool = False,
    ) -> ResponseLayout:
        """Raises DisconnectedDesignError where the responses do not hang together.

        `group`, `weights`: shape (n_persons,), groups numbered from 0, weights ≥ 0 (those of 0 are left out).
        `anchored`: shape (J,), items with known parameters. `rarer`: list the rarer kind of answer of each item, and
        not always the correct one.
        """
        group = np.zeros(responses.n_persons, dtype=np.int64) if group is None else group
        weights = np.ones(responses.n_persons) if weights is None else weights
        sets = seen_sets(responses)
        require_connected(responses, sets, anchored)
        counts = Counts.of(responses, weights)
        n_groups = int(group.max(initial=0)) + 1
        own = sets.of_person * n_groups + group
        persons = np.flatnonzero((sets.of_person >= 0) & (weights > 0))
        kinds, set_of = np.unique(own[persons], return_inverse=True)
        order = np.argsort(set_of, kind="stable")
        persons, set_of = persons[order], set_of[order]
        shown = sets.person[kinds // n_groups]
        index = np.uint16 if responses.n_items <= 2**16 else np.int32
        set_start = _ends(np.diff(sets.row_start)[shown])
        set_items = np.empty(set_start[-1], dtype=index)
        layout_kernels.take_rows(shown, sets.row_start, responses.item, set_items)
        right = np.empty(len(persons), dtype=np.int64)
        flipped = (2 * counts.correct > counts.n) & rarer
        rows = (persons, sets.row_start, responses.item, responses.score, flipped)
        layout_kernels.count_marked(*rows, right)
        right_start = _ends(right)
        right_items = np.empty(right_start[-1], dtype=index)
        layout_kernels.take_marked(*rows, right_items)
        return cls(
            responses.item_ids,
            counts.n,
            counts.correct,
            set_of,
            kinds % n_groups,
            set_start,
            set_items,
            right_start,
            right_items,
            weights[persons],
            n_groups,
            flipped,
        )

    def thinned(self, step: int) -> ResponseLayout:
        """A sample that stands for all: every step-th person with `step` times the weight, and with their own weight
        everybody who gave an answer of a kind that would otherwise be too rare to estimate its item."""
        listed = np.where(self.flipped, self.n - self.correct, self.correct)
        rare = np.stack([self.n - listed, listed]) < RARE * step
        kept = np.empty(len(self.set_of), dtype=np.bool_)
        layout_kernels.mark_rare(self.people, rare, kept)
        weight = np.where(kept, self.weight, step * self.weight)
        kept[::step] = True
        persons = np.flatnonzero(kept)
        right_start = _ends(np.diff(self.right_start)[persons])
        right_items = np.empty(right_start[-1], dtype=self.right_items.dtype)
        layout_kernels.take_rows(persons, self.right_start, self.right_items, right_items)
        thin = replace(
            self, set_of=self.set_of[persons], right_start=right_start, right_items=right_items, weight=weight[persons]
        )
        n, listed = np.zeros(self.n_items), np.zeros(self.n_items)
        layout_kernels.count_listed(thin.people, n, listed)
        return replace(thin, n=n, correct=np.where(self.flipped, n - listed, listed))

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @property
    def n_persons(self) -> int:
        """Persons, each counted by weight, to the nearest one."""
        return int(np.rint(self.weight.sum()))

    @property
    def people(self) -> kernels.People:
        """The persons as kernels take them."""
        return kernels.People(
            self.set_of,
            self.set_group,
            self.set_start,
            self.set_items,
            self.right_start,
            self.right_items,
            self.weight,
        )

    @property
    def cost(self) -> Ints:
        """Shape (N,): work per person, in responses, with that of a posterior and of a change of set."""
        new_set = np.diff(self.set_of, prepend=-1) != 0
        return 30 + np.diff(self.right_start) + new_set * np.diff(self.set_start)[self.set_of] * 8


def _ends(length: Ints) -> Ints:
    """The starts of runs of these lengths, and the end of the last."""
    return np.concatenate(([0], np.cumsum(length)))

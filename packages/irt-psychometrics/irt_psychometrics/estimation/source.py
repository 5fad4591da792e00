"""Interface of a fit to its answers, in memory or elsewhere: counts, layout, and facts about the design."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.design import Links, first_alike
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em_request import Persons
from irt_psychometrics.estimation.reductions import number_of_shards
from irt_psychometrics.estimation.response_layout import (
    Counts,
    Facts,
    LaidOutAnswers,
    Merge,
    ResponseLayout,
    list_answers,
)


@dataclass(frozen=True)
class LaidOut:
    """The answers to the J items of a fit.

    Attributes
    ----------
    answers
        The answers in the layout of the kernels.
    links
        Items that are connected by persons.
    first_alike
        Shape (J,), the first item with the same answers.
    informative
        Shape (G,), total weight of the persons with two or more responses in each group.
    """

    answers: LaidOutAnswers
    links: Links
    first_alike: Ints
    informative: Floats

    @classmethod
    def from_answers(cls, answers: LaidOutAnswers, facts: Iterable[Facts]) -> Self:
        """Combine the facts of all shards."""
        links, codes, informative, _ = zip(*facts, strict=True)
        return cls(answers, Links.union(links), first_alike(np.sum(codes, axis=0)), np.sum(informative, axis=0))


class Source(Protocol):
    """The answers of a request."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups, the reference first."""

    def counts(self) -> Counts:
        """Count the answers to each item."""

    def lay_out_items(self, keep: Mask, *, rarer: bool, by_category: bool, merge: Merge = "patterns") -> LaidOut:
        """Lay out the answers to the items marked in `keep` (J,); see `ResponseLayout.from_responses`."""

    def gather_items(self, keep: Mask) -> tuple[Responses, Persons] | None:
        """The answers to the items marked in `keep`, in memory. Returns None if there are too many answers."""


@dataclass(frozen=True)
class InMemory:
    """A `Source` of responses in memory."""

    responses: Responses
    persons: Persons

    @property
    def names(self) -> tuple[str, ...]:
        return self.persons.names

    @cached_property
    def _counts(self) -> Counts:
        return Counts.from_responses(self.responses, self.persons.weight)

    def counts(self) -> Counts:
        return self._counts

    def lay_out_items(self, keep: Mask, *, rarer: bool, by_category: bool, merge: Merge = "patterns") -> LaidOut:
        kept, persons = self.gather_items(keep)
        counts = self._counts.select(keep)
        answers, listing = list_answers(counts, kept.item_ids, len(persons.names), rarer, by_category, merge)
        number = number_of_shards(self.responses.n_responses)
        shards = listing.shards(kept, persons.group, persons.weight, number)
        held = ResponseLayout.from_shards([shard.people for shard in shards], answers)
        return LaidOut.from_answers(held, [shard.facts for shard in shards])

    def gather_items(self, keep: Mask) -> tuple[Responses, Persons]:
        return self.responses if keep.all() else self.responses.of_items(keep), self.persons

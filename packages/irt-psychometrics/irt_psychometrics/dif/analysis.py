"""DIF of a learner attribute: items harder, or less discriminating, for one group than for another of equal ability.

This module selects the groups and items that can be tested, and combines the results of the methods in wald.py,
mantel_haenszel.py, mantel.py and logistic.py. The caller chooses the attributes.

The Wald test decides. Mantel-Haenszel and logistic regression are shown next to it. They are computed within forms,
because they compare learners with equal scores on the same items. For a scored item, Mantel's test with the
standardised mean difference replaces both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np

from irt_psychometrics.core.arrays import Ints
from irt_psychometrics.core.category_changes import with_common_q
from irt_psychometrics.core.errors import PsychometricsError, Refusal
from irt_psychometrics.core.item_models import item_model, model_of
from irt_psychometrics.core.model_families import PCM, RSM
from irt_psychometrics.core.options import DEFAULT_MODEL, Latent, Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dif.forms import Cells, cells, sittings
from irt_psychometrics.dif.logistic import LogisticDif, logistic_dif
from irt_psychometrics.dif.mantel import Mantel, mantel
from irt_psychometrics.dif.mantel_haenszel import EtsClass, MantelHaenszel, mantel_haenszel
from irt_psychometrics.dif.split_items import MIN_ITEMS, Groups
from irt_psychometrics.dif.wald import Wald, compare_groups, family_q

TESTABLE = 200
"""Minimum number of learners of a group, of the group's answers to an item, and of sittings with the item. With fewer,
the error of a slope is as large as differences between slopes, and too far from normal for a Wald test."""
ENOUGH = 500
"""Number of learners below which half of the items that differ by 0.5 are not detected: "low power"."""
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Group:
    """Persons with the same value of the attribute.

    Attributes
    ----------
    name
        The value.
    n_learners
        Number of persons with responses.
    answers
        Shape (J,), number of their answers to each item.
    reason
        Why the Wald test omits the group; empty if it includes the group.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.dif import Group
    >>> group = Group("fr", n_learners=300, answers=np.array([280, 250]))
    >>> group.n_responses, group.low_power
    (530, True)
    """

    name: str
    n_learners: int
    answers: Ints
    reason: str = ""

    @property
    def n_responses(self) -> int:
        """Number of answers of the group's persons."""
        return int(self.answers.sum())

    @property
    def tested(self) -> bool:
        """Whether the Wald test includes the group."""
        return not self.reason

    @property
    def large_enough(self) -> bool:
        """Whether the group has enough persons for a comparison."""
        return self.n_learners >= TESTABLE

    @property
    def low_power(self) -> bool:
        """Whether the group is tested, but so small that half of the large differences are missed."""
        return self.tested and self.n_learners < ENOUGH


@dataclass(frozen=True)
class WithinForms:
    """Results of the methods that match on scores, for each focal group and item: `Dif.within_forms`.

    Attributes
    ----------
    groups
        G names, the reference first.
    mantel_haenszel, mantel, logistic
        G − 1 rows of J results. A result is None if either group has fewer complete sittings with the item than
        `Dif.from_responses` requires, 200 by default.
        Scored items have only Mantel's test, other items only the other two.
    sittings
        Shape (G, J), number of complete sittings with the item.
    n_sittings
        Number of complete sittings.
    n_incomplete
        Number of sittings without an answer to an item of their form, which are omitted.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.dif import Dif
    >>> bank = irt.ItemParameters.from_frame({"item": [*"abcdef"], "a": [1] * 6, "b": np.linspace(-1, 1, 6)})
    >>> x = irt.simulate_responses(bank, np.linspace(-2, 2, 600), random_state=1)
    >>> found = Dif.from_responses("language", x, ["en", "fr"] * 300, forms=["A"] * x.n_responses).within_forms
    >>> found.n_sittings, found.ets_class(0, 0)
    (600, 'A')
    """

    groups: tuple[str, ...]
    mantel_haenszel: tuple[tuple[MantelHaenszel | None, ...], ...]
    mantel: tuple[tuple[Mantel | None, ...], ...]
    logistic: tuple[tuple[LogisticDif | None, ...], ...]
    sittings: Ints
    n_sittings: int
    n_incomplete: int

    def ets_class(self, f: int, j: int) -> EtsClass | None:
        """Return the ETS class of the difference of item `j` for the f-th focal group.

        Parameters
        ----------
        f
            Place of the focal group, 0 for the first after the reference.
        j
            Place of the item.

        Returns
        -------
        str or None
            "A", "B" or "C"; None if the item was not tested.
        """
        test = self.mantel_haenszel[f][j] or self.mantel[f][j]
        return test.ets_class if test else None


@dataclass(frozen=True)
class Dif:
    """DIF of an attribute, such as language: how items differ between its groups of persons.

    `irt_psychometrics.find_dif` gives the same tests as a table of items.

    Attributes
    ----------
    attribute
        Name of the attribute.
    item_ids
        J items.
    groups
        All groups: the requested reference first, if there is one, and then the largest first.
    n_unknown
        Number of persons with responses whose attribute is unknown.
    wald
        The Wald tests. None if fewer than two groups can be compared. The reference is the first of `groups` that can
        be compared.
    within_forms
        Results of the other methods. None if no person sat a form, or if fewer than two groups are large enough.
    reason
        Why `wald` is None; otherwise empty.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.dif import Dif
    >>> answers = irt.Responses.from_wide({"q1": [1, 0, 1], "q2": [0, 0, 1]})
    >>> dif = Dif.from_responses("language", answers, ["en", "fr", "fr"])
    >>> dif.reason
    '0 of 2 groups can be tested, two are needed'
    >>> dif.group("fr").reason
    '2 learners, 200 are needed'
    """

    attribute: str
    item_ids: tuple[str, ...]
    groups: tuple[Group, ...]
    n_unknown: int
    wald: Wald | None
    within_forms: WithinForms | None
    reason: str = ""

    @classmethod
    def from_responses(
        cls,
        attribute: str,
        responses: Responses,
        values: Sequence[str | None],
        *,
        forms: Sequence[str | None] | None = None,
        model: Model | Sequence[Model] = DEFAULT_MODEL,
        latent: Latent = "normal",
        threads: int | None = None,
        reference: str | None = None,
        min_sittings: int = TESTABLE,
    ) -> Self:
        """Compare the groups of an attribute.

        Parameters
        ----------
        attribute
            Name of the attribute, for the result.
        responses
            Scored responses of n_persons persons to J items, R in all.
        values
            The value of each person, n_persons of them; None if unknown.
        forms
            The form of each response, R of them; None for a response outside forms. Without `forms`, the methods that
            match on scores are not computed.
        model
            Model of all items, or of each item. If items of a block have common steps (RSM), each item has its own
            steps here (PCM).
        latent
            Shape of the groups' θ distribution. A histogram is used only if the reference group has enough persons for
            one.
        threads
            Number of threads of the fits; None: all processors. The result does not depend on it.
        reference
            The group with which the others are compared, if it can be tested. None: the largest group.
        min_sittings
            Minimum number of a group's persons, and of complete sittings with an item, for the methods that match on
            scores. With few sittings a large difference may be missed (`low_power` of a Mantel-Haenszel result), but
            the tests remain valid. The Wald test always needs 200.

        Returns
        -------
        Dif
            The tests. A group is omitted, with a reason, if it has fewer than 200 persons, if it shares too few items
            with the reference, or if the fit fails with it and succeeds without it. If the attribute cannot be tested,
            the result contains the reason.

        Raises
        ------
        PsychometricsError
            If lengths differ, if `reference` does not name a group, or if a model is neither logistic nor of partial
            credit.
        """
        of_items: Sequence[Model] = [model] * responses.n_items if isinstance(model, str) else model
        models = tuple((PCM if item_model(name) is RSM else item_model(name)).name for name in of_items)
        model_of(models).require_categories(responses.item_ids, responses.n_categories)
        for name, given, size in (("values", values, responses.n_persons), ("forms", forms, responses.n_responses)):
            if given is not None and len(given) != size:
                raise PsychometricsError(f"{name} of {attribute} must be {size} labels, got {len(given)}")
        member, names = _members(responses, values, reference)
        known = member[responses.person] >= 0
        n_unknown = np.unique(responses.person[~known]).size
        place = responses.n_items * member[responses.person[known]] + responses.item[known]
        answers = np.bincount(place, minlength=len(names) * responses.n_items).reshape(-1, responses.n_items)
        groups = [_group(name, int((member == g).sum()), answers[g]) for g, name in enumerate(names)]
        tested = [group.name for group in groups if group.tested]
        wald, left_out = None, dict[str, str]()
        reason = (
            f"{len(tested)} of {len(groups)} groups can be tested, two are needed" if groups else "no learner has it"
        )

        def compare(chosen: Sequence[str]) -> Wald | Refusal:
            numbers = [names.index(name) for name in chosen]
            turn = np.full(len(names) + 1, -1)
            turn[numbers] = np.arange(len(numbers))
            try:
                enough = answers[numbers] >= TESTABLE
                return compare_groups(
                    Groups.from_responses(
                        responses, chosen, turn[member], enough, models=models, latent=latent, threads=threads
                    )
                )
            except PsychometricsError as error:
                return Refusal(str(error))

        if len(tested) > 1:
            found, left_out = _compare_groups(compare, tested)
            wald, reason = (None, found.why) if isinstance(found, Refusal) else (found, "")
        groups = [replace(group, reason=left_out.get(group.name, group.reason)) for group in groups]
        large = [group.name for group in groups if group.n_learners >= min_sittings]
        within = None
        if forms is not None and len(large) > 1:
            reference = wald.groups[0] if wald else large[0]
            order = [reference, *(name for name in large if name != reference)]
            turn = np.array([order.index(name) if name in order else -1 for name in names] + [-1])
            anchors = wald.anchors if wald else None
            within = _within_forms(responses, forms, turn[member], tuple(order), anchors, min_sittings)
        return cls(attribute, responses.item_ids, tuple(groups), n_unknown, wald, within, reason)

    @classmethod
    def without_test(cls, attribute: str, reason: str) -> Self:
        """Make the result of an attribute whose groups could not be compared.

        Parameters
        ----------
        attribute
            Name of the attribute.
        reason
            Why the groups could not be compared.

        Returns
        -------
        Dif
            A result without groups and tests.
        """
        return cls(attribute, (), (), 0, None, None, reason)

    @property
    def reference(self) -> Group | None:
        """The group with which the others are compared. None if there is no group."""
        compared = self.wald or self.within_forms
        first = compared.groups[0] if compared else None
        return next((g for g in self.groups if first in (g.name, None)), None)

    def group(self, name: str) -> Group:
        """Return the group with this name.

        Parameters
        ----------
        name
            Name of the group.

        Returns
        -------
        Group
            The group.

        Raises
        ------
        StopIteration
            If no group has the name.
        """
        return next(group for group in self.groups if group.name == name)

    def low_power(self, j: int, focal: Group) -> bool:
        """Check whether half of the large differences of an item would be missed.

        Parameters
        ----------
        j
            Place of the item.
        focal
            The focal group.

        Returns
        -------
        bool
            Whether the reference or `focal` has too few answers to the item.
        """
        return any(group is not None and group.answers[j] < ENOUGH for group in (self.reference, focal))

    def why_not(self, j: int, focal: Group) -> str:
        """Return why the Wald test does not compare an item between the reference and a group.

        Parameters
        ----------
        j
            Place of the item.
        focal
            The group.

        Returns
        -------
        str
            The reason; empty if the item is compared.
        """
        if self.wald is None or focal.reason:
            return focal.reason or self.reason
        f, item = self.wald.groups.index(focal.name) - 1, self.item_ids[j]
        if np.isfinite(self.wald.wabc[f, j]):
            return ""
        for group in (self.reference, focal):
            if group is not None and group.answers[j] < TESTABLE:
                return f"{group.name}: {group.answers[j]} answers, {TESTABLE} are needed"
            if group is not None and item in (why := self.wald.unestimated[self.wald.groups.index(group.name)]):
                return f"{group.name}: {why[item]}"
        return "its difference has no finite error"

    @staticmethod
    def with_common_q(found: Sequence[Dif]) -> list[Dif]:
        """Replace the q of each Wald test by q over the items, or categories, of all attributes together.

        Parameters
        ----------
        found
            Results of several attributes.

        Returns
        -------
        list of Dif
            The same results with the q of all attributes together.
        """
        tested = [dif.wald for dif in found if dif.wald is not None]
        if not tested:
            return list(found)
        ends = np.cumsum([len(wald.p) for wald in tested])
        parts = iter(np.split(family_q(np.concatenate([wald.p for wald in tested])), ends[:-1]))
        of_categories = iter(with_common_q([changes for wald in tested for changes in wald.categories.values()]))

        def with_q(wald: Wald) -> Wald:
            return replace(wald, q=next(parts), categories={name: next(of_categories) for name in wald.categories})

        return [dif if dif.wald is None else replace(dif, wald=with_q(dif.wald)) for dif in found]


def _members(
    responses: Responses, values: Sequence[str | None], reference: str | None = None
) -> tuple[Ints, list[str]]:
    """Index of each person's group (−1 without a value or responses), and the groups' names: the reference, then the
    largest."""
    answered = np.bincount(responses.person, minlength=responses.n_persons) > 0
    labels = np.array(["" if value is None else str(value) for value in values], dtype=np.str_)
    known = answered & np.array([value is not None for value in values], dtype=bool)
    names, code, size = np.unique(labels[known], return_inverse=True, return_counts=True)
    order = np.argsort(-size, kind="stable")
    if reference is not None:
        if reference not in names:
            raise PsychometricsError(f"no person is in the reference group {reference!r}; groups: {', '.join(names)}")
        order = order[np.argsort(names[order] != reference, kind="stable")]
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    member = np.full(responses.n_persons, -1, dtype=np.int64)
    member[known] = rank[code]
    return member, [str(name) for name in names[order]]


def _group(name: str, n_learners: int, answers: Ints) -> Group:
    """Create a group, with the reason if it cannot be tested against any other group."""
    n_enough = int((answers >= TESTABLE).sum())
    reason = ""
    if n_learners < TESTABLE:
        reason = f"{n_learners} learners, {TESTABLE} are needed"
    elif n_enough < MIN_ITEMS:
        reason = f"{n_enough} items have {TESTABLE} answers of the group or more, {MIN_ITEMS} are needed"
    return Group(name, n_learners, answers, reason)


def _compare_groups(
    compare: Callable[[Sequence[str]], Wald | Refusal], names: Sequence[str]
) -> tuple[Wald | Refusal, dict[str, str]]:
    """Test the groups that can be compared. Returns the test, and the reasons why other groups cannot be compared.

    If the groups cannot all be compared together, each group is compared with the reference alone, and the groups for
    which this fails are omitted. If it fails for all groups, the reference is omitted. If it fails for no group, the
    last (smallest) group is omitted.
    """
    left_out = dict[str, str]()
    while isinstance(found := compare(names), Refusal) and len(names) > 2:
        alone = {name: no.why for name in names[1:] if isinstance(no := compare([names[0], name]), Refusal)}
        if len(alone) == len(names) - 1:
            alone = {names[0]: f"it cannot be compared with any other group: {found.why}"}
        left_out |= alone or {names[-1]: found.why}
        names = [name for name in names if name not in left_out]
    return found, left_out


def _within_forms(
    responses: Responses,
    forms: Sequence[str | None],
    member: Ints,
    groups: tuple[str, ...],
    anchors: Collection[str] | None,
    min_sittings: int,
) -> WithinForms | None:
    """Compare groups within forms, matched on the score on the anchors, so that items with DIF do not bias the score.

    Without anchors, the matching items are those of class A for every group when matched on all items (Holland & Thayer
    1988). Returns None if there are no complete sittings.
    """
    taken, incomplete = sittings(responses, forms, member)
    if not taken:
        return None
    everything, focal = range(responses.n_items), range(1, len(groups))

    def tables(matching: Collection[int]) -> tuple[list[Cells], Ints]:
        counts = [cells(taken, j, matching, len(groups)) for j in everything]
        return counts, np.stack([t.n.sum(axis=0) for t in counts], axis=1).astype(np.int64)

    scored = responses.n_categories > 2

    def each(
        test: Callable[[Cells, int], _Result], counts: Sequence[Cells], n: Ints, *, of_scored: bool
    ) -> tuple[tuple[_Result | None, ...], ...]:
        return tuple(
            tuple(
                test(t, f) if scored[j] == of_scored and n[[0, f], j].min() >= min_sittings else None
                for j, t in enumerate(counts)
            )
            for f in focal
        )

    if anchors is None:
        first = tables(everything)
        found = [*each(mantel_haenszel, *first, of_scored=False), *each(mantel, *first, of_scored=True)]
        of_items = zip(*found, strict=True)
        sound = [all(m is None or m.ets_class in ("A", None) for m in of_item) for of_item in of_items]
        matching = [j for j in everything if sound[j]]
    else:
        matching = [j for j in everything if responses.item_ids[j] in anchors]
    counts, n = tables(matching)
    return WithinForms(
        groups=groups,
        mantel_haenszel=each(mantel_haenszel, counts, n, of_scored=False),
        mantel=each(mantel, counts, n, of_scored=True),
        logistic=each(logistic_dif, counts, n, of_scored=False),
        sittings=n,
        n_sittings=sum(len(sat.group) for sat in taken),
        n_incomplete=incomplete,
    )

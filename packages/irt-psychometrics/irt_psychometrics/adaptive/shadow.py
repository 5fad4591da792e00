"""Shadow tests: before each item, a whole test that meets all limits is assembled, and the item is chosen from it.

The linear relaxation of the program has a whole solution nearly always, and is solved from the basis of a first test
within milliseconds. Otherwise the integer program is solved.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.adaptive.declaration import AdaptiveTest
from irt_psychometrics.adaptive.kernels import NO_ITEM, NOT_STOPPED, PENALTY, Content
from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.kernels import Run, cut
from irt_psychometrics.core.linear_programs import Program, Rule, highs

_GAP, _WHOLE = 0.01, 1e-6
"""The relative distance of a shadow test from the best one, and of a solution from whole numbers."""


def unit_counts(content: Content) -> Floats:
    """Count the items of each unit, in all and by group, shape (1 + K, U)."""
    counts = np.zeros((1 + len(content.least), len(content.kind)))
    counts[0] = np.diff(content.unit_start)
    np.add.at(counts, (1 + content.groups, content.unit_of.repeat(np.diff(content.group_start))), 1)
    return counts


class ShadowTests:
    """Chooses the next item of a plan's tests (van der Linden & Reese 1998).

    References
    ----------
    Choi, S. W. & Lim, S. (2021). Adaptive test assembly with a mix of set-based and discrete items. Behaviormetrika,
    49, 231-254.
    van der Linden, W. J. & Reese, L. M. (1998). A model for optimal constrained adaptive testing. Applied Psychological
    Measurement, 22, 259-270.
    """

    def __init__(self, test: AdaptiveTest, content: Content, information: Floats) -> None:
        """`information` (J,) makes the first test, from whose basis all others are solved."""
        self.content, self.size, self.test = content, np.diff(content.unit_start), test
        counts = unit_counts(content)
        least, most = [test.min_items, *content.least], [test.max_items, *content.most]
        all_units, first_worth = np.arange(len(self.size)), np.bincount(content.unit_of, information).astype(float)
        rules = tuple(Rule("", all_units, low, high, own) for own, low, high in zip(counts, least, most, strict=True))
        self.program = Program(rules, -first_worth, np.ones(len(self.size)), len(self.size))
        self.idle = list[tuple[Any, Any, Any]]()

    def choose(self, values: Floats, given: Ints, rng: np.random.Generator) -> int:
        """The place of the next item, the most valuable one of the shadow test that is not given yet.

        Parameters
        ----------
        values
            Value of each item; −∞ for items that must not be given, and less `PENALTY` for items that are avoided.
        given
            Places of the items that were given.
        rng
            Chooses among the `randomesque` best items.

        Returns
        -------
        int
            The place of the item; −1 if no test within the limits exists.
        """
        content, avoided = self.content, values < -PENALTY / 2
        free = np.isfinite(values)
        worth = np.where(free, values + PENALTY * avoided, 0.0)
        worth -= 2 * self.test.max_items * worth.max() * (avoided & free)
        by_unit = np.bincount(content.unit_of, worth).astype(float)
        lower = np.zeros(len(by_unit))
        lower[content.unit_of[given]] = 1.0
        upper = np.maximum(lower, np.bincount(content.unit_of, ~free) == 0)
        test = self._solve(by_unit, lower, upper)
        best = np.argsort(-by_unit / self.size, kind="stable")
        best = best[(test > 0.5)[best] & (lower == 0)[best]][: self.test.randomesque]
        best = best[: max(1, int((by_unit[best] >= 0).sum()))]
        return int(content.unit_items[content.unit_start[rng.choice(best)]]) if len(best) else -1

    def choose_next(
        self, tests: tuple[Ints, Ints, npt.NDArray[np.int8]], values: Floats, seeds: npt.NDArray[np.uint64], each: Run
    ) -> None:
        """Add the next item to each of N tests that go on, or the reason to stop.

        `tests` are their items (N, L), lengths and reasons to stop, `values` (N, J) the values of the items.
        """
        items, length, stop = tests
        waiting = np.flatnonzero(stop == NOT_STOPPED)

        def choose(first: int, last: int) -> None:
            for i in waiting[first:last]:
                n = length[i]
                if items[i, n] < 0:  # otherwise the next item of a testlet
                    items[i, n] = self.choose(values[i], items[i, :n], np.random.default_rng([seeds[i], n]))
                stop[i] = NOT_STOPPED if items[i, n] >= 0 else NO_ITEM

        if waiting.size:
            each(choose, cut(np.ones(waiting.size), 8))

    def _solve(self, worth: Floats, lower: Floats, upper: Floats) -> Floats:
        """The units of the best test, as 0 and 1; all 0 if no test meets the limits."""
        optimal, n, test = highs().HighsModelStatus.kOptimal, len(worth), np.zeros(len(worth))
        relaxed, whole, basis = solvers = self.idle.pop() if self.idle else self._make_solvers()
        for one in (relaxed, whole):
            one.changeColsCost(n, np.arange(n, dtype=np.int32), -worth)
            one.changeColsBounds(n, np.arange(n, dtype=np.int32), lower, upper)
            if one is relaxed:
                one.setBasis(basis)
            else:
                one.clearSolver()
            one.run()
            test = np.array(one.getSolution().col_value) if one.getModelStatus() == optimal else np.zeros(n)
            if np.abs(test - np.round(test)).max() < _WHOLE:
                break
        self.idle.append(solvers)
        return test

    def _make_solvers(self) -> tuple[Any, Any, Any]:
        """Solvers of the relaxed and of the whole program, and the basis of a first test."""
        relaxed, whole = replace(self.program, n_integer=0).solver(), self.program.solver(mip_rel_gap=_GAP)
        relaxed.run()
        return relaxed, whole, relaxed.getBasis()

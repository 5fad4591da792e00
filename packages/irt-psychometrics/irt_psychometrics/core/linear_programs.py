"""Mixed integer linear programs with named rules, solved by HiGHS; the smallest set of rules that conflict."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError


class InfeasibleError(PsychometricsError):
    """No form meets all rules.

    Attributes:
        rules: rules that cannot be met together, in words; without any one of them, the others can.
    """

    def __init__(self, rules: Sequence[str]) -> None:
        self.rules = tuple(rules)
        super().__init__(
            f"no form meets {'this rule' if len(self.rules) == 1 else 'these rules together'}: {'; '.join(self.rules)}."
            f" Relax {'it' if len(self.rules) == 1 else 'one of them'}, or add items to the bank"
        )


class Rule(NamedTuple):
    """A row of the program: least ≤ Σ values·x[columns] ≤ most. Rows with the same name are one rule."""

    name: str
    columns: Ints
    values: Floats
    least: float
    most: float

    @classmethod
    def on_sum(cls, name: str, columns: Iterable[int], least: float = -math.inf, most: float = math.inf) -> Rule:
        """Limit the number of chosen columns."""
        at = np.array(list(columns), dtype=int)
        return cls(name, at, np.ones(len(at)), least, most)


def highs() -> Any:
    """The module of the solver HiGHS. Raises PsychometricsError if it is not installed."""
    try:
        import highspy
    except ImportError as error:
        raise PsychometricsError(
            "assembling forms and shadow tests need the solver HiGHS: pip install irt-psychometrics[assembly]"
        ) from error
    return highspy


def solver(**options: Any) -> Any:
    """A HiGHS solver on one thread, with further options."""
    # the constructor enables callbacks, which prints a banner unless the solver is silent
    silent = type("Silent", (highs().Highs,), {"enableCallbacks": highs().Highs.silent})()
    for name, value in ({"threads": 1} | options).items():
        silent.setOptionValue(name, value)
    return silent


@dataclass(frozen=True)
class Program:
    """Minimise cost·x subject to rules; the first `n_integer` columns are whole numbers.

    Attributes:
        cost, upper: shape (C,). All x are at least 0, except in columns without an upper limit, which are free.
    """

    rules: tuple[Rule, ...]
    cost: Floats
    upper: Floats
    n_integer: int

    def load(self, into: Any) -> None:
        """Pass the program to a solver."""
        highspy, rules, columns = highs(), self.rules, len(self.cost)
        least, most = (np.array([rule[k] for rule in rules], dtype=float) for k in (3, 4))
        start = np.cumsum([0, *(len(rule.columns) for rule in rules)])
        by_row, minimise = int(highspy.MatrixFormat.kRowwise), int(highspy.ObjSense.kMinimize)
        lower = np.where(np.isfinite(self.upper), 0.0, -math.inf)
        index, value = (np.concatenate([rule[k] for rule in rules]) for k in (1, 2))
        is_whole = (np.arange(columns) < self.n_integer).astype(np.int32)
        matrix = start.astype(np.int32), index.astype(np.int32), value
        into.passModel(
            *(columns, len(rules), len(index), by_row, minimise, 0.0),
            *(self.cost, lower, self.upper, least, most, *matrix, is_whole),
        )

    def solve(
        self, *, time_limit: float = 60.0, gap: float = 1e-4, absolute_gap: float = 0.0
    ) -> tuple[Floats, float, float] | None:
        """The best x that is found within `time_limit` seconds, its cost, and a bound of the cost.

        Returns None if the rules conflict.

        Raises PsychometricsError if neither an x nor a conflict is found in this time.
        """
        own = solver(time_limit=max(time_limit, 0.01), mip_rel_gap=gap, mip_abs_gap=max(absolute_gap, 1e-6))
        self.load(own)
        own.run()
        statuses, info = highs().HighsModelStatus, own.getInfo()
        if own.getModelStatus() in (statuses.kInfeasible, statuses.kUnboundedOrInfeasible):
            return None
        if info.primal_solution_status != highs().SolutionStatus.kSolutionStatusFeasible:
            raise PsychometricsError(
                f"no solution was found in {time_limit:.0f} s, and no proof that there is none; raise the time limit"
            )
        return np.array(own.getSolution().col_value), info.objective_function_value, info.mip_dual_bound

    def conflict(self, time_limit: float = 10.0) -> tuple[str, ...]:
        """The names of rules that cannot be met together. Without any one of them, the others can.

        By QuickXplain (Junker 2004), over the rules in both orders; the smaller set is returned. Rules whose
        necessity is not decided within `time_limit` seconds are kept.

        References
        ----------
        Junker, U. (2004). QUICKXPLAIN: preferred explanations and relaxations for over-constrained problems.
        Proceedings of AAAI-04, 167-172.
        """
        nothing, end = np.zeros(len(self.cost)), time.monotonic() + time_limit

        def conflicts(names: Sequence[str]) -> bool:
            some = Program(
                tuple(rule for rule in self.rules if rule.name in names), nothing, self.upper, self.n_integer
            )
            try:
                return bool(names) and some.solve(time_limit=end - time.monotonic()) is None
            except PsychometricsError:
                return False

        def needed(given: list[str], grew: bool, names: list[str]) -> list[str]:
            if grew and conflicts(given):
                return []
            if len(names) == 1:
                return names
            first, second = names[: len(names) // 2], names[len(names) // 2 :]
            of_second = needed(given + first, True, second)
            return needed(given + of_second, bool(of_second), first) + of_second

        names = list(dict.fromkeys(rule.name for rule in self.rules))
        one, other = (needed([], False, order) for order in (names, names[::-1]))
        return tuple(one if len(one) <= len(other) else other)

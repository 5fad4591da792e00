"""Mixed integer linear programs with named rules, solved by HiGHS; the smallest set of rules that conflict."""

from __future__ import annotations

import math
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
        highspy = highs()
        lp, kinds = highspy.HighsLp(), highspy.HighsVarType
        lp.num_col_, lp.num_row_ = len(self.cost), len(self.rules)
        lp.col_cost_, lp.col_upper_ = self.cost, self.upper
        lp.col_lower_ = np.where(np.isfinite(self.upper), 0.0, -highspy.kHighsInf)
        lp.row_lower_, lp.row_upper_ = (np.array([rule[k] for rule in self.rules], dtype=float) for k in (3, 4))
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.cumsum([0, *(len(rule.columns) for rule in self.rules)])
        lp.a_matrix_.index_ = np.concatenate([rule.columns for rule in self.rules])
        lp.a_matrix_.value_ = np.concatenate([rule.values for rule in self.rules])
        lp.integrality_ = [kinds.kInteger if j < self.n_integer else kinds.kContinuous for j in range(len(self.cost))]
        into.passModel(lp)

    def solve(
        self, *, time_limit: float = 60.0, gap: float = 1e-4, absolute_gap: float = 0.0
    ) -> tuple[Floats, float, float] | None:
        """The best x that is found within `time_limit` seconds, its cost, and a bound of the cost.

        Returns None if the rules conflict.

        Raises PsychometricsError if neither an x nor a conflict is found in this time.
        """
        highspy, own = (
            highs(),
            solver(time_limit=max(time_limit, 0.01), mip_rel_gap=gap, mip_abs_gap=max(absolute_gap, 1e-6)),
        )
        self.load(own)
        own.run()
        status, info = own.getModelStatus(), own.getInfo()
        if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
            return None
        if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            raise PsychometricsError(
                f"no solution was found in {time_limit:.0f} s, and no proof that there is none; raise the time limit"
            )
        return np.array(own.getSolution().col_value), info.objective_function_value, info.mip_dual_bound

    def conflict(self, time_limit: float = 5.0) -> tuple[str, ...]:
        """The names of rules that cannot be met together. Without any one of them, the others can.

        By QuickXplain (Junker 2004), over the rules in both orders; the smaller set is returned. A rule whose
        necessity cannot be decided in `time_limit` seconds is kept.

        References
        ----------
        Junker, U. (2004). QUICKXPLAIN: preferred explanations and relaxations for over-constrained problems.
        Proceedings of AAAI-04, 167-172.
        """
        nothing = np.zeros(len(self.cost))

        def conflicts(names: Sequence[str]) -> bool:
            rules = tuple(rule for rule in self.rules if rule.name in names)
            try:
                return (
                    bool(rules)
                    and Program(rules, nothing, self.upper, self.n_integer).solve(time_limit=time_limit) is None
                )
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

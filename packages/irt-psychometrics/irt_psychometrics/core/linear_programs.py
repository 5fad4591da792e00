"""Mixed integer linear programs with named rules, solved by HiGHS; the smallest set of rules that conflict."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError

_NEAR = 300
"""A large program has its first solution from this number of columns with the smallest reduced costs."""


class InfeasibleError(PsychometricsError):
    """No form meets all rules. The message names rules that cannot be met together; without any one, the others can."""


class Rule(NamedTuple):
    """A row of the program: least ≤ Σ values·x[columns] ≤ most. Rows with the same name are one rule."""

    name: str
    columns: Ints
    least: float
    most: float
    values: Floats | float = 1.0


def highs() -> Any:
    """The module of the solver HiGHS. Raises PsychometricsError if it is not installed."""
    try:
        import highspy
    except ImportError as error:
        raise PsychometricsError(
            "assembling forms and shadow tests need the solver HiGHS: pip install irt-psychometrics[assembly]"
        ) from error
    return highspy


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

    def solver(self, **options: Any) -> Any:
        """A HiGHS solver of the program on one thread, with further options."""
        highspy, rules, columns = highs(), self.rules, len(self.cost)
        # the constructor enables callbacks, which prints a banner unless the solver is silent
        solver = type("Silent", (highspy.Highs,), {"enableCallbacks": highspy.Highs.silent})()
        for name, value in ({"threads": 1} | options).items():
            solver.setOptionValue(name, value)
        least, most = np.array([(rule.least, rule.most) for rule in rules], dtype=float).T.copy()
        sizes = [len(rule.columns) for rule in rules]
        index = np.concatenate([rule.columns for rule in rules])
        values = np.concatenate([np.full(n, rule.values) for n, rule in zip(sizes, rules, strict=True)])
        by_row, minimise = int(highspy.MatrixFormat.kRowwise), int(highspy.ObjSense.kMinimize)
        lower = np.where(np.isfinite(self.upper), 0.0, -math.inf)
        solver.passModel(
            *(columns, len(rules), len(index), by_row, minimise, 0.0),
            *(self.cost, lower, self.upper, least, most),
            *(np.cumsum([0, *sizes], dtype=np.int32), index.astype(np.int32), values),
            (np.arange(columns) < self.n_integer).astype(np.int32),
        )
        return solver

    def solve(
        self, *, time_limit: float = 60.0, gap: float = 1e-4, absolute_gap: float = 0.0
    ) -> tuple[Floats, float, float] | None:
        """Find the best x within `time_limit` seconds, its cost, and a bound of the cost.

        Returns None if the rules conflict. The search in a program with many columns begins with the best x that has
        other columns at 0, apart from the columns with the smallest reduced costs in the relaxed program.

        Raises PsychometricsError if neither an x nor a conflict is found in this time.
        """
        time_limit, begin = max(time_limit, 0.01), time.monotonic()  # an earlier search may have left no time
        gaps = {"mip_rel_gap": gap, "mip_abs_gap": max(absolute_gap, 1e-6)}
        solver = self.solver(**gaps)
        if len(self.cost) > 2 * _NEAR:  # otherwise HiGHS cuts through thousands of columns before it finds a first x
            relaxed = replace(self, n_integer=0).solver(time_limit=time_limit / 4)
            relaxed.run()
            found = relaxed.getSolution()
            near = np.isinf(self.upper) | (np.array(found.col_value) > 0)
            near[np.abs(found.col_dual).argsort()[:_NEAR]] = True
            first = replace(self, upper=np.where(near, self.upper, 0.0)).solver(time_limit=time_limit / 4, **gaps)
            first.run()
            solver.setSolution(first.getSolution())
        solver.setOptionValue("time_limit", max(time_limit - (time.monotonic() - begin), 0.01))
        solver.run()
        statuses, info = highs().HighsModelStatus, solver.getInfo()
        if solver.getModelStatus() in (statuses.kInfeasible, statuses.kUnboundedOrInfeasible):
            return None
        if info.primal_solution_status != highs().SolutionStatus.kSolutionStatusFeasible:
            raise PsychometricsError(
                f"no solution was found in {time_limit:.0f} s, and no proof that there is none; raise the time limit"
            )
        return np.array(solver.getSolution().col_value), info.objective_function_value, info.mip_dual_bound

    def conflict(self, time_limit: float = 10.0) -> InfeasibleError:
        """The error that names rules that cannot be met together. Without any one of them, the others can.

        By QuickXplain (Junker 2004), over the rules in both orders; the smaller set is named. Rules whose necessity is
        not decided within `time_limit` seconds are kept.

        References
        ----------
        Junker, U. (2004). QUICKXPLAIN: preferred explanations and relaxations for over-constrained problems.
        Proceedings of AAAI-04, 167-172.
        """
        end = time.monotonic() + time_limit

        def conflicts(names: Sequence[str]) -> bool:
            rules = tuple(rule for rule in self.rules if rule.name in names)
            try:
                return replace(self, rules=rules, cost=0 * self.cost).solve(time_limit=end - time.monotonic()) is None
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
        found = min((needed([], False, order) for order in (names, names[::-1])), key=len)
        these, relaxed = ("this rule", "it") if len(found) == 1 else ("these rules together", "one of them")
        return InfeasibleError(f"no form meets {these}: {'; '.join(found)}. Relax {relaxed}, or add items to the bank")

"""Compare two engines' linked fits of the same snapshot item by item.

Two fits of the same answers share their sampling error, so they differ by method only (a prior, a mean instead of a
mode, a bad optimiser), and the differences are small. The standard error serves as the unit of the differences, not as
their distribution. benchmarks/bench_agreement.py measures the differences between sound engines, from which the limits
of the rules come.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import psycopg

from irt_assets.common.arrays import Floats
from irt_assets.common.intervals import Z95
from irt_assets.common.partitions import Month
from irt_assets.common.wording import some_of
from irt_assets.gates.gates import item_problems
from irt_assets.ledger.fits import LinkedFit, engines_tried, latest_staged, linked_fit, model_difference
from irt_assets.ledger.fitted_items import FittedItem
from irt_assets.responses.snapshot import snapshot_for_scale
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale

_MAX_NAMED = 10


@dataclass(frozen=True)
class Estimates:
    """Two engines' estimates of one parameter of J items, on the bank's scale. Both arrays have shape (2, J)."""

    value: Floats
    se: Floats

    @property
    def difference(self) -> Floats:
        """Second estimate minus first, shape (J,)."""
        first, second = self.value
        return second - first

    @property
    def standardized(self) -> Floats:
        """|difference| divided by the root mean square of the two standard errors, shape (J,).

        It is 0 if both engines fix the parameter at the same value, as a Rasch model does with a.
        """
        se = np.sqrt(np.mean(self.se**2, axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio: Floats = np.where(self.difference == 0, 0.0, np.abs(self.difference) / se)
        return ratio

    @property
    def correlation(self) -> float:
        """Correlation of the estimates. NaN for fewer than 3 items, or if an engine gives all items the same value."""
        if self.value.shape[1] < 3 or np.any(np.ptp(self.value, axis=1) == 0):
            return float("nan")
        return float(np.asarray(np.corrcoef(self.value))[0, 1])

    @property
    def rmsd(self) -> float:
        """Root mean squared difference, in the parameter's unit; NaN without items."""
        return float(np.sqrt(np.mean(self.difference**2))) if self.value.shape[1] else float("nan")

    @property
    def rms_standardized(self) -> float:
        """Root mean square of `standardized`; NaN without items."""
        return float(np.sqrt(np.mean(self.standardized**2))) if self.value.shape[1] else float("nan")

    @property
    def overlap(self) -> float:
        """Share of items whose 95 % intervals overlap; NaN without items."""
        if not self.value.shape[1]:
            return float("nan")
        return float(np.mean(np.abs(self.difference) <= Z95 * self.se.sum(axis=0)))


@dataclass(frozen=True)
class Disagreement:
    """Both engines' estimates of an item's parameter (`a` or `b`), and their difference in standard errors."""

    item_id: str
    parameter: str
    first: float
    second: float
    apart: float


@dataclass(frozen=True)
class Agreement:
    """Comparison of two engines on the items that both estimated.

    Attributes:
        engines: names of the two; the scale's own engine is first if it is one of them.
        only_one: engine → items that only this engine could estimate; they are not compared.
    """

    engines: tuple[str, str]
    item_ids: tuple[str, ...]
    a: Estimates
    b: Estimates
    only_one: dict[str, tuple[str, ...]]

    def largest_differences(self, n: int = _MAX_NAMED) -> list[Disagreement]:
        """The n items that differ most, largest difference first, each with the parameter that differs more."""
        worse = np.maximum(self.a.standardized, self.b.standardized)
        found = []
        for j in np.argsort(-worse, kind="stable")[:n]:
            name, estimates = ("a", self.a) if self.a.standardized[j] > self.b.standardized[j] else ("b", self.b)
            first, second = estimates.value[:, j]
            found.append(
                Disagreement(self.item_ids[j], name, float(first), float(second), float(estimates.standardized[j]))
            )
        return found

    def disagreements(self, rules: Rules) -> list[Disagreement]:
        """The items that differ by more than `agreement_max_se` standard errors."""
        return [d for d in self.largest_differences(len(self.item_ids)) if d.apart > rules.warnings.agreement_max_se]

    def problems(self, rules: Rules) -> list[str]:
        """Sentences that say why the engines disagree. Returns an empty list if they agree."""
        found = []
        if not self.item_ids:
            found.append("they have no item in common")
        for name, estimates in (("a", self.a), ("b", self.b)):
            if (rms := estimates.rms_standardized) > rules.warnings.agreement_max_rms:
                found.append(
                    f"over all items they differ in {name} by {rms:.2f} standard errors (root mean square), "
                    f"at most {rules.warnings.agreement_max_rms:g} allowed"
                )
        disagreements = self.disagreements(rules)
        if disagreements:
            named = some_of([f"{d.item_id} ({d.parameter} {d.first:.2f} and {d.second:.2f})" for d in disagreements], 5)
            found.append(f"more than {rules.warnings.agreement_max_se:g} standard errors lie between them on {named}")
        return found


@dataclass(frozen=True)
class MonthAgreement:
    """Comparisons of all pairs of a scale's engines in a month. `left_out`: engine → why its fit is not compared."""

    scale: Scale
    engines: tuple[str, ...]
    pairs: tuple[Agreement, ...]
    left_out: dict[str, str]

    @property
    def sentence(self) -> str:
        omitted = "".join(f"; {engine} is left out: {why}" for engine, why in self.left_out.items())
        if not self.pairs:
            number = "no engine" if not self.engines else "one engine"
            return f"{number}, nothing to compare{omitted}"
        parts = []
        for pair in self.pairs:
            problems = pair.problems(self.scale.rules)
            verdict = f"disagree: {'; '.join(problems)}" if problems else f"agree on {len(pair.item_ids)} items"
            parts.append(f"{' and '.join(pair.engines)} {verdict}")
        return "; ".join(parts) + omitted

    @property
    def agrees(self) -> bool:
        return not any(pair.problems(self.scale.rules) for pair in self.pairs)


def compare(
    engines: tuple[str, str], first: Mapping[str, FittedItem], second: Mapping[str, FittedItem], rules: Rules
) -> Agreement:
    """Compare the items of two linked fits.

    An item is compared if both fits have values with errors and the item passes its gates in at least one fit. An item
    that passes in neither would not be published, so its values may be arbitrary.
    """
    sound = {i for fit in (first, second) for i, item in fit.items() if not item_problems(item, rules)}
    first_values, second_values = (
        {i: item.values for i, item in fit.items() if i in sound and item.values and item.values.has_errors}
        for fit in (first, second)
    )
    both = tuple(sorted(first_values.keys() & second_values.keys()))
    only = {
        name: tuple(sorted(own.keys() - others.keys()))
        for name, own, others in (
            (engines[0], first_values, second_values),
            (engines[1], second_values, first_values),
        )
    }
    values = [[(fit[i].a, fit[i].b, fit[i].a_se, fit[i].b_se) for i in both] for fit in (first_values, second_values)]
    a, b, a_se, b_se = np.moveaxis(np.array(values, dtype=float).reshape(2, -1, 4), 2, 0)
    found = {name: items for name, items in only.items() if items}
    return Agreement(engines, both, Estimates(a, a_se), Estimates(b, b_se), found)


def read_agreement(connection: psycopg.Connection, month: str, scale: Scale) -> MonthAgreement:
    """Compare all converged, linked fits of the month's current snapshot."""
    snapshot = snapshot_for_scale(connection, month, scale.scale_id)
    tried = engines_tried(connection, month, scale.scale_id)
    usable: dict[str, LinkedFit] = {}
    left_out: dict[str, str] = {}
    for engine in sorted(tried, key=lambda name: (name != scale.engine, name)):
        staged = latest_staged(connection, month, scale.scale_id, engine)
        linked = linked_fit(connection, scale.scale_id, "monthly", Month(month).start, engine)
        assert staged is not None
        if snapshot is None or staged.snapshot_hash != snapshot.snapshot_hash:
            left_out[engine] = "its fit is of an earlier snapshot of the month"
        elif other := model_difference(staged.spec, scale):
            left_out[engine] = other
        elif staged.error is not None:
            left_out[engine] = staged.error
        elif linked is None or linked.fit_id != staged.fit_id:
            left_out[engine] = "its fit is not linked yet: materialise linked_item_parameters"
        elif not linked.converged:
            left_out[engine] = "its fit did not converge"
        else:
            usable[engine] = linked
    pairs = tuple(
        compare(engines, usable[engines[0]].items, usable[engines[1]].items, scale.rules)
        for engines in combinations(usable, 2)
    )
    return MonthAgreement(scale, tuple(usable), pairs, left_out)

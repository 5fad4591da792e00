"""Compute a month's item and test information by scale, its loss since publication, and the cost of retiring items.

Drift is judged again here, by the same functions and from the same evidence as for `item_drift`, because the rows of
`item_drift` may come from an earlier fit of the month. `irt_psychometrics.information` computes the numbers, and the
assets show them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import psycopg

from irt_assets.common.arrays import Floats, finite
from irt_assets.common.partitions import Month
from irt_assets.drift.month_comparison import ComparedMonth, compare_month
from irt_assets.drift.rows import InformationRow
from irt_assets.drift.unestimated_items import UnestimatedItems, examine_unestimated_items
from irt_assets.ledger.testlets import EffectsInForce, effects_in_force
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics import BreakdownError, ItemParameters, PsychometricsError
from irt_psychometrics.information import Information, InformationLoss
from irt_psychometrics.items import Model, item_model
from resources import tables
from resources.files.object_store import ObjectStore
from resources.postgres import warehouse
from resources.postgres.database import Database

TEST_ID = ""
"""The `item_id` in the row of a scale's whole test."""
SE_LIMIT = 0.4
"""Standard error in SDs of the population at which reliability is 0.84."""
LEARNERS_OF_A_3PL = 2000
"""Smallest number of learners for a meaningful flag of a whole 3PL test: with 1000, 16 % of sound months are flagged.

docs/explanation/information.md describes the simulation."""
REACH, POINTS = 4.0, 81
"""Range of θ in the curves, in SDs of the population on both sides of its mean, and the number of points."""


@dataclass(frozen=True)
class Items:
    """J items: the items in force when the month began, then the month's new items.

    Attributes:
        published, now: published parameters, and the month's parameters on the bank's scale; NaN if the item has none.
            Every item has at least one of the two.
    """

    published: ItemParameters
    now: ItemParameters

    @classmethod
    def from_comparison(cls, compared: ComparedMonth) -> Self:
        old, now_of, window = compared.at.published, compared.drift.comparison.window, compared.window
        fitted = window.raw.rescaled(window.linking.slope, window.linking.intercept)
        known = set(old.item_ids)
        new = [item for item, has in zip(fitted.item_ids, fitted.estimated, strict=True) if has and item not in known]
        ids = (*old.item_ids, *new)
        return cls(old.among(ids), now_of.among(ids).fill_missing_from(fitted.items.select(new).among(ids)))

    @property
    def item_ids(self) -> tuple[str, ...]:
        return self.published.item_ids

    @property
    def in_force(self) -> np.ndarray:
        """Mask of the items in force when the month began, shape (J,)."""
        return np.isfinite(self.published.a)

    @property
    def estimated(self) -> np.ndarray:
        """Mask of the items that the month estimated, shape (J,)."""
        return np.isfinite(self.now.a)

    @property
    def latest(self) -> ItemParameters:
        """The month's parameters, or the published ones if the item has no estimate."""
        return self.now.fill_missing_from(self.published)


class Efficiency(NamedTuple):
    """Share of its information that the set in force keeps without the items to retire.

    Attributes:
        average: share of the average information over the population.
        least: smallest share at a θ in the middle 95 % of the population.
        theta: θ of the smallest share.
    """

    average: float
    least: float
    theta: float


@dataclass(frozen=True)
class MonthInformation:
    """Information of a scale's items and test in a month.

    Attributes:
        compared: the comparison of the month with the published values.
        unestimated: published items that the month did not estimate, with the reasons.
        items: published and new items.
        theta: shape (T,), θ values of the curves.
        loss: loss of information of the items that have published and new parameters of the same model, and of the test
            of these items, averaged over the population N(μ₀, σ₀²) like the areas of drift. Reported abilities are not
            used, because they may be computed before or after this.
        severity: severity of drift, by item.
        retiring: items that lost information or drifted with high severity, and might be retired.
        in_force, left: information of the set in force with and without `retiring`, by the latest parameters.
        testlets: testlet effects in force at the month's end, or None without any.
    """

    scale: Scale
    compared: ComparedMonth
    unestimated: UnestimatedItems
    items: Items
    theta: Floats
    loss: InformationLoss
    severity: dict[str, str]
    retiring: tuple[str, ...]
    in_force: Information
    left: Information
    testlets: EffectsInForce | None = None

    @property
    def drifted_items(self) -> list[str]:
        """Items that drifted with high severity."""
        return high_severity_items(self.severity)

    @property
    def trusted(self) -> bool:
        """Whether there are enough learners for the flag of the whole test to be meaningful."""
        raw = self.compared.window.raw
        return not raw.item_model.has_parameter("c") or raw.n_persons >= LEARNERS_OF_A_3PL

    @property
    def caution(self) -> str | None:
        if self.trusted:
            return None
        return (
            f"do not act on the flag of the whole test: under a 3PL with {self.compared.window.raw.n_persons} learners "
            f"(fewer than {LEARNERS_OF_A_3PL}) sound months have it, too; the items' flags remain valid"
        )

    @property
    def efficiency(self) -> Efficiency:
        people = self.loss.abilities
        low, high = people.middle()
        inside = (self.theta >= low) & (self.theta <= high)
        efficiency = self.left.relative_efficiency(self.in_force)
        k = int(np.nanargmin(np.where(inside, efficiency, np.nan)))
        before, after = (np.interp(people.theta, self.theta, x.test) for x in (self.in_force, self.left))
        average = float(people.weights @ after / (people.weights @ before))
        return Efficiency(average, float(efficiency[k]), float(self.theta[k]))


@dataclass(frozen=True)
class ScaleInformation:
    """The result for a scale, or the reason `why` there is none."""

    scale_id: str
    found: MonthInformation | None = None
    why: str = ""


def information_of_month(database: Database, store: ObjectStore, month: str) -> list[ScaleInformation]:
    """Judge the month on every scale and replace its stored rows, in one transaction."""
    judged = []
    with database.connect() as connection:
        for scale in read_scales(connection, Month(month).start).values():
            result = judge_information(connection, store, month, scale)
            owned = {"month": month, "scale_id": scale.scale_id}
            rows = [owned | row for row in (*item_rows(result.found), test_row(result.found))] if result.found else []
            frame = pd.DataFrame(rows, columns=None if rows else [*owned, "item_id", "curve"])
            warehouse.replace(connection, tables.test_information, owned, frame)
            judged.append(result)
    return judged


def judge_information(connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale) -> ScaleInformation:
    """Judge the month on a scale. If that is not possible, the result contains the reason."""
    try:
        with BreakdownError.explain(f"{month} could not be judged"):
            compared = compare_month(connection, scale, month)
            unestimated = examine_unestimated_items(connection, store, month, scale, compared)
            items = Items.from_comparison(compared).item_ids
            testlets = effects_in_force(connection, scale.scale_id, Month(month).end, items)
            return ScaleInformation(scale.scale_id, compute_information(scale, compared, unestimated, testlets))
    except PsychometricsError as error:
        return ScaleInformation(scale.scale_id, why=str(error))


def compute_information(
    scale: Scale, compared: ComparedMonth, unestimated: UnestimatedItems, testlets: EffectsInForce | None = None
) -> MonthInformation:
    """Compute a month's information.

    Raises PsychometricsError, which names the items, if published items have no information in the population.
    """
    drift = compared.drift
    loss = InformationLoss.from_comparison(drift.comparison, mean=scale.mu, sd=scale.sigma)
    severity: dict[str, str] = dict(zip(drift.item_ids, drift.severity, strict=True))
    tested = unestimated.drift.proportions if unestimated.drift else None
    if tested is not None:
        severity |= zip(tested.item_ids, tested.severity, strict=True)
    items = Items.from_comparison(compared)
    theta = scale.mu + scale.sigma * np.linspace(-REACH, REACH, POINTS)
    retiring = tuple(sorted({*loss.items.flagged, *high_severity_items(severity)}))
    in_force = select_information(items.latest, items.in_force, theta, testlets)
    return MonthInformation(
        scale,
        compared,
        unestimated,
        items,
        theta,
        loss,
        severity,
        retiring,
        in_force,
        in_force.without(retiring),
        testlets,
    )


def select_information(
    parameters: ItemParameters, which: np.ndarray, theta: Floats, testlets: EffectsInForce | None
) -> Information:
    """Information at `theta` of the items `which` (J,) by their `parameters`."""
    ids = [item for item, is_in in zip(parameters.item_ids, which, strict=True) if is_in]
    return Information.from_parameters(parameters.select(ids), theta, testlets.effects(ids) if testlets else None)


def high_severity_items(severity: Mapping[str, str]) -> list[str]:
    """The items of high severity."""
    return sorted(item for item, level in severity.items() if level == "high")


def item_rows(found: MonthInformation) -> Iterator[dict[str, Any]]:
    """Yield the rows of `test_information` for every published item and every new item."""
    items, people, losses = found.items, found.loss.abilities, found.loss.items
    published, now = (
        Information.from_parameters(x, found.theta).items.T for x in (items.published, items.now)
    )  # (J, T)
    by_item = {item: j for j, item in enumerate(losses.item_ids)}
    latest = Information.from_parameters(items.latest, people.theta)
    average, greatest = people.weights @ latest.items, latest.greatest
    of_published = people.weights @ Information.from_parameters(items.published, people.theta).items
    across = found.compared.drift.across_models
    for j, item in enumerate(items.item_ids):
        in_force, estimated = bool(items.in_force[j]), bool(items.estimated[j])
        both = "of another model" if item in across else "compared"
        details: dict[str, Any] = {
            "status": both if in_force and estimated else "not estimated" if in_force else "new",
            "why": different_model_reason(*across[item]) if item in across else found.unestimated.why.get(item),
            "published": round_or_none(of_published[j]) if in_force else None,
            "now": round_or_none(average[j]) if estimated else None,
            "share_of_test": round_or_none(of_published[j] / of_published.sum()) if in_force else None,
            "share_of_max": round_or_none(average[j] / greatest[j]) if greatest[j] > 0 else None,
            "severity": found.severity.get(item),
            "retire": item in found.retiring,
        }
        if item in by_item:
            k = by_item[item]
            drop = published[j] - now[j]
            at = int(drop.argmax())
            details |= {
                "now": round_or_none(losses.now[k]),
                "ratio": round_or_none(losses.ratio[k]),
                "upper": round_or_none(losses.upper[k]),
                "p": finite(losses.p[k]),
                "q": finite(losses.q[k]),
                "largest_drop": {
                    "theta": round_or_none(found.theta[at]),
                    "drop": round_or_none(drop[at]),
                    "ratio": round_or_none(now[j, at] / published[j, at]),
                },
            }
        curve = {
            "theta": as_list(found.theta),
            "published": as_list(published[j]) if in_force else None,
            "now": as_list(now[j]) if estimated else None,
        }
        yield {"item_id": item, "curve": curve, "flagged": item in losses.flagged, "details": details}


def rows_of(found: MonthInformation) -> dict[str, InformationRow]:
    """All rows by item; the row of the whole test has the key `TEST_ID`."""
    return {row["item_id"]: InformationRow(**row) for row in (*item_rows(found), test_row(found))}


def test_row(found: MonthInformation) -> dict[str, Any]:
    """The row of `test_information` for the whole test."""
    items, people, test = found.items, found.loss.abilities, found.loss.test
    across = found.compared.drift.across_models
    both = items.in_force & items.estimated & ~np.isin(items.item_ids, list(across))
    curves = {
        "published": select_information(items.published, both, found.theta, found.testlets),
        "now": select_information(items.now, both, found.theta, found.testlets),
        "in_force": found.in_force,
        "without_flagged": found.left,
    }
    losses, kept, se_limit = found.loss.items, found.efficiency, SE_LIMIT * found.scale.sigma
    published, now = float(losses.published.sum()), float(losses.now.sum())
    details = {
        "worst": {name: round_or_none(x) for name, x in test.worst._asdict().items()} if test else None,
        "certain": test.certain if test else None,
        "trusted": found.trusted,
        "caution": found.caution,
        "average": {
            "published": round_or_none(published),
            "now": round_or_none(now),
            "ratio": round_or_none(now / published),
        }
        if test
        else None,
        "retiring": {
            "items": list(found.retiring),
            "efficiency": round_or_none(kept.average),
            "lowest": round_or_none(kept.least),
            "lowest_at": round_or_none(kept.theta),
            "se_limit": round_or_none(se_limit),
            "se_above_before": _rounded_intervals(found.in_force.theta_with_se_above(se_limit)),
            "se_above_after": _rounded_intervals(found.left.theta_with_se_above(se_limit)),
        },
        "items": {
            "in_force": int(items.in_force.sum()),
            "compared": int(both.sum()),
            "of_another_model": len(across),
            "new": int((~items.in_force).sum()),
            "not_estimated": found.unestimated.why,
        },
        "flagged_items": sorted(losses.flagged),
        "drifted_items": found.drifted_items,
        "population": {"mean": found.scale.mu, "sd": found.scale.sigma},
        "middle": [round_or_none(x) for x in people.middle()],
        "learners": found.compared.window.raw.n_persons,
        "fit_id": found.compared.window.fit_id,
        "why": None if test else _missing_test_reason(across),
    }
    curve = {"theta": as_list(found.theta)} | {name: as_list(x.test) for name, x in curves.items()}
    curve |= {f"se_{name}": as_list(x.se) for name, x in curves.items()}
    return {"item_id": TEST_ID, "curve": curve, "flagged": bool(test and test.flagged), "details": details}


def different_model_reason(published: Model, fitted: Model) -> str:
    """The reason why an item is not judged if its published values are of a different model."""
    then, now = item_model(published).spoken, item_model(fitted).spoken
    return f"published as {then}, fitted as {now}: an item's information depends on the model"


def _missing_test_reason(across: Mapping[str, tuple[Model, Model]]) -> str:
    if not across:
        return "no item in force was estimated by the month"
    return f"every item that the month estimated was {different_model_reason(*next(iter(across.values())))}"


test_row.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def round_or_none(x: float) -> float | None:
    """Round to five significant digits. Returns None if `x` is not finite."""
    return finite(float(f"{x:.5g}"))


def _rounded_intervals(intervals: Sequence[tuple[float, float]]) -> list[list[float | None]]:
    return [[round_or_none(x) for x in ends] for ends in intervals]


def as_list(values: Floats) -> list[float | None]:
    return [round_or_none(x) for x in values.tolist()]
